"""Threads over step(): woken by bells and moments, alive while they rest, loud when they meet a bug."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from support.patience import PATIENCE_S, eventually

from gateway.board import Board
from gateway.clock import SystemClock
from gateway.daemon import actors
from gateway.daemon.actors import ActorThread
from gateway.errors import StoreError
from gateway.model import StepReport


class Scripted:
    """An actor that does what the test says, once a step, and then rests."""

    def __init__(self, *script) -> None:
        self.script = list(script)
        self.stepped = threading.Semaphore(0)

    def step(self) -> StepReport:
        self.stepped.release()
        todo = self.script.pop(0) if self.script else None
        if isinstance(todo, BaseException):
            raise todo
        return StepReport("a step", None if todo is None else time.monotonic() + todo)


@pytest.fixture
def board():
    return Board()


@pytest.fixture
def run(board):
    threads, ended = [], []

    def start(actor, **options) -> ActorThread:
        thread = ActorThread(
            "actor", actor, board=board, clock=SystemClock(), patience_s=1.0,
            ended=lambda name, error: ended.append((name, error)), **options,
        )  # fmt: skip
        threads.append(thread)
        thread.start()
        return thread

    start.ended = ended
    yield start
    for thread in threads:
        thread.stop()
        assert thread.join(PATIENCE_S)


def test_an_actor_without_work_sleeps_until_its_bell_rings(run, board):
    actor = Scripted()
    run(actor)
    assert actor.stepped.acquire(timeout=PATIENCE_S)
    assert not actor.stepped.acquire(timeout=0.1)
    board.ring("actor")
    assert actor.stepped.acquire(timeout=PATIENCE_S)


def test_an_actor_that_hears_its_bell_finds_it_still_ringing(run, board):
    heard = []

    class Hearing:
        def step(self) -> StepReport:
            heard.append(board.bell("actor").is_set())
            board.bell("actor").clear()
            return StepReport("a step", None)

    board.ring("actor")
    run(Hearing(), hears_bell=True)
    eventually(lambda: heard)
    time.sleep(0.1)  # time enough for a second step that no bell asked for
    assert heard == [True]


def test_an_actor_steps_again_when_it_wanted_to(run, board):
    actor = Scripted(0.0, 0.0, 0.05)
    run(actor)
    for _ in range(4):
        assert actor.stepped.acquire(timeout=PATIENCE_S)
    assert not actor.stepped.acquire(timeout=0.1)


def test_a_resting_actor_is_seen_to_live(run, board, monkeypatch):
    monkeypatch.setattr(actors, "BEAT_S", 0.01)
    run(Scripted())
    first = board.lives()["actor"]
    eventually(lambda: board.lives()["actor"] > first)


def test_a_full_disk_is_told_once_and_tried_again(run, board, monkeypatch, caplog):
    monkeypatch.setattr(actors, "_AFTER_ERROR_S", 0.01)
    actor = Scripted(*[StoreError("the disk is full") for _ in range(3)])
    run(actor)
    for _ in range(4):
        assert actor.stepped.acquire(timeout=PATIENCE_S)
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert told.startswith("actor: F_DISK: the disk is full. The disk is full or cannot be written")
    assert not run.ended


@pytest.mark.parametrize(
    ("messages", "told"), [(["the disk is full"] * 30, 1), ([f"error {number}" for number in range(30)], 8)],
    ids=["the same", "always another"],
)  # fmt: skip
def test_errors_that_come_and_go_do_not_fill_the_log(run, monkeypatch, caplog, messages, told):
    monkeypatch.setattr(actors, "_AFTER_ERROR_S", 0.0)
    actor = Scripted(*[todo for message in messages for todo in (StoreError(message), 0.0)])
    run(actor)
    eventually(lambda: not actor.script)
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == told


def test_a_bug_is_logged_with_its_traceback_and_ends_the_actor(run, board, caplog):
    closed = []
    actor = Scripted(ZeroDivisionError("a bug"))
    thread = run(actor, close=lambda: closed.append(1))
    assert thread.join(PATIENCE_S)
    ((name, error),) = run.ended
    assert (name, str(error)) == ("actor", "a bug")
    assert any(record.exc_info for record in caplog.records)
    assert not closed


def test_stopping_lets_the_step_end_and_closes_in_the_same_thread(run, board):
    seen, stepping = [], threading.Event()

    class Slow:
        def step(self) -> StepReport:
            stepping.set()
            time.sleep(0.1)
            seen.append(("stepped", threading.current_thread().name))
            return StepReport("slow", time.monotonic())

    thread = run(Slow(), close=lambda: seen.append(("closed", threading.current_thread().name)))
    assert stepping.wait(PATIENCE_S)
    thread.stop()
    assert thread.join(PATIENCE_S)
    assert seen == [("stepped", "actor"), ("closed", "actor")]
