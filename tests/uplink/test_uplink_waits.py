"""The uplink on virtual time with a scripted broker: every wait has an end, and nothing is sent too often."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.board import UPLINK, Board
from gateway.errors import StoreError
from gateway.model import MqttSettings, Reply, ReplyStatus
from gateway.simulator.clock import VirtualClock
from gateway.store import Store
from gateway.uplink.broker import Acknowledged, Connected, Delivery, Event, Lost, Message, Subscribed
from gateway.uplink.progress import ProgressTeller
from gateway.uplink.uplink import REFUSED_ALARM, STATUS, Uplink

BASE = "mgw/v1/gw"
OUTBOX_ALARM = ("alarm", "outbox")
OUTBOX_LIMIT_BYTES = 100_000
ROOMY = Connected(max_packet_size=1 << 20, receive_maximum=65535)


class ScriptedBroker:
    """Answers CONNECT with `answer`, SUBSCRIBE with `grant`, a publication by what `judge` says of its topic: a
    reason, or None for silence."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._events: list[Event] = []
        self._mid = 0
        self.answer: Event | None = ROOMY
        self.grant = 1
        self.judge: Callable[[str], int | None] = lambda _topic: 0
        self.connects: list[float] = []
        self.drops = 0
        self.subscribed: list[str] = []
        self.published: list[Message] = []

    def connect(self, will: Message) -> None:
        self.connects.append(self._clock.monotonic())
        self._events = [self.answer] if self.answer else []

    def poll(self, timeout_s: float, deliver: Callable[[Delivery], None]) -> list[Event]:
        if not self._events:
            self._clock.advance(timeout_s)
        events, self._events = self._events, []
        return events

    def subscribe(self, topic_filter: str) -> None:
        self.subscribed.append(topic_filter)
        self._events.append(Subscribed(self.grant))

    def publish(self, message: Message) -> int:
        self._mid += 1
        self.published.append(message)
        reason = self.judge(message.topic) if message.qos else None
        if reason is not None:
            self._events.append(Acknowledged(self._mid, reason))
        return self._mid

    def drop(self) -> None:
        self.drops += 1
        self._events = []

    def disconnect(self) -> None:
        self._events = []

    def lose(self) -> None:
        self._events.append(Lost("a cable was pulled"))

    def replies(self) -> list[int]:
        documents = [
            json.loads(message.payload) for message in self.published if message.topic == f"{BASE}/rsp"
        ]
        return [int(document["cmd_id"]) for document in documents]


class Desk:
    """An uplink and what is around it."""

    def __init__(self, state_dir: Path) -> None:
        self.clock = VirtualClock()
        self.board = Board()
        self.broker = ScriptedBroker(self.clock)
        self.store = Store(
            state_dir,
            gateway_id="gw",
            root="mgw/v1",
            clock=self.clock,
            board=self.board,
            outbox_limit_bytes=OUTBOX_LIMIT_BYTES,
        )
        self.uplink = Uplink(
            MqttSettings("mqtt://127.0.0.1", outbox_limit_bytes=OUTBOX_LIMIT_BYTES),
            gateway_id="gw",
            broker=self.broker,
            store=self.store,
            board=self.board,
            clock=self.clock,
            handle=never,
            info=dict,
            clock_state=lambda: "synced",
            random=Random(7),
        )

    def run_for(self, seconds: float) -> None:
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            before = self.clock.monotonic()
            report = self.uplink.step()
            assert report.wake_at is not None
            assert report.wake_at - before <= 5.1  # it shows life whatever it waits for
            assert self.board.lives()[UPLINK] == before
            self.clock.advance_to(report.wake_at)

    def tell(self, *numbers: int) -> None:
        for number in numbers:
            self.store.send_reply(Reply(str(number), ReplyStatus.DONE), f"{BASE}/rsp")

    def fill_outbox(self, share: float) -> None:
        while self.store.outbox_bytes() < share * OUTBOX_LIMIT_BYTES:
            self.store.send_reply(Reply("1", ReplyStatus.DONE, message="x" * 500), f"{BASE}/rsp")

    def alarm(self, key: tuple[str, ...] = REFUSED_ALARM) -> Any:
        return self.board.values("alarm").get(key)


def never(_raw: bytes, _origin: object, _verb: str) -> NoReturn:
    raise AssertionError("no command was sent")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()


def test_a_broker_that_does_not_answer_is_given_up_and_tried_again(desk: Desk) -> None:
    desk.broker.answer = None
    desk.run_for(100)
    first, second, *_ = desk.broker.connects
    assert 15 < second - first < 16.5


def test_attempts_grow_apart_but_never_more_than_a_minute(desk: Desk) -> None:
    desk.broker.answer = Lost("connection refused")
    desk.run_for(4 * 3600)
    times = desk.broker.connects
    gaps = [after - before for before, after in pairwise(times)]
    assert all(gap <= limit + 0.2 for gap, limit in zip(gaps, [1, 2, 4, 8, 16, 32], strict=False))
    assert max(gaps) <= 60.2
    assert 25 < sum(gaps[6:]) / len(gaps[6:]) < 35  # full jitter


def test_a_broker_that_throws_us_out_at_once_is_not_hammered(desk: Desk) -> None:
    for _ in range(600):
        desk.run_for(1)
        desk.broker.lose()
    gaps = [after - before for before, after in pairwise(desk.broker.connects)][6:]
    assert sum(gaps) / len(gaps) > 20


def test_after_a_long_connection_the_first_attempt_is_soon(desk: Desk) -> None:
    desk.broker.answer = Lost("connection refused")
    desk.run_for(3600)
    desk.broker.answer = ROOMY
    desk.run_for(130)
    desk.broker.lose()
    lost_at, before = desk.clock.monotonic(), len(desk.broker.connects)
    desk.run_for(2)
    assert len(desk.broker.connects) == before + 1
    assert desk.broker.connects[-1] - lost_at <= 1.2


def test_a_broker_that_is_away_for_long_fills_no_log_and_tells_since_when(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    desk.run_for(100)
    away_since = desk.clock.now()
    desk.broker.lose()
    for reason in ("connection refused", "no route to host") * 10:
        desk.broker.answer = Lost(reason)
        desk.run_for(600)
    assert [record.message for record in caplog.records] == [
        "uplink online",
        "uplink offline: a cable was pulled",
        "uplink offline: connection refused",
        "uplink offline: no route to host",
    ]
    status = desk.board.values("uplink")[STATUS]
    assert (status["online"], status["reason"]) == (False, "no route to host")
    assert abs(datetime.fromisoformat(status["since"]) - away_since) < timedelta(seconds=1)

    desk.broker.answer = ROOMY
    desk.run_for(100)
    desk.broker.lose()
    desk.broker.answer = Lost("connection refused")
    desk.run_for(100)
    assert [record.message for record in caplog.records[4:]] == [
        "uplink online",
        "uplink offline: a cable was pulled",
        "uplink offline: connection refused",
    ]


def test_a_broker_that_acknowledges_nothing_is_left_and_everything_sent_again(desk: Desk) -> None:
    desk.broker.judge = lambda _topic: None
    desk.tell(1, 2, 3)
    desk.run_for(59)
    assert (desk.broker.replies(), len(desk.broker.connects)) == ([1, 2, 3], 1)
    desk.broker.judge = lambda _topic: 0
    desk.run_for(10)
    assert (desk.broker.replies(), len(desk.broker.connects)) == ([1, 2, 3, 1, 2, 3], 2)
    assert desk.store.outbox_batch(0, 9) == []


def test_nothing_is_sent_twice_while_it_is_under_way(desk: Desk) -> None:
    desk.broker.judge = lambda topic: None if topic == f"{BASE}/rsp" else 0
    desk.tell(*range(1, 41))
    desk.run_for(50)
    assert desk.broker.replies() == list(range(1, 17))
    assert len(desk.store.outbox_batch(0, 99)) == 40


def test_what_the_broker_has_is_forgotten_by_one_commit_for_a_burst(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[int] = []
    really = desk.store.outbox_delete
    monkeypatch.setattr(desk.store, "outbox_delete", lambda *ids: (forgotten.append(len(ids)), really(*ids)))
    desk.run_for(10)
    for number in range(1, 7):
        desk.tell(number)
        desk.run_for(0.3)
    desk.run_for(10)
    assert forgotten == [6]
    assert desk.store.outbox_batch(0, 9) == []


def test_what_the_broker_has_is_not_told_again_on_a_new_connection_nor_after_a_stop_in_order(
    desk: Desk,
) -> None:
    desk.run_for(10)
    desk.tell(1)
    desk.run_for(0.5)
    desk.broker.lose()
    desk.run_for(70)
    desk.tell(2)
    desk.run_for(0.5)
    desk.uplink.close()
    assert desk.store.outbox_batch(0, 9) == []
    assert desk.broker.replies() == [1, 2]


@pytest.mark.parametrize("maximum", [1, 2, 7])
def test_the_receive_maximum_of_the_broker_is_kept(desk: Desk, maximum: int) -> None:
    desk.broker.answer = Connected(1 << 20, maximum)
    desk.broker.judge = lambda _topic: None
    desk.tell(*range(1, 41))
    desk.run_for(50)
    assert len(desk.broker.published) == maximum


def test_refused_rows_stay_and_are_tried_again_each_minute_in_order(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.uplink")
    desk.broker.judge = lambda topic: 0x87 if topic == f"{BASE}/rsp" else 0
    desk.tell(1, 2)
    desk.run_for(30)
    assert desk.broker.replies() == [1, 2]
    assert desk.alarm()["reason"] == 0x87
    desk.run_for(60)
    assert desk.broker.replies() == [1, 2, 1, 2]
    desk.tell(3)
    desk.broker.judge = lambda _topic: 0
    desk.run_for(60)
    assert desk.broker.replies() == [1, 2, 1, 2, 3, 1, 2]
    assert desk.store.outbox_batch(0, 9) == []
    assert desk.alarm() is None
    assert [record.message for record in caplog.records] == [
        "uplink online",
        f"the broker refuses {BASE}/rsp: not authorized 0x87",
        "the broker refuses nothing any more",
    ]


def test_a_refused_subscription_is_an_alarm_and_asked_for_again(desk: Desk) -> None:
    desk.broker.grant = 0x87
    desk.tell(1)
    desk.run_for(30)
    assert desk.alarm()["topic"] == f"{BASE}/cmd/+"
    assert desk.broker.replies() == [1]
    desk.broker.grant = 1
    desk.run_for(60)
    assert desk.broker.subscribed == [f"{BASE}/cmd/+"] * 2
    assert desk.alarm() is None


def test_a_store_that_fails_costs_the_connection_and_not_the_process(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> NoReturn:
        raise StoreError("no space left on device")

    desk.tell(1)
    with monkeypatch.context() as failing:
        failing.setattr(desk.store, "outbox_delete", full)
        desk.run_for(5)
    assert desk.broker.drops >= 1
    assert "no space left" in desk.board.values("uplink")[STATUS]["reason"]
    desk.run_for(70)
    assert desk.store.outbox_batch(0, 9) == []


# -- the outbox and its limits --------------------------------------------------------------------------------


def test_an_outbox_that_fills_up_is_an_alarm_until_the_broker_has_taken_it(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    desk.broker.answer = Lost("connection refused")
    desk.fill_outbox(0.79)
    desk.run_for(10)
    assert desk.alarm(OUTBOX_ALARM) is None

    desk.fill_outbox(0.80)
    desk.run_for(10)
    alarm = desk.alarm(OUTBOX_ALARM)
    waiting, _, rest = alarm["message"].partition(" ")
    assert int(waiting) >= 0.8 * OUTBOX_LIMIT_BYTES
    assert rest == f"of {OUTBOX_LIMIT_BYTES} octets wait for the broker: new campaigns are refused"

    desk.fill_outbox(0.95)
    desk.run_for(10)
    assert desk.alarm(OUTBOX_ALARM)["message"].endswith(": new campaigns are refused, running ones wait")

    desk.broker.answer = ROOMY
    desk.run_for(120)
    assert desk.store.outbox_bytes() == 0
    assert desk.alarm(OUTBOX_ALARM) is None
    told = [record.message for record in caplog.records if record.message.startswith("alarm: outbox")]
    assert len(told) == 3
    assert told[-1] == "alarm: outbox: over"
    retained = [
        message.payload for message in desk.broker.published if message.topic.endswith("alarm/outbox")
    ]
    assert retained[-1] == b""


# -- progress -------------------------------------------------------------------------------------------------

KEY = ("progress", "fw-1", "MTR1")


def progress(blocks_done: int, state: str = "transferring", blocks_total: int = 1000) -> dict[str, Any]:
    return {"state": state, "blocks_done": blocks_done, "blocks_total": blocks_total}


def test_progress_is_told_at_once_then_each_percent_ten_seconds_or_change_of_state() -> None:
    clock, teller = VirtualClock(), ProgressTeller(BASE)

    def told(value: dict[str, Any], after_s: float) -> bool:
        clock.advance(after_s)
        return bool(list(teller.due({KEY: value}, clock)))

    assert told(progress(0), 0)
    assert not told(progress(9), 1)
    assert told(progress(10), 1)
    assert not told(progress(11), 9.9)
    assert told(progress(11), 0.1)
    assert not told(progress(11), 100)  # nothing new
    assert told(progress(12), 0)
    assert told(progress(12, "completing"), 0)
    assert told(progress(0, "completing", 0), 0)


def test_a_job_that_is_over_is_forgotten() -> None:
    clock, teller = VirtualClock(), ProgressTeller(BASE)
    assert list(teller.due({KEY: progress(5)}, clock))
    assert not list(teller.due({}, clock))
    assert list(teller.due({KEY: progress(5)}, clock))


@given(st.lists(st.tuples(st.floats(0, 12), st.integers(0, 40)), max_size=60))
def test_no_pace_of_a_transfer_tells_too_often_or_too_late(steps: list[tuple[float, int]]) -> None:
    clock, teller = VirtualClock(), ProgressTeller(BASE)
    done, told_at, told_done = 0, float("-inf"), 0
    for pause_s, blocks in steps:
        clock.advance(pause_s)
        done += blocks
        told = list(teller.due({KEY: progress(done)}, clock))
        waited_s, moved = clock.monotonic() - told_at, done - told_done
        if told:
            assert waited_s >= 10 or moved >= 10
            told_at, told_done = clock.monotonic(), done
        else:
            assert not moved or (waited_s < 10 and moved < 10)
