"""Prompts: text or messages that end with the user, each of them askable, none of them a held-out question."""

from collections.abc import Mapping, Sequence

from grpo_nb import data
from grpo_nb.data import tables
from grpo_nb.preflight import columns

ROLES = ("system", "user", "assistant")
OTHER_KEYS = {"from": "role", "value": "content", "text": "content"}


def check_prompts(rows: Sequence[dict]) -> dict[str, int]:
    """Refuse prompts that no chat template, tokenizer or policy can take.

    Args:
        rows: with the column "prompt" in the first of them.
    Returns: what is odd but legal: `repeated_prompts` in their normal form, `crlf_prompts` with Windows line ends.
    Raises: ValueError naming the first such row.
    """
    is_text = isinstance(rows[0]["prompt"], str)
    for number, row in enumerate(rows):
        prompt = row.get("prompt")
        if isinstance(prompt, str):
            _check_text(prompt, number)
        elif isinstance(prompt, Sequence):
            _check_messages(prompt, number)
        else:
            advice = (
                "Pass data.grpo_rows(data.as_rows(rows))" if tables.is_readable(row) else "Fill it in, or drop the row"
            )
            raise ValueError(
                f"row {number}, column 'prompt', must hold text or messages (got {tables.short(prompt)}). {advice}."
            )
        if isinstance(prompt, str) != is_text:
            raise ValueError(
                f"all of column 'prompt' must be text, or all of it messages (got both: rows 0 and {number} differ). "
                "Turn text into messages with templates.prompt_messages(text)."
            )
    questions = [question(row["prompt"]) for row in rows]
    different = len({data.normal_form(text) for text in questions})
    return {
        "repeated_prompts": len(questions) - different,
        "crlf_prompts": sum("\r\n" in text for text in questions),
    }


def question(prompt: str | Sequence[Mapping]) -> str:
    """What a prompt asks, without the system turn, which all of them share.

    >>> question([{"role": "system", "content": "Add."}, {"role": "user", "content": "1+1?"}])
    '1+1?'
    """
    if isinstance(prompt, str):
        return prompt
    return "\n".join(turn["content"] for turn in prompt if turn["role"] != "system")


def _check_text(text: str, number: int) -> None:
    if not text.strip():
        raise ValueError(
            f"row {number}, column 'prompt', must ask something (got {text!r}). Fill it in, or drop the row."
        )
    columns.check_readable(text, number, "prompt")


def _check_messages(messages: Sequence, number: int) -> None:
    for place, turn in enumerate(messages):
        if not isinstance(turn, Mapping) or not {"role", "content"} <= turn.keys():
            raise _malformed(turn, number)
        role, content = turn["role"], turn["content"]
        if role not in ROLES:
            near = tables.ROLES.get(str(role).lower(), "user")
            raise ValueError(
                f"row {number}, column 'prompt', must use the roles {', '.join(ROLES)} (got {role!r}). "
                f"Rename it, perhaps to {near!r}."
            )
        if role == "system" and place:
            raise ValueError(
                f"row {number}, column 'prompt', must have its system turn first (got it as turn {place + 1}). "
                "Move it to the front."
            )
        if isinstance(content, list | tuple):
            raise _typed_parts(content, number, role)
        if not isinstance(content, str) or (role == "user" and not content.strip()):
            raise ValueError(
                f"row {number}, column 'prompt', must have text in every turn (got the content {content!r} from the "
                f"{role}). Fill it in, or drop the row."
            )
        columns.check_readable(content, number, "prompt")
    if not messages or messages[-1]["role"] != "user":
        last = f"the {messages[-1]['role']}'s" if messages else "no"
        raise ValueError(
            f"row {number}, column 'prompt', must end with the user's turn (got {last} turn last). "
            "Drop what the policy should write itself; data.grpo_rows makes such prompts."
        )


def _typed_parts(content: Sequence, number: int, role: str) -> ValueError:
    """The refusal of content like [{"type": "text", "text": …}], which the template of a text policy cannot render."""
    try:
        tables.plain_text(content)
        advice = 'Join them, "".join(part["text"] for part in content), or pass data.grpo_rows(data.as_rows(rows))'
    except ValueError:
        advice = "Drop the row: this policy reads text only"
    return ValueError(
        f"row {number}, column 'prompt', must have plain text in every turn (got typed parts "
        f"{tables.short(list(content))} from the {role}). {advice}."
    )


def _malformed(turn, number: int) -> ValueError:
    """The refusal of a turn that is not {"role": …, "content": …}."""
    got = f"the keys {', '.join(map(str, turn))}" if isinstance(turn, Mapping) else type(turn).__name__
    renamed = [f"{old} to {OTHER_KEYS[old]}" for old in turn if old in OTHER_KEYS] if isinstance(turn, Mapping) else []
    advice = f"Rename {' and '.join(renamed)}" if renamed else "Write both keys in every turn"
    return ValueError(
        f'row {number}, column \'prompt\', must consist of {{"role", "content"}} messages (got {got}). {advice}.'
    )


def check_held_out(rows: Sequence[dict], held_out: Sequence[dict]) -> None:
    """Refuse training prompts that are held-out questions too, in the normal form that `data.split_rows` knows.

    Args:
        rows: checked by `check_prompts`.
        held_out: rows with the column "prompt", which nobody has checked yet.
    Raises: ValueError naming the first such pair and the number of them.
    """
    columns.check_columns(held_out, ["prompt"], why="held_out")
    try:
        check_prompts(held_out)
    except ValueError as error:
        raise ValueError(f"held-out {error}") from None
    tests = {data.normal_form(question(row["prompt"])): number for number, row in reversed([*enumerate(held_out)])}
    asked = [data.normal_form(question(row["prompt"])) for row in rows]
    shared = [(number, tests[text]) for number, text in enumerate(asked) if text in tests]
    if shared:
        train, test = shared[0]
        raise ValueError(
            f"no held-out question may be trained on (got {len(shared)} of {len(rows)} prompts in both: row {train} is "
            f"held-out row {test}). Drop them with data.without_problems, then make the prompts."
        )
