"""Families of sequences put into as few micro-batches as a token budget allows.

A family costs its prefix once a micro-batch and each of its sequences' own tokens. Three ways, the fewest micro-batches
win, and of equal ones the first:

1. *Dealing*: whole families (those over the budget cut into parts that fill it), longest first, each to the least
   loaded micro-batch: loads are even.
2. *Filling*: one micro-batch after the other is filled up, with the largest whole family that fits, then with a part of
   a family, chosen by the subset of its sequences that fills the room best (subset sums as bits of an integer). A cut
   costs the prefix once more, so it is made only where it fills more than the prefix wastes.
3. Filling with single sequences, where sharing prefixes does not help.

No way takes more than some tens of milliseconds for a thousand sequences. Deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Unit = tuple[int, list[int]]
"""A family's number, and which of its sequences: a part that pays the family's prefix once."""

_CROWD = 16
"""The lower bound looks at up to so many sequences in one micro-batch."""
_CANDIDATES = 12
"""Families looked at for a part to fill a micro-batch up."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be computed: a prefix for each family, and own tokens of its sequences."""

    prefixes: Sequence[int]
    own: Sequence[Sequence[int]]

    def cost(self, unit: Unit) -> int:
        """Tokens of a part of a family."""
        family, members = unit
        return self.prefixes[family] + sum(self.own[family][member] for member in members)

    def lower_bound(self, budget: int) -> int:
        """Micro-batches that no packing can go below; sequences over the budget stand alone and count one each.

        For the others the larger of two bounds. Tokens over the budget, where a family larger than the budget pays its
        prefix as often as it must. And, for k = 1, 2, ..., a k-th of the sequences that are so long that (k + 1) of
        them and one prefix, (k + 1) own + prefix, are over the budget: no k + 1 of these fit together, since they pay
        at least the mean of their prefixes.
        """
        alone = tokens = 0
        crowds = [0] * (_CROWD + 1)
        for prefix, own in zip(self.prefixes, self.own, strict=True):
            fitting = [size for size in own if prefix + size <= budget]
            alone += len(own) - len(fitting)
            if fitting:
                parts = max(1, -(-sum(fitting) // max(1, budget - prefix)))
                tokens += prefix * parts + sum(fitting)
            for size in fitting:
                together = (budget - prefix) // size  # so many fit with one prefix
                if together <= _CROWD:
                    crowds[together] += 1
        bounds = [-(-sum(crowds[: k + 1]) // k) for k in range(1, _CROWD + 1)]
        return alone + max(-(-tokens // budget), *bounds)


def fill(work: Work, budget: int) -> list[list[Unit]]:
    """Micro-batches of at most `budget` tokens; a sequence that is over it stands alone.

    Every sequence is in exactly one unit, and no micro-batch is empty.
    """
    bound = work.lower_bound(budget)
    best: list[list[Unit]] | None = None
    ways: list[Callable[[Work, int], list[list[Unit]]]] = [_dealt, _filled, _filled_by_singles]
    for way in ways:
        found = way(work, budget)
        if best is None or len(found) < len(best):
            best = found
        if len(best) <= bound:
            break
    assert best is not None
    return [_joined(part) for part in best]


def _joined(part: list[Unit]) -> list[Unit]:
    """The same micro-batch with one unit a family, whose prompt is then computed once."""
    members: dict[int, list[int]] = {}
    for family, chosen in part:
        members.setdefault(family, []).extend(chosen)
    return [(family, sorted(chosen)) for family, chosen in members.items()]


def _dealt(work: Work, budget: int) -> list[list[Unit]]:
    units: list[Unit] = []
    for family, (prefix, own) in enumerate(zip(work.prefixes, work.own, strict=True)):
        part: list[int] = []
        cost = prefix
        for member, size in enumerate(own):
            if part and cost + size > budget:
                units.append((family, part))
                part, cost = [], prefix
            part.append(member)
            cost += size
        if part:
            units.append((family, part))
    if not units:
        return []
    costs = [work.cost(unit) for unit in units]
    order = sorted(range(len(units)), key=lambda index: (-costs[index], index))
    bins = max(1, -(-sum(costs) // budget))
    while True:
        loads = [0] * bins
        members: list[list[int]] = [[] for _ in range(bins)]
        for index in order:
            lightest = loads.index(min(loads))
            loads[lightest] += costs[index]
            members[lightest].append(index)
        over = any(load > budget and len(m) > 1 for load, m in zip(loads, members, strict=True))
        if not over or bins >= len(units):
            return [[units[index] for index in sorted(m)] for m in members if m]
        bins += 1 + bins // 64


def _filled(work: Work, budget: int) -> list[list[Unit]]:
    left = {family: list(range(len(own))) for family, own in enumerate(work.own) if own}
    bins: list[list[Unit]] = []
    for family in list(left):
        for member in [m for m in left[family] if work.prefixes[family] + work.own[family][m] > budget]:
            bins.append([(family, [member])])
            _remove(left, family, [member])
    costs = {family: work.cost((family, members)) for family, members in left.items()}
    while left:
        room = budget
        units: list[Unit] = []
        order = sorted(left, key=lambda family: (-costs[family], family))
        taken: set[int] = set()
        while room > 0:
            whole = next((f for f in order if f not in taken and costs[f] <= room), None)
            part = None
            if whole is None or costs[whole] < room:
                part = _best_part(work, left, costs, [f for f in order if f not in taken], room, must=not units)
            # A part that fills the room wins over a whole family that leaves much of it, if nothing else would fit.
            if part is not None and (whole is None or (part[1] >= room - room // 50 and not units)):
                family, filled, members = part
            elif whole is not None:
                family, filled, members = whole, costs[whole], left[whole]
            else:
                break
            units.append((family, sorted(members)))
            taken.add(family)
            _remove(left, family, members)
            if family in left:
                costs[family] = work.cost((family, left[family]))
            room -= filled
        bins.append(units)
    return bins


def _best_part(
    work: Work, left: dict[int, list[int]], costs: dict[int, int], order: Sequence[int], room: int, *, must: bool
) -> tuple[int, int, list[int]] | None:
    """(family, tokens, members) of the part that fills `room` best; None where only prefixes would fill it.

    `must`: the micro-batch is empty, and a part that is mostly prefix is better than none.
    """
    larger = [family for family in order if costs[family] > room and work.prefixes[family] < room]
    cheapest = sorted(larger, key=lambda family: (work.prefixes[family], family))[:_CANDIDATES]
    best: tuple[int, int, int, list[int]] | None = None  # own tokens, family, tokens, members
    for family in cheapest:
        prefix = work.prefixes[family]
        members = left[family]
        chosen = _subset([work.own[family][member] for member in members], room - prefix)
        own = sum(work.own[family][members[index]] for index in chosen)
        if chosen and (best is None or own > best[0]):
            best = own, family, prefix + own, [members[index] for index in chosen]
    if best is None or (best[0] <= work.prefixes[best[1]] and not must):
        return None
    return best[1], best[2], best[3]


def _subset(sizes: Sequence[int], room: int) -> list[int]:
    """Indices of the sizes whose sum is the largest that is at most `room`."""
    mask = (1 << (room + 1)) - 1
    sums = [1]  # bit s of sums[i] is set if the first i sizes have a subset of sum s
    for size in sizes:
        sums.append((sums[-1] | (sums[-1] << size)) & mask)
    total = sums[-1].bit_length() - 1
    chosen = []
    for index in range(len(sizes) - 1, -1, -1):
        if not sums[index] >> total & 1:
            chosen.append(index)
            total -= sizes[index]
    return chosen[::-1]


def _filled_by_singles(work: Work, budget: int) -> list[list[Unit]]:
    """Best fit, longest first, of single sequences; a family that is in a micro-batch already pays no prefix there."""
    items = sorted(
        ((-work.own[f][m], f, m) for f, own in enumerate(work.own) for m in range(len(own))),
        key=lambda item: (item[0] - work.prefixes[item[1]], item[1], item[2]),
    )
    rooms: list[int] = []
    parts: list[dict[int, list[int]]] = []
    for negative, family, member in items:
        best, best_room = -1, budget + 1
        for index, room in enumerate(rooms):
            after = room + negative - (0 if family in parts[index] else work.prefixes[family])
            if 0 <= after < best_room:
                best, best_room = index, after
        if best < 0:
            rooms.append(budget + negative - work.prefixes[family])
            parts.append({family: [member]})
        else:
            rooms[best] = best_room
            parts[best].setdefault(family, []).append(member)
    return [[(family, sorted(members)) for family, members in sorted(part.items())] for part in parts]


def _remove(left: dict[int, list[int]], family: int, members: Sequence[int]) -> None:
    gone = set(members)
    left[family] = [member for member in left[family] if member not in gone]
    if not left[family]:
        del left[family]
