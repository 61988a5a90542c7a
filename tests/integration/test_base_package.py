"""One regression test for each hole found in governor 0.2.0, the package whose vocabulary this one keeps: it is not here.

G1 to G20 are the numbers of that review. Nothing of that package is imported.
"""

from __future__ import annotations

import ast
import asyncio
import re
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

import governor_agents
from governor_agents import Approval, Decision, Governor, PolicySet, ToolCall, Verdict, Worker
from governor_agents.audit import chain
from governor_agents.cli import serve
from governor_agents.core.records import CallState, RunState
from governor_agents.core.verdicts import Stage
from governor_agents.errors import (
    AlreadyDecided,
    ArgumentsError,
    CallExpired,
    DeadlinePassed,
    NotAnApprover,
    PolicyFileError,
    ReasonRequired,
)
from governor_agents.stores import open_store
from governor_agents.testing import MovableClock

PACKAGE = Path(governor_agents.__file__).parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
ANN, BOB, MALLORY = "local:ann", "local:bob", "local:mallory"
RULE: dict[str, Any] = {"approvers": [ANN, BOB]}


class Shop:
    """A governor with one governed function, and what really ran."""

    def __init__(self, store: Any, *, handler: Any = None, **rule: Any) -> None:
        channels = {"channels": ["desk"]} if handler else {}
        self.governor = Governor(PolicySet(()), store=store, handlers={"desk": handler} if handler else {})
        self.ran: list[Any] = []

        @self.governor.govern(name="pay", **channels, **{**RULE, **rule})
        async def pay(order: dict[str, Any], amount: int = 1) -> str:
            self.ran.append((order, amount))
            return "paid"

        self.pay = pay

    async def work(self) -> None:
        await Worker(self.governor).run(once=True)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db"


async def test_g1_nobody_decides_without_being_an_approver(store: str) -> None:
    """A stranger, nobody, and the agent itself are refused; there is no way in that asks for no identity."""
    shop = Shop(store)
    async with shop.governor as governor:
        pending = await shop.pay.ask({})
        for by in (MALLORY, "service:functions"):
            with pytest.raises(NotAnApprover):
                await governor.decide(pending.approval, Decision.approve(), by=by)
        with pytest.raises(Exception, match=r"person|nobody"):
            await governor.decide(pending.approval, Decision.approve(), by="")
        await shop.work()
        assert shop.ran == [] and (await governor.approval(pending.approval)).call.votes == ()


async def test_g2_a_no_is_never_a_yes(store: str) -> None:
    """A rejection rejects, and a decision of an unknown kind is none."""
    shop = Shop(store)
    async with shop.governor as governor:
        pending = await shop.pay.ask({})
        with pytest.raises(ArgumentsError, match="maybe"):
            await governor.decide(pending.approval, Decision("maybe"), by=ANN)  # type: ignore[arg-type]
        run = await governor.decide(pending.approval, Decision.reject("no"), by=ANN)
        await shop.work()
        assert run.calls[0].state is CallState.REJECTED and shop.ran == []


async def test_g3_approver_and_reason_are_enforced(store: str) -> None:
    """The approver is compared with the list, and a demanded reason must be given."""
    shop = Shop(store, reason_required=True)
    async with shop.governor as governor:
        pending = await shop.pay.ask({})
        with pytest.raises(NotAnApprover):
            await governor.decide(pending.approval, Decision.approve("fine"), by=MALLORY)
        with pytest.raises(ReasonRequired):
            await governor.decide(pending.approval, Decision.approve("  "), by=ANN)
        run = await governor.decide(pending.approval, Decision.approve("seen the invoice"), by=ANN)
        assert run.calls[0].state is CallState.APPROVED


async def test_g4_what_the_policy_says_reaches_the_approval(store: str) -> None:
    """Approvers and deadline of the rule are those of the approval."""
    shop = Shop(store, approvers=[BOB], deadline="90s")
    async with shop.governor as governor:
        approval = await governor.approval((await shop.pay.ask({})).approval)
        assert approval.people == (BOB,)
        assert approval.deadline == approval.call.created + 90


async def test_g5_time_never_approves(tmp_path: Path) -> None:
    """After the deadline the call is EXPIRED, it never runs, and no policy can say otherwise."""
    clock = MovableClock()
    shop = Shop(open_store(f"sqlite:///{tmp_path}/store.db", clock=clock), deadline="60s")
    async with shop.governor as governor:
        pending = await shop.pay.ask({})
        clock.move(61.0)
        with pytest.raises(DeadlinePassed):
            await governor.decide(pending.approval, Decision.approve(), by=ANN)
        await shop.work()
        with pytest.raises(CallExpired):
            await pending.result(timeout=10)
        assert shop.ran == []
    for line in ("on_timeout: approve", "on_expire: approve"):
        text = f"version: 1\nrules:\n  - name: r\n    tool: pay\n    then: require_approval\n    {line}\n"
        with pytest.raises(PolicyFileError):
            PolicySet.from_text(text)


async def test_g6_an_instant_answer_counts(store: str) -> None:
    """A channel that answers while it is being told is heard: the request stands before anybody is asked."""

    class Instant:
        name = "desk"
        governor: Governor

        async def start(self, desk: object) -> None: ...

        async def close(self) -> None: ...

        async def notify(self, approval: Approval, to: str = "") -> str:
            await self.governor.decide(approval.id, Decision.approve(), by=ANN)
            return ""

        async def update(self, approval: Approval, card: str, to: str = "") -> None:
            pass

    handler = Instant()
    shop = Shop(store, handler=handler)
    handler.governor = shop.governor
    async with shop.governor:
        pending = await shop.pay.ask({})
        await shop.work()
        assert await pending.result(timeout=60) == "paid"
    assert len(shop.ran) == 1


async def test_g7_stages_need_each_their_own_approval(store: str) -> None:
    """One approval passes one stage, of one run."""
    stages = (Stage(("ann",), (ANN,)), Stage(("bob",), (BOB,)))
    governor = Governor([lambda call: Verdict("require_approval", stages=stages)], store=store)
    ran: list[int] = []

    @governor.govern(name="deploy")
    async def deploy(n: int) -> None:
        ran.append(n)

    async with governor:
        first, second = await deploy.ask(1), await deploy.ask(2)
        run = await governor.decide(first.approval, Decision.approve(), by=ANN)
        assert run.calls[0].state is CallState.PENDING and run.calls[0].stage == 1
        assert (await governor.approval(second.approval)).call.stage == 0
        with pytest.raises(NotAnApprover):
            await governor.decide(first.approval, Decision.approve(), by=ANN)
        await Worker(governor).run(once=True)
        assert ran == []
        await governor.decide(first.approval, Decision.approve(), by=BOB)
        await Worker(governor).run(once=True)
        assert ran == [1]


async def test_g8_what_waits_is_in_the_store(store: str) -> None:
    """Another process can decide and resume: nothing of what waits is in the memory of the one that asked."""
    async with Shop(store).governor as asking:
        pending = await asking.functions._known["pay"].ask({"n": 1})
    other = Shop(store)
    async with other.governor as governor:
        run = await governor.decide(pending.approval, Decision.approve(), by=ANN)
        assert run.state is RunState.READY
        await other.work()
        assert other.ran == [({"n": 1}, 1)] and (await governor.get(run.id)).output == "paid"


async def test_g9_an_approved_run_is_run_once(store: str) -> None:
    """However often workers look, alone or at the same time."""
    shops = [Shop(store) for _ in range(3)]
    async with shops[0].governor as governor:
        pending = await shops[0].pay.ask({})
        await governor.decide(pending.approval, Decision.approve(), by=ANN)
        await asyncio.gather(*(shop.work() for shop in shops))
        for shop in shops * 3:
            await shop.work()
        for shop in shops[1:]:
            await shop.governor.close()
    assert [len(shop.ran) for shop in shops].count(1) == 1 and sum(len(shop.ran) for shop in shops) == 1


async def test_g10_the_second_decision_does_not_overwrite_the_first(store: str) -> None:
    """Who comes later is told who decided, and the record stays as it was."""
    shop = Shop(store)
    async with shop.governor as governor:
        pending = await shop.pay.ask({})
        await governor.decide(pending.approval, Decision.reject("no"), by=ANN)
        with pytest.raises(AlreadyDecided, match="rejected by local:ann"):
            await governor.decide(pending.approval, Decision.approve(), by=BOB)
        call = (await governor.approval(pending.approval)).call
        assert call.state is CallState.REJECTED and [vote.by for vote in call.votes] == [ANN]


async def test_g11_live_objects_are_not_what_runs(store: str) -> None:
    """What the caller does to its objects after asking changes neither what is shown nor what runs."""
    shop = Shop(store)
    order = {"to": "bob", "amount": 1}
    async with shop.governor as governor:
        pending = await shop.pay.ask(order)
        order.update(to="mallory", amount=99_999)
        assert (await governor.approval(pending.approval)).arguments["order"] == {"to": "bob", "amount": 1}
        await governor.decide(pending.approval, Decision.approve(), by=ANN)
        await pending.result(timeout=60)
    assert shop.ran == [({"to": "bob", "amount": 1}, 1)]


LISTENS = {
    "server/running.py",  # `serve`: on 127.0.0.1 unless somebody says otherwise, see tests/server
    "testing/smtp_server.py",
}


def test_g12_g13_only_serve_listens_and_no_header_is_believed() -> None:
    """No wide binding, no CORS, no script that writes HTML, no identity from a request's header."""
    words = r"\b0\.0\.0\.0|Access-Control|CORSMiddleware|X-User-|innerHTML"
    found = {name: re.findall(words, text) for name, text in SOURCES.items()}
    assert {name: hits for name, hits in found.items() if hits} == {}
    listens = {name for name, text in SOURCES.items() if re.search(r"\.listen\(|start_server\(|create_server\(", text)}
    assert listens == LISTENS
    (host,) = (each for each in signature(serve.serve).parameters.values() if each.name == "host")
    assert host.default == "127.0.0.1"


@pytest.mark.parametrize(
    "value", [{"__type__": "Path", "value": "/etc"}, {"__type__": "Decimal", "value": "1"}, {"lc": 1, "type": "x"}]
)
async def test_g14_user_data_is_never_revived(store: str, value: dict[str, Any]) -> None:
    """A type tag in the arguments stays what it is: data."""
    shop = Shop(store)
    async with shop.governor as governor:
        pending = await shop.pay.ask(value)
        await governor.decide(pending.approval, Decision.approve(), by=ANN)
        await pending.result(timeout=60)
    assert shop.ran == [(value, 1)]


@pytest.mark.parametrize("value", [{"a": (1, 2)}, {"a": object()}, {"a": {1, 2}}, {1: "a"}, {"a": b"x"}])
def test_g14_what_is_not_json_is_refused(value: Any) -> None:
    """Tuples do not become lists, and objects do not become their text: there is one form, or none."""
    with pytest.raises(ArgumentsError):
        ToolCall.of("pay", {"order": value})


async def test_g15_what_is_stored_comes_back_as_it_was(store: str) -> None:
    """Integers and floats, order and text: the bytes that another process loads are those that were frozen."""
    order = {"int": 1, "float": 1.0, "big": 2**70, "text": "ü\u202e", "list": [None, True, {}]}
    async with Shop(store).governor as governor:
        pending = await governor.functions._known["pay"].ask(order)
        frozen = (await governor.approval(pending.approval)).call.args
    async with Shop(store).governor as other:
        call = (await other.approval(pending.approval)).call
    assert call.args == frozen and call.as_tool_call(await _run(store, pending.run)).arguments["order"] == order


async def _run(store: str, id: str) -> Any:
    async with Shop(store).governor as governor:
        return await governor.get(id)


async def test_g16_arguments_and_results_are_not_in_events(store: str) -> None:
    """The audit trail names digests; what the call is about stays in the record."""
    secret = "hunter2-4711"
    shop = Shop(store)
    async with shop.governor as governor:
        pending = await shop.pay.ask({"password": secret})
        await governor.decide(pending.approval, Decision.approve(), by=ANN)
        await pending.result(timeout=60)
        assert secret not in repr(await governor.timeline(pending.run)) and secret not in repr(governor)


async def test_g17_counters_are_exact_and_nobody_is_anonymous(store: str) -> None:
    """Many writers never pass a limit, and every call has a requester, so that no limit is passed by having none."""
    stores = [open_store(store) for _ in range(4)]
    for one in stores:
        await one.open()
    sums = await asyncio.gather(
        *(one.add_below("t", "per-hour", 1, 5, op=f"{at} {n}") for at, one in enumerate(stores) for n in range(5))
    )
    assert sorted(total for total in sums if total is not None) == [1, 2, 3, 4, 5]
    for one in stores:
        await one.close()
    async with Shop(store).governor as governor:
        pending = await governor.functions._known["pay"].ask({})
        assert (await governor.get(pending.run)).requester == "service:functions"


async def test_g18_trouble_is_written_down_and_time_is_the_store_s(store: str) -> None:
    """A channel that fails leaves an event and is tried again; all that happened is one chain by one clock."""

    class Down:
        name = "desk"
        tries = 0

        async def start(self, desk: object) -> None: ...

        async def close(self) -> None: ...

        async def notify(self, approval: Approval, to: str = "") -> str:
            self.tries += 1
            raise ConnectionError("no route")

        async def update(self, approval: Approval, card: str, to: str = "") -> None:
            pass

    down = Down()
    shop = Shop(store, handler=down)
    async with shop.governor as governor:
        pending = await shop.pay.ask({})
        await shop.work()
        run = await governor.get(pending.run)
        failed = [line for line in await governor.timeline(run.id) if line["what"] == "notice.failed"]
        assert down.tries == len(failed) == 1 and "no route" in failed[0]["reason"]
        assert run.outbox and run.outbox[0].due > run.updated and run.calls[0].state is CallState.PENDING
        events = await governor.loop.bridge(governor.store.events("run", governor.tenant, run.id))
        assert chain.verify(events, run.chain) == ""
        assert chain.verify(events[:-1], run.chain) != ""  # the control


def test_g19_the_package_claims_no_compliance() -> None:
    """No sentence in code or documents states that something is compliant, or erased."""
    documents = {path.name: path.read_text() for path in (PACKAGE.parent / "docs").glob("*.md")}
    words = re.compile(r"permanently deleted|mfa_enforced|\w+ compliant\b|HIPAA|SOC ?2|GDPR", re.IGNORECASE)
    found = {name: words.findall(text) for name, text in {**SOURCES, **documents}.items()}
    assert {name: hits for name, hits in found.items() if hits} == {}


def test_g20_no_driver_past_its_end_and_never_the_base_package() -> None:
    """Neither ``motor`` nor ``governor`` is needed or imported."""
    project = (PACKAGE.parent / "pyproject.toml").read_text()
    dependencies = project.partition("dependencies = [")[2].partition("]")[0]
    assert "motor" not in dependencies and '"governor' not in dependencies
    for name, text in SOURCES.items():
        for node in ast.walk(ast.parse(text)):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {module.partition(".")[0] for module in modules} & {"motor", "governor"}, name
