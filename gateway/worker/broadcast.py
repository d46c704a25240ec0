"""Broadcast delivery on one port: meters of one order that gather, take blocks together, and part again.

It only fills their bitmaps. A run whose next step is a block, and that misses many, joins the group of those that one
frame reaches; when nobody else is on the way, the group sends round after round, one block a step, and after each round
every member's bitmap is read in its own association. Whoever misses few, takes nothing, or cannot take part goes on by
unicast. A power cut in the middle needs nothing special: the bitmaps tell, and the group gathers anew.

Before a group sends, the other meters of the port are looked at (`bystanders.py`); one that is initiated, or cannot be
read, sends everybody to unicast.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping

from gateway.clock import Clock
from gateway.errors import MeterError, PortError
from gateway.link.conversation import seconds_per_octet
from gateway.model import (
    Campaign,
    Delivery,
    JobState,
    Meter,
    MeterKeys,
    PortSettings,
    StepReport,
)
from gateway.store import Store
from gateway.transfer import BlockSet, Initiate, SendBlock, Step, Verify
from gateway.transfer import broadcast as rules
from gateway.transfer.blocks import missing_somewhere
from gateway.wire import broadcast
from gateway.wire.tally import Tally
from gateway.worker.bystanders import Bystanders
from gateway.worker.contact import Contact
from gateway.worker.group import BroadcastKeys, Group, GroupKey, RunKey, key_of, same_blocks
from gateway.worker.sessions import Sessions
from gateway.worker.transfer_run import TransferRun

log = logging.getLogger(__name__)

GROUP_REST_S = 100.0
"""How old the association of a member may be that is looked at again: below the inactivity time-out of its link (120 s
by default, IEC 62056-46). If it has ended all the same, the meter says so at once."""
KEEP_ALIVE_S = 60.0
"""How long the link of a member rests before it is polled, while others have the line."""
HELD_S = 5.0

_ON_THE_WAY = frozenset({
    JobState.QUEUED, JobState.WAITING, JobState.PRECHECK, JobState.INITIATING, JobState.TRANSFERRING,
    JobState.COMPLETING,
})  # fmt: skip


class Broadcasts:
    """The groups of one port; `runs` are the worker's own, alive."""

    def __init__(
        self,
        settings: PortSettings,
        *,
        meters: Mapping[str, Meter],
        keys: Mapping[str, MeterKeys],
        system_title: bytes,
        store: Store,
        clock: Clock,
        contact: Contact,
        sessions: Sessions,
        tally: Tally,
        runs: Mapping[RunKey, TransferRun],
    ) -> None:
        self._settings = settings
        self._meters = {meter.id: meter for meter in meters.values() if meter.port == settings.name}
        self._keys = keys
        self._clock = clock
        self._sessions = sessions
        self._tally = tally
        self._octet_s = seconds_per_octet(settings, settings.baud)
        self._runs = runs
        self._bystanders = Bystanders(clock=clock, contact=contact, sessions=sessions, runs=runs)
        self.groups: dict[GroupKey, Group] = {}
        """Those that gather or are under way; while there are none, nothing else of this needs to be asked."""
        self._alone: set[RunKey] = set()
        """Runs that came as far as their blocks, and are served by unicast."""
        self._nearly: set[RunKey] = set()
        """Those of them that miss few: their groups wait while that is mended."""
        self._broadcast_keys = BroadcastKeys(
            settings.name, system_title=system_title, store=store, clock=clock
        )

    # -- what the worker asks ------------------------------------------------------------------------------------

    def forget(self) -> None:
        """All runs are given up, and gather anew if they come again."""
        self.groups.clear()
        self._alone.clear()
        self._nearly.clear()

    def keeps(self, run: TransferRun) -> bool:
        """The association of this run is worth keeping while it waits for its group."""
        return any(run.key in group.joined or run.key in group.looked_at for group in self.groups.values())

    def _awaits(self, run: TransferRun) -> bool:
        """A group of its order does not begin before this run has come as far as its blocks, ended or been put off; nor
        before it has the last few of them, in the association in which that was seen."""
        if run.ended or run.held or run.job.state not in _ON_THE_WAY:
            return False
        if run.job.state is JobState.WAITING and run.wake_at > self._clock.monotonic():
            return False
        if run.key in self._alone:
            return run.key in self._nearly
        return all(run.key not in group.joined for group in self.groups.values())

    def ready(self, queued: Campaign | None) -> Group | None:
        """A group for which nobody is on the way any more; one that is in a round goes on. `queued`: the order of the
        next job that waits to be begun."""
        self._tidy()
        for group in self.groups.values():
            if group.to_send:
                return group
        for key, group in self.groups.items():
            of_order = [run for run in self._runs.values() if run.job.campaign_id == key.campaign_id]
            on_the_way = queued is not None and queued.id == key.campaign_id
            if not on_the_way and not any(self._awaits(run) for run in of_order):
                return group
        return None

    def hurries(self, run: TransferRun, *, in_hand: bool) -> bool:
        """This run comes before others that were begun: its group waits until its bitmap was read and mended. One that
        is served alone lets the group of its order go first."""
        if run.key in self._nearly or any(run.key in group.looked_at for group in self.groups.values()):
            return True
        orders = {key.campaign_id for key in self.groups}
        return in_hand and not (run.key in self._alone and run.job.campaign_id in orders)

    def take(self, run: TransferRun, step: Step) -> str | None:
        """Look at what a run would do next. None: let it; else it waits, and the sentence says for what."""
        run.held = False
        match step:
            case SendBlock() if run.campaign.delivery is not Delivery.UNICAST and run.key not in self._alone:
                return self._arrive(run)
            case Verify():
                for group in self.groups.values():
                    self._note_look(group, run)
            case Initiate(block_size=block_size) if self._forbids(run, block_size):
                run.held = True
                run.wake_at = self._clock.monotonic() + HELD_S
                return "a broadcast of another image is under way on this line"
            case _:
                pass
        return None

    def keep_alive(self) -> str:
        """Poll one link of a member that waits for long, where that is due: it costs little, and a new association half
        a second and a survey. What was done; empty: nothing is due."""
        now_s = self._clock.monotonic()
        for group in self.groups.values():
            for key in (group.joined.keys() | group.looked_at.keys()) - group.quiet:
                run = self._runs.get(key)
                if run is not None and self._sessions.rested_s(run.meter.id, now_s) >= KEEP_ALIVE_S:
                    if not self._polled(run):
                        group.quiet.add(key)
                    return f"polled the link of {run.meter.id}"
        return ""

    def _polled(self, run: TransferRun) -> bool:
        session = self._sessions.of(run.meter.id, longest_rest_s=GROUP_REST_S)
        try:
            answered = session is not None and session.keep_alive()
        except MeterError as error:
            self._sessions.lose(run.meter.id, error)
            run.view.forget()
            return False
        if answered:
            self._sessions.used(run.meter.id, self._clock.monotonic())
        return answered

    def step(self, group: Group) -> StepReport:
        """One exchange or one block of a group that is ready."""
        where = f"broadcast to {len(group.joined)} meters"
        now_s = self._clock.monotonic()
        if now_s < group.gap_until_s:
            return StepReport(f"{where}: the line rests", group.gap_until_s)
        try:
            sentence = self._advance(group)
        except MeterError as error:
            sentence = self._broke(group, error)
        wake_at = max(group.gap_until_s, self._clock.monotonic())
        return StepReport(f"{where}: {sentence}", wake_at)

    # -- coming and going ------------------------------------------------------------------------------------------

    def _arrive(self, run: TransferRun) -> str | None:
        """A run would send its next block: by broadcast, or alone?"""
        blocks, record = run.view.blocks, run.view.record
        assert blocks is not None
        assert record is not None
        if reason := self._after_crash(run) or self._unfit(run.meter, record.block_size):
            self._part(run, f"unicast: {reason}")
            return None
        key = key_of(run, record.block_size, self._keys_of(run.meter))
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group(key, blocks.total, run.priority, self._clock.monotonic())
        group.gap_s = max(group.gap_s, run.meter.profile.broadcast_gap_s)
        group.ordered_at = max(group.ordered_at, run.campaign.created_at)
        if alone := self._better_alone(group, run):
            self._part(run, alone)
            return None
        missing = blocks.total - blocks.count
        if self._few(group, run, missing):
            self._nearly.add(run.key)
            self._part(run, _rest_alone(run, missing))
            return None
        group.joined[run.key] = BlockSet(blocks.total, bytes(blocks))
        run.join(f"{missing} blocks are missing; waits for the others of the broadcast")
        return f"joined {len(group.joined) - 1} others, {missing} blocks are missing"

    @staticmethod
    def _after_crash(run: TransferRun) -> str:
        """Alone, the next bug counts against the job that it is in."""
        return "this program failed at work on it before" if run.job.crashes else ""

    def _better_alone(self, group: Group, run: TransferRun) -> str:
        """How a run is served by unicast for which broadcast is of no use; empty: it may be."""
        if self._note_look(group, run):
            return f"unicast: it took none of the {len(group.sent)} blocks of the pilot"
        if not group.rounds and self._expected(run) < 2:
            return "unicast: no other meter of this order takes broadcast on this port"
        return ""

    def _few(self, group: Group, run: TransferRun, missing: int) -> bool:
        members = group.members if group.rounds else self._expected(run)
        return rules.repair_alone(missing, total=group.total, members=members, costs=self._costs(group))

    def _part(self, run: TransferRun, delivery: str) -> None:
        """It goes on by unicast, at once where its association still stands."""
        self._alone.add(run.key)
        run.part(delivery)
        log.info("campaign %s, meter %s: %s", *run.key, delivery)

    def _dissolve(self, group: Group, reason: str) -> str:
        log.info("campaign %s on %s: no broadcast: %s", group.key.campaign_id, self._settings.name, reason)
        for key, held in group.joined.items():
            run = self._runs[key]
            broadcast_before = bool(run.job.blocks_broadcast)
            delivery = _rest_alone(run, held.total - held.count) if broadcast_before else "unicast"
            self._part(run, f"{delivery}: {reason}")
        group.joined.clear()
        return reason

    def _tidy(self) -> None:
        """Whoever ended or was put off is of no group, and a group of nobody is none."""
        self._alone &= self._runs.keys()
        self._nearly &= self._alone
        for group in self.groups.values():
            for waiting in (group.joined, group.looked_at):
                for key in [key for key in waiting if self._is_gone(key)]:
                    del waiting[key]
        self.groups = {key: group for key, group in self.groups.items() if group.joined or group.looked_at}

    def _is_gone(self, key: RunKey) -> bool:
        run = self._runs.get(key)
        if run is None or run.ended:
            return True
        return run.job.state is JobState.WAITING and run.wake_at > self._clock.monotonic()

    # -- who belongs together --------------------------------------------------------------------------------------

    def _unfit(self, meter: Meter, block_size: int) -> str:
        return rules.unable_to_hear_all(meter, self._keys_of(meter), self._settings) or rules.does_not_fit(
            meter, block_size, broadcast.largest_block(meter)
        )

    def _expected(self, run: TransferRun) -> int:
        """How many meters of its order may come to a group on this port."""
        meters = [self._meters[name] for name in run.campaign.meters if name in self._meters]
        return sum(
            not rules.unable_to_hear_all(meter, self._keys_of(meter), self._settings) for meter in meters
        )

    def _keys_of(self, meter: Meter) -> MeterKeys:
        return self._keys.get(meter.id, MeterKeys())

    def _costs(self, group: Group) -> rules.Costs:
        return rules.line_costs(
            block_size=group.key.block_size,
            total=group.total,
            octet_s=self._octet_s,
            gap_s=group.gap_s,
        )

    def _forbids(self, run: TransferRun, block_size: int) -> bool:
        """To initiate this meter now would make it store the blocks of a group at work."""
        return any(
            group.at_work and not same_blocks(group, run, block_size) for group in self.groups.values()
        )

    def _companions(self, group: Group) -> list[TransferRun]:
        of_groups = set(self._alone)
        for other in self.groups.values():
            of_groups |= other.joined.keys() | other.looked_at.keys()
        return self._bystanders.companions(group, of_groups)

    def _look_for_strangers(self, group: Group) -> str:
        if group.strangers is None:
            known = {run.meter.id for run in self._companions(group)}
            group.strangers = [name for name in self._meters if name not in known]
        if not group.strangers:
            return ""
        meter = self._meters[group.strangers[0]]
        danger = self._bystanders.danger_of(meter)
        group.strangers.pop(0)
        if danger:
            return self._dissolve(group, f"{meter.id}, which is on the line and not of the group, {danger}")
        return f"{meter.id} is not of the group and not initiated"

    # -- rounds ----------------------------------------------------------------------------------------------------

    def _advance(self, group: Group) -> str:
        if group.to_send:
            return self._send(group)
        if group.rounds and (reason := self._enough(group)):
            return self._dissolve(group, reason)
        if len(group.joined) < 2:
            return self._dissolve(group, "no other meter is left that misses many blocks")
        if sentence := self._look_for_strangers(group):
            return sentence
        if group.sender is None and (reason := self._broadcast_keys.make_sender(group)):
            return self._dissolve(group, reason)
        return self._begin_round(group)

    def _enough(self, group: Group) -> str:
        """Why there is no further round."""
        if group.over or group.rounds > rules.MAX_ROUNDS:
            return group.over or f"blocks are missing after {rules.MAX_ROUNDS} rounds"
        if group.rounds == 1 or group.broken:
            return ""
        if rules.paid_off(group.gained, sent=len(group.sent), costs=self._costs(group)):
            return ""
        return f"the last round of {len(group.sent)} blocks brought its meters {sum(group.gained)}"

    def _begin_round(self, group: Group) -> str:
        """Before a block leaves, each meter that may hear it has it below its ceiling, durable (invariant 3)."""
        blocks = rules.round_of(missing_somewhere(group.joined.values()), pilot=not group.rounds)
        what = f"round {group.rounds}" if group.rounds else "the pilot"
        message = f"{what} of the broadcast, with {len(group.joined) - 1} others"
        for key in group.joined:
            self._runs[key].expect(blocks[-1], message=message, delivery=Delivery.BROADCAST.value)
        group.rounds += 1
        group.members = len(group.joined)
        group.to_send, group.sent, group.gained, group.broken = deque(blocks), [], [], False
        group.quiet.clear()
        log.info(
            "campaign %s on %s: %s, %d blocks to %d meters by broadcast",
            group.key.campaign_id, self._settings.name, what, len(blocks), len(group.joined),
        )  # fmt: skip
        return f"{what} begins, {len(blocks)} blocks"

    def _send(self, group: Group) -> str:
        """One block, and after the last one the bitmaps are read."""
        number, size = group.to_send[0], group.key.block_size
        run = self._runs[next(iter(group.joined))]
        block = run.image[number * size : (number + 1) * size]
        if group.key.pad_last_block:
            block = block.ljust(size, b"\0")
        assert group.sender is not None
        counter = group.counters.next() if group.counters is not None else 0
        octets = group.sender.frame(number, block, counter)
        port = self._sessions.port()
        for companion in self._companions(group):
            self._note_sent(group, companion, number)
        port.discard()  # an adapter that gives back what is sent, to somebody who does not read
        begun_s = self._clock.monotonic()
        port.write(octets)
        # A serial driver takes a frame at once, a virtual line until it has been sent.
        line_s = len(octets) * self._octet_s
        self._tally.octets_out += len(octets)
        self._tally.busy_s += line_s
        group.gap_until_s = max(self._clock.monotonic(), begun_s + line_s) + group.gap_s
        group.to_send.popleft()
        group.sent.append(number)
        if not group.to_send:
            self._look_again(group)
        return f"sent block {number}"

    def _note_sent(self, group: Group, run: TransferRun, number: int) -> None:
        """Also whoever was initiated since the round began has the block below its ceiling before it leaves."""
        assert run.view.record is not None
        if run.view.record.ceiling < number:
            run.expect(group.to_send[-1])
        held = group.joined.get(run.key)
        if held is None:
            run.overhears(number)
        elif number not in held:
            # Some of the round it may have had: what is shown is no more than there is.
            run.is_sent(number, done=min(held.total, held.count + len(group.sent)))

    def _look_again(self, group: Group) -> None:
        group.looked_at |= group.joined
        for key in group.joined:
            self._runs[key].look_again()
        group.joined.clear()

    def _note_look(self, group: Group, run: TransferRun) -> bool:
        """The bitmap of a member was read after a round. Whether it showed that the meter takes no broadcast."""
        before, after = group.looked_at.pop(run.key, None), run.view.blocks
        if before is None or after is None:
            return False
        wanted = [block for block in group.sent if block not in before]
        got = sum(block in after for block in wanted)
        group.gained.append(got)
        return group.rounds == 1 and bool(wanted) and not got

    def _broke(self, group: Group, error: MeterError) -> str:
        """The line failed, or the key is used up: the round is over, and every member finds out for itself."""
        if isinstance(error, PortError):
            self._sessions.lose("", error)
            group.broken, group.strangers = True, None
        else:
            group.over = error.message
        group.to_send.clear()
        self._look_again(group)
        return error.message


def _rest_alone(run: TransferRun, missing: int) -> str:
    """How a run is served that goes on by unicast because few blocks are missing."""
    if run.job.blocks_broadcast:
        return f"broadcast, the last {missing} blocks by unicast"
    return f"unicast: {missing} blocks are missing"
