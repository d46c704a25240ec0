"""What a campaign may do at a moment of its night."""

from datetime import UTC, datetime, time, timedelta

import pytest

from gateway.model import ActivateWhen, Campaign, PausedWhy, Window
from gateway.plan.gate import ever_opens, expired, gate

DAY = datetime(2026, 11, 22, tzinfo=UTC)
EVERY_DAY = frozenset(range(7))


def hours(name, start, length_h, days=EVERY_DAY):
    return Window(
        name, days, time.fromisoformat(start), length_h * 3600.0, "UTC", cutoff_s=1800.0, drain_s=120.0
    )


WINDOWS = {
    "night": hours("night", "22:00", 5),
    "dawn": hours("dawn", "04:00", 1),
    "never": hours("never", "22:00", 1, days=frozenset()),
}


def order(**changes):
    return Campaign(
        **{"id": "c", "sha256": "0" * 64, "identifier": b"x", "meters": ("M",), "created_at": DAY, **changes}
    )


def at(text):
    return datetime.combine(DAY, time.fromisoformat(text), UTC)


NIGHT = [
    # time, may begin, may transfer, why not, when it opens
    ("21:59", False, False, PausedWhy.WINDOW, at("22:00")),
    ("22:00", True, True, None, at("22:00") + timedelta(days=1)),
    ("02:29", True, True, None, at("22:00")),
    ("02:30", False, True, None, at("22:00")),  # the cut-off
    ("02:57", False, True, None, at("22:00")),
    ("02:58", False, False, PausedWhy.WINDOW, at("22:00")),  # the drain
    ("03:00", False, False, PausedWhy.WINDOW, at("22:00")),
]


@pytest.mark.parametrize(
    ("clock", "begin", "transfer", "why", "opens_at"), NIGHT, ids=[row[0] for row in NIGHT]
)
def test_a_night(clock, begin, transfer, why, opens_at):
    found = gate(order(window="night"), WINDOWS, at(clock), clock_trusted=True)
    assert (found.may_begin, found.may_transfer, found.why, found.opens_at) == (
        begin,
        transfer,
        why,
        opens_at,
    )


def test_without_a_window_it_is_open_whatever_the_clock_says():
    found = gate(order(), {}, at("12:00"), clock_trusted=False)
    assert found.may_begin
    assert found.may_transfer
    assert found.may_activate(at("12:00"), 600)
    assert found.look_at is None


def test_no_window_opens_on_a_clock_that_is_not_trusted():
    found = gate(order(window="night"), WINDOWS, at("23:00"), clock_trusted=False)
    assert (found.may_transfer, found.why) == (False, PausedWhy.CLOCK)
    assert not found.may_activate(at("23:00"), 1)


def test_a_window_that_is_no_longer_there_stays_closed():
    found = gate(order(window="gone"), WINDOWS, at("23:00"), clock_trusted=True)
    assert (found.may_transfer, found.why, found.opens_at) == (False, PausedWhy.WINDOW, None)


def test_activation_needs_to_fit_before_the_end():
    campaign = order(window="night")
    assert gate(campaign, WINDOWS, at("02:57"), clock_trusted=True).may_activate(at("02:57"), 180)
    assert not gate(campaign, WINDOWS, at("02:57"), clock_trusted=True).may_activate(at("02:57"), 181)
    assert gate(campaign, WINDOWS, at("02:59"), clock_trusted=True).may_activate(at("02:59"), 60)


DAWN = {"activate_when": ActivateWhen.WINDOW, "activate_window": "dawn"}
AT_SIX = {"activate_when": ActivateWhen.AT, "activate_at": at("06:00")}
ACTIVATIONS = {
    "in its own window": (DAWN, "04:10", True),
    "not in that of the transfer": (
        {"activate_when": ActivateWhen.WINDOW, "activate_window": "dawn"},
        "23:00",
        False,
    ),
    "from its time on, whatever the window": (
        {"activate_when": ActivateWhen.AT, "activate_at": at("06:00")},
        "06:00",
        True,
    ),
    "not before its time": (AT_SIX, "05:59", False),
    "not before somebody approved": ({"activate_when": ActivateWhen.MANUAL}, "23:00", False),
    "at once": ({}, "23:00", True),
}


@pytest.mark.parametrize(("activation", "clock", "expected"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_when_a_meter_may_be_activated(activation, clock, expected):
    found = gate(order(window="night", **activation), WINDOWS, at(clock), clock_trusted=True)
    assert found.may_activate(at(clock), 60) is expected


def test_after_approval_it_is_activated_within_the_window():
    approved = order(window="night", activate_when=ActivateWhen.MANUAL, approved=True)
    assert gate(approved, WINDOWS, at("23:00"), clock_trusted=True).may_activate(at("23:00"), 60)
    assert not gate(approved, WINDOWS, at("12:00"), clock_trusted=True).may_activate(at("12:00"), 60)


def test_an_activation_at_a_time_waits_for_a_clock_that_is_trusted():
    campaign = order(activate_when=ActivateWhen.AT, activate_at=at("06:00"))
    assert gate(campaign, {}, at("07:00"), clock_trusted=False).activation_waits_for is PausedWhy.CLOCK


@pytest.mark.parametrize("window", ["night", "dawn", ""])
@pytest.mark.parametrize("activation", [row[0] for row in ACTIVATIONS.values()], ids=ACTIVATIONS)
def test_between_two_looks_nothing_changes(window, activation):
    """Whoever looks again at `look_at` misses nothing: the answer is the same at every minute until then."""
    campaign = order(window=window, **activation)
    now = at("00:00")
    while now < at("00:00") + timedelta(days=2):
        found = gate(campaign, WINDOWS, now, clock_trusted=True)
        end = found.look_at or at("00:00") + timedelta(days=2)
        assert end > now
        while now < end:
            again = gate(campaign, WINDOWS, now, clock_trusted=True)
            assert (again.may_begin, again.may_transfer, again.why, again.activation_waits_for) == (
                found.may_begin, found.may_transfer, found.why, found.activation_waits_for
            )  # fmt: skip
            now += timedelta(minutes=1)


def test_the_time_of_an_order_runs_out_on_a_trusted_clock_alone():
    campaign = order(not_after=at("12:00"))
    assert not expired(campaign, at("11:59"), clock_trusted=True)
    assert expired(campaign, at("12:00"), clock_trusted=True)
    assert not expired(campaign, at("12:00"), clock_trusted=False)


@pytest.mark.parametrize(
    ("window", "not_after", "expected"),
    [("night", None, True), ("night", "21:00", False), ("night", "22:01", True), ("never", None, False)],
)
def test_a_window_may_come_too_late_for_an_order(window, not_after, expected):
    assert ever_opens(WINDOWS[window], at("12:00"), not_after and at(not_after)) is expected


@pytest.mark.parametrize(
    ("clock", "waits_for"), [("02:57", None), ("02:58", PausedWhy.WINDOW), ("12:00", PausedWhy.WINDOW)]
)
def test_meters_are_given_a_time_of_their_own_while_something_may_be_written_to_them(clock, waits_for):
    """Also shortly before the drain: nothing has to be over by the end, since the meter activates at another hour."""
    armed = order(
        window="night", activate_when=ActivateWhen.METER, activate_at=at("09:00") + timedelta(days=2)
    )
    found = gate(armed, WINDOWS, at(clock), clock_trusted=True)
    assert found.activation_waits_for is waits_for
    assert found.may_activate(at(clock), 3600) is (waits_for is None)
    assert found.activates_at == (at("22:00") if waits_for else None)
