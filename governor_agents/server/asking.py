"""The page of a request: what will run, who decides, and the forms for whoever may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from starlette.responses import Response

from governor_agents.core.identity import Voter
from governor_agents.core.people import why_not
from governor_agents.core.records import Approval, CallState
from governor_agents.errors import NotFound
from governor_agents.handlers.forms import Form as ArgumentsForm
from governor_agents.handlers.links import request_page
from governor_agents.handlers.message import Message
from governor_agents.handlers.visible import visible
from governor_agents.handlers.words import after_decision
from governor_agents.server.access import DECIDE
from governor_agents.server.pages import page
from governor_agents.server.posted import Form
from governor_agents.server.reading import Reader, approvals_of, may_read, seen_of, waiting
from governor_agents.server.refusal import not_found
from governor_agents.server.site import Site
from governor_agents.server.words import form_token, word_for

TONES = {
    CallState.PENDING: "pending",
    CallState.APPROVED: "good",
    CallState.SUCCEEDED: "good",
    CallState.REJECTED: "bad",
    CallState.EXPIRED: "bad",
    CallState.CANCELLED: "bad",
    CallState.SUPERSEDED: "bad",
    CallState.FAILED: "bad",
}


@dataclass(frozen=True, slots=True)
class Told:
    """What a page says beside the request: its status, a problem, what was just done, errors by field.

    ``given`` is what was typed, shown again.
    """

    status: int = 200
    problem: str = ""
    done: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict, repr=False)


async def readable(site: Site, reader: Reader, subject: str) -> tuple[tuple[Approval, ...], Voter]:
    """What stands under this id, for somebody who may see it. Raises `Refused`, alike for what is not there."""
    voter = await site.desk.voter(reader.by)  # first, so that an unknown id takes as long as one of others
    try:
        approvals = await approvals_of(site.desk, subject)
    except NotFound:
        raise not_found(id=subject, by=reader.by) from None
    gone = voter.service or not voter.names  # a link does not outlive the place of its person in the directory
    identities = site.governor.identities
    known = identities.directory is None or identities.person(reader.by) is not None  # nor that of its address
    if gone or not ((reader.link and known) or any(may_read(each, voter) for each in approvals)):
        raise not_found(id=subject, by=reader.by)
    return approvals, voter


async def show(site: Site, reader: Reader, subject: str, told: Told) -> Response:
    """The page. A link that was used shows the outcome alone. Raises `Refused`."""
    approvals, voter = await readable(site, reader, subject)
    open_ = _asked_of(site, approvals, voter)
    first = (open_ or approvals)[0]
    refused = refusal_of(site, first, voter) if open_ else ""
    used = reader.link and bool((await site.desk.tokens.look(reader.secret, DECIDE)).answer)
    answered = used and (not open_ or any(vote.by == voter.id for vote in first.call.votes))
    message = Message.of(
        first, alike=[each.id for each in (open_ or approvals) if each is not first and each.like(first)]
    )
    common: dict[str, object] = {
        "title": message.headline,
        "who": reader.by,
        "leave": reader.leave,
        "message": message,
        "tone": TONES.get(first.call.state, "pending"),
        "holds": first.call.taken_up is not None and first.call.taken_up.by == voter.id,
        "then": "" if open_ or first.call.votes == () else visible(after_decision(first, first.run)),
        "told": told,
        "used": used,
        "full": request_page(site.settings.public_url, first.id),
    }
    if answered:
        return page("outcome.html", status=told.status, **common)
    common |= {"forms": None, "refused": visible(refused)}
    if open_ and not refused:
        fields = ArgumentsForm.of(first.call.args, await site.desk.tool_schema(first))
        seen = seen_of(open_)
        common["forms"] = {
            "token": form_token(reader.secret, reader.place, seen),
            "seen": seen,
            "word": word_for(reader.secret, seen),
            "fields": fields.fields,
        }
    return page("request.html", status=told.status, **common)


def _asked_of(site: Site, approvals: tuple[Approval, ...], voter: Voter) -> tuple[Approval, ...]:
    """Of identical calls those that this person may decide: one may have come further, or its seat have been handed
    over. All that wait, where that is none of them.
    """
    theirs = (each for each in approvals if each.call.state is CallState.PENDING and not refusal_of(site, each, voter))
    return waiting(theirs) or waiting(approvals)


def refusal_of(site: Site, approval: Approval, voter: Voter) -> str:
    """Why this person may not decide it now, in words; empty when they may."""
    requester = site.governor.identities.names(approval.run.requester)
    return why_not(approval.call, voter, requester=requester)


def proves(form: Form, reader: Reader) -> None:
    """Raise `Refused` unless the form is from this page, as this reader was shown it."""
    form.prove(form_token(reader.secret, reader.place, form.get("seen", "")))


def tries(reader: Reader) -> str:
    """What wrong words are counted under: the page's secret, but not so that anybody could read it."""
    return f"word:{sha256(reader.secret.encode()).hexdigest()[:32]}"
