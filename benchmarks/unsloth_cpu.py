"""The way of the GPU profiles through Unsloth itself, on its CPU backend: `make backends` (Linux, 320 MB of downloads).

Profile t4, on a tiny Qwen3 made here: warm start, GRPO, evaluation, the adapter saved, loaded by PEFT on plain
transformers weights, merged, and the warm start once more. It shows that imports come in the right order, that keywords
fit and that the parts fit together. It shows nothing of CUDA, 4 bits, vLLM or the memory that Unsloth saves. Writes
results/unsloth_cpu.json.
"""

import json
import math
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks import machine
from grpo_nb import data, evaluate, export, models, preflight, profiles, rewards, train
from grpo_nb.runs import files, tracking

RESULTS = Path(__file__).parent / "results" / "unsloth_cpu.json"
STEPS = 6
TOLERANCE = 0.05  # of a logit, where both sides compute in bf16 and in another order


def profile_of(base: str):
    """Profile t4 for a tiny base in a folder: no vLLM, no 4 bits, a few steps in bf16."""
    ci, profile = profiles.current("ci"), profiles.current("t4")
    halves = {"fp16": False, "bf16": True, "use_cpu": True, "optim": "adamw_torch", "gradient_accumulation_steps": 1}
    profile.task = {**ci.task, "num_train": 256, "num_held_out": 16}
    profile.policy |= {"model_name": base, "max_seq_length": 128, "load_in_4bit": False, "fast_inference": False}
    profile.sft |= {**halves, "per_device_train_batch_size": 8, "max_steps": 20, "save_steps": 10, "max_length": 128}
    profile.grpo |= {**halves, "use_vllm": False, "num_generations": 4, "per_device_train_batch_size": 16}
    profile.grpo |= {"max_steps": STEPS, "save_steps": 2, "max_completion_length": 32}
    profile.evaluate = {"num_return_sequences": 2, "batch_size": 16}
    return profile


def make_base(folder: str) -> None:
    """A tiny Qwen3 with random weights, saved as a hub's model is; made by a process without Unsloth."""
    profile = profiles.current("ci")
    policy, tokenizer = models.load_policy(profile, data.load_task(profile.task, seed=0)[0])
    policy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def logits_of(policy, tokenizer, prompts: list[dict]):
    """Next-token logits after the first prompts, (prompts, V), float32."""
    import torch

    texts = tokenizer.apply_chat_template(
        [row["prompt"] for row in prompts], tokenize=False, add_generation_prompt=True
    )
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    with torch.no_grad(), evaluate.evaluation_mode(policy):
        return policy(**batch.to(policy.device)).logits[:, -1].float()


def walk(base: str) -> dict:
    """The whole way once; every statement of the record is asserted on it."""
    profile = profile_of(base)
    models.prepare(profile)  # unsloth first
    rows, held_out = data.load_task(profile.task, seed=0)
    prompts, tests = (data.grpo_rows(r, system_prompt=profile.task["system_prompt"]) for r in (rows, held_out))
    policy, tokenizer = train.warm_start(profile, rows, seed=0)
    settings = {"max_new_tokens": profile.grpo["max_completion_length"], **profile.evaluate}
    evaluate.accuracy(policy, tokenizer, tests, **settings)

    run = tracking.Run("grpo", profile, mode="off")
    trainer = train.grpo_trainer(policy, tokenizer, prompts, list(rewards.FOUR), profile, run=run, seed=0)
    train.resume_or_start(trainer)
    norms = [row["grad_norm"] for row in run.rows()]
    assert len(norms) == STEPS and all(math.isfinite(norm) and norm > 0 for norm in norms), norms
    samples = evaluate.accuracy(trainer.model, tokenizer, tests, **settings)["samples"] * len(tests)

    folder = export.save_adapter(trainer.model, tokenizer, run.folder / "adapter")
    report = export.adapter_report(folder)
    assert not report.all_zero and not report.non_finite
    plain, _ = models.load_policy(profiles.current("ci"), path=base)
    loaded = export.load_adapter(plain.to(trainer.model.dtype), folder)
    merged = export.load_merged(export.merge(trainer.model, tokenizer, run.folder / "merged"))
    found = {
        "adapter": logits_of(loaded, tokenizer, tests),
        "merged": logits_of(merged, tokenizer, tests),
    }
    with loaded.disable_adapter():
        found["without adapter"] = logits_of(loaded, tokenizer, tests)
    wanted = logits_of(trainer.model, tokenizer, tests)
    off = {name: (logits - wanted).abs().max().item() for name, logits in found.items()}
    assert max(off["adapter"], off["merged"]) < TOLERANCE < off["without adapter"], off

    again, _ = train.warm_start(profile, rows, seed=0)
    assert hasattr(again, "peft_config"), "the saved warm start is an adapter, and is loaded"
    profile.kernels = {"linear_head": True}
    try:
        preflight.check(profile.grpo, prompts, list(rewards.FOUR), profile)
    except ValueError as error:
        refusal = str(error)
    assert "Unsloth" in refusal
    assert not os.listdir("."), "Unsloth leaves nothing in the working folder"
    return {
        "trainer": f"{type(trainer).__module__}.{type(trainer).__qualname__}",
        "policy": type(policy).__name__,
        "dtype": str(policy.dtype).removeprefix("torch."),
        "grad_norms": norms,
        "evaluated": samples,
        "tensors": report.tensors,
        "largest_difference": off,
        "kernels_beside_it": refusal,
    }


def main() -> None:
    """Make the base, walk, write the record."""
    place = Path(tempfile.mkdtemp(prefix="grpo_nb_unsloth_"))
    os.environ |= {"GRPO_NB_OUTPUTS": str(place / "outputs"), "GRPO_NB_TRACK": "off"}
    if not (child := os.fork()):
        make_base(str(place / "base"))
        os._exit(0)
    os.waitpid(child, 0)
    (place / "work").mkdir()
    os.chdir(place / "work")
    found = walk(str(place / "base"))
    packages = ("unsloth", "unsloth_zoo", "torch", "transformers", "trl", "peft", "bitsandbytes")
    record = {"versions": {name: version(name) for name in packages}, "machine": machine.described(), **found}
    files.write_text(RESULTS, json.dumps(record, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
