"""Pictures draw the numbers they were given; model text reaches a page as text."""

import html.parser

import pytest

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
    assert attack in page.text


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
