"""The chat template against renderings worked out by hand, through the tokenizer that uses it."""

import jinja2
import pytest

from grpo_nb import templates

EOS = "<|im_end|>"
ASK, ANSWER = {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "<start_working_out>…"}


@pytest.fixture
def render(tiny):
    _, tokenizer = tiny

    def render(messages, system_prompt="Add.", **options):
        tokenizer.chat_template = templates.chat_template(system_prompt)
        return tokenizer.apply_chat_template(messages, tokenize=False, **options)

    return render


def test_golden_conversation(render):
    system = {"role": "system", "content": "Be brief."}
    text = render([system, ASK, ANSWER, ASK], add_generation_prompt=True)
    assert text == f"Be brief.{EOS}1+1?<start_working_out>…{EOS}1+1?<start_working_out>"


def test_without_a_system_turn_the_default_stands_in(render):
    assert render([ASK]) == render([{"role": "system", "content": "Add."}, ASK]) == f"Add.{EOS}1+1?"


def test_prompt_is_a_prefix_of_prompt_and_completion(render):
    """TRL finds the completion by cutting off the prompt's tokens; without this law it trains on the wrong ones."""
    answer = {"role": "assistant", "content": templates.worked_answer("1+1=2", "2")}
    assert render([ASK, answer]).startswith(render([ASK], add_generation_prompt=True))


@pytest.mark.parametrize("prompt", ["it's", 'say "2"', "{{ 1 }} {% if %}", "line\nbreak\\n", "数 🙂 ‮"])
def test_any_system_prompt_comes_out_as_it_went_in(render, prompt):
    assert render([ASK], system_prompt=prompt) == f"{prompt}{EOS}1+1?"


@pytest.mark.parametrize("role", ["tool", "system"])
def test_a_role_out_of_place_is_refused(render, role):
    with pytest.raises(jinja2.TemplateError, match="roles must be system"):
        render([ASK, {"role": role, "content": "x"}])


def test_default_system_prompt_names_every_tag():
    assert all(tag in templates.SYSTEM_PROMPT for tag in templates.TAGS)
