"""Two hundred planted secrets: with keys set, none of them is in any file of a server, in the log, a repr or an error.

Whole runs of both frameworks and of plain functions, on SQLite, Redis and MongoDB. Looked for in every way in which a
text may be written down (`secrets`), in the log of everything at its finest, and in the errors of a server that dies.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, PolicySet, Run, Verdict, Worker
from governor_agents.adapters.langchain import GovernorMiddleware, GovernorSaver
from governor_agents.core.verdicts import Stage
from governor_agents.errors import GovernorError
from governor_agents.keys import Keys
from governor_agents.publishing import Publications
from tests.asking import Silent
from tests.faults.planting import Plants, files, found
from tests.integration import langchain_app, openai_agents_app
from tests.servers import MongoServer, RedisServer

BOSS = "boss@example.com"
PASSWORD = "pl4ntedPassword"


# -- servers ----------------------------------------------------------------------------------------------------------


@dataclass
class Site:
    """A store, the folder in which its server keeps everything, and what makes the server write and then die."""

    url: str
    folder: Path
    flush: Callable[[], object] = lambda: None
    die: Callable[[], object] = lambda: None


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Site]:
    (folder / "sqlite").mkdir()
    yield Site(f"sqlite:///{folder}/sqlite/g.db", folder / "sqlite")


@asynccontextmanager
async def redis(folder: Path) -> AsyncIterator[Site]:
    """Its log and its snapshot, both written anew, and neither compressed."""
    settings = {"requirepass": PASSWORD, "rdbcompression": "no", "aof-use-rdb-preamble": "no", "save": ""}
    with RedisServer(folder / "redis", settings=settings) as server:
        client = server.client(password=PASSWORD)
        yield Site(f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0", folder / "redis", client.save, server.kill)


@asynccontextmanager
async def mongodb(folder: Path) -> AsyncIterator[Site]:
    with MongoServer(folder / "mongodb") as server:
        url = f"mongodb://127.0.0.1:{server.port}/governor?retryWrites=false&serverSelectionTimeoutMS=1000"
        yield Site(url, folder / "mongodb", die=server.kill)


SITES: dict[str, Callable[[Path], AbstractAsyncContextManager[Site]]] = {
    "sqlite": sqlite,
    "redis": redis,
    "mongodb": mongodb,
}


# -- what happens -----------------------------------------------------------------------------------------------------


@dataclass
class Play:
    """Runs with secrets in them, and everything that was shown of them."""

    url: str
    keys: Keys | None
    plants: Plants
    shown: list[str] = field(default_factory=list)

    def governor(self, approvers: tuple[str, ...]) -> Governor:
        """One whose policy asks these people and, hidden among them, ones with names that were planted."""
        ask = Verdict("require_approval", stages=(Stage(("people",), (BOSS, *approvers)),), reason=self.plants("why"))
        policies = PolicySet([lambda call: ask])
        return Governor(policies, store=self.url, keys=self.keys, secret=b"s", handlers={"terminal": Silent()})

    async def functions(self) -> None:
        """Plain functions: approved, edited, answered, rejected, cancelled, failed, and in a file of the wrong name."""
        plant = self.plants
        async with self.governor((plant.person("approver"), plant.person("approver"))) as governor:

            @governor.govern(name="pay")
            def pay(token: str, **more: Any) -> Any:
                if token.startswith("bad"):
                    raise RuntimeError(plant("raised"))
                return {plant("result key"): plant.many("result"), "text": plant("result") + '"\\\n'}

            async def ask(token: str = "") -> Run:
                more = {plant("argument name"): {"deep": plant.many("argument")}, "with": f'"{plant("argument")}\\'}
                return await governor.get((await pay.ask(token=token + plant("argument"), **more)).run)

            decisions = [
                Decision.approve(plant("reason")),
                Decision.edit({"token": plant("edit"), "more": plant.many("edit")}, plant("reason")),
                Decision.respond(plant("answer"), plant("reason")),
                Decision.reject(plant("reason")),
            ]
            for decision in decisions * 2:
                await self.decided(governor, await ask(), decision)
            await self.decided(governor, await ask("bad"), Decision.approve(plant("reason")))
            await governor.cancel((await ask()).id, by=BOSS, reason=plant("cancel reason"))
            text = f"version: 1\napprovals: {{approvers: [{plant.person('published')}]}}"
            made = Publications(governor.runs).publish(text, by=plant.person("publisher"), note=plant("note"))
            await governor.loop.bridge(made)
            await governor.halt("tool:pay", by=BOSS, reason=plant("halt reason"))
            await governor.lift("tool:pay", by=BOSS, reason=plant("lift reason"))
            await self.look(governor)

    async def openai(self) -> None:
        """An agent of the OpenAI SDK."""
        plant = self.plants
        turns = [
            [("refund", {"order": plant("argument")}), ("note", {"text": " ".join(plant.many("argument"))})],
            " ".join(plant.many("model")),
        ]
        async with self.governor((plant.person("approver"),)) as governor:
            model = openai_agents_app.Scripted(*turns)
            tools = openai_agents_app.make_tools(openai_agents_app.Ledger(Path("/dev/null")))

            @governor.agent("support")
            def support() -> Any:
                return openai_agents_app.Agent(
                    name="Support",
                    instructions=plant("instructions"),
                    model=model,
                    tools=[tools["refund"], tools["note"]],
                )

            await self.conversation(governor, plant("conversation"))

    async def langchain(self) -> None:
        """An agent of LangChain on our saver."""
        plant = self.plants
        turns = [
            [("pay", {"amount": 7, "to": plant("argument")}), ("note", {"text": " ".join(plant.many("argument"))})],
            plant("model"),
        ]
        async with self.governor((plant.person("approver"),)) as governor:
            model = langchain_app.Scripted(turns=turns)
            tools = langchain_app.make_tools(langchain_app.Ledger(Path("/dev/null")))[:2]

            @governor.agent("support")
            def support() -> Any:
                return langchain_app.create_agent(
                    model,
                    tools=tools,
                    system_prompt=plant("instructions"),
                    middleware=[GovernorMiddleware(governor)],
                    checkpointer=GovernorSaver(governor),
                )

            await self.conversation(governor, plant("thread"))

    async def conversation(self, governor: Governor, name: str) -> None:
        """Two messages; everything that waits is approved."""
        plant = self.plants
        for _ in range(2):
            run = await governor.run(
                "support",
                " ".join(plant.many("message")),
                conversation=name,
                requester=plant.person("requester"),
                context={plant("context key"): plant.many("context")},
            )
            for approval in run.approvals:
                await governor.decide(approval.id, Decision.approve(plant("reason")), by=BOSS)
            await Worker(governor).run(once=True)
            ended = await governor.get(run.id)
            assert ended.status == "completed", ended.error
        await self.look(governor)

    async def decided(self, governor: Governor, run: Run, decision: Decision) -> None:
        """Decide what waits and let a worker do it."""
        await governor.decide(run.approvals[0].id, decision, by=BOSS)
        await Worker(governor).run(once=True)
        assert (await governor.get(run.id)).state.ended

    async def look(self, governor: Governor) -> None:
        """What a debugger shows of everything."""
        self.shown += [repr(governor), repr(governor.store), repr(governor.policies), repr(governor.runs)]
        for run in await governor.list_runs():
            calls = await governor.calls(run.id)
            shown = repr([run, calls, run.approvals, [call.votes for call in calls]])
            self.shown.append(re.sub(rf"\w*{re.escape(run.conversation)}\w*", "", shown) if run.conversation else shown)

    async def whole(self) -> None:
        """All of it."""
        await self.functions()
        await self.openai()
        await self.langchain()

    async def dies(self, die: Callable[[], object]) -> None:
        """The errors of a server that is not there any more, with all that is chained to them."""
        plant = self.plants
        async with self.governor(()) as governor:

            @governor.govern(name="pay")
            def pay(token: str) -> str:
                return token

            asked = await pay.ask(plant("argument"))
            await asyncio.to_thread(die)
            tries: list[Awaitable[Any]] = [
                pay.ask(plant("argument")),
                governor.decide(asked.approval, Decision.approve(plant("reason")), by=BOSS),
                governor.cancel(asked.run, by=BOSS, reason=plant("cancel reason")),
            ]
            for each in tries:
                try:
                    await each
                except GovernorError as error:
                    self.shown += traceback.format_exception(error)
                    self.shown += [repr(error), str(error)]


@contextmanager
def everything(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The whole log of every library."""
    with caplog.at_level(logging.DEBUG):
        for name in list(logging.root.manager.loggerDict):
            logging.getLogger(name).setLevel(logging.NOTSET)
        yield


@dataclass
class Found:
    """How many were planted, and which of them turned up: in files, in the log, and in what was shown."""

    planted: int
    files: set[str]
    log: set[str]
    shown: set[str]
    password: bool

    def __str__(self) -> str:
        return f"planted={self.planted} files={len(self.files)} log={len(self.log)} shown={len(self.shown)}"


async def planted(name: str, folder: Path, keys: Keys | None, caplog: pytest.LogCaptureFixture) -> Found:
    """Play it all and look for the plants."""
    async with SITES[name](folder) as site:
        play = Play(site.url, keys, Plants(4711))
        with everything(caplog):
            await play.whole()
            site.flush()
            await play.dies(site.die)
    plants, log, shown = play.plants, caplog.text, "\n".join(play.shown)
    # The thread of a LangGraph run is its id, which every line about it names.
    for word in [word for what, word in plants.words.items() if what.startswith("thread ")]:
        log = log.replace(word, "THREAD")
    return Found(
        len(plants.words),
        found(plants, files(site.folder)),
        found(plants, [log.encode()]),
        found(plants, [shown.encode()]),
        PASSWORD in log + shown,
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SITES)
async def test_no_secret_is_written_down_in_clear(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """With keys: 200 secrets, none in the server's files, in its log or ours, in a repr or an error."""
    got = await planted(name, tmp_path, Keys.generate(), caplog)
    with capsys.disabled():
        print(f"\nsecrets: store={name} {got}")
    assert got.planted >= 200
    assert (got.files, got.log, got.shown, got.password) == (set(), set(), set(), False)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SITES)
async def test_without_keys_they_are_found(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The control: the same in clear is in the files; and still in no repr, no error and no line of ours."""
    got = await planted(name, tmp_path, None, caplog)
    assert len(got.files) >= got.planted / 2, got
    assert (got.shown, got.password) == (set(), False)
    assert got.log == set() or name == "mongodb", "its client's own log quotes what is sent, at its finest"


def test_every_way_of_writing_is_known() -> None:
    """The control of the search: each way, in the midst of other text, is found, and nothing is in what holds nothing."""
    plants = Plants(1)
    word = plants("word")
    texts = [f"x{word}y", json.dumps({"a": f'"{word}"'}), word[::-1]]
    encoded = [f"{'z' * n}{word}zz".encode() for n in range(3)]
    ways = [text.encode() for text in texts] + [base64.b64encode(each) for each in encoded]
    ways += [word.encode().hex().encode(), word.encode("utf-16"), "".join(f"\\u{ord(c):04x}" for c in word).encode()]
    assert [bool(found(plants, [way])) for way in ways] == [True] * len(ways)
    assert found(plants, [word[:10].encode(), b"nothing"]) == set()
