"""The controls of a card, as they are posted and as they come back: names of actions, and values that say nothing.

A control carries ``CARD_ID.TAG``. The id is opaque and proves nothing. The tag is a hash over the approvals that wait
behind the card, with the nonce and the digest of each: it names exactly what was shown, so that a click on an older
rendering (other arguments, fewer identical calls) is told so instead of counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import sha256

from governor_agents.core.calls import freeze
from governor_agents.core.records import Approval, waiting_alike

APPROVE = "approve"
REJECT = "reject"
EDIT = "edit"
RESPOND = "respond"
CLAIM = "claim"
RELEASE = "release"
COMMENT = "comment"
DELEGATE = "delegate"
"""The ``action_id`` of each button."""

OPEN = "open"
"""The ``action_id`` of the link to the full request. Slack tells of such clicks as well; they ask for nothing."""

_VALUE = re.compile(r"([a-z0-9]{1,64})\.([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a message stands: the ``ref`` of a card's place is this as JSON."""

    team: str
    channel: str
    ts: str

    def ref(self) -> str:
        """As the ``ref`` of a `Place`."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def of(cls, ref: str) -> Spot | None:
        """The spot behind a ``ref``; None for an empty one."""
        found = json.loads(ref) if ref else {}
        return cls(str(found["team"]), str(found["channel"]), str(found["ts"])) if found else None


def waiting(approvals: Iterable[Approval]) -> tuple[Approval, ...]:
    """Those of a card's approvals that are shown and still wait for people, in one order: all are alike."""
    return waiting_alike(sorted(approvals, key=lambda approval: approval.id))


def tag(approvals: Iterable[Approval]) -> str:
    """What a card shows of these approvals, as 128 bits in hex."""
    shown = [[each.id, each.call.nonce, each.call.digest] for each in waiting(approvals)]
    return sha256(freeze(shown)).hexdigest()[:32]


def value(card: str, approvals: Iterable[Approval]) -> str:
    """What each control of a card carries."""
    return f"{card}.{tag(approvals)}"


def read_value(text: object) -> tuple[str, str] | None:
    """Card id and tag; None for whatever is not such a value."""
    found = _VALUE.fullmatch(text) if isinstance(text, str) else None
    return (found[1], found[2]) if found else None
