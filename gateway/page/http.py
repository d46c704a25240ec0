"""One request of HTTP/1.x and its answer, as octets (RFC 9110, RFC 9112). Pure.

As little as the page needs: GET and HEAD, one request for each connection, bodies are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

from gateway.urls import is_loopback

HEAD_LIMIT_BYTES = 8 * 1024
"""Of a request; what browsers send has 1 KiB."""
METHODS = ("GET", "HEAD")

_END = re.compile(rb"\r?\n\r?\n")
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 (RFC 9110, 5.6.2)
_REQUEST_LINE = re.compile(rf"({_TOKEN}) (\S+) HTTP/(\d)(?:\.(\d))?")
_FIELD = re.compile(rf"({_TOKEN}):([^\x00-\x08\x0a-\x1f\x7f]*)")
"""Nothing in it can match in two ways: whoever comes decides what is matched, and nobody else works meanwhile."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a page may load and do: its own style, script, icon and figures, and nothing else (CSP level 3)."""
_ALWAYS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Connection": "close",
}


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: str


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


def head_of(begun: bytes | bytearray) -> bytes | None:
    """The head of the request that `begun` begins with, without its empty line; None: more has to come."""
    text = begun.lstrip(b"\r\n")
    end = _END.search(text)
    return bytes(text[: end.start()]) if end else None


def read_request(head: bytes, *, loopback: bool) -> Request | Answer:
    """What is asked for, or the refusal. `loopback`: only this machine is served, so a Host of another name is
    that of a web site which had itself resolved to our address, to read what it may not (DNS rebinding)."""
    line, *lines = re.split(r"\r?\n", head.decode("latin-1"))
    asked = _REQUEST_LINE.fullmatch(line)
    if asked is None:
        return refusal(HTTPStatus.BAD_REQUEST)
    method, target, major, _ = asked.groups()
    if major != "1":
        return refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    fields = [_FIELD.fullmatch(one) for one in lines]
    hosts = [one[2].strip(" \t") for one in fields if one and one[1].lower() == "host"]
    if None in fields or len(hosts) != 1:
        return refusal(HTTPStatus.BAD_REQUEST)
    try:
        parts, host = urlsplit(target), urlsplit(f"//{hosts[0]}").hostname
    except ValueError:
        return refusal(HTTPStatus.BAD_REQUEST)
    if loopback and not is_loopback(host):
        return refusal(HTTPStatus.MISDIRECTED_REQUEST)
    if method not in METHODS:
        return refusal(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": ", ".join(METHODS)})
    return Request(method, parts.path, parts.query)


def refusal(status: HTTPStatus, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer that says its status in words, and nothing of what was asked."""
    return Answer(f"{status.value} {status.phrase}\n".encode(), status=status, headers=headers or {})


def octets(answer: Answer, moment: datetime, *, body: bool = True) -> bytes:
    """The answer as it goes over the connection; to HEAD without its body."""
    headers = {
        "Date": format_datetime(moment, usegmt=True),
        "Content-Type": answer.content_type,
        "Content-Length": str(len(answer.body)),
        **_ALWAYS,
        **answer.headers,
    }
    lines = [
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        *(f"{k}: {v}" for k, v in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (answer.body if body else b"")
