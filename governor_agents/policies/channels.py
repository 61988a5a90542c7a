"""Where a request is shown: ``NAME`` of an approval channel, or ``NAME:TARGET``."""

from __future__ import annotations

import re

from governor_agents.errors import ConfigError
from governor_agents.policies.values import MAX_NAME, listed, one_line

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SLACK = re.compile(r"(?:[TE][A-Z0-9]+/)?[CGD][A-Z0-9]+(?:/[0-9]{1,12}\.[0-9]{1,12})?")

ALONE = frozenset({"email", "terminal", "notebook"})
"""Channels that ask the people who are asked, and nobody else: they take no target."""


def channel(value: object) -> str:
    """One channel. Raises `ConfigError`."""
    name, colon, target = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not _NAME.fullmatch(name) or (colon and not target):
        raise ConfigError(f"{one_line(value, 40)!r} is no channel; write a name such as slack, or slack:C0123ABC")
    if len(target) > MAX_NAME or not target.isprintable() or any(c.isspace() for c in target):
        raise ConfigError(f"{name}: {one_line(target, 40)!r} is no target; it is one word")
    if colon and name in ALONE:
        raise ConfigError(f"{name} takes no target; it asks the people who may decide")
    if colon and name == "slack" and not _SLACK.fullmatch(target):
        mend = "write the channel's id, slack:C0123ABC, of one workspace slack:T01/C0123ABC, or of a thread in it"
        raise ConfigError(f"{one_line(target, 40)!r} is no Slack channel; {mend}")
    return name + colon + target


def channels(value: object) -> tuple[str, ...]:
    """Approval channels, at least one, each once. Raises `ConfigError`."""
    found = listed(value, "channels", channel)
    if not found:
        raise ConfigError("channels must name at least one channel, or nobody would be told")
    return tuple(dict.fromkeys(found))
