"""The conceptual drawings: true numbers, letters that are read at half the size, and one stage that stands out."""

import functools
import itertools
import statistics

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

from grpo_nb import memory, plots
from grpo_nb.plots import concepts, drawings
from tools.pages import drawings as files

GROUP = ("prompt", "group", "scores", "advantages", "push")
PIPELINE = ("problems", "sft", "rewards", "grpo", "export")
ALL = {
    **{f"group, {lit}": (plots.drawing_group, lit) for lit in (None, *GROUP)},
    **{f"pipeline, {lit}": (plots.drawing_pipeline, lit) for lit in (None, *PIPELINE)},
    "memory": (plots.drawing_memory,),
    "clip and kl": (plots.drawing_clip_and_kl,),
}


@functools.cache
def drawn(name: str):
    """The figure and its words; each is drawn once."""
    draw, *lit = ALL[name]
    return draw(*lit)


def words(figure) -> list[Text]:
    return [text for axes in figure.axes for text in axes.findobj(Text) if text.get_text() and text.get_visible()]


@pytest.fixture(params=ALL)
def drawing(request):
    return drawn(request.param)


def test_the_advantages_by_hand():
    """Scores 3, 2, 1, 0: mean 1.5; deviation √(5/3) = 1.29."""
    assert drawings.SCORES == (3, 2, 1, 0)
    texts = [text.get_text() for text in words(plots.drawing_group()[0])]
    shown = [float(text.replace("−", "-")) for text in texts if text[0] in "+−" and text[1:2].isdigit()]
    deviation = statistics.stdev(drawings.SCORES)
    assert shown == [round((score - 1.5) / deviation, 2) for score in drawings.SCORES]
    assert [text.split("\n")[0] for text in texts if text.endswith("likely")] == ["more", "more", "less", "less"]


def test_the_sizes_are_the_budgets():
    """Weights of Qwen3-1.7B: 1,720,574,976 parameters of two bytes; the optimizer has two numbers for each trained."""
    texts = [text.get_text() for text in words(plots.drawing_memory()[0])]
    weights = memory.parameters(memory.MODELS[concepts.MODEL])["total"] * 2 / 2**30
    assert texts.count(f"{weights:.1f}") == 2
    assert texts.count("–") == 4, "gradients, activations and logits while sampling, the KV cache while training"
    settings = {"per_device_train_batch_size": concepts.COMPLETIONS, "max_completion_length": concepts.COMPLETION}
    lora = {"r": concepts.RANK, "target_modules": "all-linear"}
    made = memory.budget(memory.MODELS[concepts.MODEL], settings, prompt_tokens=concepts.PROMPT, lora=lora)
    assert {f"{memory.gib(sum(made.sampling.values())):.1f}", f"{memory.gib(made.peak):.1f}"} <= set(texts), (
        "no term is left out"
    )
    alt = plots.drawing_memory()[1]
    for moment in ("sampling", "training"):
        total, parts = alt.split(f"{moment} ")[1].split(")")[0].split(" (")
        sizes = [float(part.rsplit(" ", 1)[1]) for part in parts.replace("logits, ", "").split(", ")]
        assert sum(sizes) == pytest.approx(float(total), abs=0.15)


def test_where_the_clip_leaves_no_push_the_line_is_thick():
    lines = {
        line.get_color(): line for line in plots.drawing_clip_and_kl()[0].axes[1].lines if line.get_linewidth() > 3
    }
    good, bad = lines[plots.COLOURS["policy"]], lines[plots.COLOURS["warning"]]
    assert min(good.get_xdata()) == pytest.approx(1.2) and set(good.get_ydata().ravel().tolist()) == {1.2}
    assert max(bad.get_xdata()) == pytest.approx(0.8) and set(bad.get_ydata().ravel().tolist()) == {-0.8}


def test_words_can_be_read_at_half_the_size(drawing):
    """Of 11 points, within the picture, none over another, at a contrast of 4.5 on what is below them."""
    figure, _ = drawing
    width, height = figure.get_size_inches()
    assert width <= 6.4 and height <= 3.25
    figure.draw_without_rendering()
    texts = words(figure)
    boxes = [Text.get_window_extent(text) for text in texts]
    for one, other in itertools.combinations(range(len(texts)), 2):
        assert not boxes[one].padded(-1).overlaps(boxes[other].padded(-1)), (texts[one], texts[other])
    patches = [patch for axes in figure.axes for patch in axes.findobj(FancyBboxPatch)]
    for text, box in zip(texts, boxes, strict=True):
        assert text.get_fontsize() >= 11, text
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text
        under = [p for p in patches if p.get_window_extent().contains(*box.get_points().mean(axis=0))]
        for patch in under:
            frame = patch.get_window_extent()
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1, text
            assert frame.y0 <= box.y0 and box.y1 <= frame.y1, text
        for ground in {"#FFFFFF", *(to_hex(patch.get_facecolor()) for patch in under)}:
            assert plots.contrast(ground, to_hex(text.get_color())) >= 4.5, text


@pytest.mark.parametrize(("name", "stage"), [*(("group", s) for s in GROUP), *(("pipeline", s) for s in PIPELINE)])
def test_one_stage_stands_out_not_by_colour_alone(name, stage):
    """Its heading is the only bold one, its lines are the only thick ones."""
    (figure, alt), (plain, _) = drawn(f"{name}, {stage}"), drawn(f"{name}, None")
    bold = {text.get_text().lower() for text in words(figure) if text.get_weight() == "bold"}
    headings = {text for text in bold if stage in text}
    assert len(headings) == 1 and f"({stage} stands out.)" in alt
    assert bold < {text.get_text().lower() for text in words(plain) if text.get_weight() == "bold"}
    widths = {p.get_linewidth() for p in [*figure.axes[0].patches, *figure.axes[0].lines]}
    if stage != "advantages":  # which has numbers only
        assert max(widths) >= 2.4
    assert max(p.get_linewidth() for p in plain.axes[0].patches) < 2.6


def test_words_say_what_is_drawn():
    """Whoever cannot see a drawing is told every answer, score, stage and size."""
    _, alt = plots.drawing_group()
    for answer, score in zip(drawings.ANSWERS, drawings.SCORES, strict=True):
        assert f"{answer!r} scores {score}" in alt
    assert all(word in plots.drawing_pipeline()[1] for word in ("Problems", "SFT", "base model", "GRPO", "rewards"))
    assert all(name in plots.drawing_memory()[1] for name in concepts.KINDS)
    assert all(80 < len(drawn(name)[1]) < 420 for name in ALL)


@pytest.mark.parametrize("draw", [plots.drawing_group, plots.drawing_pipeline])
@pytest.mark.parametrize("lit", ["reward", "", "GRPO", "score"])
def test_an_unknown_stage_is_named(draw, lit):
    with pytest.raises(ValueError, match=rf"lit must be None or one of .* \(got '{lit}'\)\. Try '"):
        draw(lit)


@pytest.mark.parametrize("name", files.DRAWINGS)
def test_the_file_is_what_the_code_draws(name):
    written = (files.FOLDER / name).read_text(encoding="utf8")
    assert written == files.svg(name), "run make docs"
    assert len(written) < 40_000 and f"<title>{files.DRAWINGS[name]()[1][:20]}" in written
    assert "<dc:date>" not in written and "<image" not in written and "@import" not in written
