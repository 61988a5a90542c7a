"""The directory of people: who somebody is, where they are met, whom they stand for.

A YAML file (`PeopleFile`), or any object with the methods of `governor_agents.core.ports.Directory`.
"""

from governor_agents.directory.asking import Asked
from governor_agents.directory.file import read_people
from governor_agents.directory.opening import open_people
from governor_agents.directory.people import People
from governor_agents.directory.source import PeopleFile

__all__ = ["Asked", "People", "PeopleFile", "open_people", "read_people"]
