"""`command_latency_ms`: from publishing `campaign.submit` to hearing "accepted", one order after the other.

The daemon as a process, its state on the disk of this checkout, a mosquitto on loopback. Each order is durable before
it is answered; what one sync costs on this disk is in the detail. An order waits for a window that is closed, so that
nothing else goes on, and is cancelled when it was answered.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from support.broker import Mosquitto

from benchmarks.far import Far
from benchmarks.figure import Figure, noise, percentile, platform_of_run
from benchmarks.meters import PLAIN
from benchmarks.process import CLOSED_WINDOW, Gateway, Line, state_directory

P50_TARGET_MS, P99_TARGET_MS = 15.0, 60.0
_ORDERS = 400
_WARM = 20
_SYNCS = 100
_BASE = "mgw/v1/gw-bench"


def figure() -> Figure:
    with (
        state_directory() as directory,
        Mosquitto(directory / "broker", settings="set_tcp_nodelay true") as broker,
        Far(broker.url, *(f"{_BASE}/{topic}" for topic in ("state", "rsp", "campaign/+"))) as far,
        Gateway(directory, [Line("/dev/ttyNOT0", [PLAIN])], mqtt=broker.url) as gateway,
    ):
        far.until(lambda: any(json.loads(one.payload)["online"] for one in far.heard))
        sha256 = gateway.store_image(os.urandom(4096))
        gateway.set_closed_window()
        syncs_ms = _syncs_ms(directory)
        took_ms = [_order(far, f"fw-{number}", sha256) for number in range(_ORDERS + _WARM)][_WARM:]
    return Figure(
        "command_latency_ms",
        percentile(took_ms, 50),
        "ms",
        P50_TARGET_MS,
        {
            "compared": f"campaign.submit published to its accepted reply heard, {_ORDERS} in turn, QoS 1 through a"
            " mosquitto on this machine with set_tcp_nodelay, as docs/broker has it",
            "p90": percentile(took_ms, 90),
            "p99": percentile(took_ms, 99),
            "p99_against": P99_TARGET_MS,
            "highest": max(took_ms),
            "sync_ms": {"p50": percentile(syncs_ms, 50), "p99": percentile(syncs_ms, 99)},
            "noise": noise(),
            **platform_of_run(),
        },
    )


def _order(far: Far, campaign_id: str, sha256: str) -> float:
    args = {
        "campaign_id": campaign_id, "image": {"sha256": sha256}, "identifier": "FW", "targets": "all",
        "window": CLOSED_WINDOW,
    }  # fmt: skip
    cmd_id = str(uuid.uuid4())
    far.heard.clear()
    begin_s = time.perf_counter()
    far.order(f"{_BASE}/cmd/campaign.submit", args, cmd_id)
    far.until(lambda: far.on(f"{_BASE}/rsp"))
    [heard] = far.on(f"{_BASE}/rsp")
    reply = json.loads(heard.payload)
    if (reply["cmd_id"], reply["status"]) != (cmd_id, "accepted"):
        raise RuntimeError(f"not accepted: {reply}")
    far.order(f"{_BASE}/cmd/campaign.cancel", {"campaign_id": campaign_id}, str(uuid.uuid4()))
    campaign = f"{_BASE}/campaign/{campaign_id}"
    far.until(lambda: any(json.loads(one.payload)["state"] == "cancelled" for one in far.on(campaign)))
    # The replies to the cancel, and to the order at its end.
    far.until(lambda: len(far.on(f"{_BASE}/rsp")) == 3)
    return (heard.at_s - begin_s) * 1e3


def _syncs_ms(directory: Path) -> Sequence[float]:
    """What this disk takes to keep a page, the way a log is kept."""
    took = []
    with (directory / "sync").open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            file.write(bytes(4096))
            begin_s = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - begin_s) * 1e3)
    return took
