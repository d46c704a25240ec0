"""`meter-gateway simulate`: virtual meters on a virtual RS-485 line, to try things with."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import click

from gateway.cli.root import shared_options
from gateway.cli.text import safe, table


@click.command()
@click.option("--meters", "count", type=click.IntRange(1, 60), default=1, show_default=True, help="How many.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("simulated"),
    show_default=True,
    help="Where the configuration of a gateway for them is written, with its state and socket.",
)
@click.option(
    "--baud", type=click.IntRange(0, 921600), default=9600, show_default=True, help="0: as fast as it goes."
)
@click.option(
    "--reboot", "reboot_s", type=float, default=20.0, show_default=True, help="Seconds after activation."
)
@shared_options
def simulate(count: int, directory: Path, baud: int, reboot_s: float) -> None:
    """Serve virtual meters on a pty until Ctrl-C.

    They speak DLMS over HDLC with HLS-GMAC and AES-GCM, take any image, and report version 2.0.0 after it. In
    DIRECTORY stand gateway.toml and keys.toml of a gateway for them: meter-gateway run --config DIRECTORY/gateway.toml
    """
    from gateway.cli import virtual
    from gateway.simulator import VirtualMeter, serve

    directory.mkdir(parents=True, exist_ok=True)
    home = directory.absolute()
    specs = virtual.meters(count, version="1.0.0", new_version="2.0.0", verify_s=3.0, reboot_s=reboot_s)
    link = home / "line"
    if link.is_symlink():
        link.unlink()
    with serve([VirtualMeter(spec) for spec in specs], link_path=link, baud=baud) as line:
        sections: dict[str, dict[str, object]] = {
            "gateway": {
                "system_title": virtual.SYSTEM_TITLE.hex(),
                "state_dir": str(home / "state"),
                "control_socket": str(home / "control.sock"),
                "require_synced_clock": False,
            },
            "firmware": {"trust": "digest"},
        }
        config = virtual.write_configuration(home, line.address, baud or 9600, specs, sections)
        rows = [
            (virtual.meter_id(i), spec.address.lower, spec.logical_device_name)
            for i, spec in enumerate(specs)
        ]
        click.echo(f"line {safe(line.address)}, {baud or 'any'} baud")
        click.echo(table(rows, head=("METER", "ADDRESS", "NAME")))
        click.echo(f"a gateway for it: meter-gateway run --config {safe(config)}")
        click.echo("Ctrl-C ends the line.")
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                signal.pause()
