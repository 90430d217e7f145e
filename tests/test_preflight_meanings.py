"""What the text says of a setting is what the pinned TRL says: a release that changes one fails a test by its name."""

import ast
import dataclasses
import inspect
import json
import random
import re
from pathlib import Path

import datasets
import pytest
import torch

from grpo_nb import advantages, losses, preflight
from tests import kernel_trainers, small_runs
from tools.pages import parameters

ROOT = Path(__file__).parent.parent
COMMITTED = parameters.PAGE.read_text(encoding="utf8")
KEYS = re.findall(r"^\| `(\w+)` \|", COMMITTED, re.MULTILINE)
DEFAULT = re.compile(r"`(\w{2,60})` \(default `([^`]{1,40})`\)")
SHARED = {
    (function.__name__, name): parameter.default
    for function in (
        losses.grpo_loss,
        losses.clipped_surrogate,
        advantages.combine_rewards,
        advantages.group_advantages,
        losses.token_weights,
    )
    for name, parameter in inspect.signature(function).parameters.items()
    if parameter.default is not inspect.Parameter.empty
}
# Arguments with a TRL key's name that a function of one micro-batch cannot know by itself: what they fall back to.
FALLBACKS = {"max_completion_length": None, "steps_per_generation": 1}


@pytest.fixture(scope="module")
def fresh() -> str:
    return parameters.page()


def trls_defaults() -> dict:
    from trl import GRPOConfig

    return {field.name: field.default for field in dataclasses.fields(GRPOConfig)}


# The page.
@pytest.mark.parametrize("key", KEYS)
def test_default_and_meaning_are_those_of_the_installed_trl(key, fresh):
    assert parameters.line_of(key, COMMITTED) == parameters.line_of(key, fresh), f"{key} has changed: run `make docs`"


def test_the_page_has_every_key(fresh):
    assert COMMITTED == fresh, "run `make docs`"
    assert len(KEYS) == len(preflight.meanings()) > 70 and parameters.REMARKS.keys() <= set(KEYS)


def test_a_changed_default_would_be_seen():
    line = parameters.line_of("beta", COMMITTED)
    assert "| `0.0` |" in line and parameters.line_of("beta", COMMITTED.replace("| `0.0` |", "| `0.04` |")) != line


@pytest.mark.parametrize("key", parameters.REMARKS)
def test_a_remark_names_a_test_that_exists(key):
    file, _, name = parameters.REMARKS[key][1].partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf8"))
    assert name in [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


# The functions.
@pytest.mark.parametrize(("function", "name"), SHARED, ids=lambda value: value)
def test_our_default_is_trls(function, name):
    ours, theirs = SHARED[function, name], trls_defaults()
    if name in FALLBACKS:
        assert ours == FALLBACKS[name] and name in theirs
    elif name in theirs:
        assert ours == theirs[name]
    else:
        ours_alone = {"entropies", "num_items_in_batch", "num_processes", "surrogate"}
        assert name.endswith("logps") or name in ours_alone, f"{name}: whose?"


def test_defaults_that_two_settings_share_are_trls():
    theirs, of = trls_defaults(), lambda function, name: inspect.signature(function).parameters[name].default
    sides = [[f"vespo_k_{side}", f"vespo_lambda_{side}"] for side in ("pos", "neg")]
    assert of(losses.gamma_weights, "k_and_lambda") == tuple(tuple(theirs[key] for key in keys) for keys in sides)
    temperatures = theirs["sapo_temperature_pos"], theirs["sapo_temperature_neg"]
    assert of(losses.soft_gate, "temperatures") == temperatures
    bounds = theirs["vllm_importance_sampling_clip_min"], theirs["vllm_importance_sampling_clip_max"]
    assert of(losses.sampling_ratio, "bounds") == bounds


def test_most_settings_of_the_loss_are_ours_too():
    shared = {name for _, name in SHARED} & trls_defaults().keys()
    assert len(shared) >= 22, sorted(shared)


# The text.
def stated_defaults(text: str) -> list[tuple[str, str]]:
    return DEFAULT.findall(text)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_default_stated_in_a_notebook_is_trls(path):
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for key, value in stated_defaults(text):
        assert value in (repr(trls_defaults()[key]), str(trls_defaults()[key])), f"{key} (default {value})"


def test_the_text_test_can_fail():
    assert stated_defaults("`beta` (default `0.04`), `delta` (default `None`)") == [("beta", "0.04"), ("delta", "None")]


# The function that reads them.
def test_meanings_are_short_and_plain():
    (row,) = preflight.meanings(["epsilon_high"], sentences=1)
    assert row == {
        "key": "epsilon_high",
        "default": "None",
        "meaning": "Upper-bound epsilon value for clipping.",
    }
    whole = preflight.meanings(["epsilon_high"], sentences=None)[0]["meaning"]
    assert "ScaleRL paper" in whole and "](" not in whole and whole.endswith("`5.0`.")
    assert preflight.meanings(["gradient_checkpointing"])[0]["meaning"].count("%") == 1, "argparse's %% is one %"


def test_an_outdated_key_has_no_meaning():
    with pytest.raises(ValueError, match=r"kl_coef → beta"):
        preflight.meanings(["epsilon", "kl_coef"])


def test_one_key_may_come_alone():
    assert preflight.meanings("beta") == preflight.meanings(["beta"])


# What the remarks say that no other test shows.
def test_temperature_divides_the_scored_logits_and_top_k_does_not(small_policy, tmp_path, monkeypatch):
    """The trainer's own log-probs are log_softmax(logits / 0.5), over all tokens though top_k = 2 can draw two."""
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    trainer, _ = small_runs.trainer_of(small_policy, temperature=0.5, top_k=2)
    ids = torch.randint(10, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    model = trainer.model.eval()
    with torch.no_grad():
        theirs = trainer._get_per_token_logps_and_entropies(model, ids, torch.ones_like(ids), 4)[0]
        scores = (model(input_ids=ids).logits[:, 4:-1].float() / 0.5).log_softmax(-1)
    torch.testing.assert_close(theirs, scores.gather(2, ids[:, 5:].unsqueeze(2)).squeeze(2), rtol=1e-4, atol=1e-4)


def test_normalize_then_sum_does_without_scale_rewards():
    scores = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    options = {"num_generations": 4, "multi_objective_aggregation": "normalize_then_sum"}
    first, second, third = (
        advantages.combine_rewards(scores, scale_rewards=scale, **options) for scale in ("group", "batch", "none")
    )
    assert torch.equal(first, second) and torch.equal(second, third)


def test_truncated_completions_count_in_their_group_and_train_nothing(small_policy, tmp_path, monkeypatch):
    """Two tokens each, none of them the last: all are truncated. Their rewards differ, and so do their advantages."""
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    scores = iter(range(1000))

    def rising(completions, **columns):
        return [float(next(scores)) for _ in completions]

    trainer, _ = small_runs.trainer_of(
        small_policy, reward=rising, max_completion_length=2, mask_truncated_completions=True
    )
    trainer.model.train()
    scored = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    assert scored["completion_mask"].sum() == 0 and (scored["advantages"] != 0).all()


def by_call(completions, **columns):
    """0 for each completion of the first call, 1 of the second, …"""
    by_call.calls += 1
    return [float(by_call.calls)] * len(completions)


def evaluate_with_trl(folder, **changes) -> dict:
    """Metrics of TRL's own trainer for three held-out rows of two completions, in batches of four."""
    by_call.calls = -1
    settings = {"num_generations_eval": 2, "per_device_eval_batch_size": 4, **changes}
    trainer = kernel_trainers.trainer_of(kernel_trainers.tiny_model(), folder, **settings)
    trainer.reward_funcs = [by_call]
    return trainer.evaluate(trainer.train_dataset.select(range(3)))


def test_an_evaluation_is_averaged_over_batches(tmp_path):
    """By hand: four completions of reward 0 and two of reward 1 have the mean 1/3; their two batches have 1/2."""
    assert evaluate_with_trl(tmp_path)["eval_reward"] == 0.5


def test_an_evaluation_replaces_the_table_of_its_step(tmp_path, capsys):
    table = tmp_path / "completions" / "completions_00000.parquet"
    table.parent.mkdir()
    table.write_bytes(b"of the training")
    evaluate_with_trl(tmp_path, log_completions=True)
    assert (
        len(datasets.Dataset.from_parquet(str(table), cache_dir=str(tmp_path))) == 6
        and "Completion" in capsys.readouterr().out
    )


def test_printed_completions_are_drawn_by_pythons_random(tmp_path, capsys):
    """The trainer begins at seed 42: after an evaluation comes the first number, or the one after a draw of two."""
    (tmp_path / "completions").mkdir()
    after = []
    for printed in (None, 2):
        evaluate_with_trl(tmp_path, log_completions=True, num_completions_to_print=printed)
        after.append(random.random())
    random.seed(42)
    first = random.random()
    random.seed(42)
    random.sample(range(6), 2)
    assert after == [first, random.random()]
