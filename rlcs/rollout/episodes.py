"""Episodes: an environment and the policy take turns, many episodes at once.

The environment runs in worker processes (`rlcs.rollout.environment_worker`), so that a step that hangs or crashes ends
nothing but itself: the policy is told, as it is of any error of a tool, and goes on. While one episode waits for its
environment the engine samples the others. The next turn is a new request whose beginning is in vLLM's prefix cache.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlcs.config import Config
from rlcs.envs.base import EpisodeEnvironment, Turn, load_env
from rlcs.errors import ConfigError, DeadlineError
from rlcs.images import ImageError
from rlcs.plugins import absolute_form
from rlcs.rewards.workers import KillablePool, WorkerOutcome, WorkerResult
from rlcs.rollout.backend import Backend, Sample
from rlcs.rollout.environment_worker import read_score, read_turn, request
from rlcs.rollout.force_answer import ForceAnswer
from rlcs.rollout.trajectory import Said, Trajectory
from rlcs.rollout.work import Answer, SamplingSettings, Take
from rlcs.turns import TurnTemplate
from rlcs.types import FinishReason, Group, Image, Prompt, Response, Score
from rlcs.vision.pixels import Loadable, Pixels

logger = logging.getLogger(__name__)

_MOST_FAILURES = 32
"""Steps that may fail before any has succeeded."""
_MEMORY_MB = 1 << 26
"""No limit in practice: an environment may drive a browser, which reserves far more addresses than memory."""


@dataclass(frozen=True, slots=True)
class EpisodeSettings:
    """Which environment plays, and how long."""

    env: str
    """Its form, the path of a file made absolute."""
    max_turns: int
    max_turn_tokens: int | None = None
    """Longest response of a turn."""
    step_timeout_s: float = 30.0
    workers: int = 1
    """Processes of an engine."""

    @classmethod
    def of(cls, config: Config) -> EpisodeSettings | None:
        """Those of a run; None where its tasks have a single turn. Raises ConfigError if there is no such environment."""
        if config.data.env is None:
            return None
        env = load_env(config.data.env)
        if not isinstance(env, EpisodeEnvironment):
            return None
        given = config.rollout.episodes
        return cls(
            absolute_form(config.data.env),
            given.max_turns or env.max_turns,
            given.max_turn_length,
            given.step_timeout_s,
            given.workers,
        )


@dataclass(frozen=True, slots=True)
class PolicySide:
    """What a player must know of the policy."""

    tokenizer: Any
    version: int = 0
    sees: bool = False
    media_tokens: frozenset[int] = frozenset()
    """Tokens that stand for pixels or enclose them."""
    count_tokens: Callable[[Sequence[tuple[int, int]]], int] = len
    """Tokens that stand for pictures of so many pixels (height, width)."""


@dataclass(slots=True)
class _Episode:
    index: int
    """Of the prompt."""
    place: int
    """Of the response in its group."""
    trajectory: Trajectory = field(default_factory=Trajectory)
    state: dict[str, Any] | None = None
    gives_up: bool = False
    response: Response | None = None

    @property
    def key(self) -> str:
        """The name of its requests."""
        return f"{self.index}/{self.place}"


@dataclass(slots=True)
class _Game:
    """One call of `EpisodePlayer.play`."""

    prompts: Sequence[Prompt]
    prompt_ids: Sequence[NDArray[np.int32]]
    sampling: SamplingSettings
    backend: Backend
    policy: PolicySide
    force: ForceAnswer | None
    media: Sequence[Loadable | None]
    template: TurnTemplate
    pictures: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    """Decoded, by digest."""
    expanded: dict[int, list[int]] = field(default_factory=dict)
    """Prompts as the engine saw them."""
    sampling_now: dict[str, _Episode] = field(default_factory=dict)
    stepping: dict[Future[WorkerResult], _Episode] = field(default_factory=dict)


class EpisodePlayer:
    """Plays episodes of one environment; `close` ends its processes."""

    def __init__(self, settings: EpisodeSettings) -> None:
        self._settings = settings
        self._pool = KillablePool(
            "rlcs.rollout.environment_worker:answer",
            timeout_s=settings.step_timeout_s,
            memory_mb=_MEMORY_MB,
            num_workers=settings.workers,
        )
        self._pool.start()
        self._threads = ThreadPoolExecutor(settings.workers, thread_name_prefix="episodes")
        self._failures = 0
        self._has_succeeded = False

    def close(self) -> None:
        """End the environment's processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pool.close()

    def play(
        self,
        backend: Backend,
        policy: PolicySide,
        prompts: Sequence[Prompt],
        prompt_ids: Sequence[NDArray[np.int32]],
        counts: Sequence[int],
        sampling: SamplingSettings,
        take: Take,
        deadline_s: float,
        max_running: int,
        media: Sequence[Loadable | None] = (),
    ) -> Iterator[Answer | None]:
        """`counts[i]` episodes of each prompt whose index i `take` hands out, `max_running` at once.

        Yields each answer when its last episode has ended, and None now and then, as a sign of life.

        Raises:
            DeadlineError: `deadline_s` seconds have passed.
            ConfigError: the environment fails at every step, or shows pictures to a policy that takes text alone.
            DataError: the policy's chat template has no room for a second turn.
        """
        force = None
        if sampling.thinking_budget is not None:
            force = ForceAnswer.of(sampling.thinking_budget, policy.tokenizer)
        template = TurnTemplate(policy.tokenizer)
        game = _Game(prompts, prompt_ids, sampling, backend, policy, force, media, template)
        usual = max(1, round(sum(counts) / max(1, len(counts))))
        deadline = time.monotonic() + deadline_s
        groups: dict[int, list[_Episode]] = {}
        queue_is_empty = False
        while True:
            running = len(game.sampling_now) + len(game.stepping)
            room = max(int(running == 0), (max_running - running) // usual)
            if not queue_is_empty and room > 0:
                indices = take(room)
                queue_is_empty = not indices
                for index in indices:
                    groups[index] = [_Episode(index, place) for place in range(counts[index])]
                    for episode in groups[index]:
                        self._sample(game, episode)
            if not game.sampling_now and not game.stepping:
                if queue_is_empty:
                    return
                continue
            if game.sampling_now:
                for sample in backend.step():
                    self._end_turn(game, sample)
            if game.stepping:
                patience = 0.0 if game.sampling_now else max(0.0, min(1.0, deadline - time.monotonic()))
                for future in wait(game.stepping, patience, FIRST_COMPLETED).done:
                    self._go_on(game, game.stepping.pop(future), future.result())
            for index in [index for index, group in groups.items() if all(e.response is not None for e in group)]:
                responses = [e.response for e in groups.pop(index) if e.response is not None]
                yield Answer(index, responses, _array(game.expanded.pop(index, None)))
            yield None
            if time.monotonic() > deadline:
                raise DeadlineError(
                    f"an engine did not finish within rollout.timeout_s ({deadline_s:g} s); {len(groups)} prompts were "
                    "still running: raise the limit, or lower rollout.episodes.max_turns or max_completion_length"
                )

    def _sample(self, game: _Game, episode: _Episode) -> None:
        """Ask the engine to go on with the present turn."""
        trajectory = episode.trajectory
        most = trajectory.room(game.sampling.max_tokens, self._settings.max_turn_tokens)
        if game.force is not None and not trajectory.turn.token_ids:
            most = min(most, game.force.budget)
        shown = game.media[episode.index] if game.media else None
        pixels = None if shown is None else shown.load()
        later = tuple(game.pictures[image.digest] for image in trajectory.images)
        if later:
            pixels = Pixels(later) if pixels is None else Pixels(pixels.images + later, pixels.videos)
        tokens = [*game.prompt_ids[episode.index].tolist(), *trajectory.sent]
        game.sampling_now[episode.key] = episode
        game.backend.add(episode.key, tokens, pixels, most)

    def _end_turn(self, game: _Game, sample: Sample) -> None:
        """The engine has ended a request: the turn goes on behind forced tokens, or it is the environment's turn."""
        episode = game.sampling_now.pop(sample.key)
        trajectory, index = episode.trajectory, episode.index
        if game.media and game.media[index] and not trajectory.said and not trajectory.turn.token_ids:
            game.expanded[index] = list(sample.prompt_ids)
        prompt_tokens = len(game.expanded.get(index, game.prompt_ids[index]))
        trajectory.learn_sent(prompt_tokens, sample.prompt_ids)
        turn = trajectory.turn
        turn.extend(sample.token_ids, sample.logprobs, is_cut=sample.is_cut)
        if game.force is not None:
            limit = len(turn.token_ids) + trajectory.room(game.sampling.max_tokens, self._settings.max_turn_tokens)
            inserted = game.force.continuation(turn, limit)
            if inserted is not None:
                turn.force(inserted)
                self._sample(game, episode)
                return
        tokens, end = turn.token_ids, game.policy.tokenizer.eos_token_id
        text = self._decode(game, tokens[:-1] if tokens and tokens[-1] == end else tokens)
        self._ask(game, episode, text)

    def _ask(self, game: _Game, episode: _Episode, response: str | None) -> None:
        """Hand a response to the environment, or None to have its score."""
        wanted = request(self._settings.env, game.prompts[episode.index], episode.state, response)
        episode.gives_up = response is None
        game.stepping[self._threads.submit(lambda: self._pool.run([wanted])[0])] = episode

    def _go_on(self, game: _Game, episode: _Episode, result: WorkerResult) -> None:
        """The environment has answered: the next turn, or the end."""
        self._count(result)
        if episode.gives_up:
            failed = Score(0.0, correct=False, detail=f"the environment failed: {result.detail}")
            score = read_score(result.value["score"]) if result.outcome == WorkerOutcome.OK else failed
            self._end(game, episode, score, FinishReason.LENGTH)
            return
        is_error = result.outcome != WorkerOutcome.OK
        turn = Turn(episode.state or {}, _failure(result)) if is_error else read_turn(result.value)
        if turn.score is not None:
            self._end(game, episode, turn.score, FinishReason.STOP)
            return
        if not is_error:
            episode.state = turn.state
        try:
            sizes = [self._picture(game, image) for image in turn.images]
        except ImageError as error:
            turn, sizes, is_error = Turn(turn.state, _told(f"a picture cannot be decoded: {error}")), [], True
        trajectory, policy = episode.trajectory, game.policy
        tokens = trajectory.turn.token_ids
        over = len(trajectory.turns) >= self._settings.max_turns or not policy.media_tokens.isdisjoint(tokens)
        if not over:
            messages = game.prompts[episode.index].messages
            between = game.template.between(messages, turn.observation or [], tokens[-1] if tokens else None)
            count = len(between.token_ids) + (policy.count_tokens(sizes) - len(sizes) if sizes else 0)
            over = trajectory.size + count >= game.sampling.max_tokens
        if over:
            self._ask(game, episode, None)
            return
        trajectory.say(Said(between, count, turn.images, is_error))
        self._sample(game, episode)

    def _end(self, game: _Game, episode: _Episode, score: Score | None, reason: FinishReason) -> None:
        trajectory, policy = episode.trajectory, game.policy
        end = policy.tokenizer.eos_token_id
        response = trajectory.response(lambda ids: self._decode(game, ids), end, reason, policy.version, score)
        images = trajectory.images
        if images:
            digests = tuple(image.digest for image in images)
            response.media = Pixels(tuple(game.pictures[digest] for digest in digests), digests=digests)
        episode.response = response

    def _picture(self, game: _Game, image: Image) -> tuple[int, int]:
        """Height and width of a picture, which is decoded once. Raises ImageError if it cannot be."""
        if not game.policy.sees:
            raise ConfigError(
                "the environment shows pictures, and the policy takes text alone: set model.path to one that sees"
            )
        if image.digest not in game.pictures:
            game.pictures[image.digest] = np.asarray(image.open())
        height, width = game.pictures[image.digest].shape[:2]
        return height, width

    def _decode(self, game: _Game, token_ids: Sequence[int]) -> str:
        text: str = game.policy.tokenizer.decode(list(token_ids), skip_special_tokens=False)
        return text

    def _count(self, result: WorkerResult) -> None:
        """Raises ConfigError if an environment fails again and again and has never done anything else."""
        if result.outcome == WorkerOutcome.OK:
            self._has_succeeded = True
            return
        self._failures += 1
        if self._failures == 1:
            logger.warning("environment %s: %s", self._settings.env, result.detail)
        if not self._has_succeeded and self._failures >= _MOST_FAILURES:
            raise ConfigError(
                f"the environment {self._settings.env} failed at each of its first {self._failures} steps: {result.detail}"
            )


def episode_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Turns of an episode, its share of observed tokens, and the share of observations that tell of a failed environment.

    Nothing where no response is an episode.
    """
    responses = [r for group in groups for r in group.responses if r.episode is not None or r.observations]
    if not responses:
        return {}
    observations = [each for response in responses for each in response.observations]
    tokens = sum(len(response.token_ids) for response in responses)
    return {
        "rollout/turns": float(np.mean([response.num_turns for response in responses])),
        "rollout/observed_tokens": sum(response.num_observed for response in responses) / max(1, tokens),
        "rollout/step_errors": sum(each.is_error for each in observations) / max(1, len(observations)),
    }


def _failure(result: WorkerResult) -> list[dict[str, Any]]:
    return _told(f"the environment failed: {result.detail}")


def _told(problem: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": f"Error: {problem}"}]


def _array(tokens: list[int] | None) -> NDArray[np.int32] | None:
    return None if tokens is None else np.asarray(tokens, np.int32)
