"""Every example of CONTRIBUTING.md is performed in a scratch copy of the package, and fails without its change."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
NEW = "loss type, loss of your own, reward, explorer, guard, profile, metric, exporter, data set, method".split(", ")
NOTICED = {  # kind → the tests that its section names, and which of them run on the changed copy: the quick ones
    "loss type": {
        "tests/test_losses.py": "not trls",
        "tests/test_explorers_lengths.py": "",
        "tests/test_kernels.py": "every_loss and unclipped",
        "tests/test_preflight_settings.py": "choices_are or loss_types_are",
    },
    "reward": {"tests/test_rewards.py": "", "tests/test_rewards_adversarial.py": ""},
    "explorer": {"tests/test_explorers.py": "pairs"},  # not the count, which whoever adds one brings up to date
    "guard": {"tests/test_guards.py": "resumed or solved or policy or skipping"},
    "profile": {"tests/test_profiles.py": "not unknown"},  # nor those that name all that there are
    "data set": {"tests/test_data.py": "not unknown and not gsm8k"},
    "method": {"tests/test_paradigms.py": ""},
}
TINY, TRY = "# The tiny run.", "# Try it"
RUNNER = """
import json, os, pathlib, sys, traceback

for folder in sys.argv[1:]:  # one after the other: the libraries are imported once, the package for each copy
    for name in [name for name in sys.modules if name.partition(".")[0] in ("grpo_nb", "tests", "benchmarks", "tools")]:
        del sys.modules[name]
    os.chdir(folder)
    sys.path[0] = folder
    os.environ["GRPO_NB_OUTPUTS"] = os.path.join(folder, "outputs")
    import grpo_nb

    package, blocks = pathlib.Path(grpo_nb.__file__).parent, json.loads(pathlib.Path("blocks.json").read_text("utf8"))
    found, shared = {"package": str(package)}, {}
    exec(blocks.pop("tiny"), shared)
    for name, code in blocks.items():
        try:
            exec(compile(code, name, "exec"), dict(shared))
            found[name] = ""
        except Exception:
            found[name] = traceback.format_exc()
    pathlib.Path("found.json").write_text(json.dumps(found), "utf8")
"""


class Example(NamedTuple):
    """One section: its words, edits of files, new files, and what must run afterwards."""

    text: str
    edits: list[tuple[str, str, str]]  # file, text that is there once, text in its place
    files: dict[str, str]
    tries: list[str]


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def examples(text: str) -> dict[str, Example]:
    """Heading → its example, of every section `### A …` or `### An …`.

    >>> examples("### A gift\\n```diff\\n--- a.py\\n-old\\n+new\\n```\\n")["gift"].edits
    [('a.py', 'old\\n', 'new\\n')]
    """
    found = {}
    for heading, body in re.findall(r"^### An? ([^\n]+)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL):
        example = found[heading.partition(",")[0]] = Example(body, [], {}, [])
        for language, content in blocks(body):
            first, _, rest = content.partition("\n")
            if language == "diff":
                name = first.removeprefix("--- ")
                example.edits.extend((name, *_before_and_after(hunk)) for hunk in re.split(r"^@@\n", rest, flags=re.M))
            elif first.startswith(TRY):
                example.tries.append(content)
            else:
                example.files[first.removeprefix("# ")] = rest
    return found


def _before_and_after(hunk: str) -> tuple[str, str]:
    lines = [line or " " for line in hunk.splitlines()]
    assert all(line[0] in " +-" for line in lines), f"a line of a diff begins with a blank, + or -: {lines}"
    return tuple("".join(line[1:] + "\n" for line in lines if line[0] in kinds) for kinds in (" -", " +"))


def apply(example: Example, root: Path) -> None:
    """Make the example's change in a copy of the package.

    Raises: ValueError if a file is not as the example says.
    """
    for name, before, after in example.edits:
        text = (root / name).read_text(encoding="utf8")
        places = [found.start() for found in re.finditer("^" + re.escape(before), text, re.MULTILINE)]
        if len(places) != 1:
            raise ValueError(f"{name} must hold these lines once. Bring CONTRIBUTING.md up to date:\n{before}")
        text = text[: places[0]] + after + text[places[0] + len(before) :]
        (root / name).write_text(text, encoding="utf8")
    for name, text in example.files.items():
        if (root / name).exists():
            raise ValueError(f"{name} must be new (got one that is there). Bring CONTRIBUTING.md up to date.")
        (root / name).write_text(text, encoding="utf8")


def copied(folder: Path) -> Path:
    for name in ("grpo_nb", "tests", "benchmarks", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def surroundings(folder: Path) -> dict[str, str]:
    """The environment in which the copy is what gets imported."""
    ours = {"PYTHONPATH": str(folder), "GRPO_NB_OUTPUTS": str(folder / "outputs"), "OMP_NUM_THREADS": "1"}
    ours |= {"GRPO_NB_PROFILE": "ci", "GRPO_NB_TRACK": "off", "TQDM_DISABLE": "1"}
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")} | ours


def verdicts(chosen: dict[str, Example], *folders: Path) -> list[dict]:
    """For each copy `section: number of the block` → the traceback of a block that failed; all in one process."""
    tried = {f"{name}: {i}": code for name, example in chosen.items() for i, code in enumerate(example.tries)}
    (tiny,) = [content for _, content in blocks(TEXT) if content.startswith(TINY)]
    for folder in folders:
        (folder / "blocks.json").write_text(json.dumps({"tiny": tiny, **tried}), encoding="utf8")
    command, env = [sys.executable, "-c", RUNNER, *map(str, folders)], surroundings(folders[0])
    ran = subprocess.run(command, cwd=folders[0], env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = [json.loads((folder / "found.json").read_text(encoding="utf8")) for folder in folders]
    packages = [verdict.pop("package") for verdict in found]
    assert packages == [str(folder / "grpo_nb") for folder in folders], "each copy is what was imported"
    return found


TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf8")
EXAMPLES = examples(TEXT)
TRIES = [f"{name}: {i}" for name, example in EXAMPLES.items() for i in range(len(example.tries))]
CHANGES = [name for name in TRIES if EXAMPLES[name.partition(":")[0]].edits or EXAMPLES[name.partition(":")[0]].files]


@pytest.fixture(scope="module")
def changed_copy(tmp_path_factory):
    """A folder in which every example's change has been made."""
    folder = copied(tmp_path_factory.mktemp("changed"))
    for example in EXAMPLES.values():
        apply(example, folder)
    return folder


@pytest.fixture(scope="module")
def both(changed_copy, tmp_path_factory):
    """What the blocks say where every example's change has been made, and where none has."""
    return verdicts(EXAMPLES, changed_copy, copied(tmp_path_factory.mktemp("unchanged")))


@pytest.fixture(scope="module")
def changed(both):
    return both[0]


@pytest.fixture(scope="module")
def unchanged(both):
    return both[1]


def test_there_is_an_example_of_everything():
    assert list(EXAMPLES) == NEW
    assert all(example.tries for example in EXAMPLES.values())


@pytest.mark.parametrize("name", TRIES)
def test_an_example_does_what_it_says(name, changed):
    assert changed[name] == "", changed[name]


def test_a_section_names_the_tests_that_notice():
    for kind, files in NOTICED.items():
        assert [file for file in files if file not in EXAMPLES[kind].text] == [], kind


def test_the_tests_that_are_named_take_the_changes(changed_copy):
    """A contributor who did what the section says finds no other test red."""
    chosen = {file: words for files in NOTICED.values() for file, words in files.items()}
    which = " or ".join(f"({Path(file).name}{words and f' and ({words})'})" for file, words in chosen.items())
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", which, *chosen]
    ran = subprocess.run(command, cwd=changed_copy, env=surroundings(changed_copy), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", ran.stdout)[1]) > 300


@pytest.mark.parametrize("name", CHANGES)
def test_an_example_fails_without_its_change(name, unchanged):
    assert unchanged[name] != ""


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_can_be_made_alone(name, tmp_path):
    """It changes lines that are there, and what is left is formatted and lints clean."""
    apply(EXAMPLES[name], copied(tmp_path))
    for command in (["format", "--check"], ["check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "grpo_nb", "tests"]
        ran = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout


def test_a_change_that_does_not_fit_is_refused(tmp_path):
    (tmp_path / "a.py").write_text("one\ntwo\ntwo\n", encoding="utf8")
    for edit in [("a.py", "two\n", "three\n"), ("a.py", "four\n", ""), ("a.py", "ne\n", "")]:
        with pytest.raises(ValueError, match="must hold these lines once"):
            apply(Example("", [edit], {}, []), tmp_path)
    with pytest.raises(ValueError, match="must be new"):
        apply(Example("", [], {"a.py": ""}, []), tmp_path)
    apply(Example("", [("a.py", "one\n", "zero\n")], {}, []), tmp_path)
    assert (tmp_path / "a.py").read_text(encoding="utf8") == "zero\ntwo\ntwo\n"


def test_the_blocks_are_formatted_as_notebooks_are(tmp_path):
    """88 columns for what is run, so that it can be pasted into a cell."""
    for i, (language, content) in enumerate(blocks(TEXT)):
        if language == "python" and content.startswith((TINY, TRY)):
            (tmp_path / f"block_{i}.py").write_text(content, encoding="utf8")
    ruff = [sys.executable, "-m", "ruff", "format", "--diff", "--line-length", "88", "--isolated", str(tmp_path)]
    ran = subprocess.run(ruff, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
