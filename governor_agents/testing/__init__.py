"""Kits that prove a plug-in, and fakes for tests. The kits need pytest; importing this room loads nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from governor_agents.testing.clock import MovableClock
    from governor_agents.testing.handlers import Channel, HandlerConformance, Shown
    from governor_agents.testing.stores import ClockedStoreConformance, SharedStoreConformance, StoreConformance

__all__ = [
    "Channel",
    "ClockedStoreConformance",
    "HandlerConformance",
    "MovableClock",
    "SharedStoreConformance",
    "Shown",
    "StoreConformance",
]

_HOMES = {
    "Channel": "governor_agents.testing.handlers",
    "HandlerConformance": "governor_agents.testing.handlers",
    "Shown": "governor_agents.testing.handlers",
    "ClockedStoreConformance": "governor_agents.testing.stores",
    "MovableClock": "governor_agents.testing.clock",
    "SharedStoreConformance": "governor_agents.testing.stores",
    "StoreConformance": "governor_agents.testing.stores",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
