"""What learners say of changed training runs."""

from check_answers import Answers

from grpo_nb import lab


def measured_clip():
    found = lab.experiment({"epsilon": 0.2}, {"epsilon": 0.02}, num_iterations=4, seeds=(0, 1, 2)).difference()
    return "noise" if found.is_noise else "better" if found.mean > 0 else "worse"


def loss_by_mean():
    names = ("dapo", "grpo", "dr_grpo")
    result = lab.experiment(*({"loss_type": name} for name in names), seeds=(0, 1, 2))
    means = {name: result.difference(number).mean for number, name in enumerate(names) if number}
    return {name: "better" if mean > 0 else "worse" for name, mean in means.items()}


ANSWERS = [
    Answers(
        check="check_clip_run",
        right=[lambda: "worse", lambda: ["worse"], lambda: measured_clip()],
        wrong={
            "noise": (lambda: "noise", "calls noise what is none: the interval does not hold 0"),
            "better": (lambda: "better", "must give 'worse' (yours: 'better')"),
            "a number": (lambda: -8.1, "must give 'worse' (yours: -8.1"),
            "True": (lambda: True, "must give 'worse' (yours: True"),
            "for each run": (lambda: ["noise", "worse"], "must give 'worse'"),
        },
        almost=(lambda: "Worse", "must give 'worse' (yours: 'Worse'"),
    ),
    Answers(
        check="check_loss_run",
        right=[
            lambda: {"grpo": "noise", "dr_grpo": "noise"},
            lambda: dict.fromkeys(("dr_grpo", "grpo"), "noise"),
            lambda: dict(zip(("grpo", "dr_grpo"), ["noise"] * 2, strict=True)),
        ],
        wrong={
            "by the means": (lambda: loss_by_mean(), "looks at the means and not at the interval"),
            "one only": (lambda: {"grpo": "noise"}, "must give"),
            "dapo, too": (lambda: dict.fromkeys(("dapo", "grpo", "dr_grpo"), "noise"), "must give"),
            "one word": (lambda: "noise", "(yours: 'noise'"),
            "all worse": (lambda: {"grpo": "worse", "dr_grpo": "worse"}, "must give"),
        },
        almost=(lambda: {"grpo": "noise", "dr_grpo": "worse"}, "must give {'grpo': 'noise', 'dr_grpo': 'noise'}"),
    ),
]
