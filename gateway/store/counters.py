"""Invocation counters, which never go back (invariant 7): in the database and in a second, synced file.

A counter that comes again with the same key breaks AES-GCM (NIST SP 800-38D, section 8). Whatever is lost, the
database or the file, the higher of what is left holds; what is written is checked when it is read.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.board import Board
from gateway.clock import Clock
from gateway.errors import CounterSpentError, StateError
from gateway.model import MeterKeys
from gateway.store.room import Room
from gateway.store.rows import insert
from gateway.store.second_file import SecondFile

NAME = "counters"
"""Of the second file."""

END = 2**32
"""Invocation counters have 32 bits (Green Book, security suite 0: the IV is system title and counter)."""


def key_name(key: bytes, system_title: bytes) -> str:
    """What counters are kept under: the key itself, and who uses it, not the meter. Two meters with one key share a
    sequence, and a meter with a new name goes on with its old one; either way no nonce comes twice. The name of a
    broadcast key stands for the meter's id wherever a counter is asked for."""
    return f"key-{hashlib.sha256(system_title + key).hexdigest()[:32]}"


class Counters(Room):
    """The next counter that no message has used, of each encryption key."""

    def __init__(self, state_dir: Path, clock: Clock, board: Board | None) -> None:
        super().__init__(state_dir, clock, board)
        self._second_file = SecondFile(state_dir, NAME)
        self._key_names: dict[str, str] = {}
        self._counters = self._merged(self._second_file, "counters", "sequence", "next")

    def name_keys(self, keys: Mapping[str, MeterKeys], system_title: bytes) -> None:
        """At start: which meters share a key, and so a sequence of counters. A meter without a key has its own."""
        self._key_names = {
            meter_id: key_name(own.encryption_key, system_title)
            for meter_id, own in keys.items()
            if own.encryption_key
        }

    def counter(self, meter_id: str) -> int | None:
        """The next counter that was never used with the meter's key, or None: not known here."""
        with self._writing:
            return self._counters.get(self._sequence(meter_id))

    def _sequence(self, meter_id: str) -> str:
        return self._key_names.get(meter_id, meter_id)

    def reserve_counters(self, meter_id: str, count: int) -> int:
        """Set `count` counters aside for the caller, the first of which is returned: durable before return, none
        of them is ever given out again. Raises StateError where no counter is known (seed it first) and
        CounterSpentError where fewer than `count` are left."""
        with self._writing:
            first = self.counter(meter_id)
            if first is None:
                raise StateError(f"no invocation counter is known for {meter_id}")
            self._raise_to(meter_id, first + count)
            return first

    def _raise_to(
        self, meter_id: str, value: int, also: Callable[[sqlite3.Connection], None] = lambda _: None
    ) -> None:
        """Both places, then memory: whatever fails in between, no lower value can come back. `also` is done in
        the transaction of the database."""
        if not 0 <= value <= END:
            raise CounterSpentError(
                f"the invocation counter of {meter_id} is used up: {value} is beyond 32 bits"
            )
        self._raise({self._sequence(meter_id): value}, also)

    def _raise(self, values: Mapping[str, int], also: Callable[[sqlite3.Connection], None]) -> None:
        wanted = {**self._counters, **values}
        self._second_file.write(wanted)
        with self._transaction() as database:
            for sequence, value in values.items():
                insert(database, "counters", {"sequence": sequence, "next": value}, verb="REPLACE")
            also(database)
        self._counters = wanted

    def _merged(self, second_file: SecondFile, table: str, name: str, number: str) -> dict[str, int]:
        """What both places know, the higher of each; brought up to date where one has less. `name` and `number` are
        columns of `table`."""
        stored = {str(row[name]): int(row[number]) for row in self._rows(f"SELECT * FROM {table}")}  # noqa: S608  # ours
        second = second_file.read()
        merged = {
            key: max(stored.get(key, 0), (second or {}).get(key, 0))
            for key in stored.keys() | (second or {}).keys()
        }
        if merged != second and (merged or second is not None):
            second_file.write(merged)
        if merged != stored:
            with self._transaction() as database:
                for key, value in merged.items():
                    insert(database, table, {name: key, number: value}, verb="REPLACE")
        return merged
