"""``slack``: the app's manifest, and whether everything is set up."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from governor_agents.cli.opening import AsJson
from governor_agents.cli.people import people_of
from governor_agents.cli.printing import print_json, say
from governor_agents.core.identity import SLACK, kind_of
from governor_agents.errors import ConfigError
from governor_agents.handlers.visible import visible
from governor_agents.plugins import require

if TYPE_CHECKING:
    from governor_agents.directory import People

app: typer.Typer = typer.Typer(
    help="Slack: the app's manifest, and whether everything is set up.", no_args_is_help=True
)


@app.command()
def manifest(
    url: Annotated[
        str, typer.Option("--url", envvar="GOVERNOR_PUBLIC_URL", help="Where Slack reaches `serve`: https://HOST.")
    ] = "",
    socket: Annotated[bool, typer.Option("--socket", help="Socket Mode: no public URL is needed.")] = False,
    name: Annotated[str, typer.Option("--name", help="What people see the app as.")] = "Approvals",
    people_only: Annotated[
        bool, typer.Option("--people-only", help="Direct messages alone: no scopes for channels.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the manifest to paste at api.slack.com/apps (YAML; --json for JSON)."""
    import yaml

    from governor_agents.handlers.slack.manifest import manifest as made

    if not url and not socket:
        raise ConfigError("say how Slack reaches this app: --url https://HOST, or --socket")
    document = made(name=name, url="" if socket else url, channels=not people_only)
    if as_json:
        print_json(document)
    else:
        sys.stdout.write(yaml.safe_dump(document, sort_keys=False, allow_unicode=False))


@app.command()
def check(
    ctx: typer.Context,
    channel: Annotated[
        list[str] | None, typer.Option("--channel", help="A channel that must have the app: C012 or T01/C012.")
    ] = None,
    everyone: Annotated[
        bool, typer.Option("--everyone", help="Look up everyone whom the people file has in Slack, too.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Look at tokens, scopes, signing secret, channels, people and clock. Exit code 1 when something is not right.

    Settings come from SLACK_BOT_TOKEN, SLACK_SIGNING_SECRET and SLACK_APP_TOKEN; SLACK_API_URL names another Web API
    (GovSlack: https://slack-gov.com/api/).
    """
    require("slack_sdk", "slack")
    require("aiohttp", "slack")
    from governor_agents.handlers.slack.check import APP_TOKEN, BOT_TOKEN, SIGNING_SECRET, Checks
    from governor_agents.handlers.slack.workspaces import API

    if not any(os.environ.get(name) for name in (BOT_TOKEN, SIGNING_SECRET, APP_TOKEN)):
        raise ConfigError(f"nothing is set: {BOT_TOKEN}, and {SIGNING_SECRET} or {APP_TOKEN}; see docs/slack.md")
    url = os.environ.get("SLACK_API_URL") or API
    if not url.startswith(("https://", "http://")):
        raise ConfigError(f"SLACK_API_URL must be a URL such as {API}")
    people = _in_slack(people_of(ctx)) if everyone else ()
    found = asyncio.run(Checks(os.environ, url=url).run(channel or (), people))
    if as_json:
        print_json([{"name": each.name, "good": each.good, "text": each.text} for each in found])
    for each in () if as_json else found:
        say(f"{'ok  ' if each.good else 'BAD '} {visible(each.name)}: {visible(each.text)}")
    return 0 if all(each.good for each in found) else 1


def _in_slack(people: People) -> list[tuple[str, str]]:
    """Each id with each of its addresses in Slack."""
    persons = people.persons.values()
    return [(each.id, address) for each in persons for address in each.addresses if kind_of(address) == SLACK]
