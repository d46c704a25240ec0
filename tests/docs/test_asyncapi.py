"""docs/asyncapi.yaml is a good AsyncAPI document, says what the code says, and its examples are by its schemas."""

import json
import re

import pytest
import yaml
from jsonschema import Draft7Validator
from support import contract

from docs.tools import ROOT
from docs.tools._contract import CHANNELS, channel_of, references
from docs.tools.mqtt import asyncapi
from gateway.control.verbs import VERBS
from gateway.errors import Code
from gateway.model import AlarmKind, CampaignState, JobState, PausedWhy
from gateway.signing import envelope_document, read_envelope

DOCUMENT = yaml.safe_load((ROOT / "docs/asyncapi.yaml").read_text("utf-8"))
SCHEMAS = DOCUMENT["components"]["schemas"]
MESSAGES = DOCUMENT["components"]["messages"]


def test_the_file_is_what_its_generator_means():
    assert json.loads(json.dumps(asyncapi())) == DOCUMENT


def without_properties_named_id(node):
    """Debian 12's jsonschema takes the description of a property that is called $id for an identifier."""
    return {name: value for name, value in node.items() if name != "$id" or isinstance(value, str)}


def test_it_is_by_the_schema_of_asyncapi_itself():
    text = (ROOT / "tests/vectors/asyncapi-3.0.0.json").read_text("utf-8")
    official = json.loads(text, object_hook=without_properties_named_id)
    problems = [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"
        for error in Draft7Validator(official).iter_errors(DOCUMENT)
    ]
    assert not problems, problems


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_schema_is_one_that_draft_07_knows(name):
    Draft7Validator.check_schema(SCHEMAS[name])
    assert not {"$defs", "dependentRequired", "unevaluatedProperties"} & set(
        re.findall(r"\w+", str(SCHEMAS[name]))
    )


def test_every_reference_leads_somewhere():
    def follow(pointer):
        node = DOCUMENT
        for part in pointer.removeprefix("#/").split("/"):
            node = node[part]

    found = set(references(DOCUMENT))
    assert len(found) > 200
    for reference in found:
        follow(reference if reference.startswith("#") else f"#/components/schemas/{reference}")


@pytest.mark.parametrize("name, message", [
    pytest.param(name, message, id=name) for name, message in MESSAGES.items() if "examples" in message
])  # fmt: skip
def test_every_example_is_by_the_schema_of_its_message(name, message):
    schema = message["payload"]["$ref"].rpartition("/")[2]
    validator = Draft7Validator({**SCHEMAS[schema], "components": {"schemas": SCHEMAS}})
    for example in message["examples"]:
        validator.validate(example["payload"])


def test_there_is_an_example_of_everything_but_of_octets_and_signatures():
    assert {name for name, message in MESSAGES.items() if "examples" not in message} == {
        "imageBlock", "signedCommand"
    }  # fmt: skip


def test_topics_and_verbs_are_those_of_the_code():
    over_mqtt = [name for name, verb in VERBS.items() if not verb.local]
    assert DOCUMENT["channels"]["command"]["parameters"]["verb"]["enum"] == over_mqtt
    addresses = [channel["address"] for channel in DOCUMENT["channels"].values()]
    assert addresses == [f"{{root}}/{{gateway}}/{channel.address}" for channel in CHANNELS]
    ordered = {name.removeprefix("do.") for name in DOCUMENT["operations"] if name.startswith("do.")}
    assert ordered == {*over_mqtt, "signed"}
    for local in VERBS.keys() - set(over_mqtt):
        assert f"command.{local}" not in MESSAGES


def test_states_codes_and_alarms_are_those_of_the_code():
    assert SCHEMAS["campaign"]["properties"]["state"]["enum"] == list(CampaignState)
    assert SCHEMAS["job"]["properties"]["state"]["enum"] == list(JobState)
    assert SCHEMAS["campaign"]["properties"]["paused"]["enum"] == [*PausedWhy, None]
    assert set(SCHEMAS["code"]["enum"]) == {*Code, None}
    assert SCHEMAS["alarm"]["properties"]["kind"]["enum"] == list(AlarmKind)


@pytest.mark.parametrize("topic, name", [
    ("cmd/campaign.submit", "command"), ("rsp", "reply"), ("rsp/desk/7", "replyTo"), ("campaign/a", "campaign"),
    ("campaign/a/job/M", "job"), ("progress/a", "fetchProgress"), ("progress/a/M", "progress"),
    ("alarm/port-lost.rs485-1", "alarm"), (f"image/{'0' * 64}/get", "imageGet"),
])  # fmt: skip
def test_a_topic_is_of_one_channel(topic, name):
    found = channel_of(topic)
    assert found is not None and found.name == name


def test_the_schema_of_envelopes_takes_what_the_code_makes():
    from support.signed import COMMAND_TYPE, enveloped, p256

    document = enveloped(b"{}", p256("operator"), kind=COMMAND_TYPE)
    validator = Draft7Validator({**SCHEMAS["signedCommand"], "components": {"schemas": SCHEMAS}})
    validator.validate(document)
    assert envelope_document(read_envelope(document, "envelope")) == document
    assert not validator.is_valid({**document, "payloadType": "text/plain"})


def test_it_is_what_messages_are_held_against():
    assert contract.validator("event").schema["components"]["schemas"]["event"] == SCHEMAS["event"]
