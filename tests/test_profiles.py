"""One dict per profile, copied before it is handed out."""

import pytest

from grpo_nb import profiles


def test_cpu_is_the_default(monkeypatch):
    monkeypatch.delenv("GRPO_NB_PROFILE", raising=False)
    assert profiles.current().name == "cpu"
    monkeypatch.setenv("GRPO_NB_PROFILE", "a100")
    assert profiles.current().policy["model_name"] == "Qwen/Qwen3-8B"


def test_every_profile_has_the_same_sections():
    for name, profile in profiles.PROFILES.items():
        assert profile.keys() == profiles.CPU.keys(), name


def test_editing_a_profile_leaves_the_next_one_alone():
    profiles.current("cpu").grpo["num_generations"] = 2
    profiles.current("cpu").lora["target_modules"].clear()
    assert profiles.current("cpu").grpo["num_generations"] == 8
    assert len(profiles.current("cpu").lora["target_modules"]) == 7


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match=r"one of ci, cpu, t4, a100 \(got 'gpu'\)"):
        profiles.current("gpu")
