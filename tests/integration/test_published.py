"""Published policies: in force in every process on the store, before every intent, and never on a cache's word."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from agents import Runner

from governor_agents import Governor, PolicySet, Tool, ToolCall, Verdict, Worker
from governor_agents.adapters.openai_agents import govern
from governor_agents.core.records import CallState, RunState
from governor_agents.errors import (
    CallDenied,
    ConfigError,
    NotFound,
    PoliciesUnavailable,
    PolicyFileError,
    StoreUnavailable,
)
from governor_agents.keys import Keys
from governor_agents.publishing import Publications, Published
from governor_agents.stores.memory import MemoryStore
from tests.integration.desk import ARGS, BOSS, CHIEF, FRAMEWORKS, Desk
from tests.integration.publishing import ALLOW, ASK, DENY, HEAD, NEVER, TWO, looked, publish, published, rules, until
from tests.stores import STORES

pytestmark = pytest.mark.anyio

CALL = ToolCall.of("deploy", ARGS)


@pytest.fixture(params=STORES)
def each_store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh store of each kind."""
    return STORES[request.param](tmp_path)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A fresh store."""
    return f"sqlite:///{tmp_path}/g.db"


def desk(url: Any, framework: str = "functions", **settings: Any) -> Desk:
    return Desk(framework, url, policies=published(), **settings)


# -- publications -----------------------------------------------------------------------------------------------------


async def test_versions_count_publications_and_all_of_them_can_be_read(each_store: str) -> None:
    """Numbers without gaps, texts byte for byte, who and when; what is in force already is not published again."""
    made = [await publish(each_store, text) for text in (ASK, DENY, DENY, ASK)]
    assert [each.version for each in made] == [1, 2, 2, 3] and made[1] == made[2]
    async with Governor(store=each_store) as governor:

        async def look() -> Any:
            found = Publications(governor.runs)
            history = await found.history()
            return history, [await found.text(each) for each in history], await found.current()

        history, texts, current = await governor.loop.bridge(look())
        assert history == [made[0], made[1], made[3]] and current == made[3] and texts == [ASK, DENY, ASK]
        assert made[0].policy_version == PolicySet.from_text(ASK).version and made[0].by == "local:op"
        trail = await governor.loop.bridge(governor.audit.newest(what="policy."))
        assert [(line["version"], line["by"]) for line in trail] == [(n, "local:op") for n in (1, 2, 3)]
        report = await governor.loop.bridge(governor.audit.verify())
        assert report.findings == [] and (report.trails, report.events) == (1, 3)


@pytest.mark.parametrize(
    "text",
    [
        "rules: 3\n",
        "version: 1\nrules: [{name: a, tool: t, then: maybe}]\n",
        "",
        "version: 1\nrules: [{name: a, tool: t, then: require_approval}]\n",
    ],
)
async def test_a_file_with_a_mistake_is_refused_and_nothing_changes(url: str, text: str) -> None:
    """With its name and line, as when it is read from a file."""
    await publish(url, ASK)
    with pytest.raises(PolicyFileError, match=r"^policy\.yaml:\d+: "):
        await publish(url, text)
    assert (await publish(url, ASK)).version == 1


async def test_who_publishes_over_something_that_he_has_not_seen_is_told(each_store: str) -> None:
    """``expect`` names the version that was edited; sixteen who publish at once leave sixteen versions."""
    await publish(each_store, ASK)
    async with Governor(store=each_store) as governor:
        found = Publications(governor.runs)
        with pytest.raises(ConfigError, match="version 1 is in force, not 0"):
            await governor.loop.bridge(found.publish(DENY, by="local:op", expect=0))
        texts = [rules(f"when: call.args.amount == {at}, then: deny") for at in range(16)]

        async def race() -> Any:
            return await asyncio.gather(*(found.publish(text, by="local:op", expect=None) for text in texts))

        made = await governor.loop.bridge(race())
        assert sorted(each.version for each in made) == list(range(2, 18))
        with pytest.raises(NotFound, match=r"no version 18 .* the last one is 17"):
            await governor.loop.bridge(found.find(18))


async def test_tenants_have_policies_of_their_own(each_store: str) -> None:
    """What one publishes is in force for no other."""
    await publish(each_store, ALLOW, tenant="a")
    await publish(each_store, DENY, tenant="b")
    for tenant, outcome in (("a", "allow"), ("b", "deny"), ("c", "deny")):
        async with Governor(published(), store=each_store, tenant=tenant) as governor:
            assert governor.policies.evaluate(CALL).outcome == outcome
            assert governor.policies.evaluate(CALL).code == ("policies_unavailable" if tenant == "c" else "rule")


# -- what is in force -------------------------------------------------------------------------------------------------


async def test_without_any_publication_nothing_runs(url: str) -> None:
    """Denied with a reason code; what was published later is in force with the next look."""
    here = desk(url)
    async with here.governor:
        with pytest.raises(CallDenied, match="nothing is published in this store"):
            await here.call()
        await publish(url, ALLOW)
        await looked(here.governor, Published.refresh)
        assert await here.call() == "done" and len(here.ran) == 1


async def test_the_first_call_waits_for_the_first_copy(url: str) -> None:
    """A governor that nobody opened opens itself, also where the caller is a running loop."""
    await publish(url, ALLOW)
    here = desk(url)
    assert await here.call() == "done"
    await here.governor.close()


async def test_one_object_belongs_to_one_governor(url: str) -> None:
    """Two tenants that share one would share their policies."""
    policies = published()
    Governor(policies, store=url)
    with pytest.raises(ConfigError, match="belong to another Governor"):
        Governor(policies, store=url, tenant="b")
    Governor(policies.apart(), store=url, tenant="b")


@pytest.mark.parametrize("settings", [{"poll": 0}, {"poll": 60}, {"max_age": float("inf")}, {"poll": float("nan")}])
def test_settings_that_cannot_be_are_refused(settings: dict[str, float]) -> None:
    """A copy must be looked after, and must get old."""
    with pytest.raises(ConfigError, match="must be seconds"):
        Published(**settings)


async def test_policies_of_ones_own_stand_beside_the_published_ones(url: str) -> None:
    """The strictest wins; decorators that name a published group are added when it is known."""
    await publish(url, rules("then: allow") + f"groups: {{chiefs: [{CHIEF}]}}\n")
    own = Published(
        [lambda call: Verdict("deny") if "evil" in str(call.args) else None], cache="", poll=NEVER, max_age=NEVER + 1
    )
    governor = Governor(own, store=url)

    @governor.govern(name="deploy", approvers=["group:chiefs"])
    async def deploy(path: str, amount: int) -> str:
        return "done"

    async with governor:
        verdict = own.evaluate(CALL)
        assert verdict.outcome == "require_approval" and verdict.stages[0].people == (CHIEF,)
        assert own.evaluate(ToolCall.of("deploy", {"path": "evil"})).outcome == "deny"
        with pytest.raises(ConfigError, match="unknown group"):
            own.add_rule(name="more", tool="x", then="require_approval", approvers=["group:chief"])


async def test_what_does_not_fit_here_is_not_used_and_nothing_begins(url: str) -> None:
    """A version that contradicts policies of one's own: this process knows of it, so the older one does not count."""
    await publish(url, ALLOW)
    here = Desk(
        "functions",
        url,
        policies=Published(
            PolicySet.from_text(HEAD + "groups: {g: [a@b.c]}\n")._joined.parts, cache="", poll=NEVER, max_age=NEVER + 1
        ),
    )  # type: ignore[arg-type]
    async with here.governor:
        policies = here.governor.policies
        assert policies.evaluate(CALL).outcome == "allow"
        await publish(url, ALLOW + "groups: {g: [x@y.z]}\n")
        with pytest.raises(PoliciesUnavailable, match=r"version 2 .* does not fit the policies here: group 'g'"):
            await here.call()
        assert here.ran == []
        verdict = policies.evaluate(CALL)
        assert (verdict.outcome, verdict.code) == ("require_approval", "policies_unavailable")
        await publish(url, ALLOW)
        await looked(here.governor, Published.refresh)
        assert await here.call() == "done"


async def test_what_is_declared_of_a_function_is_what_is_published(url: str) -> None:
    """Decorated before anything is known: retry class and files to bind come with the publication, and change with it."""
    here = desk(url)
    function = here._functions["deploy"]
    await publish(url, HEAD.replace("deploy: {}", "deploy: {retry: idempotent, operands: [path]}"))
    async with here.governor:
        assert (function.tool.retry, function.tool.operands) == ("idempotent", ("path",))
        await publish(url, ALLOW)
        await looked(here.governor, Published.refresh)
        assert function.tool == Tool("deploy", schema_sha256=function.tool.schema_sha256)


# -- at the intent ----------------------------------------------------------------------------------------------------


class Deaf(Published):
    """A broken build: it believes its copy, and looks at the store only every `poll` seconds."""

    async def confirm(self) -> str:
        return self.version


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_an_approved_call_meets_the_policies_that_were_published_meanwhile(url: str, framework: str) -> None:
    """No announcement, no look in between: the intent finds the deny by itself, and the call is CANCELLED."""
    await publish(url, ASK)
    here = desk(url, framework)
    async with here.governor:
        run = await here.approved()
        await publish(url, DENY)
        await Worker(here.governor).run(once=True)
        assert here.ran == [] and (await here.calls(run))["deploy"].state is CallState.CANCELLED
        assert (await here.calls(run))["deploy"].code == "policy_denies"
        assert (await here.governor.get(run.id)).state.ended


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_build_that_believes_its_copy_runs_it(url: str, framework: str) -> None:
    """The negative control: the same, without the look before the intent."""
    await publish(url, ASK)
    here = Desk(framework, url, policies=Deaf(cache="", poll=NEVER, max_age=NEVER + 1))
    async with here.governor:
        run = await here.approved()
        await publish(url, DENY)
        await Worker(here.governor).run(once=True)
        assert len(here.ran) == 1 and (await here.calls(run))["deploy"].state is CallState.SUCCEEDED


async def test_a_call_without_a_record_meets_them_too(url: str) -> None:
    """Allowed by the copy, denied by the store: neither a function nor a tool in one's own loop runs."""
    await publish(url, ALLOW)
    async with (here := desk(url)).governor, (loop := desk(url, "openai-agents")).governor:
        agent, options = loop._openai()
        govern(agent, loop.governor)
        await publish(url, DENY)
        with pytest.raises(CallDenied, match="not any more"):
            await here.call()
        await Runner.run(agent, "go", **options)
        assert here.ran == loop.ran == []
        await publish(url, ALLOW)  # the control
        for each in (here, loop):
            await looked(each.governor, Published.refresh)
        agent, options = loop._openai()
        govern(agent, loop.governor)
        await Runner.run(agent, "go", **options)
        assert await here.call() == "done" and len(here.ran) == len(loop.ran) == 1


async def test_a_call_waits_again_when_more_people_are_published(each_store: str) -> None:
    """A demand that the votes do not meet asks again, under the version that demands it."""
    await publish(each_store, ASK)
    here = desk(each_store)
    async with here.governor:
        run = await here.approved()
        made = await publish(each_store, TWO)
        await Worker(here.governor).run(once=True)
        call = (await here.calls(run))["deploy"]
        assert here.ran == [] and (call.state, call.version) == (CallState.PENDING, made.policy_version)
        await here.approve(await here.governor.get(run.id), by=CHIEF)
        await Worker(here.governor).run(once=True)
        assert len(here.ran) == 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("approved", [True, False], ids=["approved", "allowed"])
@pytest.mark.parametrize("overtaken", [True, False], ids=["overtaken", "control"])
async def test_what_is_heard_of_on_the_way_to_an_intent_counts(
    url: str, framework: str, approved: bool, overtaken: bool
) -> None:
    """Published and heard of after the last look, before the write: no intent under what is over. Not published: it runs."""
    await publish(url, ASK if approved else ALLOW)
    here = desk(url, framework)
    async with here.governor:
        policies = here.governor.policies
        assert isinstance(policies, Published)
        run = await here.approved() if approved else None
        looks, confirm = [0], policies.confirm

        async def overtake() -> str:
            version = await confirm()
            looks[0] += 1
            if looks[0] == (2 if approved else 1):  # the first look of an approved one is the claim's
                if overtaken:
                    await Publications(here.governor.runs).publish(DENY, by="local:op")
                await policies.refresh()
            return version

        policies.confirm = overtake  # type: ignore[method-assign]
        if run is not None:
            await here.go_on(run)
        elif framework != "functions":
            run = await here.ask()
        elif overtaken:
            with pytest.raises(CallDenied):
                await here.call()
        else:
            await here.call()
        assert len(here.ran) == (0 if overtaken else 1) and looks[0] >= 1
        if run is not None and overtaken:
            [call] = await here.governor.calls(run.id)
            assert call.state is (CallState.CANCELLED if approved else CallState.DENIED)


async def test_a_version_that_is_heard_of_and_cannot_be_used_stops_an_intent(url: str) -> None:
    """Between the last look and the write this process learns of version 2, which does not fit here: version 1 is over."""
    await publish(url, ASK)
    own = PolicySet.from_text(HEAD + "groups: {g: [a@b.c]}\n")._joined.parts
    policies = Published(own, cache="", poll=NEVER, max_age=NEVER + 1)
    here = Desk("functions", url, policies=policies)
    async with here.governor:
        run = await here.approved()
        confirm, looks = policies.confirm, 0

        async def overtake() -> str:
            nonlocal looks
            looks += 1
            version = await confirm()
            if looks == 2:  # the first is the claim's
                await Publications(here.governor.runs).publish(ASK + "groups: {g: [x@y.z]}\n", by="local:op")
                with pytest.raises(PoliciesUnavailable):
                    await policies.refresh()
            return version

        policies.confirm = overtake  # type: ignore[method-assign]
        with pytest.raises(PoliciesUnavailable, match="does not fit"):
            await here.go_on(run)
        assert here.ran == [] and looks == 3
        assert (await here.calls(run))["deploy"].state is CallState.APPROVED


async def test_a_worker_says_once_that_nothing_can_be_used(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Three runs are ready and wait; the worker lives, says it once, and goes on when it is published anew."""
    await publish(url, ASK)
    here = desk(url)
    async with here.governor:
        runs = [await here.approved() for _ in range(3)]
        policies = here.governor.policies
        assert isinstance(policies, Published)
        policies._seen = 2
        await Worker(here.governor).run(once=True)
        said = [line for line in caplog.messages if line.startswith("tenant default: the store names version 1")]
        assert len(said) == 1 and here.ran == []
        assert [(await here.governor.get(run.id)).attempts for run in runs] == [0] * 3
        await publish(url, TWO)
        await publish(url, ASK)
        await Worker(here.governor).run(once=True)
        assert len(here.ran) == 3


# -- when the store does not say --------------------------------------------------------------------------------------


class Flaky(MemoryStore):
    """A store in memory that can be away."""

    away = False

    async def load(self, kind: str, tenant: str, id: str) -> Any:
        if self.away:
            raise StoreUnavailable("away")
        return await super().load(kind, tenant, id)


async def test_an_old_copy_fails_closed() -> None:
    """The store is away: allowed becomes asked, denied stays denied, each with the code; back, all is as before."""
    store, now, policies = Flaky(), [1000.0], published(max_age=NEVER * 2, poll=60.0)
    policies._clock = lambda: now[0]
    async with Governor(policies, store=store) as governor:
        text = rules("when: call.args.amount > 9, then: deny", "then: allow")
        await governor.loop.bridge(Publications(governor.runs).publish(text, by="local:op"))
        await looked(governor, Published.refresh)
        small, large = CALL, ToolCall.of("deploy", {"path": "x", "amount": 10})
        store.away = True
        now[0] += NEVER * 2
        assert [policies.evaluate(call).outcome for call in (small, large)] == ["allow", "deny"]
        now[0] += 1
        assert [policies.evaluate(call).outcome for call in (small, large)] == ["require_approval", "deny"]
        assert policies.evaluate(small).code == "policies_stale"
        assert policies.evaluate(small).stages[0].people == (BOSS,)
        store.away = False
        assert policies.evaluate(small).outcome == "require_approval"  # nobody has looked yet
        now[0] += 60.0
        assert policies.evaluate(small).outcome == "allow"


async def test_nothing_begins_while_the_store_does_not_say() -> None:
    """A copy that is fresh enough to decide by is not enough to write an intent; when the store is back, it runs once."""
    store = Flaky()
    here = desk(store)
    async with here.governor:
        await here.governor.loop.bridge(Publications(here.governor.runs).publish(ASK, by="local:op"))
        await looked(here.governor, Published.refresh)
        run = await here.approved()
        store.away = True
        with pytest.raises(StoreUnavailable):
            await here.go_on(run)
        assert here.governor.policies.evaluate(CALL).code == "rule" and here.ran == []
        store.away = False
        await here.go_on(run)
        assert len(here.ran) == 1


async def test_an_old_copy_denies_where_nobody_is_named(url: str) -> None:
    """By the code that says why, not by that of an empty list of people."""
    await publish(url, "version: 1\nrules: [{name: a, tool: deploy, then: allow}]\n")
    now, policies = [1000.0], published()
    policies._clock = lambda: now[0]
    async with Governor(policies, store=url):
        assert policies.evaluate(CALL).outcome == "allow"
        policies._tried = now[0] = 1000.0 + NEVER + 2  # somebody has just tried, in vain
        verdict = policies.evaluate(CALL)
        assert (verdict.outcome, verdict.code) == ("deny", "policies_stale")


@pytest.mark.parametrize("sealed", [False, True], ids=["clear", "sealed"])
@pytest.mark.parametrize("fault", ["torn", "older", "lost document"])
async def test_a_touched_publication_is_not_used(sealed: bool, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    """Torn, put back from an older copy, without its document: nothing begins, one line in the log; published anew it is well."""
    store, keys = MemoryStore(), Keys.generate() if sealed else None
    here = Desk("functions", store, policies=published(), keys=keys)
    async with here.governor:
        found = Publications(here.governor.runs)
        bridge = here.governor.loop.bridge
        await bridge(found.publish(ASK, by="local:op"))
        await looked(here.governor, Published.refresh)
        run = await here.approved()
        data = store._data
        assert data is not None
        key = ("policy", "default", "current")
        old = data.records[key]
        await bridge(found.publish(TWO if fault == "older" else DENY, by="local:op"))
        if fault == "older":
            await looked(here.governor, Published.refresh)
            data.records[key] = old
        elif fault == "torn":
            new = data.records[key]
            data.records[key] = type(new)(new.kind, new.tenant, new.id, new.body[:-9], new.index, new.due, new.v)
        else:
            data.blobs.clear()
        for _ in range(3):
            with pytest.raises(PoliciesUnavailable):
                await here.go_on(run)
        assert here.ran == [] and (await here.governor.get(run.id)).state is RunState.READY
        assert here.governor.policies.evaluate(CALL).code == "policies_unavailable"
        assert (
            len([line for line in caplog.messages if "published policies" in line and "is in force" not in line]) == 1
        )
        if fault != "older":
            await bridge(found.publish(ASK + "# again\n", by="local:op"))
            await here.go_on(run)
            assert len(here.ran) == 1


async def test_a_lost_document_is_published_anew_as_it_was() -> None:
    """The same text, under a new version: nobody has to change it for that."""
    store = MemoryStore()
    here = Desk("functions", store, policies=published())
    async with here.governor:
        found, bridge = Publications(here.governor.runs), here.governor.loop.bridge
        await bridge(found.publish(DENY, by="local:op"))
        assert store._data is not None
        store._data.blobs.clear()
        with pytest.raises(PoliciesUnavailable, match=r"missing; publish it anew$"):
            await looked(here.governor, Published.refresh)
        assert (await bridge(found.publish(DENY, by="local:op"))).version == 2
        await looked(here.governor, Published.refresh)
        assert here.governor.policies.evaluate(CALL).outcome == "deny"
        assert (await bridge(found.publish(DENY, by="local:op"))).version == 2


async def test_the_watch_brings_what_is_published(url: str) -> None:
    """Without a cache, with the next look: the bound is ``poll``."""
    await publish(url, ALLOW)
    async with Governor(published(poll=0.05), store=url) as governor:
        await publish(url, DENY)
        await until(lambda: governor.policies.evaluate(CALL).outcome == "deny")


async def test_without_looks_nothing_is_brought(url: str) -> None:
    """The negative control of the test above: its governor learns it from its own looks, and from nothing else."""
    await publish(url, ALLOW)
    async with Governor(published(), store=url) as governor, Governor(published(poll=0.05), store=url) as other:
        await publish(url, DENY)
        await until(lambda: other.policies.evaluate(CALL).outcome == "deny")
        assert governor.policies.evaluate(CALL).outcome == "allow"
