"""Bells ring on, whatever one of them does."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest
from support.patience import PATIENCE_S

from gateway.schedule import Bells


@pytest.fixture
def failures():
    return []


@pytest.fixture
def bells(failures):
    made = Bells(lambda name, error: failures.append((name, str(error))))
    yield made
    made.stop()


def test_nothing_rings_before_start_and_nothing_after_stop(bells):
    rung = threading.Event()
    threads = set(threading.enumerate())
    bells.every("tick", 0.02, rung.set)
    assert set(threading.enumerate()) <= threads
    bells.start()
    assert rung.wait(PATIENCE_S)
    bells.stop()
    rung.clear()
    assert not rung.wait(0.1)


def test_a_callback_that_raises_is_told_and_silences_no_other(bells, failures):
    rung, enough = [], threading.Event()

    def broken() -> None:
        raise ValueError("a bug")

    def healthy() -> None:
        rung.append(1)
        if len(rung) > 3:
            enough.set()

    bells.every("broken", 0.02, broken)
    bells.every("healthy", 0.02, healthy)
    bells.start()
    assert enough.wait(PATIENCE_S)
    assert ("broken", "a bug") in failures


def test_callbacks_never_overlap(bells):
    inside, overlaps, done = threading.Lock(), [], threading.Semaphore(0)

    def slow() -> None:
        if not inside.acquire(blocking=False):
            overlaps.append(1)
            return
        threading.Event().wait(0.03)
        inside.release()
        done.release()

    bells.every("one", 0.02, slow)
    bells.every("two", 0.02, slow)
    bells.start()
    for _ in range(4):
        assert done.acquire(timeout=PATIENCE_S)
    assert not overlaps


@pytest.mark.parametrize("years", [56, -56])
def test_a_clock_that_is_set_by_decades_holds_up_nothing(bells, monkeypatch, years):
    rung = threading.Event()
    bells.every("tick", 1.0, rung.set)
    bells.start()

    class Elsewhere(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=365 * years)

    monkeypatch.setattr("apscheduler.schedulers.base.datetime", Elsewhere)
    monkeypatch.setattr("gateway.schedule.datetime", Elsewhere)
    for _ in range(3):
        rung.clear()
        bells.clock_was_set()
        assert rung.wait(30)
    rung.clear()
    assert rung.wait(30), "and it rings by itself again"
