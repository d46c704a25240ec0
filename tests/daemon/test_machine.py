"""Which machine this is, read from file systems as they are on a Raspberry Pi, a PC, and in a container."""

from pathlib import Path

import pytest

from gateway.daemon.machine import this_machine
from gateway.model import Machine
from gateway.store.binding import same_machine

SERIAL = "10000000d340a3f1"
MAC = "dc:a6:32:01:02:03"


def system(root, *, machine_id="0123456789abcdef0123456789abcdef", board="", interfaces=()):
    """A root directory. Interfaces: name, address, addr_assign_type, bus ("": it has no device)."""
    (root / "etc").mkdir(parents=True)
    (root / "etc/machine-id").write_text(machine_id + "\n" if machine_id else "")
    if board:
        (root / "sys/firmware/devicetree/base").mkdir(parents=True)
        (root / "sys/firmware/devicetree/base/serial-number").write_text(board + "\0")
    for name, address, kind, bus in interfaces:
        place = root / "sys/class/net" / name
        place.mkdir(parents=True)
        (place / "address").write_text(address + "\n")
        (place / "addr_assign_type").write_text(kind + "\n")
        if bus:
            (root / "sys/bus" / bus).mkdir(parents=True, exist_ok=True)
            (place / "device").mkdir()
            (place / "device/subsystem").symlink_to(root / "sys/bus" / bus)
    return this_machine(root)


def test_a_pi_is_known_by_the_serial_number_of_its_board(tmp_path):
    one = system(tmp_path / "1", board=SERIAL)
    copied = system(tmp_path / "2", board="10000000aaaaaaaa")
    reinstalled = system(tmp_path / "3", board=SERIAL, machine_id="f" * 32)
    assert not same_machine(one, copied), "the card was copied, with its machine id"
    assert same_machine(one, reinstalled)


def test_a_pc_is_known_by_any_of_its_built_in_interfaces(tmp_path):
    second = ("enp2s0", "dc:a6:32:01:02:04", "0", "pci")
    both = system(tmp_path / "1", interfaces=[("enp1s0", MAC, "0", "pci"), second])
    one = system(tmp_path / "2", interfaces=[second])
    other = system(tmp_path / "3", interfaces=[("enp1s0", "dc:a6:32:ff:ff:ff", "0", "pci")])
    assert same_machine(both, one)
    assert not same_machine(both, other)


@pytest.mark.parametrize(
    "interface",
    [
        ("eth1", MAC, "0", "usb"),
        ("docker0", MAC, "3", ""),
        ("wlan0", MAC, "1", "pci"),
        ("lo", "00:00:00:00:00:00", "0", ""),
        ("ppp0", "00:00:00:00:00:00", "0", "pci"),
    ],
    ids=["adapter", "bridge", "random", "loopback", "none"],
)
def test_what_comes_and_goes_tells_nothing(tmp_path, interface):
    assert system(tmp_path, interfaces=[interface]).interfaces == ()


def test_without_hardware_that_tells_the_machine_id_counts(tmp_path):
    one = system(tmp_path / "1", board="0000000000000000")
    assert one.board == ()
    assert same_machine(one, system(tmp_path / "2"))
    assert not same_machine(one, system(tmp_path / "3", machine_id="f" * 32))


def test_where_nothing_can_be_found_out_the_state_is_believed(tmp_path):
    known = system(tmp_path / "1", board=SERIAL)
    assert this_machine(Path("/nowhere")) == Machine()
    assert same_machine(known, Machine())


def test_the_facts_tell_nobody_what_they_were(tmp_path):
    found = system(tmp_path, board=SERIAL, interfaces=[("enp1s0", MAC, "0", "pci")])
    assert SERIAL not in repr(found)
    assert MAC not in repr(found)
    assert "0123456789abcdef" not in repr(found)
