"""(c) One gated call on the OpenAI Agents SDK: run, pause, decide, resume with a fresh agent, end.

Beside it, what one writes by hand: the run state's JSON in one SQLite table. Once as simple as it gets, with one commit
(a crash anywhere else loses the run, or runs the tool twice), and once with as many commits as ours, where ours are.
"""

import asyncio
import json
import sqlite3
from pathlib import Path

from agents import Runner, RunState

from benchmarks.measure import connect
from benchmarks.report import Report
from benchmarks.scripted import ALICE, QUESTION, WORDS, around, fresh_id, make_governor
from benchmarks.scripted_openai import CONFIG, GATED, factory, support
from benchmarks.suspend import NamingStore, Way, compare, target
from governor_agents import Decision, Governor, Worker

OURS = "OpenAI Agents: governor-agents"
ONE = "OpenAI Agents: RunState by hand, 1 commit"
MANY = "OpenAI Agents: RunState by hand, {} commits"


async def by_hand(connection: sqlite3.Connection, steps: frozenset[str]) -> None:
    """Suspend and resume without us; ``steps`` are noted durably beside the pause."""
    id = fresh_id("run")

    def note(step: str) -> None:
        if step in steps:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO step VALUES (?, ?)", (id, step))
            connection.execute("COMMIT")

    note("create")
    paused = await Runner.run(AGENT, QUESTION, run_config=CONFIG)
    connection.execute("BEGIN IMMEDIATE")
    text = json.dumps(paused.to_state().to_json())  # half the time and size of the indented `to_string()`
    connection.execute("INSERT INTO paused VALUES (?, ?)", (id, text))
    connection.execute("COMMIT")
    note("decide")
    note("claim")
    ((text,),) = connection.execute("SELECT state FROM paused WHERE id = ?", (id,)).fetchall()
    agent = support(GATED)
    state = await RunState.from_json(agent, json.loads(text))
    for item in state.get_interruptions():
        state.approve(item)
    token = around.set(note)
    try:
        result = await Runner.run(agent, state, run_config=CONFIG)
    finally:
        around.reset(token)
    note("finish")
    if result.final_output != WORDS:
        raise RuntimeError(f"the run came to no good end: {result.final_output}")


AGENT = support(GATED)
STEPS = frozenset({"create", "decide", "claim", "intent", "result", "finish"})


def hand_made(name: str, database: Path, steps: frozenset[str]) -> Way:
    connection = connect(database)
    connection.execute("CREATE TABLE paused (id TEXT PRIMARY KEY, state TEXT NOT NULL)")
    connection.execute("CREATE TABLE step (id TEXT, step TEXT, PRIMARY KEY (id, step))")
    return Way(name, database, lambda: by_hand(connection, steps))


async def governed(governor: Governor) -> None:
    """Suspend and resume with us."""
    run = await governor.run("support", QUESTION)
    await governor.decide(run.approvals[0].id, Decision.approve(), by=ALICE)
    run = await governor.resume(run.id, agent=factory())
    if run.output != WORDS:
        raise RuntimeError(f"the run came to no good end: {run.status} {run.error}")


async def named(url: str, *, by_worker: bool) -> list[dict[str, object]]:
    """Our durable writes by name: resumed by the caller, or by a worker, which delivers the notices too."""
    store = NamingStore(url)
    async with make_governor(store) as governor:
        governor.agent("support")(factory)
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
        made = await named(f"sqlite:///{place / 'openai-named'}{by_worker:d}.db", by_worker=by_worker)
        report.details[f"openai writes, {how}"] = made
        names = ", ".join(str(write["name"]) for write in made)
        report.count("c1", f"durable writes of one gated call, {how}", len(made), note=names)
    database = place / "openai.db"
    many = MANY.format(len(STEPS) + 1)
    async with make_governor(f"sqlite:///{database}") as governor:
        governor.agent("support")(factory)
        ways = [
            Way(OURS, database, lambda: governed(governor)),
            hand_made(ONE, place / "openai-one.db", frozenset()),
            hand_made(many, place / "openai-many.db", STEPS),
        ]
        samples = await compare(report, "c1", ways, effort)
    target(report, "c1", samples, OURS, ONE, None)
    target(report, "c1", samples, OURS, many, 1.3)


def bench_suspend_and_resume_openai(report: Report, place: Path, effort: float) -> None:
    """At most 1.3 times what one writes by hand with the same number of commits."""
    asyncio.run(measure(report, place, effort))
