"""A snapshot above the limit: refused before the pause, with what was large, and nobody is asked."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Runner, function_tool
from langchain_core.tools import tool

from governor_agents import Decision, Governor, PolicySet, Run, Worker
from governor_agents.adapters.openai_agents import govern
from governor_agents.errors import EditRefused, SnapshotTooLarge
from tests.integration import langchain_app, openai_agents_app
from tests.integration.langchain_app import ANN, App

pytestmark = pytest.mark.anyio

LIMIT, LARGE = 60_000, "800KB"
SECRET = "the secret that lay in what was looked up"
POLICY = """
version: 1
approvals: {approvers: ["local:ann"], channels: [terminal]}
tools:
  read_all: {read_only: true}
rules:
  - {name: payments, tool: [pay, send], then: require_approval}
"""
TURNS: list[Any] = [[("read_all", {"about": "everything"})], [("pay", {"amount": 100})]]

Make = Callable[..., Governor]


def read_all(about: str) -> str:
    """Read everything about something."""
    return f"{SECRET} about {about} " * 2000


def openai(store: str, ledger: Path, **settings: Any) -> Governor:
    governor = Governor(PolicySet.from_text(POLICY), store=store, **settings)
    governor.agent("support")(lambda: bare_openai(ledger))
    return governor


def bare_openai(ledger: Path) -> Agent[Any]:
    @function_tool
    def pay(amount: int) -> str:
        """Pay."""
        openai_agents_app.Ledger(ledger).write(f"pay {amount}")
        return "paid"

    return Agent(name="Support", model=openai_agents_app.Scripted(*TURNS), tools=[function_tool(read_all), pay])


def langchain(store: str, ledger: Path, **settings: Any) -> Governor:
    return app(store, ledger, **settings).governor


def app(store: str, ledger: Path, **settings: Any) -> App:
    tools = [langchain_app.make_tools(langchain_app.Ledger(ledger))[0], tool(read_all)]
    return App(store, langchain_app.Ledger(ledger), TURNS, policy=POLICY, tools=tools, **settings)


MAKERS: dict[str, Make] = {"openai-agents": openai, "langchain": langchain}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    maker = MAKERS[request.param]
    return lambda **settings: maker(f"sqlite:///{tmp_path}/governor.db", tmp_path / "ledger", **settings)


async def nobody_was_asked(governor: Governor, run: Run, ledger: Path) -> None:
    """The run has ended, and no approval, notice or effect came of it."""
    assert (run.status, run.approvals, run.outbox, run.snapshot) == ("failed", (), (), None)
    assert await governor.inbox() == [] and langchain_app.Ledger(ledger).lines == []
    assert [event["what"] for event in await governor.timeline(run.id)][-1] == "run.failed"
    told(run.error)


def told(message: str) -> None:
    """What was large is said by tool, place and size, and nothing of what it was."""
    assert re.search(r"(output|content) of tool `read_all`: 1\d\d\.\d KB", message), message
    assert "and the limit is 60.0 KB" in message and "max_snapshot" in message
    assert SECRET not in message and "everything" not in message and len(message) < 600


async def test_a_pause_that_is_too_large_ends_the_run_and_asks_nobody(make: Make, tmp_path: Path) -> None:
    """Whoever started the run is told, the record says the same, and the gated tool has not run."""
    async with make(max_snapshot=LIMIT) as governor:
        with pytest.raises(SnapshotTooLarge) as raised:
            await governor.run("support", "go")
        told(str(raised.value))
        [run] = await governor.list_runs()
        await nobody_was_asked(governor, run, tmp_path / "ledger")


async def test_a_worker_ends_such_a_run_and_goes_on(make: Make, tmp_path: Path) -> None:
    """It is not tried again: it would be no smaller."""
    async with make(max_snapshot=LIMIT) as governor:
        queued = await governor.submit("support", "go")
        await Worker(governor).run(once=True)
        await nobody_was_asked(governor, await governor.get(queued.id), tmp_path / "ledger")
        assert await Worker(governor).run(once=True) == 0


@pytest.mark.parametrize("settings", [{"max_snapshot": LARGE}, {}], ids=["a higher limit", "the default"])
async def test_within_the_limit_the_same_run_waits(make: Make, tmp_path: Path, settings: dict[str, Any]) -> None:
    """The control: it is the limit alone that ends it."""
    async with make(**settings) as governor:
        run = await governor.run("support", "go")
        assert (run.status, [approval.tool for approval in run.approvals]) == ("waiting", ["pay"])
        await governor.decide(run.approvals[0].id, Decision.approve(), by=ANN)
        assert (await governor.resume(run.id)).status == "completed"
        assert (tmp_path / "ledger").read_text().startswith("pay 100")


async def test_a_pause_of_ones_own_openai_loop_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    """`suspend` raises; there was no record before, and there is none after."""
    async with openai(f"sqlite:///{tmp_path}/governor.db", tmp_path / "ledger", max_snapshot=LIMIT) as governor:
        result = await Runner.run(govern(bare_openai(tmp_path / "ledger"), governor), "go")
        with pytest.raises(SnapshotTooLarge) as raised:
            await governor.suspend(result)
        told(str(raised.value))
        assert await governor.list_runs() == [] and await governor.inbox() == []
        governor._keeping = Governor(store="memory://", max_snapshot=LARGE)._keeping
        assert (await governor.suspend(result)) is not None  # the control


async def test_a_langgraph_loop_of_ones_own_ends_as_failed(tmp_path: Path) -> None:
    """Its run has a record from the first checkpoint on; the one that is too large ends it there."""
    made = app(f"sqlite:///{tmp_path}/governor.db", tmp_path / "ledger", max_snapshot=LIMIT)
    async with made.governor as governor:
        with pytest.raises(SnapshotTooLarge):
            await made.agent.ainvoke({"messages": [("user", "go")]}, {"configurable": {"thread_id": "t1"}})
        await nobody_was_asked(governor, await governor.get("t1/1"), tmp_path / "ledger")


def test_a_synchronous_langgraph_loop_ends_as_failed_too(tmp_path: Path) -> None:
    """The same through the saver's blocking methods."""
    made = app(f"sqlite:///{tmp_path}/governor.db", tmp_path / "ledger", max_snapshot=LIMIT)
    with pytest.raises(SnapshotTooLarge):
        made.agent.invoke({"messages": [("user", "go")]}, {"configurable": {"thread_id": "t1"}})
    assert made.governor.get_sync("t1/1").status == "failed"
    made.governor.close_sync()


async def test_an_input_that_is_too_large_opens_no_run(tmp_path: Path) -> None:
    """A thread's first checkpoint holds the input."""
    made = app(f"sqlite:///{tmp_path}/governor.db", tmp_path / "ledger", max_snapshot=LIMIT)
    async with made.governor as governor:
        with pytest.raises(SnapshotTooLarge, match=r"messages"):
            await made.agent.ainvoke({"messages": [("user", "x" * LIMIT)]}, {"configurable": {"thread_id": "t1"}})
        assert await governor.list_runs() == [] and not (tmp_path / "ledger").exists()


async def test_arguments_of_a_function_and_those_of_an_edit_have_the_same_limit(tmp_path: Path) -> None:
    """Before anybody is asked; an edit is refused, and what was asked stands."""
    async with openai(f"sqlite:///{tmp_path}/governor.db", tmp_path / "ledger", max_snapshot=LIMIT) as governor:

        @governor.govern(name="send")
        async def send(text: str, notes: list[dict[str, str]]) -> str:
            return "sent"

        with pytest.raises(SnapshotTooLarge, match=r"the call of send has 89\.9 KB.*: notes\[1\]\.…: 80\.0 KB") as no:
            await send.ask(SECRET * 10, [{"a": "b"}, {SECRET: "x" * 80_000}, {"c": "y" * 9_400}])
        assert SECRET not in str(no.value) and await governor.list_runs() == []
        pending = await send.ask("short", [])
        with pytest.raises(EditRefused, match=r"80\.0 KB"):
            await governor.decide(pending.approval, Decision.edit({"text": "x" * 80_000, "notes": []}), by=ANN)
        assert (await governor.get(pending.run)).status == "waiting"
