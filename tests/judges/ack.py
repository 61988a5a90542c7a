"""Traces for AgentAck: what a model asked, what people were shown, what they said, and what really ran.

Four witnesses, none of them the record: the scripted model notes its own calls, the approval channel what it was given
to show, the person's side the decisions that were acknowledged, and the tools' bodies what they were called with.
Only a call that never ran is closed by what the record says of it. An edit is told as it is meant: the original is
refused, and the person's own arguments are a new action, shown and allowed.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from agentack.models import Action, TraceEvent
from agentack.policy import Policy as AckPolicy
from agents import Agent, RunContextWrapper, function_tool
from agents.tool_context import ToolContext
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import InjectedToolCallId
from langchain_core.tools import tool as langchain_tool

from governor_agents import Approval, Decision, Governor, PolicySet, Run, Verdict
from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver
from governor_agents.core.calls import Tool, freeze, thaw
from governor_agents.core.records import Call, CallState, RunState
from governor_agents.core.verdicts import Stage
from governor_agents.errors import DecisionRefused
from governor_agents.stores import open_store
from governor_agents.worker.steps import tend
from tests.integration import langchain_app, openai_agents_app

PERSON = "local:ann"
HOUR = 3600.0
ASK = Verdict(
    "require_approval", stages=(Stage(("ann",), (PERSON,)),), exclude_requester=False, channels=("witness",),
    deadline=24 * HOUR, run_within=HOUR,
)  # fmt: skip
VERDICTS = {"pay": ASK, "wire": ASK, "note": Verdict("allow"), "look": Verdict("allow"), "wipe": Verdict("deny")}
POLICY = AckPolicy(require_approval_for=("pay:*", "wire:*", "wipe:*"), max_approval_age_seconds=86_400)

Turn = Sequence[tuple[str, dict[str, Any]]]


class Clock:
    """A clock that the script moves."""

    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def __call__(self) -> float:
        self.at += 0.001
        return self.at


@dataclass
class Witness:
    """What was seen from outside, in order. ``name`` is also the session's."""

    name: str
    clock: Clock
    events: list[TraceEvent] = field(default_factory=list)
    edited: dict[str, str] = field(default_factory=dict)
    until: float = 0.0

    def see(self, type: Any, **what: Any) -> None:
        self.events.append(
            TraceEvent(type=type, timestamp=datetime.fromtimestamp(self.clock(), UTC), session_id=self.name, **what)
        )

    # -- the witnesses ----------------------------------------------------------------------------------------------

    def proposed(self, id: str, tool: str, arguments: dict[str, Any]) -> None:
        self.see("action_proposed", action_id=id, intent_id=intent(tool, arguments), action=action(tool, arguments))

    def ran(self, id: str, tool: str, arguments: dict[str, Any]) -> None:
        id = self.edited.get(id, id)
        asked = {event.action_id: event.approval_id for event in self.events if event.type == "approval_requested"}
        self.see(
            "action_executed", action_id=id, intent_id=intent(tool, arguments), approval_id=asked.get(id),
            action=action(tool, arguments),
        )  # fmt: skip

    async def start(self, desk: object) -> None: ...

    async def close(self) -> None: ...

    async def notify(self, approval: Approval, to: str = "") -> str:
        """The approval channel: what it is given is what people see."""
        call = approval.call
        if self.edited.get(call.call_id) is None:
            self.see(
                "approval_requested", approval_id=approval.id, action_id=call.call_id,
                intent_id=intent(call.tool, approval.arguments), action=action(call.tool, approval.arguments),
            )  # fmt: skip
        return ""

    async def update(self, approval: Approval, card: str, to: str = "") -> None:
        """Outcomes are seen elsewhere."""

    def decided(self, approval: Approval, decision: Decision, run: Run) -> None:
        """A decision that was acknowledged.

        It is good for ``run_within`` from the moment at which nobody is asked about its siblings any more.
        """
        waits = [call.expires or 0.0 for call in run.having(CallState.PENDING)]
        self.until = max([self.clock(), *waits]) + ASK.run_within
        call, meant = approval.call, intent(approval.tool, approval.arguments)
        self._said(approval.id, call.call_id, meant, decision.kind == "approve")
        if decision.kind == "edit" and decision.args is not None:
            self.see("action_blocked", action_id=call.call_id, intent_id=meant, approval_id=approval.id)
            fresh, shown = f"{call.call_id}/edited", thaw(decision.args)
            self.edited[call.call_id] = fresh
            self.proposed(fresh, call.tool, shown)
            self.see(
                "approval_requested", approval_id=f"{approval.id}/edited", action_id=fresh,
                intent_id=intent(call.tool, shown), action=action(call.tool, shown),
            )  # fmt: skip
            self._said(f"{approval.id}/edited", fresh, intent(call.tool, shown), True)

    def _said(self, approval: str, id: str, meant: str, yes: bool) -> None:
        until = datetime.fromtimestamp(self.until, UTC) if yes else None
        self.see(
            "approval_decision", approval_id=approval, action_id=id, intent_id=meant,
            decision="allow" if yes else "deny", expires_at=until,
        )  # fmt: skip

    def conclude(self, calls: Sequence[Call], run: Run) -> None:
        """What never ran, closed by the record; then the end of the session."""
        over = {event.action_id for event in self.events if event.type in ("action_executed", "action_blocked")}
        asked = {event.action_id: event.approval_id for event in self.events if event.type == "approval_requested"}
        said = {event.approval_id for event in self.events if event.type == "approval_decision"}
        for proposal in [event for event in self.events if event.type == "action_proposed"]:
            id, meant = str(proposal.action_id), str(proposal.intent_id)
            if id in over:
                continue
            state = next((call.state for call in calls if self.edited.get(call.call_id, call.call_id) == id), None)
            approval = asked.get(id)
            if (
                approval is None and proposal.action and VERDICTS[proposal.action.tool].outcome == "deny"
            ):  # the policy is the no
                approval = f"policy/{id}"
                self.see(
                    "approval_requested", approval_id=approval, action_id=id, intent_id=meant, action=proposal.action
                )
            if approval is not None and approval not in said:
                self._said(approval, id, meant, False)
            self.see("action_blocked", action_id=id, intent_id=meant, approval_id=approval, reason=str(state))
        self.see("session_end", reason=run.status)


def action(tool: str, arguments: dict[str, Any]) -> Action:
    return Action(tool, "call", None, dict(arguments))


def intent(tool: str, arguments: dict[str, Any]) -> str:
    """What a call is for: the same tool with the same arguments is the same wish, however often it is asked."""
    return f"{tool} {freeze(arguments).decode()}"


# -- the same agent in both frameworks --------------------------------------------------------------------------------


class OpenAIModel(openai_agents_app.Scripted):
    """The scripted model, which says what it asked for."""

    def __init__(self, witness: Witness, turns: Sequence[Turn]) -> None:
        super().__init__(*turns)
        self.witness = witness

    def _answer(self, input: Any) -> list[Any]:
        made = super()._answer(input)
        for item in made:
            if openai_agents_app.kind(item) == "function_call":
                self.witness.proposed(item.call_id, item.name, thaw(item.arguments))
        return made


class LangChainModel(langchain_app.Scripted):
    """The same for LangChain."""

    witness: Any

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        at = sum(isinstance(message, AIMessage) for message in messages)
        turn = self.turns[at] if at < len(self.turns) else []
        calls = [{"name": name, "args": args, "id": f"call_{uuid.uuid4().hex}"} for name, args in turn]
        for call in calls:
            self.witness.proposed(call["id"], call["name"], call["args"])
        message = AIMessage(content="" if calls else "done", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=message)])


def openai_agent(governor: Governor, witness: Witness, turns: Sequence[Turn]) -> Any:
    def make(name: str) -> Any:
        async def body(ctx: RunContextWrapper[Any], to: str, amount: int) -> str:
            """Do it."""
            assert isinstance(ctx, ToolContext)
            witness.ran(ctx.tool_call_id, name, {"to": to, "amount": amount})
            return f"{name} done"

        return function_tool(body, name_override=name)

    return Agent(name="asked", model=OpenAIModel(witness, turns), tools=[make(name) for name in VERDICTS])


def langchain_agent(governor: Governor, witness: Witness, turns: Sequence[Turn]) -> Any:
    def make(name: str) -> Any:
        @langchain_tool(name)
        async def body(to: str, amount: int, call_id: Annotated[str, InjectedToolCallId]) -> str:
            """Do it."""
            witness.ran(call_id, name, {"to": to, "amount": amount})
            return f"{name} done"

        return body

    return create_agent(
        LangChainModel(turns=list(turns), witness=witness),
        tools=[make(name) for name in VERDICTS],
        middleware=[GovernorMiddleware(governor)],
        checkpointer=GovernorSaver(governor),
    )


FRAMEWORKS = {"openai_agents": openai_agent, "langchain": langchain_agent}


# -- one session ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Script:
    """What a session does: the model's turns, and what people do about each approval, over and over in that order."""

    turns: Sequence[Turn]
    people: Sequence[str]

    @classmethod
    def drawn(cls, seed: int) -> Script:
        draw = random.Random(seed)
        turns = [
            [
                (
                    draw.choice(list(VERDICTS)),
                    {"to": draw.choice(["shop", "müller", "\u202eevil"]), "amount": draw.randint(1, 10**6)},
                )
                for _ in range(draw.randint(1, 3))
            ]
            for _ in range(draw.randint(1, 3))
        ]
        ways = ["approve", "approve", "reject", "edit", "respond", "late", "cancel", "unrun"]
        return cls(turns, [draw.choice(ways) for _ in range(8)])


async def session(framework: str, name: str, script: Script, folder: Path) -> Witness:
    """Play a script against the real thing; what was seen."""
    clock = Clock()
    witness = Witness(name, clock)
    store = open_store(f"sqlite:///{folder}/{name}.db", clock=clock)
    tools = {tool: Tool(tool, read_only=tool == "look") for tool in VERDICTS}
    governor = Governor(
        PolicySet((lambda call: VERDICTS[call.tool],), tools=tools), store=store, handlers={"witness": witness}
    )
    governor.agent("asked")(lambda: FRAMEWORKS[framework](governor, witness, script.turns))
    async with governor:
        run = await governor.run("asked", "go")
        people = iter(script.people * 8)
        while run.state is RunState.WAITING:
            run = await _decide(governor, witness, run, people)
            if run.state is RunState.READY:
                run = await governor.resume(run.id)
        witness.conclude(await governor.calls(run.id), run)
    return witness


async def _decide(governor: Governor, witness: Witness, run: Run, people: Any) -> Run:
    """People look at everything that waits, then do what the script says."""
    run = await tend(governor, run)
    for approval in run.approvals:
        way = next(people)
        if way == "late":  # the deadline passes; then somebody tries all the same
            clock: Any = witness.clock
            clock.at += ASK.deadline + 1
            way = "approve"
        if way == "cancel":
            run = await governor.cancel(run.id, by=PERSON)
            witness.see("interrupt", reason="cancelled")
            way = "approve"  # somebody who did not hear of it
        unrun, way = way == "unrun", "approve" if way == "unrun" else way
        decision = {
            "approve": Decision.approve(),
            "reject": Decision.reject("no"),
            "edit": Decision.edit({"to": "edited", "amount": 1}),
            "respond": Decision.respond("done by hand"),
        }[way]
        try:
            run = await governor.decide(approval.id, decision, by=PERSON)
        except DecisionRefused:
            run = await governor.get(run.id)
        else:
            witness.decided(approval, decision, run)
        if unrun:  # nobody resumes it for longer than it may be run
            witness.clock.at += ASK.run_within + 1
    return run
