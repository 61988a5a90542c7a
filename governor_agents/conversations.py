"""One conversation, one run at a time: a pointer per conversation, moved by compare-and-set.

A new run is written first and takes the pointer before anything of it is driven; who loses the pointer ends its run
again, so two messages that come at the same moment never drive one conversation twice.
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


class Conversations:
    """The pointers of one tenant. Its coroutines run on the governor loop."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def look(self, conversation: str) -> Record:
        """The pointer as it stands (version 0 when there is none). Raises `IllegalTransition` while it is driven."""
        record = await self._runs.store.load("thread", self._runs.tenant, _id(conversation))
        if record is None:
            return Record("thread", self._runs.tenant, _id(conversation), b"")
        run = await self._runs.find(self.run_of(record) or " ")  # no run has such an id
        if run is not None and run.state is RunState.ACTIVE:
            raise IllegalTransition(f"conversation {conversation} is being driven by run {run.id}; wait for it")
        return record

    @staticmethod
    def run_of(pointer: Record) -> str:
        """The id of the run that a pointer names, empty when it names none. Raises `SnapshotError`."""
        try:
            return pointer.body.decode()
        except UnicodeDecodeError:
            raise SnapshotError("the pointer of a conversation is not readable") from None

    async def take(self, seen: Record, run: Run) -> None:
        """Point the conversation to this run. Raises `IllegalTransition` when another message was faster."""
        fresh = Record(seen.kind, seen.tenant, seen.id, run.id.encode(), v=seen.v)
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


def _id(conversation: str) -> str:
    return f"conversation:{conversation}"
