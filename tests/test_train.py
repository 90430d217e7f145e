"""What the assembled trainers train, and that a run is refused before it costs anything."""

import copy
import re
import threading

import pytest
import torch

import grpo_nb
from grpo_nb import data, models, profiles, rewards, train
from grpo_nb.runs import checkpoints, files


def prompts(rows):
    return data.grpo_rows(rows, system_prompt="Show your work.")


def test_missing_columns_are_refused_before_sft_touches_a_model(profile, rows):
    with pytest.raises(ValueError, match="SFT needs the column 'completion'"):
        train.sft_trainer(None, None, prompts(rows), profile)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lr": 1e-3}, "lr → learning_rate"),
        ({"learning_rate": 5}, "learning_rate must be above 0"),
        ({"logging_steps": 7}, "save_steps must be a multiple of 7"),
    ],
)
def test_a_slip_in_the_settings_is_refused_before_sft_touches_a_model(changes, sentence, profile, rows):
    with pytest.raises(ValueError, match=sentence):
        train.sft_trainer(None, None, data.sft_rows(rows), profile, **changes)


def test_a_slip_in_the_settings_stops_a_warm_start_before_a_model_is_built(profile, rows, monkeypatch):
    monkeypatch.setattr(models, "load_policy", lambda *args, **kwargs: pytest.fail("a model was loaded"))
    for section, key, value, sentence in [
        ("sft", "warmup_ratio", 0.1, "warmup_ratio → warmup_steps"),
        ("sft", "learning_rate", -1.0, "learning_rate must be above 0"),
        ("sft", "max_steps", "5", "max_steps must be a whole number"),
        ("grpo", "learning_rate", 1e3, "learning_rate must be above 0 and at most 0.01"),
        ("grpo", "kl_coef", 0.1, "kl_coef → beta"),
        ("grpo", "num_generations", 5, "multiple of num_generations"),
        ("grpo", "num_iterations", 3, "save_steps must be a multiple of 3"),
    ]:
        broken = profiles.current("ci")
        getattr(broken, section)[key] = value
        with pytest.raises(ValueError, match=sentence):
            train.warm_start(broken, rows)
    for seed in ("0", 1.5, True, None, -1):
        with pytest.raises(ValueError, match=r"seed must be a whole number of at least 0 \(got .*\). Try seed = [012]"):
            train.warm_start(profile, rows, seed=seed)
    with pytest.raises(ValueError, match="a warm start needs the column 'working'"):
        train.warm_start(profile, [{"problem": "1+1?", "answer": "2"}])


def test_where_few_traces_are_short_the_shortest_are_kept(profile, tiny):
    rows = data.sft_rows([{"problem": "1+1?", "answer": "2", "working": "1" * n} for n in range(1, 301)])
    lengths = data.token_lengths(rows, tiny[1])  # each is one token longer than the one before
    for context, kept in [
        (2 * lengths[99], 100),  # a hundred fit into half of it
        (2 * lengths[9], train.FEWEST_TRACES),  # ten do
        (lengths[29], 30),  # thirty fit at all
    ]:
        profile.policy["max_seq_length"] = context
        assert train.short_traces(rows, tiny[1], profile) == (rows[:kept], lengths[kept - 1])
    profile.policy["max_seq_length"] = lengths[0] - 1
    with pytest.raises(ValueError, match=rf"at least one row must fit \(got 300 rows, shortest {lengths[0]}, limit"):
        train.short_traces(rows, tiny[1], profile)


def test_traces_may_be_easier_problems_of_the_task(profile):
    profile.task["traces"] = {"digits": 1, "num_train": 30, "num_held_out": 0}
    _, held_out = data.load_task(profile.task)
    traces = train.trace_rows(profile)
    assert len(traces) == 30 and all(re.fullmatch(r"What is \d\+\d\?", row["problem"]) for row in traces)
    profile.task["digits"] = 1  # the same problems: those that are held out are not shown
    profile.task.update(num_train=20, num_held_out=10)
    shown = {row["problem"] for row in train.trace_rows(profile)}
    assert 20 <= len(shown) < 30 and not shown & {row["problem"] for row in data.load_task(profile.task)[1]}


def test_a_profile_that_will_evaluate_has_its_warm_start(profile, rows, monkeypatch):
    """The held-out rows are the trainer's affair, later."""
    monkeypatch.setattr(models, "load_policy", lambda *args, **kwargs: pytest.fail("reached"))
    profile.grpo.update(eval_strategy="steps", eval_steps=2, eval_on_start=True)
    with pytest.raises(pytest.fail.Exception, match="reached"):
        train.warm_start(profile, rows)


def test_sft_puts_the_loss_on_the_completion_only(profile, rows, tiny):
    policy, tokenizer = tiny
    trainer = train.sft_trainer(policy, tokenizer, data.sft_rows(rows, system_prompt="Show your work."), profile)
    row = trainer.train_dataset[0]
    trained = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
    solution = f"{rows[0]['working']}<end_working_out><SOLUTION>{rows[0]['solution']}</SOLUTION>{tokenizer.eos_token}"
    assert tokenizer.decode(trained) == solution


def test_sft_moves_every_weight_and_grpo_only_the_adapter(profile, rows, tiny):
    policy, tokenizer = tiny
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    trainer = train.sft_trainer(policy, tokenizer, data.sft_rows(rows, system_prompt="Show your work."), profile)
    trainer.train()
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == set(before)
    assert all(torch.equal(p, before[name]) for name, p in policy.named_parameters()), "a cell can be run again"

    def lively(completions, **columns):
        return [float(i) for i in range(len(completions))]

    trainer = train.grpo_trainer(policy, tokenizer, prompts(rows), [lively], profile)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all("lora_" in name for name in moved)
    assert any("lora_B" in name for name in moved)


def test_rows_that_truncation_would_empty_are_refused(profile, rows, tiny):
    """TRL cuts at max_length, then drops rows whose completion is gone: with the long system prompt, all of them."""
    with pytest.raises(ValueError, match=r"max_length = 16 must leave some of each completion \(got 0 of 64 rows"):
        train.sft_trainer(*tiny, data.sft_rows(rows), profile, max_length=16)


def test_warm_start_is_trained_once_per_recipe(profile, rows):
    first, _ = train.warm_start(profile, rows)
    path = train.warm_start_path(profile, rows)
    stamp = (path / "model.safetensors").stat().st_mtime_ns
    again, _ = train.warm_start(profile, rows)
    assert (path / "model.safetensors").stat().st_mtime_ns == stamp
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert train.warm_start_path(profile, rows, seed=1) != path
    for section, key, value in [("sft", "learning_rate", 1e-5), ("lora", "r", 4), ("task", "system_prompt", "Add.")]:
        changed = profiles.current("ci")
        changed.__dict__.update(copy.deepcopy(vars(profile)))
        getattr(changed, section)[key] = value
        assert train.warm_start_path(changed, rows) != path


def test_a_warm_start_of_another_version_is_left_alone_and_named(profile, rows, capsys):
    train.warm_start(profile, rows)
    path = train.warm_start_path(profile, rows)
    assert "SFT trains anew" not in capsys.readouterr().out
    (path / train.VERSIONS).unlink()  # grpo_nb 0.1.0 wrote none, and had another digest
    older = path.rename(path.with_name("warm_start-0123456789"))
    train.warm_start(profile, rows)
    said = f"SFT trains anew: the warm starts in {path.parent} are of grpo_nb 0.1.0, this is {grpo_nb.__version__}.\n"
    assert said in capsys.readouterr().out and older.exists() and path.exists()
    train.warm_start(profile, rows, seed=1)
    assert "SFT trains anew" not in capsys.readouterr().out, "there is one of this version: a learner's other seed"


def test_a_warm_start_that_another_notebook_trains_is_waited_for(profile, rows, tiny, monkeypatch):
    path, said, held = train.warm_start_path(profile, rows), [], threading.Event()
    waits = threading.Event()

    def trains():
        with files.lock(path.with_name(path.name + ".lock"), busy=""):
            held.set()
            waits.wait(60)
            for part in tiny:
                part.save_pretrained(path)

    monkeypatch.setattr(files, "print", lambda *words, **how: (said.extend(words), waits.set()), raising=False)
    monkeypatch.setattr(train, "_train_warm_start", lambda *args, **kwargs: pytest.fail("it was trained a second time"))
    other = threading.Thread(target=trains)
    other.start()
    assert held.wait(60)
    policy, _ = train.warm_start(profile, rows)
    other.join()
    assert said == [f"Another notebook or terminal trains this warm start: waiting for {path}."]
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), tiny[0].parameters(), strict=True))


def test_same_seed_same_run(profile, rows):
    def reward_curve():
        policy, tokenizer = models.load_policy(profile, rows)
        trainer = train.grpo_trainer(policy, tokenizer, prompts(rows), [rewards.match_format_approximately], profile)
        trainer.train()
        return [{k: v for k, v in log.items() if "time" not in k} for log in trainer.state.log_history[:-1]]

    assert reward_curve() == reward_curve()


def test_the_profiles_switches_choose_the_trainer(profile, rows, tiny):
    import trl

    from grpo_nb.kernels.trainer import KernelGRPOTrainer

    names, setting = set(), (*tiny, prompts(rows), [rewards.match_format_approximately], profile)
    for switches in (profile.kernels, {**profile.kernels, "shared_prefix": False}, {}, {"linear_head": False}):
        profile.kernels = switches
        trainer = train.grpo_trainer(*setting)
        assert type(trainer) is (KernelGRPOTrainer if any(switches.values()) else trl.GRPOTrainer)
        names.add(str(checkpoints.sealer_of(trainer).fingerprint["switch"]))
    assert len(names) == 4, "a run is not resumed under other switches: it would draw other completions"


def test_a_switch_that_is_not_named_is_off(profile, rows, tiny):
    profile.kernels = {"cached_sampler": True}
    trainer = train.grpo_trainer(*tiny, prompts(rows), [rewards.match_format_approximately], profile)
    assert trainer._has_cached_sampler and trainer._plug is None and not trainer._drops_dead_rows


def test_an_unknown_switch_is_refused(profile, rows, tiny):
    profile.kernels = {"shared_prompt": True}
    with pytest.raises(ValueError, match=r"got shared_prompt\). It has own_loss, linear_head, shared_prefix"):
        train.grpo_trainer(*tiny, prompts(rows), [rewards.match_format_approximately], profile)


def test_an_adapter_is_trained_on_or_refused(profile, rows, tiny):
    """By SFT too, which otherwise trains all the weights that are not frozen."""
    policy, tokenizer = tiny
    traces, prompts = data.sft_rows(rows, system_prompt="Add."), data.grpo_rows(rows, system_prompt="Add.")

    def trainers(policy):
        yield lambda: train.sft_trainer(policy, tokenizer, traces, profile)
        yield lambda: train.grpo_trainer(policy, tokenizer, prompts, list(rewards.FOUR), profile, beta=0.04)

    adapted = models.add_lora(policy, profile)
    for make in trainers(adapted):
        assert make().model is adapted
    adapted.requires_grad_(False)
    for make in trainers(adapted):
        with pytest.raises(ValueError, match=r"the adapter called default \(got one that is frozen\)"):
            make()
    with pytest.raises(ValueError, match="some tensor of the policy must be trainable"):
        train.sft_trainer(models.own_copy(policy).requires_grad_(False), tokenizer, traces, profile)
