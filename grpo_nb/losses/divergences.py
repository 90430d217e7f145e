"""How far the policy is from the reference: three estimates of KL(πθ ‖ π_ref) from the log-probs of sampled tokens."""

from jaxtyping import Float
from torch import Tensor

from grpo_nb import shapes


@shapes.shaped
def kl_k1(logps: Float[Tensor, "*shape"], ref_logps: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """k1 = log πθ − log π_ref: unbiased for KL(πθ ‖ π_ref), of either sign. See: Schulman 2020, *Approximating KL*."""
    return logps - ref_logps


@shapes.shaped
def kl_k2(logps: Float[Tensor, "*shape"], ref_logps: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """k2 = ½ (log πθ − log π_ref)²: never negative, biased, right to second order."""
    return (logps - ref_logps) ** 2 / 2


@shapes.shaped
def kl_k3(logps: Float[Tensor, "*shape"], ref_logps: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """k3 = r − log r − 1 with r = π_ref / πθ: unbiased and never negative; GRPO's.

    >>> from torch import tensor
    >>> kl_k3(tensor([-1.0]), tensor([-1.0]))
    tensor([0.])
    """
    return (ref_logps - logps).exp() - (ref_logps - logps) - 1
