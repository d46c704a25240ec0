"""Virtual meters on virtual lines: honest, strict meters that a gateway can be judged by, and every way they and
their lines can fail.

    spec       what a meter is                                   `MeterSpec`
    faults     what goes wrong, as one structure of data         `Faults`, `Noise`, `Talk`, `Mishap`
    history    what happened to a meter                          `History`, `Event`, `What`
    meter      links + associations + objects, with power        `VirtualMeter`
      link         secondary station of HDLC
      broadcast    what is said to all stations
      association  AARQ to RLRQ, HLS, ciphering, counters
      services     GET, SET, ACTION on
      objects      what a meter has, of it
      image          Image Transfer, class 18
      schedule       Single action schedule, class 22, and the clock
    medium     octets between a gateway and meters: time, who hears what, who talks at once
      noise      what becomes of them on their way
    line       in process on virtual time                        `VirtualLine`, `VirtualClock`
    pty        in real time on a pty or a TCP port               `PtyLine`, `TcpLine`, `serve`
    optical    behind a head that signs on by mode E             `Head`, `OpticalLine`, `OpticalPty`

The same meters work on every line. Virtual lines are as deterministic as their users: the same specs, faults, seeds
and requests give the same octets at the same virtual times.
"""

from gateway.simulator.clock import VirtualClock
from gateway.simulator.faults import (
    A4,
    A5,
    A7,
    NONE,
    Bitmap,
    Echo,
    Erasing,
    Faults,
    Mishap,
    Noise,
    Talk,
    Then,
)
from gateway.simulator.history import Event, History, What
from gateway.simulator.line import VirtualLine
from gateway.simulator.meter import VirtualMeter
from gateway.simulator.optical import Head, OpticalLine, OpticalPty
from gateway.simulator.pty import PtyLine, TcpLine, serve
from gateway.simulator.spec import PUBLIC_CLIENT, MeterSpec, several

__all__ = [
    "A4",
    "A5",
    "A7",
    "NONE",
    "PUBLIC_CLIENT",
    "Bitmap",
    "Echo",
    "Erasing",
    "Event",
    "Faults",
    "Head",
    "History",
    "MeterSpec",
    "Mishap",
    "Noise",
    "OpticalLine",
    "OpticalPty",
    "PtyLine",
    "Talk",
    "TcpLine",
    "Then",
    "VirtualClock",
    "VirtualLine",
    "VirtualMeter",
    "What",
    "serve",
    "several",
]
