"""Getting an image over HTTP: resumed where an earlier attempt was cut off, never from elsewhere than was ordered.

What comes is what was ordered, or nothing is stored: no redirect leads to another host, no compression is undone, the
body ends at the ordered size or at a limit, and the digest decides. What was good is kept for the next attempt.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urljoin, urlsplit

from gateway.errors import HttpError, NetError, PolicyError, SizeError
from gateway.model import FirmwareSettings, Image
from gateway.supply.answer import AllHere, Asked, AskForAll, Body, Moved, RangeError, read_answer
from gateway.supply.budget import UNSAID_LIMIT_BYTES
from gateway.supply.download import Access, Download, Patience
from gateway.supply.finish import finish
from gateway.supply.images import ImageStore
from gateway.supply.intake import Intake
from gateway.supply.source import Wanted, Watch, check_url
from gateway.tls import client_context
from gateway.urls import is_loopback, shown

_SYNC_EVERY_S = 10.0
"""What a power cut may cost."""
_ANSWERS_LIMIT = 100
"""In one attempt: a server may give the image in parts."""
_REDIRECTS_LIMIT = 5
# The note of the intake.
_ETAG, _FROM, _NO_PARTS = "etag", "from", "no-parts"


def fetch(
    wanted: Wanted,
    images: ImageStore,
    *,
    settings: FirmwareSettings,
    watch: Watch,
    patience: Patience = Patience(),  # noqa: B008  # it is frozen
) -> Image:
    """A `Source`: nothing is stored unless it has the ordered digest, and the ordered size where one is given.

    Raises PolicyError (forbidden URL or redirect), NetError (not reached, ended early, too slow, stopped; TlsError
    where no other try helps), HttpError (BusyServerError and RangeError where another may), SizeError, DigestError, and
    what `ImageStore.intake` raises.
    """
    check_url(wanted.url, settings)
    with images.intake(wanted.sha256, wanted.size) as intake:
        return _Attempt(wanted, settings, watch, patience).run(intake)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt to get one image."""

    wanted: Wanted
    settings: FirmwareSettings
    watch: Watch
    patience: Patience

    def run(self, intake: Intake) -> Image:
        pieced = bool(intake.spans)
        for _ in range(_ANSWERS_LIMIT):
            if intake.spans == ((0, intake.size),):
                return finish(intake, doubtful=pieced)
            asked = _to_ask(intake, self.wanted)
            with self._answered(intake, asked) as (download, answer):
                match answer:
                    case Body():
                        pieced &= not answer.anew
                        if self._receive(intake, answer, download):
                            return finish(intake, doubtful=pieced or not answer.framed)
                        pieced = True
                    case AllHere():
                        return finish(intake, doubtful=True)
                    case AskForAll():
                        intake.begin_anew()
                        pieced = False
        raise NetError(f"{_host(self.wanted.url)} gives the image in more than {_ANSWERS_LIMIT} parts")

    @contextmanager
    def _answered(
        self, intake: Intake, asked: Asked
    ) -> Iterator[tuple[Download, Body | AllHere | AskForAll]]:
        """Ask, and follow redirects on the same host."""
        url = self.wanted.url
        for _ in range(_REDIRECTS_LIMIT + 1):
            access = _access(url, self.settings)
            with Download(url, asked.fields(), access, self.watch, self.patience) as download:
                try:
                    answer = read_answer(download.head(), asked, host=_host(url), now=datetime.now(UTC))
                except RangeError:
                    intake.note[_NO_PARTS] = "wrong"
                    raise
                if not isinstance(answer, Moved):
                    yield download, answer
                    return
            url = _moved(url, answer.location, self.settings)
        raise HttpError(f"{_host(url)} redirects more than {_REDIRECTS_LIMIT} times")

    def _receive(self, intake: Intake, body: Body, download: Download) -> bool:
        """Keep what comes; whether it was all of the image. Raises SizeError, RangeError, NetError, DiskError."""
        host = _host(self.wanted.url)
        if body.anew:
            intake.begin_anew()
        if body.total is not None:
            intake.expect(body.total)
        intake.note |= {_FROM: _origin(self.wanted.url), _ETAG: body.etag}
        try:
            return self._keep(intake, body, download, host)
        except SizeError:
            intake.discard()  # of a file of another size no octet is worth keeping
            raise

    def _keep(self, intake: Intake, body: Body, download: Download, host: str) -> bool:
        place, synced_at_s = body.start, time.monotonic()
        for piece in download.pieces():
            end = place + len(piece)
            if intake.size is None and end > UNSAID_LIMIT_BYTES:
                raise SizeError(
                    f"more than {UNSAID_LIMIT_BYTES} octets came, and the order does not say how many"
                )
            if body.end is not None and end > body.end:
                raise RangeError(f"{host} sent more octets than it said")
            intake.write(place, piece)
            place = end
            self.watch.came(len(piece), place, intake.size)
            if time.monotonic() - synced_at_s >= _SYNC_EVERY_S:
                intake.sync()
                synced_at_s = time.monotonic()
        return _ended(intake, body, place, host)


# -- one answer -----------------------------------------------------------------------------------------------


def _to_ask(intake: Intake, wanted: Wanted) -> Asked:
    note, spans = intake.note, intake.spans
    if not spans or spans[0][0] or note.get(_FROM) != _origin(wanted.url) or not note.get(_ETAG):
        return Asked()
    return Asked(0 if _NO_PARTS in note else spans[0][1], note[_ETAG])


def _moved(url: str, location: str, settings: FirmwareSettings) -> str:
    """Where a redirect leads to. Raises PolicyError."""
    try:
        target = urljoin(url, location)
        before, after = urlsplit(url), urlsplit(target)
    except ValueError:
        raise PolicyError(f"{_host(url)} redirects to what is not a URL") from None
    check_url(target, settings)
    if after.hostname != before.hostname:
        raise PolicyError(f"{_host(url)} redirects to another host, {after.hostname}: that is not followed")
    if before.scheme == "https" != after.scheme:
        raise PolicyError(f"{_host(url)} redirects from https:// to http://: that is not followed")
    return target


def _ended(intake: Intake, body: Body, place: int, host: str) -> bool:
    """Whether a body that ended at `place` was all of the image. Raises SizeError, NetError."""
    if place == 0:
        raise SizeError("the image is empty")
    if place == body.start:
        raise NetError(f"{host} sent nothing")
    if intake.size is None:
        return body.start == 0
    if place == intake.size:
        return True
    if not body.framed:
        raise NetError(f"{host} ended after {place} of {intake.size} octets")
    if body.start == 0:
        raise SizeError(f"the image has {place} octets, ordered were {intake.size}")
    return False


# -- how the server is reached --------------------------------------------------------------------------------


def _access(url: str, settings: FirmwareSettings) -> Access:
    """The files are read each time anew: a renewed certificate counts from the next attempt on. Raises NetError."""
    parts = urlsplit(url)
    proxy = "" if is_loopback(parts.hostname) else settings.proxy
    if parts.scheme != "https":
        return Access(None, proxy)
    try:
        return Access(client_context(settings.ca_file, settings.cert_file, settings.key_file), proxy)
    except OSError as error:  # ssl.SSLError is one
        raise NetError(f"the certificates of [firmware] cannot be read: {error.strerror}") from error


def _host(url: str) -> str:
    """Host and port, for people."""
    return urlsplit(url).netloc


def _origin(url: str) -> str:
    """What tells one resource from another; a query may be a password, and another one each time."""
    return hashlib.sha256(shown(url).encode()).hexdigest()[:32]
