"""The meters that the daemon is measured with: quick ones, so that what it waits for is not them."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.process import NEW, OLD, SYSTEM_TITLE
from gateway.model import Authentication, MeterKeys, Security
from gateway.simulator import MeterSpec
from gateway.wire.hdlc import Address

BLOCK_OCTETS = 512

CIPHERED = MeterSpec(
    address=Address(1, 17),
    authentication=Authentication.HLS_GMAC,
    security=Security.BOTH,
    keys=MeterKeys(bytes(range(16)), bytes(range(0xD0, 0xE0))),
    client_title=SYSTEM_TITLE,
    version=OLD,
    new_version=NEW,
    block_size=BLOCK_OCTETS,
    max_info=2030,
    max_pdu=2030,
    response_s=0.0,
    verify_s=0.05,
    reboot_s=0.2,
)
"""One block is one frame of 512 octets and what ciphering adds."""

PLAIN = replace(CIPHERED, authentication=Authentication.NONE, security=Security.NONE)
