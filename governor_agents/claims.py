"""A claim while it is held: who drives which run, its heartbeat, and the context a tool can see.

The claim in force is a context variable, so that adapters find it wherever the framework calls them. It carries no
authority of its own: every step is checked against owner and fence in the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from governor_agents.background import Background
from governor_agents.core import doubts, driving
from governor_agents.core.records import Change, Run
from governor_agents.core.verdicts import Verdict
from governor_agents.errors import ConfigError, Fenced, NotFound, SnapshotError, StoreError
from governor_agents.liveness import dead_among
from governor_agents.responses import Responses
from governor_agents.runs import Runs

LEASE = 30.0
"""Seconds a claim lasts without a heartbeat; renewed at a third of it."""


def lease_setting() -> float:
    """``$GOVERNOR_LEASE`` in seconds, else `LEASE`. Raises `ConfigError`."""
    text = os.environ.get("GOVERNOR_LEASE", "")
    try:
        lease = float(text) if text else LEASE
    except ValueError:
        lease = 0.0
    if not 0.0 < lease < 86_400.0:
        raise ConfigError(f"GOVERNOR_LEASE is {text!r}; give seconds, such as 30")
    return lease


@dataclass(eq=False, slots=True)
class Claim:
    """The right to drive one run, as the process that holds it sees it.

    ``known`` are the call ids that had a record when the claim was taken; ``verdicts`` what the policies said, once
    per call and version of theirs; ``stop`` is set when the loop must not go on, with the reason (``again``: because
    people are asked again; ``halted``: because this scope is halted); ``lost`` when the lease went to somebody else.
    ``responses`` are what models answered.
    """

    run: str
    tenant: str
    agent: str
    requester: str
    conversation: str
    generation: int
    owner: str
    fence: int
    known: set[str] = field(default_factory=set)
    verdicts: dict[tuple[str, str, str, bytes], Verdict] = field(default_factory=dict, repr=False)
    stop: str = ""
    again: bool = False
    halted: str = ""
    lost: bool = False
    responses: Responses = field(default_factory=Responses)

    @classmethod
    def on(cls, run: Run) -> Claim:
        """The claim that made this run ACTIVE."""
        if run.lease is None:
            raise Fenced(f"run {run.id} is not claimed")
        return cls(
            run=run.id,
            tenant=run.tenant,
            agent=run.agent,
            requester=run.requester,
            conversation=run.conversation,
            generation=run.generation,
            owner=run.lease.owner,
            fence=run.fence,
            known={call.call_id for call in run.calls},
            responses=Responses(run.responses),
        )


def pass_time(run: Run, now: float) -> Change:
    """`driving.tick`, with a look at the workers whose lease is over: those that are dead are noted as dead."""
    over = run.lease is not None and run.lease.until <= now
    return driving.tick(run, now, dead_among(doubts.suspects(run)) if over else ())


_current: ContextVar[Claim | None] = ContextVar("governor_agents_claim", default=None)


def current_claim() -> Claim | None:
    """The claim under which this code runs, None outside of one."""
    return _current.get()


@contextmanager
def held(claim: Claim) -> Iterator[None]:
    """Make a claim the current one."""
    token = _current.set(claim)
    try:
        yield
    finally:
        _current.reset(token)


class Heartbeats:
    """Renews the leases of claims while something is done under them. Its tasks live on the governor loop."""

    def __init__(self, runs: Runs, loop: Background, lease: float = LEASE) -> None:
        self._runs = runs
        self._loop = loop
        self.lease = lease
        self._lock = threading.Lock()
        self._users: dict[Claim, int] = {}
        self._beating: dict[Claim, asyncio.Task[None]] = {}

    @contextmanager
    def during(self, claim: Claim) -> Iterator[None]:
        """Keep the lease alive inside the block. May be entered again, from any thread; only the first one costs."""
        with self._lock:  # the loop must hear of beginnings and ends in the order in which they happened
            self._users[claim] = self._users.get(claim, 0) + 1
            if self._users[claim] == 1:
                self._loop.spawn(self._begin(claim))
        try:
            yield
        finally:
            with self._lock:
                self._users[claim] -= 1
                if not self._users[claim]:
                    del self._users[claim]
                    with contextlib.suppress(RuntimeError):  # the governor was closed meanwhile
                        self._loop.spawn(self._end(claim))

    async def _begin(self, claim: Claim) -> None:
        self._beating[claim] = asyncio.get_running_loop().create_task(self._beat(claim))

    async def _end(self, claim: Claim) -> None:
        task = self._beating.pop(claim, None)
        if task is not None:
            task.cancel()

    async def _beat(self, claim: Claim) -> None:
        while not claim.lost:
            await asyncio.sleep(self.lease / 3)
            with contextlib.suppress(StoreError):  # a store that is away for a moment: the next beat tries again
                try:
                    await self._runs.change(
                        claim.run,
                        lambda run, now: driving.renew(
                            run, now, owner=claim.owner, fence=claim.fence, lease=self.lease
                        ),
                        fresh=False,
                        point="run.renewed",
                    )
                except (Fenced, NotFound, SnapshotError) as error:
                    claim.lost = True
                    claim.stop = claim.stop or str(error)
