"""Orders for windows that cannot be carried out: each is refused with its code and advice, and nothing is half done."""

from dataclasses import replace
from datetime import date, time

import pytest
from support.desk import CONFIG, IMAGE, Desk, order

from gateway.errors import ADVICE
from gateway.model import JobState, Profile, Window

NIGHT = Window("night", frozenset(range(7)), time(22), 5 * 3600.0, "UTC")
WINDOWS = {
    "night": NIGHT,
    "over": replace(NIGHT, name="over", valid_until=date(2025, 12, 30)),
    "never": replace(
        NIGHT, name="never", days=frozenset({0}), valid_from=date(2026, 2, 3), valid_until=date(2026, 2, 4)
    ),
    "summer": replace(NIGHT, name="summer", valid_from=date(2026, 6, 1)),
    "winter": replace(NIGHT, name="winter", valid_until=date(2026, 3, 1)),
    "dusk": replace(NIGHT, name="dusk", start=time(20), duration_s=3600.0),
    "minute": replace(NIGHT, name="minute", duration_s=60.0),
    "dawn": replace(NIGHT, name="dawn", start=time(4), duration_s=3600.0),
}
SLOW = replace(CONFIG.meters[1], profile=Profile("slow", reconnect_after_s=7200.0))


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path, config=replace(CONFIG, meters=(CONFIG.meters[0], SLOW)))
    desk.store.use_windows(WINDOWS)
    yield desk
    desk.close()


def activation(window):
    return {"activation": {"when": "window", "window": window}}


BAD = {
    "a window that is over": ({"window": "over"}, "W_NONE", "window over never opens again"),
    "a window that never opens": ({"window": "never"}, "W_NONE", "window never never opens again"),
    "one that never opens, for activation": (activation("over"), "W_NONE", "window over never opens again"),
    "a window that opens too late": (
        {"window": "summer", "not_after": "2026-05-01T00:00:00Z"}, "W_NONE", "2026-06-01 22:00 UTC, after not_after",
    ),
    "two windows that contradict": (
        {"window": "summer", **activation("winter")}, "W_NONE",
        "nothing is transferred before 2026-06-01 22:00 UTC, and winter does not open after that",
    ),
    "two that contradict for this order": (
        {"window": "dusk", "not_after": "2026-01-02T01:00:00Z", **activation("dawn")}, "W_NONE",
        "nothing is transferred before 2026-01-01 20:00 UTC, and dawn does not open after that in time",
    ),
    "a window too short to activate in": (
        {"window": "night", **activation("minute")}, "W_NONE",
        "window minute lasts 60 s, and activating MTR1 takes 90 s (reconnect_after of its profile, and a minute)",
    ),
    "a window too short for one of its meters": (
        {"targets": "all", **activation("dawn")}, "W_NONE", "window dawn lasts 3600 s, and activating MTR2 takes 7260",
    ),
    "a window that nobody knows": ({"window": "noon"}, "W_NONE", "no window noon; known: dawn, dusk, minute,"),
    "a time beyond all calendars": (
        {"not_after": "9999-12-31T23:59:59Z"}, "E_SCHEMA", "'9999-12-31T23:59:59Z': no such time",
    ),
    "targets that match nothing": ({"targets": {"profile": "x4"}}, "E_NOT_FOUND", "no meter of profile x4"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "code", "message"), BAD.values(), ids=BAD)
def test_an_order_that_could_never_be_carried_out(desk, change, code, message):
    told = desk.store.events(0, 100)
    reply = desk.send("campaign.submit", order(**{"targets": ["MTR1"], **change}))
    assert (reply.status, reply.code) == ("rejected", code)
    assert message in reply.message
    assert reply.data["advice"] == ADVICE[code]
    assert desk.store.campaigns() == []
    assert desk.store.events(0, 100) == told


GOOD = {
    "the same window for both": {"window": "night", **activation("night")},
    "activation later in the same night": {"window": "night", **activation("dawn")},
    "activation while it is transferred": {"window": "winter", **activation("night")},
    "a dry run, which activates nothing": {"window": "minute", "dry_run": True},
    "at a time, in no window": {
        "window": "minute",
        "activation": {"when": "at", "at": "2026-01-05T00:00:00Z"},
    },
}


@pytest.mark.parametrize("change", GOOD.values(), ids=GOOD)
def test_windows_that_go_together(desk, change):
    reply = desk.send("campaign.submit", order(targets=["MTR1"], **change))
    assert reply.status == "accepted", reply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timezone": "Europe/Atlantis"}, "late.timezone: found \"Europe/Atlantis\", expected a time zone"),
        ({"start": "24:00"}, 'late.start: found "24:00"'),
        ({"days": []}, "late.days: found [], expected at least one day"),
        ({"cutoff": "2h"}, 'late.cutoff: found "2h", expected less than the duration'),
        ({"valid_from": "2026-02-02", "valid_until": "2026-02-01"}, "late.valid_until"),
        ({"valid_from": "9999-12-31"}, "late.valid_from: found \"9999-12-31\""),
    ],
)  # fmt: skip
def test_a_window_that_cannot_be_is_not_set(desk, change, message):
    args = {"window": "late", "start": "02:00", "duration": "1h", "timezone": "UTC", **change}
    reply = desk.send("window.set", args)
    assert (reply.status, reply.code) == ("rejected", "E_SCHEMA")
    assert message in reply.message
    assert reply.data["advice"]
    assert "late" not in desk.store.windows()


def test_a_meter_that_another_campaign_holds_keeps_all_of_an_order_out(desk):
    assert desk.send("campaign.submit", order(window="night", targets=["MTR1"])).status == "accepted"
    reply = desk.send("campaign.submit", order("fw-2", window="night", targets=["MTR2", "MTR1"]))
    assert (reply.status, reply.code) == ("rejected", "E_STATE")
    assert reply.message == "meter MTR1 belongs to campaign fw-1, which goes on"
    assert reply.data["advice"]
    assert desk.store.campaign("fw-2") is None
    assert desk.store.jobs("fw-2") == []


@pytest.mark.parametrize("verb", ["pause", "resume", "approve", "retry", "cancel"])
def test_what_has_ended_takes_no_orders(desk, verb):
    desk.send("campaign.submit", order(window="night", targets=["MTR1"]))
    desk.send("campaign.cancel", {"campaign_id": "fw-1"})
    ended = desk.store.campaign("fw-1")
    reply = desk.send(f"campaign.{verb}", {"campaign_id": "fw-1"})
    assert (reply.status, reply.code) == ("rejected", "E_STATE")
    assert "has ended: cancelled" in reply.message
    assert reply.data["advice"]
    assert desk.store.campaign("fw-1") == ended


def test_cancelling_while_every_meter_activates_changes_nothing(desk):
    desk.images.add([IMAGE])
    desk.send("campaign.submit", order(targets=["MTR1"]))
    job = desk.store.save_job(replace(desk.store.job("fw-1", "MTR1"), state=JobState.ACTIVATING))
    before = desk.store.campaign("fw-1")
    reply = desk.send("campaign.cancel", {"campaign_id": "fw-1"})
    assert (reply.status, reply.code) == ("rejected", "E_STATE")
    assert "every meter that is left is activating its image" in reply.message
    assert reply.data["advice"]
    assert (desk.store.campaign("fw-1"), desk.store.job("fw-1", "MTR1")) == (before, job)
