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
import hashlib
import hmac
import inspect
from base64 import b32encode
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from governor_agents.background import Background
from governor_agents.claims import Claim, Heartbeats
from governor_agents.core import binding, doubts, execution, halting
from governor_agents.core.calls import Operand, Tool, ToolCall, freeze, sha256, thaw
from governor_agents.core.decisions import make_call
from governor_agents.core.ports import Blob
from governor_agents.core.records import Call, CallState, Change, Result, Run, approval_id, evolve
from governor_agents.core.telling import asked_event
from governor_agents.core.verdicts import Verdict
from governor_agents.crash import crash_point
from governor_agents.errors import ArgumentsError, CallIdReused, Fenced, OutcomeUnknown, RunBlocked
from governor_agents.halts import Halts
from governor_agents.nonces import nonce
from governor_agents.operands import bound, standing
from governor_agents.policies import PolicySet
from governor_agents.probes import NO_PROBE, Finding, Probes, Reconciled, checked, finished, raised
from governor_agents.responses import Chain, Read
from governor_agents.runs import Runs, Step, blob

INLINE = 4096
"""Results of up to this many bytes stand in the record; larger ones in a blob of the same write."""

UNKNOWN_TOLD = "the outcome of this call is unknown; an operator has been asked"


class ToolFailed(Exception):
    """Raised by an adapter's invoke when the framework turned the tool's exception into words for the model."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What the framework is to do with a call.

    ``value``: go on with ``value`` (fresh, or from the record). ``told``: the tool did not give a value; tell the model
    ``text`` (``state`` says why). ``waits``: pause the loop.
    """

    how: Literal["value", "told", "waits"]
    value: Any = field(default=None, repr=False)
    text: str = field(default="", repr=False)
    state: CallState | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    """Leave to run, or what to do instead; ``known`` when the policies must be asked about a stored call first,
    ``probe`` when its tool's probe must."""

    instead: Ran | None = None
    n: int = 0
    args: bytes = field(default=b"", repr=False)
    key: str = field(default="", repr=False)
    attempt: int = 0
    recorded: bytes | None = field(default=None, repr=False)
    known: ToolCall | None = None
    probe: ToolCall | None = None


@dataclass(frozen=True, slots=True)
class _Now:
    """What a call is held against right before its intent: what the policies say now, the tool, the files."""

    verdict: Verdict
    schema_sha256: str
    operands: tuple[Operand, ...]


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


class Guard:
    """Runs tool calls under claims. Its store work happens on the governor loop, the tool in the caller's context."""

    def __init__(
        self, runs: Runs, policies: PolicySet, beats: Heartbeats, loop: Background, secret: bytes, halts: Halts
    ) -> None:
        self._runs = runs
        self._halts = halts
        self._policies = policies
        self._beats = beats
        self._loop = loop
        self._secret = secret
        self.probes = Probes()

    def verdict(self, claim: Claim | None, call: ToolCall, tool: Tool) -> Verdict:
        """What the policies say; asked once per call of a claim. Never raises."""
        if claim is None or not call.call_id:
            return self._policies.evaluate(call, tool)
        key = (call.call_id, call.tool, call.args)
        found = claim.verdicts.get(key)
        if found is None:
            found = claim.verdicts[key] = self._policies.evaluate(call, tool)
        return found

    async def halted(self, claim: Claim | None, call: ToolCall, tool: Tool) -> str:
        """The halt that stops a call which skips the journal, empty when none does; the claim then begins nothing more.

        A call that changes nothing may be judged by a copy that is at most a second old. Raises `StoreError`.
        """
        scopes = self._halts.recent() if tool.read_only else None
        return _met(claim, call, await self._loop.bridge(self._halts.scopes()) if scopes is None else scopes)

    def halted_sync(self, claim: Claim | None, call: ToolCall, tool: Tool) -> str:
        """The same on a thread of a synchronous framework."""
        scopes = self._halts.recent() if tool.read_only else None
        return _met(claim, call, self._loop.call(self._halts.scopes()) if scopes is None else scopes)

    async def leave(self, claim: Claim, call: ToolCall, tool: Tool) -> bytes | None:
        """The arguments with which a tool that itself runs agents may begin now; None when `run` has to say why not.

        Such a tool may pause in the middle and begin anew, so its intent is written once it is done. What is asked of
        other calls at their intent is asked of it here.
        """
        if claim.lost or claim.halted or await self.halted(claim, call, tool):
            return None
        frozen, verdict = self._frozen(claim, call, tool)
        run = await self._loop.bridge(self._runs.get(claim.run)) if call.call_id in claim.known else None
        known = run.by_call_id(call.call_id) if run is not None else None
        if run is None or known is None:
            return frozen.args if verdict.outcome == "allow" else None
        if known.tool != call.tool or _asked(known) != call.args:
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
        _go_on(claim)
        call, verdict = self._frozen(claim, call, tool)  # in the caller's thread: a policy may do as it likes
        if _unjournalled(claim, call, tool, verdict):
            if await self.halted(claim, call, tool):
                return Ran("waits")
            return await self._read(claim, call, invoke, dump, load, chain)
        entry = await self._unbroken(claim, self._enter(claim, call, tool, verdict, chain))
        if entry.known is not None:
            now_is = self._now_is(entry.known, call, tool)
            entry = await self._unbroken(claim, self._intent(claim, entry.n, entry.known, now_is, chain))
        elif entry.probe is not None:
            found = await self._probe(claim, entry.probe, entry.key)
            finding = checked(found, entry.probe, shape, dump, load)
            entry = await self._unbroken(claim, self._probed(claim, entry.n, finding))
        if (instead := _instead(entry, load)) is not None:
            return instead
        with self._beats.during(claim), _keyed(entry.key):
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
            return Ran("value", await invoke(call.args))
        await self.keep(claim, chain)
        try:
            value = await invoke(call.args)
        except ToolFailed as failed:
            claim.responses.heard(chain, call.call_id, Read(str(failed), ok=False))
            return _failed_read(str(failed))
        with contextlib.suppress(_NotRecordable):
            claim.responses.heard(chain, call.call_id, Read(_recordable(dump, value).decode()))
        return Ran("value", value)

    async def keep(self, claim: Claim, chain: Chain) -> None:
        """Make durable what models answered on the way to a tool that has no intent to carry it."""
        if claim.responses.waiting:
            await self._loop.bridge(self._write(claim, chain, lambda run, now: Change(run)))

    async def _write(self, claim: Claim, chain: Chain | None, step: Step) -> Change:
        """A step and, in the same write, what models answered on the way to it."""
        if chain is None or not claim.responses.waiting:
            return await self._runs.change(claim.run, step, fresh=False)
        async with claim.responses.turn:
            responses, contents = claim.responses.leading_to(chain)

            def both(run: Run, now: float) -> Change:
                kept = execution.keep(run, now, owner=claim.owner, fence=claim.fence, responses=responses)
                change = step(kept.run, now)
                return evolve(change, events=change.events or kept.events)

            change = await self._runs.change(claim.run, both, blobs=contents, fresh=False)
            claim.responses.stand(responses)
        return change

    async def _unbroken(self, claim: Claim, work: Coroutine[Any, Any, _Entry]) -> _Entry:
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
        _go_on(claim)
        call, verdict = self._frozen(claim, call, tool)
        if _unjournalled(claim, call, tool, verdict):
            if self.halted_sync(claim, call, tool):
                return Ran("waits")
            return Ran("value", invoke(call.args))
        entry = self._loop.call(self._enter(claim, call, tool, verdict))
        if entry.known is not None:
            now_is = self._now_is(entry.known, call, tool)
            entry = self._loop.call(self._intent(claim, entry.n, entry.known, now_is))
        elif entry.probe is not None:
            found = self._probe_sync(claim, entry.probe, entry.key)
            finding = checked(found, entry.probe, shape, dump, load)
            entry = self._loop.call(self._probed(claim, entry.n, finding))
        if (instead := _instead(entry, load)) is not None:
            return instead
        with self._beats.during(claim), _keyed(entry.key):
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

    def _frozen(self, claim: Claim, call: ToolCall, tool: Tool) -> tuple[ToolCall, Verdict]:
        """The call with the files it names, and what is said of it. A call with a record has them there."""
        verdict = self.verdict(claim, call, tool)
        return (call, verdict) if call.call_id in claim.known else bound(call, tool, verdict)

    def _now_is(self, known: ToolCall, call: ToolCall, tool: Tool) -> _Now:
        """What a stored call is held against right before its intent."""
        return _Now(self._policies.evaluate(known, tool), call.schema_sha256, standing(known, tool))

    async def _stopped(self, claim: Claim, call: ToolCall) -> bool:
        """True when a halt stops this call, by the store as it is now."""
        return bool(_met(claim, call, await self._halts.scopes()))

    async def _enter(
        self, claim: Claim, call: ToolCall, tool: Tool, verdict: Verdict, chain: Chain | None = None
    ) -> _Entry:
        """Find out what is to be done with a call; when it is to run at once, its intent is durable on return."""
        _go_on(claim)
        if claim.halted:
            return _Entry(Ran("waits"))
        run = self._runs.known(claim.run) or await self._runs.get(claim.run)
        known = run.by_call_id(call.call_id)
        if known is None and call.call_id in claim.known:
            run = await self._runs.get(claim.run)
            known = run.by_call_id(call.call_id)
        if known is None:
            return await self._first_time(claim, call, tool, verdict, chain)
        return await self._known(claim, run, known, call)

    async def _known(self, claim: Claim, run: Run, known: Call, call: ToolCall) -> _Entry:
        """A call that has a record."""
        to_run = known.state in (CallState.ALLOWED, CallState.APPROVED, CallState.RETRY)
        if to_run and not binding.holds(run, known):  # the intent finds that too, and says so in the record
            return _Entry(n=known.n, known=known.as_tool_call(run))
        if _asked(known) != call.args or known.tool != call.tool:
            raise CallIdReused(f"the call id {call.call_id!r} of {known.tool} came back with other content")
        if to_run:
            return _Entry(n=known.n, known=known.as_tool_call(run))
        if known.state is CallState.RECONCILING:
            return _Entry(n=known.n, key=known.idem_key, probe=known.as_tool_call(run))
        return await self._over(claim, known)

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

    async def _probed(self, claim: Claim, n: int, found: Finding) -> _Entry:
        """Record what a probe found out. A value goes on as the tool's own would; anything else is a doubt."""
        result, blobs = _as_result(found.data, True) if found.happened else (None, ())

        def step(run: Run, now: float) -> Change:
            stands = run.call(n)
            if stands is None or stands.state is not CallState.RECONCILING:  # settled meanwhile
                return Change(run)
            return doubts.probed(
                run,
                n,
                now,
                owner=claim.owner,
                fence=claim.fence,
                happened=found.happened,
                result=result,
                why=found.why,
            )

        change = await self._runs.change(claim.run, step, blobs=blobs, fresh=False)
        stands = change.run.call(n)
        if stands is None:
            raise Fenced(f"{approval_id(claim.run, n)} belongs to a generation that is over")
        return await self._over(claim, stands)

    async def _first_time(
        self, claim: Claim, call: ToolCall, tool: Tool, verdict: Verdict, chain: Chain | None
    ) -> _Entry:
        if verdict.outcome == "require_approval":
            return _Entry(Ran("waits"))
        if verdict.outcome == "allow" and await self._stopped(claim, call):
            return _Entry(Ran("waits"))
        stamp, now_is = nonce(), _Now(verdict, call.schema_sha256, call.operands)

        def step(run: Run, now: float) -> Change:
            execution.hold(run, owner=claim.owner, fence=claim.fence)
            if run.by_call_id(call.call_id) is not None:  # the same id a second time, at the same moment
                return Change(run)
            made = make_call(run, call, tool, verdict, now=now, nonce=stamp)
            change = Change(run.with_call(made), (asked_event(made),))
            if made.state is CallState.DENIED:
                return change
            begun = self._begin(change.run, made, claim, now, now_is)
            return evolve(begun, events=(*change.events, *begun.events))

        change = await self._write(claim, chain, step)
        claim.known.add(call.call_id)
        made = change.run.by_call_id(call.call_id)
        if made is None:
            raise Fenced(f"the call {call.call_id} of {call.tool} is gone")
        if made.nonce != stamp:
            return await self._known(claim, change.run, made, call)
        return await self._begun(claim, made)

    def _begin(self, run: Run, call: Call, claim: Claim, now: float, now_is: _Now) -> Change:
        return execution.intent(
            run,
            call.n,
            now,
            owner=claim.owner,
            fence=claim.fence,
            verdict=now_is.verdict,
            schema_sha256=now_is.schema_sha256,
            operands=now_is.operands,
            idem_key=self.key(run, call),
        )

    async def _intent(self, claim: Claim, n: int, call: ToolCall, now_is: _Now, chain: Chain | None = None) -> _Entry:
        """The stored call under policies, tool and files as they are now."""
        if await self._stopped(claim, call):
            return _Entry(Ran("waits"))
        attempts = 0

        def step(run: Run, now: float) -> Change:
            nonlocal attempts
            stands = run.call(n)
            if stands is None:
                raise Fenced(f"{approval_id(run.id, n)} belongs to a generation that is over")
            attempts = len(stands.attempts)
            if stands.state not in (CallState.ALLOWED, CallState.APPROVED, CallState.RETRY):
                return Change(run)
            return self._begin(run, stands, claim, now, now_is)

        change = await self._write(claim, chain, step)
        stands = change.run.call(n)
        if stands is None:
            raise Fenced(f"{approval_id(claim.run, n)} belongs to a generation that is over")
        if len(stands.attempts) == attempts:  # somebody else began it, or it is not to run
            return await self._over(claim, stands)
        return await self._begun(claim, stands)

    async def _begun(self, claim: Claim, call: Call) -> _Entry:
        if call.state is CallState.EXECUTING and _is_ours(call, claim):
            return _Entry(n=call.n, args=call.args, key=call.idem_key, attempt=len(call.attempts))
        return await self._over(claim, call)

    async def _over(self, claim: Claim, call: Call) -> _Entry:
        """A call that is not to run now."""
        match call.state:
            case CallState.SUCCEEDED if call.result is not None:
                data = call.result.data
                return _Entry(recorded=await self._runs.blob(call.result.blob) if data is None else data.encode())
            case CallState.PENDING:
                claim.stop, claim.again = f"{call.tool} needs people again", True
                return _Entry(Ran("waits", state=call.state))
            case CallState.EXECUTING if _is_ours(call, claim):
                return _Entry(Ran("told", text=f"{call.tool} is running already under this call id", state=call.state))
            case CallState.UNKNOWN | CallState.EXECUTING:
                raise _stop(claim, call)
            case CallState.SUCCEEDED:  # an operator's word stands in for the result
                return _Entry(
                    Ran("told", text=call.told or "it took effect; its result was not kept", state=call.state)
                )
            case _:
                return _Entry(Ran("told", text=call.told or str(call.state), state=call.state))

    async def _failed(self, claim: Claim, entry: _Entry, error: Exception) -> None:
        """The tool raised; where it cannot tell what happened, or its value cannot be recorded, that is a doubt."""
        if isinstance(error, OutcomeUnknown | _NotRecordable):
            await self._lapsed(claim, entry, over=True)
            return
        told = (str(error) or type(error).__name__).encode("utf-8", "backslashreplace").decode()
        await self._leave(claim, entry, False, freeze({"error": type(error).__name__, "told": told}), told)

    async def _leave(self, claim: Claim, entry: _Entry, ok: bool, data: bytes, told: str) -> None:
        """Record what the tool gave back; until that is durable, the loop must not go on."""
        result, blobs = _as_result(data, ok)
        try:
            change = await self._runs.change(
                claim.run,
                lambda run, now: execution.record(
                    run,
                    entry.n,
                    now,
                    owner=claim.owner,
                    fence=claim.fence,
                    attempt=entry.attempt,
                    result=result,
                    told=told,
                ),
                blobs=blobs,
                fresh=False,
            )
        except Exception as error:
            claim.stop = f"the result of {approval_id(claim.run, entry.n)} could not be recorded: {error}"
            raise
        if any(event.what == execution.FENCED for event in change.events):
            claim.stop = f"the result of {approval_id(claim.run, entry.n)} came from a claim that is over"
            raise Fenced(claim.stop)
        left = change.run.call(entry.n)
        if left is not None and left.state is CallState.UNKNOWN:
            raise _stop(claim, left)

    async def _lapsed(self, claim: Claim, entry: _Entry, *, over: bool = False) -> None:
        """The tool left no result: cut off while it ran, or ``over``, back without an answer."""
        how = "cannot tell what it did" if over else "was cut off while it ran"
        claim.stop = f"{approval_id(claim.run, entry.n)} {how}"
        with contextlib.suppress(Fenced):
            await self._runs.change(
                claim.run,
                lambda run, now: execution.lapse(
                    run, entry.n, now, owner=claim.owner, fence=claim.fence, attempt=entry.attempt, over=over
                ),
                fresh=False,
            )

    def key(self, run: Run, call: Call) -> str:
        """The idempotency key of a call: stable over attempts, never from the model, at most 44 characters."""
        text = "|".join((run.tenant, run.id, str(call.generation), call.call_id, str(call.n), call.digest))
        mac = hmac.new(self._secret, text.encode(), hashlib.sha256).digest()
        return "ga1_" + b32encode(mac).decode().lower()[:40]


def _go_on(claim: Claim) -> None:
    """Raise when nothing more may start under this claim."""
    if claim.lost:
        raise Fenced(claim.stop)
    if claim.stop and not (claim.again or claim.halted):
        raise RunBlocked(claim.stop)


def _asked(call: Call) -> bytes:
    """The arguments as the model wrote them."""
    return call.asked_args if call.asked_args is not None else call.args


def _met(claim: Claim | None, call: ToolCall, scopes: frozenset[str]) -> str:
    """The halt that a call meets; the claim under which it was to begin stops for it."""
    scope = halting.stops_call(scopes, call.tool, call.agent, claim.agent if claim else "")
    if scope and claim is not None:
        claim.halted = scope
        claim.stop = claim.stop or f"{scope} is halted"
    return scope


def _is_ours(call: Call, claim: Claim) -> bool:
    """True when the latest attempt at the call was made under this claim."""
    return bool(call.attempts) and (call.attempts[-1].fence, call.attempts[-1].owner) == (claim.fence, claim.owner)


def _stop(claim: Claim, call: Call) -> RunBlocked:
    claim.stop = f"{approval_id(claim.run, call.n)} ({call.tool}) is in doubt"
    return RunBlocked(f"{claim.stop}: {UNKNOWN_TOLD}")


def _unjournalled(claim: Claim, call: ToolCall, tool: Tool, verdict: Verdict) -> bool:
    """An allowed call to a read-only tool needs no journal, unless this call id has a record."""
    return tool.read_only and verdict.outcome == "allow" and call.call_id not in claim.known


def _failed_read(told: str) -> Ran:
    return Ran("told", text=told, state=CallState.FAILED)


def _instead(entry: _Entry, load: Callable[[bytes], Any]) -> Ran | None:
    if entry.recorded is not None:
        return Ran("value", load(entry.recorded), state=CallState.SUCCEEDED)
    return entry.instead


def _as_result(data: bytes, ok: bool) -> tuple[Result, tuple[Blob, ...]]:
    """The outcome for the record, and the blob beside it when it is large."""
    if len(data) <= INLINE:
        return Result(sha256(data), data.decode(), ok=ok), ()
    content = blob(data)
    return Result(content.id, None, content.id, ok), (content,)


class _NotRecordable(Exception):
    """The tool gave a value that its adapter could not make into bytes."""


def _recordable(dump: Callable[[Any], bytes], value: Any) -> bytes:
    """The value's bytes; its text when it is not plain JSON, because the effect has happened and must be recorded."""
    try:
        return dump(value)
    except ArgumentsError:
        return freeze(str(value).encode("utf-8", "backslashreplace").decode())
    except Exception as error:
        raise _NotRecordable(f"the value of the tool cannot be recorded: {error}") from error


@contextmanager
def _keyed(key: str) -> Iterator[None]:
    token = _key.set(key)
    try:
        yield
    finally:
        _key.reset(token)
