"""Somebody holds the broker: what he publishes there, and what comes of it. The daemon as a process, a real broker."""

import hashlib
import json
import tomllib
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from support.broker import Mosquitto
from support.head_end import HeadEnd
from support.http_server import ImageServer
from support.patience import eventually
from support.running import NEW, OLD, RunningGateway
from support.signed import COMMAND_TYPE, Signatory, enveloped, manifest, p256

BASE = "mgw/v1/gw-001"
SUBMIT = "campaign.submit"
IMAGE = bytes(number * 7 % 251 for number in range(4 * 1024))
UTILITY, OPERATOR = Signatory("utility"), p256("operator")


@pytest.fixture
def gateway(tmp_path):
    keys = {signatory.name: [str(signatory.write(tmp_path))] for signatory in (UTILITY, OPERATOR)}
    with Mosquitto(tmp_path) as broker:
        sections = {
            "gateway": {"id": "gw-001"},
            "mqtt": {"url": broker.url},
            "firmware": {"trust": "signed", "trusted_keys": keys["utility"]},
            "commands": {"signed_verbs": ["campaign.*"], "trusted_keys": keys["operator"]},
        }
        running = RunningGateway(tmp_path, meters=1, sections=sections)
        with HeadEnd(broker.port, f"{BASE}/#") as head_end, ImageServer(IMAGE) as server:
            try:
                running.start()
                head_end.wait_for(f"{BASE}/state")  # before it, nobody hears an order
                yield Held(running, head_end, server.url)
            finally:
                running.close()


class Held:
    """The gateway, seen by whoever holds its broker."""

    def __init__(self, running: RunningGateway, head_end: HeadEnd, url: str) -> None:
        self.running = running
        self.head_end = head_end
        self.url = url
        self.profile = tomllib.loads(running.config.read_text())["meters"][0]["profile"]

    def manifest(self, *by: Signatory, **changes) -> dict:
        said = {"identifier": "FW-2.0.0", "version": NEW, "profiles": [self.profile], **changes}
        return enveloped(manifest(IMAGE, **said), *by)

    def order(self, campaign_id: str, document: dict | None) -> dict:
        now = datetime.now(UTC)
        image = {"sha256": hashlib.sha256(IMAGE).hexdigest(), "url": self.url}
        return {
            "v": 1,
            "cmd_id": str(uuid.uuid4()),
            "issued": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "expires": (now + timedelta(hours=1)).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "args": {
                "campaign_id": campaign_id,
                "image": {**image, "manifest": document} if document else image,
                "identifier": "FW-2.0.0",
                "targets": ["MTR0001"],
            },
        }

    def publish(self, command: dict, *by: Signatory, gateway: str = "gw-001") -> dict:
        """The first reply."""
        signed = enveloped({"gateway": gateway, "verb": SUBMIT, "command": command}, *by, kind=COMMAND_TYPE)
        self.head_end.publish(f"{BASE}/cmd/{SUBMIT}", json.dumps(signed if by else command).encode())
        eventually(lambda: self.replies(command), self.running.said)
        return self.replies(command)[0]

    def replies(self, command: dict) -> list[dict]:
        heard = [one.document for one in self.head_end.heard(f"{BASE}/rsp")]
        return [document for document in heard if document["cmd_id"] == command["cmd_id"]]


def test_whoever_holds_the_broker_orders_nothing_and_brings_nothing_back(gateway):
    meter, good = gateway.running.meters[0], gateway.manifest(UTILITY)
    for campaign_id, document, signatories, options, code in (
        ("an order of his own, for what was signed", good, (), {}, "E_AUTH"),
        ("with a key of his own", good, (Signatory("stranger"),), {}, "E_AUTH"),
        ("what an operator signed for another gateway", good, (OPERATOR,), {"gateway": "gw-002"}, "E_AUTH"),
        ("firmware of his own, for a deceived man", gateway.manifest(Signatory("me")), (OPERATOR,), {}, "F_SIGNATURE"),
        ("firmware without a manifest", None, (OPERATOR,), {}, "F_SIGNATURE"),
        ("firmware of another model", gateway.manifest(UTILITY, profiles=["x"]), (OPERATOR,), {}, "F_POLICY"),
    ):  # fmt: skip
        reply = gateway.publish(
            gateway.order(campaign_id.replace(" ", "-").replace(",", ""), document), *signatories, **options
        )
        assert (reply["status"], reply["code"]) == ("rejected", code), campaign_id
        assert reply["data"]["advice"]
    assert meter.version == OLD

    order = gateway.order("fw-2", good)
    assert gateway.publish(order, OPERATOR)["status"] == "accepted"
    eventually(lambda: len(gateway.replies(order)) > 1, gateway.running.said)
    assert (gateway.replies(order)[-1]["status"], meter.version) == ("done", NEW)
    events = [heard.document for heard in gateway.head_end.heard(f"{BASE}/event")]
    accepted = next(event for event in events if event["campaign_id"] == "fw-2")
    assert accepted["who"].startswith("mqtt, signed by operator.pem (")

    older = gateway.order("back", gateway.manifest(UTILITY, sequence=11, version=OLD))
    assert gateway.publish(older, OPERATOR)["code"] == "F_POLICY"
    assert meter.history.activations == 1
