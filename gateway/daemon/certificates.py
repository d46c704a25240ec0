"""How long the certificates hold that TLS and signatures rest on: whoever must renew one should hear of it in time.

A file may name several authorities. While some of them hold, those that have ended are left over from a renewal and
worth no word; where none holds, nobody is believed any more. Of a distribution's whole list only the latter is told:
some of it always ends, and its packages renew it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.model import Config
from gateway.tls import certificates_in

if TYPE_CHECKING:
    from cryptography import x509

_NOTICES = (timedelta(days=7), timedelta(days=30))
"""Before its end; the nearest that has been reached is told."""

_WHOLE_LIST = 16
"""So many authorities nobody chose one by one."""


def trouble_with_certificates(config: Config, now: datetime) -> str:
    """What somebody has to see to, one clause for each certificate; "" where all is well. Reads the files."""
    return "; ".join(_troubles(config, now))


def first_end(config: Config, now: datetime) -> datetime | None:
    """When the first of those that are looked at ends, or has ended; None: there is none. Reads the files."""
    return min((found.end for _, found in _found(config, now) if isinstance(found, Span)), default=None)


def _troubles(config: Config, now: datetime) -> Iterator[str]:
    for what, found in _found(config, now):
        if isinstance(found, str):
            yield f"{what} {found}"
        elif trouble := found.trouble(now):
            yield f"{what} ({found.name}) {trouble}"


def _found(config: Config, now: datetime) -> Iterator[tuple[str, Span | str]]:
    """Where each stands, and how long it holds, or why nobody knows."""
    for table, settings in (("[mqtt]", config.mqtt), ("[firmware]", config.firmware)):
        if settings is None:
            continue
        if settings.cert_file:
            yield from _of_file(f"{table} cert_file", settings.cert_file, now, all_needed=True)
        if settings.ca_file:
            yield from _of_file(f"{table} ca_file", settings.ca_file, now, all_needed=False)
    yield from _of_pem("[firmware] trusted_root", config.firmware.trusted_root, now, all_needed=False)


def _of_file(what: str, path: Path, now: datetime, *, all_needed: bool) -> Iterator[tuple[str, Span | str]]:
    try:
        pem = path.read_bytes()
    except OSError as error:
        yield f"{what} {path}", f"cannot be read: {error.strerror}"
        return
    yield from _of_pem(f"{what} {path}", pem, now, all_needed=all_needed)


def _of_pem(what: str, pem: bytes, now: datetime, *, all_needed: bool) -> Iterator[tuple[str, Span | str]]:
    try:
        spans = sorted(span_of(certificate) for certificate in certificates_in(pem))
    except ValueError:
        yield what, "has a certificate that cannot be read"
        return
    holding = [span for span in spans if span.begin <= now < span.end]
    if holding and not all_needed:
        spans = holding if len(spans) <= _WHOLE_LIST else []
    yield from ((what, span) for span in spans)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """When a certificate begins and ends to hold, and whose it is."""

    begin: datetime
    end: datetime
    name: str

    def trouble(self, now: datetime) -> str:
        if now < self.begin:
            return f"does not count before {self.begin:%Y-%m-%d}"
        if self.end <= now:
            return f"ended on {self.end:%Y-%m-%d}"
        reached = [notice for notice in _NOTICES if self.end - now <= notice]
        return f"ends on {self.end:%Y-%m-%d}, within {reached[0].days} days" if reached else ""


def span_of(certificate: x509.Certificate) -> Span:
    """When it holds, with any version of the library."""
    name = certificate.subject.rfc4514_string()
    if hasattr(certificate, "not_valid_before_utc"):
        return Span(certificate.not_valid_before_utc, certificate.not_valid_after_utc, name)
    # cryptography 38 (Debian 12) tells the time of UTC without saying so.
    begin, end = certificate.not_valid_before, certificate.not_valid_after
    return Span(begin.replace(tzinfo=UTC), end.replace(tzinfo=UTC), name)
