"""One association with one meter, from SNRM to DISC: who both are, what may be asked, what an answer means.

A `Session` owns no thread and no state that outlives it. Whatever goes wrong below raises a `MeterError`; after
anything but an `AccessError` (the meter answered, with a refusal) the session is dead (`alive` is False) and what the
meter did with the last request is open: open a new session and survey (invariant 1).

Nothing here repeats a request: `conversation.py` does where the link's rules allow it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from gateway.clock import Clock
from gateway.errors import (
    AccessError,
    AssociationError,
    DamagedAnswerError,
    GatewayError,
    LongAnswerError,
    MeterError,
    SecurityError,
    WireError,
)
from gateway.link import refusals
from gateway.link.conversation import BUSY_LIMIT_S, EXCHANGE_LIMIT_S, Conversation
from gateway.link.counters import Counters
from gateway.link.port import Port
from gateway.model import (
    Authentication,
    Framing,
    HlsCounter,
    Meter,
    MeterKeys,
    PortSettings,
    Security,
)
from gateway.wire import apdu, association, axdr, image_transfer, security
from gateway.wire.initiate import (
    Conformance,
    InitiateRequest,
    InitiateResponse,
    decode_initiate,
    encode_initiate,
)
from gateway.wire.reader import MAX_ELEMENTS
from gateway.wire.tally import Tally
from gateway.wire.tuning import Limits, Request

MAX_ANSWER_OCTETS = 1 << 20
CHALLENGE_OCTETS = 16
CLIENT_MAX_PDU = 0xFFFF

_INVOKES = tuple(apdu.Invoke(number) for number in range(16))
_Request = apdu.GetRequest | apdu.GetNextRequest | apdu.SetRequest | apdu.ActionRequest
_Answer = apdu.GetResponse | apdu.GetBlockResponse | apdu.SetResponse | apdu.ActionResponse
_EXCEPTIONS = (b"\xd8", b"\x0e")
"""exception-response and confirmed-service-error come instead of any answer."""
_ASSOCIATION = apdu.Method(15, apdu.obis("0-0:40.0.0.255"), 1)
_CONFORMANCE = (
    Conformance.GET
    | Conformance.SET
    | Conformance.ACTION
    | Conformance.BLOCK_TRANSFER_WITH_GET
    | Conformance.PRIORITY
)


class Session:
    """A link and an association with one meter.

    `random_octets(n)` gives unpredictable octets for challenges and dedicated keys. `limits`: what is
    proposed to the meter, where that is not all that its profile allows. On `tally` is counted what is said, along with
    what other sessions with the meter say.
    """

    def __init__(
        self,
        port: Port,
        settings: PortSettings,
        meter: Meter,
        keys: MeterKeys,
        *,
        system_title: bytes,
        counters: Counters,
        clock: Clock,
        random_octets: Callable[[int], bytes],
        limits: Limits | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.alive = False
        self.largest_block = 0
        """Octets of image in one block that fit the meter's PDU, ciphering included."""
        self._settings = settings
        self._meter = meter
        self._keys = keys
        self._title = system_title
        self._counters = counters
        self._clock = clock
        self._random = random_octets
        self._invoke = 0
        self._proving = False
        self._tally = tally or Tally()
        profile = meter.profile
        self._conversation = Conversation(
            port, settings, meter, clock, tally=self._tally,
            limits=limits or Limits(profile.max_info, profile.window, profile.snrm_parameters, 0.0),
        )  # fmt: skip
        self.slow = self._conversation.slow
        self._dedicated_key = random_octets(16) if meter.dedicated_key else b""
        self._protection = self._make_protection()
        self._image = apdu.obis(meter.profile.image_object)
        self._block_request = image_transfer.BlockRequest(self._image)

    @property
    def linked(self) -> bool:
        """The link to the meter stands; over the TCP wrapper nobody knows, and it counts as standing."""
        return self._conversation.linked

    @property
    def unanswered(self) -> bool:
        """The meter has acknowledged the last request, its link is there, and nothing of an answer came."""
        return self._conversation.unanswered

    # -- what was seen of the link, to learn from, beside `slow`: see Conversation -------------------------------

    @property
    def request(self) -> Request:
        return self._conversation.request

    @property
    def untaken(self) -> bool:
        return self._conversation.untaken

    @property
    def parameters_refused(self) -> bool:
        return self._conversation.parameters_refused

    def block_s(self, size: int) -> float:
        """How long a block of so many octets takes, its acknowledgement included, if nothing is lost."""
        request = image_transfer.request_length(size, self._protection)
        return self._conversation.expected_s(request, image_transfer.answer_length(self._protection))

    @property
    def exchanges(self) -> int:
        return self._conversation.exchanges

    # -- the association ---------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect the link and associate. Raises SilentError, LinkLostError, PortError, AssociationError or
        SecurityError; the line is left as it is."""
        self._conversation.connect()
        self._associate()
        self.alive = True
        self._tally.sessions += 1

    def keep_alive(self) -> bool:
        """Let the meter's link know that it is wanted still; whether it answered. Raises LinkLostError, PortError."""
        try:
            return self._conversation.keep_alive()
        except MeterError:
            self.alive = False
            raise

    def close(self) -> None:
        """Take leave of the meter, if it is still there. Never raises.

        DISC ends the association along with the link (Green Book); the wrapper has no link to end, so there it is
        RLRQ."""
        associated, self.alive = self.alive, False
        with contextlib.suppress(GatewayError):
            if self._settings.framing is Framing.HDLC:
                self._conversation.disconnect()
            elif associated:
                self._conversation.exchange(self._release_request())

    def _release_request(self) -> bytes:
        """A ciphered association is released with a ciphered initiate inside, so that nobody else can end it."""
        initiate = b"" if self._protection is None else self._initiate_request()
        return association.encode_rlrq(association.Rlrq(initiate=initiate))

    def _associate(self) -> None:
        ciphered = self._meter.security is not Security.NONE
        challenge, value, mechanism = b"", b"", association.Mechanism.NONE
        match self._meter.authentication:
            case Authentication.NONE:
                pass
            case Authentication.LLS:
                value, mechanism = self._keys.password, association.Mechanism.LLS
            case Authentication.HLS_GMAC:
                challenge = value = self._random(CHALLENGE_OCTETS)
                mechanism = association.Mechanism.GMAC
        titled = ciphered or mechanism is association.Mechanism.GMAC
        request = association.Aarq(
            context=association.Context.LN_CIPHERED if ciphered else association.Context.LN,
            mechanism=mechanism,
            calling_title=self._title if titled else b"",
            authentication_value=value,
            initiate=self._initiate_request(),
        )
        octets = self._exchange(association.encode_aarq(request))
        if octets[:1] in _EXCEPTIONS:
            raise self._exception(apdu.decode(octets))
        answer = association.decode_aare(octets)
        refusals.check_accepted(answer)
        if titled:
            if len(answer.responding_title) != 8:
                raise AssociationError("the meter's answer (AARE) names no system title of 8 octets")
            if self._protection is not None:
                self._protection.peer_title = answer.responding_title
        self._take_initiate_response(answer.initiate)
        if mechanism is association.Mechanism.GMAC:
            self._prove(challenge, answer)

    def _initiate_request(self) -> bytes:
        plain = encode_initiate(InitiateRequest(_CONFORMANCE, CLIENT_MAX_PDU, self._dedicated_key))
        return plain if self._protection is None else self._protection.seal(plain, self._counters.next())

    def _take_initiate_response(self, octets: bytes) -> None:
        plain = octets if self._protection is None else self._protection.open(octets)
        response = decode_initiate(plain)
        if not isinstance(response, InitiateResponse):
            raise AssociationError(
                "the meter accepts the association and refuses to initiate it", detail=str(response)
            )
        self.largest_block = image_transfer.largest_block(response.max_pdu, self._protection)

    def _prove(self, challenge: bytes, answer: association.Aare) -> None:
        """HLS with GMAC: prove ourselves, and believe nothing of the meter until it has (Green Book, 9.2.2.2.2.4)."""
        security.check_challenge(challenge, answer.challenge)
        keys, title = self._keys, self._title
        outer = None
        if self._protection is not None and self._meter.profile.hls_counter is HlsCounter.OUTER_FIRST:
            outer = self._counters.next()
        proof = security.gmac_proof(
            encryption_key=keys.encryption_key,
            authentication_key=keys.authentication_key,
            title=title,
            counter=self._counters.next(),
            challenge=answer.challenge,
        )
        self._proving = True
        try:
            returned = self._act(_ASSOCIATION, axdr.octet_string(proof), counter=outer)
        except AccessError as error:
            raise SecurityError("the meter does not accept our proof", detail=error.detail) from None
        self._proving = False
        if returned is None or not isinstance(returned.value, bytes):
            raise SecurityError("the meter gave no proof of itself")
        security.check_gmac_proof(
            returned.value,
            encryption_key=keys.encryption_key,
            authentication_key=keys.authentication_key,
            title=answer.responding_title,
            challenge=challenge,
        )

    def _make_protection(self) -> security.Protection | None:
        level = self._meter.security
        if level is Security.NONE:
            return None
        return security.Protection(
            encryption_key=self._keys.encryption_key,
            authentication_key=self._keys.authentication_key,
            own_title=self._title,
            authenticated=level in {Security.AUTHENTICATION, Security.BOTH},
            encrypted=level in {Security.ENCRYPTION, Security.BOTH},
            dedicated_key=self._dedicated_key or None,
        )

    # -- services ------------------------------------------------------------------------------------------------

    def get(self, attribute: apdu.Attribute, *, most_octets: int | None = None) -> axdr.Data:
        """The value of an attribute, by block transfer where it is long. Raises AccessError with the
        data-access-result where the meter refuses.

        `most_octets`: of a value that may be as wide as that; LongAnswerError where it is longer. None: one of those
        that a transfer needs."""
        most_elements = most_octets or MAX_ELEMENTS
        invoke = self._next_invoke()
        answer = self._request(apdu.GetRequest(invoke, attribute), most_elements=most_elements)
        if isinstance(answer, apdu.GetBlockResponse):
            raw = self._get_blocks(invoke, answer, most_octets or MAX_ANSWER_OCTETS)
            return axdr.decode(raw, most_elements=most_elements)
        if not isinstance(answer, apdu.GetResponse):
            raise self._unexpected(answer)
        if isinstance(answer.result, int):
            raise refusals.access("GET", answer.result)
        return answer.result

    def set(self, attribute: apdu.Attribute, value: axdr.Data) -> None:
        """Write an attribute. Raises AccessError where the meter refuses."""
        answer = self._request(apdu.SetRequest(self._next_invoke(), attribute, value))
        if not isinstance(answer, apdu.SetResponse):
            raise self._unexpected(answer)
        if answer.result:
            raise refusals.access("SET", answer.result)

    def act(self, method: apdu.Method, argument: axdr.Data) -> axdr.Data | None:
        """Invoke a method. Raises AccessError with the action-result where it is not success."""
        return self._act(method, argument)

    def send_block(self, number: int, block: bytes) -> int:
        """Method 2 of class 18 for one block; the action-result, 0 for success."""
        invoke = self._next_invoke()
        octets = self._plain_exchange(self._block_request.encode(invoke.id, number, block))
        if image_transfer.acknowledged(octets) and octets[2] & 0x0F == invoke.id:
            return 0
        answer = self._decode(octets, invoke)
        if not isinstance(answer, apdu.ActionResponse):
            raise self._unexpected(answer)
        return answer.result

    def _act(
        self, method: apdu.Method, argument: axdr.Data, *, counter: int | None = None
    ) -> axdr.Data | None:
        answer = self._request(apdu.ActionRequest(self._next_invoke(), method, argument), counter=counter)
        if not isinstance(answer, apdu.ActionResponse):
            raise self._unexpected(answer)
        if answer.result:
            raise refusals.access("ACTION", answer.result)
        return answer.data

    def _get_blocks(self, invoke: apdu.Invoke, answer: apdu.GetBlockResponse, most_octets: int) -> bytes:
        raw = bytearray()
        give_up_s = self._clock.monotonic() + EXCHANGE_LIMIT_S
        while True:
            if answer.result is not None:
                raise refusals.access("GET", answer.result)
            raw += answer.raw
            if len(raw) > most_octets:
                self.alive = False
                raise LongAnswerError(f"an answer of more than {most_octets} octets")
            if answer.last:
                return bytes(raw)
            if not answer.raw or self._clock.monotonic() > give_up_s:
                self.alive = False
                raise WireError(f"an answer that does not end: {len(raw)} octets in {answer.number} blocks")
            following = self._request(apdu.GetNextRequest(invoke, answer.number))
            if not isinstance(following, apdu.GetBlockResponse):
                raise self._unexpected(following)
            if following.number != answer.number + 1:
                self.alive = False
                raise WireError(f"block {following.number} of an answer, expected {answer.number + 1}")
            answer = following

    def _request(
        self, request: _Request, *, counter: int | None = None, most_elements: int = MAX_ELEMENTS
    ) -> _Answer:
        octets = self._plain_exchange(apdu.encode(request), counter=counter)
        return self._decode(octets, request.invoke, most_elements)

    def _plain_exchange(self, plain: bytes, *, counter: int | None = None) -> bytes:
        if self._protection is None:
            return self._exchange(plain)
        if counter is None:
            counter = self._counters.next()
        sealed = self._protection.seal(plain, counter)
        answer = self._exchange(sealed)
        try:
            return self._protection.open(answer)
        except SecurityError as error:
            proven, self.alive = self.alive, False
            if not proven or self._settings.framing is not Framing.HDLC:
                raise
            # What was tried here are no keys of ours at the meter, but the meter's octets: it has proven itself.
            raise DamagedAnswerError(f"an answer in a proven association: {error.message}") from None
        except MeterError:
            self.alive = False
            raise

    def _exchange(self, apdu_octets: bytes) -> bytes:
        """A meter may be at work on a request for long; whether it associates with us, it knows at once."""
        try:
            return self._conversation.exchange(apdu_octets, patience_s=BUSY_LIMIT_S if self.alive else 0.0)
        except MeterError:
            self.alive = False
            raise

    def _decode(self, octets: bytes, invoke: apdu.Invoke, most_elements: int = MAX_ELEMENTS) -> _Answer:
        """The answer to `invoke`. An exception response or an answer to something else ends the session."""
        try:
            answer = apdu.decode(octets, most_elements=most_elements)
            if isinstance(answer, apdu.ExceptionResponse | apdu.ConfirmedServiceError):
                raise self._exception(answer)
            if not isinstance(answer, _Answer):
                raise WireError(f"an answer of another kind: {type(answer).__name__}")
            if answer.invoke.id != invoke.id:
                raise WireError(f"an answer to request {answer.invoke.id}, expected {invoke.id}")
        except MeterError:
            self.alive = False
            raise
        return answer

    def _exception(self, answer: apdu.Apdu) -> MeterError:
        return refusals.exception(answer, sent=self._counters.last, proving=self._proving)

    def _next_invoke(self) -> apdu.Invoke:
        self._invoke = (self._invoke + 1) & 0x0F
        return _INVOKES[self._invoke]

    def _unexpected(self, answer: _Answer) -> WireError:
        self.alive = False
        return WireError(f"an answer of another kind: {type(answer).__name__}")
