"""What a decision is bound to: one digest over everything that was shown and everything it was shown for.

The envelope is an object of strings and integers, so its canonical form equals RFC 8785 (a test compares them).
"""

from __future__ import annotations

from typing import Any

from governor_agents.core.calls import freeze, sha256
from governor_agents.core.people import votes_meet
from governor_agents.core.records import Call, CallState, Run, evolve
from governor_agents.core.verdicts import Stage

ENVELOPE_VERSION = 1


def chain_sha256(call: Call) -> str:
    """The approver chain as a hash: who, how many, in which order, by when, and to whom a seat may be handed."""
    stages: list[Any] = [
        [list(s.names), list(s.people), s.quorum, int(s.within * 1000) if s.within is not None else None]
        for s in call.stages
    ]
    delegates = [list(call.delegates)] if call.delegates else []  # so the digests of earlier records stay as they are
    return sha256(freeze([stages, list(call.excluded), call.reason_required, *delegates]))


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
        "operands": [[file.name, file.size, file.sha256] for file in call.operands],
        "nonce": call.nonce,
        "expires_at": int((call.expires or 0) * 1000),
    }


def digest(run: Run, call: Call) -> str:
    """The digest that a vote on this call names, worked out from the record."""
    return sha256(freeze(envelope(run, call)))


def holds(run: Run, call: Call) -> bool:
    """True when the call is what its digest says, and the votes that name this digest are those it needs.

    So nothing that was bound can be changed, added or moved elsewhere between approval and start. It is no seal:
    whoever can write to the store can also work out a new digest, and write votes that name it. Keys close that
    (`governor_agents.keys`).
    """
    if call.digest != digest(run, call):
        return False
    if not call.stages and call.state is not CallState.APPROVED:
        return True  # allowed by policy: nobody was asked
    votes = tuple(vote for vote in call.votes if vote.digest == call.digest)
    return votes_meet(votes, _needed(call), call.excluded)


def _needed(call: Call) -> tuple[Stage, ...]:
    """The stages that votes must meet: time may have passed over one with a time of its own, but never the last one."""
    passed, needed = list(call.passed_over), []
    for at, stage in enumerate(call.stages):
        if stage in passed and stage.within is not None and at + 1 < len(call.stages):
            passed.remove(stage)
        else:
            needed.append(stage)
    return tuple(needed)


def bind(run: Run, call: Call) -> Call:
    """The call with its digest, and when people are asked its fingerprint, as they follow from the rest of it."""
    return evolve(
        call,
        digest=digest(run, call),
        fingerprint=call.as_tool_call(run).fingerprint if call.stages else "",
    )
