"""The contents of a workspace of the local Slack: people, conversations, messages, views."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

Json = Any

SCOPES = frozenset(
    {
        "channels:history",
        "channels:read",
        "chat:write",
        "groups:history",
        "groups:read",
        "im:history",
        "im:read",
        "im:write",
        "users:read",
        "users:read.email",
    }
)
"""Every scope that this server knows of a bot; the app-level token has ``connections:write``."""


@dataclass
class Message:
    """One message as it stands; ``past`` are its earlier forms, oldest first. ``bot_id`` is another app's, if any."""

    ts: str
    blocks: list[Json]
    text: str
    thread_ts: str = ""
    metadata: Json = None
    seen_by: str = ""
    sent: Json = None
    past: list[tuple[list[Json], str]] = field(default_factory=list)
    bot_id: str = ""

    def as_json(self, workspace: Workspace, *, metadata: bool = False) -> Json:
        """In the form in which Slack gives it back."""
        shown: Json = {
            "type": "message",
            "user": workspace.bot_user,
            "bot_id": self.bot_id or workspace.bot_id,
            "app_id": workspace.app_id,
            "team": workspace.team,
            "ts": self.ts,
            "text": self.text,
            "blocks": copy.deepcopy(self.blocks),
        }
        if self.thread_ts:
            shown["thread_ts"] = self.thread_ts
        if self.metadata:
            shown["metadata"] = self.metadata if metadata else {"event_type": self.metadata["event_type"]}
        return shown


@dataclass
class Conversation:
    """A channel, or the direct messages of one person with the app."""

    id: str
    name: str = ""
    person: str = ""
    members: set[str] = field(default_factory=set)
    private: bool = False
    archived: bool = False
    messages: list[Message] = field(default_factory=list)
    unseen: list[Message] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The word that its scopes begin with."""
        return "im" if self.person else "groups" if self.private else "channels"

    def find(self, ts: str) -> Message | None:
        """The message of that time, also one in a thread."""
        return next((message for message in self.messages if message.ts == ts), None)

    def as_json(self) -> Json:
        """In the form in which Slack gives it back."""
        if self.person:
            return {"id": self.id, "is_im": True, "user": self.person}
        return {
            "id": self.id,
            "name": self.name or self.id.lower(),
            "is_channel": not self.private,
            "is_private": self.private,
            "is_archived": self.archived,
        }


@dataclass
class Workspace:
    """One workspace that the app is installed in. Take things away to see what the app does without them:

    ``scopes.discard(...)``, ``revoked = "token_revoked"``, ``conversations["C1"].members.discard(...)``.
    """

    team: str
    app_id: str
    token: str = field(repr=False)
    enterprise: str = ""
    scopes: set[str] = field(default_factory=lambda: set(SCOPES))
    revoked: str = ""
    users: dict[str, Json] = field(default_factory=dict)
    conversations: dict[str, Conversation] = field(default_factory=dict)
    views: dict[str, Json] = field(default_factory=dict)
    homes: dict[str, Json] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(1), repr=False)

    @property
    def bot_user(self) -> str:
        """The app's own user."""
        return f"UBOT{self.team}"

    @property
    def bot_id(self) -> str:
        """The app's bot."""
        return f"B{self.team}"

    def person(self, id: str, name: str = "", *, email: str = "", confirmed: bool = True, **flags: Json) -> str:
        """Somebody in this workspace, or whom it sees in a shared channel; the id.

        ``flags`` are those of Slack's user object: ``deleted``, ``is_bot``, ``is_restricted``, ``is_ultra_restricted``,
        ``is_stranger``, ``team_id`` of another workspace, ``enterprise_user``.
        """
        name = name or id.lower()
        known = {
            "id": id,
            "team_id": self.team,
            "name": name,
            "real_name": name.title(),
            "deleted": False,
            "is_bot": False,
            "is_restricted": False,
            "is_ultra_restricted": False,
            "is_app_user": False,
            "is_email_confirmed": confirmed,
            "profile": {"real_name": name.title(), "display_name": name, "email": email or f"{name}@example.com"},
        }
        if self.enterprise:
            known["enterprise_user"] = {"id": id, "enterprise_id": self.enterprise, "teams": [self.team]}
        self.users[id] = known | flags
        return id

    def channel(self, id: str, *people: str, private: bool = False, joined: bool = True) -> Conversation:
        """A channel with these people; ``joined``: the app was invited to it."""
        members = {*people, *((self.bot_user,) if joined else ())}
        self.conversations[id] = Conversation(id, members=members, private=private)
        return self.conversations[id]

    def direct(self, user: str) -> Conversation:
        """The direct messages of somebody with the app, opened if need be."""
        for conversation in self.conversations.values():
            if conversation.person == user:
                return conversation
        made = Conversation(f"D{self.team}{user}", person=user, members={user, self.bot_user})
        self.conversations[made.id] = made
        return made

    def messages(self, channel: str = "") -> list[Message]:
        """Every message of a conversation, or of all of them, in the order in which they were posted."""
        every = self.conversations.values() if not channel else (self.conversations[channel],)
        return sorted((message for one in every for message in one.messages), key=lambda message: message.ts)

    def where(self, message: Message) -> str:
        """The id of the conversation that a message stands in."""
        return next(one.id for one in self.conversations.values() if message in one.messages or message in one.unseen)

    def next_ts(self) -> str:
        """The time of the next message: one of its own, as Slack promises within a conversation."""
        return f"{1_795_000_000 + next(self.numbers)}.{self.team[-1:].encode()[0]:06d}"

    def next_id(self, kind: str) -> str:
        """An id such as ``V0000004T01``."""
        return f"{kind}{next(self.numbers):07d}{self.team}"
