"""What a handler promises of trouble: it is said as such, decides nothing, shows no secret, and loses no request."""
# ruff: noqa: S101

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from governor_agents.core.channels import Card
from governor_agents.core.records import CallState, Decision
from governor_agents.errors import ChannelUnusable, DeliveryFailed, StoreUnavailable
from governor_agents.testing.handler_kit import Channel, HandlerKit, Office, raised
from governor_agents.testing.handler_shows import REQUEST
from governor_agents.testing.store_samples import Run


class TroublePromises(HandlerKit):
    """Promises of ``start`` and ``close``, and of both other methods when something is in the way."""

    def test_start_and_close_may_be_repeated(self, office: Office) -> None:
        """A worker stops and starts; the server of the pages may hold the same handler."""
        handler = office.handler()
        for _ in range(2):
            office.run(handler.start(office.governor.desk))
        for _ in range(2):
            office.run(handler.close())
        office.run(handler.start(office.governor.desk))
        office.notify(handler, office.ask(REQUEST))
        assert office.channel.shown()

    def test_start_finds_wrong_settings(
        self, channel: Channel, office: Office, run: Run, caplog: pytest.LogCaptureFixture
    ) -> None:
        """At once, as `ChannelUnusable` with one line that quotes no secret."""
        try:
            handler = channel.unusable()
        except ChannelUnusable as error:
            self._is_one_line(error, channel)
            return
        if handler is not None:
            found = raised(handler.start(office.governor.desk), run)
            assert isinstance(found, ChannelUnusable), f"a wrong setting is not found: {found!r}"
            self._is_one_line(found, channel)
            self._shows_no_secret(channel, repr(handler), caplog.text)

    def _is_one_line(self, error: ChannelUnusable, channel: Channel) -> None:
        assert str(error).strip() and "\n" not in str(error)
        self._shows_no_secret(channel, str(error))

    def _shows_no_secret(self, channel: Channel, *texts: str) -> None:
        for secret in channel.secrets:
            assert not any(secret in text for text in texts), "a secret is shown"

    def test_trouble_is_said_and_decides_nothing(
        self, channel: Channel, office: Office, caplog: pytest.LogCaptureFixture
    ) -> None:
        """`DeliveryFailed`, whatever the reason; the request waits as before, and is asked once the channel is back."""
        approval = office.ask(REQUEST)
        handler = office.handler()
        channel.down()
        error = raised(handler.notify(approval, office.target), office.run)
        channel.up()
        if error is None:
            assert len(office.asking()) >= 1, "a request is lost"  # a channel that cannot be down
            return
        assert isinstance(error, DeliveryFailed), f"trouble is {error!r}"
        self._shows_no_secret(channel, str(error), repr(error), repr(handler), caplog.text)
        assert office.now(approval).call.state is CallState.PENDING and not office.now(approval).call.votes
        office.notify(handler, approval)
        assert office.asking(), "a request is lost"

    def test_trouble_of_an_update_is_said(self, channel: Channel, office: Office) -> None:
        """An outcome that cannot be shown is shown later."""
        approval = office.ask(REQUEST)
        handler = office.handler()
        office.notify(handler, approval)
        decided = office.decide(approval, Decision.reject("not this week"))
        channel.down()
        error = raised(office.updating(handler, decided), office.run)
        channel.up()
        assert error is None or isinstance(error, DeliveryFailed), f"trouble is {error!r}"
        office.update(handler, decided)
        assert any("not this week" in shown.text for shown in channel.shown())

    @pytest.mark.parametrize("after", [0, 1, 2])
    def test_a_crash_between_posting_and_noting(self, channel: Channel, office: Office, after: int) -> None:
        """The next process finds what was posted, or posts one more at most; the outcome is shown in both."""
        approval = office.ask(REQUEST)
        office.notify(office.handler(), approval)  # how many there are without a crash: its own channel has one each
        many = len(office.asking())
        office.update(office.handler(), office.decide(approval, Decision.reject("no")))
        left = len(office.asking())
        again = office.ask({**REQUEST, "again": True})
        dying = office.handler()
        with _forgetting(office, after):
            raised(dying.notify(again, office.target), office.run)
        handler = office.handler()
        office.notify(handler, again)
        asked = len(office.asking()) - left
        assert many <= asked <= (many + 1 if not channel.repeats else 2 * many)
        office.update(handler, office.decide(again, Decision.reject("no")))
        if channel.edits:
            assert not office.asking(), "a duplicate stays that can be decided"


class _forgetting:
    """While it lasts, the store goes away behind so many changes of cards: as if the process had died there."""

    def __init__(self, office: Office, after: int) -> None:
        self._cards: Any = office.governor.desk.cards
        self._left = after

    def __enter__(self) -> None:
        self._change = self._cards.change
        self._cards.change = self._dying

    def __exit__(self, *_: object) -> None:
        del self._cards.change

    async def _dying(self, id: str, step: Callable[[Card], Card]) -> Card:
        self._left -= 1
        if self._left < 0:
            raise StoreUnavailable("the process died")
        made: Card = await self._change(id, step)
        return made
