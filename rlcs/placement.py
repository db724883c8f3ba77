"""Which actor works on which GPU of which node: from the configuration alone, without Ray.

`split`: engines, learner ranks and reward model have GPUs of their own; those that take less than one share it.
`colocate`: engines and learner ranks have the same GPUs; the engines sleep while the learner works.

An engine's GPUs are on one node (tensor parallel over the network is slow), a learner rank has one GPU (or less, or
none), and ranks stand on as few nodes as can hold them. `rlcs.reservation` makes a Ray placement group of a placement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlcs.config import Config
from rlcs.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of one actor."""

    actor: str
    """`engine`, `learner`, `reward model` or `scorer`."""
    index: int
    node: int
    gpus: tuple[int, ...]
    """Its GPUs, numbered on the node; empty for an actor that has none."""
    gpu_share: float
    """Of each of them, what the actor takes; 1 in `colocate`, where actors take turns."""
    cpus: float

    @property
    def name(self) -> str:
        """`engine 3`, `learner rank 0` or `reward model`."""
        rank = "rank " if self.actor == "learner" else ""
        return self.actor if self.actor == "reward model" else f"{self.actor} {rank}{self.index}"


@dataclass(frozen=True, slots=True)
class Bundle:
    """Seats that share GPUs, which must hence be on one node: a bundle of a Ray placement group."""

    node: int
    gpus: tuple[int, ...]
    cpus: float
    seats: tuple[Seat, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """Every actor's seat."""

    mode: str
    """`split` or `colocate`."""
    num_nodes: int
    gpus_per_node: int
    seats: tuple[Seat, ...]

    def on(self, node: int, gpu: int) -> list[Seat]:
        """The seats on a GPU."""
        return [seat for seat in self.seats if seat.node == node and gpu in seat.gpus]

    def bundles(self) -> list[Bundle]:
        """The seats that have GPUs, those on common GPUs together; in the order of nodes and GPUs."""
        found: list[list[Seat]] = []
        for seat in self.seats:
            if not seat.gpus:
                continue
            shared = [
                part for part in found if part[0].node == seat.node and any(set(s.gpus) & set(seat.gpus) for s in part)
            ]
            found = [part for part in found if part not in shared]
            found.append([*(s for part in shared for s in part), seat])
        bundles = [
            Bundle(
                part[0].node,
                tuple(sorted({gpu for seat in part for gpu in seat.gpus})),
                sum(seat.cpus for seat in part),
                tuple(sorted(part, key=lambda seat: (seat.actor, seat.index))),
            )
            for part in found
        ]
        return sorted(bundles, key=lambda bundle: (bundle.node, bundle.gpus))


def place(config: Config, *, gpus_per_node: int | None = None) -> Placement:
    """The placement of a configuration on `cluster.num_nodes` nodes of `gpus_per_node` GPUs (as configured if None).

    Raises:
        ConfigError: an actor finds no place; says which and what to change.
    """
    cluster, rollout, reward = config.cluster, config.rollout, config.reward
    gpus = cluster.gpus_per_node if gpus_per_node is None else gpus_per_node
    room = _Room(cluster.num_nodes, gpus or 0)
    seats: list[Seat] = []
    colocate = cluster.placement == "colocate"
    ranks = config.learner.data_parallel_size
    share = config.learner.gpus / ranks
    for rank in range(ranks):
        node, devices = room.take("learner rank", rank, share, "learner.gpus")
        seats.append(Seat("learner", rank, node, devices, share, config.learner.cpus / ranks))
    # Engines take turns with the learner: all GPUs are free for them again.
    engines = _Room(cluster.num_nodes, gpus or 0) if colocate else room
    for index in range(rollout.num_engines):
        node, devices = engines.take("engine", index, rollout.gpus_per_engine, "rollout.num_engines")
        engine_share = min(1.0, rollout.gpus_per_engine)
        seats.append(Seat("engine", index, node, devices, engine_share, rollout.cpus_per_engine))
    if reward.has_model:
        for seat in seats if colocate else []:
            engines.occupy(seat)
        node, devices = engines.take("reward model", 0, reward.model.num_gpus, "reward.model.num_gpus")
        seats.append(Seat("reward model", 0, node, devices, min(1.0, reward.model.num_gpus), reward.cpus_per_actor))
    for index in range(reward.num_actors):
        seats.append(Seat("scorer", index, index % cluster.num_nodes, (), 0.0, reward.cpus_per_actor))
    return Placement(cluster.placement, cluster.num_nodes, gpus or 0, tuple(seats))


class _Room:
    """The free shares of the GPUs of all nodes."""

    def __init__(self, num_nodes: int, gpus_per_node: int) -> None:
        self.free = [[1.0] * gpus_per_node for _ in range(num_nodes)]
        self._next_node = 0

    def occupy(self, seat: Seat) -> None:
        """Nothing more has room where `seat` is."""
        for gpu in seat.gpus:
            self.free[seat.node][gpu] = 0.0

    def take(self, actor: str, index: int, gpus: float, setting: str) -> tuple[int, tuple[int, ...]]:
        """The node and GPUs of an actor that needs `gpus`; without any, nodes in turn.

        Raises:
            ConfigError: no node has room.
        """
        if not gpus:
            node = self._next_node % len(self.free)
            self._next_node += actor == "engine"
            return node, ()
        for node, free in enumerate(self.free):
            devices = self._whole(free, int(gpus)) if gpus >= 1 else self._part(free, gpus)
            if devices:
                for device in devices:
                    free[device] -= min(1.0, gpus)
                return node, tuple(devices)
        per_node = len(self.free[0])
        have = f"{len(self.free)} node{'s' * (len(self.free) > 1)} of {per_node} GPU{'s' * (per_node != 1)}"
        if gpus > per_node:
            raise ConfigError(
                f"placement: {actor} {index} needs {gpus:g} GPUs of one node, but there {'are' if len(self.free) > 1 else 'is'} "
                f"{have}: lower {setting.replace('num_engines', 'tensor_parallel_size')}, or set cluster.gpus_per_node"
            )
        raise ConfigError(
            f"placement: no GPU is left for {actor} {index} on {have}: lower {setting} or another actor's GPUs, set "
            "cluster.num_nodes and cluster.gpus_per_node, or let engines and learner take turns by "
            "cluster.placement=colocate"
        )

    @staticmethod
    def _whole(free: Sequence[float], count: int) -> list[int]:
        """`count` neighbours that are all free: fast links join neighbours."""
        for first in range(len(free) - count + 1):
            if all(share > 1 - 1e-9 for share in free[first : first + count]):
                return list(range(first, first + count))
        return []

    @staticmethod
    def _part(free: Sequence[float], share: float) -> list[int]:
        """The first GPU with so much left; those in use already before fresh ones."""
        fits = [gpu for gpu, left in enumerate(free) if left > share - 1e-9]
        used = [gpu for gpu in fits if free[gpu] < 1]
        return (used or fits)[:1]
