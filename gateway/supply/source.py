"""Where an image comes from: what every way to its bytes is told, and where it may lead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from gateway.errors import PolicyError
from gateway.model import FirmwareSettings, Image
from gateway.supply.images import ImageStore
from gateway.urls import is_loopback, shown

# Two parsers must not read two hosts out of one text; a credential must not stand in one.
_UNCLEAR = re.compile(r"[^\x21-\x7e]|[\\@]")

MQTT_URL = "mqtt:"
"""Blocks from whoever serves the image over the gateway's own broker (`gateway.supply.pull`)."""


@dataclass(frozen=True, slots=True)
class BlockDigests:
    """The SHA-256 (lower-case hex) of each `block_bytes` octets of an image, as its manifest has them."""

    block_bytes: int
    sha256: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The image that somebody ordered, and where it is."""

    url: str
    sha256: str
    size: int | None
    """None: the order does not say."""
    digests: BlockDigests | None = None


class Watch(Protocol):
    """Whoever waits for an image, as its source sees them. Both cost nothing and may be called at each piece."""

    def stop(self) -> bool:
        """The image is wanted no more, or the process ends: leave within a second. Ask at least twice in each."""

    def came(self, octets: int, done: int, total: int | None) -> None:
        """So many octets came over the network just now; so many of the image are here, of so many."""


class Source(Protocol):
    """One way to the bytes, such as `gateway.supply.fetch.fetch`."""

    def __call__(
        self, wanted: Wanted, images: ImageStore, *, settings: FirmwareSettings, watch: Watch
    ) -> Image:
        """The image, durably in `images`; what came is kept there for the next attempt. Raises FirmwareError,
        retryable where another attempt may help, and BusyError."""


def scheme_of(url: str) -> str:
    """The part before the first colon, in lower case; "" where there is none."""
    return url.partition(":")[0].lower() if ":" in url else ""


def check_url(url: str, settings: FirmwareSettings) -> None:
    """Raises PolicyError unless [firmware] allows to fetch from `url`."""
    parts = _split(url)
    loopback = is_loopback(parts.hostname)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise PolicyError(
            f"{shown(url)!r} is not a URL that images come from: expected https://host/path or {MQTT_URL}"
        )
    if parts.scheme == "http" and not (loopback or settings.allow_plaintext):
        raise PolicyError(f"{parts.hostname}: http:// only from loopback, unless allow_plaintext = true")
    allowed = {host.lower() for host in settings.allow_hosts}
    if not (parts.hostname in allowed if allowed else loopback):
        expected = ", ".join(sorted(allowed)) or "loopback only"
        raise PolicyError(f"images do not come from {parts.hostname}: allow_hosts has {expected}")


def _split(url: str) -> SplitResult:
    if _UNCLEAR.search(url):
        raise PolicyError(
            f"{shown(url)!r} is not a plain URL: no credentials, spaces, backslashes or controls"
        )
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise PolicyError(f"{shown(url)!r} is not a URL") from None
    return parts
