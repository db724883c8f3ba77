"""Checks that need the machine, made before anything starts: folders, files, the cluster, the length of prompts.

Checks that need nothing but the numbers are validators in `rlcs.config`; rewards are checked in `rlcs.preflight_rewards`,
curricula and environments where they are loaded. Nothing here imports Ray, vLLM or torch.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlcs.adapters import base_model, is_adapter_folder
from rlcs.config import Config
from rlcs.data import describe
from rlcs.data_files import check_exists
from rlcs.errors import ConfigError, DataError, one_line
from rlcs.models import check_model_folder, read_model_json, text_config
from rlcs.types import Prompt
from rlcs.weight_sync import choose_backend

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from rlcs.vision.processing import VisionProcessor

_LOOKED_AT = 50
"""Prompts of a domain whose pictures are measured before a run; drawing all of them would take minutes."""
_CHUNK = 256
"""Prompts tokenized at once."""


def check_before_start(config: Config, *, num_cpus: float, num_gpus: float) -> None:
    """Check that a new run could start on a cluster of `num_cpus` CPUs and `num_gpus` GPUs.

    Raises:
        ConfigError: the run's folder exists already or cannot be made; the actors need more than the cluster has, or are
            placed where rollout.weight_sync cannot work; the model's context is too short.
        DataError: the model's folder or a data file is missing or incomplete.
    """
    _check_run_folder(config)
    check_model_folder(config.model)
    _check_critic(config.learner.critic_path)
    check_adapter(config)
    check_context(config)
    for key, name in (
        ("data.train", config.data.train),
        ("data.eval", config.data.eval),
        ("sft.solutions", config.sft.solutions if config.sft.enabled else None),
    ):
        if name is not None:
            check_exists(name, key)
    check_cluster(config, num_cpus, num_gpus)
    choose_backend(config)


def available_cpus(config: Config) -> float:
    """CPUs that Ray will have: of the local cluster, or without a limit where another is joined."""
    if config.cluster.address is not None or "RAY_ADDRESS" in os.environ:
        return float("inf")
    return float(config.cluster.num_cpus or len(os.sched_getaffinity(0)))


def available_gpus(config: Config) -> float:
    """GPUs that Ray will have, counted without starting CUDA."""
    if config.cluster.address is not None or "RAY_ADDRESS" in os.environ:
        return float("inf")
    if config.cluster.num_gpus is not None:
        return float(config.cluster.num_gpus)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return float(len([device for device in visible.split(",") if device.strip()]))
    return float(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))


def check_adapter(config: Config) -> None:
    """What QLoRA needs is installed, and the cold start can train what it is told to.

    Raises:
        ConfigError: it is not, or cannot.
    """
    model = config.model
    if model.load_in_4bit and importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            "model.load_in_4bit needs the package bitsandbytes, which is not installed: pip install bitsandbytes, or "
            "leave the setting out"
        )
    is_adapter = model.path is not None and is_adapter_folder(model.path)
    if not config.sft.enabled or config.sft.use_peft is None:
        return
    if config.sft.use_peft and model.lora is None and not is_adapter:
        raise ConfigError(
            "sft.use_peft trains the adapter of model.lora, which is not set: give model.lora.r, for example"
        )
    if is_adapter and not config.sft.use_peft:
        raise ConfigError(
            f"sft.use_peft is false, but {model.path} is an adapter: leave the setting out to go on with it, or merge it "
            "with `rlcs merge` to train all weights"
        )


def check_prompt_lengths(
    prompts: Sequence[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    max_prompt_length: int,
    context_length: int | None,
    max_completion_length: int,
    vision: VisionProcessor | None = None,
) -> None:
    """Check that every prompt fits, in tokens of its chat template with the generation prompt.

    `vision`: counts the tokens that stand for pictures and videos, where some prompts have them; of pictures that are drawn
    when they are needed some of a domain are looked at, and the others taken to be like the largest of these.

    Raises:
        DataError: names the longest prompt that is longer than `max_prompt_length`, or whose length with
            `max_completion_length` exceeds `context_length` (None: not known), and says how many there are; or names the
            prompt that the chat template refuses.
    """
    too_long = find_too_long(prompts, tokenizer, max_prompt_length, context_length, max_completion_length, vision)
    if not too_long:
        return
    prompt, length, shown = max(too_long, key=lambda found: found[1])
    others = f"; {len(too_long)} prompts are too long" if len(too_long) > 1 else ""
    if length > max_prompt_length:
        limit = f"more than rollout.max_prompt_length ({max_prompt_length})"
        advice = "raise it, or take such prompts out of the data"
    else:
        limit = (
            f"and with rollout.max_completion_length ({max_completion_length}) {length + max_completion_length}, "
            f"more than the model's context ({context_length})"
        )
        advice = "lower rollout.max_completion_length, or take such prompts out of the data"
    of_pictures = f" ({shown} of them for what it shows)" if shown else ""
    raise DataError(f"prompt {describe(prompt)} has {length} tokens{of_pictures}, {limit}: {advice}{others}")


def find_too_long(
    prompts: Sequence[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    max_prompt_length: int,
    context_length: int | None,
    max_completion_length: int,
    vision: VisionProcessor | None = None,
) -> list[tuple[Prompt, int, int]]:
    """The prompts that `check_prompt_lengths` would refuse, with their tokens and how many of them stand for pictures.

    Raises:
        DataError: names the prompt that the chat template refuses.
    """
    room = max_prompt_length
    if context_length is not None:
        room = min(room, context_length - max_completion_length)
    return [found for found in _prompt_lengths(prompts, tokenizer, vision) if found[1] > room]


def _prompt_lengths(
    prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, vision: VisionProcessor | None
) -> Iterator[tuple[Prompt, int, int]]:
    drawn = [prompt for prompt in prompts if not _sizes_are_known(prompt)]
    estimates = _vision_tokens(drawn, vision) if vision is not None else {}
    for start in range(0, len(prompts), _CHUNK):
        chunk = prompts[start : start + _CHUNK]
        texts = [_render(prompt, tokenizer) for prompt in chunk]
        # The template writes the special tokens itself, as apply_chat_template takes it too.
        encoded: Any = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)
        for prompt, ids in zip(chunk, encoded["input_ids"], strict=True):
            shown = 0
            if vision is not None:
                is_known = _sizes_are_known(prompt)
                shown = vision.num_tokens(prompt) if is_known else estimates.get(prompt.domain, 0)
            yield prompt, len(ids) + shown, shown


def _sizes_are_known(prompt: Prompt) -> bool:
    """Whether the pictures and frames of a prompt need not be opened to count their tokens."""
    firsts = [video.frames[0] for video in prompt.videos]
    return all(image.size is not None for image in (*prompt.images, *firsts))


def _vision_tokens(prompts: Sequence[Prompt], vision: VisionProcessor) -> dict[str, int]:
    """By domain, the most tokens that stand for what a prompt shows, among `_LOOKED_AT` prompts spread over it."""
    by_domain: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_domain.setdefault(prompt.domain, []).append(prompt)
    return {
        domain: max(vision.num_tokens(prompt) for prompt in members[:: -(-len(members) // _LOOKED_AT)])
        for domain, members in by_domain.items()
    }


def _render(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> str:
    try:
        text = tokenizer.apply_chat_template(prompt.messages, add_generation_prompt=True, tokenize=False)
    except Exception as error:  # a template is foreign code: jinja's errors, and any that its operations raise
        raise DataError(f"the model's chat template refuses prompt {describe(prompt)}: {one_line(error)}") from error
    assert isinstance(text, str)
    return text


def _check_run_folder(config: Config) -> None:
    run_dir = config.run_dir
    try:
        if run_dir.is_dir() and any(run_dir.iterdir()):
            raise ConfigError(
                f"the run folder {run_dir} exists already: choose another with name=..., "
                f"or go on with that run by `rlcs train --resume {run_dir}`"
            )
        if run_dir.exists() and not run_dir.is_dir():
            raise ConfigError(f"the run folder {run_dir} is a file: choose another with name=... or output_dir=...")
        parent = run_dir.absolute()
        while not parent.exists() and parent != parent.parent:
            parent = parent.parent
    except OSError as error:
        raise ConfigError(f"the run folder {run_dir} cannot be looked at: {error.strerror or error}") from error
    if not parent.is_dir():
        raise ConfigError(f"the run folder {run_dir} cannot be made: {parent} is a file; set output_dir=...")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(f"the run folder {run_dir} cannot be made: no right to write to {parent}; set output_dir=...")


def _check_critic(path: str | None) -> None:
    """A folder is there and is a model's; a hub name is tried where the critic is loaded."""
    if path is None or (Path(path) / "config.json").is_file():
        return
    if Path(path).is_dir():
        raise DataError(f"learner.critic_path: {path} has no config.json, so it is no model folder")
    if Path(path).is_absolute() or path.startswith(".") or path.count("/") != 1:
        raise DataError(f"learner.critic_path: there is no folder {path}")


def check_context(config: Config) -> None:
    """The longest prompt and response must fit into the context that a local model folder states."""
    if config.model.path is None:
        return
    path = Path(base_model(config.model.path)) / "config.json"
    if not path.is_file():
        return
    context = text_config(read_model_json(path)).get("max_position_embeddings")
    longest = config.rollout.max_prompt_length + config.rollout.max_completion_length
    if isinstance(context, int) and longest > context:
        raise ConfigError(
            f"rollout.max_prompt_length + rollout.max_completion_length ({longest}) is more than the context of "
            f"{config.model.path} ({context}): lower one of them"
        )


def check_cluster(config: Config, num_cpus: float, num_gpus: float) -> None:
    rollout, learner, reward = config.rollout, config.learner, config.reward
    cpus = rollout.num_engines * rollout.cpus_per_engine + learner.cpus + reward.num_actors * reward.cpus_per_actor
    gpus = rollout.num_engines * rollout.gpus_per_engine + learner.gpus
    scorers, more_gpus = f"{reward.num_actors} scoring actors x {reward.cpus_per_actor:g}", ""
    if reward.has_model:
        cpus += reward.cpus_per_actor
        gpus += reward.model.num_gpus
        scorers += f", reward model {reward.cpus_per_actor:g}"
        more_gpus = f", reward model {reward.model.num_gpus:g}"
    if config.cluster.placement == "colocate":  # engines and learner take turns on the same
        gpus -= min(rollout.num_engines * rollout.gpus_per_engine, learner.gpus)
    if cpus > num_cpus + 1e-9:
        raise ConfigError(
            f"the actors need {cpus:g} CPUs ({rollout.num_engines} engines x {rollout.cpus_per_engine:g}, learner "
            f"{learner.cpus:g}, {scorers}), but the cluster has "
            f"{num_cpus:g}: lower rollout.num_engines or rollout.cpus_per_engine"
        )
    if gpus > num_gpus + 1e-9:
        raise ConfigError(
            f"the actors need {gpus:g} GPUs ({rollout.num_engines} engines x {rollout.gpus_per_engine:g}, learner "
            f"{learner.gpus:g}{more_gpus}), but the cluster has {num_gpus:g}: lower rollout.num_engines, "
            "rollout.gpus_per_engine or learner.gpus"
        )
