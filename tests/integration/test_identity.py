"""[27] without Slack: who counts is whoever the directory knows at that moment, by proved addresses alone.

Each claim is tried on a whole governor, and again on one with a seeded fault, which the same trial must notice.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from governor_agents import Decision, Governor, PolicySet, guard
from governor_agents.core.identity import Voter
from governor_agents.core.records import CallState
from governor_agents.core.verdicts import Stage
from governor_agents.directory import PeopleFile
from governor_agents.errors import CallDenied, DecisionRefused, DirectoryUnreadable
from governor_agents.identities import Identities
from governor_agents.policies.joined import Joined
from governor_agents.stores.memory import MemoryStore
from governor_agents.testing import MovableClock
from governor_agents.worker import Worker
from tests.integration.desk import ALLOW, FRAMEWORKS, Desk

pytestmark = pytest.mark.anyio

PEOPLE = """\
version: 1
timezone: Europe/Berlin
people:
  alice: {name: Alex Kim, slack: T01/U02, email: alice@example.com, local: alice}
  bob: {name: Alex Kim, slack: T01/U03, email: bob@example.com, oidc: b0b}
  carol: {name: Carol Diaz, slack: T01/U04, email: carol@example.com, roles: [cfo]}
  dan: {name: Dan Wu, slack: T01/U05, away: {from: 2026-12-21, until: 2026-12-27, substitute: carol}}
  nightly: {local: nightly, service: true}
groups:
  finance: [alice, nightly]
  nobody: []
coordinators: []
"""
POLICY = """\
version: 1
approvals: {approvers: [group:finance], channels: [terminal], deadline: 300d}
rules:
  - {name: two, tool: two, then: require_approval, approvers: [alice, "slack:T01/U02", bob], quorum: 2}
  - {name: stages, tool: stages, then: require_approval, stages: [{approvers: [alice, carol]}, {approvers: ["slack:T01/U02", bob]}]}
  - {name: empty, tool: empty, then: require_approval, approvers: [group:nobody]}
  - {name: dan, tool: dan, then: require_approval, approvers: [dan]}
  - {name: bob, tool: bob, then: require_approval, approvers: [bob, alice]}
  - {name: hand, tool: hand, then: require_approval, approvers: [alice], delegates: [bob, dan, nightly]}
  - {name: raw, tool: raw, then: require_approval, approvers: [guest@example.com]}
"""
BERLIN = ZoneInfo("Europe/Berlin")


class Office:
    """A governor with a people file, on a store whose clock is moved by hand."""

    def __init__(self, folder: Path, store: MemoryStore, clock: MovableClock) -> None:
        self.file, self.clock = folder / "people.yaml", clock
        self.people(PEOPLE)
        policies = PolicySet.from_text(POLICY, directory=PeopleFile(self.file))
        self.governor = Governor(policies, store=store)
        self.ran: list[str] = []

    def people(self, text: str) -> None:
        """Replace the people file."""
        beside = self.file.with_suffix(".new")
        beside.write_text(text)
        beside.replace(self.file)

    async def ask(self, tool: str = "pay", requester: str = "eve@example.com") -> str:
        """Ask for a call; the approval."""
        name = f"{tool}"
        known = self.governor.functions._known.get(name)
        if known is None or known._requester != requester:
            self.governor.functions._known.pop(name, None)

            def act() -> str:
                self.ran.append(name)
                return "done"

            known = self.governor.govern(name=name, requester=requester)(act)
        return str((await known.ask()).approval)

    async def counts(self, id: str, by: str) -> bool:
        """Whether an approval by this address is taken."""
        try:
            await self.governor.decide(id, Decision.approve("fine"), by=by)
        except DecisionRefused:
            return False
        return True

    async def state(self, id: str) -> CallState:
        """Where the call stands."""
        return (await self.governor.approval(id)).call.state


@asynccontextmanager
async def office(folder: Path) -> AsyncIterator[Office]:
    clock = MovableClock(datetime(2026, 12, 1, 12, tzinfo=BERLIN).timestamp())
    made = Office(folder, MemoryStore(clock=clock), clock)
    try:
        yield made
    finally:
        await made.governor.close()


# -- the actors -------------------------------------------------------------------------------------------------------

ACTORS = {
    "listed": "slack:T01/U02",
    "unlisted": "slack:T01/U04",
    "same display name": "slack:T01/U03",
    "the display name itself": "Alex Kim",
    "other team": "slack:T02/U02",
    "without its team": "slack:U02",
    "stranger": "mallory@example.com",
    "bot": "local:nightly",
    "bot by id": "nightly",
    "deleted": "slack:T01/U09",
    "deleted, by id": "zoe",
    "old e-mail address": "alice.old@example.com",
    "look-alike e-mail": "alice@exam\u0440le.com",
    "nobody": "",
    "a group": "group:finance",
    "a role": "role:cfo",
}
"""Who tries to approve what group:finance is asked for, which is alice and a service."""

BEFORE = PEOPLE.replace("alice@example.com", "alice.old@example.com").replace(
    "  carol:", "  zoe: {name: Zoe, slack: T01/U09}\n  carol:"
).replace("[alice, nightly]", "[alice, zoe, nightly]")  # fmt: skip
"""The people file when the request was made: alice's address and zoe have gone since."""


async def taken(office: Office) -> list[str]:
    """The actors whose approval of one and the same request is taken; each tries a request of its own."""
    found = []
    for actor, address in ACTORS.items():
        office.people(BEFORE)
        id = await office.ask()
        office.people(PEOPLE)
        if await office.counts(id, address):
            found.append(actor)
    return found


async def test_exactly_one_actor_counts(tmp_path: Path) -> None:
    """Of all who could be taken for an approver, the one who is."""
    async with office(tmp_path) as made:
        assert await taken(made) == ["listed"]


def by_display_name(self: Identities, address: str, now: float) -> Voter:
    """A fault: people are told apart by what they call themselves."""
    found = _voter(self, address, now)
    named = {"bob": "alice", "Alex Kim": "alice"}
    return replace(found, names=(*found.names, named[found.id])) if found.id in named else found


def by_user_alone(self: Identities, address: str, now: float) -> Voter:
    """A fault: the team of a Slack user is not looked at."""
    return _voter(self, f"slack:T01/{address[-3:]}" if address.startswith("slack:") else address, now)


def ids_for_themselves(self: Identities, address: str, now: float) -> Voter:
    """A fault: an id that the directory does not know stands for itself."""
    found = _voter(self, address, now)
    return found if found.names else Voter.plain(address)


def no_services(self: Identities, address: str, now: float) -> Voter:
    """A fault: a service is a person like others."""
    found = _voter(self, address, now)
    return replace(found, service=False, names=(*found.names, "alice") if found.service else found.names)


_voter = Identities.voter


@pytest.mark.parametrize(
    ("fault", "caught"),
    [
        (by_display_name, {"same display name", "the display name itself"}),
        (by_user_alone, {"other team", "without its team"}),
        (ids_for_themselves, {"deleted, by id"}),
        (no_services, {"bot", "bot by id"}),
    ],
)
async def test_the_actors_notice_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., Voter], caught: set[str]
) -> None:
    """The same trial on a governor that takes people for others finds it."""
    monkeypatch.setattr(Identities, "voter", fault)
    async with office(tmp_path) as made:
        assert caught <= set(await taken(made))


async def test_a_directory_that_is_not_read_again_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deleted person and the old address would go on counting."""
    async with office(tmp_path) as made:
        made.people(BEFORE)
        stale = made.governor.identities.directory.people()  # type: ignore[union-attr]
        monkeypatch.setattr(PeopleFile, "people", lambda self: stale)
        assert {"deleted", "deleted, by id", "old e-mail address"} <= set(await taken(made))


# -- one claim each ---------------------------------------------------------------------------------------------------


async def test_a_changed_address_works_at_once(tmp_path: Path) -> None:
    """The new one counts for a request that was made before, the old one does not any more."""
    async with office(tmp_path) as made:
        id = await made.ask()
        made.people(PEOPLE.replace("alice@example.com", "a.kim@example.com"))
        assert not await made.counts(id, "alice@example.com")
        assert await made.counts(id, "A.Kim@example.com") and await made.state(id) is CallState.APPROVED


@pytest.mark.parametrize("requester", ["alice", "slack:T01/U02", "alice@example.com"])
@pytest.mark.parametrize("by", ["alice", "slack:T01/U02", "alice@example.com", "local:alice", "kim@example.com"])
async def test_whoever_asked_cannot_decide_under_another_name(tmp_path: Path, requester: str, by: str) -> None:
    """Not by an address that came later either, nor after the one under which they asked is gone."""
    async with office(tmp_path) as made:
        id = await made.ask("bob", requester)
        assert not await made.counts(id, by)
        made.people(PEOPLE.replace("alice@example.com", "kim@example.com"))
        assert not await made.counts(id, by)
        made.people(PEOPLE)
        assert await made.counts(id, "bob")  # the request was a good one


async def test_an_empty_list_is_nobody(tmp_path: Path) -> None:
    """A demand of an empty group is denied; a group that is emptied later leaves nobody who could."""
    async with office(tmp_path) as made:
        with pytest.raises(CallDenied, match="nobody could approve it"):
            await made.ask("empty")
        id = await made.ask()
        made.people("version: 1\n")
        assert not any([await made.counts(id, by) for by in (*ACTORS.values(), "alice")])
        with pytest.raises(CallDenied, match="nobody could approve it"):
            await made.ask()


async def test_one_human_counts_once(tmp_path: Path) -> None:
    """Two addresses are no quorum of two, and no two stages."""
    async with office(tmp_path) as made:
        two = await made.ask("two")
        assert (await made.governor.approval(two)).people == ("alice", "bob")
        assert await made.counts(two, "alice") and await made.counts(two, "slack:T01/U02")
        assert await made.state(two) is CallState.PENDING
        assert await made.counts(two, "oidc:b0b") and await made.state(two) is CallState.APPROVED
        stages = await made.ask("stages")
        assert await made.counts(stages, "alice@example.com") and not await made.counts(stages, "local:alice")
        assert await made.counts(stages, "bob") and await made.state(stages) is CallState.APPROVED


@pytest.mark.parametrize(
    ("day", "counts"), [((2026, 12, 20, 23, 59), False), ((2026, 12, 21), True), ((2026, 12, 27, 23, 59), True), ((2026, 12, 28), False)]
)  # fmt: skip
async def test_a_substitute_counts_only_while_somebody_is_away(
    tmp_path: Path, day: tuple[int, ...], counts: bool
) -> None:
    """By the store's clock, whatever this machine says; the one who is away may decide all the while."""
    async with office(tmp_path) as made:
        id = await made.ask("dan")
        made.clock.move(datetime(*day, tzinfo=BERLIN).timestamp() - made.clock())  # type: ignore[arg-type, misc]
        assert not await made.counts(id, "alice")
        assert await made.counts(id, "carol@example.com") is counts
        call = (await made.governor.approval(id)).call
        assert [(vote.by, vote.seat) for vote in call.votes] == ([("carol", "dan")] if counts else [])
        if not counts:
            assert await made.counts(id, "slack:T01/U05")


async def test_a_substitute_does_not_decide_for_whoever_asked(tmp_path: Path) -> None:
    """Dan asked, dan is away: carol may not approve in his place; and carol may not approve what carol asked for."""
    async with office(tmp_path) as made:
        made.clock.move(datetime(2026, 12, 24, tzinfo=BERLIN).timestamp() - made.clock())
        assert not await made.counts(await made.ask("dan", "dan"), "carol")
        assert not await made.counts(await made.ask("dan", "slack:T01/U05"), "carol")
        assert not await made.counts(await made.ask("dan", "carol@example.com"), "carol")
        assert await made.counts(await made.ask("dan"), "carol")


async def test_a_substitute_named_later_counts(tmp_path: Path) -> None:
    """Who stands for whom is looked up when the vote comes, and is over when the entry is removed."""
    async with office(tmp_path) as made:
        id = await made.ask("dan")
        away = "away: {from: 2026-11-30, until: 2026-12-02, substitute: bob}"
        made.people(PEOPLE.replace("away: {from: 2026-12-21, until: 2026-12-27, substitute: carol}", away))
        other = await made.ask("dan")
        assert await made.counts(other, "bob")
        made.people(PEOPLE)
        assert not await made.counts(id, "bob")


async def test_an_address_that_no_directory_knows_means_itself(tmp_path: Path) -> None:
    """Simple approvers go on working beside a directory."""
    async with office(tmp_path) as made:
        id = await made.ask("raw")
        assert not await made.counts(id, "alice")
        assert await made.counts(id, "Guest@Example.com") and await made.state(id) is CallState.APPROVED


@pytest.mark.parametrize("by", ["carol", "slack:T01/U04", "alice", "local:alice"])
async def test_a_coordinator_or_the_approver_may_reassign(tmp_path: Path, by: str) -> None:
    """To one of the policy's delegates, under any names; then that person decides, and the approver no more."""
    async with office(tmp_path) as made:
        made.people(PEOPLE.replace("coordinators: []", "coordinators: [carol]"))
        id = await made.ask("hand")
        await made.governor.reassign(id, seat="alice@example.com", to="slack:T01/U03", by=by)
        assert not await made.counts(id, "alice") and not await made.counts(id, "carol")
        assert await made.counts(id, "oidc:b0b") and await made.state(id) is CallState.APPROVED


@pytest.mark.parametrize(
    ("by", "to"),
    [
        ("carol", "bob"),  # no coordinator in this file
        ("bob", "dan"),
        ("eve@example.com", "bob"),
        ("nightly", "bob"),
        ("zoe", "bob"),
        ("alice", "carol"),  # not among the delegates
        ("alice", "nightly"),
        ("alice", "slack:T01/U09"),
    ],
)
async def test_nobody_else_may_hand_a_seat_on(tmp_path: Path, by: str, to: str) -> None:
    """Neither delegate nor reassign: not by others, and not to others than the policy and the directory allow."""
    async with office(tmp_path) as made:
        id = await made.ask("hand")
        with pytest.raises(DecisionRefused):
            await made.governor.reassign(id, seat="alice", to=to, by=by)
        with pytest.raises(DecisionRefused):
            await made.governor.delegate(id, to=to, by=by)
        assert (await made.governor.approval(id)).call.handed == ()
        made.people(PEOPLE.replace("coordinators: []", "coordinators: [carol]"))
        if to == "bob" and by == "carol":
            await made.governor.reassign(id, seat="alice", to=to, by=by)


async def test_a_seat_is_not_handed_to_whoever_asked(tmp_path: Path) -> None:
    """Bob asked by mail; alice cannot hand her seat to bob under another name."""
    async with office(tmp_path) as made:
        id = await made.ask("hand", "bob@example.com")
        for to in ("bob", "slack:T01/U03", "oidc:b0b"):
            with pytest.raises(DecisionRefused):
                await made.governor.delegate(id, to=to, by="alice")
        await made.governor.delegate(id, to="dan", by="alice")
        assert await made.counts(id, "slack:T01/U05")


async def test_nothing_is_handed_on_while_the_directory_is_broken(tmp_path: Path) -> None:
    """Nor claimed, nor commented: nobody can say who speaks."""
    async with office(tmp_path) as made:
        id = await made.ask("hand")
        made.people("people: broken")
        for word in (
            made.governor.delegate(id, to="bob", by="alice"),
            made.governor.reassign(id, seat="alice", to="bob", by="alice"),
            made.governor.take_up(id, by="alice"),
            made.governor.comment(id, "hm", by="alice"),
        ):
            with pytest.raises(DirectoryUnreadable):
                await word


async def test_an_edit_asks_the_stage_that_its_arguments_are_for(tmp_path: Path) -> None:
    """Alice raises the amount beyond what she may decide alone: the cfo is asked too, and lowering it back lets none out."""
    async with office(tmp_path) as made:
        stages = [Stage(("alice",)), Stage(("role:cfo",), when="call.args.amount > 10000")]

        def pay(amount: int) -> str:
            made.ran.append(f"paid {amount}")
            return "paid"

        governed = made.governor.govern(name="transfer", requester="eve@example.com", stages=stages)(pay)
        id = (await governed.ask(5)).approval
        assert [stage.people for stage in (await made.governor.approval(id)).call.stages] == [("alice",)]
        await made.governor.decide(id, Decision.edit({"amount": 10_001}), by="slack:T01/U02")
        call = (await made.governor.approval(id)).call
        assert [stage.people for stage in call.stages] == [("alice",), ("carol",)] and call.state is CallState.PENDING
        assert not await made.counts(id, "alice")
        await made.governor.decide(id, Decision.edit({"amount": 7}), by="carol@example.com")
        assert await made.state(id) is CallState.PENDING and await made.counts(id, "alice")
        assert not await made.counts(id, "bob") and await made.state(id) is CallState.PENDING
        assert await made.counts(id, "carol") and await made.state(id) is CallState.APPROVED
        await worked(made)
        assert made.ran == ["paid 7"]


# -- a directory that cannot be read ----------------------------------------------------------------------------------


async def test_nobody_decides_while_the_directory_is_broken(tmp_path: Path) -> None:
    """The request waits, the refusal is written down, and the mended file works without a restart."""
    async with office(tmp_path) as made:
        id = await made.ask()
        made.people("people: broken")
        for by in ("alice", "slack:T01/U02", "guest@example.com"):
            with pytest.raises(DirectoryUnreadable):
                await made.governor.decide(id, Decision.approve(), by=by)
        with pytest.raises(CallDenied):
            await made.ask()
        with pytest.raises(DirectoryUnreadable):
            await made.governor.inbox(person="alice")
        assert await made.state(id) is CallState.PENDING
        made.people(PEOPLE)
        assert await made.counts(id, "alice") and await made.state(id) is CallState.APPROVED


async def worked(made: Office, times: int = 4) -> None:
    """Let a worker do all that is due, at several times."""
    for _ in range(times):
        await Worker(made.governor).run(once=True)
        made.clock.move(61.0)


async def test_an_approved_call_waits_for_a_broken_directory(tmp_path: Path) -> None:
    """It neither runs nor is cancelled; mended, it runs once."""
    async with office(tmp_path) as made:
        id = await made.ask()
        assert await made.counts(id, "alice")
        made.people("people: broken")
        await worked(made)
        assert made.ran == [] and await made.state(id) is CallState.APPROVED
        made.people(PEOPLE)
        await worked(made)
        assert made.ran == ["pay"] and await made.state(id) is CallState.SUCCEEDED


async def test_an_approved_call_waits_when_the_directory_breaks_under_a_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same when the run was in hand already: it is given back, and neither runs nor is cancelled."""
    async with office(tmp_path) as made:
        id = await made.ask()
        assert await made.counts(id, "alice")
        monkeypatch.setattr(PolicySet, "check_people", lambda self: made.people("people: broken"))
        await worked(made, 2)
        assert made.ran == [] and await made.state(id) is CallState.APPROVED
        monkeypatch.undo()
        made.people(PEOPLE)
        await worked(made)
        assert made.ran == ["pay"]


async def test_what_is_allowed_runs_without_the_directory(tmp_path: Path) -> None:
    """A broken people file stops what people decide, and nothing else."""
    async with office(tmp_path) as made:
        made.governor.policies.add_rule(name="free", tool="free", then="allow")

        def free() -> str:
            return "ran"

        governed = made.governor.govern(name="free")(free)
        made.people("people: broken")
        assert governed() == "ran"


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_an_agent_goes_on_with_what_is_allowed(tmp_path: Path, framework: str) -> None:
    """In each framework, by a durable run of its own."""
    path = tmp_path / "people.yaml"
    path.write_text(PEOPLE)
    async with (here := Desk(framework, f"sqlite:///{tmp_path}/g.db", say=ALLOW, people=path)).governor:
        path.write_text("people: broken")
        await (here.call() if framework == "functions" else here.ask())
        assert len(here.ran) == 1


async def test_an_approval_by_somebody_who_left_does_not_run(tmp_path: Path) -> None:
    """Removed between the decision and the start: people are asked again, and somebody who is there decides."""
    async with office(tmp_path) as made:
        id = await made.ask()
        assert await made.counts(id, "alice")
        made.people(PEOPLE.replace("[alice, nightly]", "[bob]"))
        await worked(made)
        assert made.ran == [] and await made.state(id) is CallState.PENDING
        await made.counts(id, "alice")  # saying the same again is no error, and fills no seat
        await worked(made)
        assert made.ran == [] and await made.state(id) is CallState.PENDING
        assert await made.counts(id, "bob")
        await worked(made)
        assert made.ran == ["pay"]


async def test_a_vote_by_an_address_that_changes_still_counts(tmp_path: Path) -> None:
    """The vote is the person's, not the address's: alice who approved by mail is alice when the call starts."""
    async with office(tmp_path) as made:
        id = await made.ask()
        assert await made.counts(id, "alice@example.com")
        made.people(PEOPLE.replace("alice@example.com", "a.kim@example.com"))
        await worked(made)
        assert made.ran == ["pay"] and await made.state(id) is CallState.SUCCEEDED


async def test_a_substitute_who_approved_counts_after_the_absence(tmp_path: Path) -> None:
    """It was a good approval when it was given; that dan is back does not undo it."""
    async with office(tmp_path) as made:
        made.clock.move(datetime(2026, 12, 27, 23, 50, tzinfo=BERLIN).timestamp() - made.clock())
        id = await made.ask("dan")
        assert await made.counts(id, "carol")
        made.clock.move(3600.0)
        await worked(made)
        assert made.ran == ["dan"], await made.state(id)


# -- the same trials notice a fault -----------------------------------------------------------------------------------


async def test_a_requester_with_one_name_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were whoever asked known by the one name alone, another address of theirs would do."""
    monkeypatch.setattr(Joined, "named", lambda self, verdict, requester: verdict)
    monkeypatch.setattr(Identities, "names", lambda self, address: (address,))
    monkeypatch.setattr(
        Identities, "voter", lambda self, address, now: replace(_voter(self, address, now), names=(address,))
    )
    async with office(tmp_path) as made:
        id = await made.ask("raw", "alice@example.com")
        made.people(PEOPLE.replace("email: alice", "email: guest"))
        assert await made.counts(id, "guest@example.com")
    monkeypatch.undo()
    async with office(tmp_path) as made:
        id = await made.ask("raw", "local:alice")
        made.people(PEOPLE.replace("email: alice", "email: guest"))
        assert not await made.counts(id, "guest@example.com")


async def test_a_substitute_for_ever_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were absences not looked at, carol would decide for dan today."""
    monkeypatch.setattr(PeopleFile, "stands_for", lambda self, id, now: ("dan",) if id == "carol" else ())
    async with office(tmp_path) as made:
        assert await made.counts(await made.ask("dan"), "carol")


async def test_a_directory_that_is_believed_while_broken_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the last good file kept, alice would count while nobody can say whether she is there."""
    async with office(tmp_path) as made:
        id = await made.ask()
        known = made.governor.identities.directory.people()  # type: ignore[union-attr]
        made.people("people: broken")
        assert not await made.counts(id, "alice")
        monkeypatch.setattr(PeopleFile, "people", lambda self: known)
        assert await made.counts(id, "alice")


async def test_a_claim_that_does_not_ask_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the directory not asked for before the intent, a file that is broken for a minute would undo an approval."""
    monkeypatch.setattr(PolicySet, "check_people", lambda self: None)
    monkeypatch.setattr(guard, "DIRECTORY_UNREADABLE", "something else")
    async with office(tmp_path) as made:
        id = await made.ask()
        assert await made.counts(id, "alice")
        made.people("people: broken")
        await worked(made)
        assert made.ran == [] and await made.state(id) is CallState.CANCELLED


def test_the_trials_are_of_the_actors_that_are_meant() -> None:
    """A list that shrinks would make the count a lie."""
    needed: Any = {"listed", "unlisted", "same display name", "other team", "bot", "deleted", "old e-mail address"}
    assert needed <= set(ACTORS) and len(ACTORS) >= 14
