"""How a run comes into hand: queued for a worker, started here, taken from a pause of one's own loop, or claimed."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from governor_agents import plugins, schemas
from governor_agents.claims import Claim
from governor_agents.core import driving, halting, settling
from governor_agents.core.calls import Json, freeze
from governor_agents.core.lifecycle import RunEvent
from governor_agents.core.ports import Adapter, Blob, Captured, Record
from governor_agents.core.records import Change, Run, RunState, Snapshot, evolve
from governor_agents.driver import Prepared
from governor_agents.errors import Fenced, IllegalTransition, WrongEnvironment
from governor_agents.liveness import this_worker
from governor_agents.nonces import nonce, run_id
from governor_agents.operands import bound
from governor_agents.policies import person_id
from governor_agents.runs import blob

if TYPE_CHECKING:
    from governor_agents.governor import Governor


class Beginning:
    """Makes and claims the runs of one governor."""

    def __init__(self, governor: Governor) -> None:
        self._governor = governor
        self._suspended: dict[int, tuple[weakref.ref[Any], str]] = {}

    def _fresh(
        self, id: str, agent: str, adapter: str, state: RunState, requester: str, conversation: str, input: str = ""
    ) -> Run:
        """A run that nothing has happened to."""
        return Run(
            tenant=self._governor.tenant,
            id=id,
            agent=agent,
            adapter=adapter,
            requester=person_id(requester) if requester else f"service:{agent}",
            state=state,
            created=0.0,
            env=self._governor.env,
            conversation=conversation,
            max_attempts=self._governor.max_attempts,
            input=input,
        )

    # -- asked for --------------------------------------------------------------------------------------------------

    async def queue(self, agent: str, input: Json, conversation: str, requester: str, context: Json) -> Run:
        """A durable run that any worker may start. On the governor loop."""
        content = _content(input, context)
        fresh = self._fresh(run_id(), agent, "", RunState.QUEUED, requester, conversation, content.id)
        runs = self._governor.runs
        now = await runs.now()
        return await runs.create(driving.queue(fresh, now), now, (content,))

    async def begin(
        self, agent: str, input: Json, conversation: str, requester: str, context: Json
    ) -> tuple[Run, Prepared]:
        """A durable run that this process drives: ACTIVE, or BLOCKED by a halt; a waiting one before it is superseded.

        Raises `UnknownAgent`, `IllegalTransition` when the conversation is being driven.
        """
        governor = self._governor
        prepared = governor.prepared(agent)
        await governor.open()
        seen = await governor.loop.bridge(governor.conversations.look(conversation)) if conversation else None
        if conversation:
            await self._supersede(conversation)
        content = _content(input, context)
        adapter = prepared.adapter.name
        fresh = self._fresh(run_id(), agent, adapter, RunState.QUEUED, requester, conversation, content.id)
        return await governor.loop.bridge(self._start(fresh, content, seen)), prepared

    async def _start(self, fresh: Run, content: Blob, seen: Record | None) -> Run:
        governor = self._governor
        scopes = await governor.stopped.scopes()
        now, owner = await governor.runs.now(), this_worker()
        born = evolve(fresh, created=now)
        change = driving.start(born, now, owner=owner, lease=governor.beats.lease)
        if scope := halting.stops_run(scopes, change.run):
            parked = halting.park(change.run, now, owner=owner, fence=change.run.fence, scope=scope)
            change = evolve(parked, events=(*change.events, *parked.events))
        run = await governor.runs.create(change, now, (content,))
        if seen is not None:
            await self._take(seen, run)
        return run

    async def _take(self, seen: Record, run: Run) -> None:
        """Make this the conversation's run, before anything of it is driven; or end it again."""
        try:
            await self._governor.conversations.take(seen, run)
        except IllegalTransition as error:
            reason = str(error)
            await self._governor.runs.change(
                run.id, lambda run, now: settling.request_cancel(run, now, by=run.requester, reason=reason)
            )
            raise

    async def _supersede(self, conversation: str) -> None:
        """A new message ends what an earlier one left waiting; refused while that is being driven."""
        governor = self._governor
        for run in await governor.loop.bridge(governor.conversations.unfinished(conversation)):
            waiting = run.snapshot
            after = await governor.cancel(run.id, by=run.requester, reason="a new message came", superseded=True)
            if waiting is not None and after.state.ended and run.agent in governor.agents:
                prepared = governor.prepared(run.agent)
                snapshot = await governor.loop.bridge(governor.runs.blob(run.id, waiting.blob))
                await prepared.adapter.close(prepared.agent, snapshot, after.calls)

    # -- a pause of one's own loop ----------------------------------------------------------------------------------

    async def suspend(self, paused: Any, where: Mapping[str, Any]) -> Run | None:
        """See `Governor.suspend`."""
        governor = self._governor
        adapter = governor.adapter(plugins.adapter_name(where.get("agent", paused)))
        here = id(paused)
        if (earlier := self._suspended.get(here)) is not None and earlier[0]() is paused:
            return await governor.get(earlier[1])
        captured = await adapter.capture(paused, **where)
        if captured is None:
            return None
        if where.get("name"):
            captured = evolve(captured, agent=where["name"])
        if captured.fence:
            return await self._rest(captured, Prepared(adapter, where.get("agent", paused)))
        governor.driver.weigh(captured.segment, "this pause")
        name, requester = captured.run or run_id(), where.get("requester", "")
        fresh = self._fresh(name, captured.agent, adapter.name, RunState.ACTIVE, requester, captured.conversation)
        stored = await governor.loop.bridge(self._store_pause(adapter, captured, fresh, self._asks(captured, fresh)))
        with contextlib.suppress(TypeError):  # a plain dict cannot be watched
            self._suspended[here] = (weakref.ref(paused, lambda _: self._suspended.pop(here, None)), stored.id)
        return stored

    async def _rest(self, captured: Captured, prepared: Prepared) -> Run:
        """The pause of a run that has a record already."""
        standing = await self._governor.get(captured.run)
        if standing.fence != captured.fence:
            raise Fenced(f"run {captured.run} went to somebody else before its pause was handed over")
        return await self._governor.driver.rest(Claim.on(standing), captured.segment, prepared)

    def _asks(self, captured: Captured, run: Run) -> tuple[driving.Ask, ...]:
        policies, asks = self._governor.policies, []
        for call in captured.segment.pending:
            call, tool = evolve(call, run=run.id, requester=run.requester), policies.tool(call.tool)
            call, verdict = bound(call, tool, policies.evaluate(call, tool))
            asks.append(driving.Ask(call, tool, verdict, nonce()))
        return tuple(asks)

    async def _store_pause(self, adapter: Adapter, captured: Captured, run: Run, asks: tuple[driving.Ask, ...]) -> Run:
        runs, lease = self._governor.runs, self._governor.beats.lease
        now, owner = await runs.now(), this_worker()
        kept = blob(captured.segment.snapshot)
        born = evolve(run, created=now)
        opened = driving.start(born, now, owner=owner, lease=lease, event=RunEvent.CAPTURE)
        snapshot = Snapshot(kept.id, adapter.name, adapter.framework)
        change = driving.pause(opened.run, now, owner=owner, fence=opened.run.fence, snapshot=snapshot, asks=asks)
        whole = evolve(change, events=(*opened.events, *change.events))
        return await runs.create(whole, now, (kept, *schemas.blobs(asks)))

    # -- claimed ----------------------------------------------------------------------------------------------------

    async def claim(self, id: str) -> Run:
        """See `Governor.claim`. On the governor loop."""
        governor = self._governor
        owner, fence = this_worker(), 0
        await governor.policies.confirm()  # under policies that nobody knows it would come to nothing
        governor.policies.check_people()
        scopes = await governor.stopped.scopes()

        def step(run: Run, now: float) -> Change:
            nonlocal fence
            if run.env != governor.env:
                raise WrongEnvironment(f"run {id} was made in environment {run.env!r}; this one is {governor.env!r}")
            scope = halting.stops_run(scopes, run) if run.state in (RunState.QUEUED, RunState.READY) else ""
            if scope:
                return halting.keep_back(run, now, scope=scope)
            change = driving.claim(run, now, owner=owner, lease=governor.beats.lease)
            fence = change.run.fence
            return change

        run = (await governor.runs.change(id, step, fresh=False)).run
        if run.state is RunState.ACTIVE and (run.fence != fence or run.lease is None or run.lease.owner != owner):
            raise Fenced(f"run {id} went to somebody else")
        return run


def _content(input: Json, context: Json) -> Blob:
    """What a run is begun with. Raises `ArgumentsError`."""
    return blob(freeze({"input": input, "context": context}))
