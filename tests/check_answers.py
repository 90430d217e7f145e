"""What learners write, for every check: right in three ways, usually wrong, and almost right."""

import contextlib
import importlib
import inspect
import io
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from grpo_nb import checks

TESTS = Path(__file__).parent
CHECKS = sorted(name for name, value in vars(checks).items() if name.startswith("check_") and callable(value))


@dataclass(frozen=True)
class Answers:
    """The answers to one exercise.

    Attributes:
        check: name in `grpo_nb.checks`.
        right: three or more writings that must pass.
        wrong: what is wrong → (function, part of what the check must say); five or more.
        almost: one that is right in most cases, and what the check must say.
    """

    check: str
    right: list[Callable]
    wrong: dict[str, tuple[Callable, str]]
    almost: tuple[Callable, str]

    def said(self, yours: object) -> tuple[bool | None, str]:
        """The verdict and the sentence, without the check's name."""
        # Along the wrong axis, a batch of one group has no deviation; torch warns of it.
        with contextlib.redirect_stdout(io.StringIO()) as out, warnings.catch_warnings(action="ignore"):
            verdict = getattr(checks, self.check)(yours)
        return verdict, out.getvalue().strip().removeprefix(f"{self.check}: ")

    def mistakes(self) -> dict[str, Callable]:
        """The usual mistakes that the check knows: sentence → function."""
        known: dict[str, Callable] = {}
        module = sys.modules[inspect.unwrap(getattr(checks, self.check)).__module__]
        judge = module.judge

        def listening(*given, usual=None, **options):
            known.update(usual or {})
            return judge(*given, usual=usual, **options)

        module.judge = listening
        try:
            self.said(lambda *given, **named: None)
        finally:
            module.judge = judge
        return known


def every() -> list[Answers]:
    """The answers to all exercises, of tests/test_checks_<topic>.py; this folder must be on sys.path."""
    files = sorted(TESTS.glob("test_checks_*.py"))
    return [answers for file in files for answers in getattr(importlib.import_module(file.stem), "ANSWERS", [])]
