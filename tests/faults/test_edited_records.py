"""A record that somebody edited by hand, or that a newer version wrote: said in one line, left as it is; the others go on.

Past the package, as somebody with a client of the server's own does it; put back as it was, it is run like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from governor_agents.errors import GovernorError
from tests.faults.shop import Shop, said, working
from tests.servers import MongoServer, Process, RedisServer

pytestmark = pytest.mark.timeout(600)


class RedisHand:
    """A hash in Redis."""

    scheme = "redis://127.0.0.1:{}/0"

    def __init__(self, server: RedisServer, id: str) -> None:
        self._client = server.client()
        (self._key,) = self._client.keys(f"*:record:run:*:{id}")

    def read(self) -> dict[Any, Any]:
        found: dict[Any, Any] = self._client.hgetall(self._key)
        return found

    def write(self, fields: dict[Any, Any]) -> None:
        self._client.delete(self._key)
        self._client.hset(self._key, mapping=fields)

    def edits(self) -> dict[str, dict[Any, Any]]:
        now = self.read()
        return {
            "newer": {**now, b"body": newer(now[b"body"])},
            "text": {**now, b"body": b"edited"},
            "cut": {**now, b"body": now[b"body"][:-20]},
            "no version": {name: value for name, value in now.items() if name != b"v"},
            "no number": {**now, b"v": b"seven"},
            "no body": {name: value for name, value in now.items() if name != b"body"},
        }


class MongoHand:
    """A document in MongoDB."""

    scheme = "mongodb://127.0.0.1:{}/governor?directConnection=true&retryWrites=false"

    def __init__(self, server: MongoServer, id: str) -> None:
        self._documents = server.client().governor.ga_record
        self._id = id

    def read(self) -> dict[Any, Any]:
        found: dict[Any, Any] = self._documents.find_one({"kind": "run", "id": self._id})
        return found

    def write(self, fields: dict[Any, Any]) -> None:
        self._documents.replace_one({"_id": fields["_id"]}, fields)

    def edits(self) -> dict[str, dict[Any, Any]]:
        now = self.read()
        return {
            "newer": {**now, "body": newer(now["body"])},
            "text": {**now, "body": "edited"},
            "cut": {**now, "body": now["body"][:-20]},
            "no version": {name: value for name, value in now.items() if name != "v"},
            "no number": {**now, "v": "seven"},
            "no body": {name: value for name, value in now.items() if name != "body"},
            "no index": {**now, "index": 5},
            "another tenant": {**now, "tenant": "other"},
        }


def newer(body: bytes) -> bytes:
    """As a version of the far future would write it."""
    assert body.startswith(b'{"schema":2,')
    return body.replace(b'{"schema":2,', b'{"schema":999,', 1)


@dataclass(frozen=True)
class Place:
    """A server and how its records are edited."""

    server: Any
    hand: type[RedisHand] | type[MongoHand]

    @property
    def url(self) -> str:
        return self.hand.scheme.format(self.server.port)


KINDS: dict[str, tuple[Callable[[Path], Process], type[RedisHand] | type[MongoHand]]] = {
    "redis": (RedisServer, RedisHand),
    "mongodb": (MongoServer, MongoHand),
}


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One server for all of the module."""
    make, hand = KINDS[request.param]
    with make(tmp_path_factory.mktemp("server")) as server:
        yield Place(server, hand)


async def test_an_edited_record_is_left_alone_and_the_others_go_on(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """However it was edited: nothing of it runs, it is said, it stays as it is; put back as it was, it runs."""
    asker = Shop(place.url)
    edited: dict[str, tuple[str, dict[Any, Any], dict[Any, Any]]] = {}
    for number in count():
        run = await asker.approved(number)
        hand = place.hand(place.server, run)
        sound, edits = hand.read(), list(hand.edits().items())
        hand.write(edits[number][1])
        edited[run] = (edits[number][0], sound, hand.read())
        if number + 1 == len(edits):
            break
    shop = Shop(place.url)
    async with working(shop):
        assert (await shop.end(await asker.approved(100))).status == "completed"
        assert shop.ran[-1] == 100 and not set(shop.ran) & set(range(len(edited)))
        for run, (how, _, now) in edited.items():
            with pytest.raises(GovernorError) as refused:
                await shop.governor.get(run)
            assert "\n" not in str(refused.value), how
            assert place.hand(place.server, run).read() == now, (how, "it was touched")
        assert run not in {found.id for found in await shop.governor.list_runs(skipped=lambda line: None)}
        unreadable = [line for line in said(caplog) if any(run in line for run in edited)]
        assert unreadable and all("\n" not in line and len(line) < 500 for line in unreadable), unreadable
        assert not [line for line in said(caplog) if line.startswith("the store ")], "it is not the store's trouble"
        for run, (_, sound, _) in edited.items():
            place.hand(place.server, run).write(sound)
        for run in edited:
            assert (await shop.end(run)).status == "completed"
    assert sorted(shop.ran) == [*range(len(edited)), 100]
    await asker.governor.close()
    await shop.governor.close()
