"""The adapter: drives compiled LangGraph graphs under claims, and reads their pauses.

A graph is resumed with no input at all. Its undecided and its decided calls run again from their tool node, and the
guard says what becomes of each; so a resume works from the checkpoint alone, after a pause as after a crash, and twice.

Any checkpointer will do that keeps threads where the resuming process finds them. `GovernorSaver` keeps them with the
runs and refuses writes of a worker whose claim is over; others cannot do that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.pregel import Pregel
from langgraph.types import Interrupt

from governor_agents.adapters.langchain.flights import Flights
from governor_agents.adapters.langchain.gate import PAYLOAD
from governor_agents.adapters.langchain.graphs import (
    Graph,
    deaf,
    holds,
    messages_of,
    reach,
    schema_sha256,
    shape,
    tool_nodes,
)
from governor_agents.adapters.langchain.loops import AGENT, Loops
from governor_agents.adapters.langchain.messages import SUPERSEDED, unanswered
from governor_agents.adapters.langchain.middleware import GovernorMiddleware
from governor_agents.adapters.langchain.output import answer
from governor_agents.adapters.langchain.saver import RUN, GovernorSaver
from governor_agents.adapters.langchain.threads import Threads
from governor_agents.adapters.langchain.tool import GovernedTool
from governor_agents.claims import Claim, current_claim
from governor_agents.core.calls import Json, Tool, ToolCall, freeze, freeze_text, sha256, thaw
from governor_agents.core.ports import Captured, Emit, Segment
from governor_agents.core.records import Call, evolve
from governor_agents.errors import ArgumentsError, ConfigError, Fenced, ReplayDiverges, SnapshotError, UngovernedTool

if TYPE_CHECKING:
    from governor_agents.governor import Governor

OPTIONS = frozenset({"config", "context", "stream_mode", "subgraphs"})
"""What a factory may return beside the graph: a config to merge, a context, what is streamed, and how deep."""


class LangChainAdapter:
    """Plugs LangChain agents and LangGraph graphs in."""

    name = "langchain"
    replays = True
    framework = f"langgraph {version('langgraph')}"
    replays = True

    def __init__(self, governor: Governor) -> None:
        self._governor = governor
        self.loops = Loops(governor)
        self.threads = Threads(governor, self.loops)
        self.flights = Flights()
        self._fingerprints: dict[int, tuple[Graph, str]] = {}

    # -- looking ----------------------------------------------------------------------------------------------------

    def prepare(self, agent: Any) -> Graph:
        """Check that the graph can pause and all its tools are governed. Raises `UngovernedTool`, `ConfigError`."""
        if not isinstance(agent, Pregel):
            raise ConfigError(f"a factory must return a compiled graph, not a {type(agent).__name__}")
        saver = agent.checkpointer
        if not isinstance(saver, BaseCheckpointSaver):
            raise ConfigError("the graph has no checkpointer; compile it with checkpointer=GovernorSaver(governor)")
        if isinstance(saver, GovernorSaver) and saver.governor is not self._governor:
            raise ConfigError("the graph's GovernorSaver belongs to another governor")
        if agent.interrupt_before_nodes or agent.interrupt_after_nodes:
            raise ConfigError(
                "the graph has static breakpoints (interrupt_before, interrupt_after); nobody resumes those"
            )
        if silent := deaf(agent):
            raise ConfigError(
                f"{', '.join(silent)} runs a graph that cannot pause; compile it without checkpointer=False"
            )
        bare = [f"{found.tool.name} ({found.node})" for found in reach(agent, self._governs) if not found.governed]
        if bare:
            raise UngovernedTool(
                f"nothing governs {', '.join(sorted(set(bare)))}: add GovernorMiddleware(governor) to the agent's "
                "middleware, or wrap the tools with govern_tool(tool, governor)"
            )
        return agent

    def _governs(self, thing: Any) -> bool:
        return holds(thing, GovernorMiddleware) or isinstance(thing, GovernedTool)

    def inventory(self, agent: Any) -> list[Tool]:
        """Every tool the graph can reach, governed or not."""
        found = {reached.tool.name: reached.tool for reached in reach(agent, self._governs)}
        return [
            evolve(self._governor.policies.tool(name), schema_sha256=schema_sha256(tool))
            for name, tool in sorted(found.items())
        ]

    def fingerprint(self, agent: Any) -> str:
        """A hash of nodes, tools and their parameters."""
        known = self._fingerprints.get(id(agent))
        if known is None or known[0] is not agent:
            known = (agent, sha256(freeze(shape(agent, list(reach(agent, self._governs))))))
            self._fingerprints[id(agent)] = known
        return known[1]

    # -- driving ----------------------------------------------------------------------------------------------------

    async def start(
        self,
        agent: Any,
        input: Json,
        *,
        calls: Sequence[Call] = (),
        context: Json = None,
        options: Mapping[str, Any],
        emit: Emit | None = None,
    ) -> Segment:
        """Begin a loop; go on with it when an earlier claim of this run had begun it already."""
        claim = _claim()
        thread = claim.conversation or claim.run
        config = _config(thread, claim, options)
        fresh = claim.fence == 1 and not claim.conversation  # a thread of its own, which nobody has touched yet
        head = None if fresh else await _head(agent, config)
        if head is not None and head.metadata.get(RUN) == claim.run:
            return await self._drive(agent, None, config, context, options, emit)
        if begun := [call.tool for call in calls if call.attempts]:
            raise ReplayDiverges(
                f"run {claim.run} has called {', '.join(dict.fromkeys(begun))}, but the newest checkpoint of {thread} "
                f"is not of this run; starting anew could run them twice. Look at the thread, then cancel the run"
            )
        if input is None:
            raise SnapshotError(f"the input of run {claim.run} was lost before it became durable; send it again")
        if head is not None and unanswered(messages_of(head.checkpoint["channel_values"])):
            await self._answer_left(agent, config)
        elif isinstance(agent.checkpointer, GovernorSaver):
            agent.checkpointer.prime(thread, claim, head)
        return await self._drive(agent, _input(agent, input), config, context, options, emit)

    async def resume(
        self,
        agent: Any,
        snapshot: bytes,
        calls: Sequence[Call],
        *,
        context: Json = None,
        options: Mapping[str, Any],
        emit: Emit | None = None,
    ) -> Segment:
        """Go on from a pause: every call of the checkpoint goes through the guard again, which knows the decisions."""
        claim = _claim()
        config = _config(_thread(snapshot), claim, options)
        head = await _head(agent, config)
        if head is None:
            raise SnapshotError(f"thread {_thread(snapshot)} is gone from the graph's checkpointer")
        owner = head.metadata.get(RUN)
        if owner not in (None, claim.run):
            raise SnapshotError(f"thread {_thread(snapshot)} went on without run {claim.run}: run {owner} wrote to it")
        if isinstance(agent.checkpointer, GovernorSaver):
            agent.checkpointer.prime(_thread(snapshot), claim, head)
        return await self._drive(agent, None, config, context, options, emit)

    async def _drive(
        self,
        graph: Graph,
        input: Any,
        config: RunnableConfig,
        context: Json,
        options: Mapping[str, Any],
        emit: Emit | None,
    ) -> Segment:
        """One stretch of the graph."""
        claim = _claim()
        modes = _modes(options) if emit else []
        values: Any = None
        waiting: dict[str, Interrupt] = {}
        try:
            async for part in graph.astream(
                input,
                config,
                context=options.get("context", context) if graph.context_schema is not None else None,
                stream_mode=[*modes, *(["values"] if "values" not in modes else [])],
                subgraphs=bool(emit and options.get("subgraphs")),
                durability="sync",
                version="v2",
            ):
                if part["type"] == "values" and not part["ns"]:
                    values = part["data"]
                    waiting |= {found.id: found for found in part.get("interrupts", ())}
                if emit is not None and part["type"] in modes:
                    await emit(part)
        except BaseException:
            with contextlib.suppress(Exception):
                await self._settle(claim, config)
            raise
        await self._settle(claim, config)
        if not waiting:
            return Segment(ended=True, output=answer(values))
        return self._pause(config["configurable"]["thread_id"], tuple(waiting.values()), claim)

    async def _settle(self, claim: Claim, config: RunnableConfig) -> None:
        """Wait for what the graph left running, and make what it left to be written durable."""
        await self.flights.landed(claim)
        thread = config["configurable"]["thread_id"]
        if self.threads.unsettled(thread):
            await self._governor.loop.bridge(self.threads.settle(thread))

    def _pause(self, thread: str, waiting: Sequence[Interrupt], claim: Claim | None) -> Segment:
        asked = sorted((_asked(interrupt) for interrupt in waiting), key=lambda ask: (ask[0], ask[1].call_id))
        calls = {call.call_id: self._whose(call, claim) for _, call in asked}
        snapshot = {
            "v": 1,
            "thread_id": thread,
            "interrupts": [{"id": interrupt.id, "call_id": interrupt.value["call_id"]} for interrupt in waiting],
        }
        return Segment(ended=False, snapshot=freeze(snapshot), pending=tuple(calls.values()))

    def _whose(self, call: ToolCall, claim: Claim | None) -> ToolCall:
        if claim is None:
            return evolve(call, tenant=self._governor.tenant)
        return evolve(
            call,
            agent=claim.agent,
            run=claim.run,
            requester=claim.requester,
            conversation=claim.conversation,
            tenant=claim.tenant,
            generation=claim.generation,
        )

    # -- loops of one's own -----------------------------------------------------------------------------------------

    async def capture(self, paused: Any, **where: Any) -> Captured | None:
        """What the pause of a user's own ``graph.invoke`` needs to become a record: ``agent=graph``, ``config=config``.

        A pause by another ``interrupt`` is left to the user.
        """
        graph, config = where.get("agent"), where.get("config")
        if not isinstance(graph, Pregel) or not isinstance(config, Mapping):
            raise ConfigError("say which graph paused: await governor.suspend(result, agent=graph, config=config)")
        thread = str(config.get("configurable", {}).get("thread_id", ""))
        state = await graph.aget_state({"configurable": {"thread_id": thread}})
        waiting = [interrupt for interrupt in state.interrupts if _ours(interrupt)]
        if not waiting:
            return None
        claim = self.loops.claim(thread)
        segment = self._pause(thread, waiting, claim)
        if claim is None:
            name = str(where.get("name") or (graph.config or {}).get("metadata", {}).get("lc_agent_name") or AGENT)
            pending = tuple(evolve(call, agent=name, conversation=thread) for call in segment.pending)
            return Captured(name, evolve(segment, pending=pending), conversation=thread)
        self.loops.forget(thread)
        return Captured(claim.agent, segment, conversation=thread, run=claim.run, fence=claim.fence)

    async def close(self, agent: Any, snapshot: bytes, calls: Sequence[Call]) -> None:
        """Give the calls that a superseded run left behind an answer in the thread's history."""
        told = {call.call_id: call.told for call in calls if call.told}
        await self._answer_left(agent, {"configurable": {"thread_id": _thread(snapshot)}}, told)

    async def _answer_left(self, graph: Graph, config: RunnableConfig, told: Mapping[str, str] | None = None) -> None:
        nodes = [name for name, _ in tool_nodes(graph) if "/" not in name]
        state = await graph.aget_state({"configurable": {"thread_id": config["configurable"]["thread_id"]}})
        left = unanswered(messages_of(state.values))
        if not left or not nodes or not isinstance(state.values, dict):
            return
        reasons = told or {}
        answers = [
            ToolMessage(
                reasons.get(id := call["id"] or "") or SUPERSEDED, name=call["name"], tool_call_id=id, status="error"
            )
            for call in left
        ]
        await graph.aupdate_state(config, {"messages": answers}, as_node=nodes[0])


def _claim() -> Claim:
    claim = current_claim()
    if claim is None:
        raise Fenced("a graph is driven under a claim only; use governor.run or governor.resume")
    return claim


def _config(thread: str, claim: Claim, options: Mapping[str, Any]) -> RunnableConfig:
    unknown = set(options) - OPTIONS
    if unknown:
        raise ConfigError(
            f"unknown option {sorted(unknown)[0]!r} of a LangGraph agent; use {', '.join(sorted(OPTIONS))}"
        )
    given: dict[str, Any] = dict(options.get("config") or {})
    configurable = {key: value for key, value in given.get("configurable", {}).items() if key != "checkpoint_id"}
    given["configurable"] = {**configurable, "thread_id": thread}
    given["metadata"] = {**given.get("metadata", {}), RUN: claim.run}
    return cast(RunnableConfig, given)


def _modes(options: Mapping[str, Any]) -> list[Any]:
    modes = options.get("stream_mode", ("updates", "messages"))
    return [modes] if isinstance(modes, str) else list(modes)


def _input(graph: Graph, input: Json) -> Any:
    """A text or a list of messages for a graph that talks; anything else as it is."""
    if "messages" not in graph.channels:
        return input
    if isinstance(input, str):
        return {"messages": [{"role": "user", "content": input}]}
    return {"messages": input} if isinstance(input, list) else input


async def _head(graph: Graph, config: RunnableConfig) -> CheckpointTuple | None:
    saver = cast(BaseCheckpointSaver[Any], graph.checkpointer)  # `prepare` made sure
    thread = config["configurable"]["thread_id"]
    return await saver.aget_tuple({"configurable": {"thread_id": thread, "checkpoint_ns": ""}})


def _thread(snapshot: bytes) -> str:
    try:
        found = thaw(snapshot)
        thread = found["thread_id"] if found["v"] == 1 else None
    except (ArgumentsError, KeyError, TypeError) as error:
        raise SnapshotError(f"a LangGraph snapshot is not readable: {error}") from None
    if not isinstance(thread, str) or not thread:
        raise SnapshotError("a LangGraph snapshot is not readable: it names no thread")
    return thread


def _ours(interrupt: Interrupt) -> bool:
    value = interrupt.value
    return isinstance(value, dict) and value.get("type") == PAYLOAD


def _asked(interrupt: Interrupt) -> tuple[list[int], ToolCall]:
    """The call that waits behind one of our interrupts, and its place in the model's message."""
    if not _ours(interrupt):
        raise ConfigError(
            "the graph paused by an interrupt that asks for something else than an approval; a governed run cannot "
            f"answer it: {str(interrupt.value)[:200]}"
        )
    value = interrupt.value
    call = ToolCall(
        tool=value["tool"],
        args=freeze_text(value["args"]),
        call_id=value["call_id"],
        schema_sha256=value["schema_sha256"],
    )
    return list(value["at"]), call
