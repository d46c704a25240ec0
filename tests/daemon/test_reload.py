"""A new configuration while the gateway runs: checked before it is applied, and what works goes on."""

from __future__ import annotations

import time
from signal import SIGHUP

import pytest
from support.orders import IMAGE, ask, jobs, order
from support.patience import PATIENCE_S, eventually
from support.running import RunningGateway
from support.systemd import Systemd

from gateway.cli.client import Client, RefusedError
from gateway.simulator import What

LAN = """
[[ports]]
name = "lan"
kind = "tcp"
address = "192.0.2.1:4059"
framing = "wrapper"
[[meters]]
id = "LAN1"
port = "lan"
"""
SLOW_BAUD = 2400
"""A line that takes most of a minute for the image, so that there is something to come in between."""


def hang_up(gateway: RunningGateway, answer: str) -> None:
    """What `systemctl reload` does, and the line of the log that comes of it."""
    assert gateway.process is not None
    gateway.process.send_signal(SIGHUP)
    gateway.wait_for(answer)


def edit(gateway: RunningGateway, old: str, new: str) -> None:
    text = gateway.config.read_text()
    assert old in text
    gateway.config.write_text(text.replace(old, new))


def add(gateway: RunningGateway, text: str) -> None:
    gateway.config.write_text(gateway.config.read_text() + text)


def without_meter(gateway: RunningGateway, meter_id: str) -> None:
    """Take it out of both files."""
    for file in (gateway.config, gateway.config.with_name("keys.toml")):
        kept = [part for part in file.read_text().split("\n\n") if meter_id not in part]
        file.write_text("\n\n".join(kept) + "\n")


def ports(gateway: RunningGateway) -> dict[str, int]:
    """Meters on each."""
    return {port["port"]: port["meters"] for port in ask(gateway, "port.list")["ports"]}


def test_mistakes_are_all_named_and_nothing_is_changed(launch, systemd: Systemd):
    gateway = launch(env=systemd.env)
    edit(gateway, "9600", "9601")
    add(gateway, LAN + 'colour = "red"\n')
    hang_up(gateway, "goes on with the one it runs with")
    assert "ports[0].baud: found 9601" in gateway.said()
    assert "meters[2].colour: found an unknown key" in gateway.said()
    assert systemd.hear_of("RELOADING=1").splitlines()[1].startswith("MONOTONIC_USEC=")
    ready, status = systemd.hear_of("READY=1").splitlines()
    assert ready == "READY=1"
    assert "the new configuration has mistakes: " in status and "ports[0].baud: found 9601" in status
    assert "(and 1 more mistakes)" in status
    assert ports(gateway) == {"rs485-1": 2}
    edit(gateway, "9601", "9600")
    edit(gateway, 'colour = "red"\n', "")
    hang_up(gateway, "configuration applied: port lan added")
    assert "mistakes" not in systemd.hear_of("STATUS=2 ports, 3 meters")
    assert gateway.stop() == 0


def test_a_transfer_goes_on_in_its_association_while_another_port_comes_and_goes(launch, tmp_path):
    gateway = launch(meters=1, baud=SLOW_BAUD)
    history = gateway.meters[0].history
    order(gateway, tmp_path)
    eventually(lambda: history.blocks.total() > 5, gateway.said)
    associations = history.count(What.ASSOCIATED)
    text = gateway.config.read_text()
    add(gateway, LAN)
    hang_up(gateway, "configuration applied: port lan added")
    assert ports(gateway) == {"rs485-1": 1, "lan": 1}
    gateway.config.write_text(text)
    hang_up(gateway, "configuration applied: port lan removed")
    assert ports(gateway) == {"rs485-1": 1}
    assert 0 < len(history.blocks) < blocks(gateway), "the transfer is over, and nothing was shown"
    gateway.hurry()
    eventually(lambda: len(history.blocks) == blocks(gateway), gateway.said)
    assert history.count(What.ASSOCIATED) == associations
    eventually(lambda: jobs(gateway) == {"MTR0001": "updated"}, gateway.said)
    assert (history.initiates, history.blocks.total()) == (1, blocks(gateway))
    assert gateway.stop() == 0


def test_the_job_of_a_meter_that_is_gone_ends_and_its_neighbour_is_resumed(launch, tmp_path):
    gateway = launch(meters=2, baud=SLOW_BAUD)
    history = gateway.meters[0].history
    order(gateway, tmp_path)
    eventually(lambda: history.blocks.total() > 5, gateway.said)
    without_meter(gateway, "MTR0002")
    hang_up(gateway, "configuration applied: port rs485-1 changed")
    assert jobs(gateway)["MTR0002"] == "failed"
    assert "MTR0002 is no longer configured on port rs485-1" in gateway.said()
    gateway.hurry()
    eventually(lambda: jobs(gateway)["MTR0001"] == "updated", gateway.said)
    assert (history.initiates, history.count(What.SECURITY)) == (1, 0)
    assert history.blocks.total() == blocks(gateway), "what the meter had was not sent again"
    assert gateway.stop() == 0


def test_what_was_trusted_is_stopped_in_mid_transfer_when_it_is_no_longer(launch, tmp_path):
    gateway = launch(meters=1, baud=SLOW_BAUD)
    assert 'trust = "digest": whoever may order' in gateway.said(), "it says so at its start"
    history = gateway.meters[0].history
    order(gateway, tmp_path)
    eventually(lambda: history.blocks.total() > 5, gateway.said)
    edit(gateway, 'trust = "digest"', 'trust = "signed"')
    hang_up(gateway, "every image is refused")
    gateway.hurry()
    eventually(lambda: jobs(gateway) == {"MTR0001": "cancelled"}, gateway.said)
    assert "F_SIGNATURE" in gateway.said()
    assert history.activations == 0
    assert gateway.stop() == 0


def test_the_verb_says_what_was_applied_and_what_needs_a_restart(launch):
    gateway = launch()
    edit(gateway, "9600", "19200")
    edit(gateway, 'trust = "digest"', 'trust = "digest"\nquota = "9MiB"')
    edit(gateway, "require_synced_clock = false", 'require_synced_clock = false\nid = "gw-2"')
    add(gateway, '[mqtt]\nurl = "mqtt://127.0.0.1:1"\n' + LAN)
    said = ask(gateway, "agent.reload")
    assert said == {
        "applied": ["firmware", "port lan added", "port rs485-1 changed"],
        "needs_restart": ["gateway.id", "mqtt"],
    }
    assert "; restart needed for gateway.id, mqtt" in gateway.said()
    info = ask(gateway, "info.get")
    assert (info["gateway"], info["ports"], info["limits"]["firmware_bytes"]) == (
        "",
        ["rs485-1", "lan"],
        9 * 2**20,
    )
    assert ask(gateway, "agent.reload")["applied"] == []
    assert gateway.stop() == 0


def test_the_verb_fails_with_every_mistake(launch):
    gateway = launch()
    edit(gateway, "9600", "9601")
    add(gateway, LAN + 'colour = "red"\n')
    with pytest.raises(RefusedError) as refused:
        ask(gateway, "agent.reload")
    reply = refused.value.reply
    assert (reply["status"], reply["code"]) == ("failed", "E_SCHEMA")
    assert [mistake.split(": ", 1)[1][:14] for mistake in reply["data"]["mistakes"]] == [
        "ports[0].baud:",
        "meters[2].colo",
    ]
    assert ports(gateway) == {"rs485-1": 2}
    assert gateway.stop() == 0


def test_keys_that_came_after_the_start_wait_for_the_next(launch):
    gateway = launch()
    keys = gateway.config.with_name("keys.toml")
    text = keys.read_text()
    first = text.split('encryption_key = "')[1][:32]
    keys.write_text(text.replace(first, "0" * 32))
    assert ask(gateway, "agent.reload") == {"applied": [], "needs_restart": ["keys.toml"]}
    add(gateway, LAN + 'authentication = "lls"\n')
    keys.write_text(text + '[meters.LAN1]\npassword = "12345678"\n')
    with pytest.raises(RefusedError) as refused:
        ask(gateway, "agent.reload")
    assert (
        "LAN1 needs password, not there when the gateway was started: restart it"
        in refused.value.reply["message"]
    )
    assert ports(gateway) == {"rs485-1": 2}
    assert gateway.stop() == 0


def test_a_read_that_waits_for_a_port_that_goes_is_answered(launch):
    gateway = launch(response_timeout="4s")
    # A meter that hangs keeps its line, so that the second read waits.
    gateway.meters[0].reboot(time.time() + 1e6)
    with Client(gateway.socket) as first, Client(gateway.socket) as second:
        asked = [(first, "MTR0001"), (second, "MTR0002")]
        waiting = [(client, client._send("meter.probe", {"meter": meter}, None)) for client, meter in asked]
        for client, cmd_id in waiting:
            assert client._reply(cmd_id, PATIENCE_S)["status"] == "accepted"
        edit(gateway, "rs485-1", "rs485-2")
        assert ask(gateway, "agent.reload")["applied"] == ["port rs485-1 removed", "port rs485-2 added"]
        expected = ["does not answer", "MTR0002 is no longer configured on port rs485-1"]
        for (client, cmd_id), words in zip(waiting, expected, strict=True):
            with pytest.raises(RefusedError, match=words):
                client._reply(cmd_id, PATIENCE_S)
    assert gateway.stop() == 0


def blocks(gateway: RunningGateway) -> int:
    return -(-len(IMAGE) // gateway.meters[0].spec.block_size)
