"""A worker process that runs approved calls as fast as it can: ``python -m benchmarks.working URL``.

Says ``ready``, waits for a line, works, writes the time in nanoseconds at each start of the tool, and ends on SIGTERM.
"""

import asyncio
import os
import signal
import sys
import time

from benchmarks.gates import governor_over
from governor_agents import Governor, Worker
from governor_agents.adapters.functions import Governed

CONCURRENCY = 4
"""Runs that each worker has in hand, its default."""


def refunds(governor: Governor) -> Governed:
    """The governed function, which any of these processes can run."""

    @governor.govern(name="refund")
    def refund(order: str) -> str:
        os.write(1, b"%d\n" % time.time_ns())
        return f"refunded {order}"

    return refund


async def main(url: str) -> None:
    """Work until told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with governor_over(url) as governor:
        refunds(governor)
        os.write(1, b"ready\n")
        await asyncio.to_thread(sys.stdin.readline)
        await Worker(governor, concurrency=CONCURRENCY).run(stop=stop)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
