"""Requests made by hand, for tests: as a governed function would make them, with anything in them; and who was refused."""

from __future__ import annotations

from typing import Any

from governor_agents import Governor, ToolCall, Verdict, schemas
from governor_agents.core import driving
from governor_agents.core.calls import Tool, freeze, thaw
from governor_agents.core.ports import Blob
from governor_agents.core.records import Approval, Run, RunState, evolve
from governor_agents.core.verdicts import Stage
from governor_agents.nonces import nonce, run_id

ARGS = {"order": "4711", "amount": 120, "note": "Customer was charged twice"}


class Silent:
    """A channel that reaches nobody, under any name."""

    name = "silent"

    async def start(self, desk: object) -> None: ...

    async def close(self) -> None: ...

    async def notify(self, approval: Approval, to: str = "") -> str:
        return ""

    async def update(self, approval: Approval, card: str, to: str = "") -> None: ...


async def ask(
    governor: Governor,
    args: dict[str, Any] | bytes = ARGS,
    *,
    tool: str = "refund",
    people: tuple[str, ...] = ("cfo@example.com",),
    names: tuple[str, ...] = ("finance",),
    quorum: int = 1,
    stages: tuple[Stage, ...] = (),
    requester: str = "kim@example.com",
    agent: str = "support",
    conversation: str = "",
    schema: bytes = b"",
    policy: str = "p#refunds",
    channels: tuple[str, ...] = ("silent",),
    deadline: float = 3600.0,
    call: dict[str, Any] | None = None,
    **verdict: Any,
) -> Approval:
    """A request that waits for these people; ``call`` are further fields of its record, as transitions make them."""
    await governor.open()
    now = await governor.loop.bridge(governor.runs.now())
    run = Run(
        governor.tenant, run_id(), agent, "functions", requester, RunState.QUEUED, now,
        conversation=conversation, env=governor.env,
    )  # fmt: skip
    made = ToolCall(
        tool, args if isinstance(args, bytes) else freeze(args), nonce(), agent=agent, run=run.id,
        requester=requester, schema_sha256=schemas.note(schema) if schema else "",
    )  # fmt: skip
    said = Verdict(
        "require_approval", policy, "1", stages=stages or (Stage(names, people, quorum=quorum),),
        channels=channels, deadline=deadline, **verdict,
    )  # fmt: skip
    change = driving.ask_single(run, driving.Ask(made, Tool(tool), said, nonce()), now, owner="test", lease=None)
    if call:
        change = evolve(change, run=change.run.with_call(evolve(change.run.calls[0], **call)))
    blobs = (Blob(made.schema_sha256, schema),) if schema else ()
    return (await governor.loop.bridge(governor.runs.create(change, now, blobs))).approvals[0]


async def refused(governor: Governor) -> list[dict[str, Any]]:
    """The stream of refused requests, oldest first."""

    async def read() -> list[dict[str, Any]]:
        await governor.audit.refusals.flush()
        trails = governor.audit.trails(security=True)
        return [thaw(event.body) async for _, events in trails for event in events]

    return await governor.loop.bridge(read())
