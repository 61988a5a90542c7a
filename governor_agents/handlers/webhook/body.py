"""What a webhook says: the complete request, or the outcome, made of the record alone.

``arguments_json`` is the canonical JSON that was hashed and will run, ``arguments`` the same as an object; neither is
ever shortened. All of that is raw: whoever shows it to people must escape it, or show ``text``, in which nothing hides.
"""

from __future__ import annotations

import json
from typing import Any

from governor_agents.core.calls import sha256, thaw
from governor_agents.core.records import Approval, Call, CallState, Vote
from governor_agents.handlers.message import Message, to_text

VERSION = 1


def body(approval: Approval) -> bytes:
    """The body as it is sent and signed. The same state of an approval gives the same bytes, under the same ``id``."""
    said = _said(approval)
    id = "evt_" + sha256(_json(said))[:32]
    return _json({"id": id, **said})


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()


def _said(approval: Approval) -> dict[str, Any]:
    run, call, message = approval.run, approval.call, Message.of(approval)
    return {
        "version": VERSION,
        "type": "approval.asked" if call.state is CallState.PENDING else "approval.decided",
        "approval": approval.id,
        "run": run.id,
        "tenant": run.tenant,
        "env": run.env,
        "state": call.state.value,
        "outcome": message.outcome,
        "headline": message.headline,
        "tool": call.tool,
        "agent": call.agent or run.agent,
        "requester": run.requester,
        "conversation": run.conversation,
        "risk": call.risk,
        "policy": call.policy,
        "why": call.why,
        "asked": list(approval.asked),
        "people": list(approval.people),
        "stage": call.stage + 1,
        "stages": len(call.stages),
        "votes": [_vote(vote) for vote in call.votes],
        "created": call.created,
        "deadline": call.expires,
        "digest": call.digest,
        **_arguments(call),
        "text": to_text(message),
    }


def _arguments(call: Call) -> dict[str, Any]:
    asked = call.asked_args
    return {
        "arguments": thaw(call.args),
        "arguments_json": call.args.decode("utf-8", "backslashreplace"),
        "asked_arguments_json": None if asked is None else asked.decode("utf-8", "backslashreplace"),
        "files": [{"argument": file.name, "bytes": file.size, "sha256": file.sha256} for file in call.operands],
    }


def _vote(vote: Vote) -> dict[str, Any]:
    return {
        "by": vote.by,
        "seat": vote.seat or vote.by,
        "decision": vote.kind,
        "at": vote.at,
        "stage": vote.stage + 1,
        "reason": vote.reason,
        "channel": vote.channel,
    }
