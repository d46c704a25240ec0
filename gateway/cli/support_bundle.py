"""`support-bundle`: what a developer needs to find out what is wrong, in one file, and no secret.

Each part is gathered by itself: what cannot be had, with a broken configuration or without a daemon, is left out, and
said so. Every text goes through `redaction`.
"""

from __future__ import annotations

import io
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from gateway.cli.client import Document
from gateway.cli.redaction import Scrubber, configuration, secrets_in
from gateway.cli.root import Desk
from gateway.cli.state_file import as_owner_of
from gateway.errors import ConfigError, GatewayError
from gateway.model import GatewaySettings

_DIRECTORY = "meter-gateway-support"
_LIBRARIES = (
    "meter-gateway", "APScheduler", "click", "cryptography", "httpx", "jsonschema", "paho-mqtt", "pyserial", "rich",
    "systemd-python", "tenacity",
)  # fmt: skip
_ASKED = ("info.get", "port.list", "meter.list", "campaign.list", "window.list", "image.list")
_EVENTS = 1000
_JOURNAL = (
    "journalctl",
    "--unit=meter-gateway",
    "--since=-7days",
    "--lines=20000",
    "--output=short-iso",
    "--no-pager",
)
_SERVICE = (
    "systemctl", "show", "meter-gateway", "--property=LoadState,ActiveState,SubState,Result,ExecMainStatus",
    "--property=NRestarts,StatusText,ActiveEnterTimestamp,MemoryCurrent,CPUUsageNSec,FragmentPath,DropInPaths",
)  # fmt: skip
_RUN_TIMEOUT_S = 30.0
_PART_LIMIT_BYTES = 5 * 2**20
_LIMIT_BYTES = 16 * 2**20
"""Of all parts before they are compressed."""


class _LeftOutError(Exception):
    """A part that cannot be had; the message says why."""


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    about: str
    gather: Callable[[], Any]
    """Its text, or what is told as JSON."""
    newest_last: bool = False
    """What is too long loses its beginning, and not its end."""


def write(desk: Desk, file: Path) -> Document:
    """Write the bundle to `file`, which must not be there yet, for its owner alone. What it holds, and what was left
    out. Raises OSError."""
    place = _Place.of(desk)
    scrub = Scrubber(place.secrets())
    contents: list[Document] = []
    left_out: list[Document] = []
    room = _LIMIT_BYTES
    with open(file, "xb", opener=_private) as target, tarfile.open(fileobj=target, mode="w:gz") as archive:
        for part in _parts(desk, place):
            try:
                text = scrub(_text(part.gather()))
            except (_LeftOutError, GatewayError, OSError) as error:
                why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                left_out.append({"name": part.name, "about": part.about, "why": scrub(why)})
                continue
            octets = _cut(text.encode(), min(room, _PART_LIMIT_BYTES), tail=part.newest_last)
            room -= len(octets)
            _add(archive, part.name, octets)
            contents.append({"name": part.name, "bytes": len(octets), "about": part.about})
        listing = {"made": datetime.now(UTC).isoformat(), "contents": contents, "left_out": left_out}
        _add(archive, "contents.json", _text(listing).encode())
    return {"file": str(file), "bytes": file.stat().st_size, **listing}


def _parts(desk: Desk, place: _Place) -> Iterator[_Part]:
    yield _Part(
        "machine.json", "versions, memory, load, clock and disk of the machine", partial(_machine, place)
    )
    for file in place.files:
        about = f"{file}, without comments and without what may be secret"
        yield _Part(f"configuration/{file.name}.json", about, partial(_configuration, file))
    yield _Part("configuration/mistakes.txt", "what `check` says of it", partial(_mistakes, desk))
    yield _Part(
        "configuration/certificates.json", "whose certificates are used, until when", place.certificates
    )
    yield _Part(
        "status.json", "what the daemon says of itself, lines, meters and campaigns", partial(_status, desk)
    )
    yield _Part(
        "database.json", "schema, integrity and numbers of rows of the state", partial(_database, place)
    )
    yield _Part(
        "events.txt", f"the newest {_EVENTS} events of the audit", partial(_events, place), newest_last=True
    )
    yield _Part("files.txt", "names, sizes and modes of the files of state and configuration", place.listing)
    yield _Part("devices.json", "serial devices, and who has them open", _devices)
    yield _Part("service.txt", "what systemd says of the service", partial(_said_by, *_SERVICE))
    yield _Part(
        "journal.txt", "the journal of the service, 7 days", partial(_said_by, *_JOURNAL), newest_last=True
    )


# -- where things are -----------------------------------------------------------------------------------------

_FILE = re.compile(r"""(state_dir|\w+_file|trusted_root) *= *["'](/[^"'\n]+)["']""")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where this gateway's things are, as far as its configuration can be read."""

    config: Path
    files: tuple[Path, ...]
    named: tuple[tuple[str, Path], ...]
    """Key and path of what these name, whether or not they are good TOML."""

    @classmethod
    def of(cls, desk: Desk) -> _Place:
        from gateway.config import DEFAULT_FILE

        config = desk.config or DEFAULT_FILE
        files = (config, *sorted(config.parent.glob("conf.d/*.toml")))
        text = "\n".join(filter(None, map(_read, files)))
        return cls(config, files, tuple((key, Path(path)) for key, path in _FILE.findall(text)))

    @property
    def state_dir(self) -> Path:
        return next((path for key, path in self.named if key == "state_dir"), GatewaySettings().state_dir)

    def secrets(self) -> set[str]:
        """What stands in keys.toml, password files and private keys, to be taken out of everything else."""
        from gateway.config.files import CREDENTIAL_STORE, KEYS_NAME
        from gateway.config.mqtt import PASSWORD_CREDENTIAL

        found: set[str] = set()
        homes = (self.config.parent, CREDENTIAL_STORE)
        for file in (home / KEYS_NAME for home in homes):
            found |= secrets_in(_read(file) or "")
        passwords = [path for key, path in self.named if key == "password_file"]
        for file in (*passwords, *(home / PASSWORD_CREDENTIAL for home in homes)):
            found.add((_read(file) or "").strip())
        for file in (path for key, path in self.named if key == "key_file"):
            found |= {line for line in (_read(file) or "").splitlines() if not line.startswith("-----")}
        return found

    def certificates(self) -> list[Document]:
        keys = ("ca_file", "cert_file", "trusted_root")
        return [one for key, path in self.named if key in keys for one in _certificates(key, path)]

    def listing(self) -> str:
        return "\n".join(line for home in (self.state_dir, self.config.parent) for line in _listed(home))


def _read(file: Path) -> str | None:
    """None where it cannot be: others say so."""
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return None


# -- the parts ------------------------------------------------------------------------------------------------


def _machine(place: _Place) -> Document:
    from gateway.clock import SystemClock
    from gateway.daemon.clocksync import clock_state

    return {
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "python": platform.python_version(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME"),
        "kernel": platform.platform(),
        "architecture": platform.machine(),
        "systemd": _first_line("systemctl", "--version"),
        "openssl": _first_line("openssl", "version"),
        "now": datetime.now(UTC).isoformat(),
        "clock": clock_state(True, SystemClock().now()),
        "up_s": time.clock_gettime(time.CLOCK_BOOTTIME),
        "load": os.getloadavg(),
        "processors": os.cpu_count(),
        "memory": (_read(Path("/proc/meminfo")) or "").splitlines()[:3],
        "disk": shutil.disk_usage(place.state_dir)._asdict() if place.state_dir.exists() else None,
        "asked_by": os.geteuid(),
    }


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _configuration(file: Path) -> Document:
    return configuration(file.read_text("utf-8", "replace"))


def _mistakes(desk: Desk) -> str:
    from gateway import config

    try:
        config.load(desk.config)
    except ConfigError as error:
        return "\n".join(error.mistakes)
    return "the configuration is good"


def _certificates(key: str, file: Path) -> Iterator[Document]:
    from gateway.daemon.certificates import span_of
    from gateway.tls import certificates_in

    own = {"key": key, "file": str(file)}
    try:
        for one in certificates_in((_read(file) or "").encode()):
            span, issuer = span_of(one), one.issuer.rfc4514_string()
            yield {
                **own,
                "subject": span.name,
                "issuer": issuer,
                "begins": str(span.begin),
                "ends": str(span.end),
            }
    except ValueError as error:
        yield {**own, "error": str(error)}


def _status(desk: Desk) -> Document:
    from gateway.cli.client import RefusedError

    found: Document = {}
    with desk.connect() as client:
        for verb in _ASKED:
            try:
                found[verb] = client.ask(verb)["data"]
            except RefusedError as error:
                found[verb] = {"error": f"{error.reason}: {error.message}"}
    return found


def _database(place: _Place) -> Document:
    from gateway.store.look import look

    with as_owner_of(place.state_dir):
        return look(place.state_dir)


def _events(place: _Place) -> str:
    from gateway.store.look import newest_events

    with as_owner_of(place.state_dir):
        return "\n".join(newest_events(place.state_dir, _EVENTS))


def _listed(directory: Path) -> Iterator[str]:
    yield f"{directory}:"
    for file in sorted(directory.rglob("*")):
        found = file.lstat()
        changed = datetime.fromtimestamp(found.st_mtime, UTC).isoformat(timespec="seconds")
        owner = f"{found.st_uid}:{found.st_gid}"
        yield f"{stat.filemode(found.st_mode)} {owner} {found.st_size} {changed} {file.relative_to(directory)}"


def _devices() -> list[Document]:
    from gateway.link.devices import serial_devices

    return [asdict(device) for device in serial_devices()]


def _first_line(*command: str) -> str:
    try:
        return _said_by(*command).partition("\n")[0]
    except _LeftOutError as error:
        return str(error)


def _said_by(*command: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  # no shell; the words are ours
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_RUN_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _LeftOutError(f"{command[0]}: {error}") from error
    if done.returncode or not done.stdout.strip():
        raise _LeftOutError(
            f"{command[0]}: {done.stderr.decode(errors='replace').strip() or 'it says nothing'}"
        )
    return done.stdout.decode(errors="replace")


# -- the archive ----------------------------------------------------------------------------------------------


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _text(found: Any) -> str:
    return found if isinstance(found, str) else json.dumps(found, indent=1, ensure_ascii=False)


def _cut(octets: bytes, limit: int, *, tail: bool) -> bytes:
    if len(octets) <= limit:
        return octets
    mark = f"(cut: {len(octets)} octets)".encode()
    kept = max(0, limit - len(mark) - 1)
    return mark + b"\n" + octets[-kept:] if tail else octets[:kept] + b"\n" + mark


def _add(archive: tarfile.TarFile, name: str, octets: bytes) -> None:
    entry = tarfile.TarInfo(f"{_DIRECTORY}/{name}")
    entry.size, entry.mode, entry.mtime = len(octets), 0o600, int(time.time())
    archive.addfile(entry, io.BytesIO(octets))
