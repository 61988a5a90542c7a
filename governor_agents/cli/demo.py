"""``demo``: the main job without any key, from pause to decision to end, each in a process of its own."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from governor_agents.cli.opening import Globals, StoreUrl


class Framework(StrEnum):
    """Whose agent loops the demo runs."""

    OPENAI_AGENTS = "openai-agents"
    LANGCHAIN = "langchain"
    ALL = "all"


class Decide(StrEnum):
    """Who decides in the demo, and what."""

    APPROVE = "approve"
    REJECT = "reject"
    EDIT = "edit"
    ASK = "ask"


class Channel(StrEnum):
    """Where the person is asked."""

    TERMINAL = "terminal"
    SLACK = "slack"
    EMAIL = "email"


def demo(
    ctx: typer.Context,
    framework: Annotated[Framework, typer.Option("--framework", help="Whose agent loop to run.")] = Framework.ALL,
    decide: Annotated[Decide, typer.Option("--decide", help="Decide like this, or ask.")] = Decide.ASK,
    channel: Annotated[
        Channel, typer.Option("--channel", help="Where people are asked; the other side is played by the demo.")
    ] = Channel.TERMINAL,
    slack_token: Annotated[
        str, typer.Option("--slack-token", metavar="xoxb-...", help="Ask in your own Slack: the bot token.")
    ] = "",
    slack_app_token: Annotated[
        str, typer.Option("--slack-app-token", metavar="xapp-...", help="And the app-level token, for Socket Mode.")
    ] = "",
    smtp_url: Annotated[
        str, typer.Option("--smtp-url", metavar="URL", help="Ask by your own SMTP server: see docs/email.md.")
    ] = "",
    to: Annotated[
        str, typer.Option("--to", metavar="WHO", help="Whom to ask there: a Slack member ID, or an address.")
    ] = "",
    store: StoreUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line per framework, last.")] = False,
) -> int:
    """Run the main job: an agent pauses, its process ends, a person decides, another process finishes."""
    from governor_agents import demo as shown

    named = store or (ctx.find_object(Globals) or Globals()).store
    real = shown.Real(slack_token, slack_app_token, smtp_url, to)
    return int(
        shown.main(
            framework=framework.value,
            decide=decide.value,
            channel=channel.value,
            real=real,
            store=named,
            json=as_json,
        )
    )
