"""A policy's headline: a template for the one line that people read first.

``Refund {args.amount} of order {args.order}`` names arguments by the path that conditions use, and ``{tool}``,
``{agent}``, ``{requester}``. ``{{`` and ``}}`` stand for braces. Nothing else is in it: no formats, no expressions. The
words between are the policy author's; whatever fills a place is shown as the value that it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from governor_agents.core.calls import Json, thaw
from governor_agents.core.records import Call, Run
from governor_agents.errors import ArgumentsError, ConfigError

MAX_HEADLINE = 200
"""The longest template, in characters: a headline is one line."""

NAMES = ("tool", "agent", "requester")
"""What a place may name besides arguments."""

Path = tuple[str, ...]

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PATH = re.compile(r"args((?:\.[A-Za-z_][A-Za-z0-9_-]*|\[\d{1,6}\])+)")
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]")


def read_headline(template: str) -> tuple[str | Path, ...]:
    """The template in parts: texts, and the paths of the places between them. Raises `ConfigError`."""
    if len(template) > MAX_HEADLINE:
        raise ConfigError(f"a headline has at most {MAX_HEADLINE} characters; this one has {len(template)}")
    parts: list[str | Path] = []
    end = 0
    for found in _PART.finditer(template):
        parts += [template[end : found.start()]] if found.start() > end else []
        parts.append(_part(found))
        end = found.end()
    return (*parts, template[end:]) if end < len(template) else tuple(parts)


def _part(found: re.Match[str]) -> str | Path:
    text, name = found[0], found[1]
    if text in ("{{", "}}"):
        return text[0]
    if name is None:
        raise ConfigError(f"a headline has a single {text}; write {text * 2} for a brace")
    if name in NAMES:
        return (name,)
    if path := _PATH.fullmatch(name):
        return ("args", *(step[1] or step[2] for step in _STEP.finditer(path[1])))
    raise ConfigError(f"a headline knows no {{{name}}}; it may name {{args.NAME}}, {{tool}}, {{agent}}, {{requester}}")


def fill_headline(run: Run, call: Call, shown: Callable[[Path, Json], str]) -> str:
    """The headline of a call, ``shown`` making a text of each value; empty without a template, or for a wrong one.

    A path that leads nowhere is given to ``shown`` with `MISSING`.
    """
    try:
        parts, args = read_headline(call.headline), thaw(call.args)
    except (ConfigError, ArgumentsError):
        return ""
    known = {"tool": call.tool, "agent": call.agent or run.agent, "requester": run.requester}
    return "".join(part if isinstance(part, str) else shown(part, _value(part, args, known)) for part in parts)


class Missing:
    """What stands at a path that leads nowhere."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = Missing()


def _value(path: Path, args: Json, known: Mapping[str, str]) -> Json:
    if path[0] != "args":
        return known[path[0]]
    found = args
    for step in path[1:]:
        if isinstance(found, dict) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            return MISSING
    return found
