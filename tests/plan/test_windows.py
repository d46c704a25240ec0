"""Maintenance windows over nights, zones, holidays and both changes of daylight saving time."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Window
from gateway.plan.windows import (
    current,
    current_or_following,
    first_instant,
    following,
    worked_through,
)

EVERY_DAY = frozenset(range(7))


def window(**changes):
    night = {
        "name": "night", "days": EVERY_DAY, "start": time(22, 0), "duration_s": 5 * 3600.0,
        "timezone": "Europe/Helsinki", "cutoff_s": 1800.0, "drain_s": 120.0,
    }  # fmt: skip
    return Window(**{**night, **changes})


def at(text, zone="Europe/Helsinki"):
    """A wall time that exists once, as an instant."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def wall(text):
    """What clocks show, wherever they are."""
    return datetime.fromisoformat(text)


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_an_opening_goes_over_midnight_and_has_its_cutoff_and_drain_before_its_end():
    opening = current(window(), at("2026-11-23T01:30"))
    assert opening.start == at("2026-11-22T22:00")
    assert opening.cutoff_at == at("2026-11-23T02:30")
    assert opening.drain_at == at("2026-11-23T02:58")
    assert opening.end == at("2026-11-23T03:00")


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-11-22T21:59:59", False),
        ("2026-11-22T22:00:00", True),
        ("2026-11-23T02:59:59", True),
        ("2026-11-23T03:00:00", False),
    ],
)
def test_its_start_is_inside_and_its_end_is_not(moment, is_open):
    assert (current(window(), at(moment)) is not None) is is_open


def test_the_night_from_friday_to_saturday_belongs_to_friday():
    weekdays = window(days=frozenset(range(5)))
    assert current(weekdays, at("2026-11-28T01:00")).start == at("2026-11-27T22:00")  # a Saturday
    assert current(weekdays, at("2026-11-28T22:30")) is None
    assert following(weekdays, at("2026-11-28T01:00")).start == at("2026-11-30T22:00")


def test_on_an_exception_it_stays_closed():
    holidays = window(exceptions=frozenset({date(2026, 12, 24), date(2026, 12, 25)}))
    assert current(holidays, at("2026-12-25T01:00")) is None
    assert following(holidays, at("2026-12-24T12:00")).start == at("2026-12-26T22:00")


def test_it_opens_within_its_validity_alone():
    december = window(valid_from=date(2026, 12, 1), valid_until=date(2026, 12, 2))
    assert following(december, at("2026-01-01T12:00")).start == at("2026-12-01T22:00")
    assert current(december, at("2026-12-03T02:00")).start == at("2026-12-02T22:00")
    assert current_or_following(december, at("2026-12-03T03:00")) is None


def test_one_that_never_opens_says_so():
    assert current_or_following(window(days=frozenset()), at("2026-11-22T12:00")) is None


HELSINKI = {
    # Clocks go from 03:00 to 04:00 on 2026-03-29, and from 04:00 back to 03:00 on 2026-10-25.
    "a start that exists": (date(2026, 3, 28), time(22, 0), utc("2026-03-28T20:00:00")),
    "the first minute that is left out": (date(2026, 3, 29), time(3, 0), utc("2026-03-29T01:00:00")),
    "a start in the middle of the gap": (date(2026, 3, 29), time(3, 30), utc("2026-03-29T01:00:00")),
    "the first minute after the gap": (date(2026, 3, 29), time(4, 0), utc("2026-03-29T01:00:00")),
    "a start that comes twice": (date(2026, 10, 25), time(3, 30), utc("2026-10-25T00:30:00")),
    "the hour after it": (date(2026, 10, 25), time(4, 0), utc("2026-10-25T02:00:00")),
}


@pytest.mark.parametrize(("day", "start", "expected"), HELSINKI.values(), ids=HELSINKI)
def test_where_clocks_are_changed(day, start, expected):
    opening = following(window(start=start, valid_from=day, valid_until=day), utc("2026-01-01T00:00:00"))
    assert opening.start == expected
    assert opening.end - opening.start == timedelta(hours=5)


def test_a_whole_day_that_was_left_out_is_jumped_over():
    """Samoa went over the date line and had no 30 December 2011."""
    apia = ZoneInfo("Pacific/Apia")
    assert first_instant(wall("2011-12-30T12:00"), apia) == utc("2011-12-30T10:00:00")


ZONES = sorted(zone for zone in available_timezones() if "/" in zone and not zone.startswith("Etc/"))
zones = st.sampled_from(ZONES)
walls = st.datetimes(wall("1975-01-01"), wall("2037-01-01")).map(lambda wall: wall.replace(microsecond=0))


@given(zones, walls)
def test_an_instant_is_the_first_at_which_clocks_show_that_time_or_a_later_one(zone, wall):
    zone = ZoneInfo(zone)
    instant = first_instant(wall, zone)
    shown = instant.astimezone(zone).replace(tzinfo=None)
    just_before = (instant - timedelta(seconds=1)).astimezone(zone).replace(tzinfo=None)
    assert shown >= wall
    assert just_before < wall
    if shown > wall:
        # Left out: the jump lies exactly between this second and the one before.
        assert shown - just_before > timedelta(seconds=1)


windows = st.builds(
    window,
    days=st.frozensets(st.integers(0, 6), min_size=1),
    start=st.times().map(lambda start: start.replace(second=0, microsecond=0)),
    duration_s=st.integers(1, 24 * 60).map(lambda minutes: minutes * 60.0),
    timezone=zones,
    cutoff_s=st.just(0.0),
    drain_s=st.just(0.0),
    exceptions=st.frozensets(st.dates(date(2026, 1, 1), date(2027, 12, 31)), max_size=20),
)
moments = st.datetimes(wall("2026-01-01"), wall("2027-12-31"), timezones=st.just(UTC))


@given(windows, moments)
def test_the_next_opening_is_open_from_its_start_to_its_end(window, now):
    opening = following(window, now)
    assert opening is not None
    assert opening.start > now
    assert opening.end - opening.start == timedelta(seconds=window.duration_s)
    inside = current(window, opening.start)
    assert inside is not None
    assert inside.end >= opening.end
    assert current(window, opening.end - timedelta(microseconds=1)) is not None
    local = opening.start.astimezone(ZoneInfo(window.timezone))
    assert local.date() - timedelta(days=1) not in window.exceptions or local.date() not in window.exceptions


@given(windows, moments, st.integers(1, 48))
def test_it_is_closed_where_no_opening_has_begun(window, now, hours):
    """Walking from opening to opening never steps over a moment at which the window is open."""
    later = now + timedelta(hours=hours)
    held = current(window, later)
    if held is None or held.start <= now:
        return
    assert following(window, now).start <= held.start


def test_openings_that_touch_are_one():
    always = window(start=time(0), duration_s=86400.0, drain_s=7200.0, days=frozenset(range(5)))
    opening = current(always, at("2026-11-25T23:30"))  # Wednesday
    assert (opening.start, opening.end) == (at("2026-11-25T00:00"), at("2026-11-28T00:00"))
    assert opening.drain_at == at("2026-11-27T22:00")


def test_work_goes_on_in_the_next_openings():
    nights = window(drain_s=0.0)
    begin = at("2026-11-22T12:00")
    assert worked_through(nights, begin, 3600) == at("2026-11-22T23:00")
    assert worked_through(nights, begin, 6 * 3600) == at("2026-11-23T23:00")
    assert worked_through(nights, at("2026-11-23T02:00"), 2 * 3600) == at("2026-11-23T23:00")
    assert worked_through(window(days=frozenset()), begin, 1) is None
    assert worked_through(window(drain_s=5 * 3600.0), begin, 1) is None, (
        "no second of it is left for transfers"
    )
