"""What a serial device can do for us beyond octets, each where its driver has it: nothing here fails."""

from __future__ import annotations

import array
import contextlib
import fcntl
import logging

import serial
import serial.rs485

from gateway.model import PortKind, PortSettings

TIOCGRS485 = 0x542E
"""Asks a driver for its RS-485 settings (Linux, asm-generic/ioctls.h)."""
_SER_RS485_ENABLED = 1
_RS485_WORDS = 8
"""struct serial_rs485: flags, two delays, and room."""

log = logging.getLogger(__name__)
_said: set[tuple[str, str]] = set()


def tune(device: serial.Serial, settings: PortSettings) -> None:
    """Low latency; on an RS-485 line the transmitter under the kernel's control; at an optical head DTR and RTS up, for
    they are its power. What the device does not have is said once for each device."""
    _low_latency(device, settings.device)
    if settings.kind is PortKind.RS485:
        _kernel_rs485(device, settings.device)
    elif settings.kind is PortKind.OPTICAL:
        _power(device, settings.device)


def _low_latency(device: serial.Serial, name: str) -> None:
    """Without ASYNC_LOW_LATENCY an FTDI adapter keeps every answer for up to 16 ms."""
    try:
        device.set_low_latency_mode(True)
    except (ValueError, OSError, NotImplementedError) as error:
        _say_once(name, f"no low-latency mode: {error}")


def _kernel_rs485(device: serial.Serial, name: str) -> None:
    """Where the driver can switch the transmitter (TIOCGRS485 is answered: UARTs of boards), it does, RTS up to send.
    A board whose settings enable it already knows its own polarity and is left as it is. A USB adapter switches by
    itself, and its driver does not answer."""
    found = array.array("i", [0] * _RS485_WORDS)
    try:
        fcntl.ioctl(device.fileno(), TIOCGRS485, found)
    except OSError as error:
        _say_once(name, f"the driver does not switch the RS-485 transmitter, the adapter has to: {error}")
        return
    if found[0] & _SER_RS485_ENABLED:
        _say_once(name, "the driver switches the RS-485 transmitter, as the board is set up")
        return
    try:
        device.rs485_mode = serial.rs485.RS485Settings()
    except (ValueError, OSError, serial.SerialException) as error:
        # The setting that failed stays in the object, and would fail again with every other one.
        with contextlib.suppress(ValueError, OSError, serial.SerialException):
            device.rs485_mode = None
        _say_once(name, f"the driver refuses RS-485 mode, the adapter has to switch: {error}")
    else:
        _say_once(name, "the driver switches the RS-485 transmitter by RTS")


def _power(device: serial.Serial, name: str) -> None:
    try:
        device.dtr = True
        device.rts = True
    except (ValueError, OSError, serial.SerialException) as error:
        _say_once(name, f"DTR and RTS cannot be raised, the head needs other power: {error}")


def _say_once(name: str, words: str) -> None:
    """A line is opened again and again; what it has not stays so."""
    if (name, words) not in _said:
        _said.add((name, words))
        log.info("%s: %s", name, words)
