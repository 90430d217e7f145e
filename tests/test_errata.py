"""The errata: their schema, that every check exists, that the page is fresh, that no notebook teaches an erratum."""

import ast
import re

import pytest

from tools.pages import errata

FEWEST_CHECKS = 60
KINDS = {"wrong", "outdated", "contradictory", "misleading", "omission", "code", "syntax"}
KEYS = {"id", "topic", "kind", "says", "truth"}
OPTIONAL = {"check", "evidence", "never"}
EVIDENCE = ("literature: ", "reading: ", "document: ", "not verified: ")
STEMS = list(errata.DOCUMENTS)

each_document = pytest.mark.parametrize("stem", STEMS)


def problems(row: dict, letter: str) -> list[str]:
    """What is wrong with one row."""
    if not KEYS <= set(row) <= KEYS | OPTIONAL:
        return [f"a row has {sorted(KEYS)}, perhaps {sorted(OPTIONAL)} (got {sorted(row)})"]
    name, found = row["id"], []
    if not re.fullmatch(rf"{letter}\d\d", name):
        found.append(f"{name}: an id is {letter} and two digits")
    if row["kind"] not in KINDS:
        found.append(f"{name}: the kind must be one of {sorted(KINDS)} (got {row['kind']!r})")
    if not 1 <= len(row["topic"].split()) <= 5:
        found.append(f"{name}: the topic must have 1 to 5 words (got {row['topic']!r})")
    for key in ("says", "truth"):
        if not row[key].strip().endswith((".", "?", "!")) or not 3 <= len(row[key].split()) <= 90:
            found.append(f"{name}: {key} must be a sentence or two (got {row[key]!r})")
        if re.search(r"[\u3000-\u9fff\uff00-\uffef]", row[key]):
            found.append(f"{name}: {key} must be in English, in our own words")
    if "check" not in row and "evidence" not in row:
        found.append(f"{name}: a row without a check must give its evidence")
    if not row.get("evidence", EVIDENCE[0]).startswith(EVIDENCE):
        found.append(f"{name}: evidence must begin with one of {EVIDENCE} (got {row['evidence']!r})")
    if not row.get("check", f"test_{name.lower()}_").startswith(f"test_{name.lower()}_"):
        found.append(f"{name}: the check must be called test_{name.lower()}_… (got {row['check']!r})")
    for pattern in row.get("never", []):
        if len(pattern) > 100 or re.search(r"[*+}]\)[*+{]", pattern):
            found.append(f"{name}: a pattern must be short, without nested quantifiers (got {pattern!r})")
        re.compile(pattern)
    return found


def names_of_tests(stem: str) -> list[str]:
    """The names of the test functions in one document's file."""
    tree = ast.parse(errata.file_of_tests(stem).read_text(encoding="utf8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test")]


# The rows.
@each_document
def test_rows_keep_to_the_schema(stem):
    letter, rows = errata.DOCUMENTS[stem][0], errata.rows(stem)
    assert [problem for row in rows for problem in problems(row, letter)] == []
    ids = [row["id"] for row in rows]
    assert ids == sorted(set(ids))


@each_document
def test_every_check_is_a_test_and_every_test_a_check(stem):
    checks = [row["check"] for row in errata.rows(stem) if "check" in row]
    assert sorted(checks) == sorted(names_of_tests(stem))


def test_most_rows_are_run():
    every = [row for stem in STEMS for row in errata.rows(stem)]
    assert sum("check" in row for row in every) >= max(FEWEST_CHECKS, 0.6 * len(every))


GOOD = {
    "id": "A01",
    "topic": "two",
    "kind": "wrong",
    "says": "It says so.",
    "truth": "It is not.",
    "check": "test_a01_x",
}


def test_a_good_row_has_no_problems():
    assert problems(GOOD, "A") == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"id": "B01", "check": "test_b01_x"}, "an id is A"),
        ({"kind": "odd"}, "the kind must"),
        ({"colour": "red"}, "a row has"),
        ({"topic": "one two three four five six"}, "1 to 5 words"),
        ({"says": "no end of it"}, "a sentence or two"),
        ({"truth": "等于二 it is two."}, "in English"),
        ({"check": "test_a02_x"}, "must be called test_a01_"),
        ({"evidence": "somebody said so"}, "evidence must begin"),
        ({"never": ["(a+)+b"]}, "nested quantifiers"),
    ],
)
def test_the_schema_sees_what_it_forbids(changes, sentence):
    assert sentence in " ".join(problems({**GOOD, **changes}, "A"))


def test_a_row_needs_a_check_or_evidence():
    assert "must give its evidence" in problems({k: v for k, v in GOOD.items() if k != "check"}, "A")[0]


# The page.
def test_the_page_is_not_stale():
    assert errata.PAGE.read_text(encoding="utf8") == errata.page(), "run make docs"


def test_the_page_links_every_check_and_numbers_every_row():
    text = errata.PAGE.read_text(encoding="utf8")
    for stem in STEMS:
        for row in errata.rows(stem):
            assert text.count(f"| **{row['id']}** ") == 1
            assert "check" not in row or f"[{row['check']}](../tests/{errata.file_of_tests(stem).name})" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {5}


# The notebooks.
def test_no_notebook_teaches_what_a_row_corrects():
    notebooks = errata.notebook_texts()
    assert len(notebooks) >= 6
    for stem in STEMS:
        assert errata.taught(errata.rows(stem), notebooks) == []


def test_the_test_of_the_notebooks_can_fail():
    row = {**GOOD, "never": [r"kl_coef\s*="]}
    wrong = {"06_grpo.ipynb": "Set `kl_coef = 0.05`.", "04_rewards.ipynb": "Set `beta = 0`."}
    (sentence,) = errata.taught([row], wrong)
    assert "06_grpo.ipynb" in sentence and "A01" in sentence and "It is not." in sentence
    assert errata.taught([GOOD], wrong) == [] == errata.taught([row], {"x": "beta"})
