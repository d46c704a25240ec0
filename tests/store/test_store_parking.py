"""A meter whose keys failed is left alone over restarts, and what is kept of the keys is good for nothing else."""

import base64
from dataclasses import replace

import pytest
from support.desk import Fuse, PowerCut, command, open_fused, open_store

from gateway.errors import Code, CounterSpentError, ParkedError, StateError
from gateway.link.counters import LAST
from gateway.model import MeterKeys, ReplyStatus
from gateway.simulator.clock import VirtualClock
from gateway.store.parking import HIGHEST_SEED, refusal
from gateway.store.second_file import SecondFile

METER = "MTR1"
KEYS = MeterKeys(b"encryption-key-1", b"authenticat-key1", b"pass:word", 4711)
WHY = "the meter refuses our authentication"


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def store(tmp_path, clock):
    store = open_store(tmp_path, clock)
    yield store
    store.close()


def park(store, meter_id=METER, keys=KEYS, message=WHY):
    store.park(meter_id, keys, code=Code.T_SECURITY, message=message)


def told(store):
    return [(event["kind"], event["meter"], event["who"]) for event in store.events(0, 1000)]


def test_a_parked_meter_stays_parked_over_a_restart_with_since_when_and_why(tmp_path, store, clock):
    since = clock.now()
    park(store)
    clock.advance(3600)
    park(store, message="something else")
    store.close()

    again = open_store(tmp_path, clock)
    parked = again.parked(METER)
    assert (parked.code, parked.message, parked.parked_at) == (Code.T_SECURITY, WHY, since)
    assert again.all_parked() == {METER: parked}
    assert again.parked("MTR2") is None
    assert told(again) == [("parked", METER, "gateway")]
    again.close()


def test_the_log_has_a_line_with_meter_line_code_and_reason(store, clock, caplog):
    with caplog.at_level("INFO"):
        store.seed_counter(METER, 5, port="rs485-1")
        store.park(METER, KEYS, code=Code.T_SECURITY, message=WHY, port="rs485-1")
        store.unpark(METER, "a probe succeeded", who="uid 1000 (pid 1)", port="rs485-1")
    assert caplog.messages == [
        f"counter {METER} on rs485-1: first contact: the next counter is 5, none was known",
        f"parked {METER} on rs485-1: T_SECURITY: {WHY}",
        f"unparked {METER} on rs485-1: a probe succeeded (by uid 1000 (pid 1))",
    ]


def test_whoever_wants_a_parked_meter_is_told_since_when_why_and_what_to_do(store):
    park(store)
    error = refusal(store.parked(METER))
    assert isinstance(error, ParkedError)
    assert error.code is Code.T_SECURITY
    assert not error.retryable
    for words in (METER, "since 20", WHY, "keys.toml", f"meter-gateway probe {METER}"):
        assert words in error.message


def test_it_is_served_again_when_an_operator_says_so(store):
    park(store)
    store.unpark(METER, "a probe succeeded", who="uid 1000 (pid 1)")
    store.unpark(METER, "once more")
    assert store.parked(METER) is None
    assert told(store) == [("parked", METER, "gateway"), ("unparked", METER, "uid 1000 (pid 1)")]


@pytest.mark.parametrize("change", [
    {}, {"encryption_key": b"encryption-key-2"}, {"authentication_key": b""}, {"password": b"pass:worD"},
    {"initial_counter": 4712}, {"initial_counter": None},
    {"authentication_key": b"authenticat-key1p", "password": b"ass:word"},
])  # fmt: skip
def test_other_keys_in_keys_toml_end_it_at_the_next_start(store, change):
    park(store)
    store.unpark_changed({METER: replace(KEYS, **change)})
    assert (store.parked(METER) is None) is bool(change)


def test_a_meter_that_is_not_configured_now_stays_as_it_is(store):
    park(store)
    store.unpark_changed({"MTR2": KEYS})
    assert store.parked(METER)


def test_the_disk_has_nothing_of_the_keys(tmp_path, store):
    park(store)
    park(store, "MTR2")
    digests = {bytes(row["digest"]) for row in store._rows("SELECT digest FROM parked")}
    assert len(digests) == 2, "the same keys of two meters cannot be told to be the same"
    store.close()
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert WHY.encode() in written
    for secret in (KEYS.encryption_key, KEYS.authentication_key, KEYS.password):
        for form in (secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"=")):
            assert form not in written


# -- counters that an operator sets ---------------------------------------------------------------------------


def adopt(store, clock, value, **changes):
    order = command(clock, "counter.adopt", who="uid 1000 (pid 1)", reply_topic="", **changes)
    return store.adopt_counter(order, METER, value)


@pytest.mark.parametrize("known", [None, 100, 5000])
def test_an_adopted_counter_is_the_next_and_the_meter_is_served_again(tmp_path, store, clock, known):
    if known is not None:
        store.seed_counter(METER, known)
    park(store)
    reply = adopt(store, clock, 5000)
    assert (reply.status, reply.data) == (
        ReplyStatus.DONE,
        {"meter": METER, "counter": 5000, "before": known},
    )
    assert store.reply_of(reply.cmd_id) == reply
    assert store.parked(METER) is None
    assert SecondFile(tmp_path, "counters").read() == {METER: 5000}
    assert store.reserve_counters(METER, 1) == 5000
    assert told(store)[-2:] == [
        ("counter", METER, "uid 1000 (pid 1)"),
        ("unparked", METER, "uid 1000 (pid 1)"),
    ]


def test_a_counter_never_leads_back_not_even_for_an_operator(store, clock):
    store.seed_counter(METER, 5000)
    park(store)
    with pytest.raises(StateError, match=r"5000 here, 4999 would lead back"):
        adopt(store, clock, 4999)
    assert store.counter(METER) == 5000
    assert store.parked(METER)


def test_the_last_counters_are_kept_for_whoever_must_change_the_key(store, clock):
    assert HIGHEST_SEED == LAST == 2**32 - 1 - 2**20
    with pytest.raises(CounterSpentError):
        adopt(store, clock, HIGHEST_SEED + 1)
    assert adopt(store, clock, HIGHEST_SEED).status is ReplyStatus.DONE


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("blows_at", [1, 2, 3, 4])
def test_losing_power_at_any_commit_of_the_story_changes_nothing_about_its_end(
    tmp_path, clock, blows_at, after
):
    """First contact, parked, adopted: each step is taken again until it is answered, as its actor does."""
    fuse, order = Fuse(), command(clock, "counter.adopt", who="uid 1000 (pid 1)", reply_topic="")
    steps = [
        lambda store: store.seed_counter(METER, 100),
        lambda store: store.reserve_counters(METER, 10),
        park,
        lambda store: store.adopt_counter(order, METER, 5000),
    ]
    store = open_fused(tmp_path, clock, fuse)
    fuse.commits, fuse.blows_at, fuse.after = 0, blows_at, after
    for number, step in enumerate(steps):
        try:
            step(store)
        except PowerCut:
            assert number == blows_at - 1
            store.close()
            store = open_fused(tmp_path, clock, fuse)
            step(store)
    assert fuse.commits > blows_at, "the power failed"
    assert store.counter(METER) == 5000
    assert store.parked(METER) is None
    assert [kind for kind, _, _ in told(store)].count("parked") == 1
    assert [kind for kind, _, _ in told(store)].count("unparked") == 1
    assert store.reply_of(order.cmd_id).status is ReplyStatus.DONE
    store.close()
