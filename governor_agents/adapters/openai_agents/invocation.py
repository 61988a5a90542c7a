"""One governed tool: what the SDK asks of it, and the way of each call through the policies and the guard."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from agents import FunctionTool, RunContextWrapper, ToolGuardrailFunctionOutput, ToolInputGuardrail
from agents import tool as sdk_tool
from agents.agent_tool_state import get_agent_tool_state_scope, peek_agent_tool_run_result
from agents.exceptions import ToolTimeoutError
from agents.tool_context import ToolContext
from agents.tool_guardrails import ToolInputGuardrailData

from governor_agents.adapters.openai_agents import outputs
from governor_agents.adapters.openai_agents.graph import is_composite, schema_sha256
from governor_agents.adapters.openai_agents.stretch import Stretch, current_stretch, enclosing, inside
from governor_agents.claims import Claim, current_claim
from governor_agents.core.calls import Tool, ToolCall, freeze, freeze_text
from governor_agents.core.records import Call, CallState
from governor_agents.errors import ApprovalPending, ArgumentsError, CallIdReused, OutcomeUnknown, RunBlocked
from governor_agents.guard import ToolFailed, keyed
from governor_agents.journal import Ran
from governor_agents.operands import bound

if TYPE_CHECKING:
    from governor_agents.governor import Governor

log = logging.getLogger(__name__)

UNASKED = "Not run: this call needs the approval of a person, and nobody was asked."


class TimedOut(asyncio.CancelledError):
    """The tool took longer than its ``timeout_seconds``. To the guard this is what it is: cancelled from outside."""


_failures: ContextVar[list[Exception] | None] = ContextVar("governor_agents_openai_failures", default=None)


def frozen(arguments: str | None) -> bytes:
    """The arguments as the model wrote them, frozen; none at all are an empty object. Raises `ArgumentsError`."""
    data = freeze_text(arguments if arguments and arguments.strip() else "{}")
    if not data.startswith(b"{"):
        raise ArgumentsError("arguments are not a JSON object")
    return data


def _watched(tool: FunctionTool) -> Callable[[Any, str], Awaitable[Any]]:
    """The tool's own invoker, its failures noted before the SDK's failure handler makes words of them."""
    invoke = tool.on_invoke_tool
    body = getattr(invoke, "_invoke_tool_impl", None)
    if body is None:
        return invoke

    async def noting(ctx: Any, arguments: str) -> Any:
        try:
            return await body(ctx, arguments)
        except Exception as error:
            if (noted := _failures.get()) is not None:
                noted.append(error)
            raise

    watched: Any = copy.copy(invoke)
    watched._invoke_tool_impl = noting
    return watched  # type: ignore[no-any-return]


class GovernedTool:
    """Stands in for a function tool's invoker and ``needs_approval``, for one agent.

    Leaf tools run under the guard. An agent used as a tool is only gated: its own calls are governed one by one, it may
    pause in the middle, and it is recorded, when people were asked for it, once its inner agent is done.
    """

    def __init__(self, governor: Governor, tool: FunctionTool, agent: str) -> None:
        self.governor = governor
        self.tool = tool
        self.agent = agent
        self.name = tool.qualified_name
        self.schema = schema_sha256(tool)
        self._body = _watched(tool)

    def governed(self) -> FunctionTool:
        """A copy of the tool that asks and runs through this object."""
        made = copy.copy(self.tool)
        made.on_invoke_tool = self.invoke
        made.needs_approval = self.asks
        if made.tool_input_guardrails:
            first: ToolInputGuardrail[Any] = ToolInputGuardrail(self._show_edited, "governor")
            made.tool_input_guardrails = [first, *made.tool_input_guardrails]
        made.timeout_seconds = None  # `_run` counts: the tool's time, not the guard's
        return made

    def call(self, args: bytes, call_id: str) -> ToolCall:
        """The call as policies and records know it."""
        claim = current_claim()
        return ToolCall(
            tool=self.name,
            args=args,
            call_id=call_id,
            agent=self.agent,
            run=claim.run if claim else "",
            requester=claim.requester if claim else f"service:{self.agent}",
            conversation=claim.conversation if claim else "",
            tenant=claim.tenant if claim else self.governor.tenant,
            generation=claim.generation if claim else 0,
            schema_sha256=self.schema,
        )

    # -- what the SDK calls -----------------------------------------------------------------------------------------

    async def asks(self, ctx: RunContextWrapper[Any], arguments: dict[str, Any], call_id: str) -> bool:
        """``needs_approval``: whether people must decide. Never raises: an exception here would end the user's run."""
        stretch = current_stretch()
        try:
            call = self.call(freeze(arguments), call_id)
        except ArgumentsError:
            return False  # `invoke` tells the model
        if call_id in stretch.begun or not stretch.is_first_of_its_id(call):
            return False  # it goes on; it is refused
        known = stretch.decided.get(call_id)
        if known is not None and known.state is not CallState.PENDING:
            return False  # it was made before a worker died: the record says what becomes of it
        try:
            verdict = self.governor.guard.verdict(current_claim(), call, self.governor.policies.tool(self.name))
        except Exception:
            return True
        if verdict.outcome == "require_approval" and stretch.in_a_tool:
            log.warning(
                "%s waits for people in an agent that a tool runs by itself: nobody is asked unless it hands the "
                "pause to governor.suspend; agent.as_tool() needs no such care",
                self.name,
            )
        return verdict.outcome == "require_approval"

    async def invoke(self, ctx: ToolContext[Any], arguments: str) -> Any:
        """``on_invoke_tool``: what the model gets, or the exception that stops the loop."""
        claim, stretch = current_claim(), current_stretch()
        if stretch.error is not None or (claim is not None and claim.stop):
            await stretch.stop(RunBlocked(claim.stop if claim else None))
        try:
            call = self.call(frozen(arguments), ctx.tool_call_id)
        except ArgumentsError as error:
            return self._say(ctx, f"Not run: {error}")
        if claim is not None and not stretch.is_first_of_its_id(call):
            await stretch.stop(CallIdReused(f"the model used the call id {call.call_id!r} for two different calls"))
        tool = self.governor.policies.tool(self.name)
        try:
            if claim is None:
                return await self._freely(ctx, call, tool)
            if is_composite(self.tool):
                return await self._gated(ctx, call, tool, claim, stretch)
            return await self._guarded(ctx, call, tool, claim, stretch)
        except TimedOut:
            return await self._late(ctx, claim, stretch)

    # -- the ways of a call -----------------------------------------------------------------------------------------

    async def _freely(self, ctx: ToolContext[Any], call: ToolCall, tool: Tool) -> Any:
        """In the user's own loop: allowed calls run, denied ones are told, an approval without a record is none."""
        version, policies = None, self.governor.policies
        while version != policies.version:
            version = policies.version
            _, verdict = bound(call, tool, self.governor.guard.verdict(None, call, tool))
            if verdict.outcome == "require_approval":
                return self._say(ctx, UNASKED)
            if verdict.outcome == "deny":
                told = outputs.words(CallState.DENIED, verdict.reason or f"denied by policy ({verdict.code})")
                return self._say(ctx, told)
            await self.governor.open()
            if scope := await self.governor.guard.halted(None, call, tool):
                return self._say(ctx, f"Not run: {scope} is halted")
        try:
            with keyed():
                return await self._run(ctx, call.args.decode())
        except ToolFailed as failed:
            return str(failed)

    async def _guarded(self, ctx: ToolContext[Any], call: ToolCall, tool: Tool, claim: Claim, stretch: Stretch) -> Any:
        """Through the guard; what the guard raises stops the loop, what the tool raises goes its usual way."""
        raised: list[Exception] = []

        async def body(args: bytes) -> Any:
            if args != call.args:
                self._put_arguments(ctx, args)
            try:
                return await self._run(ctx, args.decode())
            except ToolFailed:
                raise
            except Exception as error:
                raised.append(error)
                raise

        try:
            with stretch.running():
                ran = await self._guard(claim, call, tool, body)
        except Exception as error:
            if not any(error is other for other in raised):
                await stretch.stop(error)
            await stretch.alone()
            raise
        return await self._told(ctx, ran, claim, stretch)

    async def _gated(self, ctx: ToolContext[Any], call: ToolCall, tool: Tool, claim: Claim, stretch: Stretch) -> Any:
        """An agent used as a tool: asked for like any other, then left to run; its record follows when it is done."""
        known = stretch.decided.get(call.call_id)
        args = await self._may_begin(call, tool, known, claim, stretch)
        if args is None:
            return await self._not_begun(ctx, call, tool, claim, stretch)
        try:
            await self.governor.guard.keep(claim, enclosing())
        except Exception as error:
            await stretch.stop(error)
        value: Any = None
        failed: Exception | None = None
        try:
            value = await self._run(ctx, args.decode())
        except Exception as error:
            failed = error
        if stretch.error is not None or claim.stop:
            await stretch.stop(RunBlocked(claim.stop))
        if failed is None and _paused(ctx):
            return value
        if known is None or known.state is not CallState.APPROVED:
            if isinstance(failed, ToolFailed):
                return str(failed)
            if failed is not None:
                raise failed
            return value

        async def done(_: bytes) -> Any:
            if failed is not None:
                raise failed
            return value

        try:
            ran = await self._guard(claim, call, tool, done)
        except Exception as error:
            if error is not failed:
                await stretch.stop(error)
            raise
        return await self._told(ctx, ran, claim, stretch)

    async def _may_begin(
        self, call: ToolCall, tool: Tool, known: Call | None, claim: Claim, stretch: Stretch
    ) -> bytes | None:
        """The arguments with which the inner agent may start, or go on; None when it may not."""
        guard = self.governor.guard
        if call.call_id not in stretch.begun:
            return await guard.leave(claim, call, tool)
        if await guard.halted(claim, call, tool):
            return None
        return known.args if known is not None and known.asked_args in (None, call.args) else call.args

    async def _not_begun(
        self, ctx: ToolContext[Any], call: ToolCall, tool: Tool, claim: Claim, stretch: Stretch
    ) -> Any:
        """The guard's answer for an agent tool that may not begin: told, asked again, or answered from the record."""

        async def never(_: bytes) -> Any:
            raise ToolFailed("Not run: the policies changed while this call was looked at.")

        try:
            ran = await self._guard(claim, call, tool, never)
        except Exception as error:
            await stretch.stop(error)
        return await self._told(ctx, ran, claim, stretch)

    async def _guard(self, claim: Claim, call: ToolCall, tool: Tool, body: Callable[[bytes], Awaitable[Any]]) -> Ran:
        return await self.governor.guard.run(
            claim,
            call,
            tool,
            body,
            dump=lambda value: outputs.dump(self.tool, value),
            load=lambda data: outputs.load(self.tool, data),
            chain=enclosing(),
        )

    async def _told(self, ctx: ToolContext[Any], ran: Ran, claim: Claim, stretch: Stretch) -> Any:
        if stretch.error is not None:  # an agent that this tool ran by itself was stopped
            await stretch.stop(stretch.error)
        if ran.how == "value":
            return ran.value
        if ran.how == "told":
            return self._say(ctx, outputs.words(ran.state, ran.text))
        if claim.stop:
            await stretch.stop(ApprovalPending(claim.stop, run=claim.run))
        return self._say(ctx, UNASKED)

    def _say(self, ctx: ToolContext[Any], text: str) -> str:
        """Words in the place of an output; a tool with a declared output would be refused them otherwise."""
        if self.tool.output_json_schema is not None:
            setattr(ctx, getattr(sdk_tool, "_DEFAULT_FAILURE_HANDLED_ATTR", "_governor_agents_words"), True)
        return text

    async def _late(self, ctx: ToolContext[Any], claim: Claim | None, stretch: Stretch) -> Any:
        """After ``timeout_seconds``: a call in doubt stops the loop, of any other the model is told as always."""
        if claim is not None and (stretch.error is not None or claim.stop):
            await stretch.stop(RunBlocked(claim.stop))
        seconds = self.tool.timeout_seconds or 0.0
        error = ToolTimeoutError(tool_name=self.tool.name, timeout_seconds=seconds)
        if self.tool.timeout_behavior == "raise_exception":
            await stretch.alone()
            raise error
        if self.tool.timeout_error_function is not None:
            told = self.tool.timeout_error_function(ctx, error)
            return await told if inspect.isawaitable(told) else told
        text = sdk_tool.default_tool_timeout_error_message(tool_name=self.tool.name, timeout_seconds=seconds)
        return self._say(ctx, text)

    async def _run(self, ctx: ToolContext[Any], arguments: str) -> Any:
        """Call the tool's own invoker.

        Raises `ToolFailed` with the words its failure handler has for the model, `OutcomeUnknown`, `TimedOut`.
        """
        choose = getattr(sdk_tool, "_get_function_tool_invoke_context", lambda tool, context: context)
        noted: list[Exception] = []
        token = _failures.set(noted)
        try:
            with inside(ctx.tool_call_id, current_claim()):
                async with asyncio.timeout(self.tool.timeout_seconds) as clock:
                    value = await self._body(choose(self.tool, ctx), arguments)
        except TimeoutError:
            if clock.expired():
                raise TimedOut from None
            raise
        finally:
            _failures.reset(token)
        if unknown := next((error for error in noted if isinstance(error, OutcomeUnknown)), None):
            raise unknown
        if noted:
            raise ToolFailed(value if isinstance(value, str) else str(value))
        return value

    def _put_arguments(self, ctx: ToolContext[Any], args: bytes) -> None:
        """Let everything that looks at the call see the arguments that run."""
        ctx.tool_arguments = args.decode()
        if ctx.tool_call is not None and not is_composite(self.tool):  # an agent tool is found again by its tool call
            ctx.tool_call = ctx.tool_call.model_copy(update={"arguments": args.decode()})

    async def _show_edited(self, data: ToolInputGuardrailData) -> ToolGuardrailFunctionOutput:
        """Runs before the user's own input guardrails, so that they judge the arguments that a person put in place."""
        ctx = data.context
        known = current_stretch().decided.get(ctx.tool_call_id)
        if known is not None and known.edited:
            with contextlib.suppress(ArgumentsError):
                if frozen(ctx.tool_arguments) == known.asked_args:
                    self._put_arguments(ctx, known.args)
        return ToolGuardrailFunctionOutput.allow()


def _paused(ctx: ToolContext[Any]) -> bool:
    """True when the agent behind this tool waits for people."""
    if ctx.tool_call is None:
        return False
    result = peek_agent_tool_run_result(ctx.tool_call, scope_id=get_agent_tool_state_scope(ctx))
    return bool(getattr(result, "interruptions", None))
