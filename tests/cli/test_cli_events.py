"""`events`, as somebody types it who wants to know what happened: with a daemon whose line is lent and given back."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys

import pytest
from support.patience import PATIENCE_S
from support.running import RunningGateway


@pytest.fixture
def gateway(tmp_path):
    running = RunningGateway(tmp_path, meters=1)
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture
def lend(type_in, gateway):
    """Two events each time."""

    def run(times: int) -> None:
        for _ in range(times):
            assert type_in("port", "hold", PORT, "--for", "10min")[0] == 0
            assert type_in("port", "release", PORT)[0] == 0

    return run


PORT = "rs485-1"


def test_the_newest_of_some_hours_or_so_many(type_in, lend):
    lend(12)
    status, out, err = type_in("events")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 20
    assert f"hold {PORT}: given back (by uid " in lines[-1] and f"hold {PORT}: lent until 20" in lines[-2]
    assert type_in("events", "-n", "3")[1].splitlines() == lines[-3:]
    assert type_in("events", "--since", "1h")[1].splitlines()[-20:] == lines
    whole = json.loads(type_in("events", "--since", "1h", "--json")[1])
    assert whole["missed"] is None
    assert [event["seq"] for event in whole["events"]] == list(range(1, len(whole["events"]) + 1))
    assert [event["kind"] for event in whole["events"]][-24:] == ["hold"] * 24
    status, _, err = type_in("events", "--since", "once upon a time")
    assert status == 2 and "expected a duration" in err
    assert type_in("events", "--since", "1h", "-n", "3")[0] == 2


def test_who_follows_hears_what_comes_over_a_restart_and_of_a_gap(gateway, lend):
    lend(1)
    command = [sys.executable, "-m", "gateway", "events", "--follow", "--json", "-n", "2", "--config"]
    with subprocess.Popen([*command, str(gateway.config)], stdout=subprocess.PIPE, text=True) as follower:
        try:
            assert heard(follower)["message"].startswith("lent until")
            known = heard(follower)
            lend(1)
            later = heard(follower), heard(follower)
            assert [event["seq"] for event in later] == [known["seq"] + 1, known["seq"] + 2]
            gateway.stop()
            gateway.start()
            lend(1)
            assert heard(follower)["seq"] == known["seq"] + 3
            assert heard(follower)["epoch"] == known["epoch"]
            gateway.stop()
            shutil.rmtree(gateway.directory / "state")
            gateway.start()
            lend(1)
            gap = heard(follower)
            assert gap["missed"] == "epoch" and gap["epoch"] != known["epoch"]
            assert heard(follower)["seq"] == 1
            follower.send_signal(signal.SIGINT)
            assert follower.wait(PATIENCE_S) == 130
        finally:
            follower.kill()


def heard(follower):
    return json.loads(follower.stdout.readline())
