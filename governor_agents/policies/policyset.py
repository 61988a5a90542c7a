"""All policies together: one verdict for each call, whatever happens.

==============================================  ======================================================================
of the policies                                 the set says
==============================================  ======================================================================
one denies                                      deny
one or more ask                                 ask; their approvers add up as stages (see `strictest`)
one allows, nobody asks or denies               allow
all abstain, the tool is ``read_only``          allow (``read_only``)
all abstain, the tool is known                  ask the default approvers (``default``); without any: deny
                                                (``no_approvers``)
all abstain, the tool is unknown                the same, code ``unknown_tool``
one raises, or answers with what is no verdict  that one asks the default approvers (``policy_error``), or denies
an ask that nobody could ever approve           deny (``no_approvers``)
an ask while the directory cannot be read       deny (``directory_unreadable``)
==============================================  ======================================================================

A file is one policy here; how its rules become one answer stands in `governor_agents.policies.rules`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, Self

from governor_agents.core.calls import Tool, ToolCall
from governor_agents.core.ports import Directory
from governor_agents.core.verdicts import Policy, PolicyCallable, Verdict
from governor_agents.errors import ConfigError, DirectoryUnreadable, PoliciesUnavailable
from governor_agents.policies.asks import Defaults
from governor_agents.policies.conditions import Facts
from governor_agents.policies.explain import Explained, explain_list, explain_python
from governor_agents.policies.joined import DIRECTORY_UNREADABLE, UNREADABLE, Joined, Part, join
from governor_agents.policies.keeping import Keeping
from governor_agents.policies.python import PythonPolicy
from governor_agents.policies.rules import Rule, RuleList
from governor_agents.policies.strictest import strictest, with_defaults

log = logging.getLogger(__name__)

AnyPolicy = RuleList | Rule | Policy | PolicyCallable
"""What a policy set is made of."""


def part(policy: AnyPolicy | PythonPolicy) -> Part:
    """A policy as a set holds it. Raises `ConfigError` for what is none."""
    if isinstance(policy, (RuleList, PythonPolicy)):
        return policy
    return RuleList([policy]) if isinstance(policy, Rule) else PythonPolicy(policy)


class PolicySet:
    """Decides about calls. ``policies`` are files (`RuleList`), `Rule` objects, `Policy` objects, plain callables.

    ``tools`` declares tools by name or glob, before what the files declare; ``default`` goes before the files'
    ``approvals``; ``groups`` adds groups of approvers for Python policies. A group and a tool mean the same in the
    whole set. ``directory`` says who people are; a governor that has one gives it to its policies (`use`). Raises
    `ConfigError` (`PolicyFileError` with file and line) for what contradicts itself or asks nobody. Usable from any
    thread.
    """

    def __init__(
        self,
        policies: Iterable[AnyPolicy | PythonPolicy] = (),
        *,
        tools: Mapping[str, Tool] | None = None,
        default: Defaults | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        directory: Directory | None = None,
    ) -> None:
        self._tools = dict(tools or {})
        self._default = default
        self._groups = dict(groups or {})
        self.directory = directory
        self._lock = threading.Lock()
        # Replaced as a whole by add_rule, so that an evaluation sees one state of it.
        self._joined = self._join([part(policy) for policy in policies])

    def _join(self, parts: Sequence[Part]) -> Joined:
        return join(parts, self._tools, self._default, self._groups, self.directory)

    @classmethod
    def from_file(cls, path: str | PathLike[str], *, directory: Directory | None = None) -> Self:
        """The policies of one YAML file. Raises `PolicyFileError`, one line with file and line number."""
        return cls.from_files(path, directory=directory)

    @classmethod
    def from_files(cls, *paths: str | PathLike[str], directory: Directory | None = None) -> Self:
        """The policies of several files, which may use one another's groups. Raises `PolicyFileError`."""
        from governor_agents.policies.file import read_files

        return cls(read_files(paths, directory), directory=directory)

    @classmethod
    def from_text(cls, text: str, name: str = "policy.yaml", *, directory: Directory | None = None) -> Self:
        """The policies of a YAML text; ``name`` stands for the file's. Raises `PolicyFileError`."""
        from governor_agents.policies.file import read
        from governor_agents.policies.reading import Source

        return cls(read([Source(name, name, text)], directory), directory=directory)

    def with_policies(self, *policies: AnyPolicy) -> Self:
        """A new set with more policies. Raises `ConfigError`."""
        parts = [*self._joined.parts, *map(part, policies)]
        return type(self)(
            parts, tools=self._tools, default=self._default, groups=self._groups, directory=self.directory
        )

    def use(self, directory: Directory | None) -> None:
        """Have approvers mean the people of this directory from now on; None changes nothing.

        Raises `ConfigError` when they mean those of another one already.
        """
        if directory is None or directory == self.directory:
            return
        if self.directory not in (None, getattr(directory, "directory", None)):  # held as `directory.Asked` holds it
            raise ConfigError("these policies have another directory of people; give each governor policies of its own")
        with self._lock:
            self.directory = directory
            self._joined = self._join(self._joined.parts)

    def add_rule(self, **rule: Any) -> None:
        """Add a rule, given by the fields of `Rule`, as a policy of its own. Raises `ConfigError`."""
        added = RuleList([Rule(**rule)])
        with self._lock:
            self._joined = self._join([*self._joined.parts, added])

    @property
    def version(self) -> str:
        """16 hex digits that change when any of the files or rules changes (Python code is not looked into)."""
        return self._joined.version

    async def confirm(self) -> str:
        """The version in force, after a look at where the policies are kept; these are kept nowhere else.

        Asked on the governor loop right before each intent. Raises `StoreError` when nobody can say.
        """
        return self.version

    def check_people(self) -> None:
        """Raise `PoliciesUnavailable` while nobody can say who people are.

        Asked before a run is taken in hand: what was approved would be denied, instead of waiting.
        """
        if self.directory is not None:
            try:
                self.directory.person("")
            except DirectoryUnreadable as error:
                raise PoliciesUnavailable(str(error)) from None

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """The groups of approvers, as written."""
        return self._joined.groups.members

    @property
    def tools(self) -> Mapping[str, Tool]:
        """What is declared of tools, by name or glob."""
        return self._joined.tools.declared

    @property
    def keeping(self) -> Keeping:
        """What the files say of how much is kept, and for how long."""
        return self._joined.keeping

    def people(self, approvers: Iterable[str]) -> tuple[str, ...]:
        """The people whom ids, ``group:NAME`` and ``role:NAME`` mean now: sorted, each once.

        Raises `ConfigError`, `DirectoryUnreadable`.
        """
        return self._joined.groups.people(approvers)

    def demands(self) -> Iterable[tuple[str, Verdict]]:
        """Each rule that asks, with whom it asks where, before names have become people; first the defaults."""
        yield "the section approvals", self._joined.base
        for bound in (bound for each in self._joined.parts if isinstance(each, RuleList) for bound in each.rules):
            if bound.rule.then == "require_approval":
                yield f"rule {bound.rule.name!r}", with_defaults(bound.verdict, self._joined.base)

    def tool(self, name: str) -> Tool:
        """What is declared of a tool; ``known`` is False when nothing is."""
        return self._joined.tools.get(name)

    def evaluate(self, call: ToolCall, tool: Tool | None = None) -> Verdict:
        """The verdict on a call; ``tool`` when the caller knows more than is declared. Never raises."""
        joined = self._joined
        try:
            return joined.named(_evaluate(joined, call, tool), call.requester)
        except DirectoryUnreadable:  # a rule is about who asked, and nobody can say
            return Verdict("deny", "default", joined.version, DIRECTORY_UNREADABLE, UNREADABLE)
        except Exception:
            log.exception("the policies could not be evaluated")
        try:
            return joined.named(joined.by_default(joined.failure), getattr(call, "requester", ""))
        except Exception:
            log.exception("nor could those be found who are asked by default")
            return Verdict("deny", "default", joined.version, "policy_error", "the policies could not be evaluated")

    def demand(self, call: ToolCall, tool: Tool | None = None) -> Verdict:
        """The verdict on a call that must be asked about: where no policy asks people, the default approvers are."""
        verdict = self.evaluate(call, tool)
        if verdict.outcome != "allow":
            return verdict
        asked = self._joined.named(self._joined.by_default(self._joined.unsaid), call.requester)
        return replace(asked, code="in_doubt", reason="an earlier attempt at this call is in doubt")

    def explain(self, call: ToolCall, tool: Tool | None = None) -> list[Explained]:
        """What each rule and Python policy makes of a call, in order; `evaluate` tells what comes of it."""
        facts = Facts(call, self.tool(call.tool) if tool is None else tool, self.directory)
        found: list[Explained] = []
        for each in self._joined.parts:
            if isinstance(each, RuleList):
                found.extend(explain_list(each, facts))
            else:
                found.extend(explain_python(each, facts))
        return found


def _evaluate(joined: Joined, call: ToolCall, tool: Tool | None) -> Verdict:
    known = joined.tools.get(call.tool) if tool is None else tool
    facts, said = Facts(call, known, joined.directory), list[Verdict]()
    for each in joined.parts:
        opinions = each.opinions(facts)
        if opinions:
            said.extend(opinions)
    if said:
        return strictest([joined.settled(verdict, facts) for verdict in said])
    if known.read_only is True:
        return joined.read_only
    return joined.by_default(joined.unsaid if known.known else joined.unknown_tool)
