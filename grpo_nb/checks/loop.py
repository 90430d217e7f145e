"""The five parts of a training loop, as the learner of notebook 06 writes them; `blanks` checks them.

| part         | of                                  | gives                                                    |
|--------------|-------------------------------------|----------------------------------------------------------|
| `mask`       | completions, eos                    | 1 on each completion's own tokens                        |
| `advantages` | rewards, num_generations            | how far a completion is above its group                  |
| `logps`      | logits, ids, width                  | log-prob of each sampled token of the completions        |
| `loss`       | logps, old_logps, advantages, mask  | the clipped loss, a mean over all tokens that count      |
| `step`       | loss, optimizer, parameters         | nothing: it moves the parameters                         |
"""

MAX_NORM = 1.0  # TRL's max_grad_norm


def mask(completions, eos: int):
    """1 up to the first end token of a completion, that one included, 0 behind it; 1 throughout without one, [N, T].

    Args:
        completions: token ids, [N, T].
        eos: id of the end token.
    See: `GRPOTrainer._generate_single_turn`.

    >>> import torch
    >>> mask(torch.tensor([[5, 9, 0], [5, 6, 7]]), eos=9)
    tensor([[1, 1, 0],
            [1, 1, 1]])
    """
    ends = (completions == eos).long()
    return (ends.cumsum(1) - ends == 0).long()


def advantages(rewards, num_generations: int):
    """`advantages.group_advantages` of a flat batch, group after group, [N]."""
    from grpo_nb import advantages

    return advantages.group_advantages(rewards.view(-1, num_generations)).flatten()


def logps(logits, ids, width: int):
    """log π of each token of the completions: what the place before it says of it, [N, T].

    Args:
        logits: of every place, [N, L + T, V].
        ids: prompts and completions, [N, L + T].
        width: L, places of a prompt, padding included.
    See: `GRPOTrainer._get_per_token_logps_and_entropies`.
    """
    return logits[:, width - 1 : -1].log_softmax(-1).gather(-1, ids[:, width:, None]).squeeze(-1)


def loss(logps, old_logps, advantages, mask, epsilon: float = 0.2):
    """`losses.grpo_loss` of type dapo: the mean over all tokens of the batch that count."""
    from grpo_nb import losses

    return losses.grpo_loss(logps, advantages, mask, old_logps=old_logps, epsilon=epsilon, loss_type="dapo").loss


def step(loss, optimizer, parameters: list) -> None:
    """One step against the gradient of the loss, of which all parameters together have a length of at most 1.

    See: `transformers.Trainer._run_epoch`.
    """
    import torch

    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
    optimizer.step()


def has_ended(ids, eos: int):
    """1 for a completion that has an end token, [N, 1]."""
    return (ids == eos).any(1, keepdim=True).int()
