"""A gateway as far as its broker sees it: the real Store, control and uplink, over a real connection."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from support.head_end import HeadEnd, Heard
from support.patience import PATIENCE_S, eventually

from gateway.board import Board
from gateway.clock import SystemClock
from gateway.control import Controller, Origin
from gateway.model import (
    CommandSettings,
    Config,
    FirmwareSettings,
    GatewaySettings,
    MqttSettings,
    Reply,
    ReplyStatus,
    Trust,
)
from gateway.store import Store
from gateway.supply.images import ImageStore
from gateway.uplink.paho_broker import PahoBroker
from gateway.uplink.uplink import Uplink

BASE = "mgw/v1/gw"

Handle = Callable[[bytes, Origin, str], Reply]


class Soon(Random):
    """Back-off without its length."""

    def uniform(self, a: float, b: float) -> float:
        return min(b, 0.1)


class Gateway:
    """Store, control and uplink of one gateway; its process may end, in order or not, and start again."""

    def __init__(self, state_dir: Path, url: str, **mqtt: Any) -> None:
        """`mqtt`: settings of the broker besides its address."""
        self._state_dir = state_dir
        self._mqtt = MqttSettings(url, **mqtt)
        self._ending = threading.Event()
        self.around_handle: Callable[[Handle, bytes, Origin, str], Reply] = lambda handle, *given: handle(
            *given
        )
        self.clock_state = "synced"
        self.bug: BaseException | None = None
        self._begin()

    def _begin(self) -> None:
        clock, self.board = SystemClock(), Board()
        mqtt = self._mqtt
        gateway = GatewaySettings(id="gw", require_synced_clock=False)
        self.config = config = Config(
            gateway, mqtt, CommandSettings(), FirmwareSettings(trust=Trust.DIGEST), (), ()
        )
        self.store = Store(
            self._state_dir,
            gateway_id="gw",
            root=mqtt.root,
            clock=clock,
            board=self.board,
            outbox_limit_bytes=mqtt.outbox_limit_bytes,
        )
        self.controller = controller = Controller(
            config=config,
            store=self.store,
            images=ImageStore(self._state_dir / "images", 1_000_000),
            board=self.board,
            clock=clock,
            version="1.2.3",
            clock_state=lambda: self.clock_state,
            reload=lambda: None,
        )
        self.broker = PahoBroker(mqtt, "mgw-gw")
        self.uplink = Uplink(
            mqtt,
            gateway_id="gw",
            broker=self.broker,
            store=self.store,
            board=self.board,
            clock=clock,
            handle=lambda *given: self.around_handle(controller.handle, *given),
            info=controller.info,
            clock_state=lambda: self.clock_state,
            random=Soon(),
        )

    def start(self) -> None:
        self._ending.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)  # a failed test does not stop it
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                report = self.uplink.step()
                assert report.wake_at is not None
                self._ending.wait(max(0.0, report.wake_at - time.monotonic()))
        except Exception as error:  # noqa: BLE001  # the test looks at it
            self.bug = error

    def stop(self) -> None:
        """The end of the process in order."""
        self._end_thread()
        self.uplink.close()
        self.store.close()

    def crash(self) -> None:
        """The end of the process at whatever it did."""
        self._end_thread()
        self.broker.drop()
        self.store.close()

    def begin_again(self) -> None:
        self._begin()
        self.start()
        self.wait_until_it_hears()

    def wait_until_it_hears(self) -> None:
        eventually(lambda: self.uplink._subscribed)

    def ended_by_a_bug(self) -> BaseException | None:
        self._thread.join(PATIENCE_S)
        return self.bug

    def tell(self, *numbers: int) -> None:
        """Put numbered messages into the outbox."""
        for number in numbers:
            self.store.send_reply(Reply(str(number), ReplyStatus.DONE), f"{BASE}/rsp")

    def _end_thread(self) -> None:
        self._ending.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


def command(*, cmd_id: str = "", **fields: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "v": 1,
        "cmd_id": cmd_id or str(uuid.uuid4()),
        "issued": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "expires": f"{now + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
        **fields,
    }


def order(head_end: HeadEnd, verb: str, document: dict[str, Any] | None = None, **options: Any) -> str:
    """Publish a command; its id."""
    document = document or command()
    head_end.publish(f"{BASE}/cmd/{verb}", json.dumps(document).encode(), **options)
    return str(document["cmd_id"])


def in_order_of_first_appearance(heard: list[Heard]) -> list[int]:
    return list(dict.fromkeys(int(one.document["cmd_id"]) for one in heard))
