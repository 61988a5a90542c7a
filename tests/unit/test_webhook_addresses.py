"""Where webhooks may go [31]: a corpus of ways to reach what must not be reached, with connections counted by the interpreter.

An audit hook sees every ``connect`` of this process, from whatever library, and stops it: so nothing is believed but what
was tried at the socket.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from governor_agents.errors import ConfigError, DeliveryFailed
from governor_agents.handlers.webhook import WebhookHandler, webhook
from governor_agents.handlers.webhook.addresses import Target, parse, pinned, public
from tests.webhook_server import SECRET, WebhookServer, here

HOSTS = ["hooks.example.com", "hooks.example.com:8443", "93.184.216.34", "[2606:2800:220:1::1]"]
PUBLIC = "93.184.216.34"

_watching: list[list[str]] = []


class Stopped(OSError):
    """A connection that the audit hook did not let through."""


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _watching and isinstance(args[1], tuple):  # not those of unix sockets
        _watching[-1].append(str(args[1][0]))
        raise Stopped("connections are stopped here")


sys.addaudithook(_hook)


@contextmanager
def connections() -> Iterator[list[str]]:
    """The addresses to which this process tries to connect meanwhile; no attempt gets anywhere."""
    _watching.append([])
    try:
        yield _watching[-1]
    finally:
        _watching.pop()


REFUSED_URLS = [
    "http://hooks.example.com/",
    "HTTP://hooks.example.com/",
    "ftp://hooks.example.com/",
    "file:///etc/passwd",
    "gopher://hooks.example.com/",
    "//hooks.example.com/",
    "hooks.example.com",
    "https:hooks.example.com",
    "https://other.example.com/",
    "https://hooks.example.com.evil.example/",
    "https://evil.example/hooks.example.com",
    "https://hooks.example.com:22/",
    "https://hooks.example.com:99999/",
    "https://hooks.example.com:x/",
    "https://hooks.example.com@evil.example/",
    "https://user:sesame@hooks.example.com/",
    "https://@hooks.example.com/",
    "https://evil.example#@hooks.example.com/",
    "https://hooks.example.com\\@evil.example/",
    "https://evil.example\\.hooks.example.com/",
    "https://hooks.example.com%2eevil.example/",
    "https://hooks.example.com /",
    "https://hooks.example.com\t.evil.example/",
    "https://hooks.exam\tple.com/",
    "https://hooks.example.com\r\nHost: evil.example/",
    "https://hooks.example.com/\r\nX: y",
    "https://hooks。example。com/",
    "https://ｈooks.example.com/",
    "https://hooks.example.com./",
    "https://127.0.0.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://0/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[fe80::1%25eth0]/",
    "https://169.254.169.254/latest/meta-data/",
    "https://localhost/",
    "https:///nothing",
    "https://[hooks.example.com]/",
]
REFUSED_ADDRESSES = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:0:0:0:0:80ff:fffe",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
]


def test_the_corpus_is_as_large_as_promised() -> None:
    """45 cases or more, each once."""
    assert len(set(REFUSED_URLS)) + len(set(REFUSED_ADDRESSES)) >= 45
    assert len(set(REFUSED_URLS)) == len(REFUSED_URLS) and len(set(REFUSED_ADDRESSES)) == len(REFUSED_ADDRESSES)


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_a_url_that_leads_elsewhere_is_refused(url: str) -> None:
    """Refused when the receiver is made, in one line that does not quote what may hold a secret."""
    with pytest.raises(ConfigError) as refused:
        parse(url, HOSTS)
    assert "\n" not in str(refused.value) and "sesame" not in str(refused.value)


def fixed(*answers: Collection[str]) -> Callable[[str, int], Awaitable[Collection[str]]]:
    """A resolver that gives these answers one after the other, the last one for ever."""
    left = list(answers)

    async def resolve(host: str, port: int) -> Collection[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


async def tried(*answers: Collection[str], **options: Any) -> list[str]:
    """The addresses that a delivery tries to connect to, when the name resolves so."""
    handler = WebhookHandler(
        {"x": webhook("https://hooks.example.com/", SECRET, hosts=HOSTS)}, resolve=fixed(*answers), **options
    )
    await handler.start(None)  # type: ignore[arg-type]
    with connections() as made, pytest.raises(DeliveryFailed):
        await handler._send(handler._receiver(""), b"{}")
    return made


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
async def test_a_name_that_leads_inside_is_not_called(address: str) -> None:
    """0 connections, also when a public address stands before or behind the one that is not."""
    for answer in ([address], [PUBLIC, address], [address, PUBLIC]):
        assert await tried(answer) == []
    assert not public(ipaddress.ip_address(address))


async def test_a_public_address_is_called_and_nothing_else() -> None:
    """The control of the corpus: what is allowed is tried, so that the zeros above mean something."""
    assert await tried([PUBLIC]) == [PUBLIC]
    assert await tried([PUBLIC, "2606:2800:220:1::1"]) == [PUBLIC, "2606:2800:220:1::1"]
    assert public(ipaddress.ip_address("64:ff9b::5db8:d822"))


async def test_a_name_that_changes_its_mind_is_called_where_it_was_looked_at() -> None:
    """Rebinding: the second answer is loopback, and nobody asks for it; the delivery after that refuses it."""
    assert await tried([PUBLIC], ["127.0.0.1"]) == [PUBLIC]
    assert await tried(["127.0.0.1"]) == []


@pytest.mark.parametrize("answer", [[], [f"93.184.216.{last}" for last in range(9)], ["not an address"]])
async def test_a_name_with_no_or_too_many_addresses_is_not_called(answer: list[str]) -> None:
    """What cannot be looked at is not called."""
    assert await tried(answer) == []


async def test_a_name_that_does_not_resolve_is_tried_again_later() -> None:
    """Trouble of the transport: the outbox keeps it."""

    async def nothing(host: str, port: int) -> Collection[str]:
        raise OSError("no such host")

    with pytest.raises(DeliveryFailed, match="has no address"):
        await pinned(Target("hooks.example.com", 443, "/"), nothing)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would connect wherever it likes."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:3128")
    assert await tried([PUBLIC]) == [PUBLIC]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    """An answer that points inside is trouble, said with its mend; the place it points at sees no connection."""
    with WebhookServer() as server, WebhookServer() as inside:
        server.standing = (status, {"Location": inside.url})
        handler = server.handler()
        await handler.start(None)  # type: ignore[arg-type]
        with pytest.raises(DeliveryFailed, match="redirects are not followed"):
            await handler._send(handler._receiver("orders"), b"{}")
        assert len(server.posts) == 1 and inside.connections == 0


async def test_loopback_is_reached_only_by_the_switch_of_tests() -> None:
    """The same receiver without the switch: 0 connections."""
    with WebhookServer() as server:
        for switched in (False, True):
            handler = server.handler(loopback=switched)
            await handler.start(None)  # type: ignore[arg-type]
            try:
                await handler._send(handler._receiver("orders"), b"{}")
            except DeliveryFailed as error:
                assert not switched and "public internet" in str(error)
            assert server.connections == int(switched)


async def test_the_connection_is_pinned_and_the_name_is_kept() -> None:
    """TLS asks for the host and checks it, the ``Host`` header names it, and the name is resolved once."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Collection[str]:
        asked.append(host)
        return await here(host, port)

    with WebhookServer() as server:
        handler = server.handler(resolve=resolve)
        await handler.start(None)  # type: ignore[arg-type]
        await handler._send(handler._receiver("orders"), b"{}")
        [post] = server.posts
        assert asked == ["localhost"] and post.server_name == "localhost"
        assert post.headers["host"] == f"localhost:{server.port}" and post.path == "/hook?of=tests"
        other = webhook(f"https://hooks.example.com:{server.port}/", SECRET, hosts=[f"hooks.example.com:{server.port}"])
        with pytest.raises(DeliveryFailed):  # its certificate is for another name
            await handler._send(other, b"{}")
        assert len(server.posts) == 1


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://hooks.example.com/a?b=c", Target("hooks.example.com", 443, "/a?b=c")),
        ("https://HOOKS.example.com:443", Target("hooks.example.com", 443, "/")),
        ("https://hooks.example.com:8443/", Target("hooks.example.com", 8443, "/")),
        ("https://93.184.216.34/", Target("93.184.216.34", 443, "/")),
        ("https://[2606:2800:220:1::1]/", Target("2606:2800:220:1::1", 443, "/")),
    ],
)
def test_a_listed_host_is_taken_apart(url: str, target: Target) -> None:
    """The control: what an operator may write is taken."""
    assert parse(url, HOSTS) == target


def test_the_list_of_hosts_is_what_refuses() -> None:
    """The control of the list: with the host listed the same URL passes; an empty list lets nothing through."""
    assert parse("https://other.example.com/", ["other.example.com"]).host == "other.example.com"
    with pytest.raises(ConfigError):
        parse("https://hooks.example.com/", [])
