"""Agent loops of a restored old copy, with real frameworks' runs: what nobody has to approve does not run twice either."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from governor_agents import Decision, Governor, Run, Worker
from governor_agents.backup.entries import entries
from governor_agents.backup.moving import bring
from governor_agents.backup.restored import sweep
from governor_agents.core.records import CallState, RunState
from governor_agents.core.settling import RESTORED, UNKNOWN
from governor_agents.errors import StaleDecision
from governor_agents.stores import open_store
from tests.integration.ledger import Ledger
from tests.integration.openai_agents_app import BOSS, make_app
from tests.stores import KNOWN, STORES

NOTE = [("note", {"text": "sent"})]
BOTH = ([("refund", {"order": "4711"})], NOTE)
NAMES = [name for name in STORES if name != "redis-cluster"]

pytestmark = pytest.mark.parametrize("name", NAMES)


class Restored:
    """Two stores: one in which work went on, and one that was restored from a copy of before."""

    def __init__(self, folder: Path, name: str) -> None:
        make = STORES.get(name) or KNOWN[name]
        self.urls = make(folder), make(folder)
        self.ledger = Ledger(folder / "ledger")

    @asynccontextmanager
    async def program(self, which: int, *turns: object) -> AsyncIterator[Governor]:
        """A governor on one of the stores, with the agent registered, closed at the end."""
        governor, _ = make_app(self.urls[which], self.ledger.path, *turns)  # type: ignore[arg-type]
        await governor.open()
        try:
            yield governor
        finally:
            await governor.close()

    async def copy(self) -> None:
        """Take the backup and put it into the other store at once: nothing of it is looked at before."""
        source, target = (open_store(url) for url in self.urls)
        await source.open()
        await target.open()
        made = await bring(lambda: entries(source), target, lambda what: lambda count: None)
        assert not made.refused and not made.differs and made.written
        await source.close()
        await target.close()

    @property
    def effects(self) -> list[str]:
        """What happened outside."""
        return self.ledger.lines


async def quarantined(governor: Governor) -> None:
    """As ``store quarantine`` does."""
    await governor.loop.bridge(sweep(governor.runs, "e1", by="local:op", seen=lambda count: None))


async def worked(governor: Governor) -> None:
    """A worker does all that is due."""
    await Worker(governor).run(once=True)


async def queued(governor: Governor) -> Run:
    """A run that no worker has seen yet."""
    return await governor.submit("support", "go")


async def test_a_queued_run_does_not_begin_again(tmp_path: Path, name: str) -> None:
    """It ran whole since, without any approval: held until an operator cancels it, or lets it go."""
    world = Restored(tmp_path, name)
    async with world.program(0, NOTE) as governor:
        run = await queued(governor)
        await world.copy()
        await worked(governor)
        assert world.effects == ["note sent"]
    async with world.program(1, NOTE) as governor:
        await quarantined(governor)
        await worked(governor)
        held = await governor.get(run.id)
        assert (world.effects, held.state, held.blocked) == (["note sent"], RunState.BLOCKED, RESTORED)
        await governor.cancel(run.id, by="local:op", reason="it ran since")
        await worked(governor)
        assert (await governor.get(run.id)).state is RunState.CANCELLED and world.effects == ["note sent"]


async def test_without_quarantine_a_queued_run_begins_again(tmp_path: Path, name: str) -> None:
    """The control."""
    world = Restored(tmp_path, name)
    async with world.program(0, NOTE) as governor:
        await queued(governor)
        await world.copy()
        await worked(governor)
    async with world.program(1, NOTE) as governor:
        await worked(governor)
    assert world.effects == ["note sent", "note sent"]


async def test_a_loop_goes_on_only_when_somebody_decided_anew(tmp_path: Path, name: str) -> None:
    """It was approved, ran and ended since. The old click is refused; a rejection tells the loop, and nothing is paid."""
    world = Restored(tmp_path, name)
    async with world.program(0, *BOTH) as governor:
        run = await governor.run("support", "go")
        (approval,) = run.approvals
        await governor.decide(approval.id, Decision.approve(), by=BOSS)
        await world.copy()
        await worked(governor)
        assert (await governor.get(run.id)).state is RunState.COMPLETED
        assert world.effects == ["refund 4711 10.0", "note sent"]
    async with world.program(1, *BOTH) as governor:
        await quarantined(governor)
        await worked(governor)
        with pytest.raises(StaleDecision):
            await governor.decide(approval.id, Decision.approve(), by=BOSS, digest=approval.call.digest)
        assert world.effects == ["refund 4711 10.0", "note sent"]
        await governor.decide(approval.id, Decision.reject("it was paid on Monday"), by=BOSS)
        await worked(governor)
        assert (await governor.get(run.id)).state is RunState.COMPLETED
        assert world.effects.count("refund 4711 10.0") == 1


async def test_a_tool_that_was_running_is_a_doubt(tmp_path: Path, name: str) -> None:
    """The copy was taken between intent and result: nobody runs it again before an operator has spoken."""
    world = Restored(tmp_path, name)
    taken: list[bool] = []

    async with world.program(0, NOTE) as governor:
        real = governor.guard._leave

        async def leaving(*args: object, **more: object) -> object:
            if not taken:
                taken.append(True)
                await world.copy()
            return await real(*args, **more)  # type: ignore[arg-type]

        governor.guard._leave = leaving  # type: ignore[method-assign]
        run = await queued(governor)
        await worked(governor)
    assert taken and world.effects == ["note sent"]
    async with world.program(1, NOTE) as governor:
        await quarantined(governor)
        await worked(governor)
        stands = await governor.get(run.id)
        assert (stands.state, stands.blocked) == (RunState.BLOCKED, UNKNOWN)
        assert [call.state for call in stands.calls] == [CallState.UNKNOWN] and world.effects == ["note sent"]
        await governor.resolve(run.id, 1, "happened", by="local:op", evidence="the note is there")
        await worked(governor)
        assert (await governor.get(run.id)).state is RunState.COMPLETED and world.effects == ["note sent"]
