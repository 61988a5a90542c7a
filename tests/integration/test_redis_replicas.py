"""``min_replicas``: an intent that too few replicas have is none, and the tool is not begun."""

import contextlib
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor
from governor_agents.core.calls import ToolCall
from governor_agents.core.verdicts import Verdict
from governor_agents.errors import StoreUnavailable
from governor_agents.policies import PolicySet
from tests.servers import RedisServer, wait_until

ANN = "local:ann"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A master and its replica."""
    at_once = {"repl-diskless-sync-delay": "0"}
    with RedisServer(tmp_path / "one", settings=at_once) as master:
        following = {**at_once, "replicaof": f"127.0.0.1 {master.port}"}
        with RedisServer(tmp_path / "two", settings=following) as replica:
            with contextlib.closing(replica.client()) as client:
                wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica")
            yield master, replica


class Bank:
    """A governed transfer; the replica stalls while the policies are asked the second time: right before the intent."""

    def __init__(self, url: str, replica: RedisServer) -> None:
        self.ran: list[int] = []
        self._replica = replica
        self._asked = 0
        self.governor = Governor(PolicySet([self._stall]), store=url)

        @self.governor.govern(name="wire", approvers=[ANN])
        async def wire(amount: int) -> str:
            self.ran.append(amount)
            return "sent"

        self.wire = wire

    def _stall(self, call: ToolCall) -> Verdict | None:
        self._asked += 1
        if self._asked == 2:
            self._replica.signal(signal.SIGSTOP)
        return None

    async def pay(self) -> Any:
        """Ask, approve, collect."""
        pending = await self.wire.ask(7)
        await self.governor.decide(pending.approval, Decision.approve(), by=ANN)
        return await pending.result(timeout=60)


@pytest.mark.parametrize("enough", [True, False])
async def test_intent_that_the_replica_lacks_begins_nothing(
    servers: tuple[RedisServer, RedisServer], enough: bool
) -> None:
    """With ``min_replicas=1`` the guard gives up before the tool; the control asks for none, and the tool runs."""
    master, replica = servers
    url = f"{master.url}?namespace={secrets.token_hex(4)}&timeout=1&min_replicas={0 if enough else 1}"
    bank = Bank(url, replica)
    async with bank.governor:
        if enough:
            assert await bank.pay() == "sent"
        else:
            with pytest.raises(StoreUnavailable, match="0 of 1 replicas have the write; it may stand"):
                await bank.pay()
        assert bank.ran == ([7] if enough else [])
        replica.signal(signal.SIGCONT)
