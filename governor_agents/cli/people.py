"""``people``: is the people file right, and whom does an address stand for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from governor_agents.cli.opening import AsJson, Globals
from governor_agents.cli.printing import print_facts, print_json, say
from governor_agents.errors import ConfigError, NotFound
from governor_agents.handlers.message import when
from governor_agents.handlers.visible import visible

if TYPE_CHECKING:
    from governor_agents.core.identity import Person
    from governor_agents.directory import People

app: typer.Typer = typer.Typer(
    help="Who people are: the people file, and whom an address stands for.", no_args_is_help=True
)


@app.command()
def check(
    ctx: typer.Context,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="The people file; default --people, else $GOVERNOR_PEOPLE.")
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", metavar="FILE", help="Look also whom this policy file asks.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Look for mistakes in a people file, and for names that mean nobody. Exit code 1 when there are any.

    With --policy: for people whom its channels cannot reach, and stages that want more people than there are, too.
    """
    from governor_agents.directory import People, read_people
    from governor_agents.directory.checking import findings
    from governor_agents.directory.opening import PEOPLE
    from governor_agents.errors import PeopleFileError
    from governor_agents.plugins import names
    from governor_agents.policies.reading import Unreadable, load

    file = file or (ctx.find_object(Globals) or Globals()).people or os.environ.get(PEOPLE)
    if not file:
        raise ConfigError(f"name the people file: governor-agents people check FILE, or ${PEOPLE}")
    try:
        source = load(file, file)
    except Unreadable as error:
        raise ConfigError(str(error)) from None
    people, found = People(), tuple[str, ...]()
    try:
        people = read_people(source)
    except PeopleFileError as error:
        found = error.errors
    if not found:
        found = tuple(findings(people, policy or (), names("governor_agents.handlers")))
    counts = {
        "people": len(people.persons),
        "groups": len(people.groups),
        "roles": len(people.roles),
        "coordinators": len(people.coordinators),
    }
    if as_json:
        print_json({"file": file, **counts, "findings": list(found)})
        return int(bool(found))
    for finding in found:
        say(visible(finding))
    if not found:
        say(f"{visible(file)} is right: " + ", ".join(f"{what} {count}" for what, count in counts.items()))
    return int(bool(found))


@app.command()
def show(
    ctx: typer.Context,
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS", help="An id or address: alice, slack:T01/U02, ops@example.com. Or group:NAME, role:NAME."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Show whom an id or address stands for: every name, groups, roles, absences, and whose substitute they are now.

    Of a group or a role: who is in it.
    """
    from governor_agents.policies import person_id
    from governor_agents.policies.values import GROUP, ROLE, near

    people = people_of(ctx)
    if address.startswith((GROUP, ROLE)):
        _show_members(people, address, as_json)
        return
    person = people.person(person_id(address))
    if person is None:
        meant = near(address, (name for each in people.persons.values() for name in each.names))
        raise NotFound(f"nobody in the people file has the id or address {address}{meant}")
    document = _document(people, person)
    if as_json:
        print_json(document)
        return
    say(visible(f"{person.id} ({person.name})" if person.name else person.id), "bold")
    print_facts((label, visible(text)) for label, text in _facts(document))


def _show_members(people: People, name: str, as_json: bool) -> None:
    from governor_agents.policies.values import GROUP, ROLE, near

    members = people.members(name)
    if members is None:
        known = (*(GROUP + group for group in people.groups), *(ROLE + role for role in people.roles))
        raise NotFound(f"the people file has no {name}{near(name, known)}")
    if as_json:
        print_json({"name": name, "members": list(members)})
        return
    say(visible(name), "bold")
    print_facts([("members", visible(", ".join(members)) or "nobody")])


def people_of(ctx: typer.Context) -> People:
    """Everybody of the people file that is named before the command, or by the environment. Raises `ConfigError`."""
    from governor_agents.directory import PeopleFile, open_people

    named = (ctx.find_object(Globals) or Globals()).people
    found = open_people(named)
    if not isinstance(found, PeopleFile):
        command = ctx.command_path.partition(" ")[2]
        raise ConfigError(f"name the people file: governor-agents --people FILE {command} ..., or $GOVERNOR_PEOPLE")
    return found.people()


def _document(people: People, person: Person) -> dict[str, Any]:
    """A person as JSON; times are epoch seconds."""
    return {
        "id": person.id,
        "name": person.name,
        "addresses": list(person.addresses),
        "roles": list(person.roles),
        "groups": [group for group, members in people.groups.items() if person.id in members],
        "service": person.service,
        "coordinator": people.coordinator(person.id),
        "away": [asdict(away) for away in person.away],
        "stands_for": list(people.stands_for(person.id, time.time())),
    }


def _facts(document: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for label in ("addresses", "roles", "groups"):
        yield label, ", ".join(document[label]) or "none"
    if document["service"]:
        yield "service", "never decides"
    if document["coordinator"]:
        yield "coordinator", "may hand requests of others on"
    for away in document["away"]:
        yield "away", f"{when(away['since'])} to {when(away['until'])}, substitute {away['substitute']}"
    if document["stands_for"]:
        yield "stands for", f"{', '.join(document['stands_for'])}, now"
