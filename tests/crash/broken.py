"""Seeded broken builds, put on in the child that is killed: the matrix must find each of them, or a green one says nothing.

Each stands for a mistake in one place of the protocol, with kills that must bring it to light and the finding expected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from governor_agents import Decision
from governor_agents.core import decisions, doubts, driving, execution, telling
from governor_agents.core.records import Call, CallState, Change, Run, evolve
from governor_agents.core.settling import UNKNOWN, block
from governor_agents.core.telling import call_event
from governor_agents.guard import Guard
from governor_agents.responses import Responses
from governor_agents.runs import Runs
from governor_agents.stores.mongodb import MongoDBStore
from governor_agents.stores.redis import RedisStore
from governor_agents.stores.sqlite import SQLiteStore


@dataclass(frozen=True)
class Broken:
    """A mistake: how to make it, the kills that show it (``SCENE/RETRY/AIM``), and which finding they must give."""

    make: Callable[[], None]
    kills: tuple[str, ...]
    finding: str


class _Unwritten(Exception):
    def __init__(self, change: Change) -> None:
        self.change = change


def _intent_in_memory() -> None:
    """The intent is remembered by the process and not written."""
    sound = Runs.change

    async def change(self: Runs, id: str, step: Any, **settings: Any) -> Change:
        def watched(run: Run, now: float) -> Change:
            made = step(run, now)
            if any(event.what == "call.executing" for event in made.events):
                raise _Unwritten(made)
            return made

        try:
            return await sound(self, id, watched, **settings)
        except _Unwritten as unwritten:
            v, _ = await self._load(id)
            self._remember(v, unwritten.change.run)
            return unwritten.change

    Runs.change = change  # type: ignore[method-assign,assignment]


def _result_in_memory() -> None:
    """The result is not written before the loop goes on, nor later."""

    async def leave(self: Guard, claim: Any, entry: Any, *rest: Any) -> None: ...

    Guard._leave = leave  # type: ignore[method-assign]


def _lapse_to(state: CallState) -> None:
    def lapse_call(call: Call, now: float) -> tuple[Call, Any]:
        call = evolve(call, state=state, doubt=True, lapsed=now)
        return call, call_event(call, reason="no result")

    driving.lapse_call = execution.lapse_call = lapse_call  # type: ignore[attr-defined]


def _decision_used_twice() -> None:
    """A call that was begun stands as approved again when its worker dies."""
    _lapse_to(CallState.APPROVED)


def _doubt_of_idempotent() -> None:
    """What may be sent again is put before people instead."""
    _lapse_to(CallState.UNKNOWN)


def _when_the_lease_ends(state: CallState) -> None:
    sound = driving._let_go

    def let_go(run: Run, now: float, what: str, **detail: str) -> Change:
        change = sound(run, now, what, **detail)
        for call in change.run.having(CallState.APPROVED):
            change = evolve(change, run=change.run.with_call(evolve(call, state=state, told="the worker died")))
        return block(change, driving.RunEvent.BLOCK, UNKNOWN, now) if state is CallState.UNKNOWN else change

    driving._let_go = let_go


def _doubt_of_the_unbegun() -> None:
    """An approved call is put in doubt although nothing of it began."""
    _when_the_lease_ends(CallState.UNKNOWN)


def _approval_forgotten() -> None:
    """An approved call is withdrawn when a worker dies before it began."""
    _when_the_lease_ends(CallState.CANCELLED)


def _notice_lost() -> None:
    """A notice is gone as soon as a worker has taken it."""

    sound = telling.take_notices

    def take_notices(run: Run, now: float, **more: Any) -> Change:
        left = tuple(notice for notice in sound(run, now, **more).run.outbox if notice.taken <= now)
        return Change(evolve(run, outbox=left)) if len(left) < len(run.outbox) else Change(run)

    telling.take_notices = take_notices


def _key_of_each_attempt() -> None:
    """A second attempt has another idempotency key."""
    sound = execution.intent

    def intent(run: Run, n: int, *args: Any, **settings: Any) -> Change:
        change = sound(run, n, *args, **settings)
        call = change.run.call(n)
        if call is None or call.state is not CallState.EXECUTING:
            return change
        fresh = evolve(call, idem_key=f"{call.idem_key}-{len(call.attempts)}")
        return evolve(change, run=change.run.with_call(fresh))

    execution.intent = intent


def _edit_ignored() -> None:
    """What the model asked for runs, not what the person made of it."""
    sound = Guard._begun

    async def begun(self: Guard, claim: Any, call: Call) -> Any:
        entry = await sound(self, claim, call)
        return evolve(entry, args=call.asked_args) if entry.key and call.asked_args is not None else entry

    Guard._begun = begun  # type: ignore[method-assign]


def _rejection_ignored() -> None:
    """A no counts as a yes."""
    sound = decisions.decide

    def decide(run: Run, n: int, decision: Decision, **settings: Any) -> Change:
        return sound(run, n, Decision.approve() if decision.kind == "reject" else decision, **settings)

    decisions.decide = decide


def _responses_forgotten() -> None:
    """What a model answered before a crash is not given back: it is asked again."""
    sound = Responses.__init__

    def init(self: Responses, kept: Any = ()) -> None:
        sound(self)

    Responses.__init__ = init  # type: ignore[method-assign]


def _probe_not_asked() -> None:
    """What a probe could tell is put before people."""
    sound = doubts.probed

    def probed(*args: Any, **settings: Any) -> Change:
        return sound(*args, **{**settings, "happened": None, "result": None})

    doubts.probed = probed


def _doubt_runs_again() -> None:
    """Whatever an operator answers, the old call may run again."""
    sound = doubts.resolve

    def resolve(run: Run, n: int, now: float, **settings: Any) -> Change:
        change = sound(run, n, now, **{**settings, "how": "abandon"})
        call = change.run.call(n)
        assert call is not None
        back = evolve(call, state=CallState.APPROVED, told="")
        return evolve(change, run=change.run.with_call(back))

    doubts.resolve = resolve


def _last_write_wins() -> None:
    """A write that lost is made all the same, over whatever stands."""

    def broken(sound: Any) -> Any:
        async def swap(self: Any, record: Any, **settings: Any) -> Any:
            answer = await sound(self, record, **settings)
            while not answer.won and answer.current is not None and not answer.late:
                answer = await sound(self, evolve(record, v=answer.current.v), **{**settings, "events": ()})
            return answer

        return swap

    for driver in (MongoDBStore, RedisStore, SQLiteStore):
        driver.swap = broken(driver.swap)  # type: ignore[method-assign]


def _kills(text: str) -> tuple[str, ...]:
    return tuple(text.split())


BROKEN = {
    "intent-in-memory": Broken(
        _intent_in_memory,
        _kills("openai.gated/none/tool:after@1 langchain.gated/none/tool:after@1 functions.left/none/tool:after@1"),
        "double",
    ),
    "result-in-memory": Broken(
        _result_in_memory, _kills("openai.gated/none/model:after@2 langchain.gated/none/stretch:after@2"), "outside"
    ),
    "decision-used-twice": Broken(
        _decision_used_twice, _kills("openai.edit/none/tool:after@1 functions.waiting/none/tool:after@1"), "double"
    ),
    "key-of-each-attempt": Broken(
        _key_of_each_attempt, _kills("langchain.gated/idempotent/tool:after@1 functions.left/idempotent/tool:after@1"), "double"
    ),
    "doubt-of-the-unbegun": Broken(
        _doubt_of_the_unbegun, _kills("langchain.gated/none/run.claimed:after@1 openai.batch/none/stretch:before@2"), "outside"
    ),
    "doubt-of-idempotent": Broken(_doubt_of_idempotent, _kills("openai.gated/idempotent/tool:before@1"), "outside"),
    "approval-forgotten": Broken(
        _approval_forgotten, _kills("openai.gated/none/run.claimed:after@1 functions.left/none/drive:before@1+run.claimed:after@1"), "lost"
    ),
    "notice-lost": Broken(
        _notice_lost, _kills("langchain.gated/none/notice:before@1 functions.waiting/none/notice.taken:after@1"), "lost"
    ),
    "edit-ignored": Broken(
        _edit_ignored, _kills("openai.edit/none/call.edited:after@1 langchain.edit/none/run.claimed:before@1"), "altered"
    ),
    "rejection-ignored": Broken(_rejection_ignored, _kills("functions.reject/none/call.approved:after@1"), "altered"),
    "responses-forgotten": Broken(_responses_forgotten, _kills("openai.allowed/none/call.succeeded:after@1"), "double"),
    "probe-not-asked": Broken(
        _probe_not_asked, _kills("langchain.gated/reconcilable/tool:after@1 functions.left/reconcilable/tool:after@1"), "outside"
    ),
    "doubt-runs-again": Broken(_doubt_runs_again, _kills("openai.gated/none/tool:after@1"), "double"),
    "last-write-wins": Broken(
        _last_write_wins, _kills("functions.stall/none/call.succeeded:after@1 openai.stall/none/call.succeeded:after@1"), "lost"
    ),
}  # fmt: skip


def breaks(name: str) -> None:
    """Make the mistake of this name in this process; an empty name makes none."""
    if name:
        BROKEN[name].make()
