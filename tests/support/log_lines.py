"""What the gateway writes to its log, counted as the journal gets it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.daemon.logs import LineFormatter


class LogLines(logging.Handler):
    """Lines, and their octets with a line end and nothing that the journal adds."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(LineFormatter(journal=False, plain=True))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def of(self, words: str = "") -> list[str]:
        return [line for line in self.lines if words in line]

    def octets(self, words: str = "") -> int:
        return sum(len(line.encode()) + 1 for line in self.of(words))


@contextmanager
def log_lines() -> Iterator[LogLines]:
    """Everything that `gateway` logs from INFO upward, while this lasts."""
    handler, logger = LogLines(), logging.getLogger("gateway")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
