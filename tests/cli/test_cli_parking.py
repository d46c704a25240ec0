"""What an operator does about a meter that is left alone, at the command line of a running gateway."""

import json
import os

import pytest
from support.running import NEW, RunningGateway

from gateway.cli import main
from gateway.store.parking import HIGHEST_SEED


@pytest.fixture
def gateway(tmp_path):
    running = RunningGateway(tmp_path, meters=2)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def type_in(gateway, capsys):
    def run(*words):
        status = main([*words, "--config", str(gateway.config)])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def exchange_key(gateway, present, other):
    """Put another key for the first meter into keys.toml."""
    file = gateway.directory / "keys.toml"
    head, _, rest = file.read_text().partition("[meters.MTR0002]")
    assert present.hex() in head
    file.write_text(head.replace(present.hex(), other.hex()) + "[meters.MTR0002]" + rest)


def restart(gateway):
    assert gateway.stop() == 0
    gateway.log.unlink()
    gateway.start()


def test_a_wrong_key_is_found_by_status_and_mended_in_keys_toml(gateway, type_in, tmp_path):
    right, wrong = gateway.meters[0].spec.keys.encryption_key, os.urandom(16)
    exchange_key(gateway, right, wrong)
    gateway.start()
    firmware = tmp_path / "FW.bin"
    firmware.write_bytes(os.urandom(2000))

    status, out, err = type_in("update", "MTR0001", str(firmware), "--expect-version", NEW)
    assert status == 1
    assert "MTR0001: failed, T_SECURITY" in out
    assert "keys.toml" in err
    status, _, err = type_in("update", "MTR0001", str(firmware))
    assert status == 1
    assert "left alone since" in err

    status, out, _ = type_in("status")
    assert status == 0
    lines = out.splitlines()
    [head] = [number for number, line in enumerate(lines) if line.startswith("LEFT ALONE")]
    meter, since, *why = lines[head + 1].split()
    assert (meter, since[:2]) == ("MTR0001", "20")
    assert " ".join(why) == "T_SECURITY: the meter refuses our authentication"
    assert "keys.toml" in lines[head + 2]
    meters = json.loads(type_in("status", "--json")[1])["meters"]
    assert [meter["parked"] and meter["parked"]["code"] for meter in meters] == ["T_SECURITY", None]

    assert type_in("update", "MTR0002", str(firmware), "--expect-version", NEW)[0] == 0
    status, _, err = type_in("probe", "MTR0001")
    assert (status, "T_SECURITY" in err) == (1, True)

    restart(gateway)
    assert "LEFT ALONE" in type_in("status")[1]
    exchange_key(gateway, wrong, right)
    restart(gateway)
    assert "unparked MTR0001: its entry in keys.toml has changed" in gateway.said()
    assert "LEFT ALONE" not in type_in("status")[1]
    assert type_in("update", "MTR0001", str(firmware), "--expect-version", NEW)[0] == 0


def test_a_counter_that_is_too_far_is_adopted_by_hand(gateway, type_in):
    gateway.start()
    assert type_in("probe", "MTR0001")[0] == 0
    gateway.meters[0].counters.client += 2**24
    restart(gateway)
    status, _, err = type_in("probe", "MTR0001")
    assert status == 1
    assert "T_SECURITY" in err
    [adopt] = [words for words in err.split("meter-gateway ") if words.startswith("counter adopt MTR0001 ")]
    number = int(adopt.split()[3])
    assert number > 2**24

    status, out, _ = type_in("counter", "adopt", "MTR0001", str(number))
    assert status == 0
    assert out.startswith(f"MTR0001: the next counter is {number}, it was ")
    assert type_in("probe", "MTR0001")[0] == 0

    status, _, err = type_in("counter", "adopt", "MTR0001", "7")
    assert status == 1
    assert "E_STATE" in err
    assert "7 would lead back" in err
    status, out, _ = type_in("counter", "adopt", "MTR0002", "5000", "--json")
    assert status == 0
    assert json.loads(out) == {"meter": "MTR0002", "counter": 5000, "before": None}
    assert type_in("counter", "adopt", "MTR0002", "many")[0] == 2
    status, _, err = type_in("counter", "adopt", "MTR0002", str(HIGHEST_SEED + 1))
    assert (status, "E_SCHEMA" in err) == (1, True)
    assert type_in("counter", "adopt", "MTR9", "5000")[0] == 1
