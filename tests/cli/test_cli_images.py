"""Images as an operator adds, lists, shows and removes them, with a daemon and a real server."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from click.shell_completion import ShellComplete
from support import http_server as server_does
from support.http_server import ImageServer
from support.orders import update_all
from support.patience import eventually
from support.running import RunningGateway

from gateway.cli.client import Client
from gateway.cli.root import Desk, root


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    directory = tmp_path_factory.mktemp("gateway")
    running = RunningGateway(directory, meters=1)
    try:
        yield running.start()
    finally:
        running.close()


def new_image(size=2000):
    content = os.urandom(size)
    return content, hashlib.sha256(content).hexdigest()


@pytest.fixture
def stored(type_in, tmp_path):
    """An image that was handed over as a file; its digest."""
    content, digest = new_image()
    file = tmp_path / "image"
    file.write_bytes(content)
    assert type_in("image", "add", str(file)) == (0, f"{digest}  2000 bytes\n", "")
    return digest


def test_what_is_here_is_listed_and_shown_by_its_first_digits(type_in, stored):
    status, out, _ = type_in("image", "ls")
    assert status == 0
    [line] = [line for line in out.splitlines() if line.startswith(stored[:12])]
    assert line.split()[1:3] == ["2000", "whole"]
    assert "bytes are used" in out.splitlines()[-1]
    status, out, _ = type_in("image", "show", stored[:8].upper())
    assert status == 0
    assert stored in out
    assert "no open campaign" in out
    shown = json.loads(type_in("image", "show", stored, "--json")[1])
    listed = json.loads(type_in("image", "ls", "--json")[1])
    assert shown in listed["images"]
    assert (shown["sha256"], shown["size"], shown["complete"]) == (stored, 2000, True)


def test_an_image_is_removed_by_its_first_digits_unless_a_campaign_needs_it(gateway, type_in, stored):
    with Client(gateway.socket) as client:
        held = update_all("holds-it", stored) | {"activation": {"when": "manual"}}
        client.ask("campaign.submit", held)
    status, out, err = type_in("image", "rm", stored)
    assert (status, out) == (1, "")
    assert "E_STATE: campaign holds-it needs the image" in err
    assert "holds-it" in type_in("image", "ls")[1]
    type_in("campaign", "cancel", "holds-it")
    eventually(lambda: type_in("image", "rm", stored[:12])[0] == 0, gateway.said)
    status, _, err = type_in("image", "show", stored)
    assert status == 1
    assert f"no image {stored} is here" in err
    assert "image ls" in err


def test_an_image_is_fetched_from_a_url(type_in):
    content, digest = new_image(100_000)
    with ImageServer(content) as server:
        url_add = ("image", "add", server.url, "--sha256", digest)
        assert type_in(*url_add) == (0, f"{digest}  100000 bytes\n", "")
        assert json.loads(type_in(*url_add, "--json")[1]) == {"sha256": digest, "size": 100_000}
        assert len(server.requests) == 1, "it was here already"


def test_a_fetch_that_fails_says_why(type_in):
    content, digest = new_image()
    with ImageServer(content, server_does.status(404)) as server:
        status, out, err = type_in("image", "add", server.url, "--sha256", digest)
    assert (status, out) == (1, "")
    assert "F_HTTP" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("add", "http://127.0.0.1/x"), "needs --sha256 or --manifest"),
        (("add", "/nowhere/at/all"), "does not exist"),
        (("add", __file__, "--size", "5"), "FILE says it itself"),
        (("show", "xyz"), "expected hex digits"),
        (("rm", ""), "expected hex digits"),
    ],
)
def test_wrong_usage_is_told(type_in, words, says):
    status, _, err = type_in("image", *words)
    assert status == 2
    assert says in err


def test_digits_that_begin_several_digests_name_none(type_in, tmp_path):
    for number in range(17):  # more than there are digits
        file = tmp_path / str(number)
        file.write_bytes(os.urandom(10))
        type_in("image", "add", str(file))
    digests = [one["sha256"] for one in json.loads(type_in("image", "ls", "--json")[1])["images"]]
    digit = next(digest[0] for digest in digests if sum(d[0] == digest[0] for d in digests) > 1)
    status, _, err = type_in("image", "rm", digit)
    assert status == 2
    assert "expected more digits" in err


def test_digests_are_completed(gateway, stored):
    completion = ShellComplete(root, {"obj": Desk(config=gateway.config)}, "meter-gateway", "_X")
    found = completion.get_completions(["image", "show"], stored[:3])
    assert [item.value for item in found] == [stored[:12]]
    nobody = ShellComplete(
        root, {"obj": Desk(config=gateway.config.with_name("none.toml"))}, "meter-gateway", "_X"
    )
    assert nobody.get_completions(["image", "rm"], "") == []
