"""Which rows of the lifecycle tables a walk used: every step of the transition functions passes `next_call` or `next_run`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from governor_agents.core import decisions, doubts, driving, execution, halting, lifecycle, quarantine, settling
from governor_agents.core.lifecycle import CALLS, RUNS

P, T = ParamSpec("P"), TypeVar("T")
Row = tuple[str, str, str]
MODULES = (decisions, doubts, driving, execution, halting, quarantine, settling)
ALL: frozenset[Row] = frozenset(
    (str(state or "new"), str(event), str(to))
    for table in (CALLS, RUNS)
    for (state, event), targets in table.items()
    for to in targets
)
ENDS_WITH_IT = "a function's run ends in the write that ends its call, so it is found ended and never at rest"
NOBODY_ASKED = (
    "a run is worn out when a worker claims it, and then nobody is asked; a repair has an answer all the same"
)
EXPLAINED: dict[Row, str] = {
    ("active", "lease_over", "completed"): ENDS_WITH_IT,
    ("active", "pause", "completed"): ENDS_WITH_IT,
    (
        "ready",
        "decided",
        "completed",
    ): "a function's call that is decided can only come too late while its run is ready",
    (
        "queued",
        "decided",
        "blocked",
    ): "a replacement that expires beside a probe, both in a first stretch: too many states to walk; a test goes there",
    ("blocked", "cancel", "blocked"): "a run that is blocked already stays so without a step",
    ("blocked", "restored", "blocked"): "a run that is blocked already stays so without a step",
    ("dead", "unblock", "waiting"): NOBODY_ASKED,
    ("dead", "unblock", "failed"): NOBODY_ASKED,
    ("dead", "unblock", "completed"): NOBODY_ASKED,
}
"""Rows that no walk reaches, and why they stand there."""
_heard: list[Row] = []


class Rows:
    """The rows used by writes that stand."""

    def __init__(self) -> None:
        self.kept: set[Row] = set()

    def during(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do a step and listen."""
        _heard.clear()
        return step(*args, **kwargs)

    def keep(self) -> None:
        """The step that was heard last was written."""
        self.kept.update(_heard)


@contextmanager
def listening() -> Iterator[None]:
    """Hear every row that is used meanwhile."""
    real = {name: getattr(lifecycle, name) for name in ("next_call", "next_run")}

    def heard(name: str) -> Callable[..., Any]:
        def step(state: Any, event: Any, to: Any) -> Any:
            result = real[name](state, event, to)
            _heard.append((str(state or "new"), str(event), str(to)))
            return result

        return step

    set_all({name: heard(name) for name in real})
    try:
        yield
    finally:
        set_all(real)


def set_all(named: dict[str, Any]) -> None:
    """Put these functions under their names in every module that uses them."""
    for module in MODULES:
        for name, function in named.items():
            if hasattr(module, name):
                setattr(module, name, function)
