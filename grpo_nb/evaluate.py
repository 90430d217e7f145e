"""Held-out accuracy: sampled (pass@1), greedy, format; same prompts and template before and after training."""

import contextlib
import math
import random
from collections.abc import Sequence

from grpo_nb import memory
from grpo_nb.batchflow import limits
from grpo_nb.rewards import parsing


def completions(
    policy,
    tokenizer,
    rows: Sequence[dict],
    *,
    num_return_sequences: int = 1,
    max_new_tokens: int,
    greedy: bool = False,
    temperature: float = 1.0,
    batch_size: int = 256,
    seed: int = 0,
) -> list[list[str]]:
    """What the policy writes after each prompt, decoded as TRL decodes it (special tokens dropped, tags kept).

    A policy that Unsloth loaded with vLLM is sampled by it, in the pool that it has anyway; others by transformers.

    Args:
        rows: with a "prompt", messages or text.
        num_return_sequences: completions per prompt; greedy decoding makes one.
        max_new_tokens: longest completion, in tokens.
        temperature: of the sampling; top_p, top_k and min_p are off, as in training.
        batch_size: completions that transformers generates side by side; on a GPU fewer if its memory is too full.
        seed: of the sampling; the caller's random state is left as it was.
    Returns: for each row a list of completion texts.
    Raises: ValueError for a count that is none.
    """
    import torch

    limits.check_whole(max_new_tokens=max_new_tokens, num_return_sequences=num_return_sequences, batch_size=batch_size)
    limits.check_whole(seed=seed, least=0)
    texts = [row["prompt"] for row in rows]
    if not isinstance(texts[0], str):
        texts = tokenizer.apply_chat_template(texts, tokenize=False, add_generation_prompt=True)
    many = 1 if greedy else num_return_sequences
    settings = {"max_new_tokens": max_new_tokens, "temperature": 0.0 if greedy else temperature}
    with torch.no_grad(), apart(policy, seed=seed):
        if hasattr(policy, "vllm_engine"):
            ids = _by_vllm(policy, tokenizer, texts, many=many, seed=seed, **settings)
        else:
            repeated = [text for text in texts for _ in range(many)]
            whole = max(1, batch_size // many) * many  # all completions of a prompt in one batch
            ids = _by_transformers(policy, tokenizer, repeated, batch_size=whole, **settings)
    decoded = tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [decoded[i : i + many] for i in range(0, len(decoded), many)]


def _by_transformers(policy, tokenizer, texts: list[str], *, batch_size, max_new_tokens, temperature) -> list:
    """Token ids of one completion a text."""
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0, "min_p": None}
    how = sampling if temperature else {"do_sample": False}
    if policy.device.type == "cuda":
        longest = max(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"]))
        batch_size = min(batch_size, _at_once(policy, tokens=longest + max_new_tokens))
    out = []
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(
            texts[start : start + batch_size],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=False,
        ).to(policy.device)
        ids = policy.generate(
            **batch,
            **how,
            max_new_tokens=max_new_tokens,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        out += ids[:, batch["input_ids"].shape[1] :].tolist()
    return out


def _at_once(policy, *, tokens: int) -> int:
    """Completions of so many tokens, prompts included, that the card has room for now."""
    import torch

    unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()  # by torch, which keeps what it once had
    return memory.side_by_side(policy.config, tokens=tokens, free=torch.cuda.mem_get_info()[0] + unused)


def _by_vllm(policy, tokenizer, texts: list[str], *, many, max_new_tokens, temperature, seed) -> list:
    """Token ids of `many` completions a text, of the policy as it is now.

    The engine holds the base's weights alone; an adapter that is switched on goes with the requests, as trained so far.
    """
    from vllm import SamplingParams

    draws = random.Random(seed)  # vLLM counts on from a prompt's seed: equal ones would give all prompts the same noise
    sampling = [
        SamplingParams(
            n=many,
            max_tokens=max_new_tokens,
            temperature=temperature,
            top_p=1.0,
            top_k=-1,
            min_p=0.0,
            seed=draws.getrandbits(31),
        )
        for _ in texts
    ]
    prompts = [{"prompt_token_ids": ids} for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    is_adapted = hasattr(policy, "load_lora") and policy.get_model_status().enabled
    adapter = policy.load_lora("evaluation", load_tensors=True) if is_adapted else None
    found = policy.fast_generate(prompts, sampling_params=sampling, use_tqdm=False, lora_request=adapter)
    return [completion.token_ids for request in found for completion in request.outputs]


@contextlib.contextmanager
def apart(policy, *, seed: int):
    """Within it dropout is off and random numbers begin at a seed; afterwards mode and random states are as before."""
    import numpy
    import torch
    from transformers import set_seed

    states = random.getstate(), numpy.random.get_state()
    try:
        with evaluation_mode(policy), torch.random.fork_rng():
            set_seed(seed)
            yield
    finally:
        random.setstate(states[0])
        numpy.random.set_state(states[1])


@contextlib.contextmanager
def evaluation_mode(policy):
    """Within it dropout is off; afterwards the policy is in the mode that it was in."""
    was_training = policy.training
    policy.eval()
    try:
        yield
    finally:
        policy.train(was_training)


def is_correct(completion: str, answer: str) -> bool:
    """Whether a completion has the exact format and its solution equals the answer in value, as a choice, or in text.

    >>> is_correct("1+1=2<end_working_out><SOLUTION>2.0</SOLUTION>", "2")
    True
    """
    solution = parsing.solution(completion)
    return solution is not None and parsing.is_same(solution, answer)


def accuracy(
    policy,
    tokenizer,
    rows: Sequence[dict],
    *,
    max_new_tokens: int,
    num_return_sequences: int = 4,
    batch_size: int = 256,
    seed: int = 0,
) -> dict:
    """Shares of right answers and of well-formed completions on held-out rows.

    Args:
        rows: with "prompt" and "answer".
        num_return_sequences: samples per prompt at temperature 1; their mean is an unbiased estimate of pass@1.
    Returns: `sampled`, `greedy`, `format` (of the samples) in [0, 1], each with a 95 % `<key>_interval`; `prompts`,
    `samples`.
    """
    settings = {"max_new_tokens": max_new_tokens, "batch_size": batch_size, "seed": seed}
    found = shares(policy, tokenizer, rows, num_return_sequences=num_return_sequences, **settings)
    result = {"prompts": len(rows), "samples": num_return_sequences}
    for key, per_prompt in found.items():
        result[key] = sum(per_prompt) / len(per_prompt)
        result[f"{key}_interval"] = wilson_interval(result[key], len(per_prompt))
    return result


def shares(policy, tokenizer, rows: Sequence[dict], *, num_return_sequences: int, **settings) -> dict[str, list[float]]:
    """What `accuracy` is the mean of, prompt by prompt: `sampled`, `greedy` and `format` (of the samples), in [0, 1].

    Args:
        settings: `max_new_tokens`, `batch_size` and `seed`, as in `accuracy`.
    """
    sampled = completions(policy, tokenizer, rows, num_return_sequences=num_return_sequences, **settings)
    greedy = completions(policy, tokenizer, rows, greedy=True, **settings)
    return {
        "sampled": [
            sum(is_correct(c, r["answer"]) for c in group) / len(group) for group, r in zip(sampled, rows, strict=True)
        ],
        "greedy": [float(is_correct(group[0], r["answer"])) for group, r in zip(greedy, rows, strict=True)],
        "format": [sum(parsing.solution(c) is not None for c in group) / len(group) for group in sampled],
    }


def wilson_interval(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % Wilson score interval of a share out of n independent prompts; never leaves [0, 1].

    Samples of one prompt are not independent, so n counts prompts: for several samples a prompt the interval is on
    the wide side.

    See: Wilson 1927, JASA 22:209.

    >>> tuple(round(x, 3) for x in wilson_interval(0.5, 100))
    (0.404, 0.596)
    """
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))
