"""What the demonstration is made of besides the gateway: a broker, an image server, a process, a head-end.

Everything listens on loopback only, and lives as long as its `with` block.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from gateway.cli.client import time_text
from gateway.errors import GatewayError
from gateway.model import MqttSettings
from gateway.uplink.broker import REFUSED, Connected, Delivery, Event, Lost, Message, Subscribed
from gateway.uplink.paho_broker import PahoBroker

_START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 6.0


class DemoError(GatewayError):
    """The demonstration did not come to its end; the message says why."""


# -- processes ------------------------------------------------------------------------------------------------


class Process:
    """A child process that writes to a log file."""

    def __init__(
        self, name: str, command: list[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._child = subprocess.Popen(  # noqa: S603 (our own interpreter, or the binary that was named)
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def check(self) -> None:
        """Raises DemoError where it has ended."""
        if (status := self._child.poll()) is not None:
            raise DemoError(f"{self.name} ended with status {status}: {self.tail(500)}")

    def tail(self, limit: int) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", errors="replace")[-limit:]

    def end(self) -> None:
        """Ask it to end, and insist."""
        self._child.terminate()
        try:
            self._child.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


@contextlib.contextmanager
def broker(binary: Path, directory: Path) -> Iterator[str]:
    """A mosquitto; gives its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = directory / "mosquitto.conf"
    # Started by root it would become a user who may not be there; of anybody else the line is ignored.
    settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n")
    process = Process("the broker", [str(binary), "-c", str(settings)], directory / "mosquitto.log")
    try:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _listens(port):
            process.check()
            if time.monotonic() > deadline:
                raise DemoError(f"the broker does not listen: {process.tail(500)}")
            time.sleep(0.02)
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        process.end()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def daemon(config: Path, log: Path) -> Iterator[Process]:
    """The gateway, as systemd would start it."""
    env = {
        key: value
        for key, value in os.environ.items()
        if key not in ("NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY")
    }
    # Installed from a package, the modules are where this Python would not look for them.
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    process = Process(
        "the gateway", [sys.executable, "-m", "gateway", "run", "--config", str(config)], log, env
    )
    try:
        yield process
    finally:
        process.end()


# -- image server ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def image_server(image: bytes) -> Iterator[str]:
    """An HTTP server that has one file; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(image)))
            self.end_headers()
            self.wfile.write(image)

        def log_message(self, *_: object) -> None:
            """The daemon tells of the fetch."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/firmware.bin"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# -- head-end -------------------------------------------------------------------------------------------------


class HeadEnd:
    """Who sends commands to a gateway over MQTT and listens to what it tells."""

    def __init__(self, url: str, base: str) -> None:
        """`base`: the beginning of the gateway's topics, root and id."""
        self._base = base
        self._broker = PahoBroker(
            MqttSettings(url, session_expiry_s=60.0), f"head-end-{uuid.uuid4().hex[:8]}"
        )

    def __enter__(self) -> Self:
        self._broker.connect()
        self._await(Connected)
        self._broker.subscribe(f"{self._base}/#")
        self._await(Subscribed)
        return self

    def __exit__(self, *_: object) -> None:
        self._broker.disconnect()

    def order(self, verb: str, args: Mapping[str, Any]) -> str:
        """Publish a command; gives its id."""
        issued = datetime.now(UTC)
        cmd_id = str(uuid.uuid4())
        envelope = {
            "v": 1,
            "cmd_id": cmd_id,
            "issued": time_text(issued),
            "expires": time_text(issued + timedelta(hours=1)),
            "args": args,
        }
        self._broker.publish(Message(f"{self._base}/cmd/{verb}", json.dumps(envelope).encode()))
        return cmd_id

    def listen(self, hear: Callable[[str, Any], None], timeout_s: float = 0.1) -> None:
        """Hand over what the gateway publishes: topic beneath `base`, and document."""

        def deliver(delivery: Delivery) -> None:
            topic = delivery.topic.removeprefix(f"{self._base}/")
            if delivery.payload and not topic.startswith("cmd/"):
                hear(topic, json.loads(delivery.payload))

        for event in self._broker.poll(timeout_s, deliver):
            _check(event)

    def _await(self, kind: type[Event]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            for event in self._broker.poll(0.1, lambda _: None):
                _check(event)
                if isinstance(event, kind):
                    return
        raise DemoError(f"the broker does not answer: no {kind.__name__}")


def _check(event: Event) -> None:
    match event:
        case Lost(reason):
            raise DemoError(f"the head-end lost the broker: {reason}")
        case Subscribed(reason) if reason >= REFUSED:
            raise DemoError(f"the broker refuses the subscription: 0x{reason:02X}")
