"""The package on an emulated arm64, which a Raspberry Pi is: tests/package/arm64.py [bookworm|trixie ...]

systemd boots in a container whose programs QEMU's user emulation runs; the package is installed with apt, the service
updates two virtual meters by an order over MQTT, and its memory is looked at. Then instructions of a start and of a
block are counted in the same tree and printed as `make bench` prints figures. The times are the emulator's and prove
nothing, so none is told; nor is the service's sandbox looked at, which passes through the emulator.

Exit status 0 where all holds, and where this machine cannot do it: then a line says `not run here` and why.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from container import PACKAGE, ROOT, BrokenError, Container, UnableError, able, built

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benchmarks.instructions import UncountedError, emulated, figures_by  # noqa: E402 (the path comes first)

_RELEASES = ("bookworm",)
_UPDATE = "/usr/local/bin/update"
_UNIT = "meter-gateway.service"
_BOOT_S, _INSTALL_S, _UPDATE_S = 600.0, 1800.0, 900.0
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_FORMAT = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
# Under the emulator systemd cannot hand over credentials (`Failed to set up credentials: Invalid argument`), so the
# keys are where a gateway without credentials has them.
_WITHOUT_CREDENTIALS = """[Service]
LoadCredential=
ExecStartPre=-+/usr/bin/install -o meter-gateway -m 600 /etc/credstore/keys.toml /etc/meter-gateway/keys.toml
"""


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        able()
        package = built()
        with _emulation():
            for release in sys.argv[1:] or _RELEASES:
                with Container(release, package, arch="arm64", boot_s=_BOOT_S) as container:
                    _lives(release, container)
                    _counted(container)
    except UnableError as error:
        print(f"not run here: {error}")
    except (BrokenError, subprocess.TimeoutExpired) as error:
        print(f"FAIL {error}")
        return 1
    return 0


def _lives(release: str, container: Container) -> None:
    """Installed, an update, memory. Raises BrokenError."""
    with tempfile.TemporaryDirectory() as directory:
        settings = Path(directory) / "emulated.conf"
        settings.write_text(_WITHOUT_CREDENTIALS)
        container.put(settings, f"/etc/systemd/system/{_UNIT}.d/emulated.conf")
    container.put(ROOT / "debian/tests/update", _UPDATE, 0o755)
    container.run(
        f"systemctl daemon-reload; apt-get install -y --no-install-recommends {PACKAGE}",
        timeout_s=_INSTALL_S,
    )
    container.run(f"timeout 120 sh -c 'until systemctl -q is-active {_UNIT}; do sleep 1; done'")
    _tell(release, f"installed on {container.run('uname -m').strip()}, and the service is ready")
    container.run(f"{_UPDATE} prepare && {_UPDATE} order first && {_UPDATE} await first", timeout_s=_UPDATE_S)
    _tell(release, "an update by MQTT: both meters report the new version")
    whole, own = _memory_mib(container)
    _tell(release, f"memory of the service: {own:.0f} MiB of its own, {whole:.0f} MiB with the emulator's")


def _counted(container: Container) -> None:
    try:
        with emulated(container.root) as counter:
            for figure in figures_by(counter):
                print(figure.line(), flush=True)
    except UncountedError as error:
        print(f"not counted here: {error}", flush=True)


def _memory_mib(container: Container) -> tuple[float, float]:
    """What of the service is in memory, and of that what is not the emulator's: neither QEMU's own file, nor its heap
    and stack, nor the code that it made (the only memory that can be written and executed)."""
    maps = container.run(f"cat /proc/$(systemctl show -P MainPID {_UNIT})/smaps")
    whole = own = 0
    emulators = False
    for line in maps.splitlines():
        if begun := re.match(r"[0-9a-f]+-[0-9a-f]+ (\S+) \S+ \S+ \S+ *(.*)", line):
            permissions, place = begun.groups()
            emulators = permissions.startswith("rwx") or "qemu" in place or place.startswith("[")
        elif line.startswith("Rss:"):
            whole += (kib := int(line.split()[1]))
            own += 0 if emulators else kib
    return whole / 1024, own / 1024


@contextmanager
def _emulation() -> Iterator[None]:
    """The kernel hands programs of arm64 to QEMU. Raises UnableError."""
    if not _FORMAT.exists():
        raise UnableError(
            "QEMU's user emulation is not installed (apt-get install qemu-user-static; on Debian 13"
            " qemu-user-binfmt)"
        )
    if not (_BINFMT / "register").exists():
        mounted = ["mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)]
        if subprocess.run(mounted, stderr=subprocess.DEVNULL, check=False).returncode:
            raise UnableError("this kernel knows no other binary formats (binfmt_misc)")
    entry = _BINFMT / "qemu-aarch64"
    ours = not entry.exists()
    if ours:
        (_BINFMT / "register").write_text(_FORMAT.read_text())
    try:
        yield
    finally:
        if ours:
            entry.write_text("-1")


def _tell(release: str, what: str) -> None:
    print(f"ok   {release} arm64: {what}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
