"""The state as an older program left it, made from what this one wrote: what the older schema had columns for."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from gateway.store import database

DB = "store.db"


def as_version_1(state_dir: Path) -> None:
    """Put the database back to schema 1, every row with the columns that there were."""
    new, old = state_dir / DB, state_dir / "old.db"
    with closing(sqlite3.connect(old, isolation_level=None)) as made:
        made.execute("PRAGMA journal_mode = WAL")
        made.executescript(database.schemas()[0])
        made.execute("ATTACH ? AS new", (str(new),))
        for (table,) in made.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
            if table.startswith("sqlite_"):
                continue
            columns = ", ".join(row[1] for row in made.execute(f"PRAGMA main.table_info({table})"))
            made.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}")  # noqa: S608
        made.execute("DELETE FROM main.sqlite_sequence WHERE EXISTS (SELECT 1 FROM new.sqlite_sequence)")
        made.execute("INSERT INTO main.sqlite_sequence SELECT * FROM new.sqlite_sequence")
        made.execute("PRAGMA user_version = 1")
        made.execute("DETACH new")
    for suffix in ("-wal", "-shm"):
        (state_dir / f"{DB}{suffix}").unlink(missing_ok=True)
    old.replace(new)


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as raw:
        return int(raw.execute("PRAGMA user_version").fetchone()[0])


def rows_of(path: Path) -> dict[str, list[dict[str, object]]]:
    """Every row of every table, by the names of its columns."""
    with closing(sqlite3.connect(path)) as raw:
        raw.row_factory = sqlite3.Row
        names = [row["name"] for row in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            name: [dict(row) for row in raw.execute(f"SELECT * FROM {name}")]  # noqa: S608
            for name in names
            if not name.startswith("sqlite_")
        }
