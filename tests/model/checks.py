"""What must hold: of every write (`of_write`), of every record (`of_record`), of every effect outside (`of_effect`).

Each check says in its own words what the protocol promises; none asks the functions under test whether they were right.
A breach is one line that begins with its kind: ``effect``, ``authority``, ``vote``, ``fence``, ``terminal``, ``doubt``,
``audit``, ``shape``, ``asked``, ``due``, ``raise``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations

from governor_agents.core import settling
from governor_agents.core.records import Call, CallState, Change, Run, RunState, Vote
from governor_agents.core.verdicts import Stage
from tests.model.configurations import VERDICTS
from tests.model.events import LOST, Event
from tests.model.state import DEAD, LEASE, NOW

C, R = CallState, RunState
NEVER = frozenset({C.DENIED, C.REJECTED, C.EXPIRED, C.ANSWERED, C.CANCELLED, C.SUPERSEDED})
OPEN = frozenset({C.ALLOWED, C.PENDING, C.APPROVED, C.EXECUTING, C.RETRY, C.RECONCILING, C.UNKNOWN})
ENDED = frozenset({R.COMPLETED, R.FAILED, R.CANCELLED})
BEGUN = frozenset({C.EXECUTING, C.UNKNOWN, C.RETRY, C.RECONCILING, C.SUCCEEDED, C.FAILED})
DRIVING = frozenset(
    {"intent", "enter", "pause", "finish", "fail", "release", "abandon", "park", "park halted", "probe"}
)
LAPSED = {"none": C.UNKNOWN, "idempotent": C.RETRY, "reconcilable": C.RECONCILING}


class Bytes:
    """Which arguments each digest was ever bound to: what a person who saw the digest saw."""

    def __init__(self) -> None:
        self.shown: dict[str, bytes] = {}

    def learn(self, run: Run) -> Iterator[str]:
        """Remember what a record shows; a digest never means two things."""
        for call in run.calls:
            if self.shown.setdefault(call.digest, call.args) != call.args:
                yield "vote: one digest stands for two sets of bytes"


def of_write(was: Run, change: Change, event: Event, shown: Bytes) -> Iterator[str]:
    """What is wrong with one write. ``was`` is the record before it."""
    run = change.run
    yield from shown.learn(run)
    yield from _of_audit(was, change)
    yield from _of_run(was, run, event)
    for call in run.calls:
        old = was.call(call.n)
        if old is None:
            yield from _of_new(was, call)
        elif old != call:
            yield from _of_call(was, run, old, call, change, event, shown)
    for old in was.calls:
        if old.state in OPEN and run.call(old.n) is None:
            yield f"terminal: an open call ({old.state}) left the record"
    yield from _of_asking(was, run, event)
    if event.what == "restored":
        yield from _of_restored(was, run)
    yield from of_record(run)


def _of_audit(was: Run, change: Change) -> Iterator[str]:
    run, told = change.run, {event.n for event in change.events}
    if was.state is not run.state and None not in told:
        yield f"audit: the run became {run.state} without an event"
    for call in run.calls:
        old = was.call(call.n)
        if (old is None or (old.state, old.args, old.votes) != (call.state, call.args, call.votes)) and (
            call.n not in told
        ):
            yield f"audit: a call became {call.state} without an event"
    if was.cancel != run.cancel and None not in told:
        yield "audit: a cancel without an event"


def _of_run(was: Run, run: Run, event: Event) -> Iterator[str]:
    if was.state in ENDED and (was.state, was.calls, was.cancel) != (run.state, run.calls, run.cancel):
        yield f"terminal: a run that is {was.state} changed"
    raised = event.what == "claim" and run.state is R.ACTIVE
    if raised and run.fence <= was.fence:
        yield "fence: a claim without a higher fence"
    if not raised and run.fence != was.fence:
        yield f"fence: changed by {event.what}"
    if raised and (was.state not in (R.QUEUED, R.READY) or run.lease is None or run.lease.owner != event.by):
        yield f"fence: a claim on a run that is {was.state}"
    if raised and was.waiter and was.waiter.owner != event.by and event.over != "waiter":
        yield "fence: a claim while the function's caller waits"
    if event.what in DRIVING and not _holds(was, event):
        yield f"fence: {event.what} under a claim that is over"
    if was.cancel and (run.cancel != was.cancel or run.count > was.count):
        yield "terminal: a cancelled run got a new call, or is not cancelled any more"
    left = was.state is R.ACTIVE and run.state is not R.ACTIVE
    given_up = ("lease over", "all over", "release", "restored")
    if left and event.what not in given_up and was.having(C.EXECUTING):
        settled = {"record", "lapse"}
        if event.what not in settled or len(was.having(C.EXECUTING)) > 1:
            yield f"shape: the run left its driver by {event.what} while a call executes"


def _holds(was: Run, event: Event) -> bool:
    lease = was.lease
    return was.state is R.ACTIVE and was.fence == event.fence and lease is not None and lease.owner == event.by


def _of_new(was: Run, call: Call) -> Iterator[str]:
    if call.state not in (C.PENDING, C.ALLOWED, C.DENIED, C.EXECUTING, C.CANCELLED, C.SUPERSEDED, C.EXPIRED):
        yield f"authority: a new call is {call.state}"
    if call.votes:
        yield "vote: a new call has votes"
    if call.n <= was.count:
        yield "terminal: a call's number was used again"


def _of_call(was: Run, run: Run, old: Call, call: Call, change: Change, event: Event, shown: Bytes) -> Iterator[str]:
    if old.state not in OPEN and old != call:
        yield f"terminal: a call that is {old.state} changed to {call.state}"
    if old.args != call.args and (event.what != "decide" or old.state is not C.PENDING):
        yield f"vote: the bytes of a call that is {old.state} were changed by {event.what}"
    if old.args != call.args and event.what == "decide":
        said = VERDICTS[event.word.partition(" ")[2]]
        if said.outcome == "deny" or any(stage not in call.stages for stage in (*said.stages, *old.stages)):
            yield "authority: an edit that the policies deny, or without the people whom they name for it"
    yield from _of_attempts(old, call, event)
    yield from _of_votes(old, call, event, change, shown)
    if old.state is not call.state:
        yield from _of_move(was, run, old, call, change, event, shown)


def _of_attempts(old: Call, call: Call, event: Event) -> Iterator[str]:
    """No attempt is forgotten, and nobody is taken for dead who may still act."""
    if len(call.attempts) < len(old.attempts):
        yield "fence: an attempt was forgotten"
    for was, made in zip(old.attempts, call.attempts, strict=False):
        if (was.fence, was.owner) != (made.fence, made.owner) or (was.died and not made.died):
            yield "fence: an attempt was changed"
        # What the worker itself says of its tool: it came back, with no answer or an exception.
        said = event.what == "record" or (event.what == "lapse" and event.word == "done")
        done = said and (event.by, event.fence) == (was.owner, was.fence)
        if made.died and not was.died and was.owner not in (DEAD, LOST) and not done:
            yield "doubt: a worker that may live was taken for dead"


def _of_votes(old: Call, call: Call, event: Event, change: Change, shown: Bytes) -> Iterator[str]:
    before = {(vote.by, vote.kind, vote.seen or vote.digest) for vote in old.votes}
    fresh = [vote for vote in call.votes if (vote.by, vote.kind, vote.seen or vote.digest) not in before]
    if old.args != call.args and any(shown.shown.get(vote.digest) != call.args for vote in call.votes):
        yield "vote: votes on other bytes stand after an edit"
    if not fresh:
        return
    if event.what != "decide" or event.n != call.n or any(vote.by != event.by for vote in fresh):
        yield f"vote: a vote that nobody gave appeared by {event.what}"
    if event.stale:
        yield "vote: counted on other bytes than the voter saw"
    if event.over == "deadline":
        yield "vote: counted after the deadline"
    if change.not_after is None or (old.expires is not None and change.not_after > old.expires):
        yield "vote: its write may come after the deadline"
    named = {person for stage in call.stages for person in stage.people} - set(call.excluded)
    if any(vote.by not in named for vote in fresh):
        yield "vote: of somebody whom no stage names"


def _of_move(was: Run, run: Run, old: Call, call: Call, change: Change, event: Event, shown: Bytes) -> Iterator[str]:
    if call.state is C.EXECUTING:
        yield from _of_intent(was, old, call, change, event, shown)
    if call.state is C.APPROVED:
        these = tuple(vote for vote in call.votes if shown.shown.get(vote.digest) == call.args)
        if event.what != "decide" or not meets(these, _left(call.stages, call), call.excluded):
            yield "authority: approved without the people it needs"
    if old.state is C.EXECUTING:
        yield from _of_executing(old, call, event)
    if old.state is C.UNKNOWN:
        yield from _of_unknown(old, call, event)
    found = old.state is C.RECONCILING and event.what == "probe" and event.word == "happened"
    if old.state in (C.RETRY, C.RECONCILING) and call.state not in (C.EXECUTING, C.UNKNOWN) and not found:
        yield f"doubt: a call in {old.state} became {call.state}"


def _of_executing(old: Call, call: Call, event: Event) -> Iterator[str]:
    mine = event.what in ("record", "lapse") and _own(old, event)
    if call.state in (C.SUCCEEDED, C.FAILED):
        if not (event.what == "record" and mine):
            yield f"fence: a call that executes became {call.state} by {event.what} of another attempt"
        if event.word == "raised" and event.attempt > 1:
            yield "doubt: an exception settled a doubt about an earlier attempt"
    elif call.state not in LAPSED.values():
        yield f"doubt: a call that executes became {call.state}"
    elif event.what != "record" and call.state not in (LAPSED[old.retry], C.UNKNOWN):
        yield f"doubt: a call of class {old.retry} became {call.state}"
    if event.what in ("record", "lapse") and not mine:
        yield f"fence: a call was moved by the {event.what} of another attempt"


def _of_unknown(old: Call, call: Call, event: Event) -> Iterator[str]:
    late = event.what == "record" and event.word == "ok" and _own(old, event) and call.state is C.SUCCEEDED
    answered = event.what == "resolve" and event.n == call.n
    if answered and call.state is not (C.SUCCEEDED if event.word == "happened" else C.FAILED):
        yield f"doubt: {event.word} made it {call.state}"
    if not late and not answered:
        yield f"doubt: settled as {call.state} by {event.what}"


def _own(call: Call, event: Event) -> bool:
    last = call.attempts[-1] if call.attempts else None
    return last is not None and (len(call.attempts), last.owner, last.fence) == (event.attempt, event.by, event.fence)


def _of_intent(was: Run, old: Call, call: Call, change: Change, event: Event, shown: Bytes) -> Iterator[str]:
    if event.what not in ("intent", "enter"):
        yield f"authority: begun by {event.what}"
        return
    if was.cancel:
        yield "authority: begun in a run that is being cancelled"
    if event.over == "lease" or change.not_after is None or change.not_after > NOW + LEASE:
        yield "authority: begun although the lease is over, or could be by then"
    if event.over == "run_within" and old.state in (C.APPROVED, C.RETRY):
        yield "authority: begun after run_within"
    if event.over == "ttl" and old.attempts:
        yield "authority: begun again after the other side forgot its key"
    if event.stale and not old.attempts:
        yield "authority: begun although the tool's schema changed"
    if old.state not in (C.ALLOWED, C.APPROVED, C.RETRY):
        yield f"authority: a call that is {old.state} was begun"
    if old.attempts and (old.retry != "idempotent" or old.idem_key != call.idem_key):
        yield "authority: begun again without the key of the first attempt"
    last = call.attempts[-1] if len(call.attempts) == len(old.attempts) + 1 else None
    if last is None or (last.owner, last.fence) != (event.by, event.fence):
        yield "fence: begun without an attempt of this claim"
    now = VERDICTS[event.word]
    if now.outcome == "deny":
        yield "authority: begun although the policies deny it"
    on_these = tuple(vote for vote in old.votes if shown.shown.get(vote.digest) == old.args)
    for stages in (_left(old.stages, old), _left(now.stages, old)):
        if stages and not meets(on_these, stages, old.excluded):
            yield "authority: begun without the people it needs"


def _left(stages: tuple[Stage, ...], call: Call) -> tuple[Stage, ...]:
    """The stages but those that time passed over."""
    left = list(stages)
    for passed in call.passed_over:
        if passed in left:
            left.remove(passed)
    return tuple(left)


def meets(votes: tuple[Vote, ...], stages: tuple[Stage, ...], excluded: tuple[str, ...]) -> bool:
    """True when distinct people who approved can be found for every place of every stage; all ways are tried."""
    voters = {vote.by for vote in votes if vote.kind in ("approve", "edit")} - set(excluded)
    places = [stage for stage in stages for _ in range(max(stage.quorum, 1))]
    return any(
        all(person in stage.people for person, stage in zip(order, places, strict=True))
        for order in permutations(sorted(voters), len(places))
    )


def _of_restored(was: Run, run: Run) -> Iterator[str]:
    """A run of an old copy does nothing before a person has spoken on it anew."""
    if run.state in (R.QUEUED, R.READY, R.ACTIVE):
        yield f"restored: a run that is {run.state} goes on by itself"
    for call in run.calls if not run.cancel else ():
        old = was.call(call.n)
        if call.state in OPEN - {C.PENDING, C.UNKNOWN}:
            yield f"restored: a call is {call.state}, as if nothing could have happened since"
        if call.state is C.PENDING and (call.votes or old is None or call.digest == old.digest):
            yield "restored: an earlier vote or click counts still"
        if call.state is C.PENDING and call.on_expire != "end_run":
            yield "restored: it goes on when nobody decides"
        if call.state is C.UNKNOWN and not any(made.owner == LOST and made.died is None for made in call.attempts):
            yield "restored: whoever worked since is taken for dead"


def _of_asking(was: Run, run: Run, event: Event) -> Iterator[str]:
    """Whoever is asked now, and was not before, has a notice; nobody's notice goes before it was handed over."""
    waiting = {(notice.n, notice.what) for notice in run.outbox}
    for call in run.having(C.PENDING):
        old = was.call(call.n)
        same = old is not None and (old.state, old.stage, old.digest) == (call.state, call.stage, call.digest)
        if not same and (call.n, "asked") not in waiting:
            yield "asked: people must decide and nobody tells them"
    if event.what != "notice":
        left = {notice.id for notice in was.outbox} - {notice.id for notice in run.outbox}
        if left:
            yield f"asked: a notice was dropped by {event.what}"


def of_record(run: Run) -> Iterator[str]:
    """What is wrong with a record as it stands."""
    states = {call.state for call in run.calls}
    if run.state in ENDED and states & OPEN:
        yield f"shape: {run.state} with an open call"
    if (run.state is R.ACTIVE) is not (run.lease is not None):
        yield f"shape: {run.state} and its lease do not fit"
    if C.EXECUTING in states and run.state is not R.ACTIVE:
        yield f"shape: a call executes in a run that is {run.state}"
    if run.state is R.WAITING and C.PENDING not in states:
        yield "shape: WAITING for nobody"
    if run.state in (R.READY, R.QUEUED) and states & {C.PENDING, C.UNKNOWN}:
        yield f"shape: {run.state} while people are asked or something is in doubt"
    if run.state is R.WAITING and C.UNKNOWN in states:
        yield "shape: WAITING while something is in doubt"
    if run.state is R.BLOCKED and run.blocked == settling.UNKNOWN and C.UNKNOWN not in states:
        yield "shape: BLOCKED by a doubt that no call holds"
    if run.single and run.calls and not states & OPEN and run.state not in ENDED:
        yield f"shape: a run of one call is {run.state} after its call ended"
    if run.attempts > run.max_attempts:
        yield "shape: claimed again and again without progress"
    ends = any(call.on_expire == "end_run" for call in run.having(C.EXPIRED)) and C.PENDING not in states
    if ends and run.state in (R.READY, R.QUEUED, R.WAITING, R.COMPLETED):
        yield f"shape: {run.state} although an approval expired that ends the run"
    unheard = replace(run, outbox=())
    halted = run.state is R.BLOCKED and run.blocked == settling.HALT
    if (halted or run.state in (R.QUEUED, R.READY, R.ACTIVE, R.WAITING)) and settling.due(unheard) is None:
        yield f"due: nobody looks at a run that is {run.state}"


def of_effect(run: Run, n: int, effects: tuple[tuple[int, str, int], ...]) -> Iterator[str]:
    """What is wrong with an effect of call ``n`` that just happened."""
    mine = [(key, times) for m, key, times in effects if m == n]
    call = run.call(n)
    if call is None:
        return
    if len(mine) > 1:
        yield "effect: of one approval under two keys"
    if any(times > 1 for _, times in mine) and call.retry != "idempotent":
        yield "effect: twice for one approval"
    if call.state not in BEGUN:
        yield f"effect: of a call that is {call.state}"
    if call.replaced_by is not None:
        yield "effect: of a call that was said not to have happened"
    others = {m for m, _, _ in effects} - {n}
    if call.replaces in others or call.replaced_by in others:
        yield "effect: of a call and of the one that was asked in its place"
    if not call.attempts:
        yield "effect: of a call that nobody began"
