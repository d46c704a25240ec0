"""A gateway with a broker of its own, bridged to the utility's by etc/examples/mosquitto-bridge.conf as it is: two real
mosquittos, TLS and a password between them. The head-end speaks to the utility's only."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.broker import Mosquitto, password_file
from support.certificates import LOOPBACK, Authority
from support.head_end import HeadEnd
from support.patience import PATIENCE_S
from support.running import NEW, RunningGateway

from gateway.cli import main

EXAMPLE = Path(__file__).parents[2] / "etc" / "examples" / "mosquitto-bridge.conf"
BASE = "mgw/v1/gw-001"
USER, SECRET = "gw-001", "correct horse battery staple"
OF_THE_PLACE = ("listener", "persistence", "persistence_location", "password_file")
"""Lines that support.broker writes itself, or that name a file of the machine."""


@pytest.fixture
def utility(tmp_path: Path) -> Iterator[tuple[Mosquitto, int, Path]]:
    """The utility's broker: plain for the head-end, and with TLS on the port given. And its authority's certificate."""
    authority = Authority(tmp_path / "utility")
    certificate, key = authority.sign(LOOPBACK)
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    settings = f"""
        password_file {password_file(tmp_path / "utility", USER, SECRET)}
        allow_anonymous true
        listener {port} {LOOPBACK}
        certfile {certificate}
        keyfile {key}
    """
    with Mosquitto(tmp_path / "utility", settings=settings) as broker:
        yield broker, port, authority.file


@pytest.fixture
def local(tmp_path: Path, utility: tuple[Mosquitto, int, Path]) -> Iterator[Mosquitto]:
    """The gateway's own broker, by the example."""
    _, port, authority = utility
    (tmp_path / "local").mkdir()
    theirs = {
        "broker.example:8883": f"{LOOPBACK}:{port}",
        "/etc/mosquitto/certs/utility-ca.pem": str(authority),
        "CHANGE-ME": SECRET,
    }
    text = EXAMPLE.read_text("utf-8")
    for example, real in theirs.items():
        assert example in text
        text = text.replace(example, real)
    lines = [line for line in text.splitlines() if line.partition(" ")[0] not in OF_THE_PLACE]
    lines.insert(0, f"password_file {password_file(tmp_path / 'local', USER, SECRET)}")
    with Mosquitto(tmp_path / "local", settings="\n".join(lines)) as broker:
        yield broker


@pytest.fixture
def gateway(tmp_path: Path, local: Mosquitto) -> Iterator[RunningGateway]:
    directory = tmp_path / "gateway"
    directory.mkdir()
    password = directory / "password"
    password.touch(0o600)
    password.write_text(SECRET)
    mqtt = {"url": local.url, "username": USER, "password_file": str(password)}
    running = RunningGateway(directory, meters=1, sections={"gateway": {"id": "gw-001"}, "mqtt": mqtt})
    try:
        yield running.start()
    finally:
        print(running.said())
        running.close()


def command(**args: object) -> bytes:
    now = datetime.now(UTC)
    issued, expires = (
        moment.isoformat(timespec="seconds").replace("+00:00", "Z")
        for moment in (now, now + timedelta(hours=1))
    )
    return json.dumps(
        {"v": 1, "cmd_id": str(uuid.uuid4()), "issued": issued, "expires": expires, "args": args}
    ).encode()


def wait_until_online(head_end: HeadEnd, online: bool = True, *, after: int = 0) -> int:
    """How many states were heard when it said so."""
    count = after
    while True:
        count += 1
        heard = head_end.wait_for(f"{BASE}/state", count)
        if heard[count - 1].document["online"] is online:
            return count


def test_an_order_from_the_utility_reaches_the_gateway_and_everything_comes_back(utility, gateway):
    central, _, _ = utility
    ping = command()
    with HeadEnd(central.port, f"{BASE}/#") as head_end:
        states = wait_until_online(head_end)
        head_end.publish(f"{BASE}/cmd/ping", ping)
        reply = head_end.wait_for(f"{BASE}/rsp", 1)[0].document
        assert (reply["cmd_id"], reply["status"]) == (json.loads(ping)["cmd_id"], "done")

        gateway.stop(signal.SIGKILL)
        wait_until_online(head_end, online=False, after=states)

    # Whoever comes later finds what was retained, the Will among it.
    with HeadEnd(central.port, f"{BASE}/#", client_id="a-later-one") as later:
        assert later.wait_for(f"{BASE}/info", 1)[0].retain
        state = later.wait_for(f"{BASE}/state", 1)[0]
        assert state.retain and not state.document["online"]


def test_what_is_ordered_and_told_while_the_line_is_down_waits_on_either_side(utility, local, gateway):
    central, _, _ = utility
    with HeadEnd(central.port, f"{BASE}/#") as head_end:
        wait_until_online(head_end)
        local.stop()
        ping = command()
        head_end.publish(f"{BASE}/cmd/ping", ping)
        local.start()
        reply = head_end.wait_for(f"{BASE}/rsp", 1)[0]
        assert (reply.document["cmd_id"], reply.document["status"]) == (json.loads(ping)["cmd_id"], "done")

        central.stop()
        image = gateway.directory / "image"
        image.write_bytes(bytes(4000))
        update = ["update", "MTR0001", image, "--expect-version", NEW, "--json", "--config", gateway.config]
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *update], capture_output=True, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == 0, done.stderr
        central.start()
        campaign = json.loads(done.stdout.splitlines()[-1])["campaign"]["campaign_id"]
        job = f"{BASE}/campaign/{campaign}/job/MTR0001"
        heard = head_end.wait_for(job, 1)
        while heard[-1].document["state"] != "updated":
            heard = head_end.wait_for(job, len(heard) + 1)
        assert heard[-1].document["version_after"] == NEW


def test_the_command_line_at_the_utility_updates_a_meter_behind_the_bridge(utility, gateway, tmp_path):
    central, _, _ = utility
    with HeadEnd(central.port, f"{BASE}/state") as head_end:
        wait_until_online(head_end)
    image = tmp_path / "image"
    image.write_bytes(bytes(40_000))
    words = ["update", "MTR0001", str(image), "--expect-version", NEW]
    assert main([*words, "--broker", central.url, "--gateway", "gw-001"]) == 0
