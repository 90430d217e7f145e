"""Two ideas that are hard to see in code: where memory goes, and what the clip and the KL term hold back."""

from matplotlib.figure import Figure

from grpo_nb import memory
from grpo_nb.plots.palette import COLOURS, plain, readable
from grpo_nb.plots.sketches import LARGE, SMALL, Sketch

MODEL, RANK, COMPLETIONS, PROMPT, COMPLETION = "Qwen3-1.7B", 16, 8, 256, 512  # the last two in tokens
KINDS = {  # what lies in memory: the terms of it, its colour, what makes it grow
    "weights": (("weights",), "policy", "parameters"),
    "adapter": (("adapter",), "before", "rank"),
    "optimizer": (("optimizer",), "before", "2 × adapter"),
    "gradients": (("gradients",), "before", "adapter"),
    "activations": (("activations",), "warning", "tokens × layers"),
    "logits, loss": (("logits", "loss"), "loss", "tokens × words"),
    "KV cache": (("kv_cache",), "reward", "tokens × layers"),
}


def drawing_memory() -> tuple[Figure, str]:
    """Where memory goes while a policy samples and while it trains: what `memory.budget` predicts for one model.

    Returns: the figure, and what it shows in words.
    """
    settings = {"per_device_train_batch_size": COMPLETIONS, "max_completion_length": COMPLETION}
    lora = {"r": RANK, "target_modules": "all-linear"}
    made = memory.budget(memory.MODELS[MODEL], settings, prompt_tokens=PROMPT, lora=lora)
    sketch, told = Sketch(232), []
    sketch.write(None, 400, 218, "grows with", fontsize=LARGE)
    for row, (name, (_, _, grows)) in enumerate(KINDS.items()):
        sketch.write(None, 84, 194 - 22 * row, name, ha="right")
        sketch.write(None, 400, 194 - 22 * row, grows)
    sketch.write(None, 84, 38, "all", ha="right", fontsize=LARGE)
    for left, title, there in [(92, "sampling", made.sampling), (196, "training", made.training)]:
        sizes = {name: sum(there.get(term, 0) for term in terms) for name, (terms, *_) in KINDS.items()}
        told.append(_moment(sketch, left, title, sizes))
    of = f"{MODEL}, LoRA of rank {RANK}, {COMPLETIONS} completions of {COMPLETION} tokens"
    sketch.write(None, 230, 12, f"{of}; GiB, predicted")
    return sketch.figure, f"Predicted memory of {of}, in GiB: {'; '.join(told)}."


def _moment(sketch: Sketch, left: float, title: str, sizes: dict[str, int]) -> str:
    """Bars to scale from a place on, their sum below; the same in words."""
    sketch.write(None, left, 218, title, fontsize=LARGE, ha="left")
    sketch.line(None, [left, left], [50, 206], COLOURS["loss"], linewidth=0.8)
    for row, (name, size) in enumerate(sizes.items()):
        y, width = 194 - 22 * row, 14 * memory.gib(size)
        sketch.bar(None, (left, y - 7, width, 14), COLOURS[KINDS[name][1]])
        sketch.write(None, left + width + 5, y, _gib(size) if size else "–", ha="left")
    sketch.write(None, left + 5, 38, _gib(sum(sizes.values())), ha="left", fontsize=LARGE)
    told = ", ".join(f"{name} {_gib(size)}" for name, size in sizes.items() if size)
    return f"{title} {_gib(sum(sizes.values()))} ({told})"


def _gib(size: int) -> str:
    number = memory.gib(size)
    return f"{number:.1f}" if number >= 1 else f"{number:.2f}"


def drawing_clip_and_kl(epsilon: float = 0.2) -> tuple[Figure, str]:
    """What the clip does to one token, and what the KL term does to the policy.

    Args:
        epsilon: of the clip.
    Returns: the figure, and what it shows in words.
    """
    sketch = Sketch(232)
    sketch.write(None, 126, 218, "clip: one token", fontsize=LARGE)
    axes = sketch.figure.add_axes((0.085, 0.2, 0.405, 0.69), facecolor="none")
    _clip(axes, epsilon)
    sketch.write(None, 355, 218, "KL: the whole policy", fontsize=LARGE)
    _leash(sketch)
    alt = (
        f"Left: a token of a good answer (A > 0) earns more up to a ratio of {1 + epsilon:g}, then it is flat; one "
        f"of a bad answer (A < 0) is pushed down until {1 - epsilon:g}, then flat. Right: rewards pull the policy away "
        "from the reference, KL pulls it back, the harder the farther it is."
    )
    return sketch.figure, alt


def _clip(axes, epsilon: float) -> None:
    """The objective of a token against its ratio, thick where it is flat: there the clip leaves no push."""
    import torch

    from grpo_nb import losses

    ratio = torch.linspace(0.5, 1.5, 101, dtype=torch.float64).unsqueeze(1)
    for sign, colour in [(1.0, "policy"), (-1.0, "warning")]:
        objective = -losses.clipped_surrogate(ratio, torch.full_like(ratio, sign), epsilon=epsilon)
        is_flat = ratio >= 1 + epsilon if sign > 0 else ratio <= 1 - epsilon
        axes.plot(ratio, objective, color=COLOURS[colour], linewidth=1.5)
        axes.plot(ratio[is_flat], objective[is_flat], color=COLOURS[colour], linewidth=5, solid_capstyle="butt")
    for x, y, text, colour in [
        (1 - 1.7 * epsilon, 1.2, "A > 0: up", "policy"),
        (1 + 1.9 * epsilon, 1.5, "flat: no push", "policy"),
        (1 - 1.4 * epsilon, -0.62, "flat: no push", "warning"),
        (1 + 1.6 * epsilon, -0.8, "A < 0: down", "warning"),
    ]:
        look = {"fontsize": SMALL, "ha": "center", "va": "center", "bbox": {"color": "white", "pad": 0.5}}
        axes.text(x, y, text, color=readable(COLOURS[colour]), **look)
    axes.set_ylim(-1.6, 1.75)
    axes.axvspan(1 - epsilon, 1 + epsilon, color="0.92", zorder=0)
    axes.set_xticks([1 - epsilon, 1, 1 + epsilon], ["1 − ε", "1", "1 + ε"], fontsize=SMALL)
    axes.set_yticks([0], ["0"], fontsize=SMALL)
    plain(axes)
    axes.set_ylabel("objective", fontsize=SMALL)
    axes.set_xlabel("ratio: new ÷ old probability", fontsize=SMALL)


def _leash(sketch: Sketch) -> None:
    """A reference, a policy beyond some rings of equal KL, and who pulls it."""
    from matplotlib.patches import Circle

    centre, policy, purple = (322, 112), (396, 142), COLOURS["reference"]
    for radius in (28, 54, 80):
        sketch.axes.add_patch(Circle(centre, radius, fill=False, edgecolor=purple, linestyle=(0, (3, 3)), alpha=0.6))
    sketch.arrow(None, policy, (338, 118.5), purple, width=2)
    sketch.arrow(None, policy, (446, 162), COLOURS["reward"], width=2)
    for place, colour in [(centre, purple), (policy, COLOURS["policy"])]:
        sketch.axes.add_patch(Circle(place, 9, facecolor=colour, edgecolor="black", zorder=5))
    plate = {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.5}}
    sketch.write(None, 322, 92, "reference", colour=purple, **plate)
    sketch.write(None, 408, 122, "policy", colour=COLOURS["policy"], **plate)
    sketch.write(None, 358, 143, "KL", colour=purple, **plate)
    sketch.write(None, 422, 172, "rewards", colour=COLOURS["reward"], **plate)
    sketch.write(None, 345, 14, "the farther, the harder KL pulls")
