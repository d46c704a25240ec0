"""A virtual meter: its links, associations and objects put together, with power that can fail."""

from __future__ import annotations

from functools import partial

from gateway.model import ImageTransferStatus
from gateway.simulator.association import Counters, Door, MeterAssociation
from gateway.simulator.broadcast import BroadcastEar
from gateway.simulator.faults import NONE, Dice, Faults, Mishap, Then
from gateway.simulator.history import History, What
from gateway.simulator.image import ImageTransfer, Outcome
from gateway.simulator.link import Reply, SecondaryLink, Sent
from gateway.simulator.objects import Objects
from gateway.simulator.schedule import ActionSchedule
from gateway.simulator.services import Answered
from gateway.simulator.spec import MeterSpec
from gateway.wire import image_transfer
from gateway.wire.hdlc import Frame, FrameReader, FrameType, Parameters

_NOTHING = Outcome(0)
"""What comes of a frame that brings no whole request."""


class VirtualMeter:
    """One meter on whatever line it is put. It has no time of its own: everything happens when it hears something,
    at the time it is told, or when it is asked to `settle`. Times are seconds that never go back.

    `history`, `image`, `schedule` and `counters` are for whoever wants to know what the meter has seen; they survive
    its reboots.
    """

    def __init__(self, spec: MeterSpec, *, faults: Faults = NONE, seed: int = 0) -> None:
        name = f"meter {spec.logical_device_name}"
        self.spec = spec
        self.history = History()
        self.image = ImageTransfer(spec, faults, self.history, Dice(seed, f"{name} blocks"))
        self.counters = Counters(spec.client_counter, spec.own_counter)
        self._door = Door()
        self._faults = faults
        self.schedule = ActionSchedule(spec, faults, self.history)
        self._objects = Objects(spec, self.image, self.schedule, self.history, lambda: self.counters.client)
        self._challenges = Dice(seed, f"{name} challenges")
        self._replies = Dice(seed, f"{name} replies")
        self._ear = BroadcastEar(spec, self.counters)
        self._misses_now = Dice(seed, f"{name} misses")
        self._links: dict[int, SecondaryLink] = {}
        self._associations: dict[int, MeterAssociation] = {}
        self._outcome = _NOTHING
        self._down_until_s: float | None = None
        self._deaf_until_s = 0.0

    @property
    def version(self) -> str:
        """The firmware it runs."""
        return self.image.active_version

    @property
    def down(self) -> bool:
        """It has no power or is booting."""
        return self._down_until_s is not None

    def settle(self, now_s: float) -> None:
        """Let everything happen that was due by now: the end of a reboot, of a verification, a schedule."""
        self._boot(now_s)
        due_s = self.schedule.take_due(now_s)
        if due_s is not None and not self.down:
            self.image.settle(due_s)
            if self.image.invoke(image_transfer.ACTIVATE, image_transfer.no_data(), due_s).reboots:
                self.reboot(due_s)
                self._boot(now_s)
        self.image.settle(now_s)

    def _boot(self, now_s: float) -> None:
        if self._down_until_s is not None and now_s >= self._down_until_s:
            booted_at_s, self._down_until_s = self._down_until_s, None
            if self.image.came_back(booted_at_s):
                self._door.default_until_s = booted_at_s + self._faults.default_association_s

    def reboot(self, now_s: float) -> None:
        """Power fails; the meter is back after `reboot_s`, without links and associations."""
        self.image.went_down(now_s)
        self._links.clear()
        self._associations.clear()
        self._down_until_s = now_s + self.spec.reboot_s
        self._deaf_until_s = 0.0
        self.history.note(now_s, What.REBOOT, self.history.count(What.REBOOT) + 1)

    # -- HDLC -------------------------------------------------------------------------------------------------

    def hear(self, frame: Frame, now_s: float) -> list[Sent]:
        """A sound frame with this meter's address; what it sends, in order."""
        missed = self._misses(self._faults.frames_missed)
        if missed or not self._listens(now_s) or frame.source.lower is not None:
            return []
        link = self._links.get(frame.source.upper) or self._link(frame)
        before = self._mishap_counts()
        sent = link.hear(frame, now_s)
        if frame.type is FrameType.SNRM and link.connected:
            self.history.note(now_s, What.LINK, frame.source.upper)
        asked = frame.type is FrameType.I
        return self._after(before, sent, now_s, executed=asked)

    def hear_all(self, frame: Frame, now_s: float) -> None:
        """A sound frame to all stations: nobody answers it, whatever it does."""
        missed = self._misses(self._faults.frames_missed) or self._misses(self._faults.broadcasts_missed)
        if missed or not self._listens(now_s):
            return
        before = self._mishap_counts()
        request = self._ear.understand(frame)
        taken = request is not None and self.image.status is ImageTransferStatus.INITIATED
        self.history.note(now_s, What.BROADCAST, taken)
        if request is not None and taken:
            self._objects.invoke(request.method, request.data, now_s, public=False)
        self._after(before, [], now_s, executed=False)

    def _misses(self, probability: float) -> bool:
        return probability > 0.0 and self._misses_now.random() < probability

    def _link(self, frame: Frame) -> SecondaryLink:
        spec, client = self.spec, frame.source.upper
        link = SecondaryLink(
            spec.address,
            frame.source,
            own=Parameters(spec.max_info, spec.max_info, spec.window, spec.window),
            inactivity_s=spec.inactivity_s,
            faults=self._faults,
            answer=partial(self._answer, client),
            dropped=partial(self._close, client),
        )
        self._links[client] = link
        return link

    def _answer(self, client: int, apdu: bytes, now_s: float) -> Reply:
        answered = self._answered(client, apdu, now_s)
        self._outcome = answered.outcome
        return Reply(answered.apdu, answered.outcome.late_s)

    def _close(self, client: int) -> None:
        self._associations.pop(client, None)

    # -- TCP wrapper ------------------------------------------------------------------------------------------

    def hear_wrapped(self, client: int, apdu: bytes, now_s: float) -> list[Sent]:
        """An APDU for this meter over TCP; the APDUs it sends."""
        if not self._listens(now_s):
            return []
        before = self._mishap_counts()
        reply = self._answer(client, apdu, now_s)
        sent = [] if reply.apdu is None else [Sent(reply.late_s, reply.apdu)]
        return self._after(before, sent, now_s, executed=True)

    def hang_up(self) -> None:
        """The TCP connection is gone, and the associations with it."""
        self._associations.clear()

    # -- both -------------------------------------------------------------------------------------------------

    def _listens(self, now_s: float) -> bool:
        self.settle(now_s)
        return self._down_until_s is None and now_s >= self._deaf_until_s

    def _answered(self, client: int, apdu: bytes, now_s: float) -> Answered:
        association = self._associations.get(client)
        if association is None:
            association = self._associations[client] = MeterAssociation(
                self.spec,
                client,
                objects=self._objects,
                counters=self.counters,
                door=self._door,
                faults=self._faults,
                history=self.history,
                chance=self._challenges,
            )
        return association.answer(apdu, now_s)

    def _mishap_counts(self) -> tuple[int, ...]:
        if not self._faults.mishaps:
            return ()
        return tuple([self.history.count(mishap.after) for mishap in self._faults.mishaps])

    def _after(
        self, before: tuple[int, ...], sent: list[Sent], now_s: float, *, executed: bool
    ) -> list[Sent]:
        """What else happens after something was heard, and what is really sent then."""
        outcome, self._outcome = self._outcome, _NOTHING
        if outcome.deaf_s:
            self._deaf_until_s = now_s + outcome.deaf_s
        if outcome.reboots:
            self.reboot(now_s)
        if executed and self._faults.replies_lost and self._replies.random() < self._faults.replies_lost:
            sent = []
        for mishap, count in zip(self._faults.mishaps, before, strict=True) if before else ():
            if count < mishap.nth <= self.history.count(mishap.after):
                sent = _falsified(sent) if sent and mishap.then is Then.FALSIFY_REPLY else []
                self._befall(mishap, now_s)
        if sent:
            sent[0] = Sent(sent[0].late_s + self.spec.response_s, sent[0].octets)
        return sent

    def _befall(self, mishap: Mishap, now_s: float) -> None:
        match mishap.then:
            case Then.FALL_SILENT:
                self._deaf_until_s = now_s + mishap.for_s
            case Then.REBOOT if not self.down:
                self.reboot(now_s)
            case Then.EXCHANGE:
                self._objects.exchange(self._faults.exchanged)
            case _:
                pass


def _falsified(sent: list[Sent]) -> list[Sent]:
    """The last octet of what it says is another one, under a frame check that fits: one wrong frame in 65536 looks
    like this."""
    *before, (late_s, octets) = sent
    found = FrameReader().feed(octets)
    if not found or not isinstance(frame := found[0], Frame):
        return [*before, Sent(late_s, octets[:-1] + bytes((octets[-1] ^ 1,)))]
    info = frame.info[:-1] + bytes((frame.info[-1] ^ 1,))
    return [*before, Sent(late_s, frame._replace(info=info).encode())]
