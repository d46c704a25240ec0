"""Real lines: ptys and sockets that give, take, vanish and come back."""

import os
import pty
import select
import socket
import threading
import time
import tty
from contextlib import contextmanager

import pytest
from support.patience import PATIENCE_S, eventually

from gateway.errors import LinkLostError, PortError
from gateway.link.port import open_port
from gateway.model import PortKind, PortSettings


class Pty:
    """The adapter's other side."""

    def __init__(self):
        self.ours, self._theirs = pty.openpty()
        tty.setraw(self._theirs)
        self.device = os.ttyname(self._theirs)
        os.set_blocking(self.ours, False)

    def settings(self, **changes):
        return PortSettings("bus", PortKind.RS485, device=self.device, **changes)

    def pull_out(self):
        os.close(self._theirs)
        os.close(self.ours)
        self._theirs = self.ours = -1

    def close(self):
        if self.ours >= 0:
            self.pull_out()


@pytest.fixture
def adapter():
    made = Pty()
    yield made
    made.close()


@pytest.fixture
def opened():
    """Opens ports, and closes them."""
    ports = []

    def open_one(settings):
        ports.append(open_port(settings))
        return ports[-1]

    yield open_one
    for port in ports:
        port.close()


def lan(address):
    return PortSettings("lan", PortKind.TCP, address=address)


@contextmanager
def listening():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        yield listener, "{}:{}".format(*listener.getsockname())


def soon(octets_of, count):
    """Octets until there are `count`."""
    found, until_s = b"", time.monotonic() + PATIENCE_S
    while len(found) < count and time.monotonic() < until_s:
        found += octets_of()
    return found


# -- serial ---------------------------------------------------------------------------------------------------


def test_octets_go_out_and_come_in_unchanged(adapter, opened):
    every = bytes(range(256))
    port = opened(adapter.settings())
    port.write(every)
    assert soon(lambda: _there(adapter.ours), 256) == every
    os.write(adapter.ours, every)
    assert soon(lambda: port.read(1000, PATIENCE_S), 256) == every


def test_no_more_is_read_than_was_asked_for(adapter, opened):
    port = opened(adapter.settings())
    os.write(adapter.ours, b"abcdef")
    assert port.read(4, PATIENCE_S) == b"abcd"
    assert port.read(4, PATIENCE_S) == b"ef"


def test_silence_is_an_empty_read_after_its_time(adapter, opened):
    port = opened(adapter.settings())
    began_s = time.monotonic()
    assert port.read(100, 0.1) == b""
    assert 0.09 < time.monotonic() - began_s < PATIENCE_S


def test_what_came_in_unasked_is_thrown_away(adapter, opened):
    port = opened(adapter.settings())
    os.write(adapter.ours, b"late news")
    assert soon(lambda: port.read(1, PATIENCE_S), 1) == b"l"
    port.discard()
    assert port.read(100, 0.0) == b""


def test_more_than_the_driver_takes_at_once_is_written_in_whole(adapter, opened):
    """A pty holds 4 KiB or so; a window of long frames may be more."""
    port, whole = opened(adapter.settings()), os.urandom(1 << 16)
    writer = threading.Thread(target=port.write, args=(whole,))
    writer.start()
    found = soon(lambda: _there(adapter.ours), len(whole))
    writer.join(PATIENCE_S)
    assert not writer.is_alive()
    assert found == whole


def _there(descriptor):
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        time.sleep(0.001)
        return b""


def test_a_line_is_had_by_one_alone_until_it_is_given_back(adapter, opened):
    first = opened(adapter.settings())
    with pytest.raises(PortError, match=f"cannot open {adapter.device}"):
        open_port(adapter.settings())
    first.close()


def test_an_adapter_that_is_pulled_out_is_an_error_and_no_silence(adapter, opened):
    port = opened(adapter.settings())
    adapter.pull_out()
    with pytest.raises(PortError):
        port.read(100, 1.0)
    with pytest.raises(PortError):
        port.write(b"is anybody there?")
    port.close()


def test_a_device_that_is_not_there_is_named(tmp_path):
    device = str(tmp_path / "ttyUSB7")
    with pytest.raises(PortError, match="ttyUSB7") as error:
        open_port(PortSettings("bus", PortKind.RS485, device=device))
    assert error.value.retryable


def test_closing_twice_harms_nobody(adapter, opened):
    port = opened(adapter.settings())
    port.close()
    port.close()
    with pytest.raises(PortError):
        port.read(1, 0.0)


# -- TCP ------------------------------------------------------------------------------------------------------


def test_a_connection_is_made_by_the_first_octets(opened):
    with listening() as (listener, address):
        port = opened(lan(address))
        port.discard()
        port.write(b"hello")
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(100) == b"hello"
            peer.sendall(b"abcdef")
            assert soon(lambda: port.read(4, PATIENCE_S), 4)[:4] == b"abcd"
            assert port.read(4, PATIENCE_S) == b"ef"
            assert port.read(4, 0.01) == b""


def test_a_connection_that_the_other_end_closes_is_lost_and_made_again(opened):
    with listening() as (listener, address):
        port = opened(lan(address))
        port.write(b"one")
        peer, _ = listener.accept()
        peer.close()
        with pytest.raises(LinkLostError, match=address):
            port.read(100, PATIENCE_S)
        port.write(b"two")
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(100) == b"two"


def test_a_connection_that_breaks_off_is_lost(opened):
    with listening() as (listener, address):
        port = opened(lan(address))
        port.write(b"one")
        peer, _ = listener.accept()
        # With nothing to linger for, closing resets.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        with pytest.raises(LinkLostError, match=address):
            port.read(100, PATIENCE_S)


def _ended(connection):
    """Whether the other end's close has arrived, behind whatever it sent before."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


def test_a_lost_connection_is_found_out_by_whoever_clears_the_line(opened):
    with listening() as (listener, address):
        port = opened(lan(address))
        port.write(b"one")
        peer, _ = listener.accept()
        peer.sendall(b"late news")
        peer.close()
        eventually(lambda: _ended(port._socket))
        port.discard()
        port.write(b"two")
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(100) == b"two"


def test_nobody_listens_is_an_error_of_the_line():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*unused.getsockname())
        with pytest.raises(PortError, match=address) as error:
            open_port(lan(address)).write(b"hello")
    assert error.value.retryable
