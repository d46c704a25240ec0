"""Many gateways behind one broker: which of them are meant, one order to all of them, and how they are.

Everything goes over one connection. Whoever refuses, is offline or does not answer is told as such, and the others go
on. What gateways retain at the broker is read there: it costs their links nothing, and tells of those that are offline.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from types import TracebackType
from typing import Any, Self

import click

from gateway.cli.broker_client import (
    LONGEST_S,
    QUIET_S,
    RETAINED_S,
    BrokerClient,
    NoGatewayError,
    PatientHeadEnd,
    offline,
)
from gateway.cli.broker_options import is_pattern
from gateway.cli.client import Document, OrderQueuedError, RefusedError
from gateway.cli.root import Desk, Exit
from gateway.cli.text import counts, folded, say_json, table
from gateway.errors import Code
from gateway.uplink.head_end import document_of

_REPLIES_S = 30.0
_NO_METERS = "there is no meter"
"""What a gateway says that has none of a port, of a profile, or at all."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one gateway made of an order."""

    gateway: str
    status: str
    """Of its reply; else `queued`, `unreached`, or `nothing to do`."""
    code: str = ""
    message: str = ""
    advice: str = ""
    data: Document = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return self.status in ("accepted", "done", "queued", "nothing to do")

    @property
    def at_work(self) -> bool:
        """There is something to be watched."""
        return self.good and self.status != "nothing to do"

    def document(self) -> Document:
        return {
            "gateway": self.gateway, "status": self.status, "code": self.code or None, "message": self.message,
            "advice": self.advice, "data": self.data,
        }  # fmt: skip


class Fleet:
    """The gateways that were named, as a context manager. Raises NoBrokerError, and NoGatewayError where a pattern
    matches none and no id was named."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.settings = desk.broker_settings()
        self.head_end = PatientHeadEnd(self.settings)
        self.named = frozenset(name for name in desk.gateway if not is_pattern(name))
        """By their ids: what these lack is a failure."""
        self.gateways: list[str] = []
        """Those that told the broker of themselves, and those that were named by id, sorted."""

    def __enter__(self) -> Self:
        patterns = list(filter(is_pattern, self.desk.gateway))
        states = self.head_end.states
        for name in ("+",) if patterns else sorted(self.named):
            self.head_end.hear(name, "state")
        self.head_end.reach()
        if patterns:
            self.head_end.settle(QUIET_S, LONGEST_S)
        else:
            self.head_end.wait(lambda: states.keys() >= self.named, RETAINED_S)
        found = {name for name in states if any(fnmatchcase(name, pattern) for pattern in patterns)}
        self.gateways = sorted(found | self.named)
        if not self.gateways:
            self.head_end.close()
            raise NoGatewayError(
                f"none of the {len(states)} gateways that this broker tells of matches {' or '.join(patterns)}:"
                " check --gateway, --root, and whether this user may read their `state`"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.head_end.close()

    def online(self, gateway: str) -> bool:
        return bool(self.state(gateway).get("online"))

    def state(self, gateway: str) -> Document:
        """What it says of its connection; empty where it never told anything."""
        return self.head_end.states.get(gateway, {})

    def absence(self, gateway: str) -> str:
        """Why it is not there, in words; empty for one that is online."""
        if self.online(gateway):
            return ""
        state = self.state(gateway)
        return offline(gateway, state) if state else f"gateway {gateway} never told this broker of itself"

    def order(
        self, verb: str, args: Mapping[str, Any], lacks: Callable[[RefusedError], bool]
    ) -> list[Outcome]:
        """Give one order to all of them. `lacks`: a refusal that says that a gateway has nothing to do with it, which
        counts as such where the gateway was not named by its id."""
        keys = self.desk.keys()
        under_way: dict[str, tuple[BrokerClient, str]] = {}
        outcomes: dict[str, Outcome] = {}

        def attempt(gateway: str, act: Callable[[], Outcome | None]) -> None:
            outcome = self._outcome(gateway, act, lacks)
            if outcome is not None:
                outcomes[gateway] = outcome
                under_way.pop(gateway, None)

        def put(gateway: str) -> None:
            client = BrokerClient(self.settings, gateway, queue_s=self.desk.queue_s, head_end=self.head_end)
            if keys:
                client.sign_with(keys)
            under_way[gateway] = client, client.put(verb, args)

        def take(gateway: str) -> Outcome | None:
            client, cmd_id = under_way[gateway]
            reply = client.answer(cmd_id)
            return None if reply is None else Outcome(gateway, reply["status"], data=reply["data"])

        for gateway in self.gateways:
            attempt(gateway, partial(put, gateway))
        end_s = time.monotonic() + _REPLIES_S
        while under_way and time.monotonic() < end_s:
            self.head_end.settle(0.05, 0.2)
            for gateway in list(under_way):
                attempt(gateway, partial(take, gateway))
        for gateway, (client, cmd_id) in under_way.items():
            outcomes[gateway] = Outcome(gateway, "unreached", message=client.silent(cmd_id).message)
        return [outcomes[gateway] for gateway in self.gateways]

    def _outcome(
        self, gateway: str, act: Callable[[], Outcome | None], lacks: Callable[[RefusedError], bool]
    ) -> Outcome | None:
        try:
            return act()
        except OrderQueuedError as queued:
            return Outcome(gateway, "queued", message=str(queued))
        except NoGatewayError as error:
            return Outcome(gateway, "unreached", message=error.message)
        except RefusedError as error:
            if gateway not in self.named and lacks(error):
                return Outcome(gateway, "nothing to do", message=error.message)
            status = str(error.reply["status"])
            return Outcome(gateway, status, error.reason, error.message, error.advice)


# -- orders ---------------------------------------------------------------------------------------------------


def submit(desk: Desk, args: Mapping[str, Any], *, watching: bool) -> int:
    """One campaign for all gateways that were named. A gateway that was found by a pattern and has no meter of the port
    or profile has nothing to do."""
    by_name = isinstance(args["targets"], list)
    with Fleet(desk) as fleet:
        outcomes = fleet.order(
            "campaign.submit", args, lambda error: not by_name and error.message.startswith(_NO_METERS)
        )
        if not watching or not any(one.at_work for one in outcomes):
            hint = f"see: meter-gateway campaign watch {args['campaign_id']}{desk.where}"
            return _tell(desk, outcomes, hint)
        from gateway.cli.fleet_watch import watch

        return watch(fleet, args["campaign_id"], outcomes)


def decide(desk: Desk, verb: str, campaign_id: str) -> int:
    """`campaign.pause` and the like, at all gateways that have the campaign."""
    with Fleet(desk) as fleet:
        outcomes = fleet.order(
            verb, {"campaign_id": campaign_id}, lambda error: error.reason == Code.E_NOT_FOUND
        )
    return _tell(desk, outcomes, "")


def _tell(desk: Desk, outcomes: Sequence[Outcome], hint: str) -> int:
    """0 where all of them took the order, and at least one has something to do with it."""
    succeeded = all(one.good for one in outcomes) and any(one.at_work for one in outcomes)
    if desk.as_json:
        say_json({"gateways": [one.document() for one in outcomes], "succeeded": succeeded})
    else:
        rows = [(one.gateway, one.status, _why(one)) for one in outcomes]
        click.echo(table(rows, head=("GATEWAY", "", "")))
        if any(one.at_work for one in outcomes) and hint:
            click.echo(hint)
        for line in advice((one.code, one.advice) for one in outcomes):
            click.echo(line, err=True)
    return Exit.DONE if succeeded else Exit.FAILED


def _why(one: Outcome) -> str:
    return f"{one.code}: {one.message}" if one.code else one.message


def advice(told: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Each code's once, for a person."""
    for code, words in dict.fromkeys(one for one in told if one[1]):
        yield from folded(f"{code}: {words}")


# -- status ---------------------------------------------------------------------------------------------------

_HEAD = ("GATEWAY", "", "SINCE", "CLOCK", "VERSION", "METERS", "CAMPAIGNS", "ALARMS")


def status(desk: Desk) -> int:
    """A line for each gateway, from what they retain at the broker: 0 where all of them are online."""
    with Fleet(desk) as fleet:
        topics = ("info", "alarm/+", "campaign/+")
        fleet.head_end.hear_each([(gateway, topic) for gateway in fleet.gateways for topic in topics])
        beneath: dict[str, dict[str, Document]] = {gateway: {} for gateway in fleet.gateways}
        for (gateway, topic), raw in sorted(fleet.head_end.told.items()):
            beneath[gateway][topic] = document_of(raw)
        told = [_standing(fleet, gateway, beneath[gateway]) for gateway in fleet.gateways]
    if desk.as_json:
        say_json({"gateways": told})
    else:
        click.echo(table([_row(one) for one in told], head=_HEAD))
        alarms = [(one["gateway"], alarm) for one in told for alarm in one["alarms"]]
        lines = [
            line for gateway, alarm in alarms for line in folded(f"{gateway}: {alarm.get('message', '')}")
        ]
        lines += advice((str(alarm.get("kind")), alarm.get("advice", "")) for _, alarm in alarms)
        if lines:
            click.echo("\n".join(["", *lines]))
    return Exit.DONE if all(one["online"] for one in told) else Exit.FAILED


def _standing(fleet: Fleet, gateway: str, beneath: Mapping[str, Document]) -> Document:
    return {
        "gateway": gateway,
        "online": fleet.online(gateway),
        "state": fleet.state(gateway) or None,
        "info": beneath.get("info"),
        "alarms": [document for topic, document in beneath.items() if topic.startswith("alarm/")],
        "campaigns": [document for topic, document in beneath.items() if topic.startswith("campaign/")],
    }


def _row(one: Document) -> tuple[object, ...]:
    state, info = one["state"] or {}, one["info"] or {}
    standing = "online" if one["online"] else "offline" if one["state"] else "unknown"
    return (
        one["gateway"], standing, str(state.get("ts", ""))[:19], state.get("clock", ""), info.get("version", ""),
        info.get("meters", ""), counts(Counter(str(each.get("state", "?")) for each in one["campaigns"])),
        len(one["alarms"]) or "",
    )  # fmt: skip
