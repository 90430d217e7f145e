"""Every number that a notebook's prose states is backed: asserted, an input in sight, or somebody's named claim.

A number is backed if it stands

1. in an `assert` of the notebook, or in a call of `checks.…`,
2. in the code of its own section (hidden solutions too: a test runs them), or among the knobs at the top,
3. in the profile that its sentence names,
4. in a sentence (or a table, after a sentence) that names its source, or
5. in `ALLOWED`, with a reason.

What is asserted more exactly backs its rounded form: 1.484 is the 1.5 of the text, and 0.43 its 43 %. Not looked at:
words ("half of them"), code, quotes, formulas, links, dates, versions, names of models, widths in bits. Minutes of a
notebook are those of README's table.
"""

import ast
import itertools
import json
import re
from pathlib import Path

import pytest

from grpo_nb import profiles

ROOT = Path(__file__).parent.parent
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
KNOBS = 4  # the first cells: card, set-up, imports, knobs
SOURCES = re.compile(
    r"\]\(https?:|arXiv|DeepSeekMath|RL guide|Advanced RL documentation|Re0-04|Qwen3-8B GRPO with SwanLab"
    r"|published|TRL's help|in the source of|`benchmarks/"
)
NO_NUMBERS = re.compile(  # in this order: what is code, a formula, a name or a label and no statement
    r"```.*?```|\$\$.*?\$\$|\$[^$\n]+\$|<[^>]+>"
    r"|\[!\[.*?\]\(.*?\)\]\(.*?\)|\]\([^)]*\)|\[\d\d"
    r"|`[^`]*`|\"[^\"\n]*\"|\b\d[nNVH]{2,}"
    r"|^\*Needs\*.*$|^\d+\. |^# \d\d · |^### Exercise [\d.]+|^### Blank \d of \d|· [●○]{3} · \d+ min"
    r"|\b[Nn]otebooks? \d\d(?:(?:,| and| or| to) \d\d)*|\b\d+\.\d+\.\d+\b|\b(?:19|20)\d\d\b|§[\d.]+"
    r"|\b(?:Qwen|Llama)[\w. -]*?\d+(?:\.\d+)?B\b|\b\d+B model|\b(?:4|8|16|32)[ -]bits?\b",
    re.MULTILINE | re.DOTALL,
)
SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
FRACTIONS = {"½": 0.5, "¼": 0.25, "¾": 0.75}
NUMBER = re.compile(
    r"(?<![\w.])(?:(?:10(?P<power>[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)|(?P<digits>\d+(?:,\d{3})*(?:\.\d+)?))(?P<percent> ?%)?|[½¼¾])"
)
SOLUTION = re.compile(r"<details>.*?```python\n(.*?)```", re.DOTALL)
ALLOWED = {  # notebook → number as written → why nothing in the notebook backs it
    "00_start_here": {
        "78": "the title of notebook 12, which asserts it",
        "40": "the rule of models.machine, tests/test_models.py",
        "50": "minutes of reading, an estimate",
    },
}


def numbers(text: str) -> list[tuple[str, float, int]]:
    """(as written, value without sign, decimals that are written) of each number of some prose."""
    found = []
    for match in NUMBER.finditer(NO_NUMBERS.sub(" ¤ ", text)):
        if match["power"]:
            exponent = int(match["power"].translate(SUPERSCRIPT))
            value, decimals = 10.0**exponent, max(0, -exponent)
        else:
            digits = (match["digits"] or str(FRACTIONS[match[0]])).replace(",", "")
            value, decimals = float(digits), len(digits.partition(".")[2])
        found.append((match[0], value / 100, decimals + 2) if match["percent"] else (match[0], value, decimals))
    return found


def constants(*trees: ast.AST) -> set[float]:
    """Every number in some code, those inside its texts included."""
    found = set()
    for node in itertools.chain(*map(ast.walk, trees)):
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            found.add(abs(float(node.value)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {float(number) for number in re.findall(r"\d+(?:\.\d+)?", node.value)}
    return found


def parsed(cell: dict) -> ast.AST:
    """The tree of a code cell; of one with % commands, nothing."""
    try:
        return ast.parse("".join(cell["source"]))
    except SyntaxError:
        return ast.Module([], [])


def asserted(tree: ast.AST) -> set[float]:
    """The numbers in a cell's assertions, and in its calls of `checks.…`."""
    return constants(
        *(
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Assert) or (isinstance(node, ast.Call) and "checks." in ast.unparse(node.func))
        )
    )


def sections(cells: list[dict]) -> list[tuple[list[str], set[float]]]:
    """(Markdown, constants of the code) from each heading to the next."""
    found: list[tuple[list[str], set[float]]] = [([], set())]
    for cell in cells:
        if cell["cell_type"] == "code":
            found[-1][1].update(constants(parsed(cell)))
            continue
        first, *rest = re.split(r"(?m)^(?=##)", "".join(cell["source"]))
        found[-1][0].append(first)
        found += [([part], constants(*map(ast.parse, SOLUTION.findall(part)))) for part in rest]
    return found


def statements(markdown: str) -> list[str]:
    """Sentences; a table belongs to the paragraph before it."""
    parts = re.sub(r"\n\n(?=\|)", "\n", markdown).split("\n\n")
    return [
        sentence
        for part in parts
        for sentence in ([part] if "\n|" in part else re.split(r"(?<=[a-z)*`\"][.?!])\s+", part.replace("\n> ", "\n")))
    ]


def of_profile(sentence: str) -> set[float]:
    """The numbers of the profiles that a sentence names."""
    named = [profiles.PROFILES[name] for name in re.findall(r"`(\w+)`", sentence) if name in profiles.PROFILES]
    return constants(*(ast.parse(repr(profile)) for profile in named))


def is_backed(value: float, decimals: int, known: set[float]) -> bool:
    """Whether a known number is this one, or is rounded to it."""
    return any(abs(value - other) <= 1e-9 * value or round(other, decimals) == value for other in known)


def unbacked(notebook: dict, allowed: dict[str, str] | None = None) -> list[str]:
    """A sentence for each number that nothing backs, and for each allowance that nothing needs."""
    cells, allowed = notebook["cells"], dict(allowed or {})
    shown = set().union(*(asserted(parsed(cell)) for cell in cells if cell["cell_type"] == "code"))
    shown |= constants(*(parsed(cell) for cell in cells[:KNOBS] if cell["cell_type"] == "code"))
    found, used = [], set()
    for texts, literals in sections(cells):
        for sentence in itertools.chain.from_iterable(map(statements, texts)):
            if SOURCES.search(sentence):
                continue
            for written, value, decimals in numbers(sentence):
                if is_backed(value, decimals, shown | literals | of_profile(sentence)):
                    continue
                if written in allowed:
                    used.add(written)
                else:
                    found.append(f"{written!r} is neither asserted nor an input here: {' '.join(sentence.split())!r}")
    return found + [f"{written!r} needs no allowance ({allowed[written]})" for written in allowed.keys() - used]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_number_is_backed(path):
    assert unbacked(json.loads(path.read_text(encoding="utf8")), ALLOWED.get(path.stem)) == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_minutes_are_those_of_the_readme(path):
    card = json.loads(path.read_text(encoding="utf8"))["cells"][0]
    (told,) = re.findall(r"^\*Needs\* · CPU, (\d+) minutes?", "".join(card["source"]), re.MULTILINE)
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    assert re.search(rf"\(notebooks/{path.name}\).* \| {told} \|$", readme, re.MULTILINE), told


# The rule sees what it forbids.
def notebook(prose: str, code: str = "", *, before: str = "") -> dict:
    """Card, set-up, imports, knobs; a section of other code; and a section of this prose and this code."""
    sources = ["# 09 · Title\n\n*Needs* · CPU, 7 minutes", "%pip install x", "import math", "ROUNDS = 2500"]
    made = [{"cell_type": "code" if i else "markdown", "source": text} for i, text in enumerate(sources)]
    made += [{"cell_type": "markdown", "source": "## Before"}, {"cell_type": "code", "source": before}]
    return {
        "cells": [
            *made,
            {"cell_type": "markdown", "source": f"## Now\n\n{prose}"},
            {"cell_type": "code", "source": code},
        ]
    }


@pytest.mark.parametrize(
    ("prose", "code"),
    [
        ("It takes 1.5 GiB.", "assert round(size, 3) == 1.484"),
        ("43 % are dead.", "assert abs(share - 0.4305) < 0.001"),
        ("More than 10¹⁴ groups.", "assert groups > 1e14"),
        ("Add ½ to 32,768.", "x = 0.5 + 32_768"),
        ("After 2500 rounds.", ""),  # a knob
        ("Steps: 450 in `cpu`.", ""),  # the profile says so
        ("Unsloth's RL guide prints 510.8 GB.", ""),
        ("As published:\n\n| who | GB |\n|---|---|\n| them | 54.33 |", ""),
        ("See 77 in [the post](https://example.org/77).", ""),
        ('In 2017, notebook 05, TRL 1.14.2, $\\frac{17}{19}$, `23.5`, "p 29 %", Qwen3-31B, 16 bits.', ""),
        ("<details>\n\n```python\nassert f(0.1) == 0.57\n```\n\nIt is 0.57.</details>", ""),
    ],
)
def test_a_backed_number_passes(prose, code):
    assert unbacked(notebook(prose, code)) == []


@pytest.mark.parametrize(
    ("prose", "code", "before", "written"),
    [
        ("It takes 1.7 GiB.", "assert round(size, 3) == 1.484", "W = [-0.6, 1.7]", "1.7"),  # that is another's 1.7
        ("It takes 4321.5 s.", "", "", "4321.5"),
        ("43 % are dead.", "assert dead == 43", "", "43 %"),
        ("82 % of them.", "assert 0.8 < share < 0.85", "", "82 %"),
        ("Fewer than 10⁻⁹.", "assert share < 1e-8", "", "10⁻⁹"),
        ("Steps: 451 in `cpu`.", "", "", "451"),
        ("Steps: 300 in `cpu`.", "", "", "300"),  # those of ci
        ("| who | s |\n|---|---|\n| us | 0.174 |", "", "", "0.174"),
        ("RL guide says so. It takes 54.33 GB.", "", "", "54.33"),  # the source is in the sentence before
        ("> **You should see** 3.535.", "x = 3.5", "", "3.535"),
    ],
)
def test_an_unbacked_number_is_listed(prose, code, before, written):
    found = unbacked(notebook(prose, code, before=before))
    assert [sentence.split("'")[1] for sentence in found] == [written]


def test_a_lie_in_a_real_notebook_is_listed():
    (path,) = (path for path in PATHS if path.stem == "12_kernels")
    text = path.read_text(encoding="utf8")
    (sentence,) = unbacked(json.loads(text.replace("1.48 GiB for", "1.7 GiB for")))
    assert sentence.startswith("'1.7' is neither asserted nor an input here")


def test_an_allowance_is_needed_or_refused():
    assert unbacked(notebook("It takes 77 s."), {"77": "by hand"}) == []
    assert unbacked(notebook("It takes a while."), {"77": "by hand"}) == ["'77' needs no allowance (by hand)"]
