"""What a worker does with one run that is due: let time pass, tell people, drive it on."""

from __future__ import annotations

import asyncio
import logging

from governor_agents.claims import pass_time
from governor_agents.core import driving
from governor_agents.core.records import CallState, Run, RunState
from governor_agents.core.settling import HALT
from governor_agents.crash import crash_point
from governor_agents.errors import ConfigError, Fenced
from governor_agents.governor import Governor
from governor_agents.worker.delivery import Delivery

log = logging.getLogger("governor_agents.worker")


async def tend(governor: Governor, run: Run) -> Run:
    """Let time pass for a run and tell people what is to be told; the run as it then stands."""
    run, now = await look(governor, run)
    delivery = Delivery()
    lanes, _ = delivery.begin(governor, run, now)
    await asyncio.gather(*lanes)
    await delivery.finish(0.0)
    return await governor.get(run.id) if lanes else run


async def look(governor: Governor, run: Run) -> tuple[Run, float]:
    """Let time pass for a run; the run as it then stands, and the store's time."""
    crash_point("tend:before")
    now = await governor.loop.bridge(governor.runs.now())
    if time_has_come(run, now):
        run = (await governor.loop.bridge(governor.runs.change(run.id, pass_time))).run
        tell_state(run)
    if run.state is RunState.BLOCKED and run.blocked == HALT and run.not_before <= now:
        run = await governor.loop.bridge(governor.stopped.free(run.id))
        tell_state(run)
    return run, now


async def expire(governor: Governor, run: Run) -> bool:
    """Remove an ended run that has been kept for long enough; False when it is not for that, or not yet."""
    if not run.state.ended or run.outbox:
        return False
    return await governor.loop.bridge(governor.keeping.remove(run.id))


def time_has_come(run: Run, now: float) -> bool:
    """True when time alone moves the run: a deadline, a lease, an approval that was not run in time."""
    return bool(driving.tick(run, now).events)


def mine(governor: Governor, run: Run, now: float) -> bool:
    """True when this process can drive the run on now."""
    if run.state not in (RunState.QUEUED, RunState.READY) or run.not_before > now:
        return False
    if (run.waiter and run.waiter.until > now) or run.env != governor.env:
        return False
    if run.single:
        return governor.functions.knows(run)
    if run.agent not in governor.agents:
        return False
    adapter = run.snapshot.adapter if run.snapshot else run.adapter
    return not adapter or governor.prepared(run.agent).adapter.name == adapter  # the name may be another framework's


async def drive(governor: Governor, run: Run) -> bool:
    """Claim and drive; losing the claim to somebody else is not an error."""
    crash_point("drive:before")
    try:
        after = await governor.resume(run.id)
    except Fenced as lost:
        log.info("run %s: %s", run.id, lost)
        return False
    except ConfigError as error:
        log.error("run %s: %s", run.id, error)
        return False
    tell_state(after)
    return True


def tell_state(run: Run) -> None:
    """Say in the log where a run stands; loudly where somebody must act."""
    if run.state in (RunState.BLOCKED, RunState.DEAD):
        doubts = ", ".join(call.tool for call in run.having(CallState.UNKNOWN))
        why = f"nobody knows whether {doubts} happened" if doubts else run.blocked_detail or run.blocked
        if run.blocked == HALT:
            why = f"{run.blocked_detail} is halted"
        if run.state is RunState.DEAD:  # its detail quotes the last error, and that may quote the arguments
            why = f"{driving.no_progress(run.attempts)}; the record has the last error"
        log.warning("run %s is %s: %s", run.id, run.state, why)
    else:
        log.info("run %s is %s", run.id, run.state)  # what was raised may quote the arguments; the record has it
