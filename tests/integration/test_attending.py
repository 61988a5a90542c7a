"""Beside deciding, on a whole governor: hand-overs, claims, comments; reminders that a worker delivers; working time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from governor_agents import Decision, Governor, PolicySet, Worker
from governor_agents.core import attending
from governor_agents.core.identity import Person
from governor_agents.core.records import Approval, CallState, Change, Run
from governor_agents.errors import AlreadyDecided, ArgumentsError, DeadlinePassed, DirectoryUnreadable, NotAnApprover
from governor_agents.stores.memory import MemoryStore
from governor_agents.testing import MovableClock

pytestmark = pytest.mark.anyio

HOUR = 3600.0
BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2026, 11, 30, 16, 0, tzinfo=BERLIN).timestamp()
POLICY = """\
version: 1
approvals:
  approvers: [ann, bob]
  channels: [card]
  deadline: 6h
  reminders: [1h, 3h]
  delegates: [dora]
rules:
  - {name: plain, tool: plain, then: require_approval}
  - name: working
    tool: working
    then: require_approval
    quiet_hours: {timezone: Europe/Berlin, from: "18:00", to: "08:00", days: [sat, sun]}
    stages: [{approvers: [ann], within: 3h}, {approvers: [bob]}]
"""


@dataclass
class Office:
    """A directory of a few people, which may be out of order."""

    broken: bool = False
    staff: dict[str, Person] = field(default_factory=dict)

    def person(self, address: str) -> Person | None:
        if self.broken:
            raise DirectoryUnreadable("the office is on fire")
        return next((person for person in self.staff.values() if address in person.names), None)

    def members(self, name: str) -> tuple[str, ...] | None:
        return None

    def stands_for(self, id: str, now: float) -> tuple[str, ...]:
        return ()

    def coordinator(self, id: str) -> bool:
        return id == "carla"


class Cards:
    """A channel that remembers what it was told, and what it then showed."""

    name = "card"

    def __init__(self) -> None:
        self.told: list[str] = []
        self.shown: list[Approval] = []

    async def start(self, desk: object) -> None: ...

    async def close(self) -> None: ...

    async def notify(self, approval: Approval, to: str = "") -> str:
        self.told.append("asked")
        self.shown.append(approval)
        return "card-1"

    async def update(self, approval: Approval, card: str, to: str = "") -> None:
        self.told.append("shown")
        self.shown.append(approval)


@dataclass
class Scene:
    """A governor on a store whose clock is moved by hand."""

    clock: MovableClock
    office: Office
    cards: Cards
    governor: Governor

    async def ask(self, tool: str = "plain") -> str:
        """An approval, asked for by rita."""
        act = self.governor.functions._known.get(tool) or self.governor.govern(name=tool, requester="rita")(_never)
        return (await act.ask()).approval

    async def work(self) -> list[str]:
        """What a worker tells now."""
        self.cards.told.clear()
        await Worker(self.governor).run(once=True)
        return list(self.cards.told)

    async def events(self, approval: str) -> list[dict[str, Any]]:
        """What the trail says of the call."""
        run = approval.rpartition(".")[0]
        return [line for line in await self.governor.timeline(run) if line["what"].startswith("call.")]


def _never() -> None:
    raise AssertionError("nobody approved it")


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    clock, office, cards = MovableClock(MONDAY), Office(), Cards()
    for name in ("ann", "bob", "dora", "carla", "rita"):
        office.staff[name] = Person(name, addresses=(f"{name}@example.com", f"slack:T1/{name}"))
    policies, store = PolicySet.from_text(POLICY), MemoryStore(clock=clock)
    async with Governor(policies, store=store, handlers={"card": cards}, people=office) as governor:
        yield Scene(clock, office, cards, governor)


async def test_hand_overs_by_any_address_of_anybody(scene: Scene) -> None:
    """Shared, then moved by a coordinator; each is an event, and the people who are asked are told."""
    id = await scene.ask()
    await scene.governor.delegate(id, to="slack:T1/dora", by="ann@example.com", channel="slack")
    assert (await scene.governor.approval(id)).people == ("ann", "dora", "bob")
    assert [each.id for each in await scene.governor.inbox(person="dora@example.com")] == [id]
    with pytest.raises(NotAnApprover, match="does not let a seat be handed to ann; it may go to: dora"):
        await scene.governor.reassign(id, seat="slack:T1/bob", to="ann", by="carla")
    other = await scene.ask()
    await scene.governor.reassign(other, seat="slack:T1/bob", to="dora@example.com", by="carla")
    assert (await scene.governor.approval(other)).people == ("ann", "dora")
    assert (await scene.governor.decide(id, Decision.approve(), by="dora")).calls[0].votes[0].seat == "ann"
    lines = await scene.events(id)
    assert [(line["what"], line.get("by", "")) for line in lines[1:]] == [
        ("call.delegated", "ann"),
        ("call.approved", "dora"),
    ]
    assert lines[1]["seat"] == "ann" and lines[1]["to"] == "dora" and lines[1]["channel"] == "slack"
    assert lines[2]["waited"] == 0.0 and lines[2]["standing"] == "delegate"


async def test_claims_and_comments_are_shown_and_decide_nothing(scene: Scene) -> None:
    """The card is shown anew for each; the digest stays, so whoever saw it before may decide."""
    id = await scene.ask()
    digest = (await scene.governor.approval(id)).call.digest
    assert await scene.work() == ["asked"]
    await scene.governor.take_up(id, by="ann@example.com")
    await scene.governor.comment(id, "is this the order of last week?", by="slack:T1/bob")
    assert await scene.work() == ["shown"], "one look shows both"
    call = scene.cards.shown[-1].call
    assert call.taken_up is not None and (call.taken_up.by, call.comments[0].by) == ("ann", "bob")
    await scene.governor.take_up(id, by="ann", release=True)
    assert await scene.work() == ["shown"]
    scene.clock.move(30.0)
    run = await scene.governor.decide(id, Decision.reject("no"), by="bob", digest=digest)
    assert run.calls[0].state is CallState.REJECTED
    line = (await scene.events(id))[-1]
    assert line["waited"] == 30.0 and line["after_shown"] == 30.0


async def test_who_has_no_part_in_it_is_refused_and_noted(scene: Scene) -> None:
    """Strangers, whoever asked, what is over, what is no comment, and a directory that cannot be read."""
    id = await scene.ask()
    with pytest.raises(NotAnApprover):
        await scene.governor.comment(id, "hello", by="eve@example.com")
    with pytest.raises(NotAnApprover, match="separation of duties"):
        await scene.governor.delegate(id, to="dora", by="slack:T1/rita")
    with pytest.raises(ArgumentsError):
        await scene.governor.comment(id, "x" * 3_000, by="ann")
    scene.office.broken = True
    with pytest.raises(DirectoryUnreadable):
        await scene.governor.take_up(id, by="ann")
    scene.office.broken = False
    await scene.governor.decide(id, Decision.reject("no"), by="ann")
    with pytest.raises(AlreadyDecided, match="rejected by ann"):
        await scene.governor.take_up(id, by="bob")
    late = await scene.ask()
    scene.clock.move(7 * HOUR)
    with pytest.raises(DeadlinePassed):
        await scene.governor.comment(late, "wait", by="ann")
    assert (await scene.governor.approval(late)).call.state is CallState.EXPIRED, "what was told holds"
    await scene.governor.audit.refusals.flush()
    lines = await scene.governor.audit.newest(security=True)
    noted = [(line["what"], line["asked"]) for line in lines]
    assert ("refused.not_an_approver", "comment") in noted and ("refused.not_an_approver", "delegate") in noted
    assert ("refused.directory_unreadable", "take_up") in noted and ("refused.already_decided", "take_up") in noted


async def test_a_worker_reminds_and_then_no_more(scene: Scene) -> None:
    """At the times that were fixed when it was asked; those that were missed once; none when it is decided."""
    id = await scene.ask()
    assert await scene.work() == ["asked"]
    scene.clock.move(HOUR - 1)
    assert await scene.work() == []
    scene.clock.move(2.0)
    assert await scene.work() == ["asked"]
    assert await scene.work() == []
    await scene.governor.decide(id, Decision.reject("no"), by="ann")
    assert await scene.work() == ["shown"]
    scene.clock.move(4 * HOUR)
    assert await scene.work() == []
    assert [line["what"] for line in await scene.events(id)] == ["call.asked", "call.reminded", "call.rejected"]


async def test_a_worker_that_forgets_to_remind_is_found_out(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: time passes, and nobody hears of it."""
    monkeypatch.setattr("governor_agents.core.driving.remind", lambda run, now: Change(run))
    await scene.ask()
    assert await scene.work() == ["asked"]
    run = (await scene.governor.inbox())[0].run
    due = attending.remind(run, scene.clock.move(HOUR + 1)).events
    assert [event.what for event in due] == ["call.reminded"]
    assert (await scene.governor.get(run.id)).calls[0].reminders == run.calls[0].reminders


async def test_deadlines_stages_and_reminders_count_working_time(scene: Scene) -> None:
    """Asked on Monday at 16:00, until 18:00 and from 08:00: three hours end on Tuesday at 09:00, six at 12:00."""
    id = await scene.ask("working")
    call = (await scene.governor.approval(id)).call
    assert (_clock(call.expires), _clock(call.stage_expires)) == ("01 12:00", "01 09:00")
    assert [_clock(at) for at in call.reminders] == ["30 17:00", "01 09:00"]
    scene.clock.move(MONDAY + 17 * HOUR - scene.clock() + 1)
    assert "asked" in await scene.work()
    after = (await scene.governor.approval(id)).call
    assert after.stage == 1 and after.expires == call.expires and after.quiet_hours == call.quiet_hours
    plain = (await scene.governor.approval(await scene.ask())).call
    assert plain.expires is not None and plain.expires - scene.clock() == 6 * HOUR, (
        "the control: hours that nobody calls quiet"
    )


def _clock(at: float | None) -> str:
    assert at is not None
    return datetime.fromtimestamp(at, BERLIN).strftime("%d %H:%M")


async def test_hours_of_a_changed_policy_move_nothing(scene: Scene) -> None:
    """They are kept with the call: what is asked again out of an old copy counts them too."""
    from governor_agents.core.quarantine import quarantine

    run = await scene.governor.get((await scene.ask("working")).rpartition(".")[0])
    anew = quarantine(run, MONDAY, epoch="e", by="op", stamp="s").run.calls[0]
    assert (anew.expires, anew.stage_expires) == (run.calls[0].expires, run.calls[0].stage_expires)
    bare = quarantine(run.with_call(replace(run.calls[0], quiet_hours=None)), MONDAY, epoch="e", by="op", stamp="s").run
    assert bare.calls[0].expires == MONDAY + 6 * HOUR


def test_each_has_a_blocking_twin() -> None:
    """From code without an event loop: the same, in one process."""
    with_sync = Governor(PolicySet.from_text(POLICY.replace("[card]", "[terminal]")), store="memory://")
    act = with_sync.govern(name="plain", requester="rita")(_never)
    id = act.ask_sync().approval
    try:
        with_sync.take_up_sync(id, by="ann")
        with_sync.comment_sync(id, "hm", by="ann")
        with_sync.delegate_sync(id, to="dora", by="ann")
        run: Run = with_sync.reassign_sync(id, seat="bob", to="bob", by="bob")
        assert (len(run.calls[0].comments), len(run.calls[0].handed)) == (1, 1)
    finally:
        with_sync.close_sync()
