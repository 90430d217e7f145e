"""Notebooks → executed copies, committed outputs, and the HTML report that `make tutorial` leaves.

    python -m tools.publish tutorial build      execute all, leave copies, report.html and the runs under build/
    python -m tools.publish notebooks [NAME…]   execute, and write the outputs into the committed notebooks
    python -m tools.publish working FOLDER      copy the notebooks without outputs, to be worked in
    python -m tools.publish links               address, minutes and README's table from their owners: tools/links.py

nbclient does the running, in a copy of the notebooks' folder, so that a run never leaves anything beside the originals.
"""

import argparse
import copy
import os
import re
import shutil
import sys
import tempfile
import time
import urllib.parse
from concurrent import futures
from pathlib import Path

from grpo_nb import models, profiles
from grpo_nb.runs import files
from tools import links, report

ROOT = links.ROOT  # publishing needs the checkout, not only the package
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_NOISE = ("execution", "ExecuteTime", "collapsed", "scrolled", "outputId")
SECRET = re.compile(r"\b(?:hf_|sk-|ghp_|gho_|github_pat_)[A-Za-z0-9_-]{16,}")
ABSOLUTE_PATH = re.compile(r"(?:^|[\s\"'(=>\[,]|file://)((?:/[\w.@+-]+){2,}|[A-Za-z]:\\[\w.-]+)", re.MULTILINE)
OUTWARD = re.compile(r'(?<=\]\()\.\./|(?<=href=")\.\./')  # links that leave the notebooks' folder
DATA_URI = re.compile(r"data:[\w/+.-]+;base64,[A-Za-z0-9+/=]+")


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
    notebook = _without_noise(notebook)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in cell["outputs"] if output.get("name") != "stderr"]
            for output in cell["outputs"]:
                _one_picture(output.get("data", {}))
    if problems := output_problems(notebook):
        raise ValueError(
            f"committed outputs must hold no error, absolute path or token (got: {'; '.join(problems)}). Print less."
        )
    return notebook


def _without_noise(notebook: dict) -> dict:
    """A copy whose metadata say nothing of a run."""
    notebook = copy.deepcopy(notebook)
    notebook["metadata"] = copy.deepcopy(METADATA)
    for cell in notebook["cells"]:
        cell["metadata"] = {key: value for key, value in cell["metadata"].items() if key not in CELL_NOISE}
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


def execute_all(
    folder: Path, env: dict[str, str], names: list[str] | None = None, *, at_once: int = 1
) -> list[report.Outcome]:
    """Execute the notebooks of a folder, each in a fresh kernel, saying how it went.

    Args:
        at_once: notebooks that run side by side, begun in the order of their numbers; one whose card reads
            "after notebook 06" waits for that one, whose run it takes up.
    Returns: in the order of the numbers.
    Raises: ValueError for a name without a notebook.
    """
    paths = sorted(folder.glob("*.ipynb"))
    known = [path.stem for path in paths]
    if unknown := [name for name in names or [] if name not in known]:
        raise ValueError(f"a notebook's name must be one of {', '.join(known)} (got {', '.join(unknown)}).")
    begun: dict[str, futures.Future] = {}

    def run(path: Path) -> report.Outcome:
        if (first := links.needed_first(path.read_text(encoding="utf8"))) in begun:
            begun[first].result()
        print(f"{path.name} …", flush=True)
        outcome = execute(path, env)
        print(f"{path.name}: {outcome.failure or f'{outcome.minutes:.1f} min'}", flush=True)
        return outcome

    with futures.ThreadPoolExecutor(at_once) as pool:
        for path in paths:
            if not names or path.stem in names:
                begun[path.stem[:2]] = pool.submit(run, path)
        try:
            return [each.result() for each in begun.values()]
        except KeyboardInterrupt:
            os._exit(130)  # no thread can be stopped; the kernels end with the process that began them


def tutorial(build: Path, notebooks: Path = ROOT / "notebooks") -> int:
    """Execute every notebook in the profile of the environment; leave copies, pages, runs and the report under `build`.

    Returns: 0, or 1 if a notebook failed; the report is written in both cases.
    """
    from tools import reading

    profile, build = profiles.current().name, build.resolve()
    copies, outputs = build / "notebooks", build / "outputs"
    _stage(notebooks, copies)
    _lead_back(copies, notebooks)
    if outputs.exists():  # one earlier run is kept, so that a second command does not lose hours of training
        shutil.rmtree(build / "outputs.previous", ignore_errors=True)
        outputs.rename(build / "outputs.previous")
    outputs.mkdir(parents=True)
    is_small = "model_name" not in profiles.current().policy  # else one fills the card, or the memory
    env = {**os.environ, "GRPO_NB_PROFILE": profile, "GRPO_NB_OUTPUTS": str(outputs)}
    outcomes = execute_all(copies, env, at_once=min(2, os.cpu_count() or 1) if is_small else 1)
    for outcome in outcomes:
        _write_notebook(outcome.path, links.stamp(outcome.notebook, profile, outcome.minutes))
        files.write_text(outcome.path.with_suffix(".html"), reading.page(outcome.notebook, outcome.path.stem))
    files.write_text(build / "report.html", report.page(outcomes, profile, outputs, models.machine()))
    print(f"\nreport     {build / 'report.html'}\nnotebooks  {copies}")
    for path in sorted(outputs.rglob("metrics.jsonl")):
        print(f"run        {path}")
    return _verdict(outcomes)


def refresh(names: list[str] | None = None, notebooks: Path = ROOT / "notebooks") -> int:
    """Execute notebooks in the profile of the environment and write their cleaned outputs into the committed files.

    Only a run of all writes down new minutes: one notebook alone trains again what an earlier one would have left it.

    Returns: 0, or 1 if a notebook failed; a failed one keeps its old outputs.
    """
    import nbformat

    profile = profiles.current().name
    env = {key: value for key, value in os.environ.items() if key != "GRPO_NB_OUTPUTS"}  # printed paths stay relative
    with tempfile.TemporaryDirectory() as scratch:
        _stage(notebooks, Path(scratch) / "notebooks")
        outcomes = execute_all(Path(scratch) / "notebooks", {**env, "GRPO_NB_PROFILE": profile}, names)
    for outcome in outcomes:
        if not outcome.failure:
            target = notebooks / outcome.path.name
            minutes = (names and links.recorded_minutes(nbformat.read(target, as_version=4))) or outcome.minutes
            _write_notebook(target, links.stamp(clean(outcome.notebook), profile, minutes))
    return _verdict(outcomes)


def working(folder: Path, notebooks: Path = ROOT / "notebooks") -> Path:
    """Copy the notebooks without outputs, to be worked in: what a class opens. Ids, folds, pictures and runs stay.

    Raises: ValueError if the folder is there already, or would lie among the notebooks; OSError if it cannot be made.
    """
    import nbformat

    if notebooks.resolve() in folder.resolve().parents:
        raise ValueError(
            f"the folder must lie outside {notebooks.name}, which is copied (got {folder}). Try build/working."
        )
    if os.path.lexists(folder):  # a link that leads nowhere, too
        raise ValueError(
            f"the folder must not be there yet, for it may hold somebody's work (got {folder}). "
            "Move it away, or name another: python -m tools.publish working FOLDER."
        )
    _stage(notebooks, folder)
    _lead_back(folder, notebooks)
    for path in sorted(folder.glob("*.ipynb")):
        notebook = _without_noise(nbformat.read(path, as_version=4))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"], cell["execution_count"] = [], None
        _write_notebook(path, notebook)
    return folder


def _verdict(outcomes: list[report.Outcome]) -> int:
    failures = [outcome.failure for outcome in outcomes if outcome.failure]
    for failure in failures:
        print(f"FAILED     {failure}", file=sys.stderr)
    return 1 if failures else 0


def _stage(notebooks: Path, copies: Path) -> None:
    """A fresh copy of the notebooks' folder, pictures and recorded runs included."""
    shutil.rmtree(copies, ignore_errors=True)
    shutil.copytree(notebooks, copies, ignore=shutil.ignore_patterns("outputs", ".ipynb_checkpoints", "swanlog"))


def _lead_back(copies: Path, notebooks: Path) -> None:
    """Let links out of the notebooks' folder, such as ../docs/errata.md, lead there from the copies too."""
    import nbformat

    prefix = urllib.parse.quote(Path(os.path.relpath(notebooks.parent.resolve(), copies.resolve())).as_posix() + "/")
    for path in copies.glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = OUTWARD.sub(lambda _: prefix, cell["source"])
        _write_notebook(path, notebook)


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
    command = commands.add_parser("working", help="copy the notebooks without outputs, to be worked in")
    command.add_argument("folder", type=Path, nargs="?", default=Path("build/working"))
    commands.add_parser("links", help="write address, minutes and README's table from their owners")
    given = parser.parse_args(argv)
    if given.command == "tutorial":
        return tutorial(given.build)
    if given.command == "working":
        try:
            print(f"working    {working(given.folder)}")
        except (ValueError, OSError) as error:
            parser.error(str(error))
        return 0
    failed = given.command == "notebooks" and refresh(given.names)
    for path in links.write():
        print(path.relative_to(ROOT))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
