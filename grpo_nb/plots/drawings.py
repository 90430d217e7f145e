"""The series in two pictures: a group and what it pushes, and the way of a model."""

from matplotlib.figure import Figure

from grpo_nb.plots.palette import COLOURS
from grpo_nb.plots.sketches import LARGE, Sketch

QUESTION, ANSWERS, SCORES = "17 + 25 = ?", ("42", "It is 42", "32", "Hm."), (3, 2, 1, 0)
GROUP = {  # stage: where it stands (points from the left), what is written above
    "prompt": (41, "prompt", "one question"),
    "group": (138, "group", "four answers"),
    "scores": (232, "scores", "by a program"),
    "advantages": (325, "advantages", "(score − mean)\n÷ spread"),
    "push": (414, "push", "of each answer"),
}


def drawing_group(lit: str | None = None) -> tuple[Figure, str]:
    """One step of GRPO: a question, four answers, their scores, who is above the mean, and the push that follows.

    Args:
        lit: "prompt", "group", "scores", "advantages" or "push".
    Returns: the figure, and what it shows in words.
    Raises: ValueError for another stage.
    """
    import torch

    from grpo_nb import advantages

    sketch = Sketch(232, list(GROUP), lit)
    for number, (stage, (x, name, what)) in enumerate(GROUP.items(), 1):
        sketch.write(stage, x, 217, f"{number} {name}", fontsize=LARGE, va="baseline")
        sketch.write(stage, x, 211, what, va="top")
    sketch.box("prompt", (4, 94, 76, 34), COLOURS["loss"], QUESTION)
    values = advantages.group_advantages(torch.tensor([SCORES], dtype=torch.float32))[0].tolist()
    rows = [164, 129, 94, 59]
    for y, answer, score, value in zip(rows, ANSWERS, SCORES, values, strict=True):
        _answer(sketch, y, answer, score, value)
    mean = 204 + 18 * sum(SCORES) / len(SCORES)
    sketch.line("scores", [mean, mean], [44, 180], COLOURS["loss"], linestyle=(0, (4, 3)))
    sketch.write("scores", mean, 37, "mean")
    sketch.arrow("push", (417, 38), (138, 38), COLOURS["policy"], arc=-0.12)
    sketch.write("push", 325, 10, "the pushed model answers the next question", colour=COLOURS["policy"])
    told = ", ".join(f"{a!r} scores {s}, advantage {v:+.2f}" for a, s, v in zip(ANSWERS, SCORES, values, strict=True))
    alt = f"One question, {QUESTION}, four answers of one model: {told}. What is above the mean is made more likely."
    return sketch.figure, alt + _lit(lit)


def _answer(sketch: Sketch, y: float, answer: str, score: int, value: float) -> None:
    """One row: from the question to an answer, its score, its advantage, its push."""
    colour = COLOURS["policy"] if value > 0 else COLOURS["warning"]
    sketch.arrow("group", (82, 111), (100, y), COLOURS["policy"], width=0.8)
    sketch.box("group", (102, y - 14, 72, 28), COLOURS["policy"], answer)
    sketch.bar("scores", (204, y - 9, max(18 * score, 1.5), 18), COLOURS["reward"])
    sketch.write("scores", 195, y, str(score), colour=COLOURS["reward"], fontsize=LARGE)
    sketch.write("advantages", 325, y, f"{value:+.2f}".replace("-", "−"), colour=colour, fontsize=LARGE)
    length = 6 + 9 * abs(value)
    way = (y - length, y + length) if value > 0 else (y + length, y - length)
    sketch.arrow("push", (385, way[0]), (385, way[1]), colour, width=1.6)
    sketch.write("push", 427, y, f"{'more' if value > 0 else 'less'}\nlikely", colour=colour)


def drawing_pipeline(lit: str | None = None) -> tuple[Figure, str]:
    """The way of a model: problems, SFT on worked examples, GRPO with its rewards, export.

    Args:
        lit: "problems", "sft", "rewards", "grpo" or "export".
    Returns: the figure, and what it shows in words.
    Raises: ValueError for another stage.
    """
    sketch = Sketch(190, ["problems", "sft", "rewards", "grpo", "export"], lit)
    colours = {"problems": "loss", "sft": "before", "grpo": "policy", "rewards": "reward", "export": "reference"}
    boxes = [  # stage, left, bottom, heading, what happens there
        ("problems", 4, 112, "problems", "questions with\nknown answers"),
        ("sft", 123, 112, "SFT", "copies worked\nexamples"),
        ("sft", 123, 8, "base model", "writes, but not\nto the point"),
        ("grpo", 242, 112, "GRPO", "tries, is scored,\nis pushed"),
        ("rewards", 242, 8, "rewards", "functions that\nscore an answer"),
        ("export", 361, 112, "export", "files that other\nprograms load"),
    ]
    for stage, left, bottom, name, what in boxes:
        sketch.box(stage, (left, bottom, 96, 66), COLOURS[colours[stage]])
        sketch.write(stage, left + 48, bottom + 52, name, fontsize=LARGE)
        sketch.write(stage, left + 48, bottom + 23, what)
    for stage, left in {"sft": 101, "grpo": 220, "export": 339}.items():
        sketch.arrow(stage, (left, 145), (left + 21, 145), width=1.3)
    sketch.arrow("rewards", (268, 110), (268, 76), COLOURS["policy"], width=1.2)
    sketch.arrow("rewards", (312, 76), (312, 110), COLOURS["reward"], width=1.2)
    sketch.write("rewards", 262, 93, "answers", ha="right", colour=COLOURS["policy"])
    sketch.write("rewards", 318, 93, "scores", ha="left", colour=COLOURS["reward"])
    sketch.arrow("sft", (171, 76), (171, 110), width=1.3)
    alt = (
        "Problems with known answers go to SFT, where a base model copies worked examples; then to GRPO, where it "
        "tries, rewards score its answers, and it is pushed; then export writes files that other programs load."
    )
    return sketch.figure, alt + _lit(lit)


def _lit(lit: str | None) -> str:
    return f" ({lit} stands out.)" if lit else ""
