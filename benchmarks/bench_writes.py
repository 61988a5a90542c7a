"""(e) What one gated call costs in durable writes, from the question to the end, resumed by a worker.

Counted by what each write says of itself: the five compare-and-sets of the call (pause, decide, claim, intent, result),
the run's own first and last write where they are not among the five, the writes of notices, the framework's
checkpoints; and the contents that ride in them.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks import bench_suspend_langchain, bench_suspend_openai
from benchmarks.report import Report
from benchmarks.scripted import ALICE, make_governor, refund
from benchmarks.suspend import NamingStore
from governor_agents import Decision, Worker

FIVE = ("pause", "decide", "claim", "intent", "result")
AROUND = ("create", "finish")

Named = Callable[[str], Awaitable[list[dict[str, Any]]]]


async def function(url: str) -> list[dict[str, Any]]:
    """A governed function: its first write is the pause, the one with its result is its last."""
    store = NamingStore(url)
    async with make_governor(store) as governor:
        pending = await governor.govern(name="refund")(refund).ask("4711", 120.0)
        await Worker(governor).run(once=True)
        await governor.decide(pending.approval, Decision.approve(), by=ALICE)
        await Worker(governor).run(once=True)
    if store.writes:
        store.writes[0]["name"] = "pause"
    return store.writes


async def openai_agents(url: str) -> list[dict[str, Any]]:
    return await bench_suspend_openai.named(url, by_worker=True)


async def langchain(url: str) -> list[dict[str, Any]]:
    return await bench_suspend_langchain.named(url, by_worker=True)


WAYS: dict[str, Named] = {"function": function, "OpenAI Agents": openai_agents, "LangChain": langchain}


def bench_durable_writes(report: Report, place: Path, effort: float) -> None:
    """Five for the call itself; everything else is listed apart."""
    for way, named in WAYS.items():
        writes = asyncio.run(named(f"sqlite:///{place / way.replace(' ', '-')}-writes.db"))
        names = Counter(str(write["name"]) for write in writes)
        five = sum(names[name] for name in FIVE)
        report.count("e", f"{way}: compare-and-sets of the gated call", five, exactly=len(FIVE), note=", ".join(FIVE))
        report.count("e", f"{way}: the run's own first and last write", sum(names[name] for name in AROUND))
        # A batch of notices is taken by one write, so that no other worker delivers it too, and ended by another.
        report.count("e", f"{way}: notices: asked and decided, two writes each", names["notice"] + names["run"])
        report.count("e", f"{way}: framework checkpoints", names["checkpoint"])
        contents = sum(1 for write in writes if write["blobs"])
        report.count("e", f"{way}: of all these, writes that carry contents", contents)
        report.details[f"{way} durable writes"] = writes
