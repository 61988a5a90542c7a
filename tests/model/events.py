"""Who may do what: every event of the model, and the real transition function that it is.

An `Event` is one atomic write of somebody. `perform` calls the transition itself on the record as it stands, which is
also what a write that lost its compare-and-set does: it is applied anew, with what its writer knew before. So a lost
compare-and-set, an old copy and a worker that thinks it still has its claim need no code of their own: whatever
somebody knew once (a digest seen, a fence, an attempt), he may act on it at any later moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from governor_agents.core import (
    attending,
    decisions,
    doubts,
    driving,
    execution,
    halting,
    quarantine,
    settling,
    telling,
)
from governor_agents.core.calls import Tool, ToolCall
from governor_agents.core.decisions import make_call
from governor_agents.core.records import (
    Call,
    CallState,
    Change,
    Decision,
    Notice,
    Result,
    Run,
    RunState,
    Snapshot,
    evolve,
)
from governor_agents.core.telling import asked_event
from governor_agents.core.verdicts import Verdict
from tests.model.configurations import VERDICTS, Asked, Configuration, voter
from tests.model.state import DEAD, LEASE, MOST_HANDED, NAMES, NOW, TAKEN, Hand, aged

SNAPSHOT = Snapshot("b", "x")
STALE = "the bytes as they were before"
FOREVER = NOW * 100
EPOCH = "restored"
LOST = quarantine.workers_before(EPOCH)
"""Who stands for the workers of the time that a restored copy does not know."""


@dataclass(frozen=True, slots=True)
class Event:
    """One write: what, by whom, about which call, and what the writer knew.

    ``over`` is what has run out at that moment (``lease``, ``waiter``, ``run_within``, ``ttl``, ``stage``, ``deadline``,
    ``flight``, which counts from ``lapse`` and ``death``); ``word`` is the verdict's name, the operator's answer, the probe's finding or the decision's kind.
    """

    what: str
    by: str = ""
    n: int = 0
    word: str = ""
    over: str = ""
    fence: int = 0
    attempt: int = 0
    key: str = ""
    stale: bool = False

    def __str__(self) -> str:
        words = (self.what, self.word, f"#{self.n}" if self.n else "", f"by {self.by}" if self.by else "")
        late = (f"({self.over} over)" if self.over else "", "(on old bytes)" if self.stale else "")
        return " ".join(word for word in (*words, *late) if word)


def begin(config: Configuration) -> Run:
    """The record in which a walk begins."""
    run = Run("t", "r", "agent", "x", "requester", RunState.QUEUED, NOW, max_attempts=config.max_attempts)
    if config.begin == "function":
        return driving.ask_single(run, asks(config, 0)[0], NOW, owner=NAMES[0], lease=LEASE).run
    if config.begin == "queued":
        return driving.queue(run, NOW).run
    run = driving.start(run, NOW, owner=NAMES[0], lease=LEASE).run
    return _pause(run, config, NAMES[0], 1).run


def asks(config: Configuration, turn: int) -> tuple[driving.Ask, ...]:
    """The calls of a turn that need people."""
    wanted = [(at, asked) for at, asked in enumerate(config.turns[turn]) if _pauses(asked)]
    return tuple(
        # each with a deadline of its own, so that either may be over before the other
        driving.Ask(_tool_call(turn, at), _tool(asked), _verdict(asked, at), f"nonce{turn}.{at}")
        for at, asked in wanted
    )


def _pauses(asked: Asked) -> bool:
    return asked.pends or bool(VERDICTS[asked.verdict].stages)


def _verdict(asked: Asked, at: int) -> Verdict:
    verdict = VERDICTS[asked.verdict]
    return replace(verdict, deadline=verdict.deadline + at)


def _tool_call(turn: int, at: int) -> ToolCall:
    return ToolCall.of("pay", {"amount": 5}, f"c{turn}.{at}", agent="agent", run="r", requester="requester", tenant="t")


def _tool(asked: Asked) -> Tool:
    return Tool("pay", retry=asked.retry)


def first_word(config: Configuration, call: Call) -> str:
    """The name of the verdict under which a call was made."""
    turn, at = call.call_id[1:].split(".")
    return config.turns[int(turn)][int(at)].verdict


# -- what each event is -------------------------------------------------------------------------------------------------


def perform(run: Run, event: Event, config: Configuration) -> Change:
    """The event on this record. Raises what the transition raises."""
    return _PERFORM[event.what](run, event, config)


def _claim(run: Run, event: Event, config: Configuration) -> Change:
    run = aged(run, ready=event.over == "run_within", waiter=event.over == "waiter")
    return driving.claim(run, NOW, owner=event.by, lease=LEASE)


def _intent(run: Run, event: Event, config: Configuration) -> Change:
    run = aged(run, lease=event.over == "lease", ready=event.over == "run_within", first=event.over == "ttl")
    return execution.intent(
        run,
        event.n,
        NOW,
        owner=event.by,
        fence=event.fence,
        verdict=VERDICTS[event.word],
        schema_sha256="other" if event.stale else "",
        idem_key=key_of(run.call(event.n)),
    )


def key_of(call: Call | None) -> str:
    """The idempotency key of a call: like the real one, another for other numbers and nonces."""
    return "" if call is None else f"key{call.n}{call.nonce if call.restored else ''}"


def _enter(run: Run, event: Event, config: Configuration) -> Change:
    """The guard's first write about a call that nobody has to approve: its entry and its intent in one."""
    turn, at = run.generation, event.n
    asked, call = config.turns[turn][at], _tool_call(turn, at)
    execution.hold(run, owner=event.by, fence=event.fence)
    if run.by_call_id(call.call_id) is not None:
        return Change(run)
    made = make_call(run, call, _tool(asked), VERDICTS[asked.verdict], now=NOW, nonce=f"nonce{call.call_id}")
    change = Change(run.with_call(made), (asked_event(made),))
    if made.state is CallState.DENIED:
        return change
    begun = _intent(change.run, Event("intent", event.by, made.n, event.word, event.over, event.fence), config)
    return evolve(begun, events=(*change.events, *begun.events))


def _pause(run: Run, config: Configuration, owner: str, fence: int) -> Change:
    gone = driving.closing(run)
    closed = driving.Closed("b", frozenset(call.n for call in gone)) if gone else None
    wanted = asks(config, run.generation)
    return driving.pause(run, NOW, owner=owner, fence=fence, snapshot=SNAPSHOT, asks=wanted, closed=closed)


def _record(run: Run, event: Event, config: Configuration) -> Change:
    ok = event.word == "ok"
    return execution.record(
        run,
        event.n,
        NOW,
        owner=event.by,
        fence=event.fence,
        attempt=event.attempt,
        result=Result("h", '"x"', ok=ok),
        told="" if ok else "t",
    )


def _lapse(run: Run, event: Event, config: Configuration) -> Change:
    over = event.word == "done"
    return execution.lapse(run, event.n, NOW, owner=event.by, fence=event.fence, attempt=event.attempt, over=over)


def _probe(run: Run, event: Event, config: Configuration) -> Change:
    happened = {"happened": True, "did not happen": False, "unclear": None}[event.word]
    result = Result("h", '"x"') if happened else None
    return doubts.probed(run, event.n, NOW, owner=event.by, fence=event.fence, happened=happened, result=result)


def _decide(run: Run, event: Event, config: Configuration) -> Change:
    call = run.call(event.n)
    made = {
        "approve": Decision.approve("r"),
        "reject": Decision.reject("r"),
        "respond": Decision.respond("42", "r"),
        "edit": Decision.edit({"amount": 1}, "r"),
    }
    kind, _, word = event.word.partition(" ")
    return decisions.decide(
        run,
        event.n,
        made[kind],
        by=voter(event.by),
        requester=voter("rita").names,
        now=moment(call, event.over),
        digest=STALE if event.stale else call.digest if call else "",
        verdict=VERDICTS[word] if word else None,
        nonce="edited",
    )


def moment(call: Call | None, over: str) -> float:
    """A time at which a call's stage, or the whole call, has passed its deadline."""
    if call is None or not over:
        return NOW
    if over == "reminder":
        return call.reminders[0] if call.reminders else NOW
    at = call.stage_expires if over == "stage" else call.expires
    return NOW if at is None else at


def _deadline(run: Run, event: Event, config: Configuration) -> Change:
    return decisions.pass_deadlines(run, moment(run.call(event.n), event.over))


def _resolve(run: Run, event: Event, config: Configuration) -> Change:
    return doubts.resolve(
        aged(run, lapses=event.over in ("flight", "lapse"), deaths=event.over in ("flight", "death")),
        event.n,
        NOW,
        how=event.word,  # type: ignore[arg-type]
        by="op",
        evidence="e",
        nonce=f"again{run.count}",
        verdict=VERDICTS[config.anew],
    )


def _cancel(run: Run, event: Event, config: Configuration) -> Change:
    return settling.request_cancel(run, NOW, by="op", reason="stop", superseded=event.word == "supersede")


def _park(run: Run, event: Event, config: Configuration) -> Change:
    return driving.park(run, NOW, owner=event.by, fence=event.fence, why=event.word, detail="")


def _hand_over(run: Run, event: Event, config: Configuration) -> Change:
    how, seat, to = event.word.split()
    return attending.hand_over(
        run,
        event.n,
        to=voter(to),
        by=voter(event.by),
        now=moment(run.call(event.n), event.over),
        seat=seat,
        moved=how != "delegate",
        coordinator=event.by == "carla" and how != "move",
        requester=voter("rita").names,
    )


def _beside(run: Run, event: Event, config: Configuration) -> Change:
    said = {"by": voter(event.by), "now": moment(run.call(event.n), event.over), "requester": voter("rita").names}
    if event.word == "comment":
        return attending.comment(run, event.n, "look", **said)  # type: ignore[arg-type]
    return attending.take_up(run, event.n, release=event.word == "release", **said)  # type: ignore[arg-type]


def _late(run: Run, event: Event, config: Configuration) -> Change:
    """A deliverer comes back with a notice that is no longer in its hands."""
    lost = [replace(notice, taken=NOW - TAKEN) for notice in telling.heads(run)]
    gone = [Notice("told long ago", call.n, "asked", call.channels[0], NOW) for call in run.calls if call.channels]
    return telling.delivered(run, NOW, taken=(lost or gone)[:1], failed={}, first=-1.0, most=TAKEN)


def _delivered(run: Run, event: Event, config: Configuration) -> Change:
    taken = [notice for notice in run.outbox if notice.taken > NOW][:1]
    failed = {notice.id: telling.Failure("down") for notice in taken} if event.word == "failed" else {}
    return telling.delivered(run, NOW, taken=taken, failed=failed, first=-1.0, most=TAKEN)


def _take(run: Run, event: Event, config: Configuration) -> Change:
    return telling.take_notices(run, FOREVER if event.over else NOW, until=NOW + TAKEN)


def _dead(event: Event) -> tuple[str, ...]:
    """Whom the observer of this event has seen dead, or been told so."""
    return (DEAD, LOST) if event.word == "deaths seen" else ()


_PERFORM = {
    "claim": _claim,
    "intent": _intent,
    "enter": _enter,
    "pause": lambda run, e, config: _pause(run, config, e.by, e.fence),
    "finish": lambda run, e, config: driving.finish(run, NOW, owner=e.by, fence=e.fence, output_json='"o"'),
    "fail": lambda run, e, config: driving.finish(run, NOW, owner=e.by, fence=e.fence, error="broken"),
    "release": lambda run, e, config: driving.release(run, NOW, owner=e.by, fence=e.fence, error="x"),
    "abandon": lambda run, e, config: driving.abandon(run, NOW, owner=e.by, fence=e.fence),
    "park": _park,
    "probe": _probe,
    "record": _record,
    "lapse": _lapse,
    "decide": _decide,
    "deadline": _deadline,
    "lease over": lambda run, e, config: driving.lease_over(aged(run, lease=True), NOW, _dead(e)),
    "deaths": lambda run, e, config: doubts.note_deaths(run, NOW, _dead(e)),
    "overdue": lambda run, e, config: execution.overdue(aged(run, ready=True), NOW),
    "all over": lambda run, e, config: driving.tick(aged(run, lease=True, ready=True), FOREVER, _dead(e)),
    "resolve": _resolve,
    "repair": lambda run, e, config: driving.repair(run, NOW, by="op", reason="mended"),
    "hand over": _hand_over,
    "beside": _beside,
    "remind": lambda run, e, config: attending.remind(run, moment(run.call(e.n), "reminder")),
    "late notice": _late,
    "cancel": _cancel,
    "call off": _cancel,
    "restored": lambda run, e, config: quarantine.quarantine(run, NOW, epoch=EPOCH, by="op", stamp="anew"),
    "keep back": lambda run, e, config: halting.keep_back(run, NOW, scope=e.word),
    "park halted": lambda run, e, config: halting.park(run, NOW, owner=e.by, fence=e.fence, scope=e.word),
    "let out": lambda run, e, config: halting.lift(run, NOW, (e.word,) if e.word else ()),
    "take notices": _take,
    "notice": _delivered,
}


# -- who may try what ---------------------------------------------------------------------------------------------------


def of_time(run: Run) -> Iterator[Event]:
    """What time alone brings, found by whichever worker looks."""
    dead = any(made.owner in (DEAD, LOST) and made.died is None for call in run.calls for made in call.attempts)
    seen = ("", "deaths seen") if dead else ("",)
    for word in seen:
        if run.lease:
            yield Event("lease over", word=word)
        yield Event("all over", word=word)
    if dead:
        yield Event("deaths", word="deaths seen")
    for call in run.calls:
        if call.state is CallState.PENDING:
            yield Event("deadline", n=call.n, over="deadline")
            if call.reminders:
                yield Event("remind", n=call.n, over="reminder")
            if call.stage_expires is not None:
                yield Event("deadline", n=call.n, over="stage")
    if run.ready_since is not None:
        yield Event("overdue")


def of_operator(run: Run, config: Configuration) -> Iterator[Event]:
    """What an operator, or a new message, may ask for."""
    for kind in config.cancels:
        if kind != "supersede" or run.state is not RunState.ACTIVE:  # refused by contract: a raise, not a hole
            yield Event("cancel", word=kind)
    yield Event("repair")
    if run.epoch:
        yield Event("call off")
    for call in run.having(CallState.UNKNOWN):
        for how in ("happened", "abandon", "did-not-happen"):
            if how != "did-not-happen" or (config.again and call.replaces is None):
                yield Event("resolve", n=call.n, word=how)
                for over in ("flight", "lapse", "death") if how == "did-not-happen" else ():
                    yield Event("resolve", n=call.n, word=how, over=over)


def of_people(call: Call, by: str, config: Configuration, stale: bool) -> Iterator[Event]:
    """What one approver may say of a call."""
    kinds = [*config.votes, *(f"edit {word}" for word in config.edits if not call.edited)]
    for kind in kinds:
        yield Event("decide", by, call.n, kind, stale=stale)
        if call.state is CallState.PENDING and not stale:
            yield Event("decide", by, call.n, kind, over="deadline")
            if call.stage_expires is not None:
                yield Event("decide", by, call.n, kind, over="stage")


def of_helpers(call: Call, config: Configuration) -> Iterator[Event]:
    """What people may try beside deciding: hand seats over, say that they look, write."""
    for by, how, seat, to in config.hands if len(call.handed) < MOST_HANDED else ():
        yield Event("hand over", by, call.n, f"{how} {seat} {to}")
        yield Event("hand over", by, call.n, f"{how} {seat} {to}", over="deadline")
    for by in (*config.people, "carol") if config.beside else ():
        for word in ("take up", "release", *(() if call.comments else ("comment",))):
            yield Event("beside", by, call.n, word)


def of_driver(run: Run, name: str, fence: int, config: Configuration) -> Iterator[Event]:
    """What a worker may try under a claim it has, or thinks it has."""
    for call in run.calls:
        if len(call.attempts) < config.tries:
            for word in dict.fromkeys((first_word(config, call), *config.later)):
                yield Event("intent", name, call.n, word, fence=fence)
            word = first_word(config, call)
            for over in ("lease", "run_within", "ttl"):
                yield Event("intent", name, call.n, word, over, fence)
            if config.drift:
                yield Event("intent", name, call.n, word, fence=fence, stale=True)
        if call.state is CallState.RECONCILING:
            for finding in ("happened", "did not happen", "unclear"):
                yield Event("probe", name, call.n, finding, fence=fence)
    if run.generation < len(config.turns) and not run.single:
        for at, asked in enumerate(config.turns[run.generation]):
            if not _pauses(asked):
                yield Event("enter", name, at, asked.verdict, fence=fence)
        if asks(config, run.generation):
            yield Event("pause", name, fence=fence)
    if not run.single:
        yield Event("finish", name, fence=fence)
        yield Event("fail", name, fence=fence)
    if config.parks:
        yield Event("park", name, word="caller_gone" if run.single else "snapshot", fence=fence)
    yield Event("release", name, fence=fence)
    yield Event("abandon", name, fence=fence)


def of_idle(run: Run, name: str) -> Iterator[Event]:
    """How a worker may come to a claim."""
    if run.state in (RunState.QUEUED, RunState.READY):
        yield Event("claim", name)
        if run.ready_since is not None:
            yield Event("claim", name, over="run_within")
        if run.waiter is not None:
            yield Event("claim", name, over="waiter")


def of_hand(hand: Hand, name: str) -> Iterator[Event]:
    """What a worker may write about a call in its hands."""
    more = {"by": name, "n": hand.n, "fence": hand.fence, "attempt": hand.attempt, "key": hand.key}
    if hand.phase in ("begun", "sent"):
        yield Event("lapse", **more)
        yield Event("lapse", word="done", **more)
    elif hand.phase != "cut":
        yield Event("record", word=hand.phase, **more)
