"""What learners write about runs that are cut."""

import hashlib
import math

import numpy as np
from check_answers import Answers

from grpo_nb.checks import interruptions


def step(name):
    return int(name.split("-")[1])


def by_walking(checkpoints):
    for name in sorted(checkpoints, key=step, reverse=True):
        if checkpoints[name] == "fits":
            return name


def by_counting(checkpoints):
    fitting = {int(name[11:]) for name in checkpoints if checkpoints[name] == "fits"}
    return f"checkpoint-{max(fitting)}" if fitting else None


def digest(content):
    return hashlib.sha256(content).hexdigest()


def fits(seal, files):
    if seal is None:
        return False
    for name, told in seal.items():
        if name not in files or digest(files[name]) != told:
            return False
    return True


def by_trying(step_s, save_s, between_kills_s):
    """The smallest of many: a hundredth of a step apart."""

    def wasted(n):
        return save_s / (n * step_s) + n * step_s / 2 / between_kills_s

    low, high = 1e-3, 1e5
    for _ in range(200):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, b) if wasted(a) < wasted(b) else (a, high)
    return (low + high) / 2


ANSWERS = [
    Answers(
        check="check_goes_on",
        right=[
            by_walking,
            by_counting,
            lambda checkpoints: max((n for n, s in checkpoints.items() if s == "fits"), key=step, default=None),
        ],
        wrong={
            "the newest": (lambda checkpoints: max(checkpoints, key=step, default=None), "whatever its seal"),
            "as text": (
                lambda checkpoints: max((n for n, s in checkpoints.items() if s == "fits"), default=None),
                "12 comes before 8. It must give",
            ),
            "any seal": (
                lambda checkpoints: max((n for n, s in checkpoints.items() if s != "no seal"), key=step, default=None),
                "not whether it fits",
            ),
            "the oldest": (
                lambda checkpoints: min((n for n, s in checkpoints.items() if s == "fits"), key=step, default=None),
                "the oldest that fits",
            ),
            "the last": (
                lambda checkpoints: next((n for n, s in reversed(checkpoints.items()) if s == "fits"), None),
                "the last of the list",
            ),
            "the step": (lambda checkpoints: step(by_walking(checkpoints) or "-0"), "(yours: 12)"),
        },
        almost=(lambda checkpoints: by_walking(checkpoints) or "checkpoint-0", "nothing fits"),
    ),
    Answers(
        check="check_seal",
        right=[
            fits,
            interruptions.is_fit,
            lambda seal, files: np.bool_(
                seal is not None and seal.items() <= {n: digest(c) for n, c in files.items()}.items()
            ),
        ],
        wrong={
            "names": (lambda seal, files: seal is not None and not set(seal) - set(files), "the names only"),
            "what is there": (
                lambda seal, files: seal is not None and all(digest(files[n]) == seal[n] for n in files if n in seal),
                "misses those that are not",
            ),
            "all at once": (
                lambda seal, files: seal is not None and {*seal.values()} <= {*map(digest, files.values())},
                "not name by name",
            ),
            "nothing else": (
                lambda seal, files: seal == {n: digest(c) for n, c in files.items()},
                "wants no file beside",
            ),
            "no seal will do": (lambda seal, files: seal is None or fits(seal, files), "takes no seal for a seal"),
            "always": (lambda seal, files: True, "takes every checkpoint"),
        },
        almost=(
            lambda seal, files: bool(seal) and all(seal) and fits(seal, files) and b"" not in files.values(),
            "empty files",
        ),
    ),
    Answers(
        check="check_save_steps",
        right=[
            lambda step_s, save_s, M: math.sqrt(2 * save_s * M) / step_s,
            lambda step_s, save_s, M: np.float64(2 * save_s * M / step_s**2) ** 0.5,
            by_trying,
        ],
        wrong={
            "the whole interval": (
                lambda step_s, save_s, M: math.sqrt(save_s * M) / step_s,
                "not half of it on average",
            ),
            "seconds": (lambda step_s, save_s, M: math.sqrt(2 * save_s * M), "seconds, not steps"),
            "no root": (lambda step_s, save_s, M: 2 * save_s * M / step_s, "forgets the root"),
            "between kills": (lambda step_s, save_s, M: M / step_s, "once between two kills"),
            "each step": (lambda step_s, save_s, M: 1.0, "at every step"),
            "rounded up": (lambda step_s, save_s, M: math.ceil(math.sqrt(2 * save_s * M) / step_s), "must give"),
        },
        almost=(lambda step_s, save_s, M: round(math.sqrt(2 * save_s * M) / step_s, 2), "must give"),
    ),
]
