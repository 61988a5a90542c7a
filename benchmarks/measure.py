"""How the benchmarks measure: parties take turns, medians are compared, commits are counted in SQLite's own log.

A machine is never quiet, so no figure stands alone. All parties of a comparison run in one process, round by round, the
order shifted by one each round; a ratio is the median of the ratios *within* a round, and stands beside its quartiles.
"""

from __future__ import annotations

import gc
import sqlite3
import statistics
import struct
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

Party = Callable[[], Awaitable[float]]
"""One round of one party: prepares what it needs, then answers the seconds of one operation."""

Samples = Mapping[str, list[float]]

WARM_UP = 2
"""Rounds at the beginning that are not counted."""


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Of at least two samples."""
        low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(statistics.median(samples), low, high)


async def interleave(parties: Mapping[str, Party], rounds: int) -> dict[str, list[float]]:
    """Every party once a round; the samples of each, in the order of the rounds."""
    names = list(parties)
    samples: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.freeze()  # what was imported is not looked through again and again
    try:
        for at in range(-WARM_UP, rounds):
            first = at % len(names)
            for name in (*names[first:], *names[:first]):
                gc.collect()  # nobody pays for what the one before left behind
                seconds = await parties[name]()
                if at >= 0:
                    samples[name].append(seconds)
    finally:
        gc.unfreeze()
    return samples


def minus(samples: Samples, name: str, base: str) -> list[float]:
    """What ``name`` takes on top of ``base``, round by round."""
    return [one - other for one, other in zip(samples[name], samples[base], strict=True)]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours by theirs, round by round."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def percentile(samples: Sequence[float], percent: int) -> float:
    """The value that ``percent`` of the samples do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


# -- files ---------------------------------------------------------------------------------------------------------------


def real_directory(parent: Path) -> tempfile.TemporaryDirectory[str]:
    """A directory for store files, all beside one another."""
    parent.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix="run-", dir=parent)


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """What kind of file system a path lies on; ``unknown`` where nobody can say. ``tmpfs`` never waits for a disk."""
    try:
        rows = [row.partition(" - ") for row in mounts.read_text("utf-8", "surrogateescape").splitlines()]
    except OSError:
        return "unknown"
    points = [(left.split()[4], right.split()[0]) for left, _, right in rows]
    fitting = [point for point in points if path.resolve().is_relative_to(point[0])]
    return max(fitting, key=lambda point: len(point[0]), default=("", "unknown"))[1]


PRAGMAS = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA fullfsync = ON")
"""What every party's connection is set to, so that a commit costs all of them the same."""


def connect(path: Path) -> sqlite3.Connection:
    """A plain connection on the terms of all parties; transactions are begun by hand."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in PRAGMAS:
        connection.execute(pragma)
    return connection


# -- commits -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """What was written between two looks at a write-ahead log."""

    commits: int
    bytes: int


class Log:
    """Reads the write-ahead log of a SQLite database: the one witness of commits that no party can talk round.

    A frame of the log is a page; the last frame of a transaction holds the size of the database, every other one a zero.
    Looked at as a file, beside the connections that write it; nothing is locked.
    """

    _HEADER = 32
    _FRAME = struct.Struct(">IIII8x")

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + "-wal")

    def _frames(self) -> Iterator[tuple[bool, int]]:
        """Whether a frame ends a transaction, and its bytes; only frames since the log was last begun anew."""
        log = self._path.read_bytes() if self._path.exists() else b""
        if len(log) < self._HEADER:
            return
        page, salts = struct.unpack_from(">I", log, 8)[0], struct.unpack_from(">II", log, 16)
        size = self._FRAME.size + page
        for at in range(self._HEADER, len(log) - size + 1, size):
            _, pages, *found = self._FRAME.unpack_from(log, at)
            if tuple(found) != salts:
                return
            yield pages > 0, size

    def look(self) -> Written:
        """Everything that stands in the log now."""
        frames = list(self._frames())
        return Written(sum(ends for ends, _ in frames), sum(size for _, size in frames))

    @contextmanager
    def counting(self) -> Iterator[list[Written]]:
        """Puts what was written inside the block into the list. The block must stay under SQLite's 1000 pages."""
        found: list[Written] = []
        before = self.look()
        yield found
        after = self.look()
        if after.bytes < before.bytes:
            raise RuntimeError("the log was begun anew while it was watched; count fewer operations")
        found.append(Written(after.commits - before.commits, after.bytes - before.bytes))
