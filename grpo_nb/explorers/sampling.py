"""What do temperature, top-p, top-k, min-p and the repetition penalty leave of a policy's next-token distribution?

TRL divides the logits by the temperature when it samples and again when it scores what was sampled; the other four
change the sampling alone. So a truncated sampler draws from another distribution than the one that is trained.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, PercentFormatter
from torch import Tensor

from grpo_nb import evaluate, plots
from grpo_nb.explorers.panel import Number, Panel

SHOWN = 10  # tokens with a bar of their own
FONT = "DejaVu Sans Mono"  # comes with matplotlib
LONGEST = 20  # characters of a token that are shown


@dataclass(frozen=True)
class Shares:
    """A next-token distribution as the loss sees it and as the sampler draws from it.

    Attributes:
        scored: softmax(logits / temperature), [V]: what the log-probs of the loss are taken from.
        drawn: what `generate` samples from, [V].
        rows: (text, scored, drawn, is_cut) of the likeliest tokens, and last of all others together.
        drawable: how many of the V tokens can still be drawn.
        moved: share of the probability that lies on other tokens in `drawn` than in `scored`, in [0, 1].
        entropy: of `scored` and of `drawn`, in nats.
        temperature: by which both are divided.
    """

    scored: Tensor
    drawn: Tensor
    rows: list[tuple[str, float, float, bool]]
    drawable: int
    moved: float
    entropy: tuple[float, float]
    temperature: float


def compute(
    logits: Tensor,
    context_ids: Sequence[int],
    token_texts: Sequence[str],
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
) -> Shares:
    """The distribution before and after the sampling settings.

    Args:
        logits: of the next token, [V].
        context_ids: prompt and completion so far; the repetition penalty falls on the tokens among them.
        token_texts: of all V tokens; shown with every character visible.
        top_k, min_p: 0 for off.
    Raises: ValueError for a setting out of its range, in transformers' words.
    """
    settings = (temperature, top_p, top_k, min_p, repetition_penalty)
    scores = sampler_scores(logits.float(), context_ids, *settings)
    drawn, is_cut = scores.softmax(0), scores.isinf()
    scored = (logits.float() / temperature).softmax(0)
    likeliest = torch.maximum(scored, drawn).argsort(descending=True, stable=True)[:SHOWN]
    likeliest = likeliest[scored[likeliest].argsort(descending=True, stable=True)].tolist()
    rows = [(label(i, token_texts[i]), float(scored[i]), float(drawn[i]), bool(is_cut[i])) for i in likeliest]
    others = torch.ones(len(scored), dtype=torch.bool)
    others[likeliest] = False
    if others.any():
        shares = float(scored[others].sum()), float(drawn[others].sum())
        rows.append((f"{int(others.sum())} others", *shares, bool(is_cut[others].all())))
    return Shares(
        scored,
        drawn,
        rows,
        drawable=int((~is_cut).sum()),
        moved=float((drawn - scored).abs().sum() / 2),
        entropy=(float(torch.special.entr(scored).sum()), float(torch.special.entr(drawn).sum())),
        temperature=temperature,
    )


def sampler_scores(logits: Tensor, context_ids, temperature, top_p, top_k, min_p, repetition_penalty) -> Tensor:
    """Logits as `generate` changes them before its softmax, [V]; −inf for a token that cannot be drawn.

    See: transformers' `GenerationMixin._get_logits_processor`, whose order this keeps: penalty, temperature, top-k,
    top-p, min-p.
    """
    from transformers.generation import logits_process as steps

    chain = steps.LogitsProcessorList([steps.RepetitionPenaltyLogitsProcessor(float(repetition_penalty))])
    chain.append(steps.TemperatureLogitsWarper(float(temperature)))
    if top_k:
        chain.append(steps.TopKLogitsWarper(top_k))
    if top_p != 1:
        chain.append(steps.TopPLogitsWarper(top_p))
    if min_p:
        chain.append(steps.MinPLogitsWarper(min_p))
    return chain(torch.as_tensor(context_ids).reshape(1, -1), logits.unsqueeze(0)).squeeze(0)


def label(token: int, text: str) -> str:
    """A token's text with every character visible in `FONT`; its number if it is a byte of a character or has no text.

    >>> label(7, " 12\\n"), label(7, "\\u202e\\u4e00"), label(7, "\\ufffd")
    ('␣12⏎', '⟨U+202E⟩⟨U+4E00⟩', 'token 7')
    """
    if not text or "\ufffd" in text:
        return f"token {token}"
    glyphs = font_manager.get_font(font_manager.findfont(FONT)).get_charmap()
    shown = {" ": "␣", "\n": "⏎"}
    for c in set(text) - set(shown):
        is_ordered = unicodedata.bidirectional(c) not in ("R", "AL", "AN")  # these turn what stands beside them around
        is_plain = ord(c) in glyphs and unicodedata.category(c)[0] in "LNPS" and is_ordered
        shown[c] = c if is_plain else f"⟨U+{ord(c):04X}⟩"
    whole = "".join(shown[c] for c in text)
    return whole if len(whole) <= LONGEST else whole[: LONGEST - 1] + "…"


def figure(shares: Shares, frame=plots.frame) -> Figure:
    """A pair of bars for each token, likeliest first, with both numbers beside it."""
    drawing = frame(left=0.3)
    (axes,) = drawing.axes
    places = range(len(shares.rows))
    texts, scored, drawn, is_cut = zip(*shares.rows, strict=True)
    hatched = {"color": plots.COLOURS["before"], "hatch": "////", "edgecolor": "white", "linewidth": 0}
    axes.barh([y - 0.2 for y in places], scored, 0.4, label="as the loss scores", **hatched)
    axes.barh([y + 0.2 for y in places], drawn, 0.4, label="as sampled", color=plots.COLOURS["policy"])
    for y, before, after, cut in zip(places, scored, drawn, is_cut, strict=True):
        words = f"{before:.1%} → {'cut' if cut else f'{after:.1%}'}"
        axes.annotate(words, (1.0, y), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=8)
    axes.set_yticks(places, texts, parse_math=False, family=FONT, fontsize=8)
    axes.set_ylim(len(places) - 0.4, -0.6)
    longest = max(*scored, *drawn)
    axes.set_xticks([tick for tick in AutoLocator().tick_values(0, longest) if 0 <= tick <= longest])
    axes.set_xlim(0, 1.4 * longest)  # room for the numbers
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    plots.plain(axes, xlabel="probability")
    plots.key(drawing, {"as the loss scores": axes.patches[0], "as sampled": axes.patches[len(places)]})
    return drawing


def caption(shares: Shares) -> str:
    """How far the sampler is from the policy that is trained, in words."""
    before, after = shares.entropy
    first = ", ".join(f"{text} {scored:.1%} → {drawn:.1%}" for text, scored, drawn, _ in shares.rows[:3])
    return (
        f"{shares.drawable} of {len(shares.drawn)} tokens can be drawn; likeliest, as the loss scores → as sampled: "
        f"{first}. Entropy {before:.2f} → {after:.2f} nats. TRL's loss knows the temperature ({shares.temperature:g}) "
        f"but none of the other settings: they have moved {shares.moved:.1%} of the probability away from where the "
        "policy that is trained puts it."
    )


def next_logits(policy, tokenizer, prompt: str | list[dict], begun: str = "") -> tuple[Tensor, list[int]]:
    """Logits of the token that comes next, [V], and the ids before it.

    Args:
        prompt: text of a question, or messages.
        begun: what the completion has said so far.
    """
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    ids = ids + tokenizer(begun, add_special_tokens=False)["input_ids"]
    with torch.no_grad(), evaluate.evaluation_mode(policy):
        logits = policy(input_ids=torch.tensor([ids], device=policy.device)).logits[0, -1]
    return logits.float().cpu(), ids


def explorer(policy, tokenizer, prompt: str | list[dict], begun: str = "") -> Panel:
    """Controls: the five sampling settings of `GRPOConfig`. The policy runs once, here, as in `next_logits`."""
    logits, ids = next_logits(policy, tokenizer, prompt, begun)
    token_texts = tokenizer.batch_decode([[i] for i in range(len(logits))])

    controls = {
        "temperature": Number(1.0, 0.1, 3.0, 0.1),
        "top_p": Number(1.0, 0.05, 1.0, 0.05),
        "top_k": Number(0, 0, 100, 1),
        "min_p": Number(0.0, 0.0, 1.0, 0.01),
        "repetition_penalty": Number(1.0, 0.5, 2.0, 0.05),
    }
    presets = {
        "TRL's defaults": {},
        "Qwen3 with thinking: 0.6, 0.95, 20": {"temperature": 0.6, "top_p": 0.95, "top_k": 20},
        "more variety: temperature 1.5": {"temperature": 1.5},
        "1.5, held back by min-p 0.1": {"temperature": 1.5, "min_p": 0.1},
        "repetition penalty 1.3": {"repetition_penalty": 1.3},
    }
    return Panel((partial(compute, logits, ids, token_texts), figure, caption), controls, presets)
