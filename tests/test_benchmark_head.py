"""The comparison of loss heads is complete and fair: all methods mean the same, and nobody's numbers are made up."""

import contextlib
import doctest
import importlib.util
import json
import math
from dataclasses import replace

import pytest
import torch

from benchmarks import peers
from benchmarks.head import __main__ as head
from benchmarks.head import cases, measure, methods, report

TOY = cases.toy(cases.CPU)
CELLS = [
    TOY,
    replace(TOY, head=cases.TRAINABLE, policy=cases.OFF_POLICY),
    replace(TOY, variant="gspo", policy=cases.OFF_POLICY),
    replace(TOY, variant="entropy bonus", head=cases.TRAINABLE),
    replace(TOY, prompt=0, logits="Gaussian"),
    replace(TOY, head=cases.TRAINABLE, dtype=torch.bfloat16),
]
ALWAYS_HERE = {"naive logits", "TRL 1.14, full logits", "TRL 1.14, chunked", "grpo_nb, direction", "grpo_nb, fused"}
NAIVE = methods.METHODS[0]


def names(rows: list[dict]) -> set[str]:
    return {row["method"] for row in rows if measure.is_able(row)}


def run(*words: str, out) -> tuple[int, dict]:
    """The command's exit status, and what it wrote."""
    status = head.main([*words, "--out", str(out)])
    return status, json.loads(out.read_text(encoding="utf8"))


# Golden


@pytest.mark.parametrize("name", ["peers", "head.cases", "head.methods", "head.measure", "head.report"])
def test_examples(name):
    assert doctest.testmod(importlib.import_module(f"benchmarks.{name}")).failed == 0


def test_the_headline_is_the_published_one():
    """20,480 tokens × 8 completions: logits and their gradient in bfloat16 are the 78.3 GiB that everybody quotes."""
    case = cases.HEADLINE
    assert case.live == 163_840
    assert f"{(2 + 2) * case.live * case.vocabulary / 2**30:.1f}" == "78.3"
    assert case.floor_flop == 4 * 163_840 * 4096 * 128_256
    assert replace(case, head=cases.TRAINABLE).floor_flop == 1.5 * case.floor_flop


def test_memory_counts_what_is_held_at_once():
    """6 MiB for a moment, then 2 + 2 MiB that stay; or 4 MiB beside all that."""

    def work():
        torch.empty(3 * 2**19)
        return torch.empty(2**19), torch.empty(2**19)

    assert measure.extra_mib(work, "cpu") == pytest.approx(6.0)
    assert measure.extra_mib(lambda: (torch.empty(2**20), work()), "cpu") == pytest.approx(10.0)


def test_the_winner_is_marked_whoever_it_is():
    rows = [
        {"method": "grpo_nb, fused", "s": 2.0, "extra_mib": 3.0, "error_hidden": 1e-7, "flop_per_s": 1e12},
        {"method": "a peer", "s": 1.0, "extra_mib": 3.04, "error_hidden": 2e-7, "flop_per_s": 2e12},
    ]
    ours, peer = report.table(rows, report.columns_of(rows, "cuda")).splitlines()[2:]
    assert ours == "| grpo_nb, fused | 2000.0 |  | 1 | **3** | **1.0e-07** |  |  |"
    assert peer == "| a peer | **1000.0** |  | **2** | **3** | 2.0e-07 |  |  |"


# Law


@pytest.mark.parametrize("logits, low, high", [("peaked", 0.2, 1.0), ("Gaussian", 0.8 * math.log(384), math.log(384))])
def test_inputs_are_what_the_case_says(logits, low, high):
    batch = cases.with_exact(cases.batch_of(replace(TOY, logits=logits, rows=8), "cpu"))
    assert batch.mask.sum(1).tolist() == batch.case.lengths
    assert batch.mask[:, : TOY.prompt].sum() == 0
    assert low < batch.exact["entropy"] < high
    assert 0 <= batch.ids.min() and batch.ids.max() < TOY.vocabulary
    assert (batch.exact["hidden"][batch.mask == 0] == 0).all(), "only scored positions have a gradient"


def test_off_policy_differs_and_on_policy_does_not():
    batch = cases.batch_of(replace(TOY, policy=cases.OFF_POLICY), "cpu")
    drift = (cases.scored(batch) - batch.old_logps)[batch.mask.bool()]
    assert 0.05 < drift.std() < 0.2
    assert cases.batch_of(TOY, "cpu").old_logps is None


def test_methods_take_turns_and_find_the_hidden_states_untouched():
    seen, start = [], cases.batch_of(TOY, "cpu").hidden.detach()

    def probe(name, spoils):
        def work(batch):
            assert torch.equal(batch.hidden, start)
            loss, logps = NAIVE.run(batch)
            if spoils:
                batch.hidden.data.zero_()
            seen.append(name)
            return loss, logps

        return methods.Method(name, work)

    rows = measure.measured(TOY, [probe("a", True), probe("b", False)], "cpu", repeats=3, warm_ups=1)
    assert "".join(seen) == "ab" + "aa" + "bb" + "ab" * 3, "errors, then warm-up and memory of each, then by turns"
    assert [row["repeats"] for row in rows] == [3, 3]
    assert all(row["s_min"] <= row["s"] for row in rows)


def test_what_breaks_stops_nobody_else(monkeypatch):
    def raising(error):
        def work(batch):
            raise error

        return work

    broken = [
        methods.Method("absent", raising(peers.Missing("no wheel"))),
        methods.Method("too large", raising(torch.OutOfMemoryError("")), full_logits=2**30),
        methods.Method("grpo_nb, broken", raising(RuntimeError("two\nlines"))),
        NAIVE,
    ]
    rows = measure.measured(TOY, broken, "cpu", repeats=1, warm_ups=0)
    assert [row.get("not run", row.get("failed")) for row in rows[:3]] == [
        "no wheel",
        f"out of memory: needs {TOY.live * TOY.vocabulary} GiB",
        "RuntimeError: two",
    ]
    assert "s" in rows[3]
    assert len(measure.wrong(rows, TOY)) == 1, "what is missing is no fault, what is ours and broken is one"
    monkeypatch.setattr(measure, "SLOW_S", 0.0)
    assert measure.measured(TOY, [NAIVE], "cpu", repeats=5, warm_ups=2)[0]["repeats"] == 1, (
        "a slow step is not repeated"
    )


# Oracle


@pytest.mark.parametrize("case", CELLS, ids=lambda case: f"{case.title.partition(', ')[2]}, {case.dtype}")
def test_every_method_that_can_be_loaded_agrees_with_float64(case):
    rows = measure.measured(case, methods.METHODS, "cpu", repeats=0, warm_ups=0)
    assert [row for row in rows if "failed" in row] == []
    expected = ALWAYS_HERE - ({"grpo_nb, fused"} if case.variant == "gspo" else set())
    assert expected <= names(rows)
    for row in rows:
        found = [row.get(f"error_{name}", 0.0) for name in ("hidden", "weight", "logps", "loss")]
        limits = (1e-5,) * 4 if case.dtype == torch.float32 else (1e-2, 1e-2, 0.1, 1e-5)
        assert all(error < limit for error, limit in zip(found, limits, strict=True)), row
    assert measure.wrong(rows, case) == []


def test_an_error_would_be_seen():
    """Ours by name, with the log-probs of the wrong token, or with a gradient that is a thousandth too long."""

    def shifted(batch):
        return methods.direction(replace(batch, ids=batch.ids.roll(1, 1)))

    def stretched(batch):
        loss, logps = methods.direction(batch)
        return loss * 1.001, logps

    wrong = [methods.Method("grpo_nb, shifted", shifted), methods.Method("grpo_nb, stretched", stretched)]
    rows = measure.measured(TOY, wrong, "cpu", repeats=0, warm_ups=0)
    assert rows[0]["error_logps"] > 1 and rows[1]["error_hidden"] == pytest.approx(1e-3, rel=0.01)
    assert [sentence.partition(":")[0] for sentence in measure.wrong(rows, TOY)] == [
        "grpo_nb, shifted",
        "grpo_nb, stretched",
    ]


# The commands


def test_the_command_for_a_cpu_measures_prints_and_draws(tmp_path, capsys):
    words = ["cpu", "--toy", "--repeats", "1", "--methods", "naive,grpo_nb", "--figure", str(tmp_path / "head.svg")]
    status, record = run(*words, out=tmp_path / "head.json")
    assert status == 0
    part = record["cpu"]
    assert [cell["title"].split(", ")[1] for cell in part["cells"]] == [cases.FROZEN, cases.TRAINABLE]
    assert all(row["s"] > 0 and row["extra_mib"] > 0 for row in part["cells"][0]["rows"])
    assert [row["method"] for row in part["sweep"]] == [method.name for method in methods.sweep(head.TILES)]
    assert part["machine"].keys() >= {"processor", "vectors", "commit", "card"} and "torch" in part["versions"]
    assert (tmp_path / "head.svg").read_text(encoding="utf8").count("grpo_nb, direction") >= 1
    assert "| × naive |" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a card")
def test_without_a_card_nothing_is_measured(tmp_path, capsys):
    status, record = run("cuda", out=tmp_path / "head.json")
    rows = [row for cell in record["cuda"]["cells"] for row in cell["rows"]]
    assert status == 0 and len(record["cuda"]["cells"]) == len(cases.CUDA)
    assert {name for row in rows for name in row} == {"method", "entropy"}, "no number anywhere"
    lines = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith(("| grpo_nb", "| naive", "| TRL"))
    ]
    assert lines and all(line.count(report.NOT_MEASURED) == 2 for line in lines)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the toy of a machine without a card")
def test_the_command_for_a_card_is_complete(tmp_path, capsys):
    """Every cell runs in bfloat16, the headline in its own process; errors are numbers, the rest "not measured"."""
    out = tmp_path / "head.json"
    toy = ["cuda", "--device", "cpu", "--toy"]
    status, first = run(*toy, "--methods", "naive", "--only", "A headline: 48 tokens × 32 × 384, frozen", out=out)
    assert status == 0 and len(first["cuda"]["cells"]) == 1
    (row,) = first["cuda"]["cells"][0]["rows"]
    assert row["method"] == "naive logits" and 1e-5 < row["error_hidden"] < 1e-2 and "s" not in row
    for letter in ("A small", "A middle", "B:", "C:"):
        status, record = run(*toy, "--methods", "naive,grpo_nb", "--only", letter, out=out)
        assert status == 0
    cells = record["cuda"]["cells"]
    assert cells[0] == first["cuda"]["cells"][0], "what --only leaves out is kept"
    assert (
        len(cells) == len({cell["title"] for cell in cells}) == len({cases.toy(case).title for case in cases.CUDA}) - 1
    )
    found = [row for cell in cells for row in cell["rows"] if measure.is_able(row)]
    assert len(found) > 50 and all("error_hidden" in row and "extra_mib" not in row for row in found)
    assert "not measured" in capsys.readouterr().out


def test_a_head_that_is_wrong_fails_the_command(tmp_path, monkeypatch, capsys):
    def wrong(batch):
        loss, logps = methods.direction(batch)
        return 2 * loss, logps

    monkeypatch.setattr(methods, "METHODS", [methods.Method("grpo_nb, doubled", wrong)])
    monkeypatch.setattr(methods, "sweep", lambda sizes: [])
    status, _ = run("cpu", "--toy", "--repeats", "1", out=tmp_path / "head.json")
    assert status == 1
    assert "must be at most 1e-05 (got 1)" in capsys.readouterr().out


# Refusal


def test_words_of_no_title_are_refused(capsys):
    with pytest.raises(SystemExit):
        head.main(["cuda", "--only", "A tiny"])
    assert "words of a title (got 'A tiny')" in capsys.readouterr().err


def test_a_toy_does_not_write_over_the_results():
    assert head.options_of(["cpu"]).out == head.RESULTS != head.options_of(["cpu", "--toy"]).out


def test_peers_do_not_look_installed():
    """TRL and transformers ask `find_spec` whether there is a Liger to patch themselves with."""
    for load in (peers.liger, peers.liger_scaled, peers.unsloth):
        with contextlib.suppress(peers.Missing):
            load()
    if not torch.cuda.is_available():
        assert not any(importlib.util.find_spec(name) for name in ("liger_kernel", "unsloth_zoo"))


def test_a_wheel_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("GRPO_NB_WHEELS", str(tmp_path))
    peers.unpacked.cache_clear()
    with pytest.raises(peers.Missing, match=r"trl-1\.16\.0.*is not in"):
        peers.unpacked("trl")


def test_a_peer_that_needs_another_library_says_which(tmp_path):
    (tmp_path / "peer.py").write_text("import a_library_that_nobody_has", encoding="utf8")
    with pytest.raises(peers.Missing, match="a_library_that_nobody_has"):
        peers._module("peer_for_a_test", tmp_path / "peer.py")
