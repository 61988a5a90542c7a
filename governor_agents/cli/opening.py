"""Which store and tenant a command speaks of, and the governor that opens them for the time of one command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from governor_agents.errors import ConfigError, StoreUnavailable
from governor_agents.handlers.words import Commands

if TYPE_CHECKING:
    from governor_agents.governor import Governor

T = TypeVar("T")

StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL", help="Where the runs are: default $GOVERNOR_STORE, else sqlite:///governor.db."
    ),
]


def _named(tenant: str | None) -> str | None:
    """Refuse an empty name: it would mean another tenant than the one that was meant."""
    if tenant is not None and not tenant.strip():
        raise typer.BadParameter("a tenant has a name")
    return tenant


def own_words(text: str) -> str:
    """Refuse the placeholder of a printed command that was pasted as it stands: the answer would rest on it."""
    if text.strip() == "TEXT":
        raise typer.BadParameter("TEXT stands for your own words")
    return text


Tenant = Annotated[
    str | None, typer.Option("--tenant", metavar="NAME", help="Whose runs: default 'default'.", callback=_named)
]
PeopleOption = Annotated[
    str | None,
    typer.Option("--people", metavar="FILE", help="Who people are: default $GOVERNOR_PEOPLE, else each address."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@dataclass(slots=True)
class Globals:
    """The options before the command."""

    store: str | None = None
    tenant: str | None = None
    people: str | None = None
    debug: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A store, a tenant, a people file. ``named`` is the store as the user wrote it, None when it is the default."""

    named: str | None
    tenant: str
    people: str | None = None

    @classmethod
    def of(cls, ctx: typer.Context, store: str | None, tenant: str | None, app: Governor | None = None) -> Place:
        """From the options of the command, else those before it, else the user's own governor."""
        before = ctx.find_object(Globals) or Globals()
        named, whose = store or before.store, tenant or before.tenant
        if app is not None:
            named, whose = named or app.store.url, whose or app.tenant
        return cls(named, whose or "default", before.people)

    @property
    def url(self) -> str:
        """The store's URL."""
        from governor_agents.stores import default_url

        return self.named or default_url()

    @property
    def commands(self) -> Commands:
        """How to call this command line again for the same place."""
        return Commands(self.named or "", self.tenant)

    def run(
        self, work: Callable[[Governor], Awaitable[T]], make: Callable[[], Governor] | None = None, *, new: bool = False
    ) -> T:
        """Do something with a governor and close it again. Raises whatever ``work`` raises.

        ``make`` gives the governor when it must have policies. No store is made where there is none, unless it may be
        a ``new`` one that others can open as well.
        """
        if not new:
            self.check()
        governor = make() if make is not None else self.plain()
        if not governor.store.shared:
            self.check()

        async def whole() -> T:
            try:
                return await work(governor)
            finally:
                await governor.close()

        return asyncio.run(whole())

    def plain(self) -> Governor:
        """A governor without policies: enough to look, to decide, to cancel."""
        from governor_agents.governor import Governor

        return Governor(store=self.url, tenant=self.tenant, people=self.people)

    def check(self) -> None:
        """Raise a `GovernorError` when other processes cannot have put anything into this store."""
        from governor_agents.stores import nothing_there

        if why := nothing_there(self.url):
            mend = "the program that governs your agents makes it; name another with --store URL or $GOVERNOR_STORE"
            raise StoreUnavailable(f"{why}; {mend}")


def there(path: Path) -> bool:
    """True when there is something at this path. Raises `ConfigError` when that cannot be seen."""
    try:
        return path.exists()
    except PermissionError:
        raise ConfigError(f"{path} cannot be looked at: mend the mode of its directory") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be looked at: {error.strerror}") from None
