"""A test bench for meters: a small client on `gateway.wire`, without the care of a real session, so that what a meter
does can be seen one request at a time."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from gateway.link.port import Port
from gateway.model import Authentication, Framing, Security
from gateway.simulator import MeterSpec
from gateway.wire import apdu as pdu
from gateway.wire import association as acse
from gateway.wire import axdr
from gateway.wire import image_transfer as it
from gateway.wire.client import Client
from gateway.wire.hdlc import Parameters
from gateway.wire.hdlc_client import PROPOSAL, HdlcClient
from gateway.wire.initiate import Conformance, InitiateRequest, decode_initiate, encode_initiate
from gateway.wire.security import Protection, check_gmac_proof, gmac_proof
from gateway.wire.wrapper import WrapperClient

TITLE = b"MGW\x00\x00\x00\x00\x01"
CHALLENGE = b"client challenge"
DEDICATED_KEY = bytes(range(0x30, 0x40))
LDN = pdu.Attribute(1, pdu.obis("0-0:42.0.0.255"), 2)
FIRMWARE = pdu.Attribute(1, pdu.obis("1-0:0.2.0.255"), 2)
COUNTER = pdu.Attribute(1, pdu.obis("0-0:43.1.1.255"), 2)
CLOCK = pdu.Attribute(8, pdu.obis("0-0:1.0.0.255"), 2)
REPLY_TO_HLS = pdu.Method(15, pdu.obis("0-0:40.0.0.255"), 1)
CONFORMANCE = Conformance.GET | Conformance.SET | Conformance.ACTION | Conformance.BLOCK_TRANSFER_WITH_GET


class NoAnswerError(Exception):
    """The meter did not answer in `patience` tries."""


@dataclass
class Bench:
    """One client, one meter (as its spec says), one port."""

    port: Port
    spec: MeterSpec
    client: int | None = None
    framing: Framing = Framing.HDLC
    proposal: Parameters | None = PROPOSAL
    max_pdu: int = 0xFFFF
    conformance: Conformance = CONFORMANCE
    dedicated: bool = False
    password: bytes | None = None
    encryption_key: bytes | None = None
    authentication_key: bytes | None = None
    title: bytes = TITLE
    counter: int = 100
    timeout_s: float = 1.0
    patience: int = 3
    invoke: pdu.Invoke = field(default_factory=pdu.Invoke)
    protection: Protection | None = None

    def __post_init__(self) -> None:
        sap = self.spec.client if self.client is None else self.client
        self.public = sap != self.spec.client
        self.link: Client
        if self.framing is Framing.WRAPPER:
            self.link = WrapperClient(sap, self.spec.address.upper)
        else:
            self.link = HdlcClient(
                self.spec.address,
                sap,
                proposal=self.proposal or PROPOSAL,
                send_parameters=self.proposal is not None,
            )

    # -- link

    def connect(self) -> Bench:
        self._converse(self.link.connect(), lambda: self.link.connected)
        return self

    def disconnect(self) -> None:
        self._converse(self.link.disconnect(), lambda: self.link.disconnected)

    def _converse(self, write: bytes, done) -> None:
        tries = self.patience
        while True:
            if write:
                self.port.write(write)
            if done():
                return
            octets = self.port.read(65536, self.timeout_s)
            if octets:
                write = self.link.receive(octets).write
                continue
            tries -= 1
            if not tries:
                raise NoAnswerError
            write = self.link.timed_out()

    def raw(self, apdu: bytes) -> bytes:
        """An APDU and the one that answers it, as they are on the line."""
        write, tries = self.link.send(apdu), self.patience
        while True:
            if write:
                self.port.write(write)
            octets = self.port.read(65536, self.timeout_s)
            if octets:
                reaction = self.link.receive(octets)
                if reaction.apdu is not None:
                    if reaction.write:
                        self.port.write(reaction.write)
                    return reaction.apdu
                write = reaction.write
                continue
            tries -= 1
            if not tries:
                raise NoAnswerError
            write = self.link.timed_out()

    # -- association

    def next_counter(self) -> int:
        self.counter += 1
        return self.counter

    def associate(self) -> Bench:
        """Everything until the association is open, as the spec wants it."""
        aare = self.aarq()
        assert aare.result == 0, aare
        if self.authentication is Authentication.HLS_GMAC:
            assert aare.diagnostic == 14
            answer = self.reply_to_hls(aare)
            assert answer.result == 0, answer
            check_gmac_proof(
                answer.data.value, title=aare.responding_title, challenge=CHALLENGE, **self._keys()
            )
        return self

    @property
    def authentication(self) -> Authentication:
        return Authentication.NONE if self.public else self.spec.authentication

    @property
    def ciphered(self) -> bool:
        return not self.public and self.spec.security is not Security.NONE

    def _keys(self) -> dict[str, bytes]:
        keys = self.spec.keys
        return {
            "encryption_key": keys.encryption_key if self.encryption_key is None else self.encryption_key,
            "authentication_key": keys.authentication_key
            if self.authentication_key is None
            else self.authentication_key,
        }

    def aarq(self, **changes) -> acse.Aare:
        """Send an AARQ; `changes` are fields of it that shall be other than right."""
        aare = acse.decode_aare(self.raw(self.encoded_aarq(**changes)))
        if aare.result == 0 and self.protection:
            self.protection.peer_title = aare.responding_title
            decode_initiate(self.protection.open(aare.initiate))
        return aare

    def encoded_aarq(self, **changes) -> bytes:
        """An AARQ as `aarq` sends it, with a protection and a counter of its own."""
        dedicated_key = DEDICATED_KEY if self.dedicated else b""
        initiate = encode_initiate(InitiateRequest(self.conformance, self.max_pdu, dedicated_key))
        hls = self.authentication is Authentication.HLS_GMAC
        if self.ciphered:
            security = self.spec.security
            self.protection = Protection(
                **self._keys(),
                own_title=self.title,
                authenticated=security is not Security.ENCRYPTION,
                encrypted=security is not Security.AUTHENTICATION,
                dedicated_key=dedicated_key or None,
                general=self.spec.general,
            )
            initiate = self.protection.seal(initiate, self.next_counter())
        right = {
            "context": acse.Context.LN_CIPHERED if self.ciphered else acse.Context.LN,
            "initiate": initiate,
            "mechanism": {
                Authentication.NONE: acse.Mechanism.NONE,
                Authentication.LLS: acse.Mechanism.LLS,
                Authentication.HLS_GMAC: acse.Mechanism.GMAC,
            }[self.authentication],
            "authentication_value": CHALLENGE
            if hls
            else self.spec.keys.password
            if self.password is None
            else self.password,
            "calling_title": self.title if hls or self.ciphered else b"",
        }
        return acse.encode_aarq(acse.Aarq(**right | changes))

    def reply_to_hls(self, aare: acse.Aare, *, outer_first: bool = False) -> pdu.Apdu:
        outer = self.next_counter() if outer_first else None
        proof = gmac_proof(
            title=self.title, counter=self.next_counter(), challenge=aare.challenge, **self._keys()
        )
        request = pdu.ActionRequest(self.invoke, REPLY_TO_HLS, axdr.octet_string(proof))
        return self.ask(request, counter=outer)

    # -- services

    def ask(self, request: pdu.Apdu, *, counter: int | None = None) -> pdu.Apdu:
        plain = pdu.encode(request)
        if self.protection is None:
            return pdu.decode(self.raw(plain))
        sealed = self.protection.seal(plain, self.next_counter() if counter is None else counter)
        return pdu.decode(self.protection.open(self.raw(sealed)))

    def get(self, attribute: pdu.Attribute):
        """The value, or the result that came instead."""
        answer = self.ask(pdu.GetRequest(self.invoke, attribute))
        if not isinstance(answer, pdu.GetBlockResponse):
            return answer.result.value if isinstance(answer.result, axdr.Data) else answer.result
        raw, self.blocks_read = answer.raw, 1
        while not answer.last:
            answer = self.ask(pdu.GetNextRequest(self.invoke, answer.number))
            raw, self.blocks_read = raw + answer.raw, self.blocks_read + 1
        return axdr.decode(raw).value

    def image(self, number: int):
        """An attribute of the Image Transfer object."""
        return self.get(it.attribute(it.DEFAULT_INSTANCE, number))

    def act(self, number: int, data: axdr.Data | None = None) -> int:
        """A method of the Image Transfer object."""
        method = it.method(it.DEFAULT_INSTANCE, number)
        return self.ask(
            pdu.ActionRequest(self.invoke, method, axdr.integer(0) if data is None else data)
        ).result

    def initiate(self, image: bytes, identifier: bytes = b"fw") -> int:
        return self.act(it.INITIATE, it.initiate_data(identifier, len(image)))

    def block(self, image: bytes, number: int, size: int | None = None) -> int:
        size = size or self.spec.block_size
        return self.act(it.BLOCK_TRANSFER, it.block_data(number, image[number * size :][:size]))

    def missing(self, image: bytes) -> list[int]:
        """The blocks that the bitmap does not show."""
        count = -(-len(image) // self.spec.block_size)
        there = it.blocks_from_bits(self.image(it.BLOCKS_STATUS), count)
        return [number for number in range(count) if not there[number // 8] & 0x80 >> number % 8]

    def send_all(self, image: bytes) -> None:
        """Initiate, and blocks until none is missing."""
        assert self.initiate(image) == 0
        while missing := self.missing(image):
            for number in missing:
                assert self.block(image, number) == 0


def an_image(size: int = 2000) -> bytes:
    """Octets without a pattern, the same for the same size."""
    return random.Random(size).randbytes(size)
