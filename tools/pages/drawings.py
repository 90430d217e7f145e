"""The four conceptual drawings as SVG, for README and docs: `make docs`."""

import io
from pathlib import Path

import matplotlib

from grpo_nb import plots
from grpo_nb.runs import files

FOLDER = Path(__file__).parent.parent.parent / "notebooks" / "img"
FONTS = ["DejaVu Sans", "Verdana", "sans-serif"]  # Linux; macOS and Windows; elsewhere
DRAWINGS = {
    "drawing-group.svg": plots.drawing_group,
    "drawing-pipeline.svg": plots.drawing_pipeline,
    "drawing-memory.svg": plots.drawing_memory,
    "drawing-clip-and-kl.svg": plots.drawing_clip_and_kl,
}


def svg(name: str) -> str:
    """A drawing, the same whenever it is made. Its words stay words, in fonts of one width on every system.

    Args:
        name: of the file, a key of `DRAWINGS`.
    """
    figure, alt = DRAWINGS[name]()
    page = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.sans-serif": FONTS}):
        figure.savefig(page, format="svg", metadata={"Title": alt, "Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"


if __name__ == "__main__":
    for name in DRAWINGS:
        files.write_text(FOLDER / name, svg(name))
