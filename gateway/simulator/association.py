"""The meter's side of application associations (Green Book, "Application association" and "Information security").

    closed -AARQ-> open, or challenged (HLS) -reply to HLS-> open -RLRQ, a lost link or another AARQ-> closed

It insists on exactly what its `MeterSpec` says: context, mechanism, title, password, policy, keys, and counters that
only rise.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import Enum, auto

from gateway.errors import SecurityError, WireError
from gateway.model import Authentication, HlsCounter, Security
from gateway.simulator.faults import Dice, Faults
from gateway.simulator.history import History, What
from gateway.simulator.objects import ASSOCIATION, ASSOCIATION_CLASS, Objects
from gateway.simulator.services import OFFERED, Answered, Services, refusal
from gateway.simulator.spec import PUBLIC_CLIENT, MeterSpec
from gateway.wire import apdu as pdu
from gateway.wire import axdr
from gateway.wire.apdu import ActionRequest, ActionResponse, ActionResult, ExceptionService, Method
from gateway.wire.association import (
    Aare,
    Aarq,
    Context,
    Diagnostic,
    Mechanism,
    Result,
    Rlre,
    decode_aarq,
    decode_rlrq,
    encode_aare,
    encode_rlre,
)
from gateway.wire.axdr import Data, Tag
from gateway.wire.initiate import InitiateRequest, InitiateResponse, decode_initiate, encode_initiate
from gateway.wire.security import (
    TITLE_OCTETS,
    Protection,
    Sealed,
    SecurityControl,
    check_gmac_proof,
    gmac_proof,
)

_AARQ, _RLRQ = 0x60, 0x62
_REPLY_TO_HLS = Method(ASSOCIATION_CLASS, ASSOCIATION, 1)
_CHALLENGE_OCTETS = 16
_MECHANISMS = {
    Authentication.NONE: Mechanism.NONE,
    Authentication.LLS: Mechanism.LLS,
    Authentication.HLS_GMAC: Mechanism.GMAC,
}


@dataclass
class Counters:
    """Invocation counters that a meter keeps in flash."""

    client: int
    """The highest that the client has used under the global key."""
    own: int
    """The highest that the meter has used."""
    broadcast: int = 0
    """The highest that was used under the broadcast key."""

    def next_own(self) -> int:
        self.own += 1
        return self.own


@dataclass
class Door:
    """What keeps clients out for a time, the public one excepted; times of the meter, seconds."""

    locked_until_s: float = 0.0
    """Somebody failed to authenticate himself."""
    default_until_s: float = 0.0
    """After activation there is only the default association."""


class _State(Enum):
    CLOSED = auto()
    CHALLENGED = auto()
    OPEN = auto()


class _RejectedError(Exception):
    """Why an AARQ is rejected."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic)
        self.diagnostic = diagnostic


class _RefusedError(Exception):
    """Why a protected APDU is refused, as the exception-response that says so."""

    def __init__(self, service: ExceptionService, found: int, expected: int | None = None) -> None:
        super().__init__(service)
        self.found = found
        self.answer = refusal(service, expected)


class MeterAssociation:
    """The association with one client; `client` is its SAP."""

    def __init__(
        self,
        spec: MeterSpec,
        client: int,
        *,
        objects: Objects,
        counters: Counters,
        door: Door,
        faults: Faults,
        history: History,
        chance: Dice,
    ) -> None:
        self._spec = spec
        self._client = client
        self._public = client == PUBLIC_CLIENT != spec.client
        self._known = self._public or client == spec.client
        self._authentication = Authentication.NONE if self._public else spec.authentication
        self._ciphered = not self._public and spec.security is not Security.NONE
        self._control = SecurityControl(
            authenticated=spec.security in (Security.AUTHENTICATION, Security.BOTH),
            encrypted=spec.security in (Security.ENCRYPTION, Security.BOTH),
        )
        self._objects = objects
        self._counters = counters
        self._door = door
        self._faults = faults
        self._history = history
        self._chance = chance
        self.close()

    def close(self) -> None:
        """No association is left: the link was lost, or the client released it."""
        self._state = _State.CLOSED
        self._protection: Protection | None = None
        self._services: Services | None = None
        self._dedicated_counter: int | None = None
        """The highest that the client has used under the dedicated key; None: there is no dedicated key."""
        self._client_title = b""
        self._client_challenge = b""
        self._own_challenge = b""

    def answer(self, octets: bytes, now_s: float) -> Answered:
        """Take any APDU of this client."""
        tag = octets[0] if octets else -1
        try:
            if len(octets) > self._spec.max_pdu:
                return Answered(refusal(ExceptionService.PDU_TOO_LONG))
            if tag == _AARQ:
                return Answered(self._associate(octets, now_s))
            if self._state is _State.CLOSED:
                return Answered(refusal(ExceptionService.OPERATION_NOT_POSSIBLE))
            if tag == _RLRQ:
                return Answered(self._release(octets))
            return self._serve(octets, now_s)
        except _RefusedError as refused:
            self._history.note(now_s, What.SECURITY, refused.found)
            self._lock(now_s)
            return Answered(None if self._faults.silent_refusals else refused.answer)

    # -- beginning and end ------------------------------------------------------------------------------------

    def _associate(self, octets: bytes, now_s: float) -> bytes:
        self.close()
        context = Context.LN_CIPHERED if self._ciphered else Context.LN
        try:
            aarq = decode_aarq(octets)
            self._check_door(now_s)
            self._check(aarq, context)
            initiate = self._initiated(aarq)
        except (_RejectedError, WireError) as rejected:
            self.close()
            why = rejected.diagnostic if isinstance(rejected, _RejectedError) else Diagnostic.NO_REASON_GIVEN
            self._history.note(now_s, What.REJECTED, why)
            if why == Diagnostic.AUTHENTICATION_FAILURE:
                self._lock(now_s)
            return encode_aare(Aare(context, Result.REJECTED_PERMANENT, why))
        hls = self._authentication is Authentication.HLS_GMAC
        if hls:
            self._state = _State.CHALLENGED
            self._own_challenge = self._chance.randbytes(_CHALLENGE_OCTETS)
        else:
            self._opened(now_s)
        return encode_aare(
            Aare(
                context,
                Result.ACCEPTED,
                Diagnostic.AUTHENTICATION_REQUIRED if hls else Diagnostic.NULL,
                responding_title=self._spec.system_title if self._ciphered or hls else b"",
                mechanism=_MECHANISMS[self._authentication] if hls else Mechanism.NONE,
                challenge=self._own_challenge,
                initiate=initiate,
            )
        )

    def _check_door(self, now_s: float) -> None:
        if not self._public and now_s < self._door.default_until_s:
            raise _RejectedError(Diagnostic.CONTEXT_NAME_NOT_SUPPORTED)
        if not self._public and now_s < self._door.locked_until_s:
            raise _RejectedError(Diagnostic.AUTHENTICATION_FAILURE)

    def _lock(self, now_s: float) -> None:
        self._door.locked_until_s = now_s + self._faults.lockout_s

    def _check(self, aarq: Aarq, context: Context) -> None:
        """Reject whoever may not come in, before anything is deciphered."""
        spec, mechanism = self._spec, _MECHANISMS[self._authentication]
        if not self._known:
            raise _RejectedError(Diagnostic.NO_REASON_GIVEN)
        if aarq.context != context:
            raise _RejectedError(Diagnostic.CONTEXT_NAME_NOT_SUPPORTED)
        if aarq.mechanism != mechanism:
            missing = aarq.mechanism == Mechanism.NONE
            raise _RejectedError(
                Diagnostic.MECHANISM_REQUIRED if missing else Diagnostic.MECHANISM_NOT_RECOGNISED
            )
        if self._ciphered or mechanism is Mechanism.GMAC:
            title = aarq.calling_title
            if len(title) != TITLE_OCTETS or title != (spec.client_title or title):
                raise _RejectedError(Diagnostic.CALLING_TITLE_NOT_RECOGNIZED)
            self._client_title = title
        value = aarq.authentication_value
        if mechanism is Mechanism.LLS and not hmac.compare_digest(value, spec.keys.password):
            raise _RejectedError(Diagnostic.AUTHENTICATION_FAILURE)
        if mechanism is Mechanism.GMAC:
            if not 8 <= len(value) <= 64:
                raise _RejectedError(Diagnostic.AUTHENTICATION_FAILURE)
            self._client_challenge = value

    def _initiated(self, aarq: Aarq) -> bytes:
        """Take the initiate request and give the response."""
        spec, plain = self._spec, aarq.initiate
        if self._ciphered:
            plain = self._deciphered_initiate(plain)
        request = decode_initiate(plain)
        if not isinstance(request, InitiateRequest) or request.version < 6:
            raise _RejectedError(Diagnostic.NO_REASON_GIVEN)
        if request.dedicated_key:
            if not (self._ciphered and spec.dedicated_keys):
                raise _RejectedError(Diagnostic.NO_REASON_GIVEN)
            self._protection = self._protect(request.dedicated_key)
            self._dedicated_counter = -1
        agreed = request.conformance & OFFERED
        largest = request.max_pdu
        if largest and self._protection:
            largest -= self._protection.sealed_length(largest) - largest
        self._services = Services(self._objects, agreed, largest, public=self._public)
        response = encode_initiate(InitiateResponse(agreed, spec.max_pdu))
        if self._protection:
            return self._protection.seal(response, self._counters.next_own())
        return response

    def _deciphered_initiate(self, octets: bytes) -> bytes:
        try:
            sealed = Sealed.parse(octets)
        except WireError:
            raise _RejectedError(Diagnostic.AUTHENTICATION_FAILURE) from None
        if sealed.control != self._control:
            raise _RejectedError(Diagnostic.AUTHENTICATION_FAILURE)
        self._check_counter(sealed.counter, self._counters.client)
        self._protection = self._protect(None)
        try:
            plain = self._protection.open(octets)
        except (SecurityError, WireError):
            raise _RejectedError(Diagnostic.AUTHENTICATION_FAILURE) from None
        self._counters.client = sealed.counter
        return plain

    def _protect(self, dedicated_key: bytes | None) -> Protection:
        keys = self._spec.keys
        protection = Protection(
            encryption_key=keys.encryption_key,
            authentication_key=keys.authentication_key,
            own_title=self._spec.system_title,
            authenticated=self._control.authenticated,
            encrypted=self._control.encrypted,
            dedicated_key=dedicated_key,
            general=self._spec.general,
        )
        protection.peer_title = self._client_title
        return protection

    def _opened(self, now_s: float) -> None:
        self._state = _State.OPEN
        self._history.note(now_s, What.ASSOCIATED, self._client)

    def _release(self, octets: bytes) -> bytes:
        try:
            decode_rlrq(octets)
        except WireError:
            return refusal(ExceptionService.OTHER_REASON)
        self.close()
        return encode_rlre(Rlre())

    # -- in between -------------------------------------------------------------------------------------------

    def _serve(self, octets: bytes, now_s: float) -> Answered:
        counter_before = self._counters.client
        plain, outer_counter = octets, None
        if self._protection:
            plain, outer_counter = self._deciphered(octets, self._protection)
        if self._state is _State.CHALLENGED:
            answered = Answered(self._prove(plain, counter_before, outer_counter, now_s))
        elif self._services:
            answered = self._services.answer(plain, now_s)
        if self._protection is None or answered.apdu is None or answered.apdu[0] == 0xD8:
            return answered
        return answered._replace(apdu=self._protection.seal(answered.apdu, self._counters.next_own()))

    def _deciphered(self, octets: bytes, protection: Protection) -> tuple[bytes, int]:
        """The plain APDU and its counter. The counter is looked at first, as meters do that tell the expected one."""
        try:
            sealed = Sealed.parse(octets)
        except WireError:
            raise _RefusedError(ExceptionService.DECIPHERING_ERROR, 0) from None
        dedicated = self._dedicated_counter is not None
        as_agreed = (self._control, dedicated, self._spec.general)
        if (sealed.control, sealed.dedicated, sealed.plain_tag is None) != as_agreed:
            raise _RefusedError(ExceptionService.DECIPHERING_ERROR, sealed.counter)
        self._check_counter(
            sealed.counter,
            self._counters.client if self._dedicated_counter is None else self._dedicated_counter,
        )
        try:
            plain = protection.open(octets)
        except (SecurityError, WireError):
            raise _RefusedError(ExceptionService.DECIPHERING_ERROR, sealed.counter) from None
        if dedicated:
            self._dedicated_counter = sealed.counter
        else:
            self._counters.client = sealed.counter
        return plain, sealed.counter

    def _check_counter(self, found: int, highest: int) -> None:
        if found <= highest:
            raise _RefusedError(ExceptionService.INVOCATION_COUNTER_ERROR, found, highest + 1)

    def _prove(self, plain: bytes, counter_before: int, outer_counter: int | None, now_s: float) -> bytes:
        """Third and fourth pass of HLS: check the client's proof over our challenge, answer with ours over its."""
        try:
            request = pdu.decode(plain)
        except WireError:
            return refusal(ExceptionService.OTHER_REASON)
        match request:
            case ActionRequest(method=method, data=Data(Tag.OCTET_STRING, bytes(proof))) if (
                method == _REPLY_TO_HLS
            ):
                pass
            case _:
                return refusal(ExceptionService.OPERATION_NOT_POSSIBLE)
        spec, keys = self._spec, self._spec.keys
        try:
            counter = check_gmac_proof(
                proof,
                authentication_key=keys.authentication_key,
                encryption_key=keys.encryption_key,
                title=self._client_title,
                challenge=self._own_challenge,
            )
        except SecurityError:
            self._history.note(now_s, What.SECURITY, int.from_bytes(proof[1:5], "big"))
            self._lock(now_s)
            self._state = _State.CLOSED
            return pdu.encode(ActionResponse(request.invoke, ActionResult.READ_WRITE_DENIED))
        self._check_counter(counter, counter_before)
        if outer_counter is not None and self._dedicated_counter is None:
            self._check_order(counter, outer_counter)
        self._counters.client = max(self._counters.client, counter)
        self._opened(now_s)
        answer = gmac_proof(
            authentication_key=keys.authentication_key,
            encryption_key=keys.encryption_key,
            title=spec.system_title,
            counter=self._counters.next_own(),
            challenge=self._client_challenge,
        )
        return pdu.encode(ActionResponse(request.invoke, ActionResult.SUCCESS, axdr.octet_string(answer)))

    def _check_order(self, inner: int, outer: int) -> None:
        """The proof and the APDU around it never share a counter, and some meters insist on an order."""
        insists = self._spec.hls_counter
        if inner == outer or insists not in (
            None,
            HlsCounter.INNER_FIRST if inner < outer else HlsCounter.OUTER_FIRST,
        ):
            raise _RefusedError(ExceptionService.INVOCATION_COUNTER_ERROR, inner, max(inner, outer) + 1)
