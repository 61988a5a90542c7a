"""What a policy may answer: the three constructors for Python policies, and the defaults of a demand.

A demand made here knows which of its terms the author gave. The rest is filled in by the policy set from its
`Defaults`, so that a Python policy which only names approvers is delivered by the channels of the policy file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from governor_agents.core.verdicts import OnExpire, Stage, Verdict
from governor_agents.errors import ConfigError
from governor_agents.policies.values import approver, choice, count, flag, listed, seconds, text

TERMS = ("deadline", "run_within", "reason_required", "on_expire", "exclude_requester", "channels")
"""The fields of a demand, besides its stages, that have defaults."""

Duration = float | str
"""Seconds, or text such as ``4h``."""

Names = str | Sequence[str]


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

    def __post_init__(self) -> None:
        draft(self.given())

    def given(self) -> dict[str, Any]:
        """The terms that were given, as the author wrote them."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}


def channels(value: object) -> tuple[str, ...]:
    """Names of approval channels, at least one. Raises `ConfigError`."""
    found = listed(value, "channels", lambda item: text(item, "a channel"))
    if not found:
        raise ConfigError("channels must name at least one channel, or nobody would be told")
    return tuple(dict.fromkeys(found))


def _on_expire(value: object) -> str:
    return choice(value, ("continue", "end_run"))


READ_TERM = {
    "deadline": seconds,
    "run_within": seconds,
    "reason_required": flag,
    "on_expire": _on_expire,
    "exclude_requester": flag,
    "channels": channels,
}
"""How each term is read from what an author wrote; each raises `ConfigError`."""


def approvers(value: object) -> tuple[str, ...]:
    """Ids and groups in their one form, in order, each once. Raises `ConfigError`."""
    return tuple(dict.fromkeys(listed(value, "approvers", approver)))


def stage(names: object, quorum: object = 1, within: object = None) -> Stage:
    """One stage as an author wrote it. Raises `ConfigError`."""
    return Stage(approvers(names), (), count(quorum), None if within is None else seconds(within))


def _stages(given: Mapping[str, Any]) -> tuple[Stage, ...] | None:
    stages, names, quorum = given.get("stages"), given.get("approvers"), given.get("quorum")
    if stages is None:
        return None if names is None else (stage(names, 1 if quorum is None else quorum),)
    if names is not None or quorum is not None:
        raise ConfigError("give either stages, or approvers and quorum, not both")
    if not stages or not all(isinstance(item, Stage) for item in stages):
        raise ConfigError("stages must be a list of at least one stage")
    return tuple(stage(item.names, item.quorum, item.within) for item in stages)


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
) -> Verdict:
    """People must approve the call first.

    ``approvers`` are ids and ``group:NAME``; None asks the default approvers, an empty list nobody (the call is
    denied). Durations are seconds or text such as ``4h``. Whatever is None takes the policy set's default.
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
    }
    return draft(given, reason=reason)
