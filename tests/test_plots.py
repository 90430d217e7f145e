"""Pictures draw the numbers they were given; model text reaches a page as text."""

import base64
import functools
import html.parser
import io
import re
import unicodedata
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from grpo_nb import batchflow, plots
from grpo_nb.plots import films, flows, windows

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


def test_an_evaluations_line_goes_through_its_dots_and_two_names_do_not_meet():
    """Ends at 4 (the mean of 3 and 5) and at 4.01: at one height, but for the offset of the upper name."""
    rows = [{"step": step, "reward": float(step)} for step in range(1, 6)]
    rows += [{"step": 0, "eval_reward": 1.0}, {"step": 5, "eval_reward": 4.51}]
    axes = plots.curve(rows, ("reward", "eval_reward"), smooth=2).axes[0]
    assert list(axes.lines[3].get_ydata()) == [1.0, 4.51]
    names = {text.get_text(): text.xyann[1] for text in axes.texts}
    assert names["eval_reward"] - names["reward"] > 8


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


def test_dots_stand_for_bars_on_a_logarithmic_axis():
    """0 has no place there: it stands a decade below the smallest value, and its number says what it is."""
    axes = plots.bars(
        {"q4": 0.02, "none": 0.0, "training": 1.5}, xlabel="nats", log=True, colours={"training": "#000000"}
    ).axes[0]
    assert [float(line.get_xdata()[0]) for line in axes.lines] == [1.5, 0.002, 0.02]
    assert [to_hex(line.get_color()) for line in axes.lines] == ["#000000", *[plots.COLOURS["policy"].lower()] * 2]
    assert [text.get_text() for text in axes.texts] == ["1.5", "0", "0.02"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["training", "none", "q4"]
    assert axes.get_xscale() == "log" and not axes.patches


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
    package = Path(plots.__file__).parent.parent
    makers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "HTML(" in path.read_text(encoding="utf8")
    }
    bench = {"explorers/experiment.py", "lab/experiments.py"}
    assert makers == {"explorers/panel.py", "plots/pages.py", "runs/callbacks.py"} | bench


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


# Batch flow.
EXAMPLE_3 = {"per_device_train_batch_size": 3, "num_generations": 4, "gradient_accumulation_steps": 4, "shuffle": False}
SHAPE = {"per_device_train_batch_size": 3, "num_generations": 3, "gradient_accumulation_steps": 2}
FLOWS = {
    "example one": (8, {**SHAPE, "steps_per_generation": 4, "shuffle": False}),
    "example three": (6, EXAMPLE_3),
    "shuffled, two epochs": (4, {**SHAPE, "steps_per_generation": 4, "num_train_epochs": 2}),
    "replays": (8, {**SHAPE, "steps_per_generation": 4, "num_iterations": 2}),
    "accumulation beyond a round": (9, {**SHAPE, "gradient_accumulation_steps": 3, "steps_per_generation": 2}),
    "two processes": (40, {**SHAPE, "num_processes": 2, "steps_per_generation": 4}),
    "four processes": (64, {**SHAPE, "per_device_train_batch_size": 4, "num_generations": 2, "num_processes": 4}),
    "an update every micro-step": (12, {**SHAPE, "gradient_accumulation_steps": 1, "steps_per_generation": 12}),
    "TRL's defaults": (100, {"per_device_train_batch_size": 8, "num_generations": 8}),
    "a long round": (500, {"per_device_train_batch_size": 1, "num_generations": 8, "gradient_accumulation_steps": 64}),
    "far too much": (
        7473,
        {
            **{"per_device_train_batch_size": 16, "num_generations": 16, "num_processes": 8, "num_iterations": 2},
            **{"gradient_accumulation_steps": 2, "steps_per_generation": 4},
        },
    ),
}


@functools.cache
def plan_of(name: str) -> batchflow.Plan:
    prompts, settings = FLOWS[name]
    return batchflow.plan(prompts, **settings)


@pytest.fixture(params=FLOWS)
def flow(request):
    return plan_of(request.param)


@functools.cache
def drawn(plan) -> flows.Drawing:
    """What `plot_batch_flow` makes its figure of: a cell for every completion, a rule for every optimizer step."""
    return flows.draw(windows.window_of(plan, generations=2))


def numbers_drawn(drawing) -> list[list[int]]:
    """For each column from the left, the numbers from above."""
    columns: dict[float, list] = {}
    for (x, _), number in sorted(numbers_of(drawing, drawing.numbers)):
        columns.setdefault(x, []).append(number)
    return list(columns.values())


def numbers_of(drawing, collection) -> list[tuple[tuple[float, float], int]]:
    """Place and value of each number that is drawn: a number has one outline."""
    values = {id(flows.outline(str(value))): value for value in {*range(99), *(cell.prompt for cell in drawing.cells)}}
    places = [(float(x), float(y)) for x, y in collection.get_offsets()]
    return [(place, values[id(path)]) for place, path in zip(places, collection.get_paths(), strict=True)]


def labels(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_example_three_by_hand():
    """Groups of four in micro-steps of three; process after process it would be one line: 0 0 0 0 1 1 1 1 2 2 2 2."""
    drawing = drawn(batchflow.plan(6, **EXAMPLE_3))
    first = [[0, 0, 0], [0, 1, 1], [1, 1, 2], [2, 2, 2]]
    assert numbers_drawn(drawing) == first + [[3 + number for number in column] for column in first]
    assert labels(drawing.figure)[:4] == [*("round 0: 3 prompts × 4", "round 1: 3 prompts × 4", "step 0", "step 1")]
    assert [label.get_text() for label in drawing.axes.get_yticklabels()] == [
        *("generation", "optimizer", "process 0", "micro-step")
    ]
    assert drawing.axes.get_xlabel() == "", "nothing is left out"


def test_the_figure_is_the_drawing(flow):
    figure, drawing = plots.plot_batch_flow(flow), drawn(flow)
    assert labels(figure) == labels(drawing.figure)
    for ours, theirs in zip(figure.axes[0].collections, drawing.axes.collections, strict=True):
        assert [path.vertices.tolist() for path in ours.get_paths()] == [
            p.vertices.tolist() for p in theirs.get_paths()
        ]


def test_cells_are_the_plans(flow):
    """Time to the right, processes and their completions downward, each number on its own cell."""
    drawing = drawn(flow)
    processes = min(flow.num_processes, 4)
    rows = len(numbers_drawn(drawing)[0]) // processes
    steps = flow.micro_steps[: len(numbers_drawn(drawing))]
    expected = [[n for part in step.slices[:processes] for n in part[:rows]] for step in steps]
    assert numbers_drawn(drawing) == expected and 1 <= rows <= flow.per_device_train_batch_size
    assert [cell.prompt for cell in drawing.cells] == [number for column in expected for number in column]
    drawn_ones = zip(drawing.cells, numbers_of(drawing, drawing.numbers), drawing.squares.get_paths(), strict=True)
    for cell, ((x, y), number), square in drawn_ones:
        assert square.contains_point((x, y)) and square.get_extents().p0.tolist() == list(cell.place)
        assert number == cell.prompt


def test_a_line_follows_the_micro_step_that_ends_an_optimizer_step(flow):
    drawing = drawn(flow)
    places = {cell.step: cell.place[0] + 0.5 for cell in drawing.cells}
    ends = {step.optimizer_update: step.step for step in places if step.optimizer_update is not None}
    assert list(drawing.rules) == list(ends)
    for update, rule in drawing.rules.items():
        left, right = rule.get_xdata()
        assert left == right, "it stands upright"
        assert [step for step in places if places[step] < left] == [s for s in places if s.step <= ends[update]]
    named = [text.get_text() for text in drawing.axes.texts if text.get_ha() == "right"]
    assert [label.removeprefix("step ") for label in named] == [str(update) for update in ends]


def test_staleness_has_a_number_and_a_grey_and_nothing_lies_under_a_number(flow):
    drawing = drawn(flow)
    stale = {cell.step: cell.step.staleness for cell in drawing.cells}
    names = {label.get_text(): label.get_position()[1] for label in drawing.axes.get_yticklabels()}
    assert ("staleness" in names) == any(stale.values())
    assert not [artist for artist in [*drawing.axes.patches, *drawing.axes.collections] if artist.get_hatch()]
    if "staleness" in names:
        bands, numbers = drawing.axes.collections[2:4]
        assert {y for (_, y), _ in numbers_of(drawing, numbers)} == {numbers.get_offsets()[0][1]}
        assert numbers.get_offsets()[0][1] == pytest.approx(names["staleness"])
        columns = {cell.step: cell.place[0] + 0.5 for cell in drawing.cells}
        assert {x: number for (x, _), number in numbers_of(drawing, numbers)} == {
            columns[step]: stale[step] for step in stale
        }
        grounds = [to_hex(colour).upper() for colour in bands.get_facecolor()]
        assert grounds == [flows.STALE[min(staleness, 2)] for staleness in stale.values()]
        assert all(plots.contrast(ground, "#000000") >= 4.5 for ground in grounds)


def colours_of(drawing) -> list[tuple[str, str]]:
    """Of each cell the ground and the number, as they are drawn."""
    both = zip(drawing.squares.get_facecolor(), drawing.numbers.get_facecolor(), strict=True)
    return [(to_hex(ground), to_hex(letters)) for ground, letters in both]


def test_a_prompt_has_one_colour_and_its_number_is_read_on_it(flow):
    seen: dict[int, set] = {}
    for cell, (ground, letters) in zip(drawn(flow).cells, colours_of(drawn(flow)), strict=True):
        assert ground == cell.colour.lower()
        assert plots.contrast(ground, letters) >= 4.5
        seen.setdefault(cell.prompt, set()).add(cell.colour)
    assert {len(colours) for colours in seen.values()} == {1}


def test_neighbours_differ_in_colour_up_to_eight():
    drawing = drawn(batchflow.plan(64, **SHAPE, steps_per_generation=8, seed=3))
    assert len({cell.colour for cell in drawing.cells}) == 8


def test_replays_and_epochs_are_named():
    texts = labels(drawn(plan_of("replays")).figure)
    assert [text for text in texts if "pass" in text or "replay" in text] == ["first pass", "replay 1"] * 2
    five = batchflow.plan(4, **SHAPE, num_train_epochs=5)
    assert [text for text in labels(plots.plot_batch_flow(five)) if text.startswith("round")] == [
        *("round 0: 2 prompts × 3", "round 1: 2 prompts × 3")
    ]
    assert "round 2, epoch 1" in labels(plots.plot_batch_flow(five, generations=3))


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("two processes", "drawn: 8 of 20 micro-steps"),
        ("TRL's defaults", "drawn: 2 of 100 micro-steps"),
        ("a long round", "drawn: 15 of 3968 micro-steps"),
        ("far too much", "drawn: 8 of 1864 micro-steps, 4 of 8 processes, 5 of 16 completions of each"),
    ],
)
def test_the_axis_says_what_is_left_out(name, left_out):
    assert drawn(plan_of(name)).axes.get_xlabel() == left_out
    assert plots.tell_batch_flow(plan_of(name)).endswith(f"(D{left_out[1:]}.)")


def test_a_round_that_is_cut_short_says_so():
    assert (
        labels(drawn(plan_of("a long round")).figure)[0] == "round 0: 8 prompts × 8 completions, 15 of 64 micro-steps"
    )


def test_the_figure_can_be_read(flow):
    """Within its size, in letters that are read at half of it, none over another or beyond the edge."""
    figure = drawn(flow).figure
    width, height = figure.get_size_inches()
    assert width <= 6.4 + 1e-9 and height <= (3.2 if flow.num_processes <= 2 else 5.6) + 1e-9
    figure.draw_without_rendering()
    axes = figure.axes[0]
    texts = [text for text in [*axes.texts, *axes.get_yticklabels(), axes.xaxis.label] if text.get_text()]
    boxes = [Text.get_window_extent(text) for text in texts]
    points, rows = figure.dpi / 72, axes.collections
    for squares, numbers in zip(rows[::2], rows[1::2], strict=True):  # a number lies within its square, or beside none
        room = [square.get_extents().transformed(axes.transData) for square in squares.get_paths()]
        found = []
        for place, outline in zip(numbers.get_offsets(), numbers.get_paths(), strict=True):
            x, y = axes.transData.transform(place)
            half = outline.get_extents().size * points / 2
            assert len(found) < len(room) and half[1] * 2 >= 0.7 * 11 * points
            found.append(Bbox([[x - half[0], y - half[1]], [x + half[0], y + half[1]]]))
            assert any(r.xmin < x < r.xmax and r.ymin < y - half[1] and y + half[1] < r.ymax for r in room)
        assert not any(box.overlaps(other) for i, box in enumerate(found) for other in found[:i])
    for i, box in enumerate(boxes):
        assert texts[i].get_fontsize() >= (10 if texts[i] is axes.xaxis.label else 11)
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, texts[i]
        for j, other in enumerate(boxes[:i]):  # boxes have a pixel more than their letters
            assert not box.padded(-1).overlaps(other.padded(-1)), (texts[i], texts[j])


def test_a_flow_in_words():
    plan = batchflow.plan(4, **{**SHAPE, "num_generations": 6}, steps_per_generation=4, num_iterations=2, shuffle=False)
    assert plots.tell_batch_flow(plan, generations=1).startswith(
        "Round 0, 2 prompts × 6 completions. Micro-step 0: 0 0 0. Micro-step 1: 0 0 0, then optimizer step 0. "
        "Micro-step 2 (staleness 1): 1 1 1. Micro-step 3 (staleness 1): 1 1 1, then optimizer step 1. "
        "Micro-step 4 (replay 1, staleness 2): 0 0 0."
    )
    both = plots.tell_batch_flow(batchflow.plan(4, **SHAPE, num_processes=2, shuffle=False))
    assert "Micro-step 0: 0 0 0 on process 0; 2 2 2 on process 1. Micro-step 1: 1 1 1 on process 0; 3 3 3" in both


def test_no_round_is_no_picture():
    with pytest.raises(ValueError, match=r"generations must be at least 1 \(got 0\)\. Try generations = 2\."):
        plots.plot_batch_flow(batchflow.plan(6, **EXAMPLE_3), generations=0)


# The film.
class Page(html.parser.HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def of(self, *tags) -> list[dict]:
        return [attributes for tag, attributes in self.found if tag in tags]


@pytest.fixture(scope="module")
def film():
    return plots.animate_batch_flow(plan_of("example one"))


def pictures(page: str) -> list[Image.Image]:
    """The still one, then the frames."""
    found = re.findall(r'data:image/png;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB") for data in found]


def test_a_film_needs_nothing_from_elsewhere(film):
    assert not re.search(r"https?:|//[a-z]|@import|<link|url\(", re.sub(r"base64,[^\"]+", "", film)), "no address"
    assert all(attributes["src"].startswith("data:image/png;base64,") for attributes in Page(film).of("img"))
    assert {"iframe", "object", "embed"}.isdisjoint(tag for tag, _ in Page(film).found)


def test_a_film_has_a_frame_for_the_sampling_and_one_for_every_micro_step(film):
    assert len(pictures(film)) == 1 + 1 + 4
    assert "new Array(5)" in film


@pytest.mark.parametrize("name", ["replays", "a long round", "two processes", "far too much"])
def test_a_film_stays_small(name):
    page = plots.animate_batch_flow(plan_of(name))
    assert len(page) < 200_000
    still, *frames = pictures(page)
    assert len(frames) == {"replays": 9, "a long round": 13, "two processes": 5, "far too much": 9}[name]
    assert len({frame.tobytes() for frame in frames}) > len(frames) / 2, "it moves"
    if name == "far too much":
        assert re.search(r"8 of 1864 micro-steps, [12] of 8 processes, [1-4] of 16 completions of each", page)


def test_colour_comes_with_training():
    """In frame k the micro-steps before k are in their colour and ruled, the others pale; there and back again."""
    drawing, show = films.frames(windows.window_of(plan_of("example one"), generations=1))
    for number in (0, 1, 2, 3, 4, 2, 0):
        show(number)
        for cell, (seen, letters) in zip(drawing.cells, colours_of(drawing), strict=True):
            assert seen == (cell.colour if cell.step.step < number else plots.pale(cell.colour)).lower()
            assert plots.contrast(seen, letters) >= 4.5
        ruled = [to_hex(rule.get_color()) == plots.COLOURS["loss"].lower() for rule in drawing.rules.values()]
        assert ruled == [number >= 2, number >= 4]


def test_a_frame_says_what_happens():
    window = films.window_of(plan_of("example one"), generations=1)
    assert [films._sentence(window, number) for number in range(4)] == [
        "Round 0: 12 completions are sampled and scored, then cut in order.",
        "Micro-step 0: forward and backward; gradients add up.",
        "Micro-step 1: forward and backward, then optimizer step 0.",
        "Micro-step 2: forward and backward; gradients add up.",
    ]


def test_without_scripts_a_picture_and_its_words_stay(film):
    stripped = re.sub(r"<(script|style).*?</\1>", "", film, flags=re.DOTALL)
    (image,) = Page(stripped).of("img")
    plan = plan_of("example one")
    assert image["alt"] == plots.tell_batch_flow(plan, generations=1)
    (controls,) = [attributes for attributes in Page(stripped).of("div") if attributes["class"] == "anim-controls"]
    assert "hidden" in controls, "what does nothing is not shown"
    assert "box.hidden = false" in film, "and a script shows it"


def test_the_controls_have_words_and_take_keys(film):
    buttons = re.findall(r'<button type="button"[^>]*onclick="anim\w+\.(\w+)\(\)">(\w+)</button>', film)
    assert buttons == [
        *(("first_frame", "First"), ("previous_frame", "Back"), ("pause_animation", "Pause")),
        *(("play_animation", "Play"), ("next_frame", "Next"), ("last_frame", "Last")),
    ]
    assert film.count("<button") == len(buttons) and "tabindex" not in film
    (slider,) = [field for field in Page(film).of("input") if field["type"] == "range"]
    assert slider["aria-label"] == "frame"
    (choices,) = Page(film).of("form")
    assert "hidden" in choices and "autoplay" not in film
    assert re.search(r'value="once"[^>]*\bchecked', film), "it ends at the last frame"
