"""Records what this process does to the files of a directory, SQLite's included, as a `support.disk.Disk`.

    with recorded(state_dir) as disk:
        ...  # the program itself: files opened, databases opened, everything closed
    disk.leave(cut, elsewhere)

Nothing but Python is needed. Files are watched where Python asks the system for them (`open`, `os.write`, `os.fsync`,
`os.replace`, ...); SQLite's where it asks its own layer for the operating system, whose table of functions is changed
through ctypes while the record lasts (https://www.sqlite.org/vfs.html). What neither sees (sendfile, mmap, a library of
C) is not recorded in silence: at the end the record is held against the directory. One record at a time.
"""

from __future__ import annotations

import builtins
import ctypes
import fcntl
import io
import os
import sqlite3  # noqa: F401 (in memory from here on)
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from support.disk import Disk, Name, Node, Resize, Sync, Write, identity, passes_away


class UnseenError(Exception):
    """Something was done to the directory that was not recorded, or SQLite's functions cannot be reached."""


@contextmanager
def recorded(root: Path) -> Iterator[Disk]:
    """Everything done to files beneath `root` by files and databases opened within the block. Raises UnseenError at
    the end of a block that ends well, where the record does not make the directory."""
    disk = Disk(root)
    watch = _Watch(disk)
    with ExitStack() as undo:
        _watch_sqlite(watch, undo)
        _watch_python(watch, undo)
        yield disk
    if differing := disk.differences(disk.root):
        raise UnseenError(f"not everything was seen that was done to {', '.join(differing)}")


class _Watch:
    """Puts what was done into the record, if it concerns the directory."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def concerns(self, place: Path) -> bool:
        return place.is_relative_to(self.disk.root)

    def node(self, descriptor_or_place: int | Path) -> Node | None:
        """What is open or stands there, if it is of ours."""
        try:
            return self.disk.nodes.get(_identity(descriptor_or_place))
        except OSError:
            return None

    def last_name(self, place: Path) -> tuple[int, int] | None:
        """What goes when this name goes; the system may then give its number to another file."""
        if not self.concerns(place) or not _is_there(place):
            return None
        return None if place.is_file() and place.stat().st_nlink > 1 else identity(place)

    def made(self, place: Path, *, directory: bool = False) -> Node | None:
        """A file or directory has come to be at a place."""
        parent = self.node(place.parent)
        if parent is None or passes_away(place.name):
            return None
        node = self.disk.nodes[identity(place)] = Node(place.name, directory=directory)
        self.disk.add(Name(parent, place.name, node))
        return node

    def removed(self, place: Path, gone: tuple[int, int] | None) -> None:
        """`gone`: what `last_name` said before."""
        self._forget(gone)
        parent = self.node(place.parent)
        if parent is not None and not passes_away(place.name):
            self.disk.add(Name(parent, place.name, None))

    def moved(self, source: Path, target: Path, gone: tuple[int, int] | None) -> None:
        """`gone`: what `last_name` said of the target before."""
        self._forget(gone)
        parent, before = self.node(target.parent), self.node(source.parent)
        if parent is not None:
            self.disk.add(Name(parent, target.name, self.node(target), before and (before, source.name)))
        elif before is not None:
            self.disk.add(Name(before, source.name, None))

    def linked(self, target: Path) -> None:
        """A file has got another name."""
        parent = self.node(target.parent)
        if parent is not None:
            self.disk.add(Name(parent, target.name, self.node(target)))

    def wrote(self, node: Node, offset: int, octets: bytes) -> None:
        if octets:
            self.disk.add(Write(node, offset, octets))

    def resized(self, node: Node | None, size: int) -> None:
        if node is not None:
            self.disk.add(Resize(node, size))

    def synced(self, node: Node | None, began: int) -> None:
        if node is not None:
            self.disk.add(Sync(node, began))

    def _forget(self, gone: tuple[int, int] | None) -> None:
        if gone is not None:
            self.disk.nodes.pop(gone, None)


def _identity(descriptor_or_place: int | Path) -> tuple[int, int]:
    if isinstance(descriptor_or_place, Path):
        return identity(descriptor_or_place)
    found = os.fstat(descriptor_or_place)
    return found.st_dev, found.st_ino


def _place(path: str | bytes | os.PathLike[str], directory: int | None = None) -> Path:
    """Where a name stands, seen from an open directory or from where this process is: links on the way followed, but
    not one that it may be itself."""
    here = Path.cwd() if directory is None else Path(f"/proc/self/fd/{directory}").readlink()
    place = here / os.fsdecode(path)
    return place.parent.resolve() / place.name


def _is_there(place: Path) -> bool:
    return place.is_symlink() or place.exists()


# -- files of Python ------------------------------------------------------------------------------------------


def _watch_python(watch: _Watch, undo: ExitStack) -> None:
    calls = _Calls(watch)
    for name in _Calls.NAMES:
        undo.callback(setattr, os, name, getattr(os, name))
        setattr(os, name, getattr(calls, name))
    for module in (io, builtins):
        undo.callback(setattr, module, "open", module.open)
        module.open = calls.open_file  # type: ignore[assignment]


class _Calls:
    """What stands in for functions of `os`, by the same names."""

    NAMES = (
        "open", "write", "pwrite", "ftruncate", "truncate", "posix_fallocate", "fsync", "fdatasync",
        "rename", "replace", "link", "unlink", "remove", "mkdir", "rmdir",
    )  # fmt: skip

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch
        self._os = {name: getattr(os, name) for name in self.NAMES}
        self._open_file = io.open
        self.remove = self.unlink
        self.replace = self.rename
        self.fdatasync = self.fsync

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = _place(path, dir_fd)
        new = flags & os.O_CREAT and self._watch.concerns(place) and not _is_there(place)
        descriptor: int = self._os["open"](path, flags, mode, dir_fd=dir_fd)
        if new:
            self._watch.made(place)
        elif flags & os.O_TRUNC:
            self._watch.resized(self._watch.node(descriptor), 0)
        return descriptor

    def write(self, descriptor: int, octets: Any) -> int:
        node = self._watch.node(descriptor)
        offset = _position(descriptor) if node else 0
        written: int = self._os["write"](descriptor, octets)
        if node:
            self._watch.wrote(node, offset, bytes(octets)[:written])
        return written

    def pwrite(self, descriptor: int, octets: Any, offset: int) -> int:
        node = self._watch.node(descriptor)
        place = _position(descriptor) if _appends(descriptor) else offset  # pwrite(2), BUGS
        written: int = self._os["pwrite"](descriptor, octets, offset)
        if node:
            self._watch.wrote(node, place, bytes(octets)[:written])
        return written

    def ftruncate(self, descriptor: int, length: int) -> None:
        self._os["ftruncate"](descriptor, length)
        self._watch.resized(self._watch.node(descriptor), length)

    def truncate(self, path: Any, length: int) -> None:
        self._os["truncate"](path, length)
        self._watch.resized(self._watch.node(path), length)

    def posix_fallocate(self, descriptor: int, offset: int, length: int) -> None:
        before = os.fstat(descriptor).st_size
        self._os["posix_fallocate"](descriptor, offset, length)
        if offset + length > before:
            self._watch.resized(self._watch.node(descriptor), offset + length)

    def fsync(self, file: Any) -> None:
        """fdatasync as well: it makes durable what is needed to read the data again, a new size among it."""
        descriptor = file if isinstance(file, int) else file.fileno()
        began = self._watch.disk.now
        self._os["fsync"](descriptor)
        self._watch.synced(self._watch.node(descriptor), began)

    def rename(
        self, source: Any, target: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        places = _place(source, src_dir_fd), _place(target, dst_dir_fd)
        gone = self._watch.last_name(places[1])
        self._os["replace"](source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        self._watch.moved(*places, gone)

    def link(self, source: Any, target: Any, **how: Any) -> None:
        self._os["link"](source, target, **how)
        self._watch.linked(_place(target))

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._remove("unlink", path, dir_fd)

    def rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._remove("rmdir", path, dir_fd)

    def _remove(self, how: str, path: Any, dir_fd: int | None) -> None:
        place = _place(path, dir_fd)
        gone = self._watch.last_name(place)
        self._os[how](path, dir_fd=dir_fd)
        self._watch.removed(place, gone)

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self._os["mkdir"](path, mode, dir_fd=dir_fd)
        self._watch.made(_place(path, dir_fd), directory=True)

    def open_file(  # noqa: PLR0917 (as the function that it stands in for)
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Callable[[str, int], int] | None = None,
    ) -> Any:
        """`open` of Python; files that are only read are its own."""
        ours = self._watch.node(file) if isinstance(file, int) else self._watch.concerns(_place(file))
        if not ours or not set(mode) & set("wax+"):
            return self._open_file(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = _File(self._watch, file, mode, closefd, opener or (lambda path, how: os.open(path, how, 0o666)))
        if buffering == 0:
            return raw
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, errors, newline)


class _File(io.FileIO):
    """A file of Python's own whose changes are recorded."""

    def __init__(self, watch: _Watch, file: Any, mode: str, closefd: bool, opener: Any) -> None:
        self._watch = watch
        super().__init__(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        node = watch.node(self.fileno())
        if node is None:
            raise UnseenError(f"nobody saw {file} come to be")
        self._node = node

    def write(self, octets: Any) -> int:  # type: ignore[override]
        offset = _position(self.fileno())
        written = super().write(octets)
        self._watch.wrote(self._node, offset, bytes(octets)[:written])
        return written

    def truncate(self, size: int | None = None) -> int:
        size = super().truncate(size)
        self._watch.resized(self._node, size)
        return size


def _position(descriptor: int) -> int:
    """Where a write to it goes."""
    return os.fstat(descriptor).st_size if _appends(descriptor) else os.lseek(descriptor, 0, os.SEEK_CUR)


def _appends(descriptor: int) -> bool:
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND)


# -- SQLite ---------------------------------------------------------------------------------------------------

_P, _INT, _INT64 = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_OPEN = ctypes.CFUNCTYPE(_INT, _P, _P, _P, _INT, ctypes.POINTER(_INT))
_DELETE = ctypes.CFUNCTYPE(_INT, _P, ctypes.c_char_p, _INT)
_SET_CALL = ctypes.CFUNCTYPE(_INT, _P, ctypes.c_char_p, _P)
_GET_CALL = ctypes.CFUNCTYPE(_P, _P, ctypes.c_char_p)
_CLOSE = ctypes.CFUNCTYPE(_INT, _P)
_WRITE = ctypes.CFUNCTYPE(_INT, _P, _P, _INT, _INT64)
_TRUNCATE = ctypes.CFUNCTYPE(_INT, _P, _INT64)
_SYNC = ctypes.CFUNCTYPE(_INT, _P, _INT)
_OPEN_DIRECTORY = ctypes.CFUNCTYPE(_INT, ctypes.c_char_p, ctypes.POINTER(_INT))
_SQLITE_OK = 0
_OPEN_DIRECTORY_NAME = b"openDirectory"


class _Vfs(ctypes.Structure):
    """sqlite3_vfs: https://www.sqlite.org/c3ref/vfs.html."""

    _fields_ = [
        ("iVersion", _INT), ("szOsFile", _INT), ("mxPathname", _INT), ("pNext", _P), ("zName", ctypes.c_char_p),
        ("pAppData", _P), ("xOpen", _P), ("xDelete", _P), ("xAccess", _P), ("xFullPathname", _P), ("xDlOpen", _P),
        ("xDlError", _P), ("xDlSym", _P), ("xDlClose", _P), ("xRandomness", _P), ("xSleep", _P),
        ("xCurrentTime", _P), ("xGetLastError", _P), ("xCurrentTimeInt64", _P), ("xSetSystemCall", _P),
        ("xGetSystemCall", _P), ("xNextSystemCall", _P),
    ]  # fmt: skip


class _Methods(ctypes.Structure):
    """sqlite3_io_methods, version 3: https://www.sqlite.org/c3ref/io_methods.html."""

    _fields_ = [
        ("iVersion", _INT), ("xClose", _P), ("xRead", _P), ("xWrite", _P), ("xTruncate", _P), ("xSync", _P),
        ("others", _P * 13),
    ]  # fmt: skip


class _SqliteFile(ctypes.Structure):
    """sqlite3_file: what stands first in each file that SQLite has open."""

    _fields_ = [("pMethods", ctypes.POINTER(_Methods))]


def _watch_sqlite(watch: _Watch, undo: ExitStack) -> None:
    layer = _layer()
    layer.enter(watch)
    undo.callback(layer.leave)


@cache
def _layer() -> _Layer:
    """One for good: files may outlive the record, and keep our functions."""
    library = _library()
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    return _Layer(library.sqlite3_vfs_find(None))


def _library() -> ctypes.CDLL:
    """The SQLite that `sqlite3` uses: the one that this process has in memory."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    found = {line.split(maxsplit=5)[5] for line in maps if "sqlite3" in line}
    for path in sorted(found):
        library = ctypes.CDLL(path)
        if hasattr(library, "sqlite3_vfs_find"):
            return library
    raise UnseenError(f"no function of SQLite can be reached in {', '.join(sorted(found)) or 'this process'}")


class _Layer:
    """Between SQLite and the operating system. Files keep their own functions but for those that change something."""

    def __init__(self, vfs: Any) -> None:
        self._vfs = vfs
        self._watch: _Watch | None = None
        self._nodes: dict[int, Node] = {}
        """By SQLite's own address of an open file."""
        self._methods: dict[int, _Methods] = {}
        """By the address of those that SQLite had."""
        self._thread = threading.local()
        table = vfs.contents
        self._before = table.xOpen, table.xDelete
        self._open, self._delete = _OPEN(table.xOpen), _DELETE(table.xDelete)
        self._set_call = _SET_CALL(table.xSetSystemCall)
        address = _GET_CALL(table.xGetSystemCall)(ctypes.addressof(table), _OPEN_DIRECTORY_NAME)
        self._open_directory = _OPEN_DIRECTORY(address)
        self._callbacks: list[Any] = [
            _OPEN(self._on_open), _DELETE(self._on_delete), _OPEN_DIRECTORY(self._on_open_directory)
        ]  # fmt: skip

    def enter(self, watch: _Watch) -> None:
        if self._watch is not None:
            raise UnseenError("another record goes on: one at a time")
        self._watch = watch
        opens, deletes, opens_directory = (ctypes.cast(one, _P) for one in self._callbacks[:3])
        self._vfs.contents.xOpen, self._vfs.contents.xDelete = opens, deletes
        self._set_call(ctypes.addressof(self._vfs.contents), _OPEN_DIRECTORY_NAME, opens_directory)

    def leave(self) -> None:
        self._vfs.contents.xOpen, self._vfs.contents.xDelete = self._before
        self._set_call(ctypes.addressof(self._vfs.contents), _OPEN_DIRECTORY_NAME, None)
        self._watch = None
        self._nodes.clear()

    def _on_open(self, vfs: int, name: int | None, file: int, flags: int, given: Any) -> int:
        # The name goes on as it came: the file keeps the address of it.
        watch, place = self._watch, _place(ctypes.string_at(name)) if name else None
        if watch is None or place is None or not watch.concerns(place):
            return int(self._open(vfs, name, file, flags, given))
        new = not _is_there(place)
        result = int(self._open(vfs, name, file, flags, given))
        node = watch.made(place) if new and result == _SQLITE_OK else watch.node(place)
        if result == _SQLITE_OK and node is not None:
            self._nodes[file] = node
            self._hook(file)
        return result

    def _hook(self, file: int) -> None:
        """The same functions as before, but for four."""
        head = ctypes.cast(file, ctypes.POINTER(_SqliteFile)).contents
        address = ctypes.addressof(head.pMethods.contents)
        if address not in self._methods:
            own = _Methods.from_buffer_copy(head.pMethods.contents)
            close, write = _CLOSE(own.xClose), _WRITE(own.xWrite)
            truncate, sync = _TRUNCATE(own.xTruncate), _SYNC(own.xSync)
            callbacks = [
                _CLOSE(lambda file: self._on_close(close, file)),
                _WRITE(lambda *given: self._on_write(write, *given)),
                _TRUNCATE(lambda *given: self._on_truncate(truncate, *given)),
                _SYNC(lambda *given: self._on_sync(sync, *given)),
            ]
            self._callbacks += callbacks
            own.xClose, own.xWrite, own.xTruncate, own.xSync = (ctypes.cast(one, _P) for one in callbacks)
            self._methods[address] = own
        head.pMethods = ctypes.pointer(self._methods[address])

    def _on_close(self, close: Any, file: int) -> int:
        self._nodes.pop(file, None)
        return int(close(file))

    def _on_write(self, write: Any, file: int, octets: int, count: int, offset: int) -> int:
        result = int(write(file, octets, count, offset))
        if self._watch and result == _SQLITE_OK and (node := self._nodes.get(file)):
            self._watch.wrote(node, offset, ctypes.string_at(octets, count))
        return result

    def _on_truncate(self, truncate: Any, file: int, size: int) -> int:
        result = int(truncate(file, size))
        if self._watch and result == _SQLITE_OK:
            self._watch.resized(self._nodes.get(file), size)
        return result

    def _on_sync(self, sync: Any, file: int, flags: int) -> int:
        began = self._watch.disk.now if self._watch else 0
        result = int(sync(file, flags))
        if self._watch and result == _SQLITE_OK:
            self._watch.synced(self._nodes.get(file), began)
            self._sync_directories(self._watch, began)
        return result

    def _on_delete(self, vfs: int, name: bytes, sync_directory: int) -> int:
        watch, place = self._watch, _place(name)
        if watch is None or not watch.concerns(place) or not _is_there(place):
            return int(self._delete(vfs, name, sync_directory))
        gone = watch.last_name(place)
        result = int(self._delete(vfs, name, sync_directory))
        if result == _SQLITE_OK:
            watch.removed(place, gone)
            self._sync_directories(watch, watch.disk.now)
        return result

    def _on_open_directory(self, name: bytes, descriptor: Any) -> int:
        """SQLite opens the directory of a file for nothing but a sync of it."""
        result = int(self._open_directory(name, descriptor))
        if result == _SQLITE_OK:
            self._opened().append(_place(name).parent)
        return result

    def _sync_directories(self, watch: _Watch, began: int) -> None:
        opened = self._opened()
        while opened:
            watch.synced(watch.node(opened.pop()), began)

    def _opened(self) -> list[Path]:
        if not hasattr(self._thread, "opened"):
            self._thread.opened = []
        opened: list[Path] = self._thread.opened
        return opened
