"""A worker in a process of its own, under published policies: ``published_app.py BUILD STORE CACHE LEDGER``.

It says ``version N`` when its first copy is there, then ``now OUTCOME`` whenever its copy comes to say something else of
``deploy``, and works until its input ends. ``BUILD`` is ``whole``, or ``deaf``: one that believes its copy.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from governor_agents import Governor, ToolCall, Worker
from governor_agents.publishing import Published
from tests.asking import Silent
from tests.integration.publishing import NEVER, until

CALL = ToolCall.of("deploy", {"path": "deploy.sh", "amount": 5})


class Deaf(Published):
    """A broken build: no look at the store before an intent."""

    async def confirm(self) -> str:
        return self.version


def make(policies: Published, store: str, ledger: Path) -> tuple[Governor, Any]:
    """A governor with one function, and that function."""
    governor = Governor(policies, store=store, handlers={"terminal": Silent()})

    @governor.govern(name="deploy")
    async def deploy(path: str, amount: int) -> str:
        with ledger.open("a") as file:
            file.write("deploy\n")
        return "done"

    return governor, deploy


async def tell(policies: Published) -> None:
    """Say what the copy says, whenever that changes."""
    said = policies.evaluate(CALL).outcome
    while True:
        now = policies.evaluate(CALL).outcome
        if now != said:
            print("now", said := now, flush=True)
        await asyncio.sleep(0.01)


async def main(build: str, store: str, cache: str, ledger: Path) -> None:
    kind = {"whole": Published, "deaf": Deaf}[build]
    policies = kind(cache=cache, poll=NEVER, max_age=NEVER + 1)
    governor, _ = make(policies, store, ledger)
    async with governor:
        assert policies.publication is not None
        telling = asyncio.create_task(tell(policies))
        if (held := policies._cache) is not None:
            await until(lambda: held._subscribed is not None)
        print("version", policies.publication.version, flush=True)
        stop = asyncio.Event()
        working = asyncio.create_task(Worker(governor).run(stop=stop))
        await asyncio.to_thread(sys.stdin.read)
        stop.set()
        await working
        telling.cancel()


if __name__ == "__main__":
    build, store, cache, ledger = sys.argv[1:]
    asyncio.run(main(build, store, cache, Path(ledger)))
