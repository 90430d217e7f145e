"""TRL's trainers, assembled from a profile's dicts; started, resumed; and the warm start.

A dict becomes an `SFTConfig` or a `GRPOConfig`, rows become a `datasets.Dataset`, and a mistake is named before a model
loads. TRL's trainer trains, in the CPU profiles with the advantages and the loss of this package.
"""

import copy
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

from grpo_nb import data, evaluate, guards, models, preflight, templates
from grpo_nb.batchflow import arithmetic, limits
from grpo_nb.preflight import evaluations
from grpo_nb.rewards import contract
from grpo_nb.runs import callbacks, checkpoints, files, fingerprints, resuming, stopping, tracking

FEWEST_TRACES = 64  # of a warm start, where the context holds so many: the public recipe keeps 59, at 1,024 tokens
VERSIONS = "versions.json"  # in the folder of a warm start: what trained it; grpo_nb 0.1.0 wrote none


def sft_trainer(
    policy,
    tokenizer,
    rows: Sequence[dict],
    profile: SimpleNamespace,
    *,
    held_out: Sequence[dict] | None = None,
    run: tracking.Run | None = None,
    guard: str | dict = "stop",
    seed: int = 0,
    **changes,
):
    """TRL's `SFTTrainer` on prompt/completion rows: the loss falls on completion tokens only.

    A policy built from nothing trains all its weights but those that are frozen; a pretrained one that the profile
    names, and any policy that carries a LoRA adapter, trains the adapter.

    Args:
        rows: from `data.sft_rows`.
        held_out: rows to evaluate on in mid-run, every `eval_steps` steps; see `grpo_trainer`.
        run: where metrics and checkpoints go; None writes no metrics.
        guard: what happens to bad gradients and weights, see `guards.Watch`; or a `Watch`.
        changes: settings of `SFTConfig` that differ from the profile's.
    Returns: `trl.SFTTrainer`; `resume_or_start(trainer)` trains, `trainer.model` is the result.
    """
    config = _config(profile.sft, seed, changes)
    watch = guards.watch_of(guard)
    settings = {key: value for key, value in config.items() if key != "output_dir"}
    report = preflight.check_sft(settings, rows, profile, held_out=held_out)
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    evaluations.check_given(settings, SFTConfig, held_out)
    has_adapter = "model_name" in profile.policy or hasattr(policy, "peft_config")
    policy = models.add_lora(policy, profile, seed=seed) if has_adapter else models.own_copy(policy)
    models.check_trains(policy)
    trainer = SFTTrainer(
        model=policy,
        args=SFTConfig(**_arguments(config, _trainer_dir(profile, "sft", run))),
        train_dataset=Dataset.from_list(list(rows)),
        eval_dataset=None if held_out is None else Dataset.from_list(list(held_out)),
        processing_class=tokenizer,
    )
    if not len(trainer.train_dataset):
        raise ValueError(
            f"max_length = {trainer.args.max_length} must leave some of each completion (got 0 of {len(rows)} rows "
            "after truncation). Raise it, or drop long rows with data.keep_short."
        )
    _evaluate_apart(trainer, watch, report)
    return _with_callbacks(trainer, run, watch.callbacks(), _sealer(trainer, rows, (), config, held_out=held_out))


def grpo_trainer(
    policy,
    tokenizer,
    rows: Sequence[dict],
    rewards: Sequence[Callable],
    profile: SimpleNamespace,
    *,
    loss: Callable | None = None,
    held_out: Sequence[dict] | None = None,
    show_every: int | None = None,
    run: tracking.Run | None = None,
    guard: str | dict = "stop",
    seed: int = 0,
    **changes,
):
    """TRL's `GRPOTrainer` on the profile's settings; the policy gets its LoRA adapter if it has none.

    Where the profile turns on `kernels`, it is `kernels.trainer.KernelGRPOTrainer`: the same steps in less time, with
    the advantages and the loss of this package.

    Args:
        rows: from `data.grpo_rows`.
        rewards: functions `f(completions, **columns) -> list[float | None]`.
        loss: a loss per token of your own, `f(logps, old_logps, advantages, mask, **settings)`, in place of the loss
            type's; see `KernelGRPOTrainer`.
        held_out: rows to evaluate on in mid-run, with `eval_strategy="steps"` and `eval_steps`: `eval_reward`, … in the
            metrics. Each evaluation draws the same random numbers, and the training is what it is without any.
        show_every: steps between two looks at completions, printed as text; None prints none.
        run: where metrics and checkpoints go; None writes no metrics.
        guard: "stop" ends the run at the first thing that would spoil it, "skip" leaves it out and counts; a dict
            decides for some guards only; a `guards.Watch` has limits of its own.
        changes: settings of `GRPOConfig` that differ from the profile's.
    Returns: `trl.GRPOTrainer`; `resume_or_start(trainer)` trains, `trainer.model` is the PEFT model.
    Raises: ValueError from `preflight`, for an adapter that cannot train, and for a loss that cannot.
    """
    config = _config(profile.grpo, seed, changes)
    watch = guards.watch_of(guard)
    rewards = () if rewards is None else rewards  # none is none, not left out
    # Whether embedding and head are tied `add_lora` sees; what the profile names is perhaps another policy.
    given = {"tokenizer": tokenizer, "held_out": held_out, "is_tied": False}
    report = check_grpo(rows, rewards, profile, loss=loss, seed=seed, **given, **changes)
    samples = _samples(watch, show_every, rewards)
    from datasets import Dataset
    from trl import GRPOConfig

    args = GRPOConfig(**_arguments(config, _trainer_dir(profile, "grpo", run)))
    trainer = _grpo_class(profile, loss)(
        model=models.add_lora(policy, profile, seed=seed),
        reward_funcs=watch.rewards(rewards),
        args=args,
        train_dataset=Dataset.from_list(list(rows)),
        eval_dataset=None if held_out is None else Dataset.from_list(list(held_out)),
        processing_class=tokenizer,
    )
    _evaluate_apart(trainer, watch, report)
    watching = [*samples, *watch.callbacks(rewards, differ=report["rewards_differ"])]
    sealer = _sealer(trainer, rows, rewards, config, held_out=held_out, switches=profile.kernels, loss=loss)
    return _with_callbacks(trainer, run, watching, sealer)


def check_grpo(
    rows: Sequence[dict],
    rewards: Sequence[Callable],
    profile: SimpleNamespace,
    *,
    loss: Callable | None = None,
    held_out: Sequence[dict] | None = None,
    tokenizer=None,
    is_tied: bool | None = None,
    seed: int = 0,
    **changes,
) -> dict:
    """All that `grpo_trainer` refuses before it has a model.

    Args:
        tokenizer, is_tied: as in `preflight.check`; the others as in `grpo_trainer`.
    Returns: preflight's report.
    Raises: ValueError for the first thing that is wrong.
    """
    config = _config(profile.grpo, seed, changes)
    report = preflight.check(config, rows, rewards, profile, tokenizer=tokenizer, held_out=held_out, is_tied=is_tied)
    _grpo_class(profile, loss)
    from trl import GRPOConfig

    from grpo_nb.kernels import package_loss

    evaluations.check_given(config, GRPOConfig, held_out)
    if loss is not None:
        package_loss.check_loss(loss, GRPOConfig(**_arguments(config, _trainer_dir(profile, "grpo", None))))
    return report


def _grpo_class(profile: SimpleNamespace, loss: Callable | None) -> Callable:
    """TRL's trainer, or with switches that are on the one that has them; what is not named is off."""
    switches = profile.kernels
    if loss is not None and profile.policy["backend"] == "unsloth":
        raise ValueError(
            f"a loss of your own needs a trainer of this package (got the profile {profile.name}, whose loss Unsloth "
            "compiles). Pass no loss, or take a profile whose policy is loaded by transformers."
        )
    if not any(switches.values()) and loss is None:
        from trl import GRPOTrainer

        return GRPOTrainer
    from grpo_nb.kernels.trainer import SWITCHES, KernelGRPOTrainer

    if unknown := sorted(map(str, set(switches) - set(SWITCHES))):
        raise ValueError(
            f"profile.kernels must have switches of KernelGRPOTrainer (got {', '.join(unknown)}). It has "
            f"{', '.join(SWITCHES)}."
        )
    if odd := {name: value for name, value in switches.items() if not isinstance(value, bool)}:
        raise ValueError(f"profile.kernels must hold True or False for each switch (got {odd!r:.80}). Write True.")
    chosen = dict.fromkeys(SWITCHES, False) | switches | ({"own_loss": True, "loss": loss} if loss is not None else {})
    return functools.partial(KernelGRPOTrainer, **chosen)


def _samples(watch: guards.Watch, every: int | None, rewards: Sequence) -> list[callbacks.Samples]:
    if every is None:
        return []
    if not arithmetic.is_count(every):
        raise ValueError(
            f"show_every must be a whole number of steps, or None to print nothing (got {every!r}). Try show_every=5."
        )
    if not any(map(contract.is_function, rewards)):
        raise ValueError(
            "show_every shows what reward functions have scored (got reward models only). "
            "Add a function, or try log_completions = True, which is TRL's."
        )
    return [callbacks.Samples(watch, every)]


def _evaluate_apart(trainer, watch: guards.Watch, report: dict) -> None:
    """Let evaluations change nothing of the training but its metrics, and say what they will take."""
    own, logs_completions = trainer.evaluate, getattr(trainer, "log_completions", False)

    @functools.wraps(own)
    def evaluate_apart(*args, **kwargs):
        # TRL has one table of completions, and one file of it for each step: it is to hold those of the training.
        latest, table = watch.latest, getattr(trainer, "_logs", None)
        trainer._logs, trainer.log_completions = copy.deepcopy(table), False
        try:
            with evaluate.apart(trainer.model, seed=trainer.args.seed):
                return own(*args, **kwargs)
        finally:
            watch.latest, trainer._logs, trainer.log_completions = latest, table, logs_completions

    trainer.evaluate = evaluate_apart
    if report.get("evaluations"):
        print(evaluations.sentence(report))


def _config(settings: dict, seed: int, changes: dict) -> dict:
    # The filter replaces a NaN loss by the mean of earlier ones in the log, so that nobody sees it.
    return {"logging_nan_inf_filter": False, **settings, "seed": seed, **changes}


def _arguments(config: dict, folder: str) -> dict:
    """The arguments of TRL's config class; the sealer removes old checkpoints in the trainer's stead."""
    return {"output_dir": folder, "disable_tqdm": True, **config, "save_total_limit": None}


def _trainer_dir(profile: SimpleNamespace, stage: str, run: tracking.Run | None) -> str:
    folder = run.folder if run else (tracking.outputs_dir() / profile.name / stage).absolute()
    return str(folder / "trainer")


def _sealer(trainer, rows, rewards, config: dict, **beside) -> checkpoints.Sealer:
    tokenizer = trainer.processing_class
    fingerprint = fingerprints.fingerprint(trainer.args, rows, rewards, trainer.model, tokenizer, **beside)
    return checkpoints.Sealer(fingerprint, keep=config.get("save_total_limit"))


def _with_callbacks(trainer, run, watching: list, sealer: checkpoints.Sealer):
    """Metrics first, so that a step is on the disk before a guard objects to it; seals last, of what passed."""
    from transformers.trainer_callback import PrinterCallback

    # It prints every log as a dict; metrics.jsonl and the live table say it better.
    trainer.remove_callback(PrinterCallback)
    for callback in [*(run.callbacks() if run else ()), callbacks.SumFromZero(trainer), *watching, sealer]:
        trainer.add_callback(callback)
    return trainer


def resume_or_start(trainer, *, minutes: float | None = None, fresh: bool = False):
    """Train: on from the newest sealed checkpoint of this run, or from the beginning if there is none.

    A run that was killed and resumed is, on one machine with one number of threads, bit for bit the run that was not.
    A kernel interrupt seals a checkpoint at the next step from which the run can go on (the next step of all, where
    each step logs and has completions of its own), then ends the cell.

    Args:
        trainer: from `grpo_trainer` or `sft_trainer`, in the state in which it left there.
        minutes: stop at a seal, before this much time is over if the steps take as long as those before; call again,
            in a new session too, to go on.
        fresh: leave what is there (it is kept as `trainer.previous`) and start at the beginning.
    Returns: `transformers.trainer_utils.TrainOutput`; `trainer.state.global_step` says how far it came.
    Raises: ValueError if the settings cannot be resumed equally, or if the run that was cut had other settings, rows,
        rewards, weights or versions, or if its checkpoints will not fit on the disk; OSError if the disk is full or
        read-only all the same; whatever a guard raises.
    """
    sealer = checkpoints.sealer_of(trainer)
    if not isinstance(fresh, bool):
        raise ValueError(f"fresh must be True or False (got {fresh!r}). True starts at the beginning.")
    folder = Path(trainer.args.output_dir)
    with resuming.lock(folder):
        return resuming.train(trainer, sealer, stopping.Stopper(minutes), fresh=fresh)


def warm_start(profile: SimpleNamespace, rows: Sequence[dict] | None = None, *, seed: int = 0, run=None):
    """The policy after SFT, trained now or taken from the disk if the same profile, rows and seed trained it before.

    An SFT run that was cut goes on where its last sealed checkpoint is.

    Args:
        rows: worked rows; None takes `trace_rows`. Of them `short_traces` are imitated.
        run: a `tracking.Run` for the metrics; None logs to the run "sft".
    Returns: (policy, tokenizer), reloaded from `warm_start_path(...)`.
    """
    limits.check_whole(seed=seed, least=0)
    preflight.check_settings(profile.sft, profile, stage="sft")
    preflight.check_settings(profile.grpo, profile, has_eval_data=True)  # a slip there should not cost an SFT run
    rows = trace_rows(profile, seed=seed) if rows is None else rows
    preflight.check_columns(rows, ["problem", "answer", "working"], why="a warm start")
    path = warm_start_path(profile, rows, seed=seed)
    if not path.exists():
        run = run or tracking.Run("sft", profile)
        busy = f"Another notebook or terminal trains this warm start: waiting for {path}."
        with files.lock(path.with_name(path.name + ".lock"), busy=busy, wait=True):
            if not path.exists():
                trained = _train_warm_start(profile, rows, path, seed=seed, run=run)
                if profile.policy["backend"] == "unsloth":
                    return trained  # vLLM is already up; loading an 8B model twice would not fit
    return models.load_policy(profile, path=path)


def _train_warm_start(profile: SimpleNamespace, rows: Sequence[dict], path: Path, *, seed: int, run: tracking.Run):
    print(_written_by_others(path.parent), end="")
    policy, tokenizer = models.load_policy(profile, rows, seed=seed)
    prompts = data.sft_rows(rows, system_prompt=profile.task["system_prompt"])
    kept, limit = short_traces(prompts, tokenizer, profile)
    if len(kept) < len(prompts):
        print(f"{len(kept)} of {len(prompts)} traces have at most {limit} tokens, SFT imitates those.")
    unfinished = path.with_name(path.name + ".unfinished")  # another recipe's checkpoints are not this one's
    trainer = sft_trainer(policy, tokenizer, kept, profile, run=run, seed=seed, output_dir=str(unfinished))
    resume_or_start(trainer)
    with files.replacing(path) as draft:
        trainer.model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        files.write_text(draft / VERSIONS, json.dumps(fingerprints.versions(), indent=1))
    shutil.rmtree(unfinished, ignore_errors=True)
    return trainer.model, tokenizer


def _written_by_others(folder: Path) -> str:
    """A line where all warm starts in a folder were written by other versions of grpo_nb; else empty."""
    ours, written = fingerprints.versions()["grpo_nb"], set()
    for start in folder.glob("warm_start-" + 10 * "[0-9a-f]"):
        file = start / VERSIONS
        written.add(json.loads(file.read_text(encoding="utf8"))["grpo_nb"] if file.exists() else "0.1.0")
    if not written or ours in written:
        return ""
    return (
        f"SFT trains anew: the warm starts in {folder} are of grpo_nb {', '.join(sorted(written))}, this is {ours}.\n"
    )


def trace_rows(profile: SimpleNamespace, *, seed: int = 0) -> list[dict]:
    """Rows with working-out to imitate: the task's own; or of what `task["traces"]` says, the name of a data set, or a
    dict of what differs from the task (easier options, fewer rows).
    """
    rows, held_out = data.load_task(profile.task, seed=seed)
    if "traces" not in profile.task:
        return rows
    traces = profile.task["traces"]
    if isinstance(traces, dict):
        rows, _ = data.load_task({**profile.task, **traces}, seed=seed)
    else:
        rows = data.load_rows(traces)
    return data.without_problems(rows, held_out)


def short_traces(rows: Sequence[dict], tokenizer, profile: SimpleNamespace) -> tuple[list[dict], int]:
    """The rows of at most half the context, so that GRPO's completions have room to grow; if these are too few to learn
    a layout from, the shortest `FEWEST_TRACES` that the context holds.

    Args:
        rows: from `data.sft_rows`.
    Returns: (kept rows, tokens of the longest that may be kept).
    Raises: ValueError if none fits into the context.
    """
    context = profile.policy["max_seq_length"]
    fitting, _ = data.keep_short(rows, tokenizer, max_tokens=context)
    return data.keep_short(fitting, tokenizer, max_tokens=context // 2, at_least=FEWEST_TRACES)


def warm_start_path(profile: SimpleNamespace, rows: Sequence[dict], *, seed: int = 0) -> Path:
    """Where the warm start of exactly these settings, rows, template and library versions lies."""
    layout = [
        templates.chat_template(profile.task["system_prompt"] or templates.SYSTEM_PROMPT),
        *data.sft_rows(rows[:1]),
    ]
    stack = fingerprints.versions()
    sections = [profile.task, profile.policy, profile.lora, profile.sft]
    recipe = json.dumps([sections, list(rows), seed, layout, stack], sort_keys=True)
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:10]
    return tracking.outputs_dir() / profile.name / f"warm_start-{digest}"
