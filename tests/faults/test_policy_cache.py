"""Published policies over processes and a real Redis: killed, stopped, silent, poisoned, flooded, and never believed."""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from governor_agents import Decision, Governor
from governor_agents.core.calls import sha256
from governor_agents.core.records import CallState
from governor_agents.errors import ConfigError
from governor_agents.keys import Keys
from governor_agents.publishing import Published, cache
from governor_agents.publishing.cache import PolicyCache, cache_url
from tests.faults.published_app import CALL, make
from tests.integration import publishing
from tests.integration.publishing import ALLOW, ASK, BOSS, DENY, NEVER, looked, publish, published, rules, until
from tests.servers import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
ARGS = {"path": "deploy.sh", "amount": 5}


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A fresh store."""
    return f"sqlite:///{tmp_path}/g.db"


@pytest.fixture
def held() -> str:
    """A cache of one's own in the session's Redis."""
    return publishing.cache_url()


def client(url: str) -> Any:
    """The cache as somebody sees it who has got hold of the server."""
    return redis.Redis.from_url(url.partition("?")[0])


def namespace(url: str) -> str:
    return url.partition("namespace=")[2]


# -- processes --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def process(url: str, ledger: Path, *, cache: str = "", build: str = "whole") -> Iterator[subprocess.Popen[str]]:
    """A worker in a process of its own, which has its first copy."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    started = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.published_app", build, url, cache, str(ledger)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with started:
        assert said(started) == "version 1"
        yield started
        started.communicate("")
    assert started.returncode == 0


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("build", ["whole", "deaf"])
async def test_a_worker_elsewhere_cancels_what_was_approved_and_is_denied_now(
    url: str, tmp_path: Path, build: str
) -> None:
    """It holds version 1, nothing tells it of version 2, and its next look is days away: the intent looks. A deaf one runs it."""
    await publish(url, ASK)
    with process(url, tmp_path / "ledger", build=build) as worker:
        governor, deploy = make(published(), url, tmp_path / "ours")
        async with governor:
            pending = await deploy.ask(**ARGS)
            await publish(url, DENY)
            await governor.decide(pending.approval, Decision.approve(), by=BOSS)
            await governor.wait(pending.run, timeout=NEVER, until=lambda run: run.state.ended)
            [call] = await governor.calls(pending.run)
        assert worker.poll() is None
    if build == "deaf":
        assert call.state is CallState.SUCCEEDED and (tmp_path / "ledger").read_text() == "deploy\n"
    else:
        assert (call.state, call.code) == (CallState.CANCELLED, "policy_denies")
        assert not (tmp_path / "ledger").exists()


async def test_every_process_hears_of_a_publication_at_once(url: str, tmp_path: Path, held: str) -> None:
    """None of them looks by itself; the command line in one more process publishes, and all of them say deny."""
    await publish(url, ALLOW)
    (tmp_path / "deny.yaml").write_text(DENY)
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(process(url, tmp_path / f"ledger{at}", cache=held)) for at in range(2)]
        told = subprocess.run(  # noqa: ASYNC221  nothing else runs here
            [sys.executable, "-m", "governor_agents", "--store", url, "policy", "publish", str(tmp_path / "deny.yaml")],
            env={**os.environ, "PYTHONPATH": str(ROOT), "GOVERNOR_POLICY_CACHE": held},
            capture_output=True,
            text=True,
        )
        assert (told.returncode, told.stderr) == (0, ""), told.stderr
        assert [said(worker) for worker in workers] == ["now deny"] * 2


# -- a cache that is away ---------------------------------------------------------------------------------------------


async def test_a_killed_cache_is_done_without(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Killed, news come from the store; it is said once; up again, it is used again."""
    caplog.set_level(logging.INFO)
    await publish(url, ALLOW)
    with RedisServer(tmp_path / "redis") as server:
        policies = published(server.url, poll=0.1)
        async with Governor(policies, store=url):
            assert policies._cache is not None
            held = policies._cache
            await until(lambda: held._subscribed is not None)
            server.kill()
            await publish(url, DENY)
            await until(lambda: policies.evaluate(CALL).outcome == "deny")
            await until(lambda: held._subscribed is None)
            server.start()
            await until(lambda: held._subscribed is not None)
            made = await publish(url, ASK, cache=server.url)
            await until(lambda: policies.evaluate(CALL).outcome == "require_approval")
            assert server.client().get(f"ga-policies:default:{made.sha256}") == ASK.encode()
    assert len([line for line in caplog.messages if "cannot be used, and the store is asked alone" in line]) == 1
    assert caplog.messages.count("the policy cache is back") == 1


async def test_a_cache_that_was_never_there_changes_nothing(url: str, tmp_path: Path) -> None:
    """A governor opens, decides and runs without it."""
    await publish(url, ALLOW)
    governor, deploy = make(published("redis://127.0.0.1:1/0"), url, tmp_path / "ledger")
    async with governor:
        assert await deploy(**ARGS) == "done"


async def test_a_cache_that_hangs_is_not_waited_for(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the middle: each step gives up by itself, and the store's document is used."""
    monkeypatch.setattr(cache, "PATIENCE", 0.2)
    await publish(url, ALLOW)
    with RedisServer(tmp_path / "redis") as server:
        async with Governor(policies := published(server.url), store=url) as governor:
            server.signal(signal.SIGSTOP)
            await publish(url, DENY, cache=server.url)
            await looked(governor, Published.refresh)
            assert policies.evaluate(CALL).outcome == "deny"
            server.signal(signal.SIGCONT)


async def test_an_announcement_that_is_lost_comes_with_the_next_look(url: str, held: str) -> None:
    """The cache lives and says nothing: ``poll`` is the bound."""
    await publish(url, ALLOW)
    async with Governor(policies := published(held, poll=0.1), store=url):
        await publish(url, DENY)
        await until(lambda: policies.evaluate(CALL).outcome == "deny")


async def test_a_living_cache_does_not_stand_in_for_a_dead_store(tmp_path: Path) -> None:
    """The store is killed: the copy holds for ``max_age``, then fails closed whatever the cache says; back, it is as before."""
    with RedisServer(tmp_path / "store") as store, RedisServer(tmp_path / "cache") as other:
        await publish(store.url, ALLOW, cache=other.url)
        now, policies = [1000.0], published(other.url, poll=0.1, max_age=60.0)
        policies._clock = lambda: now[0]
        async with Governor(policies, store=store.url):
            assert policies._cache is not None
            held = policies._cache
            await until(lambda: held._subscribed is not None)
            store.kill()
            now[0] += 60.0
            assert policies.evaluate(CALL).outcome == "allow"
            now[0] += 0.1
            await until(lambda: policies.evaluate(CALL).code == "policies_stale")
            other.client().publish("ga-policies:default", "2")
            assert policies.evaluate(CALL).outcome == "require_approval"
            store.start()
            await until(lambda: policies.evaluate(CALL).outcome == "allow")


async def test_one_server_may_hold_both(tmp_path: Path) -> None:
    """Store and cache in one Redis: neither takes the other's keys for its own."""
    with RedisServer(tmp_path / "both") as server:
        await publish(server.url, ALLOW, cache=server.url)
        governor, deploy = make(published(server.url), server.url, tmp_path / "ledger")
        async with governor:
            assert await deploy(**ARGS) == "done" and await governor.loop.bridge(governor.store.check()) == []
        await publish(server.url, DENY, cache=server.url)


# -- what is in it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [None, Keys.generate()], ids=["clear", "sealed"])
async def test_documents_are_shared_and_expire(url: str, held: str, keys: Keys | None) -> None:
    """One process puts it there; the next one, whose store is asked for no document, takes it; it has an expiry."""
    made = await publish(url, ALLOW, keys=keys)
    async with Governor(published(held), store=url, keys=keys):
        pass
    [key] = client(held).keys(f"{namespace(held)}:*")
    assert 0 < client(held).ttl(key) <= cache.EXPIRY
    async with Governor(policies := published(held), store=url, keys=keys):
        assert policies._publications is not None

        async def never(publication: Any) -> str:
            raise AssertionError("the store was asked for the document")

        policies._publications.text = never  # type: ignore[method-assign]
        policies.publication, policies._seen = None, 0
        assert policies._loop is not None
        await policies._loop.bridge(policies.refresh())
        assert policies.publication == made and policies.evaluate(CALL).outcome == "allow"


@pytest.mark.parametrize("keys", [None, Keys.generate()], ids=["clear", "sealed"])
@pytest.mark.parametrize("fault", ["garbage", "another text", "an older version", "not even text", "control"])
async def test_a_poisoned_cache_puts_nothing_in_force(
    url: str, held: str, keys: Keys | None, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is put under the key of the new version, the store's document is used, and one line says so."""
    await poison(url, held, keys, fault)
    caplog.clear()
    async with Governor(policies := published(held), store=url, keys=keys):
        assert policies.evaluate(CALL).outcome == "deny"
        assert policies.publication is not None and policies.publication.version == 2
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    said = [line for line in warned if line.startswith("the policy cache")]
    assert len(said) == (0 if fault == "control" else 1)


class Blind(PolicyCache):
    """A broken build: what the cache holds is what was published."""

    async def get(self, digest: str) -> str | None:
        held: bytes | None = await self._client.get(self._key(digest))
        return None if held is None else held.decode()


@pytest.mark.parametrize("fault", ["another text", "an older version"])
async def test_a_build_that_believes_the_cache_is_caught(
    url: str, held: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: the same poison allows what is denied, so the test above would see it."""
    await poison(url, held, None, fault)
    monkeypatch.setattr("governor_agents.publishing.source.PolicyCache", Blind)
    async with Governor(policies := published(held), store=url):
        assert policies.evaluate(CALL).outcome == "allow"


async def poison(url: str, held: str, keys: Keys | None, fault: str) -> None:
    """Version 1 allows and was in the cache, version 2 denies; then somebody writes to the cache."""
    first = await publish(url, ALLOW, keys=keys, cache=held)
    second = await publish(url, DENY, keys=keys, cache=held)
    mine = PolicyCache(held, "default", keys)
    old, new = mine._key(first.sha256), mine._key(second.sha256)
    server = client(held)
    match fault:
        case "garbage":
            server.set(new, b"\xff\x00 not yaml")
        case "another text":
            server.set(new, rules("then: allow").encode() + b"# mine\n")
        case "an older version":
            server.set(new, server.get(old))
        case "not even text":
            server.delete(new)
            server.lpush(new, "a list")
    await mine.close()


async def test_a_flood_of_announcements_does_not_reach_the_store(url: str, held: str) -> None:
    """Many are one look, and looks keep a distance; what was really published is heard of all the same."""
    await publish(url, ALLOW)
    async with Governor(policies := published(held), store=url):
        assert policies._cache is not None and policies._publications is not None
        listening, looks = policies._cache, 0
        await until(lambda: listening._subscribed is not None)
        current = policies._publications.current

        async def counted() -> Any:
            nonlocal looks
            looks += 1
            return await current()

        policies._publications.current = counted  # type: ignore[method-assign]
        server, clock = client(held), asyncio.get_running_loop().time
        began = clock()
        for at in range(2000):
            server.publish(f"{namespace(held)}:default", f"{at}" if at % 2 else b"\xff garbage")
        await publish(url, DENY, cache=held)
        await until(lambda: policies.evaluate(CALL).outcome == "deny")
        assert looks <= 2 + (clock() - began) / 0.05


async def test_nothing_of_the_policies_is_read_in_a_sealed_cache(url: str, held: str) -> None:
    """With keys set neither people nor hashes stand in Redis; without, they do (the control)."""
    made = await publish(url, ASK, keys=Keys.generate(), cache=held)
    assert not any(word in everything(held) for word in (BOSS.encode(), made.sha256.encode(), b"deploy"))
    other = publishing.cache_url()
    clear = PolicyCache(other, "default")
    await clear.put(sha256(ASK.encode()), ASK)
    await clear.close()
    assert BOSS.encode() in everything(other) and made.sha256.encode() in everything(other)


def everything(held: str) -> bytes:
    server = client(held)
    keys = server.keys(f"{namespace(held)}:*")
    return b"".join(key + server.get(key) for key in keys)


# -- its URL ----------------------------------------------------------------------------------------------------------


async def test_a_password_in_the_url_is_not_shown(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither by repr, nor in the log when it cannot be used."""
    caplog.set_level(logging.DEBUG)
    await publish(url, ALLOW)
    policies = published("redis://user:hunter2@127.0.0.1:1/0")
    async with Governor(policies, store=url) as governor:
        await until(lambda: any("the policy cache cannot be used" in line for line in caplog.messages))
        assert "hunter2" not in repr(governor) + repr(policies) + repr(vars(policies)["_cache"]) + caplog.text


@pytest.mark.parametrize(
    "wrong",
    ["nonsense", "mongodb://u:hunter2@h/0", "redis://u:hunter2@h:port/0", "redis://h/0?namespace=", "redis://[h/0", ""],
)
def test_what_is_no_url_of_a_cache_is_refused_in_one_line(wrong: str) -> None:
    """It names the thing and the mend, and shows no password."""
    with pytest.raises(ConfigError, match=r"^the policy cache: ") as refused:
        PolicyCache(wrong, "default")
    assert "hunter2" not in str(refused.value) and "\n" not in str(refused.value)


def test_the_environment_names_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given goes before it, also an empty text: no cache."""
    assert cache_url(None) == ""
    monkeypatch.setenv("GOVERNOR_POLICY_CACHE", "redis://h/1")
    assert (cache_url(None), cache_url(""), cache_url("redis://i/2")) == ("redis://h/1", "", "redis://i/2")
