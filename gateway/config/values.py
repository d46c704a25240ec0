"""The kinds of values a configuration holds: what is expected, in words, and how it is read.

A `Kind` reads a value as TOML gave it and raises ValueError where it is another; the caller turns that into a
mistake with file and key path. Durations and sizes are text with a unit, so that nobody has to guess one.
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
if TYPE_CHECKING:
    from gateway.model import ObjectAttribute

E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """`read` turns a TOML value into a T or raises ValueError; `expected` says in words what it takes;
    `later` knows values that the published contract names and that are not supported yet."""

    expected: str
    read: Callable[[Any], T]
    later: Callable[[Any], bool] = lambda _: False


def _instance(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ValueError
    return value


def _printable(value: Any) -> str:
    text = _instance(value, str)
    if not text or not text.isprintable():
        raise ValueError
    return text


def _matching(pattern: str, value: Any) -> str:
    text = _instance(value, str)
    if not re.fullmatch(pattern, text, re.ASCII):
        raise ValueError
    return text


BOOLEAN = Kind("true or false", lambda value: _instance(value, bool))
TEXT = Kind("a text", _printable)
ID = Kind(
    "an id: letters, digits, '.', '_' and '-', at most 64 of them, a letter or digit first",
    lambda value: _matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value),
)


def integer(lowest: int, highest: int) -> Kind[int]:
    """A whole number within bounds, both included."""

    def read(value: Any) -> int:
        number = _instance(value, int)
        if not lowest <= number <= highest:
            raise ValueError
        return number

    return Kind(f"a whole number from {lowest} to {highest}", read)


def one_of(*numbers: int) -> Kind[int]:
    """One of a few numbers."""

    def read(value: Any) -> int:
        if _instance(value, int) not in numbers:
            raise ValueError
        return int(value)

    return Kind("one of " + ", ".join(map(str, numbers)), read)


def choice(names: type[E], *, later: Collection[str] = ()) -> Kind[E]:
    """One of the names of an enumeration; those in `later` will join it."""
    return Kind(
        "one of " + ", ".join(f'"{name.value}"' for name in names),
        lambda value: names(_instance(value, str)),
        lambda value: isinstance(value, str) and value in later,
    )


_UNITS_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_UNITS_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def duration(shortest: str, longest: str) -> Kind[float]:
    """A duration such as "90s", within bounds, in seconds."""
    lowest, highest = read_duration_s(shortest), read_duration_s(longest)

    def read(value: Any) -> float:
        seconds = read_duration_s(value)
        if not lowest <= seconds <= highest:
            raise ValueError
        return seconds

    return Kind(f'a duration from "{shortest}" to "{longest}", units ms, s, min, h, d', read)


def read_duration_s(value: Any) -> float:
    """Seconds of a duration such as "90s". Raises ValueError."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|min|h|d)", _instance(value, str), re.ASCII)
    if match is None:
        raise ValueError
    return float(match[1]) * _UNITS_S[match[2]]


def size(smallest: str, largest: str) -> Kind[int]:
    """A size such as "512MiB", within bounds, in bytes."""
    lowest, highest = _size_bytes(smallest), _size_bytes(largest)

    def read(value: Any) -> int:
        count = _size_bytes(value)
        if not lowest <= count <= highest:
            raise ValueError
        return count

    return Kind(f'a size from "{smallest}" to "{largest}", units B, KiB, MiB, GiB', read)


def _size_bytes(value: Any) -> int:
    match = re.fullmatch(r"(\d{1,9})(B|KiB|MiB|GiB)", _instance(value, str), re.ASCII)
    if match is None:
        raise ValueError
    return int(match[1]) * _UNITS_BYTES[match[2]]


def octets(count: int) -> Kind[bytes]:
    """Exactly `count` octets, written in hex."""

    def read(value: Any) -> bytes:
        return bytes.fromhex(_matching(rf"[0-9A-Fa-f]{{{2 * count}}}", value))

    return Kind(f"{count} octets as {2 * count} hex digits", read)


def _password(value: Any) -> bytes:
    text = _instance(value, str)
    secret = bytes.fromhex(text[4:]) if text.startswith("hex:") else text.encode()
    if not 0 < len(secret) <= 64:
        raise ValueError
    return secret


PASSWORD = Kind('a text or "hex:...", 1 to 64 octets', _password)


def _obis(value: Any) -> str:
    text = _matching(r"\d{1,3}-\d{1,3}:\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", value)
    if any(int(group) > 255 for group in re.split("[-:.]", text)):
        raise ValueError
    return text


OBIS = Kind('a logical name such as "0-0:44.0.0.255"', _obis)


def _object_attribute(value: Any) -> ObjectAttribute:
    from gateway.model import ObjectAttribute

    text = _printable(value)
    class_id, slash, rest = text.rpartition("/")
    name, _, number = rest.rpartition(":")
    _obis(name)
    attribute_id = integer(1, 127).read(int(_matching(r"\d{1,3}", number)))
    if not slash:
        return ObjectAttribute(usual_class(name), name, attribute_id, text)
    return ObjectAttribute(
        integer(1, 65535).read(int(_matching(r"\d{1,5}", class_id))), name, attribute_id, text
    )


def usual_class(name: str) -> int:
    """Of an object that is named without one (Blue Book, relation of OBIS codes to interface classes)."""
    return next((class_id for class_id, pattern in _USUAL_CLASSES if re.fullmatch(pattern, name)), 1)


_USUAL_CLASSES = (
    (70, r"0-\d+:96\.3\.10\.255"),  # disconnect control
    (8, r"0-\d+:1\.0\.0\.255"),  # clock
    (3, r"1-\d+:\d+\.[78]\.\d+\.255"),  # electricity: instantaneous values, time integrals
    (7, r"1-\d+:99\.\d+\.\d+\.255|0-\d+:99\.98\.\d+\.255"),  # load profiles, event logs
    (9, r"0-\d+:10\.0\.\d+\.255"),  # script tables
    (15, r"0-0:40\.0\.\d+\.255"),  # associations
    (17, r"0-0:41\.0\.0\.255"),  # SAP assignment
    (18, r"0-\d+:44\.0\.\d+\.255"),  # image transfer
    (22, r"0-\d+:15\.\d+\.\d+\.255"),  # single action schedules
    (44, r"0-\d+:25\.3\.0\.255"),  # PPP setup
    (45, r"0-\d+:25\.4\.0\.255"),  # GPRS modem setup
    (64, r"0-0:43\.0\.\d+\.255"),  # security setup
)
OBJECT_ATTRIBUTE = Kind(
    'an attribute such as "0-0:96.3.10.255:2", with its class "70/0-0:96.3.10.255:2" where that is none of the usual',
    _object_attribute,
)


def _absolute(value: Any) -> Path:
    path = Path(_printable(value))
    if not path.is_absolute():
        raise ValueError
    return path


PATH = Kind("an absolute path", _absolute)


def _socket_path(value: Any) -> Path:
    path = _absolute(value)
    if len(str(path).encode()) > 107:  # sockaddr_un.sun_path, unix(7)
        raise ValueError
    return path


SOCKET_PATH = Kind("an absolute path of at most 107 bytes", _socket_path)


def _timezone(value: Any) -> str:
    try:
        return zoneinfo.ZoneInfo(_printable(value)).key
    except (OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise ValueError from error


TIMEZONE = Kind('a time zone such as "Europe/Helsinki"', _timezone)


def _host(value: Any) -> str:
    text = _printable(value)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        label = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})"
        return _matching(rf"(?=.{{1,253}}$){label}([.]{label})*[.]?", text).lower()


HOST = Kind("a host name or address, without port", _host)


def _host_and_port(value: Any) -> str:
    text = _printable(value)
    parts = urlsplit(f"//{text}")
    if not parts.port or parts.path or parts.query or parts.fragment or "@" in text:
        raise ValueError
    _host(parts.hostname)
    return text


def _own_address(value: Any) -> tuple[str, int]:
    place = re.fullmatch(r"(?:\[([^\[\]]+)\]|([0-9.]+)):(\d{1,5})", _printable(value), re.ASCII)
    if place is None or not 1024 <= int(place[3]) <= 65535:
        raise ValueError
    address = ipaddress.IPv6Address(place[1]) if place[1] else ipaddress.IPv4Address(place[2])
    if address.is_multicast:
        raise ValueError
    return str(address), int(place[3])


OWN_ADDRESS = Kind(
    'an IP address of this machine and a port from 1024 on, such as "127.0.0.1:8471" or "[::1]:8471"',
    _own_address,
)


HOST_AND_PORT = Kind('"host:port"', _host_and_port)


def _device(value: Any) -> str:
    scheme, separator, rest = _printable(value).partition("://")
    if not separator:
        return str(_absolute(value))
    if scheme not in ("rfc2217", "socket"):
        raise ValueError
    return f"{scheme}://{_host_and_port(rest)}"


DEVICE = Kind('an absolute path, "rfc2217://host:port" or "socket://host:port"', _device)

DEVICE_ADDRESS = Kind(
    "1 to 32 digits, letters and spaces", lambda value: _matching(r"[0-9A-Za-z ]{1,32}", value)
)  # IEC 62056-21, 6.3.14, item 22


def _mqtt_url(value: Any) -> str:
    text = _printable(value)
    parts = urlsplit(text)
    if parts.scheme not in {"mqtt", "mqtts"} or "@" in parts.netloc or parts.path.strip("/"):
        raise ValueError
    if parts.query or parts.fragment or parts.port == 0:
        raise ValueError
    _host(parts.hostname)
    return text


MQTT_URL = Kind('"mqtts://host:port" or "mqtt://host:port", without user or path', _mqtt_url)


def _proxy_url(value: Any) -> str:
    text = _printable(value)
    scheme, separator, rest = text.partition("://")
    if scheme != "http" or not separator:
        raise ValueError
    _host_and_port(rest)
    return text


PROXY_URL = Kind('"http://host:port", without user', _proxy_url)


def _topic_root(value: Any) -> str:
    text = _printable(value)
    if len(text) > 128 or text.startswith("$") or "" in text.split("/") or re.search(r"[+#]", text):
        raise ValueError
    return text


TOPIC_ROOT = Kind('topic levels such as "mgw/v1", without "+" and "#"', _topic_root)


def list_of(kind: Kind[T]) -> Kind[tuple[T, ...]]:
    """A list in which every entry is of one kind."""

    def read(value: Any) -> tuple[T, ...]:
        return tuple(kind.read(entry) for entry in _instance(value, list))

    return Kind(f"a list, each entry {kind.expected}", read)
