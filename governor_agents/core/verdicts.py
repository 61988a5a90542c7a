"""What policies say of a call: allow, deny, or ask people, and whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from governor_agents.core.calls import CLOSED, Tool, ToolCall
from governor_agents.core.hours import QuietHours

Outcome = Literal["allow", "deny", "require_approval"]
OnExpire = Literal["continue", "end_run"]

STRICTNESS: dict[Outcome, int] = {"allow": 0, "require_approval": 1, "deny": 2}

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Stage:
    """People of whom ``quorum`` must approve. ``names`` is what the policy said, ``people`` whom it meant then.

    An empty ``people`` means nobody can approve, never everybody. ``within`` bounds the stage in seconds; when it
    passes, the next stage of the same demand is asked; without one the approval expires. ``when`` is a condition of the
    policy: where it is false of a call the stage is left out, where it cannot be decided it is asked; in a settled
    verdict it is empty. ``source`` says whose demand it is, so that waiting never removes a stage which another policy
    wants.
    """

    __pydantic_config__ = CLOSED

    names: tuple[str, ...]
    people: tuple[str, ...] = ()
    quorum: int = 1
    within: float | None = None
    when: str = ""
    source: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one policy, or the whole set, says of one call.

    ``policy`` names the rule that decided (``governor.yaml#refunds``), ``version`` the text it came from, ``code`` is
    a stable reason code (``rule``, ``default``, ``read_only``, ``policy_error``, ``no_approvers`` ...), ``reason`` is
    for people. ``deadline`` and ``run_within`` are seconds: to decide, and to run once decided. ``channels`` name
    handlers, or are ``NAME:TARGET``; ``headline`` is a template, ``reminders`` are seconds after asking,
    ``quiet_hours`` hours that no deadline counts, ``delegates`` people to whom an approver may hand a seat.
    ``requesters`` are all names that the directory has for whoever asked.
    """

    outcome: Outcome
    policy: str = ""
    version: str = ""
    code: str = "rule"
    reason: str = ""
    stages: tuple[Stage, ...] = ()
    deadline: float = DAY
    run_within: float = DAY
    reason_required: bool = False
    on_expire: OnExpire = "continue"
    exclude_requester: bool = True
    channels: tuple[str, ...] = ("terminal",)
    headline: str = ""
    reminders: tuple[float, ...] = ()
    quiet_hours: QuietHours | None = None
    delegates: tuple[str, ...] = ()
    requesters: tuple[str, ...] = ()

    @property
    def strictness(self) -> int:
        """0 allow, 1 ask, 2 deny."""
        return STRICTNESS[self.outcome]


@runtime_checkable
class Policy(Protocol):
    """One rule, or a whole file of them. Returns None to abstain; raising means "ask or deny", never "allow"."""

    def evaluate(self, call: ToolCall, tool: Tool) -> Verdict | None:
        """What this policy says of the call."""
        ...


PolicyCallable = Callable[[ToolCall], Verdict | None]
