"""The adapter itself: begin a loop, resume it, take over a pause of the user's own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from agents import Agent, FunctionTool, Runner, RunResult, RunResultStreaming

from governor_agents.adapters.openai_agents import outputs, snapshots
from governor_agents.adapters.openai_agents.governing import govern, refuse_ungoverned
from governor_agents.adapters.openai_agents.graph import outline, reachable, schema_sha256
from governor_agents.adapters.openai_agents.models import recording
from governor_agents.adapters.openai_agents.sessions import resumable
from governor_agents.adapters.openai_agents.stretch import Stretch, within
from governor_agents.claims import current_claim
from governor_agents.core.calls import Json, Tool, ToolCall, freeze, sha256, thaw
from governor_agents.core.ports import Captured, Emit, Segment
from governor_agents.core.records import Call, CallState, evolve
from governor_agents.errors import ArgumentsError, ConfigError, ReplayDiverges, SnapshotError

if TYPE_CHECKING:
    from governor_agents.governor import Governor

OPTIONS = frozenset(
    {
        "auto_previous_response_id",
        "conversation_id",
        "error_handlers",
        "hooks",
        "max_turns",
        "previous_response_id",
        "run_config",
        "session",
    }
)
"""What a factory may return beside its agent: keywords of `Runner.run`. ``session`` may be a function of the
conversation's id (the run's id outside of one), since one session object must not serve two conversations."""

log = logging.getLogger(__name__)


class OpenAIAgentsAdapter:
    """Plugs the OpenAI Agents SDK in. See `governor_agents.core.ports.Adapter`."""

    name = "openai_agents"
    replays = False

    def __init__(self, governor: Governor) -> None:
        self._governor = governor
        self.framework = f"openai-agents {version('openai-agents')}"

    def prepare(self, agent: Any) -> Any:
        """Govern an agent in place. Raises `UngovernedTool`, `ConfigError`."""
        return govern(agent, self._governor)

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
        """Begin a loop. ``context`` is the run's context: a plain JSON object or None.

        Raises `ConfigError` for other contexts and unknown options, `SnapshotError` when a pause cannot be stored.
        """
        refuse_ungoverned(reachable(agent))
        given = _context(context)
        return await self._drive(agent, input, Stretch(calls), _runner(options), emit, context=given)

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
        """Go on from a pause, with the context as it stood then. Raises `SnapshotError` before any tool runs."""
        refuse_ungoverned(reachable(agent))
        state, begun = await snapshots.unpack(agent, snapshot)
        stretch = Stretch(calls, begun)
        snapshots.decide(state, stretch.decided)
        return await self._drive(agent, state, stretch, _runner(options), emit)

    async def capture(self, paused: Any, **where: Any) -> Captured | None:
        """A paused result of `Runner.run`, or of a drained `Runner.run_streamed`; None when nothing waits.

        ``conversation`` and ``run`` may be given. Raises `SnapshotError` when the pause cannot be stored.
        """
        if not isinstance(paused, RunResult | RunResultStreaming):
            raise ConfigError(f"not a result of Runner.run: {type(paused).__name__}")
        if isinstance(paused, RunResultStreaming) and not paused.is_complete:
            raise SnapshotError("the run still streams; drain stream_events() first")
        if not paused.interruptions:
            return None
        pending = self._asks(paused, Stretch())
        root = paused.to_state()._starting_agent
        return Captured(
            agent=(root or paused.last_agent).name,
            segment=Segment(False, snapshot=snapshots.pack(paused), pending=tuple(call for _, call in pending)),
            conversation=where.get("conversation", ""),
            run=where.get("run", ""),
        )

    async def close(self, agent: Any, snapshot: bytes, calls: Sequence[Call]) -> None:
        """Nothing to do: the history lies in the snapshot, which nobody resumes any more."""

    def inventory(self, agent: Any) -> list[Tool]:
        """Every tool that the agent can reach, governed or not, once per name."""
        found: dict[str, Tool] = {}
        for member in reachable(agent):
            for tool in member.tools:
                name = tool.qualified_name if isinstance(tool, FunctionTool) else tool.name
                schema = schema_sha256(tool) if isinstance(tool, FunctionTool) else ""
                found.setdefault(name, evolve(self._governor.policies.tool(name), schema_sha256=schema))
        return list(found.values())

    def fingerprint(self, agent: Any) -> str:
        """A hash of the agents, their tools with schemas, and the handoffs between them."""
        return sha256(freeze(outline(agent)))

    # -- one stretch ------------------------------------------------------------------------------------------------

    async def _drive(
        self,
        agent: Agent[Any],
        input: Any,
        stretch: Stretch,
        runner: Mapping[str, Any],
        emit: Emit | None,
        *,
        context: Json = None,
    ) -> Segment:
        """One stretch, with every model recorded; all that was recorded before must have been asked for again."""
        config = recording(runner.get("run_config"))
        safe = {**runner, "run_config": config}
        if "session" in runner:
            safe["session"] = resumable(runner["session"], self._governor)
        try:
            segment = await self._until_rest(agent, input, stretch, safe, emit, context)
        finally:
            if "run_config" not in runner:  # then the provider is ours
                await config.model_provider.aclose()
        claim = current_claim()
        if claim is not None and (left := claim.responses.never_asked()):
            raise ReplayDiverges(
                f"the loop came to rest, but {len(left)} recorded responses of models were never asked for: it went "
                f"another way than before. Put the agent back as it was and repair the run, or cancel it"
            )
        return segment

    async def _until_rest(
        self,
        agent: Agent[Any],
        input: Any,
        stretch: Stretch,
        runner: Mapping[str, Any],
        emit: Emit | None,
        context: Json,
    ) -> Segment:
        """Run until the loop ends, or somebody must decide. What the SDK asks without need it is answered at once."""
        answered: set[str] = set()
        while True:
            result = await self._once(agent, input, stretch, runner, emit, context)
            if not result.interruptions:
                return Segment(True, output=outputs.plain(result.final_output))
            asks = self._asks(result, stretch)
            ids = {item.call_id or "" for item in result.interruptions}
            open_ids = {id for id in ids if id in stretch.decided and stretch.decided[id].state is CallState.PENDING}
            if asks or open_ids:
                return Segment(False, snapshot=snapshots.pack(result), pending=tuple(call for _, call in asks))
            if ids & (answered | stretch.decided.keys()):
                raise SnapshotError(f"the SDK asks again for calls that are decided: {', '.join(sorted(ids))}")
            answered |= ids
            input, context = result.to_state(), None
            for item in input.get_interruptions():
                input.approve(item)

    async def _once(
        self,
        agent: Agent[Any],
        input: Any,
        stretch: Stretch,
        runner: Mapping[str, Any],
        emit: Emit | None,
        context: Json,
    ) -> RunResult | RunResultStreaming:
        result: RunResult | RunResultStreaming
        try:
            with within(stretch):
                if emit is None:
                    result = await Runner.run(agent, input, context=context, **runner)
                else:
                    result = Runner.run_streamed(agent, input, context=context, **runner)
                    await _drain(result, emit)
        except Exception as error:
            if stretch.error is not None and stretch.error is not error:
                raise stretch.error from error
            raise
        if stretch.error is not None:
            raise stretch.error
        return result

    def _asks(self, result: RunResult | RunResultStreaming, stretch: Stretch) -> list[tuple[Any, ToolCall]]:
        """The interruptions that need people and have no record yet, in the order of the model's message."""
        asks = []
        for item in result.interruptions:
            call = snapshots.tool_call(item)
            if call is None or call.call_id in stretch.decided:
                continue
            tool = self._governor.policies.tool(call.tool)
            if self._governor.guard.verdict(current_claim(), call, tool).outcome == "require_approval":
                asks.append((item, call))
        return asks


async def _drain(result: RunResultStreaming, emit: Emit) -> None:
    """Hand on every event. A listener that fails is left behind: the run matters more than its audience."""
    listening = True
    try:
        async for event in result.stream_events():
            if listening:
                try:
                    await emit(event)
                except Exception:
                    listening = False
                    log.warning("a listener of a streamed run failed; the run goes on without it", exc_info=True)
    except asyncio.CancelledError:
        result.cancel()
        if result.run_loop_task is not None:  # its tools must be told before the claim is given back
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({result.run_loop_task})
        raise


def _context(context: Json) -> Json:
    """A copy of the run's context that is plain JSON. Raises `ConfigError`."""
    if context is None:
        return None
    try:
        copied = thaw(freeze(context))
    except ArgumentsError as error:
        raise ConfigError(f"the run's context is stored with each pause and must be plain JSON: {error}") from None
    if not isinstance(copied, dict):
        raise ConfigError(f"the run's context must be a JSON object, not a {type(context).__name__}")
    return copied


def _runner(options: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords for the SDK's runner. Raises `ConfigError` for others."""
    unknown = sorted(set(options) - OPTIONS)
    if unknown:
        raise ConfigError(f"unknown runner options: {', '.join(unknown)}; known: {', '.join(sorted(OPTIONS))}")
    runner = dict(options)
    claim = current_claim()
    if callable(runner.get("session")) and claim is not None:
        runner["session"] = runner["session"](claim.conversation or claim.run)
    return runner
