"""APDUs in words, for whoever watches a line. Nothing here raises, whatever the octets are.

Passwords and dedicated keys are never in the words, nor values of what holds secrets, where `hide` says so
(`gateway.wire.hidden` knows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any, NamedTuple

from gateway.errors import WireError
from gateway.wire import action_schedule, apdu, association, image_transfer
from gateway.wire.apdu import Attribute, Invoke, Method
from gateway.wire.axdr import BitString, CompactArray, Data, Tag, members
from gateway.wire.cosem import ActionResult, DataAccessResult, ExceptionService, ExceptionState, obis_text
from gateway.wire.hidden import CHALLENGED, SEALED
from gateway.wire.initiate import InitiateRequest, InitiateResponse, decode_initiate
from gateway.wire.security import Sealed

NOT_SHOWN = "(not shown)"

_SHOWN_OCTETS = 32
_SHOWN_ELEMENTS = 8
_SHOWN_CHARACTERS = 240

_ATTRIBUTES = {
    (1, 2): "value", (8, 2): "time",
    (18, image_transfer.BLOCK_SIZE): "image block size",
    (18, image_transfer.BLOCKS_STATUS): "image transferred blocks status",
    (18, image_transfer.FIRST_NOT_TRANSFERRED): "image first not transferred block number",
    (18, image_transfer.ENABLED): "image transfer enabled",
    (18, image_transfer.STATUS): "image transfer status",
    (18, image_transfer.TO_ACTIVATE_INFO): "image to activate info",
    (22, action_schedule.EXECUTED_SCRIPT): "executed script",
    (22, action_schedule.EXECUTION_TIME): "execution time",
}  # fmt: skip
_METHODS = {
    (15, 1): "reply to HLS authentication",
    (18, image_transfer.INITIATE): "image transfer initiate",
    (18, image_transfer.BLOCK_TRANSFER): "image block transfer",
    (18, image_transfer.VERIFY): "image verify",
    (18, image_transfer.ACTIVATE): "image activate",
}  # fmt: skip


def describe(octets: bytes, *, hide: bool = False) -> str:
    """One APDU in a few words; `hide`: values are not told, since a secret was asked for or is written."""
    try:
        return _described(octets, hide)
    except WireError as error:
        # What is wrong with an association request may quote what stands where the password or the key should.
        why = "" if hide or octets[:1] in (b"\x60", b"\x01") else f": {error.message}"
        return f"{len(octets)} octets that are not understood{why}"


# -- words ----------------------------------------------------------------------------------------------------


def _described(octets: bytes, hide: bool) -> str:
    if not octets:
        raise WireError("an empty APDU")
    tag = octets[0]
    if tag in SEALED:
        return _sealed(octets)
    match tag:
        case 0x60:
            return _aarq(association.decode_aarq(octets))
        case 0x61:
            return _aare(association.decode_aare(octets))
        case 0x62:
            return _release("RLRQ", association.decode_rlrq(octets))
        case 0x63:
            return _release("RLRE", association.decode_rlre(octets))
        case 0x01 | 0x08:
            return _initiate(octets)
        case 0xD9 | 0xDA | 0xDD | 0xDF:
            name = {0xD9: "access-request", 0xDA: "access-response", 0xDD: "general-ciphering"}
            return f"{name.get(tag, 'general-signing')}, {len(octets)} octets"
    return _service(apdu.decode(octets), hide)


def _sealed(octets: bytes) -> str:
    sealed = Sealed.parse(octets)
    control = sealed.control
    protection = {
        (True, True): "",
        (True, False): ", authenticated only",
        (False, True): ", encrypted only",
        (False, False): ", unprotected",
    }[control.authenticated, control.encrypted]
    words = [SEALED[sealed.tag], f"{len(octets)} octets", f"IC {sealed.counter}"]
    if sealed.title:
        words.insert(1, f"title {sealed.title.hex()}")
    if control.suite:
        words.append(f"suite {control.suite}")
    if control.broadcast:
        words.append("broadcast key")
    return ", ".join(words) + protection


def _aarq(request: association.Aarq) -> str:
    words = [f"AARQ {_context(request.context)}"]
    value = request.authentication_value
    if request.mechanism != association.Mechanism.NONE:
        words.append(f"mechanism {_name(association.Mechanism, request.mechanism)}")
        challenge = request.mechanism in CHALLENGED
        words.append(f"challenge of {len(value)} octets" if challenge else f"password {NOT_SHOWN}")
    if request.calling_title:
        words.append(f"title {request.calling_title.hex()}")
    return ", ".join([*words, _inside(request.initiate)])


def _aare(answer: association.Aare) -> str:
    result = _name(association.Result, answer.result)
    words = [f"AARE {result}", _context(answer.context)]
    if answer.diagnostic:
        source = answer.diagnostic_source
        user = source == association.DiagnosticSource.USER
        why = _name(association.Diagnostic, answer.diagnostic) if user else f"provider {answer.diagnostic}"
        words.append(why)
    if answer.mechanism != association.Mechanism.NONE:
        words.append(f"mechanism {_name(association.Mechanism, answer.mechanism)}")
        words.append(f"challenge of {len(answer.challenge)} octets")
    if answer.responding_title:
        words.append(f"title {answer.responding_title.hex()}")
    if answer.initiate:
        words.append(_inside(answer.initiate))
    return ", ".join(words)


def _release(name: str, release: association.Rlrq | association.Rlre) -> str:
    words = [name] if release.reason is None else [f"{name} reason {release.reason}"]
    return ", ".join([*words, *([_inside(release.initiate)] if release.initiate else [])])


def _inside(initiate: bytes) -> str:
    """What an ACSE APDU carries; anything else there could be nested without end."""
    known = initiate[:1] in (b"\x01", b"\x08", b"\x0e") or (initiate and initiate[0] in SEALED)
    return describe(initiate) if known else f"{len(initiate)} octets that are no initiate"


def _context(context: int) -> str:
    return f"context {_name(association.Context, context)}"


def _initiate(octets: bytes) -> str:
    match decode_initiate(octets):
        case InitiateRequest() as request:
            words = ["initiate-request", f"largest PDU {request.max_pdu}"]
            if request.dedicated_key:
                words.append(f"dedicated key {NOT_SHOWN}")
        case InitiateResponse() as request:
            words = ["initiate-response", f"largest PDU {request.max_pdu}"]
        case other:
            return _service(other, False)
    named = [flag.name.replace("_", "-").lower() for flag in request.conformance if flag.name]
    return ", ".join([*words, "conformance " + " ".join(named)])


class _Form(NamedTuple):
    """How an APDU is told: its name, what it is about, and after the invoke id what it says."""

    name: str
    about: Callable[[Any], str] = lambda _: ""
    said: Callable[[Any], str] = lambda _: ""
    values: bool = False
    """What it says may be a secret."""


def _service(found: apdu.Apdu, hide: bool) -> str:
    form = _FORMS[type(found)]
    about = f"{form.name} {form.about(found)}".rstrip()
    invoke = getattr(found, "invoke", None)
    invoked = _invoke(invoke) if isinstance(invoke, Invoke) else ""
    said = NOT_SHOWN if hide and form.values else form.said(found)
    return f"{about}{invoked}: {said}" if said else f"{about}{invoked}"


def _block(found: Any) -> str:
    return f"block {found.number} (last)" if getattr(found, "last", False) else f"block {found.number}"


def _size(found: Any) -> str:
    return f"{len(found.raw)} octets"


def _reads(found: apdu.GetRequest) -> str:
    part = f", selector {found.access.selector}" if found.access else ""
    return _attribute(found.attribute) + part


def _chosen(found: Any) -> str:
    return _several(_attribute(one.attribute) for one in found.attributes)


def _access_result(found: Any) -> str:
    return _name(DataAccessResult, found.result)


def _access_results(found: Any) -> str:
    return _several(_name(DataAccessResult, one) for one in found.results)


def _block_or_refusal(found: apdu.GetBlockResponse) -> str:
    return _size(found) if found.result is None else f"refused: {_name(DataAccessResult, found.result)}"


def _returned(found: apdu.ActionResponse) -> str:
    words = [_name(ActionResult, found.result)]
    if found.data is not None:
        words.append(_value(found.data))
    if found.data_result is not None:
        words.append(_name(DataAccessResult, found.data_result))
    return ", ".join(words)


def _refusal(found: apdu.ExceptionResponse) -> str:
    words = [_name(ExceptionState, found.state), _name(ExceptionService, found.service)]
    return ", ".join(words if found.counter is None else [*words, f"expects IC {found.counter}"])


_FORMS: dict[type, _Form] = {
    apdu.GetRequest: _Form("get-request", _reads),
    apdu.GetNextRequest: _Form("get-request, next after", _block),
    apdu.GetListRequest: _Form("get-request-with-list", _chosen),
    apdu.GetResponse: _Form("get-response", said=lambda found: _value_or_result(found.result), values=True),
    apdu.GetBlockResponse: _Form("get-response", _block, _block_or_refusal),
    apdu.GetListResponse: _Form(
        "get-response-with-list",
        said=lambda found: _several(map(_value_or_result, found.results)),
        values=True,
    ),
    apdu.SetRequest: _Form(
        "set-request",
        lambda found: _attribute(found.attribute),
        lambda found: _value(found.data),
        values=True,
    ),
    apdu.SetFirstBlockRequest: _Form(
        "set-request", lambda found: f"{_attribute(found.attribute)}, {_block(found)}", _size
    ),
    apdu.SetBlockRequest: _Form("set-request", _block, _size),
    apdu.SetListRequest: _Form(
        "set-request-with-list", _chosen, lambda found: _several(map(_value, found.values)), values=True
    ),
    apdu.SetListFirstBlockRequest: _Form(
        "set-request-with-list", lambda found: f"{_chosen(found)}, {_block(found)}", _size
    ),
    apdu.SetResponse: _Form("set-response", said=_access_result),
    apdu.SetBlockResponse: _Form("set-response, next after", _block),
    apdu.SetLastBlockResponse: _Form("set-response, last", _block, _access_result),
    apdu.SetListLastBlockResponse: _Form("set-response-with-list, last", _block, _access_results),
    apdu.SetListResponse: _Form("set-response-with-list", said=_access_results),
    apdu.ActionRequest: _Form(
        "action-request",
        lambda found: _method(found.method),
        lambda found: "" if found.data is None else _argument(found.method, found.data),
        values=True,
    ),
    apdu.ActionNextPblockRequest: _Form("action-request, next after", _block),
    apdu.ActionListRequest: _Form(
        "action-request-with-list",
        lambda found: _several(map(_method, found.methods)),
        lambda found: _several(map(_value, found.values)),
        values=True,
    ),
    apdu.ActionFirstPblockRequest: _Form(
        "action-request", lambda found: f"{_method(found.method)}, {_block(found)}", _size
    ),
    apdu.ActionListFirstPblockRequest: _Form(
        "action-request-with-list",
        lambda found: f"{_several(map(_method, found.methods))}, {_block(found)}",
        _size,
    ),
    apdu.ActionPblockRequest: _Form("action-request", _block, _size),
    apdu.ActionResponse: _Form("action-response", said=_returned, values=True),
    apdu.ActionPblockResponse: _Form("action-response", _block, _size),
    apdu.ActionListResponse: _Form(
        "action-response-with-list",
        said=lambda found: _several(_name(ActionResult, one.result) for one in found.outcomes),
    ),
    apdu.ActionNextPblockResponse: _Form("action-response, next after", _block),
    apdu.ExceptionResponse: _Form("exception-response", said=_refusal),
    apdu.ConfirmedServiceError: _Form(
        "confirmed-service-error",
        said=lambda found: f"service {found.service}, error {found.choice}.{found.value}",
    ),
    apdu.DataNotification: _Form("data-notification", said=lambda found: _value(found.data), values=True),
    apdu.GeneralBlockTransfer: _Form("general-block-transfer", _block, _size),
}


def _attribute(named: Attribute) -> str:
    return _member(named.class_id, named.instance, named.attribute, _ATTRIBUTES, "attribute")


def _method(named: Method) -> str:
    return _member(named.class_id, named.instance, named.method, _METHODS, "method")


def _member(class_id: int, instance: bytes, number: int, names: dict[tuple[int, int], str], what: str) -> str:
    name = names.get((class_id, number))
    told = f" ({name})" if name else ""
    return f"class {class_id} {obis_text(instance)} {what} {number}{told}"


def _invoke(invoke: Invoke) -> str:
    return f", invoke {invoke.id}" + ("" if invoke.confirmed else ", unconfirmed")


def _argument(method: Method, data: Data) -> str:
    """Image Transfer in its own words: the octets of a block are told by their number."""
    match (method.class_id, method.method), data.tag, data.value:
        case (15, 1), _, bytes(proof):
            return f"proof of {len(proof)} octets"
        case (18, 1 | 2), Tag.STRUCTURE, _:
            match [member.value for member in members(data)]:
                case [int(number), bytes(block)]:
                    return f"block {number}, {len(block)} octets"
                case [bytes(identifier), int(size)]:
                    return f"image {_octets(identifier)}, {size} octets"
    return _value(data)


def _value_or_result(result: Data | int) -> str:
    return _value(result) if isinstance(result, Data) else f"refused: {_name(DataAccessResult, result)}"


def _value(data: Data) -> str:
    text = _value_of(data)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _value_of(data: Data) -> str:
    match data.value:
        case None:
            return "null"
        case BitString(octets=octets, length=length):
            return f"{length} bits {_hex(octets)}"
        case CompactArray(elements=elements):
            return f"[{_several(map(_value_of, elements))}]"
        case tuple() as elements:
            opening, closing = "{}" if data.tag is Tag.STRUCTURE else "[]"
            return f"{opening}{_several(map(_value_of, elements))}{closing}"
        case bytes(octets):
            return _octets(octets)
        case str(text):
            return ascii(text[:_SHOWN_CHARACTERS])
        case bool(value):
            return "true" if value else "false"
        case value:
            return str(value)


def _octets(octets: bytes) -> str:
    """Text as text."""
    if octets and all(0x20 <= octet < 0x7F for octet in octets):
        return ascii(octets[:_SHOWN_CHARACTERS].decode("ascii"))
    return _hex(octets) or "no octets"


def _hex(octets: bytes) -> str:
    more = f"... ({len(octets)} octets)" if len(octets) > _SHOWN_OCTETS else ""
    return octets[:_SHOWN_OCTETS].hex() + more


def _several(words: Iterable[str]) -> str:
    """The first of them, and how many there are."""
    told = list(words)
    more = [f"... {len(told)} in all"] if len(told) > _SHOWN_ELEMENTS else []
    return ", ".join([*told[:_SHOWN_ELEMENTS], *more])


def _name(names: type[IntEnum], value: int) -> str:
    """`read-write-denied (3)`, `success`, or the number alone."""
    try:
        name = names(value).name.replace("_", "-").lower()
    except ValueError:
        return str(int(value))
    return name if value == 0 else f"{name} ({int(value)})"
