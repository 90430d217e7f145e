"""What learners write about rewards and advantages."""

import statistics

import numpy as np
import torch
from check_answers import Answers

from grpo_nb import templates
from grpo_nb.rewards import parsing

block = f"8*9{templates.REASONING_END}{templates.SOLUTION_START}{{}}{templates.SOLUTION_END}".format


def score(completion, true):
    said, truth = parsing.solution(parsing.text(completion)), parsing.number(true)
    number = parsing.number(said or "")
    return None if truth is None else float(number is not None and parsing.same_number(number, truth))


def reward(completions, answer, **kwargs):
    return [score(completion, true) for completion, true in zip(completions, answer, strict=True)]


def loop(completions, answer, trainer_state=None, **kwargs):
    scores = []
    for i in range(len(completions)):
        text = completions[i] if isinstance(completions[i], str) else completions[i][0]["content"]
        truth = parsing.number(answer[i])
        if truth is None:
            scores.append(None)
            continue
        number = parsing.number(parsing.solution(text) or "")
        scores.append(1.0 if number == truth else 0.0)
    return scores


def graded(*, right=1.0, wrong=0.0, unknown=None, is_right=lambda said, true: score(said, true)):
    def compute(completions, answer, **kwargs):
        scores = [
            unknown if parsing.number(t) is None else is_right(c, t) for c, t in zip(completions, answer, strict=True)
        ]
        return [
            x if x is None or parsing.number(t) is None else (right if x else wrong)
            for x, t in zip(scores, answer, strict=True)
        ]

    return compute


def same_text(completion, true):
    return parsing.solution(parsing.text(completion)) == true


def rows(rewards, G):
    return rewards.view(-1, G)


def advantages(rewards, G, **std):
    groups = rows(rewards, G)
    return ((groups - groups.mean(dim=1, keepdim=True)) / (groups.std(dim=1, keepdim=True, **std) + 1e-4)).flatten()


def by_hand(rewards, num_generations):
    flat, back = rewards.tolist(), []
    for start in range(0, len(flat), num_generations):
        group = flat[start : start + num_generations]
        mean, spread = statistics.mean(group), statistics.stdev(group)
        back += [(reward - mean) / (spread + 1e-4) for reward in group]
    return back


def repeated(rewards, num_generations):
    groups = rewards.numpy().reshape(-1, num_generations)
    mean, std = (f.repeat(num_generations) for f in (groups.mean(1), groups.std(1, ddof=1)))
    return (rewards.numpy() - mean) / (std + np.float32(1e-4))


def over(rewards, G, mean, std, tiny=1e-4):
    return ((rows(rewards, G) - mean) / (std + tiny)).flatten()


ANSWERS = [
    Answers(
        check="check_reward",
        right=[reward, loop, lambda completions, answer, **kwargs: tuple(reward(completions, answer))],
        wrong={
            "texts": (graded(is_right=same_text), "compares texts, not values"),
            "contained": (
                graded(is_right=lambda c, t: t in (parsing.solution(parsing.text(c)) or "")),
                "finds the truth somewhere in the solution",
            ),
            "no format needed": (
                graded(
                    is_right=lambda c, t: (
                        parsing.number(parsing.solution(parsing.text(c)) or parsing.text(c)) == float(t)
                    )
                ),
                "takes a completion without the format",
            ),
            "0 for no truth": (graded(unknown=0.0), "scores 0 where the truth is no number, and not None"),
            "None for wrong": (graded(wrong=None), "gives None for a wrong answer"),
            "−1 for wrong": (graded(wrong=-1.0), "takes a wrong answer for −1"),
            "one score": (
                lambda completions, answer, **kwargs: score(completions[0], answer[0]),
                "of shape [1] (yours: 1",
            ),
            "booleans": (lambda *c, **kw: [x and bool(x) for x in reward(**kw)], "must give [1] (yours: [True])"),
        },
        almost=(
            lambda completions, answer, **kwargs: [
                score(c, t) if isinstance(c, str) else 0.0 for c, t in zip(completions, answer, strict=True)
            ],
            "all of them, as messages",
        ),
    ),
    Answers(
        check="check_advantages",
        right=[advantages, by_hand, repeated],
        wrong={
            "std over G": (lambda r, G: advantages(r, G, unbiased=False), "deviation over G instead of G − 1"),
            "numpy's std": (
                lambda r, G: over(
                    r, G, rows(r, G).mean(1, keepdim=True), torch.tensor(rows(r, G).numpy().std(1))[:, None]
                ),
                "deviation over G instead of G − 1",
            ),
            "the whole batch": (
                lambda r, G: (r - r.mean()) / (r.std() + 1e-4),
                "takes mean and deviation over the batch",
            ),
            "the batch's mean": (
                lambda r, G: over(r, G, r.mean(), rows(r, G).std(1, keepdim=True)),
                "takes the mean over the batch",
            ),
            "the batch's deviation": (
                lambda r, G: over(r, G, rows(r, G).mean(1, keepdim=True), r.std()),
                "takes the deviation over the batch",
            ),
            "the wrong axis": (lambda r, G: over(r, G, rows(r, G).mean(0), rows(r, G).std(0)), "the wrong axis"),
            "[N] against [N, 1]": (
                lambda r, G: (
                    (r - rows(r, G).mean(1, keepdim=True).repeat_interleave(G, 0))
                    / (rows(r, G).std(1, keepdim=True).repeat_interleave(G, 0) + 1e-4)
                ),
                "lets a column [N, 1] meet a row [N]",
            ),
            "no keepdim": (
                lambda r, G: rows(r, G) - rows(r, G).mean(),
                "of shape [4] (yours: [[-0.25, -0.25, 0.75, -0.25]]",
            ),
            "no division": (
                lambda r, G: over(r, G, rows(r, G).mean(1, keepdim=True), 1 - 1e-4),
                "does not divide by the deviation",
            ),
            "variance": (
                lambda r, G: over(r, G, rows(r, G).mean(1, keepdim=True), rows(r, G).var(1, keepdim=True)),
                "divides by the variance",
            ),
            "no mean": (lambda r, G: over(r, G, 0, rows(r, G).std(1, keepdim=True)), "does not subtract the mean"),
            "no 10⁻⁴": (
                lambda r, G: over(r, G, rows(r, G).mean(1, keepdim=True), rows(r, G).std(1, keepdim=True), 0),
                "adds no 10⁻⁴",
            ),
            "10⁻⁴ before the root": (
                lambda r, G: over(
                    r, G, rows(r, G).mean(1, keepdim=True), (rows(r, G).var(1, keepdim=True) + 1e-4).sqrt(), 0
                ),
                "to the variance, before the root",
            ),
            "groups across": (
                lambda r, G: ((r.view(G, -1) - r.view(G, -1).mean(0)) / (r.view(G, -1).std(0) + 1e-4)).T.flatten(),
                "takes every P-th completion for a group",
            ),
        },
        almost=(
            lambda r, G: over(r, G, rows(r, G).mean(1, keepdim=True), rows(r, G).std(1, keepdim=True), 1e-5),
            "one group, one hit",
        ),
    ),
    Answers(
        check="check_completion_score",
        right=[lambda: block("60"), lambda: block("84"), lambda: "8*9=63.5" + block("63.5")],
        wrong={
            "right": (lambda: block("72"), "gives the right answer. It must give 4.5 (yours: 13)"),
            "near": (lambda: block("66"), "at most a tenth"),
            "far": (lambda: block("17"), "more than a fifth"),
            "no layout": (lambda: "60", "forgets the layout"),
            "words": (lambda: block("sixty"), "gives no number"),
            "a number": (lambda: 4.5 + 1, "must give 4.5 (yours: 5.5)"),
        },
        almost=(lambda: block("60") * 2, "the truth is 72: must give 4.5 (yours: -9)"),
    ),
]
