"""The audit log of one tenant: its trails, its checkpoints, what was refused, and whether all of it still holds."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from governor_agents.audit import chain, verify
from governor_agents.audit.checkpoints import Checkpoint, Series
from governor_agents.audit.gather import Gatherer
from governor_agents.audit.reading import (
    DAY,
    STREAM,
    State,
    checkpoints_of,
    events_of,
    filled,
    halts,
    head_of,
    listed,
    policies,
    removal_days,
    state_of,
    streams,
    tenant_of,
)
from governor_agents.audit.removals import Account, Removals
from governor_agents.audit.security import KEPT_DAYS, Refusals, Spawn, stream_of
from governor_agents.audit.trail import NAMED, Finding, Pin, Trail
from governor_agents.core.codec import check_given
from governor_agents.core.ports import Record, Store, StoredEvent
from governor_agents.core.urls import shown
from governor_agents.errors import ConfigError, GovernorError, NotFound, SnapshotError, StoreTooNew
from governor_agents.keys import Keys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Skipped = Callable[[str], None]
Names = dict[tuple[str, str], list[Pin]]

STEADY = 20
"""How often a trail that grows while it is looked at is read again."""


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint from outside of the store, and the name of the file it lay in."""

    name: str
    checkpoint: Checkpoint


@dataclass(slots=True)
class Report:
    """What a verification looked at, and what it found. ``unkeyed`` counts trails whose last event has no MAC,
    ``removed`` the runs that checkpoints know and retention has removed since.
    """

    findings: list[Finding] = field(default_factory=list)
    trails: int = 0
    events: int = 0
    checkpoints: int = 0
    unkeyed: int = 0
    removed: int = 0


class AuditLog:
    """The chained events of everything, in one store, for one tenant. Its coroutines run on the governor loop."""

    def __init__(self, store: Store, tenant: str, keys: Keys | None, spawn: Spawn) -> None:
        self._store = store
        self._tenant = tenant
        self._key = None if keys is None else keys.audit
        self._public = () if keys is None else (keys.signing.public_key(),)
        self.checkpoints = Gatherer(store, tenant, keys)
        self.refusals = Refusals(store, tenant, self._key, spawn)
        self.removals = Removals(store, tenant, self._key)
        self._account = Account(self._key)

    # -- reading ----------------------------------------------------------------------------------------------------

    async def trails(
        self, run: str = "", *, security: bool = False, skipped: Skipped | None = None
    ) -> AsyncIterator[tuple[Record, list[StoredEvent]]]:
        """Every trail with its record: of runs, halts, policies and removals, of one ``run``, or of what was refused.

        ``skipped`` hears of those that cannot be read; without it they raise `SnapshotError`. Raises `NotFound`.
        """
        if run:
            record = await self._store.load("run", self._tenant, run)
            if record is None:
                raise NotFound(f"no run {run} (in tenant {self._tenant}, store {shown(self._store.url)})")
            yield record, await events_of(self._store, "run", self._tenant, run)
            return
        runs = listed(self._store, "run", self._tenant)
        sources = (runs, *(read(self._store, self._tenant) for read in (halts, policies, removal_days)))
        for records in (streams(self._store, self._tenant),) if security else sources:
            async for record in records:
                try:
                    if record.kind == "audit":  # a day whose record is refused is not given
                        check_given(record.body)
                    events = await events_of(self._store, record.kind, record.tenant, record.id)
                except SnapshotError as error:
                    if skipped is None:
                        raise
                    skipped(str(error))
                    continue
                yield record, events

    async def newest(
        self,
        run: str = "",
        *,
        security: bool = False,
        since: float = float("-inf"),
        until: float = float("inf"),
        what: str = "",
        limit: int = 100,
        skipped: Skipped | None = None,
    ) -> list[dict[str, Any]]:
        """The newest ``limit`` events of these `trails` between two times whose ``what`` begins so; oldest first."""
        kept: list[tuple[float, str, str, int, dict[str, Any]]] = []
        async for record, events in self.trails(run, security=security, skipped=skipped):
            for event in events:
                none = {NAMED[record.kind]: record.id, "seq": event.seq, "what": "(not readable)"}
                line = chain.parse(event.body) or none
                said = line.get("at")
                at = said if isinstance(said, float) else 0.0
                if not since <= at <= until or not str(line.get("what", "")).startswith(what):
                    continue
                heapq.heappush(kept, (at, record.kind, record.id, event.seq, {**line, "at": at}))
                if len(kept) > limit:
                    heapq.heappop(kept)
        return [line for *_, line in sorted(kept, key=lambda row: row[:4])]

    # -- verifying --------------------------------------------------------------------------------------------------

    async def verify(
        self,
        run: str = "",
        *,
        published: Sequence[Published] = (),
        public: Sequence[Ed25519PublicKey] = (),
        seen: Callable[[int], None] = lambda trails: None,
    ) -> Report:
        """Check all trails, or one ``run``, against records and checkpoints, those ``published`` outside too.

        ``public`` are the keys that may have signed; without them the one of this governor. ``seen`` hears of every
        trail that was looked at. Raises `NotFound` for a run that nothing here knows of, `ConfigError`
        when there are checkpoints and no key to check them with.
        """
        report = Report()
        pins = await self._pins(report, published, tuple(public) or self._public)
        if run:
            record = await self._store.load("run", self._tenant, run)
            if record is None and ("run", run) not in pins:
                if await self._was_removed(run, (), ()):
                    report.removed = 1
                    return report
                raise NotFound(f"no run {run} (in tenant {self._tenant}, store {shown(self._store.url)})")
            await self._look(report, "run", run, pins)
            return report
        runs = listed(self._store, "run", self._tenant)
        for records in (runs, *(read(self._store, self._tenant) for read in (halts, policies, streams, removal_days))):
            async for record in records:
                await self._look(report, record.kind, record.id, pins, record)
                seen(report.trails)
        oldest = stream_of(await self._store.now() - KEPT_DAYS * DAY)
        for kind, id in sorted(pins):  # what is left has no record
            if kind != "audit" or not id.startswith(STREAM) or id >= oldest:
                await self._look(report, kind, id, pins)
        return report

    async def _pins(self, report: Report, published: Sequence[Published], public: Sequence[Ed25519PublicKey]) -> Names:
        """What all sound checkpoints say; whatever is wrong with the others goes into the report."""
        series = await self._series(report, public)
        if (series.number or published) and not public:
            raise ConfigError("there are checkpoints, and no key to check them with: set GOVERNOR_KEYS or --public-key")
        pins = series.pins
        for each in published:
            outside = Series(public, self._tenant, f"{each.name}: ")
            if outside.hear(each.checkpoint):
                report.checkpoints += 1
                series.compare(each.checkpoint, each.name)
            for name, more in outside.pins.items():
                pins.setdefault(name, []).extend(more)
            report.findings += outside.findings
        report.findings += series.findings
        return pins

    async def _series(self, report: Report, public: Sequence[Ed25519PublicKey]) -> Series:
        """The checkpoints in the store, those too that are made while they are read."""
        series, state = Series(public, self._tenant), State()
        for _ in range(STEADY):
            try:
                async for found in checkpoints_of(self._store, self._tenant, after=series.number):
                    await self._add(series, found)
                    report.checkpoints += 1
                state = await state_of(self._store, self._tenant)
            except SnapshotError as error:
                series.unreadable(str(error))
                return series
            if state.number <= series.number:
                break
        series.end(state.number, state.last)
        return series

    async def _add(self, series: Series, found: Checkpoint | GovernorError) -> None:
        try:
            if isinstance(found, GovernorError):
                raise found
            series.add(await filled(self._store, self._tenant, found))
        except (SnapshotError, ConfigError) as error:
            series.unreadable(str(error))

    async def _look(self, report: Report, kind: str, id: str, pins: Names, given: Record | None = None) -> None:
        """One trail, whose record is ``given`` when it was just listed; read again while it grows under our eyes."""
        said = pins.pop((kind, id), [])
        for _ in range(STEADY):
            v, trail, findings = await self._trail(kind, id, said, given)
            if not findings or await self._stands_at(kind, id, v):
                break
            given = None
        if findings and await self._was_removed(id, findings, said):
            report.removed += 1
            return
        report.findings += findings
        report.trails += 1
        report.events += len(trail.events)
        last = chain.parse(trail.events[-1].body) if trail.events else None
        report.unkeyed += last is not None and "mac" not in last

    async def _was_removed(self, id: str, findings: Sequence[Finding], pins: Sequence[Pin]) -> bool:
        """True when the account of removals says of a run that is gone where it went."""
        if any(finding.code != "gone" for finding in findings):
            return False
        if not self._account.explains(id, findings, pins):  # it may have gone since the account was read
            await self.removals.read(self._account)
        return self._account.explains(id, findings, pins)

    async def _trail(
        self, kind: str, id: str, pins: Sequence[Pin], given: Record | None
    ) -> tuple[int, Trail, list[Finding]]:
        """A trail as it is found, with the version of its record, and what is wrong with it."""
        unreadable: list[Finding] = []
        record, events, v = None, [], 0
        try:
            found = given or await self._store.load(kind, tenant_of(self._tenant, kind, id), id)
            if found is not None:
                v, record = found.v, head_of(found)
        except (SnapshotError, StoreTooNew) as error:
            unreadable.append(Finding("unreadable", kind, id, 0, f"its record cannot be read: {error}"))
        try:
            events = await events_of(self._store, kind, tenant_of(self._tenant, kind, id), id)
        except SnapshotError as error:
            unreadable.append(Finding("unreadable", kind, id, 0, f"its events cannot be read: {error}"))
        trail = Trail(kind, id, record, events, pins)
        return v, trail, unreadable or verify.check(trail, self._key)

    async def _stands_at(self, kind: str, id: str, v: int) -> bool:
        """True when the record has this version still, or cannot be read at all."""
        try:
            found = await self._store.load(kind, tenant_of(self._tenant, kind, id), id)
        except SnapshotError:
            return True
        return v == (0 if found is None else found.v)
