"""``runs``: what agents are doing, why they stand, and how to stop one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from governor_agents.cli.documents import run_document
from governor_agents.cli.opening import AsJson, Place, StoreUrl, Tenant, own_words
from governor_agents.cli.printing import hint, left_out, note, print_facts, print_json, print_table, say
from governor_agents.core.records import Call, Run, RunState, approval_id
from governor_agents.handlers.message import bound_files, outcome, visible, visible_json, when
from governor_agents.handlers.terminal import local_person
from governor_agents.handlers.words import Commands, explain

if TYPE_CHECKING:
    from governor_agents.governor import Governor

app: typer.Typer = typer.Typer(help="What agents are doing, why they stand, and how to stop one.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="The run's id, as `runs list` prints it.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    state: Annotated[RunState | None, typer.Option("--state", help="Only runs in this state.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", metavar="NAME", help="Only runs of this agent.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Print this many at most.")] = 100,
    after: Annotated[str, typer.Option("--after", metavar="ID", help="Go on behind this run.")] = "",
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> int:
    """List runs, by id. Exit code 1 when some of them cannot be read."""
    wanted = None if state is None else state.value
    missing: list[str] = []
    place = Place.of(ctx, store, tenant)
    found = place.run(
        lambda governor: governor.list_runs(
            state=wanted, agent=agent, limit=limit + 1, after=after, skipped=missing.append
        )
    )
    for why in missing:
        left_out(why)
    more, found = len(found) + len(missing) > limit, found[:limit]
    if as_json:
        print_json([run_document(run, commands=place.commands) for run in found])
    elif found:
        now = time.time()
        rows = [
            (visible(run.id), run.status, visible(run.agent), when(run.created), explain(run, now).because)
            for run in found
        ]
        print_table(("ID", "STATE", "AGENT", "STARTED", "WHY"), rows)
    elif not missing:
        hint("no such runs" if state or agent or after else "no runs")
    if more:
        on = f"--after {visible(found[-1].id)} goes on, " if found else ""
        note(f"there are more: {on}--limit changes how many")
    return 1 if missing else 0


@app.command()
def show(ctx: typer.Context, id: Id, as_json: AsJson = False, store: StoreUrl = None, tenant: Tenant = None) -> None:
    """Explain a run: what it waits for, why it stands, the ways on; all its calls."""
    place = Place.of(ctx, store, tenant)

    async def work(governor: Governor) -> tuple[Run, tuple[Call, ...]]:
        return await governor.get(id), await governor.calls(id)

    run, calls = place.run(work)
    if as_json:
        print_json(run_document(run, calls, place.commands))
    else:
        _print_run(run, calls, place.commands)


def _print_run(run: Run, calls: Sequence[Call], commands: Commands) -> None:
    now = time.time()
    why = explain(run, now, commands)
    say(f"run {visible(run.id)} is {run.status}: {why.because}", "bold")
    for detail in why.details:
        say(f"  {detail}")
    if why.ways:
        say("\nways on:", "dim")
        for way in why.ways:
            say(f"  {way}")
    say("\nrun:", "dim")
    print_facts(_facts(run))
    silent = run.lease is not None and run.lease.until <= now
    for call in calls:
        became = outcome(call, silent=silent)
        say(f"\n{visible(approval_id(run.id, call.n))} {visible(call.tool)} is {call.state}: {became}", "bold")
        print_facts(_call_facts(call))
    say(f"\n{commands.line('runs timeline', run.id)}  # tells it step by step", "dim")


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    yield "agent", visible(run.agent)
    yield "requester", visible(run.requester)
    if run.conversation:
        yield "conversation", visible(run.conversation)
    if run.tenant != "default":
        yield "tenant", visible(run.tenant)
    yield "adapter", visible(run.adapter)
    yield "started", when(run.created)
    yield "changed", when(run.updated)
    if run.keep_until is not None:
        yield "kept until", when(run.keep_until)
    if run.attempts and not run.state.ended:
        yield "tries", f"{run.attempts} of {run.max_attempts} since the last progress"
    if run.output_json:
        yield "output", visible_json(run.output_json)


def _call_facts(call: Call) -> Iterator[tuple[str, str]]:
    args = call.args.decode("utf-8", "backslashreplace")
    yield "arguments", visible_json(args)
    if call.asked_args is not None:
        yield "asked for", visible_json(call.asked_args.decode("utf-8", "backslashreplace"))
    yield from (("file", file) for file in bound_files(call))
    yield "policy", visible(" ".join(filter(None, (call.policy or call.code, call.why and f"({call.why})"))))
    for vote in call.votes:
        yield (
            "vote",
            visible(f"{vote.kind} by {vote.by}{f': {vote.reason}' if vote.reason else ''}") + f", {when(vote.at)}",
        )
    for attempt in call.attempts:
        died = "" if attempt.died is None else f"; known to be over since {when(attempt.died)}"
        yield "attempt", f"{when(attempt.at)} by {visible(attempt.owner)}, fence {attempt.fence}{died}"
    if call.result is not None:
        yield "result", visible(call.result.data if call.result.data is not None else f"content {call.result.blob}")
    if call.resolved is not None:
        said = call.resolved
        yield "resolved", f"{said.how} by {visible(said.by)}, {when(said.at)}: {visible(said.evidence)}"
    if call.replaced_by is not None:
        yield "asked again", f"as call {call.replaced_by}"


@app.command()
def cancel(
    ctx: typer.Context,
    id: Id,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; kept with the run.", callback=own_words)
    ] = "",
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """End a run: at once, or as soon as the tool that is running is done. What was not started never runs."""
    me = local_person()
    place = Place.of(ctx, store, tenant)
    run = place.run(lambda governor: governor.cancel(id, by=me, reason=reason or f"cancelled by {me}"))
    if as_json:
        print_json(run_document(run, commands=place.commands))
        return
    why = explain(run, time.time(), place.commands)
    say(f"run {visible(run.id)} is {run.status}: {why.because}")
    for detail in why.details:
        say(f"  {detail}")
