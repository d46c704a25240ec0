"""The JSON Schemas are good schemas, say what the code says, and come along in a package."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError
from support.desk import campaign, hold, order

from gateway.control.schema import schema
from gateway.control.verbs import VERBS
from gateway.errors import ADVICE, Code
from gateway.identifiers import identifier_octets, identifier_text
from gateway.model import TERMINAL_JOB, AlarmKind, CampaignState, Job, JobState, PausedWhy, Reply, ReplyStatus
from gateway.simulator.clock import EPOCH, VirtualClock
from gateway.store.documents import (
    ALARM_ADVICE,
    campaign_document,
    event_document,
    job_document,
    reply_document,
    reply_from,
    time_text,
)

NAMES = [
    "command", "reply", "answer", "campaign", "job", "event", "alarm", "state", "info", "progress", "fetch", "get",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_one_and_needs_nothing_but_those_beside_it(name):
    document = schema(name)
    Draft202012Validator.check_schema(document)
    refs = {part["$ref"] for part in every_object(document) if "$ref" in part}
    for ref in refs:
        assert ref.removeprefix("#/$defs/") in document["$defs"] or ref.removesuffix(".json") in NAMES


def every_object(node):
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from every_object(inner)


def test_there_is_no_schema_that_nobody_uses():
    import gateway.control

    files = Path(gateway.control.__file__).parent.glob("schemas/*")
    assert sorted(path.stem for path in files) == sorted(NAMES)


def test_schemas_and_code_name_the_same_things():
    codes = {*map(str, Code), None}
    for name in ("reply", "campaign", "job", "event"):
        assert set(schema(name)["$defs"]["code"]["enum"]) == codes
    assert schema("campaign")["properties"]["state"]["enum"] == list(CampaignState)
    assert schema("campaign")["properties"]["counts"]["propertyNames"]["enum"] == list(JobState)
    assert schema("job")["properties"]["state"]["enum"] == list(JobState)
    assert set(schema("event")["properties"]["state"]["enum"]) == {*CampaignState, *JobState, None}
    assert schema("alarm")["properties"]["kind"]["enum"] == list(AlarmKind) == list(ALARM_ADVICE)
    assert schema("reply")["properties"]["status"]["enum"] == list(ReplyStatus)
    assert schema("progress")["properties"]["state"]["enum"] == [
        state for state in JobState if state not in TERMINAL_JOB
    ]
    for one in (schema("campaign"), schema("answer")["$defs"]["held_or_not"]):
        assert one["properties"]["paused"]["enum"] == [*PausedWhy, None]
    assert schema("answer")["$defs"]["campaign_state"]["enum"] == list(CampaignState)
    assert VERBS.keys() <= schema("command")["$defs"].keys()
    assert VERBS.keys() <= schema("answer")["$defs"].keys()


def test_the_example_of_the_contract_is_by_the_schema():
    arguments = order(
        window="night", activation={"when": "at", "window": "night", "at": "2026-12-01T00:00:00Z"}, delivery="auto",
        canary=1, canary_soak="24h", wave=10, max_failures=3, priority=5, not_after="2026-12-01T00:00:00Z",
        take_over=False, dry_run=False,
    )  # fmt: skip
    whole = schema("command")
    Draft202012Validator({"$ref": "#/$defs/campaign.submit", "$defs": whole["$defs"]}).validate(arguments)


# -- documents ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", CampaignState)
def test_every_campaign_has_a_snapshot_by_the_schema(state):
    order_ = campaign(VirtualClock(), "MTR1", "MTR2", state=state, code=Code.F_NET, message="no route")
    document = campaign_document(order_, {JobState.UPDATED: 2, JobState.FAILED: 0}, ts=EPOCH)
    hold("campaign", document)
    assert document["counts"] == {"updated": 2}
    assert document["advice"] == ADVICE[Code.F_NET]


@pytest.mark.parametrize("state", JobState)
def test_every_job_has_a_snapshot_by_the_schema(state):
    job = Job("fw-1", "MTR1", "rs485-1", state=state, rev=1, finished_at=EPOCH, next_try_at=EPOCH)
    hold("job", job_document(job, ts=EPOCH))


@pytest.mark.parametrize("state", [*CampaignState, *JobState, None])
def test_every_event_is_by_the_schema(state):
    document = event_document(
        "job", epoch="e", seq=1, ts=EPOCH, who="mqtt", campaign_id="fw-1", meter_id="M", state=state
    )
    hold("event", document)


def test_a_reply_is_the_same_after_a_while_in_the_store():
    reply = Reply("id", ReplyStatus.FAILED, Code.T_SILENT, "no answer", retryable=True, data={"detail": "x"})
    assert reply_from(json.loads(json.dumps(reply_document(reply)))) == reply


@pytest.mark.parametrize("wrong", [
    {"code": "E_NONSENSE"}, {"status": "maybe"}, {"v": 2}, {"extra": 1}, {"data": []}, {"cmd_id": 5},
    {"status": "rejected"}, {"code": "E_BUSY"},
])  # fmt: skip
def test_a_reply_that_is_none_is_noticed(wrong):
    good = reply_document(Reply("id", ReplyStatus.DONE))
    hold("reply", good)
    with pytest.raises(ValidationError):
        hold("reply", good | wrong)


@pytest.mark.parametrize("octets, text", [
    (b"X3-4.1.7", "X3-4.1.7"),
    ("Zähler".encode(), "Zähler"),
    (b"hex:00", "hex:6865783a3030"),
    (b"\x00\x01", "hex:0001"),
    (b"\xff", "hex:ff"),
    (b"a\nb", "hex:610a62"),
])  # fmt: skip
def test_an_identifier_is_shown_as_it_could_be_ordered(octets, text):
    assert identifier_text(octets) == text
    assert identifier_octets(text) == octets


def test_a_pre_signed_url_keeps_its_secret():
    order_ = replace(campaign(VirtualClock()), url="https://fw.example/x3.bin?token=s3cret#also")
    document = campaign_document(order_, {}, ts=EPOCH)
    assert document["image"]["url"] == "https://fw.example/x3.bin"
    assert "s3cret" not in json.dumps(document)


def test_times_are_utc_with_milliseconds():
    assert time_text(EPOCH) == "2026-01-01T00:00:00.000Z"
    assert time_text(None) is None
