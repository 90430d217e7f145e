"""Whether a learner's mask, log-probs, loss and step are those of `loop`: cases, and the usual mistakes by name."""

from collections.abc import Callable

from grpo_nb.checks.exercises import exercise, judge
from grpo_nb.checks.loop import MAX_NORM, has_ended, logps, loss, mask, step


def ends() -> list[tuple]:
    """Cases of completions, in which 9, or 2, ends a completion and 0 is padding."""
    import torch

    return [
        ("ends early, or not at all", (torch.tensor([[4, 9, 0, 0], [5, 6, 7, 8]]), 9)),
        ("ends at the last place, or at the first", (torch.tensor([[4, 5, 9], [9, 0, 0]]), 9)),
        ("goes on behind its end", (torch.tensor([[4, 9, 5, 6]]), 9)),
        ("padded with the end token", (torch.tensor([[4, 9, 9, 9], [4, 5, 6, 9]]), 9)),
        ("another end token", (torch.tensor([[4, 2, 9, 0], [9, 6, 2, 0]]), 2)),
    ]


@exercise
def check_mask(your_mask):
    """Whether `your_mask` is 1 on the tokens of a completion up to its first end token, that one included.

    Args:
        your_mask: f(completions [N, T], eos) -> mask [N, T].
    See: notebook 06, blank 1.

    >>> check_mask(lambda completions, eos: completions != eos)
    check_mask: ends early, or not at all: your numbers are those of one who leaves out the end tokens and nothing else.
    With completions = [[4, 9, 0, 0], [5, 6, 7, 8]], eos = 9 it must give [[1, 1, 0, 0], [1, 1, 1, 1]] (yours: [[True,
    False, True, True], [True, True, True, True]]).
    False
    """
    import torch

    usual = {
        "counts everything": lambda ids, eos: torch.ones_like(ids),
        "leaves out the end tokens and nothing else": lambda ids, eos: (ids != eos).int(),
        "stops before the end token": lambda ids, eos: ((ids == eos).cumsum(1) == 0).int(),
        "goes on to the last end token": lambda ids, eos: ((ids == eos).flip(1).cumsum(1) > 0).flip(1).int(),
        "gives nothing to a completion that never ends": lambda ids, eos: mask(ids, eos) * has_ended(ids, eos),
        "counts every id that is no padding": lambda ids, eos: (ids != 0).int(),
        "gives one token to a completion that never ends (argmax finds none, and says 0)": lambda ids, eos: (
            torch.arange(ids.shape[1]) <= (ids == eos).int().argmax(1, keepdim=True)
        ).int(),
    }
    return judge(your_mask, ends(), right=mask, usual=usual)


@exercise
def check_logps(your_logps):
    """Whether `your_logps` is log π of each sampled token, and still carries the gradient.

    Args:
        your_logps: f(logits [N, L + T, V], ids [N, L + T], width L) -> [N, T].
    See: notebook 06, blank 3.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    cases = []
    for name, rows, width, places in [
        ("a prompt of two, a completion of two", 1, 2, 4),
        ("two rows", 2, 1, 3),
        ("one token", 2, 3, 4),
    ]:
        logits = torch.randn(rows, places, 5, generator=generator).mul(2).round(decimals=1)
        cases.append((name, (logits, torch.randint(5, (rows, places), generator=generator), width)))

    def picked(values, ids):
        return values.gather(-1, ids.unsqueeze(-1)).squeeze(-1)

    usual = {
        "asks each place for its own token, not for the next": lambda logits, ids, width: picked(
            logits[:, width:].log_softmax(-1), ids[:, width:]
        ),
        "takes the logits themselves, without the softmax": lambda logits, ids, width: picked(
            logits[:, width - 1 : -1], ids[:, width:]
        ),
        "takes the probabilities, without the logarithm": lambda *given: logps(*given).exp(),
        "normalises over the places, not over the vocabulary": lambda logits, ids, width: picked(
            logits[:, width - 1 : -1].log_softmax(1), ids[:, width:]
        ),
        "normalises over the rows, not over the vocabulary": lambda logits, ids, width: picked(
            logits[:, width - 1 : -1].log_softmax(0), ids[:, width:]
        ),
        "counts the prompt's tokens as well": lambda logits, ids, width: logps(logits, ids, 1),
        "takes the likeliest token's, not the sampled one's": lambda logits, ids, width: (
            logits[:, width - 1 : -1].log_softmax(-1).amax(-1)
        ),
        "adds the tokens up": lambda *given: logps(*given).sum(1),
        "turns the sign": lambda *given: -logps(*given),
        "loses the gradient (detach, no_grad)": lambda *given: logps(*given).detach(),
    }
    return judge(your_logps, cases, call=_with_flow, right=logps, usual=usual)


@exercise
def check_loss(your_loss):
    """Whether `your_loss` is −min(ρA, clip(ρ, 1−ε, 1+ε)A), a mean over all tokens that count, with its gradient.

    Args:
        your_loss: f(logps [N, T], old_logps [N, T], advantages [N], mask [N, T]) -> one number; ε is 0.2.
    See: notebook 06, blank 4.
    """
    import torch

    old, on_all, on_some = torch.tensor([[-1.0, -2.0], [-1.5, -0.5]]), torch.ones(2, 2), torch.tensor([[1, 1], [1, 0]])
    garbage = torch.tensor([[0.0, 0.0], [0.0, -3.0]])  # behind the end of the second completion
    good, mixed = torch.tensor([2.0, 1.0]), torch.tensor([1.0, -1.0])
    cases = [
        ("on policy", (old, old, mixed, on_some)),
        ("the second is one token long", (old + garbage, old, mixed, on_some)),
        ("good, and too likely already", (old + 0.5, old, good, on_all)),
        ("good, but less likely than before", (old - 0.5, old, good, on_all)),
        ("bad, and more likely than before", (old + 0.5, old, -good, on_all)),
        ("bad, and less likely already", (old - 0.5, old, -good, on_all)),
        ("one good, one bad", (old + torch.tensor([[0.1, -0.1], [0.3, 0.2]]), old, mixed, on_some)),
    ]

    def per_token(logps, old_logps, advantages, best=torch.min, clips=True):
        ratio = torch.exp(logps - old_logps)
        clipped = ratio.clamp(0.8, 1.2) if clips else ratio
        return -best(ratio * advantages.unsqueeze(1), clipped * advantages.unsqueeze(1))

    def mean(values, mask):
        return (values * mask).sum() / mask.sum()

    usual = {
        "forgets the minus sign, and so trains for a low reward": lambda *given: -loss(*given),
        "does not clip": lambda a, b, A, mask: mean(per_token(a, b, A, clips=False), mask),
        "clips without the min": lambda a, b, A, mask: mean(-(a - b).exp().clamp(0.8, 1.2) * A.unsqueeze(1), mask),
        "takes the max in place of the min": lambda a, b, A, mask: mean(per_token(a, b, A, torch.max), mask),
        "counts the padding": lambda a, b, A, mask: per_token(a, b, A).mean(),
        "divides by all places, padding included": lambda a, b, A, mask: (per_token(a, b, A) * mask).mean(),
        "adds up and does not divide": lambda a, b, A, mask: (per_token(a, b, A) * mask).sum(),
        "takes the mean of each completion first": lambda a, b, A, mask: (
            (per_token(a, b, A) * mask).sum(1) / mask.sum(1)
        ).mean(),
        "spreads the advantages over tokens, not completions (it lacks an unsqueeze)": lambda a, b, A, mask: mean(
            -torch.min((a - b).exp() * A, (a - b).exp().clamp(0.8, 1.2) * A), mask
        ),
        "multiplies by log π, not by the ratio": lambda a, b, A, mask: mean(-a * A.unsqueeze(1), mask),
        "takes the ratio the wrong way round": lambda a, b, A, mask: mean(per_token(b, a, A), mask),
        "forgets the exp": lambda a, b, A, mask: mean(-(a - b) * A.unsqueeze(1), mask),
        "loses the gradient (detach, item)": lambda *given: loss(*given).detach(),
    }
    return judge(your_loss, cases, call=_with_gradient, right=loss, usual=usual)


@exercise
def check_step(your_step):
    """Whether `your_step` empties the gradients, cuts the new one to a length of 1, and steps.

    Args:
        your_step: f(loss, optimizer, parameters) -> None.
    See: notebook 06, blank 5.
    """
    import torch

    cases = [
        ("one short step", ([1.0, 1.0], [[0.3, 0.4]])),
        ("two short steps", ([1.0, 1.0], [[0.3, 0.4], [0.1, -0.2]])),
        ("a gradient of length 5", ([1.0, 1.0], [[3.0, 4.0]])),
        ("three steps, the second too long", ([0.0, 2.0], [[0.5, 0.0], [-6.0, 8.0], [0.2, 0.2]])),
    ]

    def without(*left_out, clip=torch.nn.utils.clip_grad_norm_):
        def wrong(loss, optimizer, parameters):
            if "zero" not in left_out:
                optimizer.zero_grad()
            loss.backward()
            if "clip" not in left_out:
                clip(parameters, MAX_NORM)
            if "step" not in left_out:
                optimizer.step()

        return wrong

    def by_itself(loss, optimizer, parameters):
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        for parameter in parameters:
            parameter.data -= parameter.grad

    def emptied_late(loss, optimizer, parameters):
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()

    usual = {
        "does not empty the gradients, so that each step takes the earlier ones again": without("zero"),
        "does not cut the gradient, or cuts it before backward() has made it": without("clip"),
        "cuts each number of the gradient by itself": without(clip=torch.nn.utils.clip_grad_value_),
        "empties the gradients behind backward(), or never steps": emptied_late,
        "moves the parameters by itself, past the optimizer and its learning rate": by_itself,
        "goes uphill": lambda loss, *given: step(-loss, *given),
        "neither empties nor cuts": without("zero", "clip"),
    }
    return judge(your_step, cases, call=_descended, right=step, usual=usual)


def _with_flow(function: Callable, logits, ids, width: int) -> dict:
    value = function(logits.requires_grad_().clone(), ids, width)  # as a model gives them: no leaf
    return {"logps": value, "carries the gradient": getattr(value, "requires_grad", False)}


def _with_gradient(function: Callable, logps, old_logps, advantages, mask) -> dict:
    """The loss and what it sends back to each token; None where nothing can be sent back."""
    import torch

    value, gradient = function(logps.requires_grad_().clone(), old_logps, advantages, mask), None
    if isinstance(value, torch.Tensor) and value.requires_grad:
        (gradient,) = torch.autograd.grad(value.sum(), logps)
    return {"loss": value, "gradient": gradient}


def _descended(function: Callable, start: list[float], slopes: list[list[float]]) -> list[float]:
    """Where parameters end that go down one slope after another, at a learning rate of ½."""
    import torch

    parameters = [torch.nn.Parameter(torch.tensor(value)) for value in start]
    optimizer = torch.optim.SGD(parameters, lr=0.5)
    for slope in slopes:
        function(sum(p * s for p, s in zip(parameters, slope, strict=True)), optimizer, parameters)
    return [parameter.item() for parameter in parameters]
