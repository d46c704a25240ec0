"""Who watches which line, and what each of them is told.

A watch lives by being asked for (`port.trace`), and takes the line no time: the port's thread puts octets on a bounded
recording (`gateway.board.Recording`), and here, in the thread of the control socket, they become frames and words. A
watcher who is too slow loses the oldest and is told how many.

Deciphered is for root and the gateway's own user, who can read the keys anyway, and every such watch is an event of the
audit. Keys and passwords are not shown even then (`gateway.wire.trace`).
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.board import Board, Recorded, Recording
from gateway.clock import Clock
from gateway.errors import AuthError, BusyError, NotFoundError
from gateway.model import Command, Config, Framing, Meter, PortSettings
from gateway.store import Store
from gateway.store.documents import Document, time_text
from gateway.wire.deciphering import Deciphering
from gateway.wire.hdlc import Address
from gateway.wire.trace import Direction, Kind, LineTrace, Traced

WATCHES_LIMIT = 4
"""All lines together: each costs the time to take every frame apart."""
UNASKED_S = 10.0
"""A watch that nobody asks for ends."""
BATCH_ENTRIES = 512
BATCH_OCTETS = 32 * 1024
"""More than this is told with the next answer: in words it is some fifty times as much, where frames are short."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watch:
    uid: int | None
    recording: Recording
    place: int
    line: LineTrace
    meters: Mapping[Address, str]
    asked_at_s: float


class Traces:
    """The watches that are under way. The thread of the control socket alone uses this."""

    def __init__(self, store: Store, board: Board, clock: Clock) -> None:
        self._store = store
        self._board = board
        self._clock = clock
        self._watches: dict[str, _Watch] = {}

    def begin(self, config: Config, port: PortSettings, command: Command, *, decipher: bool) -> Document:
        """Watch a line from now on. Raises BusyError, AuthError, and StoreError where the audit cannot be written."""
        if decipher and command.uid not in (0, os.geteuid()):
            raise AuthError(
                f"deciphered is for root and the gateway's own user, and this is {command.who}: use sudo, or watch "
                "without --decipher"
            )
        self.expire()
        if len(self._watches) >= WATCHES_LIMIT:
            raise BusyError(
                f"{WATCHES_LIMIT} watch lines already; a watch that was left ends after {UNASKED_S:g} s"
            )
        if decipher:
            self._store.audit("trace", who=command.who, port=port.name, message="watched deciphered")
        else:
            log.info("port %s: watched by %s", port.name, command.who, extra={"fields": {"PORT": port.name}})
        meters = {_address(meter, port): meter.id for meter in config.meters if meter.port == port.name}
        keys = {address: config.keys[name] for address, name in meters.items() if name in config.keys}
        recording = self._board.recording(port.name)
        line = LineTrace(
            wrapper=port.framing is Framing.WRAPPER,
            mode_e=port.mode_e,
            deciphering=Deciphering(config.gateway.system_title, keys) if decipher else None,
        )
        name = str(uuid.uuid4())
        self._watches[name] = _Watch(
            command.uid, recording, recording.begin(), line, meters, self._clock.monotonic()
        )
        return {"watch": name, "frames": [], "lost": 0, "more": False}

    def go_on(self, name: str, uid: int | None) -> Document:
        """What came since. Raises NotFoundError where there is no such watch of this user, any more."""
        self.expire()
        watch = self._watches.get(name)
        if watch is None or watch.uid != uid:
            raise NotFoundError(f"there is no watch {name}: it ended, since nobody asked for {UNASKED_S:g} s")
        watch.asked_at_s = self._clock.monotonic()
        told: list[Traced] = []
        entries, watch.place, lost = watch.recording.after(watch.place, BATCH_ENTRIES, BATCH_OCTETS)
        if lost:
            words = f"{lost} pieces were lost: too slow to watch"
            told += watch.line.note(words, entries[0].at_s if entries else self._now_s(), anew=True)
        for entry in entries:
            told += _traced(watch.line, entry)
        if not entries:
            told += watch.line.settle(self._now_s())
        frames = [_frame(one, watch.meters) for one in told]
        return {"watch": name, "frames": frames, "lost": lost, "more": bool(entries)}

    def end(self, name: str) -> None:
        """Nobody watches here any more."""
        recording = self._watches.pop(name).recording
        if not any(other.recording is recording for other in self._watches.values()):
            recording.end()

    def expire(self) -> None:
        """End what nobody asks for."""
        now_s = self._clock.monotonic()
        for name in [name for name, watch in self._watches.items() if now_s - watch.asked_at_s > UNASKED_S]:
            self.end(name)

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


def _traced(line: LineTrace, entry: Recorded) -> list[Traced]:
    if entry.note:
        return line.note(entry.note, entry.at_s, anew=entry.anew)
    return line.feed(Direction.TO_METER if entry.outward else Direction.FROM_METER, entry.octets, entry.at_s)


def _address(meter: Meter, port: PortSettings) -> Address:
    """As frames have it; the wrapper knows logical addresses only."""
    one_octet = port.framing is Framing.WRAPPER or meter.address_bytes == 1
    return Address(meter.logical_address, None if one_octet else meter.physical_address)


def _frame(one: Traced, meters: Mapping[Address, str]) -> Document:
    """What is empty is left out."""
    document: Document = {
        "at": time_text(datetime.fromtimestamp(one.at_s, UTC)),
        "direction": None if one.kind is Kind.LINE else one.direction,
        "kind": one.kind,
        "meter": meters.get(one.server) if one.server else None,
    }
    if one.octets:
        document |= {"octets": one.octets.hex(), "hidden": one.hidden}
    told = {
        "frame": dict(one.frame), "words": one.words, "wrong": one.wrong, "apdu": one.apdu,
        "deciphered": one.deciphered,
    }  # fmt: skip
    return document | {name: value for name, value in told.items() if value}
