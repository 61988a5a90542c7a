"""The people file under texts that nobody meant: it is refused in one line, or what it says holds together."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governor_agents.core.identity import kind_of
from governor_agents.directory import People, read_people
from governor_agents.errors import PeopleFileError
from governor_agents.policies.reading import Source
from governor_agents.policies.values import person_id
from tests.people import PEOPLE

PIECES = (
    "alice", "bob", "group:finance", "group:payments", "role:cfo", "slack: T01/U02", "email: bob@example.com", "service: true",
    "{}", "[]", "[alice]", "{from: 2026-12-21, until: 2027-01-03, substitute: bob}", "away", "roles: [finance]", ":", "\n", "  ",
    "- ", "&a", "*a", "null", "true", "2026-12-21", "\u202e", "\x00", "'", '"', "#", "|", "\t", "9" * 40, "timezone: ", "version: 1\n",
)  # fmt: skip


def read(text: str) -> People | None:
    """The people, or None when the file is refused; anything else that is raised is a fault."""
    try:
        return read_people(Source("p.yaml", "p.yaml", text))
    except PeopleFileError as error:
        assert error.errors and all("\n" not in line and line.startswith("p.yaml:") for line in error.errors)
        assert all(line.isprintable() for line in error.errors), error.errors
        return None


def faults(people: People) -> list[str]:
    """What does not hold together in a directory."""
    found, owner = [], dict[str, str]()
    for person in people.persons.values():
        for name in person.names:
            if owner.setdefault(name, person.id) != person.id or people.person(name) is not person:
                found.append(f"{name} is not {person.id}'s alone")
            if name != person.id and (not kind_of(name) or person_id(name) != name):
                found.append(f"{name} is not in its one form")
        if kind_of(person.id) or any(
            away.substitute not in people.persons or away.since >= away.until for away in person.away
        ):
            found.append(f"{person.id} cannot be")
        if any(people.persons[away.substitute].service or away.substitute == person.id for away in person.away):
            found.append(f"{person.id} has no fit substitute")
    lists = {
        **people.groups,
        **{f"role {name}": ids for name, ids in people.roles.items()},
        "coordinators": people.coordinators,
    }
    for name, ids in lists.items():
        if any(id not in people.persons or people.persons[id].service for id in ids) or len(set(ids)) < len(ids):
            found.append(f"{name} holds {ids}")
        if name in people.persons:
            found.append(f"{name} is a person too")
    return found


@settings(max_examples=400, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 2))
def test_a_torn_file_is_refused_or_holds_together(dice: random.Random, cuts: int) -> None:
    """Pieces of it cut out, doubled, swapped, and pieces of others put in."""
    text = PEOPLE
    for _ in range(cuts):
        at = dice.randrange(len(text) + 1)
        end = min(len(text), at + dice.choice([1, 4, 16, 64, 400]))
        piece = dice.choice([text[at:end], *PIECES, "", ""])
        text = text[:at] + piece + text[dice.choice([at, end, min(len(text), at + 8)]) :]
    if (people := read(text)) is not None:
        assert faults(people) == []


names = st.sampled_from(["a", "b", "c", "d"])
mail = st.sampled_from(["x@example.com", "Y@example.com", "y@example.com", "z@example.com"])
user = st.sampled_from(["T1/U1", "T1/U2", "T2/U1", "T2/U2"])
word = st.sampled_from(["ann", "ops", "zed", "b"])


@settings(max_examples=400, deadline=None)
@given(
    st.dictionaries(
        names,
        st.fixed_dictionaries(
            {},
            optional={
                "email": mail,
                "slack": st.lists(user, max_size=2),
                "oidc": word,
                "local": st.lists(word, max_size=2),
                "roles": st.lists(st.sampled_from(["cfo", "lead", "d"]), max_size=2),
                "service": st.booleans(),
                "away": st.fixed_dictionaries(
                    {"from": st.just("2026-01-01"), "until": st.just("2026-01-02"), "substitute": names}
                ),
            },
        ),
    ),
    st.dictionaries(
        st.sampled_from(["g", "h", "i", "a"]),
        st.lists(st.sampled_from(["a", "b", "group:g", "group:h", "role:cfo", "ann", "c"]), max_size=2),
        max_size=2,
    ),
)  # fmt: skip
def test_files_of_the_right_shape_are_refused_or_hold_together(persons: dict, groups: dict) -> None:
    """Addresses of two people, names that are taken, substitutes that cannot be, groups within each other."""
    import yaml

    people = read(yaml.safe_dump({"version": 1, "people": persons, "groups": groups}))
    if people is not None:
        assert faults(people) == [] and set(people.persons) == set(persons)


def test_the_property_notices_a_fault() -> None:
    """A directory put together without the file's checks is found not to hold together."""
    from governor_agents.core.identity import Away, Person

    bad = People(
        [Person("a", addresses=("X@example.com",)), Person("b", addresses=("X@example.com",), away=(Away(2.0, 1.0, "z"),))],
        {"a": ["b", "a"]},
    )  # fmt: skip
    with pytest.raises(KeyError):
        faults(bad)
    assert len(faults(People(list(bad.persons.values())[:1], {"a": ["a"]}))) == 2


def test_what_is_read_is_what_was_written() -> None:
    """The whole file does hold together, and something of it is read."""
    people = read(PEOPLE)
    assert people is not None and len(people.persons) == 4 and faults(people) == []
