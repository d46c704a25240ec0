"""A campaign that needs an image gets it, or is told why not; tries survive a restart, cancelling is heard."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support import http_server as server_does
from support.http_server import ImageServer
from support.patience import PATIENCE_S

from gateway.board import SUPPLIER, Board
from gateway.clock import SystemClock
from gateway.conductor import Conductor
from gateway.control.schema import schema
from gateway.errors import ADVICE, Code, NetError
from gateway.model import (
    TERMINAL_CAMPAIGN,
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
from gateway.supply.budget import ATTEMPTS
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
        self.supplier = Supplier(
            self.store, self.images, SETTINGS, clock, self.board, random=Random("supplier")
        )

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

    def snapshot(self) -> dict[str, Any]:
        """The campaign as the broker is told next."""
        rows = [row for row in self.store.outbox_batch(0, 1000) if row.topic.endswith("/campaign/fw-1")]
        document: dict[str, Any] = json.loads(rows[-1].payload)
        assert not list(Draft202012Validator(schema("campaign")).iter_errors(document))
        return document

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

    def run_to_the_end(self) -> None:
        while self.campaign().state not in TERMINAL_CAMPAIGN:
            self.run_for(60)


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
    assert failed_once.fetch_next_try_at is not None
    assert 1 <= (failed_once.fetch_next_try_at - failed_once.created_at).total_seconds() <= 5
    assert gateway.campaign().state is CampaignState.READY
    assert gateway.campaign().code is None
    assert len(server.requests) == 4


def test_a_server_that_never_delivers_is_given_up_and_the_campaign_says_why(gateway: Gateway) -> None:
    with ImageServer(CONTENT, *[server_does.status(503)] * 30) as server:
        gateway.submit(server.url)
        sentences = gateway.run_for(6 * 3600)

    assert len(server.requests) == ATTEMPTS
    assert gateway.campaign().state is CampaignState.FAILED
    assert gateway.campaign().code is Code.F_HTTP
    assert "answered 503; given up, for 12 attempts brought nothing new" in gateway.campaign().message
    assert {(job.state, job.code) for job in gateway.store.jobs("fw-1")} == {(JobState.FAILED, Code.F_HTTP)}
    assert len(sentences) == ATTEMPTS
    assert "fw-1 failed" in sentences[-1]


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


@pytest.mark.parametrize(
    ("behaviours", "code", "attempts"),
    [
        ([server_does.hang_up] * 20, Code.F_NET, 12),
        ([server_does.no_http] * 20, Code.F_NET, 12),
        ([server_does.truncated] * 20, Code.F_NET, 13),  # the first brought something, and no ETag to go on by
        ([server_does.truncated_without_length] * 20, Code.F_NET, 13),
        ([server_does.status(503)] * 20, Code.F_HTTP, 12),
        ([server_does.status(403)], Code.F_HTTP, 1),
        ([server_does.partial], Code.F_HTTP, 1),
        ([server_does.gzipped], Code.F_HTTP, 1),
        ([server_does.redirect("/firmware.bin")] * 6, Code.F_HTTP, 6),
        ([server_does.redirect("http://localhost/firmware.bin")], Code.F_POLICY, 1),
        ([server_does.cut_after(100), *[server_does.part_from_elsewhere, server_does.hang_up] * 9], Code.F_HTTP, 4),
        ([server_does.length_too_long], Code.F_SIZE, 1),
        ([server_does.length_too_short], Code.F_SIZE, 1),
        ([server_does.one_octet_less], Code.F_SIZE, 1),
        ([server_does.one_octet_more], Code.F_SIZE, 1),
        ([server_does.empty], Code.F_SIZE, 1),
        ([server_does.endless], Code.F_SIZE, 1),
        ([server_does.one_bit_wrong], Code.F_DIGEST, 1),
    ],
)  # fmt: skip
def test_whatever_a_server_does_has_a_code_and_advice_and_reaches_no_meter(
    gateway: Gateway, behaviours: list[server_does.Behaviour], code: Code, attempts: int
) -> None:
    with ImageServer(CONTENT, *behaviours) as server:
        gateway.submit(server.url, image_size=len(CONTENT))
        gateway.run_to_the_end()
        assert len(server.requests) == attempts
    assert (gateway.campaign().state, gateway.campaign().code) == (CampaignState.FAILED, code)
    assert gateway.snapshot()["advice"] == ADVICE[code] != ""
    assert {(job.state, job.code) for job in gateway.store.jobs("fw-1")} == {(JobState.FAILED, code)}
    assert gateway.images.list() == ()


@pytest.mark.parametrize(
    "behaviours",
    [
        [server_does.cut_after(20_000), server_does.part_of_another_version, server_does.ranged],
        [server_does.cut_after(20_000), server_does.whole],
        [server_does.cut_after(20_000), server_does.whole_to_a_range],
        [server_does.cut_after(20_000), server_does.part_from_elsewhere, server_does.ranged],
        [server_does.cut_after(20_000), server_does.status(503, Retry_After="7"), server_does.ranged],
        [server_does.truncated, server_does.truncated_chunks, server_does.whole],
    ],
)
def test_what_another_attempt_mends_is_mended(
    gateway: Gateway, behaviours: list[server_does.Behaviour]
) -> None:
    with ImageServer(CONTENT, *behaviours) as server:
        gateway.submit(server.url, image_size=len(CONTENT))
        gateway.run_for(3600)
        assert server.behaviours == []
    assert gateway.campaign().state is CampaignState.READY
    assert gateway.images.read(SHA256) == CONTENT


def test_a_source_that_policy_forbids_by_now_is_not_asked(gateway: Gateway) -> None:
    gateway.submit("https://fw.example.net/x")
    gateway.run_for(10)
    assert gateway.campaign().code is Code.F_POLICY


def test_tries_and_their_waits_survive_a_restart(tmp_path: Path) -> None:
    clock = VirtualClock()
    with ImageServer(CONTENT, *[server_does.status(503)] * 30) as server:
        gateway = Gateway(tmp_path, clock)
        gateway.submit(server.url)
        for _ in range(5):
            gateway.run_for(15)
            gateway.store.close()
            gateway = Gateway(tmp_path, clock)
        gateway.run_for(6 * 3600)
        gateway.store.close()
    assert len(server.requests) == ATTEMPTS


def test_a_link_that_is_cut_again_and_again_gets_the_image_through(gateway: Gateway) -> None:
    """Whatever comes is progress: an attempt that brought something new counts for nothing."""
    cuts = [server_does.cut_after(1000)] * 40
    with ImageServer(CONTENT, *cuts, server_does.ranged) as server:
        gateway.submit(server.url)
        gateway.run_for(3600)
    assert gateway.campaign().state is CampaignState.READY
    assert server.body_octets == len(CONTENT)


def test_it_goes_on_where_it_was_after_a_restart(tmp_path: Path) -> None:
    clock = VirtualClock()
    with ImageServer(CONTENT, server_does.cut_after(20_000), server_does.ranged) as server:
        gateway = Gateway(tmp_path, clock)
        gateway.submit(server.url)
        gateway.supplier.step()
        gateway.store.close()
        gateway = Gateway(tmp_path, clock)
        assert gateway.campaign().fetch_done == 20_000
        gateway.run_for(60)
        assert gateway.campaign().state is CampaignState.READY
        gateway.store.close()
    assert server.body_octets == len(CONTENT)


def test_a_server_that_sends_the_same_octets_again_and_again_costs_a_bounded_amount(gateway: Gateway) -> None:
    """A file whose ETag is another one each time: every attempt begins anew, and gets a little further."""

    def once_more(count: int) -> server_does.Behaviour:
        def behaviour(exchange: server_does.Exchange, content: bytes) -> None:
            exchange.begin(Content_Length=2_000_000, ETag=f'"{count}"')
            exchange.body(bytes(1_500_000 + count))

        return behaviour

    gateway.images.quota_bytes = 5_000_000
    with ImageServer(CONTENT, *[once_more(count) for count in range(50)]) as server:
        gateway.submit(server.url, image_size=2_000_000)
        gateway.run_for(6 * 3600)
    assert gateway.campaign().state is CampaignState.FAILED
    assert gateway.campaign().code is Code.F_NET
    assert "octets came for an image of 2000000" in gateway.campaign().message
    assert server.body_octets <= 4 * 2_000_000 + 2**20 + 1_600_000


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
    assert gateway.campaign().fetch_spent_s == pytest.approx(2)  # it counts all the same


def test_a_long_fetch_shows_life(gateway: Gateway) -> None:
    gateway.submit("http://127.0.0.1/x")
    after_some_octets(gateway, lambda: gateway.clock.advance(100)).step()
    assert gateway.board.lives()[SUPPLIER] == pytest.approx(gateway.clock.monotonic())
    assert gateway.campaign().state is CampaignState.READY


def test_a_slow_server_keeps_others_waiting_for_a_while_only(gateway: Gateway) -> None:
    """They have their turn, and then it goes on; it is no attempt that failed."""
    other = CONTENT[::-1]
    fetched: list[str] = []

    def fetch(wanted: Wanted, images: ImageStore, *, watch: Watch, **_: Any) -> Image:
        fetched.append(wanted.url[-4:])
        while wanted.url.endswith("slow") and fetched.count("slow") < 3:
            gateway.clock.advance(1)
            if watch.stop():
                raise NetError("the fetch was stopped before its end")
        return images.add([other if wanted.url.endswith("fast") else CONTENT])

    supplier = gateway.supplier_with(fetch)
    gateway.submit("http://127.0.0.1/slow")
    for number in range(2):
        other += b"more"
        quick = Campaign(
            f"fw-q{number}", hashlib.sha256(other).hexdigest(), b"FW", (f"Q{number}",), gateway.clock.now(),
            url="http://127.0.0.1/fast",
        )  # fmt: skip
        gateway.store.submit_campaign(
            gateway.command("campaign.submit"), quick, [Job(quick.id, f"Q{number}", "p")]
        )
        before_s = gateway.clock.monotonic()
        supplier.step()
        assert 600 <= gateway.clock.monotonic() - before_s <= 602
        assert gateway.campaign().fetch_tries == 0
        supplier.step()
        assert gateway.store.campaign_state(quick.id) is CampaignState.READY
        gateway.clock.advance(5)
    supplier.step()
    assert gateway.campaign().state is CampaignState.READY
    assert fetched == ["slow", "fast", "slow", "fast", "slow"]


def test_a_server_that_drips_for_ever_is_given_up(gateway: Gateway) -> None:
    gateway.submit("http://127.0.0.1/x")
    after_some_octets(gateway, lambda: gateway.clock.advance(25 * 3600)).step()
    assert gateway.campaign().state is CampaignState.FAILED
    assert gateway.campaign().code is Code.F_NET
    assert "24 h have passed" in gateway.campaign().message


# -- what others see of it ------------------------------------------------------------------------------------


def test_who_watches_sees_how_far_it_is(gateway: Gateway) -> None:
    """On the Board while octets come; in the snapshot when an attempt has ended."""
    seen: list[Mapping[str, Any]] = []

    def fetch(wanted: Wanted, images: ImageStore, *, watch: Watch, **_: Any) -> Image:
        for done in (10_000, 20_000, 30_000):
            gateway.clock.advance(1.5)
            watch.came(10_000, done, len(CONTENT))
            seen.append(gateway.board.values("fetch")["fetch", "fw-1"])
        raise NetError("cut off")

    gateway.submit("http://127.0.0.1/x")
    gateway.supplier_with(fetch).step()
    assert seen == [
        {"bytes_done": 10_000, "bytes_total": 50_000, "bytes_per_s": None, "eta_s": None},
        {"bytes_done": 20_000, "bytes_total": 50_000, "bytes_per_s": 6667, "eta_s": 4},
        {"bytes_done": 30_000, "bytes_total": 50_000, "bytes_per_s": 6667, "eta_s": 3},
    ]
    assert gateway.board.values("fetch") == {}
    fetch_ = gateway.snapshot()["fetch"]
    assert fetch_["bytes_done"] == 30_000 and fetch_["tries"] == 0 and fetch_["next_try_at"]


def test_an_image_that_is_here_is_not_told_of(gateway: Gateway) -> None:
    with ImageServer(CONTENT) as server:
        gateway.submit(server.url)
        assert gateway.snapshot()["fetch"]["bytes_done"] == 0
        gateway.supplier.step()
    assert gateway.snapshot()["fetch"] is None


def test_no_credential_and_no_query_is_told_to_anybody(
    gateway: Gateway, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor to the log, whoever writes it, nor in the reports of the steps; the order itself knows them."""
    caplog.set_level(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # as gateway.daemon.logs does
    behaviours = [
        server_does.cut_after(10_000), server_does.hang_up, server_does.no_http, server_does.status(500),
        server_does.part_from_elsewhere, server_does.redirect("/b?token=hidden"), server_does.status(503),
        server_does.redirect("http://u:hidden@elsewhere.test/?token=hidden"),
    ]  # fmt: skip
    with ImageServer(CONTENT, *behaviours) as server:
        gateway.submit(f"{server.url}?token=hidden")
        sentences = gateway.run_for(3600)
    assert gateway.campaign().code is Code.F_POLICY
    assert any("token=hidden" in path for path, _ in server.requests)
    told = [*sentences, caplog.text, *map(str, gateway.store.events()), gateway.campaign().message]
    told += [row.payload.decode() for row in gateway.store.outbox_batch(0, 1000)]
    told += [path.read_text() for path in (tmp_path / "images").glob("*.json")]
    assert len(told) > 10
    assert not [text for text in told if "hidden" in text]


# -- an end on time -------------------------------------------------------------------------------------------


def test_a_silent_server_is_left_when_the_order_is_cancelled(gateway: Gateway) -> None:
    """In the middle of the fetch, from another thread, as commands come; the server sees that we have gone."""
    gateway.supplier = Supplier(gateway.store, gateway.images, SETTINGS, SystemClock(), gateway.board)
    with ImageServer(CONTENT, server_does.silent) as server:
        gateway.submit(server.url)
        steps: list[str] = []
        supplying = threading.Thread(target=lambda: steps.append(gateway.supplier.step().sentence))
        supplying.start()
        assert server.asked.wait(PATIENCE_S)
        gateway.cancel()
        assert server.hung_up.wait(PATIENCE_S)
        supplying.join(PATIENCE_S)
    assert steps == ["fw-1 wants its image no more"]
    assert gateway.campaign().state is CampaignState.CANCELLED


def test_an_order_whose_time_is_over_ends_though_its_image_never_came(gateway: Gateway) -> None:
    over = gateway.clock.now() + timedelta(minutes=10)
    conductor = Conductor(gateway.store, gateway.clock, gateway.board, clock_trusted=lambda: True)
    with ImageServer(CONTENT, *[server_does.status(503)] * 50) as server:
        gateway.submit(server.url, not_after=over)
        gateway.supplier.step()
        first = conductor.step()
        assert gateway.campaign().state is CampaignState.FETCHING
        assert first.wake_at is not None and first.wake_at <= gateway.clock.monotonic() + 60
        gateway.clock.advance(600)
        conductor.step()
        assert gateway.run_for(3600) == []
    assert gateway.campaign().state is CampaignState.EXPIRED
    assert gateway.campaign().code is Code.W_EXPIRED
    assert {(job.state, job.code) for job in gateway.store.jobs("fw-1")} == {
        (JobState.CANCELLED, Code.W_EXPIRED)
    }


def test_nothing_expires_by_a_clock_that_nobody_trusts(gateway: Gateway) -> None:
    gateway.submit("http://127.0.0.1:9/x", not_after=gateway.clock.now() - timedelta(minutes=1))
    Conductor(gateway.store, gateway.clock, gateway.board, clock_trusted=lambda: False).step()
    assert gateway.campaign().state is CampaignState.ACCEPTED


def test_a_fetch_that_is_under_way_ends_when_the_order_does(gateway: Gateway) -> None:
    conductor = Conductor(gateway.store, gateway.clock, gateway.board, clock_trusted=lambda: True)
    gateway.submit("http://127.0.0.1/x", not_after=gateway.clock.now() + timedelta(seconds=1))

    def time_passes() -> None:
        gateway.clock.advance(1)
        conductor.step()

    assert after_some_octets(gateway, time_passes).step().sentence == "fw-1 wants its image no more"
    assert gateway.campaign().state is CampaignState.EXPIRED
