"""Packing: long content lies compressed, everything comes back as it was, and nothing that was tampered with unfolds."""

import os
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from governor_agents.core.ports import Blob, Record
from governor_agents.errors import SnapshotError, StoreTooNew
from governor_agents.governor import Governor
from governor_agents.keys import Keys
from governor_agents.stores import packed
from governor_agents.stores.memory import MemoryStore
from governor_agents.stores.packed import LEAST, MARK, PLAIN, ZLIB, PackedStore, pack, unpack
from governor_agents.stores.sealed import SealedStore

LONG = b'{"role": "user", "content": "again and again"},' * 500
CONTENT = st.binary(max_size=200).flatmap(
    lambda some: st.sampled_from([some, MARK + some, PLAIN + some, ZLIB + some, some * 300, ZLIB + some * 300])
)


@pytest.fixture
async def under() -> AsyncIterator[MemoryStore]:
    store = MemoryStore("memory://")
    await store.open()
    yield store
    await store.close()


def comes_back(data: bytes, keep: "type[Keep]") -> bool:
    return keep.read(keep.write(data)) == data


class Keep:
    write, read = staticmethod(pack), staticmethod(unpack)


class WithoutEscape(Keep):
    """Broken: content that begins like a mark is stored as it is."""

    write = staticmethod(lambda data: packed_ if (packed_ := pack(data)).startswith(ZLIB) else data)


@given(CONTENT)
@example(LONG)
@example(ZLIB + zlib.compress(b"x"))
@example(MARK)
def test_whatever_is_packed_comes_back_as_it_was(data: bytes) -> None:
    """Also what begins like a mark of ours, and what looks as if it were packed already."""
    assert comes_back(data, Keep)
    assert len(pack(data)) <= len(data) + len(PLAIN)


def test_the_check_finds_a_store_that_does_not_escape() -> None:
    """The control: without the mark for plain content, content could be taken for packed content."""
    assert not comes_back(ZLIB + zlib.compress(b"x"), WithoutEscape)


async def test_long_content_lies_shorter_and_short_content_as_it_is(under: MemoryStore) -> None:
    """Bodies and blobs are packed from a few KiB on, where that is shorter; what is random stays as it is."""
    store, noise = PackedStore(under), os.urandom(2 * LEAST)
    blobs = [Blob("long", LONG), Blob("short", b"short"), Blob("noise", noise)]
    await store.insert(Record("run", "t", "r", LONG), op="1", blobs=blobs)
    lies = await under.load("run", "t", "r")
    assert lies is not None and lies.body.startswith(ZLIB) and len(lies.body) < len(LONG) / 10
    assert len(await under.blob("run", "t", "r", "long") or LONG) < len(LONG) / 10
    assert await under.blob("run", "t", "r", "short") == b"short"
    assert await under.blob("run", "t", "r", "noise") == noise
    for blob in blobs:
        assert await store.blob("run", "t", "r", blob.id) == blob.data
    found = [await store.load("run", "t", "r"), *await store.list("run", "t"), (await store.scan("run"))[0].record]
    assert [record and record.body for record in found] == [LONG, LONG, LONG]


async def test_rows_from_before_are_read_as_they_are(under: MemoryStore) -> None:
    """A store that was written without packing needs no migration; a row is packed when it is written again."""
    await under.insert(Record("run", "t", "r", LONG), op="1", blobs=[Blob("b", LONG)])
    store = PackedStore(under)
    old = await store.load("run", "t", "r")
    assert old is not None and old.body == LONG and await store.blob("run", "t", "r", "b") == LONG
    lost = await store.insert(Record("run", "t", "r", b"x"), op="2")
    assert lost.current is not None and lost.current.body == LONG
    await store.swap(old, op="3")
    again = await under.load("run", "t", "r")
    assert again is not None and again.body.startswith(ZLIB)


BAD = {
    "cut": (ZLIB + zlib.compress(LONG)[:-1], SnapshotError),
    "added to": (ZLIB + zlib.compress(LONG) + b"x", SnapshotError),
    "changed": (ZLIB + b"\x78\x01" + b"\xff" * 50, SnapshotError),
    "of a later version": (MARK + b"7:" + LONG, StoreTooNew),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_cannot_be_unpacked_is_refused_by_name_and_stops_no_list(name: str, under: MemoryStore) -> None:
    """One row that was damaged is refused where it is asked for; in a list the others are given beside it."""
    bad, error = BAD[name]
    await under.insert(Record("run", "t", "bad", bad), op="1", blobs=[Blob("b", bad)])
    store = PackedStore(under)
    await store.insert(Record("run", "t", "good", LONG), op="2")
    with pytest.raises(error, match="run bad: "):
        await store.load("run", "t", "bad")
    with pytest.raises(error, match="run bad: content b: "):
        await store.blob("run", "t", "bad", "b")
    assert [record.body for record in await store.list("run", "t")] == [bad, LONG]


async def test_a_bomb_does_not_eat_the_memory(under: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that unfolds to more than was ever packed is refused after that much, not after all of it."""
    most = 1024 * 1024
    monkeypatch.setattr(packed, "MOST", most)
    bomb = ZLIB + zlib.compress(bytes(40 * most), 9)
    await under.insert(Record("run", "t", "r", bomb), op="1")
    tracemalloc.start()
    try:
        with pytest.raises(SnapshotError, match="unfolds to more"):
            await PackedStore(under).load("run", "t", "r")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * most
    assert pack(bytes(2 * most)) == bytes(2 * most)  # and nothing is written that would not be read


async def test_what_a_governor_stores_is_packed_before_it_is_sealed(under: MemoryStore) -> None:
    """A sealed text does not compress, so the order matters."""
    governor = Governor(store=SealedStore(under, Keys.generate()))
    try:
        await governor.open()
        await governor.loop.bridge(governor.store.insert(Record("run", "default", "r", LONG), op="1"))
        lies = await governor.loop.bridge(under.load("run", "default", "r"))
        assert lies is not None and len(lies.body) < len(LONG) / 5
    finally:
        await governor.close()
