"""The power goes at any moment, and the disk keeps what it must and any part of the rest: the short form of
`make endurance`'s power_cut_states."""

import pytest
from support.desk import memory_directory
from support.power_cuts import outages_of, tell_story

CUTS = 8


@pytest.fixture(scope="module")
def base():
    with memory_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def whole(base):
    return tell_story(base / "whole")


def test_nothing_breaks_where_the_power_stays(whole):
    assert not whole.lost
    assert whole.campaign("c1")["state"] == whole.campaign("c2")["state"] == "succeeded"


@pytest.mark.parametrize("number", range(CUTS))
def test_every_promise_holds_on_what_the_disk_kept(base, whole, number):
    again = number % 2 == 1
    outages = outages_of(whole, CUTS, seed=7, again=again)[number]
    world = tell_story(base / str(number), outages)
    assert len(world.lost) >= 1
