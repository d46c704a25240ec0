"""What the head-end hears, held against what it was promised: no gap in the audit, nothing that goes back, every
command answered once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from support.sim_broker import SimBroker
from support.world import BASE

_ENDS = {"succeeded", "partial", "failed", "cancelled", "expired", "updated", "skipped"}
_LAST = {"done", "failed", "rejected"}


class Told:
    """Looks at everything that is new to the head-end; `complain` takes what is wrong with it."""

    def __init__(self, broker: SimBroker, complain: Callable[[str], None]) -> None:
        self._broker = broker
        self._complain = complain
        self._read = 0
        self._events: dict[tuple[str, int], bytes] = {}
        self._highest_seq = 0
        self._snapshots: dict[str, dict[str, Any]] = {}
        self.replies: dict[str, list[dict[str, Any]]] = {}
        """By command, repetitions left out."""

    def look(self) -> None:
        heard = self._broker.heard
        while self._read < len(heard):
            message = heard[self._read]
            self._read += 1
            topic = message.topic.removeprefix(f"{BASE}/")
            if topic == "event":
                self._event(message.payload)
            elif topic.startswith("campaign/") and message.payload:
                self._snapshot(topic, json.loads(message.payload))
            elif topic == "rsp":
                self._reply(json.loads(message.payload))

    def _event(self, payload: bytes) -> None:
        event = json.loads(payload)
        seq = event["seq"]
        if self._events.setdefault((event["epoch"], seq), payload) != payload:
            self._complain(f"event {seq} was told in two ways")
        if seq > self._highest_seq + 1:
            self._complain(f"event {seq} follows {self._highest_seq}")
        self._highest_seq = max(self._highest_seq, seq)

    def _snapshot(self, topic: str, snapshot: dict[str, Any]) -> None:
        before = self._snapshots.get(topic)
        self._snapshots[topic] = snapshot
        if before is None:
            return
        if snapshot["rev"] < before["rev"]:
            self._complain(f"{topic} went back from rev {before['rev']} to {snapshot['rev']}")
        if snapshot["rev"] == before["rev"] and snapshot != before:
            self._complain(f"{topic} was told in two ways as rev {snapshot['rev']}")
        tried_again = before["state"] == "failed" and "/job/" in topic
        if before["state"] in _ENDS and snapshot["rev"] > before["rev"] and not tried_again:
            self._complain(f"{topic} had ended, {before['state']}, and is {snapshot['state']}")

    def _reply(self, reply: dict[str, Any]) -> None:
        known = self.replies.setdefault(str(reply["cmd_id"]), [])
        if reply in known:
            return
        if known and known[-1]["status"] in _LAST:
            self._complain(
                f"command {reply['cmd_id']} was answered {known[-1]['status']}, and {reply['status']}"
            )
        known.append(reply)
