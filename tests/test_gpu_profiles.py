"""The t4 and a100 profiles, checked without a GPU: against TRL's config classes and the pinned Unsloth wheel."""

import ast
import re
import zipfile

import pytest
from trl import GRPOConfig, SFTConfig

from benchmarks import peers
from grpo_nb import memory, models, profiles
from grpo_nb.batchflow import arithmetic
from grpo_nb.preflight import disk
from tests import wheels

GPU_PROFILES = ("t4", "a100")
# Method of FastLanguageModel → the file and class of the wheel that spell out its parameters. Both methods also take
# **kwargs and hand them on, so that a misspelt keyword is refused, or lost, only further down.
UNSLOTH = {
    "from_pretrained": ("unsloth/models/loader.py", "FastLanguageModel"),
    "get_peft_model": ("unsloth/models/llama.py", "FastLlamaModel"),
}

each_profile = pytest.mark.parametrize("name", GPU_PROFILES)


@pytest.fixture
def bf16_gpu(monkeypatch):
    """transformers refuses bf16=True where it sees no GPU that has it; let it see one, and change nothing else."""
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)


@pytest.fixture
def unsloth_parameters(unsloth) -> dict[str, set[str]]:
    """Method → the parameter names that the pinned Unsloth release spells out."""
    return {method: parameters(unsloth[path], owner, method) for method, (path, owner) in UNSLOTH.items()}


def parameters(source: str, owner: str, method: str) -> set[str]:
    """The names that one method of one class takes, without *args and **kwargs."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name == owner:
            for function in node.body:
                if isinstance(function, ast.FunctionDef) and function.name == method:
                    return {argument.arg for argument in [*function.args.args, *function.args.kwonlyargs]}
    raise ValueError(
        f"the source must define {owner}.{method} (it does not). Look for where this release has moved it."
    )


def functions(source: str) -> dict[str, str]:
    """Name → text of each function of a module, without its comments."""
    return {node.name: ast.unparse(node) for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


# Golden: the numbers of *Qwen3-8B GRPO with SwanLab* that carry over.
def test_a100_is_the_recipe_of_the_source():
    a100 = profiles.current("a100")
    assert a100.policy["model_name"] == "Qwen/Qwen3-8B-Base", "the checkpoint that the recipe is for: erratum D09"
    assert a100.policy["max_seq_length"] == 2048
    assert a100.policy["gpu_memory_utilization"] == 0.7
    assert (a100.lora["r"], a100.lora["lora_alpha"], len(a100.lora["target_modules"])) == (32, 64, 7)


def test_t4_fits_its_card():
    t4 = profiles.T4
    assert t4["policy"]["model_name"] == "Qwen/Qwen3-4B-Base" and t4["policy"]["load_in_4bit"]
    for settings in (t4["sft"], t4["grpo"]):
        assert settings["fp16"] and not settings["bf16"], "compute capability 7.5 has no bf16"


@pytest.mark.parametrize(("name", "card"), [("t4", "T4"), ("t4", "L4"), ("a100", "A100-40"), ("a100", "A100-80")])
@pytest.mark.parametrize("uses_vllm", [True, False])
def test_training_and_evaluation_fit_the_card(name, card, uses_vllm):
    """Without vLLM too; what was `evaluate.completions`' default there, all held-out prompts at once, did not fit."""
    profile, size = profiles.current(name), memory.CARDS[card]
    config, completion = disk.policy_config(profile.policy), profile.grpo["max_completion_length"]

    def fits(evaluated: int) -> bool:
        pool = {"use_vllm": uses_vllm, "vllm_gpu_memory_utilization": profile.policy["gpu_memory_utilization"]}
        made = memory.budget(
            config,
            profile.grpo | pool,
            prompt_tokens=profile.policy["max_seq_length"] - completion,
            lora=profile.lora,
            bits=4 if profile.policy["load_in_4bit"] else 16,
            card=size,
            backend="unsloth" if uses_vllm else "trl",
            evaluated=evaluated,
        )
        return made.fits(size)

    assert fits(profile.evaluate["batch_size"])
    assert fits(profile.task["num_held_out"]) is (uses_vllm or card != "A100-40")


# Oracle: TRL's own classes.
@each_profile
def test_sft_settings_make_a_real_config(name, bf16_gpu, tmp_path):
    profile = profiles.current(name)
    config = SFTConfig(output_dir=str(tmp_path), **profile.sft)
    assert {key: getattr(config, key) for key in profile.sft if key != "report_to"} == {
        key: value for key, value in profile.sft.items() if key != "report_to"
    }
    assert config.report_to == [] and config.max_length <= profile.policy["max_seq_length"]


@each_profile
def test_grpo_settings_make_a_real_config_with_legal_batches(name, bf16_gpu, tmp_path):
    profile = profiles.current(name)
    config = GRPOConfig(output_dir=str(tmp_path), **profile.grpo)
    assert config.report_to == [] and config.use_vllm
    assert config.generation_batch_size % config.num_generations == 0
    numbers = arithmetic.batch_numbers(profile.grpo, num_processes=1)
    assert numbers["generation_batch_size"] == config.generation_batch_size


@each_profile
def test_prompt_and_completion_fit_the_context(name):
    profile = profiles.current(name)
    room = profile.policy["max_seq_length"] - profile.grpo["max_completion_length"]
    assert room >= 256, f"{room} tokens are left for the prompt"


@each_profile
def test_no_trace_that_fits_the_context_is_cut(name):
    """Where few traces are short, SFT takes the shortest that the context holds: they must reach it whole."""
    profile = profiles.current(name)
    assert profile.sft["max_length"] == profile.policy["max_seq_length"]


@each_profile
def test_what_unsloth_would_change_behind_our_back_is_spelled_out(name):
    settings = profiles.current(name).grpo
    assert {"epsilon_high", "mask_truncated_completions", "vllm_importance_sampling_correction"} <= settings.keys()


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_the_seed_is_the_callers(name):
    profile = profiles.current(name)
    assert "seed" not in profile.sft and "seed" not in profile.grpo
    assert models.unsloth_lora_kwargs(profile, seed=7)["random_state"] == 7


@pytest.mark.parametrize("key", ["max_prompt_length", "warmup_ratio", "tokenizer", "vllm_sampling_params"])
def test_trl_refuses_the_keys_of_the_source(key, tmp_path):
    with pytest.raises(TypeError, match=key):
        GRPOConfig(output_dir=str(tmp_path), **{**profiles.current("t4").grpo, key: 1})


def test_trl_refuses_the_batch_of_the_source(tmp_path):
    batch = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "num_generations": 4}
    with pytest.raises(ValueError, match="divisible by"):
        GRPOConfig(output_dir=str(tmp_path), **{**profiles.current("t4").grpo, **batch})
    with pytest.raises(ValueError, match="multiple of num_generations"):
        arithmetic.batch_numbers(batch, num_processes=1)


# Oracle: the pinned Unsloth release.
@each_profile
def test_unsloth_knows_every_keyword_that_we_give(name, unsloth_parameters):
    profile = profiles.current(name)
    assert models.unsloth_load_kwargs(profile).keys() <= unsloth_parameters["from_pretrained"]
    assert models.unsloth_lora_kwargs(profile).keys() <= unsloth_parameters["get_peft_model"]


@each_profile
def test_unsloth_has_the_checkpoint_in_four_bits_too(name, unsloth):
    assert f'"{profiles.current(name).policy["model_name"]}",' in unsloth["unsloth/models/mapper.py"]


@each_profile
def test_unsloth_gets_the_rank_that_it_must_reserve(name):
    profile = profiles.current(name)
    assert models.unsloth_load_kwargs(profile)["max_lora_rank"] == models.unsloth_lora_kwargs(profile)["r"]


def test_unsloth_wants_the_cards_that_machine_names(unsloth):
    """fp16 settings only where a card has no bf16, that is below compute capability 8; vLLM only from 7 on."""
    assert "if not force_float32 and (bfloat16 and use_fp16): raise TypeError(" in unsloth["unsloth/models/rl.py"]
    assert "all(major >= 8 for major, _ in _cuda_caps)" in unsloth["unsloth/models/_utils.py"]
    assert "torch.cuda.get_device_capability()[0] < 7:" in unsloth["unsloth/models/loader.py"]


def test_unsloth_zoo_keeps_adapters_in_float32_and_shares_out_what_is_free():
    """What `memory.budget` says of the adapter and of vLLM's pool."""
    with zipfile.ZipFile(wheels.wheel("unsloth_zoo", peers.WHEELS["unsloth_zoo"])) as files:
        training, pool = (
            functions(files.read(f"unsloth_zoo/{name}.py").decode())[function]
            for name, function in [
                ("training_utils", "prepare_model_for_training"),
                ("vllm_utils", "approximate_vllm_memory_usage"),
            ]
        )
    is_lora = re.search(r"if '\.lora_A\.' in name or [^\n]+:\n +upcast = True\n", training)
    assert is_lora and "dtype = torch.float32 if upcast else mixed_precision_dtype" in training
    assert re.search(
        r"free_memory, total_memory = get_mem_info\(\)\n +free_memory = gpu_memory_utilization \* free_memory", pool
    )


def test_a_wrong_keyword_is_seen(unsloth_parameters):
    profile = profiles.current("t4")
    planted = {**models.unsloth_load_kwargs(profile), "max_model_len": 1024}
    assert planted.keys() - unsloth_parameters["from_pretrained"] == {"max_model_len"}
    planted = {**models.unsloth_lora_kwargs(profile), "rank": 16}
    assert planted.keys() - unsloth_parameters["get_peft_model"] == {"rank"}


def test_a_moved_method_is_refused():
    with pytest.raises(ValueError, match="must define FastLanguageModel.from_pretrained"):
        parameters("class FastLanguageModel: pass", "FastLanguageModel", "from_pretrained")
