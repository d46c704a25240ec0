"""Meters that come and go by command while a real gateway works: only their line is left, for as long as it takes."""

from __future__ import annotations

import re
from pathlib import Path
from signal import SIGHUP, SIGKILL

import pytest
from support.orders import IMAGE, ask, jobs, order
from support.patience import PATIENCE_S, eventually
from support.running import NEW, OLD, RunningGateway

from gateway.cli.client import Client, RefusedError
from gateway.clock import SystemClock
from gateway.errors import Code
from gateway.model import MeterKeys
from gateway.store import Store

SLOW_BAUD = 2400
"""A line that takes most of a minute for the image, so that there is something to come in between."""


def take_out(gateway: RunningGateway, meter_id: str) -> dict[str, object]:
    """Of the file, not of keys.toml: the arguments that put it there again by command."""
    parts = gateway.config.read_text().split("\n\n")
    own = next(part for part in parts if f'id = "{meter_id}"' in part)
    gateway.config.write_text("\n\n".join(part for part in parts if part is not own))
    lines = own.splitlines()
    words = dict(line.split(" = ", 1) for line in lines if " = " in line)
    args: dict[str, object] = {
        key: int(text) if text.isdigit() else text == "true" if text in ("true", "false") else text.strip('"')
        for key, text in words.items()
    }
    args["meter"] = args.pop("id")
    return args


def meters(gateway: RunningGateway) -> dict[str, str]:
    return {meter["meter"]: meter["origin"] for meter in ask(gateway, "meter.list")["meters"]}


def left_out(gateway: RunningGateway) -> list[str]:
    return [out["meter"] for out in ask(gateway, "meter.list")["left_out"]]


def version(gateway: RunningGateway, meter: str) -> str:
    values = ask(gateway, "meter.read", {"meter": meter, "object": "1-0:0.2.0.255"})["values"]
    return str(values[0]["value"]["text"])


def alarms(gateway: RunningGateway) -> dict[str, str]:
    found = ask(gateway, "info.get")["now"]["alarms"]
    return {name: alarm["message"] for name, alarm in found.items()}


def test_a_meter_put_in_mid_transfer_of_its_neighbour_is_updated_and_outlives_a_kill(launch, tmp_path):
    gateway = launch(meters=2, baud=SLOW_BAUD, started=False)
    args = take_out(gateway, "MTR0002")
    gateway.start()
    history = gateway.meters[0].history
    order(gateway, tmp_path)
    eventually(lambda: history.blocks.total() > 1, gateway.said)
    assert ask(gateway, "meter.put", args) == {"meter": "MTR0002"}
    assert meters(gateway) == {"MTR0001": "configuration", "MTR0002": "state"}
    blocks = -(-len(IMAGE) // gateway.meters[0].spec.block_size)
    assert history.blocks.total() < blocks, "the transfer is over, and nothing was shown"
    gateway.hurry()
    eventually(lambda: jobs(gateway) == {"MTR0001": "updated"}, gateway.said)
    assert (history.initiates, history.blocks.total()) == (1, blocks), "the transfer was resumed"
    gateway.stop(SIGKILL)
    gateway.start()
    assert meters(gateway)["MTR0002"] == "state"
    assert version(gateway, "MTR0002") == OLD
    order(gateway, tmp_path, "second")
    eventually(lambda: jobs(gateway, "second")["MTR0002"] == "updated", gateway.said)
    assert version(gateway, "MTR0002") == NEW
    with Client(gateway.socket) as client:
        assert (
            client.ask("campaign.get", {"campaign_id": "second"})["data"]["campaign"]["state"] == "succeeded"
        )
    ask(gateway, "meter.delete", {"meter": "MTR0002"})
    with pytest.raises(RefusedError, match="no meter MTR0002"):
        version(gateway, "MTR0002")
    assert gateway.stop() == 0


def test_a_stored_meter_that_does_not_fit_waits_with_an_alarm_until_it_does(launch):
    gateway = launch(meters=2, started=False)
    with_it = gateway.config.read_text()
    args = take_out(gateway, "MTR0002")
    without_it = gateway.config.read_text()
    gateway.start()
    ask(gateway, "meter.put", args)
    for text, fits in ((with_it, False), (without_it, True)):
        gateway.config.write_text(text)
        ask(gateway, "agent.reload")
        assert left_out(gateway) == ([] if fits else ["MTR0002"])
        assert ("meters" in alarms(gateway)) is not fits
        assert meters(gateway)["MTR0002"] == ("state" if fits else "configuration")
        assert version(gateway, "MTR0002") == OLD
    gateway.config.write_text(re.sub("rs485-1", "rs485-2", without_it))
    assert gateway.stop() == 0
    gateway.start()
    assert left_out(gateway) == ["MTR0002"]
    found = alarms(gateway)["meters"]
    assert '1 stored meters are left out: meter MTR0002: port: found "rs485-1"' in found
    assert "alarm: meters: 1 stored meters are left out" in gateway.said()
    ask(gateway, "meter.put", {**args, "port": "rs485-2"})
    assert "meters" not in alarms(gateway)
    assert version(gateway, "MTR0002") == OLD
    assert gateway.stop() == 0


def held_back(go: Path, then: str) -> str:
    """Python that keeps the main thread from its orders until `go` is there, and then does `then` of `look`."""
    return (
        "import os, pathlib, signal\nfrom gateway.daemon.process import Daemon\n"
        f"look = Daemon._look_at_configuration\ngo = pathlib.Path({str(go)!r})\n"
        f"Daemon._look_at_configuration = lambda daemon: {then} if go.exists() else None\n"
    )


def test_what_was_put_when_the_power_went_is_served_from_the_next_start_on(launch, tmp_path):
    """The process ends between the reply that it is stored and the one that it is served."""
    go = tmp_path / "go"
    before = held_back(go, "os.kill(os.getpid(), signal.SIGKILL)")
    gateway = launch(meters=2, started=False, before=before)
    args = take_out(gateway, "MTR0002")
    gateway.start()
    with Client(gateway.socket) as client:
        cmd_id = client._send("meter.put", args, None)
        assert client._reply(cmd_id, PATIENCE_S)["status"] == "accepted"
    go.touch()
    gateway.wait()
    gateway._before = ""
    gateway.start()
    assert version(gateway, "MTR0002") == OLD
    assert gateway.stop() == 0


def test_a_meter_that_is_put_while_a_reload_was_ordered_takes_nothing_from_it(launch, tmp_path):
    """The main thread finds both at once."""
    go = tmp_path / "go"
    gateway = launch(meters=2, started=False, before=held_back(go, "look(daemon)"))
    args = take_out(gateway, "MTR0002")
    gateway.start()
    gateway.config.write_text(gateway.config.read_text().replace("baud = 9600", "baud = 19200"))
    with Client(gateway.socket) as client:
        cmd_id = client._send("meter.put", args, None)
        assert client._reply(cmd_id, PATIENCE_S)["status"] == "accepted"
        assert gateway.process is not None
        gateway.process.send_signal(SIGHUP)
        go.touch()
        assert client._reply(cmd_id, PATIENCE_S)["status"] == "done"
    gateway.wait_for("configuration applied: port rs485-1 changed")
    assert version(gateway, "MTR0002") == OLD
    assert gateway.stop() == 0


def test_a_meter_that_was_taken_out_while_it_was_left_alone_is_served_with_the_keys_of_a_start_since(launch):
    gateway = launch(meters=2, started=False)
    args = take_out(gateway, "MTR0002")
    store = Store(gateway.directory / "state", gateway_id="", root="", clock=SystemClock())
    store.park("MTR0002", MeterKeys(bytes(16), bytes(16)), code=Code.T_SECURITY, message="it refuses us")
    store.close()
    gateway.start()
    gateway.wait_for("unparked MTR0002: its entry in keys.toml has changed")
    ask(gateway, "meter.put", args)
    assert [meter["parked"] for meter in ask(gateway, "meter.list")["meters"]] == [None, None]
    assert gateway.stop() == 0


def test_meters_that_are_put_at_once_are_served_one_after_the_other_and_nobody_waits_for_a_sign_of_life(
    launch,
):
    never = "from gateway.daemon import process\nprocess.LIFE_EVERY_S = 1e6"
    gateway = launch(meters=4, started=False, before=never)
    args = [take_out(gateway, f"MTR000{number}") for number in (2, 3, 4)]
    gateway.start()
    with Client(gateway.socket) as client:
        for each in args:
            client._send("meter.put", each, None)
        eventually(lambda: list(meters(gateway).values()).count("state") == 3, gateway.said)
    assert gateway.stop() == 0
