"""The cached sampler: greedy tokens are `generate`'s, draws follow the distribution, the model stays as it was."""

import contextlib

import pytest
import torch

from grpo_nb.kernels import grouped, sampler
from grpo_nb.kernels.merged import merged

V, SEED = 40, 24  # a seed of policies that end, differ and loop little
EOS = [3, 7, 11, 19]  # so many that random policies end, and at different lengths
DISTINCT = [[5, 9, 12], [8, 1, 30, 31, 2, 0], [6], [0, 5, 9, 12], [33, 34, 35, 36, 37, 38], [25, 4]]  # 0 is the pad
PROMPTS = [prompt for prompt in DISTINCT for _ in range(3)] + [DISTINCT[0]]
SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": V, "hidden_size": 32, "initializer_range": 0.3}
QWEN = {
    "intermediate_size": 48,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
KINDS = {  # what each has that the others have not
    "Qwen3": {**QWEN, "head_dim": 16},  # norms of queries and keys, two key heads for four query heads
    "Qwen2": QWEN,  # biases
    "GPTNeoX": {"intermediate_size": 48, "rotary_pct": 0.5, "bos_token_id": None, "eos_token_id": None},
    "GPT2": {"n_positions": 32, "bos_token_id": None, "eos_token_id": None},  # learned positions, fused projections
}


def policy_of(kind: str = "Qwen3", *, lora: dict | None = None, dtype=torch.float32, **changes):
    """A random policy in training mode, under an adapter that changes what it says where `lora` is given."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **KINDS[kind], **changes})
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = transformers.AutoModelForCausalLM.from_config(config).to(dtype)
        return model.train() if lora is None else with_lora(model, **lora)


def with_lora(model, **options):
    """The model under a LoRA adapter that is not zero."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(model, LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **options}))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.train()


def options(**changes):
    """TRL's generation_config, greedy unless asked."""
    from transformers import GenerationConfig

    usual = {"max_new_tokens": 9, "do_sample": False, "pad_token_id": 0, "eos_token_id": EOS, "top_k": 0}
    return GenerationConfig(**{**usual, **changes}, disable_compile=True)


def sampled(model, prompts=PROMPTS, *, seed: int = 0, dtype=None, **changes) -> list[list[int]]:
    """`sample` from a fresh random state, after `why_not` has agreed."""
    config = options(**changes)
    assert sampler.why_not(model, config, config.eos_token_id) is None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return sampler.sample(
            model, prompts, generation_config=config, eos_token_ids=config.eos_token_id, pad_token_id=0, dtype=dtype
        )


@torch.no_grad()
def generated(model, prompts=PROMPTS, **changes) -> list[list[int]]:
    """What `model.generate` says to the prompts, cut after the first eos as TRL cuts it."""
    config, width = options(**changes), max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    rows = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)[:, width:].tolist()
    ends = [next((i + 1 for i, token in enumerate(row) if token in config.eos_token_id), len(row)) for row in rows]
    return [row[:end] for row, end in zip(rows, ends, strict=True)]


@contextlib.contextmanager
def watched(model):
    """Inside, a list grows by (ids, logits) of every forward pass."""
    calls = []
    decoder = model.get_base_model() if hasattr(model, "get_base_model") else model
    hook = decoder.register_forward_hook(
        lambda module, args, inputs, output: calls.append((inputs["input_ids"], output.logits[:, -1])), with_kwargs=True
    )
    yield calls
    hook.remove()


@torch.no_grad()
def exact_logits(model, prompt: list[int], completion: list[int]) -> torch.Tensor:
    """[T, V]: of each token of the completion, by one pass without cache, batch, merging or padding."""
    model.eval()
    logits = model(input_ids=torch.tensor([prompt + completion])).logits[0]
    return logits[len(prompt) - 1 : -1]


# Golden


def test_a_draw_is_the_token_under_which_the_number_falls():
    """Probabilities 0, ¼, ¾, 0: the cumulated ones are 0, ¼, 1, 1."""
    scores = torch.tensor([0.0, 0.25, 0.75, 0.0]).log().expand(4, 4)
    uniforms = torch.tensor([0.0, 0.2499, 0.2501, 1 - 2**-53], dtype=torch.float64)
    assert sampler.drawn(scores, uniforms).tolist() == [1, 1, 2, 2], "an impossible token is drawn at neither edge"


def test_a_completion_ends_with_its_first_eos_or_at_its_limit():
    policy = policy_of()
    assert {len(row) for row in sampled(policy, eos_token_id=list(range(V)))} == {1}
    free = sampled(policy, eos_token_id=[V + 1])
    assert {len(row) for row in free} == {9}
    ended = sampled(policy)
    assert [row[: len(end)] for row, end in zip(free, ended, strict=True)] == ended
    assert all(not set(row[:-1]) & set(EOS) and (row[-1] in EOS or len(row) == 9) for row in ended)
    assert len({len(row) for row in ended}) > 2, "or this test has not seen what it is about"


# Law


@pytest.mark.parametrize("lora", [None, {}], ids=["whole", "lora"])
def test_neither_neighbours_nor_when_they_leave_change_a_completion(lora, monkeypatch):
    policy = policy_of(lora=lora)
    usual = sampled(policy, do_sample=True)
    for share in (0.0, 2.0):  # leave at once, never leave
        monkeypatch.setattr(sampler, "DROP_SHARE", share)
        assert sampled(policy, do_sample=True) == usual
    assert sampled(policy, PROMPTS[:6], do_sample=True) == usual[:6]


def test_prompts_are_read_once_and_what_has_ended_is_not_computed(monkeypatch):
    monkeypatch.setattr(sampler, "DROP_SHARE", 0.0)
    policy = policy_of()
    with watched(policy) as calls:
        completions = sampled(policy, do_sample=True)
    longest = max(map(len, completions))
    alive = [sum(len(row) > t for row in completions) for t in range(1, longest)]
    assert [list(ids.shape) for ids, _ in calls] == [[6, 6], *([n, 1] for n in alive)]
    assert len({len(PROMPTS), *alive}) > 3, "or this test has not seen what it is about"


SHARING = [[5, 9, 12, *rest] for rest in ([4, 6], [6], [8, 1, 30], [5, 9, 12, 4])]


def test_what_all_prompts_begin_with_is_read_once():
    """A prompt that is the others' beginning keeps its last token to itself."""
    policy = policy_of()
    for prompts, begin, rest in [(SHARING, 3, [4, 4]), ([[5, 9, 12], [5, 9, 12, 4]], 2, [2, 2])]:
        with watched(policy) as calls:
            ours = sampled(policy, prompts * 3)
        assert [list(ids.shape) for ids, _ in calls[:2]] == [[1, begin], rest]
        assert ours == generated(policy.eval(), prompts * 3) and len({tuple(row) for row in ours}) > 1
    free = sampled(policy, SHARING * 3, do_sample=True)
    assert sampled(policy, (SHARING * 3)[:1] + [[6]], do_sample=True)[0] == free[0], "others do not decide"


def test_the_random_state_decides_and_moves_by_the_same_numbers_whatever_is_drawn():
    policy = policy_of()
    assert sampled(policy, do_sample=True, seed=1) == sampled(policy, do_sample=True, seed=1)
    assert sampled(policy, do_sample=True, seed=1) != sampled(policy, do_sample=True, seed=2)
    after = []
    with torch.random.fork_rng():
        for config in (options(do_sample=True), options(do_sample=True, temperature=9.0)):
            torch.manual_seed(5)
            rows = sampler.sample(policy, PROMPTS, generation_config=config, eos_token_ids=EOS)
            after.append((sum(map(len, rows)), torch.get_rng_state()))
    assert after[0][0] != after[1][0] and torch.equal(after[0][1], after[1][1])


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["as they are", "rounded"])
@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
def test_weights_and_modes_are_afterwards_what_they_were(fails, dtype):
    policy = policy_of(lora={"lora_dropout": 0.1})
    attends = policy.config._attn_implementation
    policy.get_base_model().model.layers[0].mlp.eval()
    before = {
        name: (value, value.data_ptr(), value.clone()) for name, value in policy.state_dict(keep_vars=True).items()
    }
    modes = [module.training for module in policy.modules()]
    merged_in = []

    def look(module, args):
        layer = module.base_model.model.model.layers[1].self_attn.q_proj
        merged_in.append(layer.merged and layer.weight.dtype == (dtype or torch.float32))
        if fails and len(merged_in) == 3:
            raise KeyboardInterrupt

    hook = policy.get_base_model().register_forward_pre_hook(lambda module, args: look(policy, args))
    with pytest.raises(KeyboardInterrupt) if fails else contextlib.nullcontext():
        sampled(policy, dtype=dtype)
    hook.remove()
    assert policy.config._attn_implementation == attends
    assert merged_in and all(merged_in), "or there was nothing to put back"
    for name, value in policy.state_dict(keep_vars=True).items():
        same, where, bits = before[name]
        assert value is same and value.data_ptr() == where and torch.equal(value, bits), name
    assert [module.training for module in policy.modules()] == modes
    assert not any(getattr(module, "merged", False) for module in policy.modules())


def test_adapters_are_merged_only_where_nothing_is_lost():
    def merged_layers(policy):
        with merged(policy):
            return sorted(name.split(".")[-1] for name, m in policy.named_modules() if getattr(m, "merged", False))

    policy = policy_of(lora={"target_modules": ["q_proj", "lm_head"]}, num_hidden_layers=1, tie_word_embeddings=True)
    assert merged_layers(policy) == ["q_proj"], "the embedding must not follow its twin, the head"
    with torch.autocast("cpu", torch.bfloat16):
        assert merged_layers(policy) == []
    with policy.disable_adapter():
        assert merged_layers(policy) == []
    assert merged_layers(policy.to(torch.bfloat16)) == []
    assert merged_layers(policy_of(lora={"use_dora": True})) == []
    assert merged_layers(policy_of(lora={"lora_bias": True})) == []
    assert merged_layers(policy_of()) == []


# Oracle


@pytest.mark.parametrize("groups", [1, 3, 9])
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
def test_attention_of_a_new_token_is_sdpas(padded, groups):
    q, (k, v) = torch.randn(4, 9, 1, 8, dtype=torch.float64), torch.randn(2, 4, groups, 5, 8, dtype=torch.float64)
    mask = torch.arange(5) >= torch.tensor([0, 1, 3, 4]).view(4, 1, 1, 1) if padded else None
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=0.3, enable_gqa=True).transpose(1, 2)
    ours, _ = grouped.attention(None, q, k, v, mask, scaling=0.3)
    torch.testing.assert_close(ours, exact, rtol=0, atol=1e-12)
    assert not padded or not torch.allclose(ours, grouped.attention(None, q, k, v, None, scaling=0.3)[0])


@pytest.mark.parametrize("lora", [None, {"lora_dropout": 0.5}], ids=["whole", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_are_generates(kind, lora):
    policy = policy_of(kind, lora=lora)
    ours = sampled(policy)
    assert ours == generated(policy.eval())
    assert len({tuple(row) for row in ours}) > 3 and len({len(row) for row in ours}) > 2


@pytest.mark.parametrize(
    "changes",
    [
        {"repetition_penalty": 3.0},
        {"no_repeat_ngram_size": 1},
        {"min_new_tokens": 5},
        {"suppress_tokens": list(range(20, V))},
        {"bad_words_ids": [[12], [21, 22]]},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_options_do_what_they_do_in_generate(changes):
    policy = policy_of()
    ours = sampled(policy, **changes)
    assert ours == generated(policy.eval(), **changes)
    assert ours != sampled(policy), "or the option has changed nothing"


def test_greedy_tokens_follow_the_adapter_that_is_active():
    from peft import LoraConfig

    policy = policy_of(lora={})
    policy.add_adapter("other", LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False))
    first = sampled(policy)
    policy.set_adapter("other")
    other = sampled(policy)
    assert other == generated(policy.eval())
    with policy.disable_adapter():
        bare = sampled(policy)
        assert bare == generated(policy)
    assert len({str(rows) for rows in (first, other, bare)}) == 3


PRECISIONS = {
    "float32": ({}, torch.float32, 1e-5),
    "float64": ({}, torch.float64, 1e-12),
    "bfloat16": ({}, torch.bfloat16, 0.3),
    "autocast": ({}, torch.float32, 0.3),
    "rounded while sampling": ({"dtype": torch.bfloat16}, torch.float32, 0.3),
}


@pytest.mark.parametrize("lora", [None, {}], ids=["whole", "lora"])
@pytest.mark.parametrize("name", PRECISIONS)
def test_every_step_uses_the_log_probs_of_a_full_pass(name, lora, monkeypatch):
    """With rows leaving at once, step t's batch is the completions longer than t, in their order."""
    changes, dtype, tolerance = PRECISIONS[name]
    monkeypatch.setattr(sampler, "DROP_SHARE", 0.0)
    policy = policy_of(lora=lora, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=name == "autocast"), watched(policy) as calls:
        completions = sampled(policy, do_sample=True, **changes)
    steps = 0
    exact = [exact_logits(policy, p, c).float().log_softmax(-1) for p, c in zip(PROMPTS, completions, strict=True)]
    for t, (_, logits) in enumerate(calls):
        alive = [i for i, row in enumerate(completions) if len(row) > t]
        for place, i in enumerate(alive):
            ours = logits[DISTINCT.index(PROMPTS[i]) if t == 0 else place].float().log_softmax(-1)
            torch.testing.assert_close(ours, exact[i][t], rtol=0, atol=tolerance)
            steps += 1
    assert steps == sum(map(len, completions)) > 3 * len(PROMPTS)


@pytest.mark.parametrize(
    "changes", [{}, {"temperature": 0.6, "top_k": 12}, {"top_p": 0.8}], ids=["plain", "temperature-top_k", "top_p"]
)
def test_pairs_of_tokens_come_as_often_as_they_are_likely(changes):
    """Pearson's χ² over the first two tokens together, which two tokens drawn with one number would not pass."""
    policy, prompt, rows = policy_of(lora={}), [5, 9, 12], 6000
    drawn = sampled(policy, [prompt] * rows, do_sample=True, max_new_tokens=2, **changes)
    first = warped(exact_logits(policy, prompt, [0])[0], **changes)
    expected = {(a,): rows * first[a].item() for a in EOS}
    for a in set(range(V)) - set(EOS):
        second = first[a] * warped(exact_logits(policy, [*prompt, a], [0])[0], **changes)
        expected |= {(a, b): rows * second[b].item() for b in range(V)}
    assert sum(expected.values()) == pytest.approx(rows, rel=1e-5)
    seen = dict.fromkeys(expected, 0)
    for row in drawn:
        seen[tuple(row)] += 1
    assert not any(n and expected[pair] == 0 for pair, n in seen.items()), "an impossible pair was drawn"
    often = [pair for pair, n in expected.items() if n >= 5]
    cells = [(seen[pair], expected[pair]) for pair in often]
    cells.append((rows - sum(n for n, _ in cells), rows - sum(n for _, n in cells)))
    chi2, freedom = sum((n - e) ** 2 / max(e, 5) for n, e in cells), len(cells) - 1
    assert freedom > 20 and abs(chi2 - freedom) < 4 * (2 * freedom) ** 0.5  # 4 standard deviations, on either side


def warped(logits, *, temperature=1.0, top_k=V, top_p=1.0) -> torch.Tensor:
    """Probabilities after temperature, the k likeliest, and the likeliest that hold a share of `top_p`."""
    probabilities = (logits.double() / temperature).softmax(-1)
    order = probabilities.argsort(descending=True)
    before = probabilities[order].cumsum(0) - probabilities[order]
    keep = torch.zeros(V, dtype=torch.bool)
    keep[order[(torch.arange(V) < top_k) & (before < top_p)]] = True
    return (probabilities * keep) / (probabilities * keep).sum()


# Refusal


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_beams": 2}, "generation asks for num_beams = 2"),
        ({"use_cache": False}, "generation asks for use_cache = False"),
        ({"cache_implementation": "static"}, "generation asks for cache_implementation = 'static'"),
        ({"stop_strings": ["x"]}, "generation asks for stop_strings"),
        ({"max_time": 1.0}, "generation asks for max_time = 1.0"),
        ({"num_return_sequences": 2}, "generation asks for num_return_sequences = 2"),
        ({"guidance_scale": 2.0}, "generation asks for guidance_scale = 2.0"),
        ({"output_scores": True}, "generation asks for output_scores = True"),
        ({"max_new_tokens": None}, "generation has no max_new_tokens"),
        ({"eos_token_id": 3}, r"generation ends at \[3\], completions at"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_that_it_does_not_serve_go_to_generate(changes, reason):
    import re

    policy = policy_of(num_hidden_layers=1)
    assert re.match(reason, sampler.why_not(policy, options(do_sample=True, **changes), EOS))
    policy.generation_config.update(**{key: value for key, value in changes.items() if key == "num_beams"})
    assert "num_beams" not in changes or sampler.why_not(policy, options(), EOS), "the model's own default counts"


def test_models_that_it_does_not_serve_go_to_generate(monkeypatch):
    from peft import PromptTuningConfig, get_peft_model
    from transformers import BartConfig, BartForConditionalGeneration, MambaConfig, MambaForCausalLM

    small = {"num_hidden_layers": 1, "hidden_size": 16, "vocab_size": V}
    bart = BartConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, vocab_size=V, encoder_ffn_dim=16, decoder_ffn_dim=16
    )
    windows = policy_of(use_sliding_window=True, sliding_window=4, max_window_layers=0)
    assert "encoder" in sampler.why_not(BartForConditionalGeneration(bart), options(), EOS)
    assert "Mamba" in sampler.why_not(MambaForCausalLM(MambaConfig(**small)), options(), EOS)
    assert "caches more than keys and values" in sampler.why_not(windows, options(), EOS)
    assert "on meta" in sampler.why_not(policy_of().to("meta"), options(), EOS)
    policy = policy_of()
    tuned = get_peft_model(policy_of(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    assert "PROMPT_TUNING adapter changes the input" in sampler.why_not(tuned, options(), EOS)
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    assert "rope_type dynamic" in sampler.why_not(policy_of(rope_parameters=rope), options(), EOS)
    monkeypatch.setattr(policy, "generate", lambda **inputs: None, raising=False)
    assert "generate of its own" in sampler.why_not(policy, options(), EOS)


@pytest.mark.parametrize("prompts", [[], [[1], []]])
def test_an_empty_prompt_is_refused(prompts):
    with pytest.raises(ValueError, match=r"every prompt must have a token \(got "):
        sampled(policy_of(num_hidden_layers=1), prompts)


@pytest.mark.parametrize("greedy", [True, False], ids=["greedy", "drawn"])
def test_a_broken_adapter_is_refused(greedy):
    policy = policy_of(lora={})
    policy.get_base_model().model.layers[1].mlp.up_proj.lora_B["default"].weight.data[3, 1] = torch.inf
    with pytest.raises(ValueError, match=r"W \+ sBA must be finite \(got NaN or ∞ in "):
        sampled(policy, do_sample=not greedy)
    assert not any(getattr(module, "merged", False) for module in policy.modules())


def test_broken_weights_are_refused_and_put_back():
    policy = policy_of(num_hidden_layers=1)
    policy.lm_head.weight.data[4, 4] = torch.nan
    with pytest.raises(ValueError, match="the scores must be finite or −inf"):
        sampled(policy, do_sample=True)
    assert policy.training
