"""The people file: what it means, that what is wrong with it is told in one line, and that it is read again."""

import logging
import os
import threading
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from governor_agents.core.identity import Away, Person
from governor_agents.core.ports import Directory
from governor_agents.directory import Asked, People, PeopleFile, open_people, read_people
from governor_agents.errors import ConfigError, DirectoryUnreadable, PeopleFileError
from governor_agents.policies.reading import Source
from tests.people import PEOPLE

BERLIN = ZoneInfo("Europe/Berlin")


def people(text: str) -> People:
    return read_people(Source("people.yaml", "people.yaml", text))


def refused(text: str) -> PeopleFileError:
    with pytest.raises(PeopleFileError) as caught:
        people(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    return caught.value


def at(*when: int) -> float:
    return datetime(*when, tzinfo=BERLIN).timestamp()  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    "name", ["alice", "slack:T01/U02", "slack:T09/U11", "alice@example.com", "oidc:00u1a2b3", "local:alice"]
)
def test_one_person_has_many_addresses(name: str) -> None:
    """The id and each address mean the same person; e-mail addresses are in their one form."""
    found = people(PEOPLE).person(name)
    assert found is not None and found.id == "alice" and name in found.names and found.roles == ("cfo",)


@pytest.mark.parametrize(
    "name",
    ["Alice", "Alex Kim", "Alice@example.com", "slack:T01/U2", "slack:T02/U02", "slack:U02", "mallory", "", "cfo"],
)
def test_a_name_that_merely_looks_like_somebody_is_nobody(name: str) -> None:
    """A display name, another team, a part of an address and another case identify nobody."""
    assert people(PEOPLE).person(name) is None


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("group:finance", ("alice", "bob")),
        ("group:payments", ("alice", "bob", "carol")),
        ("group:nobody", ()),
        ("role:cfo", ("alice",)),
        ("role:on-call", ("carol",)),
        ("group:cfo", None),
        ("role:finance", None),
        ("finance", None),
        ("alice", None),
    ],
)
def test_groups_and_roles_are_people(name: str, ids: tuple[str, ...] | None) -> None:
    """Groups hold groups, roles and people; services are in none of them; an empty group is nobody."""
    assert people(PEOPLE).members(name) == ids


@pytest.mark.parametrize(
    ("when", "stands_for"),
    [
        ((2026, 12, 20, 23, 59), ()),
        ((2026, 12, 21), ("alice",)),
        ((2027, 1, 3, 23, 59), ("alice",)),
        ((2027, 1, 4), ()),
    ],
)
def test_a_substitute_stands_for_somebody_only_while_they_are_away(
    when: tuple[int, ...], stands_for: tuple[str, ...]
) -> None:
    """From the first moment of the first day to the last of the last, by the file's time zone."""
    found = people(PEOPLE)
    assert found.stands_for("bob", at(*when)) == stands_for
    assert found.stands_for("carol", at(*when)) == () == found.stands_for("alice", at(*when))


def test_times_of_their_own_are_taken_as_written() -> None:
    """An offset holds; without one the time is in the file's zone; several absences are a list."""
    away = "[{from: 2026-12-01T08:00, until: 2026-12-01T12:00Z, substitute: b}, {from: 2026-12-05, until: 2026-12-05, substitute: b}]"
    first, second = (
        people(f"version: 1\ntimezone: Europe/Berlin\npeople:\n  b: {{}}\n  a:\n    away: {away}").persons["a"].away
    )
    assert (first.since, first.until) == (at(2026, 12, 1, 8), at(2026, 12, 1, 13))
    assert (second.since, second.until) == (at(2026, 12, 5), at(2026, 12, 6))


def test_coordinators_are_those_that_are_named() -> None:
    """Nobody else may hand requests on, whatever their roles."""
    found = people(PEOPLE)
    assert [id for id in found.persons if found.coordinator(id)] == ["carol"]
    assert not found.coordinator("carol@example.com")


def test_nobody_is_in_an_empty_file() -> None:
    """An empty list of people is a directory of nobody, not of everybody."""
    for text in ("version: 1", "version: 1\npeople: {}\ngroups: {}\ncoordinators: []"):
        found = people(text)
        assert found.persons == {} and found.person("alice") is None and not found.coordinator("alice")


def test_somebody_may_have_none_of_it() -> None:
    """Empty lists, as a program may write them, are as good as no key."""
    (person,) = people("version: 1\npeople:\n  a: {slack: [], email: [], roles: [], away: []}").persons.values()
    assert (person.addresses, person.roles, person.away) == ((), (), ())


HEAD = "version: 1\npeople:\n  alice: {email: a@example.com, roles: [cfo]}\n"
"""Lines 1 to 3 of each wrong file."""


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("people: {}", 1, "no 'version'"),
        ("version: 2", 1, "unknown version 2"),
        (HEAD + "group: {}", 4, "unknown key 'group'; did you mean 'groups'?"),
        (HEAD + "  bob: {mail: b@example.com}", 4, "unknown key 'mail'; did you mean 'email'?"),
        (HEAD + "  bob: {email: A@example.com}", 4, "a@example.com is an address of alice (line 3)"),
        (HEAD + "  bob: {email: not-one}", 4, "'not-one' is no e-mail address; write it like"),
        (HEAD + "  bob: {email: 'Bob <b@example.com>'}", 4, "is no e-mail address"),
        (HEAD + "  bob: {slack: U02}", 4, "slack: 'slack:U02' is no Slack user; write its team too"),
        (HEAD + "  bob: {slack: T01/B07}", 4, "'slack:T01/B07' is no Slack user"),
        (HEAD + "  bob: {slack: 5}", 4, "an address is text"),
        (HEAD + "  bob: {oidc: ''}", 4, "oidc: '' is no id"),
        (HEAD + "  bob: {oidc: 'a b'}", 4, "is no id"),
        (HEAD + "  bob: {local: 'a*'}", 4, "never by a pattern"),
        (HEAD + "  bob: {service: yes}", 4, "service: must be true or false, not 'yes'"),
        (HEAD + "  bob: {name: ''}", 4, "name: a name must be one line"),
        (HEAD + "  bob: {roles: cfo}", 4, "roles: must be a list"),
        (HEAD + "  'bob@example.com': {}", 4, "'bob@example.com' is no id; write letters"),
        (HEAD + "  \u0430lice: {}", 4, "is no id"),
        (HEAD + "  'group:x': {}", 4, "'group:x' is no id"),
        (HEAD + "  alice: {}", 4, "the key 'alice' stands twice"),
        (HEAD + "  cfo: {}", 4, "'cfo' is the name of a role"),
        (HEAD + "  bob: [a]", 4, "bob must be a mapping"),
        (HEAD + "  bob: {away: {from: 2026-12-01, until: 2026-12-02}}", 4, "away has no 'substitute'"),
        (HEAD + "  bob: {away: {from: 2026-12-03, until: 2026-12-02, substitute: alice}}", 4, "'until' lies before 'from'"),
        (HEAD + "  bob: {away: {from: soon, until: 2026-12-02, substitute: alice}}", 4, "'soon' is no day"),
        (HEAD + "  bob: {away: {from: 2026-13-01, until: 2026-12-02, substitute: alice}}", 4, "'2026-13-01' is no day"),
        (HEAD + "  bob: {away: {from: 2026-12-01, until: 2026-12-02, substitute: bob}}", 4, "cannot be their own substitute"),
        (HEAD + "  bob: {away: {from: 2026-12-01, until: 2026-12-02, substitute: alcie}}", 4, "did you mean 'alice'?"),
        (HEAD + "  s: {service: true}\n  bob:\n    away: {from: 2026-12-01, until: 2026-12-02, substitute: s}", 6, "s is a service"),
        (HEAD + "groups: {alice: []}", 4, "'alice' is the name of a person"),
        (HEAD + "groups: {cfo: []}", 4, "'cfo' is the name of a role"),
        (HEAD + "groups:\n  a: [alcie]", 5, "group a: unknown person 'alcie'; did you mean 'alice'?"),
        (HEAD + "groups:\n  a: [x@example.com]", 5, "unknown person 'x@example.com'"),
        (HEAD + "groups:\n  a: [group:b]", 5, "unknown group 'group:b'"),
        (HEAD + "groups:\n  b: []\n  a: [b]", 6, "'b' is a group; did you mean 'group:b'?"),
        (HEAD + "groups:\n  a: ['role:cto']", 5, "nobody has the 'role:cto'"),
        (HEAD + "groups:\n  a: [group:b]\n  b: [group:a]", 5, "groups hold each other"),
        (HEAD + "groups:\n  'group:a': []", 5, "write 'a' here"),
        (HEAD + "coordinators: [alcie]", 4, "coordinators: unknown person 'alcie'"),
        (HEAD + "timezone: Mars/Base", 4, "unknown time zone 'Mars/Base'"),
        (HEAD + "timezone: ../../etc/passwd", 4, "unknown time zone"),
        (HEAD + "x: !!python/object:os.system {}", 4, "tags are not supported"),
        ("version: 1\n\tpeople: {}", 2, "not valid YAML"),
        ("", 1, "the file is empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, says: str) -> None:
    """One line: the file, the line, what is wrong and mostly how to mend it."""
    error = refused(text)
    assert any(each.startswith(f"people.yaml:{line}: ") and says in each for each in error.errors), error.errors


def test_every_mistake_is_told_at_once() -> None:
    """Three mistakes are three lines, in the order of the file."""
    error = refused(HEAD + "  bob: {email: nowhere}\n  carol: {slack: x}\ngroups: {g: [dan]}")
    assert [each.split(":")[1] for each in error.errors] == ["4", "5", "6"]
    assert "(and 2 more)" in str(error)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"version: 1\nx: \xff"])
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, data: bytes) -> None:
    """In one line with its path."""
    path = tmp_path / "people.yaml"
    path.write_bytes(data)
    with pytest.raises(PeopleFileError, match=r"people\.yaml:\d: the file is not UTF-8"):
        PeopleFile(path)


# -- reading it again ---------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "people.yaml"
    path.write_text(PEOPLE)
    return path


def put(path: Path, text: str, *, aged: bool = False) -> None:
    """Replace the file as an editor does; ``aged`` gives it a time long ago, so that its times alone are believed."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    if aged:
        os.utime(beside, ns=(10**18, 10**18))
    beside.replace(path)


def test_a_changed_file_is_read_again(path: Path) -> None:
    """Somebody who is removed is nobody with the next question; somebody who is added is known."""
    found = PeopleFile(path)
    assert found.person("bob") is not None
    put(path, "version: 1\npeople: {dan: {email: dan@example.com}}")
    assert found.person("bob") is None is found.person("slack:T01/U03") and found.person("dan@example.com") is not None


def test_a_change_in_place_within_the_same_moment_is_seen(path: Path) -> None:
    """Same size, same inode, same times: a file that has just changed is looked into, not believed by its times."""
    found = PeopleFile(path)
    state = path.stat()
    path.write_text(PEOPLE.replace("slack: T01/U03", "slack: T01/U99"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert found.person("slack:T01/U03") is None and found.person("slack:T01/U99") is not None


def test_a_file_that_does_not_change_is_not_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its last change is long ago, a look at its state is enough."""
    from governor_agents.directory import source

    reads: list[Path] = []
    real = source._read
    monkeypatch.setattr(source, "_read", lambda path: reads.append(path) or real(path))  # type: ignore[func-returns-value]
    monkeypatch.setattr(source, "SETTLED", -1.0)
    found = PeopleFile(path)
    assert [found.person("bob") is not None for _ in range(20)] == [True] * 20
    assert len(reads) == 1
    put(path, "version: 1")
    assert found.person("bob") is None and len(reads) == 2


BROKEN = {
    "a mistake": lambda path: put(path, PEOPLE + "  nonsense"),
    "half of it": lambda path: put(path, PEOPLE[: PEOPLE.index("{from:") + 3]),
    "gone": lambda path: path.unlink(),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "no text": lambda path: (path.unlink(), path.write_bytes(b"\xff")),
    "empty": lambda path: put(path, ""),
    "a doubled address": lambda path: put(path, PEOPLE.replace("T01/U03", "T01/U02")),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_identifies_nobody_until_it_is_mended(
    path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not those it knew before either; one log line when it breaks, one when it is mended, no restart."""
    found = PeopleFile(path)
    assert found.person("bob") is not None
    with caplog.at_level(logging.WARNING):
        BROKEN[how](path)
        for _ in range(5):
            for question in (
                lambda: found.person("bob"),
                lambda: found.members("group:finance"),
                lambda: found.stands_for("bob", 0.0),
                lambda: found.coordinator("carol"),
            ):
                with pytest.raises(DirectoryUnreadable, match=r"people\.yaml"):
                    question()
        assert [record.levelname for record in caplog.records] == ["ERROR"] and "\n" not in caplog.text.strip()
        if path.is_dir():
            path.rmdir()
        put(path, PEOPLE)
        assert found.person("bob") is not None and found.coordinator("carol")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_file_that_is_broken_at_the_start_is_refused(tmp_path: Path) -> None:
    """A process does not start with a directory that it could not believe."""
    with pytest.raises(PeopleFileError, match=r"nothing\.yaml: No such file"):
        PeopleFile(tmp_path / "nothing.yaml")
    with pytest.raises(PeopleFileError, match="null byte"):
        PeopleFile("a\0b")


def test_many_threads_may_ask_while_the_file_changes(path: Path) -> None:
    """Each answer is of one state of the file, never of a mixture."""
    found = PeopleFile(path)
    texts = [f"version: 1\npeople: {{p{n}: {{local: one}}}}\ngroups: {{g: [p{n}]}}" for n in range(30)]
    put(path, texts[0])
    wrong: list[object] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            now = found.people()
            person = now.person("local:one")
            if person is None or now.members("group:g") != (person.id,):
                wrong.append(person)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for text in texts:
        put(path, text)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong and found.members("group:g") == ("p29",)


# -- a directory of one's own -------------------------------------------------------------------------------------------


class Own:
    """A directory as a user may write it, answering whatever a test wants."""

    def __init__(self, **answers: object) -> None:
        self._answers = answers

    def _say(self, what: str, otherwise: object) -> object:
        said = self._answers.get(what, otherwise)
        if isinstance(said, Exception):
            raise said
        return said

    def person(self, address: str) -> object:
        return self._say("person", Person("ann", addresses=("slack:T01/U09",)))

    def members(self, name: str) -> object:
        return self._say("members", ("ann",))

    def stands_for(self, id: str, now: float) -> object:
        return self._say("stands_for", ())

    def coordinator(self, id: str) -> object:
        return self._say("coordinator", False)


def test_a_class_of_ones_own_is_a_directory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object with the four methods, a path, the variable, or nothing at all."""
    monkeypatch.delenv("GOVERNOR_PEOPLE", raising=False)
    assert open_people(None) is None
    own = open_people(Own())  # type: ignore[arg-type]
    assert isinstance(own, Asked) and isinstance(own, Directory) and open_people(own) is own
    assert own.person("slack:T01/U09") == own.person("ann") and own.members("group:x") == ("ann",)
    assert isinstance(open_people(path), PeopleFile) and isinstance(open_people(str(path)), PeopleFile)
    monkeypatch.setenv("GOVERNOR_PEOPLE", str(path))
    assert isinstance(open_people(None), PeopleFile)
    for wrong in (object(), Own, 5):
        with pytest.raises(ConfigError, match="is no directory of people"):
            open_people(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answers", "question"),
    [
        ({"person": LookupError("LDAP is away")}, "person"),
        ({"person": "ann"}, "person"),
        ({"person": Person("bob", addresses=("slack:T01/U08",))}, "person"),
        ({"person": Person("slack:T01/U09", service="no")}, "person"),  # type: ignore[arg-type]
        ({"person": Person("slack:T01/U09", away=("x",))}, "person"),  # type: ignore[arg-type]
        ({"person": Person("slack:T01/U09", addresses=None)}, "person"),  # type: ignore[arg-type]
        ({"person": Person("slack:T01/U09", addresses="slack:T01/U09")}, "person"),  # type: ignore[arg-type]
        ({"person": Person("slack:T01/U09", away=(Away(None, 5.0, "bob"),))}, "person"),  # type: ignore[arg-type]
        ({"members": ValueError()}, "members"),
        ({"members": "ann"}, "members"),
        ({"members": ("ann", None)}, "members"),
        ({"stands_for": None}, "stands_for"),
        ({"coordinator": OSError()}, "coordinator"),
    ],
)
def test_a_directory_that_fails_identifies_nobody(answers: dict[str, object], question: str) -> None:
    """Whatever it raises, and whoever it gives who does not have the address that was asked for."""
    own = Asked(Own(**answers))  # type: ignore[arg-type]
    ask = {
        "person": lambda: own.person("slack:T01/U09"),
        "members": lambda: own.members("group:x"),
        "stands_for": lambda: own.stands_for("ann", 0.0),
        "coordinator": lambda: own.coordinator("ann"),
    }[question]
    with pytest.raises(DirectoryUnreadable, match="nobody is identified"):
        ask()


def test_what_merely_looks_like_yes_makes_no_coordinator() -> None:
    """Only True does."""
    assert Asked(Own(coordinator="no")).coordinator("ann") is False  # type: ignore[arg-type]
    assert Asked(Own(coordinator=True)).coordinator("ann") is True  # type: ignore[arg-type]
