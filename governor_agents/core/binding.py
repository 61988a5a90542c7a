"""What a decision is bound to: one digest over everything that was shown and everything it was shown for.

The envelope is an object of strings and integers, so its canonical form equals RFC 8785 (a test compares them).
"""

from __future__ import annotations

from typing import Any

from governor_agents.core.calls import freeze, sha256
from governor_agents.core.records import Call, Run, evolve

ENVELOPE_VERSION = 1


def chain_sha256(call: Call) -> str:
    """The approver chain as a hash: who, how many, in which order, by when."""
    stages: list[Any] = [
        [list(s.names), list(s.people), s.quorum, int(s.within * 1000) if s.within is not None else None]
        for s in call.stages
    ]
    return sha256(freeze([stages, list(call.excluded), call.reason_required]))


def envelope(run: Run, call: Call) -> dict[str, Any]:
    """Everything a vote on this call stands for."""
    return {
        "v": ENVELOPE_VERSION,
        "env": run.env,
        "tenant": run.tenant,
        "run": run.id,
        "generation": call.generation,
        "n": call.n,
        "call": call.call_id,
        "agent": call.agent or run.agent,
        "requester": run.requester,
        "tool": call.tool,
        "tool_schema_sha256": call.schema_sha256,
        "policy": f"{call.policy}@{call.version}",
        "approver_chain": chain_sha256(call),
        "args_sha256": sha256(call.args),
        "operands": [],
        "nonce": call.nonce,
        "expires_at": int((call.expires or 0) * 1000),
    }


def bind(run: Run, call: Call) -> Call:
    """The call with its digest, and when people are asked its fingerprint, as they follow from the rest of it."""
    return evolve(
        call,
        digest=sha256(freeze(envelope(run, call))),
        fingerprint=call.as_tool_call(run).fingerprint if call.stages else "",
    )
