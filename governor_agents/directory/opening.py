"""Which directory a governor has."""

from __future__ import annotations

import os
from os import PathLike

from governor_agents.core.ports import Directory
from governor_agents.directory.asking import Asked
from governor_agents.directory.source import PeopleFile
from governor_agents.errors import ConfigError

PEOPLE = "GOVERNOR_PEOPLE"
"""The variable that names the people file where nothing else does."""


def open_people(people: Directory | str | PathLike[str] | None) -> Directory | None:
    """The directory: an object, the path of a people file, else that of ``$GOVERNOR_PEOPLE``, else none.

    Raises `PeopleFileError`; `ConfigError` for what is no directory.
    """
    if people is None:
        people = os.environ.get(PEOPLE) or None
    if people is None or isinstance(people, (Asked, PeopleFile)):
        return people
    if isinstance(people, (str, PathLike)):
        return PeopleFile(people)
    if isinstance(people, type) or not isinstance(people, Directory):
        raise ConfigError(f"{people!r} is no directory of people: see governor_agents.core.ports.Directory")
    return Asked(people)
