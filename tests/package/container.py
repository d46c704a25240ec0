"""A Debian container with systemd as its first process, thrown away after use. Standard library only.

The base of each release is made once by debootstrap and kept in $MGW_TEST_CACHE (/var/cache/meter-gateway-test); a
container is a layer over it. Its network is the machine's own.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

CACHE = Path(os.environ.get("MGW_TEST_CACHE", "/var/cache/meter-gateway-test"))
TOOLS = ("debootstrap", "systemd-nspawn", "nsenter", "mount", "apt-get")
_PACKAGES = (
    "systemd-sysv",
    "dbus",
    "udev",
    "procps",
    "python3",
    "mosquitto",
    "mosquitto-clients",
    "ca-certificates",
)
_BOOT_S, _HALT_S = 90.0, 30.0
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


class UnableError(Exception):
    """This machine cannot run containers; the message says what it lacks."""


class BrokenError(Exception):
    """A container, or something in it, did not do what was asked."""


class Container:
    """One container of `release`, running from `with` on; `arch` is another than the machine's, which it emulates."""

    def __init__(self, release: str, arch: str = "", boot_s: float = _BOOT_S) -> None:
        self._release = release
        self._arch = arch
        self._boot_s = boot_s
        self._place = Path(tempfile.mkdtemp(prefix="mgw-container-"))
        self._root = self._place / "root"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._groups = [
            base / self._place.name
            for base in map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"))
            if (base / "cgroup.procs").exists()
        ]

    def __enter__(self) -> Self:
        try:
            self._layer(_base(self._release, self._arch))
            self.boot()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    @property
    def root(self) -> Path:
        """Its tree, as the machine sees it."""
        return self._root

    def boot(self) -> None:
        """Start it and wait until systemd has started everything. Raises UnableError."""
        command = [
            "systemd-nspawn",
            "--quiet",
            f"--directory={self._root}",
            f"--machine={self._place.name.replace('_', '-')}",
        ]
        command += ["--register=no", "--resolv-conf=off", "--timezone=off", "--console=pipe", "--boot"]
        if not Path("/run/systemd/system").exists():
            command.append("--keep-unit")
        for group in self._groups:
            group.mkdir(exist_ok=True)
        # Each hierarchy of control groups has one of its own, which the container may do with as it likes.
        join = "".join(f"echo $$ >{group}/cgroup.procs; " for group in self._groups)
        command = ["/bin/sh", "-c", f'{join}exec "$@"', "sh", *command]
        with (self._place / "console").open("ab") as console:
            self._nspawn = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                start_new_session=True,
            )
        deadline = time.monotonic() + self._boot_s
        while time.monotonic() < deadline and self._nspawn.poll() is None:
            children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
            self._leader = int(children[0]) if children else 0
            if self._leader and self.run("systemctl is-system-running", check=False).strip() in (
                "running",
                "degraded",
            ):
                return
            time.sleep(0.3)
        said = (self._place / "console").read_text(errors="replace")[-1500:]
        raise UnableError(f"a container of {self._release} does not start here:\n{said}")

    def run(self, script: str, *, check: bool = True, timeout_s: float = 300.0) -> str:
        """The output of a shell script in it, stderr as well. Raises BrokenError where it fails."""
        enter = [
            "nsenter",
            f"--target={self._leader}",
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            "--cgroup",
        ]
        done = subprocess.run(
            [*enter, "/bin/bash", "-c", script],
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise BrokenError(f"{script}: exit status {done.returncode}\n{done.stdout[-3000:]}")
        return done.stdout

    def put(self, file: Path, place: str, mode: int = 0o644) -> None:
        """Copy a file of the machine into it."""
        script = f"mkdir -p {shlex.quote(str(Path(place).parent))}; cat >{shlex.quote(place)}; chmod {mode:o} {place}"
        enter = ["nsenter", f"--target={self._leader}", "--mount", "--pid"]
        with file.open("rb") as content:
            subprocess.run([*enter, "/bin/sh", "-c", script], env=_ENVIRONMENT, stdin=content, check=True)

    def reboot(self) -> None:
        self.run("systemctl reboot", check=False)
        self._await_end()
        self.boot()

    # -- below ------------------------------------------------------------------------------------------------

    def _layer(self, base: Path) -> None:
        for name in ("root", "upper", "work"):
            (self._place / name).mkdir()
        upper = f"lowerdir={base},upperdir={self._place}/upper,workdir={self._place}/work"
        layered = ["mount", "-t", "overlay", "overlay", "-o", upper, str(self._root)]
        if subprocess.run(layered, stderr=subprocess.DEVNULL, check=False).returncode:
            subprocess.run(["cp", "-a", "--reflink=auto", f"{base}/.", str(self._root)], check=True)
        shutil.copy("/etc/resolv.conf", self._root / "etc" / "resolv.conf")

    def _await_end(self) -> None:
        if self._nspawn is None:
            return
        try:
            self._nspawn.wait(_HALT_S)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        self._nspawn = None

    def _remove(self) -> None:
        if self._nspawn and self._leader:
            self.run("systemctl poweroff --force", check=False)
        self._await_end()
        if os.path.ismount(self._root):
            subprocess.run(["umount", "--lazy", str(self._root)], check=False)
        for group in self._groups:
            inner = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
            for directory in [*inner, group]:
                with contextlib.suppress(OSError):  # some hierarchies tidy up by themselves
                    directory.rmdir()
        if not os.path.ismount(self._root):
            shutil.rmtree(self._place, ignore_errors=True)


def able() -> None:
    """Raises UnableError where this machine lacks what containers need."""
    if os.geteuid() != 0:
        raise UnableError("only root can start containers")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise UnableError(
            f"not installed: {', '.join(missing)} (apt-get install debootstrap systemd-container)"
        )


def _base(release: str, arch: str) -> Path:
    """The tree of a release with what the test needs; made once. Raises UnableError."""
    name = f"{release}-{arch}" if arch else release
    base, marker = CACHE / name, CACHE / f"{name}.complete"
    if marker.exists():
        return base
    shutil.rmtree(base, ignore_errors=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    archives = _archives()
    command = [
        "debootstrap",
        *([f"--arch={arch}"] if arch else []),
        "--variant=minbase",
        f"--include={','.join(_PACKAGES)}",
        release,
        str(base),
        archives[0],
    ]
    print(f"-- {name}: making the base in {base}, once", flush=True)
    made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if made.returncode:
        raise UnableError(f"debootstrap of {name} failed: {made.stdout.strip().splitlines()[-1]}")
    suites = [
        f"deb {archives[0]} {release} main",
        *(f"deb {url} {release}-security main" for url in archives[1:]),
    ]
    (base / "etc/apt/sources.list").write_text("\n".join(suites) + "\n")
    dumped = subprocess.run(["apt-config", "dump"], stdout=subprocess.PIPE, text=True, check=True).stdout
    kept = [
        line
        for line in dumped.splitlines()
        if line.startswith(("Acquire::http", "Acquire::https", "Acquire::Check"))
    ]
    (base / "etc/apt/apt.conf.d/99test").write_text(
        "\n".join([*kept, 'APT::Install-Recommends "false";']) + "\n"
    )
    # The network is the machine's: nothing may take its ports or set its clock.
    for unit in (
        "mosquitto.service",
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "systemd-timesyncd.service",
    ):
        (base / "etc/systemd/system" / unit).unlink(missing_ok=True)
        (base / "etc/systemd/system" / unit).symlink_to("/dev/null")
    shutil.copy("/etc/resolv.conf", base / "etc/resolv.conf")
    (base / "etc/machine-id").write_text("")
    subprocess.run(["chroot", str(base), "apt-get", "update", "-qq"], env=_ENVIRONMENT, check=True)
    marker.touch()
    return base


def _archives() -> Sequence[str]:
    """Debian's archive and its security archive, as this machine's apt knows them."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    urls = sorted({url.rstrip("/") for url in listed})
    main = [url for url in urls if url.endswith("/debian")] or ["http://deb.debian.org/debian"]
    return [main[0], *[url for url in urls if url.endswith("/debian-security")][:1]]
