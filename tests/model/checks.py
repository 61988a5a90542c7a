"""What must hold: of every write (`of_write`), of every record (`of_record`), of every effect outside (`of_effect`).

Each check says in its own words what the protocol promises; none asks the functions under test whether they were right.
A breach is one line that begins with its kind: ``effect``, ``authority``, ``vote``, ``hands``, ``fence``, ``terminal``,
``doubt``, ``audit``, ``shape``, ``asked``, ``due``, ``raise``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product

from governor_agents.core import settling
from governor_agents.core.records import Call, CallState, Change, Run, RunState, Vote
from governor_agents.core.verdicts import Stage, Verdict
from tests.model.configurations import VERDICTS, VOTERS, voter
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
        if (old is None or _said(old) != _said(call)) and call.n not in told:
            yield f"audit: a call became {call.state} without an event"
    if was.cancel != run.cancel and None not in told:
        yield "audit: a cancel without an event"


def _said(call: Call) -> tuple[object, ...]:
    """What may not change without an event."""
    beside = (call.handed, call.taken_up, call.comments, call.reminders)
    return (call.state, call.args, call.votes, call.delegates, *beside)


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
        if said.stages and set(call.delegates) - set(said.delegates):
            yield "hands: an edit leaves seats to be handed to whom the policies do not allow"
    yield from _of_attempts(old, call, event)
    yield from _of_votes(old, call, event, change, shown)
    yield from _of_hands(old, call, event)
    yield from _of_beside(old, call, event)
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
    seats = [(vote.stage, vote.seat or vote.by) for vote in call.votes]
    if len(set(seats)) < len(seats) and event.word not in ("reject", "respond"):
        yield "vote: a seat was filled twice"
    if len({vote.by for vote in call.votes}) < len(call.votes) and event.word not in ("reject", "respond"):
        yield "vote: one person was counted twice"
    for vote in fresh:
        if not _entitled(call, vote.seat or vote.by, vote.by):
            yield "vote: of somebody whom no stage names"
        if vote.standing != _standing(call, vote.seat or vote.by, vote.by):
            yield f"vote: given as {vote.standing or 'oneself'}, which it was not"


def _out(call: Call) -> set[str]:
    """Every name of those who decide nothing: whoever asked has two."""
    rita = VOTERS["rita"].names
    return {*call.excluded, *(rita if set(rita) & set(call.excluded) else ())}


def _holder(call: Call, seat: str) -> str:
    """Whose seat it is, after all moves."""
    moves = [over.to for over in call.handed if over.seat == seat and over.moved]
    return moves[-1] if moves else seat


def _shared(call: Call, seat: str) -> set[str]:
    """To whom its holder gave it too, since it was moved last."""
    overs = [over for over in call.handed if over.seat == seat]
    last = max((at for at, over in enumerate(overs) if over.moved), default=-1)
    return {over.to for over in overs[last + 1 :]}


def _entitled(call: Call, seat: str, by: str) -> bool:
    """True when this person may speak for that seat."""
    who, holder = voter(by), _holder(call, seat)
    named = any(seat in stage.people for stage in call.stages)
    if not named or who.service or _out(call) & {seat, holder, *who.names}:
        return False
    return holder in (*who.names, *who.stands_for) or bool(_shared(call, seat) & set(who.names))


def _standing(call: Call, seat: str, by: str) -> str:
    """As what this person speaks for it."""
    who, holder = voter(by), _holder(call, seat)
    if holder == seat and holder in who.names:
        return ""
    own = holder in who.names or _shared(call, seat) & set(who.names)
    return "delegate" if own or holder != seat else "substitute"


def _of_hands(old: Call, call: Call, event: Event) -> Iterator[str]:
    """A seat goes only from its person's hands, or a coordinator's, into those that the policy allows."""
    if any(over.to not in (*call.delegates, over.seat) for over in call.handed):
        yield "hands: a seat is in hands that the policy does not allow"
    if set(call.delegates) - set(old.delegates):
        yield "hands: somebody was added to those who may be handed a seat"
    if call.handed[: len(old.handed)] != old.handed and event.what not in ("decide", "intent"):
        yield f"hands: a hand-over was forgotten by {event.what}"
    for over in call.handed[len(old.handed) :]:
        mine = _holder(old, over.seat) in voter(event.by).names
        if event.what != "hand over" or old.state is not C.PENDING or event.over:
            yield f"hands: a seat was handed over by {event.what} of a call that is {old.state}"
        if not mine and not (event.word.startswith("coordinate") and over.moved):
            yield "hands: somebody handed over what was not theirs"
        if _out(old) & {over.seat, over.to, *voter(over.to).names, *voter(event.by).names}:
            yield "hands: whoever asked has a hand in it"
        if over.seat in {vote.seat or vote.by for vote in old.votes}:
            yield "hands: a seat that was filled went on"


def _of_beside(old: Call, call: Call, event: Event) -> Iterator[str]:
    """What is no decision decides nothing."""
    quiet = ("hand over", "beside", "remind", "notice", "take notices", "late notice")
    if event.what in quiet and _bound(old) != _bound(call):
        yield f"authority: {event.what} changed what is decided"
    if event.what == "beside" and (old.state is not C.PENDING or event.by == "carol"):
        yield "vote: somebody who is not asked, or no longer, said something beside it"
    if event.what == "remind" and old.state is not C.PENDING:
        yield "asked: people are reminded of what is decided"


def _bound(call: Call) -> tuple[object, ...]:
    return (call.state, call.votes, call.digest, call.stages, call.stage, call.expires, call.excluded)


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
    later = _under(old, now)
    if now.outcome == "deny":
        yield "authority: begun although the policies deny it"
    on_these = tuple(vote for vote in old.votes if shown.shown.get(vote.digest) == old.args)
    for votes, stages in ((on_these, _left(old.stages, old)), (later, _left(now.stages, old))):
        if stages and not meets(votes, stages, old.excluded):
            yield "authority: begun without the people it needs"


def _under(call: Call, verdict: Verdict) -> tuple[Vote, ...]:
    """The approvals of a call as another verdict takes them: for a seat that went where it may not, as of oneself."""
    found = []
    for vote in call.votes:
        went = [over.to for over in call.handed if over.seat == vote.seat]
        if verdict.exclude_requester and "requester" in voter(vote.by).names:
            continue
        void = any(to not in (*verdict.delegates, vote.seat) for to in went)
        found.append(replace(vote, seat="") if void and vote.seat not in voter(vote.by).names else vote)
    return tuple(found)


def _left(stages: tuple[Stage, ...], call: Call) -> tuple[Stage, ...]:
    """The stages but those that time passed over."""
    left = list(stages)
    for passed in call.passed_over:
        if passed in left:
            left.remove(passed)
    return tuple(left)


def meets(votes: tuple[Vote, ...], stages: tuple[Stage, ...], excluded: tuple[str, ...]) -> bool:
    """True when distinct people who approved, on distinct seats, can be found for every place; all ways are tried."""
    able: dict[str, set[str]] = {}
    for vote in votes:
        if vote.kind in ("approve", "edit") and vote.by not in excluded:
            able.setdefault(vote.by, set()).update({vote.by, vote.seat} - {"", *excluded})
    places = [(at, stage) for at, stage in enumerate(stages) for _ in range(max(stage.quorum, 1))]
    return any(_seated([able[who] for who in order], places) for order in permutations(sorted(able), len(places)))


def _seated(able: list[set[str]], places: list[tuple[int, Stage]]) -> bool:
    """True when each of these people finds a seat in the place that is meant, no two the same."""
    ways = product(*(names & set(stage.people) for names, (_, stage) in zip(able, places, strict=True)))
    return any(len({(at, name) for name, (at, _) in zip(way, places, strict=True)}) == len(way) for way in ways)


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
        if old is not None and len(call.handed) > len(old.handed) and (call.n, "asked") not in waiting:
            yield "asked: a seat was handed over and nobody tells them"
        if old is not None and _shown(old) != _shown(call):
            fresh = {notice.channel for notice in run.outbox if notice.n == call.n and notice.taken <= NOW}
            if not fresh.issuperset(call.channels):
                yield "asked: what is shown has changed, and a card is not told"
    for old in was.having(C.PENDING):
        after = run.call(old.n)
        if after is not None and after.state is not C.PENDING and (old.n, "decided") not in waiting:
            yield f"asked: it is {after.state}, and nobody tells those who were asked"
    if event.what == "late notice" and not any(notice.taken <= NOW for notice in run.outbox):
        yield "asked: something old may stand over something new, and nobody looks"
    if event.what != "notice":
        left = {notice.id for notice in was.outbox} - {notice.id for notice in run.outbox}
        if left:
            yield f"asked: a notice was dropped by {event.what}"


def _shown(call: Call) -> tuple[object, ...]:
    return (call.votes, call.handed, call.taken_up, call.comments)


def _of_outbox(run: Run) -> Iterator[str]:
    """One notice of a call and channel in one pair of hands, and it is the next one."""
    for key in {(notice.n, notice.channel) for notice in run.outbox}:
        same = [notice for notice in run.outbox if (notice.n, notice.channel) == key]
        if any(notice.taken > NOW for notice in same[1:]):
            yield "asked: a card hears two things at once, or the later one first"
        if len({notice.id for notice in same}) < len(same):
            yield "asked: two notices are one"


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
    yield from _of_outbox(run)
    unheard = replace(run, outbox=())
    first = [call.reminders[0] for call in run.having(C.PENDING) if call.reminders and not run.cancel]
    if first and run.state not in ENDED and (settling.due(unheard) or 0.0) > min(first):
        yield "due: nobody looks when people are to be reminded"
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
