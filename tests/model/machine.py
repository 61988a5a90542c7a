"""A Hypothesis state machine: the real governor, guard and store against a plain expectation of what must come of it.

The model walk knows only the pure functions. Here everything between them and a database takes part: records as bytes,
compare-and-set, op ids, clocks, blobs, the audit chain. The expectation is a few lines of plain Python per call.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from governor_agents import Governor
from governor_agents.audit import chain
from governor_agents.core import driving, settling
from governor_agents.core.calls import Tool, ToolCall, freeze
from governor_agents.core.ports import Events
from governor_agents.core.records import CallState, Run, RunState, Snapshot
from governor_agents.errors import Fenced, IllegalTransition, ResolutionRefused
from governor_agents.policies import PolicySet
from tests.model.asked import RUN, Asked, numbers
from tests.model.expected import ASK, DEADLINE, LETS, NEEDED, REQUESTER, SEATS, Expected, address, asks, directory
from tests.model.processes import LEASE, Dead, Hand, Process
from tests.stores import Time

FLIGHT = 60.0
TOOLS = {"pay": Tool("pay"), "send": Tool("send", retry="idempotent")}
ways = st.sampled_from(["ok", "ok", "ok", "raises", "dies"])
seldom = st.integers(0, 7).map(lambda at: at == 0)
STATES = {
    "asked": {CallState.PENDING},
    "approved": {CallState.APPROVED},
    "rejected": {CallState.REJECTED},
    "answered": {CallState.ANSWERED},
    "gone": {CallState.EXPIRED, CallState.CANCELLED},
    "running": {CallState.EXECUTING},
    "again": {CallState.RETRY},
    "doubt": {CallState.UNKNOWN},
    "done": {CallState.SUCCEEDED},
    "failed": {CallState.FAILED},
}


class Machine(Asked):
    """One run of two calls, two workers, the people of `expected`, an operator, and a clock that only goes on."""

    store_url: Callable[[Path], str]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="governor-model-")
        self.url = type(self).store_url(Path(self.folder.name))
        self.clock = Time(self.url)
        self.directory = directory(self.clock())
        self.born = 0
        self.office = self.governor()
        self.workers = [self.process(), self.process()]
        self.hands: list[Hand] = []
        self.effects: list[tuple[int, str, bytes]] = []
        self.driver: tuple[str, int] | None = None
        self.lease = 0.0
        self.halted = False
        self.fences = 0

    # -- the parts --------------------------------------------------------------------------------------------------

    def governor(self) -> Governor:
        """One more process on the store."""
        policies = PolicySet([lambda call: asks(self.lets)], tools=TOOLS)
        made = Governor(policies, store=self.clock.store(), secret=b"one for all", tenant="t", people=self.directory)
        made.loop.call(made.open())
        return made

    def process(self) -> Process:
        """A worker with a name of its own."""
        self.born += 1
        return Process(self.governor(), f"elsewhere/{self.born}/1")

    def run_now(self) -> Run:
        """The run as the store has it."""
        return self.office.get_sync(RUN)

    def tool_call(self, run: Run, n: int) -> ToolCall:
        """The call as a framework would make it anew: with the bytes that the model asked for."""
        call = run.call(n)
        assert call is not None
        asked = call.asked_args if call.asked_args is not None else call.args
        return call.as_tool_call(run).with_args(asked)

    @initialize(lets=st.sampled_from([LETS, ()]))
    def begins(self, lets: tuple[str, ...]) -> None:
        """The first worker begins the run and pauses it with two calls; the policy is perhaps another by then."""
        self.policies_change(lets)
        first = self.workers[0].name
        asks = tuple(
            driving.Ask(
                ToolCall.of(
                    tool, {"amount": 5}, f"c{at}", agent="a", run=RUN, requester=address(REQUESTER), tenant="t"
                ),
                TOOLS[tool],
                ASK,
                f"nonce{at}",
            )
            for at, tool in enumerate(TOOLS)
        )
        now = self.clock()
        run = Run("t", RUN, "a", "x", address(REQUESTER), RunState.QUEUED, now, max_attempts=10_000)
        opened = driving.start(run, now, owner=first, lease=LEASE)
        paused = driving.pause(opened.run, now, owner=first, fence=1, snapshot=Snapshot("b", "x"), asks=asks)
        both = driving.Change(paused.run, (*opened.events, *paused.events))
        self.office.loop.call(self.office.runs.create(both, now))
        args = freeze({"amount": 5})
        self.calls = {at: Expected(tool, args, now + DEADLINE) for at, tool in enumerate(TOOLS, 1)}
        for call in self.calls.values():
            call.remind(now)
        self.fences = 1

    # -- the way that things go when nothing comes between; the other rules are what comes between ------------------

    def go_on(self, how: str, at: int) -> None:
        """The next step towards the run's end."""
        if self.halted:
            self.halts_or_lifts(True)
        elif self.any("asked"):
            n = self.first("asked")
            if at == 1 and not self.calls[n].votes:
                self.hands_over(n, ("alice", "", "dora"), how == "raises", True)
            self.one_more_approves(n)
            self.a_worker_looks()
        elif self.any("doubt"):
            n = self.first("doubt")
            self.resolves(n, "happened" if any(row[0] == n for row in self.effects) else "did-not-happen")
            self.time_passes(61.0)
        elif self.driver is None:
            self.claims(at)
        elif self.any("approved", "again"):
            driver = next((i for i, worker in enumerate(self.workers) if worker.name == self.driver[0]), None)
            if driver is None:
                self.time_passes(31.0)
                self.a_worker_looks()
            elif (claim := self.workers[driver].claim) is not None and claim.stop:
                self.leaves(driver, "release")
            else:
                self.begins_a_call(driver, self.first("approved", "again"))
        elif self.hands:
            self.comes_back(0, how, acted=how != "raises")

    often = rule(how=ways, at=st.integers(0, 1))
    goes_on_1, goes_on_2, goes_on_3 = often(go_on), often(go_on), often(go_on)
    goes_on_4, goes_on_5, goes_on_6 = often(go_on), often(go_on), often(go_on)

    # -- time ---------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, 1.0, 1.0, 31.0, 31.0, 61.0, 1001.0]))
    def time_passes(self, seconds: float) -> None:
        """The store's clock goes on."""
        self.clock.move(seconds)

    @rule()
    def a_worker_looks(self) -> None:
        """Time is let to do its work."""
        self.workers[0].write(RUN, driving.tick)
        now = self.clock()
        for call in self.calls.values():
            if call.state == "asked" and now >= call.until:
                call.state = "gone"
        self.reminded()
        if self.driver is not None and now >= self.lease:
            self.let_go()

    def let_go(self) -> None:
        """The driver has the run no more."""
        for call in self.calls.values():
            if call.state == "running":
                call.lapse(self.clock())
        self.driver = None
        self.close_cancelled()

    def close_cancelled(self) -> None:
        """A cancelled run ends as soon as nothing executes, but not over a doubt."""
        if not self.cancelled or any(call.state == "running" for call in self.calls.values()):
            return
        for call in self.calls.values():
            if call.state == "again":
                call.state = "doubt"
        self.driver = None
        if not any(call.state == "doubt" for call in self.calls.values()):
            for call in self.calls.values():
                if call.state in ("asked", "approved"):
                    call.state = "gone"

    # -- workers ----------------------------------------------------------------------------------------------------

    @rule(at=st.integers(0, 1))
    def claims(self, at: int) -> None:
        """A worker takes the run; a claim never meets people who are asked, a doubt, or another driver."""
        worker = self.workers[at]
        try:
            after = worker.take(RUN)
        except Fenced:
            return
        if after.state is RunState.ACTIVE:
            assert self.driver is None, "two drivers"
            assert after.fence > self.fences, "no higher fence"
            assert not any(call.state in ("running", "doubt") for call in self.calls.values())
            self.driver, self.lease, self.fences = (worker.name, after.fence), self.clock() + LEASE, after.fence
            self.expired_unseen()

    def expired_unseen(self) -> None:
        """A run is only taken when nobody is asked: what was, has expired meanwhile."""
        for call in self.calls.values():
            if call.state == "asked":
                assert self.clock() >= call.until, "claimed while people are asked"
                call.state = "gone"

    @rule(at=st.integers(0, 1))
    def renews(self, at: int) -> None:
        """A heartbeat."""
        worker, claim = self.workers[at], self.workers[at].claim
        if claim is None:
            return
        try:
            worker.write(
                RUN, lambda run, now: driving.renew(run, now, owner=claim.owner, fence=claim.fence, lease=LEASE)
            )
        except Fenced:
            assert self.driver != (worker.name, claim.fence)
            return
        assert self.driver == (worker.name, claim.fence), "a claim that is over was renewed"
        self.lease = self.clock() + LEASE

    @rule(at=st.integers(0, 1), n=numbers)
    def begins_a_call(self, at: int, n: int) -> None:
        """The guard lets exactly that into the tool which is approved, under the claim that holds."""
        worker, run = self.workers[at], self.run_now()
        if worker.claim is None or run.call(n) is None:
            return
        n = self.newest(n)
        call = self.calls[n]
        may = self.may_begin(worker, call)
        enough = len({seat for _, seat in call.counted(self.lets).values()} & set(SEATS)) >= NEEDED
        got = worker.begin(self.tool_call(run, n), TOOLS[call.tool], n)
        if may and not enough:
            assert not isinstance(got, Hand), f"call {n} should be asked again"
            call.ask_again(self.lets, self.clock())
            return
        if not isinstance(got, Hand):
            assert not may, f"call {n} should run: {got}"
            return
        assert may, f"call {n} ({call.state}) should not run"
        assert got.args == call.args, "other bytes than were approved"
        call.attempts.append(worker.name)
        got.attempt, call.state = len(call.attempts), "running"
        self.hands.append(got)

    def newest(self, n: int) -> int:
        """The call that stands for this one: its call id is that of the one that was asked in its place."""
        later = next((at for at, call in self.calls.items() if call.replaces == n), 0)
        return self.newest(later) if later else n

    def may_begin(self, worker: Process, call: Expected) -> bool:
        """True when the guard must run it."""
        claim = worker.claim
        holds = claim is not None and self.driver == (worker.name, claim.fence) and self.clock() < self.lease
        # A loop that waits for people may still begin what they approve meanwhile.
        stopped = claim is not None and (claim.lost or bool(claim.halted) or (bool(claim.stop) and not claim.again))
        return holds and not stopped and call.state in ("approved", "again") and not self.cancelled and not self.halted

    @precondition(lambda self: self.hands)
    @rule(at=st.integers(0, 3), how=ways, acted=st.booleans())
    def comes_back(self, at: int, how: str, acted: bool) -> None:
        """A tool comes to its end, however late; or its process does."""
        hand = self.hands.pop(at % len(self.hands))
        call = self.calls[hand.n]
        if acted or how == "ok":
            self.effects.append((hand.n, hand.key, hand.args))
        said = hand.come_back(how)
        if how == "dies":
            assert isinstance(said, Dead)
            self.dies(hand.worker)
            return
        current = hand.attempt == len(call.attempts) and call.state in ("running", "doubt")
        late = call.state == "doubt"
        if not current:
            assert isinstance(said, Fenced), f"a result of another attempt was taken: {said}"
            if call.state in ("running", "again", "doubt"):
                call.died[hand.attempt] = self.clock()  # nothing of it is under way any more
        elif how == "ok":
            call.state = "done"
        elif late or hand.attempt > 1:
            call.state, call.lapsed = "doubt", call.lapsed if late else self.clock()
            call.died[hand.attempt] = self.clock()
        else:
            call.state = "failed"
        self.close_cancelled()

    def dies(self, worker: Process) -> None:
        """Nothing of a dead process is written any more, and another takes its place."""
        at = self.workers.index(worker)
        worker.runs.alive = False
        for hand in [hand for hand in self.hands if hand.worker is worker]:
            self.hands.remove(hand)
            hand.come_back("dies")
        worker.governor.close_sync()
        self.workers[at] = self.process()

    @precondition(lambda self: self.driver is not None)
    @rule(at=st.integers(0, 1))
    def is_killed(self, at: int) -> None:
        """A worker dies between two steps."""
        self.dies(self.workers[at])

    @precondition(lambda self: self.driver is not None)
    @rule(at=st.integers(0, 1))
    def is_overtaken(self, at: int) -> None:
        """The lease passes unrenewed, and the next worker takes what it may."""
        self.time_passes(31.0)
        self.a_worker_looks()
        self.claims(at)

    @precondition(lambda self: any(worker.claim for worker in self.workers))
    @rule(at=st.integers(0, 1), how=st.sampled_from(["finish", "release", "release"]))
    def leaves(self, at: int, how: str) -> None:
        """The loop ends, or the driver gives the run back."""
        worker, claim = self.workers[at], self.workers[at].claim
        if claim is None:
            return
        mine = self.driver == (worker.name, claim.fence)
        busy = how == "finish" and any(call.state == "running" for call in self.calls.values())

        def step(run: Run, now: float) -> Any:
            if how == "finish":
                return driving.finish(run, now, owner=claim.owner, fence=claim.fence)
            return driving.release(run, now, owner=claim.owner, fence=claim.fence, error="x")

        try:
            worker.write(RUN, step)
        except (Fenced, IllegalTransition):
            assert not mine or busy
            return
        assert mine and not busy
        if how == "finish":
            for call in self.calls.values():
                call.state = "doubt" if call.state == "again" else call.state
            if not any(call.state == "doubt" for call in self.calls.values()):
                for call in self.calls.values():
                    call.state = "gone" if call.state in ("asked", "approved") else call.state
        self.let_go()

    # -- the operator -----------------------------------------------------------------------------------------------

    @rule(sure=seldom)
    def cancels(self, sure: bool) -> None:
        """Somebody ends the run (seldom: little can be seen after it)."""
        if not sure or self.run_now().state.ended:
            return
        self.office.cancel_sync(RUN, by="op", reason="stop")
        self.cancelled = True
        self.close_cancelled()

    @rule(sure=seldom)
    def halts_or_lifts(self, sure: bool) -> None:
        """The tools are stopped, or let go again."""
        if not sure:
            return
        scope, other = "tool:pay", "tool:send"
        for name in (scope, other):
            if self.halted:
                self.office.lift_sync(name, by="op")
            else:
                self.office.halt_sync(name, by="op")
        self.halted = not self.halted

    @precondition(lambda self: self.any("doubt", "done", "failed"))
    @rule(n=numbers, how=st.sampled_from(["happened", "did-not-happen", "abandon"]))
    def resolves(self, n: int, how: str) -> None:
        """An operator answers a doubt, in good faith; "did not happen" counts only once nothing can follow."""
        call = self.calls.get(n)
        happened = any(row[0] == n for row in self.effects)
        if call is None or (how in ("happened", "did-not-happen") and happened != (how == "happened")):
            return
        living = {worker.name for worker in self.workers}
        dead = call is not None and not living & set(call.attempts)
        counts = call.state == "doubt"
        if counts and how == "did-not-happen":
            counts = self.over(call, dead)
        try:
            self.office.resolve_sync(RUN, n, how, by="op", evidence="looked", worker_dead=dead)  # type: ignore[arg-type]
        except ResolutionRefused as error:
            assert not counts, f"{how} should count: {error}"
            return
        assert counts, f"{how} should not count"
        call.state = "done" if how == "happened" else "failed"
        if how == "did-not-happen" and not self.cancelled:
            fresh = Expected(call.tool, call.args, self.clock() + DEADLINE, replaces=n, lets=call.lets)
            fresh.remind(self.clock())
            self.calls[len(self.calls) + 1] = fresh
        self.close_cancelled()

    def over(self, call: Expected, dead: bool) -> bool:
        """True when no request of the call can be under way; whoever asks for the first time starts that time."""
        now, holds = self.clock(), self.driver[0] if self.driver is not None and self.clock() < self.lease else ""
        gone = set(call.attempts) - {holds} if dead else set()
        for one in self.calls.values():  # a worker is one process: dead for every call in doubt that it set out to run
            for at, name in enumerate(one.attempts, 1) if one.state in ("doubt", "again") else ():
                if name in gone:
                    one.died.setdefault(at, now)
        known = len(call.died) == len(call.attempts)
        return known and now >= max(call.lapsed, *call.died.values()) + FLIGHT

    # -- what always holds ------------------------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        """Everything that always holds, of the record and the trail as they stand now."""
        if self.calls:
            run = self.run_now()
            self.stands_as_expected(run)
            self.words_stand_as_expected(run)
            self.people_count_once(run)
            self.acts_at_most_once()
            assert chain.verify(self.events(), run.chain) == "", "the audit trail is one chain that ends in the record"

    def stands_as_expected(self, run: Run) -> None:
        """The record is what the expectation says."""
        for n, expected in self.calls.items():
            call = run.call(n)
            assert call is not None
            right = STATES[expected.state]
            if expected.state == "asked" and self.clock() >= expected.until:
                right = right | STATES["gone"]
            assert call.state in right, f"call {n} is {call.state}, expected {expected.state}"
            assert call.args == expected.args
        assert not run.state.ended or not any(call.state.open for call in run.calls)
        if not run.state.ended and run.state not in (RunState.BLOCKED, RunState.DEAD):
            assert settling.due(run) is not None, "nobody looks at it"

    def acts_at_most_once(self) -> None:
        """One effect per approval, of what was approved; the same key each time where it may be tried again."""
        for n, call in self.calls.items():
            mine = [row for row in self.effects if row[0] == n]
            assert len({key for _, key, _ in mine}) <= 1
            assert len(mine) <= 1 or call.tool == "send", "twice for one approval"
            assert not mine or (call.state not in ("asked", "approved", "rejected", "answered", "gone"))
            assert not (mine and call.replaces and any(row[0] == call.replaces for row in self.effects))

    def events(self) -> Events:
        """The audit trail."""
        return self.office.loop.call(self.office.store.events("run", "t", RUN))

    def teardown(self) -> None:
        """From wherever it is, the run comes to an end."""
        try:
            if self.calls:
                self.ends()
                self.every_word_is_told(self.events())
        finally:
            for worker in self.workers:
                self.kill(worker)
            self.office.close_sync()
            self.folder.cleanup()

    def kill(self, worker: Process) -> None:
        """End what a worker still does."""
        worker.runs.alive = False
        for hand in [hand for hand in self.hands if hand.worker is worker]:
            self.hands.remove(hand)
            hand.come_back("dies")
        worker.governor.close_sync()

    def ends(self) -> None:
        """Deadlines and leases pass, an operator gives each doubt up, a worker finishes the loop."""
        if self.halted:
            self.halts_or_lifts(True)
        for _ in range(8):
            if self.run_now().state.ended:
                return
            self.clock.move(200.0)
            self.a_worker_looks()
            for n, call in self.calls.items():
                if call.state == "doubt":
                    self.resolves(n, "abandon")
            self.claims(1)
            self.leaves(1, "finish")
        assert self.run_now().state.ended, f"stuck: {self.run_now().state} {self.run_now().blocked}"


def machine_on(name: str, store_url: Callable[[Path], str]) -> type[Machine]:
    """The machine on one kind of store."""
    return type(f"Machine_{name}", (Machine,), {"store_url": staticmethod(store_url)})


def play(name: str, store_url: Callable[[Path], str], examples: int, *, shrink: bool = True) -> None:
    """Play so many examples of 50 steps on one kind of store, the same ones every time.

    Raises what failed, with the shortest way to it; with ``shrink=False``, with the first one found.
    """
    kept = settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        print_blob=False,
        report_multiple_bugs=shrink,
    )
    run_state_machine_as_test(machine_on(name, store_url), settings=kept)
