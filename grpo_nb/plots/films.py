"""One generation round of a plan in motion: a film that needs no kernel, and a picture where no script may run."""

import base64
import html
import re
from collections.abc import Callable
from dataclasses import replace

from matplotlib.animation import FuncAnimation
from matplotlib.patches import Rectangle

from grpo_nb import batchflow
from grpo_nb.plots.flows import Drawing, draw
from grpo_nb.plots.pages import few_colours, png_data_uri
from grpo_nb.plots.palette import COLOURS, pale
from grpo_nb.plots.windows import Window, tell, window_of

HEAD = 0.3  # inches, for the sentence above a frame
MOST = 12  # micro-steps of a film
BYTES, CELLS = 200_000, 400  # of a film; cells in all its frames, for a first attempt
SECONDS = 1.5  # of a frame
BUTTONS = {  # of matplotlib's player, those that stay and what is written on them
    "First frame": "First",
    "Previous frame": "Back",
    "Play": "Play",
    "Pause": "Pause",
    "Next frame": "Next",
    "Last frame": "Last",
}
SHOW = "<script>document.querySelectorAll('.anim-controls').forEach(box => { box.hidden = false; });</script>"


def animate_batch_flow(plan: batchflow.Plan) -> str:
    """The first generation round, micro-step by micro-step, as HTML for `IPython.display.HTML`.

    Completions are pale until they are trained on. Buttons and slider work without a kernel and with the keyboard;
    nothing moves by itself. Where scripts are stripped, as on GitHub, the picture of the whole round stays.

    Returns: a page's part, all in one, of at most `BYTES`; of a large round a part, and the axis says which.
    """
    window = window_of(plan, generations=1, most=MOST)
    window = _smaller(window, cells=CELLS // (len(window.steps) + 1))
    while len(page := _film(window)) > BYTES and window.processes * window.rows > 1:
        window = _smaller(window, cells=int(window.cells * BYTES / len(page)))
    return page


def _film(window: Window) -> str:
    drawing, show = frames(window)
    film = FuncAnimation(drawing.figure, show, frames=len(window.steps) + 1, interval=1000 * SECONDS, repeat=False)
    return _page(film.to_jshtml(), alt=tell(window), picture=png_data_uri(draw(window).figure))


def frames(window: Window) -> tuple[Drawing, Callable[[int], None]]:
    """The drawing of a film, and the function that makes it show a frame: the sampling is 0, micro-step k is k + 1."""
    drawing = draw(window, head=HEAD)
    text = drawing.figure.text(0.015, 1 - HEAD / 2 / drawing.figure.get_figheight(), "", va="center", fontsize=10)
    frame = drawing.axes.add_patch(Rectangle((0, 0), 1, window.lines, fill=False, linewidth=3, zorder=6, clip_on=False))

    def show(number: int) -> None:
        done = window.steps[:number]
        _colour(drawing, {step.step for step in done})
        frame.set_visible(bool(done))
        frame.set_x(window.left(done[-1]) if done else 0)
        text.set_text(_sentence(window, number))

    return drawing, show


def _smaller(window: Window, *, cells: int) -> Window:
    """A window of no more cells: fewer completions of each process down to two, then fewer processes."""
    while window.cells > cells and window.processes * window.rows > 1:
        key = "rows" if window.rows > 2 or window.processes == 1 else "processes"
        window = replace(window, **{key: getattr(window, key) - 1})
    return window


def _colour(drawing: Drawing, done: set[int]) -> None:
    """Cells and lines of these micro-steps as they are, the others pale."""
    drawing.colour([cell.colour if cell.step.step in done else pale(cell.colour) for cell in drawing.cells])
    updates = {cell.step.optimizer_update for cell in drawing.cells if cell.step.step in done}
    for update, rule in drawing.rules.items():
        rule.set_color(COLOURS["loss"] if update in updates else pale(COLOURS["loss"]))


def _sentence(window: Window, number: int) -> str:
    """What happens in a frame; the first one is the sampling."""
    plan = window.plan
    if not number:
        order = "shuffled on each process" if plan.shuffle else "cut in order"
        return f"Round 0: {plan.generation_batch_size} completions are sampled and scored, then {order}."
    step = window.steps[number - 1]
    if step.optimizer_update is not None:
        return f"Micro-step {step.step}: forward and backward, then optimizer step {step.optimizer_update}."
    return f"Micro-step {step.step}: forward and backward; gradients add up."


def _page(player: str, *, alt: str, picture: str) -> str:
    """Matplotlib's player without its link to a font, in few colours, with words on its buttons, an alt and a picture.

    Args:
        player: what `to_jshtml` gives.
    """
    player = re.sub(r"<link[^>]*>", "", player)
    player = re.sub(r'(?<=data:image/png;base64,)[^"]+', _recoloured, player)
    player = re.sub(r'<button title="([^"]*)".*?onclick="([^"]*)".*?</button>', _button, player, flags=re.DOTALL)
    player = re.sub(r"<label.*?</label>", "", player, flags=re.DOTALL).replace("<form ", "<form hidden ")
    player = player.replace('<div class="anim-controls">', '<div class="anim-controls" hidden>')
    player = player.replace('type="range"', 'type="range" aria-label="frame"')
    described = f'alt="{html.escape(alt)}" src="{picture}" style="max-width:100%"'
    return re.sub(r'(<img id="\w+")', lambda found: f"{found[1]} {described}", player) + SHOW


def _recoloured(found: re.Match) -> str:
    data = base64.b64decode(re.sub(r"[\\\s]", "", found[0]))
    return base64.b64encode(few_colours(data)).decode()


def _button(found: re.Match) -> str:
    word = BUTTONS.get(found[1])
    return (
        f'<button type="button" style="width:auto;padding:2px 8px" onclick="{found[2]}">{word}</button>' if word else ""
    )
