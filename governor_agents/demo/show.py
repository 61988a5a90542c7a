"""The demo's views for people: the request and the timeline, rendered as the command line renders them."""

from __future__ import annotations

import asyncio

from rich.console import Console

from governor_agents.demo import shop
from governor_agents.governor import Governor
from governor_agents.handlers.message import Message
from governor_agents.handlers.terminal import print_message
from governor_agents.handlers.timeline import tell, to_table
from governor_agents.policies import PolicySet


def _governor(url: str) -> Governor:
    return Governor(PolicySet.from_text(shop.policy(), name="governor.yaml"), store=url)


def show_request(url: str, run: str) -> None:
    """Every request of a run that waits."""

    async def work() -> None:
        async with _governor(url) as governor:
            for approval in (await governor.get(run)).approvals:
                print_message(Console(), Message.of(approval))

    asyncio.run(work())


def show_timeline(url: str, run: str) -> None:
    """The audit trail of a run."""

    async def work() -> None:
        async with _governor(url) as governor:
            lines = tell(await governor.timeline(run), await governor.calls(run))
            Console().print(to_table(lines, title=f"Run {run}", brief=True))

    asyncio.run(work())
