"""The log of a machine that nobody looks at for years: bounded for each job and each day, whatever fails."""

from __future__ import annotations

import pytest
from support.desk import memory_directory
from support.log_lines import LogLines, log_lines
from support.world import SimMeter, World

from gateway.simulator import Faults, MeterSpec, Mishap, Then, What, several
from gateway.store.telling import LINES_OF_A_JOB

DAY_S = 86400.0
WEEKS_S = 14 * DAY_S
IDLE_DAY_OCTETS = 2**20


@pytest.fixture
def lines():
    with log_lines() as counted:
        yield counted


@pytest.fixture
def disk():
    with memory_directory() as directory:
        yield directory


def pass_time(world: World, seconds: float, *, leaps_s: float = 60.0) -> None:
    world.leaps_s = leaps_s
    end_s = world.now_s + seconds
    world.run(lambda: world.now_s >= end_s, limit_s=end_s + DAY_S)


def test_a_campaign_of_thirty_costs_some_lines_for_each_meter(disk, lines: LogLines):
    meters = [
        SimMeter(spec, id=f"MTR{number}") for number, spec in enumerate(several(MeterSpec(), 30), start=1)
    ]
    world = World(disk, meters, image_size=2048)
    world.submit()
    world.run_until_told()
    assert {world.job(meter.id)["state"] for meter in meters} == {"updated"}
    for meter in meters:
        assert len(lines.of(f"{meter.id} on")) <= 12
    assert lines.octets() < 30 * 1500
    world.store.close()


@pytest.mark.parametrize(
    "then",
    [Mishap(What.BLOCK, 1, Then.FALL_SILENT, 60.0), Mishap(What.BLOCK, 1, Then.REBOOT)],
    ids=["silent", "reboot"],
)
def test_a_meter_that_fails_after_every_block_has_bounded_lines_and_a_whole_audit(
    disk, lines: LogLines, then
):
    every = tuple(Mishap(then.after, number, then.then, then.for_s) for number in range(1, 200))
    world = World(disk, [SimMeter(MeterSpec(), Faults(mishaps=every))], image_size=16384)
    world.submit()
    world.run_until_told(limit_s=30 * DAY_S)
    changes = [event for event in world.store.events(limit=10_000) if event["meter"] == "MTR1"]
    assert len(changes) > 2 * LINES_OF_A_JOB, "it did not fail often enough to show anything"
    assert len(lines.of("MTR1")) <= LINES_OF_A_JOB + 2
    assert any(f"MTR1 on bus1, campaign c1: {world.job()['state']}" in line for line in lines.lines)
    world.store.close()


def test_a_broker_that_is_away_for_weeks_fills_nothing(disk, lines: LogLines):
    world = World(disk, [SimMeter(MeterSpec())])
    world.broker.away_until_s = WEEKS_S
    world.broker.drop()
    pass_time(world, WEEKS_S)
    assert len(lines.lines) <= 4
    world.broker.away_until_s = 0.0
    world.submit()
    world.run_until_told(limit_s=WEEKS_S + DAY_S)
    assert world.job()["state"] == "updated"
    world.store.close()


def test_a_broker_that_comes_and_goes_for_a_day_costs_less_than_a_mebibyte(disk, lines: LogLines):
    world = World(disk, [SimMeter(MeterSpec())], broker_loses=0.2)
    pass_time(world, DAY_S / 24, leaps_s=0)
    assert len(lines.of("uplink offline")) > 20, "it did not come and go"
    assert 24 * lines.octets() < IDLE_DAY_OCTETS
    world.store.close()


def test_a_line_that_is_dead_for_weeks_costs_its_jobs_and_no_more(disk, lines: LogLines):
    meters = [
        SimMeter(spec, id=f"MTR{number}") for number, spec in enumerate(several(MeterSpec(), 30), start=1)
    ]
    world = World(disk, meters, line_faults=Faults(unplugged=((0.0, 2 * WEEKS_S),)))
    world.submit()
    world.run_until_told(limit_s=DAY_S)
    assert {world.job(meter.id)["code"] for meter in meters} == {"T_PORT"}
    for meter in meters:
        assert len(lines.of(f"{meter.id} on")) <= 12
    before = len(lines.lines)
    pass_time(world, 7 * DAY_S)
    assert len(lines.lines) == before
    world.store.close()
