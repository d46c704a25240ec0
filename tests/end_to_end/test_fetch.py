"""An image over a poor link, with the daemon as a process and a real broker: what the head-end sees of it, what a
restart costs, and that the password in a pre-signed URL is told to nobody."""

import hashlib
import json

import pytest
from support import http_server as server_does
from support.broker import Mosquitto
from support.head_end import HeadEnd
from support.http_server import ImageServer
from support.patience import eventually
from support.running import NEW, RunningGateway

from gateway.cli import main
from gateway.cli.client import Client

BASE = "mgw/v1/gw-001"
IMAGE = hashlib.shake_128(b"image").digest(40 * 1024)
HALF = len(IMAGE) // 2


@pytest.fixture
def broker(tmp_path):
    with Mosquitto(tmp_path) as broker:
        yield broker


def test_an_image_that_stalls_half_way_is_told_of_and_gone_on_with_after_a_restart(tmp_path, broker, capsys):
    sections = {"gateway": {"id": "gw-001"}, "mqtt": {"url": broker.url}}
    gateway = RunningGateway(tmp_path, meters=1, sections=sections)
    args = {
        "campaign_id": "fw-2",
        "identifier": "FW-2.0.0",
        "expect_version": NEW,
        "targets": ["MTR0001"],
    }
    behaviours = (server_does.silent_after(HALF), server_does.ranged)
    with ImageServer(IMAGE, *behaviours) as server, HeadEnd(broker.port, f"{BASE}/#") as head_end:
        image = {"sha256": hashlib.sha256(IMAGE).hexdigest(), "url": f"{server.url}?token=hidden"}
        try:
            gateway.start()
            head_end.wait_for(f"{BASE}/state")
            with Client(gateway.socket) as client:
                client.ask("campaign.submit", {**args, "image": image})
            eventually(lambda: head_end.heard(f"{BASE}/progress/fw-2"))
            assert main(["campaign", "show", "fw-2", "--config", str(gateway.config)]) == 0
            shown = capsys.readouterr().out
            assert gateway.stop() == 0
            gateway.start()
            snapshot = f"{BASE}/campaign/fw-2"
            eventually(lambda: head_end.heard(snapshot) and "succeeded" in str(head_end.heard(snapshot)[-1]))
        except AssertionError:
            print(gateway.said())
            raise
        finally:
            gateway.close()
        heard = head_end.heard()

    assert "fetching 50 %, 20.0 of 40.0 KiB" in shown
    told = [json.loads(one.payload) for one in heard if one.topic == f"{BASE}/progress/fw-2"]
    assert told[0]["state"] == "fetching"
    assert (told[0]["bytes_done"], told[0]["bytes_total"]) == (HALF, len(IMAGE))
    [(_, first), (_, second)] = server.requests
    assert "Range" not in first
    assert (second["Range"], second["If-Range"]) == (f"bytes={HALF}-", server.etag)
    assert server.body_octets == len(IMAGE)
    assert gateway.meters[0].version == NEW

    everything = [gateway.said(), shown, *(str(one) for one in heard)]
    everything += [path.read_text() for path in (tmp_path / "state" / "images").glob("*.json")]
    assert all("hidden" not in text for text in everything)
    assert "127.0.0.1" in str(heard), "the place itself is told"
