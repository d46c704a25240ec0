"""A state carried to another machine: all of it, nothing secret, whole or not at all, from beside a running daemon."""

import json
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from support.desk import campaign, command, jobs_of, memory_directory, open_store
from support.disk_watch import recorded
from support.old_state import DB, as_version_1

from gateway.errors import Code, NewerSchemaError, SchemaError, StateError, StoreError
from gateway.model import CampaignState, Errand, Hold, JobState, Machine, MeterKeys, TransferRecord, Window
from gateway.simulator.clock import VirtualClock
from gateway.store.binding import COUNTER_STEP
from gateway.store.commands import SUPPLIER_ERRANDS
from gateway.store.export import exported, imported, needed_images

OLD, NEW = Machine(board=("old",)), Machine(board=("new",))
KEYS = MeterKeys(bytes(range(16)), bytes(range(16, 32)), password=b"sesame-open")
URL = "https://fw.example.net/x3.bin"


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def base():
    with memory_directory() as directory:
        yield directory


def lived(directory, clock):
    """A state with something of everything, closed."""
    store = open_store(directory, clock)
    store.look_at_machine(OLD)
    order = replace(
        campaign(clock, "MTR1", "MTR2"), url=f"{URL}?signature=s3cr3t", state=CampaignState.RUNNING
    )
    store.submit_campaign(command(clock), order, jobs_of(order))
    record = TransferRecord("0" * 64, b"X3", 3 * 64, 64, acked=b"\xc0", ceiling=2)
    store.save_job(replace(store.job("fw-1", "MTR1"), state=JobState.TRANSFERRING, record=record))
    store.name_keys({"MTR1": KEYS}, b"\x01" * 8)
    store.seed_counter("MTR1", 1000)
    store.park("MTR2", KEYS, code=Code.T_SECURITY, message="refused")
    store.begin_hold(Hold("rs485-1", clock.now() + timedelta(hours=1), "uid 0"))
    window = Window("night", frozenset({0}), clock.now().time(), 3600.0, "UTC", cutoff_s=0.0, drain_s=0.0)
    store.set_window(command(clock, "window.set"), window)
    store.put_meter(command(clock, "meter.put"), "MTR7", {"port": "rs485-1"}, port="rs485-1", at_once=True)
    fetch = command(clock, "image.fetch")
    args = {"sha256": "0" * 64, "url": f"{URL}?signature=s3cr3t"}
    store.add_errand(fetch, Errand(fetch.cmd_id, fetch.verb, SUPPLIER_ERRANDS, "", args))
    store.close()
    return directory


def carried(source, target, clock, *, bring=lambda wanted: wanted):
    document = json.loads(json.dumps(exported(source)))
    return imported(document, target, bring=bring, now=clock.now())


def told(store):
    return [
        (event["seq"], event["kind"], event["epoch"], event["message"]) for event in store.events(0, 1000)
    ]


# -- all of it ------------------------------------------------------------------------------------------------


def test_another_machine_goes_on_with_everything(base, clock):
    lived(base / "old", clock)
    carried(base / "old", base / "new", clock)
    old, new = open_store(base / "old", clock), open_store(base / "new", clock)
    assert new.look_at_machine(NEW)
    assert new.campaigns() == [replace(one, url=URL) for one in old.campaigns()]
    assert new.jobs("fw-1") == old.jobs("fw-1")
    assert new.all_parked() == old.all_parked()
    assert new.hold("rs485-1") == old.hold("rs485-1")
    assert new.windows() == old.windows()
    assert [row.payload for row in new.outbox_batch(0, 100)][:-1] == [
        row.payload for row in old.outbox_batch(0, 100)
    ]
    for store in (old, new):
        store.name_keys({"MTR1": KEYS}, b"\x01" * 8)
    assert new.counter("MTR1") == old.counter("MTR1") + COUNTER_STEP
    new.close()
    old.close()


def test_the_audit_goes_on_in_an_epoch_of_its_own_and_says_why(base, clock):
    lived(base / "old", clock)
    carried(base / "old", base / "new", clock)
    old, new = open_store(base / "old", clock), open_store(base / "new", clock)
    new.look_at_machine(NEW)
    assert new.epoch != old.epoch
    before, (seq, kind, epoch, message) = told(new)[:-1], told(new)[-1]
    assert before == told(old)
    assert (seq, kind, epoch) == (len(before) + 1, "store", new.epoch)
    assert message == f"imported: goes on after epoch {old.epoch}, every counter was raised by {COUNTER_STEP}"
    new.look_at_machine(NEW)
    assert len(told(new)) == seq, "told once"
    new.close()
    old.close()


def test_counters_come_from_the_second_file_where_it_is_ahead(base, clock):
    lived(base / "old", clock)
    store = open_store(base / "old", clock)
    name, value = next(iter(store._counters.items()))
    store._second_file.write({name: value + 5000})
    carried(base / "old", base / "new", clock)
    store.close()
    new = open_store(base / "new", clock)
    assert new._counters[name] == value + 5000 + COUNTER_STEP
    new.close()


def test_the_floors_of_signed_manifests_come_along_from_both_places(base, clock):
    lived(base / "old", clock)
    store = open_store(base / "old", clock)
    with store._transaction() as database:
        store._raise_floors(database, {"acme-x3": 12, "acme-x4": 3})
    store._floors_file.write({"acme-x3": 12, "acme-x4": 5})
    store.close()
    carried(base / "old", base / "new", clock)
    new = open_store(base / "new", clock)
    assert new.floors() == {"acme-x3": 12, "acme-x4": 5}
    new.close()


def test_counters_that_the_new_machine_has_used_already_stay_above(base, clock):
    lived(base / "old", clock)
    for directory, value in ((base / "old", 2000), (base / "new", 10**6)):
        store = open_store(directory, clock)
        store.seed_counter("MTR7", value)
        store.close()
    carried(base / "old", base / "new", clock)
    new = open_store(base / "new", clock)
    assert new.counter("MTR7") == 10**6
    new.close()


def test_a_state_of_an_older_program_is_brought_up_to_date(base, clock):
    lived(base / "old", clock)
    store = open_store(base / "old", clock)
    before = store.jobs("fw-1")
    store.close()
    as_version_1(base / "old")
    document = exported(base / "old")
    assert document["schema"] == 1
    imported(document, base / "new", bring=lambda wanted: wanted, now=clock.now())
    new = open_store(base / "new", clock)
    assert new.jobs("fw-1") == before
    new.close()


@pytest.mark.parametrize(
    "paused, then",
    [({}, CampaignState.ACCEPTED), ({"paused": "operator"}, CampaignState.PAUSED)],
    ids=["running", "paused by an operator"],
)
def test_an_image_that_did_not_come_along_is_fetched_again(base, clock, paused, then):
    lived(base / "old", clock)
    document = exported(base / "old")
    (row,) = document["tables"]["campaigns"]
    row |= {"state": "paused" if paused else "running", **paused}
    done = imported(document, base / "new", bring=lambda _: frozenset(), now=clock.now())
    assert done.missing == needed_images(document) == {row["sha256"]}
    new = open_store(base / "new", clock)
    assert new.campaign("fw-1").state is then
    new.close()


# -- nothing secret -------------------------------------------------------------------------------------------


def test_nothing_secret_leaves(base, clock):
    lived(base / "old", clock)
    text = json.dumps(exported(base / "old"))
    for secret in (KEYS.encryption_key.hex(), KEYS.authentication_key.hex(), "sesame", "s3cr3t"):
        assert secret not in text
    (parked,) = exported(base / "old")["tables"]["parked"]
    assert (parked["salt"], parked["digest"]) == ({"base64": ""}, {"base64": ""})


def test_a_meter_that_was_left_alone_stays_so_until_its_keys_change_here(base, clock):
    lived(base / "old", clock)
    carried(base / "old", base / "new", clock)
    new = open_store(base / "new", clock)
    for _ in range(2):
        new.unpark_changed({"MTR2": KEYS})
        assert new.parked("MTR2") is not None
    new.unpark_changed({"MTR2": replace(KEYS, password=b"another")})
    assert new.parked("MTR2") is None
    new.close()


# -- beside a running daemon ----------------------------------------------------------------------------------


def test_the_export_is_of_one_moment_while_a_daemon_works(base, clock):
    store = open_store(base, clock)
    done = threading.Event()

    def work():
        number = 0
        while not done.is_set():
            number += 1
            order = campaign(clock, f"A{number}", f"B{number}", id=f"fw-{number}")
            store.submit_campaign(command(clock), order, jobs_of(order))

    worker = threading.Thread(target=work)
    worker.start()
    try:
        documents = [exported(base) for _ in range(8)]
    finally:
        done.set()
        worker.join()
        store.close()
    for document in documents:
        tables = document["tables"]
        campaigns = {row["id"] for row in tables["campaigns"]}
        jobs = [row["campaign_id"] for row in tables["jobs"]]
        assert sorted(jobs) == sorted([*campaigns, *campaigns]), "all of an order or nothing"
        assert {row["cmd_id"] for row in tables["campaigns"]} == {row["cmd_id"] for row in tables["commands"]}
        assert [row["seq"] for row in tables["events"]] == list(range(1, len(campaigns) + 1))
    assert len(documents[-1]["tables"]["campaigns"]) > len(documents[0]["tables"]["campaigns"])


# -- whole or not at all --------------------------------------------------------------------------------------


def test_a_power_cut_during_an_import_leaves_what_was_there_or_what_came(base, clock):
    document = exported(lived(base / "old", clock))
    fresh = open_store(base / "state", clock)
    epoch = fresh.epoch
    fresh.close()
    with recorded(base / "state") as disk:
        imported(document, base / "state", bring=lambda wanted: wanted, now=clock.now())
        ready = disk.now
    seen = set()
    for number, cut in enumerate(disk.cuts(45)):
        disk.leave(cut, base / str(number))
        store = open_store(base / str(number), clock)
        assert store.set_aside is None, cut
        whole = store.epoch != epoch
        assert len(store.campaigns()) == (1 if whole else 0), cut
        assert whole or cut.after < ready, cut
        seen.add(whole)
        store.close()
    assert seen == {False, True}


# -- refused --------------------------------------------------------------------------------------------------


def changed(document, **changes):
    return {**document, **changes}


def without(document, table, column):
    rows = [
        {name: value for name, value in row.items() if name != column} for row in document["tables"][table]
    ]
    return changed(document, tables={**document["tables"], table: rows})


@pytest.mark.parametrize(
    "spoil, refusal, words",
    [
        (lambda good: {}, SchemaError, "no exported state"),
        (lambda good: changed(good, v=2), SchemaError, "no exported state"),
        (lambda good: changed(good, schema="2"), SchemaError, "no exported state"),
        (lambda good: changed(good, schema=99), NewerSchemaError, "schema 99, this program knows up to"),
        (lambda good: changed(good, tables={}), SchemaError, "no exported state"),
        (lambda good: changed(good, counters=None), SchemaError, "no exported state"),
        (lambda good: changed(good, counters={"a": "b"}), SchemaError, "no exported state"),
        (lambda good: changed(good, floors={"a": None}), SchemaError, "no exported state"),
        (lambda good: changed(good, tables={**good["tables"], "meta": [{"name": "a"}]}), SchemaError, "'meta'"),
        (lambda good: changed(good, tables={**good["tables"], "x; y": [{"a": 1}]}), SchemaError, "'x; y'"),
        (lambda good: changed(good, tables={**good["tables"], "campaigns": []}), SchemaError, "refers to rows"),
        (lambda good: without(good, "jobs", "meter_id"), SchemaError, "no exported state"),
    ],
)  # fmt: skip
def test_what_is_no_state_of_this_program_is_refused_and_nothing_changes(base, clock, spoil, refusal, words):
    document = spoil(exported(lived(base / "old", clock)))
    with pytest.raises(refusal, match=words) as refused:
        imported(document, base / "new", bring=lambda wanted: wanted, now=clock.now())
    assert refused.value.advice
    assert not [path.name for path in (base / "new").glob("store.db*")]


def test_a_gateway_with_orders_of_its_own_keeps_its_state(base, clock):
    document = exported(lived(base / "old", clock))
    before = (lived(base / "new", clock) / DB).read_bytes()
    with pytest.raises(StateError, match="1 campaigns of its own"):
        imported(document, base / "new", bring=lambda wanted: wanted, now=clock.now())
    assert (base / "new" / DB).read_bytes() == before


HOLDS = """
import sys, time
from pathlib import Path
from gateway.clock import SystemClock
from gateway.store import Store
store = Store(Path(sys.argv[1]), gateway_id="", root="", clock=SystemClock())
print("here", flush=True)
sys.stdin.read()
"""


def test_a_state_that_a_daemon_runs_with_is_not_replaced(base, clock):
    document = exported(lived(base / "old", clock))
    script = [sys.executable, "-c", HOLDS, str(base / "new")]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout.readline() == "here\n"
        with pytest.raises(StoreError, match="in use by another meter-gateway"):
            imported(document, base / "new", bring=lambda wanted: wanted, now=clock.now())
        daemon.stdin.close()


def test_without_a_state_there_is_nothing_to_export(base):
    with pytest.raises(StoreError, match="is not there"):
        exported(base)
