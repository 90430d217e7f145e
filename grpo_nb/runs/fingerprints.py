"""What makes two runs equal: settings, rows, rewards, base weights and library versions, as a dict of plain values.

A checkpoint keeps the fingerprint of its run. A run with another one would not go on with that run's curve.
"""

import decimal
import fractions
import functools
import hashlib
import inspect
import json
import platform
import re
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import CodeType

from grpo_nb import __version__
from grpo_nb.rewards import contract

STACK = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "unsloth", "vllm")
OF_A_PLACE = ("base_model_name_or_path", "revision", "inference_mode")  # keys of an adapter: where its base lies
DIGESTED = ("code of reward", "code of loss")  # sections of hashes, which say nothing to a reader
CACHED = type(functools.lru_cache(len))
PLAIN = (
    int, float, str, bytes, tuple, list, dict, set, frozenset, type(None), functools.partial, re.Pattern, range,
    decimal.Decimal, fractions.Fraction,
)  # fmt: skip
OF_A_CLASS = ("__module__", "__doc__", "__dict__", "__weakref__", "__qualname__", "__firstlineno__")  # of no effect
# Settings that change what is written and where, not what is learned.
OF_NO_EFFECT = (
    "save_", "log", "push_", "hub_", "report_to", "output_dir", "run_name", "disable_tqdm", "project", "trackio",
)  # fmt: skip


def fingerprint(
    args, rows: Sequence[dict], rewards: Sequence[Callable], model, tokenizer, *, held_out=None, switches=(), loss=None
) -> dict[str, dict]:
    """Everything on which the curve of a run depends, in sections whose entries can be compared one by one.

    Args:
        args: the trainer's `GRPOConfig` or `SFTConfig`.
        rows: the training rows; their order counts.
        rewards: the functions themselves. Their code counts, not their comments, with the plain values and the
            functions of their own module (or notebook) that they use.
        model: as it is before the first step; its parameters count, sampled at 64 places each.
        tokenizer: its chat template counts.
        held_out: rows to evaluate on in mid-run; None: nothing is.
        switches: of the trainer, beside its config: name → value; with `own_loss` the package's own files count.
        loss: a function of the learner's own; None where the package or TRL has it.
    """
    adapters = {name: _plain(config.to_dict()) for name, config in getattr(model, "peft_config", {}).items()}
    return {
        "setting": settings(args),
        "adapter": {f"{name} {key}": c[key] for name, c in adapters.items() for key in c if key not in OF_A_PLACE},
        "data set": _content(rows),
        "held-out rows": {} if held_out is None else _content(held_out),
        "code of reward": {f"{i}. {_name(reward)}": code_of(reward) for i, reward in enumerate(rewards, 1)},
        "code of loss": _code_of_loss(loss, dict(switches)),
        "starting weights": {"content": _weights(model)},
        "chat template": {"content": _digest(str(getattr(tokenizer, "chat_template", "")))},
        "version": versions(),
        "switch": dict(switches),
    }


def _content(rows: Sequence[dict]) -> dict:
    texts = [json.dumps(row, sort_keys=True, default=str) for row in rows]
    return {"rows": len(texts), "content": _digest("\n".join(texts))}


def _code_of_loss(loss: Callable | None, switches: dict) -> dict[str, str]:
    """The learner's function; where the package's own loss trains, its files, which may be edited between sessions."""
    if loss is not None:
        return {_name(loss): code_of(loss)}
    if not switches.get("own_loss"):
        return {}
    return {"grpo_nb": sources("advantages", "losses")}


def sources(*modules: str) -> str:
    """A digest of files of this package, which may be edited between sessions: modules, and rooms as a whole."""
    package = Path(__file__).parent.parent
    files = [path for name in modules for path in (package / f"{name}.py", *sorted((package / name).glob("*.py")))]
    return _digest("".join(path.read_text(encoding="utf8") for path in files if path.exists()))


def code_of(function: Callable) -> str:
    """A digest of what a function does, as `fingerprint` sees it."""
    return _digest(_code(function))


def settings(args) -> dict:
    """The settings of a trainer that change what is learned."""
    return _plain({key: value for key, value in args.to_dict().items() if not key.startswith(OF_NO_EFFECT)})


def differences(before: dict, after: dict) -> list[str]:
    """The entries of two fingerprints that differ, in words.

    >>> differences({"setting": {"max_steps": 50}}, {"setting": {"max_steps": 60}})
    ['setting max_steps: 50 → 60']
    """
    found = []
    for section in before | after:
        old, new = before.get(section, {}), after.get(section, {})
        for key in old | new:
            if old.get(key) == new.get(key):
                continue
            change = f": {old.get(key, 'absent')} → {new.get(key, 'absent')}"
            found.append(f"{section} {key}" + ("" if section in DIGESTED or key == "content" else change))
    return found


def machine() -> dict[str, str | int]:
    """What the last bits of a sum depend on: instructions of the processor, accelerator, number of threads."""
    import torch

    card = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {"processor": processor, "gpu": card, "threads": torch.get_num_threads()}


def _plain(value):
    """As JSON would give it back, so that a stored fingerprint equals a fresh one: sets in order, odd ones by type."""
    return json.loads(json.dumps(value, sort_keys=True, default=_as_json))


def _as_json(odd):
    if isinstance(odd, bytes):
        return odd.hex()
    return sorted(map(repr, odd)) if isinstance(odd, (set, frozenset)) else type(odd).__name__


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf8", "surrogatepass")).hexdigest()[:16]


def versions() -> dict[str, str]:
    """This package, Python, and the libraries of `STACK` that are installed."""
    found = {"grpo_nb": __version__, "python": platform.python_version()}
    for name in STACK:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _name(reward) -> str:
    return reward if isinstance(reward, str) else contract.name_of(reward)


def _code(thing, seen: tuple = ()) -> str:
    """What a callable does, as text: byte code, names and constants, and all that it brings along.

    Followed are partial arguments, bound objects and their attributes, defaults, closures (and so what a decorator
    wraps), the plain globals that it reads, patterns among them, and the functions and classes of its own module.
    """
    thing = thing.__wrapped__ if isinstance(thing, CACHED) else thing
    holder = getattr(thing, "__self__", thing)
    if any(known is holder for known in seen):
        return _name(thing)  # followed already: a recursive function, an object that holds its own method
    seen = (*seen, holder)
    if isinstance(thing, functools.partial):
        return repr([_code(thing.func, seen), [_value(a, seen) for a in thing.args], _value(thing.keywords, seen)])
    if inspect.ismethod(thing):
        bound = getattr(thing.__self__, "__dict__", {})
        return repr([_code(thing.__func__, seen), _class(type(thing.__self__), seen), _value(bound, seen)])
    if not inspect.isfunction(thing):
        call = inspect.getattr_static(type(thing), "__call__", None)
        if not inspect.isfunction(call):
            return _name(thing)
        return repr([_class(type(thing), seen), _value(getattr(thing, "__dict__", {}), seen)])
    around = {name: thing.__globals__[name] for name in _names(thing.__code__) if name in thing.__globals__}
    ours = {name: value for name, value in around.items() if _is_ours(value, thing.__module__)}
    inner = inspect.getclosurevars(thing).nonlocals
    brought = [ours, dict(inner), list(thing.__defaults__ or ()), dict(thing.__kwdefaults__ or {})]
    return repr([_code_parts(thing.__code__), [_value(item, seen) for item in brought]])


def _is_ours(value, module: str) -> bool:
    """Whether a global is plain, or a function or class of the same module; of others the version counts."""
    if inspect.isfunction(value) or inspect.isclass(value) or isinstance(value, CACHED):
        return value.__module__ == module
    return isinstance(value, PLAIN)


def _class(given: type, seen: tuple) -> str:
    """What a class and those that it comes from in its own module do: their functions and plain attributes."""
    if any(known is given for known in seen):
        return given.__name__
    found = []
    for kind in (kind for kind in given.__mro__ if kind.__module__ == given.__module__ != "builtins"):
        members = {name: _unbound(member) for name, member in vars(kind).items() if name not in OF_A_CLASS}
        ours = {name: member for name, member in members.items() if _is_ours(member, kind.__module__)}
        found.append([kind.__name__, _value(ours, (*seen, given))])
    return repr(found)


def _unbound(member):
    """The function of a class method, a static one or a property."""
    return getattr(member, "__func__", None) or getattr(member, "fget", None) or member


def _value(value, seen: tuple):
    """A value as text that is the same in every process: no addresses, sets and dicts in order.

    An object counts by its type only: a model or a client that a reward holds may be large, or hold itself.
    """
    if inspect.isfunction(value) or inspect.ismethod(value) or isinstance(value, (functools.partial, CACHED)):
        return _code(value, seen)
    if inspect.isclass(value) and seen and value.__module__ == getattr(seen[-1], "__module__", None):
        return _class(value, seen)
    if isinstance(value, re.Pattern):
        return [repr(value.pattern), value.flags]
    if isinstance(value, (range, decimal.Decimal, fractions.Fraction)):
        return repr(value)
    if isinstance(value, dict):
        return sorted((repr(key), _value(item, seen)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return [_value(item, seen) for item in value]
    return repr(_plain(value))


def _names(code: CodeType) -> set[str]:
    """The globals and attributes that a function names, in its comprehensions and inner functions too."""
    return {*code.co_names}.union(*(_names(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def _code_parts(code: CodeType) -> list:
    constants = [_code_parts(c) if isinstance(c, CodeType) else repr(_plain(c)) for c in code.co_consts]
    return [code.co_code.hex(), code.co_names, code.co_varnames, constants]


def _weights(model) -> str:
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        flat = parameter.detach().flatten()
        # A clone, for numpy could write to the weights: those that `models.own_copy` shares would be copied.
        sample = flat[:: max(1, flat.numel() // 64)][:64].float().cpu().clone().numpy()
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode() + sample.tobytes())
    return digest.hexdigest()[:16]
