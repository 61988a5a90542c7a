"""A worker in a process of its own, which tells when its tool starts: ``python -m benchmarks.waiting_worker STORE``.

Writes one line to standard output for each start of the tool, the time in nanoseconds, and ``ready`` before the first.
Ends on SIGTERM.
"""

import asyncio
import os
import signal
import sys
import time

from benchmarks.scripted import around, make_governor
from benchmarks.scripted_openai import factory
from governor_agents import Worker


def tell(step: str) -> None:
    """One line, written at once."""
    if step == "intent":
        os.write(1, b"%d\n" % time.time_ns())


async def main(store: str) -> None:
    around.set(tell)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with make_governor(store) as governor:
        governor.agent("support")(factory)
        governor.prepared("support")
        os.write(1, b"ready\n")
        await Worker(governor).run(stop=stop)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
