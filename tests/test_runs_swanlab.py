"""SwanLab may be absent, broken, refused, silent or dead: the run ends, and its JSONL reads, as without it."""

import json
import logging
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import filelock
import pytest

from grpo_nb import data, models, rewards, train
from grpo_nb.runs import swanlab, tracking

ROOT = Path(__file__).parent.parent
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
            monkeypatch.setattr(swanlab.Follower, "online_s", 1.0)
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
        monkeypatch.setattr(swanlab.Follower, "online_s", 1.0)
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
        (package / "__init__.py").write_text(source, encoding="utf8")
        monkeypatch.syspath_prepend(str(package.parent))

    return put


def play(folder: Path, mode: str, steps=range(1, 4), *, before=lambda follower, step: None, end=None):
    """The events of a run as a trainer sends them, without the training; `before` a step and at the `end` a test acts.

    Returns: the process id of the first process that sent the curve.
    """
    folder.mkdir(parents=True, exist_ok=True)
    follower = swanlab.Follower(folder, mode)
    both = (tracking.JsonlWriter(folder / "metrics.jsonl"), follower)
    logged = [{"step": step, "reward": step / 2, "kl": float("nan")} for step in range(1, steps[0])]
    state = SimpleNamespace(global_step=len(logged), is_world_process_zero=True, log_history=logged)
    for callback in both:
        callback.on_train_begin(SimpleNamespace(to_dict=lambda: {"learning_rate": 0.5, "run_name": "x"}), state, None)
    pid = follower.process and follower.process.pid
    for state.global_step in steps:
        before(follower, state.global_step)
        for callback in both:
            callback.on_log(None, state, None, logs={"reward": state.global_step / 2, "kl": float("nan")})
    end(follower) if end else follower.on_train_end(None, None, None)
    return pid


def await_text(path: Path, text: str = ""):
    """Return when a file of the other process is there and ends with `text`."""
    patience = time.monotonic() + 60
    while not (path.exists() and path.read_text(encoding="utf8").endswith(text)):
        assert time.monotonic() < patience, f"{path.name} never came"
        time.sleep(0.01)


def kept(folder: Path, *, last: int = 0) -> list[tuple[list[tuple[int, float]], str | None]]:
    """Of the (last) SwanLab runs in a folder, by age: the points of train/reward, and the state that each ended in."""
    from swanlab.proto.swanlab.record.v1.record_pb2 import Record
    from swanlab.proto.swanlab.run.v1.run_pb2 import RunState
    from swanlab.sdk.internal.core_python.store import DataStoreReader

    runs = []
    for path in sorted(folder.glob("run-*/*.swanlab"), key=lambda path: path.stat().st_mtime_ns)[-last:]:
        reader = DataStoreReader()
        reader.open(path)
        records = [Record.FromString(raw) for raw in reader]
        reader.close()
        curve = [r.scalar for r in records if r.HasField("scalar") and r.scalar.key == "train/reward"]
        [end] = [RunState.Name(r.finish.state) for r in records if r.HasField("finish")] or [None]
        runs.append(([(point.step, point.value.number) for point in curve], end))
    return runs


CURVE = [(1, 0.5), (2, 1.0), (3, 1.5)]  # what `play` logs


def write_metrics(folder: Path):
    """The metrics.jsonl that `play` writes."""
    (folder / "metrics.jsonl").write_text(
        "".join(f'{{"step": {s}, "reward": {r}}}\n' for s, r in CURVE), encoding="utf8"
    )


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


def test_off_has_no_follower(profile):
    kinds = {mode: [type(c) for c in tracking.Run("grpo", profile, mode=mode).callbacks()] for mode in tracking.MODES}
    assert [mode for mode in tracking.MODES if swanlab.Follower in kinds[mode]] == ["offline", "online"]


# Every trouble: (mode, how to make it, the mode that it ends in, what the one sentence names; None for no sentence).
def no_key(place):
    place.monkeypatch.delenv("SWANLAB_API_KEY", raising=False)


def read_only_folder(place):
    (place.folder / "swanlog").write_text(
        "a file has no room for files", encoding="utf8"
    )  # root may write into any folder


PROTOBUF = "raise TypeError('Descriptors cannot be created directly.')"
ABSENT = "raise ModuleNotFoundError('No module named swanlab')"
LATE = r"\w+ failed \(TimeoutError\)"  # which call depends on how busy the machine is
# Of a host that dies: seen once on a busy machine, where something outside killed the process before its time was up.
SILENT = rf"(delivery failed .*, )?({LATE}|\w+ failed \(exit code -9\))"
TROUBLES = {
    "none": ("offline", lambda p: None, "offline", None),
    "no key": ("online", no_key, "offline", r"login failed \(no SWANLAB_API_KEY among the secrets\)"),
    "bad key": ("online", lambda p: p.host("refuses the key"), "offline", r"login failed \(AuthenticationError\)"),
    "refused host": ("online", lambda p: p.silence(is_open=False), "offline", LATE),
    "hanging host": ("online", lambda p: p.silence(is_open=True), "offline", LATE),
    "dying host": ("online", lambda p: p.host("dies"), "offline", SILENT),
    "read-only folder": ("offline", read_only_folder, "off", r"init failed \(ValidationError\)"),
    "package absent": ("online", lambda p: p.stand_in(ABSENT), "off", r"import failed \(ModuleNotFoundError\)"),
    "old protobuf": ("offline", lambda p: p.stand_in(PROTOBUF), "off", r"import failed \(TypeError\)"),
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
    mode, make, last_mode, faults = TROUBLES[trouble]
    make(place)
    assert trained(profile, rows, "grpo", mode) == undisturbed
    said = [line for line in capsys.readouterr().out.splitlines() if "SwanLab" in line]
    assert len(said) == (faults is not None)
    for sentence in said:
        assert re.fullmatch(f"SwanLab ended {last_mode} and metrics.jsonl is complete: {faults}\\.", sentence)
        assert CANARY not in sentence and str(place.folder) not in sentence
    if last_mode == "offline":
        curve = [(row["step"], pytest.approx(row["reward"])) for row in undisturbed]
        assert kept(place.folder / "swanlog", last=1) == [(curve, "RUN_STATE_FINISHED")]


# Law: whatever SwanLab does stays with it. What stands in for it writes in the run's folder, where it is started.
OBEDIENT = """
import ctypes, json, os, sys, time
def login(**kwargs): pass
def init(mode, **kwargs): globals()["mode"] = mode
def log(row, step):
    with open(f"{mode}.txt", "a") as file: file.write(f"{step} ")
def finish(**kwargs): pass
"""
SPOILT = {  # what is spoilt, and how the sentence ends
    "log raises": ("def log(row, step): raise ConnectionError('x')", r"log failed \(ConnectionError\)"),
    "init asks": ("def init(**kwargs): input('key? ')", r"init failed \(EOFError\)"),
    "init leaves": ("def init(**kwargs): os._exit(0)", r"init failed \(exit code 0\)"),
    "log is killed": ("def log(row, step): os.kill(os.getpid(), 9)", r"log failed \(exit code -9\)"),
}
HANGS = {  # of the two that hang in `finish`, a busy machine ends the second before it comes so far
    "log": ("def log(row, step): open('offline.txt', 'w').write('3 '), time.sleep(1000)", r"log failed"),
    "finish": ("def finish(**kwargs): time.sleep(1000)", r"(log|finish) failed"),
    "every thread": ("def finish(**kwargs): ctypes.PyDLL(None).sleep(1000)", r"(log|finish) failed"),  # holds the GIL
}
posix = pytest.mark.skipif(os.name == "nt", reason="signals, forks and exit codes of a POSIX system")


@posix
@pytest.mark.parametrize("spoilt", SPOILT)
def test_what_swanlab_does_stays_with_it(spoilt, tmp_path, stand_in, capsys):
    source, fault = SPOILT[spoilt]
    stand_in(OBEDIENT + source)
    play(tmp_path, "offline")
    assert re.fullmatch(f"SwanLab ended off and metrics.jsonl is complete: {fault}\\.\n", capsys.readouterr().out)


@posix
@pytest.mark.parametrize("hanging", HANGS)
def test_a_call_that_hangs_is_ended_with_the_training(hanging, tmp_path, stand_in, monkeypatch, capsys):
    monkeypatch.setattr(swanlab.Follower, "end_s", 1.0)
    source, call = HANGS[hanging]
    stand_in(OBEDIENT + source)
    pid = play(tmp_path, "offline", end=lambda f: (await_text(tmp_path / "offline.txt", "3 "), f.on_stop(None)))
    said = capsys.readouterr().out
    assert re.fullmatch(f"SwanLab ended off and metrics.jsonl is complete: {call} \\(TimeoutError\\)\\.\n", said)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@posix
def test_a_process_that_swanlab_forks_is_not_waited_for(tmp_path, stand_in, capsys):
    """It holds the pipe open on which the report comes."""
    stand_in(OBEDIENT + "def finish(**kwargs): os.fork() or (time.sleep(15), open('waited.txt', 'w'))")
    os.killpg(play(tmp_path, "offline"), 9)
    assert not (tmp_path / "waited.txt").exists() and capsys.readouterr().out == ""


def test_swanlabs_exit_hooks_are_not_run(tmp_path, stand_in, capsys):
    """They wait for its server for ever."""
    stand_in(OBEDIENT + "import atexit; atexit.register(lambda: open('hook.txt', 'w'))")
    play(tmp_path, "offline")
    assert not (tmp_path / "hook.txt").exists() and capsys.readouterr().out == ""


def test_what_swanlab_prints_is_nowhere_and_fills_no_pipe(tmp_path, stand_in, capfd):
    stand_in(OBEDIENT + "def finish(**kwargs): print('banner ' * 100_000), print('!', file=sys.stderr, flush=True)")
    play(tmp_path, "offline")
    assert capfd.readouterr() == ("", "")


def test_what_reaches_swanlab_is_the_curve_and_a_few_settings(tmp_path, stand_in, monkeypatch):
    monkeypatch.setenv("SWANLAB_API_KEY", f"key-{CANARY}")
    note = "\ndef {0}(*args, **kwargs): open('seen.txt', 'a').write(json.dumps(['{0}', args, kwargs]) + chr(10))"
    stand_in(OBEDIENT + "".join(note.format(call) for call in ("login", "init", "log", "finish")))

    def end(follower):
        with (tmp_path / "metrics.jsonl").open("a", encoding="utf8") as file:
            file.write('{"step": 4, "note": "text", "tokens": [1]}\n{"step": 5, "reward": 2.5, "note": "t"}\n{"step"')
        follower.on_stop(ValueError(CANARY))

    play(tmp_path, "online", end=end)
    run = {"project": "grpo_nb", "name": tmp_path.name, "log_dir": str(tmp_path / "swanlog")}
    assert [json.loads(line) for line in (tmp_path / "seen.txt").read_text(encoding="utf8").splitlines()] == [
        ["login", [], {"api_key": f"key-{CANARY}", "save": False}],
        ["init", [], {"mode": "online", "config": {"learning_rate": 0.5}, **run}],
        *(["log", [{"train/reward": reward}], {"step": step}] for step, reward in [*CURVE, (5, 2.5)]),
        ["finish", [], {"state": "crashed", "error": "ValueError"}],
    ]


def test_swanlab_is_told_to_be_quiet_whatever_the_environment_says(tmp_path, stand_in, monkeypatch):
    names = ("SWANLAB_INTERACTIVE", "SWANLAB_DEBUG", "SWANLAB_PROBE_GIT")
    for name in names:
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("OTHER", "is not for SwanLab")
    stand_in(OBEDIENT + "open('seen.txt', 'w').write(json.dumps([os.getcwd(), dict(os.environ)]))")
    play(tmp_path, "offline")
    place, environment = json.loads((tmp_path / "seen.txt").read_text(encoding="utf8"))
    assert Path(place) == tmp_path.resolve(), "SwanLab reads .env and swanlab.yaml where it is started"
    assert swanlab.QUIET.items() <= environment.items()
    assert [environment[name] for name in names] == ["false"] * 3
    assert "OTHER" not in environment


def test_a_torn_line_is_left_out_and_said(tmp_path, stand_in, capsys):
    stand_in(OBEDIENT)

    def tear(follower, step):
        if step == 2:
            tracking.files.append_line(tmp_path / "metrics.jsonl", '{"step": ')

    play(tmp_path, "offline", before=tear)
    assert (tmp_path / "offline.txt").read_text(encoding="utf8") == "1 2 3 "
    assert "SwanLab ended off and metrics.jsonl is complete: log failed (JSONDecodeError)" in capsys.readouterr().out


def test_offline_follows_a_failure_while_the_training_goes_on(tmp_path, stand_in, monkeypatch, capsys):
    """Online refuses, so offline starts at a later log and has every row all the same."""
    monkeypatch.setenv("SWANLAB_API_KEY", f"key-{CANARY}")
    stand_in(OBEDIENT + "def login(**kwargs): raise ValueError(kwargs['api_key'])")
    modes = []

    def before(follower, step):
        modes.append(follower.mode)
        if step == 50 and follower.mode == "online":
            follower.process.wait(60)

    play(tmp_path, "online", range(1, 101), before=before)
    assert (modes[0], modes[-1]) == ("online", "offline"), "online was left before the end"
    assert (tmp_path / "offline.txt").read_text(encoding="utf8").split() == [str(step) for step in range(1, 101)]
    said = capsys.readouterr().out
    assert said == "SwanLab ended offline and metrics.jsonl is complete: login failed (ValueError).\n"


def test_a_curve_with_gaps_online_is_kept_offline(tmp_path, host, capsys):
    """SwanLab swallows a server's refusal; it is read in SwanLab's own log."""
    host("refuses the curve")
    play(tmp_path, "online")
    assert kept(tmp_path / "swanlog", last=1) == [(CURVE, "RUN_STATE_FINISHED")]
    said = capsys.readouterr().out
    assert said == ("SwanLab ended offline and metrics.jsonl is complete: delivery failed (see SwanLab's debug.log).\n")


def test_no_process_no_swanlab(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    play(tmp_path, "offline")
    said = capsys.readouterr().out
    assert said == "SwanLab ended off and metrics.jsonl is complete: start failed (FileNotFoundError).\n"


def test_all_patience_together_is_below_twenty_seconds():
    assert 0 < swanlab.Follower.online_s < swanlab.Follower.end_s < 20


ALONE = """
import sys
from pathlib import Path
from grpo_nb.runs import swanlab
swanlab.{limit} = 0.2
swanlab.follow(Path(sys.argv[1]), "offline")
"""
LIMITS = {
    "a start that takes too long, in the middle of the training": ("START_S", "init", b""),
    "an end that takes longer than it may": ("LOOK_S", "finish", b'{"error": null, "seconds": 0.2}\n'),
    "an end without a trainer": ("ORPHAN_S", "finish", None),
}


@pytest.mark.parametrize("case", LIMITS)
def test_a_process_that_hangs_ends_by_itself(case, tmp_path, stand_in):
    limit, call, message = LIMITS[case]
    stand_in(OBEDIENT + f"def {call}(**kwargs): time.sleep(1000)")
    command = [sys.executable, "-c", ALONE.format(limit=limit), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    (tmp_path / "metrics.jsonl").write_text("", encoding="utf8")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        process.stdin.write(b'{"key": null, "settings": {}}\n' + (message or b""))
        process.stdin.flush()
        if message is None:
            process.stdin.close()
        try:
            assert process.wait(60) == swanlab.LATE
        finally:
            process.kill()


def test_the_report_says_each_kind_of_failure_once():
    reader, writer = os.pipe()
    report, log = swanlab.Report(writer), logging.getLogger("grpo_nb.test_swanlab")

    def fail(error):
        raise error

    for error in (OSError(CANARY), OSError(), ValueError()):
        assert report.call("log", fail, error) is None
    assert report.call("finish", lambda: 7) == 7
    log.addHandler(report)
    log.propagate = False
    log.warning("retry #1")
    log.error("POST -> 403")
    with pytest.raises(KeyboardInterrupt):
        report.call("log", fail, KeyboardInterrupt())
    os.close(writer)
    with os.fdopen(reader) as pipe:
        lines = pipe.read().splitlines()
    assert lines == [
        *("log", "log failed (OSError)", "log failed (ValueError)", "finish"),
        "delivery failed (see SwanLab's debug.log)",
    ]
    report.say("end")  # the pipe is closed, and nothing happens


def test_the_process_imports_the_stdlib_and_swanlab_only():
    code = "import sys; old = set(sys.modules); from grpo_nb.runs import swanlab; print(*set(sys.modules) - old)"
    seen = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {name.split(".")[0] for name in seen.split()} <= {*sys.stdlib_module_names, "grpo_nb"}


# Law: runs that end otherwise, and runs after them.
@pytest.mark.parametrize(
    ("error", "state"),
    [(KeyboardInterrupt(), "RUN_STATE_ABORTED"), (ValueError(f"reward {CANARY}"), "RUN_STATE_CRASHED")],
)
def test_a_run_that_an_exception_ended_is_closed_and_the_next_one_starts(error, state, tmp_path, capsys):
    play(tmp_path / "a", "offline", end=lambda follower: follower.on_stop(error))
    play(tmp_path / "b", "offline")
    assert kept(tmp_path / "a" / "swanlog") == [(CURVE, state)]
    assert kept(tmp_path / "b" / "swanlog") == [(CURVE, "RUN_STATE_FINISHED")]
    assert capsys.readouterr().out == ""


def test_a_run_that_ends_twice_says_it_once(tmp_path, stand_in, capsys):
    """A later callback raises at the end of training, so the end is followed by a stop."""
    stand_in(ABSENT)
    play(tmp_path, "offline", end=lambda f: (f.on_train_end(None, None, None), f.on_stop(ValueError())))
    assert capsys.readouterr().out.count("SwanLab ended") == 1


@posix
def test_an_interrupt_of_the_notebook_is_not_for_the_process(tmp_path, stand_in):
    """Jupyter interrupts the kernel's whole process group."""
    stand_in(OBEDIENT)
    groups = []
    play(tmp_path, "offline", end=lambda f: (groups.append(os.getpgid(f.process.pid)), f.on_stop(None)))
    assert groups and os.getpgid(0) not in groups


def test_a_resumed_run_goes_on_from_its_step(tmp_path):
    play(tmp_path, "offline")
    play(tmp_path, "offline", range(3, 6))  # from a checkpoint of step 2: step 3 is taken again
    points = [(step, step / 2) for step in range(1, 6)]
    assert kept(tmp_path / "swanlog", last=1) == [(points, "RUN_STATE_FINISHED")]


def test_a_second_start_lets_the_first_process_end(tmp_path, stand_in):
    """Of a training that nobody ended: a cell that was interrupted before its first step."""
    stand_in(OBEDIENT)
    follower = swanlab.Follower(tmp_path, "offline")
    state = SimpleNamespace(is_world_process_zero=True)
    follower.on_train_begin(None, state, None)
    first = follower.process
    follower.on_train_begin(None, state, None)
    follower.on_stop(None)
    with first:
        assert first.wait(60) == 0


def test_another_process_of_the_training_starts_none(tmp_path):
    follower = swanlab.Follower(tmp_path, "offline")
    state = SimpleNamespace(global_step=0, is_world_process_zero=False)
    follower.on_train_begin(None, state, None)
    follower.on_train_end(None, state, None)
    assert follower.process is None and list(tmp_path.iterdir()) == []


LEAVER = """
import os, sys
from pathlib import Path
from tests.test_runs_swanlab import play
play(Path(sys.argv[1]), "offline", end=lambda f: print(f.process.pid, "swanlab" in sys.modules, flush=True))
{ending}
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="waits for a process that is not its child, as Linux can")
@pytest.mark.parametrize("ending", ["pass", "os.kill(os.getpid(), 9)"])
def test_a_trainer_that_leaves_without_a_word_is_neither_held_nor_outlived(ending, tmp_path):
    """The interpreter exits by itself; the process closes its run and follows."""
    command = [sys.executable, "-c", LEAVER.format(ending=ending), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    pid, is_imported = done.stdout.split()
    assert is_imported == "False", "only the process imports SwanLab"
    try:
        assert select.select([os.pidfd_open(int(pid))], [], [], 60)[0], "it lives still"
    except ProcessLookupError:
        pass  # it was quick
    assert kept(tmp_path / "swanlog") == [(CURVE, "RUN_STATE_CRASHED")]


# Law: the command by hand.
def by_hand(*arguments, cwd: Path = ROOT) -> subprocess.Popen:
    """The command, with this process's import path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def answer_of(process: subprocess.Popen) -> tuple[int, str]:
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


MODULE = ("-m", "grpo_nb.runs.swanlab")


def test_by_hand_a_finished_run_is_sent(tmp_path):
    write_metrics(tmp_path)
    (tmp_path / "trainer.lock").touch()  # as a trainer leaves it
    code, said = answer_of(by_hand(*MODULE, tmp_path))
    assert (code, said) == (0, f"SwanLab has the curve of {tmp_path}, offline, in its folder swanlog.\n")
    assert kept(tmp_path / "swanlog") == [(CURVE, "RUN_STATE_FINISHED")]


def test_by_hand_a_run_is_followed_until_its_trainer_ends(tmp_path, stand_in):
    stand_in(OBEDIENT)
    write_metrics(tmp_path)
    with filelock.FileLock(tmp_path / "trainer.lock"):
        process = by_hand(*MODULE, tmp_path)
        await_text(tmp_path / "offline.txt", "3 ")
        tracking.files.append_line(tmp_path / "metrics.jsonl", '{"step": 4, "reward": 2.0}')
        await_text(tmp_path / "offline.txt", "4 ")
        assert process.poll() is None
    assert answer_of(process)[0] == 0
    assert (tmp_path / "offline.txt").read_text(encoding="utf8") == "1 2 3 4 "


INTERRUPTIBLE = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored, also in these tests
runpy.run_module("grpo_nb.runs.swanlab", run_name="__main__")
"""


@posix
def test_by_hand_an_interrupt_closes_the_copy(tmp_path, stand_in):
    stand_in(OBEDIENT + "def finish(state, error): open('state.txt', 'w').write(state)")
    write_metrics(tmp_path)
    with filelock.FileLock(tmp_path / "trainer.lock"):
        process = by_hand("-c", INTERRUPTIBLE, tmp_path)
        await_text(tmp_path / "offline.txt", "3 ")
        process.send_signal(signal.SIGINT)
        assert answer_of(process)[0] == 0
    assert (tmp_path / "state.txt").read_text(encoding="utf8") == "aborted"


def test_by_hand_offline_follows_a_failure_and_the_status_says_it(tmp_path, stand_in, monkeypatch):
    monkeypatch.delenv("SWANLAB_API_KEY", raising=False)
    stand_in(OBEDIENT)
    write_metrics(tmp_path)
    code, said = answer_of(by_hand(*MODULE, tmp_path, "--mode", "online"))
    reason = "login failed (no SWANLAB_API_KEY among the secrets)"
    assert (code, said) == (1, f"SwanLab ended offline and metrics.jsonl is complete: {reason}.\n")
    assert (tmp_path / "offline.txt").read_text(encoding="utf8") == "1 2 3 "


@pytest.mark.parametrize("what", ["nothing", "a folder", "a file for the run"])
def test_by_hand_a_folder_without_metrics_is_refused(what, tmp_path):
    run = tmp_path / "run"
    if what == "a folder":
        (run / "metrics.jsonl").mkdir(parents=True)
    elif what == "a file for the run":
        run.write_text("", encoding="utf8")
    code, said = answer_of(by_hand(*MODULE, run))
    assert code == 2 and f"a run's folder must hold a metrics.jsonl to read (got {run})" in said


def test_by_hand_a_lock_that_cannot_be_opened_does_not_hold_the_curve_back(tmp_path, stand_in):
    """Another user's, or a folder: whether the run trains cannot be seen."""
    stand_in(OBEDIENT)
    write_metrics(tmp_path)
    (tmp_path / "trainer.lock").mkdir()
    code, said = answer_of(by_hand(*MODULE, tmp_path))
    assert (code, said.splitlines()) == (
        0,
        [
            f"Whether {tmp_path} trains cannot be seen (another user's?): its curve is sent as it is now.",
            f"SwanLab has the curve of {tmp_path}, offline, in its folder swanlog.",
        ],
    )
    assert (tmp_path / "offline.txt").read_text(encoding="utf8") == "1 2 3 "


@pytest.mark.parametrize("arguments", [MODULE, ("swanlab.py",)])
def test_the_library_is_imported_not_this_file(arguments, tmp_path, stand_in):
    """`python -m` puts the folder where it is started on the import path, a script its own; both hold a swanlab.py."""
    stand_in(OBEDIENT)
    write_metrics(tmp_path)
    code, said = answer_of(by_hand(*arguments, tmp_path, cwd=Path(swanlab.__file__).parent))
    assert code == 0, said
    assert (tmp_path / "offline.txt").read_text(encoding="utf8") == "1 2 3 "


# Law: secrets.
def test_no_secret_is_in_any_byte_that_a_run_writes(tmp_path, host, monkeypatch, capsys):
    home = tmp_path / "home"
    (home / ".swanlab").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    netrc = home / ".swanlab" / ".netrc"  # as `swanlab login` leaves it; SwanLab in debug mode quotes it
    netrc.write_text(
        f"machine https://api.swanlab.cn\nlogin https://swanlab.cn\npassword netrc-{CANARY}\n", encoding="utf8"
    )
    for name in ("HF_TOKEN", "MY_SECRET", "SWANLAB_DEBUG"):
        monkeypatch.setenv(name, "true" if name == "SWANLAB_DEBUG" else f"{name}-{CANARY}")
    seen = host("refuses the key")
    play(tmp_path / "outputs" / "a", "offline", end=lambda follower: follower.on_stop(ValueError(CANARY)))
    play(tmp_path / "outputs" / "b", "online")
    assert ("/api/login/api_key", f"key-{CANARY}", "") in seen, "the key was used, or this test shows nothing"
    assert len(kept(tmp_path / "outputs" / "a" / "swanlog")) == len(kept(tmp_path / "outputs" / "b" / "swanlog")) == 1
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path != netrc]
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
    assert CANARY not in "".join(capsys.readouterr())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")
def test_no_secret_is_in_a_command_line_or_an_environment(tmp_path, silence, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", CANARY)
    silence(is_open=True)
    facts = {}

    def read_facts(follower):
        for name in ("cmdline", "environ"):
            facts[name] = Path(f"/proc/{follower.process.pid}/{name}").read_bytes()
        follower.process.kill()
        follower.on_stop(None)

    play(tmp_path, "online", end=read_facts)
    assert b"grpo_nb.runs.swanlab" in facts["cmdline"] and b"SWANLAB_API_HOST" in facts["environ"]
    assert CANARY.encode() not in facts["cmdline"] + facts["environ"]


def test_a_swanlab_folder_holds_no_fact_about_its_host(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home-of-somebody"))
    play(tmp_path, "offline")
    files = [path for path in (tmp_path / "swanlog").rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    facts = (socket.gethostname(), os.getcwd(), sys.executable, "grpo_nb.runs.swanlab", "home-of-somebody")
    assert [fact for fact in facts if len(fact) > 3 and fact.encode() in content] == []
    assert b"learning_rate" in content


# Law: the key is found where its owner put it, and nobody is asked for it.
@pytest.fixture
def stores(monkeypatch):
    """Installs Colab's and Kaggle's stores; a store without the key raises, as theirs do."""
    monkeypatch.delenv("SWANLAB_API_KEY", raising=False)
    monkeypatch.setattr("builtins.input", lambda *args: pytest.fail("a question was asked"))
    monkeypatch.setattr("getpass.getpass", lambda *args: pytest.fail("a question was asked"))

    def store(contents: dict):
        def get(name):
            if name not in contents:
                raise PermissionError(name)  # stands for NotebookAccessError, SecretNotFoundError, TimeoutException
            return contents[name]

        return get

    def install(*, colab: dict | None = None, kaggle: dict | None = None):
        if colab is not None:
            userdata = SimpleNamespace(get=store(colab))
            for name, module in {"google": None, "google.colab": None, "google.colab.userdata": userdata}.items():
                monkeypatch.setitem(sys.modules, name, module or SimpleNamespace(__path__=[]))
        if kaggle is not None:
            client = SimpleNamespace(get_secret=store(kaggle))
            monkeypatch.setitem(sys.modules, "kaggle_secrets", SimpleNamespace(UserSecretsClient=lambda: client))

    return install


NAME = "SWANLAB_API_KEY"


def test_the_environment_comes_before_colab_before_kaggle(stores, monkeypatch):
    stores(kaggle={NAME: "kaggle"})
    assert swanlab.api_key() == "kaggle"
    stores(colab={NAME: "colab"})
    assert swanlab.api_key() == "colab"
    monkeypatch.setenv(NAME, "environment")
    assert swanlab.api_key() == "environment"


def test_a_store_that_refuses_or_holds_nothing_is_passed_over(stores):
    stores(colab={}, kaggle={NAME: "kaggle"})
    assert swanlab.api_key() == "kaggle"
    stores(colab={NAME: ""}, kaggle={NAME: None})
    assert swanlab.api_key() is None


def test_nowhere_is_none_without_a_question(stores):
    assert swanlab.api_key() is None


def test_pasted_white_space_is_no_part_of_a_key(stores, monkeypatch):
    monkeypatch.setenv(NAME, "  s3cret\n")
    assert swanlab.api_key() == "s3cret"
    monkeypatch.setenv(NAME, " \n")
    assert swanlab.api_key() is None


def test_nothing_is_printed(stores, monkeypatch, capfd):
    stores(colab={})
    swanlab.api_key()
    monkeypatch.setenv(NAME, "s3cret")
    swanlab.api_key()
    assert capfd.readouterr() == ("", "")
