"""How large a snapshot may be, and what of it is large. Told by place and size alone: nothing of its content is said.

A place is a way through JSON, such as ``messages[14].content``. Names on the way are shown when they are words of the
frameworks' own formats (`WORDS`) or stand where only code gives names (the channels of a graph, the parameters of a
tool); any other name may be content, and is shown as ``…``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from governor_agents.core.calls import Json
from governor_agents.errors import SnapshotTooLarge

MAX_SNAPSHOT = 64_000_000
"""The most bytes of a snapshot, where nothing else is said."""

WORDS = frozenset(
    {
        "additional_kwargs", "agent_run_state", "annotations", "args", "arguments", "artifact", "blocks",
        "content", "context", "current_step", "data", "encrypted_content", "file_data", "functions",
        "generated_items", "image_url", "input", "interruptions", "last_model_response",
        "last_processed_response", "messages", "model_responses", "new_items", "original_input", "output",
        "pending_input", "raw_item", "reasoning", "refusal", "response_metadata", "session_items", "summary",
        "text", "tool_calls", "tool_input", "tool_invocations", "trace", "url", "value"
    }
)  # fmt: skip
"""Names of the formats in which frameworks keep conversations."""

SHARE = 10
"""A part is told by itself when it is at least one in so many of the whole."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")

Bare = Callable[[Json], Json]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a snapshot: the way to it, its size in bytes, and the tool it belongs to where that is known."""

    way: str
    size: int
    tool: str = ""

    def __str__(self) -> str:
        tool = f" of tool `{self.tool}`" if self.tool else ""
        return f"{self.way or 'it'}{tool}: {size_words(self.size)}"


def size_words(size: int) -> str:
    """A number of bytes, for people."""
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size} bytes"


def size_of(text: str) -> int:
    """How many bytes a text has."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def too_large(what: str, size: int, most: int, parts: list[Part]) -> SnapshotTooLarge:
    """The error that says what was too large, what of it is large, and what can be done."""
    heavy = f"; the heaviest of it: {', '.join(map(str, parts))}" if parts else ""
    return SnapshotTooLarge(
        f"{what} has {size_words(size)}, and the limit is {size_words(most)}{heavy}. Let tools give less, or raise the "
        "limit (limits: {snapshot: ...} in the policy file, or Governor(max_snapshot=...))"
    )


def heaviest(value: Json, *, declared: int = 0, most: int = 3, bare: Bare = lambda value: value) -> list[Part]:
    """The heaviest parts, the largest first. ``declared`` levels of names are given by code.

    ``bare`` takes the wrapping off a value, where a format has one.
    """
    try:
        walk = _Walk(value, declared, bare)
        found = sorted(walk.parts(value, "", "", 0), key=lambda part: -part.size)
    except RecursionError:  # nested deeper than anything that is worth a walk
        return []
    return found[:most]


class _Walk:
    """One look at one value: what everything in it weighs, and which tool each call id belongs to."""

    def __init__(self, value: Json, declared: int, bare: Bare) -> None:
        self._declared = declared
        self._bare = bare
        self._sizes: dict[int, int] = {}
        self._tools: dict[str, str] = {}
        self._least = max(1, self._weigh(value) // SHARE)

    def _weigh(self, value: Json) -> int:
        """About as many bytes as its JSON has."""
        if isinstance(value, str):
            return size_of(value) + 2
        if isinstance(value, dict):
            self._note(value)
            size = 2 + sum(len(key) + 4 + self._weigh(item) for key, item in value.items())
        elif isinstance(value, list):
            size = 2 + sum(1 + self._weigh(item) for item in value)
        else:
            return 8
        self._sizes[id(value)] = size
        return size

    def _size(self, value: Json) -> int:
        return self._sizes.get(id(value)) or self._weigh(value)

    def _note(self, value: dict[str, Json]) -> None:
        id, name = value.get("call_id"), value.get("name")
        if isinstance(id, str) and isinstance(name, str):
            self._tools[id] = name

    def _tool(self, value: dict[str, Json], outer: str) -> str:
        """The tool that made, or was called by, this item; a name that no tool could have is content."""
        raw = value.get("raw_item")
        id = (raw if isinstance(raw, dict) else value).get("call_id")
        name = self._tools.get(id) if isinstance(id, str) else None
        name = value.get("name") if name is None and "tool_call_id" in value else name
        return name if isinstance(name, str) and _NAME.fullmatch(name) else outer

    def parts(self, value: Json, way: str, tool: str, depth: int) -> Iterator[Part]:
        """The parts that weigh at least a share of the whole and hold no such part themselves."""
        size, inner = self._size(value), self._bare(value)
        if isinstance(inner, dict):
            tool = self._tool(inner, tool)
        heavy = [part for part in self._inside(inner, way, depth) if self._size(part[1]) >= self._least]
        if not heavy:
            yield Part(f"{way} ({len(inner)} items)" if isinstance(inner, list) else way, size, tool)
        for where, item in heavy:
            yield from self.parts(item, where, tool, depth + 1)

    def _inside(self, value: Json, way: str, depth: int) -> Iterator[tuple[str, Json]]:
        if isinstance(value, list):
            yield from ((f"{way}[{at}]", item) for at, item in enumerate(value))
        elif isinstance(value, dict):
            for key, item in value.items():
                known = key in WORDS or (depth < self._declared and _NAME.fullmatch(key))
                name = key if known else "…"
                yield (f"{way}.{name}" if way else name), item
