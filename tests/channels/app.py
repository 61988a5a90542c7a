"""A user's application that is asked about in every channel: one agent per channel, whose model wants one refund.

Run as ``python -m tests.channels.app create``, it starts each agent and ends; ``governor-agents serve`` and
``governor-agents worker`` take the governor from ``tests.channels.app:governor``. Everything else is in the environment,
as it is for a user: store, addresses of servers, tokens, people.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from agents import Agent

from governor_agents import Governor, PolicySet
from governor_agents.directory import PeopleFile
from tests.integration.ledger import Ledger
from tests.integration.openai_agents_app import Scripted, make_tools

CHANNELS = ("slack", "email", "terminal")

PEOPLE = """\
version: 1
people:
  alice: {slack: T01/U02, email: alice@example.com}
  bob: {slack: T01/U03, email: bob@example.com}
groups: {finance: [alice, bob]}
"""


def policy(local: str) -> str:
    """Who is asked where, by the order that the refund is for."""
    return f"""\
version: 1
approvals: {{deadline: 24h}}
rules:
  - name: in Slack
    tool: refund
    when: call.args.order == "slack"
    then: require_approval
    approvers: [group:finance]
    channels: [slack]
    headline: "Refund {{args.amount}} for order {{args.order}}"
  - {{name: by mail, tool: refund, when: call.args.order == "email", then: require_approval, approvers: [group:finance], channels: [email]}}
  - {{name: here, tool: refund, then: require_approval, approvers: [{local}], channels: [terminal]}}
"""


def make_governor() -> Governor:
    """The governor of this process."""
    from governor_agents.handlers.terminal import local_person

    folder = Path(os.environ["CHANNELS_FOLDER"])
    people = PeopleFile(folder / "people.yaml")
    made = Governor(PolicySet.from_text(policy(local_person()), directory=people), people=people)
    for channel in CHANNELS:
        made.agent(channel)(lambda channel=channel: _agent(channel, Ledger(folder / "ledger")))
    return made


def _agent(channel: str, ledger: Ledger) -> Agent[Any]:
    model = Scripted([("refund", {"order": channel, "amount": 120.5})])
    return Agent(name=channel, model=model, tools=[make_tools(ledger)["refund"]])


async def create() -> dict[str, Any]:
    """Start every agent; each comes to rest before its refund."""
    async with make_governor() as made:
        runs = {channel: await made.run(channel, "go", requester="kim@example.com") for channel in CHANNELS}
        return {channel: {"run": run.id, "approval": run.approvals[0].id} for channel, run in runs.items()}


def __getattr__(name: str) -> Any:
    if name == "governor":
        return make_governor()
    raise AttributeError(name)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(create())))
