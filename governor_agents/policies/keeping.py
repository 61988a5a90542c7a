"""What is said of how much is kept, and for how long: the sections ``limits`` and ``retention`` of a file.

.. code-block:: yaml

    limits: {snapshot: 8MB, asks: 30}
    retention: {completed: 30d, failed: 90d, cancelled: 30d}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from governor_agents.core.records import RunState
from governor_agents.errors import ConfigError
from governor_agents.policies.values import seconds, size, suggestion

OUTCOMES = tuple(state.value for state in RunState if state.ended)
"""How a run may end: what retention is said of."""

NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Keeping:
    """``snapshot``: the most bytes of a snapshot, None when nothing is said.

    ``asks``: how many requests one person is asked for within ten minutes; more of them are held. None when nothing is
    said. ``retention``: by outcome, for how many seconds an ended run is kept; without an entry it is kept for ever.
    """

    snapshot: int | None = None
    retention: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    asks: int | None = None


def retention(given: Mapping[str, Any]) -> dict[str, float]:
    """Durations by outcome, as a user wrote them in Python. Raises `ConfigError`."""
    for outcome in given:
        if outcome not in OUTCOMES:
            raise ConfigError(f"retention: {outcome!r} is no outcome of a run{suggestion(str(outcome), OUTCOMES)}")
    return {outcome: seconds(value) for outcome, value in given.items()}


def snapshot_limit(given: int | str | None) -> int | None:
    """A limit as a user wrote it in Python. Raises `ConfigError`."""
    return None if given is None else size(given)


def together(said: Iterable[tuple[str, Keeping]]) -> Keeping:
    """What several files say, each with its name. Raises `ConfigError` where they contradict one another."""
    found: dict[str, tuple[str, Any]] = {}
    for source, keeping in said:
        items: dict[str, Any] = {f"retention.{outcome}": value for outcome, value in keeping.retention.items()}
        limits = {"limits.snapshot": keeping.snapshot, "limits.asks": keeping.asks}
        items |= {name: value for name, value in limits.items() if value is not None}
        for name, value in items.items():
            first, known = found.setdefault(name, (source, value))
            if known != value:
                raise ConfigError(f"{name} is {known:.12g} in {first} and {value:.12g} in {source}; say it once")
    spans = {outcome: found[f"retention.{outcome}"][1] for outcome in OUTCOMES if f"retention.{outcome}" in found}
    snapshot, asks = (found[name][1] if name in found else None for name in ("limits.snapshot", "limits.asks"))
    return Keeping(snapshot, MappingProxyType(spans), asks)
