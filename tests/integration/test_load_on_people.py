"""The load on people [30]: one card for identical calls, requests held beyond a limit, limits exact over processes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, Worker
from governor_agents.clearing import Clearing
from governor_agents.core.channels import Desk, Place
from governor_agents.core.records import Approval, CallState
from governor_agents.handlers.message import HELD, Message
from governor_agents.limits import Limits
from governor_agents.stores import open_store
from governor_agents.stores.memory import MemoryStore
from governor_agents.testing import MovableClock
from governor_agents.worker.load import WINDOW
from tests.many_processes import MOST, together
from tests.stores import STORES
from tests.three_channels import ask, governed

NIGHTLY = bool(os.environ.get("GOVERNOR_NIGHTLY"))

POLICY = """
version: 1
approvals: {channels: [wall], approvers: ["local:ann", "local:ben"], deadline: 30d}
limits: {asks: 3}
tools: {wipe: {risk: high}}
rules:
  - {name: anns, tool: only_ann, then: require_approval, approvers: ["local:ann"]}
  - {name: ask, tool: "*", then: require_approval}
"""


class Wall:
    """A channel with cards, which notes whom it was made to ask and what became of it."""

    name = "wall"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.told: list[tuple[str, str]] = []

    async def start(self, desk: Desk) -> None:
        self.desk = desk

    async def close(self) -> None: ...

    async def notify(self, approval: Approval, to: str = "") -> str:
        card = await self.desk.cards.enter(approval, self.name)
        self.asked.append(approval.id)
        await self.desk.cards.change(card.id, lambda card: card.placed(Place("wall", "op", "1")))
        return card.id

    async def update(self, approval: Approval, card: str, to: str = "") -> None:
        self.told.append((approval.id, approval.call.state.value))


class Here:
    """A governor, its wall, its time and its tools."""

    def __init__(self, policy: str = POLICY, store: Any = None) -> None:
        self.clock = MovableClock()
        self.wall = Wall()
        store = store or open_store("memory://", clock=self.clock)
        self.governor = governed(store, {"wall": self.wall}, policy)
        self.tools = {name: self.governor.govern(name=name)(_tool) for name in ("only_ann", "wipe")}

    async def ask(self, amount: int, tool: str = "pay") -> str:
        if tool == "pay":
            return await ask(self.governor, amount)
        return str((await self.tools[tool].ask(amount)).approval)

    async def work(self) -> None:
        await Worker(self.governor).run(once=True)

    async def card(self, id: str) -> str:
        card = await self.governor.desk.cards.of(await self.governor.approval(id), "wall")
        return "" if card is None else card.id

    async def whats(self, id: str) -> list[str]:
        return [str(event["what"]) for event in await self.governor.timeline(id.rpartition(".")[0])]


async def _tool(amount: int) -> str:
    return "done"


@pytest.fixture
async def here() -> AsyncIterator[Here]:
    """All of it."""
    made = Here()
    yield made
    await made.governor.close()


# -- one card -----------------------------------------------------------------------------------------------------------


async def test_identical_calls_share_a_card_and_keep_their_approvals(here: Here) -> None:
    """Two that wait: one card. Each is decided for itself; when none waits any more, the next call has a card anew."""
    first, second, other = await here.ask(5), await here.ask(5), await here.ask(6)
    await here.work()
    assert await here.card(first) == await here.card(second) != await here.card(other)
    await here.governor.decide(first, Decision.reject("no"), by="local:ann")
    assert (await here.governor.approval(second)).call.state is CallState.PENDING
    third = await here.ask(5)
    await here.work()
    await here.governor.decide(second, Decision.reject("no"), by="local:ann")
    await here.work()
    fourth = await here.ask(5)
    await here.work()
    assert await here.card(third) == await here.card(first) != ""
    assert (await here.governor.approval(third)).call.state is CallState.PENDING
    await here.governor.decide(third, Decision.reject("no"), by="local:ann")
    await here.governor.decide(fourth, Decision.reject("no"), by="local:ann")
    fifth = await here.ask(5)
    await here.work()
    assert await here.card(fifth) != await here.card(first)


async def test_calls_of_high_risk_share_no_card(here: Here) -> None:
    """So no click can ever decide several of them; and each counts as a request of its own."""
    ids = [await here.ask(5, "wipe") for _ in range(3)]
    await here.work()
    assert len({await here.card(id) for id in ids}) == 3


@pytest.mark.parametrize("name", STORES if NIGHTLY else list(STORES)[:1])
async def test_identical_calls_of_many_processes_get_one_card(name: str, tmp_path: Path) -> None:
    """Four processes that ask the same at the same time: one card takes all."""
    said = await together("cards", STORES[name](tmp_path), 3)
    assert len(said) == 12 and len(set(said)) == 1


async def test_a_card_takes_so_many_calls_and_no_more(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rendering of a card reads all that it shows."""
    monkeypatch.setattr("governor_agents.cards.MAX_ALIKE", 3)
    cards = []
    for _ in range(7):
        approval = await here.governor.approval(await here.ask(5))
        cards.append((await here.governor.desk.cards.enter(approval, "wall")).id)
    assert [cards.count(card) for card in dict.fromkeys(cards)] == [3, 3, 1]


# -- limits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STORES)
async def test_a_limit_is_exact_over_four_processes(name: str, tmp_path: Path) -> None:
    """More tries than the limit by four processes at once: just as many are granted as it says."""
    said = await together("limits", STORES[name](tmp_path), MOST // 2)
    assert len(said) == MOST


async def test_a_limit_that_reads_and_then_adds_is_not_exact() -> None:
    """The control: the same tries against a counter in two steps grant more, and the count shows it."""

    class ReadThenAdd(MemoryStore):
        async def add_below(self, tenant: str, id: str, amount: int, limit: int, *, op: str) -> int | None:
            current = await self.load("counter", tenant, id)
            total = (int(current.body) if current else 0) + amount
            await asyncio.sleep(0)
            if total > limit:
                return None
            self._opened().records.pop(("counter", tenant, id), None)
            return await super().add_below(tenant, id, total, limit, op=op)

    for store, exact in ((open_store("memory://"), True), (ReadThenAdd(), False)):
        await store.open()
        limits = Limits(Governor(store=store).runs)
        waits = await asyncio.gather(*(limits.take("x", 5, 1e8) for _ in range(20)))
        assert (waits.count(0.0) == 5) is exact
        await store.close()


async def test_a_limit_begins_anew_with_the_next_window(here: Here) -> None:
    """The wait that is said is the time until then; names and lengths have windows of their own."""
    here.clock.time = 1_700_000_003.0
    desk = here.governor.desk
    assert [await desk.take("a", 2, 10.0) for _ in range(3)] == [0.0, 0.0, 7.0]
    assert await desk.take("b", 2, 10.0) == 0.0 and await desk.take("a", 2, 20.0) == 0.0
    here.clock.move(7.0)
    assert await desk.take("a", 2, 10.0) == 0.0
    assert [await desk.count("c", 1, 10.0, op) for op in ("x", "x", "y")] == [0.0, 0.0, 10.0]


# -- holding ------------------------------------------------------------------------------------------------------------


async def test_requests_beyond_the_limit_are_held_and_flagged_and_never_decided(here: Here) -> None:
    """Three in ten minutes, as the policy says; the fourth waits for the next ten, and anybody may decide it meanwhile."""
    here.clock.time = 1_700_000_100.0  # a hundred seconds into a window of ten minutes, less 0
    ids = [await here.ask(amount) for amount in range(5)]
    await here.work()
    assert len(here.wall.asked) == 3 and set(here.wall.asked) < set(ids)
    held = [id for id in ids if id not in here.wall.asked]
    for id in held:
        approval = await here.governor.approval(id)
        assert (approval.call.state, approval.call.votes) == (CallState.PENDING, ())
        assert "notice.held" in await here.whats(id) and "notice.failed" not in await here.whats(id)
        assert Message.of(approval).held == HELD
    assert {approval.id for approval in await here.governor.inbox(person="local:ann")} == set(ids)
    await here.governor.decide(held[0], Decision.reject("no"), by="local:ann")
    await here.work()
    assert len(here.wall.asked) == 3
    here.clock.move(WINDOW)
    await here.work()
    assert (held[0], "rejected") in here.wall.told
    assert here.wall.asked[3:] == [held[1]] and not Message.of(await here.governor.approval(held[1])).held


async def test_a_request_counts_for_each_person_and_once(here: Here) -> None:
    """Who was asked for others' requests is busy; who was not is asked. Trouble and a second channel count nothing."""
    for amount in range(3):
        await here.ask(amount, "only_ann")
    await here.work()
    both = await here.ask(9)
    await here.work()
    assert both not in here.wall.asked and "local:ann: asked" in str(await here.governor.timeline(both[:-2]))
    assert "local:ben" not in str(
        [event for event in await here.governor.timeline(both[:-2]) if event["what"] == "notice.held"]
    )


async def test_identical_calls_hold_nothing_up(here: Here) -> None:
    """They join a card that people have: nobody is asked anew, and nothing is used of what they may be asked."""
    for _ in range(10):
        await here.ask(5)
        await here.work()
    assert len(here.wall.asked) == 10
    other = await here.ask(6)
    await here.work()
    assert other in here.wall.asked


async def test_without_a_limit_nothing_is_held() -> None:
    """The control: the same requests, and a policy that says nothing."""
    here = Here(POLICY.replace("limits: {asks: 3}\n", ""))
    for amount in range(10):
        await here.ask(amount)
    await here.work()
    assert len(here.wall.asked) == 10
    await here.governor.close()


# -- clearing up --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["memory", "sqlite"])
async def test_what_is_over_is_swept_and_nothing_else(name: str, tmp_path: Path) -> None:
    """Counters with their window, links a week after their time, cards with the runs that they showed."""
    clock = MovableClock()
    store = open_store("memory://" if name == "memory" else f"sqlite:///{tmp_path}/g.db", clock=clock)
    here = Here(store=store)
    governor, desk = here.governor, here.governor.desk
    sweep: Callable[[], Any] = lambda: governor.loop.bridge(Clearing(governor.runs).sweep())  # noqa: E731
    first, second = await here.ask(5), await here.ask(5)
    card = await desk.cards.enter(await governor.approval(first), "wall")
    await desk.cards.enter(await governor.approval(second), "wall")
    text = await desk.tokens.issue("login", "local:ann", "x", within=100.0)
    await desk.take("short", 5, 10.0)
    await desk.take("long", 5, 86_400.0 * 100)
    assert await sweep() == 0
    clock.move(11.0)
    assert await sweep() == 1  # the counter of ten seconds
    clock.move(86_400.0 * 8)
    assert await sweep() == 1 and await desk.cards.find(card.id) is not None  # the link
    with pytest.raises(Exception, match="unknown"):
        await desk.tokens.look(text, "login")
    for id in (first, second):
        run = await governor.get(id[:-2])
        record = await governor.loop.bridge(governor.store.load("run", "default", run.id))
        await governor.loop.bridge(governor.store.delete("run", "default", run.id, record.v))
    clock.move(86_400.0 * 8)
    assert await sweep() >= 1 and await desk.cards.find(card.id) is None
    clock.move(86_400.0 * 8)
    await sweep()
    left = await governor.loop.bridge(governor.store.list("card", "default"))
    assert left == [] and len(await governor.loop.bridge(governor.store.list("counter", "default"))) == 1
    await governor.close()


async def test_a_worker_sweeps(here: Here) -> None:
    """Without being told."""
    await here.governor.desk.take("short", 5, 10.0)
    here.clock.move(11.0)
    await here.work()
    assert await here.governor.loop.bridge(here.governor.store.list("counter", "default")) == []
