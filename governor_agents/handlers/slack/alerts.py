"""Who was told of what: an updated card rings nobody's bell; whoever is asked later, or again, is told in its thread.

Each telling is a place of the card too, under a name that says all about it: where, in which round (stage and digest),
with how many reminders still to come, and whom. What is to be told next follows from those and the record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from governor_agents.core.channels import Card
from governor_agents.core.records import Approval
from governor_agents.handlers.message import Message
from governor_agents.handlers.slack.blocks import mention, section, texts
from governor_agents.handlers.slack.targets import Target

_ALERT = "alert"

Json = Any


@dataclass(frozen=True, slots=True)
class Alert:
    """People who were told once: at ``target``, in this ``round``, when ``left`` reminders were still to come."""

    target: str
    round: str
    left: int
    users: tuple[str, ...]

    @property
    def to(self) -> str:
        """Its name among the places of the card."""
        return " ".join((_ALERT, self.target, self.round, str(self.left), ",".join(self.users)))


def told(card: Card) -> Iterator[Alert]:
    """What was told so far."""
    for place in card.places:
        parts = place.to.split(" ")
        if parts[0] == _ALERT and len(parts) == 5:
            yield Alert(parts[1], parts[2], int(parts[3]), tuple(filter(None, parts[4].split(","))))


def is_alert(to: str) -> bool:
    """True for the name of a telling, and no card."""
    return to.startswith(f"{_ALERT} ")


def due(target: Target, approval: Approval, before: Iterable[Alert]) -> Alert | None:
    """What is to be told at this target now; None when everyone there knows."""
    call = approval.call
    now = Alert(target.to, f"{call.stage}.{call.digest[:12]}", len(call.reminders), target.users)
    same = [alert for alert in before if alert.target == now.target and alert.round == now.round]
    if not same or now.left < min(alert.left for alert in same):
        return now
    known = {user for alert in same for user in alert.users}
    fresh = tuple(user for user in target.users if user not in known)
    return Alert(now.target, now.round, min(alert.left for alert in same), fresh) if fresh else None


def telling(alert: Alert, approval: Approval, before: Iterable[Alert]) -> tuple[list[Json], str]:
    """Blocks and text of what is said: that something is asked, or is still, with a mention of each who is told."""
    message = Message.of(approval, paths=False)
    again = any(one.target == alert.target and one.round == alert.round and one.left > alert.left for one in before)
    until = f" It can be decided until {message.deadline}." if message.deadline else ""
    text = ("This still waits for a decision." if again else "This waits for your decision now.") + until
    return [section(*mention(alert.users), *texts(text))], text
