"""(i) Does it matter how many runs wait in a store? The same steps beside 10,000, 100,000 and 1,000,000 suspended runs.

The stores of all sizes stand side by side, each over a server of its own, and take turns, so a ratio is between equal
moments. Decided and claimed are runs somewhere among the others; a page of a list begins at a random place.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.filling import SNAPSHOT, fill
from benchmarks.gates import Gates, governor_over
from benchmarks.measure import Cost, Party, interleave, ratio, timed
from benchmarks.report import Report
from benchmarks.stores import STORES, fresh_store
from governor_agents.nonces import run_id

ROUNDS = 150
MOST = 1.3
"""What the largest store may take, as a multiple of the smallest."""

HELD = {"mongodb": 2_000}
"""The most that the server for tests is filled with: what it reads for a page grows with all it holds."""

STEPS = ("suspend", "decide", "claim", "complete", "list page", "due page", "inbox page")


class Filled:
    """A store that holds many runs, and the steps in it."""

    def __init__(self, gates: Gates, waiting: Sequence[str]) -> None:
        self._gates = gates
        self._waiting = deque(waiting)
        self._ready: deque[str] = deque()

    def steps(self) -> dict[str, Party]:
        """A party for each step."""
        parties = (self.suspend, self.decide, self.claim, self.complete, self.list, self.due, self.inbox)
        return dict(zip(STEPS, parties, strict=True))

    async def suspend(self) -> Cost:
        """One run more; another ends, so the store stays as large as it is."""
        claim = await self._gates.begin()
        return await timed(lambda _: self._gates.suspend(claim))

    async def decide(self) -> Cost:
        """A run that has waited for long."""
        run = self._waiting.popleft()
        self._ready.append(run)
        return await timed(lambda _: self._gates.decide(run))

    async def claim(self) -> Cost:
        """A run that was decided at another time."""
        if not self._ready:
            await self.decide()
        run = self._ready.popleft()
        return await timed(lambda _: self._gates.claim(run))

    async def complete(self) -> Cost:
        """The end of a run that was called for."""
        claim = await self._gates.claim((await self._gates.decide(self._waiting.popleft())).id)
        await self._gates.call(claim)
        return await timed(lambda _: self._gates.complete(claim))

    async def list(self) -> Cost:
        """A hundred of those that wait for people, from anywhere on."""
        governor, where = self._gates.governor, {"state": "waiting"}
        store, after = governor.store, run_id()
        return await governor.loop.bridge(timed(lambda _: store.list("run", "default", where, after=after)))

    async def due(self) -> Cost:
        """A hundred of what is due."""
        governor = self._gates.governor
        return await governor.loop.bridge(timed(lambda _: governor.store.due("run", "default")))

    async def inbox(self) -> Cost:
        """A hundred open requests, decoded, as the command line shows them."""
        return await timed(lambda _: self._gates.governor.inbox())


async def measure(report: Report, name: str, place: Path, sizes: Sequence[int], rounds: int) -> None:
    """Steps at all sizes of one store."""
    parties: dict[str, Party] = {}
    async with AsyncExitStack() as stack:
        for size in sizes:
            url = stack.enter_context(fresh_store(name, place))
            gates = Gates(await stack.enter_async_context(governor_over(url)), SNAPSHOT)
            # Each round takes up to three runs that can be decided, and there are rounds to warm up.
            waiting = await fill(gates, size, min(3 * rounds + 10, size - 1), f"{STORES[name]}")
            parties |= {f"{step}, {size:,}": party for step, party in Filled(gates, waiting).steps().items()}
        samples = await interleave(parties, rounds)
    part = f"i {STORES[name]}"
    least, most = min(sizes), max(sizes)
    for step in STEPS:
        for size in sizes:
            report.party(part, f"{step}, {size:,}", samples)
        flat = ratio(samples, f"{step}, {most:,}", f"{step}, {least:,}")
        report.ratio(part, f"{step}, {most:,} / {least:,}", flat, MOST if most > least else None)


def bench_sizes(report: Report, place: Path, effort: float, store: str, sizes: tuple[int, ...]) -> None:
    """Claim, list and decide are flat."""
    most = HELD.get(store, max(sizes))
    fitting = sizes if max(sizes) <= most else (most // 10, most)
    asyncio.run(measure(report, store, place, fitting, max(3, int(ROUNDS * effort))))
