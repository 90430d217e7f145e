"""The card explorer: its bytes are the package's, its bars and lines too, and its words say what fits."""

import pytest
from matplotlib.colors import to_hex

from grpo_nb import memory, plots
from grpo_nb.explorers import card

SIZES = {"max_completion_length": 1024, "num_generations": 8, "per_device_train_batch_size": 4}


# Golden: eight completions of 256 + 1024 tokens are sampled at once; Qwen3-4B keeps 2 · 36 · 8 · 128 · 2 bytes of each
# token; logits are 4 rows · 1025 tokens · 151936 words · 4 bytes.
def test_terms_by_hand():
    run = card.compute(**SIZES)
    assert run.at_once == 8
    assert run.moments["sampling"]["kv_cache"] == 8 * 1280 * 2 * 36 * 8 * 128 * 2
    assert run.moments["training"]["logits"] == 4 * 1025 * 151936 * 4


@pytest.mark.parametrize(("rows", "group", "at_once"), [(4, 8, 8), (8, 4, 8), (3, 8, 24), (1, 2, 2), (6, 4, 12)])
def test_whole_groups_are_sampled(rows, group, at_once):
    run = card.compute(max_completion_length=64, num_generations=group, per_device_train_batch_size=rows)
    assert run.at_once == at_once and run.budget.terms["kv_cache"] == at_once * 320 * 147456


# Law: the numbers are those of the package.
@pytest.mark.parametrize("trained", card.TRAINED)
@pytest.mark.parametrize("backend", card.BACKENDS)
def test_the_bytes_are_those_of_the_package(trained, backend):
    run = card.compute(model="Qwen3-8B", trained=trained, backend=backend, **SIZES)
    grpo = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_completion_length": 1024}
    expected = memory.budget(
        memory.MODELS["Qwen3-8B"],
        {**grpo, "use_liger_kernel": "liger" in backend},
        prompt_tokens=card.PROMPT,
        lora=card.LORA if "LoRA" in trained else None,
        bits=int(trained.split()[-2]),
        backend=backend[:3].replace("uns", "unsloth"),
    )
    assert run.budget == expected
    assert run.fits == {name: expected.fits(size) for name, size in memory.CARDS.items()}


def bars_of(axes, row: int) -> list[float]:
    """The widths of a row's parts, which stand end to end."""
    parts = [bar for bar in axes.patches if round(bar.get_y() + bar.get_height() / 2, 6) == row]
    widths = [part.get_width() for part in parts]
    assert [part.get_x() for part in parts] == pytest.approx([sum(widths[:i]) for i in range(len(widths))])
    return widths


def test_the_figure_draws_what_was_computed():
    run = card.compute(model="Qwen3-8B", trained="LoRA on 16 bits", **SIZES)
    axes = card.figure(run).axes[0]
    for row, terms in enumerate((run.budget.sampling, run.budget.training)):
        assert bars_of(axes, row) == pytest.approx([memory.gib(size) for size in terms.values() if size])
    assert max(sum(bars_of(axes, row)) for row in (0, 1)) == pytest.approx(memory.gib(run.budget.peak))
    lines = {line.get_xdata()[0]: line.get_linestyle() for line in axes.get_lines()}
    names = {text.xy[0]: text.get_text() for text in axes.texts if text.get_text()[-1] in "✓✗"}
    assert run.fits == {"T4": False, "L4": False, "A100-40": True, "A100-80": True, "H200": True}
    drawn = ["T4", "L4", "A100-40"]
    assert list(lines) == list(names) == pytest.approx([memory.gib(memory.CARDS[name]) for name in drawn])
    assert list(lines.values()) == [":", ":", "-"] and list(names.values()) == ["T4 ✗", "L4 ✗", "A100-40 ✓"]


def test_the_legend_names_each_term_by_its_own_look():
    run = card.compute(trained="all weights, 16 bits", **SIZES)
    drawing = card.figure(run)
    looks = [(plots.OKABE_ITO[colour], hatch) for _, colour, hatch in card.LOOKS.values()]
    assert len(set(looks)) == len(card.LOOKS)
    texts = [text.get_text() for text in drawing.texts]
    assert texts[:3] == ["weights 7.5", "optimizer 15.0", "gradients 7.5"] and texts[-1] == "KV cache 1.4"
    for text, patch in zip(texts, drawing.artists, strict=True):
        _, colour, hatch = next(look for look in card.LOOKS.values() if text.startswith(look[0]))
        assert to_hex(patch.get_facecolor()) == plots.OKABE_ITO[colour].lower() and patch.get_hatch() == hatch


@pytest.mark.parametrize("preset", range(7))
def test_nothing_overlaps_or_leaves_the_figure(preset):
    run = card.compute(**list(card.explorer().presets.values())[preset])
    drawing = card.figure(run)
    drawing.draw_without_rendering()
    boxes = [text.get_window_extent() for text in [*drawing.axes[0].texts, *drawing.texts]]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= drawing.bbox.x1 and box.y1 <= drawing.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_every_term_of_a_budget_has_a_look():
    never = {"reference", "vllm_pool"}  # without KL and without vLLM
    assert set(card.compute().budget.terms) == set(card.LOOKS) | never


# What the words say.
def test_the_words_follow_the_controls():
    shown = card.explorer()
    assert "trained on 4 at a time" in shown.caption and "fits on T4, L4, A100-40, A100-80, H200." in shown.caption
    shown.fields["per_device_train_batch_size"].value = 8
    assert "The peak is 18.6 GiB while training: weights 2.5," in shown.caption
    assert (
        "the largest term is loss." in shown.caption
        and "fits on L4, A100-40, A100-80, H200, not on T4." in shown.caption
    )
    assert "8 at a time (gradient_accumulation_steps 1, so that groups are whole)" in shown.caption
    shown.fields["num_generations"].value = 12
    assert "24 completions of 1024" in shown.caption and "(gradient_accumulation_steps 3, so that" in shown.caption
    shown.preset.value = "the guide's 20K tokens, TRL"
    assert "it fits on none of the cards." in shown.caption and "system" not in shown.caption
    shown.fields["per_device_train_batch_size"].value = 1
    shown.fields["backend"].value = "unsloth"
    assert "while sampling" in shown.caption and "the largest term is KV cache." in shown.caption
    assert shown.caption.endswith("Training puts 5.1 GiB into the system's memory.")


def test_presets_fit_where_their_names_say():
    fits = {name: card.compute(**values).fits for name, values in card.explorer().presets.items()}
    assert fits["Qwen3-4B, QLoRA, on a T4"]["T4"] and not fits["the same, too many at a time"]["T4"]
    assert fits["Qwen3-8B, LoRA, on an A100"]["A100-40"] and not any(fits["the guide's 20K tokens, TRL"].values())
