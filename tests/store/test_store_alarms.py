"""Alarms, as operators near and far see them: raised once, told until the broker has it, ended once."""

import logging
import sqlite3

import pytest
from support.desk import BASE, open_store, told

from gateway.board import Board
from gateway.model import AlarmKind
from gateway.simulator.clock import VirtualClock
from gateway.store.database import FILE_NAME

LOST, PORT = AlarmKind.PORT_LOST, "rs485-1"
CODE = "port-lost.rs485-1"


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def board():
    return Board()


@pytest.fixture
def store(tmp_path, clock, board):
    store = open_store(tmp_path, clock, board)
    yield store
    store.close()


def retained(store):
    """What the broker will hold at each alarm's topic, in the order in which it is told."""
    rows = [row for row in store.outbox_batch(0, 1000) if row.topic.startswith(f"{BASE}/alarm/")]
    assert all(row.retain for row in rows)
    return [(row.topic.removeprefix(f"{BASE}/alarm/"), told(row.topic, row.payload)) for row in rows]


def shown(board):
    return [key[1] for key in board.values("alarm")]


def test_an_alarm_is_told_once_however_often_it_is_found(store, clock, board, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(3):
        store.raise_alarm(LOST, "/dev/x is not there", port=PORT)
        clock.advance(10)
    [(code, document)] = retained(store)
    assert code == document["code"] == CODE
    assert (document["kind"], document["port"]) == ("port-lost", PORT)
    assert document["since"] == "2026-01-01T00:00:00.000Z"
    assert document["advice"]
    assert board.values("alarm") == {("alarm", CODE): document}
    [line] = [record for record in caplog.records if "alarm" in record.message]
    assert (line.levelno, line.message) == (logging.WARNING, f"alarm: {CODE}: /dev/x is not there")
    assert line.fields == {"PORT": PORT}


def test_one_that_is_found_otherwise_goes_on_since_it_began(store, clock):
    store.raise_alarm(LOST, "/dev/x is gone", port=PORT)
    clock.advance(60)
    store.raise_alarm(LOST, "/dev/x is not there", port=PORT)
    [(_, document)] = retained(store)
    assert document["message"] == "/dev/x is not there"
    assert document["since"] == "2026-01-01T00:00:00.000Z"


def test_one_that_is_over_is_emptied_at_the_broker_and_gone_from_the_board(store, board):
    store.raise_alarm(LOST, "gone", port=PORT)
    store.end_alarm(LOST, port=PORT)
    store.end_alarm(LOST, port=PORT)
    assert retained(store) == [(CODE, {})]
    assert shown(board) == []
    messages = [event["message"] for event in store.events() if event["kind"] == "alarm"]
    assert messages == [f"{CODE}: gone", f"{CODE}: over"]


def test_what_never_was_is_not_told(store):
    store.end_alarm(LOST, port=PORT)
    assert retained(store) == []
    assert store.events() == []


def test_an_alarm_stands_over_a_restart_until_somebody_has_looked(tmp_path, clock, store):
    store.raise_alarm(LOST, "gone", port=PORT)
    store.outbox_delete(*[row.id for row in store.outbox_batch(0, 100)])
    store.close()
    board = Board()
    later = open_store(tmp_path, clock, board)
    try:
        assert later.alarmed(LOST, PORT)
        assert shown(board) == [CODE]
        assert retained(later) == [], "the broker holds it already"
        later.end_alarm(LOST, port=PORT)
        assert retained(later) == [(CODE, {})]
    finally:
        later.close()


def test_a_port_that_is_no_longer_configured_has_no_alarm(store):
    store.raise_alarm(LOST, "gone", port=PORT)
    store.raise_alarm(LOST, "gone", port="lan")
    store.raise_alarm(AlarmKind.CLOCK, "wrong")
    store.end_alarms_elsewhere(["lan"])
    assert [code for code, document in retained(store) if document] == ["port-lost.lan", "clock"]
    assert (CODE, {}) in retained(store)


def test_a_full_disk_hides_no_alarm_and_it_is_told_when_there_is_room(store, board, monkeypatch):
    def full(_database):
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as failing:
        failing.setattr(store, "_commit", full)
        store.raise_alarm(AlarmKind.DISK, "nothing left")
        assert shown(board) == ["disk"]
    assert retained(store) == []
    store.raise_alarm(AlarmKind.DISK, "nothing left")
    assert [code for code, _ in retained(store)] == ["disk"]


def test_a_database_that_was_set_aside_is_an_alarm_as_long_as_it_lies_there(tmp_path, clock, store):
    store.close()
    (tmp_path / FILE_NAME).write_bytes(b"this is no database" * 1000)
    board = Board()
    open_store(tmp_path, clock, board).close()
    assert shown(board) == ["store"]
    [aside] = tmp_path.glob("*.broken-*")
    assert aside.name in board.values("alarm")["alarm", "store"]["message"]
    aside.unlink()
    board = Board()
    open_store(tmp_path, clock, board).close()
    assert shown(board) == []
