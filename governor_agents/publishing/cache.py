"""The policy cache: published documents in Redis, with an expiry, and a channel on which publications are announced.

**Nothing in it is trusted.** Which version is in force the store says, and nobody else; the cache hands over the
document with the SHA-256 that the store named, or nothing. So whoever can write to the cache can put nothing in force:
neither a text of his own nor an older version; nor can he keep a newer one back, since processes look at the store by
themselves as well. An announcement says only: look now. With keys set, documents are sealed and their hashes are not
shown.

A cache that is away, slow or wrong is done without, and said once in the log until it is back. Nothing here raises on
the way of a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from governor_agents.core.calls import freeze, sha256
from governor_agents.errors import ConfigError, MissingExtra, SealBroken

if TYPE_CHECKING:
    from governor_agents.keys import Keys

log = logging.getLogger(__name__)

T = TypeVar("T")

NAMESPACE = "ga-policies"
"""What all keys and channels begin with, unless the URL says ``?namespace=``."""

EXPIRY = 3600
"""Seconds that a document stays in the cache. It is put back by the next process that had to ask the store."""

PATIENCE = 2.0
"""Seconds for which one step of the cache is waited for."""

AGAIN = 5.0
"""Seconds until a server that is away is tried again, at most."""

MANY = 1000
"""Announcements that are taken as one, when they wait already."""


def cache_url(given: str | None) -> str:
    """The URL that is given, else ``$GOVERNOR_POLICY_CACHE``; empty when there is to be no cache."""
    return os.environ.get("GOVERNOR_POLICY_CACHE", "") if given is None else given


class PolicyCache:
    """The published documents of one tenant in a Redis server. Its coroutines run on one event loop and never raise.

    ``url`` is that of one server, as redis-py takes it (``redis://``, ``rediss://``, ``unix://``). Raises
    `ConfigError` for another one, `MissingExtra`.
    """

    def __init__(self, url: str, tenant: str, keys: Keys | None = None) -> None:
        url, namespace = _split(url)
        self._tenant = tenant
        self._keys = keys
        self._channel = f"{namespace}:{tenant}"
        self._client = _client(url)
        self._subscribed: Any = None
        self._away = ""

    async def get(self, digest: str) -> str | None:
        """The document with this SHA-256; None when the cache has none, or another one in its place."""
        held = await self._tried(lambda: self._client.get(self._key(digest)))
        if held is None:
            return None
        data = self._opened(digest, bytes(held))
        if data is None or sha256(data) != digest:
            log.warning("the policy cache holds something else than what was published; the store's document is used")
            return None
        return data.decode("utf-8", "replace")  # what was published is a text

    async def put(self, digest: str, text: str) -> None:
        """Keep a document for `EXPIRY` seconds."""
        data = text.encode()
        held = data if self._keys is None else self._keys.seal(data, self._bound(digest))
        await self._tried(lambda: self._client.set(self._key(digest), held, ex=EXPIRY))

    async def announce(self, version: int) -> bool:
        """Tell every process that listens to look at the store; False when the cache could not be told."""
        return await self._tried(lambda: self._client.publish(self._channel, str(version))) is not None

    async def heard(self, timeout: float) -> bool:
        """True soon after an announcement, and when one may have been missed; False after ``timeout`` seconds.

        Where nothing can be heard, False after `AGAIN` seconds already.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + timeout
        try:
            if self._subscribed is None:
                await self._subscribe()
                return True  # what was announced until now was not heard
            while (left := end - clock()) > 0:
                if await self._subscribed.get_message(ignore_subscribe_messages=True, timeout=left) is not None:
                    await self._drain()
                    return True
            return False
        except Exception as error:
            self._is_away(error)
            await self._unsubscribe()
            await asyncio.sleep(min(max(end - clock(), 0.0), AGAIN))
            return False

    async def close(self) -> None:
        """Let go of the server. Twice is fine."""
        await self._unsubscribe()
        await _let_go(self._client)

    # -- listening --------------------------------------------------------------------------------------------------

    async def _subscribe(self) -> None:
        """Listen; on return the server has said that it tells us."""
        made = self._subscribed = self._client.pubsub()
        async with asyncio.timeout(PATIENCE):
            await made.subscribe(self._channel)
            while (await made.get_message(timeout=PATIENCE) or {}).get("type") != "subscribe":
                continue
        self._is_back()

    async def _drain(self) -> None:
        """Many announcements at once mean one look."""
        for _ in range(MANY):
            if await self._subscribed.get_message(ignore_subscribe_messages=True, timeout=0) is None:
                return

    async def _unsubscribe(self) -> None:
        made, self._subscribed = self._subscribed, None
        if made is not None:
            await _let_go(made)

    # -- the server -------------------------------------------------------------------------------------------------

    async def _tried(self, step: Callable[[], Awaitable[T]]) -> T | None:
        """What a step gives; None when it failed or took too long."""
        try:
            async with asyncio.timeout(PATIENCE):
                found = await step()
        except Exception as error:
            self._is_away(error)
            return None
        self._is_back()
        return found

    def _is_away(self, error: Exception) -> None:
        why = str(error) or type(error).__name__
        if not self._away:
            log.warning("the policy cache cannot be used, and the store is asked alone: %s", why)
        self._away = why

    def _is_back(self) -> None:
        if self._away:
            log.info("the policy cache is back")
        self._away = ""

    # -- what it holds ----------------------------------------------------------------------------------------------

    def _key(self, digest: str) -> str:
        shown = digest if self._keys is None else self._keys.name(f"policy:{digest}")
        return f"{self._channel}:{shown}"

    def _bound(self, digest: str) -> bytes:
        return freeze(["policy cache", self._tenant, digest])

    def _opened(self, digest: str, held: bytes) -> bytes | None:
        if self._keys is None:
            return held
        try:
            return self._keys.open(held, self._bound(digest))
        except SealBroken:
            return None


async def _let_go(held: Any) -> None:
    """Close a connection; one that is broken is gone already."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(PATIENCE):
            await held.aclose()


def _split(url: str) -> tuple[str, str]:
    """The URL without our own option, and the namespace. Raises `ConfigError`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _no_url(url) from None
    options = parse_qsl(parts.query, keep_blank_values=True)
    namespace = dict(options).get("namespace", NAMESPACE)
    if not namespace.strip():
        raise ConfigError("the policy cache: namespace= is empty; leave it out, or name one")
    query = urlencode([(name, value) for name, value in options if name != "namespace"])
    return urlunsplit(parts._replace(query=query)), namespace


def _client(url: str) -> Any:
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ModuleNotFoundError:
        raise MissingExtra(
            "the policy cache needs redis, which is not installed: pip install 'governor-agents[redis]'"
        ) from None
    try:
        return Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),  # whoever reconnects unseen does not know what was missed
            socket_connect_timeout=PATIENCE,
            socket_timeout=PATIENCE,
            health_check_interval=10,
        )
    except (ValueError, TypeError):
        raise _no_url(url) from None


def _no_url(url: str) -> ConfigError:
    scheme, separator, _ = url.partition("://")
    shown = f"{scheme}://..." if separator else "what is given"
    return ConfigError(f"the policy cache: {shown} is no URL of one Redis server; write redis://HOST:PORT/DB")
