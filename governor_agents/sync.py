"""The synchronous twin of each public coroutine: the same code, driven on one background loop.

It works where a loop already runs (a notebook, a web handler), because it never uses the caller's loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from governor_agents.background import Background

P = ParamSpec("P")
T = TypeVar("T")


class HasCallerLoop(Protocol):
    """Something that keeps a background loop for its synchronous callers."""

    @property
    def caller_loop(self) -> Background:
        """The loop."""
        ...


S = TypeVar("S", bound=HasCallerLoop)


def twin(method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[S, P], T]:
    """The blocking form of a coroutine method."""

    @functools.wraps(method)
    def blocking(self: S, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.caller_loop.call(method(self, *args, **kwargs))

    blocking.__name__ = f"{method.__name__}_sync"
    blocking.__qualname__ = f"{method.__qualname__}_sync"
    blocking.__doc__ = f"Blocking twin of `{method.__name__}`: {method.__doc__}"
    return cast(Callable[Concatenate[S, P], T], blocking)
