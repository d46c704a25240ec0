"""The meter's side of Image Transfer, class 18 version 0 (Blue Book, "Image transfer"): flash, bitmap and status.

    not initiated -m1-> initiated -m2...-> initiated -m3-> verification initiated -> successful | failed
                   verification successful -m4-> activation initiated -> (reboot) -> successful | failed

Everything is evaluated when somebody asks, at the time he asks: there are no timers. The state is what a meter
keeps in flash: it survives reboots.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, cast

from gateway.model import IdentifierSource
from gateway.model import ImageTransferStatus as Status
from gateway.simulator.faults import A4, A5, A7, Bitmap, Dice, Erasing, Faults
from gateway.simulator.history import History, What
from gateway.simulator.spec import MeterSpec
from gateway.wire import axdr
from gateway.wire.apdu import ActionResult, DataAccessResult
from gateway.wire.axdr import Data, Tag

_REVERSED = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))


class Outcome(NamedTuple):
    """What became of a method, and what the meter does besides answering."""

    result: int
    late_s: float = 0.0
    """The answer comes so much later."""
    deaf_s: float = 0.0
    """Nothing is heard for so long."""
    reboots: bool = False


_TAKEN = Outcome(ActionResult.SUCCESS)


class ImageTransfer:
    """The Image Transfer object of one meter, with the firmware it concerns."""

    def __init__(self, spec: MeterSpec, faults: Faults, history: History, chance: Dice) -> None:
        self._spec = spec
        self._faults = faults
        self._history = history
        self._chance = chance
        self.active_version = spec.version
        self.active_sha256 = ""
        """Of the image that was activated last; empty: the meter runs what it left the factory with."""
        self.status = faults.left_by_others
        self.enabled = spec.transfer_enabled
        self.identifier = b""
        self._image = bytearray()
        self._size = 0
        self._there = bytearray()
        """One octet for each block: 1 where it is stored."""
        self._stored = 0
        """Octets that were stored since initiate."""
        self._lost: set[int] = set()
        self._erased_at_s = 0.0
        self._verified_at_s = 0.0
        self._activated_at_s = 0.0
        if self.status is not Status.NOT_INITIATED:
            self._expect(b"an image of somebody else", 16 * spec.block_size)
            self._there[:] = b"\1" * 16

    # -- what tests look at

    @property
    def image(self) -> bytes:
        """The stored octets, zeros where blocks are missing."""
        return bytes(self._image)

    @property
    def image_sha256(self) -> str:
        return hashlib.sha256(self._image).hexdigest()

    @property
    def block_count(self) -> int:
        return len(self._there)

    @property
    def complete(self) -> bool:
        return bool(self._there) and all(self._there)

    # -- attributes

    def get(self, attribute: int, now_s: float) -> Data | DataAccessResult:
        """Attribute 2 to 7."""
        self.settle(now_s)
        match attribute:
            case 2:
                a2 = self._faults.a2
                return axdr.u32(self._spec.block_size if a2 is None else a2)
            case 3:
                return self._bitmap()
            case 4:
                return axdr.u32(self._first_not_transferred())
            case 5:
                return axdr.boolean(self.enabled)
            case 6:
                return axdr.enum(self._told_status(now_s))
            case 7:
                return self._to_activate()
            case _:
                return DataAccessResult.OBJECT_UNDEFINED

    def set(self, attribute: int, value: Data) -> DataAccessResult:
        """Only attribute 5, image_transfer_enabled, can be written."""
        form = self._faults.a5
        if attribute != 5 or form is A5.DENIED:
            return DataAccessResult.READ_WRITE_DENIED
        if value.tag is not Tag.BOOLEAN or (form is A5.ONLY_FF and value.value not in (0, 0xFF)):
            return DataAccessResult.TYPE_UNMATCHED
        if form is not A5.IGNORED:
            self.enabled = bool(value.value)
        return DataAccessResult.SUCCESS

    def _told_status(self, now_s: float) -> Status:
        status = self.status
        if now_s < self._erased_at_s and self._faults.erasing is Erasing.BUSY_ANSWER:
            status = Status.NOT_INITIATED
        return self._faults.a6.get(status, status)

    def _bitmap(self) -> Data:
        there = bytearray(self._there)
        for number in self._faults.bitmap_adds:
            there[number : number + 1] = b"\1" * len(there[number : number + 1])
        count = len(there)
        match self._faults.bitmap:
            case Bitmap.GROWING:
                count = there.rfind(1) + 1
            case Bitmap.EMPTY:
                count = 0
            case Bitmap.ALL_ONES:
                there[:] = b"\1" * count
            case _:
                pass
        count = max(0, count - self._faults.bitmap_missing_bits)
        octets = _packed(there[:count])
        if self._faults.bitmap_lsb_first:
            octets = octets.translate(_REVERSED)
        return axdr.bit_string(octets, 8 * len(octets) if self._faults.bitmap is Bitmap.PADDED else count)

    def _first_not_transferred(self) -> int:
        match self._faults.a4:
            case A4.FIRST_MISSING:
                first = self._there.find(0)
                return first if first >= 0 else len(self._there)
            case A4.HIGHEST_PLUS_ONE:
                return self._there.rfind(1) + 1
            case A4.STUCK:
                return 0
            case A4.COMPLETE:
                return len(self._there)

    def _to_activate(self) -> Data | DataAccessResult:
        form = self._faults.a7
        if form is A7.DENIED:
            return DataAccessResult.READ_WRITE_DENIED
        if form is A7.EMPTY or self.status not in (
            Status.VERIFICATION_SUCCESSFUL,
            Status.ACTIVATION_INITIATED,
        ):
            return axdr.array()
        match form:
            case A7.ANOTHER_IMAGE:
                return axdr.array(_info(self._size, b"another image"))
            case A7.ANOTHER_SIZE:
                return axdr.array(_info(self._size + 1, self.identifier))
            case A7.TWO_IMAGES:
                return axdr.array(_info(self._size, self.identifier), _info(4711, b"another image"))
            case _:
                return axdr.array(_info(self._size, self.identifier))

    # -- methods

    def invoke(self, method: int, argument: Data | None, now_s: float) -> Outcome:
        """Method 1 to 4."""
        self.settle(now_s)
        outcome = self._invoked(method, argument, now_s)
        if outcome.result not in (ActionResult.SUCCESS, ActionResult.TEMPORARY_FAILURE):
            self._history.note(now_s, What.REFUSED, outcome.result)
        return outcome

    def _invoked(self, method: int, argument: Data | None, now_s: float) -> Outcome:
        if method not in (1, 2, 3, 4):
            return Outcome(ActionResult.OBJECT_UNDEFINED)
        if not self.enabled:
            return Outcome(ActionResult.READ_WRITE_DENIED)
        if now_s < self._erased_at_s:
            return Outcome(ActionResult.TEMPORARY_FAILURE)
        match method:
            case 1 if values := _members(argument, Tag.OCTET_STRING, Tag.DOUBLE_LONG_UNSIGNED):
                return self._initiate(values[0], values[1], now_s)
            case 2 if values := _members(argument, Tag.DOUBLE_LONG_UNSIGNED, Tag.OCTET_STRING):
                return self._take_block(values[0], values[1], now_s)
            case 3 if argument == axdr.integer(0):
                return self._verify(now_s)
            case 4 if argument == axdr.integer(0):
                return self._activate(now_s)
            case _:
                return Outcome(ActionResult.TYPE_UNMATCHED)

    def _initiate(self, name: bytes, size: int, now_s: float) -> Outcome:
        if self.status in (Status.VERIFICATION_INITIATED, Status.ACTIVATION_INITIATED):
            return Outcome(ActionResult.TEMPORARY_FAILURE)
        spec = self._spec
        if not 0 < size <= spec.image_capacity or name != (spec.image_identifier or name):
            return Outcome(ActionResult.OTHER_REASON)
        if len(name) != (spec.image_identifier_octets or len(name)):
            return Outcome(ActionResult.OTHER_REASON)
        self._history.note(now_s, What.INITIATE, size)
        if self._faults.forgets_initiate:
            return Outcome(ActionResult.SUCCESS)
        self.status = Status.INITIATED
        self._expect(name, size)
        erase_s = spec.erase_s
        match self._faults.erasing:
            case Erasing.SILENT:
                return Outcome(ActionResult.SUCCESS, deaf_s=erase_s)
            case Erasing.LATE_REPLY:
                return Outcome(ActionResult.SUCCESS, late_s=erase_s, deaf_s=erase_s)
            case Erasing.TEMPORARY_FAILURE:
                self._erased_at_s = now_s + erase_s
                return Outcome(ActionResult.SUCCESS)
            case Erasing.BUSY_ANSWER:
                self._erased_at_s = now_s + erase_s
                return Outcome(ActionResult.TEMPORARY_FAILURE)

    def _expect(self, name: bytes, size: int) -> None:
        """The flash is empty, and made ready for this image."""
        self.identifier = name
        self._size = size
        self._image = bytearray(size)
        self._there = bytearray(-(-size // self._spec.block_size))
        self._stored = 0
        self._lost.clear()

    def _take_block(self, number: int, block: bytes, now_s: float) -> Outcome:
        if self.status is Status.VERIFICATION_INITIATED:
            return Outcome(ActionResult.TEMPORARY_FAILURE)
        if self.status is not Status.INITIATED:
            if self._faults.drops_uninitiated_blocks:
                self._history.note(now_s, What.BLOCK, number)
                return Outcome(ActionResult.SUCCESS)
            return Outcome(ActionResult.OTHER_REASON)
        block_size = self._spec.block_size
        start = number * block_size
        if number >= len(self._there):
            return Outcome(ActionResult.OTHER_REASON)
        left = min(block_size, self._size - start)
        fits = len(block) == (block_size if self._faults.padded_last_block else left)
        if not fits and (number or not self._faults.first_block_any_length):
            return Outcome(ActionResult.HARDWARE_FAULT)
        self._history.note(now_s, What.BLOCK, number)
        if not self._loses(number):
            if self._faults.stored_in_order_of_arrival:
                start, left = self._stored, min(left, self._size - self._stored)
            self._stored += left
            self._image[start : start + left] = block[:left].ljust(left, b"\0")
            self._there[number] = 1
        return _TAKEN

    def _loses(self, number: int) -> bool:
        if 0 < self._faults.transfers_with_losses < self._history.initiates:
            return False
        if number in self._faults.blocks_lost_once and number not in self._lost:
            self._lost.add(number)
            return True
        return self._faults.blocks_lost > 0.0 and self._chance.random() < self._faults.blocks_lost

    def _verify(self, now_s: float) -> Outcome:
        self._history.note(now_s, What.VERIFY, self.status)
        if self.status is Status.VERIFICATION_INITIATED:
            if self._faults.fails_on_second_verify:
                self.status = Status.VERIFICATION_FAILED
            return Outcome(ActionResult.TEMPORARY_FAILURE)
        if self.status not in (Status.INITIATED, Status.VERIFICATION_SUCCESSFUL, Status.VERIFICATION_FAILED):
            return Outcome(ActionResult.OTHER_REASON)
        self.status = Status.VERIFICATION_INITIATED
        self._verified_at_s = now_s + self._spec.verify_s
        self.settle(now_s)
        if self._faults.verify_result is not None:
            return Outcome(self._faults.verify_result)
        match self.status:
            case Status.VERIFICATION_INITIATED:
                return Outcome(ActionResult.TEMPORARY_FAILURE)
            case Status.VERIFICATION_SUCCESSFUL:
                return Outcome(ActionResult.SUCCESS)
            case _:
                return Outcome(ActionResult.OTHER_REASON)

    def _activate(self, now_s: float) -> Outcome:
        """An image that was not verified is verified first (Blue Book, image_activate)."""
        self._history.note(now_s, What.ACTIVATE, self.status)
        match self.status:
            case Status.VERIFICATION_INITIATED | Status.ACTIVATION_INITIATED:
                return Outcome(ActionResult.TEMPORARY_FAILURE)
            case Status.VERIFICATION_SUCCESSFUL:
                pass
            case Status.INITIATED if self._good():
                pass
            case _:
                return Outcome(ActionResult.OTHER_REASON)
        if self._faults.activation_ignored:
            return Outcome(self._faults.activate_result)
        self.status = Status.ACTIVATION_INITIATED
        return Outcome(self._faults.activate_result, reboots=True)

    # -- what time and reboots do

    def settle(self, now_s: float) -> None:
        """Let everything happen that was due by now."""
        if self.status is Status.VERIFICATION_INITIATED and now_s >= self._verified_at_s:
            self.status = Status.VERIFICATION_SUCCESSFUL if self._good() else Status.VERIFICATION_FAILED
            self._history.note(self._verified_at_s, What.VERIFIED, self.status)
        if self._activated_at_s and now_s >= self._activated_at_s:
            self._finish_activation()

    def went_down(self, now_s: float) -> None:
        """Power is gone: what was going on stops."""
        self.settle(now_s)
        self._erased_at_s = 0.0
        self._activated_at_s = 0.0
        if self.status is Status.VERIFICATION_INITIATED:
            self.status = Status.INITIATED
        if self.status is not Status.ACTIVATION_INITIATED and self._faults.transfer_lost_by_reboot:
            self._forget(Status.NOT_INITIATED)

    def came_back(self, now_s: float) -> bool:
        """The boot loader has run; True if that was for an activation."""
        if self.status is not Status.ACTIVATION_INITIATED:
            return False
        self._activated_at_s = now_s + self._faults.old_version_s
        self.settle(now_s)
        return True

    def _finish_activation(self) -> None:
        activated_at_s, self._activated_at_s = self._activated_at_s, 0.0
        if self._faults.activation_fails:
            self.status = Status.ACTIVATION_FAILED
        else:
            self.active_version = self._spec.new_version
            self.active_sha256 = self.image_sha256
            self.status = self._faults.status_after_activation
        if self.status is Status.NOT_INITIATED:
            self._forget(self.status)
        self._history.note(activated_at_s, What.ACTIVATED, self.status)

    def _forget(self, status: Status) -> None:
        self.status = status
        self._there = bytearray()

    def _good(self) -> bool:
        """What verification finds."""
        if self._faults.verify_checks_size_only:
            return True
        return (
            self.complete
            and self._spec.image_sha256 in ("", self.image_sha256)
            and self.identifier == self._identifier_in_image()
        )

    def _identifier_in_image(self) -> bytes:
        match self._spec.image_identifier_in:
            case IdentifierSource.GIVEN:
                return self.identifier
            case IdentifierSource.HEAD:
                return bytes(self._image[1 : 1 + self._image[0]])
            case IdentifierSource.MD5:
                return hashlib.md5(self._image, usedforsecurity=False).digest()


def _info(size: int, name: bytes) -> Data:
    """An element of attribute 7."""
    return axdr.structure(axdr.u32(size), axdr.octet_string(name), axdr.octet_string(b""))


def _members(argument: Data | None, *tags: Tag) -> tuple[Any, ...]:
    """The values of a structure whose members are of exactly these types; else nothing."""
    if argument is None or argument.tag is not Tag.STRUCTURE:
        return ()
    members = cast("tuple[Data, ...]", argument.value)
    if [member.tag for member in members] != list(tags):
        return ()
    return tuple([member.value for member in members])


def _packed(flags: bytearray) -> bytes:
    """Flags of 0 and 1, the first one leftmost, eight to an octet."""
    if not flags:
        return b""
    padding = -len(flags) % 8
    digits = flags.translate(_DIGITS) + b"0" * padding
    return int(digits, 2).to_bytes(len(digits) // 8, "big")


_DIGITS = bytes(ord("1") if octet else ord("0") for octet in range(256))
