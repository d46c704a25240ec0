"""[profiles.NAME]: what a meter model needs."""

from __future__ import annotations

from dataclasses import replace

from gateway.config import values as v
from gateway.config.table import Table
from gateway.config.windows import system_timezone
from gateway.model import (
    A7Policy,
    BitmapOrder,
    BroadcastFraming,
    ClockPolicy,
    HlsCounter,
    IdentifierSource,
    Match,
    Profile,
)


def read_profile(name: str, table: Table, timezone: str) -> Profile:
    """`timezone`: the gateway's; empty: the system's."""
    known = Profile()
    profile = Profile(
        name=name,
        image_object=table.read("image_object", v.OBIS, known.image_object, "Its Image Transfer object."),
        firmware_object=table.read(
            "firmware_object",
            v.OBIS,
            known.firmware_object,
            "Where its firmware version is read; an order can name another one.",
        ),
        counter_object=table.read(
            "counter_object",
            v.OBIS,
            known.counter_object,
            "Where the public client reads its invocation counter.",
        ),
        block_size=table.read(
            "block_size", v.integer(0, 65535), known.block_size, "Octets in a block; 0: the meter's own."
        ),
        pad_last_block=table.read(
            "pad_last_block", v.BOOLEAN, known.pad_last_block, "Fill the last block up with zeros."
        ),
        match=_match(table),
        enable_transfer=table.read(
            "enable_transfer",
            v.BOOLEAN,
            known.enable_transfer,
            "Set attribute 5 where it is FALSE, and put it back at the end.",
        ),
        in_order_only=table.read(
            "in_order_only",
            v.BOOLEAN,
            known.in_order_only,
            "A block below one that is there is never sent: the transfer begins anew.",
        ),
        identifier=table.read(
            "identifier",
            v.choice(IdentifierSource),
            known.identifier,
            "Where the image's identifier comes from: `given` by the order, the `head` of the file, or its "
            "`md5`.",
        ),
        after_initiate_s=table.read(
            "after_initiate",
            v.duration("0s", "10min"),
            known.after_initiate_s,
            "The meter is left alone so long after initiate, while it erases its flash; others are served.",
        ),
        a7=table.read(
            "a7",
            v.choice(A7Policy),
            known.a7,
            "`check`: what the meter would activate must be this image; `skip`: for models that deny "
            "attribute 7.",
        ),
        bitmap=table.read(
            "bitmap",
            v.choice(BitmapOrder),
            known.bitmap,
            "Order of bits in attribute 3; `ignore` where it cannot be believed: one unbroken association, "
            "nothing is resumed.",
        ),
        max_initiates=table.read(
            "max_initiates",
            v.integer(1, 20),
            known.max_initiates,
            "How often an order may begin anew in one meter, for flash wears.",
        ),
        verify_timeout_s=table.read(
            "verify_timeout",
            v.duration("1s", "1d"),
            known.verify_timeout_s,
            "How long the meter may check the image.",
        ),
        activate_timeout_s=table.read(
            "activate_timeout",
            v.duration("1s", "1d"),
            known.activate_timeout_s,
            "How long until it must report the new version.",
        ),
        reconnect_after_s=table.read(
            "reconnect_after",
            v.duration("0s", "1h"),
            known.reconnect_after_s,
            "The meter is left alone so long after activation, while it restarts.",
        ),
        snrm_parameters=table.read(
            "snrm_parameters", v.BOOLEAN, known.snrm_parameters, "Propose HDLC parameters when connecting."
        ),
        max_info=table.read(
            "max_info",
            v.integer(32, 2030),
            known.max_info,
            "Longest HDLC information field that is proposed, in octets.",
        ),
        window=table.read(
            "window", v.integer(1, 7), known.window, "HDLC window that is proposed, in frames."
        ),
        hls_counter=table.read(
            "hls_counter",
            v.choice(HlsCounter),
            known.hls_counter,
            "Which message of the fourth pass of HLS takes the lower invocation counter.",
        ),
        optical_delay_before_ack_s=table.read(
            "optical_delay_before_ack",
            v.duration("0s", "1400ms"),
            known.optical_delay_before_ack_s,
            "With mode E: pause before the acknowledgement that agrees on a rate.",
        ),
        optical_delay_after_ack_s=table.read(
            "optical_delay_after_ack",
            v.duration("0s", "10s"),
            known.optical_delay_after_ack_s,
            "With mode E: pause before HDLC begins at that rate.",
        ),
        broadcast=table.read(
            "broadcast",
            v.BOOLEAN,
            known.broadcast,
            "Meters of this model may take blocks together with others of an RS-485 bus, where the order "
            "says so.",
        ),
        broadcast_client=table.read(
            "broadcast_client",
            v.integer(1, 127),
            known.broadcast_client,
            "Client address that broadcasts come from.",
        ),
        broadcast_framing=table.read(
            "broadcast_framing",
            v.choice(BroadcastFraming),
            known.broadcast_framing,
            "How ciphered blocks are broadcast: `glo`, or `general-glo` with the gateway's system title in "
            "each.",
        ),
        broadcast_gap_s=table.read(
            "broadcast_gap",
            v.duration("0s", "1min"),
            known.broadcast_gap_s,
            "The line rests so long after each broadcast block.",
        ),
        broadcast_max_info=table.read(
            "broadcast_max_info",
            v.integer(32, 2030),
            known.broadcast_max_info,
            "Longest information field of a UI frame that the model takes, in octets; a block must fit it "
            "whole.",
        ),
        activation_schedule=table.read(
            "activation_schedule",
            v.OBIS,
            known.activation_schedule,
            "The Single action schedule of its image activation, usually `0-0:15.0.2.255`: orders may then "
            "let the meter run the image by itself, at a time.",
        ),
        activation_script=table.read(
            "activation_script",
            v.OBIS,
            known.activation_script,
            "The script table that the schedule refers to.",
        ),
        activation_selector=table.read(
            "activation_selector", v.integer(0, 65535), known.activation_selector, "The script in that table."
        ),
        activation_timezone=table.read(
            "activation_timezone",
            v.TIMEZONE,
            known.activation_timezone,
            "What the meter's clock shows. Without it: the gateway's time zone.",
        ),
        activation_clock=table.read(
            "activation_clock",
            v.choice(ClockPolicy),
            known.activation_clock,
            "`skip`: do not compare the meter's clock before its schedule is given a time.",
        ),
        health_checks=table.read(
            "health_checks",
            v.list_of(v.OBJECT_ATTRIBUTE),
            known.health_checks,
            "Attributes that are read before and after an update; a difference is told.",
        ),
        health_failure=table.read(
            "health_failure",
            v.BOOLEAN,
            known.health_failure,
            "A difference makes the update of that meter fail (`T_HEALTH`).",
        ),
    )
    if profile.activation_schedule and not profile.activation_timezone:
        profile = replace(profile, activation_timezone=timezone or system_timezone())
    names = [check.text for check in profile.health_checks]
    if len(set(names)) < len(names):
        table.wrong("health_checks", "each object once")
    if profile.health_failure and not names:
        table.wrong("health_failure", "false, for there are no health_checks")
    table.finish()
    return profile


def _match(profile: Table) -> Match | None:
    """`match = { object = "...", pattern = "..." }`; None where there is none."""
    table = profile.table("match")
    if "match" not in profile:
        return None
    match = Match(
        object=table.read(
            "object", v.OBIS, "", "An object (attribute 2) that says which model it is.", required=True
        ),
        pattern=table.read(
            "pattern", v.TEXT, "", "What it must say; `*`, `?` and `[...]` as in file names.", required=True
        ),
    )
    table.finish()
    return match
