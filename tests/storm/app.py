"""The application under the storm: one governed function and an agent of each framework, all with one tool that acts.

The tool writes to the ledger and to nothing else, so whoever reads the ledger knows what happened, whatever the store
says.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from governor_agents import Governor, PolicySet, idempotency_key
from governor_agents.adapters.functions import Governed
from governor_agents.claims import current_claim
from governor_agents.core.ports import Store
from governor_agents.stores import open_store
from tests.asking import Silent
from tests.storm import broken
from tests.storm.ledger import Ledger

APPROVERS = tuple(f"local:approver{n}" for n in range(4))
POLICY = f"""
version: 1
approvals: {{channels: [silent], deadline: 24h, approvers: [{", ".join(APPROVERS)}]}}
rules: [{{name: every move, tool: move, then: require_approval}}]
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a storm takes place. ``slow`` is how many seconds the tool takes after its effect."""

    url: str
    folder: Path
    lease: float = 1.0
    slow: float = 0.0
    agents: bool = False
    fault: str = ""
    effects: Ledger = field(init=False)
    asked: Ledger = field(init=False)
    decided: Ledger = field(init=False)
    trouble: Ledger = field(init=False)

    def __post_init__(self) -> None:
        for name in ("effects", "asked", "decided", "trouble"):
            object.__setattr__(self, name, Ledger(self.folder / name))


@dataclass(frozen=True, slots=True)
class App:
    """One process's view of the application."""

    governor: Governor
    move: Governed


def build(scene: Scene) -> App:
    """The application as each process builds it, after its fork."""
    store: Store = broken.store(scene.fault, open_store(scene.url))
    governor = Governor(
        PolicySet.from_text(POLICY, name="storm.yaml"),
        store=store,
        lease=scene.lease,
        handlers={"silent": Silent()},
        secret=b"storm",
    )

    async def act(gate: int) -> str:
        claim = current_claim()  # a governed function has none: its key says whose effect this is
        scene.effects.write(run=claim.run if claim else "", key=idempotency_key(), gate=gate, pid=os.getpid())
        if scene.slow:
            await asyncio.sleep(scene.slow)
        return f"moved {gate}"

    @governor.govern(name="move")
    async def move(gate: int) -> str:
        return await act(gate)

    if scene.agents:
        _agents(governor, act)
    return App(governor, move)


def preload() -> None:
    """Load what the agents need, once, before anything is forked."""
    import tests.integration.langchain_app  # loads the adapters too
    import tests.integration.openai_agents_app  # noqa: F401


def _agents(governor: Governor, act: Any) -> None:
    from agents import Agent, function_tool
    from langchain.agents import create_agent
    from langchain_core.tools import tool

    from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver
    from tests.integration import langchain_app, openai_agents_app

    @governor.agent("openai")
    def _openai() -> Any:
        acting = function_tool(act, name_override="move", description_override="move")
        return Agent("openai", model=openai_agents_app.Scripted([("move", {"gate": -1})]), tools=[acting])

    @governor.agent("langchain")
    def _langchain() -> Any:
        model = langchain_app.Scripted(turns=[[("move", {"gate": -2})]])
        acting = tool("move", description="move")(act)
        middleware, saver = [GovernorMiddleware(governor)], GovernorSaver(governor)
        return create_agent(model, tools=[acting], middleware=middleware, checkpointer=saver)
