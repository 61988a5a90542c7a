"""What a quarantine makes of a run of an old copy, state by state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from governor_agents import Governor
from governor_agents.core import decisions, doubts, driving, execution, halting, settling
from governor_agents.core.binding import holds
from governor_agents.core.calls import Retry, Tool, ToolCall, sha256
from governor_agents.core.identity import Voter
from governor_agents.core.quarantine import quarantine, workers_before
from governor_agents.core.records import Approval, Call, CallState, Change, Decision, Result, Run, RunState, Snapshot
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.errors import Fenced, StaleDecision, WorkerMayLive
from governor_agents.handlers.message import Message
from governor_agents.handlers.words import explain

ASK = Verdict("require_approval", "p", "1", stages=(Stage(("ops",), ("alice", "bob")),), deadline=3600.0)
LATER = 1_000_000.0


def asks(retry: Retry = "none", verdict: Verdict = ASK, id: str = "c1") -> driving.Ask:
    """A call at which a loop pauses."""
    call = ToolCall.of("pay", {"amount": 5}, id, agent="agent", run="run_1", requester="requester", tenant="t")
    return driving.Ask(call, Tool("pay", retry=retry), verdict, f"nonce-{id}")


def paused(*made: driving.Ask) -> Run:
    """A run that waits for people."""
    run = driving.start(
        Run("t", "run_1", "agent", "x", "requester", RunState.QUEUED, 0.0), 0.0, owner="w", lease=30
    ).run
    return driving.pause(run, 1.0, owner="w", fence=1, snapshot=Snapshot("b", "x"), asks=made or (asks(),)).run


def voted(run: Run, n: int = 1, by: str = "alice", now: float = 2.0) -> Run:
    """The run once this person approved."""
    return decisions.decide(run, n, Decision.approve(), by=Voter.plain(by), now=now, digest=call_of(run, n).digest).run


def begun(retry: Retry = "none") -> Run:
    """A run whose call is executing."""
    run = driving.claim(voted(paused(asks(retry))), 3.0, owner="w", lease=30.0).run
    step = execution.intent(run, 1, 4.0, owner="w", fence=2, verdict=ASK, schema_sha256="", idem_key="key")
    return step.run


def call_of(run: Run, n: int = 1) -> Call:
    """The call, which must be there."""
    call = run.call(n)
    assert call is not None
    return call


def restored(run: Run, epoch: str = "e1", now: float = LATER) -> Change:
    """The run of a copy that was put back."""
    return quarantine(run, now, epoch=epoch, by="op", stamp=f"fresh-{epoch}")


@pytest.mark.parametrize("before", [paused(), voted(paused())], ids=["pending", "approved"])
def test_what_people_were_asked_is_asked_anew(before: Run) -> None:
    """Same bytes and people, no vote left, another digest, a deadline from now; and people are told."""
    was, run = call_of(before), restored(before).run
    call = call_of(run)
    assert (run.state, call.state, call.votes, call.args) == (RunState.WAITING, CallState.PENDING, (), was.args)
    assert call.digest not in ("", was.digest) and holds(voted(run, now=LATER), call_of(voted(run, now=LATER)))
    assert call.expires == LATER + 3600.0
    assert any(notice.what == "asked" and call.digest[:32] in notice.id for notice in run.outbox)


def test_of_what_is_asked_anew_people_are_reminded_too() -> None:
    """At the same distances from now, not at times that are long past."""
    call = call_of(restored(paused(asks(verdict=replace(ASK, reminders=(60.0, 600.0))))).run)
    assert call.reminders == (LATER + 60.0, LATER + 600.0)
    assert call_of(restored(paused()).run).reminders == ()


def test_an_earlier_vote_or_click_counts_no_more() -> None:
    """A card of before the quarantine is refused; who approved then may approve now, and that counts."""
    before = voted(paused())
    run = restored(before).run
    with pytest.raises(StaleDecision):
        decisions.decide(run, 1, Decision.approve(), by=Voter.plain("alice"), now=LATER, digest=call_of(before).digest)
    assert call_of(voted(run, now=LATER)).state is CallState.APPROVED


def test_what_is_approved_anew_runs_under_another_key() -> None:
    """The other side would take the old key for the call that it may have done already, and do nothing."""
    before = voted(paused())
    after = voted(restored(before).run, now=LATER)
    journal = Governor(store="memory://", secret=b"one for all").guard
    assert journal.key(before, call_of(before)) != journal.key(after, call_of(after))
    assert journal.key(before, call_of(before)) == journal.key(
        paused(), call_of(paused())
    )  # the control: else it stays


def test_nobody_decides_and_the_run_ends() -> None:
    """An expiry must not let a loop go on of which nobody knows how far it came."""
    run = decisions.pass_deadlines(restored(voted(paused())).run, LATER + 3600.0).run
    assert (run.state, call_of(run).state) == (RunState.FAILED, CallState.EXPIRED)


@pytest.mark.parametrize("retry", ["none", "idempotent", "reconcilable"])
def test_what_was_executing_is_in_doubt_whatever_its_class(retry: Retry) -> None:
    """Neither a retry nor a probe settles it: an operator must speak, and say that the workers are dead."""
    run = restored(begun(retry)).run
    assert (run.state, run.blocked) == (RunState.BLOCKED, settling.UNKNOWN)
    assert (run.lease, call_of(run).state) == (None, CallState.UNKNOWN)
    assert doubts.suspects(run) == {"w", workers_before("e1")}
    with pytest.raises(WorkerMayLive):
        doubts.resolve(run, 1, LATER * 2, how="did-not-happen", by="op", evidence="looked", nonce="n")


def test_a_worker_that_should_have_been_stopped_settles_nothing() -> None:
    """Its claim is over and its result is noted as such: what else happened since, it cannot know."""
    run = restored(begun()).run
    done = Result(sha256(b'"x"'), '"x"')
    late = execution.record(run, 1, LATER + 1, owner="w", fence=2, attempt=1, result=done)
    assert [event.what for event in late.events] == [execution.FENCED]
    assert call_of(late.run).state is CallState.UNKNOWN
    assert doubts.suspects(late.run) == {workers_before("e1")}
    with pytest.raises(Fenced):
        execution.intent(run, 1, LATER, owner="w", fence=2, verdict=ASK, schema_sha256="", idem_key="key")


@pytest.mark.parametrize("retry", ["idempotent", "reconcilable"])
def test_what_was_to_be_tried_again_or_probed_is_in_doubt(retry: Retry) -> None:
    """RETRY and RECONCILING, found after their lease was over."""
    run = restored(driving.tick(begun(retry), 40.0).run).run
    assert (run.state, call_of(run).state) == (RunState.BLOCKED, CallState.UNKNOWN)


def test_what_was_allowed_is_in_doubt() -> None:
    """Nobody was asked and nobody would be, so it may have run since."""
    run = restored(paused(asks(verdict=Verdict("allow", "p", "1")))).run
    assert (run.state, call_of(run).state) == (RunState.BLOCKED, CallState.UNKNOWN)


def test_what_did_not_happen_is_asked_under_a_new_number_and_key() -> None:
    """The doubt's answer makes a new call: number, nonce and digest, from which the key follows, are new."""
    run = doubts.note_deaths(restored(begun()).run, LATER, doubts.suspects(restored(begun()).run), by="op").run
    done = doubts.resolve(run, 1, LATER * 2, how="did-not-happen", by="op", evidence="looked", nonce="n")
    old, new = call_of(done.run), call_of(done.run, 2)
    assert (old.state, new.state, new.idem_key) == (CallState.FAILED, CallState.PENDING, "")
    assert new.digest != old.digest


@pytest.mark.parametrize("state", ["queued", "active", "ready", "halted"])
def test_a_run_that_would_go_on_by_itself_waits_for_an_operator(state: str) -> None:
    """Nothing of it waits for people, and so nobody would have been asked; a repair lets it go on."""
    fresh = Run("t", "run_1", "agent", "x", "requester", RunState.QUEUED, 0.0)
    queued = driving.queue(fresh, 0.0).run
    rejected = decisions.decide(
        paused(), 1, Decision.reject("no"), by=Voter.plain("alice"), now=2.0, digest=call_of(paused()).digest
    ).run
    run = {
        "queued": queued,
        "active": driving.start(fresh, 0.0, owner="w", lease=30.0).run,
        "ready": rejected,
        "halted": halting.keep_back(queued, 1.0, scope="everything").run,
    }[state]
    held = restored(run).run
    assert (held.state, held.blocked, held.lease) == (RunState.BLOCKED, settling.RESTORED, None)
    assert halting.lift(held, LATER, ()).run is held
    assert driving.repair(held, LATER, by="op", reason="looked").run.state in (RunState.QUEUED, RunState.READY)


def test_what_stood_still_for_a_reason_stands_still() -> None:
    """A run that was parked keeps its reason; its operator reads that it comes from an old copy."""
    run = driving.start(Run("t", "run_1", "agent", "x", "r", RunState.QUEUED, 0.0), 0.0, owner="w", lease=30.0).run
    parked = driving.park(run, 1.0, owner="w", fence=1, why="replay", detail="differs").run
    held = restored(parked).run
    assert (held.state, held.blocked) == (RunState.BLOCKED, "replay")
    assert any("old copy" in line for line in explain(held, LATER).details)


def test_a_cancelled_run_ends_or_keeps_its_doubt() -> None:
    """Nothing is asked anew in a run that was to end."""
    cancelled = settling.request_cancel(begun(), 5.0, by="op", reason="stop").run
    run = restored(cancelled).run
    assert (run.state, run.blocked, call_of(run).state) == (RunState.BLOCKED, settling.UNKNOWN, CallState.UNKNOWN)


def test_an_ended_run_and_a_second_time_change_nothing() -> None:
    """The same epoch finds its mark; another one starts anew."""
    ended = settling.request_cancel(paused(), 5.0, by="op", reason="stop").run
    assert restored(ended).run is ended
    once = restored(voted(paused())).run
    approved = voted(once, now=LATER)
    assert restored(approved).run is approved
    again = restored(approved, "e2").run
    assert (call_of(again).state, call_of(again).restored, again.epoch) == (CallState.PENDING, "e2", "e2")


def test_people_read_where_it_comes_from() -> None:
    """The card of what is asked anew, and the words about what is in doubt, say that it may have run since."""
    asked, doubt = restored(voted(paused())).run, restored(begun()).run
    assert "may have run since" in dict(Message.of(Approval(asked, call_of(asked))).facts())["careful"]
    assert "old copy" in explain(doubt, LATER).because
    assert "the workers before e1" in " ".join(explain(doubt, LATER).details)
    held = restored(driving.queue(Run("t", "r", "a", "x", "q", RunState.QUEUED, 0.0), 0.0).run).run
    assert "old copy" in explain(held, LATER).because and "quarantine e1" in explain(held, LATER).details


def test_each_step_is_told() -> None:
    """The trail says who, which epoch, what stood before, and the digest that nobody may use any more."""
    before = voted(paused())
    events = {event.what: event for event in restored(before).events}
    assert set(events) == {"run.quarantined", "call.quarantined", "run.waiting"}
    assert events["run.quarantined"].by == "op" and dict(events["run.quarantined"].detail)["was"] == "ready"
    detail = dict(events["call.quarantined"].detail)
    assert (detail["epoch"], detail["was"], detail["earlier"]) == ("e1", "approved", call_of(before).digest)


def test_a_quorum_begins_at_its_first_stage() -> None:
    """Stages that were met, or passed over, are asked again."""
    stages = (Stage(("first",), ("alice",), within=50.0), Stage(("second",), ("bob",)))
    run = voted(paused(asks(verdict=replace(ASK, stages=stages))))
    assert call_of(run).stage == 1
    call = call_of(restored(run).run)
    assert (call.stage, call.stage_expires, call.passed_over) == (0, LATER + 50.0, ())
