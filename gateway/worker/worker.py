"""The worker of one port: `step()` does one exchange with one meter and says what it did and when to come back.

It owns the line and the associations on it. While one meter erases, verifies or reboots, the line serves the next.
What is due is asked of the Store afresh; what is in hand is only what makes the next exchange quick.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from gateway.board import Board, port_actor
from gateway.clock import Clock
from gateway.errors import (
    BusyError,
    Code,
    GatewayError,
    LinkLostError,
    MeterError,
    NotFoundError,
    PortError,
    StateError,
)
from gateway.link.conversation import PUBLIC_CLIENT
from gateway.link.port import Port
from gateway.link.session import Session
from gateway.model import (
    Campaign,
    CampaignState,
    Errand,
    Job,
    JobState,
    Meter,
    MeterKeys,
    PortSettings,
    Reply,
    ReplyStatus,
    StepReport,
)
from gateway.store import Store
from gateway.store.commands import failed
from gateway.store.documents import time_text
from gateway.supply.images import ImageStore
from gateway.transfer import Done, Enable, Failed, Initiate, SendBlock, Step, Survey, Verify, Wait
from gateway.worker import order
from gateway.worker.broadcast import GROUP_REST_S, Broadcasts
from gateway.worker.contact import Contact
from gateway.worker.figures import Figures
from gateway.worker.group import Group
from gateway.worker.hours import Hours
from gateway.worker.learning import Learning
from gateway.worker.lending import Lending
from gateway.worker.line_watch import LineWatch
from gateway.worker.probe import probe
from gateway.worker.scan import NOTE_S, Scan
from gateway.worker.sessions import LONGEST_REST_S, Sessions
from gateway.worker.shared_line import SharedLine
from gateway.worker.transfer_run import NEVER_S, TransferRun

KEEP_SESSION_S = 20.0
"""An association is kept over a wait up to this long, well below what `sessions.LONGEST_REST_S` allows; for longer
waits the meter is left."""
RESTED_S = 1.0
"""After so long without an exchange a meter may have ended its link by itself, and nothing is wrong with that."""
OUTBOX_WAIT_S = 10.0
LOOK_AGAIN_S = 60.0
DISK_WAIT = timedelta(seconds=60)

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
        self._watch = LineWatch(settings, store=store, clock=clock)
        self._lending = Lending(settings.name, store=store, clock=clock)
        clients = {PUBLIC_CLIENT, *(meter.client for meter in meters.values())}
        self._shared = SharedLine(settings, clients=clients, store=store, clock=clock)
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
        self._look = True
        """There may be a job."""
        self._look_at: float | None = None
        self._queued: Campaign | None = None
        """That of the next job that waits to be begun; None: none does."""
        self._scan: Scan | None = None
        self._scans_next = False
        """The line is the scan's in every other step."""
        self._runs: dict[tuple[str, str], TransferRun] = {}
        self._in_hand: TransferRun | Group | None = None
        """Who the line was given to, until it fails; a look at another in between changes nothing."""
        self._sessions = Sessions(
            settings, contact=self._contact, clock=clock, open_port=open_port, forget=self._forget,
            show_life=self._show_life,
        )  # fmt: skip
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

    def step(self) -> StepReport:
        """One exchange with one meter, or one errand, or the finding that nothing is due. Never waits between
        exchanges. Only errors of this project's own tree are caught here."""
        now_s = self._clock.monotonic()
        self._board.beat(self._actor, now_s)
        self._figures.post(now_s)
        if self._bell.is_set():
            self._bell.clear()
            self._look = self._called = True
            self._hours.news()
        if self._called:
            errand = self._store.take_errand(self._settings.name)
            if errand is not None:
                return StepReport(self._run_errand(errand), now_s)
            self._called = False
            self._lending.look()
            self._drop_cancelled()
        if self._lending.until_s is not None:
            return self._stay_away(self._lending.until_s)
        self._hold_closed(now_s)
        if self._runs and self._store.outbox_full() and self._holder() is None:
            return self._hold()
        if now_s >= self._watch.look_at_s or now_s >= self._shared.calm_at_s:
            self._see_to_line(now_s)
        if self._broadcasts.groups and (polled := self._broadcasts.keep_alive()):
            return StepReport(polled, now_s)
        scan = self._scan if self._scan is None or self._holder() is None else None
        self._scans_next = not self._scans_next
        if scan is not None and self._scans_next:
            return StepReport(self._scan_on(scan), now_s)
        run = self._choose(now_s)
        if run is None:
            return self._rest() if scan is None else StepReport(self._scan_on(scan), now_s)
        if isinstance(run, Group):
            return self._broadcasts.step(run)
        sentence = self._advance(run, now_s)
        if run.ended:
            self._drop(run)
        return StepReport(f"{run.meter.id}: {sentence}", now_s)

    def close(self) -> None:
        """Leave the meters and the line, and make durable what they acknowledged."""
        try:
            self._checkpoint()
            self._end_scan(BusyError("the gateway leaves the line"))
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
        queued = self._next_queued()
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
            begun = self._take_job()
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

    def _next_queued(self) -> Campaign | None:
        """That of the next job that waits to be begun; the Store is asked when there may be news."""
        if self._look or (self._look_at is not None and self._look_at <= self._clock.monotonic()):
            self._look, self._look_at = False, None
            job = self._next_job()
            self._queued = None if job is None else self._campaign_of(job)
            if job is None:
                self._look_at = self._when(
                    self._store.next_due_at(self._settings.name, tuple(self._runs), self._hours.may_work)
                )
        return self._queued

    def _next_job(self) -> Job | None:
        return self._store.due_job(
            self._settings.name, self._clock.now(), tuple(self._runs), self._hours.may_work
        )

    def _take_job(self) -> TransferRun | None:
        """Begin the next job. One that ends before it began makes room for the next at once."""
        self._look = True
        while job := self._next_job():
            run = self._begin(job)
            if run is not None:
                return run
        self._next_queued()  # and with it when to look again
        return None

    def _campaign_of(self, job: Job) -> Campaign:
        campaign = self._store.campaign(job.campaign_id)
        assert campaign is not None, "a job has a campaign"
        return campaign

    def _when(self, moment: datetime | None) -> float | None:
        if moment is None:
            return None
        # Time of day may be set at any moment (a Pi has no clock of its own): never trust it for long.
        ahead_s = (moment - self._clock.now()).total_seconds()
        return self._clock.monotonic() + min(max(1.0, ahead_s), LOOK_AGAIN_S)

    def _begin(self, job: Job) -> TransferRun | None:
        campaign = self._campaign_of(job)
        if campaign.state is CampaignState.CANCELLING and not (job.record and job.record.activate_decided):
            self._end(job, JobState.CANCELLED, code=campaign.code, message=campaign.message or "cancelled")
            return None
        try:
            meter = self._meters.get(job.meter_id)
            if meter is None:
                raise NotFoundError(f"meter {job.meter_id} is no longer configured")
            image = self._image(job, campaign.sha256)
        except GatewayError as error:
            if error.retryable:
                self._put_off(job, error)
                return None
            self._end(job, JobState.FAILED, code=error.code, message=error.message)
            return None
        run = TransferRun(
            job, campaign, meter, image, store=self._store, board=self._board, clock=self._clock
        )
        self._runs[run.key] = run
        return run

    def _image(self, job: Job, sha256: str) -> bytes:
        """The bytes, once for all who send them; none where activation was ordered and only looking is left."""
        if job.record is not None and job.record.activate_decided:
            return b""
        for run in self._runs.values():
            if run.sha256 == sha256 and run.image:
                return run.image
        return self._images.read(sha256)

    def _put_off(self, job: Job, error: GatewayError) -> None:
        later = self._clock.now() + DISK_WAIT
        self._store.save_job(
            replace(job, state=JobState.WAITING, code=error.code, message=error.message, next_try_at=later)
        )

    def _end(self, job: Job, state: JobState, *, message: str, code: Code | None = None) -> None:
        """End a job that was not begun in this process."""
        self._store.save_job(
            replace(job, state=state, code=code, message=message, finished_at=self._clock.now())
        )

    def _hold_closed(self, now_s: float) -> None:
        """Leave the meters whose campaign may not go on now, at a block boundary and in order."""
        for job in self._hours.closed((run.job for run in self._runs.values()), now_s):
            self._put_aside(self._runs[job.campaign_id, job.meter_id])

    def _put_aside(self, run: TransferRun, *, image_gone: bool = False) -> str:
        why = self._hours.why_closed(run.job)
        with contextlib.suppress(StateError):  # the Store has ended it already
            run.set_aside(why, image_gone=image_gone)
        self._drop(run)
        return why

    def _drop_cancelled(self) -> None:
        for run in list(self._runs.values()):
            if self._store.campaign_state(run.job.campaign_id) not in _CANCELLED:
                continue
            if run.view.record is None or not run.view.record.activate_decided:
                campaign, session = self._campaign_of(run.job), self._session_of(run)
                # The Store has ended a job already that waited for its next try.
                with contextlib.suppress(StateError):
                    run.cancel(
                        session or self._session_to_put_back(run),
                        code=campaign.code,
                        message=campaign.message,
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
        self._look = True
        self._leave_unwanted()

    def _rest(self) -> StepReport:
        """Nothing is due: leave the meters that would only wait, and say when to come back."""
        holder = self._holder()
        if holder is not None:
            return StepReport("the line is kept for one meter", holder.wake_at)
        wakes = [run.wake_at for run in self._runs.values()]
        wakes += filter(None, [self._look_at, self._figures.until_idle_s()])
        wake_at = min(self._watch.look_at_s, self._shared.calm_at_s, *wakes, NEVER_S)
        self._leave_unwanted()
        return StepReport("nothing is due", None if wake_at == NEVER_S else wake_at)

    def _hold(self) -> StepReport:
        """What happens now could not be told: leave the meters at a safe place until the broker has taken more."""
        self._checkpoint()
        self._sessions.leave_all_but(lambda _: False)
        return StepReport("the outbox is nearly full", self._clock.monotonic() + OUTBOX_WAIT_S)

    def _see_to_line(self, now_s: float) -> None:
        if now_s >= self._watch.look_at_s:
            self._look_at_line()
        if now_s >= self._shared.calm_at_s:
            self._shared.calm()

    def _look_at_line(self) -> None:
        """A device that is not there is told before a job needs it; one that is back is opened at once."""
        missing = self._watch.missing()
        try:
            if missing:
                raise PortError(missing)
            if self._watch.lost:
                self._sessions.port()
                self._line_is_back()
        except PortError as error:
            self._sessions.close_port()
            self._watch.gone(error.message)

    def _lose(self, meter_id: str, error: MeterError) -> None:
        self._sessions.lose(meter_id, error)
        if isinstance(error, PortError):
            self._watch.gone(error.message)

    def _line_is_back(self) -> None:
        """Whoever waits for the line is served now, and not when its next try would be."""
        self._watch.back()
        self._store.try_now(self._settings.name, Code.T_PORT)
        for run in self._runs.values():
            if run.job.code is Code.T_PORT:
                run.wake_at = self._clock.monotonic()
        self._look = True

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
        step = run.decide(now_s)
        return self._leave_to_others(run, step) or self._do(run, step, session, now_s)

    def _leave_to_others(self, run: TransferRun, step: Step) -> str:
        """What is not done in this run now, and why; empty: it is done."""
        writes = isinstance(step, Enable | Initiate | SendBlock | Verify)
        if writes and not self._hours.may_transfer(run.job):
            return self._put_aside(run, image_gone=True)  # it was to be activated
        return self._broadcasts.take(run, step) or ""

    def _do(self, run: TransferRun, step: Step, session: Session | None, now_s: float) -> str:
        meter_id = run.meter.id
        masters = self._figures.of(meter_id).masters
        try:
            talks = not isinstance(step, Wait | Done | Failed)
            if session is None and talks:
                self._contact.check(run.meter)
            if talks and (session is None or now_s >= self._shared.listen_at_s):
                self._shared.listen(self._sessions.port())
            if session is None and talks:
                run.associated(self._sessions.associate(run.meter))
                if self._watch.lost:
                    self._line_is_back()
                return "associated"
            sentence = run.perform(step, session)
        except MeterError as error:
            self._in_hand = None
            rested_s = self._sessions.rested_s(meter_id, now_s)
            error = self._contact.judge(run.meter, session, error)
            error = self._shared.blame(error, self._figures.of(meter_id).masters - masters)
            self._lose(meter_id, error)
            if (
                rested_s > RESTED_S
                and isinstance(error, LinkLostError)
                and isinstance(step, Survey | SendBlock)
            ):
                run.view.doubt()
                return f"{error.message}, which may be after a pause"
            sentence = run.fail(error)
            if session is not None:
                self._learning.note_failure(run.meter, session, error, run.job.tries)
            return sentence
        ended_s = self._clock.monotonic()
        self._sessions.used(meter_id, ended_s)
        self._shared.used(ended_s)
        if session is not None and session.slow and not run.keeps_line:
            self._learn(run.meter, session)
        if self._watch.lost:
            self._line_is_back()
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

    def _lend(self, errand: Errand) -> dict[str, object]:
        """Leave everything as at a stop: who is served again later is begun anew."""
        holder = self._holder()
        if holder is not None:
            raise _unbroken(holder)
        hold = self._lending.lend(errand)
        for run in self._runs.values():
            # Somebody else may have ended the job; the Store is right.
            with contextlib.suppress(StateError):
                run.set_aside(self._lending.sentence())
        self._runs.clear()
        self._in_hand = None
        self._broadcasts.forget()
        self._end_scan(BusyError(self._lending.sentence()))
        self._sessions.close()
        return {"port": hold.port, "until": time_text(hold.until)}

    def _stay_away(self, until_s: float) -> StepReport:
        now_s = self._clock.monotonic()
        if now_s < until_s:
            return StepReport(self._lending.sentence(), until_s)
        self._lending.end()
        self._look = True
        return StepReport("the line is back", now_s)

    # -- errands -------------------------------------------------------------------------------------------------------

    def _run_errand(self, errand: Errand) -> str:
        try:
            match errand.verb:
                case "port.hold":
                    data = self._lend(errand)
                case "port.scan":
                    return self._begin_scan(errand)
                case _:
                    data = self._probe(errand)
        except GatewayError as error:
            reply = failed(errand.cmd_id, error)
        else:
            reply = Reply(errand.cmd_id, ReplyStatus.DONE, data=data)
        self._store.finish_errand(errand, reply)
        self._leave_unwanted()
        return f"{' '.join(filter(None, (errand.verb, errand.meter_id)))}: {reply.code or reply.status}"

    def _begin_scan(self, errand: Errand) -> str:
        self._lending.refuse()
        if self._scan is not None:
            raise BusyError(f"port {self._settings.name} is being scanned already")
        holder = self._holder()
        if holder is not None:
            raise _unbroken(holder)
        self._scan = Scan(
            errand, self._settings, meters=self._meters, clock=self._clock, tally=self._figures.of_all
        )
        return "a scan begins"

    def _scan_on(self, scan: Scan) -> str:
        """Ask one more address, or tell what was found."""
        if scan.meter_id is not None:
            # Some meters have one link for all their clients.
            self._sessions.leave(scan.meter_id)
        try:
            sentence = scan.step(self._sessions.port())
        except PortError as error:
            self._sessions.close_port()
            self._watch.gone(error.message)
            return self._end_scan(error)
        self._board.post(("scan", self._settings.name), scan.progress())
        if scan.place is None:
            return self._end_scan(None)
        now_s = self._clock.monotonic()
        if now_s - scan.noted_at_s >= NOTE_S:
            scan.noted_at_s = now_s
            self._store.note_cursor(scan.errand, f"address {scan.place}")
        return sentence

    def _end_scan(self, error: GatewayError | None) -> str:
        scan, self._scan = self._scan, None
        if scan is None:
            return "no scan"
        self._board.drop(("scan", self._settings.name))
        cmd_id = scan.errand.cmd_id
        done = Reply(cmd_id, ReplyStatus.DONE, data=scan.result())
        self._store.finish_errand(scan.errand, failed(cmd_id, error) if error else done)
        return "the scan ended" + (f": {error.message}" if error else "")

    def _probe(self, errand: Errand) -> dict[str, object]:
        self._lending.refuse()
        meter = self._meters.get(errand.meter_id)
        if meter is None:
            raise NotFoundError(f"no meter {errand.meter_id}")
        holder = self._holder()
        if holder is not None and holder.meter.id != meter.id:
            raise _unbroken(holder)
        if not errand.local:
            self._contact.check(meter)
        session: Session | None = None
        try:
            session = self._sessions.of(meter.id)
            if session is None:
                session = self._sessions.associate(meter)
            data = probe(session, meter)
        except MeterError as error:
            judged = self._contact.judge(meter, session, error)
            self._lose(meter.id, judged)
            for run in self._runs.values():
                if run.meter.id == meter.id:
                    run.view.doubt()
            raise judged from None
        self._sessions.used(meter.id, self._clock.monotonic())
        self._store.unpark(meter.id, "a probe succeeded", who=errand.who, port=self._settings.name)
        return data


def _unbroken(holder: TransferRun) -> BusyError:
    return BusyError(f"{holder.meter.id} is being updated in one unbroken association; try again later")
