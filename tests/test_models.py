"""The tiny policy and its tokenizer: what they are made of, and that they survive a save."""

import builtins
import json
import sys
from types import SimpleNamespace

import pytest
import torch

from grpo_nb import export, models, profiles, templates


def test_every_digit_and_every_tag_is_one_token(tiny):
    _, tokenizer = tiny
    pieces = tokenizer.tokenize("<SOLUTION>1234</SOLUTION><start_working_out>56<end_working_out>")
    tags = list(templates.TAGS)
    assert pieces == [tags[2], "1", "2", "3", "4", tags[3], tags[0], "5", "6", tags[1]]


def test_tags_survive_decoding_without_special_tokens(tiny):
    _, tokenizer = tiny
    text = templates.worked_answer("1+1=2", "2")
    ids = tokenizer(text + tokenizer.eos_token)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert not set(templates.TAGS) & set(tokenizer.all_special_tokens)


@pytest.mark.parametrize("text", ["plain", "ünïcödé 数 🙂", "a\tb\r\n", "\x00\x7f", "<SOLUTION", "١٢٣", "e\u0301"])
def test_any_text_round_trips(tiny, text):
    import unicodedata

    _, tokenizer = tiny
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == unicodedata.normalize("NFC", text)


def test_saved_tokenizer_has_the_portable_class_and_the_same_ids(tiny, tmp_path):
    from transformers import AutoTokenizer

    _, tokenizer = tiny
    tokenizer.save_pretrained(tmp_path)
    assert (
        json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf8"))["tokenizer_class"]
        == "Qwen2Tokenizer"
    )
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = templates.worked_answer("7+5=12 3+8=11+1=12", "122")
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.chat_template == tokenizer.chat_template and again.padding_side == "left"


@pytest.mark.parametrize("name", ["ci", "cpu"])
def test_policy_is_small_and_fits_the_k_quant_blocks(name, tiny):
    profile, (_, tokenizer) = profiles.current(name), tiny
    policy = models.tiny_policy(profile.policy, tokenizer)
    config = policy.config
    assert 1e6 <= models.parameter_counts(policy)["total"] <= 5e6
    assert type(policy).__name__ == "Qwen3ForCausalLM"
    widths = (config.hidden_size, config.intermediate_size, config.num_attention_heads * config.head_dim)
    assert all(width % 256 == 0 for width in widths)
    assert config.eos_token_id == tokenizer.eos_token_id and config.pad_token_id == tokenizer.pad_token_id


def test_a_width_that_quantisation_would_betray_is_refused(profile, tiny):
    with pytest.raises(ValueError, match=r"hidden_size must be a multiple of 256 \(got 128\). Try 256"):
        models.tiny_policy({**profile.policy, "hidden_size": 128}, tiny[1])


def test_seed_decides_the_weights_and_leaves_the_callers_randomness_alone(profile, tiny):
    _, tokenizer = tiny
    state = torch.get_rng_state()
    first, same, other = (models.tiny_policy(profile.policy, tokenizer, seed=s).lm_head.weight for s in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_policy_reloads_with_the_same_logits(profile, tiny, tmp_path):
    policy, tokenizer = tiny
    policy.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, _ = models.load_policy(profile, path=tmp_path)
    ids = torch.arange(5)[None]
    assert torch.equal(policy(ids).logits, again(ids).logits)


def test_without_rows_or_path_there_is_no_policy(profile):
    with pytest.raises(ValueError, match="needs rows to train its tokenizer on"):
        models.load_policy(profile)


def test_fresh_lora_changes_nothing_and_is_all_that_trains(profile, tiny):
    policy, _ = tiny
    ids = torch.arange(5)[None]
    before = policy(ids).logits
    adapted = models.add_lora(policy, profile)
    assert torch.equal(adapted(ids).logits, before)
    trainable = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert len(trainable) == 2 * 7 * profile.policy["num_hidden_layers"]
    assert all("lora_" in name for name in trainable)
    assert models.add_lora(adapted, profile) is adapted


def retrained(policy, tmp_path):
    """The adapter of a folder whose path `add_lora` advises to find out."""
    policy.save_pretrained(tmp_path)
    base = models.own_copy(policy.unload())
    return export.load_adapter(base, tmp_path / "mine", is_trainable=True)


@pytest.mark.parametrize(
    ("spoil", "got", "mend"),
    [
        (lambda p: p.requires_grad_(False), "that is frozen", lambda p, _: p.set_adapter("default")),
        (lambda p: p.disable_adapter_layers(), "that is disabled", lambda p, _: p.enable_adapter_layers()),
        (lambda p: p.merge_adapter(), "that is merged into its base", lambda p, _: p.unmerge_adapter()),
        (
            lambda p: [p.add_adapter("other", p.peft_config["default"]), p.set_adapter("other")],
            r"beside the active \['other'\]",
            lambda p, _: p.set_adapter("default"),
        ),
        (
            lambda p: [p.add_adapter("b", p.peft_config["default"]), p.base_model.set_adapter(["default", "b"])],
            r"beside the active \['default', 'b'\]",
            lambda p, _: p.set_adapter("default"),
        ),
        (
            lambda p: [
                p.add_adapter("mine", p.peft_config["default"]),
                p.set_adapter("mine"),
                p.delete_adapter("default"),
            ],
            r"called mine",
            retrained,
        ),
    ],
    ids=["frozen", "disabled", "merged", "another", "two", "named"],
)
def test_an_adapter_that_training_would_not_change_is_refused_and_the_advice_helps(
    spoil, got, mend, profile, tiny, tmp_path
):
    adapted = models.add_lora(tiny[0], profile)
    spoil(adapted)
    with pytest.raises(ValueError, match=rf"training must change the adapter called default \(got one {got}\). \w+ "):
        models.add_lora(adapted, profile)
    adapted = mend(adapted, tmp_path) or adapted
    trained = models.add_lora(adapted, profile).train()
    trained(torch.arange(5)[None]).logits.sum().backward()
    assert all(p.grad is not None for name, p in trained.named_parameters() if ".default." in name)


def test_an_adapter_with_some_tensors_frozen_is_taken(profile, tiny):
    adapted = models.add_lora(tiny[0], profile)
    for name, parameter in adapted.named_parameters():
        parameter.requires_grad_("layers.0" in name and "lora_B" in name)
    assert models.add_lora(adapted, profile) is adapted


def test_an_adapter_by_transformers_own_method_is_refused(profile, tiny):
    import peft

    policy = models.own_copy(tiny[0])
    policy.add_adapter(peft.LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ValueError, match=r"must come as a peft.PeftModel \(got a Qwen3ForCausalLM with add_adapter\)"):
        models.add_lora(policy, profile)


def test_a_fresh_adapter_that_is_made_for_inference_is_refused(profile, tiny):
    profile.lora["inference_mode"] = True
    with pytest.raises(ValueError, match="that is frozen"):
        models.add_lora(tiny[0], profile)


@pytest.mark.parametrize("key", ["target_modules", "modules_to_save"])
@pytest.mark.parametrize("end", ["lm_head", "embed_tokens"])
def test_neither_end_of_a_tied_policy_is_adapted(key, end, profile, tiny):
    profile.lora[key] = [*profile.lora.get(key, []), end]
    with pytest.warns(UserWarning, match="tie_word_embeddings=True"), pytest.raises(ValueError, match="are one tensor"):
        models.add_lora(tiny[0], profile)
    models.add_lora(untied(tiny[0]), profile)


def untied(policy):
    own = models.own_copy(policy)
    own.config.tie_word_embeddings = False
    own.lm_head.weight = torch.nn.Parameter(own.lm_head.weight.detach().clone())
    return own


def test_single_tokens_of_a_tied_policy_may_be_adapted_from_its_embedding(profile, tiny):
    """PEFT then adapts them in the head alike; asked for the head's, it does not."""
    profile.lora["trainable_token_indices"] = [5, 6]
    models.add_lora(tiny[0], profile)
    profile.lora["trainable_token_indices"] = {"lm_head": [5, 6]}
    with pytest.raises(ValueError, match="are one tensor"):
        models.add_lora(tiny[0], profile)


def test_what_is_frozen_stays_so_in_a_copy(tiny):
    policy = models.own_copy(tiny[0])
    policy.lm_head.requires_grad_(False)
    frozen = [name for name, p in models.own_copy(policy).named_parameters() if not p.requires_grad]
    assert frozen == ["model.embed_tokens.weight"], "the head's is the same"
    with pytest.raises(ValueError, match="some tensor of the policy must be trainable .*every one frozen"):
        models.check_trains(models.own_copy(policy.requires_grad_(False)))


def test_training_an_adapter_leaves_the_policy_alone(profile, tiny):
    policy, _ = tiny
    ids = torch.arange(5)[None]
    before = policy(ids).logits
    adapted = models.add_lora(policy, profile)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(parameter)
    assert not torch.equal(adapted(ids).logits, before)
    assert torch.equal(policy(ids).logits, before)


def test_unsloth_too_late_is_named():
    import transformers  # noqa: F401 (too early for unsloth)

    with pytest.raises(ImportError, match="unsloth must be imported before trl, transformers and peft"):
        models.load_policy(profiles.current("t4"))


def test_unsloth_missing_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without_unsloth(name, *args, **kwargs):
        if name == "unsloth":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    for name in ("trl", "transformers", "peft"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(builtins, "__import__", without_unsloth)
    with pytest.raises(ImportError, match="Install the gpu extra, or set GRPO_NB_PROFILE=cpu"):
        models.load_policy(profiles.current("a100"))


def test_thread_probe_sets_what_it_returns():
    before = torch.get_num_threads()
    try:
        assert models.use_fastest_threads() == torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("card", "gib", "capability", "profile"),
    [
        ("none", 0, None, "cpu"),
        ("Tesla T4", 14.6, (7, 5), "t4"),
        ("Tesla V100", 15.8, (7, 0), "cpu"),  # a torch for CUDA 13 has no kernels below 7.5
        ("Tesla P100", 15.9, (6, 0), "cpu"),
        ("RTX 2080", 7.8, (7, 5), "cpu"),
        ("L4", 22.0, (8, 9), "t4"),  # in bf16: the profile follows the card
        ("RTX 4090", 23.5, (8, 9), "t4"),
        ("A100", 39.4, (8, 0), "a100"),
        ("H200", 139.8, (9, 0), "a100"),
        ("Quadro RTX 8000", 47.5, (7, 5), "t4"),  # large, but without bf16
    ],
)
def test_a_card_is_told_a_profile_that_can_run_on_it(card, gib, capability, profile, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda index: SimpleNamespace(
            name=card, total_memory=int(gib * 2**30), major=capability[0], minor=capability[1]
        ),
    )
    assert models.machine()["profile"] == profile
