"""A LangGraph checkpoint saver over a governor's store: the conversation lies where its runs lie.

JSON of a closed list of types, no pickle, nothing revived by name. A worker whose claim is over cannot write. Under a
claim the first checkpoints of a loop, and what tasks wrote between two checkpoints, become durable together with the
next checkpoint: everything that they stand for can be made again from the run's record and its journal.

What it does not do: ``durability="exit"`` opens no run for a loop of one's own (it saves no checkpoint of its input).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT

from governor_agents.adapters.langchain.entries import Entry, Found, Place, Saved, Written
from governor_agents.adapters.langchain.loops import AGENT, Loop, has_ended
from governor_agents.adapters.langchain.output import answer
from governor_agents.adapters.langchain.threads import Threads
from governor_agents.adapters.langchain.values import MARK, Serde, Values, parse
from governor_agents.claims import Claim, current_claim
from governor_agents.core.calls import Json
from governor_agents.core.sizes import Part, heaviest, size_of, too_large
from governor_agents.errors import ConfigError, GovernorError, SnapshotError, SnapshotTooLarge

if TYPE_CHECKING:
    from governor_agents.adapters.langchain.adapter import LangChainAdapter
    from governor_agents.governor import Governor

RUN = "governor_run"
"""The metadata key under which a checkpoint names the run that made it."""

_SOURCE_NODE = "__error_source_node__"


@dataclass(frozen=True, slots=True)
class _Saving:
    """A checkpoint on its way: under whose claim, which loop it opens or ends, whether it waits for the next one."""

    place: Place
    given: RunnableConfig
    checkpoint: Checkpoint
    metadata: dict[str, Any]
    saved: Saved
    driver: Claim | None
    own: bool
    opens: Loop | None
    ends: bool
    waits: bool

    @property
    def config(self) -> RunnableConfig:
        """What names the checkpoint."""
        return _config(self.place, self.saved.id)


class GovernorSaver(BaseCheckpointSaver[int]):
    """Keeps LangGraph threads in the governor's store.

    ``agent`` names the runs that ``graph.invoke`` opens on a thread (default: the name given to ``create_agent``): the
    factory registered under that name resumes them. ``types`` are pydantic models, dataclasses and enums that the
    graph's state may hold beside plain data and messages. ``configurable: {"requester": ...}`` says who asks.
    """

    def __init__(self, governor: Governor, *, agent: str = "", types: Iterable[type] = ()) -> None:
        self.governor = governor
        self.agent = agent
        self.values = Values(types)
        self._primed: dict[str, tuple[Claim, CheckpointTuple | None]] = {}
        super().__init__(serde=Serde(self.values))

    @property
    def shared(self) -> LangChainAdapter:
        """What all savers of one governor share."""
        return cast("LangChainAdapter", self.governor.adapter("langchain"))

    @property
    def threads(self) -> Threads:
        """The threads in the store."""
        return self.shared.threads

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> GovernorSaver:
        """This saver: its list of types is closed already."""
        return self

    # -- put --------------------------------------------------------------------------------------------------------

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint. Raises `SnapshotError` for a value that is not stored, `Fenced` without a claim.

        `SnapshotTooLarge` for one that is larger than the governor's limit: that ends the run.
        """
        saving = self._saving(config, checkpoint, metadata)
        return saving.config if saving.waits else self.governor.loop.call(self._put(saving))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint. Raises `SnapshotError` for a value that is not stored, `Fenced` without a claim."""
        saving = self._saving(config, checkpoint, metadata)
        return saving.config if saving.waits else await self.governor.loop.bridge(self._put(saving))

    def _saving(self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata) -> _Saving:
        """Make JSON of a checkpoint; under a driver, the first ones of a loop wait for what follows."""
        driver, place, running = current_claim(), _place(config), _running(config)
        begins = running and metadata.get("source") == "input"
        own = running and driver is None
        stored = self.values.dumps(dict(checkpoint), "checkpoint")
        if (size := size_of(stored)) > self.governor.max_snapshot:
            parts = heaviest(_root(parse(stored)), declared=1, bare=_bare)
            self._refuse(size, parts, place, "the checkpoint", own=own, begins=begins)
        opens = self.shared.loops.begin(place.thread) if begins and own and not place.ns else None
        parent = config["configurable"].get("checkpoint_id") or ""
        saving = _Saving(
            place,
            config,
            checkpoint,
            cast(dict[str, Any], get_checkpoint_metadata(config, metadata)),
            Saved(checkpoint["id"], parent, stored, "{}", initial=begins),
            driver,
            own=own,
            opens=opens,
            ends=own and not place.ns and metadata.get("source") == "loop" and has_ended(checkpoint),
            waits=driver is not None and running and (begins or self.threads.waits_for(place, parent)),
        )
        if saving.waits:
            self.threads.later(place, self._entry(saving, driver))
        return saving

    def _entry(self, saving: _Saving, claim: Claim | None) -> Entry:
        metadata = saving.metadata if claim is None else {**saving.metadata, RUN: claim.run}
        return Entry(replace(saving.saved, metadata=self.values.dumps(metadata, "metadata")), saving.driver, saving.own)

    async def _put(self, saving: _Saving) -> RunnableConfig:
        await self.governor.open()
        place, loops = saving.place, self.shared.loops
        if saving.opens is not None:
            try:
                claim = await loops.open(saving.opens, *self._who(saving.given))
            except BaseException:
                self.threads.drop(place, saving.saved.id)
                raise
            self.threads.later(place, self._entry(saving, claim))
            return saving.config
        claim_now = await loops.claimed(place.thread) if saving.own else saving.driver
        await self.threads.add(place, self._entry(saving, claim_now))
        if saving.ends:
            await loops.finish(place.thread, output=answer(saving.checkpoint["channel_values"]))
        return saving.config

    def _who(self, config: RunnableConfig) -> tuple[str, str]:
        """Agent and requester of a run that an input opens."""
        named = self.agent or str((config.get("metadata") or {}).get("lc_agent_name") or AGENT)
        return named, str(config["configurable"].get("requester") or "")

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task wrote. Raises `SnapshotError`, `Fenced`."""
        entry, waits = self._written(config, writes, task_id, task_path)
        if not waits:
            self.governor.loop.call(self._put_writes(_place(config), entry))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task wrote. Raises `SnapshotError`, `Fenced`."""
        entry, waits = self._written(config, writes, task_id, task_path)
        if not waits:
            await self.governor.loop.bridge(self._put_writes(_place(config), entry))

    def _written(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> tuple[Entry, bool]:
        """Make JSON of writes; under a driver they wait for the next checkpoint, or for the end of its stretch."""
        items = tuple(
            (WRITES_IDX_MAP.get(channel, at), channel, self.values.dumps(value, channel))
            for at, (channel, value) in enumerate(writes)
        )
        driver, running = current_claim(), _running(config)
        if (size := sum(size_of(value) for _, _, value in items)) > self.governor.max_snapshot:
            parts = heaviest({channel: parse(value) for _, channel, value in items}, declared=1, bare=_bare)
            self._refuse(size, parts, _place(config), "what a task wrote", own=running and driver is None)
        written = Written(config["configurable"]["checkpoint_id"], task_id, task_path, items)
        entry = Entry(written, driver, own=running and driver is None)
        special = any(channel in WRITES_IDX_MAP for channel, _ in writes)
        waits = running and (driver is not None or not special)
        if waits:
            self.threads.later(_place(config), entry)
        return entry, waits

    def _refuse(
        self, size: int, parts: list[Part], place: Place, what: str, *, own: bool, begins: bool = False
    ) -> NoReturn:
        """Nothing of it is stored. It ends a loop of one's own here, as FAILED; under a driver the driver does."""
        error = too_large(f"{what} of thread {place.thread}", size, self.governor.max_snapshot, parts)
        if own and begins and not place.ns:  # its run is not open yet: the loop's first tool hears of it, and stops it
            self.shared.loops.begin(place.thread).opened.set_exception(error)
        elif own:
            self.governor.loop.call(self._end(place.thread, error))
        raise error

    async def _end(self, thread: str, error: SnapshotTooLarge) -> None:
        with contextlib.suppress(GovernorError):  # what kept its run from being opened, or from being ended now
            await self.shared.loops.claimed(thread)
            await self.shared.loops.finish(thread, error=f"{type(error).__name__}: {error}")

    async def _put_writes(self, place: Place, entry: Entry) -> None:
        await self.governor.open()
        await self.threads.add(place, entry)
        if not entry.own or place.ns or not isinstance(entry.what, Written):
            return
        stored = {channel: value for _, channel, value in entry.what.items}
        if INTERRUPT in stored:
            self.shared.loops.paused(place.thread)
        if ERROR in stored and _SOURCE_NODE not in stored:
            await self.shared.loops.finish(place.thread, error=str(self.values.loads(stored[ERROR])))

    # -- get --------------------------------------------------------------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that ``config`` names, else the newest of its thread and namespace."""
        if (primed := self._take_primed(config)) is not None:
            return primed[0]
        found = self.governor.loop.call(self._find(config))
        return None if found is None else self._tuple(found)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that ``config`` names, else the newest of its thread and namespace."""
        if (primed := self._take_primed(config)) is not None:
            return primed[0]
        found = await self.governor.loop.bridge(self._find(config))
        return None if found is None else self._tuple(found)

    def prime(self, thread: str, claim: Claim, head: CheckpointTuple | None) -> None:
        """What the driver has just read of a thread: the loop that it starts need not read it again."""
        self._primed[thread] = (claim, head)

    def _take_primed(self, config: RunnableConfig) -> tuple[CheckpointTuple | None] | None:
        if (
            not self._primed
            or config["configurable"].get("checkpoint_id")
            or config["configurable"].get("checkpoint_ns")
        ):
            return None
        claim, head = self._primed.pop(str(config["configurable"]["thread_id"]), (None, None))
        return (head,) if claim is not None and claim is current_claim() and _running(config) else None

    async def _find(self, config: RunnableConfig) -> Found | None:
        await self.governor.open()
        place, id = _place(config), config["configurable"].get("checkpoint_id")
        if not id:
            return await self.threads.newest(place)
        async for found in self.threads.scan(place):
            if found.id == id:
                return found
        return None

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, the newest first within each namespace."""
        for found in await self.governor.loop.bridge(self._matching(config, filter or {}, before, limit)):
            yield self._tuple(found)

    async def _matching(
        self,
        config: RunnableConfig | None,
        wanted: Mapping[str, Any],
        before: RunnableConfig | None,
        limit: int | None,
    ) -> list[Found]:
        await self.governor.open()
        conf = config["configurable"] if config else {}
        if "checkpoint_ns" in conf:
            places = [Place(str(conf["thread_id"]), conf["checkpoint_ns"])]
        else:
            places = await self.threads.places(str(conf["thread_id"]) if conf else None)
        end = before["configurable"].get("checkpoint_id") if before else None
        matching: list[Found] = []
        for place in places:
            async for found in self.threads.scan(place):
                if limit is not None and len(matching) >= limit:
                    return matching
                if conf.get("checkpoint_id") not in (None, found.id) or (end and found.id >= end):
                    continue
                metadata = self._mapping(found.metadata)
                if all(metadata.get(key) == value for key, value in wanted.items()):
                    matching.append(found)
        return matching

    def _tuple(self, found: Found) -> CheckpointTuple:
        ordered = sorted(found.writes.items(), key=lambda item: (item[1][0], *item[0]))
        return CheckpointTuple(
            config=_config(found.place, found.id),
            checkpoint=cast(Checkpoint, self._mapping(found.checkpoint)),
            metadata=cast(CheckpointMetadata, self._mapping(found.metadata)),
            parent_config=_config(found.place, found.parent) if found.parent else None,
            pending_writes=[(task, channel, self.values.load(value)) for (task, _), (_, channel, value) in ordered],
        )

    def _mapping(self, stored: Json) -> dict[str, Any]:
        value = self.values.load(stored)
        if not isinstance(value, dict):
            raise SnapshotError("a stored checkpoint is not readable: it has not the shape of one")
        return value

    # -- remove and copy --------------------------------------------------------------------------------------------

    def delete_thread(self, thread_id: str) -> None:
        """Remove a thread."""
        self.governor.loop.call(self._opened(self.threads.delete(str(thread_id))))

    async def adelete_thread(self, thread_id: str) -> None:
        """Remove a thread."""
        await self.governor.loop.bridge(self._opened(self.threads.delete(str(thread_id))))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints of LangGraph runs (``run_id`` in their metadata)."""
        self.governor.loop.call(self._delete_for_runs(run_ids))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints of LangGraph runs (``run_id`` in their metadata)."""
        await self.governor.loop.bridge(self._delete_for_runs(run_ids))

    async def _delete_for_runs(self, run_ids: Sequence[str]) -> None:
        gone = set(run_ids)
        if gone:
            await self._opened(self.threads.keep(None, lambda _, metadata, newest: metadata.get("run_id") not in gone))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread under another id."""
        self.governor.loop.call(self._opened(self.threads.copy(str(source_thread_id), str(target_thread_id))))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread under another id."""
        await self.governor.loop.bridge(self._opened(self.threads.copy(str(source_thread_id), str(target_thread_id))))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Remove all but the newest checkpoint of each namespace (``keep_latest``), or everything (``delete``)."""
        self.governor.loop.call(self._prune(thread_ids, strategy))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Remove all but the newest checkpoint of each namespace (``keep_latest``), or everything (``delete``)."""
        await self.governor.loop.bridge(self._prune(thread_ids, strategy))

    async def _prune(self, thread_ids: Sequence[str], strategy: str) -> None:
        if strategy not in ("keep_latest", "delete"):
            raise ConfigError(f"unknown strategy {strategy!r}; use keep_latest or delete")
        for thread in thread_ids:
            if strategy == "delete":
                await self._opened(self.threads.delete(str(thread)))
            else:
                await self._opened(self.threads.keep(str(thread), _newest))

    async def _opened(self, work: Any) -> None:
        await self.governor.open()
        await work

    # -- last, because from here on `list` means this method --------------------------------------------------------

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, the newest first within each namespace."""
        for found in self.governor.loop.call(self._matching(config, filter or {}, before, limit)):
            yield self._tuple(found)


def _root(checkpoint: Json) -> Json:
    """Where the graph's own names begin."""
    return checkpoint.get("channel_values") if isinstance(checkpoint, dict) else checkpoint


def _bare(value: Json) -> Json:
    """What a mark of `Values` holds."""
    marked = value.get(MARK) if isinstance(value, dict) and len(value) == 1 else None
    return marked[-1] if isinstance(marked, list) and marked else value


def _newest(place: Place, metadata: Json, newest: bool) -> bool:
    if newest and metadata.get("counters_since_delta_snapshot"):
        raise SnapshotError(f"thread {place.thread} is rebuilt from its older checkpoints; it cannot be pruned")
    return newest


def _place(config: RunnableConfig) -> Place:
    conf = config["configurable"]
    return Place(str(conf["thread_id"]), conf.get("checkpoint_ns") or "")


def _running(config: RunnableConfig) -> bool:
    """True when a running graph calls, not somebody who edits or copies a thread."""
    return any(key.startswith("__pregel_") for key in config["configurable"])


def _config(place: Place, id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": place.thread, "checkpoint_ns": place.ns, "checkpoint_id": id}}
