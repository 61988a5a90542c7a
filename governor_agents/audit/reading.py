"""Reading trails and checkpoints out of a store, page by page. What cannot be read is given as such, not left out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from governor_agents.audit.checkpoints import Checkpoint, from_document, to_document
from governor_agents.audit.trail import Head
from governor_agents.core.calls import freeze, sha256, thaw
from governor_agents.core.codec import check_given, decode_run, refused
from governor_agents.core.halting import ALL_TENANTS, EVERYTHING, TENANT
from governor_agents.core.ports import Record, Store, StoredEvent
from governor_agents.errors import (
    ArgumentsError,
    ConfigError,
    GovernorError,
    SealBroken,
    SnapshotError,
    StoreUnavailable,
)

CHECKPOINTS = "checkpoints"
"""The record of the kind ``audit`` whose events are the checkpoints."""

STREAM = "security:"
"""How the ids of the records begin whose events are refused requests; the day (UTC) follows."""

REMOVED = "removed:"
"""The same of those whose events are runs that retention removed."""

POLICIES = "current"
"""The record of the kind ``policy`` that says which policies are in force."""

PAGE = 500

MAX_PAGES = 100_000
"""The most pages of events that are gone through for the end of a record that cannot be read."""


DAY = 86_400.0


def day(at: float) -> str:
    """The day (UTC) of a time, as it stands in ids."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


@dataclass(frozen=True, slots=True)
class State:
    """Where the checkpoints stand. ``swept``: the minute up to which all runs with new events are in them."""

    number: int = 0
    last: str = ""
    at: float = 0.0
    swept: int = 0
    v: int = 0


async def listed(
    store: Store, kind: str, tenant: str, where: Mapping[str, str] | None = None, *, after: str = ""
) -> AsyncIterator[Record]:
    """Every record of a kind, by id."""
    while True:
        page = await store.list(kind, tenant, where, limit=PAGE, after=after)
        for record in page:
            yield record
        if len(page) < PAGE:
            return
        after = page[-1].id


def tenant_of(tenant: str, kind: str, id: str) -> str:
    """Whose record a trail of this tenant has: halts of everything are nobody's own."""
    return ALL_TENANTS if (kind, id) == ("halt", EVERYTHING) else tenant


async def halts(store: Store, tenant: str) -> AsyncIterator[Record]:
    """The records of what is halted: for the tenant, and for all of them; one that is refused, as such."""
    for id in (EVERYTHING, TENANT):
        whose = tenant_of(tenant, "halt", id)
        try:
            record = await store.load("halt", whose, id)
        except SealBroken as error:
            record = Record("halt", whose, id, refused(str(error)))
        if record is not None:
            yield record


async def policies(store: Store, tenant: str) -> AsyncIterator[Record]:
    """The record of the published policies, if there is one; one that is refused, as such."""
    try:
        record = await store.load("policy", tenant, POLICIES)
    except SealBroken as error:
        record = Record("policy", tenant, POLICIES, refused(str(error)))
    if record is not None:
        yield record


async def streams(store: Store, tenant: str) -> AsyncIterator[Record]:
    """The records of refused requests, by day."""
    async for record in _days(store, tenant, STREAM):
        yield record


async def removal_days(store: Store, tenant: str, *, since: str = "") -> AsyncIterator[Record]:
    """The records of removed runs, by day; ``since`` a day."""
    async for record in _days(store, tenant, REMOVED, since):
        yield record


async def _days(store: Store, tenant: str, begin: str, since: str = "") -> AsyncIterator[Record]:
    """Records of the kind ``audit`` that stand for days."""
    async for record in listed(store, "audit", tenant, after=begin + since):
        if not record.id.startswith(begin):
            return
        yield record


def head_of(record: Record) -> Head:
    """Where a record says that its chain stands. Raises `SnapshotError` and `StoreTooNew` when it cannot be read."""
    check_given(record.body)
    if record.kind == "run":
        run = decode_run(record.body)
        if (run.tenant, run.id) != (record.tenant, record.id):
            raise SnapshotError(f"the record holds run {run.id} of tenant {run.tenant}")
        return Head("run", run.id, run.seq, run.chain, record.v)
    try:
        said = thaw(record.body)
        return Head(record.kind, record.id, int(said["seq"]), str(said["chain"]), record.v)
    except (ArgumentsError, KeyError, TypeError, ValueError):
        raise SnapshotError(f"the record {record.id} cannot be read") from None


async def events_of(store: Store, kind: str, tenant: str, id: str, after: int = 0) -> list[StoredEvent]:
    """All events of a record behind this one."""
    found: list[StoredEvent] = []
    while True:
        page = await store.events(kind, tenant, id, after=found[-1].seq if found else after, limit=PAGE)
        found += page
        if len(page) < PAGE:
            return found


async def end_of(store: Store, kind: str, tenant: str, id: str) -> tuple[int, str]:
    """The last seq and hash of the events of a record that cannot be read. Raises `StoreError`."""
    seq, head, limit = 0, "", PAGE
    for _ in range(MAX_PAGES):
        try:
            page = await store.events(kind, tenant, id, after=seq, limit=limit)
        except SealBroken:  # one by one, then; of an event that is refused nothing is known but that it is there
            seq, head, limit = (seq, head, 1) if limit > 1 else (seq + 1, "", 1)
            continue
        if not page:
            return seq, head
        seq, head = page[-1].seq, sha256(page[-1].body)
    raise StoreUnavailable(f"the events of {kind} {id} do not end; look at them with audit verify")


async def state_of(store: Store, tenant: str) -> State:
    """Where the checkpoints stand. Raises `SnapshotError` when that cannot be read."""
    record = await store.load("audit", tenant, CHECKPOINTS)
    if record is None:
        return State()
    try:
        said = thaw(record.body)
        return State(int(said["number"]), str(said["last"]), float(said["at"]), int(said["swept"]), record.v)
    except (ArgumentsError, KeyError, TypeError, ValueError):
        raise SnapshotError("the record of the checkpoints cannot be read") from None


async def checkpoints_of(store: Store, tenant: str, *, after: int = 0) -> AsyncIterator[Checkpoint | GovernorError]:
    """The checkpoints in the store behind this number, without their pages; what is none comes as its error.

    Raises `SnapshotError` when the store itself refuses to give them.
    """
    while page := await store.events("audit", tenant, CHECKPOINTS, after=after, limit=100):
        for event in page:
            try:
                yield from_document(event.body, f"checkpoint {event.seq}", ())
            except ConfigError as error:
                yield error
        after = page[-1].seq


async def filled(store: Store, tenant: str, found: Checkpoint) -> Checkpoint:
    """A checkpoint with those of its pages that are there. Raises `SnapshotError` and `ConfigError`."""
    held = [await store.blob("audit", tenant, CHECKPOINTS, id) for id in found.said["pages"]]
    document = freeze(to_document(found, pages=False))
    return from_document(document, f"checkpoint {found.number}", tuple(data for data in held if data is not None))
