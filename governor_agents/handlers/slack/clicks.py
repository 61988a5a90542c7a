"""A click on a card: decides at once, or opens a modal that asks for what is missing.

What a click or a submitted modal comes to is an `Outcome`; refusals are raised.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from governor_agents.core.calls import Json
from governor_agents.core.channels import Desk
from governor_agents.core.people import why_not
from governor_agents.core.records import Approval, Decision
from governor_agents.errors import NotAnApprover
from governor_agents.handlers.forms import Form
from governor_agents.handlers.links import request_page
from governor_agents.handlers.slack import modals
from governor_agents.handlers.slack.actors import Actor, Clients
from governor_agents.handlers.slack.behind import CHANNEL, Behind, decide, look
from governor_agents.handlers.slack.controls import (
    APPROVE,
    CLAIM,
    COMMENT,
    DELEGATE,
    EDIT,
    OPEN,
    REJECT,
    RELEASE,
    RESPOND,
    Spot,
    waiting,
)
from governor_agents.handlers.slack.modals import Origin
from governor_agents.handlers.slack.payloads import Payload, Refused, at, malformed, text_at
from governor_agents.handlers.slack.trouble import TROUBLE, word_of
from governor_agents.handlers.visible import visible

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request came to: a body for Slack, what is left to do, and words for whoever was kept waiting."""

    body: Json = None
    then: Callable[[], Awaitable[None]] | None = None
    words: str = ""


def action_of(payload: Payload) -> tuple[str, str]:
    """The name of the action and the value of its control. Raises `Refused`."""
    actions = at(payload, "actions")
    if not isinstance(actions, list) or len(actions) != 1:
        raise malformed("one click is one action")
    return text_at(actions, 0, "action_id"), text_at(actions, 0, "value")


def spot_of(payload: Payload, actor: Actor) -> Spot | None:
    """The message that was clicked on, as Slack says; None for a click that is on no message."""
    container = at(payload, "container")
    if text_at(container, "type") != "message":
        return None
    return Spot(actor.team, text_at(container, "channel_id"), text_at(container, "message_ts"))


async def click(desk: Desk, clients: Clients, actor: Actor, payload: Payload) -> Outcome:
    """What a click by a confirmed actor comes to. Raises `Refused`, and what the desk raises."""
    action, value = action_of(payload)
    if action == OPEN:
        return Outcome()
    spot = spot_of(payload, actor)
    if spot is None:
        raise malformed("this click was on no message")
    behind = await look(desk, value, spot)
    if action == APPROVE and not behind.first.call.reason_required:
        return said(await decide(desk, behind, Decision.approve(), actor))
    if action in (CLAIM, RELEASE):
        for approval in behind.theirs(await desk.voter(actor.address)):
            await desk.take_up(approval.id, by=actor.address, channel=CHANNEL, release=action == RELEASE)
        return Outcome(words="That is noted.")
    if action in _DECISIONS and not waiting(behind.approvals):  # too late: told now, not after a modal
        return said(await decide(desk, behind, _DECISIONS[action](behind.first), actor))
    behind.asked()  # raises when what is shown is not what waits
    if action in _DECISIONS:
        await _may_decide(desk, behind, actor)
    view = await _view(desk, action, behind, Origin(value, spot))
    return Outcome(then=lambda: _open(clients, actor, text_at(payload, "trigger_id"), view))


_DECISIONS: dict[str, Callable[[Approval], Decision]] = {
    APPROVE: lambda _: Decision.approve(),
    REJECT: lambda _: Decision.reject(),
    RESPOND: lambda approval: Decision.respond(approval.call.told),
    EDIT: lambda approval: Decision("edit", args=approval.call.args),
}
"""What a modal leads to, as asked of a request that was decided: whoever decided just so is told that it counts."""


async def _may_decide(desk: Desk, behind: Behind, actor: Actor) -> None:
    """Refuse now who would be refused when the modal comes back. The transition itself asks again."""
    voter = await desk.voter(actor.address)
    if why := why_not(behind.theirs(voter)[0].call, voter):
        raise Refused(200, NotAnApprover.code, visible(why))


def said(approval: Approval) -> Outcome:
    """What to tell of a decision that counts."""
    waits = "; more approvals are needed" if approval.call.state.value == "pending" else ""
    return Outcome(words=f"Your decision is recorded{waits}.")


async def _view(desk: Desk, action: str, behind: Behind, origin: Origin) -> Json:
    """The modal that this action opens. Raises `Refused` for an action that no card has."""
    headline, needed = behind.headline, behind.first.call.reason_required
    if action in (APPROVE, REJECT):
        return modals.reason(action, origin, headline, needed=needed)
    if action == RESPOND:
        return modals.respond(origin, headline, needed=needed)
    if action == COMMENT:
        return modals.comment(origin, headline)
    url = full_request(desk, behind)
    if action == DELEGATE:
        found = modals.delegate(origin, headline, behind.first.call.delegates)
        if not behind.first.call.delegates:
            return modals.notice("Hand over", "The policy names nobody to whom this may be handed over.")
        return found or modals.notice("Hand over", "This cannot be handed over in Slack. " + _elsewhere(url), url)
    if action == EDIT:
        form = Form.of(behind.first.call.args, await desk.tool_schema(behind.first))
        found = modals.edit(form, origin, headline)
        return found or modals.notice("Edit", "These arguments are too large to edit in Slack. " + _elsewhere(url), url)
    raise malformed("no card has such a control")


def full_request(desk: Desk, behind: Behind) -> str:
    """The page of the request, empty when no pages are served."""
    return request_page(desk.public_url, behind.first.id) if desk.public_url else ""


def _elsewhere(url: str) -> str:
    return "Open the full request." if url else "Use the command line: governor-agents inbox."


async def _open(clients: Clients, actor: Actor, trigger: str, view: Json) -> None:
    """Open a modal. That it did not open decides nothing; whoever clicked sees so and clicks again."""
    client = await clients(actor.team)
    if client is None:
        return
    try:
        await client.views_open(trigger_id=trigger, view=view)
    except TROUBLE as error:
        log.warning("slack: a modal could not be opened: %s", word_of(error) or type(error).__name__)
