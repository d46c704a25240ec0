"""The alarm `certificate`: whoever must renew one hears of it in time, and that it is over."""

from __future__ import annotations

import re
import shutil
import signal
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.certificates import Authority
from support.orders import ask
from support.running import RunningGateway

from gateway.daemon.certificates import first_end, trouble_with_certificates
from gateway.model import CommandSettings, Config, FirmwareSettings, GatewaySettings, MqttSettings

NOW = datetime.now(UTC)
LONG = 1000.0


def config(mqtt: MqttSettings | None = None, **firmware: object) -> Config:
    settings = replace(FirmwareSettings(), **firmware)
    return Config(GatewaySettings(id="gw-001"), mqtt, CommandSettings(), settings, (), ())


def own(authority: Authority, *, left_days: float, age_days: float = 10) -> Path:
    return authority.sign("gw-001", age_days=age_days, days=age_days + left_days)[0]


def told_of(config: Config) -> str:
    """With its dates left out, for midnight comes to tests as well."""
    return re.sub(r"\d{4}-\d\d-\d\d", "DATE", trouble_with_certificates(config, NOW))


@pytest.mark.parametrize(
    ("left_days", "told"),
    [
        (400, ""),
        (31, ""),
        (29, "ends on DATE, within 30 days"),
        (8, "ends on DATE, within 30 days"),
        (6, "ends on DATE, within 7 days"),
        (-1, "ended on DATE"),
    ],
)
def test_the_end_of_our_own_certificate_is_told_a_month_a_week_and_when_it_has_come(
    tmp_path: Path, left_days: float, told: str
) -> None:
    authority = Authority(tmp_path)
    file = own(authority, left_days=left_days)
    found = told_of(config(MqttSettings("mqtts://b", cert_file=file)))
    assert found == (f"[mqtt] cert_file {file} (CN=gw-001) {told}" if told else "")
    found = told_of(config(cert_file=file))
    assert found == (f"[firmware] cert_file {file} (CN=gw-001) {told}" if told else "")


def test_a_certificate_that_does_not_count_yet_is_told(tmp_path: Path) -> None:
    file = own(Authority(tmp_path), left_days=LONG, age_days=-2)
    assert told_of(config(cert_file=file)).endswith("does not count before DATE")


def test_a_chain_is_as_short_as_its_shortest_link(tmp_path: Path) -> None:
    chain = tmp_path / "chain.pem"
    intermediate = Authority(tmp_path / "ca", days=21)
    chain.write_bytes(own(intermediate, left_days=LONG).read_bytes() + intermediate.file.read_bytes())
    found = told_of(config(cert_file=chain))
    assert found == f"[firmware] cert_file {chain} (CN=test authority) ends on DATE, within 30 days"


def test_an_authority_is_told_before_its_end_and_not_when_it_is_left_over_from_a_renewal(
    tmp_path: Path,
) -> None:
    def ca(*days: float) -> str:
        file = tmp_path / "ca.pem"
        pems = [
            Authority(tmp_path / str(number), days=1 + left).file.read_bytes()
            for number, left in enumerate(days)
        ]
        file.write_bytes(b"".join(pems))
        found = told_of(config(MqttSettings("mqtts://b", ca_file=file)))
        return found.removeprefix(f"[mqtt] ca_file {file} ").replace("(CN=test authority) ", "")

    assert ca(LONG) == ""
    assert ca(20) == "ends on DATE, within 30 days"
    assert ca(20, LONG) == "ends on DATE, within 30 days"
    assert ca(-0.5, LONG) == ""
    assert ca(-0.5).startswith("ended on")
    assert ca(*[20.0] * 3, *[LONG] * 20) == ""


def test_the_first_end_of_all_is_known(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    mqtt = MqttSettings("mqtts://b", cert_file=own(authority, left_days=40), ca_file=authority.file)
    end = first_end(config(mqtt, trusted_root=Authority(tmp_path / "root", days=21).file.read_bytes()), NOW)
    assert end is not None and timedelta(days=19) < end - NOW < timedelta(days=21)
    assert first_end(config(), NOW) is None


def test_the_root_of_signatures_counts_too_and_so_does_a_file_that_is_gone(tmp_path: Path) -> None:
    root = Authority(tmp_path, days=6).file.read_bytes()
    assert "[firmware] trusted_root (CN=test authority) ends on" in trouble_with_certificates(
        config(trusted_root=root), NOW
    )
    gone = tmp_path / "gone.pem"
    found = trouble_with_certificates(config(MqttSettings("mqtts://b", cert_file=gone)), NOW)
    assert found == f"[mqtt] cert_file {gone} cannot be read: No such file or directory"


def test_a_certificate_that_openssl_takes_and_we_cannot_read_is_told_and_ends_nobody(tmp_path: Path) -> None:
    """Of a version that there is none of: its DER has 4 where that of version 3 has 2 (RFC 5280, 4.1.2.1)."""
    file = own(Authority(tmp_path), left_days=LONG)
    der = ssl.PEM_cert_to_DER_cert(file.read_text()).replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x04")
    file.write_text(ssl.DER_cert_to_PEM_cert(der))
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    found = trouble_with_certificates(config(cert_file=file), NOW)
    assert found == f"[firmware] cert_file {file} has a certificate that cannot be read"


def test_the_alarm_comes_at_the_start_and_goes_with_a_renewed_file_and_a_reload(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    soon = authority.sign("gw-001", age_days=1, days=4)
    files = {"cert_file": tmp_path / "own.pem", "key_file": tmp_path / "own.key"}
    for file, made in zip(files.values(), soon, strict=True):
        shutil.copy(made, file)
    mqtt = {"url": "mqtts://127.0.0.1:1", "ca_file": str(authority.file)}
    mqtt |= {key: str(file) for key, file in files.items()}
    running = RunningGateway(tmp_path, meters=1, sections={"gateway": {"id": "gw-001"}, "mqtt": mqtt})
    try:
        running.start()
        running.wait_for("alarm: certificate: [mqtt] cert_file")
        alarm = ask(running, "info.get")["now"]["alarms"]["certificate"]
        assert alarm["kind"] == "certificate"
        assert "within 7 days" in alarm["message"] and "reload" in alarm["advice"]

        for file, made in zip(files.values(), authority.sign("gw-001", days=LONG), strict=True):
            shutil.copy(made, file)
        assert running.process is not None
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("alarm: certificate: over")
        now = ask(running, "info.get")["now"]
        assert now["alarms"] == {}
        assert datetime.fromisoformat(now["certificates"]["first_end"]) - NOW > timedelta(days=300)
    finally:
        running.close()


def test_a_clock_that_is_not_trusted_says_nothing_of_certificates(tmp_path: Path) -> None:
    """It may show 1970, or a year in which everything has ended; who comes to be trusted looks at once."""
    certificate, key = Authority(tmp_path / "ca").sign("gw-001", age_days=1, days=4)
    mqtt = {"url": "mqtts://127.0.0.1:1", "cert_file": str(certificate), "key_file": str(key)}
    synced = tmp_path / "synced"
    before = f"""
import os
from gateway.daemon import rounds
rounds.CLOCK_EVERY_S = 0.2
rounds.clock_state = lambda *_: "synced" if os.path.exists({str(synced)!r}) else "unsynced"
"""
    sections = {"gateway": {"id": "gw-001"}, "mqtt": mqtt}
    running = RunningGateway(tmp_path, meters=1, sections=sections, before=before)
    try:
        running.start()
        running.wait_for("alarm: clock: ")
        assert "alarm: certificate" not in running.said()
        synced.touch()
        running.wait_for("alarm: certificate: [mqtt] cert_file")
    finally:
        running.close()
