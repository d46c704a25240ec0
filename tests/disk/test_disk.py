"""The record of a disk finds programs that lose something in a power cut, and lets those pass that do not."""

import mmap
import os
import shutil
import sqlite3
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

import pytest
from support.disk import KINDS, Cut, Kept
from support.disk_watch import UnseenError, recorded

ROUNDS = 6


def replace_a_file(directory, number, *, sync=True, sync_directory=True):
    """A file that says `number`, by a new one in its place."""
    new = directory / "number.new"
    with new.open("wb") as file:
        file.write(str(number).encode())
        file.flush()
        if sync:
            os.fsync(file.fileno())
    new.replace(directory / "number")
    if sync_directory:
        descriptor = os.open(directory, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def overwrite_a_file(directory, number):
    """In place, as nobody should who wants to have the old number or the new one."""
    descriptor = os.open(directory / "number", os.O_WRONLY | os.O_CREAT)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(number).encode())
    os.fsync(descriptor)
    os.close(descriptor)


def number_in_a_file(directory):
    try:
        return int((directory / "number").read_bytes())
    except FileNotFoundError:
        return 0


class Rows:
    """A table that grows."""

    def __init__(self, directory, *, synchronous="FULL", journal="WAL"):
        self._database = sqlite3.connect(directory / "rows.db", isolation_level=None)
        self._database.execute(f"PRAGMA journal_mode = {journal}")
        self._database.execute(f"PRAGMA synchronous = {synchronous}")
        self._database.execute("CREATE TABLE IF NOT EXISTS numbers (number INTEGER, text TEXT)")

    def add(self, number):
        self._database.execute("INSERT INTO numbers VALUES (?, ?)", (number, "x" * 3000))
        if number % 4 == 0:
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def __enter__(self):
        return self.add

    def __exit__(self, *_):
        self._database.close()


def add_row(directory, number):
    with Rows(directory) as add:
        add(number)


def highest_row(directory):
    with closing(sqlite3.connect(directory / "rows.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        try:
            return database.execute("SELECT max(number) FROM numbers").fetchone()[0] or 0
        except sqlite3.OperationalError:
            return 0


def broken_promises(tmp_path, saver, load, count=120):
    """Cuts after which there is not what was saved last, nor what was being saved, of `count` ones."""
    saved = [0]
    state = tmp_path / "state"
    state.mkdir()
    with recorded(state) as disk, saver(state) as save:
        for number in range(1, ROUNDS + 1):
            save(number)
            saved.append(disk.now)
    broken = []
    for place, cut in enumerate(disk.cuts(count)):
        disk.leave(cut, tmp_path / str(place))
        promised = max(number for number, moment in enumerate(saved) if moment <= cut.after)
        try:
            if promised <= load(tmp_path / str(place)) <= promised + 1:
                continue
        except (ValueError, sqlite3.DatabaseError, AssertionError):
            pass
        broken.append(cut)
    return broken


def file(save, **how):
    return lambda directory: nullcontext(partial(save, directory, **how)), number_in_a_file


def rows(**how):
    return partial(Rows, **how), highest_row


CAREFUL = {
    "a file": file(replace_a_file),
    "SQLite": rows(),
    "SQLite with a journal": rows(journal="DELETE", synchronous="EXTRA"),
}
CARELESS = {
    "a file not synced": file(replace_a_file, sync=False),
    "its name not synced": file(replace_a_file, sync_directory=False),
    "a file in place": file(overwrite_a_file),
    "SQLite not synced": rows(synchronous="OFF"),
    "SQLite's log not synced": rows(synchronous="NORMAL"),
    "the end of a journal not synced": rows(journal="DELETE"),
}


@pytest.mark.parametrize("how", CAREFUL)
def test_who_syncs_what_it_promises_has_it_after_any_cut(tmp_path, how):
    assert broken_promises(tmp_path, *CAREFUL[how]) == []


@pytest.mark.parametrize("how", CARELESS)
def test_who_does_not_is_found_out(tmp_path, how):
    assert broken_promises(tmp_path, *CARELESS[how])


def test_what_has_a_descriptor_is_seen_as_well_as_what_has_a_name(tmp_path):
    (tmp_path / "old").write_bytes(b"as it was")
    with recorded(tmp_path) as disk:
        descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, b"first ")
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write("second")
            file.flush()
            os.pwrite(file.fileno(), b"F", 0)  # at the end, as Linux does with O_APPEND
            os.posix_fallocate(file.fileno(), 0, 4096)
            os.ftruncate(file.fileno(), 14)
        os.link(tmp_path / "file", tmp_path / "other")
        (tmp_path / "old").rename(tmp_path / "new")
        with (tmp_path / "new").open("r+b", buffering=0) as file:
            file.seek(3)
            file.write(b"WAS")
            file.truncate(6)
        (tmp_path / "directory" / "inner").mkdir(parents=True)
        (tmp_path / "directory" / "inner" / "text").write_text("zwölf")
        shutil.rmtree(tmp_path / "directory")
    assert disk.differences(tmp_path) == []
    disk.leave(Cut(disk.now, Kept.ALL, Kept.ALL), tmp_path / "copy")
    assert (tmp_path / "copy" / "new").read_bytes() == b"as WAS"
    assert (tmp_path / "copy" / "other").read_bytes() == (tmp_path / "file").read_bytes()


def change_unseen(path):
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[0] = 0


UNSEEN = {
    "copied within the kernel": lambda directory: shutil.copyfile(directory / "file", directory / "copy"),
    "changed in memory": lambda directory: change_unseen(directory / "file"),
}


@pytest.mark.parametrize("how", UNSEEN)
def test_nothing_is_missed_in_silence(tmp_path, how):
    (tmp_path / "file").write_bytes(b"content")
    with pytest.raises(UnseenError), recorded(tmp_path):
        UNSEEN[how](tmp_path)


def test_a_cut_says_what_it_is_and_comes_again_from_its_seed(tmp_path):
    with recorded(tmp_path) as disk:
        replace_a_file(tmp_path, 1)
    assert disk.cuts(50, seed=3) == disk.cuts(50, seed=3) != disk.cuts(50, seed=4)
    assert {(cut.data, cut.names) for cut in disk.cuts(150)} == set(KINDS)
    assert str(Cut(3, Kept.FIRST, Kept.NONE)) == (
        "cut after operation 3, kept the first so many of data and none of names"
    )


def test_python_and_sqlite_are_themselves_again_afterwards(tmp_path):
    before = open, os.open, os.fsync, os.replace
    with recorded(tmp_path) as disk:
        add_row(tmp_path, 1)
    seen = disk.now
    add_row(tmp_path, 2)
    replace_a_file(tmp_path, 1)
    assert (open, os.open, os.fsync, os.replace) == before
    assert (disk.now, highest_row(tmp_path), number_in_a_file(tmp_path)) == (seen, 2, 1)


def test_a_torn_write_ends_where_a_sector_does(tmp_path):
    with recorded(tmp_path) as disk:
        (tmp_path / "file").write_bytes(b"x" * 4000)
    sizes = set()
    for seed in range(60):
        copy = tmp_path / f"copy{seed}"
        disk.leave(Cut(disk.now, Kept.FIRST, Kept.ALL, seed), copy)
        sizes.add(Path(copy / "file").stat().st_size)
    assert {0, 4000} < sizes <= {*range(0, 4000, 512), 4000}
