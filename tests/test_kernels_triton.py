"""The Triton kernels: compiled on a machine with an NVIDIA card, on others interpreted, and compiled for one there."""

import doctest
import json
import math
import os
import subprocess
import sys

import pytest
import torch

from grpo_nb import kernels
from tests.test_kernels import TOLERANCE, Case, Largest, distance, full_logps

pytest.importorskip("triton", reason="Triton is for Linux")

from grpo_nb.kernels import forward_triton, heads, passes, rows, rows_triton  # noqa: E402
from grpo_nb.kernels.rows import Logit, Running, Scores  # noqa: E402

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LOGITS = [Logit(), Logit(0.7), Logit(0.7, softcap=30.0, logit_scale=2.0)]
WIDTHS = (2100, 52, 2048)  # of three tiles, in blocks of 2048: with a ragged end, less than one, exactly one
GAP = 5  # columns of the buffer between a row of the tile and the next


def raw_products(dtype):
    """[n, ΣWIDTHS] and targets: the first column, the last of a tile, the first of the next, the last, an outlier."""
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(5, sum(WIDTHS), generator=generator, dtype=torch.float64)
    x[1, 7], x[4, 2100] = 60.0, 60.0
    x[:, 2049] = rows.LOWEST  # a token that a bias of −inf forbids
    return x.to(DEVICE, dtype), torch.tensor([0, 2099, 2100, sum(WIDTHS) - 1, 2100], device=DEVICE)


def through(module, x, targets, logit, *, full):
    """Everything that a module's three functions write, in a dictionary."""
    running, seen, start = Running.start(len(x), x), {}, 0
    c, heat = torch.linspace(-1, 2, len(x), device=DEVICE), torch.linspace(1, -1, len(x), device=DEVICE)
    for width in WIDTHS:
        buffer = torch.full((len(x), width + GAP), 7.0, dtype=x.dtype, device=DEVICE)
        tile = buffer[:, :width].copy_(x[:, start : start + width])
        shrink = module.fold(tile, targets, start, running, logit, moment=full)
        seen |= {f"shrink {start}": shrink, f"folded {start}": buffer}
        start += width
    scored, start = rows.scores(running), 0
    for width in WIDTHS:
        buffer = torch.full((len(x), width + GAP), 7.0, dtype=x.dtype, device=DEVICE)
        tile = buffer[:, :width].copy_(x[:, start : start + width])
        module.exponentials(tile, targets, start, running, logit)
        seen[f"exponentials {start}"] = buffer.clone()
        module.gradient(tile, targets, start, running, logit, scored, c, heat if full else None)
        seen[f"gradient {start}"] = buffer
        start += width
    return seen | vars(running) | (scored._asdict() if full else {"logps": scored.logps, "rest": scored.rest})


def on_device(case):
    """The case with its tensors where the kernels run."""

    def moved(value):
        return value.to(DEVICE) if isinstance(value, torch.Tensor) else value

    vars(case).update({name: moved(value) for name, value in vars(case).items()})
    case.options = {name: moved(value) for name, value in case.options.items()}
    return case


# Oracle: `rows`, which is in torch


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("logit", LOGITS, ids=["plain", "temperature", "softcap"])
@pytest.mark.parametrize("full", [True, False], ids=["entropy", "no entropy"])
def test_the_functions_of_a_row_are_those_in_torch(dtype, logit, full):
    x, targets = raw_products(dtype)
    ours, theirs = through(rows_triton, x, targets, logit, full=full), through(rows, x, targets, logit, full=full)
    for name, expected in theirs.items():
        assert ours[name].dtype == dtype
        error = (ours[name] - expected).abs() / expected.abs().clamp(min=1.0)
        assert error.max() <= {torch.float32: 1e-5, torch.float64: 1e-13}[dtype], name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("engine", ["direction", "fused"])
@pytest.mark.parametrize("trains", [False, True])
def test_a_loss_is_that_of_float64_autograd(dtype, engine, trains):
    softcap = 3.0 if dtype == torch.float64 else None
    head = {"temperature": 0.9, "softcap": softcap, "logit_scale": 1.3}
    case = on_device(Case(trains=trains, beta=0.04, entropy_coef=0.1 * trains, head=head))
    leaves = [x.detach().requires_grad_(x.requires_grad) for x in case.leaves(dtype)]
    loss, expected = case.expected(leaves)
    result, grads = case.ours(leaves, engine=engine, backend="triton", tile_mib=0.002)
    assert abs(float(result.loss.detach() - loss)) <= min(TOLERANCE[dtype], 1e-5)
    for ours, theirs in zip(grads, expected, strict=True):
        assert distance(ours, theirs) <= TOLERANCE[dtype]


@pytest.mark.parametrize(
    "n, dtype, logit",
    [
        *((130, torch.float32, logit) for logit in LOGITS),
        (1, torch.float32, LOGITS[1]),
        (130, torch.float16, LOGITS[1]),
        (130, torch.bfloat16, LOGITS[2]),
    ],
    ids=str,
)
def test_log_probs_without_a_gradient(n, dtype, logit):
    """More rows than a block and fewer; blocks of the vocabulary and of the hidden states have a ragged end."""
    generator = torch.Generator().manual_seed(n)
    hidden, weight = (torch.randn(size, 40, generator=generator).to(DEVICE, dtype) for size in (n, 300))
    bias, targets = torch.randn(300, generator=generator).to(DEVICE), torch.randint(300, (n,), generator=generator)
    bias[17], targets[targets == 17] = -math.inf, 299
    keep, targets = torch.arange(n, device=DEVICE) % 3 != 1, targets.to(DEVICE)
    with torch.no_grad():
        settings = {"bias": bias, "keep": keep, **logit._asdict()}
        ours = kernels.linear_logps(hidden, weight, targets, backend="triton", **settings)
        double = {**settings, "bias": bias.double()}
        theirs = kernels.linear_logps(hidden.double(), weight.double(), targets, backend="torch", **double)
    assert ours.logps.dtype == torch.float32
    assert ((ours.logps - theirs.logps) / theirs.logps.abs().clamp(min=1.0)).abs().max() <= 1e-5
    assert (ours.entropy - theirs.entropy).abs().max() <= 1e-5


def test_autocast_rounds_before_the_product():
    hidden, weight = torch.randn(9, 40, device=DEVICE), torch.randn(70, 40, device=DEVICE)
    targets = torch.arange(9, device=DEVICE)
    with torch.no_grad(), torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        ours = kernels.linear_logps(hidden, weight, targets, backend="triton").logps
    rounded = [x.to(torch.bfloat16).double() for x in (hidden, weight)]
    assert distance(ours, full_logps(*rounded, targets)[0]) <= 1e-5
    assert distance(ours, full_logps(hidden.double(), weight.double(), targets)[0]) > 1e-5


# Laws


def test_sums_over_parts_of_the_vocabulary_are_merged():
    x, targets = raw_products(torch.float64)
    whole, parts = Running.start(len(x), x), []
    rows.fold(x.clone(), targets, 0, whole, Logit(), moment=True)
    for start, end in heads.spans(x.shape[1], 1500):
        parts.append(Running.start(len(x), x))
        rows.fold(x[:, start:end].clone(), targets, start, parts[-1], Logit(), moment=True)
    merged = forward_triton.merged(
        Running(*(torch.stack([vars(part)[name] for part in parts]) for name in vars(whole)))
    )
    for name, expected in vars(whole).items():
        assert torch.allclose(vars(merged)[name], expected, rtol=1e-13, atol=1e-13)


def test_a_forward_pass_has_no_tile():
    hidden, weight = torch.randn(200, 8, device=DEVICE), torch.randn(300, 8, device=DEVICE)
    for backend, has_tile in (("triton", False), ("torch", True)):
        with torch.no_grad(), Largest() as largest:
            kernels.linear_logps(hidden, weight, torch.arange(200, device=DEVICE), backend=backend, tile_mib=100)
        assert (largest.elements >= 200 * 300) == has_tile


@pytest.mark.parametrize("softcap", [None, 30.0])
def test_what_is_not_a_number_stays_none(softcap):
    """It must reach the loss, where somebody sees it."""
    hidden, weight = torch.randn(3, 4, device=DEVICE), torch.randn(9, 4, device=DEVICE)
    hidden[1, 2] = math.nan
    targets = torch.arange(3, device=DEVICE)
    for needs_grad in (False, True):
        leaf = hidden.clone().requires_grad_(needs_grad)
        result = kernels.linear_logps(leaf, weight, targets, softcap=softcap, backend="triton")
        assert result.logps.isnan().tolist() == [False, True, False]
        if needs_grad:
            result.logps.sum().backward()
            assert leaf.grad.isnan().any(1).tolist() == [False, True, False]


def test_a_vocabulary_of_one_leaves_no_choice():
    for needs_grad in (False, True):
        hidden = torch.randn(2, 3, device=DEVICE, requires_grad=needs_grad)
        weight, targets = torch.randn(1, 3, device=DEVICE), torch.zeros(2, dtype=torch.long, device=DEVICE)
        result = kernels.linear_logps(hidden, weight, targets, backend="triton")
        assert not result.logps.any() and not result.entropy.any()


def test_no_rows_are_no_work():
    hidden, weight = torch.randn(2, 3, device=DEVICE, requires_grad=True), torch.randn(9, 3, device=DEVICE)
    targets = torch.zeros(2, dtype=torch.long, device=DEVICE)
    for needs_grad in (False, True):
        with torch.set_grad_enabled(needs_grad):
            result = kernels.linear_logps(hidden, weight, targets, keep=targets != 0, backend="triton")
        assert not result.logps.any() and not result.entropy.any()
    tile, none = torch.empty(0, 9, device=DEVICE), torch.empty(0, device=DEVICE)
    running = Running.start(0, tile)
    rows_triton.gradient(tile, targets[:0], 0, running, Logit(), Scores(none, none, none), none)


def test_a_cpu_is_left_to_torch():
    assert passes.row_functions("auto", torch.device("cpu")) is rows


# On an H200: what is launched there, compiled without one


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """What `tests.triton_builds` prints."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))}
    command = [sys.executable, "-m", "tests.triton_builds"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def launches(builds, label):
    return {build["kernel"]: build for build in builds if build.get("label") == label}


def test_every_kernel_compiles_and_fits(builds):
    """In registers but for 16 bytes, in the 227 KiB that a program may share; 16 bytes a load."""
    compiled = [build for build in builds if "label" in build]
    assert {build["kernel"] for build in compiled} == {"_fold", "_exponentials", "_gradient", "_linear_scores"}
    for build in compiled:
        assert build["stack"] <= 16 and build["shared"] <= 227 * 1024 and build["wide_loads"] > 0, build


def test_only_float32_does_without_tensor_cores(builds):
    uses = {build["label"]: build["uses_tensor_cores"] for build in builds if build.get("kernel") == "_linear_scores"}
    assert uses == {label: label != "forward in float32" for label in uses} and len(uses) == 5


def test_more_rows_than_65535_and_more_cells_than_an_int32_counts(builds):
    for build in launches(builds, "rows again").values():
        assert build["grid"] == [70_001]
    products = [build["row_products"] for build in builds if "label" in build]
    assert all(kinds and all("i64" in kind for kind in kinds) for kinds in products)


def test_another_temperature_start_or_number_of_rows_compiles_nothing(builds):
    for label, count in (("rows", 3), ("forward", 1)):
        first, again = launches(builds, label), launches(builds, f"{label} again")
        assert len(first) == count and {name: build["hash"] for name, build in first.items()} == {
            name: build["hash"] for name, build in again.items()
        }


def test_float64_is_not_scaled_by_a_float32(builds):
    """A Python number is a float32 in Triton, unless it is told; the interpreter keeps it whole."""
    assert all(build["scales"] == ["f64", "f64"] for build in builds if "label" in build)


# Refusals


def test_a_cpu_without_the_interpreter_is_refused(builds):
    assert "needs tensors on an NVIDIA card (got cpu). Try backend='auto'" in builds[-1]["refusal"]


def test_triton_that_is_missing_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "grpo_nb.kernels.rows_triton")
    monkeypatch.delattr(kernels, "rows_triton")
    with pytest.raises(ImportError, match="needs the triton package .not installed.. Try backend='torch'"):
        kernels.linear_logps(torch.ones(1, 2), torch.ones(3, 2), torch.zeros(1).long(), backend="triton")
    assert passes.row_functions("auto", torch.device("cuda")) is rows


# On a card


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["direction", "fused"])
@pytest.mark.parametrize("trains", [False, True])
def test_bfloat16_on_a_card(engine, trains):
    generator = torch.Generator().manual_seed(0)
    n, t, h, v = 40, 30, 512, 32_003
    hidden, weight = (torch.randn(*size, generator=generator) for size in ((n, t, h), (v, h)))
    leaves = [hidden.to(DEVICE, torch.bfloat16), (weight * h**-0.5 * 3).to(DEVICE, torch.bfloat16)]
    ids, advantages = torch.randint(v, (n, t), generator=generator).to(DEVICE), torch.randn(n, generator=generator)
    mask = (torch.arange(t) < torch.randint(1, t + 1, (n, 1), generator=generator)).float().to(DEVICE)
    batch = (ids, advantages.to(DEVICE), mask)
    ours = [leaves[0].clone().requires_grad_(), leaves[1].clone().requires_grad_(trains)]
    kernels.linear_grpo_loss(*ours, *batch, engine=engine, backend="triton").loss.backward()
    theirs = [leaves[0].double().requires_grad_(), leaves[1].double().requires_grad_(trains)]
    kernels.linear_grpo_loss(*theirs, *batch, engine=engine, backend="torch").loss.backward()
    for a, b in zip(ours[: 1 + trains], theirs, strict=False):
        assert distance(a.grad, b.grad) <= TOLERANCE[torch.bfloat16]


@pytest.mark.gpu
def test_seventy_thousand_rows_on_a_card():
    """In one launch, in a tile of more than 2³¹ cells; and without a tile."""
    n, h, v = 70_000, 64, 40_000
    hidden, weight = torch.randn(n, h, device=DEVICE, requires_grad=True), torch.randn(v, h, device=DEVICE) / 8
    targets, whole = torch.randint(v, (n,), device=DEVICE), 8 * n * n / 2**20 + 1  # MiB: a tile is half as high as wide
    seen = []
    for settings in ({"backend": "triton", "tile_mib": whole}, {"backend": "torch"}):
        result = kernels.linear_logps(hidden, weight, targets, **settings)
        (grad,) = torch.autograd.grad(result.logps.sum(), hidden)
        seen.append((result.logps.detach(), result.entropy, grad))
    with torch.no_grad():
        alone = kernels.linear_logps(hidden, weight, targets, backend="triton")
    for ours, theirs in [*zip(*seen, strict=True), *zip(alone, seen[1][:2], strict=True)]:
        assert distance(ours, theirs) <= 1e-5


@pytest.mark.parametrize("module", [rows_triton, forward_triton], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings(module):
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted and not found.failed
