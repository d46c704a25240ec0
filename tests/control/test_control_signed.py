"""Orders that must carry an operator's signature: whoever holds the broker cannot give one."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.desk import CONFIG, GATEWAY_ID, LOCAL, MQTT, SHA256, URL, Desk, memory_directory, order
from support.signed import COMMAND_TYPE, MANIFEST_TYPE, Signatory, enveloped, p256

from gateway.control.envelope import COMMAND_LIMIT_BYTES
from gateway.control.signed import sign_command
from gateway.errors import Code
from gateway.model import CommandSettings, ReplyStatus
from gateway.signing import KeyKind, generate, read_public_key
from gateway.supply.manifest import MANIFEST_LIMIT_BYTES

ACCEPTED, DONE, REJECTED = ReplyStatus.ACCEPTED, ReplyStatus.DONE, ReplyStatus.REJECTED
OPERATOR, SECOND, STRANGER = Signatory("operator"), p256("second"), Signatory("stranger")
SUBMIT = "campaign.submit"


def wanting(*verbs: str, by=(OPERATOR,), threshold: int = 1) -> CommandSettings:
    keys = tuple(signatory.trusted for signatory in by)
    return CommandSettings(signed_verbs=verbs, trusted_keys=keys, threshold=threshold)


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path, replace(CONFIG, commands=wanting("campaign.*")))
    yield desk
    desk.close()


def signed(
    desk, *by: Signatory, verb=SUBMIT, gateway=GATEWAY_ID, kind=COMMAND_TYPE, args=None, **changes
) -> bytes:
    command = desk.envelope(verb, order() if args is None else args, **changes)
    return envelope_of(command, *by, verb=verb, gateway=gateway, kind=kind)


def envelope_of(command, *by: Signatory, verb=SUBMIT, gateway=GATEWAY_ID, kind=COMMAND_TYPE) -> bytes:
    content = {"gateway": gateway, "verb": verb, "command": command}
    return json.dumps(enveloped(content, *(by or (OPERATOR,)), kind=kind)).encode()


def refused(reply, code, message):
    assert (reply.status, reply.code) == (REJECTED, code), reply.message
    assert message in reply.message


def test_an_operators_signed_order_is_done_and_the_audit_names_the_key(desk):
    reply = desk.give(signed(desk), MQTT, SUBMIT)
    assert reply.status is ACCEPTED, reply.message
    event = next(told for topic, told in desk.outbox() if topic == "event" and told["campaign_id"] == "fw-1")
    assert event["who"].startswith("mqtt, signed by operator.pem (")


def test_what_is_signed_here_is_what_the_gateway_takes(tmp_path):
    """The other side of it, which the command line uses."""
    key = generate(KeyKind.P256)
    commands = CommandSettings(
        signed_verbs=("campaign.*",),
        trusted_keys=(replace(OPERATOR.trusted, spki=read_public_key(key.public_pem())),),
    )
    desk = Desk(tmp_path, replace(CONFIG, commands=commands))
    document = sign_command(GATEWAY_ID, SUBMIT, desk.envelope(SUBMIT, order()), [key])
    assert desk.give(json.dumps(document).encode(), MQTT, SUBMIT).status is ACCEPTED
    desk.close()


def test_unsigned_orders_come_over_the_socket_alone(desk):
    refused(desk.send(SUBMIT, order(), origin=MQTT), Code.E_AUTH, "must be signed")
    assert desk.store.campaigns() == []
    assert desk.send(SUBMIT, order(), origin=LOCAL).status is ACCEPTED
    assert desk.send("ping", origin=MQTT).status is DONE, "it is not among the signed verbs"


REFUSED = {
    "by a stranger": ({"by": [STRANGER]}, "signed by 0"),
    "by nobody": ({"by": []}, "signed by 0"),
    "for another gateway": ({"gateway": "gw-2"}, "signed for gateway 'gw-2', this is 'gw-1'"),
    "as a manifest": ({"kind": MANIFEST_TYPE}, "the envelope holds"),
    "under another topic": ({"topic": "campaign.cancel"}, "signed for verb 'campaign.submit'"),
    "with another verb inside": ({"inner": "campaign.cancel"}, "signed for verb 'campaign.submit'"),
}


@pytest.mark.parametrize(("case", "message"), REFUSED.values(), ids=REFUSED)
def test_a_signature_is_for_one_gateway_one_verb_and_one_command(desk, case, message):
    command = desk.envelope(case.get("inner", SUBMIT), order())
    content = {"gateway": case.get("gateway", GATEWAY_ID), "verb": SUBMIT, "command": command}
    document = enveloped(content, *case.get("by", [OPERATOR]), kind=case.get("kind", COMMAND_TYPE))
    reply = desk.give(json.dumps(document).encode(), MQTT, case.get("topic", SUBMIT))
    refused(reply, Code.E_AUTH, message)
    assert reply.cmd_id == command["cmd_id"], "whoever asked learns which of his orders it was"
    assert desk.store.campaigns() == []


def test_a_changed_command_is_not_what_was_signed(desk):
    document = json.loads(signed(desk))
    other = json.loads(signed(desk, args=order(targets="all")))
    reply = desk.give(json.dumps({**document, "payload": other["payload"]}).encode(), MQTT, SUBMIT)
    refused(reply, Code.E_AUTH, "signed by 0")


def test_two_operators_have_to_sign_where_two_are_wanted(tmp_path):
    desk = Desk(tmp_path, replace(CONFIG, commands=wanting(SUBMIT, by=(OPERATOR, SECOND), threshold=2)))
    for by in ([OPERATOR], [OPERATOR, OPERATOR], [SECOND, STRANGER]):
        refused(desk.give(signed(desk, *by), MQTT, SUBMIT), Code.E_AUTH, "expected 2 different ones")
    assert desk.give(signed(desk, SECOND, OPERATOR), MQTT, SUBMIT).status is ACCEPTED
    desk.close()


# -- replay --------------------------------------------------------------------------------------------------------


def test_a_signed_order_that_comes_again_is_answered_and_not_done_again(desk):
    raw = signed(desk)
    first = desk.give(raw, MQTT, SUBMIT)
    desk.send("campaign.cancel", {"campaign_id": "fw-1"})
    told = desk.give(raw, MQTT, SUBMIT)
    assert told.cmd_id == first.cmd_id
    assert told.status is ReplyStatus.FAILED, "what became of it"
    assert len(desk.store.campaigns()) == 1


def test_a_signed_order_that_was_held_back_expires(desk):
    raw = signed(desk)
    desk.clock.advance(timedelta(hours=1).total_seconds())
    refused(desk.give(raw, MQTT, SUBMIT), Code.E_EXPIRED, "expired")


def test_a_signed_order_is_not_done_while_nobody_can_tell_how_old_it_is(desk):
    desk.clock_says = "unsynced"
    refused(desk.give(signed(desk), MQTT, SUBMIT), Code.E_CLOCK, "synchronised")


def test_an_id_cannot_be_used_up_by_whoever_cannot_sign(desk):
    """Whoever sees a signed order go by may try to be first with its id."""
    command = desk.envelope(SUBMIT, order())
    bare = json.dumps(command).encode()
    for raw in (bare, envelope_of(command, STRANGER), envelope_of(command, gateway="gw-2")):
        refused(desk.give(raw, MQTT, SUBMIT), Code.E_AUTH, "signed")
    assert desk.give(envelope_of(command), MQTT, SUBMIT).status is ACCEPTED
    refused(desk.give(bare, MQTT, SUBMIT), Code.E_AUTH, "must be signed")


def test_the_biggest_manifest_fits_into_a_signed_order(desk):
    payload = b" " * MANIFEST_LIMIT_BYTES
    image = {"sha256": SHA256, "url": URL, "manifest": enveloped(payload, *[OPERATOR] * 16)}
    raw = signed(desk, *[OPERATOR] * 16, args=order(image=image))
    assert len(raw) <= COMMAND_LIMIT_BYTES
    refused(desk.give(raw, MQTT, SUBMIT), Code.E_SCHEMA, "the manifest is no JSON")


# -- what nobody asked for -----------------------------------------------------------------------------------------


def test_a_signature_that_nobody_asked_for_is_checked_all_the_same(desk, tmp_path):
    ping = {"verb": "ping", "args": {}}
    assert desk.give(signed(desk, **ping), MQTT, "ping").status is DONE
    refused(desk.give(signed(desk, STRANGER, **ping), MQTT, "ping"), Code.E_AUTH, "signed by 0")
    assert desk.give(signed(desk, **ping), LOCAL).status is DONE
    refused(desk.give(signed(desk, STRANGER, **ping), LOCAL), Code.E_AUTH, "signed by 0")


def test_a_signature_does_not_let_in_what_is_not_for_mqtt(desk):
    raw = signed(desk, verb="counter.adopt", args={"meter": "MTR1", "counter": 5})
    refused(desk.give(raw, MQTT, "counter.adopt"), Code.E_AUTH, "not allowed over MQTT")


def test_a_retained_order_is_not_done_signed_or_not(desk):
    refused(desk.give(signed(desk), replace(MQTT, retained=True), SUBMIT), Code.E_SCHEMA, "retained")


@pytest.mark.parametrize("payload", [
    b"", b"{", b"[]", b'{"gateway":"gw-1","gateway":"gw-1"}', b'{"gateway":"gw-1"}', b"\xff",
    b'{"gateway":"gw-1","verb":"ping","command":{},"more":1}', b'{"gateway":"gw-1","verb":"ping","command":[]}',
    b'{"gateway":"gw-1","verb":[],"command":{}}', b'{"gateway":"gw-1","verb":"ping","command":{"args":NaN}}',
])  # fmt: skip
def test_a_signed_payload_that_is_no_command_is_refused(desk, payload):
    raw = json.dumps(enveloped(payload, OPERATOR, kind=COMMAND_TYPE)).encode()
    for origin, verb in ((MQTT, "ping"), (LOCAL, None)):
        reply = desk.give(raw, origin, verb)
        assert (reply.status, reply.cmd_id) == (REJECTED, None)
        assert reply.code in (Code.E_SCHEMA, Code.E_AUTH)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def one_desk():
    """One for all examples: what they do to it must not matter either."""
    with memory_directory() as directory:
        desk = Desk(directory, replace(CONFIG, commands=wanting("campaign.*")))
        yield desk
        desk.close()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["payloadType", "payload", "signatures", "cms"]), JSON, st.booleans())
def test_an_envelope_with_one_arbitrary_field_is_refused_and_nothing_else(one_desk, name, value, inside):
    """Of the command's own envelope, or of the manifest's in it."""
    image = {"sha256": SHA256, "url": URL, "manifest": enveloped(b"{}", OPERATOR)}
    if inside:
        image["manifest"] |= {name: value}
    document = json.loads(signed(one_desk, args=order(image=image)))
    changed = document if inside else document | {name: value}
    assert one_desk.give(json.dumps(changed).encode(), MQTT, SUBMIT).status is REJECTED


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_anything_that_an_operator_signs_is_answered(one_desk, content):
    raw = json.dumps(enveloped(json.dumps(content).encode(), OPERATOR, kind=COMMAND_TYPE)).encode()
    assert one_desk.give(raw, MQTT, SUBMIT).status is REJECTED
