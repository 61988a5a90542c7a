"""One stretch of an agent loop under a claim: start or resume, then pause, end, or give the run back.

The framework runs in the caller's loop; every store step crosses to the governor loop. Whatever the framework made of
an exception on its way out, the record decides what happened: a call in doubt blocks the run, a call that needs people
again lets it wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from governor_agents import schemas
from governor_agents.background import Background
from governor_agents.claims import Claim, Heartbeats, held
from governor_agents.core import driving, halting
from governor_agents.core.calls import Json, freeze, thaw
from governor_agents.core.ports import Adapter, Emit, Segment
from governor_agents.core.records import Change, Run, Snapshot
from governor_agents.core.sizes import Part, heaviest, too_large
from governor_agents.crash import crash_point
from governor_agents.errors import (
    Fenced,
    IllegalTransition,
    ReplayDiverges,
    RunBlocked,
    SnapshotError,
    SnapshotTooLarge,
)
from governor_agents.nonces import nonce
from governor_agents.operands import bound
from governor_agents.policies import PolicySet
from governor_agents.runs import Runs, blob, closing_blob

MAX_DELAY = 60.0
"""Seconds between tries of a resume that keeps failing, at most."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An agent ready to run: governed, with its adapter and the runner options of its factory."""

    adapter: Adapter
    agent: Any
    options: Mapping[str, Any] = field(default_factory=dict)


class Driver:
    """Drives claimed runs through their adapters. ``most`` says how many bytes a snapshot may have."""

    def __init__(
        self, runs: Runs, policies: PolicySet, beats: Heartbeats, loop: Background, most: Callable[[], int]
    ) -> None:
        self._runs = runs
        self._policies = policies
        self._beats = beats
        self._loop = loop
        self._most = most

    async def drive(self, run: Run, prepared: Prepared, *, emit: Emit | None = None, raising: bool = False) -> Run:
        """Run one stretch of an ACTIVE run and write how it came to rest; the run as it then stands.

        An exception of the framework gives the run back to be tried again; with ``raising`` (its creator is there
        to be told) it ends the run as FAILED and is raised. Raises `Fenced` when the claim was lost.
        """
        claim = Claim.on(run)
        try:
            with held(claim), self._beats.during(claim):
                segment = await self._stretch(run, claim, prepared, emit)
        except asyncio.CancelledError:
            with contextlib.suppress(Fenced, IllegalTransition):
                await asyncio.shield(self._loop.bridge(self._give_back(claim, "cancelled", 0.0)))
            raise
        except Exception as error:
            return await self._failed(claim, error, raising)
        return await self.rest(claim, segment, prepared, raising=raising)

    async def rest(self, claim: Claim, segment: Segment, prepared: Prepared, *, raising: bool = True) -> Run:
        """Write how a stretch came to rest; the run as it then stands. Raises `Fenced`.

        A pause whose snapshot is too large ends the run: nobody is asked. With ``raising`` that is raised.
        """
        crash_point("stretch:after")
        try:
            self.weigh(segment, f"the snapshot of run {claim.run}")
        except SnapshotTooLarge as error:
            return await self._failed(claim, error, raising)
        asks = self._asks(claim, segment)  # in the caller's thread: a policy may do as it likes
        return await self._loop.bridge(self._come_to_rest(claim, segment, prepared, asks))

    def weigh(self, segment: Segment, what: str) -> None:
        """Raise `SnapshotTooLarge` for a pause that is not to be stored; ``what`` names it."""
        size, most = len(segment.snapshot), self._most()
        if size > most:
            raise too_large(what, size, most, _parts(segment.snapshot))

    def _asks(self, claim: Claim, segment: Segment) -> tuple[driving.Ask, ...]:
        """The pending calls of a pause, each with what the policies said of it."""
        made = []
        for call in segment.pending:
            tool = self._policies.tool(call.tool)
            key = (self._policies.version, call.call_id, call.tool, call.args)
            verdict = claim.verdicts.get(key) or self._policies.evaluate(call, tool)
            call, verdict = bound(call, tool, verdict)
            made.append(driving.Ask(call, tool, verdict, nonce()))
        return tuple(made)

    async def _stretch(self, run: Run, claim: Claim, prepared: Prepared, emit: Emit | None) -> Segment:
        crash_point("stretch:before")
        adapter, agent, options = prepared.adapter, prepared.agent, prepared.options
        _refuse_to_repeat(run, adapter)
        if run.snapshot and run.snapshot.adapter != adapter.name:
            raise SnapshotError(f"run {run.id} was paused under {run.snapshot.adapter}, not {adapter.name}")
        begun, snapshot = await self._loop.bridge(self._contents(run, claim))
        context, input = begun.get("context"), begun.get("input")
        if snapshot is None:
            return await adapter.start(agent, input, calls=run.calls, context=context, options=options, emit=emit)
        return await adapter.resume(agent, snapshot, run.calls, context=context, options=options, emit=emit)

    async def _contents(self, run: Run, claim: Claim) -> tuple[dict[str, Json], bytes | None]:
        """What the run was asked with, and the snapshot it stands on; the claim gets what models answered since."""
        claim.responses.load({kept.blob: await self._runs.blob(run.id, kept.blob) for kept in run.responses})
        begun = thaw(await self._runs.blob(run.id, run.input)) if run.input else {}
        return begun, await self._runs.blob(run.id, run.snapshot.blob) if run.snapshot else None

    async def _come_to_rest(
        self, claim: Claim, segment: Segment, prepared: Prepared, asks: tuple[driving.Ask, ...]
    ) -> Run:
        if claim.lost:
            raise Fenced(claim.stop)
        if claim.stop:
            return await self._abandon(claim)
        if segment.ended:
            output = freeze(segment.output).decode()
            change = await self._runs.change(
                claim.run,
                lambda run, now: driving.finish(run, now, owner=claim.owner, fence=claim.fence, output_json=output),
                fresh=False,
            )
            return change.run
        return await self._pause(claim, segment, prepared, asks)

    async def _pause(self, claim: Claim, segment: Segment, prepared: Prepared, asks: tuple[driving.Ask, ...]) -> Run:
        """Write a pause: snapshot, approvals, notices and events in one unit."""
        kept = blob(segment.snapshot)
        adapter = prepared.adapter
        snapshot = Snapshot(kept.id, adapter.name, adapter.framework, adapter.fingerprint(prepared.agent))
        closed = closing_blob(self._runs.known(claim.run) or await self._runs.get(claim.run))

        def step(run: Run, now: float) -> Change:
            return driving.pause(
                run,
                now,
                owner=claim.owner,
                fence=claim.fence,
                snapshot=snapshot,
                asks=asks,
                closed=closed[0] if closed else None,
            )

        blobs = (kept, *schemas.blobs(asks), *((closed[1],) if closed else ()))
        return (await self._runs.change(claim.run, step, blobs=blobs, fresh=False)).run

    async def _abandon(self, claim: Claim) -> Run:
        """Give up the stretch: people are asked again, a call is in doubt, or a halt stops it.

        Raises `RunBlocked` while a call is executing by the record: its result could not be written, so the end of the
        lease says what became of it.
        """

        def step(run: Run, now: float) -> Change:
            if claim.halted:
                return halting.park(run, now, owner=claim.owner, fence=claim.fence, scope=claim.halted)
            return driving.abandon(run, now, owner=claim.owner, fence=claim.fence, delay=backoff(run))

        try:
            return (await self._runs.change(claim.run, step, fresh=False)).run
        except IllegalTransition as error:
            raise RunBlocked(claim.stop) from error

    async def _give_back(self, claim: Claim, error: str, delay: float) -> Run:
        change = await self._runs.change(
            claim.run,
            lambda run, now: driving.release(run, now, owner=claim.owner, fence=claim.fence, error=error, delay=delay),
        )
        return change.run

    async def _failed(self, claim: Claim, error: Exception, raising: bool) -> Run:
        """The framework raised. A doubt or a new demand explains it; else end, park or give back."""
        if isinstance(error, Fenced) or claim.lost:
            raise Fenced(claim.stop or str(error)) from error
        if claim.stop:
            with contextlib.suppress(RunBlocked):  # the store's own error says more
                return await self._loop.bridge(self._abandon(claim))
            raise error
        told = f"{type(error).__name__}: {error}"
        if isinstance(error, SnapshotTooLarge):  # it would be no smaller another time
            await self._loop.bridge(self._end_failed(claim, told))
            if raising:
                raise error
            return await self._loop.bridge(self._runs.get(claim.run))
        if isinstance(error, SnapshotError):
            return await self._loop.bridge(self._park(claim, "snapshot", str(error)))
        if isinstance(error, ReplayDiverges):
            return await self._loop.bridge(self._park(claim, "replay", str(error)))
        if raising:
            await self._loop.bridge(self._end_failed(claim, told))
            raise error
        run = await self._loop.bridge(self._runs.get(claim.run))
        return await self._loop.bridge(self._give_back(claim, told, backoff(run)))

    async def _park(self, claim: Claim, why: str, detail: str) -> Run:
        change = await self._runs.change(
            claim.run,
            lambda run, now: driving.park(run, now, owner=claim.owner, fence=claim.fence, why=why, detail=detail),
        )
        return change.run

    async def _end_failed(self, claim: Claim, error: str) -> None:
        with contextlib.suppress(Fenced, IllegalTransition):  # then the lease's end says what became of it
            await self._runs.change(
                claim.run,
                lambda run, now: driving.finish(run, now, owner=claim.owner, fence=claim.fence, error=error),
            )


def _parts(snapshot: bytes) -> list[Part]:
    """The heaviest parts of a snapshot that is JSON, as those of this package's adapters are."""
    try:
        return heaviest(json.loads(snapshot), declared=1)
    except (ValueError, RecursionError):
        return []


def backoff(run: Run) -> float:
    """Seconds until a run is tried again that came to nothing: at once, then longer each time."""
    return float(min(MAX_DELAY, 2.0 ** max(run.attempts - 1, 0) - 1.0))


def _refuse_to_repeat(run: Run, adapter: Adapter) -> None:
    """Park a stretch that died after calls that no recorded response made: they would be made anew, and run twice.

    That is so where a framework keeps nothing itself (`Adapter.replays`) and a model was reached past the adapter.
    """
    lost = () if adapter.replays else driving.forgotten(run)
    if lost:
        names = ", ".join(dict.fromkeys(call.tool for call in lost))
        raise ReplayDiverges(
            f"a process died after {names} ran and before the next pause, and what the model had answered was not "
            f"recorded; going on would ask it again and could run it twice. Look at the run, then cancel it"
        )
