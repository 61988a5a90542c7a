"""Packing: a store around any store, in which long bodies and blobs lie compressed.

A text of `LEAST` bytes or more is kept as zlib of level 1 where that is shorter (docs/performance.md has the measure),
behind a mark that says so. What happens to begin like a mark gets one that says that it stands as it is, so nothing
that is stored can be taken for something else. Rows that were written before there was packing have no mark, and are
given as they are. Events are short, and stay readable where the store's owner looks for them.

With keys this stands outside of sealing: what is sealed does not compress.

**Bombs.** Nothing longer than `MOST` is packed, so whatever unfolds to more was not written here and is refused, after
that many bytes and not after all of them.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from governor_agents.core.ports import Blob, Events, Held, Record, Records, Store, StoredEvent, Swapped
from governor_agents.errors import SnapshotError, StoreTooNew
from governor_agents.stores.arguments import check_write

LEAST: Final = 4096
"""Texts of fewer bytes are kept as they are."""

MOST: Final = 64 * 1024 * 1024
"""Texts of more bytes are kept as they are, and none that unfolds to more is read."""

LEVEL: Final = 1

MARK: Final = b"ga-packed-"
"""How every mark begins; a digit and a colon follow."""

PLAIN: Final = MARK + b"0:"
ZLIB: Final = MARK + b"1:"


def pack(data: bytes) -> bytes:
    """The bytes as they are stored."""
    if LEAST <= len(data) <= MOST:
        packed = ZLIB + zlib.compress(data, LEVEL)
        if len(packed) < len(data):
            return packed
    return PLAIN + data if data.startswith(MARK) else data


def _marked(data: object) -> bool:
    """(A store that somebody wrote to by hand may give a text where bytes belong.)"""
    return isinstance(data, bytes) and data.startswith(MARK)


def unpack(data: bytes) -> bytes:
    """The bytes as they were. Raises `SnapshotError` for what `pack` did not write, `StoreTooNew`."""
    if not _marked(data):
        return data
    if data.startswith(PLAIN):
        return data[len(PLAIN) :]
    if not data.startswith(ZLIB):
        raise StoreTooNew("it is packed in a way that this version does not know; upgrade governor-agents")
    unfold = zlib.decompressobj()
    try:
        found = unfold.decompress(data[len(ZLIB) :], MOST + 1)
    except zlib.error as error:
        raise SnapshotError(f"it is packed, and cannot be unpacked: {error}") from None
    if len(found) > MOST:
        raise SnapshotError(f"it is packed, and unfolds to more than {MOST} bytes")
    if not unfold.eof or unfold.unused_data:
        raise SnapshotError("it is packed, and its end was cut or added to")
    return found


def _unpacked(data: bytes, what: str) -> bytes:
    try:
        return unpack(data)
    except (SnapshotError, StoreTooNew) as error:
        raise type(error)(f"{what}: {error}") from None


def _packed(record: Record) -> Record:
    body = pack(record.body)
    return record if body is record.body else replace(record, body=body)


def _blobs(blobs: Sequence[Blob]) -> tuple[Blob, ...]:
    return tuple(Blob(blob.id, pack(blob.data)) for blob in blobs)


def _given(record: Record) -> Record:
    """A record of many, or one that won: what cannot be unpacked is given as it stands, and nobody can read it."""
    body = record.body
    with contextlib.suppress(SnapshotError, StoreTooNew):
        body = unpack(record.body)
    return record if body is record.body else replace(record, body=body)


def _answer(answer: Swapped) -> Swapped:
    return answer if answer.current is None else replace(answer, current=_given(answer.current))


class PackedStore:
    """A `Store` that keeps long content compressed in another one."""

    def __init__(self, store: Store) -> None:
        self.url: str = store.url
        self.shared: bool = store.shared
        self.beneath: Store = store

    async def open(self) -> None:
        """Open the store."""
        await self.beneath.open()

    async def close(self) -> None:
        """Close the store."""
        await self.beneath.close()

    async def check(self) -> list[str]:
        """What the store says of its settings."""
        return await self.beneath.check()

    async def now(self) -> float:
        """The store's clock."""
        return await self.beneath.now()

    async def insert(
        self, record: Record, *, op: str, events: Sequence[StoredEvent] = (), blobs: Sequence[Blob] = ()
    ) -> Swapped:
        """Write a record that must not exist yet."""
        check_write(record, op, events, blobs)
        return _answer(await self.beneath.insert(_packed(record), op=op, events=events, blobs=_blobs(blobs)))

    async def load(self, kind: str, tenant: str, id: str) -> Record | None:
        """The record, or None. Raises `SnapshotError` for a body that cannot be unpacked, `StoreTooNew`."""
        found = await self.beneath.load(kind, tenant, id)
        return None if found is None else replace(found, body=_unpacked(found.body, f"{kind} {id}"))

    async def swap(
        self,
        record: Record,
        *,
        op: str,
        events: Sequence[StoredEvent] = (),
        blobs: Sequence[Blob] = (),
        not_after: float | None = None,
    ) -> Swapped:
        """Replace the record whose version is ``record.v``."""
        check_write(record, op, events, blobs)
        answer = await self.beneath.swap(
            _packed(record), op=op, events=events, blobs=_blobs(blobs), not_after=not_after
        )
        return _answer(answer)

    async def delete(self, kind: str, tenant: str, id: str, v: int) -> bool:
        """Remove the record at this version, with its events and blobs."""
        return await self.beneath.delete(kind, tenant, id, v)

    async def due(
        self, kind: str, tenant: str, *, limit: int = 100, after: tuple[float, str] | None = None
    ) -> list[Record]:
        """What has come due, by (due, id)."""
        return [_given(each) for each in await self.beneath.due(kind, tenant, limit=limit, after=after)]

    async def scan(self, kind: str, *, limit: int = 100, after: tuple[str, str] | None = None) -> list[Held]:
        """Every record of a kind, of all tenants, by (tenant, id)."""
        page = await self.beneath.scan(kind, limit=limit, after=after)
        return [replace(each, record=_given(each.record)) for each in page]

    async def blob(self, kind: str, tenant: str, id: str, digest: str) -> bytes | None:
        """The content that this record owns under this digest. Raises `SnapshotError`, `StoreTooNew`."""
        data = await self.beneath.blob(kind, tenant, id, digest)
        return None if data is None else _unpacked(data, f"{kind} {id}: content {digest[:12]}")

    async def events(self, kind: str, tenant: str, id: str, *, after: int = 0, limit: int = 1000) -> Events:
        """The record's events with seq > after, in order."""
        return await self.beneath.events(kind, tenant, id, after=after, limit=limit)

    async def wait(self, timeout: float) -> bool:
        """True after a write since the last ``wait``, False after ``timeout`` seconds."""
        return await self.beneath.wait(timeout)

    async def add_below(self, tenant: str, id: str, amount: int, limit: int, *, op: str) -> int | None:
        """Add to a counter."""
        return await self.beneath.add_below(tenant, id, amount, limit, op=op)

    # Last, because from here on `list` means this method wherever the class is read.
    async def list(
        self, kind: str, tenant: str, where: Mapping[str, str] | None = None, *, limit: int = 100, after: str = ""
    ) -> Records:
        """Records whose index fields equal ``where``, by id."""
        return [_given(each) for each in await self.beneath.list(kind, tenant, where, limit=limit, after=after)]
