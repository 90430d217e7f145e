"""SwanLab may be absent, broken, refused, silent or dead: the run ends, and its JSONL reads, as without it."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from grpo_nb import data, models, rewards, train
from grpo_nb.runs import dashboards, tracking

CANARY = "canary-3f9a"
SID = {"sid": "s", "expiredAt": "2099-01-01T00:00:00.000Z", "userInfo": {"username": "me"}}
PROJECT = {"cuid": "p", "name": "grpo_nb", "path": "/me/grpo_nb", "group": {"username": "me"}, "version": 1}


class Host(BaseHTTPRequestHandler):
    """As much of SwanLab's server as a run needs, with `server.trouble` to make."""

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        self.server.seen.append((self.path, self.headers.get("authorization"), body))
        if self.server.trouble == "dies" and len(self.server.seen) > 3:  # login, project, experiment, then no word
            return
        status, answer = 200, {}
        if self.path.endswith("/login/api_key"):
            status, answer = (401, {}) if self.server.trouble == "refuses the key" else (200, SID)
        elif self.path.endswith("/project/me/grpo_nb"):
            answer = {**PROJECT, "_count": {"experiments": 0}}
        elif self.path.endswith("/experiment"):
            status, answer = 201, {"cuid": "e", "slug": "e", "name": "n"}
        elif self.path.endswith("/house/metrics") and self.server.trouble == "refuses the curve":
            status = 403
        answer = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *args):
        pass


@pytest.fixture
def host(monkeypatch):
    """A server on this machine for SwanLab to log in to, given a trouble to make; returns its list of requests."""
    servers = []

    def start(trouble: str | None = None) -> list[tuple[str, str, str]]:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Host))
        servers[-1].trouble, servers[-1].seen = trouble, []
        if trouble == "dies":
            monkeypatch.setattr(dashboards, "ONLINE_S", 1.0)
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        point_at(monkeypatch, servers[-1].server_port)
        return servers[-1].seen

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def point_at(monkeypatch, port: int):
    monkeypatch.setenv("SWANLAB_API_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("SWANLAB_API_KEY", f"key-{CANARY}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def silence(monkeypatch):
    """A port of this test's own: `silence(True)` takes calls and never answers, `silence(False)` refuses them."""
    sockets = []

    def start(is_open: bool):
        monkeypatch.setattr(dashboards, "ONLINE_S", 1.0)
        sockets.append(socket.create_server(("127.0.0.1", 0)))  # the kernel takes calls that nobody here accepts
        point_at(monkeypatch, sockets[-1].getsockname()[1])
        if not is_open:
            sockets[-1].close()

    yield start
    for sock in sockets:
        sock.close()


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Puts a package `swanlab` of the given source before the installed one."""

    def put(source: str):
        package = tmp_path / "stand_in" / "swanlab"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(source)
        monkeypatch.syspath_prepend(str(package.parent))

    return put


def play(folder: Path, mode: str, steps=range(1, 4), *, end=lambda guest: guest.on_train_end(None, None, None)):
    """The events of a run as a trainer sends them, without the training."""
    folder.mkdir(parents=True, exist_ok=True)
    [guest] = dashboards.guests("run", folder / "swanlog", mode)
    listeners = (tracking.JsonlWriter(folder / "metrics.jsonl"), guest)
    told = [{"step": step, "reward": step / 2, "kl": float("nan")} for step in range(1, steps[0])]
    state = SimpleNamespace(global_step=len(told), is_world_process_zero=True, log_history=told)
    for listener in listeners:
        listener.on_train_begin(SimpleNamespace(to_dict=lambda: {"learning_rate": 0.5}), state, None)
    for state.global_step in steps:
        time.sleep(0.02)
        for listener in listeners:
            listener.on_log(None, state, None, logs={"reward": state.global_step / 2, "kl": float("nan")})
    end(guest)


def kept(folder: Path) -> list[tuple[list[tuple[int, float]], str | None]]:
    """Of each SwanLab run in a folder, by age: the points of train/reward, and the state that it ended in."""
    from swanlab.proto.swanlab.record.v1.record_pb2 import Record
    from swanlab.proto.swanlab.run.v1.run_pb2 import RunState
    from swanlab.sdk.internal.core_python.store import DataStoreReader

    runs = []
    for path in sorted(folder.glob("run-*/*.swanlab"), key=lambda path: path.stat().st_mtime_ns):
        reader = DataStoreReader()
        reader.open(path)
        records = [Record.FromString(raw) for raw in reader]
        reader.close()
        curve = [r.scalar for r in records if r.HasField("scalar") and r.scalar.key == "train/reward"]
        [end] = [RunState.Name(r.finish.state) for r in records if r.HasField("finish")] or [None]
        runs.append(([(point.step, point.value.number) for point in curve], end))
    return runs


CURVE = [(1, 0.5), (2, 1.0), (3, 1.5)]  # what `play` logs


# Golden: SwanLab as it should be.
def test_an_offline_run_holds_the_curve_and_says_nothing(tmp_path, capsys):
    play(tmp_path, "offline")
    assert kept(tmp_path / "swanlog") == [(CURVE, "RUN_STATE_FINISHED")]
    assert capsys.readouterr().out == ""


def test_an_online_run_reaches_its_server_and_says_nothing(tmp_path, host, capsys):
    seen = host()
    play(tmp_path, "online")
    curve = [point for path, _, body in seen if path == "/api/house/metrics" for point in json.loads(body)["metrics"]]
    assert [(point["index"], point["data"]) for point in curve] == CURVE
    assert json.loads(seen[-1][2])["state"] == "FINISHED"
    assert capsys.readouterr().out == ""


def test_off_asks_for_nothing():
    assert dashboards.guests("run", Path("swanlog"), "off") == []


# Every trouble: (mode, how to make it, the rung that it ends on, what the one sentence names; None for no sentence).
def no_key(place):
    place.monkeypatch.delenv("SWANLAB_API_KEY", raising=False)


def read_only_folder(place):
    (place.folder / "swanlog").write_text("a file has no room for files")  # root may write into any folder


PROTOBUF = "raise TypeError('Descriptors cannot be created directly.')"
ABSENT = "raise ModuleNotFoundError('No module named swanlab')"
LATE = r"(import|login|init|finish) failed once \(TimeoutError\)"  # which one depends on how busy the machine is
TROUBLES = {
    "none": ("offline", lambda p: None, "offline", None),
    "no key": ("online", no_key, "offline", r"login failed once \(no SWANLAB_API_KEY among the secrets\)"),
    "bad key": ("online", lambda p: p.host("refuses the key"), "offline", r"login failed once \(AuthenticationError\)"),
    "refused host": ("online", lambda p: p.silence(is_open=False), "offline", LATE),
    "hanging host": ("online", lambda p: p.silence(is_open=True), "offline", LATE),
    "dying host": ("online", lambda p: p.host("dies"), "offline", LATE),
    "read-only folder": ("offline", read_only_folder, "off", r"init failed once \(ValidationError\)"),
    "package absent": ("online", lambda p: p.stand_in(ABSENT), "off", r"import failed 2 times \(ModuleNotFoundError\)"),
    "old protobuf": ("offline", lambda p: p.stand_in(PROTOBUF), "off", r"import failed once \(TypeError\)"),
}


@pytest.fixture
def place(tmp_path, profile, monkeypatch, host, silence, stand_in):
    """What a trouble needs to be made: the run's folder, servers, packages."""
    monkeypatch.setenv("SWANLAB_API_KEY", f"key-{CANARY}")
    monkeypatch.setenv("SWANLAB_API_HOST", "http://127.0.0.1:0")
    folder = tmp_path / "outputs" / profile.name / "grpo"
    folder.mkdir(parents=True)
    return SimpleNamespace(folder=folder, host=host, silence=silence, stand_in=stand_in, monkeypatch=monkeypatch)


def trained(profile, rows, name: str, mode: str) -> list[dict]:
    """The metrics of two GRPO steps on a fresh policy, without the one that is a duration."""
    run = tracking.Run(name, profile, mode=mode)
    prompts = data.grpo_rows(rows, system_prompt="Show your work.")
    policy = models.load_policy(profile, rows)
    train.resume_or_start(train.grpo_trainer(*policy, prompts, [rewards.check_answer], profile, run=run))
    return [{key: value for key, value in row.items() if key != "step_time"} for row in run.rows()]


@pytest.fixture(scope="module")
def undisturbed():
    """The metrics without a tracker: filled by the first test that asks."""
    return []


@pytest.mark.parametrize("trouble", TROUBLES)
def test_training_ends_as_without_a_tracker(trouble, place, profile, rows, undisturbed, capsys):
    undisturbed[:] = undisturbed or trained(profile, rows, "plain", "off")
    assert [row["step"] for row in undisturbed] == [1, 2]
    mode, make, rung, faults = TROUBLES[trouble]
    make(place)
    assert trained(profile, rows, "grpo", mode) == undisturbed
    said = [line for line in capsys.readouterr().out.splitlines() if "SwanLab" in line]
    assert len(said) == (faults is not None)
    for sentence in said:
        assert re.fullmatch(f"SwanLab ended {rung} and metrics.jsonl is complete: {faults}\\.", sentence)
        assert CANARY not in sentence and str(place.folder) not in sentence
    if rung == "offline":
        assert kept(place.folder / "swanlog")[-1] == (
            [(row["step"], pytest.approx(row["reward"])) for row in undisturbed],
            "RUN_STATE_FINISHED",
        )


# Law: whatever SwanLab does stays with it.
OBEDIENT = """
import ctypes, os, time
def login(**kwargs): pass
def init(mode, **kwargs): globals()["mode"] = mode
def log(row, step): pass
def finish(**kwargs): pass
"""
SPOILT = {
    "log raises": ("def log(row, step): raise ConnectionError('x')", "log failed 3 times (ConnectionError)"),
    "log hangs": ("def log(row, step): time.sleep(1000)", "log failed once (TimeoutError)"),
    "finish hangs": ("def finish(**kwargs): time.sleep(1000)", "finish failed once (TimeoutError)"),
    "finish stops every thread": (
        "def finish(**kwargs): ctypes.PyDLL(None).sleep(1000)",  # with the interpreter's lock in its hand
        "mirror failed once (exit code -9)",
    ),
    "init leaves": ("def init(**kwargs): os._exit(0)", "mirror failed once (exit code 0)"),
    "log is killed": ("def log(row, step): os.kill(os.getpid(), 9)", "mirror failed once (exit code -9)"),
}


@pytest.mark.skipif(os.name == "nt", reason="signals and exit codes of a POSIX system")
@pytest.mark.parametrize("spoilt", SPOILT)
def test_what_swanlab_does_stays_with_it(spoilt, tmp_path, stand_in, monkeypatch, capsys):
    monkeypatch.setattr(dashboards, "END_S", 2.0)
    source, fault = SPOILT[spoilt]
    stand_in(OBEDIENT + source)
    play(tmp_path, "offline")
    assert capsys.readouterr().out == f"SwanLab ended off and metrics.jsonl is complete: {fault}.\n"


def test_a_rung_that_fails_is_followed_by_the_next_while_the_training_goes_on(tmp_path, stand_in, monkeypatch, capsys):
    """Online refuses, so the offline rung starts at a later log and has every row all the same."""
    monkeypatch.setenv("SWANLAB_API_KEY", f"key-{CANARY}")
    log = "def log(row, step): open(f'{mode}.txt', 'a').write(f'{step} ')"
    stand_in(OBEDIENT + "def login(**kwargs): raise ValueError(kwargs['api_key'])\n" + log)
    rungs = []
    play(tmp_path, "online", range(1, 101), end=lambda guest: (rungs.append(guest.rung), guest.on_stop(None)))
    assert rungs == ["offline"], "online was left before the end"
    assert (tmp_path / "offline.txt").read_text().split() == [str(step) for step in range(1, 101)]
    said = capsys.readouterr().out
    assert said == "SwanLab ended offline and metrics.jsonl is complete: login failed once (ValueError).\n"


def test_a_curve_with_gaps_online_is_kept_offline(tmp_path, host, monkeypatch, capsys):
    """SwanLab swallows a server's refusal; it is read in SwanLab's own log."""
    host("refuses the curve")
    play(tmp_path, "online")
    assert kept(tmp_path / "swanlog")[-1] == (CURVE, "RUN_STATE_FINISHED")
    said = capsys.readouterr().out
    assert re.fullmatch(r"SwanLab ended offline .*: delivery failed .* \(named in its debug.log\)\.\n", said)


def test_no_process_no_swanlab(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    play(tmp_path, "offline")
    assert "SwanLab ended off" in (said := capsys.readouterr().out) and "start failed once (FileNotFoundError)" in said


def test_all_patience_together_is_below_twenty_seconds():
    assert 0 < dashboards.ONLINE_S < dashboards.END_S < 20


# Law: runs that end otherwise, and runs after them.
@pytest.mark.parametrize(
    ("error", "state"),
    [(KeyboardInterrupt(), "RUN_STATE_ABORTED"), (ValueError(f"reward {CANARY}"), "RUN_STATE_CRASHED")],
)
def test_a_run_that_an_exception_ended_is_closed_and_the_next_one_starts(error, state, tmp_path, capsys):
    play(tmp_path / "a", "offline", end=lambda guest: guest.on_stop(error))
    play(tmp_path / "b", "offline")
    assert kept(tmp_path / "a" / "swanlog") == [(CURVE, state)]
    assert kept(tmp_path / "b" / "swanlog") == [(CURVE, "RUN_STATE_FINISHED")]
    assert capsys.readouterr().out == ""


def test_a_run_that_ends_twice_says_it_once(tmp_path, stand_in, capsys):
    """A later listener raises at the end of training, so the end is followed by a stop."""
    stand_in(ABSENT)
    play(tmp_path, "offline", end=lambda guest: (guest.on_train_end(None, None, None), guest.on_stop(ValueError())))
    assert capsys.readouterr().out.count("SwanLab ended off") == 1


@pytest.mark.skipif(os.name == "nt", reason="process groups of a POSIX system")
def test_an_interrupt_of_the_notebook_is_not_for_the_mirror(tmp_path):
    """Jupyter interrupts the kernel's whole process group."""
    groups = []
    play(tmp_path, "offline", end=lambda guest: (groups.append(os.getpgid(guest.process.pid)), guest.on_stop(None)))
    assert groups and os.getpgid(0) not in groups


def test_a_resumed_run_goes_on_from_its_step(tmp_path):
    play(tmp_path, "offline")
    play(tmp_path, "offline", range(3, 6))  # from a checkpoint of step 2: step 3 is taken again
    points = [(step, step / 2) for step in range(1, 6)]
    assert kept(tmp_path / "swanlog")[-1] == (points, "RUN_STATE_FINISHED")


def test_another_process_of_the_training_starts_no_mirror(tmp_path):
    [guest] = dashboards.guests("run", tmp_path / "swanlog", "offline")
    state = SimpleNamespace(global_step=0, is_world_process_zero=False)
    guest.on_train_begin(None, state, None)
    guest.on_train_end(None, state, None)
    assert guest.process is None and list(tmp_path.iterdir()) == []


LEAVER = """
import sys; sys.path.insert(0, "tests")
from test_runs_dashboards import *
play(Path(sys.argv[1]), "offline", end=lambda guest: print(guest.process.pid, "swanlab" in sys.modules, flush=True))
{ending}
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for a process in /proc")
@pytest.mark.parametrize("ending", ["pass", "os.kill(os.getpid(), 9)"])
def test_a_trainer_that_leaves_without_a_word_is_neither_held_nor_haunted(ending, tmp_path):
    """The interpreter exits by itself, the mirror closes its run and follows."""
    code, here = LEAVER.format(ending=ending), Path(__file__).parent.parent
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=60)
    pid, is_imported = done.stdout.split()
    assert is_imported == "False", "SwanLab is imported by the mirror only"
    patience = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < patience:
        time.sleep(0.1)
    assert kept(tmp_path / "swanlog") == [(CURVE, "RUN_STATE_CRASHED")]


# Law: secrets.
def test_no_secret_is_in_any_byte_that_a_run_writes(tmp_path, host, monkeypatch, capsys):
    home = tmp_path / "home"
    (home / ".swanlab").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    netrc = home / ".swanlab" / ".netrc"  # as `swanlab login` leaves it; SwanLab in debug mode quotes it
    netrc.write_text(f"machine https://api.swanlab.cn\nlogin https://swanlab.cn\npassword netrc-{CANARY}\n")
    for name in ("HF_TOKEN", "MY_SECRET", "SWANLAB_DEBUG"):
        monkeypatch.setenv(name, "true" if name == "SWANLAB_DEBUG" else f"{name}-{CANARY}")
    seen = host("refuses the key")
    play(tmp_path / "outputs" / "a", "offline", end=lambda guest: guest.on_stop(ValueError(CANARY)))
    play(tmp_path / "outputs" / "b", "online")
    assert ("/api/login/api_key", f"key-{CANARY}", "") in seen, "the key was used, or this test shows nothing"
    assert len(kept(tmp_path / "outputs" / "a" / "swanlog")) == len(kept(tmp_path / "outputs" / "b" / "swanlog")) == 1
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != netrc]
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
    assert CANARY not in "".join(capsys.readouterr())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")
def test_no_secret_is_in_the_mirrors_command_line_or_environment(tmp_path, silence, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", CANARY)
    silence(is_open=True)
    facts = {}

    def read_facts(guest):
        for name in ("cmdline", "environ"):
            facts[name] = Path(f"/proc/{guest.process.pid}/{name}").read_bytes()
        guest.process.kill()
        guest.on_stop(None)

    play(tmp_path, "online", end=read_facts)
    assert b"grpo_nb.runs.mirror" in facts["cmdline"] and b"SWANLAB_API_HOST" in facts["environ"]
    assert CANARY.encode() not in facts["cmdline"] + facts["environ"]


def test_a_run_dir_holds_no_fact_about_its_host(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home-of-somebody"))
    play(tmp_path, "offline")
    files = [path for path in (tmp_path / "swanlog").rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    facts = (socket.gethostname(), os.getcwd(), sys.executable, "grpo_nb.runs.mirror", "home-of-somebody")
    assert [fact for fact in facts if len(fact) > 3 and fact.encode() in content] == []
    assert b"learning_rate" in content
