"""The supplier: gets the images that accepted campaigns wait for, one at a time.

It owns the retries of a fetch, and keeps them in the campaign, so that a restart goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from random import Random

from gateway.board import SUPPLIER, Board
from gateway.clock import Clock
from gateway.errors import (
    BusyError,
    DigestError,
    FirmwareError,
    GatewayError,
    NotFoundError,
    PolicyError,
    SizeError,
    StateError,
    StoreError,
)
from gateway.model import (
    WAITS_FOR_IMAGE,
    Campaign,
    CampaignState,
    FirmwareSettings,
    Image,
    StepReport,
)
from gateway.store import Store
from gateway.store.documents import fetch_progress
from gateway.supply.answer import BusyServerError
from gateway.supply.budget import ATTEMPTS, LONGEST_S, overspent, pause_s
from gateway.supply.fetch import fetch as fetch_over_http
from gateway.supply.images import ImageStore
from gateway.supply.manifest import block_digests
from gateway.supply.source import Source, Wanted, Watch, scheme_of, shown

_IDLE_S = 5.0
"""How often the Store is asked without a bell; the pauses between attempts are as coarse as this."""
_LOOK_AT_CAMPAIGN_S = 0.5
_TELL_EVERY_S = 1.0
_RATE_AFTER_S = 2.0
"""No speed is told before."""

SOURCES: Mapping[str, Source] = {"https": fetch_over_http, "http": fetch_over_http}
"""By the scheme of the URL."""


class Supplier:
    """The actor of image supply."""

    def __init__(
        self,
        store: Store,
        images: ImageStore,
        settings: FirmwareSettings,
        clock: Clock,
        board: Board,
        *,
        sources: Mapping[str, Source] = SOURCES,
        random: Random | None = None,
    ) -> None:
        self._store = store
        self._images = images
        self._settings = settings
        self._clock = clock
        self._board = board
        self._sources = sources
        self._random = random or Random()  # noqa: S311  # spreads attempts, keeps no secret
        self._stopping = False

    def step(self) -> StepReport:
        """Look for one campaign that waits for its image, and get it; blocks while it does."""
        self._beat()
        try:
            campaign = self._store.next_fetch(self._clock.now())
            if campaign is None:
                return StepReport("no image is wanted", self._clock.monotonic() + _IDLE_S)
            return StepReport(self._supply(campaign), self._clock.monotonic())
        except StateError as error:  # cancelled while we were at it
            return StepReport(f"an image is wanted no more: {error}", self._clock.monotonic())
        except StoreError as error:
            return StepReport(f"the store does not answer: {error}", self._clock.monotonic() + _IDLE_S)

    def stop(self) -> None:
        """Let a fetch that is under way end at its next octets; from another thread, when the process ends."""
        self._stopping = True

    def use(self, settings: FirmwareSettings) -> None:
        """From the next fetch on; from another thread."""
        self._settings = settings

    def _supply(self, campaign: Campaign) -> str:
        watch = _CampaignWatch(
            campaign, self._clock, self._board, wanted=lambda: not self._stopping and self._wanted(campaign)
        )
        try:
            image = self._stored(campaign) or self._fetched(campaign, watch)
            self._store.image_ready(campaign, image)
        except (FirmwareError, NotFoundError, BusyError) as error:
            return self._failed(watch, error)
        finally:
            watch.end()
        return f"{campaign.id} has its image of {image.size} octets"

    def _stored(self, campaign: Campaign) -> Image | None:
        try:
            image = self._images.check(campaign.sha256)
        except (NotFoundError, DigestError):
            if not campaign.url:
                raise
            return None
        if campaign.image_size not in {None, image.size}:
            raise SizeError(f"the image has {image.size} octets, ordered were {campaign.image_size}")
        return image

    def _fetched(self, campaign: Campaign, watch: Watch) -> Image:
        if campaign.state is not CampaignState.FETCHING:
            self._store.save_campaign(replace(campaign, state=CampaignState.FETCHING))
        source = self._sources.get(scheme_of(campaign.url))
        if source is None:
            raise PolicyError(f"{shown(campaign.url)!r} is not a URL that images come from")
        envelope = self._store.manifest(campaign.manifest) if campaign.manifest else None
        digests = block_digests(envelope) if envelope else None
        wanted = Wanted(campaign.url, campaign.sha256, campaign.image_size, digests)
        return source(wanted, self._images, settings=self._settings, watch=watch)

    def _wanted(self, campaign: Campaign) -> bool:
        present = self._store.campaign(campaign.id)
        return present is not None and present.state in WAITS_FOR_IMAGE

    def _failed(self, watch: _CampaignWatch, error: GatewayError) -> str:
        campaign = watch.reckoned()
        if not self._wanted(campaign):
            return f"{campaign.id} wants its image no more"
        if self._stopping:
            self._store.save_campaign(replace(campaign, fetch_tries=watch.tries_before))
            return f"{campaign.id}: the fetch is left for the next start"
        asked_s = error.retry_after_s if isinstance(error, BusyServerError) else 0.0
        delay_s = pause_s(campaign.fetch_tries, self._random.random(), asked_s=asked_s)
        spent_s = campaign.fetch_spent_s + delay_s
        over = overspent(campaign.fetch_tries, spent_s, campaign.fetch_octets, size=watch.size)
        if over or not error.retryable:
            message = f"{error.message}; given up, for {over}" if error.retryable else error.message
            self._store.fail_campaign(campaign, error.code, message)
            return f"{campaign.id} failed: {message}"
        self._store.save_campaign(
            replace(
                campaign,
                code=error.code,
                message=error.message,
                fetch_spent_s=spent_s,
                fetch_next_try_at=self._clock.now() + timedelta(seconds=delay_s),
            )
        )
        tries = f"{campaign.fetch_tries} of {ATTEMPTS} failed in a row"
        return f"{campaign.id}: {tries}, the next in {delay_s:.0f} s: {error}"

    def _beat(self) -> None:
        self._board.beat(SUPPLIER, self._clock.monotonic())


class _CampaignWatch:
    """One attempt to get the image of a campaign: whether it is wanted still, how far it is, and what it costs. Whoever
    asks shows that it is alive."""

    def __init__(self, campaign: Campaign, clock: Clock, board: Board, *, wanted: Callable[[], bool]) -> None:
        self._campaign = campaign
        self._clock = clock
        self._board = board
        self._wanted = wanted
        self._began_at_s = self._looked_at_s = self._told_at_s = clock.monotonic()
        self._deadline_s = self._began_at_s + LONGEST_S - campaign.fetch_spent_s
        self._octets = 0
        self._done = campaign.fetch_done
        self.tries_before = campaign.fetch_tries
        self.size = campaign.image_size
        """As ordered, or else as the source says."""

    def stop(self) -> bool:
        now_s = self._clock.monotonic()
        if now_s > self._deadline_s:
            return True
        if now_s - self._looked_at_s < _LOOK_AT_CAMPAIGN_S:
            return False
        self._looked_at_s = now_s
        self._tell(now_s)
        self._board.beat(SUPPLIER, now_s)
        return not self._wanted()

    def came(self, octets: int, done: int, total: int | None) -> None:
        self._octets += octets
        self._done, self.size = done, total or self.size
        self._tell(self._clock.monotonic())

    def reckoned(self) -> Campaign:
        """The campaign with what this attempt cost, had it failed just now."""
        before = self._campaign
        brought = self._octets > 0 and self._done > before.fetch_done
        return replace(
            before,
            state=CampaignState.FETCHING,
            fetch_tries=1 if brought else before.fetch_tries + 1,
            fetch_spent_s=before.fetch_spent_s + self._clock.monotonic() - self._began_at_s,
            fetch_octets=before.fetch_octets + self._octets,
            fetch_done=self._done,
        )

    def end(self) -> None:
        self._board.drop(self._key)

    def _tell(self, now_s: float) -> None:
        """On the Board, now and then."""
        if self._octets and now_s - self._told_at_s >= _TELL_EVERY_S:
            self._told_at_s = now_s
            self._board.post(self._key, fetch_progress(self._done, self.size, self._per_s(now_s)))

    @property
    def _key(self) -> tuple[str, str]:
        return "fetch", self._campaign.id

    def _per_s(self, now_s: float) -> float:
        elapsed_s = now_s - self._began_at_s
        return self._octets / elapsed_s if elapsed_s >= _RATE_AFTER_S else 0.0
