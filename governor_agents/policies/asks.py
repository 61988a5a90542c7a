"""What a policy may answer: the three constructors for Python policies, and the defaults of a demand.

A demand made here knows which of its terms the author gave. The rest is filled in by the policy set from its
`Defaults`, so that a Python policy which only names approvers is delivered by the channels of the policy file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from governor_agents.core.headline import read_headline
from governor_agents.core.hours import QuietHours
from governor_agents.core.verdicts import OnExpire, Stage, Verdict
from governor_agents.errors import ConfigError
from governor_agents.policies.channels import channels
from governor_agents.policies.conditions import compiled
from governor_agents.policies.hours import quiet_hours
from governor_agents.policies.values import approver, choice, count, flag, listed, seconds, text

TERMS = (
    "deadline",
    "run_within",
    "reason_required",
    "on_expire",
    "exclude_requester",
    "channels",
    "headline",
    "reminders",
    "quiet_hours",
    "delegates",
)
"""The fields of a demand, besides its stages, that have defaults."""

Duration = float | str
"""Seconds, or text such as ``4h``."""

Names = str | Sequence[str]

Hours = QuietHours | Mapping[str, object]
"""Quiet hours, or how a file writes them: ``{"from": "18:00", "to": "08:00", "timezone": "Europe/Berlin"}``."""

MAX_REMINDERS = 10
"""Most reminders of one request."""


@dataclass(frozen=True, slots=True)
class Draft(Verdict):
    """A demand of which some fields were not given; a policy set fills these in."""

    unset: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Defaults:
    """Who is asked, and how, where a rule does not say. None means "not given"; durations are seconds or text.

    Without ``approvers`` nobody is asked by default: what would ask is then denied.
    """

    approvers: Names | None = None
    channels: Names | None = None
    deadline: Duration | None = None
    run_within: Duration | None = None
    reason_required: bool | None = None
    on_expire: OnExpire | None = None
    exclude_requester: bool | None = None
    headline: str | None = None
    reminders: Sequence[Duration] | None = None
    quiet_hours: Hours | None = None
    delegates: Names | None = None

    def __post_init__(self) -> None:
        draft(self.given())

    def given(self) -> dict[str, Any]:
        """The terms that were given, as the author wrote them."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}


def _on_expire(value: object) -> str:
    return choice(value, ("continue", "end_run"))


def _headline(value: object) -> str:
    found = text(value, "a headline") if value != "" else ""
    read_headline(found)
    return found


def _reminders(value: object) -> tuple[float, ...]:
    items = [value] if isinstance(value, (str, int, float)) else value
    if not isinstance(items, (list, tuple)) or len(items) > MAX_REMINDERS:
        raise ConfigError(f"reminders are a list of at most {MAX_REMINDERS} durations, such as [1h, 4h]")
    return tuple(sorted({seconds(item) for item in items}))


def approvers(value: object) -> tuple[str, ...]:
    """Ids, groups and roles in their one form, in order, each once. Raises `ConfigError`."""
    return tuple(dict.fromkeys(listed(value, "approvers", approver)))


READ_TERM = {
    "deadline": seconds,
    "run_within": seconds,
    "reason_required": flag,
    "on_expire": _on_expire,
    "exclude_requester": flag,
    "channels": channels,
    "headline": _headline,
    "reminders": _reminders,
    "quiet_hours": quiet_hours,
    "delegates": approvers,
}
"""How each term is read from what an author wrote; each raises `ConfigError`."""


def stage(names: object, quorum: object = 1, within: object = None, when: str = "") -> Stage:
    """One stage as an author wrote it; ``when`` is a CEL condition. Raises `ConfigError`."""
    if when:
        compiled(when)
    return Stage(approvers(names), (), count(quorum), None if within is None else seconds(within), when)


def _stages(given: Mapping[str, Any]) -> tuple[Stage, ...] | None:
    stages, names, quorum = given.get("stages"), given.get("approvers"), given.get("quorum")
    if stages is None:
        return None if names is None else (stage(names, 1 if quorum is None else quorum),)
    if names is not None or quorum is not None:
        raise ConfigError("give either stages, or approvers and quorum, not both")
    if not stages or not all(isinstance(item, Stage) for item in stages):
        raise ConfigError("stages must be a list of at least one stage")
    return tuple(stage(item.names, item.quorum, item.within, item.when) for item in stages)


def draft(given: Mapping[str, Any], **about: Any) -> Draft:
    """A demand from the terms that are given (not None); ``about`` names policy, version, code, reason.

    ``quorum`` without approvers applies to the default approvers. Raises `ConfigError` for a value that does not fit.
    """
    terms: dict[str, Any] = {name: READ_TERM[name](given[name]) for name in TERMS if given.get(name) is not None}
    stages = _stages(given)
    unset: set[str] = {name for name in TERMS if name not in terms}
    if stages is None:
        unset.add("stages")
        # A stage without names keeps the quorum until the default approvers are known.
        stages = (Stage((), (), count(given["quorum"])),) if given.get("quorum") is not None else ()
    return Draft("require_approval", stages=stages, unset=frozenset(unset), **terms, **about)


def allow(reason: str = "") -> Verdict:
    """The call may run."""
    return Verdict("allow", reason=reason)


def deny(reason: str = "") -> Verdict:
    """The call must not run; the model is told ``reason``."""
    return Verdict("deny", reason=reason)


def require_approval(
    approvers: Names | None = None,
    *,
    quorum: int | None = None,
    stages: Sequence[Stage] | None = None,
    deadline: Duration | None = None,
    run_within: Duration | None = None,
    reason: str = "",
    reason_required: bool | None = None,
    on_expire: OnExpire | None = None,
    exclude_requester: bool | None = None,
    channels: Names | None = None,
    headline: str | None = None,
    reminders: Sequence[Duration] | None = None,
    quiet_hours: Hours | None = None,
    delegates: Names | None = None,
) -> Verdict:
    """People must approve the call first.

    ``approvers`` are ids, ``group:NAME`` and ``role:NAME``; None asks the default approvers, an empty list nobody (the
    call is denied). A `Stage` may have a condition: ``Stage(("role:cfo",), when="call.args.amount > 10000")``.
    ``delegates`` are those to whom an approver may hand a seat. Durations are seconds or text such as ``4h``. Whatever
    is None takes the policy set's default.
    Raises `ConfigError` for a value that does not fit.
    """
    given = {
        "approvers": approvers,
        "quorum": quorum,
        "stages": stages,
        "deadline": deadline,
        "run_within": run_within,
        "reason_required": reason_required,
        "on_expire": on_expire,
        "exclude_requester": exclude_requester,
        "channels": channels,
        "headline": headline,
        "reminders": reminders,
        "quiet_hours": quiet_hours,
        "delegates": delegates,
    }
    return draft(given, reason=reason)
