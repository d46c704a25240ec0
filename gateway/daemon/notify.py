"""What systemd is told of the daemon (sd_notify(3)), where python3-systemd is installed and systemd listens."""

from __future__ import annotations

import os


def tell(state: str) -> None:
    """Send `READY=1`, `STATUS=...`, `WATCHDOG=1` or `STOPPING=1`."""
    try:
        from systemd.daemon import notify
    except ImportError:
        return
    notify(state)


def watchdog_s() -> float | None:
    """How often systemd wants a sign of life, in seconds; None: not at all (sd_watchdog_enabled(3))."""
    interval_us, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not interval_us.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(interval_us) / 1e6
