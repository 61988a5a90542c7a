"""The app's manifest: what Slack must be told of it, as one text to paste at api.slack.com/apps."""

from __future__ import annotations

from urllib.parse import urlsplit

from governor_agents.core.calls import Json
from governor_agents.core.urls import shown_page
from governor_agents.errors import ConfigError

PATH = "/slack"
"""Where ``governor-agents serve`` takes what Slack sends."""

SCOPES = {
    "chat:write": "posts and updates cards",
    "im:write": "opens direct messages",
    "im:history": "finds a card again after a crash",
    "users:read": "asks who clicked: no guests, no bots, nobody of another company",
}
"""What the bot token must be good for, and why."""

CHANNEL_SCOPES = {
    "channels:read": "sees whether the app is in a channel",
    "channels:history": "finds a card again after a crash, in a channel",
    "groups:read": "the same for private channels",
    "groups:history": "the same for private channels",
}
"""What it needs besides where cards go to channels and not to people alone."""

NAME_ROOM = 35


def manifest(*, name: str = "Approvals", url: str = "", channels: bool = True) -> Json:
    """The manifest. With a public ``url`` Slack sends requests there; without one, over Socket Mode.

    ``channels``: cards may be posted in channels too. Raises `ConfigError`.
    """
    if not name.strip() or len(name) > NAME_ROOM:
        raise ConfigError(f"an app's name has 1 to {NAME_ROOM} characters, and this has {len(name)}")
    endpoint = f"{_public(url)}{PATH}" if url else ""
    target = {"request_url": endpoint} if endpoint else {}
    scopes = sorted({**SCOPES, **(CHANNEL_SCOPES if channels else {})})
    return {
        "display_information": {
            "name": name,
            "description": "Asks the right people before an AI agent acts, and shows them exactly what will run.",
        },
        "features": {
            "app_home": {
                "home_tab_enabled": True,
                "messages_tab_enabled": True,
                "messages_tab_read_only_enabled": True,
            },
            "bot_user": {"display_name": name, "always_online": True},
        },
        "oauth_config": {"scopes": {"bot": scopes}},
        "settings": {
            "interactivity": {"is_enabled": True, **target},
            "event_subscriptions": {**target, "bot_events": ["app_home_opened"]},
            "org_deploy_enabled": False,
            "socket_mode_enabled": not endpoint,
            "token_rotation_enabled": False,
        },
    }


def _public(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme == "https" and parts.hostname and not (parts.username or parts.query or parts.fragment)
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{shown_page(url)} is no URL that Slack can reach: give https://HOST, or use --socket")
    return url.rstrip("/")
