"""The quarantine of a restored store, tenant by tenant: each run by one compare-and-set, as often as it is asked.

What it makes of a run stands in `governor_agents.core.quarantine`. A record (kind ``halt``, id ``quarantine:EPOCH``)
says when the quarantine began, since runs that began later are none of the old copy, and that it is done: from then on
the same epoch does nothing. Stopped half way it goes on with what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from functools import partial

from governor_agents.backup.entries import PAGE
from governor_agents.backup.files import Seen
from governor_agents.core.calls import freeze, thaw
from governor_agents.core.codec import decode_run
from governor_agents.core.ports import Record, Store
from governor_agents.core.quarantine import quarantine
from governor_agents.core.records import CallState, Change, Run, RunState
from governor_agents.core.settling import RESTORED
from governor_agents.crash import crash_point
from governor_agents.errors import ArgumentsError, ConfigError, NotFound, SnapshotError, StoreTooNew, StoreUnavailable
from governor_agents.nonces import nonce
from governor_agents.runs import Runs, sent

AT_ONCE = 16
_LAST = "\U0010ffff" * 8
"""Sorts behind the ids of a tenant, so that the next tenant is found without reading them."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What stands of a quarantine in a tenant: when it began, who began it, and whether it is done."""

    epoch: str
    at: float
    by: str
    done: bool = False
    v: int = 0


@dataclass(slots=True)
class Swept:
    """What a quarantine did to a tenant.

    ``runs`` went through it now; of their calls ``asked`` are asked anew and ``doubts`` need an operator's word,
    ``held`` runs need one before they go on. ``unreadable`` says of each run that could not be read why. ``earlier`` is
    the mark when it had been done before.
    """

    runs: int = 0
    asked: int = 0
    doubts: int = 0
    held: int = 0
    unreadable: list[str] = field(default_factory=list)
    earlier: Mark | None = None


async def tenants(store: Store) -> AsyncIterator[str]:
    """The tenants that have runs."""
    after: tuple[str, str] | None = None
    last = ""
    while page := await store.scan("run", limit=1, after=after):
        record = page[0].record
        if record.tenant != last:
            yield record.tenant
        last = record.tenant
        after = (last, max(record.id, _LAST))


async def done_before(store: Store, tenant: str, epoch: str) -> Mark | None:
    """The mark of a quarantine that is done in a tenant, else None. Raises `SnapshotError`."""
    mark = await _load(store, tenant, epoch)
    return mark if mark is not None and mark.done else None


async def sweep(runs: Runs, epoch: str, *, by: str, seen: Seen) -> Swept:
    """Quarantine the runs of a tenant. Nothing of it may be running: the caller has halted it.

    Raises `StoreError`, `SnapshotError` when the mark of this epoch cannot be read.
    """
    mark = await _begin(runs, epoch, by)
    swept = Swept()
    if mark.done:
        swept.earlier = mark
        return swept
    looked, after = 0, ""
    while page := await runs.store.list("run", runs.tenant, limit=PAGE, after=after):
        after = page[-1].id
        todo = [record.id for record in page if _concerns(record, mark, swept)]
        for begin in range(0, len(todo), AT_ONCE):
            await asyncio.gather(*(_one(runs, id, mark, by, swept) for id in todo[begin : begin + AT_ONCE]))
        looked += len(page)
        seen(looked)
    if not swept.unreadable:
        await _finish(runs.store, runs.tenant, mark)
    return swept


def _concerns(record: Record, mark: Mark, swept: Swept) -> bool:
    try:
        return _is_old(decode_run(record.body), mark)
    except (SnapshotError, StoreTooNew) as error:
        swept.unreadable.append(f"run {record.id}: {error}")
        return False


def _is_old(run: Run, mark: Mark) -> bool:
    return not run.state.ended and run.created <= mark.at and run.epoch != mark.epoch


async def _one(runs: Runs, id: str, mark: Mark, by: str, swept: Swept) -> None:
    stamp = nonce()

    def step(run: Run, now: float) -> Change:
        if not _is_old(run, mark):
            return Change(run)
        return quarantine(run, now, epoch=mark.epoch, by=by, stamp=stamp)

    try:
        change = await runs.change(id, step)
    except NotFound:  # removed meanwhile
        return
    if change.events:
        swept.runs += 1
        states = [dict(event.detail).get("state") for event in change.events if event.what == "call.quarantined"]
        swept.asked += states.count(CallState.PENDING.value)
        swept.doubts += states.count(CallState.UNKNOWN.value)
        swept.held += (change.run.state, change.run.blocked) == (RunState.BLOCKED, RESTORED)


# -- the mark ---------------------------------------------------------------------------------------------------------


def check_epoch(epoch: str) -> str:
    """The name. Raises `ConfigError` for what cannot be one."""
    if not epoch.strip() or not epoch.isprintable() or len(epoch) > 200:
        raise ConfigError("an epoch has a name of at most 200 printable characters, such as restored-2026-11-30")
    return epoch


async def _load(store: Store, tenant: str, epoch: str) -> Mark | None:
    record = await store.load("halt", tenant, _id(epoch))
    if record is None:
        return None
    try:
        said = thaw(record.body)
        return Mark(epoch, float(said["at"]), str(said["by"]), said["done"] is True, record.v)
    except (ArgumentsError, KeyError, TypeError, ValueError):
        raise SnapshotError(f"the record of the quarantine {epoch} cannot be read; name another epoch") from None


async def _begin(runs: Runs, epoch: str, by: str) -> Mark:
    store, tenant = runs.store, runs.tenant
    mark = await _load(store, tenant, epoch)
    if mark is None:
        # The clock that the copy was written by may have been ahead of this store's.
        fresh = Mark(epoch, max(await store.now(), await _newest(runs)), by)
        await sent(partial(store.insert, _record(tenant, fresh), op=secrets.token_hex(8)))
        crash_point("quarantine.begun")
        mark = await _load(store, tenant, epoch)
    if mark is None:
        raise StoreUnavailable(f"the record of the quarantine {epoch} is gone again; try again")
    return mark


async def _newest(runs: Runs) -> float:
    """When the newest run of the copy was made, by whatever clock that was."""
    newest, after = 0.0, ""
    while page := await runs.store.list("run", runs.tenant, limit=PAGE, after=after):
        after = page[-1].id
        for record in page:
            with contextlib.suppress(SnapshotError, StoreTooNew):
                newest = max(newest, decode_run(record.body).created)
    return newest


async def _finish(store: Store, tenant: str, mark: Mark) -> None:
    done = _record(tenant, replace(mark, done=True))
    await sent(partial(store.swap, done, op=secrets.token_hex(8)))  # lost: somebody else has finished it too


def _record(tenant: str, mark: Mark) -> Record:
    body = freeze({"epoch": mark.epoch, "at": mark.at, "by": mark.by, "done": mark.done})
    return Record("halt", tenant, _id(mark.epoch), body, v=mark.v)


def _id(epoch: str) -> str:
    return f"quarantine:{epoch}"
