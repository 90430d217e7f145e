"""The head's engines against float64 autograd through full logits, which they never build."""

import itertools
import math

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from grpo_nb import kernels, losses

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-3}
SMALL = 0.0005  # MiB: tiles of a few rows and columns, so that every loop runs more than once


def full_logps(hidden, weight, targets, *, bias=None, temperature=1.0, softcap=None, logit_scale=1.0):
    """(log-probs, entropy) by way of all logits."""
    logits = functional.linear(hidden, weight, bias) * logit_scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logps = functional.log_softmax(logits / temperature, -1)
    return logps.gather(-1, targets.unsqueeze(-1)).squeeze(-1), -(logps.exp() * logps).sum(-1)


class Case:
    """A ragged batch in float64, its options, and what autograd through full logits makes of them."""

    def __init__(self, *, trains=False, off_policy=True, head=None, lengths=(5, 3, 1), seed=0, **options):
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        n, t, h, v = len(lengths), max(lengths), 8, 37
        self.hidden, self.weight, self.bias = normal(n, t, h), normal(v, h), normal(v)
        self.ids = torch.randint(0, v, (n, t), generator=generator)
        self.mask = (torch.arange(t) < torch.tensor(lengths).unsqueeze(1)).double()
        self.advantages = torch.tensor([1.0, -0.5, 0.0][:n], dtype=torch.float64)
        self.head = {"temperature": 0.9, "softcap": None, "logit_scale": 1.3} if head is None else head
        self.trains, self.options = trains, options
        logps, _ = full_logps(self.hidden, self.weight, self.ids, bias=self.bias, **self.head)
        if off_policy:
            options.setdefault("old_logps", logps + 0.3 * normal(n, t))
        if options.get("beta"):
            options["ref_logps"] = logps + 0.3 * normal(n, t)

    def leaves(self, dtype=torch.float64):
        """Fresh hidden, weight and bias; the last two need a gradient if the head trains."""
        hidden, weight, bias = (x.to(dtype, copy=True) for x in (self.hidden, self.weight, self.bias))
        return hidden.requires_grad_(), weight.requires_grad_(self.trains), bias.requires_grad_(self.trains)

    def expected(self, leaves=None):
        """(loss, gradients) through full logits in float64."""
        leaves = (
            self.leaves() if leaves is None else [x.double().detach().requires_grad_(x.requires_grad) for x in leaves]
        )
        logps, entropies = full_logps(*leaves[:2], self.ids, bias=leaves[2], **self.head)
        loss = losses.grpo_loss(logps, self.advantages, self.mask, entropies=entropies, **self.options).loss
        loss.backward()
        return loss.detach(), [x.grad for x in leaves if x.requires_grad]

    def ours(self, leaves=None, **settings):
        """(result, gradients) of `linear_grpo_loss`."""
        hidden, weight, bias = self.leaves() if leaves is None else leaves
        settings = {"tile_mib": SMALL, **self.head, **self.options, **settings}
        result = kernels.linear_grpo_loss(hidden, weight, self.ids, self.advantages, self.mask, bias=bias, **settings)
        result.loss.backward()
        return result, [x.grad for x in (hidden, weight, bias) if x.requires_grad]


def distance(ours, theirs):
    """‖ours − theirs‖ / ‖theirs‖."""
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm().clamp(min=1e-9))


def assert_equal(case, tolerance=1e-12, **settings):
    (loss, expected), (result, grads) = case.expected(), case.ours(**settings)
    assert abs(float(result.loss.detach() - loss)) <= tolerance * max(1.0, abs(float(loss)))
    for ours, theirs in zip(grads, expected, strict=True):
        assert distance(ours, theirs) <= tolerance
    return result


# Golden: p = (3/4, 1/4), for z = (log 3, 0); one hidden number, so the direction dlogp/dh of token 0 is (1 − 3/4) · 1.


def test_two_tokens_by_hand():
    hidden = torch.tensor([[math.log(3)]], dtype=torch.float64, requires_grad=True)
    result = kernels.linear_logps(hidden, torch.tensor([[1.0], [0.0]], dtype=torch.float64), torch.tensor([0]))
    result.logps.sum().backward()
    assert result.logps.item() == pytest.approx(math.log(3 / 4), abs=1e-15)
    assert result.entropy.item() == pytest.approx(-(3 / 4) * math.log(3 / 4) - (1 / 4) * math.log(1 / 4), abs=1e-15)
    assert hidden.grad.item() == pytest.approx(1 / 4, abs=1e-15)


# Laws


@pytest.mark.parametrize("engine", ["direction", "fused"])
@pytest.mark.parametrize("tile_mib", [0.00001, 0.001, 1.0])
def test_the_size_of_a_tile_changes_nothing(engine, tile_mib):
    assert_equal(Case(trains=True), engine=engine, tile_mib=tile_mib)


@pytest.mark.parametrize("engine", ["direction", "fused"])
def test_a_batch_without_a_live_token_has_a_differentiable_zero(engine):
    result, grads = Case(trains=True, lengths=(1, 1)).ours(engine=engine)
    assert result.loss != 0
    case = Case(trains=True, lengths=(3, 2))
    case.mask = torch.zeros_like(case.mask)
    result, grads = case.ours(engine=engine)
    assert result.loss == 0 and all(not grad.any() for grad in grads)


@pytest.mark.parametrize("trains", [False, True])
def test_one_token(trains):
    assert_equal(Case(lengths=(1,), trains=trains))


def test_padding_may_hold_any_id():
    case = Case(trains=True)
    expected = case.expected()[1]
    case.ids = torch.where(case.mask == 0, -100, case.ids)
    for engine in ("direction", "fused"):
        for ours, theirs in zip(case.ours(engine=engine)[1], expected, strict=True):
            assert distance(ours, theirs) <= 1e-12


def test_rows_that_are_not_kept_are_zero_without_a_gradient():
    case = Case()
    hidden, targets = case.hidden.flatten(0, 1).requires_grad_(), case.ids.flatten()
    keep = torch.arange(len(targets)) % 3 == 1
    result = kernels.linear_logps(hidden, case.weight, targets, keep=keep)
    result.logps.sum().backward()
    every = kernels.linear_logps(hidden.detach(), case.weight, targets)
    assert torch.equal(result.logps, torch.where(keep, every.logps, 0.0))
    assert torch.equal(result.entropy, torch.where(keep, every.entropy, 0.0))
    assert not hidden.grad[~keep].any() and hidden.grad[keep].any(1).all()


def test_rows_whose_coefficient_is_zero_are_left_out_of_the_gradient():
    """A = 0 for the third completion (1 token); with ratios of e³ and A > 0 the first (5) is clipped as well."""
    case = Case(off_policy=False, trains=True)
    assert assert_equal(case).skipped == 1
    logps, _ = full_logps(case.hidden, case.weight, case.ids, bias=case.bias, **case.head)
    case.options["old_logps"] = logps - 3.0
    assert assert_equal(case).skipped == 5 + 1


def test_a_token_that_is_nearly_certain_keeps_its_gradient():
    """At a lead of 30 nats 1 − p is e⁻³⁰, which float32's 1 − softmax calls 0."""
    hidden = torch.tensor([[30.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [0.0]])
    kernels.linear_logps(hidden, weight, torch.tensor([0])).logps.sum().backward()
    assert hidden.grad.item() == pytest.approx(math.exp(-30), rel=1e-5, abs=0)
    full_logps(plain := torch.tensor([[30.0]], requires_grad=True), weight, torch.tensor([0]))[0].sum().backward()
    assert plain.grad.item() == 0.0


def test_logits_of_any_size_stay_finite():
    weight = torch.tensor([[60.0, -60.0], [-60.0, -61.0], [0.0, -60.5], [59.0, -62.0]])
    hidden = torch.tensor([[1.0, 0], [-1.0, 0], [1e4, 0], [0, 100.0]], requires_grad=True)
    targets = torch.tensor([1, 0, 2, 0])
    result = kernels.linear_logps(hidden, weight, targets, entropy="grad", tile_mib=SMALL)
    expected, entropy = full_logps(hidden.double(), weight.double(), targets)
    assert torch.allclose(result.logps.double(), expected, rtol=1e-6)
    assert torch.allclose(result.entropy.double(), entropy, atol=1e-5)
    (result.logps + result.entropy).sum().backward()
    assert hidden.grad.isfinite().all()


def test_a_vocabulary_of_one_leaves_no_choice():
    hidden = torch.randn(2, 3, requires_grad=True)
    result = kernels.linear_logps(hidden, torch.randn(1, 3), torch.zeros(2, dtype=torch.long))
    result.logps.sum().backward()
    assert torch.equal(result.logps, torch.zeros(2)) and torch.equal(result.entropy, torch.zeros(2))
    assert not hidden.grad.any()


def test_a_bias_of_minus_infinity_forbids_a_token():
    case = Case(head={})
    case.bias[5] = -math.inf
    case.ids[case.ids == 5] = 6
    flat = [case.hidden.flatten(0, 1), case.weight, case.ids.flatten()]
    result = kernels.linear_logps(*flat, bias=case.bias)
    allowed = torch.arange(37) != 5
    logps = functional.log_softmax(functional.linear(flat[0], case.weight, case.bias), 1)
    entropy = -(logps.exp() * logps)[:, allowed].sum(1)
    assert torch.allclose(result.logps, logps.gather(1, flat[2].unsqueeze(1)).squeeze(1), atol=1e-12)
    assert torch.allclose(result.entropy, entropy, atol=1e-12)


class Largest(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize("engine", ["direction", "fused", "full"])
def test_the_logits_never_exist(engine):
    n, h, v = 64, 4, 512
    hidden, weight = torch.randn(1, n, h, requires_grad=True), torch.randn(v, h)
    ids, advantages, mask = torch.zeros(1, n, dtype=torch.long), torch.ones(1), torch.ones(1, n)
    with Largest() as largest:
        if engine == "full":
            losses.grpo_loss(full_logps(hidden, weight, ids)[0], advantages, mask).loss.backward()
        else:
            kernels.linear_grpo_loss(
                hidden, weight, ids, advantages, mask, engine=engine, tile_mib=8 * v * 4 / 2**20
            ).loss.backward()
    assert (largest.elements >= n * v) == (engine == "full")
    assert engine == "full" or largest.elements <= 8 * v


# Oracle: float64 autograd through full logits


@pytest.mark.parametrize("loss_type", losses.LOSS_TYPES)
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_every_loss_in_value_and_gradient(loss_type, level):
    engines = set()
    for off_policy, beta, delta, trains, bonus in itertools.product([0, 1], [0.0, 0.04], [None, 1.4], [0, 1], [0, 0.1]):
        options = {"importance_sampling_level": level, "beta": beta, "delta": delta, "entropy_coef": bonus}
        case = Case(loss_type=loss_type, off_policy=bool(off_policy), trains=bool(trains), **options)
        engines.add(assert_equal(case).engine)
    assert engines == ({"direction"} if level == "sequence" or loss_type == "vespo" else {"direction", "fused"})


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"top_entropy_quantile": 0.4},
        {"top_entropy_quantile": 0.4, "entropy_coef": 0.1},
        {"off_policy_mask_threshold": 0.05},
        *(
            {"vllm_importance_sampling_mode": f"{at}_{how}"}
            for at in ("token", "sequence")
            for how in ("mask", "truncate")
        ),
        {"num_items_in_batch": 23.0, "gradient_accumulation_steps": 2, "steps_per_generation": 4},
        {"loss_type": "dr_grpo", "max_completion_length": 7, "gradient_accumulation_steps": 3, "entropy_coef": 0.2},
        {"loss_type": "grpo", "beta": 0.1, "use_bias_correction_kl": False, "epsilon_high": 0.3},
    ],
    ids=str,
)
def test_the_other_options(options, trains):
    case = Case(trains=trains, **options)
    if "vllm_importance_sampling_mode" in options:
        case.options["sampling_logps"] = case.options["old_logps"] + 0.2 * case.hidden[..., 0]
        case.options["vllm_importance_sampling_clip_max"] = 1.1
    assert_equal(case)


@pytest.mark.parametrize("engine", ["direction", "fused"])
@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize(
    "head",
    [{}, {"temperature": 0.5}, {"softcap": 3.0}, {"softcap": 2.0, "temperature": 1.7, "logit_scale": 0.3}],
    ids=str,
)
def test_what_a_model_does_to_its_logits(head, trains, engine):
    assert_equal(Case(head=head, trains=trains, entropy_coef=0.1), engine=engine)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("engine", ["direction", "fused"])
@pytest.mark.parametrize("trains", [False, True])
def test_lower_precision(dtype, engine, trains):
    """Inputs rounded to the dtype; logits, sums and gradients of the sums are float32."""
    case = Case(trains=trains, beta=0.04)
    leaves = case.leaves(dtype)
    expected = case.expected(leaves)[1]
    result, grads = case.ours(leaves, engine=engine)
    assert result.logps.dtype == torch.float32
    for ours, theirs in zip(grads, expected, strict=True):
        assert ours.dtype == dtype
        assert distance(ours, theirs) <= TOLERANCE[dtype]


@pytest.mark.parametrize("engine", ["direction", "fused"])
def test_small_gradients_survive_float16s_loss_scale(engine):
    """A loss over 163,840 tokens, before it is scaled by 65,536, has gradients below float16's least number."""
    case = Case(trains=True, num_items_in_batch=163_840.0)
    leaves = case.leaves(torch.float16)
    expected = case.expected(leaves)[1]
    settings = {"tile_mib": SMALL, "engine": engine, **case.head, **case.options}
    loss = kernels.linear_grpo_loss(
        *leaves[:2], case.ids, case.advantages, case.mask, bias=leaves[2], inplace_hidden=False, **settings
    ).loss
    (loss * 65_536).backward()
    for leaf, theirs in zip(leaves, expected, strict=True):
        assert distance(leaf.grad, 65_536 * theirs) <= 2e-3


def test_hidden_states_and_a_head_of_another_precision_meet_in_the_wider_one():
    case = Case()
    hidden, weight = case.hidden.flatten(0, 1).to(torch.bfloat16), case.weight.float()
    found = kernels.linear_logps(hidden, weight, case.ids.flatten()).logps
    assert torch.allclose(
        found.double(), full_logps(hidden.double(), weight.double(), case.ids.flatten())[0], atol=1e-5
    )


@pytest.mark.parametrize("engine", ["direction", "fused"])
def test_autocast_rounds_the_products_inputs_only(engine):
    case = Case(trains=True)
    leaves = case.leaves(torch.float32)
    rounded = [x.to(torch.bfloat16).float().detach().requires_grad_() for x in leaves[:2]]
    expected = case.expected([*rounded, leaves[2]])[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result, grads = case.ours(leaves, engine=engine)
    assert result.logps.dtype == grads[0].dtype == torch.float32
    for ours, theirs, unrounded in zip(grads, expected, case.expected()[1], strict=True):
        assert distance(ours, theirs) <= 1e-5 < distance(ours, unrounded)


def test_the_entropys_gradient():
    case = Case(trains=True)
    ours, theirs = case.leaves(), case.leaves()
    weights = torch.randn(15, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for leaves, function in ((ours, kernels.linear_logps), (theirs, full_logps)):
        extra = {"entropy": "grad", "tile_mib": SMALL} if function is kernels.linear_logps else {}
        logps, entropy = function(leaves[0].flatten(0, 1), leaves[1], case.ids.flatten(), bias=leaves[2], **extra)
        (logps * weights + entropy * weights.flip(0)).sum().backward()
    assert all(distance(a.grad, b.grad) <= 1e-12 for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("engine", ["direction", "fused"])
@pytest.mark.parametrize("trains", [False, True])
def test_gradients_written_over_the_hidden_states(engine, trains):
    """Behind a norm, whose backward needs its input and not its output, as in every decoder."""
    case, grads = Case(trains=trains), []
    for inplace in (False, True):
        leaves, norm = case.leaves(), torch.nn.RMSNorm(8, dtype=torch.float64)
        hidden = norm(leaves[0])
        before = hidden.detach().clone()
        kernels.linear_grpo_loss(
            *(hidden, leaves[1], case.ids, case.advantages, case.mask),
            **{"engine": engine, "inplace_hidden": inplace, "tile_mib": SMALL, **case.options},
        ).loss.backward()
        is_kept = not inplace or (trains and engine == "direction")  # the logits are computed again from it
        assert torch.equal(before, hidden) == is_kept
        grads.append([leaves[0].grad, norm.weight.grad, *([leaves[1].grad] if trains else [])])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_a_loss_is_scaled_from_outside():
    case = Case(trains=True)
    for engine in ("direction", "fused"):
        leaves = case.leaves()
        kernels.linear_grpo_loss(
            *leaves[:2],
            case.ids,
            case.advantages,
            case.mask,
            bias=leaves[2],
            engine=engine,
            **case.head,
            **case.options,
        ).loss.mul(-3).backward()
        for leaf, theirs in zip(leaves, case.expected()[1], strict=True):
            assert distance(leaf.grad, -3 * theirs) <= 1e-12


def test_the_parts_are_those_of_the_loss():
    case = Case(loss_type="grpo", beta=0.1, trains=True)
    logps, entropies = full_logps(case.hidden, case.weight, case.ids, bias=case.bias, **case.head)
    parts = losses.grpo_loss(logps, case.advantages, case.mask, entropies=entropies, **case.options)
    for engine in ("direction", "fused"):
        result, _ = case.ours(engine=engine)
        alive = case.mask.bool()
        assert torch.allclose(result.logps, logps * case.mask) and torch.allclose(
            result.entropies, entropies * case.mask
        )
        assert torch.allclose(result.parts.ratio[alive], parts.ratio[alive])
        assert torch.allclose(result.parts.kl[alive], parts.kl[alive])
        assert torch.equal(result.parts.clipped[alive], parts.clipped[alive])
        assert torch.equal(result.parts.weights, parts.weights)
        assert not result.parts.loss.requires_grad and not result.logps.requires_grad


def test_a_bias_may_train_beside_a_frozen_weight():
    case = Case()
    grads = []
    for function in (kernels.linear_logps, full_logps):
        bias = case.bias.clone().requires_grad_()
        function(case.hidden.flatten(0, 1), case.weight, case.ids.flatten(), bias=bias)[0].sum().backward()
        grads.append(bias.grad)
    assert distance(*grads) <= 1e-12


def test_an_entropy_that_is_a_metric_has_no_gradient():
    case = Case(trains=True)
    for trains in (False, True):
        leaves = [case.hidden[0].clone().requires_grad_(), case.weight.clone().requires_grad_(trains)]
        result = kernels.linear_logps(*leaves, case.ids[0])
        assert result.logps.requires_grad and not result.entropy.requires_grad
    assert kernels.linear_logps(*leaves, case.ids[0], entropy="none").entropy is None


@pytest.mark.parametrize("trains", [False, True])
def test_a_mask_by_sequence_is_not_one_by_token(trains):
    """The second completion drifted by −0.03 on average and stays below 0.05; its first token, by 0.1, would not."""
    case = Case(trains=trains, off_policy_mask_threshold=0.05)
    logps, _ = full_logps(case.hidden, case.weight, case.ids, bias=case.bias, **case.head)
    case.options["old_logps"] = logps + torch.tensor([[0.0] * 5, [0.1, -0.1, -0.1, 0, 0], [0.0] * 5])
    assert_equal(case)


def test_without_gradients_none_are_computed():
    case = Case(trains=True)
    with torch.no_grad():
        for engine in ("direction", "fused"):
            result = kernels.linear_grpo_loss(
                *case.leaves()[:2], case.ids, case.advantages, case.mask, engine=engine, **case.options
            )
            assert not result.loss.requires_grad and result.skipped == 0


# Refusals


@pytest.mark.parametrize("engine", ["direction", "fused"])
def test_a_second_backward_is_refused(engine):
    case = Case()
    leaves = case.leaves()
    loss = kernels.linear_grpo_loss(
        *leaves[:2], case.ids, case.advantages, case.mask, engine=engine, **case.options
    ).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        loss.backward()


@pytest.mark.parametrize("engine", ["direction", "fused"])
@pytest.mark.parametrize("trains", [False, True])
def test_a_gradient_of_the_gradient_is_refused(engine, trains):
    case = Case(trains=trains)
    leaves = case.leaves()
    result = kernels.linear_grpo_loss(*leaves[:2], case.ids, case.advantages, case.mask, engine=engine, **case.options)
    (grad,) = torch.autograd.grad(result.loss, leaves[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|does not require grad"):
        grad.square().sum().backward()


def test_a_view_of_a_leaf_is_not_written_over():
    leaf = torch.randn(2, 5, 8, requires_grad=True)
    with pytest.raises(ValueError, match="or a view of one"):
        kernels.linear_logps(leaf[0], torch.randn(37, 8), torch.zeros(5, dtype=torch.long), inplace_hidden=True)


@pytest.mark.parametrize(
    "change, match",
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": math.inf}, "temperature must be above 0 and, like logit_scale, finite"),
        ({"logit_scale": math.nan}, "temperature must be above 0 and, like logit_scale, finite"),
        ({"tile_mib": 0}, "tile_mib must be above 0"),
        ({"temperature": math.nan}, "temperature must be above 0"),
        ({"softcap": 0.0}, "softcap must be above 0"),
        ({"backend": "cuda"}, "backend must be 'auto', 'torch' or 'triton'"),
        ({"engine": "flash"}, "engine must be 'direction', 'fused' or None"),
        ({"loss_type": "ppo"}, "loss_type must be one of"),
        ({"engine": "fused", "loss_type": "vespo"}, "sum over tokens.*vespo"),
        ({"engine": "fused", "importance_sampling_level": "sequence"}, "sum over tokens.*sequence"),
        ({"beta": 0.1, "ref_logps": None}, "must come with ref_logps"),
        ({"old_logps": torch.zeros(3, 4)}, "old_logps must be of shape"),
        ({"inplace_hidden": True}, "a leaf that needs a gradient"),
    ],
    ids=str,
)
@pytest.mark.parametrize("trains", [False, True])
def test_refusals(change, match, trains):
    case = Case(trains=trains)
    case.options.update(change)
    with pytest.raises(ValueError, match=match):
        case.ours()


def test_options_are_refused_before_hidden_states_are_written_over():
    case = Case()
    hidden = case.leaves()[0] * 1.0
    before = hidden.detach().clone()
    with pytest.raises(ValueError, match="old_logps"):
        kernels.linear_grpo_loss(
            *(hidden, case.weight, case.ids, case.advantages, case.mask),
            old_logps=torch.zeros(1, 1),
            inplace_hidden=True,
        )
    assert torch.equal(hidden, before)


@pytest.mark.parametrize("engine", ["direction", "fused"])
def test_a_token_outside_the_vocabulary_is_refused(engine):
    case = Case()
    case.ids[0, 0] = 37
    with pytest.raises(ValueError, match="tokens of the vocabulary, 0 … 36"):
        case.ours(engine=engine)


def test_entropies_are_computed_here_and_not_given():
    case = Case()
    with pytest.raises(TypeError, match="entropies"):
        case.ours(entropies=case.mask)
    with pytest.raises(ValueError, match="entropy must be one of"):
        kernels.linear_logps(case.hidden[0], case.weight, case.ids[0], entropy="all")
