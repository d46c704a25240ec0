"""URLs as they may be told, and the hosts in them."""

from __future__ import annotations

import ipaddress
import re


def shown(url: str) -> str:
    """A URL as it may be told: without credentials and query, which is a password where it is pre-signed."""
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    return re.sub(r"//.*@", "//", bare)


def is_loopback(host: str | None) -> bool:
    """Whether `host` is this machine by name or number, without asking a name server."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
