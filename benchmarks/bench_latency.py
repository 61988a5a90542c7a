"""(d) From a decision in this process to the start of the tool in a worker's process, over one SQLite file.

The worker is the real one, with its defaults. It waits when the decision comes, as it would after hours. Decisions come
at random moments, so that they meet every phase of the worker's polling. Then it is left alone, and its use is read.
"""

import asyncio
import os
import random
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.measure import Spread, percentile
from benchmarks.report import Report
from benchmarks.scripted import ALICE, QUESTION, make_governor
from benchmarks.scripted_openai import factory
from governor_agents import Decision, Run

ROOT = Path(__file__).resolve().parents[1]
DECISIONS, IDLE = 100, 20.0
PATIENCE = 60.0


@asynccontextmanager
async def worker(url: str) -> AsyncIterator[Process]:
    """A worker that waits; asked to end at the end."""
    command = (sys.executable, "-m", "benchmarks.waiting_worker", url)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE)
    try:
        if await line(process) != "ready":
            raise RuntimeError("the worker did not start")
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), PATIENCE)


async def line(process: Process) -> str:
    """The next line of the worker."""
    if process.stdout is None:
        raise RuntimeError("the worker has no output")
    return (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode().strip()


def cpu_seconds(process: Process) -> float:
    """What a process used of a core so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def decide_all(url: str, process: Process, decisions: int) -> tuple[list[float], list[float]]:
    """Seconds from each decision to its tool, from when it was given and from when it was durable."""
    given, durable = [], []
    chance = random.Random(4711)
    async with make_governor(url) as governor:
        governor.agent("support")(factory)
        waiting: list[Run] = [await governor.run("support", QUESTION) for _ in range(decisions)]
        await asyncio.sleep(2.0)  # until the worker has delivered its notices
        for run in waiting:
            await asyncio.sleep(chance.uniform(0.1, 0.3))
            begun = time.time_ns()
            await governor.decide(run.approvals[0].id, Decision.approve(), by=ALICE)
            done = time.time_ns()
            started = int(await line(process))
            given.append((started - begun) / 1e9)
            durable.append((started - done) / 1e9)
        for run in waiting:
            run = await governor.wait(run.id, timeout=PATIENCE)
            if run.status != "completed":
                raise RuntimeError(f"run {run.id} is {run.status}: {run.error}")
    return given, durable


async def idle(process: Process, seconds: float) -> float:
    """The share of a core that the worker uses when there is nothing to do."""
    await asyncio.sleep(2.0)
    begun, used = time.monotonic(), cpu_seconds(process)
    await asyncio.sleep(seconds)
    return (cpu_seconds(process) - used) / (time.monotonic() - begun)


async def measure(report: Report, place: Path, effort: float) -> None:
    url = f"sqlite:///{place / 'latency.db'}"
    async with worker(url) as process:
        given, durable = await decide_all(url, process, max(10, int(DECISIONS * effort)))
        report.details["decision to tool start, seconds"] = given
        report.time("d", "decision given to tool start", Spread.of(given))
        report.limit("d", "decision given to tool start, p95", percentile(given, 95) * 1e3, "ms", 150.0)
        report.count("d", "decision given to tool start, slowest", max(given) * 1e3, "ms", note=f"of {len(given)}")
        report.time("d", "decision durable to tool start", Spread.of(durable))
        if Path("/proc/self/stat").exists():  # noqa: ASYNC240 - a look at the machine, once
            share = await idle(process, IDLE * effort)
            report.limit("d", "idle worker", share * 100, "% of a core", 1.0)


def bench_decision_to_tool_start(report: Report, place: Path, effort: float) -> None:
    """95 of 100 decisions reach their tool within 150 ms; a worker with nothing to do uses under 1 % of a core."""
    asyncio.run(measure(report, place, effort))
