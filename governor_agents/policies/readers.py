"""Readers of single values of a policy file: from a node to what it means, or a `Problem` at its line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from governor_agents.errors import ConfigError
from governor_agents.policies.asks import READ_TERM
from governor_agents.policies.channels import channel
from governor_agents.policies.conditions import Condition
from governor_agents.policies.document import Node, Problem
from governor_agents.policies.hours import quiet_hours
from governor_agents.policies.rules import OUTCOMES
from governor_agents.policies.tools import RISKS
from governor_agents.policies.values import choice, count, expression, flag, globs, one_line, reason_text, seconds, text

VERSION = 1
"""The version of the format."""

Reader = Callable[[Node], Any]


def scalar(read: Callable[[object], Any]) -> Reader:
    """A reader of one value that is no list and no mapping."""

    def reader(node: Node) -> Any:
        if node.value is None:
            raise Problem(node.line, "has no value")
        if isinstance(node.value, (list, dict)):
            kind = "list" if isinstance(node.value, list) else "mapping"
            raise Problem(node.line, f"must be one value, not a {kind}")
        return read(node.value)

    return reader


def each(read: Reader) -> Reader:
    """A reader of a list with at least one item; an item's problem has the item's line."""

    def reader(node: Node) -> Any:
        if not isinstance(node.value, list):
            raise Problem(node.line, "must be a list, written like [a, b]")
        if not node.value:
            raise Problem(node.line, "must name at least one; remove the key for the default")
        return tuple(at(item, read) for item in node.value)

    return reader


def list_of(read: Reader) -> Reader:
    """A reader of a list that may be empty."""
    many = each(read)
    return lambda node: () if node.value == [] else many(node)


def one_or_each(read: Reader) -> Reader:
    """A reader of one value or of a list of them."""
    many = each(read)
    return lambda node: many(node) if isinstance(node.value, list) else read(node)


def at(node: Node, read: Reader) -> Any:
    """Read a node; what is wrong becomes a `Problem` at its line."""
    try:
        return read(node)
    except ConfigError as error:
        raise Problem(node.line, str(error)) from None


def _glob(value: object) -> str:
    return globs(text(value, "a pattern"), "a pattern")[0]


def version(value: object) -> int:
    """The version of the format."""
    if type(value) is not int or value != VERSION:
        raise ConfigError(f"unknown version {one_line(value, 40)}; this release reads version {VERSION}")
    return VERSION


TERM_READERS: dict[str, Reader] = {name: scalar(read) for name, read in READ_TERM.items()} | {
    "channels": each(scalar(channel)),
    "reminders": list_of(scalar(seconds)),
    "quiet_hours": lambda node: quiet_hours(node.plain()),
}

TOOL_READERS: dict[str, Reader] = {
    "read_only": scalar(flag),
    "effect": scalar(lambda value: text(value, "an effect")),
    "retry": scalar(lambda value: choice(value, ("none", "idempotent", "reconcilable"))),
    "idempotency_ttl": scalar(seconds),
    "in_flight": scalar(seconds),
    "risk": scalar(lambda value: choice(value, RISKS)),
    "operands": each(scalar(lambda value: text(value, "the name of an argument"))),
}

RULE_READERS: dict[str, Reader] = TERM_READERS | {
    "name": scalar(lambda value: text(value, "a name")),
    "tool": one_or_each(scalar(_glob)),
    "agent": one_or_each(scalar(_glob)),
    "requester": one_or_each(scalar(_glob)),
    "when": scalar(lambda value: Condition(expression(value))),
    "then": scalar(lambda value: choice(value, OUTCOMES)),
    "quorum": scalar(count),
    "reason": scalar(reason_text),
}
