r"""The one rendering of a request: what people are shown, the same for every channel.

A `Message` is made of the stored record alone. Its headline is the policy's template, or made of the tool's and the
agent's registered names, never of the model's words: of arguments it shows values, as the values that they are. Nothing
is ever left out or shortened: the arguments stand there path by path and as the canonical JSON that was hashed and will
run. What a model said beside its call is not in the record and is shown nowhere. All of its texts have been through
`visible`, so no text in it holds a line break, a control or a bidi character; a channel adds only its own escaping
(HTML, Slack ...).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from governor_agents.core.calls import Json, freeze, thaw
from governor_agents.core.headline import MISSING, Path, fill_headline
from governor_agents.core.records import Approval, Call, CallState, Comment, HandOver, Vote, approval_id
from governor_agents.errors import ArgumentsError
from governor_agents.handlers.visible import in_order, parse_visible, visible, visible_json

__all__ = [
    "Argument",
    "Message",
    "Rewritten",
    "asks",
    "bound_files",
    "flatten",
    "lasting",
    "outcome",
    "parse_visible",
    "to_text",
    "under",
    "visible",
    "visible_json",
    "when",
]

HELD = "whoever is asked was asked often enough of late, and hears of this when there is room"
"""What is said of a request that a channel keeps back. Whoever may decide it can all the same."""

HEADLINE_VALUE = 60
"""A value with more characters than this is not put into a headline: it is named there, and stands below."""

_SIGNS = " _-.,:;/@+#%&()$€£"

_LETTERS = "ー々ゝゞヽヾๆໆ"
"""Letters of the category in which those stand that look like quotes and other signs (U+02BA, U+A4FD ...)."""

_LIKE_SIGNS = "\u01c0\u01c1\u01c2\u01c3\ua78b\ua78c"
"""Letters of other categories that look like a bar, an exclamation mark, a quote."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_VERBS = {"approve": "approved", "reject": "rejected", "edit": "edited and approved", "respond": "answered"}


@dataclass(frozen=True, slots=True)
class Argument:
    """One leaf of the arguments: its path (``items[0].name``, ``["odd key"]``) and its value as JSON, both visible."""

    path: str
    value: str

    def __str__(self) -> str:
        return in_order(f"{self.path} = {self.value}") if self.path else self.value


@dataclass(frozen=True, slots=True)
class Rewritten:
    """One leaf that an edit changed; ``before`` or ``after`` is empty when it was not there."""

    path: str
    before: str
    after: str

    def __str__(self) -> str:
        return in_order(f"{self.path or '(all)'}: {self.before or '(nothing)'} -> {self.after or '(removed)'}")


@dataclass(frozen=True, slots=True)
class Message:
    """Everything people need for a decision, or about one that was made. See the module for its promises.

    ``files`` are those that arguments name, each with its size and SHA-256, since its content is approved as well.
    ``arguments`` may be empty where paths would repeat themselves beyond measure; ``args`` is always complete.
    ``asked_args`` is what the model asked for when a person has edited, else empty. ``seconds`` is the deadline as
    epoch seconds for channels that count down. ``replaces`` is the call in whose place this one was asked, or empty;
    ``restored`` says that it comes from an old copy of the store. ``alike`` are the ids of identical calls that wait
    for the same decision; ``held`` says that it was kept back because too much was asked at once. ``risk`` is as
    declared; ``delegates`` are those to whom a seat may be handed. ``lasting`` is the outcome as it stands on a card.
    """

    id: str
    run: str
    headline: str
    tool: str
    agent: str
    requester: str
    conversation: str
    why: str
    policy: str
    arguments: tuple[Argument, ...]
    args: str
    files: tuple[str, ...]
    asked_args: str
    rewritten: tuple[Rewritten, ...]
    asked: tuple[str, ...]
    people: tuple[str, ...]
    stage: str
    votes: tuple[str, ...]
    reason_required: bool
    deadline: str
    seconds: float | None
    digest: str
    replaces: str
    restored: str
    state: str
    waits: bool
    outcome: str
    lasting: str
    risk: str
    handed: tuple[str, ...]
    taken_up: str
    comments: tuple[str, ...]
    alike: tuple[str, ...]
    held: str
    delegates: tuple[str, ...]

    @classmethod
    def of(cls, approval: Approval, *, alike: Sequence[str] = (), paths: bool = True) -> Message:
        """The message of an approval as it stands, and of the identical calls that share its card.

        Without ``paths`` it has no ``arguments``, and does not say what an edit changed: for who has no room for them,
        or shows many requests in a list. To take arguments apart takes a second for each megabyte.
        """
        run, call = approval.run, approval.call
        agent = run.agent or "a function"
        args = call.args.decode("utf-8", "backslashreplace")
        asked_args = "" if call.asked_args is None else call.asked_args.decode("utf-8", "backslashreplace")
        return cls(
            id=visible(approval.id),
            run=visible(run.id),
            headline=_headline(approval) or visible(f"{agent} asks to run {call.tool}"),
            tool=visible(call.tool),
            agent=visible(run.agent),
            requester=visible(run.requester),
            conversation=visible(run.conversation),
            why=visible(call.why),
            policy=visible(call.policy or call.code),
            arguments=flatten(args) if paths else (),
            args=visible_json(args),
            files=tuple(bound_files(call)),
            asked_args=visible_json(asked_args),
            rewritten=_compare(asked_args, args) if asked_args and paths else (),
            asked=tuple(map(visible, approval.asked)),
            people=tuple(map(visible, approval.people)),
            stage=asks(call),
            votes=tuple(_voted(call, vote) for vote in call.votes),
            reason_required=call.reason_required,
            deadline="" if call.expires is None else when(call.expires),
            seconds=call.expires,
            digest=visible(call.digest),
            replaces="" if call.replaces is None else visible(approval_id(run.id, call.replaces)),
            restored=_restored(call),
            state=call.state.value,
            waits=call.state is CallState.PENDING,
            outcome=outcome(call),
            lasting=lasting(call),
            risk=call.risk,
            handed=tuple(map(_handed, call.handed)),
            taken_up="" if call.taken_up is None else visible(call.taken_up.by) + f", since {when(call.taken_up.at)}",
            comments=tuple(map(_commented, call.comments)),
            alike=tuple(map(visible, alike)),
            held=HELD if any(notice.held and notice.n == call.n for notice in run.outbox) else "",
            delegates=tuple(map(visible, call.delegates)),
        )

    @property
    def count(self) -> int:
        """How many identical calls a decision on this counts for."""
        return 1 + len(self.alike)

    def facts(self) -> Iterator[tuple[str, str]]:
        """Label and text of everything but the arguments, in the order to show them. None is empty."""
        yield "id", self.id
        yield "state", f"{self.state}: {self.outcome}"
        if self.restored and self.waits:
            yield "careful", self.restored
        if self.held and self.waits:
            yield "held", self.held
        if self.risk != "normal":
            yield "risk", self.risk
        if self.alike:
            others = ", ".join(self.alike)
            yield "identical", f"{self.count} identical calls wait; a decision here counts for each: also {others}"
        yield "tool", self.tool
        yield "asked for by", ", ".join(filter(None, (self.requester, self.agent and f"agent {self.agent}")))
        if self.conversation:
            yield "conversation", self.conversation
        if self.why:
            yield "because", self.why
        if self.policy:
            yield "policy", self.policy
        if self.stage:
            yield "approvers", self.stage
            if self.waits:
                yield "may decide", ", ".join(self.people) or "nobody (no listed person is left)"
        yield from (("file", file) for file in self.files)
        yield from (("handed over", line) for line in self.handed)
        yield from (("vote", vote) for vote in self.votes)
        if self.taken_up:
            yield "looked at by", self.taken_up
        yield from (("comment", comment) for comment in self.comments)
        if self.waits and self.reason_required:
            yield "reason", "required"
        if self.deadline:
            yield "deadline", self.deadline
        yield "digest", self.digest
        if self.replaces:
            yield "asked anew", f"in the place of {self.replaces}, which did not happen"


def _headline(approval: Approval) -> str:
    """The policy's headline, visible; empty without one."""
    return visible_json(fill_headline(approval.run, approval.call, _in_headline)).strip()


def _in_headline(path: Path, value: Json) -> str:
    """A value within a headline: names as they are, arguments as JSON, so that a text there has its quotes.

    What is long, or holds anything that could look like a quote or a sign, is named instead: it stands below in full.
    """
    name = path[-1]
    if value is MISSING:
        return f"(no {name})"
    if isinstance(value, dict | list):
        return f"({name}, {len(value)} entries: see below)"
    text = freeze(value).decode()
    if len(text) > HEADLINE_VALUE or (isinstance(value, str) and not all(map(_plain, value))):
        return f"({name}, {len(value if isinstance(value, str) else text)} characters: see below)"
    return text if path[0] == "args" else str(value)


def _plain(character: str) -> bool:
    """True for letters with their marks, digits, and the signs that addresses and amounts are written with."""
    category = unicodedata.category(character)
    if (category == "Lm" and character not in _LETTERS) or character in _LIKE_SIGNS:
        return False
    return character.isalnum() or character in _SIGNS or category in ("Mn", "Mc")


def _restored(call: Call) -> str:
    """What people must know of a call that an old copy of the store brought back."""
    if not call.restored:
        return ""
    return f"from an old copy of the store (quarantine {visible(call.restored)}): it may have run since; look first"


def when(at: float) -> str:
    """Epoch seconds as UTC, to the second."""
    try:
        return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{at:.0f} s after 1970"


def outcome(call: Call, *, silent: bool = False) -> str:
    """What became of a call, in words and on one line: who decided, when, with which reason; or whom it waits for.

    ``silent``: the lease of the run's worker is over.
    """
    vote = call.decided_by
    decided = _decided(call, vote) if vote is not None else ""
    told = f": {visible(call.told)}" if call.told else ""
    match call.state:
        case CallState.PENDING:
            return "waits for a decision" if not call.votes else "waits for more votes"
        case CallState.DENIED:
            return f"denied by policy{told}"
        case CallState.ALLOWED:
            return "allowed by policy, not started"
        case CallState.APPROVED:
            return f"{decided}; not run yet"
        case CallState.REJECTED:
            return decided or f"rejected{told}"
        case CallState.ANSWERED:
            return f"{decided} in the tool's place{told}"
        case CallState.EXPIRED:
            return f"expired{told}"
        case CallState.CANCELLED | CallState.SUPERSEDED:
            return f"{call.state} before it ran{told}"
    ran = {
        CallState.EXECUTING: "it was running when its worker fell silent" if silent else "it is running",
        CallState.RETRY: "its worker died; it will be tried again under the same idempotency key",
        CallState.RECONCILING: "its worker died; a probe finds out whether it happened",
        CallState.UNKNOWN: _restored(call) or "it was started and nobody recorded a result: it may have happened",
        CallState.SUCCEEDED: "it ran",
        CallState.FAILED: f"it failed{told}",
    }[call.state]
    return f"{decided or 'allowed by policy'}; {ran}"


_MOVING = (CallState.APPROVED, CallState.EXECUTING, CallState.RETRY, CallState.RECONCILING)


def lasting(call: Call) -> str:
    """The outcome as it stands on a card: without what changes when the call runs, since no card is shown anew then."""
    vote = call.decided_by
    return _decided(call, vote) if vote is not None and call.state in _MOVING else outcome(call)


def _decided(call: Call, vote: Vote) -> str:
    reason = f" ({visible(vote.reason)})" if vote.reason else ""
    edited = call.edited and vote.kind == "approve"
    verb = "approved, as edited," if edited else _VERBS[vote.kind]
    return f"{verb} by {_voter(vote)} at {when(vote.at)}{reason}"


def _voter(vote: Vote) -> str:
    if not vote.standing:  # a seat alone is another name of the same person
        return visible(vote.by)
    return f"{visible(vote.by)} in the place of {visible(vote.seat)} ({vote.standing})"


def _handed(over: HandOver) -> str:
    by = f" by {visible(over.by)}" if over.by != over.seat else ""
    what = f"{visible(over.to)} decides instead" if over.moved else f"{visible(over.to)} may decide too"
    return f"seat of {visible(over.seat)}: {what} (handed over{by} at {when(over.at)})"


def _commented(comment: Comment) -> str:
    return f"{visible(comment.by)} at {when(comment.at)}: {visible(comment.text)}"


def _voted(call: Call, vote: Vote) -> str:
    reason = f": {visible(vote.reason)}" if vote.reason else ""
    stage = f" (stage {vote.stage + 1})" if len(call.stages) > 1 else ""
    return f"{_VERBS[vote.kind]} by {_voter(vote)} at {when(vote.at)}{stage}{reason}"


def asks(call: Call) -> str:
    """Whom the policy asks now, how many of them, and which stage of how many this is."""
    if call.stage >= len(call.stages):
        return ""
    stage = call.stages[call.stage]
    names = visible(", ".join(stage.names)) or "nobody"
    quorum = f", {stage.quorum} of them" if stage.quorum > 1 else ""
    place = f" (stage {call.stage + 1} of {len(call.stages)})" if len(call.stages) > 1 else ""
    until = "" if call.stage_expires is None else f", asked until {when(call.stage_expires)}"
    return f"{names}{quorum}{place}{until}"


def bound_files(call: Call) -> Iterator[str]:
    """Argument, path, size and hash of each file that was bound, visible, in the order in which they were hashed."""
    arguments = thaw(call.args) if call.operands else {}
    left: dict[str, list[Json]] = {}
    for file in call.operands:
        given = arguments.get(file.name) if isinstance(arguments, dict) else None
        paths = left.setdefault(file.name, list(given) if isinstance(given, list) else [given])
        path = paths.pop(0) if paths else None
        shown = path if isinstance(path, str) else "(no path)"
        yield visible(f"{file.name} = {shown}: {file.size} bytes, SHA-256 {file.sha256}")


def flatten(args: str) -> tuple[Argument, ...]:
    """Canonical JSON, one leaf per line; together the lines say exactly what the JSON says.

    Empty when the paths would take many times the room of the JSON itself (a long key around a long list): the JSON
    is then the better display, and shown anyway.
    """
    try:
        value = thaw(args)
    except ArgumentsError:
        return ()
    room = 8 * len(args) + 20_000
    lines = []
    for path, leaf in _leaves(value, ""):
        room -= len(path) + len(leaf)
        if room < 0:
            return ()
        lines.append(Argument(visible(path), visible(leaf)))
    return tuple(lines)


def _leaves(value: Json, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, under(path, key))
    elif isinstance(value, list) and value:
        for at, item in enumerate(value):
            yield from _leaves(item, f"{path}[{at}]")
    else:
        yield path, freeze(value).decode()


def under(path: str, key: str) -> str:
    """The path of a key below a path."""
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{freeze(key).decode()}]"
    return f"{path}.{key}" if path else key


def _compare(before: str, after: str) -> tuple[Rewritten, ...]:
    """What an edit changed, leaf by leaf; empty where either side has no lines (both are shown whole anyway)."""
    old = {line.path: line.value for line in flatten(before)}
    new = {line.path: line.value for line in flatten(after)}
    if not old or not new:
        return ()
    paths = [*old, *(path for path in new if path not in old)]
    pairs = ((path, old.get(path, ""), new.get(path, "")) for path in paths)
    return tuple(Rewritten(path, was, now) for path, was, now in pairs if was != now)


def to_text(message: Message) -> str:
    """The whole message as plain text, ending in a line break. Long lines are not wrapped."""
    lines = [message.headline, ""]
    lines += [f"  {label + ':':<14}{text}" for label, text in message.facts()]
    if message.arguments:
        lines += ["", "arguments:", *(f"  {argument}" for argument in message.arguments)]
    lines += ["", "arguments as canonical JSON:", f"  {message.args}"]
    if message.asked_args:
        lines += ["", "edited by a person:", *(f"  {line}" for line in message.rewritten)]
        lines += ["", "what the agent had asked for:", f"  {message.asked_args}"]
    return "\n".join(lines) + "\n"
