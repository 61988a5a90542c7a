"""Reading an export file: strictly, line by line, and nothing of it is believed before its last line was seen.

A file begins with ``{"governor_agents_store": 1, "made": SECONDS, "version": VERSION}`` and ends with
``{"end": {...}}``, which counts what stands between and gives its digest. Whatever is not exactly as an export writes
it is refused with the number of its line.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode
from collections.abc import Iterator
from typing import Any, BinaryIO

from governor_agents.backup.entries import Entry, Key
from governor_agents.backup.lines import PART, Tally, line_of
from governor_agents.core.ports import INDEX_FIELDS, KINDS, Blob, Record, StoredEvent
from governor_agents.errors import ConfigError, StoreTooNew

FORMAT = "governor_agents_store"
VERSION = 1

MAX_LINE = 4 * 1024 * 1024
"""No line of an export is longer: a part of content, or the names of a record."""

MAX_ENTRY = 1024 * 1024 * 1024
"""Bytes that one record may have with all that it owns: it is written to a store at once."""

MAX_V = 2**53

_ENTRY = {"at", "blobs", "data", "due", "events", "index", "size", "v"}


class ExportRefused(ConfigError):
    """A file is no export, or not as it was written."""


class Reader:
    """The lines of one file, with their numbers."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self.number = 0
        self.tally = Tally()

    def refuse(self, why: str) -> ExportRefused:
        """The error that names the line at hand."""
        return ExportRefused(f"{self._name}, line {self.number}: {why}")

    def line(self) -> tuple[bytes, dict[str, Any]]:
        """The next line, as bytes and as an object. Raises `ExportRefused`."""
        self.number += 1
        try:
            raw = self._file.readline(MAX_LINE + 1)
        except Exception as error:  # a packed file that is damaged: gzip and zlib have errors of several families
            raise self.refuse(f"the file cannot be read on, it is cut off or damaged ({error})") from None
        if len(raw) > MAX_LINE:
            raise self.refuse(f"it is longer than {MAX_LINE} bytes, which no line of an export is")
        if not raw.endswith(b"\n"):
            raise self.refuse("the file ends before its last line: it was cut off")
        return raw, self._object(raw)

    def _object(self, raw: bytes) -> dict[str, Any]:
        try:
            found = json.loads(raw, object_pairs_hook=_once, parse_constant=_no_constant)
        except RecursionError:
            raise self.refuse("it is nested too deeply") from None
        except ValueError as error:
            raise self.refuse(f"it is not JSON as an export writes it ({error})") from None
        if not isinstance(found, dict):
            raise self.refuse("it is not a JSON object")
        try:
            same = line_of(found) == raw
        except (ValueError, RecursionError):
            same = False
        if not same:
            raise self.refuse("it is not in the form in which an export writes it")
        return found

    def over(self) -> bool:
        """True when nothing follows."""
        try:
            return not self._file.read(1)
        except Exception:
            return False


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands in it twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def read(file: BinaryIO, name: str, tally: Tally | None = None) -> Iterator[Entry]:
    """The entries of a file, in order; the end is checked when it is reached. Raises `ExportRefused`, `StoreTooNew`.

    ``tally`` counts along.
    """
    reader = Reader(file, name)
    reader.tally = tally or Tally()
    _head(reader)
    before: Key | None = None
    while True:
        raw, found = reader.line()
        if "end" in found:
            _end(reader, found)
            return
        began = reader.number
        entry = _entry(reader, raw, found)
        if before is not None and entry.key <= before:
            reader.number = began
            raise reader.refuse(f"{entry.name!r} is there twice, or out of order")
        before = entry.key
        reader.tally.count(entry)
        yield entry


def _head(reader: Reader) -> None:
    _, found = reader.line()
    version = found.get(FORMAT)
    if not isinstance(version, int) or not _whole(version, 1):
        raise reader.refuse("the file is no export of a store")
    if version > VERSION:
        raise StoreTooNew(str(reader.refuse(f"format {version}, this version reads up to {VERSION}; upgrade")))


def _end(reader: Reader, found: dict[str, Any]) -> None:
    if found != {"end": reader.tally.document()}:
        raise reader.refuse("the counts or the digest of the last line are not those of the lines before it")
    if not reader.over():
        reader.number += 1
        raise reader.refuse("something follows the last line")


def _entry(reader: Reader, raw: bytes, found: dict[str, Any]) -> Entry:
    if found.keys() != _ENTRY:
        raise reader.refuse("it is not the first line of a record")
    record = _record(reader, found)
    blobs, events = found["blobs"], found["events"]
    if not _whole(blobs) or not _whole(events):
        raise reader.refuse("the counts of blobs and events are no counts")
    room = MAX_ENTRY
    body = _content(reader, raw, found, room)
    room -= len(body)
    record = Record(record.kind, record.tenant, record.id, body, record.index, record.due, record.v)
    kept: list[Blob] = []
    for _ in range(blobs):
        id, data = _named(reader, "blob", room)
        if not _text(id) or (kept and id <= kept[-1].id):
            raise reader.refuse("the blobs of a record are not in order")
        kept.append(Blob(id, data))
        room -= len(data)
    told: list[StoredEvent] = []
    for _ in range(events):
        seq, data = _named(reader, "event", room)
        if not _whole(seq, 1) or (told and seq <= told[-1].seq):
            raise reader.refuse("the events of a record are not in order")
        told.append(StoredEvent(seq, data))
        room -= len(data)
    return Entry(record, tuple(kept), tuple(told))


def _record(reader: Reader, found: dict[str, Any]) -> Record:
    at, v, due, index = found["at"], found["v"], found["due"], found["index"]
    if not isinstance(at, list) or len(at) != 3 or not all(map(_text, at)):
        raise reader.refuse("a record is named by kind, tenant and id")
    kind, tenant, id = at
    if kind not in KINDS:
        raise reader.refuse(f"{kind!r} is not a kind of record; kinds are {', '.join(sorted(KINDS))}")
    if not _whole(v, 1):
        raise reader.refuse(f"a version counts from 1, and is not {v!r}")
    if due is not None and not (isinstance(due, float) and math.isfinite(due)):
        raise reader.refuse("due is a time or null")
    if not isinstance(index, dict) or not index.keys() <= INDEX_FIELDS or not all(map(_encodes, index.values())):
        raise reader.refuse(f"index holds texts under {', '.join(sorted(INDEX_FIELDS))}")
    return Record(kind, tenant, id, b"", index, due, v)


def _named(reader: Reader, what: str, room: int) -> tuple[Any, bytes]:
    raw, found = reader.line()
    if found.keys() != {what, "data", "size"}:
        raise reader.refuse(f"it is not the {what} that has to follow here")
    return found[what], _content(reader, raw, found, room)


def _content(reader: Reader, raw: bytes, found: dict[str, Any], room: int) -> bytes:
    """The content that begins in this line; its further lines are read."""
    size = found["size"]
    if not _whole(size) or size > room:
        raise reader.refuse(f"a record with all that it owns has at most {MAX_ENTRY} bytes")
    reader.tally.hash.update(raw)
    parts = [_part(reader, found["data"], size)]
    left = size - len(parts[0])
    while left:
        raw, more = reader.line()
        if more.keys() != {"data"}:
            raise reader.refuse("the content of the line before goes on here, and does not")
        reader.tally.hash.update(raw)
        parts.append(_part(reader, more["data"], left))
        left -= len(parts[-1])
    return b"".join(parts)


def _part(reader: Reader, text: Any, left: int) -> bytes:
    try:
        data = b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        raise reader.refuse("its content is not base64") from None
    if len(data) != min(left, PART) or not isinstance(text, str):
        raise reader.refuse("its content is not as long as it says")
    return data


def _whole(value: object, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MAX_V


def _encodes(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _text(value: object) -> bool:
    return bool(value) and _encodes(value)
