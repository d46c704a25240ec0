"""What a machine may do to the service: it is up, or says in one line why not, and goes on by itself."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime
from signal import SIGKILL

import pytest
from support.box import Box, fill, tmpfs
from support.broker import Mosquitto
from support.faked_time import FakedTime
from support.head_end import HeadEnd
from support.orders import IMAGE, ask, jobs, order, update_all
from support.patience import PATIENCE_S, eventually
from support.running import NEW, RunningGateway
from support.signed import Certified, manifest
from support.systemd import Systemd
from support.uplinked import command

from gateway.cli.client import Client, RefusedError
from gateway.simulator import What


@pytest.fixture
def box():
    """Makes file systems that end with the test."""
    boxes = []

    def make(mounts: str) -> Box:
        boxes.append(Box(mounts))
        return boxes[-1]

    yield make
    for made in boxes:
        made.close()


def ended(gateway: RunningGateway, status: int) -> list[str]:
    """What a service that did not start says."""
    assert gateway.launch().wait(PATIENCE_S) == status, gateway.said()
    return gateway.said().splitlines()


# -- the disk -------------------------------------------------------------------------------------------------


def test_a_state_partition_that_something_else_fills_up_stops_nothing(launch, box, tmp_path):
    home = tmp_path / "gateway"
    home.mkdir()
    there = box(tmpfs(home / "state", "48m"))
    gateway = launch(meters=1, baud=38400, within=there.within)
    meter = gateway.meters[0].history
    digest = order(gateway, tmp_path)
    eventually(lambda: meter.blocks.total() > 3, gateway.said)
    fill(there.path(home / "state"))
    eventually(lambda: jobs(gateway) == {"MTR0001": "updated"}, gateway.said)
    assert (meter.initiates, meter.activations) == (1, 1)
    with Client(gateway.socket) as client:
        accepted = client.ask("campaign.submit", update_all("second", digest))
        assert accepted["status"] == "accepted"
    gateway.wait_for("campaign second: succeeded")
    assert "cannot be written" not in gateway.said()
    room = os.statvfs(there.path(home / "state"))
    assert room.f_bavail == 0
    assert gateway.stop() == 0


def test_a_small_state_partition_that_fills_up_stops_nothing_that_was_accepted(launch, box, tmp_path):
    home = tmp_path / "gateway"
    home.mkdir()
    there = box(tmpfs(home / "state"))
    gateway = launch(meters=1, baud=19200, within=there.within)
    meter = gateway.meters[0].history
    digest = order(gateway, tmp_path)
    eventually(lambda: meter.blocks.total() > 3, gateway.said)
    filler = fill(there.path(home / "state"))
    gateway.wait_for("port:rs485-1: F_DISK: the state cannot be written: database or disk is full.")
    with Client(gateway.socket) as client, pytest.raises(RefusedError, match="cannot be written") as refused:
        client.ask("campaign.submit", update_all("second", digest))
    assert refused.value.reply["code"] == "F_DISK"
    assert ask(gateway, "campaign.get", {"campaign_id": "c"})["campaign"]["state"] == "running"
    filler.unlink()
    eventually(lambda: jobs(gateway) == {"MTR0001": "updated"}, gateway.said)
    assert (meter.initiates, meter.activations) == (1, 1)
    assert [campaign["campaign_id"] for campaign in ask(gateway, "campaign.list")["campaigns"]] == ["c"]
    assert gateway.stop() == 0


@pytest.mark.parametrize("begun", [False, True], ids=["a new one", "one with state"])
def test_with_a_full_state_partition_it_says_so_and_starts_when_there_is_room(
    launch, box, tmp_path, systemd: Systemd, begun
):
    home = tmp_path / "gateway"
    home.mkdir()
    there = box(tmpfs(home / "state"))
    if begun:
        gateway = launch(within=there.within, env=systemd.env)
        assert gateway.stop() == 0
        gateway.log.unlink()
    else:
        gateway = launch(within=there.within, env=systemd.env, started=False)
    filler = fill(there.path(home / "state"))
    lines = ended(gateway, 1)
    assert len(lines) == 2
    assert "store.db cannot be opened: " in lines[0]
    assert lines[0].endswith(": no room is left") or lines[0].endswith(": database or disk is full")
    assert systemd.hear_of("STATUS=F_DISK: ")
    filler.unlink()
    assert gateway.start().stop() == 0


def test_a_read_only_root_is_all_right(launch, box, tmp_path):
    home = tmp_path / "gateway"
    home.mkdir()
    own = [home / "state", home / "run"]
    for directory in own:
        directory.mkdir()
    mounts = [f"mount --bind '{directory}' '{directory}'" for directory in own]
    there = box("\n".join([*mounts, "mount -o remount,bind,ro /"]))
    gateway = launch(meters=1, within=there.within)
    with pytest.raises(OSError, match="Read-only"):
        (there.path(home) / "something").touch()
    order(gateway, tmp_path)
    gateway.wait_for("campaign c: succeeded")
    assert gateway.stop() == 0


@pytest.mark.parametrize("begun", [False, True], ids=["a new one", "one with state"])
def test_a_read_only_state_directory_is_named(launch, box, tmp_path, systemd: Systemd, begun):
    if begun:
        assert launch().stop() == 0
    state = tmp_path / "gateway" / "state"
    state.mkdir(parents=True, exist_ok=True)
    there = box(f"mount --bind '{state}' '{state}'\nmount -o remount,bind,ro '{state}'\n")
    lines = ended(launch(within=there.within, env=systemd.env, started=False), 1)
    assert f"F_DISK: {state} cannot be used: Read-only file system" in lines[-2]
    assert systemd.hear_of("STATUS=") == f"STATUS=F_DISK: {state} cannot be used: Read-only file system"


# -- the configuration ----------------------------------------------------------------------------------------


def test_without_a_configuration_it_names_the_file_it_wants(launch, systemd: Systemd):
    gateway = launch(env=systemd.env, started=False)
    gateway.config.unlink()
    lines = ended(gateway, 2)
    assert lines[1:] == [f"  {gateway.config}: found no such file, expected a TOML file"]
    assert "no such file" in systemd.hear_of("STATUS=the configuration has mistakes: ")


def test_keys_that_others_may_read_are_refused(launch, systemd: Systemd):
    gateway = launch(env=systemd.env, started=False)
    gateway.config.with_name("keys.toml").chmod(0o644)
    assert any(
        "keys.toml: found mode 0644, expected mode 0600 or stricter" in line for line in ended(gateway, 2)
    )
    assert "keys.toml: found mode 0644" in systemd.hear_of("STATUS=")


def test_keys_that_may_not_be_read_are_named(launch, systemd: Systemd):
    # Root without its capabilities is a user like others.
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    gateway = launch(env=systemd.env, within=powerless, started=False)
    gateway.config.with_name("keys.toml").chmod(0)
    assert any(
        "keys.toml: found Permission denied, expected a readable file" in line for line in ended(gateway, 2)
    )
    assert "keys.toml: found Permission denied" in systemd.hear_of("STATUS=")


# -- adapters -------------------------------------------------------------------------------------------------


def test_an_adapter_that_is_missing_at_the_start_is_told_once_and_used_when_it_is_there(launch, tmp_path):
    gateway = launch(meters=1, started=False)
    adapter = tmp_path / "adapter"
    gateway.config.write_text(gateway.config.read_text().replace(gateway.line.address, str(adapter)))
    gateway.start()
    missing = f"alarm: port-lost.rs485-1: {adapter} is not there"
    gateway.wait_for(missing)
    assert list(ask(gateway, "info.get")["now"]["alarms"]) == ["port-lost.rs485-1"]
    order(gateway, tmp_path)
    gateway.wait_for(f"waiting T_PORT: cannot open {adapter}: No such file or directory; next try in 10 s")
    adapter.symlink_to(gateway.line.address)
    gateway.wait_for("alarm: port-lost.rs485-1: over")
    eventually(lambda: jobs(gateway) == {"MTR0001": "updated"}, gateway.said)
    assert ask(gateway, "info.get")["now"]["alarms"] == {}
    assert gateway.said().count(missing) == 1
    assert gateway.stop() == 0


# -- the broker -----------------------------------------------------------------------------------------------

NO_NAME_SERVER = """
import socket, threading
found = socket.getaddrinfo
def lost(host, *rest, **named):
    if host == "broker.invalid":
        print("asks for the broker", file=sys.stderr, flush=True)
        threading.Event().wait()
    return found(host, *rest, **named)
socket.getaddrinfo = lost
from gateway.daemon import actors, process
actors.BEAT_S = 0.2
process._PATIENCE_S, process.LIFE_EVERY_S = 10.0, 0.1
"""


def test_a_name_server_that_never_answers_holds_the_uplink_and_nobody_else(
    launch, systemd: Systemd, tmp_path
):
    sections = {"gateway": {"id": "gw-1"}, "mqtt": {"url": "mqtts://broker.invalid"}}
    gateway = launch(meters=1, sections=sections, before=f"import sys\n{NO_NAME_SERVER}", env=systemd.env)
    gateway.wait_for("asks for the broker")
    order(gateway, tmp_path)
    eventually(lambda: jobs(gateway) == {"MTR0001": "updated"}, gateway.said)
    longer_than_others_may_be_silent = time.monotonic() + 12
    while time.monotonic() < longer_than_others_may_be_silent:
        systemd.hear_of("WATCHDOG=1")
    assert "no sign of life" not in gateway.said()
    assert gateway.stop() == 0
    assert "left in the middle of a step: uplink" in gateway.said()


# -- the clock ------------------------------------------------------------------------------------------------


def test_a_clock_in_1970_is_not_believed_until_it_is_set(launch, tmp_path, monkeypatch):
    faked = FakedTime(tmp_path, monkeypatch, datetime(1970, 1, 1, tzinfo=UTC))
    with Mosquitto(tmp_path / "broker") as broker, HeadEnd(broker.port, "mgw/v1/gw-1/#") as head_end:
        gateway = launch(
            meters=1, baud=19200,
            sections={"gateway": {"id": "gw-1", "require_synced_clock": True}, "mqtt": {"url": broker.url}},
            before=faked.before, env=faked.env,
        )  # fmt: skip
        assert "1970-01-01" in gateway.said()
        state = head_end.wait_for("mgw/v1/gw-1/state")[-1].document
        assert (state["online"], state["clock"], state["ts"][:10]) == (True, "unsynced", "1970-01-01")
        far = command(args=update_all("far", "0" * 64))
        head_end.publish("mgw/v1/gw-1/cmd/campaign.submit", json.dumps(far).encode())
        assert head_end.wait_for_reply(far["cmd_id"], b"").document["code"] == "E_CLOCK"
        order(gateway, tmp_path)  # whoever stands beside it may
        eventually(lambda: gateway.meters[0].history.blocks.total() > 3, gateway.said)
        faked.set(datetime.now(UTC))
        eventually(lambda: jobs(gateway) == {"MTR0001": "updated"}, gateway.said)
        gateway.wait_for("the clock was set")
        gateway.wait_for("the clock is synced")
        eventually(
            lambda: head_end.heard("mgw/v1/gw-1/state")[-1].document["clock"] == "synced", gateway.said
        )
        history = gateway.meters[0].history
        assert (history.initiates, history.activations, history.count(What.SECURITY)) == (1, 1, 0)
        years = [event.document["ts"][:4] for event in head_end.heard("mgw/v1/gw-1/event")]
        assert years[0] == "1970" and years[-1] != "1970" and years == sorted(years)
        assert gateway.stop() == 0


# -- openssl --------------------------------------------------------------------------------------------------


def test_an_order_that_nobody_can_prove_after_a_restart_waits_until_somebody_can(launch, tmp_path):
    tools, works = tmp_path / "tools", tmp_path / "works"
    tools.mkdir()
    openssl = tools / "openssl"
    openssl.write_text(f'#!/bin/sh\n[ -e {works} ] || kill -9 $$\nexec {shutil.which("openssl")} "$@"\n')
    openssl.chmod(0o755)
    works.touch()
    utility, root = Certified("utility"), tmp_path / "root.pem"
    root.write_bytes(utility.root)
    gateway = launch(
        meters=1, baud=2400,
        sections={"firmware": {"trust": "signed", "trusted_root": str(root)}},
        before="from gateway.daemon import process\nprocess.SIGNATURES_EVERY_S = 0.2",
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
    )  # fmt: skip
    file = tmp_path / "image"
    file.write_bytes(IMAGE)
    said = manifest(IMAGE, profiles=["virtual"], identifier="FW", version=NEW)
    with Client(gateway.socket) as client, file.open("rb") as opened:
        digest = client.ask("image.add", {"manifest": utility.enveloped(said)}, file=opened.fileno())
        client.ask("campaign.submit", update_all("c", digest["data"]["sha256"]))
    history = gateway.meters[0].history
    eventually(lambda: history.blocks.total() > 3, gateway.said)
    works.unlink()
    gateway.stop(SIGKILL)
    gateway.start()
    seen = history.blocks.total()
    eventually(lambda: ask(gateway, "campaign.list")["campaigns"][0]["paused"] == "signature", gateway.said)
    ask(gateway, "meter.probe", {"meter": "MTR0001"})
    assert history.blocks.total() == seen, "nothing of it was sent"
    works.touch()
    gateway.hurry()
    eventually(lambda: jobs(gateway) == {"MTR0001": "updated"}, gateway.said)
    assert (history.initiates, history.activations) == (1, 1)
