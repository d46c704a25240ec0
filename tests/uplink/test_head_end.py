"""The other side of the uplink, at a real mosquitto: whose replies it takes, and which states it believes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from support.broker import Mosquitto
from support.head_end import HeadEnd as Gateway
from support.patience import eventually

from gateway.cli.client import envelope
from gateway.clock import SystemClock
from gateway.model import MqttSettings, Reply, ReplyStatus
from gateway.store.documents import encoded, reply_document
from gateway.uplink.head_end import HeadEnd
from gateway.uplink.paho_broker import PahoBroker

STATE = "mgw/v1/gw-7/state"


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def ours(mosquitto: Mosquitto) -> Iterator[HeadEnd]:
    broker = PahoBroker(MqttSettings(mosquitto.url), "mgw-cli-ours", keeps_session=False)
    head_end = HeadEnd(broker, root="mgw/v1", name="cli-ours", clock=SystemClock())
    head_end.hear("gw-7", "state")
    until(head_end, lambda: head_end.up)
    yield head_end
    head_end.close()


def until(head_end: HeadEnd, condition: Callable[[], object]) -> None:
    def looked() -> bool:
        head_end.step(0.05)
        return bool(condition())

    eventually(looked)


def state(*, online: bool, session: str) -> bytes:
    document = {"v": 1, "online": online, "session": session * 16, "ts": "2026-11-22T20:00:00.000Z"}
    return json.dumps({**document, "clock": "synced"}).encode()


@pytest.mark.parametrize("topic", ["rsp/cli-ours", "rsp"])
def test_a_reply_is_heard_whether_the_response_topic_reached_the_gateway_or_not(
    topic: str, ours: HeadEnd, mosquitto: Mosquitto
) -> None:
    """A bridge that speaks MQTT 3.1.1 lets none through (etc/examples/mosquitto-bridge.conf)."""
    command = envelope("ping", {}, timedelta(minutes=10))
    cmd_id = command["cmd_id"]
    with Gateway(mosquitto.port, "mgw/v1/gw-7/cmd/+", client_id="gw-7") as gateway:
        question = ours.ask("gw-7", "ping", cmd_id, command, expiry_s=60)
        until(ours, lambda: gateway.heard("mgw/v1/gw-7/cmd/ping"))
        reply = Reply(cmd_id, ReplyStatus.DONE, data={"ts": "2026-11-22T20:00:00.000Z"})
        gateway.publish(f"mgw/v1/gw-7/{topic}", encoded(reply_document(reply)))
        until(ours, lambda: question.replies)


def test_a_gateway_that_came_and_went_while_the_broker_was_away_is_offline(
    ours: HeadEnd, mosquitto: Mosquitto
) -> None:
    with Gateway(mosquitto.port, "nothing", client_id="gw-7") as gateway:
        gateway.publish(STATE, state(online=True, session="a"), retain=True)
        until(ours, lambda: ours.states)
        gateway.publish(STATE, state(online=False, session="0"), retain=True)
        gateway.publish(STATE, state(online=True, session="a"), retain=True)
        deliveries = ours.deliveries
        until(ours, lambda: ours.deliveries == deliveries + 2)
        assert ours.states["gw-7"]["online"], "the Will of an older session says nothing of this one"
    mosquitto.stop()
    mosquitto.start()
    with Gateway(mosquitto.port, "nothing", client_id="gw-7") as gateway:
        gateway.publish(STATE, state(online=False, session="b"), retain=True)
        until(ours, lambda: not ours.states["gw-7"]["online"])
