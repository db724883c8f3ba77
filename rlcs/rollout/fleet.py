"""The rollout fleet: the engines as Ray actors, their common queue, and the way of the weights to them."""

from __future__ import annotations

import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import ray
from numpy.typing import NDArray

from rlcs.actors import ActorProcess, own_process
from rlcs.config import ModelConfig, RolloutConfig
from rlcs.errors import EngineError
from rlcs.faults import Faults
from rlcs.rollout.engine import Engine, engine_env
from rlcs.rollout.engine_pool import EnginePool
from rlcs.rollout.episodes import EpisodeSettings
from rlcs.rollout.requests import Requests
from rlcs.rollout.work import Answer, LengthEstimator, SamplingSettings, deal
from rlcs.types import Group, Prompt
from rlcs.vision.pixels import PixelStore, SharedPixels, share_episodes, without_media
from rlcs.vitals import Vitals, Watched, measure

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SYNC_TIMEOUT_S = 600
_SIGN_EVERY_S = 1.0
"""How often an engine says that it goes on."""
_QUEUE_TIMEOUT_S = 30.0
_PURPOSES = ("training", "evaluation")


class EngineActor:
    """An `Engine` in a Ray actor."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._arguments = (args, kwargs)
        self._loaded: Engine | None = None
        self._finished: list[int] = []  # answered since the queue was asked the last time

    def process(self) -> ActorProcess:
        """This actor's process, which is there before the engine has loaded."""
        return own_process()

    def load(self) -> None:
        """Load the engine. Raises what it raises."""
        args, kwargs = self._arguments
        self._loaded = Engine(*args, **kwargs)

    @property
    def _engine(self) -> Engine:
        assert self._loaded is not None, "there is no engine before `load`"
        return self._loaded

    def generate(
        self,
        prompts: list[NDArray[np.int32]],
        counts: list[int],
        settings: SamplingSettings,
        name: str,
        source: Any,
        deadline_s: float,
        media: list[SharedPixels | None],
        seed: list[int],
        tasks: list[Prompt] | None = None,
    ) -> Iterator[Answer | None]:
        """See `Engine.generate`, and `Engine.play` where there are `tasks`; requests are those of the list `source`,
        or pulled from the queue actor `source`, which knows this engine as `name`.

        Where the queue is lost, what was pulled is answered and no more is asked for.
        """

        dealt = deque(source) if isinstance(source, list) else None

        def take(most: int) -> list[int]:
            if dealt is not None:
                return [dealt.popleft() for _ in range(min(most, len(dealt)))]
            finished, self._finished = self._finished, []
            try:
                taken: list[int] = ray.get(source.take.remote(most, name, finished), timeout=_QUEUE_TIMEOUT_S)
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
                return []
            return taken

        self._engine.seed(seed, deterministic=dealt is not None)
        if tasks is not None:
            made = self._engine.play(prompts, counts, settings, take, deadline_s, tasks, media)
        else:
            made = self._engine.generate(prompts, counts, settings, take, deadline_s=deadline_s, media=media)
        last_sign = time.monotonic()
        for answer in made:
            if answer is not None:
                self._finished.append(answer.index)
            if answer is not None or time.monotonic() - last_sign > _SIGN_EVERY_S:
                last_sign = time.monotonic()
                yield answer

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
        return measure(None if self._loaded is None else self._loaded.policy_version)


class RolloutFleet:
    """Engines that answer prompts; `start` must be called before the first use.

    Generation sees the weights of the last `sync`. Engines that fail are replaced (`rlcs.rollout.engine_pool`).
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
        faults: Faults | None = None,
        spare_path: str | None = None,
        episodes: EpisodeSettings | None = None,
        deterministic: bool = False,
    ) -> None:
        """`version`: number of updates that the policy in `model_path` has seen. `options`: Ray options of each engine's
        actor, where it has a reserved place (`rlcs.reservation`). `takes_turns`: the engines share GPUs with the learner;
        `sleep` before it works, and `sync` after. `faults`: counts the engines that fail; without it the first ends the
        run. `spare_path`: what an engine that replaces another loads before it is given the weights of the last sync, where
        `model_path` may be gone by then. `episodes`: where prompts are tasks of several turns. `deterministic`: who answers
        what is settled beforehand (`rlcs.rollout.work.deal`), not by which engine is free first.
        """
        self._config = config
        self._seed = seed
        self._deterministic = deterministic
        self._calls: Counter[str] = Counter()  # with the present weights, by purpose
        self._takes_turns = takes_turns
        self._plays = episodes is not None
        self._tokenizer = tokenizer
        self._lengths = LengthEstimator(default=config.max_completion_length / 2)
        self._pixels = PixelStore()
        self.faults = faults or Faults(0)
        self.set_aside: dict[str, str] = {}
        """Prompts that are answered no more, by their id: engines failed over them. And why."""
        self.lend_weights: Callable[[], Any] | None = None
        """A Ray reference to the present weights, for a new engine; where they do not come through `sync`."""
        self._version = version
        self._is_initial = True
        self._weights: Any = None  # of the last sync, for engines that start anew
        default = {"num_cpus": config.cpus_per_engine, "num_gpus": config.gpus_per_engine}
        actor = ray.remote(EngineActor)

        def start_engine(index: int, restarts: int) -> Any:
            return actor.options(
                **_with_env(options[index] if options else default, engine_env(config)), max_restarts=0
            ).remote(
                model_path if self._is_initial else spare_path or model_path,
                model,
                config,
                max_model_len=max_model_len or config.max_prompt_length + config.max_completion_length,
                # A new engine must not repeat the random numbers of the one before it.
                seed=seed + 1000 * index + 101 * restarts,
                version=self._version,
                takes_turns=takes_turns,
                transfer=transfer,
                episodes=episodes,
            )

        self._pool = EnginePool(start_engine, self._furnish, config.num_engines, self.faults, config.heartbeat_s)

    @property
    def engines(self) -> list[Any]:
        """Ray actors of the engines."""
        return self._pool.actors

    @property
    def restarts(self) -> int:
        """How often an engine was replaced."""
        return self._pool.restarts

    def start(self) -> None:
        """Wait until every engine has loaded. Raises EngineError if one could not."""
        self._pool.begin()

    def settle(self) -> None:
        """Wait until every engine that is being replaced is in service."""
        self._pool.settle()

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
        purpose: Literal["training", "evaluation"] = "training",
    ) -> list[Group]:
        """A group of responses for each prompt, in the order of `prompts`.

        `num_samples`: responses a prompt, one number or one for each; `rollout.num_generations` if not given. `temperature`
        and `thinking_budget`: those of `rollout` if not given. `purpose`: an evaluation leaves no trace in what is
        generated for training afterwards, so that a run that was resumed behind it needs none.

        A prompt that is `set_aside`, before or now, has none: see `rlcs.rollout.requests.answered`.

        Raises:
            TooManyFaultsError: engines failed more often than `cluster.max_restarts`.
            DeadlineError: one ran past `rollout.timeout_s`.
        """
        wanted = num_samples or self._config.num_generations
        all_counts = [wanted] * len(prompts) if isinstance(wanted, int) else list(wanted)
        places = [place for place, prompt in enumerate(prompts) if prompt.id not in self.set_aside]
        prompts, counts = [prompts[place] for place in places], [all_counts[place] for place in places]
        if not prompts:
            return []
        settings = SamplingSettings(
            max_tokens=self._config.max_completion_length,
            temperature=temperature or self._config.temperature,
            top_p=self._config.top_p,
            thinking_budget=thinking_budget or self._config.thinking_budget,
        )
        prompt_ids = [self.encode(prompt) for prompt in prompts]
        expected = [
            len(ids) + count * self._lengths.estimate(prompt)
            for prompt, ids, count in zip(prompts, prompt_ids, counts, strict=True)
        ]
        shared, media = ray.put(prompt_ids), self._pixels.share(prompts)
        shown = media if any(media) else []
        tasks = ray.put([without_media(prompt) for prompt in prompts]) if self._plays else None

        seed = [self._seed, self._version, _PURPOSES.index(purpose), self._calls[purpose]]
        self._calls[purpose] += 1
        submissions = itertools.count()  # an engine that asks again must not get the same random numbers again

        def submit(engine: Any, name: str, source: Any, number: int | None = None) -> Any:
            call = engine.generate.options(num_returns="streaming")
            place = [*seed, next(submissions) if number is None else number]
            return call.remote(shared, counts, settings, name, source, self._config.timeout_s, shown, place, tasks)

        requests = Requests(expected)
        if self._deterministic:
            found = self._pool.dealt_answers(requests, deal(expected, len(self.engines)), submit)
        else:
            found = self._pool.answers(requests, submit)
        answers = {answer.index: answer for answer in found}
        share_episodes([answer.responses for answer in answers.values()])
        for index in requests.set_aside:
            self._set_aside(prompts[index])
        groups = []
        for index, (prompt, ids) in enumerate(zip(prompts, prompt_ids, strict=True)):
            if index not in answers:
                continue
            answer = answers[index]
            if answer.prompt_ids is not None:
                ids = answer.prompt_ids
            group = Group(prompt=prompt, prompt_ids=ids, responses=answer.responses, media=media[index])
            if purpose == "training":
                self._lengths.observe(prompt, np.asarray([len(response.token_ids) for response in group.responses]))
            groups.append(group)
        return groups

    def sleep(self) -> None:
        """Leave GPUs that are shared with the learner to it, until the next `sync`; does nothing elsewhere."""
        if self._takes_turns:
            self._pool.each("sleep", timeout_s=_SYNC_TIMEOUT_S, doing="putting the engines to sleep")

    def sync(self, weights: Any, version: int) -> int:
        """Put new weights (a Ray reference to a dict by Hugging Face names) in place; returns their bytes.

        The reference is kept until the next sync, for engines that replace others.
        """
        self._begin(weights, version)
        self._pool.refurnish()
        doing = "syncing weights"
        return int(
            max(self._pool.each("load_weights", weights, version, timeout_s=_SYNC_TIMEOUT_S, doing=doing), default=0)
        )

    def adopt(self, version: int) -> None:
        """Every engine forgets what it has cached; its weights are of `version`."""
        self._begin(None, version)
        self._pool.each("adopt", version, timeout_s=_SYNC_TIMEOUT_S, doing="syncing weights")

    def _begin(self, weights: Any, version: int) -> None:
        self._pixels.clear()  # the next iteration has other prompts
        self._calls.clear()
        self._weights, self._version, self._is_initial = weights, version, False

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to hand out requests in the same order: JSON that `load_state_dict` takes."""
        return self._lengths.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._lengths.load_state_dict(state)

    def watched(self) -> list[Watched]:
        """The engines, for `rlcs.monitor`."""
        return self._pool.watched()

    def waiting(self) -> int:
        """Requests that no engine has taken yet."""
        return self._pool.waiting()

    def close(self) -> None:
        """End the engines' processes."""
        self._pool.close()

    def _furnish(self, engine: Any) -> Any:
        """Give a new engine the present weights; None where it has loaded them by itself."""
        if self._is_initial:
            return None
        weights = self._weights
        if weights is None:
            if self.lend_weights is None:
                raise EngineError("an engine was lost, and weights that were sent from GPU to GPU cannot be had again")
            weights = self.lend_weights()
        return engine.load_weights.remote(weights, self._version)

    def _set_aside(self, prompt: Prompt) -> None:
        if prompt.id not in self.set_aside:
            reason = "is set aside: two engines failed while they answered it"
            self.set_aside[prompt.id] = reason
            self.faults.note("poison_prompts", f"prompt {prompt.id}", reason)


def _with_env(options: dict[str, Any], env: dict[str, str]) -> dict[str, Any]:
    """Ray options with environment variables beside those that they have."""
    runtime_env = options.get("runtime_env", {})
    return {**options, "runtime_env": {**runtime_env, "env_vars": {**env, **runtime_env.get("env_vars", {})}}}
