"""How often, how long and for how many octets an image is tried to be had. Pure; chance is given.

A gateway at the end of a poor link gets its image in a hundred pieces; a server that is gone, that drips for ever or
that sends the same octets again and again costs no more than this.
"""

from __future__ import annotations

ATTEMPTS = 12
"""That failed in a row and brought nothing new."""
LONGEST_S = 24 * 3600.0
"""Of attempts and the pauses between them."""
TIMES_THE_IMAGE = 4
OCTETS_BESIDE = 2**20
"""Beyond so many times the image, for images that are small."""

UNSAID_LIMIT_BYTES = 64 * 2**20
"""The most that is taken where neither the order nor the server says how large the image is."""

LONGEST_PAUSE_S = 1800.0
_FIRST_PAUSE_S = 5.0
_SHORTEST_PAUSE_S = 1.0
_LONGEST_ASKED_S = 3600.0


def overspent(tries: int, spent_s: float, octets: int, *, size: int | None) -> str:
    """Why no other attempt is made after `tries` that failed in a row, in words; empty where one is. `size`: of the
    image, where it is known; else it may have as much as is taken at all."""
    if tries >= ATTEMPTS:
        return f"{tries} attempts brought nothing new"
    if spent_s >= LONGEST_S:
        return f"{LONGEST_S / 3600:.0f} h have passed"
    if octets > TIMES_THE_IMAGE * (UNSAID_LIMIT_BYTES if size is None else size) + OCTETS_BESIDE:
        return f"{octets} octets came for an image of {'unknown size' if size is None else size}"
    return ""


def pause_s(tries: int, chance: float, *, asked_s: float = 0.0) -> float:
    """Seconds until the next attempt after `tries` that failed in a row: full jitter, so that a thousand gateways do
    not come back to a server in the same second. `chance`: from 0 to 1, any as likely as any other. `asked_s`: the
    server wants to be left alone so long at least."""
    jitter_s = chance * min(_FIRST_PAUSE_S * 2.0 ** min(max(tries, 1) - 1, 16), LONGEST_PAUSE_S)
    return min(max(_SHORTEST_PAUSE_S, asked_s + jitter_s), _LONGEST_ASKED_S)
