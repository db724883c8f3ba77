"""Values of expressions at 40 digits: quick to refute an equality, and never a proof.

Variables get fixed pseudo-random values, a different one for each point. Equality of functions is meant over the reals,
so that ln x + ln y is ln xy: `Domain.REAL` has no value where a logarithm or root is taken of a negative number.
`Domain.COMPLEX` has principal values there. `Undefined` is raised where the value is not a finite number, or could take
long.
"""

from __future__ import annotations

import zlib
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rlcs.rewards.mathtext.tree import MAX_FACTORIAL, Node

if TYPE_CHECKING:
    from mpmath.ctx_mp import MPContext

_DIGITS = 40
_LARGEST_ARGUMENT = 10**6
"""Of exponentials, powers (as exponent x log of base) and periodic functions."""


Value = tuple[Any, Any]
"""A number of mpmath, real or complex, and the scale that its error is relative to."""


POINTS = {
    "positive": range(2),
    "negative": range(2, 3),
    "mixed": range(3, 4),
    "large": range(4, 6),
    "small": range(6, 7),
    "complex": range(7, 9),
}
"""What values variables have at which points; the complex ones are for `Domain.COMPLEX`."""


class Domain(Enum):
    """What a variable's values mean."""

    REAL = "real"
    COMPLEX = "complex"

    @property
    def points(self) -> range:
        """The points at which functions are compared."""
        return range(7) if self is Domain.REAL else range(9)


class Undefined(Exception):
    """The expression has no value at this point, or none that is cheap."""


class TooLarge(Undefined):
    """The expression is a tower of powers or the like, too large to be computed with."""


@lru_cache(maxsize=1)
def context() -> MPContext:
    """The arithmetic, 40 digits, apart from mpmath's global one."""
    from mpmath.ctx_mp import MPContext

    arithmetic = MPContext()
    arithmetic.dps = _DIGITS
    return arithmetic


def evaluate(node: Node, point: int = 0, domain: Domain = Domain.COMPLEX) -> Value:
    """Value at a point, and the largest magnitude that went into a sum on the way (what cancellation is measured by).

    Raises:
        Undefined: see above.
    """
    evaluation = _Evaluation(point, domain)
    try:
        value = evaluation.of(node)
    except (ZeroDivisionError, OverflowError, ValueError, TypeError, NotImplementedError) as error:
        raise Undefined from error
    arithmetic = context()
    if not arithmetic.isfinite(value):
        raise Undefined
    return value, max(evaluation.scale, abs(value))


def differ(left: Value, right: Value) -> bool:
    """Whether two values are different beyond doubt."""
    (a, scale_a), (b, scale_b) = left, right
    return bool(abs(a - b) > max(scale_a, scale_b) * context().mpf(10) ** -25)


class _Evaluation:
    def __init__(self, point: int, domain: Domain) -> None:
        self.arithmetic = context()
        self.point = point
        self.domain = domain
        self.scale = self.arithmetic.mpf(0)

    def of(self, node: Node) -> Any:
        kind = node[0]
        mp = self.arithmetic
        if kind == "rat":
            return mp.mpf(node[1]) / node[2]
        if kind == "sym":
            return self.variable(node[1])
        if kind == "const":
            if node[1] == "inf":
                raise Undefined
            return {"pi": +mp.pi, "e": +mp.e, "i": mp.mpc(0, 1)}[node[1]]
        if kind == "neg":
            return -self.of(node[1])
        if kind == "add":
            total = mp.mpf(0)
            for child in node[1:]:
                value = self.of(child)
                self.scale = max(self.scale, abs(value))
                total += value
            return total
        if kind == "mul":
            product = mp.mpf(1)
            for child in node[1:]:
                product *= self.of(child)
            return product
        if kind == "div":
            return self.of(node[1]) / self.of(node[2])
        if kind == "pow":
            return self.power(self.of(node[1]), self.of(node[2]))
        if kind == "pct":
            return self.of(node[1]) / 100
        if kind == "deg":
            return self.of(node[1]) * mp.pi / 180
        if kind == "fact":
            return self.factorial(self.of(node[1]))
        if kind == "fn":
            return self.function(node[1], [self.of(child) for child in node[2:]])
        raise Undefined

    def variable(self, name: str) -> Any:
        """Fixed by name and point; see `POINTS`."""
        mp = self.arithmetic
        seed = zlib.crc32(f"{name}/{self.point}".encode())
        size = mp.mpf(seed % 100_003) / 100_003 * 2 + mp.mpf(1) / 3
        if self.point in POINTS["negative"] or (self.point in POINTS["mixed"] and seed % 7 < 4):
            return -size
        if self.point in POINTS["large"]:
            return 30 * size
        if self.point in POINTS["small"]:
            return size / 5
        if self.point in POINTS["complex"]:
            return mp.mpc(size, mp.mpf(seed % 99_991) / 99_991 + mp.mpf(1) / 7)
        return size

    def check_domain(self, value: Any) -> None:
        """A logarithm or root over the reals takes no negative number."""
        if self.domain is Domain.REAL and (self.arithmetic.im(value) != 0 or self.arithmetic.re(value) < 0):
            raise Undefined

    def power(self, base: Any, exponent: Any) -> Any:
        if base == 0:
            if exponent == 0:
                raise Undefined
            return base
        if exponent != self.arithmetic.nint(self.arithmetic.re(exponent)):
            self.check_domain(base)
        if abs(exponent * self.arithmetic.log(abs(base))) > _LARGEST_ARGUMENT or abs(exponent) > _LARGEST_ARGUMENT:
            raise TooLarge
        return base**exponent

    def factorial(self, value: Any) -> Any:
        if abs(value) > MAX_FACTORIAL:
            raise TooLarge
        return self.arithmetic.gamma(value + 1)

    def function(self, name: str, arguments: list[Any]) -> Any:
        mp = self.arithmetic
        first = arguments[0]
        if name == "root":
            degree = arguments[1]
            if mp.im(first) == 0 and mp.re(first) < 0 and degree == int(degree) and int(degree) % 2:
                return -self.power(-first, 1 / degree)  # the real root
            return self.power(first, 1 / degree)
        if name == "log":
            self.check_domain(first)
            value = mp.log(first)
            return value if len(arguments) == 1 else value / mp.log(arguments[1])
        if name == "abs":
            return abs(first)
        if abs(first) > _LARGEST_ARGUMENT:
            raise TooLarge
        plain = {
            "sin": mp.sin, "cos": mp.cos, "tan": mp.tan, "cot": mp.cot, "sec": mp.sec, "csc": mp.csc, "sinh": mp.sinh,
            "cosh": mp.cosh, "tanh": mp.tanh, "arcsin": mp.asin, "arccos": mp.acos, "arctan": mp.atan,
            "arccot": mp.acot,
            "arcsinh": mp.asinh, "arccosh": mp.acosh, "arctanh": mp.atanh, "arg": mp.arg, "Re": mp.re, "Im": mp.im,
        }  # fmt: skip
        if name in plain:
            return plain[name](first)
        if name in ("floor", "ceil", "sgn"):
            real = mp.re(first)
            if mp.im(first) != 0 or 0 < abs(real - mp.nint(real)) < mp.mpf(10) ** -20:
                raise Undefined  # too near to the jump to tell the side
            return {"floor": mp.floor, "ceil": mp.ceil, "sgn": mp.sign}[name](mp.re(first))
        if name == "binom" and all(abs(value) <= 2 * MAX_FACTORIAL for value in arguments):
            return mp.binomial(*arguments)
        if name in ("max", "min") and all(mp.im(value) == 0 for value in arguments):
            return max(arguments) if name == "max" else min(arguments)
        raise Undefined
