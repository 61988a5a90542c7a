"""The operator's part: answers to calls in doubt, and runs that are let go again. Runs on the governor loop.

Before "did not happen" is weighed, whatever can be seen of the workers from this process is written down: so the first
try tells an operator from when on the answer will count, and the time runs from then.
"""

from __future__ import annotations

from governor_agents.core import doubts, driving
from governor_agents.core.records import Answer, Call, Run, approval_id
from governor_agents.core.verdicts import Verdict
from governor_agents.errors import NotFound
from governor_agents.liveness import is_dead
from governor_agents.runs import Runs


class Resolving:
    """Settles doubts about the runs of one tenant."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def find(self, id: str, n: int) -> tuple[Run, Call]:
        """The call, also of a closed generation. Raises `NotFound`."""
        run = await self._runs.get(id)
        call = await self._runs.call(run, n)
        if call is None:
            raise NotFound(f"no call {approval_id(id, n)}")
        return run, call

    async def answer(
        self,
        run: Run,
        n: int,
        how: Answer,
        *,
        by: str,
        evidence: str,
        worker_dead: bool,
        verdict: Verdict,
        nonce: str,
    ) -> Run:
        """Write the answer down. Raises every kind of `ResolutionRefused`; deaths that were seen stay noted."""
        if how == "did-not-happen":
            await self._note_deaths(run, n, by if worker_dead else "")
        change = await self._runs.change(
            run.id,
            lambda run, now: doubts.resolve(
                run, n, now, how=how, by=by, evidence=evidence, nonce=nonce, verdict=verdict
            ),
        )
        return change.run

    async def _note_deaths(self, run: Run, n: int, word: str) -> None:
        """Which workers of calls in doubt are dead; on somebody's word, those of call ``n`` that are not seen here."""
        call = run.call(n)
        own = {attempt.owner for attempt in call.attempts} if call is not None else set()
        seen = {owner: is_dead(owner) for owner in doubts.suspects(run)}
        dead = {owner for owner, gone in seen.items() if gone}
        said = {owner for owner, gone in seen.items() if gone is None and owner in own} if word else set()
        if dead:
            await self._runs.change(run.id, lambda run, now: doubts.note_deaths(run, now, dead))
        if said:
            await self._runs.change(run.id, lambda run, now: doubts.note_deaths(run, now, said, by=word))

    async def repair(self, id: str, *, by: str, reason: str) -> Run:
        """Let a BLOCKED or DEAD run go on. Raises `NotFound`, `IllegalTransition`."""
        return (await self._runs.change(id, lambda run, now: driving.repair(run, now, by=by, reason=reason))).run
