"""The Web API methods that the local Slack answers, with the scopes they need and the errors they give.

A method takes the server, the workspace and the arguments; it gives the answer without ``ok``, or raises `Refused`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from governor_agents.testing.slack_limits import (
    FALLBACK_TEXT,
    MESSAGE_ROOM,
    VIEW_ROOM,
    block_problems,
    metadata_problem,
    room,
    view_problems,
)
from governor_agents.testing.slack_workspaces import Conversation, Message, Workspace

if TYPE_CHECKING:
    from governor_agents.testing.slack_server import SlackServer

Json = Any


class Refused(Exception):
    """An answer with ``"ok": false``."""

    def __init__(self, error: str, problems: list[str] | None = None, **more: Json) -> None:
        self.answer: Json = {"ok": False, "error": error, **more}
        if problems:
            words = [f"[ERROR] {problem}" for problem in problems]
            self.answer |= {"errors": problems, "response_metadata": {"messages": words}}
        super().__init__(error)


Method = Callable[["SlackServer", Workspace, Mapping[str, Json]], Json]


@dataclass(frozen=True)
class Offered:
    """A method and the scope it needs; ``{kind}`` stands for the kind of the conversation it is about."""

    call: Method
    scope: str = ""


def needs(workspace: Workspace, scope: str) -> None:
    """Raise `Refused` unless the token has the scope."""
    if scope not in workspace.scopes:
        raise Refused("missing_scope", needed=scope, provided=",".join(sorted(workspace.scopes)))


def auth_test(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``auth.test``."""
    said = {
        "url": f"https://{workspace.team.lower()}.slack.com/",
        "team": workspace.team.title(),
        "user": "governor",
        "team_id": workspace.team,
        "user_id": workspace.bot_user,
        "bot_id": workspace.bot_id,
        "is_enterprise_install": False,
    }
    return said | ({"enterprise_id": workspace.enterprise} if workspace.enterprise else {})


# -- messages ----------------------------------------------------------------------------------------------------


def _open_conversation(workspace: Workspace, id: str) -> Conversation:
    """Where a message may be posted. A user's id means the direct messages with them."""
    if id[:1] in ("U", "W") and id in workspace.users:
        return workspace.direct(id)
    found = workspace.conversations.get(id)
    if found is None or (found.private and workspace.bot_user not in found.members):
        raise Refused("channel_not_found")
    if found.archived:
        raise Refused("is_archived")
    if workspace.bot_user not in found.members:
        raise Refused("not_in_channel")
    return found


def _content(args: Mapping[str, Json]) -> tuple[list[Json], str]:
    blocks, text = args.get("blocks") or [], str(args.get("text") or "")
    if problems := block_problems(blocks):
        raise Refused("invalid_blocks", problems)
    if room(blocks) > MESSAGE_ROOM:
        raise Refused("msg_blocks_too_long")
    if len(text) > FALLBACK_TEXT:
        raise Refused("msg_too_long")
    if not blocks and not text:
        raise Refused("no_text")
    if args.get("metadata") and (error := metadata_problem(args["metadata"])):
        raise Refused(error)
    return copy.deepcopy(blocks), text


def post_message(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``chat.postMessage``."""
    where = _open_conversation(workspace, str(args.get("channel", "")))
    blocks, text = _content(args)
    thread = str(args.get("thread_ts") or "")
    if thread and where.find(thread) is None:
        raise Refused("invalid_thread_ts")
    made = Message(workspace.next_ts(), blocks, text, thread, args.get("metadata"), sent=dict(args))
    where.messages.append(made)
    return {"channel": where.id, "ts": made.ts, "message": made.as_json(workspace)}


def post_ephemeral(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``chat.postEphemeral``."""
    where = _open_conversation(workspace, str(args.get("channel", "")))
    if args.get("user") not in where.members:
        raise Refused("user_not_in_channel")
    blocks, text = _content(args)
    made = Message(workspace.next_ts(), blocks, text, seen_by=str(args["user"]), sent=dict(args))
    where.unseen.append(made)
    return {"message_ts": made.ts}


def update(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``chat.update``."""
    where = workspace.conversations.get(str(args.get("channel", "")))
    if where is None:
        raise Refused("channel_not_found")
    message = where.find(str(args.get("ts", "")))
    if message is None:
        raise Refused("message_not_found")
    blocks, text = _content({"blocks": message.blocks, "text": message.text, **args})
    message.past.append((message.blocks, message.text))
    message.blocks, message.text, message.sent = blocks, text, dict(args)
    if "metadata" in args:  # left out, the metadata stays as it was
        message.metadata = args["metadata"] or None
    return {"channel": where.id, "ts": message.ts, "text": text, "message": message.as_json(workspace)}


def delete(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``chat.delete``."""
    where = workspace.conversations.get(str(args.get("channel", "")))
    if where is None:
        raise Refused("channel_not_found")
    message = where.find(str(args.get("ts", "")))
    if message is None:
        raise Refused("message_not_found")
    where.messages.remove(message)
    return {"channel": where.id, "ts": message.ts}


# -- conversations -----------------------------------------------------------------------------------------------


def open_direct(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``conversations.open``."""
    ids = [id for id in str(args.get("users", "")).split(",") if id]
    if len(ids) != 1:
        raise Refused("users_list_not_supplied" if not ids else "not_enough_users")
    who = workspace.users.get(ids[0])
    if who is None:
        raise Refused("user_not_found")
    if who["deleted"]:
        raise Refused("user_disabled")
    if who["is_bot"]:
        raise Refused("cannot_dm_bot")
    return {"channel": {"id": workspace.direct(ids[0]).id}}


def _readable(workspace: Workspace, args: Mapping[str, Json], what: str) -> Conversation:
    found = workspace.conversations.get(str(args.get("channel", "")))
    if found is None:
        raise Refused("channel_not_found")
    needs(workspace, f"{found.kind}:{what}")
    if workspace.bot_user not in found.members:
        raise Refused("channel_not_found" if found.private else "not_in_channel")
    return found


def _page(workspace: Workspace, messages: list[Message], args: Mapping[str, Json]) -> Json:
    whole = str(args.get("include_all_metadata", "0")).lower() in ("1", "true")
    oldest, latest = float(args.get("oldest") or 0), float(args.get("latest") or "inf")
    inside = str(args.get("inclusive", "0")).lower() in ("1", "true")
    kept = [
        message
        for message in messages
        if oldest < float(message.ts) < latest or (inside and float(message.ts) in (oldest, latest))
    ]
    start, limit = int(args.get("cursor") or 0), min(int(args.get("limit") or 100), 999)
    page = kept[start : start + limit]
    more = start + limit < len(kept)
    return {
        "messages": [message.as_json(workspace, metadata=whole) for message in page],
        "has_more": more,
        "response_metadata": {"next_cursor": str(start + limit) if more else ""},
    }


def history(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``conversations.history``."""
    found = _readable(workspace, args, "history")
    newest_first = [message for message in reversed(found.messages) if not message.thread_ts]
    return _page(workspace, newest_first, args)


def replies(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``conversations.replies``."""
    found = _readable(workspace, args, "history")
    thread = str(args.get("ts", ""))
    if found.find(thread) is None:
        raise Refused("thread_not_found")
    return _page(workspace, [one for one in found.messages if thread in (one.ts, one.thread_ts)], args)


def conversation_info(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``conversations.info``."""
    found = _readable(workspace, args, "read")
    return {"channel": found.as_json() | {"is_member": workspace.bot_user in found.members}}


def conversation_list(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``conversations.list``."""
    wanted = set(str(args.get("types") or "public_channel").split(","))
    kinds = {"public_channel": "channels", "private_channel": "groups", "im": "im"}
    for kind in wanted & set(kinds):
        needs(workspace, f"{kinds[kind]}:read")
    chosen = {kinds[kind] for kind in wanted if kind in kinds}
    found = [one.as_json() for one in workspace.conversations.values() if one.kind in chosen]
    return {"channels": found, "response_metadata": {"next_cursor": ""}}


def members(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``conversations.members``."""
    found = _readable(workspace, args, "read")
    return {"members": sorted(found.members), "response_metadata": {"next_cursor": ""}}


# -- people ------------------------------------------------------------------------------------------------------


def _as_seen(workspace: Workspace, who: Json) -> Json:
    shown = copy.deepcopy(who)
    if "users:read.email" not in workspace.scopes or shown.get("is_stranger"):
        shown["profile"].pop("email", None)
    return shown


def user_info(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``users.info``."""
    who = workspace.users.get(str(args.get("user", "")))
    if who is None:
        raise Refused("user_not_found")
    return {"user": _as_seen(workspace, who)}


def lookup_by_email(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``users.lookupByEmail``."""
    asked = str(args.get("email", "")).lower()
    for who in workspace.users.values():
        if who["profile"].get("email", "").lower() == asked and not who["deleted"]:
            return {"user": _as_seen(workspace, who)}
    raise Refused("users_not_found")


# -- views -------------------------------------------------------------------------------------------------------


def _checked_view(args: Mapping[str, Json]) -> Json:
    view = args.get("view")
    if problems := view_problems(view):
        raise Refused("invalid_arguments", problems)
    if room([view]) > VIEW_ROOM:
        raise Refused("view_too_large")
    return copy.deepcopy(view)


def _keep_view(workspace: Workspace, view: Json, **more: Json) -> Json:
    id = more.pop("id", "") or workspace.next_id("V")
    kept = {
        "private_metadata": "",
        "callback_id": "",
        "external_id": "",
        **view,
        "id": id,
        "team_id": workspace.team,
        "app_id": workspace.app_id,
        "bot_id": workspace.bot_id,
        "hash": workspace.next_id("hash."),
        "state": {"values": {}},
        "root_view_id": id,
        "previous_view_id": None,
        **more,
    }
    workspace.views[id] = kept
    return kept


def open_view(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``views.open``."""
    view = _checked_view(args)
    return {"view": _keep_view(workspace, view, seen_by=slack.use_trigger(str(args.get("trigger_id", ""))))}


def push_view(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``views.push``."""
    return open_view(slack, workspace, args)


def update_view(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``views.update``."""
    id, outside = args.get("view_id"), args.get("external_id")
    known = workspace.views.values()
    old = next((one for one in known if one["id"] == id or (outside and one["external_id"] == outside)), None)
    if old is None:
        raise Refused("not_found")
    if args.get("hash") and args["hash"] != old["hash"]:
        raise Refused("hash_conflict")
    return {"view": _keep_view(workspace, _checked_view(args), id=old["id"], seen_by=old.get("seen_by", ""))}


def publish_view(slack: SlackServer, workspace: Workspace, args: Mapping[str, Json]) -> Json:
    """Answer ``views.publish``."""
    who = str(args.get("user_id", ""))
    if who not in workspace.users:
        raise Refused("user_not_found")
    view = _checked_view(args)
    if view["type"] != "home":
        raise Refused("invalid_arguments", ["must be a valid view type [json-pointer:/view/type]"])
    old = workspace.homes.get(who)
    if args.get("hash") and old is not None and args["hash"] != old["hash"]:
        raise Refused("hash_conflict")
    workspace.homes[who] = _keep_view(workspace, view, id=old["id"] if old else "", seen_by=who)
    return {"view": workspace.homes[who]}


METHODS: Mapping[str, Offered] = {
    "auth.test": Offered(auth_test),
    "chat.delete": Offered(delete, "chat:write"),
    "chat.postEphemeral": Offered(post_ephemeral, "chat:write"),
    "chat.postMessage": Offered(post_message, "chat:write"),
    "chat.update": Offered(update, "chat:write"),
    "conversations.history": Offered(history),
    "conversations.info": Offered(conversation_info),
    "conversations.list": Offered(conversation_list),
    "conversations.members": Offered(members),
    "conversations.open": Offered(open_direct, "im:write"),
    "conversations.replies": Offered(replies),
    "users.info": Offered(user_info, "users:read"),
    "users.lookupByEmail": Offered(lookup_by_email, "users:read.email"),
    "views.open": Offered(open_view),
    "views.publish": Offered(publish_view),
    "views.push": Offered(push_view),
    "views.update": Offered(update_view),
}
