"""What the server itself refuses, before anything is asked of the governor."""

from __future__ import annotations

from governor_agents.errors import TokenExpired
from governor_agents.handlers.answers import UNKNOWN


class Refused(Exception):
    """A request that does not count: status, reason code for the stream of refused requests, and plain words.

    ``id`` and ``by`` are whom and what it was about, where that is known; ``wait`` is in seconds. ``noted`` says that
    the line was written already.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        words: str,
        *,
        id: str = "",
        by: str = "",
        wait: float = 0.0,
        noted: bool = False,
    ) -> None:
        super().__init__(words)
        self.status = status
        self.reason = reason
        self.words = words
        self.id = id
        self.by = by
        self.wait = wait
        self.noted = noted


def not_found(*, id: str = "", by: str = "") -> Refused:
    """There is none, it is another tenant's, or it is none of this person's business: all look the same."""
    return Refused(404, "not_found", UNKNOWN, id=id, by=by)


def unknown_link() -> Refused:
    """A link that was never given out, was made for something else, or is of another tenant: all look the same."""
    return Refused(404, "unknown_link", "This link is not known here.")


def link_over() -> Refused:
    """A link that was given out, and whose time is over; only who has it learns so much."""
    return Refused(410, TokenExpired.code, "The time of this link is over.")


def unauthenticated() -> Refused:
    """Nobody is logged in."""
    return Refused(401, "unauthenticated", "Please log in to see this page.")


def forged(why: str, *, by: str = "") -> Refused:
    """A form that was not sent from a page of ours; ``why`` is a reason code."""
    return Refused(403, why, "This form did not come from the page that it belongs to. Open the page again.", by=by)


def malformed(words: str) -> Refused:
    """A form that says nothing that can be understood."""
    return Refused(422, "malformed", words)


def too_large(most: int) -> Refused:
    """A body of more bytes than are taken."""
    return Refused(413, "too_large", f"This is more than the {most // 1024} KiB that are taken here.")


def too_many(wait: float, *, by: str = "") -> Refused:
    """Over a limit; ``wait`` is in seconds."""
    words = f"Too many requests. Please wait {max(1, round(wait))} seconds and try again."
    return Refused(429, "too_many", words, by=by, wait=wait)
