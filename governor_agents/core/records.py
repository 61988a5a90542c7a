"""The records: one `Run` is the aggregate a store keeps, everything that must change together is inside it.

All classes are frozen; a change is a new object made with `evolve`. Times are epoch seconds by the store's clock. A
``repr`` ends in logs, so it leaves out arguments, results, and what people or tools said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, TypeVar

from governor_agents.core.calls import CLOSED, IN_FLIGHT, Operand, Retry, Risk, ToolCall, thaw
from governor_agents.core.hours import QuietHours
from governor_agents.core.verdicts import DAY, OnExpire, Stage
from governor_agents.errors import ArgumentsError

T = TypeVar("T")


def evolve(record: T, **changes: Any) -> T:
    """A copy of a frozen record with some fields changed."""
    return replace(record, **changes)  # type: ignore[type-var]


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    ACTIVE = "active"
    WAITING = "waiting"
    READY = "ready"
    BLOCKED = "blocked"
    DEAD = "dead"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True for states that nothing leaves."""
        return self in (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)


class CallState(StrEnum):
    """Where a tool call stands."""

    DENIED = "denied"
    ALLOWED = "allowed"
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    ANSWERED = "answered"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    EXECUTING = "executing"
    RETRY = "retry"
    RECONCILING = "reconciling"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def open(self) -> bool:
        """True while the call may still run, or may be running, or may have run."""
        return self in _OPEN


_OPEN = frozenset(
    {
        CallState.ALLOWED,
        CallState.PENDING,
        CallState.APPROVED,
        CallState.EXECUTING,
        CallState.RETRY,
        CallState.RECONCILING,
        CallState.UNKNOWN,
    }
)

MAX_ATTEMPTS = 5
"""After how many claims without progress a run is given up as DEAD, where nothing else is said."""

DecisionKind = Literal["approve", "reject", "edit", "respond"]
Answer = Literal["happened", "did-not-happen", "abandon"]
"""What an operator may say of a call in doubt."""
Standing = Literal["", "delegate", "substitute"]
"""As what somebody speaks in another's place: handed over for this request, or while the other is away."""
NoticeKind = Literal["asked", "decided", "reminded", "changed"]
"""``asked``: somebody is newly asked; ``changed``: what is shown must be shown anew (votes, claims, comments ...)."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decides: approve, reject, edit (new arguments) or respond (answer in the tool's place)."""

    kind: DecisionKind
    reason: str = field(default="", repr=False)
    args: bytes | None = field(default=None, repr=False)
    answer: str = field(default="", repr=False)

    @classmethod
    def approve(cls, reason: str = "") -> Decision:
        """Run exactly what was shown."""
        return cls("approve", reason)

    @classmethod
    def reject(cls, reason: str = "") -> Decision:
        """Do not run it; the model is told why."""
        return cls("reject", reason)

    @classmethod
    def edit(cls, arguments: dict[str, Any] | bytes, reason: str = "") -> Decision:
        """Run it with these arguments instead; the policies are asked again. Raises `ArgumentsError`."""
        from governor_agents.core.calls import freeze, freeze_text

        args = freeze_text(arguments) if isinstance(arguments, bytes) else freeze(arguments)
        return cls("edit", reason, args=args)

    @classmethod
    def respond(cls, answer: str, reason: str = "") -> Decision:
        """Do not run it; the person's answer, a text, takes the place of the tool's result. Raises `ArgumentsError`."""
        if not isinstance(answer, str):
            raise ArgumentsError(f"an answer is a text, not a {type(answer).__name__}")
        return cls("respond", reason, answer=answer)


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's word on one call, and the digest it counts for.

    ``seen`` is the digest it was given on when that is another: the same bytes, asked again under a stricter policy.
    ``seat`` is the approver in whose place it was given, empty when that is ``by``; ``standing`` says as what, empty
    for the same person under another name. ``own``: whoever asked for the call gave it.
    """

    __pydantic_config__ = CLOSED

    by: str
    kind: DecisionKind
    at: float
    digest: str
    stage: int = 0
    reason: str = field(default="", repr=False)
    channel: str = ""
    seen: str = ""
    seat: str = ""
    standing: Standing = ""
    own: bool = False


@dataclass(frozen=True, slots=True)
class HandOver:
    """An approver's seat in another's hands: ``to`` may decide for ``seat``, or alone may when it was ``moved``."""

    __pydantic_config__ = CLOSED

    seat: str
    to: str
    by: str
    at: float
    moved: bool = False


@dataclass(frozen=True, slots=True)
class TakenUp:
    """Who said that they are looking at it."""

    __pydantic_config__ = CLOSED

    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Comment:
    """What somebody who is asked wrote beside a request. It decides nothing."""

    __pydantic_config__ = CLOSED

    by: str
    at: float
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One time a worker set out to run the call.

    ``died`` is when that worker was known to be done with it: dead, or back from the tool without a result; None until
    then.
    """

    __pydantic_config__ = CLOSED

    fence: int
    owner: str
    at: float
    died: float | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """How a doubt was settled: an operator's answer, and what it rests on."""

    __pydantic_config__ = CLOSED

    how: Answer
    by: str
    at: float
    evidence: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Result:
    """A recorded outcome of a call: JSON text in place, or the id of the blob that holds it when it is large.

    ``sha256`` is over the JSON bytes; ``ok`` is False for an exception.
    """

    __pydantic_config__ = CLOSED

    sha256: str
    data: str | None = field(default=None, repr=False)
    blob: str = ""
    ok: bool = True


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of a run: journal entry and, when people must decide, approval, in one.

    ``n`` is its number in the run; ``RUN.n`` is the approval's id. ``stages[stage]`` is asked now. ``expires`` bounds
    PENDING, ``deadline`` is how many seconds that was at first; ``run_within`` bounds the time from the run's READY to
    the intent. ``passed_over`` are stages whose own time ended before they approved. ``told`` is what the model hears
    instead of a result. ``in_flight`` is for how many seconds a request of the tool may still be under way after its
    worker died; ``doubt`` that an attempt ended without a result, ``lapsed`` when the latest did. ``restored`` names
    the quarantine in which it came from an old copy of its store.

    ``headline`` is the policy's template for it. ``delegates`` are people to whom an approver may hand a seat,
    ``handed`` the seats that were; ``reminders`` are the times at which people are still to be reminded,
    ``remind_after`` how many seconds after asking those are; ``quiet_hours`` are not counted into any of its times;
    ``shown`` is when a channel last showed it as it was then.
    """

    __pydantic_config__ = CLOSED

    n: int
    call_id: str
    generation: int
    tool: str
    args: bytes = field(repr=False)
    state: CallState
    created: float
    agent: str = ""
    schema_sha256: str = ""
    operands: tuple[Operand, ...] = ()
    retry: Retry = "none"
    idempotency_ttl: float = DAY
    in_flight: float = IN_FLIGHT
    policy: str = ""
    version: str = ""
    code: str = ""
    why: str = field(default="", repr=False)
    digest: str = ""
    fingerprint: str = ""
    nonce: str = field(default="", repr=False)
    idem_key: str = field(default="", repr=False)
    stages: tuple[Stage, ...] = ()
    stage: int = 0
    stage_expires: float | None = None
    passed_over: tuple[Stage, ...] = ()
    expires: float | None = None
    deadline: float = DAY
    run_within: float = DAY
    reason_required: bool = False
    on_expire: OnExpire = "continue"
    excluded: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    votes: tuple[Vote, ...] = ()
    asked_args: bytes | None = field(default=None, repr=False)
    attempts: tuple[Attempt, ...] = ()
    doubt: bool = False
    lapsed: float | None = None
    result: Result | None = None
    told: str = field(default="", repr=False)
    resolved: Resolution | None = None
    replaces: int | None = None
    replaced_by: int | None = None
    restored: str = ""
    headline: str = ""
    risk: Risk = "normal"
    delegates: tuple[str, ...] = ()
    handed: tuple[HandOver, ...] = ()
    taken_up: TakenUp | None = None
    comments: tuple[Comment, ...] = ()
    reminders: tuple[float, ...] = ()
    remind_after: tuple[float, ...] = ()
    quiet_hours: QuietHours | None = None
    shown: float | None = None

    def hands(self, seat: str) -> tuple[str, tuple[str, ...]]:
        """Whose an approver's seat is now, and who else may decide for it because that person said so."""
        holder, delegates = seat, tuple[str, ...]()
        for over in self.handed:
            if over.seat == seat:
                holder, delegates = (over.to, ()) if over.moved else (holder, (*delegates, over.to))
        return holder, delegates

    @property
    def edited(self) -> bool:
        """True when a person changed the arguments; ``asked_args`` are then what the model asked for."""
        return self.asked_args is not None

    @property
    def decided_by(self) -> Vote | None:
        """The vote that decided, None while waiting."""
        return self.votes[-1] if self.votes and self.state is not CallState.PENDING else None

    def as_tool_call(self, run: Run) -> ToolCall:
        """The call in the form policies read."""
        return ToolCall(
            tool=self.tool,
            args=self.args,
            call_id=self.call_id,
            agent=self.agent or run.agent,
            run=run.id,
            requester=run.requester,
            conversation=run.conversation,
            tenant=run.tenant,
            generation=self.generation,
            schema_sha256=self.schema_sha256,
            operands=self.operands,
        )


@dataclass(frozen=True, slots=True)
class Lease:
    """Who may drive the run, until when. ``owner`` names one incarnation of a worker: host, pid and start time."""

    __pydantic_config__ = CLOSED

    owner: str
    until: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where the framework's own state lies: a blob, and which code wrote it."""

    __pydantic_config__ = CLOSED

    blob: str
    adapter: str
    framework: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something people are to be told through one channel, at least once.

    ``channel`` is a handler's name, or ``NAME:TARGET``. While ``taken`` lies ahead, somebody delivers it. ``held``: it
    waits because somebody who is asked was asked too much of late.
    """

    __pydantic_config__ = CLOSED

    id: str
    n: int
    what: NoticeKind
    channel: str
    due: float
    tries: int = 0
    card: str = ""
    taken: float = 0.0
    held: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """What a model answered, kept so that after a crash it need not be asked again; its content is a blob.

    ``chain`` are the call ids of the tools around the loop that asked, outermost first, ``ordinal`` counts the answers
    in it; ``request`` are digests of what was asked, part by part, and ``calls`` the ids of the calls it made.
    """

    __pydantic_config__ = CLOSED

    chain: tuple[str, ...]
    ordinal: int
    request: tuple[str, ...]
    blob: str
    calls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """An agent run from start to outcome: one record, changed only by the functions of this package.

    ``responses`` are what models answered since the snapshot, or since the start: a pause drops them.
    ``keep_until`` is when an ended run may be removed, None for never.
    ``seq`` counts its audit events, ``chain`` is the head of their chain, ``keyed`` says that the last one has a MAC
    and ``chained`` when it was written. ``epoch`` names the latest quarantine that it went through.
    """

    __pydantic_config__ = CLOSED

    tenant: str
    id: str
    agent: str
    adapter: str
    requester: str
    state: RunState
    created: float
    env: str = ""
    conversation: str = ""
    generation: int = 0
    fence: int = 0
    lease: Lease | None = None
    waiter: Lease | None = None
    single: bool = False
    attempts: int = 0
    max_attempts: int = MAX_ATTEMPTS
    not_before: float = 0.0
    ready_since: float | None = None
    calls: tuple[Call, ...] = ()
    count: int = 0
    closed: tuple[str, ...] = ()
    input: str = ""
    snapshot: Snapshot | None = None
    responses: tuple[Response, ...] = ()
    outbox: tuple[Notice, ...] = ()
    cancel: Literal["", "cancelled", "superseded"] = ""
    cancel_reason: str = field(default="", repr=False)
    blocked: str = ""
    blocked_detail: str = field(default="", repr=False)
    output_json: str = field(default="", repr=False)
    error: str = field(default="", repr=False)
    updated: float = 0.0
    ended: float | None = None
    keep_until: float | None = None
    seq: int = 0
    chain: str = ""
    keyed: bool = False
    chained: float = 0.0
    epoch: str = ""

    @property
    def status(self) -> str:
        """The state in lower case: ``completed``, ``waiting`` ..."""
        return self.state.value

    @property
    def output(self) -> Any:
        """What the loop gave back, None before its end."""
        return thaw(self.output_json) if self.output_json else None

    @property
    def approvals(self) -> tuple[Approval, ...]:
        """What waits for people now."""
        return tuple(Approval(self, call) for call in self.having(CallState.PENDING))

    def call(self, n: int) -> Call | None:
        """The call with this number, if it is not in a closed generation."""
        return next((call for call in self.calls if call.n == n), None)

    def by_call_id(self, call_id: str) -> Call | None:
        """The newest call with the framework's call id."""
        return next((call for call in reversed(self.calls) if call.call_id == call_id), None)

    def having(self, *states: CallState) -> tuple[Call, ...]:
        """Its calls in any of these states."""
        return tuple(call for call in self.calls if call.state in states)

    def with_call(self, call: Call) -> Run:
        """The run with this call put in the place of the one with its number, or added."""
        if self.call(call.n) is None:
            return evolve(self, calls=(*self.calls, call), count=max(self.count, call.n))
        return evolve(self, calls=tuple(call if other.n == call.n else other for other in self.calls))


@dataclass(frozen=True, slots=True)
class Approval:
    """A call that waits, or waited, for people, together with the run it belongs to."""

    run: Run
    call: Call

    @property
    def id(self) -> str:
        """What people name it by."""
        return approval_id(self.run.id, self.call.n)

    @property
    def tool(self) -> str:
        """The tool's name."""
        return self.call.tool

    @property
    def arguments(self) -> Any:
        """A fresh copy of the arguments, from the frozen bytes."""
        return thaw(self.call.args)

    @property
    def asked(self) -> tuple[str, ...]:
        """Whom the policy names for the stage that is asked now."""
        return self.call.stages[self.call.stage].names if self.call.stages else ()

    @property
    def people(self) -> tuple[str, ...]:
        """Who may decide now: those whose seats the stage's are, and to whom these were handed; nobody excluded."""
        people = self.call.stages[self.call.stage].people if self.call.stages else ()
        seats = [self.call.hands(seat) for seat in people if seat not in self.call.excluded]
        found = dict.fromkeys(person for holder, delegates in seats for person in (holder, *delegates))
        return tuple(person for person in found if person not in self.call.excluded)

    @property
    def deadline(self) -> float | None:
        """Epoch seconds after which nobody may decide any more."""
        return self.call.expires

    def like(self, other: Approval) -> bool:
        """True when both would run the same: the same arguments for the same requester, and the same files.

        Only of such calls can one be shown and a decision count for the others too. An edit makes a call another one.
        """
        mine, its = self.call, other.call
        return (mine.fingerprint, mine.args, mine.operands) == (its.fingerprint, its.args, its.operands)


def waiting_alike(approvals: Iterable[Approval]) -> tuple[Approval, ...]:
    """The first of them that waits for people, and those that wait and are like it: what one decision can be about."""
    waits = [each for each in approvals if each.call.state is CallState.PENDING]
    return tuple(each for each in waits if each.like(waits[0]))


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the audit trail, as a transition makes it. ``seq`` and chain are added when it is written."""

    what: str
    n: int | None = None
    by: str = ""
    tool: str = ""
    detail: tuple[tuple[str, str | int | float | bool], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """What a transition makes: the run as it will be, and the events that say so.

    ``not_after`` bounds the write itself: by the store's clock it must not come later (a lease, a deadline).
    """

    run: Run
    events: tuple[Event, ...] = ()
    not_after: float | None = None


def approval_id(run: str, n: int) -> str:
    """The id people use for a call of a run."""
    return f"{run}.{n}"


def split_approval_id(id: str) -> tuple[str, int] | None:
    """Run id and number, or None when it is not an approval's id."""
    run, dot, n = id.rpartition(".")
    return (run, int(n)) if dot and run and n.isascii() and n.isdigit() and len(n) < 10 else None
