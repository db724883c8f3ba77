"""Ray: starting it quietly, ending it without leftovers, and errors of actors as errors of RLCS."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlcs.config import ClusterConfig
from rlcs.errors import ConfigError, EngineError, RLCSError

if TYPE_CHECKING:
    import psutil

logger = logging.getLogger(__name__)


def start_ray(config: ClusterConfig) -> None:
    """Join the cluster of the configuration, or start a local one. Does nothing where Ray runs in this process.

    Raises:
        ConfigError: the cluster cannot be joined.
    """
    import ray

    if ray.is_initialized():
        return
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        _init_ray(config)
    finally:
        # Ray's own handler ends the process with a stack trace, where a run has one that saves (`rlcs.interrupt`).
        if callable(on_sigterm) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)


def _init_ray(config: ClusterConfig) -> None:
    import ray

    # Ray would otherwise hide all GPUs from actors that ask for none, and warn on each start that this will change.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # A local cluster makes a token for itself, which is well, and says so in a paragraph at each start.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    address = config.address or os.environ.get("RAY_ADDRESS")
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    if address is None:
        # Not without an address: Ray would join whatever cluster somebody has begun on this machine.
        ray.init("local", num_cpus=config.num_cpus, num_gpus=config.num_gpus, include_dashboard=False, **common)
        return
    try:
        ray.init(address=address, **common)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"cluster.address {address}: no Ray cluster could be joined ({str(error).splitlines()[0]}); "
            "start one with `ray start --head`, or leave the setting out"
        ) from error


def head_address() -> str:
    """Host and port of the head of the cluster that was joined."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def stop_ray() -> None:
    """Leave the cluster; a local one ends with all its processes."""
    import ray

    if ray.is_initialized():
        ray.shutdown()


def get(references: Any, timeout_s: float | None, doing: str) -> Any:
    """`ray.get` whose failures are one-line errors of RLCS.

    Raises:
        RLCSError: the one that the actor raised.
        EngineError: an actor died, or nothing came within `timeout_s` seconds.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

    try:
        return ray.get(references, timeout=timeout_s)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, RLCSError):
            raise cause from error
        raise
    except GetTimeoutError as error:
        raise EngineError(f"no answer within {timeout_s:g} s while {doing}: an actor hangs") from error
    except RayActorError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, RLCSError):  # raised by the actor's constructor
            raise cause from error
        raise EngineError(f"an actor died while {doing}: {_cause_of_death(str(error))}") from error


def _cause_of_death(message: str) -> str:
    """What of Ray's paragraph about a dead actor tells one death from another."""
    text = " ".join(message.split())
    for beginning in ("Worker exit detail: ", "The actor is dead because "):
        text = text.partition(beginning)[2] or text
    return text.partition(" Some common causes include")[0][:500]


@dataclass(frozen=True, slots=True)
class ActorProcess:
    """The process of an actor, to be told from a later one that has the same number."""

    node: str
    """Ray's name of its machine."""
    pid: int
    started: float
    """Seconds since 1970."""


def own_process() -> ActorProcess:
    """This process, which is a Ray worker or a driver."""
    import psutil
    import ray

    node = str(ray.get_runtime_context().get_node_id())
    return ActorProcess(node, os.getpid(), float(psutil.Process().create_time()))


def reload_limit_s(first_s: float) -> float:
    """How long an actor that replaces another may take to load before it is taken to hang, by the seconds of the first.

    Generous: it may load from a slower disk, or on a machine that is busy where it was idle. Each time it is not enough the
    callers double it.
    """
    return max(120.0, 5 * first_s)


def end_actor(actor: Any, process: ActorProcess | None = None) -> None:
    """End an actor, and its `process` also where it hangs or was stopped and does not hear Ray."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.kill(actor)
    if process is None:
        return
    if process.node == str(ray.get_runtime_context().get_node_id()):
        _end_process(process)
        return
    strategy = NodeAffinitySchedulingStrategy(process.node, soft=False)
    ray.remote(_end_process).options(num_cpus=0, scheduling_strategy=strategy).remote(process)


def _end_process(process: ActorProcess) -> None:
    import psutil

    try:
        found = psutil.Process(process.pid)
        if found.create_time() != process.started:
            return
        children = found.children(recursive=True)
        found.kill()
    except psutil.NoSuchProcess:
        return
    kill_all(children)


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """Kill processes, some of which may have ended by themselves."""
    import psutil

    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
