"""The errata of the four documents that this course grew from, and the page of the docs that they make: `make docs`.

The rows lie in docs/errata/<document>.toml, one file per document; the test that shows a row is in
tests/test_errata_<document>.py and bears the name that the row gives as its `check`.
"""

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "errata.md"
DOCUMENTS = {  # file stem → letter of its ids, title, what kind of document it is
    "advanced_rl": (
        "A",
        "Unsloth: *Advanced RL documentation*",
        "A vendor's reference for the parameters and the batches of GRPO, in English and in a Chinese translation.",
    ),
    "rl_guide": ("B", "Unsloth: *RL guide*", "A vendor's guide for beginners, read in its Chinese version."),
    "re0_04": ("C", "*Re0-04: TRL GRPOTrainer*", "A long blog post in Chinese, from DPO to a recipe for TRL."),
    "qwen3_8b_swanlab": (
        "D",
        "*Qwen3-8B GRPO with SwanLab*",
        "A tutorial in Chinese: one Qwen3-8B, Unsloth, vLLM and a dashboard, from SFT to export.",
    ),
}

INTRODUCTION = """
# Errata of the sources

Four documents brought the facts of this course together. They also hold statements that are wrong, outdated,
contradictory or easy to misread, omissions that lead astray, and code that does not run. This page lists what we found:
{many} rows, each in our own words. {shown} of them are run by a test on every commit: it sees ours hold in the pinned
libraries (TRL {trl}) or in `grpo_nb`, and re-makes the document's claim, where it can be run, to see it fail. (Some
read Unsloth's wheel, which `make test` downloads and does not install.) The others name what they rest on: a paper, the
source of a library that was read and not run, or the document itself. Where an erratum can be told by its words, a test
also sees to it that no notebook of ours teaches it. To run the rows:

```bash
.venv/bin/python -m pytest tests/test_errata_*.py
```
"""
SECTION = """
## {title}

{kind} {many} rows, {shown} of them run.
"""


def rows(stem: str) -> list[dict]:
    """The rows of one document, in the order of its file."""
    return tomllib.loads((ROOT / "docs" / "errata" / f"{stem}.toml").read_text(encoding="utf8"))["row"]


def file_of_tests(stem: str) -> Path:
    """Where the tests of one document's rows are."""
    return ROOT / "tests" / f"test_errata_{stem}.py"


def taught(stem_rows: list[dict], notebooks: dict[str, str]) -> list[str]:
    """A sentence for each notebook whose text matches what a row says it must never hold.

    Args:
        stem_rows: rows, some with `never`, a list of regular expressions.
        notebooks: name → the source of all its cells.
    """
    return [
        f"{name} teaches what {row['id']} ({row['topic']}) corrects: {found[0]!r} matches {pattern!r}. {row['truth']}"
        for row in stem_rows
        for pattern in row.get("never", [])
        for name, text in notebooks.items()
        if (found := re.search(pattern, text))
    ]


def notebook_texts() -> dict[str, str]:
    """Notebook → the source of all its cells, Markdown and code, without their outputs."""
    return {
        path.name: "\n\n".join("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf8"))["cells"])
        for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    }


def page() -> str:
    """The text of docs/errata.md."""
    found = {stem: rows(stem) for stem in DOCUMENTS}
    every = [row for of_one in found.values() for row in of_one]
    parts = [
        "<!-- written by `make docs`; a test says when it is stale -->",
        INTRODUCTION.strip().format(many=len(every), shown=_shown(every), trl=_pinned("trl")),
    ]
    for stem, (_, title, kind) in DOCUMENTS.items():
        counts = {"many": len(found[stem]), "shown": _shown(found[stem])}
        parts += [SECTION.format(title=title, kind=kind, **counts), _table(stem, found[stem])]
    return "\n".join([*parts, ""])


def _shown(some: list[dict]) -> int:
    return sum("check" in row for row in some)


def _pinned(name: str) -> str:
    return re.search(rf'"{name}==([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf8"))[1]


def _table(stem: str, some: list[dict]) -> str:
    cells = [["", "The document says", "What is true", "Shown by"], ["---"] * 4]
    for row in some:
        name = f"**{row['id']}** {escaped(row['topic'])} ({row['kind']})"
        cells.append([name, escaped(row["says"]), escaped(row["truth"]), _evidence(stem, row)])
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _evidence(stem: str, row: dict) -> str:
    link = [f"[{row['check']}](../tests/{file_of_tests(stem).name})"] if "check" in row else []
    return "; ".join([*link, *([escaped(row["evidence"])] if "evidence" in row else [])])


def escaped(text: str) -> str:
    r"""Text fit for a cell of a Markdown table: what stands in backquotes is left alone, but for pipes.

    >>> escaped("b*A*P is `b*A*P`, a|b, <b>")
    'b\\*A\\*P is `b*A*P`, a\\|b, &lt;b>'
    """
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    plain = [re.sub(r"([*~$])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    parts[::2] = plain
    return "".join(parts).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf8")
