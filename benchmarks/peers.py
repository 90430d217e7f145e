"""The peers' own code, from their wheels, without installing them: only the files that hold the loss head are run.

`make bench` downloads the wheels of `WHEELS` to .venv/wheels (another folder: GRPO_NB_WHEELS). Installed, they would
change what is measured: Unsloth patches TRL, and two versions of TRL exclude each other.

| peer        | files run                                                            | in place of the rest   |
|-------------|----------------------------------------------------------------------|------------------------|
| TRL 1.16.0  | kernels/chunked_logprob.py                                           | an empty ZeRO-3 gather |
| Liger 0.8.5 | chunked_loss/ as a package, ops/fused_linear_scaled_cross_entropy.py |                        |
| Unsloth-zoo | fused_losses/fused_linear.py                                         |                        |
| TRL 1.14    | the installed trainer/utils.py                                       |                        |
"""

import atexit
import contextlib
import functools
import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
import types
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

WHEELS = {"trl": "1.16.0", "liger_kernel": "0.8.5", "unsloth_zoo": "2026.10.9"}


class Missing(Exception):
    """A peer that cannot be loaded here; the message says why."""


def folder_of_wheels() -> Path:
    """Where the wheels are looked for: GRPO_NB_WHEELS, or .venv/wheels beside this folder."""
    return Path(os.environ.get("GRPO_NB_WHEELS") or Path(__file__).parent.parent / ".venv" / "wheels")


@functools.cache
def unpacked(name: str) -> Path:
    """A folder with the files of a pinned wheel; it is gone when the process ends (Triton reads its kernels' source).

    Raises: Missing if the wheel is not there.
    """
    wheel = folder_of_wheels() / f"{name}-{WHEELS[name]}-py3-none-any.whl"
    if not wheel.exists():
        raise Missing(f"{wheel.name} is not in {wheel.parent}")
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with zipfile.ZipFile(wheel) as files:
        files.extractall(folder)
    return folder


def _module(name: str, path: Path) -> types.ModuleType:
    """One file as a module of this name; what it cannot import is said by `Missing`."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        del sys.modules[name]
        raise Missing(str(error)) from error
    return module


def _imported(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Missing(str(error)) from error


def _package(name: str, **contents) -> types.ModuleType:
    """An empty package (or a module) of this name, with these things in it."""
    module = types.ModuleType(name)
    module.__path__ = []
    vars(module).update(contents)
    sys.modules[name] = module
    return module


@functools.cache
def trl_1_16() -> types.ModuleType:
    """TRL 1.16's kernels/chunked_logprob.py: `ChunkedLogProbFunction` and the sizes of its tiles."""
    folder = unpacked("trl")
    for name in ("trl_1_16", "trl_1_16.kernels", "trl_1_16.trainer"):
        _package(name)
    _package("trl_1_16.trainer.utils", maybe_gather_lm_head_ctx=lambda *_: contextlib.nullcontext())
    return _module("trl_1_16.kernels.chunked_logprob", folder / "trl" / "kernels" / "chunked_logprob.py")


@functools.cache
def trl_installed() -> types.ModuleType:
    """`trl.trainer.utils` of the TRL that the package is pinned to: its chunked head and its full-logits functions."""
    utils = _imported("trl.trainer.utils")
    if not hasattr(utils, "_ChunkedLogProbFunction") or not version("trl").startswith("1.14."):
        raise Missing(f"TRL 1.14 must be installed (got {version('trl')})")
    return utils


@functools.cache
def liger() -> types.ModuleType:
    """Liger's chunked_loss.grpo_loss: `LigerFusedLinearGRPOLoss`."""
    with _importable(unpacked("liger_kernel"), "liger_kernel"):
        return _imported("liger_kernel.chunked_loss.grpo_loss")


@functools.cache
def liger_scaled() -> types.ModuleType:
    """Liger's fused_linear_scaled_cross_entropy: a CuTe kernel on Hopper if `cutlass` is there, else chunks in torch.

    By its file, for its package imports Triton, and the chunks need none.
    """
    folder = unpacked("liger_kernel")
    with _importable(folder, "liger_kernel"):
        path = folder / "liger_kernel" / "ops" / "fused_linear_scaled_cross_entropy.py"
        return _module("liger_fused_linear_scaled_cross_entropy", path)


@contextlib.contextmanager
def _importable(folder: Path, package: str) -> Iterator[None]:
    """The folder on sys.path. Without a card only inside the block: TRL and transformers would take it for installed.

    With one it stays, for the compiler and the kernel for Hopper import by name when they are first called.
    """
    sys.path.append(str(folder))
    yield
    if not torch.cuda.is_available():
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]


@functools.cache
def unsloth() -> types.ModuleType:
    """Unsloth-zoo's fused_losses/fused_linear.py: `fused_linear_logprobs`, by which its GRPO scores."""
    path = unpacked("unsloth_zoo") / "unsloth_zoo" / "fused_losses" / "fused_linear.py"
    return _module("unsloth_fused_linear", path)


@functools.cache
def cut_cross_entropy() -> types.ModuleType:
    """Apple's cut_cross_entropy, if it is installed (a CUDA machine, by hand: its licence is Apple's own)."""
    return _imported("cut_cross_entropy")


def versions() -> dict[str, str]:
    """Version of each peer as it is run here; those of the wheels are pinned."""
    found = {f"{name} (wheel)": number for name, number in WHEELS.items()}
    for name in ("torch", "trl", "triton", "cut_cross_entropy", "nvidia-cutlass-dsl"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
