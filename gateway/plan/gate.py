"""What a campaign may do now: decided from its order, the windows and the clock, and from nothing else.

No window opens on a clock that is not trusted (invariant 10). Activation is ordered only where it fits before its
window ends, and what was ordered is looked after whatever the time (invariant 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.model import ActivateWhen, Campaign, PausedWhy, Profile, Window
from gateway.plan.windows import Opening, current, current_or_following, following

ACTIVATION_MARGIN_S = 60.0
"""Beyond the time in which its meter restarts: to associate with it and read its version."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Open or not, for the transfer and for the activation."""

    may_begin: bool = True
    """Another meter may be begun."""
    may_transfer: bool = True
    """The meters that were begun may be worked on."""
    activate_until: datetime | None = None
    """An activation has to be over by then; None: there is no end."""
    activation_waits_for: PausedWhy | None = None
    """Why none may be ordered now; None: one may."""
    why: PausedWhy | None = None
    """Why the transfer may not go on; None: it may."""
    opens_at: datetime | None = None
    """When the transfer may go on, where that is known."""
    activates_at: datetime | None = None
    """When activation may be ordered, where that is known."""
    look_at: datetime | None = None
    """When this answer may change by time alone; None: never."""

    def may_activate(self, now: datetime, needed_s: float) -> bool:
        """Whether an activation that needs so long until its outcome is known may be ordered."""
        if self.activation_waits_for is not None:
            return False
        return self.activate_until is None or now + timedelta(seconds=needed_s) <= self.activate_until


UNPROVEN = Gate(
    may_begin=False,
    may_transfer=False,
    activation_waits_for=PausedWhy.SIGNATURE,
    why=PausedWhy.SIGNATURE,
)
"""Of a campaign of which nobody can say at the moment who signed its image (`Store.unproven`)."""


def gate(campaign: Campaign, windows: Mapping[str, Window], now: datetime, *, clock_trusted: bool) -> Gate:
    """The gate of `campaign` at `now`. A window that is no longer configured never opens."""
    transfer = _Hours(windows.get(campaign.window), now, clock_trusted) if campaign.window else None
    own = transfer
    if campaign.activate_when is ActivateWhen.WINDOW:
        own = _Hours(windows.get(campaign.activate_window), now, clock_trusted)
    elif campaign.activate_when is ActivateWhen.AT:
        own = None
    waits_for, activates_at = _activation(campaign, own, now, clock_trusted=clock_trusted)
    return Gate(
        may_begin=transfer is None or transfer.may_begin,
        may_transfer=transfer is None or transfer.may_transfer,
        activate_until=_activate_until(campaign, own),
        activation_waits_for=waits_for,
        why=None if transfer is None else transfer.why,
        opens_at=None if transfer is None else transfer.opens_at,
        activates_at=activates_at,
        look_at=_earliest(now, campaign.activate_at, *_changes(transfer), *_changes(own)),
    )


def activation_needs_s(profile: Profile) -> float:
    """So long before the end of its window an activation has to be ordered, for its outcome to be known in time."""
    return profile.reconnect_after_s + ACTIVATION_MARGIN_S


def expired(campaign: Campaign, now: datetime, *, clock_trusted: bool) -> bool:
    """Whether the time of the order is over. A clock that is not trusted ends nothing."""
    return clock_trusted and campaign.not_after is not None and now >= campaign.not_after


def ever_opens(window: Window, now: datetime, not_after: datetime | None) -> bool:
    """Whether there will be an opening, and before the order is over."""
    opening = current_or_following(window, now)
    return opening is not None and (not_after is None or opening.start < not_after)


def _activate_until(campaign: Campaign, hours: _Hours | None) -> datetime | None:
    """A meter that is given a time activates at that time, whatever the window in which it is given it."""
    if campaign.activate_when is ActivateWhen.METER or hours is None or hours.opening is None:
        return None
    return hours.opening.end


def _activation(
    campaign: Campaign, hours: _Hours | None, now: datetime, *, clock_trusted: bool
) -> tuple[PausedWhy | None, datetime | None]:
    """What activation waits for, and until when."""
    if campaign.activate_when is ActivateWhen.MANUAL and not campaign.approved:
        return PausedWhy.APPROVAL, None
    if campaign.activate_when is ActivateWhen.AT:
        if not clock_trusted:
            return PausedWhy.CLOCK, campaign.activate_at
        early = campaign.activate_at is not None and now < campaign.activate_at
        return (PausedWhy.WINDOW, campaign.activate_at) if early else (None, None)
    if campaign.activate_when is ActivateWhen.METER and not clock_trusted:
        return PausedWhy.CLOCK, None
    if hours is None:
        return None, None
    to_be_written = campaign.activate_when is ActivateWhen.METER and not hours.may_transfer
    if hours.why is PausedWhy.CLOCK or hours.opening is None or to_be_written:
        return hours.why, hours.opens_at
    return None, None


class _Hours:
    """One window now."""

    def __init__(self, window: Window | None, now: datetime, clock_trusted: bool) -> None:
        self.opening: Opening | None = None
        self.opens_at: datetime | None = None
        self.why: PausedWhy | None = PausedWhy.WINDOW
        self.may_begin = self.may_transfer = False
        self.changes_at: tuple[datetime, ...] = ()
        if window is None:
            return
        if not clock_trusted:
            self.why = PausedWhy.CLOCK
            return
        opening, then = current(window, now), following(window, now)
        self.opens_at = then.start if then else None
        self.changes_at = (then.start,) if then else ()
        if opening is None:
            return
        self.opening = opening
        self.may_begin = now < min(opening.cutoff_at, opening.drain_at)
        self.may_transfer = now < opening.drain_at
        self.why = None if self.may_transfer else PausedWhy.WINDOW
        boundaries = (opening.cutoff_at, opening.drain_at, opening.end)
        self.changes_at += tuple(moment for moment in boundaries if moment > now)


def _changes(hours: _Hours | None) -> tuple[datetime, ...]:
    return () if hours is None else hours.changes_at


def _earliest(now: datetime, *moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None and moment > now), default=None)
