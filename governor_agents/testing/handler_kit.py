"""What the tests of the handler kit stand on: how a channel is looked at, and an office that asks through it."""
# ruff: noqa: S101

from __future__ import annotations

import json
import unicodedata
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from governor_agents.core.channels import Handler
from governor_agents.core.records import Approval, Decision
from governor_agents.governor import Governor
from governor_agents.handlers.visible import parse_visible
from governor_agents.policies import PolicySet
from governor_agents.testing.kit import Kit
from governor_agents.testing.store_samples import Run

T = TypeVar("T")

# The modules with the tests all import this one first, so pytest can explain the asserts in them when they fail.
pytest.register_assert_rewrite("governor_agents.testing.handler_shows", "governor_agents.testing.handler_trouble")


@dataclass(frozen=True)
class Shown:
    """One thing that people see: a card, a mail. ``text`` is all of its words, ``asks``: one can decide there."""

    text: str
    asks: bool


class Channel:
    """A channel as people see it. Override ``handler`` and ``shown``, and whatever else yours has."""

    name = "memory"
    """How a policy names it, with a target if it needs one."""

    people: tuple[str, str] = ("local:ann", "local:ben")
    """Two who may decide, by addresses at which the channel meets them. They share whatever is shown once for all."""

    edits = True
    """True when what was posted can be changed; False when whatever is new is posted behind it."""

    repeats = False
    """True when telling the same thing twice shows it twice: for channels that keep nothing."""

    secrets: tuple[str, ...] = ()
    """Texts that nobody may ever see: tokens, passwords."""

    def handler(self) -> Handler:
        """A handler, not started: each call is another process's."""
        raise NotImplementedError("override handler()")

    def shown(self) -> Sequence[Shown]:
        """What people see now, in the order in which it was posted."""
        raise NotImplementedError("override shown()")

    def down(self) -> None:
        """From now on nothing can be delivered. Leave it out for a channel to which that cannot happen."""

    def up(self) -> None:
        """It works again."""

    def unusable(self) -> Handler | None:
        """A handler with settings that the other side refuses: a wrong token. None when there are no settings."""
        return None


class Office:
    """A governor that asks through a channel. Its calls are awaited within the kit's time."""

    def __init__(self, channel: Channel, run: Run) -> None:
        self.channel = channel
        self.run = run
        first, second = channel.people
        text = json.dumps(
            {
                "version": 1,
                "approvals": {"channels": [channel.name], "approvers": [first]},
                "rules": [
                    {
                        "name": "both",
                        "tool": "both",
                        "then": "require_approval",
                        "stages": [{"approvers": [first, second], "quorum": 2}],
                    },
                    {"name": "ask", "tool": "*", "then": "require_approval"},
                ],
            }
        )
        policies = PolicySet.from_text(text, name="kit")
        self.governor = Governor(policies, store="memory://", public_url="https://approvals.example.com")
        self._tools = {name: self.governor.govern(name=name)(_tool) for name in ("act", "both")}
        self._votes: dict[str, int] = {}
        self._handlers: list[Handler] = []

    def handler(self) -> Handler:
        """A started handler of the channel."""
        made = self.channel.handler()
        self.run(made.start(self.governor.desk))
        self._handlers.append(made)
        return made

    def ask(self, request: Any, tool: str = "act") -> Approval:
        """A request that waits, with these arguments."""
        asked = self.run(self._tools[tool].ask(request))
        self._votes[asked.approval] = 0
        return self.now(asked.approval)

    def now(self, approval: Approval | str) -> Approval:
        """The approval as it stands."""
        return self.run(self.governor.approval(approval if isinstance(approval, str) else approval.id))

    def decide(self, approval: Approval, decision: Decision, by: int = 0) -> Approval:
        """The first (or second) of the channel's people decides, elsewhere."""
        self.run(self.governor.decide(approval.id, decision, by=self.channel.people[by]))
        self._votes[approval.id] += 1
        return self.now(approval)

    def notify(self, handler: Handler, approval: Approval) -> str:
        """Let the handler ask, as a worker does."""
        return self.run(handler.notify(approval, self.target))

    def update(self, handler: Handler, approval: Approval) -> None:
        """Let the handler show how things stand, as a worker does."""
        self.run(self.updating(handler, approval))

    async def updating(self, handler: Handler, approval: Approval) -> None:
        """The same as a coroutine."""
        card = await self.governor.desk.cards.of(approval, self.channel.name)
        await handler.update(approval, "" if card is None else card.id, self.target)

    @property
    def target(self) -> str:
        """What stands behind the handler's name."""
        return self.channel.name.partition(":")[2]

    def asking(self) -> list[Shown]:
        """What can be decided now, as people see it."""
        return [each for each in self.channel.shown() if each.asks]

    def close(self) -> None:
        """Close everything, and see that nobody decided but the tests."""
        for handler in self._handlers:
            self.run(handler.close())
        for id, votes in self._votes.items():
            assert len(self.now(id).call.votes) == votes, "a channel decided by itself"
        self.run(self.governor.close())


async def _tool(request: Any) -> str:
    return "done"


class HandlerKit(Kit):
    """Fixtures of the kit. Override ``channel``; the rest stands on it."""

    @pytest.fixture
    def channel(self) -> Channel:
        """Override me: this test's own, empty channel."""
        raise NotImplementedError("override the fixture channel of the handler kit")

    @pytest.fixture
    def office(self, channel: Channel, run: Run) -> Iterator[Office]:
        """A governor that asks through the channel."""
        made = Office(channel, run)
        yield made
        made.close()


def whole(shown: Shown, approval: Approval) -> bool:
    """True when the complete arguments stand there, to the byte. Channels break lines where they like, and may write
    more characters as ``\\u{...}`` than must be."""
    return _words(approval.call.args.decode()) in _words(parse_visible(shown.text))


def _words(text: str) -> str:
    return "".join(text.split())


def hidden(text: str) -> list[str]:
    """The characters of a text that nobody sees, or that change how others are seen."""
    bad = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
    return [f"U+{ord(each):04X}" for each in text if unicodedata.category(each) in bad and each not in "\r\n\t"]


def raised(work: Coroutine[Any, Any, T], run: Run) -> BaseException | None:
    """What a coroutine raises, None when it raises nothing."""
    try:
        run(work)
    except Exception as error:
        return error
    return None
