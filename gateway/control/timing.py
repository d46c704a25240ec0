"""When an order may be carried out: from the arguments of `campaign.submit` and `window.set` to windows and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.config import KNOWN_YEARS, read_duration_s, read_window
from gateway.errors import ConfigError, SchemaError, WindowError
from gateway.model import ActivateWhen, Meter, Window
from gateway.plan.gate import activation_needs_s, ever_opens
from gateway.plan.windows import current_or_following
from gateway.transfer.schedule import LEAD_S

LONGEST_SOAK_S = 90 * 86400.0
SOONEST_SCHEDULE_S = 600.0
"""A meter has to be found and to verify its image before it can be given a time."""


def read_timing(
    args: Mapping[str, Any],
    windows: Mapping[str, Window],
    now: datetime,
    *,
    clock_trusted: bool,
    covered_until: datetime | None = None,
) -> dict[str, Any]:
    """The fields of a Campaign that say when; what the image's manifest no longer covers (`covered_until`) is not
    activated either. Raises SchemaError, and WindowError for a window that is not known or does not open in time;
    without a trusted clock nobody knows that."""
    activation = args.get("activation", {"when": ActivateWhen.IMMEDIATELY})
    when = ActivateWhen(activation["when"])
    _check_named(activation, "window", needed=when is ActivateWhen.WINDOW)
    _check_named(activation, "at", needed=when in {ActivateWhen.AT, ActivateWhen.METER})
    timing: dict[str, Any] = {
        "window": args.get("window", ""),
        "activate_when": when,
        "activate_window": activation.get("window", ""),
        "activate_at": _moment(activation.get("at")),
        "not_after": _earlier(_moment(args.get("not_after")), covered_until),
        "canary": args.get("canary", 0),
        "canary_soak_s": read_duration_s(args["canary_soak"]) if "canary_soak" in args else 0.0,
        "wave": args.get("wave", 0),
        "max_failures": args.get("max_failures"),
    }
    if timing["canary_soak_s"] > LONGEST_SOAK_S:
        raise SchemaError(f"args.canary_soak: found {args['canary_soak']}, expected at most 90d")
    if "canary_soak" in args and not timing["canary"]:
        raise SchemaError("args.canary_soak: found one without canary, expected both")
    _check_times(timing, windows, now, clock_trusted=clock_trusted)
    return timing


def check_activation_fits(name: str, windows: Mapping[str, Window], meters: Sequence[Meter]) -> None:
    """Raises WindowError where a meter could never be activated, since the window `name` is too short for that."""
    lasts_s = windows[name].duration_s
    for meter in meters:
        if (needed_s := activation_needs_s(meter.profile)) > lasts_s:
            raise WindowError(
                f"window {name} lasts {lasts_s:.0f} s, and activating {meter.id} takes {needed_s:.0f} s"
                " (reconnect_after of its profile, and a minute)"
            )


def read_window_args(args: Mapping[str, Any], *, timezone: str) -> Window:
    """The window that `window.set` describes, in the words of the configuration. Raises SchemaError."""
    settings = {key: value for key, value in args.items() if key != "window"}
    try:
        return read_window(args["window"], settings, timezone=timezone)
    except ConfigError as error:
        raise SchemaError("; ".join(error.mistakes)) from None


def read_moment(text: str) -> datetime:
    """The time that an argument names. Raises SchemaError."""
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text).astimezone(UTC)
        if moment.year in KNOWN_YEARS:
            return moment
    raise SchemaError(f"{text!r}: no such time")


def _check_named(activation: Mapping[str, Any], key: str, *, needed: bool) -> None:
    when = activation["when"]
    if needed and key not in activation:
        raise SchemaError(f'args.activation: found no {key!r}, expected one for when = "{when}"')
    if not needed and key in activation:
        raise SchemaError(f'args.activation.{key}: found one, expected none for when = "{when}"')


def _check_times(
    timing: Mapping[str, Any], windows: Mapping[str, Window], now: datetime, *, clock_trusted: bool
) -> None:
    not_after, at = timing["not_after"], timing["activate_at"]
    for key, name in (("window", timing["window"]), ("activation.window", timing["activate_window"])):
        if name and name not in windows:
            known = ", ".join(sorted(windows)) or "there is none"
            raise WindowError(f"args.{key}: no window {name}; known: {known}")
    if not clock_trusted:
        return
    if not_after is not None and not_after <= now:
        raise SchemaError("args.not_after: found a time that has passed")
    if at is not None and not_after is not None and at >= not_after:
        raise SchemaError("args.activation.at: found a time that is not before not_after")
    soonest = now + timedelta(seconds=SOONEST_SCHEDULE_S)
    if timing["activate_when"] is ActivateWhen.METER and at < soonest:
        raise SchemaError(
            "args.activation.at: found a time that is less than 10 min ahead, too near for a meter's schedule"
        )
    for name in filter(None, (timing["window"], timing["activate_window"])):
        _check_opens(windows[name], now, not_after, "after not_after")
    if timing["window"] and timing["activate_when"] is ActivateWhen.METER:
        armed_until = at - timedelta(seconds=LEAD_S)
        _check_opens(windows[timing["window"]], now, armed_until, "too late for activation.at")
    if timing["window"] and timing["activate_window"]:
        _check_order(windows[timing["window"]], windows[timing["activate_window"]], now, not_after)


def _check_opens(window: Window, now: datetime, end: datetime | None, otherwise: str) -> None:
    if ever_opens(window, now, end):
        return
    opening = current_or_following(window, now)
    ends = (
        "never opens again"
        if opening is None
        else f"opens at {opening.start:%Y-%m-%d %H:%M} UTC, {otherwise}"
    )
    raise WindowError(f"window {window.name} {ends}")


def _check_order(transfer: Window, activation: Window, now: datetime, not_after: datetime | None) -> None:
    """What is transferred in one has to be activated in the other, then or later."""
    first = current_or_following(transfer, now)
    if first is not None and not ever_opens(activation, max(now, first.start), not_after):
        raise WindowError(
            f"windows {transfer.name} and {activation.name} contradict each other: nothing is transferred before"
            f" {first.start:%Y-%m-%d %H:%M} UTC, and {activation.name} does not open after that"
            + (" in time" if not_after else "")
        )


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((moment for moment in (one, other) if moment is not None), default=None)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else read_moment(text)
