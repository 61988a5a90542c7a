"""Doubts on a real store, with real deaths, through both adapters and plain functions."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, OutcomeUnknown, Reconciled, Run, ToolCall, liveness
from governor_agents.core import doubts, execution
from governor_agents.core.calls import freeze, sha256
from governor_agents.core.records import Answer, CallState, Result, RunState
from governor_agents.errors import ConfigError, Fenced, IllegalTransition, NotFound, NotInDoubt, TooEarly, WorkerMayLive
from governor_agents.liveness import this_worker
from tests.integration.doubt_app import ANN, LEASE, OPS, SHOPS, Shop, movable, only, states

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
WAYS = list(SHOPS)


class Life:
    """A worker in a process of its own, inside its tool."""

    def __init__(self, way: str, folder: Path, run: Run, host: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.doubt_app", way, str(folder), run.id, host],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self.read() == "inside"

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def go_on(self, word: str = "go\n") -> str:
        """Let the tool go on; how the worker ended."""
        out, _ = self.process.communicate(word)
        return out.strip()


@contextmanager
def inside(way: str, folder: Path, run: Run, host: str = "") -> Iterator[Life]:
    """A worker that stands in its tool."""
    life = Life(way, folder, run, host)
    try:
        yield life
    finally:
        life.kill()


async def dead_worker(way: str, folder: Path) -> tuple[Shop, Any, Run]:
    """A run whose worker was killed inside the tool; its lease is over, and another worker has seen it."""
    clock = movable()
    shop = SHOPS[way](folder, clock=clock)
    run = await shop.approved()
    with inside(way, folder, run):
        pass
    clock.move(2 * LEASE)
    await shop.work()
    return shop, clock, await shop.governor.get(run.id)


async def say(shop: Shop, run: Run, how: Answer, n: int = 1, **more: Any) -> Run:
    return await shop.governor.resolve(run.id, n, how, **{"by": OPS, "evidence": "the bank's statement", **more})


# -- a worker that is dead ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_did_not_happen_asks_anew_and_the_payment_is_made_once(way: str, tmp_path: Path) -> None:
    """Killed before the effect: noted dead by the next worker, refused for the grace, asked anew, run under a new key."""
    shop, clock, run = await dead_worker(way, tmp_path)
    async with shop.governor as governor:
        first = only(run)
        assert (run.state, first.state) == (RunState.BLOCKED, CallState.UNKNOWN)
        assert first.attempts[0].died == first.lapsed
        with pytest.raises(TooEarly) as early:
            await say(shop, run, "did-not-happen")
        assert early.value.until == first.attempts[0].died + 60.0
        clock.move(61.0)
        run = await say(shop, run, "did-not-happen")
        assert run.state is RunState.WAITING and run.approvals[0].id == f"{run.id}.2"
        assert run.approvals[0].call.call_id == first.call_id
        await shop.work()  # nothing runs on the old approval
        assert shop.ledger == []
        await governor.decide(f"{run.id}.2", Decision.approve(), by=ANN)
        await shop.work()
        run = await governor.get(run.id)
        calls = await governor.calls(run.id)
        assert run.state is RunState.COMPLETED
        assert [(call.n, call.state) for call in calls] == [(1, CallState.FAILED), (2, CallState.SUCCEEDED)]
        assert shop.ledger == [f"7 {calls[1].idem_key}"] and calls[0].idem_key != calls[1].idem_key
        assert "paid 7" in shop.told(run)
        with pytest.raises(NotInDoubt, match="since local:ops said did-not-happen"):
            await say(shop, run, "happened")


@pytest.mark.parametrize("how", ["happened", "abandon"])
@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_lets_the_agent_go_on_and_nothing_runs(way: str, how: Answer, tmp_path: Path) -> None:
    """The agent is told the evidence, or not to try it again."""
    shop = SHOPS[way](tmp_path, lambda amount: lost(shop, amount), clock=(clock := movable()))
    run = await shop.approved()
    run = await until_doubt(shop, clock, run)
    async with shop.governor as governor:
        assert (run.state, states(run)) == (RunState.BLOCKED, [CallState.UNKNOWN])
        await say(shop, run, how)
        await shop.work()
        run = await governor.get(run.id)
        told = shop.told(run)
        if how == "happened":
            assert run.state is RunState.COMPLETED and "the bank's statement" in told
        else:
            assert run.state.ended and "outcome unknown; do not retry" in told
        assert len(shop.ledger) == 1
        resolved = next(event for event in await governor.timeline(run.id) if event["what"] == "call.resolved")
        assert (resolved["by"], resolved["n"]) == (OPS, 1)


def lost(shop: Shop, amount: int) -> str:
    """The money is gone, and the bank's answer is lost."""
    shop.pay(amount)
    raise OutcomeUnknown("the bank did not answer")


async def until_doubt(shop: Shop, clock: Any, run: Run) -> Run:
    """Let a worker run it into its doubt, in this process."""
    await shop.governor.open()
    await shop.work()
    clock.move(2 * LEASE)  # a function's run rests when its lease is over
    await shop.work()
    return await shop.governor.get(run.id)


@pytest.mark.parametrize("way", ["openai_agents", "langchain"])
async def test_an_allowed_call_is_asked_of_the_default_approvers(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody had to approve it; to run it anew somebody must, and the loop, which had not paused yet, finds that call."""
    clock = movable()
    shop = SHOPS[way](tmp_path, clock=clock, then="allow")
    shop.act = raiser(OutcomeUnknown("the bank did not answer"))
    here = this_worker()
    monkeypatch.setattr(liveness, "_me", here.replace(socket.gethostname(), "elsewhere", 1))
    run = await shop.governor.run("support", "go")
    monkeypatch.setattr(liveness, "_me", here)
    async with shop.governor as governor:
        assert (run.state, states(run)) == (RunState.BLOCKED, [CallState.UNKNOWN]) and run.snapshot is None
        with pytest.raises(TooEarly):
            await say(shop, run, "did-not-happen", worker_dead=True)
        clock.move(60.0)
        run = await say(shop, run, "did-not-happen")
        assert [approval.people for approval in run.approvals] == [(ANN,)]
        shop.act = shop.pay
        await shop.work()
        assert shop.ledger == []
        await governor.decide(f"{run.id}.2", Decision.approve(), by=ANN)
        await shop.work()
        run = await governor.get(run.id)
        assert run.state is RunState.COMPLETED and shop.ledger == [f"7 {only(run, 2).idem_key}"]
        assert states(run) == [CallState.FAILED, CallState.SUCCEEDED] and "paid 7" in shop.told(run)


def raiser(error: Exception) -> Any:
    """A tool that only raises."""

    def act(amount: int) -> str:
        raise error

    return act


@pytest.mark.parametrize("way", ["openai_agents", "langchain"])
async def test_a_call_of_a_closed_generation_is_settled(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run paused again since: an operator who comes now is told what became of the call."""
    monkeypatch.setattr(SHOPS[way], "turns", 2)
    shop = SHOPS[way](tmp_path)
    run = await shop.approved()
    async with shop.governor as governor:
        await shop.work()
        run = await governor.get(run.id)
        assert run.generation == 2 and [call.n for call in run.calls] == [2]
        with pytest.raises(NotInDoubt, match=r"\.1 is succeeded"):
            await say(shop, run, "did-not-happen")


# -- a worker that lives --------------------------------------------------------------------------------------------------


def held_tool(shop: Shop, entered: threading.Event, leave: threading.Event, error: Exception | None = None) -> Any:
    """A tool that stands still until it is told to go on."""

    def act(amount: int) -> str:
        entered.set()
        assert leave.wait(120)
        if error is not None:
            raise error
        return shop.pay(amount)

    return act


async def overtaken(
    way: str, folder: Path, error: Exception | None = None
) -> tuple[Shop, Any, Run, asyncio.Task[Any], Callable[[], None]]:
    """A run whose tool stalls in this process while its lease ends, so that another worker finds a doubt."""
    entered, leave = threading.Event(), threading.Event()
    clock = movable()
    slow = SHOPS[way](folder, clock=clock)
    slow.act = held_tool(slow, entered, leave, error)
    run = await slow.approved()
    driving = asyncio.ensure_future(slow.governor.resume(run.id))
    assert await asyncio.to_thread(entered.wait, 120)
    clock.move(2 * LEASE)
    other = SHOPS[way](folder, clock=clock)
    await other.work()
    stands = await other.governor.get(run.id)
    assert (stands.state, states(stands)) == (RunState.BLOCKED, [CallState.UNKNOWN])
    assert only(stands).attempts[0].died is None  # its worker is this process
    return other, slow, stands, driving, leave.set


async def ended(driving: asyncio.Task[Any], slow: Shop) -> None:
    await asyncio.gather(driving, return_exceptions=True)  # its claim is over: most ways raise
    await slow.governor.close()


@pytest.mark.parametrize("way", WAYS)
async def test_a_late_result_settles_the_doubt_through_the_guard(way: str, tmp_path: Path) -> None:
    """While the worker lives "did not happen" is refused; what it then brings is the truth, and the run goes on."""
    shop, slow, run, driving, leave = await overtaken(way, tmp_path)
    async with shop.governor as governor:
        for word in (False, True):  # nobody's word stands against a process that is seen to live
            with pytest.raises(WorkerMayLive):
                await say(shop, run, "did-not-happen", worker_dead=word)
        leave()
        await ended(driving, slow)
        run = await governor.get(run.id)
        assert states(run) == [CallState.SUCCEEDED]
        await shop.work()
        run = await governor.get(run.id)
        assert run.state is RunState.COMPLETED and "paid 7" in shop.told(run)
        assert len(shop.ledger) == 1
        late = next(event for event in await governor.timeline(run.id) if event["what"] == "call.succeeded")
        assert late["late"] is True


@pytest.mark.parametrize("way", WAYS)
async def test_a_late_exception_changes_nothing_through_the_guard(way: str, tmp_path: Path) -> None:
    """It is written down; the doubt stands."""
    shop, slow, run, driving, leave = await overtaken(way, tmp_path, RuntimeError("too slow"))
    async with shop.governor as governor:
        leave()
        await ended(driving, slow)
        after = await governor.get(run.id)
        assert (after.state, states(after), only(after).told) == (run.state, states(run), only(run).told)
        assert "call.late_exception" in [event["what"] for event in await governor.timeline(run.id)]


async def test_a_worker_in_another_process_that_lives_is_found_alive(tmp_path: Path) -> None:
    """The same with a process of its own; once it is dead, the first answer notes that and says when to come again."""
    clock = movable()
    shop = SHOPS["functions"](tmp_path, clock=clock)
    run = await shop.approved()
    async with shop.governor as governor:
        with inside("functions", tmp_path, run) as life:
            clock.move(2 * LEASE)
            await shop.work()
            with pytest.raises(WorkerMayLive) as refused:
                await say(shop, run, "did-not-happen", worker_dead=True)
            assert refused.value.workers[0].split("/")[1] == str(life.process.pid)
        clock.move(1000.0)
        with pytest.raises(TooEarly) as early:
            await say(shop, run, "did-not-happen")
        died = only(await governor.get(run.id)).attempts[0].died
        assert died is not None and early.value.until == died + 60.0
        clock.move(60.0)
        assert (await say(shop, run, "did-not-happen")).state is RunState.WAITING


async def test_a_wrong_word_about_a_worker_elsewhere_does_not_pay_twice(tmp_path: Path) -> None:
    """It was said to be dead and was not: its result withdraws the call that was asked in its place."""
    clock = movable()
    shop = SHOPS["functions"](tmp_path, clock=clock)
    run = await shop.approved()
    async with shop.governor as governor:
        with inside("functions", tmp_path, run, host="elsewhere") as life:
            clock.move(2 * LEASE)
            await shop.work()
            clock.move(1000.0)
            with pytest.raises(WorkerMayLive, match="elsewhere"):
                await say(shop, run, "did-not-happen")
            with pytest.raises(TooEarly):
                await say(shop, run, "did-not-happen", worker_dead=True)
            clock.move(60.0)
            run = await say(shop, run, "did-not-happen")
            assert run.state is RunState.WAITING
            await governor.decide(f"{run.id}.2", Decision.approve(), by=ANN)
            assert life.go_on() == "raised Fenced"
        await shop.work()
        run = await governor.get(run.id)
        assert states(run) == [CallState.FAILED, CallState.CANCELLED] and run.state is RunState.FAILED
        assert len(shop.ledger) == 1
        said = [event["by"] for event in await governor.timeline(run.id) if event["what"] == "call.worker_dead"]
        assert said == [OPS]


async def test_without_the_wait_the_payment_is_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with the rule taken out, the ledger shows the two effects that it is there against."""
    monkeypatch.setattr(doubts, "_check_over", lambda run, call, now: None)
    clock = movable()
    shop = SHOPS["functions"](tmp_path, clock=clock)
    run = await shop.approved()
    async with shop.governor as governor:
        with inside("functions", tmp_path, run) as life:
            clock.move(2 * LEASE)
            await shop.work()
            await say(shop, run, "did-not-happen")
            await governor.decide(f"{run.id}.2", Decision.approve(), by=ANN)
            await shop.work()
            assert len(shop.ledger) == 1
            life.go_on()
        assert len(shop.ledger) == 2


# -- races ------------------------------------------------------------------------------------------------------------------


async def test_two_operators_at_once_one_counts(tmp_path: Path) -> None:
    """Of many answers at the same moment one stands, and one new call is asked at most."""
    shop, clock, run = await dead_worker("functions", tmp_path)
    clock.move(61.0)
    others = [SHOPS["functions"](tmp_path, clock=clock) for _ in range(2)]
    answers: list[Answer] = ["did-not-happen", "did-not-happen", "happened", "abandon"]
    async with shop.governor as governor, others[0].governor, others[1].governor:
        ends = await asyncio.gather(
            *(say(place, run, how, by=f"local:op{at}") for place in (shop, *others) for at, how in enumerate(answers)),
            return_exceptions=True,
        )
        assert [type(end).__name__ for end in ends if not isinstance(end, Run)] == ["NotInDoubt"] * 11
        run = await governor.get(run.id)
        events = [event["what"] for event in await governor.timeline(run.id)]
        assert events.count("call.resolved") == 1 and len(run.calls) <= 2


@pytest.mark.parametrize("how", ["abandon", "did-not-happen"])
async def test_an_answer_races_with_a_late_result(how: Answer, tmp_path: Path) -> None:
    """Whichever comes first stands; the other is refused or written down, and nothing is left to run a second time."""
    clock = movable()
    ends = set()
    for at in range(8):
        (tmp_path / str(at)).mkdir()
        shop, _, run = await dead_worker_in_process(tmp_path / str(at), clock)
        clock.move(61.0)
        attempt = only(run).attempts[0]
        data = freeze("paid 7")
        result = Result(sha256(data), data.decode())

        def late(stands: Run, now: float, attempt: Any = attempt, result: Result = result) -> Any:
            return execution.record(stands, 1, now, owner=attempt.owner, fence=attempt.fence, attempt=1, result=result)

        async with shop.governor as governor:
            two = [say(shop, run, how, worker_dead=True), governor.loop.bridge(governor.runs.change(run.id, late))]
            said, _ = await asyncio.gather(*(two if at % 2 else two[::-1]), return_exceptions=True)
            run = await governor.get(run.id)
            assert CallState.PENDING not in states(run) and CallState.APPROVED not in states(run), said
            assert run.calls[0].state in (CallState.SUCCEEDED, CallState.FAILED)
            ends.add(run.calls[0].state)
    assert ends


async def dead_worker_in_process(folder: Path, clock: Any) -> tuple[Shop, Any, Run]:
    """A function's run in doubt, of a worker on a host that is gone."""
    shop = SHOPS["functions"](folder, clock=clock)
    run = await shop.approved()
    governor = shop.governor

    def begin(run: Run, now: float) -> Any:
        from governor_agents.core import driving

        claimed = driving.claim(run, now, owner="gone/1/2", lease=LEASE)
        call = only(run)
        verdict = governor.policies.evaluate(call.as_tool_call(run), governor.policies.tool("pay"))
        begun = execution.intent(
            claimed.run, 1, now, owner="gone/1/2", fence=claimed.run.fence, verdict=verdict,
            schema_sha256=call.schema_sha256, idem_key="k",
        )  # fmt: skip
        return type(begun)(begun.run, (*claimed.events, *begun.events))

    await governor.loop.bridge(governor.runs.change(run.id, begin))
    clock.move(2 * LEASE)
    await shop.work()
    return shop, clock, await governor.get(run.id)


def test_the_blocking_twins_answer_and_repair(tmp_path: Path) -> None:
    """For programs without a loop: the same answers, the same refusals."""
    clock = movable()
    shop = SHOPS["functions"](tmp_path, lambda amount: lost(shop, amount), clock=clock)
    governor = shop.governor
    run = asyncio.run(shop.approved())
    run = asyncio.run(until_doubt(shop, clock, run))
    with pytest.raises(IllegalTransition):
        governor.repair_sync(run.id, by=OPS, reason="x")
    after = governor.resolve_sync(run.id, 1, "happened", by=OPS, evidence="the bank's statement")
    assert (after.state, after.output) == (RunState.COMPLETED, "the bank's statement")
    governor.close_sync()


async def test_calls_that_are_not_there_or_not_in_doubt(tmp_path: Path) -> None:
    """By name, also those of a generation that is closed."""
    shop = SHOPS["functions"](tmp_path)
    run = await shop.approved()
    async with shop.governor:
        with pytest.raises(NotFound, match=r"no call .*\.5"):
            await say(shop, run, "happened", n=5)
        with pytest.raises(NotFound, match="no run"):
            await shop.governor.resolve("run_none", 1, "happened", by=OPS, evidence="x")
        with pytest.raises(NotInDoubt, match="is approved"):
            await say(shop, run, "abandon")


# -- probes --------------------------------------------------------------------------------------------------------------------


async def reconciled(
    way: str, folder: Path, probe: Any, *, lose: bool = True, decision: Decision | None = None
) -> tuple[Shop, Run, Any]:
    """A run whose reconcilable tool lost its answer, driven on by a worker that asks the probe."""
    clock = movable()
    shop = SHOPS[way](folder, lambda amount: lost(shop, amount), retry="reconcilable", clock=clock)
    if probe is not None:
        shop.governor.reconcile("pay")(probe)
    run = await shop.ask()
    await shop.governor.decide(run.approvals[0].id, decision or Decision.approve(), by=ANN)
    await until_doubt(shop, clock, run)
    await shop.work()
    return shop, await shop.governor.get(run.id), clock


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_probe_that_finds_the_payment_gives_its_value_to_the_agent(way: str, kind: str, tmp_path: Path) -> None:
    """Called once, with the call and its key; the value stands in the record and goes to the model as the result."""
    asked: list[tuple[ToolCall, str]] = []

    def look(call: ToolCall, key: str) -> Reconciled | None:
        asked.append((call, key))
        return Reconciled.happened("paid 7, says the bank")

    async def look_up(call: ToolCall, key: str) -> Reconciled | None:
        return look(call, key)

    shop, run, _ = await reconciled(way, tmp_path, look_up if kind == "async" else look)
    async with shop.governor as governor:
        calls = await governor.calls(run.id)
        assert run.state is RunState.COMPLETED and [call.state for call in calls] == [CallState.SUCCEEDED]
        assert [(call.tool, call.arguments, key) for call, key in asked] == [("pay", {"amount": 7}, calls[0].idem_key)]
        assert shop.told(run) == "paid 7, says the bank" and len(shop.ledger) == 1
        probed = [event for event in await governor.timeline(run.id) if "probe" in event]
        assert [(event["what"], event["probe"]) for event in probed] == [("call.succeeded", "happened")]


@pytest.mark.parametrize("way", WAYS)
async def test_the_probe_of_an_edited_call_sees_what_ran(way: str, tmp_path: Path) -> None:
    """And the agent hears that it ran with other arguments, where it would of the tool's own result."""
    seen: list[Any] = []

    def look(call: ToolCall, key: str) -> Reconciled:
        seen.append(call.arguments)
        return Reconciled.happened("paid 5")

    shop, run, _ = await reconciled(way, tmp_path, look, decision=Decision.edit({"amount": 5}))
    async with shop.governor:
        assert run.state is RunState.COMPLETED and seen == [{"amount": 5}]
        assert shop.told(run).startswith("paid 5")


def _raises(call: ToolCall, key: str) -> Reconciled | None:
    raise RuntimeError("the bank is closed")


async def _raises_later(call: ToolCall, key: str) -> Reconciled | None:
    raise RuntimeError("the bank is closed")


UNCLEAR: dict[str, tuple[Any, str, str]] = {
    "none": (None, "unclear", "no probe"),
    "cannot tell": (lambda call, key: None, "unclear", "cannot tell"),
    "did not happen": (lambda call, key: Reconciled.did_not_happen(), "did not happen", "found nothing"),
    "raises": (_raises, "unclear", "RuntimeError: the bank is closed"),
    "raises later": (_raises_later, "unclear", "RuntimeError: the bank is closed"),
    "another type": (lambda call, key: True, "unclear", "gave a bool"),
    "no json": (lambda call, key: Reconciled.happened(object()), "unclear", "cannot be recorded"),
}


@pytest.mark.parametrize("why", UNCLEAR)
async def test_whatever_else_a_probe_does_leaves_the_doubt_to_people(why: str, tmp_path: Path) -> None:
    """UNKNOWN, with the reason in the trail; nothing is tried again."""
    probe, found, told = UNCLEAR[why]
    shop, run, _ = await reconciled("functions", tmp_path, probe)
    async with shop.governor as governor:
        assert (run.state, states(run)) == (RunState.BLOCKED, [CallState.UNKNOWN]) and len(shop.ledger) == 1
        event = next(event for event in await governor.timeline(run.id) if "probe" in event)
        assert event["probe"] == found and told in event["reason"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_probe_that_cannot_tell_stops_the_loop_of_each_adapter(way: str, tmp_path: Path) -> None:
    """The run is blocked at once, and an answer lets it go on."""
    shop, run, clock = await reconciled(way, tmp_path, _raises_later)
    async with shop.governor as governor:
        if run.state is RunState.ACTIVE:  # a function's run rests when its lease is over
            clock.move(2 * LEASE)
            await shop.work()
        run = await governor.get(run.id)
        assert (run.state, states(run)) == (RunState.BLOCKED, [CallState.UNKNOWN])
        await say(shop, run, "happened")
        await shop.work()
        assert (await governor.get(run.id)).state is RunState.COMPLETED and len(shop.ledger) == 1


async def test_a_probe_is_registered_once_and_for_a_reconcilable_function(tmp_path: Path) -> None:
    """By decorator or by argument; mistakes are named."""
    shop = SHOPS["functions"](tmp_path)
    governor = shop.governor

    def look(call: ToolCall, key: str) -> None:
        return None

    assert governor.reconcile("pay")(look) is look
    with pytest.raises(ConfigError, match="'pay' has a probe already"):
        governor.reconcile("pay")(look)
    with pytest.raises(ConfigError, match="must be a function"):
        governor.reconcile("refund")("look")  # type: ignore[type-var]
    with pytest.raises(ConfigError, match="name the tool"):
        governor.reconcile(look)(look)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match='reconcile= is for retry="reconcilable"'):
        governor.govern(name="other", reconcile=look)(shop.pay)
    made = governor.govern(name="other", retry="reconcilable", reconcile=look, in_flight="5m")(lambda: None)
    assert governor.guard.probes.get("other") is look and made.tool.in_flight == 300.0
    async with governor:
        pass


# -- retries, and wearing out -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_an_idempotent_tool_runs_again_under_the_same_key(way: str, tmp_path: Path) -> None:
    """The first answer was lost, the second one counts; the other side sees one key."""
    clock = movable()
    shop = SHOPS[way](tmp_path, clock=clock, retry="idempotent")
    times = iter(range(9))
    shop.act = lambda amount: lost(shop, amount) if next(times) == 0 else shop.pay(amount)
    run = await shop.approved()
    await until_doubt(shop, clock, run)
    async with shop.governor as governor:
        run = await governor.get(run.id)
        call = (await governor.calls(run.id))[0]
        assert (run.state, call.state, len(call.attempts)) == (RunState.COMPLETED, CallState.SUCCEEDED, 2)
        assert shop.ledger == [f"7 {call.idem_key}"] * 2


@pytest.mark.parametrize("way", WAYS)
async def test_a_run_that_wears_its_workers_out_is_dead_until_it_is_repaired(way: str, tmp_path: Path) -> None:
    """After ``max_attempts`` claims without progress; the others go on meanwhile, and a repair begins anew."""
    clock = movable()
    shop = SHOPS[way](tmp_path, lambda amount: lost(shop, amount), clock=clock, retry="idempotent", max_attempts=2)
    run = await shop.approved()
    for _ in range(4):
        await until_doubt(shop, clock, run)
    async with shop.governor as governor:
        run = await governor.get(run.id)
        assert run.state is RunState.DEAD and len(shop.ledger) == 2 and "made no progress" in run.blocked_detail
        with pytest.raises(NotFound):
            await governor.repair("run_none", by=OPS, reason="x")
        shop.act = shop.pay
        assert (await governor.repair(run.id, by=OPS, reason="the bank answers again")).state is RunState.READY
        await shop.work()
        run = await governor.get(run.id)
        assert run.state is RunState.COMPLETED and len(set(shop.ledger)) == 1
        repaired = next(event for event in await governor.timeline(run.id) if event["what"] == "run.repaired")
        assert (repaired["by"], repaired["reason"]) == (OPS, "the bank answers again")


async def test_the_claim_of_a_probe_that_was_overtaken_is_refused(tmp_path: Path) -> None:
    """A probe that takes longer than its lease: what it found is not written over what others have done since."""
    entered, leave = threading.Event(), threading.Event()

    async def look(call: ToolCall, key: str) -> Reconciled:
        entered.set()
        assert await asyncio.to_thread(leave.wait, 90)
        left.append("paid 7")
        return Reconciled.happened("paid 7")

    left: list[str] = []
    clock = movable()
    shop = SHOPS["functions"](tmp_path, lambda amount: lost(shop, amount), retry="reconcilable", clock=clock)
    shop.governor.reconcile("pay")(look)
    run = await shop.approved()
    await shop.governor.open()
    working = asyncio.ensure_future(shop.work())  # the tool cannot tell, and the next claim asks the probe
    assert await asyncio.to_thread(entered.wait, 90)
    clock.move(2 * LEASE)
    async with shop.governor as governor:
        await governor.cancel(run.id, by=OPS)  # nothing executes: the doubt is for people now
        leave.set()
        await working
        run = await governor.get(run.id)
        assert (run.state, states(run)) == (RunState.BLOCKED, [CallState.UNKNOWN]) and left == ["paid 7"]
        await say(shop, run, "happened")
        assert (await governor.get(run.id)).state is RunState.CANCELLED
    assert Fenced.code == "fenced"
