"""A call in doubt, as pure transitions: deaths, grace, the probe, the three answers, and what races with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from governor_agents.core import decisions, doubts, driving, execution, settling, telling
from governor_agents.core.calls import Tool, ToolCall, sha256
from governor_agents.core.identity import Voter
from governor_agents.core.records import CallState, Change, Decision, Result, Run, RunState, Snapshot, evolve
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.errors import (
    ArgumentsError,
    Fenced,
    GovernorError,
    IllegalTransition,
    NotFound,
    NotInDoubt,
    ResolutionRefused,
    StaleDecision,
    TooEarly,
    WorkerMayLive,
)
from governor_agents.resolving import Resolving
from governor_agents.runs import Runs
from governor_agents.stores.memory import MemoryStore

W1, W2 = "w1", "w2"
ASK = Verdict("require_approval", "p", "1", stages=(Stage(("ops",), ("alice", "bob")),), deadline=3600.0)
ALLOW = Verdict("allow", "p", "0")
PAY = Tool("pay", in_flight=60.0)
DONE = Result(sha256(b'"done"'), '"done"')
RAISED = replace(DONE, ok=False)


def new_run(**changes: Any) -> Run:
    return replace(Run("t", "run_1", "agent", "x", "requester", RunState.QUEUED, 0.0), **changes)


def ask(tool: Tool = PAY, verdict: Verdict = ASK, id: str = "c1") -> driving.Ask:
    call = ToolCall.of("pay", {"amount": 5}, id, agent="agent", run="run_1", requester="requester", tenant="t")
    return driving.Ask(call, tool, verdict, f"nonce-{id}")


def approved(*asks: driving.Ask) -> Run:
    """READY: paused under fence 1, everything approved by Alice."""
    run = driving.start(new_run(), 0.0, owner=W1, lease=30.0).run
    run = driving.pause(run, 1.0, owner=W1, fence=1, snapshot=Snapshot("b", "x"), asks=asks or (ask(),)).run
    for call in run.calls:
        run = vote(run, call.n, 2.0)
    return run


def vote(run: Run, n: int, now: float, decision: Decision | None = None) -> Run:
    call = run.call(n)
    assert call is not None
    return decisions.decide(
        run, n, decision or Decision.approve(), by=Voter.plain("alice"), now=now, digest=call.digest
    ).run


def begun(run: Run, n: int = 1, now: float = 4.0, owner: str = W1, verdict: Verdict = ASK) -> Run:
    """Claimed, and the call EXECUTING."""
    run = driving.claim(run, now, owner=owner, lease=30.0).run
    return intent(run, n, now, owner, verdict).run


def intent(run: Run, n: int, now: float, owner: str = W1, verdict: Verdict = ASK, key: str = "key") -> Change:
    return execution.intent(
        run, n, now, owner=owner, fence=run.fence, verdict=verdict, schema_sha256="", idem_key=f"{key}{n}"
    )


def doubtful(tool: Tool = PAY, dead: tuple[str, ...] = ()) -> Run:
    """The lease of fence 2 ended at 34; noticed at 40."""
    return driving.tick(begun(approved(ask(tool))), 40.0, dead).run


def state(run: Run, n: int = 1) -> CallState:
    call = run.call(n)
    assert call is not None
    return call.state


def resolve(run: Run, how: Any, now: float = 200.0, n: int = 1, **more: Any) -> Change:
    return doubts.resolve(run, n, now, **{"how": how, "by": "op", "evidence": "the log", "nonce": "new", **more})


def record(run: Run, result: Result, now: float, *, fence: int = 2, attempt: int = 1) -> Change:
    return execution.record(run, 1, now, owner=W1, fence=fence, attempt=attempt, result=result, told="boom")


# -- deaths and grace -------------------------------------------------------------------------------------------------


def test_did_not_happen_is_refused_while_a_worker_may_live() -> None:
    """However much time passes: a lease that is over proves nothing about the request in the worker's hand."""
    with pytest.raises(WorkerMayLive, match="w1") as refused:
        resolve(doubtful(), "did-not-happen", now=1e9)
    assert refused.value.workers == (W1,) and refused.value.code == "worker_may_live"


def test_did_not_happen_is_refused_while_a_request_may_be_under_way() -> None:
    """The grace counts from the death when that was noted last; the error says until when."""
    run = doubts.note_deaths(doubtful(), 100.0, {W1}).run
    with pytest.raises(TooEarly, match="00:02:40 UTC") as refused:
        resolve(run, "did-not-happen", now=159.9)
    assert refused.value.until == 160.0
    assert state(resolve(run, "did-not-happen", now=160.0).run) is CallState.FAILED


def test_the_grace_counts_from_the_lapse_when_that_came_last() -> None:
    """A death known before the lease is over shortens nothing."""
    run = doubtful(dead=(W1,))
    with pytest.raises(TooEarly) as refused:
        resolve(run, "did-not-happen", now=99.0)
    assert refused.value.until == 100.0
    assert doubtful(replace(PAY, in_flight=5.0), (W1,)).calls[0].in_flight == 5.0


def test_every_worker_of_every_attempt_must_be_dead() -> None:
    """An idempotent call that was tried twice and is then in doubt: the first worker counts as well as the second."""
    tried = driving.tick(begun(doubtful(replace(PAY, retry="idempotent")), now=50.0, owner=W2), 90.0, {W2}).run
    tried = settling.request_cancel(tried, 91.0, by="op", reason="").run
    with pytest.raises(WorkerMayLive, match="w1"):
        resolve(tried, "did-not-happen", now=1e6)
    run = doubtful(replace(PAY, retry="idempotent"), (W1,))
    run = driving.tick(begun(run, now=50.0, owner=W2), 90.0).run
    run = settling.request_cancel(run, 91.0, by="op", reason="").run  # no more tries: RETRY becomes a doubt
    assert state(run) is CallState.UNKNOWN and [a.died for a in run.calls[0].attempts] == [40.0, None]
    with pytest.raises(WorkerMayLive, match="w2"):
        resolve(run, "did-not-happen", now=1e6)
    run = doubts.note_deaths(run, 100.0, {W2}).run
    with pytest.raises(TooEarly) as refused:
        resolve(run, "did-not-happen", now=101.0)
    assert refused.value.until == 160.0


def test_an_exception_of_a_second_attempt_starts_the_grace_anew() -> None:
    """It may have left a request under way; but its tool came back, so its worker need not be dead."""
    run = begun(doubtful(replace(PAY, retry="idempotent"), (W1,)), now=50.0, owner=W2)
    run = execution.record(run, 1, 80.0, owner=W2, fence=3, attempt=2, result=RAISED, told="boom").run
    call = run.calls[0]
    assert (call.state, call.lapsed, [a.died for a in call.attempts]) == (CallState.UNKNOWN, 80.0, [40.0, 80.0])
    assert doubts.over_at(call) == 140.0


def test_an_attempt_that_comes_back_was_not_over_before() -> None:
    """Its worker was said to be dead, and was not: what may be under way is counted from when its tool came back."""
    run = doubts.note_deaths(doubtful(), 50.0, {W1}, by="op").run
    assert doubts.over_at(run.calls[0]) == 110.0
    assert doubts.over_at(record(run, RAISED, 105.0).run.calls[0]) == 165.0
    again = driving.tick(begun(doubtful(replace(PAY, retry="idempotent"), (W1,)), now=50.0, owner=W2), 90.0, {W2}).run
    late = record(again, RAISED, 300.0)  # of the first attempt: fenced, and a sign of life
    assert late.events[0].what == execution.FENCED
    assert [attempt.died for attempt in late.run.calls[0].attempts] == [300.0, 90.0]
    assert record(again, RAISED, 300.0, fence=9).run.calls == again.calls


def test_nobodys_word_stands_against_a_lease_that_is_alive() -> None:
    """A call that was cut off in a run which its worker still drives, from a host that nobody can see into."""
    run = begun(approved())
    run = execution.lapse(run, 1, 5.0, owner=W1, fence=2, attempt=1).run
    assert run.state is RunState.ACTIVE and doubts.note_deaths(run, 6.0, {W1}, by="op").run is run
    assert doubts.note_deaths(run, 40.0, {W1}, by="op").run.calls[0].attempts[0].died == 40.0
    assert doubts.note_deaths(run, 6.0, {W1}).run.calls[0].attempts[0].died == 6.0  # seen is seen


def test_the_worker_that_lets_a_lease_lapse_notes_the_death() -> None:
    """Seen, not said: the line names no person. Noted once, and only where an attempt left no result."""
    run = begun(approved())
    change = driving.tick(run, 40.0, {W1, "stranger"})
    lines = [event for event in change.events if event.what == "call.worker_dead"]
    assert [(line.n, line.by, dict(line.detail)) for line in lines] == [(1, "", {"owner": W1})]
    assert doubts.note_deaths(change.run, 41.0, {W1}).run is change.run
    done = record(run, DONE, 5.0).run
    assert done.calls[0].attempts[0].died is None and doubts.suspects(done) == frozenset()
    assert doubts.suspects(run) == {W1} and doubts.suspects(change.run) == frozenset()


def test_the_word_of_an_operator_is_written_down_with_the_name() -> None:
    """For a worker on another host."""
    change = doubts.note_deaths(doubtful(), 50.0, {W1}, by="local:root")
    assert [(event.what, event.by) for event in change.events] == [("call.worker_dead", "local:root")]


@pytest.mark.parametrize("how", ["happened", "abandon"])
def test_answers_that_begin_nothing_need_no_death(how: str) -> None:
    """They count at once, and the record says who gave them and on what ground."""
    change = resolve(doubtful(), how, now=41.0)
    call = change.run.calls[0]
    assert call.state is (CallState.SUCCEEDED if how == "happened" else CallState.FAILED)
    assert change.run.state is RunState.READY and call.resolved is not None
    assert (call.resolved.how, call.resolved.by, call.resolved.evidence) == (how, "op", "the log")
    event = change.events[0]
    assert (event.what, event.by, dict(event.detail)) == (
        "call.resolved", "op", {"how": how, "evidence": "the log"},
    )  # fmt: skip


def test_an_answer_needs_evidence_a_doubt_and_a_call() -> None:
    """Everything else is refused, by name."""
    run = doubtful(dead=(W1,))
    for blank in ("", " \n"):
        with pytest.raises(ResolutionRefused, match="evidence"):
            resolve(run, "happened", evidence=blank)
    with pytest.raises(ArgumentsError):
        resolve(run, "happened", evidence="\udc80")
    with pytest.raises(ResolutionRefused, match="unknown answer"):
        resolve(run, "maybe")
    with pytest.raises(NotFound):
        resolve(run, "happened", n=7)
    with pytest.raises(NotInDoubt, match="is approved"):
        resolve(approved(), "happened")


def test_of_two_operators_the_first_counts_and_the_second_is_told() -> None:
    """Whatever the second one says."""
    run = resolve(doubtful(dead=(W1,)), "did-not-happen").run
    for how in ("happened", "did-not-happen", "abandon"):
        with pytest.raises(NotInDoubt, match=r"is failed since op said did-not-happen at .* \(the log\)"):
            resolve(run, how, by="other")


# -- asked anew -------------------------------------------------------------------------------------------------------


def test_did_not_happen_asks_anew_under_a_new_number_nonce_digest_and_key() -> None:
    """The old approval is used up: votes, attempts, nonce and key of the old call do nothing for the new one."""
    run = resolve(doubtful(dead=(W1,)), "did-not-happen").run
    old, new = run.calls
    assert (old.state, old.replaced_by, new.replaces, new.n) == (CallState.FAILED, 2, 1, 2)
    assert new.state is CallState.PENDING and run.state is RunState.WAITING
    assert (new.votes, new.attempts, new.idem_key, new.result, new.doubt, new.lapsed) == ((), (), "", None, False, None)
    assert new.nonce == "new" and new.digest != old.digest and new.args == old.args
    assert new.expires == 200.0 + 3600.0 and new.generation == run.generation
    assert [notice.what for notice in run.outbox if notice.n == 2] == ["asked"]
    run = begun(vote(run, 2, 210.0), 2, 220.0)
    assert run.calls[1].idem_key == "key2" and run.calls[0].idem_key == "key1"


def test_of_what_is_asked_anew_people_are_reminded_too() -> None:
    """At the same distances from the new question, also when the earlier ones were used up."""
    asks = ask(verdict=replace(ASK, reminders=(1.0, 600.0, 7200.0)))
    run = driving.tick(begun(approved(asks), verdict=replace(ASK, reminders=(1.0, 600.0, 7200.0))), 40.0, (W1,)).run
    assert run.calls[0].reminders == (2.0, 601.0)
    new = resolve(run, "did-not-happen").run.calls[1]
    assert new.reminders == (201.0, 800.0)
    assert resolve(doubtful(dead=(W1,)), "did-not-happen").run.calls[1].reminders == ()


def test_a_call_that_was_allowed_is_asked_of_whom_the_policies_name_now() -> None:
    """It had no approvers; without any now it cannot be asked for, and nothing changes."""
    run = driving.start(new_run(), 0.0, owner=W1, lease=30.0).run
    one = ask(verdict=ALLOW)
    made = decisions.make_call(run, one.call, PAY, ALLOW, now=1.0, nonce="n")
    run = intent(run.with_call(made), 1, 1.0, verdict=ALLOW).run
    run = driving.tick(run, 40.0, {W1}).run
    for verdict in (None, ALLOW, Verdict("deny")):
        with pytest.raises(ResolutionRefused, match="nobody could approve"):
            resolve(run, "did-not-happen", verdict=verdict)
    after = resolve(run, "did-not-happen", verdict=ASK).run
    fresh = after.calls[1]
    assert fresh.stages == ASK.stages and set(fresh.excluded) == {"service:agent", "requester"}
    assert (fresh.policy, fresh.version, fresh.expires) == ("p", "1", 3800.0)
    again = vote(after, 2, 210.0)
    assert again.state is RunState.QUEUED  # it had no snapshot yet: the stretch is driven again from its start


@pytest.mark.parametrize("superseded", [False, True])
def test_in_a_run_that_is_being_cancelled_nothing_is_asked_anew(superseded: bool) -> None:
    """Blocked by the doubt until it is resolved; then the run ends and what had not begun is withdrawn."""
    run = doubtful(dead=(W1,))
    run = settling.request_cancel(run, 60.0, by="op", reason="stop", superseded=superseded).run
    assert run.state is RunState.BLOCKED and state(run) is CallState.UNKNOWN
    with pytest.raises(TooEarly):
        resolve(run, "did-not-happen", now=61.0)
    after = resolve(run, "did-not-happen").run
    assert after.state is RunState.CANCELLED and len(after.calls) == 1 and state(after) is CallState.FAILED


def test_a_doubt_beside_other_calls_frees_the_run_only_when_it_is_gone() -> None:
    """Two doubts: the run stays blocked until both are answered."""
    run = approved(ask(), ask(id="c2"))
    run = driving.claim(run, 4.0, owner=W1, lease=30.0).run
    run = intent(intent(run, 1, 4.0).run, 2, 4.0).run
    run = driving.tick(run, 40.0, {W1}).run
    run = resolve(run, "did-not-happen", n=2).run
    assert run.state is RunState.BLOCKED and state(run, 3) is CallState.PENDING
    run = vote(run, 3, 210.0)
    assert run.state is RunState.BLOCKED
    assert resolve(run, "happened").run.state is RunState.READY


def test_a_blocked_run_keeps_its_own_reason() -> None:
    """An answer settles the doubt about the call, not what else an operator must look at; and a repair no doubt."""
    run = doubtful()
    run = evolve(run, blocked="snapshot")
    after = resolve(run, "happened").run
    assert (after.state, after.blocked) == (RunState.BLOCKED, "snapshot")
    with pytest.raises(IllegalTransition):
        driving.repair(run, 50.0, by="op", reason="")
    assert driving.repair(after, 50.0, by="op", reason="code is back").run.state is RunState.READY


def test_what_is_not_for_a_repair_says_what_it_is_for() -> None:
    """A halt is lifted and a doubt is answered; neither is repaired away."""
    run = doubtful()
    with pytest.raises(IllegalTransition, match="a call of it is in doubt: governor-agents runs resolve"):
        driving.repair(run, 50.0, by="op", reason="mended")
    halted = evolve(resolve(run, "happened").run, state=RunState.BLOCKED, blocked="halt", blocked_detail="tool:a b")
    with pytest.raises(IllegalTransition, match="is blocked by a halt; governor-agents halt 'tool:a b' --lift"):
        driving.repair(halted, 50.0, by="op", reason="mended")
    assert driving.repair(evolve(halted, blocked="replay"), 50.0, by="op", reason="mended").run.blocked == ""


def test_an_answer_to_a_call_that_still_executes_is_told_from_when_on() -> None:
    """Its worker may be dead already: that is found once the lease is over."""
    run = driving.claim(approved(ask()), 4.0, owner=W1, lease=30.0).run
    run = intent(run, 1, 4.0).run
    with pytest.raises(NotInDoubt, match=r"is executing; .*once the lease is over \(at 1970-01-01 00:00:34 UTC\)"):
        resolve(run, "happened")


def test_a_run_of_one_call_is_asked_anew_and_ends_with_the_new_call() -> None:
    """A function: WAITING again, found under the same call id, run by whoever claims it then."""
    run = driving.ask_single(new_run(), ask(), 0.0, owner=W1, lease=30.0).run
    run = driving.tick(begun(vote(run, 1, 2.0)), 40.0, {W1}).run
    run = resolve(run, "did-not-happen").run
    assert run.state is RunState.WAITING and run.calls[-1].n == 2 and run.by_call_id("c1") is run.calls[-1]
    run = begun(vote(run, 2, 210.0), 2, 220.0)
    done = execution.record(run, 2, 221.0, owner=W1, fence=run.fence, attempt=1, result=DONE).run
    assert done.state is RunState.COMPLETED and done.output == "done"


def test_an_expired_replacement_ends_the_run_where_the_policy_says_so() -> None:
    """The fresh approval carries the terms of the old one."""
    run = driving.tick(begun(approved(ask(verdict=replace(ASK, on_expire="end_run")))), 40.0, {W1}).run
    run = resolve(run, "did-not-happen").run
    assert driving.tick(run, 4000.0).run.state is RunState.FAILED


# -- late results -----------------------------------------------------------------------------------------------------


def test_a_late_result_settles_the_doubt_and_frees_the_run() -> None:
    """Same fence, same attempt: it is the truth about this call."""
    run = record(doubtful(), DONE, 50.0).run
    assert state(run) is CallState.SUCCEEDED and run.state is RunState.READY and run.calls[0].result == DONE


def test_a_late_exception_is_written_down_and_the_doubt_stands() -> None:
    """It says nothing about what the request did before; only that this attempt has come back by now."""
    run = doubtful()
    change = record(run, RAISED, 50.0)
    assert [event.what for event in change.events] == ["call.late_exception"]
    call = change.run.calls[0]
    assert [attempt.died for attempt in call.attempts] == [50.0]
    attempts = run.calls[0].attempts
    assert evolve(change.run, updated=run.updated, calls=(evolve(call, attempts=attempts),)) == run


@pytest.mark.parametrize("fence", [1, 3])
def test_a_late_result_of_another_fence_is_dropped(fence: int) -> None:
    """Written down as fenced."""
    change = record(doubtful(), DONE, 50.0, fence=fence)
    assert [event.what for event in change.events] == [execution.FENCED] and state(change.run) is CallState.UNKNOWN


@pytest.mark.parametrize("decided", [False, True])
def test_a_result_after_did_not_happen_withdraws_the_call_asked_in_its_place(decided: bool) -> None:
    """The operator was wrong, and the worker had lived: what took effect must not be run a second time."""
    run = resolve(doubtful(dead=(W1,)), "did-not-happen").run
    run = vote(run, 2, 205.0) if decided else run
    change = record(run, DONE, 210.0)
    assert change.events[0].what == execution.FENCED
    after = change.run
    assert state(after) is CallState.FAILED and state(after, 2) is CallState.CANCELLED
    assert "took effect after all" in after.calls[1].told and after.state is RunState.READY


def test_a_result_after_did_not_happen_follows_the_chain_and_stops_at_what_has_begun() -> None:
    """Replaced twice: the last one is withdrawn. One that runs already is only spoken of in the audit."""
    first = resolve(doubtful(dead=(W1,)), "did-not-happen").run
    running = begun(vote(first, 2, 205.0), 2, 210.0, W2)
    after = record(running, DONE, 211.0)
    assert state(after.run, 2) is CallState.EXECUTING and [e.what for e in after.events] == [execution.FENCED]
    second = driving.tick(running, 300.0, {W2}).run
    second = resolve(second, "did-not-happen", now=500.0, n=2, nonce="third").run
    assert state(record(second, DONE, 510.0).run, 3) is CallState.CANCELLED


def test_an_exception_or_a_stranger_after_did_not_happen_withdraws_nothing() -> None:
    """Only the result of that very attempt does."""
    run = resolve(doubtful(dead=(W1,)), "did-not-happen").run
    for change in (record(run, RAISED, 210.0), record(run, DONE, 210.0, fence=3), record(run, DONE, 210.0, attempt=2)):
        assert state(change.run, 2) is CallState.PENDING and change.events[0].what == execution.FENCED


def test_a_result_for_a_call_of_a_closed_generation_is_written_down() -> None:
    """The run went on; the zombie is told that it is fenced, and the trail says that it came."""
    run = vote(resolve(doubtful(dead=(W1,)), "did-not-happen").run, 2, 205.0)
    run = begun(run, 2, 210.0, W2)
    run = execution.record(run, 2, 211.0, owner=W2, fence=run.fence, attempt=1, result=DONE).run
    gone = driving.Closed("blob", frozenset({1, 2}))
    run = driving.pause(
        run, 212.0, owner=W2, fence=run.fence, snapshot=Snapshot("c", "x"), asks=(ask(id="c3"),), closed=gone
    ).run
    change = record(run, DONE, 213.0)
    assert [(event.what, event.n) for event in change.events] == [(execution.FENCED, 1)]
    assert change.run.calls == run.calls
    with pytest.raises(NotFound):
        execution.record(run, 9, 213.0, owner=W1, fence=2, attempt=1, result=DONE)


# -- retry classes ----------------------------------------------------------------------------------------------------


def reconciling() -> Run:
    """Claimed by w2 while the call of w1 is to be probed."""
    run = doubtful(replace(PAY, retry="reconcilable"))
    assert state(run) is CallState.RECONCILING and run.state is RunState.READY
    return driving.claim(run, 50.0, owner=W2, lease=30.0).run


def probed(run: Run, happened: bool | None, **more: Any) -> Change:
    return doubts.probed(run, 1, 51.0, **{"owner": W2, "fence": run.fence, "happened": happened, **more})


def test_a_probe_that_finds_the_result_settles_the_doubt() -> None:
    """The value goes into the record as the tool's own would."""
    run = probed(reconciling(), True, result=DONE).run
    assert state(run) is CallState.SUCCEEDED and run.calls[0].result == DONE and run.attempts == 0


@pytest.mark.parametrize("happened", [None, False, True])
def test_any_other_finding_of_a_probe_is_a_doubt(happened: bool | None) -> None:
    """Not even "it did not happen" is leave to run it: the worker may be about to. "Happened" needs the result."""
    change = probed(reconciling(), happened, why="no answer")
    assert state(change.run) is CallState.UNKNOWN and change.run.calls[0].result is None
    assert dict(change.events[0].detail)["reason"] == "no answer"
    after = driving.abandon(change.run, 52.0, owner=W2, fence=change.run.fence).run
    assert after.state is RunState.BLOCKED
    assert state(resolve(doubts.note_deaths(after, 60.0, {W1}).run, "did-not-happen").run, 2) is CallState.PENDING


def test_a_probe_counts_under_its_claim_only_and_once() -> None:
    """A finding of a claim that is over is refused; so is a second one."""
    run = reconciling()
    with pytest.raises(Fenced):
        probed(run, True, result=DONE, fence=1)
    with pytest.raises(Fenced):
        probed(driving.tick(run, 90.0).run, True, result=DONE)
    with pytest.raises(IllegalTransition):
        probed(probed(run, True, result=DONE).run, None)


def test_a_retry_runs_under_the_same_key_and_its_limits_leave_doubts() -> None:
    """Each row of RETRY: intent, ttl, run_within, a policy that denies or demands more, drift."""
    run = doubtful(replace(PAY, retry="idempotent", idempotency_ttl=100.0))
    claimed = driving.claim(run, 50.0, owner=W2, lease=30_000.0).run
    again = intent(claimed, 1, 51.0, W2, key="other").run.calls[0]
    assert (again.state, again.idem_key, len(again.attempts)) == (CallState.EXECUTING, "key1", 2)
    more = replace(ASK, stages=(*ASK.stages, Stage(("cfo",), ("carol",))))
    drifted = execution.intent(
        claimed, 1, 51.0, owner=W2, fence=claimed.fence, verdict=ASK, schema_sha256="other", idem_key="k"
    )
    for change in (
        intent(claimed, 1, 105.0, W2),
        intent(evolve(claimed, ready_since=-1e6), 1, 51.0, W2),
        intent(claimed, 1, 51.0, W2, Verdict("deny")),
        intent(claimed, 1, 51.0, W2, more),
        drifted,
    ):
        call = change.run.calls[0]
        assert (call.state, len(call.attempts), call.told) == (CallState.UNKNOWN, 1, "")
    assert state(driving.claim(run, 40.0 + 2 * 86_400, owner=W2, lease=30.0).run) is CallState.UNKNOWN


def test_a_retry_that_comes_to_nothing_each_time_wears_the_run_out() -> None:
    """A tool that is cut off, or cannot tell, at every try: not for ever, and not in a tight loop."""
    run, now = doubtful(replace(PAY, retry="idempotent")), 50.0
    run = evolve(run, attempts=0)
    for at in range(run.max_attempts):
        run = begun(run, now=now, owner=W2)
        run = execution.lapse(run, 1, now, owner=W2, fence=run.fence, attempt=at + 2).run
        run = driving.abandon(run, now, owner=W2, fence=run.fence, delay=7.0).run
        assert run.not_before == now + 7.0
        now += 10.0
    dead = driving.claim(run, now, owner=W2, lease=30.0).run
    assert dead.state is RunState.DEAD
    assert driving.repair(dead, now, by="op", reason="mended").run.attempts == 0


def test_asking_again_in_the_first_stretch_goes_back_to_its_start() -> None:
    """Allowed, then demanded before the first pause: the run waits without a snapshot and is queued when approved."""
    run = driving.start(new_run(), 0.0, owner=W1, lease=30.0).run
    one = ask(verdict=ALLOW)
    made = decisions.make_call(run, one.call, PAY, ALLOW, now=1.0, nonce="n")
    run = intent(run.with_call(made), 1, 2.0, verdict=ASK).run
    run = driving.abandon(run, 3.0, owner=W1, fence=1).run
    assert run.state is RunState.WAITING
    assert vote(run, 1, 4.0).state is RunState.QUEUED


def test_a_vote_for_the_old_call_is_none_for_the_new_one() -> None:
    """The new call binds its own number and nonce."""
    run = resolve(doubtful(dead=(W1,)), "did-not-happen").run
    with pytest.raises(StaleDecision):
        decisions.decide(run, 2, Decision.approve(), by=Voter.plain("alice"), now=205.0, digest=run.calls[0].digest)


def test_a_tool_that_came_back_without_an_answer_is_done_with_the_call() -> None:
    """Its worker lives, but nothing of the attempt runs any more: only what is under way must still be waited for."""
    run = begun(approved())
    mine: dict[str, Any] = {"owner": W1, "fence": run.fence, "attempt": 1}
    with pytest.raises(WorkerMayLive):
        resolve(execution.lapse(run, 1, 5.0, **mine).run, "did-not-happen", now=1e9)
    back = execution.lapse(run, 1, 5.0, over=True, **mine).run
    with pytest.raises(TooEarly):
        resolve(back, "did-not-happen", now=64.9)
    assert state(resolve(back, "did-not-happen", now=65.0).run) is CallState.FAILED


# -- negative controls: a rule that cannot fail proves nothing -----------------------------------------------------------


def _only_the_last_attempt(call: Any) -> float | None:
    return OVER_AT(replace(call, attempts=call.attempts[-1:]))


def _no_grace(call: Any) -> float | None:
    return OVER_AT(replace(call, in_flight=0.0))


def _never_alive(call: Any) -> float | None:
    return OVER_AT(replace(call, attempts=tuple(replace(made, died=made.died or 0.0) for made in call.attempts)))


def _with_the_old_key(run: Run, call: Any, now: float, nonce: str, verdict: Any) -> Any:
    return replace(ANEW(run, call, now, nonce, verdict), idem_key=call.idem_key)


def _with_the_old_votes(run: Run, call: Any, now: float, nonce: str, verdict: Any) -> Any:
    return replace(ANEW(run, call, now, nonce, verdict), votes=call.votes, state=CallState.APPROVED)


def _takes_no_for_leave(run: Run, n: int, now: float, *, happened: bool | None, **rest: Any) -> Change:
    change = PROBED(run, n, now, happened=happened, **rest)
    call = replace(change.run.calls[0], state=CallState.RETRY)
    return change if happened is not False else evolve(change, run=change.run.with_call(call))


OVER_AT, ANEW, PROBED = doubts.over_at, doubts._anew, doubts.probed
FAULTS: dict[str, tuple[Any, str, Any, Callable[[], None]]] = {
    "only the last attempt": (doubts, "over_at", _only_the_last_attempt, test_every_worker_of_every_attempt_must_be_dead),
    "no grace": (doubts, "over_at", _no_grace, test_did_not_happen_is_refused_while_a_request_may_be_under_way),
    "never alive": (doubts, "over_at", _never_alive, test_did_not_happen_is_refused_while_a_worker_may_live),
    "the old key": (doubts, "_anew", _with_the_old_key,
                    test_did_not_happen_asks_anew_under_a_new_number_nonce_digest_and_key),
    "the old votes": (doubts, "_anew", _with_the_old_votes,
                      test_did_not_happen_asks_anew_under_a_new_number_nonce_digest_and_key),
    "no sign of life": (execution, "_came_back", lambda call, *rest: call,
                        test_an_attempt_that_comes_back_was_not_over_before),
    "replacement stays": (execution, "_withdraw_replacement", lambda change, call, now: change,
                          test_a_result_after_did_not_happen_follows_the_chain_and_stops_at_what_has_begun),
    "no is leave": (doubts, "probed", _takes_no_for_leave,
                    lambda: test_any_other_finding_of_a_probe_is_a_doubt(False)),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each broken rule fails the test that is there for it."""
    module, function, broken, test = FAULTS[name]
    test()
    monkeypatch.setattr(module, function, broken)
    with pytest.raises((AssertionError, GovernorError, pytest.fail.Exception)):
        test()


def test_a_loop_that_ends_while_an_expiry_ends_the_run_has_failed() -> None:
    """Somebody is still asked about another call; that the loop is over withdraws it, and does not hide the expiry."""
    ends = replace(ASK, on_expire="end_run", run_within=10.0)
    run = driving.claim(approved(ask(verdict=ends), ask(id="c2")), 5.0, owner=W1, lease=30.0).run
    run = intent(run, 1, 20.0).run
    more = replace(ASK, version="2", stages=(Stage(("cfo",), ("carol",)),))
    run = intent(run, 2, 20.0, verdict=more).run
    assert [call.state for call in run.calls] == [CallState.EXPIRED, CallState.PENDING]
    run = driving.finish(run, 21.0, owner=W1, fence=run.fence, output_json='"done"').run
    assert (run.state, state(run, 2)) == (RunState.FAILED, CallState.CANCELLED)


def test_an_expiry_that_ends_a_queued_run_leaves_its_doubt_to_people() -> None:
    """In a first stretch: a call asked anew is not run in time, beside one that a probe was to be asked about."""
    ends = replace(ASK, on_expire="end_run", run_within=10.0)
    run = driving.start(new_run(), 0.0, owner=W1, lease=30.0).run
    for n, tool in enumerate((PAY, replace(PAY, retry="reconcilable")), 1):
        run = run.with_call(decisions.make_call(run, ask(id=f"c{n}").call, tool, ALLOW, now=1.0, nonce=f"n{n}"))
        run = intent(run, n, 1.0, verdict=ALLOW).run
    run = driving.tick(run, 40.0, (W1,)).run
    assert [call.state for call in run.calls] == [CallState.UNKNOWN, CallState.RECONCILING]
    run = vote(resolve(run, "did-not-happen", verdict=ends).run, 3, 201.0)
    assert (run.state, state(run, 3)) == (RunState.QUEUED, CallState.APPROVED)
    run = driving.tick(run, 300.0).run
    assert (run.state, state(run, 2), state(run, 3)) == (RunState.BLOCKED, CallState.UNKNOWN, CallState.EXPIRED)


@pytest.mark.anyio
async def test_an_operators_word_reaches_the_workers_of_the_named_call_alone() -> None:
    """Nobody said anything of the worker of the other call in doubt, which may hold a request in its hand."""
    here, there = "elsewhere-1", "elsewhere-2"
    run = intent(begun(approved(ask(), ask(id="c2")), owner=here), 2, 4.0, here).run
    run = driving.tick(run, 40.0).run
    second = run.call(2)
    assert second is not None
    run = run.with_call(evolve(second, attempts=(evolve(second.attempts[0], owner=there),)))
    store = MemoryStore(clock=lambda: 50.0)
    await store.open()
    runs = Runs(store, "t")
    await runs.create(Change(run, (telling.run_event("run.started"),)), 50.0)
    with pytest.raises(TooEarly):
        await Resolving(runs).answer(
            run, 1, "did-not-happen", by="op", evidence="the log", worker_dead=True, verdict=ASK, nonce="new"
        )
    died = [[attempt.died for attempt in call.attempts] for call in (await runs.get(run.id)).calls]
    assert died == [[50.0], [None]]
    assert doubts.suspects(run) == {here, there}, "both of them are in doubt: the control"
