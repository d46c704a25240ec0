"""The package through its life on each Debian that is supported; one line for each thing that was looked at.

Exit status 0 where all holds, and where this machine cannot run containers: then a line says `not run here` and why.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from container import BrokenError, Container, UnableError, able

ROOT = Path(__file__).resolve().parents[2]
RELEASES = ("bookworm", "trixie")
READY_S = 30.0
SECURITY = 1.5
UNIT = "meter-gateway.service"
_UPDATE = "/usr/local/bin/update"
_LOOK_S = 0.3


def main() -> int:
    releases = sys.argv[1:] or RELEASES
    # So that a container ends with a test that is told to.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        able()
        package = _package()
        wrong = 0
        for release in releases:
            with Container(release) as container, tempfile.TemporaryDirectory() as directory:
                wrong += _Life(release, container, package, _newer(package, Path(directory))).live()
    except UnableError as error:
        print(f"not run here: {error}")
        return 0
    print("the package lives as it should" if not wrong else f"{wrong} things are wrong with the package")
    return 1 if wrong else 0


class _Life:
    """One release, from installation to purge."""

    def __init__(self, release: str, container: Container, package: Path, newer: Path) -> None:
        self._release = release
        self._in = container
        self._package = package
        self._newer = newer
        self._wrong = 0

    def live(self) -> int:
        """How many things were wrong."""
        for chapter in (
            self._install,
            self._safe_start,
            self._an_update,
            self._killed,
            self._hung,
            self._upgraded,
            self._rebooted,
            self._mistaken,
            self._removed,
        ):
            try:
                chapter()
            except (BrokenError, subprocess.TimeoutExpired) as error:
                self._is(chapter.__name__.strip("_"), False, str(error))
        return self._wrong

    def _install(self) -> None:
        self._in.put(self._package, "/root/package.deb")
        self._in.put(self._newer, "/root/newer.deb")
        self._in.put(ROOT / "debian/tests/update", _UPDATE, 0o755)
        # The dependencies first: what others take to install is not the package's time.
        self._in.run("apt-get install -y --no-install-recommends --download-only /root/package.deb")
        begin = time.monotonic()
        self._in.run("apt-get install -y --no-install-recommends /root/package.deb")
        self._until("active", self._active, READY_S)
        took_s = time.monotonic() - begin
        self._is(f"installed and ready in {took_s:.1f} s", took_s <= READY_S)

    def _safe_start(self) -> None:
        status = self._property("StatusText")
        self._is("says what it lacks", "names no ports" in status, status)
        sockets = (
            f"find /proc/{self._property('MainPID')}/fd -lname 'socket:*' -printf '%l\\n' | tr -dc '0-9\\n'"
        )
        networked = self._in.run(
            f"for inode in $({sockets}); do grep -hw $inode /proc/net/tcp* /proc/net/udp*; done; true"
        )
        self._is("listens on no network", not networked, networked)
        score = (
            self._in.run(f"systemd-analyze security --no-pager {UNIT} | tail -n 1").split(":")[1].split()[0]
        )
        self._is(f"exposure {score}", float(score) <= SECURITY)
        self._is(
            "manual pages",
            "meter-gateway.1" in self._in.run("ls /usr/share/man/man1 /usr/share/doc/meter-gateway"),
        )
        log = self._in.run("stat -c %U:%a /run/meter-gateway /run/meter-gateway/control.sock")
        self._is("socket for its group alone", log.split() == ["meter-gateway:750", "meter-gateway:660"], log)

    def _an_update(self) -> None:
        self._in.run(f"{_UPDATE} prepare")
        self._in.run(f"{_UPDATE} order first && {_UPDATE} await first")
        self._is("an update by MQTT", True)

    def _killed(self) -> None:
        """In mid-transfer; the order goes on."""
        self._in.run(f"{_UPDATE} again")
        self._in.run(f"{_UPDATE} order second 20000")
        self._until("second is under way", lambda: self._transferring("second"), 60)
        before = self._property("MainPID")
        self._in.run(f"kill -9 {before}")
        self._until(
            "started again after kill -9", lambda: self._active() and self._property("MainPID") != before, 20
        )
        self._in.run(f"{_UPDATE} await second")
        self._is("the order went on after kill -9", True)

    def _hung(self) -> None:
        before = self._property("MainPID")
        self._in.run(f"kill -STOP {before}")
        self._until(
            "started again after it hung", lambda: self._active() and self._property("MainPID") != before, 100
        )

    def _upgraded(self) -> None:
        """In mid-campaign: state, running campaign and the administrator's edits stay."""
        self._in.run(f"{_UPDATE} again")
        self._in.run("echo '# edited' >>/etc/meter-gateway/gateway.toml")
        self._in.run(f"{_UPDATE} order third 20000")
        self._until("third is under way", lambda: self._transferring("third"), 60)
        self._in.run("apt-get install -y --no-install-recommends /root/newer.deb")
        self._until("active after the upgrade", self._active, READY_S)
        self._in.run(f"{_UPDATE} await third")
        self._is("the order went on over the upgrade", True)
        self._is("edits stay", "# edited" in self._in.run("cat /etc/meter-gateway/gateway.toml"))
        self._is("older orders stay", "first" in self._in.run("meter-gateway campaign ls"))

    def _rebooted(self) -> None:
        # The virtual bus was a unit of that boot alone: a line that is gone must not keep the service from starting.
        self._in.reboot()
        self._until("active after a reboot, its line gone", self._active, READY_S)
        self._is("orders stay over a reboot", "third" in self._in.run("meter-gateway campaign ls"))

    def _mistaken(self) -> None:
        """A configuration with a mistake: said once, not tried again."""
        self._in.run("echo 'colour = \"red\"' >/etc/meter-gateway/conf.d/wrong.toml")
        self._in.run("systemctl restart meter-gateway", check=False)
        time.sleep(7.0)
        state, result, tries = (
            self._property(name) for name in ("ActiveState", "ExecMainStatus", "NRestarts")
        )
        self._is(
            "a mistake ends it with 2, once",
            (state, result, tries) == ("failed", "2", "0"),
            f"{state} {result} {tries}",
        )
        status = self._property("StatusText") + self._in.run(f"journalctl -q -o cat -n 10 -u {UNIT}")
        self._is("and it says which", "colour" in status, status)
        self._in.run("rm /etc/meter-gateway/conf.d/wrong.toml; systemctl restart meter-gateway")
        self._until("active once it is mended", self._active, READY_S)

    def _removed(self) -> None:
        self._in.run("apt-get remove -y meter-gateway")
        self._is(
            "removed, state and configuration stay",
            not self._active() and self._there("/var/lib/meter-gateway"),
        )
        self._in.run("apt-get purge -y meter-gateway")
        left = self._in.run(
            "find / -xdev -name '*meter-gateway*' -not -path '/proc/*' -not -path '/root/*' -not -path '/run/*'"
            " -not -path '/var/cache/apt/*' -not -path '/var/log/*'"
        ).split()
        self._is("purged, nothing stays", not left, " ".join(left))

    # -- looking ----------------------------------------------------------------------------------------------

    def _property(self, name: str) -> str:
        return self._in.run(f"systemctl show --property={name} --value {UNIT}").strip()

    def _active(self) -> bool:
        return self._property("ActiveState") == "active"

    def _transferring(self, campaign: str) -> bool:
        return "transferring" in self._in.run(f"meter-gateway campaign show {campaign}", check=False)

    def _there(self, path: str) -> bool:
        return self._in.run(f"test -e {path} && echo yes", check=False).strip() == "yes"

    def _until(self, what: str, holds: Callable[[], bool], limit_s: float) -> None:
        begin = time.monotonic()
        while not (held := holds()) and time.monotonic() < begin + limit_s:
            time.sleep(_LOOK_S)
        self._is(f"{what} ({time.monotonic() - begin:.1f} s)", held)

    def _is(self, what: str, holds: bool, otherwise: str = "") -> None:
        print(f"{'ok  ' if holds else 'FAIL'} {self._release}: {what}", flush=True)
        if not holds:
            self._wrong += 1
            print(
                f"     {otherwise}", self._in.run(f"journalctl -q -n 30 -u {UNIT}", check=False), flush=True
            )


def _package() -> Path:
    """The package of this checkout. Raises UnableError where it cannot be built here."""
    if subprocess.run([ROOT / "debian/tools/make_deb"], check=False).returncode:
        raise UnableError("the package cannot be built on this machine (make deb)")
    return max((ROOT / "dist").glob("meter-gateway_*_all.deb"))


def _newer(package: Path, directory: Path) -> Path:
    """The same package with a higher version."""
    tree = directory / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(tree)], check=True)
    control = tree / "DEBIAN" / "control"
    lines = control.read_text().splitlines()
    raised = [f"{line}+next" if line.startswith("Version: ") else line for line in lines]
    control.write_text("\n".join(raised) + "\n")
    newer = directory / "newer.deb"
    built = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(newer)]
    subprocess.run(built, stdout=subprocess.DEVNULL, check=True)
    return newer


if __name__ == "__main__":
    raise SystemExit(main())
