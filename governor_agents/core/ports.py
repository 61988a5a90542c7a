"""What a store, an adapter and a directory promise; the contracts of approval channels stand in `core.channels`.

Rules that bind all of them stand here as prose, because a plug-in written by somebody else must keep them too.

**Stores know records, not rules.** A store keeps bytes under (kind, tenant, id) with a version, and its one primitive
is compare-and-set. It never looks into a body. All rules live in pure functions over decoded records.

**Every write has an op id.** A store that answers "lost" may have won (the reply was dropped and the driver asked
again), so it keeps the last `OPS_KEPT` op ids of a record and answers "won" when it meets its own op again. An op that
is among them is never written a second time, and wins even after ``not_after``.

**Time is the store's.** ``now``, ``due`` and ``not_after`` use the store's clock, so that workers whose own clocks are
wrong agree. The clock never runs backwards, not even over a restart.

**A hint is not the truth.** ``wait`` may return early or late; ``due`` decides.

**A record owns its events and blobs.** They are written with it, found under it, copied with it and deleted with it;
nothing counts references.

**One place describes a store.** A driver is a class under one entry point, called with the URL; nothing else in the
package asks what kind of store it is. Beside the methods of `Store` a driver may have a static method
``missing(url) -> str``: why nothing can have been stored there yet (the file does not exist), or an empty text; and
``schema: int``, the number of the layout that `Store.open` leaves behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from governor_agents.core.calls import Json, Tool, ToolCall

# For plug-ins that look for the contracts of channels here, where all stood once.
from governor_agents.core.channels import Card as Card
from governor_agents.core.channels import Cards as Cards
from governor_agents.core.channels import Desk as Desk
from governor_agents.core.channels import Handler as Handler
from governor_agents.core.channels import Place as Place
from governor_agents.core.channels import Token as Token
from governor_agents.core.channels import Tokens as Tokens
from governor_agents.core.identity import Person
from governor_agents.core.records import Call

KINDS = frozenset({"audit", "card", "counter", "grant", "halt", "keys", "policy", "run", "thread", "token", "worker"})
"""The kinds of record there are."""

INDEX_FIELDS = frozenset({"state", "agent", "requester", "conversation", "pending", "changed"})
"""What records may be listed by. The list is closed, so that no caller's words become part of a query."""

OPS_KEPT = 32
"""How many op ids a record remembers."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a store keeps. ``v`` counts writes, from 1; ``due`` is epoch seconds, None when nothing is to be done."""

    kind: str
    tenant: str
    id: str
    body: bytes = field(repr=False)
    index: Mapping[str, str] = field(default_factory=dict)
    due: float | None = None
    v: int = 0


Records = list[Record]


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One audit event of a record: its place in the record's own sequence, from 1, and its bytes."""

    seq: int
    body: bytes = field(repr=False)


Events = list[StoredEvent]


@dataclass(frozen=True, slots=True)
class Blob:
    """Content under its digest, owned by the record it is written with. Equal ids mean equal content."""

    id: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Swapped:
    """The answer of a write.

    ``won``: the write stands (now, or by this same op earlier). ``current``: the record as it stands when the write
    lost, None when there is none. ``late``: the version was right, but ``not_after`` had passed.
    """

    won: bool
    v: int = 0
    current: Record | None = None
    late: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """A record and the ids of the blobs that it owns, in order."""

    record: Record
    blobs: tuple[str, ...] = ()


@runtime_checkable
class Store(Protocol):
    """Where records live. All methods are coroutines on one event loop; errors are `StoreError` and its children.

    A write (``insert``, ``swap``) is one atomic, durable unit of record, events and blobs: when it returns, all of it
    survives a crash of any process; when it raises or loses, none of it is there. The exception is `StoreUnavailable`,
    from a server that did not answer: the write may stand, and is sent again under its op id. `ValueError` for a kind,
    index field, id or ``due`` that cannot be, `StoreError` for an event whose seq exists. (A store that cannot put
    blobs into the same unit writes them durably *before* the record.) Records of one tenant are invisible to another.
    """

    url: str
    """The URL that opens this store again, in any process."""

    shared: bool
    """True when other processes can open the same URL and see the same records."""

    async def open(self) -> None:
        """Connect; create or migrate the schema. Twice is fine.

        Raises `StoreTooNew`, `StoreUnavailable`, and `UnsafeStore` when ``check`` finds something and the URL does not
        say ``unsafe=allow``.
        """
        ...

    async def close(self) -> None:
        """Let go of everything. Twice is fine."""
        ...

    async def check(self) -> list[str]:
        """One line per setting that could lose an acknowledged write; empty when all is safe."""
        ...

    async def now(self) -> float:
        """The store's clock, epoch seconds. Never smaller than any earlier answer of this store."""
        ...

    async def insert(
        self, record: Record, *, op: str, events: Sequence[StoredEvent] = (), blobs: Sequence[Blob] = ()
    ) -> Swapped:
        """Write a record that must not exist yet. Lost when one exists, unless this op is among its kept ops.

        It gets v=1, or ``record.v`` when that is not 0: a copy keeps the version of what it was copied from.
        """
        ...

    async def load(self, kind: str, tenant: str, id: str) -> Record | None:
        """The record, or None."""
        ...

    async def swap(
        self,
        record: Record,
        *,
        op: str,
        events: Sequence[StoredEvent] = (),
        blobs: Sequence[Blob] = (),
        not_after: float | None = None,
    ) -> Swapped:
        """Replace the record whose stored version is ``record.v``; the new version is ``record.v + 1``.

        Lost when the stored version differs (unless ``op`` is among its kept ops: then won, with the version as it
        stands now), when there is no such record, or when ``not_after`` lies before the store's clock.
        """
        ...

    async def delete(self, kind: str, tenant: str, id: str, v: int) -> bool:
        """Remove the record at this version, with its events and blobs. False when it stands at another version.

        True when there is none (any more): asked again because an answer was lost, the answer is the same.
        """
        ...

    async def due(
        self, kind: str, tenant: str, *, limit: int = 100, after: tuple[float, str] | None = None
    ) -> list[Record]:
        """Records whose ``due`` has come by the store's clock, by (due, id). ``after`` continues behind a row."""
        ...

    async def scan(self, kind: str, *, limit: int = 100, after: tuple[str, str] | None = None) -> list[Held]:
        """Every record of a kind, of all tenants, by (tenant, id); ``after`` continues behind one.

        For work on a whole store (copies, exports, statistics) while nothing runs. No tenant's request may reach it.
        """
        ...

    async def list(
        self, kind: str, tenant: str, where: Mapping[str, str] | None = None, *, limit: int = 100, after: str = ""
    ) -> Records:
        """Records whose index fields equal ``where``, newest id last, by id; ``after`` continues behind an id.

        Raises `ValueError` for a field that is not in `INDEX_FIELDS`.
        """
        ...

    async def blob(self, kind: str, tenant: str, id: str, digest: str) -> bytes | None:
        """The content that this record owns under this digest, or None."""
        ...

    async def events(self, kind: str, tenant: str, id: str, *, after: int = 0, limit: int = 1000) -> Events:
        """The record's events with seq > after, in order."""
        ...

    async def wait(self, timeout: float) -> bool:
        """Return True soon after somebody (any process) wrote, False after ``timeout`` seconds. A hint only.

        Writes between two calls of ``wait`` on the same store object must wake the second call at once. One waiter at a
        time per object, a second raises `StoreError`; closing the store ends it with False.
        """
        ...

    async def add_below(self, tenant: str, id: str, amount: int, limit: int, *, op: str) -> int | None:
        """Atomically add to a counter unless the sum would exceed ``limit``. The new sum, or None when refused.

        The counter is the record ("counter", tenant, id), whose body is the sum in decimal digits. An op that is among
        those it keeps is not added again: the answer is the sum as it stands.
        """
        ...


Emit = Callable[[Any], Awaitable[None]]
"""Takes the framework's own streaming events, one by one."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of an agent loop, as it came to rest.

    Either the loop ended (``ended``, with its ``output`` as plain JSON), or it paused: ``snapshot`` is what the
    framework needs to go on, ``pending`` the calls that wait, in the order of the model's message.
    """

    ended: bool
    output: Json = field(default=None, repr=False)
    snapshot: bytes = field(default=b"", repr=False)
    pending: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Captured:
    """A pause of the user's own loop, ready to become a record. ``agent`` is the root agent's name.

    ``run`` and ``fence`` name the claim of a run that has a record already (a thread of our LangGraph saver).
    """

    agent: str
    segment: Segment
    conversation: str = ""
    run: str = ""
    fence: int = 0


@runtime_checkable
class Adapter(Protocol):
    """Plugs one agent framework in.

    The framework runs in the caller's loop, under the current claim (`governor_agents.claims.current_claim`). Tools
    reach people only through the guard. ``start`` and ``resume`` return when the loop ended or paused; what the
    framework raises they let through. A pause must be resumable in another process from ``snapshot`` and the decided
    calls alone.
    """

    name: str
    framework: str
    """Name and version of the framework, such as ``openai-agents 0.24.0``; stored with each snapshot."""
    replays: bool
    """True when the framework itself keeps what models answer, so that a stretch that died goes on with its call ids.

    An adapter without this records responses (`governor_agents.responses`), and is given them back after a crash.
    """

    def prepare(self, agent: Any) -> Any:
        """Govern what a factory returned; the agent to run. Raises `UngovernedTool`."""
        ...

    async def start(
        self,
        agent: Any,
        input: Json,
        *,
        calls: Sequence[Call] = (),
        context: Json = None,
        options: Mapping[str, Any],
        emit: Emit | None = None,
    ) -> Segment:
        """Begin a loop. ``options`` are what the factory returned beside the agent.

        ``calls`` are those the run has already, when a worker died before the first pause.
        """
        ...

    async def resume(
        self,
        agent: Any,
        snapshot: bytes,
        calls: Sequence[Call],
        *,
        context: Json = None,
        options: Mapping[str, Any],
        emit: Emit | None = None,
    ) -> Segment:
        """Go on from a pause. ``calls`` are the run's calls as decided; the guard answers or runs each of them."""
        ...

    async def capture(self, paused: Any, **where: Any) -> Captured | None:
        """What a pause of the user's own loop needs to become a record; None when nothing waits."""
        ...

    async def close(self, agent: Any, snapshot: bytes, calls: Sequence[Call]) -> None:
        """Give pending calls an answer in the framework's own history, when the run was superseded."""
        ...

    def inventory(self, agent: Any) -> list[Tool]:
        """Every tool the agent can reach, governed or not."""
        ...

    def fingerprint(self, agent: Any) -> str:
        """A hash of what must be the same when a snapshot is resumed: agents, tools, schemas."""
        ...


@runtime_checkable
class Directory(Protocol):
    """Who people are. Asked anew for each decision, so that somebody who left cannot decide any more.

    Every method raises `DirectoryUnreadable` when nobody can say; then nobody is identified. Called from any thread.
    """

    def person(self, address: str) -> Person | None:
        """The person with this id or address, None when there is none. An address belongs to one person."""
        ...

    def members(self, name: str) -> tuple[str, ...] | None:
        """The ids of the people in ``group:NAME`` or with ``role:NAME``; None when there is no such group or role."""
        ...

    def stands_for(self, id: str, now: float) -> tuple[str, ...]:
        """The ids of those who are away at ``now`` (epoch seconds) and whose substitute this person is."""
        ...

    def coordinator(self, id: str) -> bool:
        """True when this person may hand somebody's request to somebody else (and decides nothing by that)."""
        ...
