"""Every decision in every situation has one verdict, the documented one; of 64 opposite votes at once, one wins."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, PolicySet, Worker
from governor_agents.adapters.functions import Governed, Pending
from governor_agents.core import decisions, driving
from governor_agents.core.binding import bind
from governor_agents.core.identity import Person
from governor_agents.core.records import CallState, Change, Run, RunState, evolve, split_approval_id
from governor_agents.core.telling import call_event
from governor_agents.errors import DecisionRefused, DirectoryUnreadable, GovernorError, NotFound
from governor_agents.stores import open_store
from tests.asking import Silent
from tests.faults.decision_table import COUNTS, DOCUMENT, KINDS, NAMES_WINNER, SAME, SITUATIONS, document
from tests.faults.voters import kind as kind_of
from tests.faults.voters import voter
from tests.stores import STORES
from tests.storm.broken import LastWriteWins

ROOT = Path(__file__).resolve().parents[2]
ALICE, BOB, CAROL, DAVE = "local:alice", "local:bob", "local:carol", "local:dave"
ROUNDS = 200 if os.environ.get("GOVERNOR_NIGHTLY") else 5
VOTERS, PROCESSES = 64, 4
VERBS = {"approve": "approved", "reject": "rejected", "edit": "edited and approved", "respond": "answered"}
OTHER = {"approve": "reject", "reject": "approve", "edit": "reject", "respond": "approve"}
POLICY = f"version: 1\napprovals: {{channels: [silent], approvers: [{ALICE}, {BOB}, {DAVE}]}}"


@dataclass
class Office:
    """A directory of a few people. Of one who is away, sam is the substitute."""

    away: tuple[str, ...] = ()
    broken: bool = False
    staff: dict[str, Person] = field(
        default_factory=lambda: {
            name: Person(name, addresses=(f"{name}@example.com", f"slack:T1/{name}"), service=name == "bot")
            for name in ("ann", "bob", "sam", "dora", "rita", "bot")
        }
    )

    def person(self, address: str) -> Person | None:
        if self.broken:
            raise DirectoryUnreadable("the office is on fire")
        return next((person for person in self.staff.values() if address in person.names), None)

    def members(self, name: str) -> tuple[str, ...] | None:
        return {"group:two": ("ann", "bob"), "group:all": tuple(self.staff)}.get(name)

    def stands_for(self, id: str, now: float) -> tuple[str, ...]:
        return self.away if id == "sam" else ()

    def coordinator(self, id: str) -> bool:
        return False


def made(kind: str, *, reason: str = "because", more: str = "") -> Decision:
    """A decision of this kind; ``more`` makes it differ from another one of its kind."""
    match kind:
        case "approve":
            return Decision.approve(reason)
        case "reject":
            return Decision.reject(reason)
        case "edit":
            return Decision.edit({"amount": 7, "to": f"x{more}"}, reason)
    return Decision.respond(f"I did it{more}", reason)


@dataclass(slots=True)
class Scene:
    """A governor, its governed function, and a second tenant in the same store."""

    governor: Governor
    pay: Governed
    strict: Governed
    brief: Governed
    elsewhere: Governor
    began: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[int]] = field(default_factory=list)
    office: Office = field(default_factory=lambda: Office())
    staffed: Governor | None = None

    async def ask(self) -> Pending:
        """A call that waits."""
        return await self.pay.ask(amount=5, to="x")

    async def decided(self, kind: str, by: str = ALICE) -> str:
        """An approval that somebody decided."""
        asked = await self.ask()
        await self.governor.decide(asked.approval, made(kind), by=by)
        return asked.approval

    async def executing(self) -> Pending:
        """A call whose tool runs."""
        asked = await self.ask()
        await self.governor.decide(asked.approval, made("approve"), by=ALICE)
        self.tasks.append(asyncio.create_task(Worker(self.governor).run(once=True)))
        await self.began.wait()
        return asked


@pytest.fixture(params=STORES)
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    """A fresh store."""
    url = STORES[request.param](tmp_path)
    governor = Governor(PolicySet.from_text(POLICY), store=url, handlers={"silent": Silent()})
    elsewhere = Governor(PolicySet.from_text(POLICY), store=url, tenant="other", handlers={"silent": Silent()})

    async def pay(amount: int, to: str) -> str:
        made_scene.began.set()
        await made_scene.may_end.wait()
        return "paid"

    made_scene = Scene(
        governor,
        governor.govern(name="pay", requester=DAVE)(pay),
        governor.govern(name="strict", reason_required=True, approvers=[ALICE])(pay),
        governor.govern(name="brief", deadline=0.001, approvers=[ALICE, BOB])(pay),
        elsewhere,
    )
    await elsewhere.open()
    yield made_scene
    made_scene.may_end.set()
    await asyncio.gather(*made_scene.tasks)
    if made_scene.staffed is not None:
        await made_scene.staffed.close()
    await governor.close()
    await elsewhere.close()


Cast = tuple[str, str, Decision, str | None]
"""Approval, person, decision, and the digest that the person saw (None: the present one)."""


async def pending(scene: Scene, kind: str) -> Cast:
    return (await scene.ask()).approval, BOB, made(kind), None


async def same_again(scene: Scene, kind: str) -> Cast:
    return await scene.decided(kind), ALICE, made(kind), None


async def same_by_another(scene: Scene, kind: str) -> Cast:
    return await scene.decided(kind), BOB, made(kind), None


async def opposite(scene: Scene, kind: str) -> Cast:
    return await scene.decided(OTHER[kind]), BOB, made(kind), None


async def other_bytes(scene: Scene, kind: str) -> Cast:
    before = kind if kind in ("edit", "respond") else OTHER[kind]
    return await scene.decided(before), ALICE, made(kind, more="!"), None


async def stale_digest(scene: Scene, kind: str) -> Cast:
    asked = await scene.ask()
    seen = (await scene.governor.approval(asked.approval)).call.digest
    await scene.governor.loop.bridge(scene.governor.runs.change(asked.run, _edited))
    return asked.approval, BOB, made(kind), seen


def _edited(run: Run, now: float) -> Change:
    """Other bytes, and it still waits: what somebody from a later stage does to it."""
    call = run.calls[-1]
    edited = bind(run, evolve(call, args=b'{"amount":6,"to":"x"}', asked_args=call.args))
    return Change(run.with_call(edited), (call_event(edited, "call.edited"),))


async def after_expiry(scene: Scene, kind: str) -> Cast:
    asked = await scene.brief.ask(amount=5, to="x")
    expires = (await scene.governor.approval(asked.approval)).call.expires
    assert expires is not None
    while await scene.governor.loop.bridge(scene.governor.runs.now()) < expires:  # noqa: ASYNC110  the clock of the store
        await asyncio.sleep(0)
    return asked.approval, ALICE, made(kind), None


async def after_cancel(scene: Scene, kind: str) -> Cast:
    asked = await scene.ask()
    await scene.governor.cancel(asked.run, by=ALICE, reason="not needed")
    return asked.approval, BOB, made(kind), None


async def superseded(scene: Scene, kind: str) -> Cast:
    asked = await scene.ask()
    await scene.governor.cancel(asked.run, by=DAVE, superseded=True)
    return asked.approval, BOB, made(kind), None


async def while_executing(scene: Scene, kind: str) -> Cast:
    return (await scene.executing()).approval, BOB, made(kind), None


async def in_doubt(scene: Scene, kind: str) -> Cast:
    asked = await scene.executing()
    much_later = lambda run, now: driving.tick(run, now + 1000.0)  # noqa: E731
    run = (await scene.governor.loop.bridge(scene.governor.runs.change(asked.run, much_later))).run
    assert run.state is RunState.BLOCKED and run.calls[-1].state is CallState.UNKNOWN
    return asked.approval, BOB, made(kind), None


async def after_done(scene: Scene, kind: str) -> Cast:
    scene.may_end.set()
    asked = await scene.executing()
    run = await scene.governor.wait(asked.run, timeout=60.0, until=lambda run: run.state.ended and not run.outbox)
    assert run.calls[-1].state is CallState.SUCCEEDED
    return asked.approval, BOB, made(kind), None


async def not_asked(scene: Scene, kind: str) -> Cast:
    return (await scene.ask()).approval, CAROL, made(kind), None


async def asked_for_it(scene: Scene, kind: str) -> Cast:
    return (await scene.ask()).approval, DAVE, made(kind), None


async def no_reason(scene: Scene, kind: str) -> Cast:
    return (await scene.strict.ask(amount=5, to="x")).approval, ALICE, made(kind, reason=""), None


async def staffed(scene: Scene, approvers: str = "group:two", *, quorum: int = 1) -> str:
    """An approval in an office with a directory, asked for by rita."""
    url, requester = scene.governor.store.url, "rita@example.com"
    scene.staffed = Governor(PolicySet.from_text(POLICY), store=url, handlers={"silent": Silent()}, people=scene.office)
    rule = {"approvers": [approvers], "quorum": quorum, "delegates": ["dora"], "requester": requester}
    asked = await scene.staffed.govern(name="pay", **rule)(scene.pay._function).ask(amount=5, to="x")
    return asked.approval


async def substitute(scene: Scene, kind: str) -> Cast:
    scene.office.away = ("ann",)
    return await staffed(scene), "slack:T1/sam", made(kind), None


async def back_again(scene: Scene, kind: str) -> Cast:
    return await staffed(scene), "slack:T1/sam", made(kind), None


async def for_whoever_asked(scene: Scene, kind: str) -> Cast:
    scene.office.away = ("rita",)
    return await staffed(scene, "rita"), "slack:T1/sam", made(kind), None


async def under_another_name(scene: Scene, kind: str) -> Cast:
    return await staffed(scene, "group:all"), "slack:T1/rita", made(kind), None


async def delegate(scene: Scene, kind: str) -> Cast:
    approval = await staffed(scene)
    await desk_of(scene).delegate(approval, to="slack:T1/dora", by="ann@example.com")
    return approval, "dora@example.com", made(kind), None


async def moved_away(scene: Scene, kind: str) -> Cast:
    approval = await staffed(scene)
    await desk_of(scene).reassign(approval, seat="ann@example.com", to="dora", by="ann")
    return approval, "ann@example.com", made(kind), None


async def seat_filled(scene: Scene, kind: str) -> Cast:
    scene.office.away = ("ann",)
    approval = await staffed(scene, quorum=2)
    await desk_of(scene).decide(approval, made("approve"), by="sam@example.com")
    return approval, "ann@example.com", made(kind), None


async def service(scene: Scene, kind: str) -> Cast:
    return await staffed(scene, "group:all"), "slack:T1/bot", made(kind), None


async def left(scene: Scene, kind: str) -> Cast:
    approval = await staffed(scene)
    del scene.office.staff["ann"]
    return approval, "ann", made(kind), None


async def nobody_known(scene: Scene, kind: str) -> Cast:
    approval = await staffed(scene)
    scene.office.broken = True
    return approval, "ann@example.com", made(kind), None


async def taken_up(scene: Scene, kind: str) -> Cast:
    approval = await staffed(scene)
    await desk_of(scene).take_up(approval, by="bob@example.com")
    return approval, "ann@example.com", made(kind), None


def desk_of(scene: Scene) -> Governor:
    """Where people of the office decide; of the others where there is no office."""
    return scene.staffed or scene.governor


async def unknown_id(scene: Scene, kind: str) -> Cast:
    asked = await scene.ask()
    return asked.approval.replace("run_", "run_x"), BOB, made(kind), None


async def other_tenant(scene: Scene, kind: str) -> Cast:
    pay = scene.elsewhere.govern(name="pay")(scene.pay._function)
    return (await pay.ask(amount=5, to="x")).approval, BOB, made(kind), None


SETTING: dict[str, Callable[[Scene, str], Any]] = {name: globals()[name.replace(" ", "_")] for name in SITUATIONS}


async def standing(governor: Governor, approval: str) -> Run | None:
    """The run behind an approval."""
    parts = split_approval_id(approval)
    assert parts is not None
    with contextlib.suppress(NotFound):
        return await governor.get(parts[0])
    return None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("situation", SITUATIONS)
async def test_cell_of_the_table(scene: Scene, situation: str, kind: str) -> None:
    """The verdict is the documented one, and a decision that does not count leaves the record as it was."""
    approval, by, decision, digest = await SETTING[situation](scene, kind)
    before = await standing(scene.governor, approval)
    wanted = SITUATIONS[situation][1][kind]
    try:
        after: Run | None = await desk_of(scene).decide(approval, decision, by=by, digest=digest)
        assert after is not None
        given = SAME if before is not None and after.seq == before.seq else f"counts: {after.calls[-1].state}"
    except GovernorError as error:
        given, after = error.code, await standing(scene.governor, approval)
        if situation in NAMES_WINNER:
            assert re.search(rf"already ({'|'.join(VERBS.values())}) by {ALICE} at \d{{4}}-", str(error)), error
    assert given == wanted
    if situation == "after expiry":
        assert after is not None and after.calls[-1].state is CallState.EXPIRED, "what was told holds from then on"
    elif wanted not in COUNTS.values():
        assert before == after


async def test_unknown_and_foreign_approvals_sound_the_same(scene: Scene) -> None:
    """Who guesses ids learns nothing about other tenants."""
    said = []
    for setting in (unknown_id, other_tenant):
        approval, by, decision, _ = await setting(scene, "approve")
        with pytest.raises(NotFound) as refused:
            await scene.governor.decide(approval, decision, by=by)
        said.append(str(refused.value).replace(approval, "ID"))
    assert said[0] == said[1]


def test_document_says_what_the_table_says() -> None:
    """``docs/decisions.md`` is written from the data that is tried here."""
    assert DOCUMENT.read_text("utf-8") == document(), "run: python -m tests.faults.decision_table"


class Voters:
    """One process of voters."""

    def __init__(self, url: str, first: int, count: int) -> None:
        command = [sys.executable, "-m", "tests.faults.voters", url, str(first), str(count)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def say(self, line: str) -> None:
        """Give them an approval."""
        self._stdin.write(line + "\n")
        self._stdin.flush()

    def hear(self) -> str:
        """What they answer."""
        return self._stdout.readline().strip()

    def __enter__(self) -> Voters:
        return self

    def __exit__(self, *_: object) -> None:
        self._stdin.close()
        self._process.wait()
        self._stdout.close()


@pytest.mark.timeout(1800 if ROUNDS > 5 else 600)
@pytest.mark.parametrize("name", STORES)
def test_64_opposite_votes_have_one_winner(name: str, tmp_path: Path) -> None:
    """Four processes, two store objects each: one vote wins, the 63 others are told the same, and whose it was."""
    url = STORES[name](tmp_path)
    names = ", ".join(voter(n) for n in range(VOTERS))
    policy = f"version: 1\napprovals: {{channels: [silent], approvers: [{names}]}}"
    governor = Governor(PolicySet.from_text(policy), store=url)

    @governor.govern(name="pay")
    def pay(round: int) -> None:
        raise AssertionError("no worker runs here")

    won = set()
    with contextlib.ExitStack() as stack:
        stack.callback(governor.close_sync)
        governor.list_runs_sync()
        each = VOTERS // PROCESSES
        processes = [stack.enter_context(Voters(url, n * each, each)) for n in range(PROCESSES)]
        assert [process.hear() for process in processes] == ["ready"] * PROCESSES
        for round in range(ROUNDS):
            approval = pay.ask_sync(round).approval
            for process in processes:
                process.say(approval)
            won.add(one_winner(governor, approval, [vote for p in processes for vote in json.loads(p.hear())]))
    assert len(won) >= 1


def one_winner(governor: Governor, approval: str, votes: list[list[Any]]) -> int:
    """The number of the voter who won; asserts that everybody was told so, and that the record says so."""
    counted = [n for n, code, _ in votes if code == "counted"]
    assert len(votes) == VOTERS and len(counted) == 1, votes
    winner = counted[0]
    call = governor.approval_sync(approval).call
    assert [(vote.by, vote.kind) for vote in call.votes] == [(voter(winner), kind_of(winner))]
    verb = VERBS[kind_of(winner)]
    for n, code, said in votes:
        told = re.fullmatch(
            rf"{approval} was already {verb} by {voter(winner)} at .* UTC; your (\w+) does not count", said
        )
        assert n == winner or (code == "already_decided" and told is not None and told[1] == kind_of(n)), said
    again = Decision.approve("yes") if kind_of(winner) == "approve" else Decision.reject("no")
    before = governor.approval_sync(approval).run
    assert governor.decide_sync(approval, again, by=voter(winner)) == before
    with pytest.raises(DecisionRefused):
        governor.decide_sync(approval, again, by=voter((winner + 2) % VOTERS))
    return winner


# -- controls ---------------------------------------------------------------------------------------------------------


class Together(LastWriteWins):
    """Two votes come to their write at the same moment."""

    both = threading.Barrier(2)

    async def swap(self, record: Any, **rest: Any) -> Any:
        await asyncio.to_thread(self.both.wait)
        return await super().swap(record, **rest)


async def test_a_store_where_the_last_write_wins_is_found_out(tmp_path: Path) -> None:
    """The control of the race: without compare-and-set both votes are told that they count."""
    url = STORES["sqlite"](tmp_path)
    one, other = (
        Governor(PolicySet.from_text(POLICY), store=Together(open_store(url)))  # type: ignore[arg-type]
        for _ in range(2)
    )
    async with one, other:
        asked = await one.govern(name="pay")(_never).ask()
        first, second = await asyncio.gather(
            one.decide(asked.approval, made("approve"), by=ALICE),
            other.decide(asked.approval, made("reject"), by=BOB),
        )
        votes = [(0, "counted", ""), (1, "counted", "")]
        assert {first.calls[-1].state, second.calls[-1].state} == {CallState.APPROVED, CallState.REJECTED}
        with pytest.raises(AssertionError):
            one_winner(one, asked.approval, [list(vote) for vote in votes])


def _never() -> None:
    raise AssertionError("no worker runs here")


async def test_a_build_that_counts_late_votes_is_found_out(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the table: a build that forgets who was first gives another verdict in these cells."""
    monkeypatch.setattr(decisions, "after_the_fact", lambda run, *_: Change(run))
    for situation in NAMES_WINNER[:2]:
        with pytest.raises(AssertionError):
            await test_cell_of_the_table(scene, situation, "reject")
