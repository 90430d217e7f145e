"""What every check does: say its sentence, and let a stub that is not attempted pass."""

import functools
from collections.abc import Callable, Iterable


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


def numbers_of(yours) -> list[float] | None:
    """What came back as plain numbers: a list, tuple, array, tensor or single number; None for anything else.

    >>> numbers_of((1, 2.5)), numbers_of(3), numbers_of("12"), numbers_of([True])
    ([1.0, 2.5], [3.0], None, None)
    """
    plain = yours.tolist() if hasattr(yours, "tolist") else yours
    items = list(plain) if isinstance(plain, Iterable) and not isinstance(plain, str | bytes | dict) else [plain]
    if any(isinstance(item, bool | str | bytes) for item in items):
        return None
    try:
        return [float(item) for item in items]
    except (TypeError, ValueError):
        return None
