"""What people do with an approval: each call of the facade that is a transition of `core.decisions` or `attending`.

Who speaks was proved by the channel, and who that is the directory says anew each time. What is refused is noted in the
stream of refused requests, and raised as it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from governor_agents.core import attending, decisions, people
from governor_agents.core.calls import Operand
from governor_agents.core.identity import Voter
from governor_agents.core.records import Approval, Call, Change, Decision, Run
from governor_agents.core.sizes import size_words
from governor_agents.core.verdicts import Verdict
from governor_agents.errors import DeadlinePassed, EditRefused
from governor_agents.nonces import nonce
from governor_agents.operands import bound, changed
from governor_agents.runs import Step

if TYPE_CHECKING:
    from governor_agents.governor import Governor


class Deciding:
    """Takes the words of people about the approvals of one governor; each gives the approval as it then stands.

    ``find`` says which approvals these are. Raises `NotFound`.
    """

    def __init__(self, governor: Governor, find: Callable[[str], Awaitable[Approval]]) -> None:
        self._governor = governor
        self._find = find

    async def decide(self, id: str, decision: Decision, *, by: str, digest: str | None, channel: str) -> Approval:
        """See `Governor.decide`."""
        with self._governor.audit.refusals.watched("decide", id, by=by, channel=channel):
            return await self._decide(id, decision, by, digest, channel)

    async def _decide(self, id: str, decision: Decision, by: str, digest: str | None, channel: str) -> Approval:
        approval = await self._find(id)
        call, voter = approval.call, await self.voter(by)
        if approval.run.call(call.n) is None:  # its generation is closed: it was decided, and whoever asks is told so
            decisions.after_the_fact(approval.run, call, decision, voter)
            return approval
        verdict, operands = self._weigh(approval, decision)
        stamp, requester = nonce(), self._requester(approval)

        def step(run: Run, now: float) -> Change:
            return decisions.decide(
                run,
                call.n,
                decision,
                by=voter,
                now=now,
                digest=call.digest if digest is None else digest,
                channel=channel,
                verdict=verdict,
                nonce=stamp,
                operands=operands,
                requester=requester,
            )

        return await self._write(approval, step)

    async def hand_over(self, id: str, *, to: str, by: str, seat: str, moved: bool, channel: str) -> Approval:
        """See `Governor.delegate` and `Governor.reassign`."""
        asked = "reassign" if moved else "delegate"
        with self._governor.audit.refusals.watched(asked, id, by=by, channel=channel):
            approval = await self._open(id)
            giver, taker, requester = await self.voter(by), await self.voter(to), self._requester(approval)
            identities = self._governor.identities
            step = partial(
                attending.hand_over,
                n=approval.call.n,
                to=taker,
                by=giver,
                seat=self._seat(approval.call, seat),
                moved=moved,
                coordinator=identities.directory is not None and identities.directory.coordinator(giver.id),
                requester=requester,
                channel=channel,
            )
            return await self._write(approval, lambda run, now: step(run, now=now))

    async def take_up(self, id: str, *, by: str, release: bool, channel: str) -> Approval:
        """See `Governor.take_up`."""
        with self._governor.audit.refusals.watched("take_up", id, by=by, channel=channel):
            approval = await self._open(id)
            voter, requester = await self.voter(by), self._requester(approval)
            step = partial(
                attending.take_up, n=approval.call.n, by=voter, release=release, requester=requester, channel=channel
            )
            return await self._write(approval, lambda run, now: step(run, now=now))

    async def comment(self, id: str, text: str, *, by: str, channel: str) -> Approval:
        """See `Governor.comment`."""
        with self._governor.audit.refusals.watched("comment", id, by=by, channel=channel):
            approval = await self._open(id)
            voter, requester = await self.voter(by), self._requester(approval)
            step = partial(
                attending.comment, n=approval.call.n, text=text, by=voter, requester=requester, channel=channel
            )
            return await self._write(approval, lambda run, now: step(run, now=now))

    async def voter(self, address: str) -> Voter:
        """Whoever has this address, and for whom that person may speak now. Raises `DirectoryUnreadable`."""
        identities = self._governor.identities
        await self._governor.open()
        asked = identities.directory is not None  # else nobody is away, and the time says nothing
        now = await self._governor.loop.bridge(self._governor.runs.now()) if asked else 0.0
        return identities.voter(address, now)

    async def inbox(self, person: str, limit: int, skipped: Callable[[str], None]) -> list[Approval]:
        """What somebody may decide now, up to a limit: of all that waits, so no flood for others hides it."""
        found: list[Approval] = []
        runs, after = await self._pending("", skipped)
        while after and len(found) < limit:
            found += await self.those_for(person, [approval for run in runs for approval in run.approvals])
            runs, after = await self._pending(after, skipped)
        return found[:limit]

    async def _pending(self, after: str, skipped: Callable[[str], None]) -> tuple[list[Run], str]:
        return await self._governor.loop.bridge(self._governor.runs.page({"pending": "yes"}, after, skipped))

    async def those_for(self, person: str, approvals: Sequence[Approval]) -> list[Approval]:
        """Those of these approvals that somebody may decide now. Raises `DirectoryUnreadable`."""
        voter = await self.voter(person)

        def mine(approval: Approval) -> bool:
            call, requester = approval.call, self._requester(approval)
            return bool(people.seats(call, voter, people.asked_now(call), requester=requester))

        return [approval for approval in approvals if mine(approval)]

    def _requester(self, approval: Approval) -> tuple[str, ...]:
        """Every name of whoever asked for the call."""
        return self._governor.identities.names(approval.run.requester)

    def _seat(self, call: Call, seat: str) -> str:
        """The approver that is meant by any name of that person."""
        names = self._governor.identities.names(seat) if seat else ()
        named = {name for stage in call.stages for name in stage.people}
        return next((name for name in (seat, *names) if name in named), seat)

    async def _open(self, id: str) -> Approval:
        """The approval, unless its generation is closed. Raises `NotFound`, `DecisionRefused`."""
        approval = await self._find(id)
        if approval.run.call(approval.call.n) is None:
            raise decisions.over(approval.run, approval.call, "word")
        return approval

    async def _write(self, approval: Approval, step: Step) -> Approval:
        return await self._governor.loop.bridge(self._written(approval, step))

    async def _written(self, approval: Approval, step: Step) -> Approval:
        runs, id = self._governor.runs, approval.run.id
        try:
            run = (await runs.change(id, step, fresh=False)).run
        except DeadlinePassed:  # what was told must hold, also when a clock is set back
            await runs.change(id, decisions.pass_deadlines)
            raise
        return Approval(run, await runs.call(run, approval.call.n) or approval.call)

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
        if files := verdict.outcome != "deny" and changed(asked, edited):
            raise EditRefused(f"not what was shown any more, so it is not approved by an edit: {', '.join(files)}")
        return verdict, edited.operands
