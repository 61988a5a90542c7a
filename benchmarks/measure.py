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
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Cost(NamedTuple):
    """What one operation took: seconds by the clock, and seconds of a core over all threads of this process.

    The second hardly depends on what else the machine does.
    """

    seconds: float
    cpu: float


Party = Callable[[], Awaitable[Cost]]
"""One round of one party: prepares what it needs, then answers the cost of one operation."""

Samples = Mapping[str, Sequence[Cost]]

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


async def timed(operation: Callable[[int], Awaitable[object]], times: int = 1) -> Cost:
    """The cost of one operation, over a batch of them one after another."""
    begun, cpu = time.perf_counter(), time.process_time()
    for at in range(times):
        await operation(at)
    return Cost((time.perf_counter() - begun) / times, (time.process_time() - cpu) / times)


async def interleave(parties: Mapping[str, Party], rounds: int) -> dict[str, list[Cost]]:
    """Every party once a round; the samples of each, in the order of the rounds."""
    names = list(parties)
    samples: dict[str, list[Cost]] = {name: [] for name in names}
    gc.collect()
    gc.freeze()  # what was imported is not looked through again and again
    try:
        for at in range(-WARM_UP, rounds):
            first = at % len(names)
            for name in (*names[first:], *names[:first]):
                gc.collect()  # nobody pays for what the one before left behind
                cost = await parties[name]()
                if at >= 0:
                    samples[name].append(cost)
    finally:
        gc.unfreeze()
    return samples


def seconds(samples: Samples, name: str, minus: str = "") -> list[float]:
    """What a party took by the clock, round by round; on top of another one, when that is named."""
    if not minus:
        return [cost.seconds for cost in samples[name]]
    return [one.seconds - other.seconds for one, other in zip(samples[name], samples[minus], strict=True)]


def cpu(samples: Samples, name: str) -> float:
    """The median of a party's seconds of a core."""
    return statistics.median(cost.cpu for cost in samples[name])


def ratio(samples: Samples, name: str, other: str, minus: str = "") -> Spread:
    """One party's time by another's, round by round; both on top of a third, when that is named."""
    pairs = zip(seconds(samples, name, minus), seconds(samples, other, minus), strict=True)
    return Spread.of([one / another for one, another in pairs])


def percentile(samples: Sequence[float], percent: int) -> float:
    """The value that ``percent`` of the samples do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def waited_for_cores() -> float:
    """Seconds since the machine started in which something was ready to run and had no core; 0.0 where unknown."""
    try:
        first = Path("/proc/pressure/cpu").read_text("utf-8").splitlines()[0]
    except (OSError, IndexError):
        return 0.0
    return int(first.rpartition("total=")[2]) / 1e6


# -- files -----------------------------------------------------------------------------------------------------------


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


# -- commits ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """What was written between two looks at a write-ahead log."""

    commits: int
    bytes: int


class Log:
    """Reads the write-ahead log of a SQLite database: the one witness of commits that no party can talk round.

    A frame of the log is a page; the last frame of a transaction holds the size of the database, others a zero.
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
