"""How much does a token weigh in a short and in a long answer? One token, and the whole answer, under all losses."""

from dataclasses import dataclass

import torch
from matplotlib.figure import Figure

from grpo_nb import losses, plots
from grpo_nb.explorers.panel import Number, Panel, Words, numbers_in

MOST_ANSWERS, LONGEST, LONGEST_OTHER = 6, 4096, 256  # answers, tokens, tokens
STYLES = {  # of a family, by its first loss type
    "grpo": (plots.COLOURS["policy"], "o-"),
    "bnpo": (plots.OKABE_ITO["orange"], "s--"),
    "dr_grpo": (plots.OKABE_ITO["green"], "^-."),
    "dapo": (plots.OKABE_ITO["red"], "D:"),
    "luspo": (plots.OKABE_ITO["purple"], "v-"),
}


@dataclass(frozen=True)
class Weights:
    """What the loss of a token is multiplied by, in each answer of one micro-batch.

    Attributes:
        lengths: tokens of each answer, ascending, [N].
        token: loss type → weight of one token of each answer, [N].
        answer: loss type → weight of all its tokens together, [N].
        families: loss types that weigh alike here, each as a tuple.
        num_items_in_batch: tokens of the generation batch.
    """

    lengths: list[int]
    token: dict[str, torch.Tensor]
    answer: dict[str, torch.Tensor]
    families: list[tuple[str, ...]]
    num_items_in_batch: int


def compute(
    *,
    lengths: str = "20 60 200",
    max_completion_length: int = 512,
    gradient_accumulation_steps: int = 2,
    other_lengths: int = 30,
) -> Weights:
    """Weights of the tokens of a micro-batch: `losses.token_weights` of its mask, for every loss type.

    Args:
        lengths: tokens of each answer, a typed line.
        gradient_accumulation_steps: micro-batches of an update, this one and others of as many answers;
            `steps_per_generation` is the same number, as it is in TRL unless set, and there is one process.
        other_lengths: tokens of each answer of the others.
    Raises: ValueError for a bad line, or an answer longer than `max_completion_length`.
    """
    sizes = sorted(
        numbers_in(lengths, what="lengths", count=(1, MOST_ANSWERS), bounds=(1, LONGEST), example="20 60 200")
    )
    if sizes[-1] > max_completion_length:
        raise ValueError(
            "max_completion_length must be at least the longest answer, which sampling would have cut there "
            f"(got {max_completion_length}, {sizes[-1]} tokens). Raise it, or shorten the answer."
        )
    mask = (torch.arange(sizes[-1]) < torch.tensor(sizes).unsqueeze(1)).double()  # [N, T]
    items = sum(sizes) + (gradient_accumulation_steps - 1) * len(sizes) * other_lengths
    weights = {
        loss_type: losses.token_weights(
            mask,
            loss_type=loss_type,
            max_completion_length=max_completion_length,
            num_items_in_batch=items,
            gradient_accumulation_steps=gradient_accumulation_steps,
            steps_per_generation=gradient_accumulation_steps,
        )
        for loss_type in losses.LOSS_TYPES
    }
    token = {loss_type: weight[:, 0] for loss_type, weight in weights.items()}
    answer = {loss_type: weight.sum(1) for loss_type, weight in weights.items()}
    return Weights(sizes, token, answer, alike(token), items)


def alike(weights: dict[str, torch.Tensor]) -> list[tuple[str, ...]]:
    """The loss types in families of equal weights.

    >>> alike({"a": torch.ones(2), "b": torch.zeros(2), "c": torch.ones(2)})
    [('a', 'c'), ('b',)]
    """
    families: list[tuple[str, ...]] = []
    for name, weight in weights.items():
        for i, family in enumerate(families):
            if torch.allclose(weight, weights[family[0]], rtol=1e-9, atol=0.0):
                families[i] = (*family, name)
                break
        else:
            families.append((name,))
    return families


def figure(weights: Weights, frame=plots.frame) -> Figure:
    """Weight of one token on the left, of the whole answer on the right, on logarithmic axes; a line for each family.

    Each answer's dots stand a little beside one another, so that equal ones can be told apart.
    """
    drawing = frame(1, 2, left=0.11, wspace=0.33)
    left, right = drawing.axes
    for axes, values, name in zip([left, right], _both(weights), ["one token", "the whole answer"], strict=True):
        for i, family in enumerate(weights.families):
            colour, style = STYLES[family[0]]
            places = [place + 0.05 * (i - (len(weights.families) - 1) / 2) for place in range(len(weights.lengths))]
            axes.plot(places, values[family[0]], style, color=colour, linewidth=1.5, markersize=5)
        axes.set_yscale("log")
        axes.set_xlim(-0.4, len(weights.lengths) - 0.6)
        axes.set_xticks(range(len(weights.lengths)), [str(length) for length in weights.lengths], fontsize=9)
        plots.plain(axes, xlabel="tokens of the answer", ylabel=f"weight of {name}")
    names = [", ".join(family) for family in weights.families]
    plots.key(drawing, dict(zip(names, left.get_lines(), strict=True)))
    return drawing


def caption(weights: Weights) -> str:
    """The shortest and the longest answer in words, under every family."""
    short, long = weights.lengths[0], weights.lengths[-1]
    ends = [0, -1] if short < long else [0]
    said = []
    for family in weights.families:
        token, answer = (" and ".join(f"{of[family[0]][end]:.3g}" for end in ends) for of in _both(weights))
        said.append(f"{', '.join(family)} {token} ({answer})")
    less = weights.token["grpo"][0] / weights.token["grpo"][-1]
    return (
        f"Weight of one token (in brackets, of the whole answer) in answers of {short}"
        + f" and of {long}" * (short < long)
        + f" tokens: {'; '.join(said)}. "
        + f"Under grpo a token of the longer one weighs {less:.4g} times less: if the answer is wrong, it hurts that "
        "much less per token. "
        * (short < long)
        + f"dapo divides by the {weights.num_items_in_batch} tokens of the generation batch, bnpo by the "
        f"{sum(weights.lengths)} of this micro-batch times gradient_accumulation_steps."
    )


def explorer() -> Panel:
    """Controls: the lengths, `max_completion_length`, `gradient_accumulation_steps`, and the rest of the batch."""

    controls = {
        "lengths": Words("20 60 200"),
        "max_completion_length": Number(512, LONGEST_OTHER, LONGEST, 64),
        "gradient_accumulation_steps": Number(2, 1, 16, 1),
        "other_lengths": Number(30, 1, LONGEST_OTHER, 1),
    }
    whole, split = {"gradient_accumulation_steps": 1}, {"gradient_accumulation_steps": 4}
    presets = {
        "a short and a long answer": {"lengths": "20 200", **whole},
        "the micro-batch is the whole batch": whole,
        "the rest of the batch is shorter": {**split, "other_lengths": 10},
        "the rest of the batch is longer": {**split, "other_lengths": 250},
        "reasoning gets long": {"lengths": "100 1000 4000", **whole, "max_completion_length": LONGEST},
        "all of one length": {"lengths": "60 60 60", **whole},
    }
    return Panel((compute, figure, caption), controls, presets)


def _both(weights: Weights) -> tuple[dict, dict]:
    return weights.token, weights.answer
