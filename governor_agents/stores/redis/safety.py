"""The start-up check: which settings of a server could lose a decision that it has acknowledged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from redis.exceptions import BusyLoadingError, ResponseError

from governor_agents.errors import StoreUnavailable
from governor_agents.stores.redis.place import Place
from governor_agents.stores.redis.wire import Node

OLDEST: Final = (6, 2)
"""The first version with all that we use."""

REPLICA: Final = "a read-only replica"


async def unsafe_lines(node: Node, place: Place) -> list[str]:
    """One line per setting of one server that could lose an acknowledged write, with the command that mends it.

    Raises `StoreUnavailable` for a server that is too old, and what connections raise.
    """
    info, config = await node.ask([("INFO",), ("CONFIG", "GET", "*append*")])
    if isinstance(info, ResponseError):
        raise info
    said = parsed(info)
    if said.get("loading") == "1":  # it says then that its log is off, which is so only until it has read it
        raise BusyLoadingError("the server is reading its data")
    whose = f"{node.address[0]}:{node.address[1]}: " if node.address and place.form == "cluster" else ""
    if (version := said.get("redis_version", "0")) and _version(version) < OLDEST:
        raise StoreUnavailable(f"{place.shown}: {whose}the server is Redis {version}; 6.2 is the oldest that will do")
    return [whose + line for line in _lines(said, settings(config), place)]


def _lines(info: Mapping[str, str], config: Mapping[str, str], place: Place) -> list[str]:
    lines = []
    if (role := info.get("role", "unknown")) != "master":
        lines.append(f"role is {role}, {REPLICA} that may lag behind; name the master in the URL")
    if info.get("aof_enabled") != "1":
        lines.append("appendonly is no, so a crash loses what was answered; CONFIG SET appendonly yes")
    if (policy := info.get("maxmemory_policy", "unknown")) != "noeviction":
        mend = "CONFIG SET maxmemory-policy noeviction"
        lines.append(f"maxmemory-policy is {policy}, so a full server throws approvals away; {mend}")
    if (cluster := info.get("cluster_enabled") == "1") != (place.form == "cluster"):
        lines.append(
            "the server is a node of a cluster; begin the URL with redis+cluster"
            if cluster
            else "the server is no node of a cluster; begin the URL with redis"
        )
    return lines + _fsync_lines(config, place)


def _fsync_lines(config: Mapping[str, str], place: Place) -> list[str]:
    """``everysec`` passes unless the URL asks for more: a killed server loses nothing by it, a power cut a second."""
    mend, appendfsync = "CONFIG SET appendfsync always", config.get("appendfsync", "")
    if appendfsync == "no":
        return [f"appendfsync is no, so a power cut takes back what was answered; {mend}"]
    if place.fsync_always and appendfsync != "always":
        told = f"is {appendfsync}" if appendfsync else "cannot be seen (CONFIG GET is not permitted)"
        return [f"appendfsync {told}, and the URL asks for always; {mend}"]
    if place.fsync_always and config.get("no-appendfsync-on-rewrite") == "yes":
        why = "so while its file is rewritten a power cut takes back what was answered"
        return [f"no-appendfsync-on-rewrite is yes, {why}; CONFIG SET no-appendfsync-on-rewrite no"]
    return []


def parsed(info: Any) -> dict[str, str]:
    """The lines of INFO."""
    text = info.decode("utf-8", "replace") if isinstance(info, bytes) else str(info)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))


def settings(reply: Any) -> dict[str, str]:
    """The answer of CONFIG GET, in either protocol; empty where it is not permitted."""
    if isinstance(reply, Exception):
        return {}
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {_text(name): _text(value) for name, value in pairs}


def _text(said: Any) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in text.split(".")[:2])
