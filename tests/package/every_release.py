"""The package on each Debian that is supported, side by side: every_release.py [bookworm|trixie ...]

Exit status 0 where all holds. What this machine cannot run is said in a line `NOT TESTED: the package: ...` and counts
for nothing. It ends within LIMIT_S in any case, and leaves nothing behind but the cached trees (container.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from container import ALONE, UNABLE, BrokenError, UnableError, able, built, forget

RELEASES = ("bookworm", "trixie")
LIMIT_S = 20 * 60.0
_END_S = 60.0


def main() -> int:
    releases = sys.argv[1:] or RELEASES
    deadline = time.monotonic() + LIMIT_S
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        able()
        package = built()
    except UnableError as error:
        print(f"NOT TESTED: the package: {error}")
        return 0
    except BrokenError as error:
        print(f"FAIL {error}")
        return 1
    with tempfile.TemporaryDirectory(prefix="mgw-package-", ignore_cleanup_errors=True) as directory:
        lives = {release: _begin(release, package, directory) for release in releases}
        try:
            statuses = {release: _await(release, life, deadline) for release, life in lives.items()}
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            for life in lives.values():
                _end(life)
            for place in Path(directory).glob("*-container-*"):
                forget(place)
    wrong = [release for release, status in statuses.items() if status not in (0, UNABLE)]
    well = [release for release, status in statuses.items() if status == 0]
    for words, which in (("lives as it should", well), ("is broken", wrong)):
        if which:
            print(f"the package {words} on {' and '.join(which)}")
    return 1 if wrong else 0


def _begin(release: str, package: Path, directory: str) -> subprocess.Popen[bytes]:
    """A process that ends with this one, and all of its own with it."""
    life = [sys.executable, Path(__file__).with_name("life.py"), release, package]
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *ALONE, *life],
        env={**os.environ, "TMPDIR": directory},
        stdin=subprocess.DEVNULL,
        # What is sent to this one's group, from whichever side of the namespaces, is not for the other.
        start_new_session=True,
    )


def _await(release: str, life: subprocess.Popen[bytes], deadline: float) -> int:
    try:
        return life.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        print(f"FAIL {release}: not done after {LIMIT_S / 60:.0f} min", flush=True)
        return 1


def _end(life: subprocess.Popen[bytes]) -> None:
    if life.poll() is not None:
        return
    with suppress(OSError):
        first = Path(f"/proc/{life.pid}/task/{life.pid}/children").read_text().split()
        life.kill()
        life.wait()
        # It is gone, or waits for nobody to ask after it, only when everything in its namespace is.
        deadline = time.monotonic() + _END_S
        while first and _runs(first[0]) and time.monotonic() < deadline:
            time.sleep(0.1)


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    raise SystemExit(main())
