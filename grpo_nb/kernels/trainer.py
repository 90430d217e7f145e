"""TRL's `GRPOTrainer` with the package's own loss in it, and the same numbers at a lower cost: six switches."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import trl
from trl.models.utils import unwrap_model_for_generation

from grpo_nb.kernels import dead_rows, package_loss, plug, prefix, sampler

NO_LOSS = "Change that, or pass none."
SWITCHES = ("own_loss", "linear_head", "shared_prefix", "drop_dead_rows", "cached_sampler", "bf16_sampler")


class KernelGRPOTrainer(trl.GRPOTrainer):
    """`trl.GRPOTrainer` that trains with `grpo_nb.advantages` and `grpo_nb.losses`, quicker on a small model.

    With every switch off it is that class and nothing else.

    | switch           | what it does                                       | what changes                           |
    |------------------|----------------------------------------------------|----------------------------------------|
    | `own_loss`       | advantages and loss are the package's own          | nothing: TRL's weights, bit for bit    |
    | `linear_head`    | log-probs without logits, of scored tokens alone   | rounding                               |
    | `shared_prefix`  | each distinct beginning once, no padding           | rounding                               |
    | `drop_dead_rows` | rows that cannot move the weights do not go back   | `vespo/phi_seq_mean` is of the others  |
    | `cached_sampler` | prompts read once, ended completions leave a batch | other draws from the same distribution |
    | `bf16_sampler`   | weights rounded to bfloat16 while sampling         | the policy, by a rounding; off by itself |

    Where a switch would not be exact, TRL's own way is taken; `left_to_trl()` says where and why. The first training
    step compares log-probs and gradients with TRL's.

    Args:
        *args, **kwargs: those of `trl.GRPOTrainer`.
        loss: a loss per token of your own in place of the loss type's: `f(logps, old_logps, advantages, mask,
            **settings)` → [N, T], with logps, old_logps and mask [N, T], advantages [N, 1], and the settings of the
            config that a loss reads (`epsilon`, `delta`, …). KL penalty, masks and the loss type's mean follow it.
    Raises: ValueError for a loss that cannot train (tried before the model is touched), a loss without `own_loss`,
        `shared_prefix` without `linear_head`, `bf16_sampler` without `cached_sampler`, and whatever
        `plug.check_trainer` refuses.
    """

    def __init__(
        self,
        *args,
        own_loss: bool = True,
        loss: Callable | None = None,
        linear_head: bool = True,
        shared_prefix: bool = True,
        drop_dead_rows: bool = True,
        cached_sampler: bool = True,
        bf16_sampler: bool = False,
        **kwargs,
    ):
        if shared_prefix and not linear_head:
            raise ValueError(
                "shared_prefix needs linear_head, which scores tokens wherever they stand (got shared_prefix=True, "
                "linear_head=False). Turn on both, or neither."
            )
        if bf16_sampler and not cached_sampler:
            raise ValueError(
                "bf16_sampler needs cached_sampler, whose weights it rounds (got bf16_sampler=True, "
                "cached_sampler=False). Turn on both, or leave bf16_sampler off."
            )
        if loss is not None and not own_loss:
            raise ValueError("a loss of your own needs own_loss (got own_loss=False). Turn it on, or pass no loss.")
        if own_loss:
            plug.check_version()
        if loss is not None:
            given = inspect.signature(trl.GRPOTrainer).bind(*args, **kwargs).arguments
            package_loss.check_loss(loss, given.get("args") or trl.GRPOConfig())
        super().__init__(*args, **kwargs)
        if loss is not None and (reason := package_loss.why_not(self, {})):
            raise ValueError(f"a loss of your own must be the whole loss (got a run in which {reason}). {NO_LOSS}")
        self._has_own_loss, self._loss = own_loss, loss
        self._rewards_per_function: Any = None  # until there are some: [N, K]
        own = super()._get_per_token_logps_and_entropies
        self._plug = plug.Plug(self, own, shared_prefix=shared_prefix) if linear_head else None
        self._drops_dead_rows, self._has_cached_sampler = drop_dead_rows, cached_sampler
        self._has_bf16_sampler = bf16_sampler
        self._droppers = self._plug.droppers if self._plug else prefix.droppers(self.model)

    def left_to_trl(self) -> dict[str, str]:
        """Which of the switches that are on have no effect with this model and these settings, and why."""
        reasons = {}
        if self._plug and self._plug.shared_prefix:
            backbone = plug.inner_model(self.model).base_model
            reasons["shared_prefix"] = "dropout is on" if self._droppers else prefix.why_not(backbone)
        if self._drops_dead_rows:
            reasons["drop_dead_rows"] = self._why_keep_all() or dead_rows.why_keep_all(self, {}, self._droppers)
        if self._has_own_loss:
            reasons["own_loss"] = package_loss.why_not(self, {})
        if self._has_cached_sampler:
            reasons["cached_sampler"] = self._why_not_sampler()
        if self._has_bf16_sampler:
            reasons["bf16_sampler"] = reasons["cached_sampler"] or sampler.why_not_bf16(self.model)
        return {switch: reason for switch, reason in reasons.items() if reason}

    def _get_per_token_logps_and_entropies(self, model, *args, **kwargs):
        if self._plug is None:
            return super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        return self._plug.logps_and_entropies(model, *args, **kwargs)

    def _calculate_rewards(self, *args, **kwargs):
        self._rewards_per_function = super()._calculate_rewards(*args, **kwargs)  # [N, K], of all processes
        return self._rewards_per_function

    def _generate_and_score_completions(self, inputs):
        """TRL's, with the advantages that `grpo_nb.advantages` makes of the rewards."""
        outputs = super()._generate_and_score_completions(inputs)
        if self._has_own_loss:
            group = self.num_generations if self.model.training else self.num_generations_eval
            advantages = package_loss.advantages_of(self, self._rewards_per_function, num_generations=group)
            first = self.accelerator.process_index * len(inputs)
            outputs["advantages"] = advantages[first : first + len(inputs)]
            logged = self._logs["advantages"]  # of the table of completions; the newest stand last
            for _ in range(min(len(logged), len(advantages))):
                logged.pop()
            logged.extend(advantages.tolist())
        return outputs

    def _compute_loss(self, model, inputs):
        if (
            not (self._drops_dead_rows and self.model.training) or self._why_keep_all()
        ):  # nothing goes back in evaluation
            return self._loss_of(model, inputs)
        return dead_rows.compute_loss(self, self._loss_of, model, inputs, droppers=self._droppers)

    def _why_keep_all(self) -> str | None:
        return "a loss of your own may train any row" if self._loss is not None else None

    def _loss_of(self, model, inputs):
        reason = package_loss.why_not(self, inputs) if self._has_own_loss else "own_loss is off"
        if reason and self._loss is not None:
            raise ValueError(f"a loss of your own must be the whole loss (got a batch in which {reason}). {NO_LOSS}")
        if reason:
            return super()._compute_loss(model, inputs)
        return package_loss.compute_loss(self, model, inputs, loss=self._loss)

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, **options):
        """Completions of prompts that come `num_generations` times each, as token ids; log-probs None."""
        if images or multimodal_fields or not self._has_cached_sampler or self._why_not_sampler():
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, **options)
        rounds = self._has_bf16_sampler and not sampler.why_not_bf16(self.model)
        with unwrap_model_for_generation(
            self.model_wrapped, self.accelerator, generation_kwargs=self.generation_kwargs
        ) as model:
            completions = sampler.sample(
                model,
                prompt_ids,
                generation_config=self.generation_config,
                eos_token_ids=self.eos_token_ids,
                pad_token_id=self._tokenizer.pad_token_id,
                dtype=torch.bfloat16 if rounds else None,
            )
        return completions, None

    def _why_not_sampler(self) -> str | None:
        if self.use_vllm or self.use_transformers_continuous_batching:
            return "another engine samples: use_vllm or use_transformers_continuous_batching"
        return sampler.why_not(self.model, self.generation_config, self.eos_token_ids)
