"""One gated call of an agent run, step by step, as an adapter and a worker take it through a real governor.

    begin     a run that is being driven                 one write
    suspend   the loop pauses before a call              one write, with the snapshot as a blob
    decide    a person approves                          one write
    claim     somebody takes the run to drive it on      one write
    call      intent, the tool, its result               two writes
    complete  the loop has ended                         one write

No framework is in it: the snapshot is a text of the size of a conversation.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pydoc_data.topics import topics
from typing import Any, cast

from benchmarks.scripted import ALICE, QuietHandler
from governor_agents import Decision, Governor, PolicySet, Run, ToolCall
from governor_agents.claims import Claim, held
from governor_agents.core import driving
from governor_agents.core.ports import Adapter, Segment, Store
from governor_agents.core.records import RunState
from governor_agents.driver import Prepared
from governor_agents.liveness import this_worker
from governor_agents.nonces import nonce, run_id
from governor_agents.worker.steps import tend

POLICY = f"""\
version: 1
approvals: {{approvers: [{ALICE}], channels: [quiet], deadline: 30d}}
tools: {{refund: {{effect: money}}}}
rules: [{{name: refunds, tool: refund, then: require_approval}}]
"""
ARGS = b'{"amount":120,"currency":"EUR","order":"4711"}'
SNAPSHOT = 4_000
"""Bytes of a short conversation."""

PROSE = "\n".join(topics.values())
"""What people and models say: prose that nobody generated, the reference of Python's own help."""


def governor_over(store: str | Store) -> Governor:
    """A governor that asks people about refunds."""
    handlers = {"quiet": QuietHandler()}
    return Governor(PolicySet.from_text(POLICY), store=store, secret=b"bench", lease=3600.0, handlers=handlers)


def words(size: int) -> str:
    """So many characters of prose, from anywhere."""
    at = random.randrange(len(PROSE) - size)
    return PROSE[at : at + size]


class NoFramework:
    """What a pause asks of an adapter."""

    name = "bench"
    framework = "bench 1"

    def fingerprint(self, agent: Any) -> str:
        return ""


PREPARED = Prepared(cast(Adapter, NoFramework()), None)


async def refund(arguments: bytes) -> str:
    """The tool: nothing at all."""
    return "refunded"


@dataclass(frozen=True, slots=True)
class Gates:
    """The steps, over one governor. Each is asked for from the caller's loop, as applications do."""

    governor: Governor
    snapshot: int = SNAPSHOT

    async def begin(self) -> Claim:
        """A run that is being driven."""
        governor, now = self.governor, time.time()
        run = Run("default", run_id(), "support", "bench", "service:support", RunState.ACTIVE, now)
        change = driving.start(run, now, owner=this_worker(), lease=governor.beats.lease)
        return Claim.on(await governor.loop.bridge(governor.runs.create(change, now)))

    async def suspend(self, claim: Claim) -> Run:
        """It pauses before a call that people decide."""
        call = ToolCall("refund", ARGS, f"call_{nonce()}", agent=claim.agent, run=claim.run, requester=claim.requester)
        segment = Segment(ended=False, snapshot=words(self.snapshot).encode(), pending=(call,))
        return expect(await self.governor.driver.rest(claim, segment, PREPARED), RunState.WAITING)

    async def suspended(self) -> Run:
        """A run that waits."""
        return await self.suspend(await self.begin())

    async def told(self, run: Run) -> Run:
        """Its people have been asked, as a worker does it: from here on it is due when its deadline is over."""
        return await tend(self.governor, run)

    async def decide(self, run: str) -> Run:
        """Its call is approved."""
        return expect(await self.governor.decide(f"{run}.1", Decision.approve(), by=ALICE), RunState.READY)

    async def claim(self, run: str) -> Claim:
        """Somebody drives it on."""
        return Claim.on(expect(await self.governor.claim(run), RunState.ACTIVE))

    async def call(self, claim: Claim) -> None:
        """The approved call is run."""
        run = await self.governor.get(claim.run)
        asked, tool = run.calls[0].as_tool_call(run), self.governor.policies.tool("refund")
        claim.known.add(asked.call_id)
        with held(claim), self.governor.beats.during(claim):
            ran = await self.governor.guard.run(claim, asked, tool, refund)
        if ran.value != "refunded":
            raise RuntimeError(f"the call did not run: {ran}")

    async def complete(self, claim: Claim) -> Run:
        """The loop has ended."""
        ended = await self.governor.driver.rest(claim, Segment(ended=True, output="done"), PREPARED)
        return expect(ended, RunState.COMPLETED)


def expect(run: Run, state: RunState) -> Run:
    """The run, which stands where it should. Raises `RuntimeError`: what is measured must have happened."""
    if run.state is not state:
        raise RuntimeError(f"run {run.id} is {run.state}, not {state}: {run.blocked_detail or run.error}")
    return run
