"""Health checks: what the profile wants to be the same before and after an update.

Each is read once before anything is changed, and once when the meter has reported its new version.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.errors import Code
from gateway.model import HealthCheck, JobState
from gateway.transfer.steps import CheckHealth, Done, Failed, Goal, MeterView


def check_before(goal: Goal, seen: MeterView, state: JobState | None) -> CheckHealth | None:
    """What is still to be read; None: nothing."""
    known = {check.object for check in seen.health}
    for attribute in goal.profile.health_checks:
        if attribute.text not in known:
            return CheckHealth(attribute, state)
    return None


def check_after(goal: Goal, seen: MeterView) -> CheckHealth | None:
    """The same, of what was read before."""
    left = {check.object for check in seen.health if check.after is None}
    for attribute in goal.profile.health_checks:
        if attribute.text in left:
            return CheckHealth(attribute, JobState.CONFIRMING)
    return None


def noted(health: tuple[HealthCheck, ...], name: str, value: str) -> tuple[HealthCheck, ...]:
    """`health` with what was read now: before, where it was not read yet, else after."""
    if all(check.object != name for check in health):
        return (*health, HealthCheck(name, value))
    return tuple(replace(check, after=value) if check.object == name else check for check in health)


def updated(goal: Goal, seen: MeterView) -> Done | Failed:
    """The end of a meter that reports its new version, by what became of its health."""
    message = f"the meter reports {seen.version}"
    changed = [check for check in seen.health if check.after is not None and check.after != check.before]
    if not changed:
        return Done(JobState.UPDATED, message)
    message += "; " + ", ".join(f"{each.object} was {each.before}, is {each.after}" for each in changed)
    if goal.profile.health_failure:
        return Failed(Code.T_HEALTH, message)
    return Done(JobState.UPDATED, message)
