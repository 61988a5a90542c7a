"""What stands behind a control: the card, its approvals as they are now, and whether those are what was shown."""

from __future__ import annotations

from dataclasses import dataclass

from governor_agents.core.channels import Card, Desk
from governor_agents.core.identity import Voter
from governor_agents.core.people import why_not
from governor_agents.core.records import Approval, Decision
from governor_agents.errors import NotFound, StaleDecision
from governor_agents.handlers.answers import refusal
from governor_agents.handlers.message import Message
from governor_agents.handlers.slack.actors import Actor
from governor_agents.handlers.slack.blocks import Controls, draw
from governor_agents.handlers.slack.controls import Spot, read_value, tag, waiting
from governor_agents.handlers.slack.payloads import Refused, malformed
from governor_agents.handlers.slack.targets import team_of

CHANNEL = "slack"
"""What votes and refused requests name this channel by."""


@dataclass(frozen=True, slots=True)
class Behind:
    """A card and its approvals. ``fresh``: what waits is exactly what the control was posted with."""

    card: Card
    approvals: tuple[Approval, ...]
    fresh: bool

    @property
    def first(self) -> Approval:
        """The approval that is shown; the others are identical calls."""
        return (waiting(self.approvals) or self.approvals)[0]

    @property
    def headline(self) -> str:
        """What people read above it, visible."""
        return Message.of(self.first, paths=False).headline

    @property
    def whole(self) -> bool:
        """True when a card has room for the arguments: without that none has a control that lets them run."""
        return draw(self.first, Controls("")).whole

    def asked(self) -> tuple[Approval, ...]:
        """The approvals that a decision is about: all that wait, or those that were decided when none does.

        Raises `Refused` when what waits is not what was shown.
        """
        waits = waiting(self.approvals)
        if waits and not self.fresh:
            raise Refused(
                200, StaleDecision.code, "This request has changed since the card was shown; look at it again."
            )
        return waits or self.approvals

    def theirs(self, voter: Voter) -> tuple[Approval, ...]:
        """Of what is asked all that this voter may decide: one of several identical calls may have come further, or its
        seat have been handed over. All of it where that is nothing: the transition says why. Raises `Refused`.
        """
        asked = self.asked()
        return tuple(each for each in waiting(asked) if not why_not(each.call, voter)) or asked


async def look(desk: Desk, value: str, spot: Spot) -> Behind:
    """What a control stands for; ``spot`` is the message it was clicked on.

    An unknown card, one of another tenant and one of another workspace are refused alike (404). A click on a message
    that is not where this card was posted is refused (403): a copy shows what nobody vouches for. While it is not yet
    written down where the card was posted, nobody can tell (409).
    """
    found = read_value(value)
    if found is None:
        raise malformed("the control carries no card")
    card = await desk.cards.find(found[0])
    if card is None or card.channel.partition(":")[0] != CHANNEL:
        raise _unknown()
    spots = [Spot.of(place.ref) for place in card.places]
    if spot not in spots:
        if any(not place.ref and team_of(place.to) in ("", spot.team) for place in card.places):
            raise Refused(409, "not_ready", "This card is only being set up; click again in a moment.")
        if not any(each is not None and each.team == spot.team for each in spots):
            raise _unknown()
        raise Refused(403, "wrong_place", "This is not the card that was posted; use the original.")
    try:
        approvals = tuple([await desk.approval(id) for id in card.approvals])
    except NotFound:  # its run is no longer kept
        raise _unknown() from None
    return Behind(card, approvals, tag(approvals) == found[1])


def _unknown() -> Refused:
    return Refused(404, NotFound.code, refusal(NotFound()).text)


async def decide(desk: Desk, behind: Behind, decision: Decision, actor: Actor) -> Approval:
    """Count a decision on everything the card stands for; the approval that is shown, as it then stands.

    Raises what `Desk.decide` does. A card of several identical calls is decided call by call, so a replay of the
    request goes on where this one was cut off.
    """
    if decision.kind == "edit" and not behind.fresh and (known := await _edited_so(desk, behind, decision, actor)):
        return known
    if decision.kind != "reject" and waiting(behind.approvals) and not behind.whole:
        raise Refused(403, "not_shown", "This card does not show the arguments whole; open the full request to decide.")
    last = behind.first
    for approval in _before_others(behind.theirs(await desk.voter(actor.address)), decision):
        digest = approval.call.digest
        last = await desk.decide(approval.id, decision, by=actor.address, digest=digest, channel=CHANNEL)
    return last


async def _edited_so(desk: Desk, behind: Behind, decision: Decision, actor: Actor) -> Approval | None:
    """The approval that this person edited just so and that waits for others: the request came twice."""
    by = (await desk.voter(actor.address)).id
    for approval in waiting(behind.approvals):
        if approval.call.args == decision.args and any(v.by == by and v.kind == "edit" for v in approval.call.votes):
            return approval
    return None


def _before_others(approvals: tuple[Approval, ...], decision: Decision) -> tuple[Approval, ...]:
    """Of several identical calls an edit or an answer is meant for one: the first."""
    return approvals[:1] if decision.kind in ("edit", "respond") else approvals
