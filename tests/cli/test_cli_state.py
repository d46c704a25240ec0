"""A gateway that is replaced, and one whose card was copied, by the commands that an operator types."""

import os
import sqlite3
import tarfile
from contextlib import closing
from signal import SIGKILL

import pytest
from support.desk import memory_directory
from support.patience import eventually
from support.running import NEW, RunningGateway

from gateway.cli.state_file import as_owner_of

BAUD = 57600
IMAGE = bytes(number * 7 % 251 for number in range(24 * 1024))


@pytest.fixture
def gateway(tmp_path):
    running = RunningGateway(tmp_path, meters=1, baud=BAUD)
    try:
        yield running
    finally:
        running.close()


def order(gateway, type_in):
    """An order whose transfer is well under way."""
    image = gateway.directory / "image"
    image.write_bytes(IMAGE)
    digest = type_in("image", "add", str(image))[1].split()[0]
    told = type_in(
        "campaign",
        "submit",
        "--id",
        "c",
        "--sha256",
        digest,
        "--identifier",
        "FW",
        "--all",
        "--expect-version",
        NEW,
    )
    assert told[0] == 0, told
    eventually(lambda: gateway.meters[0].history.blocks.total() >= 40)


def start_again(gateway):
    gateway.log.unlink()
    gateway.start()


def another_machine(gateway):
    """The same meters on the same line, and a state directory with nothing in it."""
    text = gateway.config.read_text()
    gateway.config.write_text(
        text.replace(str(gateway.directory / "state"), str(gateway.directory / "state2"))
    )
    gateway.log.unlink()


def test_a_gateway_is_replaced_in_mid_transfer_from_what_was_exported_while_it_ran(
    gateway, type_in, tmp_path
):
    gateway.start()
    order(gateway, type_in)
    file = tmp_path / "gw.state"
    status, out, _ = type_in("state", "export", str(file))
    assert (status, out.startswith(f"exported to {file}: 1 campaigns, 1 jobs, 1 counters")) == (0, True), out
    check_content(file, gateway.meters[0].spec.keys)
    gateway.stop(SIGKILL)  # it is struck by lightning
    gateway.hurry()
    total = gateway.meters[0].history.blocks.total()

    another_machine(gateway)
    check_cut_short(gateway, type_in, file)
    gateway.start()  # as the service of a fresh package does
    assert type_in("state", "import", str(file))[0] == 1, "it runs"
    assert gateway.stop() == 0
    status, out, _ = type_in("state", "import", str(file))
    assert status == 0
    assert "now put keys.toml in place and start the service" in out
    start_again(gateway)
    assert type_in("campaign", "watch", "c")[0] == 0
    meter = gateway.meters[0]
    assert meter.version == NEW
    assert meter.history.initiates == meter.history.activations == 1
    assert meter.history.blocks.total() - total < len(set(meter.history.blocks)), "it went on, not anew"
    assert "imported: goes on after epoch" in gateway.said()


def check_content(file, keys):
    """It holds the image and no key, and is its owner's alone."""
    assert file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(file) as archive:
        content = [archive.extractfile(name).read() for name in archive.getnames()]
    assert len(content) == 2
    assert IMAGE in content
    for key in (keys.encryption_key, keys.authentication_key):
        assert all(key not in part and key.hex().encode() not in part.lower() for part in content)


def check_cut_short(gateway, type_in, file):
    """A file that was cut short is refused, and nothing changes."""
    octets = file.read_bytes()
    cut = file.with_name("cut")
    for size in range(20, len(octets), len(octets) // 6):
        cut.write_bytes(octets[:size])
        status, _, err = type_in("state", "import", str(cut))
        assert (status, "E_SCHEMA" in err) == (1, True), err
        assert not (gateway.directory / "state2/store.db").exists()


def test_a_copied_card_ciphers_with_nobody_until_an_operator_adopts_it(gateway, type_in):
    gateway.start()
    assert type_in("probe", "MTR0001")[0] == 0
    assert gateway.stop() == 0
    with closing(sqlite3.connect(gateway.directory / "state/store.db")) as state, state:
        state.execute("""UPDATE meta SET value = '{"machine_id": ["of another"]}' WHERE name = 'machine'""")
    start_again(gateway)
    assert "this state was made on another machine" in type_in("status")[1]
    status, _, err = type_in("probe", "MTR0001")
    assert (status, "E_MACHINE" in err, "state adopt" in err) == (1, True, True), err
    status, _, err = type_in("state", "adopt")
    assert (status, "in use by another meter-gateway" in err) == (1, True)
    assert ("E_BUSY" in err, "systemctl stop meter-gateway" in err) == (True, True)
    assert gateway.stop() == 0
    status, out, _ = type_in("state", "adopt")
    assert (status, out) == (0, "the state belongs to this machine: 1 counters were raised by 65536\n")
    start_again(gateway)
    assert type_in("probe", "MTR0001")[0] == 0
    assert "no alarms" in type_in("status")[1]


@pytest.mark.parametrize(
    "content", [b"", b"no tar", b"\x1f\x8b\x08\x00" + bytes(50)], ids=["empty", "text", "cut"]
)
def test_a_file_that_is_no_state_is_refused(gateway, type_in, tmp_path, content):
    file = tmp_path / "file"
    file.write_bytes(content)
    status, _, err = type_in("state", "import", str(file))
    assert (status, "E_SCHEMA" in err) == (1, True), err


def test_the_state_of_another_gateway_is_refused(gateway, type_in, tmp_path):
    gateway.start()
    assert gateway.stop() == 0
    assert type_in("state", "export", str(tmp_path / "file"))[0] == 0
    text = gateway.config.read_text().replace("[gateway]", '[gateway]\nid = "gw-002"', 1)
    gateway.config.write_text(text + '\n[mqtt]\nurl = "mqtt://127.0.0.1:1"\n')
    status, _, err = type_in("state", "import", str(tmp_path / "file"))
    assert (status, "E_STATE" in err, "'mgw/v1/gw-002'" in err) == (1, True, True), err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_root_makes_belongs_to_whom_the_state_belongs():
    with memory_directory() as base:
        base.chmod(0o755)
        state = base / "state"
        state.mkdir()
        os.chown(state, 65534, 65534)
        with as_owner_of(state):
            (state / "store.db").write_bytes(b"")
        made = (state / "store.db").stat()
    assert (made.st_uid, made.st_gid) == (65534, 65534)
    assert os.geteuid() == os.getegid() == 0
