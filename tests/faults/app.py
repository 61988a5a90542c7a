"""What the tests of faults share: a loop of coroutines as an agent, a channel that reaches nobody, a governor over both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from governor_agents import Governor, PolicySet, ToolCall
from governor_agents.claims import Claim, current_claim
from governor_agents.core.calls import Tool
from governor_agents.core.ports import Segment, Store
from governor_agents.core.records import Call, Run
from governor_agents.driver import Prepared
from governor_agents.guard import Ran
from tests.asking import Silent

ALICE, BOB = "local:alice", "local:bob"
POLICY = f"""
version: 1
approvals: {{channels: [silent], deadline: 24h, approvers: [{ALICE}, {BOB}]}}
rules:
  - {{name: notes, tool: note, then: allow}}
  - {{name: the rest, tool: "*", then: require_approval}}
"""

Body = Callable[[Any, Sequence[Call]], Awaitable[Segment]]
"""A stretch of a loop: what it was asked with or its snapshot, and the calls as decided."""


class Loop:
    """An adapter whose agent is a coroutine function."""

    name = "test"
    framework = "test 1"
    replays = True

    def __init__(self, body: Body) -> None:
        self.body = body

    def prepare(self, agent: Any) -> Any:
        return agent

    async def start(self, agent: Any, input: Any, **rest: Any) -> Segment:
        return await self.body(input, ())

    async def resume(self, agent: Any, snapshot: bytes, calls: Sequence[Call], **rest: Any) -> Segment:
        return await self.body(snapshot, calls)

    async def capture(self, paused: Any, **where: Any) -> None:
        return None

    async def close(self, agent: Any, snapshot: bytes, calls: Sequence[Call]) -> None:
        return None

    def inventory(self, agent: Any) -> list[Tool]:
        return []

    def fingerprint(self, agent: Any) -> str:
        return ""


def governed(store: str | Store, body: Body | None = None, *, policy: str = POLICY, **settings: Any) -> Governor:
    """A governor; ``body`` is its agent ``a``."""
    governor = Governor(
        PolicySet.from_text(policy, name="faults.yaml"), store=store, handlers={"silent": Silent()}, **settings
    )
    if body is not None:
        governor.agents["a"] = lambda: body
        loop = Loop(body)
        governor._prepared["a"] = Prepared(loop, loop)
    return governor


def call(tool: str, id: str, **arguments: Any) -> ToolCall:
    """A tool call as the loop of the claim in force makes it."""
    claim = here()
    return ToolCall.of(
        tool, arguments, id, agent="a", run=claim.run, requester=claim.requester, conversation=claim.conversation
    )


def here() -> Claim:
    """The claim in force."""
    claim = current_claim()
    assert claim is not None
    return claim


async def run_tool(governor: Governor, made: ToolCall, tool: Tool, does: Callable[[], Awaitable[Any]]) -> Ran:
    """Run a call through the guard, as an adapter does."""

    async def invoke(args: bytes) -> Any:
        return await does()

    return await governor.guard.run(here(), made, tool, invoke)


async def change(governor: Governor, id: str, step: Callable[[Run, float], Any]) -> Run:
    """Apply a transition by hand; the run as it then stands."""
    await governor.open()
    run: Run = (await governor.loop.bridge(governor.runs.change(id, step))).run
    return run
