"""What it means for us when a meter refuses: an association, a request, or whatever it was."""

from __future__ import annotations

from enum import IntEnum

from gateway.errors import (
    AccessError,
    AssociationError,
    CounterRefusedError,
    LinkLostError,
    MeterError,
    NotNowError,
    SecurityError,
)
from gateway.wire import apdu, association
from gateway.wire.cosem import ActionResult, DataAccessResult, ExceptionService, ExceptionState


def check_accepted(answer: association.Aare) -> None:
    """Raises SecurityError, NotNowError or AssociationError where the association is refused. Result 0 with diagnostic
    14 (authentication required) is the normal answer for HLS (Green Book)."""
    if answer.result == 0:
        return
    detail = f"AARE result {answer.result}, diagnostic {int(answer.diagnostic)}"
    if isinstance(answer.diagnostic, association.Diagnostic):
        detail += f", {_spelled(answer.diagnostic)}"
    if answer.diagnostic == association.Diagnostic.AUTHENTICATION_FAILURE:
        raise SecurityError("the meter refuses our authentication", detail=detail)
    refusal = NotNowError if answer.result == association.Result.REJECTED_TRANSIENT else AssociationError
    raise refusal(f"the meter refuses the association: {detail}", detail=detail)


def access(service: str, result: int) -> AccessError:
    """A data-access-result or action-result that is not success."""
    names = ActionResult if service == "ACTION" else DataAccessResult
    named = f", {_spelled(names(result))}" if result in set(names) else ""
    return AccessError(
        f"{service} refused with result {result}{named}", result=result, detail=f"{service} result {result}"
    )


def exception(answer: apdu.Apdu, *, sent: int, proving: bool) -> MeterError:
    """An exception-response or a confirmed-service-error, neither of them protected. `sent`: our last invocation
    counter; `proving`: it came in answer to our proof."""
    detail = str(answer)
    match answer:
        case apdu.ExceptionResponse(service=ExceptionService.INVOCATION_COUNTER_ERROR, counter=expected):
            wanted = "names none that it expects" if expected is None else f"expects {expected}"
            message = f"the meter refuses invocation counter {sent} and {wanted}"
            return CounterRefusedError(message, sent=sent, expected=expected, detail=detail)
        case (
            apdu.ExceptionResponse(service=ExceptionService.DECIPHERING_ERROR)
            | apdu.ConfirmedServiceError(choice=0, value=6)
        ):
            return SecurityError("the meter cannot decipher us", detail=detail)
        case _ if proving:
            return SecurityError("the meter does not accept our proof", detail=detail)
        case apdu.ExceptionResponse(state=ExceptionState.SERVICE_NOT_ALLOWED):
            return LinkLostError("the meter has no association with us", detail=detail)
        case _:
            return AssociationError("the meter answers with an exception", detail=detail)


def _spelled(name: IntEnum) -> str:
    return name.name.lower().replace("_", "-")
