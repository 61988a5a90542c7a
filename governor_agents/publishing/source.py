"""`Published`: the policies in force by the store, as a process holds them.

Calls are decided by a copy in this process. It is brought up to date

* at once, when a publication is announced in the cache;
* every ``poll`` seconds, by a look at the store;
* right before each intent, and before each claim, by a look at the store (`Published.confirm`): no call of a durable
  run begins under policies that had been replaced before. It is not atomic with the intent, as with halts; but once
  this process has heard of a version, it writes no intent under an older one.

**When nobody answers.** A copy that the store has not confirmed for ``max_age`` seconds does not count any more, nor
does one of which the store names a newer version that cannot be used here. That is one more policy of the set, and it
fails: deny stays deny, everything else asks the default approvers, and denies when there are none
(``policies_stale``, ``policies_unavailable``). Nothing is allowed by it, and no intent is written.

**Versions go forward.** When the store names an older version than the one that is known, an old copy of it was put
back, or somebody rewrote it: that is not used (``policies_unavailable``) until the process starts anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from governor_agents.background import Background
from governor_agents.core.calls import Tool, ToolCall
from governor_agents.core.verdicts import Verdict
from governor_agents.errors import ConfigError, GovernorError, PoliciesUnavailable
from governor_agents.keys import Keys
from governor_agents.policies import PolicySet, Rule, RuleList
from governor_agents.policies.asks import draft
from governor_agents.policies.joined import Joined, Part
from governor_agents.policies.policyset import AnyPolicy, part
from governor_agents.policies.python import PythonPolicy
from governor_agents.publishing.cache import PolicyCache, cache_url
from governor_agents.publishing.published import Publication, Publications
from governor_agents.runs import Runs

log = logging.getLogger(__name__)

POLL = 5.0
MAX_AGE = 60.0

BLOCKED = 5.0
"""Seconds for which a call may wait for a copy, where there is none or an old one."""

PAUSE = 0.05
"""Seconds that a look keeps from the next: whoever floods the channel with announcements does not flood the store."""

NOTHING = "nothing is published in this store; governor-agents policy publish FILE"


class Published(PolicySet):
    """The policies that the governor's store has published, and ``policies`` of one's own beside them.

    ``cache`` is the URL of a Redis server (default ``$GOVERNOR_POLICY_CACHE``; without one there is no cache, and news
    come with the next look at the store). ``poll`` and ``max_age`` are seconds. One object belongs to one `Governor`,
    which starts it when it opens; a call that comes before waits a few seconds for the first copy. Raises
    `ConfigError`, `MissingExtra`.
    """

    def __init__(
        self,
        policies: Iterable[AnyPolicy | PythonPolicy] = (),
        *,
        cache: str | None = None,
        poll: float = POLL,
        max_age: float = MAX_AGE,
    ) -> None:
        if not (0 < poll < max_age and math.isfinite(max_age)):
            raise ConfigError(f"poll={poll} and max_age={max_age} must be seconds, the second greater than the first")
        self._own: list[Part] = [part(policy) for policy in policies]
        self._rules: Sequence[RuleList] = ()
        self._freshness = PythonPolicy(Freshness(self))
        super().__init__([self._freshness])
        self._cache_url = cache_url(cache)
        self._poll = poll
        self._max_age = max_age
        self._clock: Callable[[], float] = time.monotonic
        self._confirmed = self._tried = -math.inf
        self._trouble = ""
        self._seen = 0
        self.publication: Publication | None = None
        self._cache: PolicyCache | None = None
        self._publications: Publications | None = None
        self._loop: Background | None = None
        self._open: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._turn = threading.Lock()

    # -- with a governor --------------------------------------------------------------------------------------------

    def attach(
        self, runs: Runs, keys: Keys | None, loop: Background, open: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Belong to a governor. Raises `ConfigError` when it belongs to one already."""
        if self._publications is not None:
            raise ConfigError("these Published policies belong to another Governor; give each one of its own")
        self._publications = Publications(runs, self.directory)
        self._cache = PolicyCache(self._cache_url, runs.tenant, keys) if self._cache_url else None
        self._loop, self._open = loop, open

    def apart(self) -> Published:
        """The same policies for another governor: of its store, with one's own beside them."""
        return Published(self._own, cache=self._cache_url, poll=self._poll, max_age=self._max_age)

    def with_policies(self, *policies: AnyPolicy) -> Published:
        """The same, with more policies of one's own, for another governor."""
        return Published([*self._own, *policies], cache=self._cache_url, poll=self._poll, max_age=self._max_age)

    async def start(self) -> None:
        """Take the first copy, and keep it up to date from now on. On the governor loop; twice is fine."""
        with contextlib.suppress(GovernorError):
            await self.refresh()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        """End what `start` began. Twice is fine."""
        task, self._task = self._task, None
        while task is not None and not task.done():  # a client that connects may take a cancellation for its own
            task.cancel()
            await asyncio.wait([task], timeout=0.1)
        if self._cache is not None:
            await self._cache.close()

    # -- as a policy set --------------------------------------------------------------------------------------------

    def add_rule(self, **rule: Any) -> None:
        """Add a rule of one's own. Raises `ConfigError`; what it shares with published policies is seen with these."""
        added = RuleList([Rule(**rule)])
        with self._lock:
            if self.publication is not None:
                self._joined = self._whole(self._rules, [*self._own, added])
            self._own.append(added)

    def evaluate(self, call: ToolCall, tool: Tool | None = None) -> Verdict:
        """The verdict on a call; never raises. See the module for a copy that is old."""
        self._catch_up()
        return super().evaluate(call, tool)

    def tool(self, name: str) -> Tool:
        """What is declared of a tool."""
        self._catch_up()
        return super().tool(name)

    @property
    def version(self) -> str:
        """As of every policy set; another one while the copy is known not to be what the store names."""
        return f"{super().version}?" if self._trouble else super().version

    async def confirm(self) -> str:
        """The version in force by the store, now; this copy is of that version on return.

        Raises `StoreError` when the store does not say, or what it says cannot be used.
        """
        await self.refresh()
        return self.version

    def _whole(self, rules: Sequence[RuleList], own: Sequence[Part]) -> Joined:
        return self._join([*rules, *own, self._freshness])

    # -- how old the copy is ----------------------------------------------------------------------------------------

    def failing(self) -> tuple[str, str]:
        """Code and reason for which the copy does not count; empty when it does."""
        if self._trouble:
            return "policies_unavailable", self._trouble
        age = self._clock() - self._confirmed
        if age <= self._max_age:
            return "", ""
        since = f"for {age:.0f} s" if math.isfinite(age) else "yet"
        return "policies_stale", f"the store has not confirmed the published policies {since}"

    def _catch_up(self) -> None:
        """Wait for a copy when there is none or an old one, as after a process stood still. At most once a `poll`."""
        now = self._clock()
        if now - self._confirmed <= self._max_age or now - self._tried < self._poll:
            return
        loop, open = self._loop, self._open
        if loop is None or open is None or loop.here or not self._turn.acquire(blocking=False):
            return
        try:
            self._tried = now
            loop.call(self._bounded(open))
        except PoliciesUnavailable:
            return  # said already
        except (GovernorError, TimeoutError) as error:
            log.warning("the published policies cannot be had: %s", str(error) or "the store does not answer")
        finally:
            self._turn.release()

    async def _bounded(self, open: Callable[[], Awaitable[None]]) -> None:
        async with asyncio.timeout(BLOCKED):
            await open()
            await self.refresh()

    # -- bringing it up to date -------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            if self._cache is None:
                await asyncio.sleep(self._poll)
            else:
                await self._cache.heard(self._poll)
            try:
                await self.refresh()
            except GovernorError as error:  # what cannot be used was said; a store that is away is said by its users
                log.debug("the published policies were not looked at: %s", error)
            except Exception:
                log.exception("the published policies could not be looked at")
            await asyncio.sleep(PAUSE)

    async def refresh(self) -> None:
        """Bring the copy up to date with the store. On the governor loop.

        Raises `StoreError`; `PoliciesUnavailable` when what is published cannot be used.
        """
        if self._publications is None:
            raise PoliciesUnavailable("these Published policies belong to no Governor")
        before, began = self._seen, self._clock()
        try:
            found = self._not_older(await self._publications.current(), before)
            self._seen = max(self._seen, found.version)
            await self._take(found)
        except PoliciesUnavailable as error:
            self._complain(str(error))
            raise
        if found == self.publication and found.version == self._seen:
            self._confirmed = max(began, self._confirmed)
            self._trouble = ""
        if self._trouble:  # somebody else has seen a newer one, which cannot be used
            raise PoliciesUnavailable(self._trouble)

    def _not_older(self, found: Publication | None, before: int) -> Publication:
        """What the store names, unless it named something newer before this look began."""
        if found is None:
            raise PoliciesUnavailable("the store has lost its published policies" if before else NOTHING)
        known = self.publication
        if found.version < before or (known is not None and found.version == known.version and found != known):
            raise PoliciesUnavailable(
                f"the store names version {found.version} of its published policies, and has named version {before}: "
                "an older store was put back, or it was rewritten; start this process anew once you know why"
            )
        return found

    async def _take(self, found: Publication) -> None:
        """Put in force here what the store names, unless it is. Raises `PoliciesUnavailable`, `StoreError`."""
        if self.publication is not None and found.version <= self.publication.version:
            return
        rules = await asyncio.to_thread(self._parsed, found, await self._text(found))  # a long file takes a while
        with self._lock:
            if self.publication is None or found.version > self.publication.version:
                self._joined, self._rules, self.publication = self._joined_with(found, rules), rules, found
                log.info("published policies: version %d is in force (%s)", found.version, found.policy_version)

    async def _text(self, found: Publication) -> str:
        """The document, from the cache when it has it."""
        if self._publications is None:
            raise PoliciesUnavailable
        if self._cache is not None and (text := await self._cache.get(found.sha256)) is not None:
            return text
        text = await self._publications.text(found)
        if self._cache is not None:
            await self._cache.put(found.sha256, text)
        return text

    def _parsed(self, found: Publication, text: str) -> Sequence[RuleList]:
        from governor_agents.policies.file import read
        from governor_agents.policies.reading import Source

        try:
            source = Source("published", f"published policies, version {found.version}", text)
            return read([source], self.directory)
        except ConfigError as error:
            raise PoliciesUnavailable(str(error)) from None

    def _joined_with(self, found: Publication, rules: Sequence[RuleList]) -> Joined:
        try:
            return self._whole(rules, self._own)
        except ConfigError as error:
            raise PoliciesUnavailable(
                f"version {found.version} of the published policies does not fit the policies here: {error}"
            ) from None

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.error("%s", trouble)
        self._trouble = trouble


class Freshness:
    """The policy that speaks when the copy does not count: it asks, or denies where nobody is named."""

    name = "published"

    def __init__(self, published: Published) -> None:
        self._published = published

    def evaluate(self, call: ToolCall, tool: Tool) -> Verdict | None:
        """A demand while the copy does not count, nothing otherwise."""
        code, reason = self._published.failing()
        return draft({}, policy=self.name, code=code, reason=reason) if code else None
