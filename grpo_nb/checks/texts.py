"""Exercises about prompts: the template, the mask of what is trained."""

from grpo_nb import models, templates
from grpo_nb.checks.exercises import exercise


@exercise
def check_template(your_template_text):
    """Whether `your_template_text` builds, in plain Python, the string that `templates.chat_template()` renders.

    Args:
        your_template_text: f(messages, add_generation_prompt=False) -> str, with EOS `models.END_OF_TURN`.
    See: notebook 02, exercise 2.1.

    >>> check_template(lambda messages, add_generation_prompt=False: "".join(turn["content"] for turn in messages))
    check_template: one question with its own system turn must give 'Add.<|im_end|>1+1?' (yours: 'Add.1+1?').
    False
    """
    from jinja2 import Template

    ours = Template(templates.chat_template())
    system, user = templates.prompt_messages("1+1?", "Add.")
    answer = {"role": "assistant", "content": templates.worked_answer("1+1=2", "2")}
    cases = [
        ("one question with its own system turn", [system, user], False),
        ("the same with the generation prompt", [system, user], True),
        ("question and answer", [system, user, answer], False),
        ("a question without a system turn", [user], True),
        ("two questions, the second to be answered", [system, user, answer, user], True),
        ("two questions and answers without a system turn", [user, answer, user, answer], False),
    ]
    for name, messages, is_to_answer in cases:
        right = ours.render(messages=messages, eos_token=models.END_OF_TURN, add_generation_prompt=is_to_answer)
        yours = your_template_text([dict(turn) for turn in messages], add_generation_prompt=is_to_answer)
        if yours != right:
            return False, f"{name} must give {right!r} (yours: {yours!r})."
    return True, f"all {len(cases)} conversations fit."


@exercise
def check_completion_mask(your_completion_mask):
    """Whether `your_completion_mask` is 0 on the ids that prompt and full text begin with in common, 1 behind them.

    Args:
        your_completion_mask: f(prompt_ids, full_ids) -> list of 0 and 1, one for each full id.
    See: notebook 02, exercise 2.2; TRL's `common_prefix_length`.

    >>> check_completion_mask(lambda prompt_ids, full_ids: [])
    check_completion_mask: a prompt of two, a completion of three tokens must give [0, 0, 1, 1, 1] (yours: []).
    False
    """
    cases = [
        ("a prompt of two, a completion of three tokens", [5, 6], [5, 6, 7, 8, 9], [0, 0, 1, 1, 1]),
        ("an empty completion", [5, 6], [5, 6], [0, 0]),
        ("an empty prompt", [], [7, 8], [1, 1]),
        ("a completion that repeats the prompt", [5, 6], [5, 6, 5, 6], [0, 0, 1, 1]),
        ("a prompt whose last token merged with the completion", [5, 6, 7], [5, 6, 78, 9], [0, 0, 1, 1]),
        ("a prompt that merged, then equals the completion by chance", [5, 6, 9], [5, 67, 9, 9], [0, 1, 1, 1]),
    ]
    for name, prompt_ids, full_ids, right in cases:
        yours = your_completion_mask(list(prompt_ids), list(full_ids))
        if not isinstance(yours, list) or [int(x) for x in yours] != right:
            return False, f"{name} must give {right} (yours: {yours!r})."
    return True, f"all {len(cases)} cases fit."
