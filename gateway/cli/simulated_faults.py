"""The faults of `meter-gateway simulate`, by name: what each means in words, and what it changes in `Faults`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import NamedTuple, TypeVar

from gateway.simulator import A7, Bitmap, Echo, Erasing, Faults, Mishap, Noise, Talk, Then, What
from gateway.wire.hdlc import Address, Frame, FrameType

E = TypeVar("E", bound=Enum)


class Fault(NamedTuple):
    """`change` gives the faults with this one more. ValueError, saying what is expected, where the value is wrong."""

    value: str
    words: str
    change: Callable[[Faults, str], Faults]


def apply(faults: Faults, known: dict[str, Fault], name: str, value: str) -> Faults:
    """The faults with this one more. ValueError where there is no such name among those that are `known`, or the value
    is wrong."""
    fault = known.get(name)
    if fault is None:
        raise ValueError(f"there is no fault {name!r}; there are {', '.join(known)}")
    try:
        return fault.change(faults, value)
    except ValueError as error:
        raise ValueError(f"{name}={value}: {error}") from None


# -- values ---------------------------------------------------------------------------------------------------


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0.0 <= rate <= 1.0:
        raise ValueError("expected a probability from 0 to 1")
    return rate


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < math.inf:
        raise ValueError("expected seconds, such as 2.5")
    return seconds


def _number(text: str, lowest: int = 0) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < lowest:
        raise ValueError(f"expected a whole number from {lowest} on")
    return int(text)


def _times(text: str, most: int) -> tuple[float, ...]:
    """Seconds, with colons between them."""
    parts = text.split(":")
    if len(parts) > most:
        raise ValueError(f"expected at most {most} times with colons between them")
    return tuple(_seconds(part) for part in parts)


def _one_of(kind: type[E], text: str) -> E:
    known = {member.name.lower().replace("_", "-"): member for member in kind}
    if text not in known:
        raise ValueError(f"expected one of {', '.join(known)}")
    return known[text]


# -- what they change -----------------------------------------------------------------------------------------


def _both_ways(faults: Faults, change: Callable[[Noise], Noise]) -> Faults:
    return replace(faults, to_meter=change(faults.to_meter), to_gateway=change(faults.to_gateway))


def _jabber(faults: Faults, text: str) -> Faults:
    at_s, for_s, pause_s = (*_times(text, 3), math.inf, math.inf)[:3]
    return replace(faults, talks=(*faults.talks, Talk(at_s, for_s=for_s, pause_s=pause_s)))


def _second_master(faults: Faults, text: str) -> Faults:
    """Somebody connects to a meter that is not ours, again and again, and is answered."""
    every_s, client, meter = _seconds(text), Address(16), Address(1, 99)
    asked = Frame(meter, client, FrameType.SNRM, poll_final=True).encode()
    answered = Frame(client, meter, FrameType.UA, poll_final=True).encode()
    talks = (Talk(octets=asked, pause_s=every_s), Talk(0.1, octets=answered, pause_s=every_s))
    return replace(faults, talks=(*faults.talks, *talks))


def _unplug(faults: Faults, text: str) -> Faults:
    at_s, for_s = (*_times(text, 2), math.inf)[:2]
    return replace(faults, unplugged=(*faults.unplugged, (at_s, at_s + for_s)))


def _mishap(faults: Faults, then: Then, nth: str, for_s: float = 0.0) -> Faults:
    mishap = Mishap(What.BLOCK, _number(nth, 1), then, for_s)
    return replace(faults, mishaps=(*faults.mishaps, mishap))


def _silent(faults: Faults, text: str) -> Faults:
    block, colon, seconds = text.partition(":")
    if not colon:
        raise ValueError("expected a number of blocks and seconds, such as 100:30")
    return _mishap(faults, Then.FALL_SILENT, block, _seconds(seconds))


def _answers_as(faults: Faults, text: str) -> Faults:
    lower = _number(text)
    if lower > 0x3FFF:
        raise ValueError("expected a physical address up to 16383")
    return replace(faults, answers_as=Address(1, lower))


def _activation(faults: Faults, text: str) -> Faults:
    if text not in ("fails", "ignored"):
        raise ValueError("expected one of fails, ignored")
    return replace(faults, activation_fails=text == "fails", activation_ignored=text == "ignored")


OF_LINES = {
    "bit-errors": Fault(
        "RATE", "each bit is flipped with this probability, both ways",
        lambda faults, text: _both_ways(faults, lambda noise: replace(noise, bit_error_rate=_rate(text))),
    ),
    "lost-octets": Fault(
        "RATE", "each octet is lost with this probability, both ways",
        lambda faults, text: _both_ways(faults, lambda noise: replace(noise, octet_loss_rate=_rate(text))),
    ),
    "lost-frames": Fault(
        "RATE", "each frame is lost with this probability, both ways",
        lambda faults, text: _both_ways(faults, lambda noise: replace(noise, lost=_rate(text))),
    ),
    "late-frames": Fault(
        "SECONDS", "each frame comes late, by up to so long",
        lambda faults, text: _both_ways(faults, lambda noise: replace(noise, delayed=1.0, delay_s=_seconds(text))),
    ),
    "echo": Fault(
        "whole|half|damaged", "what is sent comes back as well",
        lambda faults, text: replace(faults, echo=_one_of(Echo, text)),
    ),
    "turnaround": Fault(
        "SECONDS", "the line needs so long to change its direction",
        lambda faults, text: replace(faults, turnaround_s=_seconds(text)),
    ),
    "jabber": Fault("AT[:FOR[:PAUSE]]", "from then on somebody sends garbage, for so long, and again", _jabber),
    "second-master": Fault("EVERY", "somebody else asks a meter that is not ours, so often", _second_master),
    "unplug": Fault("AT[:FOR]", "then the adapter is pulled out, for so long; the link vanishes", _unplug),
}  # fmt: skip

OF_METERS = {
    "lost-blocks": Fault(
        "RATE", "blocks are acknowledged, and lost with this probability",
        lambda faults, text: replace(faults, blocks_lost=_rate(text)),
    ),
    "lost-replies": Fault(
        "RATE", "what was asked is done, and not answered with this probability",
        lambda faults, text: replace(faults, replies_lost=_rate(text)),
    ),
    "restart": Fault(
        "BLOCKS", "after so many blocks it restarts",
        lambda faults, text: _mishap(faults, Then.REBOOT, text),
    ),
    "silent": Fault("BLOCKS:SECONDS", "after so many blocks it hears nothing for so long", _silent),
    "answers-as": Fault("ADDRESS", "it writes another physical address into its frames", _answers_as),
    "lockout": Fault(
        "SECONDS", "after a failed authentication nobody comes in for so long",
        lambda faults, text: replace(faults, lockout_s=_seconds(text)),
    ),
    "erasing": Fault(
        "silent|late-reply|temporary-failure|busy-answer", "how it behaves while it erases",
        lambda faults, text: replace(faults, erasing=_one_of(Erasing, text)),
    ),
    "bitmap": Fault(
        "padded|growing|empty|all-ones", "the form of its bitmap",
        lambda faults, text: replace(faults, bitmap=_one_of(Bitmap, text)),
    ),
    "a7": Fault(
        "empty|denied|another-image", "what it tells of the image to activate",
        lambda faults, text: replace(faults, a7=_one_of(A7, text)),
    ),
    "activation": Fault("fails|ignored", "the new firmware does not run in the end", _activation),
}  # fmt: skip


def in_words() -> str:
    """The list for --help; click's mark keeps its lines."""
    parts = []
    for head, faults in (("Faults of the line (--port)", OF_LINES), ("Faults of meters", OF_METERS)):
        lines = [f"  {name}={fault.value}\n      {fault.words}" for name, fault in faults.items()]
        parts.append("\n".join(["\b", f"{head}:", *lines]))
    return "\n\n".join(parts)
