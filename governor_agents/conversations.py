"""One conversation, one run at a time: a pointer per conversation, moved by compare-and-set.

A new run is written first and takes the pointer before anything of it is driven; who loses the pointer ends its run
again, so two messages that come at the same moment never drive one conversation twice.

The pointer also counts the runs that are named after their conversation (``THREAD/N``), so that no id is given twice,
also when the runs that had them are gone: an id stands in links, in approvals and in the audit trail.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import partial

from governor_agents.core.ports import Record
from governor_agents.core.records import Run, RunState
from governor_agents.crash import crash_point
from governor_agents.errors import IllegalTransition, SnapshotError
from governor_agents.runs import Runs, sent

_PREFIX = "conversation:"


class Conversations:
    """The pointers of one tenant. Its coroutines run on the governor loop."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def look(self, conversation: str) -> Record:
        """The pointer as it stands (version 0 when there is none). Raises `IllegalTransition` while it is driven."""
        record = await self._pointer(conversation)
        run = await self._runs.find(_run(record)) if record.v else None
        if run is not None and run.state is RunState.ACTIVE:
            raise IllegalTransition(f"conversation {conversation} is being driven by run {run.id}; wait for it")
        return record

    async def _pointer(self, conversation: str) -> Record:
        tenant, id = self._runs.tenant, _id(conversation)
        return await self._runs.store.load("thread", tenant, id) or Record("thread", tenant, id, b"")

    async def take(self, seen: Record, run: Run) -> None:
        """Point the conversation to this run. Raises `IllegalTransition` when another message was faster."""
        fresh = Record(seen.kind, seen.tenant, seen.id, _body(run.id, max(count(seen), _number(run))), v=seen.v)
        store, op = self._runs.store, secrets.token_hex(8)
        crash_point("conversation:before")
        answer = await sent(partial(store.swap if seen.v else store.insert, fresh, op=op))
        if not answer.won:
            raise IllegalTransition(f"another message came to conversation {run.conversation} at the same moment")
        crash_point("conversation:after")

    async def unfinished(self, conversation: str) -> list[Run]:
        """Every run of the conversation that has not ended."""

        async def those(state: RunState) -> list[Run]:
            where = {"conversation": conversation, "state": state.value}
            return [run async for run in self._runs.every(where)]

        found = await asyncio.gather(*(those(state) for state in RunState if not state.ended))
        return [run for runs in found for run in runs]

    async def forget(self, run: Run) -> None:
        """Remove what is kept of a run's conversation beside runs, when no other run of it is left. Repeated safely.

        That is what its framework keeps in this store, and the pointer, unless it counts: then it stays. What is
        removed is listed before it is asked whether there are others, so nothing of a run that begins meanwhile goes.
        The oldest goes first, so whoever reads on finds the newest state whole, or none.
        """
        rows = await self._rows(run.conversation or run.id)
        if run.conversation and not await self._leave(run):
            return
        for id, v in reversed(rows):
            await self._runs.store.delete("thread", self._runs.tenant, id, v)
            crash_point("conversation:removed")

    async def _rows(self, thread: str) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        store, where, after = self._runs.store, {"conversation": thread}, ""
        while page := await store.list("thread", self._runs.tenant, where, after=after):
            found += [(record.id, record.v) for record in page]
            after = page[-1].id
        return found

    async def _leave(self, run: Run) -> bool:
        """Let go of the conversation of a run that is to be removed; False when others of it are left."""
        store, tenant = self._runs.store, self._runs.tenant
        pointer = await self._pointer(run.conversation)
        if count(pointer) < _number(run):  # it died before it took the pointer, or the pointer did not count yet
            body = _body(_run(pointer) if pointer.v else run.id, _number(run))
            counting = Record(pointer.kind, tenant, pointer.id, body, v=pointer.v)
            await sent(partial(store.swap if pointer.v else store.insert, counting, op=secrets.token_hex(8)))
            return await self._leave(run)
        others = await store.list("run", tenant, {"conversation": run.conversation}, limit=2)
        if any(other.id != run.id for other in others):
            return False
        if pointer.v and not count(pointer):
            await store.delete("thread", tenant, pointer.id, pointer.v)
        return True


def count(record: Record) -> int:
    """How many runs are named after the conversation with this pointer."""
    run, number = _parts(record.body)
    named = _numbered(run.decode(errors="replace"), record.id.removeprefix(_PREFIX))
    return max(number, named)  # a pointer that does not count was written by an earlier version


def _number(run: Run) -> int:
    """The number of a run that is named after its conversation, 0 for others."""
    return _numbered(run.id, run.conversation)


def _numbered(id: str, conversation: str) -> int:
    before, _, number = id.rpartition("/")
    named = before == conversation and number.isascii() and number.isdigit() and len(number) < 10
    return int(number) if before and named else 0


def _body(run: str, number: int) -> bytes:
    """A pointer's body. No run id ends with a line of digits alone: a named one has its slash there."""
    return f"{run}\n{number}".encode() if number else run.encode()


def _parts(body: bytes) -> tuple[bytes, int]:
    run, line, last = body.rpartition(b"\n")
    return (run, int(last)) if line and last.isdigit() and len(last) < 10 else (body, 0)


def _run(record: Record) -> str:
    try:
        return _parts(record.body)[0].decode() or " "  # no run has such an id
    except UnicodeDecodeError:
        raise SnapshotError("the pointer of a conversation is not readable") from None


def _id(conversation: str) -> str:
    return _PREFIX + conversation
