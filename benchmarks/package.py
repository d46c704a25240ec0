"""`deb_size_kib`, `install_to_ready_s`, `security_score`: the Debian package; `service_start_to_ready_s` and
`service_rss_mib`: the installed service with 500 meters, where `idle` has a bare process with 100.

Taken in containers of each release (tests/package/container.py), so only by root on a machine that can run them;
elsewhere only the size is printed.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from package.container import PACKAGE, Container, UnableError, able

from benchmarks.figure import Figure, noise, percentile, spread, tell

SIZE_TARGET_KIB = 300.0
INSTALL_TARGET_S = 30.0
SECURITY_TARGET = 1.5
START_TARGET_S = 1.5
RSS_TARGET_MIB = 80.0
_RELEASES = ("bookworm", "trixie")
_LINES, _METERS_ON_EACH = 10, 50
_SERVICE = {"meters": _LINES * _METERS_ON_EACH, "ports": _LINES}
_ROUNDS = 5
_SETTLE_S = 4.0
_ROOT = Path(__file__).resolve().parent.parent
_UNIT = "meter-gateway.service"


def figures() -> Iterator[Figure]:
    if subprocess.run([_ROOT / "debian/tools/make_deb"], stdout=subprocess.DEVNULL, check=False).returncode:
        tell("no figures of the package: it cannot be built here")
        return
    deb = max((_ROOT / "dist").glob("meter-gateway_*_all.deb"))
    yield Figure(
        "deb_size_kib", deb.stat().st_size / 1024, "KiB", SIZE_TARGET_KIB,
        {"compared": deb.name, "parts_by_themselves_kib": _parts_kib(deb)},
    )  # fmt: skip
    try:
        able()
        installed = {release: _Installed(release, deb) for release in _RELEASES}
    except UnableError as error:
        tell(f"no figures of the installed package: {error}")
        return
    yield _worst(
        "install_to_ready_s", "s", INSTALL_TARGET_S, {release: one.install_s for release, one in installed.items()},
        "apt-get install with everything downloaded to active, all dependencies new",
    )  # fmt: skip
    yield _worst(
        "security_score", "", SECURITY_TARGET, {release: one.security for release, one in installed.items()},
        "systemd-analyze security --offline",
    )  # fmt: skip
    starts_s = {release: one.starts_s for release, one in installed.items()}
    yield _worst(
        "service_start_to_ready_s", "s", START_TARGET_S,
        {release: percentile(samples, 50) for release, samples in starts_s.items()},
        "as a service: process begun to READY=1",
        starts_s={release: spread(samples) for release, samples in starts_s.items()}, **_SERVICE,
    )  # fmt: skip
    yield _worst(
        "service_rss_mib", "MiB", RSS_TARGET_MIB, {release: one.rss_mib for release, one in installed.items()},
        f"as a service: VmRSS {_SETTLE_S:.0f} s after ready", **_SERVICE,
    )  # fmt: skip


def _parts_kib(deb: Path) -> dict[str, float]:
    """What program and documentation have, each packed alone."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["/usr/bin/dpkg-deb", "-x", deb, directory], check=True)
        sizes = {}
        for name, place in (("program", "usr/share/meter-gateway"), ("documentation", "usr/share/doc")):
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w:xz") as tar:
                tar.add(Path(directory) / place, place)
            sizes[name] = len(packed.getvalue()) / 1024
    return sizes


def _worst(
    name: str, unit: str, against: float, by_release: Mapping[str, float], compared: str, **more: object
) -> Figure:
    detail = {
        "compared": f"{compared}; the worse release",
        "by_release": by_release,
        "noise": noise(),
        **more,
    }
    return Figure(name, max(by_release.values()), unit, against, detail)


class _Installed:
    """What one release shows of the package."""

    def __init__(self, release: str, deb: Path) -> None:
        with Container(release, deb) as container, tempfile.TemporaryDirectory() as directory:
            install = "apt-get install -y --no-install-recommends"
            begin = time.monotonic()
            container.run(f"{install} {PACKAGE}; until systemctl -q is-active {_UNIT}; do sleep 0.1; done")
            self.install_s = time.monotonic() - begin
            said = container.run(
                f"systemd-analyze security --no-pager --offline=yes $(systemctl show -P FragmentPath {_UNIT})"
            )
            self.security = float(said.rpartition(": ")[2].split()[0])
            for name, text in _configuration().items():
                (Path(directory) / name).write_text(text)
            container.put(Path(directory) / "gateway.toml", "/etc/meter-gateway/gateway.toml")
            container.put(Path(directory) / "keys.toml", "/etc/credstore/keys.toml", 0o600)
            self.starts_s = [_start_s(container) for _ in range(_ROUNDS)]
            time.sleep(_SETTLE_S)
            status = container.run(f"cat /proc/$(systemctl show -P MainPID {_UNIT})/status")
            self.rss_mib = int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _start_s(container: Container) -> float:
    container.run(f"systemctl restart {_UNIT}")
    begun, ready = (
        int(container.run(f"systemctl show -P {name}TimestampMonotonic {_UNIT}"))
        for name in ("ExecMainStart", "ActiveEnter")
    )
    return (ready - begun) / 1e6


def _configuration() -> dict[str, str]:
    """Lines that are not there, so that what is measured is the gateway's own."""
    settings = ['[gateway]\nsystem_title = "4D47570000000001"\nrequire_synced_clock = false\n']
    secrets = []
    for line in range(_LINES):
        settings.append(f'[[ports]]\nname = "line-{line}"\nkind = "rs485"\ndevice = "/dev/ttyNOT{line}"\n')
        for place in range(_METERS_ON_EACH):
            name = f"MTR{line:02d}{place:02d}"
            settings.append(
                f'[[meters]]\nid = "{name}"\nport = "line-{line}"\nphysical_address = {place + 17}\n'
                'authentication = "hls-gmac"\nsecurity = "both"\n'
            )
            keys = f'encryption_key = "{"0F" * 16}"\nauthentication_key = "{"F0" * 16}"'
            secrets.append(f"[meters.{name}]\n{keys}\n")
    return {"gateway.toml": "\n".join(settings), "keys.toml": "\n".join(secrets)}
