"""Campaigns that wait, as an operator orders, watches and decides about them: with a daemon and virtual meters."""

from __future__ import annotations

import csv
import io
import json
import os
from datetime import UTC, datetime, timedelta

import pytest
from support.orders import update_all
from support.patience import eventually
from support.running import NEW, OLD, RunningGateway

from gateway.cli import main
from gateway.cli.client import Client

NEVER_SOON = datetime.now(UTC) + timedelta(hours=6)
WINDOWS = {
    "windows.later": {
        "start": f"{NEVER_SOON:%H:%M}", "duration": "1h", "timezone": "UTC", "cutoff": "10min",
    },
    "windows.always": {"start": "00:00", "duration": "24h", "timezone": "UTC", "drain": "0s"},
}  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """Meters on a line without speed, one for each test that changes one; the seventh and the last are locked."""
    directory = tmp_path_factory.mktemp("gateway")
    locked = {"transfer_enabled": False}
    running = RunningGateway(directory, meters=11, sections=WINDOWS, changes={6: locked, 10: locked})
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture
def submit(type_in, tmp_path):
    """Order an update."""

    def run(campaign_id: str, *options: str, size: int = 3000) -> tuple[int, str, str]:
        file = tmp_path / "image"
        file.write_bytes(os.urandom(size))
        digest = type_in("image", "add", str(file))[1].split()[0]
        order = ("--id", campaign_id, "--sha256", digest, "--identifier", "FW", "--expect-version", NEW)
        return type_in("campaign", "submit", *order, *options)

    return run


def shown(type_in, campaign_id):
    """The campaign and its jobs."""
    return json.loads(type_in("campaign", "show", campaign_id, "--json")[1])


def until_paused(type_in, campaign_id, why):
    eventually(
        lambda: shown(type_in, campaign_id)["campaign"]["paused"] == why,
        lambda: shown(type_in, campaign_id),
    )


def versions(gateway, *numbers):
    return [gateway.meters[number - 1].version for number in numbers]


def test_a_campaign_waits_for_its_window_and_says_when_it_opens(type_in, submit):
    options = ("--meter", "MTR0001", "--window", "later", "--not-after", "2099-01-01T00:00:00+02:00")
    assert submit("by-night", *options)[0] == 0
    until_paused(type_in, "by-night", "window")
    opens = f"{NEVER_SOON.astimezone():%a %Y-%m-%d %H:%M %Z}"
    for words in (("status",), ("campaign", "ls"), ("campaign", "show", "by-night")):
        out = type_in(*words)[1]
        assert "paused (window)" in out
        assert f"waits for its window, goes on at {opens}" in out
    assert shown(type_in, "by-night")["campaign"]["not_after"] == "2098-12-31T22:00:00.000Z"
    assert type_in("campaign", "resume", "by-night")[2].startswith(
        "meter-gateway: E_STATE: campaign by-night goes on by itself: it is paused (window)"
    )
    assert type_in("campaign", "cancel", "by-night")[:2] == (0, "campaign by-night: cancelled\n")


def test_windows_and_their_next_opening_are_shown(type_in):
    for words in (("status",), ("window", "ls")):
        lines = type_in(*words)[1].splitlines()
        (later,) = [line for line in lines if line.startswith("later ")]
        assert "every day" in later
        assert f"opens {NEVER_SOON:%a %Y-%m-%d %H:%M} UTC" in later
        (always,) = [line for line in lines if line.startswith("always ")]
        assert "open until" in always
    assert json.loads(type_in("window", "ls", "--json")[1])["clock_trusted"] is True
    assert len(json.loads(type_in("status", "--json")[1])["windows"]) >= 2


def test_a_window_is_set_and_one_of_the_configuration_is_not(type_in):
    options = ("--start", "02:30", "--duration", "90min", "--day", "sat", "--day", "sun")
    status, out, _ = type_in("window", "set", "weekend", *options, "--timezone", "Europe/Helsinki")
    assert (status, "window weekend is set" in out) == (0, True)
    assert "sat sun 02:30 for 1 h 30 min, Europe/Helsinki" in type_in("window", "ls")[1]
    status, _, err = type_in("window", "set", "later", *options)
    assert (status, "E_STATE: window later stands in the configuration" in err) == (1, True)
    status, _, err = type_in("window", "set", "x", *options, "--timezone", "Europe/Atlantis")
    assert (status, "E_SCHEMA" in err, "Europe/Atlantis" in err) == (1, True, True)


def test_nothing_is_activated_before_somebody_approves(gateway, type_in, submit):
    assert submit("by-hand", "--meter", "MTR0002", "--activate", "manual")[0] == 0
    until_paused(type_in, "by-hand", "approval")
    assert versions(gateway, 2) == [OLD]
    out = type_in("campaign", "show", "by-hand")[1]
    assert "manual, not approved yet" in out
    assert "goes on by: campaign approve" in out
    assert type_in("campaign", "approve", "by-hand")[:2] == (0, "campaign by-hand: activation is approved\n")
    status, out, _ = type_in("campaign", "watch", "by-hand")
    assert (status, out.splitlines()[-1]) == (0, "campaign by-hand: succeeded, 1 updated")
    assert versions(gateway, 2) == [NEW]
    (row,) = [line for line in type_in("campaign", "ls")[1].splitlines() if line.startswith("by-hand ")]
    assert row.count("1 updated") == 1


def test_a_transfer_is_paused_and_resumed_and_the_watcher_hears_why(gateway, type_in, submit):
    """Paused before anything of it went: its meter waits for an hour."""
    assert submit("held", "--meter", "MTR0003", "--window", "later")[0] == 0
    assert type_in("campaign", "pause", "held")[:2] == (0, "campaign held: paused (operator)\n")
    shows = type_in("campaign", "show", "held")[1]
    assert "paused by an operator, goes on by: campaign resume" in shows
    assert type_in("campaign", "resume", "held")[0] == 0
    until_paused(type_in, "held", "window")
    assert type_in("campaign", "cancel", "held")[0] == 0
    status, out, _ = type_in("campaign", "watch", "held")
    assert (status, out.splitlines()[-1]) == (1, "campaign held: cancelled, 1 cancelled")


def test_a_bad_canary_stops_the_others_and_is_tried_again(gateway, type_in, submit):
    options = ("--meter", "MTR0007", "--meter", "MTR0004", "--meter", "MTR0005", "--canary", "1")
    more = ("--wave", "1", "--max-failures", "0", "--soak", "1s")
    assert submit("waves", *options, *more)[0] == 0
    until_paused(type_in, "waves", "failures")
    out = type_in("campaign", "show", "waves")[1]
    assert "1 first and 1 s of soak, 1 at a time, at most 0 failures" in out
    assert "MTR0007" in out
    assert "goes on by: campaign retry, or campaign resume" in out
    assert versions(gateway, 4, 5) == [OLD, OLD]
    gateway.meters[6].image.enabled = True
    assert type_in("campaign", "retry", "waves")[:2] == (0, "campaign waves: tries again: MTR0007\n")
    status, out, _ = type_in("campaign", "watch", "waves")
    assert (status, out.splitlines()[-1]) == (0, "campaign waves: succeeded, 3 updated")


def test_an_update_goes_by_its_window_and_a_window_of_activation(gateway, type_in, tmp_path):
    file = tmp_path / "FW.bin"
    file.write_bytes(os.urandom(3000))
    options = ("--window", "always", "--activate", "window:always")
    assert type_in("update", "MTR0006", str(file), *options)[0] == 0
    assert versions(gateway, 6) == [NEW]


def test_an_activation_in_the_future_waits_for_its_time(gateway, type_in, submit):
    assert submit("at", "--meter", "MTR0008", "--activate", "at:2099-01-01T01:00:00+01:00")[0] == 0
    eventually(lambda: shown(type_in, "at")["jobs"][0]["state"] == "awaiting_activation")
    assert shown(type_in, "at")["campaign"]["activation"]["at"] == "2099-01-01T00:00:00.000Z"
    assert "activation  from " in type_in("campaign", "show", "at")[1]
    assert type_in("campaign", "cancel", "at")[0] == 0
    assert versions(gateway, 8) == [OLD]


BAD_ORDERS = {
    "no such window": (("--window", "night"), "W_NONE: args.window: no window night; known: always, later"),
    "no window for the activation": (("--activate", "window:dawn"), "W_NONE"),
    "over before it began": (("--not-after", "2020-01-01T00:00:00Z"), "E_SCHEMA: args.not_after"),
    "soak without a canary": (("--soak", "24h"), "E_SCHEMA: args.canary_soak"),
    "activation after its end": (
        ("--activate", "at:2099-01-02T00:00:00Z", "--not-after", "2099-01-01T00:00:00Z"), "E_SCHEMA",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "complaint"), BAD_ORDERS.values(), ids=BAD_ORDERS)
def test_an_order_that_cannot_be_is_refused_with_1(submit, options, complaint):
    status, _, err = submit("bad", "--meter", "MTR0009", *options)
    assert (status, complaint in err) == (1, True), err


@pytest.fixture
def ended(type_in, submit):
    """A campaign that was taken back, of this test or of one before it."""
    if submit("ended", "--meter", "MTR0009", "--window", "later")[0] == 0:
        assert type_in("campaign", "cancel", "ended")[0] == 0


BAD_DECISIONS = {
    "resume of what nobody knows": (("resume", "nothing"), "E_NOT_FOUND: no campaign nothing"),
    "pause of what has ended": (("pause", "ended"), "E_STATE: campaign ended has ended: cancelled"),
    "resume of what has ended": (("resume", "ended"), "E_STATE: campaign ended has ended: cancelled"),
    "approval that nobody waits for": (("approve", "ended"), "E_STATE"),
    "retry of what has ended": (("retry", "ended"), "E_STATE"),
}


@pytest.mark.parametrize(("words", "complaint"), BAD_DECISIONS.values(), ids=BAD_DECISIONS)
def test_a_decision_that_does_not_fit_is_refused_with_1(type_in, ended, words, complaint):
    status, _, err = type_in("campaign", *words)
    assert (status, complaint in err) == (1, True), err


@pytest.mark.parametrize(
    "options",
    [
        ("--activate", "tomorrow"),
        ("--activate", "at:"),
        ("--activate", "meter:"),
        ("--activate", "at:2099-01-01T00:00:00"),
        ("--activate", "manual:x"),
        ("--not-after", "noon"),
        ("--canary", "0"),
        ("--wave", "-1"),
    ],
)
def test_words_that_mean_nothing_are_wrong_usage(type_in, options):
    order = ("--id", "c", "--sha256", "0" * 64, "--identifier", "x", "--all")
    status, _, err = type_in("campaign", "submit", *order, *options)
    assert (status, "Error: Invalid value" in err) == (2, True), err


# -- what became of it ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def over(tmp_path_factory):
    """A gateway with a campaign that has ended: two meters updated, one locked, at 115200 baud."""
    directory = tmp_path_factory.mktemp("over")
    changes = {1: {"transfer_enabled": False}, 2: {"version": "=1+1"}}
    running = RunningGateway(directory, meters=3, baud=115200, changes=changes)
    here = ("--config", str(running.config))
    file = directory / "FW.bin"
    file.write_bytes(os.urandom(5000))
    try:
        running.start()
        with Client(running.socket) as client, file.open("rb") as opened:
            digest = client.ask("image.add", file=opened.fileno())["data"]["sha256"]
            client.ask("campaign.submit", update_all("c", digest))
        assert main(["campaign", "watch", "c", *here]) == 1
        yield running
    finally:
        running.close()


@pytest.fixture
def report(over, capsys):
    def run(*options: str) -> tuple[int, str, str]:
        status = main(["campaign", "report", "c", *options, "--config", str(over.config)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_a_report_says_of_every_meter_what_became_of_it(report):
    status, out, _ = report("--json")
    document = json.loads(out)
    assert (status, document["ended"], document["campaign"]["state"]) == (0, True, "partial")
    one, locked, other = document["meters"]
    assert (one["state"], one["version_before"], one["version_after"]) == ("updated", OLD, NEW)
    assert one["started_at"] < one["activated_at"] < one["finished_at"]
    assert one["bytes_sent"] == 5000
    assert (one["blocks_sent"], one["blocks_resent"]) == (one["blocks_total"], 0)
    assert one["bytes_per_s"] == round(5000 / one["transfer_s"], 1)
    assert 100 < one["bytes_per_s"] < 11520, "slower than the line, which takes 10 bits for an octet"
    assert one["delivery"] == "unicast"
    assert (locked["state"], locked["code"], locked["bytes_per_s"]) == ("failed", "T_DISABLED", None)
    assert "enable it in the meter" in locked["advice"]
    totals = document["totals"]
    assert (totals["meters"], totals["bytes_sent"]) == (3, 10_000)
    assert totals["blocks_sent"] == one["blocks_sent"] + other["blocks_sent"]
    assert totals["started_at"] == min(meter["started_at"] for meter in document["meters"])


def test_a_report_for_a_spreadsheet_has_a_line_for_each_meter_and_no_formula(report):
    status, out, _ = report("--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (status, [row["state"] for row in rows]) == (0, ["updated", "failed", "updated"])
    assert {row["campaign_id"] for row in rows} == {"c"}
    assert rows[0]["version_after"] == NEW
    assert rows[1]["code"] == "T_DISABLED"
    assert rows[2]["version_before"] == "'=1+1"


def test_a_report_is_a_page_to_read(report):
    status, out, _ = report()
    assert (status, report("--text")) == (0, (0, out, ""))
    assert out.startswith("Campaign c: partial, 1 failed, 2 updated\n")
    assert "10000 bytes in " in out
    assert f"{OLD} -> {NEW}" in out
    assert "MTR0002: T_DISABLED: " in out
    assert "enable it in the meter" in out


def test_a_report_comes_in_one_form(report):
    status, _, err = report("--csv", "--json")
    assert (status, "Say one of" in err) == (2, True)


def test_a_report_of_what_goes_on_says_so(type_in, submit):
    assert submit("going-on", "--meter", "MTR0009", "--window", "later")[0] == 0
    until_paused(type_in, "going-on", "window")
    assert "It goes on: this is how it stands now." in type_in("campaign", "report", "going-on")[1]
    assert json.loads(type_in("campaign", "report", "going-on", "--json")[1])["ended"] is False
    assert type_in("campaign", "cancel", "going-on")[0] == 0


# -- a dry run ------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_done_and_does_nothing(gateway, type_in, submit):
    status, out, _ = submit("dry", "--meter", "MTR0010", "--meter", "MTR0011", "--dry-run", "--watch")
    assert status == 1, "the locked one would fail"
    assert "MTR0010: skipped, dry run: would begin, with 12 blocks of 256 octets" in out
    assert "MTR0011: failed, T_DISABLED" in out
    assert [gateway.meters[number].history.initiates for number in (9, 10)] == [0, 0]
    assert "dry run     yes" in type_in("campaign", "show", "dry")[1]
    page = type_in("campaign", "report", "dry")[1]
    assert "MTR0010: dry run: would begin" in page
    (row,) = [line.split() for line in page.splitlines() if line.startswith("MTR0010 ")]
    assert row[:8] == ["MTR0010", "skipped", "yes", OLD, "not_initiated", "yes", "256", row[7]]
    free, locked = csv.DictReader(io.StringIO(type_in("campaign", "report", "dry", "--csv")[1]))
    assert (free["found_block_size"], free["found_blocks_left"]) == ("256", "12")
    assert float(free["found_estimate_s"]) > 0
    assert (locked["found_enabled"], locked["found_reachable"]) == ("False", "True")
    found = json.loads(type_in("campaign", "report", "dry", "--json")[1])["meters"][0]["findings"]
    assert (found["status"], found["version"]) == ("not_initiated", OLD)
