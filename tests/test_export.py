"""An adapter that learned nothing, one that is broken, one that is fine; and that a merge is what it says."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from grpo_nb import evaluate, export, models, templates, train

PROMPTS = ["What is 12+34?<start_working_out>", "What is 1+1?<start_working_out>"]
COMPLETIONS = ["2+4=6 1+3=4<end_working_out><SOLUTION>46</SOLUTION>", "1+1=2<end_working_out>"]


@pytest.fixture
def adapted(profile, tiny):
    """A policy whose adapter does something, and its tokenizer."""
    policy, tokenizer = tiny
    adapted = models.add_lora(policy, profile)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05, generator=generator)
    return adapted.eval(), tokenizer


def test_a_fresh_adapter_is_found_out(profile, tiny, tmp_path):
    policy, tokenizer = tiny
    fresh = models.add_lora(policy, profile)
    path = export.save_adapter(fresh, tokenizer, tmp_path / "adapter")
    report = export.adapter_report(path)
    assert report.tensors == 28 and len(report.all_zero) == 14 and not report.non_finite
    assert all("lora_B" in name for name in report.all_zero)
    with pytest.raises(ValueError, match="14 of 28 zero"):
        export.verify_adapter(path)
    assert export.logp_change(fresh, tokenizer, PROMPTS, COMPLETIONS) == 0


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_one_poisoned_number_is_found(adapted, tmp_path, poison):
    path = export.save_adapter(*adapted, tmp_path / "adapter")
    tensors = load_file(path / "adapter_model.safetensors")
    name = sorted(tensors)[5]
    tensors[name].view(-1)[3] = poison
    save_file(tensors, path / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=f"1 of 28 not finite, first {name}"):
        export.verify_adapter(path)


def test_a_saved_adapter_reloads_bit_equal(adapted, tiny, profile, tmp_path):
    policy, tokenizer = adapted
    path = export.save_adapter(policy, tokenizer, tmp_path / "adapter")
    assert export.verify_adapter(path).tensors == 28
    assert export.logp_change(policy, tokenizer, PROMPTS, COMPLETIONS) > 0.1
    base = models.tiny_policy(profile.policy, tokenizer)
    again = export.load_adapter(base, path)
    expected = export.completion_logps(policy, tokenizer, PROMPTS, COMPLETIONS)
    assert torch.equal(export.completion_logps(again, tokenizer, PROMPTS, COMPLETIONS), expected)


def test_a_saved_adapter_names_its_base_and_no_folder_of_this_machine(profile, rows, tmp_path):
    policy, tokenizer = train.warm_start(profile, rows)
    path = export.save_adapter(models.add_lora(policy, profile), tokenizer, tmp_path / "adapter")
    base = json.loads((path / "adapter_config.json").read_text(encoding="utf8"))["base_model_name_or_path"]
    assert base == train.warm_start_path(profile, rows).name
    assert not [file.name for file in path.iterdir() if str(tmp_path).encode() in file.read_bytes()]


def test_a_path_from_home_is_followed(adapted, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert export.save_adapter(*adapted, "~/adapter") == tmp_path / "adapter"
    assert export.verify_adapter("~/adapter").tensors == 28
    export.merge(*adapted, "~/merged")
    assert export.load_merged("~/merged").dtype == torch.bfloat16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "merged"]


HOMES = (
    *("/home/person7-用户", "/home/Müller-person7", '/home/"person7"', "/mnt/my person7", "/home/" + "person7/" * 20),
    *(r"C:\Users\person7", "C:/Users/person7", r"\\person7\share", "~/person7", "../person7"),
)


@pytest.mark.filterwarnings("ignore:Could not find a config file")  # PEFT, which looks whether the vocabulary grew
@pytest.mark.parametrize("home", HOMES)
def test_what_is_exported_names_no_folder_of_anybody(home, adapted, tmp_path):
    """However JSON and YAML write its letters: the last part of the path is all that is left."""
    policy, tokenizer = adapted
    base, lies = policy.get_base_model(), f"{home}{chr(92) if chr(92) in home else '/'}base"
    policy.peft_config["default"].base_model_name_or_path = lies
    base.config._name_or_path = base.name_or_path = tokenizer.name_or_path = lies
    policy.add_adapter("ref", policy.peft_config["default"])  # as TRL does where a loaded adapter is trained with KL
    adapter = export.save_adapter(policy, tokenizer, tmp_path / "adapter")
    assert base.name_or_path == base.config._name_or_path == lies, "the policy is left alone"
    merged = export.merge(policy, tokenizer, tmp_path / "merged")
    configs = [json.loads(path.read_text(encoding="utf8")) for path in adapter.rglob("adapter_config.json")]
    assert [config["base_model_name_or_path"] for config in configs] == ["base", "base"]
    card = (adapter / "README.md").read_text(encoding="utf8")
    assert "base_model: base\n" in card and "base_model:adapter:base\n" in card
    written = [path for folder in (adapter, merged) for path in folder.rglob("*") if path.is_file()]
    assert not [path.name for path in written if b"person7" in path.read_bytes()]


def test_completion_logps_by_hand(adapted):
    """One prompt, summed token by token from the full log-softmax, with no padding in sight."""
    policy, tokenizer = adapted
    prompt = tokenizer(PROMPTS[1], add_special_tokens=False)["input_ids"]
    completion = tokenizer(COMPLETIONS[1], add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logps = policy(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
    by_hand = sum(logps[len(prompt) - 1 + i, token] for i, token in enumerate(completion))
    batched = export.completion_logps(policy, tokenizer, PROMPTS, COMPLETIONS)
    assert batched[1].item() == pytest.approx(by_hand.item(), abs=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float16", 0.05), ("bfloat16", 0.5)])
def test_merged_weights_are_the_policy_up_to_rounding(adapted, tmp_path, dtype, tolerance):
    policy, tokenizer = adapted
    before = export.completion_logps(policy, tokenizer, PROMPTS, COMPLETIONS)
    path = export.merge(policy, tokenizer, tmp_path / "merged", dtype=dtype)
    merged = export.load_merged(path)
    assert merged.dtype == getattr(torch, dtype) and not any("lora" in name for name, _ in merged.named_parameters())
    after = export.completion_logps(merged, tokenizer, PROMPTS, COMPLETIONS)
    assert (after - before).abs().max() < tolerance
    assert torch.equal(export.completion_logps(policy, tokenizer, PROMPTS, COMPLETIONS), before), (
        "the policy is left alone"
    )


ADAPTERS = {
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "biases": {"bias": "all"},
    "patterns": {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"v_proj": 3}},
    "one layer": {"layers_to_transform": [0]},
    "norm": {"modules_to_save": ["norm"]},
    "tokens": {"trainable_token_indices": [5, 6]},
}


@pytest.mark.parametrize("changes", ADAPTERS.values(), ids=ADAPTERS)
def test_any_other_adapter_is_saved_loaded_and_merged_as_it_is(changes, profile, tiny, tmp_path):
    policy, tokenizer = tiny
    profile.lora.update(changes)
    adapted = moved(models.add_lora(policy, profile)).eval()
    found = [
        adapted,
        export.load_adapter(models.own_copy(policy), export.save_adapter(adapted, tokenizer, tmp_path / "a")),
    ]
    found.append(export.load_merged(export.merge(adapted, tokenizer, tmp_path / "merged", dtype="float32")))
    logits = [model(torch.arange(40)[None]).logits for model in found]
    assert torch.equal(logits[0], logits[1])
    torch.testing.assert_close(logits[0], logits[2], atol=1e-4, rtol=1e-4)


def moved(policy):
    """The policy with each trainable tensor changed, as training would."""
    generator = torch.Generator().manual_seed(0)
    for parameter in policy.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return policy


def test_a_loaded_adapter_can_be_trained_on(adapted, tiny, profile, tmp_path):
    """Frozen it is refused; trainable it moves in one step, its base does not."""
    policy, tokenizer = adapted
    path, base = export.save_adapter(policy, tokenizer, tmp_path / "adapter"), tiny[0]
    with pytest.raises(ValueError, match=r"that is frozen\). Load it with export.load_adapter\(base, folder, is_tra"):
        models.add_lora(export.load_adapter(models.own_copy(base), path), profile)
    again = models.add_lora(export.load_adapter(models.own_copy(base), path, is_trainable=True), profile)
    trained = [parameter for parameter in again.parameters() if parameter.requires_grad]
    before = export.completion_logps(again, tokenizer, PROMPTS, COMPLETIONS)
    again(torch.arange(40)[None]).logits.log_softmax(-1)[..., 0].sum().backward()
    torch.optim.SGD(trained, lr=0.1).step()
    assert len(trained) == 28 and (export.completion_logps(again, tokenizer, PROMPTS, COMPLETIONS) != before).all()
    with again.disable_adapter():
        without = export.completion_logps(again, tokenizer, PROMPTS, COMPLETIONS)
    torch.testing.assert_close(without, export.completion_logps(base, tokenizer, PROMPTS, COMPLETIONS))


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"num_hidden_layers": 3}, r"14 tensors of one have no partner, first \S+layers.2.mlp.down_proj.lora_A"),
        ({"num_hidden_layers": 1}, r"14 tensors of one have no partner, first \S+layers.1.mlp.down_proj.lora_A"),
        ({"hidden_size": 512}, "size mismatch for"),
        ({"intermediate_size": 256}, "size mismatch for"),
    ],
    ids=["more layers", "fewer layers", "wider", "narrower"],
)
def test_an_adapter_of_another_base_is_refused(changes, got, adapted, profile, tmp_path):
    path = export.save_adapter(*adapted, tmp_path / "adapter")
    stranger = models.tiny_policy({**profile.policy, **changes}, adapted[1])
    with pytest.raises(ValueError, match=rf"onto the base that it was trained on \(got {got}"):
        export.load_adapter(stranger, path)


@pytest.mark.parametrize("end", ["lm_head", "embed_tokens"])
def test_a_merge_that_would_be_another_model_is_refused(end, tiny, tmp_path):
    """The embedding is the head: merged, a change of one is one of both. Unmerged the adapter works."""
    import peft

    policy, tokenizer = tiny
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", end])
    with pytest.warns(UserWarning, match="tie_word_embeddings=True"):
        adapted = moved(peft.get_peft_model(models.own_copy(policy), config)).eval()
    with pytest.raises(ValueError, match="works unmerged: export.load_adapter"):
        export.merge(adapted, tokenizer, tmp_path / "merged")
    path = export.save_adapter(adapted, tokenizer, tmp_path / "adapter")
    again = export.load_adapter(models.own_copy(policy), path)
    assert torch.equal(again(torch.arange(40)[None]).logits, adapted(torch.arange(40)[None]).logits)
    adapted.config.tie_word_embeddings = False  # what no rule knows, the numbers tell
    with pytest.raises(ValueError, match=r"must compute what the policy does \(got logits \S+ of their size apart"):
        export.merge(adapted, tokenizer, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("kind", "settings", "got"),
    [
        ("LoraConfig", {"target_modules": ["q_proj"], "lora_bias": True}, "lora_bias"),
        ("PromptTuningConfig", {"num_virtual_tokens": 2}, "prefix tuning"),
    ],
)
def test_what_peft_cannot_merge_is_refused_in_its_words(kind, settings, got, tiny, tmp_path):
    import peft

    adapted = peft.get_peft_model(models.own_copy(tiny[0]), getattr(peft, kind)(task_type="CAUSAL_LM", **settings))
    with pytest.raises(ValueError, match=rf"must be one that can be merged \(got .*{got}.*works unmerged"):
        export.merge(adapted, tiny[1], tmp_path / "merged")


def test_an_adapter_that_is_switched_off_is_not_merged(adapted, tmp_path):
    policy, tokenizer = adapted
    with policy.disable_adapter(), pytest.raises(ValueError, match="Is the adapter switched on"):
        export.merge(policy, tokenizer, tmp_path / "merged")


def test_merged_in_full_precision_writes_the_same_greedy_text(adapted, tmp_path):
    policy, tokenizer = adapted
    rows = [{"prompt": templates.prompt_messages(f"What is {n}+1?", "Add.")} for n in range(8)]
    merged = export.load_merged(export.merge(policy, tokenizer, tmp_path / "merged", dtype="float32"))
    texts = [evaluate.completions(p, tokenizer, rows, greedy=True, max_new_tokens=8) for p in (policy, merged)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("adapter_model.safetensors", b"", r"a whole safetensors file \(got .*, of 0 bytes\)"),
        ("adapter_model.safetensors", b"version https://git-lfs", "run git lfs pull"),
        ("adapter_config.json", None, "an adapter_config.json that PEFT can read .*Can't find"),
        ("adapter_config.json", b"{", r"\(got JSONDecodeError"),
        ("adapter_config.json", b"{}", r"\(got KeyError: 'peft_type'\)"),
        ("adapter_config.json", b'{"peft_type": "NEXT_YEAR"}', "'NEXT_YEAR'.* update peft"),
        ("adapter_config.json", b'{"peft_type": "LORA", "target_modules": ["c_attn"]}', "trained on .*Target modules"),
    ],
)
def test_a_folder_that_was_copied_badly_is_refused(name, content, sentence, adapted, tiny, tmp_path):
    path = export.save_adapter(*adapted, tmp_path / "adapter")
    (path / name).unlink() if content is None else (path / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        export.load_adapter(models.own_copy(tiny[0]), path)


def test_an_adapter_without_tensors_proves_nothing(tmp_path):
    save_file({}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="an adapter must have tensors"):
        export.verify_adapter(tmp_path)


def test_only_an_export_of_its_kind_is_replaced(adapted, tmp_path, monkeypatch):
    """Not the folder of a run, a sealed checkpoint, a file, this folder, or the adapter that a model came from."""
    monkeypatch.chdir(tmp_path)
    adapter, merged = export.save_adapter(*adapted, "adapter"), export.merge(*adapted, "merged")
    for name, files in {"run": ["metrics.jsonl"], "checkpoint-2": ["adapter_config.json", "seal.json"]}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("1", encoding="utf8")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    for write in (export.save_adapter, export.merge):
        for path in (
            "run",
            "checkpoint-2",
            "run/metrics.jsonl",
            ".",
            merged if write is export.save_adapter else adapter,
        ):
            with pytest.raises(
                ValueError, match="must be new, for what has its name is replaced .* such as '.*-export'"
            ):
                write(*adapted, path)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    for path in ("adapter", "empty"):
        assert export.verify_adapter(export.save_adapter(*adapted, path)).tensors == 28


def test_what_cannot_be_exported_is_refused(tiny, adapted, tmp_path):
    with pytest.raises(ValueError, match="must carry a LoRA adapter"):
        export.save_adapter(models.tiny_policy(models_profile(), tiny[1]), tiny[1], tmp_path / "adapter")
    with pytest.raises(ValueError, match="must carry a LoRA adapter"):
        export.merge(tiny[0], tiny[1], tmp_path / "merged")
    with pytest.raises(ValueError, match="dtype must be bfloat16, float16 or float32"):
        export.merge(*adapted, tmp_path / "merged", dtype="int4")
    for path in (tmp_path, "Qwen/Qwen3-4B"):
        with pytest.raises(FileNotFoundError, match="must hold config.json of a whole model .* export.load_adapter"):
            export.load_merged(path)
    for read in (export.verify_adapter, lambda path: export.load_adapter(tiny[0], path)):
        with pytest.raises(FileNotFoundError, match="must hold adapter_model.safetensors"):
            read(tmp_path)
    assert not list(tmp_path.iterdir())


def models_profile():
    from grpo_nb import profiles

    return profiles.current("ci").policy
