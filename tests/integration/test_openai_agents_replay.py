"""A stretch of an OpenAI agent that died, driven again: handoffs, streams, server-side conversations, agents side by side.

The worker dies here without a signal: it hangs in a tool that reads while its lease is over and somebody else goes on.
Real deaths are in ``tests/faults``.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    ModelProvider,
    ModelResponse,
    ModelRetrySettings,
    ModelSettings,
    RunConfig,
    SQLiteSession,
    function_tool,
    output_guardrail,
    retry_policies,
)
from pydantic import BaseModel

from governor_agents import Governor, PolicySet, Run
from governor_agents.core import driving
from governor_agents.core.calls import Tool
from governor_agents.core.records import CallState
from governor_agents.responses import Responses
from tests.integration.ledger import Ledger
from tests.integration.openai_agents_app import ALLOW, ASK, Scripted, Table, Turn, make_tools, states

pytestmark = pytest.mark.anyio


@dataclass
class World:
    """What two processes share: the store, the ledger of effects, and what models were asked."""

    folder: Path
    asked: list[str] = field(default_factory=list)
    hung: asyncio.Event = field(default_factory=asyncio.Event)
    looks: int = 0

    @property
    def ledger(self) -> Ledger:
        """The witness of effects."""
        return Ledger(self.folder / "ledger")

    @property
    def ran(self) -> list[str]:
        """Every effect."""
        return self.ledger.lines

    def model(self, name: str, *turns: Turn) -> "Asked":
        """A scripted model whose questions are counted."""
        model = Asked(*turns)
        model.name, model.asked = name, self.asked
        return model

    def tools(self, hang: bool) -> dict[str, Any]:
        """The tools of one process; in the one that dies, ``hang`` never returns."""

        @function_tool(name_override="hang")
        async def hangs() -> str:
            if hang:
                self.hung.set()
                await asyncio.Event().wait()
            return "went on"

        @function_tool
        async def peek() -> str:
            self.looks += 1
            return f"look number {self.looks}"

        @function_tool
        async def stumble() -> str:
            self.looks += 1
            raise ValueError(f"stumble number {self.looks}")

        return {**make_tools(self.ledger), "hang": hangs, "peek": peek, "stumble": stumble}

    def governor(self, build: Callable[[dict[str, Any]], Any], hang: bool = False) -> Governor:
        """One process."""
        reads = {name: Tool(name, read_only=True) for name in ("look", "peek", "stumble", "hang")}
        allowed = Table(note=ALLOW, refund=ASK, **{f"expert{n}": ALLOW for n in ("", "_1", "_2")})
        governor = Governor(PolicySet([allowed], tools=reads), store=f"sqlite:///{self.folder}/g.db", secret=b"s")
        governor.agent("a")(lambda: build(self.tools(hang)))
        return governor

    @asynccontextmanager
    async def died(self, build: Callable[[dict[str, Any]], Any], *, streamed: bool = False) -> AsyncIterator[Run]:
        """A run whose worker hangs in ``hang``, and whose lease was found to be over."""
        first = self.governor(build, hang=True)
        task = asyncio.ensure_future(first.run_streamed("a", "go").run() if streamed else first.run("a", "go"))
        hung = asyncio.ensure_future(self.hung.wait())
        await asyncio.wait({task, hung}, return_when=asyncio.FIRST_COMPLETED)
        assert not task.done(), task
        [run] = await first.list_runs()
        over = await first.loop.bridge(first.runs.change(run.id, lambda run, now: driving.tick(run, now + 1000)))
        try:
            yield over.run
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
            await first.close()


class Asked(Scripted):
    """Notes each question; ``ids`` are what servers call their responses, ``fails`` how often an answer fails first."""

    name = ""
    asked: list[str]
    ids = False
    fails = 0

    def _answer(self, input: Any) -> list[Any]:
        if self.fails:
            self.fails -= 1
            raise openai.APIConnectionError(request=httpx.Request("POST", "https://provider.example"))
        self.asked.append(self.name)
        return super()._answer(input)

    async def get_response(self, *args: Any, previous_response_id: Any = None, **kwargs: Any) -> ModelResponse:
        answer = await super().get_response(*args, **kwargs)
        if self.ids:
            self.asked[-1] += f" after {previous_response_id}"
            answer.response_id = f"resp_{len(self.asked)}"
        return answer


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def goes_on(world: World, run: Run, build: Callable[[dict[str, Any]], Any]) -> Run:
    """A fresh process takes the run over."""
    async with world.governor(build) as second:
        return await second.resume(run.id)


# -- what is given back -------------------------------------------------------------------------------------------------


async def test_a_handoff_is_given_back_and_the_target_goes_on(world: World) -> None:
    """The first response is a handoff, which no tool of ours follows; it is durable with the target's first call."""

    def build(tools: dict[str, Any]) -> Agent[Any]:
        turns: list[Turn] = [[("", {})], [("note", {"text": "n"})], [("hang", {})]]
        billing = Agent(name="Billing", model=world.model("billing", *turns), tools=[tools["note"], tools["hang"]])
        return Agent(name="A", model=world.model("a", [("transfer_to_billing", {})]), handoffs=[billing])

    async with world.died(build) as run:
        assert [kept.ordinal for kept in run.responses] == [0, 1, 2]
        run = await goes_on(world, run, build)
    assert (run.status, run.responses, world.ran) == ("completed", (), ["note n"])
    assert world.asked == ["a", "billing", "billing", "billing"]


async def test_agents_side_by_side_are_given_their_own_answers(world: World) -> None:
    """Two agents in one turn, the second asks more often; their loops have chains of their own."""

    def build(tools: dict[str, Any]) -> Agent[Any]:
        inner: list[Any] = []
        for n, turns in (("1", ["one"]), ("2", ["two", "three"])):
            script: list[Turn] = [[("note", {"text": text})] for text in turns]
            agent = Agent(name=f"E{n}", model=world.model(f"e{n}", *script), tools=[tools["note"]])
            inner.append(agent.as_tool(f"expert_{n}", ""))
        outer = world.model("a", [("expert_1", {"input": "x"}), ("expert_2", {"input": "x"})], [("hang", {})])
        return Agent(name="A", model=outer, tools=[*inner, tools["hang"]])

    async with world.died(build) as run:
        assert sorted(len(kept.chain) for kept in run.responses) == [0, 0, 1, 1, 1, 1, 1]
        assert len({kept.chain for kept in run.responses}) == 3
        run = await goes_on(world, run, build)
    assert (run.status, sorted(world.ran)) == ("completed", ["note one", "note three", "note two"])
    assert sorted(world.asked) == ["a"] * 3 + ["e1"] * 2 + ["e2"] * 3


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
async def test_a_stream_is_given_back_to_a_stream_and_to_a_loop_without(
    world: World, first: bool, second: bool
) -> None:
    """What was recorded in one way is replayed in the other; a listener still hears what the tools gave."""

    def build(tools: dict[str, Any]) -> Agent[Any]:
        model = world.model("a", [("note", {"text": "n"})], [("hang", {})])
        return Agent(name="A", model=model, tools=[tools["note"], tools["hang"]])

    heard: list[Any] = []

    async def emit(event: Any) -> None:
        heard.append(event)

    async with world.died(build, streamed=first) as run, world.governor(build) as other:
        claimed = await other.claim(run.id)
        run = await other.driver.drive(claimed, other.prepared("a"), emit=emit if second else None)
    assert (run.status, run.output, world.ran, world.asked) == ("completed", "done", ["note n"], ["a"] * 3)
    names = [event.name for event in heard if event.type == "run_item_stream_event"]
    assert names.count("tool_output") == (2 if second else 0)


async def test_what_a_tool_gave_to_read_is_given_back_with_the_answer_it_led_to(world: World) -> None:
    """Read again, it could differ, and the question with it; that it failed is remembered too."""

    def build(tools: dict[str, Any]) -> Agent[Any]:
        model = world.model("a", [("peek", {}), ("stumble", {})], [("note", {"text": "n"})], [("hang", {})])
        return Agent(name="A", model=model, tools=[tools[name] for name in ("peek", "stumble", "note", "hang")])

    async with world.died(build) as run:
        run = await goes_on(world, run, build)
    assert (run.status, world.looks, world.ran, world.asked) == ("completed", 2, ["note n"], ["a"] * 4)


async def test_a_conversation_kept_by_the_server_goes_on_behind_the_recorded_answer(world: World) -> None:
    """Only the new part is sent, and it names the last recorded response."""

    def build(tools: dict[str, Any]) -> Any:
        model = world.model("a")
        model.ids = True
        turns = iter([[("note", {"text": "n"})], [("hang", {})]][len(world.asked) :])
        model._answer = lambda input: (world.asked.append("a"), Scripted(next(turns, "done"))._answer("x"))[1]
        agent = Agent(name="A", model=model, tools=[tools["note"], tools["hang"]])
        return agent, {"auto_previous_response_id": True}

    async with world.died(build) as run:
        run = await goes_on(world, run, build)
    assert (run.status, world.ran) == ("completed", ["note n"])
    assert world.asked == ["a after None", "a after resp_1", "a after resp_2"]


async def test_an_answer_that_the_sdk_asked_for_three_times_is_recorded_once(world: World) -> None:
    """Retries are the SDK's own: what failed leaves nothing."""

    def build(tools: dict[str, Any]) -> Agent[Any]:
        model = world.model("a", [("note", {"text": "n"})], [("hang", {})])
        model.fails = 0 if world.asked else 2
        retry = ModelRetrySettings(max_retries=3, policy=retry_policies.network_error(), backoff={"initial_delay": 0.0})
        settings = ModelSettings(retry=retry)
        return Agent(name="A", model=model, tools=[tools["note"], tools["hang"]], model_settings=settings)

    async with world.died(build) as run:
        assert [kept.ordinal for kept in run.responses] == [0, 1]
        run = await goes_on(world, run, build)
    assert (run.status, world.ran, world.asked) == ("completed", ["note n"], ["a"] * 3)


class Answer(BaseModel):
    """A structured output."""

    text: str


async def test_a_structured_output_that_a_guardrail_refuses_is_asked_for_anew(world: World) -> None:
    """A final answer has no tool and is not recorded: the next try is not bound to what was refused."""
    tripped: list[bool] = []

    @output_guardrail
    async def once(ctx: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
        tripped.append(not tripped)
        return GuardrailFunctionOutput(None, tripwire_triggered=tripped[-1])

    def build(tools: dict[str, Any]) -> Agent[Any]:
        model = world.model("a", [("note", {"text": "n"})], '{"text": "fine"}')
        return Agent(name="A", model=model, tools=[tools["note"]], output_type=Answer, output_guardrails=[once])

    async with world.governor(build) as governor:
        run = await governor.submit("a", "go")
        run = await governor.resume(run.id)
        assert run.status == "queued" and "OutputGuardrail" in run.error
        run = await governor.resume(run.id)
    assert (run.status, run.output, world.ran) == ("completed", {"text": "fine"}, ["note n"])
    assert (tripped, world.asked) == ([True, False], ["a"] * 3)


async def test_models_of_a_provider_are_recorded_too(world: World) -> None:
    """An agent names its model, and the run's configuration has the provider."""

    class Provider(ModelProvider):
        def get_model(self, model_name: str | None) -> Any:
            assert model_name == "scripted"
            return world.model("a", [("note", {"text": "n"})], [("hang", {})])

    def build(tools: dict[str, Any]) -> Any:
        agent = Agent(name="A", model="scripted", tools=[tools["note"], tools["hang"]])
        return agent, {"run_config": RunConfig(model_provider=Provider())}

    async with world.died(build) as run:
        run = await goes_on(world, run, build)
    assert (run.status, world.ran, world.asked) == ("completed", ["note n"], ["a"] * 3)


async def test_responses_cost_no_write_where_an_intent_follows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start, an intent and a result for each call, an end: as many writes as without recording."""

    def build(tools: dict[str, Any]) -> Agent[Any]:
        model = world.model("a", [("note", {"text": "1"}), ("note", {"text": "2"})], [("note", {"text": "3"})])
        return Agent(name="A", model=model, tools=[tools["note"]])

    async with world.governor(build) as governor:
        writes: list[Any] = []
        swap = governor.store.swap

        async def counted(record: Any, **more: Any) -> Any:
            writes.append(record)
            return await swap(record, **more)

        monkeypatch.setattr(governor.store, "swap", counted)
        run = await governor.run("a", "go")
        events = [event["what"] for event in await governor.timeline(run.id)]
    assert (run.status, len(writes)) == ("completed", 3 * 2 + 1)
    assert "run.answered" not in events


def with_session(world: World) -> Callable[[dict[str, Any]], Any]:
    """An agent whose history lies in a session of the SDK."""

    def build(tools: dict[str, Any]) -> Any:
        model = world.model("a", [("note", {"text": "n"})], [("hang", {})])
        agent = Agent(name="A", model=model, tools=[tools["note"], tools["hang"]])
        return agent, {"session": lambda id: SQLiteSession(id, world.folder / "sessions.db")}

    return build


async def test_a_session_holds_each_item_once_after_a_crash(world: World) -> None:
    """What the dead stretch had added is found again; the question is the same, so the answer is given back."""
    async with world.died(with_session(world)) as run:
        session = SQLiteSession(run.id, world.folder / "sessions.db")
        assert len(await session.get_items()) == 3
        run = await goes_on(world, run, with_session(world))
    assert (run.status, world.ran, world.asked) == ("completed", ["note n"], ["a"] * 3)
    kinds = [item.get("role") or item["type"] for item in await session.get_items()]
    assert kinds == ["user", *["function_call", "function_call_output"] * 2, "assistant"]
    session.close()


async def test_an_item_of_somebody_else_in_the_session_parks_the_run(world: World) -> None:
    """The control: what the loop did not add is not taken for what it did."""
    async with world.died(with_session(world)) as run:
        session = SQLiteSession(run.id, world.folder / "sessions.db")
        await session.pop_item()
        await session.add_items([{"role": "user", "content": "me too"}])
        run = await goes_on(world, run, with_session(world))
    assert (run.status, run.blocked, world.ran) == ("blocked", "replay", ["note n"])
    assert "that its loop did not add" in run.blocked_detail
    session.close()


async def test_a_session_that_was_there_before_is_read_as_it_was(world: World) -> None:
    """The history of earlier runs stays in front, and a try that failed adds its question once."""
    asked: list[Any] = []

    def build(tools: dict[str, Any]) -> Any:
        model = world.model("a", "fine")
        model.fails, sound = int(not asked), model._answer
        model._answer = lambda input: (asked.append(list(input)), sound(input))[1]
        return Agent(name="A", model=model), {"session": lambda id: SQLiteSession(id, world.folder / "sessions.db")}

    session = SQLiteSession("c", world.folder / "sessions.db")
    await session.add_items([{"role": "user", "content": "before"}])
    async with world.governor(build) as governor:
        run = await governor.submit("a", "go", conversation="c")
        run = await governor.resume(run.id)
        assert run.status == "queued"
        run = await governor.resume(run.id)
    assert run.status == "completed"
    assert [[item["content"] for item in items] for items in asked] == [["before", "go"]] * 2
    assert [item.get("role") for item in await session.get_items()] == ["user", "user", "assistant"]
    session.close()


@pytest.mark.parametrize("sound", [True, False])
async def test_no_tool_starts_before_the_response_that_called_it_is_durable(
    world: World, sound: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write, a read and an inner agent's read of one turn, side by side; a build that writes nothing is the control."""
    seen: dict[str, list[int]] = {}
    other = world.governor(lambda tools: None)

    def looking(name: str) -> Any:
        @function_tool(name_override=name)
        async def looks() -> str:
            [run] = await other.list_runs()
            seen.setdefault(name, []).append(len(run.responses))
            return "looked"

        return looks

    def build(tools: dict[str, Any]) -> Agent[Any]:
        inner = Agent(name="I", model=world.model("i", [("peek", {})]), tools=[looking("peek")])
        turn: Turn = [("look", {}), ("note", {}), ("expert", {"input": "x"})]
        own = [looking("look"), looking("note"), inner.as_tool("expert", "")]
        return Agent(name="A", model=world.model("a", turn), tools=own)

    if not sound:
        monkeypatch.setattr(Responses, "leading_to", lambda self, chain: ((), ()))
    async with world.governor(build) as governor:
        run = await governor.run("a", "go")
        answered = [event for event in await governor.timeline(run.id) if event["what"] == "run.answered"]
    await other.close()
    assert run.status == "completed"
    if sound:
        assert {name: len(counts) for name, counts in seen.items()} == {"look": 1, "note": 1, "peek": 1}
        assert min(*seen["look"], *seen["note"]) >= 1 and seen["peek"] == [2]
        assert len(answered) <= 2, "one write for the turn at most, and one for the inner agent's"
    else:
        assert seen == {"look": [0], "note": [0], "peek": [0]}


# -- what parks the run -------------------------------------------------------------------------------------------------


async def parked(world: World, first: Any, second: Any, why: str) -> Run:
    """The second process finds that its loop is not the one that died."""
    async with world.died(first) as run:
        ran = list(world.ran)
        run = await goes_on(world, run, second)
    assert (run.status, run.blocked) == ("blocked", "replay"), (run.status, run.error)
    assert why in run.blocked_detail
    assert world.ran == ran, "nothing ran after the responses diverged"
    return run


def plain(world: World, names: str = "note hang", **agent: Any) -> Callable[[dict[str, Any]], Agent[Any]]:
    """A note, then a tool that hangs."""

    def build(tools: dict[str, Any]) -> Agent[Any]:
        model = world.model("a", [("note", {"text": "n"})], [("hang", {})])
        return Agent(name="A", model=model, tools=[tools[name] for name in names.split()], **agent)

    return build


async def test_other_instructions_park_the_run_before_any_tool(world: World) -> None:
    """And a repair after the deployment was taken back lets it go on."""
    run = await parked(world, plain(world), plain(world, instructions="Be brief."), "the instructions")
    async with world.governor(plain(world)) as governor:
        await governor.loop.bridge(
            governor.runs.change(run.id, lambda run, now: driving.repair(run, now, by="ops", reason="rolled back"))
        )
        run = await governor.resume(run.id)
    assert (run.status, world.ran, world.asked) == ("completed", ["note n"], ["a"] * 3)


async def test_a_tool_that_is_gone_parks_the_run_before_any_tool(world: World) -> None:
    """The request names its tools."""
    await parked(world, plain(world), plain(world, "hang"), "the tools")


async def test_an_answer_that_nobody_asks_for_parks_the_run(world: World) -> None:
    """The loop came to its end early: its other answers, and what ran for them, belong to a loop that was longer."""
    await parked(world, plain(world), plain(world, tool_use_behavior="stop_on_first_tool"), "never asked for")


async def test_a_model_that_was_reached_past_the_adapter_parks_the_run(world: World) -> None:
    """An agent tool with a run configuration of its own has a model of its own; what it answered is not known."""

    def build(tools: dict[str, Any]) -> Agent[Any]:
        inner = Agent(name="Inner", tools=[tools["note"]])
        own = RunConfig(model=world.model("inner", [("note", {"text": "n"})]))
        outer = world.model("a", [("expert", {"input": "x"})], [("hang", {})])
        return Agent(name="A", model=outer, tools=[inner.as_tool("expert", "", run_config=own), tools["hang"]])

    run = await parked(world, build, build, "after note ran")
    assert states(run)["note"] is CallState.SUCCEEDED
