"""One tree of errors. Each class carries the stable code that users see and the advice that goes with it.

Catch `GatewayError` where work for one meter or one command ends; anything else is a bug and ends the
process (ARCHITECTURE.md, invariant 12). Codes are the ones of the published contract and never change meaning.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Code(StrEnum):
    """The stable codes of replies, snapshots and logs."""

    E_SCHEMA = "E_SCHEMA"
    E_VERB = "E_VERB"
    E_EXPIRED = "E_EXPIRED"
    E_CONFLICT = "E_CONFLICT"
    E_STATE = "E_STATE"
    E_NOT_FOUND = "E_NOT_FOUND"
    E_AUTH = "E_AUTH"
    E_BUSY = "E_BUSY"
    E_CLOCK = "E_CLOCK"
    E_MACHINE = "E_MACHINE"
    F_NET = "F_NET"
    F_HTTP = "F_HTTP"
    F_SIZE = "F_SIZE"
    F_DIGEST = "F_DIGEST"
    F_SIGNATURE = "F_SIGNATURE"
    F_POLICY = "F_POLICY"
    F_DISK = "F_DISK"
    W_NONE = "W_NONE"
    W_EXPIRED = "W_EXPIRED"
    T_PORT = "T_PORT"
    T_SILENT = "T_SILENT"
    T_ASSOCIATION = "T_ASSOCIATION"
    T_SECURITY = "T_SECURITY"
    T_IDENTITY = "T_IDENTITY"
    T_FOREIGN = "T_FOREIGN"
    T_DISABLED = "T_DISABLED"
    T_IDENTIFIER = "T_IDENTIFIER"
    T_BLOCK = "T_BLOCK"
    T_INCOMPLETE = "T_INCOMPLETE"
    T_VERIFY = "T_VERIFY"
    T_ACTIVATE = "T_ACTIVATE"
    T_VERSION = "T_VERSION"
    T_HEALTH = "T_HEALTH"
    T_UNKNOWN = "T_UNKNOWN"
    T_CRASH = "T_CRASH"


ADVICE: dict[Code, str] = {
    Code.E_SCHEMA: "Correct what is named, then send the command again.",
    Code.E_VERB: "Use one of the verbs that `info.get` lists.",
    Code.E_EXPIRED: "Send the command again with a new id and a later `expires`.",
    Code.E_CONFLICT: "This id was used for something else before: choose a new one.",
    Code.E_STATE: "Look at the present state (`campaign show`, `status`, `meters`): the order does not fit it.",
    Code.E_NOT_FOUND: "Check the name: `meters`, `ports`, `image ls` and `campaign ls` list what there is.",
    Code.E_AUTH: "This order is not allowed from here; use the local socket or an allowed verb, or have it signed.",
    Code.E_BUSY: "Wait until present work has ended, or take a lent line back (`port release`); then send it again.",
    Code.E_CLOCK: "The gateway's clock is not synchronised: see `status`, restore time synchronisation.",
    Code.E_MACHINE: "This state was copied from another machine. If that one is out of service for good: stop the "
    "service, `meter-gateway state adopt`, start it. If not: give this one a state of its own (docs/recovery.md).",
    Code.F_NET: "The image server was not reached or not believed: check name, route, firewall and "
    "certificates, then submit again.",
    Code.F_HTTP: "The image server refused: check the URL and its access rights.",
    Code.F_SIZE: "The image is empty, too big, or not of the size that was ordered: check the file and the order.",
    Code.F_DIGEST: "The bytes are not those that were ordered: check the file on the server and its SHA-256.",
    Code.F_SIGNATURE: "No trusted signature covers this image: sign it, or configure the trusted key.",
    Code.F_POLICY: "The policy forbids this image for these meters, or its source: see its manifest and [firmware].",
    Code.F_DISK: "The disk is full or cannot be written: make room (`image rm`, logs), or repair it.",
    Code.W_NONE: "Name a window that is there and opens in time: see `window ls`.",
    Code.W_EXPIRED: "The time for this order has passed: submit a new campaign.",
    Code.T_PORT: "Check the adapter and its cable, or address and network, and that nobody else has the line: "
    "see `ports`.",
    Code.T_SILENT: "Check the wiring, the address, the baud rate and the meter's power; then retry.",
    Code.T_ASSOCIATION: "Check client, authentication and logical address of the meter in the configuration.",
    Code.T_SECURITY: "Correct the meter's keys, password or counter. It is left alone until its keys.toml entry "
    "changes (restart), `counter adopt`, or a `probe` from this machine succeeds: meters lock out.",
    Code.T_IDENTITY: "Another meter answers at this address: correct the configuration or the wiring.",
    Code.T_FOREIGN: "Somebody else began a transfer in this meter: find out who, or order with `take_over`.",
    Code.T_DISABLED: "The meter does not allow image transfer: enable it in the meter.",
    Code.T_IDENTIFIER: "The meter does not know this image by that identifier: use the vendor's exact one.",
    Code.T_BLOCK: "Blocks of this size or form are not what the meter takes: see `block_size` and `pad_last_block`.",
    Code.T_INCOMPLETE: "The meter does not keep the blocks: see the detail, ask its vendor, then retry.",
    Code.T_VERIFY: "The meter rejects the image, it stays on its firmware: check image and meter model.",
    Code.T_ACTIVATE: "The meter did not activate the image and runs its old firmware: see the detail.",
    Code.T_VERSION: "The meter runs another version than expected: compare `expect_version` with the image.",
    Code.T_HEALTH: "A health check differs after the update: look at the meter before going on.",
    Code.T_UNKNOWN: "Nobody knows whether the update took effect: visit or probe the meter.",
    Code.T_CRASH: "A bug of this program, at this meter: report it with the traceback in the log, update the package, "
    "then `campaign retry`.",
}


class GatewayError(Exception):
    """Base of everything this project raises on purpose.

    `message` says what was found and what was expected; `detail` carries the raw DLMS result, HDLC rejection
    or errno. Neither ever holds a secret.
    """

    code: ClassVar[Code] = Code.E_SCHEMA
    retryable: ClassVar[bool] = False
    own_advice: ClassVar[str] = ""

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail

    @property
    def advice(self) -> str:
        """What the operator can do about it: that of the code, where the class has none of its own."""
        return self.own_advice or ADVICE[self.code]


# -- what somebody ordered cannot be done as it was ordered ---------------------------------------------------


class CommandError(GatewayError):
    """An order that is refused; nothing was changed."""


class SchemaError(CommandError):
    code = Code.E_SCHEMA


class VerbError(CommandError):
    code = Code.E_VERB


class ExpiredError(CommandError):
    code = Code.E_EXPIRED


class ConflictError(CommandError):
    code = Code.E_CONFLICT


class StateError(CommandError):
    code = Code.E_STATE


class NotFoundError(CommandError):
    code = Code.E_NOT_FOUND


class AuthError(CommandError):
    code = Code.E_AUTH


class BusyError(CommandError):
    code = Code.E_BUSY
    retryable = True


class WindowError(CommandError):
    """No such window, or none that opens in time."""

    code = Code.W_NONE


class ClockError(CommandError):
    code = Code.E_CLOCK
    retryable = True


# -- the image cannot be had or may not be used ---------------------------------------------------------------


class FirmwareError(GatewayError):
    """The image cannot be had, or may not be used."""

    code = Code.F_NET


class NetError(FirmwareError):
    code = Code.F_NET
    retryable = True


class HttpError(FirmwareError):
    code = Code.F_HTTP


class SizeError(FirmwareError):
    code = Code.F_SIZE


class DigestError(FirmwareError):
    code = Code.F_DIGEST


class SignatureError(FirmwareError):
    code = Code.F_SIGNATURE


class UncheckedError(SignatureError):
    """Nobody could look: this says nothing of the signature."""

    retryable = True
    own_advice = "See that the gateway can run `openssl` (docs/trust.md), then send the command again."


class PolicyError(FirmwareError):
    code = Code.F_POLICY


class DiskError(FirmwareError):
    code = Code.F_DISK
    retryable = True


# -- the meter or its line ------------------------------------------------------------------------------------


class MeterError(GatewayError):
    """One meter, or the line to it, does not do what was asked."""

    code = Code.T_SILENT


class PortError(MeterError):
    """The line itself: no device, held by another program, gone."""

    code = Code.T_PORT
    retryable = True


class LineSharedError(MeterError):
    """Another master talks on the line: nothing that fails meanwhile says anything of a meter."""

    code = Code.T_PORT
    retryable = True


class SilentError(MeterError):
    """No intelligible answer within the time-outs and attempts of the port."""

    code = Code.T_SILENT
    retryable = True


class WireError(SilentError):
    """Octets that mean nothing: a damaged or malformed frame, APDU or value. The only error of `gateway.wire`
    (besides its subclasses)."""


class LongAnswerError(WireError):
    """The meter has more to say than whoever asked takes."""


class LinkLostError(WireError):
    """The meter has no link with us: DM, FRMR, or a closed TCP connection. Associate again and survey."""


class AssociationError(MeterError):
    """The meter rejects the association for another reason than authentication."""

    code = Code.T_ASSOCIATION


class NotNowError(AssociationError):
    """The meter is there and refuses for the moment only (AARE result 2, temporary-failure)."""

    retryable = True


class MachineError(MeterError):
    """The state is a copy of another machine's, whose counters may be in use there: nothing is ciphered."""

    code = Code.E_MACHINE
    retryable = True


class NoHdlcError(AssociationError):
    """The meter signs on at its optical port (mode E) and offers no HDLC there."""


class SecurityError(MeterError):
    """A wrong password, proof, tag, key or counter. Never retried by itself: it parks the meter (invariant 11)."""

    code = Code.T_SECURITY


class ParkedError(SecurityError):
    """The meter is parked: nothing was sent, and nothing that needs its keys will be."""


class CounterSpentError(SecurityError):
    """Our own invocation counters are used up: nothing was sent, and the meter has nothing to do with it."""


class DamagedAnswerError(SecurityError):
    """A wrong tag, or no protection at all, in an answer on a line with HDLC, in an association in which the meter has
    proven itself before. The frame check misses one damaged frame in 65536. Retryable once in a while: see
    `gateway.worker.contact`."""

    retryable = True


class CounterRefusedError(SecurityError):
    """The meter refuses the invocation counter `sent` and, unprotected, names `expected` (None: it names none).

    Retryable only for whoever has raised the counter; otherwise it is a SecurityError like others.
    """

    retryable = True

    def __init__(self, message: str, *, sent: int, expected: int | None, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.sent = sent
        self.expected = expected


class AccessError(MeterError):
    """The meter answered a GET, SET or ACTION with a result other than success; `result` is the raw number."""

    code = Code.T_ASSOCIATION

    def __init__(self, message: str, *, result: int, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.result = result


# -- the machine ----------------------------------------------------------------------------------------------


class ConfigError(GatewayError):
    """A configuration with mistakes; `mistakes` lists all of them, one line each."""

    code = Code.E_SCHEMA

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class StoreError(GatewayError):
    """The state directory cannot be used or written."""

    code = Code.F_DISK


class StateInUseError(StoreError):
    """Another process has the state directory: two would use the same counters."""

    code = Code.E_BUSY
    own_advice = "Stop the daemon that runs with this state first: systemctl stop meter-gateway."


class NewerSchemaError(StoreError):
    """A newer program wrote this state, and this one does not know how to read it: nothing was touched."""

    code = Code.E_STATE
    own_advice = (
        "Install the newer meter-gateway again, which goes on where it stopped. What is known of the meters since is "
        "in its state alone: see docs/recovery.md before going back to an older one."
    )
