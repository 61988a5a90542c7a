"""What a form on the page of a request does: decide, edit, comment, hand over, take up."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from governor_agents.core.records import Approval, Decision
from governor_agents.errors import ArgumentsError, DecisionRefused, NotFound, TokenUsed
from governor_agents.handlers.answers import refusal
from governor_agents.handlers.visible import visible
from governor_agents.server import decisions
from governor_agents.server.access import DECIDE
from governor_agents.server.asking import Told, proves, readable, show, tries
from governor_agents.server.posted import Form, read_form
from governor_agents.server.reading import Reader, Seen, read_seen
from governor_agents.server.refusal import Refused, forged, malformed
from governor_agents.server.settings import Rate
from governor_agents.server.site import CHANNEL, Site
from governor_agents.server.words import typed, word_for

WRONG_WORDS = Rate(20, 600.0)
"""How often a wrong word may be typed on one page."""


async def answer(request: Request, site: Site, reader: Reader, subject: str) -> Response:
    """Do what the form says, and show what became of it. Raises `Refused`, `StoreError`."""
    form = await read_form(request, site.settings)
    approvals, _ = await readable(site, reader, subject)
    proves(form, reader)
    seen = read_seen(form.get("seen", ""))
    if not seen:
        raise malformed("The form says nothing of what it is about.")
    _check_page(seen, approvals, reader)
    await site.take(f"person:{reader.by}", site.settings.rates.person, by=reader.by)
    try:
        done = await _do(site, reader, seen, form)
    except Refused as refused:
        if refused.status != 422:
            raise
        site.refused(request.scope, refused.reason, id=seen[0][0], by=reader.by)
        return await show(site, reader, subject, Told(422, refused.words, given=form))
    except (ArgumentsError, DecisionRefused, NotFound) as error:  # noted where it was refused
        said = refusal(error)
        return await show(site, reader, subject, Told(said.status, said.text, given=form))
    if isinstance(done, Told):
        site.refused(request.scope, "wrong_fields", id=seen[0][0], by=reader.by)
        return await show(site, reader, subject, done)
    return await show(site, reader, subject, Told(done=done))


def _check_page(seen: Seen, approvals: tuple[Approval, ...], reader: Reader) -> None:
    """Raise `Refused` for a form about anything but its page, each thing once.

    Whoever has a link or a session knows its secret, and can make a form token for whatever they like.
    """
    ids = [id for id, _ in seen]
    if len(set(ids)) < len(ids) or not {approval.id for approval in approvals}.issuperset(ids):
        raise forged("other_request", by=reader.by)


async def _do(site: Site, reader: Reader, seen: Seen, form: Form) -> str | Told:
    await _check_word(site, reader, form)
    does = {
        "decide": _decide,
        "edit": _edit,
        "comment": _comment,
        "hand-over": _hand_over,
        "take-up": _take_up,
        "release": _release,
    }
    known = does.get(form.get("do", ""))
    if known is None:
        raise malformed("The form does not say what it is for.")
    if known not in (_decide, _edit):  # those use the link up, and look by themselves
        await _check_unused(site, reader)
    return await known(site, reader, seen, form)


async def _check_unused(site: Site, reader: Reader) -> None:
    """A link that was used is over for all else too. Raises `Refused`."""
    if reader.link and (await site.desk.tokens.look(reader.secret, DECIDE)).answer:
        raise Refused(410, TokenUsed.code, str(TokenUsed()), by=reader.by)


async def _check_word(site: Site, reader: Reader, form: Form) -> None:
    word, given = word_for(reader.secret, form["seen"]), form.text("word")
    if typed(given, word):
        return
    if given.strip():
        await site.take(tries(reader), WRONG_WORDS, by=reader.by)
    raise Refused(422, "wrong_word", f"Type the word {word} to confirm. Nothing was sent.")


async def _decide(site: Site, reader: Reader, seen: Seen, form: Form) -> str | Told:
    await decisions.decide(site, reader, seen, decisions.decision_in(form))
    return "Your decision is recorded."


async def _edit(site: Site, reader: Reader, seen: Seen, form: Form) -> str | Told:
    if len(seen) > 1:
        raise malformed("Several identical calls wait here; edit each of them on its own page.")
    approval = await site.desk.approval(seen[0][0])
    filled = await decisions.edit_in(site, form, approval)
    if filled.args is None:
        problem = filled.errors.get("", "Some fields do not fit; see below. Nothing was sent.")
        return Told(422, problem, errors=filled.errors, given=form)
    if filled.args == approval.call.args and approval.call.digest == seen[0][1]:
        raise malformed("Nothing was edited. Change an argument, or approve it as it is.")
    await decisions.decide(site, reader, seen, Decision.edit(filled.args, decisions.words_in(form, "reason")))
    return "Your edited arguments are recorded."


async def _comment(site: Site, reader: Reader, seen: Seen, form: Form) -> str | Told:
    text = decisions.words_in(form, "comment")
    if not text:
        raise malformed("Write a comment first.")
    for id, _ in seen:
        await site.desk.comment(id, text, by=reader.by, channel=CHANNEL)
    return "Your comment stands beside the request."


async def _hand_over(site: Site, reader: Reader, seen: Seen, form: Form) -> str | Told:
    given = form.get("to", "")
    for id, _ in seen:
        delegates = (await site.desk.approval(id)).call.delegates
        to = next((each for each in delegates if visible(each) == given), "")
        if not to:
            raise malformed("Choose somebody to whom the policy lets your seat be handed.")
        await site.desk.delegate(id, to=to, by=reader.by, channel=CHANNEL)
    return f"{given} is asked too, and may decide in your place."


async def _take_up(site: Site, reader: Reader, seen: Seen, form: Form) -> str | Told:
    for id, _ in seen:
        await site.desk.take_up(id, by=reader.by, channel=CHANNEL)
    return "The others are told that you look at it."


async def _release(site: Site, reader: Reader, seen: Seen, form: Form) -> str | Told:
    for id, _ in seen:
        await site.desk.take_up(id, by=reader.by, channel=CHANNEL, release=True)
    return "The others are told that you no longer look at it."
