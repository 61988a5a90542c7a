"""What people do with an approval: each call of the facade that ends in a transition of `core.decisions`.

Who speaks was proved by the channel. What is refused is noted in the stream of refused requests, and raised as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from governor_agents.core import decisions
from governor_agents.core.calls import Operand
from governor_agents.core.records import Approval, Change, Decision, Run
from governor_agents.core.sizes import size_words
from governor_agents.core.verdicts import Verdict
from governor_agents.errors import DeadlinePassed, EditRefused
from governor_agents.nonces import nonce
from governor_agents.operands import bound
from governor_agents.policies import person_id

if TYPE_CHECKING:
    from governor_agents.governor import Governor


class Deciding:
    """Takes the words of people about the approvals of one governor."""

    def __init__(self, governor: Governor) -> None:
        self._governor = governor

    async def decide(self, id: str, decision: Decision, *, by: str, digest: str | None, channel: str) -> Run:
        """See `Governor.decide`."""
        with self._governor.audit.refusals.watched("decide", id, by=by, channel=channel):
            return await self._decide(id, decision, person_id(by), digest, channel)

    async def _decide(self, id: str, decision: Decision, person: str, digest: str | None, channel: str) -> Run:
        governor = self._governor
        approval = await governor.approval(id)
        call = approval.call
        if approval.run.call(call.n) is None:  # its generation is closed: it was decided, and whoever asks is told so
            return decisions.after_the_fact(approval.run, call, decision, person).run
        verdict, operands = self._weigh(approval, decision)
        stamp = nonce()

        def step(run: Run, now: float) -> Change:
            return decisions.decide(
                run,
                call.n,
                decision,
                by=person,
                now=now,
                digest=call.digest if digest is None else digest,
                channel=channel,
                verdict=verdict,
                nonce=stamp,
                operands=operands,
            )

        try:
            change = await governor.loop.bridge(governor.runs.change(approval.run.id, step, fresh=False))
        except DeadlinePassed:  # what was told must hold, also when a clock is set back
            await governor.loop.bridge(governor.runs.change(approval.run.id, decisions.pass_deadlines))
            raise
        return change.run

    def _weigh(self, approval: Approval, decision: Decision) -> tuple[Verdict | None, tuple[Operand, ...]]:
        """What the policies say of edited arguments, and the files that these name; nothing for other decisions."""
        call = approval.call
        asked = call.as_tool_call(approval.run)
        if decision.args is None:
            return None, asked.operands
        policies, most = self._governor.policies, self._governor.max_snapshot
        if len(decision.args) > most:
            raise EditRefused(
                f"the new arguments have {size_words(len(decision.args))}, and the limit is {size_words(most)}"
            )
        edited, tool = asked.with_args(decision.args), policies.tool(call.tool)
        edited, verdict = bound(edited, tool, policies.evaluate(edited, tool))
        return verdict, edited.operands
