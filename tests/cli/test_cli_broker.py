"""The command line over a broker: the same commands, to a gateway far away. With a daemon, a real broker and virtual
meters."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support import desk
from support.broker import Mosquitto, password_file
from support.head_end import HeadEnd
from support.one_version import OneVersion
from support.patience import PATIENCE_S, eventually
from support.running import NEW, RunningGateway

from gateway.cli import broker_client, client, main
from gateway.cli.root import Exit
from gateway.clock import SystemClock
from gateway.model import CampaignState, JobState, MqttSettings
from gateway.signing import KeyKind, generate
from gateway.simulator.clock import VirtualClock
from gateway.store.documents import campaign_document, encoded, job_document
from gateway.uplink import head_end as uplink_head_end
from gateway.uplink.broker import Message
from gateway.uplink.paho_broker import PahoBroker

BASE = "mgw/v1/gw-1"
OPERATOR = generate(KeyKind.P256)
ONLINE = {"v": 1, "online": True, "session": "5c1f" * 4, "ts": "2026-11-22T20:00:00.000Z", "clock": "synced"}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, mosquitto: Mosquitto) -> Iterator[RunningGateway]:
    """Online."""
    directory = tmp_path_factory.mktemp("gateway")
    operator = directory / "operator.pem"
    operator.write_bytes(OPERATOR.public_pem())
    soon = datetime.now(UTC) + timedelta(hours=6)
    sections = {
        "gateway": {"id": "gw-1"},
        "mqtt": {"url": mosquitto.url},
        "commands": {
            "mqtt_verbs": [
                "ping",
                "info.get",
                "port.*",
                "meter.*",
                "image.*",
                "campaign.*",
                "window.list",
                "event.*",
            ],
            "signed_verbs": ["campaign.retry"],
            "trusted_keys": [str(operator)],
        },
        "windows.later": {"start": f"{soon:%H:%M}", "duration": "1h", "timezone": "UTC"},
    }
    running = RunningGateway(directory, meters=6, sections=sections)
    try:
        running.start()
        until_online(mosquitto)
        yield running
    finally:
        running.close()


def until_online(mosquitto: Mosquitto, gateway: str = "gw-1") -> None:
    topic = f"mgw/v1/{gateway}/state"
    with HeadEnd(mosquitto.port, topic, client_id=f"looks-for-{gateway}") as head_end:
        eventually(lambda: any(one.document["online"] for one in head_end.heard(topic)))


@pytest.fixture
def far(gateway: RunningGateway, mosquitto: Mosquitto, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command line with the broker's options after it."""

    def run(*words: str, gateway: str = "gw-1") -> tuple[int, str, str]:
        status = main([*words, "--broker", mosquitto.url, "--gateway", gateway])
        out, err = capsys.readouterr()
        return status, out, err

    return run


SAME = [
    ("meters",),
    ("meters", "--json"),
    ("probe", "MTR0001"),
    ("probe", "MTR9999"),
    ("read", "MTR0001", "1/0-0:42.0.0.255:2", "--json"),
    ("events", "-n", "0"),
    ("scan", "virtual", "--from", "17", "--to", "18", "--timeout", "50ms", "--json"),
    ("port", "hold", "nowhere", "--for", "1min"),
    ("port", "release", "virtual"),
    ("image", "ls"),
    ("image", "show", "0000"),
    ("campaign", "ls"),
    ("campaign", "show", "nothing"),
    ("campaign", "report", "nothing"),
    ("campaign", "pause", "nothing"),
    ("campaign", "watch", "nothing"),
    ("window", "ls"),
    ("window", "ls", "--json"),
    ("campaign", "submit", "--id", "c", "--sha256", "0" * 64, "--identifier", "FW", "--meter", "MTR9999"),
]


@pytest.mark.parametrize("words", SAME, ids=" ".join)
def test_a_command_says_the_same_over_the_broker_as_over_the_socket(
    words: tuple[str, ...], type_in: Run, far: Run
) -> None:
    there, here = far(*words), type_in(*words)
    assert _without_what_differs(there) == _without_what_differs(here)


def _without_what_differs(said: tuple[int, str, str]) -> list[object]:
    """From one command to the next: ids, and counters of the meters and their line, which every look moves."""
    status, out, err = said
    try:
        return [status, err, _shape(json.loads(out))]
    except ValueError:
        return [status, *(re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+%", "", text) for text in (out, err))]


def _shape(document: object) -> object:
    """Its names, and what is no number."""
    match document:
        case {"figures": _, **others}:
            return _shape(others)
        case {"cmd_id": _, **others}:
            return _shape(others)
        case dict():
            return {name: _shape(value) for name, value in document.items()}
        case list():
            return [_shape(value) for value in document]
        case bool():
            return document
        case int() | float():
            return 0
        case _:
            return document


def test_status_and_ports_tell_of_the_gateway_and_not_of_this_machine(far: Run) -> None:
    status, out, _ = far("status")
    assert (status, "gateway    gw-1" in out, "6 idle" in out) == (0, True, True)
    status, out, err = far("ports")
    assert (status, err) == (0, "")
    assert "the devices of a machine are seen there alone" in out
    assert json.loads(far("ports", "--json")[1])["devices"] == []
    assert "is not there" not in out


# -- a meter is updated ---------------------------------------------------------------------------------------


def firmware(directory: Path) -> Path:
    file = directory / f"FW-{os.urandom(4).hex()}.bin"
    file.write_bytes(os.urandom(40_000))
    return file


def test_update_serves_the_image_and_watches_to_the_end(
    far: Run, gateway: RunningGateway, tmp_path: Path
) -> None:
    status, out, err = far("update", "MTR0001", str(firmware(tmp_path)), "--expect-version", NEW)
    assert (status, err) == (0, "")
    assert gateway.meters[0].version == NEW
    lines = out.splitlines()
    assert any(line.startswith("MTR0001: updated, 1.0.0 -> 2.0.0") for line in lines)
    assert lines[-1].endswith("succeeded, 1 updated")


def test_an_order_is_given_decided_about_watched_and_reported_from_afar(
    far: Run, type_in: Run, gateway: RunningGateway, tmp_path: Path
) -> None:
    digest = type_in("image", "add", str(firmware(tmp_path)))[1].split()[0]
    order = ("--sha256", digest, "--identifier", "FW", "--meter", "MTR0002", "--activate", "manual")
    status, out, _ = far("campaign", "submit", "--id", "by-hand", *order)
    assert (status, out.splitlines()) == (
        0, ["campaign by-hand: accepted; see: meter-gateway campaign watch by-hand --gateway gw-1"],
    )  # fmt: skip
    show = ("campaign", "show", "by-hand", "--json")
    eventually(lambda: json.loads(far(*show)[1])["campaign"]["paused"] == "approval")
    assert far("campaign", "submit", "--id", "by-hand", *order)[2].startswith("meter-gateway: E_CONFLICT: ")
    assert far("campaign", "approve", "by-hand")[0] == 0
    status, out, err = far("campaign", "watch", "by-hand", "--json")
    assert (status, err) == (0, "")
    last = json.loads(out.splitlines()[-1])
    assert (last["campaign"]["state"], [job["state"] for job in last["jobs"]]) == ("succeeded", ["updated"])
    assert gateway.meters[1].version == NEW
    for words in (("report", "by-hand", "--csv"), ("report", "by-hand"), ("show", "by-hand")):
        assert far("campaign", *words) == type_in("campaign", *words)


@pytest.fixture(scope="module")
def large(mosquitto: Mosquitto) -> None:
    """A campaign of a gateway, as it stays at the broker: more than a broker holds back for one subscriber, and more
    than fits one reply."""
    now = SystemClock().now()
    order = replace(
        desk.campaign(VirtualClock(), *(f"MTR{number:05d}" for number in range(1500)), id="large"),
        state=CampaignState.SUCCEEDED, finished_at=now,
    )  # fmt: skip
    ended = {"state": JobState.UPDATED, "version_after": NEW, "finished_at": now, "message": "said " * 100}
    told = {
        f"campaign/large/job/{job.meter_id}": job_document(replace(job, **ended), ts=now)
        for job in desk.jobs_of(order)
    }
    told["campaign/large"] = campaign_document(order, {JobState.UPDATED: len(told)}, ts=now)
    assert sum(len(encoded(document)) for document in told.values()) > 1 << 20
    with HeadEnd(mosquitto.port, "nothing", client_id="gw-8") as teller:
        for topic, document in {"state": ONLINE, **told}.items():
            teller.publish(f"mgw/v1/gw-8/{topic}", encoded(document), qos=0, retain=True)


@pytest.mark.parametrize("what", ["show", "report", "watch"])
def test_a_campaign_of_any_size_is_read_where_it_is_retained(
    what: str, far: Run, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_client, "QUIET_S", PATIENCE_S)  # all of it is there, however slow the broker
    status, out, err = far("campaign", what, "large", "--json", gateway="gw-8")
    assert (status, err) == (0, "")
    document = json.loads(out)
    told = document["meters" if what == "report" else "jobs"]
    assert [one["meter"] for one in told] == document["campaign"]["meters"]
    assert {one["state"] for one in told} == {"updated"}


def test_an_order_is_signed_for_the_gateway_that_it_goes_to(far: Run, tmp_path: Path) -> None:
    key = tmp_path / "operator.key"
    key.write_bytes(OPERATOR.pem())
    key.chmod(0o600)
    retry = ("campaign", "retry", "never-ordered")
    assert "E_AUTH: campaign.retry over MQTT must be signed" in far(*retry)[2]
    assert "E_NOT_FOUND" in far(*retry, "--sign-with", str(key))[2]


def test_a_watch_outlives_the_gateway_and_ends_by_ctrl_c(
    far: Run, mosquitto: Mosquitto, gateway: RunningGateway, type_in: Run, tmp_path: Path
) -> None:
    digest = type_in("image", "add", str(firmware(tmp_path)))[1].split()[0]
    order = ("--sha256", digest, "--identifier", "FW", "--meter", "MTR0005", "--window", "later")
    assert far("campaign", "submit", "--id", "by-night", *order)[0] == 0
    command = [sys.executable, "-m", "gateway", "campaign", "watch", "by-night", "--gateway", "gw-1"]
    with (tmp_path / "said").open("w") as said:
        watching = subprocess.Popen([*command, "--broker", mosquitto.url], stdout=said, stderr=said)

    def until(words: str) -> None:
        eventually(lambda: words in (tmp_path / "said").read_text(), (tmp_path / "said").read_text)

    until("MTR0005: queued")
    gateway.stop()
    until("gateway gw-1 is offline; it was connected at ")
    gateway.start()
    until_online(mosquitto)
    assert far("campaign", "resume", "by-night")[0] == 1
    watching.send_signal(signal.SIGINT)
    assert watching.wait(PATIENCE_S) == Exit.INTERRUPTED
    until("Look again: meter-gateway campaign watch by-night --gateway gw-1")
    assert far("campaign", "cancel", "by-night")[:2] == (0, "campaign by-night: cancelled\n")


def test_a_broker_of_mqtt_3_1_1_carries_the_same_commands(
    gateway: RunningGateway, mosquitto: Mosquitto, type_in: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with OneVersion(mosquitto.port) as old:
        status = main(["probe", "MTR0006", "--broker", old.url, "--gateway", "gw-1"])
    assert (status, capsys.readouterr().out) == type_in("probe", "MTR0006")[:2]


# -- what is not done, and why --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, instead",
    [
        (("image", "add", __file__), "`image serve`"),
        (("counter", "adopt", "MTR0001", "7"), "at the gateway"),
        (("trace", "rs485-1"), "at the gateway"),
    ],
)
def test_what_needs_the_machine_is_refused_before_anything_is_sent(
    words: tuple[str, ...], instead: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--broker", "mqtt://127.0.0.1:9", "--gateway", "gw-1"]) == Exit.FAILED
    err = capsys.readouterr().err
    assert err.startswith("meter-gateway: E_AUTH: ")
    assert instead in err


def test_a_verb_that_the_gateway_does_not_let_in_is_not_sent(far: Run, mosquitto: Mosquitto) -> None:
    status, _, err = far("window", "set", "night", "--start", "22:00", "--duration", "5h")
    assert (status, "lets window.set in at its own socket alone" in err) == (Exit.FAILED, True)
    assert f"{BASE}/cmd/window.set" not in mosquitto.log()


def test_a_gateway_that_is_not_known_there_is_told_as_such(far: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_client, "RETAINED_S", 0.5)
    status, _, err = far("status", gateway="gw-9")
    assert status == Exit.NO_DAEMON
    assert "gateway gw-9 never told this broker of itself" in err


def test_a_broker_that_is_not_there_or_does_not_know_us_ends_it_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--broker", "mqtt://127.0.0.1:9", "--gateway", "gw-1"]) == Exit.NO_DAEMON
    assert "the broker at mqtt://127.0.0.1:9 was not reached: cannot connect" in capsys.readouterr().err
    users = password_file(tmp_path, "operator", "secret")
    wrong = tmp_path / "wrong"
    wrong.write_text("a wrong one\n")
    with Mosquitto(tmp_path / "strict", settings=f"allow_anonymous false\npassword_file {users}") as strict:
        options = ("--broker", strict.url, "--username", "operator", "--password-file", str(wrong))
        assert main([*options, "--gateway", "gw-1", "status"]) == Exit.NO_DAEMON
        said = capsys.readouterr()
        assert "not authori" in said.err.lower()
        assert "a wrong one" not in said.err + said.out


@pytest.mark.parametrize(
    "rules, expected",
    [
        ("topic read mgw/v1/+/state", "the broker refuses mgw/v1/gw-7/cmd/ping: not authorized 0x87"),
        ("topic read mgw/v1/+/state\ntopic write mgw/v1/+/cmd/+", "may this user read mgw/v1/gw-7/rsp/cli-"),
        ("topic write mgw/v1/+/cmd/+", "this user may not read its `state`"),
    ],
    ids=["orders are not let in", "replies are hidden", "all is hidden"],
)
def test_a_broker_that_hides_something_is_told_by_what_it_hides(
    rules: str,
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "_REPLY_TIMEOUT_S", 1.0)
    monkeypatch.setattr(broker_client, "RETAINED_S", 1.0)
    users = password_file(tmp_path, "gw-7", "secret")
    acl = f"{rules}\nuser gw-7\ntopic readwrite mgw/v1/#\n"
    settings = f"allow_anonymous true\npassword_file {users}"
    with Mosquitto(tmp_path / "broker", settings=settings, acl=acl) as strict:
        broker = PahoBroker(MqttSettings(strict.url, username="gw-7", password="secret"), "gw-7")
        itself = uplink_head_end.HeadEnd(broker, root="mgw/v1", name="gw-7", clock=SystemClock())
        itself.hear("gw-7", "cmd/+", "state")
        eventually(lambda: itself.step(0.1) or itself.up)
        broker.publish(Message("mgw/v1/gw-7/state", json.dumps(ONLINE).encode(), retain=True))
        eventually(lambda: itself.step(0.1) or itself.states)
        assert main(["status", "--broker", strict.url, "--gateway", "gw-7"]) == Exit.NO_DAEMON
        assert expected in capsys.readouterr().err
        broker.drop()


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--broker", "mqtt://127.0.0.1:9", "status"], "--gateway ID"),
        (["--gateway", "gw-1", "status"], "METER_GATEWAY_BROKER"),
        (["--gateway", "gw/1", "status"], "no gateway id"),
        (["--gateway", "all", "--gateway", "gw-1", "status"], "either all"),
        (["--gateway", "gw-1", "--broker", "mqtt://127.0.0.1:9", "check"], "works on this machine"),
        (["--gateway", "gw-*", "--broker", "mqtt://127.0.0.1:9", "meters"], "one gateway at a time"),
        (["--gateway", "gw-1", "--broker", "mqtt://192.0.2.1", "meters"], "mqtts://"),
        (["--gateway", "gw-1", "--broker", "mqtt://127.0.0.1:9", "--queue", "1s", "meters"], "expected"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_done(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == Exit.USAGE
    assert expected in capsys.readouterr().err


def test_the_broker_may_stand_in_the_environment_and_matters_only_with_a_gateway(
    gateway: RunningGateway, mosquitto: Mosquitto, type_in: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METER_GATEWAY_BROKER", mosquitto.url)
    assert "the devices of a machine" in type_in("--gateway", "gw-1", "ports")[1]
    assert "the devices of a machine" not in type_in("ports")[1]
