"""One life of a scene: a process that plays whatever is still to be played, until nothing is left to do or it is killed.

The first life begins the request; every later one is a fresh process that knows nothing but the store. In each life the
same parts work side by side: the caller, a worker, people who decide only what they were told of, and an operator who
answers doubts. The store's time is moved to what is due next instead of waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from governor_agents import Approval, Governor, Run, Worker, crash
from governor_agents.core import driving
from governor_agents.core.calls import Retry, thaw
from governor_agents.core.records import Answer, CallState, RunState
from governor_agents.core.settling import due
from governor_agents.errors import GovernorError, ResolutionRefused, TooEarly
from tests.crash import broken, judge
from tests.crash.ledger import Ledger
from tests.crash.scenes import AGENT, BOSS, CHANNEL, SCENES, Scene, build, policies, run_own
from tests.stores import Time

LEASE = 30.0
SHORT = 0.3
"""The lease of a scene that waits for a renewal. The store's time stands still, so it never ends by itself."""

SOON = 3600.0
"""Time goes on to what is due within this; deadlines of approvals lie further off."""

ROUNDS = 100


@dataclass(frozen=True)
class Case:
    """What one life is to play. ``aim`` is ``POINT@N``, empty for a life that nobody kills; ``life`` counts from 0.

    ``keys`` is the file of keys that seal the store, empty for a store in clear. ``contend``: two workers look for what is
    due, instead of one.
    """

    folder: str
    url: str
    scene: str
    retry: Retry
    life: int = 0
    aim: str = ""
    broken: str = ""
    watch: bool = False
    keys: str = ""
    contend: bool = False


class Desk:
    """The channel: who is asked stands in the ledger, for people of this and of later lives."""

    name = CHANNEL

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def start(self, desk: object) -> None: ...

    async def close(self) -> None: ...

    async def notify(self, approval: Approval, to: str = "") -> str:
        self._ledger.note("asked", approval=approval.id, digest=approval.call.digest)
        return ""

    async def update(self, approval: Approval, card: str, to: str = "") -> None:
        self._ledger.note("shown", approval=approval.id, state=str(approval.call.state))


class Life:
    """A process' view of a case."""

    def __init__(self, case: Case, scene: Scene | None = None) -> None:
        self.case = case
        self.scene: Scene = scene or SCENES[case.scene]
        self.ledger = Ledger(Path(case.folder) / "ledger")
        self.time = Time(case.url, stopped=case.life == 0)
        stalls = self.scene.stalls and case.life == 0
        self.governor = self._governor()
        self.function = build(self.governor, self.scene, self.ledger, case.retry, self.stall if stalls else None)
        self._decided: set[str] = set()
        self.workers = [self.governor]
        if case.contend:
            self.workers.append(self._governor())
            build(self.workers[1], self.scene, self.ledger, case.retry, None)

    def _governor(self) -> Governor:
        return Governor(
            policies(self.case.retry),
            store=self.time.store(),
            keys=self.case.keys or None,
            secret=b"secret",
            lease=SHORT if self.scene.stalls else LEASE,
            handlers={CHANNEL: Desk(self.ledger)},
        )

    # -- playing ----------------------------------------------------------------------------------------------------

    async def play(self) -> None:
        """Until nothing is left to do. Raises `RuntimeError` when that never comes."""
        await self.governor.open()
        runs = await self.runs()
        self.look_at_the_dead(runs)
        caller = await self.begin() if not runs else None
        for _ in range(ROUNDS):
            did = await self.work() + await self.decide() + await self.answer()
            if caller is not None and not (await self.runs())[0].having(CallState.PENDING):
                with contextlib.suppress(GovernorError):  # the record says what became of it
                    await caller
                caller, did = None, 1
            if not did and not await self.pass_time():
                if not await self.told_to_ask_again():
                    return
                await self.begin()
        raise RuntimeError("the run never comes to rest")

    async def runs(self) -> list[Run]:
        """Every run there is."""
        return await self.governor.list_runs()

    async def begin(self) -> asyncio.Task[Any] | None:
        """The request; the task of a caller who waits for it."""
        if self.scene.kind != "functions":
            if self.scene.begin == "queue":
                await self.governor.submit(AGENT, "go", conversation="c")
            elif self.scene.begin == "own":
                await run_own(self.governor, self.scene)
            else:
                await self.governor.run(AGENT, "go", conversation="c")
            return None
        [[(_, args)]] = self.scene.turns
        if self.scene.begin == "leave":
            await self.function.ask(**args)
            return None
        caller = asyncio.get_running_loop().create_task(self.function(**args))
        while not await self.runs() and not caller.done():
            await asyncio.wait({caller}, timeout=0.02)
        return caller

    async def work(self) -> int:
        """What is due, by one worker or by two at the same moment; how much they did."""
        return sum(await asyncio.gather(*(Worker(governor).run(once=True) for governor in self.workers)))

    async def told_to_ask_again(self) -> bool:
        """True when the input of a loop of the caller's own died with its process: the record says so, and asks for it."""
        return self.scene.begin == "own" and any(
            run.state is RunState.BLOCKED and run.blocked == "snapshot" and "send it again" in run.blocked_detail
            for run in await self.runs()
        )

    async def decide(self) -> int:
        """People decide what they were told of, in this life or an earlier one; how many decisions they made."""
        made = 0
        for told in self.ledger.read("asked"):
            if told["approval"] in self._decided:
                continue
            self._decided.add(told["approval"])
            approval = await self.governor.approval(told["approval"])
            if approval.call.state is CallState.PENDING:
                decision = self.scene.decision(approval.arguments["order"])
                await self.governor.decide(approval.id, decision, by=BOSS, digest=told["digest"])
                made += 1
        return made

    async def answer(self) -> int:
        """An operator settles what is in doubt by what the ledger says; how many answers, or waits for one, there were."""
        made = 0
        for run in await self.runs():
            for call in run.having(CallState.UNKNOWN):
                ran = any(effect.key == call.idem_key for effect in self.ledger.effects())
                how: Answer = "abandon" if self.scene.abandons else "happened" if ran else "did-not-happen"
                self.ledger.note("doubt", run=run.id, n=call.n, how=how, ran=ran, order=thaw(call.args)["order"])  # type: ignore[call-overload,index]
                try:
                    await self.governor.resolve(run.id, call.n, how, by="ops@example.com", evidence="the ledger")
                except TooEarly as early:
                    self.time.until(early.until)
                except ResolutionRefused as refused:
                    self.ledger.note("refused", run=run.id, n=call.n, why=str(refused))
                    continue
                made += 1
        return made

    async def pass_time(self) -> bool:
        """Go on to the time at which something is due; False when nothing is, for a long time."""
        times = [at for run in await self.runs() if (at := due(run)) is not None]
        now = await self.governor.loop.bridge(self.governor.runs.now())
        if not times or min(times) > now + SOON:
            return False
        self.time.until(min(times))
        return True

    async def stall(self) -> None:
        """Outlive the lease, inside the tool: renewed once, then our own loop stands still while another worker looks."""
        other = self._governor()
        run = (await self.runs())[0]
        await self._renewed(other, run)
        go_on = Event()
        self.governor.loop.spawn(_stand_still(go_on))
        fence = run.fence
        try:
            while run.state is RunState.ACTIVE and run.fence == fence and run.lease is not None:
                self.time.until(run.lease.until)
                run = (await other.loop.bridge(other.runs.change(run.id, driving.tick))).run
        finally:
            go_on.set()
        await other.close()

    async def _renewed(self, other: Governor, run: Run) -> None:
        await other.open()

        async def work() -> None:
            first = await other.store.load("run", run.tenant, run.id)
            while (stands := await other.store.load("run", run.tenant, run.id)) and first and stands.v == first.v:
                await other.watch.changed(0.2, other.watch.version)

        await other.loop.bridge(work())

    # -- telling ----------------------------------------------------------------------------------------------------

    def look_at_the_dead(self, runs: list[Run]) -> None:
        """How the life before this one left the record, before anybody touches it."""
        if self.case.life == 0:
            return
        calls = [
            {**thaw(call.args), "run": run.id, "n": call.n, "tool": call.tool, "state": call.state.value}  # type: ignore[dict-item]
            for run in runs
            for call in run.calls
        ]
        self.ledger.note("death", life=self.case.life, states=[run.status for run in runs], calls=calls)

    async def facts(self) -> judge.Facts:
        """Everything that the judge looks at."""
        governor, runs = self.governor, await self.runs()
        calls = {run.id: await governor.calls(run.id) for run in runs}
        broken_chains = [run.id for run in runs if await _broken_chain(governor, run)]
        return judge.Facts(self.scene, self.case.retry, self.ledger.lines(), runs, calls, broken_chains)


async def _broken_chain(governor: Governor, run: Run) -> bool:
    from governor_agents.audit import chain

    events = []
    while page := await governor.loop.bridge(governor.store.events("run", run.tenant, run.id, after=len(events))):
        events += page
    return chain.verify(events, run.chain) != ""


async def _stand_still(go_on: Event) -> None:
    while not go_on.is_set():
        time.sleep(0.005)  # noqa: ASYNC251  the loop itself is to stand still


def live(given: dict[str, Any]) -> int:
    """In a child of the fork server: play, and when nobody killed us, write what the judge says to ``verdict.json``."""
    case = Case(**given)
    broken.breaks(case.broken)
    if case.watch:
        crash.watch()
    point, _, nth = case.aim.partition("@")
    crash.arm(point, int(nth or 1))
    asyncio.run(_live(Life(case)))
    return 0


async def _live(life: Life) -> None:
    restless = ""
    try:
        await life.play()
    except RuntimeError as error:
        restless = str(error)
    names = crash.points()
    crash.arm("")
    findings = judge.judge(await life.facts(), restless)
    for governor in life.workers:
        await governor.close()
    verdict = {"findings": findings.as_dict(), "points": names}
    (Path(life.case.folder) / "verdict.json").write_text(json.dumps(verdict))
