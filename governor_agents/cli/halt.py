"""``halt``: stop tools, agents, a tenant or everything at once, let them go again, see what stands still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from governor_agents.cli.opening import AsJson, Place, StoreUrl, Tenant, own_words
from governor_agents.cli.printing import hint, print_json, print_table, say
from governor_agents.handlers.message import visible, when
from governor_agents.handlers.terminal import local_person

if TYPE_CHECKING:
    from governor_agents.governor import Governor
    from governor_agents.halts import Halt


def halt(
    ctx: typer.Context,
    scope: Annotated[
        str | None,
        typer.Argument(metavar="[SCOPE]", help="tool:NAME, agent:NAME, tenant, or everything (all tenants)."),
    ] = None,
    lift: Annotated[bool, typer.Option("--lift", help="Let the scope go again.")] = False,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the audit trail.", callback=own_words)
    ] = "",
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """Stop dispatch at once. What is executing finishes; nothing else begins until --lift. Alone: list what is halted.

    People may go on deciding meanwhile. Runs that a halt stopped go on by themselves once it is lifted.
    """
    place = Place.of(ctx, store, tenant)
    if scope is None:
        if lift or reason:
            raise typer.BadParameter("name the scope: tool:NAME, agent:NAME, tenant or everything")
        _list(place, as_json)
    elif lift:
        _lift(place, scope, reason, as_json)
    else:
        made = place.run(lambda governor: governor.halt(scope, by=local_person(), reason=reason))
        if as_json:
            print_json(_document(made))
            return
        say(f"{visible(made.scope)} is halted{_by(made)}")
        say(f"{place.commands.halting(made.scope)}  # lets it go again", "dim")


def _list(place: Place, as_json: bool) -> None:
    found = place.run(lambda governor: governor.halts())
    if as_json:
        print_json([_document(each) for each in found])
    elif found:
        rows = [
            (visible(each.scope), when(each.at) if each.at else "", visible(each.by), visible(each.reason))
            for each in found
        ]
        print_table(("SCOPE", "SINCE", "BY", "REASON"), rows)
    else:
        hint("nothing is halted")


def _lift(place: Place, scope: str, reason: str, as_json: bool) -> None:
    async def work(governor: Governor) -> tuple[bool, int]:
        stood = any(each.scope == scope for each in await governor.halts())
        return stood, await governor.lift(scope, by=local_person(), reason=reason)

    stood, freed = place.run(work)
    if as_json:
        print_json({"scope": scope, "was_halted": stood, "runs_freed": freed})
        return
    goes = "1 run goes on" if freed == 1 else f"{freed} runs go on"
    say(f"{visible(scope)} {'is no longer' if stood else 'was not'} halted; {goes}")


def _by(made: Halt) -> str:
    reason = f": {visible(made.reason)}" if made.reason else ""
    return f" since {when(made.at)} by {visible(made.by)}{reason}" if made.at else reason


def _document(made: Halt) -> dict[str, Any]:
    return {"scope": made.scope, "by": made.by, "at": made.at, "reason": made.reason}
