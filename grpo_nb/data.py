"""Task or data set → rows {"problem", "answer", "working"} → what TRL's trainers eat.

One generated task (addition with written carries) that needs nothing, and three public data sets that `datasets`
loads from the Hub or from a local folder: `GRPO_NB_DATA/<name>/*.jsonl|*.parquet`.
"""

import os
import random
from pathlib import Path

from grpo_nb import profiles, templates

# Hub address, configuration and split names; the folder under GRPO_NB_DATA carries the key's name.
SOURCES = {
    "gsm8k": {"path": "openai/gsm8k", "name": "main", "train": "train", "held_out": "test"},
    "dapo_math": {"path": "open-r1/DAPO-Math-17k-Processed", "name": "en", "train": "train", "held_out": None},
    "open_math_reasoning": {"path": "unsloth/OpenMathReasoning-mini", "name": None, "train": "cot", "held_out": None},
}


def load_task(task: dict, *, seed: int = 0) -> tuple[list[dict], list[dict]]:
    """Rows to train on and held-out rows that share no problem with them.

    Args:
        task: a profile's `task` dict: `name`, `num_train`, `num_held_out`, and for addition `digits` and `slip_rate`.
        seed: picks the problems and the demonstrator's slips.
    Returns: (train, held_out), lists of rows {"problem": str, "answer": str, "working": str}.
    Raises: ValueError if the task is unknown or has too few problems.
    """
    if task["name"] == "addition":
        sizes = {"num_train": task["num_train"], "num_held_out": task["num_held_out"]}
        return addition(**sizes, digits=task["digits"], slip_rate=task["slip_rate"], seed=seed)
    return split_rows(load_rows(task["name"]), task["num_train"], task["num_held_out"], seed=seed)


def addition(
    *, num_train: int, num_held_out: int, digits: int = 3, slip_rate: float = 0.0, seed: int = 0
) -> tuple[list[dict], list[dict]]:
    """Column-wise addition a + b; the worked answers are those of a demonstrator who forgets carries.

    Args:
        num_train, num_held_out: problems to make; a + b and b + a count as the same problem.
        digits: digits of each addend, the difficulty.
        slip_rate: probability that the demonstrator forgets a carry, in [0, 1]; it spoils `working` and
            `solution`, never `answer`.
        seed: of the problems and the slips.
    Returns: (train, held_out), rows {"problem", "answer", "working", "solution"}; `answer` is the true sum, `solution`
    the demonstrator's.
    Raises: ValueError if `digits` cannot give that many different problems.
    """
    low, high = (0 if digits == 1 else 10 ** (digits - 1)), 10**digits
    possible = (high - low) * (high - low + 1) // 2
    if num_train + num_held_out > possible:
        raise ValueError(
            f"{digits}-digit addition has {possible} different problems (got {num_train} + {num_held_out} wanted). "
            f"Ask for fewer rows or more digits."
        )
    rng, seen, rows = random.Random(seed), set(), []
    while len(rows) < num_train + num_held_out:
        a, b = rng.randrange(low, high), rng.randrange(low, high)
        if (pair := (min(a, b), max(a, b))) in seen:
            continue
        seen.add(pair)
        working, solution = column_addition(a, b, slip_rate=slip_rate, rng=rng)
        rows.append({"problem": f"What is {a}+{b}?", "answer": str(a + b), "working": working, "solution": solution})
    return rows[:num_train], rows[num_train:]


def column_addition(a: int, b: int, *, slip_rate: float = 0.0, rng: random.Random | None = None) -> tuple[str, str]:
    """Working-out and solution of a + b, one column after the other from the right, carries written out.

    Args:
        a, b: addends ≥ 0.
        slip_rate: probability of forgetting each carry that is due.
        rng: source of the slips; needed only if slip_rate > 0.
    Returns: (working, solution).

    >>> column_addition(37, 85)
    ('7+5=12 3+8=11+1=12', '122')
    >>> column_addition(37, 85, slip_rate=1.0, rng=random.Random(0))
    ('7+5=12 3+8=11', '112')
    """
    columns, written, carry = [], [], 0
    width = max(len(str(a)), len(str(b)))
    for place in range(width):
        top, bottom = a // 10**place % 10, b // 10**place % 10
        total = top + bottom + carry
        columns.append(f"{top}+{bottom}={top + bottom}" + (f"+{carry}={total}" if carry else ""))
        written.append(str(total) if place == width - 1 else str(total % 10))
        carry = total // 10
        if carry and slip_rate and rng.random() < slip_rate:
            carry = 0
    return " ".join(columns), "".join(reversed(written))


def is_available(name: str, local_dir: str | os.PathLike | None = None) -> bool:
    """Whether `load_rows(name)` finds the data set in a local folder, with no need of the Hub."""
    return bool(_local_files(name, local_dir))


def load_rows(name: str, *, split: str = "train", local_dir: str | os.PathLike | None = None) -> list[dict]:
    """Rows of a public data set.

    Args:
        name: "gsm8k", "dapo_math" or "open_math_reasoning".
        split: "train", or "held_out" where the data set has one (gsm8k).
        local_dir: folder with this data set's jsonl or parquet files; default GRPO_NB_DATA/<name>, then the Hub.
    Returns: rows {"problem", "answer", "working"}; only rows whose answer is a number for open_math_reasoning.
    Raises: ValueError for an unknown data set or split.
    """
    if name not in SOURCES:
        raise ValueError(
            f"the data set must be one of {', '.join(SOURCES)} (got {name!r}). Addition is `addition(...)`."
        )
    source = SOURCES[name]
    if not source.get(split):
        raise ValueError(f"{name} has no {split!r} split. Use split='train' and split_rows.")
    import datasets

    datasets.disable_progress_bars()
    files = _local_files(name, local_dir)
    if files:
        mine = _of_split(files, source, split)
        kind = "json" if mine[0].endswith(".jsonl") else "parquet"
        table = datasets.load_dataset(kind, data_files=mine, split="train")
    else:
        table = datasets.load_dataset(source["path"], source["name"], split=source[split])
    return [row for row in map(READERS[name], table) if row is not None]


def _local_files(name: str, local_dir: str | os.PathLike | None) -> list[str]:
    home = profiles.folder_named("GRPO_NB_DATA")
    if local_dir is None and home is None:
        return []
    folder = Path(local_dir).expanduser() if local_dir is not None else home / name
    return sorted(str(f) for kind in ("*.jsonl", "*.parquet") for f in folder.glob(kind))


def _of_split(files: list[str], source: dict, split: str) -> list[str]:
    """The files of one split, by the beginning of their names; files that name no split are training rows."""
    names = {key: source[key] for key in ("train", "held_out") if source[key]}
    mine = [file for file in files if Path(file).stem.startswith(names[split])]
    if not mine and split == "train":
        mine = [file for file in files if not Path(file).stem.startswith(tuple(names.values()))]
    if not mine or len({Path(file).suffix for file in mine}) > 1:
        raise ValueError(
            f"the {split} files must be all jsonl or all parquet, named {names[split]}* "
            f"(got {', '.join(Path(file).name for file in files)}). Rename them, or move the others away."
        )
    return mine


def _gsm8k_row(row: dict) -> dict:
    working, _, answer = row["answer"].rpartition("####")
    return {"problem": row["question"], "answer": answer.strip().replace(",", ""), "working": working.strip()}


def _dapo_math_row(row: dict) -> dict:
    return {"problem": row["prompt"], "answer": row["solution"].strip(), "working": ""}


def _open_math_reasoning_row(row: dict) -> dict | None:
    answer = row["expected_answer"].strip()
    try:
        float(answer)
    except ValueError:
        return None
    working = row["generated_solution"].replace("<think>", "").replace("</think>", "").strip()
    return {"problem": row["problem"], "answer": answer, "working": working}


READERS = {"gsm8k": _gsm8k_row, "dapo_math": _dapo_math_row, "open_math_reasoning": _open_math_reasoning_row}


def split_rows(
    rows: list[dict], num_train: int | None, num_held_out: int, *, seed: int = 0
) -> tuple[list[dict], list[dict]]:
    """Shuffle, drop repeated problems, then cut off the held-out rows.

    Raises: ValueError if fewer problems are left than asked for.

    >>> train, held_out = split_rows([{"problem": str(i % 9)} for i in range(20)], None, 3)
    >>> len(train), len(held_out), {r["problem"] for r in train} & {r["problem"] for r in held_out}
    (6, 3, set())
    """
    unique = list({row["problem"]: row for row in rows}.values())
    wanted = num_held_out + (1 if num_train is None else num_train)
    if len(unique) < wanted:
        raise ValueError(f"the task must have at least {wanted} different problems (got {len(unique)}). Ask for fewer.")
    random.Random(seed).shuffle(unique)
    held_out, train = unique[:num_held_out], unique[num_held_out:]
    return (train if num_train is None else train[:num_train]), held_out


def without_problems(rows: list[dict], held_out: list[dict]) -> list[dict]:
    """Rows whose problem is none of the held-out ones, whatever its case and white space.

    >>> without_problems([{"problem": "What  is 1+1?"}, {"problem": "2+2?"}], [{"problem": "what is 1+1?"}])
    [{'problem': '2+2?'}]
    """
    taken = {" ".join(row["problem"].lower().split()) for row in held_out}
    return [row for row in rows if " ".join(row["problem"].lower().split()) not in taken]


def sft_rows(rows: list[dict], *, system_prompt: str | None = None) -> list[dict]:
    """Worked rows as prompt and completion: TRL's SFTTrainer then puts the loss on the completion only."""
    return [
        {
            "prompt": templates.prompt_messages(row["problem"], system_prompt or templates.SYSTEM_PROMPT),
            "completion": [
                {
                    "role": "assistant",
                    "content": templates.worked_answer(row["working"], row.get("solution", row["answer"])),
                }
            ],
        }
        for row in rows
    ]


def grpo_rows(rows: list[dict], *, system_prompt: str | None = None) -> list[dict]:
    """Rows as TRL's GRPOTrainer wants them: the prompt, and the answer for the reward functions' eyes only."""
    return [
        {
            "prompt": templates.prompt_messages(row["problem"], system_prompt or templates.SYSTEM_PROMPT),
            "answer": row["answer"],
        }
        for row in rows
    ]


def keep_short(
    rows: list[dict], tokenizer, *, max_tokens: int | None = None, quantile: float = 1.0
) -> tuple[list, int]:
    """Drop the longest rows: GRPO has no truncation, one long prompt pads the whole batch.

    Args:
        rows: rows with a conversational "prompt" (and perhaps a "completion").
        tokenizer: with a chat template.
        max_tokens: longest row kept, in tokens; None sets no such limit.
        quantile: share of rows to keep, in (0, 1]; the stricter of the two limits counts.
    Returns: (kept rows, the length limit in tokens).
    Raises: ValueError if nothing is left.
    """
    import numpy as np

    texts = [
        tokenizer.apply_chat_template(
            row["prompt"] + row.get("completion", []), tokenize=False, add_generation_prompt="completion" not in row
        )
        for row in rows
    ]
    lengths = np.array([len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]])
    limit = int(np.quantile(lengths, quantile))
    limit = limit if max_tokens is None else min(limit, max_tokens)
    kept = [row for row, length in zip(rows, lengths, strict=True) if length <= limit]
    if not kept:
        raise ValueError(
            f"at least one row must fit (got {len(rows)} rows, shortest {lengths.min()}, limit {limit} tokens)."
        )
    return kept, limit
