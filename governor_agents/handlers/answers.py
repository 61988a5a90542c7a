"""What whoever asked is answered when a request does not count: an HTTP status, and plain words.

Channels differ in how they say it, never in what they say.
"""

from __future__ import annotations

from dataclasses import dataclass

from governor_agents.errors import (
    AlreadyDecided,
    ArgumentsError,
    DeadlinePassed,
    DecisionRefused,
    DirectoryUnreadable,
    EditRefused,
    GovernorError,
    NotAnApprover,
    NotFound,
    ReasonRequired,
    StaleDecision,
    StoreError,
    TokenExpired,
    TokenUsed,
)
from governor_agents.handlers.visible import visible

UNCONFIRMED = (
    "Not confirmed yet: the store does not answer. Your decision may or may not have been recorded; "
    "this request will show what counts."
)

UNKNOWN = "There is no such request, or it is not yours to see."
"""Said alike of what was never there, of another tenant's, and of what is none of the asker's business."""

NOBODY = "Not confirmed: who people are cannot be looked up just now, so nobody is identified. Nothing was decided."

_STATUS: tuple[tuple[type[GovernorError], int], ...] = (
    (NotFound, 404),
    (NotAnApprover, 403),
    (AlreadyDecided, 409),
    (StaleDecision, 409),
    (DeadlinePassed, 410),
    (TokenUsed, 410),
    (TokenExpired, 410),
    (ReasonRequired, 422),
    (EditRefused, 422),
    (ArgumentsError, 422),
    (DirectoryUnreadable, 503),
    (StoreError, 503),
    (DecisionRefused, 409),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP status, the stable code of the reason, and one line for people."""

    status: int
    code: str
    text: str


def refusal(error: GovernorError) -> Refusal:
    """What to answer. An unknown id and one of another tenant read alike; a store that is away promises nothing."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if isinstance(error, StoreError):
        return Refusal(503, error.code, UNCONFIRMED)
    if isinstance(error, DirectoryUnreadable):  # what is wrong in it names people, and is for whoever runs this
        return Refusal(503, error.code, NOBODY)
    if status == 404:
        return Refusal(404, error.code, UNKNOWN)
    return Refusal(status, error.code, visible(str(error)))
