"""What is worth a mail, and to whom: claims, comments, hand-overs, reminders, and every way in which a request closes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from governor_agents import Decision
from governor_agents.claims import pass_time
from governor_agents.core.records import Approval, CallState, evolve
from governor_agents.core.verdicts import Stage
from governor_agents.handlers.email.standing import ASKED, Standing, news, read, written
from governor_agents.stores import open_store
from governor_agents.testing import MovableClock
from governor_agents.testing.smtp_server import SmtpServer
from tests.mailing import AUDIT, BOSS, CFO, Mailing, mailing, tokens
from tests.unit.test_message import approval_of, decided

PEOPLE = (CFO, BOSS)


@asynccontextmanager
async def told(**verdict: object) -> AsyncIterator[tuple[Mailing, Approval, MovableClock]]:
    """A request of which both approvers have had their mail."""
    clock = MovableClock()
    with SmtpServer() as server:
        async with mailing(server, store=open_store("memory://", clock=clock)) as post:
            approval = await post.asked(people=PEOPLE, **verdict)  # type: ignore[arg-type]
            await post.notify(approval)
            yield post, approval, clock


def counts(post: Mailing) -> tuple[int, ...]:
    return tuple(len(post.server.to(person)) for person in (CFO, BOSS, AUDIT))


async def test_a_claim_is_told_to_the_others() -> None:
    """Who looks at it, and that nobody does any more; not to whoever said so."""
    async with told() as (post, approval, _):
        await post.governor.take_up(approval.id, by=CFO)
        await post.update(approval)
        assert counts(post) == (1, 2, 0) and "cfo@example.com looks at it now." in post.server.to(BOSS)[-1].text()
        await post.governor.take_up(approval.id, by=CFO, release=True)
        await post.update(approval)
        assert "Nobody looks at it any more." in post.server.to(BOSS)[-1].text()


async def test_a_comment_is_told_to_the_others_as_text() -> None:
    """What somebody wrote, with whatever it holds written out."""
    async with told() as (post, approval, _):
        await post.governor.comment(approval.id, "see https://evil.example <b>\u202e", by=CFO)
        await post.update(approval)
        assert counts(post) == (1, 2, 0)
        said = post.server.to(BOSS)[-1].text()
        assert "cfo@example.com wrote: see https:\\u{002F}/evil.example <b>\\u{202E}" in said and tokens(said)


async def test_a_seat_that_is_handed_over_asks_its_new_holder() -> None:
    """The delegate gets a mail with a link; the others hear of it; a seat that moved asks its old holder no longer."""
    async with told(delegates=(AUDIT,)) as (post, approval, _):
        await post.governor.delegate(approval.id, to=AUDIT, by=CFO)
        await post.notify(approval)
        assert counts(post) == (1, 2, 1)
        asked = post.server.to(AUDIT)[0].text()
        assert ASKED in asked and (await post.governor.desk.tokens.look(tokens(asked)[0], "decide")).person == AUDIT
        assert "audit@example.com may decide as well as cfo@example.com" in post.server.to(BOSS)[-1].text()
        await post.governor.decide(approval.id, Decision.reject("no"), by=AUDIT)
        await post.update(approval)
        assert all(
            "Closed: rejected by audit@example.com" in post.server.to(who)[-1].text() for who in (CFO, BOSS, AUDIT)
        )


async def test_who_was_spoken_for_in_one_stage_is_asked_in_the_next() -> None:
    """A delegate approved in the CFO's place; the next stage asks the CFO alone, who gets a mail with a link for it."""
    stages = (Stage(("finance",), PEOPLE), Stage(("the CFO",), (CFO,)))
    async with told(stages=stages, delegates=(AUDIT,)) as (post, approval, _):
        await post.governor.delegate(approval.id, to=AUDIT, by=CFO)
        await post.governor.decide(approval.id, Decision.approve(), by=AUDIT)
        await post.notify(approval)
        mail = post.server.to(CFO)[-1].text()
        assert ASKED in mail and len(post.server.to(CFO)) == 2 and tokens(mail)
        await post.notify(approval)
        await post.governor.decide(approval.id, Decision.approve(), by=CFO)
        assert len(post.server.to(CFO)) == 2 and (await post.now(approval)).call.state is CallState.APPROVED


async def test_a_reminder_goes_to_who_has_not_decided() -> None:
    """With a fresh link, once per reminder; who has voted is left alone."""
    stages = {"reminders": (600.0, 1200.0), "quorum": 2}
    async with told(**stages) as (post, approval, clock):
        await post.governor.decide(approval.id, Decision.approve(), by=CFO)
        await post.update(approval)
        assert counts(post) == (1, 2, 0)
        for mails in (3, 4):
            clock.move(601)
            await post.governor.loop.bridge(post.governor.runs.change(approval.run.id, pass_time))
            for _ in range(2):
                await post.notify(approval)
            assert counts(post) == (1, mails, 0)
            said = post.server.to(BOSS)[-1].text()
            assert "Reminder: it still waits for you until " in said and tokens(said)


async def test_expiry_and_cancellation_are_told() -> None:
    """Nobody is left waiting for a request that no longer waits."""
    async with told() as (post, approval, clock):
        clock.move(4000)
        await post.governor.loop.bridge(post.governor.runs.change(approval.run.id, pass_time))
        await post.update(approval)
        assert counts(post) == (2, 2, 0) and "Closed: expired" in post.server.to(BOSS)[-1].text()
    async with told() as (post, approval, _):
        await post.governor.cancel(approval.run.id, by="local:ops", reason="not needed")
        await post.update(approval)
        assert counts(post) == (2, 2, 0) and "Closed: cancelled" in post.server.to(BOSS)[-1].text()


def after(approval: Approval, **changes: object) -> Approval:
    return Approval(approval.run, evolve(approval.call, **changes))


def said(before: Approval, now: Approval, person: str = CFO) -> tuple[str, ...]:
    return news({"a": Standing.of(before, person)}, {"a": Standing.of(now, person)}, {"a": now}, person)


def test_what_was_told_reads_back() -> None:
    """A place keeps it as text; what cannot be read counts as nothing told."""
    told_of = {"run_a.1": Standing.of(approval_of({}), CFO)}
    assert read(written(told_of)) == told_of
    for broken in ("", "{", "[]", "1", '{"a": [1]}', '{"a": {}}', "null"):
        assert read(broken) == {}


@pytest.mark.parametrize("state", [state for state in CallState if state is not CallState.PENDING])
def test_every_way_of_closing_is_told_once(state: CallState) -> None:
    """From waiting to any other state is one line; from there to where the tool has run is none."""
    before = approval_of({"n": 1})
    vote = decided(before, Decision.approve()).call.votes
    now = after(before, state=state, votes=vote)
    [line] = said(before, now)
    assert line.startswith("Closed: ") and line.endswith(".")
    assert said(now, now) == ()
    if state not in (CallState.REJECTED, CallState.ANSWERED, CallState.EXPIRED):
        for later in (CallState.EXECUTING, CallState.SUCCEEDED, CallState.FAILED, CallState.UNKNOWN):
            told_again = said(
                after(before, state=CallState.APPROVED, votes=vote), after(before, state=later, votes=vote)
            )
            assert told_again == ()


def test_what_was_approved_and_cancelled_after_all_is_told_too() -> None:
    """And what waits again under a stricter policy asks again."""
    waits = approval_of({"n": 1})
    vote = decided(waits, Decision.approve()).call.votes
    approved = after(waits, state=CallState.APPROVED, votes=vote)
    [line] = said(approved, after(waits, state=CallState.CANCELLED, votes=vote, told="the policy denies it now"))
    assert line.startswith("Closed: cancelled")
    [again] = said(approved, after(waits, digest="f" * 64), "local:alice")
    assert "look at it again" in again


def test_nothing_new_is_no_mail() -> None:
    """The same record again, and a result, an attempt or a policy's words beside it, are no news."""
    before = approval_of({"n": 1})
    assert said(before, before) == ()
    assert said(before, after(before, why="other words", headline="another")) == ()
    assert Standing.of(before, CFO) == Standing.of(after(before, why="other words"), CFO)


def test_one_more_identical_call_is_told_only_to_who_waits_for_none() -> None:
    """Whoever has a link to the card needs no second mail; whoever had decided is asked."""
    first = approval_of({"n": 1})
    asked = Standing.of(first, CFO)
    second = {"a": asked, "b": asked}
    assert news({"a": asked}, second, {"a": first, "b": first}, CFO) == ()
    closed = replace(asked, asked=False, state="rejected")
    assert news({"a": closed}, {"a": closed, "b": asked}, {"a": first, "b": first}, CFO) == (ASKED,)
    both = news({"a": asked}, {"a": closed, "b": asked}, {"a": first, "b": first}, CFO)
    assert len(both) == 2 and both[1] == ASKED, "the first closes as the second comes: the link to it is used up"
    assert news({}, {"b": replace(asked, asked=False)}, {"b": first}, "eve@example.com") == ()
