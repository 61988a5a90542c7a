"""The record's side of a call: what is to be done with it, its intent, its result. On the governor loop.

Each step is one transition made durable (`governor_agents.core.execution`) and an answer for the guard, which stands
in the framework's tool node and calls the tool. Nothing here calls one.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from base64 import b32encode
from dataclasses import dataclass, field
from typing import Any, Literal

from governor_agents.claims import Claim
from governor_agents.core import binding, doubts, execution, halting
from governor_agents.core.calls import Operand, Tool, ToolCall, freeze, sha256
from governor_agents.core.decisions import make_call
from governor_agents.core.ports import Blob
from governor_agents.core.records import Call, CallState, Change, Result, Run, approval_id, evolve
from governor_agents.core.telling import asked_event
from governor_agents.core.verdicts import Verdict
from governor_agents.errors import CallIdReused, Fenced, OutcomeUnknown, RunBlocked
from governor_agents.halts import Halts
from governor_agents.nonces import nonce
from governor_agents.policies import PolicySet
from governor_agents.probes import Finding
from governor_agents.responses import Chain
from governor_agents.runs import Runs, Step, blob

INLINE = 4096
"""Results of up to this many bytes stand in the record; larger ones in a blob of the same write."""

UNKNOWN_TOLD = "the outcome of this call is unknown; an operator has been asked"


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
class Entry:
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


CHANGED = Entry()
"""In the place of an entry: other policies are in force than those that were asked, so they must be asked."""


@dataclass(frozen=True, slots=True)
class Now:
    """What a call is held against right before its intent: what the policies say now, the tool, the files.

    ``version`` is that of the policies which gave the verdict.
    """

    verdict: Verdict
    schema_sha256: str
    operands: tuple[Operand, ...]
    version: str


class Journal:
    """The steps of calls under claims, as the runs of one tenant record them. ``secret`` keys idempotency keys."""

    def __init__(self, runs: Runs, policies: PolicySet, halts: Halts, secret: bytes) -> None:
        self._runs = runs
        self._policies = policies
        self._halts = halts
        self._secret = secret

    async def _stopped(self, claim: Claim, call: ToolCall) -> bool:
        """True when a halt stops this call, by the store as it is now."""
        return bool(met(claim, call, await self._halts.scopes()))

    async def _enter(self, claim: Claim, call: ToolCall, tool: Tool, now_is: Now, chain: Chain | None = None) -> Entry:
        """Find out what is to be done with a call; when it is to run at once, its intent is durable on return."""
        go_on(claim)
        if claim.halted:
            return Entry(Ran("waits"))
        run = self._runs.known(claim.run) or await self._runs.get(claim.run)
        known = run.by_call_id(call.call_id)
        if known is None and call.call_id in claim.known:
            run = await self._runs.get(claim.run)
            known = run.by_call_id(call.call_id)
        if known is None:
            return await self._first_time(claim, call, tool, now_is, chain)
        return await self._known(claim, run, known, call)

    async def _known(self, claim: Claim, run: Run, known: Call, call: ToolCall) -> Entry:
        """A call that has a record."""
        to_run = known.state in (CallState.ALLOWED, CallState.APPROVED, CallState.RETRY)
        if to_run and not binding.holds(run, known):  # the intent finds that too, and says so in the record
            return Entry(n=known.n, known=known.as_tool_call(run))
        if not same(run, known, call):
            raise CallIdReused(f"the call id {call.call_id!r} of {known.tool} came back with other content")
        if to_run:
            return Entry(n=known.n, known=known.as_tool_call(run))
        if known.state is CallState.RECONCILING:
            return Entry(n=known.n, key=known.idem_key, probe=known.as_tool_call(run))
        return await self._over(claim, known)

    async def _probed(self, claim: Claim, n: int, found: Finding) -> Entry:
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

    async def _first_time(self, claim: Claim, call: ToolCall, tool: Tool, now_is: Now, chain: Chain | None) -> Entry:
        if now_is.verdict.outcome == "require_approval":
            return Entry(Ran("waits"))
        if now_is.verdict.outcome == "allow":
            if await self._stopped(claim, call):
                return Entry(Ran("waits"))
            if await self._policies.confirm() != now_is.version:
                return CHANGED
        stamp = nonce()

        def step(run: Run, now: float) -> Change:
            execution.hold(run, owner=claim.owner, fence=claim.fence)
            if run.by_call_id(call.call_id) is not None:  # the same id a second time, at the same moment
                return Change(run)
            made = make_call(run, call, tool, now_is.verdict, now=now, nonce=stamp)
            change = Change(run.with_call(made), (asked_event(made),))
            if made.state is CallState.DENIED:
                return change
            begun = self._begin(change.run, made, claim, now, now_is)
            return evolve(begun, events=(*change.events, *begun.events))

        try:
            change = await self._write(claim, chain, step)
        except _Overtaken:
            return CHANGED
        claim.known.add(call.call_id)
        made = change.run.by_call_id(call.call_id)
        if made is None:
            raise Fenced(f"the call {call.call_id} of {call.tool} is gone")
        if made.nonce != stamp:
            return await self._known(claim, change.run, made, call)
        return await self._begun(claim, made)

    def _begin(self, run: Run, call: Call, claim: Claim, now: float, now_is: Now) -> Change:
        if self._policies.version != now_is.version:  # heard of since; no intent is written under what is over
            raise _Overtaken
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

    async def _intent(self, claim: Claim, n: int, call: ToolCall, now_is: Now, chain: Chain | None = None) -> Entry:
        """The stored call under policies, tool and files as they are now."""
        if await self._stopped(claim, call):
            return Entry(Ran("waits"))
        if await self._policies.confirm() != now_is.version:
            return CHANGED
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

        try:
            change = await self._write(claim, chain, step)
        except _Overtaken:
            return CHANGED
        stands = change.run.call(n)
        if stands is None:
            raise Fenced(f"{approval_id(claim.run, n)} belongs to a generation that is over")
        if len(stands.attempts) == attempts:  # somebody else began it, or it is not to run
            return await self._over(claim, stands)
        return await self._begun(claim, stands)

    async def _begun(self, claim: Claim, call: Call) -> Entry:
        if call.state is CallState.EXECUTING and _is_ours(call, claim):
            return Entry(n=call.n, args=call.args, key=call.idem_key, attempt=len(call.attempts))
        return await self._over(claim, call)

    async def _over(self, claim: Claim, call: Call) -> Entry:
        """A call that is not to run now."""
        match call.state:
            case CallState.SUCCEEDED if call.result is not None:
                data, kept = call.result.data, call.result.blob
                return Entry(recorded=await self._runs.blob(claim.run, kept) if data is None else data.encode())
            case CallState.PENDING:
                claim.stop, claim.again = f"{call.tool} needs people again", True
                return Entry(Ran("waits", state=call.state))
            case CallState.EXECUTING if _is_ours(call, claim):
                return Entry(Ran("told", text=f"{call.tool} is running already under this call id", state=call.state))
            case CallState.UNKNOWN | CallState.EXECUTING:
                raise _stop(claim, call)
            case CallState.SUCCEEDED:  # an operator's word stands in for the result
                return Entry(Ran("told", text=call.told or "it took effect; its result was not kept", state=call.state))
            case _:
                return Entry(Ran("told", text=call.told or str(call.state), state=call.state))

    async def _failed(self, claim: Claim, entry: Entry, error: Exception) -> None:
        """The tool raised; where it cannot tell what happened, or its value cannot be recorded, that is a doubt."""
        if isinstance(error, OutcomeUnknown | NotRecordable):
            await self._lapsed(claim, entry, over=True)
            return
        told = (str(error) or type(error).__name__).encode("utf-8", "backslashreplace").decode()
        await self._leave(claim, entry, False, freeze({"error": type(error).__name__, "told": told}), told)

    async def _leave(self, claim: Claim, entry: Entry, ok: bool, data: bytes, told: str) -> None:
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

    async def _lapsed(self, claim: Claim, entry: Entry, *, over: bool = False) -> None:
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


def go_on(claim: Claim) -> None:
    """Raise when nothing more may start under this claim."""
    if claim.lost:
        raise Fenced(claim.stop)
    if claim.stop and not (claim.again or claim.halted):
        raise RunBlocked(claim.stop)


def asked_for(call: Call) -> bytes:
    """The arguments as the model wrote them."""
    return call.asked_args if call.asked_args is not None else call.args


def same(run: Run, known: Call, call: ToolCall) -> bool:
    """True when a recorded call is the one that came back: of this agent, for this tool, as the model wrote it."""
    return (known.agent or run.agent, known.tool, asked_for(known)) == (call.agent, call.tool, call.args)


def met(claim: Claim | None, call: ToolCall, scopes: frozenset[str]) -> str:
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


def _as_result(data: bytes, ok: bool) -> tuple[Result, tuple[Blob, ...]]:
    """The outcome for the record, and the blob beside it when it is large."""
    if len(data) <= INLINE:
        return Result(sha256(data), data.decode(), ok=ok), ()
    content = blob(data)
    return Result(content.id, None, content.id, ok), (content,)


class _Overtaken(Exception):
    """Other policies came into force while an intent was on its way."""


class NotRecordable(Exception):
    """The tool gave a value that its adapter could not make into bytes."""
