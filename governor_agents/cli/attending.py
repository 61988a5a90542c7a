"""``inbox delegate``, ``reassign``, ``claim``, ``comment``: what people do with a request short of deciding it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from governor_agents.cli.documents import approval_document
from governor_agents.cli.inbox import Id
from governor_agents.cli.opening import AsJson, Place, StoreUrl, Tenant, own_words
from governor_agents.cli.printing import print_json, say
from governor_agents.core.records import Approval
from governor_agents.handlers.message import Message
from governor_agents.handlers.terminal import local_person
from governor_agents.handlers.visible import visible

if TYPE_CHECKING:
    from governor_agents.governor import Governor

To = Annotated[str, typer.Option("--to", metavar="PERSON", help="Who: an id or address of somebody.")]


def delegate(
    ctx: typer.Context,
    id: Id,
    to: To,
    seat: Annotated[
        str, typer.Option("--seat", metavar="PERSON", help="Whose seat, where you may fill more than your own.")
    ] = "",
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """Let somebody else decide for your seat too. The policy says to whom it may go."""

    async def work(governor: Governor) -> None:
        await governor.delegate(id, to=to, by=local_person(), seat=seat, channel="terminal")

    _attend(Place.of(ctx, store, tenant), id, work, as_json, f"{to} may decide it too")


def reassign(
    ctx: typer.Context,
    id: Id,
    seat: Annotated[
        str, typer.Option("--from", metavar="PERSON", help="Whose seat: your own, or as a coordinator any.")
    ],
    to: To,
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """Let somebody decide in another's place, who then may not any more."""

    async def work(governor: Governor) -> None:
        await governor.reassign(id, seat=seat, to=to, by=local_person(), channel="terminal")

    _attend(Place.of(ctx, store, tenant), id, work, as_json, f"{to} is asked in the place of {seat}")


def claim(
    ctx: typer.Context,
    id: Id,
    release: Annotated[bool, typer.Option("--release", help="Say that you no longer look at it.")] = False,
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """Say that you are on it, so that others need not be. They may decide all the same."""

    async def work(governor: Governor) -> None:
        await governor.take_up(id, by=local_person(), release=release, channel="terminal")

    said = "nobody says any more that they are on it" if release else f"{local_person()} is on it"
    _attend(Place.of(ctx, store, tenant), id, work, as_json, said)


def comment(
    ctx: typer.Context,
    id: Id,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="What everyone who is asked will see.", callback=own_words)
    ],
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """Write beside a request. It decides nothing."""

    async def work(governor: Governor) -> None:
        await governor.comment(id, text, by=local_person(), channel="terminal")

    _attend(Place.of(ctx, store, tenant), id, work, as_json, "the comment stands beside it")


def _attend(place: Place, id: str, work: Callable[[Governor], Awaitable[None]], as_json: bool, said: str) -> None:
    async def whole(governor: Governor) -> Approval:
        await work(governor)
        return await governor.approval(id)

    after = place.run(whole)
    if as_json:
        print_json(approval_document(after))
        return
    message = Message.of(after)
    say(f"{message.id} {message.tool} is {message.state}: {visible(said)}")
