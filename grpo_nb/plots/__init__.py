"""Data in, Figure or HTML out: curves, score tables, coloured tokens, one palette for the series.

| file      | what it makes                                           | functions                                    |
|-----------|---------------------------------------------------------|----------------------------------------------|
| `palette` | colours of the series, plain axes                       | `plain`, `ink`, `pale`, `contrast`           |
| `curves`  | numbers of a run → curves and bars                      | `curve`, `resumed`, `before_after`, `bars`   |
| `windows` | a plan of `batchflow` → what can be drawn, and in words | `tell_batch_flow`                            |
| `flows`   | … → a timetable                                         | `plot_batch_flow`                            |
| `films`   | … → one generation round in motion                      | `animate_batch_flow`                         |
| `pages`   | figures, tables, tokens → HTML, all text escaped        | `show`, `png`, `table`, `tokens`, …          |
| `canvas`  | a figure that follows a control → pixels, in little time | `frame`, `key`, `Canvas`                     |

Figures are `matplotlib.figure.Figure` objects made without pyplot: no global state, no double display. `show` adds
the alt text.
"""

from grpo_nb.plots.canvas import Canvas, frame, key
from grpo_nb.plots.curves import bars, before_after, curve, resumed
from grpo_nb.plots.films import animate_batch_flow
from grpo_nb.plots.flows import plot_batch_flow
from grpo_nb.plots.pages import (
    DPI,
    TOKEN_STYLE,
    WIDGET_VIEW,
    few_colours,
    png,
    png_data_uri,
    safe_text,
    show,
    show_live,
    table,
    tokens,
)
from grpo_nb.plots.palette import COLOURS, OKABE_ITO, WIDE, contrast, ink, pale, plain
from grpo_nb.plots.windows import tell_batch_flow
