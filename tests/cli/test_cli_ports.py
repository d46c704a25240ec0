"""Lines, as an engineer at the cabinet works with them: with a daemon and virtual meters on a pty."""

from __future__ import annotations

import fcntl
import json
import os

import pytest
from support.orders import jobs, update_all
from support.patience import eventually
from support.running import RunningGateway

from gateway.cli import main
from gateway.cli.client import Client


@pytest.fixture
def gateway(tmp_path):
    running = RunningGateway(tmp_path, meters=2, baud=38400)
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture
def type_in(gateway, capsys):
    """Run a command line here: status, what it printed, what it complained."""

    def run(*words: str) -> tuple[int, str, str]:
        status = main([*words, "--config", str(gateway.config)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def order(gateway, directory):
    file = directory / "image"
    file.write_bytes(os.urandom(60_000))
    with Client(gateway.socket) as client, file.open("rb") as opened:
        digest = client.ask("image.add", file=opened.fileno())["data"]["sha256"]
        client.ask("campaign.submit", update_all("c", digest))


def in_use(device):
    """Somebody has the device for himself, as a tool that asks finds out."""
    descriptor = os.open(device, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_another_tool_may_open_a_line_that_was_lent_and_the_transfer_goes_on_afterwards(
    gateway, type_in, tmp_path
):
    order(gateway, tmp_path)
    gateway.wait_for("transferring")
    device = gateway.line.address
    assert in_use(device)
    status, out, _ = type_in("port", "hold", "rs485-1", "--for", "1h")
    assert status == 0
    assert out.startswith("port rs485-1 is free until ")
    assert not in_use(device)
    status, out, _ = type_in("status")
    assert "lent until" in out
    status, _, err = type_in("probe", "MTR0002")
    assert (status, "E_BUSY: port rs485-1 is lent until" in err) == (1, True)
    assert "waiting" in jobs(gateway).values()
    gateway.hurry()
    assert type_in("port", "release", "rs485-1")[1] == "port rs485-1 is the gateway's again\n"
    eventually(lambda: set(jobs(gateway).values()) == {"updated"}, gateway.said)
    assert type_in("port", "release", "rs485-1")[1] == "port rs485-1 was not lent\n"
    assert all(meter.history.initiates == 1 for meter in gateway.meters)


def test_what_is_lent_for_a_moment_is_told_as_json_and_comes_back_by_itself(gateway, type_in):
    status, out, _ = type_in("port", "hold", "rs485-1", "--for", "1s", "--json")
    assert status == 0
    assert json.loads(out)["port"] == "rs485-1"
    gateway.wait_for("hold rs485-1: its time is over")


@pytest.mark.parametrize("words, complaint", [
    (("hold", "rs485-1", "--for", "2d"), 'E_SCHEMA: args.for: found \'2d\', expected a duration from "1s" to "24h"'),
    (("hold", "rs485-9", "--for", "1min"), "E_NOT_FOUND: no port rs485-9"),
    (("release", "rs485-9"), "E_NOT_FOUND: no port rs485-9"),
])  # fmt: skip
def test_what_cannot_be_lent(type_in, words, complaint):
    status, _, err = type_in("port", *words)
    assert status == 1
    assert complaint in err
