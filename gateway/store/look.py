"""A look at the database that changes nothing, for whoever has to find out what is wrong with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gateway.errors import StoreError
from gateway.store.database import FILE_NAME, connect, schemas, version_of
from gateway.store.documents import Document


def look(state_dir: Path) -> Document:
    """Schema, integrity, and how many rows each table has. Raises StoreError where there is nothing to look at."""
    with _opened(state_dir) as database:
        names = [
            row[0]
            for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
        ]
        return {
            "sqlite": sqlite3.sqlite_version,
            "schema": version_of(database),
            "newest_schema": len(schemas()),
            "integrity": [row[0] for row in database.execute("PRAGMA quick_check(20)")],
            "rows": {name: _count(database, name) for name in names},
        }


def newest_events(state_dir: Path, count: int) -> list[str]:
    """The last events of the audit as they were told, in their order. Raises StoreError."""
    with _opened(state_dir) as database:
        rows = database.execute("SELECT document FROM events ORDER BY seq DESC LIMIT ?", (count,))
        return [row[0] for row in rows][::-1]


@contextmanager
def _opened(state_dir: Path) -> Iterator[sqlite3.Connection]:
    path = state_dir / FILE_NAME
    try:
        with closing(connect(path, query="?mode=ro")) as database:
            yield database
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: {error}") from error


def _count(database: sqlite3.Connection, table: str) -> int:
    return int(database.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0])  # noqa: S608  # our own names
