"""What is stopped: the halt records of a store, one per tenant and one for all tenants.

A scope is ``tool:NAME``, ``agent:NAME``, ``tenant``, or ``everything`` (all tenants of the store). A halt stands until
it is lifted; it stops dispatch, not decisions. What it means for runs stands in `governor_agents.core.halting`.

It is read from the store right before each intent and each claim, and is not atomic with them: a tool whose intent was
written before the halt is not cut off. A record that cannot be read halts everything it could have named, until
``tenant`` (or ``everything``) is lifted; the next change writes it anew, behind its events, and its event says so.

Each change is a compare-and-set, with its audit event in the same write.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pydantic import TypeAdapter, ValidationError

from governor_agents.audit import chain
from governor_agents.audit.reading import end_of
from governor_agents.core import halting
from governor_agents.core.calls import CLOSED
from governor_agents.core.codec import was_refused
from governor_agents.core.halting import ALL_TENANTS, EVERYTHING, TENANT
from governor_agents.core.ports import Record, StoredEvent
from governor_agents.core.records import Event, Run, RunState, evolve
from governor_agents.core.settling import HALT
from governor_agents.crash import crash_point
from governor_agents.errors import ConfigError, NotFound, SealBroken, StoreUnavailable
from governor_agents.runs import Runs, sent

UNREADABLE = "the record of what is halted cannot be read"

FRESH = 1.0
"""Seconds for which a copy will do for calls that change nothing."""

MAX_TRIES = 100


@dataclass(frozen=True, slots=True)
class Halt:
    """One thing that is stopped: by whom, when (epoch seconds by the store's clock), why."""

    __pydantic_config__ = CLOSED

    scope: str
    by: str
    at: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HaltRecord:
    """The halts of one tenant, or those for all; ``seq`` and ``chain`` are the head of its audit events."""

    __pydantic_config__ = CLOSED

    tenant: str
    id: str
    halts: tuple[Halt, ...] = ()
    seq: int = 0
    chain: str = ""
    unreadable: bool = False

    def scopes(self) -> frozenset[str]:
        """What it stops."""
        return frozenset({self.id}) if self.unreadable else frozenset(halt.scope for halt in self.halts)


_RECORD: TypeAdapter[HaltRecord] = TypeAdapter(HaltRecord)


def check_scope(scope: str) -> str:
    """The scope. Raises `ConfigError` for what is none."""
    kind, colon, name = scope.partition(":")
    if scope in (TENANT, EVERYTHING) or (kind in ("tool", "agent") and colon and name.strip() and name.isprintable()):
        return scope
    raise ConfigError(f"{scope!r} is no scope of a halt; write tool:NAME, agent:NAME, tenant or everything")


class Halts:
    """The halts that hold for one tenant, and its runs that they block. Its coroutines run on the governor loop."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._store = runs.store
        self._tenant = runs.tenant
        self._copy: tuple[float, frozenset[str]] = (float("-inf"), frozenset())

    async def scopes(self) -> frozenset[str]:
        """What is stopped now, read from the store. Raises `StoreError`."""
        began = time.monotonic()
        found = frozenset[str]()
        for record in await self._both():
            found |= record.scopes()
        self._copy = (began, found)
        return found

    def recent(self) -> frozenset[str] | None:
        """What was stopped at most a second ago, None when nobody has looked since. Usable from any thread."""
        at, found = self._copy
        return found if time.monotonic() - at <= FRESH else None

    async def list(self) -> tuple[Halt, ...]:
        """Every halt, the oldest first; one without a time for a record that cannot be read."""
        found: list[Halt] = []
        for record in await self._both():
            found += [Halt(record.id, "", 0.0, UNREADABLE)] if record.unreadable else record.halts
        return tuple(sorted(found, key=lambda halt: halt.at))

    async def halt(self, scope: str, *, by: str, reason: str = "") -> Halt:
        """Stop a scope. It stands already: nothing changes. Raises `ConfigError`, `StoreError`."""

        def step(record: HaltRecord, now: float) -> tuple[HaltRecord, Event | None]:
            if scope in record.scopes():
                return record, None
            made = Halt(scope, by, now, reason)
            event = Event("halt.set", by=by, detail=(("scope", scope), ("reason", reason), *_anew(record)))
            return evolve(record, halts=(*record.halts, made)), event

        record = await self._change(check_scope(scope), step)
        stands = next((halt for halt in record.halts if halt.scope == scope), None)
        return stands or Halt(scope, "", 0.0, UNREADABLE)

    async def lift(self, scope: str, *, by: str, reason: str = "") -> bool:
        """Let a scope go again; False when it was not stopped. Raises `ConfigError`, `StoreError`."""
        lifted = False

        def step(record: HaltRecord, now: float) -> tuple[HaltRecord, Event | None]:
            nonlocal lifted
            lifted = scope in record.scopes()
            if not lifted:
                return record, None
            event = Event("halt.lifted", by=by, detail=(("scope", scope), ("reason", reason), *_anew(record)))
            left = tuple(halt for halt in record.halts if halt.scope != scope)
            return evolve(record, halts=left, unreadable=False), event

        await self._change(check_scope(scope), step)
        return lifted

    # -- the runs ---------------------------------------------------------------------------------------------------

    async def free(self, id: str) -> Run:
        """Let a run out when nothing stops it any more; the run as it then stands. Raises `NotFound`, `StoreError`."""
        scopes = await self.scopes()
        change = await self._runs.change(id, lambda run, now: halting.lift(run, now, scopes), point="run.halt_looked")
        return change.run

    async def free_all(self) -> int:
        """The same for every run of the tenant that a halt blocks; how many were let out."""
        freed = 0
        async for run in self._runs.every({"state": RunState.BLOCKED.value}):
            if run.blocked == HALT:
                with contextlib.suppress(NotFound):
                    freed += (await self.free(run.id)).blocked != HALT
        return freed

    # -- the records ------------------------------------------------------------------------------------------------

    async def _both(self) -> tuple[HaltRecord, HaltRecord]:
        return await self._read(TENANT), await self._read(EVERYTHING)

    async def _read(self, id: str) -> HaltRecord:
        """The record; what cannot be read comes as unreadable, never as empty."""
        try:
            return (await self._load(id))[1]
        except SealBroken:
            return HaltRecord(self._whose(id), id, unreadable=True)

    def _whose(self, id: str) -> str:
        return ALL_TENANTS if id == EVERYTHING else self._tenant

    async def _load(self, id: str) -> tuple[int, HaltRecord]:
        """Version and record. Raises `StoreError`, `SealBroken` when the seal of the record is broken."""
        tenant = self._whose(id)
        record = await self._store.load("halt", tenant, id)
        if record is None:
            return 0, HaltRecord(tenant, id)
        try:
            found = _RECORD.validate_json(record.body)
        except ValidationError:
            found = HaltRecord("", "")
        return record.v, found if (found.tenant, found.id) == (tenant, id) else await self._lost(tenant, id)

    async def _lost(self, tenant: str, id: str) -> HaltRecord:
        """A record that cannot be read, with the head of its events, so that they go on where they ended."""
        seq, head = await end_of(self._store, "halt", tenant, id)
        return HaltRecord(tenant, id, (), seq, head, unreadable=True)

    async def _load_to_change(self, id: str) -> tuple[int, HaltRecord]:
        """The same, also when the seal of the record is broken: its version stands in clear. Raises `StoreError`."""
        try:
            return await self._load(id)
        except SealBroken:
            tenant = self._whose(id)
            found = next((record for record in await self._store.list("halt", tenant) if record.id == id), None)
            if found is None or not was_refused(found.body):  # somebody else has just written it anew
                return await self._load(id)
            return found.v, await self._lost(tenant, id)

    async def _change(
        self, scope: str, step: Callable[[HaltRecord, float], tuple[HaltRecord, Event | None]]
    ) -> HaltRecord:
        op = secrets.token_hex(8)
        for _ in range(MAX_TRIES):
            v, stands = await self._load_to_change(EVERYTHING if scope == EVERYTHING else TENANT)
            now = await self._store.now()
            changed, event = step(stands, now)
            if event is None:
                return stands
            written, events = _chained(changed, event, now, self._runs.audit_key)
            record = Record("halt", written.tenant, written.id, _RECORD.dump_json(written), v=v)
            crash_point(f"{event.what}:before")
            write = partial(self._store.swap if v else self._store.insert, record, op=op, events=events)
            if (await sent(write)).won:
                crash_point(f"{event.what}:after")
                self._copy = (float("-inf"), frozenset())
                return written
        raise StoreUnavailable(f"the record of halts changed {MAX_TRIES} times while one write was tried; try again")


def _anew(record: HaltRecord) -> tuple[tuple[str, str], ...]:
    """What an event says of a change to a record that could not be read."""
    return (("anew", UNREADABLE),) if record.unreadable else ()


def _chained(
    record: HaltRecord, event: Event, now: float, key: bytes | None
) -> tuple[HaltRecord, tuple[StoredEvent, ...]]:
    """The record with its chain moved on, and the event as bytes."""
    line = {"what": event.what, "at": now, "halt": record.id, "by": event.by, **dict(event.detail)}
    seq, head, events = chain.extend([line], record.seq, record.chain, key)
    return evolve(record, seq=seq, chain=head), events
