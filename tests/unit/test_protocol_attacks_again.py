"""More attacks on the protocol, written as the behaviour that is right."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from governor_agents.core.calls import Tool, freeze
from governor_agents.core.records import CallState
from governor_agents.errors import CallIdReused
from governor_agents.responses import Responses
from tests.unit.test_protocol_attacks import PAY, App, state

LOOK = Tool("look", read_only=True)


def test_a_call_of_another_agent_under_a_known_id_is_refused() -> None:
    """The same tool, bytes and id, but not the agent that was approved, or that the result belongs to."""

    async def main() -> None:
        app = App()
        run, claim = await app.begin()
        await app.governor.guard.run(claim, app.call("c1"), PAY, app.tool)
        with pytest.raises(CallIdReused):
            await app.governor.guard.run(claim, replace(app.call("c1"), agent="b"), PAY, app.tool)
        again = await app.governor.guard.run(claim, app.call("c1"), PAY, app.tool)
        assert again.value == "done" and len(app.effects) == 1
        assert state(await app.governor.get(run.id)) is CallState.SUCCEEDED
        await app.governor.close()

    asyncio.run(main())


def test_what_was_read_before_a_crash_is_given_back_once() -> None:
    """A provider whose ids repeat polls: the read that is replayed is the recorded one, the next one is fresh."""

    async def main() -> None:
        app = App()
        _, claim = await app.begin()
        content = json.dumps({"reads": {"call_0": [True, '"old"']}, "response": "{}"}).encode()
        claim.responses.load({"blob": content})

        async def fresh(_: bytes) -> str:
            return "new"

        values = [
            (await app.governor.guard.run(claim, app.call("call_0", "look"), LOOK, fresh, chain=())).value
            for _ in range(2)
        ]
        assert values == ["old", "new"]
        await app.governor.close()

    asyncio.run(main())


def test_reads_under_one_id_are_given_back_in_their_order() -> None:
    """Two recorded answers followed from reads of the same call id: the first read comes first."""
    responses = Responses()
    for text in ("1", "2"):
        content = {"reads": {"call_0": [True, text]}, "response": "{}"}
        responses.load({f"blob{text}": freeze(content)})
    found = [responses.read("call_0") for _ in range(3)]
    assert [read and read.text for read in found] == ["1", "2", None]
