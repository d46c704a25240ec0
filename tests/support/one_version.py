"""A broker that speaks one version of MQTT only: a door before a real mosquitto, which speaks them all."""

from __future__ import annotations

import socket

from support.door import Door

MQTT_311 = 4
MQTT_5 = 5
"""Protocol levels in CONNECT (MQTT 3.1.1 and 5.0, clause 3.1.2.2)."""

OLD_REFUSAL = b"\x20\x02\x00\x01"
"""What a broker says that knows nothing newer than MQTT 3.1.1 (clause 3.2.2.3)."""
NEW_REFUSAL = b"\x20\x03\x00\x84\x00"
"""What one may say that knows MQTT 5 and does not offer it (MQTT 5.0, clause 3.1.2.2)."""


class OneVersion(Door):
    """Lets connections of one protocol level through to the broker at `behind`, and refuses the others."""

    def __init__(self, behind: int, *, speaks: int = MQTT_311, refusal: bytes = OLD_REFUSAL) -> None:
        super().__init__(behind)
        self.speaks = speaks
        self.asked: list[int] = []
        """The protocol level of every connection."""
        self._refusal = refusal

    def admits(self, client: socket.socket, first: bytes) -> bool:
        # CONNECT: fixed header of 2 octets or, beyond 127, 3; then the name "MQTT" and the level.
        level = first[first.index(b"MQTT") + 4]
        self.asked.append(level)
        if level != self.speaks:
            client.sendall(self._refusal)
        return level == self.speaks
