"""Everything that can go wrong, and every way a meter can be odd, as one structure of data.

`Faults()` is a perfect line to a perfect meter. A line takes from it what concerns lines, a meter what concerns
meters; the same faults with the same seed give the same octets. Oddities of real meters stand here as settings
so that a scenario is a value, never a subclass.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from gateway.model import ImageTransferStatus
from gateway.simulator.history import What
from gateway.wire.hdlc import Address


@dataclass(frozen=True, slots=True)
class Noise:
    """What a line does to one direction; each is a probability for one frame, but for the two rates."""

    bit_error_rate: float = 0.0
    """Probability for each bit to be flipped."""
    octet_loss_rate: float = 0.0
    """Probability for each octet to be lost."""
    lost: float = 0.0
    damaged: float = 0.0
    """One bit is flipped."""
    octet_lost: float = 0.0
    octet_doubled: float = 0.0
    doubled: float = 0.0
    """The frame arrives twice."""
    delayed: float = 0.0
    delay_s: float = 0.0
    """The longest delay of a delayed frame; frames never overtake each other."""

    @property
    def silent(self) -> bool:
        """There is no noise at all."""
        return not (self.by_rate or self.by_frame)

    @property
    def by_rate(self) -> bool:
        """Bits or octets suffer, wherever they stand."""
        return bool(self.bit_error_rate or self.octet_loss_rate)

    @property
    def by_frame(self) -> bool:
        """Something happens to whole frames."""
        return bool(
            self.lost or self.damaged or self.octet_lost or self.octet_doubled or self.doubled or self.delayed
        )


class Echo(Enum):
    """What an optical head, or a transceiver that listens to itself, gives back of what is sent through it."""

    NONE = "none"
    WHOLE = "whole"
    HALF = "half"
    """The first half of what was written."""
    DAMAGED = "damaged"
    """Everything, with one bit flipped."""


@dataclass(frozen=True, slots=True)
class Talk:
    """Somebody on the line who talks unasked, from `from_s` on, counted from the beginning of the line: a meter that
    jabbers, or a second master with his meters. He hears nobody, so what others say meanwhile collides with it."""

    from_s: float = 0.0
    octets: bytes = b""
    """What he says, once in each spell; empty: garbage without a gap, for `for_s`."""
    for_s: float = math.inf
    pause_s: float = math.inf
    """From the end of a spell to the next one; for ever: there is only one."""


class Then(Enum):
    """What a mishap does to a meter that has just executed a request."""

    LOSE_REPLY = "lose reply"
    """The reply is not sent, but repeated where N(R) asks for it (over the TCP wrapper it is gone)."""
    FALL_SILENT = "fall silent"
    """The reply is not sent, and nothing is heard for `for_s`."""
    REBOOT = "reboot"
    """The reply is not sent: power fails, and the meter boots."""
    FALSIFY_REPLY = "falsify reply"
    """The last octet of the reply is damaged, and its frame check fits all the same."""
    EXCHANGE = "exchange"
    """The reply is not sent, and from now on it says of itself what `Faults.exchanged` says: another meter stands at
    the address, behind something that keeps the link."""


@dataclass(frozen=True, slots=True)
class Mishap:
    """When `after` has happened for the `nth` time (from 1, over the life of the meter), `then` follows."""

    after: What
    nth: int
    then: Then
    for_s: float = 0.0


class Erasing(Enum):
    """How a meter behaves that erases flash after initiate (`MeterSpec.erase_s`)."""

    SILENT = "silent"
    """Answers initiate, then hears nothing until the flash is erased."""
    LATE_REPLY = "late reply"
    """Answers initiate only when the flash is erased, and hears nothing before that."""
    TEMPORARY_FAILURE = "temporary-failure"
    """Answers all the time, but every method of class 18 with temporary-failure."""
    BUSY_ANSWER = "busy answer"
    """The same, and initiate itself too; attribute 6 turns to initiated when the flash is erased."""


class Bitmap(Enum):
    """Form of attribute 3."""

    FULL = "full"
    """One bit for each block."""
    PADDED = "padded"
    """Padded with zeros to whole octets."""
    GROWING = "growing"
    """Ends with the highest block that is there: empty after initiate."""
    EMPTY = "empty"
    """Not one bit, ever."""
    ALL_ONES = "all ones"
    """Every block is there, says the meter."""


class A4(Enum):
    """What attribute 4 tells."""

    FIRST_MISSING = "first missing"
    HIGHEST_PLUS_ONE = "highest plus one"
    """Gaps are hidden."""
    STUCK = "stuck"
    """At 0."""
    COMPLETE = "complete"
    """The number of blocks, from initiate on."""


class A5(Enum):
    """What a SET of attribute 5 does."""

    WRITABLE = "writable"
    ONLY_FF = "only FF"
    """TRUE is taken as 0xFF only, type-unmatched otherwise."""
    DENIED = "denied"
    IGNORED = "ignored"
    """Success, and nothing is changed."""


class A7(Enum):
    """What attribute 7 tells once the image is verified."""

    IMAGE = "image"
    EMPTY = "empty"
    DENIED = "denied"
    ANOTHER_IMAGE = "another image"
    ANOTHER_SIZE = "another size"
    TWO_IMAGES = "two images"
    """The one that was sent, and another."""


@dataclass(frozen=True, slots=True)
class Faults:
    """One scenario. Probabilities are between 0 and 1, times in seconds."""

    # -- the line
    to_meter: Noise = Noise()
    to_gateway: Noise = Noise()
    cuts_at_octet: tuple[int, ...] = ()
    """The line is gone after so many octets, both ways together, counted from its beginning or the last cut; it
    works again once it was opened again."""
    unplugged: tuple[tuple[float, float], ...] = ()
    """From when to when the adapter is out of its socket, counted from the beginning of the line. On a pty its link
    is gone meanwhile, and another device comes back."""
    echo: Echo = Echo.NONE
    turnaround_s: float = 0.0
    """What the line needs each time to change its direction: a converter that switches, or collects what it hands
    over."""
    talks: tuple[Talk, ...] = ()
    read_chunk_octets: int = 0
    """At most so many octets come from one read; 0: as many as are there."""

    # -- mishaps of the meter
    mishaps: tuple[Mishap, ...] = ()
    replies_lost: float = 0.0
    """Probability that an executed request is answered only where N(R) asks for it."""
    transfer_lost_by_reboot: bool = False
    """A reboot in mid-transfer forgets the initiated image."""

    # -- the link
    refuses_snrm_parameters: bool = False
    """DM to an SNRM that carries parameters."""
    ignores_snrm_parameters: bool = False
    """No answer to an SNRM that carries parameters."""
    ua_repeats_own: bool = False
    """Names its own parameters in the UA whatever was proposed, and goes by them."""
    hears_info_octets: int = 0
    """Frames with more information are not heard, whatever was agreed; 0: all are."""
    hears_one_of_window: bool = False
    """Of the frames of a window it only hears the first, whatever was agreed."""
    wedges_on_window: bool = False
    """At the second frame of a window it falls silent, until SNRM."""
    ignores_poll: bool = False
    """No answer to RR."""
    frmr_on_repeat: bool = False
    """FRMR to an I-frame that came before."""

    frames_missed: float = 0.0
    """Probability that a frame is not heard by this meter, whoever else hears it."""
    broadcasts_missed: float = 0.0
    """The same of a frame to all stations."""

    # -- security
    silent_refusals: bool = False
    """Nothing instead of an exception for a wrong tag, policy or counter."""
    lockout_s: float = 0.0
    """For so long after a failed authentication nobody is authenticated."""

    # -- who it is
    answers_as: Address | None = None
    """The address that it writes into its own frames, instead of the one that it hears."""
    exchanged: Mapping[str, str] = field(default_factory=dict)
    """What objects tell after `Then.EXCHANGE`."""

    # -- Image Transfer
    left_by_others: ImageTransferStatus = ImageTransferStatus.NOT_INITIATED
    """What somebody else has made of it before: other than not initiated, it has an image of his."""
    a2: int | None = None
    """What attribute 2 tells instead of the block size that the meter goes by."""
    a4: A4 = A4.FIRST_MISSING
    a5: A5 = A5.WRITABLE
    a6: Mapping[ImageTransferStatus, ImageTransferStatus] = field(default_factory=dict)
    """What attribute 6 tells instead of these."""
    forgets_initiate: bool = False
    """Initiate is answered with success, and nothing is done."""
    erasing: Erasing = Erasing.SILENT
    drops_uninitiated_blocks: bool = False
    """Blocks before initiate are acknowledged and dropped; else refused."""
    blocks_lost: float = 0.0
    """Probability that a block is acknowledged and lost."""
    blocks_lost_once: frozenset[int] = frozenset()
    """Blocks that are acknowledged and lost the first time they come after an initiate."""
    transfers_with_losses: int = 0
    """After so many initiates no block is lost any more; 0: that never ends."""
    stored_in_order_of_arrival: bool = False
    """Each block that is kept is stored behind the one before, whatever its number."""
    padded_last_block: bool = False
    """The last block must be as long as the others; else it must be as short as what is left."""
    first_block_any_length: bool = False
    """A first block of a wrong length is taken; the next one is hardware-fault."""
    bitmap: Bitmap = Bitmap.FULL
    bitmap_missing_bits: int = 0
    """Attribute 3 is short by so many bits at its end."""
    bitmap_lsb_first: bool = False
    bitmap_adds: frozenset[int] = frozenset()
    """Attribute 3 shows these blocks as there, sent or not."""
    verify_result: int | None = None
    """Action-result of every accepted verify; None: success when done at once, else temporary-failure."""
    verify_checks_size_only: bool = False
    """An image of which blocks are missing, or that is not the one it wants, is verified all the same."""
    fails_on_second_verify: bool = False
    """Verify while verification runs makes it fail."""
    a7: A7 = A7.IMAGE
    activate_result: int = 0
    """Action-result of an accepted activate."""
    activation_fails: bool = False
    """Back from the reboot with the old firmware and a6 = 7."""
    activation_ignored: bool = False
    """Activate is answered, and nothing is done."""
    old_version_s: float = 0.0
    """For so long after the reboot it still tells the old version, and that activation runs."""
    default_association_s: float = 0.0
    """For so long after the reboot it has only its default association, for the public client."""
    clock_off_s: float = 0.0
    """Its clock is ahead by so much."""
    schedule_refused: int = 0
    """DataAccessResult of every time that is written into its schedule."""
    clearing_refused: int = 0
    """The same of no time."""
    script_denied: bool = False
    """What its schedule runs cannot be written."""
    schedule_drops_minutes: bool = False
    """It keeps the hour only."""
    status_after_activation: ImageTransferStatus = ImageTransferStatus.ACTIVATION_SUCCESSFUL


NONE = Faults()


class Dice:
    """Chance that is the same for the same seed and independent for each purpose, on every machine. Not made before it
    is needed: it holds 2.5 KiB, and most of a thousand meters never throw."""

    def __init__(self, seed: int, purpose: str) -> None:
        self._seed = f"{seed} {purpose}"

    @cached_property
    def _chance(self) -> random.Random:
        return random.Random(self._seed)  # noqa: S311 - a simulation must repeat itself

    def random(self) -> float:
        return self._chance.random()

    def randrange(self, stop: int) -> int:
        return self._chance.randrange(stop)

    def randbytes(self, count: int) -> bytes:
        return self._chance.randbytes(count)
