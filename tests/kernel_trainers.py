"""Tiny models of several architectures, TRL trainers on them, and micro-batches as TRL makes them."""

import contextlib
import functools

import torch
import transformers
import trl

from grpo_nb import data, models
from grpo_nb.kernels import dead_rows, plug

V, T = 320, 7
EXACT = 1e-12 if trl.__version__ == "1.14.2" else 2e-6  # 1.16 computes the head of a float64 model in float32
SIZES = {"vocab_size": V, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
GROUPED = {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 64}
# What each adds: grouped heads, tied · a head of its own · a bias · a softcap, sliding layers · a factor · a divisor ·
# learned positions · a window · experts · one matrix for queries, keys and values.
ARCHITECTURES = {
    "Qwen3": {**GROUPED, "head_dim": 8, "tie_word_embeddings": True},
    "Llama": GROUPED,
    "Phi": GROUPED,
    "Gemma2": {**GROUPED, "head_dim": 8, "final_logit_softcapping": 0.5, "query_pre_attn_scalar": 8},
    "Cohere": {**GROUPED, "logit_scale": 0.0625, "eos_token_id": 1},
    "Granite": {**GROUPED, "logits_scaling": 0.25},
    "GPT2": {"vocab_size": V, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    | dict.fromkeys(["resid_pdrop", "embd_pdrop", "attn_pdrop"], 0.0),
    "Mistral": GROUPED,
    "Mixtral": GROUPED,
    "GPTNeoX": {**SIZES, "max_position_embeddings": 64},
}
# Angles that a batch's longest row moves for every row: beyond a length that a micro-batch's 13 columns exceed.
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 11}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 11,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
}


@functools.cache
def rows_and_tokenizer():
    rows, _ = data.addition(num_train=32, num_held_out=0, digits=2)
    return data.grpo_rows(rows, system_prompt="Add."), models.tiny_tokenizer(rows, system_prompt="Add.", vocab_size=V)


def tiny_model(name: str = "Qwen3", *, dtype=torch.float32, **changes):
    """A model with random weights large enough that its predictions differ from place to place."""
    config = getattr(transformers, f"{name}Config")(**ARCHITECTURES[name] | changes)
    tokenizer = rows_and_tokenizer()[1]
    config.pad_token_id, config.bos_token_id, config.eos_token_id = tokenizer.pad_token_id, None, tokenizer.eos_token_id
    kind = {"GPT2": "GPT2LMHeadModel"}.get(name, f"{name}ForCausalLM")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, kind)(config)
        for parameter in model.parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=0.3)
            else:
                parameter.data += 0.1 * torch.randn_like(parameter)
    return model.to(dtype)


def with_lora(model, *, adapters: int = 1, **changes):
    """The model with an adapter whose every part has a gradient."""
    import peft

    config = peft.LoraConfig(task_type="CAUSAL_LM", **{"r": 4, "target_modules": "all-linear"} | changes)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = peft.get_peft_model(model, config)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    return model


def reference_of(model):
    """A model prepared as a trainer prepares its reference; TRL 1.16 scores with no other."""
    if trl.__version__ != "1.14.2":
        from trl.trainer.utils import add_fused_lm_head

        add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    return model.eval()


def variety(completions, **columns) -> list[float]:
    """Whether a completion has more than four different characters: groups are often all equal in it."""
    return [float(len(set(completion[0]["content"])) > 4) for completion in completions]


def trainer_of(model, folder, *, kind=trl.GRPOTrainer, switches=None, **changes):
    """A `trl.GRPOTrainer` or its heir on the tiny task."""
    rows, tokenizer = rows_and_tokenizer()
    import datasets

    settings = dict(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        logging_steps=1,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=T,
        max_steps=3,
        learning_rate=1e-2,
    )
    trainer = kind(
        model=model,
        args=trl.GRPOConfig(**settings | changes),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        reward_funcs=[variety],
        **(switches or {}),
    )
    trainer.current_gradient_accumulation_steps = 1  # set by .train(), read by the loss
    return trainer


def micro_batch(*, groups: int = 3, size: int = 4, seed: int = 0, ragged: bool = True) -> dict[str, torch.Tensor]:
    """What `_compute_loss` gets: rows of a group apart from each other, prompts padded left, completions right.

    Some completions of a group begin alike, and some are the same.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, longest = groups * size, 6
    group = torch.arange(rows) % groups
    spans = torch.randint(2 if ragged else longest, longest + 1, (groups, 1), generator=generator)[group]
    lengths = torch.randint(1, T + 1, (rows, 1), generator=generator)
    prompts = torch.randint(3, V, (groups, longest), generator=generator)[group]
    prompt_mask = (torch.arange(longest) >= longest - spans).long()
    completions = torch.randint(3, V, (rows, T), generator=generator)
    completions[groups : 2 * groups, :3] = completions[:groups, :3]
    completions[-groups:], lengths[-groups:] = completions[:groups], lengths[:groups]
    completion_mask = (torch.arange(T) < lengths).int()
    return {
        "prompt_ids": torch.where(prompt_mask.bool(), prompts, 2),
        "prompt_mask": prompt_mask,
        "completion_ids": torch.where(completion_mask.bool(), completions, 2),
        "completion_mask": completion_mask,
        "advantages": torch.randn(rows, generator=generator),
        "num_items_in_batch": completion_mask.sum().float(),
    }


def ids_of(inputs: dict) -> tuple[torch.Tensor, torch.Tensor, int]:
    """The arguments that TRL makes of a micro-batch for its log-probs."""
    pairs = [("prompt_ids", "completion_ids"), ("prompt_mask", "completion_mask")]
    ids, mask = (torch.cat([inputs[a], inputs[b]], dim=1) for a, b in pairs)
    return ids, mask, inputs["completion_ids"].shape[1]


def gradients(loss: torch.Tensor, model) -> dict[str, torch.Tensor]:
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(named, found, strict=True))


def distance(ours: dict, theirs: dict) -> float:
    """The largest ‖ours − theirs‖ of a tensor, relative to the largest gradient of one."""
    largest = max(value.norm().item() for value in theirs.values())
    return max((ours[name] - theirs[name]).norm().item() for name in theirs) / largest


@contextlib.contextmanager
def linear_head(trainer, *, shared_prefix: bool = False, drop_dead_rows: bool = False):
    """Inside, a stock `trl.GRPOTrainer` takes its log-probs from our head; afterwards it is as it was."""
    head = plug.Plug(trainer, trainer._get_per_token_logps_and_entropies, shared_prefix=shared_prefix)
    replaced = {"_get_per_token_logps_and_entropies": head.logps_and_entropies}
    if drop_dead_rows:
        own = trainer._compute_loss
        replaced["_compute_loss"] = functools.partial(dead_rows.compute_loss, trainer, own, droppers=head.droppers)
    before = {name: trainer.__dict__[name] for name in replaced if name in trainer.__dict__}
    trainer.__dict__.update(replaced)
    try:
        yield trainer
    finally:
        for name in replaced:
            del trainer.__dict__[name]
        trainer.__dict__.update(before)
        head.close()
