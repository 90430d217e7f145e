"""TRL's `GRPOTrainer` with the same numbers at a lower cost: four switches, each of which can be turned off."""

import trl
from trl.models.utils import unwrap_model_for_generation

from grpo_nb.kernels import dead_rows, plug, prefix, sampler


class KernelGRPOTrainer(trl.GRPOTrainer):
    """`trl.GRPOTrainer`, quicker on a small model; with every switch off it is that class and nothing else.

    | switch           | what it does                                       | what changes                           |
    |------------------|----------------------------------------------------|----------------------------------------|
    | `linear_head`    | log-probs without logits, of scored tokens alone   | rounding                               |
    | `shared_prefix`  | each distinct beginning once, no padding           | rounding                               |
    | `drop_dead_rows` | rows that cannot move the weights do not go back   | `vespo/phi_seq_mean` is of the others  |
    | `cached_sampler` | prompts read once, ended completions leave a batch | other draws from the same distribution |

    Where a switch would not be exact, TRL's own way is taken; `left_to_trl()` says where and why. The first training
    step compares log-probs and gradients with TRL's.

    Args:
        *args, **kwargs: those of `trl.GRPOTrainer`.
    Raises: ValueError for `shared_prefix` without `linear_head`, and whatever `plug.check_trainer` refuses.
    """

    def __init__(
        self,
        *args,
        linear_head: bool = True,
        shared_prefix: bool = True,
        drop_dead_rows: bool = True,
        cached_sampler: bool = True,
        **kwargs,
    ):
        if shared_prefix and not linear_head:
            raise ValueError(
                "shared_prefix needs linear_head, which scores tokens wherever they stand (got shared_prefix=True, "
                "linear_head=False). Turn on both, or neither."
            )
        super().__init__(*args, **kwargs)
        own = super()._get_per_token_logps_and_entropies
        self._plug = plug.Plug(self, own, shared_prefix=shared_prefix) if linear_head else None
        self._drops_dead_rows, self._has_cached_sampler = drop_dead_rows, cached_sampler
        self._droppers = self._plug.droppers if self._plug else prefix.droppers(self.model)

    def left_to_trl(self) -> dict[str, str]:
        """Which of the switches that are on have no effect with this model and these settings, and why."""
        reasons = {}
        if self._plug and self._plug.shared_prefix:
            backbone = plug.inner_model(self.model).base_model
            reasons["shared_prefix"] = "dropout is on" if self._droppers else prefix.why_not(backbone)
        if self._drops_dead_rows:
            reasons["drop_dead_rows"] = dead_rows.why_keep_all(self, {}, self._droppers)
        if self._has_cached_sampler:
            reasons["cached_sampler"] = self._why_not_sampler()
        return {switch: reason for switch, reason in reasons.items() if reason}

    def _get_per_token_logps_and_entropies(self, model, *args, **kwargs):
        if self._plug is None:
            return super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        return self._plug.logps_and_entropies(model, *args, **kwargs)

    def _compute_loss(self, model, inputs):
        if not self._drops_dead_rows:
            return super()._compute_loss(model, inputs)
        return dead_rows.compute_loss(self, super()._compute_loss, model, inputs, droppers=self._droppers)

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, **options):
        """Completions of prompts that come `num_generations` times each, as token ids; log-probs None."""
        if images or multimodal_fields or not self._has_cached_sampler or self._why_not_sampler():
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, **options)
        with unwrap_model_for_generation(
            self.model_wrapped, self.accelerator, generation_kwargs=self.generation_kwargs
        ) as model:
            completions = sampler.sample(
                model,
                prompt_ids,
                generation_config=self.generation_config,
                eos_token_ids=self.eos_token_ids,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        return completions, None

    def _why_not_sampler(self) -> str | None:
        if self.use_vllm or self.use_transformers_continuous_batching:
            return "another engine samples: use_vllm or use_transformers_continuous_batching"
        return sampler.why_not(self.model, self.generation_config, self.eos_token_ids)
