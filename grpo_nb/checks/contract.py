"""What every check does: say its sentence, and let a stub that is not attempted pass."""

import functools
from collections.abc import Callable


def exercise(check: Callable[[Callable], tuple[bool, str]]) -> Callable[[Callable], bool | None]:
    """Let a check say its sentence, after its own name; a stub that raises NotImplementedError is not attempted."""

    @functools.wraps(check)
    def run(your_function: Callable) -> bool | None:
        try:
            is_right, sentence = check(your_function)
        except NotImplementedError:
            is_right, sentence = None, "not attempted."
        print(f"{check.__name__}: {sentence}")
        return is_right

    return run
