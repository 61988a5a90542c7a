"""A session in a durable run: after a crash it looks as it did when the stretch began, and nothing is added twice.

A session is not part of the run's record. So how many items it held when a stretch began is recorded with the models'
answers, before the first item is added. Driven again, the stretch finds those items and adds the others anew: what the
one that died had added already is recognised and left.

Left alone, and with it the run parked after a crash, are sessions that rewrite what they are given: the conversations
of OpenAI's servers, and those that compact their items. An item of somebody else in between parks the run as well.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from governor_agents.adapters.openai_agents.stretch import current_stretch
from governor_agents.claims import Claim, current_claim
from governor_agents.errors import ReplayDiverges

if TYPE_CHECKING:
    from governor_agents.governor import Governor

CHAIN = ("session",)
"""Where the number of items is recorded, beside the answers of models."""


def resumable(session: Any, governor: Governor) -> Any:
    """The user's session, safe against a stretch that is driven again; itself outside of a claim."""
    claim = current_claim()
    rewrites = any(hasattr(session, name) for name in ("run_compaction", "_add_items_with_generation"))
    if claim is None or session is None or rewrites or type(session).__name__ == "OpenAIConversationsSession":
        return session
    return ResumableSession(session, claim, governor)


class ResumableSession:
    """Stands in front of a session for one stretch. Lives on the loop the SDK runs on."""

    def __init__(self, session: Any, claim: Claim, governor: Governor) -> None:
        self.session = session
        self._claim = claim
        self._governor = governor
        self._ahead: list[str] | None = None

    @property
    def session_id(self) -> str:
        """The session's own id."""
        return str(self.session.session_id)

    @property
    def session_settings(self) -> Any:
        """The session's own settings."""
        return getattr(self.session, "session_settings", None)

    @session_settings.setter
    def session_settings(self, settings: Any) -> None:
        self.session.session_settings = settings

    async def get_items(self, limit: int | None = None) -> list[Any]:
        """The items as the loop knows them: without those that it is still to add again."""
        ahead = await self._begun()
        if not ahead:
            return list(await self.session.get_items(limit))
        items = list(await self.session.get_items())
        items = items[: len(items) - len(ahead)]
        return items if limit is None else items[max(0, len(items) - limit) :]

    async def add_items(self, items: list[Any]) -> None:
        """Add what is not there yet. A loop that adds other items than the one that died goes no further."""
        ahead = await self._begun()
        left = list(items)
        while left and ahead:
            if _line(left[0]) != ahead[0]:
                await self._diverges()
            del left[0], ahead[0]
        if left:
            await self.session.add_items(left)

    async def pop_item(self) -> Any:
        """Remove the last item."""
        if await self._begun():
            await self._diverges()
        return await self.session.pop_item()

    async def clear_session(self) -> None:
        """Remove all items."""
        if await self._begun():
            await self._diverges()
        await self.session.clear_session()

    async def _begun(self) -> list[str]:
        """The items that a stretch that died had added, and this one has not yet."""
        if self._ahead is None:
            responses = self._claim.responses
            items = list(await self.session.get_items())
            recorded = responses.given(CHAIN, ())
            if recorded is None:
                responses.hold(CHAIN, (), str(len(items)), ())
                await self._governor.guard.keep(self._claim, CHAIN)
            self._ahead = [] if recorded is None else [_line(item) for item in items[int(recorded) :]]
        return self._ahead

    async def _diverges(self) -> None:
        await current_stretch().stop(
            ReplayDiverges(
                f"session {self.session_id} holds items behind those of run {self._claim.run} that its loop did not "
                f"add; take them out and repair the run, or cancel it"
            )
        )


def _line(item: Any) -> str:
    return json.dumps(item, sort_keys=True, default=str)
