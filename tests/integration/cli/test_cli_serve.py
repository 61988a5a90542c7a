"""``governor-agents serve`` as it is run: a process of its own, decided by over HTTP, stopped by a signal."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from governor_agents import Governor
from tests.integration.cli.conftest import Shop
from tests.pages import form_in

pytestmark = pytest.mark.timeout(600)

OPS = "ops@example.com"


@contextlib.contextmanager
def serving(shop: Shop, *words: str) -> Iterator[tuple[str, Path]]:
    """A server process on a free port; its URL, and the file of what it says on standard error."""
    said = shop.folder / f"said-{len(list(shop.folder.glob('said-*')))}"
    with said.open("w") as stream:
        command = shop.command("serve", "app:governor", "--port", "0", *words)
        process = subprocess.Popen(command, cwd=shop.folder, env=shop.environment, stderr=stream)
    try:
        while not (found := re.search(r"listening on \S+ port (\d+)", said.read_text())):
            assert process.poll() is None, said.read_text()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        yield f"http://127.0.0.1:{found[1]}", said
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def link(approval: str) -> str:
    """A mail's link, made by another process than the one that serves."""
    governor = Governor.from_file("governor.yaml")
    try:
        work = governor.desk.tokens.issue("decide", OPS, approval, within=3600.0)
        return "/confirm/" + governor.caller_loop.call(work)
    finally:
        governor.close_sync()


def test_a_link_is_decided_and_a_worker_runs_it(shop: Shop) -> None:
    """Asked here, decided over HTTP in the server's process, run by a worker's; no line says the link."""
    approval = shop.ask()
    path = link(approval)
    with serving(shop) as (url, said), httpx.Client(base_url=url, headers={"Origin": url}, timeout=60) as web:
        assert web.get("/healthz").json() == {"status": "ok"}
        assert web.get("/readyz").json() == {"status": "ready", "store": "ok", "channels": {}}
        page = web.get(path)
        assert page.status_code == 200 and "server" not in page.headers
        done = web.post(path, data=form_in(page.text, "decide", decision="approve", reason="checked"))
        assert done.status_code == 200 and f"approved by {OPS}" in done.text
    lines = [json.loads(line) for line in said.read_text().splitlines() if line.startswith("{")]
    assert [(line["method"], line["status"]) for line in lines if line.get("route") == "/confirm/{token}"] == [
        ("GET", 200), ("POST", 200),
    ]  # fmt: skip
    assert path.rpartition("/")[2] not in said.read_text()
    shop.work()
    assert shop.ledger == ["4711 120 "]


def test_only_this_machine_by_default(shop: Shop) -> None:
    """Nothing listens on another address, and one that is reached from elsewhere must say by which https name."""
    with serving(shop) as (url, _):
        port = int(url.rpartition(":")[2])
        with socket.socket() as elsewhere:
            elsewhere.bind(("127.0.0.2", 0))
            assert elsewhere.connect_ex(("127.0.0.2", port)) != 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["app:governor", "--host", "0.0.0.0"], "say where people reach it, with --public-url"),
        (["app:governor", "--public-url", "http://approvals.example.com"], "is not https"),
        (["app:governor", "--public-url", "approvals.example.com"], "public URL approvals.example.com: write scheme"),
        (["app:governor", "--public-url", "u:secret@approvals"], "public URL ***: write scheme and host alone"),
        (["app:governor", "--name", "https://approvals"], "name https://approvals: write a host alone"),
        (["app:governor", "--name", "approvals:8484"], "write a host alone"),
        (["app:governor", "--trusted-proxy", "everybody"], "write an address or a network"),
        (
            ["app:governor", "--host", "203.0.113.1", "--public-url", "https://a.example"],
            "cannot listen on 203.0.113.1 port 8484: Cannot assign requested address; name an address of this machine",
        ),
        (["app:private"], "which no other process can see"),
        (["app:number"], "must be a Governor"),
        (["app:governor", "--port", "99999"], "65535"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(shop: Shop, words: list[str], told: str) -> None:
    """Exit 2, the thing and the mend, nothing else."""
    answer = shop("serve", *words)
    assert answer.code == 2 and told in answer.err and answer.err.count("\n") == 1, answer.err


def test_a_port_that_is_taken(shop: Shop) -> None:
    """Who has it is not known; that it is taken, and what to do, is."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        answer = shop("serve", "app:governor", "--port", str(other.getsockname()[1]))
    assert answer.code == 2 and "choose another with --port" in answer.err
