"""The code that GPU profiles run, with a stand-in for Unsloth: it builds the tiny policy, everything else is real.

It shows that our calls fit together and come in the right order. It shows nothing about Unsloth, vLLM or a GPU.
"""

import functools
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model

from benchmarks import unsloth_cpu
from grpo_nb import data, evaluate, memory, models, plots, profiles
from grpo_nb.evaluate import sampling
from tests import vllm_stand_in, wheels

STAND_IN = '''
"""FastLanguageModel on the tiny policy; refuses to be late, as the real one should be first."""
import os
import sys

late = [name for name in ("trl", "transformers", "peft") if name in sys.modules]
assert not late, late
os.makedirs(os.environ.get("UNSLOTH_COMPILE_LOCATION", "unsloth_compiled_cache"))


class FastLanguageModel:
    @staticmethod
    def from_pretrained(model_name, fast_inference, **settings):
        from grpo_nb import data, models, profiles
        from tests import vllm_stand_in

        tiny = profiles.current("ci")
        policy, tokenizer = models.load_policy(tiny, data.load_task(tiny.task)[0])
        policy.name_or_path = model_name
        return vllm_stand_in.give_engine(policy) if fast_inference else policy, tokenizer

    @staticmethod
    def get_peft_model(model, r, lora_alpha, lora_dropout, target_modules, use_gradient_checkpointing, random_state):
        from peft import LoraConfig, get_peft_model
        from tests import vllm_stand_in

        config = LoraConfig(task_type="CAUSAL_LM", r=r, lora_alpha=lora_alpha, target_modules=target_modules)
        policy = get_peft_model(model, config)
        return vllm_stand_in.give_ties(policy) if hasattr(model, "vllm_engine") else policy
'''

# What notebooks 03, 06 and 07 do, in their order, on the t4 profile with the GPU-only settings taken out.
PIPELINE = """
import sys

from grpo_nb import data, evaluate, export, profiles, train
from grpo_nb.runs import tracking
from tests import vllm_stand_in

profile = profiles.current("t4")
profile.task.update(num_held_out=4, system_prompt="Add.")
for settings in (profile.sft, profile.grpo):
    settings.update(fp16=False, use_cpu=True, optim="adamw_torch", max_steps=1, gradient_checkpointing=False)
profile.grpo.update(use_vllm=False, max_completion_length=8, max_steps=2, warmup_steps=0)
policy, tokenizer = train.warm_start(profile)
rows, held_out = data.load_task(profile.task)
prompts, tests = data.grpo_rows(rows), data.grpo_rows(held_out)
run = tracking.Run("grpo", profile)


def length(completions, **columns):  # a reward that differs, so that the weights move
    return [float(len(completion[0]["content"])) for completion in completions]


trainer = train.grpo_trainer(policy, tokenizer, prompts, [length], profile, run=run)
assert trainer.model is policy, "GRPO goes on with the adapter that SFT trained"
train.resume_or_start(trainer, minutes=1e-6)
assert trainer.state.global_step == 1, "stopped and sealed"
try:
    anew = train.grpo_trainer(policy, tokenizer, prompts, [length], profile, run=run)
    train.resume_or_start(anew)
except ValueError as error:
    assert "starting weights" in str(error), error
else:
    raise AssertionError("a trainer made anew in this kernel starts where the first one stopped")
train.resume_or_start(trainer)
sys.modules["vllm"] = vllm_stand_in  # not earlier: TRL would ask for its version
evaluate.accuracy(trainer.model, tokenizer, tests, max_new_tokens=8, **profile.evaluate)
assert len(policy.vllm_engine.requests) == 2, "sampled and greedy, by vLLM"
export.save_adapter(trainer.model, tokenizer, run.folder / "adapter")
assert len(run.rows()) == 2
assert {row["problem"] for row in train.trace_rows(profile)}.isdisjoint(row["problem"] for row in held_out)
assert train.warm_start(profile)[0] is policy, "a card has room for one vLLM"
anew = train.grpo_trainer(policy, tokenizer, prompts, [length], profile, run=run)
train.resume_or_start(anew)
assert anew.state.global_step == 2, "back at its start, bit for bit, it goes on from the seal"
print("finished", train.trace_rows(profile)[0]["answer"])
"""


@pytest.fixture
def stage(tmp_path):
    """A folder with the stand-in on the path and both data sets as local files, half of the problems in both."""
    (tmp_path / "unsloth.py").write_text(STAND_IN, encoding="utf8")
    (tmp_path / "work").mkdir()
    traces = [{"problem": f"{n}+1?", "expected_answer": str(n + 1), "generated_solution": "so"} for n in range(40)]
    tasks = [{"prompt": f"{n}+1?", "solution": str(n + 1)} for n in range(20, 60)]
    for name, rows in {"open_math_reasoning/cot": traces, "dapo_math/train": tasks}.items():
        path = tmp_path / "data" / f"{name}.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf8")
    return tmp_path


def run(code: str, stage: Path, **settings: str) -> subprocess.CompletedProcess:
    root = str(Path(__file__).parent.parent)
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(stage), root]),
        "GRPO_NB_DATA": str(stage / "data"),
        "GRPO_NB_OUTPUTS": str(stage / "outputs"),
        **settings,
    }
    return subprocess.run([sys.executable, "-c", code], env=env, cwd=stage / "work", capture_output=True, text=True)


def test_the_notebooks_calls_fit_together_in_a_gpu_profile(stage):
    """SwanLab is on, as in the notebooks; it must not import transformers before Unsloth does."""
    done = run(PIPELINE, stage, GRPO_NB_TRACK="offline")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "finished" in done.stdout and "The policy of this kernel goes back to" in done.stdout
    assert not list((stage / "work").iterdir()), "Unsloth's leftovers are with the runs"
    left = {path.name for path in (stage / "outputs" / "unsloth").iterdir()}
    assert left == {"unsloth_compiled_cache", "evaluation"}


def test_unsloth_comes_first_whatever_is_called_first(stage):
    code = """
import sys
from grpo_nb import preflight, profiles, train
from grpo_nb.runs import tracking
t4 = profiles.current("t4")
tracking.Run('x', t4).callbacks()
assert "transformers" not in sys.modules
try:
    preflight.check(t4.grpo, [], None, t4)
except ValueError:
    pass
assert "unsloth" in sys.modules
"""
    done = run(code, stage, GRPO_NB_TRACK="offline")
    assert done.returncode == 0, done.stderr[-2000:]


# Law: evaluation samples the policy as it is, in the memory that there is.


def unsloths_own(policy):
    """What the pinned wheels' own code ties to a policy; without what they do for mixtures of experts."""
    wanted = ("load_lora", "_build_lora_request", "_live_lora_config", "get_peft_config", "_distributed_rank_and_world")
    nothing_to_do = {
        "prepare_merged_rollout": lambda model: None,
        "_remap_moe_expert_lora_keys": lambda model, tensors: tensors,
        "_pad_lone_moe_expert_lora": lambda model, tensors: tensors,
        "_check_lora_is_servable": lambda *about: None,
    }
    given = {"LORA_REQUEST_ID": None, "_LIVE_LORA_CONFIGS": {}, "torch": torch, "json": json, "os": os, **nothing_to_do}
    zoo = wheels.functions(wheels.zoo_file("vllm_utils.py"), *wanted, **given)
    files, needs = wheels.unsloth_files(), {"functools": functools, "save_lora_adapter": print}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "unsloth_zoo", SimpleNamespace())
        patch.setitem(sys.modules, "unsloth_zoo.vllm_utils", SimpleNamespace(load_lora=zoo.load_lora, save_lora=None))
        tie = wheels.functions(files["unsloth/models/_utils.py"], "patch_peft_fast_inference", **needs)
        tie.patch_peft_fast_inference(policy)
    return policy


@pytest.fixture
def ties():
    return vllm_stand_in.give_ties


@pytest.fixture
def sampled(ties, tiny, profile, monkeypatch):
    """(policy with vLLM inside and an adapter, the same without vLLM, tokenizer, rows)."""
    for name in ("vllm", "vllm.lora", "vllm.lora.request"):
        monkeypatch.setitem(sys.modules, name, vllm_stand_in)
    monkeypatch.setattr(models.with_unsloth, "HELD", {})
    config = LoraConfig(task_type="CAUSAL_LM", **profile.lora)
    plain = get_peft_model(models.own_copy(tiny[0]), config)
    policy = models.with_unsloth.hold(ties(get_peft_model(vllm_stand_in.give_engine(tiny[0]), config)))
    problems = [{"problem": text, "answer": "0"} for text in ("1+1?", "What is 12+34, please?")]
    return policy, plain, tiny[1], data.grpo_rows(problems, system_prompt="Add.")


def stir(policy, seed):
    """A training step's worth: each matrix of the adapter becomes another."""
    torch.manual_seed(seed)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)


def greedy(policy, tokenizer, rows):
    return evaluate.completions(policy, tokenizer, rows, greedy=True, max_new_tokens=3)


@pytest.mark.parametrize(
    "ties", [unsloths_own], ids=["wheels"]
)  # the stand-in's own are in the notebooks' calls, above
def test_vllm_samples_the_adapter_as_it_is_now_and_the_base_without_it(sampled, capsys):
    policy, plain, tokenizer, rows = sampled
    seen = []
    for seed in (1, 2):
        stir(policy, seed)
        plain.load_state_dict(policy.state_dict())
        seen.append(greedy(policy, tokenizer, rows))
        assert seen[-1] == greedy(plain, tokenizer, rows)
    with policy.disable_adapter(), plain.disable_adapter():
        seen.append(greedy(policy, tokenizer, rows))
        assert seen[-1] == greedy(plain, tokenizer, rows)
    assert len({str(texts) for texts in seen}) == 3, "or nothing was compared"
    answer = evaluate.stream(policy, tokenizer, rows[0]["prompt"], max_new_tokens=3)  # at once
    assert answer == greedy(policy, tokenizer, rows)[0][0] and capsys.readouterr().out.endswith(
        f"{plots.visible(answer)}\n"
    )
    assert len(policy.vllm_engine.requests) == 5, "transformers generated nothing for the policy with vLLM"


def test_vllm_samples_as_training_does(sampled):
    policy, _, tokenizer, rows = sampled
    state = torch.get_rng_state()
    settings = {"num_return_sequences": 2, "max_new_tokens": 3, "temperature": 0.7}
    first, same, other = (evaluate.completions(policy, tokenizer, rows, seed=s, **settings) for s in (1, 1, 2))
    assert first == same != other and [len(group) for group in first] == [2, 2]
    assert torch.equal(torch.get_rng_state(), state)
    prompts, sampling, _ = policy.vllm_engine.requests[0]
    template = tokenizer.apply_chat_template([rows[0]["prompt"]], tokenize=False, add_generation_prompt=True)
    assert prompts[0] == {"prompt_token_ids": tokenizer(template, add_special_tokens=False)["input_ids"][0]}
    assert len({how.seed for how in sampling}) == len(rows), "one noise for all prompts would tie their errors"
    for how in sampling:
        assert (how.n, how.max_tokens, how.temperature, how.top_p, how.top_k, how.min_p) == (2, 3, 0.7, 1.0, -1, 0.0)


def test_a_policy_of_unsloths_without_vllm_is_sampled_by_transformers(sampled, unsloth):
    """Unsloth hangs a `fast_generate` on it all the same, which refuses what vLLM takes."""
    _, plain, tokenizer, rows = sampled
    wrapper = wheels.functions(unsloth["unsloth/models/_utils.py"], "make_fast_generate_wrapper", functools=functools)
    plain.fast_generate = wrapper.make_fast_generate_wrapper(plain.generate)
    with pytest.raises(ValueError, match="only supported when `fast_inference=True`"):
        plain.fast_generate([{"prompt_token_ids": [1]}], sampling_params=[], lora_request=None)
    assert len(greedy(plain, tokenizer, rows)) == 2


@pytest.mark.parametrize(
    ("model", "free_gib", "tokens", "most"),
    [("Qwen3-8B", 10.5, 2048, 18), ("Qwen3-8B", 10.5, 4096, 9), ("Qwen3-4B", 5, 1024, 17), ("Qwen3-4B", 0.1, 1024, 1)],
)
def test_transformers_generates_as_many_as_the_card_has_room_for(model, free_gib, tokens, most, monkeypatch):
    """Half of 10.5 GiB is 5.25; a completion of 2048 tokens keeps 2048 · 147456 bytes = 0.28 GiB: 18 of them."""
    free = round(free_gib * 2**30)
    held = {"memory_reserved": 3 * 2**30, "memory_allocated": 2 * 2**30}  # one of them torch has and does not use
    for name, size in held.items():
        monkeypatch.setattr(torch.cuda, name, lambda size=size: size)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free - 2**30, 40 * 2**30))
    assert sampling._at_once(SimpleNamespace(config=memory.MODELS[model]), tokens=tokens) == most


# Law: one policy of Unsloth's in a kernel.


class FastLanguageModel:
    """Of the stand-in above, in this process; `loads` counts."""

    loads = 0

    @classmethod
    def from_pretrained(cls, model_name, fast_inference, **settings):
        cls.loads += 1
        tiny = profiles.current("ci")
        tiny.task.update(num_train=64, num_held_out=16)
        policy, tokenizer = models.load_policy(tiny, data.load_task(tiny.task)[0])
        policy.name_or_path = model_name
        return vllm_stand_in.give_engine(policy) if fast_inference else policy, tokenizer

    @staticmethod
    def get_peft_model(model, r, lora_alpha, target_modules, **settings):
        config = LoraConfig(task_type="CAUSAL_LM", r=r, lora_alpha=lora_alpha, target_modules=target_modules)
        return vllm_stand_in.give_ties(get_peft_model(model, config))


@pytest.fixture
def t4(monkeypatch, tmp_path):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    monkeypatch.setitem(sys.modules, "unsloth", SimpleNamespace(FastLanguageModel=FastLanguageModel))
    monkeypatch.setattr(models.with_unsloth, "HELD", {})
    monkeypatch.setattr(FastLanguageModel, "loads", 0)
    monkeypatch.setenv("UNSLOTH_COMPILE_LOCATION", "")  # put back afterwards
    return profiles.current("t4")


def adapter_of(policy):
    return {name: tensor.clone() for name, tensor in policy.state_dict().items() if "lora_" in name}


def test_a_second_load_takes_the_policy_that_is_there_back_to_the_saved_adapter(t4, tmp_path, capsys):
    policy = models.load_policy(t4)[0]
    assert models.load_policy(t4)[0] is policy, "nothing has changed it"
    policy = models.add_lora(policy, t4)
    stir(policy, 1)
    policy.save_pretrained(tmp_path / "start")
    saved = adapter_of(policy)
    stir(policy, 2)
    again, tokenizer = models.load_policy(t4, path=tmp_path / "start")
    assert again is policy and FastLanguageModel.loads == 1 and tokenizer.chat_template
    assert all(torch.equal(tensor, saved[name]) for name, tensor in adapter_of(policy).items())
    assert capsys.readouterr().out.startswith("The policy of this kernel goes back to")


@pytest.mark.parametrize("change", ["fresh", "base", "rank", "alpha", "context", "nothing there"])
def test_another_policy_beside_it_is_refused(t4, change, tmp_path):
    policy = models.add_lora(models.load_policy(t4)[0], t4)
    policy.save_pretrained(tmp_path / "start")
    path = {"fresh": None, "nothing there": tmp_path / "nowhere"}.get(change, tmp_path / "start")
    if change == "context":
        t4.policy["max_seq_length"] = 2048
    config = tmp_path / "start" / "adapter_config.json"
    edits = {"base": {"base_model_name_or_path": "me/mine"}, "rank": {"r": 8}, "alpha": {"lora_alpha": 1}}
    saved = json.loads(config.read_text(encoding="utf8"))
    config.write_text(json.dumps(saved | edits.get(change, {})), encoding="utf8")
    with pytest.raises(ValueError, match=r"must keep to one policy of Unsloth's.* \(got .*\)\. Restart the kernel"):
        models.load_policy(t4, path=path)


def test_without_vllm_and_after_the_first_is_gone_a_policy_loads(t4):
    policy = models.load_policy(t4)[0]
    del policy.vllm_engine, policy.fast_generate, policy
    assert models.load_policy(t4)[0] is not None and FastLanguageModel.loads == 2
    t4.policy["fast_inference"] = False
    models.with_unsloth.HELD.clear()
    assert models.load_policy(t4)[0] is not models.load_policy(t4)[0]


# Law: a profile's precision is its card's.


def see_cards(monkeypatch, cards):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index=0: cards[index])


@functools.cache
def precision_code():
    return wheels.written_by_unsloth(wheels.unsloth_files(), "use_bf16 = getattr(args, 'bf16', False)")


def unsloths_check(settings, *, has_bf16, monkeypatch):
    """What Unsloth's trainer says to a config, for a policy that Unsloth loaded on a card with or without bf16."""
    monkeypatch.setitem(sys.modules, "unsloth_zoo", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "unsloth_zoo.utils", SimpleNamespace(_get_dtype=lambda dtype: dtype))
    supported = SimpleNamespace(device_is_bf16_supported=lambda: has_bf16)
    monkeypatch.setitem(sys.modules, "unsloth_zoo.device_type", supported)
    loaded = SimpleNamespace(config=SimpleNamespace(dtype=torch.bfloat16 if has_bf16 else torch.float16))
    args = SimpleNamespace(eval_strategy="no", **{key: settings[key] for key in ("bf16", "fp16")})
    wheels.run(precision_code(), args=args, model=loaded, torch=torch)


@pytest.mark.parametrize("name", ["t4", "a100"])
@pytest.mark.parametrize(
    ("cards", "has_bf16"),
    [
        ([(7, 5)], False),
        ([(8, 0)], True),
        ([(8, 6)], True),
        ([(8, 9)], True),
        ([(12, 0)], True),
        ([(8, 0), (7, 5)], False),
    ],
)
def test_unsloth_takes_the_profiles_precision_on_every_card(name, cards, has_bf16, monkeypatch):
    see_cards(monkeypatch, cards)
    profile = profiles.current(name)
    for settings in (profile.sft, profile.grpo):
        assert settings["bf16"] is has_bf16 and settings["fp16"] is not has_bf16
        unsloths_check(settings, has_bf16=has_bf16, monkeypatch=monkeypatch)


def test_unsloth_refuses_the_other_precision(monkeypatch):
    """So `current` has to follow: this is what the t4 profile met on an L4 as long as it was fp16 everywhere."""
    for name, has_bf16, model in [("t4", True, "bfloat16"), ("a100", False, "float16")]:
        with pytest.raises(TypeError, match=f"Model is in {model} precision"):
            unsloths_check(profiles.PROFILES[name]["grpo"], has_bf16=has_bf16, monkeypatch=monkeypatch)


def test_without_a_card_a_profile_is_as_it_is_written(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, profile in profiles.PROFILES.items():
        assert profiles.current(name).grpo == profile["grpo"] and profiles.current(name).sft == profile["sft"]


@pytest.mark.parametrize(("cards", "got"), [([(6, 0)], "6.0"), ([(7, 0)], "7.0"), ([(9, 0), (6, 1)], "6.1")])
def test_a_card_that_torch_has_no_kernels_for_is_refused(cards, got, monkeypatch):
    see_cards(monkeypatch, cards)
    with pytest.raises(ValueError, match=rf"compute capability 7\.5 or more \(got {got}, .*\)\. Choose a T4 or"):
        models.prepare(profiles.current("t4"))
    models.prepare(profiles.current("cpu"))


# Oracle: where Unsloth writes.
def test_unsloth_compiles_where_it_is_told_to(t4, tmp_path, monkeypatch):
    monkeypatch.delenv("UNSLOTH_COMPILE_LOCATION")
    models.prepare(t4)
    where = os.environ["UNSLOTH_COMPILE_LOCATION"]
    assert where == str(tmp_path / "unsloth" / "unsloth_compiled_cache") and Path(where).is_absolute()
    read = {"os": os, "UNSLOTH_COMPILE_LOCATION": where, "UNSLOTH_COMPILE_USE_TEMP": False}
    zoo = wheels.functions(wheels.zoo_file("compiler.py"), "_get_compile_folder", **read)
    assert zoo._get_compile_folder()[0] == where and Path(where).is_dir()
    assert 'os.getenv("UNSLOTH_COMPILE_LOCATION"' in wheels.zoo_file("compiler.py")


def test_what_goes_with_a_request_to_vllm_is_written_below_the_outputs(t4, tmp_path, monkeypatch):
    """TRL's rollouts, as Unsloth patches them, name a folder in the working folder; evaluation names one too."""
    monkeypatch.chdir(tmp_path)
    policy = models.add_lora(models.load_policy(t4)[0], t4)
    policy.load_lora("vllm_gen_lora", load_tensors=True)
    assert (tmp_path / "unsloth" / "vllm_gen_lora" / "adapter_config.json").exists()
    assert not (tmp_path / "vllm_gen_lora").exists()


def test_the_record_of_unsloth_on_a_cpu_is_of_these_versions():
    """`make backends` asserts what it records; a newer library makes the record old."""
    record = json.loads(unsloth_cpu.RESULTS.read_text(encoding="utf8"))
    assert {name: importlib.metadata.version(name) for name in ("trl", "peft", "transformers")}.items() <= record[
        "versions"
    ].items()
    assert len(record["grad_norms"]) == unsloth_cpu.STEPS and min(record["grad_norms"]) > 0
    off = record["largest_difference"]
    assert max(off["adapter"], off["merged"]) < unsloth_cpu.TOLERANCE < off["without adapter"]
