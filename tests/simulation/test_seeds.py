"""Everything that can go wrong at once: `support.seeds` in its short form, and the proof that its witness sees what it
is there to see.

`make simulate SEEDS=...` plays more of them, `make simulate SEED=...` one that is broken.
"""

import hashlib
from contextlib import contextmanager
from dataclasses import replace
from datetime import time
from unittest import mock

import pytest
from support.desk import memory_directory
from support.seeds.fate import EXPECTED_VERSION, ClockChange, Deed, Fate, drawn
from support.seeds.meters import Drawn
from support.seeds.play import Playing
from support.seeds.run import result_of
from support.world import SimMeter, World, ciphered

from gateway.link.session import Session
from gateway.model import JobState, Profile, Window
from gateway.plan import gate as plan_gate
from gateway.plan import verdict
from gateway.plan.order import Turn
from gateway.simulator.clock import EPOCH
from gateway.store.counters import Counters
from gateway.store.telling import Telling
from gateway.transfer import Done, procedure, schedule
from gateway.worker.hours import Hours
from gateway.worker.transfer_run import TransferRun

SEEDS = range(32)
IMAGE = bytes(range(256)) * 12


@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_is_kept(seed):
    result = result_of(seed)
    assert not result.broken, f"{result.broken}\n    make simulate SEED={seed}"


def test_the_same_seed_is_the_same_run():
    seed = 7
    assert drawn(seed) == drawn(seed)
    assert result_of(seed) == result_of(seed)


# -- the witness sees what may not be -------------------------------------------------------------------------


def quiet(meters=1, *, own_counter=True, cancelled_at_s=None, **changes):
    """A fate in which nothing goes wrong, but for `changes`. `own_counter`: meters tell the gateway's counter."""
    order = {
        "campaign_id": "c0", "identifier": "FW", "expect_version": EXPECTED_VERSION,
        "image": {"sha256": hashlib.sha256(IMAGE).hexdigest(), "url": "http://127.0.0.1/fw.bin"},
        "targets": [f"MTR{number}" for number in range(meters)], **changes.pop("order", {}),
    }  # fmt: skip
    deeds = [Deed(0.0, "campaign.submit", order)]
    if cancelled_at_s is not None:
        deeds.append(Deed(cancelled_at_s, "campaign.cancel", {"campaign_id": "c0"}))
    fields = {
        "seed": 0, "start": EPOCH, "image": IMAGE, "other_image": b"", "baud": 9600, "heads": {}, "windows": {},
        "meters": tuple(_meter(number, own_counter) for number in range(meters)), "line_faults": {},
        "broker_loses": 0.0, "broker_away": (), "power_fails_at": frozenset(), "disk_full_at": frozenset(), "clock": (),
        "deeds": tuple(deeds), "heals_at_s": 400.0, "calm": False,
    }  # fmt: skip
    return Fate(**fields | changes)


def _meter(number, own_counter):
    spec = ciphered(counter_object="0-0:43.1.0.255" if own_counter else "0-0:43.1.9.255")
    spec = replace(
        spec, address=replace(spec.address, lower=16 + number), logical_device_name=f"SIM{number}",
        system_title=number.to_bytes(8, "big"),
    )  # fmt: skip
    keys = replace(spec.keys, initial_counter=1)
    profile = Profile(
        reconnect_after_s=20, counter_object="0-0:43.1.0.255", activation_schedule="0-0:15.0.2.255",
        activation_timezone="UTC",
    )  # fmt: skip
    return Drawn(
        SimMeter(spec, profile=profile, id=f"MTR{number}", keys=keys, dedicated_key=True), sturdy=True
    )


def play(fate):
    with memory_directory() as directory:
        playing = Playing(fate, directory)
        try:
            playing.play()
        finally:
            playing.world.store.close()


_act, _send_block, _event, _activate = Session.act, Session.send_block, Telling._event, TransferRun._activate


def acts_twice(self, method, data):
    _act(self, method, data)
    _act(self, method, data)


def sends_a_wrong_octet(self, number, block):
    return _send_block(self, number, block if number != 3 else b"\xff" + block[1:])


def forgets_the_ceiling(self, number):
    self.job = replace(self.job, state=JobState.TRANSFERRING)


def decides_afterwards(self, session):
    """What is to be durable first is saved when the octets have left."""
    late = []
    with mock.patch.object(self, "_save", lambda **changes: late.append(changes)):
        said = _activate(self, session)
    for changes in late:
        self._save(**changes)
    return said


def tells_some_events(self, database, kind, **what):
    with mock.patch.object(self, "_base", "" if what.get("state") is JobState.VERIFYING else self._base):
        _event(self, database, kind, **what)


def counts_in_memory(self, meter_id, value, also=lambda _: None):
    self._counters = {**self._counters, self._sequence(meter_id): value}


def lets_go(_goal, seen):
    return Done(JobState.CANCELLED, "") if seen.withdrawn else None


@contextmanager
def always_open():
    def gate(campaign, *look, **trust):
        return plan_gate.gate(replace(campaign, window=""), *look, **trust)

    with mock.patch("gateway.worker.hours.gate", gate), mock.patch("gateway.conductor.gate", gate):
        yield


NIGHT = {"night": Window("night", frozenset(range(7)), time(0, 10), 400.0, "UTC", drain_s=0.0)}
LIES = {
    "an order is sent twice": (
        quiet(), mock.patch.object(Session, "act", acts_twice), "without a decision of its own"),
    "a wrong octet": (
        quiet(), mock.patch.object(Session, "send_block", sends_a_wrong_octet), "wrong octets in block 3"),
    "blocks above what is durable": (
        quiet(), mock.patch.object(TransferRun, "_allow_further", forgets_the_ceiling), "the ceiling is -1"),
    "activated, then decided": (
        quiet(), mock.patch.object(TransferRun, "_activate", decides_afterwards), "activate without a decision"),
    "updated, by what nobody looked at": (
        quiet(), mock.patch.object(procedure, "_confirm", return_value=Done(JobState.UPDATED, "surely")),
        "runs 1.0.0"),
    "an event that is not told": (
        quiet(), mock.patch.object(Telling, "_event", tells_some_events), "follows"),
    "a counter that is not durable": (
        quiet(power_fails_at=frozenset({12}), own_counter=False),
        mock.patch.object(Counters, "_raise_to", counts_in_memory),
        "stands for two messages"),
    "not the hour": (
        quiet(windows=NIGHT, order={"window": "night"}),
        always_open(),
        "after the cut-off"),
    "a clock that nobody keeps right": (
        quiet(windows=NIGHT, order={"window": "night"}, clock=(ClockChange(100.0, 0.0, trusted=False),),
              heals_at_s=1200.0),
        mock.patch.object(World, "_clock_is_trusted", return_value=True), "after the cut-off"),
    "a meter's schedule that is not cleared": (
        quiet(order={"activation": {"when": "meter", "at": "2026-01-01T02:00:00Z"}}, cancelled_at_s=300.0),
        mock.patch.multiple(schedule, withdraw=lets_go, cleared_first=lambda _goal, _seen, step: step),
        "its meter is armed"),
    "not approved": (
        quiet(order={"activation": {"when": "manual"}}),
        mock.patch.object(Hours, "activation_waits", return_value=""), "activated at"),
    "not its turn": (
        quiet(meters=2, order={"canary": 1}),
        mock.patch.object(verdict, "turn", lambda _, jobs, *__, **___: Turn(len(jobs))), "before ['MTR0'] have ended"),
}  # fmt: skip


@pytest.mark.parametrize(("fate", "lie", "words"), LIES.values(), ids=LIES.keys())
def test_a_broken_promise_is_seen(fate, lie, words):
    play(fate)
    with lie, pytest.raises(AssertionError) as caught:
        play(fate)
    assert words in str(caught.value)
