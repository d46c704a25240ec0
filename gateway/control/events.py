"""`event.list`: the audit once more, for a head-end that missed some of it, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.control.timing import read_moment
from gateway.store import Store
from gateway.store.documents import Document, encoded

LISTED_EVENTS = 100
"""Without a limit."""
PAGE_LIMIT_BYTES = 48 * 1024
"""Of the events in one reply: a broker takes packets of 64 KiB, if it takes any of a size worth having."""


def page_of_events(store: Store, args: Mapping[str, Any]) -> Document:
    """The data of the reply. `next` is what to ask `after` for the following page; `missed` says that what was asked
    for is not to be had: `forgotten` (older than events are kept) or of another `epoch`. Raises SchemaError."""
    asked, missed = args.get("after", 0), None
    first, last = store.event_span()
    if _is_of_another_epoch(store, asked, args.get("epoch"), last):
        asked, missed = 0, "epoch"
    after = max(asked, store.last_event_before(read_moment(args["since"]))) if "since" in args else asked
    if asked + 1 < first and after < first:
        missed = missed or "forgotten"
    events: list[Document] = []
    room = PAGE_LIMIT_BYTES
    for event in store.events(after, int(args.get("limit", LISTED_EVENTS))):
        room -= len(encoded(event))
        if room < 0 and events:
            break
        events.append(event)
    reached = events[-1]["seq"] if events else last
    return {
        "epoch": store.epoch,
        "first": first,
        "last": max(last, reached),
        "missed": missed,
        "events": events,
        "next": reached,
        "more": reached < last,
    }


def _is_of_another_epoch(store: Store, after: int, epoch: str | None, last: int) -> bool:
    """Whether the event that was heard last is none of ours. One of an earlier epoch is, where the state was carried
    over or adopted: numbers go on there."""
    if after > last:
        return True
    heard = store.events(after - 1, 1) if after else []
    known_by = {event["epoch"] for event in heard if event["seq"] == after} or {store.epoch}
    return epoch is not None and epoch not in known_by
