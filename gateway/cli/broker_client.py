"""A gateway far away: the same commands, over a broker.

What needs this machine, or is let in at the gateway's own socket alone, is refused before anything is sent; so is
everything for a gateway that is offline, but for orders that are to wait for it (`--queue`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from gateway.cli.broker_options import NoBrokerError
from gateway.cli.client import (
    Document,
    GatewayClient,
    NoDaemonError,
    OrderQueuedError,
    RefusedError,
    envelope,
    unless_refused,
)
from gateway.cli.root import ASK_EVERY_S
from gateway.cli.text import remark
from gateway.clock import SystemClock
from gateway.control.schema import schema
from gateway.control.verbs import VERBS
from gateway.errors import Code
from gateway.model import TERMINAL_CAMPAIGN, TERMINAL_JOB, JobState, MqttSettings
from gateway.uplink.broker import NOBODY_HEARS, REFUSED, reason_text
from gateway.uplink.head_end import HeadEnd, Question, document_of
from gateway.uplink.paho_broker import PahoBroker

_TRIES = 3
"""To reach the broker at first; once it was reached it is waited for as long as it takes."""
_STEP_S = 0.1
RETAINED_S = 5.0
"""So long what is retained may take to come."""
QUIET_S = 0.5
"""After so long without anything that is retained, all of it has come."""
LONGEST_S = 60.0
_AT_ONCE = 500
"""Subscriptions: a broker holds back, and then drops, what one client does not read fast enough."""
_ASK_AFTER_S = 2.0
"""Where nothing is retained of a campaign, the gateway is asked."""
_LIVES = timedelta(minutes=10)
"""Of a command that is answered at once or given up: our clock and the gateway's may differ by some of it."""
_BROKER_KEEPS_S = 60
"""Of the same: a gateway that comes back later does not do what somebody gave up long ago."""
OFFLINE_PATIENCE_S = 900.0
"""So long whoever watches waits for a gateway that is offline, when there is nobody else to wait for."""

_INSTEAD = {
    "image.add": "serve FILE over the broker and order it as mqtt: (`update` does both, `image serve`), or name a URL",
    "counter.adopt": "do it at the gateway, after a look at the meter",
    "port.trace": "do it at the gateway",
}
_ORDERS = frozenset(name for name, verb in VERBS.items() if verb.changes and name.startswith("campaign."))
"""What makes sense later as well."""


class NoGatewayError(NoDaemonError):
    """The broker was reached, and the gateway was not."""


# -- one broker -----------------------------------------------------------------------------------------------


class PatientHeadEnd(HeadEnd):
    """For somebody who waits for what comes. Opens nothing before it is reached."""

    def __init__(self, settings: MqttSettings) -> None:
        name = f"cli-{secrets.token_hex(6)}"
        broker = PahoBroker(settings, f"mgw-{name}", keeps_session=False)
        super().__init__(broker, root=settings.root, name=name, clock=SystemClock())
        self.say: Callable[[str], object] = remark
        """Told news of the connection."""
        self._url = settings.url

    def reach(self) -> None:
        """Until the broker took us in. Raises NoBrokerError."""
        while not self.up:
            self.step(_STEP_S)
            if self.failed_tries >= _TRIES:
                raise NoBrokerError(f"the broker at {self._url} was not reached: {self.trouble}")

    def wait(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Exchange with the broker, at least once, until the condition holds or the time is over; whether it holds."""
        end_s = time.monotonic() + timeout_s
        left_s = timeout_s
        while not condition():
            if left_s < 0:
                return False
            for news in self.step(min(left_s, _STEP_S)):
                self.say(news)
            left_s = end_s - time.monotonic()
        return True

    def settle(self, quiet_s: float, timeout_s: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Until it is enough, or nothing came for so long: then what is retained has come."""
        end_s = time.monotonic() + timeout_s
        while not enough() and self._something_comes(quiet_s) and time.monotonic() < end_s:
            pass

    def hear_each(self, topics: Sequence[tuple[str, str]]) -> None:
        """Subscribe to these, each a gateway and what is beneath it, and take what is retained there."""
        for first in range(0, len(topics), _AT_ONCE):
            lot = frozenset(topics[first : first + _AT_ONCE])
            for gateway, topic in lot:
                self.hear(gateway, topic)
            self.wait(lambda: self.up, LONGEST_S)
            self.settle(QUIET_S, LONGEST_S, partial(lot.issubset, self.told))

    def _something_comes(self, timeout_s: float) -> bool:
        before = self.deliveries
        return self.wait(lambda: self.deliveries != before, timeout_s)


# -- one gateway ----------------------------------------------------------------------------------------------


class BrokerClient(GatewayClient):
    """One gateway over a broker; nothing is opened before the first command."""

    def __init__(
        self,
        settings: MqttSettings,
        gateway: str,
        *,
        queue_s: float = 0.0,
        head_end: PatientHeadEnd | None = None,
    ) -> None:
        """`queue_s`: so long orders may wait at the broker for a gateway that is offline. `head_end`: of somebody who
        reached the broker already, and knows the gateway's state."""
        super().__init__()
        self.gateway = gateway
        self._settings = settings
        self._queue_s = queue_s
        self._shared = head_end is not None
        self._head_end = head_end or PatientHeadEnd(settings)
        self._questions: dict[str, tuple[str, Question, int]] = {}
        """By cmd_id: verb, what was sent, how many replies were taken."""
        self._looking: set[str] = set()
        self._ask_at_s = 0.0
        self._offline_since_s: float | None = None

    def tell(self, say: Callable[[str], object]) -> None:
        self._head_end.say = say

    def close(self) -> None:
        if not self._shared:
            self._head_end.close()

    def look(self, verb: str, args: Mapping[str, Any]) -> Document:
        """A campaign from what the gateway tells by itself: it is asked only where nothing is retained. Once something
        was seen, a broker that is away is waited for, and a gateway for a quarter of an hour."""
        if verb == "campaign.get":
            if seen := self._see(args["campaign_id"]):
                self._be_patient()
                return seen
            self._head_end.wait(lambda: time.monotonic() >= self._ask_at_s, ASK_EVERY_S)
            self._ask_at_s = time.monotonic() + ASK_EVERY_S
        return super().look(verb, args)

    def _see(self, campaign_id: str) -> Document | None:
        head_end = self._head_end
        if campaign_id not in self._looking:
            self._reach()
            head_end.hear(self.gateway, f"campaign/{campaign_id}", qos=1)
            head_end.hear(self.gateway, f"progress/{campaign_id}", f"progress/{campaign_id}/+")
            head_end.wait(lambda: campaign_of(head_end, self.gateway, campaign_id), _ASK_AFTER_S)
            self._looking.add(campaign_id)
        head_end.settle(0.0, _STEP_S)
        campaign = campaign_of(head_end, self.gateway, campaign_id)
        if campaign is None:
            return None
        topics = [(self.gateway, topic) for topic in job_topics(campaign)]
        head_end.hear_each([topic for topic in topics if topic not in head_end.told])
        jobs = jobs_of(head_end, self.gateway, campaign)
        ended = campaign["state"] in TERMINAL_CAMPAIGN
        if len(jobs) < len(topics) or (ended and any(job["state"] not in TERMINAL_JOB for job in jobs)):
            return None  # a broker does not keep everything for whoever reads slowly
        return {"campaign": campaign, "jobs": jobs}

    def put(self, verb: str, args: Mapping[str, Any]) -> str:
        """Send a command, and wait for nothing; its cmd_id. The broker was reached before. Raises RefusedError,
        NoGatewayError."""
        queue = self._check(verb)
        command = envelope(verb, args, timedelta(seconds=self._queue_s) if queue else _LIVES)
        question = self._head_end.ask(
            self.gateway,
            verb,
            command["cmd_id"],
            self._sign(verb, command),
            expiry_s=int(self._queue_s) if queue else _BROKER_KEEPS_S,
        )
        self._questions[command["cmd_id"]] = (verb, question, 0)
        if queue:
            self._leave_at_broker(verb, question)
        return str(command["cmd_id"])

    def answer(self, cmd_id: str) -> Document | None:
        """The next reply that came, or None. Raises RefusedError, and NoGatewayError where the broker refused the
        command."""
        verb, question, taken = self._questions[cmd_id]
        if len(question.replies) > taken:
            self._questions[cmd_id] = (verb, question, taken + 1)
            reply = question.replies[taken]
            if reply["status"] != "accepted":
                self._head_end.forget(cmd_id)
            return unless_refused(_with_clocks(reply))
        if question.broker_said is not None and question.broker_said >= REFUSED:
            raise NoGatewayError(
                f"the broker refuses {question.message.topic}: {reason_text(question.broker_said)};"
                " nothing reached the gateway"
            )
        return None

    def silent(self, cmd_id: str) -> NoGatewayError:
        """What to say of a command that was not answered in time."""
        verb, question, _ = self._questions[cmd_id]
        self._head_end.forget(cmd_id)
        state = self._head_end.states.get(self.gateway, {})
        if not self._head_end.up:
            why = f"the broker was lost: {self._head_end.trouble}"
        elif not state.get("online"):
            why = "it has gone offline"
        elif question.broker_said == NOBODY_HEARS:
            why = "the broker says that nobody hears its commands; may it read its cmd/#?"
        else:
            why = f"may this user read {question.message.response_topic}, and the gateway write it?"
        return NoGatewayError(
            f"gateway {self.gateway} did not answer {verb} in time ({why}). Whether it was done is not known"
        )

    # -- GatewayClient ----------------------------------------------------------------------------------------

    def _gateway_id(self) -> str:
        return self.gateway

    def _send(self, verb: str, args: Mapping[str, Any], file: int | None) -> str:
        _refuse_local(verb, self.gateway)
        self._reach()
        return self.put(verb, args)

    def _reply(self, cmd_id: str, timeout_s: float) -> Document:
        found: list[Document] = []

        def came() -> bool:
            found.extend(filter(None, [self.answer(cmd_id)]))
            return bool(found)

        if not self._head_end.wait(came, timeout_s):
            raise self.silent(cmd_id)
        return found[0]

    # -- is it there? -----------------------------------------------------------------------------------------

    def _reach(self) -> None:
        """The broker, and what the gateway says of itself: `info` first, so that it is there when `state` is."""
        if self._shared:
            return
        self._head_end.hear(self.gateway, "info", "state")
        if not self._head_end.up and not self._looking:
            self._head_end.reach()
        self._head_end.wait(lambda: self.gateway in self._head_end.states, RETAINED_S)

    def _check(self, verb: str) -> bool:
        """Whether the order is for later. Raises RefusedError, NoGatewayError."""
        _refuse_local(verb, self.gateway)
        info = document_of(self._head_end.told.get((self.gateway, "info"), b""))
        if verb in info.get("verbs", ()) and verb not in info.get("mqtt_verbs", ()):
            raise _not_let_in(
                f"gateway {self.gateway} lets {verb} in at its own socket alone ([commands] mqtt_verbs)"
            )
        state = self._head_end.states.get(self.gateway)
        if state is None:
            raise NoGatewayError(
                f"gateway {self.gateway} never told this broker of itself, or this user may not read its `state`:"
                " check id and --root; nothing was sent"
            )
        if state["online"]:
            return False
        if self._queue_s and verb in _ORDERS:
            return True
        hint = "; --queue DURATION leaves the order with the broker" if verb in _ORDERS else ""
        raise NoGatewayError(f"{offline(self.gateway, state)}; nothing was sent{hint}")

    def _leave_at_broker(self, verb: str, question: Question) -> None:
        """Raises OrderQueuedError, and NoGatewayError where the broker keeps nothing for it."""
        self._head_end.wait(lambda: question.broker_said is not None, RETAINED_S)
        match question.broker_said:
            case None:
                raise NoGatewayError(f"the broker did not take {verb} for gateway {self.gateway}")
            case said if said == NOBODY_HEARS or said >= REFUSED:
                raise NoGatewayError(
                    f"gateway {self.gateway} is offline, and the broker keeps nothing for it: {reason_text(said)}"
                )
        raise OrderQueuedError(self.gateway, verb, self._queue_s)

    def _be_patient(self) -> None:
        state = self._head_end.states.get(self.gateway, {"online": True})
        if state["online"] or not self._head_end.up:
            self._offline_since_s = None
            return
        if self._offline_since_s is None:
            self._offline_since_s = time.monotonic()
            self._head_end.say(f"{offline(self.gateway, state)}; what it does is told later")
        if time.monotonic() - self._offline_since_s > OFFLINE_PATIENCE_S:
            raise NoGatewayError(f"{offline(self.gateway, state)}; look again later")


def offline(gateway: str, state: Document) -> str:
    """In words, for a state that says so. That of a Will is as old as the connection that was lost."""
    return f"gateway {gateway} is offline; it was connected at {state.get('ts', 'an unknown time')}, or later"


def _refuse_local(verb: str, gateway: str) -> None:
    if verb in VERBS and VERBS[verb].local:
        raise _not_let_in(f"{verb} is for the machine of gateway {gateway} alone: {_INSTEAD[verb]}")


def _not_let_in(message: str) -> RefusedError:
    return RefusedError(
        {
            "v": 1, "cmd_id": None, "status": "rejected", "code": Code.E_AUTH.value, "message": message,
            "retryable": False, "data": {},
        }
    )  # fmt: skip


def _with_clocks(reply: Document) -> Document:
    """A command is young when it is sent: where the gateway finds it too old, or from the future, clocks differ."""
    message = str(reply.get("message", ""))
    if reply.get("code") == Code.E_EXPIRED or "in the future of this gateway's clock" in message:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return {**reply, "message": f"{message}; this machine's clock says {now}: set the one that is wrong"}
    return reply


# -- what gateways tell of campaigns --------------------------------------------------------------------------


def job_topics(campaign: Document) -> list[str]:
    """Beneath a gateway, of each meter. Not one filter for all: of very many at once a broker leaves some out."""
    return [f"campaign/{campaign['campaign_id']}/job/{meter}" for meter in campaign["meters"]]


def campaign_of(head_end: HeadEnd, gateway: str, campaign_id: str) -> Document | None:
    """As the gateway told it last; None: nothing, or nothing that can be read."""
    campaign = _whole(head_end, gateway, f"campaign/{campaign_id}", "campaign")
    progress = head_end.told.get((gateway, f"progress/{campaign_id}"))
    if campaign and campaign["fetch"] and progress:
        said = document_of(progress)
        newer = {name: said[name] for name in campaign["fetch"] if name in said}
        campaign["fetch"] = {**campaign["fetch"], **newer}
    return campaign


def jobs_of(head_end: HeadEnd, gateway: str, campaign: Document | None) -> list[Document]:
    """Those that were heard, in their order."""
    if campaign is None:
        return []
    jobs = [_whole(head_end, gateway, topic, "job") for topic in job_topics(campaign)]
    return [_with_progress(head_end, gateway, job) for job in jobs if job]


def _with_progress(head_end: HeadEnd, gateway: str, job: Document) -> Document:
    raw = head_end.told.get((gateway, f"progress/{job['campaign_id']}/{job['meter']}"))
    if raw is None or job["state"] != JobState.TRANSFERRING:
        return job
    said = document_of(raw)
    if str(said.get("ts", "")) < job["ts"]:
        return job
    newer: Document = {name: said[name] for name in ("blocks_done", "blocks_total", "eta_s") if name in said}
    return {**job, **newer, **({"rate_bps": said["bytes_per_s"]} if "bytes_per_s" in said else {})}


def _whole(head_end: HeadEnd, gateway: str, topic: str, name: str) -> Document | None:
    """A document that has every field that it must have; what another version told may lack some."""
    raw = head_end.told.get((gateway, topic))
    document = document_of(raw) if raw else {}
    return document if document.keys() >= set(schema(name)["required"]) else None
