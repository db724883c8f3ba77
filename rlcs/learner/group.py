"""The learner actors of a run as one learner: each call goes to every rank, and comes back as one answer or one error.

The batch is put into Ray's object store once and every rank reads it there. Of one rank the group is a thin wrapper: the
same actor, the same calls, no process group.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from rlcs.actors import ActorProcess, end_actor, get, reload_limit_s
from rlcs.config import LearnerConfig
from rlcs.errors import EngineError, LearnerLostError, RLCSError, one_line
from rlcs.learner.actor import LearnerActor
from rlcs.learner.snapshot import WritingState
from rlcs.types import Batch
from rlcs.vitals import Watched

START_TIMEOUT_S = 3600.0
"""For a large policy from a slow disk."""
GRACE_S = 10.0
"""How long the other ranks may take to say what is wrong, once one has failed."""


class LearnerGroup:
    """`learner.data_parallel_size` ranks; `start` must be called before anything else.

    `submit` and `wait` are the general form of a call: `submit("update", batch)` starts a method of `LearnerActor` on all
    ranks, `wait` takes rank 0's answer. All ranks must get the same calls in the same order.
    """

    def __init__(
        self,
        model_path: str,
        config: LearnerConfig,
        *,
        options: Sequence[dict[str, Any]] | None = None,
        **learner: Any,
    ) -> None:
        """Start the actors.

        `options`: Ray's options of each rank, such as a place in a placement group; equal shares of `learner.cpus` and
        `learner.gpus` if not given. The other arguments are those of `rlcs.learner.learner.Learner`.
        """
        self.size = config.data_parallel_size
        if options is None:
            share = {"num_cpus": config.cpus / self.size, "num_gpus": config.gpus / self.size}
            options = [share] * self.size
        if len(options) != self.size:
            raise ValueError(f"options of {len(options)} actors for {self.size} ranks")
        self.restarts = 0
        """How often the ranks were started anew."""
        self._processes: list[ActorProcess] = []
        self._timeout_s = config.timeout_s
        self._load_timeout_s = START_TIMEOUT_S
        """How long ranks that are there may take to load; known once they did."""
        actor = ray.remote(LearnerActor)

        def start_actors() -> list[Any]:
            return [actor.options(**option).remote(model_path, config, **learner) for option in options]

        self._start_actors = start_actors
        self._begin()

    def _begin(self) -> None:
        """Start the actors; a single one loads as soon as it has its place, several once all have theirs."""
        self.actors = self._start_actors()
        self._placing = self.submit("process")
        self._loading = self.submit("load") if self.size == 1 else []

    def start(self) -> None:
        """Wait until every rank has its policy.

        Raises:
            EngineError: a rank died, or was not given its place in time.
            DataError, ConfigError: the policy cannot be loaded, or not be learned by this learner.
        """
        doing = "starting the learner"
        self._processes = self._wait_all(self._placing, doing, START_TIMEOUT_S)
        begun, calls = time.monotonic(), self._loading
        if self.size > 1:
            (store,) = self._wait_all([self.actors[0].open_store.remote()], doing, self._load_timeout_s)
            local = Counter(process.node for process in self._processes)
            calls = [
                actor.join.remote(rank, store, local[process.node])
                for rank, (actor, process) in enumerate(zip(self.actors, self._processes, strict=True))
            ]
        limit = self._load_timeout_s
        try:
            self._wait_all(calls, doing, limit)
        except LearnerLostError:
            self._load_timeout_s = min(2 * limit, START_TIMEOUT_S)  # for the next
            raise
        if limit == START_TIMEOUT_S:
            self._load_timeout_s = min(limit, reload_limit_s(time.monotonic() - begun))

    def restart(self) -> None:
        """End all ranks, dead, hanging or well, and start new ones; they have the policy that the first ones began with.

        `load_state` brings them to a checkpoint. Raises what `start` raises.
        """
        self.close()
        self.restarts += 1
        self._begin()
        self.start()

    def submit(self, method: str, *arguments: Any, **options: Any) -> list[Any]:
        """Start a method of `LearnerActor` on all ranks; Ray references to their answers, rank 0's first.

        Large arguments that all ranks shall share are Ray references (`ray.put`).
        """
        return [getattr(actor, method).remote(*arguments, **options) for actor in self.actors]

    def wait(self, calls: Sequence[Any], doing: str, timeout_s: float | None = None) -> Any:
        """Rank 0's answer, once all ranks have one. `doing` is for messages: "updating the policy".

        `timeout_s`: `learner.timeout_s` if not given.

        Raises:
            RLCSError: the one that a rank raised.
            LearnerLostError: a rank died, raised another error, or did not answer in time. Ranks that still wait for such a
                one are ended.
        """
        return self._wait_all(calls, doing, timeout_s)[0]

    def update(
        self,
        batch: Batch,
        *,
        group_sizes: Sequence[int] | None = None,
        rewards: NDArray[np.floating] | None = None,
        rate_factor: float = 1.0,
    ) -> dict[str, float]:
        """See `Learner.update`; the metrics are those of all ranks together."""
        calls = self.submit("update", ray.put(batch), None, group_sizes, rewards, rate_factor)
        return dict(self.wait(calls, "updating the policy"))

    def logprobs(self, batch: Batch) -> NDArray[np.float32]:
        """See `Learner.logprobs`."""
        answer: NDArray[np.float32] = self.wait(self.submit("logprobs", ray.put(batch)), "computing log-probabilities")
        return answer

    def weights(self) -> Any:
        """A Ray reference to the policy's weights, see `LearnerActor.weights`.

        Every rank takes part, since each may hold a piece of them.
        """
        calls = self.submit("weights")
        # Rank 0 works in order: when it is ready again it has them. The weights themselves need not come to the driver.
        self._wait_all([self.actors[0].ready.remote(), *calls[1:]], "gathering the weights")
        return calls[0]

    def save_policy(self, folder: Path) -> None:
        """See `Learner.save_policy`; rank 0 writes."""
        self.wait(self.submit("save_policy", folder), "saving the policy")

    def save_state(self, folder: Path) -> None:
        """See `Learner.save_state`; rank 0 writes, and any number of ranks can load it."""
        self.wait(self.submit("save_state", folder), "saving the learner")

    def begin_save(self, folder: Path, *, background: bool) -> None:
        """See `LearnerActor.begin_save`: all ranks gather, rank 0 writes."""
        self.wait(self.submit("begin_save", folder, background), "saving the learner")

    def saving(self) -> WritingState:
        """See `LearnerActor.saving`; answered once rank 0 has a moment."""
        state: WritingState = get(self.actors[0].saving.remote(), self._timeout_s, "saving the learner")
        return state

    def load_state(self, folder: Path) -> None:
        """See `Learner.load_state`; every rank reads."""
        self.wait(self.submit("load_state", folder), "loading the learner")

    def watched(self) -> list[Watched]:
        """The ranks, for `rlcs.monitor`."""
        return [Watched(f"learner-{rank}", "learner", actor, self.restarts) for rank, actor in enumerate(self.actors)]

    def close(self) -> None:
        """End the ranks' processes."""
        processes: list[ActorProcess | None] = [*self._processes] or [None] * self.size
        for actor, process in zip(self.actors, processes, strict=True):
            end_actor(actor, process)
        self._processes = []

    def _wait_all(self, calls: Sequence[Any], doing: str, timeout_s: float | None = None) -> list[Any]:
        """The answers of all ranks. Looks at each as it comes: the others may wait for one that has failed."""
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        pending = list(calls)
        failures: dict[int, BaseException] = {}
        while pending and time.monotonic() < deadline:
            done, pending = ray.wait(pending, timeout=max(0.0, deadline - time.monotonic()))
            for call in done:
                error = _failure(call, doing)
                if error is not None:
                    failures[list(calls).index(call)] = error
                    deadline = min(deadline, time.monotonic() + GRACE_S)
        if not failures and not pending:
            return list(ray.get(list(calls)))
        if self.size > 1 and pending:
            self.close()
        raise self._explained(failures, doing, timeout_s)

    def _explained(self, failures: dict[int, BaseException], doing: str, timeout_s: float) -> RLCSError:
        """The one error to show: what RLCS raised itself, else a rank's death, else the first to fail.

        Where a rank dies the others fail too, since their connections break.
        """
        if not failures:
            return LearnerLostError(f"no answer within {timeout_s:g} s while {doing}: the learner hangs")
        own = [error for error in failures.values() if isinstance(error, RLCSError)]
        deaths = [error for error in own if isinstance(error, EngineError)]
        told = [error for error in own if not isinstance(error, EngineError)]
        if told:
            return told[0]
        rank, error = next((r, e) for r, e in failures.items() if not deaths or e is deaths[0])
        who = f"rank {rank} of {self.size} of the learner" if self.size > 1 else "the learner"
        text = one_line(error, 500, typed=not isinstance(error, RLCSError))
        return LearnerLostError(f"{who} failed while {doing}: {text}")


def _failure(call: Any, doing: str) -> BaseException | None:
    """What went wrong with a call that is done; None where nothing did."""
    from ray.exceptions import RayTaskError

    try:
        get(call, None, doing)
    except RayTaskError as error:
        cause: BaseException = error.cause or error
        return cause
    except RLCSError as error:
        return error
    return None
