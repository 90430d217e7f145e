"""A module may import only modules below it, as `from grpo_nb import name`; only one file may import unsloth."""

import ast
import re
from pathlib import Path

import pytest

import grpo_nb

PACKAGE = Path(__file__).parent.parent / "grpo_nb"
# The one list of floors, from the ground up. A package (a folder) is one floor; its files may import each other.
FLOORS = """
shapes advantages losses paradigms kernels batchflow memory profiles templates rewards data
plots runs models guards evaluate preflight train export lab explorers checks
""".split()
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def floor_of(path: Path) -> str:
    """The module or package, directly in grpo_nb, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def upward_imports(source: str, floor: str) -> list[str]:
    """What a file on `floor` imports from grpo_nb against the rule, one sentence each."""
    below, wrong = FLOORS[: FLOORS.index(floor)], []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            wrong += [f"{a.name}: write `from grpo_nb import …`" for a in node.names if a.name.startswith("grpo_nb")]
        if not isinstance(node, ast.ImportFrom) or not (node.level or (node.module or "").startswith("grpo_nb")):
            continue
        package = (node.module or "").removeprefix("grpo_nb").removeprefix(".")  # "" for `from grpo_nb import …`
        names = [package.split(".")[0]] if package else [a.name for a in node.names if a.name != "__version__"]
        if node.level:
            wrong.append("a relative import: write `from grpo_nb import …`")
        elif package and package.split(".")[0] != floor and not (PACKAGE / package.split(".")[0]).is_dir():
            wrong.append(f"from grpo_nb.{package}: write `from grpo_nb import {package}`")
        wrong += [
            f"{name} is not below {floor}" for name in names if name not in below and not (package and name == floor)
        ]
    return wrong


def test_the_rule_sees_what_it_forbids():
    assert upward_imports("from grpo_nb import templates, profiles", "rewards") == []
    assert upward_imports("from grpo_nb.rewards import parsing", "rewards") == []
    assert upward_imports("from grpo_nb.rewards import parsing", "evaluate") == []
    assert upward_imports("def f():\n    from grpo_nb import train", "rewards") == ["train is not below rewards"]
    assert upward_imports("from . import profiles", "rewards")
    assert upward_imports("import grpo_nb.profiles", "rewards")
    assert upward_imports("from grpo_nb.profiles import CPU", "rewards")
    assert upward_imports("from grpo_nb import rewards", "rewards"), "a floor does not import itself whole"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_down(path):
    assert upward_imports(path.read_text(encoding="utf8"), floor_of(path)) == []


def test_every_module_has_a_floor():
    assert {floor_of(path) for path in FILES} == set(FLOORS)


def test_the_package_lists_its_floors_in_order():
    assert re.findall(r"^\| `(\w+)`", grpo_nb.__doc__, re.MULTILINE) == FLOORS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_only_one_file_imports_unsloth(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    assert not {"unsloth", "unsloth_zoo"} & imported or path == PACKAGE / "models/with_unsloth.py"
