"""The project's files agree with each other: pins, environment, dependencies, what `import grpo_nb` costs."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import grpo_nb

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))
HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "swanlab", "unsloth"}
TESTED_STACK = {
    "torch": "2.13.0",
    "transformers": "5.17.0",
    "trl": "1.14.2",
    "peft": "0.21.2",
    "datasets": "4.8.5",
    "accelerate": "1.15.0",
    "swanlab": "0.10.3",
    "nbmake": "1.5.5",
}
GPU_STACK = {**TESTED_STACK, "unsloth": "2026.10.7", "vllm": "0.30.0"}
GIVEN_BY_THE_PLATFORM = {"google", "kaggle_secrets"}  # only inside Colab and Kaggle


def lock_lines(stack: str) -> list[str]:
    lines = (ROOT / "locks" / f"{stack}.txt").read_text(encoding="utf8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def pins(stack: str) -> dict[str, str]:
    """Distribution → pinned version."""
    requirements = [Requirement(line) for line in lock_lines(stack)]
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in requirements}


def heavy_modules_after(statement: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after one statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return HEAVY & set(loaded.split())


# What an import costs.
def test_import_loads_nothing_heavy():
    assert heavy_modules_after("import grpo_nb") == set()


def test_the_import_test_can_fail():
    assert heavy_modules_after("import grpo_nb, torch") == {"torch"}


def test_modules_load_nothing_heavy_before_a_function_needs_it():
    mathematics = {"advantages", "kernels", "losses", "paradigms", "shapes"}  # torch is what they are made of
    mathematics |= {"checks"}  # and so are the answers to exercises
    package = ROOT / "grpo_nb"
    names = {path.stem for path in package.glob("[a-z]*.py")} | {p.parent.name for p in package.glob("*/__init__.py")}
    names |= {
        f"{room}.{path.stem}" for room in ("runs", "preflight", "guards") for path in package.glob(f"{room}/[a-z]*.py")
    }
    wanted = ", ".join(f"grpo_nb.{name}" for name in sorted(names - mathematics))
    assert heavy_modules_after(f"import {wanted}") == set()


def test_version_is_told_once():
    assert PYPROJECT["project"]["version"] == grpo_nb.__version__


def test_the_wheel_says_that_it_has_types():
    assert PYPROJECT["tool"]["setuptools"]["package-data"] == {
        "grpo_nb": ["py.typed", "data/gsm8k_sample/*", "evaluate/prose.txt"]
    }
    assert (ROOT / "grpo_nb" / "py.typed").read_bytes() == b""


def test_mypy_checks_the_whole_ground():
    """As `help(grpo_nb)` draws it: the rows of mathematics and ingredients, but for data and models."""
    ground = {"shapes", "advantages", "losses", "paradigms", "batchflow", "memory", "kernels"}
    ground |= {"profiles", "templates", "rewards"}
    assert {Path(name).stem for name in PYPROJECT["tool"]["mypy"]["files"]} == ground
    assert all((ROOT / name).exists() for name in PYPROJECT["tool"]["mypy"]["files"])


# The locks.
@pytest.mark.parametrize(("stack", "wanted"), [("cpu", TESTED_STACK), ("gpu", GPU_STACK)])
def test_lock_pins_the_tested_stack(stack, wanted):
    assert wanted.items() <= pins(stack).items()


@pytest.mark.parametrize(("stack", "extras"), [("cpu", ["dev"]), ("gpu", ["dev", "gpu"])])
def test_lock_fulfils_pyproject(stack, extras):
    project, locked = PYPROJECT["project"], pins(stack)
    for line in project["dependencies"] + [line for e in extras for line in project["optional-dependencies"][e]]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(locked[canonicalize_name(wanted.name)]), line


BESIDE = {
    "browser": PYPROJECT["dependency-groups"]["browser"],
    "laptop": PYPROJECT["project"]["optional-dependencies"]["laptop"],
}


@pytest.mark.parametrize("stack", BESIDE)
def test_a_lock_beside_the_stack_fulfils_its_group_and_repeats_nothing(stack):
    wanted = {Requirement(line) for line in BESIDE[stack]}
    assert {r.name: str(r.specifier).removeprefix("==") for r in wanted}.items() <= pins(stack).items()
    assert not set(lock_lines(stack)) & set(lock_lines("cpu"))
    known = pins("cpu")
    assert all(known.get(name, version) == version for name, version in pins(stack).items()), "one version of each"


@pytest.mark.parametrize("stack", ["cpu", "gpu", "browser", "laptop"])
def test_lock_is_exact_and_names_no_host(stack):
    for line in lock_lines(stack):
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", line), line
    assert len(pins(stack)) == len(lock_lines(stack)), "one version of each"


def test_cpu_lock_brings_no_cuda():
    cuda = [name for name in pins("cpu") if name.startswith(("nvidia-", "cuda-"))]
    assert cuda == ["nvidia-ml-py"]


def test_conda_environment_equals_the_cpu_lock():
    text = (ROOT / "environment.yml").read_text(encoding="utf8")
    assert re.findall(r"^      - (.+)$", text, re.MULTILINE) == lock_lines("cpu")
    assert "  - python=3.11\n" in text


def test_makefile_downloads_the_locked_unsloth():
    assert f"unsloth=={pins('gpu')['unsloth']}" in (ROOT / "Makefile").read_text(encoding="utf8")


# The dependencies.
def test_every_dependency_says_why_it_is_there():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf8")
    project = PYPROJECT["project"]
    groups = [*project["optional-dependencies"].values(), *PYPROJECT["dependency-groups"].values()]
    for line in project["dependencies"] + [d for group in groups for d in group]:
        assert re.search(rf'"{re.escape(line)}",\s+# \w.{{10,}}$', text, re.MULTILINE), f"{line}: why?"


def test_everything_that_is_imported_is_declared():
    imported = set()
    for path in [
        *(ROOT / "grpo_nb").rglob("*.py"),
        *(ROOT / "tests").glob("*.py"),
        *(ROOT / "benchmarks").rglob("*.py"),
        *(ROOT / "tools").rglob("*.py"),
    ]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    project = PYPROJECT["project"]
    lines = project["dependencies"] + [d for extra in project["optional-dependencies"].values() for d in extra]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    distributions = importlib.metadata.packages_distributions()
    ours = {"grpo_nb", "tools", "tests", "benchmarks", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
    for name in imported - ours - set(sys.stdlib_module_names) - GIVEN_BY_THE_PLATFORM:
        owners = {canonicalize_name(owner) for owner in distributions.get(name, [name])}
        assert owners & declared, f"{name} is imported but pyproject.toml does not declare it"


def test_a_file_stays_in_one_process(tmp_path):
    """So that its fixtures are set up once: two files of three tests, dealt out to two processes as by `make test`."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    for name in ("test_a.py", "test_b.py"):
        (tmp_path / name).write_text("".join(f"def test_{i}():\n    pass\n\n\n" for i in range(3)), encoding="utf8")
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-v", "-n", "2", "-p", "no:cacheprovider", "--no-loadscope-reorder"]
    said = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True).stdout
    found = re.findall(r"\[(gw\d)\].* PASSED (test_.\.py)", said)
    assert len(found) == 6, said
    assert len(set(found)) == 2, said
