"""What an operator writes into gateway.toml, and what the gateway understands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import config
from gateway.errors import ConfigError
from gateway.model import Authentication, BitmapOrder, Framing, Parity, PortKind, Security, Trust

Write = Callable[..., Path]

REAL = """
[gateway]
id = "gw-001"
system_title = "4D47570000000001"
state_dir = "/srv/mgw"
timezone = "Europe/Helsinki"

[mqtt]
url = "mqtts://broker.example:8883"
username = "gw-001"
keepalive = "90s"
session_expiry = "7d"

[commands]
mqtt_verbs = ["ping", "campaign.*"]

[firmware]
trust = "digest"
allow_hosts = ["FW.example.net", "192.0.2.7"]
quota = "256MiB"

[[ports]]
name = "rs485-1"
kind = "rs485"
device = "/dev/serial/by-id/usb-FTDI"
baud = 19200
parity = "even"
response_timeout = "1500ms"

[[ports]]
name = "lan"
kind = "tcp"
address = "192.0.2.10:4059"

[[meters]]
id = "MTR0001"
port = "rs485-1"
physical_address = 17
authentication = "hls-gmac"
security = "both"
profile = "acme-x3"

[[meters]]
id = "MTR0002"
port = "lan"
logical_address = 300
authentication = "lls"

[profiles.acme-x3]
bitmap = "lsb"
verify_timeout = "45min"
"""

KEYS = """
[meters.MTR0001]
encryption_key = "000102030405060708090A0B0C0D0E0F"
authentication_key = "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF"
initial_counter = 7
[meters.MTR0002]
password = "hex:3132333435363738"
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)

    def write_files(settings: str, keys: str = "", **conf_d: str) -> Path:
        file = tmp_path / "gateway.toml"
        file.write_text(settings, "utf-8")
        if keys:
            (tmp_path / "keys.toml").touch(0o600)
            (tmp_path / "keys.toml").write_text(keys, "utf-8")
        for name, text in conf_d.items():
            (tmp_path / "conf.d").mkdir(exist_ok=True)
            (tmp_path / "conf.d" / f"{name}.toml").write_text(text, "utf-8")
        return file

    return write_files


def mistakes_of(file: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load(file)
    return list(caught.value.mistakes)


def test_a_real_configuration_becomes_the_model(write: Write) -> None:
    read = config.load(write(REAL, KEYS))
    assert read.gateway.id == "gw-001"
    assert read.gateway.system_title == bytes.fromhex("4D47570000000001")
    assert read.gateway.require_synced_clock
    assert read.mqtt is not None
    assert (read.mqtt.keepalive_s, read.mqtt.session_expiry_s, read.mqtt.root) == (90.0, 604800.0, "mgw/v1")
    assert read.commands.mqtt_verbs == ("ping", "campaign.*")
    assert read.firmware.trust is Trust.DIGEST
    assert read.firmware.allow_hosts == ("fw.example.net", "192.0.2.7")
    assert read.firmware.quota_bytes == 256 * 2**20
    serial, lan = read.ports
    assert (serial.kind, serial.baud, serial.parity) == (PortKind.RS485, 19200, Parity.EVEN)
    assert serial.response_timeout_s == 1.5
    assert (lan.kind, lan.framing, lan.address) == (PortKind.TCP, Framing.WRAPPER, "192.0.2.10:4059")
    first, second = read.meters
    assert (first.physical_address, first.logical_address) == (17, 1)
    assert (first.authentication, first.security) == (Authentication.HLS_GMAC, Security.BOTH)
    assert (first.profile.name, first.profile.bitmap) == ("acme-x3", BitmapOrder.LSB)
    assert first.profile.verify_timeout_s == 2700.0
    assert (second.logical_address, second.profile.name) == (300, "default")
    assert read.keys["MTR0001"].authentication_key[0] == 0xD0
    assert read.keys["MTR0001"].initial_counter == 7
    assert read.keys["MTR0002"].password == b"12345678"
    assert read.keys["MTR0002"].initial_counter is None


def test_an_empty_file_opens_nothing_and_connects_to_nothing(write: Write) -> None:
    read = config.load(write(""))
    assert (read.mqtt, read.ports, read.meters) == (None, (), ())
    assert read.firmware.trust is Trust.SIGNED


def test_conf_d_adds_meters_and_the_later_file_overrules_a_value(write: Write) -> None:
    file = write(
        REAL,
        KEYS,
        b='[gateway]\nid = "gw-b"\n[[meters]]\nid = "MTR0003"\nport = "rs485-1"\nphysical_address = 18\n',
        a='[gateway]\nid = "gw-a"\n[profiles.acme-x3]\nwindow = 3\n',
    )
    read = config.load(file)
    assert read.gateway.id == "gw-b"
    assert [meter.id for meter in read.meters] == ["MTR0001", "MTR0002", "MTR0003"]
    assert (read.meters[0].profile.window, read.meters[0].profile.bitmap) == (3, BitmapOrder.LSB)


def test_a_mistake_names_the_file_it_stands_in(write: Write) -> None:
    file = write(REAL, KEYS, extra='[[meters]]\nid = "MTR0003"\nport = "rs485-9"\n')
    (line,) = mistakes_of(file)
    assert line == (
        f'{file.parent}/conf.d/extra.toml: meters[2].port: found "rs485-9", '
        "expected the name of a port, lan, rs485-1"
    )


def test_ten_mistakes_are_reported_at_once(write: Write) -> None:
    file = write("""
[gateway]
id = "gw 001"
sytem_title = "4D47570000000001"
state_dir = "state"
[mqtt]
url = "mqtt://broker.example"
keepalive = 60
[firmware]
quota = "512MB"
[[ports]]
name = "p"
kind = "rs422"
baud = 9601
[[meters]]
id = "M"
port = "q"
client = 0
""")
    found = mistakes_of(file)
    assert [line.removeprefix(f"{file}: ").split(":")[0] for line in found] == [
        "gateway.id", "gateway.state_dir", "gateway.sytem_title", "mqtt.url", "mqtt.keepalive", "firmware.quota",
        "ports[0].kind", "ports[0].baud", "meters[0].port", "meters[0].client",
    ]  # fmt: skip
    assert all(" found " in line and ", expected " in line for line in found)
    assert found[2].endswith("found an unknown key, expected system_title")
    assert '"mqtts://..."' in found[3]


PORT = "[[ports]]\nname = 'p'\nkind = 'rs485'\ndevice = '/dev/x'\n"


@pytest.mark.parametrize(
    ("section", "path"),
    [
        (f"{PORT}[[meters]]\nid='m'\nport='p'\nsuite=1", "meters[0].suite"),
        (f"{PORT}[[meters]]\nid='m'\nport='p'\nauthentication='hls-ecdsa'", "meters[0].authentication"),
    ],
)
def test_what_is_not_built_yet_is_refused_by_name(write: Write, section: str, path: str) -> None:
    file = write(section)
    (line,) = mistakes_of(file)
    assert line.startswith(f"{file}: {path}: found ")
    assert "which is not supported yet" in line


@pytest.mark.parametrize(
    ("text", "class_id"),
    [
        ("0-0:96.3.10.255:2", 70), ("0-1:96.3.10.255:3", 70), ("0-0:1.0.0.255:4", 8), ("1-0:1.8.0.255:2", 3),
        ("0-0:96.14.0.255:2", 1), ("1-0:0.2.0.255:2", 1), ("3/0-0:96.14.0.255:2", 3), ("1/1-0:1.8.0.255:2", 1),
    ],
)  # fmt: skip
def test_a_health_check_names_its_class_where_the_object_has_not_the_usual_one(
    write: Write, text: str, class_id: int
) -> None:
    found = config.load(
        write(f"[profiles.a]\nhealth_checks = ['{text}']\n{PORT}[[meters]]\nid='m'\nport='p'\nprofile='a'")
    )
    (check,) = found.meters[0].profile.health_checks
    assert (check.class_id, check.number, check.text) == (class_id, int(text[-1]), text)
    assert check.object in text


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ("health_checks = ['0-0:96.3.10.255']", "health_checks"),
        ("health_checks = ['0-0:96.3.10.255:0']", "health_checks"),
        ("health_checks = ['0-0:96.3.10.255:128']", "health_checks"),
        ("health_checks = ['0-0:96.3.10.256:2']", "health_checks"),
        ("health_checks = ['0/0-0:96.3.10.255:2']", "health_checks"),
        ("health_checks = ['65536/0-0:96.3.10.255:2']", "health_checks"),
        ("health_checks = ['/0-0:96.3.10.255:2']", "health_checks"),
        ("health_checks = ['0-0:96.3.10.255:2', '0-0:96.3.10.255:2']", "health_checks"),
        ("health_failure = true", "health_failure"),
    ],
)
def test_a_health_check_that_is_none_is_refused(write: Write, lines: str, key: str) -> None:
    (line,) = mistakes_of(write(f"[profiles.a]\n{lines}"))
    assert f"profiles.a.{key}: found " in line


def test_what_is_not_built_yet_may_be_named_with_the_value_it_has(write: Write) -> None:
    config.load(write("[firmware]\nthreshold = 1\n[profiles.a]\nbroadcast = false\nidentifier = 'given'"))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("device = '/dev/x'\naddress = '192.0.2.1:1'", 'no such key, for this port has kind = "rs485"'),
        ("", "an absolute path"),
        ("device = 'ttyUSB0'", "an absolute path"),
        ("device = '/dev/x'\nparity = 'mark'", 'one of "none", "even", "odd"'),
        ("device = '/dev/x'\nattempts = true", "a whole number from 1 to 20"),
        ("device = '/dev/x'\nresponse_timeout = '2 s'", "a duration from"),
        ("device = '/dev/x'\nresponse_timeout = '10d'", "a duration from"),
    ],
)
def test_a_port_that_cannot_be(write: Write, lines: str, expected: str) -> None:
    (line,) = mistakes_of(write(f"[[ports]]\nname = 'p'\nkind = 'rs485'\n{lines}"))
    assert expected in line


HEAD = "[[ports]]\nname = 'p'\nkind = 'optical'\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "device = '/dev/x'\nbaud = 230400",
            "baud: found 230400, expected with mode E one of 300, 600, 1200,",
        ),
        (
            "device = '/dev/x'\nparity = 'even'",
            'parity: found "even", expected "none" or no such key, with mode E',
        ),
        (
            "device = 'socket://192.0.2.1:4001'",
            "mode_e: found nothing, expected false, for the rate behind socket://",
        ),
        ("device = '/dev/x'\nmode_e = 'no'", 'mode_e: found "no", expected true or false'),
    ],
)
def test_an_optical_port_that_cannot_be(write: Write, lines: str, expected: str) -> None:
    (line,) = mistakes_of(write(HEAD + lines))
    assert expected in line


def test_an_optical_port_signs_on_by_mode_e_unless_told_otherwise(write: Write) -> None:
    (port,) = config.load(write(f"{HEAD}device = '/dev/x'")).ports
    assert (port.mode_e, port.baud) == (True, 9600)
    direct = f"{HEAD}device = 'socket://192.0.2.1:4001'\nmode_e = false\nparity = 'even'\nbaud = 230400"
    assert not config.load(write(direct)).ports[0].mode_e


def test_only_an_optical_port_has_mode_e(write: Write) -> None:
    (line,) = mistakes_of(write(f"{PORT}mode_e = true"))
    assert line.endswith(
        'ports[0].mode_e: found true, expected no such key, for this port has kind = "rs485"'
    )


@pytest.mark.parametrize(
    ("device", "good"),
    [
        ("/dev/serial/by-id/usb-FTDI", True),
        ("rfc2217://serial.example:2217", True),
        ("rfc2217://[2001:db8::1]:2217", True),
        ("socket://192.0.2.1:4001", True),
        ("dev/ttyUSB0", False),
        ("socket://192.0.2.1", False),
        ("socket://192.0.2.1:4001/x", False),
        ("rfc2217://192.0.2.1:2217?logging=debug", False),
        ("loop://", False),
        ("http://192.0.2.1:80", False),
        ("rfc2217://user@192.0.2.1:2217", False),
    ],
)
def test_a_device_is_a_path_or_a_device_server(write: Write, device: str, good: bool) -> None:
    file = write(f"[[ports]]\nname = 'p'\nkind = 'rs485'\ndevice = '{device}'")
    if good:
        assert config.load(file).ports[0].device == device
    else:
        (line,) = mistakes_of(file)
        assert 'expected an absolute path, "rfc2217://host:port" or "socket://host:port"' in line


def test_meters_behind_one_head_are_told_apart_by_their_device_addresses(write: Write) -> None:
    port = f"{HEAD}device = '/dev/x'\n"
    meter = "[[meters]]\nid = '{}'\nport = 'p'\ndevice_address = '{}'\n"
    first, second = config.load(
        write(port + meter.format("a", "10001234") + meter.format("b", "AB 7"))
    ).meters
    assert (first.device_address, second.device_address) == ("10001234", "AB 7")
    (line,) = mistakes_of(write(port + meter.format("a", "1") + meter.format("b", "1")))
    assert "expected another address on port p than that of meter a" in line


@pytest.mark.parametrize(
    ("port", "address", "expected"),
    [
        (HEAD, "12-34", "expected 1 to 32 digits, letters and spaces"),
        (HEAD, "1" * 33, "expected 1 to 32 digits, letters and spaces"),
        (PORT.replace("device = '/dev/x'\n", ""), "1234", "for its port does not sign on by mode E"),
        (HEAD + "mode_e = false\n", "1234", "for its port does not sign on by mode E"),
    ],
)
def test_a_device_address_that_cannot_be(write: Write, port: str, address: str, expected: str) -> None:
    meter = f"[[meters]]\nid = 'm'\nport = 'p'\ndevice_address = '{address}'\n"
    (line,) = mistakes_of(write(f"{port}device = '/dev/x'\n{meter}"))
    assert "meters[0].device_address" in line and expected in line


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("physical_address = 16381\naddress_bytes = 4", True),
        ("physical_address = 126\naddress_bytes = 4", True),
        ("physical_address = 126", False),
        ("physical_address = 127", False),
        ("physical_address = 127\naddress_bytes = 2", False),
        ("physical_address = 128\naddress_bytes = 2", False),
        ("physical_address = 16383\naddress_bytes = 4", False),
        ("physical_address = 17\naddress_bytes = 1", False),
        ("logical_address = 0", False),
        ("address_bytes = 3", False),
    ],
)
def test_addresses_that_would_reach_every_meter_or_none_are_refused(
    write: Write, address: str, good: bool
) -> None:
    file = write(f"{PORT}[[meters]]\nid = 'm'\nport = 'p'\n{address}")
    if good:
        config.load(file)
    else:
        assert len(mistakes_of(file)) == 1


def test_two_meters_at_one_address_and_twins_of_any_name_are_refused(write: Write) -> None:
    meter = "[[meters]]\nid = 'm'\nport = 'p'\n"
    found = mistakes_of(write(PORT + PORT + meter + meter))
    assert [line.split(": ")[1] for line in found] == [
        "ports[1].name",
        "ports[1].device",
        "meters[1].id",
        "meters[1].physical_address",
    ]
    assert "than that of meter m" in found[3]


def test_a_device_by_its_name_and_by_a_link_to_it_is_one_line(write: Write, tmp_path: Path) -> None:
    (tmp_path / "ttyUSB0").touch()
    (tmp_path / "by-id").symlink_to("ttyUSB0")
    port = "[[ports]]\nname = '{0}'\nkind = 'rs485'\ndevice = '{1}'\n"
    found = mistakes_of(write(port.format("a", tmp_path / "by-id") + port.format("b", tmp_path / "ttyUSB0")))
    assert [line.split(": ")[1] for line in found] == ["ports[1].device"]
    assert "expected a device that no other port has" in found[0]


def test_behind_a_wrapper_only_the_logical_address_tells_meters_apart(write: Write) -> None:
    port = "[[ports]]\nname = 'p'\nkind = 'tcp'\naddress = '192.0.2.1:4059'\n"
    meter = "[[meters]]\nid = '{}'\nport = 'p'\nlogical_address = {}\n"
    config.load(write(port + meter.format("a", 1) + meter.format("b", 2)))
    (line,) = mistakes_of(write(port + meter.format("a", 1) + meter.format("b", 1)))
    assert "meters[1].logical_address" in line


def test_a_syntax_error_is_one_mistake_for_each_file(write: Write) -> None:
    file = write("[gateway\n", a="x = \n", b="[gateway]\nid = 7\n")
    first, second, third = mistakes_of(file)
    assert first.startswith(f"{file}: found a syntax error: ")
    assert second.startswith(f"{file.parent}/conf.d/a.toml: found a syntax error: ")
    assert third.startswith(f"{file.parent}/conf.d/b.toml: gateway.id: found 7, ")


def test_a_file_that_is_not_there_or_not_text(write: Write, tmp_path: Path) -> None:
    assert mistakes_of(tmp_path / "none.toml") == [
        f"{tmp_path}/none.toml: found no such file, expected a TOML file"
    ]
    file = write("")
    file.write_bytes(b"\xff\xfe")
    assert mistakes_of(file) == [f"{file}: found octets that are not UTF-8 at 0, expected UTF-8 text"]


def test_the_control_socket_is_found_without_looking_at_the_rest(write: Write) -> None:
    file = write('[gateway]\ncontrol_socket = "/run/x.sock"\n[[meters]]\nid = 7', "broken [")
    assert config.control_socket(file) == Path("/run/x.sock")
    assert config.control_socket(write("")) == Path("/run/meter-gateway/control.sock")
