"""Text of models, datasets and errors made harmless for a terminal, which takes some characters for commands."""

from __future__ import annotations

import logging


def printable(text: str) -> str:
    """One line that a terminal shows as it is: line breaks, control characters and broken Unicode are written out."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """The same of several lines, which stay apart."""
    return "\n".join(printable(line) for line in text.split("\n"))


class PrintableFormatter(logging.Formatter):
    """Formats a record as text that a terminal shows as it is."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return printable_lines(super().format(record))
