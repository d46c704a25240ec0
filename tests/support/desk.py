"""A gateway's desk without threads: Store, images, board, controller, on virtual time; and a Store that loses power."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jsonschema import Draft202012Validator

from gateway.board import Board
from gateway.control import Controller, Origin, OriginKind
from gateway.control.schema import schema
from gateway.model import (
    Campaign,
    Command,
    CommandSettings,
    Config,
    FirmwareSettings,
    GatewaySettings,
    Job,
    Meter,
    MqttSettings,
    PortKind,
    PortSettings,
    Profile,
    Reply,
    Trust,
)
from gateway.simulator.clock import VirtualClock
from gateway.store import Store
from gateway.store.documents import reply_document, time_text
from gateway.supply.images import ImageStore

GATEWAY_ID = "gw-1"
BASE = f"mgw/v1/{GATEWAY_ID}"
IMAGE = b"firmware 4.1.7 " * 1000
SHA256 = hashlib.sha256(IMAGE).hexdigest()
URL = "http://127.0.0.1:8080/x3-4.1.7.bin"

PROBED = {
    "meter": "MTR1", "logical_device_name": "VIR0000000001", "firmware_version": "4.0.2",
    "image_object": "0-0:44.0.0.255", "logical_name": "0-0:44.0.0.255", "image_block_size": 256,
    "image_transferred_blocks_status": {"blocks": 0, "transferred": 0, "bits": ""},
    "image_first_not_transferred_block_number": 0, "image_transfer_enabled": True,
    "image_transfer_status": {"value": 0, "name": "not_initiated"},
    "image_to_activate_info": {"error": "object undefined"},
}  # fmt: skip
"""What `meter.probe` answers."""

MQTT = Origin(OriginKind.MQTT, "mqtt", reply_topic=f"{BASE}/rsp", correlation=b"\x01\x02")
LOCAL = Origin(OriginKind.LOCAL, "uid 1000 (pid 4711)")

CONFIG = Config(
    gateway=GatewaySettings(id=GATEWAY_ID),
    mqtt=MqttSettings(url="mqtt://127.0.0.1:1883"),
    commands=CommandSettings(),
    firmware=FirmwareSettings(trust=Trust.DIGEST),
    ports=(
        PortSettings("rs485-1", PortKind.RS485, device="/dev/ttyUSB0"),
        PortSettings("lan", PortKind.TCP, address="192.0.2.10:4059"),
    ),
    meters=(
        Meter("MTR1", "rs485-1", physical_address=17),
        Meter("MTR2", "rs485-1", physical_address=18, profile=Profile("acme-x3")),
        Meter("MTR3", "lan", profile=Profile("acme-x3")),
    ),
)


@contextmanager
def memory_directory() -> Iterator[Path]:
    """A directory in memory where there is one: the Store syncs at every commit, and a test makes hundreds."""
    memory = Path("/dev/shm")  # noqa: S108 (mkdtemp makes the directory in it)
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


class PowerCut(BaseException):
    """The gateway is gone, in the middle of it all."""


@dataclass
class Fuse:
    """Blows at one commit, counted from 1 over all Stores that share it; 0: never."""

    blows_at: int = 0
    after: bool = False
    commits: int = 0


class FusedStore(Store):
    """A Store that loses power before or after a certain commit."""

    fuse: Fuse

    def _commit(self, database):
        self.fuse.commits += 1
        blows = self.fuse.commits == self.fuse.blows_at
        if blows and not self.fuse.after:
            raise PowerCut
        super()._commit(database)
        if blows:
            raise PowerCut


def open_store(state_dir: Path, clock: VirtualClock, board: Board | None = None, **changes: Any) -> Store:
    settings = {"gateway_id": GATEWAY_ID, "root": "mgw/v1", **changes}
    return Store(state_dir, clock=clock, board=board, **settings)


def open_fused(state_dir: Path, clock: VirtualClock, fuse: Fuse, board: Board | None = None) -> FusedStore:
    kind = type("FusedStore", (FusedStore,), {"fuse": fuse})
    return kind(state_dir, gateway_id=GATEWAY_ID, root="mgw/v1", clock=clock, board=board)


@dataclass
class Desk:
    """Everything that an order meets before a worker does."""

    state_dir: Path
    config: Config = CONFIG
    clock: VirtualClock = field(default_factory=VirtualClock)
    board: Board = field(default_factory=Board)
    clock_says: str = "synced"
    store: Store = None  # type: ignore[assignment]
    outbox_limit_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        if self.store is None:
            self.store = open_store(
                self.state_dir, self.clock, self.board, outbox_limit_bytes=self.outbox_limit_bytes
            )
        self.images = ImageStore(
            self.state_dir / "images", self.config.firmware.quota_bytes, needed=self.store.needed_images
        )
        self.controller = Controller(
            config=self.config,
            store=self.store,
            images=self.images,
            board=self.board,
            clock=self.clock,
            version="0.1.0",
            clock_state=lambda: self.clock_says,
            reload=lambda: None,
        )

    def close(self) -> None:
        self.store.close()

    def envelope(
        self, verb: str | None, args: Mapping[str, Any] | None = None, **changes: Any
    ) -> dict[str, Any]:
        """A good command, but for `changes`; a change to None takes the field away."""
        now = self.clock.now()
        whole = {
            "v": 1,
            "cmd_id": str(uuid.uuid4()),
            "verb": verb,
            "issued": time_text(now),
            "expires": time_text(now + timedelta(hours=1)),
            "args": dict(args or {}),
            **changes,
        }
        return {name: value for name, value in whole.items() if value is not None}

    def send(
        self,
        verb: str | None,
        args: Mapping[str, Any] | None = None,
        *,
        origin: Origin = LOCAL,
        topic_verb: str | None = None,
        descriptor: int | None = None,
        **changes: Any,
    ) -> Reply:
        raw = json.dumps(self.envelope(verb, args, **changes)).encode()
        return self.give(raw, origin, topic_verb, descriptor)

    def give(
        self, raw: bytes, origin: Origin = LOCAL, verb: str | None = None, descriptor: int | None = None
    ) -> Reply:
        """What the controller says, which must be by the schema."""
        reply = self.controller.handle(raw, origin, verb, descriptor)
        hold("reply", reply_document(reply))
        return reply

    def outbox(self) -> list[tuple[str, dict[str, Any]]]:
        """Everything that waits for the broker: topic beneath the gateway's, and document, held against its schema."""
        return [
            (short(row.topic), told(row.topic, row.payload)) for row in self.store.outbox_batch(0, 10_000)
        ]


def order(campaign_id: str = "fw-1", **changes: Any) -> dict[str, Any]:
    """The arguments of a good `campaign.submit`, but for `changes`; a change to None takes the field away."""
    whole = {
        "campaign_id": campaign_id,
        "image": {"sha256": SHA256, "url": URL, "size": len(IMAGE)},
        "identifier": "X3-4.1.7",
        "expect_version": "4.1.7",
        "targets": ["MTR1", "MTR2"],
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def command(clock: VirtualClock, verb: str = "campaign.submit", **changes: Any) -> Command:
    """A checked command, as the controller hands it to the Store."""
    now = clock.now()
    fields: dict[str, Any] = {
        "cmd_id": str(uuid.uuid4()),
        "verb": verb,
        "args": {},
        "issued": now,
        "expires": now + timedelta(hours=1),
        "body_sha256": "b" * 64,
        "who": "mqtt",
        "reply_topic": f"{BASE}/rsp",
        "correlation": b"\x01\x02",
        **changes,
    }
    return Command(**fields)


def campaign(clock: VirtualClock, *meters: str, id: str = "fw-1", **changes: Any) -> Campaign:  # noqa: A002 (the field's name)
    meters = meters or ("MTR1",)
    return Campaign(
        id, SHA256, b"X3-4.1.7", meters, clock.now(), url=URL, **{"released": len(meters), **changes}
    )


def jobs_of(order_: Campaign, port: str = "rs485-1") -> list[Job]:
    return [Job(order_.id, meter, port, place) for place, meter in enumerate(order_.meters)]


def short(topic: str) -> str:
    assert topic.startswith(f"{BASE}/")
    return topic.removeprefix(f"{BASE}/")


def told(topic: str, payload: bytes) -> dict[str, Any]:
    """A message as its reader takes it, held against the schema of its topic; {} for one that takes an alarm back."""
    parts = short(topic).split("/")
    if parts[0] == "alarm" and not payload:
        return {}
    document: dict[str, Any] = json.loads(payload)
    names = {"rsp": "reply", "event": "event", "alarm": "alarm"}
    hold(names.get(parts[0], "job" if "job" in parts else "campaign"), document)
    return document


def hold(name: str, document: Mapping[str, Any]) -> None:
    """Raises jsonschema.ValidationError unless `document`, as it goes over the wire, is what schema `name` says."""
    Draft202012Validator(schema(name)).validate(json.loads(json.dumps(document)))
