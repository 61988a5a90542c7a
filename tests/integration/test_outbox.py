"""The outbox under trouble [14]: servers that are away, say wait, fail, hang or cut, for a minute that is moved by hand.

What must come of it: every request is told in the end, no channel holds up another, nothing is posted twice but where a
process died, and nobody's trouble is anybody's decision.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, Worker
from governor_agents.core.records import CallState
from governor_agents.errors import SnapshotError
from governor_agents.handlers.webhook import handler as webhook_handler
from governor_agents.stores import open_store
from governor_agents.testing import MovableClock
from governor_agents.worker import delivery
from tests.three_channels import ALICE, CFO, CHANNELS, Three, ask, governed, three, worker

AMOUNTS = [70_001, 70_002]
MINUTE = 60


@pytest.fixture
def servers() -> Iterator[Three]:
    """The three servers."""
    with three() as found:
        yield found


@pytest.fixture
async def office(servers: Three) -> AsyncIterator[tuple[Governor, MovableClock]]:
    """A governor over them, and its time."""
    clock = MovableClock()
    governor = governed(open_store("memory://", clock=clock), servers.handlers())
    yield governor, clock
    await governor.close()


Break = Callable[[Three], None]
BREAKS: dict[str, Break] = {
    "slack down": lambda servers: servers.slack.stop(),
    "slack says wait": lambda servers: servers.slack.trouble("*", "ratelimited", retry_after=7) and None,
    "slack fails": lambda servers: servers.slack.trouble("*", "http") and None,
    "slack hangs": lambda servers: servers.slack.trouble("*", "hang") and None,
    "slack cuts": lambda servers: servers.slack.trouble("*", "reset") and None,
    "mail down": lambda servers: servers.mail.down(),
    "mail busy": lambda servers: setattr(servers.mail, "trouble", "busy"),
    "mail refuses": lambda servers: setattr(servers.mail, "trouble", "refuses"),
    "mail hangs": lambda servers: setattr(servers.mail, "trouble", "hangs"),
    "mail cuts": lambda servers: setattr(servers.mail, "trouble", "resets"),
    "webhook down": lambda servers: servers.hook.down(),
    "webhook says wait": lambda servers: setattr(servers.hook, "standing", (429, {"Retry-After": "7"})),
    "webhook fails": lambda servers: setattr(servers.hook, "standing", (500, {})),
    "webhook hangs": lambda servers: setattr(servers.hook, "trouble", "hangs"),
    "webhook cuts": lambda servers: setattr(servers.hook, "trouble", "resets"),
}


def mend(servers: Three) -> None:
    """Everything works again."""
    if servers.slack._runner is None:
        servers.slack.start()
    servers.slack.calm()
    servers.mail.trouble, servers.hook.trouble, servers.hook.standing = "", "", (200, {})
    servers.mail.down()
    servers.mail.up()
    servers.hook.down()
    servers.hook.up()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs is given up soon."""
    monkeypatch.setattr(delivery, "DELIVER", 1.0)
    monkeypatch.setattr("governor_agents.worker.channels.START", 1.0)


async def rounds(governor: Governor, clock: MovableClock, seconds: int, step: float = 1.0) -> None:
    """Let a worker look once in each step of simulated time."""
    working = Worker(governor)
    for _ in range(int(seconds / step)):
        await working.run(once=True)
        clock.move(step)


async def told(governor: Governor, id: str) -> list[dict[str, Any]]:
    """The events of deliveries of a request."""
    events = await governor.timeline(id.rpartition(".")[0])
    return [event for event in events if str(event["what"]).startswith("notice.")]


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.usefixtures("hasty")
@pytest.mark.timeout(600)
async def test_a_minute_of_trouble_loses_nothing(
    broken: str, servers: Three, office: tuple[Governor, MovableClock]
) -> None:
    """The other channels are told at once; this one once it works again; nothing twice, and nothing is decided."""
    governor, clock = office
    channel = {"slack": "slack", "mail": "email", "webhook": "webhook:orders"}[broken.split()[0]]
    BREAKS[broken](servers)
    ids = [await ask(governor, amount) for amount in AMOUNTS]
    await rounds(governor, clock, MINUTE, 5.0 if "hangs" in broken else 2.0)
    wanted = [str(amount) for amount in AMOUNTS]
    during = servers.asked() if channel != "webhook:orders" else {**servers.asked(), channel: []}
    if broken != "slack down":  # what was posted is with the server
        assert during == {name: [] if name == channel else wanted for name in CHANNELS}
    for id in ids:
        approval = await governor.approval(id)
        assert (approval.call.state, approval.call.votes) == (CallState.PENDING, ())
        assert {notice.channel for notice in approval.run.outbox} == {channel}
        assert any(event["what"] == "notice.failed" for event in await told(governor, id))
    servers.hook.posts[:] = [] if channel == "webhook:orders" else servers.hook.posts  # answered by an error: not taken
    mend(servers)
    await rounds(governor, clock, 700, 100.0)
    assert servers.asked() == dict.fromkeys(CHANNELS, wanted)
    assert [(await governor.approval(id)).run.outbox for id in ids] == [(), ()]
    await governor.decide(ids[0], Decision.approve(), by=ALICE)
    assert (await governor.approval(ids[0])).call.state is not CallState.PENDING


@pytest.mark.parametrize("channel", ["slack", "webhook:orders"])
async def test_retry_after_is_obeyed_to_the_second(
    channel: str, servers: Three, office: tuple[Governor, MovableClock], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the store's clock, and for all that the channel is to be told: nothing a second before, everything then."""
    governor, clock = office
    monkeypatch.setattr(delivery, "ROOM", 1)  # so that others wait behind the one that is told to wait
    if channel == "slack":
        servers.slack.trouble("chat.postMessage", "ratelimited", times=1, retry_after=17)
    else:
        servers.hook.answers.append((429, {"Retry-After": "17"}))
    for amount in (70_001, 70_002, 70_003):
        await ask(governor, amount)
    working = Worker(governor)

    def tries() -> int:
        return servers.slack.count("chat.postMessage") if channel == "slack" else len(servers.hook.posts)

    await working.run(once=True)
    assert tries() == 1
    await ask(governor, 70_004)
    clock.move(16.9)
    await working.run(once=True)
    assert tries() == 1
    clock.move(0.2)
    await working.run(once=True)
    assert tries() == 5
    assert set(servers.asked()[channel]) == {"70001", "70002", "70003", "70004"}


async def test_a_worker_that_forgets_the_wait_is_found_out(
    servers: Three, office: tuple[Governor, MovableClock], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: without the pause the others are sent to a receiver that wants to be left alone."""

    async def never(*_: object) -> float:
        return 0.0

    governor, _ = office
    monkeypatch.setattr(delivery, "ROOM", 1)
    monkeypatch.setattr(delivery.Delivery, "_pause", never)
    servers.hook.answers.append((429, {"Retry-After": "17"}))
    for amount in (70_001, 70_002, 70_003):
        await ask(governor, amount)
    await Worker(governor).run(once=True)
    assert len(servers.hook.posts) > 1


@pytest.mark.usefixtures("hasty")
async def test_a_channel_that_hangs_holds_up_neither_others_nor_runs(
    servers: Three, office: tuple[Governor, MovableClock], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all of its lanes hanging the other channels are told, and a decided call is run meanwhile."""
    monkeypatch.setattr(delivery, "DELIVER", 300.0)
    monkeypatch.setattr(webhook_handler, "TIMEOUT", 300.0)
    governor, _ = office
    servers.hook.trouble = "hangs"
    ids = [await ask(governor, 70_001 + at) for at in range(delivery.ROOM + 2)]
    await governor.decide(ids[0], Decision.approve(), by=ALICE)
    stop = asyncio.Event()
    working = asyncio.create_task(Worker(governor, drain=0.0).run(stop=stop))
    await governor.wait(ids[0].rpartition(".")[0], timeout=100.0, until=lambda run: run.state.ended)
    await servers.slack.until(lambda: len(servers.cards()) == len(ids) - 1)
    await asyncio.to_thread(servers.mail.wait, len(ids) - 1)
    assert not servers.hook.posts
    stop.set()
    await working


async def test_a_channel_that_cannot_be_used_is_said_once(
    servers: Three, office: tuple[Governor, MovableClock], caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong token: one line, the others go on, and once it is mended the card is posted."""
    governor, clock = office
    right, servers.space.token = servers.space.token, "xoxb-other"
    id = await ask(governor, AMOUNTS[0])
    working = Worker(governor)
    for _ in range(5):
        await working.run(once=True)
        clock.move(1.0)
    lines = [
        record.message
        for record in caplog.records
        if "cannot be used" in record.message and "channel slack" in record.message
    ]
    assert len(set(lines)) == 1 and "invalid_auth" in lines[0] and right not in caplog.text
    assert servers.asked() == {"slack": [], "email": ["70001"], "webhook:orders": ["70001"]}
    servers.space.token = right
    await rounds(governor, clock, 700, 100.0)
    assert servers.asked()["slack"] == ["70001"]
    assert (await governor.approval(id)).call.votes == ()


CRASHES = ["notice.taken:after", "notice:after", "card.changed:before:2", "card.changed:before:3"]
EVERY_CRASH = [
    f"{point}:{nth}"
    for point in (
        f"{name}:{side}" for name in ("notice.taken", "notice", "card.changed") for side in ("before", "after")
    )
    for nth in (1, 2, 3, 4)
]
"""``GOVERNOR_NIGHTLY=1`` has all of them."""


@pytest.mark.parametrize("crash", EVERY_CRASH if os.environ.get("GOVERNOR_NIGHTLY") else CRASHES)
@pytest.mark.timeout(600)
async def test_a_crash_posts_at_most_one_card_twice_and_loses_none(crash: str, servers: Three, tmp_path: Path) -> None:
    """A worker that is killed there, and another one later: every request is told; a duplicate shows the outcome as well."""
    file = tmp_path / "g.db"
    governor = governed(f"sqlite:///{file}", {})
    ids = [await ask(governor, amount) for amount in AMOUNTS]
    assert await worker(servers, file, crash=crash) == -9
    assert await worker(servers, file, ahead=delivery.TAKEN + delivery.TURN) == 0
    wanted = [str(amount) for amount in AMOUNTS]
    for channel, shown in servers.asked().items():
        assert sorted(set(shown)) == wanted and len(shown) <= len(wanted) + 1, (channel, shown)
    for id in ids:
        assert (await governor.approval(id)).call.votes == ()
        await governor.decide(id, Decision.reject("no"), by=CFO)
    assert await worker(servers, file, ahead=2 * (delivery.TAKEN + delivery.TURN)) == 0
    for message in servers.cards():
        assert not [block for block in message.blocks if block["type"] == "actions"], "a card that can still be decided"
    await governor.close()


async def test_nothing_is_lost_is_no_empty_word(servers: Three, office: tuple[Governor, MovableClock]) -> None:
    """The control: a worker that forgets what failed loses requests, and the count above would say so."""
    governor, clock = office
    servers.hook.down()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery.Delivery, "_trouble", lambda *_: None)
        await ask(governor, AMOUNTS[0])
        await Worker(governor).run(once=True)
    servers.hook.up()
    await rounds(governor, clock, 700, 100.0)
    assert servers.asked() == {"slack": ["70001"], "email": ["70001"], "webhook:orders": []}


async def test_a_run_of_another_environment_is_told_by_its_own_workers(servers: Three, tmp_path: Path) -> None:
    """A card that is posted from elsewhere could be decided by nobody: clicks on it reach the wrong governor."""
    store = f"sqlite:///{tmp_path}/governor.db"
    staging, prod = (governed(store, servers.handlers()) for _ in range(2))
    staging.env, prod.env = "staging", "prod"
    await ask(staging, AMOUNTS[0])
    await Worker(prod).run(once=True)
    assert servers.asked() == {"slack": [], "email": [], "webhook:orders": []}
    await Worker(staging).run(once=True)
    assert servers.asked() == {channel: ["70001"] for channel in CHANNELS}
    await staging.close()
    await prod.close()


# -- turns at a card ----------------------------------------------------------------------------------------------------


async def test_one_process_at_a_time_works_on_a_card(tmp_path: Path) -> None:
    """A second one waits; a turn ends with its work, and lapses where nobody can see whether its process lives."""
    clock = MovableClock()
    governor = governed(open_store(f"sqlite:///{tmp_path}/g.db", clock=clock), {})
    first, second = [await governor.approval(await ask(governor, 5)) for _ in range(2)]
    other = await governor.approval(await ask(governor, 6))
    desk = governor.desk
    async with desk.turn(first, "slack", 40.0) as mine, desk.turn(second, "slack", 40.0) as shared:
        assert (mine, shared) == (True, False)
        async with desk.turn(other, "slack", 40.0) as apart, desk.turn(first, "email", 40.0) as elsewhere:
            assert apart and elsewhere
        clock.move(41.0)
        async with desk.turn(second, "slack", 40.0) as lapsed:
            assert lapsed
    async with desk.turn(second, "slack", 40.0) as free:
        assert free
    await governor.close()


async def test_what_is_in_other_hands_is_told_later(servers: Three, office: tuple[Governor, MovableClock]) -> None:
    """The lane does not wait for ever, and loses nothing; the channels beside it are told at once."""
    governor, clock = office
    approval = await governor.approval(await ask(governor, AMOUNTS[0]))
    async with governor.desk.turn(approval, "slack", 100.0):
        await Worker(governor).run(once=True)
        assert servers.asked() == {"slack": [], "email": ["70001"], "webhook:orders": ["70001"]}
    clock.move(delivery.LATER)
    await Worker(governor).run(once=True)
    assert servers.asked()["slack"] == ["70001"]


@pytest.mark.parametrize("lost", [True, False])
async def test_a_lane_that_cannot_work_is_said_and_left(
    lost: bool,
    servers: Three,
    office: tuple[Governor, MovableClock],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where contents of a record are lost it is said once a minute; a notice of no call at all is not kept for ever."""
    governor, clock = office
    id = await ask(governor, AMOUNTS[0])

    async def found(*_: object) -> Any:
        if lost:
            raise SnapshotError("the store has lost the content")
        return None

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "_approval", found)
        await rounds(governor, clock, 30, 10.0)
    said = [record.message for record in caplog.records if "has lost the content" in record.message]
    assert len(said) == (3 if lost else 0), "once for each channel"
    assert servers.asked() == {"slack": [], "email": [], "webhook:orders": []}
    assert bool((await governor.approval(id)).run.outbox) is lost
    clock.move(delivery.TAKEN)
    await Worker(governor).run(once=True)
    assert servers.asked()["email"] == (["70001"] if lost else [])
