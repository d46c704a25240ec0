"""The supplier: gets the images that accepted campaigns wait for, one at a time, and then those that somebody wants to
have here (`image.fetch`).

It owns the retries of a fetch, and keeps them in the campaign, so that a restart goes on where it was. Of an image
without a campaign only what came is kept; its attempts begin anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
    Errand,
    FirmwareSettings,
    Image,
    Reply,
    ReplyStatus,
    StepReport,
)
from gateway.store import Store
from gateway.store.commands import SUPPLIER_ERRANDS, failed
from gateway.store.documents import fetch_progress
from gateway.supply.answer import BusyServerError
from gateway.supply.budget import ATTEMPTS, LONGEST_S, overspent, pause_s
from gateway.supply.fetch import fetch as fetch_over_http
from gateway.supply.images import ImageStore
from gateway.supply.manifest import block_digests
from gateway.supply.source import Source, Wanted, Watch, scheme_of
from gateway.urls import shown

_IDLE_S = 5.0
"""How often the Store is asked without a bell; the pauses between attempts are as coarse as this."""
_LOOK_AT_CAMPAIGN_S = 0.5
_TURN_S = 600.0
"""A server that is slow may keep others waiting for so long: what came of its image is kept meanwhile."""
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
        self._asked: list[_Asked] = []

    def step(self) -> StepReport:
        """Look for one campaign that waits for its image, and get it; blocks while it does."""
        self._beat()
        try:
            campaign = self._store.next_fetch(self._clock.now())
            if campaign is not None:
                return StepReport(self._supply(campaign), self._clock.monotonic())
            if asked := self._next_asked():
                return StepReport(self._bring(asked), self._clock.monotonic())
            return StepReport("no image is wanted", self._clock.monotonic() + _IDLE_S)
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
            campaign,
            self._clock,
            self._board,
            wanted=lambda: not self._stopping and self._wanted(campaign),
            others_wait=lambda: bool(self._store.next_fetch(self._clock.now(), other_than=campaign.sha256)),
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
        envelope = self._store.manifest(campaign.manifest) if campaign.manifest else None
        return self._from_source(campaign, envelope, watch)

    def _from_source(self, campaign: Campaign, envelope: str | None, watch: Watch) -> Image:
        source = self._sources.get(scheme_of(campaign.url))
        if source is None:
            raise PolicyError(f"{shown(campaign.url)!r} is not a URL that images come from")
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
        if watch.gave_way:
            again_at = self._clock.now() + timedelta(seconds=_IDLE_S)
            self._store.save_campaign(
                replace(campaign, fetch_tries=watch.tries_before, fetch_next_try_at=again_at)
            )
            return f"{campaign.id} goes on with its image after the others"
        campaign, why_over = self._reckon(watch, error)
        if why_over:
            self._store.fail_campaign(campaign, error.code, why_over)
            return f"{campaign.id} failed: {why_over}"
        self._store.save_campaign(campaign)
        return _next_attempt(campaign, error)

    def _reckon(self, watch: _CampaignWatch, error: GatewayError) -> tuple[Campaign, str]:
        """What the attempt cost, and when the next one is; or else why there is none."""
        campaign = watch.reckoned()
        asked_s = error.retry_after_s if isinstance(error, BusyServerError) else 0.0
        delay_s = pause_s(campaign.fetch_tries, self._random.random(), asked_s=asked_s)
        spent_s = campaign.fetch_spent_s + delay_s
        over = overspent(campaign.fetch_tries, spent_s, campaign.fetch_octets, size=watch.size)
        if over or not error.retryable:
            return campaign, f"{error.message}; given up, for {over}" if error.retryable else error.message
        next_try = replace(
            campaign,
            code=error.code,
            message=error.message,
            fetch_spent_s=spent_s,
            fetch_next_try_at=self._clock.now() + timedelta(seconds=delay_s),
        )
        return next_try, ""

    # -- images without a campaign ----------------------------------------------------------------------------

    def _next_asked(self) -> _Asked | None:
        """Whose turn it is of those who wait for an image."""
        self._take_asked()
        now_s = self._clock.monotonic()
        return next((asked for asked in self._asked if asked.again_at_s <= now_s), None)

    def _take_asked(self) -> None:
        if errand := self._store.take_errand(SUPPLIER_ERRANDS):
            order = Campaign(
                id=errand.cmd_id,
                sha256=errand.args["sha256"],
                identifier=b"",
                meters=(),
                created_at=self._clock.now(),
                url=errand.args["url"],
                image_size=errand.args.get("size"),
            )
            self._asked.append(_Asked(errand, order))

    def _others_ask(self) -> bool:
        self._take_asked()
        return len(self._asked) > 1

    def _bring(self, asked: _Asked) -> str:
        sha256 = asked.order.sha256
        watch = _CampaignWatch(
            asked.order,
            self._clock,
            self._board,
            wanted=lambda: not self._interrupted(),
            others_wait=self._others_ask,
            tells=False,
        )
        try:
            image = self._stored(asked.order) or self._from_source(
                asked.order, self._store.manifest_of_image(sha256), watch
            )
        except (FirmwareError, NotFoundError, BusyError) as error:
            return self._not_brought(asked, watch, error)
        finally:
            watch.end()
        data = {"sha256": image.sha256, "size": image.size}
        return self._answer(asked, Reply(asked.errand.cmd_id, ReplyStatus.DONE, data=data))

    def _not_brought(self, asked: _Asked, watch: _CampaignWatch, error: GatewayError) -> str:
        if self._interrupted() or watch.gave_way:
            asked.order = replace(watch.reckoned(), fetch_tries=watch.tries_before)
            self._asked.remove(asked)
            self._asked.append(asked)
            return f"image {asked.order.sha256}: the fetch is left for later"
        asked.order, why_over = self._reckon(watch, error)
        if why_over:
            return self._answer(asked, replace(failed(asked.errand.cmd_id, error), message=why_over))
        assert asked.order.fetch_next_try_at is not None
        pause = asked.order.fetch_next_try_at - self._clock.now()
        asked.again_at_s = self._clock.monotonic() + pause.total_seconds()
        return _next_attempt(asked.order, error)

    def _interrupted(self) -> bool:
        """The process ends, or a campaign comes first."""
        return self._stopping or self._store.next_fetch(self._clock.now()) is not None

    def _answer(self, asked: _Asked, reply: Reply) -> str:
        self._store.finish_errand(asked.errand, reply)
        self._asked.remove(asked)
        return f"image {asked.order.sha256}: {reply.status} {reply.message}"

    def _beat(self) -> None:
        self._board.beat(SUPPLIER, self._clock.monotonic())


@dataclass(slots=True)
class _Asked:
    """Somebody waits for an image, without a campaign."""

    errand: Errand
    order: Campaign
    """That of a campaign which is nowhere else, for what the attempts cost."""
    again_at_s: float = 0.0
    """Not before, on the monotonic clock: nobody sets that."""


def _next_attempt(campaign: Campaign, error: GatewayError) -> str:
    tries = f"{campaign.fetch_tries} of {ATTEMPTS} failed in a row"
    return f"{campaign.id}: {tries}, the next at {campaign.fetch_next_try_at:%H:%M:%S}: {error}"


class _CampaignWatch:
    """One attempt to get the image of a campaign: whether it is wanted still, how far it is, and what it costs. Whoever
    asks shows that it is alive."""

    def __init__(
        self,
        campaign: Campaign,
        clock: Clock,
        board: Board,
        *,
        wanted: Callable[[], bool],
        others_wait: Callable[[], bool] = lambda: False,
        tells: bool = True,
    ) -> None:
        """`others_wait`: for another image, which has its turn after a while. `tells`: how far it is is told as
        progress of the campaign."""
        self._campaign = campaign
        self._tells = tells
        self._clock = clock
        self._board = board
        self._wanted = wanted
        self._others_wait = others_wait
        self.gave_way = False
        """It ended since others wait."""
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
        self.gave_way = now_s - self._began_at_s >= _TURN_S and self._others_wait()
        return self.gave_way or not self._wanted()

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
            fetch_tries=0 if brought else before.fetch_tries + 1,
            fetch_spent_s=before.fetch_spent_s + self._clock.monotonic() - self._began_at_s,
            fetch_octets=before.fetch_octets + self._octets,
            fetch_done=self._done,
        )

    def end(self) -> None:
        self._board.drop(self._key)

    def _tell(self, now_s: float) -> None:
        """On the Board, now and then."""
        if self._tells and self._octets and now_s - self._told_at_s >= _TELL_EVERY_S:
            self._told_at_s = now_s
            self._board.post(self._key, fetch_progress(self._done, self.size, self._per_s(now_s)))

    @property
    def _key(self) -> tuple[str, str]:
        return "fetch", self._campaign.id

    def _per_s(self, now_s: float) -> float:
        elapsed_s = now_s - self._began_at_s
        return self._octets / elapsed_s if elapsed_s >= _RATE_AFTER_S else 0.0
