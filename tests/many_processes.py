"""What several processes do to one store at once: ``python -m tests.many_processes WORK URL COUNT`` is one of them.

``limits`` takes from one limit COUNT times and says how often it was granted; ``cards`` asks for the same call COUNT
times and says which card each got.
"""

from __future__ import annotations

import asyncio
import os
import sys

from governor_agents import Governor, PolicySet
from governor_agents.core.records import Approval

POLICY = "version: 1\napprovals: {channels: [slack], approvers: ['local:ann']}"
MOST = 50
FOREVER = 1e8
"""Seconds of a window that does not end while a test runs."""


async def _pay(amount: int) -> str:
    return "paid"


async def limits(url: str, count: int) -> list[str]:
    """``granted`` for each use that was."""
    governor = Governor(store=url)
    waits = [await governor.desk.take("clicks of alice", MOST, FOREVER) for _ in range(count)]
    await governor.close()
    return ["granted" for wait in waits if wait == 0.0]


async def cards(url: str, count: int) -> list[str]:
    """The card of each call."""
    governor = Governor(PolicySet.from_text(POLICY, name="p"), store=url)
    pay, found = governor.govern(name="pay")(_pay), []
    for _ in range(count):
        approval: Approval = await governor.approval((await pay.ask(5)).approval)
        card = await governor.desk.cards.enter(approval, "slack")
        found.append(card.id)
    await governor.close()
    return found


async def together(work: str, url: str, count: int, processes: int = 4) -> list[str]:
    """What all of the processes say."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = (sys.executable, "-m", "tests.many_processes", work, url, str(count))
    started = [
        await asyncio.create_subprocess_exec(*command, env=env, stdout=asyncio.subprocess.PIPE)
        for _ in range(processes)
    ]
    said = [(await each.communicate())[0].decode().split() for each in started]
    assert [each.returncode for each in started] == [0] * processes
    return [word for words in said for word in words]


if __name__ == "__main__":
    print(*asyncio.run({"limits": limits, "cards": cards}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))))
