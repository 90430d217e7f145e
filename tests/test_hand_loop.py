"""The training loop that notebook 06 writes out: TRL's gradients, TRL's steps, TRL's reward within noise."""

import copy
import inspect
import itertools
import json
import re

import pytest
import torch
import transformers
import trl
from test_notebooks import SOLUTION

from benchmarks import hand_loop, survival
from grpo_nb import checks, data, models, profiles, train
from grpo_nb.checks import filling, loop
from tests import kernel_trainers

CELLS = json.loads(hand_loop.NOTEBOOK.read_text(encoding="utf8"))["cells"]
MARKDOWN = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown"]
BLANKS = [text for text in MARKDOWN if text.startswith("### Blank")]
EXACT = 1e-5  # relative, of float32 gradients that are summed in another order


def solutions() -> dict:
    """The five functions of the folded solutions, by the name of their part."""
    space = {"torch": torch}
    for text in BLANKS:
        exec(SOLUTION.search(text)[1], space)
    return {name: space[f"your_{name}"] for name in filling.CHECKS}


@pytest.fixture(scope="module")
def setting(small_policy):
    """(profile, policy, tokenizer, prompts): TRL's own trainer, prompts of two lengths so that some are padded."""
    profile, (policy, tokenizer, _) = survival.small_profile(), small_policy
    profile.kernels = {}
    profile.grpo.update(max_steps=3, temperature=0.8, warmup_steps=0.4)  # rates of 0, a half and the whole
    mixed = [row for digits in (1, 3) for row in data.addition(num_train=16, num_held_out=0, digits=digits)[0]]
    return profile, policy, tokenizer, data.grpo_rows(mixed, system_prompt="Add.")


@pytest.fixture(scope="module")
def recorded(setting, tmp_path_factory):
    """(trainer, [(rows, scored batch)]) of TRL's own trainer after three steps."""
    profile, policy, tokenizer, prompts = setting
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRPO_NB_OUTPUTS", str(tmp_path_factory.mktemp("trl")))
        trainer = train.grpo_trainer(policy, tokenizer, prompts, [survival.variety], profile, guard="skip")
    own, seen = trainer._generate_and_score_completions, []

    def noted(rows):
        seen.append((copy.deepcopy(rows), own(rows)))
        return copy.deepcopy(seen[-1][1])

    trainer._generate_and_score_completions = noted
    trainer.train()
    return trainer, seen


def batch_of(scored: dict, eos: int) -> dict:
    """A batch of the notebook's loop, made of what TRL sampled and scored."""
    return {
        "ids": torch.cat([scored["prompt_ids"], scored["completion_ids"]], 1),
        "attended": scored["prompt_mask"],
        "mask": loop.mask(scored["completion_ids"], eos),
        "rewards": torch.zeros(1),
        "advantages": scored["advantages"],
    }


# --- golden -----------------------------------------------------------------------------------------------------------


def test_there_are_five_blanks_and_their_solutions_pass(capsys):
    assert [re.match(r"### Blank (\d) of 5 — the \S+", text)[1] for text in BLANKS] == list("12345")
    parts = checks.filled(**solutions())
    assert capsys.readouterr().out == "yours: mask, advantages, logps, loss, step\n"
    assert vars(parts).keys() == filling.CHECKS.keys()


def test_the_loop_is_about_forty_lines():
    code = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
    written = [text for text in code if re.match(rf"def ({'|'.join(hand_loop.FUNCTIONS)})\(", text)]
    solved = [SOLUTION.search(text)[1] for text in BLANKS]
    assert len(written) == 3
    assert 40 <= len("\n".join(written).splitlines()) <= 62  # as ruff breaks them
    assert max(len(text.splitlines()) for text in solved) <= 5


def test_in_a_gpu_profile_unsloth_comes_before_what_it_patches():
    """No import of the notebook names them; `models.prepare` stands before the first call that loads them."""
    code = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
    assert not [text for text in code if re.search(r"^\s*(from|import) (transformers|trl|peft)\b", text, re.MULTILINE)]
    first = next(text for text in code if "load_task" in text or "warm_start" in text)
    assert first.startswith("models.prepare(PROFILE)\n")


# --- law --------------------------------------------------------------------------------------------------------------


def test_the_solutions_train_what_the_package_trains(setting):
    """Two steps that sample themselves: same completions, same weights."""
    profile, policy, tokenizer, prompts = setting
    trained, logs = [], []
    for parts in (checks.filled(**solutions()), checks.filled()):
        hand = models.add_lora(policy, profile, seed=0)
        space = hand_loop.written_loop(REWARDS=[survival.variety])
        logs.append(space["train_by_hand"](hand, tokenizer, prompts, parts, profile.grpo, steps=2, seed=0))
        trained.append([p.detach() for p in hand.parameters() if p.requires_grad])
    assert [row["step"] for row in logs[0]] == [1, 2] and logs[0][0]["reward"] > 0
    assert all(ours == pytest.approx(theirs, abs=1e-6) for ours, theirs in zip(*logs, strict=True))
    assert all(torch.allclose(ours, theirs, atol=1e-6) for ours, theirs in zip(*trained, strict=True))
    start = [p for p in models.add_lora(policy, profile, seed=0).parameters() if p.requires_grad]
    assert not all(torch.equal(now, then) for now, then in zip(trained[0], start, strict=True))


# --- oracle -----------------------------------------------------------------------------------------------------------


def test_gradients_of_one_scored_batch_are_trls(recorded, setting):
    """Of every LoRA matrix, after three steps, when none of them is zero any more."""
    (trainer, seen), profile = recorded, setting[0]
    loss_of, eos = hand_loop.written_loop()["loss_of"], trainer.processing_class.eos_token_id
    assert any(scored["prompt_mask"].min() == 0 for _, scored in seen), "some prompts are padded"
    both = (filling.filled(), filling.filled(**solutions()))
    for (_, scored), parts in itertools.product(seen, both):
        assert scored["advantages"].abs().max() > 0.1
        trls_loss = trainer._compute_loss(trainer.model, dict(scored))
        theirs = kernel_trainers.gradients(trls_loss, trainer.model)
        loss = loss_of(trainer.model, batch_of(scored, eos), parts, profile.grpo)
        ours = kernel_trainers.gradients(loss, trainer.model)
        assert loss.item() == pytest.approx(trls_loss.item(), abs=1e-6)
        assert kernel_trainers.distance(ours, theirs) < EXACT
        assert len(theirs) == 2 * 2 * 7 and all(gradient.abs().max() > 0 for gradient in theirs.values())


def test_masks_and_advantages_are_trls(recorded, setting):
    (trainer, seen), profile = recorded, setting[0]
    for _, scored in seen:
        ids, eos = scored["completion_ids"], trainer.processing_class.eos_token_id
        assert torch.equal(loop.mask(ids, eos), scored["completion_mask"].long())
        written = trainer.processing_class.batch_decode(ids, skip_special_tokens=True)
        rewards = torch.tensor(survival.variety(written))
        assert torch.allclose(loop.advantages(rewards, profile.grpo["num_generations"]), scored["advantages"])


def test_steps_on_trls_completions_are_trls_steps(recorded, setting):
    """Prompts in TRL's order; and fed with what TRL sampled, the loop ends at its weights: AdamW, cut, schedule."""
    (trainer, seen), (profile, policy, tokenizer, prompts) = recorded, setting
    asked, fed = [], iter(seen)

    def sampled(policy, tokenizer, rows, parts, settings):
        asked.append([row["prompt"] for row in rows])
        return batch_of(next(fed)[1], tokenizer.eos_token_id)

    space = hand_loop.written_loop()
    space["sample_and_score"] = sampled
    hand = models.add_lora(policy, profile, seed=0)
    space["train_by_hand"](hand, tokenizer, prompts, filling.filled(), profile.grpo, steps=3, seed=0)
    assert asked == [[row["prompt"] for row in rows] for rows, _ in seen]
    pairs = zip(hand.named_parameters(), trainer.model.named_parameters(), strict=True)
    off = [(ours - theirs).abs().max().item() for (_, ours), (_, theirs) in pairs]
    moved = max(p.abs().max().item() for name, p in hand.named_parameters() if "lora_B" in name)
    assert max(off) < 1e-2 * moved, (max(off), moved)


def test_the_record_is_within_noise():
    """Some seeds of the notebook's loop, and of TRL's own trainer, at the settings of today."""
    record = json.loads(hand_loop.RECORD.read_text(encoding="utf8"))
    assert record["profile"] == {**vars(profiles.current("ci")), "kernels": {}}, "python -m benchmarks.hand_loop"
    seeds = record["seeds"]
    assert len(seeds) >= 3 and record["difference"] == pytest.approx(hand_loop.difference(seeds))
    assert record["difference"]["low"] <= 0 <= record["difference"]["high"]
    assert record["difference"]["high"] - record["difference"]["low"] < 1, "an interval that says something"
    for seed, name in itertools.product(seeds, ("hand", "TRL")):
        rewards = seed[name]["rewards"]
        assert len(rewards) == profiles.CI["grpo"]["max_steps"]
        assert sum(rewards[-hand_loop.LATE :]) > sum(rewards[: hand_loop.LATE]) + 0.3 * hand_loop.LATE
        assert seed[name]["sampled"] > 0.9


# --- the table --------------------------------------------------------------------------------------------------------


def rows_of_the_table() -> list[tuple[str, str, str]]:
    (text,) = (text for text in MARKDOWN if "| your loop | in TRL" in text)
    found = re.findall(r"^\| (.+?) \| `(\w+)` \| `(.+?)` \|$", text, re.MULTILINE)
    assert len(found) == len(re.findall(r"^\| ", text, re.MULTILINE)) - 1
    return found


@pytest.mark.parametrize(("line", "method", "look_for"), rows_of_the_table(), ids=lambda value: value)
def test_trls_methods_exist_and_do_what_the_table_says(line, method, look_for):
    assert look_for in inspect.getsource(getattr(trl.GRPOTrainer, method))


def test_the_table_names_the_lines_of_the_loop():
    code = "\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code")
    code += "\n".join(SOLUTION.search(text)[1] for text in BLANKS)
    for line, _, _ in rows_of_the_table():
        names = re.findall(r"`([^`]+)`", line)
        assert names and all(name in code for name in names), line
    assert issubclass(trl.GRPOTrainer, transformers.Trainer)
