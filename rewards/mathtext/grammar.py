r"""A recursive-descent grammar for answers in LaTeX or plain text, with limits on everything that could grow.

answer   = item [unit] {("," | ";" | "or" | "and") item [unit]}
item     = operand {relation operand}                 relation: = != < <= > >= \in
operand  = sum {"\cup" sum} | sum {":" sum}
sum      = ["+" | "-" | "\pm"] product {("+" | "-" | "\pm" | "\mp") product}
product  = power {["*" | "/"] power}                  a missing sign is a multiplication
power    = primary {"!" | "%" | degrees} ["^" exponent]
primary  = see `rlcs.rewards.mathtext.primaries`
"""

from __future__ import annotations

from fractions import Fraction

from rlcs.rewards.mathtext.normalize import normalize, plain_words
from rlcs.rewards.mathtext.primaries import PrimaryParser
from rlcs.rewards.mathtext.tokens import END, tokenize
from rlcs.rewards.mathtext.tree import EMPTY_SET, REALS, VALUES, MathTextError, Node, rational
from rlcs.rewards.mathtext.unit_words import is_unit, split_scale

_RELATIONS = ("=", "!=", "<", "<=", ">", ">=", "\\in")
_SEPARATORS = (",", ";", "or", "and")
_NO_SOLUTION = frozenset(
    {"no solution", "no solutions", "no real solution", "no real solutions", "empty set", "the empty set"}
)
_ALL_REALS = frozenset({"all real numbers", "all reals", "the real numbers", "the set of all real numbers"})


def parse_answer(text: str) -> Node:
    """The expression tree of an answer.

    Raises:
        MathTextError: it cannot be read, or is beyond the limits of `rlcs.rewards.mathtext.tree`.
    """
    return parse_normalized(normalize(text))


def parse_normalized(text: str) -> Node:
    """As `parse_answer`, for a text that went through `normalize`."""
    if not text:
        raise MathTextError("the answer is empty")
    words = plain_words(text.replace("\x02", " ").replace("\x03", " "))
    if words in _NO_SOLUTION:
        return EMPTY_SET
    if words in _ALL_REALS:
        return REALS
    tokens = tokenize(text)
    kinds = {kind for kind, _ in tokens}
    if kinds & {"word", "text"} and not kinds & {"num", "cmd", "fn", "const"}:
        return ("word", words)
    return _Parser(tokens).answer()


class _Parser(PrimaryParser):
    """What stands between primaries: operators, relations, separators."""

    # --- grammar

    def answer(self) -> Node:
        items = [self.with_unit(self.item())]
        while self.at(*_SEPARATORS):
            self.take()
            if self.at(*_SEPARATORS):
                self.take()  # ", and"
            if self.peek() == END and self.tokens[self.position - 1][1] in (",", ";"):
                break
            items.append(self.with_unit(self.item()))
        node = items[0] if len(items) == 1 else self.make("list", *items)
        if self.peek() != END:
            raise MathTextError(f"{self.peek()[1]} is out of place")
        return node

    def with_unit(self, node: Node) -> Node:
        """A value and its unit, if a word follows: `5 cm^2`, `3 \\text{ m/s}`, `2 million dollars`."""
        if self.peek()[0] not in ("word", "text"):
            return node
        parts = []
        while self.peek() != END and not self.at(*_SEPARATORS):
            parts.append(self.take()[1])
        power, unit = split_scale(" ".join(" ".join(parts).split()))
        if power:
            if node[0] not in VALUES:
                raise MathTextError(f"{parts[0]} does not stand behind a number")
            node = self.make("mul", node, self.make("pow", rational(10), rational(power)))
        if not unit:
            return node
        if not is_unit(unit):
            raise MathTextError(f"{unit[:40]} is no unit")
        return self.make("unit", node, unit.casefold().replace(" ", "").replace("^", ""))

    def item(self) -> Node:
        operands = [self.operand()]
        relations = []
        while self.at(*_RELATIONS):
            relations.append(self.take()[1])
            operands.append(self.operand())
        parts = [self.relation(op, operands[i], operands[i + 1]) for i, op in enumerate(relations)]
        if not parts:
            return operands[0]
        return parts[0] if len(parts) == 1 else self.make("and", *parts)

    def relation(self, operator: str, left: Node, right: Node) -> Node:
        if operator in (">", ">="):
            return self.make("rel", operator.replace(">", "<"), right, left)
        return self.make("rel", operator.lstrip("\\"), left, right)

    def operand(self) -> Node:
        parts = [self.sum()]
        if self.at("\\cup", ":"):
            operator = self.peek()[1]
            while self.at(operator):
                self.take()
                parts.append(self.sum())
            return self.make("union" if operator == "\\cup" else "ratio", *parts)
        return parts[0]

    def sum(self) -> Node:
        self.depth += 1
        terms = []
        sign = self.signs()
        while True:
            terms.append(self.signed(sign, self.product()))
            if not self.at("+", "-", "\\pm", "\\mp"):
                break
            sign = self.signs()
        self.depth -= 1
        return terms[0] if len(terms) == 1 else self.make("add", *terms)

    def signs(self) -> str:
        """Any run of signs, as one."""
        sign = "+"
        while self.at("+", "-", "\\pm", "\\mp"):
            operator = self.take()[1]
            if operator == "-":
                sign = {"+": "-", "-": "+"}.get(sign, sign)
            elif operator != "+":
                sign = operator
        return sign

    def signed(self, sign: str, node: Node) -> Node:
        if sign == "+":
            return node
        if sign == "-":
            return self.make("neg", node)
        return self.make("pm", "+" if sign == "\\pm" else "-", node)

    def product(self, *, implicit_only: bool = False) -> Node:
        factors = [self.power()]
        while True:
            if self.at("*", "/") and not implicit_only:
                operator = self.take()[1]
                sign = self.signs()
                right = self.signed(sign, self.power())
                if operator == "*":
                    factors.append(right)
                else:
                    factors = [self.make("div", self.multiply(factors), right)]
            elif self.starts_factor(implicit_only):
                mixed = self.mixed_number(factors[-1])
                if mixed is not None:
                    factors[-1] = mixed
                    continue
                if self.peek()[0] == "num" and factors[-1][0] == "rat":
                    raise MathTextError("two numbers stand side by side")
                factors.append(self.power())
            else:
                return self.multiply(factors)

    def multiply(self, factors: list[Node]) -> Node:
        return factors[0] if len(factors) == 1 else self.make("mul", *factors)

    def starts_factor(self, is_argument: bool) -> bool:
        kind, value = self.peek()
        if kind in ("num", "sym", "const"):
            return True
        if kind == "cmd":
            return value not in ("row", "cell", "end")
        if kind == "fn":
            return not is_argument
        if kind == "op":
            return value in ("(", "{", "\\lfloor", "\\lceil", "\\lvert") or (value == "|" and not self.in_bars)
        return False

    def mixed_number(self, whole: Node) -> Node | None:
        """`1 1/2` and `1\\frac{1}{2}`: an integer literal before a proper fraction of integer literals."""
        if whole[0] != "rat" or whole[2] != 1 or whole[3] is not None or self.tokens[self.position - 1][0] != "num":
            return None
        start = self.position
        top: Node | None = None
        if self.peek() == ("cmd", "frac"):
            fraction = self.power()
            if fraction[0] == "div":
                top, bottom = fraction[1], fraction[2]
        elif [self.peek(i)[0] for i in range(3)] == ["num", "op", "num"] and self.peek(1)[1] == "/":
            top, bottom = self.number(self.peek(0)[1]), self.number(self.peek(2)[1])
            self.position += 3
        if top is not None and top[0] == bottom[0] == "rat" and top[2] == bottom[2] == 1 and top[1] < bottom[1]:
            value = whole[1] + Fraction(top[1], bottom[1])
            return self.make("rat", value.numerator, value.denominator, None)
        self.position = start
        return None

    def power(self) -> Node:
        node = self.postfix(self.primary())
        if self.at("^"):
            self.take()
            node = self.postfix(self.make("pow", node, self.exponent()))
        return node

    def postfix(self, node: Node) -> Node:
        while self.at("!", "%", "\\degree", "'"):
            operator = self.take()[1]
            if operator == "'" or (operator == "!" and self.at("!")):
                raise MathTextError("primes and double factorials are not read")
            if operator == "\\degree" and self.peek() in (("sym", "C"), ("sym", "F")):
                node = self.make("unit", node, "°" + self.take()[1].casefold())
                break
            node = self.make({"!": "fact", "%": "pct", "\\degree": "deg"}[operator], node)
        return node

    def exponent(self) -> Node:
        """What follows a `^`: braces, or a signed primary; towers group to the right."""
        self.depth += 1
        sign = self.signs()
        node = self.primary()
        if self.at("!"):
            node = self.postfix(node)
        if self.at("^"):
            self.take()
            node = self.make("pow", node, self.exponent())
        self.depth -= 1
        return self.signed(sign, node)
