"""The options that say what is ordered, and when: from words on the command line to arguments of `campaign.submit`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from gateway.cli.client import Document, time_text
from gateway.cli.completion import WINDOWS
from gateway.model import ActivateWhen, Delivery

C = TypeVar("C", bound=Callable[..., Any])


def read_moment(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    """A time with its offset becomes one in UTC, as envelopes have it."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError
        return time_text(moment.astimezone(UTC))
    except (ValueError, OverflowError):
        expected = "a time with its offset, such as 2026-11-23T05:00:00Z or 2026-11-23T07:00+02:00"
        raise click.BadParameter(f"found {text!r}, expected {expected}") from None


def _activation(context: click.Context, option: click.Parameter, text: str | None) -> Document | None:
    """WHEN becomes `activation` of the order."""
    if text is None:
        return None
    when, _, what = text.partition(":")
    match when:
        case ActivateWhen.IMMEDIATELY | ActivateWhen.MANUAL if when == text:
            return {"when": when}
        case ActivateWhen.AT | ActivateWhen.METER if what:
            return {"when": when, "at": read_moment(context, option, what)}
        case ActivateWhen.WINDOW if what:
            return {"when": when, "window": what}
        case _:
            expected = "immediately, manual, at:TIME, meter:TIME or window:NAME"
            raise click.BadParameter(f"found {text!r}, expected {expected}")


def _complete_activation(_context: click.Context, _option: click.Parameter, begun: str) -> list[str]:
    return [word for word in ("immediately", "manual", "at:", "meter:", "window:") if word.startswith(begun)]


_ANY_ORDER = (
    click.option(
        "--window",
        metavar="NAME",
        shell_complete=WINDOWS,
        help="Only in the hours of this window; default: at any time.",
    ),
    click.option(
        "--activate",
        "activation",
        callback=_activation,
        shell_complete=_complete_activation,
        metavar="WHEN",
        help="When a meter that verified the image is told to run it: immediately (the default), manual (after"
        " `campaign approve`), at:TIME, window:NAME, or meter:TIME, which its own schedule is given.",
    ),
    click.option(
        "--not-after",
        callback=read_moment,
        metavar="TIME",
        help="What is not activated by then is cancelled, e.g. 2026-11-30T04:00:00Z.",
    ),
    click.option(
        "--priority", type=click.IntRange(0, 9), help="The line serves higher ones first; default: 5."
    ),
    click.option(
        "--delivery",
        type=click.Choice([each.value for each in Delivery]),
        help="How blocks go to the meters; default: unicast.",
    ),
    click.option(
        "--dry-run",
        is_flag=True,
        help="Only look at the meters, and say what would be done; nothing is changed.",
    ),
    click.option("--take-over", is_flag=True, help="Go on even where somebody else began a transfer."),
    click.option("--firmware-object", help="Where the version is read, e.g. 1-1:0.2.0.255."),
    click.option("--expect-version", help="What the meter must report afterwards."),
)
_OF_SEVERAL = (
    click.option(
        "--canary", type=click.IntRange(1), metavar="N", help="So many meters go first, the others if all went well."
    ),
    click.option(
        "--soak",
        "canary_soak",
        metavar="DURATION",
        help="So long after the last canary the others wait, e.g. 24h.",
    ),
    click.option("--wave", type=click.IntRange(1), metavar="N", help="So many of the others go at a time."),
    click.option(
        "--max-failures",
        type=click.IntRange(0),
        metavar="N",
        help="More failed meters than this pause the campaign; default: no number does.",
    ),
)  # fmt: skip


def order_options(command: C) -> C:
    """What can be said of any order."""
    return _with(command, _ANY_ORDER)


def group_options(command: C) -> C:
    """What makes sense for several meters."""
    return _with(command, _OF_SEVERAL)


def given(options: Document) -> Document:
    """Options that were named; a flag, where it is set."""
    return {key: value for key, value in options.items() if value is not None and value is not False}


def _with(command: C, options: tuple[Callable[[C], C], ...]) -> C:
    for option in reversed(options):
        command = option(command)
    return command
