"""Pages written from the benchmarks' records are what their generators would write now; links lead somewhere."""

import copy
import re

import pytest

from tools.pages import exercises, kernels, proof, ranges, survival

ROOT = proof.ROOT
DOCS = sorted((ROOT / "docs").glob("*.md"))
WRITTEN = [*sorted(ROOT.glob("*.md")), *DOCS]


@pytest.mark.parametrize(
    ("path", "fresh"),
    [
        (exercises.PAGE, exercises.page),
        (kernels.PAGE, lambda: kernels.page(*kernels.records())),
        (proof.PAGE, lambda: proof.page(proof.records())),
        (survival.PAGE, lambda: survival.page(survival.record())),
        (ranges.PAGE, ranges.page),
    ],
    ids=["exercises", "kernels", "proof", "survival", "ranges"],
)
def test_a_page_is_fresh(path, fresh):
    assert path.read_text(encoding="utf8") == fresh(), "run make docs"


def test_a_changed_record_changes_the_page():
    recorded = proof.records()
    changed = copy.deepcopy(recorded)
    changed["rewards"]["worst_ms"] = 7.25
    assert "takes 7.25 ms" in proof.page(changed) != proof.page(recorded)
    assert "Of 7 tiny runs" in survival.page(survival.record() | {"runs": 7})


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)|^\[[^]]+\]: (\S+)", page.read_text(encoding="utf8"), re.MULTILINE):
        target = "".join(target)
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_the_index_has_every_page():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf8")
    assert {*re.findall(r"\]\((\w+\.md)\)", index)} == {page.name for page in DOCS} - {"README.md"}


def test_every_test_that_a_page_names_is_there():
    pages = "\n".join(page.read_text(encoding="utf8") for page in WRITTEN)
    named = set(re.findall(r"`(test_\w+)::(test_\w+)`", pages))
    assert len(named) >= 40
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / f"{file}.py").read_text(encoding="utf8"), f"{file}::{test}"


def test_the_readme_takes_a_minute():
    text = (ROOT / "README.md").read_text(encoding="utf8")
    assert len(text.split()) <= 600 and max(map(len, text.splitlines())) <= 120


def test_a_number_that_a_test_no_longer_tells_is_refused():
    with pytest.raises(ValueError, match=r"tests/test_losses\.py must hold NONE = .*got no match"):
        proof.read("tests/test_losses.py", r"NONE = (\d+)")
