"""Getting an image over HTTP: the policy of where from, and one plain GET.

What comes is what was ordered, or nothing is stored: no redirect is followed, no compression undone, the body ends
at the ordered size or at the quota, and the digest decides.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway.errors import HttpError, NetError, PolicyError, SizeError
from gateway.model import FirmwareSettings, Image
from gateway.supply.images import ImageStore
from gateway.supply.source import Wanted, Watch, check_url, shown

if TYPE_CHECKING:
    import httpx

_CONNECT_TIMEOUT_S = 10.0
_SILENCE_TIMEOUT_S = 30.0
"""The longest wait for the next octets; a slow line is fine, a dead one is not."""
_RETRYABLE_STATUS = frozenset({408, 425, 429})
"""The client errors that pass (RFC 9110 clause 15.5.9, RFC 8470, RFC 6585); of the server's own, all may."""
_LONGEST_RETRY_AFTER_S = 3600.0


class BusyServerError(HttpError):
    """The server refused for now; `retry_after_s` is what it asked for, 0 where it did not say (in seconds)."""

    retryable = True

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def fetch(wanted: Wanted, images: ImageStore, *, settings: FirmwareSettings, watch: Watch) -> Image:
    """A `Source`: nothing is stored unless it has the ordered digest, and the ordered size where one is given.

    Raises PolicyError, NetError (not reached, ended early, stopped), HttpError (BusyServerError where a later try may
    help), and what `ImageStore.add` raises.
    """
    url = wanted.url
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
            _check(response, host, wanted.size)
            return images.add(
                _pieces(response, wanted, watch), expect_sha256=wanted.sha256, expect_size=wanted.size
            )
    except httpx.TransportError as error:
        raise NetError(f"{host} did not deliver the image: {str(error) or type(error).__name__}") from error
    except httpx.InvalidURL as error:
        raise PolicyError(f"{shown(url)!r} is not a URL") from error


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


def _pieces(response: httpx.Response, wanted: Wanted, watch: Watch) -> Iterator[bytes]:
    done = 0
    for piece in response.iter_raw():
        if watch.stop():
            raise NetError("the fetch was stopped before its end")
        done += len(piece)
        watch.came(len(piece), done, wanted.size)
        yield piece
