"""What people do in Slack, as Slack tells it to an app: clicks, submitted modals, an opened home tab.

Each is an `Interaction`: a payload, its form on the wire (``body``), and headers signed by slack-sdk's own verifier. A
test sends it over HTTP (`SlackServer.post`), over Socket Mode (`SlackServer.emit`), or hands it to the code under test.
"""
# ruff: noqa: S101

from __future__ import annotations

import copy
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import urlencode

from slack_sdk.signature import SignatureVerifier

Json = Any


@dataclass(frozen=True)
class Interaction:
    """One request of Slack's. ``kind`` is ``interactive`` (a form with a payload) or ``events_api`` (JSON)."""

    payload: Json
    secret: str = field(repr=False)
    kind: str = "interactive"
    at: float | None = None
    headers_added: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The bytes on the wire."""
        text = json.dumps(self.payload, separators=(",", ":"))
        return (urlencode({"payload": text}) if self.kind == "interactive" else text).encode()

    @property
    def headers(self) -> dict[str, str]:
        """Signed for now, unless ``at`` says when."""
        stamp = str(int(time.time() if self.at is None else self.at))
        form = "application/x-www-form-urlencoded" if self.kind == "interactive" else "application/json"
        return {
            "Content-Type": form,
            "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
            "X-Slack-Request-Timestamp": stamp,
            "X-Slack-Signature": str(
                SignatureVerifier(self.secret).generate_signature(timestamp=stamp, body=self.body)
            ),
            **self.headers_added,
        }

    def signed_by(self, secret: str, *, at: float | None = None) -> Self:
        """The same, signed with another secret, or at another time."""
        return replace(self, secret=secret, at=at)

    def changed(self, **changes: Json) -> Self:
        """The same with other top-level keys in its payload, signed anew: what a forger with a stolen secret sends.

        A key named ``a__b`` reaches into ``payload["a"]["b"]``; None removes it.
        """
        payload = copy.deepcopy(self.payload)
        for path, value in changes.items():
            *way, last = path.split("__")
            at = payload
            for step in way:
                at = at[int(step)] if isinstance(at, list) else at.setdefault(step, {})
            if value is None and isinstance(at, dict):
                at.pop(last, None)
            else:
                at[int(last) if isinstance(at, list) else last] = value
        return replace(self, payload=payload)

    def retried(self, number: int = 1, reason: str = "http_timeout") -> Self:
        """The same, sent again by the Events API."""
        return replace(self, headers_added={"X-Slack-Retry-Num": str(number), "X-Slack-Retry-Reason": reason})


def elements(blocks: Json) -> Iterator[tuple[Json, Json]]:
    """Every interactive element with the block it stands in."""
    for block in blocks:
        inner = block.get("elements", []) if block["type"] == "actions" else []
        inner = [*inner, *(block[name] for name in ("accessory", "element") if name in block)]
        yield from ((block, element) for element in inner)


def find(blocks: Json, action: str) -> tuple[Json, Json]:
    """The element that has this action id, or begins with it. `LookupError` when nothing there can be clicked so."""
    every = list(elements(blocks))
    for block, element in every:
        if element.get("action_id") == action:
            return block, element
    there = [element.get("action_id") for _, element in every]
    raise LookupError(f"nothing with the action {action!r} is there to click; there are {there}")


def action_of(blocks: Json, action: str, chosen: Json = None) -> Json:
    """An entry of ``actions``: the element as it was posted, with what was chosen of it."""
    block, element = find(blocks, action)
    entry = {"action_id": action, "block_id": block.get("block_id", ""), "type": element["type"]}
    entry |= {name: element[name] for name in ("text", "value", "style") if name in element}
    if chosen is not None:
        entry["selected_option"] = next(one for one in element["options"] if one["value"] == chosen)
    return entry | {"action_ts": f"{time.time():.6f}"}


_GIVEN = {
    "static_select": ("selected_option", "initial_option"),
    "radio_buttons": ("selected_option", "initial_option"),
    "checkboxes": ("selected_options", "initial_options"),
    "multi_static_select": ("selected_options", "initial_options"),
    "datepicker": ("selected_date", "initial_date"),
    "users_select": ("selected_user", "initial_user"),
}


def state_of(view: Json, typed: Mapping[str, Json]) -> Json:
    """``view.state.values`` after somebody filled in the inputs named by block id or action id; the rest as given.

    `AssertionError` for what Slack's own client would not let anybody submit.
    """
    values: dict[str, Json] = {}
    left = dict(typed)
    for block in view["blocks"]:
        if block["type"] != "input":
            continue
        element = block["element"]
        key = block["block_id"] if block["block_id"] in left else element["action_id"]
        given = _given(element, left.pop(key)) if key in left else _initial(element)
        name = next(name for name in given if name != "type")
        assert block.get("optional") or given[name] not in (None, "", []), f"{block['block_id']} must be filled in"
        _fits(element, given[name])
        values.setdefault(block["block_id"], {})[element["action_id"]] = given
    assert not left, f"there is no input for {sorted(left)}"
    return values


def _given(element: Json, value: Json) -> Json:
    kind = element["type"]
    name = _GIVEN.get(kind, ("value", ""))[0]
    by_value = {option["value"]: option for option in element.get("options", [])}
    if name == "selected_option":
        value = None if value is None else by_value[value]
    elif name == "selected_options":
        value = [by_value[one] for one in value]
    return {"type": kind, name: value}


def _initial(element: Json) -> Json:
    name, initial = _GIVEN.get(element["type"], ("value", "initial_value"))
    return {"type": element["type"], name: element.get(initial, [] if name == "selected_options" else None)}


def _fits(element: Json, value: Json) -> None:
    if isinstance(value, str):
        assert len(value) <= element.get("max_length", 3_000), f"{element['action_id']}: too long"
        assert len(value) >= element.get("min_length", 0), f"{element['action_id']}: too short"


def message_payload(app: str, who: Json, team: Json, message: Json, channel: str, response_url: str) -> Json:
    """What every interaction with a message holds; ``actions`` and ``trigger_id`` are still to come."""
    direct = channel.startswith("D")
    return {
        **_common("block_actions", app, who, team),
        "container": {
            "type": "message",
            "message_ts": message["ts"],
            "channel_id": channel,
            "is_ephemeral": False,
            **({"thread_ts": message["thread_ts"]} if "thread_ts" in message else {}),
        },
        "channel": {"id": channel, "name": "directmessage" if direct else "privategroup"},
        "message": message,
        "state": {"values": {}},
        "response_url": response_url,
    }


def view_payload(kind: str, app: str, who: Json, team: Json, view: Json) -> Json:
    """What every interaction with a modal or a home tab holds."""
    payload = {**_common(kind, app, who, team), "view": view}
    if kind == "block_actions":
        payload["container"] = {"type": "view", "view_id": view["id"]}
    elif kind == "view_submission":
        payload["response_urls"] = []
    else:
        payload["is_cleared"] = False
    return payload


def _common(kind: str, app: str, who: Json, team: Json) -> Json:
    enterprise = team.get("enterprise_id")
    return {
        "type": kind,
        "user": who,
        "api_app_id": app,
        "token": "a-legacy-token-that-proves-nothing",
        "team": team,
        "enterprise": {"id": enterprise, "name": "Example Holding"} if enterprise else None,
        "is_enterprise_install": False,
    }


def event_payload(app: str, team: str, event: Json) -> Json:
    """An event in its outer envelope."""
    return {
        "token": "a-legacy-token-that-proves-nothing",
        "team_id": team,
        "api_app_id": app,
        "event": event,
        "type": "event_callback",
        "event_id": f"Ev{uuid.uuid4().hex[:10].upper()}",
        "event_time": int(time.time()),
        "authorizations": [{"team_id": team, "is_bot": True, "is_enterprise_install": False}],
        "is_ext_shared_channel": False,
    }
