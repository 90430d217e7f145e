"""The code that GPU profiles run, with a stand-in for Unsloth: it builds the tiny policy, everything else is real.

It shows that our calls fit together and come in the right order. It shows nothing about Unsloth, vLLM or a GPU.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

STAND_IN = '''
"""FastLanguageModel on the tiny policy; refuses to be late, as the real one should be first."""
import sys

late = [name for name in ("trl", "transformers", "peft") if name in sys.modules]
assert not late, late


class FastLanguageModel:
    @staticmethod
    def from_pretrained(model_name, **settings):
        from grpo_nb import data, models, profiles

        tiny = profiles.current("ci")
        return models.load_policy(tiny, data.load_task(tiny.task)[0])

    @staticmethod
    def get_peft_model(model, r, lora_alpha, lora_dropout, target_modules, use_gradient_checkpointing, random_state):
        from peft import LoraConfig, get_peft_model

        return get_peft_model(model, LoraConfig(r=r, lora_alpha=lora_alpha, target_modules=target_modules))
'''

# What notebooks 03, 06 and 07 do, in their order, on the t4 profile with the GPU-only settings taken out.
PIPELINE = """
from grpo_nb import data, evaluate, export, profiles, train
from grpo_nb.runs import tracking

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
evaluate.accuracy(trainer.model, tokenizer, tests, max_new_tokens=8, **profile.evaluate)
export.save_adapter(trainer.model, tokenizer, run.folder / "adapter")
assert len(run.rows()) == 2
assert {row["problem"] for row in train.trace_rows(profile)}.isdisjoint(row["problem"] for row in held_out)
print("finished", train.trace_rows(profile)[0]["answer"])
"""


@pytest.fixture
def stage(tmp_path):
    """A folder with the stand-in on the path and both data sets as local files, half of the problems in both."""
    (tmp_path / "unsloth.py").write_text(STAND_IN, encoding="utf8")
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
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)


def test_the_notebooks_calls_fit_together_in_a_gpu_profile(stage):
    """SwanLab is on, as in the notebooks; it must not import transformers before Unsloth does."""
    done = run(PIPELINE, stage, GRPO_NB_TRACK="offline")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "finished" in done.stdout


def test_unsloth_comes_first_whatever_is_called_first(stage):
    code = """
import sys
from grpo_nb import preflight, profiles, train
from grpo_nb.runs import tracking
t4 = profiles.current("t4")
tracking.Run('x', t4).callbacks()
assert "transformers" not in sys.modules
try:
    preflight.check(t4.grpo, [], (), t4)
except ValueError:
    pass
assert "unsloth" in sys.modules
"""
    done = run(code, stage, GRPO_NB_TRACK="offline")
    assert done.returncode == 0, done.stderr[-2000:]
