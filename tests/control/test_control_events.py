"""`event.list`: what a head-end that was away asks for, and what it is told of that which is gone."""

from datetime import timedelta

import pytest
from support.desk import MQTT, Desk, order

from gateway.control.events import PAGE_LIMIT_BYTES
from gateway.model import ReplyStatus
from gateway.store.documents import time_text


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def listed(desk, **args):
    reply = desk.send("event.list", args, origin=MQTT)
    assert reply.status is ReplyStatus.DONE, reply.message
    return reply.data


def told(desk):
    """What the broker heard, in order."""
    return [document for topic, document in desk.outbox() if topic == "event"]


def happen(desk, count, message="somebody looked"):
    for _ in range(count):
        desk.clock.advance(60)
        desk.store.audit("trace", who="uid 1000", port="rs485-1", message=message)


def set_time(clock, moment):
    clock._start = moment - timedelta(seconds=clock.monotonic())


def seqs(page):
    return [event["seq"] for event in page["events"]]


def test_a_head_end_that_missed_events_gets_the_very_same_ones_page_by_page(desk):
    desk.send("campaign.submit", order(), origin=MQTT)
    happen(desk, 24)
    heard, known = [], {}
    while True:
        page = listed(desk, limit=7, **known)
        assert page["missed"] is None
        heard += page["events"]
        known = {"after": page["next"], "epoch": page["epoch"]}
        if not page["more"]:
            break
    assert heard == told(desk)
    assert seqs({"events": heard}) == list(range(1, page["last"] + 1))
    assert listed(desk, **known)["events"] == []
    happen(desk, 1)
    assert seqs(listed(desk, **known)) == [page["last"] + 1]


def test_events_of_a_time_and_later(desk):
    happen(desk, 50)
    since = time_text(desk.clock.now() - timedelta(minutes=9.5))
    assert seqs(listed(desk, since=since)) == list(range(41, 51))
    assert seqs(listed(desk, since=since, after=45)) == list(range(46, 51))
    assert listed(desk, since=time_text(desk.clock.now() + timedelta(days=1)))["events"] == []
    whole = listed(desk, since="2026-01-01T00:00:00Z")
    assert (seqs(whole), whole["missed"]) == (list(range(1, 51)), None)


def test_a_clock_that_was_wrong_for_a_while_hides_no_event_of_a_time(desk):
    happen(desk, 20)
    since = desk.clock.now()
    happen(desk, 5)
    set_time(desk.clock, since.replace(year=1970))  # a start without a clock
    happen(desk, 10)
    set_time(desk.clock, since + timedelta(hours=1))
    happen(desk, 5)
    assert seqs(listed(desk, since=time_text(since)))[0] <= 21
    assert seqs(listed(desk, since=time_text(since + timedelta(hours=1))))[0] in range(26, 37)


def test_what_is_older_than_events_are_kept_is_said_to_be_forgotten(desk):
    happen(desk, 10)
    desk.clock.advance(timedelta(days=80).total_seconds())
    happen(desk, 10)
    known = {"epoch": desk.store.epoch}
    desk.clock.advance(timedelta(days=12).total_seconds())
    desk.store.purge_expired()
    page = listed(desk, after=3, **known)
    assert (page["missed"], page["first"], seqs(page)) == ("forgotten", 11, list(range(11, 21)))
    assert listed(desk, after=10, **known)["missed"] is None
    assert listed(desk, after=15, **known)["missed"] is None
    assert listed(desk)["missed"] == "forgotten"
    assert listed(desk, since="2026-01-01T00:00:00Z")["missed"] == "forgotten"
    assert listed(desk, since=time_text(desk.clock.now() - timedelta(days=12, minutes=5)))["missed"] is None


def test_numbers_of_another_epoch_are_not_taken_for_ours(desk, tmp_path):
    happen(desk, 5)
    for known in (
        {"after": 3, "epoch": "another"},
        {"after": 400},
        {"after": 400, "epoch": desk.store.epoch},
    ):
        page = listed(desk, **known)
        assert (page["missed"], page["epoch"], seqs(page)[0]) == ("epoch", desk.store.epoch, 1)


def test_after_an_adoption_numbers_go_on_and_nothing_is_missed(tmp_path):
    from gateway.store.binding import new_epoch

    desk = Desk(tmp_path)
    happen(desk, 5)
    old = desk.store.epoch
    with desk.store._transaction() as database:
        desk.store.epoch = new_epoch(database)
    happen(desk, 5)
    page = listed(desk, after=4, epoch=old)
    assert page["missed"] is None and page["epoch"] != old
    assert [event["epoch"] == old for event in page["events"]] == [True] + [False] * 5
    assert listed(desk, after=7, epoch=old)["missed"] == "epoch"
    desk.close()


def test_a_page_fits_a_packet_however_long_the_events_are(desk):
    happen(desk, 40, message="x" * 4000)
    page = listed(desk, limit=1000)
    assert 8 <= len(page["events"]) < PAGE_LIMIT_BYTES / 4000
    assert page["more"] and page["next"] == seqs(page)[-1]
    happen(desk, 1, message="x" * PAGE_LIMIT_BYTES)
    assert seqs(listed(desk, after=40, limit=5)) == [41], "one at least, or nobody would ever come further"


@pytest.mark.parametrize("args", [
    {"after": -1}, {"after": 1.5}, {"limit": 0}, {"limit": 1001}, {"since": "yesterday"},
    {"since": "0001-01-01T00:00:00Z"}, {"epoch": ""}, {"before": 3},
])  # fmt: skip
def test_arguments_that_make_no_sense_are_refused(desk, args):
    assert desk.send("event.list", args, origin=MQTT).code == "E_SCHEMA"
