"""Bytes and operations by hand, laws, then torch, transformers, PEFT and TRL themselves, then refusals."""

import dataclasses
import inspect
import json
from collections import Counter

import pytest
import torch

from grpo_nb import memory, profiles
from grpo_nb.memory import MODELS, budgets, decoders, published

LLAMA, SMALL_QWEN = MODELS["Llama-3.1-8B"], MODELS["Qwen3-0.6B"]
SIZES = {
    **{"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 128},
    **{"num_attention_heads": 4, "num_key_value_heads": 2},
}
ALL = {"r": 8, "target_modules": "all-linear"}


def config_of(family: str, **changes):
    """A transformers config object of a family, small."""
    from transformers import AutoConfig

    return AutoConfig.for_model(family, **{**SIZES, "pad_token_id": 0, **changes})


def model_of(config, **how):
    """A model of random weights."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(config, **how)


# Golden: worked by hand.
@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("Qwen3-0.6B", 596_049_920),
        ("Qwen3-1.7B", 1_720_574_976),
        ("Qwen3-4B", 4_022_468_096),
        ("Qwen3-8B", 8_190_735_360),
        ("Qwen3-14B", 14_768_307_200),
        ("Llama-3.2-1B", 1_235_814_400),
        ("Llama-3.2-3B", 3_212_749_824),
        ("Llama-3.1-8B", 8_030_261_248),
    ],
)
def test_published_models_have_their_published_sizes(name, total):
    assert memory.parameters(MODELS[name])["total"] == total


def test_a_model_small_enough_to_count():
    """H = 2, I = 3, V = 5, one head of 2: 4 matrices of 4, 3 of 6, two norms of 2 and the last one."""
    config = {"model_type": "llama", **dict.fromkeys(decoders.NEEDED, 1)}
    config |= {"hidden_size": 2, "intermediate_size": 3, "vocab_size": 5}
    assert memory.parameters(config) == {
        **{"embedding": 10, "matrices": 4 * 4 + 3 * 6, "biases": 0, "norms": 2 * 2 + 2, "head": 10, "total": 60},
    }


def test_weights_of_llama_in_four_bits():
    """6 979 321 856 in the matrices: half a byte each, a byte of scale per 64, four per 64 · 256; the rest 16 bits."""
    found = memory.weight_bytes(LLAMA, bits=4)
    assert found["matrices"] == 6_979_321_856 // 2
    assert found["scales"] == 109_051_904 + 4 * 425_984
    assert found["rest"] == 2 * (2 * 128256 * 4096 + 65 * 4096)


def test_an_adapter_of_llama():
    """Per layer r · (q 8192 + k 5120 + v 5120 + o 8192 + 3 · 18432); published for r = 16: 41 943 040."""
    assert 8192 + 5120 + 5120 + 8192 + 3 * 18432 == 81920
    assert memory.adapter_parameters(LLAMA, {**ALL, "r": 16}) == 32 * 16 * 81920 == 41_943_040
    assert memory.adapter_parameters(LLAMA, {"r": 1, "target_modules": ["q_proj", "v_proj"]}) == 32 * (8192 + 5120)


def test_adam_keeps_two_numbers_and_8_bit_adam_two_bytes():
    full = memory.trained_bytes(SMALL_QWEN, bits=32)
    assert (full["gradients"], full["optimizer"]) == (4 * 596_049_920, 8 * 596_049_920)
    adapter = memory.trained_bytes(LLAMA, lora={**ALL, "r": 16}, bits=16, optim="adamw_8bit")
    assert adapter["adapter"] == adapter["gradients"] == 4 * 41_943_040
    assert adapter["optimizer"] == 2 * 41_943_040 + 2 * 4 * 41_943_040 // 256
    assert memory.trained_bytes(LLAMA, lora=ALL, bits=4)["adapter"] == 2 * 20_971_520, "TRL makes it bfloat16"


def test_logits_and_loss_by_hand():
    sizes = {"rows": 2, "completion_tokens": 9}
    assert memory.logits_bytes(LLAMA, **sizes) == 2 * 10 * 128256 * 4
    assert memory.loss_bytes(LLAMA, **sizes) == 2 * memory.logits_bytes(LLAMA, **sizes)


def test_kv_cache_of_llama():
    assert memory.kv_bytes_per_token(LLAMA) == 2 * 32 * 8 * 128 * 2 == 128 * 2**10


def test_checkpoints_are_the_inputs_of_the_layers():
    sizes = {"rows": 8, "tokens": 20480, "lora": ALL, "attention": "flash_attention_2"}
    inputs = 32 * 8 * 20480 * 4096 * 2
    on_device, offloaded = (memory.activation_bytes(LLAMA, checkpointing=how, **sizes) for how in (True, "unsloth"))
    assert on_device["kept"] == inputs == 40 * 2**30 and on_device["system"] == 0
    assert offloaded == {"kept": inputs // 16, "backward": on_device["backward"], "system": inputs}


# The published table.
def test_the_table_is_made_again_within_its_own_digits():
    found = memory.reproduced()
    for column in (published.STANDARD, published.UNSLOTH):
        for row, digits in {"loss": 1, "KV cache": 1, "inference weights": 0}.items():
            assert round(found[row][column], digits) == published.TABLE[row][column], (row, column)
        assert int(found["training"][column]) == published.TABLE["training"][column], "cut off, 414.5 is not rounded"
        assert round(found["total"][column], 1) == pytest.approx(published.TABLE["total"][column], abs=0.05)


def test_the_longest_contexts_lie_on_a_line():
    for points in published.LONGEST.values():
        start, slope = published.line(points)
        assert all(abs((card - start) / slope - tokens) < 1 for card, tokens in points)


def test_other_readings_of_the_table_fail():
    """20K as 20000, GB for the logits, GiB for the weights, or a KV cache of all eight: none gives what is printed."""
    start, slope = published.line(published.LONGEST["standard"])
    assert int(start + slope * 8 * 20000) == 405
    assert [round(2 * 2 * 8 * length * 128256 / unit, 1) for length, unit in [(20480, 1e9), (20000, 2**30)]] == [
        84.1,
        76.4,
    ]
    assert round(memory.gib(memory.weight_bytes(LLAMA)["total"])) == 15
    assert memory.gib(memory.kv_bytes(LLAMA, tokens=20480, sequences=8)) == 20


def test_remarks_say_where_the_table_is_off():
    said = memory.remarks()
    assert set(said) == {"GiB and GB", "20K", "KV cache", "total", "saving", "checkpoints", "training", "today"}
    for key, number in {"GiB and GB": "84.05 GB", "20K": "76.45", "KV cache": "20 GiB", "total": "54.3,"}.items():
        assert number in said[key]
    for key, number in {"saving": "89.4%", "checkpoints": "372", "training": "17 bytes", "today": "29.4 GiB"}.items():
        assert number in said[key]


# Laws.
@pytest.mark.parametrize("name", MODELS)
def test_twice_the_rows_twice_the_bytes(name):
    config = MODELS[name]
    for make in (
        lambda rows: memory.logits_bytes(config, rows=rows, completion_tokens=100),
        lambda rows: memory.loss_bytes(config, rows=rows, completion_tokens=100),
        lambda rows: memory.activation_bytes(config, rows=rows, tokens=100, checkpointing=False)["kept"],
        lambda rows: memory.kv_bytes(config, tokens=100, sequences=rows),
    ):
        assert make(6) == 2 * make(3)


def test_tying_removes_one_embedding():
    tied, untied = ({**LLAMA, "tie_word_embeddings": flag} for flag in (True, False))
    difference = memory.parameters(untied)["total"] - memory.parameters(tied)["total"]
    assert difference == memory.parameters(LLAMA)["embedding"] == 128256 * 4096
    assert memory.matmul_parameters(tied) == memory.matmul_parameters(untied), "a tied head multiplies all the same"


def test_four_bits_are_a_quarter_of_sixteen():
    sizes = [memory.weight_bytes(LLAMA, bits=bits)["matrices"] for bits in (4, 8, 16, 32)]
    assert [size / sizes[0] for size in sizes] == [1, 2, 4, 8]
    rests = [memory.weight_bytes(LLAMA, bits=bits)["rest"] for bits in (4, 8, 16, 32)]
    assert rests[0] == rests[1] == rests[2] == rests[3] / 2, "an embedding is not quantised"


def test_a_larger_step_never_takes_less():
    def peak(**changes) -> int:
        return memory.budget(LLAMA, {"beta": 0.0, **changes}, prompt_tokens=256, lora=ALL).peak

    for key in ("per_device_train_batch_size", "max_completion_length", "gradient_accumulation_steps"):
        peaks = [peak(**{key: value}) for value in (8, 64, 512)]
        assert peaks == sorted(peaks), key


def test_each_saving_saves():
    def made(how: dict | None = None, **changes) -> memory.Budget:
        settings = {"per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": 2048, **changes}
        return memory.budget(LLAMA, settings, prompt_tokens=512, **{"lora": ALL, **(how or {})})

    plain = made()
    assert made(gradient_checkpointing=False).peak > plain.peak
    assert made({"backend": "unsloth"}).peak < plain.peak and made({"backend": "unsloth"}).system > 0
    assert made(use_liger_kernel=True).terms["loss"] < plain.terms["loss"]
    assert made({"bits": 4}).peak < made({"bits": 8}).peak < plain.peak < made({"bits": 32}).peak
    assert made({"lora": None}).terms["optimizer"] > 90 * plain.terms["optimizer"] / 2
    assert made(optim="adamw_8bit").terms["optimizer"] < plain.terms["optimizer"] / 3.9


def test_a_reference_model_only_for_kl_without_an_adapter():
    def reference(beta: float, lora: dict | None) -> int:
        return memory.budget(SMALL_QWEN, {"beta": beta}, prompt_tokens=1, lora=lora).terms["reference"]

    weights = memory.weight_bytes(SMALL_QWEN)["total"]
    assert [reference(beta, lora) for beta in (0.0, 0.04) for lora in (None, ALL)] == [0, 0, weights, 0]


def test_the_cache_is_that_of_a_round_or_of_an_evaluation_whichever_is_larger():
    def cache(evaluated: int, **changes) -> int:
        settings = {"generation_batch_size": 16, "max_completion_length": 64, **changes}
        made = memory.budget(SMALL_QWEN, settings, prompt_tokens=8, card=memory.CARDS["T4"], evaluated=evaluated)
        return made.terms["kv_cache"] // memory.kv_bytes(SMALL_QWEN, tokens=72)

    assert [cache(evaluated) for evaluated in (0, 4, 16, 40)] == [16, 16, 16, 40]
    assert cache(40, use_vllm=True) == 0, "its evaluation is in the pool"


def test_a_pool_is_shared_or_not_kept_or_asleep():
    card = memory.CARDS["A100-80"]
    settings = {"use_vllm": True, "vllm_gpu_memory_utilization": 0.5}
    trl, sleeping, unsloth = (
        memory.budget(LLAMA, {**settings, **more}, prompt_tokens=256, lora=ALL, card=card, backend=backend)
        for more, backend in [({}, "trl"), ({"vllm_enable_sleep_mode": True}, "trl"), ({}, "unsloth")]
    )
    assert trl.terms["vllm_pool"] == round(card / 2) and trl.terms["kv_cache"] == 0
    assert unsloth.terms["vllm_pool"] + unsloth.terms["weights"] == round(card / 2), "the weights lie in the pool"
    assert "vllm_pool" in trl.training and "vllm_pool" not in sleeping.training
    assert trl.peak > unsloth.peak and trl.peak > sleeping.peak


def test_unsloth_keeps_an_adapter_in_float32_on_any_base():
    """So says unsloth_zoo's source (tests/test_gpu_profiles.py); TRL makes it bfloat16 on a base of 4 or 8 bits."""
    for bits, width in [(4, 2), (8, 2), (16, 4)]:
        trl, unsloth = (
            memory.budget(LLAMA, {}, prompt_tokens=256, lora=ALL, bits=bits, backend=backend).terms
            for backend in ("trl", "unsloth")
        )
        count = memory.adapter_parameters(LLAMA, ALL)
        assert (trl["adapter"], unsloth["adapter"]) == (width * count, 4 * count)
        assert trl["weights"] == unsloth["weights"] and unsloth["gradients"] == 4 * count


def test_a_vllm_server_books_no_pool_here():
    settings = {"use_vllm": True, "vllm_mode": "server"}
    found = memory.budget(LLAMA, settings, prompt_tokens=256, lora=ALL)
    assert found.terms["vllm_pool"] == found.terms["kv_cache"] == 0, "and no card need be named"


def test_a_generation_batch_is_shared_by_the_processes():
    def cache(**how) -> int:
        return memory.budget(SMALL_QWEN, {"generation_batch_size": 64}, prompt_tokens=1, **how).terms["kv_cache"]

    assert cache() == memory.kv_bytes(SMALL_QWEN, tokens=513, sequences=64) == 4 * cache(num_processes=4)
    sizes = {"prompt_tokens": 8, "completion_tokens": 8}
    settings = {"gradient_accumulation_steps": 4, "generation_batch_size": 64}  # 8 micro-steps in one process, 4 in two
    one, two = (memory.step_work(SMALL_QWEN, settings, num_processes=n, **sizes)["scoring"] for n in (1, 2))
    assert one > 0 == two
    speed, how = memory.Speed(0.0, 1e12), {"prompt_tokens": 8, "lora": ALL}
    alone, shared = (memory.what_fits(9, speed, SMALL_QWEN, [settings], num_processes=n, **how) for n in (1, 2))
    assert alone[0]["seconds_per_step"] > shared[0]["seconds_per_step"]


@pytest.mark.parametrize(
    ("accumulation", "steps", "iterations", "is_kept"),
    [(4, 4, 1, False), (4, 8, 1, False), (4, 2, 2, False), (4, 2, 1, True), (4, 6, 1, True), (1, 3, 1, False)],
)
def test_a_round_in_the_middle_of_an_update_finds_gradients(accumulation, steps, iterations, is_kept):
    settings = {"gradient_accumulation_steps": accumulation, "steps_per_generation": steps}
    found = memory.budget(SMALL_QWEN, {**settings, "num_iterations": iterations}, prompt_tokens=1)
    assert found.sampling.get("gradients", 0) == found.terms["gradients"] * is_kept


def test_terms_at_the_peak_add_up_and_a_card_has_a_limit():
    found = memory.budget(LLAMA, {"per_device_train_batch_size": 8}, prompt_tokens=512, lora=ALL)
    assert sum(found.at_peak.values()) == found.peak == max(sum(found.training.values()), sum(found.sampling.values()))
    assert [name for name, card in memory.CARDS.items() if found.fits(card)] == ["A100-40", "A100-80", "H200"]
    assert list(memory.CARDS.values()) == sorted(memory.CARDS.values())


# Oracles: what is counted here against what the libraries make.
CHANGES = [
    ("gemma", {}),
    ("gemma2", {"attention_bias": True}),
    ("gemma3_text", {}),
    ("granite", {"attention_bias": True, "mlp_bias": True}),
    ("llama", {}),
    ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ("mistral", {"head_dim": 24}),
    ("olmo2", {"attention_bias": True}),
    ("phi3", {}),
    ("qwen2", {"tie_word_embeddings": True}),
    ("qwen3", {}),
    ("qwen3", {"attention_bias": True, "tie_word_embeddings": True, "head_dim": 40, "num_key_value_heads": 4}),
    ("smollm3", {}),
]


@pytest.mark.parametrize(("family", "changes"), CHANGES)
def test_parameters_are_those_of_transformers(family, changes):
    config = config_of(family, **changes)
    with torch.device("meta"):
        model = model_of(config)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert memory.parameters(config)["total"] == memory.parameters(config.to_dict())["total"] == total
    bare = {"model_type": family, **SIZES, **changes}
    assert memory.parameters(bare)["total"] == total, "a config.json that leaves out defaults"


def test_every_family_is_compared():
    assert {family for family, _ in CHANGES} == set(decoders.FAMILIES)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], ["o_proj", "down_proj"]])
def test_an_adapter_is_pefts(targets):
    import peft

    config, lora = config_of("qwen3"), {"r": 4, "target_modules": targets}
    model = peft.get_peft_model(model_of(config), peft.LoraConfig(**lora))
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sum(p.numel() for p in trainable) == memory.adapter_parameters(config, lora)
    half = peft.get_peft_model(model_of(config, dtype=torch.bfloat16), peft.LoraConfig(**lora))
    assert {p.dtype for p in half.parameters() if p.requires_grad} == {torch.float32}, "4 bytes on 16-bit weights"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_are_torchs(dtype):
    model = model_of(config_of("llama"), dtype=dtype)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2, dtype=torch.long)).logits.sum().backward()
    optimizer.step()
    states = [t for state in optimizer.state.values() for name, t in state.items() if name != "step"]
    found = memory.trained_bytes(config_of("llama"), bits=8 * dtype.itemsize, optim="adamw_torch")
    assert sum(t.nbytes for t in states) == found["optimizer"]
    assert sum(p.grad.nbytes for p in model.parameters()) == found["gradients"]


def saved_bytes(model, rows: int, tokens: int, *, is_padded: bool) -> int:
    """Bytes of all storages that autograd keeps for the backward pass, the model's own left out."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept, mask = {}, torch.ones(rows, tokens, dtype=torch.long)
    if is_padded:
        mask[0, : tokens // 4] = 0

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that its address stays its own
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(mask, attention_mask=mask, use_cache=False, logits_to_keep=2)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize("lora", [None, ALL, {"r": 4, "target_modules": ["q_proj", "down_proj"]}])
@pytest.mark.parametrize("family", ["llama", "qwen3", "qwen2"])
def test_activations_of_a_layer_are_autograds_to_the_byte(family, lora, is_padded):
    import peft

    found = []
    for layers in (2, 3):
        model = model_of(config_of(family, num_hidden_layers=layers, attn_implementation="sdpa")).train()
        if lora:
            model = peft.get_peft_model(model, peft.LoraConfig(**lora))
        found.append(saved_bytes(model, 4, 48, is_padded=is_padded))
    config = {**SIZES, "model_type": family, "num_hidden_layers": 1, "head_dim": model.config.to_dict().get("head_dim")}
    sizes = {"rows": 4, "tokens": 48, "bits": 32, "checkpointing": False}
    assert memory.activation_bytes(config, lora=lora, is_padded=is_padded, **sizes)["kept"] == found[1] - found[0]


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_activations_in_16_bits_are_near(family):
    config = config_of(family, num_hidden_layers=4)
    model = model_of(config, dtype=torch.bfloat16).train()
    ours = memory.activation_bytes(config, rows=4, tokens=48, bits=16, checkpointing=False, is_padded=False)["kept"]
    assert ours == pytest.approx(saved_bytes(model, 4, 48, is_padded=False), rel=0.15)


def test_the_cache_is_transformers():
    config = config_of("qwen3", num_key_value_heads=2)
    cache = model_of(config)(torch.ones(3, 7, dtype=torch.long), use_cache=True).past_key_values
    size = sum(t.nbytes for layer in cache.layers for t in (layer.keys, layer.values))
    assert size == memory.kv_bytes(config, tokens=7, sequences=3, bits=32)


def test_mixed_precision_makes_logits_of_32_bits():
    from accelerate import Accelerator
    from accelerate.utils import convert_outputs_to_fp32

    assert "convert_outputs_to_fp32(autocast_context(" in inspect.getsource(Accelerator.prepare_model)
    model, ids = model_of(config_of("llama")), torch.ones(1, 3, dtype=torch.long)
    autocast = torch.autocast("cpu", torch.bfloat16)(model.forward)
    assert autocast(ids).logits.dtype == torch.bfloat16
    assert convert_outputs_to_fp32(autocast)(ids).logits.dtype == torch.float32


def test_defaults_and_tiles_are_trls():
    from trl import GRPOConfig
    from trl.trainer import grpo_trainer, utils

    from grpo_nb.memory import steps

    fields = {field.name: field.default for field in dataclasses.fields(GRPOConfig)}
    assert {name: fields[name] for name in budgets.DEFAULTS} == budgets.DEFAULTS and fields.keys() >= set(budgets.READ)
    for name in fields:
        budgets.check_spelling({name: None})  # none of TRL's own keys is taken for a misspelt one
    assert utils._CHUNKED_LOGPROB_TOKEN_CHUNK_SIZE == steps.TILE_TOKENS
    assert grpo_trainer._CHUNKED_LOGPROB_CHUNK_SIZE == steps.TILE_VOCABULARY


# Operations and minutes.
def counted(model, ids, *, backward: bool) -> int:
    """Floating-point operations by torch's own counter."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        loss = model(ids, use_cache=False).logits.sum()
        if backward:
            loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("lora", [None, ALL])
def test_operations_are_torchs(lora):
    """Eager attention also multiplies what the causal mask throws away: half of it is added to ours."""
    import peft

    from grpo_nb.memory import planner

    config, rows, tokens = config_of("qwen3", num_hidden_layers=6, attn_implementation="eager"), 2, 32
    model = model_of(config, attn_implementation="eager").train()
    adapter = memory.adapter_parameters(config, lora) if lora else 0
    if lora:
        model = peft.get_peft_model(model, peft.LoraConfig(**lora))
    masked = 4 * 6 * memory.decoder(config).q_width * tokens * (tokens - 1) // 2
    sizes = {"tokens": tokens, "head_tokens": tokens, "adapter": adapter}
    forward, back = planner.forward_work(config, **sizes) + masked, planner.backward_work(config, **sizes) + 2 * masked
    ids = torch.ones(rows, tokens, dtype=torch.long)
    angles = memory.decoder(config).head_dim * tokens  # of the rotary embedding: one product for all rows
    assert counted(model, ids, backward=False) - angles == rows * forward
    whole = counted(model, ids, backward=True) - angles
    if lora is None:
        assert whole == rows * (forward + back)
    else:  # a frozen embedding asks nothing of the lowest layer: a little less
        assert rows * (forward + back) * 0.95 < whole < rows * (forward + back)


def test_six_per_parameter_four_with_an_adapter():
    """Long after attention and the prompt have become small: 6 and 4, and 2 more where layers run again."""

    def per_parameter(lora, **settings) -> float:
        settings = {"per_device_train_batch_size": 2, "num_generations": 2, "gradient_checkpointing": False, **settings}
        work = memory.step_work(LLAMA, settings, prompt_tokens=1, completion_tokens=64, lora=lora)
        return work["training"] / 2 / 64 / sum(memory.matmul_parameters(LLAMA).values())

    one = {"r": 1, "target_modules": ["q_proj"]}
    assert per_parameter(None) == pytest.approx(6, rel=0.02) and per_parameter(one) == pytest.approx(4, rel=0.02)
    assert per_parameter(None, gradient_checkpointing=True) == pytest.approx(8, rel=0.03)


def test_a_step_by_hand():
    """Two completions of 3 tokens after 1: body 34, head 10, one layer of q_width 2, positions 1 + 2 + 3 + 4 = 10."""
    config = {"model_type": "llama", **dict.fromkeys(decoders.NEEDED, 1)}
    config |= {"hidden_size": 2, "intermediate_size": 3, "vocab_size": 5}
    settings = {"per_device_train_batch_size": 2, "num_generations": 2, "gradient_checkpointing": False, "beta": 0.1}
    attention, once = 4 * 2 * 10, 2 * (34 * 4 + 10 * 4) + 4 * 2 * 10
    work = memory.step_work(config, settings, prompt_tokens=1, completion_tokens=3)
    assert work["sampling"] == 2 * (2 * (34 * 4 + 10 * 3) + attention)
    assert (work["scoring"], work["training"]) == (2 * once, 3 * 2 * once)
    assert work["sampled_tokens"] == work["trained_tokens"] == 6
    assert work["operations"] == work["sampling"] + work["scoring"] + work["training"]


def test_completions_trained_on_twice_are_sampled_once():
    once, twice = (
        memory.step_work(SMALL_QWEN, {"num_iterations": times}, prompt_tokens=8, completion_tokens=8)
        for times in (1, 2)
    )
    assert twice["sampling"] * 2 == once["sampling"] and twice["training"] == once["training"]


def test_what_asks_for_old_log_probs():
    """As TRL: more than one pass, more than one update from a generation, or vLLM; never otherwise."""

    def scoring(**settings) -> float:
        settings = {"gradient_accumulation_steps": 4, **settings}
        return memory.step_work(SMALL_QWEN, settings, prompt_tokens=8, completion_tokens=8)["scoring"]

    assert scoring() == scoring(steps_per_generation=4) == scoring(steps_per_generation=2) == 0
    assert scoring(generation_batch_size=32) == 0 < scoring(generation_batch_size=64)
    assert scoring(num_iterations=2) > 0 and scoring(steps_per_generation=8) > 0 and scoring(use_vllm=True) > 0
    assert scoring(steps_per_generation=3) > 0, "4 is no multiple of 3: some update comes second"
    assert scoring(use_vllm=True, vllm_importance_sampling_correction=False) == 0
    assert scoring(use_vllm=True, beta=0.1) == 2 * scoring(use_vllm=True)


def test_two_measured_steps_give_the_machine():
    truth = memory.Speed(0.5, 2e9)
    works = [memory.step_work(SMALL_QWEN, {}, prompt_tokens=32, completion_tokens=n)["operations"] for n in (16, 128)]
    found = memory.calibrate(*[(work, memory.seconds_per_step(work, truth)) for work in works])
    assert found == pytest.approx(truth)
    assert memory.calibrate((4e9, 2.0), (4e9, 6.0)) == (0.0, 1e9), "the mean of two equal steps"
    assert memory.calibrate((1e9, 1.0), (2e9, 4.0)) == (0.0, 5e8), "no negative overhead: the slower rate"


def test_what_fits_into_ten_minutes():
    speed = memory.Speed(0.0, 1e12)
    candidates = [{"num_generations": 8, "max_completion_length": n} for n in (64, 256, 4096)]
    found = memory.what_fits(10, speed, SMALL_QWEN, candidates, prompt_tokens=64, lora=ALL, min_steps=10)
    assert [row["settings"]["max_completion_length"] for row in found] == [256, 64], "4096 makes fewer than ten steps"
    for row in found:
        assert row["steps"] * row["seconds_per_step"] <= 600 < (row["steps"] + 1) * row["seconds_per_step"]
    assert memory.steps_in(0, 1e12, speed) == 0


# The record.
def test_the_record_is_within_its_tolerance():
    from benchmarks import memory as benchmark

    record = json.loads((benchmark.RESULTS / "memory.json").read_text(encoding="utf8"))
    assert record["cases"].keys() == benchmark.CASES.keys() and record["tolerance"] == benchmark.TOLERANCE == 0.15
    assert record["prompt_tokens"] == benchmark.PROMPT
    widths = Counter(case["config"]["hidden_size"] for case in record["cases"].values())
    assert widths[profiles.CPU["policy"]["hidden_size"]] >= 1 and len(widths) >= 2
    for name, case in record["cases"].items():
        assert case["case"] == json.loads(json.dumps(benchmark.CASES[name])), "the case changed: run make bench"
        ours = benchmark.predicted(case["case"], case["config"])
        assert ours == case["predicted"], "the formulas changed: run make bench"
        assert ours.keys() == case["measured"].keys()
        for key, size in case["measured"].items():
            assert ours[key] == pytest.approx(size, rel=record["tolerance"]), (name, key)


# Refusals.
NAN = float("nan")


def budget_with(lora: dict | None = ALL, **settings) -> memory.Budget:
    """A budget of Llama 3.1 8B with these settings."""
    return memory.budget(LLAMA, settings, prompt_tokens=1, lora=lora)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: memory.decoder({"model_type": "qwen3_moe"}), r"dense decoder.*got model_type = 'qwen3_moe'.*Take one"),
        (lambda: memory.decoder({"model_type": "x", "text_config": {}}), r'Pass config\["text_config"\]'),
        (
            lambda: memory.decoder({"model_type": "llama", "hidden_size": 2}),
            r"missing: intermediate_size, num_hid.*Pass",
        ),
        (lambda: memory.weight_bytes(LLAMA, bits=5), r"4, 8, 16 or 32 bits \(got 5\)"),
        (lambda: memory.trained_bytes(LLAMA, bits=4), r"weights of 4 bits must stay frozen .*Pass lora"),
        (lambda: memory.trained_bytes(LLAMA, optim="adam"), r"optim must be one of .*\(got 'adam'\)"),
        (lambda: memory.adapter_parameters(LLAMA, {"r": 1, "target_modules": ["w1"]}), r"got \['w1'\]"),
        (lambda: memory.adapter_parameters(LLAMA, {"r": 1, "target_modules": "q_proj"}), r"got 'q_proj'"),
        (lambda: memory.activation_bytes(LLAMA, rows=1, tokens=1, checkpointing="all"), r"got 'all'.*Take True"),
        (lambda: memory.activation_bytes(LLAMA, rows=1, tokens=1, attention="eager"), r"got 'eager'.*Take sdpa"),
        (lambda: memory.pool_bytes(100, 1.5, weights=1), r"above 0 and at most 1 \(got 1.5\)"),
        (lambda: memory.pool_bytes(2**34, 0.3, weights=2**33), r"got 0.3 · 16.0 GiB for weights of 8.0.*Try 0.60"),
        (lambda: memory.pool_bytes(2**34, 0.9, weights=2**34), r"Take a larger card or fewer bits"),
        (lambda: memory.budget(LLAMA, {"use_vllm": True}, prompt_tokens=1, lora=ALL), r"got no card.*Pass card="),
        (lambda: memory.budget(LLAMA, {}, prompt_tokens=0, lora=ALL), r"prompt_tokens must be a whole.*\(got 0\)"),
        (lambda: budget_with(max_completion_lenght=9), r"'max_completion_lenght'\)\. Write max_completion_length\."),
        (lambda: budget_with(num_generation=4), r"Write num_generations\."),
        (lambda: memory.step_work(LLAMA, {"betta": 1}, prompt_tokens=1), r"got 'betta'\)\. Write beta\."),
        (lambda: budget_with(per_device_train_batch_size=3), r"multiple of num_generations \(got 3 completions"),
        (lambda: budget_with(per_device_train_batch_size="8"), r"must be a whole number \(got '8', str\)\. Try"),
        (lambda: budget_with(gradient_accumulation_steps=0), r"gradient_accumulation_steps must be at least 1"),
        (lambda: budget_with(steps_per_generation=2, generation_batch_size=16), r"only one of steps_per_generation"),
        (lambda: budget_with(max_completion_length=None), r"max_completion_length must be a whole .*\(got None\)"),
        (lambda: budget_with(num_iterations=0), r"num_iterations must be a whole number, at least 1 \(got 0\)"),
        (lambda: memory.budget(LLAMA, {}, prompt_tokens=1, num_processes=0), r"num_processes must be.*\(got 0\)"),
        (lambda: budget_with({**ALL, "r": 0}), r"r must be a whole number, at least 1 \(got 0\)\. Take r = 16"),
        (lambda: budget_with({"target_modules": "all-linear"}), r"r must be a whole number, at least 1 \(got None\)"),
        (lambda: budget_with({"r": 8, "target_modules": None}), r"target_modules must be names .*\(got None\)"),
        (lambda: budget_with({"r": 8}), r"target_modules must be names .*\(got None\)\. Take"),
        (lambda: memory.kv_bytes(LLAMA, tokens=-5), r"tokens must be a whole number, at least 1 \(got -5\)"),
        (lambda: memory.kv_bytes(LLAMA, tokens=5, sequences=0), r"sequences must be a whole .*\(got 0\)"),
        (lambda: memory.calibrate((NAN, 2.0), (3.0, 4.0)), r"must be positive and finite \(got \(nan, 2.0\)"),
        (lambda: memory.calibrate((1.0, 2.0), (3.0, NAN)), r"must be positive and finite.*Measure again"),
        (lambda: memory.what_fits(9, memory.Speed(0.0, 0.0), LLAMA, [{}], prompt_tokens=1), r"got 0.0 s and 0.0 op"),
        (lambda: memory.seconds_per_step(0, memory.Speed(0.0, 1.0)), r"operations must be positive.*\(got 0\)"),
        (lambda: memory.steps_in(NAN, 1.0, memory.Speed(0.0, 1.0)), r"must not be negative, and finite \(got nan\)"),
        (
            lambda: memory.budget(LLAMA, {}, prompt_tokens=1, backend="jax"),
            r"trl or unsloth \(got 'jax'\)\. Try backend = 'trl'",
        ),
        (lambda: memory.step_work(LLAMA, {}, prompt_tokens=1, completion_tokens=0), r"at least one token each"),
        (lambda: memory.calibrate((1.0, 2.0), (3.0, 2.0)), r"more work must take longer .*Measure after a warm-up"),
        (lambda: memory.calibrate((0.0, 2.0), (3.0, 2.0)), r"must be positive.*Measure again"),
        (lambda: memory.steps_in(-1, 1.0, (0.0, 1.0)), r"must not be negative, and finite \(got -1\)"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
