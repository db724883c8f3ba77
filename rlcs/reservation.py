"""The GPUs of a placement, held as a Ray placement group: each actor starts where `rlcs.placement` put it.

Ray keeps a bundle's GPUs on one node. Learner ranks take theirs from Ray. An engine that shares them (`colocate`) takes
none of Ray's GPUs, since they are counted for the learner, and is shown the bundle's by CUDA_VISIBLE_DEVICES.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlcs.actors import get
from rlcs.config import Config
from rlcs.errors import ConfigError
from rlcs.placement import Bundle, place

_RESERVE_TIMEOUT_S = 120.0
"""A cluster that scales up by itself needs minutes; one that stands, a second."""

Options = dict[str, Any]


class Reservation:
    """Options for `actor.options(...)` of engines and learner ranks; without GPUs, what the configuration says.

    Ray must run. `release` gives the GPUs back.

    Raises:
        ConfigError: the cluster has no room for the placement.
    """

    def __init__(self, config: Config) -> None:
        import ray

        self._config = config
        self._group: Any = None
        self._bundle_of: dict[tuple[str, int], int] = {}
        self._visible: dict[int, list[int]] = {}  # GPUs of bundles that are shared in turns
        if not (config.rollout.gpus_per_engine or config.learner.gpus):
            return
        gpus = [int(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]]
        placement = place(config, gpus_per_node=config.cluster.gpus_per_node or max(gpus, default=0))
        bundles = placement.bundles()
        self._bundle_of = {(seat.actor, seat.index): i for i, b in enumerate(bundles) for seat in b.seats}
        self._group = _reserve(bundles, gpus, _RESERVE_TIMEOUT_S)
        if placement.mode == "colocate":
            self._visible = self._look_up(bundles)

    def engine(self, index: int) -> Options:
        """Options of an engine's actor; `runtime_env` holds environment variables, or is missing."""
        rollout = self._config.rollout
        options = self._options("engine", index, rollout.cpus_per_engine, rollout.gpus_per_engine)
        bundle = self._bundle_of.get(("engine", index))
        if bundle in self._visible:
            options["num_gpus"] = 0
            options["runtime_env"] = {
                "env_vars": {
                    "CUDA_VISIBLE_DEVICES": ",".join(str(gpu) for gpu in self._visible[bundle]),
                    # Else Ray hides all GPUs from an actor that takes none.
                    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
                }
            }
        return options

    def engines(self) -> list[Options]:
        """Options of all engines."""
        return [self.engine(index) for index in range(self._config.rollout.num_engines)]

    def learner(self, rank: int) -> Options:
        """Options of a learner rank's actor."""
        learner = self._config.learner
        ranks = learner.data_parallel_size
        return self._options("learner", rank, learner.cpus / ranks, learner.gpus / ranks)

    def learners(self) -> list[Options]:
        """Options of all learner ranks."""
        return [self.learner(rank) for rank in range(self._config.learner.data_parallel_size)]

    def release(self) -> None:
        """Give the GPUs back; actors that still hold them are ended by Ray."""
        from ray.util import remove_placement_group

        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None

    def _options(self, actor: str, index: int, cpus: float, gpus: float) -> Options:
        options: Options = {"num_cpus": cpus, "num_gpus": gpus}
        bundle = self._bundle_of.get((actor, index))
        if bundle is not None:
            options["scheduling_strategy"] = _strategy(self._group, bundle)
        return options

    def _look_up(self, bundles: Sequence[Bundle]) -> dict[int, list[int]]:
        """The numbers that Ray gave to the GPUs of the bundles that hold engines and learner ranks."""
        import ray

        shared = [i for i, bundle in enumerate(bundles) if len({seat.actor for seat in bundle.seats}) > 1]
        probe = ray.remote(_gpu_ids)
        asked = [
            probe.options(
                num_cpus=0, num_gpus=len(bundles[i].gpus), scheduling_strategy=_strategy(self._group, i)
            ).remote()
            for i in shared
        ]
        return dict(zip(shared, get(asked, _RESERVE_TIMEOUT_S, "asking for the GPUs of a placement"), strict=True))


def _reserve(bundles: Sequence[Bundle], gpus: Sequence[int], timeout_s: float) -> Any:
    from ray.util import placement_group, remove_placement_group

    wanted = [_resources(bundle) for bundle in bundles]
    group = placement_group(wanted, strategy="PACK")
    if not group.wait(timeout_seconds=timeout_s):
        remove_placement_group(group)
        raise ConfigError(
            f"placement: the Ray cluster has no room for {sum(w['GPU'] for w in wanted):g} GPUs in blocks of "
            f"{', '.join(sorted({format(w['GPU'], 'g') for w in wanted}))} with their CPUs; its nodes have "
            f"{', '.join(str(n) for n in gpus)} GPUs. See rlcs train --dry-run, and start more nodes or lower "
            "rollout.num_engines"
        )
    return group


def _resources(bundle: Bundle) -> dict[str, float]:
    resources = {"GPU": float(len(bundle.gpus))}
    if bundle.cpus:
        resources["CPU"] = bundle.cpus
    return resources


def _strategy(group: Any, bundle: int) -> Any:
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    return PlacementGroupSchedulingStrategy(
        placement_group=group, placement_group_bundle_index=bundle, placement_group_capture_child_tasks=False
    )


def _gpu_ids() -> list[int]:
    import ray

    return [int(gpu) for gpu in ray.get_gpu_ids()]
