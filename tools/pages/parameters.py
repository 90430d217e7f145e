"""What TRL's help leaves out or has wrong, key by key, and the page of the docs that it makes: `make docs`.

Default and meaning come from the installed TRL. Each remark names the test that shows it.
"""

from pathlib import Path

from grpo_nb import preflight

PAGE = Path(__file__).parent.parent.parent / "docs" / "parameters.md"

# key: (what the help does not say, the test that shows it)
REMARKS = {
    "num_generations": (
        "What must be a multiple is the generation batch, per_device_train_batch_size · processes · "
        "steps_per_generation; a batch size counts completions, not prompts.",
        "tests/test_preflight_settings.py::test_batch_numbers_equal_trls_or_both_refuse",
    ),
    "num_generations_eval": (
        "What is logged of an evaluation is the mean over its batches: in a smaller last batch a completion would "
        "weigh more, so preflight refuses one.",
        "tests/test_preflight_meanings.py::test_an_evaluation_is_averaged_over_batches",
    ),
    "log_completions": (
        "An evaluation's table replaces that of the training in the file of the same step; a trainer from "
        "`train.grpo_trainer` keeps the training's. Its `show_every` prints two completions as text.",
        "tests/test_preflight_meanings.py::test_an_evaluation_replaces_the_table_of_its_step",
    ),
    "num_completions_to_print": (
        "They are drawn by Python's `random`, and so is whatever a reward draws from it afterwards.",
        "tests/test_preflight_meanings.py::test_printed_completions_are_drawn_by_pythons_random",
    ),
    "max_completion_length": (
        "Under `dr_grpo` also the denominator of the loss: doubling it halves the gradient.",
        "tests/test_losses.py::test_what_each_loss_pays_to_a_short_and_a_long_answer",
    ),
    "temperature": (
        "It also divides the logits that the loss scores.",
        "tests/test_preflight_meanings.py::test_temperature_divides_the_scored_logits_and_top_k_does_not",
    ),
    "top_k": (
        "Cuts the sampler only: the loss scores over the whole vocabulary, so it trains another policy than the one "
        "that sampled. The same holds for top_p, min_p and repetition_penalty.",
        "tests/test_preflight_meanings.py::test_temperature_divides_the_scored_logits_and_top_k_does_not",
    ),
    "beta": (
        "Weighs the estimate k3 of each token, times the ratio (use_bias_correction_kl).",
        "tests/test_explorers_kl.py::test_the_correction_has_the_value_and_the_slope_of_the_divergence",
    ),
    "delta": (
        "Above 1 + epsilon_high, where it belongs, it matters only if the advantage is negative: there clipping leaves "
        "the loss unbounded.",
        "tests/test_errata_advanced_rl.py::test_a03_delta_bounds_bad_completions_only",
    ),
    "epsilon_high": (
        "Under `cispo` the ratio is capped at this number itself, not at 1 + it: the default would cap every ratio at "
        "0.2.",
        "tests/test_explorers_clipping.py::test_other_gradients",
    ),
    "importance_sampling_level": (
        "It averages the *logarithms* of the ratios: the sequence's ratio is their geometric mean.",
        "tests/test_losses.py::test_a_sequence_ratio_is_the_geometric_mean_of_its_tokens",
    ),
    "scale_rewards": (
        "Under 'batch' only the standard deviation is the batch's; the mean stays the group's. The deviation has n − 1 "
        "below, and 0.0001 is added to it.",
        "tests/test_advantages.py::test_batch_scaling_keeps_the_groups_own_mean",
    ),
    "multi_objective_aggregation": (
        "'normalize_then_sum' does not look at scale_rewards.",
        "tests/test_preflight_meanings.py::test_normalize_then_sum_does_without_scale_rewards",
    ),
    "loss_type": (
        "`dapo`'s tokens are those of the generation batch, rescaled to one update: the accumulated batch's own where "
        "steps_per_generation is gradient_accumulation_steps. `dr_grpo` divides by rows · max_completion_length.",
        "tests/test_losses.py::test_value_and_gradient_are_trls",
    ),
    "mask_truncated_completions": (
        "Their rewards count in the mean and deviation of the group all the same. If none is left, the loss is 0, not "
        "NaN.",
        "tests/test_preflight_meanings.py::test_truncated_completions_count_in_their_group_and_train_nothing",
    ),
    "off_policy_mask_threshold": (
        "Only completions with a negative advantage are left out.",
        "tests/test_losses.py::test_a_completion_far_from_its_sampler_is_left_out_only_if_it_is_bad",
    ),
    "num_iterations": (
        "The whole generation batch is trained on so many times, not each micro-batch; from the second time on the "
        "ratio is not 1.",
        "tests/test_errata_advanced_rl.py::test_a02_the_whole_generation_batch_is_replayed",
    ),
    "steps_per_generation": (
        "Above gradient_accumulation_steps, later updates train on completions of an older policy: the ratio is not "
        "1 there, and clipping begins.",
        "tests/test_errata_advanced_rl.py::test_a28_a_second_update_needs_old_log_probs",
    ),
}

INTRODUCTION = """
# What the parameters mean

The {many} settings of `GRPOConfig` that TRL {version} defines, or sets otherwise than transformers does. Default and
meaning are TRL's own words, read from the installed package; the last column says what they leave out, with the test
that shows it. A release of TRL that changes a default or a meaning fails a test that bears the name of the key. In a
notebook: `preflight.meanings(["beta", "delta"])`.
"""


def page() -> str:
    """The text of docs/parameters.md."""
    import trl

    rows = preflight.meanings(sentences=None)
    lines = [
        f"| `{row['key']}` | `{row['default']}` | {_escaped(row['meaning'])} | {_remark(row['key'])} |" for row in rows
    ]
    return "\n".join(
        [
            "<!-- written by `make docs`; a test says when it is stale -->",
            INTRODUCTION.format(many=len(rows), version=trl.__version__).strip(),
            "",
            "| Key | Default | TRL says | It leaves out |",
            "| --- | --- | --- | --- |",
            *lines,
            "",
        ]
    )


def line_of(key: str, text: str) -> str:
    """The line of one key in a page's text; empty if there is none."""
    return next((line for line in text.splitlines() if line.startswith(f"| `{key}` |")), "")


def _remark(key: str) -> str:
    if key not in REMARKS:
        return ""
    sentence, test = REMARKS[key]
    file, _, name = test.partition("::")
    return f"{_escaped(sentence)} [{name}](../{file})"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf8")
