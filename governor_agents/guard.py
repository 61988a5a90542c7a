"""The only code that calls a governed tool: durable intent, the frozen bytes, durable result.

An adapter stands in the framework's own tool node and hands over the call together with a function that runs the
tool. What comes back says what the framework is to do: go on with a value, tell the model something, or pause.

The order, under a claim: (1) look the call up by its id, or ask the policies; (2) intent, durable; (3) the tool, with
its idempotency key in a context variable; (4) result, durable; (5) the framework goes on. Whoever dies before (2) left
nothing; after (4) the record answers and the tool is not called again; in between, the retry class decides. The probe
of a ``reconcilable`` tool is called here too, in the place of the tool.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from governor_agents.background import Background
from governor_agents.claims import Claim, Heartbeats
from governor_agents.core import execution
from governor_agents.core.calls import Tool, ToolCall, freeze, thaw
from governor_agents.core.records import CallState, Change
from governor_agents.core.verdicts import Verdict
from governor_agents.crash import crash_point
from governor_agents.errors import ArgumentsError, PoliciesUnavailable
from governor_agents.halts import Halts
from governor_agents.journal import CHANGED, Entry, Journal, NotRecordable, Now, Ran, go_on, met, same
from governor_agents.operands import bound, standing
from governor_agents.policies import PolicySet
from governor_agents.policies.joined import DIRECTORY_UNREADABLE
from governor_agents.probes import NO_PROBE, Probes, Reconciled, checked, finished, raised
from governor_agents.responses import Chain, Read
from governor_agents.runs import Runs


class ToolFailed(Exception):
    """Raised by an adapter's invoke when the framework turned the tool's exception into words for the model."""


_key: ContextVar[str] = ContextVar("governor_agents_idempotency_key", default="")


def idempotency_key() -> str:
    """Inside a governed tool: the key of this call, the same for every attempt. Empty for unjournalled calls.

    Give it to the other side (`Idempotency-Key`); it cannot be guessed and never comes from the model.
    """
    return _key.get()


def idempotency_headers() -> dict[str, str]:
    """Inside a governed tool: the key as a header for httpx, requests and the like; empty for unjournalled calls."""
    key = _key.get()
    return {"Idempotency-Key": key} if key else {}


class Guard(Journal):
    """Runs tool calls under claims: the tool in the caller's context, the steps around it on the governor loop."""

    def __init__(
        self, runs: Runs, policies: PolicySet, beats: Heartbeats, loop: Background, secret: bytes, halts: Halts
    ) -> None:
        super().__init__(runs, policies, halts, secret)
        self._beats = beats
        self._loop = loop
        self.probes = Probes()

    def verdict(self, claim: Claim | None, call: ToolCall, tool: Tool) -> Verdict:
        """What the policies say; asked once per call of a claim, again when others came into force. Never raises."""
        if claim is None or not call.call_id:
            return self._policies.evaluate(call, tool)
        key = (self._policies.version, call.call_id, call.tool, call.args)
        found = claim.verdicts.get(key)
        if found is None:
            found = claim.verdicts[key] = self._policies.evaluate(call, tool)
        return found

    async def halted(self, claim: Claim | None, call: ToolCall, tool: Tool) -> str:
        """The halt that stops a call which skips the journal, empty when none does; the claim then begins nothing more.

        A call that changes nothing may be judged by a copy that is at most a second old; before any other, the policies
        are those in force (look at their version again). Raises `StoreError`.
        """
        scopes = self._halts.recent() if tool.read_only else None
        return met(claim, call, await self._loop.bridge(self._as_now(tool)) if scopes is None else scopes)

    def halted_sync(self, claim: Claim | None, call: ToolCall, tool: Tool) -> str:
        """The same on a thread of a synchronous framework."""
        scopes = self._halts.recent() if tool.read_only else None
        return met(claim, call, self._loop.call(self._as_now(tool)) if scopes is None else scopes)

    async def _as_now(self, tool: Tool) -> frozenset[str]:
        if not tool.read_only:
            await self._policies.confirm()
        return await self._halts.scopes()

    async def leave(self, claim: Claim, call: ToolCall, tool: Tool) -> bytes | None:
        """The arguments with which a tool that itself runs agents may begin now; None when `run` has to say why not.

        Such a tool may pause in the middle and begin anew, so its intent is written once it is done. What is asked of
        other calls at their intent is asked of it here.
        """
        if claim.lost or claim.halted or await self.halted(claim, call, tool):
            return None
        frozen, now_is = self._frozen(claim, call, tool)
        run = await self._loop.bridge(self._runs.get(claim.run)) if call.call_id in claim.known else None
        known = run.by_call_id(call.call_id) if run is not None else None
        if run is None or known is None:
            return frozen.args if now_is.verdict.outcome == "allow" else None
        if not same(run, known, call):
            return None
        now, stands = await self._loop.bridge(self._runs.now()), self._now_is(known.as_tool_call(run), call, tool)
        may = execution.may_begin(
            run, known, now, verdict=stands.verdict, schema_sha256=stands.schema_sha256, operands=stands.operands
        )
        return known.args if may else None

    async def run(
        self,
        claim: Claim,
        call: ToolCall,
        tool: Tool,
        invoke: Callable[[bytes], Awaitable[Any]],
        *,
        dump: Callable[[Any], bytes] = freeze,
        load: Callable[[bytes], Any] = thaw,
        shape: Callable[[Any, bytes], Any] = lambda value, args: value,
        chain: Chain | None = None,
    ) -> Ran:
        """Run one call of an async framework, or say what to do instead.

        ``invoke`` gets the bytes to run, which after an edit are not the model's. ``dump`` makes plain JSON bytes of
        its value, ``load`` the value again; ``shape`` makes of a probe's plain value and those bytes what ``invoke``
        would have given. ``chain`` is where the call was made, for a framework whose models' answers
        are recorded: they are durable before the tool starts. Raises what the tool raises; `Fenced`, `RunBlocked`,
        `CallIdReused`.
        """
        go_on(claim)
        entry = CHANGED
        while entry is CHANGED:
            frozen, now_is = self._frozen(claim, call, tool)  # in the caller's thread: a policy may do as it likes
            if _unjournalled(claim, frozen, tool, now_is.verdict):
                if await self.halted(claim, frozen, tool):
                    return Ran("waits")
                return await self._read(claim, frozen, invoke, dump, load, chain)
            entry = await self._unbroken(claim, self._enter(claim, frozen, tool, now_is, chain))
            if entry.known is not None:
                now_is = self._now_is(entry.known, frozen, tool)
                entry = await self._unbroken(claim, self._intent(claim, entry.n, entry.known, now_is, chain))
        if entry.probe is not None:
            found = await self._probe(claim, entry.probe, entry.key)
            finding = checked(found, entry.probe, shape, dump, load)
            entry = await self._unbroken(claim, self._probed(claim, entry.n, finding))
        if (instead := _instead(entry, load)) is not None:
            return instead
        with self._beats.during(claim), keyed(entry.key):
            try:
                crash_point("tool:before")
                value = await invoke(entry.args)
                crash_point("tool:after")
                data = _recordable(dump, value)
            except Exception as error:
                await asyncio.shield(self._loop.bridge(self._failed(claim, entry, error)))
                if isinstance(error, ToolFailed):
                    return Ran("told", text=str(error), state=CallState.FAILED)
                raise
            except BaseException:  # a time-out or a shutdown cut it off from outside
                await asyncio.shield(self._loop.bridge(self._lapsed(claim, entry)))
                raise
            await asyncio.shield(self._loop.bridge(self._leave(claim, entry, True, data, "")))
        return Ran("value", value)

    async def _read(
        self,
        claim: Claim,
        call: ToolCall,
        invoke: Callable[[bytes], Awaitable[Any]],
        dump: Callable[[Any], bytes],
        load: Callable[[bytes], Any],
        chain: Chain | None,
    ) -> Ran:
        """An unjournalled call. What a recorded response followed from is not read again: it may have changed since."""
        read = claim.responses.read(call.call_id)
        if read is not None:
            return Ran("value", load(read.text.encode())) if read.ok else _failed_read(read.text)
        if chain is None:
            with keyed():
                return Ran("value", await invoke(call.args))
        await self.keep(claim, chain)
        try:
            with keyed():
                value = await invoke(call.args)
        except ToolFailed as failed:
            claim.responses.heard(chain, call.call_id, Read(str(failed), ok=False))
            return _failed_read(str(failed))
        with contextlib.suppress(NotRecordable):
            claim.responses.heard(chain, call.call_id, Read(_recordable(dump, value).decode()))
        return Ran("value", value)

    async def keep(self, claim: Claim, chain: Chain) -> None:
        """Make durable what models answered on the way to a tool that has no intent to carry it."""
        if claim.responses.waiting:
            await self._loop.bridge(self._write(claim, chain, lambda run, now: Change(run)))

    async def _unbroken(self, claim: Claim, work: Coroutine[Any, Any, Entry]) -> Entry:
        """Do a step to its end even when the caller is cut off meanwhile; an intent that came of it is taken back."""
        step = asyncio.ensure_future(self._loop.bridge(work))
        try:
            return await asyncio.shield(step)
        except asyncio.CancelledError:
            entry = await step
            if entry.attempt:
                told = "cut off before it began"
                await self._loop.bridge(self._leave(claim, entry, False, freeze({"told": told}), told))
            raise

    def run_sync(
        self,
        claim: Claim,
        call: ToolCall,
        tool: Tool,
        invoke: Callable[[bytes], Any],
        *,
        dump: Callable[[Any], bytes] = freeze,
        load: Callable[[bytes], Any] = thaw,
        shape: Callable[[Any, bytes], Any] = lambda value, args: value,
    ) -> Ran:
        """The same for a framework that calls its tools synchronously, on a thread of its own."""
        go_on(claim)
        entry = CHANGED
        while entry is CHANGED:
            frozen, now_is = self._frozen(claim, call, tool)
            if _unjournalled(claim, frozen, tool, now_is.verdict):
                if self.halted_sync(claim, frozen, tool):
                    return Ran("waits")
                with keyed():
                    return Ran("value", invoke(frozen.args))
            entry = self._loop.call(self._enter(claim, frozen, tool, now_is))
            if entry.known is not None:
                now_is = self._now_is(entry.known, frozen, tool)
                entry = self._loop.call(self._intent(claim, entry.n, entry.known, now_is))
        if entry.probe is not None:
            found = self._probe_sync(claim, entry.probe, entry.key)
            finding = checked(found, entry.probe, shape, dump, load)
            entry = self._loop.call(self._probed(claim, entry.n, finding))
        if (instead := _instead(entry, load)) is not None:
            return instead
        with self._beats.during(claim), keyed(entry.key):
            try:
                crash_point("tool:before")
                value = invoke(entry.args)
                crash_point("tool:after")
                data = _recordable(dump, value)
            except Exception as error:
                self._loop.call(self._failed(claim, entry, error))
                if isinstance(error, ToolFailed):
                    return Ran("told", text=str(error), state=CallState.FAILED)
                raise
            except BaseException:
                self._loop.call(self._lapsed(claim, entry))
                raise
            self._loop.call(self._leave(claim, entry, True, data, ""))
        return Ran("value", value)

    def _frozen(self, claim: Claim, call: ToolCall, tool: Tool) -> tuple[ToolCall, Now]:
        """The call with the files it names, and what is said of it. A call with a record has them there."""
        version = self._policies.version  # before they are asked: what changes meanwhile is noticed
        verdict = self.verdict(claim, call, tool)
        if call.call_id not in claim.known:
            call, verdict = bound(call, tool, verdict)
        return call, Now(verdict, call.schema_sha256, call.operands, version)

    def _now_is(self, known: ToolCall, call: ToolCall, tool: Tool) -> Now:
        """What a stored call is held against right before its intent. Raises `PoliciesUnavailable`.

        Not to know who people are is no verdict on what they approved: that would be cancelled.
        """
        version, verdict = self._policies.version, self._policies.evaluate(known, tool)
        if verdict.code == DIRECTORY_UNREADABLE:
            raise PoliciesUnavailable(verdict.reason)
        return Now(verdict, call.schema_sha256, standing(known, tool), version)

    async def _probe(self, claim: Claim, call: ToolCall, key: str) -> Reconciled | str | None:
        """Ask the tool's probe, in the caller's context; a text says why it could not tell."""
        if (probe := self.probes.get(call.tool)) is None:
            return NO_PROBE
        with self._beats.during(claim):
            try:
                crash_point("probe:before")
                found = probe(call, key)
                return await found if inspect.isawaitable(found) else found
            except Exception as error:
                return raised(call, error)

    def _probe_sync(self, claim: Claim, call: ToolCall, key: str) -> Reconciled | str | None:
        """The same for a synchronous caller; an ``async`` probe gets a loop of its own."""
        if (probe := self.probes.get(call.tool)) is None:
            return NO_PROBE
        with self._beats.during(claim):
            try:
                crash_point("probe:before")
                found = probe(call, key)
                return finished(found) if inspect.isawaitable(found) else found
            except Exception as error:
                return raised(call, error)


def _unjournalled(claim: Claim, call: ToolCall, tool: Tool, verdict: Verdict) -> bool:
    """An allowed call to a read-only tool needs no journal, unless this call id has a record."""
    return tool.read_only and verdict.outcome == "allow" and call.call_id not in claim.known


def _failed_read(told: str) -> Ran:
    return Ran("told", text=told, state=CallState.FAILED)


def _instead(entry: Entry, load: Callable[[bytes], Any]) -> Ran | None:
    if entry.recorded is not None:
        return Ran("value", load(entry.recorded), state=CallState.SUCCEEDED)
    return entry.instead


def _recordable(dump: Callable[[Any], bytes], value: Any) -> bytes:
    """The value's bytes; its text when it is not plain JSON, because the effect has happened and must be recorded."""
    try:
        return dump(value)
    except ArgumentsError:
        return freeze(str(value).encode("utf-8", "backslashreplace").decode())
    except Exception as error:
        raise NotRecordable(f"the value of the tool cannot be recorded: {error}") from error


@contextmanager
def keyed(key: str = "") -> Iterator[None]:
    """Around a tool: its key. An unjournalled one has none, also inside of a tool that has one."""
    token = _key.set(key)
    try:
        yield
    finally:
        _key.reset(token)
