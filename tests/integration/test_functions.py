"""Governed functions and methods: wait for the decision, or collect later, here or in a worker."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from governor_agents import Decision, Governor, Worker
from governor_agents.core.records import RunState
from governor_agents.errors import (
    ArgumentsError,
    CallDenied,
    CallExpired,
    CallFailed,
    CallRejected,
    ConfigError,
    WouldBlock,
)
from governor_agents.policies import PolicySet

POLICY = """
version: 1
approvals: {approvers: ["local:alice"]}
rules:
  - {name: no mallory, tool: wire, when: 'call.args.to == "mallory"', then: deny, reason: known thief}
  - {name: small, tool: tiny, then: allow}
"""


class World:
    """A governor with a few governed functions, and what really ran."""

    def __init__(self, store: str) -> None:
        self.ran: list[Any] = []
        self.governor = Governor(PolicySet.from_text(POLICY, name="governor.yaml"), store=store)
        ran = self.ran

        @self.governor.govern(name="wire", approvers=["local:alice"])
        async def wire(amount: int, to: str = "bob") -> str:
            ran.append((amount, to))
            return f"sent {amount} to {to}"

        @self.governor.govern(name="plain", approvers=["local:alice"])
        def plain(*, amount: int) -> int:
            ran.append(amount)
            return amount * 2

        @self.governor.govern(name="tiny")
        def tiny(x: int) -> int:
            ran.append(x)
            return x

        @self.governor.govern(name="broken", approvers=["local:alice"])
        async def broken() -> None:
            ran.append("broken")
            raise RuntimeError("no funds")

        @self.governor.govern(name="slow", approvers=["local:alice"], deadline=0.2)
        async def slow() -> None:
            ran.append("slow")

        class Account:
            @self.governor.govern(name="pay", approvers=["local:alice"])
            async def pay(self, amount: int) -> int:
                ran.append((id(self), amount))
                return amount

        self.wire, self.plain, self.tiny, self.broken, self.slow, self.Account = (
            wire,
            plain,
            tiny,
            broken,
            slow,
            Account,
        )

    async def decide(self, decision: Decision | None = None) -> None:
        """Alice decides the first request, as soon as there is one."""
        run = ""
        while not (waiting := await self.governor.inbox()):
            await self.governor.loop.bridge(self.governor.watch.changed(1.0, self.governor.watch.version))
        run = waiting[0].id
        await self.governor.decide(run, decision or Decision.approve(), by="local:alice")


@pytest.fixture(params=["memory", "sqlite"])
def world(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[World]:
    """A fresh world on each store."""
    made = World("memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'g.db'}")
    yield made
    made.governor.close_sync()


@pytest.fixture
async def approving(world: World) -> AsyncIterator[asyncio.Task[None]]:
    """Alice approves in the background."""
    task = asyncio.create_task(world.decide())
    yield task
    await task


async def test_call_waits_for_the_decision_and_runs(world: World, approving: object) -> None:
    """The caller gets the function's own result once a person approved."""
    assert await world.wire(5) == "sent 5 to bob"
    assert world.ran == [(5, "bob")]


async def test_call_runs_the_edited_arguments_and_only_those(world: World) -> None:
    """After an edit the function gets the edited arguments."""
    task = asyncio.create_task(world.decide(Decision.edit({"amount": 1, "to": "carol"})))
    assert await world.wire(5) == "sent 1 to carol"
    await task
    assert world.ran == [(1, "carol")]


async def test_call_rejected_raises_with_the_reason(world: World) -> None:
    """A rejected call raises and never runs."""
    task = asyncio.create_task(world.decide(Decision.reject("no budget")))
    with pytest.raises(CallRejected, match="no budget"):
        await world.wire(5)
    await task
    assert world.ran == []


async def test_call_answered_returns_the_persons_words(world: World) -> None:
    """An answer takes the function's place."""
    task = asyncio.create_task(world.decide(Decision.respond("done by hand")))
    assert await world.wire(5) == "done by hand"
    await task
    assert world.ran == []


async def test_call_expires_at_its_deadline(world: World) -> None:
    """Nobody decided: the call raises, nothing ran."""
    with pytest.raises(CallExpired):
        await world.slow()
    assert world.ran == []


async def test_call_denied_by_policy_asks_nobody(world: World) -> None:
    """A deny of the file is stricter than the function's own demand."""
    with pytest.raises(CallDenied, match="known thief"):
        await world.wire(5, to="mallory")
    assert world.ran == [] and await world.governor.inbox() == []


def test_call_allowed_runs_at_once(world: World) -> None:
    """An allowed call leaves no run behind."""
    assert world.tiny(3) == 3
    assert world.governor.list_runs_sync() == []


def test_sync_function_waits_in_its_own_thread(world: World) -> None:
    """A plain function blocks its caller until somebody decided."""

    async def both() -> int:
        task = asyncio.create_task(world.decide())
        result = await asyncio.to_thread(lambda: world.plain(amount=4))
        await task
        return int(result)

    assert asyncio.run(both()) == 8


async def test_sync_function_in_a_running_loop_fails_at_once(world: World) -> None:
    """Waiting for a person would block the loop: refused before anything is asked."""
    with pytest.raises(WouldBlock, match="ask"):
        world.plain(amount=4)
    assert await world.governor.inbox() == []


async def test_ask_returns_at_once_and_a_worker_runs_it(world: World) -> None:
    """The handle collects what a worker ran."""
    handle = await world.wire.ask(7)
    assert world.ran == []
    await world.decide()
    assert await Worker(world.governor).run(once=True) == 1
    assert await handle.result(timeout=5) == "sent 7 to bob"
    assert world.ran == [(7, "bob")]


async def test_ask_result_runs_it_here_when_nobody_else_does(world: World) -> None:
    """Collecting is enough; and a worker that comes later runs nothing."""
    handle = await world.wire.ask(7)
    await world.decide()
    assert await handle.result(timeout=5) == "sent 7 to bob"
    await Worker(world.governor).run(once=True)
    assert world.ran == [(7, "bob")]


async def test_ask_collected_twice_and_by_a_worker_at_once_runs_once(world: World) -> None:
    """Three collectors race; the function runs once and all get its result."""
    handle = await world.wire.ask(9)
    await world.decide()
    results = await asyncio.gather(handle.result(5), handle.result(5), Worker(world.governor).run(once=True))
    assert results[:2] == ["sent 9 to bob", "sent 9 to bob"] and world.ran == [(9, "bob")]


async def test_ask_times_out_and_stays_open(world: World) -> None:
    """A timeout of the collector is no decision."""
    handle = await world.wire.ask(7)
    with pytest.raises(TimeoutError):
        await handle.result(timeout=0.05)
    assert [approval.id for approval in await world.governor.inbox()] == [handle.approval]


async def test_method_runs_on_its_own_object(world: World, approving: object) -> None:
    """``self`` is not an argument: it is not frozen, shown or stored."""
    account = world.Account()
    assert await account.pay(3) == 3
    assert world.ran == [(id(account), 3)]


async def test_method_without_its_caller_is_blocked(world: World) -> None:
    """A worker cannot run a method; it says so instead of guessing an object."""
    account = world.Account()
    handle = await account.pay.ask(3)
    await world.decide()
    id = handle.run
    del handle  # nobody in this process waits for it any more
    await world.governor.loop.bridge(world.governor.runs.change(id, lambda run, now: _without_waiter(run)))
    await Worker(world.governor).run(once=True)
    after = await world.governor.get(id)
    assert after.state is RunState.BLOCKED and after.blocked == "caller_gone" and world.ran == []


def _without_waiter(run: Any) -> Any:
    from governor_agents.core.records import Change, evolve

    return Change(evolve(run, waiter=None))


async def test_exception_is_recorded_and_raised(world: World, approving: object) -> None:
    """The caller gets the function's own exception; the record says FAILED; nothing is tried again."""
    with pytest.raises(RuntimeError, match="no funds"):
        await world.broken()
    (run,) = await world.governor.list_runs()
    assert run.state is RunState.FAILED and world.ran == ["broken"]


async def test_exception_in_a_worker_reaches_the_collector(world: World) -> None:
    """What a worker met is told to whoever collects."""
    handle = await world.broken.ask()
    await world.decide()
    await Worker(world.governor).run(once=True)
    with pytest.raises(CallFailed, match="no funds"):
        await handle.result(timeout=5)
    assert world.ran == ["broken"]


@pytest.mark.parametrize("value", [{1, 2}, (1, 2), object(), float("nan"), {1: "a"}])
async def test_arguments_must_be_plain_json(world: World, value: object) -> None:
    """What has no single byte form is refused with the function's name, and nothing is asked."""
    with pytest.raises(ArgumentsError, match="wire"):
        await world.wire(value)
    assert await world.governor.inbox() == []


async def test_arguments_are_bound_by_signature(world: World) -> None:
    """A wrong call fails as it would without governance, before anything is asked."""
    with pytest.raises(ArgumentsError, match=r"unexpected|missing"):
        await world.wire(5, whom="bob")


async def test_arguments_are_frozen_when_asked(world: World) -> None:
    """Changing a live object after the question changes nothing of what runs."""
    seen: list[Any] = []

    @world.governor.govern(name="bulk", approvers=["local:alice"])
    async def bulk(rows: list[int]) -> int:
        seen.append(rows)
        return len(rows)

    rows = [1, 2]
    handle = await bulk.ask(rows)
    rows.append(99_999)
    await world.decide()
    assert await handle.result(5) == 2 and seen == [[1, 2]]


def test_name_taken_is_refused(world: World) -> None:
    """Two functions of one name would make a worker run the wrong one."""
    with pytest.raises(ConfigError, match="wire"):
        world.governor.govern(name="wire")(lambda: None)


def test_governed_looks_like_the_function(world: World) -> None:
    """Frameworks that look at a callable see the function's name and kind."""
    assert world.wire.__name__ == "wire"
    assert inspect.iscoroutinefunction(type(world.wire).__call__)
    assert not inspect.iscoroutinefunction(type(world.plain).__call__)
