"""Data in, Figure or HTML out: curves, score tables, coloured tokens, one palette for the series.

| file       | what it makes                                           | functions                                    |
|------------|---------------------------------------------------------|----------------------------------------------|
| `palette`  | colours of the series, plain axes                       | `plain`, `ink`, `pale`, `readable`, …        |
| `curves`   | numbers of a run → curves and bars                      | `curve`, `resumed`, `before_after`, `bars`   |
| `sketches` | boxes, arrows and words, one stage of them lit          | `Sketch`                                     |
| `drawings` | the series: a step of GRPO, the way of a model          | `drawing_group`, `drawing_pipeline`          |
| `concepts` | ideas: where memory goes, what clip and KL hold back    | `drawing_memory`, `drawing_clip_and_kl`      |
| `series`   | several lines, runs of several seeds → mean and range   | `arms`, `lines`                              |
| `heads`    | what a linear head holds, costs and pushes              | `tensors_held`, `direction_of`, `head_costs` |
| `windows`  | a plan of `batchflow` → what can be drawn, and in words | `tell_batch_flow`                            |
| `flows`    | … → a timetable                                         | `plot_batch_flow`                            |
| `films`    | … → one generation round in motion                      | `animate_batch_flow`                         |
| `pages`    | figures, tables, tokens → HTML, all text escaped        | `show`, `png`, `table`, `tokens`, …          |
| `canvas`   | a figure that follows a control → pixels, in no time    | `frame`, `key`, `Canvas`                     |

Figures are `matplotlib.figure.Figure` objects made without pyplot: no global state, no double display. `show` adds
the alt text.
"""

from grpo_nb.plots.canvas import Canvas, frame, key
from grpo_nb.plots.concepts import drawing_clip_and_kl, drawing_memory
from grpo_nb.plots.curves import bars, before_after, curve, resumed
from grpo_nb.plots.drawings import drawing_group, drawing_pipeline
from grpo_nb.plots.films import animate_batch_flow
from grpo_nb.plots.flows import plot_batch_flow
from grpo_nb.plots.heads import direction_of, head_costs, tensors_held
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
    visible,
)
from grpo_nb.plots.palette import COLOURS, OKABE_ITO, WIDE, contrast, ink, pale, plain, readable
from grpo_nb.plots.series import arms, lines
from grpo_nb.plots.windows import tell_batch_flow
