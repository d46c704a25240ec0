"""`command_fuzz`: so many messages beneath `cmd/` that nobody means well with were answered as they must be.

The daemon as a process with a meter on a pty, a real mosquitto, 100,000 messages of `tests/support/command_fuzz.py`:
every verb that there is, all of them let in over MQTT. Counted is a message whose first answer carried its correlation
data (up to 256 octets of it come back) and the id that stood in it, or null where none could be read; one on a deeper
topic that no answer came to counts as well. Afterwards the daemon must live and answer, must have retained nothing but
its own documents, and have logged no more than its limit allows.

Memory is looked at after a tenth, when every cache is filled, and at the end. What may grow in between has limits of
its own: SQLite's caches (2 MiB for each of ten threads) and what the allocator does not give back of the largest
messages (16 under way, 64 KiB each, some ten copies while they are read): 32 MiB.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from support.broker import Mosquitto
from support.command_fuzz import Thrown, messages
from support.desk import memory_directory
from support.running import RunningGateway

from benchmarks.figure import Figure, noise, platform_of_run, tell
from benchmarks.process import state_directory

TARGET = 100_000
GROWTH_LIMIT_MIB = 32.0
_UNDER_WAY = 100
_PATIENCE_S = 300.0
_BASE = "mgw/v1/gw-001"
_LONGEST_CORRELATION = 256
_LOG_LIMIT_BYTES = 4 << 20
"""Some hundred campaigns of one job each may be told of, and 60 refusals an hour."""


def figure() -> Figure:
    with state_directory() as disk, memory_directory() as memory, Mosquitto(disk / "broker") as broker:
        sections: dict[str, dict[str, object]] = {
            "gateway": {"id": "gw-001"}, "mqtt": {"url": broker.url}, "commands": {"mqtt_verbs": ["*"]},
        }  # fmt: skip
        running = RunningGateway(memory, meters=1, sections=sections)
        try:
            running.start()
            thrower = _Thrower(broker.port)
            begin_s = time.perf_counter()
            warm_mib = 0.0
            for thrown in messages("endurance", datetime.now(UTC)):
                if thrown.number > TARGET:
                    break
                thrower.throw(thrown)
                if thrown.number == TARGET // 10:
                    warm_mib = _rss_mib(running)
                    tell(f"command_fuzz: about {(time.perf_counter() - begin_s) * 10:.0f} s")
            thrower.settle()
            took_s = time.perf_counter() - begin_s
            growth_mib = _rss_mib(running) - warm_mib
            lives = running.process is not None and running.process.poll() is None
            retained = thrower.retained()
            logged = running.log.stat().st_size
        finally:
            running.close()
    wrong = thrower.wrong
    if not lives or retained or growth_mib > GROWTH_LIMIT_MIB or logged > _LOG_LIMIT_BYTES:
        wrong.append(f"lives: {lives}, retained: {retained}, memory: +{growth_mib} MiB, log: {logged} octets")
    return Figure(
        "command_fuzz",
        thrower.answered,
        "messages",
        TARGET,
        {
            "compared": "messages on command topics over a mosquitto, each answered with its id and correlation data",
            "thrown": TARGET,
            "answers": dict(thrower.answers.most_common()),
            "ended_later": thrower.ended,
            "wrong": len(wrong),
            "first_of_them": wrong[:5],
            "memory_mib": warm_mib,
            "memory_growth_mib": growth_mib,
            "memory_growth_limit_mib": GROWTH_LIMIT_MIB,
            "logged_bytes": logged,
            "seconds": took_s,
            "noise": noise(),
            **platform_of_run(),
        },
    )


class _Thrower:
    """Publishes with any properties, and holds what comes back against what must."""

    def __init__(self, port: int) -> None:
        self.answered = 0
        self.ended = 0
        """Second replies, of what took its time."""
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._waiting: dict[bytes, Thrown] = {}
        self._without: Counter[str | None] = Counter()
        """Ids of those whose correlation data is too long to come back."""
        self._silent = 0
        self._retained: dict[str, bytes] = {}
        self._ready = False
        arguments: dict[str, Any] = {"client_id": "head-end", "protocol": paho.MQTTv5}
        if hasattr(paho, "CallbackAPIVersion"):
            arguments["callback_api_version"] = paho.CallbackAPIVersion.VERSION2
        self._client: Any = paho.Client(**arguments)
        self._client.max_inflight_messages_set(_UNDER_WAY)
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        self._client.connect("127.0.0.1", port)
        self._client.subscribe([(f"{_BASE}/rsp/#", 1), (f"{_BASE}/state", 1)])
        self._until(lambda: self._ready and b'"online":true' in self._retained.get(f"{_BASE}/state", b""))

    def throw(self, thrown: Thrown) -> None:
        properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.CorrelationData = thrown.correlation
        properties.UserProperty = ("x", "y" * (thrown.number % 100))
        properties.ContentType = "\u202etext/plain"
        if thrown.response_topic:
            properties.ResponseTopic = f"{_BASE}/{thrown.response_topic}"
        if not thrown.heard:
            self._silent += 1
        elif len(thrown.correlation) > _LONGEST_CORRELATION:
            self._without[thrown.cmd_id] += 1
        else:
            self._waiting[thrown.correlation] = thrown
        topic = f"{_BASE}/cmd/{thrown.level}"
        self._client.publish(topic, thrown.payload, 1, thrown.retain, properties)
        if thrown.retain:
            self._client.publish(topic, b"", 1, True)
        self._until(lambda: len(self._waiting) < _UNDER_WAY)

    def settle(self) -> None:
        """Until everything was answered; what was to be silent has had its time by then."""
        self._until(lambda: not self._waiting and not +self._without)
        self.answered += self._silent

    def retained(self) -> list[str]:
        """What is retained beneath the gateway's topics that is no document of its own."""
        self._retained.clear()
        self._ready = False
        self._client.subscribe(f"{_BASE}/#", 1)
        self._until(lambda: self._ready and f"{_BASE}/info" in self._retained)
        own = ("state", "info", "campaign", "alarm")
        return [topic for topic in self._retained if topic.removeprefix(f"{_BASE}/").split("/")[0] not in own]

    def _until(self, condition: Any) -> None:
        deadline_s = time.monotonic() + _PATIENCE_S
        while not condition():
            if time.monotonic() > deadline_s:
                missing = list(self._waiting.values())[:3], list(+self._without)[:3]
                raise RuntimeError(f"not answered: {missing}")
            if self._client.loop(0.05) != paho.MQTT_ERR_SUCCESS:
                raise RuntimeError("the broker ended the connection")

    def _on_subscribe(self, *_: Any) -> None:
        self._ready = True

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        if message.retain or message.topic == f"{_BASE}/state":
            self._retained[message.topic] = message.payload
        if not message.topic.startswith(f"{_BASE}/rsp"):
            return
        reply = json.loads(message.payload)
        correlation = getattr(message.properties, "CorrelationData", b"")
        self.answers[f"{reply['status']} {reply['code'] or ''}".strip()] += 1
        thrown = self._waiting.pop(correlation, None) if correlation else None
        if thrown is not None:
            self.answered += reply["cmd_id"] == thrown.cmd_id
            if reply["cmd_id"] != thrown.cmd_id:
                self.wrong.append(f"{thrown.payload[:200]!r}: {reply}")
        elif not correlation and self._without[reply["cmd_id"]] > 0:
            self._without[reply["cmd_id"]] -= 1
            self.answered += 1
        elif reply["status"] in ("done", "failed") and reply["cmd_id"]:
            self.ended += 1
        else:
            self.wrong.append(f"nobody asked: {reply}")


def _rss_mib(running: RunningGateway) -> float:
    assert running.process is not None
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
