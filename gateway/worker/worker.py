"""The worker of one port: `step()` does one exchange with one meter and says what it did and when to come back.

It owns the line and the associations on it. While one meter erases, verifies or reboots, the line serves the next.
What is due is asked of the Store afresh; what is in hand is only what makes the next exchange quick.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial

from gateway.board import Board, port_actor
from gateway.clock import Clock
from gateway.errors import (
    BusyError,
    Code,
    LinkLostError,
    MeterError,
    StateError,
)
from gateway.link.conversation import PUBLIC_CLIENT
from gateway.link.port import Port
from gateway.link.session import Session
from gateway.model import (
    CampaignState,
    JobState,
    Meter,
    MeterKeys,
    PortSettings,
    StepReport,
)
from gateway.states import in_its_meters_hands
from gateway.store import Store
from gateway.supply.images import ImageStore
from gateway.transfer import (
    ArmSchedule,
    CheckHealth,
    Done,
    Enable,
    Failed,
    Initiate,
    LeaveToMeter,
    SendBlock,
    SetScript,
    Step,
    Survey,
    Verify,
    Wait,
)
from gateway.worker import order
from gateway.worker.broadcast import GROUP_REST_S, Broadcasts
from gateway.worker.contact import Contact
from gateway.worker.crashes import counted
from gateway.worker.errands import Errands
from gateway.worker.figures import Figures
from gateway.worker.group import Group
from gateway.worker.hours import Hours
from gateway.worker.job_in_hand import NEVER_S
from gateway.worker.learning import Learning
from gateway.worker.lending import Lending
from gateway.worker.line import Line
from gateway.worker.queue import JobQueue
from gateway.worker.sessions import LONGEST_REST_S, Sessions
from gateway.worker.transfer_run import TransferRun

KEEP_SESSION_S = 20.0
"""An association is kept over a wait up to this long, well below what `sessions.LONGEST_REST_S` allows; for longer
waits the meter is left."""
RESTED_S = 1.0
"""After so long without an exchange a meter may have ended its link by itself, and nothing is wrong with that."""
OUTBOX_WAIT_S = 10.0

_CANCELLED = frozenset({CampaignState.CANCELLING, CampaignState.CANCELLED})


class Worker:
    """Serves the meters of one port. Single-threaded: whoever calls `step()` owns it."""

    def __init__(
        self,
        settings: PortSettings,
        *,
        meters: Mapping[str, Meter],
        keys: Mapping[str, MeterKeys],
        system_title: bytes,
        store: Store,
        images: ImageStore,
        board: Board,
        clock: Clock,
        open_port: Callable[[PortSettings], Port],
        random_octets: Callable[[int], bytes],
        clock_trusted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._settings = settings
        self._meters = meters
        self._store = store
        self._images = images
        self._board = board
        self._clock = clock
        self._figures = Figures(settings.name, board=board, clock=clock)
        self._learning = Learning(settings, store=store, clock=clock)
        self._lending = Lending(settings.name, store=store, clock=clock)
        self._contact = Contact(
            settings,
            keys=keys,
            system_title=system_title,
            store=store,
            clock=clock,
            random_octets=random_octets,
            figures=self._figures,
            learning=self._learning,
        )
        self._hours = Hours(store, clock, clock_trusted)
        self._actor = port_actor(settings.name)
        self._bell = board.bell(self._actor)
        self._called = True
        """There may be an errand, or a campaign that was cancelled."""
        self._scans_next = False
        """The line is the scan's in every other step."""
        self._runs: dict[tuple[str, str], TransferRun] = {}
        self._in_hand: TransferRun | Group | None = None
        """Who the line was given to, until it fails; a look at another in between changes nothing."""
        self._queue = JobQueue(
            settings.name, meters=meters, store=store, images=images, board=board, clock=clock, hours=self._hours,
            runs=self._runs,
        )  # fmt: skip
        self._sessions = Sessions(
            settings, contact=self._contact, clock=clock, open_port=open_port, forget=self._forget,
            show_life=self._show_life, at_work_on=partial(counted, store),
        )  # fmt: skip
        self._line = Line(
            settings,
            clients={PUBLIC_CLIENT, *(meter.client for meter in meters.values())},
            sessions=self._sessions,
            store=store,
            clock=clock,
            back=self._serve_who_waits_for_line,
        )
        self._broadcasts = Broadcasts(
            settings,
            meters=meters,
            keys=keys,
            system_title=system_title,
            store=store,
            clock=clock,
            contact=self._contact,
            sessions=self._sessions,
            tally=self._figures.of_all,
            runs=self._runs,
        )
        self._errands = Errands(
            settings,
            meters=meters,
            store=store,
            board=board,
            clock=clock,
            contact=self._contact,
            sessions=self._sessions,
            line=self._line,
            lending=self._lending,
            tally=self._figures.of_all,
            runs=self._runs,
            holder=self._holder,
            leave_all=self._leave_all,
        )

    def step(self) -> StepReport:
        """One exchange with one meter, or one errand, or the finding that nothing is due. Never waits between
        exchanges. Only errors of this project's own tree are caught here."""
        now_s = self._clock.monotonic()
        self._board.beat(self._actor, now_s)
        self._figures.post(now_s)
        if self._bell.is_set():
            self._bell.clear()
            self._called = True
            self._queue.news()
            self._hours.news()
        if self._called or self._errands.waiting:
            if done := self._errands.run_next():
                self._leave_unwanted()
                return StepReport(done, now_s)
            self._lending.look()
            self._drop_cancelled()
            self._called = False  # now that all of it could be written
        if self._lending.until_s is not None:
            return self._stay_away(self._lending.until_s)
        self._hold_closed(now_s)
        if self._runs and self._store.outbox_full() and self._holder() is None:
            return self._hold()
        if now_s >= self._line.look_at_s:
            self._line.look(now_s)
        if self._broadcasts.groups and (polled := self._broadcasts.keep_alive()):
            return StepReport(polled, now_s)
        scanning = self._errands.scanning and self._holder() is None
        self._scans_next = not self._scans_next
        if scanning and self._scans_next:
            return StepReport(self._errands.scan_on(), now_s)
        run = self._choose(now_s)
        if run is None:
            return StepReport(self._errands.scan_on(), now_s) if scanning else self._rest()
        if isinstance(run, Group):
            members = {meter_id for _, meter_id in run.joined.keys() | run.looked_at.keys()}
            with counted(self._store, *members):
                return self._broadcasts.step(run)
        with counted(self._store, run.meter.id):
            sentence = self._advance(run, now_s)
        if run.ended:
            self._drop(run)
        return StepReport(f"{run.meter.id}: {sentence}", now_s)

    def close(self) -> None:
        """Leave the meters and the line, and make durable what they acknowledged."""
        try:
            self._checkpoint()
            self._errands.end_scan(BusyError("the gateway leaves the line"))
        finally:
            for key in self._runs:
                self._board.drop(("progress", *key))
            self._sessions.close()

    def _show_life(self) -> None:
        self._board.beat(self._actor, self._clock.monotonic())

    def _checkpoint(self) -> None:
        for run in self._runs.values():
            run.checkpoint()

    # -- who is next ---------------------------------------------------------------------------------------------

    def _choose(self, now_s: float) -> TransferRun | Group | None:
        """Whose turn it is (`order`); one whose association may not break has the line to itself."""
        holder = self._holder()
        if holder is not None:
            return holder if holder.wake_at <= now_s else None
        due: list[TransferRun | Group] = [run for run in self._runs.values() if run.wake_at <= now_s]
        queued = self._queue.next_campaign()
        group = self._broadcasts.ready(queued) if self._broadcasts.groups else None
        if group is not None:
            due.append(group)
        if queued is None and due == [self._in_hand]:
            return self._in_hand  # nobody else wants the line: so it is for almost every block
        first: TransferRun | Group | None = None
        best: order.Claim | None = None
        for who in due:
            claim = self._claim(who, now_s)
            if best is None or claim < best:
                first, best = who, claim
        if queued is not None and (best is None or order.new(queued.priority) < best):
            begun = self._queue.begin_next()
            if begun is not None:
                first, best = begun, self._claim(begun, now_s)
        if best is not None and best.kind is not order.Kind.LOOK:
            self._in_hand = first
        return first

    def _claim(self, who: TransferRun | Group, now_s: float) -> order.Claim:
        if isinstance(who, Group):
            return order.claim(
                JobState.TRANSFERRING,
                priority=who.priority,
                in_hand=who is self._in_hand,
                since_s=who.since_s,
                now_s=now_s,
            )
        return order.claim(
            who.job.state,
            priority=who.priority,
            in_hand=self._broadcasts.hurries(who, in_hand=who is self._in_hand),
            since_s=who.wake_at,
            now_s=now_s,
        )

    def _holder(self) -> TransferRun | None:
        """The transfer whose association may not be broken, if there is one."""
        for run in self._runs.values():
            if run.keeps_line and self._session_of(run) is not None:
                return run
        return None

    def _session_of(self, run: TransferRun) -> Session | None:
        """The association that the next exchange can be done in. One that may not break is tried however old it is."""
        longest_rest_s = LONGEST_REST_S
        if self._broadcasts.groups and self._broadcasts.keeps(run):
            longest_rest_s = GROUP_REST_S
        return self._sessions.of(run.meter.id, longest_rest_s=NEVER_S if run.keeps_line else longest_rest_s)

    def _hold_closed(self, now_s: float) -> None:
        """Leave the meters whose campaign may not go on now, at a block boundary and in order."""
        for job in self._hours.closed((run.job for run in self._runs.values()), now_s):
            self._put_aside(self._runs[job.campaign_id, job.meter_id])

    def _put_aside(self, run: TransferRun, *, why: str = "", image_gone: bool = False) -> str:
        why = why or self._hours.why_closed(run.job)
        with contextlib.suppress(StateError):  # the Store has ended it already
            run.set_aside(why, image_gone=image_gone)
        self._drop(run)
        return why

    def _drop_cancelled(self) -> None:
        for run in list(self._runs.values()):
            campaign = self._store.campaign(run.job.campaign_id)
            if campaign is None or campaign.state not in _CANCELLED:
                continue
            if in_its_meters_hands(run.job):
                run.withdraw(campaign)
                continue
            session = self._session_of(run)
            # The Store has ended a job already that waited for its next try.
            with contextlib.suppress(StateError):
                run.cancel(
                    session or self._session_to_put_back(run), code=campaign.code, message=campaign.message
                )
            self._drop(run)

    def _session_to_put_back(self, run: TransferRun) -> Session | None:
        """An association for the sake of what was changed in the meter, where it can be had now."""
        if not run.job.transfer_enabled or self._holder() is not None:
            return None
        try:
            self._contact.check(run.meter)
            return self._sessions.associate(run.meter)
        except MeterError as error:
            self._sessions.lose(run.meter.id, self._contact.judge(run.meter, None, error))
            return None

    def _drop(self, run: TransferRun) -> None:
        self._runs.pop(run.key, None)
        self._in_hand = None if self._in_hand is run else self._in_hand
        self._queue.news()
        self._leave_unwanted()

    def _rest(self) -> StepReport:
        """Nothing is due: leave the meters that would only wait, and say when to come back."""
        holder = self._holder()
        if holder is not None:
            return StepReport("the line is kept for one meter", holder.wake_at)
        wakes = [run.wake_at for run in self._runs.values()]
        wakes += filter(None, [self._queue.look_at_s, self._figures.until_idle_s()])
        wake_at = min(self._line.look_at_s, *wakes, NEVER_S)
        self._leave_unwanted()
        return StepReport("nothing is due", None if wake_at == NEVER_S else wake_at)

    def _hold(self) -> StepReport:
        """What happens now could not be told: leave the meters at a safe place until the broker has taken more."""
        self._checkpoint()
        self._sessions.leave_all_but(lambda _: False)
        return StepReport("the outbox is nearly full", self._clock.monotonic() + OUTBOX_WAIT_S)

    def _serve_who_waits_for_line(self) -> None:
        """It is back: nobody waits for his next try."""
        self._store.try_now(self._settings.name, Code.T_PORT)
        for run in self._runs.values():
            if run.job.code is Code.T_PORT:
                run.wake_at = self._clock.monotonic()
        self._queue.news()

    # -- one job ---------------------------------------------------------------------------------------------------

    def _advance(self, run: TransferRun, now_s: float) -> str:
        try:
            return self._try_to_advance(run, now_s)
        except StateError as error:
            # Somebody else ended the job (a cancel); the Store is right.
            self._drop(run)
            return error.message

    def _try_to_advance(self, run: TransferRun, now_s: float) -> str:
        session = self._session_of(run)
        run.view.activation_waits = self._activation_waits(run)
        run.view.now = self._hours.trusted_now() if run.has_schedule else None
        step = run.decide(now_s)
        return self._leave_to_others(run, step) or self._do(run, step, session, now_s)

    def _leave_to_others(self, run: TransferRun, step: Step) -> str:
        """What is not done in this run now, and why; empty: it is done."""
        writes = isinstance(step, Enable | Initiate | SendBlock | Verify)
        arms = isinstance(step, SetScript | ArmSchedule)
        if (writes or arms) and not self._hours.may_transfer(run.job):
            return self._put_aside(run, image_gone=writes)  # it was to be activated
        if writes and not run.image:
            return self._put_aside(run, why="the meter has lost the image", image_gone=True)
        return self._broadcasts.take(run, step) or ""

    def _do(self, run: TransferRun, step: Step, session: Session | None, now_s: float) -> str:
        meter_id = run.meter.id
        masters = self._figures.of(meter_id).masters
        try:
            talks = not isinstance(step, LeaveToMeter | Wait | Done | Failed)
            if session is None and talks:
                self._contact.check(run.meter)
            if talks:
                self._line.listen(now_s, associating=session is None)
            if session is None and talks:
                run.associated(self._sessions.associate(run.meter))
                self._line.works()
                return "associated"
            sentence = run.perform(step, session)
        except MeterError as error:
            self._in_hand = None
            rested_s = self._sessions.rested_s(meter_id, now_s)
            error = self._contact.judge(run.meter, session, error)
            error = self._line.blame(error, self._figures.of(meter_id).masters - masters)
            self._line.lose(meter_id, error)
            if (
                rested_s > RESTED_S
                and isinstance(error, LinkLostError)
                and isinstance(step, Survey | CheckHealth | SendBlock)
            ):
                run.view.doubt()
                return f"{error.message}, which may be after a pause"
            sentence = run.fail(error)
            if session is not None:
                self._learning.note_failure(run.meter, session, error, run.job.tries)
            return sentence
        ended_s = self._clock.monotonic()
        self._sessions.used(meter_id, ended_s)
        self._line.used(ended_s)
        if session is not None and session.slow and not run.keeps_line:
            self._learn(run.meter, session)
        self._line.works()
        if run.wake_at > now_s:
            self._leave_unwanted()
        return sentence

    def _learn(self, meter: Meter, session: Session) -> None:
        if self._learning.note_habit(meter, session):
            self._sessions.leave(meter.id)  # to come back with other limits

    def _activation_waits(self, run: TransferRun) -> str:
        record = run.view.record
        if record is None or not record.verifies or record.activate_decided:
            return ""
        return self._hours.activation_waits(run.job, run.meter.profile)

    def _leave_unwanted(self) -> None:
        """Keep the associations of those runs that go on soon."""
        soon_s = self._clock.monotonic() + KEEP_SESSION_S
        kept = {
            run.meter.id
            for run in self._runs.values()
            if run.keeps_line or run.wake_at <= soon_s or self._broadcasts.keeps(run)
        }
        self._sessions.leave_all_but(lambda meter_id: meter_id in kept)

    def _forget(self, meter_id: str) -> None:
        """An association has ended: nothing seen in it counts any longer."""
        for run in self._runs.values():
            if run.meter.id == meter_id:
                run.view.forget()

    # -- a line that is lent ------------------------------------------------------------------------------------------

    def _leave_all(self, why: str) -> None:
        for run in self._runs.values():
            # Somebody else may have ended the job; the Store is right.
            with contextlib.suppress(StateError):
                run.set_aside(why)
        self._runs.clear()
        self._in_hand = None
        self._broadcasts.forget()

    def _stay_away(self, until_s: float) -> StepReport:
        now_s = self._clock.monotonic()
        if now_s < until_s:
            return StepReport(self._lending.sentence(), until_s)
        self._lending.end()
        self._queue.news()
        return StepReport("the line is back", now_s)
