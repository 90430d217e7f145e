"""What documents say of notebooks, each from one owner: the repository's address, and the minutes of the last full run.

The address stands in pyproject.toml. The minutes, the profile and a hash of the code stand in each notebook's metadata,
under `grpo_nb`, written by `make notebooks`. Badges, set-up cells, cards and README's table follow.
"""

import hashlib
import json
import math
import re
import tomllib
from pathlib import Path

from grpo_nb.runs import files

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(
    r"(colab\.research\.google\.com/github/|(?:git\+|git clone |src=)https://github\.com/)[\w.-]+/[\w.-]+"
)
NEEDS = re.compile(r"(?<=\*Needs\* · CPU, )\d+ minutes?(?: after notebook (\d\d), else \d+)?")
TITLE = re.compile(r"^# (\d\d) · ([^:\n]+): (.+)$", re.MULTILINE)
TABLE = re.compile(r"(?<=\| notebook \| question \| minutes \|\n\|---\|---\|--:\|\n)(?:\|.*\n)*")
ROW = re.compile(r"^(\| \[.*?\]\(notebooks/(.*?)\) \|.*\|) \S+ \|$", re.MULTILINE)
WHOLE = re.compile(r"(?<=then takes about )\d+ minutes?")


def repository(root: Path = ROOT) -> str:
    """The address that badges and set-up cells point to: `[project.urls] Repository` of pyproject.toml.

    Raises: ValueError if it is no GitHub repository, which is all that Colab and Kaggle can open by address.
    """
    address = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf8"))["project"]["urls"]["Repository"]
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise ValueError(
            f"Repository must read https://github.com/OWNER/NAME (got {address!r}). Change it in pyproject.toml."
        )
    return address


def badge_line(repository: str, name: str, img: str = "img") -> str:
    """The Markdown line with the two badges of one notebook.

    Args:
        repository: https://github.com/OWNER/NAME.
        name: file name of the notebook.
        img: folder of the badge pictures, as seen from the document that carries the line.

    >>> badge_line("https://github.com/a/b", "x.ipynb").split("](")[2]
    'https://colab.research.google.com/github/a/b/blob/main/notebooks/x.ipynb) [![Open in Kaggle'
    """
    slug = repository.removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{slug}/blob/main/notebooks/{name}"
    kaggle = f"https://kaggle.com/kernels/welcome?src={repository}/blob/main/notebooks/{name}"
    return f"[![Open in Colab]({img}/badge-colab.svg)]({colab}) [![Open in Kaggle]({img}/badge-kaggle.svg)]({kaggle})"


def point_to(repository: str, text: str) -> str:
    """`text` with every badge, `git+` address and `git clone` line pointing to `repository`.

    >>> point_to("https://github.com/a/b", "pip install git+https://github.com/old/name@v1")
    'pip install git+https://github.com/a/b@v1'
    """
    return LINK.sub(lambda found: found[1] + repository.removeprefix("https://github.com/"), text)


def code_sha256(notebook: dict) -> str:
    """A hash of the code cells' sources: the outputs below them are fresh while it stays the same."""
    sources = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def stamp(notebook: dict, profile: str, minutes: float) -> dict:
    """The same notebook, its metadata saying which code, which profile and how many minutes its outputs come from.

    Minutes are kept to the next tenth, so that the sum of all is not that of numbers rounded up.
    """
    tenths = max(1, math.ceil(minutes * 10)) / 10
    notebook["metadata"]["grpo_nb"] = {"code_sha256": code_sha256(notebook), "profile": profile, "minutes": tenths}
    return notebook


def is_stale(notebook: dict) -> bool:
    """Whether the code changed after the outputs were written (or none ever were)."""
    return notebook["metadata"].get("grpo_nb", {}).get("code_sha256") != code_sha256(notebook)


def recorded_minutes(notebook: dict) -> float | None:
    """Minutes of the run that wrote the outputs; None where `make notebooks` has not run it yet."""
    return notebook["metadata"].get("grpo_nb", {}).get("minutes")


def whole(minutes: float) -> str:
    """Minutes as they are told: rounded up.

    >>> whole(0.3), whole(2.0), whole(2.1)
    ('1 minute', '2 minutes', '3 minutes')
    """
    return f"{math.ceil(minutes)} minute{'s' * (minutes > 1)}"


def card(text: str, minutes: float, others: dict[str, float]) -> str:
    """A notebook's first cell, its *Needs* telling the recorded minutes.

    Args:
        others: number of a notebook → its minutes, for "1 minute after notebook 06, else 4".

    >>> card("*Needs* · CPU, 9 minutes after notebook 06, else 9 · no model", 0.4, {"06": 2.9})
    '*Needs* · CPU, 1 minute after notebook 06, else 4 · no model'
    """

    def needs(found: re.Match) -> str:
        first = found[1]
        return whole(minutes) + (f" after notebook {first}, else {math.ceil(minutes + others[first])}" if first else "")

    return NEEDS.sub(needs, text)


def needed_first(text: str) -> str | None:
    """Number of the notebook whose run another takes up, by its card; None if it needs none.

    >>> needed_first("*Needs* · CPU, 1 minute after notebook 06, else 4")
    '06'
    """
    found = NEEDS.search(text)
    return found and found[1]


def table(rows: str, notebooks: dict[str, dict]) -> str:
    """README's rows, one for each notebook: as they are written there, or from its title; its minutes ("?" if unknown).

    Args:
        rows: the lines that the table has now.
        notebooks: file name → notebook, in the order of the rows.
    Raises: ValueError if a notebook without a row has no title of the usual kind.
    """
    known, found = {name: words for words, name in ROW.findall(rows)}, ""
    for name, notebook in notebooks.items():
        title, minutes = TITLE.search(notebook["cells"][0]["source"]), recorded_minutes(notebook)
        if name not in known and not title:
            raise ValueError(f"a notebook's title must read '# 04 · Rewards: who says …?' (got none in {name}).")
        words = (
            known.get(name) or f"| [{title[1]} {title[2]}](notebooks/{name}) | {title[3][0].upper()}{title[3][1:]} |"
        )
        found += f"{words} {'?' if minutes is None else math.ceil(minutes)} |\n"
    return found


def changes(root: Path = ROOT) -> dict[Path, str]:
    """README and notebooks that do not say what the address and the record say → the text that does.

    A notebook's outputs stay as fresh, or as stale, as they were.
    """
    import nbformat

    address, found = repository(root), {}
    paths = sorted((root / "notebooks").glob("*.ipynb"))
    notebooks = {path: nbformat.read(path, as_version=4) for path in paths}
    minutes = {path: recorded_minutes(notebook) for path, notebook in notebooks.items()}
    known = {path.name[:2]: told for path, told in minutes.items() if told is not None}
    for path, before in notebooks.items():
        after = nbformat.reads(point_to(address, nbformat.writes(before)), as_version=4)
        if minutes[path] is not None:
            after.cells[0].source = card(after.cells[0].source, minutes[path], known)
        if not is_stale(before):
            after.metadata["grpo_nb"]["code_sha256"] = code_sha256(after)
        if after != before:
            found[path] = nbformat.writes(after).rstrip("\n") + "\n"
    before = (root / "README.md").read_text(encoding="utf8")
    after = WHOLE.sub(lambda _: whole(sum(known.values())), point_to(address, before))
    named = {path.name: notebook for path, notebook in notebooks.items()}
    after = TABLE.sub(lambda rows: table(rows[0], named), after)
    return found | ({root / "README.md": after} if after != before else {})


def write(root: Path = ROOT) -> list[Path]:
    """Write `changes`; returns the files that changed."""
    found = changes(root)
    for path, text in found.items():
        files.write_text(path, text)
    return list(found)
