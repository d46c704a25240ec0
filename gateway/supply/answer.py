"""What an image server answered, and what is to be done with it. Pure: status and headers in, a decision out.

RFC 9110 for the fields; nothing of them is believed further than it can be checked. A part is asked for with `Range`
and `If-Range` (clause 13.1.5) and the strong ETag under which the octets before it came, so that octets of two versions
of a file are never put together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from gateway.errors import HttpError

LONGEST_RETRY_AFTER_S = 3600.0
_PASSING = frozenset({408, 425, 429})
"""The client errors that pass (RFC 9110 clause 15.5.9, RFC 8470, RFC 6585); of the server's own, all may."""
_MOVED = frozenset({301, 302, 303, 307, 308})
_DECIMAL = re.compile(r"[0-9]{1,15}")
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{0,200}"')
_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,15})-([0-9]{1,15})|\*)/([0-9]{1,15}|\*)", re.IGNORECASE)


class BusyServerError(HttpError):
    """The server refused for now; `retry_after_s` is what it asked for, 0 where it did not say (in seconds)."""

    retryable = True

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RangeError(HttpError):
    """The part that came is not the part that was asked for: this server is asked for the whole next time."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Head:
    """Status and fields, their names in lower case."""

    status: int
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """The octets from `place` on, of the version with this strong ETag; from 0 on: all, of any version."""

    place: int = 0
    etag: str = ""

    def fields(self) -> dict[str, str]:
        """The request's."""
        fields = {"Accept-Encoding": "identity"}
        if self.place:
            fields |= {"Range": f"bytes={self.place}-", "If-Range": self.etag}
        return fields


@dataclass(frozen=True, slots=True)
class Body:
    """The octets from `start` on follow."""

    start: int
    end: int | None
    """Not included; None: the server does not say."""
    total: int | None
    etag: str
    """The strong one; empty: a part of this cannot be asked for later."""
    anew: bool = False
    """What came before is of another version: forget it."""
    framed: bool = True
    """An end that comes too early would show."""


@dataclass(frozen=True, slots=True)
class Moved:
    location: str


class AllHere:
    """There is nothing beyond what was here before."""


class AskForAll:
    """What was here before is of another version: forget it, and ask for the whole."""


def read_answer(head: Head, asked: Asked, *, host: str, now: datetime) -> Body | Moved | AllHere | AskForAll:
    """Raises BusyServerError, RangeError, HttpError."""
    status, fields = head.status, head.fields
    if status in _PASSING or status >= 500:
        wait_s = retry_after_s(fields.get("retry-after", ""), server_date=fields.get("date", ""), now=now)
        raise BusyServerError(f"{host} answered {status}", retry_after_s=wait_s)
    if status in _MOVED and "location" in fields:
        return Moved(fields["location"])
    if status in {200, 206} and fields.get("content-encoding", "identity").lower() != "identity":
        raise HttpError(f"{host} sent the image compressed, although asked not to")
    if status == 200:
        return _whole(fields, asked)
    if status == 206 and asked.place:
        return _part(fields, asked, host)
    if status == 416 and asked.place:
        found = content_range(fields.get("content-range", ""))
        return AllHere() if found and found.total == asked.place else AskForAll()
    raise HttpError(f"{host} answered {status}")


def _whole(fields: Mapping[str, str], asked: Asked) -> Body:
    length = content_length(fields.get("content-length", ""))
    etag = strong_etag(fields.get("etag", ""))
    return Body(
        start=0,
        end=length,
        total=length,
        etag=etag,
        anew=not etag or etag != asked.etag,
        framed=length is not None or "chunked" in fields.get("transfer-encoding", "").lower(),
    )


def _part(fields: Mapping[str, str], asked: Asked, host: str) -> Body | AskForAll:
    found = content_range(fields.get("content-range", ""))
    if found is None or found.start != asked.place or found.end is None:
        raise RangeError(f"{host} answered with another part of the image than that from {asked.place} on")
    if fields.get("etag", asked.etag) != asked.etag:
        return AskForAll()
    return Body(found.start, found.end, found.total, asked.etag)


# -- fields ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ContentRange:
    """RFC 9110 clause 14.4; `start` and `end` (not included) are None where the range was refused."""

    start: int | None
    end: int | None
    total: int | None


def content_range(text: str) -> ContentRange | None:
    """None where it makes no sense."""
    match = _CONTENT_RANGE.fullmatch(text.strip())
    if match is None:
        return None
    total = None if match[3] == "*" else int(match[3])
    if match[1] is None:
        return ContentRange(None, None, total)
    start, end = int(match[1]), int(match[2]) + 1
    return ContentRange(start, end, total) if start < end <= (total or end) else None


def content_length(text: str) -> int | None:
    """Octets; None where it is not said."""
    return int(text) if _DECIMAL.fullmatch(text) else None


def strong_etag(text: str) -> str:
    """With its quotes; empty for a weak one, which does not promise the same octets (RFC 9110 clause 8.8.1)."""
    return text if _STRONG_ETAG.fullmatch(text) else ""


def retry_after_s(text: str, *, server_date: str, now: datetime) -> float:
    """Seconds to wait (RFC 9110 clause 10.2.3), 0 where it makes no sense. A date is taken against the server's own
    (`Date`), since clocks differ, and against `now` where it sent none."""
    text = text.strip()
    if _DECIMAL.fullmatch(text):
        return min(float(text), LONGEST_RETRY_AFTER_S)
    moment = _date(text)
    if moment is None:
        return 0.0
    wait_s = (moment - (_date(server_date) or now)).total_seconds()
    return min(max(0.0, wait_s), LONGEST_RETRY_AFTER_S)


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
