r"""A recursive-descent grammar for answers in LaTeX or plain text, with limits on everything that could grow.

answer   = item {("," | ";" | "or" | "and") item} [unit]
item     = operand {relation operand}                 relation: = != < <= > >= \in
operand  = sum {"\cup" sum} | sum {":" sum}
sum      = ["+" | "-" | "\pm"] product {("+" | "-" | "\pm" | "\mp") product}
product  = power {["*" | "/"] power}                  a missing sign is a multiplication
power    = primary {"!" | "%" | degrees} ["^" exponent]
primary  = number | name | \frac.. | \sqrt.. | function | brackets | |sum| | matrix
"""

from __future__ import annotations

from fractions import Fraction

from rlcs.rewards.mathtext.builder import TreeBuilder
from rlcs.rewards.mathtext.normalize import normalize, plain_words
from rlcs.rewards.mathtext.numbers import decimal_value
from rlcs.rewards.mathtext.tokens import END, Token, tokenize
from rlcs.rewards.mathtext.tree import EMPTY_SET, MAX_DEPTH, MathTextError, Node, rational

_RELATIONS = ("=", "!=", "<", "<=", ">", ">=", "\\in")
_SEPARATORS = (",", ";", "or", "and")
_CLOSING = {"(": (")", "]"), "[": ("]", ")"), "\\{": ("\\}",), "{": ("}",)}
_MATRICES = frozenset({"matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "smallmatrix", "array"})
_NO_SOLUTION = frozenset(
    {"no solution", "no solutions", "no real solution", "no real solutions", "empty set", "the empty set"}
)


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
    tokens = tokenize(text)
    kinds = {kind for kind, _ in tokens}
    if kinds & {"word", "text"} and not kinds & {"num", "cmd", "fn", "const"}:
        return ("word", words)
    return _Parser(tokens).answer()


class _Parser(TreeBuilder):
    def __init__(self, tokens: list[Token]) -> None:
        super().__init__()
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.in_bars = False

    # --- tokens

    def peek(self, ahead: int = 0) -> Token:
        index = self.position + ahead
        return self.tokens[index] if index < len(self.tokens) else END

    def at(self, *operators: str) -> bool:
        kind, value = self.tokens[self.position]
        return kind == "op" and value in operators

    def take(self) -> Token:
        token = self.tokens[self.position]
        if token[0] != "end":
            self.position += 1
        return token

    def expect(self, *operators: str) -> str:
        if not self.at(*operators):
            found = self.peek()[1] or "the end"
            raise MathTextError(f"{' or '.join(operators)} was expected, not {found}")
        return self.take()[1]

    # --- grammar

    def answer(self) -> Node:
        items = [self.item()]
        while self.at(*_SEPARATORS):
            self.take()
            if self.at(*_SEPARATORS):
                self.take()  # ", and"
            if self.peek() == END and self.tokens[self.position - 1][1] in (",", ";"):
                break
            items.append(self.item())
        node = items[0] if len(items) == 1 else self.make("list", *items)
        if self.peek()[0] in ("word", "text"):
            node = self.unit(node)
        if self.peek() != END:
            raise MathTextError(f"{self.peek()[1]} is out of place")
        return node

    def unit(self, node: Node) -> Node:
        """Everything that follows a value, if it starts with a word: `5 cm^2`, `3 \\text{ m/s}`."""
        parts = []
        while self.peek() != END:
            parts.append(self.take()[1])
        return self.make("unit", node, "".join(parts).casefold().replace(" ", "").replace("^", ""))

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
