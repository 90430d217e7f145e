"""Executed notebooks and the runs that they left → one HTML page. Everything that comes from a run is escaped."""

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path

from grpo_nb import plots
from grpo_nb.runs import tracking

STACK = ("transformers", "trl", "peft", "datasets", "accelerate")  # torch's version comes with the machine
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>grpo_nb: report</title><style>
body {{ font: 16px/1.5 sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }}
td, th {{ padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top }}
caption {{ text-align: left; color: #555 }} img {{ max-width: 100% }}
</style></head><body>
<h1>grpo_nb: what this run did</h1>
{body}
</body></html>
"""


@dataclass(frozen=True)
class Outcome:
    """One executed notebook: `failure` is empty, or a sentence that names the cell and the error."""

    path: Path
    notebook: dict
    minutes: float
    failure: str = ""


def page(outcomes: list[Outcome], profile: str, outputs: Path, machine: dict[str, str]) -> str:
    """The report as one HTML page: profile and machine, the notebooks, and each run's curve and summary.

    Args:
        outputs: folder whose subfolders hold the runs' metrics.jsonl and summary.json.
        machine: as `models.machine()` tells it.
    """
    notebooks = "".join(
        f'<tr><td><a href="notebooks/{plots.safe_text(o.path.stem)}.html">{plots.safe_text(o.path.stem)}</a></td>'
        f"<td>{o.minutes:.1f} min</td><td>{plots.safe_text(o.failure or 'finished')}</td></tr>"
        for o in outcomes
    )
    runs = "".join(_run_section(path, outputs) for path in sorted(outputs.rglob("metrics.jsonl")))
    versions = {name: importlib.metadata.version(name) for name in STACK}
    facts = [{"what": key, "value": value} for key, value in {**machine, **versions, "profile": profile}.items()]
    return PAGE.format(
        body=f"<h2>Notebooks</h2><table>{notebooks}</table><h2>Runs</h2>{runs or '<p>No run was recorded.</p>'}"
        f"<h2>Where it ran</h2>{plots.table(facts)}"
    )


def _run_section(metrics: Path, outputs: Path) -> str:
    name = plots.safe_text(metrics.parent.relative_to(outputs).as_posix())
    rows, summary = tracking.read_jsonl(metrics), metrics.parent / "summary.json"
    parts = [f"<h3>{name}</h3>"]
    key = "reward" if any(row.get("reward") is not None for row in rows) else "loss"
    values = [row[key] for row in rows if row.get(key) is not None]
    if values:
        alt = f"{key} of {name} over {len(values)} logged steps, from {values[0]:.3g} to {values[-1]:.3g}"
        parts.append(f'<img alt="{alt}" src="{plots.png_data_uri(plots.curve(rows, (key,)))}">')
    if summary.exists():
        flat = _flatten(json.loads(summary.read_text(encoding="utf8")))
        parts.append(plots.table([{"measure": key, "value": value} for key, value in flat.items()], caption="summary"))
    link = plots.safe_text(metrics.relative_to(outputs.parent).as_posix())
    return "".join(parts) + f'<p>Every logged number: <a href="{link}">{link}</a></p>'


def _flatten(summary: dict, prefix: str = "") -> dict:
    """Nested dicts as one, keys joined by a slash: {"before": {"greedy": 0.4}} → {"before/greedy": 0.4}."""
    flat = {}
    for key, value in summary.items():
        flat |= _flatten(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
