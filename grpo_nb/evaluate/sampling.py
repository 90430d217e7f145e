"""What a policy writes after a prompt: many completions side by side, or one answer while somebody waits for it."""

import contextlib
import random
from collections.abc import Mapping, Sequence

from grpo_nb import memory
from grpo_nb.batchflow import limits
from grpo_nb.rewards import contract

ANSWER_BEGINS = {"add_generation_prompt": True}


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
    Raises: ValueError for a count that is none, and for what is no prompt.
    """
    limits.check_whole(max_new_tokens=max_new_tokens, num_return_sequences=num_return_sequences, batch_size=batch_size)
    limits.check_whole(seed=seed, least=0)
    many = 1 if greedy else num_return_sequences
    settings = {"max_new_tokens": max_new_tokens, "temperature": 0.0 if greedy else temperature, "seed": seed}
    ids = token_ids(policy, tokenizer, prompt_texts(tokenizer, rows), many=many, batch_size=batch_size, **settings)
    decoded = tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [decoded[i : i + many] for i in range(0, len(decoded), many)]


def stream(
    policy,
    tokenizer,
    prompt: str | list[dict],
    *,
    max_new_tokens: int,
    greedy: bool = True,
    temperature: float = 1.0,
    seed: int = 0,
) -> str:
    """Print one answer while it is written, word by word, and return it.

    What is printed is untrusted: control and direction-changing characters are made visible, as in `plots.visible`, so
    that no answer moves the cursor or hides a line. What is returned is the answer as it is. vLLM answers at once.

    Args:
        prompt, max_new_tokens, temperature, seed: as in `completions`, for one prompt.
        greedy: the likeliest token each time; else one is drawn.
    See: transformers, `TextStreamer`.
    """
    from transformers import TextStreamer

    from grpo_nb import plots

    class Visible(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False):
            super().on_finalized_text(plots.visible(text), stream_end)

    limits.check_whole(max_new_tokens=max_new_tokens)
    limits.check_whole(seed=seed, least=0)
    texts = prompt_texts(tokenizer, [{"prompt": prompt}])
    printer = Visible(tokenizer, skip_prompt=True, skip_special_tokens=True)
    settings = {"max_new_tokens": max_new_tokens, "temperature": 0.0 if greedy else temperature, "seed": seed}
    ids = token_ids(policy, tokenizer, texts, many=1, batch_size=1, streamer=printer, **settings)
    return tokenizer.batch_decode(ids, skip_special_tokens=True)[0]


def prompt_texts(tokenizer, rows: Sequence[dict]) -> list[str]:
    """The prompts as the policy reads them: messages through the tokenizer's chat template, text as it is.

    Raises: ValueError without rows, or for a prompt that is neither.
    """
    if not len(rows):
        raise ValueError("there must be a prompt to answer (got no rows). Hand over at least one row.")
    prompts = [row["prompt"] for row in rows]
    for prompt in prompts:
        is_chat = isinstance(prompt, list) and prompt and all(isinstance(turn, Mapping) for turn in prompt)
        if not (is_chat or isinstance(prompt, str)):
            raise ValueError(
                f"a prompt must be text or a list of messages (got {contract.shown(prompt)}). "
                'Try [{"role": "user", "content": "What is 7 + 5?"}].'
            )
    return [
        prompt if isinstance(prompt, str) else tokenizer.apply_chat_template(prompt, tokenize=False, **ANSWER_BEGINS)
        for prompt in prompts
    ]


def token_ids(
    policy, tokenizer, texts: list[str], *, many: int, max_new_tokens, temperature, batch_size, seed, streamer=None
) -> list[list[int]]:
    """Token ids of `many` completions a text, perhaps with padding behind the eos.

    Args:
        texts: from `prompt_texts`.
        temperature: 0 is greedy.
        streamer: gets the tokens of a single completion as they come.
    """
    import torch

    with torch.no_grad(), apart(policy, seed=seed):
        if hasattr(policy, "vllm_engine"):
            ids = _by_vllm(
                policy, tokenizer, texts, many=many, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
            )
            if streamer is not None:
                streamer.on_finalized_text(tokenizer.decode(ids[0], skip_special_tokens=True), stream_end=True)
            return ids
        repeated = [text for text in texts for _ in range(many)]
        whole = max(1, batch_size // many) * many  # all completions of a prompt in one batch
        settings = {"max_new_tokens": max_new_tokens, "temperature": temperature, "streamer": streamer}
        return _by_transformers(policy, tokenizer, repeated, batch_size=whole, **settings)


def _by_transformers(policy, tokenizer, texts: list[str], *, batch_size, max_new_tokens, temperature, streamer) -> list:
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
            streamer=streamer,
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
