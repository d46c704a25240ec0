"""What is read out of the answers of image servers, honest or not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.errors import HttpError
from gateway.supply.answer import (
    AllHere,
    Asked,
    AskForAll,
    Body,
    BusyServerError,
    ContentRange,
    Head,
    Moved,
    RangeError,
    content_length,
    content_range,
    read_answer,
    retry_after_s,
    strong_etag,
)

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
ETAG = '"v1"'
REST = Asked(100, ETAG)


def answer(status: int, asked: Asked, **fields: str) -> Any:
    named = {name.lower().replace("_", "-"): text for name, text in fields.items()}
    return read_answer(Head(status, named), asked, host="fw.example", now=NOW)


def test_a_part_is_asked_for_with_the_version_that_it_is_of() -> None:
    assert Asked().fields() == {"Accept-Encoding": "identity"}
    assert REST.fields() == {"Accept-Encoding": "identity", "Range": "bytes=100-", "If-Range": ETAG}


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({"Content_Length": "500", "ETag": ETAG}, Body(0, 500, 500, ETAG)),
        ({"Content_Length": "500", "ETag": '"v2"'}, Body(0, 500, 500, '"v2"', anew=True)),
        ({"Content_Length": "500", "ETag": 'W/"v1"'}, Body(0, 500, 500, "", anew=True)),
        ({"Content_Length": "500"}, Body(0, 500, 500, "", anew=True)),
        ({"Transfer_Encoding": "chunked"}, Body(0, None, None, "", anew=True)),
        ({}, Body(0, None, None, "", anew=True, framed=False)),
        ({"Content_Length": "lots"}, Body(0, None, None, "", anew=True, framed=False)),
    ],
)
def test_the_whole_goes_on_with_what_is_here_only_if_it_is_the_same_version(
    fields: dict[str, str], body: Body
) -> None:
    assert answer(200, REST, **fields) == body


def test_the_whole_that_was_asked_for_is_begun_anew() -> None:
    assert answer(200, Asked(), Content_Length="500", ETag=ETAG) == Body(0, 500, 500, ETAG, anew=True)


def test_the_part_that_was_asked_for() -> None:
    assert answer(206, REST, Content_Range="bytes 100-499/500") == Body(100, 500, 500, ETAG)
    assert answer(206, REST, Content_Range="bytes 100-199/*", ETag=ETAG) == Body(100, 200, None, ETAG)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes 0-399/500",
        "bytes 99-499/500",
        "bytes 101-499/500",
        "bytes */500",
        "bytes 100-99/500",
        "100-499",
    ],
)
def test_another_part_is_refused_and_another_try_may_help(text: str) -> None:
    with pytest.raises(RangeError) as raised:
        answer(206, REST, Content_Range=text)
    assert raised.value.retryable


@pytest.mark.parametrize("etag", ['"v2"', 'W/"v1"', ""])
def test_a_part_of_another_version_is_not_taken(etag: str) -> None:
    assert isinstance(answer(206, REST, Content_Range="bytes 100-499/500", ETag=etag), AskForAll)


def test_a_part_that_nobody_asked_for_is_refused() -> None:
    with pytest.raises(HttpError) as raised:
        answer(206, Asked(), Content_Range="bytes 0-499/500")
    assert not raised.value.retryable


def test_a_refused_range_tells_whether_all_is_here() -> None:
    assert isinstance(answer(416, REST, Content_Range="bytes */100"), AllHere)
    assert isinstance(answer(416, REST, Content_Range="bytes */90"), AskForAll)
    assert isinstance(answer(416, REST), AskForAll)
    with pytest.raises(HttpError):
        answer(416, Asked(), Content_Range="bytes */100")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_leads_somewhere(status: int) -> None:
    assert answer(status, Asked(), Location="/elsewhere") == Moved("/elsewhere")


@pytest.mark.parametrize("status", [204, 300, 301, 304, 400, 401, 403, 404, 410, 100])
def test_what_no_other_try_can_mend(status: int) -> None:
    with pytest.raises(HttpError, match=f"fw.example answered {status}") as raised:
        answer(status, Asked())
    assert not raised.value.retryable


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_another_try_may_mend(status: int) -> None:
    with pytest.raises(BusyServerError) as raised:
        answer(status, REST, Retry_After="7")
    assert raised.value.retryable
    assert raised.value.retry_after_s == 7


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip"])
@pytest.mark.parametrize("status", [200, 206])
def test_nothing_compressed_is_taken(status: int, encoding: str) -> None:
    with pytest.raises(HttpError, match="compressed"):
        answer(status, REST, Content_Range="bytes 100-499/500", Content_Encoding=encoding)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bytes 0-0/1", ContentRange(0, 1, 1)),
        ("Bytes 5-9/10", ContentRange(5, 10, 10)),
        ("bytes 5-9/*", ContentRange(5, 10, None)),
        ("bytes */10", ContentRange(None, None, 10)),
        ("bytes 5-10/10", None),
        ("bytes 9-5/10", None),
        ("bytes -5/10", None),
        ("bytes 5-/10", None),
        ("octets 5-9/10", None),
        ("bytes 5-9", None),
        ("bytes \u0665-9/10", None),
        ("bytes 5-9/10, bytes 0-4/10", None),
        ("bytes 0-9999999999999999/*", None),
    ],
)
def test_content_range(text: str, found: ContentRange | None) -> None:
    assert content_range(text) == found


@pytest.mark.parametrize(
    ("text", "length"),
    [("0", 0), ("65536", 65536), ("", None), ("-1", None), ("1e3", None), ("\u0661", None), ("9" * 16, None)],
)
def test_content_length(text: str, length: int | None) -> None:
    assert content_length(text) == length


@pytest.mark.parametrize("text", ['"a"', '""', '"5f3-1a"', '"!#\'()"'])
def test_strong_etags(text: str) -> None:
    assert strong_etag(text) == text


@pytest.mark.parametrize(
    "text", ["", "a", 'W/"a"', '"a', '"a"b"', '"a b"', '"\u00e4"', f'"{"a" * 300}"', '"a", "b"']
)
def test_what_is_no_strong_etag(text: str) -> None:
    assert strong_etag(text) == ""


@pytest.mark.parametrize(
    ("text", "date", "wait_s"),
    [
        ("120", "", 120),
        (" 120 ", "", 120),
        ("0", "", 0),
        ("999999", "", 3600),
        ("-1", "", 0),
        ("1.5", "", 0),
        ("soon", "", 0),
        ("", "", 0),
        # Against the server's own clock, which may be another than ours.
        ("Sun, 22 Nov 2026 08:05:00 GMT", "Sun, 22 Nov 2026 08:00:00 GMT", 300),
        ("Sun, 22 Nov 2026 07:00:00 GMT", "Sun, 22 Nov 2026 08:00:00 GMT", 0),
        ("Sun, 22 Nov 2026 12:05:00 GMT", "", 300),
        ("Sun, 22 Nov 2026 12:05:00 GMT", "nonsense", 300),
        ("Sunday, 22-Nov-26 12:05:00 GMT", "", 300),
        ("Sun Nov 22 12:05:00 2026", "", 300),
        ("Fri, 31 Dec 9999 23:59:59 GMT", "", 3600),
        ("Fri, 32 Dec 2026 23:59:59 GMT", "", 0),
    ],
)
def test_when_to_come_back(text: str, date: str, wait_s: float) -> None:
    assert retry_after_s(text, server_date=date, now=NOW) == wait_s
