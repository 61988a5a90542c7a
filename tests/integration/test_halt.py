"""Halting: nothing more begins, what runs is finished and recorded, people may go on deciding, lifting frees it all."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, PolicySet, Run, Tool, Worker
from governor_agents.audit import chain
from governor_agents.claims import current_claim
from governor_agents.core.halting import ALL_TENANTS
from governor_agents.core.ports import Record
from governor_agents.core.records import CallState, RunState
from governor_agents.core.settling import HALT
from governor_agents.errors import CallHalted, ConfigError
from governor_agents.halts import FRESH, UNREADABLE
from governor_agents.keys import Keys
from governor_agents.stores.memory import MemoryStore
from governor_agents.testing import MovableClock
from tests.integration.desk import AGENTS, ALLOW, ASK, BOSS, FRAMEWORKS, desk
from tests.integration.publishing import until

pytestmark = pytest.mark.anyio

OP = "local:op"


def scopes(framework: str) -> list[str]:
    agent = "functions" if framework == "functions" else "support"
    return ["tool:deploy", f"agent:{agent}", "tenant", "everything"]


CASES = [(framework, scope) for framework in FRAMEWORKS for scope in scopes(framework)]


@pytest.mark.parametrize(("framework", "scope"), CASES)
async def test_an_approved_call_does_not_begin_while_halted_and_runs_once_after(
    url: str, framework: str, scope: str
) -> None:
    """Every scope, every adapter: BLOCKED with the scope, no effect; lifted, the same approval is used, once."""
    async with desk(framework, url) as here:
        run = await here.approved()
        await here.governor.halt(scope, by=OP, reason="incident 12")
        stopped = await here.go_on(run)
        assert (stopped.state, stopped.blocked, stopped.blocked_detail) == (RunState.BLOCKED, HALT, scope)
        assert here.ran == [] and (await here.calls(run))["deploy"].state is CallState.APPROVED
        assert await here.governor.lift(scope, by=OP) == 1
        freed = await here.governor.get(run.id)
        assert (freed.state, freed.blocked) == (RunState.READY, "")
        done = await here.go_on(freed)
        assert done.status == "completed" and [name for name, _ in here.ran] == ["deploy"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_halt_of_something_else_stops_nothing(url: str, framework: str) -> None:
    """The control: another tool, another agent."""
    async with desk(framework, url) as here:
        run = await here.approved()
        for scope in ("tool:deplo", "tool:deploy2", "agent:somebody"):
            await here.governor.halt(scope, by=OP)
        assert (await here.go_on(run)).status == "completed" and len(here.ran) == 1


@pytest.mark.parametrize("framework", AGENTS)
async def test_a_halt_in_the_middle_lets_the_sibling_finish(url: str, framework: str) -> None:
    """One call is executing when the other meets the halt: the first is recorded, then the run is parked."""
    async with desk(framework, url, tools=("first", "second")) as here:
        run = await here.approved()
        guard, met = here.governor.guard, asyncio.Event()
        stopped = guard._stopped

        async def in_order(claim: Any, call: Any) -> bool:
            if call.tool == "second":
                await met.wait()
            return await stopped(claim, call)

        guard._stopped = in_order  # type: ignore[method-assign]

        async def inside(name: str) -> None:
            await here.governor.halt("tool:second", by=OP)
            here.governor.loop._start().call_soon_threadsafe(met.set)
            claim = current_claim()
            assert claim is not None
            await until(lambda: bool(claim.halted))

        here.inside = inside
        parked = await here.go_on(run)
        assert (parked.state, parked.blocked, parked.blocked_detail) == (RunState.BLOCKED, HALT, "tool:second")
        calls = await here.calls(run)
        assert (calls["first"].state, calls["second"].state) == (CallState.SUCCEEDED, CallState.APPROVED)
        here.inside = None
        guard._stopped = stopped  # type: ignore[method-assign]
        await here.governor.lift("tool:second", by=OP)
        done = await here.go_on(run)
        assert done.status == "completed" and [name for name, _ in here.ran] == ["first", "second"]


@pytest.mark.parametrize("framework", AGENTS)
async def test_an_allowed_call_of_a_durable_run_meets_the_halt(url: str, framework: str) -> None:
    """Allowed by policy, no people, first time seen: it is not begun either."""
    async with desk(framework, url, say=ALLOW) as here:
        await here.governor.halt("tool:deploy", by=OP)
        run = await here.ask()
        assert (run.state, run.blocked, here.ran) == (RunState.BLOCKED, HALT, [])
        await here.governor.lift("tool:deploy", by=OP)
        assert (await here.go_on(run)).status == "completed" and len(here.ran) == 1


@pytest.mark.parametrize("framework", AGENTS)
async def test_a_read_only_call_meets_the_halt(url: str, framework: str) -> None:
    """Calls that skip the journal are stopped as well; the own process's halt is seen at once."""
    declared = {"deploy": Tool("deploy", read_only=True)}
    async with desk(framework, url, say=None, declared=declared) as here:
        assert (await here.ask()).status == "completed" and len(here.ran) == 1
        await here.governor.halt("tool:deploy", by=OP)
        assert (await here.ask()).blocked == HALT and len(here.ran) == 1


@pytest.mark.parametrize("framework", AGENTS)
@pytest.mark.parametrize("scope", ["agent:support", "tenant", "everything"])
async def test_no_new_loop_begins_for_a_halted_agent(url: str, framework: str, scope: str) -> None:
    """``run`` and ``submit`` are durable and stand still; lifted, a worker starts them."""
    async with desk(framework, url, say=ALLOW) as here:
        await here.governor.halt(scope, by=OP)
        begun = await here.ask()
        queued = await here.governor.submit("support", "go")
        await Worker(here.governor).run(once=True)
        for id in (begun.id, queued.id):
            run = await here.governor.get(id)
            assert (run.state, run.blocked_detail) == (RunState.BLOCKED, scope)
        assert here.ran == []
        assert await here.governor.lift(scope, by=OP) == 2
        assert {run.state for run in await here.governor.list_runs()} == {RunState.QUEUED}
        await Worker(here.governor).run(once=True)
        assert {run.status for run in await here.governor.list_runs()} == {"completed"} and len(here.ran) == 2


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_people_decide_while_all_is_halted(url: str, framework: str) -> None:
    """A vote is no dispatch: it counts, and nothing begins."""
    async with desk(framework, url) as here:
        run = await here.ask()
        await here.governor.halt("everything", by=OP)
        run = await here.approve(run)
        assert run.status == "ready"
        await Worker(here.governor).run(once=True)
        assert (await here.governor.get(run.id)).blocked == HALT and here.ran == []
        await here.governor.lift("everything", by=OP)
        await Worker(here.governor).run(once=True)
        assert (await here.governor.get(run.id)).status == "completed" and len(here.ran) == 1


async def test_the_caller_of_a_function_waits_for_the_lift(url: str) -> None:
    """Its approval came, its tool is halted: it is not told a failure, and runs the call itself once that is lifted."""
    async with desk("functions", url) as here:
        await here.governor.halt("tool:deploy", by=OP)
        waiting = asyncio.create_task(here.call())
        run = await _first(here.governor, lambda run: bool(run.approvals))
        await here.approve(run)
        await _first(here.governor, lambda run: run.blocked == HALT)
        assert here.ran == [] and not waiting.done()
        await here.governor.lift("tool:deploy", by=OP)
        assert await waiting == "done" and len(here.ran) == 1


async def _first(governor: Governor, holds: Callable[[Run], bool]) -> Run:
    while True:
        for run in await governor.list_runs():
            if holds(run):
                return run
        await asyncio.sleep(0.01)


async def test_an_allowed_function_raises(url: str) -> None:
    """No run, no record: the caller is told, in words that name the scope."""
    async with desk("functions", url, say=ALLOW) as here:
        await here.governor.halt("tool:deploy", by=OP)
        with pytest.raises(CallHalted, match="tool:deploy is halted"):
            await here.call()
        await here.governor.lift("tool:deploy", by=OP)
        assert await here.call() == "done" and len(here.ran) == 1


async def test_a_copy_of_at_most_a_second_serves_calls_that_change_nothing(url: str) -> None:
    """Another process halts: a read-only call may go by its copy for a second, an effectful one never."""
    declared = {"deploy": Tool("deploy", read_only=True)}
    async with desk("functions", url, say=None, declared=declared) as looks, desk("functions", url, say=ALLOW) as acts:
        assert await looks.call() == await acts.call() == "done"
        looks.governor.stopped._copy = (time.monotonic() + 3600.0, frozenset())  # as if it had just looked
        async with Governor(store=url) as other:
            await other.halt("tool:deploy", by=OP)
        assert await looks.call() == "done"
        with pytest.raises(CallHalted):
            await acts.call()
        looks.governor.stopped._copy = (time.monotonic() - FRESH - 0.001, frozenset())
        with pytest.raises(CallHalted):
            await looks.call()


@pytest.mark.parametrize("sealed", [False, True])
async def test_a_tenant_is_halted_alone_and_everything_for_all(url: str, sealed: bool) -> None:
    """``tenant`` is one customer's; ``everything`` stops every tenant of the store, with keys as without."""
    keys = Keys.generate() if sealed else None
    async with (
        desk("functions", url, say=ALLOW, keys=keys) as mine,
        desk("functions", url, say=ALLOW, keys=keys, tenant="other") as theirs,
    ):
        await mine.governor.halt("tenant", by=OP)
        with pytest.raises(CallHalted):
            await mine.call()
        assert await theirs.call() == "done"
        await theirs.governor.halt("everything", by=OP)
        await mine.governor.lift("tenant", by=OP)
        for each in (mine, theirs):
            with pytest.raises(CallHalted, match="everything"):
                await each.call()


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_worker_frees_what_the_lifter_left(framework: str) -> None:
    """The lifter died after the record and before the runs: within a minute a worker looks, not before, and frees."""
    clock = MovableClock()
    async with desk(framework, MemoryStore(clock=clock)) as here:
        run = await here.approved()
        await here.governor.halt("tool:deploy", by=OP)
        stopped = await here.go_on(run)
        clock.move(61.0)
        await Worker(here.governor).run(once=True)
        looked = await here.governor.get(run.id)
        assert looked.blocked == HALT and looked.not_before > stopped.not_before, "still halted: looked, and put off"
        await here.governor.loop.bridge(here.governor.stopped.lift("tool:deploy", by=OP))  # and then it dies
        await Worker(here.governor).run(once=True)
        assert (await here.governor.get(run.id)).blocked == HALT and here.ran == []
        clock.move(61.0)
        await Worker(here.governor).run(once=True)
        assert (await here.governor.get(run.id)).status == "completed" and len(here.ran) == 1


async def test_a_halt_gives_an_approval_no_more_time() -> None:
    """What was to be run within an hour is not run after a halt of two."""
    clock = MovableClock()
    async with desk("functions", MemoryStore(clock=clock)) as here:
        here.say = replace(ASK, run_within=3600.0)
        run = await here.approved()
        await here.governor.halt("tool:deploy", by=OP)
        await here.go_on(run)
        clock.move(7200.0)
        await here.governor.lift("tool:deploy", by=OP)
        await Worker(here.governor).run(once=True)
        assert (await here.calls(run))["deploy"].state is CallState.EXPIRED and here.ran == []


async def test_one_halt_lifted_leaves_the_other(url: str) -> None:
    """Stopped twice, freed only when the last is lifted."""
    async with desk("functions", url) as here:
        run = await here.approved()
        await here.governor.halt("tool:deploy", by=OP)
        await here.go_on(run)
        await here.governor.halt("tenant", by=OP)
        assert await here.governor.lift("tool:deploy", by=OP) == 0
        assert (await here.governor.get(run.id)).blocked_detail == "tenant"
        assert await here.governor.lift("tenant", by=OP) == 1


async def test_a_halted_run_can_be_cancelled(url: str) -> None:
    """The other way out."""
    async with desk("functions", url) as here:
        run = await here.approved()
        await here.governor.halt("tool:deploy", by=OP)
        await here.go_on(run)
        assert (await here.governor.cancel(run.id, by=OP)).status == "cancelled"
        await here.governor.lift("tool:deploy", by=OP)
        assert (await here.governor.get(run.id)).status == "cancelled" and here.ran == []


async def test_halts_are_listed_and_each_change_leaves_one_event(url: str) -> None:
    """Who, when, why; said twice is one halt and one event; the chain of the record's events is unbroken."""
    async with Governor(store=url) as governor:
        made = await governor.halt("tool:pay", by=OP, reason="incident")
        assert await governor.halt("tool:pay", by="local:other", reason="again") == made
        await governor.halt("everything", by=OP)
        assert [(halt.scope, halt.by, halt.reason) for halt in await governor.halts()] == [
            ("tool:pay", OP, "incident"),
            ("everything", OP, ""),
        ]
        await governor.lift("tool:pay", by=OP, reason="over")
        await governor.lift("tool:pay", by=OP)
        assert [halt.scope for halt in await governor.halts()] == ["everything"]
        record = await governor.loop.bridge(governor.store.load("halt", "default", "tenant"))
        events = await governor.loop.bridge(governor.store.events("halt", "default", "tenant"))
        assert record is not None and chain.verify(events, json.loads(record.body)["chain"]) == ""
        lines = chain.read(events)
        assert [(line["what"], line["scope"], line["by"]) for line in lines] == [
            ("halt.set", "tool:pay", OP),
            ("halt.lifted", "tool:pay", OP),
        ]
        assert [line["reason"] for line in lines] == ["incident", "over"]


async def test_halts_at_the_same_moment_all_stand(url: str) -> None:
    """Compare-and-set: of twenty halts from two governors none is lost."""
    async with Governor(store=url) as one, Governor(store=url) as two:
        both = [(each, n) for n in range(10) for each in (one, two)]
        await asyncio.gather(*(each.halt(f"tool:{n}-{id(each)}", by=OP) for each, n in both))
        assert len(await one.halts()) == 20


@pytest.mark.parametrize("scope", ["", "tool", "tool:", "agent: ", "tools:x", "Tenant", "all", "tool:a\nb"])
async def test_what_is_no_scope_is_refused(url: str, scope: str) -> None:
    """One line that says what a scope is; nothing is written."""
    async with Governor(store=url) as governor:
        with pytest.raises(ConfigError, match="tool:NAME, agent:NAME, tenant or everything"):
            await governor.halt(scope, by=OP)
        assert await governor.halts() == ()


def _spoil(url: str, tenant: str, body: bytes) -> None:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        done = database.execute("UPDATE ga_record SET body = ? WHERE kind = 'halt' AND tenant = ?", (body, tenant))
        assert done.rowcount == 1
    database.close()


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"null", b'{"tenant":"default","id":"tenant","halts":[{}]}', b'{"tenant":"x","id":"y"}']
)
@pytest.mark.parametrize(("tenant", "scope"), [("default", "tenant"), (ALL_TENANTS, "everything")])
async def test_a_record_that_cannot_be_read_halts_everything(
    tmp_path: Path, body: bytes, tenant: str, scope: str
) -> None:
    """Fail closed, and visibly; lifting the whole scope writes it anew."""
    url = f"sqlite:///{tmp_path}/g.db"
    async with desk("functions", url, say=ALLOW) as here:
        await here.governor.halt(scope, by=OP)
        await here.governor.lift(scope, by=OP)
        assert await here.call() == "done"
        _spoil(url, tenant, body)
        with pytest.raises(CallHalted, match=scope):
            await here.call()
        assert [(halt.scope, halt.reason) for halt in await here.governor.halts()] == [(scope, UNREADABLE)]
        await here.governor.lift(scope, by=OP)
        assert await here.call() == "done" and len(here.ran) == 2


async def test_a_sealed_record_that_was_touched_halts_everything(tmp_path: Path) -> None:
    """With keys, whoever writes "nothing is halted" into the store halts all of it."""
    url = f"sqlite:///{tmp_path}/g.db"
    keys = Keys.generate()
    async with desk("functions", url, say=ALLOW, keys=keys) as here:
        await here.governor.halt("tool:deploy", by=OP)
        await here.governor.lift("tool:deploy", by=OP)
        assert await here.call() == "done"
        _spoil(url, "default", b'{"tenant":"default","id":"tenant","halts":[],"seq":0,"chain":""}')
        with pytest.raises(CallHalted, match="tenant"):
            await here.call()
        assert len(here.ran) == 1


@pytest.mark.parametrize("event", ["sound", "broken"])
@pytest.mark.parametrize(("tenant", "scope"), [("default", "tenant"), (ALL_TENANTS, "everything")])
async def test_a_sealed_record_that_was_touched_is_written_anew(
    tmp_path: Path, tenant: str, scope: str, event: str
) -> None:
    """A halt of something else is kept in it and lifts nothing; the lift of all does; each event says what it wrote over."""
    url = f"sqlite:///{tmp_path}/g.db"
    async with desk("functions", url, say=ALLOW, keys=Keys.generate()) as here:
        governor = here.governor
        await governor.halt(scope, by=OP)
        await governor.lift(scope, by=OP)
        _spoil(url, tenant, b"x")
        if event == "broken":
            with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
                database.execute("UPDATE ga_event SET body = x'00' WHERE kind = 'halt' AND seq = 2")
        if scope == "tenant":
            await governor.halt("tool:other", by=OP)
        with pytest.raises(CallHalted, match=scope):
            await here.call()
        await governor.lift(scope, by=OP)
        assert [halt.scope for halt in await governor.halts()] == (["tool:other"] if scope == "tenant" else [])
        assert await here.call() == "done" and len(here.ran) == 1
        stored = await governor.loop.bridge(governor.store.events("halt", tenant, scope, after=2))
        told = [json.loads(each.body) for each in stored]
        whats = ["halt.set"] * (scope == "tenant") + ["halt.lifted"]
        assert [(line["what"], line["anew"]) for line in told] == [(what, UNREADABLE) for what in whats]
        if event == "sound":
            assert (await governor.loop.bridge(governor.audit.verify())).findings == []


def test_the_synchronous_twins(tmp_path: Path) -> None:
    """``halt_sync``, ``halts_sync``, ``lift_sync``."""
    governor = Governor(store=f"sqlite:///{tmp_path}/g.db")
    governor.halt_sync("tenant", by=OP)
    assert [halt.scope for halt in governor.halts_sync()] == ["tenant"]
    assert governor.lift_sync("tenant", by=OP) == 0 and governor.halts_sync() == ()
    governor.close_sync()


async def test_an_edit_and_a_rejection_count_while_halted(url: str) -> None:
    """All kinds of decisions, on a run that a halt has parked and that waits for people as well."""
    async with desk("langchain", url, tools=("first", "second")) as here:
        run = await here.ask()
        first, second = run.approvals
        await here.governor.halt("tenant", by=OP)
        edited = Decision.edit({"path": "x", "amount": 7})
        await here.governor.decide(first.id, edited, by=BOSS)
        run = await here.governor.decide(second.id, Decision.reject("no"), by=BOSS)
        await Worker(here.governor).run(once=True)
        assert (await here.governor.get(run.id)).blocked == HALT
        await here.governor.lift("tenant", by=OP)
        await Worker(here.governor).run(once=True)
        assert here.ran == [("first", b'{"amount":7,"path":"x"}')]


async def test_a_page_of_runs_that_cannot_be_read_ends_no_search(tmp_path: Path) -> None:
    """Lifting goes on behind a whole page of records that are left out."""
    governor = Governor(PolicySet(()), store=f"sqlite:///{tmp_path}/store.db")
    async with governor:
        for n in range(100):  # a page, and by id before the others
            broken = Record("run", governor.tenant, f"a{n:03}", b"not a run", {"state": "blocked", "conversation": "c"})
            assert (await governor.loop.bridge(governor.store.insert(broken, op=f"op{n}"))).won
        ran: list[int] = []

        @governor.govern(name="pay", approvers=["local:ann"])
        async def pay(amount: int) -> None:
            ran.append(amount)

        pending = await pay.ask(7)
        await governor.halt("tool:pay", by="local:ops")
        await governor.decide(pending.approval, Decision.approve(), by="local:ann")
        await Worker(governor).run(once=True)
        assert (await governor.get(pending.run)).status == "blocked"
        assert await governor.lift("tool:pay", by="local:ops") == 1
        assert await governor.loop.bridge(governor.conversations.unfinished("c")) == []
        await Worker(governor).run(once=True)
    assert ran == [7]
