"""The pure transitions: what each event does to a call and its run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from governor_agents.core import decisions, doubts, driving, execution, settling
from governor_agents.core.calls import Tool, ToolCall, freeze, sha256
from governor_agents.core.identity import Voter
from governor_agents.core.lifecycle import CALLS, RUNS, CallEvent, RunEvent, next_call, next_run
from governor_agents.core.records import (
    CallState,
    Change,
    Decision,
    Result,
    Run,
    RunState,
    Snapshot,
)
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.errors import (
    AlreadyDecided,
    DeadlinePassed,
    EditRefused,
    Fenced,
    IllegalTransition,
    NotAnApprover,
    NotFound,
    ReasonRequired,
    StaleDecision,
)

ALLOW = Verdict("allow")
DENY = Verdict("deny", reason="no")
ASK = Verdict(
    "require_approval", policy="p", version="1", stages=(Stage(("group:ops",), ("alice", "bob")),), deadline=100.0
)
TWO = replace(ASK, stages=(Stage(("ops",), ("alice", "bob")), Stage(("cfo",), ("carol", "alice"))))
OWNER = "w1"
ME = {"owner": OWNER, "fence": 1}


def new_run(**changes: object) -> Run:
    """A run that nobody has started."""
    return replace(Run("t", "run_1", "agent", "x", "requester", RunState.QUEUED, 0.0), **changes)


def call(id: str = "c1", tool: str = "pay", **args: object) -> ToolCall:
    """A tool call of that run."""
    return ToolCall.of(tool, args or {"amount": 5}, id, agent="agent", run="run_1", requester="requester", tenant="t")


def started(**changes: object) -> Run:
    """An ACTIVE run, claimed with fence 1 until t=30."""
    return driving.start(new_run(**changes), 0.0, owner=OWNER, lease=30.0).run


def ask(verdict: Verdict = ASK, id: str = "c1", tool: Tool | None = None, **args: object) -> driving.Ask:
    """A fresh call under a verdict."""
    return driving.Ask(call(id, **args), tool or Tool("pay"), verdict, f"nonce-{id}")


def paused(*asks: driving.Ask, now: float = 1.0, run: Run | None = None) -> Run:
    """A run that waits for these calls."""
    snapshot = Snapshot("blob", "x")
    return driving.pause(run or started(), now, **ME, snapshot=snapshot, asks=asks or (ask(),)).run


def vote(
    run: Run, by: str = "alice", decision: Decision | None = None, *, n: int = 1, now: float = 2.0, **more: object
) -> Change:
    """A decision on what stands."""
    found = run.call(n)
    given = {"digest": found.digest if found else "", "nonce": "fresh", **more}
    return decisions.decide(run, n, decision or Decision.approve(), by=Voter.plain(by), now=now, **given)  # type: ignore[arg-type]


def claimed(run: Run, now: float = 3.0, owner: str = OWNER) -> Run:
    """The run claimed again."""
    return driving.claim(run, now, owner=owner, lease=30.0).run


def begun(run: Run, verdict: Verdict = ASK, n: int = 1, now: float = 4.0, fence: int = 2, schema: str = "") -> Change:
    """The intent of call ``n`` under the second claim."""
    return execution.intent(
        run, n, now, owner=OWNER, fence=fence, verdict=verdict, schema_sha256=schema, idem_key="key"
    )


def result(ok: bool = True) -> Result:
    """A recorded result."""
    return Result(sha256(b'"done"'), '"done"', ok=ok)


def executing(tool: Tool | None = None) -> Run:
    """A run whose approved call is executing under fence 2."""
    return begun(claimed(vote(paused(ask(tool=tool))).run)).run


def test_pause_asks_people_in_the_same_change() -> None:
    """Snapshot, PENDING call, notice and events come together, and the run waits."""
    run = paused()
    assert run.state is RunState.WAITING and run.generation == 1 and run.lease is None
    (only,) = run.calls
    assert only.state is CallState.PENDING and only.generation == 1 and only.expires == 101.0
    assert [notice.what for notice in run.outbox] == ["asked"]


def test_decide_approve_makes_the_run_ready() -> None:
    """The last decision lets the run go on."""
    run = vote(paused()).run
    assert run.state is RunState.READY and run.call(1).state is CallState.APPROVED  # type: ignore[union-attr]


def test_decide_second_decision_is_told_who_won() -> None:
    """One decision wins; a later one learns who decided, what and when."""
    run = vote(paused()).run
    with pytest.raises(AlreadyDecided, match="approved by alice"):
        vote(run, "bob", Decision.reject("no"))


def test_decide_same_decision_again_changes_nothing() -> None:
    """A double click is no error and no second vote."""
    run = vote(paused()).run
    assert vote(run).run is run


@pytest.mark.parametrize(
    ("by", "error"),
    [("mallory", NotAnApprover), ("requester", NotAnApprover), ("service:agent", NotAnApprover), ("", NotAnApprover)],
)
def test_decide_refuses_who_may_not(by: str, error: type[Exception]) -> None:
    """Strangers, the requester, the agent and nobody cannot decide."""
    with pytest.raises(error):
        vote(paused(), by)


def test_decide_refuses_the_requester_even_as_approver() -> None:
    """Separation of duties holds against the approver list."""
    verdict = replace(ASK, stages=(Stage(("x",), ("requester",)),))
    with pytest.raises(NotAnApprover, match="asked for this call"):
        vote(paused(ask(verdict)), "requester")


def test_decide_empty_stage_is_nobody() -> None:
    """No approvers means nobody, never everybody."""
    with pytest.raises(NotAnApprover):
        vote(paused(ask(replace(ASK, stages=(Stage(()),)))), "alice")


def test_decide_after_the_deadline_is_refused() -> None:
    """The deadline binds even before a worker has noticed it."""
    with pytest.raises(DeadlinePassed):
        vote(paused(), now=101.0)


def test_decide_on_an_older_digest_is_refused() -> None:
    """A vote counts only for what its voter saw."""
    with pytest.raises(StaleDecision):
        vote(paused(), digest="old")


def test_decide_asks_for_a_reason_where_the_policy_does() -> None:
    """``reason_required`` binds every kind of decision."""
    run = paused(ask(replace(ASK, reason_required=True)))
    with pytest.raises(ReasonRequired):
        vote(run)
    assert vote(run, decision=Decision.approve("because")).run.state is RunState.READY


def test_decide_unknown_call() -> None:
    """A number that asks nobody is not found."""
    with pytest.raises(NotFound):
        vote(paused(), n=7)


def test_stages_need_different_people() -> None:
    """Who approved the first stage cannot approve the second."""
    run = vote(paused(ask(TWO)), "alice").run
    assert run.state is RunState.WAITING and run.call(1).stage == 1  # type: ignore[union-attr]
    with pytest.raises(NotAnApprover, match="earlier stage"):
        vote(run, "alice")
    with pytest.raises(NotAnApprover):
        vote(run, "bob")
    assert vote(run, "carol").run.state is RunState.READY


def test_quorum_counts_distinct_people() -> None:
    """Two of two means two people, not two clicks."""
    run = paused(ask(replace(ASK, stages=(Stage(("ops",), ("alice", "bob"), quorum=2),))))
    once = vote(run, "alice").run
    assert vote(once, "alice").run is once and once.state is RunState.WAITING
    assert vote(once, "bob").run.state is RunState.READY


def test_edit_makes_new_bytes_and_counts_as_the_editors_vote() -> None:
    """New digest, earlier votes void, the editor's counts, the model's arguments are kept."""
    run = vote(paused(), decision=Decision.edit({"amount": 1}), verdict=ASK).run
    edited = run.call(1)
    assert edited and edited.state is CallState.APPROVED and edited.args == b'{"amount":1}'
    assert edited.asked_args == b'{"amount":5}' and edited.digest != paused().call(1).digest  # type: ignore[union-attr]
    assert edited.votes[-1].digest == edited.digest


def test_edit_voids_earlier_votes() -> None:
    """Who approved other bytes has to look again."""
    two = replace(ASK, stages=(Stage(("ops",), ("alice", "bob"), quorum=2),))
    run = vote(paused(ask(two)), "alice").run
    old = run.call(1).digest  # type: ignore[union-attr]
    run = vote(run, "bob", Decision.edit({"amount": 2}), verdict=two).run
    assert run.state is RunState.WAITING and [v.by for v in run.call(1).votes] == ["bob"]  # type: ignore[union-attr]
    with pytest.raises(StaleDecision):
        vote(run, "alice", digest=old)


def test_edit_is_governed_again() -> None:
    """Edited arguments that a policy denies are refused; a stricter verdict adds its stages."""
    with pytest.raises(EditRefused):
        vote(paused(), decision=Decision.edit({"amount": 9}), verdict=DENY)
    stricter = replace(ASK, stages=(Stage(("cfo",), ("carol",)),))
    run = vote(paused(), decision=Decision.edit({"amount": 9}), verdict=stricter).run
    assert run.state is RunState.WAITING and run.approvals[0].people == ("carol",)


def test_reject_and_respond_never_run() -> None:
    """A rejected or answered call cannot be begun."""
    for decision, state in ((Decision.reject("no"), CallState.REJECTED), (Decision.respond("42"), CallState.ANSWERED)):
        run = claimed(vote(paused(), decision=decision).run)
        assert run.call(1).state is state  # type: ignore[union-attr]
        with pytest.raises(IllegalTransition):
            begun(run)


def test_deadline_expires_or_escalates() -> None:
    """A stage with a bound hands over to the next one; after the last the approval expires, never approves."""
    staged = replace(ASK, stages=(Stage(("a",), ("alice",), within=10), Stage(("b",), ("bob",), within=10)))
    run = paused(ask(staged))
    run = driving.tick(run, 11.0).run
    assert run.approvals[0].people == ("bob",) and run.state is RunState.WAITING
    run = driving.tick(run, 21.0).run
    assert run.call(1).state is CallState.EXPIRED and run.state is RunState.READY  # type: ignore[union-attr]


def test_deadline_ends_the_run_where_the_policy_says_so() -> None:
    """``on_expire: end_run`` fails the run in place of READY."""
    run = driving.tick(paused(ask(replace(ASK, on_expire="end_run"))), 200.0).run
    assert run.state is RunState.FAILED


def test_siblings_wait_for_each_other() -> None:
    """A run goes on when every call of the pause is decided."""
    run = vote(paused(ask(), ask(id="c2"))).run
    assert run.state is RunState.WAITING
    assert vote(run, n=2, decision=Decision.reject("no")).run.state is RunState.READY


def test_claim_fences_the_older_claim() -> None:
    """A higher fence makes every step of the older claim fail."""
    run = claimed(vote(paused()).run, owner="w2")
    with pytest.raises(Fenced):
        begun(run)
    with pytest.raises(Fenced):
        claimed(run)


def test_intent_is_refused_after_the_lease() -> None:
    """No intent under a lease that is over."""
    with pytest.raises(Fenced, match="lease"):
        begun(claimed(vote(paused()).run), now=33.0)


def test_intent_asks_the_policies_as_they_are() -> None:
    """Denied now: never runs. Demands more people than approved: asked again, with the votes given."""
    run = claimed(vote(paused()).run)
    assert begun(run, DENY).run.call(1).state is CallState.CANCELLED  # type: ignore[union-attr]
    again = begun(run, TWO).run
    assert again.call(1).state is CallState.PENDING and again.call(1).stage == 1  # type: ignore[union-attr]
    waits = driving.abandon(again, 5.0, owner=OWNER, fence=2).run
    assert waits.state is RunState.WAITING
    assert vote(waits, "carol", now=6.0).run.state is RunState.READY


def test_intent_refuses_a_changed_schema() -> None:
    """A tool whose parameters changed since the decision does not run."""
    assert begun(claimed(vote(paused()).run), schema="other").run.call(1).state is CallState.SUPERSEDED  # type: ignore[union-attr]


def test_result_is_recorded_once_and_only_for_its_claim() -> None:
    """A result of an older fence changes nothing."""
    run = executing()
    done = execution.record(run, 1, 5.0, **{**ME, "fence": 2, "attempt": 1}, result=result()).run
    assert done.call(1).state is CallState.SUCCEEDED and done.attempts == 0  # type: ignore[union-attr]
    for fence in (1, 3):
        change = execution.record(run, 1, 5.0, owner=OWNER, fence=fence, attempt=1, result=result())
        assert change.run.calls == run.calls and [event.what for event in change.events] == [execution.FENCED]


@pytest.mark.parametrize(
    ("retry", "state", "rest"),
    [
        ("none", CallState.UNKNOWN, RunState.BLOCKED),
        ("idempotent", CallState.RETRY, RunState.READY),
        ("reconcilable", CallState.RECONCILING, RunState.READY),
    ],
)
def test_lease_over_moves_by_retry_class(retry: str, state: CallState, rest: RunState) -> None:
    """A worker that died inside the tool leaves what its retry class says."""
    run = driving.tick(executing(Tool("pay", retry=retry)), 40.0).run  # type: ignore[arg-type]
    assert run.call(1).state is state and run.state is rest  # type: ignore[union-attr]


def test_late_result_settles_the_doubt() -> None:
    """UNKNOWN and then a result with the same fence: SUCCEEDED, and the run goes on."""
    run = driving.tick(executing(), 40.0).run
    done = execution.record(run, 1, 41.0, owner=OWNER, fence=2, attempt=1, result=result()).run
    assert done.call(1).state is CallState.SUCCEEDED and done.state is RunState.READY  # type: ignore[union-attr]
    late = execution.record(run, 1, 41.0, owner=OWNER, fence=2, attempt=1, result=result(ok=False)).run
    assert late.call(1).state is CallState.UNKNOWN and late.state is RunState.BLOCKED  # type: ignore[union-attr]


def test_retry_keeps_its_key_until_the_other_side_forgets() -> None:
    """An idempotent retry runs under the same key; after idempotency_ttl it is a doubt."""
    run = driving.tick(executing(Tool("pay", retry="idempotent", idempotency_ttl=60)), 40.0).run
    again = claimed(run, 41.0)
    retried = begun(again, now=42.0, fence=3).run.call(1)
    assert retried and retried.idem_key == "key" and len(retried.attempts) == 2
    assert begun(claimed(run, 100.0), now=101.0, fence=3).run.call(1).state is CallState.UNKNOWN  # type: ignore[union-attr]


def test_exception_after_a_doubt_proves_nothing() -> None:
    """A second attempt's exception leaves the call UNKNOWN; a first attempt's is a result."""
    first = execution.record(
        executing(), 1, 5.0, owner=OWNER, fence=2, attempt=1, result=result(ok=False), told="boom"
    ).run
    assert first.call(1).state is CallState.FAILED  # type: ignore[union-attr]
    run = driving.tick(executing(Tool("pay", retry="idempotent")), 40.0).run
    run = begun(claimed(run, 41.0), now=42.0, fence=3).run
    failed = execution.record(run, 1, 43.0, owner=OWNER, fence=3, attempt=2, result=result(ok=False)).run
    assert failed.call(1).state is CallState.UNKNOWN  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("how", "state", "rest"),
    [("happened", CallState.SUCCEEDED, RunState.READY), ("abandon", CallState.FAILED, RunState.READY)],
)
def test_resolve_answers_a_doubt(how: str, state: CallState, rest: RunState) -> None:
    """An operator's word moves the call and frees the run."""
    run = driving.tick(executing(), 40.0).run
    done = doubts.resolve(run, 1, 50.0, how=how, by="op", evidence="log", nonce="n").run
    assert done.call(1).state is state and done.state is rest  # type: ignore[union-attr]


def test_resolve_did_not_happen_asks_anew() -> None:
    """A new number, nonce and digest, and people are asked again: the old approval is used up."""
    run = driving.tick(executing(), 40.0).run
    run = doubts.note_deaths(run, 50.0, {OWNER}).run
    done = doubts.resolve(run, 1, 110.0, how="did-not-happen", by="op", evidence="log", nonce="n2", verdict=ASK).run
    old, fresh = done.call(1), done.call(2)
    assert old and fresh and old.state is CallState.FAILED and old.replaced_by == 2
    assert fresh.state is CallState.PENDING and fresh.replaces == 1 and fresh.digest != old.digest
    assert done.state is RunState.WAITING and done.by_call_id("c1") is fresh


def test_cancel_waits_for_the_tool_that_executes() -> None:
    """A cancel takes effect when nothing executes; what had not begun never runs."""
    run = settling.request_cancel(executing(), 5.0, by="op", reason="stop").run
    assert run.state is RunState.ACTIVE
    done = execution.record(run, 1, 6.0, owner=OWNER, fence=2, attempt=1, result=result()).run
    assert done.state is RunState.CANCELLED
    waiting = settling.request_cancel(paused(), 5.0, by="op", reason="stop").run
    assert waiting.state is RunState.CANCELLED and waiting.call(1).state is CallState.CANCELLED  # type: ignore[union-attr]
    with pytest.raises(AlreadyDecided):
        vote(waiting)


def test_cancel_with_a_doubt_blocks_until_it_is_resolved() -> None:
    """A doubt is never swept away by a cancel."""
    run = driving.tick(executing(), 40.0).run
    run = settling.request_cancel(run, 41.0, by="op", reason="stop").run
    assert run.state is RunState.BLOCKED
    done = doubts.resolve(run, 1, 50.0, how="abandon", by="op", evidence="log", nonce="n").run
    assert done.state is RunState.CANCELLED


def test_finish_needs_every_doubt_settled() -> None:
    """COMPLETED only when nothing is in doubt; what never began is withdrawn."""
    run = claimed(vote(paused()).run)
    done = driving.finish(run, 5.0, owner=OWNER, fence=2, output_json='"ok"').run
    assert done.state is RunState.COMPLETED and done.call(1).state is CallState.CANCELLED and done.output == "ok"  # type: ignore[union-attr]
    with pytest.raises(IllegalTransition):
        driving.finish(executing(), 5.0, owner=OWNER, fence=2)


def test_claims_without_progress_wear_out() -> None:
    """After max_attempts claims that wrote nothing the run is DEAD, and a repair frees it."""
    run, now = vote(paused()).run, 3.0
    for _ in range(run.max_attempts):
        run = driving.claim(run, now, owner=OWNER, lease=1.0).run
        run = driving.tick(run, now + 2.0).run
        now += 3.0
    run = driving.claim(run, now, owner=OWNER, lease=1.0).run
    assert run.state is RunState.DEAD
    assert driving.repair(run, now, by="op", reason="fixed").run.state is RunState.READY


def test_run_within_expires_what_was_not_run() -> None:
    """An approval is not good for ever."""
    run = vote(paused(ask(replace(ASK, run_within=50.0)))).run
    change = driving.claim(run, 60.0, owner=OWNER, lease=30.0)
    assert change.run.call(1).state is CallState.EXPIRED and change.run.state is RunState.READY  # type: ignore[union-attr]
    assert claimed(change.run, 61.0).state is RunState.ACTIVE


def test_single_run_ends_with_its_call() -> None:
    """A function's run ends in the write that makes its call terminal; while its waiter lives only that one claims."""
    run = driving.ask_single(new_run(), ask(), 0.0, owner=OWNER, lease=30.0).run
    assert run.state is RunState.WAITING
    ready = vote(run).run
    with pytest.raises(Fenced, match="awaited"):
        claimed(ready, owner="w2")
    mine = begun(claimed(ready)).run
    done = execution.record(mine, 1, 5.0, owner=OWNER, fence=2, attempt=1, result=result()).run
    assert done.state is RunState.COMPLETED and done.output == "done"
    assert vote(run, decision=Decision.reject("no")).run.state is RunState.FAILED


def test_pause_closes_what_is_over() -> None:
    """The next pause moves calls that are over out of the record."""
    run = execution.record(executing(), 1, 5.0, owner=OWNER, fence=2, attempt=1, result=result()).run
    closed = driving.Closed("blob", frozenset({1}))
    run = driving.pause(
        run, 6.0, owner=OWNER, fence=2, snapshot=Snapshot("b", "x"), asks=(ask(id="c2"),), closed=closed
    ).run
    assert [c.n for c in run.calls] == [2] and run.closed == ("blob",) and run.generation == 2


def test_every_change_leaves_an_event() -> None:
    """No transition without an audit line."""
    run = paused()
    for change in (vote(run), driving.tick(run, 200.0), settling.request_cancel(run, 5.0, by="op", reason="")):
        assert change.run is not run and change.events


def test_due_is_the_next_moment_somebody_must_look() -> None:
    """Notices first, then deadlines, leases, and at once when READY."""
    run = paused()
    assert settling.due(run) == 1.0
    quiet = replace(run, outbox=())
    assert settling.due(quiet) == 101.0
    assert settling.due(started()) == 30.0
    assert settling.due(replace(vote(quiet).run, outbox=())) == 0.0


def test_tables_name_every_pair_or_refuse_it() -> None:
    """Every (state, event) pair either has targets or raises and leaves the state alone."""
    for state in [None, *CallState]:
        for event in CallEvent:
            for to in CallState:
                if to in CALLS.get((state, event), ()):
                    assert next_call(state, event, to) is to
                else:
                    with pytest.raises(IllegalTransition):
                        next_call(state, event, to)
    for run_state in [None, *RunState]:
        for run_event in RunEvent:
            for run_to in RunState:
                if run_to in RUNS.get((run_state, run_event), ()):
                    assert next_run(run_state, run_event, run_to) is run_to
                else:
                    with pytest.raises(IllegalTransition):
                        next_run(run_state, run_event, run_to)


def test_terminal_calls_never_move() -> None:
    """No event leaves a terminal call state."""
    assert {state for state, _ in CALLS if state is not None and not state.open} == set()


def test_digest_binds_everything() -> None:
    """Any change of what was shown, or of whom it was shown for, is another digest."""
    run = paused()
    one = run.call(1)
    assert one
    from governor_agents.core.binding import bind

    variants = [
        (run, replace(one, args=freeze({"amount": 6}))),
        (run, replace(one, tool="other")),
        (run, replace(one, schema_sha256="x")),
        (run, replace(one, nonce="x")),
        (run, replace(one, expires=102.0)),
        (run, replace(one, generation=2)),
        (run, replace(one, version="2")),
        (run, replace(one, stages=(Stage(("x",), ("mallory",)),))),
        (replace(run, tenant="u"), one),
        (replace(run, id="run_2"), one),
        (replace(run, env="prod"), one),
        (replace(run, requester="x"), one),
    ]
    assert len({bind(r, c).digest for r, c in variants} | {one.digest}) == len(variants) + 1
