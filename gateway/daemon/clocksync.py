"""Whether the time of day can be trusted (invariant 10): what the machine's time synchronisation says of itself.

Asked are, in this order: systemd-timesyncd's mark, systemd-timedated (which knows what any NTP service told the
kernel), chronyd. adjtimex(2) is not called: a service with systemd's `@system-service` filter is killed for it.
A machine without any of them counts as not synchronised, and so does, whatever it says, one on which this program was
not written yet.
"""

from __future__ import annotations

import os
import subprocess
from datetime import datetime
from pathlib import Path

from gateway.clock import EARLIEST

SYNCED = "synced"
UNSYNCED = "unsynced"
UNCHECKED = "unchecked"
"""`require_synced_clock = false`: nobody looked."""

_TIMESYNCD_MARK = Path("run/systemd/timesync/synchronized")  # systemd-timesyncd.service(8)
_CHRONYD_SOCKET = Path("run/chrony/chronyd.sock")
_ASK_TIMEOUT_S = 3.0
"""timedated is started by the question, which takes a small machine more than a second."""


def clock_state(required: bool, now: datetime, *, root: Path = Path("/")) -> str:
    """SYNCED, UNSYNCED or UNCHECKED, at this moment. Asks other processes: at most some seconds."""
    if not required:
        return UNCHECKED
    if now < EARLIEST:
        return UNSYNCED
    if (root / _TIMESYNCD_MARK).exists():
        return SYNCED
    if _says("timedatectl", "show", "--property=NTPSynchronized", "--value").strip() == "yes":
        return SYNCED
    if (root / _CHRONYD_SOCKET).exists() and _leap_status(_says("chronyc", "-c", "tracking")) == "Normal":
        return SYNCED
    return UNSYNCED


def _leap_status(tracking: str) -> str:
    """The last field of `chronyc -c tracking`: Normal, Insert second, Delete second or Not synchronised."""
    return tracking.strip().rpartition(",")[2]


def _says(*command: str) -> str:
    try:
        answer = subprocess.run(  # noqa: S603 (fixed words, found on PATH as an administrator set it)
            command,
            # timedatectl would tell systemd of its own failure, in the name of this service.
            env={name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ASK_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""
