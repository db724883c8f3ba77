"""The engines' actors, each replaced when it dies, hangs or raises, its unanswered requests done again.

An engine streams its answers, each as soon as it is whole, and signs of life between them; what it had answered before it
failed is kept. The request queue, an actor too, knows what it held: that goes back into the queue, and the engines that
are alive do it, while a new actor loads the policy and then the weights of the last sync. A request whose engine fails
twice while it holds it (`rlcs.rollout.requests`) is set aside. `rlcs.faults` counts, and ends the run when replacing does
not help.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from rlcs.actors import ActorProcess, end_actor, get, reload_limit_s
from rlcs.errors import ConfigError, DataError, DeadlineError, EngineError, RLCSError, TooManyFaultsError, first_line
from rlcs.faults import Faults
from rlcs.rollout.requests import Requests
from rlcs.rollout.work import Answer, WorkQueue
from rlcs.vitals import Watched

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 900.0
"""Loading a large model from a slow disk takes minutes."""
_QUEUE_TIMEOUT_S = 60.0
_LOOK_S = 0.5
"""How long a wait for answers goes on before heartbeats and idle engines are looked at."""
_LOST_ROUNDS = 3
"""How often requests that nobody holds may be filled in anew before something is wrong for certain."""

Start = Callable[[int, int], Any]
"""Starts the actor of an engine, given its index and how often it was replaced."""
Furnish = Callable[[Any], Any]
"""Gives a new actor the present weights: a Ray reference to wait for, or None where it has them already."""
Submit = Callable[[Any, str, Any], Any]
"""Starts answering on an engine, given its actor, its name at the queue and the queue: a stream of answers and None."""


@dataclass(slots=True)
class _Member:
    """An engine: its actor, and what that is doing."""

    index: int
    actor: Any
    restarts: int = 0
    process: ActorProcess | None = None
    placed: Any = None
    """What is waited for until it has a place in the cluster; None once `process` is known."""
    ready: Any = None
    """What is waited for before its weights are sent; None once it has loaded."""
    furnishing: Any = None
    """What is waited for until it has the present weights; None once it has."""
    stream: Any = None
    """Its answers, while it works."""
    last_sign: float = 0.0

    @property
    def name(self) -> str:
        return f"engine-{self.index}"

    @property
    def at_queue(self) -> str:
        """Its name at the request queue, not that of its predecessor."""
        return f"{self.name}/{self.restarts}"

    @property
    def in_service(self) -> bool:
        return self.ready is None and self.furnishing is None

    @property
    def loads_for_s(self) -> float:
        """Since when a new engine loads; 0 while it waits for a place in the cluster."""
        return 0.0 if self.placed is not None else time.monotonic() - self.last_sign

    def load(self) -> None:
        """Let a new actor load as soon as it has its place."""
        self.placed, self.ready = self.actor.process.remote(), self.actor.load.remote()


class EnginePool:
    """Engines that are replaced when they fail. `begin` must be called before the first use."""

    def __init__(self, start: Start, furnish: Furnish, size: int, faults: Faults, heartbeat_s: float) -> None:
        self._start = start
        self._furnish = furnish
        self._faults = faults
        self._heartbeat_s = heartbeat_s
        self._queue = _new_queue()
        self._took_s: dict[str, float] = {}
        """The longest that each method took."""
        self._load_limit_s = START_TIMEOUT_S
        """How long an engine that has its place may take to load; known once the first did."""
        self._is_closed = False
        self._members = [_Member(index, start(index, 0)) for index in range(size)]
        for member in self._members:
            member.load()

    @property
    def actors(self) -> list[Any]:
        """The engines' actors."""
        return [member.actor for member in self._members]

    @property
    def restarts(self) -> int:
        """How often an engine was replaced."""
        return sum(member.restarts for member in self._members)

    def begin(self) -> None:
        """Wait until every engine has loaded; does nothing where they have. A first load is not tried again.

        Raises:
            RLCSError: EngineError, or what an engine raised.
        """
        starting = [member for member in self._members if member.ready is not None]
        if not starting:
            return
        doing = "starting the engines"
        for member, process in zip(starting, get([m.placed for m in starting], START_TIMEOUT_S, doing), strict=True):
            member.process, member.placed = process, None
        begun = time.monotonic()
        try:
            get([member.ready for member in starting], START_TIMEOUT_S, doing)
        except RayTaskError as error:  # before vLLM was asked: a library that is missing, a tokenizer
            raise EngineError(
                f"an engine could not be loaded: {first_line(error.cause or error, typed=True)}"
            ) from error
        for member in starting:
            member.ready = None
        self._load_limit_s = min(START_TIMEOUT_S, reload_limit_s(time.monotonic() - begun))

    def watched(self) -> list[Watched]:
        """The engines, for `rlcs.monitor`."""
        return [Watched(member.name, "rollouts", member.actor, member.restarts) for member in list(self._members)]

    def waiting(self) -> int:
        """Requests that no engine has taken yet."""
        return int(get(self._queue.waiting.remote(), 5, "asking the request queue"))

    def each(self, method: str, *arguments: Any, timeout_s: float, doing: str) -> list[Any]:
        """Call a method of every engine that is in service; their answers.

        One that fails is replaced, and one that is being started gets the present weights when it is there. Waits for one
        where none is in service.
        """
        self._bring_up()
        calls = [(member, getattr(member.actor, method).remote(*arguments)) for member in self._in_service()]
        begun, answers = time.monotonic(), []
        for member, call in calls:
            limit_s = min(timeout_s, self._limit_s(method))
            try:
                answers.append(get(call, max(0.0, begun + limit_s - time.monotonic()), doing))
                self._took_s[method] = max(self._took_s.get(method, 0.0), time.monotonic() - begun)
            except (EngineError, RayError) as error:
                self._replace(member, str(error))
        return answers

    def _limit_s(self, method: str) -> float:
        """How long a call may take before its engine is taken to hang: much longer than it ever took."""
        return self._heartbeat_s + 4 * self._took_s[method] if method in self._took_s else float("inf")

    def refurnish(self) -> None:
        """The weights changed: engines that were just given the last ones are given the present ones."""
        for member in self._members:
            if member.furnishing is not None:
                member.furnishing, member.last_sign = self._furnish(member.actor), time.monotonic()

    def settle(self) -> None:
        """Wait until every engine is in service."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not all(member.in_service for member in self._members):
            self._wait_for_one(deadline)

    def answers(self, requests: Requests, submit: Submit) -> Iterator[Answer]:
        """An answer to every request, as they come, but for those that are set aside.

        Raises:
            TooManyFaultsError: engines failed more often than is allowed.
            DeadlineError: an engine did not finish in time though it works.
            ConfigError, DataError: what the user is to mend, such as an environment of several turns that fails always.
        """
        self._fill(requests)
        lost_rounds, looked = 0, 0.0
        while not requests.is_done:
            self._bring_up()
            idle = [member for member in self._in_service() if member.stream is None]
            if idle and time.monotonic() - looked > _LOOK_S / 2:
                looked = time.monotonic()
                waiting = self._waiting_or_renew()
                for member in idle[:waiting]:
                    member.stream = submit(member.actor, member.at_queue, self._queue)
                    member.last_sign = time.monotonic()
                if not waiting and not any(member.stream is not None for member in self._members):
                    # Taken by an engine that was ended before the queue could tell, or lost with the queue.
                    lost_rounds += 1
                    if lost_rounds > _LOST_ROUNDS:
                        raise EngineError(f"{len(requests.unanswered)} requests get no answer from any engine")
                    self._fill(requests)
            yield from self._collect(requests)

    def dealt_answers(
        self, requests: Requests, shares: Sequence[list[int]], submit: Callable[[Any, str, list[int], int], Any]
    ) -> Iterator[Answer]:
        """The same where nothing may depend on timing: engine i answers the requests `shares[i]`, and no other does.

        One that fails is replaced, and the new one answers all of them again, in the same way. So a request that makes its
        engine fail each time is not found: the run ends after `cluster.max_restarts`.
        """
        while not requests.is_done:
            self._bring_up()
            unanswered = set(requests.unanswered)
            for member in self._in_service():
                share = shares[member.index]
                if member.stream is None and not unanswered.isdisjoint(share):
                    member.stream = submit(member.actor, member.at_queue, share, member.index)
                    member.last_sign = time.monotonic()
            yield from self._collect(requests)

    def close(self) -> None:
        """End the engines' processes; nothing is replaced any more."""
        self._is_closed = True
        for member in self._members:
            end_actor(member.actor, member.process)
        ray.kill(self._queue)

    def _in_service(self) -> list[_Member]:
        """Engines that can work; waits for one where there is none."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not any(member.in_service for member in self._members):
            self._wait_for_one(deadline)
        return [member for member in self._members if member.in_service]

    def _wait_for_one(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise EngineError(f"no new engine was ready within {START_TIMEOUT_S:g} s: the cluster has no room for one")
        starting = [member.ready or member.furnishing for member in self._members if not member.in_service]
        ray.wait(starting, timeout=_LOOK_S)
        self._bring_up()

    def _bring_up(self) -> None:
        """Take new engines a step further, as far as they are: loaded, furnished with weights, in service."""
        for member in self._members:
            if member.in_service:
                continue
            try:
                if member.placed is not None and _is_done(member.placed):
                    member.process = get(member.placed, _QUEUE_TIMEOUT_S, "starting an engine")
                    member.placed, member.last_sign = None, time.monotonic()
                if member.ready is not None and _is_done(member.ready):
                    get(member.ready, _QUEUE_TIMEOUT_S, "loading an engine")
                    member.ready, member.furnishing = None, self._furnish(member.actor)
                    member.last_sign = time.monotonic()
                    if member.furnishing is None:
                        logger.info("%s is back", member.name)
                elif member.ready is not None and member.loads_for_s > self._load_limit_s:
                    waited, self._load_limit_s = self._load_limit_s, min(2 * self._load_limit_s, START_TIMEOUT_S)
                    raise EngineError(f"not loaded after {waited:.0f} s: it hangs")
                if member.furnishing is not None and _is_done(member.furnishing):
                    get(member.furnishing, _QUEUE_TIMEOUT_S, "giving a new engine its weights")
                    member.furnishing = None
                    logger.info("%s is back", member.name)
                elif member.furnishing is not None and time.monotonic() - member.last_sign > self._limit_s(
                    "load_weights"
                ):
                    raise EngineError("no answer while giving a new engine its weights")
            except (RLCSError, RayError) as error:
                self._replace(member, str(error))

    def _collect(self, requests: Requests) -> Iterator[Answer]:
        """What the engines have to say for a moment; the failed and the silent ones are replaced."""
        at_work = [member for member in self._members if member.stream is not None]
        if not at_work:
            time.sleep(0.01)
            return
        ready, _ = ray.wait([member.stream for member in at_work], timeout=_LOOK_S, fetch_local=True)
        for member in at_work:
            if member.stream in ready:
                answer, error = self._next(member)
                if error is not None:
                    self._give_up(member, error, requests)
                elif answer is not None and requests.answer(answer.index):
                    yield answer
            elif time.monotonic() - member.last_sign > self._heartbeat_s and not _is_done(member.stream):
                reason = f"no step for {self._heartbeat_s:g} s (rollout.heartbeat_s)"
                self._give_up(member, reason, requests)

    def _next(self, member: _Member) -> tuple[Answer | None, str | None]:
        """An engine's next answer, or None; and why it failed, or None."""
        try:
            answer: Answer | None = get(next(member.stream), _QUEUE_TIMEOUT_S, "generating")
        except StopIteration:
            member.stream = None
            return None, None
        except (DeadlineError, TooManyFaultsError, ConfigError, DataError):  # a new engine would not help
            raise
        except (RLCSError, RayError) as error:
            return None, str(error)
        member.last_sign = time.monotonic()
        return answer, None

    def _give_up(self, member: _Member, reason: str, requests: Requests) -> None:
        """Replace an engine that failed at work; what it held is done again, or set aside."""
        held: list[int] = []
        try:
            held = get(self._queue.lose.remote(member.at_queue), _QUEUE_TIMEOUT_S, "asking the request queue")
        except EngineError as error:
            logger.warning("what %s held is not known: %s", member.name, error)
        again, aside = requests.fail(held)
        if again:
            # Not waited for: where the queue fails, they are filled in anew.
            self._queue.put_back.remote([(index, requests.expected_tokens[index]) for index in again])
        if aside:
            logger.warning("%s was the second to fail with the same request", member.name)
        self._replace(member, reason)

    def _replace(self, member: _Member, reason: str) -> None:
        if self._is_closed:
            raise EngineError("the engines are closed")
        end_actor(member.actor, member.process)
        member.process = member.stream = member.furnishing = None
        self._faults.restart("engine_restarts", member.name, f"failed: {reason}")
        member.restarts += 1
        member.actor = self._start(member.index, member.restarts)
        member.load()

    def _fill(self, requests: Requests) -> None:
        """Let what is unanswered wait; with a new queue if the old one is lost."""
        arguments = (requests.expected_tokens, len(self._members), requests.unanswered, requests.suspects)
        try:
            # Engines pull through calls of their own, which Ray does not order after this one: wait for it.
            get(self._queue.fill.remote(*arguments), _QUEUE_TIMEOUT_S, "filling the request queue")
        except EngineError as error:
            self._renew_queue(str(error))
            get(self._queue.fill.remote(*arguments), _QUEUE_TIMEOUT_S, "filling the request queue")

    def _waiting_or_renew(self) -> int:
        """How many requests wait; 0 where the queue was lost, whose engines finish what they hold."""
        try:
            return int(get(self._queue.waiting.remote(), _QUEUE_TIMEOUT_S, "asking the request queue"))
        except EngineError as error:
            self._renew_queue(str(error))
            return 0

    def _renew_queue(self, reason: str) -> None:
        if self._is_closed:
            raise EngineError("the engines are closed")
        ray.kill(self._queue)
        self._faults.restart("queue_restarts", "the request queue", reason)
        self._queue = _new_queue()


def _new_queue() -> Any:
    return ray.remote(WorkQueue).options(num_cpus=0).remote()


def _is_done(reference: Any) -> bool:
    return bool(ray.wait([reference], timeout=0)[0])
