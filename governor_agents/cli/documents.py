"""Runs, calls and approvals as the JSON that scripts read. Keys never change their meaning; times are epoch seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from governor_agents.core.calls import sha256, thaw
from governor_agents.core.records import Approval, Call, Lease, Resolution, Result, Run, approval_id
from governor_agents.handlers.message import outcome
from governor_agents.handlers.words import Commands, explain


def approval_document(approval: Approval) -> dict[str, Any]:
    """A call together with what people need to know of its run."""
    run = approval.run
    return {
        **call_document(run, approval.call),
        "run": run.id,
        "run_state": run.status,
        "tenant": run.tenant,
        "agent": run.agent,
        "requester": run.requester,
        "conversation": run.conversation,
        "approvers": list(approval.asked),
        "people": list(approval.people),
        "deadline": approval.deadline,
    }


def call_document(run: Run, call: Call) -> dict[str, Any]:
    """A call. ``args`` is the canonical JSON text that was hashed, ``arguments`` the same parsed."""
    asked = call.asked_args
    return {
        "id": approval_id(run.id, call.n),
        "n": call.n,
        "call_id": call.call_id,
        "generation": call.generation,
        "tool": call.tool,
        "state": call.state.value,
        "outcome": outcome(call),
        "arguments": thaw(call.args),
        "args": call.args.decode(),
        "args_sha256": sha256(call.args),
        "operands": [{"argument": file.name, "size": file.size, "sha256": file.sha256} for file in call.operands],
        "digest": call.digest,
        "edited": call.edited,
        "asked_arguments": None if asked is None else thaw(asked),
        "asked_args": None if asked is None else asked.decode(),
        "created": call.created,
        "policy": call.policy,
        "policy_version": call.version,
        "code": call.code,
        "reason": call.why,
        "reason_required": call.reason_required,
        "stage": call.stage,
        "stages": [
            {"names": list(stage.names), "people": list(stage.people), "quorum": stage.quorum, "within": stage.within}
            for stage in call.stages
        ],
        "stage_deadline": call.stage_expires,
        "excluded": list(call.excluded),
        "channels": list(call.channels),
        "headline": call.headline,
        "risk": call.risk,
        "delegates": list(call.delegates),
        "handed": [asdict(each) for each in call.handed],
        "taken_up": None if call.taken_up is None else asdict(call.taken_up),
        "comments": [asdict(each) for each in call.comments],
        "reminders": list(call.reminders),
        "not_told": [
            {"channel": each.channel, "what": each.what, "tries": each.tries, "due": each.due, "held": each.held}
            for each in run.outbox
            if each.n == call.n
        ],
        "votes": [
            {
                "by": vote.by,
                "seat": vote.seat or vote.by,
                "decision": vote.kind,
                "at": vote.at,
                "reason": vote.reason,
                "stage": vote.stage,
                "channel": vote.channel,
                "digest": vote.digest,
            }
            for vote in call.votes
        ],
        "told": call.told,
        "retry": call.retry,
        "idempotency_key": call.idem_key,
        "in_flight": call.in_flight,
        "attempts": [
            {"at": attempt.at, "owner": attempt.owner, "fence": attempt.fence, "died": attempt.died}
            for attempt in call.attempts
        ],
        "result": _result(call.result),
        "resolved": _resolution(call.resolved),
        "replaces": call.replaces,
        "replaced_by": call.replaced_by,
        "restored": call.restored,
    }


def _resolution(said: Resolution | None) -> dict[str, Any] | None:
    return None if said is None else {"how": said.how, "by": said.by, "at": said.at, "evidence": said.evidence}


def _result(result: Result | None) -> dict[str, Any] | None:
    if result is None:
        return None
    value = None if result.data is None else thaw(result.data)
    return {"ok": result.ok, "sha256": result.sha256, "value": value, "blob": result.blob}


def run_document(run: Run, calls: Iterable[Call] | None = None, commands: Commands | None = None) -> dict[str, Any]:
    """A run, with its state in words and the ways on as ``commands``; with ``calls`` those too."""
    why = explain(run, time.time(), commands)
    document: dict[str, Any] = {
        "id": run.id,
        "tenant": run.tenant,
        "agent": run.agent,
        "adapter": run.adapter,
        "requester": run.requester,
        "conversation": run.conversation,
        "state": run.status,
        "because": why.because,
        "details": list(why.details),
        "ways": list(why.ways),
        "approvals": [approval.id for approval in run.approvals],
        "created": run.created,
        "updated": run.updated,
        "ended": run.ended,
        "keep_until": run.keep_until,
        "generation": run.generation,
        "attempts": run.attempts,
        "max_attempts": run.max_attempts,
        "fence": run.fence,
        "lease": _lease(run.lease),
        "waiter": _lease(run.waiter),
        "not_before": run.not_before,
        "cancel": run.cancel,
        "cancel_reason": run.cancel_reason,
        "blocked": run.blocked,
        "blocked_detail": run.blocked_detail,
        "quarantine": run.epoch,
        "error": run.error,
        "output": run.output,
    }
    if calls is not None:
        document["calls"] = [call_document(run, call) for call in calls]
    return document


def _lease(lease: Lease | None) -> dict[str, Any] | None:
    return None if lease is None else {"owner": lease.owner, "until": lease.until}
