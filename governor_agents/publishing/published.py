"""What a store has published: one policy document per tenant, its versions, and who put them in force.

The record ``current`` of the kind ``policy`` says which document is in force: its version, its SHA-256, who published
it, when and why. The document is a blob of that record, as is every earlier one. A publication is one
compare-and-set, with its audit event in the same write, and its version is the number of that event: 1, 2, 3, without
gaps and never twice.

A record that cannot be read means that nobody knows what is in force, never that nothing is. The next publication
writes it anew, behind its events, and its event says so.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from pydantic import TypeAdapter, ValidationError

from governor_agents.audit import chain
from governor_agents.audit.reading import POLICIES, end_of, events_of
from governor_agents.core.calls import CLOSED, sha256
from governor_agents.core.codec import was_refused
from governor_agents.core.ports import Blob, Directory, Record
from governor_agents.core.records import evolve
from governor_agents.crash import crash_point
from governor_agents.errors import (
    ConfigError,
    NotFound,
    PoliciesUnavailable,
    SealBroken,
    SnapshotError,
    StoreUnavailable,
)
from governor_agents.policies import PolicySet
from governor_agents.runs import Runs, sent

PUBLISHED = "policy.published"
"""The audit event of a publication."""

UNREADABLE = "the record of the published policies cannot be read; publish them anew"

RENAMED = "publish it anew with another comment in it, since stores keep what they have under a hash"

MAX_TRIES = 100


@dataclass(frozen=True, slots=True)
class Publication:
    """One version of the published policies, without its text.

    ``policy_version`` is what verdicts and approvals name as their policy's version; two texts that differ in comments
    only have the same. ``at`` is epoch seconds by the store's clock, ``size`` bytes.
    """

    __pydantic_config__ = CLOSED

    version: int
    sha256: str
    policy_version: str
    size: int
    by: str
    at: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """What is in force for one tenant; ``seq`` and ``chain`` are the head of its audit events."""

    __pydantic_config__ = CLOSED

    tenant: str
    id: str = POLICIES
    seq: int = 0
    chain: str = ""
    current: Publication | None = None
    unreadable: bool = False


_RECORD: TypeAdapter[PolicyRecord] = TypeAdapter(PolicyRecord)
_PUBLICATION: TypeAdapter[Publication] = TypeAdapter(Publication)


class Publications:
    """The published policies of one tenant. Its coroutines run on the governor loop.

    ``directory`` is where the people and groups that a document names are looked up.
    """

    def __init__(self, runs: Runs, directory: Directory | None = None) -> None:
        self._runs = runs
        self._store = runs.store
        self._tenant = runs.tenant
        self._directory = directory

    # -- reading ----------------------------------------------------------------------------------------------------

    async def current(self) -> Publication | None:
        """What is in force by the store now, None when nothing was published.

        Raises `StoreError`; `PoliciesUnavailable` when the record cannot be read.
        """
        try:
            record = (await self._load())[1]
        except SnapshotError as error:
            raise PoliciesUnavailable(f"{UNREADABLE} ({error})") from None
        if record.unreadable:
            raise PoliciesUnavailable(UNREADABLE)
        return record.current

    async def text(self, publication: Publication) -> str:
        """The document of a publication. Raises `StoreError`, `PoliciesUnavailable` when it is not the one."""
        where = f"the document of the published policies, version {publication.version},"
        try:
            data = await self._store.blob("policy", self._tenant, POLICIES, publication.sha256)
            if data is None or sha256(data) != publication.sha256:
                trouble = "missing; publish it anew" if data is None else f"changed; {RENAMED}"
                raise PoliciesUnavailable(f"{where} is {trouble}")
            return data.decode()
        except (SnapshotError, UnicodeDecodeError) as error:
            raise PoliciesUnavailable(f"{where} cannot be read; {RENAMED} ({error})") from None

    async def history(self) -> list[Publication]:
        """Every publication, the oldest first. Raises `StoreError`, `SnapshotError` for an unreadable event."""
        events = chain.read(await events_of(self._store, "policy", self._tenant, POLICIES))
        return [_publication(line) for line in events]

    async def find(self, version: int) -> Publication:
        """The publication of this version. Raises `NotFound`, and what `history` raises."""
        found = await self.history()
        for publication in found:
            if publication.version == version:
                return publication
        known = f"the last one is {found[-1].version}" if found else "nothing was published"
        raise NotFound(f"no version {version} of the published policies (in tenant {self._tenant}): {known}")

    # -- publishing -------------------------------------------------------------------------------------------------

    async def publish(
        self, text: str, *, by: str, note: str = "", name: str = "policy.yaml", expect: int | None = None
    ) -> Publication:
        """Put a document in force for every process on the store; what is in force already is not published again.

        ``name`` is what the text is called in messages. ``expect`` is the version that it was written to follow: when
        another one is in force, nothing is published. Raises `PolicyFileError`, `ConfigError`, `StoreError`.
        """
        data = text.encode()
        version = PolicySet.from_text(text, name, directory=self._directory).version
        made = Publication(0, sha256(data), version, len(data), by, 0.0, note)
        op = secrets.token_hex(8)
        for _ in range(MAX_TRIES):
            v, stands = await self._load_to_change()
            if expect is not None and stands.seq != expect:
                raise ConfigError(f"version {stands.seq} is in force, not {expect}: look at it, then publish again")
            if (
                stands.current is not None
                and stands.current.sha256 == made.sha256
                and await self._whole(stands.current)
            ):
                return stands.current
            made = evolve(made, version=stands.seq + 1, at=await self._store.now())
            if await self._write(v, stands, made, Blob(made.sha256, data), op):
                return made
        raise StoreUnavailable(f"the published policies changed {MAX_TRIES} times while one was tried; try again")

    async def _whole(self, publication: Publication) -> bool:
        """False when its document was lost: then the same text is published anew."""
        try:
            await self.text(publication)
        except PoliciesUnavailable:
            return False
        return True

    async def _write(self, v: int, stands: PolicyRecord, made: Publication, document: Blob, op: str) -> bool:
        line = {"what": PUBLISHED, "policies": POLICIES, **asdict(made)}
        if stands.unreadable:
            line["anew"] = UNREADABLE
        seq, head, events = chain.extend([line], stands.seq, stands.chain, self._runs.audit_key)
        written = evolve(stands, seq=seq, chain=head, current=made, unreadable=False)
        record = Record("policy", self._tenant, POLICIES, _RECORD.dump_json(written), v=v)
        crash_point(f"{PUBLISHED}:before")
        write = self._store.swap if v else self._store.insert
        won = (await sent(partial(write, record, op=op, events=events, blobs=(document,)))).won
        if won:
            crash_point(f"{PUBLISHED}:after")
        return won

    # -- the record -------------------------------------------------------------------------------------------------

    async def _load(self) -> tuple[int, PolicyRecord]:
        """Version and record. Raises `StoreError`, `SealBroken` when the seal of the record is broken."""
        record = await self._store.load("policy", self._tenant, POLICIES)
        if record is None:
            return 0, PolicyRecord(self._tenant)
        try:
            found = _RECORD.validate_json(record.body)
        except ValidationError:
            return record.v, await self._lost()
        good = (found.tenant, found.id) == (self._tenant, POLICIES) and not found.unreadable
        good = good and found.current is not None and found.current.version == found.seq
        return record.v, found if good else await self._lost()

    async def _lost(self) -> PolicyRecord:
        """A record that cannot be read, with the head of its events, so that they go on where they ended."""
        seq, head = await end_of(self._store, "policy", self._tenant, POLICIES)
        return PolicyRecord(self._tenant, seq=seq, chain=head, unreadable=True)

    async def _load_to_change(self) -> tuple[int, PolicyRecord]:
        """The same, also when the seal of the record is broken: its version stands in clear. Raises `StoreError`."""
        try:
            return await self._load()
        except SealBroken:
            found = next(iter(await self._store.list("policy", self._tenant)), None)
            if found is None or not was_refused(found.body):  # somebody else has just written it anew
                return await self._load()
            return found.v, await self._lost()


def _publication(line: Mapping[str, Any]) -> Publication:
    """What an event tells of. Raises `PoliciesUnavailable` for one that tells of none."""
    try:
        return _PUBLICATION.validate_python({name: line[name] for name in _FIELDS})
    except (KeyError, ValidationError):
        raise PoliciesUnavailable(f"event {line.get('seq')} of the published policies is none of theirs") from None


_FIELDS = ("version", "sha256", "policy_version", "size", "by", "at", "note")
