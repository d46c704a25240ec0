"""Adapters that are pulled out and put back, and lines that two want: the daemon as a process, on ptys, with a broker.

An adapter has the name by which udev knows it (by-id, here a link), and is another device each time it is plugged in.
"""

from __future__ import annotations

import hashlib

import pytest
from support.broker import Mosquitto
from support.head_end import HeadEnd
from support.orders import ask, jobs, update_all
from support.patience import eventually
from support.running import NEW, RunningGateway

from gateway.cli.client import Client, RefusedError

BASE = "mgw/v1/gw-001"
IMAGE = bytes(number * 7 % 251 for number in range(48 * 1024))
LOST = f"{BASE}/alarm/port-lost.rs485-1"


@pytest.fixture
def broker(tmp_path):
    with Mosquitto(tmp_path) as broker:
        yield broker


@pytest.fixture
def launch(tmp_path):
    """Gateways that end with the test; what they said is shown where it failed."""
    running = []

    def make(name, **options):
        (tmp_path / name).mkdir()
        running.append(RunningGateway(tmp_path / name, meters=1, **options))
        return running[-1]

    yield make
    for gateway in running:
        if gateway.log.exists():
            print(gateway.said())
        gateway.close()


def update(gateway, tmp_path, targets="all"):
    file = tmp_path / "image"
    file.write_bytes(IMAGE)
    with Client(gateway.socket) as client, file.open("rb") as opened:
        digest = client.ask("image.add", file=opened.fileno())["data"]["sha256"]
        client.ask("campaign.submit", update_all("c", digest) | {"targets": targets})


def alarms(gateway):
    return list(ask(gateway, "info.get")["now"]["alarms"])


def test_an_adapter_pulled_out_in_mid_block_resumes_by_itself_as_soon_as_it_is_back(tmp_path, broker, launch):
    sections = {"gateway": {"id": "gw-001"}, "mqtt": {"url": broker.url}}
    gateway = launch("gateway", sections=sections, baud=57600, adapter=tmp_path / "usb-adapter-by-id").start()
    meter = gateway.meters[0]
    with HeadEnd(broker.port, f"{BASE}/#") as head_end:
        head_end.wait_for(f"{BASE}/state")
        update(gateway, tmp_path)
        eventually(lambda: meter.history.blocks.total() >= 40)
        device = gateway.line.address
        gateway.line.unplug()
        alarm = head_end.wait_for(LOST)[0]
        gateway.wait_for("waiting T_PORT")
        assert alarms(gateway) == ["port-lost.rs485-1"]
        assert jobs(gateway) == {"MTR0001": "waiting"}
        gateway.line.plug()
        eventually(lambda: jobs(gateway) == {"MTR0001": "updated"}, gateway.said)
        over = head_end.wait_for(LOST, 2)[1]

    assert alarm.retain
    assert (alarm.document["kind"], alarm.document["port"]) == ("port-lost", "rs485-1")
    assert device in alarm.document["message"]
    assert (over.payload, over.retain) == (b"", True)
    assert alarms(gateway) == []
    assert gateway.said().count("alarm: port-lost.rs485-1: ") == 2
    assert meter.version == NEW
    assert meter.image.image_sha256 == hashlib.sha256(IMAGE).hexdigest()
    assert meter.history.initiates == meter.history.activations == 1
    blocks = meter.history.blocks
    assert set(blocks) == set(range(len(blocks)))
    assert blocks.total() <= len(blocks) + 1, "more than the block on the line was sent again"


def test_two_daemons_never_share_a_line_and_the_second_takes_it_when_the_first_lets_go(tmp_path, launch):
    first = launch("first").start()
    second = launch("second")
    share(first, second)
    # A meter that is asked is what opens a line.
    ask(first, "meter.probe", {"meter": "MTR0001"})
    second.start()
    with pytest.raises(RefusedError) as refused:
        ask(second, "meter.probe", {"meter": "MTR0009"})
    assert refused.value.reason == "T_PORT"
    assert refused.value.message == f"cannot open {first.line.address}: another program holds it"
    assert alarms(second) == ["port-lost.shared"]
    assert ask(second, "meter.probe", {"meter": "MTR0001"})["firmware_version"] == "1.0.0"
    update(second, tmp_path, ["MTR0009"])
    second.wait_for("waiting T_PORT")
    assert first.stop() == 0
    second.wait_for("alarm: port-lost.shared: over")
    eventually(lambda: jobs(second) == {"MTR0009": "updated"}, second.said)
    assert first.meters[0].version == NEW
    assert alarms(second) == []


def share(first, second):
    """Configure the second gateway with the first one's line and meter as well, as `shared` and MTR0009."""
    ports_and_meters = first.config.read_text().split("[[ports]]")[1].split("[profiles")[0]
    theirs = "[[ports]]" + ports_and_meters.replace("rs485-1", "shared").replace("MTR0001", "MTR0009")
    second.config.write_text(f"{second.config.read_text()}\n{theirs}")
    keys = second.config.with_name("keys.toml")
    theirs = first.config.with_name("keys.toml").read_text().replace("MTR0001", "MTR0009")
    keys.write_text(f"{keys.read_text()}\n{theirs}")
