"""From the arguments of `campaign.submit` to a campaign with its jobs: every check but what other campaigns say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.control.provenance import Judge
from gateway.control.timing import check_activation_fits, read_timing
from gateway.errors import DigestError, NotFoundError, PolicyError, SchemaError, SizeError
from gateway.model import (
    DEFAULT_PRIORITY,
    ActivateWhen,
    Campaign,
    CampaignState,
    Config,
    Delivery,
    Image,
    Job,
    Meter,
    MeterKeys,
    PortSettings,
    Window,
)
from gateway.plan.order import turn
from gateway.plan.verdict import standing
from gateway.supply.images import ImageStore
from gateway.supply.source import MQTT_URL, check_url
from gateway.transfer.broadcast import does_not_fit, unable_to_hear_all
from gateway.transfer.schedule import comes_twice
from gateway.wire.broadcast import largest_block

_AT_A_TIME = frozenset({ActivateWhen.AT, ActivateWhen.METER})
"""Whatever the windows."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is written when it is accepted."""

    campaign: Campaign
    jobs: tuple[Job, ...]
    manifest: str
    """The envelope of the image's manifest; empty: there is none."""
    floors: Mapping[str, int]
    """What the sequence floors of profiles rise to."""


def read_order(
    args: Mapping[str, Any],
    config: Config,
    images: ImageStore,
    judge: Judge,
    *,
    windows: Mapping[str, Window],
) -> Order:
    """The order in `args`, which have passed their schema. Raises SchemaError (not supported yet, identifier, times),
    WindowError, NotFoundError (meters, image), PolicyError, SignatureError, DigestError, SizeError, DiskError."""
    image, now, clock_trusted = args["image"], judge.now, judge.clock_trusted
    source = judge.of_order(image)
    size = source.size(_size(image))
    stored = _look_for_image(image, size, config, images)
    meters = _targets(args["targets"], config)
    source.check_firmware_object(args.get("firmware_object"), meters)
    if source.proof:
        judge.check(source.proof, {meter.profile.name for meter in meters})
    campaign = Campaign(
        id=args["campaign_id"],
        sha256=image["sha256"],
        identifier=source.identifier(args.get("identifier"), meters),
        meters=tuple(meter.id for meter in meters),
        created_at=now,
        url=image.get("url", ""),
        image_size=stored.size if stored else size,
        expect_version=source.expect_version(args.get("expect_version")),
        firmware_object=args.get("firmware_object", ""),
        take_over=args.get("take_over", False),
        dry_run=args.get("dry_run", False),
        priority=args.get("priority", DEFAULT_PRIORITY),
        delivery=_delivery(args, meters, config),
        state=CampaignState.READY if stored else CampaignState.ACCEPTED,
        **read_timing(args, windows, now, clock_trusted=clock_trusted, covered_until=source.covered_until),
        **source.fields(),
    )
    _check_schedules(campaign, meters)
    activates_in = campaign.activate_window or campaign.window
    if activates_in and campaign.activate_when not in _AT_A_TIME and not campaign.dry_run:
        check_activation_fits(activates_in, windows, meters)
    jobs = tuple(Job(campaign.id, meter.id, meter.port, place) for place, meter in enumerate(meters))
    released = turn(campaign, [standing(job) for job in jobs], now, clock_trusted=clock_trusted).released
    floors = {} if campaign.dry_run else source.floors(meters)
    return Order(replace(campaign, released=released), jobs, source.envelope, floors)


def _look_for_image(
    image: Mapping[str, Any], size: int | None, config: Config, images: ImageStore
) -> Image | None:
    """The stored image, or None where it may be fetched."""
    url = image.get("url", "")
    if url:
        check_source(url, size, config)
    stored = _checked(image["sha256"], images, may_fetch=bool(url))
    if stored is None:
        if not url:
            raise NotFoundError(
                f"no image {image['sha256']} is stored here, and no url says where to fetch it"
            )
    elif size not in (None, stored.size):
        raise SizeError(f"the stored image has {stored.size} octets, ordered were {size}")
    return stored


def check_source(url: str, size: int | None, config: Config) -> None:
    """Whether an image of that size may be fetched from there. Raises PolicyError and SchemaError."""
    if url == MQTT_URL:
        _check_blocks(config, size)
    else:
        check_url(url, config.firmware)
    if size is not None and size > config.firmware.quota_bytes:
        raise PolicyError(f"the image has {size} octets, [firmware] quota is {config.firmware.quota_bytes}")


def _checked(sha256: str, images: ImageStore, *, may_fetch: bool) -> Image | None:
    """The stored image, its bytes looked at again; None where none is stored, or a damaged one that may be fetched."""
    try:
        return images.check(sha256)
    except NotFoundError:
        return None
    except DigestError:
        if may_fetch:
            return None
        raise


def _check_blocks(config: Config, size: int | None) -> None:
    """Over the broker of this gateway comes what is ordered with its size: the gateway asks for numbered blocks."""
    if config.mqtt is None:
        raise SchemaError(f"url: found {MQTT_URL}, but this gateway has no broker ([mqtt])")
    if size is None:
        raise SchemaError(f"size: found nothing, expected the octets of the image, for {MQTT_URL}")


def _size(image: Mapping[str, Any]) -> int | None:
    return int(image["size"]) if "size" in image else None


def _delivery(args: Mapping[str, Any], meters: Sequence[Meter], config: Config) -> Delivery:
    """Raises SchemaError where `broadcast` names a meter that can never take it as it is configured."""
    delivery = Delivery(args.get("delivery", Delivery.UNICAST))
    if delivery is not Delivery.BROADCAST:
        return delivery
    ports = {port.name: port for port in config.ports}
    unable = [
        f"{meter.id} ({reason})"
        for meter in meters
        if (reason := _unable(meter, config.keys.get(meter.id, MeterKeys()), ports[meter.port]))
    ]
    if unable:
        raise SchemaError(
            f"args.delivery: found meters that can take no broadcast, expected auto: {_some(unable)}"
        )
    return delivery


def _check_schedules(campaign: Campaign, meters: Sequence[Meter]) -> None:
    """Raises SchemaError where a meter has no schedule that could be given this time, or shows it twice."""
    at = campaign.activate_at
    if campaign.activate_when is not ActivateWhen.METER or at is None:
        return
    without = [meter.id for meter in meters if not meter.profile.activation_schedule]
    if without:
        raise SchemaError(
            f"args.activation.when: found {_some(without)}, whose profile has no activation_schedule, expected none"
        )
    for zone in sorted({meter.profile.activation_timezone for meter in meters}):
        if comes_twice(at, zone):
            raise SchemaError(
                f"args.activation.at: found a time that clocks in {zone} show twice, expected another"
            )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _unable(meter: Meter, keys: MeterKeys, port: PortSettings) -> str:
    """A block size that only the meter knows is looked at when it has told it."""
    fixed = meter.profile.block_size
    return unable_to_hear_all(meter, keys, port) or does_not_fit(meter, fixed, largest_block(meter))


def _targets(targets: Any, config: Config) -> Sequence[Meter]:
    """The meters that are meant, in the order in which they were named or configured. Raises NotFoundError and
    SchemaError."""
    match targets:
        case list():
            if len(set(targets)) < len(targets):
                raise SchemaError("args.targets: found a meter twice, expected each once")
            known = {meter.id: meter for meter in config.meters}
            unknown = [name for name in targets if name not in known]
            if unknown:
                raise NotFoundError(f"no meter {', '.join(unknown[:10])}")
            return [known[name] for name in targets]
        case {"port": port}:
            found = [meter for meter in config.meters if meter.port == port]
            kind = f"on port {port}"
        case {"profile": profile}:
            found = [meter for meter in config.meters if meter.profile.name == profile]
            kind = f"of profile {profile}"
        case _:
            found = list(config.meters)
            kind = "at all"
    if not found:
        raise NotFoundError(f"there is no meter {kind}")
    return found
