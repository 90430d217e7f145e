"""`python -m benchmarks.head cpu`, `python -m benchmarks.head cuda`: compare, print tables, write results/head.json.

cpu   one thread (--threads 2 for another run), 416 live tokens of 1,024 positions, float32, a small vocabulary; then
      ours at every size of a tile. Draws notebooks/img/head.svg.
cuda  sizes of real models in bfloat16; the headline (163,840 tokens) with one process for each method, the rest by
      turns in one. A machine without a card writes "not measured". `--device cpu --toy` walks through it anywhere.

The two write different parts of the same file. `--only "A small"` measures some cells and keeps the others.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import machine, peers
from benchmarks.head import cases, measure, methods, report
from grpo_nb.runs import files

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "head.json"
FIGURE = ROOT / "notebooks" / "img" / "head.svg"
TILES = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)  # MiB


def options_of(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.head", description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["cpu", "cuda"])
    parser.add_argument("--device", choices=["cpu", "cuda"], help="where to run; cpu with the part cuda: errors only")
    parser.add_argument("--toy", action="store_true", help="tiny sizes")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    parser.add_argument("--repeats", type=int, default=None, help="steps timed (7 on a CPU, 10 on a card)")
    parser.add_argument("--only", default="", help="cells whose title has these words")
    parser.add_argument("--methods", default="", help="methods whose name has one of these words, comma between")
    parser.add_argument("--out", type=Path, help=f"default: {RESULTS.relative_to(ROOT)}; of a toy, build/head.json")
    parser.add_argument("--figure", type=Path, default=None, help=f"default, if --out is not given: {FIGURE.name}")
    parser.add_argument("--alone", action="store_true", help="print the rows of one cell as JSON (for the headline)")
    options = parser.parse_args(words)
    options.device = options.device or ("cuda" if options.part == "cuda" and torch.cuda.is_available() else "cpu")
    options.out = options.out or (ROOT / "build" / "head.json" if options.toy else RESULTS)
    if not cells_of(options):
        parser.error(f"--only must be words of a title (got {options.only!r}). Leave it out to see all of them.")
    return options


def chosen(options: argparse.Namespace) -> list[methods.Method]:
    """The methods asked for; with `--alone` exactly the one of this name."""
    if options.alone:
        return [method for method in methods.METHODS if method.name == options.methods]
    words = options.methods.split(",")
    return [method for method in methods.METHODS if any(word in method.name for word in words)]


def cells_of(options: argparse.Namespace) -> list[cases.Case]:
    """The cases of a part, at toy sizes if asked for."""
    every = cases.CUDA
    if options.part == "cpu":
        every = [replace(cases.CPU, head=head) for head in (cases.FROZEN, cases.TRAINABLE)]
    return [c for c in (cases.toy(case) if options.toy else case for case in every) if options.only in c.title]


def settings_of(options: argparse.Namespace) -> dict[str, int]:
    """How often a step is run: not at all for times and memory where a card is asked about and there is none."""
    if options.part == "cpu":
        return {"repeats": options.repeats or 7, "warm_ups": 1}
    return (
        {"repeats": options.repeats or 10, "warm_ups": 3} if options.device == "cuda" else {"repeats": 0, "warm_ups": 0}
    )


def rows_of(case: cases.Case, options: argparse.Namespace) -> list[dict]:
    """A row for each method in one case."""
    tested = chosen(options)
    if options.part == "cuda" and options.device == "cpu" and not options.toy:
        return [{"method": method.name, "entropy": method.entropy} for method in tested]
    if case.name == cases.HEADLINE.name and not options.alone:
        return [row for method in tested for row in in_a_process(method, case, options)]
    return measure.measured(case, tested, options.device, **settings_of(options))


def in_a_process(method: methods.Method, case: cases.Case, options: argparse.Namespace) -> list[dict]:
    """The row of one method, measured where nothing else has been: no fragments, no leftovers of another's."""
    flags = ["--device", options.device, "--only", case.title, "--methods", method.name, "--alone"]
    flags += ["--toy"] * options.toy + (["--repeats", str(options.repeats)] if options.repeats else [])
    command = [sys.executable, "-m", "benchmarks.head", options.part, *flags]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["no message"])[-1]
        return [{"method": method.name, "entropy": method.entropy, "failed": last[:160]}]
    return json.loads(ran.stdout.splitlines()[-1])


def main(words: list[str]) -> int:
    """Measure, print, write; the exit status is 1 if one of ours broke or is too far from float64."""
    options = options_of(words)
    torch.set_num_threads(options.threads)
    every = cells_of(options)
    if options.alone:
        print(json.dumps(rows_of(every[0], options)))
        return 0
    cells, complaints = [], []
    for case in every:
        rows = rows_of(case, options)
        complaints += measure.wrong(rows, case)
        positions = case.rows * (case.prompt + case.longest)
        cells.append({"title": case.title, "live": case.live, "positions": positions, "rows": rows})
        print(report.tables({"cells": cells[-1:], "device": options.part}), end="\n\n", flush=True)
    part = {"device": options.part, "threads": options.threads, "toy": options.toy, "cells": cells}
    if options.part == "cpu":
        part["sweep"] = measure.measured(every[0], methods.sweep(TILES), "cpu", **settings_of(options))
    write(part | {"versions": peers.versions(), "machine": machine.described()}, options)
    print(*complaints, sep="\n")
    return int(bool(complaints))


def write(part: dict, options: argparse.Namespace) -> None:
    """Put a part into the file beside the others, its cells beside those that `--only` left out."""
    record = json.loads(options.out.read_text(encoding="utf8")) if options.out.exists() else {}
    name = options.part if options.threads == 1 else f"{options.part}, {options.threads} threads"
    if options.only and name in record:
        fresh = {cell["title"]: cell for cell in part["cells"]}
        kept = [fresh.pop(cell["title"], cell) for cell in record[name]["cells"]]
        part["cells"] = kept + list(fresh.values())
    record[name] = part
    options.out.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(options.out, json.dumps(record, indent=1))
    print(f"wrote {options.out}")
    where = options.figure or (FIGURE if options.out == RESULTS and options.threads == 1 else None)
    if where and options.part == "cpu":
        with files.replacing_file(where) as draft:
            report.figure(part).savefig(draft)
        print(f"wrote {where}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
