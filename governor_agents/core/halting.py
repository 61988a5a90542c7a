"""Halting: what a stopped tool, agent or tenant does to runs. Pure functions.

A halt is a record of its own (`governor_agents.halts`), read right before each intent and each claim. It takes effect
on calls first: one that has not begun is not begun, what is executing finishes and is recorded. Then the run, which
nothing executes in any more, is BLOCKED with the reason `HALT`, and ``blocked_detail`` names the scope. People may go
on deciding meanwhile: a vote starts nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from governor_agents.core.driving import nothing_executing
from governor_agents.core.execution import hold
from governor_agents.core.lifecycle import RunEvent
from governor_agents.core.records import CallState as C
from governor_agents.core.records import Change, Run, evolve
from governor_agents.core.records import RunState as R
from governor_agents.core.settling import HALT, LOOK_AGAIN, UNKNOWN, block, settle, unblock
from governor_agents.core.telling import run_event
from governor_agents.errors import IllegalTransition

EVERYTHING = "everything"
"""The scope of a halt for all tenants of a store."""

TENANT = "tenant"
"""The scope of a halt for one tenant."""

ALL_TENANTS = "*"
"""The tenant under which the record of halts for all tenants is kept."""


def scopes(tool: str, agents: Iterable[str]) -> Iterator[str]:
    """The scopes that would stop a call of this tool by any of these agents, the widest first."""
    yield from (EVERYTHING, TENANT)
    yield from (f"agent:{agent}" for agent in agents if agent)
    if tool:
        yield f"tool:{tool}"


def stops_call(halted: Collection[str], tool: str, *agents: str) -> str:
    """The scope that stops a call, empty when none does."""
    return next((scope for scope in scopes(tool, agents) if scope in halted), "") if halted else ""


def stops_run(halted: Collection[str], run: Run) -> str:
    """The scope that stops a run from being driven: its agent's, or that of a call which would run next."""
    if not halted:
        return ""
    ready = run.having(C.APPROVED, C.ALLOWED, C.RETRY)
    stopped = (stops_call(halted, call.tool, run.agent, call.agent) for call in ready)
    return stops_call(halted, "", run.agent) or next(filter(None, stopped), "")


def keep_back(run: Run, now: float, *, scope: str) -> Change:
    """A run that nobody drives is not to be started or gone on with: BLOCKED, from QUEUED or READY."""
    if run.state not in (R.QUEUED, R.READY):
        raise IllegalTransition(f"run {run.id} is {run.state}; only a run that waits for a worker can be kept back")
    return _block(Change(run), now, scope)


def park(run: Run, now: float, *, owner: str, fence: int, scope: str) -> Change:
    """The driver met a halt: the run is given up and BLOCKED. Raises `IllegalTransition` while a call is executing."""
    hold(run, owner=owner, fence=fence)
    nothing_executing(run)
    change = Change(run)
    if run.cancel:
        return settle(change, now)
    if run.having(C.UNKNOWN):  # the doubt comes first; once it is settled, the next claim meets the halt
        return block(change, RunEvent.BLOCK, UNKNOWN, now)
    return _block(change, now, scope)


def _block(change: Change, now: float, scope: str) -> Change:
    run = evolve(change.run, not_before=now + LOOK_AGAIN)
    return block(Change(run, change.events), RunEvent.BLOCK, HALT, now, scope)


def lift(run: Run, now: float, halted: Collection[str]) -> Change:
    """Let out a run that a halt blocks, when nothing in ``halted`` stops it any more; else look again in a minute."""
    if run.state is not R.BLOCKED or run.blocked != HALT:
        return Change(run)
    scope = run.blocked_detail if run.blocked_detail in halted else stops_run(halted, run)
    if scope:
        if scope == run.blocked_detail and run.not_before > now:
            return Change(run)
        return Change(evolve(run, blocked_detail=scope, not_before=now + LOOK_AGAIN))
    free = evolve(run, not_before=0.0)
    lifted = unblock(Change(free, (run_event("run.halt_lifted", scope=run.blocked_detail),)), now)
    if run.ready_since is None or lifted.run.ready_since is None:
        return lifted
    # A halt does not give an approval more time to be run in.
    return evolve(lifted, run=evolve(lifted.run, ready_since=run.ready_since))
