"""One score out of several rewards: the weighted mean of those that apply, with gates, or the least of them."""

from __future__ import annotations

from collections.abc import Sequence

from rlcs.config import CombineMode
from rlcs.types import Score


def combine(
    names: Sequence[str],
    weights: Sequence[float],
    scores: Sequence[Score | None],
    *,
    mode: CombineMode = "weighted_sum",
    is_gate: Sequence[bool] = (),
    gate_threshold: float = 0.5,
    gate_cap: float = 0.0,
) -> Score | None:
    """One score with each of those that are not None as a named part; None if none applies.

    | mode | value |
    |---|---|
    | `weighted_sum` | mean of the values, weights normalised over the rewards that apply |
    | `gate` | the same of the rewards that are no gates, at most `gate_cap` if any gate is below `gate_threshold` |
    | `minimum` | the least value |

    `correct` is the verdict of the first reward that has one; with `minimum`, whether all verdicts are right. A gate's
    verdict counts only where it is wrong. Where no reward has a verdict (plain functions and reward models return only
    numbers), a value of 1 is right, a value of 0 is wrong and anything between is neither. Where only gates apply, the
    least of them is the value.
    """
    gates = is_gate if mode == "gate" and is_gate else [False] * len(names)
    applying = [(n, w, s, g) for n, w, s, g in zip(names, weights, scores, gates, strict=True) if s is not None]
    if not applying:
        return None
    judging = [(weight, score) for _, weight, score, gate in applying if not gate]
    failed = [name for name, _, score, gate in applying if gate and score.value < gate_threshold]
    if mode == "minimum" or not judging:
        value = min(score.value for _, _, score, _ in applying)
    else:
        total = sum(weight for weight, _ in judging)
        value = min(1.0, max(0.0, sum(weight * score.value for weight, score in judging) / total))
    if failed:
        value = min(value, gate_cap)
    parts: dict[str, float] = {}
    for name, _, score, _ in applying:
        parts[name] = score.value
        parts.update({f"{name}.{part}": amount for part, amount in score.parts.items()})
    verdicts = [score.correct for _, score in judging if score.correct is not None]
    correct = verdicts[0] if verdicts else {1.0: True, 0.0: False}.get(value)
    if (mode == "minimum" and False in verdicts) or any(
        gate and score.correct is False for _, _, score, gate in applying
    ):
        correct = False
    if len(applying) == 1:
        detail = applying[0][2].detail
    else:
        detail = "; ".join(f"{name}: {score.detail}" for name, _, score, _ in applying if score.detail)
    if failed:
        detail = f"gate {' and '.join(failed)} failed; {detail}".removesuffix("; ")
    return Score(value, correct, parts, detail)
