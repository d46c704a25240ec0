"""What a power cut can leave of a directory, by what POSIX promises and no more.

A `Disk` is a record of what was done to the files of a directory (`support.disk_watch` makes one). `leave` writes
down one of the states in which they could be found after the power went, which a `Cut` names:

    data   what was written or resized is durable once its file was synced (fsync(2)) by a call that began later.
           Before that each file may have kept none of it, all, the first so many, or any of it; and of one write the
           first sectors only
    names  a file or directory made, renamed or removed is so for good once the directory was synced. Before that each
           directory may have kept none of it, all, or the first so many; a rename is there or is not

A file system may promise more. What copes with every state here copes with ext4 and with F2FS.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import product
from pathlib import Path

SECTOR_OCTETS = 512


class Node:
    """A file or a directory, whatever its names are. `content` is what it had when the record began."""

    def __init__(self, name: str, content: bytes = b"", *, directory: bool = False) -> None:
        self.name = name
        self.content = content
        self.directory = directory
        self.entries: dict[str, Node] = {}


@dataclass(frozen=True)
class Write:
    node: Node
    offset: int
    octets: bytes


@dataclass(frozen=True)
class Resize:
    node: Node
    size: int


@dataclass(frozen=True)
class Name:
    """`node` None: the name was taken away. `source`: it stood there until this moment."""

    directory: Node
    name: str
    node: Node | None
    source: tuple[Node, str] | None = None


@dataclass(frozen=True)
class Sync:
    """Of a file or of a directory; `began`: how many operations were recorded when the call began."""

    node: Node
    began: int


Operation = Write | Resize | Name | Sync


class Kept(Enum):
    """What survives of that which was not durable, in each file or in each directory."""

    NONE = "none"
    ALL = "all"
    FIRST = "the first so many"
    ANY = "any"
    """Of writes only."""


@dataclass(frozen=True)
class Cut:
    """The power goes when `after` operations are over. `seed` draws what `data` and `names` leave open."""

    after: int
    data: Kept = Kept.NONE
    names: Kept = Kept.NONE
    seed: int = 0

    def __str__(self) -> str:
        return f"cut after operation {self.after}, kept {self.data.value} of data and {self.names.value} of names"


KINDS = tuple(product(Kept, (Kept.NONE, Kept.ALL, Kept.FIRST)))
"""Every way in which a cut may treat what was not durable: of data, of names."""


class Disk:
    """The record of one directory. Threads may share it."""

    def __init__(self, root: Path) -> None:
        """What is in `root` now is durable."""
        self.root = root.resolve()
        self.operations: list[Operation] = []
        self._adding = threading.Lock()
        self.top = Node(".", directory=True)
        self.nodes: dict[tuple[int, int], Node] = {}
        """By device and inode: what the files are now."""
        self._load(self.root, self.top)

    def _load(self, path: Path, node: Node) -> None:
        self.nodes[identity(path)] = node
        for entry in sorted(path.iterdir()):
            if entry.is_dir():
                node.entries[entry.name] = Node(entry.name, directory=True)
                self._load(entry, node.entries[entry.name])
            elif not passes_away(entry.name):
                node.entries[entry.name] = Node(entry.name, entry.read_bytes())
                self.nodes[identity(entry)] = node.entries[entry.name]

    @property
    def now(self) -> int:
        """How many operations are over."""
        return len(self.operations)

    def add(self, operation: Operation) -> None:
        with self._adding:
            self.operations.append(operation)

    def cuts(self, count: int, *, seed: int = 1, since: int = 0) -> list[Cut]:
        """`count` different ones by `seed`, in time; about two of three right before or after something became
        durable or got a name, where programs are wrong if they are."""
        chance = random.Random(seed)
        telling = [
            moment
            for number, operation in enumerate(self.operations)
            if isinstance(operation, Sync | Name)
            for moment in (number, number + 1)
            if moment >= since
        ]
        chosen: set[Cut] = set()
        while len(chosen) < count:
            after = chance.choice(telling) if chance.random() < 2 / 3 else chance.randint(since, self.now)
            chosen.add(Cut(after, *chance.choice(KINDS), seed=chance.getrandbits(32)))
        return sorted(chosen, key=lambda cut: (cut.after, cut.seed))

    def leave(self, cut: Cut, directory: Path) -> None:
        """Make `directory`, which must not be there, and in it what the power cut leaves."""
        _State(self.operations[: cut.after], cut).put(self.top, directory)

    def differences(self, directory: Path) -> list[str]:
        """Names of what is not in `directory` as everything recorded would have it: something was not seen. Empty
        for the recorded directory itself, once nobody writes any more."""
        whole = _State(self.operations, Cut(self.now, Kept.ALL, Kept.ALL))
        expected = dict(whole.files(self.top, Path()))
        found = {
            path.relative_to(directory): None if path.is_dir() else path.read_bytes()
            for path in directory.rglob("*")
            if not passes_away(path.name)
        }
        return sorted(
            str(path)
            for path in expected.keys() | found.keys()
            if path not in found or path not in expected or expected[path] != found[path]
        )


class _State:
    """What a cut leaves: of the operations before it, those that count."""

    def __init__(self, operations: Sequence[Operation], cut: Cut) -> None:
        self._chance = random.Random(cut.seed)
        self._cut = cut
        durable = _durable(operations)
        self._pieces: dict[Node, list[tuple[bool, Write | Resize]]] = defaultdict(list)
        naming: dict[Node, list[tuple[int, Name]]] = defaultdict(list)
        for number, operation in enumerate(operations):
            match operation:
                case Write() | Resize():
                    self._pieces[operation.node].append((number < durable[operation.node], operation))
                case Name():
                    naming[operation.directory].append((number, operation))
                case Sync():
                    pass
        kept = [
            entry
            for directory, entries in naming.items()
            for entry in self._kept_names(entries, durable[directory])
        ]
        self._entries: dict[Node, dict[str, Node]] = {}
        for _, name in sorted(kept, key=lambda entry: entry[0]):
            self._apply_name(name)

    def _kept_names(self, entries: list[tuple[int, Name]], durable: int) -> list[tuple[int, Name]]:
        certain = sum(number < durable for number, _ in entries)
        match self._cut.names:
            case Kept.NONE:
                return entries[:certain]
            case Kept.ALL:
                return entries
            case _:
                return entries[: self._chance.randint(certain, len(entries))]

    def _apply_name(self, name: Name) -> None:
        if name.source is not None:
            self._at(name.source[0]).pop(name.source[1], None)
        if name.node is None:
            self._at(name.directory).pop(name.name, None)
        else:
            self._at(name.directory)[name.name] = name.node

    def _at(self, directory: Node) -> dict[str, Node]:
        return self._entries.setdefault(directory, dict(directory.entries))

    def put(self, node: Node, path: Path) -> None:
        path.mkdir()
        for relative, content in self.files(node, Path()):
            if content is None:
                (path / relative).mkdir()
            else:
                (path / relative).write_bytes(content)

    def files(self, node: Node, at: Path) -> Iterator[tuple[Path, bytes | None]]:
        """Every file with its content and every directory with None, a directory before what is in it."""
        for name, inner in sorted(self._at(node).items()):
            if inner.directory:
                yield at / name, None
                yield from self.files(inner, at / name)
            else:
                yield at / name, self._content(inner)

    def _content(self, node: Node) -> bytes:
        pieces = self._pieces.get(node, [])
        content = bytearray(node.content)
        for operation in [piece for durable, piece in pieces if durable]:
            _apply(content, operation)
        for operation in self._kept_pieces([piece for durable, piece in pieces if not durable]):
            _apply(content, operation)
        return bytes(content)

    def _kept_pieces(self, pieces: list[Write | Resize]) -> Iterable[Write | Resize]:
        match self._cut.data:
            case Kept.NONE:
                return []
            case Kept.ALL:
                return pieces
            case Kept.FIRST:
                first = pieces[: self._chance.randint(0, len(pieces))]
                return [*first[:-1], *map(self._torn, first[-1:])]
            case Kept.ANY:
                some = [piece for piece in pieces if self._chance.random() < 0.5]
                torn = self._chance.randrange(len(some)) if some else -1
                return [self._torn(piece) if at == torn else piece for at, piece in enumerate(some)]

    def _torn(self, piece: Write | Resize) -> Write | Resize:
        """Every other time only its first sectors, as the disk counts them."""
        if isinstance(piece, Resize) or self._chance.random() < 0.5:
            return piece
        first = SECTOR_OCTETS - piece.offset % SECTOR_OCTETS
        ends = range(first, len(piece.octets), SECTOR_OCTETS)
        return Write(piece.node, piece.offset, piece.octets[: self._chance.choice(ends)]) if ends else piece


def _durable(operations: Sequence[Operation]) -> Mapping[Node, int]:
    """Of each file and directory: what was recorded before this number is durable."""
    durable: dict[Node, int] = defaultdict(int)
    for operation in operations:
        if isinstance(operation, Sync):
            durable[operation.node] = max(durable[operation.node], operation.began)
    return durable


def _apply(content: bytearray, piece: Write | Resize) -> None:
    size = piece.size if isinstance(piece, Resize) else max(len(content), piece.offset + len(piece.octets))
    del content[size:]
    content.extend(bytes(size - len(content)))
    if isinstance(piece, Write):
        content[piece.offset : piece.offset + len(piece.octets)] = piece.octets


def passes_away(name: str) -> bool:
    """SQLite's index of a log: shared memory, which the next to open the database makes anew."""
    return name.endswith("-shm")


def identity(path: Path) -> tuple[int, int]:
    """Device and inode. Raises OSError."""
    found = path.stat(follow_symlinks=False)
    return found.st_dev, found.st_ino
