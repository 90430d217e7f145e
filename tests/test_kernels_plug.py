"""The linear head in TRL's trainer: log-probs, entropies and gradients are TRL's own, with prompts shared or not."""

import __future__

import ast
import contextlib
import re
import typing

import peft
import pytest
import torch
import transformers
import trl

from grpo_nb.kernels import equality, plug, prefix, tree
from tests import kernel_trainers as tiny

WEIGHTS = torch.arange(1000.0).cos()


def scores(trainer, model, inputs: dict, **options):
    """(log-probs, entropies, gradients of a sum that weighs every one of them differently)."""
    logps, entropies, aux_loss = trainer._get_per_token_logps_and_entropies(
        model, *tiny.ids_of(inputs), compute_entropy=True, **options
    )
    assert aux_loss is None
    trains = (logps, entropies) if trainer._entropy_bonus_enabled else (logps,)  # TRL 1.16's entropies always could
    total = sum((x * WEIGHTS[: x.numel()].view_as(x).to(x.dtype)).sum() for x in trains)
    return logps.detach(), entropies.detach(), tiny.gradients(total, model)


def assert_equal_to_trls(trainer, *, model=None, inputs=None, within=2e-5, **options) -> None:
    """With and without shared prompts."""
    model, inputs = model or trainer.model, inputs or tiny.micro_batch()
    theirs = scores(trainer, model, inputs, **options)
    assert theirs[0].std() > 0.3, "a model that tells tokens apart"
    for shared_prefix in (False, True):
        with tiny.linear_head(trainer, shared_prefix=shared_prefix):
            ours = scores(trainer, model, inputs, **options)
        for a, b in zip(ours[:2], theirs[:2], strict=True):
            torch.testing.assert_close(a, b, rtol=within, atol=within, check_dtype=False)
        assert tiny.distance(ours[2], theirs[2]) < within


# --- golden -----------------------------------------------------------------------------------------------------------


def test_a_micro_batch_in_a_row_by_hand():
    """Prompts [5 6] and [7]; completions [1 2 3], [1 2 4], [1] of the first, [8 9] of the other.

    Rows by value, without the last tokens: · 7 8, 5 6, 5 6 1 2. What is new in each: 7 8 · 5 6 · 1 2.
    """
    ids = torch.tensor([[5, 6, 1, 2, 3], [0, 7, 8, 9, 0], [5, 6, 1, 0, 0], [5, 6, 1, 2, 4]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    row = tree.layout(ids, mask, 3)
    assert row.ids.tolist() == [7, 5, 6, 8, 1, 2], "prompts first"
    assert row.positions.tolist() == [1, 0, 1, 2, 2, 3], "as in TRL's layout: the column"
    assert row.prompts[1].tolist() == [1, 2] and row.prompts[0, 1] == 0
    assert row.group.tolist() == [0, 1, 1]
    assert row.completions[0, 0] == 3 and row.completions[2].tolist() == [4, 5]
    assert row.unpadded.tolist() == [1, 2, 3, 4, 8, 9], "of [R·P + D·T′] = 4 + 6 places"
    assert row.completion_mask[0, 0].int().tolist() == [[0, 1, 1, 0], [0, 1, 1, 1]], "7 and 8; padding sees itself"
    asked = list(zip(row.scored.tolist(), row.targets.tolist(), strict=True))
    assert asked == [(0, 8), (2, 1), (3, 9), (4, 2), (5, 3), (5, 4)], "after 7, 6, 8, 1, 2 and 2"
    assert row.answers.tolist() == [1, 3, 4, 0, 2, 1, 1, 3, 5], "1 2 3 · 8 9 · 1 · 1 2 4"


# --- laws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "mask", "why"),
    [
        ([[5, 6, 1, 2], [5, 6, 1, 2]], [[1, 1, 0, 1], [1, 1, 1, 1]], "a hole in a completion"),
        ([[5, 6, 1, 2], [5, 6, 1, 2]], [[1, 0, 1, 1], [1, 1, 1, 1]], "a hole in a prompt"),
        ([[5, 6, 1, 2], [5, 6, 1, 2]], [[0, 0, 1, 1], [1, 1, 1, 1]], "a prompt of no token"),
        ([[5, 6, 1, 2], [5, 6, 1, 2]], [[1, 1, 1, 0], [1, 1, 1, 0]], "completions of one token"),
        ([[5, 6, 1, 2], [7, 6, 1, 2]], [[1, 1, 1, 1], [1, 1, 1, 1]], "nothing is shared, nothing is padding"),
    ],
)
def test_where_nothing_is_to_be_gained_there_is_no_layout(ids, mask, why):
    shared = torch.tensor([[5, 6, 1, 2], [5, 6, 3, 4]])
    assert tree.layout(shared, torch.ones_like(shared), 2) is not None
    assert tree.layout(torch.tensor(ids), torch.tensor(mask), 2) is None, why


@pytest.mark.parametrize("seed", range(5))
def test_each_distinct_beginning_is_there_once_and_in_its_column(seed):
    ids, mask, width = tiny.ids_of(tiny.micro_batch(seed=seed))
    row, beginnings = tree.layout(ids, mask, width), set()
    for tokens, held in zip(ids.tolist(), mask.tolist(), strict=True):
        tokens = [token if keep else None for token, keep in zip(tokens, held, strict=True)]
        last = max(column for column, keep in enumerate(held) if keep)
        first_of_completion = len(tokens) - width
        beginnings |= {
            tuple(tokens[: column + 1])
            for column in range(max(last, first_of_completion))
            if tokens[column] is not None
        }
    assert sorted((begin[-1], len(begin) - 1) for begin in beginnings) == sorted(
        zip(row.ids.tolist(), row.positions.tolist(), strict=True)
    )
    assert len(beginnings) < 0.4 * ids.numel()


@pytest.mark.parametrize(("prompt", "completion"), [(20, 2), (1, 20)], ids=["of prompts", "of completions"])
def test_a_mask_that_would_be_too_large_is_not_made(prompt, completion, monkeypatch):
    """Six rows of three prompts; each of the two masks can be the one that is too large."""
    ids = torch.arange(prompt + completion).repeat(6, 1)
    ids[:, :prompt] += 100 * (torch.arange(6) % 3).unsqueeze(1)
    ids[:, prompt + 1 :] += 100 * torch.arange(6).unsqueeze(1)
    row = tree.layout(ids, torch.ones_like(ids), completion, worth=1.0)
    masks = row.prompt_mask.numel(), row.completion_mask.numel()
    assert (masks[0] > 5 * masks[1]) if prompt > completion else (masks[1] > 5 * masks[0])
    for allowed, has_layout in [(sum(masks), True), (max(masks) - 1, False)]:
        monkeypatch.setattr(tree, "LARGEST_MASK", allowed)
        assert (tree.layout(ids, torch.ones_like(ids), completion, worth=1.0) is not None) == has_layout


# --- oracle: TRL's own method -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_every_architecture_scores_as_trl_does(name, tmp_path):
    model = tiny.tiny_model(name)
    assert (prefix.why_not(model.base_model) is None) == (name not in ("Gemma2", "Mistral", "Mixtral"))
    assert_equal_to_trls(tiny.trainer_of(model, tmp_path, temperature=0.7))


def test_in_float64_the_numbers_are_equal_to_rounding(tmp_path):
    """With a head that trains and under an adapter; not Qwen3, whose RMSNorm is computed in float32 at any dtype."""
    adapted = tiny.with_lora(tiny.tiny_model("GPT2", dtype=torch.float64), fan_in_fan_out=True)
    for model in (tiny.tiny_model("Phi", dtype=torch.float64), adapted):
        assert_equal_to_trls(tiny.trainer_of(model, tmp_path), within=tiny.EXACT)


def test_a_bonus_for_entropy_trains_through_it(tmp_path):
    assert_equal_to_trls(tiny.trainer_of(tiny.with_lora(tiny.tiny_model()), tmp_path, entropy_coef=0.1))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing(use_reentrant, tmp_path):
    """A reentrant one knows .backward() alone."""
    trainer = tiny.trainer_of(tiny.with_lora(tiny.tiny_model()), tmp_path)
    trainer.model.enable_input_require_grads()
    trainer.model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    theirs = gradients_of_backward(trainer)
    with tiny.linear_head(trainer, shared_prefix=True):
        assert tiny.distance(gradients_of_backward(trainer), theirs) < 2e-5
        assert trainer.model.is_gradient_checkpointing


def gradients_of_backward(trainer) -> dict[str, torch.Tensor]:
    trainer.model.zero_grad()
    trainer._compute_loss(trainer.model, tiny.micro_batch()).backward()
    return {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


def test_a_bonus_for_entropy_needs_its_gradient(tmp_path):
    trainer = tiny.trainer_of(tiny.tiny_model(), tmp_path, entropy_coef=0.1)
    with tiny.linear_head(trainer):
        for has_bonus in (True, False):
            trainer._entropy_bonus_enabled = has_bonus
            _, entropies, _ = trainer._get_per_token_logps_and_entropies(
                trainer.model, *tiny.ids_of(tiny.micro_batch()), compute_entropy=True
            )
            assert entropies.requires_grad == has_bonus


def layer_dtypes(trainer, **switches) -> dict[str, torch.dtype]:
    """What each linear layer but the head puts out, in TRL's way or, with `switches`, in ours."""
    found, handles = {}, []
    for name, module in trainer.model.named_modules():
        if isinstance(module, torch.nn.Linear) and not name.endswith("lm_head"):
            handles.append(module.register_forward_hook(lambda m, a, out, name=name: found.update({name: out.dtype})))
    with tiny.linear_head(trainer, **switches) if switches else contextlib.nullcontext(), torch.no_grad():
        trainer._get_per_token_logps_and_entropies(trainer.model, *tiny.ids_of(tiny.micro_batch()))
    for handle in handles:
        handle.remove()
    return found


def test_bf16_autocast_scores_as_trl_does(tmp_path):
    """Each layer in TRL's precision. Under its head TRL rounds every logit to 16 bits, so numbers differ by that."""
    trainer = tiny.trainer_of(tiny.with_lora(tiny.tiny_model()), tmp_path, bf16=True)
    trainer.model = trainer.accelerator.prepare_model(trainer.model)  # as .train() does it: TRL's side is cast there
    theirs = layer_dtypes(trainer)
    assert len(theirs) > 10 and set(theirs.values()) == {torch.bfloat16}
    for shared_prefix in (False, True):
        assert layer_dtypes(trainer, shared_prefix=shared_prefix) == theirs
    assert_equal_to_trls(trainer, within=0.02)


def test_a_head_in_float32_scores_as_trl_does(tmp_path):
    """Under autocast too, where the float32 head of TRL 1.14.2 multiplies in 16 bits again: 1.16's does not."""
    trainer = tiny.trainer_of(tiny.tiny_model("Llama"), tmp_path, bf16=True, cast_lm_head_to_fp32=True)
    model = trainer.model = trainer.accelerator.prepare_model(trainer.model)
    ids, mask, width = tiny.ids_of(tiny.micro_batch())
    with torch.no_grad(), trainer.accelerator.autocast():
        hidden = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state[:, -width - 1 : -1]
    logps = (hidden.float() @ model.lm_head.weight.T).log_softmax(-1).gather(-1, ids[:, -width:, None])[..., 0]
    found = {"by hand": logps * mask[:, -width:]}
    if trl.__version__ != "1.14.2":
        found["TRL"] = scores(trainer, model, tiny.micro_batch())[0]
    for shared_prefix in (False, True):
        with tiny.linear_head(trainer, shared_prefix=shared_prefix):
            ours = scores(trainer, model, tiny.micro_batch())[0]
        for theirs in found.values():
            torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)


def test_bf16_weights(tmp_path):
    """TRL rounds every logit to 16 bits, unless the head is float32."""
    for changes, within in [({}, 0.05), ({"cast_lm_head_to_fp32": True}, 0.02)]:
        trainer = tiny.trainer_of(tiny.tiny_model(dtype=torch.bfloat16), tmp_path, **changes)
        assert_equal_to_trls(trainer, within=within)


def test_without_gradients_in_parts_for_old_and_reference(tmp_path):
    """As TRL asks for old log-probs, for those of the base under an adapter, and for those of another model."""
    trainer = tiny.trainer_of(tiny.with_lora(tiny.tiny_model()), tmp_path)
    inputs, other = tiny.ids_of(tiny.micro_batch()), tiny.reference_of(tiny.tiny_model("Llama"))
    found = []
    for context in (contextlib.nullcontext(), tiny.linear_head(trainer, shared_prefix=True)):
        with context, torch.no_grad():
            ask = trainer._get_per_token_logps_and_entropies
            found.append([ask(trainer.model, *inputs, batch_size=5)[0], ask(other, *inputs)[0]])
            with trainer.model.disable_adapter():
                found[-1].append(ask(trainer.model, *inputs)[0])
            assert ask(trainer.model, *inputs)[1] is None
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)
    assert not torch.allclose(found[0][0], found[0][2], atol=1e-2), "the adapter does something"
    rows = []
    other.base_model.register_forward_pre_hook(
        lambda m, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    with tiny.linear_head(trainer), torch.no_grad():
        trainer._get_per_token_logps_and_entropies(other, *inputs, batch_size=5)
    assert rows == [5, 5, 2], "no more rows at once than were allowed"
    assert other.config._attn_implementation == "sdpa", "given back"


def test_with_dropout_the_same_random_numbers_drop_the_same_values(tmp_path):
    """Which takes TRL's layout, so prompts are not shared."""
    trainer = tiny.trainer_of(tiny.with_lora(tiny.tiny_model(), lora_dropout=0.5), tmp_path)

    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return trainer._get_per_token_logps_and_entropies(trainer.model, *tiny.ids_of(tiny.micro_batch()))[0]

    theirs, others = drawn(5), drawn(6)
    with tiny.linear_head(trainer, shared_prefix=True):
        ours = drawn(5)
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)
    assert not torch.allclose(others, theirs, atol=0.1)


def test_images_and_the_loss_of_a_router_go_to_trls_own_method(tmp_path):
    trainer = tiny.trainer_of(tiny.tiny_model("Mixtral"), tmp_path)
    asked, own = [], trainer._get_per_token_logps_and_entropies
    trainer._get_per_token_logps_and_entropies = lambda *a, **k: asked.append(k) or own(*a, **k)
    inputs, wanted = tiny.ids_of(tiny.micro_batch()), {"batch_size": 5, "compute_entropy": True}
    with torch.no_grad(), tiny.linear_head(trainer):
        for options in ({"num_images": [1] * 12}, {"compute_aux_loss": True}):
            asked.clear()
            ours = trainer._get_per_token_logps_and_entropies(trainer.model, *inputs, **wanted, **options)
            theirs = own(trainer.model, *inputs, **wanted, **options)
            assert len(asked) == 1 and asked[0].items() >= (wanted | options).items()
            assert all(a is b is None or torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
            assert (ours[2] is not None) == ("compute_aux_loss" in options)
        asked.clear()
        trainer._get_per_token_logps_and_entropies(trainer.model, *inputs, **wanted, num_images=None)
    assert not asked, "nothing of an image: ours"


def test_nothing_to_score_is_a_zero_that_can_be_differentiated(tmp_path):
    trainer, inputs = tiny.trainer_of(tiny.tiny_model(), tmp_path), tiny.micro_batch()
    with tiny.linear_head(trainer, shared_prefix=True):
        ours = trainer._get_per_token_logps_and_entropies.__self__
        inputs["completion_mask"].zero_()
        loss = trainer._compute_loss(trainer.model, inputs)
        assert not ours.tested, "there was nothing to compare"
        trainer._compute_loss(trainer.model, tiny.micro_batch())
        assert ours.tested
    assert loss.item() == 0 and all((g == 0).all() for g in tiny.gradients(loss, trainer.model).values())


# --- the self-test ----------------------------------------------------------------------------------------------------


class Halved(transformers.Qwen3ForCausalLM):
    """A model that does something to its logits which no config tells."""

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        out.logits = out.logits / 2
        return out


@pytest.mark.skipif(trl.__version__ != "1.14.2", reason="TRL 1.16 does not ask a model for its logits either")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_is_not_understood_is_refused_before_the_first_loss(dtype, tmp_path):
    model = tiny.tiny_model(dtype=dtype)
    model.__class__ = Halved
    trainer = tiny.trainer_of(model, tmp_path)
    with tiny.linear_head(trainer), pytest.raises(ValueError, match="must give TRL's own numbers .*nats in the"):
        trainer._compute_loss(model, tiny.micro_batch())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("what", "another"),
    [
        ("gradient", lambda logps, entropies: (2 * logps - logps.detach(), entropies)),
        ("log-probs", lambda logps, entropies: (logps + 0.001, entropies)),
        ("entropies", lambda logps, entropies: (logps, entropies * 1.001)),
        ("log-probs", lambda logps, entropies: (logps * float("nan"), entropies)),
    ],
)
def test_each_part_of_the_self_test_refuses_another_number(what, another, tmp_path):
    trainer = tiny.trainer_of(tiny.tiny_model(), tmp_path)
    own = trainer._get_per_token_logps_and_entropies
    trainer._get_per_token_logps_and_entropies = lambda *a, **k: (*another(*own(*a, **k)[:2]), None)
    with tiny.linear_head(trainer), pytest.raises(ValueError, match=f"got a difference of .* {what};"):
        trainer._compute_loss(trainer.model, tiny.micro_batch())


def test_the_self_test_compares_every_trained_tensor(tmp_path):
    """TRL's numbers with another gradient of a single tensor, whichever it is."""
    trainer = tiny.trainer_of(tiny.with_lora(tiny.tiny_model("Llama"), target_modules=["q_proj"]), tmp_path)
    own = trainer._get_per_token_logps_and_entropies
    trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    assert len(trained) == 4
    for parameter in trained:

        def another(*args, parameter=parameter, **kwargs):
            logps, entropies, _ = own(*args, **kwargs)
            nothing = 10 * (parameter - parameter.detach()).sum()
            return logps + nothing * (torch.arange(logps.numel()) == 0).view_as(logps), entropies, None

        trainer._get_per_token_logps_and_entropies = another
        with tiny.linear_head(trainer), pytest.raises(ValueError, match="in a gradient"):
            trainer._compute_loss(trainer.model, tiny.micro_batch())


def test_the_self_test_compares_the_smallest_tensors_first(monkeypatch):
    """By hand: of 1, 3, 3 and 6 elements; a frozen one is not compared, and one always is."""
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 3), torch.nn.Linear(3, 1), torch.nn.Linear(1, 1).requires_grad_(False)
    )
    for largest, sizes in [(13, [1, 3, 3, 6]), (12, [1, 3, 3]), (0, [1])]:
        monkeypatch.setattr(equality, "LARGEST", largest)
        assert [p.numel() for p in equality._compared(model)] == sizes


@pytest.mark.parametrize("shared_prefix", [False, True])
def test_the_self_test_takes_no_rounding_for_a_difference(shared_prefix, tmp_path):
    """Of completions that the policy is sure of, the gradients are rounding, and ours round in another order."""
    model = tiny.tiny_model(tie_word_embeddings=False)
    model.lm_head.weight.data *= 128
    trainer = tiny.trainer_of(tiny.with_lora(model), tmp_path)
    ids, mask, width = tiny.ids_of(tiny.micro_batch(ragged=False))
    for column in range(ids.shape[1] - width, ids.shape[1]):
        with torch.no_grad():
            ids[:, column] = model(ids[:, :column], attention_mask=mask[:, :column]).logits[:, -1].argmax(-1)
    theirs, _, _ = trainer._get_per_token_logps_and_entropies(model, ids, mask, width)
    assert theirs[mask[:, -width:].bool()].exp().min() > 0.99
    with tiny.linear_head(trainer, shared_prefix=shared_prefix):
        assert equality.check(trainer._get_per_token_logps_and_entropies.__self__, model, ids, mask, width)


def test_the_self_test_sees_gradients_under_reentrant_checkpointing_too(tmp_path):
    """Which gives none to torch.autograd.grad: both would be nothing, and equal."""
    trainer = tiny.trainer_of(tiny.with_lora(tiny.tiny_model()), tmp_path)
    trainer.model.enable_input_require_grads()
    trainer.model.gradient_checkpointing_enable({"use_reentrant": True})
    own = trainer._get_per_token_logps_and_entropies

    def doubled(*args, **kwargs):
        logps, entropies, _ = own(*args, **kwargs)
        return 2 * logps - logps.detach(), entropies, None

    trainer._get_per_token_logps_and_entropies = doubled
    with tiny.linear_head(trainer), pytest.raises(ValueError, match="in a gradient"):
        trainer._compute_loss(trainer.model, tiny.micro_batch())


def test_the_self_test_leaves_no_trace(tmp_path):
    model = tiny.with_lora(tiny.tiny_model(), lora_dropout=0.3)
    trainer = tiny.trainer_of(model, tmp_path)
    model.gradient_checkpointing_enable()
    before = torch.get_rng_state()
    with tiny.linear_head(trainer) as same:
        equality.check(same._get_per_token_logps_and_entropies.__self__, model, *tiny.ids_of(tiny.micro_batch()))
    assert torch.equal(before, torch.get_rng_state())
    assert model.is_gradient_checkpointing and all(p.grad is None for p in model.parameters())


def test_the_self_test_compares_once_a_prompt_with_company(tmp_path):
    """By hand: rows 1 and 3 answer one prompt, row 1 at greatest length; row 0 another."""
    ids, mask = torch.tensor([[1, 5, 5], [2, 5, 5], [1, 5, 5], [2, 5, 5]]), torch.ones(4, 3, dtype=torch.long)
    mask[[0, 2, 3], 2] = 0
    assert equality.few_rows(ids, mask, 2) == [1, 3, 0]
    assert equality.few_rows(ids[:2], mask[:2], 2) == [1, 0]
    trainer = tiny.trainer_of(tiny.tiny_model(), tmp_path)
    asked, own = [], trainer._get_per_token_logps_and_entropies
    trainer._get_per_token_logps_and_entropies = lambda *a, **k: asked.append(len(a[1])) or own(*a, **k)
    with tiny.linear_head(trainer, shared_prefix=True):
        for _ in range(2):
            trainer._compute_loss(trainer.model, tiny.micro_batch())
    assert asked == [3], "TRL's own method, of three rows, once"


# --- what it leaves behind, what it refuses ---------------------------------------------------------------------------


def test_afterwards_everything_is_as_it_was_also_after_an_exception(tmp_path):
    trainer = tiny.trainer_of(tiny.tiny_model(), tmp_path)
    before, config = dict(trainer.__dict__), trainer.model.config
    with pytest.raises(KeyError), tiny.linear_head(trainer, shared_prefix=True, drop_dead_rows=True):
        trainer._compute_loss(trainer.model, tiny.micro_batch())
        assert config._attn_implementation == prefix.ATTENTION and set(trainer.__dict__) - set(before)
        raise KeyError
    assert trainer.__dict__.keys() == before.keys() and config._attn_implementation == "sdpa"
    trainer._compute_loss = own_loss = lambda model, inputs: torch.zeros(())
    with tiny.linear_head(trainer, drop_dead_rows=True):
        assert trainer._compute_loss is not own_loss
    assert trainer._compute_loss is own_loss, "somebody else's replacement is theirs again"


@pytest.mark.parametrize("order", ["inner first", "outer first", "sdpa in between"])
def test_two_plugs_of_one_model_do_not_disturb_each_other(order, tmp_path):
    model = tiny.tiny_model("Llama")
    one, other = (tiny.trainer_of(model, tmp_path, temperature=t) for t in (1.0, 0.7))
    theirs = {trainer: scores(trainer, model, tiny.micro_batch()) for trainer in (one, other)}

    def assert_as_before(*trainers):
        for trainer in trainers:
            ours = scores(trainer, model, tiny.micro_batch())
            torch.testing.assert_close(ours[:2], theirs[trainer][:2], rtol=2e-5, atol=2e-5)
            assert tiny.distance(ours[2], theirs[trainer][2]) < 2e-5

    outer, inner = (tiny.linear_head(trainer, shared_prefix=True) for trainer in (one, other))
    outer.__enter__()
    assert_as_before(one)
    assert model.config._attn_implementation == prefix.ATTENTION
    if order == "sdpa in between":
        model.set_attn_implementation("sdpa")
    inner.__enter__()
    assert_as_before(other, one)
    first, last = (outer, inner) if order == "outer first" else (inner, outer)
    first.__exit__(None, None, None)
    assert_as_before(one, other)
    last.__exit__(None, None, None)
    assert model.config._attn_implementation == "sdpa"
    assert_as_before(one, other)


def test_while_it_is_in_the_model_generates_and_is_saved_as_before(tmp_path):
    trainer = tiny.trainer_of(tiny.tiny_model(), tmp_path)
    prompt = {"input_ids": torch.tensor([[2, 2, 7, 9], [5, 6, 7, 8]])}
    prompt["attention_mask"] = (prompt["input_ids"] != 2).long()
    told = [trainer.model.generate(**prompt, max_new_tokens=6, do_sample=False)]
    with tiny.linear_head(trainer, shared_prefix=True):
        trainer._compute_loss(trainer.model, tiny.micro_batch())
        told.append(trainer.model.generate(**prompt, max_new_tokens=6, do_sample=False))
        trainer.model.save_pretrained(tmp_path / "saved")
    assert torch.equal(*told)
    assert prefix.ATTENTION not in (tmp_path / "saved" / "config.json").read_text(encoding="utf8")


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "lm_head"]), "a plain torch.nn.Linear"),
        (peft.LoraConfig(task_type="CAUSAL_LM", modules_to_save=["lm_head"]), "a plain torch.nn.Linear"),
        (peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2), "one that learns prompts"),
    ],
)
def test_adapters_of_the_head_and_of_prompts_are_refused(adapter, sentence, tmp_path):
    trainer = tiny.trainer_of(tiny.tiny_model("Llama"), tmp_path)
    trainer.model = peft.get_peft_model(trainer.model, adapter)
    with pytest.raises(ValueError, match=sentence), tiny.linear_head(trainer):
        raise AssertionError


def test_a_reference_with_an_adapted_head_is_refused(tmp_path):
    trainer = tiny.trainer_of(tiny.tiny_model("Llama"), tmp_path)
    trainer.ref_model = tiny.with_lora(tiny.tiny_model("Llama"), target_modules=["q_proj"])
    with tiny.linear_head(trainer):
        pass  # a reference whose layers alone are adapted
    trainer.ref_model = tiny.with_lora(tiny.tiny_model("Llama"), target_modules=["q_proj", "lm_head"])
    with pytest.raises(ValueError, match="a plain torch.nn.Linear"), tiny.linear_head(trainer):
        raise AssertionError


@pytest.mark.parametrize(
    "change",
    [
        lambda patch, trainer: patch.setattr(type(trainer.args), "world_size", 2),
        lambda patch, trainer: patch.setattr(trainer.args, "_n_gpu", 2),
        lambda patch, trainer: patch.setattr(trainer.args, "torch_compile", True),
        lambda patch, trainer: patch.setattr(trainer, "is_fsdp_enabled", True),
        lambda patch, trainer: patch.setattr(trainer, "is_deepspeed_enabled", True),
    ],
    ids=["processes", "cards", "compiled", "fsdp", "deepspeed"],
)
def test_a_model_that_is_not_whole_in_one_process_is_refused(change, tmp_path, monkeypatch):
    trainer = tiny.trainer_of(tiny.tiny_model(), tmp_path)
    with tiny.linear_head(trainer):
        change(monkeypatch, trainer)
    with pytest.raises(ValueError, match="the whole model in one process, uncompiled"), tiny.linear_head(trainer):
        raise AssertionError


def test_a_model_of_which_nothing_trains_is_refused(tmp_path):
    trainer = tiny.trainer_of(tiny.with_lora(tiny.tiny_model()), tmp_path)
    trainer.model.requires_grad_(False)
    with pytest.raises(ValueError, match="got one with every tensor frozen"), tiny.linear_head(trainer):
        raise AssertionError


def test_a_model_that_unsloth_has_patched_is_refused(unsloth, tmp_path, monkeypatch):
    """By the pinned release's own lines: its function takes the place of the class's, its class none."""
    source = unsloth["unsloth/models/qwen3.py"]
    assert "Qwen3Model.forward = LlamaModel_fast_forward" in source and "Qwen3ForCausalLM.forward = CausalLM" in source
    (function,) = (
        node
        for node in ast.parse(unsloth["unsloth/models/llama.py"]).body
        if isinstance(node, ast.FunctionDef) and node.name == "CausalLM_fast_forward"
    )
    scope = {**vars(typing), "torch": torch, "__name__": "unsloth.models.llama"}
    exec(compile(ast.Module([function], []), "llama.py", "exec", flags=__future__.annotations.compiler_flag), scope)
    trainer = tiny.trainer_of(tiny.with_lora(tiny.tiny_model()), tmp_path)
    with tiny.linear_head(trainer):
        monkeypatch.setattr(transformers.Qwen3ForCausalLM, "forward", scope["CausalLM_fast_forward"](None))
    with pytest.raises(
        ValueError, match=r"one engine .*\(got one whose passes come from \S+ and unsloth.models.llama\)"
    ):
        plug.check_trainer(trainer)


def test_unknown_versions_are_refused(tmp_path, monkeypatch):
    trainer = tiny.trainer_of(tiny.tiny_model(), tmp_path)
    monkeypatch.setattr(plug, "KNOWN_TRL", ("0.1",))
    with pytest.raises(ValueError, match=r"knows 0.1 \(got 1\..*Install one of them"), tiny.linear_head(trainer):
        raise AssertionError


SLIDING = {"layer_types": ["full_attention", "sliding_attention"], "use_sliding_window": True, "sliding_window": 4}


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("Qwen3", SLIDING, r"earlier token \(full_.*, sliding_"),
        ("Mistral", {"sliding_window": 4}, r"earlier token \(a sliding window\)"),
        ("Qwen3", {"attn_implementation": "eager"}, r"its attention must be 'sdpa' \(it is 'eager'\)"),
        ("Mixtral", {"num_local_experts": 2, "num_experts_per_tok": 1}, "choice of its experts"),
        ("Qwen3", {"rope_parameters": tiny.DYNAMIC}, r"angles of all \(rope_type dynamic\)"),
        ("Llama", {"rope_parameters": tiny.LONG}, r"angles of all \(rope_type longrope\)"),
    ],
)
def test_why_prompts_are_not_shared_and_then_they_are_not(name, changes, reason, tmp_path):
    model = tiny.tiny_model(name, **changes)
    assert re.search(reason, prefix.why_not(model.base_model))
    trainer = tiny.trainer_of(model, tmp_path)
    with tiny.linear_head(trainer, shared_prefix=True):
        loss = trainer._compute_loss(model, tiny.micro_batch())
        assert model.config._attn_implementation != prefix.ATTENTION and loss.isfinite()
