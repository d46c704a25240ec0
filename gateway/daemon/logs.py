"""The log: one line for each change, on stderr, with nothing in it that could move a cursor or forge a line."""

from __future__ import annotations

import logging
import os
import sys

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""syslog(3) levels, as systemd reads them from `<N>` at the head of a line (sd-daemon(3))."""


class LineFormatter(logging.Formatter):
    """Escapes control characters of messages (invariant 13); only a traceback may have several lines.

    Under systemd the journal knows the time, and takes the level from a prefix.
    """

    def __init__(self, *, journal: bool) -> None:
        super().__init__("%(message)s" if journal else "%(asctime)s %(levelname)-7s %(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        message = _escaped(record.getMessage())
        lines = super().format(logging.makeLogRecord({**record.__dict__, "msg": message, "args": None}))
        if not self._journal:
            return lines
        prefix = f"<{_PRIORITY.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in lines.splitlines())


def set_up(*, verbose: bool = False) -> None:
    """Log to stderr. `verbose` tells every step of every actor."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(journal="JOURNAL_STREAM" in os.environ))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    # They tell whole URLs, and the query of a pre-signed one is a password.
    for talkative in ("httpx", "httpcore"):
        logging.getLogger(talkative).setLevel(logging.WARNING)


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
