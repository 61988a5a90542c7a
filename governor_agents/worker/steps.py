"""What a worker does with one run that is due: let time pass, tell people, drive it on."""

from __future__ import annotations

import logging

from governor_agents.core import driving, telling
from governor_agents.core.records import Approval, Notice, Run, RunState
from governor_agents.errors import ConfigError, Fenced, GovernorError
from governor_agents.governor import Governor

log = logging.getLogger("governor_agents.worker")

RETRY_NOTICE = 5.0
"""Seconds until a notice that could not be delivered is tried again, doubled each time."""

MAX_NOTICE_DELAY = 600.0


async def step(governor: Governor, run: Run, *, driving_too: bool = True) -> bool:
    """Do everything that is due for this run; True when something was done."""
    now = await governor.loop.bridge(governor.runs.now())
    did = False
    if time_has_come(run, now):
        change = await governor.loop.bridge(governor.runs.change(run.id, driving.tick))
        did, run = bool(change.events), change.run
    if run.state is not RunState.ACTIVE and any(notice.due <= now for notice in run.outbox):
        run = await deliver(governor, run, now)
        did = True
    if driving_too and mine(governor, run, now):
        did = await drive(governor, run) or did
    return did


def time_has_come(run: Run, now: float) -> bool:
    """True when a deadline or a lease is over."""
    if run.state is RunState.ACTIVE and run.lease and run.lease.until <= now:
        return True
    waits = [at for approval in run.approvals for at in (approval.call.expires, approval.call.stage_expires) if at]
    return any(at <= now for at in waits)


def mine(governor: Governor, run: Run, now: float) -> bool:
    """True when this process can drive the run on now."""
    if run.state not in (RunState.QUEUED, RunState.READY) or run.not_before > now:
        return False
    if run.waiter and run.waiter.until > now:
        return False
    return governor.functions.knows(run) if run.single else run.agent in governor.agents


async def drive(governor: Governor, run: Run) -> bool:
    """Claim and drive; losing the claim to somebody else is not an error."""
    try:
        after = await governor.resume(run.id)
    except Fenced as lost:
        log.info("run %s: %s", run.id, lost)
        return False
    except ConfigError as error:
        log.error("run %s: %s", run.id, error)
        return False
    log.info("run %s is %s%s", run.id, after.state, f": {after.error}" if after.error else "")
    return True


async def deliver(governor: Governor, run: Run, now: float) -> Run:
    """Hand due notices to their channels; what could not be delivered is tried again later."""
    done: list[str] = []
    failed: dict[str, str] = {}
    calls = {call.n: call for call in await governor.calls(run.id)}
    for notice in run.outbox:
        if notice.due > now:
            continue
        try:
            if notice.n in calls:
                await _tell(governor, Approval(run, calls[notice.n]), notice)
            done.append(notice.id)
        except GovernorError as error:
            failed[notice.id] = str(error)
        except Exception as error:  # a channel's trouble is its own: it must not stop the others
            failed[notice.id] = f"{type(error).__name__}: {error}"
    for id, why in failed.items():
        log.warning("run %s: notice %s was not delivered: %s", run.id, id, why)
    change = await governor.loop.bridge(
        governor.runs.change(
            run.id,
            lambda run, now: telling.delivered(
                run, now, done=done, failed=failed, first=RETRY_NOTICE, most=MAX_NOTICE_DELAY
            ),
        )
    )
    return change.run


async def _tell(governor: Governor, approval: Approval, notice: Notice) -> None:
    handler = governor.handler(notice.channel)
    if notice.what == "decided":
        await handler.update(approval, notice.card)
    elif approval in approval.run.approvals:  # decided meanwhile: nobody needs to be asked
        await handler.notify(approval)
