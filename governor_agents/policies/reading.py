"""Reading a YAML file section by section, collecting what is wrong with it: one line each, with file and line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from governor_agents.errors import ConfigError
from governor_agents.policies.document import MAX_BYTES, Node, Problem, parse
from governor_agents.policies.readers import Reader, at, scalar, version
from governor_agents.policies.values import one_line, suggestion, text

Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Source:
    """A text to read. ``name`` stands in verdicts, ``path`` in messages."""

    name: str
    path: str
    text: str


class Unreadable(Exception):
    """A file that is no text, or is not there; the message is one line with its path."""


def load(path: str | PathLike[str], name: str) -> Source:
    """A file as text. Raises `Unreadable`."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    return Source(name, str(path), decoded(data, path))


def decoded(data: bytes, path: str | PathLike[str]) -> str:
    """The text of a file's bytes. Raises `Unreadable`."""
    if len(data) > MAX_BYTES:
        raise Unreadable(f"{path}:1: the file is larger than {MAX_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unreadable(f"{path}:{line}: the file is not UTF-8") from None


class Reading:
    """One file while it is read. ``sections`` are the keys it may have beside ``version``."""

    def __init__(self, source: Source, sections: Sequence[str]) -> None:
        self.source = source
        self.problems: list[tuple[int, str]] = []
        self.root = Node(1, {})
        self.sections: dict[str, Node] = {}
        try:
            self.root = parse(source.text)
        except Problem as problem:
            self.problems.append((problem.line, str(problem)))
            return
        keep: Reader = lambda node: node  # noqa: E731
        readers = dict.fromkeys(sections, keep) | {"version": scalar(version)}
        found = self.fields(self.root, readers, "the file", ("version",))
        self.sections = {name: node for name, node in found.items() if isinstance(node, Node)}

    def fields(self, node: Node, readers: Mapping[str, Reader], what: str, needs: Sequence[str] = ()) -> Found:
        """What could be read of a mapping; the rest is noted as problems."""
        found: Found = {}
        if not isinstance(node.value, dict):
            self.problems.append((node.line, f"{what} must be a mapping, written like key: value"))
            return found
        for key, item in node.value.items():
            read = readers.get(key)
            if read is None:
                self.problems.append((node.lines[key], f"unknown key {one_line(key, 40)!r}{suggestion(key, readers)}"))
                continue
            try:
                found[key] = at(item, read)
            except Problem as problem:
                self.problems.append((problem.line, f"{key}: {problem}"))
        missing = [key for key in needs if key not in node.value]
        self.problems.extend((node.line, f"{what} has no {key!r}") for key in missing)
        return found

    def entries(self, section: str) -> Iterator[tuple[str, int, Node]]:
        """Name, line and value of each entry of a section that is a mapping from names."""
        node = self.sections.get(section)
        if node is None:
            return
        if not isinstance(node.value, dict):
            self.problems.append((node.line, f"{section} must be a mapping from names, written like name: ..."))
            return
        for name, item in node.value.items():
            try:
                yield text(name, f"a name under {section}"), node.lines[name], item
            except ConfigError as error:
                self.problems.append((node.lines[name], str(error)))

    def lines(self) -> list[str]:
        """The problems, one line each, in the order of the file."""
        problems = sorted(dict.fromkeys(self.problems), key=lambda problem: problem[0])
        return [f"{self.source.path}:{line}: {what}" for line, what in problems]


def all_lines(files: Iterable[Reading]) -> list[str]:
    """The problems of several files."""
    return [line for file in files for line in file.lines()]
