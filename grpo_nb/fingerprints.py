"""What makes two runs equal: settings, rows, rewards, base weights and library versions, as a dict of plain values.

A checkpoint keeps the fingerprint of its run. A run with another one would not go on with that run's curve.
"""

import hashlib
import inspect
import json
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from types import CodeType

from grpo_nb import columns

STACK = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "unsloth", "vllm")
# Settings that change what is written and where, not what is learned.
OF_NO_EFFECT = (
    "save_", "log", "push_", "hub_", "report_to", "output_dir", "run_name", "disable_tqdm", "project", "trackio",
)  # fmt: skip


def fingerprint(args, rows: Sequence[dict], rewards: Sequence[Callable], model) -> dict[str, dict]:
    """Everything on which the curve of a run depends, in sections whose entries can be compared one by one.

    Args:
        args: the trainer's `GRPOConfig` or `SFTConfig`.
        rows: the training rows; their order counts.
        rewards: the functions themselves. Their code counts, not their comments; what they call does not.
        model: its frozen parameters count, sampled at 64 places each; what is trained lies in the checkpoint.
    """
    settings = {key: value for key, value in args.to_dict().items() if not key.startswith(OF_NO_EFFECT)}
    texts = [json.dumps(row, sort_keys=True, default=str) for row in rows]
    return {
        "setting": _plain(settings),
        "data set": {"rows": len(texts), "content": _digest("\n".join(texts))},
        "reward": {f"{i}. {_name(reward)}": _digest(_code(reward)) for i, reward in enumerate(rewards, 1)},
        "base weights": {"content": _weights(model)},
        "version": {"python": platform.python_version(), **_versions()},
    }


def differences(before: dict, after: dict) -> list[str]:
    """The entries of two fingerprints that differ, in words.

    >>> differences({"setting": {"max_steps": 50}}, {"setting": {"max_steps": 60}})
    ['setting max_steps: 50 → 60']
    """
    found = []
    for section in before | after:
        old, new = before.get(section, {}), after.get(section, {})
        for key in old | new:
            if old.get(key) != new.get(key):
                found.append(f"{section} {key}: {old.get(key, 'absent')} → {new.get(key, 'absent')}")
    return found


def machine() -> dict[str, str | int]:
    """What the last bits of a sum depend on: processor, accelerator, number of threads."""
    import torch

    card = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {"processor": platform.machine(), "gpu": card, "threads": torch.get_num_threads()}


def _plain(value):
    """As JSON would give it back, so that a stored fingerprint equals a fresh one; odd objects by their type."""
    return json.loads(json.dumps(value, sort_keys=True, default=lambda odd: type(odd).__name__))


def _digest(content: str | bytes) -> str:
    return hashlib.sha256(content.encode("utf8", "surrogatepass") if isinstance(content, str) else content).hexdigest()[
        :16
    ]


def _versions() -> dict[str, str]:
    found = {}
    for name in STACK:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _name(reward) -> str:
    return reward if isinstance(reward, str) else columns.name_of(reward)


def _code(reward) -> str:
    """What a function does, as text: byte code, names and constants, defaults, and the plain values it closes over."""
    reward = columns.unwrapped(reward)
    function = reward if inspect.isfunction(reward) else inspect.getattr_static(type(reward), "__call__", None)
    if not inspect.isfunction(function):
        return _name(reward)
    closure = inspect.getclosurevars(function).nonlocals
    plain = {name: value for name, value in closure.items() if isinstance(value, (int, float, str, tuple, type(None)))}
    return repr([_code_parts(function.__code__), function.__defaults__, function.__kwdefaults__, plain])


def _code_parts(code: CodeType) -> list:
    constants = [_code_parts(c) if isinstance(c, CodeType) else _stable(c) for c in code.co_consts]
    return [code.co_code.hex(), code.co_names, code.co_varnames, constants]


def _stable(constant) -> str:
    """The repr, with sets in order: theirs changes from one Python process to the next."""
    return repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _weights(model) -> str:
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            continue
        flat = parameter.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 64)][:64].float().cpu().numpy()
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode() + sample.tobytes())
    return digest.hexdigest()[:16]
