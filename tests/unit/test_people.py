"""Who may decide: one human once, one seat once, nobody for whoever asked; and that an earlier vote keeps its meaning."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

import pytest

from governor_agents.core import attending, decisions, driving, execution, people, seating
from governor_agents.core.calls import Tool, ToolCall
from governor_agents.core.hours import QuietHours
from governor_agents.core.identity import Voter
from governor_agents.core.records import Call, CallState, Change, Decision, HandOver, Run, RunState, Snapshot
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.errors import AlreadyDecided, ArgumentsError, DeadlinePassed, EditRefused, NotAnApprover

ASK = Verdict("require_approval", "p", "1", stages=(Stage(("ops",), ("ann", "bob"), quorum=2),), deadline=100.0)
HANDED = replace(ASK, delegates=("dora", "slack:T1/E"))
ANN, BOB, DORA = (Voter.plain(name) for name in ("ann", "bob", "dora"))
SAM = Voter("sam", ("sam", "sam@example.com"), stands_for=("ann",))
ERIN = Voter("erin", ("erin", "slack:T1/E"))
REQUESTER = Voter("rita", ("rita", "rita@example.com"))


def paused(verdict: Verdict = ASK, requester: str = "rita@example.com") -> Run:
    """A run that waits for people."""
    run = Run("t", "run_1", "agent", "x", requester, RunState.QUEUED, 0.0)
    call = ToolCall.of("pay", {"amount": 5}, "c1", agent="agent", run="run_1", requester=requester, tenant="t")
    run = driving.start(run, 0.0, owner="w1", lease=30.0).run
    ask = driving.Ask(call, Tool("pay"), verdict, "nonce")
    return driving.pause(run, 1.0, owner="w1", fence=1, snapshot=Snapshot("b", "x"), asks=(ask,)).run


def call_of(run: Run) -> Call:
    return run.calls[0]


def vote(run: Run, by: Voter, decision: Decision | None = None, now: float = 2.0, **more: Any) -> Run:
    """The run once somebody has spoken."""
    return voted(run, by, decision, now, **more).run


def voted(run: Run, by: Voter, decision: Decision | None = None, now: float = 2.0, **more: Any) -> Change:
    given = {"digest": call_of(run).digest, "nonce": "fresh", "requester": REQUESTER.names, **more}
    return decisions.decide(run, 1, decision or Decision.approve(), by=by, now=now, **given)


def handed(run: Run, by: Voter, to: Voter, **more: Any) -> Run:
    given = {"now": 2.0, "requester": REQUESTER.names, **more}
    return attending.hand_over(run, 1, by=by, to=to, **given).run


# -- seats --------------------------------------------------------------------------------------------------------------


def most_places(stages: tuple[Stage, ...], able: dict[str, set[str]]) -> tuple[int, ...]:
    """How many places of each stage can be filled at once, the earliest first: every way is tried."""
    slots = [(at, name) for at, stage in enumerate(stages) for name in stage.people]
    best: tuple[int, ...] = (0,) * len(stages)
    for size in range(len(able) + 1):
        for who in combinations(able, size):
            for chosen in permutations(slots, size):
                if all(name in able[person] for person, (_, name) in zip(who, chosen, strict=True)):
                    counts = tuple(sum(at == slot for slot, _ in chosen) for at in range(len(stages)))
                    fits = all(count <= seating.places(stage) for count, stage in zip(counts, stages, strict=True))
                    best = max(best, counts) if fits else best
    return best


def differing(count: int) -> int:
    """In how many generated settings the seats found differ from those that could be had."""
    dice, wrong = random.Random(11), 0
    for _ in range(count):
        ids = "abcd"[: dice.randint(1, 4)]
        stages = tuple(
            Stage(("x",), tuple(dice.sample(ids, dice.randint(1, len(ids)))), dice.randint(1, 2))
            for _ in range(dice.randint(1, 2))
        )
        able = {who: {who, dice.choice(ids)} for who in dice.sample("abcde", dice.randint(0, 4))}
        found = seating.seat(stages, able)
        counts = tuple(sum(at == taken for taken, _ in found.values()) for at in range(len(stages)))
        once = len(set(found.values())) == len(found) and all(name in able[who] for who, (_, name) in found.items())
        wrong += counts != most_places(stages, able) or not once
    return wrong


def test_as_many_places_are_filled_as_can_be() -> None:
    """500 settings against every way of seating people: each person once, each seat once, none left empty needlessly."""
    assert differing(500) == 0


def test_seating_without_changing_seats_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: whoever sits, stays."""
    sound = seating._fill
    monkeypatch.setattr(
        seating,
        "_fill",
        lambda stages, able, taken, at, tried: False if tried else sound(stages, able, taken, at, tried),
    )
    assert differing(500) > 0


# -- substitutes and names ----------------------------------------------------------------------------------------------


def test_a_substitute_fills_the_seat_of_whoever_is_away() -> None:
    """Once: when that person is back, the seat is taken; the vote says for whom it was given."""
    run = vote(paused(), SAM)
    (given,) = call_of(run).votes
    assert (given.by, given.seat, given.standing) == ("sam", "ann", "substitute")
    with pytest.raises(NotAnApprover, match=r"approved already: ann \(by sam\)"):
        vote(run, ANN)
    assert call_of(vote(run, BOB)).state is CallState.APPROVED


def test_a_second_click_is_no_error_when_the_other_is_back() -> None:
    """What the substitute approved stands, and saying it again changes nothing; saying anything else is refused."""
    run, back = vote(paused(), SAM), replace(SAM, stands_for=())
    assert vote(run, back) is run
    for other in (Decision.reject("no"), Decision.edit({"amount": 1})):
        with pytest.raises(NotAnApprover):
            vote(run, back, other, verdict=ASK)


def test_a_seat_that_was_filled_may_still_object() -> None:
    """A rejection fills no seat, so whoever comes back may say no to what the substitute approved."""
    assert call_of(vote(vote(paused(), SAM), ANN, Decision.reject("no"))).state is CallState.REJECTED


def test_nobody_speaks_for_the_requester() -> None:
    """Neither under another name, nor as a substitute, nor as somebody to whom the seat was handed."""
    asked = replace(ASK, stages=(Stage(("ops",), ("rita", "bob")),), delegates=("dora",))
    run = paused(asked)
    with pytest.raises(NotAnApprover, match="separation of duties"):
        vote(run, REQUESTER)
    with pytest.raises(NotAnApprover, match="may not decide this"):
        vote(run, Voter("sam", ("sam",), stands_for=("rita",)))
    with pytest.raises(NotAnApprover, match="separation of duties"):
        handed(run, REQUESTER, DORA)
    with pytest.raises(NotAnApprover, match="in that person's place"):
        handed(run, BOB, DORA, seat="rita", moved=True, coordinator=True)
    assert call_of(vote(run, BOB)).state is CallState.APPROVED


@pytest.mark.parametrize(
    "voter",
    [Voter("bot", ("bot", "bob"), service=True), Voter.plain("service:bob"), Voter("bob", ()), Voter("", ("",))],
)
def test_services_and_the_unknown_decide_nothing(voter: Voter) -> None:
    """Also where a stage names them: a service never, nor whoever the directory does not know any more."""
    run = paused(replace(ASK, stages=(Stage(("ops",), ("bob", "service:bob", "bot", "")),)))
    with pytest.raises(NotAnApprover):
        vote(run, voter)


def test_one_human_counts_once_under_all_names() -> None:
    """Named twice in a stage, and again in the next: one place, in one stage."""
    many = Voter("erin", ("erin", "erin@example.com", "slack:T1/E"))
    first = Stage(("a",), ("erin@example.com", "slack:T1/E"), quorum=2)
    run = vote(paused(replace(ASK, stages=(first,))), many)
    assert vote(run, many) is run and call_of(run).state is CallState.PENDING
    two = replace(ASK, stages=(Stage(("a",), ("erin@example.com",)), Stage(("b",), ("slack:T1/E", "bob"))))
    run = vote(paused(two), many)
    with pytest.raises(NotAnApprover, match="each stage needs somebody else"):
        vote(run, many)
    assert call_of(vote(run, BOB)).state is CallState.APPROVED


def test_an_own_seat_goes_before_another_s() -> None:
    """A substitute who is named as well fills the own seat, and leaves the other to whoever it belongs to."""
    run = vote(paused(), Voter("bob", ("bob",), stands_for=("ann",)))
    assert call_of(run).votes[0].seat == ""
    assert call_of(vote(run, ANN)).state is CallState.APPROVED


# -- delegates ----------------------------------------------------------------------------------------------------------


def test_a_delegate_may_decide_for_a_seat_and_so_may_its_person() -> None:
    """Both may, the seat counts once, and the hand-over is an event that a notice tells of."""
    change = attending.hand_over(paused(HANDED), 1, by=ANN, to=ERIN, now=2.0, channel="chat")
    run = change.run
    assert call_of(run).handed == (HandOver("ann", "slack:T1/E", "ann", 2.0),)
    assert [(event.what, event.by) for event in change.events] == [("call.delegated", "ann")]
    assert [notice.what for notice in run.outbox] == ["asked", "asked"]
    run = vote(run, ERIN)
    assert (call_of(run).votes[0].seat, call_of(run).votes[0].standing) == ("ann", "delegate")
    with pytest.raises(NotAnApprover, match="approved already"):
        vote(run, ANN)
    assert call_of(vote(run, BOB)).state is CallState.APPROVED


def test_a_moved_seat_is_no_longer_its_person_s() -> None:
    """Reassigned by its person, or by a coordinator, until it is moved back."""
    for by, coordinator in ((ANN, False), (Voter.plain("carla"), True)):
        run = handed(paused(HANDED), by, DORA, seat="ann", moved=True, coordinator=coordinator)
        with pytest.raises(NotAnApprover, match="may not decide this"):
            vote(run, ANN)
        assert call_of(vote(run, DORA)).votes[0].seat == "ann"
        back = handed(run, DORA, ANN, seat="ann", moved=True)
        assert call_of(vote(back, ANN)).votes[0].by == "ann"
        with pytest.raises(NotAnApprover):
            vote(back, DORA)


@pytest.mark.parametrize(
    ("by", "to", "more", "said"),
    [
        (ANN, Voter.plain("eve"), {}, "does not let a seat be handed to eve; it may go to: dora, slack:T1/E"),
        (BOB, DORA, {"seat": "ann"}, "does not have the seat of ann"),
        (Voter.plain("eve"), DORA, {}, "does not have a seat"),
        (Voter.plain("eve"), DORA, {"seat": "ann", "coordinator": True}, "does not have the seat of ann"),
        (Voter.plain("dora"), DORA, {"seat": "ann", "moved": True, "coordinator": True}, "own word"),
        (SAM, DORA, {"seat": "ann"}, "does not have the seat of ann"),
        (ANN, DORA, {"seat": "zoe"}, "does not have the seat of zoe"),
        (ANN, REQUESTER, {}, "separation of duties"),
        (ANN, Voter("bot", ("bot", "dora"), service=True), {}, "only people decide"),
    ],
)
def test_a_seat_is_handed_over_by_its_person_to_whom_the_policy_allows(
    by: Voter, to: Voter, more: dict[str, Any], said: str
) -> None:
    """Nobody else's seat, to nobody else, by no substitute; a coordinator moves seats and shares none."""
    with pytest.raises(NotAnApprover, match=said):
        handed(paused(HANDED), by, to, **more)


def test_a_policy_without_delegates_lets_nobody_hand_over() -> None:
    """The empty list is nobody."""
    with pytest.raises(NotAnApprover, match="it may go to: nobody"):
        handed(paused(), ANN, DORA)


def test_a_filled_seat_and_one_who_is_asked_are_not_handed_over() -> None:
    """What was approved for stays so, and nobody is asked twice."""
    with pytest.raises(NotAnApprover, match="approved already"):
        handed(vote(paused(HANDED), ANN), ANN, DORA)
    with pytest.raises(NotAnApprover, match="is asked already"):
        handed(paused(replace(HANDED, delegates=("bob",))), ANN, BOB)


@pytest.mark.parametrize("moved", [False, True])
def test_no_seat_goes_to_somebody_who_has_approved(moved: bool) -> None:
    """One human counts once, so with the seat nobody could fill it any more. The control: before the vote it may go."""
    run = handed(paused(HANDED), ANN, DORA)
    assert call_of(handed(run, BOB, DORA, moved=moved)).handed[-1].seat == "bob"
    with pytest.raises(NotAnApprover, match="dora has approved already, and counts once"):
        handed(vote(run, DORA), BOB, DORA, moved=moved)


def test_the_same_hand_over_again_changes_nothing() -> None:
    """As a second click on a button."""
    run = handed(paused(HANDED), ANN, DORA)
    assert handed(run, ANN, DORA) is run


def test_whom_a_seat_may_be_handed_to_is_part_of_the_digest() -> None:
    """A record in which somebody was added to the list is not what was approved."""
    assert call_of(paused(HANDED)).digest != call_of(paused(replace(HANDED, delegates=("dora", "eve")))).digest


# -- edits and stricter policies ----------------------------------------------------------------------------------------


def test_an_edit_keeps_only_delegates_whom_both_policies_allow() -> None:
    """The stricter of old and new: a hand-over that the new one does not allow is void."""
    run = handed(handed(paused(HANDED), ANN, DORA), BOB, ERIN)
    stricter = replace(ASK, version="2", delegates=("dora",))
    run = vote(run, ANN, Decision.edit({"amount": 1}), verdict=stricter)
    call = call_of(run)
    assert (call.delegates, [over.to for over in call.handed]) == (("dora",), ["dora"])
    with pytest.raises(NotAnApprover):
        vote(run, ERIN)


def test_an_edit_keeps_quiet_hours_that_both_policies_have() -> None:
    """They put every time off, so where one policy knows none the times are counted without."""
    night = QuietHours("UTC", "00:00", "23:00")
    first = replace(ASK, stages=(Stage(("ops",), ("ann", "bob"), 2, within=50.0),), quiet_hours=night)
    run = paused(first)
    assert call_of(run).stage_expires == 82_850.0, "the day begins to count at 23:00"
    for verdict, ends in ((first, 82_850.0), (replace(first, quiet_hours=None), 52.0)):
        edited = call_of(vote(run, ANN, Decision.edit({"amount": 1}), verdict=verdict))
        assert (edited.stage_expires, edited.quiet_hours) == (ends, verdict.quiet_hours)


def test_an_edit_by_a_delegate_counts_for_the_seat() -> None:
    """On the new bytes, for the same seat; its person need not look again."""
    run = handed(paused(HANDED), ANN, DORA)
    run = vote(run, DORA, Decision.edit({"amount": 1}), verdict=HANDED)
    assert [(given.by, given.seat) for given in call_of(run).votes] == [("dora", "ann")]
    with pytest.raises(EditRefused):
        vote(run, BOB, Decision.edit({"amount": 2}), verdict=Verdict("deny"))


def intent(run: Run, verdict: Verdict) -> CallState:
    """What becomes of the call when a worker is about to run it under this verdict."""
    run = driving.claim(run, 3.0, owner="w1", lease=30.0).run
    after = execution.intent(
        run, 1, 4.0, owner="w1", fence=run.fence, verdict=verdict, schema_sha256="", idem_key="key"
    ).run
    return call_of(after).state


def test_a_delegate_s_vote_counts_as_long_as_the_policy_lets_it() -> None:
    """Asked again when the policy no longer lets the seat be handed to that person; a substitute's vote stays."""
    run = vote(vote(handed(paused(HANDED), ANN, DORA), DORA), BOB)
    assert intent(run, HANDED) is CallState.EXECUTING
    assert intent(run, replace(ASK, version="2")) is CallState.PENDING
    assert intent(vote(vote(paused(), SAM), BOB), replace(ASK, version="2")) is CallState.EXECUTING


def test_whoever_stands_in_for_a_delegate_counts_under_the_same_policy() -> None:
    """The delegate is away, or is named by another address: nothing about the policy has changed, so nobody is asked again."""
    run = handed(paused(HANDED), ANN, DORA, moved=True)
    run = handed(run, BOB, ERIN)
    run = vote(vote(run, Voter("sue", ("sue",), stands_for=("dora",))), ERIN)
    assert [given.seat for given in call_of(run).votes] == ["ann", "bob"]
    assert intent(run, HANDED) is CallState.EXECUTING
    assert intent(run, replace(HANDED, version="2", delegates=("slack:T1/E",))) is CallState.PENDING


def test_a_seat_that_went_where_it_may_not_is_its_person_s_again() -> None:
    """Moved to somebody whom the new policy does not know, and shared from there: neither stands."""
    run = handed(handed(paused(HANDED), ANN, DORA, moved=True), DORA, ERIN)
    assert call_of(run).hands("ann") == ("dora", ("slack:T1/E",))
    run = vote(run, BOB, Decision.edit({"amount": 1}), verdict=replace(HANDED, delegates=("slack:T1/E",)))
    assert call_of(run).hands("ann") == ("ann", ())


def test_whose_seat_is_somebody_else_s_counts_for_none_when_the_other_falls() -> None:
    """Bob gave his seat away and approved for Ann; a policy that voids her word does not give him his seat back. The
    control: where her word stands, so does the vote.
    """
    both = replace(HANDED, stages=(Stage(("ops",), ("ann", "bob")),), delegates=("dora", "bob"))
    run = handed(handed(paused(both), BOB, DORA, moved=True), ANN, BOB)
    run = vote(run, BOB)
    assert [(given.by, given.seat) for given in call_of(run).votes] == [("bob", "ann")]
    assert intent(run, replace(both, version="2")) is CallState.EXECUTING
    assert intent(run, replace(both, version="2", delegates=("dora",))) is CallState.PENDING


def test_a_requester_who_might_vote_might_not_any_more() -> None:
    """The policy excludes whoever asked only now: that vote no longer counts, whatever name it was given under."""
    lax = replace(ASK, stages=(Stage(("ops",), ("rita", "bob"), 2),), exclude_requester=False)
    run = vote(vote(paused(lax), REQUESTER), BOB)
    assert intent(run, lax) is CallState.EXECUTING
    assert intent(run, replace(lax, version="2", exclude_requester=True)) is CallState.PENDING


# -- claims, comments, reminders ----------------------------------------------------------------------------------------


def test_somebody_looks_at_it_and_others_may_decide() -> None:
    """Said once, taken over by another, released by whoever has it."""
    change = attending.take_up(paused(), 1, by=ANN, now=2.0)
    run = change.run
    assert call_of(run).taken_up is not None and [event.what for event in change.events] == ["call.taken_up"]
    assert attending.take_up(run, 1, by=ANN, now=3.0).run is run
    run = attending.take_up(run, 1, by=BOB, now=3.0).run
    assert attending.take_up(run, 1, by=ANN, now=4.0, release=True).run is run
    run = attending.take_up(run, 1, by=BOB, now=4.0, release=True).run
    assert call_of(run).taken_up is None
    with pytest.raises(NotAnApprover, match="not asked"):
        attending.take_up(run, 1, by=DORA, now=4.0)


def test_comments_are_bounded_and_by_those_who_are_asked() -> None:
    """Fifty of at most 2,000 characters, by whoever has a seat in any stage."""
    run = paused(replace(ASK, stages=(*ASK.stages, Stage(("cfo",), ("zoe",)))))
    for text in ("", " ", "x" * 2_001, "\ud800"):
        with pytest.raises(ArgumentsError):
            attending.comment(run, 1, text, by=ANN, now=2.0)
    for by in (Voter.plain("eve"), REQUESTER):
        with pytest.raises(NotAnApprover):
            attending.comment(run, 1, "hello", by=by, now=2.0, requester=REQUESTER.names)
    digest = call_of(run).digest
    for n in range(attending.MAX_COMMENTS):
        run = attending.comment(run, 1, f"{n}", by=Voter.plain("zoe"), now=2.0).run
    with pytest.raises(ArgumentsError, match="takes no more"):
        attending.comment(run, 1, "one more", by=ANN, now=2.0)
    assert call_of(run).digest == digest and len(call_of(run).comments) == attending.MAX_COMMENTS


def test_what_is_over_is_neither_handed_over_nor_commented() -> None:
    """Decided, expired, cancelled: whoever comes is told so."""
    decided = vote(paused(), ANN, Decision.reject("no"))
    for step in (
        lambda run, now: attending.comment(run, 1, "hm", by=ANN, now=now),
        lambda run, now: attending.take_up(run, 1, by=ANN, now=now),
        lambda run, now: attending.hand_over(run, 1, by=ANN, to=DORA, now=now),
    ):
        with pytest.raises(AlreadyDecided, match="rejected by ann"):
            step(decided, 3.0)
        with pytest.raises(DeadlinePassed):
            step(paused(HANDED), 200.0)


def test_reminders_come_at_times_fixed_when_it_was_asked() -> None:
    """Each once, those that were missed together, none once it is decided or over."""
    run = paused(replace(ASK, reminders=(10.0, 30.0, 20.0, 500.0)))
    assert call_of(run).reminders == (11.0, 21.0, 31.0)
    change = driving.tick(run, 25.0)
    assert call_of(change.run).reminders == (31.0,) and [event.what for event in change.events] == ["call.reminded"]
    assert [notice.what for notice in change.run.outbox] == ["asked", "reminded"]
    assert driving.tick(change.run, 25.0).events == ()
    decided = vote(change.run, ANN, Decision.reject("no"), now=26.0)
    assert "reminded" not in [event.what for event in driving.tick(decided, 40.0).events]
    over = driving.tick(run, 1000.0)
    assert "call.reminded" not in [event.what for event in over.events]


# -- how long it took ---------------------------------------------------------------------------------------------------


def test_the_decision_s_event_says_how_long_it_took() -> None:
    """Seconds since the call was made, and since a channel last showed it, where one did."""
    run = paused(replace(ASK, stages=(Stage(("ops",), ("ann",)),)))
    (line,) = [event for event in voted(run, ANN, now=61.5).events if event.n == 1]
    assert dict(line.detail)["waited"] == 60.5 and "after_shown" not in dict(line.detail)
    shown = run.with_call(replace(call_of(run), shown=11.0))
    (line,) = [event for event in voted(shown, ANN, now=61.5).events if event.n == 1]
    assert dict(line.detail)["after_shown"] == 50.5


def test_a_vote_that_does_not_decide_is_shown_to_the_others() -> None:
    """Everybody asked sees who has spoken: a notice ``changed`` once nothing else waits."""
    run = replace(paused(), outbox=())
    assert [notice.what for notice in vote(run, ANN).outbox] == ["changed"]


def test_people_are_who_hold_seats_now() -> None:
    """Whom channels ask: the stage's people, whoever a seat was handed to, and not who gave it away."""
    from governor_agents.core.records import Approval

    run = handed(handed(paused(HANDED), ANN, DORA), BOB, ERIN, moved=True)
    assert Approval(run, call_of(run)).people == ("ann", "dora", "slack:T1/E")
    assert people.seats(call_of(run), ERIN, call_of(run).stages[0]) == ("bob",)
