"""The pages: who comes in, what is decided by them, and what every malformed, stale, forged or foreign request is told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.responses import Response

from governor_agents.core.records import CallState
from governor_agents.errors import ConfigError
from governor_agents.server.access import check_routes, guards_of, open_to_all, routes_of, signed
from governor_agents.server.gate import HEADERS
from tests.pages import BOSS, CFO, EVE, Office, client, form_in, make_office

pytestmark = pytest.mark.anyio


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    made = make_office(f"sqlite:///{tmp_path}/governor.db")
    yield made
    await made.governor.close()


@pytest.fixture
async def web(office: Office) -> AsyncIterator[httpx.AsyncClient]:
    async with client(office) as made:
        yield made


async def opened(web: httpx.AsyncClient, path: str) -> str:
    page = await web.get(path)
    assert page.status_code == 200, page.text
    return page.text


async def state(office: Office, id: str) -> CallState:
    return (await office.governor.approval(id)).call.state


# -- deciding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decision", "more", "ends"),
    [
        ("approve", {}, CallState.APPROVED),
        ("reject", {"reason": "the order is another one"}, CallState.REJECTED),
        ("respond", {"answer": "it was paid yesterday"}, CallState.ANSWERED),
    ],
)
async def test_a_link_decides_once(
    office: Office, web: httpx.AsyncClient, decision: str, more: dict[str, str], ends: CallState
) -> None:
    """The page says who decided what and when; the same answer gives the same page, another one 410."""
    asked = await office.ask()
    link = await office.link(asked)
    html = await opened(web, link)
    sent = form_in(html, "decide", decision=decision, **more)
    first = await web.post(link, data=sent)
    assert first.status_code == 200, first.text
    assert await state(office, asked.id) is ends
    assert CFO in first.text and re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", first.text)
    again = await web.post(link, data=sent)
    assert (again.status_code, again.text) == (200, first.text)
    other = await web.post(link, data={**sent, "decision": "reject" if decision != "reject" else "approve"})
    assert other.status_code == 410
    assert await state(office, asked.id) is ends
    assert [line["what"] for line in await office.refused()] == ["refused.token_used"]
    assert "4711" not in await opened(web, link), "a used link shows the outcome alone"


async def test_an_edit_runs_what_was_typed(office: Office, web: httpx.AsyncClient) -> None:
    """The form comes from the schema; a field that does not fit is told, and what was typed is kept."""
    schema = b'{"properties":{"amount":{"maximum":500,"type":"integer"},"order":{"type":"string"}},"type":"object"}'
    asked = await office.ask({"order": "4711", "amount": 120}, schema=schema)
    link = await office.link(asked)
    html = await opened(web, link)
    form = form_in(html, "edit")
    amount = next(name for name, value in form.items() if value == "120")
    wrong = await web.post(link, data={**form, amount: "900"})
    assert wrong.status_code == 422 and "at most 500" in wrong.text and 'value="900"' in wrong.text
    same = await web.post(link, data=form)
    assert same.status_code == 422 and "Nothing was edited" in same.text
    done = await web.post(link, data={**form, amount: "100"})
    assert done.status_code == 200, done.text
    call = (await office.governor.approval(asked.id)).call
    assert (call.state, call.args) == (CallState.APPROVED, b'{"amount":100,"order":"4711"}')


async def test_a_decision_is_cast_on_what_was_shown(office: Office, web: httpx.AsyncClient) -> None:
    """Somebody edits while the page is open: the answer is 409 with the new request, and nothing was decided."""
    asked = await office.ask(people=(CFO, BOSS), quorum=2)
    link, other = await office.link(asked), await office.link(asked, BOSS)
    html = await opened(web, link)
    edit = form_in(await opened(web, other), "edit")
    args = next(name for name in edit if edit[name] == "120")
    assert (await web.post(other, data={**edit, args: "99999"})).status_code == 200
    stale = await web.post(link, data=form_in(html, "decide", decision="approve"))
    assert stale.status_code == 409 and "has changed" in stale.text and "99999" in stale.text
    votes = (await office.governor.approval(asked.id)).call.votes
    assert [vote.by for vote in votes] == [BOSS]
    fresh = await web.post(link, data=form_in(stale.text, "decide", decision="approve"))
    assert fresh.status_code == 200, "a stale answer did not use the link up"
    assert await state(office, asked.id) is CallState.APPROVED


async def test_a_wrong_word_decides_nothing(office: Office, web: httpx.AsyncClient) -> None:
    """Nothing is sent without the word, what was written is kept, and guessing ends with 429."""
    asked = await office.ask()
    link = await office.link(asked)
    form = form_in(await opened(web, link), "decide", decision="reject", reason="my long reason")
    for word in ("", "wrong"):
        page = await web.post(link, data={**form, "word": word})
        assert page.status_code == 422 and "my long reason" in page.text
    codes = {(await web.post(link, data={**form, "word": f"guess{at}"})).status_code for at in range(30)}
    assert codes == {422, 429}
    assert await state(office, asked.id) is CallState.PENDING
    assert (await office.governor.desk.tokens.look(link.rpartition("/")[2], "decide")).answer == ""


async def test_late_answers_are_told_who_decided(office: Office, web: httpx.AsyncClient) -> None:
    """Another approver was faster: 409 that names them. After the deadline: 410. Neither uses the link."""
    asked = await office.ask(people=(CFO, BOSS))
    mine, theirs = await office.link(asked), await office.link(asked, BOSS)
    html = await opened(web, mine)
    assert (
        await web.post(theirs, data=form_in(await opened(web, theirs), "decide", decision="reject"))
    ).status_code == 200
    late = await web.post(mine, data=form_in(html, "decide", decision="approve"))
    assert late.status_code == 409 and f"rejected by {BOSS}" in late.text
    over = await office.ask(deadline=1e-6)
    link = await office.link(over)
    html = await opened(web, link)
    gone = await web.post(link, data=form_in(html, "decide", decision="approve"))
    assert gone.status_code == 410 and await state(office, over.id) is CallState.EXPIRED


async def test_a_reason_that_the_policy_asks_for(office: Office, web: httpx.AsyncClient) -> None:
    """Without it 422, with it 200, by the same link."""
    asked = await office.ask(reason_required=True)
    link = await office.link(asked)
    form = form_in(await opened(web, link), "decide", decision="reject")
    assert (await web.post(link, data=form)).status_code == 422
    assert (await web.post(link, data={**form, "reason": "no invoice"})).status_code == 200
    assert await state(office, asked.id) is CallState.REJECTED


async def test_who_asked_sees_but_does_not_decide(office: Office, web: httpx.AsyncClient) -> None:
    """The requester has a page without forms; a form that is sent all the same is 403, or not ours."""
    asked = await office.ask(requester=BOSS)
    web.cookies.update(await office.session(BOSS))
    path = f"/requests/{asked.id}"
    html = await opened(web, path)
    assert "You cannot decide this" in html and 'name="decision"' not in html
    link = await office.link(asked, BOSS)
    assert (await web.post(link, data={"form": "x", "seen": "[]", "word": "x"})).status_code == 403
    assert await state(office, asked.id) is CallState.PENDING


async def test_identical_calls_are_decided_together(office: Office, web: httpx.AsyncClient) -> None:
    """One card, the count in words, one answer for each of them."""
    first, second = await office.ask(), await office.ask()
    desk = office.governor.desk
    card = await desk.cards.enter(first, "silent")
    assert (await desk.cards.enter(second, "silent")).id == card.id
    link = await office.link(card.id)
    html = await opened(web, link)
    assert "2 identical calls" in html
    assert (await web.post(link, data=form_in(html, "decide", decision="approve"))).status_code == 200
    assert {await state(office, each.id) for each in (first, second)} == {CallState.APPROVED}


# -- logging in ---------------------------------------------------------------------------------------------------------


async def test_login_by_a_link_that_works_once(office: Office, web: httpx.AsyncClient) -> None:
    """The mail's link shows a form, the form begins a session, the session reads the request, logging out ends it."""
    asked = await office.ask()
    path = f"/requests/{asked.id}"
    closed = await web.get(path)
    assert closed.status_code == 401 and "4711" not in closed.text
    sent = await web.post("/login", data=form_in(closed.text, email=CFO.upper()))
    assert sent.status_code == 200 and await mailed(office) == [CFO]
    link = office.mails[0][1].removeprefix("http://127.0.0.1")
    page = await opened(web, link)
    assert CFO in page and "governor=" not in str(web.cookies)
    entered = await web.post(link, data=form_in(page))
    assert (entered.status_code, entered.headers["location"]) == (303, path)
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Secure" not in cookie
    assert (await web.post(link, data=form_in(page))).status_code == 410
    html = await opened(web, path)
    assert "4711" in html
    copied = dict(web.cookies)
    left = await web.post("/logout", data=form_in(html))
    assert left.status_code == 200
    async with client(office, cookies=copied) as thief:
        assert (await thief.get(path)).status_code == 401


async def mailed(office: Office) -> list[str]:
    """Whom login links were sent to, once everything that runs beside the answers is done."""
    for task in list(office.app.state.behind):
        await task
    return [address for address, _ in office.mails]


async def test_unknown_addresses_look_like_known_ones(office: Office) -> None:
    """The same status, headers and page; nobody unknown gets a mail, and nobody too many."""
    await office.ask()
    pages = []
    for email in (CFO, EVE, "service:mailer@x.example", CFO, CFO, CFO):
        async with client(office, peer=f"10.0.0.{len(pages)}") as visitor:
            form = form_in((await visitor.get("/login")).text, email=email)
            pages.append(await visitor.post("/login", data=form))
    known, unknown, service, *_ = pages
    assert known.status_code == 200 and (known.text, known.headers) == (unknown.text, unknown.headers)
    assert service.status_code == 422
    assert await mailed(office) == [CFO] * 4
    async with client(office) as flood:
        form = form_in((await flood.get("/login")).text, email=EVE)
        codes = [(await flood.post("/login", data=form)).status_code for _ in range(7)]
    assert codes == [200] * 5 + [429] * 2


async def test_a_session_that_was_given_by_a_stranger_is_none(office: Office, web: httpx.AsyncClient) -> None:
    """Session fixation: a cookie that was set before is not the one that the login gives, and stays nobody."""
    await office.ask()
    web.cookies.set("governor", "A" * 43)
    text = await office.governor.desk.tokens.issue("login", CFO, "", within=60.0)
    page = await opened(web, f"/login/{text}")
    entered = await web.post(f"/login/{text}", data=form_in(page))
    given = re.search(r"governor=([^;]+);", entered.headers["set-cookie"])
    assert given is not None and given[1] not in ("A" * 43, text)
    async with client(office, cookies={"governor": "A" * 43}) as stranger:
        assert (await stranger.get("/requests/x.1")).status_code == 401


# -- guards, headers, forgeries -----------------------------------------------------------------------------------------


def test_every_route_says_who_may_use_it(office_app: FastAPI) -> None:
    """The whole table, and what is open is listed here by name; a route without a guard does not start."""
    table = {route.path: next(iter(guards_of(route))).__name__ for route in routes_of(office_app)}  # type: ignore[attr-defined]
    assert {path for path, guard in table.items() if guard == "open_to_all"} == {
        "/healthz", "/readyz", "/pages.css", "/icon.svg",
    }  # fmt: skip
    assert table["/confirm/{token}"] == "decide_link" and table["/requests/{id:path}"] == "session"
    router = APIRouter()

    @router.get("/open-by-mistake")
    async def mistake() -> Response:
        return Response("everything")

    office_app.include_router(router)
    with pytest.raises(ConfigError, match="open-by-mistake"):
        check_routes(office_app)


@pytest.fixture
def office_app(tmp_path: Path) -> FastAPI:
    return make_office(f"sqlite:///{tmp_path}/governor.db").app


async def test_no_route_lets_a_stranger_in(office: Office, web: httpx.AsyncClient) -> None:
    """Without a link, a session or a signature each of them is 401 or 404, whatever the method."""
    for route in routes_of(office.app):
        if guards_of(route) & {open_to_all, signed}:
            continue
        path = re.sub(r"{[^}]*}", "x" * 43, route.path)  # type: ignore[attr-defined]
        for method in route.methods:  # type: ignore[attr-defined]
            answer = await web.request(method, path)
            assert answer.status_code in ((200, 422) if path == "/login" else (401, 404)), (method, path)


async def test_the_headers_of_every_answer(office: Office, web: httpx.AsyncClient) -> None:
    """No script, no frame, no copy, no referrer, no other site: on pages, errors and what no route knows."""
    link = await office.link(await office.ask())
    paths = [link, "/login", "/confirm/x", "/requests/x.1", "/nowhere", "/healthz", "/readyz"]
    answers = [await web.get(path, headers={"Origin": "https://evil.example"}) for path in paths]
    answers.append(await web.request("OPTIONS", link, headers={"Access-Control-Request-Method": "POST"}))
    answers.append(await web.get("/healthz", headers={"Host": "evil.example"}))
    for answer in answers:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, answer.url
        assert not [name for name in answer.headers if name.startswith("access-control")], answer.url
        assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "null", "Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
async def test_a_form_from_elsewhere_is_refused(office: Office, headers: dict[str, str]) -> None:
    """CSRF: with the right form token, word and cookie, but from another page: 403, one line, nothing decided."""
    asked = await office.ask()
    async with client(office, cookies=await office.session()) as web:
        path = f"/requests/{asked.id}"
        form = form_in(await opened(web, path), "decide", decision="approve")
        forged = await web.post(path, data=form, headers=headers)
        assert forged.status_code == 403
        assert await state(office, asked.id) is CallState.PENDING
        assert [line["what"] for line in await office.refused()] == ["refused.foreign_origin"]
        ours = await web.post(path, data=form, headers={"Origin": "null", "Sec-Fetch-Site": "same-origin"})
        assert ours.status_code == 200 and await state(office, asked.id) is CallState.APPROVED


@pytest.mark.parametrize(
    "change", [{"form": ""}, {"form": "0" * 64}, {"seen": "[]"}, {"seen": '[["x.1","d"]]'}], ids=str
)
async def test_a_form_that_is_not_ours_is_refused(
    office: Office, web: httpx.AsyncClient, change: dict[str, str]
) -> None:
    """The token is bound to the reader, the page and what it showed: a made-up one, or another's, is 403."""
    asked, other = await office.ask(), await office.ask(people=(BOSS,))
    link = await office.link(asked)
    form = form_in(await opened(web, link), "decide", decision="approve")
    theirs = form_in(await opened(web, await office.link(other, BOSS)), "decide", decision="approve")
    for forged in ({**form, **change}, theirs):
        assert (await web.post(link, data=forged)).status_code == 403
    assert await state(office, asked.id) is CallState.PENDING
    assert {line["what"] for line in await office.refused()} == {"refused.no_form_token"}


async def test_what_is_none_of_ones_business_looks_like_nothing(tmp_path: Path) -> None:
    """Another tenant's id, a request of others, an unknown and a malformed id: one status, one page, the same headers."""
    store = f"sqlite:///{tmp_path}/governor.db"
    ours, theirs = make_office(store), make_office(store, tenant="other")
    foreign, others = await theirs.ask(), await ours.ask(people=(BOSS,))
    ids = [foreign.id, others.id, "run_aaaaaaaaaaaaaaaaaaaa.1", "nonsense", "c" + "a" * 26, "%00", "a/b/../c.1", "😀.1"]
    link = await theirs.link(foreign)
    async with client(ours, cookies=await ours.session()) as web:
        answers = [await web.get(f"/requests/{id}") for id in ids]
        sent = [await web.post(f"/requests/{id}", data={"form": "x"}) for id in ids]
        assert {(each.status_code, each.text) for each in (*answers, *sent)} == {(404, answers[0].text)}
        assert len({str(sorted(each.headers.items())) for each in (*answers, *sent)}) == 1
        assert (await web.get(link)).text == (await web.get("/confirm/" + "x" * 43)).text
    for each in (ours, theirs):
        await each.governor.close()


@pytest.mark.parametrize("left", [-1.0, 3600.0])
async def test_a_link_whose_time_is_over_says_so_and_does_nothing(
    office: Office, web: httpx.AsyncClient, left: float
) -> None:
    """410 and a line in the stream, by GET and by POST, of a mail's link and of a login's; a session that is over is
    none. The control: the same with time left. What was never given out stays unknown."""
    over = left < 0
    asked = await office.ask()
    form = form_in(await opened(web, await office.link(asked)), "decide", decision="approve")
    link = await office.link(asked, within=left)
    login = "/login/" + await office.governor.desk.tokens.issue("login", CFO, "", within=left)
    for path in (link, login):
        seen = await web.get(path)
        assert seen.status_code == (410 if over else 200)
        assert ("time of this link is over" in seen.text) == over and ("4711" in seen.text) == (
            path == link and not over
        )
    if over:
        assert (await web.post(link, data=form)).status_code == 410
        assert (await web.post(login, data=form)).status_code == 410
        assert {line["what"] for line in await office.refused()} == {"refused.token_expired"}
        assert len(await office.refused()) == 4
        assert await state(office, asked.id) is CallState.PENDING
    session = await office.governor.desk.tokens.issue("session", CFO, "", within=left)
    async with client(office, cookies={"governor": session}) as visitor:
        assert (await visitor.get(f"/requests/{asked.id}")).status_code == (401 if over else 200)
    assert (await web.get("/confirm/" + "x" * 43)).status_code == 404


async def test_what_waits_is_listed_for_whoever_may_decide_it(office: Office, web: httpx.AsyncClient) -> None:
    """After a login that began nowhere: one's own requests, each with its page, and nobody else's."""
    mine, theirs = await office.ask(), await office.ask({"order": "for the boss"}, people=(BOSS,), tool="other_tool")
    assert (await web.get("/")).status_code == 401
    text = await office.governor.desk.tokens.issue("login", CFO, "", within=60.0)
    entered = await web.post(f"/login/{text}", data=form_in(await opened(web, f"/login/{text}")))
    assert entered.headers["location"] == "/"
    html = await opened(web, "/")
    assert f'href="/requests/{mine.id}"' in html and theirs.id not in html and "other_tool" not in html
    await opened(web, f"/requests/{mine.id}")
    web.cookies.clear()
    web.cookies.update(await office.session(EVE))
    assert "Nothing waits for you." in await opened(web, "/")


async def test_whoever_looks_at_it_lets_go_again(office: Office, web: httpx.AsyncClient) -> None:
    """A claim by a page, and its end by the same."""
    asked = await office.ask()
    link = await office.link(asked)
    assert (await web.post(link, data=form_in(await opened(web, link), "take-up"))).status_code == 200
    held = (await office.governor.approval(asked.id)).call.taken_up
    assert held is not None and held.by == CFO
    assert (await web.post(link, data=form_in(await opened(web, link), "release"))).status_code == 200
    assert (await office.governor.approval(asked.id)).call.taken_up is None


async def test_a_seat_is_handed_over_to_whom_the_policy_names(office: Office, web: httpx.AsyncClient) -> None:
    """From the page of the mail; then the other decides on a page of their own. The control: nobody else can be named,
    and where the policy names nobody there is no form."""
    asked = await office.ask(delegates=(EVE,))
    link = await office.link(asked)
    form = form_in(await opened(web, link), "hand-over")
    assert (await web.post(link, data={**form, "to": BOSS})).status_code == 422
    assert (await web.post(link, data={**form, "to": ""})).status_code == 422
    assert (await office.governor.approval(asked.id)).call.handed == ()
    done = await web.post(link, data={**form, "to": EVE})
    assert done.status_code == 200 and f"{EVE} is asked too" in done.text
    web.cookies.update(await office.session(EVE))
    path = f"/requests/{asked.id}"
    theirs = form_in(await opened(web, path), "decide", decision="approve")
    assert (await web.post(path, data=theirs)).status_code == 200
    assert [(vote.by, vote.seat) for vote in (await office.governor.approval(asked.id)).call.votes] == [(EVE, CFO)]
    assert "Hand over" not in await opened(web, await office.link(await office.ask()))


PEOPLE = """
version: 1
people:
  alice: {email: cfo@example.com, slack: T01/U02}
  bob: {email: boss@example.com}
"""


async def test_people_are_looked_up_anew_each_time(tmp_path: Path) -> None:
    """A session and a link end when their person leaves the directory; while it is broken nobody is anybody."""
    file = tmp_path / "people.yaml"
    file.write_text(PEOPLE)
    office = make_office(f"sqlite:///{tmp_path}/governor.db", people=file)
    asked = await office.ask(people=("alice",))
    link = await office.link(asked, "alice")
    async with client(office, cookies=await office.session(CFO)) as web:
        html = await opened(web, f"/requests/{asked.id}")
        assert "4711" in await opened(web, link)
        file.write_text("version: 1\npeople: {alice: {email: [not, an, address]}}\n")
        for path in (f"/requests/{asked.id}", link):
            broken = await web.get(path)
            assert broken.status_code == 503 and "nobody is identified" in broken.text
            assert "people.yaml" not in broken.text and "4711" not in broken.text
        file.write_text("version: 1\npeople: {bob: {email: boss@example.com}}\n")
        for path, status in ((f"/requests/{asked.id}", 401), (link, 404)):
            assert (await web.get(path)).status_code == status
        gone = await web.post(f"/requests/{asked.id}", data=form_in(html, "decide", decision="approve"))
        assert gone.status_code == 401
    assert await state(office, asked.id) is CallState.PENDING
    await office.governor.close()


async def test_a_substitute_decides_for_who_is_away(tmp_path: Path) -> None:
    """By a login of their own; the vote says whose seat it took."""
    file = tmp_path / "people.yaml"
    file.write_text(PEOPLE.replace("slack: T01/U02", "away: {from: 2020-01-01, until: 2999-01-01, substitute: bob}"))
    office = make_office(f"sqlite:///{tmp_path}/governor.db", people=file)
    asked = await office.ask(people=("alice",))
    async with client(office, cookies=await office.session(BOSS)) as web:
        path = f"/requests/{asked.id}"
        form = form_in(await opened(web, path), "decide", decision="approve")
        assert (await web.post(path, data=form)).status_code == 200
    (vote,) = (await office.governor.approval(asked.id)).call.votes
    assert (vote.by, vote.seat) == ("bob", "alice")
    await office.governor.close()


async def test_an_unknown_id_costs_as_much_as_one_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of the store for another tenant's id and for an unknown one is the same, call by call."""
    store = f"sqlite:///{tmp_path}/governor.db"
    ours, theirs = make_office(store), make_office(store, tenant="other")
    foreign, other = await theirs.ask(), await ours.ask(people=(BOSS,))
    kept, calls = ours.governor.runs.store, []
    for name in ("load", "events", "blob", "list", "add_below", "now"):
        real = getattr(kept, name)

        def counted(*given: Any, real: Any = real, name: str = name, **rest: Any) -> Any:
            calls.append((name, *given[:1]))
            return real(*given, **rest)

        monkeypatch.setattr(kept, name, counted)
    asked = []
    async with client(ours, cookies=await ours.session()) as web:
        for id in (foreign.id, "run_aaaaaaaaaaaaaaaaaaaa.1", other.id):
            calls.clear()
            assert (await web.get(f"/requests/{id}")).status_code == 404
            asked.append([call for call in calls if call[0] != "now" and call[1] != "audit"])
    assert asked[0] == asked[1] == asked[2] and ("load", "run") in asked[0]
    for each in (ours, theirs):
        await each.governor.close()


async def test_one_link_sent_in_two_ways_at_once_decides_one(office: Office, web: httpx.AsyncClient) -> None:
    """Approvals and rejections by the same link, all at once, also where more votes are needed: one of them counts."""
    for quorum in (1, 2):
        asked = await office.ask(people=(CFO, BOSS), quorum=quorum)
        link = await office.link(asked)
        form = form_in(await opened(web, link), "decide")
        sent = [web.post(link, data={**form, "decision": ("approve", "reject")[n % 2]}) for n in range(24)]
        statuses = [answer.status_code for answer in await asyncio.gather(*sent)]
        assert statuses in ([200, 410] * 12, [410, 200] * 12), statuses
        votes = (await office.governor.approval(asked.id)).call.votes
        assert [(vote.by, vote.kind) for vote in votes] == [(CFO, "approve" if statuses[0] == 200 else "reject")]
