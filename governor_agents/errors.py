"""Every error a user of the package can meet, in one tree.

::

    GovernorError
    ├── ConfigError                what you wrote cannot be used (file, line, mend)
    │   ├── FileUnusable           a file that you wrote
    │   │   ├── PolicyFileError
    │   │   └── PeopleFileError
    │   ├── KeyFileError
    │   ├── UnknownAgent
    │   ├── WrongEnvironment
    │   ├── MissingExtra
    │   ├── ChannelUnusable        a channel whose settings the other side refuses
    │   └── UngovernedTool
    ├── ArgumentsError             arguments that are not plain JSON
    │   ├── OperandError           a file named in them that cannot be hashed
    │   └── CallIdReused           a call id that came back with other content
    ├── NotFound                   no such run or approval (for this tenant)
    ├── DecisionRefused            a decision that does not count
    │   ├── AlreadyDecided
    │   ├── DeadlinePassed
    │   ├── NotAnApprover
    │   ├── ReasonRequired
    │   ├── StaleDecision
    │   ├── TokenUsed              a link that was used for something else
    │   ├── TokenExpired           a link whose time is over
    │   ├── DirectoryUnreadable    nobody can say who people are
    │   └── EditRefused
    ├── CallNotRun                 what a governed function raises instead of running
    │   ├── CallDenied
    │   ├── CallRejected
    │   ├── CallExpired
    │   ├── CallCancelled
    │   ├── CallHalted
    │   └── CallInDoubt
    ├── CallFailed                 a governed function ran elsewhere and raised
    ├── DeliveryFailed             a channel could not tell people; it is tried again
    ├── SignatureInvalid           a request that does not prove who sent it
    ├── OutcomeUnknown             for tools to raise: it may have happened
    ├── ApprovalPending            the call waits for people; nothing ran
    ├── RunBlocked                 a doubt that an operator must settle first
    ├── ResolutionRefused          an operator's answer that does not count
    │   ├── NotInDoubt
    │   ├── WorkerMayLive          not yet: an attempt's worker is not known dead
    │   └── TooEarly               not yet: a request may be under way
    ├── Fenced                     another worker owns the run now
    ├── IllegalTransition          an event that this state does not know
    ├── SnapshotError              a snapshot that cannot be stored or resumed
    │   ├── SnapshotTooLarge       more than the limit that was set
    │   └── SealBroken             stored bytes that these keys do not vouch for
    ├── ReplayDiverges             going on would repeat what ran
    ├── WouldBlock                 waiting for a person from where that cannot work
    └── StoreError
        ├── StoreUnavailable
        ├── StoreTooNew
        ├── UnsafeStore
        ├── PoliciesUnavailable    what the store has published cannot be used
        └── ClockError             a clock that does not say a time

The docstring of a class is its default message; ``code`` is stable and meant for scripts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


class GovernorError(Exception):
    """Something went wrong in governor-agents."""

    code = "governor_error"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or type(self).__name__).split()))


class ConfigError(GovernorError):
    """The configuration cannot be used."""


class FileUnusable(ConfigError):
    """A file cannot be used; ``errors`` are all its problems, one line each with file and line number."""

    def __init__(self, message: str | None = None, *, errors: Sequence[str] = ()) -> None:
        self.errors = tuple(errors)
        more = len(self.errors) - 1
        first = self.errors[0] + (f" (and {more} more)" if more > 0 else "") if self.errors else None
        super().__init__(message or first)


class PolicyFileError(FileUnusable):
    """The policy file cannot be used."""


class PeopleFileError(FileUnusable):
    """The people file cannot be used."""


class KeyFileError(ConfigError):
    """The key file cannot be used."""


class UnknownAgent(ConfigError):
    """No agent is registered under this name; register its factory with @governor.agent(NAME)."""


class WrongEnvironment(ConfigError):
    """The run belongs to another environment; what was approved there does not count here."""


class MissingExtra(ConfigError):
    """An optional library is not installed."""


class ChannelUnusable(ConfigError):
    """The approval channel cannot be used with these settings."""


class UngovernedTool(ConfigError):
    """The agent has a tool that cannot be governed."""


class ArgumentsError(GovernorError):
    """The arguments are not plain JSON."""


class OperandError(ArgumentsError):
    """A file that the arguments name cannot be hashed."""


class CallIdReused(ArgumentsError):
    """A call came back under the id of another."""


class NotFound(GovernorError):
    """There is no such run or approval."""


class DecisionRefused(GovernorError):
    """The decision does not count."""


class AlreadyDecided(DecisionRefused):
    """The approval was decided before."""


class DeadlinePassed(DecisionRefused):
    """The approval's deadline has passed."""


class NotAnApprover(DecisionRefused):
    """This person may not decide this approval."""


class ReasonRequired(DecisionRefused):
    """The policy asks for a reason with this decision."""


class StaleDecision(DecisionRefused):
    """The decision names a request that has changed since; look at it again."""


class TokenUsed(DecisionRefused):
    """This link was used before."""


class TokenExpired(DecisionRefused):
    """The time of this link is over."""


class DirectoryUnreadable(DecisionRefused):
    """The directory of people cannot be read, so nobody is identified; mend it and try again."""


class EditRefused(DecisionRefused):
    """The edited arguments are not allowed."""


class CallNotRun(GovernorError):
    """The governed call did not run."""


class CallDenied(CallNotRun):
    """A policy denies this call."""


class CallRejected(CallNotRun):
    """A person rejected this call."""


class CallExpired(CallNotRun):
    """Nobody decided in time; the call did not run."""


class CallCancelled(CallNotRun):
    """The call was cancelled before it ran."""


class CallHalted(CallNotRun):
    """The tool, the agent, the tenant or everything is halted; the call did not run."""


class CallInDoubt(CallNotRun):
    """It is not known whether the call took effect; an operator must say."""


class CallFailed(GovernorError):
    """The governed call ran and raised an error."""


class DeliveryFailed(GovernorError):
    """The channel could not tell people; it is tried again.

    ``retry_after`` is for how many seconds the other side wants to be left alone, None when it did not say.
    """

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SignatureInvalid(GovernorError):
    """The signature is not one that these secrets make."""


class OutcomeUnknown(GovernorError):
    """It is not known whether the tool took effect.

    A tool raises it when it cannot tell: the other side did not answer, the answer was lost. Any other exception says
    that the call failed. The call then goes by its retry class, as if its worker had died.
    """


class ApprovalPending(GovernorError):
    """The call waits for people; nothing ran."""

    def __init__(self, message: str | None = None, *, approval: str = "", run: str = "") -> None:
        super().__init__(message)
        self.approval = approval
        self.run = run


class RunBlocked(GovernorError):
    """The run stands in a doubt that an operator must settle first."""


class ResolutionRefused(GovernorError):
    """The answer to a doubt does not count."""


class NotInDoubt(ResolutionRefused):
    """Only a call in doubt can be resolved."""


class WorkerMayLive(ResolutionRefused):
    """A worker that set out to run the call is not known to be dead; it could still act.

    ``workers`` are those workers, as host, process id and start.
    """

    def __init__(self, message: str | None = None, *, workers: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.workers = tuple(workers)


class TooEarly(ResolutionRefused):
    """A request of the call may still be under way; ``until`` is the moment (epoch seconds) from which it cannot be."""

    def __init__(self, message: str | None = None, *, until: float = 0.0) -> None:
        super().__init__(message)
        self.until = until


class Fenced(GovernorError):
    """Another worker owns the run now; this one must stop."""


class IllegalTransition(GovernorError):
    """This event does not fit the state."""


class SnapshotError(GovernorError):
    """The snapshot cannot be stored or resumed."""


class SnapshotTooLarge(SnapshotError):
    """The snapshot is larger than the limit that was set."""


class SealBroken(SnapshotError):
    """Stored bytes are not what was sealed: changed, moved, never sealed, or sealed by other keys."""


class ReplayDiverges(GovernorError):
    """Going on from where the run died would repeat calls that ran."""


class WouldBlock(GovernorError):
    """Waiting for a person here would block the event loop; use the async call."""


class StoreError(GovernorError):
    """The store failed."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or written."""


class StoreTooNew(StoreError):
    """The store was written by a newer version of governor-agents; upgrade this one."""


class UnsafeStore(StoreError):
    """The store's settings could lose acknowledged decisions."""


class PoliciesUnavailable(StoreError):
    """The policies that the store has published cannot be used."""


class ClockError(StoreError):
    """The store's clock does not say a time."""
