"""(h) How many approved calls a second 1, 4 and 16 worker processes run on each store.

All calls are asked for and approved before the first worker begins; then each is claimed, run between intent and
result, and its notices are delivered: five durable writes, two of them of notices.
"""

import asyncio
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.gates import governor_over
from benchmarks.report import Report
from benchmarks.scripted import ALICE
from benchmarks.stores import STORES, fresh, server
from benchmarks.working import CONCURRENCY, refunds
from governor_agents import Decision, Governor

WORKERS = (1, 4, 16)
CALLS = 400
PATIENCE = 600.0
ROOT = Path(__file__).resolve().parents[1]


async def approved(governor: Governor, count: int) -> None:
    """So many calls that may run."""
    asked = refunds(governor)
    room = asyncio.Semaphore(16)

    async def one(at: int) -> None:
        async with room:
            pending = await asked.ask(str(at))
            await governor.decide(pending.approval, Decision.approve(), by=ALICE)

    await asyncio.gather(*(one(at) for at in range(count)))


async def starts(workers: Sequence[asyncio.subprocess.Process], count: int) -> list[int]:
    """When the tool started, in nanoseconds, each time; workers are told to stop after ``count`` of them."""
    found: list[int] = []

    async def listen(worker: asyncio.subprocess.Process) -> None:
        assert worker.stdout is not None
        while line := await worker.stdout.readline():
            found.append(int(line))
            if len(found) == count:
                for other in workers:
                    other.send_signal(signal.SIGTERM)

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(listen(worker) for worker in workers))
    return sorted(found)


@asynccontextmanager
async def processes(url: str, count: int) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """So many workers, each ready to begin; none is left behind."""
    started: list[asyncio.subprocess.Process] = []
    try:
        for _ in range(count):
            command = [sys.executable, "-m", "benchmarks.working", url]
            started.append(await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE))
        for worker in started:
            assert worker.stdout is not None
            if await worker.stdout.readline() != b"ready\n":
                raise RuntimeError("a worker did not begin; what it said stands above")
        yield started
    finally:
        for worker in started:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()


async def race(url: str, count: int, workers: int) -> float:
    """Calls a second that so many workers run. Raises `RuntimeError` when one ran twice or not at all."""
    async with governor_over(url) as governor:
        await approved(governor, count)
        async with processes(url, workers) as started:
            begun = time.time_ns()
            for worker in started:
                assert worker.stdin is not None
                worker.stdin.write(b"go\n")
            times = await starts(started, count)
        ended = await governor.list_runs(state="completed", limit=count + 1)
    if (len(times), len(ended)) != (count, count):
        raise RuntimeError(f"of {count} calls, {len(times)} were begun and {len(ended)} completed")
    return count / (times[-1] - begun) * 1e9


async def measure(report: Report, name: str, place: Path, workers: Sequence[int], count: int) -> None:
    """One store, with more and more workers."""
    with server(name, place) as address:
        for many in workers:
            rate = await race(fresh(name, address), count, many)
            note = f"{count} calls, each worker a process with {CONCURRENCY} in hand"
            what = f"approved calls run to their end, {many} worker{'s' if many > 1 else ''}"
            report.count(f"h {STORES[name]}", what, rate, "/s", note=note)


def bench_workers(report: Report, place: Path, effort: float, store: str) -> None:
    """Each call once, whatever the number of workers."""
    asyncio.run(measure(report, store, place, WORKERS, max(40, int(CALLS * effort))))
