"""One server process of several on one store: ``python -m tests.server.limited URL PERSON_LINK COUNT``.

Sends requests to its own pages and prints how many of them were let in: by address, and by person.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from governor_agents.server.settings import Rate, Rates
from tests.pages import Office, client, form_in, make_office

AGES = 10.0**9
"""Seconds: a window that does not end while a test runs."""

ADDRESS, PERSON = 60, 24


def office_at(url: str) -> Office:
    """Pages whose limits are few per age."""
    much, rates = Rate(10**6, 60.0), {"address": Rate(ADDRESS, AGES), "person": Rate(PERSON, AGES)}
    return make_office(url, rates=Rates(tenant=much, login=much, login_tenant=much, **rates))


async def main(url: str, path: str, count: str) -> None:
    """Ask, print, end."""
    office = office_at(url)
    let_in: list[int] = []
    async with client(office, peer="10.0.0.1") as web:
        let_in.append(sum([(await web.get("/login")).status_code == 200 for _ in range(int(count))]))
    sent: list[Any] = []
    for n in range(int(count)):  # each from an address of its own: it is the person who is counted
        async with client(office, peer=f"10.{sum(map(ord, path)) % 200}.{n}.{id(office) % 250}") as web:
            form = form_in((await web.get(path)).text, "decide", decision="approve", word="")
            sent.append((await web.post(path, data=form)).status_code)
    let_in.append(sent.count(422))
    await office.governor.close()
    print(*let_in)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
