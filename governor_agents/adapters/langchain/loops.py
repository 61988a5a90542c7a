"""Runs of threads that the user's own code drives: ``graph.invoke`` on a `GovernorSaver`, without ``governor.run``.

An input on a thread opens run ``THREAD/N`` under a lease of this process. The run ends with the loop. When the loop
pauses, ``governor.suspend`` writes the pause; without it the lease lapses, and a worker that resumes the run finds the
pending calls and asks for them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from governor_agents.claims import Claim, current_claim, this_worker
from governor_agents.core import driving, settling
from governor_agents.core.calls import Json, freeze
from governor_agents.core.records import Run, RunState
from governor_agents.errors import Fenced, IllegalTransition, NotFound

if TYPE_CHECKING:
    from governor_agents.governor import Governor

AGENT = "langchain"
"""The agent's name when neither saver nor graph names one."""

_OPEN = (
    RunState.QUEUED,
    RunState.ACTIVE,
    RunState.WAITING,
    RunState.READY,
    RunState.BLOCKED,
    RunState.DEAD,
)


@dataclass(slots=True)
class _Loop:
    claim: Claim
    paused: bool = False


class Loops:
    """The loops of this process that no driver holds, by thread."""

    def __init__(self, governor: Governor) -> None:
        self._governor = governor
        self._loops: dict[str, _Loop] = {}
        self._lock = threading.Lock()

    def claim(self, thread: str) -> Claim | None:
        """The claim under which code on this thread runs: the driver's, or that of a loop of one's own."""
        held = current_claim()
        if held is not None:
            return held
        loop = self._loops.get(thread)
        return loop.claim if loop else None

    async def open(self, thread: str, agent: str, requester: str) -> Claim:
        """Begin the thread's next run; an earlier one that waits is superseded. On the governor loop.

        Raises `IllegalTransition` while an earlier run of this thread is being driven.
        """
        await self._governor.open()
        runs = self._governor.runs
        for state in _OPEN:
            for earlier in await runs.select({"conversation": thread, "state": state.value}):
                await self._supersede(thread, earlier)
        n = 1
        while await runs.find(f"{thread}/{n}") is not None:
            n += 1
        now = await runs.now()
        run = Run(
            tenant=self._governor.tenant,
            id=f"{thread}/{n}",
            agent=agent,
            adapter="langchain",
            requester=requester or f"service:{agent}",
            state=RunState.ACTIVE,
            created=now,
            env=self._governor.env,
            conversation=thread,
        )
        change = driving.start(run, now, owner=this_worker(), lease=self._governor.beats.lease)
        claim = Claim.on(await runs.create(change, now))
        with self._lock:
            self._loops[thread] = _Loop(claim)
        return claim

    async def _supersede(self, thread: str, run: Run) -> None:
        loop = self._loops.get(thread)
        mine = loop is not None and loop.paused and loop.claim.run == run.id
        if run.state is RunState.ACTIVE and not mine:
            run = (await self._governor.runs.change(run.id, driving.tick)).run
        if run.state is RunState.ACTIVE and not mine:
            raise IllegalTransition(f"thread {thread} is being driven by run {run.id}; wait for it, or cancel the run")
        await self._governor.runs.change(
            run.id,
            lambda run, now: settling.request_cancel(
                run, now, by=run.requester, reason="a new message came", superseded=True
            ),
        )
        self.forget(thread, run.id)

    def paused(self, thread: str) -> None:
        """The loop on this thread has met a call that waits for people."""
        loop = self._loops.get(thread)
        if loop is not None:
            loop.paused = True

    def forget(self, thread: str, run: str) -> None:
        """The run is no longer driven by a loop of this process."""
        with self._lock:
            loop = self._loops.get(thread)
            if loop is not None and loop.claim.run == run:
                del self._loops[thread]

    async def finish(self, thread: str, *, output: Json = None, error: str = "") -> None:
        """The loop on this thread has ended. On the governor loop."""
        loop = self._loops.get(thread)
        if loop is None or loop.claim.stop:
            return
        claim = loop.claim
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
            claim.stop = claim.stop or "the loop has ended"  # the lease's end says what became of the run
        else:
            self.forget(thread, claim.run)


def has_ended(checkpoint: Mapping[str, Any]) -> bool:
    """True when nothing follows this checkpoint: no channel was written that triggers a node of a state graph."""
    updated = checkpoint.get("updated_channels")
    return updated is not None and not any(
        channel == "__pregel_tasks" or channel.startswith(("branch:to:", "join:", "__start__")) for channel in updated
    )
