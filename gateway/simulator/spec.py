"""What a virtual meter is: its identity, its links, its keys, its firmware and how long its work takes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gateway.model import Authentication, BroadcastFraming, HlsCounter, IdentifierSource, MeterKeys, Security
from gateway.wire.action_schedule import Execution
from gateway.wire.apdu import Attribute
from gateway.wire.axdr import Data
from gateway.wire.hdlc import Address

PUBLIC_CLIENT = 16
"""May read the logical device name, the counter and the clock, without authentication (Green Book, client SAPs)."""


@dataclass(frozen=True, slots=True)
class MeterSpec:
    """One meter as it left its factory. Times in seconds, sizes in octets."""

    logical_device_name: str = "SIM0000000000001"
    address: Address = field(default_factory=lambda: Address(1, 1))
    """As the meter writes it into its own frames; what it hears is compared decoded. Over the wrapper the upper
    half is its wPort."""
    texts: tuple[tuple[str, str], ...] = ()
    """Other objects of class 1 and what they say, for example its model."""
    new_texts: tuple[tuple[str, str], ...] = ()
    """What they say once it runs the new version, where that is something else."""

    values: tuple[tuple[Attribute, Data], ...] = ()
    """Attributes of any other objects, for its client."""

    # -- who may come in, and how
    client: int = 1
    """The client SAP that may update firmware; the public client may always read what is public."""
    authentication: Authentication = Authentication.NONE
    security: Security = Security.NONE
    """Every APDU of the client is protected exactly so (context 3); NONE: context 1."""
    keys: MeterKeys = field(default_factory=MeterKeys, repr=False)
    system_title: bytes = b"SIM\x00\x00\x00\x00\x01"
    client_title: bytes = b""
    """The only system title that the client may call itself; empty: any."""
    dedicated_keys: bool = True
    """Takes a dedicated key, and then insists on it."""
    general: bool = False
    """Speaks and takes general-glo-ciphering instead of the service-specific kind."""
    client_counter: int = 0
    """The highest invocation counter that the client has used before this simulation."""
    own_counter: int = 0
    """The same of the meter."""
    hls_counter: HlsCounter | None = None
    """Insists on this order of the counters of proof and APDU; None: takes both, but never the same."""

    # -- how it talks
    max_pdu: int = 1024
    max_info: int = 512
    window: int = 1
    """Frames, both ways."""
    response_s: float = 0.02
    inactivity_s: float = 120.0
    """The link is dropped after so long a silence; 0: never."""

    # -- what is said to all meters of a line
    broadcast_client: int = 0
    """The only client whose broadcasts it takes; 0: none. Ciphered, it knows the sender by `client_title`."""
    broadcast_framing: BroadcastFraming = BroadcastFraming.GLO
    broadcast_max_info: int = 128
    """Octets of information that it takes in a UI frame."""

    # -- its firmware
    firmware_object: str = "1-0:0.2.0.255"
    counter_object: str = "0-0:43.1.1.255"
    image_object: str = "0-0:44.0.0.255"
    public_version: bool = True
    """The public client may read the firmware version."""
    version: str = "1.0.0"
    new_version: str = "2.0.0"
    """What the meter reports after it has activated an image."""
    transfer_enabled: bool = True
    block_size: int = 256
    image_capacity: int = 16 * 2**20
    image_identifier: bytes = b""
    """The only identifier that initiate takes; empty: any."""
    image_identifier_octets: int = 0
    """Initiate takes identifiers of this length only; 0: any."""
    image_identifier_in: IdentifierSource = IdentifierSource.GIVEN
    """Verification demands that the identifier is the one in the head of the image, or its MD5."""
    image_sha256: str = ""
    """Verification demands this digest; empty: any complete image is good."""
    activation_script: str = "0-0:10.0.107.255"
    activation_selector: int = 1
    """The script that activates the image."""
    schedule_object: str = "0-0:15.0.2.255"
    armed: tuple[Execution, ...] = ()
    """What its schedule has from the factory."""
    armed_selector: int = 1
    """The script that it runs."""
    timezone: str = "UTC"
    """Of its clock."""
    erase_s: float = 0.0
    verify_s: float = 2.0
    reboot_s: float = 20.0


def several(spec: MeterSpec, count: int) -> list[MeterSpec]:
    """`count` meters like `spec` for one line: lower addresses, the ends of names and system titles count up from
    those of `spec`. ValueError where the address has no lower half, or the name does not end in digits."""
    address, name = spec.address, spec.logical_device_name
    digits = name[len(name.rstrip("0123456789")) :]
    if count > 1 and (address.lower is None or not digits):
        raise ValueError(f"cannot count up address {address} and name {name!r}")
    title = int.from_bytes(spec.system_title, "big")
    return [
        replace(
            spec,
            address=replace(address, lower=None if address.lower is None else address.lower + index),
            logical_device_name=f"{name[: len(name) - len(digits)]}{int(digits or 0) + index:0{len(digits)}}",
            system_title=(title + index).to_bytes(len(spec.system_title), "big"),
        )
        for index in range(count)
    ]
