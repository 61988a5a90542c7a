"""What a thread is stored as: checkpoints and writes, in the bodies of records."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from governor_agents.adapters.langchain.values import parse, text
from governor_agents.claims import Claim
from governor_agents.core.calls import Json, freeze, sha256
from governor_agents.core.ports import Record
from governor_agents.errors import SnapshotError, StoreTooNew

SCHEMA = 1


class Place(NamedTuple):
    """A thread and a checkpoint namespace in it (empty for the root graph)."""

    thread: str
    ns: str

    @property
    def prefix(self) -> str:
        """What the ids of its records begin with."""
        return sha256(freeze([self.thread, self.ns]))[:32]

    @property
    def around(self) -> list[Place]:
        """The places of the graphs around this one, the outermost first."""
        parts = self.ns.split("|") if self.ns else []
        return [Place(self.thread, "|".join(parts[:depth])) for depth in range(len(parts))]


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint to be stored; ``checkpoint`` and ``metadata`` are JSON text of `Values`."""

    id: str
    parent: str
    checkpoint: str
    metadata: str
    initial: bool = False

    def to_json(self) -> str:
        """Its JSON text."""
        named = text({"id": self.id, "parent": self.parent})[:-1]
        return f'{named},"checkpoint":{self.checkpoint},"metadata":{self.metadata}}}'


@dataclass(frozen=True, slots=True)
class Written:
    """What a task wrote on a checkpoint: (index, channel, JSON text of `Values`) each."""

    of: str
    task: str
    path: str
    items: tuple[tuple[int, str, str], ...]

    def to_json(self) -> str:
        """Its JSON text."""
        items = ",".join(f"[{at},{text(channel)},{value}]" for at, channel, value in self.items)
        named = text({"of": self.of, "task": self.task, "path": self.path})[:-1]
        return f'{named},"items":[{items}]}}'


@dataclass(frozen=True, slots=True)
class Found:
    """A stored checkpoint as plain data, and the writes on it by task and index."""

    place: Place
    id: str
    parent: str
    checkpoint: Json
    metadata: Json
    writes: dict[tuple[str, int], tuple[str, str, Json]] = field(default_factory=dict)
    """(task, index) -> (path, channel, value)."""


class Entry(NamedTuple):
    """Something to be stored, and under whose claim: a driver's, or (``own``) that of the loop on the thread."""

    what: Saved | Written
    claim: Claim | None = None
    own: bool = False


def body_of(place: Place, checkpoints: Collection[str], writes: Collection[str]) -> bytes:
    """A record's body, of JSON texts."""
    where = text({"v": SCHEMA, "thread": place.thread, "ns": place.ns})[:-1]
    whole = f'{where},"checkpoints":[{",".join(checkpoints)}],"writes":[{",".join(writes)}]}}'
    return whole.encode("utf-8", "surrogatepass")


def parsed(record: Record) -> Any:
    """A record's body as plain data. Raises `SnapshotError`, `StoreTooNew`."""
    body = parse(record.body)
    version = body.get("v") if isinstance(body, dict) else None
    if type(version) is int and version > SCHEMA:
        raise StoreTooNew(f"a stored thread has schema {version}, this version reads up to {SCHEMA}; upgrade")
    if version != SCHEMA or not _is_thread(body):
        raise SnapshotError("a stored thread is not readable: it has not the shape of one")
    return body


def _is_thread(body: dict[str, Any]) -> bool:
    checkpoints, writes = body.get("checkpoints"), body.get("writes")
    return (
        _texts(body, "thread", "ns")
        and isinstance(checkpoints, list)
        and isinstance(writes, list)
        and all(_texts(each, "id", "parent") and {"checkpoint", "metadata"} <= each.keys() for each in checkpoints)
        and all(_texts(each, "of", "task", "path") and _is_items(each.get("items")) for each in writes)
    )


def _texts(found: Json, *fields: str) -> bool:
    return isinstance(found, dict) and all(isinstance(found.get(field), str) for field in fields)


def _is_items(items: Json) -> bool:
    """Writes are triples of index, channel and value."""
    return isinstance(items, list) and all(
        isinstance(item, list) and len(item) == 3 and type(item[0]) is int and isinstance(item[1], str)
        for item in items
    )


def lay(found: Found, written: Json) -> None:
    """Lay writes over those there are: an ordinary one stays as it was first written, a special one is replaced."""
    for at, channel, value in written["items"]:
        key = (written["task"], at)
        if at < 0 or key not in found.writes:
            found.writes[key] = (written["path"], channel, value)
