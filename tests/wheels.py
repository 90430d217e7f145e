"""Wheels that `make test` downloads and does not install: Unsloth's is read and never imported, TRL's is unpacked."""

import ast
import functools
import os
import re
import textwrap
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_project import pins

WHEELS = Path(os.environ.get("GRPO_NB_WHEELS") or Path(__file__).parent.parent / ".venv" / "wheels")


def wheel(name: str, version: str) -> Path:
    """A downloaded wheel; none, no test."""
    path = WHEELS / f"{name}-{version}-py3-none-any.whl"
    if not path.exists():
        pytest.skip(f"{path.name} is not in {WHEELS}: `make test` downloads it, or set GRPO_NB_WHEELS to its folder")
    return path


@functools.cache
def unsloth_files() -> dict[str, str]:
    """Name → text of every source file of the pinned release, and of METADATA; no wheel, no test."""
    with zipfile.ZipFile(wheel("unsloth", pins("gpu")["unsloth"])) as files:
        names = [name for name in files.namelist() if name.endswith((".py", "/METADATA"))]
        return {name: files.read(name).decode() for name in names}


def written_by_unsloth(unsloth: dict[str, str], start: str) -> str:
    """The piece of code, kept as a string in rl.py, that Unsloth writes into the config class, from `start` on."""
    strings = [
        node.value
        for node in ast.walk(ast.parse(unsloth["unsloth/models/rl.py"]))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.strip().startswith(start)
    ]
    return textwrap.dedent(strings[0])


def run(code: str, **names) -> dict:
    """The names after a piece of code has run with these."""
    exec(code, {"os": SimpleNamespace(environ={}), "print": lambda *words: None}, names)
    return names


def functions(source: str, *names: str, **given) -> SimpleNamespace:
    """Top-level functions of a file, as they stand there, with what else they need given to them."""
    for name in names:
        (code,) = re.findall(rf"^def {name}\(.*?(?=^[^\s)])", source, re.MULTILINE | re.DOTALL)
        exec(code, given)
    return SimpleNamespace(**{name: given[name] for name in names})


@functools.cache
def zoo_file(name: str) -> str:
    """The text of a file of unsloth_zoo, of the release whose wheel is there; the lock's has the same `load_lora`."""
    paths = sorted(WHEELS.glob("unsloth_zoo-*.whl"))
    if not paths:
        pytest.skip(f"no wheel of unsloth_zoo is in {WHEELS}: `make test` downloads it")
    with zipfile.ZipFile(paths[-1]) as files:
        return files.read(f"unsloth_zoo/{name}").decode()
