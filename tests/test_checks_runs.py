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
    Answers(
        check="check_steps_run",
        right=[
            lambda: {12: "worse", 48: "noise"},
            lambda: {48: "noise", 12: "worse"},
            lambda: {steps: "worse" if steps < 24 else "noise" for steps in (12, 48)},
        ],
        wrong={
            "by the means": (lambda: {12: "worse", 48: "better"}, "looks at the means and not at the interval"),
            "longer is worse": (lambda: {12: "better", 48: "worse"}, "must give"),
            "one only": (lambda: {12: "worse"}, "must give"),
            "a list": (lambda: ["worse", "noise"], "must give"),
            "words for keys": (lambda: {"12": "worse", "48": "noise"}, "must give"),
        },
        almost=(lambda: {12: "noise", 48: "noise"}, "must give {12: 'worse', 48: 'noise'}"),
    ),
    Answers(
        check="check_sampling_run",
        right=[
            lambda: {"top_k": "noise", "top_p": "worse"},
            lambda: dict(top_p="worse", top_k="noise"),
            lambda: dict(zip(("top_k", "top_p"), ("noise", "worse"), strict=True)),
        ],
        wrong={
            "by the means": (
                lambda: {"top_k": "better", "top_p": "worse"},
                "looks at the means and not at the interval",
            ),
            "cleaner samples": (lambda: {"top_k": "better", "top_p": "better"}, "must give"),
            "any cut harms": (lambda: {"top_k": "worse", "top_p": "worse"}, "must give"),
            "all noise": (lambda: {"top_k": "noise", "top_p": "noise"}, "must give"),
            "one word": (lambda: "worse", "(yours: 'worse'"),
        },
        almost=(lambda: {"top_k": "noise", "top_p": "Worse"}, "must give {'top_k': 'noise', 'top_p': 'worse'}"),
    ),
    Answers(
        check="check_reward_run",
        right=[
            lambda: {"format": "worse", "answer": "noise"},
            lambda: {"answer": "noise", "format": "worse"},
            lambda: dict(format="worse", answer="noise"),
        ],
        wrong={
            "all better": (lambda: {"format": "better", "answer": "better"}, "must give"),
            "all noise": (lambda: {"format": "noise", "answer": "noise"}, "must give"),
            "turned round": (lambda: {"format": "noise", "answer": "worse"}, "must give"),
            "one only": (lambda: {"format": "worse"}, "must give"),
            "True": (lambda: True, "(yours: True"),
        },
        almost=(lambda: {"format": "worse", "answer": "worse"}, "must give"),
    ),
]
