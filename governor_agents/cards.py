"""What was posted where: a card per approval and channel, or one for several identical calls that wait.

Three sorts of row, all of the kind ``card``: the card itself, under an id made of its first approval and its channel;
a pointer to it for each further approval; a slot per (channel, fingerprint, approvers) that names the card which takes
identical calls. A crash between two of these writes leaves a row that the next try finds or does not need.
"""

from __future__ import annotations

import secrets
from base64 import b32encode
from collections.abc import Callable
from functools import partial
from hashlib import sha256

from pydantic import TypeAdapter, ValidationError

from governor_agents.core.binding import chain_sha256
from governor_agents.core.calls import freeze, thaw
from governor_agents.core.ports import Card, Record
from governor_agents.core.records import Approval, CallState, split_approval_id
from governor_agents.errors import NotFound, SnapshotError, StoreUnavailable
from governor_agents.runs import Runs, sent

_CARD: TypeAdapter[Card] = TypeAdapter(Card)

MAX_TRIES = 100
"""How often a change is applied anew because somebody else was faster."""


def card_id(*parts: str) -> str:
    """An opaque id: 26 letters and digits that say nothing of what they stand for."""
    return "c" + b32encode(sha256(freeze(list(parts))).digest()[:16]).decode().rstrip("=").lower()


class Cards:
    """The cards of one tenant. Its coroutines run on the governor loop."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    async def enter(self, approval: Approval, channel: str) -> Card:
        """See `core.ports.Cards`."""
        own = card_id(self._runs.tenant, approval.id, channel)
        if (known := await self.find(own)) is not None:
            return known
        if approval.call.risk == "high":  # one click never decides several of these
            await self._insert(own, _CARD.dump_json(Card(own, channel, (approval.id,))))
            return await self._found(own)
        slot = card_id(self._runs.tenant, channel, approval.call.fingerprint, _asked(approval))
        standing = await self._load(slot)
        shared = str(thaw(standing.body)["card"]) if standing is not None else ""
        if shared and await self._waits(shared):
            await self.change(shared, lambda card: _joined(card, approval.id))
            await self._insert(own, freeze({"card": shared}))
            return await self._found(own)
        await self._insert(own, _CARD.dump_json(Card(own, channel, (approval.id,))))
        await self._point(slot, standing, own)
        return await self._found(own)

    async def find(self, id: str) -> Card | None:
        """See `core.ports.Cards`."""
        record = await self._load(id)
        if record is None:
            return None
        card = _read(record)
        return card if isinstance(card, Card) else await self.find(card)

    async def _found(self, id: str) -> Card:
        card = await self.find(id)
        if card is None:
            raise NotFound(f"no card {id}")
        return card

    async def change(self, id: str, step: Callable[[Card], Card]) -> Card:
        """See `core.ports.Cards`."""
        op = secrets.token_hex(8)
        for _ in range(MAX_TRIES):
            record = await self._load(id)
            card = None if record is None else _read(record)
            if record is None or card is None:
                raise NotFound(f"no card {id}")
            if not isinstance(card, Card):
                return await self.change(card, step)
            changed = step(card)
            if changed == card:
                return card
            fresh = Record("card", record.tenant, id, _CARD.dump_json(changed), record.index, record.due, record.v)
            if (await sent(partial(self._runs.store.swap, fresh, op=op))).won:
                return changed
        raise StoreUnavailable(f"card {id} changed {MAX_TRIES} times while one write was tried; try again")

    async def _load(self, id: str) -> Record | None:
        return await self._runs.store.load("card", self._runs.tenant, id)

    async def _insert(self, id: str, body: bytes) -> None:
        """Write a row, unless somebody else was faster: then theirs counts."""
        row = Record("card", self._runs.tenant, id, body)
        await sent(partial(self._runs.store.insert, row, op=secrets.token_hex(8)))

    async def _point(self, slot: str, standing: Record | None, card: str) -> None:
        """Let the slot name this card; whoever loses has a card of its own, which is no harm."""
        row = Record("card", self._runs.tenant, slot, freeze({"card": card}), v=standing.v if standing else 0)
        write = self._runs.store.swap if standing else self._runs.store.insert
        await sent(partial(write, row, op=secrets.token_hex(8)))

    async def _waits(self, id: str) -> bool:
        """True while one of the card's approvals still waits for people."""
        card = await self.find(id)
        for approval in card.approvals if card is not None else ():
            found = split_approval_id(approval)
            run = await self._runs.find(found[0]) if found else None
            call = run.call(found[1]) if run is not None and found else None
            if call is not None and call.state is CallState.PENDING:
                return True
        return False


def _asked(approval: Approval) -> str:
    return f"{chain_sha256(approval.call)} {approval.call.stage} {approval.run.env}"


def _joined(card: Card, approval: str) -> Card:
    if approval in card.approvals:
        return card
    return Card(card.id, card.channel, (*card.approvals, approval), card.places)


def _read(record: Record) -> Card | str:
    """The card, or the id of the card that this row points to."""
    try:
        body = thaw(record.body)
        return str(body["card"]) if set(body) == {"card"} else _CARD.validate_json(record.body)
    except ValidationError as error:
        raise SnapshotError(f"card {record.id} is not readable: {error.errors()[0]['msg']}") from None
