"""What somebody may see of a request, and what of it a form stands for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from governor_agents.core.calls import freeze, thaw
from governor_agents.core.channels import Desk
from governor_agents.core.identity import Voter
from governor_agents.core.records import Approval, waiting_alike
from governor_agents.errors import ArgumentsError, NotFound

Seen = tuple[tuple[str, str], ...]
"""What a page asked about: approvals and the digests that were shown, in order."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who looks, by which proof. ``secret`` is what only their browser has, ``place`` the path of their page.

    ``by`` is the address that was proved; ``leave`` is the token of the form that logs out; on a ``link`` from a mail
    nobody is logged in.
    """

    by: str
    secret: str = field(repr=False)
    place: str = field(repr=False)
    leave: str = field(default="", repr=False)
    link: bool = False


async def approvals_of(desk: Desk, subject: str) -> tuple[Approval, ...]:
    """The approvals that a card, or an approval's own id, stands for; never none. Raises `NotFound`."""
    card = await desk.cards.find(subject) if subject.isalnum() else None
    ids = (subject,) if card is None else card.approvals
    found = [await desk.approval(id) for id in ids]
    if not found:
        raise NotFound
    return tuple(found)


def waiting(approvals: Iterable[Approval]) -> tuple[Approval, ...]:
    """Those of them that wait for people and are shown: the first, and whatever is like it."""
    return waiting_alike(each for each in approvals if not each.run.cancel)


def seen_of(approvals: Iterable[Approval]) -> str:
    """What a page shows, in the form in which its form gives it back."""
    return freeze([[each.id, each.call.digest] for each in approvals]).decode()


def read_seen(text: str) -> Seen:
    """What a form gave back. Whether the page really showed it, its form token says; empty when it is nothing."""
    try:
        found = thaw(text)
    except ArgumentsError:
        return ()
    pairs = found if isinstance(found, list) else []
    good = all(isinstance(each, list) and [type(part) for part in each] == [str, str] for each in pairs)
    return tuple((id, digest) for id, digest in pairs) if good else ()


def may_read(approval: Approval, voter: Voter) -> bool:
    """True for everyone who is, was or will be asked, who may be handed it, who decided, and who asked for it."""
    call = approval.call
    stages = (*call.passed_over, *call.stages)
    concerned = {person for stage in stages for person in stage.people}
    concerned.update(call.delegates, (each.to for each in call.handed), (vote.by for vote in call.votes))
    concerned.add(approval.run.requester)
    return not voter.service and not concerned.isdisjoint((*voter.names, *voter.stands_for))
