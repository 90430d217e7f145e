"""Messages → prompt text; the four tags, in one place.

The layout is the reasoning template of *Qwen3-8B GRPO with SwanLab*, rebuilt: a system turn closed by EOS (a default
one if the conversation has none), the bare user turn, and an assistant turn closed by EOS. The generation prompt
opens the working-out, so a completion starts *inside* it and never contains `REASONING_START` itself.
"""

import json

REASONING_START = "<start_working_out>"
REASONING_END = "<end_working_out>"
SOLUTION_START = "<SOLUTION>"
SOLUTION_END = "</SOLUTION>"
TAGS = (REASONING_START, REASONING_END, SOLUTION_START, SOLUTION_END)

SYSTEM_PROMPT = (
    "You are given a problem. Think about it and provide your working out. "
    f"Place it between {REASONING_START} and {REASONING_END}. "
    f"Then provide your solution between {SOLUTION_START} and {SOLUTION_END}."
)


def chat_template(system_prompt: str = SYSTEM_PROMPT) -> str:
    """Jinja chat template; `system_prompt` is used when a conversation brings no system turn of its own.

    Args:
        system_prompt: any text; it is quoted as a Jinja string literal, so quotes, braces and newlines cannot
            break the template.
    Returns: template text for `tokenizer.chat_template`.
    Raises: the rendered template raises `jinja2.TemplateError` for a role other than system (first), user and
    assistant.
    See: transformers, *Chat templates*.

    >>> from jinja2 import Template
    >>> two_turns = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
    >>> Template(chat_template("Add.")).render(messages=two_turns, eos_token="¶")
    'Add.¶1+1?2¶'
    >>> Template(chat_template("Add.")).render(messages=two_turns[:1], eos_token="¶", add_generation_prompt=True)
    'Add.¶1+1?<start_working_out>'
    """
    return (
        "{%- if messages[0]['role'] == 'system' -%}"
        "{{- messages[0]['content'] + eos_token -}}{%- set turns = messages[1:] -%}"
        "{%- else -%}"
        f"{{{{- {_jinja_literal(system_prompt)} + eos_token -}}}}{{%- set turns = messages -%}}"
        "{%- endif -%}"
        "{%- for turn in turns -%}"
        "{%- if turn['role'] == 'user' -%}{{- turn['content'] -}}"
        "{%- elif turn['role'] == 'assistant' -%}{{- turn['content'] + eos_token -}}"
        "{%- else -%}{{- raise_exception('roles must be system (first only), user or assistant') -}}{%- endif -%}"
        "{%- endfor -%}"
        f"{{%- if add_generation_prompt -%}}{{{{- {_jinja_literal(REASONING_START)} -}}}}{{%- endif -%}}"
    )


def _jinja_literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # Jinja reads the JSON escapes \" \\ \n as we mean them


def prompt_messages(problem: str, system_prompt: str = SYSTEM_PROMPT) -> list[dict]:
    """Conversation up to the point where the policy speaks: system turn, user turn."""
    return [{"role": "system", "content": system_prompt}, {"role": "user", "content": problem}]


def worked_answer(working: str, solution: str) -> str:
    """Assistant turn in the series' format; the part after `REASONING_START` is what a policy has to produce.

    >>> worked_answer("1+1=2", "2")
    '<start_working_out>1+1=2<end_working_out><SOLUTION>2</SOLUTION>'
    """
    return f"{REASONING_START}{working}{REASONING_END}{SOLUTION_START}{solution}{SOLUTION_END}"
