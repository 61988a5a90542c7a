"""What the demo needs of a channel, whether somebody plays the other side of it or it is the real one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from governor_agents.core.records import Approval, Decision
from governor_agents.errors import MissingExtra

SEAT = "you"
"""The id, in the demo's people file, of whoever is asked."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Something a person has been shown: as text, and as a page of HTML."""

    title: str
    text: str = field(repr=False)
    html: str = field(repr=False)


class Channel(ABC):
    """One channel, opened by ``with``. ``env`` is for the processes that use it, and may hold secrets.

    ``address`` is the line of the people file by which the person is met.
    """

    name: str
    real = False

    def __init__(self) -> None:
        self.env: dict[str, str] = {}
        self.address: dict[str, str] = {}

    @abstractmethod
    def __enter__(self) -> Channel:
        """Begin. Raises `ConfigError` when it cannot be used, in one line."""

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """End."""

    @abstractmethod
    def where(self) -> str:
        """Where the person is asked, in words."""


class StandIn(Channel):
    """A channel whose other side the demo plays itself."""

    @abstractmethod
    def request(self, approval: str) -> Shown | None:
        """The request as it reached the person, None until it has."""

    @abstractmethod
    def outcome(self, approval: str) -> Shown | None:
        """The outcome as it reached the person, None until it has."""

    def ask(self, approval: Approval) -> Decision | None:
        """What the person at the terminal decides there, None for nothing, or when it is done elsewhere."""
        return None

    def elsewhere(self, approval: str) -> str:
        """Where the person decides, when that is not at the terminal; else empty."""
        return ""

    @abstractmethod
    def decide(self, approval: str, decision: Decision, pages: str) -> list[Shown]:
        """Do what the person does there, and give what they met on the way. Raises `GovernorError`.

        ``pages`` is where ``serve`` answers.
        """


class Real(Channel):
    """The real channel: the person is where they always are, and the demo waits for them."""

    real = True


def need(libraries: Mapping[str, str], what: str) -> None:
    """Raise `MissingExtra` when one of these libraries (by extra) is not there."""
    for library, extra in libraries.items():
        if find_spec(library) is None:
            raise MissingExtra(
                f"{what} needs {library} (extra {extra}), which is not installed: pip install 'governor-agents[demo]'"
            )
