"""Meters that are left alone, and counters that do not go on one by one.

Meters lock out after failed authentications, some for good. So whatever refuses us, or is refused by us, is parked in
the transaction that tells it, over restarts and until an operator has done something about it (invariant 11). What the
keys were that failed is kept as a salted, slow digest (scrypt, RFC 7914): enough to see that they were changed, useless
for whoever reads the disk, even where the secret is a short password.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import sqlite3
from collections.abc import Mapping

from gateway.errors import Code, CounterSpentError, ParkedError, StateError
from gateway.model import Command, MeterKeys, Parked, Reply, ReplyStatus
from gateway.store.campaigns import Campaigns
from gateway.store.documents import GATEWAY, time_text
from gateway.store.rows import PARKED, insert

HIGHEST_SEED = 2**32 - 1 - 2**20
"""The highest counter that anybody may set: it can never be lowered again, and an operator who has to change the key
needs some to get in."""

_SALT_OCTETS = 16


class Parking(Campaigns):
    """Which meters are left alone, and why; and every step of a counter that is not our own counting."""

    # -- asking -----------------------------------------------------------------------------------------------

    def parked(self, meter_id: str) -> Parked | None:
        """Why this meter is left alone, or None: it is not."""
        row = self._row("SELECT * FROM parked WHERE meter_id = ?", meter_id)
        return PARKED.read(row) if row else None

    def all_parked(self) -> dict[str, Parked]:
        """Every parked meter by its id."""
        return {row["meter_id"]: PARKED.read(row) for row in self._rows("SELECT * FROM parked")}

    # -- the workers' side ------------------------------------------------------------------------------------

    def park(
        self, meter_id: str, keys: MeterKeys, *, code: Code, message: str, port: str | None = None
    ) -> None:
        """Leave this meter alone from now on; `keys` are those that failed. Nothing changes where it is parked
        already. `port`, here and below: for the event."""
        salt = os.urandom(_SALT_OCTETS)
        digest = _digest(keys, salt)
        with self._transaction() as database:
            if self.parked(meter_id):
                return
            parked = Parked(meter_id, code, message, self._clock.now())
            insert(database, "parked", {**PARKED.values(parked), "salt": salt, "digest": digest})
            self._event(database, "parked", meter_id=meter_id, port=port, code=code, message=message)

    def unpark(self, meter_id: str, why: str, *, who: str = GATEWAY, port: str | None = None) -> None:
        """Serve this meter again; nothing changes where it is not parked."""
        if self.parked(meter_id) is None:
            return
        with self._transaction() as database:
            self._unpark(database, meter_id, why, who=who, port=port)

    def unpark_changed(self, keys: Mapping[str, MeterKeys]) -> None:
        """At start: serve those meters again whose keys are others than those that failed. `keys` holds those of
        every meter that is served or has an entry in keys.toml; any other stays as it is. Where it is not known what
        failed (it stays behind when a state is carried to another machine), it is taken to be what stands there now."""
        for row in self._rows("SELECT * FROM parked"):
            present = keys.get(row["meter_id"])
            if present is not None and not row["digest"]:
                self._note_failed_keys(row["meter_id"], present)
            elif present is not None and not hmac.compare_digest(
                _digest(present, row["salt"]), row["digest"]
            ):
                self.unpark(row["meter_id"], "its entry in keys.toml has changed")

    def seed_counter(
        self, meter_id: str, value: int, why: str = "first contact", *, port: str | None = None
    ) -> None:
        """`value` is the next counter that may be used, as the meter or an operator says; ignored where a higher
        one is known. Raises CounterSpentError above `HIGHEST_SEED`: nothing is stored then."""
        with self._writing:
            known = self.counter(meter_id)
            if known is not None and value <= known:
                return
            if value > HIGHEST_SEED:
                raise CounterSpentError(
                    f"{why}: {value} for {meter_id}, at most {HIGHEST_SEED} is accepted; it needs a new key"
                )
            message = f"{why}: {_step(known, value)}"

            def tell(database: sqlite3.Connection) -> None:
                self._event(database, "counter", meter_id=meter_id, port=port, message=message)

            self._raise_to(meter_id, value, tell)

    def seed_broadcast_counter(self, key: str, value: int, *, port: str) -> None:
        """`value` is the next counter that may be used under the broadcast key of this name (`key_name`), as the time
        of day says; ignored where a higher one is known. Raises CounterSpentError above `HIGHEST_SEED`."""
        with self._writing:
            known = self.counter(key)
            if known is not None and value <= known:
                return
            if value > HIGHEST_SEED:
                raise CounterSpentError(f"{value} for a broadcast key, at most {HIGHEST_SEED} is accepted")
            message = f"for a broadcast key, from the time of day: {_step(known, value)}"

            def tell(database: sqlite3.Connection) -> None:
                self._event(database, "counter", port=port, message=message)

            self._raise_to(key, value, tell)

    # -- the desk's side --------------------------------------------------------------------------------------

    def adopt_counter(self, command: Command, meter_id: str, value: int, *, port: str | None = None) -> Reply:
        """An operator has looked and says: `value` is the next counter. Unparks the meter. Raises StateError where
        a higher one is known, and CounterSpentError above `HIGHEST_SEED`."""
        if value > HIGHEST_SEED:
            raise CounterSpentError(
                f"counter {value}, at most {HIGHEST_SEED} is accepted: it needs a new key"
            )
        with self._writing:
            known = self.counter(meter_id)
            if known is not None and value < known:
                raise StateError(
                    f"the next counter of {meter_id} is {known} here, {value} would lead back: counters never repeat"
                )
            done = Reply(
                command.cmd_id, ReplyStatus.DONE, data={"meter": meter_id, "counter": value, "before": known}
            )

            def tell(database: sqlite3.Connection) -> None:
                message = f"adopted: {_step(known, value)}"
                self._event(
                    database, "counter", who=command.who, meter_id=meter_id, port=port, message=message
                )
                self._unpark(database, meter_id, "its counter was adopted", who=command.who, port=port)
                self._accept(database, command, done)

            self._raise_to(meter_id, value, tell)
            return done

    # -- below ------------------------------------------------------------------------------------------------

    def _note_failed_keys(self, meter_id: str, keys: MeterKeys) -> None:
        salt = os.urandom(_SALT_OCTETS)
        with self._transaction() as database:
            database.execute(
                "UPDATE parked SET salt = ?, digest = ? WHERE meter_id = ?",
                (salt, _digest(keys, salt), meter_id),
            )

    def _unpark(
        self, database: sqlite3.Connection, meter_id: str, why: str, *, who: str, port: str | None
    ) -> None:
        if database.execute("DELETE FROM parked WHERE meter_id = ?", (meter_id,)).rowcount:
            self._event(database, "unparked", who=who, meter_id=meter_id, port=port, message=why)


def refusal(parked: Parked) -> ParkedError:
    """What whoever wants this meter is told: since when, why, and what to do."""
    return ParkedError(
        f"{parked.meter_id} is left alone since {time_text(parked.parked_at)}: {parked.message}; "
        f"correct keys.toml and restart, or try it once: meter-gateway probe {parked.meter_id}"
    )


def _step(known: int | None, value: int) -> str:
    before = "none was known" if known is None else f"it was {known}"
    return f"the next counter is {value}, {before}"


def _digest(keys: MeterKeys, salt: bytes) -> bytes:
    """Over everything that keys.toml says of the meter: a counter that could not be read is mended there too."""
    counter = b"" if keys.initial_counter is None else b"%d" % keys.initial_counter
    parts = (keys.encryption_key, keys.authentication_key, keys.password, counter)
    secret = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    # The costs that Percival's paper names for interactive use: 16 MiB, some 50 ms on a PC.
    return hashlib.scrypt(secret, salt=salt, n=2**14, r=8, p=1)
