"""What a gateway and a head-end say to each other, once of each kind. Documents come of the code that tells them."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from gateway.errors import StateError
from gateway.model import (
    Alarm,
    AlarmKind,
    Campaign,
    CampaignState,
    HealthCheck,
    Job,
    JobState,
    Reply,
    ReplyStatus,
    Window,
)
from gateway.store.commands import failed
from gateway.store.documents import (
    Document,
    alarm_document,
    campaign_document,
    event_document,
    fetch_progress,
    job_document,
    reply_document,
    time_text,
    window_document,
)
from gateway.supply.block_get import Get

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 22, 20, 31, 7, 250_000, tzinfo=UTC)
SHA256 = hashlib.sha256(b"X3-4.1.7").hexdigest()
CMD_ID = "0b5a3c1e-6a4e-4a5f-9a63-0e6c1d2f3a4b"
EPOCH = "6f0c9d1a4b7e4c0f8a2d3e5b7c9f1a20"

_CAMPAIGN = Campaign(
    "fw-2026-11", SHA256, b"X3-4.1.7", ("MTR0001", "MTR0002"), NOW, url="https://fw.example.net/x3-4.1.7.bin",
    image_size=262_144, expect_version="4.1.7", window="night", state=CampaignState.RUNNING, released=2, rev=5,
    eta=datetime(2026, 11, 22, 21, 10, tzinfo=UTC),
)  # fmt: skip
_JOB = Job(
    "fw-2026-11", "MTR0001", "rs485-1", state=JobState.UPDATED, blocks_done=1024, blocks_total=1024, blocks_sent=1030,
    blocks_resent=6, bytes_sent=263_680, transfer_s=1391.25, delivery="unicast", version_before="4.0.2",
    version_after="4.1.7", started_at=NOW, finished_at=LATER, activated_at=LATER,
    health=(HealthCheck("0-0:96.3.10.255:2", "True", "True"),), rev=9,
)  # fmt: skip

CAMPAIGN = campaign_document(_CAMPAIGN, {JobState.UPDATED: 1, JobState.TRANSFERRING: 1}, ts=LATER)
JOB = job_document(_JOB, ts=LATER)
EVENT = event_document(
    "job", epoch=EPOCH, seq=4711, ts=LATER, who="gateway", campaign_id="fw-2026-11", meter_id="MTR0001",
    port="rs485-1", state=JobState.UPDATED,
)  # fmt: skip
ALARM = alarm_document(
    Alarm("port-lost.rs485-1", AlarmKind.PORT_LOST, "rs485-1", "/dev/ttyUSB0 is not there", NOW)
)
STATE: Document = {
    "v": 1, "online": True, "session": "8f3a5c0b1d2e4f67", "ts": time_text(NOW), "clock": "synced",
}  # fmt: skip
INFO: Document = {
    "v": 1, "gateway": "gw-001", "version": "0.1.0", "verbs": ["ping", "campaign.submit", "window.set"],
    "mqtt_verbs": ["ping", "campaign.submit"], "ports": ["rs485-1"], "meters": 2,
    "firmware": {
        "trust": "signed", "threshold": 1, "keys": ["utility.pem (3e7da0c35e93fb58)"], "root": False, "note": "",
    },
    "signed_verbs": [], "limits": {"command_bytes": 65536, "outbox_bytes": 67_108_864, "firmware_bytes": 536_870_912},
}  # fmt: skip
PROGRESS: Document = {
    "v": 1, "campaign_id": "fw-2026-11", "meter": "MTR0001", "state": "transferring", "blocks_done": 410,
    "blocks_total": 1024, "bytes_per_s": 189, "eta_s": 832, "ts": time_text(LATER),
}  # fmt: skip
FETCH: Document = {
    "v": 1, "campaign_id": "fw-2026-11", "state": "fetching", **fetch_progress(98_304, 262_144, 8192.0),
    "ts": time_text(NOW),
}  # fmt: skip
GET: Document = json.loads(Get(262_144, 16_384, 0, b"\xff\xff", 8).encode())

DOCUMENTS: dict[str, Document] = {
    "state": STATE, "info": INFO, "campaign": CAMPAIGN, "job": JOB, "event": EVENT, "alarm": ALARM,
    "progress": PROGRESS, "fetch": FETCH, "get": GET,
}  # fmt: skip
"""By the name of their component."""

ARGS: dict[str, Document] = {
    "ping": {},
    "info.get": {},
    "port.list": {},
    "port.scan": {"port": "rs485-1", "from": 16, "to": 32, "timeout": "500ms"},
    "port.hold": {"port": "rs485-1", "for": "10min"},
    "port.release": {"port": "rs485-1"},
    "meter.list": {},
    "meter.read": {"meter": "MTR0001", "object": "1-0:1.8.0.255"},
    "meter.probe": {"meter": "MTR0001"},
    "meter.put": {
        "meter": "MTR0003", "port": "rs485-1", "physical_address": 19, "client": 1, "authentication": "hls-gmac",
        "security": "both", "profile": "acme-x3",
    },
    "meter.delete": {"meter": "MTR0003"},
    "image.fetch": {"sha256": SHA256, "url": "https://fw.example.net/x3-4.1.7.bin", "size": 262_144},
    "image.list": {},
    "image.delete": {"sha256": SHA256},
    "campaign.submit": {
        "campaign_id": "fw-2026-11",
        "image": {"sha256": SHA256, "url": "https://fw.example.net/x3-4.1.7.bin", "size": 262_144},
        "identifier": "X3-4.1.7",
        "expect_version": "4.1.7",
        "targets": ["MTR0001", "MTR0002"],
        "window": "night",
        "canary": 1,
        "canary_soak": "24h",
        "max_failures": 1,
    },
    "campaign.get": {"campaign_id": "fw-2026-11"},
    "campaign.list": {"limit": 10},
    "campaign.cancel": {"campaign_id": "fw-2026-11"},
    "campaign.pause": {"campaign_id": "fw-2026-11"},
    "campaign.resume": {"campaign_id": "fw-2026-11"},
    "campaign.approve": {"campaign_id": "fw-2026-11"},
    "campaign.retry": {"campaign_id": "fw-2026-11"},
    "window.list": {},
    "window.set": {"window": "dawn", "start": "04:00", "duration": "90min", "days": ["sat", "sun"]},
    "event.list": {"after": 4700, "epoch": EPOCH, "limit": 100},
    "agent.reload": {},
}  # fmt: skip
"""Of each verb that can come over MQTT."""

_COUNTED = {
    "octets_out": 301_224, "octets_in": 40_116, "exchanges": 1130, "polls": 3, "timeouts": 2, "damaged": 1,
    "masters": 0, "foreign": 0, "sessions": 2,
}  # fmt: skip
_NIGHT = Window(
    "night", frozenset(range(5)), NOW.time().replace(hour=22), 18_000.0, "Europe/Helsinki", 1800.0, 120.0
)
_ORDERED = {"campaign_id": "fw-2026-11", "state": "running", "paused": None}

DATA: dict[str, Document] = {
    "ping": {"ts": time_text(NOW)},
    "info.get": {
        **INFO,
        "now": {
            "clock": {"state": "synced", "timezone": "Europe/Helsinki"},
            "uplink": {"online": True, "since": time_text(NOW), "reason": ""},
            "outbox_bytes": 0, "certificates": {"first_end": "2027-03-01T00:00:00.000Z"}, "alarms": {},
        },
    },
    "port.list": {"ports": [{
        "port": "rs485-1", "kind": "rs485", "device": "/dev/ttyUSB0", "address": "", "framing": "hdlc", "baud": 9600,
        "parity": "none", "meters": 2, "alarms": [], "held": None, "scan": None,
        "figures": {**_COUNTED, "last_heard": time_text(NOW), "utilisation_minute": 0.61, "utilisation_hour": 0.18},
    }]},
    "port.scan": {"port": "rs485-1", "addresses": 17, "found": [{
        "logical_address": 1, "physical_address": 17, "address_bytes": None, "meter": "MTR0001",
        "logical_device_name": "ACM0000000001", "firmware_version": "4.0.2", "remark": "",
    }]},
    "port.hold": {"port": "rs485-1", "until": time_text(LATER)},
    "port.release": {"port": "rs485-1", "until": time_text(LATER)},
    "meter.list": {"meters": [{
        "meter": "MTR0001", "port": "rs485-1", "physical_address": 17, "logical_address": 1, "client": 1,
        "authentication": "hls-gmac", "security": "both", "profile": "acme-x3", "origin": "configuration",
        "version": "4.0.2", "campaign_id": "fw-2026-11", "state": "transferring", "parked": None, "tuning": None,
        "figures": {**_COUNTED, "last_heard": time_text(NOW)},
    }], "left_out": []},
    "meter.put": {"meter": "MTR0003"},
    "meter.delete": {"meter": "MTR0003"},
    "meter.read": {"meter": "MTR0001", "values": [{
        "object": "1-0:1.8.0.255", "class": 3, "attribute": 2, "type": "double-long-unsigned", "value": 8_412_377,
    }]},
    "meter.probe": {
        "meter": "MTR0001", "logical_device_name": "ACM0000000001", "firmware_version": "4.0.2",
        "image_object": "0-0:44.0.0.255", "logical_name": "0-0:44.0.0.255", "image_block_size": 256,
        "image_transferred_blocks_status": {"blocks": 16, "transferred": 12, "bits": "fff0"},
        "image_first_not_transferred_block_number": 12, "image_transfer_enabled": True,
        "image_transfer_status": {"value": 1, "name": "initiated"},
        "image_to_activate_info": {"error": "the meter refuses: read-write-denied"},
    },
    "image.fetch": {"sha256": SHA256, "size": 262_144},
    "image.list": {
        "images": [{
            "sha256": SHA256, "size": 262_144, "here": 262_144, "complete": True, "used_at": time_text(NOW),
            "needed_by": ["fw-2026-11"],
            "manifest": {"version": "4.1.7", "sequence": 12, "profiles": ["acme-x3"], "not_after": None},
        }],
        "quota": 536_870_912, "used": 262_144,
    },
    "image.delete": {"sha256": SHA256},
    "campaign.submit": {"campaign_id": "fw-2026-11", "state": "succeeded", "counts": {"updated": 2}},
    "campaign.get": {"campaign": CAMPAIGN, "jobs": [JOB]},
    "campaign.list": {"campaigns": [CAMPAIGN]},
    "campaign.cancel": {"campaign_id": "fw-2026-11", "state": "cancelling"},
    "campaign.pause": {"campaign_id": "fw-2026-11", "state": "paused", "paused": "operator"},
    "campaign.resume": _ORDERED,
    "campaign.approve": _ORDERED,
    "campaign.retry": {"campaign_id": "fw-2026-11", "state": "running", "meters": ["MTR0002"]},
    "window.list": {
        "windows": [{
            **window_document(_NIGHT), "open": False, "opens_at": "2026-11-23T20:00:00.000Z",
            "closes_at": "2026-11-24T01:00:00.000Z",
        }],
        "clock_trusted": True,
    },
    "window.set": {"window": "dawn"},
    "event.list": {
        "epoch": EPOCH, "first": 12, "last": 4711, "missed": None, "events": [EVENT], "next": 4711, "more": False,
    },
    "agent.reload": {"applied": ["windows"], "needs_restart": ["mqtt"]},
}  # fmt: skip
"""Of a reply that is done."""

ACCEPTED: dict[str, Document] = {
    "campaign.submit": {"campaign_id": "fw-2026-11", "state": "accepted", "meters": 2},
}


def command(verb: str) -> Document:
    return {
        "v": 1,
        "cmd_id": CMD_ID,
        "issued": "2026-11-22T20:00:00Z",
        "expires": "2026-11-22T21:00:00Z",
        "args": ARGS[verb],
    }


def reply(verb: str) -> Document:
    return reply_document(Reply(CMD_ID, ReplyStatus.DONE, data=DATA[verb]))


def accepted(verb: str) -> Document:
    return reply_document(Reply(CMD_ID, ReplyStatus.ACCEPTED, data=ACCEPTED.get(verb, {})))


def rejected() -> Document:
    error = StateError("campaign fw-2026-11 has ended: succeeded")
    return reply_document(failed(CMD_ID, error, ReplyStatus.REJECTED))


def parsed(document: Any) -> Any:
    """As whoever hears it reads it."""
    return json.loads(json.dumps(document, default=str))
