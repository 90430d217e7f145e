"""Notebooks → executed copies, committed outputs, and the HTML report that `make tutorial` leaves.

    python -m tools.publish tutorial build      execute all, leave copies, report.html and the runs under build/
    python -m tools.publish notebooks [NAME…]   execute, and write the outputs into the committed notebooks
    python -m tools.publish links               point badges and set-up cells at pyproject's Repository

nbclient does the running, in a copy of the notebooks' folder, so that a run never leaves anything beside the originals.
"""

import argparse
import copy
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from grpo_nb import models, profiles
from grpo_nb.runs import files
from tools import report

ROOT = Path(__file__).resolve().parent.parent  # publishing needs the checkout, not only the package
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_NOISE = ("execution", "ExecuteTime", "collapsed", "scrolled", "outputId")
LINK = re.compile(
    r"(colab\.research\.google\.com/github/|(?:git\+|git clone |src=)https://github\.com/)[\w.-]+/[\w.-]+"
)
SECRET = re.compile(r"\b(?:hf_|sk-|ghp_|gho_|github_pat_)[A-Za-z0-9_-]{16,}")
ABSOLUTE_PATH = re.compile(r"(?:^|[\s\"'(=>\[,]|file://)((?:/[\w.@+-]+){2,}|[A-Za-z]:\\[\w.-]+)", re.MULTILINE)
DATA_URI = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=]+")


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


def write_links(root: Path = ROOT) -> list[Path]:
    """Apply `point_to` to the README and every notebook. A notebook's outputs stay as fresh, or as stale, as they were.

    Returns: the files that changed.
    """
    import nbformat

    address, changed = repository(root), []
    for path in [root / "README.md", *sorted((root / "notebooks").glob("*.ipynb"))]:
        before = path.read_text(encoding="utf8")
        after = point_to(address, before)
        if after == before:
            continue
        if path.suffix == ".ipynb" and not is_stale(nbformat.reads(before, as_version=4)):
            notebook = nbformat.reads(after, as_version=4)
            after = nbformat.writes(stamp(notebook, notebook.metadata["grpo_nb"]["profile"])) + "\n"
        files.write_text(path, after)
        changed.append(path)
    return changed


def code_sha256(notebook: dict) -> str:
    """A hash of the code cells' sources: the outputs below them are fresh while it stays the same."""
    sources = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def stamp(notebook: dict, profile: str) -> dict:
    """The same notebook, its metadata saying which code and which profile its outputs come from."""
    notebook["metadata"]["grpo_nb"] = {"code_sha256": code_sha256(notebook), "profile": profile}
    return notebook


def is_stale(notebook: dict) -> bool:
    """Whether the code changed after the outputs were written (or none ever were)."""
    return notebook["metadata"].get("grpo_nb", {}).get("code_sha256") != code_sha256(notebook)


def output_problems(notebook: dict) -> list[str]:
    """What the outputs hold that must not be published: errors, absolute paths, tokens. Empty where all is well."""
    found = []
    for index, cell in enumerate(notebook["cells"]):
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                found.append(f"cell {index} ended in {output['ename']}")
            text = DATA_URI.sub("", _output_text(output))
            if path := ABSOLUTE_PATH.search(text):
                found.append(f"cell {index} shows the absolute path {path[1]}")
            if SECRET.search(text):
                found.append(f"cell {index} shows a token")
    return found


def clean(notebook: dict) -> dict:
    """A copy fit to be committed: no widget state, timings, stderr or machine details.

    Raises: ValueError if an output holds an error, an absolute path or a token.
    """
    notebook = copy.deepcopy(notebook)
    notebook["metadata"] = copy.deepcopy(METADATA)
    for cell in notebook["cells"]:
        cell["metadata"] = {key: value for key, value in cell["metadata"].items() if key not in CELL_NOISE}
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in cell["outputs"] if output.get("name") != "stderr"]
            for output in cell["outputs"]:
                _one_picture(output.get("data", {}))
    if problems := output_problems(notebook):
        raise ValueError(
            f"committed outputs must hold no error, absolute path or token (got: {'; '.join(problems)}). Print less."
        )
    return notebook


def _one_picture(data: dict) -> None:
    """Leave of an explorer what needs no kernel, and its picture once: in the page, with its alt text."""
    if data.pop(WIDGET_VIEW, None) and "text/html" in data:
        data.pop("image/png", None)


def _output_text(output: dict) -> str:
    """Everything in an output that a reader could read as text."""
    data = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/png")}
    return "\n".join([output.get("text", ""), *map(str, data.values()), *output.get("traceback", [])])


def execute(path: Path, env: dict[str, str]) -> report.Outcome:
    """Run a notebook from the top, in its own folder, up to the end or to the first error.

    Args:
        path: the .ipynb file; it is read, not written.
        env: the kernel's whole environment.
    """
    import nbclient
    import nbformat

    notebook, running = nbformat.read(path, as_version=4), {}
    client = nbclient.NotebookClient(
        notebook,
        timeout=None,  # a GPU cell may train for hours
        kernel_name="python3",
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # no word on transport encryption between our own lines
        resources={"metadata": {"path": str(path.parent)}},
        coalesce_streams=True,
        store_widget_state=False,  # it would be shown by scripts from a server, instead of the picture beside it
        on_cell_execute=lambda cell, cell_index: running.update(index=cell_index),
    )
    failure, start = "", time.perf_counter()
    try:
        client.execute(env=env)
    except nbclient.exceptions.CellExecutionError as error:
        failure = f"{path.name}, cell {running['index']}: {error.ename}: {error.evalue}"
    except nbclient.exceptions.DeadKernelError:
        failure = f"{path.name}, cell {running['index']}: the kernel died (out of memory, or killed)"
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            _one_picture(output.get("data", {}))
    return report.Outcome(path, notebook, (time.perf_counter() - start) / 60, failure)


def execute_all(folder: Path, env: dict[str, str], names: list[str] | None = None) -> list[report.Outcome]:
    """Execute the notebooks of a folder in the order of their numbers, each in a fresh kernel, saying how it went.

    Raises: ValueError for a name without a notebook.
    """
    paths = sorted(folder.glob("*.ipynb"))
    known = [path.stem for path in paths]
    if unknown := [name for name in names or [] if name not in known]:
        raise ValueError(f"a notebook's name must be one of {', '.join(known)} (got {', '.join(unknown)}).")
    outcomes = []
    for path in paths:
        if names and path.stem not in names:
            continue
        print(f"{path.name} …", end=" ", flush=True)
        outcomes.append(execute(path, env))
        print(outcomes[-1].failure or f"{outcomes[-1].minutes:.1f} min", flush=True)
    return outcomes


def tutorial(build: Path, notebooks: Path = ROOT / "notebooks") -> int:
    """Execute every notebook in the profile of the environment; leave copies, pages, runs and the report under `build`.

    Returns: 0, or 1 if a notebook failed; the report is written in both cases.
    """
    from nbconvert import HTMLExporter

    profile, build = profiles.current().name, build.resolve()
    copies, outputs = build / "notebooks", build / "outputs"
    _stage(notebooks, copies)
    if outputs.exists():  # one earlier run is kept, so that a second command does not lose hours of training
        shutil.rmtree(build / "outputs.previous", ignore_errors=True)
        outputs.rename(build / "outputs.previous")
    outputs.mkdir(parents=True)
    outcomes = execute_all(copies, {**os.environ, "GRPO_NB_PROFILE": profile, "GRPO_NB_OUTPUTS": str(outputs)})
    exporter = HTMLExporter(require_js_url="")  # embed_images would close every <details> before its hidden answer
    for outcome in outcomes:
        _write_notebook(outcome.path, stamp(outcome.notebook, profile))
        page, _ = exporter.from_notebook_node(outcome.notebook, {"metadata": {"path": str(copies)}})
        files.write_text(outcome.path.with_suffix(".html"), page)
    files.write_text(build / "report.html", report.page(outcomes, profile, outputs, models.machine()))
    print(f"\nreport     {build / 'report.html'}\nnotebooks  {copies}")
    for path in sorted(outputs.rglob("metrics.jsonl")):
        print(f"run        {path}")
    return _verdict(outcomes)


def refresh(names: list[str] | None = None, notebooks: Path = ROOT / "notebooks") -> int:
    """Execute notebooks in the profile of the environment and write their cleaned outputs into the committed files.

    Returns: 0, or 1 if a notebook failed; a failed one keeps its old outputs.
    """
    profile = profiles.current().name
    env = {key: value for key, value in os.environ.items() if key != "GRPO_NB_OUTPUTS"}  # printed paths stay relative
    with tempfile.TemporaryDirectory() as scratch:
        _stage(notebooks, Path(scratch) / "notebooks")
        outcomes = execute_all(Path(scratch) / "notebooks", {**env, "GRPO_NB_PROFILE": profile}, names)
    for outcome in outcomes:
        if not outcome.failure:
            _write_notebook(notebooks / outcome.path.name, stamp(clean(outcome.notebook), profile))
    return _verdict(outcomes)


def _verdict(outcomes: list[report.Outcome]) -> int:
    failures = [outcome.failure for outcome in outcomes if outcome.failure]
    for failure in failures:
        print(f"FAILED     {failure}", file=sys.stderr)
    return 1 if failures else 0


def _stage(notebooks: Path, copies: Path) -> None:
    """A fresh copy of the notebooks' folder, pictures and recorded runs included."""
    shutil.rmtree(copies, ignore_errors=True)
    shutil.copytree(notebooks, copies, ignore=shutil.ignore_patterns("outputs", ".ipynb_checkpoints", "swanlog"))


def _write_notebook(path: Path, notebook: dict) -> None:
    import nbformat

    files.write_text(path, nbformat.writes(notebook).rstrip("\n") + "\n")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.publish", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("tutorial", help="execute all; leave copies, report and runs under BUILD")
    command.add_argument("build", type=Path, nargs="?", default=Path("build"))
    command = commands.add_parser("notebooks", help="execute; write the outputs into the committed notebooks")
    command.add_argument("names", nargs="*", help="such as 04_rewards; default: all")
    commands.add_parser("links", help="point badges and set-up cells at pyproject's Repository")
    given = parser.parse_args(argv)
    if given.command == "tutorial":
        return tutorial(given.build)
    if given.command == "notebooks":
        write_links()
        return refresh(given.names)
    for path in write_links():
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
