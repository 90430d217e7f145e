"""docs/exercises.md: what each check says to the wrong answers that learners write.

`python -m tools.pages.exercises` writes the page from the answers in tests/test_checks_<topic>.py, which a test gives
to the checks; another test writes the page again and compares.
"""

import inspect
import json
import re
import sys
from pathlib import Path

from grpo_nb import checks
from grpo_nb.runs import files

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "exercises.md"
HEADING = re.compile(r"^### (Exercise [\d.]+|Blank \d of \d) — ([^·\n]+)", re.MULTILINE)
TEXT = """\
# What the checks say

Written by `python -m tools.pages.exercises`: each wrong answer is given to its check, and the page shows the sentence.
A check knows the usual mistakes. Where one of them explains the numbers in every case, the check names it. Any other
answer gets a counterexample: the first case that does not fit. An answer that is *almost right* must fail, too. What a
solution looks like stands under its exercise in the notebook.

{checks}
"""


def tasks() -> dict[str, str]:
    """Name of a check → the exercise that calls it, as a link."""
    found = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        heading = None
        for cell in json.loads(path.read_text(encoding="utf8"))["cells"]:
            text = "".join(cell["source"])
            heading = [*HEADING.finditer(text), heading][0] if cell["cell_type"] == "markdown" else heading
            for check in re.findall(r"\bchecks\.(check_\w+)\(", text) if cell["cell_type"] == "code" else ():
                number, name = heading.groups() if heading else ("In the text", path.stem)
                found[check] = f"[{number}](../notebooks/{path.name}), {name.strip().rstrip('?')}"
    return found


def page() -> str:
    """The text of docs/exercises.md."""
    sys.path.append(str(ROOT / "tests"))
    from check_answers import every

    exercises = tasks()
    order = sorted(every(), key=lambda answers: [*exercises].index(answers.check))
    parts = [_part(answers, exercises[answers.check]) for answers in order]
    return TEXT.format(checks="\n\n".join(parts))


def _part(answers, exercise: str) -> str:
    """One check: what it is about, and its table."""
    about = inspect.getdoc(getattr(checks, answers.check)).splitlines()[0]
    rows = [
        f"| {_cell(what)} | {_cell(answers.said(yours)[1])} |"
        for what, (yours, _) in {**answers.wrong, "*almost right*": answers.almost}.items()
    ]
    return "\n".join(
        [
            f"## `{answers.check}`",
            "",
            f"{exercise}. {about}",
            "",
            "| the answer | what the check says |",
            "|---|---|",
            *rows,
        ]
    )


def _cell(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")


if __name__ == "__main__":
    files.write_text(PAGE, page())
