"""A dress rehearsal: the settings become a config, optimizer, schedule and loader, for one number in a model's place.

What TRL, transformers and torch refuse by themselves need not be known here: it is met before a model loads.
"""

import contextlib
import os
import re
import reprlib
import warnings
from collections.abc import Iterator

from grpo_nb.preflight import processes, rules


def check_taken(settings: dict, config_class: type) -> None:
    """Refuse what the libraries refuse, naming the last key without which they would not.

    Args:
        settings: keys of `config_class`, as `values` left them.
        config_class: `trl.GRPOConfig` or `SFTConfig`.
    Raises: ValueError with what the library says.
    """
    if processes.launched() > 1 or not (error := _objection(settings, config_class)):
        return  # with several, a config waits for the others
    last_first = [*reversed(settings)]  # what was added to a profile is likelier wrong
    without = ({k: v for k, v in settings.items() if k != key} for key in last_first)
    key = next((key for key, rest in zip(last_first, without, strict=True) if not _objection(rest, config_class)), None)
    said = re.split(r"\n|\. (?=[A-Z])", str(error).strip())[0].rstrip(".")
    raise ValueError(
        f"{key or 'the settings together'} must be what TRL, transformers and torch can take "
        f"(got {reprlib.repr(settings[key] if key else [*settings])}: {type(error).__name__}: {said[:200]}). "
        f"Drop {key or 'all that differs from the profile'}."
    )


def _objection(settings: dict, config_class: type) -> Exception | None:
    try:
        with _unchanged_environment(), warnings.catch_warnings(action="ignore"):
            _rehearse(settings, config_class)
    except Exception as error:  # of every kind: files, packages, types, values
        return error
    return None


def _rehearse(settings: dict, config_class: type) -> None:
    import torch
    from accelerate.utils import DynamoBackend
    from torch.utils.data import DataLoader
    from transformers import GenerationConfig, Trainer, get_scheduler
    from transformers.integrations import get_reporting_integration_callbacks

    machine = {"output_dir": "unused", "report_to": "none", "use_cpu": not torch.cuda.is_available()}
    args = config_class(**{**machine, **settings, "deepspeed": None})  # whose config would stay behind
    args.get_process_log_level()
    get_reporting_integration_callbacks(args.report_to)
    GenerationConfig(cache_implementation=getattr(args, "cache_implementation", None))
    if args.torch_compile:
        DynamoBackend(args.torch_compile_backend.upper())
    names = "num_workers prefetch_factor persistent_workers multiprocessing_context drop_last pin_memory".split()
    options = {name: getattr(args, f"dataloader_{name}", None) for name in names}
    DataLoader([0], **options)
    if not rules.needs_bitsandbytes(getattr(args.optim, "value", args.optim)):  # a GPU's, planned elsewhere
        kind, options = Trainer.get_optimizer_cls_and_kwargs(args)
        kind([torch.nn.Parameter(torch.zeros(1))], **options)
    plain = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate)
    get_scheduler(args.lr_scheduler_type, plain, 0, 10, scheduler_specific_kwargs=args.lr_scheduler_kwargs)


@contextlib.contextmanager
def _unchanged_environment() -> Iterator[None]:
    """A config writes its precision into variables that a later one would find."""
    before = dict(os.environ)
    try:
        yield
    finally:
        if dict(os.environ) != before:
            os.environ.clear()
            os.environ.update(before)
