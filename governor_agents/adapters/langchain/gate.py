"""One tool call on its way through the guard: what middleware and wrapped tools share.

The guard is always asked first, and a pause is only raised while it says that people must decide. So nothing depends on
what a graph is resumed with: ``Command(resume=...)`` is a wake-up and never a decision, and a call that was decided does
not pause again.

A tool that runs graphs itself is *composite*: it is asked about like any other call but never journalled, because its
body runs again on every resume and its inner calls have records of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, cast

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from langgraph.config import get_config
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command, interrupt

from governor_agents.adapters.langchain.graphs import graphs_of, schema_sha256
from governor_agents.adapters.langchain.values import Values
from governor_agents.claims import Claim, current_claim
from governor_agents.core import people
from governor_agents.core.calls import Json, Tool, ToolCall, freeze, thaw
from governor_agents.core.records import Call, CallState
from governor_agents.errors import (
    ApprovalPending,
    ArgumentsError,
    CallCancelled,
    CallDenied,
    CallExpired,
    CallFailed,
    CallNotRun,
    CallRejected,
    ConfigError,
    GovernorError,
    RunBlocked,
)
from governor_agents.guard import Ran, ToolFailed

if TYPE_CHECKING:
    from governor_agents.adapters.langchain.adapter import LangChainAdapter
    from governor_agents.governor import Governor

PAYLOAD = "governor_agents.call"
"""The ``type`` of our interrupts."""

EDITED = "governor_agents"
"""The key in a tool message's ``additional_kwargs`` that says with which arguments the call ran."""

_VALUES = Values()
_position: ContextVar[tuple[int, ...]] = ContextVar("governor_agents_langchain_position", default=())
_inside: ContextVar[tuple[str, str] | None] = ContextVar("governor_agents_langchain_inside", default=None)


@dataclass(frozen=True, slots=True)
class Site:
    """A tool call where it was met. ``at`` is its place in the model's message; ``notes`` whether the model is told of
    edits by the middleware (else the message says so itself)."""

    name: str
    args: dict[str, Any]
    call_id: str
    tool: BaseTool | None
    at: int = 0
    notes: bool = True


@dataclass(frozen=True, slots=True)
class _Asked:
    """A frozen call with what is known of its tool."""

    site: Site
    call: ToolCall
    tool: Tool
    claim: Claim | None
    composite: bool


class _Passing(asyncio.CancelledError):
    """An interrupt that passes through a journalled tool: no failure, but nobody knows how far the tool came."""


class Flights:
    """Counts the calls under way for each claim: a plain tool node lets siblings run on after it paused."""

    def __init__(self) -> None:
        self._flying: dict[Claim, int] = {}
        self._changed = threading.Condition()

    @contextmanager
    def flying(self, claim: Claim) -> Iterator[None]:
        """A call is under way inside the block."""
        with self._changed:
            self._flying[claim] = self._flying.get(claim, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                left = self._flying[claim] - 1
                self._flying[claim] = left
                if not left:
                    del self._flying[claim]
                    self._changed.notify_all()

    async def landed(self, claim: Claim) -> None:
        """Return when no call is under way any more."""
        if claim in self._flying:
            await asyncio.to_thread(self._wait, claim)

    def _wait(self, claim: Claim) -> None:
        with self._changed:
            self._changed.wait_for(lambda: claim not in self._flying)


class Gate:
    """Takes tool calls through the guard of one governor. ``composite`` names tools that run graphs, beside those that
    are recognised by themselves."""

    def __init__(self, governor: Governor, composite: Collection[str] = ()) -> None:
        self.governor = governor
        self._composite = frozenset(composite)
        self._schemas: dict[int, tuple[BaseTool, str, bool]] = {}
        self._earlier: dict[tuple[str, int], dict[str, Call]] = {}

    @property
    def shared(self) -> LangChainAdapter:
        """What all parts of one governor share."""
        return cast("LangChainAdapter", self.governor.adapter("langchain"))

    async def arun(self, site: Site, invoke: Callable[[dict[str, Any]], Awaitable[Any]]) -> Any:
        """Run a call of an async graph, or what stands in its place. Raises what pauses or stops the graph."""
        if _inside.get() == (site.name, site.call_id):
            return await invoke(site.args)
        asked = self._ask(site)
        if isinstance(asked, Ran):
            return _told(site, asked.text, asked.state)
        work = _Work(asked)

        async def call(args: bytes) -> Any:
            with work.inside():
                return work.done(args, await invoke(thaw(args)))

        while True:
            try:
                if asked.claim is None:
                    ran = self._unclaimed(asked) or Ran("value", await call(asked.call.args))
                else:
                    with self.shared.flights.flying(asked.claim):
                        ran = await self._arun_claimed(asked.claim, asked, work, call)
            except BaseException as error:
                self._raise(work, error)
            if ran.how != "waits":
                return work.result(ran)
            self._pause(asked)

    async def _arun_claimed(self, claim: Claim, asked: _Asked, work: _Work, call: Callable[[bytes], Awaitable[Any]]) -> Ran:
        guard, loop = self.governor.guard, self.governor.loop
        if self._has_closed(claim) and (ran := await loop.bridge(self._over(claim, asked))) is not None:
            return ran
        if asked.composite:
            args = await loop.bridge(self._leave(claim, asked))
            if args is not None:
                with self.governor.beats.during(claim):
                    value = await call(args)
                if asked.call.call_id not in claim.known:
                    return Ran("value", value)

                async def already(_: bytes) -> Any:
                    return value

                await guard.run(claim, asked.call, asked.tool, already, dump=_dump, load=_load)
                return Ran("value", value)
        return await guard.run(claim, asked.call, asked.tool, work.guarded(call), dump=_dump, load=_load)

    def run(self, site: Site, invoke: Callable[[dict[str, Any]], Any]) -> Any:
        """The same for a synchronous graph."""
        if _inside.get() == (site.name, site.call_id):
            return invoke(site.args)
        asked = self._ask(site)
        if isinstance(asked, Ran):
            return _told(site, asked.text, asked.state)
        work = _Work(asked)

        def call(args: bytes) -> Any:
            with work.inside():
                return work.done(args, invoke(thaw(args)))

        while True:
            try:
                if asked.claim is None:
                    ran = self._unclaimed(asked) or Ran("value", call(asked.call.args))
                else:
                    with self.shared.flights.flying(asked.claim):
                        ran = self._run_claimed(asked.claim, asked, work, call)
            except BaseException as error:
                self._raise(work, error)
            if ran.how != "waits":
                return work.result(ran)
            self._pause(asked)

    def _run_claimed(self, claim: Claim, asked: _Asked, work: _Work, call: Callable[[bytes], Any]) -> Ran:
        guard, loop = self.governor.guard, self.governor.loop
        if self._has_closed(claim) and (ran := loop.call(self._over(claim, asked))) is not None:
            return ran
        if asked.composite:
            args = loop.call(self._leave(claim, asked))
            if args is not None:
                with self.governor.beats.during(claim):
                    value = call(args)
                if asked.call.call_id in claim.known:
                    guard.run_sync(claim, asked.call, asked.tool, lambda _: value, dump=_dump, load=_load)
                return Ran("value", value)
        return guard.run_sync(claim, asked.call, asked.tool, work.guarded_sync(call), dump=_dump, load=_load)

    # -- before -----------------------------------------------------------------------------------------------------

    def claim(self) -> Claim | None:
        """The claim of a loop of one's own that runs here; None under a driver, which keeps its claim alive itself."""
        thread = str(_config().get("configurable", {}).get("thread_id", ""))
        return None if current_claim() is not None else self.shared.loops.claim(thread)

    def _ask(self, site: Site) -> _Asked | Ran:
        config = _config()
        thread = str(config.get("configurable", {}).get("thread_id", ""))
        claim = self.shared.loops.claim(thread)
        try:
            args = freeze(site.args)
        except ArgumentsError as error:
            return Ran("told", text=str(error), state=CallState.DENIED)
        schema, runs_graphs = self._known(site.tool)
        call = ToolCall(
            tool=site.name,
            args=args,
            call_id=site.call_id,
            agent=claim.agent if claim else str(config.get("metadata", {}).get("lc_agent_name", "")),
            run=claim.run if claim else "",
            requester=claim.requester if claim else "",
            conversation=claim.conversation if claim else thread,
            tenant=self.governor.tenant,
            generation=claim.generation if claim else 0,
            schema_sha256=schema,
        )
        tool = self.governor.policies.tool(site.name)
        composite = runs_graphs or site.name in self._composite
        if claim is not None and not call.call_id and not (tool.read_only or composite):
            self._raise(None, ConfigError(f"{site.name} was called without a tool call id; pass it the model's tool call"))
        return _Asked(site, call, tool, claim, composite)

    def _known(self, tool: BaseTool | None) -> tuple[str, bool]:
        if tool is None:
            return "", False
        found = self._schemas.get(id(tool))
        if found is None or found[0] is not tool:
            found = self._schemas[id(tool)] = (tool, schema_sha256(tool), bool(graphs_of(tool)))
        return found[1:]

    def _unclaimed(self, asked: _Asked) -> Ran | None:
        """What the policies say where no run is driven; None for leave to run. Nothing is recorded."""
        verdict = self.governor.guard.verdict(None, asked.call, asked.tool)
        if verdict.outcome == "allow":
            return None
        if verdict.outcome == "deny":
            text = verdict.reason or f"denied by policy ({verdict.code})"
            return Ran("told", text=text, state=CallState.DENIED)
        return Ran("waits")

    async def _leave(self, claim: Claim, asked: _Asked) -> bytes | None:
        """The arguments with which a composite tool may run now; None when the guard has to say more. On its loop."""
        if claim.lost:
            return None
        known = None
        if asked.call.call_id in claim.known:
            run = await self.governor.runs.get(claim.run)
            known = run.by_call_id(asked.call.call_id)
        if known is None:
            allowed = self.governor.guard.verdict(claim, asked.call, asked.tool).outcome == "allow"
            return asked.call.args if allowed else None
        if known.state not in (CallState.APPROVED, CallState.ALLOWED) or not _same(known, asked.call):
            return None
        verdict = self.governor.policies.evaluate(known.as_tool_call(run), asked.tool)
        met = people.votes_meet(known.votes, verdict.stages, known.excluded)
        return known.args if verdict.outcome == "allow" or (verdict.outcome != "deny" and met) else None

    def _has_closed(self, claim: Claim) -> bool:
        run = self.governor.runs.known(claim.run)
        return run is None or bool(run.closed)

    async def _over(self, claim: Claim, asked: _Asked) -> Ran | None:
        """What became of a call in a generation that is closed: a plain tool node runs from the top on every resume."""
        if asked.call.call_id in claim.known:
            return None
        run = self.governor.runs.known(claim.run) or await self.governor.runs.get(claim.run)
        key = (run.id, len(run.closed))
        if key not in self._earlier:
            if len(self._earlier) > 64:
                self._earlier.clear()
            self._earlier[key] = {call.call_id: call for call in await self.governor.runs.all_calls(run)}
        known = self._earlier[key].get(asked.call.call_id)
        if known is None or run.by_call_id(known.call_id) is not None:
            return None
        if not _same(known, asked.call):
            raise ArgumentsError(f"the call id {known.call_id!r} of {known.tool} came back with other content")
        if known.state is CallState.SUCCEEDED and known.result is not None:
            data = known.result.data
            stored = await self.governor.runs.blob(known.result.blob) if data is None else data.encode()
            return Ran("value", _load(stored), state=known.state)
        return Ran("told", text=known.told or str(known.state), state=known.state)

    # -- instead ----------------------------------------------------------------------------------------------------

    def _pause(self, asked: _Asked) -> None:
        """Raise the framework's interrupt. Returns when the graph was woken: then the guard is asked again."""
        conf = _config().get("configurable", {})
        if "__pregel_scratchpad" not in conf:
            raise ApprovalPending(f"{asked.site.name} needs approval and nothing ran; call it inside a governed run")
        if not conf.get("__pregel_checkpointer"):
            raise stopping(ConfigError(f"{asked.site.name} needs approval, but the graph has no checkpointer to wait in"))
        interrupt(
            {
                "type": PAYLOAD,
                "tool": asked.call.tool,
                "call_id": asked.call.call_id,
                "args": asked.call.args.decode(),
                "schema_sha256": asked.call.schema_sha256,
                "at": [*_position.get(), asked.site.at],
            }
        )

    def _raise(self, work: _Work | None, error: BaseException) -> NoReturn:
        """Let through what the tool raised; what the guard raised must stop the graph, not become a message."""
        if isinstance(error, _Passing) and work is not None and error.__cause__ is not None:
            if not work.journalled:
                raise error.__cause__
            told = f"{work.name} paused by itself while it was journalled, nobody knows how far it came; " + (
                "name it in GovernorMiddleware(composite={...}), or declare it read_only"
            )
            raise stopping(RunBlocked(told)) from error.__cause__
        if isinstance(error, GovernorError) and (work is None or error is not work.raised):
            raise stopping(error) from error
        raise error


class _Work:
    """What happened to the tool of one call."""

    def __init__(self, asked: _Asked) -> None:
        self.name = asked.site.name
        self.raised: BaseException | None = None
        self._asked = asked
        self._kept: Any = None

    @property
    def journalled(self) -> bool:
        """True when the call has a record."""
        claim = self._asked.claim
        return claim is not None and self._asked.call.call_id in claim.known

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Around the tool: calls below it know where they are; what it raises is kept apart from our own errors."""
        site = self._asked.site
        tokens = _inside.set((site.name, site.call_id)), _position.set((*_position.get(), site.at))
        try:
            yield
        except BaseException as error:
            self.raised = error
            raise
        finally:
            with contextlib.suppress(ValueError):
                _inside.reset(tokens[0])
                _position.reset(tokens[1])

    def done(self, args: bytes, value: Any) -> Any:
        """The tool's value, marked when a person changed the arguments."""
        site = self._asked.site
        if args == self._asked.call.args:
            return value
        return mark_edited(value, site.call_id, thaw(args), in_text=not site.notes)

    def guarded(self, call: Callable[[bytes], Awaitable[Any]]) -> Callable[[bytes], Awaitable[Any]]:
        """The call in the form the guard runs: failures that became words, and interrupts, made plain."""

        async def run(args: bytes) -> Any:
            try:
                return self._checked(await call(args))
            except GraphBubbleUp as passing:
                raise _Passing() from passing

        return run

    def guarded_sync(self, call: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """The same for a synchronous call."""

        def run(args: bytes) -> Any:
            try:
                return self._checked(call(args))
            except GraphBubbleUp as passing:
                raise _Passing() from passing

        return run

    def _checked(self, value: Any) -> Any:
        if isinstance(value, ToolMessage) and value.status == "error":
            self._kept = value
            raise ToolFailed(value.text or "the tool failed")
        return value

    def result(self, ran: Ran) -> Any:
        """What the graph gets."""
        if ran.how == "value":
            return ran.value
        if self._kept is not None and ran.state is CallState.FAILED:
            return self._kept
        return _told(self._asked.site, ran.text, ran.state)


def _same(known: Call, call: ToolCall) -> bool:
    asked = known.asked_args if known.asked_args is not None else known.args
    return asked == call.args and known.tool == call.tool


def _config() -> dict[str, Any]:
    """The configuration of the graph that runs here, empty outside of one."""
    try:
        return dict(get_config())
    except RuntimeError:
        return {}


def _dump(value: Any) -> bytes:
    """A tool's value for the record; what has no form in it becomes text."""
    return _VALUES.dumps(value, "result", lenient=True).encode("utf-8", "replace")


def _load(data: bytes) -> Any:
    return _VALUES.loads(data)


_NOT_RUN: dict[CallState, tuple[str, type[CallNotRun]]] = {
    CallState.DENIED: ("a policy denies it", CallDenied),
    CallState.REJECTED: ("a person rejected it", CallRejected),
    CallState.EXPIRED: ("nobody approved it in time", CallExpired),
    CallState.CANCELLED: ("it was cancelled", CallCancelled),
    CallState.SUPERSEDED: ("it was superseded", CallCancelled),
}


def _told(site: Site, text: str, state: CallState | None) -> Any:
    """What the model hears in the place of a result. A caller who gave no call id gets the answer, or an exception."""
    good = state in (CallState.ANSWERED, CallState.SUCCEEDED)
    kind: type[GovernorError] = CallFailed
    if state in _NOT_RUN:
        why, kind = _NOT_RUN[state]
        text = f"This call did not run: {why}" + (f": {text}" if text and text != str(state) else "") + "."
    if site.call_id or site.notes:
        return ToolMessage(text, name=site.name, tool_call_id=site.call_id, status="success" if good else "error")
    if good:
        return text
    raise kind(text)


def mark_edited(value: Any, call_id: str, args: Json, *, in_text: bool) -> Any:
    """Say on the tool message that a person changed the arguments, so that the model does not ask for the rest again.

    The tool's own content stays as it is, unless the mark must stand ``in_text`` because nobody else tells the model.
    """
    if isinstance(value, Command) and isinstance(value.update, dict):
        update = dict(value.update)
        update["messages"] = mark_edited(update.get("messages", []), call_id, args, in_text=in_text)
        return replace(value, update=update)
    if isinstance(value, list):
        return [mark_edited(item, call_id, args, in_text=in_text) for item in value]
    if not isinstance(value, ToolMessage) or value.tool_call_id != call_id:
        return value
    marked = value.model_copy(update={"additional_kwargs": value.additional_kwargs | {EDITED: {"ran_with": args}}})
    return with_note(marked) if in_text else marked


def with_note(message: ToolMessage) -> ToolMessage:
    """The message as the model is to read it: with a note when a person changed the arguments of its call."""
    edited = message.additional_kwargs.get(EDITED)
    if not isinstance(edited, dict) or "ran_with" not in edited:
        return message
    ran_with = freeze(edited["ran_with"]).decode()
    note = f"[A person changed the arguments of this call before it ran. It ran with {ran_with}; do not repeat it.]"
    content = message.content
    if isinstance(content, str):
        return message.model_copy(update={"content": f"{content}\n\n{note}" if content else note})
    return message.model_copy(update={"content": [*content, {"type": "text", "text": note}]})


_stops: dict[type[GovernorError], type[GovernorError]] = {}


def stopping(error: GovernorError) -> GovernorError:
    """The same error in a form that tool nodes and other middleware let through: it must end the loop."""
    kind = type(error)
    if isinstance(error, GraphBubbleUp):
        return error
    if kind not in _stops:
        _stops[kind] = type(kind.__name__, (kind, GraphBubbleUp), {"__module__": kind.__module__})
        _stops[kind].code = kind.code
    stop: GovernorError = _stops[kind](str(error))
    return stop
