"""The main job on real parts: the daemon as a process, mosquitto, a pty line and an HTTP server.

It is killed with -9 in mid-transfer and started again; the meter must get every block once (but for the one that was on
the line) and be `updated` because it says so itself.
"""

import hashlib
import json
import signal
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from support.broker import Mosquitto
from support.head_end import HeadEnd
from support.http_server import ImageServer
from support.patience import eventually
from support.running import NEW, OLD, RunningGateway

BASE = "mgw/v1/gw-001"
IMAGE = bytes(number * 7 % 251 for number in range(48 * 1024))
BAUD = 57600


@pytest.fixture
def broker(tmp_path):
    with Mosquitto(tmp_path) as broker:
        yield broker


def submit(head_end, url):
    now = datetime.now(UTC)
    command = {
        "v": 1,
        "cmd_id": str(uuid.uuid4()),
        "issued": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "expires": (now + timedelta(hours=1)).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "args": {
            "campaign_id": "fw-2",
            "image": {"sha256": hashlib.sha256(IMAGE).hexdigest(), "url": url, "size": len(IMAGE)},
            "identifier": "FW-2.0.0",
            "expect_version": NEW,
            "targets": ["MTR0001"],
        },
    }
    head_end.publish(f"{BASE}/cmd/campaign.submit", json.dumps(command).encode())
    return command["cmd_id"]


def told(head_end, topic, name):
    return {heard.document[name] for heard in head_end.heard(topic)}


def test_an_order_survives_kill_9_and_ends_updated_without_sending_a_block_twice(tmp_path, broker):
    sections = {"gateway": {"id": "gw-001"}, "mqtt": {"url": broker.url}}
    gateway = RunningGateway(tmp_path, meters=1, sections=sections, baud=BAUD)
    meter = gateway.meters[0]
    with ImageServer(IMAGE) as server, HeadEnd(broker.port, f"{BASE}/#") as head_end:
        try:
            gateway.start()
            head_end.wait_for(f"{BASE}/state")  # before it, nobody hears an order
            cmd_id = submit(head_end, server.url)
            eventually(lambda: meter.history.blocks.total() >= 60)
            gateway.stop(signal.SIGKILL)
            gateway.start()
            job = f"{BASE}/campaign/fw-2/job/MTR0001"
            eventually(lambda: told(head_end, job, "state") & {"updated", "failed"})
            eventually(lambda: told(head_end, f"{BASE}/rsp", "status") & {"done", "failed"})
        except AssertionError:
            print(gateway.said())
            raise
        finally:
            gateway.close()
        states = [heard.document["state"] for heard in head_end.heard(job)]
        last = head_end.heard(job)[-1].document
        replies = {heard.document["status"]: heard.document for heard in head_end.heard(f"{BASE}/rsp")}

    assert states[-1] == "updated"
    assert (last["version_before"], last["version_after"]) == (OLD, NEW)
    assert set(replies) == {"accepted", "done"}
    assert {reply["cmd_id"] for reply in replies.values()} == {cmd_id}
    assert meter.version == NEW
    assert meter.image.image_sha256 == hashlib.sha256(IMAGE).hexdigest()
    assert meter.history.initiates == meter.history.activations == 1
    total = last["blocks_total"]
    assert set(meter.history.blocks) == set(range(total))
    assert meter.history.blocks.total() <= total + 1, "more than the block on the line was sent again"
