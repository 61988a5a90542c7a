"""Entries as lines of text: the format of export files, and what digests of stores are over.

Each line is one JSON object in one form only (keys sorted, no spaces, ASCII), so equal content is equal bytes. Content
is base64, in parts of at most `PART` bytes: the first part stands in the line that names it, the others follow in lines
of their own. An entry is

* ``{"at": [KIND, TENANT, ID], "blobs": N, "data": PART, "due": null, "events": N, "index": {}, "size": BYTES, "v": V}``
* for each blob, by id, ``{"blob": ID, "data": PART, "size": BYTES}``
* for each event, by seq, ``{"data": PART, "event": SEQ, "size": BYTES}``
* wherever ``size`` is more than ``PART``, lines ``{"data": PART}`` until it is reached

and entries come by kind, tenant, id. The digest of a store is the SHA-256 of these lines, each with its line break.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from governor_agents.backup.entries import Entry

PART = 768 * 1024
"""Bytes of content in one line."""


def line_of(document: dict[str, Any]) -> bytes:
    """The one form of a line. Raises `ValueError` for what JSON does not know."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode() + b"\n"


def lines_of(entry: Entry) -> Iterator[bytes]:
    """An entry, line by line."""
    record = entry.record
    head = {
        "at": list(entry.key),
        "v": record.v,
        "due": None if record.due is None else float(record.due) + 0.0,
        "index": dict(record.index),
        "blobs": len(entry.blobs),
        "events": len(entry.events),
    }
    yield from _content(head, record.body)
    for blob in entry.blobs:
        yield from _content({"blob": blob.id}, blob.data)
    for event in entry.events:
        yield from _content({"event": event.seq}, event.body)


def _content(head: dict[str, Any], data: bytes) -> Iterator[bytes]:
    yield line_of({**head, "size": len(data), "data": _part(data, 0)})
    for begin in range(PART, len(data), PART):
        yield line_of({"data": _part(data, begin)})


def _part(data: bytes, begin: int) -> str:
    return b64encode(data[begin : begin + PART]).decode()


def digest(entry: Entry) -> str:
    """The SHA-256 of an entry's lines."""
    made = hashlib.sha256()
    for line in lines_of(entry):
        made.update(line)
    return made.hexdigest()


@dataclass(slots=True)
class Tally:
    """What was counted of a store, or of a file, so far, and the digest over it."""

    records: int = 0
    events: int = 0
    blobs: int = 0
    bytes: int = 0
    hash: Any = field(default_factory=hashlib.sha256, repr=False)

    def add(self, entry: Entry) -> str:
        """Count an entry; its own digest."""
        own = hashlib.sha256()
        for line in lines_of(entry):
            self.hash.update(line)
            own.update(line)
        self.count(entry)
        return own.hexdigest()

    def count(self, entry: Entry) -> None:
        """Count an entry whose lines were hashed already."""
        self.records += 1
        self.events += len(entry.events)
        self.blobs += len(entry.blobs)
        self.bytes += entry.size

    @property
    def sha256(self) -> str:
        """The digest."""
        return str(self.hash.hexdigest())

    def document(self) -> dict[str, Any]:
        """As a plain object, for a file's last line and for scripts."""
        return {"records": self.records, "events": self.events, "blobs": self.blobs, "sha256": self.sha256}
