"""Campaigns in windows on a clock that is set, lost, or changes to summer time and back: the real process."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from support.faked_time import FakedTime
from support.orders import IMAGE, ask, update_all
from support.patience import eventually

from gateway.cli.client import Client
from gateway.simulator import What

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
NIGHT = {"days": DAYS, "start": "22:00", "duration": "2h", "timezone": "UTC"}
BAUD = 9600
"""Slow enough to be looked at."""
LOOKS_OFTEN = "\nfrom gateway.daemon import process\nprocess.LIFE_EVERY_S = 0.2"
"""Whether the clock was set, instead of every few seconds."""


@pytest.fixture
def faked(tmp_path, monkeypatch):
    return FakedTime(tmp_path, monkeypatch, datetime(2027, 1, 15, 21, tzinfo=UTC))


def submit(gateway, tmp_path, campaign_id, window, **changes):
    file = tmp_path / "image"
    file.write_bytes(IMAGE)
    with Client(gateway.socket) as client, file.open("rb") as opened:
        digest = client.ask("image.add", file=opened.fileno())["data"]["sha256"]
        client.ask("campaign.submit", {**update_all(campaign_id, digest), "window": window, **changes})


def campaign(gateway, campaign_id="c"):
    return ask(gateway, "campaign.get", {"campaign_id": campaign_id})["campaign"]


def wait_until_paused(gateway, why, campaign_id="c"):
    """Until the campaign says so and its meter is left alone; how many blocks the meter has got."""
    eventually(lambda: campaign(gateway, campaign_id)["paused"] == why, gateway.said)
    is_left_alone(gateway, 0)  # whoever used the line has left it
    return gateway.meters[0].history.blocks.total()


def wait_until_it_goes_on(gateway, number=0):
    blocks = gateway.meters[number].history.blocks
    before = blocks.total()
    eventually(lambda: blocks.total() > before + 2, gateway.said)


def is_left_alone(gateway, blocks):
    """While the line is used for something else."""
    ask(gateway, "meter.probe", {"meter": "MTR0001"})
    return gateway.meters[0].history.blocks.total() == blocks


def wait_until_updated(gateway, campaign_id="c"):
    gateway.hurry()
    eventually(lambda: campaign(gateway, campaign_id)["state"] == "succeeded", gateway.said)


def check_meter(gateway, number=0):
    history = gateway.meters[number].history
    assert (history.initiates, history.activations, history.count(What.SECURITY)) == (1, 1, 0)
    assert max(history.blocks.values()) == 1, "a block went twice"


def test_hours_forward_and_hours_back_in_the_middle_of_a_transfer(launch, tmp_path, faked):
    gateway = launch(
        meters=1, baud=BAUD, sections={"windows.night": NIGHT}, before=faked.before + LOOKS_OFTEN
    )
    submit(gateway, tmp_path, "c", "night")
    assert wait_until_paused(gateway, "window") == 0
    assert campaign(gateway)["opens_at"] == "2027-01-15T22:00:00.000Z"

    faked.shift(minutes=90)
    wait_until_it_goes_on(gateway)
    faked.shift(hours=5)
    blocks = wait_until_paused(gateway, "window")
    assert campaign(gateway)["opens_at"] == "2027-01-16T22:00:00.000Z"
    assert is_left_alone(gateway, blocks)

    faked.shift(hours=-5)
    wait_until_it_goes_on(gateway)
    faked.shift(hours=-20)
    blocks = wait_until_paused(gateway, "window")
    assert campaign(gateway)["opens_at"] == "2027-01-15T22:00:00.000Z"
    assert is_left_alone(gateway, blocks)

    faked.shift(hours=20)
    wait_until_updated(gateway)
    check_meter(gateway)
    assert gateway.stop() == 0
    with closing(sqlite3.connect(gateway.directory / "state" / "store.db")) as database:
        numbers = [seq for (seq,) in database.execute("SELECT seq FROM events ORDER BY seq")]
    assert numbers == list(range(1, len(numbers) + 1)), "a gap in the audit"


def test_a_clock_that_is_lost_in_a_power_cut_pauses_what_has_a_window(launch, tmp_path, faked):
    faked.shift(minutes=90)
    sections = {"windows.night": NIGHT, "gateway": {"require_synced_clock": True}}
    gateway = launch(meters=1, baud=BAUD, sections=sections, before=faked.before + LOOKS_OFTEN, env=faked.env)
    submit(gateway, tmp_path, "c", "night")
    wait_until_it_goes_on(gateway)
    right = faked.now
    gateway.stop(signal.SIGKILL)

    faked.set(datetime(1970, 1, 1, 22, 30, tzinfo=UTC))  # in a window, would anybody believe it
    gateway.start()
    blocks = wait_until_paused(gateway, "clock")
    assert is_left_alone(gateway, blocks)

    faked.set(right)
    wait_until_it_goes_on(gateway)
    wait_until_updated(gateway)
    check_meter(gateway)
    assert gateway.stop() == 0


def test_windows_keep_to_local_time_in_the_nights_in_which_it_changes(launch, tmp_path, faked):
    """Helsinki: on 28 March 2027 nobody sees 03:30, on 31 October everybody sees it twice."""
    helsinki = {**NIGHT, "start": "03:30", "timezone": "Europe/Helsinki"}
    faked.set(datetime(2027, 3, 28, 0, 50, tzinfo=UTC))
    gateway = launch(
        meters=2, baud=BAUD, sections={"windows.early": helsinki}, before=faked.before + LOOKS_OFTEN
    )
    submit(gateway, tmp_path, "spring", "early", targets=["MTR0001"])
    wait_until_paused(gateway, "window", "spring")
    assert campaign(gateway, "spring")["opens_at"] == "2027-03-28T01:00:00.000Z"
    faked.shift(minutes=11)
    wait_until_updated(gateway, "spring")

    faked.set(datetime(2027, 10, 31, 0, 20, tzinfo=UTC))
    submit(gateway, tmp_path, "autumn", "early", targets=["MTR0002"])
    wait_until_paused(gateway, "window", "autumn")
    assert campaign(gateway, "autumn")["opens_at"] == "2027-10-31T00:30:00.000Z"
    faked.set(datetime(2027, 10, 31, 2, 31, tzinfo=UTC))  # two hours after it began, though it is 04:31 there
    eventually(lambda: campaign(gateway, "autumn")["opens_at"] == "2027-11-01T01:30:00.000Z", gateway.said)
    assert not gateway.meters[1].history.blocks
    faked.set(datetime(2027, 10, 31, 1, 45, tzinfo=UTC))  # 03:45 for the second time
    wait_until_updated(gateway, "autumn")
    check_meter(gateway, 0)
    check_meter(gateway, 1)
    assert gateway.stop() == 0


def test_a_meter_that_was_given_a_time_runs_its_image_while_the_gateway_is_dead(
    launch, tmp_path, monkeypatch
):
    """Its own schedule, by its own clock; the gateway, once it is back, finds what became of it."""
    faked = FakedTime(tmp_path, monkeypatch, datetime.now(UTC))
    gateway = launch(meters=1, before=faked.before, env=faked.env)
    (meter,) = gateway.meters
    at = (faked.now + timedelta(hours=2)).replace(microsecond=0)
    activation = {"when": "meter", "at": at.isoformat().replace("+00:00", "Z")}
    file = tmp_path / "image"
    file.write_bytes(IMAGE)
    with Client(gateway.socket) as client, file.open("rb") as opened:
        digest = client.ask("image.add", file=opened.fileno())["data"]["sha256"]
        client.ask("campaign.submit", {**update_all("c", digest), "activation": activation})

    def job():
        return ask(gateway, "campaign.get", {"campaign_id": "c"})["jobs"][0]

    eventually(lambda: "by itself at" in job()["message"], gateway.said)
    assert [execution.wall for execution in meter.schedule.executions] == [at.replace(tzinfo=None)]
    assert meter.version == "1.0.0"
    assert gateway.stop(signal.SIGKILL) == -signal.SIGKILL
    faked.shift(hours=3)
    gateway.let_pass(hours=3)
    gateway.start()
    eventually(lambda: campaign(gateway)["state"] == "succeeded", gateway.said)
    assert (job()["state"], job()["version_after"]) == ("updated", "2.0.0")
    assert datetime.fromisoformat(job()["activated_at"]) == at
    check_meter(gateway)
