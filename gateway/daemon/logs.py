"""The log: one line for each change, with nothing in it that could move a cursor or forge a line.

On stderr; as a systemd service in the journal, where what a line has as `extra={"fields": {"METER": ...}}` are fields
of its own, so that `journalctl METER=MTR0001` finds what concerns one meter. There are METER, PORT, CAMPAIGN and CODE.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from gateway.words import printable

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""syslog(3) levels, as systemd reads them from `<N>` at the head of a line (sd-daemon(3))."""


class LineFormatter(logging.Formatter):
    """Escapes control characters of messages (invariant 13); only a traceback may have several lines.

    Under systemd the journal knows the time, and takes the level from a prefix; `plain` is without either.
    """

    def __init__(self, *, journal: bool, plain: bool = False) -> None:
        super().__init__("%(message)s" if journal or plain else "%(asctime)s %(levelname)-7s %(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        message = printable(record.getMessage())
        lines = super().format(logging.makeLogRecord({**record.__dict__, "msg": message, "args": None}))
        if not self._journal:
            return lines
        prefix = f"<{_priority(record)}>"
        return "\n".join(prefix + line for line in lines.splitlines())


class JournalHandler(logging.Handler):
    """Hands lines with their fields to `send`, which is systemd.journal.send; where the journal does not take one, it
    goes to the handler `otherwise`."""

    def __init__(self, send: Callable[..., object], *, otherwise: logging.Handler) -> None:
        super().__init__()
        self.setFormatter(LineFormatter(journal=False, plain=True))
        self._send = send
        self._otherwise = otherwise

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(
                self.format(record),
                SYSLOG_IDENTIFIER="meter-gateway",
                PRIORITY=str(_priority(record)),
                LOGGER=record.name,
                THREAD_NAME=record.threadName or "",
                CODE_FILE=record.pathname,
                CODE_LINE=record.lineno,
                CODE_FUNC=record.funcName,
                **getattr(record, "fields", {}),
            )
        except OSError:
            self._otherwise.handle(record)


def set_up(*, verbose: bool = False) -> None:
    """Log to the journal where systemd reads along, else to stderr. `verbose` tells every step of every actor."""
    journal = "JOURNAL_STREAM" in os.environ
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(journal=journal))
    if journal and (send := _journal()) is not None:
        handler = JournalHandler(send, otherwise=handler)
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    # They tell whole URLs, and the query of a pre-signed one is a password.
    for talkative in ("httpx", "httpcore"):
        logging.getLogger(talkative).setLevel(logging.WARNING)


def _journal() -> Callable[..., object] | None:
    try:
        from systemd.journal import send
    except ImportError:
        return None
    found: Callable[..., object] = send
    return found


def _priority(record: logging.LogRecord) -> int:
    return _PRIORITY.get(record.levelno, 6)
