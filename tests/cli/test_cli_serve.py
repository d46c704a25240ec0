"""`image serve`: a head-end's side of images over MQTT, as a process, with gateways that fetch from it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

import pytest
from support import contract
from support.block_fetch import BLOCK, Fetching, made_up
from support.broker import Mosquitto, password_file
from support.certificates import LOOPBACK, Authority
from support.head_end import HeadEnd
from support.patience import PATIENCE_S

from gateway.cli import main
from gateway.cli.root import Exit

IMAGE = made_up(40 * BLOCK + 9)

Serve = Callable[..., "Served"]


class Served:
    """`meter-gateway image serve` with these words more."""

    def __init__(self, directory: Path, *words: str) -> None:
        self.file = directory / "firmware.bin"
        self.file.write_bytes(IMAGE)
        command = [sys.executable, "-m", "gateway", "image", "serve", str(self.file), *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.first = self.out = self.err = ""

    def hears(self) -> Self:
        """Once gateways are heard; its first line says so."""
        self.first = self.process.stdout.readline()
        return self

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        self.out, self.err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.wait()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def serve_at(tmp_path: Path) -> Iterator[Serve]:
    """At the broker of this URL."""
    begun: list[Served] = []

    def run(url: str, *words: str) -> Served:
        begun.append(Served(tmp_path, "--broker", url, *words))
        return begun[-1]

    yield run
    for one in begun:
        one.process.kill()
        with suppress(ValueError):  # it was waited for
            one.process.communicate()


@pytest.fixture
def serve(serve_at: Serve, mosquitto: Mosquitto) -> Serve:
    return partial(serve_at, mosquitto.url)


def test_it_ends_when_every_gateway_that_was_named_has_the_image(
    serve: Serve, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    served = serve("--gateway", "gw-1", "--gateway", "gw-2").hears()
    fetching = [
        Fetching(mosquitto.url, tmp_path / name, IMAGE, gateway=name).start() for name in ("gw-1", "gw-2")
    ]
    assert served.wait() == Exit.DONE, served.err
    assert all(one.content == IMAGE for one in fetching)
    others = served.out.splitlines()
    digest = fetching[0].images.list()[0].sha256
    assert served.first == f"serving {served.file}: SHA-256 {digest}, {len(IMAGE)} bytes\n"
    assert others.count("gw-1: has the image") == others.count("gw-2: has the image") == 1
    assert served.err == ""


def test_for_scripts_it_reports_in_json_lines(serve: Serve, mosquitto: Mosquitto, tmp_path: Path) -> None:
    served = serve("--gateway", "gw", "--json", "--rate", "2MiB").hears()
    Fetching(mosquitto.url, tmp_path / "images", IMAGE).start()
    assert served.wait() == Exit.DONE
    first, *others = [json.loads(line) for line in [served.first, *served.out.splitlines()]]
    assert (first["size"], len(first["sha256"])) == (len(IMAGE), 64)
    assert others[-1] == {
        "gateway": "gw", "blocks_done": 41, "blocks_total": 41, "blocks_sent": 41, "done": True,
    }  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_for_all_it_serves_until_it_is_ended_and_says_what_becomes_of_gateways(
    serve: Serve, mosquitto: Mosquitto, tmp_path: Path, number: signal.Signals
) -> None:
    served = serve("--gateway", "all").hears()
    assert Fetching(mosquitto.url, tmp_path / "images", IMAGE, gateway="whoever").start().content == IMAGE
    assert served.end(number) == Exit.INTERRUPTED
    assert "keep what they have and ask again" in served.err


def test_what_gateways_say_that_is_wrong_is_told_once_and_harms_nobody(
    serve: Serve, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    good = {"size": len(IMAGE), "block": BLOCK, "from": 0, "bitmap": "/w==", "credit": 4}
    with contract.forgiven(), HeadEnd(mosquitto.port, "mgw/v1/bad/#") as bad:
        served = serve("--gateway", "bad", "--gateway", "gw").hears()
        digest = "0" * 64

        def say(payload: bytes, digest: str = digest) -> None:
            bad.publish(f"mgw/v1/bad/image/{digest}/get", payload)

        Fetching(mosquitto.url, tmp_path / "images", IMAGE).start()
        sha256 = served.first.partition("SHA-256 ")[2][:64]
        for _ in range(3):
            say(json.dumps(good).encode())  # of another image
            say(b"rubbish", sha256)
            say(json.dumps({**good, "credit": -1}).encode(), sha256)
            say(json.dumps({**good, "size": 7}).encode(), sha256)
            say(json.dumps({**good, "block": 1 << 30}).encode(), sha256)
            say(json.dumps({**good, "credit": 0}).encode(), sha256)
            say(json.dumps({**good, "from": 10**9}).encode(), sha256)
        say(json.dumps(good).encode(), sha256)
        blocks = bad.wait_for(f"mgw/v1/bad/image/{sha256}/block/3")
        assert blocks[0].payload == IMAGE[3 * BLOCK : 4 * BLOCK]
        say(json.dumps({**good, "bitmap": ""}).encode(), sha256)
        assert served.wait() == Exit.DONE
        told = served.err.splitlines()
        assert len(told) == len(set(told)) == 5
        assert f"bad asks for another image, {digest}" in served.err
        assert "bad expects 7 octets" in served.err
        sent = {one.topic.rpartition("/")[2] for one in bad.heard() if "/block/" in one.topic}
        assert sent == {"0", "1", "2", "3"}


def test_a_broker_that_refuses_us_or_is_not_there_ends_it_at_once(serve_at: Serve, tmp_path: Path) -> None:
    users = password_file(tmp_path, "head-end", "secret")
    with Mosquitto(tmp_path / "broker", settings=f"allow_anonymous false\npassword_file {users}") as strict:
        wrong = tmp_path / "wrong"
        wrong.write_text("a wrong one\n")
        user = (strict.url, "--username", "head-end", "--gateway", "gw", "--password-file")
        refused = serve_at(*user, str(wrong))
        assert refused.wait() == Exit.NO_DAEMON
        assert "not authori" in refused.err.lower()
        assert "a wrong one" not in refused.err + refused.out

        right = tmp_path / "right"
        right.write_text("secret\n")
        served = serve_at(*user, str(right))
        served.hears()
        assert served.end(signal.SIGINT) == Exit.INTERRUPTED

    gone = serve_at("mqtt://127.0.0.1:9", "--gateway", "gw")
    assert gone.wait() == Exit.NO_DAEMON
    assert "cannot connect to 127.0.0.1 port 9" in gone.err


def test_over_tls_both_sides_show_who_they_are(serve_at: Serve, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ours")
    (certificate, key), (ours, our_key) = authority.sign(LOOPBACK), authority.sign("head-end")
    settings = f"certfile {certificate}\nkeyfile {key}\ncafile {authority.file}\nrequire_certificate true"
    with Mosquitto(tmp_path / "broker", settings=settings) as broker:
        url = (f"mqtts://{LOOPBACK}:{broker.port}", "--gateway", "gw", "--ca-file", str(authority.file))
        served = serve_at(*url, "--cert-file", str(ours), "--key-file", str(our_key)).hears()
        assert "SHA-256" in served.first
        assert served.end(signal.SIGINT) == Exit.INTERRUPTED
        stranger = serve_at(*url)
        assert stranger.wait() == Exit.NO_DAEMON
        assert "was not reached: " in stranger.err


@pytest.mark.parametrize(
    "words",
    [
        ["--gateway", "gw"],
        ["--broker", "mqtt://127.0.0.1:1"],
        ["--broker", "mqtt://127.0.0.1:1", "--gateway", "gw/1"],
        ["--broker", "mqtt://127.0.0.1:1", "--gateway", "all", "--gateway", "gw"],
        ["--broker", "mqtt://127.0.0.1:1", "--gateway", "gw", "--rate", "fast"],
        ["--broker", "http://127.0.0.1:1", "--gateway", "gw"],
        ["--broker", "mqtt://192.0.2.1:1", "--gateway", "gw"],
        ["--broker", "mqtts://192.0.2.1:1", "--gateway", "gw", "--cert-file", __file__],
        ["--broker", "mqtts://192.0.2.1:1", "--gateway", "gw", "--root", "a/#"],
    ],
)
def test_wrong_usage_is_told_before_anything_is_done(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", "serve", __file__, *words]) == Exit.USAGE
    assert capsys.readouterr().err


def test_an_empty_file_is_no_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "empty"
    file.touch()
    assert (
        main(["image", "serve", str(file), "--broker", "mqtt://127.0.0.1:1", "--gateway", "all"])
        == Exit.FAILED
    )
    assert "F_SIZE" in capsys.readouterr().err
