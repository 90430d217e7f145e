"""A notebook with every explorer and a prediction in JupyterLab and in Voila: moved by hand, saved, opened again."""

import hashlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import expect

from tests.browser.conftest import JUPYTERLAB, ROOT, VOILA, serving, visit
from tools import publish

pytestmark = pytest.mark.browser
NAMES = sorted(
    path.stem
    for path in (ROOT / "grpo_nb" / "explorers").glob("[a-z]*.py")
    if "\ndef explorer(" in (text := path.read_text(encoding="utf8")) and "Panel(" in text
)  # those whose picture follows the controls; `experiment` waits for its button
POLICY = """\
from grpo_nb import data, models, profiles
rows, _ = data.addition(num_train=64, num_held_out=0, digits=2)
policy, tokenizer = models.load_policy(profiles.current("ci"), rows)
"""
STEPPED = {"batch_flow": "per_device_train_batch_size"}  # by keyboard; elsewhere the first number
GIVEN = {"sampling": "policy, tokenizer, rows[0]['problem']"}  # what explorer() wants
CUT = """\
from grpo_nb.explorers import dead_groups
cut = dead_groups.explorer()
for field in cut.fields.values():
    field.unobserve_all()
cut"""
ASKED = """\
from grpo_nb import checks
guess = checks.predict("hits in 8 tries")
guess"""
CELLS = [*NAMES, "cut", "asked", "told", "experiment"]


def cell(name: str) -> str:
    """The code of a cell that shows one explorer."""
    given = GIVEN.get(name, "")
    return f"{POLICY * bool(given)}from grpo_nb.explorers import {name}\n{name}.explorer({given})"


def write(folder: Path) -> Path:
    """The notebook of `CELLS`."""
    sources = [*map(cell, NAMES), CUT, ASKED, "guess.compare(5)", cell("experiment")]
    cells = [new_code_cell(source) for source in sources]
    nbformat.write(new_notebook(cells=cells, metadata=publish.METADATA), folder / "hands.ipynb")
    return folder / "hands.ipynb"


def output(page, name: str):
    """Where the output of one of `CELLS` is shown."""
    return page.locator(".jp-Cell-outputArea").nth(CELLS.index(name))


class Shown:
    """The output of one cell: its controls, its picture, its caption."""

    def __init__(self, page, name: str):
        self.name, self.area = name, output(page, name)
        self.figure = self.area.locator("figure").filter(visible=True)
        self.picture = self.figure.locator("img")
        expect(self.area.get_by_label("preset", exact=True)).to_be_visible()
        expect(self.picture).to_be_visible()

    def look(self) -> tuple[str, str, str]:
        """The picture in words, its bytes as a hash, and the words beneath it, all at one moment."""
        parts = (
            "f => [f.querySelector('img').alt, f.querySelector('img').src, f.querySelector('figcaption').textContent]"
        )
        words, source, caption = self.figure.evaluate(parts)
        return words, hashlib.sha256(source.encode()).hexdigest(), caption

    def at_rest(self) -> tuple[str, str, str]:
        """What is shown once nothing follows any more: a drag is drawn several times."""
        now = self.look()
        while time.sleep(0.7) or (later := self.look()) != now:
            now = later
        return now

    def changes(self, move) -> None:
        """Do `move`; another picture and other words must follow, and the words are those beneath the picture."""
        before = self.at_rest()
        move()
        expect(self.picture).not_to_have_attribute("alt", before[0])
        words, picture, caption = self.at_rest()
        assert picture != before[1], f"the words changed, the picture did not: {words}"
        assert caption == words

    def by_mouse(self) -> None:
        """Drag the first slider to the half of its track where it is not; without one pick a preset."""
        handle = self.area.get_by_role("slider").first
        if not handle.count():
            presets = self.area.get_by_label("preset", exact=True)
            presets.select_option(index=presets.locator("option").count() - 1)
            return
        handle.scroll_into_view_if_needed()
        track, now = self.area.locator(".noUi-target").first.bounding_box(), handle.bounding_box()
        x, y = now["x"] + now["width"] / 2, now["y"] + now["height"] / 2
        is_left, mouse = x < track["x"] + track["width"] / 2, self.area.page.mouse
        mouse.move(x, y)
        mouse.down()
        mouse.move(track["x"] + track["width"] * (0.8 if is_left else 0.2), y, steps=5)
        mouse.up()

    def by_keyboard(self) -> None:
        """Step a number with an arrow key; without one write four numbers over the first line of text."""
        number = self.area.locator("input[type=number]").first
        if self.name in STEPPED:
            number = self.area.get_by_label(STEPPED[self.name], exact=True)
        if not number.count():
            line = self.area.locator("input[type=text]").first
            line.press("Control+A")
            line.press_sequentially("1 1 0 0")
            line.press("Enter")
            return
        number.focus()
        number.press("ArrowDown" if number.input_value() == number.get_attribute("max") else "ArrowUp")
        number.press("Enter")


@pytest.fixture(scope="module")
def lab(chromium, desk, tmp_path_factory):
    """(page, path of its notebook, address of a notebook): the notebook in JupyterLab, all cells run."""
    path = write(tmp_path_factory.mktemp("lab"))
    with serving(path.parent, desk, *JUPYTERLAB) as (address, token), visit(chromium) as page:
        page.goto(f"{address}/doc/tree/{path.name}?token={token}")
        expect(page.get_by_text("| Idle")).to_be_visible()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        yield page, path, f"{address}/doc/tree/{{name}}?token={token}"


@pytest.fixture(scope="module")
def voila(chromium, desk, tmp_path_factory):
    """The same notebook as a page without code."""
    path = write(tmp_path_factory.mktemp("voila"))
    with serving(path.parent, desk, *VOILA, path.name) as (address, _), visit(chromium) as page:
        page.goto(address)
        yield page


@pytest.mark.parametrize("move", ["by_mouse", "by_keyboard"])
@pytest.mark.parametrize("name", NAMES)
def test_in_jupyterlab(lab, name, move):
    shown = Shown(lab[0], name)
    shown.changes(getattr(shown, move))


@pytest.mark.parametrize("move", ["by_mouse", "by_keyboard"])
@pytest.mark.parametrize("name", NAMES)
def test_in_voila(voila, name, move):
    shown = Shown(voila, name)
    shown.changes(getattr(shown, move))


@pytest.mark.parametrize("move", ["by_mouse", "by_keyboard"])
def test_a_cut_callback_is_seen(lab, move):
    """The kernel answers in order: once another explorer has followed, this one would have too."""
    cut, other = Shown(lab[0], "cut"), Shown(lab[0], "dead_groups")
    before = cut.at_rest()
    getattr(cut, move)()
    other.changes(getattr(other, move))
    assert cut.look() == before


def test_a_prediction_is_compared(lab):
    page, *_ = lab
    expect(output(page, "told")).to_have_text("it is 5.")
    field = output(page, "asked").get_by_label("hits in 8 tries", exact=True)
    field.press_sequentially("3")
    field.press("Tab")
    page.locator(".jp-CodeCell").nth(CELLS.index("told")).locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    expect(output(page, "told")).to_have_text("you said 3, it is 5.")


@pytest.mark.parametrize("front_end", ["lab", "voila"])
def test_a_recorded_experiment_is_shown_and_a_mistake_is_told(front_end, request):
    given = request.getfixturevalue(front_end)
    bench = output(given[0] if front_end == "lab" else given, "experiment")
    bench.get_by_role("button", name="run").click()
    expect(bench.locator("img").first).to_be_visible()
    bench.get_by_label("value B", exact=True).fill("5")
    bench.get_by_role("button", name="run").press("Enter")
    expect(bench.get_by_role("alert")).to_contain_text("num_generations")


def test_a_prediction_is_asked_in_voila(voila):
    expect(output(voila, "asked").get_by_label("hits in 8 tries", exact=True)).to_be_editable()


def test_saved_and_opened_without_its_kernel_it_shows_its_pictures(lab, chromium, desk):
    page, path, address = lab
    words = {name: Shown(page, name).look()[0] for name in NAMES}
    page.get_by_role("menuitem", name="File", exact=True).click()
    page.get_by_role("menuitem", name=re.compile(r"^Save Notebook(?! As)")).click()
    expect(page.locator(".jp-mod-dirty")).to_have_count(0)
    saved = json.loads(path.read_text(encoding="utf8"))
    assert all(cell["outputs"] for cell in saved["cells"])
    saved["metadata"]["kernelspec"]["name"] = "none-of-this-name"
    (path.parent / "again.ipynb").write_text(json.dumps(saved), encoding="utf8")
    # Its own author opens it, so JupyterLab trusts it.
    subprocess.run([sys.executable, "-m", "nbformat.sign", "again.ipynb"], cwd=path.parent, env=desk, check=True)
    with visit(chromium) as again:
        again.goto(address.format(name="again.ipynb"))
        # It has no kernel, or a new one that knows nothing of these widgets.
        expect(again.get_by_text(re.compile(r"(No Kernel|\) \| Idle)")).first).to_be_visible()
        for name, told in words.items():
            place = output(again, name)
            expect(place.locator("figure img").filter(visible=True)).to_have_attribute("alt", told)
            expect(place.get_by_text("Error displaying widget").filter(visible=True)).to_have_count(0)
