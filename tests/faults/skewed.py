"""A worker on a machine whose clock is wrong: ``python -m tests.faults.skewed URL LEDGER SECONDS``.

The skew is given to the store as its clock, so it holds for this process only.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from governor_agents import Governor, Worker
from governor_agents.stores import open_store
from tests.faults.app import governed
from tests.storm.ledger import Ledger


def skewed(url: str, ledger: Ledger, seconds: float) -> Governor:
    """A governor with one function, under a clock that is ahead by so many seconds."""
    store = open_store(url, clock=lambda: time.time() + seconds)
    governor = governed(store, secret=b"the same everywhere")

    @governor.govern(name="act")
    async def act(n: int) -> str:
        ledger.write(n=n, pid=os.getpid(), at=await governor.loop.bridge(governor.runs.now()))
        return "done"

    return governor


async def main(url: str, ledger: str, seconds: str) -> None:
    """Work until killed."""
    governor = skewed(url, Ledger(Path(ledger)), float(seconds))
    await governor.open()
    print("ready", flush=True)
    await Worker(governor, concurrency=2).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
