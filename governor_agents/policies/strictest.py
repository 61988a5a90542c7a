"""From what several policies say to one verdict.

deny beats ask beats allow. Of several denials the first is told, a rule's before a failure's. Asks add up: the stages
of all of them in the order of the policies (a stage that two policies ask alike is asked once), the shortest
``deadline`` and ``run_within``, a reason when one of them wants it, ``end_run`` before ``continue``, the requester
excluded when one of them excludes, all channels and reminders, the first headline. A seat may be handed to those alone
to whom each of them lets it be handed; hours are quiet, and lengthen the deadline, only when they are so for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from governor_agents.core.calls import freeze, sha256
from governor_agents.core.verdicts import Stage, Verdict
from governor_agents.policies.asks import TERMS, Draft, approvers
from governor_agents.policies.hours import NEVER_QUIET

NO_STAGE = "nobody could approve it: none of its stages is for such a call"

FAILURES = frozenset({"directory_unreadable", "policy_error", "policies_stale", "policies_unavailable"})
"""Codes that say that something failed; a verdict of theirs keeps its code whatever else it is joined with."""

Expand = Callable[[Iterable[str]], tuple[str, ...]]
"""From ids and groups to people. Raises `ConfigError` for an unknown group."""


def _people(stage: Stage, expand: Expand) -> Stage:
    return replace(stage, people=expand(approvers(stage.people or stage.names)))


def _stages(verdict: Verdict, base: Verdict) -> tuple[Stage, ...]:
    """The stages of a demand; the default ones, with its own quorum, when it named nobody."""
    if not isinstance(verdict, Draft) or "stages" not in verdict.unset:
        return verdict.stages
    if not verdict.stages:
        return base.stages
    return tuple(replace(stage, quorum=verdict.stages[0].quorum) for stage in base.stages)


def with_defaults(verdict: Verdict, base: Verdict) -> Verdict:
    """What a rule demands, with the default people and channels where it names none. Names stay names."""
    unset = verdict.unset if isinstance(verdict, Draft) else frozenset[str]()
    channels = base.channels if "channels" in unset else verdict.channels
    return replace(verdict, stages=_stages(verdict, base), channels=channels)


def _hopeless(stages: Sequence[Stage]) -> str:
    """Why nobody could ever approve these stages; empty when somebody can."""
    if not stages:
        return "nobody is named who could approve it"
    for stage in stages:
        named = ", ".join(stage.names) or "nobody"
        if not stage.people:
            return f"nobody could approve it: there is nobody in {named}"
        if len(stage.people) < stage.quorum:
            return f"nobody could approve it: it needs {stage.quorum} of {named}, and that is {len(stage.people)}"
    return ""


def settle(verdict: Verdict, base: Verdict, expand: Expand, asked: Callable[[Stage], bool] = lambda _: True) -> Verdict:
    """A verdict with nothing left open: terms from ``base``, people for names; a deny when nobody could approve.

    ``base`` is the default demand; ``asked`` says whether a stage with a condition is asked of this call. Raises
    `ConfigError` for an unknown group, `DirectoryUnreadable`.
    """
    if verdict.outcome != "require_approval":
        return verdict
    unset = verdict.unset if isinstance(verdict, Draft) else frozenset[str]()
    named = _stages(verdict, base)
    met = [stage for stage in named if not stage.when or asked(stage)]
    stages = tuple(replace(_people(stage, expand), source=verdict.policy, when="") for stage in met)
    about = {name: getattr(verdict, name) for name in ("policy", "version", "code", "reason")}
    why = _hopeless(stages) if stages or not named else NO_STAGE
    if why:
        about["code"] = verdict.code if verdict.code in FAILURES else "no_approvers"
        about["reason"] = "; ".join(filter(None, (verdict.reason, why)))
        return Verdict("deny", **about)
    terms: dict[str, Any] = {name: getattr(base if name in unset else verdict, name) for name in TERMS}
    terms["delegates"] = expand(approvers(terms["delegates"]))
    terms["quiet_hours"] = terms["quiet_hours"] if terms["quiet_hours"] != NEVER_QUIET else None
    return Verdict("require_approval", stages=stages, **about, **terms)


def _joined(texts: Iterable[str], by: str) -> str:
    return by.join(dict.fromkeys(filter(None, texts)))


def join_versions(versions: Iterable[str]) -> str:
    """One version for several: the same when there is one, otherwise 16 hex digits over all of them."""
    found = list(dict.fromkeys(filter(None, versions)))
    return found[0] if len(found) == 1 else sha256(freeze(found))[:16] if found else ""


def _alike(one: Stage, other: Stage) -> bool:
    return (one.people, one.quorum, one.within) == (other.people, other.quorum, other.within)


def all_stages(asks: Sequence[Verdict]) -> tuple[Stage, ...]:
    """The stages of all asks. Two alike within one ask want two people; alike in two asks, one person does for both."""
    found: list[Stage] = []
    for ask in asks:
        free = list(range(len(found)))
        for stage in ask.stages:
            at = next((at for at in free if _alike(found[at], stage)), None)
            if at is None:
                found.append(stage)
            else:
                free.remove(at)
                found[at] = replace(found[at], names=tuple(dict.fromkeys((*found[at].names, *stage.names))))
    return tuple(found)


MERGE: dict[str, Callable[[list[Any]], Any]] = {
    "deadline": min,
    "run_within": min,
    "reason_required": any,
    "on_expire": lambda said: "end_run" if "end_run" in said else "continue",
    "exclude_requester": any,
    "channels": lambda said: tuple(dict.fromkeys(name for names in said for name in names)),
    "headline": lambda said: next(filter(None, said), ""),
    "reminders": lambda said: tuple(sorted({after for times in said for after in times})),
    "quiet_hours": lambda said: said[0] if all(hours == said[0] for hours in said) else None,
    "delegates": lambda said: tuple(name for name in said[0] if all(name in names for names in said)),
}
"""How each term of several asks becomes one."""


def merge_terms(asks: Sequence[Verdict]) -> dict[str, Any]:
    """The terms that are given in at least one of the asks."""
    merged: dict[str, Any] = {}
    for name, merge in MERGE.items():
        said = [getattr(ask, name) for ask in asks if not (isinstance(ask, Draft) and name in ask.unset)]
        if said:
            merged[name] = merge(said)
    return merged


def _added(asks: Sequence[Verdict]) -> Verdict:
    return Verdict(
        "require_approval",
        policy=_joined((ask.policy for ask in asks), " + "),
        version=join_versions(ask.version for ask in asks),
        code=next((ask.code for ask in asks if ask.code in FAILURES), asks[0].code),
        reason=_joined((ask.reason for ask in asks), "; "),
        stages=all_stages(asks),
        **merge_terms(asks),
    )


def strictest(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict from at least one settled verdict, by the rules above."""
    if len(verdicts) == 1:
        return verdicts[0]
    most = max(verdict.strictness for verdict in verdicts)
    same = [verdict for verdict in verdicts if verdict.strictness == most]
    if same[0].outcome == "require_approval" and len(same) > 1:
        return _added(same)
    return next((verdict for verdict in same if verdict.code not in FAILURES), same[0])
