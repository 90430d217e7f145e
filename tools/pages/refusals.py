"""Wrong settings and broken data sets, and the page of the docs that they make: `make docs`.

Each case is the line that a learner would write. A setting is a keyword of `GRPOConfig` beside those of the ci profile;
a data set's line runs with `rows`, good ones of that profile, and `held_out` in scope.
"""

import contextlib
import copy
import re
import sys
import warnings
from pathlib import Path

from grpo_nb import data, preflight, profiles, rewards

PAGE = Path(__file__).parent.parent.parent / "docs" / "refusals.md"
REWARDS = [rewards.match_format_exactly, rewards.check_answer]
GPU_PACKAGES = ("bitsandbytes", "liger_kernel", "vllm")  # the page speaks of a machine without them

SETTINGS = """
kl_coef=0.04
max_new_tokens=32
max_prompt_length=512
warmup_ratio=0.1
reward_function="check_answer"
reward_fn="check_answer"
query="question"
tokenizer="Qwen/Qwen3-4B"
num_gpus=2
vllm_sampling_params={"min_p": 0.1}
vllm_importance_sampling_cap=2.0
use_transformers_paged=True
evaluation_strategy="no"
no_cuda=True
per_gpu_train_batch_size=8
num_generation=8
learning_rate="1e-5"
learning_rate=5
learning_rate=float("nan")
max_steps=100.0
max_steps=0
num_iterations=0
temperature=0
top_p=1.5
top_k=1
beta=-0.04
epsilon=0
warmup_steps=-5
bf16="false"
max_completion_length=None
max_completion_length=0
max_completion_length=128
loss_type="dr-grpo"
scale_rewards="std"
importance_sampling_level="sentence"
multi_objective_aggregation="normalise_then_sum"
lr_scheduler_type="cosin"
optim="adamw_8bit"
use_vllm=True
report_to="swanlab"
fp16=True, bf16=True
fp16=True
sync_ref_model=True
eval_strategy="steps"
eval_steps=5
load_best_model_at_end=True
fp16_full_eval=True
lr_scheduler_type="reduce_lr_on_plateau"
reward_weights=[1.0]
reward_weights=[0, 0]
vllm_importance_sampling_clip_min=4.0
logging_nan_inf_filter=True
remove_unused_columns=True
auto_find_batch_size=True
save_total_limit=1
save_only_model=True
save_steps=8, num_iterations=3
save_steps=0.1
save_strategy="epoch"
logging_strategy="epoch"
num_train_epochs=2
gradient_accumulation_steps=10**6
generation_kwargs={"temperature": 0.0}
generation_kwargs={"num_beams": 4}
generation_kwargs={"typical_p": 3}
model_init_kwargs={"dtype": "bfloat16"}
callbacks=[]
dataloader_prefetch_factor=2
output_dir="my-run"
run_name="first try"
num_generations=1
num_generations=6
num_generations=4, per_device_train_batch_size=1
generation_batch_size=100
generation_batch_size=64, steps_per_generation=2
""".strip().splitlines()

DATA_SETS = r"""
rows = []
rows = {"train": rows, "test": held_out}
rows = [row["prompt"] for row in rows]
rows = [{"question": row["prompt"][1]["content"], "answer": row["answer"]} for row in rows]
rows = [{"prompt": row["prompt"], "ground_truth": row["answer"]} for row in rows]
rows = [{"prompt": row["prompt"], "reward_model": {"ground_truth": row["answer"]}} for row in rows]
rows = rows[:5]
rows[3]["prompt"] = None
rows[3]["prompt"] = 42
rows[3]["prompt"] = "  "
rows[3]["prompt"] = "What is 12+34?"
rows[3]["prompt"] = []
rows[3]["prompt"] = [{"from": "human", "value": "What is 12+34?"}]
rows[3]["prompt"][1]["role"] = "human"
rows[3]["prompt"][1]["content"] = None
rows[3]["prompt"][1]["content"] = [{"type": "text", "text": "What is 12+34?"}]
del rows[3]["prompt"][1]["content"]
rows[3]["prompt"].append({"role": "assistant", "content": "46"})
rows[3]["prompt"].pop()
rows[3]["prompt"].reverse()
rows[3]["prompt"][1]["content"] = "\ufeffWhat is 12+34?"
rows[3]["prompt"][1]["content"] = "What is 12\udcff34?"
rows[3]["prompt"][1]["content"] = "Tell me, please: " * 40
rows[3]["prompt"] = held_out[0]["prompt"]
rows[3]["answer"] = None
rows[3]["answer"] = 46
rows[3]["answer"] = ""
rows[3]["answer"] = "12+34=46\n#### 46"
for row in rows: row["completions"] = 8
for row in rows: row["image"] = None
""".strip().splitlines()

INTRODUCTION = """
# What preflight refuses

A GRPO run can fail loudly, minutes later, when a model has been loaded and the trainer trips over a setting. It can
also fail in silence: the key `kl_coef` is dropped, the data set is empty, the loss is NaN and a filter hides it, and
after an hour the curve is as flat as it was at the start. `preflight.check(config, rows, rewards, profile)` looks at
all of it for a few milliseconds, with no model in sight. What it refuses, it refuses in one sentence of three parts:
what must hold (what arrived). What to do.

No sentence on this page was typed. A test gives every line below to preflight, beside the settings and rows of the
`ci` profile, and the sentence is what comes back. To try one:

```python
from grpo_nb import data, preflight, profiles

profile = profiles.current("ci")
rows = data.grpo_rows(data.load_task(profile.task)[0])
preflight.check({**profile.grpo, "kl_coef": 0.04}, rows)
```
"""
ABOUT_SETTINGS = """
## Settings

The last column is what TRL's own `GRPOConfig` says to the same line at the moment when it is built. *Nothing* means
that the mistake travels on: to the trainer, to the first update, or into a curve that looks like training. Of these
{many} lines, {silent} pass it without a word. (Unsloth goes further: a key that it does not know it drops.)
"""
ABOUT_DATA_SETS = """
## Data sets

`rows` are the prompts and answers of the profile's task, `held_out` those that it is tested on. Rows count from 0, so
that `rows[3]` shows what "row 3" is about.
"""


def settings_of(line: str) -> dict:
    """The keywords of one line as a dict."""
    return eval(f"dict({line})")


def good_rows() -> tuple[list[dict], list[dict]]:
    """(rows, held-out rows) of the ci profile, as its notebooks make them."""
    task = profiles.current("ci").task
    made = data.load_task({**task, "num_train": 64, "num_held_out": 16})
    return tuple(data.grpo_rows(rows, system_prompt=task["system_prompt"]) for rows in made)


def rows_of(line: str) -> tuple:
    """(rows, held-out rows) after one line has been run on good ones."""
    rows, held_out = copy.deepcopy(good_rows())
    scope = {"rows": rows, "held_out": held_out}
    exec(line, scope)
    return scope["rows"], scope["held_out"]


@contextlib.contextmanager
def without_gpu_packages():
    """Let this process not find the packages of the gpu extra, whether they are installed or not."""
    before = {name: sys.modules[name] for name in GPU_PACKAGES if name in sys.modules}
    sys.modules.update(dict.fromkeys(GPU_PACKAGES))
    try:
        yield
    finally:
        for name in GPU_PACKAGES:
            del sys.modules[name]
        sys.modules.update(before)


def refusal(settings: dict, rows, held_out=None) -> str:
    """The sentence of preflight; empty if it lets this pass."""
    profile = profiles.current("ci")
    try:
        with without_gpu_packages():
            preflight.check({**profile.grpo, **settings}, rows, REWARDS, profile, held_out=held_out)
    except ValueError as error:
        return str(error)
    return ""


def verdict_of_trl(settings: dict) -> str:
    """What `GRPOConfig` says to the same settings: the first line of its error or warning."""
    from trl import GRPOConfig

    own = {"output_dir": "runs", "report_to": "none", "disable_tqdm": True}
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            GRPOConfig(**{**own, **profiles.current("ci").grpo, **settings})
        except Exception as error:  # whatever it is that TRL raises is what the page is about
            return f"`{type(error).__name__}`: {_first_line(error)}"
    ours = [warning for warning in warned if any(key in str(warning.message) for key in settings)]
    return f"warns: {_first_line(ours[0].message)}" if ours else "*nothing*"


def _first_line(error) -> str:
    line = re.sub(r"/\S*/", "", str(error).strip().splitlines()[0])
    line = line.partition(". Did you mean")[0]  # Python 3.13 proposes a name, and the page is one for all
    return line if len(line) <= 110 else line[:109] + "…"


def page() -> str:
    """The text of docs/refusals.md."""
    rows, _ = good_rows()
    settings = [(line, refusal(settings_of(line), rows), verdict_of_trl(settings_of(line))) for line in SETTINGS]
    data_sets = [(line, refusal({}, *rows_of(line))) for line in DATA_SETS]
    counts = {"many": len(settings), "silent": sum(verdict == "*nothing*" for *_, verdict in settings)}
    return "\n".join(
        [
            "<!-- written by `make docs`; a test says when it is stale -->",
            INTRODUCTION.strip(),
            ABOUT_SETTINGS.format(**counts),
            _table(["You write", "Preflight says", "Stock TRL says"], settings),
            ABOUT_DATA_SETS,
            _table(["You write", "Preflight says"], data_sets),
            "",
        ]
    )


def _table(head: list[str], lines: list[tuple]) -> str:
    cells = [head, ["---"] * len(head), *([f"`{line[0]}`", *map(_escaped, line[1:])] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf8")
