"""Workflow, issue forms, citation and hooks: valid by their published schemas, and in step with the Makefile."""

import ast
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf8")
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
SCHEMAS = {  # files, by the schemas that check-jsonschema brings along
    "vendor.github-workflows": sorted((ROOT / ".github" / "workflows").glob("*.yml")),
    "custom.github-workflows-require-timeout": sorted((ROOT / ".github" / "workflows").glob("*.yml")),
    "vendor.github-issue-forms": FORMS,
    "vendor.github-issue-config": [ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.citation-file-format": [ROOT / "CITATION.cff"],
}


def lint(schema: str, *paths: Path) -> subprocess.CompletedProcess:
    """check-jsonschema by a schema that it brings along: nothing is fetched."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, "--default-filetype", "yaml"]
    return subprocess.run([*command, *map(str, paths)], capture_output=True, text=True)


def read(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf8"))


def recipe(target: str) -> list[str]:
    """The lines of a target, as the Makefile has them."""
    return (
        re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)[1].replace("\t", "").splitlines()
    )


def commands(job: dict) -> list[str]:
    """Every line that a job of the workflow runs."""
    return [line for step in job["steps"] for line in step.get("run", "").splitlines()]


# The schemas.
@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_are_valid(schema):
    assert SCHEMAS[schema]
    ran = lint(schema, *SCHEMAS[schema])
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_lint_can_fail(tmp_path):
    (tmp_path / "form.yml").write_text("name: A bug\nbody: []\n", encoding="utf8")
    assert lint("vendor.github-issue-forms", tmp_path / "form.yml").returncode == 1


# The workflow.
def test_the_workflow_runs_what_ci_runs():
    jobs = read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    assert commands(jobs["unix"]) == ["bash .ci/run"]
    ran = (ROOT / ".ci" / "run").read_text(encoding="utf8")
    assert all(f"make {target}" in ran for target in ("test ", "test-browser ", "check")), "and tutorial, in a clone"
    windows = [line.replace(".venv/Scripts", ".venv/bin") for line in commands(jobs["windows"])]
    wanted = [line.replace("$(PYTHON)", "python").replace("$*", "cpu") for line in recipe(".venv/ready-%")]
    wanted = [line for line in wanted if "-m venv" in line or "-m pip" in line] + recipe("check")
    assert [line for line in wanted if line not in windows] == [], "Windows must install and check what make does"
    for words in ("-m pytest", "--nbmake", "tools.publish tutorial build", "git status --porcelain"):
        assert any(words in line for line in windows), words


def test_the_workflow_meets_every_python_and_system():
    jobs = read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    classes = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]["requires-python"]
    assert classes == ">=3.11,<3.14"
    for job in jobs.values():
        assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert {*jobs["unix"]["strategy"]["matrix"]["os"], jobs["windows"]["runs-on"]} == {
        "ubuntu-latest",
        "macos-latest",
        "windows-latest",
    }


# The hooks.
def test_hooks_are_the_lines_of_make_check():
    (local,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    assert [hook["entry"] for hook in local["hooks"]] == recipe("check")
    for hook in local["hooks"]:
        assert (
            hook["language"] == "system" and hook["pass_filenames"] is False and hook["entry"].startswith(".venv/bin/")
        )


# What a reader is asked for, and told.
def test_the_command_that_a_report_needs_runs():
    text = next(field for field in read(ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml")["body"] if field.get("id"))
    command = re.search(r"`\.venv/bin/(python .*)`", text["attributes"]["description"])[1]
    ran = subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0 and "'trl': '1." in ran.stdout, ran.stderr
    assert str(ROOT) not in ran.stdout, "it tells no path"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_asks_for_little(path):
    fields = [field for field in read(path)["body"] if field["type"] != "markdown"]
    assert 2 <= len(fields) <= 5 and len({field["id"] for field in fields}) == len(fields)


def test_the_citation_has_the_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
    citation = read(ROOT / "CITATION.cff")
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])


def test_the_new_names_of_the_changelog_exist():
    rows = re.findall(r"^\| `grpo_nb.*?\| (.*) \|$", (ROOT / "CHANGELOG.md").read_text(encoding="utf8"), re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`((?:grpo_nb|tools)\.[\w.]+)`", row)]
    assert len(names) >= len(rows) > 8
    for name in names:
        assert pkgutil.resolve_name(name), name


# What differs between systems.
@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii", "utf-8", "ascii:surrogateescape"])
def test_a_console_without_a_letter_ends_no_command(encoding):
    """The last is how Python opens a console in a container without a locale."""
    code = "import grpo_nb; print('π → ≥ 用户 \\udcff')"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True)
    encoding = encoding.partition(":")[0]
    said = "π → ≥ 用户 \udcff".encode(encoding, "backslashreplace").decode(encoding)
    assert (ran.returncode, ran.stdout.decode(encoding).split()) == (0, said.split()), ran.stderr


def test_a_command_line_prints_its_help_in_few_letters():
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "tools.publish", "--help"]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
    assert ran.returncode == 0 and rb"Notebooks \u2192 executed copies" in ran.stdout, ran.stderr


SOURCES = sorted(path for room in ("grpo_nb", "tools", "benchmarks", "tests") for path in (ROOT / room).rglob("*.py"))


def test_every_command_line_imports_the_package_that_sees_to_its_letters():
    texts = {path: path.read_text(encoding="utf8") for path in SOURCES}
    commands = [path for path, text in texts.items() if '\nif __name__ == "__main__"' in text and "print(" in text]
    assert len(commands) > 5
    assert [path.name for path in commands if not re.search("^(from|import) grpo_nb", texts[path], re.MULTILINE)] == []


ONE_SYSTEM = re.compile(
    r"\bos\.(fork|sysconf|statvfs|killpg|get(e?uid|pgid)|O_DIRECTORY)\b|\bsignal\.SIG(KILL|HUP|ALRM|USR)|"
    r"\bimport (fcntl|resource|pwd|grp|termios|msvcrt|winreg)\b"
)


def test_the_package_asks_for_nothing_that_one_system_only_has():
    ours = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in ("grpo_nb", "tools")]
    assert [path.name for path in ours if ONE_SYSTEM.search(path.read_text(encoding="utf8"))] == []
    assert ONE_SYSTEM.search((ROOT / "benchmarks" / "survival.py").read_text(encoding="utf8")), "it says that it forks"


def texts_without_encoding(source: str) -> list[int]:
    """The lines that open a file as text in the system's own encoding: on Windows it is not UTF-8."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name, owner = getattr(call.func, "attr", getattr(call.func, "id", "")), getattr(call.func, "value", None)
        given = [
            node.value for node in [*call.args, *(k.value for k in call.keywords)] if isinstance(node, ast.Constant)
        ]
        is_binary = any(isinstance(word, str) and "b" in word and set(word) <= {*"rwxab+"} for word in given)
        is_other = getattr(owner, "id", "") in ("files", "Image", "os", "reader")
        if name in ("read_text", "write_text", "open") and not is_binary and not is_other:
            found += [] if "encoding" in {keyword.arg for keyword in call.keywords} else [call.lineno]
    return found


def test_every_text_names_its_encoding():
    found = {
        path.relative_to(ROOT).as_posix(): texts_without_encoding(path.read_text(encoding="utf8")) for path in SOURCES
    }
    assert {name: lines for name, lines in found.items() if lines} == {}
    assert texts_without_encoding("open(x)\nopen(x, 'rb')\np.read_text()\np.open('ab')\np.open('w')") == [1, 3, 5]


def test_nothing_runs_what_a_model_writes():
    """What SECURITY.md says of the package: no eval, exec, pickle or shell."""
    forbidden = re.compile(
        r"(?<![.\w])(?:eval|exec)\(|import pickle|pickle\.load|os\.system|shell=True|trust_remote_code(?!=False)"
    )
    found = [
        path.name for path in (ROOT / "grpo_nb").rglob("*.py") if forbidden.search(path.read_text(encoding="utf8"))
    ]
    assert found == []
    assert forbidden.search("x = eval(text)") and not forbidden.search("model.eval()")
    assert forbidden.search("trust_remote_code=True") and forbidden.search('{"trust_remote_code": True}')
