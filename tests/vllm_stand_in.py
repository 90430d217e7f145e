"""What stands for vLLM and Unsloth's ties to it: transformers samples, from the base and the adapter of a request.

The names and arguments are vLLM's and Unsloth's; `test_gpu_path` compares them with the pinned wheels.
"""

from pathlib import Path
from types import SimpleNamespace

import torch

from grpo_nb import models


class SamplingParams(SimpleNamespace):
    """vLLM's, without its checks."""


class LoRARequest(SimpleNamespace):
    """vLLM's, with the two fields that Unsloth adds to it."""

    def __init__(self, lora_name, lora_int_id, lora_path="", lora_tensors=None, lora_config=None):
        super().__init__(lora_int_id=lora_int_id, lora_tensors=lora_tensors, lora_config=lora_config)


class Engine:
    """`vllm.LLM` with the base's weights: an adapter comes with each request, and has to be the policy's as it is then.

    `requests`: (prompts, sampling parameters, adapter's request) of each call.
    """

    def __init__(self, base):
        self.base, self.adapted, self.requests = base.eval(), None, []

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True, lora_request=None):
        self.requests.append((prompts, sampling_params, lora_request))
        policy = self.base if lora_request is None else self._with_adapter(lora_request)
        return [
            SimpleNamespace(
                outputs=[self._completion(policy, prompt["prompt_token_ids"], how, i) for i in range(how.n)]
            )
            for prompt, how in zip(prompts, sampling_params, strict=True)
        ]

    def _with_adapter(self, request):
        from peft import LoraConfig, get_peft_model, set_peft_model_state_dict  # after Unsloth

        if self.adapted is None:
            kept = ("r", "lora_alpha", "target_modules", "task_type")
            config = LoraConfig(**{key: request.lora_config[key] for key in kept})
            self.adapted = get_peft_model(models.own_copy(self.base), config).eval()
        set_peft_model_state_dict(self.adapted, request.lora_tensors)
        return self.adapted

    def _completion(self, policy, ids, how, index):
        torch.manual_seed(how.seed + index)
        sampling = {"do_sample": True, "temperature": how.temperature, "top_k": 0} if how.temperature else {}
        prompt = torch.tensor([ids])
        found = policy.generate(
            prompt, attention_mask=torch.ones_like(prompt), **sampling, max_new_tokens=how.max_tokens
        )
        return SimpleNamespace(token_ids=found[0, len(ids) :].tolist())


def give_engine(policy):
    """A policy with vLLM inside, as `FastLanguageModel.from_pretrained(fast_inference=True)` returns it."""
    policy.vllm_engine = Engine(models.own_copy(policy))
    policy.fast_generate, policy.fast_generate_batches = policy.vllm_engine.generate, None
    return policy


def give_ties(policy):
    """What Unsloth's `patch_peft_fast_inference` adds to a policy with an adapter."""
    policy.vllm_engine, policy.fast_generate = policy.model.vllm_engine, policy.model.fast_generate
    policy.load_lora = lambda *args, **kwargs: load_lora(policy, *args, **kwargs)
    return policy


def load_lora(model, save_directory, load_tensors=False, lora_request_id=None):
    """As unsloth_zoo's: the tensors as they are now, and the adapter's config written into a folder and read back."""
    assert load_tensors
    model.peft_config["default"].save_pretrained(save_directory)
    assert (Path(save_directory) / "adapter_config.json").exists()
    tensors = {k.replace(".default", ""): v for k, v in model.state_dict().items() if "lora_" in k}
    return LoRARequest("1", 1, lora_tensors=tensors, lora_config=model.peft_config["default"].to_dict())
