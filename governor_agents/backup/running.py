"""Does anything run on a store? Read from what stands in clear beside each record, so that no keys are needed."""

from __future__ import annotations

from governor_agents.backup.entries import PAGE
from governor_agents.core.ports import Record, Store
from governor_agents.core.records import RunState

LEFT_OPEN = "let a worker look at it (worker --once), or cancel it"


async def running(store: Store) -> list[str]:
    """One line for each run that somebody drives, or may drive, and each worker that lives; by the store's clock.

    The ``due`` of a run that is ACTIVE is the end of its lease, or an earlier deadline of a call that waits for people.
    So one that is over says that the lease is over only where nothing waits.
    """
    now = await store.now()
    lines = []
    for kind, says in (("run", _of_run), ("worker", _of_worker)):
        after: tuple[str, str] | None = None
        while page := await store.scan(kind, limit=PAGE, after=after):
            lines += [line for held in page if (line := says(held.record, now))]
            after = page[-1].record.tenant, page[-1].record.id
    return lines


def _of_run(record: Record, now: float) -> str:
    if record.index.get("state") != RunState.ACTIVE.value:
        return ""
    who = f"run {record.id} of tenant {record.tenant}"
    if record.due is not None and record.due <= now:
        waits = record.index.get("pending") == "yes"
        return f"{who} may still be driven, and a deadline of it is over: {LEFT_OPEN}" if waits else ""
    return f"{who} is being driven: stop its worker, and wait until the lease is over"


def _of_worker(record: Record, now: float) -> str:
    alive = record.due is None or record.due > now
    return f"worker {record.id} of tenant {record.tenant} is alive: stop it first" if alive else ""
