"""The webhook channel against a real HTTPS receiver: what is sent, what happens when the receiver is in trouble."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, Worker
from governor_agents.core.calls import freeze
from governor_agents.errors import ChannelUnusable, ConfigError, DeliveryFailed, MissingExtra
from governor_agents.handlers.webhook import HEADER, WebhookHandler, received, webhook
from governor_agents.handlers.webhook.handler import retry_after
from governor_agents.policies import PolicySet
from tests.webhook_server import SECRET, WebhookServer

POLICY = """
version: 1
approvals: {approvers: ["local:alice", "local:bob"], channels: ["webhook:orders"]}
rules:
  - {name: ask, tool: "*", then: require_approval}
"""
HOSTILE = {"to": "‮evil <!channel> <b>", "amount": 12345678901234567890, "note": "x" * 20_000}


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    """A receiver."""
    with WebhookServer() as server:
        yield server


@pytest.fixture
async def governor(server: WebhookServer) -> AsyncIterator[Governor]:
    """A governor whose only channel is the receiver."""
    governor = Governor(
        PolicySet.from_text(POLICY, name="p"), store="memory://", handlers={"webhook": server.handler()}
    )

    @governor.govern(name="pay")
    async def pay(to: str, amount: int, note: str) -> str:
        return "paid"

    governor.pay = pay  # type: ignore[attr-defined]
    yield governor
    await governor.close()


async def asked(governor: Governor, **args: Any) -> str:
    """The id of a request that waits."""
    pending = await governor.pay.ask(**{**HOSTILE, **args})  # type: ignore[attr-defined]
    return str(pending.approval)


async def test_the_whole_request_and_then_the_outcome_are_sent(server: WebhookServer, governor: Governor) -> None:
    """Signed, complete to the byte, and the same approval in both."""
    id = await asked(governor)
    await Worker(governor).run(once=True)
    await governor.decide(id, Decision.reject("not today"), by="local:alice")
    await Worker(governor).run(once=True)
    first, second = (received(post.body, post.headers[HEADER.lower()], [SECRET]) for post in server.posts)
    approval = await governor.approval(id)
    assert first["arguments_json"].encode() == approval.call.args == freeze(HOSTILE) and first["arguments"] == HOSTILE
    assert (first["type"], first["approval"], first["digest"]) == ("approval.asked", id, approval.call.digest)
    assert first["people"] == ["local:alice", "local:bob"] and first["deadline"] == approval.call.expires
    assert "\\u{202E}" in first["text"] and "‮" not in first["text"] and "x" * 20_000 in first["text"]
    assert (second["type"], second["state"]) == ("approval.decided", "rejected") and second["id"] != first["id"]
    assert [(vote["by"], vote["reason"]) for vote in second["votes"]] == [("local:alice", "not today")]
    assert server.posts[0].body.isascii()


async def test_the_same_state_sent_again_has_the_same_id(server: WebhookServer, governor: Governor) -> None:
    """So a receiver that was told twice knows it; and nothing else has that id."""
    handler = server.handler()
    await handler.start(governor.desk)
    approval = await governor.approval(await asked(governor))
    other = await governor.approval(await asked(governor, amount=2))
    for each in (approval, approval, other):
        await handler.notify(each, "orders")
    ids = [post.said["id"] for post in server.posts]
    assert ids[0] == ids[1] != ids[2] and server.posts[0].body == server.posts[1].body


@pytest.mark.parametrize("trouble", ["hangs", "resets", "forgets"])
async def test_trouble_on_the_way_is_tried_again(server: WebhookServer, governor: Governor, trouble: Any) -> None:
    """Whatever happens to the connection: said as trouble of the channel, and never more than its name."""
    handler = server.handler()
    await handler.start(governor.desk)
    approval = await governor.approval(await asked(governor))
    server.trouble = trouble
    with pytest.MonkeyPatch.context() as patch, pytest.raises(DeliveryFailed) as failed:
        patch.setattr("governor_agents.handlers.webhook.handler.TIMEOUT", 0.3)
        await handler.notify(approval, "orders")
    assert failed.value.retry_after is None and SECRET not in str(failed.value) and "hook?" not in str(failed.value)
    server.trouble = ""
    await handler.notify(approval, "orders")


async def test_an_answer_without_end_is_not_read(server: WebhookServer, governor: Governor) -> None:
    """The status is all that counts."""
    handler = server.handler()
    await handler.start(governor.desk)
    server.trouble = "drips"
    await handler.notify(await governor.approval(await asked(governor)), "orders")


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [(429, "7", 7.0), (503, "120", 120.0), (500, "", None), (404, "", None), (429, "soon", None)],
)
async def test_an_answer_that_is_no_success_is_trouble(
    server: WebhookServer, governor: Governor, status: int, header: str, seconds: float | None
) -> None:
    """With the time that the receiver asked for, if it did."""
    handler = server.handler()
    await handler.start(governor.desk)
    server.standing = (status, {"Retry-After": header} if header else {})
    with pytest.raises(DeliveryFailed, match=str(status)) as failed:
        await handler.notify(await governor.approval(await asked(governor)), "orders")
    assert failed.value.retry_after == seconds


def test_retry_after_may_be_a_date() -> None:
    """As seconds from now; a date that is past asks for nothing more."""
    assert retry_after("Tue, 14 Nov 2023 22:13:50 GMT", 1_700_000_000.0) == 30.0
    assert retry_after("Tue, 14 Nov 2023 22:13:10 GMT", 1_700_000_000.0) == 0.0
    assert retry_after("-5", 0.0) is None and retry_after("1e9", 0.0) is None


async def test_both_secrets_sign_while_one_is_being_changed(server: WebhookServer, governor: Governor) -> None:
    """A receiver that knows either accepts."""
    new = "another secret of more than 32 characters"
    handler = server.handler(new, SECRET)
    await handler.start(governor.desk)
    await handler.notify(await governor.approval(await asked(governor)), "orders")
    [post] = server.posts
    for secret in (new, SECRET):
        assert received(post.body, post.headers["governor-signature"], [secret])["version"] == 1


async def test_a_receiver_that_is_not_named_is_said(server: WebhookServer, governor: Governor) -> None:
    """With those that are; the one there is needs no name."""
    handler = server.handler()
    await handler.start(governor.desk)
    approval = await governor.approval(await asked(governor))
    with pytest.raises(DeliveryFailed, match="known: webhook:orders"):
        await handler.notify(approval, "billing")
    await handler.notify(approval)
    assert len(server.posts) == 1


GOOD = {
    "hosts": ["hooks.example.com"],
    "webhooks": {"orders": {"url": "https://hooks.example.com/x", "secrets": [SECRET]}},
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hosts": []}, "webhook 'orders': webhooks may not go to hooks.example.com"),
        ({"hosts": "hooks.example.com"}, "it has `hosts`"),
        ({"webhooks": {}}, "it has `hosts`"),
        ({"more": 1}, "nothing else"),
        ({"webhooks": {"orders": {"url": "https://hooks.example.com/x"}}}, "it has `url`, and `secrets`"),
        ({"webhooks": {"orders": {"url": "https://hooks.example.com/x", "secrets": ["sesame"]}}}, "32 characters"),
        ({"webhooks": {"orders": {"url": "https://a:sesame@hooks.example.com", "secrets": [SECRET]}}}, "no user"),
        (
            {"webhooks": {"orders": {"url": "https://hooks.example.com/x", "secrets": ["\ud800" * 32]}}},
            "lone surrogate",
        ),
    ],
)
async def test_a_wrong_file_is_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], says: str
) -> None:
    """One line with the file and the mend, and no secret in it."""
    file = tmp_path / "webhooks.json"
    file.write_text(json.dumps({**GOOD, **change}))
    file.chmod(0o600)
    monkeypatch.setenv("GOVERNOR_WEBHOOKS", str(file))
    with pytest.raises(ChannelUnusable) as refused:
        await WebhookHandler().start(None)  # type: ignore[arg-type]
    text = str(refused.value)
    assert says in text and str(file) in text and "\n" not in text and "sesame" not in text and SECRET not in text


async def test_a_receiver_that_stands_twice_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one would silently take the place of the other."""
    file = tmp_path / "webhooks.json"
    entry = json.dumps(GOOD["webhooks"]["orders"])  # type: ignore[call-overload]
    file.write_text(f'{{"hosts": ["hooks.example.com"], "webhooks": {{"orders": {entry}, "orders": {entry}}}}}')
    file.chmod(0o600)
    monkeypatch.setenv("GOVERNOR_WEBHOOKS", str(file))
    with pytest.raises(ChannelUnusable, match="'orders' stands twice"):
        await WebhookHandler().start(None)  # type: ignore[arg-type]


async def test_the_file_is_needed_and_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, or when others may read it, the channel cannot be used; with it, it can."""
    monkeypatch.delenv("GOVERNOR_WEBHOOKS", raising=False)
    with pytest.raises(ChannelUnusable, match="GOVERNOR_WEBHOOKS"):
        await WebhookHandler().start(None)  # type: ignore[arg-type]
    file = tmp_path / "webhooks.json"
    monkeypatch.setenv("GOVERNOR_WEBHOOKS", str(file))
    with pytest.raises(ChannelUnusable, match="No such file"):
        await WebhookHandler().start(None)  # type: ignore[arg-type]
    file.write_text(json.dumps(GOOD))
    file.chmod(0o644)
    with pytest.raises(ChannelUnusable, match="chmod 600"):
        await WebhookHandler().start(None)  # type: ignore[arg-type]
    file.chmod(0o600)
    await WebhookHandler().start(None)  # type: ignore[arg-type]
    file.write_text("{")
    with pytest.raises(ChannelUnusable, match="not plain JSON"):
        await WebhookHandler().start(None)  # type: ignore[arg-type]


def test_a_repr_shows_no_secret_and_no_address() -> None:
    """It ends in logs; the path of a receiver often holds a key."""
    made = webhook("https://hooks.example.com/key-4711", SECRET, hosts=["hooks.example.com"])
    assert SECRET not in repr(made) and "4711" not in repr(made)
    with pytest.raises(ConfigError, match="two while it changes"):
        webhook("https://hooks.example.com/", SECRET, SECRET + "2", SECRET + "3", hosts=["hooks.example.com"])


@pytest.mark.parametrize(
    "library", [name for name in ("httpx", "httpx2") if find_spec(name)]
)  # old frameworks have one
async def test_either_http_library_will_do(
    server: WebhookServer, governor: Governor, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """What OpenAI's packages bring is as good; without either, the extra is named."""
    known = [library]
    monkeypatch.setattr(
        "governor_agents.handlers.webhook.handler.find_spec", lambda name: name if name in known else None
    )
    handler = server.handler()
    await handler.start(governor.desk)
    await handler.notify(await governor.approval(await asked(governor)), "orders")
    assert handler._http.__name__ == library and server.posts[0].server_name == "localhost"
    known.clear()
    with pytest.raises(MissingExtra, match=r"governor-agents\[webhook\]"):
        await handler.start(governor.desk)
