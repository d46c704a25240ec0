"""A Debian container with systemd as its first process, thrown away after use. Standard library only.

The base of each release, with everything downloaded that the package depends on, is made once by debootstrap and kept
in $MGW_TEST_CACHE (/var/cache/meter-gateway-test; without it, the next run makes it again). A container is a layer
over it, and needs no archive any more. Its network is the machine's own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("MGW_TEST_CACHE", "/var/cache/meter-gateway-test"))
PACKAGE = "/root/package.deb"
"""Where a container has the package."""
UNABLE = 77
"""Exit status of what this machine cannot run; of debian/tools/make_deb as well."""
TOOLS = {"debootstrap": "debootstrap", "systemd-nspawn": "systemd-container"}
"""Commands, and the packages that have them."""
ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""What runs so ends with all its processes and mounts."""
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
# What tries the package's own tests, its manual pages and its completions; not where all is emulated.
_READERS = (
    "autopkgtest",
    "man-db",
    "bash-completion",
    "zsh",
    "fish",
)
_BOOT_S, _HALT_S, _APT_S = 180.0, 60.0, 300.0
_DEBOOTSTRAP_S, _EMULATED_S = 900.0, 3600.0
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
    """One container of `release` that has `package`, not installed, at PACKAGE; running from `with` on. `arch` is
    another than the machine's, which it emulates."""

    def __init__(self, release: str, package: Path, *, arch: str = "", boot_s: float = _BOOT_S) -> None:
        self._release = release
        self._arch = arch
        self._boot_s = boot_s
        self._package = package
        self._held = contextlib.ExitStack()
        self._place = Path(tempfile.mkdtemp(prefix="mgw-container-"))
        self._root = self._place / "root"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self._groups = _groups(self._place)
        self._booted = False

    def __enter__(self) -> Self:
        try:
            self._layer(self._held.enter_context(_base(self._release, self._arch, self._package)))
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
        """Start it and wait until systemd has started everything. Raises UnableError where it never did,
        BrokenError where it did before."""
        command = [
            "systemd-nspawn",
            "--quiet",
            f"--directory={self._root}",
            # Not the directory's name: a machine's may not end in what mkdtemp may.
            f"--machine=mgw-{secrets.token_hex(8)}",
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
                self._booted = True
                return
            time.sleep(0.3)
        said = (self._place / "console").read_text(errors="replace")[-1500:]
        error = BrokenError if self._booted else UnableError
        raise error(f"a container of {self._release} does not start here:\n{said}")

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
            # `kill 0` in it is meant for nobody out here.
            start_new_session=True,
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
        shutil.copy(self._package, f"{self._root}{PACKAGE}")

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
        self._held.close()
        if not os.path.ismount(self._root):
            forget(self._place)


def forget(place: Path) -> None:
    """Remove what is left of a container that has ended."""
    for group in _groups(place):
        inner = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
        for directory in [*inner, group]:
            with contextlib.suppress(OSError):  # some hierarchies tidy up by themselves
                directory.rmdir()
    shutil.rmtree(place, ignore_errors=True)


def _groups(place: Path) -> list[Path]:
    """A control group for a container, in each hierarchy that there is."""
    hierarchies = map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"))
    return [hierarchy / place.name for hierarchy in hierarchies if (hierarchy / "cgroup.procs").exists()]


def able() -> None:
    """Get what containers need. Raises UnableError where this machine lacks it."""
    if os.geteuid() != 0:
        raise UnableError("only root can start containers")
    missing = sorted(package for tool, package in TOOLS.items() if shutil.which(tool) is None)
    if missing:
        if shutil.which("apt-get") is None:
            raise UnableError(f"not installed: {', '.join(missing)}")
        print(f"-- installing {', '.join(missing)}", file=sys.stderr, flush=True)
        for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            _prepare(["apt-get", "-qq", *command], _APT_S)
    _prepare([*ALONE, "true"], _APT_S)


def built() -> Path:
    """The package of this checkout. Raises UnableError where it cannot be built here, BrokenError where it cannot be
    built at all."""
    status = subprocess.run([ROOT / "debian/tools/make_deb"], check=False).returncode
    if status == UNABLE:
        raise UnableError("it cannot be built on this machine (make deb)")
    if status:
        raise BrokenError("the package does not build (make deb)")
    return max((ROOT / "dist").glob("meter-gateway_*_all.deb"))


def _prepare(command: Sequence[str], timeout_s: float) -> None:
    """Raises UnableError with the last line it said where it fails."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout_s,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnableError(str(error)) from error
    if done.returncode:
        raise UnableError(f"{' '.join(command)}: {(done.stdout.strip().splitlines() or [''])[-1]}")


@contextlib.contextmanager
def _base(release: str, arch: str, package: Path) -> Iterator[Path]:
    """The tree of a release with what the test needs, kept as it is until the end. Raises UnableError."""
    name = f"{release}-{arch}" if arch else release
    base, recipe = CACHE / f"{name}.tree", CACHE / f"{name}.recipe"
    depends = subprocess.run(
        ["dpkg-deb", "--field", str(package), "Depends"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    wanted = "\n".join([*_packages(arch), depends])
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        while not recipe.exists() or recipe.read_text() != wanted:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Another run may have made it while this one waited.
            if not recipe.exists() or recipe.read_text() != wanted:
                recipe.unlink(missing_ok=True)
                _make_base(release, arch, base, package)
                recipe.write_text(wanted)
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield base


def _make_base(release: str, arch: str, base: Path, package: Path) -> None:
    shutil.rmtree(base, ignore_errors=True)
    archives = _archives()
    command = [
        "debootstrap",
        *([f"--arch={arch}"] if arch else []),
        "--variant=minbase",
        f"--include={','.join(_packages(arch))}",
        release,
        str(base),
        archives[0],
    ]
    print(f"-- {base.stem}: making the base in {base}, once", file=sys.stderr, flush=True)
    _prepare(command, _EMULATED_S if arch else _DEBOOTSTRAP_S)
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
    shutil.copy(package, f"{base}{PACKAGE}")
    limit_s = _EMULATED_S if arch else _APT_S
    _prepare(["chroot", str(base), "apt-get", "update", "-qq", "--error-on=any"], limit_s)
    download = [
        "apt-get",
        "-oAcquire::Retries=3",
        "install",
        "-qq",
        "-y",
        "--no-install-recommends",
        "--download-only",
    ]
    done = subprocess.run(
        ["chroot", str(base), *download, PACKAGE],
        env=_ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=limit_s,
    )
    if done.returncode:
        # The archive was there a moment ago: this is the package's fault.
        raise BrokenError(f"{release} lacks what the package depends on: {done.stdout[-1000:]}")


def _packages(arch: str) -> Sequence[str]:
    return _PACKAGES if arch else (*_PACKAGES, *_READERS)


def _archives() -> Sequence[str]:
    """Debian's archive and its security archive, as this machine's apt knows them."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    urls = sorted({url.rstrip("/") for url in listed})
    main = [url for url in urls if url.endswith("/debian")] or ["http://deb.debian.org/debian"]
    return [main[0], *[url for url in urls if url.endswith("/debian-security")][:1]]
