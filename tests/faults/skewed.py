"""A worker on a machine whose clock is wrong: ``python -m tests.faults.skewed URL LEDGER SECONDS``.

The skew is given to the store as its clock, where it takes one; else to the whole process, as ``time.time``.
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
from tests.stores import clocked
from tests.storm.ledger import Ledger

HALF_AN_HOUR = 1800.0


def skewed(url: str, ledger: Ledger, seconds: float) -> Governor:
    """A governor with one function, under a clock that is ahead by so many seconds; a server's time is nobody's to skew.

    There the function's deadline is nearer than the clocks are apart.
    """
    options = {"clock": lambda: time.time() + seconds} if clocked(url) else {}
    governor = governed(open_store(url, **options), secret=b"the same everywhere")
    terms = {} if clocked(url) else {"deadline": HALF_AN_HOUR, "run_within": HALF_AN_HOUR}

    @governor.govern(name="act", **terms)
    async def act(n: int) -> str:
        ledger.write(n=n, pid=os.getpid(), at=await governor.loop.bridge(governor.runs.now()))
        return "done"

    return governor


async def main(url: str, ledger: str, seconds: str) -> None:
    """Work until killed."""
    if not clocked(url):
        right = time.time
        time.time = lambda: right() + float(seconds)
    governor = skewed(url, Ledger(Path(ledger)), float(seconds))
    await governor.open()
    print("ready", flush=True)
    await Worker(governor, concurrency=2).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
