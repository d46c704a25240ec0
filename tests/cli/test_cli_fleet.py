"""The command line over many gateways: two daemons with virtual meters, and others of which only the broker knows."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.broker import Mosquitto
from support.head_end import HeadEnd
from support.patience import PATIENCE_S, eventually
from support.running import NEW, RunningGateway
from support.terminal import Terminal

from gateway.cli import fleet_watch, main
from gateway.cli.client import Client
from gateway.cli.root import Exit

Run = Callable[..., tuple[int, str, str]]

OFFLINE = {
    "v": 1,
    "online": False,
    "session": "5c1f" * 4,
    "ts": "2026-11-22T20:00:00.000Z",
    "clock": "synced",
}

NEVER_SOON = {"start": f"{datetime.now(UTC) + timedelta(hours=6):%H:%M}", "duration": "1h", "timezone": "UTC"}


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture(scope="module")
def gateways(
    tmp_path_factory: pytest.TempPathFactory, mosquitto: Mosquitto
) -> Iterator[dict[str, RunningGateway]]:
    """east-1 with five meters, and east-2 with four of which the last is locked; both online."""
    running = {}
    for name, meters, changes in (("east-1", 5, {}), ("east-2", 4, {3: {"transfer_enabled": False}})):
        sections = {"gateway": {"id": name}, "mqtt": {"url": mosquitto.url}, "windows.later": NEVER_SOON}
        directory = tmp_path_factory.mktemp(name)
        running[name] = RunningGateway(directory, meters=meters, sections=sections, changes=changes)
    try:
        with HeadEnd(mosquitto.port, "mgw/v1/+/state") as head_end:
            for name, one in running.items():
                one.start()
                topic = f"mgw/v1/{name}/state"
                eventually(lambda topic=topic: any(each.document["online"] for each in head_end.heard(topic)))
        yield running
    finally:
        for one in running.values():
            one.close()


@pytest.fixture
def told(mosquitto: Mosquitto) -> Iterator[Callable[[str, Any], None]]:
    """Have something retained at the broker, for the time of a test."""
    topics: list[str] = []
    with HeadEnd(mosquitto.port, "nothing", client_id="tells") as teller:

        def tell(topic: str, document: Any) -> None:
            topics.append(topic)
            teller.publish(f"mgw/v1/{topic}", json.dumps(document).encode(), retain=True)

        yield tell
        for topic in topics:
            teller.publish(f"mgw/v1/{topic}", b"", retain=True)


@pytest.fixture
def far(gateways: dict[str, RunningGateway], mosquitto: Mosquitto, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, gateway: str = "all") -> tuple[int, str, str]:
        names = [word for name in gateway.split(",") for word in ("--gateway", name)]
        status = main([*words, "--broker", mosquitto.url, *names])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def digest(gateways: dict[str, RunningGateway], tmp_path: Path) -> str:
    """Of an image that both gateways have."""
    file = tmp_path / "image"
    file.write_bytes(os.urandom(3000))
    for one in gateways.values():
        with Client(one.socket) as client, file.open("rb") as opened:
            found = str(client.ask("image.add", file=opened.fileno())["data"]["sha256"])
    return found


def order(campaign_id: str, digest: str, *meters: str) -> tuple[str, ...]:
    given = ("campaign", "submit", "--id", campaign_id, "--sha256", digest, "--identifier", "FW")
    return (*given, "--expect-version", NEW, *meters)


def rows(out: str) -> dict[str, list[str]]:
    return {words[0]: words[1:] for line in out.splitlines() if (words := line.split())}


# -- one campaign ---------------------------------------------------------------------------------------------


def test_one_campaign_at_all_gateways_is_watched_as_one_and_has_one_report(
    far: Run, gateways: dict[str, RunningGateway], digest: str
) -> None:
    status, out, err = far(*order("fw-1", digest, "--meter", "MTR0001", "--meter", "MTR0002"), "--watch")
    assert (status, err) == (0, "")
    assert "east-1: succeeded, 2 updated" in out
    assert "east-2: succeeded, 2 updated" in out
    assert "Campaign fw-1 at 2 gateways (2 succeeded): 4 updated" in out
    *_, row = [line for line in out.splitlines() if line.startswith("east-1 ")]
    assert row.count("2 updated") == 1
    assert [one.meters[0].version for one in gateways.values()] == [NEW, NEW]
    document = json.loads(far("campaign", "report", "fw-1", "--json")[1])
    assert document["totals"] == {"gateways": 2, "meters": 4, "counts": {"updated": 4}}
    assert [one["report"]["totals"]["meters"] for one in document["gateways"]] == [2, 2]
    lines = list(csv.DictReader(io.StringIO(far("campaign", "report", "fw-1", "--csv")[1])))
    assert [(one["gateway"], one["meter"], one["state"]) for one in lines] == [
        (name, meter, "updated") for name in ("east-1", "east-2") for meter in ("MTR0001", "MTR0002")
    ]


def test_meters_that_fail_are_told_with_gateway_and_advice_and_the_others_go_on(
    far: Run, digest: str
) -> None:
    status, out, err = far(*order("fw-2", digest, "--meter", "MTR0004"), "--watch", "--json")
    assert (status, err) == (1, "")
    *changes, last = map(json.loads, out.splitlines())
    assert {one["gateway"] for one in changes} == {"east-1", "east-2"}
    assert [one["succeeded"] for one in last["gateways"]] == [True, False]
    status, out, _ = far("campaign", "show", "fw-2")
    assert status == 1
    assert "east-2   MTR0004  failed  T_DISABLED" in out
    assert "T_DISABLED: The meter does not allow image transfer" in out
    assert "campaign fw-2" not in out


def test_a_gateway_that_refuses_is_told_and_those_found_by_a_pattern_may_have_no_such_meters(
    far: Run, digest: str
) -> None:
    status, out, err = far(*order("fw-3", digest, "--meter", "MTR0005"), "--watch")
    assert (status, err) == (1, "")
    assert "east-1: succeeded, 1 updated" in out
    assert "E_NOT_FOUND: no meter MTR0005" in out
    status, out, _ = far("campaign", "report", "fw-3")
    assert (status, rows(out)["east-1"][:2], "east-2" in out) == (0, ["online", "succeeded"], False)
    status, out, _ = far("campaign", "report", "fw-3", gateway="east-1,east-2")
    assert (status, "has no such campaign" in out) == (1, True)

    status, out, err = far(*order("fw-4", digest, "--profile", "unheard-of"))
    assert (status, err) == (1, "")
    assert rows(out)["east-1"][:3] == ["nothing", "to", "do"]
    status, _, err = far(*order("fw-4", digest, "--profile", "unheard-of"), gateway="east-1,east-2")
    assert (status, err.count("E_NOT_FOUND: Check the name")) == (1, 1)


def test_a_campaign_is_decided_about_everywhere(far: Run, digest: str) -> None:
    manual = ("--meter", "MTR0003", "--activate", "manual")
    status, out, _ = far(*order("fw-5", digest, *manual), gateway="east-*")
    assert (status, rows(out)["east-2"]) == (0, ["accepted"])
    assert "see: meter-gateway campaign watch fw-5 --gateway 'east-*'" in out

    def paused() -> bool:
        document = json.loads(far("campaign", "show", "fw-5", "--json")[1])
        return all(one["report"]["campaign"]["paused"] == "approval" for one in document["gateways"])

    eventually(paused)
    status, out, _ = far("campaign", "approve", "fw-5", "--json", gateway="east-1,east-2")
    assert status == 0
    assert [one["status"] for one in json.loads(out)["gateways"]] == ["done", "done"]
    assert far("campaign", "watch", "fw-5")[0] == 0
    status, out, err = far("campaign", "cancel", "fw-5")
    assert (status, out.count("E_STATE")) == (1, 2)
    assert err.count("E_STATE: ") == 1
    assert far("campaign", "pause", "never-ordered")[0] == 1


# -- gateways that are away -----------------------------------------------------------------------------------


def test_status_has_a_line_for_each_gateway_and_asks_nobody(
    far: Run, mosquitto: Mosquitto, told: Callable[[str, Any], None]
) -> None:
    assert far("status")[0] == 0
    told("west-1/state", OFFLINE)
    told("west-2/state", OFFLINE)
    for name, port in (("west-1", "rs485-1"), ("west-2", "rs485-7")):
        alarm = {"kind": "port-lost", "message": f"port {port} is gone", "advice": "Check the cable."}
        told(f"{name}/alarm/port-lost.{port}", alarm)
    before = mosquitto.log().count("/cmd/")
    status, out, _ = far("status")
    assert status == 1
    assert rows(out)["east-1"][:1] == ["online"]
    assert rows(out)["west-1"][:2] == ["offline", "2026-11-22T20:00:00"]
    assert out.endswith(
        "west-1: port rs485-1 is gone\nwest-2: port rs485-7 is gone\nport-lost: Check the cable.\n"
    )
    document = json.loads(far("status", "--json", gateway="east-1,west-1,nobody")[1])
    assert [one["online"] for one in document["gateways"]] == [True, False, False]
    assert document["gateways"][0]["info"]["meters"] == 5
    assert mosquitto.log().count("/cmd/") == before


def test_nobody_matches(far: Run) -> None:
    status, _, err = far("status", gateway="north-*")
    assert (status, "none of the 2 gateways" in err) == (Exit.NO_DAEMON, True)


def test_a_gateway_that_is_offline_is_told_and_gets_nothing_unless_the_order_may_wait(
    far: Run,
    mosquitto: Mosquitto,
    digest: str,
    told: Callable[[str, Any], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told("west-1/state", OFFLINE)
    told("west-2/state", OFFLINE)
    submit = order("fw-6", digest, "--meter", "MTR0001", "--dry-run")
    status, out, _ = far(*submit, gateway="east-1,west-1")
    assert (status, "it was connected at 2026-11-22T20:00:00.000Z, or later; nothing was sent" in out) == (
        1,
        True,
    )
    assert "west-1/cmd" not in mosquitto.log()

    heard = ("mgw/v1/west-1/cmd/+",)
    with HeadEnd(mosquitto.port, *heard, client_id="mgw-west-1"):
        pass  # its session stays
    status, out, _ = far(*submit, "--queue", "1h", gateway="west-1,west-2")
    assert status == 1
    assert rows(out)["west-1"][0] == "queued"
    assert "the broker keeps nothing for it" in out
    status, _, err = far(*submit, "--queue", "1h", gateway="west-1")
    assert (status, "waits for it at the broker" in err) == (0, True)
    with HeadEnd(mosquitto.port, *heard, client_id="mgw-west-1") as west:
        assert west.wait_for("mgw/v1/west-1/cmd/campaign.submit", 2)[0].document["verb"] == "campaign.submit"

    monkeypatch.setattr(fleet_watch, "OFFLINE_PATIENCE_S", 0.5)
    another = order("fw-7", digest, "--meter", "MTR0002", "--dry-run", "--watch", "--queue", "1h")
    status, out, _ = far(*another, gateway="west-1,east-1")
    assert status == 1
    assert "west-1: waits for the gateway" in out
    assert rows(out)["east-1"][:2] == ["online", "succeeded"]


class Watching:
    """`campaign watch` as a process."""

    def __init__(self, directory: Path, mosquitto: Mosquitto, campaign_id: str) -> None:
        self._out, self._err = directory / "out", directory / "err"
        command = [sys.executable, "-m", "gateway", "campaign", "watch", campaign_id, "--gateway", "east-*"]
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen([*command, "--broker", mosquitto.url], stdout=out, stderr=err)

    def until(self, words: str) -> None:
        eventually(lambda: words in self.said(), self.said)

    def said(self) -> str:
        return self._out.read_text() + self._err.read_text()

    def end(self) -> int:
        return self.process.wait(PATIENCE_S)


def test_a_broker_that_goes_away_and_comes_back_is_waited_for(
    far: Run, mosquitto: Mosquitto, gateways: dict[str, RunningGateway], digest: str, tmp_path: Path
) -> None:
    far(*order("fw-8", digest, "--all", "--window", "later"))
    watching = Watching(tmp_path, mosquitto, "fw-8")
    watching.until("east-2: ")
    mosquitto.stop()
    watching.until("no connection to the broker")
    for one in gateways.values():
        with Client(one.socket) as client:
            client.ask("campaign.cancel", {"campaign_id": "fw-8"})
    mosquitto.start()
    assert watching.end() == Exit.FAILED
    assert "connected to the broker again" in watching.said()
    assert "9 cancelled" in watching.said()


def test_ctrl_c_ends_the_watching_and_not_the_work(
    far: Run, mosquitto: Mosquitto, digest: str, tmp_path: Path
) -> None:
    far(*order("fw-10", digest, "--all", "--window", "later"))
    watching = Watching(tmp_path, mosquitto, "fw-10")
    watching.until("east-2: ")
    watching.process.send_signal(signal.SIGINT)
    assert watching.end() == Exit.INTERRUPTED
    watching.until("Look again: meter-gateway campaign watch fw-10 --gateway 'east-*'")
    assert far("campaign", "cancel", "fw-10")[0] == 0
    assert far("campaign", "watch", "fw-10")[0] == 1


def test_on_a_terminal_it_is_a_picture_that_fits_and_what_is_cut_is_counted(
    far: Run, mosquitto: Mosquitto, digest: str, told: Callable[[str, Any], None]
) -> None:
    far(*order("fw-11", digest, "--all", "--window", "later"), gateway="east-*")
    topic = "mgw/v1/east-1/campaign/fw-11"
    with HeadEnd(mosquitto.port, topic, client_id="copies") as one:
        campaign = one.wait_for(topic)[0].document
    for number in range(10, 20):
        told(f"east-{number}/state", {**OFFLINE, "online": True})
        told(f"east-{number}/campaign/fw-11", campaign)
    words = ("campaign", "watch", "fw-11", "--gateway", "east-*", "--broker", mosquitto.url)
    with Terminal(*words, columns=50, lines=9) as terminal:
        terminal.wait_for("and 7 gateways more", "east-1: paused (window)")
        first, bar, *_ = terminal.lines()
        assert first == "fw-11: 0 of 12 gateways have ended"
        assert "0 %" in bar
        terminal.type(b"\x03")
        assert terminal.status() == Exit.INTERRUPTED
    assert far("campaign", "cancel", "fw-11", gateway="east-1,east-2")[0] == 0
    far("campaign", "watch", "fw-11", gateway="east-1,east-2")


# -- very many ------------------------------------------------------------------------------------------------


def test_more_gateways_than_a_broker_keeps_for_a_slow_client_are_all_found(
    far: Run, mosquitto: Mosquitto, digest: str, told: Callable[[str, Any], None]
) -> None:
    far(*order("fw-9", digest, "--meter", "MTR0001", "--dry-run"), "--watch", gateway="east-1,east-2")
    topic = "mgw/v1/east-1/campaign/fw-9"
    with HeadEnd(mosquitto.port, topic, client_id="copies") as one:
        campaign = {**one.wait_for(topic)[0].document, "meters": []}
    many = [f"many-{number:04d}" for number in range(1100)]
    for name in many:
        told(f"{name}/state", {**OFFLINE, "online": True})
        told(f"{name}/campaign/fw-9", campaign)
    document = json.loads(far("campaign", "report", "fw-9", "--json", gateway="many-*")[1])
    assert document["totals"]["gateways"] == len(many)
    assert document["totals"]["counts"] == {"skipped": len(many)}
