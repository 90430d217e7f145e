"""How long an explorer takes to follow a control: ours beside the way it was drawn before, in the same run.

Run `python -m benchmarks.explorers`: prints a line for each, writes `benchmarks/results/explorers.json`. Every preset
is chosen, and every number is moved by a step, there and back. The peer draws the same numbers as a new figure that
looks for room itself (constrained layout), saved at the same size and reduced to 64 colours. Both in CPU time of the
process: numbers, figure, picture, and what goes to the front end.
"""

import importlib
import json
import statistics
import time
from importlib.metadata import version
from pathlib import Path

from benchmarks import machine
from grpo_nb import explorers, plots, profiles
from grpo_nb.runs import files

FILES = sorted(Path(explorers.__file__).parent.glob("[a-z]*.py"))
NAMES = [path.stem for path in FILES if "def figure(" in path.read_text(encoding="utf8")]  # not those without a picture
ROUNDS = 2
LIMIT_MS = 100.0  # what a redraw may take, so that a picture seems to follow the hand
RESULT = Path(__file__).parent / "results" / "explorers.json"


def cpu_ms(work, *given) -> float:
    """Milliseconds of CPU that a call takes."""
    began = time.process_time()
    work(*given)
    return 1e3 * (time.process_time() - began)


def drawn_anew(shown) -> None:
    """The peer: a fresh figure, room found for its texts, a PNG of 64 colours."""
    compute, figure, caption = shown.layers
    numbers = compute(**shown.values)
    drawing = figure(numbers)
    if drawing.axes[0].get_subplotspec():  # the timetable has its own places
        drawing.set_layout_engine("constrained")
    plots.png(drawing)
    caption(numbers)


def moves(shown) -> list[tuple]:
    """(widget, value) for every preset and every step of a number, there and back."""
    chosen = [(shown.preset, name) for name in shown.presets]
    steps = [(field, field.value + field.step) for field in shown.fields.values() if hasattr(field, "step")]
    return chosen + [move for field, value in steps for move in ((field, value), (field, field.value))]


def measure(shown) -> dict:
    """Median, ninth tenth and largest time of a redraw; the peer draws the same values right after each."""
    ours, peer = [], []
    for _ in range(ROUNDS):
        for widget, value in moves(shown):
            widget.value, before = shown.preset.options[0] if widget is shown.preset else widget.value, shown.values
            milliseconds = cpu_ms(setattr, widget, "value", value)
            if shown.values != before and "role=" not in shown.view.value:  # neither still there nor refused
                ours.append(milliseconds)
                peer.append(cpu_ms(drawn_anew, shown))
    told = {"median": statistics.median, "p90": lambda times: statistics.quantiles(times, n=10)[-1], "largest": max}
    ratio = statistics.median(before / now for now, before in zip(ours, peer, strict=True))
    both = {"ours_ms": ours, "peer_ms": peer}
    result = {name: {word: round(of(times), 1) for word, of in told.items()} for name, times in both.items()}
    return {**result, "redraws": len(ours), "peer_to_ours": round(ratio, 2)}


def panels() -> dict:
    """Name → explorer, as the notebooks show it; the one of sampling asks an untrained policy of the ci profile."""
    from grpo_nb import data, models
    from grpo_nb.explorers import sampling

    profile = profiles.current("ci")
    rows, _ = data.load_task({**profile.task, "num_train": 64, "num_held_out": 16})
    shown = {name: importlib.import_module(f"grpo_nb.explorers.{name}") for name in NAMES if name != "sampling"}
    shown = {name: module.explorer() for name, module in shown.items()}
    return {**shown, "sampling": sampling.explorer(*models.load_policy(profile, rows), rows[0]["problem"])}


def main() -> None:
    """Measure every explorer, print a line for each, write the JSON."""
    print(f"{'explorer':14}{'ours':>9}{'9 of 10':>9}{'peer':>9}{'peer : ours':>13}   (ms of CPU)")
    found = {}
    for name, shown in panels().items():
        found[name] = result = measure(shown)
        ours = result["ours_ms"]
        print(f"{name:14}{ours['median']:9.1f}{ours['p90']:9.1f}{result['peer_ms']['median']:9.1f}", end="")
        print(f"{result['peer_to_ours']:13.1f}")
    record = {
        "what": "milliseconds of CPU from a moved control to the picture, over presets and steps of every number",
        "machine": machine.described(),
        "versions": {name: version(name) for name in ("matplotlib", "pillow", "ipywidgets", "numpy")},
        "limit_ms": LIMIT_MS,
        "explorers": found,
    }
    files.write_text(RESULT, json.dumps(record, indent=1) + "\n")
    worst = max(found, key=lambda name: found[name]["ours_ms"]["p90"])
    print(f"slowest: {worst} · written to {RESULT.relative_to(Path(__file__).parents[1])}")


if __name__ == "__main__":
    main()
