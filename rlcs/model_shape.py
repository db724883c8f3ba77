"""How large a model is, known without loading it: for estimates of memory before a run.

The shape comes from `model.tiny`, from `model.shape`, from a local config.json (a folder's, or one that the hub's
client has fetched before), or from a small table of well-known hub models; nothing is downloaded. A decoder with
gated MLP is assumed, with E experts in a mixture of experts:

    parameters = V h (twice if untied) + L (h d (2 H + 2 K) + 3 h m max(1, E)) + norms and biases
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rlcs.adapters import base_model
from rlcs.config import ModelConfig, TinyConfig
from rlcs.errors import ConfigError
from rlcs.models import read_model_json, text_config
from rlcs.vision.shape import KNOWN, VisionShape, vision_shape

_FAMILIES: dict[str, dict[str, tuple[int, int, int, int, int, int, int, bool]]] = {
    # hidden, layers, heads, key-value heads, head width, MLP width, vocabulary, tied
    "Qwen2.5": {
        "0.5B": (896, 24, 14, 2, 64, 4864, 151936, True),
        "1.5B": (1536, 28, 12, 2, 128, 8960, 151936, True),
        "3B": (2048, 36, 16, 2, 128, 11008, 151936, True),
        "7B": (3584, 28, 28, 4, 128, 18944, 152064, False),
        "14B": (5120, 48, 40, 8, 128, 13824, 152064, False),
        "32B": (5120, 64, 40, 8, 128, 27648, 152064, False),
        "72B": (8192, 80, 64, 8, 128, 29568, 152064, False),
    },
    "Qwen3": {
        "0.6B": (1024, 28, 16, 8, 128, 3072, 151936, True),
        "1.7B": (2048, 28, 16, 8, 128, 6144, 151936, True),
        "4B": (2560, 36, 32, 8, 128, 9728, 151936, True),
        "8B": (4096, 36, 32, 8, 128, 12288, 151936, False),
        "14B": (5120, 40, 40, 8, 128, 17408, 151936, False),
        "32B": (5120, 64, 64, 8, 128, 25600, 151936, False),
    },
    "Llama-3": {
        "1B": (2048, 16, 32, 8, 64, 8192, 128256, True),
        "3B": (3072, 28, 24, 8, 128, 8192, 128256, True),
        "8B": (4096, 32, 32, 8, 128, 14336, 128256, False),
        "70B": (8192, 80, 64, 8, 128, 28672, 128256, False),
    },
    "GLM-4": {"9B": (4096, 40, 32, 2, 128, 13696, 151552, False)},
}
"""From the models' own config.json; looked up by the first words of a hub name, such as Qwen/Qwen2.5-Math-7B."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes that memory depends on."""

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    """Width of the MLP; of one expert where there are several."""
    vocab_size: int
    tied: bool
    """Whether embeddings and head are one matrix."""
    num_experts: int = 0
    """Experts a layer; 0 in a dense model."""
    active_experts: int = 0
    """Experts that a token goes through."""
    qk_norm: bool = False
    """Whether queries and keys are normalised, as in Qwen 3."""
    vision: VisionShape | None = None
    """What sees, in a vision-language model."""
    max_context: int | None = None
    source: str = ""
    """Where the shape was read."""

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer's matrices, all experts."""
        attention = self.hidden_size * self.head_dim * (2 * self.num_heads + 2 * self.num_kv_heads)
        router = self.hidden_size * self.num_experts
        return attention + 3 * self.hidden_size * self.intermediate_size * max(1, self.num_experts) + router

    @property
    def embedding_parameters(self) -> int:
        """Parameters of embeddings and head."""
        return self.vocab_size * self.hidden_size * (1 if self.tied else 2)

    @property
    def num_parameters(self) -> int:
        """All parameters, biases left out: they are less than 0.1 %."""
        seen = self.vision.num_parameters if self.vision is not None else 0
        return self.decoder_parameters + seen

    @property
    def decoder_parameters(self) -> int:
        """All parameters but those of vision tower and projector."""
        norms = self.hidden_size * (2 * self.num_layers + 1)
        return self.embedding_parameters + self.num_layers * self.layer_parameters + norms

    def kv_bytes_per_token(self, element_bytes: int) -> int:
        """Bytes of keys and values that a token leaves in all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * element_bytes


def shape_of(model: ModelConfig) -> ModelShape:
    """The shape of the configured model; reads at most a local config.json.

    Raises:
        ConfigError: the shape is not known, or config.json lacks a size.
        DataError: config.json cannot be read.
    """
    if model.shape is not None:
        shape = model.shape
        return ModelShape(
            **shape.model_dump(exclude={"num_kv_heads", "head_dim"}),
            num_kv_heads=shape.num_kv_heads or shape.num_heads,
            head_dim=shape.head_dim or shape.hidden_size // shape.num_heads,
            source="model.shape",
        )
    if model.init is not None:
        tiny = model.tiny
        return ModelShape(
            hidden_size=tiny.hidden_size,
            num_layers=tiny.num_layers,
            num_heads=tiny.num_heads,
            num_kv_heads=tiny.num_heads,
            head_dim=tiny.hidden_size // tiny.num_heads,
            intermediate_size=tiny.intermediate_size,
            vocab_size=tiny.vocab_size,
            tied=model.init == "tiny",
            vision=_tiny_vision(tiny) if model.init == "tiny-glm4v" else None,
            max_context=tiny.max_position_embeddings,
            source="model.tiny",
        )
    assert model.path is not None
    file = _config_file(model.path)
    if file is not None:
        return _read(file)
    known = _known(base_model(model.path))
    if known is None:
        raise ConfigError(
            f"model.path {model.path}: its config.json is not on this machine, and its shape is not known by name: fetch "
            "the model, or give model.shape for the estimates"
        )
    return known


def _config_file(path: str) -> Path | None:
    path = base_model(path)
    folder = Path(path)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(f"model.path: {folder} has no config.json, so it is no model folder")
        return folder / "config.json"
    if folder.is_absolute() or path.startswith(".") or path.count("/") > 1:
        raise ConfigError(f"model.path: there is no folder {path}")
    from huggingface_hub import try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(path, "config.json")
    except ValueError as error:  # no name that the hub allows
        raise ConfigError(f"model.path: {error}") from error
    return Path(cached) if isinstance(cached, str) else None


def _known(name: str) -> ModelShape | None:
    last = name.rsplit("/", 1)[-1].removeprefix("Meta-")
    words = last.split("-")
    for start, (sizes_of_decoder, seen) in KNOWN.items():
        if last.startswith(start):
            vision = vision_shape(seen, sizes_of_decoder[0])
            return ModelShape(*sizes_of_decoder, vision=vision, source="the table of known models")
    for family, sizes in _FAMILIES.items():
        if last.startswith((f"{family}-", f"{family}.")):
            size = next((sizes[word] for word in words if word in sizes), None)
            if size is not None:
                return ModelShape(*size, qk_norm=family == "Qwen3", source="the table of known models")
    return None


def _read(file: Path) -> ModelShape:
    content = read_model_json(file)
    text = text_config(content)

    def size(*names: str, default: int | None = None) -> int:
        for name in names:
            value = text.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
        if default is None:
            raise ConfigError(f"{file} has no {names[0]}, so memory cannot be estimated: give model.shape")
        return default

    width, heads = size("hidden_size", "n_embd"), size("num_attention_heads", "n_head")
    experts = size("num_experts", "n_routed_experts", "num_local_experts", default=0)
    inner = size("intermediate_size", "n_inner", default=4 * width)
    return ModelShape(
        hidden_size=width,
        num_layers=size("num_hidden_layers", "n_layer"),
        num_heads=heads,
        num_kv_heads=size("num_key_value_heads", default=heads),
        head_dim=size("head_dim", default=width // heads),
        intermediate_size=size("moe_intermediate_size", default=inner) if experts else inner,
        vocab_size=size("vocab_size"),
        tied=bool(text.get("tie_word_embeddings", content.get("tie_word_embeddings", True))),
        num_experts=experts,
        active_experts=size("num_experts_per_tok", default=0),
        qk_norm=str(text.get("model_type", "")).startswith("qwen3"),
        vision=vision_shape(content["vision_config"], width)
        if isinstance(content.get("vision_config"), dict)
        else None,
        max_context=text.get("max_position_embeddings"),
        source=str(file),
    )


def _tiny_vision(tiny: TinyConfig) -> VisionShape | None:
    """What sees in the policy of `rlcs.vision.tiny_glm4v`."""
    sizes = {
        "model_type": "glm4v",
        "hidden_size": tiny.vision_hidden_size,
        "depth": tiny.vision_layers,
        "intermediate_size": 2 * tiny.hidden_size,
        "out_hidden_size": tiny.hidden_size,
        "image_size": 112,
        "temporal_patch_size": 2,
    }
    return vision_shape(sizes, tiny.hidden_size)
