"""A process of voters: ``python -m tests.faults.voters URL FIRST COUNT`` reads approval ids and casts opposite votes on each.

Half of the voters go through one governor, half through another, all at the same moment. One line of JSON per approval
says what each of them was told.
"""

from __future__ import annotations

import asyncio
import json
import sys

from governor_agents import Decision, Governor
from governor_agents.errors import DecisionRefused


def voter(n: int) -> str:
    """The name of a voter."""
    return f"local:voter{n}"


def kind(n: int) -> str:
    """Voters with even numbers approve."""
    return "reject" if n % 2 else "approve"


async def vote(governor: Governor, approval: str, n: int) -> list[object]:
    """Number, whether it counted, and what was said."""
    decision = Decision.reject("no") if n % 2 else Decision.approve("yes")
    try:
        run = await governor.decide(approval, decision, by=voter(n))
    except DecisionRefused as error:
        return [n, error.code, str(error)]
    return [n, "counted", run.calls[-1].state.value]


async def main(url: str, first: int, count: int) -> None:
    """Vote until there is nothing more to read."""
    async with Governor(store=url) as one, Governor(store=url) as other:
        print("ready", flush=True)
        while approval := (await asyncio.to_thread(sys.stdin.readline)).strip():
            votes = [vote(other if n // 2 % 2 else one, approval, n) for n in range(first, first + count)]
            print(json.dumps(await asyncio.gather(*votes)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
