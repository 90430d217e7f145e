"""Profile → policy + tokenizer + LoRA. The only file that imports unsloth, and before transformers, trl and peft.

On the CPU the policy is a small Qwen3 that did not exist before: random weights, and a byte-level BPE trained on the
spot. On a GPU it is a Qwen3 checkpoint that Unsloth loads, with vLLM inside.
"""

import copy
import json
import os
import sys
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

from grpo_nb import profiles, templates

END_OF_TURN = "<|im_end|>"  # Qwen3's eos
PADDING = "<|endoftext|>"  # Qwen3's pad
HELD: dict = {}  # what Unsloth loaded with vLLM in this kernel: a card has room for one engine


def load_policy(
    profile: SimpleNamespace, rows: list[dict] | None = None, *, path: str | Path | None = None, seed: int = 0
):
    """The profile's policy and its tokenizer, with the series' chat template in place.

    Args:
        profile: from `profiles.current()`.
        rows: training rows, the tiny tokenizer's corpus; needed only where a tiny policy is built from nothing.
        path: folder of an earlier stage (a whole model, or with Unsloth an adapter); None starts at the beginning.
            Unsloth's vLLM fills a card: the kernel's policy itself goes back to the adapter, a second one is refused.
        seed: of the random weights.
    Returns: (policy, tokenizer). The policy has no adapter yet unless `path` holds one.
    Raises: ValueError if there is neither `path` nor `rows`; ImportError if unsloth is missing or comes too late.
    """
    if profile.policy["backend"] == "unsloth":
        policy, tokenizer = _load_with_unsloth(profile, path)
        tokenizer.chat_template = templates.chat_template(profile.task["system_prompt"] or templates.SYSTEM_PROMPT)
        return policy, tokenizer
    no_progress_bars()
    if path is not None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        return AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    if not rows:
        raise ValueError(
            "a tiny policy needs rows to train its tokenizer on (got none). Pass rows=data.load_task(...)[0]."
        )
    tokenizer = tiny_tokenizer(
        rows, system_prompt=profile.task["system_prompt"], vocab_size=profile.policy["vocab_size"]
    )
    return tiny_policy(profile.policy, tokenizer, seed=seed), tokenizer


def prepare(profile: SimpleNamespace) -> None:
    """Import what must come first: unsloth in the GPU profiles, before anything imports transformers, trl or peft."""
    if profile.policy["backend"] == "unsloth":
        _import_unsloth()


def tiny_tokenizer(rows: list[dict], *, system_prompt: str | None = None, vocab_size: int = 512):
    """Byte-level BPE of class Qwen2Tokenizer: every digit one token, the four tags one token each and *not* special.

    Args:
        rows: {"problem", "working"}; their words become tokens.
        system_prompt: default system turn of the chat template, also part of the corpus.
        vocab_size: upper bound, bytes, merges, tags and specials together.
    Returns: `transformers.Qwen2Tokenizer`, eos <|im_end|>, pad <|endoftext|>, padding on the left.
    See: TRL decodes completions with skip_special_tokens=True; a special tag would vanish before a reward function
    saw it.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    system_prompt = system_prompt or templates.SYSTEM_PROMPT
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    reserved = len(templates.TAGS) + 2
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - reserved, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    corpus = [f"{system_prompt} {row['problem']} {row['working']}" for row in rows[:1000]]
    bpe.train_from_iterator(corpus, trainer)
    model = json.loads(bpe.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        unk_token=None,
        eos_token=END_OF_TURN,
        pad_token=PADDING,
        padding_side="left",
    )
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in templates.TAGS])
    tokenizer.chat_template = templates.chat_template(system_prompt)
    return tokenizer


def tiny_policy(policy: dict, tokenizer, *, seed: int = 0):
    """A `Qwen3ForCausalLM` with random weights, tied embeddings, float32.

    Args:
        policy: a profile's `policy` dict: `hidden_size`, `intermediate_size`, … as in `Qwen3Config`, and
            `max_seq_length`.
        tokenizer: fixes the vocabulary, rounded up to a multiple of 64, and the eos and pad ids.
        seed: of the weights.
    Raises: ValueError if a width is no multiple of 256: llama.cpp's K-quants work on blocks of 256 and would silently
        store such a matrix in another type.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    heads_width = policy["num_attention_heads"] * policy["head_dim"]
    widths = {
        "hidden_size": policy["hidden_size"],
        "intermediate_size": policy["intermediate_size"],
        "heads × head_dim": heads_width,
    }
    for name, width in widths.items():
        if width % 256:
            raise ValueError(
                f"{name} must be a multiple of 256 (got {width}). Try {max(256, round(width / 256) * 256)}."
            )
    config = Qwen3Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=policy["hidden_size"],
        intermediate_size=policy["intermediate_size"],
        num_hidden_layers=policy["num_hidden_layers"],
        num_attention_heads=policy["num_attention_heads"],
        num_key_value_heads=policy["num_key_value_heads"],
        head_dim=policy["head_dim"],
        max_position_embeddings=policy["max_seq_length"],
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)


def add_lora(policy, profile: SimpleNamespace, *, seed: int = 0):
    """The policy with a fresh LoRA adapter, or unchanged if it carries one already (the SFT adapter of a GPU profile).

    Returns: a `peft.PeftModel` on a copy of the policy, which stays as it is (Unsloth adapts the policy itself); only
    the adapter is trainable, and it changes nothing yet (every `lora_B` is zero).
    Raises: ValueError for an adapter that training would not change, or that adapts a tied embedding.
    See: Hu et al. 2021, arXiv:2106.09685.
    """
    if not hasattr(policy, "peft_config"):
        policy = _with_fresh_lora(policy, profile, seed)
    check_trains(policy)
    check_untied(policy)
    return policy


def _with_fresh_lora(policy, profile: SimpleNamespace, seed: int):
    if profile.policy["backend"] == "unsloth":
        adapted = _import_unsloth().FastLanguageModel.get_peft_model(policy, **unsloth_lora_kwargs(profile, seed=seed))
        return _hold(adapted)
    import torch
    from peft import LoraConfig, get_peft_model

    own = own_copy(policy)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(own, LoraConfig(task_type="CAUSAL_LM", **profile.lora))


def check_trains(policy) -> None:
    """Raise ValueError, with the way to make it trainable, for a policy that no training step would change.

    An adapter must be the one called "default": TRL's reference and the saved folder are made of that one.
    """
    from peft.tuners.tuners_utils import BaseTuner

    if hasattr(policy, "peft_config") and not hasattr(policy, "get_base_model"):
        raise ValueError(
            f"an adapter must come as a peft.PeftModel (got a {type(policy).__name__} with add_adapter). Make it with "
            "models.add_lora or peft.get_peft_model."
        )
    if isinstance(getattr(policy, "base_model", None), BaseTuner):
        _check_adapter_trains(policy, policy.get_model_status())
    if not any(parameter.requires_grad for parameter in policy.parameters()):
        raise ValueError(
            f"some tensor of the policy must be trainable (got {type(policy).__name__} with every one frozen). "
            "Call policy.requires_grad_(True), or take an adapter from models.add_lora."
        )


def _check_adapter_trains(policy, state) -> None:
    """`state`: PEFT's `get_model_status()`."""
    loaded = "export.load_adapter(base, folder, is_trainable=True)"
    back = "policy.set_adapter('default')"
    troubles = [  # (is so, what arrived, what to do)
        (state.enabled is not True, "that is disabled", "Call policy.enable_adapter_layers()."),
        (bool(state.merged_adapters), "that is merged into its base", "Call policy.unmerge_adapter()."),
        (
            "default" not in policy.peft_config,
            f"called {', '.join(policy.peft_config)}",
            f"Call policy.save_pretrained(path), then {loaded} with the folder that is there.",
        ),
        (state.active_adapters != ["default"], f"beside the active {state.active_adapters}", f"Call {back}."),
        (not state.requires_grad.get("default"), "that is frozen", f"Load it with {loaded}, or call {back}."),
    ]
    for is_so, got, advice in troubles:
        if is_so:
            raise ValueError(f"training must change the adapter called default (got one {got}). {advice}")


def check_untied(policy) -> None:
    """Raise ValueError if an adapter changes the embedding or the head of a model in which both are one tensor.

    Single tokens (`trainable_token_indices` of the embedding) PEFT adapts in both alike.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper, TrainableTokensWrapper

    base = policy.get_base_model()
    ends = {"the embedding": base.get_input_embeddings(), "the head": base.get_output_embeddings()}
    adapted = [name for name, end in ends.items() if isinstance(end, BaseTunerLayer | AuxiliaryTrainingWrapper)]
    if not all(isinstance(end, TrainableTokensWrapper) for end in ends.values()):
        refuse_tied(adapted, is_tied=base.config.get_text_config().tie_word_embeddings)


def refuse_tied(adapted: list[str], *, is_tied: bool) -> None:
    """Raise ValueError if any of these modules, ends of a model, are adapted though they are tied.

    See: https://github.com/huggingface/peft/issues/2018.
    """
    if adapted and is_tied:
        raise ValueError(
            "where embedding and head are one tensor (tie_word_embeddings) neither may be adapted, for what is meant "
            f"for one would be merged into both (got an adapter of {' and '.join(adapted)}). Leave lm_head and "
            "embed_tokens out of target_modules and modules_to_save; what is trained already works unmerged: "
            "export.load_adapter."
        )


def own_copy(policy):
    """A copy that can be trained while the original stays as it is; what is frozen there is frozen here.

    Not `copy.deepcopy`: a trainer binds `forward` to its model, and a deep copy would go on calling the original's.
    """
    import torch

    with torch.random.fork_rng():
        own = type(policy)(copy.deepcopy(policy.config))
    own.load_state_dict(policy.state_dict())
    for parameter, original in zip(own.parameters(), policy.parameters(), strict=True):
        parameter.requires_grad_(original.requires_grad)
    own.generation_config = copy.deepcopy(policy.generation_config)
    return own


def unsloth_load_kwargs(profile: SimpleNamespace, path: str | Path | None = None) -> dict:
    """Keyword arguments for `FastLanguageModel.from_pretrained`."""
    given = {key: value for key, value in profile.policy.items() if key != "backend"}
    if path is not None:
        given["model_name"] = str(path)
    return {**given, "max_lora_rank": profile.lora["r"]}


def unsloth_lora_kwargs(profile: SimpleNamespace, *, seed: int = 0) -> dict:
    """Keyword arguments for `FastLanguageModel.get_peft_model`."""
    return {**profile.lora, "use_gradient_checkpointing": "unsloth", "random_state": seed}


def _load_with_unsloth(profile: SimpleNamespace, path: str | Path | None):
    settings = unsloth_load_kwargs(profile, path)
    held = HELD.get("policy", lambda: None)()
    if held is None:
        policy, tokenizer = _import_unsloth().FastLanguageModel.from_pretrained(**settings)
        HELD.update(settings=settings, tokenizer=tokenizer)
        return _hold(policy), tokenizer
    if settings == HELD["settings"] and not hasattr(held, "peft_config"):
        return held, HELD["tokenizer"]
    if not _is_adapter_of(held, path) or {**settings, "model_name": ""} != {**HELD["settings"], "model_name": ""}:
        raise ValueError(
            f"a kernel must keep to one policy of Unsloth's, whose vLLM fills the card (got {settings['model_name']} "
            f"beside {HELD['settings']['model_name']}). Restart the kernel: a run goes on from its newest checkpoint."
        )
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    set_peft_model_state_dict(held, load_file(Path(path) / "adapter_model.safetensors"))
    print(f"The policy of this kernel goes back to {path}: a card has room for one vLLM, so there is no second policy.")
    return held, HELD["tokenizer"]


def _hold(policy):
    """Remember a policy that has vLLM inside; what Unsloth writes for its requests stays out of the working folder."""
    if hasattr(policy, "vllm_engine"):
        HELD["policy"] = weakref.ref(policy)
    if load := getattr(policy, "load_lora", None):
        folder = _unsloths_folder()
        policy.load_lora = lambda name, load_tensors=False, **options: load(
            str(folder / name) if load_tensors else name, load_tensors=load_tensors, **options
        )
    return policy


def _is_adapter_of(policy, path: str | Path | None) -> bool:
    """Whether a folder holds the matrices of just this policy's adapter: same base, same places, same size."""
    file = Path(path or "") / "adapter_config.json"
    if path is None or not file.exists() or not hasattr(policy, "peft_config"):
        return False
    saved, ours = json.loads(file.read_text(encoding="utf8")), policy.peft_config["default"]
    bases = {Path(base).name for base in (saved["base_model_name_or_path"], ours.base_model_name_or_path)}
    sizes = [saved[key] == getattr(ours, key) for key in ("r", "lora_alpha", "use_rslora")]
    return len(bases) == 1 and all(sizes) and set(saved["target_modules"]) == set(ours.target_modules)


def _unsloths_folder() -> Path:
    """Where Unsloth's compiled code goes, and the adapter's config that goes with each request to vLLM."""
    return (profiles.outputs_dir() / "unsloth").resolve()


def _import_unsloth():
    """Unsloth, imported while it can still patch the libraries that it speeds up."""
    if (capability := profiles.card_capability()) and capability < profiles.LEAST_CAPABILITY:
        least, got = (".".join(map(str, pair)) for pair in (profiles.LEAST_CAPABILITY, capability))
        raise ValueError(
            f"the profiles t4 and a100 need cards of compute capability {least} or more (got {got}, which the gpu "
            "extra's torch has no kernels for). Choose a T4 or a newer card, or set GRPO_NB_PROFILE=cpu."
        )
    late = [name for name in ("trl", "transformers", "peft") if name in sys.modules]
    if "unsloth" not in sys.modules and late:
        raise ImportError(
            f"unsloth must be imported before trl, transformers and peft (already imported: {', '.join(late)}). "
            "Restart the kernel and run the notebook from the top."
        )
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(_unsloths_folder() / "unsloth_compiled_cache"))
    try:
        import unsloth
    except ImportError as error:
        raise ImportError(
            "the t4 and a100 profiles need Unsloth and vLLM (unsloth cannot be imported). "
            "Install the gpu extra, or set GRPO_NB_PROFILE=cpu."
        ) from error
    return unsloth


def no_progress_bars() -> None:
    """Silence the bars of transformers and datasets: in a saved notebook they are noise or dead widgets."""
    import datasets
    from transformers.utils import logging

    datasets.disable_progress_bars()
    logging.disable_progress_bar()


def parameter_counts(policy) -> dict[str, int]:
    """Number of parameters: `total` and `trainable`."""
    return {
        "total": sum(p.numel() for p in policy.parameters()),
        "trainable": sum(p.numel() for p in policy.parameters() if p.requires_grad),
    }


def use_fastest_threads(repeats: int = 3) -> int:
    """Probe a small training step with one thread and with all of them, set the faster number, return it.

    On a machine that others load too, one thread often wins: two threads wait for each
    other at every matrix product. Probe again before each long stage.
    """
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    layer = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.SiLU(), torch.nn.Linear(512, 256))
    x = torch.randn(2048, 256)
    fastest = {}
    for threads in {1, cores}:
        torch.set_num_threads(threads)
        layer(x).sum().backward()  # warm-up
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            layer(x).sum().backward()
            times.append(time.perf_counter() - start)
        fastest[threads] = min(times)
    best = min(fastest, key=fastest.get)
    torch.set_num_threads(best)
    return best


def machine() -> dict[str, str]:
    """What this computer offers, in words: processor, memory, accelerator, and the profile that suits it.

    a100 needs bf16 (compute capability 8 and later), t4 a card that the gpu extra's torch has kernels for.
    """
    import platform

    import torch

    facts = {"python": platform.python_version(), "torch": torch.__version__, "cores": str(os.cpu_count())}
    if not torch.cuda.is_available():
        return {**facts, "gpu": "none", "profile": "cpu"}
    card = torch.cuda.get_device_properties(0)
    gib = card.total_memory / 2**30
    is_new = (card.major, card.minor) >= profiles.LEAST_CAPABILITY
    profile = "a100" if gib > 38 and card.major >= 8 else "t4" if gib > 14 and is_new else "cpu"
    return {**facts, "gpu": f"{card.name}, {gib:.0f} GiB", "profile": profile}
