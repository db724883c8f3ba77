r"""Physics answers: quantities with units, vectors, several quantities, expressions.

| reference | right is |
|---|---|
| `5 m/s` | the same quantity in any compatible unit, within the tolerance; a bare `5` is not |
| `9.8 m/s^2` | what rounds to 9.8 too, if it is within 1 % |
| `20 °C` | 293.15 K: degrees alone are temperatures, inside of a product they are differences |
| `0.5` | a bare number, or what is one: 50 %, 0.5 rad |
| `5 N upward` | the quantity with the direction |
| `(3, 4) m/s`, `3\hat{i}+4\hat{j}` | the same components |
| `3 s, 5 s`; `t_1 = 3 s, t_2 = 5 s` | the same in this order; by name, in any order |
| `\frac{mv^2}{2}` | an equal expression (`rlcs.rewards.math.MathMatcher`) |
| words | the same words, else what the judge says |
"""

from __future__ import annotations

from rlcs.rewards.base import Columns
from rlcs.rewards.science import ScienceVerifier
from rlcs.rewards.verifier import Match


class Physics(ScienceVerifier):
    """1 if the boxed answer is the reference quantity or expression, else 0 with the reason.

    Args:
        extract: how the answer is found in a response.
        judge: decides where the reference is in words and the answer in others.
        tolerance: relative to the reference; GLM-V's 1e-5. A decimal reference also accepts what rounds to it.
        require_unit: a bare number is wrong where the reference has a unit. If not, it is taken in that unit.
        timeout_s: deadline of one symbolic comparison.
        memory_mb: what a symbolic comparison may allocate.

    Columns of a row that are heeded: `tolerance` and `require_unit` in place of the options; `unit`, the unit that the
    question asks for, which bare numbers in answer and reference then have; `temperature_difference` (true: 20 °C are
    20 K); `ordered` (false: several quantities may come in any order).
    """

    def match_special(self, answer: str, reference: str, columns: Columns) -> Match | None:
        return None

    def validate_special(self, answer: str, columns: Columns) -> tuple[bool, str]:
        return False, ""
