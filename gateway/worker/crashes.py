"""Bugs of this program at work on one job: counted where they happen, so that the same job does not end the whole
gateway for ever (invariant 12).

Whatever is not of the project's own error tree ends the process, and systemd starts it again. What survives is a number
at the job: a power cut, a kill or a neighbour's bug adds nothing to it. A job at which that happened `CRASHES_BORNE`
times is ended, and its campaign goes on without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gateway.errors import Code, GatewayError
from gateway.model import Job
from gateway.states import in_its_meters_hands
from gateway.store import Store

CRASHES_BORNE = 3
_COUNTED = "counted_against_a_job"


@contextmanager
def counted(store: Store, *meter_ids: str) -> Iterator[None]:
    """A bug in here counts against the open jobs of these meters, and goes on to whoever ends the process. One within
    another counts alone: to begin with one meter may mean to leave another."""
    try:
        yield
    except GatewayError:
        raise
    except Exception as bug:
        if not getattr(bug, _COUNTED, False):
            setattr(bug, _COUNTED, True)
            with suppress(GatewayError):  # the disk does not take it: the next one may be counted
                store.count_crash(meter_ids, type(bug).__name__)
        raise


def verdict(job: Job) -> tuple[Code, str] | None:
    """Why a job is not taken in hand any more; None: it may be."""
    if job.crashes < CRASHES_BORNE:
        return None
    found = f"this program failed {job.crashes} times at work on {job.meter_id}: see its log"
    if in_its_meters_hands(job):
        return Code.T_UNKNOWN, f"{found}; the activation was ordered before"
    return Code.T_CRASH, found
