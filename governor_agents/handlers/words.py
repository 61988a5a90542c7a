"""A run's state in words: what it waits for, why it stands, and the ways on. And the commands to type for that.

Pure functions over the record; every text that comes back is visible (see `visible`) and on one line.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from governor_agents.core.doubts import over_at
from governor_agents.core.driving import no_progress
from governor_agents.core.records import Approval, Call, CallState, Run, RunState, approval_id
from governor_agents.core.settling import HALT, RESTORED, UNKNOWN
from governor_agents.core.urls import shown
from governor_agents.handlers.message import Message, asks, when
from governor_agents.handlers.visible import visible


@dataclass(frozen=True, slots=True)
class Commands:
    """How to call the command line for one store and tenant, ready to be pasted into a shell."""

    store: str = ""
    tenant: str = "default"

    def line(self, command: str, id: str = "", *rest: str) -> str:
        """``governor-agents COMMAND ID ...``; ids are quoted, whatever they hold."""
        words = ["governor-agents", command]
        if self.store:
            opens = shown(self.store) == self.store  # else it holds a password, which no terminal is to show
            words += ["--store", shell_word(self.store) if opens else '"$GOVERNOR_STORE"']
        if self.tenant != "default":
            words += ["--tenant", shell_word(self.tenant)]
        words += rest
        if id.startswith("-"):
            words.append("--")
        return " ".join([*words, shell_word(id)] if id else words)

    def halting(self, scope: str) -> str:
        """The command that lifts a halt."""
        return self.line("halt", "", shell_word(scope), "--lift")

    def deciding(self, message: Message, id: str) -> tuple[str, ...]:
        """The commands that show and decide this request."""
        because = ("--reason", "TEXT") if message.reason_required else ()
        approve = self.line("inbox approve", id, *because)
        return self.line("inbox show", id), approve, self.line("inbox reject", id, "--reason", "TEXT")


def shell_word(text: str) -> str:
    """The text as one word of a POSIX shell; what cannot be seen is written in bash's ``$'\\uXXXX'``."""
    if visible(text) == text:
        return shlex.quote(text)
    return "$'" + "".join(map(_bash_character, text)) + "'"


def _bash_character(character: str) -> str:
    code = ord(character)
    if character in "'\\":
        return f"\\{character}"
    if 0x20 <= code <= 0x7E:
        return character
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a run stands where it stands, in words; ``details`` tell more, ``ways`` are the ways on or out."""

    because: str
    details: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()


def explain(run: Run, now: float, commands: Commands | None = None) -> Explanation:
    """The state of a run, for people."""
    commands = commands or Commands(tenant=run.tenant)
    found = _STATES[run.state](run, now, commands)
    if run.cancel and not run.state.ended:
        reason = f": {visible(run.cancel_reason)}" if run.cancel_reason else ""
        asked = f"it was {run.cancel}{reason}; it ends as soon as nothing of it is running or in doubt"
        return Explanation(found.because, (asked, *found.details), found.ways)
    return found


def untold(run: Run, now: float, commands: Commands, n: int | None = None) -> Iterator[str]:
    """Which channels do not show a call as it stands, and what becomes of that: of call ``n``, or of all."""
    seen = set[tuple[int, str]]()
    for notice in run.outbox:
        late = notice.tries or notice.due <= now
        if n not in (None, notice.n) or notice.held or not late or (notice.n, notice.channel) in seen:
            continue
        seen.add((notice.n, notice.channel))
        id, channel = visible(approval_id(run.id, notice.n)), visible(notice.channel)
        if not notice.tries:
            worker = Commands(commands.store).line("worker", "APP:GOVERNOR")  # the tenant is the one of the app
            yield f"{id} is not told to {channel} yet; a worker does that: {worker}"
            continue
        tries = "1 try" if notice.tries == 1 else f"{notice.tries} tries"
        why = commands.line("runs timeline", run.id)
        yield f"{id} is not told to {channel}: {tries} failed, the next comes at {when(notice.due)}; why: {why}"


def _queued(run: Run, now: float, commands: Commands) -> Explanation:
    return Explanation(
        "waits for a worker to start it" + _later(run, now),
        tuple(_last_error(run)),
        (_worker(run, commands), _cancel(run, commands)),
    )


def _ready(run: Run, now: float, commands: Commands) -> Explanation:
    details = [*_last_error(run)]
    if run.waiter is not None and run.waiter.until > now:
        details.append(f"its caller ({visible(run.waiter.owner)}) still waits for it and will run it")
    return Explanation(
        "everything is decided; it waits for a worker to go on" + _later(run, now),
        tuple(details),
        (_worker(run, commands), _cancel(run, commands)),
    )


def _active(run: Run, now: float, commands: Commands) -> Explanation:
    if run.lease is None:
        return Explanation("is being driven")
    owner, until = visible(run.lease.owner), when(run.lease.until)
    if run.lease.until <= now:
        because = f"its worker ({owner}) has been silent past its lease, which ended at {until}; it counts as dead"
        return Explanation(because, _executing(run, "was"), (_worker(run, commands), _cancel(run, commands)))
    because = f"is being driven by {owner}, whose lease lasts until {until} unless renewed"
    return Explanation(because, _executing(run, "is"), (_cancel(run, commands),))


def _waiting(run: Run, now: float, commands: Commands) -> Explanation:
    details, ways = [], []
    for approval in run.approvals:
        over = approval.deadline is not None and approval.deadline <= now
        until = (
            "its deadline has passed, a worker will expire it" if over else f"until {when(approval.deadline or now)}"
        )
        details.append(f"{visible(approval.id)} {visible(approval.tool)}: asks {asks(approval.call)}; {until}")
        ways.append(commands.line("inbox show", approval.id))
    people = "1 decision" if len(ways) == 1 else f"{len(ways)} decisions"
    details.extend(untold(run, now, commands))
    return Explanation(f"waits for {people}", tuple(details), (*ways, _cancel(run, commands)))


def _blocked(run: Run, now: float, commands: Commands) -> Explanation:
    detail = (visible(run.blocked_detail),) if run.blocked_detail else ()
    if run.blocked == HALT:
        because = (
            f"stands still: {visible(run.blocked_detail)} is halted; what waits for people may be decided meanwhile"
        )
        return Explanation(because, (), (commands.halting(run.blocked_detail), _cancel(run, commands)))
    doubtful = run.having(CallState.UNKNOWN)
    doubts = tuple(_doubt(run, call) for call in doubtful)
    answers = tuple(line for call in doubtful for line in _answers(run, call, commands))
    if run.blocked not in ("", UNKNOWN):
        why = _BLOCKED.get(run.blocked) or visible(run.blocked.replace("_", " "))
        because = f"stands still until an operator acts: {why}"
        free = () if doubtful else (_repair(run, commands),)
        since = _since(run) if run.blocked != RESTORED else ()
        return Explanation(because, (*detail, *since, *doubts), (*answers, *free, _cancel(run, commands)))
    ways: tuple[str, ...] = (
        "find out on the other side whether it happened, then say so; nothing runs the call again meanwhile:",
        *answers,
    )
    if any(over_at(call) is None for call in doubtful):
        ways = ("a late result of the same worker settles the doubt by itself", *ways)
    if not run.cancel:
        ways = (*ways, f"{_cancel(run, commands)}  # no further call starts; the doubt stays on record")
    because = "a call was started and nobody recorded a result: it may or may not have happened"
    if any(call.restored for call in doubtful):
        because = "comes from an old copy of the store: a call of it may or may not have happened since"
    return Explanation(because, (*detail, *doubts), ways)


_BLOCKED = {
    "replay": (
        "a worker died inside a turn of the model, and what would be done now is not what was done then; "
        "with the agent as it was, a repair lets it go on"
    ),
    "caller_gone": "its caller is gone, and nobody else can run a method of its object",
    "snapshot": "the state that it was paused with cannot be resumed by this code",
    RESTORED: (
        "it comes from an old copy of the store and may have gone on since; find out how far it came, "
        "then let it go on or cancel it"
    ),
}


def _doubt(run: Run, call: Call) -> str:
    last = call.attempts[-1] if call.attempts else None
    started = f"started at {when(last.at)} by {visible(last.owner)}" if last else "started"
    if call.restored:
        started = f"perhaps started before {when(last.at)} by {visible(last.owner)}" if last else "perhaps started"
    tries = f", attempt {len(call.attempts)}" if len(call.attempts) > 1 else ""
    key = f", idempotency key {visible(call.idem_key)}" if call.idem_key else ""
    return f"{visible(approval_id(run.id, call.n))} {visible(call.tool)}: {started}{tries}{key}; {_over(call)}"


def _over(call: Call) -> str:
    """Whether anything of the call can still take effect."""
    at = over_at(call)
    if at is not None:
        return f"nothing of it can be under way after {when(at)}"
    alive = dict.fromkeys(attempt.owner for attempt in call.attempts if attempt.died is None)
    return f"not known to be dead: {', '.join(map(visible, alive))}"


def _answers(run: Run, call: Call, commands: Commands) -> Iterator[str]:
    """The three answers of an operator, as commands."""
    means = {
        "--happened": "it took effect: the agent goes on",
        "--did-not-happen": "it did not: people are asked for it anew",
        "--abandon": "nobody will know: the agent is told not to retry",
    }
    for flag, then in means.items():
        yield f"{commands.line('runs resolve', run.id, flag, '--evidence', 'TEXT')} {call.n}  # {then}"


def _repair(run: Run, commands: Commands) -> str:
    then = "once you know: it goes on" if run.blocked == RESTORED else "once that is mended: it goes on"
    return f"{commands.line('runs repair', run.id, '--reason', 'TEXT')}  # {then}"


def _dead(run: Run, now: float, commands: Commands) -> Explanation:
    because = f"was given up: {no_progress(run.attempts)}"
    detail = visible(run.blocked_detail) or "the workers died without a word"
    return Explanation(because, (detail, *_since(run)), (_repair(run, commands), _cancel(run, commands)))


def _since(run: Run) -> tuple[str, ...]:
    """What an operator must know of a run that went through a quarantine before he lets it go on."""
    epoch = visible(run.epoch)
    return (
        (f"it comes from an old copy of the store (quarantine {epoch}): look how far it came since",) if epoch else ()
    )


def _ended(run: Run, now: float, commands: Commands) -> Explanation:
    at = f" at {when(run.ended)}" if run.ended is not None else ""
    why = f": {visible(run.error)}" if run.error else ""
    return Explanation(f"ended{at}{why}")


_STATES = {
    RunState.QUEUED: _queued,
    RunState.READY: _ready,
    RunState.ACTIVE: _active,
    RunState.WAITING: _waiting,
    RunState.BLOCKED: _blocked,
    RunState.DEAD: _dead,
    RunState.COMPLETED: _ended,
    RunState.FAILED: _ended,
    RunState.CANCELLED: _ended,
}


def _executing(run: Run, verb: str) -> tuple[str, ...]:
    calls = run.having(CallState.EXECUTING)
    return tuple(f"{visible(approval_id(run.id, call.n))} {visible(call.tool)} {verb} running" for call in calls)


def _later(run: Run, now: float) -> str:
    return f"; not before {when(run.not_before)}" if run.not_before > now else ""


def _last_error(run: Run) -> Iterator[str]:
    if run.error:
        yield f"try {run.attempts} of {run.max_attempts} failed: {visible(run.error)}"
    elif run.attempts:
        yield f"{run.attempts} of {run.max_attempts} tries made no progress"


def _worker(run: Run, commands: Commands) -> str:
    """The worker that can take the run; its tenant is the one of the app."""
    knows = "the process that has the function"
    if run.agent and run.adapter != "functions":
        knows = f"a process that registers agent {visible(run.agent)}"
    return f"{Commands(commands.store).line('worker', 'APP:GOVERNOR')}  # {knows}"


def _cancel(run: Run, commands: Commands) -> str:
    return commands.line("runs cancel", run.id)


def after_decision(approval: Approval, run: Run) -> str:
    """What follows from a decision that was just counted: is more needed, does the run go on?"""
    call = next((call for call in run.calls if call.n == approval.call.n), None)
    if call is not None and call.state is CallState.PENDING:
        return f"more approvals are needed: {asks(call)}"
    if run.approvals:
        return f"the run waits for {len(run.approvals)} more"
    if run.state is RunState.READY:
        return "a worker goes on with the run"
    return f"the run is {run.status}"
