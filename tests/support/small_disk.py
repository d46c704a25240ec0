"""A real file system of a given size, which a story may fill to its last octet: a tmpfs in a mount namespace of a child
process, so that it takes no privileges (user_namespaces(7)) and is gone with the child."""

from __future__ import annotations

import ctypes
import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_PASSED, _FAILED, _NOT_POSSIBLE = range(3)


def on_small_disk(size_bytes: int, story: Callable[[Path], None]) -> None:
    """Run `story` with the directory of a new file system of that size, in a child process; its failure is raised here.
    Skips the test where this machine allows no such thing."""
    with tempfile.TemporaryDirectory() as directory:
        outcome, told = _in_child(lambda: _run(Path(directory), size_bytes, story))
    if outcome == _NOT_POSSIBLE:
        pytest.skip(f"no file system can be mounted here: {told}")
    if outcome != _PASSED:
        pytest.fail(f"on a disk of {size_bytes} octets (exit {outcome}):\n{told}", pytrace=False)


def fill(directory: Path) -> Path:
    """Write a file until not one octet more fits, as a log of another program might; returns it."""
    path = directory / "something-else"
    with path.open("ab", buffering=0) as file:
        for piece in (2**16, 2**12, 1):
            try:
                while file.write(bytes(piece)):
                    pass
            except OSError:
                continue
    return path


def _in_child(act: Callable[[], tuple[int, str]]) -> tuple[int, str]:
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        outcome, told = act()
        with os.fdopen(write_end, "w") as pipe:
            pipe.write(told)
        os._exit(outcome)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        told = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told


def _run(directory: Path, size_bytes: int, story: Callable[[Path], None]) -> tuple[int, str]:
    try:
        _mount(directory, size_bytes)
    except OSError as error:
        return _NOT_POSSIBLE, str(error)
    try:
        story(directory)
    except BaseException:  # noqa: BLE001  # whatever it is, the parent raises it
        return _FAILED, traceback.format_exc()
    return _PASSED, ""


def _mount(directory: Path, size_bytes: int) -> None:
    uid, gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(_CLONE_NEWNS | (_CLONE_NEWUSER if uid else 0)), "unshare")
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    # Nothing of it shows outside, whatever the machine shares.
    _check(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mount --make-rprivate /")
    _check(libc.mount(b"tmpfs", bytes(directory), b"tmpfs", 0, f"size={size_bytes}".encode()), "mount tmpfs")


def _check(result: int, doing: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{doing}: {os.strerror(number)}")
