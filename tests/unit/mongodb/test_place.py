"""What a MongoDB URL says, what it is refused for, and that no password of it is ever shown."""

import pytest
from pymongo import AsyncMongoClient

from governor_agents.errors import ConfigError, UnsafeStore
from governor_agents.stores import open_store
from governor_agents.stores.mongodb import MongoDBStore
from governor_agents.stores.mongodb.place import Place


@pytest.mark.parametrize(
    ("url", "database", "prefix", "driver"),
    [
        ("mongodb://h", "governor", "ga", "mongodb://h"),
        ("mongodb://h/", "governor", "ga", "mongodb://h/"),
        ("mongodb://h:1,g:2/shop", "shop", "ga", "mongodb://h:1,g:2/shop"),
        ("mongodb://h?collection=x", "governor", "x", "mongodb://h"),
        ("mongodb://h/d?collection=x&unsafe=allow", "d", "x", "mongodb://h/d"),
        ("mongodb://h?maxPoolSize=3&collection=x", "governor", "x", "mongodb://h/?maxPoolSize=3"),
        ("mongodb://h/d?replicaSet=r&collection=x&tls=true", "d", "x", "mongodb://h/d?replicaSet=r&tls=true"),
        ("mongodb://u:p%40@h/d?authSource=admin", "d", "ga", "mongodb://u:p%40@h/d?authSource=admin"),
        ("mongodb://%2Ftmp%2Fmongodb.sock/d", "d", "ga", "mongodb://%2Ftmp%2Fmongodb.sock/d"),
        ("mongodb+srv://u:p@c.example.com/d?w=majority", "d", "ga", "mongodb+srv://u:p@c.example.com/d?w=majority"),
    ],
)
def test_place_names_database_and_collections(url: str, database: str, prefix: str, driver: str) -> None:
    """Database from the path, prefix from our option; all that is not ours goes on to the driver."""
    place = Place.of(url)
    assert (place.database, place.prefix, place.driver) == (database, prefix, driver)
    assert place.url == url and not place.lines and place.unsafe is ("unsafe=allow" in url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mongodb://", "write mongodb://"),
        ("mongodb:///d", "write mongodb://"),
        ("mongodb://h/a b", "database"),
        ("mongodb://h/a.b", "database"),
        (f"mongodb://h/{'x' * 64}", "database"),
        ("mongodb://h?collection=", "collection"),
        ("mongodb://h?collection=a$b", "collection"),
        ("mongodb://h?collection=system.x", "collection"),
        ("mongodb://h?unsafe=yes", "unsafe=allow"),
        ("mongodb://h?wtimeoutMS=soon", "wtimeoutMS"),
        ("mongodb://h?maxPoolSize=many", "maxPoolSize"),
        ("mongodb://h?tsl=true", "tsl"),
        ("mongodb+srv://h/d?tsl=true", "tsl"),
        ("mongodb://h:port/d", "driver"),
        ("mongodb://u:se/cret@h/d", "%2F"),
        ("mongodb://u:se@cret@h/d", "%40"),
        ("mongodb://u:se?cret@h/d", "%3F"),
        ("mongodb://u:secret@h/d?tls=maybe", "driver"),
        ("mongodb+srv://h,g/d", "driver"),
    ],
)
def test_place_refuses_in_one_line_without_the_password(url: str, says: str) -> None:
    """What cannot be is refused before anything is connected to, and the line names the mend."""
    with pytest.raises(ConfigError) as refused:
        _client_of(url)
    text = str(refused.value)
    assert says in text and "\n" not in text and "cret" not in text
    assert refused.value.__cause__ is None


def _client_of(url: str) -> None:
    from governor_agents.stores.mongodb.store import _client

    _client(Place.of(url))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("w=0", "w=majority"),
        ("w=1", "w=majority"),
        ("w=1&j=true", "w=majority"),
        ("j=false", "j=true"),
        ("journal=false", "j=true"),
        ("readPreference=secondary", "readPreference=primary"),
        ("readPreference=nearest", "readPreference=primary"),
        ("readConcernLevel=local", "readConcernLevel=majority"),
        ("READPREFERENCE=secondary", "readPreference=primary"),
    ],
)
async def test_open_refuses_unsafe_options(options: str, says: str) -> None:
    """Each of them is refused in one line with the mend, before the server is asked."""
    store = open_store(f"mongodb://u:secret@127.0.0.1:1/d?{options}")
    with pytest.raises(UnsafeStore) as refused:
        await store.open()
    assert says in str(refused.value) and "unsafe=allow" in str(refused.value)
    assert "secret" not in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "options", ["w=majority", "w=2", "j=true", "readPreference=primary", "readConcernLevel=majority"]
)
def test_safe_options_are_not_refused(options: str) -> None:
    """The control: what loses nothing passes."""
    assert Place.of(f"mongodb://h/d?{options}").lines == ()


def test_unsafe_options_count_only_when_they_are_allowed() -> None:
    """With ``unsafe=allow`` the URL's write concern is used, at least one server that acknowledges."""
    assert Place.of("mongodb://h?w=0&unsafe=allow").concern == (1, True)
    assert Place.of("mongodb://h?w=1&j=false&unsafe=allow").concern == (1, False)
    assert Place.of("mongodb://h?w=3&unsafe=allow").concern == ("majority", True)
    assert Place.of("mongodb://h?wtimeoutMS=77").wtimeout == 77


def test_nothing_shows_the_password() -> None:
    """Neither the place nor the store, however they are printed."""
    url = "mongodb://u:secret@h/d?collection=x"
    for shown in (repr(Place.of(url)), str(Place.of(url)), repr(MongoDBStore(url))):
        assert "secret" not in shown


async def test_options_of_the_url_reach_the_driver() -> None:
    """Pool, time-outs and names are the driver's; only where the URL is silent do ours stand."""
    from governor_agents.stores.mongodb.store import _client

    client: AsyncMongoClient[dict[str, object]] = _client(
        Place.of("mongodb://h/d?maxPoolSize=7&serverSelectionTimeoutMS=1234&appname=mine&collection=x")
    )
    told = client.options
    assert told.pool_options.max_pool_size == 7 and told.server_selection_timeout == 1.234
    assert told.pool_options.appname == "mine" and told.pool_options.socket_timeout == 30.0
    await client.close()


async def test_srv_is_asked_of_the_dns_when_the_store_opens() -> None:
    """The driver reads what stands behind such a URL; a name that nobody knows is one clear line."""
    from governor_agents.errors import StoreUnavailable

    store = open_store("mongodb+srv://u:secret@cluster.invalid/d?serverSelectionTimeoutMS=300&connectTimeoutMS=300")
    with pytest.raises(StoreUnavailable) as refused:
        await store.open()
    assert (
        "\n" not in str(refused.value)
        and "secret" not in str(refused.value)
        and "cluster.invalid" in str(refused.value)
    )
