"""``store``: is a store safe, what does it hold, and bring it up to date."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from governor_agents.cli.opening import AsJson, Place, StoreUrl, Tenant
from governor_agents.cli.printing import counting, hint, note, print_facts, print_json, print_table, say
from governor_agents.core.urls import shown
from governor_agents.errors import ConfigError, UnsafeStore
from governor_agents.handlers.message import visible, when

if TYPE_CHECKING:
    from governor_agents.backup.figures import Figures, Waiting
    from governor_agents.core.ports import Store

T = TypeVar("T")

app: typer.Typer = typer.Typer(
    help="The store itself: safe settings, figures, copies, files, and what comes after a restore.",
    no_args_is_help=True,
)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """The store behind a URL as it is stored, open meanwhile: nothing is unsealed or unpacked.

    Raises `StoreError` and its children, `ConfigError` for one that lives inside this process.
    """
    from governor_agents.stores import open_store

    store = open_store(url)
    if not store.shared:
        raise ConfigError(f"{shown(url)} lives inside one process, and this is another; name another store")
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def with_store(url: str, work: Callable[[Store], Awaitable[T]]) -> T:
    """Do something with a store as it is stored."""

    async def whole() -> T:
        async with opened(url) as store:
            return await work(store)

    return asyncio.run(whole())


@app.command()
def check(ctx: typer.Context, as_json: AsJson = False, store: StoreUrl = None) -> int:
    """Look for settings that could lose a decision that was answered. Exit code 1 when there are any."""
    place = Place.of(ctx, store, None)
    place.check()
    try:
        lines = with_store(place.url, lambda found: found.check())
    except UnsafeStore as error:  # it does not open for that very reason
        lines = [str(error)]
    if as_json:
        print_json({"store": shown(place.url), "safe": not lines, "findings": lines})
    for line in () if as_json else lines:
        say(visible(line))
    if not lines and not as_json:
        say(f"{visible(shown(place.url))} is safe: what it answers, it keeps")
    return 1 if lines else 0


@app.command()
def migrate(ctx: typer.Context, store: StoreUrl = None) -> None:
    """Make the store, or bring its schema up to date. (Every program that opens a store does that as well.)"""
    from governor_agents.stores import nothing_there

    url = Place.of(ctx, store, None).url
    fresh = bool(nothing_there(url))

    async def work(found: Store) -> int | None:
        return getattr(found, "schema", None)

    schema = with_store(url, work)
    number = "its schema is up to date" if schema is None else f"its schema is version {schema}"
    say(f"{visible(shown(url))}: {number}{', made now' if fresh else ''}")


@app.command()
def stats(ctx: typer.Context, as_json: AsJson = False, store: StoreUrl = None, tenant: Tenant = None) -> int:
    """What the store holds, by tenant and kind: records, bytes as they are stored, runs by state, what waits.

    Reads all of it. What waits for people is counted where the records can be read (GOVERNOR_KEYS).
    """
    from governor_agents.backup.figures import measure

    place = Place.of(ctx, store, tenant)
    place.check()
    with counting() as stage:
        found = with_store(place.url, lambda raw: measure(raw, stage("records read")))
    if tenant is not None:
        found = [figures for figures in found if figures.tenant == place.tenant]
    asked, why = _waiting(place, sorted({figures.tenant for figures in found if figures.kind == "run"}))
    if as_json:
        print_json([_document(figures, asked) for figures in found])
    elif found:
        _print(found, asked)
    else:
        hint("the store is empty" if tenant is None else f"there is nothing of tenant {visible(place.tenant)}")
    if why:
        note(f"approvals that wait were not counted: {visible(why)}")
    return 0


def _waiting(place: Place, tenants: Iterable[str]) -> tuple[dict[str, Waiting], str]:
    """What waits for people, by tenant; and why that cannot be told, else empty."""
    from governor_agents.backup.figures import waiting

    found: dict[str, Waiting] = {}
    for tenant in tenants:

        async def work(governor: Any, tenant: str = tenant) -> Waiting:
            await governor.open()
            counted: Waiting = await governor.loop.bridge(waiting(governor.store, tenant))
            return counted

        try:
            found[tenant] = Place(place.named, tenant).run(work)
        except ConfigError as error:  # sealed, and no keys are set
            return found, str(error)
    return found, ""


def _document(figures: Figures, asked: dict[str, Waiting]) -> dict[str, Any]:
    document = figures.document()
    if figures.kind == "run":
        found = asked.get(figures.tenant)
        document["approvals_waiting"] = found.approvals if found else None
        document["oldest_waiting"] = found.oldest if found else None
        document["unreadable"] = found.unreadable if found else None
    return document


def _print(found: list[Figures], asked: dict[str, Waiting]) -> None:
    heads = ("TENANT", "KIND", "RECORDS", "DUE", "BODIES", "EVENTS", "BLOBS")
    rows = [
        (
            visible(each.tenant),
            each.kind,
            str(each.records),
            str(each.due),
            in_bytes(each.bodies),
            f"{each.events} ({in_bytes(each.event_bytes)})",
            f"{each.blobs} ({in_bytes(each.blob_bytes)})",
        )
        for each in found
    ]
    print_table(heads, rows)
    for each in found:
        if each.kind == "run":
            say()
            say(f"runs of tenant {visible(each.tenant)}", "bold")
            print_facts(_facts(each, asked.get(each.tenant)))


def _facts(figures: Figures, asked: Waiting | None) -> Iterable[tuple[str, str]]:
    states = Counter(figures.states)
    yield "states", ", ".join(f"{count} {visible(state)}" for state, count in states.most_common())
    if asked is not None:
        since = "" if asked.oldest is None else f", the oldest since {when(asked.oldest)}"
        unread = f"; {asked.unreadable} runs cannot be read" if asked.unreadable else ""
        yield "waiting", f"{asked.approvals} approvals of {figures.waiting} runs{since}{unread}"
    else:
        yield "waiting", f"approvals of {figures.waiting} runs"
    yield "due", f"{figures.due} runs wait for a worker to look at them"
    for size, id in sorted(figures.largest, reverse=True):
        yield "large", f"{visible(id)} {in_bytes(size)}"


def in_bytes(size: int) -> str:
    """A size for people."""
    if size < 1000:
        return f"{size} B"
    amount = size / 1000
    for unit in ("kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.1f} {unit}"
