"""Exercises about runs that are cut: where one goes on, what a seal sees, how often to save."""

import hashlib
import math
import re

from grpo_nb.checks.exercises import exercise, judge


@exercise
def check_goes_on(your_choice):
    """Whether `your_choice` names the checkpoint of the highest step whose seal fits, None where there is none.

    Args:
        your_choice: f(checkpoints) -> name; checkpoints: name → "fits", "damaged" or "no seal".
    See: notebook 13, exercise 13.1; `checkpoints.newest`.

    >>> check_goes_on(lambda checkpoints: max(checkpoints, default=None))
    check_goes_on: two digits: your answers are those of one who compares the names as text, in which 12 comes before 8,
    and asks for no seal. It must give 'checkpoint-12' (yours: 'checkpoint-8').
    False
    """
    cases = [
        ("two digits", {8: "fits", 12: "fits", 4: "fits"}),
        ("in any order", {20: "fits", 30: "fits", 25: "fits"}),
        ("killed within a save", {4: "fits", 8: "no seal"}),
        ("a flipped bit", {4: "fits", 8: "damaged"}),
        ("the newest two are spoiled", {20: "damaged", 15: "no seal", 10: "fits", 5: "fits"}),
        ("nothing fits", {4: "damaged", 8: "no seal"}),
        ("nothing was saved", {}),
    ]

    def step(name: str) -> int:
        return int(re.findall(r"\d+", name)[0])

    def best(*good, by=step, pick=max):
        def choice(checkpoints):
            return pick((name for name, state in checkpoints.items() if state in good), key=by, default=None)

        return choice

    anything = ("fits", "damaged", "no seal")
    usual = {
        "takes the newest, whatever its seal": best(*anything),
        "compares the names as text, in which 12 comes before 8": best("fits", by=str),
        "compares the names as text, in which 12 comes before 8, and asks for no seal": best(*anything, by=str),
        "asks for a seal, but not whether it fits": best("fits", "damaged"),
        "takes the oldest that fits": best("fits", pick=min),
        "gives up where the newest does not fit": lambda checkpoints: (
            name if checkpoints.get(name := best(*anything)(checkpoints)) == "fits" else None
        ),
        "takes the last of the list, whatever its step": lambda checkpoints: [
            None,
            *(name for name, state in checkpoints.items() if state == "fits"),
        ][-1],
    }
    named = [(name, ({f"checkpoint-{number}": state for number, state in made.items()},)) for name, made in cases]
    choice = best("fits")
    return judge(your_choice, named, right=lambda checkpoints: choice(checkpoints), usual=usual)


@exercise
def check_seal(your_fits):
    """Whether `your_fits` says that every file which a seal names is there with the content that was sealed.

    Args:
        your_fits: f(seal, files) -> bool; seal: name → SHA-256 in hexadecimal digits, or None; files: name → bytes.
    See: notebook 13, exercise 13.2; `checkpoints.read_seal`.
    """
    weights, moments = b"the weights", b"the moments"
    sealed = {"model": _hash(weights), "optimizer": _hash(moments)}
    cases = [
        ("as it was sealed", sealed, {"model": weights, "optimizer": moments}),
        ("a flipped bit", sealed, {"model": weights, "optimizer": b"the momentr"}),
        ("a missing file", sealed, {"model": weights}),
        ("half a file", sealed, {"model": weights, "optimizer": b"the m"}),
        ("two files changed places", sealed, {"model": moments, "optimizer": weights}),
        ("a note that somebody put there later", sealed, {"model": weights, "optimizer": moments, "note": b"hi"}),
        ("killed before the seal", None, {"model": weights, "optimizer": moments}),
        ("empty files", {"log": _hash(b"")}, {"log": b""}),
    ]
    usual = {
        "looks at the names only": lambda seal, files: seal is not None and seal.keys() <= files.keys(),
        "asks the files that are there, and misses those that are not": lambda seal, files: (
            seal is not None
            and all(seal.get(name, _hash(content)) == _hash(content) for name, content in files.items())
        ),
        "compares all hashes at once, not name by name": lambda seal, files: (
            seal is not None and set(seal.values()) <= {_hash(content) for content in files.values()}
        ),
        "wants no file beside the sealed ones": lambda seal, files: (
            seal is not None and seal == {name: _hash(content) for name, content in files.items()}
        ),
        "takes no seal for a seal that fits": lambda seal, files: is_fit(seal or {}, files),
        "takes every checkpoint": lambda seal, files: True,
        "is content with one file that fits": lambda seal, files: (
            seal is not None and any(_hash(files.get(name, b"")) == told for name, told in seal.items())
        ),
    }
    return judge(your_fits, [(name, tuple(given)) for name, *given in cases], right=is_fit, usual=usual)


def is_fit(seal: dict | None, files: dict) -> bool:
    """Whether every sealed file is there, unchanged."""
    return seal is not None and all(name in files and _hash(files[name]) == told for name, told in seal.items())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@exercise
def check_save_steps(your_save_steps):
    """Whether `your_save_steps` is the number of steps between two saves that wastes the least time, √(2·C·M) / step.

    A save of C seconds wastes C / (n·step) of the time. A kill every M seconds wastes n·step / 2, half an interval, and
    with it n·step / (2·M) of the time. The sum is smallest at n·step = √(2·C·M).

    Args:
        your_save_steps: f(step_s, save_s, between_kills_s) -> steps, not rounded.
    See: notebook 13, exercise 13.3; Young 1974, *A first order approximation to the optimum checkpoint interval*,
        Communications of the ACM 17:530.
    """
    cases = [
        ("a save as long as a step, a kill an hour", (2.0, 2.0, 3600.0)),
        ("a quick save", (2.0, 0.5, 3600.0)),
        ("slow steps", (60.0, 15.0, 43200.0)),
        ("a machine that dies all the time", (1.0, 2.0, 100.0)),
    ]

    def best(step_s, save_s, between_kills_s, lost=0.5):
        return math.sqrt(save_s * between_kills_s / lost) / step_s

    usual = {
        "lets a kill cost the whole interval, not half of it on average": lambda *given: best(*given, lost=1.0),
        "gives seconds, not steps": lambda step_s, save_s, M: best(1.0, save_s, M),
        "forgets the root": lambda step_s, save_s, M: 2 * save_s * M / step_s,
        "saves once between two kills": lambda step_s, save_s, M: M / step_s,
        "saves at every step": lambda *given: 1,
        "divides the save into the time between kills": lambda step_s, save_s, M: math.sqrt(2 * M / save_s) / step_s,
        "forgets the length of a save": lambda step_s, save_s, M: math.sqrt(2 * M) / step_s,
    }
    return judge(
        your_save_steps,
        cases,
        right=lambda step_s, save_s, between_kills_s: best(step_s, save_s, between_kills_s),
        usual=usual,
    )
