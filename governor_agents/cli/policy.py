"""``policy``: put a policy file in force for every process on the store, see what is in force and what was."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from governor_agents.cli.opening import AsJson, Place, StoreUrl, Tenant
from governor_agents.cli.printing import hint, note, print_json, print_table, say
from governor_agents.errors import NotFound
from governor_agents.handlers.message import visible, when
from governor_agents.handlers.terminal import local_person

if TYPE_CHECKING:
    from governor_agents.governor import Governor
    from governor_agents.publishing import Publication, Publications
    from governor_agents.publishing.cache import PolicyCache

T = TypeVar("T")
Told = tuple["Publication", bool | None]
"""A publication, and whether a cache was told of it: None without a cache."""

app: typer.Typer = typer.Typer(help="The policies that the store has published.", no_args_is_help=True)

Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why; kept in the history and the audit trail.")]
Expect = Annotated[
    int | None,
    typer.Option("--expect", metavar="VERSION", min=0, help="Publish only if this is the version in force (0: none)."),
]
Cache = Annotated[
    str | None,
    typer.Option("--cache", metavar="URL", help="The policy cache to tell: default $GOVERNOR_POLICY_CACHE, else none."),
]


@app.command()
def publish(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The policy file.")],
    note: Note = "",
    expect: Expect = None,
    cache: Cache = None,
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """Put a policy file in force: at once where the cache tells it, with the next look elsewhere, at every dispatch.

    A file with a mistake is refused, and what was in force stays.
    """
    from governor_agents.policies.file import load

    text = load(file, Path(file).name)

    async def work(publications: Publications, policies: PolicyCache | None) -> Told:
        made = await publications.publish(text.text, by=local_person(), note=note, name=text.path, expect=expect)
        return made, await _tell(made, text.text, policies)

    _say(*_run(Place.of(ctx, store, tenant), work, cache, new=True), as_json)


@app.command()
def rollback(
    ctx: typer.Context,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="The version whose text is to be in force again.")],
    note: Note = "",
    expect: Expect = None,
    cache: Cache = None,
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """Publish an earlier version again, as a new one."""

    async def work(publications: Publications, policies: PolicyCache | None) -> Told:
        text = await publications.text(await publications.find(version))
        why, name = note or f"version {version} again", f"version {version}"
        made = await publications.publish(text, by=local_person(), note=why, name=name, expect=expect)
        return made, await _tell(made, text, policies)

    _say(*_run(Place.of(ctx, store, tenant), work, cache), as_json)


@app.command()
def show(
    ctx: typer.Context,
    version: Annotated[int | None, typer.Option("--version", metavar="N", help="An earlier version.")] = None,
    as_json: AsJson = False,
    store: StoreUrl = None,
    tenant: Tenant = None,
) -> None:
    """Print the policies in force, as they were published; who did it, and when, goes to stderr."""

    async def work(publications: Publications, policies: PolicyCache | None) -> tuple[Publication, str]:
        found = await publications.current() if version is None else await publications.find(version)
        if found is None:
            raise NotFound("nothing is published in this store; governor-agents policy publish FILE")
        return found, await publications.text(found)

    found, text = _run(Place.of(ctx, store, tenant), work)
    if as_json:
        print_json(asdict(found) | {"text": text})
        return
    hint(f"# {_line(found)}")
    if sys.stdout.isatty():
        for line in text.splitlines():
            say(visible(line))
    else:  # a file that is published again must be the same
        sys.stdout.write(text)


@app.command()
def history(ctx: typer.Context, as_json: AsJson = False, store: StoreUrl = None, tenant: Tenant = None) -> None:
    """List every publication, the oldest first."""

    async def work(publications: Publications, policies: PolicyCache | None) -> list[Publication]:
        return await publications.history()

    found = _run(Place.of(ctx, store, tenant), work)
    if as_json:
        print_json([asdict(each) for each in found])
    elif found:
        heads = ("VERSION", "AT", "BY", "POLICY VERSION", "NOTE")
        print_table(
            heads, [(str(p.version), when(p.at), visible(p.by), p.policy_version, visible(p.note)) for p in found]
        )
    else:
        hint("nothing is published in this store")


def _run(
    place: Place,
    work: Callable[[Publications, PolicyCache | None], Awaitable[T]],
    cache: str | None = "",
    *,
    new: bool = False,
) -> T:
    """Do something with the publications of a place, and with the policy cache that is meant."""
    from governor_agents.publishing import Publications
    from governor_agents.publishing.cache import PolicyCache, cache_url

    url = cache_url(cache)

    async def whole(governor: Governor) -> T:
        policies = PolicyCache(url, governor.tenant, governor.keys) if url else None

        async def inside() -> T:
            try:
                return await work(Publications(governor.runs, governor.identities.directory), policies)
            finally:
                if policies is not None:
                    await policies.close()

        await governor.open()
        return await governor.loop.bridge(inside())

    return place.run(whole, new=new)


async def _tell(made: Publication, text: str, policies: PolicyCache | None) -> bool | None:
    if policies is None:
        return None
    await policies.put(made.sha256, text)
    return await policies.announce(made.version)


def _say(made: Publication, told: bool | None, as_json: bool) -> None:
    if told is False:
        note("published, but the policy cache was not told: processes see it with their next look at the store")
    if as_json:
        print_json(asdict(made) | {"announced": told})
        return
    say(_line(made))


def _line(found: Publication) -> str:
    why = f": {visible(found.note)}" if found.note else ""
    what = f"version {found.version} (policy version {found.policy_version}, {found.size} bytes)"
    return f"{what} is in force since {when(found.at)}, by {visible(found.by)}{why}"
