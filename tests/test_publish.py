"""Links, committed outputs and the report; a real kernel runs notebooks of a few cells."""

import json
import os
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from grpo_nb import models
from tools import links, publish, report

HERE, THERE = "https://github.com/grpo-nb/grpo_nb", "https://github.com/someone.else/my-fork"


def notebook(*sources: str, **metadata) -> dict:
    return new_notebook(cells=[new_code_cell(source) for source in sources], metadata=metadata)


def with_output(**output) -> dict:
    """A notebook of one code cell that printed, or displayed, one thing."""
    made = notebook("1")
    made.cells[0].outputs = [new_output(**output)]
    return made


def titled(*sources: str, title: str = "# 04 · Rewards: who says that it is good?", needs: str = "1 minute") -> dict:
    """A notebook whose first cell has title and card."""
    made = notebook(*sources)
    made.cells.insert(0, new_markdown_cell(f"{title}\n\n*Needs* · CPU, {needs} · no model"))
    return made


@pytest.fixture
def checkout(tmp_path):
    """A project of README and two notebooks, run in 0.4 and 2.9 minutes; nothing says so yet."""
    (tmp_path / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{HERE}"\n', encoding="utf8")
    table = "| notebook | question | minutes |\n|---|---|--:|\n| [old](notebooks/none.ipynb) | Gone? | 7 |\n"
    table += "| [06 The run](notebooks/06_grpo.ipynb) | In the README's own words? | ? |\n\nMore."
    (tmp_path / "README.md").write_text(f"It then takes about 15 minutes.\n\n{table}\n", encoding="utf8")
    (tmp_path / "notebooks").mkdir()
    six = titled("6", title="# 06 · GRPO: how?", needs="9 minutes")
    seven = titled("7", title="# 07 · Export: is it really?", needs="9 minutes after notebook 06, else 9")
    nbformat.write(links.stamp(six, "cpu", 2.9), tmp_path / "notebooks" / "06_grpo.ipynb")
    nbformat.write(links.stamp(seven, "cpu", 0.4), tmp_path / "notebooks" / "07_export.ipynb")
    return tmp_path


@pytest.fixture
def folder(tmp_path):
    """A notebooks folder with two short notebooks: the first leaves a run, the second computes."""
    root = tmp_path / "notebooks"
    root.mkdir()
    writes_a_run = (
        "import json, os, pathlib\n"
        "run = pathlib.Path(os.environ.get('GRPO_NB_OUTPUTS', 'outputs'), 'ci', '<b>grpo<\\u200b')\n"
        "run.mkdir(parents=True)\n"
        "rows = [{'step': s, 'reward': s / 10} for s in (1, 2, 3)]\n"
        "(run / 'metrics.jsonl').write_text(''.join(json.dumps(r) + '\\n' for r in rows))\n"
        "summary = {'before': {'greedy': 0.25}, 'text': '<script>alert(1)</script>'}\n"
        "(run / 'summary.json').write_text(json.dumps(summary))"
    )
    nbformat.write(notebook(writes_a_run), root / "01_run.ipynb")
    nbformat.write(notebook("import sys\nprint('noise', file=sys.stderr)", "6 * 7"), root / "02_answer.ipynb")
    return root


# Golden.
def test_badge_line_leads_to_the_notebook():
    line = links.badge_line(HERE, "06_grpo.ipynb")
    colab, kaggle = re.findall(r"\]\((https:[^)]+)\)", line)
    assert colab == "https://colab.research.google.com/github/grpo-nb/grpo_nb/blob/main/notebooks/06_grpo.ipynb"
    assert kaggle == f"https://kaggle.com/kernels/welcome?src={HERE}/blob/main/notebooks/06_grpo.ipynb"
    assert line.count("![Open in") == 2, "each picture has its alt text"


def test_badge_pictures_exist():
    pictures = re.findall(r"\]?\((img/[^)]+)\)", links.badge_line(HERE, "x.ipynb"))
    assert len(pictures) == 2 and all((publish.ROOT / "notebooks" / picture).is_file() for picture in pictures)


def test_repository_is_read_from_pyproject(tmp_path):
    (tmp_path / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{THERE}"\n', encoding="utf8")
    assert links.repository(tmp_path) == THERE


def test_clean_keeps_results_and_drops_noise():
    dirty = notebook("1 + 1", widgets={"state": {}}, language_info={"name": "python", "version": "3.11.7"})
    dirty.cells[0].metadata = {"execution": {"iopub.status.busy": "…"}, "tags": ["kept"]}
    dirty.cells[0].outputs = [
        new_output("stream", name="stderr", text="warning"),
        new_output("execute_result", data={"text/plain": "2", publish.WIDGET_VIEW: {"model_id": "0"}}),
    ]
    tidy = publish.clean(dirty)
    assert set(tidy.metadata) == {"kernelspec", "language_info"} and "version" not in tidy.metadata["language_info"]
    assert tidy.cells[0].metadata == {"tags": ["kept"]}
    assert [output.data for output in tidy.cells[0].outputs] == [{"text/plain": "2"}]
    assert "widgets" in dirty.metadata, "the executed notebook itself is left alone"
    nbformat.validate(tidy)


def test_clean_keeps_an_explorers_picture_once_and_any_other():
    html = '<img alt="a curve" src="data:image/png;base64,AA==">'
    view = {publish.WIDGET_VIEW: {"model_id": "0"}, "text/plain": "a curve", "image/png": "AA=="}
    for data, kept in [
        ({**view, "text/html": html}, {"text/plain", "text/html"}),
        (view, {"text/plain", "image/png"}),
        ({"text/html": html, "image/png": "AA=="}, {"text/html", "image/png"}),
    ]:
        tidy = publish.clean(with_output(output_type="display_data", data=data))
        assert set(tidy.cells[0].outputs[0].data) == kept


def test_card_and_readme_tell_the_recorded_minutes(checkout):
    assert [path.name for path in links.write(checkout)] == ["06_grpo.ipynb", "07_export.ipynb", "README.md"]
    readme = (checkout / "README.md").read_text(encoding="utf8")
    assert readme == (
        "It then takes about 4 minutes.\n\n| notebook | question | minutes |\n|---|---|--:|\n"
        "| [06 The run](notebooks/06_grpo.ipynb) | In the README's own words? | 3 |\n"
        "| [07 Export](notebooks/07_export.ipynb) | Is it really? | 1 |\n\nMore.\n"
    )
    six, seven = (nbformat.read(path, as_version=4) for path in sorted((checkout / "notebooks").iterdir()))
    assert six.cells[0].source.endswith("CPU, 3 minutes · no model")
    assert seven.cells[0].source.endswith("CPU, 1 minute after notebook 06, else 4 · no model")
    assert not links.is_stale(six) and not links.is_stale(seven), "words do not make outputs stale"
    assert links.write(checkout) == [], "once is enough"


def test_a_notebook_that_has_not_run_says_so_in_the_readme(checkout):
    nbformat.write(titled("8", title="# 08 · Losses: which?", needs="2 minutes"), checkout / "notebooks" / "08_l.ipynb")
    links.write(checkout)
    assert "| [08 Losses](notebooks/08_l.ipynb) | Which? | ? |\n" in (checkout / "README.md").read_text(encoding="utf8")
    written = nbformat.read(checkout / "notebooks" / "08_l.ipynb", as_version=4)
    assert "CPU, 2 minutes" in written.cells[0].source, "its author's estimate stays"


def test_a_working_copy_has_no_outputs_and_everything_else(checkout):
    notebooks, copies = checkout / "notebooks", checkout / "build" / "working"
    fold = "[Errata](../docs/errata.md)\n\n<details>\n<summary>Answer</summary>\n\nIt is 42.\n\n</details>"
    made = titled("40 + 2")
    made.cells.append(new_markdown_cell(fold))
    made.cells[1].outputs = [new_output("execute_result", data={"text/plain": "42"}, execution_count=3)]
    made.cells[1].update(execution_count=3, metadata={"tags": ["kept"], "execution": {}})
    nbformat.write(links.stamp(made, "cpu", 1), notebooks / "04_rewards.ipynb")
    for beside in ("img/x.svg", "runs/arm.json", "outputs/cpu/mine.jsonl"):
        (notebooks / beside).parent.mkdir(parents=True)
        (notebooks / beside).write_text(beside, encoding="utf8")
    before = {path: path.read_bytes() for path in notebooks.rglob("*") if path.is_file()}
    publish.working(copies, notebooks)
    assert {path: path.read_bytes() for path in notebooks.rglob("*") if path.is_file()} == before
    assert (copies / "img" / "x.svg").exists() and (copies / "runs" / "arm.json").exists()
    assert not (copies / "outputs").exists(), "runs of one's own stay where they are"
    copied = nbformat.read(copies / "04_rewards.ipynb", as_version=4)
    assert [cell.id for cell in copied.cells] == [cell.id for cell in made.cells]
    assert copied.cells[1].outputs == [] and copied.cells[1].execution_count is None
    assert copied.cells[1].metadata == {"tags": ["kept"]} and "grpo_nb" not in copied.metadata
    assert copied.cells[2].source == fold.replace("../docs", "../../docs"), "a link leads where it led"
    nbformat.validate(copied)


# Law.
@pytest.mark.parametrize(
    "text",
    [
        links.badge_line(HERE, "00_start_here.ipynb"),
        f'%pip install "grpo_nb @ git+{HERE}@main"',
        f"git clone {HERE} && cd grpo_nb",
        "no link at all",
    ],
)
def test_links_move_there_and_back(text):
    moved = links.point_to(THERE, text)
    assert links.point_to(THERE, moved) == moved
    assert links.point_to(HERE, moved) == text
    assert "grpo-nb/grpo_nb" not in moved


def test_other_peoples_links_stay():
    text = "[TRL](https://github.com/huggingface/trl/blob/main/README.md)"
    assert links.point_to(THERE, text) == text


def test_hash_follows_the_code_alone():
    made = notebook("a = 1", "a")
    before = links.code_sha256(made)
    made.cells.insert(0, new_markdown_cell("words"))
    made.cells[-1].outputs = [new_output("execute_result", data={"text/plain": "1"})]
    assert links.code_sha256(made) == before
    made.cells[-1].source = "a + 1"
    assert links.code_sha256(made) != before
    assert links.code_sha256(notebook("a", "b")) != links.code_sha256(notebook("ab"))


def test_stamp_is_fresh_until_the_code_changes():
    made = notebook("a = 1")
    assert links.is_stale(made)
    links.stamp(made, "cpu", 0.31)
    assert not links.is_stale(made) and made.metadata["grpo_nb"]["profile"] == "cpu"
    assert links.recorded_minutes(made) == 0.4, "to the next tenth"
    made.cells[0].source = "a = 2"
    assert links.is_stale(made)


def test_moved_links_leave_outputs_as_fresh_as_they_were(tmp_path):
    (tmp_path / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{THERE}"\n', encoding="utf8")
    (tmp_path / "README.md").write_text(f"git clone {HERE}\n", encoding="utf8")
    (tmp_path / "notebooks").mkdir()
    fresh, stale = tmp_path / "notebooks" / "fresh.ipynb", tmp_path / "notebooks" / "stale.ipynb"
    for path in (fresh, stale):
        nbformat.write(links.stamp(titled(f"%pip install git+{HERE}"), "ci", 1), path)
    edited = nbformat.read(stale, as_version=4)
    edited.cells[1].source += " # edited"
    nbformat.write(edited, stale)
    assert links.write(tmp_path) == [fresh, stale, tmp_path / "README.md"]
    assert links.write(tmp_path) == [], "once is enough"
    assert THERE in fresh.read_text(encoding="utf8") and THERE in (tmp_path / "README.md").read_text(encoding="utf8")
    assert not links.is_stale(nbformat.read(fresh, as_version=4))
    assert links.is_stale(nbformat.read(stale, as_version=4))


# The main job, with a real kernel.
def test_tutorial_leaves_copies_pages_runs_and_a_report(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GRPO_NB_PROFILE", "ci")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    build = tmp_path / "build"
    assert publish.tutorial(build, folder) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before, (
        "originals are untouched"
    )
    page, printed = (build / "report.html").read_text(encoding="utf8"), capsys.readouterr().out
    assert page.count('src="data:image/png;base64,') == 1 and "from 0.1 to 0.3" in page
    assert "<script" not in page and "<b>grpo" not in page and "&lt;script&gt;" in page
    assert "before/greedy" in page and "0.250" in page
    for name in ("01_run", "02_answer"):
        executed = nbformat.read(build / "notebooks" / f"{name}.ipynb", as_version=4)
        assert executed.metadata["grpo_nb"]["profile"] == "ci"
        assert f'href="notebooks/{name}.html"' in page and (build / "notebooks" / f"{name}.html").exists()
    assert "42" in (build / "notebooks" / "02_answer.html").read_text(encoding="utf8")
    for left in ("report.html", "notebooks", "metrics.jsonl"):
        assert re.search(rf"^\w+ +{re.escape(str(build))}/.*{re.escape(left)}$", printed, re.MULTILINE), left
    assert not list(build.rglob("*.tmp"))


def test_an_explorer_is_a_picture_where_no_kernel_runs(tmp_path, monkeypatch):
    """In the executed copy and on its page, where nbconvert would show a widget that scripts of a server draw."""
    monkeypatch.setenv("GRPO_NB_PROFILE", "ci")
    (tmp_path / "notebooks").mkdir()
    shown = notebook("from grpo_nb.explorers import dead_groups\ndead_groups.explorer()")
    nbformat.write(shown, tmp_path / "notebooks" / "01_shown.ipynb")
    assert publish.tutorial(tmp_path / "build", tmp_path / "notebooks") == 0
    page = (tmp_path / "build" / "notebooks" / "01_shown.html").read_text(encoding="utf8")
    assert page.count('<img alt="A completion is right with p = 0.1') == 1
    copy = nbformat.read(tmp_path / "build" / "notebooks" / "01_shown.ipynb", as_version=4)
    assert set(copy.cells[0].outputs[0].data) == {"text/plain", "text/html"} and "widgets" not in copy.metadata


def test_a_hidden_answer_stays_hidden_on_the_page(tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_PROFILE", "ci")
    (tmp_path / "notebooks").mkdir()
    text = "**Predict first.**\n\n<details>\n<summary>Answer</summary>\n\nForty-two.\n\n</details>"
    nbformat.write(new_notebook(cells=[new_markdown_cell(text)]), tmp_path / "notebooks" / "01_asked.ipynb")
    assert publish.tutorial(tmp_path / "build", tmp_path / "notebooks") == 0
    page = (tmp_path / "build" / "notebooks" / "01_asked.html").read_text(encoding="utf8")
    assert page.index("<details>") < page.index("Forty-two.") < page.index("</details>")


def test_a_page_asks_for_nothing_and_lays_out_its_formulas(tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_PROFILE", "ci")
    (tmp_path / "notebooks").mkdir()
    folded = "<details>\n<summary>Answer</summary>\n\nIt is $x^2$, at 5 $ a piece.\n\n</details>"
    texts = ["$$\\rho=\\frac{a}{b}$$ and $A_i$", folded, "[Next](02_more.ipynb#end), [docs](../docs/x.md)", "$a_b_c$"]
    shown = new_notebook(cells=[new_markdown_cell(text) for text in texts], metadata={"widgets": {"state": {}}})
    nbformat.write(shown, tmp_path / "notebooks" / "01_asked.ipynb")
    assert publish.tutorial(tmp_path / "build", tmp_path / "notebooks") == 0
    page = (tmp_path / "build" / "notebooks" / "01_asked.html").read_text(encoding="utf8")
    assert page.count("<math") == 3 and "<code>a_b_c</code>" in page and "at 5 $ a piece" in page
    assert "<script" not in page and not re.search(r"""(?:src|srcset)=["']|url\(["']?http|@import|<link""", page)
    assert 'href="02_more.html#end"' in page and 'href="../../docs/x.md"' in page
    assert "<title>01_asked</title>" in page


def test_a_failing_cell_is_named_and_the_report_still_written(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GRPO_NB_PROFILE", "ci")
    nbformat.write(notebook("ok = 1", "raise ValueError('<i>no</i>')", "never = 1"), folder / "01_run.ipynb")
    assert publish.tutorial(tmp_path / "build", folder) == 1
    assert "FAILED     01_run.ipynb, cell 1: ValueError: <i>no</i>" in capsys.readouterr().err
    page = (tmp_path / "build" / "report.html").read_text(encoding="utf8")
    assert "cell 1: ValueError: &lt;i&gt;no&lt;/i&gt;" in page and "<i>no" not in page
    assert "finished" in page, "the next notebook ran all the same"


def test_a_dead_kernel_is_a_failure(tmp_path):
    nbformat.write(notebook("import os", "os._exit(1)"), tmp_path / "x.ipynb")
    outcome = publish.execute(tmp_path / "x.ipynb", dict(os.environ))
    assert outcome.failure.startswith("x.ipynb, cell 1: the kernel died")


WAIT = """
import pathlib, time
for _ in range(6000):
    if pathlib.Path("begun").exists():
        break
    time.sleep(0.01)
else:
    raise TimeoutError("nothing runs beside this")
"""


def test_notebooks_run_side_by_side_but_one_waits_for_that_whose_run_it_takes(tmp_path, capsys):
    leave = "import pathlib; pathlib.Path('{}').touch()".format
    nbformat.write(notebook(WAIT, leave("run")), tmp_path / "06_first.ipynb")
    needs = "1 minute after notebook 06, else 2"
    nbformat.write(titled("import os; assert os.path.exists('run')", needs=needs), tmp_path / "07_after.ipynb")
    nbformat.write(notebook(leave("begun")), tmp_path / "08_beside.ipynb")
    # 07 takes the second place and waits there, so the third is what lets 06 end.
    outcomes = publish.execute_all(tmp_path, dict(os.environ), at_once=3)
    assert [(outcome.path.stem, outcome.failure) for outcome in outcomes] == [
        ("06_first", ""),
        ("07_after", ""),
        ("08_beside", ""),
    ]
    begun = re.findall(r"^(\d\d)_\w+\.ipynb …$|^(\d\d)_\w+\.ipynb: ", capsys.readouterr().out, re.MULTILINE)
    assert begun.index(("", "06")) < begun.index(("07", "")), "06 has ended when 07 begins"


def test_refresh_writes_clean_stamped_outputs(folder, monkeypatch):
    monkeypatch.setenv("GRPO_NB_PROFILE", "ci")
    path = folder / "02_answer.ipynb"
    nbformat.write(links.stamp(nbformat.read(path, as_version=4), "cpu", 99.5), path)
    untouched = (folder / "01_run.ipynb").read_bytes()
    assert publish.refresh(["02_answer"], folder) == 0
    written = nbformat.read(path, as_version=4)
    assert links.recorded_minutes(written) == 99.5, "only a run of all writes down new minutes"
    assert not links.is_stale(written) and written.cells[0].outputs == []
    assert written.cells[1].outputs[0].data["text/plain"] == "42"
    assert (folder / "01_run.ipynb").read_bytes() == untouched
    assert sorted(path.name for path in folder.iterdir()) == ["01_run.ipynb", "02_answer.ipynb"]
    assert publish.refresh([], folder) == 0
    assert all(links.recorded_minutes(nbformat.read(path, as_version=4)) < 99.5 for path in folder.iterdir())


def test_an_earlier_run_is_kept_once(tmp_path):
    build, empty = tmp_path / "build", tmp_path / "notebooks"
    empty.mkdir()
    (build / "outputs").mkdir(parents=True)
    (build / "outputs" / "first").write_text("hours of training", encoding="utf8")
    assert publish.tutorial(build, empty) == 0
    assert (build / "outputs.previous" / "first").exists() and not list((build / "outputs").iterdir())


def test_report_without_a_run_says_so(tmp_path):
    assert "No run was recorded." in report.page([], "ci", tmp_path, models.machine())


# Refusal.
@pytest.mark.parametrize("address", ["https://example.org/a/b", "https://github.com/a", "https://github.com/a/b/c"])
def test_repository_must_be_on_github(tmp_path, address):
    (tmp_path / "pyproject.toml").write_text(f"[project.urls]\nRepository = {json.dumps(address)}\n", encoding="utf8")
    with pytest.raises(ValueError, match="must read https://github.com/OWNER/NAME"):
        links.repository(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("saved in /home/someone/grpo_nb", "the absolute path /home/someone"),
        ("['/tmp/x/y.json']", "the absolute path /tmp/x"),
        ("file:///srv/data/rows", "the absolute path /srv/data"),
        ("C:\\Users\\someone", "the absolute path C:"),
        ("key hf_" + "a" * 30, "a token"),
    ],
)
def test_outputs_that_must_not_be_published(text, problem):
    for output in (
        {"output_type": "stream", "name": "stdout", "text": text},
        {"output_type": "display_data", "data": {"text/html": text}},
    ):
        with pytest.raises(ValueError, match="cell 0 shows " + re.escape(problem)):
            publish.clean(with_output(**output))


def test_errors_must_not_be_published():
    with pytest.raises(ValueError, match="cell 0 ended in KeyError"):
        publish.clean(with_output(output_type="error", ename="KeyError", evalue="", traceback=[]))


@pytest.mark.parametrize(
    "text",
    [
        "outputs/cpu/grpo/metrics.jsonl",
        "1/2 and 3 / 4",
        "https://github.com/a/b",
        "</b></td><br/>",
        "and/or",
        '<img src="data:image/png;base64,/9j/4AAQ/SkZJ=">',
    ],
)
def test_harmless_outputs_pass(text):
    assert publish.output_problems(with_output(output_type="stream", name="stdout", text=text)) == []


def test_work_is_not_written_over(checkout, capsys):
    (checkout / "working").mkdir()
    with pytest.raises(ValueError, match="may hold somebody's work .got .*working.. Move it away"):
        publish.working(checkout / "working", checkout / "notebooks")
    with pytest.raises(SystemExit, match="2"):
        publish.main(["working", str(checkout / "working")])
    assert "must not be there yet" in capsys.readouterr().err and list((checkout / "working").iterdir()) == []


@pytest.mark.parametrize("name", ["notebooks/mine", "notebooks/../notebooks/img/mine", "link", "file/mine", "n" * 300])
def test_a_place_that_cannot_hold_a_copy_is_refused_in_words(checkout, capsys, monkeypatch, name):
    (checkout / "link").symlink_to(checkout / "nowhere")
    (checkout / "file").touch()
    own = publish.working
    monkeypatch.setattr(publish, "working", lambda folder: own(folder, checkout / "notebooks"))
    before = sorted(checkout.rglob("*"))
    with pytest.raises(SystemExit, match="2"):
        publish.main(["working", str(checkout / name)])
    assert "error: " in capsys.readouterr().err and sorted(checkout.rglob("*")) == before


def test_links_out_of_a_copy_survive_any_name_of_a_folder(tmp_path):
    notebooks, copies = tmp_path / "my (own) course, 50 %" / "notebooks", tmp_path / "a b" / "copy"
    notebooks.mkdir(parents=True)
    nbformat.write(new_notebook(cells=[new_markdown_cell("[Docs](../docs/x.md)")]), notebooks / "01_x.ipynb")
    publish.working(copies, notebooks)
    (cell,) = nbformat.read(copies / "01_x.ipynb", as_version=4).cells
    assert cell.source == "[Docs](../../my%20%28own%29%20course%2C%2050%20%25/docs/x.md)"


def test_a_title_without_a_question_is_refused(checkout):
    nbformat.write(titled("8", title="# Losses"), checkout / "notebooks" / "08_l.ipynb")
    with pytest.raises(ValueError, match="must read '# 04 · Rewards: who says …[?]' .got none in 08_l.ipynb"):
        links.changes(checkout)


def test_unknown_notebook_name_is_refused(folder):
    with pytest.raises(ValueError, match="must be one of 01_run, 02_answer .got 99_none"):
        publish.execute_all(folder, {}, ["99_none"])
