"""Room that the database and its log have for themselves, so that commits go on while the disk is full.

Whoever fills the disk cannot take it: pages that are free within the database, and a log that is as long as it gets.
Where the file system writes in place (ext4, not btrfs), a commit then asks it for nothing.
"""

from __future__ import annotations

from gateway.durable import room
from gateway.errors import StoreError
from gateway.store.database import Database

ROOM_BYTES = 5 * 2**20
"""Free pages in the database: some ten thousand changes of a job. It is also longer than the log gets before SQLite
copies it back (1000 pages of 4 KiB), with a transaction of 300 pages on top."""


class Room(Database):
    """A Database that can keep room."""

    def keep_room(self) -> None:
        """Have `ROOM_BYTES` of free pages, and a log of that length. Takes a second on a slow card where the log is new
        or half of the pages are used, nothing otherwise. Raises StoreError: the disk has no such room."""
        with self._writing:
            database = self._connection()
            [page_size], [free] = (
                database.execute(f"PRAGMA {name}").fetchone() for name in ("page_size", "freelist_count")
            )
            log = self._path.with_name(f"{self._path.name}-wal")
            if free * page_size >= ROOM_BYTES // 2 and log.exists() and log.stat().st_size >= ROOM_BYTES:
                return
            if room(self._path.parent) < 2 * ROOM_BYTES:
                raise StoreError(f"{self._path} can have no room of its own: the disk is nearly full")
            self._fill()
            # Pages that are overwritten as they are freed would go through the log once more.
            [secure_delete] = database.execute("PRAGMA secure_delete").fetchone()
            database.execute("PRAGMA secure_delete = OFF").fetchall()
            try:
                with self._transaction():
                    database.execute("DROP TABLE room")
            finally:
                database.execute(f"PRAGMA secure_delete = {secure_delete}").fetchall()

    def _fill(self) -> None:
        """A table of that size, in the log and, copied back, in the database: a page that was only ever free would be a
        hole in the file."""
        with self._transaction() as database:
            database.execute("DROP TABLE IF EXISTS room")  # the power went at this point once
            database.execute("CREATE TABLE room (octets BLOB) STRICT")
            database.execute("INSERT INTO room VALUES (zeroblob(?))", (ROOM_BYTES,))
        self._rows("PRAGMA wal_checkpoint(FULL)")
