"""The people file of a running process: read again when it changes, and never believed while it is broken."""

from __future__ import annotations

import logging
import os
import threading
import time
from os import PathLike
from pathlib import Path

from governor_agents.core.identity import Person
from governor_agents.directory.file import read_people
from governor_agents.directory.people import People
from governor_agents.errors import DirectoryUnreadable, PeopleFileError
from governor_agents.policies.document import MAX_BYTES
from governor_agents.policies.reading import Source, Unreadable, decoded

log = logging.getLogger(__name__)

SETTLED = 2.0
"""Seconds after which a file's times can be trusted to show a further change: file systems keep them coarsely."""

_State = tuple[int, int, int, int, int]


class PeopleFile:
    """The people in a YAML file. Raises `PeopleFileError` when it cannot be used at the start.

    Each question looks whether the file has changed. A file that is gone, unreadable or wrong identifies nobody
    (`DirectoryUnreadable`), not even those it knew before, until it is mended; that is one line in the log, and one
    when it is over. Replace the file as a whole (write beside it, rename): half of a file may look like a shorter one.
    Usable from any thread.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._state: _State | None = None
        self._settled = False
        self._data = b""
        self._people: People | None = None
        self._trouble = ""
        self._look()
        if self._people is None:
            raise PeopleFileError(self._trouble)

    def __repr__(self) -> str:
        return f"PeopleFile({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        """Two of the same path say the same."""
        return isinstance(other, PeopleFile) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def people(self) -> People:
        """What the file says now. Raises `DirectoryUnreadable`."""
        with self._lock:
            before = self._trouble
            self._look()
            if self._trouble != before:
                self._tell()
            if self._people is None:
                raise DirectoryUnreadable(f"nobody is identified until this is mended: {self._trouble}")
            return self._people

    def person(self, address: str) -> Person | None:
        """The person with this id or address. Raises `DirectoryUnreadable`, as all questions do."""
        return self.people().person(address)

    def members(self, name: str) -> tuple[str, ...] | None:
        """The ids of the people in ``group:NAME`` or with ``role:NAME``, None when there is no such name."""
        return self.people().members(name)

    def stands_for(self, id: str, now: float) -> tuple[str, ...]:
        """The ids of those who are away at ``now`` and whose substitute this person is."""
        return self.people().stands_for(id, now)

    def coordinator(self, id: str) -> bool:
        """True when this person may hand somebody's request to somebody else."""
        return self.people().coordinator(id)

    def _look(self) -> None:
        """Bring what is known up to what the file says, if it can have changed."""
        try:
            state = _stat(self.path)
            if state == self._state and self._settled:
                return
            data, state = _read(self.path)
        except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
            self._forget(f"{self.path}: {getattr(error, 'strerror', None) or error}")
            return
        settled = abs(time.time() - max(state[1], state[2]) / 1e9) > SETTLED
        if data != self._data or self._state is None:
            self._take(data)
        self._data, self._state, self._settled = data, state, settled

    def _take(self, data: bytes) -> None:
        try:
            self._people = read_people(Source(self.path.name, str(self.path), decoded(data, self.path)))
            self._trouble = ""
        except (PeopleFileError, Unreadable) as error:
            self._people, self._trouble = None, str(error)

    def _forget(self, trouble: str) -> None:
        self._people, self._state, self._data, self._trouble = None, None, b"", trouble

    def _tell(self) -> None:
        if self._trouble:
            log.error("the people file cannot be used, so nobody is identified: %s", self._trouble)
        else:
            log.warning("the people file can be used again: %s", self.path)


def _state_of(found: os.stat_result) -> _State:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev


def _stat(path: Path) -> _State:
    return _state_of(path.stat())


def _read(path: Path) -> tuple[bytes, _State]:
    """The bytes of a file, and the state it had before they were read: what changes meanwhile is read again."""
    with path.open("rb") as file:
        state = _state_of(os.fstat(file.fileno()))
        return file.read(MAX_BYTES + 1), state
