"""A worker whose tool stops its whole process: ``python -m tests.faults.stalling URL LEDGER LEASE``.

Each call stops the process once, after its effect and before its result, as a machine does that is suspended.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
from pathlib import Path

from governor_agents import Governor, Run, Worker
from governor_agents.guard import idempotency_key
from governor_agents.worker.delivery import Delivery
from tests.faults.app import governed
from tests.storm.ledger import Ledger


def stalling(url: str, ledger: Ledger, lease: float, *, stop: bool = False) -> Governor:
    """A governor with one function for each retry class; with ``stop`` each effect stops the process."""
    governor = governed(url, lease=lease, secret=b"the same everywhere")

    async def act(n: int) -> str:
        ledger.write(n=n, pid=os.getpid(), key=idempotency_key())
        if stop:
            os.kill(os.getpid(), signal.SIGSTOP)
        return f"{n} by {os.getpid()}"

    governor.govern(name="once")(act)
    governor.govern(name="again", retry="idempotent")(act)
    return governor


class Mute(Delivery):
    """Tells nobody: what is stopped is a tool, and not a write of an outbox, which on SQLite would stop everybody."""

    def begin(self, governor: Governor, run: Run, now: float) -> tuple[list[asyncio.Task[bool]], float]:
        return [], math.inf


async def main(url: str, ledger: str, lease: str) -> None:
    """Work until killed."""
    governor = stalling(url, Ledger(Path(ledger)), float(lease), stop=True)
    worker = Worker(governor)
    worker._delivery = Mute()
    await worker.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
