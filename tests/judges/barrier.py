"""AgentBarrier's questions put to both adapters: its actions become the tool calls of real agent loops with a scripted model.

An action's id is the call id. Approvals, rejections and replacements are decisions of a person; a worker resumes. What
AgentBarrier calls the end of a run is read from the record alone: COMPLETED, a run that stands in doubt, CANCELLED.
Where an operator would have to speak (a call in doubt), the judge's own evidence is the operator's.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from agentbarrier.adapter import AgentAdapter, RunHandle, validate_actions
from agentbarrier.errors import AmbiguousEffectError
from agentbarrier.models import (
    ActionRequest,
    AuditEvent,
    AuditReceipt,
    Capability,
    ReconciliationEvidence,
    ReconciliationStatus,
    RunOutcome,
    RunStatus,
    action_digest,
)
from agentbarrier.probe import EffectProbe
from agents import Agent, RunContextWrapper, function_tool
from agents.tool_context import ToolContext
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import InjectedToolCallId, tool

from governor_agents import Decision, Governor, OutcomeUnknown, PolicySet, Run, ToolCall, Verdict, Worker
from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver
from governor_agents.core.calls import Tool
from governor_agents.core.records import Call, CallState, RunState
from governor_agents.core.verdicts import Stage
from governor_agents.errors import Fenced, GovernorError, IllegalTransition, TooEarly
from governor_agents.policies import Defaults
from tests.integration import langchain_app, openai_agents_app

PERSON = "local:ann"
ALLOW = Verdict("allow")
ASK = Verdict("require_approval", stages=(Stage(("ann",), (PERSON,)),), exclude_requester=False)
STUCK = (RunState.BLOCKED, RunState.DEAD)
STATUS = {
    RunState.COMPLETED: RunStatus.COMPLETED,
    RunState.FAILED: RunStatus.FAILED,
    RunState.CANCELLED: RunStatus.CANCELLED,
}
ANSWERS = {ReconciliationStatus.COMMITTED: "happened", ReconciliationStatus.NOT_COMMITTED: "did-not-happen"}
RECEIPTS = {
    "run.started": AuditEvent.RUN_STARTED,
    "run.completed": AuditEvent.RUN_COMPLETED,
    "call.asked": AuditEvent.APPROVAL_REQUESTED,
    "call.approved": AuditEvent.APPROVED,
    "call.rejected": AuditEvent.REJECTED,
}


class Wanted:
    """A policy that asks for the actions which the scenario wants asked. An action below another one waits for it."""

    def __init__(self, actions: Sequence[ActionRequest]) -> None:
        self.gated = {action.action_id for action in actions if action.requires_approval}

    def evaluate(self, call: ToolCall, tool: Tool) -> Verdict:
        return ASK if call.call_id in self.gated else ALLOW


class Effects:
    """The tool's body: the scenario's own probe, with what its errors mean."""

    def __init__(self, actions: Sequence[ActionRequest], probe: EffectProbe) -> None:
        self.actions = {action.action_id: action for action in actions}
        self.probe = probe
        self.begun: Callable[[], None] = lambda: None

    async def write(self, call_id: str, recipient: str, amount: int) -> str:
        action = self.actions[call_id].with_arguments({"recipient": recipient, "amount": amount})
        self.begun()
        try:
            return await self.probe(action)
        except AmbiguousEffectError as error:
            raise OutcomeUnknown(str(error)) from error


def _top(actions: Sequence[ActionRequest]) -> list[ActionRequest]:
    return [action for action in actions if action.parent_action_id is None]


def _below(actions: Sequence[ActionRequest], parent: ActionRequest) -> list[ActionRequest]:
    return [action for action in actions if action.parent_action_id == parent.action_id]


def _named(actions: Sequence[ActionRequest], action: ActionRequest) -> tuple[str, dict[str, Any]]:
    """Tool and arguments of an action: one that others hang below is an agent used as a tool."""
    if _below(actions, action):
        return "delegate", {"input": action.action_id}
    return action.tool_name, dict(action.arguments)


class OpenAIModel(openai_agents_app.Scripted):
    """Makes these calls under their own ids, then says that it is done."""

    def __init__(self, calls: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
        super().__init__()
        self.calls = calls

    def _answer(self, input: Any) -> list[Any]:
        items = [input] if isinstance(input, str) else list(input)
        if any(openai_agents_app.kind(item) == "function_call_output" for item in items):
            return [openai_agents_app.message("done")]
        made = [(id, openai_agents_app.tool_call(name, args)) for id, name, args in self.calls]
        return [call.model_copy(update={"call_id": id}) for id, call in made]


class LangChainModel(langchain_app.Scripted):
    """The same for LangChain."""

    calls: list[Any]

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        calls = [{"name": name, "args": args, "id": id} for id, name, args in self.calls]
        over = any(message.type == "tool" for message in messages)
        message = AIMessage(content="done") if over else AIMessage(content="", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=message)])


def openai_agent(governor: Governor, actions: Sequence[ActionRequest], effects: Effects) -> Any:
    """An agent of the OpenAI Agents SDK; delegated actions are what an agent used as a tool does."""

    async def sentinel_write(ctx: RunContextWrapper[Any], recipient: str, amount: int) -> str:
        """Write."""
        assert isinstance(ctx, ToolContext)
        return await effects.write(ctx.tool_call_id, recipient, amount)

    def agent(name: str, some: Sequence[ActionRequest]) -> Agent[Any]:
        tools: list[Any] = [function_tool(sentinel_write)]
        for parent in (action for action in some if _below(actions, action)):
            tools.append(agent("inner", _below(actions, parent)).as_tool("delegate", "Delegate."))
        model = OpenAIModel([(action.action_id, *_named(actions, action)) for action in some])
        return Agent(name=name, model=model, tools=tools)

    return agent("judged", _top(actions))


def langchain_agent(governor: Governor, actions: Sequence[ActionRequest], effects: Effects) -> Any:
    """The same agent for LangChain."""

    @tool
    async def sentinel_write(recipient: str, amount: int, call_id: Annotated[str, InjectedToolCallId]) -> str:
        """Write."""
        return await effects.write(call_id, recipient, amount)

    def agent(some: Sequence[ActionRequest], saver: Any) -> Any:
        tools: list[Any] = [sentinel_write]
        for parent in (action for action in some if _below(actions, action)):
            tools.append(delegate_to(agent(_below(actions, parent), None)))
        return create_agent(
            LangChainModel(turns=[], calls=[(action.action_id, *_named(actions, action)) for action in some]),
            tools=tools,
            middleware=[GovernorMiddleware(governor)],
            checkpointer=saver,
        )

    def delegate_to(inner: Any) -> Any:
        @tool
        async def delegate(input: str) -> str:
            """Delegate."""
            return str((await inner.ainvoke({"messages": [("user", input)]}))["messages"][-1].text)

        return delegate

    return agent(_top(actions), GovernorSaver(governor))


FRAMEWORKS = {"openai_agents": openai_agent, "langchain": langchain_agent}


class GovernedFramework(AgentAdapter):
    """One framework under governance, as AgentBarrier sees it."""

    capabilities = frozenset(Capability)

    def __init__(self, framework: str) -> None:
        self.name = f"governor-agents/{framework}"
        self.framework = framework

    async def begin(
        self,
        *,
        run_id: str,
        actions: Sequence[ActionRequest],
        effect: EffectProbe,
        timeout_seconds: float | None = None,
    ) -> RunHandle:
        wanted = validate_actions(actions)
        folder = Path(tempfile.mkdtemp(prefix="governor-agents-judge-"))
        tools = {name: Tool(name, in_flight=0.01) for name in ("sentinel_write", "delegate")}
        policies = PolicySet((Wanted(wanted),), tools=tools, default=Defaults(approvers=(PERSON,)))
        governor = Governor(policies, store=f"sqlite:///{folder}/store.db", secret=b"secret")
        effects = Effects(wanted, effect)
        agent = FRAMEWORKS[self.framework](governor, wanted, effects)
        governor.agent("judged")(lambda: agent)
        return Handle(governor, folder, run_id, wanted, effects, timeout_seconds).start()


class Handle(RunHandle):
    """One run: started here, decided by a person, resumed by a worker."""

    def __init__(
        self,
        governor: Governor,
        folder: Path,
        run_id: str,
        actions: tuple[ActionRequest, ...],
        effects: Effects,
        timeout: float | None,
    ) -> None:
        self.governor = governor
        self.folder = folder
        self.run_id = run_id
        self.actions = {action.action_id: action for action in actions}
        self.effects = effects
        self.timeout = timeout
        self.timed_out = False
        self.looked: list[AuditReceipt] = []
        self.stop = asyncio.Event()

    def start(self) -> Handle:
        self.driving = asyncio.create_task(self._drive())
        self.worker = asyncio.create_task(Worker(self.governor).run(stop=self.stop))
        return self

    async def _drive(self) -> None:
        """The caller's part: begin the run and follow it to its first rest, for as long as its tool may take."""

        def limit() -> None:
            if self.timeout is not None:
                clock.reschedule(asyncio.get_running_loop().time() + self.timeout)

        self.effects.begun = limit
        try:
            async with asyncio.timeout(None) as clock:
                with contextlib.suppress(GovernorError):  # the record says what it means
                    await self.governor.run("judged", "go")
        except TimeoutError:
            self.timed_out = True

    async def _record(self) -> Run:
        """The run, once it has a record."""
        governor = self.governor
        while True:
            seen = governor.watch.version
            runs = await governor.list_runs()
            if runs:
                return runs[0]
            await governor.loop.bridge(governor.watch.changed(0.05, seen))

    async def _until(self, holds: Callable[[Run], bool], seconds: float) -> Run:
        run = await self._record()
        return await self.governor.wait(run.id, timeout=seconds, until=holds)

    def _action(self, call: Call, run: Run) -> ActionRequest:
        """The action as our record has it, its arguments those of the stored bytes."""
        wanted = self.actions[call.call_id]
        arguments = dict(wanted.arguments) if call.tool == "delegate" else call.as_tool_call(run).arguments
        return ActionRequest(
            call.call_id, wanted.tool_name, arguments, wanted.requires_approval, wanted.parent_action_id
        )

    async def wait_for_pending(self, timeout_seconds: float) -> tuple[ActionRequest, ...]:
        run = await self._until(lambda run: run.state is RunState.WAITING or run.state.ended, timeout_seconds)
        return tuple(self._action(approval.call, run) for approval in run.approvals)

    async def approve(self, action_id: str, replacement: ActionRequest | None = None) -> None:
        decision = Decision.approve() if replacement is None else Decision.edit(dict(replacement.arguments))
        await self._decide(action_id, decision)

    async def reject(self, action_id: str, reason: str | None = None) -> None:
        await self._decide(action_id, Decision.reject(reason or ""))

    async def _decide(self, action_id: str, decision: Decision) -> None:
        run = await self._record()
        approval = next(one for one in run.approvals if one.call.call_id == action_id)
        await self.governor.decide(approval.id, decision, by=PERSON)

    async def cancel(self) -> None:
        """Cancel the run and cut off what is in hand; the doubt that leaves is abandoned, as an operator may."""
        run = await self._record()
        await self.governor.cancel(run.id, by=PERSON, reason="cancelled by the judge")
        self.driving.cancel()
        await asyncio.gather(self.driving, return_exceptions=True)
        run = await self._record()
        for call in run.having(CallState.UNKNOWN):
            await self.governor.resolve(run.id, call.n, "abandon", by=PERSON, evidence="cut off by the judge")

    async def wait(self, timeout_seconds: float) -> RunOutcome:
        await asyncio.gather(self.driving, return_exceptions=True)
        if self.timed_out:
            return RunOutcome(RunStatus.TIMED_OUT, "the caller's time was over")
        run = await self._until(lambda run: run.state.ended or run.state in STUCK, timeout_seconds)
        return RunOutcome(STATUS.get(run.state, RunStatus.UNKNOWN), run.blocked or run.error)

    async def reconcile(self, action_id: str, timeout_seconds: float) -> ReconciliationEvidence:
        """An operator looks the effect up and answers the doubt with what was found; what is unclear stays a doubt."""
        run = await self._record()
        call = next(call for call in run.having(CallState.UNKNOWN) if call.call_id == action_id)
        action = self._action(call, run)
        self._look(action, AuditEvent.RECONCILIATION_STARTED)
        try:
            evidence = await asyncio.wait_for(self.effects.probe.reconcile(action), timeout_seconds)
        except TimeoutError:
            self._look(action, AuditEvent.RECONCILIATION_TIMED_OUT)
            return ReconciliationEvidence(
                action_id, ReconciliationStatus.UNAVAILABLE, action_digest(action), detail="the look-up timed out"
            )
        if how := ANSWERS.get(evidence.status):
            said = evidence.detail or evidence.status.value
            await self._answer(run.id, call.n, how, said)
        self._look(action, AuditEvent(f"reconciliation_{evidence.status.value}"))
        return evidence

    async def _answer(self, run: str, n: int, how: Any, evidence: str) -> None:
        """Say it, and when something may still be under way, say it again once that is over."""
        governor = self.governor
        while True:
            try:
                await governor.resolve(run, n, how, by=PERSON, evidence=evidence)
                return
            except TooEarly as early:
                now = await governor.loop.bridge(governor.runs.now())
                await governor.wait(run, timeout=early.until - now, until=lambda run: False)

    def _look(self, action: ActionRequest, event: AuditEvent) -> None:
        """What the operator did outside of the run; its effect on the run is in the run's own trail."""
        at = time.time_ns()
        self.looked.append(
            AuditReceipt(1_000_000 + len(self.looked), self.run_id, event, at, action.action_id, action_digest(action))
        )

    async def replay(self) -> RunHandle:
        """Ask for the same run again. What people must approve anew, the judge's evidence approves."""
        run = await self._record()
        with contextlib.suppress(Fenced, IllegalTransition):
            await self.governor.resume(run.id)
        for approval in (await self._record()).approvals:
            await self.governor.decide(approval.id, Decision.approve(), by=PERSON)
        return self

    async def audit_receipts(self) -> tuple[AuditReceipt, ...]:
        """The run's audit trail in the judge's words."""
        run = await self._record()
        calls = {call.n: call for call in await self.governor.calls(run.id)}
        receipts = []
        for line in await self.governor.timeline(run.id):
            event = RECEIPTS.get(line["what"])
            if event is None:
                continue
            action = self._action(calls[line["n"]], run) if "n" in line else None
            about = (action.action_id, action_digest(action)) if action else (None, None)
            receipts.append(AuditReceipt(line["seq"], self.run_id, event, int(line["at"] * 1e9), *about))
        return (*receipts, *self.looked)

    async def close(self) -> None:
        self.stop.set()
        self.driving.cancel()
        await asyncio.gather(self.driving, self.worker, return_exceptions=True)
        await self.governor.close()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)
