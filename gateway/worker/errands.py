"""What somebody waits for on this port: a probe of a meter, a reading, a scan of the line, the line itself.

Errands come before the next block. A probe or a reading is one step in whole; a scan is one address a step, so that the
jobs of the line go on in between; a line that is lent is left as at a stop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.board import Board
from gateway.clock import Clock
from gateway.errors import AccessError, BusyError, GatewayError, MeterError, NotFoundError, PortError
from gateway.link.session import Session
from gateway.model import Errand, Meter, PortSettings, Reply, ReplyStatus
from gateway.store import Store
from gateway.store.commands import failed
from gateway.store.documents import time_text
from gateway.wire.tally import Tally
from gateway.worker.contact import Contact
from gateway.worker.group import RunKey
from gateway.worker.lending import Lending
from gateway.worker.line import Line
from gateway.worker.probe import probe
from gateway.worker.reading import read
from gateway.worker.scan import NOTE_S, Scan
from gateway.worker.sessions import Sessions
from gateway.worker.transfer_run import TransferRun


class Errands:
    """Of one port. `runs` are the worker's; `holder()` is the one whose association may not be broken, and
    `leave_all(why)` puts all of them aside."""

    def __init__(
        self,
        settings: PortSettings,
        *,
        meters: Mapping[str, Meter],
        store: Store,
        board: Board,
        clock: Clock,
        contact: Contact,
        sessions: Sessions,
        line: Line,
        lending: Lending,
        tally: Tally,
        runs: Mapping[RunKey, TransferRun],
        holder: Callable[[], TransferRun | None],
        leave_all: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._meters = meters
        self._store = store
        self._board = board
        self._clock = clock
        self._contact = contact
        self._sessions = sessions
        self._line = line
        self._lending = lending
        self._tally = tally
        self._runs = runs
        self._holder = holder
        self._leave_all = leave_all
        self._scan: Scan | None = None
        self._owed: tuple[Errand, Reply] | None = None
        """An answer that the disk had no room for yet."""

    @property
    def waiting(self) -> bool:
        """There is an answer left to give."""
        return self._owed is not None

    @property
    def scanning(self) -> bool:
        return self._scan is not None

    def run_next(self) -> str:
        """Run the next errand; what it came to. Empty: there is none."""
        if self._owed is not None:
            return self._answer(*self._owed)
        errand = self._store.take_errand(self._settings.name)
        if errand is None:
            return ""
        try:
            match errand.verb:
                case "port.hold":
                    data = self._lend(errand)
                case "port.scan":
                    return self._begin_scan(errand)
                case "meter.read":
                    self._refuse_while_unbroken()
                    data = self._talk(errand, lambda session, meter: read(session, meter, errand.args))
                case _:
                    self._refuse_while_unbroken(but=errand.meter_id)
                    data = self._talk(errand, probe)
        except GatewayError as error:
            reply = failed(errand.cmd_id, error)
        else:
            reply = Reply(errand.cmd_id, ReplyStatus.DONE, data=data)
        return self._answer(errand, reply)

    def _answer(self, errand: Errand, reply: Reply) -> str:
        """Whatever was done is not done again, however often its answer cannot be written."""
        self._owed = (errand, reply)
        self._store.finish_errand(errand, reply)
        self._owed = None
        return f"{' '.join(filter(None, (errand.verb, errand.meter_id)))}: {reply.code or reply.status}"

    # -- a line that is lent ------------------------------------------------------------------------------------

    def _lend(self, errand: Errand) -> dict[str, object]:
        """Leave everything as at a stop: who is served again later is begun anew."""
        self._refuse_while_unbroken()
        hold = self._lending.lend(errand)
        self._leave_all(self._lending.sentence())
        self.end_scan(BusyError(self._lending.sentence()))
        self._sessions.close()
        return {"port": hold.port, "until": time_text(hold.until)}

    # -- a scan -------------------------------------------------------------------------------------------------

    def _begin_scan(self, errand: Errand) -> str:
        self._lending.refuse()
        if self._scan is not None:
            raise BusyError(f"port {self._settings.name} is being scanned already")
        self._refuse_while_unbroken()
        self._scan = Scan(errand, self._settings, meters=self._meters, clock=self._clock, tally=self._tally)
        return "a scan begins"

    def scan_on(self) -> str:
        """Ask one more address, or tell what was found."""
        scan = self._scan
        assert scan is not None
        if scan.meter_id is not None:
            # Some meters have one link for all their clients.
            self._sessions.leave(scan.meter_id)
        try:
            sentence = scan.step(self._sessions.port())
        except PortError as error:
            self._line.fail(error)
            return self.end_scan(error)
        self._board.post(("scan", self._settings.name), scan.progress())
        if scan.place is None:
            return self.end_scan(None)
        now_s = self._clock.monotonic()
        if now_s - scan.noted_at_s >= NOTE_S:
            scan.noted_at_s = now_s
            self._store.note_cursor(scan.errand, f"address {scan.place}")
        return sentence

    def end_scan(self, error: GatewayError | None) -> str:
        """Answer the scan, if there is one, with what was found, or with why it ended before."""
        scan, self._scan = self._scan, None
        if scan is None:
            return "no scan"
        self._board.drop(("scan", self._settings.name))
        cmd_id = scan.errand.cmd_id
        done = Reply(cmd_id, ReplyStatus.DONE, data=scan.result())
        self._answer(scan.errand, failed(cmd_id, error) if error else done)
        return "the scan ended" + (f": {error.message}" if error else "")

    # -- a probe, a reading -------------------------------------------------------------------------------------

    def _talk(self, errand: Errand, say: Callable[[Session, Meter], dict[str, Any]]) -> dict[str, Any]:
        """What came of `say` in an association with the meter of the errand."""
        self._lending.refuse()
        meter = self._meters.get(errand.meter_id)
        if meter is None:
            raise NotFoundError(f"no meter {errand.meter_id}")
        if errand.local:
            self._contact.check_machine(meter)
        else:
            self._contact.check(meter)
        session: Session | None = None
        try:
            session = self._sessions.of(meter.id)
            if session is None:
                session = self._sessions.associate(meter)
            data = say(session, meter)
        except AccessError:
            self._sessions.used(meter.id, self._clock.monotonic())
            raise
        except MeterError as error:
            judged = self._contact.judge(meter, session, error)
            self._line.lose(meter.id, judged)
            for run in self._runs.values():
                if run.meter.id == meter.id:
                    run.view.doubt()
            raise judged from None
        self._sessions.used(meter.id, self._clock.monotonic())
        did = "a reading" if errand.verb == "meter.read" else "a probe"
        self._store.unpark(meter.id, f"{did} succeeded", who=errand.who, port=self._settings.name)
        return data

    def _refuse_while_unbroken(self, *, but: str = "") -> None:
        """Raises BusyError while a meter, `but` this one, has an association that may not be broken."""
        holder = self._holder()
        if holder is not None and holder.meter.id != but:
            raise BusyError(
                f"{holder.meter.id} is being updated in one unbroken association; try again later"
            )
