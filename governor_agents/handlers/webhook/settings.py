"""Where webhooks go, from a JSON file that only its owner may read: ``$GOVERNOR_WEBHOOKS`` names it.

::

    {"hosts": ["hooks.example.com"],
     "webhooks": {"orders": {"url": "https://hooks.example.com/approvals", "secrets": ["..."]}}}
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from governor_agents.core.calls import freeze_text, thaw
from governor_agents.errors import ArgumentsError, ChannelUnusable, ConfigError
from governor_agents.handlers.visible import visible
from governor_agents.handlers.webhook.addresses import Target, parse
from governor_agents.handlers.webhook.signature import MIN_SECRET

VARIABLE = "GOVERNOR_WEBHOOKS"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One receiver: where it is, and the secrets that sign, two while one is being changed."""

    target: Target = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)


def webhook(url: str, *secrets: str, hosts: Collection[str]) -> Webhook:
    """A receiver. ``hosts`` are those that webhooks may go to. Raises `ConfigError`, which quotes no secret."""
    if not 1 <= len(secrets) <= 2 or any(len(each) < MIN_SECRET for each in secrets):
        raise ConfigError(f"a webhook has one secret of {MIN_SECRET} characters or more, or two while it changes")
    return Webhook(parse(url, hosts), tuple(secrets))


def from_environment() -> dict[str, Webhook]:
    """The receivers that the file names. Raises `ChannelUnusable`."""
    named = os.environ.get(VARIABLE)
    if not named:
        raise ChannelUnusable(f"webhook: no receivers are named; set {VARIABLE} to a file (docs/webhooks.md)")
    return from_file(Path(named))


def from_file(path: Path) -> dict[str, Webhook]:
    """The receivers by name. Raises `ChannelUnusable` with one line, which quotes no secret."""
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ChannelUnusable(f"{path}: others may read it, and it holds secrets; chmod 600 {path}")
        document = thaw(freeze_text(path.read_bytes()))
    except OSError as error:
        raise ChannelUnusable(f"{path}: {error.strerror}; {VARIABLE} names the file of webhooks") from None
    except ArgumentsError as error:
        why = visible(str(error)).replace("arguments are not", "this is not")
        raise ChannelUnusable(f"{path}: {why} (docs/webhooks.md shows the file)") from None
    hosts, entries = _sections(path, document)
    return {name: _entry(f"{path}: webhook {name!r}", entry, hosts) for name, entry in entries.items()}


def _sections(path: Path, document: Any) -> tuple[list[str], Mapping[str, Any]]:
    document = document if isinstance(document, dict) else {}
    hosts, entries = document.get("hosts"), document.get("webhooks")
    good = isinstance(hosts, list) and all(isinstance(host, str) for host in hosts)
    if set(document) != {"hosts", "webhooks"} or not good or not isinstance(entries, dict) or not entries:
        raise ChannelUnusable(
            f"{path}: it has `hosts`, a list of names, and `webhooks`, each with a name; nothing else"
        )
    return list(hosts or ()), entries


def _entry(where: str, entry: Any, hosts: Collection[str]) -> Webhook:
    entry = entry if isinstance(entry, dict) else {}
    url, secrets = entry.get("url"), entry.get("secrets")
    good = isinstance(url, str) and isinstance(secrets, list) and all(isinstance(each, str) for each in secrets)
    if set(entry) != {"url", "secrets"} or not good:
        raise ChannelUnusable(f"{where}: it has `url`, and `secrets`, a list of texts; nothing else")
    try:
        return webhook(str(url), *(secrets or ()), hosts=hosts)
    except ConfigError as error:
        raise ChannelUnusable(f"{where}: {error}") from None
