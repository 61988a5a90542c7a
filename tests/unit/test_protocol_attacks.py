"""Attacks on the protocol, written as the behaviour that is right."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from governor_agents import Governor
from governor_agents.claims import Claim
from governor_agents.core import decisions, doubts, driving, execution, settling
from governor_agents.core.calls import Tool, ToolCall, freeze, sha256
from governor_agents.core.identity import Voter
from governor_agents.core.ports import Segment
from governor_agents.core.records import CallState, Change, Decision, Result, Run, RunState, Snapshot
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.driver import Prepared
from governor_agents.errors import (
    AlreadyDecided,
    EditRefused,
    Fenced,
    GovernorError,
    IllegalTransition,
    ReasonRequired,
    RunBlocked,
    StoreUnavailable,
)
from governor_agents.runs import Runs
from governor_agents.stores.memory import MemoryStore
from governor_agents.testing import MovableClock
from governor_agents.worker import Worker

ALLOW = Verdict("allow")
ASK = Verdict("require_approval", policy="p", version="1", stages=(Stage(("ops",), ("alice", "bob")),), deadline=100.0)
W1, W2 = "w1", "w2"
PAY = Tool("pay")


def new_run(**changes: Any) -> Run:
    return replace(Run("t", "run_1", "agent", "x", "requester", RunState.QUEUED, 0.0), **changes)


def call(id: str = "c1", tool: str = "pay", **args: Any) -> ToolCall:
    return ToolCall.of(tool, args or {"amount": 5}, id, agent="agent", run="run_1", requester="requester", tenant="t")


def ask(verdict: Verdict = ASK, id: str = "c1", tool: Tool = PAY) -> driving.Ask:
    return driving.Ask(call(id), tool, verdict, f"nonce-{id}")


def started() -> Run:
    return driving.start(new_run(), 0.0, owner=W1, lease=30.0).run


def paused(*asks: driving.Ask) -> Run:
    return driving.pause(started(), 1.0, owner=W1, fence=1, snapshot=Snapshot("blob", "x"), asks=asks or (ask(),)).run


def vote(
    run: Run, by: str = "alice", kind: Decision | None = None, *, n: int = 1, now: float = 2.0, **more: Any
) -> Change:
    found = run.call(n)
    given = {"digest": found.digest if found else "", "nonce": "fresh", **more}
    return decisions.decide(run, n, kind or Decision.approve(), by=Voter.plain(by), now=now, **given)


def claim(run: Run, now: float = 3.0, lease: float = 30.0) -> Run:
    return driving.claim(run, now, owner=W1, lease=lease).run


def intent(run: Run, verdict: Verdict = ASK, *, n: int = 1, now: float = 4.0) -> Change:
    return execution.intent(run, n, now, owner=W1, fence=run.fence, verdict=verdict, schema_sha256="", idem_key="key")


def dead(run: Run, now: float) -> Run:
    """The run once it is known that whoever set out to run its calls in doubt is dead."""
    return doubts.note_deaths(run, now, doubts.suspects(run)).run


def state(run: Run, n: int = 1) -> CallState:
    found = run.call(n)
    assert found is not None
    return found.state


def allowed(tool: Tool, verdict: Verdict = ALLOW) -> Run:
    """A first stretch, without a snapshot, in which an allowed call executes."""
    run = started()
    made = decisions.make_call(run, call(tool=tool.name), tool, verdict, now=1.0, nonce="n")
    return execution.intent(
        run.with_call(made), 1, 1.0, owner=W1, fence=1, verdict=verdict, schema_sha256="", idem_key="k"
    ).run


DONE = Result(sha256(b'"done"'), '"done"')


# -- pure transitions -------------------------------------------------------------------------------------------------


def test_the_next_stage_is_told_that_it_is_asked() -> None:
    """Invariant 1: when the first stage has approved, the people of the second one get a notice."""
    run = paused(ask(replace(ASK, stages=(Stage(("ops",), ("alice",)), Stage(("cfo",), ("carol",))))))
    run = vote(replace(run, outbox=()), "alice").run
    assert [notice.what for notice in run.outbox] == ["asked"]


def test_an_escalated_approval_can_run() -> None:
    """A stage that was passed over by its deadline is not demanded again, for ever, by the same policy."""
    staged = replace(ASK, stages=(Stage(("a",), ("alice",), within=10.0), Stage(("b",), ("bob",))))
    run = driving.tick(paused(ask(staged)), 12.0).run
    run = claim(vote(run, "bob", now=13.0).run, 14.0)
    assert state(intent(run, staged, now=15.0).run) is CallState.EXECUTING


def test_a_vote_that_stands_for_a_later_stage_counts_when_that_stage_is_reached() -> None:
    """Asked again with a stage in front: when it escalates, the vote that is already there decides."""
    run = claim(vote(paused(), "bob").run)
    staged = replace(ASK, stages=(Stage(("a",), ("alice",), within=10.0), Stage(("b",), ("bob",))))
    run = driving.abandon(intent(run, staged).run, 5.0, owner=W1, fence=2).run
    run = driving.tick(run, 20.0).run
    if state(run) is CallState.PENDING:
        run = vote(run, "bob", now=21.0).run
    assert state(run) is CallState.APPROVED


def test_run_within_counts_from_the_latest_ready() -> None:
    """Asked again and approved again: the fresh approval is not overdue at once."""
    short = replace(ASK, run_within=50.0)
    two = replace(short, stages=(*short.stages, Stage(("cfo",), ("carol",))))
    run = claim(vote(paused(ask(short))).run)
    run = driving.abandon(intent(run, two).run, 5.0, owner=W1, fence=2).run
    run = vote(run, "carol", now=90.0).run
    assert run.state is RunState.READY
    assert claim(run, 91.0).state is RunState.ACTIVE


def test_run_within_counts_anew_for_a_call_that_replaces_another() -> None:
    """A doubt that stood for a day: what is approved anew afterwards is not overdue at once."""
    short = replace(ASK, run_within=50.0)
    run = driving.tick(intent(claim(vote(paused(ask(short))).run), short).run, 40.0).run
    run = dead(run, 900.0)
    run = doubts.resolve(run, 1, 1000.0, how="did-not-happen", by="op", evidence="log", nonce="n", verdict=short).run
    run = vote(run, n=2, now=1001.0).run
    assert state(claim(run, 1002.0), 2) is CallState.APPROVED


def test_run_within_binds_the_intent() -> None:
    """A claim that lives long (heartbeats) does not stretch run_within: approved, then not run in time, is EXPIRED."""
    run = claim(vote(paused(ask(replace(ASK, run_within=50.0)))).run, lease=10_000.0)
    try:
        run = intent(run, now=5000.0).run
    except GovernorError:
        return
    assert state(run) is not CallState.EXECUTING


def test_time_expires_an_approval_that_no_worker_can_run() -> None:
    """READY with nobody who knows the agent: run_within ends it, and somebody is told to look then."""
    run = replace(vote(paused(ask(replace(ASK, run_within=50.0)))).run, outbox=())
    assert state(driving.tick(run, 5000.0).run) is CallState.EXPIRED


def test_an_overdue_retry_of_a_run_without_snapshot_is_a_doubt() -> None:
    """QUEUED with a RETRY that is overdue: claim must not be an illegal transition for ever."""
    run = driving.tick(allowed(Tool("pay", retry="idempotent")), 40.0).run
    assert state(run) is CallState.RETRY
    after = driving.claim(run, 40.0 + 2 * 86_400, owner=W2, lease=30.0).run
    assert after.state is RunState.BLOCKED and state(after) is CallState.UNKNOWN


def test_abandon_in_the_first_stretch() -> None:
    """An idempotent tool cancelled in a run without snapshot: the stretch can be given up."""
    run = execution.lapse(allowed(Tool("pay", retry="idempotent")), 1, 2.0, owner=W1, fence=1, attempt=1).run
    run = driving.abandon(run, 3.0, owner=W1, fence=1).run
    assert run.state in (RunState.QUEUED, RunState.READY)


def test_a_ready_function_run_ends_with_its_call() -> None:
    """Asked again, worker dies, the run is free; then a person rejects: the run ends in that write."""
    run = driving.ask_single(new_run(), ask(), 0.0, owner=W1, lease=None).run
    two = replace(ASK, stages=(*ASK.stages, Stage(("cfo",), ("carol",))))
    run = intent(claim(vote(run).run), two).run
    run = driving.tick(run, 40.0).run  # the lease is over
    run = vote(run, "carol", Decision.reject("no"), now=41.0).run
    assert run.state is RunState.FAILED


def test_a_run_whose_call_is_pending_does_not_become_ready() -> None:
    """Asked again, then the worker dies: the run waits for people."""
    two = replace(ASK, stages=(*ASK.stages, Stage(("cfo",), ("carol",))))
    run = driving.tick(intent(claim(vote(paused()).run), two).run, 40.0).run
    assert state(run) is CallState.PENDING and run.state is RunState.WAITING


def test_end_run_holds_when_the_call_expires_while_the_run_is_ready() -> None:
    """``on_expire: end_run`` wherever it expired: the siblings do not run."""
    ends = replace(ASK, on_expire="end_run")
    two = replace(ends, stages=(*ASK.stages, Stage(("cfo",), ("carol",))))
    run = vote(vote(paused(ask(ends), ask(id="c2"))).run, n=2).run
    run = driving.tick(intent(claim(run), two).run, 40.0).run  # asked again, worker dead
    run = driving.tick(run, 200.0).run
    assert state(run) is CallState.EXPIRED and run.state is RunState.FAILED


def test_the_replacement_of_an_edited_call_is_found_again() -> None:
    """The framework comes back with the model's arguments; the new call must know that it was edited."""
    run = vote(paused(), kind=Decision.edit({"amount": 1}), verdict=ASK).run
    run = driving.tick(intent(claim(run)).run, 40.0).run
    run = dead(run, 50.0)
    run = doubts.resolve(run, 1, 110.0, how="did-not-happen", by="op", evidence="log", nonce="n", verdict=ASK).run
    fresh = run.call(2)
    assert fresh is not None and fresh.args == b'{"amount":1}' and fresh.asked_args == b'{"amount":5}'


def test_a_second_edit_with_other_bytes_is_no_repetition() -> None:
    """The first decision wins; other bytes from the same person are told so."""
    run = vote(paused(), kind=Decision.edit({"amount": 1}), verdict=ASK).run
    with pytest.raises(AlreadyDecided):
        vote(run, kind=Decision.edit({"amount": 2}), verdict=ASK, now=3.0)


def test_an_approval_after_somebody_elses_rejection_is_told_so() -> None:
    """Alice approved stage one, Carol rejected: Alice's second approve must not read as accepted."""
    run = vote(
        paused(ask(replace(ASK, stages=(Stage(("ops",), ("alice",)), Stage(("cfo",), ("carol",)))))), "alice"
    ).run
    run = vote(run, "carol", Decision.reject("no")).run
    with pytest.raises(AlreadyDecided):
        vote(run, "alice")


def test_an_edit_must_meet_the_stricter_verdict() -> None:
    """The editor is the requester, whom the policy for the new bytes excludes: that vote approves nothing."""
    mild = replace(ASK, stages=(Stage(("ops",), ("requester",)),), exclude_requester=False)
    run = paused(ask(mild))
    strict = replace(mild, exclude_requester=True)
    try:
        run = vote(run, "requester", Decision.edit({"amount": 9}), verdict=strict).run
    except EditRefused:
        return
    assert state(run) is CallState.PENDING


def test_an_edit_gives_the_reason_that_the_new_verdict_wants() -> None:
    """``reason_required`` of the stricter verdict binds the editor."""
    with pytest.raises(ReasonRequired):
        vote(paused(), kind=Decision.edit({"amount": 9}), verdict=replace(ASK, reason_required=True))


def test_an_edit_takes_the_stricter_terms() -> None:
    """``run_within`` and ``on_expire`` of the new verdict hold for the new bytes."""
    strict = replace(ASK, stages=(Stage(("cfo",), ("carol",)),), run_within=10.0, on_expire="end_run", channels=("x",))
    one = vote(paused(), kind=Decision.edit({"amount": 9}), verdict=strict).run.call(1)
    assert one and (one.run_within, one.on_expire) == (10.0, "end_run") and "x" in one.channels


def test_intent_honours_a_policy_that_now_excludes_the_requester() -> None:
    """The requester approved while that was allowed; the policy of now does not count it."""
    mild = replace(ASK, stages=(Stage(("ops",), ("requester", "bob")),), exclude_requester=False)
    run = claim(vote(paused(ask(mild)), "requester").run)
    assert state(intent(run, replace(mild, exclude_requester=True)).run) is CallState.PENDING


def test_supersede_is_refused_while_active() -> None:
    """A new message may not end a run that is being driven (the look before the write proves nothing)."""
    with pytest.raises(GovernorError):
        settling.request_cancel(claim(vote(paused()).run), 5.0, by="r", reason="", superseded=True)


def test_a_late_exception_leaves_a_trace_and_a_fenced_result_too() -> None:
    """A result that is dropped because another claim took over is audited (spec: drop and audit ``fenced``)."""
    run = driving.tick(intent(claim(vote(paused(ask(tool=Tool("pay", retry="idempotent")))).run)).run, 40.0).run
    run = intent(driving.claim(run, 41.0, owner=W1, lease=30.0).run, now=42.0).run
    try:
        change = execution.record(run, 1, 43.0, owner=W1, fence=2, attempt=1, result=DONE)
    except Fenced:
        pytest.fail("the fenced result leaves no audit event")
    assert change.events and state(change.run) is CallState.EXECUTING


def test_a_loop_that_ends_with_a_retry_open_can_be_left() -> None:
    """RETRY at the end of the loop: the doubt is one that an operator can resolve."""
    run = execution.lapse(allowed(Tool("pay", retry="idempotent")), 1, 2.0, owner=W1, fence=1, attempt=1).run
    run = driving.finish(run, 3.0, owner=W1, fence=1, output_json='"x"').run
    assert run.state is RunState.BLOCKED
    after = doubts.resolve(run, 1, 4.0, how="abandon", by="op", evidence="log", nonce="n").run
    assert after.state is not RunState.BLOCKED


class Slow(MemoryStore):
    """Every write takes a turn of the loop, as it does in any store but memory."""

    async def swap(self, record: Any, **rest: Any) -> Any:
        await asyncio.sleep(0.01)
        return await super().swap(record, **rest)


# -- a governor on a store in memory ----------------------------------------------------------------------------------


class Loop:
    """An adapter whose agent is a coroutine function: ``await agent(input or snapshot, calls)`` gives a segment."""

    name = "test"
    framework = "test 1"
    replays = False

    def __init__(self, agent: Callable[..., Any]) -> None:
        self.agent = agent

    def prepare(self, agent: Any) -> Any:
        return agent

    async def start(self, agent: Any, input: Any, **_: Any) -> Segment:
        made: Segment = await self.agent(input, ())
        return made

    async def resume(self, agent: Any, snapshot: bytes, calls: Any, **_: Any) -> Segment:
        made: Segment = await self.agent(snapshot, calls)
        return made

    async def capture(self, paused: Any, **_: Any) -> None:
        return None

    async def close(self, agent: Any, snapshot: bytes, calls: Any) -> None:
        return None

    def inventory(self, agent: Any) -> list[Tool]:
        return []

    def fingerprint(self, agent: Any) -> str:
        return ""


class App:
    """A governor with a hand-made loop and a clock, and a ledger of effects."""

    def __init__(self, verdict: Verdict | Callable[[ToolCall], Verdict] = ALLOW, store: Any = None) -> None:
        self.clock = MovableClock()
        self.effects: list[Any] = []
        said = verdict if callable(verdict) else lambda call: verdict
        self.governor = Governor([said], store=store or MemoryStore(clock=self.clock), secret=b"k")

    def agent(self, loop: Callable[..., Any]) -> None:
        self.governor.agents["a"] = lambda: object()
        self.governor._prepared["a"] = Prepared(Loop(loop), object())

    async def begin(self) -> tuple[Run, Claim]:
        await self.governor.open()
        run = evolve_run(self.governor)

        async def work() -> Run:
            now = await self.governor.runs.now()
            return await self.governor.runs.create(driving.start(run, now, owner=W1, lease=30.0), now)

        made = await self.governor.loop.bridge(work())
        return made, Claim.on(made)

    def call(self, id: str, tool: str = "pay", **args: Any) -> ToolCall:
        return ToolCall.of(tool, args or {"amount": 5}, id, agent="a", requester="r", tenant="default")

    async def tool(self, args: bytes) -> str:
        self.effects.append(args)
        await asyncio.sleep(0.01)
        return "done"


def evolve_run(governor: Governor) -> Run:
    return Run(governor.tenant, "run_1", "a", "test", "r", RunState.QUEUED, 0.0)


def test_a_call_id_that_comes_twice_at_once_runs_once() -> None:
    """A provider's duplicate tool_call_id, both tools started in parallel: one effect."""

    async def main() -> None:
        app = App(store=Slow())
        _, claim = await app.begin()
        guard = app.governor.guard
        both = [guard.run(claim, app.call("c1"), PAY, app.tool) for _ in range(2)]
        await asyncio.gather(*both, return_exceptions=True)
        assert len(app.effects) == 1
        await app.governor.close()

    asyncio.run(main())


def test_a_call_id_that_comes_twice_at_once_with_other_content_is_refused() -> None:
    """The same, with other arguments: the verdict on five is not a verdict on five thousand."""

    async def main() -> None:
        app = App(lambda call: ALLOW if call.arguments["amount"] < 50 else ASK, Slow())
        _, claim = await app.begin()
        guard = app.governor.guard
        both = [guard.run(claim, app.call("c1", amount=amount), PAY, app.tool) for amount in (5, 5000)]
        await asyncio.gather(*both, return_exceptions=True)
        assert app.effects in ([], [b'{"amount":5}'])
        await app.governor.close()

    asyncio.run(main())


def test_a_verdict_belongs_to_the_call_and_not_to_its_id() -> None:
    """A read-only call that was allowed lends its verdict to nothing else under the same id."""

    async def main() -> None:
        app = App(lambda call: ALLOW if call.tool == "look" else ASK)
        _, claim = await app.begin()
        guard = app.governor.guard
        await guard.run(claim, app.call("call_0", "look"), Tool("look", read_only=True), app.tool)
        app.effects.clear()
        ran = await guard.run(claim, app.call("call_0", "pay", amount=5000), PAY, app.tool)
        assert ran.how == "waits" and not app.effects
        await app.governor.close()

    asyncio.run(main())


def test_nothing_starts_after_a_doubt() -> None:
    """The framework swallowed RunBlocked: the next tool of the same loop must not start."""

    async def main() -> None:
        app = App()
        _, claim = await app.begin()
        guard = app.governor.guard
        began = asyncio.Event()

        async def endless(_: Any) -> None:
            began.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(guard.run(claim, app.call("c1"), PAY, endless))
        await began.wait()
        task.cancel()  # a time-out of the framework
        await asyncio.gather(task, return_exceptions=True)
        assert claim.stop
        with pytest.raises((RunBlocked, Fenced)):
            await guard.run(claim, app.call("c2"), PAY, app.tool)
        assert not app.effects
        await app.governor.close()

    asyncio.run(main())


def test_nothing_starts_after_a_result_that_could_not_be_recorded() -> None:
    """The effect happened, the record failed, the framework makes words of the error: the loop must not go on."""

    async def main() -> None:
        app = App()
        _, claim = await app.begin()
        guard = app.governor.guard

        def broken(_: Any) -> bytes:
            raise ValueError("no JSON")

        with pytest.raises(Exception):  # noqa: B017
            await guard.run(claim, app.call("c1"), PAY, app.tool, dump=broken)
        assert claim.stop, "the adapter cannot know that the effect happened"
        await app.governor.close()

    asyncio.run(main())


def test_a_dump_that_fails_after_the_effect_leaves_a_recorded_call() -> None:
    """The tool gave a value: the record must not say that nobody knows what happened."""

    async def main() -> None:
        app = App()
        run, claim = await app.begin()

        async def tool(_: bytes) -> Any:
            app.effects.append(1)
            return (1, 2)  # not plain JSON

        await asyncio.gather(app.governor.guard.run(claim, app.call("c1"), PAY, tool), return_exceptions=True)
        assert state(await app.governor.get(run.id)) is CallState.SUCCEEDED
        await app.governor.close()

    asyncio.run(main())


def test_an_exception_with_a_lone_surrogate_is_recorded() -> None:
    """``os`` puts surrogates into messages; the record must take them."""

    async def main() -> None:
        app = App()
        run, claim = await app.begin()

        async def tool(_: bytes) -> Any:
            raise ValueError("file \udcff")

        await asyncio.gather(app.governor.guard.run(claim, app.call("c1"), PAY, tool), return_exceptions=True)
        assert state(await app.governor.get(run.id)) is CallState.FAILED
        await app.governor.close()

    asyncio.run(main())


def test_a_zombie_writes_nothing_into_a_run_that_is_over() -> None:
    """A denied call under a claim that is lost: no new record, no change of a run that has ended."""

    async def main() -> None:
        app = App(Verdict("deny"))
        run, claim = await app.begin()
        await app.governor.cancel(run.id, by="op", reason="stop")
        with pytest.raises(Fenced):
            await app.governor.guard.run(claim, app.call("c1"), PAY, app.tool)
        assert not (await app.governor.get(run.id)).calls
        await app.governor.close()

    asyncio.run(main())


def test_a_decision_after_the_generation_closed_is_told_who_won() -> None:
    """Late clicks on an old card: AlreadyDecided, not NotFound."""

    async def main() -> None:
        app = App(ASK)
        run, _claim = await app.begin()
        asks = (driving.Ask(app.call("c1"), PAY, ASK, "n1"),)

        async def work() -> None:
            runs = app.governor.runs
            snap = Snapshot("b", "test")
            await runs.change(run.id, lambda r, now: driving.pause(r, now, owner=W1, fence=1, snapshot=snap, asks=asks))

        await app.governor.loop.bridge(work())
        await app.governor.decide("run_1.1", Decision.reject("no"), by="alice")

        async def again() -> None:
            from governor_agents.runs import closing_blob

            runs = app.governor.runs
            r = (await runs.change(run.id, lambda r, now: driving.claim(r, now, owner=W1, lease=30.0))).run
            made = closing_blob(r)
            assert made
            more = (driving.Ask(app.call("c2"), PAY, ASK, "n2"),)
            await runs.change(
                run.id,
                lambda r, now: driving.pause(
                    r, now, owner=W1, fence=2, snapshot=Snapshot("b2", "test"), asks=more, closed=made[0]
                ),
                blobs=(made[1],),
            )

        await app.governor.loop.bridge(again())
        with pytest.raises(AlreadyDecided, match="alice"):
            await app.governor.decide("run_1.1", Decision.approve(), by="bob")
        await app.governor.close()

    asyncio.run(main())


# -- compare-and-set whose answer was lost -----------------------------------------------------------------------------


class Lossy(MemoryStore):
    """Applies a write, lets somebody else write, and then says that it could not be reached."""

    between: Callable[[], Any] | None = None

    async def swap(self, record: Any, **rest: Any) -> Any:
        answer = await super().swap(record, **rest)
        if answer.won and self.between is not None:
            other, self.between = self.between, None
            await other()
            raise StoreUnavailable("the answer was lost")
        return answer


def test_a_write_whose_answer_was_lost_does_not_undo_the_next_one() -> None:
    """My write stands, another process wrote after it, I am told "won" on asking again: its write must survive mine."""

    async def main() -> None:
        store = Lossy()
        await store.open()
        mine, other = Runs(store, "t"), Runs(store, "t")
        now = await store.now()
        await mine.create(driving.start(new_run(), now, owner=W1, lease=30.0), now)

        async def cancel() -> None:
            await other.change("run_1", lambda run, now: settling.request_cancel(run, now, by="op", reason="stop"))

        def beat(run: Run, now: float) -> Change:
            return driving.renew(run, now, owner=W1, fence=1, lease=30.0)

        store.between = cancel
        await mine.change("run_1", beat, fresh=False)
        assert (await mine.get("run_1")).state is RunState.CANCELLED
        with pytest.raises(Fenced):
            await mine.change("run_1", beat, fresh=False)
        assert (await mine.get("run_1")).state is RunState.CANCELLED
        await store.close()

    asyncio.run(main())


def test_an_intent_whose_doubt_stands_before_its_answer_came_runs_nothing() -> None:
    """The intent was written, its answer lost; meanwhile the lease ended and the call is UNKNOWN. "Won" is not enough."""

    async def main() -> None:
        store = Lossy()
        app = App(store=store)
        run, claim = await app.begin()
        other = Runs(store, "default")

        async def lapse() -> None:
            await other.change(run.id, lambda r, now: driving.lease_over(r, r.lease.until if r.lease else now))

        store.between = lapse
        await asyncio.gather(app.governor.guard.run(claim, app.call("c1"), PAY, app.tool), return_exceptions=True)
        assert state(await app.governor.get(run.id)) is CallState.UNKNOWN
        assert not app.effects
        await app.governor.close()

    asyncio.run(main())


def test_the_intent_is_bounded_by_the_lease_in_the_store() -> None:
    """The compare-and-set of the intent carries ``not_after``: a process that slept over its lease starts nothing."""

    async def main() -> None:
        app = App()

        class Stops(MemoryStore):
            stopped = False

            async def swap(self, record: Any, **rest: Any) -> Any:
                if b'"executing"' in record.body and not self.stopped:
                    self.stopped = True
                    app.clock.move(3600.0)  # SIGSTOP between the look at the clock and the write
                return await super().swap(record, **rest)

        app.clock = MovableClock()
        app.governor = Governor([lambda call: ALLOW], store=Stops(clock=app.clock), secret=b"k")
        _, claim = await app.begin()
        await asyncio.gather(app.governor.guard.run(claim, app.call("c1"), PAY, app.tool), return_exceptions=True)
        assert not app.effects
        await app.governor.close()

    asyncio.run(main())


def test_a_vote_that_is_written_after_the_deadline_does_not_count() -> None:
    """The store's clock at the write decides, not the look before it."""

    async def main() -> None:
        clock = MovableClock()

        class Stops(MemoryStore):
            armed = False

            async def swap(self, record: Any, **rest: Any) -> Any:
                if self.armed:
                    self.armed = False
                    clock.move(3600.0)
                return await super().swap(record, **rest)

        store = Stops(clock=clock)
        app = App(ASK, store)
        app.clock = clock

        @app.governor.govern(approvers=["alice"], deadline=100.0)
        async def transfer() -> str:
            return "ok"

        pending = await transfer.ask()  # type: ignore[attr-defined]
        store.armed = True
        with pytest.raises(GovernorError):
            await app.governor.decide(pending.approval, Decision.approve(), by="alice")
        await app.governor.close()

    asyncio.run(main())


# -- functions ---------------------------------------------------------------------------------------------------------


def test_an_edit_that_leaves_out_an_argument_does_not_shift_the_others() -> None:
    """What runs is what was shown: {"target": "acc9"} is the target, not the source."""

    async def main() -> None:
        app = App()
        seen: list[Any] = []

        @app.governor.govern(approvers=["alice"])
        async def transfer(source: str = "acc1", target: str = "acc2") -> str:
            seen.append((source, target))
            return "ok"

        pending = await transfer.ask("mine", "yours")  # type: ignore[attr-defined]
        await app.governor.decide(pending.approval, Decision.edit({"target": "acc9"}), by="alice")
        await asyncio.gather(pending.result(timeout=5), return_exceptions=True)
        assert seen in ([], [("acc1", "acc9")])
        await app.governor.close()

    asyncio.run(main())


def test_keywords_do_not_replace_a_positional_argument() -> None:
    """f(1, a=2) of ``def f(a, /, **rest)`` is f(1, a=2), or refused; never f(2)."""
    app = App(ALLOW)
    seen: list[Any] = []

    @app.governor.govern()
    def f(a: int, /, **rest: int) -> None:
        seen.append((a, rest))

    with contextlib.suppress(GovernorError):
        f(1, a=2)
    assert seen in ([], [(1, {"a": 2})])


def test_waiting_for_a_function_that_another_one_runs_is_quiet() -> None:
    """Two collectors of one call: the second waits, it does not spin on the store."""

    async def main() -> None:
        app = App()
        began, gate = asyncio.Event(), asyncio.Event()

        @app.governor.govern(approvers=["alice"])
        async def slow() -> str:
            app.effects.append(1)
            began.set()
            await gate.wait()
            return "ok"

        pending = await slow.ask()  # type: ignore[attr-defined]
        first = asyncio.create_task(pending.result())
        second = asyncio.create_task(pending.result())
        await app.governor.decide(pending.approval, Decision.approve(), by="alice")
        await began.wait()
        looks = 0
        load = app.governor.store.load

        async def counted(*a: Any) -> Any:
            nonlocal looks
            looks += 1
            return await load(*a)

        app.governor.store.load = counted  # type: ignore[method-assign]
        await asyncio.sleep(0.5)
        spun = looks
        gate.set()
        assert await asyncio.gather(first, second) == ["ok", "ok"] and app.effects == [1]
        assert spun < 20
        await app.governor.close()

    asyncio.run(main())


def test_a_time_out_of_the_waiter_does_not_cut_the_tool_off() -> None:
    """``result(timeout=)`` bounds the waiting for people; a transfer that runs is not left in doubt."""

    async def main() -> None:
        app = App()
        gate = asyncio.Event()

        @app.governor.govern(approvers=["alice"])
        async def transfer() -> str:
            app.effects.append(1)
            await gate.wait()
            return "ok"

        pending = await transfer.ask()  # type: ignore[attr-defined]
        await app.governor.decide(pending.approval, Decision.approve(), by="alice")
        collecting = asyncio.create_task(pending.result(timeout=2.0))
        await asyncio.wait([collecting], timeout=2.5)
        gate.set()
        await asyncio.gather(collecting, return_exceptions=True)
        while state(await app.governor.get(pending.run)) is CallState.EXECUTING:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert state(await app.governor.get(pending.run)) is CallState.SUCCEEDED and app.effects == [1]
        await app.governor.close()

    asyncio.run(main())


def test_a_function_that_an_operator_says_happened_is_not_in_doubt() -> None:
    """After "happened" whoever collects is not told that nobody knows."""
    from governor_agents.errors import CallInDoubt

    async def main() -> None:
        app = App()
        began = asyncio.Event()

        @app.governor.govern(approvers=["alice"])
        async def transfer() -> str:
            began.set()
            await asyncio.sleep(60)
            return "ok"

        pending = await transfer.ask()  # type: ignore[attr-defined]
        await app.governor.decide(pending.approval, Decision.approve(), by="alice")
        collecting = asyncio.create_task(pending.result())
        await began.wait()
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
        app.clock.move(60.0)
        runs, loop = app.governor.runs, app.governor.loop
        await loop.bridge(runs.change(pending.run, driving.tick))
        await loop.bridge(
            runs.change(
                pending.run,
                lambda r, now: doubts.resolve(r, 1, now, how="happened", by="op", evidence="seen", nonce="n"),
            )
        )
        try:
            await pending.result(timeout=2)
        except CallInDoubt:
            pytest.fail("a call that happened is told as in doubt")
        await app.governor.close()

    asyncio.run(main())


def test_a_pending_method_is_not_given_up_while_its_object_lives() -> None:
    """``obj.method.ask()`` and a decision after a minute: ``result()`` runs it; a worker does not block it before."""

    async def main() -> None:
        app = App()

        class Bank:
            @app.governor.govern(approvers=["alice"])
            async def pay(self) -> str:
                app.effects.append(1)
                return "ok"

        pending = await Bank().pay.ask()  # type: ignore[attr-defined]
        app.clock.move(60.0)
        await app.governor.decide(pending.approval, Decision.approve(), by="alice")
        await Worker(app.governor).run(once=True)
        assert await pending.result(timeout=2) == "ok"
        await app.governor.close()

    asyncio.run(main())


# -- worker, driver, watch ---------------------------------------------------------------------------------------------


def test_a_store_that_is_away_for_a_moment_does_not_lose_the_run() -> None:
    """One StoreUnavailable in a step: the worker comes back to the run, though nobody changed it."""

    async def main() -> None:
        app = App(ASK)
        run, _ = await app.begin()
        app.clock.move(60.0)  # the lease is over
        worker = Worker(app.governor)
        real, tries = app.governor.runs.change, 0

        async def change(*a: Any, **k: Any) -> Any:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise StoreUnavailable("away")
            return await real(*a, **k)

        app.governor.runs.change = change  # type: ignore[method-assign]
        while (await app.governor.get(run.id)).state is RunState.ACTIVE:  # the store is left alone for a moment first
            with contextlib.suppress(StoreUnavailable):
                await worker.run(once=True)
            await asyncio.sleep(0.05)
        assert tries > 1
        await app.governor.close()

    asyncio.run(main())


def test_once_ends_although_a_run_is_not_ours() -> None:
    """A run given back with a delay, of an agent this worker does not know: ``--once`` returns."""

    async def main() -> None:
        app = App()
        run, _claim = await app.begin()
        await app.governor.loop.bridge(
            app.governor.runs.change(
                run.id, lambda r, now: driving.release(r, now, owner=W1, fence=1, error="x", delay=1.0)
            )
        )
        app.clock.move(5.0)
        await asyncio.wait_for(Worker(app.governor).run(once=True), 60)
        await app.governor.close()

    asyncio.run(main())


def test_one_broken_factory_does_not_stop_the_worker() -> None:
    """A factory that raises is this run's trouble: the others are served, and --once does not crash."""

    async def main() -> None:
        app = App()
        await app.governor.open()

        @app.governor.agent("broken")
        def broken() -> Any:
            raise KeyError("OPENAI_API_KEY")

        await app.governor.submit("broken", "hello")
        await asyncio.wait_for(Worker(app.governor).run(once=True), 60)
        await app.governor.close()

    asyncio.run(main())


def test_a_loop_that_fails_after_an_allowed_write_does_not_write_again() -> None:
    """A submitted run: allowed payment, then the model fails. Tried again, it has fresh call ids: one effect."""

    async def main() -> None:
        app = App()
        minted = 0

        async def loop(_: Any, calls: Any) -> Segment:
            nonlocal minted
            minted += 1
            from governor_agents.claims import current_claim

            claim = current_claim()
            assert claim
            await app.governor.guard.run(claim, app.call(f"call_{minted}"), PAY, app.tool)
            raise RuntimeError("model 500")

        app.agent(loop)
        await app.governor.submit("a", "hello")
        worker, stop = Worker(app.governor), asyncio.Event()
        task = asyncio.create_task(worker.run(stop=stop))
        await asyncio.sleep(1.5)
        stop.set()
        await asyncio.wait_for(task, 40)
        assert len(app.effects) == 1
        await app.governor.close()

    asyncio.run(main())


def test_long_runs_do_not_hold_up_deadlines() -> None:
    """Every place of the worker is taken by a long run: deadlines still pass."""

    async def main() -> None:
        app = App(ASK)
        _run, _ = await app.begin()
        app.clock.move(60.0)
        began, release = asyncio.Event(), asyncio.Event()

        async def loop(_: Any, calls: Any) -> Segment:
            began.set()
            await release.wait()
            return Segment(True, output=1)

        app.agent(loop)
        app.governor.agents["b"] = lambda: object()
        app.governor._prepared["b"] = app.governor._prepared["a"]
        worker, stop = Worker(app.governor, concurrency=1), asyncio.Event()
        await app.governor.submit("b", "long")
        task = asyncio.create_task(worker.run(stop=stop))
        await began.wait()
        waits = driving.start(replace(new_run(tenant="default", id="run_0"), agent="z"), 0.0, owner=W1, lease=0.001)

        async def work() -> None:
            await app.governor.runs.create(waits, await app.governor.runs.now())

        await app.governor.loop.bridge(work())
        while (await app.governor.get("run_0")).state is RunState.ACTIVE:  # noqa: ASYNC110 - for good, when held up
            await asyncio.sleep(0.02)
        assert not release.is_set()
        release.set()
        stop.set()
        await asyncio.wait_for(task, 40)
        await app.governor.close()

    asyncio.run(main())


_CLOSING = """
import asyncio
from governor_agents import Governor

async def main():
    governor = Governor([], store="memory://")
    run = await governor.submit("a", "hello")
    waiter = asyncio.create_task(governor.wait(run.id, timeout=300))
    await asyncio.sleep(0.2)
    await asyncio.wait_for(governor.close(), 60)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    print("closed")

asyncio.run(main())
"""

_FORKING = """
import os, signal
from governor_agents.background import Background

async def one():
    return 1

background = Background("x")
assert background.call(one()) == 1
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    assert background.call(one()) == 1
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print("closed")
"""

_POLICY = """
import signal
import sys
from governor_agents import Decision, Governor, Verdict
from governor_agents.errors import GovernorError

signal.alarm(60)
armed = []

def policy(call):
    if armed:
        governor.inbox_sync()  # a policy that looks at the store, asked again right before the intent
    return Verdict("allow")

governor = Governor([policy], store="memory://")

@governor.govern(approvers=["alice"])
def f():
    return 1

pending = f.ask_sync()
governor.decide_sync(pending.approval, Decision.approve(), by="alice")
armed.append(1)
try:
    pending.result_sync(timeout=4)
except (GovernorError, TimeoutError):
    pass
print("closed")
"""


@pytest.mark.parametrize("script", [_CLOSING, _FORKING, _POLICY], ids=["close", "fork", "policy"])
def test_nothing_hangs(script: str) -> None:
    """close() under a waiter; a use after a fork; a policy that asks the governor (an error is fine, a hang is not)."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False)
    assert "closed" in done.stdout, done.stderr[-500:]


def test_one_unreadable_run_does_not_close_the_inbox() -> None:
    """A record of a newer schema: the others are still listed."""

    async def main() -> None:
        app = App(ASK)
        await app.governor.open()
        from governor_agents.core.ports import Record

        index = {"state": "waiting", "agent": "a", "requester": "r", "conversation": "", "pending": "yes"}
        record = Record("run", "default", "run_0", b'{"schema":9,"run":{}}', index)
        await app.governor.loop.bridge(app.governor.store.insert(record, op="x"))
        await app.governor.inbox()
        await app.governor.close()

    asyncio.run(main())


def test_a_long_conversation_is_still_superseded() -> None:
    """More than a hundred earlier runs: the one that waits now is found."""

    async def main() -> None:
        app = App(ASK)
        await app.governor.open()

        async def fill() -> None:
            runs, now = app.governor.runs, await app.governor.runs.now()
            for at in range(101):
                fresh = replace(evolve_run(app.governor), id=f"run_{at:04}", conversation="c")
                change = driving.start(fresh, now, owner=W1, lease=30.0)
                if at < 100:
                    change = driving.finish(change.run, now, owner=W1, fence=1)
                await runs.create(change, now)

        await app.governor.loop.bridge(fill())
        with pytest.raises(IllegalTransition):
            await app.governor.beginning._supersede("c")
        await app.governor.close()

    asyncio.run(main())


def test_two_messages_at_once_do_not_drive_one_conversation_twice() -> None:
    """Two ``run(conversation=)`` at the same moment: one is refused."""

    async def main() -> None:
        app = App()
        driving_now, most = 0, 0

        async def loop(_: Any, calls: Any) -> Segment:
            nonlocal driving_now, most
            driving_now += 1
            most = max(most, driving_now)
            await asyncio.sleep(0.3)
            driving_now -= 1
            return Segment(True, output=1)

        app.agent(loop)
        await asyncio.gather(*(app.governor.run("a", "hi", conversation="c") for _ in range(2)), return_exceptions=True)
        assert most == 1
        await app.governor.close()

    asyncio.run(main())


def test_a_notice_is_delivered_once_by_two_workers() -> None:
    """Two workers, one slow channel: people are asked once."""

    class Slow:
        name = "terminal"
        asked = 0

        async def start(self, desk: object) -> None: ...

        async def close(self) -> None: ...

        async def notify(self, approval: Any, to: str = "") -> str:
            self.asked += 1
            await asyncio.sleep(0.5)
            return ""

        async def update(self, approval: Any, card: str, to: str = "") -> None:
            return None

    async def main() -> None:
        app = App(ASK)
        slow = Slow()
        app.governor._handlers["terminal"] = slow
        run, _ = await app.begin()
        asks = (driving.Ask(app.call("c1"), PAY, ASK, "n1"),)
        await app.governor.loop.bridge(
            app.governor.runs.change(
                run.id,
                lambda r, now: driving.pause(r, now, owner=W1, fence=1, snapshot=Snapshot("b", "test"), asks=asks),
            )
        )
        await asyncio.gather(*(Worker(app.governor).run(once=True) for _ in range(2)))
        assert slow.asked == 1
        await app.governor.close()

    asyncio.run(main())


def test_an_interrupt_from_the_keyboard_leaves_no_waiter_behind() -> None:
    """Ctrl-C while a synchronous call waits: its coroutine ends, so that it neither claims nor keeps waiting."""
    from governor_agents.background import Background

    background, ended, main = Background("x"), threading.Event(), threading.get_ident()

    async def forever() -> None:
        try:
            while sys._current_frames()[main].f_code.co_name != "wait":  # noqa: ASYNC110 - it waits in another thread
                await asyncio.sleep(0)
            signal.pthread_kill(main, signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        background.call(forever())
    assert ended.wait(30)
    background.stop()


def test_frozen_bytes_of_an_edit_are_canonical() -> None:
    """An edit built from raw bytes with a key that stands twice is refused when it is decided."""
    with pytest.raises(EditRefused):
        vote(paused(), kind=Decision("edit", args=b'{"amount":1,"amount":9}'), verdict=ASK)
    assert freeze({"a": 1}) == b'{"a":1}'


def test_who_is_asked_again_is_asked_under_the_stricter_terms() -> None:
    """A policy that demands more now also says how long the answer is good for, and what becomes of silence."""
    more = replace(
        ASK, stages=(Stage(("ops",), ("alice", "bob"), quorum=2),), run_within=60.0, on_expire="end_run", deadline=10.0
    )
    run = intent(claim(vote(paused()).run), more).run
    again = run.calls[0]
    assert again.state is CallState.PENDING
    assert (again.run_within, again.on_expire, again.expires) == (60.0, "end_run", 14.0)
