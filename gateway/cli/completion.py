"""What a shell offers at TAB besides commands and options: names that the running daemon knows.

Silent, and quick: where no daemon answers within a second there is nothing to offer.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import click

from gateway.cli.client import Document
from gateway.cli.root import Desk

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Names = Iterable[tuple[str, str]]
"""Each with a word on it, which zsh and fish show."""
Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]

_PATIENCE_S = 1.0
SHOWN_DIGITS = 12
"""Of a digest: enough to tell images apart, and to name one."""


def _live(verb: str, names: Callable[[Document], Names], *, shortest: int | None = None) -> Completer:
    """Of `names` in the answer to `verb` those that begin as what is typed; `shortest`: no more letters of them than
    that, or than are typed already."""

    def complete(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        limit = None if shortest is None else max(shortest, len(begun))
        found = dict(names(data)) if (data := _asked(context.ensure_object(Desk), verb)) else {}
        return [
            CompletionItem(name[:limit], help=about)
            for name, about in found.items()
            if name.startswith(begun)
        ]

    return complete


def FILES(  # noqa: N802 (stands among the others)
    _context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(begun, type="file")]


def _asked(desk: Desk, verb: str) -> Document | None:
    """Nothing that goes wrong is shown: it would stand in the line that is being typed."""
    answers: list[Document] = []

    def ask() -> None:
        with contextlib.suppress(Exception), desk.connect() as client:
            answers.append(client.ask(verb)["data"])

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PATIENCE_S)
    return answers[0] if answers else None


def _profiles(data: Document) -> Iterator[tuple[str, str]]:
    for meter in data["meters"]:
        yield meter["profile"], ""


METERS = _live("meter.list", lambda data: [(one["meter"], one["port"]) for one in data["meters"]])
PROFILES = _live("meter.list", _profiles)
PORTS = _live("port.list", lambda data: [(one["port"], one["kind"]) for one in data["ports"]])
CAMPAIGNS = _live(
    "campaign.list", lambda data: [(one["campaign_id"], one["state"]) for one in data["campaigns"]]
)
WINDOWS = _live("window.list", lambda data: [(one["window"], one["start"]) for one in data["windows"]])


def _digests(data: Document) -> Names:
    return [(one["sha256"], "whole" if one["complete"] else "a part") for one in data["images"]]


DIGESTS = _live("image.list", _digests, shortest=SHOWN_DIGITS)
WHOLE_DIGESTS = _live("image.list", _digests)
