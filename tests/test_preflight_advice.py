"""What a refusal advises is done as it is written, until nothing is refused; then the trainer starts."""

import ast
import copy
import dataclasses
import functools
import inspect
import math
import pathlib
import random
import re
import traceback
from types import SimpleNamespace

import numpy
import pytest
import torch
from test_preflight_settings import suggestions
from trl import GRPOConfig, SFTConfig

from grpo_nb import data, preflight, profiles, rewards, templates, train
from grpo_nb.batchflow import arithmetic
from grpo_nb.preflight import dry_runs, generations, keys, rehearsals, rules, signatures, values
from tools.pages import refusals

ROUNDS = 5
FIELDS = {field.name for field in dataclasses.fields(GRPOConfig)}


# Followers: what a reader does who is told so. Each takes the run and the match, and changes the run.
def row_of(run, sentence: str) -> dict:
    return run.rows[int(re.search(r"rows? (?:0 and )?(\d+)", sentence)[1])]


def drop_row(run, match):
    run.rows.remove(row_of(run, match.string))


def rename_keys(run, match):
    """Keys of a bad message, else columns: "Rename question to prompt and value to content"."""
    is_of_a_message = "messages (got" in match.string
    for place in row_of(run, match.string)["prompt"] if is_of_a_message else run.rows:
        for old, new in re.findall(r"(\w+) to (\w+)", match[1]):
            place[new] = place.pop(old)


def rename_one(run, match):
    """A column that TRL hands out itself, or a role."""
    if column := re.fullmatch(r"my_(\w+)", match[1]):
        for row in run.rows:
            row[match[1]] = row.pop(column[1])
    else:
        wrong = re.search(r"\(got '(\w+)'\)", match.string)[1]
        for turn in row_of(run, match.string)["prompt"]:
            turn["role"] = match[1] if turn["role"] == wrong else turn["role"]


def rename_settings(run, match):
    for old, new, rest in re.findall(r"(\w+) → (\w+)([^;]*)", match[1]):
        value = (run.lora if old in run.lora else run.settings).pop(old)
        if new in FIELDS and (not rest or rest.startswith(" below 1")):
            run.settings[new] = value


def drop_settings(run, match):
    key = match.string.split()[0] if match[1] == "it" else match[1]
    (run.lora if key in run.lora else run.settings).pop(key)


def own_turns_away(run, match):
    prompt = row_of(run, match.string)["prompt"]
    while prompt and prompt[-1]["role"] != "user":
        prompt.pop()
    if not prompt:
        drop_row(run, match)


def each_turn_whole(run, match):
    for turn in row_of(run, match.string)["prompt"]:
        turn.setdefault("content", "What is 1+1?")


def system_first(run, match):
    row_of(run, match.string)["prompt"].sort(key=lambda turn: turn["role"] != "system")


def read_again(run, match):
    for turn in row_of(run, match.string)["prompt"]:
        turn["content"] = turn["content"].replace("\ufeff", "").encode(errors="ignore").decode()


def without_held_out(run, match):
    tests = [row["prompt"] for row in run.held_out]
    run.rows = [row for row in run.rows if row["prompt"] not in tests]


def as_messages(run, match):
    for row in run.rows:
        if isinstance(row["prompt"], str):
            row["prompt"] = templates.prompt_messages(row["prompt"])


def as_text(run, match):
    for row in run.rows:
        row[match[1]] = str(row[match[1]])


def with_columns(run, match):
    def open_to_all(completions, **columns):
        return [float(len(str(completion))) for completion in completions]

    run.rewards = [open_to_all]


def put(**changes):
    """A follower that puts something in the place of what the run has; functions are called with run and match."""

    def follow(run, match):
        for name, change in changes.items():
            setattr(run, name, change(run, match) if callable(change) else change)

    return follow


# With the system prompt of the profile, as its notebooks write it: the default one is longer than a small context.
SHORT = profiles.current("ci").task["system_prompt"]
OURS = SimpleNamespace(as_rows=data.as_rows, grpo_rows=functools.partial(data.grpo_rows, system_prompt=SHORT))
DO_IT = put(rewards=[rewards.check_answer])
FOLLOWERS = {
    # settings
    r"Today's names: (.+)\.": rename_settings,
    r"Turn both off on a CPU;.*": lambda run, match: run.settings.update(fp16=False, bf16=False),
    r"Drop (\w+)[.;,].*": drop_settings,
    r"Write the keys as a dict; .*": put(settings={}),
    # rows
    r"Look at the filter that the rows went through\.": put(rows=lambda *_: refusals.good_rows()[0]),
    r"Pass one of them: dataset\['(\w+)'\]\.": put(rows=lambda run, match: run.rows[match[1]]),
    r"Turn it: datasets\.Dataset\.from_dict\(dataset\)\.": put(rows=lambda run, _: listed(run.rows)),
    r"(?:Pass|Keep|Drop it:|.* or pass) (data\.grpo_rows\(data\.as_rows\(rows\)\)|\[.+\])(?:, or .*)?\.": put(
        rows=lambda run, match: eval(match[1], {"data": OURS, "rewards": rewards, "rows": run.rows})
    ),
    r'Write \{"prompt": …, "answer": …\}\.': put(rows=lambda run, _: [{"prompt": r, "answer": "1"} for r in run.rows]),
    r"Load a file with .*, or make a list of dicts\.": put(rows=lambda run, _: list(run.rows)),
    r"Rename ((?:\w+ to \w+(?: and )?)+)\.": rename_keys,
    r"Rename it, (?:perhaps|for example) to '?(\w+)'?\.": rename_one,
    r"Fill it in, (?:or )?drop the row.*": drop_row,
    r"Turn text into messages with templates\.prompt_messages\(text\)\.": as_messages,
    r"Drop what the policy should write itself; .*": own_turns_away,
    r"Write both keys in every turn\.": each_turn_whole,
    r"Move it to the front\.": system_first,
    r"(?:Open the file|Read the file again) with .*": read_again,
    r"Drop them with data\.without_problems, .*": without_held_out,
    r"Make all of them text: str\(row\['(\w+)'\]\)\.": as_text,
    r"Drop long rows with data\.keep_short\(rows, tokenizer, max_tokens=(\d+)\)\.": lambda run, match: put(
        rows=data.keep_short(run.rows, run.tokenizer, max_tokens=int(match[1]))[0]
    )(run, match),
    # rewards
    r"Write \[(\w+)\]\.": put(rewards=lambda run, _: [run.rewards]),
    r"(?:Write|Try) .*\[rewards\.check_answer\]\.": DO_IT,
    r"Write def, and pass its name without \(\)\.": DO_IT,
    r"Pass a function, or make an object of the class\.": put(rewards=lambda run, _: [run.rewards[0]()]),
    r"Give each its own def\.": put(rewards=lambda run, _: run.rewards[:1]),
    r"End its parameters with \*\*columns\.": with_columns,
    r"Write (\w+) instead of \w+\.": with_columns,
    r"(?:A completion is a list .*)?Return 0\.0 for wrong and None for not applicable.*": DO_IT,
}


def listed(columns: dict) -> list[dict]:
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def run_of(*, line="", **wrong) -> SimpleNamespace:
    """A run of the ci profile with something wrong in it: rows after a line, settings, rewards."""
    rows, held_out = refusals.rows_of(line)
    run = SimpleNamespace(settings={}, rows=rows, held_out=None, rewards=refusals.REWARDS, tokenizer=None, lora={})
    vars(run).update(wrong, **({"held_out": held_out} if "held_out[" in line else {}))
    if isinstance(run.settings, dict):
        run.settings = {**profiles.current("ci").grpo, **run.settings}
    run.lora = {**profiles.current("ci").lora, **run.lora}
    return run


def refused(run) -> ValueError | None:
    profile = profiles.current("ci")
    profile.lora = run.lora
    try:
        with refusals.without_gpu_packages():
            preflight.check(
                run.settings, run.rows, run.rewards, profile, tokenizer=run.tokenizer, held_out=run.held_out
            )
    except ValueError as error:
        return error
    return None


def follow(run, sentence: str) -> None:
    """Do what a sentence advises: the first thing that it proposes."""
    if proposed := suggestions(sentence):
        for key, value in proposed[0].items():
            (run.lora if key in run.lora else run.settings)[key] = value
        return
    advice = re.split(r"\)\. (?=[A-Z])", sentence, maxsplit=1)[-1]
    fitting = [(pattern, act) for pattern, act in FOLLOWERS.items() if re.fullmatch(pattern, advice, re.DOTALL)]
    assert fitting, f"nobody has written down how to follow: {advice}"
    pattern, act = fitting[0]
    at = sentence.rindex(advice)
    act(run, re.compile(pattern, re.DOTALL).match(sentence, at))


def followed(run) -> tuple[SimpleNamespace, list[ValueError]]:
    """The run that nothing refuses any more, and what refused it before."""
    met: list[ValueError] = []
    while error := refused(run):
        assert len(met) < ROUNDS and str(error) not in map(str, met), f"no progress: {[*map(str, met), str(error)]}"
        met.append(error)
        follow(run, str(error))
    return run, met


# Rewards and other things that are no line of the page.
class Judge:
    def __call__(self, completions, **columns):
        return [float(len(str(completion))) for completion in completions]


def closed(completions):
    return [0.0] * len(completions)


def misnamed(responses, **columns):
    return [0.0] * len(responses)


def boundless(completions, **columns):
    return [math.inf] * len(completions)


ONE = rewards.check_answer
FUNCTIONS = [
    (), [], "check_answer", {"answer": ONE}, {ONE}, iter([ONE]), 3, ONE, Judge, [Judge], [ONE, ONE], [None],
    ["check_answer"], [ONE, 1], [len], [max], [dict], [closed], [misnamed], [boundless],
]  # fmt: skip
GENERATIONS = [
    {"temperature": 0.0}, {"temperature": 0.7}, {"top_p": 2}, {"top_k": 20}, {"min_p": "x"}, {"max_new_tokens": 8},
    {"max_length": 8}, {"repetition_penalty": 1.1}, {"num_return_sequences": 2}, {"cache_implementation": "static"},
    {"do_sample": False}, {"num_beams": 4}, {"eos_token_id": 3}, {"pad_token_id": 0}, {"logits_processor": 1},
    {"return_dict_in_generate": True}, {"output_scores": True}, {"stop_strings": ["x"]}, {"use_cache": False},
    {"guidance_scale": 2.0}, {"unknown": 1}, {1: 2}, "{}", {"typical_p": 3}, {"eta_cutoff": 1.5}, {"top_h": "x"},
    {"min_new_tokens": 99}, {"suppress_tokens": [10**6]}, {"suppress_tokens": "x"}, {"bad_words_ids": [5]},
    {"sequence_bias": 3}, {"exponential_decay_length_penalty": 3}, {"renormalize_logits": "x"},
    {"no_repeat_ngram_size": 0}, {"temperature": 0.5, "num_beams": 4, "suppress_tokens": [5]},
]  # fmt: skip
TEMPLATES = [{"enable_thinking": False}, {"turns": []}, {"tools": []}, {"padding": True}, "x", {"a": 1, "b": 2}]
ADAPTERS = [
    {"rank": 8}, {"alpha": 8}, {"r": 0}, {"r": 8.0}, {"r": "8"}, {"r": None}, {"lora_alpha": "16"}, {"lora_alpha": -1},
    {"lora_dropout": 1.0}, {"lora_dropout": math.nan}, {"bias": "yes"}, {"target_modules": None},
    {"target_modules": []}, {"target_modules": [1]}, {"target_modules": {"q_proj"}}, {"task_type": "SEQ_CLS"},
    {"modules_to_save": "norm"}, {"use_dora": "yes"}, {"rank_pattern": 3},
]  # fmt: skip
MORE = """
top_k=2.0
num_generations="8"
per_device_train_batch_size=10**30
num_generations=10**9
steps_per_generation=10**9
seed=1.5
num_iterations=10**30
max_grad_norm=float("inf")
max_steps=10**400
logging_steps=1.5
deepspeed="x.json"
accelerator_config="x.json"
lr_scheduler_kwargs="x"
lr_scheduler_kwargs={"a": 1}
lr_scheduler_type="cosine_with_min_lr"
optim_args="x"
adam_beta1=0
torch_compile_backend="x"
neftune_noise_alpha=5
log_level="x"
temperature=2
cache_implementation="x"
pad_to_multiple_of=0
report_to="x"
use_cache=0
dataloader_persistent_workers=True
optim="galore_adamw"
seed=numpy.int64(4)
debug="x"
scale_rewards=torch.zeros(2)
reward_weights="x"
vllm_importance_sampling_clip_max=None, vllm_importance_sampling_mode="token_truncate"
use_liger_kernel=True
data_collator=None, tools=[], optimizers=None
num_beams=4
n=8
per_device_train_batch_size=512, num_generations=2, generation_batch_size=700
generation_batch_size=10**9
""".strip().splitlines()


def cases(tokenizer) -> list:
    """(what is wrong, run)."""
    lines = [*refusals.SETTINGS, *MORE]
    found = [(line, run_of(settings=eval(f"dict({line})", {"torch": torch, "numpy": numpy}))) for line in lines]
    found += [(line, run_of(line=line, tokenizer=tokenizer)) for line in refusals.DATA_SETS]
    found += [(f"rewards {i}", run_of(rewards=given)) for i, given in enumerate(FUNCTIONS)]
    found += [(f"{given}", run_of(settings={"generation_kwargs": given}, tokenizer=tokenizer)) for given in GENERATIONS]
    found += [
        (f"{given}", run_of(settings={"chat_template_kwargs": given}, tokenizer=tokenizer)) for given in TEMPLATES
    ]
    found += [(f"{given}", run_of(lora=given)) for given in ADAPTERS]
    rows, _ = refusals.good_rows()
    found += [
        ("a generator", run_of(rows=iter(rows))),
        ("columns", run_of(rows={k: [r[k] for r in rows] for k in rows[0]})),
    ]
    texts = [{**row, "prompt": row["prompt"][-1]["content"]} for row in rows]
    batch = {"eval_strategy": "steps", "per_device_eval_batch_size": 12}
    found += [("evaluation", run_of(settings=batch, held_out=refusals.good_rows()[1]))]
    found += [("text", run_of(rows=texts, settings={"chat_template_kwargs": {"enable_thinking": False}}))]
    return [*found, ("a config", run_of(settings=SFTConfig(output_dir="runs", use_cpu=True, bf16=False)))]


def raises(module) -> set[tuple[str, int]]:
    """Where a module raises: its file, and the first line of the statement."""
    nodes = ast.walk(ast.parse(inspect.getsource(module)))
    return {(module.__file__, node.lineno) for node in nodes if isinstance(node, ast.Raise) and node.exc is not None}


def raised_at(error: BaseException) -> tuple[str, int]:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return frame.filename, frame.lineno


COVERED = (arithmetic, dry_runs, generations, keys, rehearsals, signatures, values)


@pytest.fixture(scope="module")
def followed_cases(small_policy):
    """(what was wrong, the run after the advice, what refused it): of every case."""
    return [(what, *followed(run)) for what, run in cases(small_policy[1])]


def test_every_advice_ends_in_a_run_that_nothing_refuses(followed_cases):
    assert all(met for _, _, met in followed_cases), [what for what, _, met in followed_cases if not met]
    rounds = [len(met) for _, _, met in followed_cases]
    assert max(rounds) > 1, "some need a second round"


def test_every_refusal_of_these_files_is_among_them(followed_cases, monkeypatch):
    """A new one needs a case here, so that somebody has followed its advice."""
    met = [error for _, _, errors in followed_cases for error in errors]
    monkeypatch.setattr(rules, "has_package", lambda name: True)  # beside vLLM there is one more
    vespo = {"loss_type": "vespo", "use_vllm": True, "vllm_importance_sampling_mode": "sequence_truncate"}
    met += followed(run_of(settings=vespo))[1]
    assert not {place for module in COVERED for place in raises(module)} - {*map(raised_at, met)}
    assert not [must for _, must, *_ in rules.RULES if not any(str(error).startswith(must) for error in met)]


def test_what_is_left_after_the_advice_is_a_run_that_starts(followed_cases, small_policy, profile):
    policy, tokenizer, _ = small_policy
    for number, (what, run, _) in enumerate(followed_cases):
        if number % 6:
            continue
        profile.grpo = run.settings
        evaluated = {"held_out": run.held_out} if run.settings.get("eval_strategy", "no") != "no" else {}
        with refusals.without_gpu_packages():
            trainer = train.grpo_trainer(policy, tokenizer, run.rows, run.rewards, profile, **evaluated)
        assert trainer.args.max_steps != 0 and len(trainer.get_train_dataloader()), what


def test_no_rewards_are_none_and_not_left_out(small_policy, profile):
    for none in ((), None):
        with pytest.raises(ValueError, match=r"rewards must hold at least one function \(got none\)"):
            train.grpo_trainer(*small_policy[:2], refusals.good_rows()[0], none, profile)


def test_a_template_variable_that_is_read_may_be_set(small_policy):
    """As Qwen3's, and one with a default of its own; `turns` is what the template makes for itself."""
    tokenizer = copy.deepcopy(small_policy[1])
    tokenizer.chat_template += "{% if enable_thinking is defined and not enable_thinking %}.{% endif %}"
    tokenizer.chat_template += "{% if not day is defined %}{% set day = 1 %}{% endif %}{{ day }}"
    kwargs = {"enable_thinking": False, "day": 2}
    assert refused(run_of(settings={"chat_template_kwargs": kwargs}, tokenizer=tokenizer)) is None
    error = refused(run_of(settings={"chat_template_kwargs": {**kwargs, "turns": []}}, tokenizer=tokenizer))
    assert "which are day, enable_thinking (got turns)" in str(error)


@pytest.mark.parametrize(
    "given",
    [
        {"do_sample": True, "num_beams": 1},
        {"suppress_tokens": [5], "typical_p": 0.9},
        {"sequence_bias": [[[5], 3.0]], "forced_eos_token_id": 2, "min_new_tokens": 2},
        {"exponential_decay_length_penalty": (3, 1.1), "bad_words_ids": [[5, 6]]},
    ],
)
def test_options_that_change_the_draw_of_a_token_pass(given, small_policy):
    assert refused(run_of(settings={"generation_kwargs": given}, tokenizer=small_policy[1])) is None


def test_a_key_and_the_same_option_of_generate_have_one_owner():
    assert all(owner in FIELDS for owner in generations.OWNERS.values())
    elsewhere = {key: owner for key, owner in generations.OWNERS.items() if key not in FIELDS}
    assert {key: keys.RENAMED[key] for key in elsewhere} == elsewhere


ODD = [
    None, "x", "", "auto", b"", -1, 0, 2, 0.5, 10**30, 10**400, math.inf, -math.inf, math.nan, True, [], {}, [None],
    {1: 2}, 1j, object(), int, pathlib.Path("x"), numpy.float32(2.5), numpy.int64(4), numpy.array([1, 2]),
    torch.tensor(3), torch.ones(2),
]  # fmt: skip


@pytest.mark.parametrize("config_class", [GRPOConfig, SFTConfig])
def test_no_value_raises_anything_but_one_sentence(config_class):
    """Four of 28 odd values for each field; all of them have been tried once."""
    rng, stage = random.Random(0), "grpo" if config_class is GRPOConfig else "sft"
    profile = profiles.current("ci")
    usual, accepted = getattr(profile, stage), 0
    for field in dataclasses.fields(config_class):
        for value in rng.sample(ODD, 4):
            settings = {**usual, field.name: value}
            try:
                preflight.check_settings(settings, profile, stage=stage)
            except ValueError as error:
                assert re.fullmatch(r"[^\n]+ \(got [^\n]*\)\. [A-Z][^\n]*\.", str(error)) and len(str(error)) < 500, (
                    error
                )
                continue
            accepted += 1
            config_class(output_dir="runs", **settings)
    assert accepted > 30


def test_no_refusal_prints_a_token():
    profile = profiles.current("ci")
    with pytest.raises(ValueError, match=r"hub_token must be text \(got a secret, list\)"):
        preflight.check_settings({**profile.grpo, "hub_token": ["hf_secret"]}, profile)
    settings = {"hub_token": "hf_secret", "log_level": "x", "report_to": "x"}
    with pytest.raises(ValueError, match="the settings together must be what TRL") as error:
        rehearsals.check_taken(settings, GRPOConfig)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("given", [{"temperature": 0.7, "num_beams": 4, "suppress_tokens": [5]}, {"max_new_tokens": 4}])
def test_and_takes_a_step(given, small_policy, profile):
    policy, tokenizer, _ = small_policy
    run = run_of(settings={"generation_kwargs": given, "save_strategy": "no", "max_steps": 1}, tokenizer=tokenizer)
    run.settings |= {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 8}
    profile.grpo = followed(run)[0].settings
    trainer = train.grpo_trainer(policy, tokenizer, run.rows, [Judge()], profile)
    trainer.train()
    assert trainer.state.global_step == 1
    assert trainer.generation_config.max_new_tokens == (4 if "max_new_tokens" in given else 8)
    assert trainer.generation_config.temperature == given.get("temperature", 1.0)
    assert "cached_sampler" not in trainer.left_to_trl()
