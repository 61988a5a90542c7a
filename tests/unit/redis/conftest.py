"""A Redis server for each file, which may do to it what it likes."""

from collections.abc import Iterator

import pytest

from tests.servers import RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server of a file's own: its settings, users and connections are that file's."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server
