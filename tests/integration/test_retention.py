"""Retention: what ended goes when it was kept for long enough, the audit can tell, and nothing else goes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, PolicySet, Worker, retention
from governor_agents.audit.export import to_jsonl, verify_export
from governor_agents.audit.log import Report
from governor_agents.audit.removals import Removals
from governor_agents.core.ports import Record
from governor_agents.core.records import CallState, Notice, Run, RunState, evolve
from governor_agents.errors import NotFound
from governor_agents.keys import Keys
from governor_agents.runs import to_record
from governor_agents.worker.hands import REMOVED, Hands
from tests.integration import langchain_app, openai_agents_app

pytestmark = pytest.mark.anyio
KEYS = Keys.generate()
ANN = "local:ann"
MEMORY = "memory://"
AT_ONCE = 1e-6
SOON = {"completed": AT_ONCE, "failed": AT_ONCE, "cancelled": AT_ONCE}
POLICY = """
version: 1
approvals: {approvers: ["local:ann"], channels: [terminal]}
rules: [{name: all, tool: "*", then: require_approval}]
"""


class Shop:
    """A governor with one function, whose calls are runs."""

    def __init__(self, url: str, spans: dict[str, Any] | None, keys: Keys | None = None) -> None:
        self.governor = Governor(PolicySet.from_text(POLICY), store=url, retention=spans, keys=keys, secret=b"s")
        self.paid: list[int] = []

        @self.governor.govern(name="pay")
        async def pay(amount: int, note: str = "") -> str:
            self.paid.append(amount)
            return "paid " + "x" * 20_000  # a blob

        self.pay = pay

    async def ended(self, how: str = "completed") -> str:
        """A run that ended so; its id."""
        pending = await self.pay.ask(7)
        if how == "cancelled":
            await self.governor.cancel(pending.run, by=ANN)
        else:
            decision = Decision.approve() if how == "completed" else Decision.reject()
            await self.governor.decide(pending.approval, decision, by=ANN)
        await self.until_told(pending.run)
        return pending.run

    async def until_told(self, id: str) -> None:
        """Drive a run on and tell people, as a worker does, without removing anything."""
        from governor_agents.worker.steps import drive, mine, tend

        run = await tend(self.governor, await self.governor.get(id))
        if mine(self.governor, run, await self.governor.loop.bridge(self.governor.runs.now())):
            await drive(self.governor, run)
        run = await tend(self.governor, await self.governor.get(id))
        assert run.state.ended and not run.outbox

    async def worked(self) -> int:
        return await Worker(self.governor).run(once=True)

    async def left(self) -> list[str]:
        return [run.id for run in await self.governor.list_runs(limit=1000)]

    async def entries(self) -> list[dict[str, Any]]:
        found = await self.governor.loop.bridge(self.governor.audit.newest(what="run.removed", limit=1000))
        return [{name: line[name] for name in ("removed", "outcome", "events", "v")} for line in found]

    async def stored(self, *call: Any) -> Any:
        name, *args = call
        return await self.governor.loop.bridge(getattr(self.governor.store, name)(*args))


@asynccontextmanager
async def shop(url: str, spans: dict[str, Any] | None = None, keys: Keys | None = None) -> AsyncIterator[Shop]:
    made = Shop(url, spans, keys)
    async with made.governor:
        yield made


def lasts(run: Run) -> float | None:
    """For how many seconds an ended run is kept."""
    return None if run.keep_until is None or run.ended is None else run.keep_until - run.ended


# -- what goes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled"])
async def test_an_ended_run_goes_with_all_that_is_its_own(url: str, how: str) -> None:
    """Record, events and contents; what is left is one entry that says where its chain ended."""
    async with shop(url, {how: AT_ONCE}) as made:
        id = await made.ended(how)
        run = await made.governor.get(id)
        v = (await made.stored("load", "run", "default", id)).v
        blobs = [call.result.blob for call in run.calls if call.result and call.result.blob]
        assert lasts(run) == pytest.approx(AT_ONCE, abs=1e-3) and len(blobs) == (how == "completed")
        assert await made.worked() > 0
        assert await made.left() == [] and await made.stored("events", "run", "default", id) == []
        assert [await made.stored("blob", "run", "default", id, blob) for blob in blobs] == [None] * len(blobs)
        assert await made.entries() == [{"removed": id, "outcome": how, "events": run.seq, "v": v}]
        assert [await removed(made, each) for each in ("", id)] == [([], 0), ([], 1)]
        with pytest.raises(NotFound, match="no run run_other"):
            await removed(made, "run_other")
        with pytest.raises(NotFound, match=f"no run {id}"):
            await made.governor.get(id)
        assert await made.worked() == 0


async def test_only_the_outcomes_that_are_named_go_and_only_when_it_is_time(url: str) -> None:
    """The control of the other tests: the same runs stay."""
    async with shop(url, {"cancelled": AT_ONCE, "failed": "1d"}) as made:
        stay = [await made.ended("completed"), await made.ended("failed")]
        await made.ended("cancelled")
        await made.worked()
        assert await made.left() == sorted(stay)
        assert [(await made.governor.get(id)).keep_until is None for id in stay] == [True, False]


async def test_nothing_that_has_not_ended_goes_whatever_its_record_says(url: str) -> None:
    """Waiting, queued, ready, driven, blocked, dead: not by time, not by a sweep, not by a forged time to go."""
    async with shop(url, SOON) as made:
        await made.governor.open()
        states = [state for state in RunState if not state.ended]
        for state in states:
            run = Run("default", f"run_{state}", "nobody", "", "p", state, 0.0, ended=1.0, keep_until=1.0, blocked="x")
            await made.governor.loop.bridge(made.governor.store.insert(evolve_due(to_record(run, 0)), op=f"op {state}"))
        waits = (await made.pay.ask(1)).run
        await made.worked()
        assert await made.left() == sorted([*(f"run_{state}" for state in states), waits])
        assert await made.entries() == []


def evolve_due(record: Record) -> Record:
    return evolve(record, due=1.0)


async def test_a_run_of_which_people_are_still_to_be_told_stays(url: str) -> None:
    """A channel that is down keeps it; once it has delivered, the run goes."""

    class Down:
        name = "terminal"
        down = True

        async def start(self, desk: object) -> None: ...

        async def close(self) -> None: ...

        async def notify(self, approval: Any, to: str = "") -> str:
            return ""

        async def update(self, approval: Any, card: str, to: str = "") -> None:
            if self.down:
                raise ConnectionError("down")

    async with shop(url, SOON) as made:
        made.governor._handlers["terminal"] = channel = Down()
        pending = await made.pay.ask(1)
        await made.governor.decide(pending.approval, Decision.reject(), by=ANN)
        await made.worked()
        assert await made.left() == [pending.run]
        channel.down = False
        await made.governor.loop.bridge(
            made.governor.runs.change(pending.run, lambda run, now: _open_again(run))  # its next try is now
        )
        await made.worked()
        assert await made.left() == []


def _open_again(run: Run) -> Any:
    from governor_agents.core.records import Change

    return Change(evolve(run, outbox=tuple(evolve(notice, due=0.0) for notice in run.outbox)))


async def test_many_that_may_go_leave_room_for_those_who_wait() -> None:
    """A worker removes so many at a time; all that only has to go beyond that is left for the next look."""
    hands = Hands(1)
    over = Run("t", "r", "a", "x", "p", RunState.FAILED, 0.0, ended=1.0, keep_until=1.0)
    keys = [("t", f"r{at}") for at in range(REMOVED + 1)]
    assert [hands.remove(key, over) for key in keys] == [True] * REMOVED + [False]
    told = evolve(over, outbox=(Notice("n", 1, "decided", "slack", due=1.0),))
    assert hands.remove(("t", "x"), told) and hands.remove(("t", "x"), evolve(over, state=RunState.READY))
    assert hands.remove(keys[0], over)  # it is in hand already
    hands.drop(keys[0])
    assert hands.remove(keys[-1], over)
    async with shop(MEMORY, SOON) as made:
        await asyncio.gather(*(made.ended("cancelled") for _ in range(REMOVED + 10)))
        assert await made.worked() == REMOVED + 10 and await made.left() == []


# -- what is said changes -----------------------------------------------------------------------------------------------


async def test_a_sweep_finds_what_was_ended_before_anything_was_said(url: str) -> None:
    """And by whoever does not know, as the command line; once a day, and when something else is said."""
    async with shop(url) as made:
        first = await made.ended()
        await made.worked()
        assert await made.left() == [first] and await made.stored("load", "worker", "default", "retention") is None
    async with shop(url, SOON) as made:
        await made.worked()
        assert await made.left() == [] and [each["removed"] for each in await made.entries()] == [first]


async def test_a_worker_that_stays_sweeps_beside_its_work_and_removes_what_ends(url: str) -> None:
    """What had ended before it came, and what ends while it is there."""
    async with shop(url) as made:
        before = await made.ended("cancelled")
    async with shop(url, SOON) as made:
        stop = asyncio.Event()
        working = asyncio.create_task(Worker(made.governor).run(stop=stop))
        after = (await made.pay.ask(1)).run
        await made.governor.cancel(after, by=ANN)
        for id in (before, after):
            with pytest.raises(NotFound):  # by which the wait ends
                await made.governor.wait(id, timeout=100.0, until=lambda run: False)
        stop.set()
        await working
        assert sorted(each["removed"] for each in await made.entries()) == sorted([before, after])


async def test_the_word_of_the_worker_counts_when_it_is_longer_or_gone(url: str) -> None:
    """A run that was to go soon stays when it is said so before it went."""
    async with shop(url, SOON) as made:
        id = await made.ended()
    for spans, expected in (({"completed": "2d"}, 172_800.0), ({}, None), ({"failed": AT_ONCE}, None)):
        async with shop(url, dict(spans)) as made:
            await made.worked()
            assert lasts(await made.governor.get(id)) == (expected and pytest.approx(expected, abs=1e-3))


async def test_two_workers_that_remove_one_run_make_one_entry(url: str) -> None:
    """Both may find it; the account recognises the second writer."""
    async with shop(url, SOON) as made, shop(url, SOON) as other:
        id = await made.ended()
        await other.governor.open()
        both = [each.governor.loop.bridge(each.governor.keeping.remove(id)) for each in (made, other)]
        await asyncio.gather(*both)
        assert await made.left() == [] and len(await made.entries()) == 1


# -- dying on the way ---------------------------------------------------------------------------------------------------

POINTS = ("removal:before", "removal:noted", "conversation:removed", "removal:forgotten", "removal:after")


class Died(Exception):
    """The process, as far as this test goes."""


@pytest.mark.parametrize("point", POINTS)
async def test_whoever_dies_on_the_way_is_followed_by_one_who_finishes(
    url: str, point: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At every point: in the end the run and its thread are gone, and there is one entry."""
    app = langchain_app.App(url, langchain_app.Ledger(tmp_path / "l"), [[("note", {"text": "a"})]], retention=SOON)
    async with app.governor as governor:
        await app.agent.ainvoke({"messages": [("user", "go")]}, {"configurable": {"thread_id": "t1"}})

        def die(name: str) -> None:
            if name == point:
                raise Died(name)

        with monkeypatch.context() as patched:
            patched.setattr("governor_agents.retention.crash_point", die)
            patched.setattr("governor_agents.conversations.crash_point", die)
            with pytest.raises(Died):
                await governor.loop.bridge(governor.keeping.remove("t1/1"))
        await Worker(governor).run(once=True)
        assert await governor.list_runs() == []
        assert await threads(governor, "t1") == []
        assert len(await governor.loop.bridge(governor.audit.newest(what="run.removed"))) == 1


async def test_a_killed_worker_is_followed_by_one_who_finishes(url: str, tmp_path: Path) -> None:
    """The same with a real kill, between the entry and the removal."""
    async with shop(url, SOON) as made:
        id = await made.ended()
    (tmp_path / "app.py").write_text(
        f"from governor_agents import Governor\ngovernor = Governor(store={url!r}, retention={SOON!r})\n"
    )
    for point, code, runs in (("removal:noted", -9, [id]), ("", 0, [])):
        env = {**os.environ, "GOVERNOR_CRASH": point, "PYTHONPATH": os.pathsep.join((os.getcwd(), *sys.path))}
        command = [sys.executable, "-m", "governor_agents", "worker", "app:governor", "--once"]
        done = await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, env=env, capture_output=True, check=False)
        assert done.returncode == code, done.stderr
        async with shop(url) as made:
            assert await made.left() == runs and len(await made.entries()) == 1


# -- conversations ------------------------------------------------------------------------------------------------------


async def threads(governor: Governor, thread: str) -> list[str]:
    found = await governor.loop.bridge(governor.store.list("thread", "default", {"conversation": thread}))
    return [record.id for record in found]


async def test_a_thread_goes_with_the_last_of_its_runs_and_its_numbers_go_on(url: str, tmp_path: Path) -> None:
    """An id that stood in links and in the audit is never given to another run."""
    ledger = langchain_app.Ledger(tmp_path / "ledger")
    config: Any = {"configurable": {"thread_id": "t1"}}
    app = langchain_app.App(url, ledger, ["hello"], retention=SOON)
    async with app.governor as governor:
        for _ in range(2):
            await app.agent.ainvoke({"messages": [("user", "go")]}, config)
        await governor.open()
        before = await threads(governor, "t1")
        assert before and await governor.loop.bridge(governor.keeping.remove("t1/1"))
        assert await threads(governor, "t1") == before  # the other run stands on it
        assert len((await app.agent.aget_state(config)).values["messages"]) == 4
        assert await governor.loop.bridge(governor.keeping.remove("t1/2"))
        assert await threads(governor, "t1") == [] and (await app.agent.aget_state(config)).values == {}
        await app.agent.ainvoke({"messages": [("user", "again")]}, config)
        assert [run.id for run in await governor.list_runs()] == ["t1/3"]


async def test_a_thread_of_one_run_goes_with_it(url: str, tmp_path: Path) -> None:
    """Without a conversation the thread is the run's own; another run's is left alone."""
    app = langchain_app.App(url, langchain_app.Ledger(tmp_path / "l"), ["hello"], retention={"completed": "1d"})
    async with app.governor as governor:
        gone, stays = [(await governor.run("support", "go")).id for _ in range(2)]
        assert await threads(governor, gone) and await threads(governor, stays)
        governor._keeping = Governor(store="memory://", retention=SOON)._keeping
        assert await governor.loop.bridge(governor.keeping.remove(gone))
        assert not await threads(governor, gone) and await threads(governor, stays)


async def test_a_conversation_of_the_openai_sdk_leaves_no_pointer(url: str, tmp_path: Path) -> None:
    """Its runs have ids of their own, so nothing needs to be counted; and it can go on afterwards."""
    governor, _ = openai_agents_app.make_app(url, tmp_path / "ledger", "hello")
    governor._keeping, governor._says_retention = Governor(store="memory://", retention=SOON)._keeping, True
    async with governor:
        run = await governor.run("support", "go", conversation="c")
        assert await pointer(governor, "c") is not None
        await Worker(governor).run(once=True)
        assert await governor.list_runs() == [] and await pointer(governor, "c") is None
        assert (await governor.run("support", "go", conversation="c")).status == run.status == "completed"


async def pointer(governor: Governor, conversation: str) -> Record | None:
    return await governor.loop.bridge(governor.store.load("thread", "default", f"conversation:{conversation}"))


async def test_a_run_that_waits_keeps_the_thread_of_those_that_ended(url: str, tmp_path: Path) -> None:
    """What a waiting run is to be resumed from must not go."""
    turns: list[Any] = [[("pay", {"amount": 100})]]
    app = langchain_app.App(url, langchain_app.Ledger(tmp_path / "ledger"), turns, retention=SOON)
    async with app.governor as governor:
        first = await governor.run("support", "go", conversation="t1")
        await governor.cancel(first.id, by=ANN)
        second = await governor.run("support", "go", conversation="t1")
        await Worker(governor).run(once=True)
        assert [run.id for run in await governor.list_runs()] == [second.id]
        await app.decide(await governor.get(second.id), Decision.approve())
        done = await governor.resume(second.id)
        assert (done.status, [call.state for call in done.calls]) == ("completed", [CallState.SUCCEEDED])


# -- what the audit can tell --------------------------------------------------------------------------------------------


async def verified(made: Shop, run: str = "") -> Report:
    return await made.governor.loop.bridge(made.governor.audit.verify(run))


async def pinned(made: Shop, *how: str) -> list[str]:
    """Ended runs that a checkpoint knows."""
    ids = [await made.ended(each) for each in how]
    await made.governor.loop.bridge(made.governor.audit.checkpoints.make(full=True))
    return ids


async def removed(made: Shop, id: str) -> tuple[list[tuple[str, str, str]], int]:
    report = await verified(made, id)
    return found(report), report.removed


def found(report: Report) -> list[tuple[str, str, str]]:
    return [(finding.code, finding.kind, finding.id) for finding in report.findings]


async def by_hand(made: Shop, kind: str, id: str) -> None:
    """What somebody with access to the store does."""
    record = await made.stored("load", kind, "default", id)
    assert await made.stored("delete", kind, "default", id, record.v)


async def test_the_audit_tells_a_removed_run_from_one_that_vanished(url: str) -> None:
    """The same two runs: one removed by a worker, one deleted by hand; in the store, alone, and in an export."""
    async with shop(url, {"completed": AT_ONCE}, KEYS) as made:
        removed, vanished = await pinned(made, "completed", "failed")
        await made.worked()
        assert await made.left() == [vanished]
        report = await verified(made)
        assert (found(report), report.removed) == ([], 1)
        await by_hand(made, "run", vanished)
        report = await verified(made)
        assert (found(report), report.removed) == ([("gone", "run", vanished)], 1)
        assert (found(await verified(made, removed)), found(await verified(made, vanished))) == (
            [],
            [("gone", "run", vanished)],
        )
        await made.governor.loop.bridge(made.governor.audit.checkpoints.make(full=True))
        report = await verified(made)  # a later checkpoint, which knows neither, changes nothing
        assert (found(report), report.removed) == ([("gone", "run", vanished)], 1)


async def test_an_export_tells_them_apart_too() -> None:
    """With the account in it; without the account both are gone."""
    from governor_agents.audit.checkpoints import from_document, to_document
    from governor_agents.audit.log import Published
    from governor_agents.core.calls import freeze

    async with shop(MEMORY, SOON, KEYS) as made:
        [id] = await pinned(made, "completed")
        made_one = await made.governor.loop.bridge(made.governor.audit.checkpoints.last())
        await made.worked()
        published = [Published("kept", from_document(freeze(to_document(made_one)), "kept"))]
        public = [KEYS.signing.public_key()]

        async def lines() -> list[bytes]:
            trails = made.governor.audit.trails()
            return [line.encode() for _, each in [t async for t in trails] for line in to_jsonl(each).splitlines()]

        exported = await made.governor.loop.bridge(lines())
        report = verify_export(exported, published, public, key=KEYS.audit)
        assert (found(report), report.removed) == ([], 1)
        report = verify_export([b for b in exported if b"run.removed" not in b], published, public, key=KEYS.audit)
        assert (found(report), report.removed) == ([("gone", "run", id)], 0)
        forged = verify_export(exported, published, public, key=Keys.generate().audit)
        assert ("gone", "run", id) in found(forged)


async def test_an_entry_that_was_written_without_the_key_vouches_for_nothing() -> None:
    """Somebody deletes a run and writes the entry that a worker would have written, but for its MAC."""
    async with shop(MEMORY, None, KEYS) as made:
        [id] = await pinned(made, "completed")
        run, record = await made.governor.get(id), await made.stored("load", "run", "default", id)
        for key in (None, Keys.generate().audit):
            await made.governor.loop.bridge(Removals(made.governor.store, "default", key).note(run, record.v))
        await by_hand(made, "run", id)
        report = await verified(made)
        assert ("gone", "run", id) in found(report) and report.removed == 0
        await made.governor.loop.bridge(made.governor.audit.removals.note(run, record.v + 100))  # the control
        assert ("gone", "run", id) not in found(await verified(made))


async def test_an_entry_in_clear_is_refused_by_a_sealed_store() -> None:
    """Who lacks the keys cannot write one at all."""
    async with shop(MEMORY, None, KEYS) as made:
        [id] = await pinned(made, "completed")
        run = await made.governor.get(id)
        raw = made.governor.store.beneath._store  # type: ignore[attr-defined]  # beneath packing and sealing
        await made.governor.loop.bridge(Removals(raw, "default", KEYS.audit).note(run, 1))
        await by_hand(made, "run", id)
        report = await verified(made)
        assert ("gone", "run", id) in found(report) and report.removed == 0
        assert any(code == "unreadable" and kind == "audit" for code, kind, _ in found(report))


async def test_an_entry_does_not_hide_what_was_cut_off_before() -> None:
    """It vouches for the run as it stood then: a checkpoint that has more of it, or another, is believed."""
    async with shop(MEMORY, None, KEYS) as made:
        [id] = await pinned(made, "completed")
        run, v = await made.governor.get(id), (await made.stored("load", "run", "default", id)).v
        note = made.governor.audit.removals.note
        await by_hand(made, "run", id)
        for shorter in (evolve(run, seq=run.seq - 1), evolve(run, chain="0" * 64)):
            await made.governor.loop.bridge(note(shorter, v + shorter.seq + 1))
            assert found(await verified(made)) == [("gone", "run", id)]
        await made.governor.loop.bridge(note(run, v - 1))
        assert found(await verified(made)) == [("gone", "run", id)]
        await made.governor.loop.bridge(note(run, v))
        assert found(await verified(made)) == []  # the control


async def test_an_account_that_was_taken_away_is_missed() -> None:
    """Then the runs that it vouched for are gone, and so is the account itself where a checkpoint has it."""
    async with shop(MEMORY, SOON, KEYS) as made:
        [id] = await pinned(made, "completed")
        await made.worked()
        await made.governor.loop.bridge(made.governor.audit.checkpoints.make(full=True))
        assert found(await verified(made)) == []
        [day] = [r.id for r in await made.stored("list", "audit", "default") if r.id.startswith("removed:")]
        await by_hand(made, "audit", day)
        made.governor.audit._account = type(made.governor.audit._account)(KEYS.audit)  # another process
        assert sorted(found(await verified(made))) == [("gone", "audit", day), ("gone", "run", id)]


async def test_the_next_checkpoint_pins_the_account() -> None:
    """Without being asked for everything: the day's record is looked at as the refused requests are."""
    async with shop(MEMORY, SOON, KEYS) as made:
        await pinned(made, "completed")
        await made.worked()  # it ends with a checkpoint
        last = await made.governor.loop.bridge(made.governor.audit.checkpoints.last())
        assert last is not None and any(head.id.startswith("removed:") for head in last.heads)


def test_the_module_says_where_it_may_die() -> None:
    """The points of this file are those of the code."""
    text = Path(retention.__file__).read_text()
    assert all(f'"{point}"' in text for point in POINTS if point.startswith("removal"))
