"""(k) From a click in Slack to its acknowledgement, at 50 clicks a second on one server process.

The server is the real one, over a SQLite file; Slack is a local stand-in in this process, which also clicks, so the two
share the machine's cores as they would not elsewhere. Each click approves a request of its own, is signed, is checked
against the card that was posted, and is answered when the decision is durable. Clicks are sent by the clock, whether or
not earlier ones were answered, and a click that is answered late counts from when it was due. Between two clicks the
same server is asked whether it is alive: what any answer of it costs.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from slack_sdk.web.async_client import AsyncWebClient

from benchmarks.clicks_app import ALICE, POLICY, TEAM
from benchmarks.measure import Spread, percentile
from benchmarks.report import Report
from governor_agents import Governor, PolicySet
from governor_agents.core.channels import Place
from governor_agents.core.records import CallState
from governor_agents.handlers.slack.controls import Spot, value
from governor_agents.testing.slack_interactions import Interaction
from governor_agents.testing.slack_server import SlackServer, Workspace

ROOT = Path(__file__).resolve().parents[1]
RATE, SECONDS = 50, 20.0
PATIENCE = 120.0


@asynccontextmanager
async def server(env: dict[str, str]) -> AsyncIterator[str]:
    """A server process; its URL."""
    command = (sys.executable, "-m", "governor_agents", "serve", "benchmarks.clicks_app:governor", "--port", "0")
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env={**os.environ, **env}, stderr=PIPE)
    if process.stderr is None:
        raise RuntimeError("the server says nothing")
    said = (await asyncio.wait_for(process.stderr.readline(), PATIENCE)).decode()
    drain = asyncio.ensure_future(process.stderr.read())
    try:
        if "pages at " not in said:
            raise RuntimeError(f"the server did not start: {said}")
        yield said.partition("pages at ")[2].split()[0]
    finally:
        process.terminate()
        await process.wait()
        await drain


async def requests(governor: Governor, slack: SlackServer, space: Workspace, count: int) -> list[Interaction]:
    """Clicks on so many cards, each about a request of its own that waits."""

    @governor.govern()
    async def wire(amount: int, to: str) -> str:
        return f"{amount} to {to}"

    client = AsyncWebClient(space.token, base_url=slack.url)
    clicks = []
    for n in range(count):
        approval = await governor.approval((await wire.ask(amount=n, to=f"account {n}")).approval)
        card = await governor.desk.cards.enter(approval, "slack")
        carried = value(card.id, [approval])
        button = {
            "type": "button",
            "action_id": "approve",
            "value": carried,
            "text": {"type": "plain_text", "text": "x"},
        }
        sent = await client.chat_postMessage(
            channel="C1", text="card", blocks=[{"type": "actions", "elements": [button]}]
        )
        spot = Spot(space.team, sent["channel"], sent["ts"])
        place = Place("C1", f"op-{n}", spot.ref())
        await governor.desk.cards.change(card.id, lambda known, place=place: known.placed(place))
        clicks.append(slack.click(space, space.messages("C1")[-1], "approve", by=ALICE))
    return clicks


async def timed(ask: Callable[[], Awaitable[int]], due: float, into: list[float]) -> None:
    """Seconds from when it was due to its answer. Raises `RuntimeError` for any other answer than 200."""
    await asyncio.sleep(max(0.0, due - time.monotonic()))
    status = await ask()
    into.append(time.monotonic() - due)
    if status != 200:
        raise RuntimeError(f"answered {status}")


async def fire(url: str, clicks: list[Interaction]) -> tuple[list[float], list[float]]:
    """All clicks, at `RATE` a second, and a look at the server's health between any two: seconds of each."""
    acknowledged: list[float] = []
    alive: list[float] = []
    limit = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=limit, timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session:

        async def click(one: Interaction) -> int:
            signed = one.signed_by(one.secret)
            async with session.post(f"{url}/slack", data=signed.body, headers=signed.headers) as answer:
                return answer.status

        async def look() -> int:
            async with session.get(f"{url}/healthz") as answer:
                return answer.status

        start = time.monotonic() + 0.5
        work: list[Any] = []
        for n, one in enumerate(clicks):
            work.append(timed(lambda one=one: click(one), start + n / RATE, acknowledged))
            work.append(timed(look, start + (n + 0.5) / RATE, alive))
        await asyncio.gather(*work)
    return acknowledged, alive


async def measure(report: Report, place: Path, effort: float) -> None:
    count = max(RATE, int(RATE * SECONDS * effort))
    store = f"sqlite:///{place / 'clicks.db'}"
    with SlackServer() as slack:
        space = slack.workspace(TEAM)
        space.person(ALICE, "alice")
        space.channel("C1", ALICE)
        env = {
            "GOVERNOR_STORE": store,
            "SLACK_API_URL": slack.url,
            "SLACK_BOT_TOKEN": space.token,
            "SLACK_SIGNING_SECRET": slack.secret,
        }
        async with Governor(PolicySet.from_text(POLICY), store=store) as governor, server(env) as url:
            clicks = await requests(governor, slack, space, count)
            acknowledged, alive = await fire(url, clicks)
            runs = await governor.list_runs(limit=count + 1)
            decided = sum(run.calls[-1].state is CallState.APPROVED for run in runs)
    report.details["acknowledgement, seconds"] = acknowledged
    report.details["alive, seconds"] = alive
    report.count("k", f"clicks that count, at {RATE} a second", decided, exactly=count)
    report.time("k", "click to acknowledgement", Spread.of(acknowledged))
    report.limit("k", "click to acknowledgement, p99", percentile(acknowledged, 99) * 1e3, "ms", 300.0)
    report.count("k", "click to acknowledgement, slowest", max(acknowledged) * 1e3, "ms", note=f"of {count}")
    report.time("k", "the same server asked whether it is alive", Spread.of(alive))
    report.count("k", "alive, p99", percentile(alive, 99) * 1e3, "ms")
    times = percentile(acknowledged, 50) / percentile(alive, 50)
    report.count("k", "a click, in such answers, by their medians", times, "x")


def bench_clicks(report: Report, place: Path, effort: float) -> None:
    """99 of 100 clicks are acknowledged within 300 ms, each only when its decision is durable."""
    asyncio.run(measure(report, place, effort))
