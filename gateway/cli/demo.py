"""`meter-gateway demo`: one meter updated on this machine, from an MQTT command to the version the meter reports.

Real are the gateway (a process of its own), the broker, HTTP and every octet between gateway and meter; virtual are
the meter and the line it hangs on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gateway.cli import virtual
from gateway.cli.demo_parts import DemoError, HeadEnd, Process, broker, daemon, image_server
from gateway.cli.root import Desk, Exit, local_options
from gateway.cli.text import safe
from gateway.cli.watch import View, open_view
from gateway.errors import GatewayError
from gateway.model import TERMINAL_CAMPAIGN, Manifest
from gateway.signing import Envelope, KeyKind, PrivateKey, envelope_document, generate, sign
from gateway.simulator import VirtualMeter, serve
from gateway.supply.manifest import MANIFEST_TYPE, write_manifest

_GATEWAY_ID = "gw-demo"
_ROOT = "mgw/v1"
_BAUD = 19200
_IMAGE_SIZE = 12 * 1024 + 100
"""About 15 s of line time; the last block is short."""
_OLD, _NEW = "1.0.0", "2.0.0"
_VERIFY_S, _REBOOT_S = 2.0, 6.0
_CAMPAIGN = "demo-2.0.0"
_START_TIMEOUT_S = 60.0
_TIMEOUT_S = 300.0
_ELSEWHERE = "/usr/sbin"
"""Where Debian puts mosquitto, which is not on the PATH of everybody."""
_ENDED = {state.value for state in TERMINAL_CAMPAIGN}


@click.command()
@click.option(
    "--broker-binary",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The mosquitto to use; default: the one on PATH.",
)
@local_options
@click.pass_obj
def demo(desk: Desk, /, broker_binary: Path | None) -> int:
    """Show one update from beginning to end on this machine, in about half a minute.

    A real gateway takes a command from a real MQTT broker, fetches an image over HTTP and puts it into a virtual
    meter behind a virtual RS-485 line. Exit status 0 only if the meter itself reports the new version.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    binary = broker_binary or _broker_on_path()
    with tempfile.TemporaryDirectory(prefix="meter-gateway-demo-") as directory:
        log = Path(directory, "gateway.log")
        try:
            _play(desk, binary, Path(directory), log)
        except GatewayError as error:
            click.echo(f"meter-gateway: the demonstration failed: {safe(error.message)}", err=True)
            if log.exists():
                click.echo("-- the gateway's log " + "-" * 60, err=True)
                click.echo(log.read_text("utf-8", errors="replace"), err=True)
            return Exit.FAILED
    return Exit.DONE


def _broker_on_path() -> Path:
    found = shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", os.defpath), _ELSEWHERE]))
    if found is None:
        raise click.UsageError(
            "No mosquitto on PATH: install it, name one with --broker-binary, or use `make demo`."
        )
    return Path(found)


def _play(desk: Desk, binary: Path, home: Path, log: Path) -> None:
    """The whole demonstration. Raises GatewayError where it does not end as it should."""
    image = os.urandom(_IMAGE_SIZE)
    (spec,) = virtual.meters(1, version=_OLD, new_version=_NEW, verify_s=_VERIFY_S, reboot_s=_REBOOT_S)
    meter = VirtualMeter(spec)
    with contextlib.ExitStack() as stack:
        line = stack.enter_context(serve([meter], link_path=home / "line", baud=_BAUD))
        _say(desk, f"meter     {virtual.meter_id(0)} on {line.address}, {_BAUD} baud, HLS-GMAC, AES-GCM")
        broker_url = stack.enter_context(broker(binary, home))
        _say(desk, f"broker    {broker_url}")
        image_url = stack.enter_context(image_server(image))
        _say(desk, f"image     {image_url}, {len(image)} bytes of firmware {_NEW}")
        key = generate(KeyKind.ED25519)
        _say(
            desk, f"manifest  signed with Ed25519 key {key.key_id[:16]}, the only one that the gateway trusts"
        )
        trusted = home / "utility.pem"
        trusted.write_bytes(key.public_pem())
        sections = _sections(home, broker_url, trusted)
        config = virtual.write_configuration(home, line.address, _BAUD, [spec], sections)
        head_end = stack.enter_context(HeadEnd(broker_url, f"{_ROOT}/{_GATEWAY_ID}"))
        gateway = stack.enter_context(daemon(config, log))
        _say(desk, f"gateway   process {gateway.pid}")
        story = _Story(desk, head_end, gateway)
        story.wait_until_online()
        story.order(image_url, image, _signed_manifest(image, key))
        job = story.follow()
    _judge(desk, job, meter, image)


def _signed_manifest(image: bytes, key: PrivateKey) -> dict[str, Any]:
    """What a utility says of its firmware, in an envelope."""
    manifest = Manifest(
        hashlib.sha256(image).hexdigest(), len(image), _NEW, ("virtual",), 1, identifier=b"demo-firmware"
    )
    return envelope_document(sign(Envelope(MANIFEST_TYPE, write_manifest(manifest)), [key]))


def _sections(home: Path, broker_url: str, trusted: Path) -> dict[str, dict[str, object]]:
    return {
        "gateway": {
            "id": _GATEWAY_ID,
            "system_title": virtual.SYSTEM_TITLE.hex(),
            "state_dir": str(home / "state"),
            "control_socket": str(home / "run" / "control.sock"),
            "require_synced_clock": False,
        },
        "mqtt": {"url": broker_url, "root": _ROOT},
        "firmware": {"trusted_keys": [str(trusted)]},
    }


class _Story:
    """What the head-end orders and hears."""

    def __init__(self, desk: Desk, head_end: HeadEnd, gateway: Process) -> None:
        self._desk = desk
        self._head_end = head_end
        self._gateway = gateway
        self._online = False
        self._campaign: dict[str, Any] = {}
        self._jobs: dict[str, dict[str, Any]] = {}
        self._rejected = ""
        self._tell: Callable[[str], object] = lambda line: _say(desk, line)

    def wait_until_online(self) -> None:
        self._listen_until(lambda: self._online, _START_TIMEOUT_S, "the gateway does not reach the broker")

    def order(self, image_url: str, image: bytes, manifest: dict[str, Any]) -> None:
        digest = hashlib.sha256(image).hexdigest()
        args = {
            "campaign_id": _CAMPAIGN,
            "image": {"url": image_url, "sha256": digest, "manifest": manifest},
            "targets": [virtual.meter_id(0)],
        }
        self._head_end.order("campaign.submit", args)
        _say(self._desk, f"MQTT  ->  cmd/campaign.submit {_CAMPAIGN}: {virtual.meter_id(0)} to {_NEW}")

    def follow(self) -> dict[str, Any]:
        """Show the campaign until it has ended; gives the job of its one meter."""
        with open_view(self._desk) as view:

            def ended() -> bool:
                self._show(view)
                if self._rejected:
                    raise DemoError(f"the command was rejected: {self._rejected}")
                job = self._jobs.get(virtual.meter_id(0), {})
                return self._campaign.get("state") in _ENDED and job.get("finished_at") is not None

            self._tell = view.say
            self._listen_until(ended, _TIMEOUT_S, "the campaign does not end")
        return self._jobs[virtual.meter_id(0)]

    def _listen_until(self, done: Any, timeout_s: float, complaint: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            self._gateway.check()
            if time.monotonic() > deadline:
                raise DemoError(f"{complaint} within {timeout_s:.0f} s")
            self._head_end.listen(self._hear)

    def _hear(self, topic: str, document: Any) -> None:
        match topic.split("/"):
            case ["state"]:
                self._online = document["online"]
            case ["rsp"]:
                outcome = " ".join(filter(None, [document["status"], document["code"], document["message"]]))
                self._tell(f"MQTT  <-  rsp {outcome}")
                self._rejected = outcome if document["status"] == "rejected" else ""
            case ["campaign", _]:
                self._campaign = document
            case ["campaign", _, "job", meter]:
                self._jobs[meter] = document
            case ["progress", _, meter] if meter in self._jobs:
                progress = {key: document[key] for key in ("blocks_done", "blocks_total", "eta_s")}
                self._jobs[meter] |= {**progress, "rate_bps": document["bytes_per_s"]}

    def _show(self, view: View) -> None:
        if self._campaign:
            view.show(self._campaign, list(self._jobs.values()))


def _judge(desk: Desk, job: dict[str, Any], meter: VirtualMeter, image: bytes) -> None:
    """What the gateway says it was told by the meter, held against the meter. Raises DemoError."""
    before, after = job["version_before"], job["version_after"]
    if job["state"] != "updated":
        raise DemoError(
            f"{job['meter']} ended {job['state']}: {job['code']}: {job['message']} {job['detail']}"
        )
    if (before, after, meter.version) != (_OLD, _NEW, _NEW):
        raise DemoError(f"the gateway reports {before} -> {after}, and the meter runs {meter.version}")
    if meter.image.image_sha256 != hashlib.sha256(image).hexdigest():
        raise DemoError("the meter has other bytes than were ordered")
    _say(desk, "")
    _say(desk, f"The meter reported version {before} before, and reports version {after} now.")


def _say(desk: Desk, line: str) -> None:
    if not desk.as_json:
        click.echo(safe(line))
