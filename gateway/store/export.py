"""The whole state as one document, for another machine to go on with: every row of every table by the names of its
columns, and the counters of both places.

Reading takes no lock: SQLite gives one moment of a database that a daemon writes to. The document has the number of its
schema, and what is made of it is brought up to date like any older state.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.durable import sync_directory
from gateway.errors import NewerSchemaError, SchemaError, StateError, StoreError
from gateway.model import CampaignState, PausedWhy
from gateway.store.binding import COUNTER_STEP, IMPORTED, forget_machine, new_epoch, stepped
from gateway.store.counters import NAME as COUNTERS
from gateway.store.database import FILE_NAME, check, connect, locked, schemas, statements, version_of
from gateway.store.documents import Document
from gateway.store.floors import NAME as FLOORS
from gateway.store.rows import insert
from gateway.store.second_file import SecondFile
from gateway.urls import shown

VERSION = 1
_NOT_CARRIED = frozenset({"meta"})
"""It says whose state a database is, and that changes."""
_KEPT_BACK = {"parked": ("salt", "digest")}
"""Made from keys, however slowly: they stay where the keys are."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of an import."""

    set_aside: Path | None
    """Where the database went that was there."""
    missing: frozenset[str]
    """Digests of images that open campaigns want and that are not here."""


def exported(state_dir: Path) -> Document:
    """The state as of this moment, as JSON. Raises StoreError,
    NewerSchemaError."""
    path = state_dir / FILE_NAME
    if not path.exists():
        raise StoreError(f"{path} is not there")
    with _database_errors(path):
        check(path, newest=len(schemas()))
        with closing(connect(path, query="?mode=ro")) as database:
            database.execute("BEGIN")
            document = {"v": VERSION, "schema": version_of(database), **_meta(database)}
            document["tables"] = {name: _table(database, name) for name in _tables(database)}
    for campaign in document["tables"]["campaigns"]:
        campaign["url"] = shown(campaign["url"])
    for errand in document["tables"]["errands"]:
        args = json.loads(errand["args"])
        errand["args"] = json.dumps({**args, "url": shown(args["url"])} if "url" in args else args)
    # Read after the database, hence not behind it; a daemon that goes on is met by the step at the import.
    for name in (COUNTERS, FLOORS):
        document[name] = SecondFile(state_dir, name).read() or {}
    return document


def needed_images(document: Document) -> frozenset[str]:
    """The digests of the images that its open campaigns want."""
    return frozenset(row["sha256"] for row in document["tables"]["campaigns"] if row["finished_at"] is None)


def imported(
    document: Document, state_dir: Path, *, bring: Callable[[frozenset[str]], frozenset[str]], now: datetime
) -> Imported:
    """Put the database of `document` in the place of that in `state_dir`. Every counter is raised as at an adoption.
    `bring` stores what it can of the images of these digests, and says which are here; open campaigns without theirs
    fetch it again. Whole or not at all: until it returns, the old state stands. The daemon that starts with it binds it
    to its machine.

    Raises SchemaError (no state of this program), NewerSchemaError, StateError (that there has orders of its own),
    StoreError (a daemon runs with it, the disk), and what `bring` raises.
    """
    _check(document)
    lock = locked(state_dir)
    path = state_dir / FILE_NAME
    fresh = path.with_name(f"{FILE_NAME}.import")
    try:
        with _database_errors(path):
            _check_free(path)
            wanted = needed_images(document)
            missing = wanted - bring(wanted)
            _forget(fresh)
            _make(fresh, document, missing)
            return Imported(_exchange(path, fresh, now), missing)
    finally:
        _forget(fresh)
        os.close(lock)


# -- reading --------------------------------------------------------------------------------------------------


def _tables(database: sqlite3.Connection) -> list[str]:
    rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")
    return [
        row["name"]
        for row in rows
        if not row["name"].startswith("sqlite_") and row["name"] not in _NOT_CARRIED
    ]


def _table(database: sqlite3.Connection, name: str) -> list[Document]:
    empty = dict.fromkeys(_KEPT_BACK.get(name, ()), b"")
    rows = database.execute(f"SELECT * FROM {name}")  # noqa: S608  # our own names
    return [{column: _to_json(value) for column, value in {**dict(row), **empty}.items()} for row in rows]


def _meta(database: sqlite3.Connection) -> Document:
    rows = database.execute("SELECT name, value FROM meta WHERE name IN ('epoch', 'created_at')")
    return {row["name"]: row["value"] for row in rows}


def _to_json(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _from_json(value: Any) -> Any:
    return base64.b64decode(value["base64"], validate=True) if isinstance(value, dict) else value


# -- writing --------------------------------------------------------------------------------------------------


def _check(document: Document) -> None:
    known = len(schemas())
    version = document.get("v"), document.get("schema")
    if version[0] != VERSION or not isinstance(version[1], int) or version[1] < 1:
        raise SchemaError(f"no exported state of this program: v {version[0]!r}, schema {version[1]!r}")
    if version[1] > known:
        raise NewerSchemaError(
            f"the exported state has schema {version[1]}, this program knows up to {known}"
        )


def _check_free(path: Path) -> None:
    """A new gateway has a state as soon as its service was started; one with orders is nobody's to replace."""
    if not path.exists():
        return
    check(path, newest=len(schemas()))
    with closing(connect(path)) as database:
        orders = database.execute("SELECT count(*) FROM campaigns").fetchone()[0]
        if orders:
            raise StateError(
                f"{path} has {orders} campaigns of its own; move it away first if it is to be replaced"
            )
        # Nothing of it may be left in a log that SQLite would take for that of the next one.
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _make(fresh: Path, document: Document, missing: frozenset[str]) -> None:
    tables: Mapping[str, list[Document]] = document["tables"]
    with closing(connect(fresh)) as database:
        database.execute("PRAGMA foreign_keys = OFF")  # a table may come before the one that it refers to
        database.execute("BEGIN IMMEDIATE")
        for script in schemas()[: document["schema"]]:
            for statement in statements(script):
                database.execute(statement)
        for name, rows in tables.items():
            _fill(database, name, rows)
        counters = stepped(_highest(database, document, COUNTERS, "sequence", "next"))
        _put_numbers(database, counters, COUNTERS, "sequence", "next")
        if FLOORS in tables:
            floors = _highest(database, document, FLOORS, "profile", "sequence")
            _put_numbers(database, floors, FLOORS, "profile", "sequence")
        for row in tables["campaigns"]:
            if row["finished_at"] is None and row["sha256"] in missing:
                _fetch_again(database, row["id"])
        insert(database, "meta", {"name": "created_at", "value": document["created_at"]})
        new_epoch(database)
        story = (
            f"imported: goes on after epoch {document['epoch']}, every counter was raised by {COUNTER_STEP}"
        )
        insert(database, "meta", {"name": IMPORTED, "value": story})
        database.execute(f"PRAGMA user_version = {document['schema']:d}")
        if database.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise SchemaError("the exported state refers to rows that are not in it")
        database.execute("COMMIT")


def _fill(database: sqlite3.Connection, name: str, rows: list[Document]) -> None:
    columns = {row["name"] for row in database.execute("SELECT name FROM pragma_table_info(?)", (name,))}
    for row in rows:
        if not columns or not row.keys() <= columns or name in _NOT_CARRIED:
            raise SchemaError(f"the exported state has a table {name!r} that its schema does not have so")
        insert(database, name, {column: _from_json(value) for column, value in row.items()})


def _highest(
    database: sqlite3.Connection, document: Document, table: str, name: str, value: str
) -> dict[str, int]:
    """What may never go back: the higher of both places."""
    stored = {row[name]: int(row[value]) for row in database.execute(f"SELECT * FROM {table}")}  # noqa: S608
    second = {str(key): int(number) for key, number in document[table].items()}
    return {key: max(stored.get(key, 0), second.get(key, 0)) for key in stored.keys() | second.keys()}


def _put_numbers(
    database: sqlite3.Connection, numbers: Mapping[str, int], table: str, name: str, value: str
) -> None:
    for key, number in numbers.items():
        insert(database, table, {name: key, value: number}, verb="REPLACE")


def _fetch_again(database: sqlite3.Connection, campaign_id: str) -> None:
    database.execute(
        "UPDATE campaigns SET state = ?, fetch_tries = 0, fetch_next_try_at = NULL, paused = NULL, opens_at = NULL"
        " WHERE id = ? AND state IN (?, ?, ?) AND coalesce(paused, '') <> ?",
        (
            CampaignState.ACCEPTED,
            campaign_id,
            CampaignState.READY,
            CampaignState.RUNNING,
            CampaignState.PAUSED,
            PausedWhy.OPERATOR,
        ),
    )


def _exchange(path: Path, fresh: Path, now: datetime) -> Path | None:
    """In one step; what was there keeps a name."""
    aside = None
    if path.exists():
        aside = path.with_name(f"{FILE_NAME}.before-import-{now:%Y%m%dT%H%M%S}")
        os.link(path, aside)
    fresh.replace(path)
    forget_machine(path.parent)
    sync_directory(path.parent)
    return aside


def _forget(fresh: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)


@contextmanager
def _database_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (
        sqlite3.IntegrityError,
        sqlite3.DataError,
        LookupError,
        AttributeError,
        TypeError,
        ValueError,
    ) as error:
        raise SchemaError(f"no exported state of this program: {error!r}") from error
    except (sqlite3.DatabaseError, OSError) as error:
        raise StoreError(f"{path}: {error}") from error
