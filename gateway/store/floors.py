"""Sequence floors: the highest sequence of a signed manifest that was accepted for each profile, never lower again
(invariant 7), in the database and in a second, synced file, as counters are. And the manifests themselves.

A floor rises in the transaction in which a campaign is accepted whose manifest was signed as the configuration wants;
nothing else raises one, no refused order and no dry run.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from gateway.board import Board
from gateway.clock import Clock
from gateway.store.counters import Counters
from gateway.store.rows import insert, moment_text
from gateway.store.second_file import SecondFile

NAME = "floors"
"""Of the second file."""

MANIFESTS_KEPT = 256
"""Beside those of open campaigns; the oldest go first."""


class Floors(Counters):
    """What was accepted of signed manifests."""

    def __init__(self, state_dir: Path, clock: Clock, board: Board | None) -> None:
        super().__init__(state_dir, clock, board)
        self._floors_file = SecondFile(state_dir, NAME)
        self._merged(self._floors_file, "floors", "profile", "sequence")

    def floors(self) -> dict[str, int]:
        """By profile."""
        return {str(row["profile"]): int(row["sequence"]) for row in self._rows("SELECT * FROM floors")}

    def manifest(self, digest: str) -> str | None:
        """The envelope that `Campaign.manifest` names."""
        row = self._row("SELECT envelope FROM manifests WHERE digest = ?", digest)
        return str(row["envelope"]) if row else None

    def manifest_of_image(self, sha256: str) -> str | None:
        """The envelope that came last for an image."""
        row = self._row(
            "SELECT envelope FROM manifests WHERE sha256 = ? ORDER BY number DESC LIMIT 1", sha256
        )
        return str(row["envelope"]) if row else None

    def keep_manifest(self, sha256: str, envelope: str) -> None:
        """Keep the envelope of an image, for campaigns that name the image alone."""
        with self._transaction() as database:
            self._keep_manifest(database, sha256, envelope)

    # -- for subclasses ---------------------------------------------------------------------------------------

    def _keep_manifest(self, database: sqlite3.Connection, sha256: str, envelope: str) -> str:
        """The digest that it is known by from now on; it becomes the newest of its image."""
        digest = hashlib.sha256(envelope.encode()).hexdigest()
        values = {
            "digest": digest,
            "sha256": sha256,
            "envelope": envelope,
            "stored_at": moment_text(self._clock.now()),
        }
        insert(database, "manifests", values, verb="REPLACE")
        database.execute(
            "DELETE FROM manifests WHERE number <= (SELECT max(number) FROM manifests) - ?"
            " AND digest NOT IN (SELECT manifest FROM campaigns WHERE finished_at IS NULL)",
            (MANIFESTS_KEPT,),
        )
        return digest

    def _raise_floors(self, database: sqlite3.Connection, wanted: Mapping[str, int]) -> None:
        """The file first, and nothing in it is ever lower than it was: whatever fails in between, no lower floor can
        come back."""
        known = self.floors()
        raised = {profile: value for profile, value in wanted.items() if value > known.get(profile, 0)}
        if not raised:
            return
        second = self._floors_file.read() or {}
        self._floors_file.write(
            second | {name: max(value, second.get(name, 0)) for name, value in (known | raised).items()}
        )
        for profile, value in raised.items():
            insert(database, "floors", {"profile": profile, "sequence": value}, verb="REPLACE")
