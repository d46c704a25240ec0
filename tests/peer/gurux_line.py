"""The lines on which a gurux meter answers in real time: a TCP port of this machine, or a pty."""

import os
import select
import socket
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from peer.gurux_meter import GuruxMeter

LOOK_AGAIN_S = 0.05


@contextmanager
def tcp_line(meter: GuruxMeter, *, reboot_s: float) -> Iterator[str]:
    """Serve `meter` over TCP, one connection at a time; yields "host:port". A reboot closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LOOK_AGAIN_S)

        def serve(stopped: Callable[[], bool]) -> None:
            while not stopped():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    meter.reset()
                    _converse(meter, connection.fileno(), stopped)
                if meter.rebooting:
                    time.sleep(reboot_s)
                    meter.restart()

        with _served(serve):
            host, port = listener.getsockname()
            yield f"{host}:{port}"


@contextmanager
def pty_line(meter: GuruxMeter, *, reboot_s: float) -> Iterator[str]:
    """Serve `meter` on a pty; yields the path of its device. What comes during a reboot is lost."""
    master, device = os.openpty()
    tty.setraw(device)

    def serve(stopped: Callable[[], bool]) -> None:
        while not stopped():
            _converse(meter, master, stopped)
            if meter.rebooting:
                time.sleep(reboot_s)
                while _ready(master):
                    os.read(master, 65536)
                meter.restart()

    try:
        with _served(serve):
            yield os.ttyname(device)
    finally:
        os.close(device)
        os.close(master)


def _converse(meter: GuruxMeter, line: int, stopped: Callable[[], bool]) -> None:
    """Answer until the line ends or the meter goes down."""
    while not stopped() and not meter.rebooting:
        if not _ready(line):
            continue
        octets = os.read(line, 65536)
        if not octets:
            return
        answer = memoryview(meter.receive(octets))
        while answer:
            answer = answer[os.write(line, answer) :]


def _ready(line: int) -> bool:
    return bool(select.select([line], [], [], LOOK_AGAIN_S)[0])


@contextmanager
def _served(serve: Callable[[Callable[[], bool]], None]) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(stop.is_set,), name="gurux-meter")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
