"""Redis URLs: what they say, what is refused, and that no password is ever shown."""

from pathlib import Path

import pytest

from governor_agents.errors import ConfigError
from governor_agents.stores import open_store
from governor_agents.stores.redis.place import FORMS, Place


def test_a_plain_url_has_the_defaults() -> None:
    """What is not written is what one would expect."""
    place = Place.of("redis://cache.example")
    assert (place.form, place.tls, place.addresses) == ("server", False, (("cache.example", 6379),))
    assert (place.db, place.namespace, place.partitions, place.protocol) == (0, "ga", 0, 2)
    assert (place.username, place.password, place.min_replicas, place.unsafe) == ("", "", 0, False)


def test_everything_can_be_said_in_a_url() -> None:
    """User, password, port, database and options; what is quoted is unquoted."""
    place = Place.of(
        "rediss://me:a%40b%2Fc@h:7000/3?namespace=x.y-z_1&partitions=4&protocol=3&min_replicas=2&timeout=9"
    )
    assert (place.tls, place.addresses, place.db) == (True, (("h", 7000),), 3)
    assert (place.username, place.password) == ("me", "a@b/c")
    assert (place.namespace, place.partitions, place.protocol, place.min_replicas) == ("x.y-z_1", 4, 3, 2)
    assert place.timeout == 9.0


def test_a_password_needs_no_user() -> None:
    """As Redis itself had it before it knew users."""
    assert (Place.of("redis://:pw@h").username, Place.of("redis://:pw@h").password) == ("", "pw")


def test_sentinels_are_named_with_their_master() -> None:
    """Several hosts, the master's name, and passwords of their own."""
    place = Place.of("redis+sentinel://u:p@a,b:1,[::1]:2/mymaster/5?sentinel_password=q&sentinel_username=s")
    assert place.addresses == (("a", 26379), ("b", 1), ("::1", 2))
    assert (place.master, place.db, place.password) == ("mymaster", 5, "p")
    assert (place.sentinel_username, place.sentinel_password) == ("s", "q")


def test_a_cluster_is_named_by_some_of_its_nodes() -> None:
    """Any of them will do."""
    place = Place.of("rediss+cluster://a:1,b:2")
    assert (place.form, place.tls, place.addresses) == ("cluster", True, (("a", 1), ("b", 2)))


def test_a_socket_is_a_path() -> None:
    """With the database among the options."""
    place = Place.of("unix://u:p@/run/redis/redis.sock?db=2")
    assert (place.form, place.socket, place.db, place.username, place.password) == (
        "socket",
        "/run/redis/redis.sock",
        2,
        "u",
        "p",
    )


def test_url_opens_the_same_store_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths of certificates become absolute: another process has another working directory."""
    monkeypatch.chdir(tmp_path)
    store = open_store("rediss://u:p%40@h/1?ssl_ca_certs=ca.pem&namespace=x")
    monkeypatch.chdir("/")
    again = Place.of(store.url)
    assert again.files == {"ssl_ca_certs": f"{tmp_path}/ca.pem"}
    assert (again.password, again.namespace, again.db) == ("p@", "x", 1)
    assert Place.of("redis://u:p@h/1?namespace=x").url == "redis://u:p@h/1?namespace=x"


REFUSED = {
    "redis://": "host:port",
    "redis:///0": "host:port",
    "redis://h:0": "host:port",
    "redis://h:99999": "host:port",
    "redis://a,b": "redis\\+cluster or redis\\+sentinel",
    "redis://h/x": "the database is a number",
    "redis://h/1?db=2": "once",
    "redis://h?nothing=1": "unknown option nothing",
    "redis://h?namespace=a:b": "a namespace is",
    "redis://h?namespace={a}": "a namespace is",
    "redis://h?namespace=": "a namespace is",
    "redis://h?partitions=0": "from 1 to 256",
    "redis://h?partitions=٣": "from 1 to 256",
    "redis://h?protocol=4": "from 2 to 3",
    "redis://h?min_replicas=-1": "from 0 to 16",
    "redis://h?timeout=0": "from 1 to 600",
    "redis://h?unsafe=yes": "write unsafe=allow",
    "redis://h?scripting=yes": "write scripting=no",
    "redis://h?appendfsync=no": "write appendfsync=always",
    "redis://h?ssl_ca_certs=x": "begin the URL with rediss",
    "redis+sentinel://h": "name the master",
    "redis+cluster://h/1": "one database",
    "unix://relative.sock": "unix:///path",
    "redis://u:p#w@h": "write @",
    "redis://u:p?w@h": "write @",
}


@pytest.mark.parametrize("url", REFUSED)
def test_what_cannot_be_meant_is_refused(url: str) -> None:
    """With one line that names the URL and the mend."""
    with pytest.raises(ConfigError, match=REFUSED[url]) as caught:
        open_store(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", sorted(FORMS))
def test_no_password_is_shown(scheme: str) -> None:
    """Neither in errors nor in reprs, whatever is wrong with the URL and wherever in it a password stands."""
    where = {"socket": "/x", "sentinel": "h/m"}.get(FORMS[scheme][0], "h")
    for secret in ("hunter2", "hun?ter2", "hunter2@x", "hun#ter2", "hun/ter2"):
        for rest in ("", "?nothing=1", "?partitions=x", "?sentinel_password=hunter2&protocol=9"):
            url = f"{scheme}://u:{secret}@{where}{rest}"
            try:
                shown = repr(Place.of(url)) + Place.of(url).shown
            except ConfigError as error:
                shown = str(error) + repr(error)
            assert "hunter2" not in shown and "ter2" not in shown, url


def test_every_scheme_reaches_the_driver() -> None:
    """Each is known to `open_store`."""
    for scheme, (form, _) in FORMS.items():
        where = {"socket": "/x", "sentinel": "h/m"}.get(form, "h")
        assert open_store(f"{scheme}://{where}").url == f"{scheme}://{where}"
