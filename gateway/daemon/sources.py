"""The ways to an image that this gateway has."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.clock import Clock
from gateway.model import Config
from gateway.supplier import SOURCES
from gateway.supply.pull import BlockPull
from gateway.supply.source import MQTT_URL, Source, scheme_of
from gateway.uplink.bulk import BulkLink, bulk_client_id
from gateway.uplink.paho_broker import PahoBroker


def image_sources(config: Config, clock: Clock) -> Mapping[str, Source]:
    """By the scheme of the URL: what everybody has, and blocks where there is a broker. Opens nothing."""
    if config.mqtt is None:
        return SOURCES
    broker = PahoBroker(config.mqtt, bulk_client_id(config.gateway.id), keeps_session=False)
    blocks = BulkLink(broker, f"{config.mqtt.root}/{config.gateway.id}", clock)
    return {**SOURCES, scheme_of(MQTT_URL): BlockPull(blocks, clock)}
