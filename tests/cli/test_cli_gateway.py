"""What an operator does at the gateway: look, probe, update, watch, cancel; with a daemon and virtual meters."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.patience import PATIENCE_S
from support.running import NEW, OLD, RunningGateway

from gateway.cli import main


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """Five meters on a line without speed, the third locked; tests that change a meter have one of their own."""
    directory = tmp_path_factory.mktemp("gateway")
    running = RunningGateway(directory, meters=5, changes={2: {"transfer_enabled": False}})
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture
def firmware(tmp_path: Path) -> Path:
    file = tmp_path / "ACM-X3_4.1.7.bin"
    file.write_bytes(os.urandom(5000))
    return file


def start(gateway: RunningGateway, *words: str, **options) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gateway", *words, "--config", str(gateway.config)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, **options)


def test_status_shows_everything_on_one_screen(type_in):
    status, out, _ = type_in("status")
    assert status == 0
    for word in ("gateway", "version", "broker", "clock", "unchecked", "meters", "rs485-1", "no alarms"):
        assert word in out
    assert len(out.splitlines()) <= 24


def test_meters_lists_those_that_are_configured(type_in):
    status, out, _ = type_in("meters")
    assert status == 0
    head, *rows = out.splitlines()
    assert head.split() == ["METER", "PORT", "ADDRESS", "CLIENT", "SECURITY", "PROFILE", "STATE"]
    assert [row.split()[:3] for row in rows] == [
        [f"MTR000{number}", "rs485-1", f"1/{16 + number}"] for number in range(1, 6)
    ]
    assert len(json.loads(type_in("meters", "--json")[1])["meters"]) == 5


def test_status_as_json_is_one_document(type_in):
    status, out, _ = type_in("status", "--json")
    assert status == 0
    document = json.loads(out)
    assert [port["port"] for port in document["ports"]] == ["rs485-1"]
    assert len(document["meters"]) == 5


def test_a_meter_is_put_shown_and_removed(gateway, type_in):
    status, out, err = type_in(
        "meters", "put", "NEW", "--port", "rs485-1", "--address", "1/99", "--client", "2"
    )
    see = f"meter-gateway read NEW --config {gateway.config}"
    assert (status, out) == (0, f"NEW is served now; see: {see}\n"), err
    row = next(line for line in type_in("meters")[1].splitlines() if line.startswith("NEW"))
    assert row.split() == ["NEW", "rs485-1", "1/99", "2", "none", "default", "idle", "put", "by", "command"]
    assert json.loads(type_in("meters", "rm", "NEW", "--json")[1]) == {"meter": "NEW"}
    assert "NEW" not in type_in("meters")[1]


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (
            ("put", "NEW", "--port", "rs485-9"),
            1,
            'port: found "rs485-9", expected the name of a port, rs485-1',
        ),
        (("put", "NEW", "--port", "rs485-1", "--address", "1/17"), 1, "than that of meter MTR0001"),
        (("put", "NEW", "--port", "rs485-1", "--address", "1-17"), 2, "such as 1/17"),
        (
            ("put", "NEW", "--port", "rs485-1", "--security", "both"),
            1,
            "keys.toml: meters.NEW.encryption_key",
        ),
        (("put", "NEW"), 2, "--port"),
        (("put", "MTR0001", "--port", "rs485-1"), 1, "E_STATE: meter MTR0001 stands in the configuration"),
        (("rm", "MTR0001"), 1, "E_STATE: meter MTR0001 stands in the configuration"),
        (("rm", "NEW"), 1, "E_NOT_FOUND: no meter NEW"),
    ],
)
def test_a_meter_that_cannot_be_put_or_removed_is_refused_with_the_reason(type_in, words, status, complaint):
    found, _, err = type_in("meters", *words)
    assert found == status
    assert complaint in err


def test_read_says_who_a_meter_is_what_it_runs_and_what_its_clock_shows(type_in):
    status, out, _ = type_in("read", "MTR0005")
    assert status == 0
    rows = [line.split(maxsplit=1) for line in out.splitlines()]
    assert out.splitlines()[0].split() == ["logical", "device", "name", "SIM0000000000005"]
    assert out.splitlines()[1].split() == ["firmware", "version", OLD]
    assert rows[2][0] == "clock"
    values = json.loads(type_in("read", "MTR0005", "--json")[1])["values"]
    assert [value["object"] for value in values] == ["0-0:42.0.0.255", "1-0:0.2.0.255", "0-0:1.0.0.255"]


@pytest.mark.parametrize(
    ("attribute", "shown"),
    [
        ("1-0:0.2.0.255:2", f"1/1-0:0.2.0.255:2  {OLD}"),
        ("0-0:44.0.0.255:5", "18/0-0:44.0.0.255:5  true"),
        ("1/0-0:42.0.0.255", "1/0-0:42.0.0.255:2  SIM0000000000005"),
    ],
)
def test_read_shows_any_attribute(type_in, attribute, shown):
    status, out, _ = type_in("read", "MTR0005", attribute)
    assert (status, out) == (0, f"{shown}\n")


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (("MTR0005", "1-0:9.9.9.255"), 1, "E_NOT_FOUND: the meter has no 1/1-0:9.9.9.255:2 for this client"),
        (("MTR0005", "0-0:40.0.0.255:7"), 1, "E_AUTH: 0-0:40.0.0.255:7 (class 15) holds a secret"),
        (("MTR0099",), 1, "E_NOT_FOUND: no meter MTR0099"),
        (("MTR0005", "energy"), 2, "expected an object and its attribute, such as 1-0:1.8.0.255:2"),
        (("MTR0005", "1-0:1.8.0.999:2"), 1, "E_SCHEMA"),
    ],
)
def test_read_says_why_there_is_nothing_to_read(type_in, words, status, complaint):
    found, _, err = type_in("read", *words)
    assert found == status
    assert complaint in err


def test_probe_shows_all_seven_attributes(type_in):
    status, out, _ = type_in("probe", "MTR0005")
    assert status == 0
    for line in (
        "logical name", "image block size", "image transferred blocks status",
        "image first not transferred block number", "image transfer enabled", "image transfer status",
        "image to activate info", "SIM0000000000005", OLD,
    ):  # fmt: skip
        assert line in out


def test_status_tells_what_went_over_a_line(type_in):
    assert type_in("probe", "MTR0005")[0] == 0

    def told():
        """Of the port since its meters were changed last; those of a meter may be from before."""
        document = json.loads(type_in("status", "--json")[1])
        (port,), meter = document["ports"], document["meters"][4]
        figures = [one.get("figures", {}).get("octets_in", 0) for one in (port, meter)]
        return figures[0] >= figures[1] > 100 and meter

    deadline_s = time.monotonic() + PATIENCE_S
    while not (meter := told()):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert meter["figures"]["last_heard"] is not None
    assert "BUSY" in type_in("status")[1]


def test_probe_of_a_meter_that_is_not_there(type_in):
    status, _, err = type_in("probe", "MTR9")
    assert status == 1
    assert "E_NOT_FOUND: no meter MTR9" in err
    assert "Check the name" in err


def test_update_puts_a_file_into_a_meter_and_the_meter_says_so(gateway, type_in, firmware):
    status, out, err = type_in("update", "MTR0001", str(firmware), "--expect-version", NEW)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[-1].endswith("succeeded, 1 updated")
    assert f"MTR0001: updated, {OLD} -> {NEW}" in lines
    meter = gateway.meters[0]
    assert meter.version == NEW
    assert meter.image.image == firmware.read_bytes()
    assert meter.image.identifier == b"ACM-X3_4.1.7"


def test_update_as_json_lines_ends_with_the_whole_truth(type_in, firmware):
    options = ("--identifier", "hex:0102", "--priority", "0", "--json")
    status, out, _ = type_in("update", "MTR0002", str(firmware), *options)
    assert status == 0
    documents = [json.loads(line) for line in out.splitlines()]
    states = [document["jobs"][0]["state"] for document in documents]
    assert states[-1] == "updated"
    assert documents[-1]["campaign"]["identifier"] == "hex:0102"
    assert documents[-1]["campaign"]["priority"] == 0
    assert len(states) == len(documents) > 1


def test_an_update_that_fails_ends_with_1_code_reason_and_advice(type_in, firmware):
    status, out, err = type_in("update", "MTR0003", str(firmware))
    assert status == 1
    assert "MTR0003: failed, T_DISABLED" in out
    assert "ended failed" in err
    assert "MTR0003: T_DISABLED: " in err
    assert "enable it in the meter" in err


def test_an_update_of_an_unknown_meter_sends_nothing(type_in, firmware):
    status, _, err = type_in("update", "MTR9", str(firmware))
    assert status == 1
    assert "E_NOT_FOUND" in err


def test_a_refusal_as_json_is_the_reply(type_in):
    status, out, err = type_in("campaign", "show", "never-ordered", "--json")
    assert status == 1
    assert json.loads(out)["code"] == "E_NOT_FOUND"
    assert "E_NOT_FOUND" in err


def test_an_added_image_is_named_by_its_digest(type_in, firmware):
    status, out, _ = type_in("image", "add", str(firmware))
    assert status == 0
    assert out == f"{hashlib.sha256(firmware.read_bytes()).hexdigest()}  5000 bytes\n"


def test_a_campaign_is_submitted_listed_shown_and_watched(type_in, firmware):
    digest = type_in("image", "add", str(firmware))[1].split()[0]
    order = ("--id", "fw-2026-11", "--sha256", digest, "--identifier", "x", "--meter", "MTR0004")
    status, out, _ = type_in("campaign", "submit", *order)
    assert status == 0
    assert "campaign watch fw-2026-11" in out
    status, out, _ = type_in("campaign", "watch", "fw-2026-11")
    assert status == 0
    assert out.splitlines()[-1] == "campaign fw-2026-11: succeeded, 1 updated"
    assert ["fw-2026-11", "succeeded"] in [
        line.split()[:2] for line in type_in("campaign", "ls")[1].splitlines()
    ]
    shown = type_in("campaign", "show", "fw-2026-11")[1]
    assert digest in shown
    assert f"updated, {OLD} -> {NEW}" in shown
    status, _, err = type_in("campaign", "submit", *order)
    assert (status, "E_CONFLICT" in err) == (1, True)
    status, _, err = type_in("campaign", "cancel", "fw-2026-11")
    assert (status, "E_STATE" in err) == (1, True)


# -- a slow line: what can be seen and stopped on the way -----------------------------------------------------


@pytest.fixture
def slow(tmp_path):
    running = RunningGateway(tmp_path, meters=1, baud=38400)
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture
def ordered(slow, firmware, capsys):
    """A campaign that takes minutes: it is under way however long a machine needs to start who looks at it."""
    firmware.write_bytes(os.urandom(1_000_000))
    here = ("--config", str(slow.config))
    assert main(["image", "add", str(firmware), *here]) == 0
    digest = capsys.readouterr().out.split()[0]
    assert (
        main(["campaign", "submit", "--id", "slow", "--sha256", digest, "--identifier", "x", "--all", *here])
        == 0
    )
    slow.wait_for("transferring")
    return slow


def test_ctrl_c_ends_the_watching_and_not_the_work(ordered):
    watching = start(ordered, "campaign", "watch", "slow", stdout=subprocess.PIPE)
    assert watching.stdout is not None
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=PATIENCE_S)
    assert watching.returncode == 130
    assert b"the daemon goes on" in err
    assert b"campaign watch slow" in err
    with_status = start(ordered, "status", stdout=subprocess.PIPE)
    assert b"running" in with_status.communicate(timeout=PATIENCE_S)[0]


def test_cancel_stops_a_transfer_and_the_watcher_hears_of_it(ordered, capsys):
    watching = start(ordered, "campaign", "watch", "slow", stdout=subprocess.PIPE)
    assert main(["campaign", "cancel", "slow", "--config", str(ordered.config)]) == 0
    out, err = watching.communicate(timeout=PATIENCE_S)
    assert watching.returncode == 1
    assert b"MTR0001: cancelled" in out
    assert b"ended cancelled" in err
    assert ordered.meters[0].version == OLD


def test_watching_outlives_a_restart_of_the_daemon(ordered):
    watching = start(ordered, "campaign", "watch", "slow", stdout=subprocess.PIPE)
    assert watching.stdout is not None
    watching.stdout.readline()
    assert ordered.stop() == 0
    ordered.log.unlink()
    ordered.start()
    assert main(["campaign", "cancel", "slow", "--config", str(ordered.config)]) == 0
    out, _ = watching.communicate(timeout=PATIENCE_S)
    assert watching.returncode == 1
    assert b"MTR0001: cancelled" in out


def test_who_ordered_and_left_takes_no_place_from_others(tmp_path, firmware, capsys):
    """The socket takes 16 clients, and a campaign takes its time."""
    gateway = RunningGateway(tmp_path, meters=17, baud=300)
    here = ("--config", str(gateway.config))
    try:
        gateway.start()
        assert main(["image", "add", str(firmware), *here]) == 0
        digest = capsys.readouterr().out.split()[0]
        for number in range(1, 18):
            order = (
                "--id",
                f"c{number}",
                "--sha256",
                digest,
                "--identifier",
                "x",
                "--meter",
                f"MTR{number:04d}",
            )
            assert main(["campaign", "submit", *order, *here]) == 0
        assert main(["status", *here]) == 0
    finally:
        gateway.close()
