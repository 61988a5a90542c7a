"""What slack-sdk raises when Slack does not do what was asked, and Slack's word for why."""

from __future__ import annotations

from aiohttp import ClientError
from slack_sdk.errors import SlackApiError, SlackClientError

TROUBLE = (SlackClientError, ClientError, OSError, ValueError, AttributeError, RecursionError)
"""A time-out is an OSError. An answer that is JSON but no object, or plain text as a proxy on the way sends it with a
503, is an AttributeError: slack-sdk looks for a key in whatever came."""


def word_of(error: Exception, key: str = "error") -> str:
    """What Slack's answer says under this key; empty when no answer of Slack's came."""
    data = getattr(error.response, "data", None) if isinstance(error, SlackApiError) else None
    found = data.get(key) if isinstance(data, dict) else None
    return found if isinstance(found, str) else ""
