"""The only witness of what happened outside: one file per case, a line for each thing, fsynced, beside the store.

The store under test is never its own witness: that a tool ran, that somebody was asked, what the model heard, and how a
dead process left the record, all stand here and nowhere else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from governor_agents.core.calls import freeze, sha256


@dataclass(frozen=True)
class Effect:
    """A tool ran: for which order of the scene, under which idempotency key, with which arguments."""

    order: str
    key: str
    sha256: str
    args: dict[str, Any]


class Ledger:
    """Appends lines and reads them again; any number of processes may write, each line is one write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, kind: str, **what: Any) -> None:
        """One line, on disk when this returns."""
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, json.dumps({"kind": kind, **what}).encode() + b"\n")
            os.fsync(file)
        finally:
            os.close(file)

    def effect(self, key: str, args: dict[str, Any]) -> None:
        """A tool ran, now."""
        self.note("effect", order=args["order"], key=key, sha256=sha256(freeze(args)), args=args)

    def lines(self) -> list[dict[str, Any]]:
        """Everything, in the order in which it was written."""
        text = self.path.read_bytes() if self.path.exists() else b""
        return [json.loads(line) for line in text.splitlines()]

    def read(self, kind: str) -> list[dict[str, Any]]:
        """All lines of one kind."""
        return only(self.lines(), kind)

    def effects(self) -> list[Effect]:
        """Everything that ran."""
        return [Effect(**line) for line in self.read("effect")]


def only(lines: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The lines of one kind, without saying so on each."""
    return [{key: value for key, value in line.items() if key != "kind"} for line in lines if line["kind"] == kind]
