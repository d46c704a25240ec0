"""GET, SET and ACTION as a meter answers them inside one open association (Green Book, "xDLMS services")."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from gateway.errors import WireError
from gateway.simulator.image import Outcome
from gateway.simulator.objects import Objects
from gateway.wire import apdu as pdu
from gateway.wire import axdr
from gateway.wire.apdu import (
    ActionRequest,
    ActionResponse,
    DataAccessResult,
    ExceptionResponse,
    ExceptionService,
    ExceptionState,
    GetBlockResponse,
    GetNextRequest,
    GetRequest,
    GetResponse,
    Invoke,
    SetRequest,
    SetResponse,
)
from gateway.wire.axdr import Data, Tag
from gateway.wire.initiate import Conformance

OFFERED = Conformance.GET | Conformance.SET | Conformance.ACTION | Conformance.BLOCK_TRANSFER_WITH_GET
"""What a virtual meter agrees to."""

_SERVED_BY = {
    GetRequest: Conformance.GET,
    GetNextRequest: Conformance.BLOCK_TRANSFER_WITH_GET,
    SetRequest: Conformance.SET,
    ActionRequest: Conformance.ACTION,
}

_BLOCK_OVERHEAD = 12
"""Of a GetBlockResponse around its raw octets, at most."""

_NOTHING_ELSE = Outcome(0)


class Answered(NamedTuple):
    """An APDU of the meter, None for none, and what the meter does besides answering."""

    apdu: bytes | None
    outcome: Outcome = _NOTHING_ELSE


def refusal(service: ExceptionService, counter: int | None = None) -> bytes:
    """An exception-response: the service is not allowed."""
    return pdu.encode(ExceptionResponse(ExceptionState.SERVICE_NOT_ALLOWED, service, counter))


@lru_cache(maxsize=256)
def _acted(invoke: Invoke, result: int) -> bytes:
    """A method answers each block of an image, mostly in the same few octets."""
    return pdu.encode(ActionResponse(invoke, result))


def _written(request: SetRequest, octets: bytes) -> Data:
    """The value to be set; of a boolean the octet itself, for meters that do not take every TRUE."""
    return Data(Tag.BOOLEAN, octets[-1]) if request.data.tag is Tag.BOOLEAN else request.data


class Services:
    """What an association may do. `largest_answer` bounds the plain answer, octets; 0: no bound."""

    def __init__(self, objects: Objects, agreed: Conformance, largest_answer: int, *, public: bool) -> None:
        self._objects = objects
        self._agreed = agreed
        self._served = frozenset(kind for kind, service in _SERVED_BY.items() if service in agreed)
        self._largest_answer = largest_answer
        self._public = public
        self._rest = b""
        self._blocks_sent = 0

    def answer(self, request: bytes, now_s: float) -> Answered:
        """Serve one plain APDU."""
        try:
            apdu = pdu.decode(request)
        except WireError:
            return Answered(refusal(ExceptionService.OTHER_REASON))
        if type(apdu) not in self._served:
            return Answered(refusal(ExceptionService.SERVICE_NOT_SUPPORTED))
        outcome = _NOTHING_ELSE
        match apdu:
            case ActionRequest():
                outcome = self._objects.invoke(apdu.method, apdu.data, now_s, public=self._public)
                answer = _acted(apdu.invoke, outcome.result)
            case GetRequest():
                answer = pdu.encode(self._get(apdu, now_s))
            case GetNextRequest():
                answer = pdu.encode(self._next_block(apdu))
            case SetRequest():
                result: int = DataAccessResult.OBJECT_UNDEFINED
                if apdu.access is None:
                    result = self._objects.set(
                        apdu.attribute, _written(apdu, request), now_s, public=self._public
                    )
                answer = pdu.encode(SetResponse(apdu.invoke, result))
            case _:
                raise AssertionError(f"{type(apdu).__name__} is served and not known")
        return Answered(answer if apdu.invoke.confirmed else None, outcome)

    def _get(self, request: GetRequest, now_s: float) -> GetResponse | GetBlockResponse:
        self._rest, self._blocks_sent = b"", 0
        if request.access is not None:
            return GetResponse(request.invoke, DataAccessResult.OBJECT_UNDEFINED)
        value = self._objects.get(request.attribute, now_s, public=self._public)
        whole = GetResponse(request.invoke, value)
        if isinstance(value, int) or not self._largest_answer:
            return whole
        octets = axdr.encode(value)
        if len(octets) + 4 <= self._largest_answer:
            return whole
        if Conformance.BLOCK_TRANSFER_WITH_GET not in self._agreed:
            return GetResponse(request.invoke, DataAccessResult.OTHER_REASON)
        self._rest = octets
        return self._block(request.invoke)

    def _next_block(self, request: GetNextRequest) -> GetBlockResponse:
        if not self._rest:
            result = DataAccessResult.NO_LONG_GET_IN_PROGRESS
        elif request.number != self._blocks_sent:
            self._rest = b""
            result = DataAccessResult.DATA_BLOCK_NUMBER_INVALID
        else:
            return self._block(request.invoke)
        return GetBlockResponse(request.invoke, last=True, number=request.number, result=result)

    def _block(self, invoke: Invoke) -> GetBlockResponse:
        size = max(1, self._largest_answer - _BLOCK_OVERHEAD)
        raw, self._rest = self._rest[:size], self._rest[size:]
        self._blocks_sent += 1
        return GetBlockResponse(invoke, last=not self._rest, number=self._blocks_sent, raw=raw)
