"""One tool call on its way through the guard: what middleware and wrapped tools share.

The guard is always asked first, and a pause is only raised while it says that people must decide. So nothing depends
on what a graph is resumed with: ``Command(resume=...)`` is a wake-up and never a decision, and a call that was decided
does not pause again.

A tool that runs graphs itself is *composite*: it is asked about like any other call but never journalled, because its
body runs again on every resume and its inner calls have records of their own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any, NoReturn, cast

from langchain_core.tools import BaseTool
from langgraph.config import get_config
from langgraph.types import interrupt

from governor_agents.adapters.langchain.attempt import Asked, Attempt, Passing, is_inside, position, stopping
from governor_agents.adapters.langchain.graphs import graphs_of, schema_sha256
from governor_agents.adapters.langchain.messages import Site, dump, load, told
from governor_agents.adapters.langchain.saver import GovernorSaver
from governor_agents.claims import Claim, current_claim
from governor_agents.core.calls import ToolCall, freeze, thaw
from governor_agents.core.records import Call, CallState
from governor_agents.errors import (
    ApprovalPending,
    ArgumentsError,
    CallIdReused,
    ConfigError,
    GovernorError,
    RunBlocked,
)
from governor_agents.guard import keyed
from governor_agents.journal import Ran
from governor_agents.operands import bound

if TYPE_CHECKING:
    from governor_agents.adapters.langchain.adapter import LangChainAdapter
    from governor_agents.governor import Governor

PAYLOAD = "governor_agents.call"
"""The ``type`` of our interrupts."""

PATIENCE = 2.0
"""Seconds that a synchronous tool waits for the run which the thread that saves its loop's input is to open."""


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
        if is_inside(site):
            return await invoke(site.args)
        config = _config()
        asked = self._ask(site, config, current_claim() or await self._own(config))
        if isinstance(asked, Ran):
            return told(site, asked.text, asked.state)
        work = Attempt(asked)

        async def call(args: bytes) -> Any:
            given = thaw(args)
            with work.inside(given):
                return work.done(args, await invoke(given))

        while True:
            try:
                if asked.claim is None:
                    version = self.governor.policies.version
                    ran = self._unclaimed(asked) or await self._halted(asked, version) or Ran("value")
                    if ran.how == "value":
                        with keyed():
                            ran = Ran("value", await call(asked.call.args))
                else:
                    with self.shared.flights.flying(asked.claim):
                        ran = await self._arun_claimed(asked.claim, asked, work, call)
            except BaseException as error:
                self._raise(work, error)
            if ran.how != "waits":
                return work.result(ran)
            self._pause(asked)

    async def _arun_claimed(
        self, claim: Claim, asked: Asked, work: Attempt, call: Callable[[bytes], Awaitable[Any]]
    ) -> Ran:
        guard, loop = self.governor.guard, self.governor.loop
        if self._waits(claim, asked):
            return Ran("waits")
        if self._has_closed(claim) and (ran := await loop.bridge(self._over(claim, asked))) is not None:
            return ran
        if asked.composite:
            args = await guard.leave(claim, asked.call, asked.tool)
            if args is not None:
                with self.governor.beats.during(claim):
                    value = await call(args)
                if asked.call.call_id in claim.known:  # it was approved: that is used up now

                    async def already(_: bytes) -> Any:
                        return value

                    await guard.run(claim, asked.call, asked.tool, work.guarded(already), dump=dump, load=load)
                return Ran("value", value)
        return await guard.run(
            claim, asked.call, asked.tool, work.guarded(call), dump=dump, load=load, shape=work.shaped
        )

    def run(self, site: Site, invoke: Callable[[dict[str, Any]], Any]) -> Any:
        """The same for a synchronous graph."""
        if is_inside(site):
            return invoke(site.args)
        config = _config()
        asked = self._ask(site, config, current_claim() or self._own_sync(config))
        if isinstance(asked, Ran):
            return told(site, asked.text, asked.state)
        work = Attempt(asked)

        def call(args: bytes) -> Any:
            given = thaw(args)
            with work.inside(given):
                return work.done(args, invoke(given))

        while True:
            try:
                if asked.claim is None:
                    version = self.governor.policies.version
                    ran = self._unclaimed(asked) or self._halted_sync(asked, version) or Ran("value")
                    if ran.how == "value":
                        with keyed():
                            ran = Ran("value", call(asked.call.args))
                else:
                    with self.shared.flights.flying(asked.claim):
                        ran = self._run_claimed(asked.claim, asked, work, call)
            except BaseException as error:
                self._raise(work, error)
            if ran.how != "waits":
                return work.result(ran)
            self._pause(asked)

    def _run_claimed(self, claim: Claim, asked: Asked, work: Attempt, call: Callable[[bytes], Any]) -> Ran:
        guard, loop = self.governor.guard, self.governor.loop
        if self._waits(claim, asked):
            return Ran("waits")
        if self._has_closed(claim) and (ran := loop.call(self._over(claim, asked))) is not None:
            return ran
        if asked.composite:
            args = loop.call(guard.leave(claim, asked.call, asked.tool))
            if args is not None:
                with self.governor.beats.during(claim):
                    value = call(args)
                if asked.call.call_id in claim.known:
                    already = work.guarded_sync(lambda _: value)
                    guard.run_sync(claim, asked.call, asked.tool, already, dump=dump, load=load)
                return Ran("value", value)
        return guard.run_sync(
            claim, asked.call, asked.tool, work.guarded_sync(call), dump=dump, load=load, shape=work.shaped
        )

    # -- before -----------------------------------------------------------------------------------------------------

    def claim(self) -> Claim | None:
        """The claim of a loop of one's own that runs here; None under a driver, which keeps its claim alive itself."""
        return None if current_claim() is not None else self.shared.loops.claim(_thread(_config()))

    async def _own(self, config: dict[str, Any]) -> Claim | None:
        try:
            return await self.shared.loops.claimed(_thread(config))
        except GovernorError as error:
            raise stopping(error) from error

    def _own_sync(self, config: dict[str, Any]) -> Claim | None:
        fresh = _ours(config) and not config["configurable"].get("__pregel_resuming")
        try:
            return self.shared.loops.claimed_sync(_thread(config), PATIENCE if fresh else 0.0)
        except GovernorError as error:
            raise stopping(error) from error

    def _ask(self, site: Site, config: dict[str, Any], claim: Claim | None) -> Asked | Ran:
        thread = _thread(config)
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
            self._raise(
                None, ConfigError(f"{site.name} was called without a tool call id; pass it the model's tool call")
            )
        return Asked(site, call, tool, claim, composite)

    def _known(self, tool: BaseTool | None) -> tuple[str, bool]:
        if tool is None:
            return "", False
        found = self._schemas.get(id(tool))
        if found is None or found[0] is not tool:
            found = self._schemas[id(tool)] = (tool, schema_sha256(tool), bool(graphs_of(tool)))
        return found[1:]

    def _unclaimed(self, asked: Asked) -> Ran | None:
        """What the policies say where no run is driven; None for leave to run. Nothing is recorded."""
        _, verdict = bound(asked.call, asked.tool, self.governor.guard.verdict(None, asked.call, asked.tool))
        if verdict.outcome == "allow":
            if _ours(_config()) and not (asked.tool.read_only or asked.composite):
                thread = asked.call.conversation
                raise ConfigError(
                    f"thread {thread} has no open run, so {asked.call.tool} might run twice: it is resumed by hand "
                    "(use governor.resume), or saved only at its end (durability='exit')"
                )
            return None
        if verdict.outcome == "deny":
            text = verdict.reason or f"denied by policy ({verdict.code})"
            return Ran("told", text=text, state=CallState.DENIED)
        return Ran("waits")

    async def _halted(self, asked: Asked, version: str) -> Ran | None:
        """What becomes of an allowed call where no run is driven, when a halt or other policies stop it."""
        await self.governor.open()
        scope = await self.governor.guard.halted(None, asked.call, asked.tool)
        return _not_run(scope) or self._changed(asked, version)

    def _halted_sync(self, asked: Asked, version: str) -> Ran | None:
        self.governor.caller_loop.call(self.governor.open())
        scope = self.governor.guard.halted_sync(None, asked.call, asked.tool)
        return _not_run(scope) or self._changed(asked, version)

    def _changed(self, asked: Asked, version: str) -> Ran | None:
        return self._unclaimed(asked) if self.governor.policies.version != version else None

    def _waits(self, claim: Claim, asked: Asked) -> bool:
        """True for a call without any record that people must decide: known without crossing to the governor loop."""
        if claim.stop or asked.call.call_id in claim.known or self._has_closed(claim):
            return False
        return self.governor.guard.verdict(claim, asked.call, asked.tool).outcome == "require_approval"

    def _has_closed(self, claim: Claim) -> bool:
        run = self.governor.runs.known(claim.run)
        return run is None or bool(run.closed)

    async def _over(self, claim: Claim, asked: Asked) -> Ran | None:
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
            raise CallIdReused(f"the call id {known.call_id!r} of {known.tool} came back with other content")
        if known.state is CallState.SUCCEEDED and known.result is not None:
            data = known.result.data
            stored = await self.governor.runs.blob(run.id, known.result.blob) if data is None else data.encode()
            return Ran("value", load(stored), state=known.state)
        return Ran("told", text=known.told or str(known.state), state=known.state)

    # -- instead ----------------------------------------------------------------------------------------------------

    def _pause(self, asked: Asked) -> None:
        """Raise the framework's interrupt. Returns when the graph was woken: then the guard is asked again."""
        conf = _config().get("configurable", {})
        if "__pregel_scratchpad" not in conf:
            raise ApprovalPending(f"{asked.site.name} needs approval and nothing ran; call it inside a governed run")
        if not conf.get("__pregel_checkpointer"):
            raise stopping(
                ConfigError(f"{asked.site.name} needs approval, but the graph has no checkpointer to wait in")
            )
        interrupt(
            {
                "type": PAYLOAD,
                "tool": asked.call.tool,
                "call_id": asked.call.call_id,
                "args": asked.call.args.decode(),
                "schema_sha256": asked.call.schema_sha256,
                "at": [*position.get(), asked.site.at],
            }
        )

    def _raise(self, work: Attempt | None, error: BaseException) -> NoReturn:
        """Let through what the tool raised; what the guard raised must stop the graph, not become a message."""
        if isinstance(error, Passing) and work is not None and error.__cause__ is not None:
            if not work.journalled:
                raise error.__cause__
            doubt = f"{work.name} paused by itself while it was journalled, nobody knows how far it came; " + (
                "name it in GovernorMiddleware(composite={...}), or declare it read_only"
            )
            raise stopping(RunBlocked(doubt)) from error.__cause__
        if isinstance(error, GovernorError) and (work is None or error is not work.raised):
            raise stopping(error) from error
        raise error


def _same(known: Call, call: ToolCall) -> bool:
    asked = known.asked_args if known.asked_args is not None else known.args
    return asked == call.args and known.tool == call.tool


def _config() -> dict[str, Any]:
    """The configuration of the graph that runs here, empty outside of one."""
    try:
        return dict(get_config())
    except RuntimeError:
        return {}


def _not_run(scope: str) -> Ran | None:
    return Ran("told", text=f"{scope} is halted", state=CallState.CANCELLED) if scope else None


def _thread(config: dict[str, Any]) -> str:
    return str(config.get("configurable", {}).get("thread_id", ""))


def _ours(config: dict[str, Any]) -> bool:
    """True in a graph whose threads are durable runs."""
    return isinstance(config.get("configurable", {}).get("__pregel_checkpointer"), GovernorSaver)
