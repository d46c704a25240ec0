"""What a person sees of an image that is being fetched."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cli.watch import Lines, campaign_sentence

MIB = 2**20


def campaign(**fetch: Any) -> dict[str, Any]:
    """One that is being fetched; `fetch`: what is known of that."""
    unknown = dict.fromkeys(("bytes_total", "bytes_per_s", "eta_s", "next_try_at"))
    return {
        "campaign_id": "fw-1", "state": "fetching", "paused": None, "opens_at": None, "eta": None, "late": False,
        "code": None, "message": "",
        "counts": {"queued": 2}, "fetch": {"bytes_done": 0, "tries": 0, **unknown, **fetch},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fetch", "words"),
    [
        ({}, "fetching, 0.0 KiB"),
        ({"bytes_done": 3 * MIB}, "fetching, 3.0 MiB"),
        ({"bytes_done": MIB, "bytes_total": 4 * MIB}, "fetching 25 %, 1.0 of 4.0 MiB"),
        ({"bytes_done": 512, "bytes_total": 1024}, "fetching 50 %, 0.5 of 1.0 KiB"),
        (
            {"bytes_done": MIB, "bytes_total": 4 * MIB, "bytes_per_s": 100 * 1024, "eta_s": 31},
            "fetching 25 %, 1.0 of 4.0 MiB, 100 KiB/s, 31 s to go",
        ),
    ],
)
def test_how_far_it_is_in_a_few_words(fetch: dict[str, Any], words: str) -> None:
    assert campaign_sentence(campaign(**fetch)) == words


def test_why_it_waits_and_until_when() -> None:
    waits = campaign(bytes_done=MIB, next_try_at="2026-11-22T12:30:00.000Z") | {
        "code": "F_NET", "message": "fw.example ended after 1 of 4 octets",
    }  # fmt: skip
    sentence = campaign_sentence(waits)
    assert sentence.startswith(
        "fetching, 1.0 MiB, F_NET: fw.example ended after 1 of 4 octets, tried again at "
    )


def test_a_line_for_every_tenth_and_for_every_failure() -> None:
    said: list[str] = []
    lines = Lines(said.append)
    for done in range(0, 101, 2):
        lines.show(campaign(bytes_done=done * MIB, bytes_total=100 * MIB), [])
    lines.show(
        campaign(bytes_done=100 * MIB, bytes_total=100 * MIB, next_try_at="2026-11-22T12:30:00.000Z"), []
    )
    assert len(said) == 12
    assert said[3].startswith("campaign fw-1: fetching 30 %")
