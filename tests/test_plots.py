"""Pictures draw the numbers they were given; model text reaches a page as text."""

import base64
import html.parser
import io
import re
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from grpo_nb import plots

ATTACKS = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "</pre></td></table><svg onload=alert(1)>",
    "<style>*{display:none}</style>",
    '" onmouseover="alert(1)',
    "<!-- --><a href=javascript:alert(1)>x</a>",
    "&lt;b&gt; &#60;i&#62;",
    "<b id=MathJax>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "</td></table><script>x</script>",
    "</pre><b>",
    "<!-- ",
    "--><script>",
    "<![CDATA[<script>]]>",
    "' onfocus='alert(1)",
    "<a href='javascript:alert(1)'>",
    "<form id=MathJax>",
    "<input name=currentScript>",
    "&lt;script&gt;",
    "&#60;script&#62;",
    "<iframe srcdoc='<script>'>",
    "<math><mtext></mtext><script>",
    "$\\href{javascript:alert(1)}{x}$",
    "\x1b[2J\x1b[31mred",
    "\x1b]8;;http://example.invalid\x07link\x1b]8;;\x07",
    "right\u202eto left",
    "zero\u200bwidth\ufeff",
    "nul\x00",
    "lone \ud800 surrogate",
    "back\x08space",
    "bell\x07",
    "\u2066isolate\u2069",
    "private \ue000",
    "C1 \x9b31m",
]


class Elements(html.parser.HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("attack", ATTACKS)
def test_model_text_stays_text(attack):
    page = Elements(plots.table([{attack: attack}], caption=attack) + plots.tokens([(attack, "assistant", True)]))
    assert page.tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td", "div", "span", "p"}
    assert page.attributes <= {"style", "scope", "title"}
    assert attack in re.sub(r"⟨U\+(\w+)⟩", lambda code: chr(int(code[1], 16)), page.text)
    assert not [c for c in page.text if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t"]


def test_numbers_in_a_table_are_short():
    page = plots.table([{"share": 0.123456, "interval": [0.1, 0.98765], "count": 3}])
    assert [text in page for text in (">0.123<", ">0.100 … 0.988<", ">3<")] == [True] * 3


def test_control_and_direction_characters_become_visible():
    shown = plots.safe_text("a\x1b[31m\u202eb\u200b\x00\ud800\n")
    assert shown == "a⟨U+001B⟩[31m⟨U+202E⟩b⟨U+200B⟩⟨U+0000⟩⟨U+D800⟩\n"
    shown.encode("utf8")


def test_long_text_is_cut_and_says_so():
    assert plots.safe_text("x" * 50, limit=10) == "x" * 10 + " … (40 more characters)"


def test_curve_draws_the_logged_numbers_and_their_mean():
    rows = [
        {"step": 1, "reward": 1.0},
        {"step": 2, "reward": 3.0},
        {"step": 3, "reward": None},
        {"step": 4, "reward": 5.0},
    ]
    dots, line = plots.curve(rows, smooth=2).axes[0].lines
    assert list(dots.get_xdata()) == [1, 2, 4] and list(dots.get_ydata()) == [1, 3, 5]
    assert list(line.get_ydata()) == [1, 2, 4]


def test_curve_without_data_is_an_empty_picture():
    assert not plots.curve([{"step": 1}], ("kl",)).axes[0].lines


def test_before_after_draws_the_shares():
    before = {"sampled": 0.5, "greedy": 0.25, "format": 1.0, "sampled_interval": (0.4, 0.6)}
    after = {"sampled": 0.9, "greedy": 0.75, "format": 1.0, "sampled_interval": (0.8, 0.95)}
    heights = [bar.get_height() for bar in plots.before_after(before, after).axes[0].patches]
    assert heights == [0.5, 0.25, 1.0, 0.9, 0.75, 1.0]


def test_bars_write_their_values():
    texts = [t.get_text() for t in plots.bars({"right": 13.0, "wrong": -0.5}, xlabel="score").axes[0].texts]
    assert texts == ["-0.5", "13"]


def test_show_gives_the_alt_text_escaped(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    plots.show(plots.curve([]), alt='a "curve" <rises>')
    assert 'alt="a &quot;curve&quot; &lt;rises&gt;"' in shown[0].data


def test_resumed_draws_both_halves_over_the_whole():
    """By hand: steps 1 to 4, sealed after 2, killed after 3: the second half takes step 3 again."""
    whole = [{"step": step, "reward": 1.0 * step} for step in (1, 2, 3, 4)]
    axes = plots.resumed(whole, whole[:3], whole[2:], sealed=2).axes[0]
    lines = {line.get_label(): list(line.get_xdata()) for line in axes.lines if not line.get_label().startswith("_")}
    assert lines == {"never killed": [1, 2, 3, 4], "until the kill": [1, 2, 3], "resumed": [3, 4]}
    assert [text.get_text() for text in axes.texts] == ["sealed", "killed"]


def test_html_is_made_where_text_is_escaped():
    """In the package, `HTML(…)` is given what `plots` built or an f-string of parts that went through `safe_text`."""
    package = Path(plots.__file__).parent
    makers = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if "HTML(" in path.read_text()}
    assert makers == {"explorers/panel.py", "listeners.py", "plots.py"}


def test_a_png_is_small_and_keeps_the_colours():
    """The palette of the series survives to the last bit, in at most 64 colours, for less than half of the bytes."""
    figure = plots.bars({name: 1.0 + i for i, name in enumerate(plots.OKABE_ITO)}, xlabel="a value")
    for bar, colour in zip(figure.axes[0].patches, plots.OKABE_ITO.values(), strict=True):
        bar.set_color(colour)
    whole = io.BytesIO()
    figure.savefig(whole, format="png", dpi=110)
    small = base64.b64decode(plots.png(figure))
    ours, theirs = (Image.open(io.BytesIO(data)).convert("RGB") for data in (small, whole.getvalue()))
    seen = [colour for _, colour in ours.getcolors(64)]
    assert {tuple(bytes.fromhex(colour[1:])) for colour in plots.OKABE_ITO.values()} <= set(seen)
    assert ours.size == theirs.size and len(small) < len(whole.getvalue()) / 2
