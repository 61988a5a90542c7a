"""``store copy``, ``export`` and ``import``: a whole store, moved or in a file."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from governor_agents.cli.opening import AsJson, Place, StoreUrl
from governor_agents.cli.printing import counting, hint, note, print_json, say
from governor_agents.cli.store import opened, with_store
from governor_agents.core.halting import EVERYTHING
from governor_agents.core.urls import shown
from governor_agents.errors import ConfigError
from governor_agents.handlers.message import visible
from governor_agents.handlers.terminal import local_person
from governor_agents.handlers.words import Commands

if TYPE_CHECKING:
    from governor_agents.backup.moving import Brought, Stage
    from governor_agents.core.ports import Store
    from governor_agents.governor import Governor

MOVED = "store copy"
"""The reason of the halt that a copy sets."""


def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The URL of the store to copy.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="The URL of the new one: empty, or a part of this copy.")],
    halted: Annotated[
        bool,
        typer.Option("--halted", help="FROM is halted already, or cannot be halted from here (it is sealed)."),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Move everything to another store while nothing runs; compare both sides; say what is left to do.

    FROM is halted first and stays so, that nothing begins on both. Stop all workers and servers before; what they
    write meanwhile is found. May be stopped, and is then simply said again. Exit code 1 when something runs, when TO
    holds anything else, or when the two differ.
    """
    place = Place(source, "default")
    if source == target:
        raise typer.BadParameter("FROM and TO are the same store")
    place.check()
    if found := _runs(source):
        return _refused(found, as_json)
    ours = False
    if not halted:
        ours = _halted(place)
        if found := _runs(source):  # a claim that came just before
            return _refused([*found, f"{shown(source)} is halted: {_lift(source)} lets it go again"], as_json)
    with counting() as stage:
        made = asyncio.run(_copied(source, target, stage))
    code = _told(made, shown(source), shown(target), as_json)
    if code == 0:
        _next_steps(source, target, ours)
    return code


async def _copied(source: str, target: str, stage: Stage) -> Brought:
    from governor_agents.backup.entries import entries
    from governor_agents.backup.moving import bring

    async with opened(source) as here, opened(target) as there:
        return await bring(lambda: entries(here), there, stage)


def _runs(url: str) -> list[str]:
    from governor_agents.backup.running import running

    return with_store(url, running)


def _halted(place: Place) -> bool:
    """Halt everything in a store; True when the halt that stands there is a copy's own."""

    async def work(governor: Governor) -> bool:
        made = await governor.halt(EVERYTHING, by=local_person(), reason=MOVED)
        return made.reason == MOVED

    try:
        return place.run(work)
    except ConfigError as error:
        raise ConfigError(
            f"{error}. FROM could not be halted; halt it yourself (governor-agents halt everything) and say --halted"
        ) from None


def _next_steps(source: str, target: str, ours: bool) -> None:
    if ours:
        try:
            Place(target, "default").run(lambda governor: governor.lift(EVERYTHING, by=local_person(), reason=MOVED))
        except ConfigError as error:
            note(visible(str(error)))
            ours = False
    hint(f"{visible(shown(source))} is halted and stays so; nothing begins there any more")
    if not ours:
        hint(f"so is the copy, if the halt was in it: {visible(_lift(target))}")
    hint("now start all workers and servers on the new store (GOVERNOR_STORE), and none on the old one")


def _lift(url: str) -> str:
    return Commands(shown(url)).halting(EVERYTHING)


def _refused(lines: list[str], as_json: bool) -> int:
    if as_json:
        print_json({"copied": False, "findings": lines})
    for line in () if as_json else lines:
        say(visible(line))
    return 1


def _told(made: Brought, here: str, there: str, as_json: bool) -> int:
    """Print what came of it; the exit code."""
    wrong = f"{there}: {made.refused}; nothing was written, name an empty store" if made.refused else ""
    wrong = wrong or (f"{there} and {here} are not the same: {made.differs}" if made.differs else "")
    if as_json:
        counts = made.here.document() if not wrong else {}
        print_json({"copied": not wrong, "findings": [wrong] if wrong else [], "written": made.written, **counts})
    elif wrong:
        say(visible(wrong))
    else:
        counted = f"{made.here.records} records, {made.here.events} events, {made.here.blobs} blobs"
        earlier = made.here.records - made.written
        say(f"{visible(there)} holds {counted}" + (f"; {earlier} records were there already" if earlier else ""))
        say(f"both sides read again and compared: sha256 {made.here.sha256}")
    return 1 if wrong else 0


def export(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A new file, packed when it ends in .gz; - is stdout.")],
    store: StoreUrl = None,
) -> None:
    """Write the whole store to a file of one line-based format, with counts and a digest at its end.

    Each record is written as it stands at one moment. What is sealed stays sealed; what is not can be read in the file.
    """
    from governor_agents.backup.entries import steady_entries
    from governor_agents.backup.files import new_file, write
    from governor_agents.backup.lines import Tally

    place = Place.of(ctx, store, None)
    place.check()
    with ExitStack() as open_things:
        out = open_things.enter_context(new_file(file))
        seen = open_things.enter_context(counting())("records written")

        async def work(found: Store) -> Tally:
            return await write(steady_entries(found), out, await found.now(), seen)

        tally = with_store(place.url, work)
    hint(f"{tally.records} records, {tally.events} events, {tally.blobs} blobs written to {visible(file)}")
    hint(f"sha256 {tally.sha256}")


def import_(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="An export; - is stdin.")],
    as_json: AsJson = False,
    store: StoreUrl = None,
) -> int:
    """Bring an export into a store that is empty, or holds a part of it. Nothing is written before all of it was read.

    May be stopped, and is then simply said again. Exit code 1 when the store holds anything else. If anything ran since
    the export was made, quarantine comes next, before any worker.
    """
    from governor_agents.backup.files import whole_file
    from governor_agents.backup.moving import bring

    place = Place.of(ctx, store, None)
    with whole_file(file) as export, counting() as stage:

        async def work(found: Store) -> Brought:
            return await bring(export.entries, found, stage)

        made = with_store(place.url, work)
    code = _told(made, visible(file), shown(place.url), as_json)
    if code == 0:
        hint("if anything ran on the original since: governor-agents store quarantine --epoch NAME, before any worker")
    return code
