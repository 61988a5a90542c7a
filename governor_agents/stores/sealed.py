"""Sealing: a store around any store, through which nothing passes in clear and nothing comes back that was touched.

Bodies, events and blobs are AES-GCM texts (`Keys.seal`). What stands in clear beside one is bound to it: a record's
kind, tenant, id, version, ``due`` and index; an event's record and seq; a blob's tenant and id. So a changed byte, a
row under another's name, a body of an older version and a text that nobody sealed are refused with `SealBroken`, which
names the row as it is stored; the row stays as it is. ``due`` and ``list`` give a refused run, halt, policy or audit
record with the reason for a body, so that the others go on.

**What is hidden.** The index fields ``agent``, ``requester`` and ``conversation``, the names of threads in the ids of
runs (``THREAD/N``), the ids of threads and counters, and the ids of blobs are HMACs (`Keys.name`); what they stood for
is sealed with the body. Where an id is hidden, ``list`` and equal ``due`` sort by the hidden id; checkpoints of one
thread keep their order.

**What is not.** Tenants, ``state``, ``pending``, ``due``, versions, sizes, and ids that are random already.

**What a seal cannot see.** A row that somebody puts back whole, version and all, as it once stood. Its next transition
meets its own events and is refused; before that, only a checkpoint of the audit tells.

A record of the kind ``keys`` says whose seals these are: without keys, or with others, the store does not open. It is
written when an empty store is opened. One that holds records in clear is refused and left as it is; only those of the
tenant at hand, of ``default`` and of all tenants are looked for, because no store tells which tenants it has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from governor_agents.core.codec import SEALED, refused
from governor_agents.core.halting import ALL_TENANTS
from governor_agents.core.ports import KINDS, Blob, Held, Record, Store, StoredEvent, Swapped
from governor_agents.core.urls import shown
from governor_agents.errors import ConfigError, SealBroken
from governor_agents.keys import Keys
from governor_agents.stores.arguments import APART, check_count, check_fields, check_key, check_write

NAMES: Final = frozenset({"agent", "requester", "conversation"})
"""Index fields that are kept as HMACs."""

MARK: Final = ("keys", "*", "sealed")
"""Kind, tenant and id of the record that says whose seals a store holds."""

_RUN_OF_THREAD: Final = re.compile(r"(.+)/(\d+)", re.DOTALL)
_CHECKPOINT: Final = re.compile(r"([0-9a-f]{32})([cw].*)", re.DOTALL)
_HIDDEN: Final = re.compile(r"~[0-9a-f]{40}")


async def refuse_sealed(store: Store) -> None:
    """Raise `ConfigError` when an open store holds sealed records, for those who have no keys."""
    if await store.load(*MARK) is not None:
        raise ConfigError(
            f"{shown(store.url)}: what it holds is sealed, and no keys are set; GOVERNOR_KEYS names the key file"
        )


class SealedStore:
    """A `Store` that keeps everything sealed in another one."""

    def __init__(self, store: Store, keys: Keys, *, tenant: str = "default") -> None:
        self.keys: Keys = keys
        self._tenant = tenant
        self.url: str = store.url
        self.shared: bool = store.shared
        self._store = store

    async def open(self) -> None:
        """Open the store. Raises `SealBroken` when it is sealed under other keys, `ConfigError` when it is in clear."""
        await self._store.open()
        mine = self.keys.name("store")
        found = await self._store.load(*MARK)
        if found is None:
            if await self._in_clear():
                await self._store.close()
                raise ConfigError(
                    f"{shown(self.url)}: holds records in clear, and keys are set; "
                    "name an empty store, or unset GOVERNOR_KEYS"
                )
            found = (await self._store.insert(Record(*MARK, body=mine.encode()), op=mine)).current
        if found is not None and found.body != mine.encode():
            raise SealBroken(f"{shown(self.url)}: it is sealed under other keys than those that are set")

    async def _in_clear(self) -> bool:
        """True when the store holds a record that nobody sealed. Asked only where no record says that it is sealed."""
        for tenant in sorted({self._tenant, "default", ALL_TENANTS}):
            for kind in sorted(KINDS - {MARK[0]}):
                for record in await self._store.list(kind, tenant, limit=1):
                    if not record.body.startswith(SEALED):
                        return True
        return False

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()

    async def check(self) -> list[str]:
        """What the store says of its settings."""
        return await self._store.check()

    async def now(self) -> float:
        """The store's clock."""
        return await self._store.now()

    async def insert(
        self, record: Record, *, op: str, events: Sequence[StoredEvent] = (), blobs: Sequence[Blob] = ()
    ) -> Swapped:
        """Write a record that must not exist yet. Raises `ConfigError` for an id in the form of hidden ones."""
        check_write(record, op, events, blobs)
        if _HIDDEN.match(record.id):  # lists that go on behind it could not tell which is meant
            raise ConfigError(
                f"{record.kind} {record.id}: an id must not begin with ~ and 40 hex digits; choose another"
            )
        answer = await self._store.insert(
            self._seal(record, record.v or 1),
            op=op,
            events=self._events(record, events),
            blobs=self._blobs(record, blobs),
        )
        return self._answer(answer, record.id)

    async def load(self, kind: str, tenant: str, id: str) -> Record | None:
        """The record, or None. Raises `SealBroken`."""
        check_key(kind, tenant, id)
        stored = self._id(kind, tenant, id)
        found = await self._store.load(kind, tenant, stored)
        if found is None:
            return None
        if (found.kind, found.tenant, found.id) != (kind, tenant, stored):
            raise SealBroken(f"{kind} {stored}: another row was given in its place")
        return self._open(found, id)

    async def swap(
        self,
        record: Record,
        *,
        op: str,
        events: Sequence[StoredEvent] = (),
        blobs: Sequence[Blob] = (),
        not_after: float | None = None,
    ) -> Swapped:
        """Replace the record whose version is ``record.v``. Raises `SealBroken` when what won instead is refused."""
        check_write(record, op, events, blobs)
        answer = await self._store.swap(
            self._seal(record, record.v + 1),
            op=op,
            events=self._events(record, events),
            blobs=self._blobs(record, blobs),
            not_after=not_after,
        )
        return self._answer(answer, record.id)

    async def delete(self, kind: str, tenant: str, id: str, v: int) -> bool:
        """Remove the record at this version, with its events and blobs."""
        check_key(kind, tenant, id)
        return await self._store.delete(kind, tenant, self._id(kind, tenant, id), v)

    async def due(
        self, kind: str, tenant: str, *, limit: int = 100, after: tuple[float, str] | None = None
    ) -> list[Record]:
        """What has come due, by (due, stored id)."""
        behind = after and (after[0], self._behind(kind, tenant, after[1]))
        return [self._given(each) for each in await self._store.due(kind, tenant, limit=limit, after=behind)]

    async def scan(self, kind: str, *, limit: int = 100, after: tuple[str, str] | None = None) -> list[Held]:
        """Every record of a kind, of all tenants, by (tenant, stored id). Raises `SealBroken`.

        It opens the blobs as well, only to learn their ids: copies of whole stores go by what is stored, without keys.
        """
        behind = after and (after[0], self._behind(kind, *after))
        found = await self._store.scan(kind, limit=limit, after=behind)
        return [Held(self._given(held.record), await self._named(held)) for held in found]

    async def _named(self, held: Held) -> tuple[str, ...]:
        key = (held.record.kind, held.record.tenant, held.record.id)
        return tuple(sorted([(await self._content(key, stored))[0] for stored in held.blobs]))

    async def blob(self, kind: str, tenant: str, id: str, digest: str) -> bytes | None:
        """The content that this record owns under this digest, or None. Raises `SealBroken`."""
        key = (kind, tenant, self._id(kind, tenant, id))
        return (await self._content(key, self._name("blob", tenant, digest)))[1]

    async def _content(self, key: tuple[str, str, str], stored: str) -> tuple[str, bytes | None]:
        """The id of a blob as it was written, and its data, None when it is not there."""
        data = await self._store.blob(*key, stored)
        if data is None:
            return "", None
        kind, tenant, id = key
        name, _, content = self._unseal(data, f"{kind} {id}: blob {stored}", "blob", tenant, stored).partition(b"\n")
        return json.loads(name), content

    async def events(self, kind: str, tenant: str, id: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """The record's events with seq > after, in order. Raises `SealBroken`."""
        stored = self._id(kind, tenant, id)
        return [
            StoredEvent(
                event.seq,
                self._unseal(
                    event.body, f"{kind} {stored}: event {event.seq}", "event", kind, tenant, stored, event.seq
                ),
            )
            for event in await self._store.events(kind, tenant, stored, after=after, limit=limit)
        ]

    async def wait(self, timeout: float) -> bool:
        """True after a write since the last ``wait``, False after ``timeout`` seconds."""
        return await self._store.wait(timeout)

    async def add_below(self, tenant: str, id: str, amount: int, limit: int, *, op: str) -> int | None:
        """Add to a counter, by compare-and-set: a sum that the store could add to would have to stand in clear."""
        key = ("counter", tenant, id)
        check_count(key, amount, limit, op)
        while True:
            found = await self.load(*key)
            # Only the store knows which ops it keeps: one that comes too late for any time wins when it stood before.
            if found is not None and (await self.swap(found, op=op, not_after=0.0)).won:
                return int(found.body)
            total = int(found.body if found else b"0") + amount
            if total > limit:
                return None
            fresh = Record(*key, str(total).encode(), v=found.v if found else 0)
            answer = await (self.swap if found else self.insert)(fresh, op=op)
            if answer.won and answer.v == fresh.v + 1:
                return total

    # Last, because from here on `list` means this method wherever the class is read.
    async def list(
        self, kind: str, tenant: str, where: Mapping[str, str] | None = None, *, limit: int = 100, after: str = ""
    ) -> list[Record]:
        """Records whose index fields equal ``where``, by stored id."""
        wanted = dict(where or {})
        check_fields(wanted)
        found = await self._store.list(
            kind,
            tenant,
            self._index(tenant, wanted),
            limit=limit,
            after=self._behind(kind, tenant, after) if after else "",
        )
        return [self._given(record) for record in found]

    # -- sealing ----------------------------------------------------------------------------------------------------

    def _seal(self, record: Record, v: int) -> Record:
        """The record as it will stand at version ``v``."""
        stored = replace(
            record,
            id=self._id(record.kind, record.tenant, record.id),
            index=self._index(record.tenant, record.index),
            # As it will be read: some stores know no integer in a time, nor a zero with a sign.
            due=None if record.due is None else float(record.due) + 0.0,
        )
        inside = json.dumps([record.id, dict(record.index)]).encode() + b"\n" + record.body
        return replace(stored, body=self.keys.seal(inside, _bound(*_clear(stored, v))))

    def _events(self, record: Record, events: Sequence[StoredEvent]) -> tuple[StoredEvent, ...]:
        kind, tenant, id = record.kind, record.tenant, self._id(record.kind, record.tenant, record.id)
        return tuple(
            StoredEvent(event.seq, self.keys.seal(event.body, _bound("event", kind, tenant, id, event.seq)))
            for event in events
        )

    def _blobs(self, record: Record, blobs: Sequence[Blob]) -> tuple[Blob, ...]:
        named = [(self._name("blob", record.tenant, blob.id), blob) for blob in blobs]
        return tuple(
            Blob(
                stored,
                self.keys.seal(json.dumps(blob.id).encode() + b"\n" + blob.data, _bound("blob", record.tenant, stored)),
            )
            for stored, blob in named
        )

    # -- opening ----------------------------------------------------------------------------------------------------

    def _answer(self, answer: Swapped, id: str) -> Swapped:
        return answer if answer.current is None else replace(answer, current=self._open(answer.current, id))

    def _given(self, record: Record) -> Record:
        """A listed record; of one that is refused, what says so."""
        try:
            return self._open(record)
        except SealBroken as error:
            if record.kind not in APART:  # the rows of a thread stand for one another: without one, none is given
                raise
            return replace(record, body=refused(str(error)), index={})

    def _open(self, record: Record, id: str | None = None) -> Record:
        """The record as it was written; ``id`` is the one that was asked for."""
        where = f"{record.kind} {record.id}"
        inside = self._unseal(record.body, where, *_clear(record, record.v))
        head, _, body = inside.partition(b"\n")
        named, index = json.loads(head)
        if id not in (None, named):
            raise SealBroken(f"{where}: it was written under another id")
        return replace(record, id=named, index=index, body=body)

    def _unseal(self, data: object, where: str, *bound: Any) -> bytes:
        if not isinstance(data, bytes):  # a text or a number, put where bytes belong
            raise SealBroken(f"{where}: it is not sealed, and keys are set")
        try:
            return self.keys.open(data, _bound(*bound))
        except SealBroken as error:
            raise SealBroken(f"{where}: {error}") from None

    # -- naming -----------------------------------------------------------------------------------------------------

    def _name(self, use: str, tenant: str, text: str) -> str:
        return self.keys.name(json.dumps([use, tenant, text]))

    def _index(self, tenant: str, index: Mapping[str, str]) -> dict[str, str]:
        return {field: self._name(field, tenant, value) if field in NAMES else value for field, value in index.items()}

    def _id(self, kind: str, tenant: str, id: str) -> str:
        """The id as it is stored."""
        if kind == "run":
            run = _RUN_OF_THREAD.fullmatch(id)
            return f"~{self._name('thread', tenant, run[1])}/{run[2]}" if run else id
        if kind not in ("thread", "counter"):
            return id
        checkpoint = _CHECKPOINT.fullmatch(id) if kind == "thread" else None
        named, rest = checkpoint.groups() if checkpoint else (id, "")
        return f"~{self._name(kind, tenant, named)}{rest}"

    def _behind(self, kind: str, tenant: str, id: str) -> str:
        """Where a page goes on; a refused run was given under its stored id."""
        return id if _HIDDEN.match(id) else self._id(kind, tenant, id)


def _clear(record: Record, v: int) -> tuple[Any, ...]:
    """What stands in clear beside a record's body."""
    return "record", record.kind, record.tenant, record.id, v, record.due, dict(record.index)


def _bound(*parts: Any) -> bytes:
    """Associated data. (``default``: a store that was tampered with may give what is no JSON; it fits no seal.)"""
    return json.dumps(parts, sort_keys=True, default=repr).encode()
