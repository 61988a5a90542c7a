"""More attacks on the protocol, written as the behaviour that is right."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from governor_agents import probes
from governor_agents.core import driving, telling
from governor_agents.core.calls import Tool, freeze
from governor_agents.core.ports import Record, Segment
from governor_agents.core.records import CallState, RunState
from governor_agents.core.verdicts import Stage
from governor_agents.errors import CallIdReused, ConfigError, NotAnApprover
from governor_agents.keys import Keys
from governor_agents.responses import Responses
from governor_agents.stores.memory import MemoryStore
from governor_agents.stores.sealed import SealedStore
from governor_agents.worker import Worker
from tests.unit.test_protocol_attacks import ASK, PAY, W1, App, ask, call, claim, intent, paused, state, vote

ONE = Stage(("ops",), ("alice", "bob"))
CFO = Stage(("cfo",), ("alice",))
LOOK = Tool("look", read_only=True)


def test_a_vote_counts_where_nobody_else_could_stand() -> None:
    """Asked again with a stage that only the voter can meet: the other person is asked for the first, and it can run."""
    strict = replace(ASK, stages=(ONE, CFO))
    run = claim(vote(paused(ask(replace(ASK, stages=(ONE,)))), "alice").run)
    run = driving.abandon(intent(run, strict).run, 5.0, owner=W1, fence=2).run
    with pytest.raises(NotAnApprover):  # one person, one stage
        vote(run, "alice", now=6.0)
    run = claim(vote(run, "bob", now=7.0).run, now=8.0)
    assert state(intent(run, strict, now=9.0).run) is CallState.EXECUTING


def test_a_vote_counts_for_the_first_stage_where_others_can_meet_the_rest() -> None:
    """The control: nobody is asked twice for what an approval given before can stand for."""
    strict = replace(ASK, stages=(ONE, Stage(("cfo",), ("alice", "carol"))))
    run = claim(vote(paused(ask(replace(ASK, stages=(ONE,)))), "alice").run)
    run = driving.abandon(intent(run, strict).run, 5.0, owner=W1, fence=2).run
    run = claim(vote(run, "carol", now=7.0).run, now=8.0)
    assert state(intent(run, strict, now=9.0).run) is CallState.EXECUTING


def test_people_hear_of_a_demand_that_came_while_the_first_notice_was_on_its_way() -> None:
    """Asked again while a slow channel still delivers the first card: that one tells of a digest that nobody may use."""
    told = replace(ASK, channels=("chat",))
    run = telling.take_notices(paused(ask(told)), 1.5, until=60.0).run
    on_its_way = run.outbox
    run = claim(vote(run, "alice").run)
    strict = replace(told, stages=(*told.stages, Stage(("cfo",), ("carol",))), channels=("chat",))
    strict = replace(strict, stages=tuple(reversed(strict.stages)))
    run = driving.abandon(intent(run, strict).run, 5.0, owner=W1, fence=2).run
    assert state(run) is CallState.PENDING
    run = telling.delivered(run, 6.0, taken=on_its_way, failed={}, first=1.0, most=2.0).run
    assert "asked" in [notice.what for notice in run.outbox]


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


def test_the_log_of_a_dead_run_quotes_no_arguments(caplog: pytest.LogCaptureFixture) -> None:
    """What a framework raises may hold what the model wrote; the record has it, the log has not."""

    async def main() -> None:
        app = App()
        app.governor.max_attempts = 1

        async def loop(_: Any, calls: Any) -> Segment:
            raise RuntimeError("no such card 4111-SECRET")

        app.agent(loop)
        run = await app.governor.submit("a", "hello")
        await Worker(app.governor).run(once=True)
        app.clock.move(100.0)
        await Worker(app.governor).run(once=True)
        dead = await app.governor.get(run.id)
        assert dead.state is RunState.DEAD and "SECRET" in dead.blocked_detail
        await app.governor.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert "is dead" in caplog.text and "SECRET" not in caplog.text


def test_the_log_of_a_probe_that_raised_quotes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """What a probe raises may hold arguments and keys: it goes into the record, and the log names its type."""
    why = probes.raised(call(card="4111"), ValueError("no payment of 4111-SECRET"))
    assert "4111-SECRET" in why and "ValueError" in caplog.text and "SECRET" not in caplog.text


def test_a_claim_shows_no_arguments() -> None:
    """The policies' verdicts are kept by call, and the call holds what the model wrote."""

    async def main() -> None:
        app = App()
        _, claim = await app.begin()
        app.governor.guard.verdict(claim, app.call("c1", card="SECRET"), PAY)
        assert claim.verdicts and "SECRET" not in repr(claim)
        await app.governor.close()

    asyncio.run(main())


def test_a_thread_cannot_be_named_as_hidden_threads_are() -> None:
    """Sealed, such a name could stand for two rows, and whoever pages over runs would go in circles."""

    async def main() -> None:
        store = SealedStore(MemoryStore(), Keys.generate())
        await store.open()
        index = dict.fromkeys(("state", "agent", "requester", "conversation"), "x") | {"pending": "no"}
        with pytest.raises(ConfigError, match="begin with ~"):
            await store.insert(Record("run", "t", f"~{'0' * 40}/1", b"{}", index), op="a")
        assert (await store.insert(Record("run", "t", "~0/1", b"{}", index), op="b")).won
        await store.close()

    asyncio.run(main())
