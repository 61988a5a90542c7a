"""Policies that a store has published, as tests write and publish them: another governor on the same store does it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from governor_agents import Governor
from governor_agents.keys import Keys
from governor_agents.publishing import Publication, Publications, Published
from governor_agents.publishing.cache import PolicyCache
from tests import shared

BOSS, CHIEF = "boss@example.com", "chief@example.com"

NEVER = 1e6
"""Seconds between two looks at the store of which no second one comes while a test runs."""

HEAD = f"version: 1\napprovals: {{approvers: [{BOSS}]}}\ntools: {{deploy: {{}}}}\n"


def rules(*lines: str) -> str:
    """A policy file with these rules for ``deploy``."""
    found = [f"  - {{name: r{at}, tool: deploy, {line}}}\n" for at, line in enumerate(lines)]
    return HEAD + ("rules:\n" + "".join(found) if found else "")


ALLOW = rules("then: allow")
ASK = rules("then: require_approval")
DENY = rules("then: deny, reason: not any more")
TWO = rules(f"then: require_approval, approvers: [{BOSS}, {CHIEF}], quorum: 2")


def cache_url() -> str:
    """The session's Redis, in a namespace of its own."""
    return f"{shared.url('redis')}/0?namespace=test-{uuid.uuid4().hex}"


def published(cache: str = "", **settings: Any) -> Published:
    """Published policies that look at the store by themselves only when a test says how often."""
    return Published(**{"cache": cache, "poll": NEVER, "max_age": NEVER + 1, **settings})


async def publish(
    url: str, text: str, *, cache: str = "", keys: Keys | None = None, tenant: str = "default"
) -> Publication:
    """Publish as another process would; with a ``cache``, put it there and announce it."""
    async with Governor(store=url, keys=keys, tenant=tenant) as other:

        async def work() -> Publication:
            made = await Publications(other.runs).publish(text, by="local:op")
            if cache:
                told = PolicyCache(cache, tenant, keys)
                await told.put(made.sha256, text)
                await told.announce(made.version)
                await told.close()
            return made

        return await other.loop.bridge(work())


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition that another thread brings about."""
    while not holds():  # noqa: ASYNC110  what is waited for is set by the governor's thread
        await asyncio.sleep(0.005)


async def looked(governor: Governor, work: Callable[[Published], Awaitable[Any]]) -> Any:
    """Something done to a governor's published policies on their own loop."""
    policies = governor.policies
    assert isinstance(policies, Published)

    async def inside() -> Any:
        return await work(policies)

    return await governor.loop.bridge(inside())
