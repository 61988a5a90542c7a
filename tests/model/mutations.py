"""Seeded faults: the transition functions with one rule taken out, each of which some configuration must catch.

A fault is an edit of a function's own text, compiled in its place for one walk. A walk that cannot fail proves nothing;
a fault whose text is gone from the code is an error, not a pass.
"""

from __future__ import annotations
import __future__

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

CORE = "governor_agents.core."
TWICE = "effect: of a call and of the one that was asked in its place"


@dataclass(frozen=True, slots=True)
class Mutation:
    """One fault: in ``function`` of ``module``, ``old`` is written ``new``; ``configuration`` must catch it.

    ``breach``: as this breach, where it matters which.
    """

    module: str
    function: str
    old: str
    new: str
    configuration: str
    breach: str = ""


@contextmanager
def seeded(mutation: Mutation) -> Iterator[None]:
    """The fault is in force meanwhile, wherever the function was imported. Raises `LookupError` when its text is gone."""
    home = import_module(CORE + mutation.module)
    real = getattr(home, mutation.function)
    text = inspect.getsource(real)
    if text.count(mutation.old) != 1:
        raise LookupError(f"{mutation.module}.{mutation.function} does not say {mutation.old!r} (once) any more")
    made: dict[str, object] = {}
    text = text.replace(mutation.old, mutation.new)
    exec(compile(text, f"<{mutation.function}>", "exec", __future__.annotations.compiler_flag), home.__dict__, made)
    places = _places(real)
    for module, name in places:
        setattr(module, name, made[mutation.function])
    try:
        yield
    finally:
        for module, name in places:
            setattr(module, name, real)


def _places(real: object) -> list[tuple[ModuleType, str]]:
    modules = [module for name, module in sys.modules.items() if name.startswith(CORE)]
    return [(module, name) for module in modules for name, value in vars(module).items() if value is real]


MUTATIONS: dict[str, Mutation] = {
    "an intent does not ask for the fence": Mutation(
        "execution", "hold", "run.fence != fence or run.lease is None", "run.lease is None", "none-zombies"
    ),
    "an intent does not ask whose claim it is": Mutation(
        "execution",
        "hold",
        "or run.fence != fence or run.lease is None or run.lease.owner != owner:",
        "or run.lease is None:",
        "none-zombies",
    ),
    "an intent does not ask for the lease": Mutation(
        "execution", "intent", "run.cancel or run.lease.until <= now:", "run.cancel:", "none"
    ),
    "an intent may be written at any time": Mutation(
        "execution", "intent", "not_after=run.lease.until", "not_after=None", "none"
    ),
    "an intent does not ask for a cancel": Mutation(
        "execution", "intent", "if run.lease is None or run.cancel or", "if run.lease is None or", "two"
    ),
    "an intent does not ask for the policies' denial": Mutation(
        "execution", "_refused", 'if verdict.outcome == "deny" or', "if False and", "policy"
    ),
    "an intent does not ask for more people": Mutation(
        "execution", "_approved_enough", "return people.votes_meet(", "return True or people.votes_meet(", "policy"
    ),
    "an intent does not ask for run_within": Mutation(
        "execution", "_too_late", "return run.ready_since is not None and", "return False and", "none"
    ),
    "an intent does not ask for the key's life": Mutation(
        "execution", "_refused", "if now - first > call.idempotency_ttl:", "if False:", "idempotent"
    ),
    "an intent does not ask for the schema": Mutation(
        "execution", "_changed", "elif call.schema_sha256 != schema_sha256:", "elif False:", "policy"
    ),
    "each attempt has a key of its own": Mutation(
        "execution",
        "intent",
        "idem_key=call.idem_key or idem_key,",
        'idem_key=f"{idem_key}.{len(call.attempts)}",',
        "idempotent",
    ),
    "a result counts for any attempt": Mutation(
        "execution",
        "_mine",
        "if len(call.attempts) != attempt:",
        "if call.attempts:\n        return True\n    if False:",
        "idempotent",
    ),
    "an exception settles a doubt": Mutation(
        "execution", "record", "unclear = late or call.doubt", "unclear = late", "idempotent"
    ),
    "a late exception fails the call": Mutation(
        "execution", "record", "unclear = late or call.doubt", "unclear = False", "none"
    ),
    "a lost attempt is tried again whatever its class": Mutation(
        "execution", "lapse_call", '"none": C.UNKNOWN', '"none": C.RETRY', "none"
    ),
    "a lost attempt leaves no doubt": Mutation(
        "execution", "lapse_call", "doubt=True, lapsed=now", "lapsed=now", "idempotent"
    ),
    "a probe that cannot tell says that it happened": Mutation(
        "doubts",
        "probed",
        "known = happened is True and result is not None",
        "known = happened is not False",
        "reconcilable",
    ),
    "a vote counts on bytes that its voter did not see": Mutation(
        "decisions", "decide", "if digest != call.digest:", "if False:", "looks"
    ),
    "an edit keeps the votes": Mutation(
        "decisions", "_edit", "votes=(vote,) if counts else ()", "votes=(*call.votes, vote)", "looks"
    ),
    "an edit that the policies deny is taken": Mutation(
        "decisions", "_edit", 'if verdict is None or verdict.outcome == "deny":', "if verdict is None:", "looks"
    ),
    "an edit does not ask for more people": Mutation(
        "decisions", "_edit", 'if verdict.outcome == "require_approval":', "if False:", "edit-stricter"
    ),
    "anybody may vote": Mutation(
        "people", "authorise", "if not found:", "if not found:\n        return voter.id\n    if False:", "strangers"
    ),
    "one approver is enough": Mutation("seating", "places", "max(stage.quorum, 1)", "1", "quorum"),
    "one person may approve two stages": Mutation(
        "people", "authorise", "if any(vote.stage != call.stage", "if any(False", "stages-one"
    ),
    "a substitute may decide for anybody": Mutation(
        "people", "standing", "if holder in voter.stands_for:", "if voter.stands_for:", "reassigned", "vote"
    ),
    "a substitute speaks for whoever asked": Mutation(
        "people", "seats", "if not out & {name, call.hands(name)[0]}}", "}", "substitute-excluded", "vote"
    ),
    "whoever asked decides under another name": Mutation(
        "people",
        "barred",
        "return known | frozenset(requester) if known & set(requester) else known",
        "return known - frozenset({'requester'})",
        "substitute-excluded",
        "vote",
    ),
    "a seat is filled twice": Mutation(
        "people", "authorise", "free = [name for name in found if name not in taken]", "free = found", "substitute"
    ),
    "a person is counted twice": Mutation(
        "people",
        "authorise",
        "mine = [vote for vote in call.votes if vote.by in voter.names]",
        "mine = []",
        "substitute-stages",
    ),
    "a seat is handed to anybody": Mutation(
        "attending", "_allowed", "if not allowed:", "allowed = to.id\n    if not allowed:", "delegate", "hands"
    ),
    "a seat is handed to whoever asked": Mutation(
        "attending", "_allowed", "people.may_speak(call, to, requester=requester)", "pass", "delegate", "hands"
    ),
    "anybody hands a seat over": Mutation(
        "attending", "_seat_of", "if found not in names or not", "if found not in names and not", "delegate", "hands"
    ),
    "a seat that was filled is handed over": Mutation(
        "attending", "_seat_of", "if any(found == (vote.seat or vote.by)", "if any(False", "delegate", "hands"
    ),
    "the seat of whoever asked is handed over": Mutation(
        "attending",
        "_seat_of",
        "if {found, call.hands(found)[0]} & out:",
        "if False:",
        "substitute-excluded",
        "hands",
    ),
    "a hand-over tells nobody": Mutation(
        "attending", "hand_over", '*notices(run, handed, "asked", now)', "*()", "delegate", "asked"
    ),
    "a moved seat is still its person's": Mutation(
        "people", "standing", "if holder in voter.names:", "if {holder, name} & set(voter.names):", "reassigned", "vote"
    ),
    "a delegate counts under a policy that knows none": Mutation(
        "people",
        "still_counting",
        "if vote.standing and vote.seat in void",
        "if False",
        "delegate-policy",
        "authority",
    ),
    "an edit keeps whom a seat may be handed to": Mutation(
        "decisions",
        "_stricter",
        "if name in verdict.delegates)",
        "if name not in verdict.delegates or True)",
        "delegate-policy",
    ),
    "whoever asked counts under a policy that excludes them": Mutation(
        "people",
        "still_counting",
        "if not (vote.own and verdict.exclude_requester)",
        "",
        "requester-may",
        "authority",
    ),
    "people are reminded of what is decided": Mutation(
        "attending", "remind", "run.having(CallState.PENDING) if", "run.calls if", "reminders"
    ),
    "nobody looks when it is time to remind": Mutation(
        "settling", "due", "times += call.reminders[:1] if not run.cancel else ()", "pass", "reminders", "due"
    ),
    "a claim may be made by anybody": Mutation(
        "attending", "take_up", "if not people.seats(", "if False and not people.seats(", "beside", "vote"
    ),
    "a comment changes the digest": Mutation(
        "attending",
        "_beside",
        "run = late.run.with_call(call)",
        "call = evolve(call, digest='x')\n    run = late.run.with_call(call)",
        "beside",
        "authority",
    ),
    "a claim is shown to nobody": Mutation(
        "attending", "_beside", '*notices(run, call, "changed", now)', "*()", "beside", "asked"
    ),
    "a vote that does not decide is shown to nobody": Mutation(
        "decisions",
        "_approve",
        'told = notices(run, call, "asked" if anew else "changed", vote.at)',
        'told = notices(run, call, "asked", vote.at) if anew else ()',
        "beside",
        "asked",
    ),
    "an outcome is told to nobody": Mutation(
        "decisions", "_finish_vote", '*notices(run, call, "decided", vote.at)', "*()", "none", "asked"
    ),
    "a card is in many hands": Mutation("telling", "to_deliver", "in heads(run)", "in run.outbox", "notices", "asked"),
    "what came too late stands": Mutation(
        "telling", "delivered", "run = _shown_anew(run, notice, now)", "pass", "notices", "asked"
    ),
    "what is on its way counts as told": Mutation(
        "telling", "notices", "if notice.n == call.n and notice.taken <= now", "if notice.n == call.n", "notices-both"
    ),
    "a deadline passes unseen": Mutation(
        "decisions", "pass_deadlines", "over = call.expires is not None and", "over = False and", "none"
    ),
    "a stage that is over asks nobody": Mutation(
        "decisions",
        "pass_deadlines",
        'outbox=(*run.outbox, *notices(run, call, "asked", now)))\n                events.append(call_event(call, "call.escalated"',
        'outbox=run.outbox)\n                events.append(call_event(call, "call.escalated"',
        "escalation",
    ),
    "a claim does not raise the fence": Mutation(
        "driving", "claim", "fence = run.fence + 1", "fence = max(run.fence, 1)", "none"
    ),
    "a claim does not wait for the function's caller": Mutation(
        "driving", "claim", "if run.waiter and run.waiter.until > now and", "if False and", "function"
    ),
    "a run that kills its workers is claimed for ever": Mutation(
        "driving", "claim", "if run.attempts >= run.max_attempts:", "if False:", "worn"
    ),
    "a pause tells nobody": Mutation(
        "driving", "pause", "outbox=(*run.outbox, *notices(run, call, what, now))", "outbox=run.outbox", "turns"
    ),
    "a loop may end while a call executes": Mutation("driving", "finish", "    nothing_executing(run)\n", "", "none"),
    "a loop may pause while a call executes": Mutation("driving", "pause", "    nothing_executing(run)\n", "", "turns"),
    "a lease's end forgets what executes": Mutation(
        "driving", "_let_go", "for call in run.having(C.EXECUTING):", "for call in ():", "none"
    ),
    "a doubt does not block the run": Mutation("driving", "_let_go", "if run.having(C.UNKNOWN):", "if False:", "none"),
    "a repair frees a doubt": Mutation("driving", "repair", "or run.having(C.UNKNOWN)", "", "none"),
    "a cancelled run ends over a doubt": Mutation(
        "settling", "_close", "if run.having(C.UNKNOWN):", "if False:", "none"
    ),
    "a cancelled run ends while a call executes": Mutation(
        "settling", "settle", "if run.state.ended or run.having(C.EXECUTING):", "if run.state.ended:", "none"
    ),
    "a settled doubt leaves the run blocked": Mutation(
        "settling", "settle", "if run.state is R.BLOCKED and", "if False and", "none"
    ),
    "a run whose last approval is decided stays": Mutation(
        "settling", "settle", "if run.state is R.WAITING and not", "if False and not", "none"
    ),
    "people are asked in a run that goes on": Mutation(
        "settling", "forward", "if not run.having(C.PENDING):", "if True:", "policy"
    ),
    "a withdrawal forgets what was approved": Mutation(
        "settling",
        "_withdraw",
        "run.having(C.PENDING, C.APPROVED, C.ALLOWED)",
        "run.having(C.PENDING, C.ALLOWED)",
        "none",
    ),
    "an expiry does not end the run": Mutation(
        "settling", "ends_on_expiry", "return expired_for_good(run) and", "return False and", "ends"
    ),
    "nobody looks at a run that waits": Mutation(
        "settling", "due", "for call in run.having(C.PENDING):", "for call in ():", "none"
    ),
    "nobody looks at a run that is driven": Mutation(
        "settling", "due", "if run.state is R.ACTIVE and run.lease:", "if False:", "none"
    ),
    "nobody looks at a run that is ready": Mutation(
        "settling", "due", "if run.state in (R.QUEUED, R.READY):", "if False:", "none"
    ),
    "a cancel is not told": Mutation(
        "settling", "_withdraw", "events = (*events, call_event(call))", "events = events", "none"
    ),
    "the worker of a doubt need not be dead": Mutation(
        "doubts", "over_at", "if None in moments:", "if False:", "doubt", TWICE
    ),
    "only the last worker of a doubt need be dead": Mutation(
        "doubts", "over_at", "for attempt in call.attempts]", "for attempt in call.attempts[-1:]]", "idempotent-doubt"
    ),
    "a request on its way is not waited for": Mutation(
        "doubts", "_check_over", "if now < at:", "if False:", "doubt", TWICE
    ),
    "the flight of a request is not counted from the last death": Mutation(
        "doubts", "over_at", "*(at for at in moments if at is not None)", "*()", "doubt"
    ),
    "whoever is asked about is dead": Mutation("doubts", "_noted", "and attempt.owner in dead", "", "doubt"),
    "what did not happen is approved still": Mutation(
        "doubts", "_anew", "state=next_call(None, CallEvent.ASK, C.PENDING)", "state=C.APPROVED", "doubt"
    ),
    "what did not happen keeps its votes": Mutation(
        "doubts", "_anew", "asked_args=call.asked_args,", "asked_args=call.asked_args, votes=call.votes,", "doubt"
    ),
    "a call that did not happen is not over": Mutation(
        "doubts", "_answered", "(CallEvent.DID_NOT_HAPPEN, C.FAILED)", "(CallEvent.HAPPENED, C.SUCCEEDED)", "doubt"
    ),
    "a halt stops no call": Mutation("halting", "stops_call", "return next(", "return '' and next(", "halt-tool"),
    "a halted run is never let out": Mutation(
        "halting", "lift", "if run.state is not R.BLOCKED or run.blocked != HALT:", "if True:", "halt-function"
    ),
    "nobody looks at a halted run": Mutation(
        "settling", "due", "if run.state is R.BLOCKED and run.blocked == HALT:", "if False:", "halt-tool"
    ),
    "a halt ends what executes": Mutation("halting", "park", "    nothing_executing(run)\n", "", "halt-tool"),
    "a halt hides a doubt": Mutation("halting", "park", "if run.having(C.UNKNOWN):", "if False:", "halt-tool"),
    "what was approved before the copy stays approved": Mutation(
        "quarantine",
        "quarantine",
        "elif call.state in ASKED and",
        "elif call.state is C.PENDING and",
        "restored",
        "effect",
    ),
    "what may have happened since the copy is begun again": Mutation(
        "quarantine",
        "quarantine",
        "if call.state in BEGUN:",
        "if False:",
        "restored-paused",
        "restored: a call is allowed",
    ),
    "a vote of before the copy counts": Mutation(
        "quarantine", "_asked_anew", "votes=(),", "votes=call.votes,", "restored-quorum", "restored"
    ),
    "a click of before the copy counts": Mutation(
        "quarantine", "_asked_anew", 'nonce=f"{stamp}.{call.n}",', "", "restored", "restored"
    ),
    "what came from a copy goes on when nobody decides": Mutation(
        "quarantine", "_asked_anew", 'on_expire="end_run",', "", "restored", "restored"
    ),
    "a run of a copy goes on by itself": Mutation(
        "quarantine",
        "_at_rest",
        'return block(change, RunEvent.RESTORED, RESTORED, now, f"quarantine {run.epoch}")',
        "return change",
        "restored-allowed",
        "restored",
    ),
    "the workers since the copy are taken for dead": Mutation(
        "quarantine",
        "_in_doubt",
        "workers_before(epoch), now)",
        "workers_before(epoch), now, now)",
        "restored-paused",
        "restored",
    ),
}
