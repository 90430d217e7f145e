"""One dict per profile, copied before it is handed out."""

import os
from pathlib import Path

import pytest

from grpo_nb import profiles


def test_cpu_is_the_default(monkeypatch):
    monkeypatch.delenv("GRPO_NB_PROFILE", raising=False)
    assert profiles.current().name == "cpu"
    monkeypatch.setenv("GRPO_NB_PROFILE", "a100")
    assert profiles.current().policy["model_name"] == "Qwen/Qwen3-8B-Base"


def test_every_profile_has_the_same_sections():
    for name, profile in profiles.PROFILES.items():
        assert profile.keys() == profiles.CPU.keys(), name


def test_editing_a_profile_leaves_the_next_one_alone():
    profiles.current("cpu").grpo["num_generations"] = 2
    profiles.current("cpu").lora["target_modules"].clear()
    assert profiles.current("cpu").grpo["num_generations"] == 8
    assert len(profiles.current("cpu").lora["target_modules"]) == 7


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match=r"one of ci, cpu, laptop, t4, a100 \(got 'gpu'\)"):
        profiles.current("gpu")


# What the environment says.
HOME = Path("/home/me")
FOLDERS = {
    **dict.fromkeys(("~/x", "~/x/", "$HOME/x", "${HOME}/x", ' "~/x" ', "'~/x'", " ~/x\t"), HOME / "x"),
    **dict.fromkeys(("~", "$HOME", "~/"), HOME),
    **dict.fromkeys(("", "  ", '""', "''"), None),
    "./~x": Path("~x"),
    "a/~/b": Path("a/~/b"),
    "outputs": Path("outputs"),
    "/data/用户 [1] 100% #1": Path("/data/用户 [1] 100% #1"),
    "/data/5$": Path("/data/5$"),
    "/data/\udcff": Path("/data/\udcff"),  # a byte that is no UTF-8
}


@pytest.mark.parametrize("given", FOLDERS)
def test_a_folder_is_followed_as_a_shell_would(given, monkeypatch):
    monkeypatch.setenv("HOME", str(HOME))
    monkeypatch.setenv("USERPROFILE", str(HOME))
    monkeypatch.setenv("GRPO_NB_OUTPUTS", given)
    assert profiles.folder_named("GRPO_NB_OUTPUTS") == FOLDERS[given]


ODD = ["~nobody-here/x", "~nobody-here", "$NOT_SET/x", "${NOT_SET}/x", "/data/$NOT_SET", "$(pwd)/x", "${A:-b}/x"]
ODD += ["s3://bucket/x", "file:///x", "gs://x"] + ([r"%USERPROFILE%\x"] if os.name != "nt" else [])


@pytest.mark.parametrize("given", ODD)
def test_a_folder_that_would_be_made_under_an_odd_name_is_refused(given, monkeypatch):
    monkeypatch.setenv("GRPO_NB_DATA", given)
    with pytest.raises(
        ValueError, match=r"GRPO_NB_DATA must name a folder \(got '.*, and there is no ([~$%]|[a-z0-9]+:)"
    ):
        profiles.folder_named("GRPO_NB_DATA")


def test_blanks_and_quotes_around_a_setting_are_the_shells(monkeypatch):
    """`set GRPO_NB_PROFILE=t4 && python` on Windows leaves a blank."""
    monkeypatch.setenv("GRPO_NB_PROFILE", ' "t4" ')
    assert profiles.current().name == "t4"
