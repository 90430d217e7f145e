"""What training costs elsewhere: by hand on policies of constant logits, by law on the tiny one, and on a real one."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

from grpo_nb import data, evaluate, models, plots
from grpo_nb.evaluate import forgetting

EOS = 3


class Constant(torch.nn.Module):
    """The same probabilities for the next token everywhere; what it writes is fixed."""

    def __init__(self, probabilities, written=(1, 1), context=64):
        super().__init__()
        self.logits, self.written = torch.tensor([*probabilities, 0.0, 0.0]).log(), written
        self.config, self.device = SimpleNamespace(max_position_embeddings=context), torch.device("cpu")

    def forward(self, input_ids, logits_to_keep):
        assert 0 < logits_to_keep <= input_ids.shape[1]
        return SimpleNamespace(logits=self.logits.clamp(min=-1e4).expand(1, logits_to_keep, -1))

    def generate(self, *, input_ids, **settings):
        return torch.cat([input_ids, torch.tensor(self.written).repeat(len(input_ids), 1)], 1)


class Letters:
    """A tokenizer of four tokens: a, b, padding, eos."""

    eos_token_id, pad_token_id = EOS, 2

    def batch_decode(self, ids, skip_special_tokens):
        return ["".join("ab#$"[i] for i in row if i < 2 or not skip_special_tokens) for row in ids]

    def __call__(self, texts, **settings):
        ids = [["ab#$".index(letter) for letter in text] for text in ([texts] if isinstance(texts, str) else texts)]
        if "return_tensors" in settings:
            return Tensors(input_ids=torch.tensor(ids))
        return {"input_ids": ids[0] if isinstance(texts, str) else ids}


class Tensors(dict):
    def to(self, device):
        return self


# Golden.


@pytest.mark.parametrize(
    ("text", "context", "perplexity"),
    [
        ("ab", 64, 4 / 3),  # p(b) = 3/4
        ("aab", 64, (4 * 4 / 3) ** 0.5),  # p(a) = 1/4 and p(b) = 3/4: the geometric mean of 4 and 4/3
        ("babbb", 2, (4 * 4 / 3) ** 0.5),  # windows ba|bb|b: an a, a b, and nothing to foretell
        ("ab" + "b" * 200, 200, 4 / 3),  # chunks of ROWS; the last window has two tokens
    ],
)
def test_perplexity_by_hand(text, context, perplexity):
    policy = Constant([0.25, 0.75], context=context)
    assert evaluate.perplexity(policy, Letters(), text) == pytest.approx(perplexity, rel=1e-6)


@pytest.mark.parametrize(("written", "places"), [((1, 1), 3), ((1, EOS), 2), ((EOS, 2), 1), ((1,) * 130, 131)])
def test_kl_by_hand(written, places):
    """¼ ln (¼ / ½) + ¾ ln (¾ / ½) = 0.1308 nats at each place; the padding behind the eos is none."""
    policy, base = Constant([0.25, 0.75], written), Constant([0.5, 0.5])
    (nats,) = evaluate.kl_to_base(policy, Letters(), [{"prompt": "ab"}], base=base, max_new_tokens=130)
    by_hand = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert nats == pytest.approx([by_hand] * places, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "words", "right"),
    [
        ("The capital of France is Paris.", ("Paris",), True),
        ("PARIS", ("Paris",), True),
        ("Parisian", ("Paris",), False),
        ("17 days", ("7",), False),
        ("It is H2O.", ("H2O", "H₂O"), True),
        ("H2O2", ("H2O",), False),
        ("a+b", ("a+b",), True),
        ("", ("Paris",), False),
        ("P" * 100_000, ("Paris",), False),
    ],
)
def test_a_word_counts_whole(text, words, right):
    assert forgetting.says(text, words) is right


# Law.


@pytest.fixture
def prompts(rows):
    return data.grpo_rows(rows[:3], system_prompt="Show your work.")


def test_an_adapter_of_zeros_is_the_base_and_a_moved_one_is_not(tiny, profile, prompts):
    policy, tokenizer = tiny
    policy, state = models.add_lora(policy, profile).train(), torch.get_rng_state()
    for base in (None, policy):
        nats = evaluate.kl_to_base(policy, tokenizer, prompts, max_new_tokens=6, base=base)
        assert len(nats) == 3 and all(each and not any(each) for each in nats)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.3)
    moved = evaluate.kl_to_base(policy, tokenizer, prompts, max_new_tokens=6)
    assert all(value > 0 for each in moved for value in each)
    assert policy.training and policy.get_model_status().enabled and torch.equal(torch.get_rng_state(), state)


def test_general_before_and_after_is_a_record_and_a_figure(tiny, profile, prompts):
    policy, tokenizer = tiny
    plain = evaluate.general(policy, tokenizer)
    assert plain["kl"] is plain["kl_questions"] is plain["kl_by_prompt"] is plain["answers"][0]["kl"] is None
    assert plain["questions"] == 0 and plain["perplexity"] > 100  # random weights know nothing
    before = evaluate.general(models.add_lora(policy, profile), tokenizer, prompts, max_new_tokens=6)
    assert before["kl"] == before["kl_questions"] == 0 and before["kl_by_prompt"] == [0.0] * 3
    assert before["perplexity"] == plain["perplexity"] and json.loads(json.dumps(before))["kl"] == 0
    assert [answer["question"] for answer in before["answers"]] == list(evaluate.QUESTIONS)
    plots.before_after(plain, before, keys=("questions",))


def test_a_pretrained_model_reads_prose_and_knows_tokyo(smol, monkeypatch):
    first, *_, last = evaluate.QUESTIONS.items()
    monkeypatch.setattr(forgetting, "QUESTIONS", dict([first, last]))
    monkeypatch.setattr(forgetting, "ANSWER_TOKENS", 10)
    found = evaluate.general(*smol, base=smol[0])
    assert [answer["right"] for answer in found["answers"]] == [True, False]
    assert found["kl_questions"] == 0 and found["perplexity"] == pytest.approx(25.5, rel=0.02)


# Refusal.


def test_nothing_to_compare_with_is_refused_before_a_token(tiny):
    with pytest.raises(ValueError, match=r"an adapter or a base beside it \(got Qwen3ForCausalLM alone\)"):
        evaluate.kl_to_base(*tiny, [{"prompt": "1+1?"}], max_new_tokens=4)


@pytest.mark.parametrize("text", ["", "a"])
def test_a_text_without_a_second_token_is_refused(text):
    with pytest.raises(ValueError, match=rf"a text must have two tokens.*\(got {len(text)}\)"):
        evaluate.perplexity(Constant([0.5, 0.5]), Letters(), text)


@pytest.mark.parametrize("settings", [{"max_new_tokens": 0}, {"max_new_tokens": "8"}, {"seed": -1}])
def test_a_count_that_is_none_is_refused_before_a_token(settings):
    (key,) = settings
    with pytest.raises(ValueError, match=f"{key} must be a whole number"):
        evaluate.general(None, None, [{"prompt": "1+1?"}], **settings)
