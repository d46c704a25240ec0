"""The rooms of the house and who may know whom, held on the syntax tree (the map: gateway/__init__.py)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

GATEWAY = Path(__file__).parent.parent / "gateway"

# Every room and its floor. An import goes to a lower floor or stays in its room; a room not named here is refused.
FLOORS = {
    "errors": 1, "model": 1, "states": 1, "clock": 1, "board": 1, "tls": 1, "durable": 1, "strict_json": 1,
    "signing": 1, "identifiers": 1, "urls": 1, "words": 1,
    "wire": 2, "transfer": 2, "plan": 2, "config": 2, "supply": 2, "store": 2,
    "link": 3, "control": 3, "schedule": 3,
    "worker": 4, "page": 4, "supplier": 4, "conductor": 4, "uplink": 4, "simulator": 4,
    "daemon": 5, "cli": 5, "__main__": 6,
}  # fmt: skip

# Floor 1 knows itself: the model names the codes of errors, clocks are told in the model's words.
VOCABULARY = {room for room, floor in FLOORS.items() if floor == 1}

# The daemon is started by the command line.
STAIRS = {("cli", "daemon")}

# Rooms that see less than their floor allows.
SEES_ONLY = {
    "link": {*VOCABULARY, "wire"},
    "page": {*VOCABULARY, "control", "store"},
    "simulator": {"wire", "link.port", "clock", "model", "errors"},
}

# Libraries that one room each knows, so that they can be replaced there; gurux-dlms (GPL) is for tests alone.
KNOWN_ONLY_TO = {
    "paho": {"uplink"},
    "apscheduler": {"schedule"},
    "serial": {"link"},
    "sqlite3": {"store"},
    "httpx": {"supply"},
    "gurux_dlms": set(),
}

# Bytes to meaning, and what is next: the same answer at any time, on any machine, with nothing touched.
PURE = {"wire", "transfer", "plan"}
IMPURE = {"time", "socket", "serial", "sqlite3", "threading", "random", "os", "secrets"}


def imported(source: str, package: tuple[str, ...]) -> Iterator[str]:
    """Dotted names of everything that a module imports, at its top or inside functions; `from a import b` is a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            stem = ".".join((*base, *filter(None, [node.module])))
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def violations(module: str, source: str) -> list[str]:
    """What is wrong with the imports of a module, given as its path beneath gateway/, e.g. "wire/hdlc.py"."""
    parts = Path(module).with_suffix("").parts
    room = parts[0]
    if room not in FLOORS and room != "__init__":
        return [f"{module}: no room {room} is known; give it a floor in {Path(__file__).name}"]
    found = []
    for name in imported(source, ("gateway", *parts[:-1])):
        top, _, inner = name.partition(".")
        if top == "gateway":
            found += _upward(module, room, inner)
        elif top in KNOWN_ONLY_TO and room not in KNOWN_ONLY_TO[top]:
            found.append(f"{module}: {top} is known only to {sorted(KNOWN_ONLY_TO[top]) or 'the tests'}")
        elif room in PURE and top in IMPURE:
            found.append(f"{module}: {room} is pure and must not import {top}")
    return found


def _upward(module: str, room: str, name: str) -> list[str]:
    target = name.partition(".")[0]
    if room == "__init__":
        return [f"{module}: the map imports nothing of the house, but {name}"]
    if target not in FLOORS:
        return [f"{module}: {name or 'gateway'} is in no room"]
    if target == room or (room, target) in STAIRS or {room, target} <= VOCABULARY:
        return []
    if room in SEES_ONLY and not any(f"{name}.".startswith(f"{seen}.") for seen in SEES_ONLY[room]):
        return [f"{module}: {room} sees only {sorted(SEES_ONLY[room])}, not {name}"]
    if FLOORS[target] >= FLOORS[room]:
        return [f"{module}: {room} (floor {FLOORS[room]}) must not know {target} (floor {FLOORS[target]})"]
    return []


def test_every_import_goes_down_or_stays_in_its_room():
    modules = sorted(GATEWAY.rglob("*.py"))
    assert modules
    found = [
        complaint
        for path in modules
        for complaint in violations(path.relative_to(GATEWAY).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("module, source", [
    ("wire/hdlc.py", "import time"),
    ("wire/hdlc.py", "from os import urandom"),
    ("wire/hdlc.py", "from gateway.link import port"),
    ("wire/apdu.py", "from gateway import store"),
    ("transfer/step.py", "def f():\n    import random"),
    ("transfer/step.py", "from gateway.wire.apdu import decode"),
    ("link/session.py", "from gateway.store import Store"),
    ("store/store.py", "from ..control import commands"),
    ("worker.py", "from gateway.uplink import Uplink"),
    ("worker.py", "import gateway.daemon"),
    ("simulator/meter.py", "from gateway.link.session import Session"),
    ("simulator/pty.py", "from gateway.link import session"),
    ("cli/demo.py", "import paho.mqtt.client"),
    ("worker.py", "from apscheduler.schedulers.background import BackgroundScheduler"),
    ("simulator/meter.py", "from gurux_dlms import GXDLMSServer"),
    ("clock.py", "from gateway.wire import hdlc"),
    ("__init__.py", "from gateway.model import Meter"),
    ("cli/show.py", "from gateway.helpers import pad"),
    ("helpers.py", ""),
])  # fmt: skip
def test_a_forbidden_import_is_noticed(module, source):
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize("module, source", [
    ("wire/apdu.py", "from gateway.wire import axdr\nfrom gateway.errors import WireError\nimport struct"),
    ("wire/apdu.py", "from . import axdr\nfrom .axdr import Data\nfrom ..errors import WireError"),
    ("clock.py", "import time\nfrom gateway.model import Meter"),
    ("simulator/line.py", "from gateway.link.port import Port\nfrom gateway.link import port\nimport threading"),
    ("uplink/paho_broker.py", "import paho.mqtt.client as mqtt\nfrom gateway.control.commands import Origin"),
    ("cli/run.py", "from gateway.daemon import Daemon"),
])  # fmt: skip
def test_an_import_downstairs_is_allowed(module, source):
    assert violations(module, source) == []
