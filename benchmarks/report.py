"""One table and one JSON document of everything that was measured."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import Samples, Spread, cpu, seconds, waited_for_cores

PACKAGES = (
    "governor-agents",
    "governor",
    "agent-os-kernel",
    "openai-agents",
    "langchain",
    "langgraph",
    "langgraph-checkpoint-sqlite",
    "pydantic",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a figure with its spread, and where there is a target, whether it holds."""

    part: str
    what: str
    unit: str
    value: float
    low: float | None = None
    high: float | None = None
    target: str = ""
    holds: bool | None = None
    note: str = ""


@dataclass(slots=True)
class Report:
    """What was measured so far."""

    rows: list[Row] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)
    waited: float = field(default_factory=waited_for_cores)

    def time(self, part: str, what: str, spread: Spread, unit: str = "ms", note: str = "") -> None:
        """A time, given in seconds."""
        scale = {"us": 1e6, "ms": 1e3, "s": 1.0}[unit]
        self.rows.append(Row(part, what, unit, *(figure * scale for figure in spread), note=note))

    def party(self, part: str, name: str, samples: Samples) -> None:
        """A party's time by the clock, and what of it was work of a core."""
        self.time(part, name, Spread.of(seconds(samples, name)), note=f"{cpu(samples, name) * 1e3:.2g} ms of a core")

    def ratio(self, part: str, what: str, spread: Spread, most: float | None = None, note: str = "") -> None:
        """A ratio, with the most it should be."""
        target, holds = (f"<= {most:g}", spread.median <= most) if most is not None else ("", None)
        self.rows.append(Row(part, what, "x", *spread, target=target, holds=holds, note=note))

    def count(
        self, part: str, what: str, value: float, unit: str = "", exactly: int | None = None, note: str = ""
    ) -> None:
        """A number that was counted, with what it should be."""
        target, holds = (f"= {exactly}", value == exactly) if exactly is not None else ("", None)
        self.rows.append(Row(part, what, unit, value, target=target, holds=holds, note=note))

    def limit(self, part: str, what: str, value: float, unit: str, most: float, note: str = "") -> None:
        """A figure without spread, with the most it should be."""
        self.rows.append(Row(part, what, unit, value, target=f"<= {most:g} {unit}", holds=value <= most, note=note))

    def busy(self) -> float:
        """The share of the time in which something on this machine waited for a core."""
        return (waited_for_cores() - self.waited) / max(time.monotonic() - self.begun, 1e-9)

    def machine(self) -> dict[str, Any]:
        """What these figures were measured on, without a name of it."""
        return {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "python": platform.python_version(),
            "system": platform.system(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "sqlite": sqlite3.sqlite_version,
            "cores_short": round(self.busy(), 3),
            "packages": {name: found for name in PACKAGES if (found := _version(name))},
        }

    def to_json(self) -> str:
        """The whole report."""
        rows = [asdict(row) for row in self.rows]
        return json.dumps({"machine": self.machine(), "rows": rows, "details": self.details}, indent=2) + "\n"

    def write(self, path: Path) -> None:
        """The whole report into a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json(), encoding="utf-8")

    def show(self, console: Console) -> None:
        """The table for people."""
        about = self.machine()
        table = Table(
            title=f"Python {about['python']}, SQLite {about['sqlite']}, {about['cores']} cores, "
            f"of which there were too few {about['cores_short']:.0%} of the time",
            caption="Medians of interleaved rounds, quartiles beside them; ratios are taken within each round.",
        )
        for name in ("", "what", "median", "quartiles", "target", "holds"):
            table.add_column(name, justify="right" if name in ("median", "quartiles") else "left", overflow="fold")
        last = ""
        for row in self.rows:
            if last and row.part != last:
                table.add_section()
            spread = "" if row.low is None or row.high is None else f"{_short(row.low)} .. {_short(row.high)}"
            holds = "" if row.holds is None else "yes" if row.holds else "NO"
            what = f"{row.what} ({row.note})" if row.note else row.what
            shown = "" if row.part == last else row.part
            table.add_row(shown, what, f"{_short(row.value)} {row.unit}".strip(), spread, row.target, holds)
            last = row.part
        console.print(table)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _short(figure: float) -> str:
    if figure == int(figure):
        return f"{int(figure):,}"
    return f"{figure:.0f}" if abs(figure) >= 1000 else f"{figure:.3g}"
