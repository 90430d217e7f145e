"""The inputs of the comparison: hidden states, a head, ragged completions, and what is exact about them in float64."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

from grpo_nb import losses

ON_POLICY, OFF_POLICY = "on-policy", "off-policy"
FROZEN, TRAINABLE = "frozen head", "trainable head"
VARIANTS = {
    "dapo": {"loss_type": "dapo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    "entropy bonus": {"loss_type": "dapo", "entropy_coef": 0.01},
}


@dataclass(frozen=True)
class Case:
    """The sizes of a batch and what is asked of it.

    Attributes:
        rows: completions.
        prompt: positions before each completion, which no loss needs.
        longest: tokens of the longest completion; the shortest has `shortest` · longest, the others lie between.
        logits: "peaked" as a trained model's (Zipf, mean entropy ≈ 0.5 nats) or "Gaussian" (nearly uniform).
        policy: on-policy: old log-probs are those of now; off-policy: they differ by 0.1 · N(0, 1).
    """

    name: str
    hidden: int
    vocabulary: int
    rows: int
    prompt: int
    longest: int
    shortest: float = 0.5
    dtype: torch.dtype = torch.bfloat16
    logits: str = "peaked"
    policy: str = ON_POLICY
    head: str = FROZEN
    variant: str = "dapo"

    @property
    def lengths(self) -> list[int]:
        """Tokens of each completion.

        >>> CPU.lengths, sum(CPU.lengths)
        ([80, 96, 112, 128], 416)
        """
        return torch.linspace(self.shortest * self.longest, self.longest, self.rows).round().int().tolist()

    @property
    def live(self) -> int:
        """Scored tokens, the N of the arithmetic."""
        return sum(self.lengths)

    @property
    def floor_flop(self) -> float:
        """Floating-point operations that no exact method can save: 4·N·H·V, with a trainable head 6·N·H·V."""
        return (6 if self.head == TRAINABLE else 4) * self.live * self.hidden * self.vocabulary

    @property
    def title(self) -> str:
        """What a reader needs to know, in one line."""
        sizes = f"{self.live:,} tokens × {self.hidden:,} × {self.vocabulary:,}"
        return f"{self.name}: {sizes}, {self.head}, {self.policy}, {self.variant}, {self.logits} logits"


CPU = Case("CPU", hidden=576, vocabulary=32_768, rows=4, prompt=128, longest=128, shortest=0.625, dtype=torch.float32)
LLAMA = {"hidden": 4096, "vocabulary": 128_256, "rows": 8}
HEADLINE = Case("A headline", **LLAMA, prompt=0, longest=20_480, shortest=1.0)
SMALL = Case("A small", **LLAMA, prompt=512, longest=683)  # 4,098 live tokens
MIDDLE = Case("A middle", **LLAMA, prompt=512, longest=2_731)  # 16,388
QWEN = Case("B", hidden=896, vocabulary=151_936, rows=8, prompt=512, longest=2_731)
GEMMA = Case("C", hidden=2304, vocabulary=262_144, rows=8, prompt=512, longest=1_365)  # 8,190
CUDA = [
    *(replace(case, head=head) for case in (HEADLINE, SMALL, MIDDLE, QWEN, GEMMA) for head in (FROZEN, TRAINABLE)),
    *(replace(MIDDLE, policy=OFF_POLICY, variant=variant) for variant in ("dapo", "gspo")),
    *(replace(MIDDLE, variant="entropy bonus", head=head) for head in (FROZEN, TRAINABLE)),
    replace(MIDDLE, logits="Gaussian"),
]


def toy(case: Case) -> Case:
    """The same question, in the same precision, at a size that a CPU answers in milliseconds."""
    sizes = {"hidden": 32, "vocabulary": 384, "rows": 4, "prompt": min(case.prompt, 6), "longest": 12}
    return replace(case, **sizes)


def subset(case: Case) -> Case:
    """The same head with 2,048 live tokens at most: what float64 autograd is asked for."""
    longest = min(case.longest, int(2048 / (case.rows * (1 + case.shortest) / 2)))
    return replace(case, longest=longest, prompt=min(case.prompt, 32))


@dataclass(frozen=True)
class Batch:
    """The tensors of one case. Position s of `hidden` predicts token s of `ids`; `mask` is 1 on the completions.

    Attributes:
        hidden: [B, S, H], a leaf that wants its gradient; `weight`: [V, H], one too if the head is trainable.
        ids, mask, old_logps: [B, S], S = prompt + longest; advantages: [B].
        exact: what float64 says, for the cases that are compared with it: `loss`, `logps`, `hidden`, `weight`.
    """

    case: Case
    hidden: Tensor
    weight: Tensor
    ids: Tensor
    mask: Tensor
    advantages: Tensor
    old_logps: Tensor | None = None
    exact: dict[str, Tensor] = field(default_factory=dict)

    def loss(self, logps: Tensor, entropies: Tensor | None = None) -> Tensor:
        """GRPO's loss, from log-probs [B, S] in the package's own words; every method that gives log-probs uses it."""
        return losses.grpo_loss(logps, self.advantages, self.mask, entropies=entropies, **self.options).loss

    @property
    def options(self) -> dict:
        """Keywords of `grpo_nb.losses.grpo_loss`."""
        return {**VARIANTS[self.case.variant], "old_logps": self.old_logps}

    @property
    def wants_entropy(self) -> bool:
        """Whether the loss has an entropy bonus, through which a gradient flows."""
        return "entropy_coef" in VARIANTS[self.case.variant]


def batch_of(case: Case, device: str, *, seed: int = 0) -> Batch:
    """Random tensors of a case, on a device.

    "peaked": z_j = h·w_j = −log(1 + j) + s·[j = f] + noise, so that without s the tokens follow Zipf's law; f is a
    favoured token, nine times of ten the one that was sampled, and s makes it from one to half a million times as
    likely as all others together: a few rows are open, most are decided.
    """
    generator = torch.Generator(device).manual_seed(seed)

    def noise(*shape):
        return torch.randn(*shape, generator=generator, device=device)

    positions = case.prompt + case.longest
    weight = noise(case.vocabulary, case.hidden) / case.hidden**0.5
    frequency = torch.arange(case.vocabulary, device=device).add(1).log()  # of a token, −log
    if case.logits == "peaked":
        weight[:, 0] = -frequency / 4
    ids = _zipf(case, positions, generator, device)
    hidden = torch.empty(case.rows, positions, case.hidden, device=device, dtype=case.dtype)
    for row in range(case.rows):  # row by row: the noise of the headline in float32 would be 2.5 GiB
        values = noise(positions, case.hidden)
        if case.logits == "peaked":
            is_other = torch.rand(positions, generator=generator, device=device) < 0.1
            favoured = torch.where(is_other, ids[row].roll(1), ids[row])
            scale = frequency[favoured] + 3 + 13 * torch.rand(positions, generator=generator, device=device)
            values = values + scale.unsqueeze(1) * weight[favoured]
            values[:, 0] = 4
        hidden[row] = values.to(case.dtype)
    places = torch.arange(positions, device=device) - case.prompt
    lengths = torch.tensor(case.lengths, device=device).unsqueeze(1)
    batch = Batch(
        case=case,
        hidden=hidden.requires_grad_(),
        weight=weight.to(case.dtype).requires_grad_(case.head == TRAINABLE),
        ids=ids,
        mask=((places >= 0) & (places < lengths)).float(),
        advantages=torch.linspace(-1, 1, case.rows, device=device),
    )
    if case.policy == ON_POLICY:
        return batch
    return replace(batch, old_logps=scored(batch) + 0.1 * noise(case.rows, positions))


def _zipf(case: Case, positions: int, generator, device: str) -> Tensor:
    """Token ids of which the r-th is drawn as often as 1/r says, [B, S]."""
    uniform = torch.rand(case.rows, positions, generator=generator, device=device)
    return (case.vocabulary**uniform - 1).long().clamp(max=case.vocabulary - 1)


@torch.no_grad()
def scored(batch: Batch, rows: int = 512) -> Tensor:
    """Log-probs [B, S] in float32, a few rows at a time; 0 off the completions."""
    kept = batch.mask.bool()
    hidden, ids = batch.hidden[kept], batch.ids[kept]
    out = batch.mask.new_zeros(batch.mask.shape)
    pieces = [
        -functional.cross_entropy(h.float() @ batch.weight.float().t(), i, reduction="none")
        for h, i in zip(hidden.split(rows), ids.split(rows), strict=True)
    ]
    return out.masked_scatter(kept, torch.cat(pieces))


def with_exact(batch: Batch) -> Batch:
    """The batch and what float64 autograd over full logits makes of it: the reference of every error."""
    hidden = batch.hidden.detach().double().requires_grad_()
    weight = batch.weight.detach().double().requires_grad_(batch.weight.requires_grad)
    kept = batch.mask.bool()
    table = functional.log_softmax(hidden[kept] @ weight.t(), dim=-1)  # [live, V]
    empty = torch.zeros(kept.shape, dtype=torch.float64, device=hidden.device)
    logps = empty.masked_scatter(kept, table.gather(1, batch.ids[kept].unsqueeze(1)))
    entropies = empty.masked_scatter(kept, -(table.exp() * table).sum(-1))
    loss = batch.loss(logps, entropies)
    leaves = {"hidden": hidden, **({"weight": weight} if weight.requires_grad else {})}
    gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    entropy = entropies.detach()[kept].mean()
    return replace(batch, exact={"loss": loss.detach(), "logps": logps.detach(), "entropy": entropy, **gradients})
