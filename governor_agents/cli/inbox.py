"""``inbox``: what waits for people, and their decisions.

Whoever decides here is who the operating system says runs the command; there is no option to be somebody else.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from governor_agents.cli.documents import approval_document
from governor_agents.cli.opening import AsJson, Place, StoreUrl, Tenant, own_words
from governor_agents.cli.policies import OfApp, PolicyFiles, one_governor, with_policies
from governor_agents.cli.printing import console, hint, left_out, note, print_json, print_table, say
from governor_agents.core.calls import freeze_text
from governor_agents.core.records import Approval, Decision
from governor_agents.errors import ArgumentsError, ConfigError, StaleDecision
from governor_agents.handlers.message import Message, asks, when
from governor_agents.handlers.terminal import local_person, print_message
from governor_agents.handlers.visible import visible
from governor_agents.handlers.words import after_decision, untold

if TYPE_CHECKING:
    from governor_agents.governor import Governor

app: typer.Typer = typer.Typer(help="What waits for people, and their decisions.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="The approval's id, as `inbox list` prints it.")]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; after a rejection the model is told.", callback=own_words)
]
Digest = Annotated[
    str | None, typer.Option("--digest", metavar="HEX", help="Count only if the request still has this digest.")
]


@app.command("list")
def list_(
    ctx: typer.Context,
    mine: Annotated[bool, typer.Option("--mine", help="Only what you may decide now.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Look at this many runs at most.")] = 1000,
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> int:
    """List what waits for people, oldest first. Exit code 1 when some of it cannot be read."""
    person = local_person() if mine else None
    place = Place.of(ctx, store, tenant)
    missing: list[str] = []
    found = place.run(lambda governor: governor.inbox(person=person, limit=limit, skipped=missing.append))
    for why in missing:
        left_out(why)
    if len({approval.run.id for approval in found}) >= limit:
        note(f"there may be more: this looked at {limit} runs, see --limit")
    if as_json:
        print_json([approval_document(approval) for approval in found])
    elif found:
        print_table(("ID", "TOOL", "AGENT", "ASKED FOR BY", "APPROVERS", "DEADLINE"), [_row(each) for each in found])
        hint(f"{place.commands.line('inbox show', 'ID')}  # shows one in full")
    elif not missing:
        hint(f"nothing waits for {person or 'anybody'}")
    return 1 if missing else 0


def _row(approval: Approval) -> tuple[str, ...]:
    """What a list says of a request. Its arguments are for `show`, which has the room to show all of them."""
    run, deadline = approval.run, approval.deadline
    names = map(visible, (approval.id, approval.tool, run.agent, run.requester))
    return (*names, asks(approval.call), "" if deadline is None else when(deadline))


@app.command()
def show(ctx: typer.Context, id: Id, as_json: AsJson = False, store: StoreUrl = None, tenant: Tenant = None) -> None:
    """Show a request in full: every argument, who may decide, until when; or who decided."""
    place = Place.of(ctx, store, tenant)
    approval = place.run(lambda governor: governor.approval(id))
    if as_json:
        print_json(approval_document(approval))
        return
    message = Message.of(approval)
    print_message(console(), message)
    missing = list(untold(approval.run, time.time(), place.commands, approval.call.n))
    if missing:
        say("\nnot everywhere yet:" if not sys.stdout.isatty() else "not everywhere yet:", "dim")
        for line in missing:
            say(f"  {line}")
    if message.waits:
        say("\ndecide:" if not sys.stdout.isatty() else "decide:", "dim")
        for line in place.commands.deciding(message, approval.id)[1:]:
            say(f"  {line}")


@app.command()
def approve(
    ctx: typer.Context,
    id: Id,
    reason: Reason = "",
    digest: Digest = None,
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """Let the call run, with exactly the arguments that `inbox show` shows."""
    _decide(Place.of(ctx, store, tenant), id, Decision.approve(reason), digest, as_json)


@app.command()
def reject(
    ctx: typer.Context,
    id: Id,
    reason: Reason = "",
    digest: Digest = None,
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """Do not let the call run. The model is told the reason."""
    _decide(Place.of(ctx, store, tenant), id, Decision.reject(reason), digest, as_json)


@app.command()
def respond(
    ctx: typer.Context,
    id: Id,
    answer: Annotated[str, typer.Argument(metavar="ANSWER", help="What the agent gets in the tool's place.")],
    reason: Reason = "",
    digest: Digest = None,
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """Answer in the tool's place. The call does not run."""
    _decide(Place.of(ctx, store, tenant), id, Decision.respond(answer, reason), digest, as_json)


@app.command()
def edit(
    ctx: typer.Context,
    id: Id,
    args: Annotated[
        str | None, typer.Option("--args", metavar="JSON", help="All arguments, as one JSON object.")
    ] = None,
    args_file: Annotated[
        str | None, typer.Option("--args-file", metavar="FILE", help="A file that holds them; - for stdin.")
    ] = None,
    policy: PolicyFiles = None,
    of_app: OfApp = None,
    reason: Reason = "",
    digest: Digest = None,
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """Let the call run with other arguments. The policies are asked again, about these."""
    if (args is None) == (args_file is None):
        raise typer.BadParameter("give the new arguments with --args JSON or with --args-file FILE")
    frozen = _frozen(args, args_file)
    app_governor = None if of_app is None else one_governor(of_app)
    place = Place.of(ctx, store, tenant, app_governor)
    make = with_policies(place, app_governor, policy or [])
    if make is None:
        mend = "name them with --policy FILE or --app APP:GOVERNOR (there is no governor.yaml here)"
        raise ConfigError(f"an edit asks the policies again; {mend}")
    _decide(place, id, Decision.edit(frozen, reason), digest, as_json, make)


def _frozen(args: str | None, file: str | None) -> bytes:
    if args is not None or file is None:
        return freeze_text(args or "")
    name = "stdin" if file == "-" else file
    try:
        return freeze_text(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror}") from None
    except ArgumentsError as error:
        raise ArgumentsError(f"{name}: {error}") from None


def _decide(
    place: Place,
    id: str,
    decision: Decision,
    digest: str | None,
    as_json: bool,
    make: Callable[[], Governor] | None = None,
) -> None:
    """Count the decision of whoever runs this, on the request as it was loaded, and say what came of it."""

    async def work(governor: Governor) -> Approval:
        me = local_person()
        with governor.audit.refusals.watched("decide", id, by=me, channel="terminal"):
            seen = digest or (await governor.approval(id)).call.digest
        decided = await governor.decide(id, decision, by=me, digest=seen, channel="terminal")
        after = await governor.approval(id)
        call = decided.call(after.call.n) or after.call
        if seen != call.digest and decision.kind != "edit":  # the same said again, but of another request
            with governor.audit.refusals.watched("decide", id, by=me, channel="terminal"):
                raise StaleDecision(f"{id} is decided, but its digest is not {seen}; look at it again")
        return after

    after = place.run(work, make)
    if as_json:
        print_json(approval_document(after))
        return
    message = Message.of(after)
    say(f"{message.id} {message.tool} is {message.state}: {message.outcome}")
    say(visible(after_decision(after, after.run)), "dim")
