"""What the rows of a run must satisfy before a trainer sees them: columns, roles, prompts."""

from collections.abc import Sequence

GIVEN_BY_TRL = {"prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments"}


def check_columns(rows: Sequence[dict], needed: Sequence[str], *, why: str) -> None:
    """Refuse rows that lack a column, before anything expensive starts."""
    if len(rows) == 0:
        raise ValueError(f"{why} must have at least one row to train on (got none).")
    missing = [name for name in needed if name not in rows[0]]
    if missing:
        raise ValueError(
            f"{why} needs the column{'s' if len(missing) > 1 else ''} {', '.join(map(repr, missing))} "
            f"(got {', '.join(map(repr, rows[0]))}). data.grpo_rows and data.sft_rows make the right ones."
        )
