"""Exercises about prompts: the template, the mask of what is trained, a test for any template."""

from grpo_nb import models, templates
from grpo_nb.checks.exercises import exercise, judge


@exercise
def check_template(your_template_text):
    """Whether `your_template_text` builds, in plain Python, the string that `templates.chat_template()` renders.

    Args:
        your_template_text: f(messages, add_generation_prompt=False) -> str, with EOS `models.END_OF_TURN`.

    >>> check_template(lambda messages, add_generation_prompt=False: "".join(turn["content"] for turn in messages))
    check_template: one question with its own system turn, add_generation_prompt = False: must give
    'Add.<|im_end|>1+1?' (yours: 'Add.1+1?').
    False
    """
    from jinja2 import Template

    ours, (system, user) = Template(templates.chat_template()), templates.prompt_messages("1+1?", "Add.")
    answer = {"role": "assistant", "content": templates.worked_answer("1+1=2", "2")}
    cases = [
        ("one question with its own system turn", ([system, user], False)),
        ("the same with the generation prompt", ([system, user], True)),
        ("question and answer", ([system, user, answer], False)),
        ("a question without a system turn", ([user], True)),
        ("two questions, the second to be answered", ([system, user, answer, user], True)),
        ("two questions and answers without a system turn", ([user, answer, user, answer], False)),
    ]

    def right(messages, add_generation_prompt):
        return ours.render(messages=messages, eos_token=models.END_OF_TURN, add_generation_prompt=add_generation_prompt)

    usual = {
        "ends the user's turn with EOS, too": _template(ended=("system", "user", "assistant")),
        "ends no turn with EOS": _template(ended=()),
        "ends the assistant's turn only with EOS": _template(ended=("assistant",)),
        "ends the system turn only with EOS": _template(ended=("system",)),
        "leaves out the default system turn": _template(default=None),
        "puts the default system turn before one that is there": _template(default="always"),
        "adds the generation prompt to every text": _template(opens="always"),
        "adds no generation prompt": _template(opens=None),
    }
    return judge(your_template_text, cases, right=right, usual=usual)


def _template(*, ended: tuple = ("system", "assistant"), default: str | None = "missing", opens: str | None = "asked"):
    """A template in plain Python, with one thing off: whose turns EOS ends, when there is a default, an opening."""

    def render(messages, add_generation_prompt):
        turns = [({"role": "system", "content": templates.SYSTEM_PROMPT}), *messages]
        has_default = default == "always" or (default == "missing" and messages[0]["role"] != "system")
        text = "".join(
            turn["content"] + models.END_OF_TURN * (turn["role"] in ended) for turn in turns[not has_default :]
        )
        return text + templates.REASONING_START * (opens == "always" or (opens == "asked" and add_generation_prompt))

    return render


@exercise
def check_completion_mask(your_completion_mask):
    """Whether `your_completion_mask` is 0 on the ids that prompt and full text begin with in common, 1 behind them.

    Args:
        your_completion_mask: f(prompt_ids, full_ids) -> list of 0 and 1, one for each full id.
    See: TRL's `common_prefix_length`.

    >>> check_completion_mask(lambda prompt_ids, full_ids: [1] * len(full_ids))
    check_completion_mask: a prompt of two, a completion of three tokens: your numbers are those of one who
    counts the prompt's tokens, too. With prompt_ids = [5, 6], full_ids = [5, 6, 7, 8, 9] it must give [0, 0, 1,
    1, 1] (yours: [1, 1, 1, 1, 1]).
    False
    """
    cases = [
        ("a prompt of two, a completion of three tokens", ([5, 6], [5, 6, 7, 8, 9])),
        ("an empty completion", ([5, 6], [5, 6])),
        ("an empty prompt", ([], [7, 8])),
        ("a completion that repeats the prompt", ([5, 6], [5, 6, 5, 6])),
        ("a prompt whose last token merged with the completion", ([5, 6, 7], [5, 6, 78, 9])),
        ("a prompt that merged, then equals the completion by chance", ([5, 6, 9], [5, 67, 9, 9])),
    ]

    def right(prompt_ids, full_ids):
        same = 0
        while same < min(len(prompt_ids), len(full_ids)) and prompt_ids[same] == full_ids[same]:
            same += 1
        return [0] * same + [1] * (len(full_ids) - same)

    def one_by_one(prompt_ids, full_ids):
        padded = [*prompt_ids, *[None] * len(full_ids)]
        return [int(mine != full) for mine, full in zip(padded, full_ids, strict=False)]

    usual = {
        "counts the prompt's tokens, too": lambda prompt_ids, full_ids: [1] * len(full_ids),
        "trusts the prompt's length, though tokens may have merged": lambda prompt_ids, full_ids: (
            [0] * len(prompt_ids) + [1] * (len(full_ids) - len(prompt_ids))
        ),
        "compares every place by itself, also after the first difference": one_by_one,
        "has 1 for the prompt and 0 for the completion": lambda prompt_ids, full_ids: [
            1 - x for x in right(prompt_ids, full_ids)
        ],
        "starts one token too early": lambda prompt_ids, full_ids: (right(prompt_ids, full_ids) + [1])[1:],
        "starts one token too late": lambda prompt_ids, full_ids: ([0] + right(prompt_ids, full_ids))[:-1],
        "leaves out the last token, EOS, which is trained on": lambda prompt_ids, full_ids: (
            right(prompt_ids, full_ids)[:-1] + [0]
        ),
        "gives the completion's part alone": lambda prompt_ids, full_ids: [x for x in right(prompt_ids, full_ids) if x],
    }
    return judge(your_completion_mask, cases, right=right, usual=usual)


@exercise
def check_faults(your_faults):
    """Whether `your_faults` names what is wrong with a template: "prefix", "end", "thoughts".

    Args:
        your_faults: f(render) -> set of words, render(messages, add_generation_prompt=False) being a template.

    >>> check_faults(lambda render: set())
    check_faults: no EOS behind an answer: your answers are those of one who finds no fault in anything. With template =
    'no EOS behind an answer' it must give ['end'] (yours: []).
    False
    """
    known = {
        "ours": _template(),
        "no EOS behind an answer": _template(ended=("system",)),
        "EOS behind every turn": _template(ended=("system", "user", "assistant")),
        "a tag that only the prompt has": _told(opens=True),
        "earlier thoughts cut": _told(forgets=True),
        "earlier thoughts cut, and no EOS": _told(forgets=True, ends=""),
        "an end of its own": _told(ends="</s>"),
        "a line break for an end": _told(ends="\n"),
        "all three": _told(opens=True, forgets=True, ends=""),
    }

    def right(template):
        ask, last = _turn("user", "Q1"), _turn("assistant", templates.worked_answer("T2", "A2"))
        told = _turn("assistant", templates.worked_answer("T1", "A1"))
        text = template([ask, told, _turn("user", "Q2"), last])
        wrong = {
            "prefix": not template([ask, told]).startswith(template([ask], True)),
            "end": text.endswith(last["content"]),
            "thoughts": told["content"] not in text,
        }
        return sorted(word for word, is_so in wrong.items() if is_so)

    def without(word):
        return lambda template: [found for found in right(template) if found != word]

    def looks_for_ours(template):
        has_ours = template([_turn("user", "Q"), _turn("assistant", "T")]).endswith(models.END_OF_TURN)
        return sorted({*without("end")(template), *([] if has_ours else ["end"])})

    usual = {
        "finds no fault in anything": lambda template: [],
        "looks for our EOS, though other templates have an end of their own": looks_for_ours,
        "never sees that an end is missing": without("end"),
        "never sees that the prompt is no beginning": without("prefix"),
        "never sees that earlier thoughts are cut": without("thoughts"),
        "is content with the first fault": lambda template: right(template)[:1],
    }

    def call(function, template):
        found = function(lambda messages, add_generation_prompt=False: known[template](messages, add_generation_prompt))
        return sorted(map(str, found)) if isinstance(found, set | list | tuple | frozenset) else found

    cases = [(name, (name,)) for name in known]
    return judge(your_faults, cases, right=right, usual=usual, call=call)


def _turn(role: str, content: str) -> dict:
    return {"role": role, "content": content}


def _told(*, opens: bool = False, forgets: bool = False, ends: str = models.END_OF_TURN):
    """A template whose generation prompt alone has a tag, that cuts earlier thoughts, or ends an answer otherwise."""

    def render(messages, add_generation_prompt):
        text = ""
        for place, turn in enumerate(messages):
            is_earlier = forgets and turn["role"] == "assistant" and place < len(messages) - 1
            text += turn["content"].split(templates.REASONING_END)[-1] if is_earlier else turn["content"]
            text += ends * (turn["role"] == "assistant")
        return text + "<think>" * (opens and add_generation_prompt)

    return render
