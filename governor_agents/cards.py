"""What was posted where: a card per approval and channel, or one for several identical calls that wait.

Four sorts of row, all of the kind ``card``: the card itself, under an id made of its first approval and its channel;
a pointer to it for each further approval; a slot per (channel, fingerprint, approvers) that names the card which takes
identical calls, and its first approval; a turn, while somebody works on what identical calls share. The slot is written
first and by compare-and-set, so there is one card whatever the number of processes, and whoever finds a slot without
its card makes the card. All rows are due in the end, and are swept (`clearing`).
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
from governor_agents.core.channels import Card
from governor_agents.core.ports import Record
from governor_agents.core.records import Approval, CallState, split_approval_id
from governor_agents.crash import crash_point
from governor_agents.errors import NotFound, SnapshotError, StoreUnavailable
from governor_agents.liveness import is_dead, this_worker
from governor_agents.runs import Runs, sent

_CARD: TypeAdapter[Card] = TypeAdapter(Card)

MAX_ALIKE = 50
"""How many identical calls one card takes; the next one begins another."""

KEPT = 7 * 86_400.0
"""Seconds after which a row is looked at: it goes when nothing is left that it could show."""

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
        """See `core.channels.Cards`."""
        own = card_id(self._runs.tenant, approval.id, channel)
        if (known := await self.find(own)) is not None:
            return known
        id, first = own, approval.id
        if approval.call.risk != "high":  # one click never decides several of those
            id, first = await self._slot(own, approval, channel)
        await self._insert(id, _CARD.dump_json(Card(id, channel, (first,))))
        if id != own:
            await self.change(id, lambda card: _joined(card, approval.id))
            await self._insert(own, freeze({"card": id}))
        return await self._found(id)

    async def _slot(self, own: str, approval: Approval, channel: str) -> tuple[str, str]:
        """The card that takes this call, and the card's first approval: the one that stands, or its own."""
        slot = self._slot_id(approval, channel)
        for _ in range(MAX_TRIES):
            standing = await self._load(slot)
            named = None if standing is None else _slot(standing)
            if named is not None and (named[0] == own or await self._takes(*named, approval)):
                return named
            if await self._write(slot, freeze({"card": own, "first": approval.id}), standing):
                return own, approval.id
        raise StoreUnavailable(f"slot {slot} changed {MAX_TRIES} times while one write was tried; try again")

    def _slot_id(self, approval: Approval, channel: str) -> str:
        return card_id(self._runs.tenant, channel, approval.call.fingerprint, _asked(approval))

    async def of(self, approval: Approval, channel: str) -> Card | None:
        """The card of this approval in this channel, None when it has none."""
        return await self.find(card_id(self._runs.tenant, approval.id, channel))

    async def joins(self, approval: Approval, channel: str) -> bool:
        """True when people have a card already that takes this call: nobody is asked anew for it."""
        if await self.of(approval, channel) is not None:
            return True
        if approval.call.risk == "high":
            return False
        standing = await self._load(self._slot_id(approval, channel))
        named = None if standing is None else _slot(standing)
        return named is not None and await self._takes(*named, approval)

    # -- turns ------------------------------------------------------------------------------------------------------

    async def take_turn(self, approval: Approval, channel: str, seconds: float) -> Record | None:
        """Work alone on what this call shares with identical ones: None when somebody does.

        A turn ends with its process, where that can be seen, and lapses by itself after so many seconds.
        """
        id = card_id(self._runs.tenant, channel, approval.call.fingerprint, "turn")
        now = await self._runs.now()
        standing = await self._load(id)
        if standing is not None and (standing.due or 0.0) > now and not is_dead(str(thaw(standing.body)["by"])):
            return None
        body = freeze({"turn": secrets.token_hex(8), "by": this_worker()})
        row = Record("card", self._runs.tenant, id, body, due=now + seconds)
        return row if await self._write(id, row.body, standing, due=row.due) else None

    async def end_turn(self, turn: Record) -> None:
        """Let others have their turn."""
        standing = await self._load(turn.id)
        if standing is not None and standing.body == turn.body:
            await sent(partial(self._runs.store.delete, "card", turn.tenant, turn.id, standing.v))

    async def find(self, id: str) -> Card | None:
        """See `core.channels.Cards`."""
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
        """See `core.channels.Cards`."""
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
            crash_point("card.changed:before")
            if (await sent(partial(self._runs.store.swap, fresh, op=op))).won:
                crash_point("card.changed:after")
                return changed
        raise StoreUnavailable(f"card {id} changed {MAX_TRIES} times while one write was tried; try again")

    async def _load(self, id: str) -> Record | None:
        return await self._runs.store.load("card", self._runs.tenant, id)

    async def _insert(self, id: str, body: bytes) -> None:
        """Write a row, unless somebody else was faster: then theirs counts."""
        await self._write(id, body, None)

    async def _write(self, id: str, body: bytes, standing: Record | None, due: float | None = None) -> bool:
        """Write a row in the place of the one that stands; False when somebody else was faster."""
        at = await self._runs.now() + KEPT if due is None else due
        row = Record("card", self._runs.tenant, id, body, due=at, v=standing.v if standing else 0)
        write = self._runs.store.swap if standing else self._runs.store.insert
        return (await sent(partial(write, row, op=secrets.token_hex(8)))).won

    async def _takes(self, id: str, first: str, approval: Approval) -> bool:
        """True while one of the card's approvals waits for the same people as this one, and it is not full."""
        card = await self.find(id)
        known = (first,) if card is None else card.approvals
        return len(known) < MAX_ALIKE and any([await self._waits(each, approval) for each in known])

    async def _waits(self, id: str, like: Approval) -> bool:
        found = split_approval_id(id)
        run = await self._runs.find(found[0]) if found else None
        call = run.call(found[1]) if run is not None and found else None
        if run is None or call is None or call.state is not CallState.PENDING:
            return False
        return like.like(Approval(run, call)) and _asked(Approval(run, call)) == _asked(like)


def _asked(approval: Approval) -> str:
    """Who is asked, where; and the files that are approved with it, which the fingerprint does not hold."""
    files = " ".join(f"{file.name} {file.size} {file.sha256}" for file in approval.call.operands)
    return f"{chain_sha256(approval.call)} {approval.call.stage} {approval.run.env} {files}"


def _joined(card: Card, approval: str) -> Card:
    if approval in card.approvals:
        return card
    return Card(card.id, card.channel, (*card.approvals, approval), card.places)


def shown_by(record: Record) -> tuple[str, ...] | str:
    """The approvals that a row shows, or the card that it leads to: none for a turn. Raises `SnapshotError`."""
    body = thaw(record.body)
    if isinstance(body, dict) and not {"turn", "card"}.isdisjoint(body):
        return str(body.get("card", ""))
    card = _read(record)
    return card.approvals if isinstance(card, Card) else card


def _slot(record: Record) -> tuple[str, str] | None:
    """The card that a slot names, and its first approval."""
    body = thaw(record.body)
    return (str(body["card"]), str(body["first"])) if set(body) == {"card", "first"} else None


def _read(record: Record) -> Card | str:
    """The card, or the id of the card that this row points to."""
    try:
        body = thaw(record.body)
        return str(body["card"]) if set(body) == {"card"} else _CARD.validate_json(record.body)
    except ValidationError as error:
        raise SnapshotError(f"card {record.id} is not readable: {error.errors()[0]['msg']}") from None
