"""A campaign that needs an image gets it, or is told why not; tries survive a restart, cancelling is heard."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support import http_server as server_does
from support.http_server import ImageServer

from gateway.board import SUPPLIER, Board
from gateway.errors import Code, NetError
from gateway.model import (
    Campaign,
    CampaignState,
    Command,
    FirmwareSettings,
    Image,
    Job,
    JobState,
    Reply,
    Trust,
)
from gateway.simulator.clock import VirtualClock
from gateway.store import Store
from gateway.supplier import Supplier
from gateway.supply.images import ImageStore
from gateway.supply.source import Source, Wanted, Watch

CONTENT = hashlib.shake_128(b"firmware").digest(50_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SETTINGS = FirmwareSettings(trust=Trust.DIGEST)


class Gateway:
    """The part of a gateway that gets images, with a state directory that outlives it."""

    def __init__(self, state_dir: Path, clock: VirtualClock) -> None:
        self.clock = clock
        self.board = Board()
        self.store = Store(state_dir, gateway_id="gw", root="mgw/v1", clock=clock, board=self.board)
        self.images = ImageStore(state_dir / "images", quota_bytes=1_000_000)
        self.supplier = Supplier(self.store, self.images, SETTINGS, clock, self.board)

    def supplier_with(self, source: Source) -> Supplier:
        """One for which that is the way to the bytes of http:// URLs."""
        return Supplier(self.store, self.images, SETTINGS, self.clock, self.board, sources={"http": source})

    def submit(self, url: str, **fields: Any) -> Campaign:
        now = self.clock.now()
        campaign = Campaign("fw-1", SHA256, b"FW", ("M1", "M2"), now, url=url, **fields)
        self.store.submit_campaign(
            self.command("campaign.submit"), campaign, [Job("fw-1", meter, "p") for meter in ("M1", "M2")]
        )
        return campaign

    def cancel(self) -> Reply:
        return self.store.cancel_campaign(self.command("campaign.cancel"), "fw-1")

    def command(self, verb: str) -> Command:
        now = self.clock.now()
        cmd_id = str(uuid.uuid4())
        return Command(cmd_id, verb, {}, now, now + timedelta(hours=1), cmd_id, "test")

    def campaign(self) -> Campaign:
        campaign = self.store.campaign("fw-1")
        assert campaign is not None
        return campaign

    def run_for(self, seconds: float) -> list[str]:
        """Step as the daemon would, for as long on its clock; the sentences of what happened."""
        sentences = []
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() <= end:
            report = self.supplier.step()
            sentences.append(report.sentence)
            assert report.wake_at is not None
            self.clock.advance_to(report.wake_at)
        return [sentence for sentence in sentences if sentence != "no image is wanted"]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path, VirtualClock())
    yield gateway
    gateway.store.close()


def test_an_accepted_campaign_gets_its_image_and_becomes_ready(gateway: Gateway) -> None:
    with ImageServer(CONTENT) as server:
        gateway.submit(server.url)
        gateway.supplier.step()

    assert gateway.campaign().state is CampaignState.READY
    assert gateway.campaign().image_size == len(CONTENT)
    assert gateway.images.read(SHA256) == CONTENT
    states = [event["state"] for event in gateway.store.events() if event["kind"] == "campaign"]
    assert states == ["accepted", "fetching", "ready"]


def test_an_image_that_is_stored_already_is_not_fetched(gateway: Gateway) -> None:
    gateway.images.add([CONTENT])
    with ImageServer(CONTENT) as server:
        gateway.submit(server.url)
        gateway.supplier.step()
    assert server.requests == []
    assert gateway.campaign().state is CampaignState.READY


def test_an_image_that_was_damaged_on_disk_is_fetched_again(gateway: Gateway, tmp_path: Path) -> None:
    gateway.images.add([CONTENT])
    (tmp_path / "images" / SHA256).write_bytes(CONTENT[:-1])
    with ImageServer(CONTENT) as server:
        gateway.submit(server.url)
        gateway.supplier.step()
    assert len(server.requests) == 1
    assert gateway.images.read(SHA256) == CONTENT


def test_an_image_without_a_url_must_be_here(gateway: Gateway) -> None:
    gateway.submit("")
    gateway.supplier.step()
    assert gateway.campaign().state is CampaignState.FAILED
    assert gateway.campaign().code is Code.E_NOT_FOUND
    assert {job.state for job in gateway.store.jobs("fw-1")} == {JobState.FAILED}


def test_a_stored_image_of_another_size_than_ordered_is_refused(gateway: Gateway) -> None:
    gateway.images.add([CONTENT])
    gateway.submit("", image_size=len(CONTENT) + 1)
    gateway.supplier.step()
    assert gateway.campaign().code is Code.F_SIZE


def test_a_server_that_fails_for_a_while_is_tried_again_after_a_growing_wait(gateway: Gateway) -> None:
    with ImageServer(CONTENT, server_does.status(503), server_does.truncated, server_does.hang_up) as server:
        gateway.submit(server.url)
        gateway.supplier.step()
        failed_once = gateway.campaign()
        gateway.run_for(200)

    assert failed_once.state is CampaignState.FETCHING
    assert failed_once.code is Code.F_HTTP
    assert failed_once.fetch_next_try_at == failed_once.created_at + timedelta(seconds=5)
    assert gateway.campaign().state is CampaignState.READY
    assert gateway.campaign().code is None
    assert len(server.requests) == 4


def test_after_five_tries_the_campaign_fails_and_says_why(gateway: Gateway) -> None:
    with ImageServer(CONTENT, *[server_does.status(503)] * 9) as server:
        gateway.submit(server.url)
        sentences = gateway.run_for(1000)

    assert len(server.requests) == 5
    assert gateway.campaign().state is CampaignState.FAILED
    assert gateway.campaign().code is Code.F_HTTP
    assert "answered 503" in gateway.campaign().message
    assert {(job.state, job.code) for job in gateway.store.jobs("fw-1")} == {(JobState.FAILED, Code.F_HTTP)}
    assert [sentence.partition(":")[0] for sentence in sentences] == [
        "fw-1", "fw-1", "fw-1", "fw-1", "fw-1 failed",
    ]  # fmt: skip


def test_a_server_that_says_when_is_not_asked_before(gateway: Gateway) -> None:
    with ImageServer(CONTENT, server_does.status(429, Retry_After="900")) as server:
        gateway.submit(server.url)
        gateway.run_for(890)
        assert len(server.requests) == 1
        gateway.run_for(20)
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (server_does.status(404), Code.F_HTTP),
        (server_does.one_octet_less, Code.F_SIZE),
        (server_does.one_bit_wrong, Code.F_DIGEST),
    ],
    ids=["404", "size", "digest"],
)
def test_what_no_other_try_can_mend_fails_at_once(
    gateway: Gateway, behaviour: server_does.Behaviour, code: Code
) -> None:
    with ImageServer(CONTENT, *[behaviour] * 5) as server:
        gateway.submit(server.url, image_size=len(CONTENT))
        gateway.run_for(1000)
    assert len(server.requests) == 1
    assert gateway.campaign().code is code


def test_a_url_that_leads_nowhere_ends_the_order_and_keeps_its_query(gateway: Gateway) -> None:
    gateway.submit("gopher://127.0.0.1/x?token=secret")
    gateway.run_for(10)
    assert gateway.campaign().code is Code.F_POLICY
    assert gateway.campaign().message == "'gopher://127.0.0.1/x' is not a URL that images come from"


def test_a_source_that_policy_forbids_by_now_is_not_asked(gateway: Gateway) -> None:
    gateway.submit("https://fw.example.net/x")
    gateway.run_for(10)
    assert gateway.campaign().code is Code.F_POLICY


def test_tries_and_their_waits_survive_a_restart(tmp_path: Path) -> None:
    clock = VirtualClock()
    with ImageServer(CONTENT, *[server_does.status(503)] * 9) as server:
        gateway = Gateway(tmp_path, clock)
        gateway.submit(server.url)
        for _ in range(3):
            gateway.run_for(15)
            gateway.store.close()
            gateway = Gateway(tmp_path, clock)
        gateway.run_for(1000)
        gateway.store.close()
    assert len(server.requests) == 5


def after_some_octets(gateway: Gateway, act: Callable[[], object]) -> Supplier:
    """A supplier whose fetch has come half way when `act` happens, and that then asks whether to stop."""

    def fetch(wanted: Wanted, images: ImageStore, *, watch: Watch, **_: Any) -> Image:
        assert not watch.stop()
        act()
        gateway.clock.advance(2)
        if watch.stop():
            raise NetError("the fetch was stopped before its end")
        return images.add([CONTENT])

    return gateway.supplier_with(fetch)


def test_a_cancelled_campaign_stops_its_fetch(gateway: Gateway) -> None:
    gateway.submit("http://127.0.0.1/x")
    supplier = after_some_octets(gateway, gateway.cancel)
    assert supplier.step().sentence == "fw-1 wants its image no more"
    assert gateway.campaign().state is CampaignState.CANCELLED
    assert gateway.images.list() == ()
    assert supplier.step().sentence == "no image is wanted"


def test_a_campaign_cancelled_in_the_last_moment_stays_cancelled(gateway: Gateway) -> None:
    gateway.submit("http://127.0.0.1/x")

    def fetch(wanted: Wanted, images: ImageStore, **_: Any) -> Image:
        image = images.add([CONTENT])
        gateway.cancel()
        return image

    supplier = gateway.supplier_with(fetch)
    assert "wanted no more" in supplier.step().sentence
    assert gateway.campaign().state is CampaignState.CANCELLED


def test_the_end_of_the_process_is_no_failed_try(gateway: Gateway) -> None:
    gateway.submit("http://127.0.0.1/x")
    supplier = after_some_octets(gateway, lambda: supplier.stop())  # noqa: PLW0108  # it is not there yet
    assert "next start" in supplier.step().sentence
    assert gateway.campaign().state is CampaignState.FETCHING
    assert gateway.campaign().fetch_tries == 0


def test_a_long_fetch_shows_life(gateway: Gateway) -> None:
    gateway.submit("http://127.0.0.1/x")
    after_some_octets(gateway, lambda: gateway.clock.advance(100)).step()
    assert gateway.board.lives()[SUPPLIER] == pytest.approx(gateway.clock.monotonic())
    assert gateway.campaign().state is CampaignState.READY


def test_a_server_that_drips_for_ever_is_given_up(gateway: Gateway) -> None:
    gateway.submit("http://127.0.0.1/x")
    after_some_octets(gateway, lambda: gateway.clock.advance(7 * 3600)).step()
    assert gateway.campaign().fetch_tries == 1
    assert gateway.campaign().code is Code.F_NET
