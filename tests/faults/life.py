"""One life of a run, with every kind of write in it, and what it leaves: to be compared with that of another life.

A new run and its conversation, an allowed call, a pause, notices, a decision, a claim, a heartbeat, an intent, a result,
the end, a halt and its lifting, a doubt and its answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from governor_agents import Decision, Governor, OutcomeUnknown, Worker
from governor_agents.core import doubts, driving
from governor_agents.core.calls import Tool
from governor_agents.core.ports import Segment, Store
from governor_agents.core.records import Call, CallState, Run
from tests.faults.app import ALICE, call, change, governed, here, run_tool

NOTE, PAY, ODD = Tool("note"), Tool("pay"), Tool("odd")
LEASE = 30.0


@dataclass(slots=True)
class Life:
    """One life of a run over one store, and what really happened in it."""

    governor: Governor
    effects: list[str] = field(default_factory=list)

    async def agent(self, begun: Any, calls: Sequence[Call]) -> Segment:
        """Notes, asks to pay and to do something odd, and ends once both are decided."""
        if not calls:
            await run_tool(self.governor, call("note", "c1", text="begun"), NOTE, self.note)
            asked = (call("pay", "c2", amount=5), call("odd", "c3"))
            return Segment(False, snapshot=b"{}", pending=asked)
        paid = await run_tool(self.governor, call("pay", "c2", amount=5), PAY, self.pay)
        odd = await run_tool(self.governor, call("odd", "c3"), ODD, self.odd)
        return Segment(True, output=[paid.value, odd.text])

    async def note(self) -> str:
        self.effects.append("note")
        return "noted"

    async def pay(self) -> str:
        """Takes so long that the lease is renewed meanwhile."""
        self.effects.append("pay")
        claim = here()

        def renew(run: Run, now: float) -> Any:
            return driving.renew(run, now + 1.0, owner=claim.owner, fence=claim.fence, lease=LEASE)

        await change(self.governor, claim.run, renew)
        return "paid"

    async def odd(self) -> str:
        self.effects.append("odd")
        raise OutcomeUnknown("the line was cut")

    async def play(self) -> Run:
        """From the first message to the end."""
        governor = self.governor
        run = await governor.run("a", "go", conversation="c")
        await self.work()
        await governor.halt("tool:pay", by=ALICE, reason="wait")
        for approval in run.approvals:
            await governor.decide(approval.id, Decision.approve("fine"), by=ALICE)
        await self.work()
        await governor.lift("tool:pay", by=ALICE)
        await self.work()
        return await self.answer(run.id)

    async def work(self) -> None:
        """What a worker does until nothing is due."""
        await Worker(self.governor).run(once=True)

    async def answer(self, id: str) -> Run:
        """An operator settles every doubt; the worker drives the run to its end."""
        for doubt in (await self.governor.get(id)).having(CallState.UNKNOWN):

            def resolve(run: Run, now: float, n: int = doubt.n) -> Any:
                return doubts.resolve(run, n, now, how="happened", by=ALICE, evidence="seen")

            await change(self.governor, id, resolve)
        await self.work()
        return await self.governor.get(id)


@asynccontextmanager
async def life(store: Store) -> AsyncIterator[Life]:
    """A life over this store; it is closed afterwards."""
    made = Life(governed(store, lease=LEASE))
    loop = governed(store, made.agent)
    made.governor.agents, made.governor._prepared = loop.agents, loop._prepared
    try:
        yield made
    finally:
        await made.governor.close()


@dataclass(frozen=True, slots=True)
class Traces:
    """What a life leaves that can be compared with that of another one."""

    effects: tuple[str, ...]
    events: tuple[str, ...]
    states: tuple[str, ...]
    runs: int
    v: int
    pointer: bool
    halts: int


async def traces(played: Life, run: Run) -> Traces:
    """Everything the life left in the store, and outside of it."""
    governor = played.governor
    record = await governor.loop.bridge(governor.store.load("run", "default", run.id))
    pointer = await governor.loop.bridge(governor.store.load("thread", "default", "conversation:c"))
    halts = await governor.loop.bridge(governor.store.events("halt", "default", "tenant"))
    assert record is not None and pointer is not None
    return Traces(
        effects=tuple(played.effects),
        events=tuple(event["what"] for event in await governor.timeline(run.id)),
        states=(run.state, *(call.state for call in await governor.calls(run.id))),
        runs=len(await governor.list_runs()),
        v=record.v,
        pointer=pointer.body.decode() == run.id,
        halts=len(halts),
    )
