"""What goes wrong between the Redis store and its servers: one clear line each, and the records left as they are."""

import asyncio
import contextlib
import os
import secrets
import signal
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from governor_agents.core.ports import Blob, StoredEvent, Swapped
from governor_agents.errors import ConfigError, StoreError, StoreUnavailable, UnsafeStore
from governor_agents.stores import open_store
from governor_agents.stores.redis import RedisStore
from governor_agents.stores.redis.keys import Keys
from tests.servers import RedisServer, wait_until
from tests.unit.redis.stored import RECORD, store_at

SECRET = "hunter2"


def keys_of(store: RedisStore) -> Keys:
    """Where the store keeps what."""
    return Keys(store.url.partition("namespace=")[2].partition("&")[0])


async def until_there(call: Callable[..., Awaitable[Swapped]], *given: Any, **more: Any) -> Swapped:
    """The answer once the server answers."""
    while True:
        try:
            return await call(*given, **more)
        except StoreUnavailable:
            await asyncio.sleep(0.02)


async def refusal(url: str, kind: type[StoreError] = StoreUnavailable) -> str:
    """Why a store does not open: one line, without the password."""
    store = open_store(url)
    with pytest.raises(kind) as caught:
        await store.open()
    await store.close()
    line = str(caught.value)
    assert "\n" not in line and SECRET not in line and SECRET not in repr(caught.value)
    return line


# Opening


async def test_nothing_listens() -> None:
    """No server there."""
    assert "nothing listens there" in await refusal("redis://127.0.0.1:1")
    assert "no such host" in await refusal("redis://no-such-host.invalid")
    assert "no such socket" in await refusal("unix:///no/such.sock")


@pytest.mark.parametrize("protocol", [2, 3])
async def test_wrong_password(server: RedisServer, protocol: int) -> None:
    """Another password, an unknown user, none at all, or one where the server has none; the right one opens."""
    where = f"127.0.0.1:{server.port}?protocol={protocol}"
    with contextlib.closing(server.client()) as client:
        client.execute_command("ACL", "SETUSER", "me", "on", ">right", "~*", "&*", "+@all")
        assert "password is not the server's" in await refusal(f"redis://me:{SECRET}@{where}")
        assert "password is not the server's" in await refusal(f"redis://you:{SECRET}@{where}")
        client.config_set("requirepass", SECRET)
        try:
            assert "asks for a password" in await refusal(f"redis://{where}")
        finally:
            with contextlib.closing(server.client(password=SECRET)) as owner:
                owner.config_set("requirepass", "")
        async with store_at(f"redis://me:right@127.0.0.1:{server.port}", protocol=protocol) as store:
            assert await store.load("run", "t", "r") is not None


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of this machine, which nobody vouches for; its key lies in the same file."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    bare = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "tls.pem").write_bytes(made.public_bytes(pem) + key.private_bytes(pem, *bare))
    return tmp_path / "tls.pem"


class Line:
    """A port that leads to another one, under TLS if asked for.

    While ``cut`` is set, answers break the connection; requests with ``held`` in them wait for ``let``.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.port = self._to = port
        self.cut = False
        self.dropped = 0
        self.held = b""
        self.holds = asyncio.Event()
        self.let = asyncio.Event()
        self._tls = tls

    async def __aenter__(self) -> "Line":
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        await asyncio.gather(self._pump(reader, back, False), self._pump(there, writer, True))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while data := await reader.read(2**16):
                if answers and self.cut:
                    self.dropped += 1
                    writer.transport.abort()
                    return
                if not answers and self.held and self.held in data:
                    self.holds.set()
                    await self.let.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


async def test_tls_is_spoken_and_checked(server: RedisServer, certificate: Path) -> None:
    """With the authority named it opens; without, or without TLS, or where there is none, one line says so."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with Line(server.port, context) as line:
        port = line.port
        async with store_at(f"rediss://127.0.0.1:{port}", ssl_ca_certs=certificate) as store:
            assert await store.load("run", "t", "r") is not None
        assert "certificate is not to be trusted" in await refusal(f"rediss://127.0.0.1:{port}")
        assert "certificate is not to be trusted" in await refusal(
            f"rediss://localhost:{port}?ssl_ca_certs={certificate}"
        )
        assert "begin the URL with rediss" in await refusal(f"redis://127.0.0.1:{port}?timeout=1")
    assert "begin the URL with redis" in await refusal(f"rediss://127.0.0.1:{server.port}?timeout=1")
    with pytest.raises(ConfigError, match="ssl_ca_certs names a file that cannot be read"):
        await open_store("rediss://127.0.0.1:1?ssl_ca_certs=/no/such.pem").open()


async def test_no_such_database(server: RedisServer) -> None:
    """A number that the server does not have."""
    assert "no such database" in await refusal(f"redis://127.0.0.1:{server.port}/99")


async def test_no_sentinel_there(server: RedisServer) -> None:
    """A server that is no Sentinel."""
    assert "no Sentinel" in await refusal(f"redis+sentinel://127.0.0.1:{server.port}/mymaster")


# Permissions

NEEDED = (
    "+ping +info +time +select +get +set +exists +hget +hmget +hset +hsetnx +hdel +hlen +hkeys +zadd +zrem +zrange "
    "+zcard +zcount +zlexcount +unlink +publish +subscribe"
)


def user(server: RedisServer, name: str, permissions: str) -> str:
    """A user who may only do this, on keys and channels of ours; the store's URL for him."""
    with contextlib.closing(server.client()) as client:
        rules = f"on >pw resetkeys resetchannels ~{{ga* &ga* -@all {permissions}"
        client.execute_command("ACL", "SETUSER", name, "reset", *rules.split())
    return f"redis://{name}:pw@127.0.0.1:{server.port}"


async def everything(store: RedisStore) -> None:
    """Each method once."""
    assert (await store.swap(replace(RECORD, v=1), op="b", events=[StoredEvent(1, b"e")], not_after=9e9)).won
    assert (await store.swap(replace(RECORD, v=2, index={}, due=None), op="c", blobs=[Blob("d", b"x")])).won
    assert len(await store.list("run", "t")) == len(await store.scan("run")) == 1
    assert await store.list("run", "t", {"state": "s", "agent": "a"}) == await store.due("run", "t") == []
    assert len(await store.events("run", "t", "r")) == 1
    assert await store.blob("run", "t", "r", "d") == b"x"
    assert await store.add_below("t", "c", 1, 2, op="a") == 1
    await store.wait(0.01)
    assert await store.delete("run", "t", "r", 3)


async def test_permissions_of_the_document_are_enough(server: RedisServer) -> None:
    """A user with what docs/redis.md lists can do everything, with scripts."""
    url = user(server, "needed", f"{NEEDED} +eval +evalsha")
    async with store_at(url, namespace=f"ga{secrets.token_hex(6)}") as store:
        assert store._client is not None and store._client.scripting
        await everything(store)


async def test_without_scripts_the_store_finds_its_way(server: RedisServer) -> None:
    """Where scripts are forbidden, the same promises are kept under WATCH."""
    url = user(server, "watching", f"{NEEDED} +watch +unwatch +multi +exec")
    async with store_at(url, namespace=f"ga{secrets.token_hex(6)}") as store:
        assert store._client is not None and not store._client.scripting
        await everything(store)


async def test_missing_permission_is_named(server: RedisServer) -> None:
    """Neither scripts nor transactions: nothing can be written, and the line says what lacks."""
    url = user(server, "reading", NEEDED)
    with pytest.raises(StoreUnavailable, match=r"lacks a permission .*watch.*docs/redis\.md"):
        async with store_at(url, namespace=f"ga{secrets.token_hex(6)}"):
            pass
    other = user(server, "elsewhere", f"{NEEDED} +eval +evalsha")
    assert "lacks a permission" in await refusal(f"{other}?namespace=other")


async def test_who_may_not_listen_looks_now_and_then(server: RedisServer) -> None:
    """Without pub/sub ``wait`` is true now and then; own writes still wake at once."""
    url = user(server, "deaf", f"{NEEDED} +eval +evalsha -subscribe -publish")
    async with store_at(url, namespace=f"ga{secrets.token_hex(6)}") as store:
        for _ in range(3):
            assert await store.wait(3600) is True


# Servers that go away


async def test_killed_server_is_unavailable_and_comes_back(tmp_path: Path) -> None:
    """While it is away each call says so in one line; when it is back the same object goes on, and nothing is lost."""
    with RedisServer(tmp_path) as server:
        async with store_at(server.url) as store:
            server.kill()
            for call in (store.load("run", "t", "r"), store.swap(replace(RECORD, v=1), op="b"), store.now()):
                with pytest.raises(StoreUnavailable, match=r"^redis://127\.0\.0\.1:\d+\?namespace=\w+: "):
                    await call
            server.start()
            assert await store.load("run", "t", "r") == replace(RECORD, v=1)
            assert await store.swap(replace(RECORD, v=1), op="b") == Swapped(won=True, v=2)


@pytest.mark.parametrize("scripting", ["auto", "no"])
async def test_server_that_is_restarted_with_unsafe_settings(tmp_path: Path, scripting: str) -> None:
    """Nothing is written to it, by a store that was opened before, until it has safe ones again."""
    with RedisServer(tmp_path) as server:
        async with store_at(server.url, scripting=scripting) as store:
            server.kill()
            server.settings["maxmemory-policy"] = "allkeys-lru"
            server.start()
            with pytest.raises(UnsafeStore, match="maxmemory-policy is allkeys-lru"):
                await until_there(store.swap, replace(RECORD, v=1), op="b")
            with pytest.raises(UnsafeStore, match="maxmemory-policy is allkeys-lru"):
                await store.load("run", "t", "r")
            with contextlib.closing(server.client()) as client:
                client.config_set("maxmemory-policy", "noeviction")
            assert await store.load("run", "t", "r") == replace(RECORD, v=1)
            assert await store.swap(replace(RECORD, v=1), op="b") == Swapped(won=True, v=2)


async def test_server_that_comes_back_as_a_replica_shows_nothing(tmp_path: Path) -> None:
    """What it shows may be old; when it is master again, the same object goes on."""
    with RedisServer(tmp_path) as server:
        async with store_at(server.url) as store:
            with contextlib.closing(server.client()) as client:
                client.execute_command("REPLICAOF", "127.0.0.1", "1")
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # as Sentinels do
                with pytest.raises(StoreUnavailable, match="read-only replica"):
                    await store.load("run", "t", "r")
                client.execute_command("REPLICAOF", "NO", "ONE")
            assert await store.load("run", "t", "r") == replace(RECORD, v=1)


async def test_server_that_forgot_the_scripts_is_told_again(server: RedisServer) -> None:
    """It knows them by digest only until it is restarted."""
    async with store_at(server.url) as store:
        with contextlib.closing(server.client()) as client:
            client.script_flush()
        assert await store.swap(replace(RECORD, v=1), op="b") == Swapped(won=True, v=2)


async def test_stalled_server_times_out(tmp_path: Path) -> None:
    """Who answers nothing is given up after the time-out; a write may stand, and its op says so afterwards."""
    with RedisServer(tmp_path) as server:
        async with store_at(server.url, timeout=1) as store:
            server.signal(signal.SIGSTOP)
            with pytest.raises(StoreUnavailable, match="did not answer within 1 s"):
                await store.swap(replace(RECORD, v=1), op="b")
            server.signal(signal.SIGCONT)
            wait_until(server.ready, "the server")
            assert await store.swap(replace(RECORD, v=1), op="b") == Swapped(won=True, v=2)


async def test_idle_connections_that_were_closed_are_replaced(server: RedisServer) -> None:
    """A server, or something on the way, closes what lies idle: the next call does not fail for it."""
    async with store_at(server.url) as store:
        await asyncio.gather(*(store.load("run", "t", "r") for _ in range(8)))
        with contextlib.closing(server.client()) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert await store.load("run", "t", "r") == replace(RECORD, v=1)


@pytest.mark.parametrize("scripting", ["auto", "no"])
async def test_write_whose_answer_is_lost(server: RedisServer, scripting: str) -> None:
    """The line breaks when the server has written: unavailable, and the op tells what became of it."""
    async with Line(server.port) as line, store_at(f"redis://127.0.0.1:{line.port}", scripting=scripting) as store:
        line.cut = True
        with pytest.raises(StoreUnavailable, match="the connection is lost"):
            await store.swap(replace(RECORD, v=1), op="b", events=[StoredEvent(1, b"e")])
        line.cut = False
        assert line.dropped
        again = await store.swap(replace(RECORD, v=1), op="b", events=[StoredEvent(1, b"e")])
        assert again == Swapped(won=True, v=2)
        assert await store.events("run", "t", "r") == [StoredEvent(1, b"e")]


async def test_deadline_passes_on_the_way_to_exec(server: RedisServer) -> None:
    """Without scripts too it is the server that says whether a write came in time, when it writes and not before."""
    async with Line(server.port) as line, store_at(f"redis://127.0.0.1:{line.port}", scripting="no") as store:
        deadline = await store.now() + 1
        line.held = b"MULTI"
        writing = asyncio.ensure_future(store.swap(replace(RECORD, v=1), op="b", not_after=deadline))
        await line.holds.wait()
        with contextlib.closing(server.client()) as client:
            wait_until(lambda: client.time()[0] > deadline, "the deadline")
        line.held = b""
        line.let.set()
        assert await writing == Swapped(won=False, current=replace(RECORD, v=1), late=True)
        in_time = await store.swap(replace(RECORD, v=1), op="b", not_after=deadline + 3600)
        assert in_time == Swapped(won=True, v=2)


async def test_deadline_leaves_nothing_behind(server: RedisServer) -> None:
    """Whatever became of the write: no key stays until a deadline that is a year away."""
    async with store_at(server.url, scripting="no") as store:
        for v, op, won in ((1, "b", True), (1, "b", True), (1, "c", False)):
            far = await store.now() + 365 * 86_400
            assert (await store.swap(replace(RECORD, v=v), op=op, not_after=far)).won is won
        with contextlib.closing(server.client()) as client:
            assert list(client.scan_iter(keys_of(store).clock(0) + b":*")) == []


async def test_time_that_was_written_at_stays(server: RedisServer) -> None:
    """The clock of another server, a failover or a restart, that is behind does not take the store's time back."""
    async with store_at(server.url, partitions=2) as store:
        keys = Keys(store.url.partition("namespace=")[2].partition("&")[0], 2)
        ahead = await store.now() + 3600
        with contextlib.closing(server.client()) as client:
            client.set(keys.clock(keys.partition("run", "t", "r")), int(ahead * 1_000_000))
        assert (await store.swap(replace(RECORD, v=1), op="b", not_after=ahead - 1)).late
        assert await store.now() == pytest.approx(ahead, abs=1e-5)
        again = RedisStore(store.url)
        await again.open()
        assert await again.now() == pytest.approx(ahead, abs=1e-5)
        other = next(
            f"r{n}" for n in range(100) if keys.partition("run", "t", f"r{n}") != keys.partition("run", "t", "r")
        )
        await again.insert(replace(RECORD, id=other), op="a")
        assert (await again.swap(replace(RECORD, id=other, v=1), op="b", not_after=ahead - 1)).late
        await again.close()


async def test_master_that_becomes_a_replica(tmp_path: Path) -> None:
    """A failover took its role: writes are refused, nothing changes; when it is master again, all goes on."""
    with RedisServer(tmp_path) as server:
        async with store_at(server.url) as store:
            with contextlib.closing(server.client()) as client:
                client.execute_command("REPLICAOF", "127.0.0.1", "1")
                with pytest.raises(StoreUnavailable, match="read-only replica"):
                    await store.swap(replace(RECORD, v=1), op="b")
                assert await store.load("run", "t", "r") == replace(RECORD, v=1)
                client.execute_command("REPLICAOF", "NO", "ONE")
            assert (await store.swap(replace(RECORD, v=1), op="b")).won


async def test_full_server_takes_nothing_and_loses_nothing(tmp_path: Path) -> None:
    """Without memory a write is refused whole; what was stored stays."""
    with RedisServer(tmp_path) as server:
        async with store_at(server.url) as store:
            with contextlib.closing(server.client()) as client:
                client.config_set("maxmemory", "1")
                with pytest.raises(StoreUnavailable, match="memory is full"):
                    await store.swap(replace(RECORD, v=1), op="b", events=[StoredEvent(1, b"e")])
                client.config_set("maxmemory", "0")
            assert await store.load("run", "t", "r") == replace(RECORD, v=1)
            assert await store.events("run", "t", "r") == []


@pytest.mark.parametrize("scripting", ["auto", "no"])
async def test_too_few_replicas(tmp_path: Path, scripting: str) -> None:
    """``min_replicas``: a write that too few have does not count, though it stands; asked again, it is asked of them again."""
    at_once = {"repl-diskless-sync-delay": "0"}
    with RedisServer(tmp_path / "one", settings=at_once) as server, RedisServer(tmp_path / "two") as replica:
        with contextlib.closing(replica.client()) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", server.port)
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica")
        async with store_at(server.url, min_replicas=1, timeout=1, scripting=scripting) as store:
            assert (await store.swap(replace(RECORD, v=1), op="b")).won
            replica.signal(signal.SIGSTOP)
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="0 of 1 replicas have the write; it may stand"):
                    await store.swap(replace(RECORD, v=2), op="c")
            current = await store.load("run", "t", "r")
            assert current is not None and current.v == 3
            replica.signal(signal.SIGCONT)
            wait_until(replica.ready, "the replica")
            assert await answered(store, "c") == Swapped(won=True, v=3)


async def answered(store: RedisStore, op: str) -> Swapped:
    """The answer of a swap that stands already, asked for until enough replicas have it."""
    while True:
        with contextlib.suppress(StoreUnavailable):
            return await store.swap(replace(RECORD, v=2), op=op)


# What lies in the namespace


EDITS = {
    "no version": ("HDEL", "v"),
    "version of letters": ("HSET", "v", "two"),
    "negative version": ("HSET", "v", "-1"),
    "no body": ("HDEL", "body"),
    "due of letters": ("HSET", "due", "soon"),
    "index that is no text": ("HSET", "state", b"\xff\xfe"),
}


@pytest.mark.parametrize("edit", EDITS)
async def test_record_edited_by_hand_is_refused_and_left(server: RedisServer, edit: str) -> None:
    """It is named in one line; nothing is written over it, and lists show it with the reason among the others."""
    async with store_at(server.url) as store:
        await store.insert(replace(RECORD, id="other"), op="a")
        key = keys_of(store).record("run", "t", "r")
        with contextlib.closing(server.client()) as client:
            name, *rest = EDITS[edit]
            client.execute_command(name, key, *rest)
            before = client.hgetall(key)
            with pytest.raises(StoreError, match="run r: what is stored was not written by us"):
                await store.load("run", "t", "r")
            with contextlib.suppress(StoreError):
                assert not (await store.insert(RECORD, op="b")).won
            listed = {each.id: each for each in await store.list("run", "t")}
            assert listed["other"] == replace(RECORD, id="other", v=1)
            assert b"not written by us" in listed["r"].body
            assert [held.record.id for held in await store.scan("run")] == ["other", "r"]
            assert client.hgetall(key) == before


async def test_foreign_keys_are_left_alone(server: RedisServer) -> None:
    """Something else under a key of ours: the write fails whole, in one line, and nothing of it stands."""
    async with store_at(server.url) as store:
        keys = keys_of(store)
        with contextlib.closing(server.client()) as client:
            for at, key in enumerate(keys.touched("run", "t", "new")):
                kept = client.dump(key)
                client.delete(key)
                client.set(key, "not a number, not ours") if at != 3 else client.rpush(key, "x")
                before = {each: client.dump(each) for each in client.keys(f"{{{keys.namespace}:*")}
                index = {
                    "agent": "a",
                    "changed": "c",
                    "conversation": "c",
                    "pending": "p",
                    "requester": "q",
                    "state": "s",
                }
                new = replace(RECORD, id="new", index=index)
                with pytest.raises(StoreError, match="something else lies under a key of ours"):
                    await store.insert(new, op="b", events=[StoredEvent(1, b"e")], blobs=[Blob("d", b"x")])
                assert {each: client.dump(each) for each in client.keys(f"{{{keys.namespace}:*")} == before
                client.delete(key)
                if kept is not None:
                    client.restore(key, 0, kept)
        assert (await store.insert(new, op="b")).won


async def test_broken_counter_is_refused(server: RedisServer) -> None:
    """A sum that is no number is not added to."""
    async with store_at(server.url) as store:
        await store.add_below("t", "c", 1, 10, op="a")
        with contextlib.closing(server.client()) as client:
            client.hset(keys_of(store).record("counter", "t", "c"), "body", "many")
            with pytest.raises(StoreError, match="counter c: what is stored was not written by us"):
                await store.add_below("t", "c", 1, 10, op="b")


# Processes and loops


async def test_store_refuses_to_work_after_a_fork(server: RedisServer) -> None:
    """A child that goes on with its parent's store is told so, and the parent's connections go on."""
    async with store_at(server.url) as store:
        pid = os.fork()
        if not pid:
            try:
                await store.load("run", "t", "r")
            except StoreError as error:
                os._exit(7 if "before a fork" in str(error) else 8)
            os._exit(9)
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status) == 7
        assert await store.load("run", "t", "r") is not None


def test_store_refuses_to_work_on_another_loop(server: RedisServer) -> None:
    """Its connections belong to the loop it was opened on; once that has ended, it can be opened again."""
    with asyncio.Runner() as one, asyncio.Runner() as other:
        store = open_store(f"{server.url}?namespace={secrets.token_hex(6)}")
        one.run(store.open())
        with pytest.raises(StoreError, match="another event loop"):
            other.run(store.now())
        with pytest.raises(StoreError, match="another event loop"):
            other.run(store.open())
        one.run(store.insert(RECORD, op="a"))
        one.close()
        other.run(store.open())
        assert other.run(store.load("run", "t", "r")) == replace(RECORD, v=1)
        other.run(store.close())


async def test_closed_store_is_not_open(server: RedisServer) -> None:
    """It says so, without a password."""
    async with store_at(f"redis://u:{SECRET}@127.0.0.1:{server.port}".replace(f"u:{SECRET}@", "")) as store:
        pass
    with pytest.raises(StoreError, match="is not open"):
        await store.now()
    with pytest.raises(StoreError, match="is not open") as caught:
        await open_store(f"redis://u:{SECRET}@h").now()
    assert SECRET not in str(caught.value)
