"""URLs that people write: a store's is shown without what opens it; the one of the pages leads to them."""

import re
from pathlib import Path

import pytest

import governor_agents
from governor_agents import Governor, PolicySet
from governor_agents.core.urls import shown
from governor_agents.errors import ConfigError
from governor_agents.handlers.words import Commands

SECRET = "pl4nted"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@host:6379/0",
        f"rediss://me:{SECRET}@host",
        f"redis://{SECRET}@host",
        f"redis://me:a@b{SECRET}/c@host/0",
        f"redis://me:a?{SECRET}@host/0",
        f"redis://me:a?x=y&{SECRET}@host/0",
        f"redis://me:a#{SECRET}@host/0",
        f"redis+cluster://me:{SECRET}@a:1,b:2",
        f"redis://host/0?password={SECRET}",
        f"unix:///run/redis.sock?db=0&PassWord={SECRET}",
        f"unix://me:{SECRET}@/run/redis.sock",
        f"mongodb://me:{SECRET}@a:1,b:2/db?replicaSet=r",
        f"mongodb+srv://{SECRET}:x@host/db",
        f"mongodb://host/db?tlsCertificateKeyFilePassword={SECRET}",
        f"mongodb://host/db?authMechanismProperties=AWS_SESSION_TOKEN:{SECRET}",
        f"me:{SECRET}@host",
    ],
)
def test_what_opens_a_store_is_not_shown(url: str) -> None:
    """Wherever it stands; nor in commands to be pasted, which then take the URL from the environment."""
    assert SECRET not in shown(url)
    line = Commands(url).line("inbox list")
    assert SECRET not in line and line.startswith('governor-agents inbox list --store "$GOVERNOR_STORE"')


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///governor.db",
        "sqlite:////data/a@b/governor.db?synchronous=full&unsafe=allow",
        "redis://host:6379/0?namespace=a",
        "redis+cluster://a:1,b:2?min_replicas=1",
        "mongodb://a:1,b:2/db?replicaSet=r&collection=ga",
        "memory://",
    ],
)
def test_what_hides_nothing_is_shown_whole(url: str) -> None:
    """Then it can be pasted."""
    assert shown(url) == url
    assert "$GOVERNOR_STORE" not in Commands(url).line("inbox list")


def test_what_is_left_tells_which_store_it_is() -> None:
    """Host, path and harmless options stay."""
    url = f"rediss://me:{SECRET}@host:6380/0?namespace=a&username=u"
    assert shown(url) == "rediss://***@host:6380/0?namespace=a&username=***"


def test_no_text_shows_a_url_as_it_is() -> None:
    """Wherever the package puts a store's URL into a text, it goes through `shown`; stores of files hold no password."""
    room = Path(governor_agents.__file__).parent
    bare = re.compile(r"\{[\w.]*\burl(!r)?\}")
    found = [str(path.relative_to(room)) for path in room.rglob("*.py") if bare.search(path.read_text("utf-8"))]
    assert {name for name in found if "sqlite" not in name and "memory" not in name} == set()
    assert found, "the control: the pattern finds those of files"


@pytest.mark.parametrize(
    "url", ["http://ok.example", "ok.example", "https://ok.example/a", "javascript:alert(1)", "https://u:hush@a"]
)
def test_a_governor_tells_nobody_links_that_do_not_lead_to_its_pages(url: str) -> None:
    """Whoever mails and posts them refuses what the server of the pages refuses, and repeats no password."""
    with pytest.raises(ConfigError, match="public URL") as refused:
        Governor(PolicySet([]), store="memory://", public_url=url)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["", "https://ok.example/", "https://ok.example:8443", "http://127.0.0.1:8484", "http://[::1]:1"]
)
def test_where_its_pages_are_a_governor_takes(url: str) -> None:
    """https, or this machine, or nowhere."""
    governor = Governor(PolicySet([]), store="memory://", public_url=url)
    assert governor.desk.public_url == url.rstrip("/")
    governor.close_sync()
