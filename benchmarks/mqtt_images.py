"""Images over the broker: `mqtt_blocks_rate`, `fetch_memory_mqtt_mib` and `fetch_cancel_mqtt_s` of the daemon as a
process, with `image serve` as another one and a mosquitto between them; `fetch_waste_mqtt` of a fetch whose connection
is cut again and again.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.block_door import BlockDoor
from support.block_fetch import BLOCK, Fetching, Serving
from support.broker import Mosquitto
from support.head_end import HeadEnd
from support.uplinked import command

from benchmarks.figure import Figure, noise, percentile, platform_of_run, spread
from benchmarks.meters import CIPHERED
from benchmarks.process import CLOSED_WINDOW, Gateway, Line, state_directory

RATE_TARGET_MIB_S = 5.0
MEMORY_TARGET_MIB = 20.0
CANCEL_TARGET_S = 1.0
WASTE_TARGET = 1.05
_SIZE = 64 << 20
_MIB = 1 << 20
_ROUNDS = 3
_CANCELS = 5
_CUTS = 50
_PATIENCE_S = 300.0
_BASE = "mgw/v1/gw-bench"
_FETCHED = {"ready", "running", "paused"}


def figures() -> Iterator[Figure]:
    image = random.Random("mqtt").randbytes(_SIZE)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "firmware.bin"
        file.write_bytes(image)
        yield from _rate_and_memory(file)
        yield _cancel(file)
    yield _waste(image)


def _rate_and_memory(file: Path) -> Iterator[Figure]:
    rates, above, idle = [], [], 0.0
    for _ in range(_ROUNDS):
        with _scene(file) as scene:
            idle = scene.gateway.rss_mib()
            begin_s = time.perf_counter()
            scene.order("fw-1")
            scene.until("fw-1", _FETCHED)
            rates.append(_SIZE / _MIB / (time.perf_counter() - begin_s))
            above.append(scene.gateway.peak_rss_mib() - idle)
    compared = (
        f"{_SIZE // _MIB} MiB through a mosquitto on this machine, from the order to the image stored durably"
    )
    yield Figure(
        "mqtt_blocks_rate",
        percentile(rates, 50),
        "MiB/s",
        RATE_TARGET_MIB_S,
        {"compared": compared, "rates": spread(rates), "noise": noise(), **platform_of_run()},
    )
    yield Figure(
        "fetch_memory_mqtt_mib",
        max(above),
        "MiB",
        MEMORY_TARGET_MIB,
        {
            "compared": "VmHWM of the daemon when the image is stored, over VmRSS before the order",
            "idle_mib": idle,
            "above": spread(above),
            **platform_of_run(),
        },
    )


def _cancel(file: Path) -> Figure:
    answered, ended = [], []
    with _scene(file) as scene:
        for number in range(_CANCELS):
            campaign_id = f"fw-{number}"
            scene.order(campaign_id)
            scene.until_asked(len(scene.gets()) + 20)
            begin_s = time.perf_counter()
            cmd_id = scene.command("campaign.cancel", {"campaign_id": campaign_id})
            scene.head_end.wait_for_reply(cmd_id, b"")
            answered.append(time.perf_counter() - begin_s)
            scene.until(campaign_id, {"cancelled"})
            scene.until_left(number + 1)
            ended.append(time.perf_counter() - begin_s)
    return Figure(
        "fetch_cancel_mqtt_s",
        max(ended),
        "s",
        CANCEL_TARGET_S,
        {
            "compared": f"campaign.cancel published to blocks heard no more, with {_SIZE // _MIB} MiB under way at full"
            " speed; the worst of all",
            "answered_s": spread(answered),
            "ended_s": spread(ended),
            "noise": noise(),
            **platform_of_run(),
        },
    )


def _waste(image: bytes) -> Figure:
    chance = random.Random("cuts")
    places = sorted(chance.randrange(_SIZE) for _ in range(_CUTS))
    with (
        state_directory() as directory,
        Mosquitto(directory / "broker") as broker,
        Serving(broker.url, image) as serving,
        BlockDoor(broker.port) as door,
    ):
        fetching = Fetching(door.url, directory / "images", image).start()
        for place in places:
            door.cut_after = max(1, place - door.down_octets)
            _wait(lambda: door.cut_after is None or fetching.stored is not None)
        content = fetching.content
        assert content == image
        cuts = door.connections - 1
        waste, sent = door.down_octets / _SIZE, serving.sent() * BLOCK / _SIZE
    return Figure(
        "fetch_waste_mqtt",
        waste,
        "ratio",
        WASTE_TARGET,
        {
            "compared": f"octets that went to the gateway, headers and all, over the {_SIZE // _MIB} MiB of the image;"
            f" {cuts} connections cut at random octets",
            "sent_over_needed": sent,
            "cuts": cuts,
            **platform_of_run(),
        },
    )


@dataclass(frozen=True)
class _Scene:
    """A gateway, its broker, whoever serves, and a head-end."""

    gateway: Gateway
    head_end: HeadEnd
    broker: Mosquitto
    image: dict[str, Any]

    def order(self, campaign_id: str) -> None:
        self.command(
            "campaign.submit",
            {
                "campaign_id": campaign_id,
                "image": self.image,
                "identifier": "FW",
                "targets": "all",
                "window": CLOSED_WINDOW,
            },
        )

    def command(self, verb: str, args: dict[str, Any]) -> str:
        document = command(cmd_id=str(uuid.uuid4()), args=args)
        self.head_end.publish(f"{_BASE}/cmd/{verb}", json.dumps(document).encode())
        return str(document["cmd_id"])

    def gets(self) -> list[Any]:
        return self.head_end.heard(f"{_BASE}/image/{self.image['sha256']}/get")

    def until(self, campaign_id: str, states: set[str]) -> None:
        topic = f"{_BASE}/campaign/{campaign_id}"
        _wait(lambda: any(one.document["state"] in states for one in self.head_end.heard(topic)))

    def until_asked(self, times: int) -> None:
        """So often for blocks."""
        _wait(lambda: len(self.gets()) >= times)

    def until_left(self, times: int) -> None:
        """So often the connection for blocks was ended in order."""
        _wait(lambda: self.broker.log().count("Client mgw-gw-bench-bulk disconnected") >= times)


@contextmanager
def _scene(file: Path) -> Iterator[_Scene]:
    """Its orders wait for a window that is closed: the image is fetched, and nothing else is done."""
    lines = [Line("/dev/ttyNOT0", [CIPHERED])]
    topics = [f"{_BASE}/{topic}" for topic in ("state", "rsp", "campaign/+", "image/+/get")]
    with (
        state_directory() as directory,
        Mosquitto(directory / "broker") as broker,
        HeadEnd(broker.port, *topics) as head_end,
        Gateway(directory, lines, mqtt=broker.url) as gateway,
        served(file, broker.url) as offer,
    ):
        _wait(lambda: any(one.document["online"] for one in head_end.heard(f"{_BASE}/state")))
        image = {"sha256": offer["sha256"], "size": offer["size"], "url": "mqtt:"}
        gateway.set_closed_window()
        yield _Scene(gateway, head_end, broker, image)


@contextmanager
def served(file: Path, url: str) -> Iterator[Any]:
    """`image serve` for all; what it said first."""
    words = ["image", "serve", str(file), "--broker", url, "--gateway", "all", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


def _wait(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise RuntimeError("it never came about")
        time.sleep(0.01)
