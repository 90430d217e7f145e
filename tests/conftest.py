"""Every test runs in the ci profile, offline: a connection to anything but this machine is refused."""

import os
import socket

import pytest

os.environ.setdefault("GRPO_NB_PROFILE", "ci")
for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ[name] = "1"
os.environ["SWANLAB_MODE"] = "offline"

LOOPBACK = ("127.", "::1", "localhost")


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


def pytest_collection_modifyitems(items):
    """Skip what is marked `gpu` where there is none; torch is asked only if something is marked."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))
