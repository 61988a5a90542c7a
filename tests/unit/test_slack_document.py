"""docs/slack.md is right: its commands run, its files are read, its tables are those of the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from governor_agents import PolicySet, ToolCall
from governor_agents.cli.app import run
from governor_agents.directory import open_people
from governor_agents.handlers.slack import actors, inbound, payloads, signature
from governor_agents.handlers.slack.manifest import CHANNEL_SCOPES, SCOPES, manifest
from governor_agents.testing.slack_server import SlackServer

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "slack.md").read_text()
BLOCKS = re.findall(r"^```([^\n]*)\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)


def block(begins: str) -> str:
    """The block that begins so."""
    [found] = [text for _, text in BLOCKS if text.startswith(begins)]
    return str(found)


def rows(head: str) -> list[list[str]]:
    """The cells of the table that has this head."""
    table = DOCUMENT[DOCUMENT.index(head) :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


@pytest.mark.parametrize(
    "line", [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines() if "manifest" in line]
)
def test_the_manifests_of_the_document_are_printed(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command line of the first step prints the manifest it speaks of."""
    words = shlex.split(line)[1:]
    assert run(words) == 0
    url = words[-1] if "--url" in words else ""
    assert yaml.safe_load(capsys.readouterr().out) == manifest(url=url)


def test_the_other_commands_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    """Worker, serve and the stream of refused requests have the options that the document types."""
    for words in ("", "worker", "serve", "audit list", "slack check", "people check"):
        assert run([*words.split(), "--help"]) == 0
    options = capsys.readouterr().out
    for option in set(re.findall(r"--[a-z][a-z-]+", DOCUMENT)) - {"--url", "--socket", "--people-only"}:
        assert option in options, option


def test_the_check_of_the_document_says_what_it_shows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed with everything right, the command prints just these lines."""
    command, *lines = block("$ governor-agents slack check").splitlines()
    with SlackServer() as slack:
        space = slack.workspace("T01")
        space.channel("C012")
        monkeypatch.setenv("SLACK_BOT_TOKEN", space.token)
        monkeypatch.setenv("SLACK_SIGNING_SECRET", "0" * 32)
        monkeypatch.delenv("SLACK_APP_TOKEN", raising=False)
        monkeypatch.setenv("SLACK_API_URL", slack.url)
        assert run(shlex.split(command.removeprefix("$ "))[1:]) == 0
    printed = re.sub(r"within \d+ s", "within 1 s", capsys.readouterr().out)
    assert printed.splitlines() == lines


def test_the_files_of_the_document_are_read(tmp_path: Path) -> None:
    """The people file and the policy go together, and the rule sends large transfers to the channel."""
    (tmp_path / "people.yaml").write_text(block("# people.yaml"))
    people = open_people(tmp_path / "people.yaml")
    policies = PolicySet.from_text(block("# governor.yaml"), directory=people)
    for amount, channels in ((5, ("slack",)), (50_000, ("slack:C012",))):
        call = ToolCall.of("wire_transfer", {"amount": amount})
        verdict = policies.evaluate(call, policies.tool("wire_transfer"))
        assert verdict.channels == channels
        assert verdict.stages[0].people == ("alice", "bob")


def test_the_snippets_of_the_document_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler with tokens of its own; a test of a user's own against the local server, which asks both of finance.

    Negative control: without bob in the people file it fails.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GOVERNOR_STORE", raising=False)
    people = block("# people.yaml")
    for name in ("people", "governor"):
        (tmp_path / f"{name}.yaml").write_text(block(f"# {name}.yaml"))
    made: dict[str, Any] = {}
    exec(compile(block("from governor_agents import Governor\n"), "app.py", "exec"), made)
    assert made["governor"].handler("slack") is made["channel"]
    tried: dict[str, Any] = {}
    exec(compile(block("# test_approvals.py"), "test_approvals.py", "exec"), tried)
    tried["test_finance_is_asked_in_slack"]()
    (tmp_path / "people.yaml").write_text(re.sub(r"  bob: .*\n", "", people).replace(", bob]", "]"))
    with pytest.raises(AssertionError):
        tried["test_finance_is_asked_in_slack"]()


def test_the_scopes_are_those_of_the_manifest() -> None:
    """Each scope with what it is for."""
    assert {cells[0].strip("`"): cells[1] for cells in rows("| Scope |")} == {**SCOPES, **CHANNEL_SCOPES}


def test_the_reasons_are_those_of_the_code() -> None:
    """Every code that the way in can give is in the table, and none that it cannot."""
    sources = "".join(path.read_text() for path in (ROOT / "governor_agents" / "handlers" / "slack").glob("*.py"))
    raised = set(re.findall(r'Refused\(\s*\d+, "([a-z_]+)"', sources)) | set(actors._WORDS)
    told = {"stale_decision", "not_an_approver", "already_decided", "deadline_passed", "not_found"}
    assert {cells[0].strip("`") for cells in rows("| Reason |")} == raised | told


def test_the_numbers_are_those_of_the_code() -> None:
    """Window, patience, size and how long Slack's word is believed."""
    assert (signature.WINDOW, inbound.PATIENCE, payloads.MAX_BODY, actors.KEPT) == (300, 2.0, 512 * 1024, 60.0)
    for words in ("300 s", "After 2 s", "512 KiB", "believed for 60 s"):
        assert words in DOCUMENT
