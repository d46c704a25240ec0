"""Lines, as an engineer at the cabinet works with them: with a daemon and virtual meters on a pty."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import time
import tomllib

import pytest
from support.orders import jobs, update_all
from support.patience import PATIENCE_S, eventually
from support.running import RunningGateway

from gateway.cli import main
from gateway.cli.client import Client


@pytest.fixture
def gateway(tmp_path):
    running = RunningGateway(tmp_path, adapter=tmp_path / "by-id", meters=2, baud=38400)
    try:
        yield running.start()
    finally:
        running.close()


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
    release = out.partition("; sooner: meter-gateway ")[2].split()
    assert not in_use(device)
    status, out, _ = type_in("status")
    assert "lent until" in out
    status, _, err = type_in("probe", "MTR0002")
    assert (status, "E_BUSY: port rs485-1 is lent until" in err) == (1, True)
    assert "waiting" in jobs(gateway).values()
    assert "waiting, port rs485-1 is lent until" in type_in("campaign", "show", "c")[1]
    gateway.hurry()
    assert release == ["port", "release", "rs485-1", "--config", str(gateway.config)]
    assert type_in(*release)[1] == "port rs485-1 is the gateway's again\n"
    eventually(lambda: set(jobs(gateway).values()) == {"updated"}, gateway.said)
    assert type_in("port", "release", "rs485-1")[1] == "port rs485-1 was not lent\n"
    assert all(meter.history.initiates == 1 for meter in gateway.meters)


def test_what_is_lent_for_a_moment_is_told_as_json_and_comes_back_by_itself(gateway, type_in):
    status, out, _ = type_in("port", "hold", "rs485-1", "--for", "1s", "--json")
    assert status == 0
    assert json.loads(out)["port"] == "rs485-1"
    gateway.wait_for("hold rs485-1: its time is over")


@pytest.mark.parametrize("words, complaint", [
    (("hold", "rs485-9", "--for", "1min"), "E_NOT_FOUND: no port rs485-9"),
    (("release", "rs485-9"), "E_NOT_FOUND: no port rs485-9"),
])  # fmt: skip
def test_what_cannot_be_lent(type_in, words, complaint):
    status, _, err = type_in("port", *words)
    assert status == 1
    assert complaint in err


def test_how_long_a_line_may_be_lent_is_said_before_the_daemon_is_asked(type_in):
    status, _, err = type_in("port", "hold", "rs485-1", "--for", "2d")
    assert status == 2
    assert '\'2d\': expected a duration from "1s" to "24h"' in err


# -- ports ----------------------------------------------------------------------------------------------------


def test_ports_shows_what_the_daemon_has_and_what_is_missing(gateway, type_in):
    status, out, err = type_in("ports")
    assert (status, err) == (0, "")
    assert gateway.line.address in out
    gateway.line.unplug()
    document = json.loads(type_in("ports", "--json")[1])
    assert document["configured_by"] == "daemon"
    [port] = document["ports"]
    assert (port["port"], port["present"], port["held"]) == ("rs485-1", False, None)
    assert "is not there" in type_in("ports")[1]


def test_ports_works_before_there_is_a_daemon_and_before_there_is_a_configuration(tmp_path, capsys):
    file = tmp_path / "gateway.toml"
    file.write_text(
        f'[gateway]\ncontrol_socket = "{tmp_path}/none.sock"\n'
        '[[ports]]\nname = "bus"\nkind = "rs485"\ndevice = "/dev/none"\n'
    )
    assert main(["ports", "--config", str(file)]) == 0
    out, err = capsys.readouterr()
    assert "bus   rs485  /dev/none  is not there" in out
    assert "No daemon was reached: the ports are those of the configuration file." in err
    assert main(["ports", "--json", "--config", str(tmp_path / "nowhere.toml")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["configured_by"], document["ports"]) == ("nothing", [])


# -- scan -----------------------------------------------------------------------------------------------------


def test_scan_shows_who_is_there(gateway, type_in):
    status, out, err = type_in("scan", "rs485-1", "--from", "15", "--to", "20", "--timeout", "2s")
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["1/17", "MTR0001", "SIM0000000000001", "1.0.0"] in lines
    assert ["1/18", "MTR0002", "SIM0000000000002", "1.0.0"] in lines
    assert len(lines) == 3


def test_what_scan_finds_and_nobody_has_configured_is_a_piece_of_configuration(gateway, type_in):
    text = gateway.config.read_text()
    second = text.index("[[meters]]", text.index("MTR0001"))
    gateway.config.write_text(text[:second] + text[text.index("[profiles") :])
    keys = gateway.config.with_name("keys.toml")
    keys.write_text(keys.read_text().split("[meters.MTR0002]")[0])
    with Client(gateway.socket) as client:
        client.await_done("agent.reload", {})
    words = ("scan", "rs485-1", "--from", "17", "--to", "19", "--timeout", "2s")
    out = type_in(*words)[1]
    [found] = tomllib.loads(out[out.index("[[meters]]") :])["meters"]
    assert found == {
        "id": "rs485-1-1-18", "port": "rs485-1", "physical_address": 18, "logical_address": 1,
        "logical_device_name": "SIM0000000000002",
    }  # fmt: skip
    document = json.loads(type_in(*words, "--json")[1])
    assert document["addresses"] == 3
    assert [one["meter"] for one in document["found"]] == ["MTR0001", None]


def test_scan_of_nobody_and_of_nothing(type_in):
    words = ("--from", "50", "--to", "51", "--timeout", "50ms")
    assert type_in("scan", "rs485-1", *words)[:2] == (0, "nobody answered at 2 addresses\n")
    status, _, err = type_in("scan", "rs485-9", *words)
    assert (status, "E_NOT_FOUND: no port rs485-9" in err) == (1, True)


def test_a_terminal_shows_how_far_a_scan_is(gateway):
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "gateway",
        "scan",
        "rs485-1",
        "--timeout",
        "2s",
        "--config",
        str(gateway.config),
    ]
    scanning = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    seen = b""
    deadline_s = time.monotonic() + PATIENCE_S
    while b"of 127 addresses" not in seen:
        assert time.monotonic() < deadline_s, seen
        seen += os.read(ours, 4096)
    scanning.send_signal(signal.SIGINT)
    while chunk := read_until_gone(ours):
        seen += chunk
    assert scanning.wait(PATIENCE_S) == 130
    assert b"the daemon goes on with the scan" in seen
    os.close(ours)


def read_until_gone(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""
