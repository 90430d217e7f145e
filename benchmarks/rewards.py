"""How long the rewards take on completions written to keep a parser busy, beside the patterns that they replace.

Run `python benchmarks/rewards.py`: prints a line for each family, writes `benchmarks/results/rewards.json`. The peer is
the pair of regular expressions of *Qwen3-8B GRPO with SwanLab*, at sizes where they finish within a second.
"""

import json
import os
import platform
import re
import statistics
import time
from pathlib import Path

from grpo_nb import rewards, templates
from grpo_nb.runs import files

SIZES = tuple(512 * 2**i for i in range(8))  # characters: 0.5 k … 64 k
REPEATS = 5
PEER_LIMIT_S = 1.0
RESULT = Path(__file__).parent / "results" / "rewards.json"

OPEN, CLOSE, START, END = templates.TAGS
BLOCK = f"1{CLOSE}{START}1{END}"


def repeated(unit: str, before: str = "", after: str = ""):
    """Family of texts: `unit` as often as fits into n characters between `before` and `after`."""
    return lambda n: before + unit * max(1, (n - len(before) - len(after)) // len(unit)) + after


FAMILIES = {
    "ends, then starts": lambda n: CLOSE * (n // 2 // len(CLOSE)) + START * (n // 2 // len(START)),
    "ends, then starts, then closings": lambda n: "".join(t * (n // 3 // len(t)) for t in (CLOSE, START, END)),
    "block, then x": repeated("x", BLOCK),
    "blocks and x": repeated(BLOCK + "x"),
    "block, blanks, x": repeated(" ", BLOCK, "x"),
    "block, blanks": repeated(" ", BLOCK),
    "blanks after the solution tag": repeated(" ", f"{CLOSE}{START}"),
    "blanks around the solution": repeated(" ", f"{CLOSE}{START} 1", END),
    "blocks": repeated(BLOCK),
    "lines of blocks": repeated("\n" + BLOCK),
    "blocks with the opening tag": repeated(OPEN + BLOCK),
    "openings": repeated(OPEN),
    "solution starts": repeated(START),
    "solution ends": repeated(END, f"{CLOSE}{START}"),
    "tags backwards": repeated(END + START + CLOSE + OPEN),
    "beginnings of a tag": repeated(START[:-1]),
    "beginnings of an end tag": repeated(END[:-1], f"{CLOSE}{START}1"),
    "angle brackets": repeated("<"),
    "foreign tags": repeated("<think>\n</think>\n<answer>\n"),
    "blanks": repeated(" "),
    "line breaks": repeated("\n", BLOCK, "1"),
    "digits": repeated("1", f"{CLOSE}{START}", END),
    "thousands": repeated(",000", f"{CLOSE}{START}1", END),
    "commas": repeated(",", f"{CLOSE}{START}", END),
    "points": repeated("1.", f"{CLOSE}{START}", END),
    "signs": repeated("- ", f"{CLOSE}{START}", END),
    "exponents": repeated("1e", f"{CLOSE}{START}", END),
    "fractions": repeated("1/", f"{CLOSE}{START}", END),
    "many numbers": repeated("1 ", f"{CLOSE}{START}", END),
    "other scripts": repeated("\u0661\u202e\u200b", f"{CLOSE}{START}", END),
}


def our_seconds(completion: str) -> float:
    """Median time of all four rewards on one completion."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        rewards.match_format_exactly([completion])
        rewards.match_format_approximately([completion])
        rewards.check_answer([completion], ["1"])
        rewards.check_numbers([completion], ["1"])
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def peer_seconds(completion: str) -> float:
    """Time of one search with each of the source's two patterns, which it makes twice and once."""
    layout = re.compile(rf"{CLOSE}.*?{START}(.+?){END}\s*(?:<\|im_end\|>)?\s*$", re.MULTILINE | re.DOTALL)
    digits = re.compile(rf"{START}.*?\s*(-?[\d.,]+)", re.MULTILINE | re.DOTALL)
    began = time.perf_counter()
    layout.search(completion)
    layout.search(completion)
    digits.search(completion)
    return time.perf_counter() - began


def measure(name: str) -> dict:
    """Milliseconds of both sides by size; the peer's column ends before the size that would take it over the limit."""
    ours, peer, last = {}, {}, 0.0
    for size in SIZES:
        completion = FAMILIES[name](size)
        ours[size] = round(1e3 * our_seconds(completion), 4)
        if last * 8 < PEER_LIMIT_S:  # a cubic pattern takes 8 times as long on twice the text
            last = peer_seconds(completion)
            peer[size] = round(1e3 * last, 4)
    largest = max(peer)
    ratio = round(peer[largest] / ours[largest], 2)
    return {"ours_ms": ours, "peer_ms": peer, "peer_to_ours": ratio, "ratio_at_size": largest}


def main() -> None:
    """Measure every family, print a line for each, write the JSON."""
    print(f"{'family':34}{'ours, 64 k':>14}{'peer at its largest':>26}{'peer : ours':>14}")
    families = {}
    for name in FAMILIES:
        families[name] = result = measure(name)
        size = result["ratio_at_size"]
        peer = f"{result['peer_ms'][size]:.2f} ms at {size / 1024:g} k"
        print(f"{name:34}{result['ours_ms'][SIZES[-1]]:11.3f} ms{peer:>26}{result['peer_to_ours']:14.1f}")
    worst_ms = max(max(result["ours_ms"].values()) for result in families.values())
    machine = {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()}
    record = {
        "what": "milliseconds for all four rewards on one completion, median of 5, by characters",
        "python": platform.python_version(),
        "machine": machine,
        "worst_ms": worst_ms,
        "families": families,
    }
    RESULT.parent.mkdir(exist_ok=True)
    files.write_text(RESULT, json.dumps(record, indent=1) + "\n")
    print(f"worst of ours: {worst_ms:.3f} ms · written to {RESULT.relative_to(Path(__file__).parents[1])}")


if __name__ == "__main__":
    main()
