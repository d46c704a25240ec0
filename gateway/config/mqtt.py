"""The section of the broker: where it is, how it knows us and we know it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.config import values as v
from gateway.config.files import credential
from gateway.config.table import Mistakes, Table, annotate
from gateway.errors import ConfigError
from gateway.model import MqttSettings

PASSWORD_CREDENTIAL = "mqtt-password"  # noqa: S105 (its name)
"""A credential of this name is the broker's password where there is a username and no password_file."""
_TLS_FILES = ("ca_file", "cert_file", "key_file")


def read_mqtt(table: Table) -> MqttSettings:
    """`[mqtt]`. What its files hold is looked at here, so that a wrong one shows before the broker is asked."""
    known = MqttSettings("")
    url = table.read("url", v.MQTT_URL, "", required=True)
    plaintext = table.read("allow_plaintext", v.BOOLEAN, False)
    parts = urlsplit(url)
    if parts.scheme == "mqtt":
        table.refuse("url is mqtt://, which goes without TLS", *_TLS_FILES)
        if not v.is_loopback(parts.hostname) and not plaintext:
            table.wrong(
                "url", '"mqtts://...", for only loopback goes without TLS unless allow_plaintext = true'
            )
    ca_file, cert_file, key_file = (_file(table, key) for key in _TLS_FILES)
    _check_tls_files(table, ca_file, cert_file, key_file)
    username = table.read("username", v.TEXT, known.username)
    settings = MqttSettings(
        url=url,
        root=table.read("root", v.TOPIC_ROOT, known.root),
        username=username,
        password=_password(table, username),
        keepalive_s=table.read("keepalive", v.duration("5s", "18h"), known.keepalive_s),
        session_expiry_s=table.read("session_expiry", v.duration("1min", "365d"), known.session_expiry_s),
        outbox_limit_bytes=table.read("outbox_limit", v.size("1MiB", "16GiB"), known.outbox_limit_bytes),
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
    file = _file(table, "password_file")
    if username and "password_file" not in table:
        file = credential(PASSWORD_CREDENTIAL)
    if file is None:
        return ""
    try:
        return file.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        table.wrong("password_file", "a readable file of UTF-8 text")
        return ""


def _file(table: Table, key: str) -> Path | None:
    path = table.read(key, v.PATH, Path())
    if path == Path():
        return None
    if not path.is_file():
        table.wrong(key, "a file that exists")
    return path


def _check_tls_files(table: Table, ca: Path | None, certificate: Path | None, key: Path | None) -> None:
    if certificate and not key:
        table.wrong("key_file", "the file of the private key, because there is a cert_file")
    if key and not certificate:
        table.wrong("cert_file", "the file of the certificate, because there is a key_file")
    if not (ca or certificate):
        return
    import ssl  # 20 ms, which those without TLS are spared

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name, file in (("ca_file", ca), ("cert_file", certificate)):
        try:
            context.load_verify_locations(file) if file else None
        except OSError:
            table.wrong(name, "a readable file with certificates in PEM")
    if certificate and key and not table.noted("cert_file"):
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")
        except OSError:
            table.wrong(
                "key_file", "a readable file with the private key of cert_file in PEM, without passphrase"
            )
