"""Whatever is sent: a status that fits, one line in the stream, no trace of the code, no secret in a log, never a 5xx."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends
from starlette.responses import Response

from governor_agents.core.records import CallState
from governor_agents.errors import ConfigError
from governor_agents.server.access import open_to_all
from governor_agents.server.addresses import client_address
from governor_agents.server.logs import JsonLines, masked
from governor_agents.server.settings import Rate, Rates, Settings
from tests.pages import CFO, Office, client, form_in, make_office
from tests.stores import stalled

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

NIGHTLY = bool(os.environ.get("GOVERNOR_NIGHTLY"))
FIT = {200, 303, 401, 403, 404, 405, 409, 410, 413, 422, 429}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
MUCH = Rate(10**6, 60.0)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    made = make_office(f"sqlite:///{tmp_path}/governor.db", rates=Rates(MUCH, MUCH, MUCH, MUCH, MUCH), max_body=65_536)
    yield made
    await made.governor.close()


# -- one by one ---------------------------------------------------------------------------------------------------------


async def test_bodies_are_capped(office: Office) -> None:
    """Said by its length or found on the way, too much is 413 on every route that takes a body; one line each."""
    link = await office.link(await office.ask())

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b"x" * 1024

    async with client(office, cookies=await office.session()) as web:
        paths = (link, "/login", "/logout", "/requests/x.1")
        for path in paths:
            assert (await web.post(path, content=b"x" * 65_537, headers=FORM)).status_code == 413
            assert (await web.post(path, content=pieces(), headers=FORM)).status_code in (413, 404), path
            assert (await web.post(path, content=b"", headers={**FORM, "Content-Length": "9" * 30})).status_code == 413
        assert {line["what"] for line in await office.refused()} >= {"refused.too_large"}
        form = form_in((await web.get(link)).text, "decide", decision="approve", reason="x" * 7000)
        assert (await web.post(link, data=form)).status_code == 200, "what fits is taken"


async def test_a_form_that_anybody_may_send_is_short(office: Office) -> None:
    """To read what fits into a request would take most of a second, and whoever is not logged in may send hundreds."""
    much = {**FORM, "Sec-Fetch-Site": "same-origin"}
    async with client(office) as web:
        for path in ("/login", "/logout"):
            web.cookies = httpx.Cookies(await office.session())
            assert (await web.post(path, content=b"form=" + b"%41" * 6_000, headers=much)).status_code == 413, path
            assert (await web.post(path, content=b"form=" + b"%41" * 5_000, headers=much)).status_code == 403, path


BODIES = {
    "nothing": b"",
    "no form": b'{"decision":"approve"}',
    "not ASCII": b"decision=\xff\xfe",
    "no UTF-8": b"decision=%ff%fe",
    "twice": b"decision=approve&decision=reject&form=x",
    "too many fields": b"&".join(b"f%d=1" % n for n in range(2001)),
    "NUL": b"for%00m=x",
    "no pairs": b"&&&&",
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_form_that_cannot_be_read(office: Office, name: str) -> None:
    """422, or 403 where it could be read and is none of ours; nothing is decided; one line."""
    asked = await office.ask()
    link = await office.link(asked)
    async with client(office) as web:
        answer = await web.post(link, content=BODIES[name], headers=FORM)
    assert answer.status_code == (403 if name == "nothing" else 422), name
    assert len(await office.refused()) == 1
    assert (await office.governor.approval(asked.id)).call.state is CallState.PENDING


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "text/plain", ""])
async def test_only_forms_are_taken(office: Office, kind: str) -> None:
    """What a form of another site could send without being asked (text/plain) is refused as well."""
    link = await office.link(await office.ask())
    async with client(office) as web:
        assert (await web.post(link, content=b"form=x", headers={"Content-Type": kind})).status_code == 422


async def test_no_page_shows_where_the_code_broke(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """A bug is a 500 in plain words; the log has the place and the kind, not what the error said."""

    @office.app.get("/broken", dependencies=[Depends(open_to_all)])
    async def broken() -> Response:
        raise RuntimeError("the password is hunter2")

    caplog.set_level(logging.INFO, "governor_agents.server")
    async with client(office) as web:
        page = await web.get("/broken")
    assert page.status_code == 500 and page.headers["x-frame-options"] == "DENY"
    assert "Traceback" not in page.text and "hunter2" not in page.text + caplog.text
    line = next(JsonLines().format(record) for record in caplog.records if record.levelno == logging.ERROR)
    read = json.loads(line)
    assert read["error"] == "RuntimeError" and "test_bad_input.py:" in read["where"]
    assert read["at"].startswith("20"), "the time is not taken by the place"


async def test_hosts_that_are_not_ours(office: Office) -> None:
    """A page under another name is 404; a load balancer may ask for health by address."""
    async with client(office) as web:
        for host in ("evil.example", "127.0.0.1.evil.example", "", "testserver@evil.example", "[::1]"):
            assert (await web.get("/login", headers={"Host": host})).status_code == 404, host
            assert (await web.get("/healthz", headers={"Host": host})).status_code == 200
        for host in ("testserver", "TESTSERVER:8484", "127.0.0.1:1"):
            assert (await web.get("/login", headers={"Host": host})).status_code == 200, host


async def test_a_path_or_a_method_that_no_route_knows(office: Office) -> None:
    """404 and 405, and one line each; a method of any length is one short line."""
    link = await office.link(await office.ask())
    async with client(office) as web:
        assert (await web.get("/wp-login.php")).status_code == 404
        assert (await web.put(link)).status_code == 405
        assert (await web.request("X" * 60_000, "/nothing")).status_code == 404
    lines = await office.refused()
    assert [line["what"] for line in lines] == ["refused.no_route", "refused.wrong_method", "refused.no_route"]
    assert max(len(line["asked"]) for line in lines) <= 100


async def test_a_form_that_is_cut_off_is_one_line_and_no_fault(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever hangs up in the middle of a form has decided nothing, and nothing is broken here."""
    caplog.set_level(logging.INFO, "governor_agents.server")
    link = await office.link(await office.ask())
    pieces = iter([{"type": "http.request", "body": b"do=dec", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(pieces)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"testserver"), (b"origin", b"http://127.0.0.1"), (b"content-length", b"90")]
    headers.append((b"content-type", FORM["Content-Type"].encode()))
    about = {"type": "http", "http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 1), "query_string": b""}
    await office.app({**about, "method": "POST", "path": link, "headers": headers}, receive, send)
    assert sent[0]["status"] == 408
    assert [line["what"] for line in await office.refused()] == ["refused.cut_off"]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


# -- many ---------------------------------------------------------------------------------------------------------------

WORDS = (
    "", "x", "0" * 64, "../../etc/passwd", "%2e%2e%2f", "\x00", "\r\nSet-Cookie: a=b", "' OR 1=1--", "${jndi:ldap://x}",
    "{{7*7}}", "😀", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "a" * 5000, "-1", "1e999", "null", "[]",
    "[[1,2]]", '[["run_x.1","d"]]', "true", "approve", "édit", "\u202e", "run_aaaaaaaaaaaaaaaaaaaa.1", "t/1.1", "c" + "a" * 26,
)  # fmt: skip
FIELDS = ("form", "seen", "do", "decision", "word", "reason", "answer", "comment", "email", "next", "f0", "f1", "args")
HEADERS = ("Origin", "Referer", "Cookie", "Content-Type", "X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "Range",
           "Sec-Fetch-Site", "Accept-Encoding", "Transfer-Encoding", "X-HTTP-Method-Override", "Authorization")  # fmt: skip


async def send_anything(
    web: httpx.AsyncClient, dice: random.Random, links: list[str], forms: list[dict[str, str]]
) -> int:
    """A request of arbitrary parts, some of them right; its status."""
    method = dice.choice(("GET", "POST", "POST", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"))
    places = (
        "/",
        "/confirm/",
        "/requests/",
        "/login",
        "/login/",
        "/logout",
        "/readyz",
        "/pages.css",
        "/slack",
        "//",
        "/nowhere/",
    )
    path = dice.choice((*links, *links, dice.choice(places) + dice.choice(WORDS), dice.choice(places)))
    path = "/" + "".join(
        c if c.isascii() and (c.isalnum() or c in "/._-%") else f"%{ord(c) % 256:02x}" for c in path[1:]
    )
    form = dict(dice.choice(forms)) if dice.random() < 0.5 else {}
    for _ in range(dice.randint(0, 4)):
        form[dice.choice(FIELDS)] = dice.choice(WORDS)
    headers = {"Content-Type": FORM["Content-Type"]}
    for _ in range(dice.randint(0, 2)):
        text = dice.choice(WORDS).encode("ascii", "replace").decode().replace("\r\n", " ").replace("\x00", "")
        headers[dice.choice(HEADERS)] = text
    content = httpx.Request("POST", "http://x", data=form).content
    if dice.random() < 0.2:
        content = bytes(dice.randrange(256) for _ in range(dice.randint(0, 200)))
    answer = await web.request(method, path, content=content, headers=headers)
    assert "Traceback" not in answer.text and ".py" not in answer.text, answer.text
    return answer.status_code


async def test_whatever_is_sent_is_answered(office: Office) -> None:
    """2,000 requests of arbitrary parts, some of them right (a tenth of them here, all nightly): every status fits."""
    asked = await office.ask({"order": "4711", "amount": 1}, people=(CFO, "boss@example.com"), quorum=2)
    links = [await office.link(asked), f"/requests/{asked.id}"]
    async with client(office, cookies=await office.session()) as web:
        forms = [form_in((await web.get(path)).text, do) for path in links for do in ("decide", "edit", "comment")]
        dice = random.Random(6)
        statuses = [await send_anything(web, dice, links, forms) for _ in range(2000 if NIGHTLY else 250)]
    assert set(statuses) <= FIT, sorted(set(statuses) - FIT)
    assert {403, 404, 405, 422} <= set(statuses)


async def test_a_route_that_breaks_is_found_by_that(office: Office) -> None:
    """Control: the same requests find a route that cannot read them."""

    @office.app.post("/nowhere/{rest:path}", dependencies=[Depends(open_to_all)])
    async def careless(rest: str) -> Response:
        return Response(str(int(rest)))

    async with client(office) as web:
        dice = random.Random(6)
        statuses = {await send_anything(web, dice, ["/nowhere/x"], [{}]) for _ in range(60)}
    assert 500 in statuses


# -- logs ---------------------------------------------------------------------------------------------------------------


async def test_no_log_holds_a_link_a_cookie_or_a_form(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """A line of JSON per request, by its route; the access log of uvicorn prints paths without their secret."""
    caplog.set_level(logging.DEBUG)
    link, cookies = await office.link(await office.ask()), await office.session()
    async with client(office, cookies=cookies) as web:
        form = form_in((await web.get(link)).text, "decide", decision="reject", reason="sesame")
        for path in (link, link + "/more", link.upper(), "/" + link):
            await web.post(path, data=form)
        await web.get("/requests/x.1?next=" + link)
    logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', "1.2.3.4:5", "GET", link, "1.1", 200)
    lines = [JsonLines().format(record) for record in caplog.records if record.name == "governor_agents.server"]
    read = [json.loads(line) for line in lines]
    assert {"/confirm/{token}", "/requests/{id:path}", "(none)"} == {line["route"] for line in read}
    assert {"POST", "GET"} == {line["method"] for line in read} and all("\n" not in line for line in lines)
    secrets = [link.rpartition("/")[2], cookies["governor"], form["form"], "sesame"]
    whole = "\n".join([*lines, *(record.getMessage() for record in caplog.records if record.name != "httpx")])
    assert not [secret for secret in secrets if secret.lower() in whole.lower()]
    assert "/confirm/*" in caplog.text
    assert not [line for line in await office.refused() if any(secret in str(line) for secret in secrets)]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/confirm/abc", "/confirm/*"), ("/login/abc?x=1", "/login/*"), ("//confirm//abc/d", "//confirm//*"),
        ("/CONFIRM/abc", "/CONFIRM/*"), ("/login", "/login"), ("/requests/run_1.1?token=x", "/requests/run_1.1"),
    ],
)  # fmt: skip
def test_paths_are_masked(path: str, shown: str) -> None:
    """What follows /confirm/ and /login/ is a secret, however it is written, and so may be a query."""
    assert masked(path) == shown


# -- limits -------------------------------------------------------------------------------------------------------------


async def test_requests_are_counted_by_address_person_and_all(tmp_path: Path) -> None:
    """The one too many is 429 with a time to wait, for whoever sent it and nobody else; health is not counted."""
    rates = Rates(address=Rate(5, 3600.0), tenant=Rate(12, 3600.0))
    office = make_office(f"sqlite:///{tmp_path}/governor.db", rates=rates)
    seen = []
    for peer in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        async with client(office, peer=peer) as web:
            seen.append([(await web.get("/login")).status_code for _ in range(6)])
            assert (await web.get("/healthz")).status_code == 200
    assert seen == [[200] * 5 + [429], [200] * 5 + [429], [200] * 2 + [429] * 4]
    async with client(office, peer="10.0.0.1") as web:
        late = await web.get("/login")
        assert 0 < int(late.headers["retry-after"]) <= 3600
    await office.governor.close()


async def test_what_one_person_sends_is_counted(tmp_path: Path) -> None:
    """By whom the session is of, from wherever it comes."""
    office = make_office(f"sqlite:///{tmp_path}/governor.db", rates=Rates(person=Rate(3, 3600.0)))
    asked = await office.ask()
    codes = []
    for n in range(5):
        async with client(office, cookies=await office.session(), peer=f"10.0.0.{n}") as web:
            page = (await web.get(f"/requests/{asked.id}")).text
            form = form_in(page, "decide", decision="reject", word="")
            codes.append((await web.post(f"/requests/{asked.id}", data=form)).status_code)
    assert codes == [422] * 3 + [429] * 2
    await office.governor.close()


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "counted"),
    [
        ("10.0.0.1", ["1.2.3.4"], [], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4"], ["10.0.0.0/8"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4"], ["10.0.0.0/8"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6", "1.2.3.4, 10.0.0.9"], ["10.0.0.0/8"], "1.2.3.4"),
        ("10.0.0.1", ["nonsense"], ["10.0.0.0/8"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.2"], ["10.0.0.0/8"], "10.0.0.2"),
        ("::ffff:10.0.0.1", ["1.2.3.4"], ["10.0.0.0/8"], "1.2.3.4"),
        ("2001:db8::1", [], [], "2001:db8::/64"),
        ("2001:db8::2", ["2001:db8:1::7"], ["2001:db8::/64"], "2001:db8:1::/64"),
        ("", [], [], "unknown"),
    ],
)
def test_whose_address_counts(peer: str, forwarded: list[str], trusted: list[str], counted: str) -> None:
    """A header counts only from a proxy that the operator named, and only as far as such proxies vouch for it."""
    networks = Settings.of("http://127.0.0.1", trusted_proxies=tuple(trusted)).trusted_proxies
    assert client_address(peer, forwarded, networks) == counted


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("approvals.example.com", "write scheme and host alone"), ("https://", "write scheme and host alone"),
        ("https://a.example/x", "write scheme and host alone"), ("https://u:p@a.example", "write scheme and host alone"),
        ("ftp://a.example", "write scheme and host alone"), ("https://a.example:99999", "write scheme and host alone"),
        ("http://approvals.example.com", "is not https"), ("https://[::1", "write scheme and host alone"),
    ],
)  # fmt: skip
def test_public_urls_that_cannot_be(url: str, told: str) -> None:
    """One line that names the URL and the mend."""
    with pytest.raises(ConfigError, match=told):
        Settings.of(url)


# -- a store that stalls ------------------------------------------------------------------------------------------------


async def test_a_store_that_stalls_is_not_confirmed_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 that claims nothing; when the store is back the late write has landed, and the same answer is the same page."""
    office = make_office(f"sqlite:///{tmp_path}/governor.db", patience=0.5)
    office_settings = office.app.state.site.settings
    asked = await office.ask()
    link = await office.link(asked)

    async def uncounted(*_: Any) -> float:
        return 0.0

    monkeypatch.setattr(type(office.governor.desk), "take", uncounted)  # else not even the door opens
    async with client(office) as web:
        form = form_in((await web.get(link)).text, "decide", decision="approve")
        with stalled(tmp_path / "governor.db"):
            answer = await web.post(link, data=form)
            assert answer.status_code == 503 and "Not confirmed yet" in answer.text and answer.headers["retry-after"]
            assert not any(word in answer.text for word in ("recorded.", "approved by", "was not"))
            assert (await web.get("/readyz")).status_code in (200, 503)
        while (await office.governor.approval(asked.id)).call.state is CallState.PENDING:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        again = await web.post(link, data=form)
        assert again.status_code == 200 and "approved by" in again.text
    assert office_settings.patience == 0.5
    await office.governor.close()


async def test_a_store_that_is_gone_is_503(office: Office, tmp_path: Path) -> None:
    """Not a page that claims anything, and not ready; alive all the same."""
    link = await office.link(await office.ask())
    (tmp_path / "governor.db").rename(tmp_path / "away")
    for name in ("governor.db-wal", "governor.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "governor.db").mkdir()
    await office.governor.close()
    async with client(office) as web:
        assert (await web.get(link)).status_code == 503
        ready = await web.get("/readyz")
        assert (ready.status_code, ready.json()["store"]) == (503, "unavailable")
        assert (await web.get("/healthz")).status_code == 200
