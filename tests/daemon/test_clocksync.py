"""Whether a time of day can be trusted, on machines with different time services."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.patience import PATIENCE_S

from gateway.clock import EARLIEST
from gateway.daemon import clocksync
from gateway.daemon.clocksync import SYNCED, UNCHECKED, UNSYNCED, clock_state

NOW = datetime(2026, 11, 22, tzinfo=UTC)
TRACKING = "C0000201,192.0.2.1,3,1763797000.1,0.0001,0.0,0.0,1.2,0.0,0.02,0.01,0.001,64.2,{}\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine whose programs are only those that a test puts there."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(clocksync, "_ASK_TIMEOUT_S", PATIENCE_S)
    return tmp_path


def program(machine: Path, name: str, answer: str, status: int = 0) -> None:
    file = machine / "bin" / name
    file.write_text(f"#!/bin/sh\nprintf '%s' '{answer}'\nexit {status}\n")
    file.chmod(0o755)


def chronyd(machine: Path, leap: str) -> None:
    (machine / "run/chrony").mkdir(parents=True)
    (machine / "run/chrony/chronyd.sock").touch()
    program(machine, "chronyc", TRACKING.format(leap))


def test_nobody_looks_where_nobody_asked(machine):
    assert clock_state(False, NOW, root=machine) == UNCHECKED


def test_a_machine_without_any_time_service_is_not_trusted(machine):
    assert clock_state(True, NOW, root=machine) == UNSYNCED


def test_timesyncd_leaves_a_mark(machine):
    (machine / "run/systemd/timesync").mkdir(parents=True)
    assert clock_state(True, NOW, root=machine) == UNSYNCED
    (machine / "run/systemd/timesync/synchronized").touch()
    assert clock_state(True, NOW, root=machine) == SYNCED


@pytest.mark.parametrize(
    ("answer", "status", "state"),
    [("yes\n", 0, SYNCED), ("no\n", 0, UNSYNCED), ("", 1, UNSYNCED), ("yes\n", 1, UNSYNCED)],
)
def test_timedated_knows_of_any_ntp_service(machine, answer, status, state):
    program(machine, "timedatectl", answer, status)
    assert clock_state(True, NOW, root=machine) == state


@pytest.mark.parametrize(("leap", "state"), [("Normal", SYNCED), ("Not synchronised", UNSYNCED)])
def test_chrony_is_asked_and_not_only_looked_for(machine, leap, state):
    chronyd(machine, leap)
    assert clock_state(True, NOW, root=machine) == state


def test_chronyc_without_a_chronyd_says_nothing(machine):
    program(machine, "chronyc", TRACKING.format("Normal"))
    assert clock_state(True, NOW, root=machine) == UNSYNCED


def test_a_program_that_may_not_run_is_as_good_as_none(machine):
    program(machine, "timedatectl", "yes")
    (machine / "bin/timedatectl").chmod(0)
    assert clock_state(True, NOW, root=machine) == UNSYNCED


@pytest.mark.parametrize(("now", "state"), [(EARLIEST, SYNCED), (EARLIEST - timedelta(seconds=1), UNSYNCED)])
def test_nobody_is_believed_who_says_that_it_is_a_day_before_this_program(machine, now, state):
    program(machine, "timedatectl", "yes")
    assert clock_state(True, now, root=machine) == state
    assert clock_state(False, now, root=machine) == UNCHECKED
