"""The utility's broker by the files under docs/broker, as they are: its paths and its port are those of a test."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

from support.broker import Mosquitto
from support.certificates import LOOPBACK, Authority

FILES = Path(__file__).parents[2] / "docs" / "broker"
_DEBIANS_OWN = """
persistence true
persistence_location {directory}/
include_dir {directory}/conf.d
log_type all
user root
"""
"""Debian's /etc/mosquitto/mosquitto.conf, whose words come before ours; the log is looked at by tests, and whoever is
started by root would become a user who may not write here."""


class Utility(Mosquitto):
    """A broker that lets in whom `authority` signed."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.authority = Authority(directory / "authority")
        self._own = directory / "broker.pem", directory / "broker.key"
        self.renew(*self.authority.sign(LOOPBACK))
        theirs = {
            "listener 8883": f"listener {self.port} {LOOPBACK}",
            "/etc/mosquitto/certs/meter-gateway-ca.pem": str(self.authority.file),
            "/etc/mosquitto/certs/broker.pem": str(self._own[0]),
            "/etc/mosquitto/certs/broker.key": str(self._own[1]),
            "/etc/mosquitto/meter-gateway.acl": str(directory / "acl"),
        }
        text = (FILES / "meter-gateway.conf").read_text("utf-8")
        for written, real in theirs.items():
            assert text.count(written) == 1
            text = text.replace(written, real)
        (directory / "conf.d").mkdir()
        (directory / "conf.d" / "meter-gateway.conf").write_text(text)
        (directory / "acl").write_text((FILES / "meter-gateway.acl").read_text("utf-8"))
        (directory / "acl").chmod(0o600)
        self.whole = directory / "mosquitto.conf"
        self.whole.write_text(_DEBIANS_OWN.format(directory=directory))

    @property
    def url(self) -> str:
        return f"mqtts://{LOOPBACK}:{self.port}"

    def identity(self, name: str) -> Mapping[str, Path]:
        """The files of somebody with that name."""
        certificate, key = self.authority.sign(name)
        return {"ca_file": self.authority.file, "cert_file": certificate, "key_file": key}

    def look_at_revocations(self) -> None:
        """By the line that is commented out; before it is started."""
        file = self.directory / "conf.d" / "meter-gateway.conf"
        line = "#crlfile /etc/mosquitto/certs/meter-gateway.crl"
        text = file.read_text()
        assert text.count(line) == 1
        file.write_text(text.replace(line, f"crlfile {self.authority.revoke()}"))

    def revoke(self, certificate: Path) -> None:
        """It counts no more; the running broker is told."""
        self.authority.revoke(certificate)
        self._reload()

    def renew(self, certificate: Path, key: Path) -> None:
        """Another certificate for the broker, which it takes at once if it runs."""
        for new, own in zip((certificate, key), self._own, strict=True):
            own.write_bytes(new.read_bytes())
        self._reload()

    def _reload(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)
