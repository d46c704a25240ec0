"""Frozen nouns as rows of the database and back, by the names and types of their fields."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Generic, TypeVar, get_type_hints

from gateway.errors import Code
from gateway.model import (
    ActivateWhen,
    Alarm,
    AlarmKind,
    Campaign,
    CampaignState,
    Delivery,
    Findings,
    HealthCheck,
    Hold,
    Job,
    JobState,
    Parked,
    PausedWhy,
    TransferRecord,
    Tuning,
)

Sql = str | int | float | bytes | None

_Noun = TypeVar("_Noun")


def moment_text(moment: datetime) -> str:
    """A time of day as it stands in the database: UTC, always of one width, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def to_sql(value: Any) -> Sql:
    """A field's value as SQLite takes it."""
    match value:
        case datetime():
            return moment_text(value)
        case tuple():
            return json.dumps(value, default=asdict)
        case Findings():
            return json.dumps(asdict(value))
        case _:
            return value  # type: ignore[no-any-return]  # the nouns hold nothing else


@lru_cache(maxsize=16)
def _names(text: str) -> tuple[str, ...]:
    """The meters of a campaign may be thousands, and each of their jobs in hand knows its campaign."""
    return tuple(json.loads(text))


_FROM_SQL: dict[Any, Callable[[Any], Any]] = {
    datetime: datetime.fromisoformat,
    bool: bool,
    AlarmKind: AlarmKind,
    Code: Code,
    CampaignState: CampaignState,
    Delivery: Delivery,
    JobState: JobState,
    PausedWhy: PausedWhy,
    ActivateWhen: ActivateWhen,
    Findings: lambda text: Findings(**json.loads(text)),
    tuple[HealthCheck, ...]: lambda text: tuple(HealthCheck(**check) for check in json.loads(text)),
    tuple[str, ...]: _names,
}


def _reader(hint: Any) -> Callable[[Any], Any]:
    for type_, reader in _FROM_SQL.items():
        if hint in (type_, type_ | None):
            return reader
    return lambda value: value


class Rows(Generic[_Noun]):
    """How one noun is written to its table and read from it; fields in `elsewhere` have no column there."""

    def __init__(self, noun: type[_Noun], table: str, *, elsewhere: Iterable[str] = ()) -> None:
        hints = get_type_hints(noun)
        self.table = table
        self.columns = tuple(field.name for field in fields(noun) if field.name not in set(elsewhere))  # type: ignore[arg-type]
        self._noun = noun
        self._readers = [(name, _reader(hints[name])) for name in self.columns]

    def values(self, thing: _Noun) -> dict[str, Sql]:
        """Column names and values of `thing`."""
        return {name: to_sql(getattr(thing, name)) for name in self.columns}

    def changes(self, before: _Noun, after: _Noun) -> dict[str, Sql]:
        """The columns that differ: SQLite writes every index whose columns an UPDATE names, changed or not."""
        return {
            name: to_sql(getattr(after, name))
            for name in self.columns
            if getattr(before, name) != getattr(after, name)
        }

    def read(self, row: sqlite3.Row, *, prefix: str = "", **elsewhere: Any) -> _Noun:
        """The noun of a row whose columns are named `prefix` + field."""
        own = {
            name: None if (value := row[prefix + name]) is None else reader(value)
            for name, reader in self._readers
        }
        return self._noun(**own, **elsewhere)

    def selected(self, prefix: str = "") -> str:
        """The columns for a SELECT, qualified, and renamed with `prefix`."""
        return ", ".join(f"{self.table}.{name} AS {prefix}{name}" for name in self.columns)


CAMPAIGN = Rows(Campaign, "campaigns")
JOB = Rows(Job, "jobs", elsewhere=["record"])
TRANSFER = Rows(TransferRecord, "transfers")
PARKED = Rows(Parked, "parked")
TUNING = Rows(Tuning, "tunings")
ALARM = Rows(Alarm, "alarms")
HOLD = Rows(Hold, "holds")


def insert(
    database: sqlite3.Connection, table: str, values: Mapping[str, Sql], *, verb: str = "INSERT"
) -> int:
    """Add a row and return its rowid; `verb` may be "REPLACE"."""
    names = ", ".join(values)
    marks = ", ".join("?" * len(values))
    cursor = database.execute(f"{verb} INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))
    return cursor.lastrowid or 0


def update(database: sqlite3.Connection, table: str, values: Mapping[str, Sql], key: str, is_: Sql) -> None:
    """Change the row whose `key` is `is_`."""
    marks = ", ".join(f"{name} = ?" for name in values)
    database.execute(f"UPDATE {table} SET {marks} WHERE {key} = ?", (*values.values(), is_))  # noqa: S608  # names are ours
