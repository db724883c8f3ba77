"""What a run will take of each GPU's memory, by formula, before anything is started.

Per learner rank, with N parameters (A trained ones: all, or an adapter's), R ranks that shard them (1 without FSDP), T tokens of
`tokens_per_micro_batch` (or the longest sequence, if that is more), L layers of width h, MLP width m, widths q and k
of all query heads and all key heads, vocabulary V, b bytes an element of the matrix products. A vision tower and a projector are
among N; what `model.freeze` names is not among A:

    weights          4 N / R            float32 masters; under an adapter b N for the frozen base (4 N / R with R > 1, and
                                        0.56 of a matrix's parameter in 4 bits), and 4 A
    gradients        4 A / R
    optimizer        8 A / R            AdamW; 8-bit 2.03 A / R; Muon 4 A / R for matrices, 8 for the rest
    reference        4 N / R            where learner.beta > 0; none under an adapter
    critic           4 N / R            and its optimizer as above, of a critic of its own (learner.advantage_estimator gae),
                                        without an untied head; its passes come after the policy's and take less
    working copies   b N                of the matrices, under autocast on one rank; two layers, the embeddings and what sees
                                        with R > 1;
                                        b A under an adapter, and a layer of a base in 4 bits
    activations      T L a              a = 26 h + 8 m + 6 q + 4 k in bfloat16, 24 h + 16 m + 12 q + 8 k in float32, and
                                        6 or 8 (q + k) more with normalised queries; with gradient checkpointing
                                        a = 4 h, and one layer's a in full
    vision tower     4 T l v            where it is trained: v as a of its l blocks, and 4 patches a token, as if all
                                        tokens of a micro-batch were of images
    logits           12 min(T V, 2^27)  a chunk's logits, probabilities and gradient (rlcs.learner.forward.MAX_LOGITS)

The coefficients were counted with torch's hooks on saved tensors, and a test counts them again. Per engine:

    share            gpu_memory_utilization x the GPU
    weights          b N / tensor_parallel_size
    KV cache         what the share leaves beside weights and 2 GiB of workspace; 2 L k b bytes a token

Every process takes about 1 GiB for its CUDA context, a learner another for buffers and fragments.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rlcs.adapters import is_adapter_folder, read_adapter_config
from rlcs.config import Config, ModelConfig
from rlcs.errors import ConfigError
from rlcs.model_shape import ModelShape
from rlcs.placement import Placement

GIB = 2**30
CONTEXT = 1.0
"""GiB of a process's CUDA context; what an engine that sleeps keeps, too."""
FRAGMENTS = 1.0
"""GiB that a learner's allocator and communication buffers lose."""
WORKSPACE = 2.0
"""GiB of an engine's share for activations and CUDA graphs."""
MAX_LOGITS = 2**27
"""See `rlcs.learner.forward`, which is not imported here: it needs torch."""
_QUANTIZED = 0.5625
"""Bytes of a parameter in 4 bits: half a byte, and a float32 scale for each 64."""
_OPTIMIZER_BYTES = {"adamw": (8.0, 8.0), "adamw_8bit": (2.03, 2.03), "muon": (4.0, 8.0)}
"""Bytes a parameter of matrices and of all others (embeddings, head, norms)."""


@dataclass(frozen=True, slots=True)
class LearnerMemory:
    """GiB of one learner rank."""

    kept: dict[str, float]
    """What stays between updates."""
    update: dict[str, float]
    """What an update takes besides."""
    tokens: int
    """Tokens of the largest micro-batch."""

    @property
    def resident(self) -> float:
        """GiB while the engines generate."""
        return sum(self.kept.values()) + CONTEXT

    @property
    def peak(self) -> float:
        """GiB at the most loaded moment of an update."""
        return self.resident + sum(self.update.values()) + FRAGMENTS


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """GiB of an engine on each of its GPUs."""

    share: float
    weights: float
    kv_cache: float
    kv_tokens: int
    """Tokens that the KV cache holds."""
    full_sequences: float
    """Sequences of full length that it holds at once."""


@dataclass(frozen=True, slots=True)
class GPUMemory:
    """GiB that the actors of one GPU take at the two moments that matter."""

    node: int
    gpu: int
    actors: tuple[str, ...]
    generating: float
    updating: float

    @property
    def peak(self) -> float:
        """The larger of both."""
        return max(self.generating, self.updating)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What `estimate` found."""

    learner: LearnerMemory
    engine: EngineMemory | None
    """None where engines run on CPUs."""
    gpus: list[GPUMemory] = field(default_factory=list)


def shards(config: Config) -> int:
    """Over how many ranks weights, gradients and optimizer are cut: all with FSDP, which GPUs have by default."""
    learner = config.learner
    if learner.parallel == "fsdp" or (learner.parallel == "auto" and learner.gpus):
        return learner.data_parallel_size
    return 1


def learner_memory(config: Config, shape: ModelShape) -> LearnerMemory:
    """GiB of one learner rank, by the formulas of the module."""
    learner, ranks = config.learner, shards(config)
    low = config.model.dtype == "bfloat16"
    element = 2 if low else 4
    count = shape.num_parameters
    longest = config.rollout.max_prompt_length + config.rollout.max_completion_length
    tokens = max(learner.tokens_per_micro_batch, longest)
    matrices = shape.num_layers * shape.layer_parameters
    for_matrices, for_others = _OPTIMIZER_BYTES[learner.optimizer]
    frozen, frozen_matrices = _frozen(config.model, shape)
    trained = adapter_parameters(config.model, shape)
    unit = count - shape.decoder_parameters + shape.embedding_parameters + 2 * shape.layer_parameters
    gathered = unit if ranks > 1 else (count if low else 0)
    if trained is None:
        trained = count - frozen
        learned = matrices - frozen_matrices
        optimizer = for_matrices * learned + for_others * (trained - learned)
        kept = {"weights": 4 * count / ranks, "optimizer": optimizer / ranks}
        if learner.beta:
            kept["reference"] = 4 * count / ranks
    else:
        base = _base_bytes(config, shape) if ranks == 1 else 4 * count / ranks
        kept = {"weights": base + 4 * trained / ranks, "optimizer": for_matrices * trained / ranks}
        if ranks == 1:
            gathered = (trained if low else 0) + (shape.layer_parameters if config.model.load_in_4bit else 0)
    if learner.advantage_estimator == "gae" and learner.critic == "own":
        head = 0 if shape.tied else shape.vocab_size * shape.hidden_size
        others = count - matrices - head
        kept["critic"] = ((4 + for_matrices) * matrices + (4 + for_others) * others) / ranks
    layer = layer_bytes(shape, low=low)
    activations = tokens * shape.num_layers * (4 * shape.hidden_size if learner.gradient_checkpointing else layer)
    if learner.gradient_checkpointing:
        activations += tokens * layer
    update = {
        "gradients": 4 * trained / ranks,
        "working copies": element * gathered,
        "activations": activations,
        "vision activations": _vision_activations(config, shape, tokens),
        "logits": 12 * min(tokens * shape.vocab_size, MAX_LOGITS),
    }
    return LearnerMemory(
        {name: size / GIB for name, size in kept.items()}, {name: size / GIB for name, size in update.items()}, tokens
    )


def _frozen(model: ModelConfig, shape: ModelShape) -> tuple[int, int]:
    """Parameters that `model.freeze` names, and how many of them are of the decoder's layers."""
    vision = shape.vision
    if vision is None:
        return 0, 0
    matrices = shape.num_layers * shape.layer_parameters
    sizes = {
        "vision_tower": (vision.tower_parameters, 0),
        "projector": (vision.projector_parameters, 0),
        "decoder": (shape.decoder_parameters, matrices),
    }
    chosen = [sizes[part] for part in set(model.freeze)]
    return sum(size for size, _ in chosen), sum(size for _, size in chosen)


def _vision_activations(config: Config, shape: ModelShape, tokens: int) -> float:
    """Bytes that the blocks of a trained vision tower keep of `tokens` image tokens; a frozen tower keeps nothing."""
    vision = shape.vision
    if vision is None or "vision_tower" in config.model.freeze or not _adapts_vision(config.model):
        return 0.0
    patches = tokens * vision.patches_per_token
    low = config.model.dtype == "bfloat16"
    width = vision.hidden_size
    each = (36 if low else 44) * width + (8 if low else 16) * vision.intermediate_size
    if config.learner.gradient_checkpointing:
        return patches * (4 * width * vision.num_layers + each)
    return patches * each * vision.num_layers


def _adapts_vision(model: ModelConfig) -> bool:
    """Whether something in the vision tower is trained: weights, or an adapter's."""
    if model.lora is not None and not has_adapter_folder(model):
        return "vision_tower" in model.lora.target_parts
    return model.lora is None and not has_adapter_folder(model)


def adapter_parameters(model: ModelConfig, shape: ModelShape) -> int | None:
    """Parameters of the adapter that is trained, those of layers outside of the decoder where
    `model.lora.target_parts` asks for them; None where there is none."""
    if has_adapter_folder(model):
        assert model.path is not None
        content = read_adapter_config(model.path)
        rank, target = int(content["r"]), content.get("target_modules")
    elif model.lora is not None:
        rank, target = model.lora.r, model.lora.target_modules
    else:
        return None
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    width, inner, experts = shape.hidden_size, shape.intermediate_size, max(1, shape.num_experts)
    sides = {
        "q_proj": width + queries,
        "k_proj": width + keys,
        "v_proj": width + keys,
        "o_proj": queries + width,
        "gate_proj": (width + inner) * experts,
        "up_proj": (width + inner) * experts,
        "down_proj": (width + inner) * experts,
    }
    seen = 0
    if model.lora is not None and shape.vision is not None and not has_adapter_folder(model):
        vision, parts = shape.vision, model.lora.target_parts
        if "vision_tower" in parts:
            seen += vision.num_layers * (8 * vision.hidden_size + 3 * (vision.hidden_size + vision.intermediate_size))
        if "projector" in parts:  # about: two square matrices as good as any
            seen += 4 * vision.patches_per_token * vision.hidden_size + 2 * width
        if parts and "decoder" not in parts:
            return rank * seen
    named = [name for name in sides if isinstance(target, list) and name in target]
    # Names that are not known here, or a pattern: as if it were every layer.
    return rank * (seen + shape.num_layers * sum(sides[name] for name in named or sides))


def has_adapter_folder(model: ModelConfig) -> bool:
    """Whether training goes on from an adapter."""
    return model.path is not None and is_adapter_folder(model.path)


def _base_bytes(config: Config, shape: ModelShape) -> float:
    """Bytes of a frozen base on one GPU, or of an engine's weights."""
    element = 2 if config.model.dtype == "bfloat16" else 4
    matrices = shape.num_layers * shape.layer_parameters
    if not config.model.load_in_4bit:
        return element * shape.num_parameters
    return _QUANTIZED * matrices + element * (shape.num_parameters - matrices)


def layer_bytes(shape: ModelShape, *, low: bool) -> float:
    """Bytes that a layer saves of each token for the backward pass; `low`: under autocast to bfloat16."""
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    inner = shape.intermediate_size * max(1, shape.active_experts)
    norms = (6 if low else 8) * (queries + keys) if shape.qk_norm else 0
    if low:
        return 26 * shape.hidden_size + 8 * inner + 6 * queries + 4 * keys + norms
    return 24 * shape.hidden_size + 16 * inner + 12 * queries + 8 * keys + norms


def engine_memory(config: Config, shape: ModelShape) -> EngineMemory:
    """GiB of one engine on each of its GPUs.

    Raises:
        ConfigError: its share of the memory holds less than the weights and one sequence of full length.
    """
    rollout, total = config.rollout, config.cluster.gpu_memory_gib
    element = 2 if config.model.dtype == "bfloat16" else 4
    parallel = rollout.tensor_parallel_size
    share = rollout.gpu_memory_utilization * total
    weights = _base_bytes(config, shape) / parallel / GIB
    cache = share - weights - WORKSPACE
    # A key-value head is not cut: where there are fewer than GPUs, several keep the same.
    per_token = shape.kv_bytes_per_token(element) / min(parallel, shape.num_kv_heads) / GIB
    longest = rollout.max_prompt_length + rollout.max_completion_length
    if cache < longest * per_token:
        raise ConfigError(
            f"memory: an engine's share of a GPU ({share:.1f} GiB, rollout.gpu_memory_utilization "
            f"{rollout.gpu_memory_utilization:g} of {total:g}) must hold {weights:.1f} GiB of weights, {WORKSPACE:g} of "
            f"workspace and a sequence of {longest} tokens ({longest * per_token:.1f} GiB): raise "
            "rollout.tensor_parallel_size or rollout.gpu_memory_utilization, or lower rollout.max_completion_length"
        )
    return EngineMemory(share, weights, cache, int(cache / per_token), cache / per_token / longest)


def estimate(config: Config, shape: ModelShape, placement: Placement) -> Estimate:
    """The memory of every GPU of a placement.

    Raises:
        ConfigError: something does not fit; names the GPU, the sum and what to lower.
    """
    learner = learner_memory(config, shape)
    engine = engine_memory(config, shape) if config.rollout.gpus_per_engine else None
    takes_turns = placement.mode == "colocate"
    gpus = []
    for node in range(placement.num_nodes):
        for gpu in range(placement.gpus_per_node):
            seats = placement.on(node, gpu)
            learners = sum(seat.actor == "learner" for seat in seats)
            engines = sum(seat.actor == "engine" for seat in seats)
            share = engine.share if engine else 0.0
            generating = learners * learner.resident + engines * share
            updating = learners * learner.peak + engines * (CONTEXT if takes_turns else share)
            found = GPUMemory(node, gpu, tuple(seat.name for seat in seats), generating, updating)
            _check(found, config, learner, takes_turns=takes_turns)
            gpus.append(found)
    return Estimate(learner, engine, gpus)


def _check(found: GPUMemory, config: Config, learner: LearnerMemory, *, takes_turns: bool) -> None:
    total = config.cluster.gpu_memory_gib
    if found.peak <= total:
        return
    where = f"memory: GPU {found.gpu} of node {found.node} ({', '.join(found.actors)})"
    if takes_turns and found.generating >= found.updating:
        room = total - learner.resident
        raise ConfigError(
            f"{where} needs {found.generating:.1f} of {total:g} GiB while engines generate, {learner.resident:.1f} of them "
            f"the learner's: lower rollout.gpu_memory_utilization to {max(0.0, room / total):.2f} or less, or give the "
            "learner more GPUs (learner.gpus)"
        )
    working = {**learner.kept, **learner.update}
    largest = max(working, key=working.__getitem__)
    raise ConfigError(
        f"{where} needs {found.updating:.1f} of {total:g} GiB in an update, {working[largest]:.1f} of them {largest}: "
        f"{_advice(largest, config)}"
    )


def _advice(largest: str, config: Config) -> str:
    if largest == "vision activations":
        return "add vision_tower to model.freeze, or lower learner.tokens_per_micro_batch"
    if largest in ("activations", "logits"):
        longest = config.rollout.max_prompt_length + config.rollout.max_completion_length
        if not config.learner.gradient_checkpointing:
            return "set learner.gradient_checkpointing to true, or lower learner.tokens_per_micro_batch"
        if config.learner.tokens_per_micro_batch > longest:
            return "lower learner.tokens_per_micro_batch"
        return "lower rollout.max_completion_length: one sequence of full length takes so much"
    if config.learner.optimizer == "adamw" and largest == "optimizer" and shards(config) == 1:
        return "give the learner more GPUs (learner.gpus), set learner.optimizer to adamw_8bit, or take a smaller model"
    return "give the learner more GPUs (learner.gpus), or take a smaller model"
