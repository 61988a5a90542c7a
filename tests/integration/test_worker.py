"""The worker: delivers, resumes, expires, survives what others leave behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, Worker
from governor_agents.core import driving
from governor_agents.core.ports import Captured, Record, Segment
from governor_agents.core.records import Approval, Change, Run, RunState, evolve
from governor_agents.driver import Prepared
from governor_agents.policies import PolicySet
from governor_agents.worker.hands import LEFT, Hands

POLICY = """
version: 1
approvals: {approvers: ["local:alice"], channels: [card]}
rules:
  - {name: ask, tool: "*", then: require_approval}
"""


class Card:
    """A channel that remembers what it was told; fails as often as it is told to."""

    name = "card"

    def __init__(self, failures: int = 0) -> None:
        self.told: list[tuple[str, str]] = []
        self.failures = failures

    def _tell(self, what: str, approval: Approval) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the channel is down")
        self.told.append((what, approval.id))

    async def start(self, desk: object) -> None: ...

    async def close(self) -> None: ...

    async def notify(self, approval: Approval, to: str = "") -> str:
        """Somebody is asked."""
        self._tell("asked", approval)
        return "card-1"

    async def update(self, approval: Approval, card: str, to: str = "") -> None:
        """Somebody is told the outcome."""
        self._tell(f"decided:{approval.call.state}", approval)


class Loop:
    """An adapter whose agent is a function of how often it was driven; what it does stands in the test."""

    name = "loop"
    framework = "loop 1"
    replays = True

    def __init__(self, *segments: Any) -> None:
        self.segments = list(segments)
        self.driven = 0

    def prepare(self, agent: Any) -> Any:
        """Nothing to govern."""
        return agent

    async def _next(self) -> Segment:
        self.driven += 1
        segment = self.segments.pop(0)
        if isinstance(segment, Exception):
            raise segment
        return await segment() if callable(segment) else segment

    async def start(self, agent: Any, input: Any, **more: Any) -> Segment:
        """The first stretch."""
        return await self._next()

    async def resume(self, agent: Any, snapshot: bytes, calls: Any, **more: Any) -> Segment:
        """A later stretch."""
        return await self._next()

    async def capture(self, paused: Any, **where: Any) -> Captured | None:
        """Not used here."""
        return None

    async def close(self, agent: Any, snapshot: bytes, calls: Any) -> None:
        """Nothing is left open."""

    def inventory(self, agent: Any) -> list[Any]:
        """No tools."""
        return []

    def fingerprint(self, agent: Any) -> str:
        """Always the same."""
        return ""


def governed(store: str, loop: Loop | None = None, **settings: Any) -> Governor:
    """A governor, with the loop as its agent ``a``."""
    governor = Governor(PolicySet.from_text(POLICY, name="governor.yaml"), store=store, **settings)
    if loop is not None:
        governor.agents["a"] = lambda: loop
        governor._prepared["a"] = Prepared(loop, loop)
    return governor


def pending(tool: str = "pay") -> Segment:
    """A pause with one call."""
    from governor_agents import ToolCall

    return Segment(False, snapshot=b"{}", pending=(ToolCall.of(tool, {"amount": 1}, "c1", agent="a"),))


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store URL."""
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'g.db'}"


@pytest.fixture
async def closing() -> AsyncIterator[list[Governor]]:
    """Governors to close after the test."""
    made: list[Governor] = []
    yield made
    for governor in made:
        await governor.close()


async def test_run_queued_is_started_by_a_worker(store: str, closing: list[Governor]) -> None:
    """``submit`` answers before anything ran; a worker drives the run to its end."""
    loop = Loop(Segment(True, output="done"))
    governor = governed(store, loop)
    closing.append(governor)
    run = await governor.submit("a", "hello")
    assert run.status == "queued" and loop.driven == 0
    await Worker(governor).run(once=True)
    after = await governor.get(run.id)
    assert after.status == "completed" and after.output == "done"


async def test_notices_are_delivered_once_and_retried_after_trouble(store: str, closing: list[Governor]) -> None:
    """A channel that is down delays the notice and decides nothing."""
    card = Card(failures=1)
    governor = governed(store, Loop(pending()), handlers={"card": card})
    closing.append(governor)
    run = await governor.run("a", "hello")
    await Worker(governor).run(once=True)
    assert card.told == [] and (await governor.get(run.id)).outbox[0].tries == 1
    await governor.loop.bridge(governor.runs.change(run.id, _now_due))
    await Worker(governor).run(once=True)
    await Worker(governor).run(once=True)
    assert card.told == [("asked", run.approvals[0].id)]
    assert (await governor.get(run.id)).state is RunState.WAITING


def _now_due(run: Any, now: float) -> Change:
    return Change(evolve(run, outbox=tuple(evolve(notice, due=0.0) for notice in run.outbox)))


async def test_decided_run_is_resumed_and_people_are_told(store: str, closing: list[Governor]) -> None:
    """The loop goes on, and the channel that asked is told the outcome."""
    card, loop = Card(), Loop(pending(), Segment(True, output="ok"))
    governor = governed(store, loop, handlers={"card": card})
    closing.append(governor)
    run = await governor.run("a", "hello")
    await Worker(governor).run(once=True)
    await governor.decide(run.approvals[0].id, Decision.reject("no"), by="local:alice")
    await Worker(governor).run(once=True)
    assert (await governor.get(run.id)).status == "completed"
    assert card.told == [("asked", run.approvals[0].id), ("decided:rejected", run.approvals[0].id)]


async def test_two_workers_drive_a_run_once(store: str, closing: list[Governor]) -> None:
    """The higher fence wins; the other worker goes away empty-handed."""
    loop = Loop(pending(), Segment(True, output="ok"))
    governor = governed(store, loop, handlers={"card": Card()})
    closing.append(governor)
    run = await governor.run("a", "hello")
    await governor.decide(run.approvals[0].id, Decision.approve(), by="local:alice")
    await asyncio.gather(*(Worker(governor).run(once=True) for _ in range(4)))
    assert loop.driven == 2 and (await governor.get(run.id)).status == "completed"


@pytest.mark.parametrize("broken", [False, True])
async def test_full_hands_leave_runs_to_another_worker(
    store: str, closing: list[Governor], broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that drives as many runs as it may does not hold another one, and still tells people; so goes the control."""
    begun, go, told, stop = (asyncio.Event() for _ in range(4))

    async def long() -> Segment:
        begun.set()
        await go.wait()
        return Segment(True, output="late")

    class Telling(Card):
        async def start(self, desk: object) -> None: ...

        async def close(self) -> None: ...

        async def notify(self, approval: Approval, to: str = "") -> str:
            told.set()
            return await super().notify(approval)

    if broken:
        monkeypatch.setattr(Hands, "take", lambda *_: True)
    loop = Loop(long, pending(), Segment(True, output="soon"))
    governor = governed(store, loop, handlers={"card": Telling()})
    closing.append(governor)
    first = await governor.submit("a", "hello")
    worker = Worker(governor, concurrency=1)
    working = asyncio.create_task(worker.run(stop=stop))
    await begun.wait()
    second = await governor.submit("a", "hello")
    await governor.run("a", "hello")
    await told.wait()  # so it has looked since the second was queued
    assert (("default", second.id) in worker._busy) is broken
    if not broken:
        await Worker(governor).run(once=True)
        assert (await governor.get(second.id)).output == "soon"
    go.set()
    await governor.wait(first.id, timeout=60, until=lambda run: run.state.ended)
    await governor.wait(second.id, timeout=60, until=lambda run: run.state.ended)
    stop.set()
    await working
    assert loop.driven == 3


async def test_run_of_a_dead_process_is_taken_over(store: str, closing: list[Governor]) -> None:
    """A lease that is over frees the run; the worker drives it from where it stood."""
    loop = Loop(Segment(True, output="ok"))
    governor = governed(store, loop)
    closing.append(governor)
    run = await governor.submit("a", "hello")
    await governor.loop.bridge(
        governor.runs.change(run.id, lambda run, now: driving.claim(run, now, owner="dead/1/1", lease=-1.0))
    )
    await Worker(governor).run(once=True)
    after = await governor.get(run.id)
    assert after.status == "completed" and after.fence == 2


async def test_loop_that_keeps_failing_wears_out(store: str, closing: list[Governor]) -> None:
    """After five tries without progress the run is DEAD with the last error; others are not held up."""
    loop = Loop(*[RuntimeError("model down")] * 5, Segment(True, output="never"))
    governor = governed(store, loop)
    closing.append(governor)
    run = await governor.submit("a", "hello")
    for _ in range(6):
        await Worker(governor).run(once=True)
        await governor.loop.bridge(governor.runs.change(run.id, _no_delay))
    after = await governor.get(run.id)
    assert after.state is RunState.DEAD and loop.driven == 5 and "model down" in after.error


def _no_delay(run: Any, now: float) -> Change:
    return Change(evolve(run, not_before=0.0)) if run.not_before else Change(run)


async def test_creator_is_told_what_the_loop_raised(store: str, closing: list[Governor]) -> None:
    """``run`` raises the framework's error and the record says FAILED."""
    governor = governed(store, Loop(RuntimeError("bad key")))
    closing.append(governor)
    with pytest.raises(RuntimeError, match="bad key"):
        await governor.run("a", "hello")
    (run,) = await governor.list_runs()
    assert run.status == "failed" and "bad key" in run.error


async def test_a_run_that_nobody_takes_is_told_of_after_a_while(store: str, closing: list[Governor]) -> None:
    """With full hands a decided run is left alone; its people wait ten seconds for the news and no longer."""
    governor = governed(store, Loop(pending()), handlers={"card": Card()})
    closing.append(governor)
    run = await governor.run("a", "hello")
    hands, ready = Hands(1), evolve(run, state=RunState.READY)

    def take(run: Run, now: float) -> bool:
        return hands.take(governor, Record("run", "default", run.id, b""), run, now)

    hands.look(whole=True)
    assert take(evolve(ready, id="other"), 0.0)
    for now, whole, taken in ((0.0, True, False), (1.0, False, False), (LEFT, True, False), (LEFT + 1, True, True)):
        hands.look(whole)
        assert ready.outbox and take(ready, now) is taken
        assert not take(evolve(ready, id="told", outbox=()), now)
        assert [left.id for _, _, left in hands.left] == (["told"] if taken else [run.id, "told"])
        assert take(run, now), "a run that waits for people needs no hand"
    hands.drop(("default", "other"))
    assert hands.freed.is_set() and take(evolve(ready, id="told", outbox=()), 0.0)


async def test_run_of_an_unknown_agent_is_left_alone(store: str, closing: list[Governor]) -> None:
    """A worker that does not have the agent neither fails nor spins; one that has it takes the run."""
    governor = governed(store, Loop(Segment(True, output="ok")))
    closing.append(governor)
    run = await governor.submit("elsewhere", "hello")
    assert await Worker(governor).run(once=True) == 0
    assert (await governor.get(run.id)).status == "queued"


async def test_run_of_another_framework_is_left_alone(store: str, closing: list[Governor]) -> None:
    """An agent of the same name under another framework is another agent: its run stays for a worker that has it."""
    loop = Loop(pending(), Segment(True, output="never"))
    governor = governed(store, loop, handlers={"card": Card()})
    closing.append(governor)
    run = await governor.run("a", "hello")
    await governor.loop.bridge(governor.runs.change(run.id, _of_another_framework))
    await governor.decide(run.approvals[0].id, Decision.approve(), by="local:alice")
    await Worker(governor).run(once=True)
    assert (await governor.get(run.id)).status == "ready" and loop.driven == 1


def _of_another_framework(run: Any, now: float) -> Change:
    return Change(evolve(run, snapshot=evolve(run.snapshot, adapter="other")))


async def test_expired_approval_goes_on_and_the_model_is_told(store: str, closing: list[Governor]) -> None:
    """Nobody answered: EXPIRED, never approved; the loop goes on."""
    loop = Loop(pending(), Segment(True, output="told"))
    governor = Governor(
        PolicySet.from_text(POLICY.replace("[card]}", "[card], deadline: 0.001}"), name="p"),
        store=store,
        handlers={"card": Card()},
    )
    governor.agents["a"] = lambda: loop
    governor._prepared["a"] = Prepared(loop, loop)
    closing.append(governor)
    run = await governor.run("a", "hello")
    await governor.wait(run.id, timeout=0.01, until=lambda run: False)
    await Worker(governor).run(once=True)
    assert (await governor.get(run.id)).status == "completed"
    assert [call.state for call in await governor.calls(run.id)] == ["expired"]


async def test_worker_wakes_on_a_decision(store: str, closing: list[Governor]) -> None:
    """A waiting worker goes on by itself when somebody decides, and ends when told to."""
    loop = Loop(pending(), Segment(True, output="ok"))
    governor = governed(store, loop, handlers={"card": Card()})
    closing.append(governor)
    run = await governor.run("a", "hello")
    stop = asyncio.Event()
    working = asyncio.create_task(Worker(governor).run(stop=stop))
    await governor.decide(run.approvals[0].id, Decision.approve(), by="local:alice")
    after = await governor.wait(run.id, timeout=20, until=lambda run: run.state.ended)
    stop.set()
    await working
    assert after.status == "completed"


SLOW_APP = """
import asyncio, json, os, sys
from governor_agents import Governor, PolicySet
governor = Governor(PolicySet.from_text('version: 1\\napprovals: {approvers: ["local:alice"]}'), store=os.environ["STORE"])

@governor.govern(name="slow", approvers=["local:alice"])
async def slow() -> str:
    with open(os.environ["LEDGER"], "a") as file:
        file.write(json.dumps({"began": os.getpid()}) + "\\n")
    await asyncio.Event().wait() if os.environ.get("HANG") else await asyncio.sleep(0.5)
    return "done"
"""


def test_sigterm_drains(tmp_path: Path) -> None:
    """A worker told to stop finishes the call it has in hand, then exits with 0."""
    (tmp_path / "slow_app.py").write_text(SLOW_APP)
    url, ledger = f"sqlite:///{tmp_path / 'g.db'}", tmp_path / "ledger"
    environment = {**os.environ, "STORE": url, "LEDGER": str(ledger)}
    script = "import asyncio, slow_app; print(asyncio.run(slow_app.slow.ask()).approval, flush=True)"
    asked = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    governor = governed(url)
    approval = asked.stdout.strip()
    governor.decide_sync(approval, Decision.approve(), by="local:alice")
    command = [sys.executable, "-m", "governor_agents", "worker", "slow_app:governor"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) as worker:
        run = governor.wait_sync(
            approval.rpartition(".")[0],
            timeout=60,
            until=lambda run: bool(run.having("executing")),  # type: ignore[arg-type]
        )
        assert run.state is RunState.ACTIVE, worker.stderr
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=60) == 0
    after = governor.get_sync(run.id)
    governor.close_sync()
    assert after.status == "completed" and after.output == "done"
    assert [json.loads(line)["began"] for line in ledger.read_text().splitlines()] == [worker.pid]
