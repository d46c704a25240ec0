"""The SQLite file beneath the Store: opening, migrating, setting aside, and the one place that commits.

WAL with `synchronous=FULL`: what was committed survives a power cut (https://www.sqlite.org/wal.html). One
connection for each thread, autocommit mode and `BEGIN IMMEDIATE`; writers of this process queue at a lock of
ours, which is fairer than SQLite's busy handler.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from gateway.board import Board
from gateway.clock import Clock
from gateway.durable import make_directory, sync_directory
from gateway.errors import NewerSchemaError, StateInUseError, StoreError
from gateway.store.rows import insert, moment_text

log = logging.getLogger(__name__)

FILE_NAME = "store.db"

# What one transaction adds is a few pages of 4 KiB; SQLite copies the log back at 1000 pages, and cuts the file
# to this size after a burst. Not shorter than what `gateway.store.room` makes it.
_WAL_LIMIT_BYTES = 6 * 2**20

_LEAST_ROOM_BYTES = 64 * 2**10
"""What the log's index (32 KiB) and a page of the log need."""

_BUSY_TIMEOUT_S = 10.0
"""Only another process (a backup, a look with sqlite3) can make us wait in SQLite itself."""

# A sector that cannot be read, a page that makes no sense, a file that is no database.
_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_READ})


class Database:
    """A file of tables. Subclasses give it meaning: one public method, one transaction.

    Attributes: `epoch`, the name of this file's life, new when a file had to be made; `set_aside`, where a
    broken file went, or None.
    """

    def __init__(self, state_dir: Path, clock: Clock, board: Board | None) -> None:
        """Raises NewerSchemaError (nothing is touched), StoreError: another process, a directory that is not ours."""
        self._path = state_dir / FILE_NAME
        self._clock = clock
        self._board = board
        self._writing = threading.RLock()
        self._mine = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._closed = False
        self._to_ring: set[str] = set()
        self._to_log: list[tuple[int, str, Mapping[str, str]]] = []
        self.set_aside: Path | None = None
        self._lock_file = -1
        self._lock_file = locked(state_dir)
        self._open()
        self.epoch = self._meta("epoch")

    def close(self) -> None:
        """Close the connections of all threads; nothing is written. Safe to call twice."""
        with self._writing:
            self._closed = True
            while self._connections:
                self._connections.pop().close()
            if self._lock_file >= 0:
                os.close(self._lock_file)
                self._lock_file = -1

    # -- for subclasses ---------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing: committed on leaving, rolled back on any exception. Bells ring and lines are logged
        only after the commit. Raises StoreError where SQLite cannot write (disk full, read-only)."""
        with self._writing:
            database = self._connection()
            self._to_ring.clear()
            self._to_log.clear()
            try:
                database.execute("BEGIN IMMEDIATE")
                yield database
                self._commit(database)
            except BaseException as error:
                self._forget()
                if database.in_transaction:
                    database.rollback()
                if isinstance(error, sqlite3.OperationalError):
                    raise StoreError(f"the state cannot be written: {_why(error, self._path)}") from error
                raise
            for actor in self._to_ring if self._board else ():
                self._board.ring(actor)  # type: ignore[union-attr]  # looked at in the line above
            for level, line, fields in self._to_log:
                log.log(level, line, extra={"fields": fields})

    def _commit(self, database: sqlite3.Connection) -> None:
        """The only commit there is: a simulation overrides it to lose power before or after."""
        database.commit()

    def _forget(self) -> None:
        """A transaction was rolled back: drop what was remembered of it."""

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """The answer to a SELECT, as of one moment."""
        try:
            return self._connection().execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            raise StoreError(f"the state cannot be read: {error}") from error

    def _row(self, query: str, *values: Any) -> sqlite3.Row | None:
        rows = self._rows(query, *values)
        return rows[0] if rows else None

    def _meta(self, name: str) -> str:
        row = self._row("SELECT value FROM meta WHERE name = ?", name)
        if row is None:
            raise StoreError(f"{self._path} holds no {name}; expected a database of this program")
        return str(row["value"])

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection."""
        if self._closed:
            raise StoreError("the Store is closed")
        connection: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = connect(self._path)
            self._mine.connection = connection
            with self._writing:
                self._connections.append(connection)
        return connection

    # -- opening ----------------------------------------------------------------------------------------------

    def _open(self) -> None:
        scripts = schemas()
        try:
            if self._path.exists():
                check(self._path, newest=len(scripts))
        except sqlite3.DatabaseError as error:
            self.set_aside = self._move_aside(error)
        try:
            with closing(connect(self._path)) as database:
                database.execute("PRAGMA journal_mode = WAL")
                old = version_of(database)
                if old < len(scripts):
                    backup(database, self._path, old)
                    self._migrate(scripts[old:], old)
        except sqlite3.OperationalError as error:
            raise StoreError(f"{self._path} cannot be opened: {_why(error, self._path)}") from error

    def _migrate(self, scripts: Sequence[str], old: int) -> None:
        """One transaction, whatever the number of steps."""
        with self._transaction() as database:
            for script in scripts:
                for statement in statements(script):
                    database.execute(statement)
            database.execute(f"PRAGMA user_version = {old + len(scripts)}")
            if old == 0:
                insert(database, "meta", {"name": "epoch", "value": uuid.uuid4().hex})
                insert(database, "meta", {"name": "created_at", "value": moment_text(self._clock.now())})

    def _move_aside(self, error: sqlite3.DatabaseError) -> Path:
        """Keep a broken file under another name, its log beside it. Raises StoreError for other errors of SQLite."""
        if (getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)) not in _BROKEN:
            raise StoreError(f"{self._path} cannot be opened: {_why(error, self._path)}") from error
        stamp = f"{self._clock.now():%Y%m%dT%H%M%S}"
        for attempt in range(1000):
            aside = self._path.with_name(f"{FILE_NAME}.broken-{stamp}" + (f".{attempt}" if attempt else ""))
            if not aside.exists():
                break
        log.error("the database is broken (%s) and was set aside as %s", error, aside)
        # The database goes first: SQLite throws away a log without one, a database without its log looks whole.
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        return aside


def schemas() -> tuple[str, ...]:
    """The migration scripts, schema_v1.sql first; number N leads from version N-1 to N."""
    found = {path.name: path for path in files("gateway.store").iterdir() if path.name.startswith("schema_v")}
    return tuple(found[f"schema_v{number}.sql"].read_text("utf-8") for number in range(1, len(found) + 1))


def check(path: Path, newest: int) -> None:
    """Raise NewerSchemaError if a newer program wrote this database, sqlite3.DatabaseError if it is broken. Opened
    read-only: a newer one is left as it is, but for the journal of a first start that was cut, which SQLite has to
    undo before it can read."""
    cut = path.with_name(f"{path.name}-journal").exists()
    with closing(connect(path, query="" if cut else "?mode=ro")) as database:
        version = version_of(database)
        if version > newest:
            raise NewerSchemaError(f"{path} has schema {version}, this program knows up to {newest}")
        verdict = [str(row[0]) for row in database.execute("PRAGMA quick_check(1)")]
        if verdict != ["ok"]:
            raise sqlite3.DatabaseError(verdict[0])
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if bool(tables) != (version > 0) or (tables and "meta" not in tables):
            raise sqlite3.DatabaseError(
                f"version {version} with tables {sorted(tables)[:3]} is not of this program"
            )


def backup(database: sqlite3.Connection, path: Path, version: int) -> None:
    """Keep the database as it was at `version`, whole or not at all, and durably; nothing for a new one."""
    if version == 0:
        return
    target = path.with_name(f"{path.name}.v{version}")
    partial = target.with_name(target.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        with closing(sqlite3.connect(partial)) as copy:
            database.backup(copy)  # SQLite syncs what it commits
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _why(error: sqlite3.DatabaseError, path: Path) -> str:
    """What SQLite says; where it has no words for a full disk, ours as well."""
    room = os.statvfs(path.parent)
    full = room.f_bavail * room.f_frsize < _LEAST_ROOM_BYTES and "full" not in str(error)
    return f"{error}: no room is left" if full else str(error)


def version_of(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would commit what came before."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def connect(path: Path, query: str = "") -> sqlite3.Connection:
    try:
        database = sqlite3.connect(
            path.absolute().as_uri() + query,
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,  # only so that close() may close them all
        )
    except sqlite3.OperationalError as error:
        raise StoreError(f"{path} cannot be opened: {error}") from error
    try:
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("PRAGMA temp_store = MEMORY")
        database.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def locked(state_dir: Path) -> int:
    """A descriptor that keeps other processes out: two writers of counters would repeat one (invariant 7)."""
    try:
        make_directory(state_dir)
        descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StoreError(
            f"{state_dir} cannot be used: {error.strerror}", detail=f"errno {error.errno}"
        ) from error
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StateInUseError(f"{state_dir} is in use by another meter-gateway") from error
    return descriptor
