"""Slack as an approval channel: cards out, clicks in. Importing this loads no client; naming the handler does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from governor_agents.handlers.slack.handler import SlackHandler

__all__ = ["SlackHandler"]


def __getattr__(name: str) -> Any:
    if name != "SlackHandler":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from governor_agents.handlers.slack.handler import SlackHandler

    return SlackHandler
