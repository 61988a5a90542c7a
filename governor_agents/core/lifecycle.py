"""The lifecycle as data: which event may move a call, or a run, from which state to which.

Two tables and two look-ups. The functions in `decisions`, `driving` and `settling` decide *when* an event happens and
which of several targets it takes; they can only take steps that stand here, and a step that does not stand here raises
`IllegalTransition` and leaves the record as it was. The diagrams in the documentation are drawn from these tables.

Theory of operation: a **call** is asked about (PENDING), decided, and used up by its INTENT, which is durable before
the tool starts. Between INTENT and RESULT a crash leaves a doubt; the call's retry class says what becomes of it:
UNKNOWN for people, RETRY under the same idempotency key, or RECONCILING by a probe. A **run** is driven by one claim
at a time (ACTIVE, with lease and fence) and rests in WAITING, READY or BLOCKED.
"""

from __future__ import annotations

from enum import StrEnum

from governor_agents.core.records import CallState as C
from governor_agents.core.records import RunState as R
from governor_agents.errors import IllegalTransition


class CallEvent(StrEnum):
    """What can happen to a call."""

    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"
    APPROVE = "approve"
    REJECT = "reject"
    EDIT = "edit"
    RESPOND = "respond"
    DEADLINE = "deadline"
    OVERDUE = "overdue"
    CANCEL = "cancel"
    SUPERSEDE = "supersede"
    INTENT = "intent"
    RESULT = "result"
    EXCEPTION = "exception"
    LAPSE = "lapse"
    POLICY_DENIES = "policy_denies"
    POLICY_DEMANDS = "policy_demands"
    PROBE = "probe"
    HAPPENED = "happened"
    DID_NOT_HAPPEN = "did_not_happen"
    ABANDON = "abandon"
    RESTORED = "restored"


class RunEvent(StrEnum):
    """What can happen to a run."""

    QUEUE = "queue"
    START = "start"
    CAPTURE = "capture"
    CLAIM = "claim"
    PAUSE = "pause"
    END = "end"
    LEASE_OVER = "lease_over"
    DECIDED = "decided"
    BLOCK = "block"
    UNBLOCK = "unblock"
    WEAR_OUT = "wear_out"
    CANCEL = "cancel"
    RESTORED = "restored"


E_ = CallEvent
CALLS: dict[tuple[C | None, CallEvent], frozenset[C]] = {
    (None, E_.ALLOW): frozenset({C.ALLOWED}),
    (None, E_.DENY): frozenset({C.DENIED}),
    (None, E_.ASK): frozenset({C.PENDING}),
    (C.PENDING, E_.APPROVE): frozenset({C.PENDING, C.APPROVED}),
    (C.PENDING, E_.EDIT): frozenset({C.PENDING, C.APPROVED}),
    (C.PENDING, E_.REJECT): frozenset({C.REJECTED}),
    (C.PENDING, E_.RESPOND): frozenset({C.ANSWERED}),
    (C.PENDING, E_.DEADLINE): frozenset({C.PENDING, C.EXPIRED}),
    (C.APPROVED, E_.OVERDUE): frozenset({C.EXPIRED}),
    (C.RETRY, E_.OVERDUE): frozenset({C.UNKNOWN}),
    **{(state, E_.CANCEL): frozenset({C.CANCELLED}) for state in (C.PENDING, C.APPROVED, C.ALLOWED)},
    **{(state, E_.SUPERSEDE): frozenset({C.SUPERSEDED}) for state in (C.PENDING, C.APPROVED, C.ALLOWED)},
    **{(state, E_.CANCEL): frozenset({C.UNKNOWN}) for state in (C.RETRY, C.RECONCILING)},
    **{(state, E_.INTENT): frozenset({C.EXECUTING}) for state in (C.ALLOWED, C.APPROVED, C.RETRY)},
    **{(state, E_.POLICY_DENIES): frozenset({C.CANCELLED}) for state in (C.ALLOWED, C.APPROVED)},
    **{(state, E_.POLICY_DEMANDS): frozenset({C.PENDING}) for state in (C.ALLOWED, C.APPROVED)},
    (C.RETRY, E_.POLICY_DENIES): frozenset({C.UNKNOWN}),
    (C.RETRY, E_.POLICY_DEMANDS): frozenset({C.UNKNOWN}),
    (C.RETRY, E_.SUPERSEDE): frozenset({C.UNKNOWN}),
    (C.EXECUTING, E_.RESULT): frozenset({C.SUCCEEDED}),
    (C.EXECUTING, E_.EXCEPTION): frozenset({C.FAILED, C.UNKNOWN}),
    (C.EXECUTING, E_.LAPSE): frozenset({C.UNKNOWN, C.RETRY, C.RECONCILING}),
    (C.RECONCILING, E_.PROBE): frozenset({C.SUCCEEDED, C.UNKNOWN}),
    (C.UNKNOWN, E_.RESULT): frozenset({C.SUCCEEDED}),
    (C.UNKNOWN, E_.EXCEPTION): frozenset({C.UNKNOWN}),
    (C.UNKNOWN, E_.HAPPENED): frozenset({C.SUCCEEDED}),
    (C.UNKNOWN, E_.DID_NOT_HAPPEN): frozenset({C.FAILED}),
    (C.UNKNOWN, E_.ABANDON): frozenset({C.FAILED}),
    **{(state, E_.RESTORED): frozenset({C.PENDING}) for state in (C.PENDING, C.APPROVED)},
    **{
        (state, E_.RESTORED): frozenset({C.UNKNOWN})
        for state in (C.ALLOWED, C.EXECUTING, C.RETRY, C.RECONCILING, C.UNKNOWN)
    },
}

N_ = RunEvent
RUNS: dict[tuple[R | None, RunEvent], frozenset[R]] = {
    (None, N_.QUEUE): frozenset({R.QUEUED}),
    (None, N_.START): frozenset({R.ACTIVE}),
    (None, N_.CAPTURE): frozenset({R.ACTIVE}),
    (R.QUEUED, N_.CLAIM): frozenset({R.ACTIVE}),
    (R.READY, N_.CLAIM): frozenset({R.ACTIVE}),
    (R.READY, N_.WEAR_OUT): frozenset({R.DEAD}),
    (R.QUEUED, N_.WEAR_OUT): frozenset({R.DEAD}),
    (R.ACTIVE, N_.PAUSE): frozenset({R.WAITING, R.READY, R.QUEUED, R.BLOCKED, R.FAILED, R.COMPLETED}),
    (R.ACTIVE, N_.END): frozenset({R.COMPLETED, R.FAILED, R.BLOCKED}),
    (R.ACTIVE, N_.LEASE_OVER): frozenset({R.WAITING, R.READY, R.QUEUED, R.BLOCKED, R.FAILED, R.COMPLETED}),
    (R.WAITING, N_.DECIDED): frozenset({R.READY, R.QUEUED, R.FAILED, R.BLOCKED, R.COMPLETED}),
    (R.READY, N_.DECIDED): frozenset({R.FAILED, R.COMPLETED, R.BLOCKED}),
    (R.QUEUED, N_.DECIDED): frozenset({R.FAILED, R.BLOCKED}),
    **{(state, N_.BLOCK): frozenset({R.BLOCKED}) for state in (R.ACTIVE, R.READY, R.QUEUED)},
    **{
        (state, N_.UNBLOCK): frozenset({R.WAITING, R.READY, R.QUEUED, R.FAILED, R.COMPLETED})
        for state in (R.BLOCKED, R.DEAD)
    },
    **{
        (state, N_.CANCEL): frozenset({R.CANCELLED, R.BLOCKED})
        for state in (R.QUEUED, R.ACTIVE, R.WAITING, R.READY, R.BLOCKED, R.DEAD)
    },
    **{
        (state, N_.RESTORED): frozenset({R.WAITING, R.BLOCKED})
        for state in (R.QUEUED, R.ACTIVE, R.WAITING, R.READY, R.BLOCKED, R.DEAD)
    },
}


def next_call(state: C | None, event: CallEvent, to: C) -> C:
    """``to``, when the event may move a call from ``state`` there. Raises `IllegalTransition`."""
    if to not in CALLS.get((state, event), frozenset()):
        raise IllegalTransition(f"a call that is {state or 'new'} cannot become {to} by {event}")
    return to


def next_run(state: R | None, event: RunEvent, to: R) -> R:
    """``to``, when the event may move a run from ``state`` there. Raises `IllegalTransition`."""
    if to not in RUNS.get((state, event), frozenset()):
        raise IllegalTransition(f"a run that is {state or 'new'} cannot become {to} by {event}")
    return to
