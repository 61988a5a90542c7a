"""A process that makes transitions as fast as it can: ``python -m benchmarks.transitions URL COUNT``.

Each is one compare-and-set of a record of the size of a run with its event, through the store alone, by four tasks at
once, as a worker with four runs in hand. Says ``ready``, waits for a line, and then says how many it made, how many
were refused with an error (the first of them in words), and when it began and ended (seconds of the machine's clock).
"""

import asyncio
import json
import os
import sys
import time
from dataclasses import replace

from governor_agents.core.ports import Record, StoredEvent
from governor_agents.errors import StoreError
from governor_agents.nonces import nonce
from governor_agents.stores import open_store

TASKS = 4
BODY, EVENT = 2_000, 300
"""Bytes of the record of a run with one call, and of one of its events."""


async def main(url: str, count: int) -> None:
    """Make ``count`` transitions and tell of them."""
    store = open_store(url)
    await store.open()
    errors: list[str] = []

    async def task(share: int) -> None:
        record = Record("run", "bench", f"run_{nonce()}", os.urandom(BODY), {"state": "active", "agent": "bench"})
        try:
            await store.insert(record, op=nonce(), events=[StoredEvent(1, b"created")])
            for v in range(1, share + 1):
                changed, event = replace(record, v=v, due=float(v)), StoredEvent(v + 1, os.urandom(EVENT))
                await store.swap(changed, op=nonce(), events=[event])
        except StoreError as error:
            errors.append(str(error))

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    begun = time.time()
    await asyncio.gather(*(task(count // TASKS) for _ in range(TASKS)))
    said = {"made": count // TASKS * TASKS, "errors": len(errors), "error": errors[:1], "begun": begun}
    print(json.dumps({**said, "ended": time.time()}), flush=True)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
