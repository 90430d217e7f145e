"""What fits on a card? Bytes of a run, term by term, while it samples and while it trains; nothing is loaded."""

import math
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grpo_nb import memory, plots
from grpo_nb.explorers.panel import Choice, Number, Panel

PROMPT = 256  # tokens of the longest prompt
LORA = {"r": 32, "target_modules": "all-linear"}
TRAINED = {  # what is trained: (adapter, bits of the weights)
    "all weights, 16 bits": (None, 16),
    "LoRA on 16 bits": (LORA, 16),
    "LoRA on 8 bits": (LORA, 8),
    "LoRA on 4 bits": (LORA, 4),
}
BACKENDS = {  # (backend of `budget`, further settings)
    "trl": ("trl", {}),
    "trl, use_liger_kernel": ("trl", {"use_liger_kernel": True}),
    "unsloth": ("unsloth", {}),
}
LOOKS = {  # term of `Budget` → its name, colour and hatch
    "weights": ("weights", "blue", ""),
    "adapter": ("adapter", "sky", ""),
    "optimizer": ("optimizer", "purple", "//"),
    "gradients": ("gradients", "orange", "\\\\"),
    "activations": ("activations", "green", ""),
    "layer_backward": ("one layer", "green", "xx"),
    "logits": ("logits", "red", ""),
    "loss": ("loss", "yellow", ""),
    "kv_cache": ("KV cache", "black", ""),
}
LETTER, LINE = 0.072, 0.16  # inches of an axis label: a letter, a line
SPAN = 5.2  # inches from 0 to the end of the axis


@dataclass(frozen=True)
class Run:
    """What a run takes, and which cards hold it.

    Attributes:
        budget: its terms, in bytes.
        cards: name → bytes; `fits`: name → whether the card holds the run.
        settings: the values of the controls.
        at_once: completions that are sampled together, the fewest that are whole groups and whole micro-steps.
    """

    budget: memory.Budget
    cards: dict[str, int]
    fits: dict[str, bool]
    settings: dict
    at_once: int

    @property
    def moments(self) -> dict[str, dict[str, int]]:
        """Terms while sampling and while training, those of no bytes left out."""
        both = {"sampling": self.budget.sampling, "training": self.budget.training}
        return {moment: {name: size for name, size in terms.items() if size} for moment, terms in both.items()}


def compute(
    *,
    model: str = "Qwen3-4B",
    trained: str = "LoRA on 4 bits",
    backend: str = "trl",
    max_completion_length: int = 1024,
    num_generations: int = 8,
    per_device_train_batch_size: int = 4,
) -> Run:
    """`memory.budget` on one card, sampled by transformers, with gradient checkpointing and without reference model.

    Args:
        model, trained, backend: keys of `memory.MODELS`, `TRAINED` and `BACKENDS`.
        num_generations: makes gradient_accumulation_steps as large as whole groups need; the caption says how large.
    """
    settings = {"model": model, "trained": trained, "backend": backend, "num_generations": num_generations}
    sizes = {
        "max_completion_length": max_completion_length,
        "per_device_train_batch_size": per_device_train_batch_size,
    }
    at_once = math.lcm(per_device_train_batch_size, num_generations)
    (lora, bits), (library, further) = TRAINED[trained], BACKENDS[backend]
    counts = {"num_generations": num_generations, "gradient_accumulation_steps": at_once // per_device_train_batch_size}
    grpo = {**sizes, **counts, **further}
    budget = memory.budget(
        memory.MODELS[model], grpo, prompt_tokens=PROMPT, lora=lora, bits=bits, backend=library, attention="sdpa"
    )
    fits = {name: budget.fits(size) for name, size in memory.CARDS.items()}
    return Run(budget, dict(memory.CARDS), fits, {**settings, **sizes}, at_once)


def figure(run: Run, frame=plots.frame) -> Figure:
    """A bar while sampling and one while training, in terms; a line for each card, solid where it holds both bars."""
    drawing = frame(left=0.13, bottom=0.3, top=0.83)
    (axes,) = drawing.axes
    holding = min((memory.gib(run.cards[name]) for name, fits in run.fits.items() if fits), default=0)
    end = max(memory.gib(run.budget.peak) * 1.15, holding * 1.06)  # the smallest card that holds it is in sight
    axes.set_xlim(0, end)
    drawn = {}
    for row, terms in enumerate(run.moments.values()):
        drawn |= _bar(axes, row, terms, end)
    axes.set_ylim(1.5, -0.5)
    axes.set_yticks([0, 1], list(run.moments))
    _cards(axes, run, end)
    plots.plain(axes, xlabel="GiB on the card")
    plots.key(drawing, {drawn[term].get_label(): drawn[term] for term in LOOKS if term in drawn})
    return drawing


def caption(run: Run) -> str:
    """What is run, the peak and its terms, the largest one, and which cards hold it."""
    s, rows = run.settings, run.settings["per_device_train_batch_size"]
    accumulation = f"gradient_accumulation_steps {run.at_once // rows}, so that groups are whole"
    moment = max(run.moments, key=lambda name: sum(run.moments[name].values()))
    terms = [f"{LOOKS[term][0]} {_gib(size)}" for term, size in run.moments[moment].items()]
    largest = LOOKS[max(run.moments[moment], key=run.moments[moment].get)][0]
    holding, other = ([name for name, fits in run.fits.items() if fits is wanted] for wanted in (True, False))
    verdict = f"fits on {', '.join(holding)}" if holding else "fits on none of the cards"
    verdict += f", not on {', '.join(other)}" if holding and other else ""
    offloaded = f" Training puts {_gib(run.budget.system)} GiB into the system's memory." if run.budget.system else ""
    return (
        f"{s['model']}, {s['trained']}, {s['backend']}: {run.at_once} completions of {s['max_completion_length']} "
        f"tokens are sampled together by transformers, then trained on {rows} at a time ({accumulation}), after "
        f"prompts of {PROMPT} tokens. The peak is {_gib(run.budget.peak)} GiB while {moment}: "
        f"{', '.join(terms)}; the largest term is {largest}. With half a GiB for CUDA itself it {verdict}.{offloaded}"
    )


def explorer() -> Panel:
    """Controls: model, what is trained, backend, and the three sizes of a run."""

    controls = {
        "model": Choice("Qwen3-4B", tuple(memory.MODELS)),
        "trained": Choice("LoRA on 4 bits", tuple(TRAINED)),
        "backend": Choice("trl", tuple(BACKENDS)),
        "max_completion_length": Number(1024, 64, 32768, 64),
        "num_generations": Number(8, 2, 32, 1),
        "per_device_train_batch_size": Number(4, 1, 32, 1),
    }
    presets = {
        "Qwen3-4B, QLoRA, on a T4": _preset("Qwen3-4B", "LoRA on 4 bits", "trl", 1024, 4),
        "the same, too many at a time": _preset("Qwen3-4B", "LoRA on 4 bits", "trl", 1024, 8),
        "Qwen3-8B, LoRA, on an A100": _preset("Qwen3-8B", "LoRA on 16 bits", "trl", 2048, 4),
        "Qwen3-8B, all weights": _preset("Qwen3-8B", "all weights, 16 bits", "trl", 2048, 1),
        "the guide's 20K tokens, TRL": _preset("Llama-3.1-8B", "LoRA on 4 bits", "trl", 20480, 8),
        "the guide's 20K tokens, Unsloth": _preset("Llama-3.1-8B", "LoRA on 4 bits", "unsloth", 20480, 8),
        "the guide's 20K tokens, one at a time": _preset("Llama-3.1-8B", "LoRA on 4 bits", "unsloth", 20480, 1),
    }
    return Panel((compute, figure, caption), controls, presets)


def _preset(model: str, trained: str, backend: str, tokens: int, rows: int) -> dict:
    return {
        "model": model,
        "trained": trained,
        "backend": backend,
        "max_completion_length": tokens,
        "num_generations": 8,
        "per_device_train_batch_size": rows,
    }


def _bar(axes: Axes, row: int, terms: dict[str, int], end: float) -> dict:
    """The terms end to end, those with room named, their sum behind them; returns what the legend shows of each."""
    drawn, left = {}, 0.0
    for term, size in terms.items():
        name, colour, hatch = LOOKS[term]
        colour, width = plots.OKABE_ITO[colour], memory.gib(size)
        (drawn[term],) = axes.barh(row, width, 0.62, left, color=colour, hatch=hatch, edgecolor="white", lw=0.5)
        drawn[term].set_label(f"{name} {_gib(size)}")
        if len(name) * LETTER < width / end * SPAN - 0.1:
            plate = {"boxstyle": "square,pad=0.15", "facecolor": colour, "edgecolor": "none"}
            look = {"ha": "center", "va": "center", "fontsize": 8, "color": plots.ink(colour)}
            axes.text(left + width / 2, row, name, bbox=plate, zorder=4, **look)
        left += width
    look = {"va": "center", "fontsize": 9, "zorder": 4, "bbox": {"facecolor": "white", "lw": 0, "pad": 1}}
    axes.annotate(_gib(sum(terms.values())), (left, row), xytext=(5, 0), textcoords="offset points", **look)
    return drawn


def _cards(axes: Axes, run: Run, end: float) -> None:
    """The lines of the cards within the axis, their names above, in as many lines as keep them apart."""
    ends: list[float] = []  # of the last name in each line, in inches
    for name, size in sorted(run.cards.items(), key=lambda item: item[1]):
        place = memory.gib(size)
        if place > end:
            continue
        text = f"{name} {'✓' if run.fits[name] else '✗'}"
        middle, half = place / end * SPAN, len(text) * LETTER / 2
        line = next((i for i, last in enumerate(ends) if last < middle - half), len(ends))
        ends[line : line + 1] = [middle + half]
        style = "-" if run.fits[name] else ":"
        axes.axvline(place, color=plots.COLOURS["loss"], linewidth=1.6, linestyle=style, zorder=3)
        up = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        axes.annotate(text, (place, 1), xytext=(0, 2 + 72 * LINE * line), ha="center", fontsize=8, **up)


def _gib(size: float) -> str:
    """Bytes in GiB, for people: one decimal below 100, two below 1.

    >>> _gib(2**30 / 4), _gib(2.5 * 2**30), _gib(281.3 * 2**30)
    ('0.25', '2.5', '281')
    """
    number = memory.gib(size)
    return f"{number:.{(number < 100) + (number < 1)}f}"
