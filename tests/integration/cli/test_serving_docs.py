"""What the page on serving says is so: its command, its options, its figures, its app, its log line, its proxy."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import httpx
import pytest
import typer

from governor_agents.cli.app import app as cli
from governor_agents.server.access import routes_of
from governor_agents.server.app import TITLES
from governor_agents.server.logs import JsonLines, masked
from governor_agents.server.settings import Rates, Settings
from tests.integration.cli.conftest import Shop
from tests.integration.cli.test_cli_serve import serving

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


def snippet(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)
    assert found is not None, language
    return found[1]


def column(head: str) -> list[str]:
    """The first column of the table with this head."""
    table = TEXT.partition(f"| {head} |")[2].partition("\n\n")[0]
    return re.findall(r"^\| ([^|]+) \|", table, re.M)


def test_the_command_serves_as_it_is_shown(shop: Shop) -> None:
    """The line that it prints, but for the port."""
    command, printed = snippet("console").splitlines()
    words = command.removeprefix("$ governor-agents serve app:governor --port 0").split()
    with serving(shop, *words) as (_, said):
        assert re.sub(r"\d{4,5}", "PORT", said.read_text().splitlines()[0]) == printed


def test_every_option_is_there() -> None:
    """The table of options and those of the command are the same."""
    command = typer.main.get_command(cli).commands["serve"]  # type: ignore[attr-defined]
    known = {option for each in command.params for option in each.opts if option.startswith("--")}
    assert {re.findall(r"--[a-z-]+", each)[0] for each in column("Option")} == known - {"--help"}


def test_routes_and_statuses_are_those_of_the_app(shop: Shop) -> None:
    """Every route is in the table, every status has its words."""
    from tests.pages import make_office

    office = make_office("sqlite:///governor.db")
    routes = {route.path for route in routes_of(office.app)}  # type: ignore[attr-defined]
    told = set(re.findall(r"`(/[^`]*)`", "".join(column("Route"))))
    same = {"/confirm/{token}": "/confirm/LINK", "/requests/{id:path}": "/requests/ID", "/login/{token}": "/login/LINK"}
    assert {same.get(route, route) for route in routes} - {"/pages.css", "/icon.svg"} == told
    assert {int(each) for row in column("Status") for each in re.findall(r"\d{3}", row)} <= set(TITLES)
    office.governor.close_sync()


def test_the_figures_are_those_of_the_code() -> None:
    """Limits, sizes and times."""
    rates, settings = Rates(), Settings.of("http://127.0.0.1")
    assert (rates.address.most, rates.tenant.most, rates.person.most, rates.address.per) == (300, 6000, 60, 60.0)
    assert (rates.login.most, rates.login_tenant.most, rates.login.per) == (5, 200, 600.0)
    assert (settings.max_body, settings.patience, settings.session) == (4 * 2**20, 8.0, 12 * 3600.0)
    for figure in ("300 a minute", "6000 a minute", "60 a minute", "5 in ten minutes", "200 in ten minutes", "4 MiB",
                   "within 8 seconds", "after 12 hours"):  # fmt: skip
        assert figure in TEXT


async def test_the_app_of_the_page_answers(shop: Shop) -> None:
    """Its own lines, under its own name."""
    made: dict[str, object] = {}
    exec(compile(snippet("python"), "serving.md", "exec"), made)
    transport = httpx.ASGITransport(made["app"])  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="https://approvals.example.com") as web:
        page = await web.get("/login")
        assert page.status_code == 200 and "__Host-governor-visitor=" in page.headers["set-cookie"]
        assert "Secure" in page.headers["set-cookie"] and page.headers["strict-transport-security"]
    await made["governor"].close()  # type: ignore[attr-defined]


async def test_the_log_line_has_these_fields(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Those of the sample, in their order."""
    from tests.pages import client, make_office

    caplog.set_level(logging.INFO, "governor_agents.server")
    office = make_office("sqlite:///governor.db")
    async with client(office) as web:
        await web.get("/healthz")
    await office.governor.close()
    line = JsonLines().format(next(record for record in caplog.records if record.name == "governor_agents.server"))
    assert list(json.loads(line)) == list(json.loads(snippet("json")))


def test_the_proxy_masks_what_the_server_masks() -> None:
    """The expression of the proxy's map, on the same paths."""
    expression = re.search(r"~(\S+) \"\$1\*\"", snippet("nginx"))
    assert expression is not None
    for path in ("/confirm/abc", "/login/abc", "/login", "/requests/run_1.1", "//confirm/abc"):
        found = re.match(expression[1], path)
        assert masked(path) == (f"{found[1]}*" if found and found.end() < len(path) else path)


def test_links_lead_somewhere() -> None:
    """Every relative link is a file of the repository."""
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", TEXT)
    assert links and [link for link in links if not (ROOT / "docs" / link).exists()] == []
