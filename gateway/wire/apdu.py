"""xDLMS service APDUs with logical names: GET, SET, ACTION in all their forms, the answers that say no, and what a
meter may send unasked (Green Book "COSEM APDUs"; the COSEM ASN.1).

Every APDU is a frozen dataclass; `_GRAMMAR` at the end says, once for both directions, in which order its fields
stand in the octets. `encode` and `decode` are all there is to call; both raise `WireError` only. ACSE APDUs are
in `gateway.wire.association`, those inside them in `gateway.wire.initiate`, ciphered ones in `gateway.wire.security`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.errors import WireError
from gateway.wire import cosem as part
from gateway.wire.axdr import Data
from gateway.wire.cosem import (
    Access,
    ActionOutcome,
    ActionResult,
    Attribute,
    DataAccessResult,
    ExceptionService,
    ExceptionState,
    Invoke,
    Method,
    Selection,
    list_of,
    obis,
    obis_text,
)
from gateway.wire.reader import MAX_ELEMENTS, Reader

__all__ = [
    "Access",
    "ActionFirstPblockRequest",
    "ActionListFirstPblockRequest",
    "ActionListRequest",
    "ActionListResponse",
    "ActionNextPblockRequest",
    "ActionNextPblockResponse",
    "ActionOutcome",
    "ActionPblockRequest",
    "ActionPblockResponse",
    "ActionRequest",
    "ActionResponse",
    "ActionResult",
    "Apdu",
    "Attribute",
    "ConfirmedServiceError",
    "DataAccessResult",
    "DataNotification",
    "ExceptionResponse",
    "ExceptionService",
    "ExceptionState",
    "GeneralBlockTransfer",
    "GetBlockResponse",
    "GetListRequest",
    "GetListResponse",
    "GetNextRequest",
    "GetRequest",
    "GetResponse",
    "Invoke",
    "Method",
    "Selection",
    "SetBlockRequest",
    "SetBlockResponse",
    "SetFirstBlockRequest",
    "SetLastBlockResponse",
    "SetListFirstBlockRequest",
    "SetListLastBlockResponse",
    "SetListRequest",
    "SetListResponse",
    "SetRequest",
    "SetResponse",
    "decode",
    "encode",
    "obis",
    "obis_text",
]  # fmt: skip


# -- GET ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GetRequest:
    invoke: Invoke
    attribute: Attribute
    access: Access | None = None


@dataclass(frozen=True, slots=True)
class GetNextRequest:
    """Asks for the block after `number`."""

    invoke: Invoke
    number: int


@dataclass(frozen=True, slots=True)
class GetListRequest:
    invoke: Invoke
    attributes: tuple[Selection, ...]


@dataclass(frozen=True, slots=True)
class GetResponse:
    invoke: Invoke
    result: Data | int
    """The value, or a DataAccessResult that says why there is none."""


@dataclass(frozen=True, slots=True)
class GetBlockResponse:
    """A block of an answer that is longer than a PDU: the joined `raw` are the octets of one Data (or, to a list
    request, of a list of results)."""

    invoke: Invoke
    last: bool
    number: int
    """From 1."""
    raw: bytes = b""
    result: int | None = None
    """A DataAccessResult in place of `raw`."""


@dataclass(frozen=True, slots=True)
class GetListResponse:
    invoke: Invoke
    results: tuple[Data | int, ...]


# -- SET ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetRequest:
    invoke: Invoke
    attribute: Attribute
    data: Data
    access: Access | None = None


@dataclass(frozen=True, slots=True)
class SetFirstBlockRequest:
    invoke: Invoke
    attribute: Attribute
    last: bool
    number: int
    raw: bytes
    access: Access | None = None


@dataclass(frozen=True, slots=True)
class SetBlockRequest:
    invoke: Invoke
    last: bool
    number: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class SetListRequest:
    invoke: Invoke
    attributes: tuple[Selection, ...]
    values: tuple[Data, ...]


@dataclass(frozen=True, slots=True)
class SetListFirstBlockRequest:
    invoke: Invoke
    attributes: tuple[Selection, ...]
    last: bool
    number: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class SetResponse:
    invoke: Invoke
    result: int


@dataclass(frozen=True, slots=True)
class SetBlockResponse:
    """Block `number` was taken, send the next."""

    invoke: Invoke
    number: int


@dataclass(frozen=True, slots=True)
class SetLastBlockResponse:
    invoke: Invoke
    result: int
    number: int


@dataclass(frozen=True, slots=True)
class SetListLastBlockResponse:
    invoke: Invoke
    results: tuple[int, ...]
    number: int


@dataclass(frozen=True, slots=True)
class SetListResponse:
    invoke: Invoke
    results: tuple[int, ...]


# -- ACTION ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ActionRequest:
    invoke: Invoke
    method: Method
    data: Data | None = None


@dataclass(frozen=True, slots=True)
class ActionNextPblockRequest:
    """Asks for the pblock after `number`."""

    invoke: Invoke
    number: int


@dataclass(frozen=True, slots=True)
class ActionListRequest:
    invoke: Invoke
    methods: tuple[Method, ...]
    values: tuple[Data, ...]


@dataclass(frozen=True, slots=True)
class ActionFirstPblockRequest:
    """The first part of an ACTION that is longer than a PDU: the joined `raw` are the octets of its Data."""

    invoke: Invoke
    method: Method
    last: bool
    number: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class ActionListFirstPblockRequest:
    invoke: Invoke
    methods: tuple[Method, ...]
    last: bool
    number: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class ActionPblockRequest:
    invoke: Invoke
    last: bool
    number: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class ActionResponse:
    """`result` is an ActionResult. Return parameters are `data`, or `data_result` (a DataAccessResult), or both
    None; some meters return null-data with success."""

    invoke: Invoke
    result: int
    data: Data | None = None
    data_result: int | None = None


@dataclass(frozen=True, slots=True)
class ActionPblockResponse:
    invoke: Invoke
    last: bool
    number: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class ActionListResponse:
    invoke: Invoke
    outcomes: tuple[ActionOutcome, ...]


@dataclass(frozen=True, slots=True)
class ActionNextPblockResponse:
    """Pblock `number` was taken, send the next."""

    invoke: Invoke
    number: int


# -- the rest -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExceptionResponse:
    """The meter refuses to process an APDU. Not authenticated, and `counter` (the lowest invocation counter that
    the meter would accept) neither."""

    state: int
    service: int
    counter: int | None = None


@dataclass(frozen=True, slots=True)
class ConfirmedServiceError:
    """The older way to refuse: `service` 1 is initiate, `choice` the group of errors, `value` the error in it
    (choice 0, value 6: deciphering error)."""

    service: int
    choice: int
    value: int


@dataclass(frozen=True, slots=True)
class DataNotification:
    """A push. `invoke` is the long form of 32 bits, `date_time` is empty or 12 octets."""

    invoke: int
    date_time: bytes
    data: Data


@dataclass(frozen=True, slots=True)
class GeneralBlockTransfer:
    """A part of any APDU, block `number`; `acknowledged` is the last block of the other side that came."""

    last: bool
    streaming: bool
    window: int
    number: int
    acknowledged: int
    raw: bytes


Apdu = (
    GetRequest | GetNextRequest | GetListRequest | GetResponse | GetBlockResponse | GetListResponse
    | SetRequest | SetFirstBlockRequest | SetBlockRequest | SetListRequest | SetListFirstBlockRequest
    | SetResponse | SetBlockResponse | SetLastBlockResponse | SetListLastBlockResponse | SetListResponse
    | ActionRequest | ActionNextPblockRequest | ActionListRequest | ActionFirstPblockRequest
    | ActionListFirstPblockRequest | ActionPblockRequest
    | ActionResponse | ActionPblockResponse | ActionListResponse | ActionNextPblockResponse
    | ExceptionResponse | ConfirmedServiceError | DataNotification | GeneralBlockTransfer
)  # fmt: skip


def encode(apdu: Apdu) -> bytes:
    """The octets of `apdu`; WireError if a value does not fit its field."""
    octets, parts = _BY_CLASS[type(apdu)]
    for piece, names in parts:
        if len(names) == 1:
            octets += piece.write(getattr(apdu, names[0]))
        else:
            octets += piece.write(*[getattr(apdu, name) for name in names])
    return octets


def decode(octets: bytes, *, most_elements: int = MAX_ELEMENTS) -> Apdu:
    """The APDU that `octets` are; WireError if they are short, too many, or no service APDU, or hold more values."""
    start = 2 if octets[:2] in _BY_OCTETS else 1
    if (found := _BY_OCTETS.get(octets[:start])) is None:
        raise WireError(f"{octets[:2].hex(' ') or 'nothing'} begins no service APDU")
    kind, parts = found
    reader = Reader(octets, start, most_elements=most_elements)
    fields: dict[str, Any] = {}
    for piece, names in parts:
        if len(names) == 1:
            fields[names[0]] = piece.read(reader)
        else:
            fields.update(zip(names, piece.read(reader), strict=True))
    reader.finish()
    return kind(**fields)  # type: ignore[no-any-return]


_INVOKE = (part.INVOKE, "invoke")
_ATTRIBUTE = (part.ATTRIBUTE, "attribute")
_ATTRIBUTES = (list_of(part.SELECTION), "attributes")
_ACCESS = (part.ACCESS, "access")
_METHOD = (part.METHOD, "method")
_METHODS = (list_of(part.METHOD), "methods")
_VALUES = (list_of(part.DATA), "values")
_NUMBER = (part.U32, "number")
_BLOCK = ((part.FLAG, "last"), _NUMBER, (part.RAW, "raw"))
_RESULT = (part.DATA_ACCESS_RESULT, "result")
_RESULTS = (list_of(part.DATA_ACCESS_RESULT), "results")

_GRAMMAR: tuple[tuple[str, Any, tuple[tuple[Any, ...], ...]], ...] = (
    ("c001", GetRequest, (_INVOKE, _ATTRIBUTE, _ACCESS)),
    ("c002", GetNextRequest, (_INVOKE, _NUMBER)),
    ("c003", GetListRequest, (_INVOKE, _ATTRIBUTES)),
    ("c401", GetResponse, (_INVOKE, (part.DATA_OR_RESULT, "result"))),
    ("c402", GetBlockResponse, (_INVOKE, (part.FLAG, "last"), _NUMBER, (part.RAW_OR_RESULT, "raw", "result"))),
    ("c403", GetListResponse, (_INVOKE, (list_of(part.DATA_OR_RESULT), "results"))),
    ("c101", SetRequest, (_INVOKE, _ATTRIBUTE, _ACCESS, (part.DATA, "data"))),
    ("c102", SetFirstBlockRequest, (_INVOKE, _ATTRIBUTE, _ACCESS, *_BLOCK)),
    ("c103", SetBlockRequest, (_INVOKE, *_BLOCK)),
    ("c104", SetListRequest, (_INVOKE, _ATTRIBUTES, _VALUES)),
    ("c105", SetListFirstBlockRequest, (_INVOKE, _ATTRIBUTES, *_BLOCK)),
    ("c501", SetResponse, (_INVOKE, _RESULT)),
    ("c502", SetBlockResponse, (_INVOKE, _NUMBER)),
    ("c503", SetLastBlockResponse, (_INVOKE, _RESULT, _NUMBER)),
    ("c504", SetListLastBlockResponse, (_INVOKE, _RESULTS, _NUMBER)),
    ("c505", SetListResponse, (_INVOKE, _RESULTS)),
    ("c301", ActionRequest, (_INVOKE, _METHOD, (part.OPTIONAL_DATA, "data"))),
    ("c302", ActionNextPblockRequest, (_INVOKE, _NUMBER)),
    ("c303", ActionListRequest, (_INVOKE, _METHODS, _VALUES)),
    ("c304", ActionFirstPblockRequest, (_INVOKE, _METHOD, *_BLOCK)),
    ("c305", ActionListFirstPblockRequest, (_INVOKE, _METHODS, *_BLOCK)),
    ("c306", ActionPblockRequest, (_INVOKE, *_BLOCK)),
    ("c701", ActionResponse, (
        _INVOKE, (part.ACTION_RESULT, "result"), (part.RETURN_PARAMETERS, "data", "data_result"),
    )),
    ("c702", ActionPblockResponse, (_INVOKE, *_BLOCK)),
    ("c703", ActionListResponse, (_INVOKE, (list_of(part.OUTCOME), "outcomes"))),
    ("c704", ActionNextPblockResponse, (_INVOKE, _NUMBER)),
    ("d8", ExceptionResponse, ((part.STATE_ERROR, "state"), (part.SERVICE_ERROR, "service", "counter"))),
    ("0e", ConfirmedServiceError, ((part.U8, "service"), (part.U8, "choice"), (part.U8, "value"))),
    ("0f", DataNotification, ((part.U32, "invoke"), (part.DATE_TIME, "date_time"), (part.DATA, "data"))),
    ("e0", GeneralBlockTransfer, (
        (part.BLOCK_CONTROL, "last", "streaming", "window"),
        (part.U16, "number"), (part.U16, "acknowledged"), (part.RAW, "raw"),
    )),
)  # fmt: skip

_BY_CLASS = {
    kind: (bytes.fromhex(start), [(piece, names) for piece, *names in parts])
    for start, kind, parts in _GRAMMAR
}
_BY_OCTETS = {octets: (kind, parts) for kind, (octets, parts) in _BY_CLASS.items()}
