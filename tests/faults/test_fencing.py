"""A worker that stalls past its lease overwrites nothing, and a lease that is renewed keeps a long tool alive.

Stalled in two ways: the whole process is stopped, as a laptop that is closed; or only its heartbeat is cut off. What a
stale worker of a LangGraph thread may not write stands in ``tests/integration/test_langchain_safety.py``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, Worker
from governor_agents.claims import Heartbeats
from governor_agents.core import driving, execution
from governor_agents.core.calls import Retry, Tool
from governor_agents.core.ports import Segment
from governor_agents.core.records import Call, CallState, Run, RunState
from governor_agents.errors import Fenced, GovernorError
from tests.faults.app import ALICE, call, change, governed, run_tool
from tests.faults.stalling import stalling
from tests.stores import KNOWN, STORES, Time
from tests.storm.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 50 if os.environ.get("GOVERNOR_NIGHTLY") else 3
LEASE = 2.0

long = pytest.mark.timeout(60 * ROUNDS + 300)

# -- the whole process is stopped -------------------------------------------------------------------------------------


@contextmanager
def stalling_worker(url: str, ledger: Ledger) -> Iterator[subprocess.Popen[bytes]]:
    """A process that works, and stops itself in each tool."""
    command = [sys.executable, "-m", "tests.faults.stalling", url, str(ledger.path), str(LEASE)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as worker:
        try:
            yield worker
        finally:
            worker.kill()


def wait_until_stopped(worker: subprocess.Popen[bytes]) -> None:
    """Return when the process has stopped itself."""
    _, status = os.waitpid(worker.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), "the worker ended"


async def until(governor: Governor, id: str, holds: Callable[[Run], bool]) -> Run:
    """Let time pass for a run until this holds."""
    while not holds(run := await change(governor, id, driving.tick)):  # noqa: ASYNC110  another process acts
        await asyncio.sleep(0.05)
    return run


async def approved(governor: Governor, name: str, n: int) -> str:
    """A call of this function that people approved, for any worker."""
    asked = await governor.functions._known[name].ask(n)
    await governor.decide(asked.approval, Decision.approve("fine"), by=ALICE)
    return asked.run


@long
@pytest.mark.parametrize("name", STORES)
async def test_late_result_of_a_stopped_process_settles_the_doubt(name: str, tmp_path: Path) -> None:
    """Not to be repeated: the lease runs out, the call is UNKNOWN; the worker wakes up, and its result is taken, always."""
    url, ledger = STORES[name](tmp_path), Ledger(tmp_path / "ledger")
    async with stalling(url, ledger, LEASE) as governor:
        with stalling_worker(url, ledger) as worker:
            for n in range(ROUNDS):
                id = await approved(governor, "once", n)
                await asyncio.to_thread(wait_until_stopped, worker)
                doubt = await until(governor, id, lambda run: run.state is RunState.BLOCKED)
                assert doubt.calls[-1].state is CallState.UNKNOWN
                assert await Worker(governor).run(once=True) >= 0  # another worker leaves it alone
                worker.send_signal(signal.SIGCONT)
                run = await until(governor, id, lambda run: run.state.ended)
                assert (run.status, run.output) == ("completed", f"{n} by {worker.pid}")
                events = await governor.timeline(id)
                assert [event["late"] for event in events if event["what"] == "call.succeeded"] == [True]
    assert [line["n"] for line in ledger.lines()] == list(range(ROUNDS))


@long
@pytest.mark.parametrize("name", STORES)
async def test_stopped_process_overwrites_nothing(name: str, tmp_path: Path) -> None:
    """To be repeated under one key: another worker does so and ends the run; what the stopped one brings is dropped."""
    url, ledger = STORES[name](tmp_path), Ledger(tmp_path / "ledger")
    async with stalling(url, ledger, LEASE) as governor:
        with stalling_worker(url, ledger) as worker:
            for n in range(ROUNDS):
                id = await approved(governor, "again", n)
                await asyncio.to_thread(wait_until_stopped, worker)
                await until(governor, id, lambda run: run.state is RunState.READY)
                await Worker(governor).run(once=True)
                done = await until(governor, id, lambda run: run.state.ended)
                assert done.output == f"{n} by {os.getpid()}"
                worker.send_signal(signal.SIGCONT)
                after = await until(governor, id, lambda run, v=done.seq: run.seq > v)  # type: ignore[misc]
                assert (after.output, after.calls, after.fence) == (done.output, done.calls, done.fence)
                assert [event["what"] for event in (await governor.timeline(id))[done.seq :]] == ["call.fenced"]
    keys = [{line["key"] for line in ledger.lines() if line["n"] == n} for n in range(ROUNDS)]
    assert len(ledger.lines()) == 2 * ROUNDS and all(len(found) == 1 for found in keys)


# -- only its heartbeat is cut off ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Pair:
    """Two workers on one store and one clock; the first one stalls wherever the test wants."""

    clock: Time
    stale: Governor
    fresh: Governor
    stalls: asyncio.Event = field(default_factory=asyncio.Event)
    wakes: asyncio.Event = field(default_factory=asyncio.Event)
    effects: list[str] = field(default_factory=list)

    async def stall(self) -> None:
        """Where the first worker stands still."""
        self.stalls.set()
        await self.wakes.wait()

    async def past_the_lease(self) -> None:
        """The first worker stands still, and its lease runs out."""
        await self.stalls.wait()
        self.clock.move(31.0)


Body = Callable[[Pair, str, Any, Sequence[Call]], Coroutine[Any, Any, Segment]]


@asynccontextmanager
async def pair(url: str, body: Body) -> AsyncIterator[Pair]:
    """Two workers with this agent; each is told which one it is."""
    clock = Time(url)

    def made(who: str) -> Governor:
        async def agent(begun: Any, calls: Sequence[Call]) -> Segment:
            return await body(both, who, begun, calls)

        return governed(clock.store(), agent)

    both = Pair(clock, made("stale"), made("fresh"))
    try:
        yield both
    finally:
        both.wakes.set()
        await both.stale.close()
        await both.fresh.close()


async def acts(both: Pair, who: str, retry: Retry, id: str = "c1") -> Any:
    """A tool with an effect; the first worker stalls between effect and result."""

    async def does() -> str:
        both.effects.append(who)
        if who == "stale":
            await both.stall()
        return f"by {who}"

    governor = both.stale if who == "stale" else both.fresh
    return await run_tool(governor, call("note", id), Tool("note", retry=retry), does)


async def tool_then_end(both: Pair, who: str, begun: Any, calls: Sequence[Call]) -> Segment:
    return Segment(True, output=(await acts(both, who, "idempotent")).value)


async def stalls_before_end(both: Pair, who: str, begun: Any, calls: Sequence[Call]) -> Segment:
    if who == "stale":
        await both.stall()
    return Segment(True, output=f"by {who}")


async def stalls_before_pause(both: Pair, who: str, begun: Any, calls: Sequence[Call]) -> Segment:
    if who == "stale":
        await both.stall()
        return Segment(False, snapshot=b"stale", pending=(call("pay", "c9", amount=1),))
    return Segment(True, output=f"by {who}")


async def stalls_before_failing(both: Pair, who: str, begun: Any, calls: Sequence[Call]) -> Segment:
    if who == "stale":
        await both.stall()
        raise RuntimeError("the model is gone")
    return Segment(True, output=f"by {who}")


async def stalls_before_tool(both: Pair, who: str, begun: Any, calls: Sequence[Call]) -> Segment:
    if who == "stale":
        await both.stall()
    return Segment(True, output=(await acts(both, "late" if who == "stale" else who, "none")).value)


STALLING: dict[str, tuple[Body, list[str], list[str]]] = {
    "before the result": (tool_then_end, ["stale", "fresh"], ["call.fenced"]),
    "before the end": (stalls_before_end, [], []),
    "before the pause": (stalls_before_pause, [], []),
    "before it gives back": (stalls_before_failing, [], []),
    "before the tool": (stalls_before_tool, ["fresh"], []),
}
"""Where the worker stalls: its agent, who acts, and what the audit trail says of it once it wakes up."""


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("where", STALLING)
async def test_worker_without_heartbeat_overwrites_nothing(where: str, name: str, tmp_path: Path) -> None:
    """Result, pause, end, giving back, a new tool: all refused once another worker has taken the run."""
    body, effects, traces = STALLING[where]
    async with pair(STORES[name](tmp_path), body) as both:
        run = await both.stale.submit("a", "go")
        first = asyncio.create_task(both.stale.resume(run.id))
        await both.past_the_lease()
        await Worker(both.fresh).run(once=True)
        done = await both.fresh.get(run.id)
        assert (done.status, done.output, done.fence) == ("completed", "by fresh", 2)
        both.wakes.set()
        with pytest.raises(Fenced):
            await first
        after = await both.fresh.get(run.id)
        assert (after.status, after.output, after.calls, after.snapshot) == (done.status, done.output, done.calls, None)
        assert [event["what"] for event in (await both.fresh.timeline(run.id))[done.seq :]] == traces
        assert both.effects == effects


async def test_worker_without_heartbeat_cannot_renew(tmp_path: Path) -> None:
    """A heartbeat that comes after somebody else took the run is refused, and leaves no trace."""
    async with pair(KNOWN["sqlite"](tmp_path), stalls_before_end) as both:
        run = await both.stale.submit("a", "go")
        claimed = await both.stale.claim(run.id)
        both.clock.move(31.0)
        await change(both.fresh, run.id, driving.tick)
        taken = await both.fresh.claim(run.id)
        assert claimed.lease is not None and taken.lease is not None

        def renew(run: Run, now: float) -> Any:
            return driving.renew(run, now, owner=claimed.lease.owner, fence=claimed.fence, lease=LEASE)  # type: ignore[union-attr]

        with pytest.raises(Fenced):
            await change(both.stale, run.id, renew)
        assert await both.fresh.get(run.id) == taken


async def test_a_build_without_fence_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: when any claim counts as one's own, a stale worker ends a run that somebody else drives."""
    monkeypatch.setattr(execution, "_mine", lambda call, owner, fence, attempt: True)
    monkeypatch.setattr(execution, "hold", lambda run, **_: None)
    monkeypatch.setattr(driving, "hold", lambda run, **_: None)
    async with pair(KNOWN["sqlite"](tmp_path), stalls_before_end) as both:
        run = await both.stale.submit("a", "go")
        first = asyncio.create_task(both.stale.resume(run.id))
        await both.past_the_lease()
        await change(both.fresh, run.id, driving.tick)
        taken = await both.fresh.claim(run.id)
        both.wakes.set()
        await first
        after = await both.fresh.get(run.id)
        assert taken.fence == after.fence and after.output == "by stale", (
            "the run was ended under somebody else's claim"
        )


# -- renewal ----------------------------------------------------------------------------------------------------------

SHORT = 0.15
STEPS = 25


def keeps_up(governor: Governor, clock: Time, id: str) -> int:
    """Let time pass, half a lease at a time, each time once the lease was renewed; how often it was. Blocks."""
    renewed, seen = 0, 0.0
    patience = threading.Event()
    while renewed < STEPS:
        run = governor.get_sync(id)
        if run.state not in (RunState.READY, RunState.ACTIVE):
            break
        if run.lease is not None and run.lease.until > seen and run.having(CallState.EXECUTING):
            seen, renewed = run.lease.until, renewed + 1
            clock.move(SHORT / 2)
            governor.loop.call(governor.runs.change(id, driving.tick))  # what any other worker would do
        patience.wait(0.005)
    return renewed


@pytest.mark.timeout(600)
@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("name", STORES)
def test_renewed_lease_keeps_a_tool_alive_for_ten_leases(name: str, blocks: bool, tmp_path: Path) -> None:
    """Twelve leases long, awaiting or blocking its event loop: nobody takes the run, and it is never in doubt."""
    clock, done = Time(STORES[name](tmp_path)), threading.Event()
    governor = governed(clock.store(), lease=SHORT)
    other = governed(clock.store(), lease=SHORT)

    @governor.govern(name="long")
    async def tool() -> str:
        if blocks:
            done.wait()
        else:
            await asyncio.to_thread(done.wait)
        return "done"

    asked = tool.ask_sync()  # type: ignore[attr-defined]
    governor.decide_sync(asked.approval, Decision.approve("fine"), by=ALICE)
    begun = clock()
    working = threading.Thread(target=lambda: asyncio.run(Worker(governor).run(once=True)))
    working.start()
    renewed = keeps_up(other, clock, asked.run)
    done.set()
    working.join()
    run = other.get_sync(asked.run)
    events = [event["what"] for event in other.timeline_sync(asked.run)]
    governor.close_sync()
    other.close_sync()
    assert (run.status, run.output, run.fence) == ("completed", "done", 2)
    assert renewed == STEPS and clock() - begun >= 10 * SHORT
    assert "call.unknown" not in events and "run.lease_over" not in events


async def test_a_build_without_heartbeat_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: nobody renews, so the same tool is in doubt as soon as its lease is over."""

    async def never(self: Heartbeats, claim: Any) -> None:
        return None

    monkeypatch.setattr(Heartbeats, "_beat", never)
    async with pair(KNOWN["sqlite"](tmp_path), _tool_once) as both:
        run = await both.stale.submit("a", "go")
        first = asyncio.create_task(both.stale.resume(run.id))
        await both.past_the_lease()
        doubt = await change(both.fresh, run.id, driving.tick)
        assert (doubt.state, doubt.calls[-1].state) == (RunState.BLOCKED, CallState.UNKNOWN)
        both.wakes.set()
        with pytest.raises(GovernorError):
            await first
        after = await both.fresh.get(run.id)
        assert after.calls[-1].state is CallState.SUCCEEDED, "a late result settles the doubt all the same"


async def _tool_once(both: Pair, who: str, begun: Any, calls: Sequence[Call]) -> Segment:
    return Segment(True, output=(await acts(both, who, "none")).value)
