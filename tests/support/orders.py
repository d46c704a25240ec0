"""What an operator orders at a running gateway, and what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.running import NEW, RunningGateway

from gateway.cli.client import Client

IMAGE = bytes(range(256)) * 32


def ask(gateway: RunningGateway, verb: str, args: dict[str, object] | None = None) -> Any:
    """The data of the last reply."""
    with Client(gateway.socket) as client:
        return client.await_done(verb, args or {})["data"]


def order(gateway: RunningGateway, tmp_path: Path, campaign_id: str = "c") -> str:
    """An update of all meters; the digest of its image."""
    file = tmp_path / "image"
    file.write_bytes(IMAGE)
    with Client(gateway.socket) as client, file.open("rb") as opened:
        digest: str = client.ask("image.add", file=opened.fileno())["data"]["sha256"]
        client.ask("campaign.submit", update_all(campaign_id, digest))
    return digest


def update_all(campaign_id: str, digest: str) -> dict[str, object]:
    return {
        "campaign_id": campaign_id, "image": {"sha256": digest}, "identifier": "FW", "expect_version": NEW,
        "targets": "all",
    }  # fmt: skip


def jobs(gateway: RunningGateway, campaign_id: str = "c") -> dict[str, str]:
    """State by meter."""
    found = ask(gateway, "campaign.get", {"campaign_id": campaign_id})["jobs"]
    return {job["meter"]: job["state"] for job in found}
