"""The policy file: every key, what it may hold, and one line for each thing that is wrong.

.. code-block:: yaml

    version: 1
    approvals: {channels: [terminal], deadline: 24h, approvers: [group:operators]}
    groups:
      operators: [ops@example.com, local:alice]
    tools:
      lookup_order: {read_only: true}
    rules:
      - {name: small refunds, tool: refund, when: call.args.amount <= 50, then: allow}
      - {name: refunds, tool: refund, then: require_approval}
    limits: {snapshot: 8MB, asks: 30}
    retention: {completed: 30d, failed: 90d, cancelled: 30d}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from governor_agents.core.calls import Tool
from governor_agents.core.ports import Directory
from governor_agents.errors import ConfigError, PolicyFileError
from governor_agents.policies import reading
from governor_agents.policies.asks import Defaults, stage
from governor_agents.policies.conditions import compiled
from governor_agents.policies.document import Node, Problem
from governor_agents.policies.groups import Groups, check_apart, check_approver
from governor_agents.policies.keeping import NOTHING, OUTCOMES, Keeping
from governor_agents.policies.readers import RULE_READERS, TERM_READERS, TOOL_READERS, at, each, list_of, scalar
from governor_agents.policies.reading import Reading, Source, Unreadable, all_lines
from governor_agents.policies.rules import Rule, RuleList, version_of
from governor_agents.policies.values import GROUP, ROLE, approver, count, expression, seconds, size

SECTIONS = ("approvals", "groups", "tools", "rules", "limits", "retention")


class _File(Reading):
    """Reads one policy file section by section."""

    def __init__(self, source: Source, directory: Directory | None = None) -> None:
        super().__init__(source, SECTIONS)
        self._directory = directory
        self.groups: dict[str, tuple[str, ...]] = {}
        self._known: Mapping[str, object] = {}
        self._approvers = each(self._approver)
        self._delegates = list_of(self._approver)

    def read_groups(self) -> None:
        """The groups, without a look at which others they name."""
        member = each(scalar(approver))
        for name, line, node in self.entries("groups"):
            try:
                self.groups[name] = at(node, member) if node.value != [] else ()
            except Problem as problem:
                self.problems.append((problem.line, f"group {name}: {problem}"))
            if name.startswith((GROUP, ROLE)):
                self.problems.append((line, f"write {name.partition(':')[2]!r} here; {GROUP} is for where it is named"))

    def check_groups(self, known: dict[str, tuple[str, ...]]) -> None:
        """Make the groups of all files known to this one; note members and names that do not fit."""
        self._known = known
        for name, line, node in self.entries("groups"):
            if why := self._taken(name):
                self.problems.append((line, why))
            if set(known.get(name, ())) != set(self.groups.get(name, ())):
                self.problems.append((line, f"group {name!r} has other people in another file"))
            for item in node.value if isinstance(node.value, list) else ():
                try:
                    at(item, self._approver)
                except Problem as problem:
                    self.problems.append((problem.line, f"group {name}: {problem}"))
        self.problems[:] = dict.fromkeys(self.problems)

    def _taken(self, name: str) -> str:
        try:
            if self._directory is not None:
                check_apart([name], self._directory)
        except ConfigError as error:
            return str(error)
        return ""

    def blame_groups(self, cycle: str) -> None:
        """Note that groups hold one another, at the first group of this file that does."""
        lines = [line for name, line, _ in self.entries("groups") if repr(name) in cycle]
        self.problems.extend((line, cycle) for line in lines[:1])

    def _approver(self, node: Node) -> str:
        name: str = scalar(approver)(node)
        check_approver(name, self._known, self._directory)
        return name

    def _stages(self, node: Node) -> Any:
        readers = {
            "approvers": self._approvers,
            "quorum": scalar(count),
            "within": scalar(seconds),
            "when": scalar(lambda value: compiled(expression(value)).text),
        }

        def read(item: Node) -> Any:
            found = self.fields(item, readers, "a stage", ("approvers",))
            terms = (found.get("quorum", 1), found.get("within"), found.get("when", ""))
            return stage(found.get("approvers", ()), *terms)

        return each(read)(node)

    def _rule(self, node: Node) -> Rule | None:
        before = len(self.problems)
        readers = RULE_READERS | {"approvers": self._approvers, "delegates": self._delegates, "stages": self._stages}
        found = self.fields(node, readers, "a rule", ("name", "tool", "then"))
        if len(self.problems) > before:
            return None
        try:
            return Rule(**found, line=node.line)
        except ConfigError as error:
            named = next((key for key in found if repr(key) in str(error)), "")
            self.problems.append((node.lines.get(named, node.line), str(error)))
            return None

    def rules(self) -> list[Rule]:
        """The rules in order, those that could be read."""
        node = self.sections.get("rules")
        if node is None:
            return []
        if not isinstance(node.value, list):
            self.problems.append((node.line, "rules must be a list, each rule beginning with - name: ..."))
            return []
        found: dict[str, Rule] = {}
        for rule in filter(None, map(self._rule, node.value)):
            first = found.setdefault(rule.name, rule)
            if first is not rule:
                twice = f"two rules are named {rule.name!r}; the first is on line {first.line}"
                self.problems.append((rule.line, twice))
        return list(found.values())

    def tools(self, known: dict[str, Tool]) -> dict[str, Tool]:
        """What is declared of tools; ``known`` is what files before this one declare, and grows."""
        found: dict[str, Tool] = {}
        for name, line, node in self.entries("tools"):
            found[name] = Tool(name, **self.fields(node, TOOL_READERS, name))
            if known.setdefault(name, found[name]) != found[name]:
                self.problems.append((line, f"tool {name!r} is declared otherwise in another file; declare it once"))
        return found

    def defaults(self) -> Defaults:
        """The section ``approvals``."""
        node = self.sections.get("approvals")
        readers = TERM_READERS | {"approvers": self._approvers, "delegates": self._delegates}
        return Defaults(**self.fields(node, readers, "approvals")) if node is not None else Defaults()

    def keeping(self) -> Keeping:
        """The sections ``limits`` and ``retention``."""
        limits, retention = self.sections.get("limits"), self.sections.get("retention")
        readers = {"snapshot": scalar(size), "asks": scalar(count)}
        said = self.fields(limits, readers, "limits") if limits is not None else {}
        spans = dict.fromkeys(OUTCOMES, scalar(seconds))
        kept = self.fields(retention, spans, "retention") if retention is not None else NOTHING
        return Keeping(said.get("snapshot"), kept, said.get("asks"))

    def rule_list(self, groups: Groups, tools: dict[str, Tool]) -> RuleList:
        """The whole file, as far as it could be read."""
        return RuleList(
            self.rules(),
            name=self.source.name,
            source=self.source.path,
            version=version_of(self.root.plain()),
            defaults=self.defaults(),
            groups=groups.members,
            tools=self.tools(tools),
            keeping=self.keeping(),
        )


def _stop_on_problems(files: Iterable[_File]) -> None:
    lines = all_lines(files)
    if lines:
        raise PolicyFileError(errors=lines)


def _all_groups(files: Sequence[_File], directory: Directory | None) -> Groups:
    known: dict[str, tuple[str, ...]] = {}
    for file in files:
        file.read_groups()
        known = file.groups | known
    for file in files:
        file.check_groups(known)
    if any(file.problems for file in files):
        return Groups({})
    try:
        return Groups(known, directory)
    except ConfigError as error:
        for file in files:
            file.blame_groups(str(error))
        return Groups({})


def read(sources: Sequence[Source], directory: Directory | None = None) -> list[RuleList]:
    """The files as lists of rules. Groups are shared among them. Raises `PolicyFileError` for the first problem."""
    files = [_File(source, directory) for source in sources]
    groups = _all_groups(files, directory)
    tools: dict[str, Tool] = {}
    lists = [file.rule_list(groups, tools) for file in files]
    _stop_on_problems(files)
    return lists


def load(path: str | PathLike[str], name: str) -> Source:
    """A file, not yet read as policies. Raises `PolicyFileError`."""
    try:
        return reading.load(path, name)
    except Unreadable as error:
        raise PolicyFileError(errors=[str(error)]) from None


def read_files(paths: Sequence[str | PathLike[str]], directory: Directory | None = None) -> list[RuleList]:
    """The files under these paths. Raises `PolicyFileError`."""
    short = [Path(path).name for path in paths]
    # A file is named by its last part in verdicts, so that they are the same on every machine.
    names = [name if short.count(name) == 1 else str(path) for name, path in zip(short, paths, strict=True)]
    return read([load(path, name) for path, name in zip(paths, names, strict=True)], directory)
