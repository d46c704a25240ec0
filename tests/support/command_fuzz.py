"""Messages beneath `cmd/` that nobody means well with: valid commands of every verb with something changed in them,
octets of any kind, topics and properties of any kind. The same seed gives the same messages.

`tests/control/test_command_fuzz.py` tries some in each test run, `make endurance` a hundred thousand against the
daemon.
"""

from __future__ import annotations

import copy
import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gateway.control.envelope import cmd_id_of, read_document
from gateway.errors import SchemaError

SHA256 = "ab" * 32
_ORDER = {
    "campaign_id": "c", "image": {"sha256": SHA256, "size": 4096, "url": "http://127.0.0.1:1/x"}, "identifier": "FW",
    "expect_version": "2.0.0", "targets": ["MTR0001"], "activation": {"when": "immediately"}, "priority": 5,
    "canary": 1, "wave": 10, "max_failures": 3, "not_after": "2030-01-01T00:00:00Z", "dry_run": True,
}  # fmt: skip
_ONE = {"campaign_id": "c"}
VALID: dict[str, dict[str, Any]] = {
    "ping": {}, "info.get": {}, "port.list": {}, "port.scan": {"port": "rs485-1"},
    "port.hold": {"port": "rs485-1", "for": "1s"}, "port.release": {"port": "rs485-1"}, "meter.list": {},
    "meter.read": {"meter": "MTR0001"}, "meter.probe": {"meter": "MTR0001"},
    "meter.put": {"meter": {"id": "M2", "port": "rs485-1"}}, "meter.delete": {"meter": "M2"},
    "image.fetch": {"sha256": SHA256, "url": "http://127.0.0.1:1/x", "size": 4096}, "image.list": {},
    "image.delete": {"sha256": SHA256}, "campaign.submit": _ORDER, "campaign.get": _ONE, "campaign.list": {},
    "campaign.pause": _ONE, "campaign.resume": _ONE, "campaign.cancel": _ONE, "campaign.approve": _ONE,
    "campaign.retry": _ONE, "window.list": {}, "window.set": {"window": "w", "start": "22:00", "duration": "1h"},
    "event.list": {"after_seq": 0, "limit": 10}, "agent.reload": {}, "image.add": {},
    "counter.adopt": {"meter": "MTR0001"}, "port.trace": {"port": "rs485-1"}, "no.such": {},
}  # fmt: skip
"""Arguments that each verb understands, or would."""
_JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**64), 10**30, 1.5, 1e308, "", " ", "x" * 65, "x" * 70_000, "\0",
    "\ud7ff", "../../etc/passwd", "A" * 64, "all", "2026-11-22T00:00:00Z", "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00Z", "hex:zz", "5h", "-1s", "\u202e\x1b[2J", "'; DROP TABLE outbox; --", [], {}, [[]],
    ["MTR0001"] * 500, {"": {}}, {"a": [1, {"b": None}]}, "00000000-0000-0000-0000-000000000000",
    "7E7F3D3C-8A3C-4B0E-9D57-1C6A0F5F3A11", "mqtt:", "https://user:pw@host/x?token=1",
)  # fmt: skip


@dataclass(frozen=True)
class Thrown:
    """One message. `heard`: it is to be answered, for the subscription of the gateway takes it, and it is not the empty
    one that takes a retained command back."""

    number: int
    level: str
    """Of the topic, beneath `cmd/`."""
    payload: bytes
    retain: bool
    response_topic: str
    """"rsp" stands for the gateway's own."""
    correlation: bytes

    @property
    def heard(self) -> bool:
        return "/" not in self.level and not (self.retain and not self.payload)

    @property
    def cmd_id(self) -> str | None:
        """The id that its answer must carry."""
        try:
            document = read_document(self.payload)
        except SchemaError:
            return None
        return cmd_id_of(document)


def messages(seed: object, now: datetime) -> Iterator[Thrown]:
    """Without an end; valid ones are of `now`. Each carries its number as correlation data, eight octets, or with more
    behind them than the 256 that come back."""
    chance = random.Random(f"{seed}")
    number = 0
    while True:
        number += 1
        verb = chance.choice(list(VALID))
        token = number.to_bytes(8)
        yield Thrown(
            number,
            _level(chance, verb),
            _payload(chance, verb, now),
            retain=chance.random() < 0.02,
            response_topic=_response_topic(chance),
            correlation=token + bytes(chance.choice((0, 0, 0, 248, 249))),
        )


def _level(chance: random.Random, verb: str) -> str:
    if chance.random() < 0.9:
        return verb
    odd = (
        "",
        "$SYS",
        verb.upper(),
        f"{verb}/x",
        "a/b/c",
        "\u00e4\u20ac\U0001f600",
        "x" * 2000,
        " ",
        ".",
        "..",
        f"{verb}.",
    )
    return chance.choice(odd)


def _response_topic(chance: random.Random) -> str:
    odd = (
        "rsp",
        "rsp/desk",
        "rsp/a/b/c",
        "rsp/" + "y" * 600,
        "state",
        "cmd/ping",
        "campaign/c",
        "$SYS/x",
        "../rsp",
    )
    return "" if chance.random() < 0.7 else chance.choice(odd)


def _payload(chance: random.Random, verb: str, now: datetime) -> bytes:
    match chance.randrange(10):
        case 0:
            return chance.randbytes(chance.choice((0, 1, 2, 17, 300, 5000)))
        case 1:
            return chance.choice(
                (b"[" * 60_000, b"{" * 5000, b" " * 65_537, b'"' + b"x" * 70_000 + b'"', b"NaN", b"-")
            )
        case 2 | 3:
            return _damaged(chance, json.dumps(_command(chance, verb, now)).encode())
        case 4:
            return json.dumps(_command(chance, verb, now)).encode()
        case _:
            document = _command(chance, verb, now)
            for _ in range(chance.choice((1, 1, 2, 5))):
                _change(chance, document)
            return json.dumps(document).encode()


def _command(chance: random.Random, verb: str, now: datetime) -> dict[str, Any]:
    args = copy.deepcopy(VALID[verb])
    if "campaign_id" in args:
        args["campaign_id"] = f"c{chance.randrange(50)}"
    return {
        "v": 1,
        "cmd_id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        "verb": verb,
        "issued": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "expires": f"{now + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
        "args": args,
    }


def _change(chance: random.Random, document: dict[str, Any]) -> None:
    """Something in it is another thing, gone, or new."""
    place: Any = document
    while isinstance(place, dict) and place:
        name = chance.choice(list(place))
        if isinstance(place[name], dict) and place[name] and chance.random() < 0.8:
            place = place[name]
            continue
        match chance.randrange(4):
            case 0:
                del place[name]
            case 1:
                place[chance.choice(("x", "", "__proto__", "cmd_id", "args", "v"))] = chance.choice(_JUNK)
            case _:
                place[name] = chance.choice(_JUNK)
        return


def _damaged(chance: random.Random, text: bytes) -> bytes:
    octets = bytearray(text)
    for _ in range(chance.choice((1, 1, 3, 20))):
        at = chance.randrange(len(octets) + 1)
        match chance.randrange(4):
            case 0:
                del octets[at : at + chance.randrange(30)]
            case 1:
                octets[at:at] = octets[chance.randrange(len(octets) or 1) :][:40]
            case 2:
                octets[at:at] = chance.randbytes(chance.randrange(5))
            case _:
                octets[at : at + 1] = bytes([chance.randrange(256)])
    return bytes(octets)
