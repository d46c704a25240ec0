"""The TCP wrapper: eight octets before each APDU."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.vectors import Vector, vector, vectors

from gateway.errors import LinkLostError, WireError
from gateway.wire.client import Client, Reaction
from gateway.wire.wrapper import WrapperClient, WrapperMessage, WrapperReader, encode_wrapper

REQUEST, RESPONSE = vector("wrapper-get"), vector("wrapper-resp")


def connected() -> WrapperClient:
    client = WrapperClient(client=16, server=1)
    assert client.connect() == b""
    assert client.connected
    return client


@pytest.mark.parametrize("found", vectors(kind="wrapper", valid=True), ids=str)
def test_a_message_of_the_field_is_read_and_written_again_to_the_same_octets(found: Vector):
    (message,) = WrapperReader().feed(found.octets)
    assert message.source == found.fields["source_wport"]
    assert message.destination == found.fields["dest_wport"]
    assert len(message.apdu) == found.fields["length"]
    assert message.apdu.hex() == found.fields["apdu"]
    assert found.octets[:2] == found.fields["wrapper_version"].to_bytes(2, "big")
    assert encode_wrapper(*message) == found.octets


def test_an_exchange_over_tcp():
    client: Client = connected()
    assert client.send(bytes.fromhex(REQUEST.fields["apdu"])) == REQUEST.octets
    assert client.receive(RESPONSE.octets[:9]) == Reaction()
    assert client.receive(RESPONSE.octets[9:]) == Reaction(
        b"", bytes.fromhex(RESPONSE.fields["apdu"]), heard=True
    )
    assert client.timed_out() == b""
    assert client.disconnect() == b""
    assert client.disconnected


def test_what_is_not_for_us_or_not_of_our_meter_is_dropped():
    client = connected()
    strangers = (
        encode_wrapper(2, 16, b"another device") + encode_wrapper(1, 17, b"another client") + REQUEST.octets
    )
    assert client.receive(strangers) == Reaction()
    assert client.receive(RESPONSE.octets).apdu == bytes.fromhex(RESPONSE.fields["apdu"])


def test_two_answers_in_one_read_come_one_after_the_other():
    client = connected()
    assert client.receive(encode_wrapper(1, 16, b"one") + encode_wrapper(1, 16, b"two")).apdu == b"one"
    assert client.receive(b"") == Reaction(b"", b"two", heard=False)
    assert client.receive(b"") == Reaction()


def test_after_another_version_the_stream_is_lost():
    negative = vector("wrapper-neg-version")
    assert not negative.valid
    client = connected()
    assert client.receive(RESPONSE.octets + negative.octets).heard
    with pytest.raises(LinkLostError, match="wrapper version 2"):
        client.receive(b"")
    assert client.disconnected


def test_a_new_connection_begins_without_what_was_left_of_the_old_one():
    client = connected()
    client.receive(encode_wrapper(1, 16, b"one") + encode_wrapper(1, 16, b"two") + b"\x00\x01\x00")
    client.connect()
    assert client.receive(RESPONSE.octets).apdu == bytes.fromhex(RESPONSE.fields["apdu"])


def test_without_a_connection_nothing_is_sent_and_nothing_heard():
    client = WrapperClient(16, 1)
    with pytest.raises(LinkLostError, match="connect first"):
        client.send(b"early")
    assert client.receive(RESPONSE.octets) == Reaction()


@pytest.mark.parametrize(
    ("source", "destination", "size"), [(-1, 1, 0), (1, -1, 0), (65536, 1, 0), (1, 65536, 0), (1, 1, 65536)]
)
def test_what_does_not_fit_the_header_is_refused(source: int, destination: int, size: int):
    with pytest.raises(WireError, match="65535"):
        encode_wrapper(source, destination, bytes(size))


PORTS = st.integers(0, 0xFFFF)
MESSAGES = st.lists(st.builds(WrapperMessage, PORTS, PORTS, st.binary(max_size=300)), max_size=5)


@given(MESSAGES, st.lists(st.integers(1, 50), min_size=1))
def test_any_chunking_gives_the_same_messages(messages: list[WrapperMessage], sizes: list[int]):
    stream = b"".join(encode_wrapper(*message) for message in messages)
    reader, found, at, turn = WrapperReader(), [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        found += reader.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert found == messages


@given(st.lists(st.one_of(st.binary(max_size=100), st.just(RESPONSE.octets)), max_size=5))
def test_arbitrary_octets_raise_only_wire_errors(pieces: list[bytes]):
    client = connected()
    with contextlib.suppress(WireError):
        for piece in pieces:
            client.receive(piece)
