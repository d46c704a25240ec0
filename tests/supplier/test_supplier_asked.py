"""An image that somebody wants to have here, without a campaign: it comes, or the reply says why not."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from support import http_server as server_does
from support.http_server import ImageServer

from gateway.board import SUPPLIER, Board
from gateway.errors import Code, NetError
from gateway.model import (
    Campaign,
    CampaignState,
    Command,
    Errand,
    FirmwareSettings,
    Image,
    Job,
    Reply,
    ReplyStatus,
    Trust,
)
from gateway.simulator.clock import VirtualClock
from gateway.store import Store
from gateway.store.commands import SUPPLIER_ERRANDS
from gateway.supplier import SOURCES, Supplier
from gateway.supply.images import ImageStore
from gateway.supply.source import Source, Wanted, Watch

CONTENT = hashlib.shake_128(b"firmware").digest(50_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SETTINGS = FirmwareSettings(trust=Trust.DIGEST)


class Gateway:
    """The part of a gateway that gets images."""

    def __init__(self, state_dir: Path, clock: VirtualClock, source: Source | None = None) -> None:
        self.clock = clock
        self.board = Board()
        self.store = Store(state_dir, gateway_id="gw", root="mgw/v1", clock=clock, board=self.board)
        self.images = ImageStore(state_dir / "images", 1_000_000, needed=self.store.needed_images)
        sources = {"http": source} if source else SOURCES
        self.supplier = Supplier(
            self.store, self.images, SETTINGS, clock, self.board, sources=sources, random=Random("asked")
        )
        self.store.fail_running_errands()

    def ask(self, url: str) -> str:
        command = self.command("image.fetch")
        args = {"sha256": SHA256, "url": url}
        self.store.add_errand(command, Errand(command.cmd_id, command.verb, SUPPLIER_ERRANDS, "", args))
        return command.cmd_id

    def order(self, url: str) -> None:
        campaign = Campaign("fw-1", SHA256, b"FW", ("M1",), self.clock.now(), url=url)
        self.store.submit_campaign(self.command("campaign.submit"), campaign, [Job("fw-1", "M1", "p")])

    def command(self, verb: str) -> Command:
        now = self.clock.now()
        cmd_id = str(uuid.uuid4())
        return Command(cmd_id, verb, {}, now, now + timedelta(hours=1), cmd_id, "test")

    def answer(self, cmd_id: str) -> Reply:
        """The last one, after stepping as the daemon would, for a day of its clock at most."""
        until = self.clock.monotonic() + 86_400
        while self.clock.monotonic() < until:
            reply = self.store.reply_of(cmd_id)
            assert reply is not None
            if reply.status is not ReplyStatus.ACCEPTED:
                return reply
            wake_at = self.supplier.step().wake_at
            assert wake_at is not None
            self.clock.advance(max(0.0, wake_at - self.clock.monotonic()))
        pytest.fail("no answer in a day")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def gateway(tmp_path: Path, clock: VirtualClock) -> Iterator[Gateway]:
    opened = Gateway(tmp_path, clock)
    yield opened
    opened.store.close()


def test_it_comes_and_the_reply_says_so(gateway: Gateway) -> None:
    with ImageServer(CONTENT) as server:
        reply = gateway.answer(gateway.ask(server.url))
    assert (reply.status, reply.data) == (ReplyStatus.DONE, {"sha256": SHA256, "size": len(CONTENT)})
    assert gateway.images.read(SHA256) == CONTENT


def test_the_supplier_is_woken(gateway: Gateway) -> None:
    gateway.ask("http://127.0.0.1/x")
    assert gateway.board.bell(SUPPLIER).is_set()


def test_one_that_is_here_already_is_not_fetched(gateway: Gateway) -> None:
    gateway.images.add([CONTENT])
    with ImageServer(CONTENT) as server:
        assert gateway.answer(gateway.ask(server.url)).status is ReplyStatus.DONE
        assert server.requests == []


def test_it_is_no_progress_of_any_campaign(tmp_path: Path, clock: VirtualClock) -> None:
    seen = []

    def source(wanted: Wanted, images: ImageStore, *, watch: Watch, **_: object) -> Image:
        clock.advance(5)
        watch.came(100, 100, len(CONTENT))
        seen.append(gateway.board.values("fetch"))
        return images.add([CONTENT])

    gateway = Gateway(tmp_path, clock, source)
    assert gateway.answer(gateway.ask("http://127.0.0.1/x")).status is ReplyStatus.DONE
    gateway.store.close()
    assert seen == [{}]


def test_a_server_that_is_busy_for_a_while_is_asked_again(gateway: Gateway) -> None:
    with ImageServer(CONTENT, server_does.status(503), server_does.truncated) as server:
        assert gateway.answer(gateway.ask(server.url)).status is ReplyStatus.DONE


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [(server_does.status(404), Code.F_HTTP), (server_does.one_bit_wrong, Code.F_DIGEST)],
    ids=["no such file", "other bytes"],
)
def test_what_will_not_change_ends_it_at_once(
    gateway: Gateway, behaviour: server_does.Behaviour, code: Code
) -> None:
    with ImageServer(CONTENT, behaviour) as server:
        reply = gateway.answer(gateway.ask(server.url))
        assert len(server.requests) == 1
    assert (reply.status, reply.code) == (ReplyStatus.FAILED, code)
    assert reply.data["advice"]
    assert gateway.images.has(SHA256) is None


def test_a_server_that_is_never_there_is_given_up(gateway: Gateway) -> None:
    with ImageServer(CONTENT, *[server_does.hang_up] * 100) as server:
        reply = gateway.answer(gateway.ask(server.url))
    assert (reply.status, reply.code) == (ReplyStatus.FAILED, Code.F_NET)
    assert "given up" in reply.message


def test_a_restart_goes_on_with_what_came(tmp_path: Path, clock: VirtualClock) -> None:
    def broken(wanted: Wanted, images: ImageStore, *, settings: FirmwareSettings, watch: Watch) -> Image:
        with images.intake(wanted.sha256, wanted.size) as intake:
            intake.write(0, CONTENT[:20_000])
        raise NetError("the line was cut")

    first = Gateway(tmp_path, clock, broken)
    cmd_id = first.ask("http://127.0.0.1/x")
    first.supplier.step()
    first.store.close()

    def rest(wanted: Wanted, images: ImageStore, *, settings: FirmwareSettings, watch: Watch) -> Image:
        with images.intake(wanted.sha256, wanted.size) as intake:
            assert intake.spans == ((0, 20_000),)
            intake.write(20_000, CONTENT[20_000:])
            return intake.finish()

    second = Gateway(tmp_path, clock, rest)
    assert second.answer(cmd_id).status is ReplyStatus.DONE
    second.store.close()


def test_who_asked_for_another_image_does_not_wait_for_a_server_that_drips(
    tmp_path: Path, clock: VirtualClock
) -> None:
    def source(wanted: Wanted, images: ImageStore, *, settings: FirmwareSettings, watch: Watch) -> Image:
        while wanted.url.endswith("drips") and not gateway.images.has(SHA256):
            clock.advance(1)
            watch.came(1, 1, None)
            if watch.stop():
                raise NetError("stopped")
        return images.add([CONTENT])

    gateway = Gateway(tmp_path, clock, source)
    first = gateway.ask("http://127.0.0.1/drips")
    second = gateway.ask("http://127.0.0.1/x")
    began_s = clock.monotonic()
    assert gateway.answer(second).status is ReplyStatus.DONE
    assert clock.monotonic() - began_s < 3600
    assert gateway.answer(first).status is ReplyStatus.DONE
    gateway.store.close()


def test_images_that_drip_in_turn_are_given_up_as_one_alone_is(tmp_path: Path, clock: VirtualClock) -> None:
    def drips(wanted: Wanted, images: ImageStore, *, settings: FirmwareSettings, watch: Watch) -> Image:
        done = 0
        while not watch.stop():
            clock.advance(60)
            done += 1
            watch.came(1, done, None)
        raise NetError("stopped")

    gateway = Gateway(tmp_path, clock, drips)
    asked = [gateway.ask(f"http://127.0.0.1/{number}") for number in range(2)]
    clock_s = clock.monotonic()
    while {gateway.store.reply_of(one).status for one in asked} != {ReplyStatus.FAILED}:  # type: ignore[union-attr]
        wake_at = gateway.supplier.step().wake_at
        assert wake_at is not None
        clock.advance(max(0.0, wake_at - clock.monotonic()))
        assert clock.monotonic() - clock_s < 3 * 86_400
    gateway.store.close()


def test_an_image_of_no_known_size_is_not_paid_for_without_end(tmp_path: Path, clock: VirtualClock) -> None:
    """Each time a little more than the last time, and never all: that is no progress that is worth its octets."""
    came: list[int] = []

    def never_ends(wanted: Wanted, images: ImageStore, *, settings: FirmwareSettings, watch: Watch) -> Image:
        came.append(10_000_000 + len(came))
        watch.came(came[-1], came[-1], None)
        raise NetError("the line was cut")

    gateway = Gateway(tmp_path, clock, never_ends)
    reply = gateway.answer(gateway.ask("http://127.0.0.1/x"))
    gateway.store.close()
    assert (reply.status, reply.code) == (ReplyStatus.FAILED, Code.F_NET)
    assert "unknown size" in reply.message
    assert sum(came) < 300_000_000


def test_a_campaign_does_not_wait_for_an_image_that_nobody_is_to_get(
    tmp_path: Path, clock: VirtualClock
) -> None:
    left: list[str] = []

    def slow(wanted: Wanted, images: ImageStore, *, settings: FirmwareSettings, watch: Watch) -> Image:
        if not left:
            gateway.order("http://127.0.0.1/x")
            clock.advance(1)
            assert watch.stop()
            left.append("the first attempt")
            raise NetError("stopped")
        return images.add([CONTENT])

    gateway = Gateway(tmp_path, clock, slow)
    cmd_id = gateway.ask("http://127.0.0.1/x")
    gateway.supplier.step()
    assert gateway.store.reply_of(cmd_id).status is ReplyStatus.ACCEPTED  # type: ignore[union-attr]
    gateway.supplier.step()
    campaign = gateway.store.campaign("fw-1")
    assert campaign is not None
    assert campaign.state is CampaignState.READY
    assert gateway.answer(cmd_id).status is ReplyStatus.DONE
    gateway.store.close()
