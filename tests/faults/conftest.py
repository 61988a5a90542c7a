"""What the fault suites share: a fork server that has both frameworks loaded, one per test process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from governor_agents.background import Background
from tests.crash.forkserver import ForkServer
from tests.faults.replays import Table


@pytest.fixture(scope="session")
def fork_server() -> Iterator[tuple[Background, ForkServer]]:
    """The server, and the loop it is reached on."""
    loop = Background("fork-server")

    async def start() -> ForkServer:
        return await ForkServer("tests.faults.replays").__aenter__()

    server = loop.call(start())
    yield loop, server
    loop.call(server.__aexit__(None, None, None))
    loop.stop()


@pytest.fixture
def table(fork_server: tuple[Background, ForkServer], tmp_path: Path) -> Callable[[str], Table]:
    """Where cases are played, by the name of a store."""
    loop, server = fork_server
    return lambda store: Table(loop, server, tmp_path, store)
