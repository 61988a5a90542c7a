"""``slack manifest`` and ``slack check``: what they print, and what they find."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from governor_agents.cli.app import run
from governor_agents.handlers.slack.check import Checks
from governor_agents.handlers.slack.manifest import CHANNEL_SCOPES, SCOPES
from governor_agents.testing.slack_server import SlackServer

SECRET = "0123456789abcdef" * 2


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlackServer]:
    """A workspace where everything is right, and the settings for it."""
    for name in ("SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET", "SLACK_APP_TOKEN", "GOVERNOR_PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)
    with SlackServer() as server:
        space = server.workspace("T01")
        space.channel("C012")
        monkeypatch.setenv("SLACK_BOT_TOKEN", space.token)
        monkeypatch.setenv("SLACK_SIGNING_SECRET", SECRET)
        monkeypatch.setenv("SLACK_APP_TOKEN", server.app_token)
        monkeypatch.setenv("SLACK_API_URL", server.url)
        yield server


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = run(["slack", "check", "--json", *arguments])
    return code, {line["name"]: line for line in json.loads(capsys.readouterr().out)}


def test_the_manifest_is_yaml_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Both say the same: scopes, both request URLs, the home tab, no Socket Mode."""
    assert run(["slack", "manifest", "--url", "https://ok.example", "--name", "Ask us"]) == 0
    document = yaml.safe_load(capsys.readouterr().out)
    assert run(["slack", "manifest", "--url", "https://ok.example/", "--name", "Ask us", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == document
    settings = document["settings"]
    assert settings["interactivity"] == {"is_enabled": True, "request_url": "https://ok.example/slack"}
    assert settings["event_subscriptions"]["request_url"] == "https://ok.example/slack"
    assert settings["event_subscriptions"]["bot_events"] == ["app_home_opened"]
    assert settings["socket_mode_enabled"] is False
    assert document["features"]["app_home"]["home_tab_enabled"] is True
    assert set(document["oauth_config"]["scopes"]["bot"]) == {*SCOPES, *CHANNEL_SCOPES}
    assert document["display_information"]["name"] == "Ask us"


def test_the_manifest_of_socket_mode_names_no_url(capsys: pytest.CaptureFixture[str]) -> None:
    """Socket Mode is on, no URL stands anywhere, and people alone need no scopes for channels."""
    assert run(["slack", "manifest", "--socket", "--people-only", "--json"]) == 0
    text = capsys.readouterr().out
    document = json.loads(text)
    assert document["settings"]["socket_mode_enabled"] is True
    assert "request_url" not in text
    assert set(document["oauth_config"]["scopes"]["bot"]) == set(SCOPES)


@pytest.mark.parametrize("arguments", [
    [], ["--url", "http://ok.example"], ["--url", "https://"], ["--url", "https://u:hush@ok.example"],
    ["--url", "ok.example"], ["--url", "u:hush@ok"],
    ["--socket", "--name", "x" * 36], ["--socket", "--name", " "], ["--url", "https://[::1"],
])  # fmt: skip
def test_a_manifest_that_slack_would_refuse_is_not_made(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, exit code 2."""
    monkeypatch.delenv("GOVERNOR_PUBLIC_URL", raising=False)
    assert run(["slack", "manifest", *arguments]) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.count("\n") == 1 and "hush" not in out.err
    assert (": ok.example is no URL" in out.err) == (arguments[-1:] == ["ok.example"])  # what was typed, if no secret


def test_check_says_that_all_is_right(slack: SlackServer, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each thing, exit code 0, no secret in any of them."""
    assert run(["slack", "check", "--channel", "C012", "--channel", "T01/C012"]) == 0
    out = capsys.readouterr().out
    names = ["bot token", "scopes", "clock", "signing secret", "app token", "channel C012", "channel T01/C012"]
    assert [line.partition(":")[0] for line in out.splitlines()] == [f"ok   {name}" for name in names]
    assert not any(secret in out for secret in (SECRET, slack.app_token, slack.workspaces["T01"].token))


def test_check_finds_what_is_wrong(
    slack: SlackServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each seeded fault is the one finding, with exit code 1."""
    space = slack.workspaces["T01"]
    assert checked(capsys)[0] == 0
    space.scopes.discard("users:read")
    code, found = checked(capsys)
    assert (code, [name for name, line in found.items() if not line["good"]]) == (1, ["scopes"])
    assert "users:read" in found["scopes"]["text"]
    space.scopes.add("users:read")
    space.conversations["C012"].members.clear()
    assert "/invite" in checked(capsys, "--channel", "C012")[1]["channel C012"]["text"]
    assert "TEAM/CHANNEL" not in checked(capsys, "--channel", "C404")[1]["channel C404"]["text"]
    assert "no token for workspace T77" in checked(capsys, "--channel", "T77/C1")[1]["channel T77/C1"]["text"]
    monkeypatch.setenv("SLACK_APP_TOKEN", "xapp-hush")
    code, found = checked(capsys)
    assert (code, found["app token"]["good"]) == (1, False)
    monkeypatch.setenv("SLACK_SIGNING_SECRET", "hush")
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-hush")
    code, found = checked(capsys)
    assert (code, [name for name, line in found.items() if line["good"]]) == (1, [])
    assert "hush" not in json.dumps(found)
    assert "SLACK_BOT_TOKEN must hold the app's bot token" in found["bot token"]["text"]
    assert "it must hold the app-level token" in found["app token"]["text"]
    slack.trouble("*", "http", status=503)
    assert checked(capsys)[1]["bot token"]["text"].startswith(f"{slack.url} gave no answer")  # whatever the token is
    slack.stop()
    assert checked(capsys)[1]["bot token"]["text"].startswith(f"{slack.url} gave no answer")


PEOPLE = """
version: 1
people:
  alice: {slack: T01/U02}
  bob: {slack: [T01/U03, T09/U03]}
  carol: {slack: T01/U04, email: carol@example.com}
  dan: {slack: T01/U99}
  eve: {email: eve@example.com}
"""


def test_check_looks_everyone_up(
    slack: SlackServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who is no full member of a workspace that the app is in could decide nothing; whoever has no address is not asked.

    Without a people file it is wrong usage, and without the option nobody is looked up.
    """
    (tmp_path / "people.yaml").write_text(PEOPLE)
    slack.workspaces["T01"].person("U02", "alice")
    slack.workspaces["T01"].person("U03", "bob")
    slack.workspaces["T01"].person("U04", "carol", is_restricted=True)
    monkeypatch.delenv("GOVERNOR_PEOPLE", raising=False)
    assert run(["slack", "check", "--everyone"]) == 2
    assert "name the people file" in capsys.readouterr().err
    monkeypatch.setenv("GOVERNOR_PEOPLE", str(tmp_path / "people.yaml"))
    assert not any(name.startswith("person") for name in checked(capsys)[1])
    assert run(["slack", "check", "--everyone"]) == 1
    assert [line for line in capsys.readouterr().out.splitlines() if " person " in line] == [
        "ok   person alice: slack:T01/U02 is a full member of the workspace",
        "ok   person bob: slack:T01/U03 is a full member of the workspace",
        "BAD  person bob: slack:T09/U03: there is no token for workspace T09",
        "BAD  person carol: slack:T01/U04 could decide nothing: guest",
        "BAD  person dan: slack:T01/U99 could decide nothing: unknown_user",
    ]


def test_a_web_api_that_is_no_url_is_wrong_usage(
    slack: SlackServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told before anything is asked."""
    monkeypatch.setenv("SLACK_API_URL", "slack.com/api")
    assert run(["slack", "check"]) == 2
    assert "SLACK_API_URL must be a URL such as" in capsys.readouterr().err and slack.asked == []


@pytest.mark.anyio
async def test_check_finds_a_clock_that_is_off(slack: SlackServer) -> None:
    """A clock four minutes off is found before requests are refused for it."""
    space = slack.workspaces["T01"]
    env = {"SLACK_BOT_TOKEN": space.token, "SLACK_SIGNING_SECRET": SECRET}
    for off, good in ((0.0, True), (240.0, False), (-240.0, False)):
        found = await Checks(env, url=slack.url, clock=lambda off=off: time.time() + off).run()
        assert {each.name: each.good for each in found}["clock"] is good


def test_check_without_any_setting_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that names the settings, exit code 2; half of them is a finding."""
    for name in ("SLACK_BOT_TOKEN", "SLACK_SIGNING_SECRET", "SLACK_APP_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert run(["slack", "check"]) == 2
    assert "SLACK_BOT_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("SLACK_SIGNING_SECRET", SECRET)
    code, found = checked(capsys)
    assert (code, found["bot token"]["good"]) == (1, False)
