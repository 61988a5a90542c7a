"""Runs of threads that the user's own code drives: ``graph.invoke`` on a `GovernorSaver`, without ``governor.run``.

An input on a thread opens run ``THREAD/N`` under a lease of this process. The run ends with the loop. When the loop
pauses, ``governor.suspend`` writes the pause; without it the lease lapses, and a worker that resumes the run finds the
pending calls and asks for them.

LangGraph saves the input in the background. So a loop is known here from the moment its input is to be saved, and
whoever needs its claim waits until the run is open.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from governor_agents.claims import Claim, pass_time
from governor_agents.conversations import count
from governor_agents.core import driving, settling
from governor_agents.core.calls import Json, freeze
from governor_agents.core.records import Run, RunState
from governor_agents.errors import Fenced, IllegalTransition, NotFound
from governor_agents.liveness import this_worker
from governor_agents.policies import person_id

if TYPE_CHECKING:
    from governor_agents.governor import Governor

AGENT = "langchain"
"""The agent's name when neither saver nor graph names one."""


@dataclass(eq=False, slots=True)
class Loop:
    """A loop of this process. ``opened`` gives its claim, or what kept it from beginning; ``before`` came earlier."""

    thread: str
    before: Loop | None = None
    opened: Future[Claim] = field(default_factory=Future)
    paused: bool = False

    @property
    def claim(self) -> Claim | None:
        """Its claim, None until its run is open."""
        return self.opened.result() if self.opened.done() and self.opened.exception() is None else None


class Loops:
    """The loops of this process that no driver holds, by thread."""

    def __init__(self, governor: Governor) -> None:
        self._governor = governor
        self._loops: dict[str, Loop] = {}
        self._changed = threading.Condition()

    # -- asking -----------------------------------------------------------------------------------------------------

    def claim(self, thread: str) -> Claim | None:
        """The claim of the loop on this thread, if it is open already."""
        loop = self._loops.get(thread)
        return None if loop is None else loop.claim

    async def claimed(self, thread: str) -> Claim | None:
        """The claim of the loop on this thread. Raises what kept its run from being opened."""
        loop = self._loops.get(thread)
        if loop is None:
            return None
        opened: asyncio.Future[Claim] = asyncio.wrap_future(loop.opened)
        return await opened

    def claimed_sync(self, thread: str, patience: float) -> Claim | None:
        """The same from a thread of a synchronous graph, which may be faster than the one that saves the input."""
        with self._changed:
            self._changed.wait_for(lambda: thread in self._loops, patience)
        loop = self._loops.get(thread)
        return None if loop is None else loop.opened.result()

    # -- a loop's life ----------------------------------------------------------------------------------------------

    def begin(self, thread: str) -> Loop:
        """A loop begins with an input on this thread; its run is opened next."""
        with self._changed:
            before = self._loops.get(thread)
            while before is not None and before.claim is None:
                before = before.before
            loop = self._loops[thread] = Loop(thread, before)
            self._changed.notify_all()
        return loop

    async def open(self, loop: Loop, agent: str, requester: str) -> Claim:
        """Open the run of a loop; an earlier one of its thread that waits is superseded. On the governor loop.

        Raises `IllegalTransition` while an earlier run of this thread is being driven.
        """
        try:
            claim = await self._open(loop, agent, requester)
        except BaseException as error:  # the loop goes on for a moment: its first tool hears of it, and stops it
            loop.opened.set_exception(error)
            raise
        loop.before = None
        loop.opened.set_result(claim)
        return claim

    async def _open(self, loop: Loop, agent: str, requester: str) -> Claim:
        runs, conversations, thread = self._governor.runs, self._governor.conversations, loop.thread
        for earlier in await conversations.unfinished(thread):
            await self._supersede(loop, earlier)
        seen = await conversations.look(thread)
        n = count(seen) + 1  # not from 1 on: earlier ones are many, or were removed
        while await runs.find(f"{thread}/{n}") is not None:
            n += 1
        now = await runs.now()
        run = Run(
            tenant=self._governor.tenant,
            id=f"{thread}/{n}",
            agent=agent,
            adapter="langchain",
            requester=person_id(requester) if requester else f"service:{agent}",
            state=RunState.ACTIVE,
            created=now,
            env=self._governor.env,
            conversation=thread,
            max_attempts=self._governor.max_attempts,
        )
        change = driving.start(run, now, owner=this_worker(), lease=self._governor.beats.lease)
        try:
            run = await runs.create(change, now)
        except Fenced as error:
            raise IllegalTransition(f"another message came to thread {thread} at the same moment") from error
        try:
            await conversations.take(seen, run)
        except IllegalTransition:
            await self._cancel(run, "another message came at the same moment", superseded=False)
            raise
        return Claim.on(run)

    async def _supersede(self, loop: Loop, run: Run) -> None:
        """End an earlier run of the thread: one that rests, or a loop of this process that stands still."""
        before = loop.before
        mine = before is not None and before.paused and before.claim is not None and before.claim.run == run.id
        if run.state is RunState.ACTIVE and not mine:
            run = (await self._governor.runs.change(run.id, pass_time)).run
        if run.state is RunState.ACTIVE and not mine:
            raise IllegalTransition(f"thread {loop.thread} is being driven by run {run.id}; wait for it, or cancel it")
        await self._cancel(run, "a new message came", superseded=not mine)

    async def _cancel(self, run: Run, reason: str, *, superseded: bool) -> None:
        await self._governor.runs.change(
            run.id,
            lambda run, now: settling.request_cancel(run, now, by=run.requester, reason=reason, superseded=superseded),
        )

    def paused(self, thread: str) -> None:
        """The loop on this thread has met a call that waits for people."""
        loop = self._loops.get(thread)
        if loop is not None:
            loop.paused = True

    def forget(self, thread: str) -> None:
        """The run is no longer driven by a loop of this process."""
        loop = self._loops.get(thread)
        if loop is not None:
            self._leave(loop)

    def _leave(self, loop: Loop) -> None:
        with self._changed:
            if self._loops.get(loop.thread) is loop:
                del self._loops[loop.thread]

    async def finish(self, thread: str, *, output: Json = None, error: str = "") -> None:
        """The loop on this thread has ended. On the governor loop."""
        loop = self._loops.get(thread)
        if loop is None:
            return
        claim = loop.claim
        if claim is None or claim.stop:
            return
        try:
            await self._governor.runs.change(
                claim.run,
                lambda run, now: driving.finish(
                    run,
                    now,
                    owner=claim.owner,
                    fence=claim.fence,
                    output_json="" if error else freeze(output).decode(),
                    error=error,
                ),
                fresh=False,
            )
        except (Fenced, IllegalTransition, NotFound):
            claim.stop = "the loop has ended"  # the lease's end says what became of the run
        else:
            self._leave(loop)


def has_ended(checkpoint: Mapping[str, Any]) -> bool:
    """True when nothing follows this checkpoint: no channel was written that triggers a node of a state graph."""
    updated = checkpoint.get("updated_channels")
    return updated is not None and not any(
        channel == "__pregel_tasks" or channel.startswith(("branch:to:", "join:", "__start__")) for channel in updated
    )
