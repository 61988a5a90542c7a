"""docs/redis.md is right: its settings, URLs, options, permissions and keys are those of the code."""

import contextlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Governor
from governor_agents.core.ports import Blob, Record, StoredEvent
from governor_agents.errors import StoreUnavailable
from governor_agents.stores.redis import RedisStore, keys, place
from governor_agents.stores.redis.safety import OLDEST
from tests.servers import RedisCluster, RedisServer

DOCUMENT = (Path(__file__).parents[3] / "docs" / "redis.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
RECORD = Record("run", "default", "run_abc", b"body", index={"state": "s"}, due=1.0)


def block(begins: str) -> str:
    """The block that begins so."""
    [found] = [text for _, text in BLOCKS if text.startswith(begins)]
    return str(found)


def rows(head: str) -> list[list[str]]:
    """The cells of the table that has this head."""
    table = DOCUMENT[DOCUMENT.index(head) :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def quoted(text: str) -> list[str]:
    """What stands in code there."""
    return re.findall(r"`([^`]+)`", text)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server with the settings of the document and no others."""
    folder = tmp_path_factory.mktemp("redis")
    (folder / "redis.conf").write_text(block("appendonly"))

    class Documented(RedisServer):
        def command(self) -> list[str]:
            given = {"bind": "127.0.0.1", "port": str(self.port), "dir": str(self.folder)}
            options = [part for name, value in given.items() for part in (f"--{name}", value)]
            return [super().command()[0], str(folder / "redis.conf"), *options]

    with Documented(folder) as server:
        yield server


async def use(url: str) -> None:
    """Each method of the store once."""
    store = RedisStore(url)
    await store.open()
    assert await store.wait(3600)  # once it listens
    assert (await store.insert(RECORD, op="a")).won
    assert (await store.insert(replace(RECORD, id="gone"), op="a")).won
    assert await store.delete("run", "default", "gone", 1)
    assert (await store.swap(replace(RECORD, v=1), op="b", events=[StoredEvent(1, b"e")], not_after=9e9)).won
    assert (await store.swap(replace(RECORD, v=2, index={}, due=None), op="c", blobs=[Blob("d", b"x")])).won
    assert not (await store.swap(replace(RECORD, v=9), op="z")).won
    assert (await store.swap(replace(RECORD, v=3), op="d")).won
    assert len(await store.list("run", "default")) == len(await store.scan("run")) == 1
    assert await store.list("run", "default", {"state": "s", "agent": "a"}) == []
    assert len(await store.due("run", "default")) == len(await store.events("run", "default", "run_abc")) == 1
    assert await store.blob("run", "default", "run_abc", "d") == b"x"
    assert await store.load("run", "default", "run_abc") == replace(RECORD, v=4)
    assert await store.add_below("default", "c", 1, 2, op="a") == 1
    assert await store.check() == []
    await store.close()


async def test_settings_are_enough(server: RedisServer) -> None:
    """A server that has them, and is otherwise as it comes, is let in, also by who asks for the most."""
    store = RedisStore(f"{server.url}?appendfsync=always")
    await store.open()
    assert await store.check() == []
    await store.close()


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with an empty policy file."""
    (tmp_path / "governor.yaml").write_text("version: 1\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("rules")
async def test_python_is_right(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands it makes a governor that opens the store; and one finds it in the environment."""
    [code] = [text for language, text in BLOCKS if language == "python"]
    names: dict[str, Any] = {}
    exec(code.replace("redis://:PASSWORD@HOST:6379/0", server.url), names)
    await names["governor"].open()
    await names["governor"].close()
    [line] = [text for language, text in BLOCKS if language == "bash"]
    name, _, value = line.removeprefix("export ").strip().partition("=")
    monkeypatch.setenv(name, value.replace(":PASSWORD@HOST:6379/0", server.url.removeprefix("redis://")))
    assert Governor().store.url == server.url


def test_urls_can_be_read() -> None:
    """Every form in the table, the one under TLS too, and no scheme is left out."""
    found = {url.partition("://")[0]: url for row in rows("| Form |") for url in quoted(row[0]) + quoted(row[1])}
    assert set(found) == set(place.FORMS)
    for url in found.values():
        if not url.endswith("://"):
            assert place.Place.of(url).shown


def test_options_are_all_there() -> None:
    """No option is left out or made up, and each default is the code's."""
    table = {name: row[1] for row in rows("| Option |") for name in quoted(row[0])}
    assert set(table) == place._OPTIONS
    defaults = place.Place.of("redis://h")
    for name in ("namespace", "min_replicas", "protocol", "timeout", "connections", "db"):
        assert table[name].strip("`") == f"{getattr(defaults, name):g}".rstrip() if name != "namespace" else "ga"
    for name in set(quoted(DOCUMENT)) & {"appendfsync=always", "unsafe=allow", "scripting=no"}:
        place.Place.of(f"redis://h?{name}")


async def permitted(server: RedisServer, rules: str) -> None:
    """Make a user by the document's command, and use the store as he."""
    with contextlib.closing(server.client()) as client:
        client.execute_command(*rules.split())
        client.execute_command("ACL", "SETUSER", "governor", ">" + (password := secrets.token_hex(4)))
        name = secrets.token_hex(4)
        client.execute_command("ACL", "SETUSER", "governor", f"~{{{name}:*", f"&{name}:*")
    await use(f"{server.url.replace('://', f'://governor:{password}@')}?namespace={name}")


async def test_permissions_are_enough(server: RedisServer) -> None:
    """With scripts, and without them."""
    rules = block("ACL SETUSER").replace("PASSWORD", "pw")
    await permitted(server, f"ACL SETUSER governor reset {rules.partition('governor ')[2]}")
    without = rules.replace("+eval +evalsha", "+watch +unwatch +multi +exec")
    await permitted(server, f"ACL SETUSER governor reset {without.partition('governor ')[2]}")


async def test_permissions_for_more_are_enough(tmp_path: Path) -> None:
    """Those that the document adds for a cluster and for ``min_replicas``; without them they lack."""
    rules = block("ACL SETUSER").split()[3:]
    cluster_more = ["+cluster|slots", "+asking", "+config|get"]
    assert all(f"`{word}`" in DOCUMENT for word in ("+role", "+wait", "+cluster|slots +asking", "+config|get"))
    with RedisCluster(tmp_path) as cluster:
        for node in cluster.nodes:
            with contextlib.closing(node.client()) as client:
                client.execute_command("ACL", "SETUSER", "governor", "reset", *rules, *cluster_more, "+wait")
                client.execute_command("ACL", "SETUSER", "less", "reset", *rules, "-wait")
        hosts = cluster.url.partition("://")[2]
        await use(f"redis+cluster://governor:PASSWORD@{hosts}?appendfsync=always")
        with pytest.raises(StoreUnavailable, match="lacks a permission"):
            await use(f"redis+cluster://less:PASSWORD@{hosts}")
        with pytest.raises(StoreUnavailable, match="replicas have the write"):
            await use(f"redis+cluster://governor:PASSWORD@{hosts}?min_replicas=1&timeout=1")


@pytest.mark.parametrize("scripting", ["auto", "no"])
async def test_no_permission_is_too_many(server: RedisServer, scripting: str) -> None:
    """Each command of the list is used, and none is younger than the oldest server that is let in."""
    listed = set(re.findall(r"\+(\w+)", block("ACL SETUSER")))
    if scripting == "no":
        listed = listed - {"eval", "evalsha"} | {"watch", "unwatch", "multi", "exec"}
    with contextlib.closing(server.client()) as client:
        client.config_resetstat()
        await use(f"{server.url}?namespace={secrets.token_hex(4)}&scripting={scripting}")
        used = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
        assert listed - {"select", "ping"} <= used  # those are redis-py's, for a database and for quiet times
        said = client.execute_command("COMMAND DOCS", *listed)
        documents = list(said.values() if isinstance(said, dict) else said[1::2])
        pairs = [
            each if isinstance(each, dict) else dict(zip(each[::2], each[1::2], strict=True)) for each in documents
        ]
        assert len(pairs) == len(listed)
        assert max(tuple(map(int, each[b"since"].split(b".")))[:2] for each in pairs) <= OLDEST


async def test_keys_lie_where_it_says(server: RedisServer) -> None:
    """The layout of the document is that of the code, and there is nothing else."""
    layout = block("{ga:0}:store")
    assert keys.__doc__ is not None
    assert [line.strip() for line in layout.splitlines()] == [
        line.strip() for line in keys.__doc__.splitlines() if line.startswith("    {ga")
    ]
    name = secrets.token_hex(4)
    await use(f"{server.url}?namespace={name}")
    sorts = {line.split(":")[2].split()[0]: line.split()[1] for line in layout.splitlines()}
    with contextlib.closing(server.client()) as client:
        stored = {key.decode(): client.type(key).decode() for key in client.keys(f"{{{name}:*")}
        assert {key.split(":")[2] for key in stored} == set(sorts)
        for key, sort in stored.items():
            assert sorts[key.split(":")[2]] == sort
            assert client.ttl(key) == -1
