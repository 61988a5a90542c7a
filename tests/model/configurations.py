"""What is walked: many small configurations rather than one huge one, each with the question that it asks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from governor_agents.core.calls import Retry
from governor_agents.core.identity import Voter
from governor_agents.core.verdicts import Stage, Verdict

ASK = Verdict("require_approval", "p", "1", stages=(Stage(("ops",), ("alice", "bob")),), deadline=100.0)
VERDICTS: dict[str, Verdict] = {
    "allow": Verdict("allow", "p", "0"),
    "deny": Verdict("deny", "p", "3", reason="no"),
    "ask": ASK,
    "both": replace(ASK, stages=(Stage(("ops",), ("alice", "bob"), quorum=2),)),
    "more": replace(ASK, version="2", stages=(*ASK.stages, Stage(("cfo",), ("bob", "carol")))),
    "stages": replace(ASK, stages=(Stage(("first",), ("alice",)), Stage(("second",), ("bob",)))),
    "escalates": replace(ASK, stages=(Stage(("first",), ("alice",), within=50.0), Stage(("second",), ("bob",)))),
    "twice": replace(ASK, stages=(Stage(("first",), ("alice", "bob")), Stage(("second",), ("alice", "bob")))),
    "ends": replace(ASK, on_expire="end_run"),
    "nobody": replace(ASK, stages=(Stage(("nobody",)),)),
    "handed": replace(ASK, stages=(Stage(("ops",), ("alice", "bob"), quorum=2),), delegates=("dora", "rita")),
    "with-rita": replace(ASK, stages=(Stage(("ops",), ("rita", "bob"), quorum=2),), delegates=("dora",)),
    "rita-may": replace(ASK, stages=(Stage(("ops",), ("rita", "bob"), quorum=2),), exclude_requester=False),
    "reminded": replace(ASK, reminders=(10.0, 20.0)),
}
"""What policies may say of a call, by the names that configurations use."""

VOTERS: dict[str, Voter] = {
    "sam": Voter("sam", ("sam", "sam's address"), stands_for=("alice", "bob", "rita")),
    "rita": Voter("rita", ("rita", "requester")),
    "bot": Voter("bot", ("bot", "bob"), service=True),
}
"""Who is more than a name: a substitute, whoever asked under another name, a service that a stage seems to name."""


def voter(name: str) -> Voter:
    """Whoever has this name."""
    return VOTERS.get(name, Voter.plain(name))


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that the agent makes: what the policies say of it at first, and its tool's retry class.

    ``pends``: the framework paused at it all the same, as when a policy changed meanwhile.
    """

    verdict: str = "ask"
    retry: Retry = "none"
    pends: bool = False


@dataclass(frozen=True, slots=True)
class Configuration:
    """What may happen.

    ``turns`` are the calls of each stretch of the loop, from one pause to the next; ``begin`` is where the walk begins:
    at the first pause, before the first claim, or with a function's caller that waits. ``later`` names verdicts that an
    intent may meet in place of the first one. ``looks``: approvers look first and vote later. ``zombies``: a worker
    whose claim is over goes on trying every step of it. ``tries`` bounds the intents of one call, ``again``: a call
    that did not happen is asked anew, by ``anew``, though not a second time. ``halt`` is a scope that may be
    halted and lifted. ``telling``: notices are delivered step by step. ``restores``: a copy of the store is taken at any
    moment, and put back, quarantined, at any later one. ``hands`` are the hand-overs that are tried: who, ``delegate``,
    ``move`` or ``coordinate``, whose seat, to whom. ``beside``: people say that they look, and write a comment.
    """

    says: str
    turns: tuple[tuple[Asked, ...], ...] = ((Asked(),),)
    begin: Literal["waiting", "queued", "function"] = "waiting"
    people: tuple[str, ...] = ("alice",)
    votes: tuple[str, ...] = ("approve",)
    edits: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    cancels: tuple[str, ...] = ()
    looks: bool = False
    zombies: bool = False
    drift: bool = False
    halt: str = ""
    telling: bool = False
    restores: bool = False
    hands: tuple[tuple[str, str, str, str], ...] = ()
    beside: bool = False
    parks: bool = False
    workers: int = 2
    tries: int = 2
    again: bool = False
    anew: str = "ask"
    max_attempts: int = 2
    short: bool = False


ONE = Asked()
SAFE = Asked(retry="idempotent")
PROBED = Asked(retry="reconcilable")
FREE = Asked("allow")
FREE_SAFE = Asked("allow", "idempotent")
FREE_PROBED = Asked("allow", "reconcilable")
NO = Asked("deny")
EVERY_VOTE = ("approve", "reject", "respond")

CONFIGURATIONS: dict[str, Configuration] = {
    "none": Configuration("One approved call that may run once.", cancels=("cancel",), short=True),
    "none-zombies": Configuration("The same; workers go on after their claim is over.", zombies=True),
    "doubt": Configuration("A doubt, and what is still under way while it is answered.", again=True, short=True),
    "idempotent": Configuration("An approved call that may be tried again.", ((SAFE,),), tries=2, short=True),
    "idempotent-doubt": Configuration(
        "Two attempts in doubt, of which one may live; nobody answers when it is asked anew.",
        ((FREE_SAFE,),),
        begin="queued",
        people=(),
        again=True,
    ),
    "idempotent-3": Configuration("Three attempts of it.", ((SAFE,),), tries=3, workers=1),
    "idempotent-policy": Configuration(
        "Tried again under other policies.", ((SAFE,),), later=("deny", "more"), drift=True
    ),
    "reconcilable": Configuration("An approved call with a probe.", ((PROBED,),), cancels=("cancel",), short=True),
    "rejected": Configuration("Every decision, by two people, at once.", people=("alice", "bob"), votes=EVERY_VOTE),
    "looks": Configuration(
        "Two people look first and vote later, while either edits.",
        ((Asked("both"),),),
        people=("alice", "bob"),
        votes=("approve", "reject"),
        edits=("both", "deny"),
        looks=True,
        short=True,
    ),
    "quorum": Configuration(
        "Two must approve; one of them is named twice.", ((Asked("both"),),), people=("alice", "bob", "carol")
    ),
    "stages": Configuration(
        "Two stages, each with somebody else.", ((Asked("stages"),),), people=("alice", "bob"), edits=("stages",)
    ),
    "escalation": Configuration(
        "A stage whose time passes.", ((Asked("escalates"),),), people=("alice", "bob"), later=("more",), short=True
    ),
    "edit-stricter": Configuration(
        "An edit under a stricter policy.",
        people=("alice", "bob", "carol"),
        edits=("more", "allow"),
        looks=True,
        votes=("approve",),
    ),
    "policy": Configuration(
        "A policy that denies, or demands more, at dispatch.",
        people=("alice", "bob", "carol"),
        later=("deny", "more"),
        drift=True,
        short=True,
    ),
    "strangers": Configuration("Somebody whom no stage names votes too.", people=("alice", "carol"), votes=EVERY_VOTE),
    "stages-one": Configuration(
        "Two stages that name the same two people.", ((Asked("twice"),),), people=("alice", "bob"), looks=True
    ),
    "ends": Configuration(
        "An expiry that ends the run.", ((Asked("ends"), SAFE),), cancels=("cancel",), workers=1, tries=1
    ),
    "ends-probed": Configuration(
        "The same beside a call with a probe, under a policy that demands more.",
        ((Asked("ends"), PROBED),),
        later=("more",),
        cancels=("cancel",),
        workers=1,
        tries=1,
    ),
    "ends-anew": Configuration(
        "A call that is asked anew, and whose expiry then ends the run.",
        ((FREE,),),
        begin="queued",
        workers=1,
        tries=1,
        again=True,
        anew="ends",
    ),
    "nobody": Configuration("A stage without people.", ((Asked("nobody"),),), people=("alice",), votes=EVERY_VOTE),
    "allowed": Configuration("An allowed call in a loop that was queued.", ((FREE,),), begin="queued", short=True),
    "allowed-idempotent": Configuration(
        "One that may be tried again.", ((FREE_SAFE,),), begin="queued", cancels=("cancel",)
    ),
    "allowed-reconcilable": Configuration("One with a probe.", ((FREE_PROBED,),), begin="queued"),
    "allowed-policy": Configuration(
        "Allowed when made; later people are demanded.", ((FREE_SAFE,),), begin="queued", later=("ask", "deny")
    ),
    "mixed": Configuration("Allowed, denied and asked in one turn.", ((FREE, NO, ONE),), begin="queued", tries=1),
    "allowed-paused": Configuration(
        "A pause at a call that is allowed by then.",
        ((Asked("allow", pends=True), Asked("deny", pends=True)),),
        later=("ask", "deny"),
        drift=True,
        cancels=("cancel", "supersede"),
    ),
    "two": Configuration("Two calls in one pause.", ((ONE, ONE),), tries=1, cancels=("cancel",)),
    "two-idempotent": Configuration("Two that may be tried again.", ((SAFE, SAFE),), tries=1, workers=1),
    "two-classes": Configuration("One of each class.", ((SAFE, ONE),), cancels=("cancel",), workers=1, tries=1),
    "turns": Configuration("Two pauses, each with a call.", ((ONE,), (ONE,)), begin="queued"),
    "function": Configuration(
        "A function whose caller waits.", begin="function", votes=EVERY_VOTE, parks=True, short=True
    ),
    "function-idempotent": Configuration(
        "One that may be tried again.", ((SAFE,),), begin="function", cancels=("cancel",)
    ),
    "function-policy": Configuration(
        "One that policies overtake.", begin="function", later=("deny", "more"), people=("alice", "bob")
    ),
    "superseded": Configuration(
        "A new message while the run waits.", cancels=("cancel", "supersede"), votes=("approve", "reject")
    ),
    "parked": Configuration("A driver that finds what it may not settle.", ((SAFE,),), parks=True, cancels=("cancel",)),
    "worn": Configuration("A run that kills its workers.", max_attempts=1, again=True),
    "halt-tool": Configuration(
        "A tool that is halted and lifted.", ((SAFE,),), halt="tool:pay", cancels=("cancel",), short=True
    ),
    "halt-agent": Configuration(
        "An agent that is halted, with a call in doubt.", ((ONE,),), begin="queued", halt="agent:agent"
    ),
    "halt-function": Configuration("A function whose tool is halted.", begin="function", halt="tool:pay"),
    "restored": Configuration(
        "An approved call, and an old copy of the store.",
        ((ONE,),),
        workers=1,
        cancels=("cancel",),
        restores=True,
        short=True,
    ),
    "restored-idempotent": Configuration("One that may be tried again.", ((SAFE,),), workers=1, tries=1, restores=True),
    "restored-reconcilable": Configuration("One with a probe.", ((PROBED,),), workers=1, restores=True),
    "restored-quorum": Configuration(
        "One that two must approve.", ((Asked("both"),),), people=("alice", "bob"), workers=1, restores=True
    ),
    "restored-allowed": Configuration(
        "A call that nobody is asked for, in a loop that was queued.",
        ((FREE,),),
        begin="queued",
        workers=1,
        tries=1,
        again=True,
        restores=True,
    ),
    "restored-paused": Configuration(
        "A pause at a call that is allowed by then, and at one that nobody decides.",
        ((Asked("allow", pends=True), ONE),),
        people=(),
        workers=1,
        tries=1,
        restores=True,
    ),
    "restored-function": Configuration(
        "A function whose caller waits.", begin="function", workers=1, parks=True, restores=True
    ),
    "restored-halted": Configuration(
        "A tool that is halted meanwhile.", ((ONE,),), workers=1, tries=1, halt="tool:pay", restores=True
    ),
    "substitute": Configuration(
        "One of two is away for one of the people; a service has the other's name.",
        ((Asked("both"),),),
        people=("alice", "bob", "sam", "bot"),
        votes=("approve", "reject"),
        edits=("both",),
        workers=1,
        tries=1,
        short=True,
    ),
    "substitute-stages": Configuration(
        "A substitute in each of two stages, under a policy that demands more.",
        ((Asked("stages"),),),
        people=("alice", "bob", "sam"),
        later=("more",),
        workers=1,
        tries=1,
    ),
    "substitute-excluded": Configuration(
        "A substitute of whoever asked, who is named under another name.",
        ((Asked("with-rita"),),),
        people=("rita", "bob", "sam"),
        votes=EVERY_VOTE,
        hands=(("rita", "delegate", "rita", "dora"), ("carla", "coordinate", "rita", "dora")),
        workers=1,
        tries=1,
        short=True,
    ),
    "requester-may": Configuration(
        "Whoever asked may approve, until the policy says otherwise.",
        ((Asked("rita-may"),),),
        people=("rita", "bob"),
        later=("with-rita",),
        workers=1,
        tries=1,
    ),
    "delegate": Configuration(
        "A seat that is shared, by those who may and those who may not, with those who may and those who may not.",
        ((Asked("handed"),),),
        people=("alice", "bob", "dora"),
        hands=(
            ("alice", "delegate", "alice", "dora"),
            ("alice", "delegate", "alice", "carol"),
            ("alice", "delegate", "alice", "rita"),
            ("bob", "delegate", "alice", "dora"),
            ("carla", "delegate", "alice", "dora"),
        ),
        workers=1,
        tries=1,
        short=True,
    ),
    "delegate-policy": Configuration(
        "A delegate's approval, and policies that no longer let the seat be shared.",
        ((Asked("handed"),),),
        people=("alice", "bob", "dora"),
        hands=(("alice", "delegate", "alice", "dora"),),
        edits=("both",),
        later=("both",),
        workers=1,
        tries=1,
    ),
    "reassigned": Configuration(
        "A seat that is moved by its person, by a coordinator, and back.",
        ((Asked("handed"),),),
        people=("alice", "bob", "dora", "sam"),
        hands=(
            ("alice", "move", "alice", "dora"),
            ("carla", "coordinate", "bob", "dora"),
            ("carla", "move", "bob", "dora"),
            ("dora", "move", "alice", "alice"),
        ),
        workers=1,
        tries=1,
    ),
    "reminders": Configuration(
        "People are reminded, until it is decided or over.",
        ((Asked("reminded"),),),
        cancels=("cancel",),
        workers=1,
        tries=1,
        short=True,
    ),
    "beside": Configuration(
        "People say that they look, and write, while two of them must approve.",
        ((Asked("both"),),),
        people=("alice", "bob"),
        beside=True,
        workers=1,
        tries=1,
        short=True,
    ),
    "reminded-notices": Configuration(
        "The same, step by step as people are told.",
        ((Asked("reminded"),),),
        telling=True,
        workers=1,
        tries=1,
    ),
    "notices-both": Configuration(
        "Votes of two, while a channel shows the first.",
        ((Asked("both"),),),
        people=("alice", "bob"),
        telling=True,
        workers=1,
        tries=1,
    ),
    "notices": Configuration("People are told, step by step.", people=("alice", "bob"), votes=EVERY_VOTE, telling=True),
}
