"""Export files on disk: written for their owner's eyes alone, read back only when whole."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import BinaryIO, cast

from governor_agents.backup.entries import Entry
from governor_agents.backup.lines import Tally, line_of, lines_of
from governor_agents.backup.reading import FORMAT, MAX_ENTRY, VERSION, read
from governor_agents.errors import ConfigError

Seen = Callable[[int], None]
"""Hears how many records have been dealt with."""

GZIP = b"\x1f\x8b"
PACKED = ".gz"


async def write(entries: AsyncIterator[Entry], file: BinaryIO, made: float, seen: Seen) -> Tally:
    """Write an export. ``made`` is the time of the store. Raises `ConfigError` for a record that no import takes."""
    tally = Tally()
    file.write(line_of({FORMAT: VERSION, "made": float(made), "version": _version()}))
    async for entry in entries:
        if entry.size > MAX_ENTRY:
            raise ConfigError(f"{entry.name} has more than {MAX_ENTRY} bytes, with what it owns; it cannot be exported")
        for line in lines_of(entry):
            tally.hash.update(line)
            file.write(line)
        tally.count(entry)
        seen(tally.records)
    file.write(line_of({"end": tally.document()}))
    return tally


def _version() -> str:
    try:
        return version("governor-agents")
    except PackageNotFoundError:
        return ""


@contextmanager
def new_file(name: str) -> Iterator[BinaryIO]:
    """A new file with mode 0600, packed when its name ends in ``.gz``; ``-`` is stdout. None is left after an error.

    Raises `ConfigError`; never writes over a file that exists.
    """
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{name} exists already; name a new file") from None
    except OSError as error:
        raise ConfigError(f"{name} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            if name.endswith(PACKED):
                with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed:
                    yield cast(BinaryIO, packed)
            else:
                yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise ConfigError(f"{name} cannot be written: {error.strerror or error}") from None
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class Export:
    """A file that was read once to its end and is whole; `entries` reads it again."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self.tally = Tally()
        for _ in self._again(self.tally):
            pass

    def _again(self, tally: Tally | None = None) -> Iterator[Entry]:
        self._file.seek(0)
        packed = self._file.read(len(GZIP)) == GZIP
        self._file.seek(0)
        return read(cast(BinaryIO, gzip.GzipFile(fileobj=self._file)) if packed else self._file, self._name, tally)

    async def entries(self) -> AsyncIterator[Entry]:
        """The entries, from the first one on."""
        for entry in self._again():
            yield entry


@contextmanager
def whole_file(name: str) -> Iterator[Export]:
    """The export of this name, checked to its end; ``-`` is stdin, which is laid in a file of its own first.

    Raises `ConfigError`, `StoreTooNew`.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(_opened(name))
            if name == "-":
                shutil.copyfileobj(sys.stdin.buffer, file)
            export = Export(file, "stdin" if name == "-" else name)
        except OSError as error:
            raise ConfigError(f"{name} cannot be read: {error.strerror or error}") from None
        yield export


def _opened(name: str) -> BinaryIO:
    """The file, or an empty one for stdin. Raises `OSError`."""
    return cast(BinaryIO, tempfile.TemporaryFile()) if name == "-" else Path(name).open("rb")
