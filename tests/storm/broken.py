"""Builds with one fault each. A storm that does not find the fault of each of them proves nothing.

`apply` changes the package in the process that all others are forked from; `store` changes what they open.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from governor_agents.claims import held
from governor_agents.core import decisions, driving, execution
from governor_agents.core.identity import Voter
from governor_agents.core.ports import Record, Store, Swapped
from governor_agents.core.records import Call, CallState, Change, Decision, Event, Run, Vote, evolve
from governor_agents.core.settling import settle
from governor_agents.core.telling import call_event
from governor_agents.errors import StoreError
from governor_agents.guard import Guard, Ran


class _Wrapped:
    """A store that differs from the one inside in one method."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class LastWriteWins(_Wrapped):
    """Nobody compares versions."""

    async def swap(self, record: Record, *, events: Any = (), not_after: Any = None, **rest: Any) -> Swapped:
        while current := await self._inner.load(record.kind, record.tenant, record.id):
            late = current.v != record.v
            try:
                answer = await self._inner.swap(replace(record, v=current.v), events=() if late else events, **rest)
            except StoreError:  # the audit log would have noticed; this build does not care
                answer = await self._inner.swap(replace(record, v=current.v), **rest)
            if answer.won:
                return replace(answer, v=record.v + 1)
        return Swapped(won=False)


class ForgetsWrites(_Wrapped):
    """One write in eight is answered and not made."""

    async def swap(self, record: Record, **rest: Any) -> Swapped:
        if record.kind == "run" and random.random() < 0.125:
            return Swapped(won=True, v=record.v + 1)
        return await self._inner.swap(record, **rest)


def _late_votes() -> None:
    """A vote that comes after the decision counts too."""
    sound = decisions.decide

    def accepts(run: Run, n: int, decision: Decision, *, by: Voter, now: float, **rest: Any) -> Change:
        call = run.call(n)
        if call is None or call.state is CallState.PENDING:
            return sound(run, n, decision, by=by, now=now, **rest)
        vote = Vote(by.id, decision.kind, now, call.digest, call.stage, decision.reason)
        return Change(
            run.with_call(evolve(call, votes=(*call.votes, vote))), (call_event(call, "call.voted", by=by.id),)
        )

    cast("Any", decisions).decide = accepts


def _rejected_runs() -> None:
    """A rejected call is let through, and both looks at the votes right before the tool are blind."""
    sound = decisions._close

    def lets_through(run: Run, call: Call, decision: Decision, vote: Vote) -> Change:
        change = sound(run, call, decision, vote)
        closed = change.run.call(call.n)
        if decision.kind != "reject" or closed is None:
            return change
        approved = evolve(call, votes=closed.votes, state=CallState.APPROVED)
        return settle(Change(evolve(run.with_call(approved), updated=vote.at), change.events[:1]), vote.at)

    cast("Any", decisions)._close = lets_through
    cast("Any", execution).holds = lambda run, call: True
    cast("Any", execution)._approved_enough = lambda run, call, verdict: True


def _no_fence() -> None:
    """Whoever stalls is replaced as if it had done nothing, and may go on beside the one that replaced it."""

    def begins_anew(call: Call, now: float) -> tuple[Call, Event]:
        call = evolve(call, state=CallState.APPROVED, attempts=())
        return call, call_event(call, reason="no result")

    cast("Any", driving).lapse_call = cast("Any", execution).lapse_call = begins_anew
    cast("Any", execution)._mine = lambda call, owner, fence, attempt: True


def _effect_before_intent() -> None:
    """The tool runs first and is written down afterwards."""
    sound = Guard.run

    async def runs_first(self: Guard, claim: Any, call: Any, tool: Any, invoke: Any, **rest: Any) -> Ran:
        with held(claim):  # so that the ledger knows whose effect it is
            value = await invoke(call.args)

        async def given(args: bytes) -> Any:
            return value

        return await sound(self, claim, call, tool, given, **rest)

    cast("Any", Guard).run = runs_first


CODE: dict[str, Callable[[], None]] = {
    "late_votes": _late_votes,
    "rejected_runs": _rejected_runs,
    "no_fence": _no_fence,
    "effect_before_intent": _effect_before_intent,
}
STORES: dict[str, Callable[[Store], Any]] = {"last_write_wins": LastWriteWins, "forgets_writes": ForgetsWrites}
FAULTS = (*STORES, *CODE)


def apply(fault: str) -> None:
    """Break the package in this process, and in all that are forked from it."""
    if fault in CODE:
        CODE[fault]()


def store(fault: str, sound: Store) -> Store:
    """The store that a build with this fault uses."""
    return cast("Store", STORES[fault](sound)) if fault in STORES else sound
