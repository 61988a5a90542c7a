"""Poison: work that kills its worker again and again is put aside as DEAD; all other work goes on; a repair frees it."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from governor_agents import Decision, Governor, Run
from governor_agents.core.records import RunState
from governor_agents.core.settling import due
from tests.crash.forkserver import ForkServer
from tests.faults.poison_app import POISON, App
from tests.stores import STORES, clocked, move

pytestmark = pytest.mark.timeout(900)

NAMES = ("first", POISON, "second", "third")
WORK = "tests.faults.poison_app:work"


async def ask_function(governor: Governor, app: App) -> dict[str, str]:
    """Decided calls of a governed function, by what they are about."""
    found = {}
    for name in NAMES:
        pending = await app.ship.ask(what=name)
        await governor.decide(pending.approval, Decision.approve(), by="boss@example.com")
        found[name] = pending.run
    return found


async def ask_agent(governor: Governor, app: App) -> dict[str, str]:
    """Queued runs of an agent, by what they are about."""
    return {name: (await governor.submit("clerk", name)).id for name in NAMES}


class Patients:
    """The runs, and workers that come one after the other, as a supervisor starts them."""

    def __init__(self, folder: Path, store: str, server: ForkServer) -> None:
        folder.mkdir()
        self.folder = folder
        self.url = STORES[store](folder)
        self.server = server
        self.runs: dict[str, str] = {}

    async def ask(self, ask: Callable[[Governor, App], Awaitable[dict[str, str]]]) -> None:
        """What is to be done."""
        app = App(str(self.folder), self.url)
        async with app.governor as governor:
            self.runs = await ask(governor, app)

    def cure(self) -> None:
        """From now on the poison harms nobody."""
        (self.folder / "cured").touch()

    def keys(self) -> set[str]:
        """What the tool ran the poison under."""
        ledger = self.folder / "ledger"
        lines = ledger.read_text().splitlines() if ledger.exists() else []
        return {line for line in lines if line.startswith(POISON)}

    async def stand(self) -> dict[str, Run]:
        """Every run as it stands."""
        async with Governor(store=self.url) as governor:
            return {name: await governor.get(run) for name, run in self.runs.items()}

    async def work(self) -> int:
        """Start workers until one of them ends well; how many were killed. Leases are over when the next one comes."""
        killed = 0
        while True:
            at = await self._next()
            code = await self.server.run(WORK, self.folder / "log", str(self.folder), self.url, at)
            if code == 0:
                return killed
            assert code == -signal.SIGKILL, (self.folder / "log").read_text()
            killed += 1
            assert killed < 20, "the poison is never put aside"

    async def _next(self) -> float:
        """The time at which all that was begun is due again: where stores take a clock, a worker gets it as its own."""
        async with Governor(store=self.url) as governor:
            now = await governor.loop.bridge(governor.runs.now())
            times = [at for run in await governor.list_runs() if not run.state.ended and (at := due(run)) is not None]
            latest = max([now, *times])
        if not clocked(self.url):
            await move(self.url, latest)
        return latest


@pytest.mark.parametrize("store", STORES)
def test_what_kills_its_worker_again_and_again_is_put_aside(tmp_path: Path, store: str) -> None:
    """Killed as often as the run allows, it is DEAD and says why; the others are done. A repair lets it try again: not
    cured it kills as many workers and is put aside again, cured it ends."""

    async def play() -> None:
        async with ForkServer("tests.faults.poison_app") as server:
            await asyncio.gather(*(poisoned(tmp_path / kind, store, server, kind) for kind in ("function", "agent")))

    asyncio.run(play())


async def poisoned(folder: Path, store: str, server: ForkServer, kind: str) -> None:
    """The whole story, with a governed function or with an agent."""
    patients = Patients(folder, store, server)
    await patients.ask(ask_function if kind == "function" else ask_agent)
    killed = await patients.work()
    stands = await patients.stand()
    assert killed == stands[POISON].max_attempts
    states = {name: run.status for name, run in stands.items()}
    assert states == {name: "dead" if name == POISON else "completed" for name in NAMES}
    assert stands[POISON].blocked_detail == "5 tries made no progress; last error: the worker died"
    assert await patients.work() == 0, "the dead run is left alone"
    assert (await patients.stand())[POISON].state is RunState.DEAD
    await repair(patients)
    assert await patients.work() == killed, "the negative control: nobody cured it"
    patients.cure()
    await repair(patients)
    assert await patients.work() == 0
    assert (await patients.stand())[POISON].status == "completed"
    assert len(patients.keys()) == (1 if kind == "function" else 0), "every attempt bore the same key"


async def repair(patients: Patients) -> None:
    """An operator says that it may be tried again."""
    async with Governor(store=patients.url) as governor:
        freed = await governor.repair(patients.runs[POISON], by="ops@example.com", reason="mended")
    assert freed.state in (RunState.READY, RunState.QUEUED)
