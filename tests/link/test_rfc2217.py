"""A serial line behind a device server, while nobody here talks on it."""

import os
import pty
import tty

import pytest
from support.device_servers import DeviceServer
from support.patience import eventually

from gateway.errors import PortError
from gateway.link.port import open_port
from gateway.link.rfc2217 import KEPT_OCTETS
from gateway.model import PortKind, PortSettings

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # in pyserial


@pytest.fixture
def line():
    """The far side of a serial line, and our port to it through a device server."""
    far, near = pty.openpty()
    tty.setraw(near)
    with DeviceServer(os.ttyname(near), rfc2217=True) as server:
        port = open_port(PortSettings("far", PortKind.RS485, device=server.url))
        yield far, port, server
        port.close()
    os.close(near)
    os.close(far)


def test_what_others_say_on_an_idle_line_costs_no_memory_and_no_time_later(line):
    """A driver keeps some kilobytes of what nobody reads; this one kept all of it, a gigabyte in days."""
    far, port, _ = line
    said, last = b"somebody else talks " * 20_000, b"!"
    for start in range(0, len(said), 1000):
        os.write(far, said[start : start + 1000])
    os.write(far, last)
    kept = vars(vars(port)["_serial"])["_read_buffer"].queue
    eventually(lambda: kept and kept[-1] == last, lambda: len(kept))
    heard = b""
    while octets := port.read(4096, 0.0):
        heard += octets
    assert heard == (said + last)[-KEPT_OCTETS:]


def test_a_server_that_is_gone_is_noticed_behind_all_that_was_said_before(line):
    far, port, server = line
    os.write(far, b"words")
    eventually(lambda: port.read(100, 0.1))
    os.write(far, b"words" * 800)
    server.drop()
    with pytest.raises(PortError, match="cannot read from rfc2217://"):
        eventually(lambda: not port.read(4096, 1.0) and False)
