"""A real MQTT broker for tests and the demo, on a machine that has none, without root and without installing it.

`mosquitto_path()` gives a mosquitto that runs, `client_path()` its clients: those on PATH, else the distribution's own
packages with the libraries they lack, unpacked under build/ of this checkout. `Mosquitto` runs it on a free loopback
port.
As a script it prints the path, and tries more than once: `python tests/support/broker.py`.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import unquote

_CHECKOUT = Path(__file__).resolve().parents[2]
_UNPACKED = _CHECKOUT / "build" / "mosquitto"
_START_TIMEOUT_S = 120.0
_APT_TIMEOUT_S = 300.0
_APT_PAUSES_S = (5.0, 20.0, 60.0)
"""Before each further attempt: a mirror that is being updated, or a network that is away for a moment."""
_LOWEST_PORT = 10_000

# The libraries lie beside the binary, not where the loader looks.
_LAUNCHER = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
for directory in "$here"/root/lib/*-linux-* "$here"/root/usr/lib/*-linux-*; do
    LD_LIBRARY_PATH="$directory${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
done
export LD_LIBRARY_PATH
exec "$here"/root/usr/*bin/"$(basename "$0")" "$@"
"""
_PROGRAMS = ("mosquitto", "mosquitto_pub", "mosquitto_sub")


class BrokerMissingError(Exception):
    """No mosquitto, and none could be had; the message says what to do."""


def mosquitto_path() -> Path:
    """A mosquitto that runs. Gets it at the first call on a machine; raises BrokerMissingError."""
    return _program("mosquitto")


def client_path(name: str) -> Path:
    """mosquitto_pub or mosquitto_sub, got like mosquitto itself."""
    return _program(name)


def _program(name: str) -> Path:
    search_path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    installed = shutil.which(name, path=search_path)
    if installed:
        return Path(installed)
    launcher = _UNPACKED / name
    with _one_at_a_time():
        if not _runs(launcher):
            _obtain(_UNPACKED)
            if not _runs(launcher):
                raise BrokerMissingError(f"{launcher} was unpacked but does not run: install {name}")
    return launcher


class Mosquitto:
    """One broker process. `settings` are lines of mosquitto.conf(5) besides the listener; `acl` the lines of its
    ACL file; `whole`, a file of its own, stands in the place of both. Port, persisted sessions and retained messages
    stay the same over stop() and start()."""

    def __init__(self, directory: Path, *, settings: str = "", acl: str = "") -> None:
        self.directory = directory
        self.whole: Path | None = None
        self._settings = settings
        self._acl = acl
        self._binary = mosquitto_path()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until it listens."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary, "-c", self._configuration()], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._listens() or self._process.poll() is not None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise BrokerMissingError(f"mosquitto did not start: {self.log()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it in order: it saves sessions and retained messages."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without warning."""
        self._end(signal.SIGKILL)

    def set_acl(self, acl: str) -> None:
        """Replace the rules of a running broker that was started with some."""
        self._acl = acl
        self._configuration()
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def cpu_s(self) -> float:
        """CPU that it has used so far, user and system."""
        assert self._process is not None, "started before"
        # The clock of another process, as clock_getcpuclockid(3) names it on Linux.
        return time.clock_gettime(~self._process.pid << 3 | 2)

    def log(self) -> str:
        """What it wrote so far: every packet with its sender."""
        return self._log_file.read_text(errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _log_file(self) -> Path:
        return self.directory / "mosquitto.log"

    def _configuration(self) -> Path:
        if self.whole is not None:
            return self.whole
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {self.directory}/",
            "log_type all",
            "user root",  # started by root it would become a user who may not write here; ignored otherwise
            self._settings,
        ]
        if "allow_anonymous" not in self._settings:
            lines.append("allow_anonymous true")
        if self._acl:
            rules = self.directory / "acl"
            rules.write_text(self._acl)
            rules.chmod(0o600)
            lines.append(f"acl_file {rules}")
        path = self.directory / "mosquitto.conf"
        path.write_text("\n".join(lines) + "\n")
        return path

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(_START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def password_file(directory: Path, user: str, password: str) -> Path:
    """One user for `password_file` of mosquitto.conf(5): PBKDF2 with SHA-512, as mosquitto_passwd(1) writes it."""
    salt = b"twelve bytes"
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
    file = directory / "users"
    file.write_text(f"{user}:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n")
    file.chmod(0o600)
    return file


def _free_port() -> int:
    """One that stays free while nobody listens: below those that the system gives to connections that go out. Of
    theirs another program may get one, or a client that tries to reach the broker connects to itself."""
    lowest_outgoing = 32_768
    with contextlib.suppress(OSError):
        lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = _LOWEST_PORT + secrets.randbelow(max(lowest_outgoing - _LOWEST_PORT, 1000))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _runs(binary: Path) -> bool:
    if not binary.exists():
        return False
    shown = subprocess.run([binary, "--help"], capture_output=True, check=False, timeout=_START_TIMEOUT_S)
    return f"{binary.name} version".encode() in shown.stdout


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Several test runs of one checkout must not unpack over each other."""
    _UNPACKED.parent.mkdir(exist_ok=True)
    with (_UNPACKED.parent / "mosquitto.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _obtain(target: Path) -> None:
    """Unpack the distribution's mosquitto, and the libraries that this machine lacks, into `target`."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise BrokerMissingError(f"no mosquitto on PATH, and no {tool} to get it with: install mosquitto")
    fresh = target.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    downloads = fresh / "downloads"
    downloads.mkdir(parents=True)
    apt = _apt(fresh / "apt")
    _run([*apt, "update"], downloads)
    programs = ["mosquitto", "mosquitto-clients"]
    wanted = _run([*apt, "install", "--print-uris", "--no-install-recommends", *programs], downloads)
    packages = [_name_and_version(line) for line in wanted.splitlines() if line.startswith("'")]
    # The C library belongs to the loader of this machine; one of another version beside it crashes.
    packages = [package for package in packages if not package.startswith(("libc6=", "libc-bin="))]
    _run([*apt, "download", *packages], downloads)
    for package in sorted(downloads.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(fresh / "root")], downloads)
    for name in _PROGRAMS:
        launcher = fresh / name
        launcher.write_text(_LAUNCHER)
        launcher.chmod(0o755)
    shutil.rmtree(fresh / "apt")
    shutil.rmtree(downloads)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def _apt(state: Path) -> list[str]:
    """apt-get with the machine's sources and keys, but lists and cache of our own: it then needs no root."""
    for directory in ("lists/partial", "cache/archives/partial"):
        (state / directory).mkdir(parents=True)
    options = {
        "Dir::State::lists": f"{state}/lists",
        "Dir::Cache": f"{state}/cache",
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "root",
        "APT::Update::Error-Mode": "any",
        "APT::Get::Assume-Yes": "1",
        "Acquire::Retries": "3",
    }
    return ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]


def _name_and_version(line: str) -> str:
    """`'http://.../libx_1%3a2.0-1_amd64.deb' libx_1%3a2.0-1_amd64.deb 123 SHA256:...` -> `libx=1:2.0-1`."""
    name, version, _architecture = line.split()[1].split("_")
    return f"{name}={unquote(version)}"


def _run(command: list[str], directory: Path) -> str:
    try:
        return subprocess.run(
            command,
            cwd=directory,
            env=os.environ | {"LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=True,
            timeout=_APT_TIMEOUT_S,
        ).stdout
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        tried = " ".join([command[0], *command[-2:]])
        said = error.stderr if isinstance(error.stderr, str) else str(error)
        raise BrokerMissingError(
            f"no mosquitto on PATH, and `{tried}` failed: {said[-1000:].strip()}\n"
            "Install mosquitto, or make the package sources of this machine reachable."
        ) from None


def _mosquitto_path_over_a_bad_network() -> Path:
    for pause_s in _APT_PAUSES_S:
        try:
            return mosquitto_path()
        except BrokerMissingError as error:
            print(f"{error}\nTrying again in {pause_s:.0f} s.", file=sys.stderr)
            time.sleep(pause_s)
    return mosquitto_path()


if __name__ == "__main__":
    try:
        print(_mosquitto_path_over_a_bad_network())
    except BrokerMissingError as error:
        sys.exit(str(error))
