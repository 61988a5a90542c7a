"""``store quarantine``: after a restore, nothing of the old copy goes on before a person has spoken on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from governor_agents.cli.opening import AsJson, Globals, Place, StoreUrl, Tenant
from governor_agents.cli.printing import counting, hint, left_out, print_json, say
from governor_agents.cli.store import with_store
from governor_agents.core.halting import EVERYTHING, TENANT
from governor_agents.handlers.message import visible, when
from governor_agents.handlers.terminal import local_person
from governor_agents.handlers.words import shell_word

if TYPE_CHECKING:
    from collections.abc import Callable

    from governor_agents.backup.restored import Mark, Swept
    from governor_agents.core.ports import Store
    from governor_agents.governor import Governor


def quarantine(
    ctx: typer.Context,
    epoch: Annotated[str, typer.Option("--epoch", metavar="NAME", help="A name of your own for this restore.")],
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> int:
    """After an old copy was restored: ask people anew for all that was decided, hold back all that would go on.

    Before any worker or server is started on it. Everything is halted meanwhile. The same epoch does nothing a second
    time; stopped half way, it goes on when it is said again. Exit code 1 when runs cannot be read: then the halt stays.
    """
    from governor_agents.backup.restored import check_epoch

    check_epoch(epoch)
    place = Place.of(ctx, store, tenant)
    place.check()
    alone = tenant or (ctx.find_object(Globals) or Globals()).tenant
    whose = [place.tenant] if alone else with_store(place.url, _tenants)
    earlier = {name: mark for name in whose if (mark := _earlier(Place(place.named, name), epoch))}
    scope = TENANT if alone else EVERYTHING
    swept = _sweep_all(place, [name for name in whose if name not in earlier], scope, epoch)
    if as_json:
        print_json([_document(name, epoch, earlier.get(name), swept.get(name)) for name in whose])
    else:
        _print(place, epoch, whose, earlier, swept)
    unreadable = [f"tenant {name}: {why}" for name, each in swept.items() for why in each.unreadable]
    for why in unreadable:
        left_out(why)
    if unreadable:
        hint(f"{scope} stays halted; once these are mended or given up, say the same again")
    return 1 if unreadable else 0


def _sweep_all(place: Place, todo: list[str], scope: str, epoch: str) -> dict[str, Swept]:
    """Quarantine these tenants while the scope is halted; it stays so when runs of them could not be read."""
    first = Place(place.named, todo[0] if todo else place.tenant)
    if not todo:  # all of it was done; but perhaps it was killed before the halt was lifted
        if _stands(first, scope, epoch):
            _lift(first, scope, epoch)
        return {}
    ours = _halt(first, scope, epoch)
    with counting() as stage:
        swept = {
            name: _sweep(Place(place.named, name), epoch, stage(f"runs of {visible(name)} looked at")) for name in todo
        }
    if ours and not any(each.unreadable for each in swept.values()):
        _lift(first, scope, epoch)
    return swept


async def _tenants(store: Store) -> list[str]:
    from governor_agents.backup.restored import tenants

    return [tenant async for tenant in tenants(store)]


def _earlier(place: Place, epoch: str) -> Mark | None:
    from governor_agents.backup.restored import done_before

    async def work(governor: Governor) -> Mark | None:
        await governor.open()
        return await governor.loop.bridge(done_before(governor.store, governor.tenant, epoch))

    return place.run(work)


def _reason(epoch: str) -> str:
    return f"quarantine {epoch}"


def _halt(place: Place, scope: str, epoch: str) -> bool:
    """Halt while the quarantine works; True when the halt that stands is its own, this time's or an earlier one's."""

    async def work(governor: Governor) -> bool:
        made = await governor.halt(scope, by=local_person(), reason=_reason(epoch))
        return made.reason == _reason(epoch)

    return place.run(work)


def _stands(place: Place, scope: str, epoch: str) -> bool:
    """True when the halt of this quarantine stands."""
    found = place.run(lambda governor: governor.halts())
    return any((halt.scope, halt.reason) == (scope, _reason(epoch)) for halt in found)


def _lift(place: Place, scope: str, epoch: str) -> None:
    place.run(lambda governor: governor.lift(scope, by=local_person(), reason=_reason(epoch)))


def _sweep(place: Place, epoch: str, seen: Callable[[int], None]) -> Swept:
    from governor_agents.backup.restored import sweep

    async def work(governor: Governor) -> Swept:
        await governor.open()
        return await governor.loop.bridge(sweep(governor.runs, epoch, by=local_person(), seen=seen))

    return place.run(work)


def _document(tenant: str, epoch: str, earlier: Mark | None, swept: Swept | None) -> dict[str, Any]:
    counts = {name: getattr(swept, name, 0) for name in ("runs", "asked", "doubts", "held")}
    unreadable = list(swept.unreadable) if swept else []
    done_at = earlier.at if earlier else None
    return {"tenant": tenant, "epoch": epoch, **counts, "unreadable": unreadable, "done_earlier": done_at}


def _print(place: Place, epoch: str, whose: list[str], earlier: dict[str, Mark], swept: dict[str, Swept]) -> None:
    for name in whose:
        mark, each = earlier.get(name), swept.get(name)
        if mark is not None:
            said = f"went through the quarantine {epoch} at {when(mark.at)} already; another restore has another name"
            say(f"tenant {visible(name)}: {visible(said)}")
        elif each is not None:
            say(
                f"tenant {visible(name)}: {each.runs} runs; {each.asked} calls are asked anew, {each.doubts} may have "
                f"happened and need an operator's word, {each.held} runs are held until one lets them go on"
            )
    if not whose:
        say("there are no runs")
    if any(each.runs for each in swept.values()):
        hint(f"look at them: {place.commands.line('inbox list')}")
        hint(f"              {place.commands.line('runs list', '', '--state', shell_word('blocked'))}")
