"""Stores with one fault each, and the kit over them: `test_store_kit_controls.py` runs this file and expects failures.

Its name keeps it out of ordinary runs. Each class ``Test…`` names in ``caught_by`` the tests that must notice its fault.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from governor_agents.core.ports import Blob, Held, Record, StoredEvent, Swapped
from governor_agents.stores.memory import MemoryStore
from governor_agents.stores.sqlite import SQLiteStore
from governor_agents.testing.stores import (
    ClockedStoreConformance,
    NewStore,
    ProcessPromises,
    SharedKit,
    StoreConformance,
)


class Kit(StoreConformance, ClockedStoreConformance):
    """The kit over the memory store of the class."""

    time_limit = 5.0
    driver: ClassVar[type[MemoryStore]] = MemoryStore
    caught_by: ClassVar[Iterable[str]] = ()

    @pytest.fixture
    def new_store(self) -> NewStore:
        return lambda **options: self.driver(**options)


class TestSound(Kit):
    """The control of the controls: without a fault nothing fails."""

    time_limit = 60.0


class NoCompare(MemoryStore):
    async def swap(self, record: Record, **rest: Any) -> Swapped:
        current = await self.load(record.kind, record.tenant, record.id)
        return await super().swap(replace(record, v=current.v) if current else record, **rest)


class TestNoCompare(Kit):
    """The last write wins."""

    driver = NoCompare
    caught_by = ("test_swap_loses_at_another_version", "test_swap_raced_has_one_winner")


class CompareThenSet(MemoryStore):
    async def swap(self, record: Record, **rest: Any) -> Swapped:
        current = await self.load(record.kind, record.tenant, record.id)
        if current is None or current.v != record.v:
            return await super().swap(record, **rest)
        await asyncio.sleep(0)
        latest = await self.load(record.kind, record.tenant, record.id)
        return await super().swap(replace(record, v=latest.v) if latest else record, **rest)


class TestCompareThenSet(Kit):
    """Comparing and setting are two steps."""

    driver = CompareThenSet
    caught_by = ("test_swap_raced_has_one_winner", "test_swap_raced_loses_no_update")


class ForgetsOps(MemoryStore):
    kept = 0

    async def swap(self, record: Record, **rest: Any) -> Swapped:
        answer = await super().swap(record, **rest)
        for ops in self._opened().ops.values():
            while len(ops) > self.kept:
                ops.popleft()
        return answer


class TestForgetsOps(Kit):
    """An op whose answer was lost is not recognised."""

    driver = ForgetsOps
    caught_by = ("test_swap_repeated_by_its_op_has_won", "test_swap_repeated_too_late_has_won")


class LastOpOnly(ForgetsOps):
    kept = 1


class TestLastOpOnly(Kit):
    """Only the last op is remembered, so another writer in between makes an op unknown."""

    driver = LastOpOnly
    caught_by = ("test_swap_repeated_behind_another_writer_has_won", "test_swap_remembers_its_last_ops")


class NoTenant(MemoryStore):
    async def load(self, kind: str, tenant: str, id: str) -> Record | None:
        for record in self._opened().records.values():
            if (record.kind, record.id) == (kind, id):
                return record
        return None


class TestNoTenant(Kit):
    """The key of a record lacks its tenant."""

    driver = NoTenant
    caught_by = ("test_tenants_cannot_load_or_swap_across", "test_load_tells_strange_names_apart")


class OneTenantsBlobs(MemoryStore):
    async def blob(self, kind: str, tenant: str, id: str, digest: str) -> bytes | None:
        return next((owned[digest] for owned in self._opened().blobs.values() if digest in owned), None)


class TestOneTenantsBlobs(Kit):
    """Blobs are shared by all records: knowing a digest opens them."""

    driver = OneTenantsBlobs
    caught_by = ("test_tenants_have_their_own_events_and_blobs", "test_blob_belongs_to_its_record")


class DueById(MemoryStore):
    async def due(self, kind: str, tenant: str, **rest: Any) -> list[Record]:
        return sorted(await super().due(kind, tenant, **rest), key=lambda record: record.id)


class TestDueById(Kit):
    """What is due comes in the wrong order."""

    driver = DueById
    caught_by = ("test_due_comes_by_time_and_id",)


class DuePagesByTime(MemoryStore):
    async def due(self, kind: str, tenant: str, *, after: tuple[float, str] | None = None, **rest: Any) -> list[Record]:
        return await super().due(kind, tenant, after=after and (after[0], "\U0010ffff"), **rest)


class TestDuePagesByTime(Kit):
    """The next page leaves out records that are due at the same time as the last row."""

    driver = DuePagesByTime
    caught_by = ("test_due_continues_behind_a_row",)


class EventsOfLosers(MemoryStore):
    async def swap(self, record: Record, *, events: Sequence[StoredEvent] = (), **rest: Any) -> Swapped:
        kept = self._opened().events.setdefault((record.kind, record.tenant, record.id), {})
        answer = await super().swap(record, events=events, **rest)
        kept.update({event.seq: event.body for event in events})
        return answer


class TestEventsOfLosers(Kit):
    """A write that lost leaves its events behind."""

    driver = EventsOfLosers
    caught_by = ("test_swap_that_lost_leaves_no_event",)


class RewritesEvents(MemoryStore):
    async def swap(self, record: Record, *, events: Sequence[StoredEvent] = (), **rest: Any) -> Swapped:
        kept = self._opened().events.get((record.kind, record.tenant, record.id), {})
        for event in events:
            kept.pop(event.seq, None)
        return await super().swap(record, events=events, **rest)


class TestRewritesEvents(Kit):
    """An event that exists is written over."""

    driver = RewritesEvents
    caught_by = ("test_swap_refuses_an_event_that_exists",)


class HalfWrites(MemoryStore):
    async def swap(self, record: Record, *, events: Sequence[StoredEvent] = (), **rest: Any) -> Swapped:
        answer = await super().swap(record, **rest)
        if answer.won and answer.v == record.v + 1:
            self._write(self._opened(), replace(record, v=answer.v), rest["op"], events, ())
        return answer


class TestHalfWrites(Kit):
    """The record stands although its events were refused."""

    driver = HalfWrites
    caught_by = ("test_swap_refuses_an_event_that_exists",)


class IgnoresNotAfter(MemoryStore):
    async def swap(self, record: Record, *, not_after: float | None = None, **rest: Any) -> Swapped:
        return await super().swap(record, **rest)


class TestIgnoresNotAfter(Kit):
    """A write that comes too late wins."""

    driver = IgnoresNotAfter
    caught_by = ("test_swap_is_late_behind_not_after", "test_swap_wins_on_the_second_of_not_after")


class ClockGoesBack(MemoryStore):
    def _tick(self) -> float:
        return self._clock()


class TestClockGoesBack(Kit):
    """The store's time follows a clock that is set back."""

    driver = ClockGoesBack
    caught_by = (
        "test_now_never_follows_it_back",
        "test_now_never_goes_behind_a_write",
        "test_due_stays_due_when_the_clock_goes_back",
        "test_swap_stays_late_when_the_clock_goes_back",
    )


class DropsBlobs(MemoryStore):
    async def swap(self, record: Record, *, blobs: Sequence[Blob] = (), **rest: Any) -> Swapped:
        return await super().swap(record, **rest)


class TestDropsBlobs(Kit):
    """The content of a swap is not written."""

    driver = DropsBlobs
    caught_by = ("test_blob_is_written_with_its_record",)


class ReadThenAdd(MemoryStore):
    async def add_below(self, tenant: str, id: str, amount: int, limit: int, *, op: str) -> int | None:
        current = await self.load("counter", tenant, id)
        await asyncio.sleep(0)
        total = (int(current.body) if current else 0) + amount
        if total > limit:
            return None
        self._opened().records.pop(("counter", tenant, id), None)
        return await super().add_below(tenant, id, total, limit, op=op)


class TestReadThenAdd(Kit):
    """Counting is two steps."""

    driver = ReadThenAdd
    caught_by = ("test_add_below_raced_is_exact",)


class OpenFields(MemoryStore):
    async def list(self, kind: str, tenant: str, where: Mapping[str, str] | None = None, **rest: Any) -> list[Record]:
        found = await super().list(kind, tenant, **rest)
        return [each for each in found if all(each.index.get(name) == value for name, value in (where or {}).items())]


class TestOpenFields(Kit):
    """Anything can be asked for, and pages are cut before the condition is looked at."""

    driver = OpenFields
    caught_by = ("test_list_refuses_other_fields", "test_list_finds_by_each_field")


class KeepsEventsOfTheDead(MemoryStore):
    async def delete(self, kind: str, tenant: str, id: str, v: int) -> bool:
        events = self._opened().events.get((kind, tenant, id), {})
        gone = await super().delete(kind, tenant, id, v)
        self._opened().events[(kind, tenant, id)] = events
        return gone


class TestKeepsEventsOfTheDead(Kit):
    """The events of a deleted record stay."""

    driver = KeepsEventsOfTheDead
    caught_by = ("test_delete_removes_the_events_of_this_record_only", "test_delete_makes_room_for_a_new_record")


class KeepsBlobsOfTheDead(MemoryStore):
    async def delete(self, kind: str, tenant: str, id: str, v: int) -> bool:
        owned = self._opened().blobs.get((kind, tenant, id), {})
        gone = await super().delete(kind, tenant, id, v)
        self._opened().blobs[(kind, tenant, id)] = owned
        return gone


class TestKeepsBlobsOfTheDead(Kit):
    """The content of a deleted record stays, and would be its successor's."""

    driver = KeepsBlobsOfTheDead
    caught_by = ("test_delete_removes_the_blobs_of_this_record_only",)


class CountsOpsTwice(MemoryStore):
    async def add_below(self, tenant: str, id: str, amount: int, limit: int, *, op: str) -> int | None:
        return await super().add_below(tenant, id, amount, limit, op=f"{op}{id}{await self.now()}{amount}{object()!r}")


class TestCountsOpsTwice(Kit):
    """A counter adds again what it is asked again."""

    driver = CountsOpsTwice
    caught_by = ("test_add_below_adds_an_op_once", "test_add_below_raced_by_one_op_adds_once")


class DeniesTheSecondDelete(MemoryStore):
    async def delete(self, kind: str, tenant: str, id: str, v: int) -> bool:
        return await self.load(kind, tenant, id) is not None and await super().delete(kind, tenant, id, v)


class TestDeniesTheSecondDelete(Kit):
    """Whoever lost the answer of a delete is told that it failed."""

    driver = DeniesTheSecondDelete
    caught_by = ("test_delete_may_be_asked_twice",)


class ScansOneTenant(MemoryStore):
    async def scan(self, kind: str, **rest: Any) -> list[Held]:
        found = await super().scan(kind, **rest)
        return [held for held in found if held.record.tenant == found[0].record.tenant]


class TestScansOneTenant(Kit):
    """A copy of the store would leave tenants out."""

    driver = ScansOneTenant
    caught_by = ("test_scan_shows_every_tenant_in_order",)


class CopiesBeginAnew(MemoryStore):
    async def insert(self, record: Record, **rest: Any) -> Swapped:
        return await super().insert(replace(record, v=0), **rest)


class TestCopiesBeginAnew(Kit):
    """A copied record loses its version."""

    driver = CopiesBeginAnew
    caught_by = ("test_insert_keeps_the_version_of_a_copy",)


class TextBodies(MemoryStore):
    async def load(self, kind: str, tenant: str, id: str) -> Record | None:
        found = await super().load(kind, tenant, id)
        return found and replace(found, body=found.body.decode("utf-8", "replace").encode())


class TestTextBodies(Kit):
    """Bodies go through text."""

    driver = TextBodies
    caught_by = ("test_load_gives_the_bytes_that_were_written", "test_load_gives_large_bodies_whole")


class SleepsThroughWrites(MemoryStore):
    async def wait(self, timeout: float) -> bool:
        self._written.clear()
        return await super().wait(timeout)


class TestSleepsThroughWrites(Kit):
    """What was written between two waits wakes nobody."""

    time_limit = 1.0
    driver = SleepsThroughWrites
    caught_by = ("test_wait_wakes_for_a_write_before_it",)


class AnswersEarly(SQLiteStore):
    """Its last three swaps are answered, but not on the disk."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.held: list[tuple[Record, dict[str, Any]]] = []

    async def swap(self, record: Record, **rest: Any) -> Swapped:
        self.held.append((record, rest))
        if len(self.held) > 3:
            earliest, its_rest = self.held.pop(0)
            await super().swap(earliest, **its_rest)
        return Swapped(won=True, v=record.v + 1)


class EventsLater(SQLiteStore):
    """The events of a swap are written with the next one."""

    held: Sequence[StoredEvent] = ()

    async def swap(self, record: Record, *, events: Sequence[StoredEvent] = (), **rest: Any) -> Swapped:
        earlier, self.held = self.held, events
        return await super().swap(record, events=earlier, **rest)


class BlobsLater(SQLiteStore):
    """The blobs of a swap are written with the next one."""

    held: Sequence[Blob] = ()

    async def swap(self, record: Record, *, blobs: Sequence[Blob] = (), **rest: Any) -> Swapped:
        earlier, self.held = self.held, blobs
        return await super().swap(record, blobs=earlier, **rest)


class KilledKit(SharedKit):
    """Only the test that kills."""

    driver: ClassVar[type[SQLiteStore]] = SQLiteStore
    caught_by: ClassVar[Iterable[str]] = ("test_killed_process_leaves_whole_writes",)

    test_killed_process_leaves_whole_writes = ProcessPromises.test_killed_process_leaves_whole_writes
    _write_and_die = ProcessPromises._write_and_die
    _at_rest = ProcessPromises._at_rest

    @pytest.fixture
    def new_store(self, tmp_path: Path) -> NewStore:
        return lambda **options: SQLiteStore(f"sqlite:///{tmp_path}/store.db", **options)

    @pytest.fixture
    def opener(self) -> str:
        return f"broken_stores:{self.driver.__name__}"


class TestSoundWhenKilled(KilledKit):
    """The control of the controls: a sound store stands it."""

    caught_by = ()


class TestAnswersEarly(KilledKit):
    driver = AnswersEarly


class TestEventsLater(KilledKit):
    driver = EventsLater


class TestBlobsLater(KilledKit):
    driver = BlobsLater
