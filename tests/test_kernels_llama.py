"""The kernels on a pretrained Llama, SmolLM2-135M, and on a small relative: TRL's numbers, `generate`'s tokens."""

import pytest
import torch

from grpo_nb import models
from grpo_nb.kernels import sampler
from grpo_nb.kernels.trainer import SWITCHES, KernelGRPOTrainer
from tests import kernel_trainers as tiny

RELATIVE = {  # three query heads on each of three key heads, more layers, embedding and head one tensor
    "hidden_size": 36,
    "num_hidden_layers": 4,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
ON = {
    "all": set(SWITCHES),
    "own_loss": {"own_loss"},
    "linear_head": {"linear_head"},
    "shared_prefix": {"linear_head", "shared_prefix"},
    "drop_dead_rows": {"drop_dead_rows"},
}
NATS, SHARE = 2e-4, 2e-5  # largest difference of a log-prob or entropy; of gradients, relative to the largest
LENGTHS = pytest.mark.parametrize("ragged", [False, True], ids=["one length", "many lengths"])


@pytest.fixture(scope="module", params=["relative", "SmolLM2"])
def policy(request):
    """Under a LoRA adapter that says something; the tests leave it as it is.

    On one thread, whatever ran before: two share the few rows of these tests between them, and products of one or two
    rows the library sums in an order that rounds ten times as much (2.3e-5 in place of 2.0e-6; `heads.row_count`).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    is_real = request.param == "SmolLM2"
    own = models.own_copy(request.getfixturevalue("smol")[0]) if is_real else tiny.tiny_model("Llama", **RELATIVE)
    adapted = tiny.with_lora(own)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.mul_(0.2 if is_real else 1.0)
    yield adapted
    torch.set_num_threads(threads)


def few_rows(ragged: bool) -> dict:
    """Two prompts with two completions each, one of them dead."""
    inputs = tiny.micro_batch(groups=2, size=2, seed=1, ragged=ragged)
    inputs["advantages"][1] = 0.0
    return inputs


@LENGTHS
def test_log_probs_entropies_and_lora_gradients_are_trls(ragged, policy, tmp_path):
    """By each switch, and by all of them together."""
    inputs, folder = few_rows(ragged), tmp_path
    stock = tiny.trainer_of(policy, folder)
    stock.model.train()
    with torch.no_grad():
        theirs = stock._get_per_token_logps_and_entropies(policy, *tiny.ids_of(inputs), compute_entropy=True)[:2]
    gradients = tiny.gradients(stock._compute_loss(policy, dict(inputs)), policy)
    assert all(value.norm() > 0 for name, value in gradients.items() if "lora" in name)
    counts = inputs["completion_mask"].bool()
    real_and_quick = policy.config.vocab_size > tiny.V and not ragged
    for name, on in list(ON.items())[: 1 if real_and_quick else None]:
        switches = {switch: switch in on for switch in SWITCHES}
        ours = tiny.trainer_of(policy, folder, kind=KernelGRPOTrainer, switches=switches)
        assert not ours.left_to_trl().keys() - {"bf16_sampler"}, name
        found = tiny.gradients(ours._compute_loss(policy, dict(inputs)), policy)
        assert tiny.distance(found, gradients) < SHARE, name
        if "linear_head" in on:
            with torch.no_grad():
                mine = ours._get_per_token_logps_and_entropies(policy, *tiny.ids_of(inputs), compute_entropy=True)[:2]
            for a, b in zip(mine, theirs, strict=True):
                torch.testing.assert_close(a[counts], b[counts], rtol=0, atol=NATS)
            ours._plug.close()


@LENGTHS
def test_greedy_tokens_are_generates(ragged, policy):
    from transformers import GenerationConfig

    beginning = [41, 30, 57, 12]
    prompts = [beginning + rest for rest in ([7, 8, 9], [50, 60, 61], [5, 9, 11])]
    if ragged:
        prompts = [prompts[0], prompts[1][:-1], prompts[2] + [17, 18]]
    width, config = max(map(len, prompts)), GenerationConfig(max_new_tokens=6, pad_token_id=0, eos_token_id=[2, 4])
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    with torch.no_grad():
        rows = policy.eval().generate(
            input_ids=ids, attention_mask=(ids > 0).long(), generation_config=config, do_sample=False
        )
    theirs = [[*row, 2][: min([*row, 2].index(2), [*row, 4].index(4)) + 1] for row in rows[:, width:].tolist()]
    ours = sampler.sample(policy, prompts * 2, generation_config=config, eos_token_ids=[2, 4])
    assert ours == [row[:6] for row in theirs] * 2 and len({tuple(row) for row in ours}) > 1
