"""The policy that reinforcement learning begins with: loaded, or made from nothing, then taught the response format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlcs.adapters import is_adapter_folder
from rlcs.config import Config, ModelConfig
from rlcs.data import DataSplits, load_solutions, load_splits
from rlcs.envs.base import Environment, EpisodeEnvironment, build_solutions, build_splits, load_env, work_out
from rlcs.errors import ConfigError
from rlcs.nothink import is_tagged, tag_share, untagged, without_thinking
from rlcs.response_format import render_response
from rlcs.sft import SFTExample, train_sft
from rlcs.types import Prompt
from rlcs.vision.sft import LaterTurn


def load_data(config: Config) -> tuple[Environment | None, DataSplits]:
    """The environment, if there is one, and the training and held-out prompts."""
    if config.data.env is None:
        return None, load_splits(config.data, config.seed)
    env = load_env(config.data.env)
    return env, build_splits(env, config.data, config.seed)


def load_examples(config: Config, env: Environment | None, data: DataSplits) -> list[SFTExample]:
    """The worked solutions of the cold start, none of a held-out prompt; an empty list where there is no cold start."""
    if not config.sft.enabled:
        return []
    share, seed = config.data.nothink, config.seed
    found = []
    for example in _examples(config, env, [untagged(prompt) for prompt in data.eval]):
        prompt = tag_share([example.prompt], share, seed)[0]
        found.append(_silent(example, prompt) if is_tagged(prompt) else example)
    return found


def _silent(example: SFTExample, prompt: Prompt) -> SFTExample:
    """A worked solution without thinking, for the tagged prompt."""
    later = tuple(replace(turn, response=without_thinking(turn.response)) for turn in example.later)
    return SFTExample(prompt, without_thinking(example.response), later)


def make_policy(config: Config, data: DataSplits, examples: list[SFTExample], folder: Path) -> str:
    """Folder or hub name of the policy: `model.path`, or `folder` after a small random policy was written there."""
    if config.model.path is not None:
        return config.model.path
    texts = [_prompt_text(prompt.messages) for prompt in data.train] + [
        text for example in examples for text in _texts(example)
    ]
    if config.model.init == "tiny-glm4v":
        from rlcs.vision.tiny_glm4v import build_tiny_glm4v as build
    else:
        from rlcs.models import build_tiny_policy as build
    build(folder, config.model.tiny, texts, config.seed)
    return str(folder)


def _texts(example: SFTExample) -> list[str]:
    """Responses and observations of a worked solution."""
    said = [str(part["text"]) for turn in example.later for part in turn.observation if "text" in part]
    return [example.response, *said, *(turn.response for turn in example.later)]


def teach_format(
    policy: str, examples: list[SFTExample], config: Config, folder: Path, report: Callable[[int, int, float], None]
) -> str:
    """Train `policy` on `examples` into `folder`; `report` is told step, number of steps and loss. Returns the folder."""
    callbacks = [_progress_callback(report)]
    train_sft(policy, examples, config.sft, folder, seed=config.seed, callbacks=callbacks, model=_adapted(config))
    return str(folder)


def _adapted(config: Config) -> ModelConfig | None:
    """The model's settings where the cold start trains an adapter, None where it trains all weights."""
    model = config.model
    if model.lora is None and not (model.path is not None and is_adapter_folder(model.path)):
        return None
    wanted = config.sft.use_peft
    # The random weights of a new policy have nothing to adapt.
    return model if wanted or (wanted is None and model.init is None) else None


def _examples(config: Config, env: Environment | None, held_out: list[Prompt]) -> list[SFTExample]:
    if env is not None and config.sft.solutions is None:
        solutions = build_solutions(
            env,
            config.data,
            count=config.sft.num_solutions,
            level_weights=config.sft.level_weights,
            held_out=held_out,
            seed=config.seed,
        )
        if isinstance(env, EpisodeEnvironment):
            return [_worked_episode(env, prompt) for prompt, _ in solutions]
        return [SFTExample(prompt, render_response(s.thinking, s.answer)) for prompt, s in solutions]
    rows = load_solutions(config.data, config.sft.solutions, held_out)
    return [SFTExample(prompt, solution) for prompt, solution in rows]


def _worked_episode(env: EpisodeEnvironment, prompt: Prompt) -> SFTExample:
    """A worked episode, all its turns to be learned."""
    turns = work_out(env, prompt)
    if turns is None:
        raise ConfigError(f"prompt {prompt.id} has a first worked turn, but not the others: `solve_turn` gave None")
    texts = [render_response(turn.solution.thinking, turn.solution.answer) for turn in turns]
    later = zip(turns[1:], texts[1:], strict=True)
    return SFTExample(prompt, texts[0], tuple(LaterTurn(turn.observation, turn.images, text) for turn, text in later))


def _prompt_text(messages: list[dict[str, Any]]) -> str:
    """The text of the messages, that of parts included."""
    texts = []
    for message in messages:
        content = message["content"]
        texts += [content] if isinstance(content, str) else [part["text"] for part in content if "text" in part]
    return "\n".join(texts)


def _progress_callback(report: Callable[[int, int, float], None]) -> Any:
    from transformers import TrainerCallback

    class ProgressCallback(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                report(state.global_step, state.max_steps, float(logs["loss"]))

    return ProgressCallback()
