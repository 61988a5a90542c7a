"""``runs resolve`` and ``runs repair``: an operator's answers, where a run cannot go on by itself.

Whoever answers is who the operating system says runs the command.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from governor_agents.cli.documents import call_document, run_document
from governor_agents.cli.opening import AsJson, Place, StoreUrl, Tenant, own_words
from governor_agents.cli.policies import OfApp, PolicyFiles, one_governor, with_policies
from governor_agents.cli.printing import note, print_json, say
from governor_agents.core.records import Answer, Run, approval_id, split_approval_id
from governor_agents.errors import ConfigError, ResolutionRefused, TooEarly, WorkerMayLive
from governor_agents.handlers.terminal import local_person
from governor_agents.handlers.visible import visible
from governor_agents.handlers.words import explain
from governor_agents.liveness import is_dead

if TYPE_CHECKING:
    from governor_agents.governor import Governor


def resolve(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id, as `runs list` prints it.")],
    call: Annotated[str, typer.Argument(metavar="CALL", help="The call's number, or its id RUN.NUMBER.")],
    evidence: Annotated[
        str,
        typer.Option(
            "--evidence", metavar="TEXT", help="What the answer rests on; kept with the call.", callback=own_words
        ),
    ],
    happened: Annotated[
        bool, typer.Option("--happened", help="It took effect. The agent goes on and is told the evidence.")
    ] = False,
    did_not_happen: Annotated[
        bool, typer.Option("--did-not-happen", help="It did not, and cannot any more. People are asked for it anew.")
    ] = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Nobody will know. The agent is told not to retry.")
    ] = False,
    worker_dead: Annotated[
        bool,
        typer.Option("--worker-dead", help="Your word that workers which cannot be seen from here are dead; audited."),
    ] = False,
    policy: PolicyFiles = None,
    of_app: OfApp = None,
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """Say what became of a call whose outcome is unknown. Exit code 1: the answer does not count yet."""
    how = _answer(happened, did_not_happen, abandon)
    if worker_dead and how != "did-not-happen":
        raise typer.BadParameter("--worker-dead goes with --did-not-happen")
    n = _number(run, call)
    app = None if of_app is None else one_governor(of_app)
    place = Place.of(ctx, store, tenant, app)
    make = with_policies(place, app, policy or []) if how == "did-not-happen" else None

    async def work(governor: Governor) -> Run:
        return await governor.resolve(run, n, how, by=local_person(), evidence=evidence, worker_dead=worker_dead)

    try:
        after = place.run(work, make)
    except (WorkerMayLive, TooEarly) as refused:
        _not_yet(run, n, refused, as_json)
        raise typer.Exit(1) from None
    _print(after, n, place, as_json)


def _answer(happened: bool, did_not_happen: bool, abandon: bool) -> Answer:
    given: list[Answer] = []
    given += ["happened"] if happened else []
    given += ["did-not-happen"] if did_not_happen else []
    given += ["abandon"] if abandon else []
    if len(given) != 1:
        raise typer.BadParameter("give one answer: --happened, --did-not-happen or --abandon")
    return given[0]


def _number(run: str, call: str) -> int:
    """The number of a call, from itself or from its id."""
    if call.isascii() and call.isdigit() and len(call) < 10:
        return int(call)
    parts = split_approval_id(call)
    if parts is None:
        raise ConfigError(f"{call} is no call: give its number, or its id, such as {approval_id(run, 1)}")
    if parts[0] != run:
        raise ConfigError(f"{call} is a call of another run than {run}")
    return parts[1]


def _not_yet(run: str, n: int, refused: ResolutionRefused, as_json: bool) -> None:
    """Say why the answer does not count now, and what to do about it."""
    until = refused.until if isinstance(refused, TooEarly) else None
    workers = list(refused.workers) if isinstance(refused, WorkerMayLive) else []
    living = [owner for owner in workers if is_dead(owner) is False]
    if as_json:
        document: dict[str, Any] = {
            "id": approval_id(run, n),
            "refused": refused.code,
            "because": str(refused),
            "until": until,
            "workers": workers,
            "living": living,
        }
        print_json(document)
        return
    mend = ""
    if living:
        pids = ", ".join(owner.split("/")[1] for owner in living)
        mend = f"; end that worker first (process {pids} on this host), then say it again"
    elif workers:
        mend = "; say it again on the worker's own host, or with --worker-dead if you know that it is gone"
    note(visible(f"not yet: {refused}{mend}"))


def repair(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id, as `runs list` prints it.")],
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="What was mended; kept with the run.", callback=own_words)
    ],
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """Let a run go on that was given up (DEAD), or parked for another reason than a call in doubt."""
    if not reason.strip():
        raise typer.BadParameter("say with --reason what was mended")
    place = Place.of(ctx, store, tenant)
    after = place.run(lambda governor: governor.repair(run, by=local_person(), reason=reason))
    _print(after, None, place, as_json)


def _print(run: Run, n: int | None, place: Place, as_json: bool) -> None:
    """How the call and its run stand after the answer, and the ways on."""
    call = None if n is None else run.call(n)
    if as_json:
        document = run_document(run, commands=place.commands)
        if call is not None:
            document["call"] = call_document(run, call)
        print_json(document)
        return
    if call is not None:
        again = (
            "" if call.replaced_by is None else f"; people are asked anew as {approval_id(run.id, call.replaced_by)}"
        )
        say(f"{visible(approval_id(run.id, call.n))} {visible(call.tool)} is {call.state}{visible(again)}")
    why = explain(run, time.time(), place.commands)
    say(f"run {visible(run.id)} is {run.status}: {why.because}")
    for way in why.ways:
        say(f"  {way}")
