"""The stores that the suites run on: name to a function that makes a fresh store's URL in a folder.

A new store joins every suite (crash, storm, model, faults) by one line here. ``GOVERNOR_TEST_STORES`` narrows the list
(``GOVERNOR_TEST_STORES=sqlite,redis``).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path


def _sqlite(folder: Path) -> str:
    return f"sqlite:///{folder}/{uuid.uuid4().hex}.db"


KNOWN: dict[str, Callable[[Path], str]] = {"sqlite": _sqlite}


def chosen(names: str = "") -> dict[str, Callable[[Path], str]]:
    """These stores, by names with commas between; all when there is none. Raises `ValueError` for an unknown one."""
    wanted: Sequence[str] = [name.strip() for name in names.split(",") if name.strip()] or list(KNOWN)
    for name in wanted:
        if name not in KNOWN:
            raise ValueError(f"no store for tests is called {name!r}; known: {', '.join(KNOWN)}")
    return {name: KNOWN[name] for name in wanted}


STORES: dict[str, Callable[[Path], str]] = chosen(os.environ.get("GOVERNOR_TEST_STORES", ""))


def clocked(url: str) -> bool:
    """True for stores that take ``clock=``: their time can be moved instead of waited for."""
    return url.partition("://")[0] in ("memory", "sqlite") and not os.environ.get("GOVERNOR_TEST_REAL_TIME")
