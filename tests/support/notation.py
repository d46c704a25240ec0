"""What was decoded, written down as the `fields` of the golden vectors write it, so that the two can be compared
as a whole: a field that is missing, wrong or too many shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from gateway.wire import apdu as service
from gateway.wire import association as acse
from gateway.wire.axdr import CompactArray, Data, Tag, TypeDescription, members
from gateway.wire.initiate import Conformance, Initiate, InitiateRequest, InitiateResponse, decode_initiate
from gateway.wire.security import Sealed

KINDS: dict[type, str] = {
    service.GetRequest: "get-request-normal",
    service.GetNextRequest: "get-request-next",
    service.GetListRequest: "get-request-with-list",
    service.GetResponse: "get-response-normal",
    service.GetBlockResponse: "get-response-with-datablock",
    service.GetListResponse: "get-response-with-list",
    service.SetRequest: "set-request-normal",
    service.SetFirstBlockRequest: "set-request-with-first-datablock",
    service.SetBlockRequest: "set-request-with-datablock",
    service.SetListRequest: "set-request-with-list",
    service.SetResponse: "set-response-normal",
    service.SetLastBlockResponse: "set-response-last-datablock",
    service.SetListResponse: "set-response-with-list",
    service.ActionRequest: "action-request-normal",
    service.ActionListRequest: "action-request-with-list",
    service.ActionPblockRequest: "action-request-with-pblock",
    service.ActionResponse: "action-response-normal",
    service.ActionPblockResponse: "action-response-with-pblock",
    service.ActionListResponse: "action-response-with-list",
    service.ExceptionResponse: "exception-response",
    service.ConfirmedServiceError: "confirmedServiceError",
    service.DataNotification: "data-notification",
    service.GeneralBlockTransfer: "general-block-transfer",
    InitiateRequest: "initiateRequest",
    InitiateResponse: "initiateResponse",
}

_SEALED_KINDS = {
    0x21: "glo-initiateRequest", 0x28: "glo-initiateResponse",
    0xC8: "glo-get-request", 0xCB: "glo-action-request", 0xCD: "glo-set-response", 0xCF: "glo-action-response",
    0xD3: "ded-action-request", 0xDB: "general-glo-ciphering",
}  # fmt: skip

_CONFORMANCE_NAMES = {
    Conformance.RESERVED_ZERO: "reserved-zero",
    Conformance.GENERAL_PROTECTION: "general-protection",
    Conformance.GENERAL_BLOCK_TRANSFER: "general-block-transfer",
    Conformance.READ: "read",
    Conformance.WRITE: "write",
    Conformance.UNCONFIRMED_WRITE: "unconfirmed-write",
    Conformance.DELTA_VALUE_ENCODING: "delta-value-encoding",
    Conformance.RESERVED_SEVEN: "reserved-seven",
    Conformance.ATTRIBUTE0_WITH_SET: "attribute0-supported-with-set",
    Conformance.PRIORITY: "priority-mgmt-supported",
    Conformance.ATTRIBUTE0_WITH_GET: "attribute0-supported-with-get",
    Conformance.BLOCK_TRANSFER_WITH_GET: "block-transfer-with-get-or-read",
    Conformance.BLOCK_TRANSFER_WITH_SET: "block-transfer-with-set-or-write",
    Conformance.BLOCK_TRANSFER_WITH_ACTION: "block-transfer-with-action",
    Conformance.MULTIPLE_REFERENCES: "multiple-references",
    Conformance.INFORMATION_REPORT: "information-report",
    Conformance.DATA_NOTIFICATION: "data-notification",
    Conformance.ACCESS: "access",
    Conformance.PARAMETERIZED_ACCESS: "parameterized-access",
    Conformance.GET: "get",
    Conformance.SET: "set",
    Conformance.SELECTIVE_ACCESS: "selective-access",
    Conformance.EVENT_NOTIFICATION: "event-notification",
    Conformance.ACTION: "action",
}


# -- values ---------------------------------------------------------------------------------------------------


def data_text(data: Data) -> str:
    """E.g. `structure{double-long-unsigned:16384, octet-string:41424344}`."""
    name = data.tag.name.lower().replace("_", "-")
    match data.tag:
        case Tag.NULL:
            return "null-data"
        case Tag.STRUCTURE:
            return f"structure{{{_list_text(members(data))}}}"
        case Tag.ARRAY:
            return f"array[{_list_text(members(data))}]"
        case Tag.COMPACT_ARRAY:
            assert isinstance(data.value, CompactArray)
            return f"compact-array<{_type_text(data.value.description)}>[{_list_text(data.value.elements)}]"
    match data.value:
        case bool(value):
            return f"{name}:{str(value).lower()}"
        case bytes(value):
            return f"{name}:{value.hex()}"
        case str(value):
            return f'{name}:"{value}"'
        case (bytes(octets), int(length)):
            return f"{name}:" + "".join(f"{octet:08b}" for octet in octets)[:length]
    return f"{name}:{data.value}"


def _list_text(elements: tuple[Data, ...]) -> str:
    return ", ".join(map(data_text, elements))


def _type_text(description: TypeDescription) -> str:
    inner = ",".join(map(_type_text, description.elements))
    match description.tag:
        case Tag.STRUCTURE:
            return f"structure({inner})"
        case Tag.ARRAY:
            return f"array({description.repeat},{inner})"
    return str(int(description.tag))


def same_value(one: Data, other: Data) -> bool:
    """Equal, where NaN is equal to itself."""
    if isinstance(one.value, float) and isinstance(other.value, float) and math.isnan(one.value):
        return one.tag is other.tag and math.isnan(other.value)
    if one.tag in (Tag.ARRAY, Tag.STRUCTURE, Tag.COMPACT_ARRAY) and one.tag is other.tag:
        return len(members(one)) == len(members(other)) and all(map(same_value, members(one), members(other)))
    return one == other


# -- services -------------------------------------------------------------------------------------------------


def service_fields(apdu: service.Apdu) -> dict[str, Any]:
    """All fields of a service APDU."""
    fields: dict[str, Any] = {"apdu_kind": KINDS[type(apdu)]}
    match apdu:
        case service.ExceptionResponse(state, error, counter):
            fields |= {"state_error": _enum_text(state), "service_error": _enum_text(error)}
            fields |= {} if counter is None else {"invocation_counter": counter}
        case service.ConfirmedServiceError(number, choice, value):
            fields |= {"service": number, "service_error_choice": choice, "service_error_value": value}
        case service.DataNotification(invoke, date_time, data):
            fields |= {"long_invoke_id_and_priority": f"{invoke:08x}", "date_time": date_time.hex()}
            fields |= {"data": data_text(data)}
        case service.GeneralBlockTransfer():
            fields |= {"last_block": apdu.last, "streaming": apdu.streaming, "window": apdu.window}
            fields |= {"block_number": apdu.number, "block_number_ack": apdu.acknowledged} | _raw(apdu.raw)
        case _:
            fields |= _invoke(apdu.invoke) | _confirmed_fields(apdu)
    return fields


def _confirmed_fields(apdu: service.Apdu) -> dict[str, Any]:
    match apdu:
        case service.GetRequest(_, attribute, access):
            return _attribute(attribute) | _access(access)
        case service.GetListRequest(_, attributes):
            return _numbered([_selection(item) for item in attributes])
        case service.GetResponse(_, result):
            return _result(result)
        case service.GetBlockResponse(_, last, number, raw, None):
            return {"last_block": last, "block_number": number} | _raw(raw)
        case service.GetListResponse(_, results):
            return _numbered([_result(result) for result in results])
        case service.SetRequest(_, attribute, data, access):
            return _attribute(attribute) | _access(access) | {"data": data_text(data)}
        case service.SetFirstBlockRequest(_, attribute, last, number, raw, access):
            block = {"last_block": last, "block_number": number} | _raw(raw)
            return _attribute(attribute) | _access(access) | block
        case service.SetListRequest(_, attributes, values):
            value_fields = [{"data": data_text(value)} for value in values]
            return _numbered([_selection(item) for item in attributes]) | _numbered(value_fields)
        case service.SetResponse(_, result):
            return _result(result)
        case service.SetLastBlockResponse(_, result, number):
            return _result(result) | {"block_number": number}
        case service.SetListResponse(_, results):
            return _numbered([_result(result) for result in results])
        case service.ActionRequest(_, method, data):
            present = {"has_parameters": data is not None}
            return _method(method) | present | ({} if data is None else {"data": data_text(data)})
        case service.ActionListRequest(_, methods, values):
            value_fields = [{"data": data_text(value)} for value in values]
            return _numbered([_method(method) for method in methods]) | _numbered(value_fields)
        case service.ActionResponse(_, result, data, data_result):
            return _outcome(service.ActionOutcome(result, data, data_result))
        case service.ActionListResponse(_, outcomes):
            return _numbered([_outcome(outcome) for outcome in outcomes])
        case service.SetBlockRequest() | service.ActionPblockRequest() | service.ActionPblockResponse():
            return {"last_block": apdu.last, "block_number": apdu.number} | _raw(apdu.raw)
    raise NotImplementedError(f"no vector is a {type(apdu).__name__}")


def _invoke(invoke: service.Invoke) -> dict[str, Any]:
    octet = invoke.id | invoke.confirmed << 6 | invoke.high_priority << 7
    return {
        "invoke_id": invoke.id,
        "confirmed": invoke.confirmed,
        "high_priority": invoke.high_priority,
        "invoke_id_and_priority": f"{octet:02x}",
    }


def _attribute(attribute: service.Attribute) -> dict[str, Any]:
    return _object(attribute.class_id, attribute.instance) | {"attribute_id": attribute.attribute}


def _method(method: service.Method) -> dict[str, Any]:
    return _object(method.class_id, method.instance) | {"method_id": method.method}


def _object(class_id: int, instance: bytes) -> dict[str, Any]:
    return {"class_id": class_id, "logical_name": ".".join(map(str, instance))}


def _access(access: service.Access | None) -> dict[str, Any]:
    if access is None:
        return {}
    return {"access_selector": access.selector, "access_parameters": data_text(access.parameters)}


def _selection(selection: service.Selection) -> dict[str, Any]:
    return _attribute(selection.attribute) | _access(selection.access)


def _result(result: Data | int) -> dict[str, Any]:
    if isinstance(result, Data):
        return {"data": data_text(result)}
    return {"data_access_result": _enum_text(result)}


def _outcome(outcome: service.ActionOutcome) -> dict[str, Any]:
    returned = outcome.data is not None or outcome.data_result is not None
    fields = {"action_result": _enum_text(outcome.result), "has_return_parameters": returned}
    return fields | ({} if outcome.data is None else {"return_data": data_text(outcome.data)})


def _raw(raw: bytes) -> dict[str, Any]:
    return {"raw_data": raw.hex(), "raw_length": len(raw)}


def _numbered(elements: list[dict[str, Any]]) -> dict[str, Any]:
    numbered = {
        f"i{n}_{name}": value for n, element in enumerate(elements) for name, value in element.items()
    }
    return {"count": len(elements)} | numbered


def _enum_text(value: int) -> str:
    assert isinstance(value, IntEnum), f"{value} has no name"
    return value.name.lower().replace("_", "-")


# -- ciphering ------------------------------------------------------------------------------------------------


def sealed_fields(octets: bytes) -> dict[str, Any]:
    """All that can be read of a ciphered APDU without a key."""
    sealed = Sealed.parse(octets)
    fields = {
        "apdu_kind": _SEALED_KINDS[sealed.tag],
        "security_control": f"{sealed.control.to_octet():02x}",
        "suite": sealed.control.suite,
        "authenticated": sealed.control.authenticated,
        "encrypted": sealed.control.encrypted,
        "broadcast_key": sealed.control.broadcast,
        "compressed": sealed.control.compressed,
        "invocation_counter": sealed.counter,
    }
    if sealed.plain_tag is None:
        return fields | {"system_title": sealed.title.hex(), "ciphered_length": len(sealed.contents) + 5}
    return fields | {"ciphered": octets.hex()}


# -- associations ---------------------------------------------------------------------------------------------


def initiate_fields(initiate: Initiate) -> dict[str, Any]:
    """All fields of a plain initiate APDU."""
    match initiate:
        case InitiateRequest():
            quality = {"proposed_qos": initiate.quality_of_service}
            fields = {"response_allowed": initiate.response_allowed}
        case InitiateResponse():
            quality = {"negotiated_qos": initiate.quality_of_service}
            fields = {"vaa_name": f"{initiate.vaa_name:04x}"}
        case service.ConfirmedServiceError():
            return service_fields(initiate)
    return fields | (quality if initiate.quality_of_service is not None else {}) | {
        "apdu_kind": KINDS[type(initiate)],
        "dlms_version": initiate.version,
        "conformance": f"{initiate.conformance:06x}",
        "conformance_names": [name for bit, name in _CONFORMANCE_NAMES.items() if bit in initiate.conformance],
        "max_receive_pdu_size": initiate.max_pdu,
    }  # fmt: skip


def acse_fields(kind: str, apdu: acse.Aarq | acse.Aare | acse.Rlrq | acse.Rlre) -> dict[str, Any]:
    """All fields of an ACSE APDU, those of the initiate APDU inside with "ui_" before their names."""
    fields: dict[str, Any] = {"apdu_kind": kind}
    match apdu:
        case acse.Aarq():
            fields |= _names(apdu.context, apdu.mechanism, apdu.authentication_value)
            fields |= {"calling_ap_title": apdu.calling_title.hex()}
        case acse.Aare():
            source = "acse-service-user" if apdu.diagnostic_source == 1 else "acse-service-provider"
            fields |= _names(apdu.context, apdu.mechanism, apdu.challenge)
            fields |= {"result": apdu.result, "diagnostic_source": source, "diagnostic": apdu.diagnostic}
            fields |= {"responding_ap_title": apdu.responding_title.hex()}
        case acse.Rlrq() | acse.Rlre():
            fields |= {} if apdu.reason is None else {"reason": apdu.reason}
    if apdu.initiate:
        fields |= {"user_information": apdu.initiate.hex()}
        plain = apdu.initiate[0] in (0x01, 0x08, 0x0E)
        inner = initiate_fields(decode_initiate(apdu.initiate)) if plain else sealed_fields(apdu.initiate)
        fields |= {f"ui_{name}": value for name, value in inner.items()}
    return without_empty_titles(fields)


def without_empty_titles(fields: Mapping[str, Any]) -> dict[str, Any]:
    """An empty system title is the same as none: some clients write it, some leave it out."""
    titles = ("calling_ap_title", "responding_ap_title")
    return {name: value for name, value in fields.items() if value or name not in titles}


def _names(context: int, mechanism: int, value: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = {"context_name": f"2.16.756.5.8.1.{int(context)}", "context_id": context}
    if mechanism != acse.Mechanism.NONE:
        fields |= {"acse_requirements": "0780", "mechanism_name": f"2.16.756.5.8.2.{int(mechanism)}"}
        fields |= {"mechanism_id": mechanism, "auth_value": value.hex()}
    return fields
