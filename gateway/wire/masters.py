"""Whose frames are these? Pure: what tells another master on a line from our own meters, late as they may be."""

from __future__ import annotations

from collections.abc import Collection

from gateway.wire.hdlc import Frame, FrameType

_OF_CLIENTS = frozenset({FrameType.SNRM, FrameType.DISC})
"""No meter sends these."""


def addressed_to_meter(frame: Frame) -> bool:
    """A client sent this frame: by its type, or since a client's address has one octet (IEC 62056-46). Frames to
    meters with an address of one octet are known by their type alone."""
    return frame.type in _OF_CLIENTS or frame.destination.octets > 1


def of_another_master(frame: Frame, clients: Collection[int]) -> bool:
    """Heard while this gateway was silent, on a line where it is `clients`: somebody else talks to meters, or they
    answer him."""
    return addressed_to_meter(frame) or frame.destination.upper not in clients


def worded(frame: Frame) -> str:
    """Who talks to whom."""
    if addressed_to_meter(frame):
        return (
            f"client {frame.source.upper} talks to {_place(frame.destination.upper, frame.destination.lower)}"
        )
    return f"{_place(frame.source.upper, frame.source.lower)} answers client {frame.destination.upper}"


def _place(upper: int, lower: int | None) -> str:
    return f"address {upper}" if lower is None else f"address {upper}/{lower}"
