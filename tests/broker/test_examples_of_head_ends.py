"""The head-ends under docs/examples, as they are, against a real gateway and the broker of docs/broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.broker import client_path
from support.certificates import LOOPBACK
from support.head_end import HeadEnd
from support.orders import IMAGE
from support.patience import PATIENCE_S, eventually
from support.running import NEW, RunningGateway
from support.utility import Utility

from gateway.cli.client import Client

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def order(tmp_path: Path, utility: Utility, gateway: RunningGateway) -> Path:
    """Of an update of the one meter with an image that is stored; the gateway is there to hear it."""
    image = tmp_path / "image"
    image.write_bytes(IMAGE)
    with Client(gateway.socket) as client, image.open("rb") as file:
        digest = client.ask("image.add", file=file.fileno())["data"]["sha256"]
    topic = "mgw/v1/gw-001/state"
    with HeadEnd(utility.port, topic, client_id="is-it-there", tls=utility.identity("head-end")) as head_end:
        eventually(lambda: any(one.document["online"] for one in head_end.heard(topic)))
    path = tmp_path / "order.json"
    args = {
        "campaign_id": f"fw-{tmp_path.name}", "image": {"sha256": digest}, "identifier": "FW",
        "expect_version": NEW, "targets": "all",
    }  # fmt: skip
    path.write_text(json.dumps(args))
    return path


def python(utility: Utility, order: Path) -> list[str]:
    tls = [str(file) for file in utility.identity("head-end").values()]
    return [
        sys.executable,
        str(EXAMPLES / "head_end.py"),
        LOOPBACK,
        str(utility.port),
        "gw-001",
        str(order),
        *tls,
    ]


def shell(utility: Utility, order: Path) -> list[str]:
    files = utility.identity("head-end")
    tls = ["--cafile", files["ca_file"], "--cert", files["cert_file"], "--key", files["key_file"]]
    connection = ["-h", LOOPBACK, "-p", str(utility.port), *map(str, tls)]
    return [str(EXAMPLES / "head_end.sh"), "gw-001", str(order), *connection]


@pytest.mark.parametrize("head_end", [python, shell])
def test_an_update_is_ordered_and_followed_to_its_end(utility, gateway, order, head_end) -> None:
    clients = f"{client_path('mosquitto_pub').parent}:{client_path('mosquitto_sub').parent}"
    environment = os.environ | {"PATH": f"{clients}:{os.environ['PATH']}"}
    command = head_end(utility, order)
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    campaign = json.loads(order.read_text())["campaign_id"]
    lines = done.stdout.splitlines()
    assert lines[0].startswith("order:") and "accepted" in lines[0]
    assert lines[-1].startswith(f"campaign/{campaign}") and "succeeded" in lines[-1]
    assert done.stderr == ""

    again = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=PATIENCE_S, check=False
    )
    assert again.returncode == 1, "a campaign_id is never used twice"
    assert "rejected" in again.stdout


def test_forty_lines_of_python_are_enough() -> None:
    assert len([line for line in (EXAMPLES / "head_end.py").read_text().splitlines() if line.strip()]) <= 40
