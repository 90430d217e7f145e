"""What learners write about templates and masks."""

import numpy as np
import torch
from check_answers import Answers

from grpo_nb import models, templates

EOS, OPENING, SYSTEM = models.END_OF_TURN, templates.REASONING_START, templates.SYSTEM_PROMPT


def text(messages, add_generation_prompt=False):
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": SYSTEM}, *messages]
    ended = [turn["content"] + (EOS if turn["role"] != "user" else "") for turn in messages]
    return "".join(ended) + (OPENING if add_generation_prompt else "")


def in_place(messages, add_generation_prompt=False):
    if messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": SYSTEM})
    whole = ""
    for turn in messages:
        whole += turn["content"] + EOS * (turn["role"] != "user")
    return whole + OPENING * add_generation_prompt


def by_role(messages, add_generation_prompt=False):
    formats = {"system": "{}" + EOS, "assistant": "{}" + EOS, "user": "{}"}
    start = "" if messages[0]["role"] == "system" else SYSTEM + EOS
    turns = [formats[turn["role"]].format(turn["content"]) for turn in messages]
    return "".join([start, *turns, OPENING if add_generation_prompt else ""])


def leading(prompt_ids, full_ids):
    same = 0
    for of_prompt, of_full in zip(prompt_ids, full_ids, strict=False):
        if of_prompt != of_full:
            break
        same += 1
    return [0] * same + [1] * (len(full_ids) - same)


def growing(prompt_ids, full_ids):
    return torch.tensor([int(full_ids[: i + 1] != prompt_ids[: i + 1]) for i in range(len(full_ids))])


CHAT = [
    {"role": "user", "content": "Q1"},
    {"role": "assistant", "content": templates.worked_answer("T1", "A1")},
    {"role": "user", "content": "Q2"},
    {"role": "assistant", "content": templates.worked_answer("T2", "A2")},
]


def faults(render):
    found, text = set(), render(CHAT)
    if not render(CHAT[:2]).startswith(render(CHAT[:1], add_generation_prompt=True)):
        found.add("prefix")
    if text.endswith(CHAT[-1]["content"]):
        found.add("end")
    if CHAT[1]["content"] not in text:
        found.add("thoughts")
    return found


ANSWERS = [
    Answers(
        check="check_template",
        right=[text, in_place, by_role],
        wrong={
            "EOS after the user, too": (
                lambda messages, opens: text(messages, opens).replace("1+1?", "1+1?" + EOS),
                "ends the user's turn with EOS, too",
            ),
            "no EOS": (lambda messages, opens: text(messages, opens).replace(EOS, ""), "ends no turn with EOS"),
            "no default system turn": (
                lambda messages, opens: text([{"role": "system", "content": ""}, *messages], opens)[len(EOS) :],
                "leaves out the default system turn",
            ),
            "always opens": (lambda messages, opens: text(messages, True), "adds the generation prompt to every text"),
            "never opens": (lambda messages, opens: text(messages), "adds no generation prompt"),
            "line breaks": (
                lambda messages, opens: "\n".join(turn["content"] for turn in messages),
                "must give 'Add.<|im_end|>1+1?' (yours: 'Add.\\n1+1?')",
            ),
            "a list of messages": (lambda messages, opens: messages, "must give 'Add.<|im_end|>1+1?' (yours: [{"),
        },
        almost=(
            lambda messages, opens: text(messages, opens) if len(messages) < 4 else text(messages[:2], opens),
            "two questions, the second to be answered, add_generation_prompt = True: must give 'Add.",
        ),
    ),
    Answers(
        check="check_completion_mask",
        right=[leading, growing, lambda *ids: np.array(leading(*ids), dtype=bool)],
        wrong={
            "ones": (lambda prompt, full: [1] * len(full), "counts the prompt's tokens, too"),
            "the prompt's length": (
                lambda prompt, full: [0] * len(prompt) + [1] * (len(full) - len(prompt)),
                "trusts the prompt's length",
            ),
            "place by place": (
                lambda prompt, full: [int(i >= len(prompt) or prompt[i] != x) for i, x in enumerate(full)],
                "also after the first difference",
            ),
            "turned round": (lambda *ids: [1 - x for x in leading(*ids)], "1 for the prompt and 0 for the completion"),
            "no EOS": (lambda *ids: [*leading(*ids)[:-1], 0], "leaves out the last token, EOS"),
            "shifted as labels are": (lambda *ids: [*leading(*ids)[1:], 1], "one token too early"),
            "the completion's ids": (
                lambda prompt, full: full[len(prompt) :],
                "of shape [5] (yours: [7, 8, 9], of shape",
            ),
            "no list": (lambda prompt, full: len(prompt), "(yours: 2, one number)"),
        },
        almost=(lambda prompt, full: [int(x not in prompt) for x in full], "a completion that repeats the prompt"),
    ),
    Answers(
        check="check_faults",
        right=[faults, lambda render: list(faults(render)), lambda render: frozenset(faults(render))],
        wrong={
            "none": (lambda render: set(), "finds no fault in anything"),
            "our EOS": (
                lambda render: faults(render) - {"end"} | ({"end"} if not render(CHAT).endswith(EOS) else set()),
                "an end of their own",
            ),
            "no end": (lambda render: faults(render) - {"end"}, "never sees that an end is missing"),
            "no prefix": (lambda render: faults(render) - {"prefix"}, "is no beginning"),
            "no thoughts": (lambda render: faults(render) - {"thoughts"}, "earlier thoughts are cut"),
            "all": (lambda render: {"prefix", "end", "thoughts"}, "ours, template = 'ours': must give []"),
        },
        almost=(lambda render: faults(render) if len(faults(render)) < 3 else {"prefix", "end"}, "all three"),
    ),
]
