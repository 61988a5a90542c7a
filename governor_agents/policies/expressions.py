"""The text of a CEL expression: which names it uses, and how its run time grows with the arguments.

The engine parses; this only reads the tokens of text that has been parsed, to refuse unknown names when a policy is
loaded instead of when a call is made, and to bound loops, which the engine does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from governor_agents.errors import ConfigError
from governor_agents.policies.values import suggestion

MEMBERS = {
    "call": frozenset({"args", "tool", "agent", "requester", "conversation", "tenant"}),
    "tool": frozenset({"read_only", "effect", "retry", "risk"}),
}
"""What a condition may name."""

TYPES = frozenset(
    {"bool", "bytes", "double", "duration", "int", "list", "map", "null_type", "string", "timestamp", "type", "uint"}
)

FUNCTIONS = frozenset(
    {
        "bytes",
        "contains",
        "double",
        "duration",
        "dyn",
        "endsWith",
        "getDate",
        "getDayOfMonth",
        "getDayOfWeek",
        "getDayOfYear",
        "getFullYear",
        "getHours",
        "getMilliseconds",
        "getMinutes",
        "getMonth",
        "getSeconds",
        "int",
        "matches",
        "size",
        "startsWith",
        "string",
        "timestamp",
        "type",
        "uint",
    }
)
"""The functions the engine has, besides operators and loops."""

LOOPS = frozenset({"all", "exists", "exists_one", "map", "filter"})

_COPYING = frozenset({"map", "filter"})

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|//[^\n]*)
    | (?P<string>(?:[rR][bB]?|[bB][rR])(?:'''.*?'''|\"\"\".*?\"\"\"|'[^'\n]*'|"[^"\n]*")
        | [bB]?(?:'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"))
    | (?P<number>\.?[0-9][0-9A-Za-z_.]*)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign>[<>=!]=|&&|\|\||.)
    """,
    re.VERBOSE | re.DOTALL,
)


def tokens(expression: str) -> list[str]:
    """Names, signs and literals of an expression, in order; comments and white space are left out."""
    return [found.group() for found in _TOKEN.finditer(expression) if found.lastgroup != "space"]


@dataclass(frozen=True, slots=True)
class Size:
    """What the run time of a condition depends on: values (keys counted too), bytes, and the longest list or object."""

    values: int = 0
    bytes: int = 0
    longest: int = 0


def _cost(kind: str, size: Size, items: int) -> float:
    """Microseconds of one operation, measured on the engine and rounded up."""
    if kind == "read":  # reading a member copies what it is read from
        return 0.5 * size.values + size.bytes / 10_000
    if kind == "copy":  # map and filter copy the list that they build once for each item
        return items * (0.1 + size.bytes / 5_000)
    if kind == "regex":  # compiled at each use
        return 10 + size.bytes / 100
    return 1 + size.bytes / 2_000


@dataclass(frozen=True, slots=True)
class Shape:
    """How the run time of an expression grows: operations, each with the number of loops it stands in."""

    operations: tuple[tuple[str, int], ...] = ()
    least: int = 0
    """Items that a list written into the expression may have."""
    reads: frozenset[str] = frozenset()
    """What it looks at: ``call.args``, ``tool.effect`` ..."""

    def microseconds(self, size: Size) -> float:
        """An upper estimate of the run time for arguments of this size."""
        items = max(size.longest, self.least)
        return sum(_cost(kind, size, items) * float(items) ** loops for kind, loops in self.operations)


def _operations(words: list[str], bound: set[str]) -> Iterator[tuple[str, int]]:
    loops = 0
    brackets: list[bool] = []
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        if word in ("(", "[", "{"):
            brackets.append(word == "(" and before in LOOPS)
            loops += brackets[-1]
        elif word in (")", "]", "}") and brackets:
            loops -= brackets.pop()
        elif word in LOOPS and after == "(":
            yield "turn", loops + 1
            if word in _COPYING:
                yield "copy", loops + 1
        elif word == "call" and before != ".":
            yield "read", loops
        elif word in bound and before != ".":
            # The items of one loop are together no larger than the arguments.
            yield "read", max(loops - 1, 0)
        elif word == "matches":
            yield "regex", loops
        elif word == "+" or (after == "(" and word in FUNCTIONS):
            yield "scan", loops


def _bound(words: list[str]) -> set[str]:
    """Names that loops give to their items: ``x`` in ``list.all(x, x > 0)``."""
    return {
        words[at + 3]
        for at in range(len(words) - 4)
        if words[at] == "." and words[at + 1] in LOOPS and words[at + 2] == "(" and words[at + 4] == ","
    }


def _check_names(bound: set[str], variables: Iterable[str], functions: Iterable[str]) -> None:
    for name in sorted(bound & set(MEMBERS)):
        raise ConfigError(f"the loop variable {name!r} hides what a condition sees; give it another name")
    for name in sorted(functions):
        if name.isidentifier() and not name.startswith("_") and name not in FUNCTIONS:
            raise ConfigError(f"unknown function {name!r} in the condition{suggestion(name, FUNCTIONS | LOOPS)}")
    for name in sorted(set(variables) - bound - TYPES - set(MEMBERS)):
        raise ConfigError(f"unknown name {name!r} in the condition{suggestion(name, MEMBERS)}")


def _check_members(words: list[str]) -> None:
    shifted = (["", *words], words, words[1:], words[2:], [*words[3:], ""])
    for before, name, dot, member, after in zip(*shifted, strict=False):
        if before != "." and dot == "." and name in MEMBERS and after != "(" and member not in MEMBERS[name]:
            full = {f"{name}.{known}" for known in MEMBERS[name]}
            raise ConfigError(f"unknown name '{name}.{member}' in the condition{suggestion(f'{name}.{member}', full)}")


def _reads(words: list[str]) -> Iterator[str]:
    for before, name, dot, member in zip(["", *words], words, [*words[1:], ""], [*words[2:], "", ""], strict=False):
        if before != "." and name in MEMBERS:
            # Without a member, as in call["args"], it may look at all of them.
            known = MEMBERS[name]
            yield from (f"{name}.{one}" for one in ({member} & known if dot == "." else ()) or known)


def inspect(expression: str, variables: Iterable[str], functions: Iterable[str]) -> Shape:
    """The shape of an expression that parses, with the names its parser found in it.

    Raises `ConfigError` for a name that no condition has.
    """
    words = tokens(expression)
    bound = _bound(words)
    _check_names(bound, variables, functions)
    _check_members(words)
    return Shape(tuple(_operations(words, bound)), words.count(","), frozenset(_reads(words)))
