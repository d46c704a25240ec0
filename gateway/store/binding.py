"""Whose state this is: it belongs to one machine, and a copy of it on another does no ciphered work.

Two gateways that go on from one state use the same invocation counters under the same keys, and a nonce that is used
twice breaks AES-GCM for good (NIST SP 800-38D, section 8; invariant 7). Nothing on the card tells a copy from the
original, so the hardware around it has to. What needs no counters goes on.

A database that is broken is replaced by a new one, and the counters go on from their second file; so whose they are
stands in a file beside it as well.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from gateway.durable import replace_durably
from gateway.errors import Code, MachineError, StateError
from gateway.model import AlarmKind, Machine
from gateway.store.counters import END
from gateway.store.pruning import Pruning
from gateway.store.rows import insert

log = logging.getLogger(__name__)

COUNTER_STEP = 1 << 16
"""What every counter is raised by when a state is taken over: how far another holder of it may have come since, which
is a dozen updates of each meter. The meter's own word counts as well, as at every start (worker/contact.py)."""

IMPORTED = "imported"
"""In `meta`: how this state came here, until the audit has it."""

MACHINE_FILE = "machine.json"
"""What `meta` says of the machine, once more."""

_MACHINE = "machine"


class Binding(Pruning):
    """Nothing is bound or refused until `look_at_machine` was called."""

    _strange = ""

    def look_at_machine(self, found: Machine) -> bool:
        """At start: whether this state belongs to the machine that we run on. One that belongs to none does from now
        on; where it is another's, no counter is given out, with an alarm, until `adopt`."""
        known = self._machine()
        if known is None or same_machine(known, found):
            self._strange = ""
            kept = found if known is None else _both(known, found)
            if kept != self._bound():
                with self._transaction() as database:
                    self._bind(database, kept)
                    self._tell_import(database)
            self._note_beside(kept)
            self.end_alarm(AlarmKind.MACHINE)
            return True
        self._strange = (
            "this state was made on another machine; its meters are not ciphered with until it is adopted"
        )
        self.raise_alarm(AlarmKind.MACHINE, self._strange)
        return False

    def check_machine(self) -> None:
        """Raises MachineError where nothing may be ciphered, since the state is another machine's."""
        if self._strange:
            raise MachineError(self._strange)

    def reserve_counters(self, meter_id: str, count: int) -> int:
        """As `Counters` does. Raises MachineError besides."""
        self.check_machine()
        return super().reserve_counters(meter_id, count)

    def adopt(self, found: Machine, *, who: str) -> dict[str, int]:
        """An operator says: this machine goes on with this state, and no other does. Every counter is raised by
        `COUNTER_STEP`, and a new epoch of events begins; the next counters by their sequences. Raises StateError where
        it belongs to this machine, or to none yet."""
        with self._writing:
            known = self._machine()
            if known is None or same_machine(known, found):
                raise StateError("this state belongs to this machine already: nothing is to be adopted")
            raised, before = stepped(self._counters), self.epoch
            try:
                self._raise(raised, lambda database: self._take_over(database, found, who))
            except BaseException:
                self.epoch = before
                raise
            self._strange = ""
            self._note_beside(found)
        self.end_alarm(AlarmKind.MACHINE)
        return raised

    # -- below ------------------------------------------------------------------------------------------------

    def _tell_import(self, database: sqlite3.Connection) -> None:
        told = database.execute("DELETE FROM meta WHERE name = ? RETURNING value", (IMPORTED,)).fetchone()
        if told is not None:
            self._event(database, "store", message=told["value"])

    def _take_over(self, database: sqlite3.Connection, found: Machine, who: str) -> None:
        self._bind(database, found)
        self.epoch = new_epoch(database)
        message = f"adopted by this machine: every counter was raised by {COUNTER_STEP}"
        self._event(database, "store", who=who, message=message)
        database.execute("UPDATE jobs SET next_try_at = NULL WHERE code = ?", (Code.E_MACHINE,))

    def _machine(self) -> Machine | None:
        """Of a new database: whose the one before it was."""
        return self._bound() or self._noted_beside()

    def _bound(self) -> Machine | None:
        row = self._row("SELECT value FROM meta WHERE name = ?", _MACHINE)
        return None if row is None else _machine_of(json.loads(row["value"]))

    def _noted_beside(self) -> Machine | None:
        with suppress(OSError, ValueError, TypeError, AttributeError):
            return _machine_of(json.loads((self._path.parent / MACHINE_FILE).read_bytes()))
        return None

    def _note_beside(self, machine: Machine) -> None:
        """After the database: until then the file says less, or names the machine before. Where it cannot be written
        now, it is at the next start."""
        if self._noted_beside() == machine:
            return
        try:
            replace_durably(self._path.parent / MACHINE_FILE, json.dumps(asdict(machine)).encode())
        except OSError as error:
            log.warning("%s cannot be written: %s", MACHINE_FILE, error.strerror)

    def _bind(self, database: sqlite3.Connection, machine: Machine) -> None:
        value = json.dumps(asdict(machine))
        insert(database, "meta", {"name": _MACHINE, "value": value}, verb="REPLACE")


def forget_machine(state_dir: Path) -> None:
    """The counters there are no longer what they were: they belong to whoever starts with them. Raises OSError."""
    (state_dir / MACHINE_FILE).unlink(missing_ok=True)


def _machine_of(stored: Mapping[str, Any]) -> Machine:
    return Machine(**{one.name: tuple(stored.get(one.name, ())) for one in fields(Machine)})


def same_machine(known: Machine, found: Machine) -> bool:
    """By the strongest kind of fact that is known of both. A machine of which nothing can be found out is believed."""
    if not any(asdict(found).values()):
        return True
    for kind in (one.name for one in fields(Machine)):
        before, now = getattr(known, kind), getattr(found, kind)
        if before and now:
            return not set(before).isdisjoint(now)
    return False


def stepped(counters: Mapping[str, int]) -> dict[str, int]:
    """Counters of a state that changes hands; one at its end stays there, spent."""
    return {sequence: min(value + COUNTER_STEP, END) for sequence, value in counters.items()}


def new_epoch(database: sqlite3.Connection) -> str:
    """Begin a new epoch of events: whoever else holds this state may have told others under the same numbers."""
    epoch = uuid.uuid4().hex
    insert(database, "meta", {"name": "epoch", "value": epoch}, verb="REPLACE")
    return epoch


def _both(known: Machine, found: Machine) -> Machine:
    """What was found now, and of what is not to be seen today what was known."""
    return Machine(**{
        kind: value or getattr(known, kind) for kind, value in asdict(found).items()
    })  # fmt: skip
