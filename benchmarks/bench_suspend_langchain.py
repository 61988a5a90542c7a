"""(c) One gated call on LangChain: run, pause, decide, resume with a freshly compiled graph, end.

Beside it LangChain's own middleware with LangGraph's SQLite savers, which keep the conversation and nothing of who may
decide: asynchronous as most use it (``durability`` at its default, and at ``sync`` as ours has it), and synchronous.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiosqlite
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from benchmarks.measure import PRAGMAS
from benchmarks.report import Report
from benchmarks.scripted import ALICE, QUESTION, WORDS, fresh_id, make_governor
from benchmarks.scripted_langchain import support
from benchmarks.suspend import NamingStore, Way, compare, target
from governor_agents import Decision, Governor, Worker
from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver

OURS = "LangChain: governor-agents"
THEIRS = "LangChain: HumanInTheLoop + AsyncSqliteSaver"
DURABLE = "LangChain: HumanInTheLoop + AsyncSqliteSaver, durability=sync"
SYNC = "LangChain: HumanInTheLoop + SqliteSaver"

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": QUESTION}]}
APPROVE: Any = Command(resume={"decisions": [{"type": "approve"}]})


def build(checkpointer: Any) -> Any:
    """LangChain's own way, freshly compiled."""
    return support(checkpointer, [HumanInTheLoopMiddleware(interrupt_on={"refund": True})])


def check(paused: Any, ended: Any) -> None:
    """The loop paused, and came to its good end."""
    if not paused.get("__interrupt__") or ended["messages"][-1].content != WORDS:
        raise RuntimeError(f"the graph came to no good end: {ended}")


def asynchronous(saver: AsyncSqliteSaver, **how: Any) -> Callable[[], Awaitable[None]]:
    """Suspend and resume with the asynchronous saver."""
    graph = build(saver)

    async def once() -> None:
        config: Any = {"configurable": {"thread_id": fresh_id("thread")}}
        paused = await graph.ainvoke(ASK, config, **how)
        check(paused, await build(saver).ainvoke(APPROVE, config, **how))

    return once


def synchronous(saver: SqliteSaver) -> Callable[[], Awaitable[None]]:
    """Suspend and resume with the synchronous saver."""
    graph = build(saver)

    async def once() -> None:
        config: Any = {"configurable": {"thread_id": fresh_id("thread")}}
        paused = graph.invoke(ASK, config)
        check(paused, build(saver).invoke(APPROVE, config))

    return once


async def asynchronous_saver(database: Path) -> AsyncSqliteSaver:
    """A saver on the terms of all parties."""
    connection = await aiosqlite.connect(database)
    saver = AsyncSqliteSaver(connection)
    await saver.setup()
    for pragma in PRAGMAS:
        await connection.execute(pragma)
    return saver


def synchronous_saver(database: Path) -> SqliteSaver:
    """A saver on the terms of all parties."""
    connection = sqlite3.connect(database, check_same_thread=False)
    saver = SqliteSaver(connection)
    saver.setup()
    for pragma in PRAGMAS:
        connection.execute(pragma)
    return saver


def compiled(governor: Governor) -> Any:
    """Our way, freshly compiled."""
    return support(GovernorSaver(governor), [GovernorMiddleware(governor)])


async def governed(governor: Governor) -> None:
    """Suspend and resume with us."""
    run = await governor.run("support", QUESTION)
    await governor.decide(run.approvals[0].id, Decision.approve(), by=ALICE)
    run = await governor.resume(run.id, agent=compiled(governor))
    if run.output != WORDS:
        raise RuntimeError(f"the run came to no good end: {run.status} {run.error} {run.output}")


async def named(url: str, *, by_worker: bool) -> list[dict[str, object]]:
    """Our durable writes by name: resumed by the caller, or by a worker, which delivers the notices too."""
    store = NamingStore(url)
    async with make_governor(store) as governor:
        governor.agent("support")(lambda: compiled(governor))
        if not by_worker:
            await governed(governor)
            return store.writes
        run = await governor.run("support", QUESTION)
        await Worker(governor).run(once=True)
        await governor.decide(run.approvals[0].id, Decision.approve(), by=ALICE)
        await Worker(governor).run(once=True)
        return store.writes


async def measure(report: Report, place: Path, effort: float) -> None:
    for how, by_worker in (("resumed here", False), ("by a worker", True)):
        made = await named(f"sqlite:///{place / 'langchain-named'}{by_worker:d}.db", by_worker=by_worker)
        report.details[f"langchain writes, {how}"] = made
        names = ", ".join(str(write["name"]) for write in made)
        report.count("c2", f"durable writes of one gated call, {how}", len(made), note=names)
    database, other, durable, plain = (place / f"langchain{name}.db" for name in ("", "-async", "-durable", "-sync"))
    savers = [await asynchronous_saver(other), await asynchronous_saver(durable)]
    try:
        async with make_governor(f"sqlite:///{database}") as governor:
            governor.agent("support")(lambda: compiled(governor))
            ways = [
                Way(OURS, database, lambda: governed(governor)),
                Way(THEIRS, other, asynchronous(savers[0])),
                Way(DURABLE, durable, asynchronous(savers[1], durability="sync")),
                Way(SYNC, plain, synchronous(synchronous_saver(plain))),
            ]
            samples = await compare(report, "c2", ways, effort)
    finally:
        for saver in savers:
            await saver.conn.close()  # its thread would keep the process from ending
    for theirs, most in ((THEIRS, 1.3), (SYNC, 1.3), (DURABLE, None)):
        target(report, "c2", samples, OURS, theirs, most)


def bench_suspend_and_resume_langchain(report: Report, place: Path, effort: float) -> None:
    """At most 1.3 times what LangChain's own middleware takes with its own saver."""
    asyncio.run(measure(report, place, effort))
