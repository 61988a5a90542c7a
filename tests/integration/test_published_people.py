"""Published policies name people of the directory, and know what a file on the disk knows of a request."""

from pathlib import Path

import pytest

from governor_agents import Governor
from governor_agents.core.calls import ToolCall
from governor_agents.errors import PolicyFileError
from governor_agents.publishing import Publications
from tests.integration.publishing import published
from tests.people import PEOPLE

pytestmark = pytest.mark.anyio

POLICY = """\
version: 1
approvals: {approvers: [group:finance], reminders: [1h]}
tools: {deploy: {risk: high}}
rules:
  - name: r
    tool: deploy
    then: require_approval
    headline: "Deploy {args.what}"
    stages: [{approvers: [bob]}, {approvers: [role:cfo], when: call.args.size > 10}]
    delegates: [role:on-call]
"""


async def publish(governor: Governor, text: str) -> None:
    """Put a text in force from this governor's own process."""
    await governor.open()
    publications = Publications(governor.runs, governor.identities.directory)
    await governor.loop.bridge(publications.publish(text, by="local:op"))


async def test_published_policies_ask_people_of_the_directory(tmp_path: Path) -> None:
    """Roles, conditions, headline, risk, delegates and reminders; and anew when the people change."""
    path, url = tmp_path / "people.yaml", f"sqlite:///{tmp_path}/g.db"
    path.write_text(PEOPLE)
    async with Governor(store=url, people=path) as publisher:
        await publish(publisher, POLICY)
    async with Governor(published(), store=url, people=path) as governor:
        for size, people in ((1, [("bob",)]), (11, [("bob",), ("alice",)])):
            verdict = governor.policies.evaluate(
                ToolCall.of("deploy", {"what": "x", "size": size}, requester="local:alice")
            )
            assert [stage.people for stage in verdict.stages] == people and "alice" in verdict.requesters
            assert (verdict.headline, verdict.reminders, verdict.delegates) == (
                "Deploy {args.what}",
                (3600.0,),
                ("carol",),
            )
        assert governor.policies.tool("deploy").risk == "high"
        path.write_text(PEOPLE.replace("roles: [cfo]}", "roles: []}").replace("roles: [cfo]\n", "roles: [other]\n"))
        denied = governor.policies.evaluate(ToolCall.of("deploy", {"what": "x", "size": 11}))
        assert (denied.outcome, denied.code) == ("deny", "no_approvers")


async def test_a_process_without_the_directory_does_not_believe_them(tmp_path: Path) -> None:
    """It cannot know whom they mean: nothing is allowed or asked by them."""
    path, url = tmp_path / "people.yaml", f"sqlite:///{tmp_path}/g.db"
    path.write_text(PEOPLE)
    async with Governor(store=url, people=path) as publisher:
        await publish(publisher, POLICY)
    async with Governor(published(), store=url) as governor:
        verdict = governor.policies.evaluate(ToolCall.of("deploy", {"what": "x", "size": 1}))
        assert (verdict.outcome, verdict.code) == ("deny", "policies_unavailable")


async def test_names_that_nobody_has_are_not_published(tmp_path: Path) -> None:
    """A group that the directory does not have is a mistake with a line; what was in force stays."""
    path, url = tmp_path / "people.yaml", f"sqlite:///{tmp_path}/g.db"
    path.write_text(PEOPLE)
    async with Governor(store=url, people=path) as publisher:
        with pytest.raises(PolicyFileError, match=r"policy\.yaml:2: .*unknown group 'group:finanec'"):
            await publish(publisher, POLICY.replace("group:finance", "group:finanec"))
    async with Governor(store=url) as publisher:
        with pytest.raises(PolicyFileError, match=r"policy\.yaml:2: .*unknown group 'group:finance'"):
            await publish(publisher, POLICY)
