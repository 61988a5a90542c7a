"""What a handler promises of what people see: complete, honest, one card, and how things stand."""
# ruff: noqa: S101

from __future__ import annotations

from typing import Any

import pytest

from governor_agents.core.channels import Handler
from governor_agents.core.records import Decision
from governor_agents.testing.handler_kit import Channel, HandlerKit, Office, hidden, whole

REQUEST = {"order": "4711", "amount": 12_345, "note": "charged twice", "items": [1, 2.5, None, True]}
HOSTILE = "safe‮‍​\x1b[2J <!channel> <https://evil.example|here> `*_~ <b>&amp; \U000e0041"


class ShowingPromises(HandlerKit):
    """Promises of ``notify`` and ``update``."""

    def test_it_is_a_handler(self, channel: Channel) -> None:
        """It has all methods of the contract, and the name by which policies call it."""
        handler = channel.handler()
        assert isinstance(handler, Handler)
        assert handler.name == channel.name.partition(":")[0] and ":" not in handler.name

    @pytest.mark.parametrize("request_of", [REQUEST, "x", {"note": HOSTILE, HOSTILE: [HOSTILE]}, "long " * 300])
    def test_notify_shows_the_whole_request(self, office: Office, request_of: Any) -> None:
        """Whoever can decide there sees the complete arguments; nothing is left out, nothing hides."""
        approval = office.ask(request_of)
        office.notify(office.handler(), approval)
        asking = office.asking()
        assert asking, "nobody is asked"
        for shown in asking:
            assert whole(shown, approval), "a part can be decided"
            assert not hidden(shown.text)

    def test_notify_never_asks_about_a_part(self, office: Office) -> None:
        """What is too large to be shown whole cannot be decided there; it is still told."""
        approval = office.ask({"text": "0123456789" * 20_000, "end": "the end"})
        office.notify(office.handler(), approval)
        assert office.channel.shown(), "nobody hears of it"
        for shown in office.asking():
            assert whole(shown, approval), "a part can be decided"

    def test_notify_again_adds_nothing(self, office: Office) -> None:
        """Both methods may be called any number of times, by any process: what is shown follows from the record."""
        approval = office.ask(REQUEST)
        first, second = office.handler(), office.handler()
        office.notify(first, approval)
        before = list(office.channel.shown())
        for handler in (first, second):
            office.notify(handler, approval)
            office.update(handler, approval)
        after = list(office.channel.shown())
        if office.channel.repeats:  # whatever is told again asks for the same
            assert {shown for shown in after if shown.asks} == {shown for shown in before if shown.asks}
        else:
            assert after == before

    def test_update_shows_the_outcome(self, office: Office) -> None:
        """Who decided what, and why; where cards can be edited, nothing is left that asks."""
        approval = office.ask(REQUEST)
        handler = office.handler()
        office.notify(handler, approval)
        many = len(office.channel.shown())
        office.update(handler, office.decide(approval, Decision.reject("not this week")))
        shown = office.channel.shown()
        last = shown[-1].text if not office.channel.edits else "".join(each.text for each in shown)
        assert "rejected" in last.lower() and "not this week" in last
        if office.channel.edits:
            assert not office.asking() and len(shown) == many
        else:
            assert len(shown) > many and not shown[-1].asks

    def test_update_asks_nobody(self, office: Office) -> None:
        """What was never posted is decided: nobody is asked about it now."""
        approval = office.decide(office.ask(REQUEST), Decision.reject("no"))
        office.update(office.handler(), approval)
        assert not office.asking()

    def test_notify_does_not_ask_about_what_is_decided(self, office: Office) -> None:
        """A notice that was on its way while somebody decided asks nobody."""
        approval = office.ask(REQUEST)
        handler = office.handler()
        office.notify(handler, office.decide(approval, Decision.respond("42")))
        assert not office.asking()

    def test_update_shows_an_edited_request(self, office: Office) -> None:
        """The new arguments are asked about; where cards can be edited, the old ones no longer."""
        approval = office.ask({"amount": 70_001}, "both")
        handler = office.handler()
        office.notify(handler, approval)
        edited = office.decide(approval, Decision.edit({"request": {"amount": 80_002}}))
        office.notify(handler, edited)
        office.update(handler, edited)
        assert any(whole(shown, edited) for shown in office.asking())
        if office.channel.edits:
            assert all(whole(shown, edited) for shown in office.asking())

    def test_identical_calls_share_what_is_shown(self, office: Office) -> None:
        """Where cards can be edited, two that wait have one, which says so and can be decided as long as one waits."""
        first, second = office.ask(REQUEST), office.ask(REQUEST)
        handler = office.handler()
        for approval in (first, second):
            office.notify(handler, approval)
        if not office.channel.edits:
            return
        [shown] = office.asking()
        assert "identical" in shown.text.lower() and "2" in shown.text
        office.update(handler, office.decide(first, Decision.reject("no")))
        assert len(office.asking()) == 1, "a request is lost"
        office.update(handler, office.decide(second, Decision.reject("no")))
        assert not office.asking()
