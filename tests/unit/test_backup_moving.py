"""Moving a store into another, on every store: byte for byte, resumed after a stop, never over anything else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from governor_agents.backup.entries import Entry, entries, steady_entries
from governor_agents.backup.figures import measure
from governor_agents.backup.lines import PART
from governor_agents.backup.moving import Brought, bring, in_the_way
from governor_agents.backup.running import running
from governor_agents.core.ports import KINDS, Blob, Record, Store, StoredEvent
from governor_agents.errors import StoreError
from governor_agents.stores import open_store
from tests.stores import KNOWN, STORES

PAIRS = sorted({("sqlite", name) for name in STORES} | {(name, "sqlite") for name in STORES})


def quiet(what: str) -> Callable[[int], None]:
    """Nobody watches."""
    return lambda count: None


def sample(count: int = 3) -> list[Entry]:
    """Entries of every kind and of odd tenants, with all that a record may own."""
    made = [
        Entry(
            Record(
                kind, tenant, f"{kind}-{number}", f"{number}".encode(), {"state": "ready"}, 5.5 * number, number + 1
            ),
            tuple(sorted((Blob(f"b{at}", bytes([at]) * 100) for at in range(number % 3)), key=lambda blob: blob.id)),
            tuple(StoredEvent(seq, b"\xff\x00" * seq) for seq in range(1, number + 1)),
        )
        for kind in sorted(KINDS)
        for tenant in ("acme", "ümlaut \U0001f600", "*")
        for number in range(count)
    ]
    large = Entry(Record("thread", "acme", "large", bytes(PART + 10), v=7), (Blob("big", bytes(2 * PART + 3)),))
    return sorted([*made, large], key=lambda entry: entry.key)


async def fill_in(store: Store, made: list[Entry]) -> None:
    """Write entries as a program would."""
    for entry in made:
        answer = await store.insert(entry.record, op=entry.name, events=entry.events, blobs=entry.blobs)
        assert answer.won


@asynccontextmanager
async def open_stores(folder: Path, *names: str) -> AsyncIterator[list[Store]]:
    """Fresh stores of these names, open meanwhile."""
    async with AsyncExitStack() as stack:
        found = []
        for name in names:
            store = open_store((STORES.get(name) or KNOWN[name])(folder))
            await store.open()
            stack.push_async_callback(store.close)
            found.append(store)
        yield found


async def copied(source: Store, target: Store) -> Brought:
    """Bring all of a store into another."""
    return await bring(lambda: entries(source), target, quiet)


@pytest.mark.parametrize(("here", "there"), PAIRS)
async def test_a_copy_is_the_same_byte_for_byte(tmp_path: Path, here: str, there: str) -> None:
    """Records of all kinds and tenants with version, index, due, events and blobs; and one digest over each side."""
    async with open_stores(tmp_path, here, there) as (source, target):
        await fill_in(source, sample())
        made = await copied(source, target)
        assert not made.refused and not made.differs
        assert made.written == made.here.records == len(sample())
        assert made.here.document() == made.there.document()
        assert [entry async for entry in entries(target)] == sample()
        again = await copied(source, target)
        assert (again.written, again.here.sha256) == (0, made.here.sha256)
        await goes_on(target)


async def goes_on(store: Store) -> None:
    """What came from elsewhere is a record like any other: counted on, listed, due, written at its version."""
    assert await store.add_below("acme", "counter-2", 5, 10, op="count") == 7
    assert await store.add_below("acme", "counter-2", 5, 10, op="more") is None
    found = await store.list("run", "acme", {"state": "ready"})
    assert [record.id for record in found] == [record.id for record in await store.due("run", "acme")]
    last = found[-1]
    late = await store.swap(Record("run", "acme", last.id, b"late", v=1), op="late")
    assert not late.won and late.current == last
    events = [StoredEvent(last.v, b"next")]
    won = await store.swap(Record("run", "acme", last.id, b"new", v=last.v), op="next", events=events)
    assert (won.won, won.v) == (True, last.v + 1)
    assert [event.seq for event in await store.events("run", "acme", last.id)] == [1, 2, 3]
    assert await store.delete("run", "acme", last.id, won.v) and await store.load("run", "acme", last.id) is None


@pytest.mark.parametrize("name", STORES)
async def test_a_store_with_anything_else_is_refused(tmp_path: Path, name: str) -> None:
    """A record that does not come from there, or is another by one byte, one event or its version: nothing is written."""
    first = sample()[0]
    others = [
        Entry(Record("run", "acme", "mine", b"x", v=1)),
        Entry(Record(*first.key, b"other", first.record.index, first.record.due, first.record.v), first.blobs),
        Entry(
            Record(*first.key, first.record.body, first.record.index, first.record.due, 9), first.blobs, first.events
        ),
        Entry(first.record, first.blobs, (*first.events, StoredEvent(9, b"more"))),
    ]
    async with open_stores(tmp_path, "sqlite", *[name] * len(others)) as (source, *targets):
        await fill_in(source, sample())
        for other, target in zip(others, targets, strict=True):
            await fill_in(target, [other])
            made = await copied(source, target)
            assert other.name in made.refused and made.written == 0
            assert [entry.key async for entry in entries(target)] == [other.key]


@pytest.mark.parametrize("name", STORES)
async def test_a_part_with_holes_is_filled(tmp_path: Path, name: str) -> None:
    """What a stopped copy left is no prefix, since several records are written at once: all of it is kept and verified."""
    async with open_stores(tmp_path, "sqlite", name) as (source, target):
        await fill_in(source, sample())
        await fill_in(target, sample()[::3])
        made = await copied(source, target)
        assert made.written == len(sample()) - len(sample()[::3])
        assert not made.differs and made.here.sha256 == made.there.sha256


class Troubled:
    """A store that changes something of what it is given, or of what it gives: what the comparison is there to find."""

    def __init__(self, store: Store, spoil: Callable[[Entry], Entry]) -> None:
        self._store = store
        self._spoil = spoil

    async def insert(self, record: Record, *, op: str, events: object = (), blobs: object = ()) -> object:
        made = self._spoil(Entry(record, tuple(blobs), tuple(events)))  # type: ignore[arg-type]
        return await self._store.insert(made.record, op=op, events=made.events, blobs=made.blobs)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


FAULTS: dict[str, Callable[[Entry], Entry]] = {
    "a version begins anew": lambda e: Entry(
        Record(*e.key, e.record.body, e.record.index, e.record.due, 0), e.blobs, e.events
    ),
    "a due is rounded": lambda e: Entry(
        Record(*e.key, e.record.body, e.record.index, e.record.due and e.record.due // 1, e.record.v), e.blobs, e.events
    ),
    "an index is lost": lambda e: Entry(Record(*e.key, e.record.body, {}, e.record.due, e.record.v), e.blobs, e.events),
    "an event is lost": lambda e: Entry(e.record, e.blobs, e.events[:-1]),
    "a blob is lost": lambda e: Entry(e.record, e.blobs[:-1], e.events),
    "a body is another": lambda e: Entry(
        Record(*e.key, e.record.body + b" ", e.record.index, e.record.due, e.record.v), e.blobs, e.events
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_comparison_finds_what_a_store_does_wrong(tmp_path: Path, fault: str) -> None:
    """Each seeded fault is found, with the first record that it concerns."""
    async with open_stores(tmp_path, "sqlite", "sqlite") as (source, target):
        await fill_in(source, sample())
        made = await copied(source, Troubled(target, FAULTS[fault]))  # type: ignore[arg-type]
        wrong = next(
            entry.name
            for entry in sample()
            if FAULTS[fault](entry) != entry and not (entry.record.v == 1 and fault.startswith("a version"))
        )
        assert wrong in made.differs


async def test_a_write_meanwhile_is_found(tmp_path: Path) -> None:
    """Somebody writes to the source while it is copied: the two sides differ, and that is said."""
    async with open_stores(tmp_path, "sqlite", "sqlite") as (source, target):
        await fill_in(source, sample())
        last = sample()[-1].record

        def stage(what: str) -> Callable[[int], None]:
            return quiet(what)

        async def meanwhile() -> AsyncIterator[Entry]:
            async for entry in entries(source):
                yield entry
            await source.swap(Record(*sample()[-1].key, b"new", last.index, None, last.v), op="late")

        made = await bring(meanwhile, target, stage)
        assert sample()[-1].name in made.refused or sample()[-1].name in made.differs


async def test_a_lost_blob_is_named(tmp_path: Path) -> None:
    """A record that lists a blob which its store no longer has is not copied as if it had none."""

    class Forgetful(Troubled):
        async def blob(self, *key: str) -> None:
            return None

    async with open_stores(tmp_path, "sqlite") as (source,):
        await fill_in(source, sample())
        forgetful = Forgetful(source, lambda entry: entry)
        with pytest.raises(StoreError, match="has lost its blob b0"):
            _ = [entry async for entry in entries(forgetful)]  # type: ignore[arg-type]


async def test_an_export_of_a_busy_store_takes_each_record_at_one_moment(tmp_path: Path) -> None:
    """A record that changes between its row and its events is read again; the plain walk would mix the two."""

    class Busy(Troubled):
        done = False

        async def events(self, kind: str, tenant: str, id: str, **where: int) -> object:
            if not type(self).done and id == "run-2":
                type(self).done = True
                found = await self._store.load(kind, tenant, id)
                assert found is not None
                write = Record(kind, tenant, id, b"new", found.index, found.due, found.v)
                assert (await self._store.swap(write, op="x", events=[StoredEvent(3, b"new")])).won
            return await self._store.events(kind, tenant, id, **where)

    read: tuple[tuple[Callable[[Store], AsyncIterator[Entry]], bool], ...] = ((steady_entries, True), (entries, False))
    for walk, whole in read:
        Busy.done = False
        async with open_stores(tmp_path, "sqlite") as (source,):
            await fill_in(source, sample())
            busy = Busy(source, lambda entry: entry)
            found = {entry.key: entry async for entry in walk(busy)}  # type: ignore[arg-type]
            changed = next(entry for key, entry in found.items() if key[2] == "run-2" and len(entry.events) == 3)
            assert (changed.record.body == b"new") is whole
            assert len(found) == len(sample())


async def test_a_record_that_is_made_anew_while_it_is_read_is_whole(tmp_path: Path) -> None:
    """Removed and inserted again under its id and version: what is exported is the one or the other."""

    class Anew(Troubled):
        done = False

        async def events(self, kind: str, tenant: str, id: str, **where: int) -> object:
            if not self.done and id == "run-2":
                self.done = True
                found = await self._store.load(kind, tenant, id)
                assert found is not None and await self._store.delete(kind, tenant, id, found.v)
                other = Record(kind, tenant, id, b"new", found.index, found.due, found.v)
                assert (await self._store.insert(other, op="x", events=[StoredEvent(1, b"new")])).won
            return await self._store.events(kind, tenant, id, **where)

    async with open_stores(tmp_path, "sqlite") as (source,):
        await fill_in(source, sample())
        found = [entry async for entry in steady_entries(Anew(source, lambda entry: entry))]  # type: ignore[arg-type]
        [anew] = [entry for entry in found if entry.events == (StoredEvent(1, b"new"),)]
        assert (anew.record.body, anew.blobs) == (b"new", ()) and len(found) == len(sample())


@pytest.mark.parametrize("name", STORES)
async def test_what_runs_is_named(tmp_path: Path, name: str) -> None:
    """ACTIVE runs under a lease, those of which nobody can tell, living workers; all else may be copied."""
    async with open_stores(tmp_path, name) as (store,):
        now = await store.now()
        states = {
            "driven": ({"state": "active", "pending": "no"}, now + 1000),
            "left": ({"state": "active", "pending": "no"}, now - 1000),
            "unclear": ({"state": "active", "pending": "yes"}, now - 1000),
            "asks": ({"state": "active", "pending": "yes"}, now + 1000),
            "waits": ({"state": "waiting", "pending": "yes"}, now + 1000),
            "ready": ({"state": "ready", "pending": "no"}, now - 1000),
        }
        for id, (index, due) in states.items():
            await store.insert(Record("run", "acme", id, b"sealed", index, due), op=id)
        await store.insert(Record("worker", "acme", "w", b"", due=now + 1000), op="w")
        await store.insert(Record("worker", "acme", "gone", b"", due=now - 1000), op="gone")
        lines = await running(store)
        named = {line.split()[1] for line in lines}
        assert named == {"driven", "unclear", "asks", "w"} and len(lines) == 4


@pytest.mark.parametrize("name", STORES)
async def test_figures_count_what_is_stored(tmp_path: Path, name: str) -> None:
    """Records, due ones, states and bytes, by tenant and kind."""
    async with open_stores(tmp_path, name) as (store,):
        await fill_in(store, sample())
        found = {(figures.tenant, figures.kind): figures for figures in await measure(store, lambda count: None)}
        assert len(found) == 3 * len(KINDS)
        runs, threads = found["acme", "run"], found["acme", "thread"]
        assert (runs.records, runs.due, runs.events, runs.event_bytes) == (3, 3, 3, 8)
        assert (runs.blobs, runs.blob_bytes, dict(runs.states)) == (3, 300, {"ready": 3})
        assert threads.records == 4 and threads.blob_bytes == 300 + 2 * PART + 3
        assert max(runs.largest) == (207, "run-2") and len(runs.largest) == 3


async def test_a_store_that_is_walked_twice_gives_the_same(tmp_path: Path) -> None:
    """The control of the comparison: the same store beside itself is never in its own way."""
    async with open_stores(tmp_path, "sqlite") as (store,):
        await fill_in(store, sample())
        assert await in_the_way(entries(store), store) == ""
