"""(a) What governance adds to an allowed call of a read-only tool, beside the packages that do the same.

Our policy file has 100 rules: names, globs, agents, and forty CEL conditions, none of them on the tool that is called.
The peers get their cheapest form: `governor` no policy at all (it has no rules by tool), `agent-os-kernel` one policy
that lists 100 action names.
"""

import asyncio
from pathlib import Path
from typing import Any

from agent_os.stateless import ExecutionContext, StatelessKernel
from governor import govern

from benchmarks.measure import Cost, Party, Spread, interleave, ratio, seconds, timed
from benchmarks.report import Report
from governor_agents import Governor, PolicySet, ToolCall
from governor_agents.claims import Claim
from governor_agents.core.calls import freeze_text

ROUNDS, CALLS = 150, 25  # short batches: few of them are interrupted by whatever else the machine does
MODEL_WROTE = '{"order": "4711", "verbose": true, "limit": 20}'
ARGUMENTS: dict[str, Any] = {"order": "4711", "verbose": True, "limit": 20}

BARE = "the bare coroutine"
GUARD = "guard.run, the call given"
FROM_TEXT = "guard.run from the model's text, as an adapter"
RULE = "guard.run, a rule allows (not the annotation)"
DECORATOR = "@governor.govern function"
PLAIN = "governor 0.2.0, capture_state=False"
CAPTURING = "governor 0.2.0, default"
KERNEL = "agent-os-kernel 3.7, one policy of 100 names"
KERNELS = "agent-os-kernel 3.7, 100 policies"


def policy_text(*, allow: str = "") -> str:
    """100 rules, none of which touches ``lookup_order``; with ``allow`` the last one does, without a condition."""
    head = """\
version: 1
approvals: {approvers: [group:operators]}
groups: {operators: [ops@example.com, local:alice]}
tools:
  lookup_order: {read_only: true}
  search_order: {effect: none}
rules:
"""
    lines = []
    for at in range(100):
        kind = at % 5
        if kind in (0, 1):
            rule = f"tool: pay_{at}, when: 'call.args.amount <= {at} && call.args.currency == \"EUR\"', then: allow"
        elif kind == 2:
            rule = f'tool: "delete_{at}_*", then: deny, reason: deletes go through a ticket'
        elif kind == 3:
            rule = f"tool: [mail_{at}, post_{at}], agent: support, then: require_approval, quorum: 2"
        else:
            rule = f"tool: write_{at}, then: require_approval"
        lines.append(f"  - {{name: rule {at}, {rule}}}")
    if allow:
        lines[-1] = f"  - {{name: reads, tool: {allow}, then: allow}}"
    return head + "\n".join(lines) + "\n"


async def bare(arguments: bytes) -> int:
    """The tool: nothing at all."""
    return 1


async def tool(order: str, verbose: bool, limit: int) -> int:
    """The tool with arguments, for those who wrap functions."""
    return 1


def a_claim() -> Claim:
    """A claim as a driver holds it; nothing here looks into a store."""
    return Claim(
        run="run_bench",
        tenant="default",
        agent="support",
        requester="service:support",
        conversation="",
        generation=0,
        owner="bench",
        fence=1,
    )


def a_call(tool: str, args: bytes, at: int, claim: Claim) -> ToolCall:
    """A call under an id of its own: verdicts are remembered by call id, and no model uses one twice."""
    return ToolCall(
        tool=tool,
        args=args,
        call_id=f"call_{at}",
        agent=claim.agent,
        run=claim.run,
        requester=claim.requester,
        conversation=claim.conversation,
        tenant=claim.tenant,
        generation=claim.generation,
    )


def ours(governor: Governor, by_rule: Governor) -> dict[str, Party]:
    """Our ways to an allowed call. What is halted is read from their open stores: of read-only calls once a second."""
    governed = governor.govern(name="lookup_order")(tool)

    def given(holder: Governor) -> Party:
        async def party() -> Cost:
            claim = a_claim()
            known = holder.policies.tool("lookup_order")
            calls = [a_call("lookup_order", freeze_text(MODEL_WROTE), at, claim) for at in range(CALLS)]
            return await timed(lambda at: holder.guard.run(claim, calls[at], known, bare), CALLS)

        return party

    async def from_text() -> Cost:
        claim = a_claim()

        async def call(at: int) -> None:
            asked = a_call("lookup_order", freeze_text(MODEL_WROTE), at, claim)
            await governor.guard.run(claim, asked, governor.policies.tool(asked.tool), bare)

        return await timed(call, CALLS)

    async def decorated() -> Cost:
        return await timed(lambda at: governed(**ARGUMENTS), CALLS)

    return {GUARD: given(governor), RULE: given(by_rule), FROM_TEXT: from_text, DECORATOR: decorated}


def theirs() -> dict[str, Party]:
    """The peers; each round begins with a store of its own, so that nobody pays for what it kept from earlier ones."""

    def governed(**settings: Any) -> Party:
        async def party() -> Cost:
            wrapped = govern(**settings)(tool)
            return await timed(lambda at: wrapped(**ARGUMENTS), CALLS)

        return party

    def kernel(policies: dict[str, Any]) -> Party:
        async def party() -> Cost:
            decides = StatelessKernel(policies=policies)
            context = ExecutionContext(agent_id="support", policies=list(policies))
            return await timed(lambda at: decides.execute("lookup_order", ARGUMENTS, context), CALLS)

        return party

    names = [f"write_{at}" for at in range(100)]
    one = {"file": {"blocked_actions": names[:50], "require_approval": names[50:]}}
    many = {f"rule {at}": {"require_approval": [name]} for at, name in enumerate(names)}
    return {
        PLAIN: governed(capture_state=False),
        CAPTURING: governed(),
        KERNEL: kernel(one),
        KERNELS: kernel(many),
    }


def bench_allowed_read_only_call(report: Report, place: Path, effort: float) -> None:
    """Ours at most what `governor` adds without capture, and half of what it adds by default."""

    async def run() -> Cost:
        return await timed(lambda at: bare(b"{}"), CALLS)

    async def measure() -> dict[str, list[Cost]]:
        policies = [PolicySet.from_text(text) for text in (policy_text(), policy_text(allow="lookup_order"))]
        url = f"sqlite:///{place / 'allow.db'}"
        holders = [Governor(policy, store=url, secret=b"bench") for policy in policies]
        async with holders[0], holders[1]:
            parties: dict[str, Party] = {BARE: run, **ours(*holders), **theirs()}
            return await interleave(parties, max(3, int(ROUNDS * effort)))

    samples = asyncio.run(measure())
    report.time("a", BARE, Spread.of(seconds(samples, BARE)), "us")
    for name in samples:
        if name != BARE:
            report.time("a", f"adds: {name}", Spread.of(seconds(samples, name, BARE)), "us")
    for mine in (GUARD, FROM_TEXT, DECORATOR):
        report.ratio("a", f"{mine} / {PLAIN}", ratio(samples, mine, PLAIN, BARE), 1.0)
        report.ratio("a", f"{mine} / {CAPTURING}", ratio(samples, mine, CAPTURING, BARE), 0.5)
        report.ratio("a", f"{mine} / {KERNEL}", ratio(samples, mine, KERNEL, BARE))
