"""The checkpoint saver: LangGraph's own conformance kit, what is stored, and what is never revived."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Interrupt, Overwrite, Send
from pydantic import BaseModel
from typing_extensions import TypedDict

from governor_agents import Decision, Governor
from governor_agents.adapters.langchain import GovernorSaver
from governor_agents.adapters.langchain.entries import Place
from governor_agents.adapters.langchain.values import StoredError, Values, parse
from governor_agents.errors import ConfigError, SnapshotError, StoreTooNew
from governor_agents.stores.sqlite_thread import DatabaseThread
from tests.integration.langchain_app import App
from tests.integration.ledger import Ledger

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory://", "sqlite:///{}/governor.db"])
async def governor(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Governor]:
    async with Governor([], store=request.param.format(tmp_path)) as governor:
        yield governor


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/governor.db"])
async def test_it_conforms(url: str, tmp_path: Path) -> None:
    made = iter(range(100))

    @checkpointer_test(name="GovernorSaver")
    async def saver() -> AsyncIterator[GovernorSaver]:
        path = tmp_path / str(next(made))
        path.mkdir()
        async with Governor([], store=url.format(path)) as governor:
            yield GovernorSaver(governor)

    report = await validate(saver)
    assert report.passed_all(), {name: result.failures for name, result in report.results.items()}
    assert all(result.detected for result in report.results.values())


# -- values ------------------------------------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float


class Order(BaseModel):
    id: str
    points: list[Point] = []


STORED: list[Any] = [
    None,
    True,
    -(10**30),
    1.0,
    float("inf"),
    "text \ud800 \u2028",
    b"\x00\xff",
    [1, [2, {"a": None}]],
    (1, (2,)),
    {1: "a", (2, 3): "b", None: {"c": 1}},
    {"!": ["message", "HumanMessage", {}]},
    {"!": 1, "other": 2},
    {"lc": 1, "type": "constructor", "id": ["langchain", "x"], "kwargs": {}},
    {"__type__": "x", "__class__": "y"},
    {1, 2},
    frozenset({"a"}),
    deque([1, 2]),
    datetime(2026, 11, 23, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=2))),
    date(2026, 11, 23),
    timedelta(days=-1, microseconds=7),
    UUID(int=7),
    Decimal("1.10"),
    HumanMessage("hi", id="1", name="ada", additional_kwargs={"k": (1,)}),
    HumanMessage([{"type": "text", "text": "hi"}, "plain"]),
    SystemMessage("be kind"),
    AIMessage(
        "",
        id="2",
        tool_calls=[{"name": "pay", "args": {"a": 1.0}, "id": "c1", "type": "tool_call"}],
        invalid_tool_calls=[{"name": "x", "args": "{", "id": "c2", "error": "e", "type": "invalid_tool_call"}],
        usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        response_metadata={"model": "m"},
    ),
    AIMessageChunk("a", tool_call_chunks=[{"name": "pay", "args": '{"a":', "id": "c", "index": 0}]),
    ToolMessage("ok", tool_call_id="c1", status="error", artifact={"rows": [(1, 2)]}),
    ChatMessage("x", role="critic"),
    FunctionMessage("x", name="f"),
    RemoveMessage(id="3"),
    Send("tools", {"a": HumanMessage("hi")}),
    Interrupt({"a": 1}, "id7", response_schema={"type": "object"}),
    Command(update={"messages": [ToolMessage("ok", tool_call_id="c1")]}, goto=[Send("x", 1)]),
    Overwrite([1]),
    Colour.RED,
    Point(1, 2.0),
    Order(id="7", points=[Point(1, 2.0)]),
]


@pytest.mark.parametrize("value", STORED, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    values = Values([Colour, Point, Order])
    found = values.loads(values.dumps(value))
    assert found == value
    assert type(found) is type(value)
    json.loads(values.dumps(value))


def test_an_exception_comes_back_as_text() -> None:
    values = Values()
    found = values.loads(values.dumps(ValueError("no")))
    assert type(found) is StoredError and str(found) == "ValueError: no"


class Secret:
    def __str__(self) -> str:
        return "a secret"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"a": [1, Secret()]}, r"state\['a'\]\[1\] is a .*Secret"),
        (HumanMessage("x", additional_kwargs={"k": Secret()}), r"state\['additional_kwargs'\]\['k'\] is a .*Secret"),
        (Send("x", {"s": Secret()}), r"state\.arg\['s'\] is a .*Secret"),
        (Order(id="1"), "Order"),
        (Colour.RED, "Colour"),
        (Secret, "type"),
    ],
)
def test_another_value_is_refused_by_type_and_place(value: Any, named: str) -> None:
    with pytest.raises(SnapshotError, match=named):
        Values().dumps(value, "state")
    assert Values().loads(Values().dumps(value, lenient=True)) is not None


def test_only_classes_with_fields_may_be_added() -> None:
    with pytest.raises(ConfigError, match="Secret"):
        Values([Secret])
    with pytest.raises(ConfigError, match="two types"):
        Values([Point, type("Point", (BaseModel,), {"__qualname__": Point.__qualname__})])


HOSTILE = [
    {"!": ["type", "os.system", {"command": "id"}]},
    {"!": ["type", "Point", {"x": 1}]},
    {"!": ["enum", "Colour", "blue"]},
    {"!": ["message", "Secret", {}]},
    {"!": ["message", "HumanMessage", {"content": {"no": "text"}}]},
    {"!": ["constructor", "builtins", "eval"]},
    {"!": ["send"]},
    {"!": ["bytes", "zz"]},
    {"!": ["bytes", "00"], "more": 1},
    {"!": "bytes"},
    {"!": []},
    {"!": [["dict"]]},
    {"!": ["set", [[]]]},
    {"!": ["timedelta", [1e400]]},
    {"!": ["dict", [[[1], 2]]]},
]


@pytest.mark.parametrize("plain", HOSTILE, ids=str)
def test_marks_that_nobody_wrote_are_refused(plain: Any) -> None:
    with pytest.raises(SnapshotError, match="not readable"):
        Values([Colour, Point]).load(plain)


@pytest.mark.parametrize("stored", [b"{", b"\x80\x04.", '{"a":' * 100_000])
def test_what_is_no_json_is_refused(stored: Any) -> None:
    with pytest.raises(SnapshotError, match="not readable"):
        parse(stored)


def test_the_serializer_reads_only_its_own_kind(ledger: Ledger) -> None:
    saver = App("memory://", ledger, []).saver
    assert saver.serde.loads_typed(saver.serde.dumps_typed((1, 2))) == (1, 2)
    with pytest.raises(SnapshotError, match="pickle"):
        saver.serde.loads_typed(("pickle", b"cos\nsystem\n(S'id'\ntR."))
    assert saver.with_allowlist([("os", "system")]) is saver


# -- threads -----------------------------------------------------------------------------------------------------------


class State(TypedDict):
    value: Any


def graph(saver: GovernorSaver, value: Any) -> Any:
    built = StateGraph(State)
    built.add_node("one", lambda state: {"value": value})
    built.add_node("two", lambda state: {"value": [state["value"]]})
    built.add_edge(START, "one")
    built.add_edge("one", "two")
    return built.compile(checkpointer=saver)


CONFIG: Any = {"configurable": {"thread_id": "t1"}}


async def test_a_value_that_cannot_be_stored_is_told_when_it_is_saved(governor: Governor) -> None:
    with pytest.raises(SnapshotError, match=r"Secret, which is not stored"):
        await graph(GovernorSaver(governor), Secret()).ainvoke({"value": 1}, CONFIG, durability="sync")


async def test_a_type_that_was_named_is_stored(governor: Governor) -> None:
    saver = GovernorSaver(governor, types=[Order, Point])
    await graph(saver, Order(id="7")).ainvoke({"value": 1}, CONFIG)
    state = await graph(saver, None).aget_state(CONFIG)
    assert state.values == {"value": [Order(id="7")]}


async def test_history_and_time_travel_work(governor: Governor) -> None:
    made = graph(GovernorSaver(governor), "x")
    await made.ainvoke({"value": 1}, CONFIG)
    history = [state async for state in made.aget_state_history(CONFIG)]
    assert [state.values for state in history] == [{"value": ["x"]}, {"value": "x"}, {"value": 1}, {}]
    assert [state.next for state in history] == [(), ("two",), ("one",), ("__start__",)]
    await made.aupdate_state(history[1].config, {"value": "edited"})
    assert (await made.ainvoke(None, CONFIG)) == {"value": ["edited"]}


def test_the_synchronous_methods_do_the_same(tmp_path: Path) -> None:
    governor = Governor([], store=f"sqlite:///{tmp_path}/governor.db")
    saver = GovernorSaver(governor)
    made = graph(saver, "x")
    assert made.invoke({"value": 1}, CONFIG) == {"value": ["x"]}
    assert next(state.values for state in made.get_state_history(CONFIG)) == {"value": ["x"]}
    saver.copy_thread("t1", "t2")
    saver.prune(["t1"])
    assert len(list(saver.list(CONFIG))) == 1
    saver.delete_thread("t1")
    assert saver.get_tuple(CONFIG) is None
    assert len(list(saver.list({"configurable": {"thread_id": "t2"}}, limit=2))) == 2
    saver.delete_for_runs(["nobody"])
    governor.close_sync()


async def test_the_order_of_checkpoints_does_not_hang_on_anybodys_clock(governor: Governor) -> None:
    saver = GovernorSaver(governor)
    for id in ("1f0", "1e0", "1d0"):
        await saver.aput(
            {"configurable": {"thread_id": "t1", "checkpoint_ns": ""}},
            {"id": id, "channel_values": {}},
            {"source": "loop"},
            {},
        )
    found = await saver.aget_tuple(CONFIG)
    assert found is not None and found.checkpoint["id"] == "1d0"


async def test_writes_that_come_before_their_checkpoint_are_found_on_it(governor: Governor) -> None:
    saver = GovernorSaver(governor)
    running: Any = {"thread_id": "t1", "checkpoint_ns": "", "__pregel_x": 1}
    await saver.aput_writes({"configurable": {**running, "checkpoint_id": "1f2"}}, [("value", "early")], "task")
    for id, parent in (("1f1", None), ("1f2", "1f1"), ("1f3", "1f2")):
        await saver.aput(
            {"configurable": {**running, "checkpoint_id": parent}},
            {"id": id, "channel_values": {}},
            {"source": "x"},
            {},
        )
        await saver.aput_writes({"configurable": {**running, "checkpoint_id": id}}, [("value", id)], id)
    found = {each.checkpoint["id"]: each.pending_writes async for each in saver.alist(CONFIG)}
    assert found == {
        "1f3": [("1f3", "value", "1f3")],
        "1f2": [("1f2", "value", "1f2"), ("task", "value", "early")],
        "1f1": [("1f1", "value", "1f1")],
    }


async def test_two_savers_on_one_store_do_not_lose_each_others_checkpoints(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/governor.db"
    async with Governor([], store=url) as one, Governor([], store=url) as two:
        savers = [GovernorSaver(one), GovernorSaver(two)]
        place: Any = {"configurable": {"thread_id": "t1", "checkpoint_ns": ""}}
        ids = [f"{n:03x}" for n in range(20)]
        await asyncio.gather(
            *(
                savers[at % 2].aput(place, {"id": id, "channel_values": {}}, {"source": "loop"}, {})
                for at, id in enumerate(ids)
            )
        )
        found = [each.checkpoint["id"] async for each in savers[0].alist(place)]
        assert sorted(found) == ids


async def test_the_tenants_of_a_store_do_not_share_threads(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/governor.db"
    async with Governor([], store=url, tenant="a") as one, Governor([], store=url, tenant="b") as two:
        await graph(GovernorSaver(one), "x").ainvoke({"value": 1}, CONFIG)
        assert await GovernorSaver(two).aget_tuple(CONFIG) is None


async def test_a_thread_of_a_newer_version_is_refused(governor: Governor) -> None:
    saver = GovernorSaver(governor)
    await graph(saver, "x").ainvoke({"value": 1}, CONFIG)

    async def age() -> None:
        (record, *_) = await governor.store.list("thread", governor.tenant)
        body = record.body.replace(b'{"v":1,', b'{"v":2,', 1)
        await governor.store.swap(type(record)(**{**_fields(record), "body": body}), op="x")

    await governor.loop.bridge(age())
    with pytest.raises(StoreTooNew, match="schema 2"):
        await saver.aget_tuple(CONFIG)


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in ("kind", "tenant", "id", "body", "index", "due", "v")}


async def test_the_conversation_and_its_calls_are_in_the_store(tmp_path: Path, ledger: Ledger) -> None:
    app = App(f"sqlite:///{tmp_path}/governor.db", ledger, [[("pay", {"amount": 100})]])
    run = await app.governor.run("support", "a question")

    async def bodies() -> bytes:
        return b"".join(record.body for record in await app.governor.store.list("thread", "default"))

    stored = await app.governor.loop.bridge(bodies())
    assert b"a question" in stored and b'"amount":100' in stored and run.id.encode() in stored


async def test_runs_of_langgraph_can_be_deleted_beside_conversations(tmp_path: Path, ledger: Ledger) -> None:
    app = App(f"sqlite:///{tmp_path}/governor.db", ledger, [])
    await app.governor.run("support", "hi", conversation="t1")
    await app.saver.adelete_for_runs(["nobody"])
    assert len([found async for found in app.saver.alist(None)]) == 3


async def test_a_write_that_waits_becomes_durable_by_itself(governor: Governor, monkeypatch: Any) -> None:
    from governor_agents.adapters.langchain import threads

    monkeypatch.setattr(threads, "LINGER", 0.0)
    saver = GovernorSaver(governor)
    config: Any = {"configurable": {"thread_id": "t1", "checkpoint_ns": "", "checkpoint_id": "1f0", "__pregel_x": 1}}
    await saver.aput_writes(config, [("value", 1)], "task")
    shared = saver.threads
    while shared.unsettled("t1"):  # noqa: ASYNC110
        await asyncio.sleep(0)
    await governor.loop.bridge(shared.flush(Place("t1", "")))

    async def kept() -> int:
        return len(await governor.store.list("thread", governor.tenant))

    assert await governor.loop.bridge(kept()) == 1


async def test_a_pause_and_a_resume_take_eleven_commits(tmp_path: Path, ledger: Ledger, monkeypatch: Any) -> None:
    commits = 0
    commit = DatabaseThread._commit

    def counted(self: Any, *args: Any) -> Any:
        nonlocal commits
        outcomes, changed = commit(self, *args)
        commits += changed
        return outcomes, changed

    app = App(f"sqlite:///{tmp_path}/governor.db", ledger, [[("pay", {"amount": 100})]])
    await app.governor.open()
    monkeypatch.setattr(DatabaseThread, "_commit", counted)
    run = await app.decide(await app.governor.run("support", "go"), Decision.approve())
    assert (await app.governor.resume(run.id)).status == "completed"
    assert commits <= 11
