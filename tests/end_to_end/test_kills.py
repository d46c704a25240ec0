"""The short form of `make endurance`'s kill9: the real daemon, killed with -9 at random moments."""

from support.broker import Mosquitto
from support.kills import tell_chapter

KILLS = 4


def test_whatever_it_was_doing_when_it_was_killed_everything_comes_to_its_end_once(tmp_path):
    with Mosquitto(tmp_path / "broker") as broker:
        toll = tell_chapter(tmp_path / "gateway", broker, seed=11, kills=KILLS)
    assert toll.kills == KILLS
    assert toll.updated + toll.undecided == 3
