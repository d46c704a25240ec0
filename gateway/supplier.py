"""The supplier: gets the images that accepted campaigns wait for, one at a time.

It owns the retries of a fetch, and keeps them in the campaign, so that a restart goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from gateway.board import SUPPLIER, Board
from gateway.clock import Clock
from gateway.errors import (
    DigestError,
    FirmwareError,
    NotFoundError,
    PolicyError,
    SizeError,
    StateError,
    StoreError,
)
from gateway.model import Campaign, CampaignState, FirmwareSettings, Image, StepReport
from gateway.store import Store
from gateway.supply.answer import BusyServerError
from gateway.supply.fetch import fetch as fetch_over_http
from gateway.supply.images import ImageStore
from gateway.supply.source import Source, Wanted, Watch, scheme_of, shown

TRIES = 5
_RETRY_DELAYS_S = (5.0, 20.0, 80.0, 300.0)
"""After the first, second, ... failed try."""
_IDLE_S = 5.0
"""How often the Store is asked without a bell; no retry is due sooner."""
_LONGEST_FETCH_S = 6 * 3600.0
"""A server that drips forever is given up; a few MB over a bad mobile link is not."""
_LOOK_AT_CAMPAIGN_S = 0.5


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
    ) -> None:
        self._store = store
        self._images = images
        self._settings = settings
        self._clock = clock
        self._board = board
        self._sources = sources
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
        try:
            image = self._stored(campaign) or self._fetched(campaign)
            self._store.image_ready(campaign, image)
        except (FirmwareError, NotFoundError) as error:
            return self._failed(campaign, error)
        return f"{campaign.id} has its image of {image.size} octets"

    def _stored(self, campaign: Campaign) -> Image | None:
        try:
            image = Image(campaign.sha256, len(self._images.read(campaign.sha256)))
        except (NotFoundError, DigestError):
            if not campaign.url:
                raise
            return None
        if campaign.image_size not in {None, image.size}:
            raise SizeError(f"the image has {image.size} octets, ordered were {campaign.image_size}")
        return image

    def _fetched(self, campaign: Campaign) -> Image:
        if campaign.state is not CampaignState.FETCHING:
            self._store.save_campaign(replace(campaign, state=CampaignState.FETCHING))
        source = self._sources.get(scheme_of(campaign.url))
        if source is None:
            raise PolicyError(f"{shown(campaign.url)!r} is not a URL that images come from")
        wanted = Wanted(campaign.url, campaign.sha256, campaign.image_size)
        return source(wanted, self._images, settings=self._settings, watch=self._watch(campaign))

    def _watch(self, campaign: Campaign) -> Watch:
        return _CampaignWatch(
            self._clock, beat=self._beat, wanted=lambda: not self._stopping and self._wanted(campaign)
        )

    def _wanted(self, campaign: Campaign) -> bool:
        present = self._store.campaign(campaign.id)
        return present is not None and present.state in {CampaignState.ACCEPTED, CampaignState.FETCHING}

    def _failed(self, campaign: Campaign, error: FirmwareError | NotFoundError) -> str:
        if self._stopping:
            return f"{campaign.id}: the fetch is left for the next start"
        if not self._wanted(campaign):
            return f"{campaign.id} wants its image no more"
        tries = campaign.fetch_tries + 1
        if not error.retryable or tries >= TRIES:
            self._store.fail_campaign(campaign, error.code, error.message)
            return f"{campaign.id} failed: {error}"
        delay_s = _RETRY_DELAYS_S[tries - 1]
        if isinstance(error, BusyServerError):
            delay_s = max(delay_s, error.retry_after_s)
        self._store.save_campaign(
            replace(
                campaign,
                state=CampaignState.FETCHING,
                code=error.code,
                message=error.message,
                fetch_tries=tries,
                fetch_next_try_at=self._clock.now() + timedelta(seconds=delay_s),
            )
        )
        return f"{campaign.id}: try {tries} of {TRIES} failed, the next in {delay_s:.0f} s: {error}"

    def _beat(self) -> None:
        self._board.beat(SUPPLIER, self._clock.monotonic())


class _CampaignWatch:
    """Is the image of a campaign still wanted? Whoever asks shows that it is alive."""

    def __init__(self, clock: Clock, *, beat: Callable[[], None], wanted: Callable[[], bool]) -> None:
        self._clock = clock
        self._beat = beat
        self._wanted = wanted
        self._looked_at_s = clock.monotonic()
        self._deadline_s = self._looked_at_s + _LONGEST_FETCH_S

    def stop(self) -> bool:
        now_s = self._clock.monotonic()
        if now_s > self._deadline_s:
            return True
        if now_s - self._looked_at_s < _LOOK_AT_CAMPAIGN_S:
            return False
        self._looked_at_s = now_s
        self._beat()
        return not self._wanted()

    def came(self, octets: int, done: int, total: int | None) -> None:
        """Nobody asks yet."""
