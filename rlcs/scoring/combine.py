"""One score out of several rewards: the weighted mean of those that apply."""

from __future__ import annotations

from collections.abc import Sequence

from rlcs.types import Score


def combine(names: Sequence[str], weights: Sequence[float], scores: Sequence[Score | None]) -> Score | None:
    """The weighted mean of the scores that are not None, with each as a named part; None if none applies.

    Weights are normalised over the rewards that apply, so that the value stays in [0, 1]. `correct` is the verdict of
    the first reward that has one. Where none has (plain functions return only numbers), a value of 1 is right, a value
    of 0 is wrong and anything between is neither.
    """
    applying = [(n, w, s) for n, w, s in zip(names, weights, scores, strict=True) if s is not None]
    if not applying:
        return None
    total = sum(weight for _, weight, _ in applying)
    value = min(1.0, max(0.0, sum(weight * score.value for _, weight, score in applying) / total))
    parts: dict[str, float] = {}
    for name, _, score in applying:
        parts[name] = score.value
        parts.update({f"{name}.{part}": amount for part, amount in score.parts.items()})
    verdicts = [score.correct for _, _, score in applying if score.correct is not None]
    correct = verdicts[0] if verdicts else {1.0: True, 0.0: False}.get(value)
    if len(applying) == 1:
        detail = applying[0][2].detail
    else:
        detail = "; ".join(f"{name}: {score.detail}" for name, _, score in applying if score.detail)
    return Score(value, correct, parts, detail)
