"""YAML as a tree with line numbers, bounded, and of plain values only.

Less than YAML on purpose: one document; texts, numbers, ``true``, ``false`` and ``null`` as in YAML 1.2 (``yes`` and
``no`` are texts); no tags; no merge keys; an alias counts as much as what it stands for, so that no small file becomes
a large one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from governor_agents.core.calls import Json
from governor_agents.policies.values import one_line

MAX_BYTES = 1_048_576
"""Largest file."""

MAX_NODES = 50_000
"""Most keys and values of a file, aliases counted as what they stand for."""

MAX_DEPTH = 20
"""Deepest nesting."""

_TOO_DEEP = f"the file is nested deeper than {MAX_DEPTH} levels"

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?(?:[eE][-+]?[0-9]{1,3})?")

# The parser of libyaml where it is built in; both give the same events.
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Problem(Exception):
    """Something wrong at a line of a file."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Node:
    """A value and the line it begins on. Mappings keep their keys' lines in ``lines``."""

    line: int
    value: str | int | float | bool | list[Node] | dict[str, Node] | None
    lines: dict[str, int] = field(default_factory=dict)
    size: int = 1
    depth: int = 0

    def plain(self) -> Json:
        """The value without lines."""
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        return self.value


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 1


def _resolve(event: yaml.ScalarEvent, line: int) -> Node:
    text = event.value
    if event.tag is not None:
        raise Problem(line, f"the tag {one_line(event.tag, 40)} is not supported; write the plain value")
    value: str | int | float | bool | None = text
    if not event.style:  # None from the Python parser, "" from the C one: a plain scalar
        if text in _NULL:
            value = None
        elif text in _BOOL:
            value = _BOOL[text]
        elif _INT.fullmatch(text):
            value = int(text)
        elif _FLOAT.fullmatch(text) and math.isfinite(float(text)):
            value = float(text)
    return Node(line, value)


class _Composer:
    """Builds the tree from parser events, counting as it goes."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._anchors: dict[str, Node | None] = {}
        self._count = 0

    def document(self) -> Node:
        """The one document of the stream."""
        event = next(self._events)
        while isinstance(event, (yaml.StreamStartEvent, yaml.DocumentStartEvent)):
            event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            raise Problem(1, "the file is empty; it must begin with version: 1")
        root = self._node(event, 0)
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise Problem(_line(event), "a file is one document; remove the ---")
        return root

    def _node(self, event: yaml.Event, depth: int) -> Node:
        line = _line(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), line, depth)
        self._grow(1, depth, line)
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = _resolve(event, line)
        else:
            if getattr(event, "tag", None) is not None:
                raise Problem(line, "tags are not supported; write the plain value")
            node = self._list(line, depth) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(line, depth)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _alias(self, name: str, line: int, depth: int) -> Node:
        if name not in self._anchors:
            raise Problem(line, f"unknown alias *{one_line(name, 40)}")
        known = self._anchors[name]
        if known is None:
            raise Problem(line, f"*{one_line(name, 40)} stands inside what it stands for")
        self._grow(known.size, depth + known.depth, line)
        return Node(line, known.value, known.lines, known.size, known.depth)

    def _grow(self, by: int, depth: int, line: int) -> None:
        self._count += by
        if self._count > MAX_NODES:
            raise Problem(line, f"the file holds more than {MAX_NODES} values, aliases counted as what they stand for")
        if depth > MAX_DEPTH:
            raise Problem(line, _TOO_DEEP)

    def _list(self, line: int, depth: int) -> Node:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return _branch(line, items, {}, items)

    def _mapping(self, line: int, depth: int) -> Node:
        found: dict[str, Node] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            at = _line(event)
            key = self._key(event, at)
            if key in found:
                raise Problem(at, f"the key {one_line(key, 40)!r} stands twice; the first is on line {lines[key]}")
            found[key], lines[key] = self._node(next(self._events), depth + 1), at
        return _branch(line, found, lines, list(found.values()))

    def _key(self, event: yaml.Event, line: int) -> str:
        self._grow(1, 0, line)
        if not isinstance(event, yaml.ScalarEvent) or event.tag is not None or event.anchor is not None:
            raise Problem(line, "keys must be plain text")
        if event.value == "<<" and not event.style:
            raise Problem(line, "merge keys (<<) are not supported; write the keys out")
        if not event.value:
            raise Problem(line, "a key is empty")
        return str(event.value)


def _branch(line: int, value: list[Node] | dict[str, Node], lines: dict[str, int], items: list[Node]) -> Node:
    size = 1 + len(lines) + sum(item.size for item in items)
    return Node(line, value, lines, size, 1 + max((item.depth for item in items), default=0))


def _yaml_problem(error: Exception, text: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    before = mark.line if mark is not None else text.count("\n", 0, max(getattr(error, "position", 0) or 0, 0))
    why = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    if "nesting depth" in str(why):  # libyaml may count for itself, ahead of the events it gives
        return Problem(before + 1, _TOO_DEEP)
    mend = "; indent with spaces" if "tab" in str(why) or "\\t" in str(why) else ""
    return Problem(before + 1, f"not valid YAML: {one_line(why)}{mend}")


def parse(text: str) -> Node:
    """The tree of a YAML text. Raises `Problem` with the line."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise Problem(1, f"the file is larger than {MAX_BYTES} bytes")
    try:
        return _Composer(yaml.parse(text, Loader=_PARSER)).document()
    except (yaml.YAMLError, UnicodeError) as error:
        raise _yaml_problem(error, text) from None
