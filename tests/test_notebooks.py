"""The notebook lint: what every committed notebook keeps to, and that no hidden solution can rot.

Each rule is a function from a notebook to a list of sentences, so that the tests at the end can break it on purpose.
"""

import ast
import copy
import itertools
import re
import statistics
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import links, publish, reading

FOLDER = Path(__file__).parent.parent / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
MAX_BYTES, MAX_LINES, MAX_COLUMNS, MEDIAN_LINES, MAX_IN_A_ROW = 300_000, 25, 88, 8, 3
MAX_WORDS, MAX_CELLS, MAX_WORDS_IN_ALL = 80, 45, 1500
FEWEST_CELLS = {"00_start_here": 15}  # the map is shorter than a lesson
EXERCISE = re.compile(r"^### Exercise .+", re.MULTILINE)
DETAILS = re.compile(r"<details>.*?</details>", re.DOTALL)
SOLUTION = re.compile(
    r"<details>\s*<summary>[^<]*Solution[^<]*</summary>.*?```python\n(.*?)```.*?</details>", re.DOTALL
)
CHECK = re.compile(r"\bchecks\.(check_\w+)\((\w+)")


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def words(markdown: str) -> int:
    """Words a reader has to read: folded parts, code fences, tables and bare links do not count."""
    for pattern in (
        r"<details>.*?</details>",
        r"```.*?```",
        r"^\|.*$",
        r"\$\$.*?\$\$",
        r"!?\[!\[.*?\]\(.*?\)\]\(.*?\)",
    ):
        markdown = re.sub(pattern, "", markdown, flags=re.DOTALL if pattern[0] != "^" else re.MULTILINE)
    return len(re.findall(r"\w+(?:[’'-]\w+)*", re.sub(r"<[^>]+>|\]\([^)]*\)", " ", markdown)))


def words_in_all(notebook: dict) -> int:
    return sum(words(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")


def metadata_problems(notebook: dict) -> list[str]:
    found, metadata = [], notebook["metadata"]
    if metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("kernelspec.name must be python3")
    if "widgets" in metadata:
        found.append("metadata.widgets must not be committed: GitHub shows such a notebook as invalid")
    if metadata.get("execution", {}).get("allow_errors"):
        found.append("allow_errors must not be set: it hides failures")
    for index, cell in enumerate(notebook["cells"]):
        if noise := set(cell["metadata"]) & set(publish.CELL_NOISE):
            found.append(f"cell {index} has {', '.join(sorted(noise))} in its metadata")
        if set(cell["metadata"].get("tags", [])) & {"raises-exception", "skip-execution"}:
            found.append(f"cell {index} is tagged to be let off: catch the error in the cell and show it")
    return found


def opening_problems(notebook: dict, name: str) -> list[str]:
    """First the badges and the card, then the set-up; both where the one setting points."""
    first, second = notebook["cells"][0], notebook["cells"][1]
    found, address = [], links.repository()
    if first["cell_type"] != "markdown" or links.badge_line(address, name) not in first["source"]:
        found.append(f"the first cell must be Markdown with the line {links.badge_line(address, name)}")
    if second["cell_type"] != "code" or f"git+{address}" not in second["source"]:
        found.append(f"the second cell must be the set-up that installs git+{address}")
    if "Question" not in first["source"] or not re.search(r"^# ", first["source"], re.MULTILINE):
        found.append("the first cell must hold the title and the card (Question · You will be able to · Needs)")
    if not links.TITLE.search(first["source"]):
        found.append("the title must read '# 04 · Rewards: who says that an answer is good?'")
    if len(links.NEEDS.findall(first["source"])) != 1:
        found.append("the card must say '*Needs* · CPU, 2 minutes': make notebooks writes the number")
    return found


def shape_problems(notebook: dict, stem: str) -> list[str]:
    found, cells = [], notebook["cells"]
    fewest, most, most_words = FEWEST_CELLS.get(stem, 25), MAX_CELLS, MAX_WORDS_IN_ALL
    if not fewest <= len(cells) <= most:
        found.append(f"a notebook has {fewest} to {most} cells (got {len(cells)})")
    if words_in_all(notebook) > most_words:
        found.append(f"a notebook has at most {most_words} words to read (got {words_in_all(notebook)})")
    lines = [len(cell["source"].splitlines()) for cell in code_cells(notebook)]
    if statistics.median(lines) > MEDIAN_LINES:
        found.append(f"the median code cell has at most {MEDIAN_LINES} lines (got {statistics.median(lines)})")
    row = 0
    for index, cell in enumerate(cells):
        source, is_code = cell["source"], cell["cell_type"] == "code"
        row = row + 1 if is_code else 0
        if row > MAX_IN_A_ROW:
            found.append(f"cell {index} is the {row}th code cell in a row: say something before it")
        if is_code and len(source.splitlines()) > MAX_LINES:
            found.append(f"cell {index} has {len(source.splitlines())} lines of code, more than {MAX_LINES}")
        if is_code and max(map(len, source.splitlines()), default=0) > MAX_COLUMNS:
            found.append(f"cell {index} is wider than {MAX_COLUMNS} columns")
        if not is_code and words(source) > MAX_WORDS:
            found.append(f"cell {index} has {words(source)} words, more than {MAX_WORDS}")
    return found


def picture_problems(notebook: dict) -> list[str]:
    """Every picture, in Markdown or in an output, says in words what it shows; none is fetched or inlined."""
    found = []
    for index, cell in enumerate(notebook["cells"]):
        texts = [cell["source"]] + [str(o.get("data", {}).get("text/html", "")) for o in cell.get("outputs", [])]
        for tag in re.findall(r"<img\b[^>]*>", "\n".join(texts)):
            if not re.search(r'\balt="[^"]{3,}"', tag):
                found.append(f"cell {index} has an <img> without alt text")
        if cell["cell_type"] == "markdown":
            if re.search(r"!\[\s*\]\(", cell["source"]):
                found.append(f"cell {index} has a picture without alt text")
            if re.search(r'!\[[^\]]*\]\((https?:|data:)|<img[^>]*src="(https?:|data:)', cell["source"]):
                found.append(f"cell {index} has a hot-linked or inlined picture: put it under notebooks/img")
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}) and "text/html" not in output.get("data", {}):
                found.append(f"cell {index} shows a figure without alt text: use plots.show(figure, alt)")
    return found


def formula_problems(notebook: dict) -> list[str]:
    """Every formula is one that the report's pages can show without a network."""
    found = []
    for index, cell in enumerate(notebook["cells"]):
        text = re.sub(r"```.*?```|`[^`]*`", "", cell["source"], flags=re.DOTALL)
        formulas = re.findall(r"\$\$.+?\$\$|\$[^$\n]+\$", text, re.DOTALL) if cell["cell_type"] == "markdown" else []
        if formulas and reading.markdown(cell["source"]).count("<math") != len(formulas):
            bad = [formula for formula in formulas if "<math" not in reading.formula(formula.strip("$"))]
            found.append(f"cell {index} has a formula that latex2mathml cannot read, or that HTML hides: {bad}")
    return found


def link_problems(notebook: dict, names: set[str]) -> list[str]:
    """Links within the project lead to a file that is there.

    Args:
        names: the notebooks that there are.
    """
    found = []
    for index, cell in enumerate(notebook["cells"]):
        text = cell["source"] if cell["cell_type"] == "markdown" else ""
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)):
            file = target.partition("#")[0]
            if file and "://" not in file and file not in names and not (FOLDER / file).exists():
                found.append(f"cell {index} leads to {target}, which is not there")
    return found


def next_notebook(notebook: dict) -> str | None:
    """The file that the last cell's **Next question** leads to."""
    found = re.search(r"\*\*Next question.*?\]\(([\w.-]+\.ipynb)", notebook["cells"][-1]["source"], re.DOTALL)
    return found and found[1]


def ending_problems(notebook: dict) -> list[str]:
    """At the end its sources, then the way to the next notebook."""
    found, text = [], "\n\n".join(cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    sources = re.search(r"^## Sources\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if not sources or not re.search(r"arXiv:\d{4}\.\d{4,5}|\]\(", sources[1]):
        found.append("'## Sources' must name a paper (title, year, arXiv:2402.03300, one line why) or link a document")
    for line in sources[1].splitlines() if sources else []:
        if "arXiv:" in line and not re.search(r"\b(19|20)\d\d\b", re.sub(r"arXiv:\S+", "", line)):
            found.append(f"a paper has its year: {line}")
    if not next_notebook(notebook):
        found.append("the last cell must end in '**Next question.** … [Notebook 05](05_batch_flow.ipynb)'")
    return found


def chain(notebooks: dict[str, dict]) -> list[str]:
    """The file names that one meets who begins with the first and follows each **Next question**."""
    name, met = min(notebooks), []
    while name in notebooks and name not in met:
        met.append(name)
        name = next_notebook(notebooks[name])
    return met


def exercises(notebook: dict) -> list[list[dict]]:
    """For each `### Exercise` heading, its cell and the following ones up to the next exercise."""
    starts = [
        i for i, c in enumerate(notebook["cells"]) if c["cell_type"] == "markdown" and EXERCISE.search(c["source"])
    ]
    return [notebook["cells"][i:j] for i, j in itertools.pairwise([*starts, None])]


def exercise_problems(notebook: dict) -> list[str]:
    found = []
    for cells in exercises(notebook):
        name = EXERCISE.search(cells[0]["source"])[0]
        code = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "code")
        text = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")
        if not re.search(r"Exercise \d+\.\d+ — .+ · [●○]{3} · \d+ min", name):
            found.append(f"{name}: the heading must read '### Exercise 4.2 — name · ●●○ · 10 min'")
        if "raise NotImplementedError" not in code:
            found.append(f"{name}: no stub that raises NotImplementedError")
        if not CHECK.search(code):
            found.append(f"{name}: no checks.check_… of the learner's function")
        solution = SOLUTION.search(text)
        if not solution:
            found.append(f"{name}: no solution in a <details> whose summary says Solution")
        elif len(solution[1].strip().splitlines()) > 12:
            found.append(f"{name}: the solution is longer than 12 lines")
    return found


def solution_verdicts(notebook: dict) -> dict[str, object]:
    """Heading of each exercise → what its check returns for the hidden solution, run after the notebook's imports."""
    verdicts = {}
    for cells in exercises(notebook):
        code = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "code")
        text = "\n".join(cell["source"] for cell in cells if cell["cell_type"] == "markdown")
        check, learner = CHECK.search(code).groups()
        namespace = imports_of(notebook)
        exec(SOLUTION.search(text)[1], namespace)
        verdicts[EXERCISE.search(cells[0]["source"])[0]] = getattr(namespace["checks"], check)(namespace[learner])
    return verdicts


def imports_of(notebook: dict) -> dict:
    """A namespace after every top-level import of the notebook, and nothing else of it."""
    namespace: dict = {}
    for cell in code_cells(notebook):
        try:
            statements = ast.parse(cell["source"]).body
        except SyntaxError:  # a cell of % or ! commands
            continue
        kept = [s for s in statements if isinstance(s, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(kept, []), "imports", "exec"), namespace)
    return namespace


def read(path: Path) -> dict:
    return nbformat.read(path, as_version=4)


each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


@each_notebook
def test_is_a_valid_notebook_of_reasonable_size(path):
    nbformat.validate(read(path))
    assert path.stat().st_size <= MAX_BYTES, f"{path.stat().st_size // 1000} kB"


@each_notebook
def test_metadata(path):
    assert metadata_problems(read(path)) == []


@each_notebook
def test_opens_with_badges_card_and_set_up(path):
    assert opening_problems(read(path), path.name) == []


def test_cards_readme_and_badges_say_what_their_owners_say():
    assert [path.name for path in links.changes()] == [], "run python -m tools.publish links"


@each_notebook
def test_minutes_are_recorded(path):
    assert links.recorded_minutes(read(path)), f"{path.name}: no minutes on record; run make notebooks"


@each_notebook
def test_links_lead_somewhere(path):
    assert link_problems(read(path), {path.name for path in PATHS}) == []


@each_notebook
def test_formulas_can_be_shown_without_a_network(path):
    assert formula_problems(read(path)) == []


@each_notebook
def test_ends_with_its_sources_and_the_next_notebook(path):
    assert ending_problems(read(path)) == []


def test_one_notebook_leads_to_the_next_until_all_are_read():
    notebooks = {path.name: read(path) for path in PATHS}
    assert set(chain(notebooks)) == set(notebooks), chain(notebooks)


@each_notebook
def test_shape(path):
    assert shape_problems(read(path), path.stem) == []


@each_notebook
def test_pictures(path):
    assert picture_problems(read(path)) == []


@each_notebook
def test_outputs_are_fit_to_be_published(path):
    assert publish.output_problems(read(path)) == []


@each_notebook
def test_outputs_are_not_stale(path):
    assert not links.is_stale(read(path)), f"{path.name}: the code changed after its outputs; run make notebooks"


@each_notebook
def test_exercises_are_complete(path):
    assert exercise_problems(read(path)) == []


@each_notebook
def test_hidden_solutions_pass_their_checks(path, capsys):
    verdicts = solution_verdicts(read(path))
    assert all(verdict is True for verdict in verdicts.values()), f"{verdicts}\n{capsys.readouterr().out}"


# The rules see what they forbid.
def spoiled(**changes) -> dict:
    """A good little notebook, with some cells or metadata replaced."""
    badge = links.badge_line(links.repository(), "x.ipynb")
    cells = [
        new_markdown_cell(f"{badge}\n\n# 04 · Title: why?\n\n*Question* · Why?\n\n*Needs* · CPU, 1 minute · no model"),
        new_code_cell(f"%pip install git+{links.repository()}"),
        *(new_markdown_cell("Some words.") if i % 2 else new_code_cell("1 + 1") for i in range(30)),
        new_markdown_cell("## Sources\n\n- *A title*, 2024, arXiv:2402.03300: for $x^2$."),
        new_markdown_cell("## Recap\n\n**Next question.** How? [Notebook 05](05_x.ipynb)."),
    ]
    made = new_notebook(cells=cells, metadata=copy.deepcopy(publish.METADATA))
    made.metadata.update(changes.pop("metadata", {}))
    for index, cell in changes.items():
        made.cells[int(index.removeprefix("cell"))] = cell
    return made


def all_problems(notebook: dict) -> list[str]:
    return (
        metadata_problems(notebook)
        + opening_problems(notebook, "x.ipynb")
        + shape_problems(notebook, "x")
        + picture_problems(notebook)
        + formula_problems(notebook)
        + link_problems(notebook, {"05_x.ipynb"})
        + ending_problems(notebook)
        + exercise_problems(notebook)
    )


def test_a_good_notebook_has_no_problems():
    assert all_problems(spoiled()) == []


@pytest.mark.parametrize(
    ("notebook", "sentence"),
    [
        (spoiled(metadata={"widgets": {}}), "metadata.widgets"),
        (spoiled(metadata={"execution": {"allow_errors": True}}), "allow_errors"),
        (spoiled(metadata={"kernelspec": {"name": "my-venv", "display_name": "mine"}}), "kernelspec"),
        (spoiled(cell4=new_code_cell("1", metadata={"execution": {}})), "cell 4 has execution"),
        (spoiled(cell4=new_code_cell("1", metadata={"tags": ["raises-exception"]})), "let off"),
        (spoiled(cell0=new_markdown_cell("# Title\n**Question**")), "badge-colab"),
        (spoiled(cell1=new_code_cell("%pip install git+https://github.com/other/name")), "the set-up"),
        (spoiled(cell4=new_code_cell("\n".join(["a = 1"] * 26))), "26 lines"),
        (spoiled(cell4=new_code_cell("a = " + "1" * 90)), "wider than 88"),
        (spoiled(cell3=new_markdown_cell("word " * 81)), "81 words"),
        (spoiled(cell3=new_code_cell("1"), cell5=new_code_cell("1")), "th code cell in a row"),
        (spoiled(cell3=new_markdown_cell('<img src="img/x.svg">')), "without alt text"),
        (spoiled(cell3=new_markdown_cell("![ ](img/x.svg)")), "without alt text"),
        (spoiled(cell3=new_markdown_cell("![a cat](https://example.org/x.png)")), "hot-linked"),
        (spoiled(cell3=new_markdown_cell("### Exercise 4.1 — nothing here · ●○○ · 5 min")), "no stub"),
        (spoiled(cell3=new_markdown_cell("### Exercise — no number")), "the heading must read"),
        (new_notebook(cells=spoiled().cells[:20], metadata=spoiled().metadata), "25 to 45 cells"),
        (new_notebook(cells=spoiled().cells + spoiled().cells, metadata=spoiled().metadata), "25 to 45 cells (got 68)"),
        (spoiled(**{f"cell{i}": new_markdown_cell("word " * 79) for i in range(10, 30)}), "at most 1500 words"),
        (spoiled(cell0=new_markdown_cell("# Title\n*Question*")), "the title must read"),
        (spoiled(cell0=new_markdown_cell("# 04 · A: b?\n*Question*\n*Needs* · a GPU")), "the card must say"),
        (
            spoiled(cell3=new_markdown_cell("Is $a_b_c$ one?")),
            "latex2mathml cannot read, or that HTML hides: ['$a_b_c$']",
        ),
        (spoiled(cell3=new_markdown_cell("<div>$a$</div>")), "that HTML hides"),
        (spoiled(cell3=new_markdown_cell("[there](../docs/nothing.md#here)")), "leads to ../docs/nothing.md#here"),
        (spoiled(cell32=new_markdown_cell("Sources")), "'## Sources' must name"),
        (spoiled(cell32=new_markdown_cell("## Sources\n\nMany.")), "'## Sources' must name"),
        (spoiled(cell32=new_markdown_cell("## Sources\n\n- *A title*, arXiv:2402.03300: why.")), "has its year"),
        (spoiled(cell33=new_markdown_cell("**Next question.** How? Notebook 05.")), "the last cell must end in"),
        (
            spoiled(cell4=new_code_cell("1", outputs=[new_output("display_data", data={"image/png": "iVBO"})])),
            "figure without alt text",
        ),
    ],
)
def test_every_rule_sees_what_it_forbids(notebook, sentence):
    assert any(sentence in problem for problem in all_problems(notebook)), all_problems(notebook)


def test_a_chain_ends_where_it_comes_round():
    leads = {"00.ipynb": "02.ipynb", "01.ipynb": "00.ipynb", "02.ipynb": "00.ipynb"}
    made = {name: spoiled(cell33=new_markdown_cell(f"**Next question.** [On]({to})")) for name, to in leads.items()}
    assert chain(made) == ["00.ipynb", "02.ipynb"], "01 is never read"


def test_folded_parts_tables_and_code_are_not_words():
    assert words("Two words <details>" + "no " * 90 + "</details>\n| a | b |\n```\nmany words here\n```") == 2


def exercise(solution: str) -> dict:
    """A notebook with one exercise on a check that wants its argument to double a number."""
    folded = f"<details>\n<summary>Solution</summary>\n\n```python\n{solution}\n```\n</details>"
    return spoiled(
        cell2=new_code_cell("import pretended_checks as checks"),
        cell3=new_markdown_cell(f"### Exercise 4.1 — double · ●○○ · 5 min\n\n{folded}"),
        cell4=new_code_cell("def double(x):\n    raise NotImplementedError\n\n\nchecks.check_double(double)"),
    )


@pytest.mark.parametrize(("solution", "verdict"), [("double = lambda x: 2 * x", True), ("double = abs", False)])
def test_solutions_are_really_run(monkeypatch, solution, verdict):
    pretended = SimpleNamespace(check_double=lambda double: double(3) == 6)
    monkeypatch.setitem(sys.modules, "pretended_checks", pretended)
    notebook = exercise(solution)
    assert exercise_problems(notebook) == []
    assert list(solution_verdicts(notebook).values()) == [verdict]
