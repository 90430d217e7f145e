"""The project's promise: the cpu profile learns, with every seed, measured on problems that it never trained on."""

import json

import pytest

from benchmarks import learning
from grpo_nb import profiles

MINIMUM_GAIN = 0.20  # of sampled accuracy on held-out problems


def test_the_record_is_of_the_present_profile():
    record = json.loads((learning.RESULTS / "learning.json").read_text(encoding="utf8"))
    assert len(record["seeds"]) >= 5
    assert record["profile"] == vars(profiles.current("cpu")), "the cpu profile changed: run make bench"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_grpo_learns_what_imitation_could_not(seed, tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path))
    result = learning.learn(profiles.current("cpu"), seed)
    before, after = result["before"], result["after"]
    said = f"seed {seed}: sampled {before['sampled']:.3f} → {after['sampled']:.3f}, greedy {before['greedy']:.3f} → "
    print(said + f"{after['greedy']:.3f}, format {before['format']:.3f} → {after['format']:.3f}")
    assert after["sampled"] - before["sampled"] >= MINIMUM_GAIN
    assert after["greedy"] >= before["greedy"]
    assert min(before["format"], after["format"]) >= 0.95
    rewards = [row["reward"] for row in result["curve"]]
    assert len(rewards) == profiles.CPU["grpo"]["max_steps"]
    assert sum(rewards[-10:]) > sum(rewards[:10]), "the curve rises"
