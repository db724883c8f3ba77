"""The rollout fleet: the engines as Ray actors, their common queue, and the way of the weights to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from numpy.typing import NDArray

from rlcs.actors import get
from rlcs.config import ModelConfig, RolloutConfig
from rlcs.rollout.engine import Answer, Engine, engine_env
from rlcs.rollout.work import LengthEstimator, SamplingSettings, WorkQueue
from rlcs.types import Group, Prompt
from rlcs.vision.pixels import PixelStore, SharedPixels
from rlcs.vitals import Vitals, Watched, measure

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_START_TIMEOUT_S = 900
"""Loading a large model from a slow disk takes minutes."""
_SYNC_TIMEOUT_S = 600


class EngineActor:
    """An `Engine` in a Ray actor."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._engine = Engine(*args, **kwargs)

    def ready(self) -> bool:
        """Returns once the engine has loaded."""
        return True

    def generate(
        self,
        prompts: list[NDArray[np.int32]],
        counts: list[int],
        settings: SamplingSettings,
        queue: Any,
        deadline_s: float,
        media: list[SharedPixels | None],
    ) -> list[Answer]:
        """See `Engine.generate`; requests are pulled from the queue actor."""
        return self._engine.generate(
            prompts, counts, settings, lambda most: ray.get(queue.take.remote(most)), deadline_s=deadline_s, media=media
        )

    def sleep(self) -> None:
        """See `Engine.sleep`."""
        self._engine.sleep()

    def load_weights(self, weights: dict[str, Any], version: int) -> int:
        """See `Engine.load_weights`; returns their bytes."""
        self._engine.load_weights(weights, version)
        return sum(value.nbytes for value in weights.values())

    def transfer(self, method: str, arguments: dict[str, Any]) -> None:
        """See `Engine.transfer`."""
        self._engine.transfer(method, arguments)

    def adopt(self, version: int) -> None:
        """See `Engine.adopt`."""
        self._engine.adopt(version)

    def vitals(self) -> Vitals:
        """How this process is."""
        return measure(self._engine.policy_version)


class RolloutFleet:
    """Engines that answer prompts; `start` must be called before the first use.

    Generation sees the weights of the last `sync`.
    """

    def __init__(
        self,
        model_path: str,
        model: ModelConfig,
        config: RolloutConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        seed: int,
        version: int = 0,
        max_model_len: int | None = None,
        options: Sequence[dict[str, Any]] | None = None,
        takes_turns: bool = False,
        transfer: str | None = None,
    ) -> None:
        """`version`: number of updates that the policy in `model_path` has seen. `options`: Ray options of each engine's
        actor, where it has a reserved place (`rlcs.reservation`). `takes_turns`: the engines share GPUs with the learner;
        `sleep` before it works, and `sync` after.
        """
        self._config = config
        self._takes_turns = takes_turns
        self._tokenizer = tokenizer
        self._lengths = LengthEstimator(default=config.max_completion_length / 2)
        self._pixels = PixelStore()
        self._queue = ray.remote(WorkQueue).options(num_cpus=0).remote()
        actor = ray.remote(EngineActor)
        default = {"num_cpus": config.cpus_per_engine, "num_gpus": config.gpus_per_engine}
        self.engines = [
            actor.options(**_with_env(options[index] if options else default, engine_env(config))).remote(
                model_path,
                model,
                config,
                max_model_len=max_model_len or config.max_prompt_length + config.max_completion_length,
                seed=seed + 1000 * index,
                version=version,
                takes_turns=takes_turns,
                transfer=transfer,
            )
            for index in range(config.num_engines)
        ]

    def start(self) -> None:
        """Wait until every engine has loaded. Raises EngineError if one could not."""
        get([engine.ready.remote() for engine in self.engines], _START_TIMEOUT_S, "starting the engines")

    def encode(self, prompt: Prompt) -> NDArray[np.int32]:
        """[P] the prompt's tokens by the policy's chat template."""
        ids = self._tokenizer.apply_chat_template(
            prompt.messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return np.asarray(ids, dtype=np.int32)

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        num_samples: int | Sequence[int] | None = None,
        temperature: float | None = None,
        thinking_budget: int | None = None,
    ) -> list[Group]:
        """A group of responses for each prompt, in the order of `prompts`.

        `num_samples`: responses a prompt, one number or one for each; `rollout.num_generations` if not given. `temperature`
        and `thinking_budget`: those of `rollout` if not given.

        Raises:
            EngineError: an engine died, failed or ran past `rollout.timeout_s`.
        """
        if not prompts:
            return []
        settings = SamplingSettings(
            max_tokens=self._config.max_completion_length,
            temperature=temperature or self._config.temperature,
            top_p=self._config.top_p,
            thinking_budget=thinking_budget or self._config.thinking_budget,
        )
        wanted = num_samples or self._config.num_generations
        counts = [wanted] * len(prompts) if isinstance(wanted, int) else list(wanted)
        prompt_ids = [self.encode(prompt) for prompt in prompts]
        expected = [
            len(ids) + count * self._lengths.estimate(prompt)
            for prompt, ids, count in zip(prompts, prompt_ids, counts, strict=True)
        ]
        # Engines pull through calls of their own, which Ray does not order after this one: wait for it.
        get(self._queue.fill.remote(expected, len(self.engines)), 60, "filling the request queue")
        shared, media = ray.put(prompt_ids), self._pixels.share(prompts)
        shown = media if any(media) else []
        calls = [
            engine.generate.remote(shared, counts, settings, self._queue, self._config.timeout_s, shown)
            for engine in self.engines
        ]
        # Engines watch the deadline themselves; the grace covers one that hangs inside a step.
        results = get(calls, self._config.timeout_s + 30, "generating")
        answers: dict[int, Answer] = {answer.index: answer for part in results for answer in part}
        groups = []
        for index, (prompt, ids) in enumerate(zip(prompts, prompt_ids, strict=True)):
            answer = answers[index]
            if answer.prompt_ids is not None:
                ids = answer.prompt_ids
            group = Group(prompt=prompt, prompt_ids=ids, responses=answer.responses, media=media[index])
            self._lengths.observe(prompt, np.asarray([len(response.token_ids) for response in group.responses]))
            groups.append(group)
        return groups

    def sleep(self) -> None:
        """Leave GPUs that are shared with the learner to it, until the next `sync`; does nothing elsewhere."""
        if self._takes_turns:
            get([engine.sleep.remote() for engine in self.engines], 600, "putting the engines to sleep")

    def sync(self, weights: Any, version: int) -> int:
        """Put new weights (a Ray reference to a dict by Hugging Face names) in place; returns their bytes."""
        self._pixels.clear()  # the next iteration has other prompts
        calls = [engine.load_weights.remote(weights, version) for engine in self.engines]
        return int(max(get(calls, _SYNC_TIMEOUT_S, "syncing weights")))

    def adopt(self, version: int) -> None:
        """Every engine forgets what it has cached; its weights are of `version`."""
        self._pixels.clear()
        get([engine.adopt.remote(version) for engine in self.engines], _SYNC_TIMEOUT_S, "syncing weights")

    def watched(self) -> list[Watched]:
        """The engines, for `rlcs.monitor`."""
        return [Watched(f"engine-{index}", "rollouts", engine) for index, engine in enumerate(self.engines)]

    def waiting(self) -> int:
        """Requests that no engine has taken yet."""
        return int(get(self._queue.waiting.remote(), 5, "asking the request queue"))

    def close(self) -> None:
        """End the engines' processes."""
        for actor in [*self.engines, self._queue]:
            ray.kill(actor)


def _with_env(options: dict[str, Any], env: dict[str, str]) -> dict[str, Any]:
    """Ray options with environment variables beside those that they have."""
    runtime_env = options.get("runtime_env", {})
    return {**options, "runtime_env": {**runtime_env, "env_vars": {**env, **runtime_env.get("env_vars", {})}}}
