"""Which images are here, and getting and forgetting them by command."""

from __future__ import annotations

from datetime import datetime

import pytest
from support.desk import IMAGE, LOCAL, MQTT, SHA256, URL, Desk, order

from gateway.errors import Code
from gateway.model import Reply, ReplyStatus
from gateway.store.commands import ERRANDS_PER_PORT, SUPPLIER_ERRANDS

OTHER = "0" * 64


@pytest.fixture
def desk(tmp_path):
    opened = Desk(tmp_path)
    yield opened
    opened.close()


def refused(reply: Reply, code: Code, words: str = "") -> None:
    assert (reply.status, reply.code) == (ReplyStatus.REJECTED, code)
    assert words in reply.message


@pytest.mark.parametrize("origin", [LOCAL, MQTT], ids=["local", "mqtt"])
def test_the_list_tells_what_is_here_and_who_needs_it(desk, origin):
    desk.images.add([IMAGE])
    with desk.images.intake(OTHER, 1000) as intake:
        intake.write(0, b"x" * 400)
    desk.send("campaign.submit", order())
    data = desk.send("image.list", origin=origin).data
    part, whole = data["images"]
    assert datetime.fromisoformat(whole.pop("used_at")) >= datetime.fromisoformat(part.pop("used_at"))
    size = len(IMAGE)
    assert whole == {
        "sha256": SHA256, "size": size, "here": size, "complete": True, "needed_by": ["fw-1"], "manifest": None,
    }  # fmt: skip
    assert part == {
        "sha256": OTHER, "size": 1000, "here": 400, "complete": False, "needed_by": [], "manifest": None,
    }  # fmt: skip
    assert data["quota"] == desk.config.firmware.quota_bytes
    assert data["used"] >= size + 400


def test_an_image_is_deleted_once_no_open_campaign_needs_it(desk):
    desk.images.add([IMAGE])
    desk.send("campaign.submit", order())
    refused(desk.send("image.delete", {"sha256": SHA256}), Code.E_STATE, "campaign fw-1 needs the image")
    desk.send("campaign.cancel", {"campaign_id": "fw-1"})
    assert desk.send("image.delete", {"sha256": SHA256}).status is ReplyStatus.DONE
    refused(desk.send("image.delete", {"sha256": SHA256}, origin=MQTT), Code.E_NOT_FOUND)
    assert desk.send("image.list").data["images"] == []


def test_an_image_that_is_being_received_is_not_deleted(desk):
    with desk.images.intake(SHA256, None) as intake:
        intake.write(0, IMAGE[:10])
        refused(desk.send("image.delete", {"sha256": SHA256}), Code.E_BUSY)


@pytest.mark.parametrize("origin", [LOCAL, MQTT], ids=["local", "mqtt"])
def test_a_fetch_is_accepted_and_waits_for_the_supplier(desk, origin):
    reply = desk.send("image.fetch", {"sha256": SHA256, "url": URL, "size": len(IMAGE)}, origin=origin)
    assert reply.status is ReplyStatus.ACCEPTED
    errand = desk.store.take_errand(SUPPLIER_ERRANDS)
    assert (errand.cmd_id, errand.args) == (
        reply.cmd_id,
        {"sha256": SHA256, "url": URL, "size": len(IMAGE)},
    )


def test_a_fetch_that_a_restart_interrupted_is_still_wanted(desk):
    desk.send("image.fetch", {"sha256": SHA256, "url": URL})
    taken = desk.store.take_errand(SUPPLIER_ERRANDS)
    assert desk.store.take_errand(SUPPLIER_ERRANDS) is None
    desk.store.fail_running_errands()
    assert desk.store.reply_of(taken.cmd_id).status is ReplyStatus.ACCEPTED
    assert desk.store.take_errand(SUPPLIER_ERRANDS).cmd_id == taken.cmd_id


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ({"url": "https://evil.example/x"}, Code.F_POLICY, "images do not come from evil.example"),
        ({"url": "file:///etc/shadow"}, Code.F_POLICY, "is not a URL"),
        ({"url": "mqtt:"}, Code.E_SCHEMA, "size"),
        ({"size": 2**32 - 1}, Code.F_POLICY, "quota"),
        ({"sha256": "x"}, Code.E_SCHEMA, "args.sha256"),
        ({"url": ""}, Code.E_SCHEMA, "args.url"),
    ],
)
def test_a_fetch_that_could_not_be_is_refused_at_once(desk, args, code, words):
    refused(desk.send("image.fetch", {"sha256": SHA256, "url": URL, **args}), code, words)
    assert desk.store.take_errand(SUPPLIER_ERRANDS) is None


def test_only_so_many_fetches_wait(desk):
    for _ in range(ERRANDS_PER_PORT):
        desk.send("image.fetch", {"sha256": SHA256, "url": URL})
    busy = desk.send("image.fetch", {"sha256": SHA256, "url": URL})
    refused(busy, Code.E_BUSY, "wait for the supplier of images")
