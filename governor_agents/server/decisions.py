"""From a form to a decision, and to the desk: at most one answer for each link, however often it is sent."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from hashlib import sha256

from governor_agents.core.records import Approval, Decision
from governor_agents.errors import ArgumentsError, DecisionRefused, TokenExpired, TokenUsed
from governor_agents.handlers.forms import Filled
from governor_agents.handlers.forms import Form as ArgumentsForm
from governor_agents.server.access import DECIDE
from governor_agents.server.posted import Form
from governor_agents.server.reading import Reader, Seen
from governor_agents.server.refusal import malformed
from governor_agents.server.site import CHANNEL, Site

MOST_WORDS = 8_000
"""Characters of a reason, an answer or a comment."""


def decision_in(form: Form) -> Decision:
    """What a form decides; an edit is read by `edit_in`. Raises `Refused`."""
    reason = words_in(form, "reason")
    match form.get("decision", ""):
        case "approve":
            return Decision.approve(reason)
        case "reject":
            return Decision.reject(reason)
        case "respond":
            answer = words_in(form, "answer")
            if not answer:
                raise malformed("Write the answer that the agent is to get.")
            return Decision.respond(answer, reason)
    raise malformed("Choose what you decide.")


def words_in(form: Form, name: str) -> str:
    """What a person wrote in a field. Raises `Refused` for what is too long."""
    text = form.text(name).strip()
    if len(text) > MOST_WORDS:
        raise malformed(f"Write at most {MOST_WORDS} characters.")
    return text


async def edit_in(site: Site, form: Form, approval: Approval) -> Filled:
    """What came back in the form for this approval's arguments."""
    return ArgumentsForm.of(approval.call.args, await site.desk.tool_schema(approval)).read(form)


async def decide(site: Site, reader: Reader, seen: Seen, decision: Decision) -> None:
    """Cast a decision on what was shown. Whoever stops waiting does not stop it.

    Raises `DecisionRefused`, `NotFound`, `ArgumentsError`, `StoreError`. Of several identical calls each is decided.
    """
    work = asyncio.ensure_future(_decide(site, reader, seen, decision))
    work.add_done_callback(lambda done: done.cancelled() or done.exception())  # it was told, or nobody waits any more
    await asyncio.shield(work)


async def _decide(site: Site, reader: Reader, seen: Seen, decision: Decision) -> None:
    answer, ours = _answer(decision, seen), False
    if reader.link:
        try:
            ours = not (await site.desk.tokens.look(reader.secret, DECIDE)).answer
            await site.desk.tokens.use(reader.secret, DECIDE, answer)
        except (TokenExpired, TokenUsed) as error:
            site.desk.refused("decide", error.code, seen[0][0], by=reader.by, channel=CHANNEL)
            raise
    counted = 0
    try:
        for id, digest in seen:
            await site.desk.decide(id, decision, by=reader.by, digest=digest, channel=CHANNEL)
            counted += 1
    except (ArgumentsError, DecisionRefused):
        if ours and not counted:  # nothing was decided by it, so the link is good for another answer
            with suppress(TokenExpired):
                await site.desk.tokens.release(reader.secret, DECIDE, answer)
        raise


def _answer(decision: Decision, seen: Seen) -> str:
    """The decision, and what it is about, as one short text: an identical call that comes later is another answer."""
    about = [part for pair in seen for part in pair]
    parts = (decision.kind, decision.reason, decision.answer, (decision.args or b"").decode(), *about)
    digest = sha256("\0".join(f"{len(part)}:{part}" for part in parts).encode("utf-8", "backslashreplace"))
    return f"{decision.kind}:{digest.hexdigest()[:32]}"
