"""How a test waits for what other threads and processes do: for the thing itself, and for as long as a machine may
take that is slow and has other work. Nothing is asserted of the time it took."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 120.0
"""What comes at all comes sooner, anywhere; who waits goes on as soon as it has come."""
_LOOK_EVERY_S = 0.02


def eventually(condition: Callable[[], object], otherwise: Callable[[], object] = lambda: "") -> None:
    """Wait until `condition` holds. AssertionError with what `otherwise` says where it never does."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"it never came about: {otherwise()}"
        time.sleep(_LOOK_EVERY_S)
