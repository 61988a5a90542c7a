"""What the parity test compares: generated tool calls, one policy file, and the same agent on each framework."""

import json
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents import Agent, FunctionTool, Model, ModelResponse, RunConfig, Usage
from agents.tool_context import ToolContext
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import StructuredTool
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from governor_agents import Decision, Governor, GovernorError, PolicySet, Run, Tool, ToolCall, Verdict
from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver
from tests.asking import Silent

POLICY = """
version: 1
approvals: {deadline: 1h, approvers: [group:operators]}
groups:
  operators: [ann@example.com, bob@example.com]
  finance: [cid@example.com, dan@example.com]
tools:
  look: {read_only: true}
  peek: {read_only: true}
  pay: {effect: money}
  post: {}
  save: {effect: data, retry: idempotent}
  touch: {}
rules:
  - name: no looking at secrets
    tool: look
    when: has(call.args.value) && type(call.args.value) == string && call.args.value.contains("e")
    then: deny
    reason: secrets stay secret
  - name: huge payments
    tool: pay
    when: call.args.amount > 1000
    then: deny
    reason: too much
  - name: small payments
    tool: pay
    when: call.args.amount <= 50 && tool.effect == "money"
    then: allow
  - name: payments
    tool: pay
    then: require_approval
    approvers: [group:finance]
    reason_required: true
  - name: posts to everybody
    tool: post
    when: call.args.tags.exists(tag, tag == "public")
    then: require_approval
    stages: [{approvers: [group:operators]}, {approvers: [group:finance]}]
  - name: posts
    tool: post
    then: allow
  - name: large values
    tool: save
    when: size(call.args.value) > 2
    then: require_approval
  - name: values
    tool: save
    then: allow
  - name: no deletes
    tool: "delete_*"
    then: deny
    reason: deletes go through a ticket
"""
"""Every way in which a policy can come to a verdict. A condition fails when a key is missing, a type does not fit, or
an integer has more than 64 bits."""

TOOLS = ("look", "peek", "pay", "post", "save", "touch", "delete_entry", "mystery")
"""``touch`` is declared but has no rule, ``mystery`` is not even declared."""

SCHEMA = {"type": "object", "properties": {"value": {}}, "additionalProperties": True}
WORDS = [
    "",
    "a",
    "public",
    "secret",
    "Grüße",
    "日本",
    "\u202eabc",
    "line\nbreak\ttab",
    '"quoted" \\ {x}',
    "😀",
    "\x00",
    "e" * 300,
]


# -- generating ---------------------------------------------------------------------------------------------------------


def value(rng: random.Random, depth: int = 0) -> Any:
    """A JSON value of any kind."""
    kinds = ["null", "bool", "int", "float", "text", "list", "object"]
    match rng.choice(kinds if depth < 3 else kinds[:5]):
        case "null":
            return None
        case "bool":
            return rng.random() < 0.5
        case "int":
            return rng.choice([0, 1, -1, 50, 51, 2**31, -(2**53) - 1, 2**63 - 1, 2**63, 10**25])
        case "float":
            return rng.choice([0.0, -0.0, 0.1, 50.0, 50.01, 1e-7, 1.5e300, -2.5])
        case "text":
            return rng.choice(WORDS)
        case "list":
            return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
        case _:
            return {rng.choice(WORDS): value(rng, depth + 1) for _ in range(rng.randrange(4))}


def arguments(rng: random.Random, tool: str) -> dict[str, Any]:
    """Arguments for a tool: mostly of the kind that its rules look at."""
    found: dict[str, Any] = {"value": value(rng)} if rng.random() < 0.9 else {}
    if tool == "pay" and rng.random() < 0.85:
        found["amount"] = rng.choice([1, 50, 50.0, 50.5, 75, 999, 1000, 1001, 1e6, "12", None, 2**64])
    if tool == "post" and rng.random() < 0.85:
        found["tags"] = rng.choice([[], ["public"], ["internal"], ["a", "public"], "public", [1, None], {"public": 1}])
    if rng.random() < 0.3:
        found[f"extra {rng.choice(WORDS)}"] = value(rng)
    return found


@dataclass(frozen=True)
class Call:
    """One generated call, and what people make of it when they are asked."""

    index: int
    tool: str
    args: dict[str, Any]
    answers: tuple[Decision, ...]


Turn = tuple[Call, ...]


def answer(rng: random.Random, tool: str) -> Decision:
    """What a person says."""
    reason = rng.choice(["", "because", "Grüße \u202e"])
    match rng.choice(["approve", "approve", "reject", "edit", "respond"]):
        case "approve":
            return Decision.approve(reason)
        case "reject":
            return Decision.reject(reason)
        case "edit":
            return Decision.edit(arguments(rng, tool), reason)
        case _:
            return Decision.respond(rng.choice(WORDS), reason)


def conversations(seed: int, calls: int, *, at_once: int = 1) -> list[tuple[Turn, ...]]:
    """Conversations of a few turns, each with one call (or up to ``at_once``), with this many calls in all."""
    rng = random.Random(seed)
    made, talks = 0, []
    while made < calls:
        turns = []
        for _ in range(rng.randint(1, 6)):
            turn = []
            for _ in range(min(rng.randint(1, at_once), calls - made)):
                tool = rng.choice(TOOLS)
                given = arguments(rng, tool)
                turn.append(Call(made, tool, given, tuple(answer(rng, tool) for _ in range(3))))
                made += 1
            if turn:
                turns.append(tuple(turn))
        talks.append(tuple(turns))
    return talks


# -- playing ------------------------------------------------------------------------------------------------------------


class Watched(PolicySet):
    """Policies that remember what they said, by call id."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.said: dict[str, list[Verdict]] = {}

    def evaluate(self, call: ToolCall, tool: Tool | None = None) -> Verdict:
        verdict = super().evaluate(call, tool)
        known = self.said.setdefault(call.call_id, [])
        if verdict not in known:
            known.append(verdict)
        return verdict


@dataclass
class Played:
    """What came of the conversations on one framework. ``ran`` is what the tools themselves saw."""

    verdicts: dict[int, list[Verdict]] = field(default_factory=dict)
    trails: list[list[dict[str, Any]]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    ran: list[tuple[str, str]] = field(default_factory=list)


def fresh_id(call: Call) -> str:
    """An id that a model never gives twice, and that tells us which call it is."""
    return f"call-{call.index}-{uuid.uuid4().hex}"


def index_of(call_id: str) -> int:
    """Which generated call an id belongs to."""
    return int(call_id.split("-")[1])


class OpenAIScript(Model):
    """Plays a conversation for the OpenAI Agents SDK."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self.turns = turns

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:
        items = [] if isinstance(input, str) else input
        done = sum(item.get("type") == "function_call_output" for item in items)
        return ModelResponse(output=self._next(done), usage=Usage(), response_id=None)

    def _next(self, done: int) -> list[Any]:
        for turn in self.turns:
            if done < len(turn):
                return [
                    ResponseFunctionToolCall(
                        type="function_call", call_id=fresh_id(call), name=call.tool, arguments=json.dumps(call.args)
                    )
                    for call in turn
                ]
            done -= len(turn)
        text = ResponseOutputText(type="output_text", text="done", annotations=[])
        return [ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[text])]

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


class LangChainScript(BaseChatModel):
    """Plays a conversation for LangChain."""

    turns: list[Any]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> "LangChainScript":
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        at = sum(isinstance(message, AIMessage) for message in messages)
        turn = self.turns[at] if at < len(self.turns) else ()
        calls = [{"name": call.tool, "args": json.loads(json.dumps(call.args)), "id": fresh_id(call)} for call in turn]
        message = AIMessage(content="" if turn else "done", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=message)])


def openai_clerk(governor: Governor, turns: Sequence[Turn], ran: list[tuple[str, str]]) -> Any:
    """The agent on the OpenAI Agents SDK."""

    def tool(name: str) -> FunctionTool:
        async def invoke(context: ToolContext[Any], text: str) -> str:
            ran.append((name, canonical(json.loads(text))))
            return "done"

        return FunctionTool(name, f"The tool {name}.", SCHEMA, invoke, strict_json_schema=False)

    agent: Agent[Any] = Agent(name="clerk", model=OpenAIScript(turns), tools=[tool(name) for name in TOOLS])
    return agent, {"run_config": RunConfig(tracing_disabled=True)}


def langchain_clerk(governor: Governor, turns: Sequence[Turn], ran: list[tuple[str, str]]) -> Any:
    """The agent on LangChain."""

    def tool(name: str) -> StructuredTool:
        async def invoke(**args: Any) -> str:
            ran.append((name, canonical(args)))
            return "done"

        return StructuredTool(name=name, description=f"The tool {name}.", args_schema=SCHEMA, coroutine=invoke)

    return create_agent(
        LangChainScript(turns=list(turns)),
        tools=[tool(name) for name in TOOLS],
        middleware=[GovernorMiddleware(governor)],
        checkpointer=GovernorSaver(governor),
    )


CLERKS = {"openai-agents": openai_clerk, "langchain": langchain_clerk}


def canonical(args: Any) -> str:
    return json.dumps(args, sort_keys=True)


async def play(
    framework: str, folder: Path, policy: str, talks: Sequence[Sequence[Turn]], *, store: str = ""
) -> Played:
    """Play the conversations through one adapter, deciding as the generated answers say; on SQLite, or on ``store``."""
    file = folder / "governor.yaml"
    file.write_text(policy, encoding="utf-8")
    policies = Watched.from_file(file)
    played = Played()
    store = store or f"sqlite:///{folder}/{framework}.db"
    async with Governor(policies, store=store, secret=b"secret", handlers={"terminal": Silent()}) as governor:
        for turns in talks:
            made = CLERKS[framework](governor, turns, played.ran)
            governor.agents["clerk"], governor._prepared = (lambda made=made: made), {}
            run = await governor.run("clerk", "go", requester="eve@example.com")
            calls = {call.index: call for turn in turns for call in turn}
            left = {index: [*call.answers, Decision.reject("enough")] for index, call in calls.items()}
            while run.approvals:
                run = await decide(governor, run, left, played.refused)
                if not run.approvals:
                    run = await governor.resume(run.id)
            played.states.append(run.status)
            played.trails.append(plain(await governor.timeline(run.id)))
    played.verdicts = {}
    for call_id, said in policies.said.items():
        played.verdicts.setdefault(index_of(call_id), []).extend(said)
    return played


async def decide(governor: Governor, run: Run, left: dict[int, list[Decision]], refused: list[str]) -> Run:
    """Decide what the run asks first, with the next of the call's answers that counts; the last is a plain no."""
    approval = run.approvals[0]
    index = index_of(approval.call.call_id)
    by = sorted(approval.people)[0]
    while True:
        decision = left[index].pop(0)
        try:
            return await governor.decide(approval.id, decision, by=by)
        except GovernorError as error:
            refused.append(f"{index} {decision.kind}: {str(error).replace(run.id, 'RUN')}")


GONE = {"run", "call_id", "at", "prev", "digest", "was", "snapshot", "waited", "after_shown"}
"""Ids, times and hashes, in which no two runs are alike."""

OURS = "run.answered"
"""The one event that one framework's runs leave and the other's do not: LangGraph keeps the model's messages itself."""


def plain(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A trail without what differs between any two runs, but with the generated call in the place of a call's id."""
    found: list[dict[str, Any]] = []
    for event in (event for event in events if event["what"] != OURS):
        event = {**event, "seq": len(found) + 1}
        kept = {key: value for key, value in event.items() if key not in GONE}
        if "call_id" in event:
            kept["call"] = index_of(event["call_id"])
        found.append({key: v.replace(event["run"], "RUN") if isinstance(v, str) else v for key, v in kept.items()})
    return found
