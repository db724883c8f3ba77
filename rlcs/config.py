"""The configuration of a run: pydantic models with a description on every field.

Names are TRL's where TRL has the thing. `rlcs.config_loading` reads them from YAML with overrides. Checks that need
nothing but the numbers are validators here; checks that need the machine (folders, the cluster) are in
`rlcs.preflight`.
"""

from __future__ import annotations

import difflib
import os.path
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from rlcs.config_episodes import EpisodesConfig
from rlcs.config_health import HealthConfig
from rlcs.config_logging import LoggingConfig as LoggingConfig
from rlcs.config_lora import LoRAConfig
from rlcs.config_section import Section as Section
from rlcs.config_section import refuse_password

OUR_COLUMNS = ("prompt", "answer", "domain", "tier", "solution", "images", "videos")
"""Columns of a dataset that have a meaning here; `data.columns` says what a dataset calls them."""

HomePath = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path or name; `~` at its start is the home folder."""


class TinyConfig(Section):
    """Shape of the small random policy that `model.init` makes (Qwen2 architecture, or GLM-4.1V's)."""

    hidden_size: PositiveInt = Field(192, description="Width; divisible by num_heads.")
    num_layers: PositiveInt = Field(4, description="Decoder layers.")
    num_heads: PositiveInt = Field(4, description="Attention heads.")
    intermediate_size: PositiveInt = Field(512, description="Width of the MLP.")
    vocab_size: int = Field(512, ge=300, description="Upper bound of the byte-level BPE vocabulary.")
    initializer_range: PositiveFloat = Field(
        0.07, description="Standard deviation of the random weights; small models learn sooner above the usual 0.02."
    )
    max_position_embeddings: PositiveInt = Field(1024, description="Longest context, in tokens.")
    vision_layers: PositiveInt = Field(3, description="Layers of the vision tower of `init: tiny-glm4v`.")
    vision_hidden_size: int = Field(
        128, ge=64, multiple_of=64, description="Width of the vision tower of `init: tiny-glm4v`."
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be a multiple of 2 x num_heads ({2 * self.num_heads})"
            )
        return self


class ShapeConfig(Section):
    """Sizes of a model whose config.json is not at hand; for the estimates of `rlcs train --dry-run` only."""

    hidden_size: PositiveInt = Field(description="Width.")
    num_layers: PositiveInt = Field(description="Decoder layers.")
    num_heads: PositiveInt = Field(description="Attention heads.")
    num_kv_heads: PositiveInt | None = Field(None, description="Key-value heads; num_heads if null.")
    head_dim: PositiveInt | None = Field(None, description="Width of a head; hidden_size / num_heads if null.")
    intermediate_size: PositiveInt = Field(description="Width of the MLP; of one expert where there are several.")
    vocab_size: PositiveInt = Field(description="Vocabulary.")
    tied: bool = Field(False, description="Whether embeddings and head are one matrix.")
    num_experts: NonNegativeInt = Field(0, description="Experts a layer; 0 in a dense model.")
    active_experts: NonNegativeInt = Field(0, description="Experts that a token goes through.")


class ModelConfig(Section):
    """Which policy is trained."""

    path: HomePath | None = Field(
        None,
        description="Folder or hub name of a causal language model, or the folder of a LoRA adapter to go on from. "
        "Either this or `init`.",
    )
    init: Literal["tiny", "tiny-glm4v"] | None = Field(
        None,
        description="Make a small random policy instead of loading one: of text, or of text, images and video with "
        "GLM-4.1V-Thinking's architecture.",
    )
    tiny: TinyConfig = Field(default_factory=TinyConfig, description="Shape of the policy of `init`.")
    freeze: list[Literal["vision_tower", "projector", "decoder"]] = Field(
        default_factory=list, description="Parts of a vision-language model that are not trained."
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Weights' type in learner and engines.")
    trust_remote_code: bool = Field(False, description="Let a model folder bring Python code of its own.")
    shape: ShapeConfig | None = Field(
        None, description="Sizes, for estimates of memory where the model's config.json is not on this machine."
    )
    lora: LoRAConfig | None = Field(None, description="Train a LoRA adapter; null trains all weights.")
    load_in_4bit: bool = Field(
        False, description="QLoRA: the base in 4 bits, in learner and engines (the package bitsandbytes must be there)."
    )
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = Field("nf4", description="load_in_4bit: the type of the 4 bits.")
    use_bnb_nested_quant: bool = Field(False, description="load_in_4bit: quantize the scales as well.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.init is None):
            raise ValueError(
                "give exactly one of model.path (a folder or hub name) and model.init (tiny or tiny-glm4v)"
            )
        return self

    @model_validator(mode="after")
    def _quantized_base_is_frozen(self) -> Self:
        if not self.load_in_4bit:
            return self
        if self.lora is None:
            raise ValueError("model.load_in_4bit needs model.lora: weights of 4 bits cannot be trained themselves")
        mode = self.lora.engine_mode
        if mode == "merged" or self.lora.use_dora or self.lora.modules_to_save or self.lora.reaches_vision:
            raise ValueError(
                "model.load_in_4bit goes with plain adapters that engines keep apart: leave out model.lora.use_dora, "
                "model.lora.modules_to_save and parts other than the decoder in model.lora.target_parts, and "
                "model.lora.engine_mode at auto or adapter"
            )
        return self


class TaskConfig(Section):
    """One task of an environment: a domain with several difficulty levels."""

    task: str = Field(description="Name of the task in the environment, e.g. chain_sum.")
    domain: str | None = Field(None, description="Domain name; the task's name if not given.")
    levels: list[dict[str, Any]] = Field(
        default_factory=list, description="Task parameters of each tier, easy to hard; built-in levels if empty."
    )
    params: dict[str, Any] = Field(
        default_factory=dict, description="Task parameters put over those of every level, e.g. {size: 112}."
    )


class DataConfig(Section):
    """Where prompts come from: an environment that makes them, or a dataset."""

    env: str | None = Field(None, description="Environment that makes prompts: a name, file.py:Class or module:Class.")
    tasks: list[TaskConfig] = Field(default_factory=list, description="Tasks of the environment; each is a domain.")
    train_per_level: PositiveInt = Field(400, description="Training prompts made for each task and level.")
    eval_per_level: PositiveInt = Field(12, description="Held-out prompts made for each task and level.")
    train: HomePath | None = Field(None, description="Dataset: hub name, or a JSONL, Parquet or CSV file.")
    train_split: str = Field("train", description="Split of a hub dataset to train on.")
    eval: HomePath | None = Field(None, description="Held-out dataset, named like `train`.")
    eval_split: str = Field("test", description="Split of a hub dataset to evaluate on.")
    subset: str | None = Field(None, description="Configuration of a hub dataset, such as `main` of openai/gsm8k.")
    eval_fraction: float = Field(0.1, ge=0, lt=1, description="Share of `train` held out if `eval` is not given.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Renames columns: ours (prompt, answer, domain, tier, solution, images, videos) to theirs.",
    )
    system_prompt: str | None = Field(None, description="System message put before every prompt.")
    nothink: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the prompts that end with /nothink, which asks for empty thinking; the cold start teaches it.",
    )
    answer_required: bool = Field(
        True, description="Refuse rows without a reference answer; false where a judge or a reward model scores."
    )
    max_image_pixels: PositiveInt = Field(
        16_777_216, description="A row with a larger picture or frame is bad; 16,777,216 is 4096 x 4096."
    )
    max_video_frames: PositiveInt = Field(128, description="A row with a longer video is bad.")
    video_fps: PositiveFloat = Field(2.0, description="Frames a second of videos given as frames that do not say.")
    on_bad_row: Literal["error", "skip"] = Field("error", description="Refuse a dataset with a bad row, or skip it.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.env is None) == (self.train is None):
            raise ValueError("give exactly one of data.env (an environment) and data.train (a dataset)")
        if self.env is not None and not self.tasks:
            raise ValueError("data.env needs data.tasks: name at least one task")
        if self.env is None and self.tasks:
            raise ValueError("data.tasks are tasks of an environment: give data.env, or leave them out for data.train")
        if self.env is not None and self.eval is not None:
            raise ValueError("data.eval goes with data.train; data.env makes its own held-out prompts")
        return self

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        for ours in columns:
            if ours not in OUR_COLUMNS:
                near = difflib.get_close_matches(ours, OUR_COLUMNS, n=1)
                hint = f"did you mean {near[0]}?" if near else "write ours: theirs, such as prompt: question"
                raise ValueError(f"data.columns has no {ours!r} (only {', '.join(OUR_COLUMNS)}); {hint}")
        theirs = list(columns.values())
        for name in theirs:
            if theirs.count(name) > 1:
                raise ValueError(f"data.columns takes two of ours from one column {name!r}: name one for each")
        return columns


class SFTSection(Section):
    """The cold start: TRL's SFTTrainer on worked solutions in the response format."""

    enabled: bool = Field(False, description="Train a cold start before reinforcement learning.")
    use_peft: bool | None = Field(
        None,
        description="Train the adapter of model.lora in the cold start, or all weights, which the adapter then stands on; "
        "null: the adapter where there is one, but all weights of a policy that model.init makes.",
    )
    steps: PositiveInt = Field(300, description="Optimizer steps.")
    batch_size: PositiveInt = Field(16, description="Packed sequences of `max_length` tokens a step.")
    max_length: PositiveInt = Field(512, description="Tokens of a packed sequence.")
    learning_rate: PositiveFloat = Field(1e-3, description="Peak learning rate, cosine decay.")
    warmup_steps: int = Field(20, ge=0, description="Steps of linear warm-up.")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="AdamW beta2; 0.95 suits short training from nothing.")
    num_solutions: PositiveInt = Field(20_000, description="Worked solutions to make, if an environment makes them.")
    solutions: HomePath | None = Field(
        None, description="Dataset with a `solution` column; the training data if not given."
    )
    level_weights: list[NonNegativeFloat] = Field(
        default_factory=list, description="Share of worked solutions by level, easy to hard; equal if empty."
    )

    @model_validator(mode="after")
    def _some_level_weighs(self) -> Self:
        if self.level_weights and not sum(self.level_weights):
            raise ValueError("sft.level_weights are all 0: give at least one level a share")
        return self


class RolloutConfig(Section):
    """Generation: Ray actors with one in-process vLLM engine each."""

    num_engines: PositiveInt = Field(1, description="vLLM engines.")
    cpus_per_engine: float = Field(1, ge=0, description="Ray CPUs an engine takes; also its compute threads on a CPU.")
    gpus_per_engine: float = Field(0, ge=0, description="GPUs an engine takes; equal to tensor_parallel_size if whole.")
    tensor_parallel_size: PositiveInt = Field(1, description="GPUs a model is spread over, inside an engine.")
    num_generations: int = Field(8, ge=2, description="G, responses a prompt.")
    thinking_budget: PositiveInt | None = Field(
        None,
        description="Tokens of thinking after which the end of thinking is inserted and the answer begins; null: no limit "
        "but max_completion_length.",
    )
    first_generations: int = Field(
        0,
        ge=0,
        description="Adaptive rollouts: responses of a first request to each prompt, the rest of train.batch_size x "
        "num_generations going to the prompts where they teach most; 0: num_generations to each at once.",
    )
    max_generations: PositiveInt | None = Field(
        None, description="Adaptive rollouts: most responses a prompt; three times num_generations if null."
    )
    adaptive_prompts: PositiveFloat = Field(
        0.5, description="Adaptive rollouts: prompts an iteration, as a share of train.batch_size."
    )
    max_prompt_length: PositiveInt = Field(512, description="Longest prompt, in tokens; longer ones are refused.")
    max_completion_length: PositiveInt = Field(256, description="Longest response, in tokens.")
    temperature: PositiveFloat = Field(1.0, description="Sampling temperature.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling; the paper trains with 1.")
    max_num_seqs: PositiveInt = Field(128, description="Responses an engine decodes at once.")
    gpu_memory_utilization: float = Field(0.85, gt=0, le=1, description="Share of a GPU's memory an engine may take.")
    cpu_kv_cache_gib: PositiveInt = Field(1, description="Memory for an engine's KV cache on a CPU, in GiB.")
    enforce_eager: bool = Field(True, description="Do not compile or capture CUDA graphs.")
    timeout_s: PositiveFloat = Field(600, description="Deadline of one request to an engine, in seconds.")
    heartbeat_s: PositiveFloat = Field(
        120, description="An engine that makes no step for so many seconds hangs: it is ended and replaced."
    )
    episodes: EpisodesConfig = Field(default_factory=EpisodesConfig, description="Tasks of several turns.")
    weight_sync: Literal["auto", "object_store", "cuda_ipc", "nccl"] = Field(
        "auto",
        description="Way of new weights to the engines: Ray's shared memory (object_store), the memory of a GPU that "
        "engine and learner share (cuda_ipc), or from GPU to GPU (nccl); auto: by placement.",
    )
    max_staleness: int = Field(
        0,
        ge=0,
        le=1,
        description="Updates that the learner may be ahead of the policy that sampled a response: 0 takes turns; with 1 the "
        "next rollouts are made while the policy is updated.",
    )

    @property
    def largest_group(self) -> int:
        """The most responses a prompt may get."""
        if not self.first_generations:
            return self.num_generations
        return self.max_generations or 3 * self.num_generations

    @model_validator(mode="after")
    def _an_answer_has_room(self) -> Self:
        if self.thinking_budget is not None and self.thinking_budget >= self.max_completion_length:
            raise ValueError(
                f"rollout.thinking_budget ({self.thinking_budget}) leaves no room for an answer in "
                f"rollout.max_completion_length ({self.max_completion_length})"
            )
        turn = self.episodes.max_turn_length
        if turn is not None and turn > self.max_completion_length:
            raise ValueError(
                f"rollout.episodes.max_turn_length ({turn}) is more than rollout.max_completion_length "
                f"({self.max_completion_length}), which all turns share"
            )
        if turn is not None and self.thinking_budget is not None and self.thinking_budget >= turn:
            raise ValueError(
                f"rollout.thinking_budget ({self.thinking_budget}) leaves no room for an answer in "
                f"rollout.episodes.max_turn_length ({turn})"
            )
        return self

    @model_validator(mode="after")
    def _adaptive_rollouts_fit(self) -> Self:
        first, size = self.first_generations, self.num_generations
        if not first:
            return self
        if first > self.largest_group:
            raise ValueError(
                f"rollout.first_generations ({first}) is more than rollout.max_generations ({self.largest_group})"
            )
        if first * self.adaptive_prompts > size:
            raise ValueError(
                f"rollout.first_generations ({first}) x rollout.adaptive_prompts ({self.adaptive_prompts:g}) is more than "
                f"rollout.num_generations ({size}): nothing is left for a second request"
            )
        return self


class JudgeConfig(Section):
    """An LLM judge on an OpenAI-compatible endpoint, for what no rule settles."""

    base_url: str | None = Field(
        None, description="Address of the endpoint, e.g. http://127.0.0.1:8000/v1; no judge if null."
    )
    model: str | None = Field(None, description="Name of the judge model at the endpoint.")
    api_key_env: str = Field("OPENAI_API_KEY", description="Environment variable that holds the key; may be unset.")
    max_tokens: PositiveInt = Field(512, description="Longest reply, in tokens.")
    concurrency: PositiveInt = Field(16, description="Requests at once, a scoring actor.")
    timeout_s: PositiveFloat = Field(60.0, description="Time limit of one request, in seconds.")
    max_retries: NonNegativeInt = Field(4, description="Retries of a failed request, with growing pauses.")
    cache: HomePath | None = Field(None, description="File that keeps verdicts between runs; in memory only if null.")
    max_length_ratio: PositiveFloat = Field(
        20.0, description="Answers longer than this many times the reference (and than a page) are hedges: scored 0."
    )

    @model_validator(mode="after")
    def _endpoint_is_whole(self) -> Self:
        if (self.base_url is None) != (self.model is None):
            raise ValueError("reward.judge.base_url and reward.judge.model go together: give both, or neither")
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            raise ValueError("reward.judge.base_url must start with http:// or https://, e.g. http://127.0.0.1:8000/v1")
        if not (self.api_key_env.isascii() and self.api_key_env.isidentifier()):
            raise ValueError("reward.judge.api_key_env must be the name of an environment variable, not the key itself")
        refuse_password(self.base_url, "reward.judge.base_url", "give the key by reward.judge.api_key_env")
        return self


class RewardModelConfig(Section):
    """A reward model that scores the answers of open-ended prompts."""

    path: HomePath | None = Field(
        None, description="Folder or hub name of a sequence classification model with one label."
    )
    max_length: PositiveInt = Field(2048, description="Longest prompt and answer, in tokens; cut at the front.")
    batch_size: PositiveInt = Field(32, description="Answers a forward pass.")
    num_gpus: float = Field(0, ge=0, description="GPU share of the actor that holds it.")
    timeout_s: PositiveFloat = Field(120.0, description="Time limit of one forward pass, in seconds.")


REWARD_MODEL = "reward_model"
"""The form of the reward model, which has a scoring actor of its own."""

CombineMode = Literal["weighted_sum", "gate", "minimum"]


def _style_options(value: Any) -> Any:
    if value is None or isinstance(value, bool | dict):
        return value
    raise ValueError(
        f"style in reward must be true, false or options, such as {{weights: {{box: 0.5}}}}, not {value!r}"
    )


StyleOptions = Annotated[dict[str, Any] | bool, BeforeValidator(_style_options)]
"""Whether the reward `style` is on, or its options."""


class DomainRewardConfig(Section):
    """How the prompts of one domain are scored; what it leaves out is as in `reward`."""

    functions: list[str] = Field(
        default_factory=list, description="Rewards of the domain, instead of reward.functions."
    )
    weights: list[PositiveFloat] = Field(default_factory=list, description="Weight of each of them; equal if empty.")
    options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Arguments of rewards in this domain, put over those of reward.options."
    )
    style: StyleOptions | None = Field(
        None, description="Options of `style` in this domain, put over reward.style; false leaves it out."
    )
    combine: CombineMode | None = Field(None, description="Instead of reward.combine.")
    gates: list[str] = Field(default_factory=list, description="Instead of reward.gates.")
    gate_threshold: float | None = Field(None, ge=0, le=1, description="Instead of reward.gate_threshold.")
    gate_cap: float | None = Field(None, ge=0, le=1, description="Instead of reward.gate_cap.")


class RewardConfig(Section):
    """Scoring: Ray actors on CPUs."""

    functions: list[str] = Field(
        default_factory=list,
        description="Rewards: built-in name, path/to/file.py:function or package.module:function. "
        "Empty: the environment's own verifier, or `math` for a dataset.",
    )
    weights: list[PositiveFloat] = Field(
        default_factory=list,
        description="Weight of each function, and of `style` after them where it is on; equal if empty.",
    )
    options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Arguments of rewards, by name, e.g. {chart: {tolerance: 0.01}}."
    )
    style: StyleOptions = Field(
        False, description="Add the reward `style` to the functions: true, or its options, e.g. {weights: {box: 0.5}}."
    )
    combine: CombineMode = Field(
        "weighted_sum",
        description="One value out of several: the weighted mean; the same, capped where a gate fails; or the least.",
    )
    gates: list[str] = Field(
        default_factory=list, description="combine: gate: which of the rewards are gates; `style` if empty."
    )
    gate_threshold: float = Field(0.5, ge=0, le=1, description="A gate fails below this value.")
    gate_cap: float = Field(0.0, ge=0, le=1, description="The most that a response is worth where a gate fails.")
    domains: dict[str, DomainRewardConfig] = Field(
        default_factory=dict,
        description="Domains that are scored in another way, e.g. {chart: {functions: [chart], combine: gate}}.",
    )
    judge: JudgeConfig = Field(default_factory=JudgeConfig, description="The LLM judge.")
    model: RewardModelConfig = Field(default_factory=RewardModelConfig, description="The reward model.")
    num_actors: PositiveInt = Field(1, description="Scoring actors.")
    cpus_per_actor: float = Field(0, ge=0, description="Ray CPUs a scoring actor reserves.")
    timeout_s: PositiveFloat = Field(2.0, description="Time limit of one sample's symbolic comparison, in seconds.")

    @property
    def has_model(self) -> bool:
        """Whether any prompt may be scored by the reward model, which then has an actor of its own."""
        used = [self.functions, *(domain.functions for domain in self.domains.values())]
        return any(REWARD_MODEL in functions for functions in used)

    def functions_of(self, domain: str) -> list[str]:
        """The functions that score a domain, as the settings name them; empty where it is the default reward."""
        own = self.domains.get(domain)
        return own.functions if own is not None and own.functions else self.functions

    def style_of(self, domain: str) -> dict[str, Any] | None:
        """The options of `style` in a domain; None where it is off."""
        own = self.domains[domain].style if domain in self.domains else None
        if own is False or (own is None and self.style is False):
            return None
        return {**(self.style if isinstance(self.style, dict) else {}), **(own if isinstance(own, dict) else {})}

    @model_validator(mode="after")
    def _weights_match(self) -> Self:
        # An empty name: the functions and weights that all other domains have.
        for name, weights in {"": self.weights, **{name: own.weights for name, own in self.domains.items()}}.items():
            functions, adds_style = self.functions_of(name), self.style_of(name) is not None
            count = len(functions) or int(adds_style)
            if weights and len(weights) != count and not (adds_style and len(weights) == count + 1):
                where = f"reward.domains.{name}.weights" if name else "reward.weights"
                more = ", and one more for style" if adds_style else ""
                raise ValueError(f"{where} has {len(weights)} entries for {count} functions{more}")
        return self


GuessRate = Annotated[float, Field(ge=0, lt=1)] | Literal["auto"]
"""The chance of a right answer by luck, or `auto`: fitted while the run goes on."""


class CurriculumConfig(Section):
    """Which prompts are worth rolling out."""

    kind: str = Field(
        "rlcs",
        description="rlcs, posterior, uniform, easy_to_hard, dapo, path/to/file.py:Class or package.module:Class.",
    )
    domain_mix: dict[str, PositiveFloat] = Field(
        default_factory=dict, description="Target share of each domain; shares of the data if empty."
    )
    domain_balance: Literal["data", "sqrt", "equal", "learning_progress"] = Field(
        "data",
        description="Shares of the domains where domain_mix is empty: those of the data, their roots, or equal; "
        "learning_progress moves them (or domain_mix) to the domains whose pass rates change.",
    )
    domain_floor: float = Field(
        0.3, gt=0, le=1, description="learning_progress: least share of a domain, as a part of its share otherwise."
    )
    target_pass_rate: float = Field(0.5, gt=0, lt=1, description="Pass rate that the sampler aims for.")
    temperature: PositiveFloat = Field(
        0.25, description="Sharpness of the preference for the middle: smaller is sharper."
    )
    exploration: float = Field(0.05, ge=0, le=1, description="Least share of draws spread evenly over all tiers.")
    ema: float = Field(0.7, ge=0, lt=1, description="Weight of the past in the moving averages.")
    offline_weight: float = Field(
        4.0, ge=0, description="Trust in the offline tier, in rollouts, when merging it with observed pass rates."
    )
    estimator: Literal["item_response", "beta"] = Field(
        "item_response",
        description="posterior: how pass rates are estimated; a filter of abilities and difficulties, "
        "or a discounted Beta distribution a prompt.",
    )
    utility: Literal["variance", "useful"] = Field(
        "variance", description="posterior: what a prompt is worth; p(1 - p), or the chance of a group not all alike."
    )
    utility_temperature: PositiveFloat = Field(
        0.04, description="posterior: softness of the choice of the prompts worth most; smaller is greedier."
    )
    interval: float = Field(
        40.0,
        ge=1,
        description="posterior: iterations that prompts rest between rollouts, in the mean and if others suffice, in a domain "
        "whose prompts change greatly from one rollout to the next, or whose groups keep nothing of what is expected of them; "
        "elsewhere they do not rest.",
    )
    thompson: bool = Field(False, description="posterior: choose by a sampled pass rate, not by the expected worth.")
    guess_rate: dict[str, GuessRate] = Field(
        default_factory=dict,
        description="posterior: chance of a right answer by luck, by domain (0.25 for four choices), or auto to fit it.",
    )
    ability_drift: PositiveFloat = Field(
        0.01, description="posterior: variance that a domain's ability gains at each iteration, in squared logits."
    )
    difficulty_drift: float = Field(
        0.003, ge=0, description="posterior: variance that a prompt's difficulty gains an iteration, in squared logits."
    )
    expansion: bool = Field(True, description="Oversample by 1 / (1 - not-valid rate), then keep balanced groups.")
    max_expansion: float = Field(2.0, ge=1, description="Upper bound of the oversampling factor.")
    max_redraws: int = Field(3, ge=0, description="dapo: redraws an iteration where groups without a signal came up.")
    leftover_age: int = Field(
        0,
        ge=0,
        description="Updates for which a group with a signal that did not fit into a batch is kept for another; 0: none.",
    )


CRITIC_FIELDS = (
    "gamma", "lam", "whiten_advantages", "critic", "critic_path", "critic_learning_rate", "critic_warmup",
    "cliprange_value", "vf_coef",
)  # fmt: skip
"""Settings of `learner` that only `advantage_estimator: gae` reads."""


class LearnerConfig(Section):
    """The update: GRPO with AdamW."""

    optimizer: Literal["adamw", "adamw_8bit", "muon"] = Field(
        "adamw",
        description="AdamW; AdamW with moments of 8 bits (needs bitsandbytes); or Muon for the matrices of the layers, "
        "with AdamW for embeddings, head, norms and biases.",
    )
    timeout_s: PositiveFloat = Field(
        3600,
        description="A learner that does not answer for so many seconds, an update or a checkpoint, hangs: a new one goes "
        "on from the last checkpoint.",
    )
    learning_rate: float = Field(1e-6, gt=0, le=1, description="AdamW learning rate, and Muon's.")
    warmup_steps: int = Field(0, ge=0, description="Iterations of linear learning-rate warm-up.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay.")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="AdamW beta1.")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="AdamW beta2.")
    max_grad_norm: PositiveFloat = Field(1.0, description="Gradient norm is clipped to this.")
    advantage_estimator: Literal["grpo", "rloo", "reinforce_plus_plus", "reinforce_plus_plus_baseline", "gae"] = Field(
        "grpo",
        description="Baseline of a reward: mean of its group (grpo), of the group's others (rloo), of the batch "
        "(reinforce_plus_plus), of its group, then of the batch (reinforce_plus_plus_baseline), or PPO's critic (gae).",
    )
    loss_type: Literal["grpo", "dapo", "bnpo", "dr_grpo", "luspo", "cispo", "sapo", "vespo"] = Field(
        "grpo",
        description="Averaging of the clipped loss: within a sample, then over samples (grpo, the paper); over tokens "
        "(dapo, bnpo); sum over tokens / (samples x max_completion_length) (dr_grpo), or / samples (luspo). Other "
        "losses: clipped weights (cispo, over tokens), a soft gate (sapo, as grpo), gamma weights (vespo, over tokens).",
    )
    importance_sampling_level: Literal["token", "sequence"] = Field(
        "token", description="Probability ratio of each token, or its geometric mean over the response (GSPO)."
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        "group", description="grpo: divide advantages by the group's or batch's standard deviation, or not at all."
    )
    normalize_advantages: bool = Field(
        False, description="rloo: subtract the batch's mean from advantages and divide by its standard deviation."
    )
    gamma: float = Field(1.0, ge=0, le=1, description="gae: discount of a reward for each token it comes later.")
    lam: float = Field(
        0.95, ge=0, le=1, description="gae: lambda; 1 trusts rewards alone, 0 the critic's next value alone."
    )
    whiten_advantages: bool = Field(
        True, description="gae: subtract the mean from the batch's advantages and divide by their standard deviation."
    )
    critic: Literal["own", "shared"] = Field(
        "own", description="gae: a second model gives the values, or a head on the policy's trunk."
    )
    critic_path: HomePath | None = Field(
        None,
        description="gae: folder or hub name of the own critic's first weights, a causal language model, a reward model "
        "or a value model with the policy's tokenizer; the policy if null.",
    )
    critic_learning_rate: PositiveFloat = Field(
        1e-5, description="gae: learning rate of the own critic, or of the head on a shared trunk."
    )
    critic_warmup: int = Field(
        0, ge=0, description="gae: first iterations in which only the critic learns (only its head if shared)."
    )
    cliprange_value: PositiveFloat | None = Field(
        0.2, description="gae: values are clipped to this distance from those before the update; not if null."
    )
    vf_coef: PositiveFloat = Field(0.1, description="gae: weight of the value loss where the trunk is shared.")
    epsilon: float = Field(0.2, gt=0, lt=1, description="Lower clip range of the probability ratio.")
    epsilon_high: float = Field(
        0.28, gt=0, description="Upper clip range (clip-higher); cispo: the largest weight itself, such as 5."
    )
    delta: PositiveFloat | None = Field(
        None, description="Dual clip: largest ratio where the advantage is negative; over 1 + epsilon_high."
    )
    sapo_temperature_pos: PositiveFloat = Field(1.0, description="sapo: temperature at positive advantages.")
    sapo_temperature_neg: PositiveFloat = Field(1.05, description="sapo: temperature at all other advantages.")
    vespo_k_pos: float = Field(2.0, ge=0, description="vespo: exponent at advantages that are not negative.")
    vespo_lambda_pos: PositiveFloat = Field(3.0, description="vespo: decay at advantages that are not negative.")
    vespo_k_neg: float = Field(3.0, ge=0, description="vespo: exponent at negative advantages.")
    vespo_lambda_neg: PositiveFloat = Field(2.0, description="vespo: decay at negative advantages.")
    beta: float = Field(0.0, ge=0, description="Weight of the KL penalty to the initial policy; 0 keeps no copy of it.")
    kl_estimator: Literal["k1", "k2", "k3"] = Field(
        "k3", description="Estimate of the KL divergence: log-ratio (k1), half its square (k2), unbiased and >= 0 (k3)."
    )
    kl_placement: Literal["loss", "reward"] = Field(
        "loss", description="Add the KL penalty to the loss, or subtract its sum over a response from the reward."
    )
    use_bias_correction_kl: bool = Field(
        True, description="Multiply the KL penalty by the probability ratio, so that its gradient is unbiased."
    )
    num_iterations: PositiveInt = Field(1, description="Passes over each batch.")
    num_minibatches: PositiveInt = Field(1, description="Optimizer steps a pass; divides train.batch_size.")
    importance_sampling_correction: bool = Field(True, description="Importance sampling against the engine's logprobs.")
    importance_sampling_mode: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] = Field(
        "token_truncate",
        description="Weights of tokens or of whole responses; those out of bounds are truncated, or set to 0.",
    )
    importance_sampling_cap: PositiveFloat | None = Field(
        2.0, description="Upper bound of those weights (TRL's vllm_importance_sampling_clip_max); none if null."
    )
    importance_sampling_clip_min: PositiveFloat | None = Field(
        None, description="Lower bound of those weights; none if null."
    )
    mask_truncated_completions: bool = Field(
        False, description="Do not learn from responses that were cut off at max_completion_length."
    )
    off_policy_mask_threshold: PositiveFloat | None = Field(
        None,
        description="Do not learn from responses with a negative advantage whose mean log-ratio of the engine's to the "
        "current policy is over this, such as 0.5; null: from all.",
    )
    tokens_per_micro_batch: PositiveInt = Field(16_384, description="Token budget of one forward and backward.")
    long_sequences: Literal["alone", "truncate", "drop", "error"] = Field(
        "alone",
        description="A prompt and response longer than tokens_per_micro_batch: takes a micro-step of its own (alone), is "
        "learned up to the budget (truncate) or not at all (drop), or ends the run (error).",
    )
    layout: Literal["packed", "padded"] = Field(
        "packed", description="Tokens laid end to end with shared prompts computed once, or rows with padding."
    )
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="Learning rate after the warm-up: constant, or falling to 0 at the last iteration."
    )
    max_skipped_steps: PositiveInt = Field(
        10, description="Stop after this many optimizer steps in a row with gradients that are not finite."
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations in the backward pass.")
    cast_lm_head_to_fp32: bool = Field(
        False,
        description="model.dtype bfloat16: multiply by the head in float32 too, on a GPU; logits and log-probabilities are "
        "float32 in any case.",
    )
    num_ranks: PositiveInt | None = Field(
        None,
        description="Data-parallel ranks: processes that share the work of an update, with the result of one; null: one "
        "for each GPU of learner.gpus, or one.",
    )
    parallel: Literal["auto", "ddp", "fsdp"] = Field(
        "auto",
        description="Several ranks: a whole copy of the weights on each (ddp), or weights, gradients and optimizer cut "
        "over them (fsdp); auto: fsdp on GPUs, ddp on CPUs.",
    )
    cpus: float = Field(
        0, ge=0, description="Ray CPUs the learner's ranks reserve in all (0: they take turns with the engines)."
    )
    gpus: float = Field(0, ge=0, description="GPUs of the learner in all; more than 1: a rank for each.")
    threads: int = Field(0, ge=0, description="Compute threads of a rank; 0: all cores, shared with ranks beside it.")

    @model_validator(mode="after")
    def _losses_fit(self) -> Self:
        loss, level = self.loss_type, self.importance_sampling_level
        if loss == "cispo" and self.epsilon_high < 1:
            raise ValueError(
                f"learner.loss_type cispo caps ratios at learner.epsilon_high itself ({self.epsilon_high:g}), which cuts "
                "those of 1: set it to 5 or so"
            )
        if loss == "luspo" and level != "sequence":
            raise ValueError("learner.loss_type luspo needs learner.importance_sampling_level: sequence")
        if loss == "vespo" and level != "token":
            raise ValueError(
                "learner.loss_type vespo makes its own ratio of a sequence: leave learner."
                "importance_sampling_level at token"
            )
        if loss == "vespo" and self.importance_sampling_correction and "token" not in self.importance_sampling_mode:
            raise ValueError(
                "learner.loss_type vespo needs learner.importance_sampling_mode token_truncate or token_mask, "
                f"not {self.importance_sampling_mode}"
            )
        if self.delta is not None and loss in ("cispo", "sapo", "vespo"):
            raise ValueError(
                f"learner.delta has no effect with learner.loss_type {loss}, which does not clip: leave it out"
            )
        if self.delta is not None and self.delta <= 1 + self.epsilon_high:
            raise ValueError(
                f"learner.delta ({self.delta:g}) must be more than 1 + learner.epsilon_high ({1 + self.epsilon_high:g})"
            )
        low, high = self.importance_sampling_clip_min, self.importance_sampling_cap
        if low is not None and high is not None and low >= high:
            raise ValueError(
                f"learner.importance_sampling_clip_min ({low:g}) must be less than "
                f"learner.importance_sampling_cap ({high:g})"
            )
        return self

    @property
    def data_parallel_size(self) -> int:
        """The number of ranks."""
        return self.num_ranks or max(1, int(self.gpus))

    @property
    def is_sharded(self) -> bool:
        """Whether weights are cut over the ranks."""
        return self.data_parallel_size > 1 and (self.parallel == "fsdp" or (self.parallel == "auto" and self.gpus > 1))

    @model_validator(mode="after")
    def _whole_weights_where_needed(self) -> Self:
        if self.cast_lm_head_to_fp32 and self.is_sharded:
            raise ValueError(
                "learner.cast_lm_head_to_fp32 needs whole weights on each rank: set learner.parallel to ddp, or leave it out"
            )
        if self.optimizer != "adamw" and self.is_sharded:
            raise ValueError(
                f"learner.optimizer {self.optimizer} needs whole weights on each rank: set learner.parallel to ddp, or "
                "learner.optimizer to adamw"
            )
        return self

    @model_validator(mode="after")
    def _ranks_have_a_gpu_each(self) -> Self:
        ranks = self.data_parallel_size
        if (ranks > 1 or self.gpus > 1) and self.gpus not in (0, ranks):
            raise ValueError(
                f"learner.gpus ({self.gpus:g}) must be learner.num_ranks ({ranks}), a GPU a rank, or 0 for ranks on CPUs"
            )
        return self

    @model_validator(mode="after")
    def _critic_fits(self) -> Self:
        if self.advantage_estimator != "gae":
            for name in CRITIC_FIELDS:
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(
                        f"learner.{name} belongs to PPO and has no effect with learner.advantage_estimator "
                        f"{self.advantage_estimator}: set that to gae, or leave {name} out"
                    )
            return self
        if self.importance_sampling_level == "sequence" or self.loss_type == "vespo":
            what = "loss_type vespo" if self.loss_type == "vespo" else "importance_sampling_level sequence"
            raise ValueError(
                f"learner.advantage_estimator gae gives every token an advantage of its own, learner.{what} wants one a "
                "response: leave out one of them"
            )
        if self.critic == "shared" and self.critic_path is not None:
            raise ValueError(
                "learner.critic_path is of a critic with a trunk of its own: leave it out, or set learner.critic to own"
            )
        if self.critic == "own" and self.vf_coef != type(self).model_fields["vf_coef"].default:
            raise ValueError(
                "learner.vf_coef weighs the value loss on a shared trunk; a critic of its own has "
                "learner.critic_learning_rate: leave it out, or set learner.critic to shared"
            )
        return self

    @model_validator(mode="after")
    def _kl_has_a_gradient(self) -> Self:
        if not self.beta or self.kl_placement == "reward":
            return self
        if self.kl_estimator == "k1" and not self.use_bias_correction_kl:
            raise ValueError(
                "learner.kl_estimator k1 in the loss has a gradient of mean 0: set learner.use_bias_correction_kl "
                "to true, or learner.kl_placement to reward"
            )
        if self.kl_estimator == "k2" and self.use_bias_correction_kl:
            raise ValueError(
                "learner.kl_estimator k2 has the gradient of the KL divergence as it is: set "
                "learner.use_bias_correction_kl to false"
            )
        return self


class TrainConfig(Section):
    """The loop."""

    steps: PositiveInt = Field(100, description="Iterations: one rollout, one update.")
    batch_size: PositiveInt = Field(32, description="Groups (prompts) an update learns from.")
    max_generated_tokens: PositiveInt | None = Field(
        None, description="Stop after this many generated tokens, whatever `steps` says."
    )
    eval_every: int = Field(0, ge=0, description="Evaluate each so many iterations; 0: only before and after.")
    save_every: int = Field(25, ge=0, description="Checkpoint each so many iterations; 0: only at the end.")
    keep_last: PositiveInt = Field(2, description="Checkpoints kept.")
    keep_best: NonNegativeInt = Field(
        1,
        description="Checkpoints kept besides for the best held-out accuracy, of those that were evaluated (eval_every).",
    )
    background_save: bool = Field(
        True,
        description="Write checkpoints beside the next iterations, from a copy in the memory of the learner's machine; false: "
        "the loop waits, and no copy is made.",
    )
    checkpoint_url: str | None = Field(
        None,
        description="Folder in other storage that checkpoints are copied to, as URL/NAME, e.g. s3://bucket/runs (by fsspec; "
        "credentials are the storage's own affair).",
    )
    deterministic: bool = Field(
        False,
        description="Nothing depends on timing: on a CPU a run that was stopped and resumed has the same bits as one that was "
        "not. Engines get their requests dealt beforehand, which leaves the faster ones idle for a while.",
    )
    grace_s: PositiveFloat = Field(
        25,
        description="How long the machine leaves after a SIGTERM: rollouts that do not end in time are cut off, and what was "
        "learned is saved.",
    )

    @field_validator("checkpoint_url")
    @classmethod
    def _url_without_secrets(cls, url: str | None) -> str | None:
        if url is not None and "://" not in url:
            raise ValueError(
                f"train.checkpoint_url must be a URL, such as s3://bucket/runs or file:///mnt/runs, not {url!r}"
            )
        if url is not None and ":" in url.partition("://")[2].partition("/")[0].rpartition("@")[0]:
            raise ValueError(
                "train.checkpoint_url must hold no password, since config.yaml keeps it: give it to the storage's own "
                "settings or environment variables"
            )
        return url


class EvalConfig(Section):
    """Held-out evaluation."""

    num_samples: PositiveInt = Field(4, description="Responses a held-out prompt; the largest k of pass@k.")
    temperature: PositiveFloat = Field(1.0, description="Sampling temperature.")


class ClusterConfig(Section):
    """The Ray cluster that the actors run in."""

    address: str | None = Field(
        None, description="Ray cluster to join, e.g. auto; a local one is started if not given (or RAY_ADDRESS is set)."
    )
    num_cpus: PositiveInt | None = Field(
        None, description="CPUs of the local cluster; all of the machine if not given."
    )
    num_gpus: int | None = Field(None, ge=0, description="GPUs of the local cluster; all of the machine if not given.")
    placement: Literal["split", "colocate"] = Field(
        "split",
        description="GPUs of their own for engines and learner, or the same for both: the engines sleep while it works.",
    )
    num_nodes: PositiveInt = Field(1, description="Nodes that the actors are placed on.")
    gpus_per_node: int | None = Field(None, ge=0, description="GPUs of each node; num_gpus or those found if null.")
    gpu_memory_gib: PositiveFloat = Field(80.0, description="Memory of one GPU in GiB, for the estimates.")
    max_restarts: NonNegativeInt = Field(
        5, description="Engines and learners that may be replaced within one iteration; one more ends the run."
    )


class Config(Section):
    """Everything about a run."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the run and of its folder.")
    # Not validated: in strict JSON mode, which `rlcs.config_loading` uses, a path must be text.
    output_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        Path("runs"), validate_default=False, description="Folder that holds run folders."
    )
    seed: int = Field(0, ge=0, description="Seed of data, sampling and initialisation.")
    model: ModelConfig
    data: DataConfig
    sft: SFTSection = Field(default_factory=SFTSection)
    rollout: RolloutConfig = Field(default_factory=RolloutConfig)
    reward: RewardConfig = Field(default_factory=RewardConfig)
    curriculum: CurriculumConfig = Field(default_factory=CurriculumConfig)
    learner: LearnerConfig = Field(default_factory=LearnerConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    eval: EvalConfig = Field(default_factory=EvalConfig)
    cluster: ClusterConfig = Field(default_factory=ClusterConfig)
    logging: LoggingConfig = Field(default_factory=LoggingConfig)
    health: HealthConfig = Field(default_factory=HealthConfig)

    @property
    def run_dir(self) -> Path:
        """The run's folder."""
        return self.output_dir / self.name

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.train.batch_size % self.learner.num_minibatches:
            raise ValueError(
                f"train.batch_size ({self.train.batch_size}) must be divisible by "
                f"learner.num_minibatches ({self.learner.num_minibatches})"
            )
        if self.learner.critic_warmup >= self.train.steps:
            raise ValueError(
                f"learner.critic_warmup ({self.learner.critic_warmup}) must be less than train.steps "
                f"({self.train.steps}), or the policy never learns"
            )
        if not self.train.save_every and (watch := self.health.first_to("roll_back")):
            raise ValueError(
                f"health.{watch} roll_back needs checkpoints to go back to: set train.save_every over 0, or another action"
            )
        if "decoder" in self.model.freeze and self.learner.is_sharded:
            raise ValueError(
                "model.freeze with decoder needs whole weights on each rank: set learner.parallel to ddp, or let the "
                "decoder learn"
            )
        sequences = self.train.batch_size * self.rollout.num_generations // self.learner.num_minibatches
        if self.learner.data_parallel_size > sequences:
            raise ValueError(
                f"learner.num_ranks ({self.learner.data_parallel_size}) is more than the {sequences} responses of a "
                "minibatch: lower it or learner.num_minibatches"
            )
        if self.model.init == "tiny":
            longest = self.rollout.max_prompt_length + self.rollout.max_completion_length
            context = self.model.tiny.max_position_embeddings
            if longest > context:
                raise ValueError(
                    f"rollout.max_prompt_length + rollout.max_completion_length ({longest}) is more than the "
                    f"model's context (model.tiny.max_position_embeddings, {context})"
                )
        if self.sft.enabled and self.model.load_in_4bit and self.sft.use_peft is False:
            raise ValueError("sft.use_peft false trains all weights, which model.load_in_4bit forbids: leave it out")
        if self.model.load_in_4bit and not self.rollout.gpus_per_engine:
            raise ValueError(
                "model.load_in_4bit needs engines on GPUs (rollout.gpus_per_engine): vLLM has no 4 bits on CPUs"
            )
        if self.model.load_in_4bit and self.learner.data_parallel_size > 1 and self.learner.parallel != "ddp":
            raise ValueError(
                "model.load_in_4bit cannot be sharded over ranks: set learner.parallel to ddp, or learner.num_ranks to 1"
            )
        rollout = self.rollout
        _check_placement(self)
        if rollout.max_staleness and not self.learner.importance_sampling_correction:
            raise ValueError(
                f"rollout.max_staleness ({rollout.max_staleness}) learns from responses of an earlier policy: it needs "
                "learner.importance_sampling_correction true"
            )
        if rollout.max_staleness and self.train.deterministic:
            raise ValueError(
                f"train.deterministic needs rollout.max_staleness 0, not {rollout.max_staleness}: how far rollouts run ahead "
                "depends on when a run is stopped"
            )
        if rollout.max_staleness and self.cluster.placement == "colocate":
            raise ValueError(
                f"rollout.max_staleness ({rollout.max_staleness}) makes rollouts beside the update, and with "
                "cluster.placement colocate engines sleep meanwhile: set one of them to its default"
            )
        if rollout.gpus_per_engine and rollout.tensor_parallel_size > max(1, rollout.gpus_per_engine):
            raise ValueError(
                f"rollout.tensor_parallel_size ({rollout.tensor_parallel_size}) is more than "
                f"rollout.gpus_per_engine ({rollout.gpus_per_engine})"
            )
        return self


def _check_placement(config: Config) -> None:
    """GPUs are whole where they must be; engines and learner share them only where they take turns."""
    engine, learner = config.rollout.gpus_per_engine, config.learner.gpus
    for key, gpus in (("rollout.gpus_per_engine", engine), ("learner.gpus", learner)):
        if gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{key} ({gpus:g}) must be a whole number, or less than 1 for a part of a GPU")
    if config.cluster.placement == "colocate" and (engine < 1 or learner < 1):
        raise ValueError(
            f"cluster.placement colocate needs whole GPUs for engines and learner: rollout.gpus_per_engine is {engine:g}, "
            f"learner.gpus {learner:g}; parts of a GPU are shared without turns by cluster.placement split"
        )
