"""A place in a list of tokens, and the moves over it that every rule of a grammar is made of."""

from __future__ import annotations

from rlcs.rewards.mathtext.builder import TreeBuilder
from rlcs.rewards.mathtext.tokens import END, Token
from rlcs.rewards.mathtext.tree import MathTextError


class TokenCursor(TreeBuilder):
    """Reads tokens from left to right, and builds the tree of what it read."""

    def __init__(self, tokens: list[Token]) -> None:
        super().__init__()
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.in_bars = False

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
