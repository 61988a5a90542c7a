"""What comes in from Slack: decisions count once, for whoever may, about what was shown; all else is refused and noted."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import os
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision
from governor_agents.core.calls import thaw
from governor_agents.core.channels import Place
from governor_agents.core.records import CallState
from governor_agents.handlers.slack.controls import Spot
from governor_agents.handlers.slack.payloads import MAX_BODY, Answer
from governor_agents.testing.slack_interactions import Interaction
from tests.slack_office import ADDRESS, ALICE, BOB, CAROL, POLICY, Office, Posted, office

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path / "a.db") as made:
        yield made


async def test_a_click_on_approve_counts(here: Office) -> None:
    """Approve is one click: the vote names the person by workspace and user, and the channel."""
    posted = await here.ask()
    answer = await here.click(posted, "approve", by=ALICE)
    assert (answer.status, answer.body, answer.refused) == (200, None, "")
    call = await here.call(posted)
    assert call.state is CallState.APPROVED
    assert [(vote.by, vote.kind, vote.channel) for vote in call.votes] == [(ADDRESS[ALICE], "approve", "slack")]
    assert await here.refusals() == []


async def test_reject_asks_for_the_reason(here: Office) -> None:
    """Reject opens a modal; what was typed is the reason, and the modal closes."""
    posted = await here.ask()
    await here.click(posted, "reject", by=ALICE)
    assert (await here.call(posted)).state is CallState.PENDING
    assert await here.submit({"reason": "no invoice <!channel>"}, by=ALICE) is None
    call = await here.call(posted)
    assert call.state is CallState.REJECTED
    assert call.votes[-1].reason == "no invoice <!channel>"
    assert here.slack.refusals() == []


async def test_respond_answers_in_the_tools_place(here: Office) -> None:
    """Respond opens a modal for the answer; an answer of blanks is an error at its field."""
    posted = await here.ask()
    await here.click(posted, "respond", by=ALICE)
    assert (await here.submit({"answer": "  "}, by=ALICE))["errors"] == {"answer": "this may not be empty"}
    assert await here.submit({"answer": "done by hand"}, by=ALICE) is None
    call = await here.call(posted)
    assert (call.state, call.told) == (CallState.ANSWERED, "done by hand")


async def test_an_edit_shows_what_will_run_before_it_counts(here: Office) -> None:
    """The form comes from the tool's schema; wrong texts are told at their fields; the result is confirmed, then counts."""
    posted = await here.ask(amount=5, to="x")
    await here.click(posted, "edit", by=ALICE)
    labels = {block["label"]["text"]: block["block_id"] for block in here.view()["blocks"] if block["type"] == "input"}
    assert set(labels) == {"amount", "to", "note"}
    amount = labels["amount"]
    assert "digits" in (await here.submit({amount: "five"}, by=ALICE))["errors"][amount]
    assert "nothing" in json.dumps((await here.submit({}, by=ALICE))["errors"])
    shown = await here.submit({amount: "123456789012345678901234567890"}, by=ALICE)
    assert shown["callback_id"] == "confirm"
    assert '"amount":123456789012345678901234567890' in json.dumps(shown["blocks"]).replace('\\"', '"')
    assert (await here.call(posted)).state is CallState.PENDING
    assert await here.submit({}, by=ALICE) is None
    call = await here.call(posted)
    assert call.state is CallState.APPROVED
    assert thaw(call.args)["amount"] == 123456789012345678901234567890
    assert here.slack.refusals() == []


async def test_an_edit_that_comes_twice_counts_once(tmp_path: Path) -> None:
    """The confirmed edit of a call that needs a second vote, sent again, answers the same and changes nothing."""
    policy = POLICY + "rules:\n  - {name: two, tool: wire, then: require_approval, quorum: 2}\n"
    async with office(tmp_path / "a.db", policy) as here:
        posted = await here.ask(amount=5, to="x")
        await here.click(posted, "edit", by=ALICE)
        await here.submit({"f0": "6"}, by=ALICE)
        confirmed = here.slack.submit(here.space, here.view(), {}, by=ALICE)
        first, again = await here.send(confirmed), await here.send(confirmed)
        assert first == again
        assert first.body == {"response_action": "clear"}
        assert len((await here.call(posted)).votes) == 1


async def test_an_edit_too_large_points_to_the_page(tmp_path: Path) -> None:
    """What has no room in a modal is edited on the page of the full request; without pages, by the command line."""
    async with office(tmp_path / "a.db", public_url="https://ok.example") as here:
        posted = await here.ask(amount=5, to="x" * 4000)
        await here.click(posted, "edit", by=ALICE)
        view = here.view()
        assert "submit" not in view
        assert f"https://ok.example/requests/{posted.approval.id}" in json.dumps(view)
    async with office(tmp_path / "b.db") as here:
        posted = await here.ask(amount=5, to="x" * 4000)
        await here.click(posted, "edit", by=ALICE)
        assert "governor-agents inbox" in json.dumps(here.view())


async def test_a_reason_that_the_policy_asks_for_is_asked_for(tmp_path: Path) -> None:
    """Approve opens a modal where a reason is needed, and blanks are refused at the field."""
    async with office(tmp_path / "a.db", POLICY.replace("channels:", "reason_required: true, channels:")) as here:
        posted = await here.ask()
        await here.click(posted, "approve", by=ALICE)
        assert (await here.submit({"reason": " "}, by=ALICE))["errors"] == {"reason": "the policy asks for a reason"}
        assert await here.submit({"reason": "seen"}, by=ALICE) is None
        assert (await here.call(posted)).state is CallState.APPROVED


async def test_who_is_late_is_told_who_decided_what_and_when(here: Office) -> None:
    """The second person's click changes nothing, and they alone read who was first."""
    posted = await here.ask()
    await here.click(posted, "reject", by=BOB)
    view = here.view()
    await here.click(posted, "approve", by=ALICE)
    answer = await here.send(here.slack.submit(here.space, view, {"reason": "no"}, by=BOB))
    assert answer.status == 200
    assert "already approved by slack:T01/U02 at 20" in json.dumps(answer.body)
    for action in ("approve", "reject", "edit", "respond"):
        late = await here.click(posted, action, by=CAROL)
        assert (late.status, late.refused) == (200, "already_decided")
        assert "already approved by slack:T01/U02 at 20" in here.told(CAROL)[-1]
    assert len(here.told(CAROL)) == 4
    assert len(await here.refusals()) == 5
    assert here.told(ALICE) == []
    again = await here.click(posted, "approve", by=ALICE)  # the same by the same person is the same
    assert again.refused == ""
    assert len((await here.call(posted)).votes) == 1


async def test_where_no_message_can_be_posted_the_response_url_is_used(here: Office) -> None:
    """Somebody who is not in the channel is told by the response_url; one of another host is left alone."""
    posted = await here.ask()
    await here.click(posted, "approve", by=ALICE)
    here.space.conversations["C1"].members.discard(CAROL)
    click = here.slack.click(here.space, posted.message, "approve", by=CAROL)
    await here.send(click)
    assert "already approved" in here.slack.responses[-1]["text"]
    assert here.slack.responses[-1]["replace_original"] is False
    count = len(here.slack.responses)
    reachable = click.payload["response_url"].replace("127.0.0.1", "localhost")  # the very server, by another name
    for url in (reachable, f"http://127.0.0.1:{here.slack.port}@evil.example/response/x", "file:///etc/passwd"):
        await here.send(click.changed(response_url=url))
    assert len(here.slack.responses) == count


async def test_an_identical_request_again_has_no_second_effect(here: Office) -> None:
    """The very bytes within the five minutes: the same answer, one vote."""
    posted = await here.ask()
    click = here.slack.click(here.space, posted.message, "approve", by=ALICE)
    assert await here.send(click) == await here.send(click)
    run = await here.run(posted)
    assert len((await here.call(posted)).votes) == 1
    assert (await here.run(posted)).seq == run.seq


async def test_identical_calls_are_decided_together_and_only_as_counted(here: Office) -> None:
    """A card that says two decides two; a third that came later makes the old control stale."""
    first = await here.ask(amount=5, to="same")
    second = await here.ask(amount=5, to="same")
    assert second.card.id == first.card.id
    old = first.message.blocks[0]["elements"][0]["value"]
    assert (await here.click(second, "approve", by=ALICE, value=old)).refused == "stale_decision"
    assert [line["what"] for line in await here.refusals()] == ["refused.stale_decision"]
    assert (await here.call(first)).state is CallState.PENDING
    assert "changed since" in here.told(ALICE)[-1]
    await here.click(second, "approve", by=ALICE)
    assert {(await here.call(each)).state for each in (first, second)} == {CallState.APPROVED}


BAD = {
    "not a form": b"%%%",
    "no payload": b"a=b",
    "two payloads": b"payload={}&payload={}",
    "not JSON": b"payload={",
    "a key twice": b'payload={"type":"x","type":"block_actions"}',
    "not an object": b"payload=[]",
    "not UTF-8": b"payload=%ff%fe",
    "bytes": b"\xff\xfe\x00",
    "deep": b"payload=" + b'{"a":' * 60 + b"1" + b"}" * 60,
    "deep where nobody looks": b'payload={"type":"view_closed","x":' + b'{"a":' * 60 + b"1" + b"}" * 61,
    "very deep": b"payload=" + b"[" * 100_000,
    "nothing": b"",
    "no type": b"payload={}",
    "a strange type": b'payload={"type":"shortcut"}',
    "no actions": b'payload={"type":"block_actions"}',
    "actions of nonsense": b'payload={"type":"block_actions","actions":[1],"team":{"id":"T01"},"user":{"id":"U02"},"container":{"type":"message"}}',
    "a view of nothing": b'payload={"type":"view_submission","view":{"private_metadata":"{}"}}',
    "metadata of nonsense": b'payload={"type":"view_submission","view":{"private_metadata":"{\\"value\\":1,\\"spot\\":\\"[]\\",\\"args\\":\\"\\"}"}}',
    "names of nonsense": b'payload={"type":"block_actions","actions":[{"action_id":"approve","value":"c.d"}],"team":7,"user":[]}',
    "an event of nonsense": b'payload={"type":"event_callback","event":{"type":"app_home_opened","tab":"home","user":{}}}',
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
async def test_what_slack_would_not_send_is_refused_in_one_line(here: Office, name: str) -> None:
    """Signed or not, malformed requests are 4xx, leave one line, and raise nothing."""
    bare = Interaction({}, here.slack.secret)
    signed = _Raw(bare, BAD[name])
    answer = await here.inbound.handle(signed.headers, BAD[name])
    assert answer.status in (403, 422), answer
    assert answer.refused
    assert len(await here.refusals()) == 1
    assert (await here.inbound.handle({}, BAD[name])).status == 401


class _Raw:
    """Other bytes under a right signature."""

    def __init__(self, like: Interaction, body: bytes) -> None:
        self.headers = dict(like.headers)
        base = f"v0:{self.headers['X-Slack-Request-Timestamp']}:".encode() + body
        self.headers["X-Slack-Signature"] = "v0=" + hmac.new(like.secret.encode(), base, hashlib.sha256).hexdigest()


async def test_a_body_that_is_too_large_is_not_even_hashed(here: Office) -> None:
    """One byte more than the limit is 413."""
    assert (await here.inbound.handle({}, b"x" * (MAX_BODY + 1))).status == 413
    assert (await here.inbound.handle({}, b"x" * MAX_BODY)).status == 401


async def test_forged_controls_find_nothing(here: Office) -> None:
    """Unknown ids, another card's, another workspace's and no ids at all: refused, and unknown looks like foreign."""
    posted, other = await here.ask(), await here.ask()
    card, _, tag = posted.message.blocks[0]["elements"][0]["value"].partition(".")
    unknown = await here.click(posted, "approve", by=ALICE, value=f"c{'a' * 26}.{tag}")
    assert (unknown.status, unknown.refused) == (404, "not_found")
    away = here.slack.workspace("T09")
    away.person(ALICE)
    away.channel("C1", ALICE)
    foreign = await here.send(here.slack.click(here.space, posted.message, "approve", by=ALICE).changed(
        team__id="T09", user__team_id="T09"))  # fmt: skip
    assert foreign == replace(unknown, after=foreign.after)
    for value in ("", "x", f"{card}.", f"{card}.{tag}.{tag}", f"{card}.{tag[:-1]}", "../../etc", tag * 100):
        assert (await here.click(posted, "approve", by=ALICE, value=value)).status == 422
    moved = await here.click(other, "approve", by=ALICE, value=f"{card}.{tag}")
    assert (moved.status, moved.refused) == (403, "wrong_place")
    assert {(await here.call(each)).state for each in (posted, other)} == {CallState.PENDING}


async def test_a_click_before_the_card_is_noted_is_told_to_come_again(here: Office) -> None:
    """Posted, and its place not written down yet: nobody can vouch for it, and nothing is "not found". Then it counts."""
    posted = await here.ask()
    noted = posted.card.places[0]
    await here.desk.cards.change(posted.card.id, lambda card: card.placed(replace(noted, ref="", to="slack:T01/U02")))
    await here.desk.cards.change(posted.card.id, lambda card: replace(card, places=card.places[1:]))
    early = await here.click(posted, "approve", by=ALICE)
    assert (early.status, early.refused) == (409, "not_ready")
    assert (await here.call(posted)).state is CallState.PENDING
    away = here.slack.workspace("T09")
    away.person(ALICE)
    away.channel("C1", ALICE)
    foreign = here.slack.click(here.space, posted.message, "approve", by=ALICE)
    answer = await here.send(foreign.changed(team__id="T09", user__team_id="T09"))
    assert (answer.status, answer.refused) == (404, "not_found")
    await here.desk.cards.change(posted.card.id, lambda card: card.placed(noted))
    assert (await here.click(posted, "approve", by=ALICE)).status == 200
    assert (await here.call(posted)).state is CallState.APPROVED


async def test_a_modal_of_one_workspace_is_not_submitted_from_another(here: Office) -> None:
    """A card that stands in two workspaces: the modal of the one is not answered by a member of the other."""
    posted = await here.ask()
    await here.click(posted, "reject", by=ALICE)
    submitted = here.slack.submit(here.space, here.view(), {"reason": "no"}, by=ALICE)
    origin = json.loads(submitted.payload["view"]["private_metadata"])
    away = Spot("T09", "C9", "1.5")
    await here.desk.cards.change(posted.card.id, lambda card: card.placed(Place("C9", "op", away.ref())))
    moved = submitted.changed(view__private_metadata=json.dumps({**origin, "spot": away.ref()}))
    assert (await here.send(moved)).status == 422
    assert (await here.call(posted)).state is CallState.PENDING


async def test_slack_asks_whether_the_url_is_ours(here: Office) -> None:
    """url_verification is answered, signed alone."""
    challenge = here.slack.challenge()
    answer = await here.send(challenge)
    assert answer.body == {"challenge": challenge.payload["challenge"]}
    assert (await here.send(challenge.signed_by("another"))).status == 401


async def test_events_that_come_again_and_things_nobody_asked_for_are_fine(here: Office) -> None:
    """Retries of the Events API, closed modals and links that were opened are acknowledged and do nothing."""
    posted = await here.ask()
    home = here.slack.open_home(here.space, by=ALICE)
    for interaction in (home, home.retried(1), home.retried(2)):
        assert (await here.send(interaction)).status == 200
    await here.click(posted, "reject", by=ALICE)
    assert (await here.send(here.slack.dismiss(here.space, here.view(), by=ALICE))).status == 200
    assert (await here.call(posted)).state is CallState.PENDING


async def test_a_modal_of_before_an_edit_does_not_count(here: Office) -> None:
    """A modal that was opened on other arguments than those that wait now is told so."""
    posted = await here.ask(amount=5, to="x")
    await here.click(posted, "reject", by=BOB)
    view = here.view()
    await here.governor.decide(posted.approval.id, Decision.edit({"amount": 6, "to": "x"}), by=ADDRESS[ALICE])
    answer = await here.send(here.slack.submit(here.space, view, {"reason": "no"}, by=BOB))
    assert answer.refused == "already_decided"
    assert thaw((await here.call(posted)).args) == {"amount": 6, "to": "x"}


async def test_what_slack_cannot_show_decides_nothing(here: Office) -> None:
    """A modal that does not open (late, or Slack is away) leaves the request as it was."""
    posted = await here.ask()
    here.slack.trouble("views.open", "error", error="expired_trigger_id")
    assert (await here.click(posted, "reject", by=ALICE)).status == 200
    here.slack.calm()
    here.slack.trouble("users.info", "http", status=500)
    answer = await here.click(posted, "approve", by=CAROL)
    assert (answer.status, answer.refused) == (403, "unconfirmed_user")
    assert (await here.call(posted)).state is CallState.PENDING


async def test_nobody_types_into_a_modal_that_would_be_refused(here: Office) -> None:
    """Whoever may not decide is told so at the click, in one line of the stream, and no modal opens."""
    posted = await here.ask()
    for action in ("reject", "edit", "respond"):
        assert (await here.click(posted, action, by=CAROL)).refused == "not_an_approver"
    assert here.space.views == {}
    assert len(await here.refusals()) == 3
    assert "may not decide" in here.told(CAROL)[0]


async def test_claim_and_release_are_one_click(here: Office) -> None:
    """Who is on it stands in the record, and no longer once they leave it."""
    posted = await here.ask()
    await here.click(posted, "claim", by=ALICE)
    taken = (await here.call(posted)).taken_up
    assert taken.by == ADDRESS[ALICE]
    await here.click(posted, "release", by=ALICE)
    assert (await here.call(posted)).taken_up is None
    assert (await here.click(posted, "claim", by=CAROL)).refused == "not_an_approver"
    assert len(await here.refusals()) == 1


async def test_a_comment_is_written_beside_the_request(here: Office) -> None:
    """It decides nothing; blanks and too much are told."""
    posted = await here.ask()
    await here.click(posted, "comment", by=ALICE)
    assert (await here.submit({"text": " "}, by=ALICE))["errors"] == {"text": "this may not be empty"}
    assert await here.submit({"text": "is <@U03> sure?"}, by=ALICE) is None
    call = await here.call(posted)
    assert [(each.by, each.text) for each in call.comments] == [(ADDRESS[ALICE], "is <@U03> sure?")]
    assert call.state is CallState.PENDING
    await here.click(posted, "comment", by=ALICE)
    made = here.slack.submit(here.space, here.view(), {"text": "x" * 2_000}, by=ALICE)
    longer = made.changed(view__state__values__text__input__value="x" * 2_001)  # more than Slack lets anybody type
    assert list((await here.send(longer)).body["errors"]) == ["text"]
    assert len((await here.call(posted)).comments) == 1


async def test_a_seat_is_handed_to_whom_the_policy_names(tmp_path: Path) -> None:
    """The modal offers the policy's delegates; the chosen one may decide then, and was not asked before."""
    async with office(
        tmp_path / "a.db", POLICY.replace("channels:", f"delegates: [{ADDRESS[CAROL]}], channels:")
    ) as here:
        posted = await here.ask()
        assert (await here.click(posted, "approve", by=CAROL)).refused == "not_an_approver"
        await here.click(posted, "delegate", by=ALICE)
        assert await here.submit({"to": "0"}, by=ALICE) is None
        assert (await here.click(posted, "approve", by=CAROL)).refused == ""
        vote = (await here.call(posted)).votes[-1]
        assert (vote.by, vote.seat) == (ADDRESS[CAROL], ADDRESS[ALICE])
    async with office(tmp_path / "b.db") as here:
        posted = await here.ask()
        await here.click(posted, "delegate", by=ALICE)
        assert "names nobody" in json.dumps(here.view())


async def test_identical_calls_of_high_risk_are_decided_one_by_one(tmp_path: Path) -> None:
    """No click decides two of them: each has a card of its own."""
    async with office(tmp_path / "a.db", POLICY + "tools:\n  wire: {risk: high}\n") as here:
        first = await here.ask(amount=5, to="same")
        second = await here.ask(amount=5, to="same")
        assert first.card.id != second.card.id
        await here.click(first, "approve", by=ALICE)
        assert (await here.call(first)).state is CallState.APPROVED
        assert (await here.call(second)).state is CallState.PENDING


@pytest.mark.parametrize("action", ["approve", "respond", "edit"])
async def test_a_control_that_no_card_of_that_size_has_decides_nothing(here: Office, action: str) -> None:
    """What does not fit on a card whole is not approved, edited or answered from one, whoever made the button."""
    posted = await here.ask(amount=5, to="x" * 20_000)
    answer = await here.click(posted, action, by=ALICE)
    if action == "respond":
        answer = await here.send(here.slack.submit(here.space, here.view(), {"answer": "done"}, by=ALICE))
    if action != "edit":  # which says so before it asks for anything
        assert (answer.status, answer.refused) == (403, "not_shown")
    assert (await here.call(posted)).state is CallState.PENDING
    await here.click(posted, "reject", by=ALICE)
    await here.submit({"reason": "too much"}, by=ALICE)
    assert (await here.call(posted)).state is CallState.REJECTED


ODD = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "x",
    "T01",
    "\ud83d",
    "\u202e",
    [],
    [[]],
    {},
    {"id": {}},
    {"id": "T01"},
    "9" * 5000,
    ["a", 1],
]


def _mutated(payload: Any, rng: random.Random) -> Any:
    """The payload with one to three of its values replaced by something odd, moved, or taken away."""
    made = json.loads(json.dumps(payload))
    for _ in range(rng.randrange(1, 4)):
        at: Any = made
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = rng.choice(keys)
            if isinstance(at[key], dict | list) and at[key] and rng.random() < 0.8:
                at = at[key]
                continue
            if rng.random() < 0.2 and isinstance(at, dict) and len(made) > 1:
                del at[key]
            else:
                at[key] = copy.deepcopy(rng.choice(ODD))
            break
    return made


async def _odd_requests(here: Office, posted: Posted, count: int) -> list[Answer | Exception]:
    """What became of so many clicks, submissions and events with odd values anywhere."""
    rng = random.Random(6)
    await here.click(posted, "edit", by=ALICE)
    edit = here.slack.submit(here.space, here.view(), {}, by=ALICE)
    await here.click(posted, "reject", by=ALICE)
    reject = here.slack.submit(here.space, here.view(), {"reason": "no"}, by=ALICE)
    click = here.slack.click(here.space, posted.message, "claim", by=ALICE)
    found: list[Answer | Exception] = []
    for at in range(count):
        like = (edit, reject, click, here.slack.open_home(here.space, by=ALICE))[at % 4]
        try:
            found.append(await here.send(replace(like, payload=_mutated(like.payload, rng))))
        except Exception as error:
            found.append(error)
    return found


async def test_no_oddity_in_a_signed_request_is_a_fault(here: Office, caplog: pytest.LogCaptureFixture) -> None:
    """Hundreds of requests with odd values anywhere: each has a status, none raises, nobody else decides."""
    posted = await here.ask()
    for answer in await _odd_requests(here, posted, 2_000 if os.environ.get("GOVERNOR_NIGHTLY") else 400):
        assert isinstance(answer, Answer), answer
        assert answer.status in (200, 403, 404, 422), answer
        assert answer.refused != "fault"
        json.dumps(answer.body)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert {vote.by for vote in (await here.call(posted)).votes} <= {ADDRESS[ALICE]}


async def test_a_reader_that_trusts_the_payload_would_be_seen(here: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with a reader that takes what it expects to be there, some of these requests are faults."""

    def trusting(payload: Any, *path: str | int) -> Any:
        for key in path:
            payload = payload[key]
        return payload

    posted = await here.ask()
    monkeypatch.setattr("governor_agents.handlers.slack.clicks.text_at", trusting)
    found = await _odd_requests(here, posted, 200)
    assert any(not isinstance(answer, Answer) or answer.refused == "fault" for answer in found)


async def test_long_words_reach_people_too(tmp_path: Path) -> None:
    """A refusal that lists hundreds of people has no room in a message; its beginning is told."""
    many = ", ".join(f"slack:T01/U1{at:04d}" for at in range(200))
    async with office(tmp_path / "a.db", POLICY.replace(ADDRESS[BOB], f"{ADDRESS[BOB]}, {many}")) as here:
        posted = await here.ask()
        assert (await here.click(posted, "approve", by=CAROL)).refused == "not_an_approver"
        assert "may not decide" in here.told(CAROL)[0]
        assert here.told(CAROL)[0].endswith(" ...")
        assert here.slack.refusals() == []
