"""A package of another day finds this state: older ones are brought up to date, newer ones are left as they are."""

import hashlib
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import fields
from importlib.resources import files

import pytest
from support.desk import Fuse, PowerCut, campaign, command, jobs_of, open_fused, open_store
from support.old_state import DB, as_version_1, rows_of, version_of

from gateway.errors import NewerSchemaError, StoreError
from gateway.model import Campaign, Job, TransferRecord
from gateway.simulator.clock import VirtualClock
from gateway.store import database

NEWEST = len(database.schemas())
INSTALLED = "bf06a6a730673ff029e192a37cc24f093c073485ffa3e55e085646fcb911ec79"
"""SHA-256 of schema_v1.sql."""


@pytest.fixture
def clock():
    return VirtualClock()


def ran_for_a_while(directory, clock):
    """A Store with an order in it, closed as after kill -9: the log was not folded in."""
    store = open_store(directory, clock)
    order = campaign(clock, "MTR1", "MTR2")
    store.submit_campaign(command(clock), order, jobs_of(order))
    store.seed_counter("MTR1", 1000)
    store.reserve_counters("MTR1", 50)
    store.close()
    return store.epoch


def what_there_is(directory, clock):
    """In the words of the program, whatever the schema beneath."""
    store = open_store(directory, clock)
    found = (
        store.epoch, store.campaigns(), store.jobs("fw-1"), store.counter("MTR1"), store.events(),
        [(row.id, row.topic, row.payload) for row in store.outbox_batch(0, 100)],
    )  # fmt: skip
    store.close()
    return found


# -- an older one ---------------------------------------------------------------------------------------------


def test_the_first_schema_stays_as_it_was_installed():
    first = (files("gateway.store") / "schema_v1.sql").read_bytes()
    assert hashlib.sha256(first).hexdigest() == INSTALLED, "change the newest schema, not this one"


def test_an_older_state_is_brought_up_to_date_after_a_backup(tmp_path, clock):
    ran_for_a_while(tmp_path, clock)
    before = what_there_is(tmp_path, clock)
    as_version_1(tmp_path)
    old = rows_of(tmp_path / DB)

    assert what_there_is(tmp_path, clock) == before
    assert version_of(tmp_path / DB) == NEWEST
    backup = tmp_path / f"{DB}.v1"
    assert (version_of(backup), rows_of(backup)) == (1, old)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_losing_power_at_the_commit_of_a_migration_loses_nothing(tmp_path, clock, after):
    ran_for_a_while(tmp_path, clock)
    before = what_there_is(tmp_path, clock)
    as_version_1(tmp_path)
    with pytest.raises(PowerCut):
        open_fused(tmp_path, clock, Fuse(blows_at=1, after=after))
    assert version_of(tmp_path / DB) == (NEWEST if after else 1)
    assert what_there_is(tmp_path, clock) == before
    assert version_of(tmp_path / f"{DB}.v1") == 1


DIES = """
import os, sqlite3, sys
from pathlib import Path
from gateway.clock import SystemClock
from gateway.store import Store, database

def dies(*_):
    os._exit(9)

class Dying(Store):
    if sys.argv[2] == "with every statement done":
        def _commit(self, database):
            dies()

if sys.argv[2] == "with half a backup":
    def backup(connection, path, version):
        Path(f"{path}.v1.partial").write_bytes(path.read_bytes()[:5000])
        dies()
    database.backup = backup
if sys.argv[2] == "in mid-script":
    whole = database.statements
    def half(script):
        for number, statement in enumerate(whole(script)):
            yield statement
            dies()
    database.statements = half
Dying(Path(sys.argv[1]), gateway_id="gw-1", root="mgw/v1", clock=SystemClock())
"""


@pytest.mark.parametrize("when", ["with half a backup", "in mid-script", "with every statement done"])
def test_a_process_that_dies_while_migrating_leaves_the_old_state(tmp_path, clock, when):
    ran_for_a_while(tmp_path, clock)
    before = what_there_is(tmp_path, clock)
    as_version_1(tmp_path)
    died = subprocess.run([sys.executable, "-c", DIES, str(tmp_path), when], check=False, timeout=60)
    assert died.returncode == 9
    assert version_of(tmp_path / DB) == 1
    assert what_there_is(tmp_path, clock) == before
    assert version_of(tmp_path / f"{DB}.v1") == 1
    assert not list(tmp_path.glob("*.partial"))


def more_schemas(monkeypatch, script):
    scripts = (*database.schemas(), script)
    monkeypatch.setattr(database, "schemas", lambda: scripts)


def test_several_schemas_at_once_are_one_step(tmp_path, clock, monkeypatch):
    ran_for_a_while(tmp_path, clock)
    as_version_1(tmp_path)
    more_schemas(monkeypatch, "CREATE TABLE extra (a INTEGER);")
    with pytest.raises(PowerCut):
        open_fused(tmp_path, clock, Fuse(blows_at=1))
    assert version_of(tmp_path / DB) == 1
    open_store(tmp_path, clock).close()
    assert version_of(tmp_path / DB) == NEWEST + 1
    assert [path.name for path in tmp_path.glob(f"{DB}.v*")] == [f"{DB}.v1"]


def test_a_migration_that_fails_leaves_the_old_schema(tmp_path, clock, monkeypatch):
    ran_for_a_while(tmp_path, clock)
    with monkeypatch.context() as patch:
        more_schemas(patch, "CREATE TABLE extra (a INTEGER);\nINSERT INTO nowhere VALUES (1);")
        with pytest.raises(StoreError):
            open_store(tmp_path, clock)
    store = open_store(tmp_path, clock)
    assert store.campaign("fw-1") is not None
    store.close()


def test_without_room_for_a_backup_nothing_is_migrated(tmp_path, clock, monkeypatch):
    ran_for_a_while(tmp_path, clock)
    as_version_1(tmp_path)
    with monkeypatch.context() as patch:
        whole = sqlite3.connect

        def small(path, **options):
            connection = whole(path, **options)
            if str(path).endswith(".partial"):
                connection.execute("PRAGMA max_page_count = 4")
            return connection

        patch.setattr(sqlite3, "connect", small)
        with pytest.raises(StoreError, match="cannot be opened"):
            open_store(tmp_path, clock)
    assert version_of(tmp_path / DB) == 1
    assert not list(tmp_path.glob(f"{DB}.v1*"))


# -- a newer one ----------------------------------------------------------------------------------------------


def test_a_newer_schema_stops_this_program_and_stays_as_it_is(tmp_path, clock):
    lived, found = tmp_path / "lived", tmp_path / "found"
    found.mkdir()
    ran_for_a_while(lived, clock)
    newer = sqlite3.connect(lived / DB)
    newer.execute("PRAGMA user_version = 99")
    # As kill -9 leaves them: the version stands in the log only.
    for name in (DB, f"{DB}-wal", "counters.json"):
        shutil.copy(lived / name, found)
    newer.close()
    before = {path.name: path.read_bytes() for path in found.iterdir()}
    with pytest.raises(NewerSchemaError, match=f"schema 99, this program knows up to {NEWEST}") as refused:
        open_store(found, clock)
    assert refused.value.code == "E_STATE"
    assert "Install the newer meter-gateway again" in refused.value.advice
    assert {name: (found / name).read_bytes() for name in before} == before
    assert not list(found.glob("*.broken*"))


# -- nouns ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "noun, table, elsewhere",
    [
        (Campaign, "campaigns", {"cmd_id", "number", "kept_since"}),
        (Job, "jobs", {"number"}),
        (TransferRecord, "transfers", {"job"}),
    ],
)
def test_every_field_of_a_noun_has_its_column(tmp_path, clock, noun, table, elsewhere):
    open_store(tmp_path, clock).close()
    with sqlite3.connect(tmp_path / DB) as raw:
        columns = {row[1] for row in raw.execute(f"PRAGMA table_info({table})")}
    raw.close()
    assert columns - elsewhere == {field.name for field in fields(noun)} - {"record"}
