"""The highest sequence of a signed manifest that was accepted: it never falls, whatever is lost."""

import json
import sqlite3
from dataclasses import replace

import pytest
from support.desk import (
    SHA256,
    Fuse,
    PowerCut,
    campaign,
    command,
    jobs_of,
    memory_directory,
    open_fused,
    open_store,
)

from gateway.errors import ConflictError, StoreError
from gateway.simulator.clock import VirtualClock
from gateway.store.floors import MANIFESTS_KEPT


@pytest.fixture
def clock():
    return VirtualClock()


def accept(store, clock, number, floors, manifest="{}"):
    order = campaign(clock, id=f"fw-{number}", dry_run=False)
    store.submit_campaign(command(clock), order, jobs_of(order), manifest=manifest, floors=floors)
    store.cancel_campaign(command(clock, "campaign.cancel"), order.id)
    return store.campaign(order.id)


def test_a_floor_rises_with_what_is_accepted_and_never_falls(tmp_path, clock):
    store = open_store(tmp_path, clock)
    assert store.floors() == {}
    for number, (floors, known) in enumerate([
        ({"a": 5}, {"a": 5}),
        ({"a": 4, "b": 1}, {"a": 5, "b": 1}),
        ({}, {"a": 5, "b": 1}),
        ({"a": 9}, {"a": 9, "b": 1}),
        ({"c": 0}, {"a": 9, "b": 1}),
    ]):  # fmt: skip
        accept(store, clock, number, floors)
        assert store.floors() == known
        assert json.loads((tmp_path / "floors.json").read_text())["floors"] == known
    store.close()


def test_what_is_not_accepted_raises_nothing(tmp_path, clock):
    store = open_store(tmp_path, clock)
    accept(store, clock, 1, {"a": 5})
    with pytest.raises(ConflictError):
        accept(store, clock, 1, {"a": 7})
    assert store.floors() == {"a": 5}
    assert json.loads((tmp_path / "floors.json").read_text())["floors"] == {"a": 5}
    store.close()


@pytest.mark.parametrize("lost", ["database", "file", "file damaged"])
def test_one_of_the_two_places_suffices(tmp_path, clock, lost):
    store = open_store(tmp_path, clock)
    accept(store, clock, 1, {"a": 5, "b": 2})
    store.close()
    match lost:
        case "database":
            for path in tmp_path.glob("store.db*"):
                path.unlink()
        case "file":
            (tmp_path / "floors.json").unlink()
        case _:
            (tmp_path / "floors.json").write_text('{"v":1,"floors":{"a":1},"sha256":"x"}')
    again = open_store(tmp_path, clock)
    assert again.floors() == {"a": 5, "b": 2}
    accept(again, clock, 2, {"b": 3})
    assert json.loads((tmp_path / "floors.json").read_text())["floors"] == {"a": 5, "b": 3}
    again.close()


def test_no_power_cut_takes_a_floor_back(clock):
    """At each commit, before and after it: what was accepted binds after the restart."""
    blown = 0
    for after in (False, True):
        at = 1
        while True:
            with memory_directory() as directory:
                fuse = Fuse(at, after)
                accepted = life(directory, clock, fuse)
                again = open_store(directory, clock)
                floors = again.floors()
                assert floors.get("a", 0) >= accepted
                second = json.loads((directory / "floors.json").read_text())["floors"] if floors else {}
                assert second == floors
                again.close()
            if fuse.commits < at:
                break
            blown += 1
            at += 1
    assert blown > 8


def life(directory, clock, fuse) -> int:
    """The highest sequence that this gateway said it accepted."""
    accepted = 0
    store = None
    try:
        store = open_fused(directory, clock, fuse)
        for number, sequence in enumerate((3, 7, 5, 8)):
            accept(store, clock, number, {"a": sequence})
            accepted = max(accepted, sequence)
    except PowerCut:
        pass
    finally:
        if store:
            store.close()
    return accepted


def test_where_the_second_file_cannot_be_written_nothing_is_accepted(tmp_path, clock):
    store = open_store(tmp_path, clock)
    (tmp_path / "floors.json.new").mkdir()
    with pytest.raises(StoreError, match=r"floors\.json"):
        accept(store, clock, 1, {"a": 5})
    assert (store.floors(), store.campaigns()) == ({}, [])
    store.close()


def test_a_campaign_keeps_its_manifest_when_a_newer_one_comes(tmp_path, clock):
    store = open_store(tmp_path, clock)
    first = accept(store, clock, 1, {}, manifest='{"n":1}')
    store.keep_manifest(SHA256, '{"n":2}')
    assert store.manifest_of_image(SHA256) == '{"n":2}'
    store.keep_manifest(SHA256, '{"n":1}')
    assert store.manifest_of_image(SHA256) == '{"n":1}', "the one that came last, whenever it came first"
    assert store.manifest(first.manifest) == '{"n":1}'
    assert store.manifest("0" * 64) is store.manifest_of_image("0" * 64) is None
    store.close()


def test_so_many_manifests_are_kept_and_those_of_open_campaigns(tmp_path, clock):
    store = open_store(tmp_path, clock)
    order = replace(campaign(clock), sha256="a" * 64)
    store.submit_campaign(command(clock), order, jobs_of(order), manifest="{}")
    for number in range(MANIFESTS_KEPT + 5):
        store.keep_manifest(SHA256, json.dumps({"n": number}))
    assert store.manifest(store.campaign(order.id).manifest) == "{}"
    assert store.manifest_of_image("a" * 64) == "{}"
    with sqlite3.connect(tmp_path / "store.db") as raw:
        assert raw.execute("SELECT count(*) FROM manifests").fetchone() == (MANIFESTS_KEPT + 1,)
    raw.close()
    store.close()
