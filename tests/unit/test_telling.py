"""Notices: in order per card, in one pair of hands at a time, and what a card shows in the end is what stands."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest

from governor_agents.core import driving, settling, telling
from governor_agents.core.calls import Tool, ToolCall
from governor_agents.core.records import Change, Notice, Run, RunState, Snapshot
from governor_agents.core.telling import Failure
from governor_agents.core.verdicts import Stage, Verdict

ASK = Verdict(
    "require_approval", "p", "1", stages=(Stage(("ops",), ("alice",)),), deadline=1e9, channels=("chat", "mail")
)
FIRST, MOST, HELD = 5.0, 600.0, 60.0


def asked(*channels: str) -> Run:
    """A run that waits for people, who hear of it through these channels."""
    run = Run("t", "run_1", "agent", "x", "requester", RunState.QUEUED, 0.0)
    call = ToolCall.of("pay", {"amount": 5}, "c1", agent="agent", run="run_1", requester="requester", tenant="t")
    run = driving.start(run, 0.0, owner="w1", lease=30.0).run
    verdict = replace(ASK, channels=channels or ASK.channels)
    ask = driving.Ask(call, Tool("pay"), verdict, "nonce")
    return driving.pause(run, 0.0, owner="w1", fence=1, snapshot=Snapshot("b", "x"), asks=(ask,)).run


def told(run: Run, what: str, now: float = 0.0) -> Run:
    """The run with a further notice of its call."""
    return replace(run, outbox=(*run.outbox, *telling.notices(run, run.calls[0], what, now)))  # type: ignore[arg-type]


def take(run: Run, now: float) -> tuple[Run, tuple[Notice, ...]]:
    """What a deliverer takes at this moment."""
    after = telling.take_notices(run, now, until=now + HELD).run
    return after, tuple(notice for notice in after.outbox if notice not in run.outbox)


def back(run: Run, now: float, taken: tuple[Notice, ...], failed: dict[str, Failure] | None = None) -> Change:
    """The deliverer comes back."""
    return telling.delivered(run, now, taken=taken, failed=failed or {}, first=FIRST, most=MOST)


def test_a_card_hears_things_in_order() -> None:
    """While the request waits for a dead channel, its outcome waits behind it; another channel is told meanwhile."""
    run = told(asked(), "decided")
    run, taken = take(run, 1.0)
    assert [(notice.what, notice.channel) for notice in taken] == [("asked", "chat"), ("asked", "mail")]
    run = back(run, 2.0, taken, {taken[0].id: Failure("down")}).run
    _, after = take(run, 3.0)
    assert [(notice.what, notice.channel) for notice in after] == [("decided", "mail")]
    _, later = take(run, 2.0 + FIRST)
    assert ("asked", "chat") in [(notice.what, notice.channel) for notice in later]


def test_nobody_takes_what_is_in_other_hands() -> None:
    """One notice of a call and channel at a time, until it is done or its deliverer's time is over."""
    run, _ = take(told(asked("chat"), "decided"), 1.0)
    assert telling.to_deliver(run, 1.0 + HELD - 1) == ()
    assert [notice.what for notice in telling.to_deliver(run, 1.0 + HELD)] == ["asked"]
    assert settling.due(replace(run, state=RunState.COMPLETED)) == 1.0 + HELD


@pytest.mark.parametrize(
    ("said", "waits"),
    [(None, FIRST), (42.0, 42.0), (0.0, FIRST), (1e12, telling.MAX_RETRY_AFTER), (float("nan"), FIRST)],
)
def test_a_channel_that_wants_to_be_left_alone_is(said: float | None, waits: float) -> None:
    """Retry-After counts for the notice it was said of, within bounds; else the delay doubles."""
    run, taken = take(asked("chat"), 1.0)
    run = back(run, 2.0, taken, {taken[0].id: Failure("busy", said)}).run
    (notice,) = run.outbox
    assert (notice.tries, notice.taken, notice.due) == (1, 0.0, 2.0 + waits)
    run, taken = take(run, notice.due)
    run = back(run, notice.due, taken, {taken[0].id: Failure("down")}).run
    assert run.outbox[0].due == notice.due + 2 * FIRST


def test_a_change_is_told_unless_something_waits_that_shows_it_anyway() -> None:
    """What is on its way may show the call as it was; what still lies there will show it as it is."""
    run = asked("chat")
    assert [notice.what for notice in told(run, "changed").outbox] == ["asked"]
    run, _ = take(run, 1.0)
    run = told(run, "changed", 2.0)
    assert [notice.what for notice in run.outbox] == ["asked", "changed"]
    assert told(run, "changed", 3.0).outbox == run.outbox
    assert len({notice.id for notice in run.outbox}) == 2


def test_whoever_comes_back_too_late_leaves_the_card_to_be_shown_anew() -> None:
    """Its take was lost, so what it posted may stand over something newer."""
    run, slow = take(asked("chat"), 1.0)
    run, quick = take(run, 100.0)
    run = back(run, 101.0, quick).run
    assert run.outbox == () and run.calls[0].shown == 101.0
    change = back(run, 102.0, slow)
    assert [notice.what for notice in change.run.outbox] == ["changed"]
    assert [event.what for event in change.events] == ["notice.late"]


@dataclass
class Hands:
    """A deliverer on its way: what it took, and the state that it will show."""

    taken: tuple[Notice, ...]
    shows: int


def settled(dice: random.Random, steps: int = 40) -> tuple[int, int]:
    """What stands, and what the card shows, once two deliverers of any speed have done everything there is to do."""
    run, now, stands, card = asked("chat"), 1.0, 0, -1
    hands: list[Hands] = []
    for step in range(steps + 400):
        now += dice.choice([0.0, 1.0, HELD])
        what = dice.choice(["change", "take", "show", "back"] if step < steps else ["take", "show", "back"])
        if what == "change":
            stands += 1
            run = told(run, "changed", now)
        elif what == "take" and len(hands) < 2:
            run, taken = take(run, now)
            hands += [Hands(taken, stands)] if taken else []
        elif what == "show" and hands:
            card = dice.choice(hands).shows  # it may post late, and more than once
        elif what == "back" and hands:
            done = hands.pop(dice.randrange(len(hands)))
            card = done.shows
            run = back(run, now, done.taken).run
        if step >= steps and not hands and not run.outbox:
            break
    return stands, card


def test_every_card_shows_in_the_end_what_stands() -> None:
    """Slow deliverers, lost takes, changes at any moment: 2,000 ways it may go."""
    wrong = [seed for seed in range(2_000) if len(set(settled(random.Random(seed)))) > 1]
    assert wrong == []


@pytest.mark.parametrize("fault", ["_shown_anew", "heads", "notices"])
def test_a_build_without_the_rule_leaves_a_card_wrong(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controls: a late deliverer leaves nothing; a card is in many hands; what is on its way counts as told."""
    sound = telling.notices
    broken = {
        "_shown_anew": lambda run, notice, now: run,
        "heads": lambda run: run.outbox,
        "notices": lambda run, call, what, now: () if run.outbox else sound(run, call, what, now),
    }
    monkeypatch.setattr(telling, fault, broken[fault])
    assert any(len(set(settled(random.Random(seed)))) > 1 for seed in range(2_000))
