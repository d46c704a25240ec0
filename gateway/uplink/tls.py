"""TLS towards the broker: whom we believe, who we are, and an end to waiting."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from gateway.model import MqttSettings
from gateway.tls import client_context

HANDSHAKE_TIMEOUT_S = 15.0
"""For the whole handshake; paho would wait for the keep-alive, which may be hours."""


class Tls:
    """Stands where paho expects an ssl.SSLContext, and does the handshake itself: within its time, and with the
    socket closed where it fails.

    The broker's certificate must come from `ca_file` (without one: from an authority that this machine trusts)
    and name the host of the URL, as RFC 6125 has it.
    """

    check_hostname = True
    """Tells paho that the name is looked at here."""

    def __init__(self, settings: MqttSettings) -> None:
        """Reads the files, each time anew: a renewed certificate counts from the next connection on. Raises
        OSError (ssl.SSLError is one)."""
        self._context = client_context(settings.ca_file, settings.cert_file, settings.key_file)

    def wrap_socket(self, sock: socket.socket, *, server_hostname: str, **_: Any) -> ssl.SSLSocket:
        sock.settimeout(HANDSHAKE_TIMEOUT_S)
        return self._context.wrap_socket(sock, server_hostname=server_hostname)
