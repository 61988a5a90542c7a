"""Where people reach the pages of ``governor-agents serve``: what channels link to, and what the server must route."""

from __future__ import annotations

from urllib.parse import quote

CONFIRM = "/confirm/"
"""Before a one-time text: the page on which one person decides one request."""

REQUEST = "/requests/"
"""Before an approval's id: the whole request, for people who have logged in."""


def confirm_page(public_url: str, token: str) -> str:
    """The page of a one-time text of purpose ``decide``."""
    return f"{public_url.rstrip('/')}{CONFIRM}{quote(token, safe='')}"


def request_page(public_url: str, id: str) -> str:
    """The page of an approval. An id may hold slashes, which come as ``%2F``."""
    return f"{public_url.rstrip('/')}{REQUEST}{quote(id.encode('utf-8', 'backslashreplace'), safe='')}"
