"""(j) One conversation of 100 turns on LangGraph, kept by its savers and by ours: time and bytes.

The same graph, the same words, ``durability="sync"`` for all: each checkpoint is durable before the next step. The
savers take turns, turn by turn, each over a server of its own. With ours each turn is a run with its record and audit
events, so that a worker can take it up where a process died; the others keep checkpoints alone.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from benchmarks import savers
from benchmarks.gates import words
from benchmarks.measure import Cost, ratio, timed
from benchmarks.report import Report
from benchmarks.savers import Kept
from benchmarks.scripted import fresh_id

TURNS = 100
QUESTION, ANSWER = 200, 800
"""Characters."""

SQLITE, MONGODB, REDIS = "AsyncSqliteSaver", "langgraph-checkpoint-mongodb", "langgraph-checkpoint-redis"
OURS = {
    "sqlite": "GovernorSaver, SQLite",
    "redis": "GovernorSaver, Redis",
    "mongodb": "GovernorSaver, MongoDB test server",
}
THEIRS = {"sqlite": SQLITE, "redis": REDIS, "mongodb": MONGODB}
PEERS: dict[str, Callable[[Path], AbstractAsyncContextManager[Kept]]] = {
    "sqlite": savers.sqlite,
    "redis": savers.plain_redis,
    "mongodb": savers.mongodb,
}


class Talks(BaseChatModel):
    """Answers in words."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        text = words(ANSWER)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=text, id=fresh_id("msg")))])


def talk(saver: Any) -> Callable[[int, int], Any]:
    """One more turn of a conversation, given its place."""
    graph: Any = create_agent(Talks(), tools=[], checkpointer=saver, name="support")
    config = {"configurable": {"thread_id": fresh_id("thread")}}

    async def turn(at: int, _: int) -> None:
        question = {"messages": [{"role": "user", "content": words(QUESTION)}]}
        after = await graph.ainvoke(question, config, durability="sync")
        if len(after["messages"]) != 2 * at + 2:
            raise RuntimeError(f"after turn {at + 1} there are {len(after['messages'])} messages")

    return turn


async def measure(report: Report, place: Path, stores: Sequence[str], turns: int) -> None:
    """All savers that start, turn by turn."""
    kept: dict[str, Kept] = {}
    async with AsyncExitStack() as stack:
        for store in stores:
            kept[OURS[store]] = await stack.enter_async_context(savers.ours(store, place))
            try:
                kept[THEIRS[store]] = await stack.enter_async_context(PEERS[store](place))
            except savers.DoesNotStart as error:
                report.details[THEIRS[store]] = str(error)
                report.count("j", f"{THEIRS[store]} starts", 0, note=str(error))
        samples = await converse({name: one.saver for name, one in kept.items()}, turns)
        for name, one in kept.items():
            total = sum(cost.seconds for cost in samples[name])
            report.count(
                "j", f"{name}: {turns} turns", total, "s", note=f"{sum(c.cpu for c in samples[name]):.1f} s of a core"
            )
            for what, size in one.weigh().items():
                report.count("j", f"{name}: {what}", size / 2**20, "MiB")
    for store in stores:
        if THEIRS[store] in kept:
            report.ratio("j", f"{OURS[store]} / {THEIRS[store]}", ratio(samples, OURS[store], THEIRS[store]))


async def converse(savers: dict[str, Any], turns: int) -> dict[str, list[Cost]]:
    """What each turn took with each saver."""
    talks = {name: talk(saver) for name, saver in savers.items()}
    samples: dict[str, list[Cost]] = {name: [] for name in talks}
    names = list(talks)
    for at in range(turns):
        random.shuffle(names)
        for name in names:
            samples[name].append(await timed(partial(talks[name], at)))
    return samples


def bench_conversation(report: Report, place: Path, effort: float, stores: Sequence[str]) -> None:
    """One conversation, kept by each."""
    asyncio.run(measure(report, place, [store for store in stores if store in OURS], max(4, int(TURNS * effort))))
