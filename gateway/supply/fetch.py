"""Getting an image over HTTP: the policy of where from, and one plain GET.

What comes is what was ordered, or nothing is stored: no redirect is followed, no compression undone, the body ends
at the ordered size or at the quota, and the digest decides.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from gateway.errors import HttpError, NetError, PolicyError, SizeError
from gateway.model import FirmwareSettings, Image
from gateway.supply.images import ImageStore

if TYPE_CHECKING:
    import httpx

_CONNECT_TIMEOUT_S = 10.0
_SILENCE_TIMEOUT_S = 30.0
"""The longest wait for the next octets; a slow line is fine, a dead one is not."""
_RETRYABLE_STATUS = frozenset({408, 425, 429})
"""The client errors that pass (RFC 9110 clause 15.5.9, RFC 8470, RFC 6585); of the server's own, all may."""
_LONGEST_RETRY_AFTER_S = 3600.0
# Two parsers must not read two hosts out of one text; a credential must not stand in one.
_UNCLEAR = re.compile(r"[^\x21-\x7e]|[\\@]")


class BusyServerError(HttpError):
    """The server refused for now; `retry_after_s` is what it asked for, 0 where it did not say (in seconds)."""

    retryable = True

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def check_url(url: str, settings: FirmwareSettings) -> None:
    """Raises PolicyError unless [firmware] allows to fetch from `url`."""
    parts = _split(url)
    loopback = _is_loopback(parts.hostname or "")
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise PolicyError(f"{url!r} is not a URL that images come from: expected https://host/path")
    if parts.scheme == "http" and not (loopback or settings.allow_plaintext):
        raise PolicyError(f"{parts.hostname}: http:// only from loopback, unless allow_plaintext = true")
    allowed = {host.lower() for host in settings.allow_hosts}
    if not (parts.hostname in allowed if allowed else loopback):
        expected = ", ".join(sorted(allowed)) or "loopback only"
        raise PolicyError(f"images do not come from {parts.hostname}: allow_hosts has {expected}")


def fetch(
    url: str,
    images: ImageStore,
    *,
    sha256: str,
    size: int | None,
    settings: FirmwareSettings,
    stop: Callable[[], bool],
) -> Image:
    """Fetch `url` into `images`; nothing is stored unless it has that digest, and that size where one is given.

    `stop` is asked at each piece. Raises PolicyError, NetError (not reached, ended early, stopped), HttpError
    (BusyServerError where a later try may help), and what `ImageStore.add` raises.
    """
    check_url(url, settings)
    import httpx  # 170 ms

    parts = urlsplit(url)
    host = parts.netloc
    timeout = httpx.Timeout(_SILENCE_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S)
    # trust_env: no proxy, .netrc or the like gets a say in where firmware comes from. The certificates are the
    # system's, which operators add their own to; httpx has a bundle of its own.
    verify = ssl.create_default_context() if parts.scheme == "https" else False
    try:
        with (
            httpx.Client(timeout=timeout, verify=verify, follow_redirects=False, trust_env=False) as client,
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
        ):
            _check(response, host, size)
            return images.add(_pieces(response, stop), expect_sha256=sha256, expect_size=size)
    except httpx.TransportError as error:
        raise NetError(f"{host} did not deliver the image: {str(error) or type(error).__name__}") from error
    except httpx.InvalidURL as error:
        raise PolicyError(f"{url!r} is not a URL: {error}") from error


def _split(url: str) -> SplitResult:
    if _UNCLEAR.search(url):
        raise PolicyError(f"{url!r} is not a plain URL: no credentials, spaces, backslashes or controls")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise PolicyError(f"{url!r} is not a URL: {error}") from error
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check(response: httpx.Response, host: str, size: int | None) -> None:
    status = response.status_code
    if status in _RETRYABLE_STATUS or status >= 500:
        retry_after_s = _retry_after_s(response.headers.get("Retry-After", ""))
        raise BusyServerError(f"{host} answered {status}", retry_after_s=retry_after_s)
    if status != 200:
        hint = ": redirects are not followed" if 300 <= status < 400 else ""
        raise HttpError(f"{host} answered {status}{hint}")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise HttpError(f"{host} sent the image compressed ({encoding!r}), although asked not to")
    length = response.headers.get("Content-Length", "")
    if size is not None and length.isdecimal() and int(length) != size:
        raise SizeError(f"the image at {host} has {length} octets, ordered were {size}")


def _retry_after_s(text: str) -> float:
    """Seconds (RFC 9110 clause 10.2.3). A date instead is left to our own back-off: clocks differ."""
    return min(float(text), _LONGEST_RETRY_AFTER_S) if text.isdecimal() else 0.0


def _pieces(response: httpx.Response, stop: Callable[[], bool]) -> Iterator[bytes]:
    for piece in response.iter_raw():
        if stop():
            raise NetError("the fetch was stopped before its end")
        yield piece
