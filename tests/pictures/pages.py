"""The pictures of the pages, as the served app answers: a request by a link, its edit with a field that does not fit, its outcome."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from importlib import resources

import httpx

from governor_agents.core.records import Comment
from tests.pages import BOSS, CFO, Office, client, form_in, make_office

SCHEMA = json.dumps(
    {
        "type": "object",
        "required": ["order", "amount"],
        "properties": {
            "order": {"type": "string", "description": "The order's number"},
            "amount": {"type": "integer", "maximum": 50_000, "description": "In cents"},
            "currency": {"enum": ["EUR", "USD"]},
            "note": {"type": "string"},
        },
    }
).encode()
ARGS = {
    "order": "4711",
    "amount": 12_000,
    "currency": "EUR",
    "note": "Customer was charged twice \u202e\u200b<b>urgent</b>",
}
Scene = Callable[[Office, httpx.AsyncClient, str], Awaitable[str]]


async def asked(office: Office, web: httpx.AsyncClient, link: str) -> str:
    """What the link of a mail shows."""
    return (await web.get(link)).text


async def edited(office: Office, web: httpx.AsyncClient, link: str) -> str:
    """An edit that does not fit, told at its field."""
    form = form_in((await web.get(link)).text, "edit")
    return (
        await web.post(link, data={name: "900000" if text == "12000" else text for name, text in form.items()})
    ).text


async def decided(office: Office, web: httpx.AsyncClient, link: str) -> str:
    """The outcome."""
    form = form_in((await web.get(link)).text, "decide", decision="approve", reason="Checked with the bank")
    return (await web.post(link, data=form)).text


def drawn(scene: Scene) -> Callable[[], str]:
    """The HTML of a scene, with its stylesheet inside, since no server is there when it is drawn."""

    async def make() -> str:
        with tempfile.TemporaryDirectory() as folder:
            office = make_office(f"sqlite:///{folder}/governor.db")
            approval = await office.ask(
                ARGS,
                schema=SCHEMA,
                people=(CFO, BOSS),
                reason="refunds over 50 EUR",
                headline="Refund {args.amount} cents of order {args.order}",
                call={"comments": (Comment(BOSS, 1_795_000_000.0, "Is this the same customer as last week?"),)},
            )
            async with client(office) as web:
                html = await scene(office, web, await office.link(approval))
            await office.governor.close()
        css = resources.files("governor_agents.server").joinpath("static/pages.css").read_text("utf-8")
        return html.replace('<link rel="stylesheet" href="/pages.css">', f"<style>{css}</style>").replace(
            "/icon.svg", ""
        )

    return lambda: asyncio.run(make())


SCENES = {"page": drawn(asked), "page-edited": drawn(edited), "page-outcome": drawn(decided)}
