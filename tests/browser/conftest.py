"""The system's Chromium, JupyterLab and Voila, all on this machine: `make test-browser` installs the latter two.

The network is cut: what is not on this machine is refused, and fails the test that asked for it.
"""

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parent.parent.parent
collect_ignore_glob = [] if importlib.util.find_spec("playwright") else ["test_*.py"]

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
CUT = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
PATIENCE_S = 180  # a busy machine is no failure
SETTINGS = {  # JupyterLab's: all cells in the page, a kernel without asking, no news
    "notebook-extension/tracker": {"windowingMode": "none", "autoStartDefaultKernel": True},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
# Voila's own page fetches an icon font, which no explorer needs.
VOILA_PAGE = """{%- extends 'voila/templates/lab/index.html.j2' -%}
{%- block notebook_css -%}{{ super() | replace("https://cdn.jsdelivr.net/", "data:text/css,") }}{%- endblock -%}
"""


@pytest.fixture(scope="session")
def chromium():
    """The system's Chromium with a fresh profile."""
    from playwright.sync_api import expect, sync_playwright

    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip(f"needs Chromium (looked for {', '.join(CHROMIUM)}). On Debian: apt-get install chromium")
    expect.set_options(timeout=PATIENCE_S * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS, CUT])
        yield browser
        browser.close()


def is_here(address: str) -> bool:
    """Whether an address is one of this machine, or none at all.

    >>> [is_here(a) for a in ("http://127.0.0.1:80/x", "data:text/css,a", "https://cdn.org/127.0.0.1", "//b.org/x")]
    [True, True, False, False]
    """
    parts = urlsplit(address)
    return parts.hostname == "127.0.0.1" or (not parts.netloc and parts.scheme in ("data", "blob", "file", "about"))


@contextlib.contextmanager
def visit(chromium):
    """A page whose every request is judged.

    Raises: AssertionError at the end, if one would have left the machine.
    """
    context, refused = chromium.new_context(service_workers="block", viewport={"width": 1200, "height": 900}), []

    def judge(route):
        if is_here(route.request.url):
            route.continue_()
        else:
            refused.append(route.request.url)
            route.abort()

    context.route("**/*", judge)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    page.on("websocket", lambda opened: is_here(opened.url.replace("ws", "http", 1)) or refused.append(opened.url))
    try:
        yield page
    finally:
        context.close()
    assert refused == [], "nothing may be requested from outside"


@pytest.fixture(scope="session")
def desk(tmp_path_factory):
    """Environment of the servers and kernels: nothing of this user's Jupyter, and the package of this checkout."""
    home, shares = tmp_path_factory.mktemp("jupyter"), [Path(sys.prefix, "share", "jupyter")]
    shares += {Path(path).parents[2] / "share" / "jupyter" for path in sys.path if path.endswith("site-packages")}
    for name, values in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values), encoding="utf8")
    template = home / "share" / "voila" / "templates" / "offline"
    template.mkdir(parents=True)
    (template / "conf.json").write_text('{"base_template": "lab"}', encoding="utf8")
    (template / "index.html.j2").write_text(VOILA_PAGE, encoding="utf8")
    places = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}
    return {
        **os.environ,
        **{f"JUPYTER_{name}": str(home / folder) for name, folder in places.items()},
        "JUPYTER_PATH": os.pathsep.join(map(str, [home / "share", *shares])),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": str(ROOT),
    }


@contextlib.contextmanager
def serving(folder: Path, desk: dict[str, str], *command: str):
    """A server of this machine as long as the block runs; yields its address.

    Args:
        command: of Python, `{port}` and `{token}` to be filled in.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, log = secrets.token_hex(16), folder / "server.log"
    words = [word.format(port=port, token=token) for word in command]
    with log.open("wb") as file:
        server = subprocess.Popen(
            [sys.executable, *words], cwd=folder, env=desk, start_new_session=True, stdout=file, stderr=file
        )
        try:
            end = time.monotonic() + PATIENCE_S
            while server.poll() is None and not _answers(port) and time.monotonic() < end:
                time.sleep(0.2)
            assert _answers(port), log.read_text(encoding="utf8", errors="replace")[-3000:]
            yield f"http://127.0.0.1:{port}", token
        finally:
            _end(server)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _end(server: subprocess.Popen) -> None:
    """End the server's own process group; it ends its kernels first, if it is given the time."""
    for word in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, word)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)


JUPYTERLAB = (
    "-m jupyterlab --no-browser --allow-root --ServerApp.ip=127.0.0.1 --ServerApp.port={port} "
    "--ServerApp.port_retries=0 --IdentityProvider.token={token}"
).split()
VOILA = "-m voila --no-browser --Voila.ip=127.0.0.1 --port={port} --template=offline".split()
