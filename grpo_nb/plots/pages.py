"""Figures, tables and tokens as HTML; text that nobody vouches for reaches it as text only."""

import base64
import html
import io
import unicodedata
from collections.abc import Callable

from matplotlib.figure import Figure

from grpo_nb.plots.palette import OKABE_ITO

DPI = 110
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
LIVE, INSTEAD = "grpo-nb-live", "grpo-nb-instead"  # classes of the HTML beneath controls
STYLE = (  # JupyterLab. An output of controls that has no element is their error: model not found
    f"<style>.jp-OutputArea-child:has(> .jupyter-widgets):has(+ .jp-OutputArea-child .{LIVE}){{display:none}}"
    f".jp-OutputArea-child:has(> .jupyter-widgets > *):has(+ .jp-OutputArea-child .{LIVE}){{display:flex}}"
    f".jp-OutputArea-child:has(.jupyter-widgets > *) + .jp-OutputArea-child:has(.{INSTEAD}){{display:none}}</style>"
)


def png(figure: Figure, dpi: int = DPI) -> str:
    """The figure as a PNG of at most 64 colours, in base64: a third of the bytes, and a notebook keeps many of them."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return base64.b64encode(few_colours(buffer.getvalue())).decode()


def few_colours(picture: bytes) -> bytes:
    """A picture as a PNG of at most 64 colours."""
    from PIL import Image

    small = io.BytesIO()
    drawn = Image.open(io.BytesIO(picture)).convert("RGB")
    drawn.quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()


def png_data_uri(figure: Figure) -> str:
    """The figure as a data URI, to stand in an <img> of a page that has to be one file."""
    return "data:image/png;base64," + png(figure)


def show(figure: Figure, alt: str) -> None:
    """Display a figure with its alt text, for screens and for screen readers.

    Args:
        alt: what the figure shows, in one sentence.
    """
    from IPython.display import HTML, display

    display(HTML(f'<img alt="{html.escape(alt)}" src="{png_data_uri(figure)}">'))


def show_live(controls, page: str, words: str, *, instead: bool = False) -> Callable[[str, str], None]:
    """Display controls, and beneath them HTML that stays in the notebook when its kernel is gone.

    A widget needs its kernel: in a notebook that is opened again, JupyterLab writes "Error displaying widget: model not
    found" in its place, whatever else the output holds. So the HTML is an output of its own, kept up to date by its
    display id, and a rule in it hides controls that are not there.

    Args:
        controls: an ipywidgets widget.
        page, words: the HTML, and what it shows for a terminal.
        instead: the HTML stands in for the controls; where they are, JupyterLab hides it.
    Returns: what replaces the HTML and its words.
    """
    from IPython.display import display

    def output(page: str, words: str) -> dict:
        return {"text/html": f'<div class="{LIVE}{f" {INSTEAD}" * instead}">{STYLE}{page}</div>', "text/plain": words}

    model = {"version_major": 2, "version_minor": 0, "model_id": controls.model_id}
    display({WIDGET_VIEW: model, "text/html": "", "text/plain": ""}, raw=True)
    shown = display(output(page, words), raw=True, display_id=True)
    return lambda page, words: shown.update(output(page, words), raw=True)


def safe_text(text: object, limit: int = 2000) -> str:
    """Untrusted text as HTML text: escaped, control and direction-changing characters made visible, cut at `limit`.

    >>> safe_text("<b>1</b>\\u202e")
    '&lt;b&gt;1&lt;/b&gt;⟨U+202E⟩'
    """
    text = str(text)
    return html.escape(visible(text[:limit])) + (
        f" … ({len(text) - limit} more characters)" if len(text) > limit else ""
    )


def visible(text: str) -> str:
    """Untrusted text for a terminal: control and direction-changing characters made visible, but for \\n and \\t.

    >>> visible("red \\x1b[31m")
    'red ⟨U+001B⟩[31m'
    """
    return "".join(
        f"⟨U+{ord(c):04X}⟩" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co") and c not in "\n\t" else c
        for c in text
    )


def table(rows: list[dict], *, caption: str = "") -> str:
    """Rows as an HTML table, every cell through `safe_text`; floats with three decimals."""
    if not rows:
        return f"<p>{safe_text(caption)}: nothing to show.</p>"
    heads = "".join(f'<th scope="col" style="text-align:left">{safe_text(key)}</th>' for key in rows[0])
    body = "".join("<tr>" + "".join(_cell(value) for value in row.values()) + "</tr>" for row in rows)
    return f"<table><caption>{safe_text(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    return f'<td style="text-align:left;white-space:pre-wrap;font-family:monospace">{safe_text(_short(value))}</td>'


def _short(value: object) -> object:
    """A float with three decimals, an interval as its two ends, anything else as it is."""
    if isinstance(value, (list, tuple)):
        return " … ".join(str(_short(end)) for end in value)
    return f"{value:.3f}" if isinstance(value, float) else value


def tokens(pieces: list[tuple[str, str, bool]]) -> str:
    """Tokens as HTML: the colour tells the role, an underline (never colour alone) that the loss trains on it.

    Args:
        pieces: (text, role, is_trained) for each token; roles are system, user, assistant, padding.
    """
    tint = {"system": "#e6e0f0", "user": "#fdebc8", "assistant": "#d3e8f5", "padding": "#eeeeee"}
    spans = "".join(_token(text, role, tint[role], is_trained) for text, role, is_trained in pieces)
    legend = " ".join(
        f'<span style="background:{c};color:#000;padding:2px 6px">{role}</span>' for role, c in tint.items()
    )
    return f'<div style="font-family:monospace;line-height:2.2">{spans}</div><p>{legend} · underlined: trained on</p>'


TOKEN_STYLE = "padding:2px 3px;margin:1px;display:inline-block;white-space:pre"


def _token(text: str, role: str, tint: str, is_trained: bool) -> str:
    line = OKABE_ITO["blue"] if is_trained else "transparent"
    style = f"background:{tint};color:#000;border-bottom:3px solid {line};{TOKEN_STYLE}"
    return f'<span title="{html.escape(role)}" style="{style}">{safe_text(text).replace(chr(10), "⏎")}</span>'
