"""The section of the broker: where it is, how it knows us and we know it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.config import values as v
from gateway.config.files import credential
from gateway.config.table import Mistakes, Table, annotate
from gateway.config.tls_files import TLS_FILES, read_file, read_tls_files
from gateway.errors import ConfigError
from gateway.model import MqttSettings
from gateway.urls import is_loopback

PASSWORD_CREDENTIAL = "mqtt-password"  # noqa: S105 (its name)
"""A credential of this name is the broker's password where there is a username and no password_file."""


def read_mqtt(table: Table) -> MqttSettings:
    """`[mqtt]`. What its files hold is looked at here, so that a wrong one shows before the broker is asked."""
    known = MqttSettings("")
    url = table.read(
        "url",
        v.MQTT_URL,
        "",
        "The broker. Without a port, 8883 with TLS and 1883 without.",
        required=True,
    )
    plaintext = table.read("allow_plaintext", v.BOOLEAN, False, "Allows `mqtt://` to other machines.")
    parts = urlsplit(url)
    if parts.scheme == "mqtt":
        table.refuse("url is mqtt://, which goes without TLS", *TLS_FILES)
        if not is_loopback(parts.hostname) and not plaintext:
            table.wrong(
                "url", '"mqtts://...", for only loopback goes without TLS unless allow_plaintext = true'
            )
    ca_file, cert_file, key_file = read_tls_files(
        table,
        "Who must have signed the broker's certificate, in PEM. Without it: the authorities that this "
        "machine trusts.",
        "The certificate that the gateway shows to the broker, in PEM.",
        "Its private key, in PEM, without passphrase.",
    )
    username = table.read("username", v.TEXT, known.username, "User name at the broker.")
    settings = MqttSettings(
        url=url,
        root=table.read("root", v.TOPIC_ROOT, known.root, "What all topics begin with."),
        username=username,
        password=_password(table, username),
        keepalive_s=table.read(
            "keepalive",
            v.duration("5s", "18h"),
            known.keepalive_s,
            "MQTT keep-alive: so long may the line be silent.",
        ),
        session_expiry_s=table.read(
            "session_expiry",
            v.duration("1min", "365d"),
            known.session_expiry_s,
            "How long the broker keeps commands for an absent gateway.",
        ),
        outbox_limit_bytes=table.read(
            "outbox_limit",
            v.size("1MiB", "16GiB"),
            known.outbox_limit_bytes,
            "How much may wait for the broker on disk: from 80 % on new campaigns are refused, from 95 % on "
            "running ones pause.",
        ),
        ca_file=ca_file,
        cert_file=cert_file,
        key_file=key_file,
    )
    if "password_file" in table and not settings.username:
        table.wrong("username", "a user name, because there is a password_file")
    table.finish()
    return settings


def read_broker(**options: Any) -> MqttSettings:
    """The same keys as options of a command, those that were given. Raises ConfigError with every mistake."""
    mistakes = Mistakes()
    given = {key: value for key, value in options.items() if value}
    settings = read_mqtt(Table(annotate(given, Path("command line")), "", mistakes))
    if mistakes.lines:
        raise ConfigError(tuple(mistakes.lines))
    return settings


def _password(table: Table, username: str) -> str:
    file = read_file(
        table,
        "password_file",
        f"A file with the password. Without it the systemd credential `{PASSWORD_CREDENTIAL}`, where there is one and "
        "a `username`.",
    )
    if username and "password_file" not in table:
        file = credential(PASSWORD_CREDENTIAL)
    if file is None:
        return ""
    try:
        return file.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        table.wrong("password_file", "a readable file of UTF-8 text")
        return ""
