"""A server that is away, wrong or strange: one clear line of a typed error, never the password, and a worker that stays.

Each wrong server is a real one in that state (how old it is, is told by the proxy in front of it). Where it can be
mended, it is mended under the worker's eyes, which then goes on: the run that was approved is run, once.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
import re
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from governor_agents import Governor, Worker
from governor_agents.cli.app import run as command_line
from governor_agents.errors import GovernorError, StoreError, StoreTooNew, StoreUnavailable, UnsafeStore
from tests.faults.framing import Mongo, Resp
from tests.faults.proxy import Proxy
from tests.faults.shop import Shop, said, working
from tests.servers import MongoServer, Process, RedisServer, free_port

pytestmark = pytest.mark.timeout(600)
SECRET = "pl4nted-pass"
MONGO = "directConnection=true&retryWrites=false&serverSelectionTimeoutMS=1000"


@dataclass(frozen=True)
class Wrong:
    """A place that cannot be used, and what is said of it. ``make`` gives its URL."""

    name: str
    error: type[GovernorError]
    says: str
    make: Callable[[Path], AbstractAsyncContextManager[str]]


def certificate(folder: Path) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate for 127.0.0.1 that it signed itself: ``cert.pem``."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server for tests")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@asynccontextmanager
async def nobody(folder: Path, url: str = "redis://127.0.0.1:{}/0") -> AsyncIterator[str]:
    yield url.format(free_port())


def redis(options: str = "", user: str = "", scheme: str = "redis", **settings: str) -> Any:
    """A Redis server with these settings."""

    @asynccontextmanager
    async def made(folder: Path) -> AsyncIterator[str]:
        names = {name.replace("_", "-"): value for name, value in settings.items()}
        with RedisServer(folder / "redis", settings=names) as server:
            yield f"{scheme}://{user}127.0.0.1:{server.port}/0{options}"

    return made


@asynccontextmanager
async def replica(folder: Path) -> AsyncIterator[str]:
    with RedisServer(folder / "replica", settings={"replicaof": f"127.0.0.1 {free_port()}"}) as server:
        yield f"{server.url}/0"


@asynccontextmanager
async def under_tls(folder: Path, url: str) -> AsyncIterator[str]:
    framing, kind = (Resp, RedisServer) if url.startswith("redis") else (Mongo, MongoServer)
    tls = certificate(folder)
    with kind(folder / "server") as server:
        async with Proxy("127.0.0.1", server.port, framing, tls=tls) as proxy:
            yield url.format(port=proxy.port, folder=folder)


def tls(url: str) -> Any:
    """A server that speaks TLS and nothing else."""
    return lambda folder: under_tls(folder, url)


@asynccontextmanager
async def old_redis(folder: Path) -> AsyncIterator[str]:
    with RedisServer(folder / "redis") as server:
        version = server.client().info()["redis_version"].encode()
        async with Proxy("127.0.0.1", server.port, Resp) as proxy:
            proxy.rewrites = lambda raw: raw.replace(
                b"redis_version:" + version, b"redis_version:" + b"5.0.9".ljust(len(version))
            )
            yield f"redis://127.0.0.1:{proxy.port}/0"


@asynccontextmanager
async def old_mongo(folder: Path) -> AsyncIterator[str]:
    old = re.compile(rb"(maxWireVersion\x00)....")
    with MongoServer(folder / "mongodb") as server:
        async with Proxy("127.0.0.1", server.port, Mongo) as proxy:
            proxy.rewrites = lambda raw: old.sub(lambda found: found[1] + b"\x09\0\0\0", raw)
            yield f"mongodb://127.0.0.1:{proxy.port}/governor?{MONGO}"


@asynccontextmanager
async def foreign_redis(folder: Path) -> AsyncIterator[str]:
    with RedisServer(folder / "redis") as server:
        server.client().set("{ga:0}:store", "somebody else's")
        yield f"{server.url}/0"


@asynccontextmanager
async def newer_redis(folder: Path) -> AsyncIterator[str]:
    with RedisServer(folder / "redis") as server:
        server.client().hset("{ga:0}:store", mapping={"schema": 99, "partitions": 1})
        yield f"{server.url}/0"


def mongo(options: str = "", user: str = "", prepare: Callable[[Any], object] | None = None) -> Any:
    """A server that speaks MongoDB's protocol, with something in it."""

    @asynccontextmanager
    async def made(folder: Path) -> AsyncIterator[str]:
        with MongoServer(folder / "mongodb") as server:
            if prepare is not None:
                with server.client() as client:
                    prepare(client)
            yield f"mongodb://{user}127.0.0.1:{server.port}/governor?{MONGO}{options}"

    return made


@asynccontextmanager
async def wrong_user(folder: Path) -> AsyncIterator[str]:
    with MongoServer(folder / "mongodb") as server, server.client() as client:
        client.admin.command("createUser", "me", pwd="right", roles=["root"])
    with MongoServer(folder / "mongodb", port=server.port, options=["--auth"]) as server:
        yield f"mongodb://me:{SECRET}@127.0.0.1:{server.port}/governor?authSource=admin&{MONGO}"


WRONG = [
    Wrong("redis is not there", StoreUnavailable, "nothing listens there", nobody),
    Wrong("redis: wrong password", StoreUnavailable, "password", redis(user=f":{SECRET}@", requirepass="right")),
    Wrong("redis: wrong user", StoreUnavailable, "password", redis(user=f"me:{SECRET}@", requirepass="right")),
    Wrong("redis: no password", StoreUnavailable, "asks for a password", redis(requirepass=SECRET)),
    Wrong("redis: a password too many", StoreUnavailable, "password", redis(user=f":{SECRET}@")),
    Wrong("redis: no TLS", StoreUnavailable, "TLS", redis("?timeout=1", scheme="rediss")),
    Wrong("redis: TLS", StoreUnavailable, "TLS", tls("redis://127.0.0.1:{port}/0")),
    Wrong("redis: nobody's certificate", StoreUnavailable, "certificate", tls("rediss://127.0.0.1:{port}/0")),
    Wrong("redis: a replica", UnsafeStore, "read-only replica", replica),
    Wrong("redis: too old", StoreUnavailable, "Redis 5.0.9", old_redis),
    Wrong("redis: a cluster's node", StoreError, r"redis\+cluster", redis(cluster_enabled="yes")),
    Wrong("redis: no cluster", StoreError, "cluster", redis(scheme="redis+cluster")),
    Wrong("redis: foreign keys", StoreError, "namespace", foreign_redis),
    Wrong("redis: newer", StoreTooNew, "upgrade", newer_redis),
    Wrong(
        "mongodb is not there",
        StoreUnavailable,
        "no server answers",
        lambda folder: nobody(folder, "mongodb://127.0.0.1:{}/governor?" + MONGO),
    ),
    Wrong("mongodb: wrong password", StoreUnavailable, "password", wrong_user),
    Wrong("mongodb: no TLS", StoreUnavailable, "tls in the URL", mongo("&tls=true")),
    Wrong("mongodb: TLS", StoreUnavailable, "tls", tls("mongodb://127.0.0.1:{port}/governor?" + MONGO)),
    Wrong(
        "mongodb: nobody's certificate",
        StoreUnavailable,
        "certificate|TLS",
        tls("mongodb://127.0.0.1:{port}/governor?tls=true&" + MONGO),
    ),
    Wrong("mongodb: too old", StoreUnavailable, "older than MongoDB 5.0", old_mongo),
    Wrong(
        "mongodb: foreign documents",
        StoreError,
        r"\?collection=NAME",
        mongo(prepare=lambda client: client.governor.ga_record.insert_one({"_id": 1})),
    ),
    Wrong(
        "mongodb: newer",
        StoreTooNew,
        "upgrade",
        mongo(prepare=lambda client: client.governor.ga_meta.insert_one({"_id": "schema", "version": 99})),
    ),
]


def clear(line: str, wrong: Wrong) -> None:
    """One line, which says what is wrong, and no password."""
    assert re.search(wrong.says, line), line
    assert "\n" not in line and SECRET not in line and "Traceback" not in line and len(line) < 500, line


@pytest.fixture(autouse=True)
def all_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """So that a password anywhere in it is found."""
    caplog.set_level(logging.DEBUG)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda each: each.name)
async def test_what_is_wrong_is_one_clear_line(
    wrong: Wrong, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """For the program, for the command line (exit 2), and for a worker that is to stay and tries again."""
    async with wrong.make(tmp_path) as url:
        shop = Shop(url)
        with pytest.raises(GovernorError) as refused:
            await shop.governor.list_runs()
        assert isinstance(refused.value, wrong.error)
        clear(str(refused.value), wrong)
        assert SECRET not in repr(shop.governor) + repr(shop.governor.store)
        capsys.readouterr()
        assert await asyncio.to_thread(command_line, ["--store", url, "inbox", "list"]) == 2
        told = capsys.readouterr()
        assert told.out == "" and told.err.count("\n") == 1
        clear(told.err.strip(), wrong)
        async with working(shop) as worker:
            await worker.trouble(1)
        await shop.governor.close()
    (line,) = said(caplog)
    clear(line, wrong)
    assert SECRET not in caplog.text


async def test_with_the_certificate_it_is_all_right(tmp_path: Path) -> None:
    """The control of TLS: with the server's certificate both stores open."""
    for number, url in enumerate([
        "rediss://127.0.0.1:{port}/0?ssl_ca_certs={folder}/cert.pem",
        "mongodb://127.0.0.1:{port}/governor?tls=true&tlsCAFile={folder}/cert.pem&" + MONGO,
    ]):  # fmt: skip
        (folder := tmp_path / str(number)).mkdir()
        async with under_tls(folder, url) as made, Governor(store=made) as governor:
            assert await governor.list_runs() == []


AWAY = {"redis": "redis://:{}@127.0.0.1:{}/0", "mongodb": "mongodb://me:{}@127.0.0.1:{}/x?" + MONGO}
COMMANDS = [
    "runs list --json", "runs show run_a", "inbox approve run_a.1", "audit verify", "audit export", "policy show",
    "halt everything --reason why", "store check", "store stats", "store migrate", "store export x.jsonl",
    "store copy {url} sqlite:///x.db", "worker shop:governor --once", "demo --framework openai-agents --store {url}",
]  # fmt: skip


@pytest.mark.parametrize(
    ("server", "command"),
    [("redis", each) for each in COMMANDS]
    + [("mongodb", each) for each in (COMMANDS[0], "worker shop:governor --once")],
)
def test_commands_on_a_server_that_is_not_there(
    server: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 and one line, which holds no password."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "shop.py").write_text("from governor_agents import Governor\ngovernor = Governor()\n")
    url = AWAY[server].format(SECRET, free_port())
    monkeypatch.setenv("GOVERNOR_STORE", url)
    code = command_line(command.format(url=url).split())
    sys.modules.pop("shop", None)
    told = capsys.readouterr()
    assert code == 2
    (line,) = [each for each in told.err.splitlines() if each]
    assert "no server answers" in line or "nothing listens" in line
    assert SECRET not in told.err + told.out


# -- mended under the worker's eyes -----------------------------------------------------------------------------------


async def goes_on(
    server: Process,
    url: str,
    mend: Callable[[], object],
    spoil: Callable[[], object],
    log: pytest.LogCaptureFixture,
    troubles: int = 2,
) -> None:
    """An approved run, the server spoilt, a worker, which complains; the server mended: the run is run, once."""
    shop = Shop(url)
    run = await shop.approved(1)
    await shop.governor.close()
    await asyncio.to_thread(spoil)
    shop = Shop(url)
    async with working(shop) as worker:
        await worker.trouble(troubles)
        assert shop.ran == [] and len(said(log)) == 1
        await asyncio.to_thread(mend)
        assert (await shop.end(run)).status == "completed"
    await shop.governor.close()
    assert shop.ran == [1]
    went, back = [line for line in said(log, logging.WARNING) if line.startswith("the store ")]
    assert "trying again" in went and "answers again" in back


def setting(server: RedisServer, password: str = "", **settings: str) -> Callable[[], object]:
    """Change settings of a running Redis."""

    def change() -> None:
        client = server.client(**({"password": password} if password else {}))
        for name, value in settings.items():
            client.config_set(name.replace("_", "-"), value)

    return change


@pytest.mark.parametrize("kind", [RedisServer, MongoServer])
async def test_a_server_that_starts_after_its_worker(
    kind: type[Process], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker waits for it."""
    with kind(tmp_path / "server") as server:  # type: ignore[call-arg]
        url = f"{server.url}/0" if kind is RedisServer else f"{server.url}/governor?{MONGO}"
        await goes_on(server, url, server.start, server.kill, caplog)


@pytest.mark.parametrize(
    ("spoilt", "sound"),
    [
        ({"appendonly": "no"}, {"appendonly": "yes"}),
        ({"maxmemory_policy": "allkeys-lru"}, {"maxmemory_policy": "noeviction"}),
        ({"requirepass": "other"}, {"requirepass": "right"}),
        ({"maxmemory": "1"}, {"maxmemory": "0"}),
        ({"replicaof": "127.0.0.1 1"}, {}),
    ],
    ids=lambda each: next(iter(each), "none"),
)
async def test_settings_that_are_mended_on_the_server(
    spoilt: dict[str, str], sound: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A log that is off, an eviction, another password, no memory, a replica that is made the master."""
    with RedisServer(tmp_path / "server", settings={"requirepass": "right"}) as server:
        url = f"redis://:right@127.0.0.1:{server.port}/0"
        password = spoilt.get("requirepass", "right")
        if "replicaof" in spoilt:
            client = server.client(password="right")
            spoil, mend = lambda: client.replicaof("127.0.0.1", "1"), lambda: client.replicaof("NO", "ONE")
        else:
            spoil, mend = setting(server, "right", **spoilt), setting(server, password, **sound)
        # A full server may still take a claim; then the run is due again, and in trouble again, when its lease is over.
        await goes_on(server, url, mend, spoil, caplog, 1 if "maxmemory" in spoilt else 2)


@pytest.mark.parametrize("kind", [RedisServer, MongoServer])
async def test_a_server_that_is_killed_under_its_worker(
    kind: type[Process], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Twice: one line each time it goes, one when it is back, and what was approved meanwhile is run."""
    with kind(tmp_path / "server") as server:  # type: ignore[call-arg]
        url = f"{server.url}/0" if kind is RedisServer else f"{server.url}/governor?{MONGO}"
        shop, other = Shop(url), Shop(url)
        async with shop.governor, other.governor, working(shop) as worker:
            for turn in range(2):
                assert (await shop.end(await other.approved(turn))).status == "completed"
                met = worker.met
                await asyncio.to_thread(server.kill)
                await worker.trouble(met + 2)
                await asyncio.to_thread(server.start)
                assert (await shop.end(await other.approved(10 + turn))).status == "completed"
    assert shop.ran == [0, 10, 1, 11] and other.ran == []
    lines = [line for line in said(caplog, logging.WARNING) if line.startswith("the store ")]
    assert len(lines) == 4 and ["answers again" in line for line in lines] == [False, True] * 2


async def test_a_worker_that_is_to_end_when_nothing_is_due_says_what_is_wrong(tmp_path: Path) -> None:
    """``--once`` waits for nobody: neither for a server that is not there, nor for one that goes away meanwhile."""
    with pytest.raises(StoreUnavailable, match="nothing listens"):
        await Worker(Governor(store=f"redis://127.0.0.1:{free_port()}/0")).run(once=True)
    with RedisServer(tmp_path / "redis") as server:
        shop = Shop(f"{server.url}/0")
        shop.meanwhile = server.kill
        await shop.approved(1)
        with pytest.raises(StoreUnavailable, match="nothing listens"):
            await Worker(shop.governor).run(once=True)
        await shop.governor.close()
    assert shop.ran == [1]
