"""Canaries, waves and the number of failures that a utility bears."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import TERMINAL_JOB, Campaign, JobState, PausedWhy, Standing
from gateway.plan.order import turn

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LETTERS = {
    "q": JobState.QUEUED, "t": JobState.TRANSFERRING, "u": JobState.UPDATED, "s": JobState.SKIPPED,
    "f": JobState.FAILED, "c": JobState.CANCELLED,
}  # fmt: skip


def order(**changes):
    fields = {"id": "c", "sha256": "0" * 64, "identifier": b"x", "meters": (), "created_at": NOW}
    return Campaign(**{**fields, **changes})


def jobs(letters, *, ended=timedelta(0)):
    states = [LETTERS[letter] for letter in letters]
    return [
        Standing(f"M{number}", state, NOW - ended if state in TERMINAL_JOB else None)
        for number, state in enumerate(states)
    ]


def whose(letters, *, ended=timedelta(0), clock_trusted=True, **changes):
    return turn(order(**changes), jobs(letters, ended=ended), NOW, clock_trusted=clock_trusted)


ROWS = {
    # jobs, order, released, paused
    "everybody at once": ("qqqq", {}, 4, None),
    "the canary first": ("qqqq", {"canary": 1}, 1, None),
    "while it is under way the others are held": ("tqqq", {"canary": 1}, 1, None),
    "then the others": ("uqqq", {"canary": 1}, 4, None),
    "a canary that ran it already is as good": ("sqqq", {"canary": 1}, 4, None),
    "a canary that failed stops it": ("fqqq", {"canary": 1}, 1, PausedWhy.FAILURES),
    "until an operator resumes": ("fqqq", {"canary": 1, "failures_accepted": 1}, 4, None),
    "more canaries than meters": ("qq", {"canary": 5}, 2, None),
    "waves": ("qqqqq", {"wave": 2}, 2, None),
    "the second wave": ("uuqqq", {"wave": 2}, 4, None),
    "not before the first has ended": ("utqqq", {"wave": 2}, 2, None),
    "the last wave is smaller": ("uuuuq", {"wave": 2}, 5, None),
    "a canary, then waves": ("uqqqqq", {"canary": 1, "wave": 2}, 3, None),
    "failures are borne up to their number": ("ffuuqq", {"wave": 2, "max_failures": 2}, 6, None),
    "and no further": ("fffuqq", {"wave": 2, "max_failures": 2}, 6, PausedWhy.FAILURES),
    "none at all is borne with 0": ("fqqq", {"max_failures": 0}, 4, PausedWhy.FAILURES),
    "what an operator accepted counts no more": ("ffffqq", {"max_failures": 2, "failures_accepted": 3}, 6, None),
}  # fmt: skip


@pytest.mark.parametrize(("letters", "changes", "released", "paused"), ROWS.values(), ids=ROWS)
def test_whose_turn_it_is(letters, changes, released, paused):
    found = whose(letters, **changes)
    assert (found.released, found.paused) == (released, paused)
    assert bool(found.message) is (paused is not None)


def test_a_canary_soaks_before_others_follow():
    day = {"canary": 1, "canary_soak_s": 86400.0}
    soaking = whose("uqqq", ended=timedelta(hours=23), **day)
    assert (soaking.released, soaking.paused) == (1, PausedWhy.SOAK)
    assert soaking.until == NOW + timedelta(hours=1)
    assert whose("uqqq", ended=timedelta(hours=24), **day).released == 4
    assert whose("uqqq", ended=timedelta(hours=24), clock_trusted=False, **day).paused is PausedWhy.SOAK


orders = st.fixed_dictionaries({"canary": st.integers(0, 4), "wave": st.integers(0, 4)})


@given(st.text("qtusf", min_size=1, max_size=12), orders)
def test_one_end_after_the_other_releases_everybody(letters, changes):
    """Whatever is released ends some day, and then more is released, until all are: nobody is held for ever."""
    changes["failures_accepted"] = len(letters)
    states = letters
    for _ in range(len(letters) + 1):
        found = whose(states, **changes)
        assert found.paused is None
        assert 0 < found.released <= len(states)
        states = "u" * found.released + states[found.released :]
    assert found.released == len(states)


@given(st.text("qtusf", min_size=1, max_size=12), orders)
def test_more_of_the_same_order_is_never_taken_back(letters, changes):
    before = whose(letters.replace("f", "u"), **changes)
    later = whose(letters.replace("f", "u").replace("t", "u"), **changes)
    assert later.released >= before.released


def test_too_many_failures_hold_whatever_becomes_of_the_clock():
    """The soak was over when another one failed; a clock that is no longer trusted does not let the rest go on."""
    found = whose(
        "ufqq", canary=2, canary_soak_s=60.0, max_failures=0, failures_accepted=0, clock_trusted=False
    )
    assert (found.released, found.paused) == (2, PausedWhy.FAILURES)
    found = whose("ufqq", canary=1, canary_soak_s=60.0, max_failures=0, clock_trusted=False)
    assert (found.released, found.paused) == (1, PausedWhy.FAILURES)
