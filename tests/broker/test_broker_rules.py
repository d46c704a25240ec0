"""The broker that docs/broker configures, by those files: what each may say and hear, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as paho
from support.certificates import LOOPBACK, Authority
from support.head_end import HeadEnd
from support.patience import eventually
from support.running import NEW, RunningGateway
from support.shim import Ours
from support.uplinked import Gateway, command, order
from support.utility import FILES, Utility

from gateway.uplink.broker import Acknowledged, Connected, Lost, Message
from gateway.uplink.uplink import REFUSED_ALARM, STATUS

ROOT = "mgw/v1"
SHA256 = "0" * 64
GATEWAYS = ("gw-001", "gw-002")
IDENTITIES = (*GATEWAYS, "head-end", "operator", "image-server", "somebody")

DOWN = {"cmd/ping", "cmd/campaign.submit"}
TOLD = {
    "state", "info", "campaign/c", "campaign/c/job/MTR0001", "progress/c/MTR0001", "event", "alarm/clock",
    "alarm/port-lost.rs485-1",
}  # fmt: skip
REPLIES = {"rsp", "rsp/desk-7/a"}
GET, BLOCK = {f"image/{SHA256}/get"}, {f"image/{SHA256}/block/0"}
NOBODYS = {"cmd", "cmd/a/b", "image", f"image/{SHA256}/block", "other", ""}
EVERYTHING = DOWN | TOLD | REPLIES | GET | BLOCK | NOBODYS
ELSEWHERE = {"mgw/v2/gw-001/cmd/ping", "cmd/ping", "mgw/v1/cmd/ping", "anything"}


def of(*gateways: str, topics: set[str]) -> set[str]:
    return {f"{ROOT}/{gateway}/{topic}".rstrip("/") for gateway in gateways for topic in topics}


MAY_SAY = {
    "gw-001": of("gw-001", topics=TOLD | REPLIES | GET),
    "gw-002": of("gw-002", topics=TOLD | REPLIES | GET),
    "head-end": of(*GATEWAYS, topics=DOWN),
    "operator": set(),
    "image-server": of(*GATEWAYS, topics=BLOCK),
    "somebody": set(),
}
MAY_HEAR = {
    "gw-001": of("gw-001", topics=DOWN | BLOCK),
    "gw-002": of("gw-002", topics=DOWN | BLOCK),
    "head-end": of(*GATEWAYS, topics=TOLD | REPLIES),
    "operator": of(*GATEWAYS, topics=TOLD),
    "image-server": of(*GATEWAYS, topics=GET),
    "somebody": set(),
}


def come(utility: Utility, name: str, topic_filter: str = "") -> Ours:
    client_id = f"{name}-{uuid.uuid4()}"
    ours = Ours(utility.url, client_id=client_id, keeps_session=False, **utility.identity(name))
    ours.connect(topic_filter)
    return ours


def says(ours: Ours, topic: str, payload: bytes = b"1") -> bool:
    """Whether the broker takes it."""
    number = ours.broker.publish(Message(topic, payload))
    acknowledged = ours.wait(Acknowledged)
    assert acknowledged.mid == number
    return acknowledged.reason < 0x80


# -- the matrix: everybody, every topic -----------------------------------------------------------------------


@pytest.mark.parametrize("name", IDENTITIES)
def test_each_may_say_what_is_theirs_and_nothing_else(utility: Utility, name: str) -> None:
    ours = come(utility, name)
    said = {topic for topic in sorted(of(*GATEWAYS, topics=EVERYTHING) | ELSEWHERE) if says(ours, topic)}
    ours.broker.disconnect()
    assert said == MAY_SAY[name]


def test_each_hears_what_is_theirs_and_nothing_else_whatever_they_subscribe_to(utility: Utility) -> None:
    listeners = {name: come(utility, name, "#") for name in IDENTITIES}
    speakers = {name: come(utility, name) for name in IDENTITIES if MAY_SAY[name]}
    # What somebody may not hear would have come before the second round of what the same speaker says.
    for payload in (b"first", b"second"):
        for name, speaker in speakers.items():
            assert all(says(speaker, topic, payload) for topic in sorted(MAY_SAY[name]))
    for name, ours in listeners.items():

        def heard(payload: bytes, ours: Ours = ours) -> set[str]:
            return {one.topic for one in ours.delivered if one.payload == payload}

        ours.wait_until(lambda heard=heard, name=name: heard(b"second") >= MAY_HEAR[name])
        assert heard(b"first") == MAY_HEAR[name]
        ours.broker.disconnect()
    for speaker in speakers.values():
        speaker.broker.disconnect()


def test_a_subscription_to_the_commands_of_another_hears_none_of_them(utility: Utility) -> None:
    other = come(utility, "gw-002", f"{ROOT}/gw-001/cmd/+")
    other.broker.subscribe(f"{ROOT}/gw-002/cmd/+")
    head_end = come(utility, "head-end")
    assert says(head_end, f"{ROOT}/gw-001/cmd/ping", b"not for you")
    assert says(head_end, f"{ROOT}/gw-002/cmd/ping", b"for you")
    other.wait_until(lambda: bool(other.delivered))
    assert [one.payload for one in other.delivered] == [b"for you"]
    other.broker.disconnect()
    head_end.broker.disconnect()


# -- who comes in at all --------------------------------------------------------------------------------------


def test_nobody_comes_in_without_a_certificate_of_the_authority(utility: Utility, tmp_path: Path) -> None:
    stranger = Authority(tmp_path).sign("gw-001")
    late = utility.authority.sign("gw-001", age_days=3)
    for files in ({}, {"cert_file": stranger[0], "key_file": stranger[1]},
                  {"cert_file": late[0], "key_file": late[1]}):  # fmt: skip
        ours = Ours(utility.url, ca_file=utility.authority.file, username="gw-001", password="x", **files)
        ours.broker.connect()
        ours.wait(Lost)


def test_a_certificate_that_was_withdrawn_lets_nobody_in_after_sighup(tmp_path: Path) -> None:
    utility = Utility(tmp_path)
    utility.look_at_revocations()
    with utility:
        files = utility.identity("gw-001")
        assert says(come(utility, "gw-002"), f"{ROOT}/gw-002/state")

        def is_let_in() -> bool:
            ours = Ours(utility.url, client_id="gw-001", keeps_session=False, **files)
            ours.broker.connect()
            ours.wait_until(lambda: any(isinstance(event, Connected | Lost) for event in ours.events))
            ours.broker.drop()
            return isinstance(ours.events[0], Connected)

        assert is_let_in()
        utility.revoke(files["cert_file"])
        eventually(lambda: not is_let_in())
        assert says(come(utility, "gw-002"), f"{ROOT}/gw-002/state")


def test_a_name_that_a_user_gives_counts_for_nothing_beside_the_certificate(utility: Utility) -> None:
    ours = Ours(utility.url, username="head-end", password="x", **utility.identity("gw-001"))
    ours.connect()
    assert not says(ours, f"{ROOT}/gw-001/cmd/ping")
    assert says(ours, f"{ROOT}/gw-001/state")
    ours.broker.disconnect()


def test_a_certificate_must_have_the_gateways_id_as_its_name(utility: Utility, tmp_path: Path) -> None:
    """It is told what the broker refuses, until somebody gives it the right one."""
    gateway = Gateway(tmp_path / "state", utility.url, **utility.identity("gw-001"))
    gateway.start()
    eventually(lambda: REFUSED_ALARM in gateway.board.values("alarm"))
    alarm = gateway.board.values("alarm")[REFUSED_ALARM]
    assert alarm["topic"].startswith("mgw/v1/gw/") and "not authorized" in alarm["message"]
    gateway.stop()


# -- the gateway itself, under these rules --------------------------------------------------------------------


BASE = f"{ROOT}/gw-001"


def test_an_update_with_its_image_goes_over_this_broker_and_uses_every_right(
    utility: Utility, gateway: RunningGateway, tmp_path: Path
) -> None:
    file = tmp_path / "image.bin"
    file.write_bytes(bytes(range(256)) * 32)
    told = [
        f"{ROOT}/+/{topic}"
        for topic in ("rsp/#", "state", "info", "campaign/#", "progress/#", "event", "alarm/#")
    ]
    with (
        HeadEnd(utility.port, *told, tls=utility.identity("head-end")) as head_end,
        served(utility, file) as offer,
    ):
        wait_until_online(head_end)
        image = {"sha256": offer["sha256"], "size": offer["size"], "url": "mqtt:"}
        document = command(
            args={
                "campaign_id": "c",
                "image": image,
                "identifier": "FW",
                "expect_version": NEW,
                "targets": "all",
            }
        )
        head_end.publish(f"{BASE}/cmd/campaign.submit", json.dumps(document).encode(), correlation=b"7")
        assert head_end.wait_for_reply(document["cmd_id"], b"7").document["status"] == "accepted"
        eventually(
            lambda: any(one.document["state"] == "succeeded" for one in head_end.heard(f"{BASE}/campaign/c")),
            gateway.said,
        )
        retained = command(args={})
        head_end.publish(f"{BASE}/cmd/ping", json.dumps(retained).encode(), retain=True)
        reply = head_end.wait_for_reply(retained["cmd_id"], b"").document
        assert (reply["status"], reply["code"]) == ("rejected", "E_SCHEMA")
        head_end.publish(f"{BASE}/cmd/ping", b"", retain=True)
    log = utility.log()
    assert not re.findall(r"Denied PUBLISH from (?:mgw-gw-001|mgw-serve|head-end \().*", log)
    said = set(re.findall(r"Received PUBLISH from mgw-gw-001(?:-bulk)? \(.*?'([^']+)'", log))
    rights = re.findall(r"^pattern write (\S+)", (FILES / "meter-gateway.acl").read_text(), re.MULTILINE)
    unused = [
        right
        for right in rights
        if "progress" not in right  # told now and then, of what takes its time
        and not any(paho.topic_matches_sub(right.replace("%u", "gw-001"), topic) for topic in said)
    ]
    assert not unused, said


@contextmanager
def served(utility: Utility, file: Path) -> Iterator[Any]:
    """`image serve` by its own identity; what it said first."""
    options = [
        option
        for key, path in utility.identity("image-server").items()
        for option in (f"--{key.replace('_', '-')}", str(path))
    ]
    words = ["image", "serve", str(file), "--broker", utility.url, "--gateway", "all", "--json", *options]
    with subprocess.Popen([sys.executable, "-m", "gateway", *words], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


def wait_until_online(head_end: HeadEnd) -> None:
    eventually(lambda: any(one.document["online"] for one in head_end.heard(f"{BASE}/state")))


def test_what_is_ordered_while_a_gateway_is_away_outlasts_a_restart_of_the_broker(tmp_path: Path) -> None:
    with Utility(tmp_path / "utility") as utility:
        gateway = Gateway(tmp_path / "state", utility.url, **utility.identity("gw"))
        gateway.start()
        gateway.wait_until_it_hears()
        with HeadEnd(utility.port, f"{ROOT}/gw/rsp", tls=utility.identity("head-end")) as head_end:
            gateway.stop()
            sent = [order(head_end, "ping") for _ in range(30)]
            utility.stop()
            utility.start()
            gateway.begin_again()
            replies = head_end.wait_for(f"{ROOT}/gw/rsp", len(sent))
            assert [one.document["cmd_id"] for one in replies] == sent
        gateway.stop()


def test_a_gateway_that_is_gone_without_a_word_is_told_by_its_will(utility: Utility) -> None:
    listener = come(utility, "operator", f"{ROOT}/+/state")
    gateway = Ours(utility.url, client_id="gone", keeps_session=False, **utility.identity("gw-002"))
    gateway.broker.connect(Message(f"{ROOT}/gw-002/state", b"gone"))
    gateway.wait(Connected)
    gateway.broker.drop()
    listener.wait_until(
        lambda: (f"{ROOT}/gw-002/state", b"gone") in [(d.topic, d.payload) for d in listener.delivered]
    )
    listener.broker.disconnect()


def test_a_head_end_that_was_away_hears_everything_and_not_the_first_thousand(utility: Utility) -> None:
    topic = f"{ROOT}/gw-002/event"
    away = Ours(utility.url, client_id="away", **utility.identity("head-end"))
    away.connect(f"{ROOT}/+/event")
    away.broker.disconnect()
    gateway = come(utility, "gw-002")
    numbers = [str(number).encode() for number in range(1500)]
    for place in range(0, len(numbers), 10):
        for number in numbers[place : place + 10]:
            gateway.broker.publish(Message(topic, number))
        for _ in range(10):
            assert gateway.wait(Acknowledged).reason < 0x80
    gateway.broker.disconnect()
    away.connect()
    away.wait_until(lambda: len(away.delivered) >= len(numbers))
    assert [one.payload for one in away.delivered] == numbers
    away.broker.disconnect()


def test_a_broker_with_another_certificate_is_not_believed_and_told_until_it_has_a_good_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The good one comes with SIGHUP, without a restart of the broker or of anybody else."""
    with Utility(tmp_path / "utility") as utility:
        gateway = Gateway(tmp_path / "state", utility.url, **utility.identity("gw"))
        gateway.start()
        gateway.wait_until_it_hears()
        utility.stop()
        utility.renew(*Authority(tmp_path / "stranger").sign(LOOPBACK))
        utility.start()
        eventually(lambda: "certificate does not hold" in gateway.board.values("uplink")[STATUS]["reason"])
        utility.renew(*utility.authority.sign(LOOPBACK))
        eventually(lambda: gateway.board.values("uplink")[STATUS]["online"])
        gateway.stop()
    assert caplog.text.count("its certificate does not hold") == 1
