"""What learners write about chance."""

import math

import numpy as np
import torch
from check_answers import Answers

ANSWERS = [
    Answers(
        check="check_chance",
        right=[
            lambda p, k: 1 - (1 - p) ** k,
            lambda p, k: torch.tensor(1 - (1 - p) ** k),
            lambda p, k: [sum(math.comb(k, hits) * p**hits * (1 - p) ** (k - hits) for hits in range(1, k + 1))],
        ],
        wrong={
            "p · k": (lambda p, k: p * k, "adds the chances up"),
            "p · k, at most 1": (lambda p, k: min(p * k, 1), "stops at 1"),
            "pᵏ": (lambda p, k: p**k, "all k tries are right"),
            "1 − pᵏ": (lambda p, k: 1 - p**k, "not all k tries"),
            "(1 − p)ᵏ": (lambda p, k: (1 - p) ** k, "all k tries are wrong"),
            "a percentage": (
                lambda p, k: 100 * (1 - (1 - p) ** k),
                "one try, p = 0.5, k = 1: must give 0.5 (yours: 50)",
            ),
            "a text": (lambda p, k: f"{1 - (1 - p) ** k}", "(yours: '0.5', a str)"),
        },
        almost=(lambda p, k: round(1 - (1 - p) ** k, 3), "p = 0.1, k = 4: must give 0.3439 (yours: 0.344)"),
    ),
    Answers(
        check="check_signal",
        right=[
            lambda p, G: 1 - p**G - (1 - p) ** G,
            lambda p, G: np.float64(1 - (p**G + (1 - p) ** G)),
            lambda p, G: sum(math.comb(G, hits) * p**hits * (1 - p) ** (G - hits) for hits in range(1, G)),
        ],
        wrong={
            "1 − (1 − p)ᴳ": (lambda p, G: 1 - (1 - p) ** G, "group of hits only"),
            "1 − pᴳ": (lambda p, G: 1 - p**G, "group of misses only"),
            "pᴳ + (1 − p)ᴳ": (lambda p, G: p**G + (1 - p) ** G, "has no signal"),
            "p (1 − p)": (lambda p, G: p * (1 - p), "spread of one try"),
            "the product": (lambda p, G: (1 - p**G) * (1 - (1 - p) ** G), "multiplies the two"),
            "nothing": (lambda p, G: None, "is there a `return`?"),
        },
        almost=(lambda p, G: 4 * p * (1 - p) if G > 2 else 2 * p * (1 - p), "four even chances, p = 0.5, G = 4"),
    ),
]
