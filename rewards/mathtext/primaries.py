r"""The primaries of the grammar: what operators stand between.

primary  = number | name | \frac.. | \sqrt.. | function | brackets | |sum| | matrix
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction

from rlcs.rewards.mathtext.cursor import TokenCursor
from rlcs.rewards.mathtext.numbers import decimal_value
from rlcs.rewards.mathtext.tree import EMPTY_SET, MAX_DEPTH, MathTextError, Node, rational

_CLOSING = {"(": (")", "]"), "[": ("]", ")"), "\\{": ("\\}",), "{": ("}",)}
_MATRICES = frozenset({"matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "smallmatrix", "array"})


class PrimaryParser(TokenCursor, ABC):
    """Reads primaries. What may stand inside of them is the grammar's, `rlcs.rewards.mathtext.grammar`."""

    @abstractmethod
    def item(self) -> Node:
        """A part of an answer between separators."""

    @abstractmethod
    def sum(self) -> Node:
        """Terms with signs between them."""

    @abstractmethod
    def product(self, *, implicit_only: bool = False) -> Node:
        """Factors; without operators if `implicit_only`."""

    @abstractmethod
    def signs(self) -> str:
        """Any run of signs, as one."""

    @abstractmethod
    def signed(self, sign: str, node: Node) -> Node:
        """A node with a sign."""

    @abstractmethod
    def exponent(self) -> Node:
        """What follows a `^`."""

    @abstractmethod
    def postfix(self, node: Node) -> Node:
        """A node with the operators behind it."""

    def primary(self) -> Node:
        self.depth += 1
        if self.depth > 2 * MAX_DEPTH:  # a bracket counts twice: here and in the sum inside
            raise MathTextError(f"the answer is nested deeper than {MAX_DEPTH}")
        node = self.unchecked_primary()
        self.depth -= 1
        return node

    def unchecked_primary(self) -> Node:
        kind, value = self.take()
        if kind == "num":
            number = self.repeating(value) or self.number(value)
            if self.at("_"):
                self.take()
                return self.make("unit", number, f"base{self.flat_argument()}")  # digits in another base
            return number
        if kind == "sym":
            return self.symbol(value)
        if kind == "const":
            return self.make("const", value)
        if kind == "fn":
            return self.function(value)
        if kind == "cmd":
            return self.command(value)
        if kind == "op" and value in _CLOSING:
            return self.brackets(value)
        if kind == "op" and value in ("|", "\\lvert", "\\lfloor", "\\lceil"):
            return self.bars(value)
        raise MathTextError(f"{value or 'the end'} is out of place")

    def repeating(self, digits: str) -> Node | None:
        r"""`0.1\overline{6}`: digits that repeat for ever."""
        if self.peek() not in (("cmd", "overline"), ("cmd", "bar"), ("cmd", "dot")):
            return None
        if (
            [self.peek(i)[1] for i in (1, 3)] != ["{", "}"]
            or not self.peek(2)[1].isdigit()
            or "." not in digits
            or "e" in digits.lower()
        ):
            raise MathTextError("an overline is not over the last decimals of a number")
        repeated = self.peek(2)[1]
        self.position += 4
        value, places = decimal_value(digits)
        tail, _ = decimal_value(repeated)
        value += tail / (10 ** len(repeated) - 1) / Fraction(10) ** (places or 0)
        return self.make("rat", value.numerator, value.denominator, None)

    def symbol(self, name: str) -> Node:
        if self.at("_"):
            self.take()
            name = f"{name}_{self.flat_argument()}"
        while self.at("'"):
            name += self.take()[1]
        return self.make("sym", name)

    def flat_argument(self) -> str:
        """The characters of a subscript: one token, or braces without anything nested."""
        if not self.at("{"):
            return self.take()[1]
        self.take()
        parts = []
        while not self.at("}"):
            kind, value = self.take()
            if kind == "end" or value == "{":
                raise MathTextError("a subscript is not closed")
            parts.append(value)
        self.take()
        return "".join(parts)

    def function(self, name: str) -> Node:
        exponent = base = None
        degree = rational(2)
        if name == "sqrt" and self.at("["):
            self.take()
            degree = self.arguments("]")[0]
        while self.at("^", "_"):
            if self.take()[1] == "_":
                base = self.argument()
            else:
                exponent = self.exponent()
        if self.at("("):
            self.take()
            arguments = self.arguments(")")
        elif name in ("sqrt", "cbrt"):
            arguments = [self.argument()]
        else:
            self.depth += 1
            sign = self.signs()
            arguments = [self.signed(sign, self.product(implicit_only=True))]
            self.depth -= 1
        if exponent is not None and self.value(exponent) == -1 and name in ("sin", "cos", "tan"):
            return self.make("fn", f"arc{name}", *arguments)
        if name == "sqrt" and len(arguments) == 1:
            node = self.make("fn", "root", arguments[0], degree)
        else:
            node = self.apply(name, base, arguments)
        return node if exponent is None else self.make("pow", node, exponent)

    def apply(self, name: str, base: Node | None, arguments: list[Node]) -> Node:
        if len(arguments) != 1 and name not in ("gcd", "lcm", "max", "min", "log", "binom"):
            raise MathTextError(f"{name} takes one argument")
        if name == "cbrt":
            return self.make("fn", "root", arguments[0], rational(3))
        if name == "exp":
            return self.make("pow", ("const", "e"), arguments[0])
        if name == "lg":
            return self.make("fn", "log", arguments[0], rational(10))
        if name == "log" and base is not None:
            return self.make("fn", "log", arguments[0], base)
        if name in ("ln", "log"):
            return self.make("fn", "log", *arguments)
        return self.make("fn", name, *arguments)

    def arguments(self, closing: str) -> list[Node]:
        with_bars, self.in_bars = self.in_bars, False
        items = [self.sum()]
        while self.at(","):
            self.take()
            items.append(self.sum())
        self.expect(closing)
        self.in_bars = with_bars
        return items

    def argument(self, *, digit: bool = False) -> Node:
        r"""A command's argument: braces, brackets, or one token (one digit, for `\frac12`)."""
        kind, value = self.peek()
        if kind == "num" and digit and len(value) > 1:
            self.tokens[self.position] = ("num", value[1:])
            return self.number(value[0])
        if kind == "op" and value in ("{", "("):
            self.take()
            return self.arguments({"{": "}", "(": ")"}[value])[0]
        return self.primary()

    def command(self, name: str) -> Node:
        if name == "frac":
            top, bottom = self.argument(digit=True), self.argument(digit=True)
            return self.make("div", top, bottom)
        if name in ("binom", "dbinom", "tbinom"):
            return self.make("fn", "binom", self.argument(digit=True), self.argument(digit=True))
        if name in ("emptyset", "varnothing"):
            return EMPTY_SET
        if name == "mathbb":
            return self.make("sym", f"mathbb_{self.flat_argument()}")
        if name == "begin":
            return self.matrix()
        raise MathTextError(f"\\{name} is not read")

    def brackets(self, opening: str) -> Node:
        with_bars, self.in_bars = self.in_bars, False
        try:
            if self.at(*_CLOSING[opening]):
                self.take()
                if opening in ("{", "\\{"):
                    return EMPTY_SET
                raise MathTextError("brackets are empty")
            builder = self.set_builder() if opening == "\\{" else None
            items = [builder or self.item()]
            while self.at(",", ";"):
                self.take()
                items.append(self.item())
            closing = self.expect(*_CLOSING[opening])
        finally:
            self.in_bars = with_bars
        if opening in ("{", "\\{"):
            if len(items) == 1 and (opening == "{" or items[0][0] in ("rel", "and")):
                return items[0]
            return self.make("set", *items)
        if len(items) == 1 and (opening, closing) == ("(", ")"):
            return items[0]
        if opening == "[" and all(item[:3] == ("seq", "[", "]") for item in items):
            return self.matrix_of([item[3:] for item in items])
        return self.make("seq", opening, closing, *items)

    def set_builder(self) -> Node | None:
        r"""`\{x \mid x > 2\}` is its condition."""
        if self.peek()[0] == "sym" and self.peek(1)[1] in ("|", ":", "\\mid"):
            self.position += 2
            return self.item()
        return None

    def bars(self, opening: str) -> Node:
        closing = {"|": "|", "\\lvert": "\\rvert", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}[opening]
        with_bars, self.in_bars = self.in_bars, True
        node = self.sum()
        self.expect(closing)
        self.in_bars = with_bars
        name = {"|": "abs", "\\lvert": "abs", "\\lfloor": "floor", "\\lceil": "ceil"}[opening]
        return self.make("fn", name, node)

    def matrix(self) -> Node:
        name = self.flat_argument()
        if name not in _MATRICES:
            raise MathTextError(f"the environment {name} is not read")
        if name == "array" and self.at("{"):
            self.flat_argument()
        rows: list[list[Node]] = [[self.item()]]
        while self.peek() != ("cmd", "end"):
            if self.peek() == ("cmd", "row"):
                self.take()
                if self.peek() == ("cmd", "end"):
                    break
                rows.append([self.item()])
            elif self.peek() == ("cmd", "cell"):
                self.take()
                rows[-1].append(self.item())
            else:
                raise MathTextError("a matrix is not closed")
        self.take()
        if self.flat_argument() != name:
            raise MathTextError("a matrix is not closed")
        node = self.matrix_of([tuple(row) for row in rows])
        return self.make("fn", "det", node) if name == "vmatrix" else node

    def matrix_of(self, rows: list[Node]) -> Node:
        if len({len(row) for row in rows}) > 1:
            raise MathTextError("the rows of a matrix differ in length")
        return self.make("matrix", tuple(rows))
