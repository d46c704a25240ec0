"""Everything that can go wrong, and every way a meter can be odd, as one structure of data.

`Faults()` is a perfect line to a perfect meter. A line takes from it what concerns lines, a meter what concerns
meters; the same faults with the same seed give the same octets. Oddities of real meters stand here as settings
so that a scenario is a value, never a subclass.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

from gateway.model import ImageTransferStatus
from gateway.simulator.history import What


@dataclass(frozen=True, slots=True)
class Noise:
    """What a line does to one direction; each is a probability for one frame."""

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
        return not (
            self.lost or self.damaged or self.octet_lost or self.octet_doubled or self.doubled or self.delayed
        )


class Then(Enum):
    """What a mishap does to a meter that has just executed a request."""

    LOSE_REPLY = "lose reply"
    """The reply is not sent, but repeated where N(R) asks for it (over the TCP wrapper it is gone)."""
    FALL_SILENT = "fall silent"
    """The reply is not sent, and nothing is heard for `for_s`."""
    REBOOT = "reboot"
    """The reply is not sent: power fails, and the meter boots."""


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


class Bitmap(Enum):
    """Form of attribute 3."""

    FULL = "full"
    """One bit for each block."""
    PADDED = "padded"
    """Padded with zeros to whole octets."""
    GROWING = "growing"
    """Ends with the highest block that is there: empty after initiate."""


class A7(Enum):
    """What attribute 7 tells once the image is verified."""

    IMAGE = "image"
    EMPTY = "empty"
    DENIED = "denied"
    ANOTHER_IMAGE = "another image"


@dataclass(frozen=True, slots=True)
class Faults:
    """One scenario. Probabilities are between 0 and 1, times in seconds."""

    # -- the line
    to_meter: Noise = Noise()
    to_gateway: Noise = Noise()
    cuts_at_octet: tuple[int, ...] = ()
    """The line is gone after so many octets, both ways together, counted from its beginning or the last cut; it
    works again once it was opened again."""
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
    ignores_poll: bool = False
    """No answer to RR."""
    frmr_on_repeat: bool = False
    """FRMR to an I-frame that came before."""

    # -- security
    silent_refusals: bool = False
    """Nothing instead of an exception for a wrong tag, policy or counter."""

    # -- Image Transfer
    erasing: Erasing = Erasing.SILENT
    drops_uninitiated_blocks: bool = False
    """Blocks before initiate are acknowledged and dropped; else refused."""
    blocks_lost: float = 0.0
    """Probability that a block is acknowledged and lost."""
    blocks_lost_once: frozenset[int] = frozenset()
    """Blocks that are acknowledged and lost the first time they come after each initiate."""
    padded_last_block: bool = False
    """The last block must be as long as the others; else it must be as short as what is left."""
    bitmap: Bitmap = Bitmap.FULL
    bitmap_missing_bits: int = 0
    """Attribute 3 is short by so many bits at its end."""
    bitmap_lsb_first: bool = False
    a4_hides_gaps: bool = False
    """Attribute 4 is the highest block that is there, plus one."""
    verify_result: int | None = None
    """Action-result of every accepted verify; None: success when done at once, else temporary-failure."""
    a7: A7 = A7.IMAGE
    activate_result: int = 0
    """Action-result of an accepted activate."""
    activation_fails: bool = False
    """Back from the reboot with the old firmware and a6 = 7."""
    status_after_activation: ImageTransferStatus = ImageTransferStatus.ACTIVATION_SUCCESSFUL


NONE = Faults()


def dice(seed: int, purpose: str) -> random.Random:
    """Chance that is the same for the same seed and independent for each purpose, on every machine."""
    return random.Random(f"{seed} {purpose}")  # noqa: S311 - a simulation must repeat itself
