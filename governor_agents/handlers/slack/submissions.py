"""A modal that was submitted: the decision, comment or hand-over that somebody put into it."""

from __future__ import annotations

from dataclasses import replace

from governor_agents.core.calls import Json
from governor_agents.core.channels import Desk
from governor_agents.core.records import Decision
from governor_agents.errors import ArgumentsError, ReasonRequired
from governor_agents.handlers.forms import Form
from governor_agents.handlers.message import Message
from governor_agents.handlers.slack import modals
from governor_agents.handlers.slack.actors import Actor
from governor_agents.handlers.slack.behind import CHANNEL, Behind, decide, look
from governor_agents.handlers.slack.clicks import Outcome, full_request, said
from governor_agents.handlers.slack.controls import APPROVE, COMMENT, DELEGATE, EDIT, REJECT, RESPOND
from governor_agents.handlers.slack.modals import ANSWER, CONFIRM, REASON, TEXT, TO, Origin
from governor_agents.handlers.slack.payloads import Payload, at, malformed, text_at
from governor_agents.handlers.visible import visible

CLEAR = {"response_action": "clear"}


def origin_of(payload: Payload) -> Origin:
    """The card that the modal was opened from. Raises `Refused`."""
    origin = Origin.of(text_at(payload, "view", "private_metadata"))
    if origin is None:
        raise malformed("the modal is none of this app's")
    return origin


async def submit(desk: Desk, actor: Actor, payload: Payload) -> Outcome:
    """What a modal submitted by a confirmed actor comes to. Raises `Refused`, and what the desk raises."""
    origin, values = origin_of(payload), at(payload, "view", "state", "values")
    if origin.spot.team != actor.team:
        raise malformed("the modal comes from another workspace")
    behind = await look(desk, origin.value, origin.spot)
    action = text_at(payload, "view", "callback_id")
    if action == EDIT:
        return Outcome(await _look_at_edit(desk, behind, origin, values))
    try:
        return await _act(desk, behind, action, origin, values, actor)
    except ReasonRequired:
        return Outcome(errors({REASON: "the policy asks for a reason"}))


def errors(by_block: dict[str, str]) -> Json:
    """Errors that Slack shows at the inputs of these blocks; the modal stays open."""
    return {"response_action": "errors", "errors": by_block}


def instead(title: str, text: str) -> Json:
    """The modal's place is taken by words, cut where they are longer than Slack takes."""
    return {"response_action": "update", "view": modals.notice(title, text[: 10 * modals.TEXT_ROOM])}


async def _act(desk: Desk, behind: Behind, action: str, origin: Origin, values: Json, actor: Actor) -> Outcome:
    if action == COMMENT:
        return await _comment(desk, behind, values, actor)
    if action == DELEGATE:
        return await _delegate(desk, behind, values, actor)
    decision = _decision(action, origin, values)
    if decision is None:
        return Outcome(errors({ANSWER: "this may not be empty"}))
    found = said(await decide(desk, behind, decision, actor))
    return Outcome(CLEAR, words=found.words)


def _decision(action: str, origin: Origin, values: Json) -> Decision | None:
    """The decision in a modal, None for an answer that was left empty. Raises `Refused`."""
    reason = modals.given(values, REASON) or ""
    if action == APPROVE:
        return Decision.approve(reason)
    if action == REJECT:
        return Decision.reject(reason)
    if action == RESPOND:
        answer = modals.given(values, ANSWER) or ""
        return Decision.respond(answer, reason) if answer.strip() else None
    if action == CONFIRM:
        try:
            return Decision.edit(origin.args.encode(), reason)
        except (ArgumentsError, UnicodeEncodeError):
            raise malformed("the edited arguments are no JSON") from None
    raise malformed("no modal is called so")


async def _look_at_edit(desk: Desk, behind: Behind, origin: Origin, values: Json) -> Json:
    """The second step of an edit, or what is wrong at which field."""
    behind.asked()
    call = behind.first.call
    form = Form.of(call.args, await desk.tool_schema(behind.first))
    read = form.read(modals.filled(form, values))
    first = form.fields[0].name
    if read.args is None:
        return errors({name or first: text for name, text in read.errors.items()})
    if not read.changed:
        return errors({first: "nothing was changed"})
    edited = Origin(origin.value, origin.spot, read.args.decode())
    headline = Message.of(replace(behind.first, call=replace(call, args=read.args)), paths=False).headline
    view = modals.confirm(edited, headline, read.changed, needed=call.reason_required)
    if view is None:
        page = "; open the full request" if full_request(desk, behind) else ""
        return errors({first: f"the new arguments are too large for Slack{page}"})
    return {"response_action": "update", "view": view}


async def _comment(desk: Desk, behind: Behind, values: Json, actor: Actor) -> Outcome:
    text = modals.given(values, TEXT) or ""
    if not text.strip():
        return Outcome(errors({TEXT: "this may not be empty"}))
    try:
        for approval in behind.asked():
            await desk.comment(approval.id, text, by=actor.address, channel=CHANNEL)
    except ArgumentsError as error:
        return Outcome(errors({TEXT: visible(str(error))}))
    return Outcome(CLEAR, words="Your comment is recorded.")


async def _delegate(desk: Desk, behind: Behind, values: Json, actor: Actor) -> Outcome:
    people = behind.first.call.delegates
    chosen = modals.given(values, TO) or ""
    if not (chosen.isascii() and chosen.isdigit() and int(chosen) < len(people)):
        return Outcome(errors({TO: "choose somebody"}))
    for approval in behind.theirs(await desk.voter(actor.address)):
        await desk.delegate(approval.id, to=people[int(chosen)], by=actor.address, channel=CHANNEL)
    return Outcome(CLEAR, words="Your hand-over is recorded.")
