"""The local Slack itself, by slack-sdk's own clients: what it takes, what it refuses, and what can go wrong with it."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.signature import SignatureVerifier
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient

from governor_agents.testing.slack_limits import block_problems, room, view_problems
from governor_agents.testing.slack_server import PATIENCE, SlackServer, Workspace

BUTTON = {"type": "button", "action_id": "go", "value": "v", "text": {"type": "plain_text", "text": "Go"}}
CARD = [{"type": "actions", "block_id": "b", "elements": [BUTTON]}]
MODAL = {
    "type": "modal",
    "title": {"type": "plain_text", "text": "Why"},
    "submit": {"type": "plain_text", "text": "Send"},
    "blocks": [
        {
            "type": "input",
            "block_id": "reason",
            "label": {"type": "plain_text", "text": "Reason"},
            "element": {"type": "plain_text_input", "action_id": "typed", "max_length": 20},
        }
    ],
}


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    with SlackServer() as slack:
        yield slack


@pytest.fixture
def space(slack: SlackServer) -> Workspace:
    space = slack.workspace("T01")
    space.person("U02", "alice")
    space.channel("C01", "U02")
    return space


def client(slack: SlackServer, space: Workspace, **more: Any) -> AsyncWebClient:
    return AsyncWebClient(space.token, base_url=slack.url, retry_handlers=[], **more)


async def refused(call: Any) -> str:
    with pytest.raises(SlackApiError) as error:
        await call
    return str(error.value.response["error"])


async def test_posts_updates_and_gives_back_with_metadata(slack: SlackServer, space: Workspace) -> None:
    """A message is found in the history with its metadata, also after an update that does not name it."""
    web = client(slack, space)
    about = {"event_type": "card", "event_payload": {"card": "c1"}}
    sent = await web.chat_postMessage(channel="C01", text="t", blocks=CARD, metadata=about)
    await web.chat_postMessage(channel="C01", text="in the thread", thread_ts=sent["ts"])
    await web.chat_update(channel="C01", ts=sent["ts"], text="u", blocks=[])
    found = (await web.conversations_history(channel="C01", include_all_metadata=True))["messages"]
    assert [(one["text"], one["metadata"]) for one in found] == [("u", about)]
    assert (await web.conversations_history(channel="C01"))["messages"][0]["metadata"] == {"event_type": "card"}
    thread = (await web.conversations_replies(channel="C01", ts=sent["ts"]))["messages"]
    assert [one["text"] for one in thread] == ["u", "in the thread"]
    assert (await web.auth_test()).headers["X-OAuth-Scopes"].split(",") == sorted(space.scopes)


async def test_tokens_scopes_and_places_are_checked(slack: SlackServer, space: Workspace) -> None:
    """Each is refused with the error code that Slack gives."""
    web = client(slack, space)
    assert await refused(AsyncWebClient("xoxb-no", base_url=slack.url).auth_test()) == "invalid_auth"
    assert await refused(web.chat_postMessage(channel="C9", text="t")) == "channel_not_found"
    space.conversations["C01"].members.discard(space.bot_user)
    assert await refused(web.chat_postMessage(channel="C01", text="t")) == "not_in_channel"
    space.person("U03", "bob", deleted=True)
    assert await refused(web.conversations_open(users="U03")) == "user_disabled"
    space.scopes.discard("users:read")
    assert await refused(web.users_info(user="U02")) == "missing_scope"
    space.revoked = "token_revoked"
    assert await refused(web.auth_test()) == "token_revoked"
    assert await refused(web.apps_connections_open(app_token=space.token)) == "not_allowed_token_type"


async def test_limits_are_those_of_slack(slack: SlackServer, space: Workspace) -> None:
    """One more than allowed is refused, as much as allowed is not."""
    web = client(slack, space)

    def section(length: int) -> dict[str, Any]:
        return {"type": "section", "text": {"type": "plain_text", "text": "x" * length}}

    async def post(blocks: list[dict[str, Any]]) -> Any:
        return await web.chat_postMessage(channel="C01", text="t", blocks=blocks)

    await post([section(3000)] * 4)
    assert await refused(post([section(3001)])) == "invalid_blocks"
    assert await refused(post([section(3000)] * 5)) == "msg_blocks_too_long"
    await post([{"type": "divider"}] * 50)
    assert await refused(post([{"type": "divider"}] * 51)) == "invalid_blocks"
    assert await refused(web.chat_postMessage(channel="C01", text="x" * 4001)) == "msg_too_long"
    assert block_problems([{"type": "actions", "elements": [BUTTON | {"value": "v" * 2001}]}])
    assert block_problems([{"type": "actions", "elements": [BUTTON | {"action_id": "v" * 256}]}])
    assert block_problems([{"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": []}]}])
    assert room([section(1)]) < room([{"type": "section", "text": {"type": "plain_text", "text": "<"}}])
    assert view_problems(MODAL) == []
    assert view_problems(MODAL | {"title": {"type": "plain_text", "text": "x" * 25}})
    assert view_problems({name: value for name, value in MODAL.items() if name != "submit"})


async def test_troubles_come_and_go(slack: SlackServer, space: Workspace) -> None:
    """A rate limit, an error page, a broken answer, a cut connection, one that hangs, and an answer that was lost."""
    web = client(slack, space)
    slack.trouble("chat.postMessage", "ratelimited", retry_after=30, times=1)
    with pytest.raises(SlackApiError) as limited:
        await web.chat_postMessage(channel="C01", text="t")
    assert limited.value.response.status_code == 429 and limited.value.response.headers["Retry-After"] == "30"
    slack.trouble("chat.*", "http", status=503, times=1)
    slack.trouble("chat.*", "garbage", times=1)
    for _ in range(2):
        with pytest.raises(SlackApiError):
            await web.chat_postMessage(channel="C01", text="t")
    slack.trouble("chat.*", "reset", times=1, applied=True)
    with pytest.raises(aiohttp.ClientError):
        await web.chat_postMessage(channel="C01", text="applied")
    assert [one.text for one in space.messages()] == ["applied"]
    slack.trouble("chat.*", "hang")
    hanging = asyncio.create_task(web.chat_postMessage(channel="C01", text="t"))
    await slack.until(lambda: slack.count("chat.postMessage") == 5)
    assert not hanging.done()
    slack.calm()
    with pytest.raises(aiohttp.ClientError):
        await hanging
    await web.chat_postMessage(channel="C01", text="well again")
    slack.stop()
    with pytest.raises(aiohttp.ClientError):
        await web.chat_postMessage(channel="C01", text="down")
    slack.start()
    assert (await web.chat_postMessage(channel="C01", text="up"))["ok"]


async def test_a_click_is_signed_and_says_where_it_was(slack: SlackServer, space: Workspace) -> None:
    """slack-sdk's verifier takes it; another secret or another body it does not."""
    await client(slack, space).chat_postMessage(channel="U02", text="t", blocks=CARD)
    message = space.messages()[-1]
    click = slack.click(space, message, "go", by="U02")
    verifier = SignatureVerifier(slack.secret)
    assert verifier.is_valid_request(click.body, click.headers)
    assert not verifier.is_valid_request(click.body, click.signed_by("another").headers)
    assert not verifier.is_valid_request(click.changed(user__id="U99").body, click.headers)
    assert click.payload["container"] == {
        "type": "message",
        "message_ts": message.ts,
        "channel_id": space.where(message),
        "is_ephemeral": False,
    }
    assert click.payload["actions"][0]["value"] == "v"
    with pytest.raises(LookupError, match="nothing with the action"):
        slack.click(space, message, "stop", by="U02")


async def test_a_response_url_serves_five_times(slack: SlackServer, space: Workspace) -> None:
    """Then it is used up."""
    await client(slack, space).chat_postMessage(channel="C01", text="t", blocks=CARD)
    url = slack.click(space, space.messages()[-1], "go", by="U02").payload["response_url"]
    async with aiohttp.ClientSession() as session:
        answers = [(await session.post(url, json={"text": "t", "response_type": "ephemeral"})).status for _ in range(6)]
    assert answers == [200] * 5 + [404] and len(slack.responses) == 5


async def test_a_modal_opens_once_and_is_submitted(slack: SlackServer, space: Workspace) -> None:
    """A trigger opens one modal; what was typed comes back by block and action; a required input must be filled in."""
    web = client(slack, space)
    await web.chat_postMessage(channel="C01", text="t", blocks=CARD)
    trigger = slack.click(space, space.messages()[-1], "go", by="U02").payload["trigger_id"]
    view = (await web.views_open(trigger_id=trigger, view=MODAL))["view"]
    assert await refused(web.views_open(trigger_id=trigger, view=MODAL)) == "exchanged_trigger_id"
    assert await refused(web.views_open(trigger_id="1.2.3", view=MODAL)) == "expired_trigger_id"
    sent = slack.submit(space, view, {"reason": "paid twice"}, by="U02").payload["view"]
    assert sent["state"]["values"]["reason"]["typed"]["value"] == "paid twice"
    with pytest.raises(AssertionError, match="filled in"):
        slack.submit(space, view, by="U02")
    assert slack.take(space, view, {"response_action": "errors", "errors": {"reason": "too short"}})["errors"]
    with pytest.raises(AssertionError, match="not there"):
        slack.take(space, view, {"response_action": "errors", "errors": {"other": "no"}})
    assert slack.take(space, view, {}) is None


async def test_a_home_tab_is_published_for_one_person(slack: SlackServer, space: Workspace) -> None:
    """Opening it is an event that holds the view last published."""
    web = client(slack, space)
    home = {"type": "home", "blocks": CARD}
    view = (await web.views_publish(user_id="U02", view=home))["view"]
    assert slack.open_home(space, by="U02").payload["event"]["view"]["id"] == view["id"]
    assert await refused(web.views_publish(user_id="U02", view=home, hash="old")) == "hash_conflict"
    assert await refused(web.views_publish(user_id="U99", view=home)) == "user_not_found"
    assert slack.click_in(space, space.homes["U02"], "go", by="U02").payload["container"]["type"] == "view"


async def test_socket_mode_by_the_client_of_slack_sdk(slack: SlackServer, space: Workspace) -> None:
    """Hello, an envelope, its acknowledgement, a request to come back, a cut connection, a ticket used twice."""
    took: list[SocketModeRequest] = []

    async def listen(socket: Any, request: SocketModeRequest) -> None:
        took.append(request)
        if request.retry_attempt != 1:  # the first retry is lost
            await socket.send_socket_mode_response(SocketModeResponse(request.envelope_id, {"seen": len(took)}))

    socket = SocketModeClient(slack.app_token, web_client=client(slack, space), ping_interval=1)
    socket.socket_mode_request_listeners.append(listen)
    try:
        await socket.connect()
        await slack.until(lambda: slack.connections == 1)
        opened = slack.open_home(space, by="U02")
        assert await slack.emit(opened).answer() == {"seen": 1}
        lost = slack.emit(opened, attempt=1)
        assert await slack.emit(opened, again=lost, attempt=2).answer() == {"seen": 3}
        assert not lost.acknowledged
        assert [one.retry_attempt for one in took] == [None, 1, 2]
        slack.refresh()
        await slack.until(lambda: slack.sockets.greeted == 2 and slack.connections == 1)
        slack.drop_connections()
        await slack.until(lambda: slack.sockets.greeted >= 3 and slack.connections >= 1)
        again = slack.emit(opened)
        assert (await again.answer())["seen"] == 4
        async with aiohttp.ClientSession() as session:
            assert (await session.get(str(socket.wss_uri).replace("ws:", "http:"))).status == 408
    finally:
        await asyncio.wait_for(socket.close(), PATIENCE)


def test_payloads_are_json(slack: SlackServer, space: Workspace) -> None:
    """Every kind of request has a body that reads back to its payload."""
    for sent in (slack.challenge(), slack.open_home(space, by="U02")):
        assert json.loads(sent.body) == sent.payload
