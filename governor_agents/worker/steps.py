"""What a worker does with one run that is due: let time pass, tell people, drive it on."""

from __future__ import annotations

import logging

from governor_agents.claims import pass_time
from governor_agents.core import driving, telling
from governor_agents.core.records import Approval, CallState, Change, Notice, Run, RunState, evolve
from governor_agents.core.settling import HALT
from governor_agents.crash import crash_point
from governor_agents.errors import ConfigError, DeliveryFailed, Fenced, GovernorError
from governor_agents.governor import Governor

log = logging.getLogger("governor_agents.worker")

RETRY_NOTICE = 5.0
"""Seconds until a notice that could not be delivered is tried again, doubled each time."""

MAX_NOTICE_DELAY = 600.0

TAKEN = 60.0
"""Seconds for which a worker has a notice to itself while it delivers it."""


async def tend(governor: Governor, run: Run) -> Run:
    """Let time pass for a run and tell people what is to be told; the run as it then stands."""
    crash_point("tend:before")
    now = await governor.loop.bridge(governor.runs.now())
    if time_has_come(run, now):
        run = (await governor.loop.bridge(governor.runs.change(run.id, pass_time))).run
        tell_state(run)
    if run.state is RunState.BLOCKED and run.blocked == HALT and run.not_before <= now:
        run = await governor.loop.bridge(governor.stopped.free(run.id))
        tell_state(run)
    while run.state is not RunState.ACTIVE and telling.to_deliver(run, now):  # one after the other, per card
        run = await deliver(governor, run)
    return run


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


async def deliver(governor: Governor, run: Run) -> Run:
    """Hand due notices to their channels; what could not be delivered is tried again later."""
    taken: tuple[Notice, ...] = ()

    def take(run: Run, now: float) -> Change:
        nonlocal taken
        taken = tuple(evolve(notice, taken=now + TAKEN) for notice in telling.to_deliver(run, now))
        return telling.take_notices(run, now, until=now + TAKEN)

    run = (await governor.loop.bridge(governor.runs.change(run.id, take, point="notice.taken"))).run
    failed: dict[str, telling.Failure] = {}
    calls = {call.n: call for call in await governor.loop.bridge(governor.runs.all_calls(run))} if taken else {}
    for notice in taken:
        try:
            if notice.n in calls:
                crash_point("notice:before")
                await _tell(governor, Approval(run, calls[notice.n]), notice)
                crash_point("notice:after")
        except DeliveryFailed as error:
            failed[notice.id] = telling.Failure(_words(str(error)), error.retry_after)
        except GovernorError as error:
            failed[notice.id] = telling.Failure(_words(str(error)))
        except Exception as error:  # a channel's trouble is its own: it must not stop the others
            failed[notice.id] = telling.Failure(_words(f"{type(error).__name__}: {error}"))
    for id, why in failed.items():
        log.warning("run %s: notice %s was not delivered: %s", run.id, id, why.reason)
    change = await governor.loop.bridge(
        governor.runs.change(
            run.id,
            lambda run, now: telling.delivered(
                run, now, taken=taken, failed=failed, first=RETRY_NOTICE, most=MAX_NOTICE_DELAY
            ),
        )
    )
    return change.run


def _words(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


async def _tell(governor: Governor, approval: Approval, notice: Notice) -> None:
    name, _, to = notice.channel.partition(":")
    handler = governor.handler(name)
    if notice.what in ("decided", "changed"):
        await handler.update(approval, notice.card, to)
    elif approval.call.state is CallState.PENDING:  # else decided meanwhile: nobody needs to be asked
        await handler.notify(approval, to)
