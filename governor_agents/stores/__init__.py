"""Stores, opened by URL: ``sqlite:///governor.db``, ``memory://``, and whatever plug-ins add.

A plug-in registers its class under the entry point group ``governor_agents.stores``; the name is the URL's scheme, the
class is called with the URL and the options. The names of this package are looked up in its own table first: it works
without being installed, and no other distribution can slip itself in as the keeper of your approvals.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from governor_agents.core.ports import Store
from governor_agents.errors import ConfigError, MissingExtra

__all__ = ["default_url", "nothing_there", "open_store"]

GROUP = "governor_agents.stores"
MONGODB = "governor_agents.stores.mongodb:MongoDBStore"
REDIS = "governor_agents.stores.redis:RedisStore"
BUILT_IN = {
    "memory": "governor_agents.stores.memory:MemoryStore",
    "mongodb": MONGODB,
    "mongodb+srv": MONGODB,
    "redis": REDIS,
    "redis+cluster": REDIS,
    "redis+sentinel": REDIS,
    "rediss": REDIS,
    "rediss+cluster": REDIS,
    "rediss+sentinel": REDIS,
    "sqlite": "governor_agents.stores.sqlite:SQLiteStore",
    "unix": REDIS,
}
EXTRAS = {"mongodb+srv": "mongodb"} | {scheme: "redis" for scheme, driver in BUILT_IN.items() if driver == REDIS}
"""The extra that brings a scheme's library, where it is not called as the scheme is."""


def default_url() -> str:
    """``$GOVERNOR_STORE``, else ``sqlite:///governor.db``."""
    return os.environ.get("GOVERNOR_STORE") or "sqlite:///governor.db"


def open_store(url: str, **options: Any) -> Store:
    """The store behind a URL, not yet opened. ``options`` go to the driver (``clock`` for the stores of one machine).

    Raises `ConfigError` for a URL that no driver knows, `MissingExtra` when the driver's library is not installed.
    """
    store: Store = _driver(url)(url, **options)
    return store


def nothing_there(url: str) -> str:
    """Why no other process can have put anything behind this URL; empty when one can. Nothing is opened or made.

    Raises what `open_store` raises.
    """
    driver = _driver(url)
    if not getattr(driver, "shared", True):
        return f"{url.partition('://')[0]}:// lives inside one process, and this is another"
    missing = getattr(driver, "missing", None)
    return str(missing(url)) if missing is not None else ""


def _driver(url: str) -> Any:
    """The class that keeps stores of this URL's scheme."""
    scheme, separator, _ = url.partition("://")
    if not separator or not scheme:
        # The URL itself may hold a password, so only what stands before it is ever shown.
        shown = f"{url.partition('@')[0].partition(':')[0]!r} has no scheme; "
        raise ConfigError(f"{shown}a store URL looks like sqlite:///governor.db; known schemes: {', '.join(_known())}")
    return _load(scheme, BUILT_IN.get(scheme) or _plugged_in(scheme))


def _known() -> list[str]:
    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))})


def _plugged_in(scheme: str) -> EntryPoint:
    for entry in entry_points(group=GROUP):
        if entry.name == scheme:
            return entry
    raise ConfigError(f"no store is called {scheme}://; known schemes: {', '.join(_known())}")


def _load(scheme: str, target: str | EntryPoint) -> Any:
    try:
        if isinstance(target, EntryPoint):
            return target.load()
        module, _, name = target.partition(":")
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        missing = error.name or "a library"
        if missing.partition(".")[0] == "governor_agents":
            raise
        raise MissingExtra(
            f"{scheme}:// stores need {missing}, which is not installed: "
            f"pip install 'governor-agents[{EXTRAS.get(scheme, scheme)}]'"
        ) from error
