"""Who comes to the status page, well or badly behaved, and what he is told; the next visitor is always served."""

from __future__ import annotations

import socket
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.site import Told

from gateway.page import server, view
from gateway.page.http import HEAD_LIMIT_BYTES, POLICY, Answer, head_of, read_request, refusal

GOOD = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def status(request: str, *, loopback: bool = True) -> int:
    read = read_request(request.encode("latin-1"), loopback=loopback)
    return int(read.status) if isinstance(read, Answer) else 200


@pytest.mark.parametrize("request_, expected", [
    ("GET / HTTP/1.1\r\nHost: localhost:8471", 200),
    ("GET / HTTP/1.0\r\nHost: 127.0.0.1", 200),
    ("GET / HTTP/1.1\nHost: [::1]:8471", 200),
    ("HEAD / HTTP/1.1\r\nhost: LOCALHOST", 200),
    ("GET http://localhost/metrics HTTP/1.1\r\nHost: localhost", 200),
    ("GET / HTTP/1.1", 400),
    ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost", 400),
    ("GET / HTTP/1.1\r\nHost: localhost\r\n folded: 1", 400),
    ("GET / HTTP/1.1\r\nHost: localhost\r\nno colon", 400),
    ("GET / HTTP/1.1\r\nHost: local\x00host", 400),
    ("GET / HTTP/1.1\r\nHost: [::1", 400),
    ("GET /", 400),
    ("GET  / HTTP/1.1\r\nHost: localhost", 400),
    ("\x16\x03\x01\x02\x00\x01", 400),
    ("PRI * HTTP/2.0", 505),
    ("POST / HTTP/1.1\r\nHost: localhost", 405),
    ("BREW / HTTP/1.1\r\nHost: localhost", 405),
    ("GET / HTTP/1.1\r\nHost: evil.example", 421),
    ("GET / HTTP/1.1\r\nHost: localhost.evil.example", 421),
    ("GET / HTTP/1.1\r\nHost: 192.0.2.1", 421),
    ("GET / HTTP/1.1\r\nHost: ", 421),
])  # fmt: skip
def test_what_a_request_must_be(request_, expected):
    assert status(request_) == expected


def test_beyond_this_machine_any_name_may_lead_here():
    assert status("GET / HTTP/1.1\r\nHost: gw-001.example", loopback=False) == 200


@pytest.mark.parametrize("value, expected", [
    (" " * 7000 + "\x01", 400),
    (" \t" * 3500 + "x" + " \t" * 3, 200),
    (" x" * 3500 + "\x7f", 400),
])  # fmt: skip
def test_no_field_is_written_so_that_reading_it_takes_long(value, expected):
    assert status(f"GET / HTTP/1.1\r\nHost: \t localhost \t \r\nA:{value}") == expected


@given(
    st.binary(max_size=200)
    | st.from_regex(rb"[A-Z]{1,5} [^ ]{0,20} HTTP/[0-9.]{1,3}(\r?\n[^\n]{0,40}){0,5}\r\n\r\n")
)
def test_any_octets_are_a_request_or_refused_and_never_repeated(octets):
    head = head_of(octets)
    if head is None:
        return
    read = read_request(head, loopback=True)
    if isinstance(read, Answer):
        assert read == refusal(read.status, read.headers) and read.status >= 400
    else:
        assert read.method in ("GET", "HEAD")


def test_a_head_ends_with_an_empty_line():
    assert head_of(b"GET / HTTP/1.1\r\nHost: a\r\n") is None
    assert head_of(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nbody") == b"GET / HTTP/1.1\r\nHost: a"


@pytest.mark.parametrize("path, kind", [
    ("/", "text/html; charset=utf-8"),
    ("/?meters=2", "text/html; charset=utf-8"),
    ("/live.json", "application/json"),
    ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
    ("/page.css", "text/css; charset=utf-8"),
    ("/page.js", "text/javascript; charset=utf-8"),
    ("/icon.svg", "image/svg+xml"),
])  # fmt: skip
def test_everything_comes_with_the_strict_headers(site, path, kind):
    told = site.get(path)
    assert (told.status, told.headers["Content-Type"]) == (200, kind)
    assert int(told.headers["Content-Length"]) == len(told.body) > 0
    assert told.headers["Content-Security-Policy"] == POLICY
    assert "'none'" in POLICY and "unsafe" not in POLICY and "http" not in POLICY
    assert told.headers["X-Content-Type-Options"] == "nosniff"
    assert told.headers["Cache-Control"] == "no-store"
    assert told.headers["Referrer-Policy"] == "no-referrer"
    head = site.get(path, method="HEAD")
    assert (head.status, head.body, head.headers["Content-Type"]) == (200, b"", kind)


@pytest.mark.parametrize("path", [
    "/static/page.css", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/page.css/", "/.",
    "/index.html", "/page.css%00", "/store.db", "*", "/<script>alert(1)</script>",
])  # fmt: skip
def test_nothing_else_is_there_and_nothing_is_repeated(site, path):
    told = site.get(path)
    assert (told.status, told.text) == (404, "404 Not Found\n")


@pytest.mark.parametrize("query", [
    "meters=<script>", "meters=-1", "meters=0", "meters=99999999999", "meters=%00", "meters=", "&&&=&", "meters=²",
    "colour=red",
])  # fmt: skip
def test_a_query_is_a_page_of_meters_or_nothing(site, query):
    told = site.get(f"/?{query}".replace("²", "%C2%B2"))
    assert told.status == 200 and "MTR1" in told.text
    assert "<script>" not in told.text and "colour" not in told.text


def test_other_methods_are_told_which_there_are(site):
    told = site.get(method="POST")
    assert (told.status, told.headers["Allow"]) == (405, "GET, HEAD")


def test_a_name_that_somebody_else_let_lead_here_is_refused(site):
    assert site.get(host="rebound.example").status == 421
    assert site.get(host=f"127.0.0.1:{site.port}").status == 200


def test_it_listens_on_ipv6_too(desk, open_site):
    assert socket.has_ipv6
    site = open_site(desk, "::1")
    assert site.get(host=f"[::1]:{site.port}").status == 200


# -- those who misbehave --------------------------------------------------------------------------------------


def test_half_a_request_is_ended_in_time_and_holds_up_nobody(site):
    slow = site.connect(GOOD[:20])
    assert site.get().status == 200
    site.later(server.REQUEST_S / 2)
    slow.sendall(GOOD[20:25])
    assert site.get().status == 200
    site.later(server.REQUEST_S / 2)
    assert Told(site.hear(slow)).status == 408


def test_a_request_octet_by_octet_is_answered(site):
    visitor = site.connect()
    for octet in GOOD:
        visitor.sendall(bytes([octet]))
        site.step()
    assert Told(site.hear(visitor)).status == 200


def test_a_header_without_end_is_refused_when_it_is_too_long_and_takes_no_memory(site):
    visitor = site.connect(b"GET / HTTP/1.1\r\nX: ")
    sent = 0
    while sent < 64 * HEAD_LIMIT_BYTES:
        try:
            sent += visitor.send(b"a" * HEAD_LIMIT_BYTES)
        except (BlockingIOError, ConnectionError):
            break
        site.step()
        kept = [len(one.begun) for one in site.page._server._connections.values()]
        assert max(kept, default=0) <= HEAD_LIMIT_BYTES + server._READ_BYTES
    assert Told(site.hear(visitor)).status == 431
    assert site.get().status == 200


def test_who_never_reads_is_hung_up_on(site, monkeypatch):
    monkeypatch.setattr(view, "page", lambda *_: b"x" * (32 << 20))
    silent = site.connect(GOOD)
    for _ in range(5):
        site.step()
    assert site.step() == "1 connections"
    site.later(server.ANSWER_S)
    assert site.step() == "0 connections"
    assert silent.recv(100).startswith(b"HTTP/1.1 200")


def test_who_does_not_hang_up_is_hung_up_on(site):
    visitor = site.connect(GOOD)
    for _ in range(5):
        site.step()
    assert site.step() == "1 connections", "what he was told is on its way"
    site.later(server._FAREWELL_S)
    assert site.step() == "0 connections"
    assert Told(site.hear(visitor)).status == 200


def test_more_visitors_than_there_is_room_for_wait_their_turn(site):
    crowd = [site.connect() for _ in range(server.CONNECTIONS_LIMIT)]
    for _ in range(server.CONNECTIONS_LIMIT + 2):
        site.step()
    late = site.connect(GOOD)
    site.step()
    assert site.step() == f"{server.CONNECTIONS_LIMIT} connections"
    site.later(server.REQUEST_S)
    site.later(server._FAREWELL_S)
    assert Told(site.hear(late)).status == 200
    assert {Told(site.hear(visitor)).status for visitor in crowd} == {408}


def test_who_leaves_without_a_word_is_forgotten(site):
    site.connect().close()
    site.connect(GOOD[:10]).close()
    for _ in range(5):
        site.step()
    assert site.step() == "0 connections"


def test_a_bug_costs_one_answer_and_is_told_once(site, monkeypatch, caplog):
    monkeypatch.setitem(site.page._answer.__globals__["_SHOWN"], "/", lambda *_: 1 // 0)
    for _ in range(3):
        assert site.get().status == HTTPStatus.INTERNAL_SERVER_ERROR
    assert site.get("/metrics").status == 200
    [line] = [record for record in caplog.records if "a bug" in record.message]
    assert line.exc_info


def test_when_the_state_cannot_be_read_it_says_so(site, desk):
    desk.store.close()
    told = site.get()
    assert (told.status, told.text.split(":")[0]) == (503, "F_DISK")
