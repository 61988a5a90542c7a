"""Files that arguments name are approved with their content: shown, bound, and held against it right before the start."""
# ruff: noqa: ASYNC240

import os
from pathlib import Path
from typing import Any

import pytest

from governor_agents import Decision, Governor, OutcomeUnknown, PolicySet, Tool, Worker
from governor_agents.core.calls import Operand, ToolCall, freeze, sha256
from governor_agents.core.records import CallState, evolve
from governor_agents.core.verdicts import Verdict
from governor_agents.errors import CallDenied, ConfigError, EditRefused, OperandError, PolicyFileError
from governor_agents.handlers.message import Message, to_text
from governor_agents.operands import MAX_BYTES, bound, changed, hashed
from tests.integration.desk import ALLOW, ASK, BOSS, FRAMEWORKS, Desk

pytestmark = pytest.mark.anyio

DECLARED = {"deploy": Tool("deploy", operands=("path",))}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The file that is to be deployed."""
    path = tmp_path / "deploy.sh"
    path.write_bytes(b"echo fine\n")
    return path


def desk(framework: str, url: str, script: Path, **settings: Any) -> Desk:
    return Desk(framework, url, declared=DECLARED, args={"path": str(script), "amount": 5}, **settings)


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_people_see_the_file_and_its_content_is_what_runs(url: str, framework: str, script: Path) -> None:
    """Path, size and hash stand in the request; untouched, the call runs."""
    here = desk(framework, url, script)
    async with here.governor:
        run = await here.ask()
        shown = Message.of(run.approvals[0])
        digest = sha256(script.read_bytes())
        assert shown.files == (f"path = {script}: 10 bytes, SHA-256 {digest}",)
        assert f"file:         path = {script}: 10 bytes, SHA-256 {digest}\n" in to_text(shown)
        run = await here.approve(run)
        assert (await here.go_on(run)).status == "completed" and len(here.ran) == 1


@pytest.mark.parametrize("change", ["rewritten", "gone", "a directory", "unreadable"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_file_that_changed_stops_the_call(url: str, framework: str, script: Path, change: str) -> None:
    """Same size and times, or gone altogether: SUPERSEDED with the reason, and the tool never starts."""
    here = desk(framework, url, script)
    async with here.governor:
        run = await here.approved()
        if change == "rewritten":
            times = script.stat()
            script.write_bytes(b"rm -rf /;\n")
            os.utime(script, ns=(times.st_atime_ns, times.st_mtime_ns))
        else:
            script.unlink()
            if change == "a directory":
                script.mkdir()
            elif change == "unreadable":
                script.symlink_to(script)
        await Worker(here.governor).run(once=True)
        call = (await here.calls(run))["deploy"]
        assert (call.state, call.code) == (CallState.SUPERSEDED, "operands_changed")
        assert "file" in call.told and here.ran == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_file_that_is_missing_when_asked_denies(url: str, framework: str, script: Path) -> None:
    """Nobody is asked about what cannot be shown; the reason names the file."""
    script.unlink()
    here = desk(framework, url, script)
    async with here.governor:
        if framework == "functions":
            with pytest.raises(CallDenied, match="No such file"):
                await here.ask()
        else:
            run = await here.ask()
            await Worker(here.governor).run(once=True)
            call = (await here.calls(run))["deploy"]
            assert (call.state, call.code) == (CallState.DENIED, "operand_unreadable")
            assert str(script) in call.why
        assert here.ran == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_an_allowed_call_is_held_to_its_file_too(url: str, framework: str, script: Path) -> None:
    """Allowed by policy: missing, it is denied; there, it runs."""
    here = desk(framework, url, script, say=ALLOW)
    async with here.governor:
        for there in (True, False):
            if not there:
                script.unlink()
            if framework == "functions":
                if there:
                    await here.call()
                else:
                    with pytest.raises(CallDenied):
                        await here.call()
            else:
                run = await here.ask()
                assert (await here.calls(run))["deploy"].state is (CallState.SUCCEEDED if there else CallState.DENIED)
        assert len(here.ran) == 1


async def test_an_edit_approves_no_content_that_was_not_shown(url: str, script: Path) -> None:
    """The file is swapped while somebody edits another argument: the edit is no way around what was shown of it."""
    here = desk("functions", url, script)
    async with here.governor:
        run = await here.ask()
        id, shown = run.approvals[0].id, run.calls[0].operands
        script.write_bytes(b"rm -rf /;\n")
        with pytest.raises(EditRefused, match=r"not what was shown any more.*path = .*deploy.sh"):
            await here.governor.decide(id, Decision.edit({"path": str(script), "amount": 1}), by=BOSS)
        script.write_bytes(b"echo fine\n")
        run = await here.governor.decide(id, Decision.edit({"path": str(script), "amount": 1}), by=BOSS)
        assert run.calls[0].operands == shown and (await here.go_on(run)).status == "completed"


def test_what_changed_is_told_path_by_path() -> None:
    """A list of files: those that both name are compared, whatever their order; new ones are nobody's loss."""
    one, two, other = (Operand("paths", 1, letter * 64) for letter in "abc")
    before = ToolCall("t", freeze({"paths": ["x", "y"]}), "1", operands=(one, two))
    after = ToolCall("t", freeze({"paths": ["y", "z", "x"]}), "1", operands=(two, other, one))
    assert changed(before, before) == changed(before, after) == ()
    assert changed(before, evolve(after, operands=(other, two, one))) == ("paths = y",)


async def test_an_edit_is_bound_to_its_own_file(url: str, script: Path) -> None:
    """Edited arguments get fresh hashes; an edit to a file that is not there is refused."""
    other = script.with_name("other.sh")
    other.write_bytes(b"echo other\n")
    here = desk("functions", url, script)
    async with here.governor:
        run = await here.ask()
        id = run.approvals[0].id
        with pytest.raises(EditRefused, match="No such file"):
            await here.governor.decide(id, Decision.edit({"path": "nowhere", "amount": 1}), by=BOSS)
        run = await here.governor.decide(id, Decision.edit({"path": str(other), "amount": 1}), by=BOSS)
        assert [file.sha256 for file in run.calls[0].operands] == [sha256(other.read_bytes())]
        script.write_bytes(b"changed, and nobody cares")
        assert (await here.go_on(run)).status == "completed" and len(here.ran) == 1


async def test_a_declaration_added_later_stops_what_was_not_bound(url: str, script: Path) -> None:
    """Approved without a hash; the process that runs it demands one: not what was approved."""
    async with (before := Desk("functions", url, args={"path": str(script), "amount": 5})).governor:
        run = await before.approved()
    async with (after := desk("functions", url, script)).governor:
        await after.go_on(run)
        assert (await after.calls(run))["deploy"].code == "operands_changed" and after.ran == []


async def test_a_declaration_removed_later_does_not_unbind(url: str, script: Path) -> None:
    """The record knows which arguments were bound: they are hashed again all the same."""
    async with desk("functions", url, script).governor as governor:
        before = desk("functions", url, script)
        before.governor = governor
        run = await desk_ask(governor, script)
    script.write_bytes(b"changed")
    async with (after := Desk("functions", url, args={"path": str(script), "amount": 5})).governor:
        await after.go_on(run)
        assert (await after.calls(run))["deploy"].code == "operands_changed" and after.ran == []
    script.write_bytes(b"echo fine\n")


async def desk_ask(governor: Governor, script: Path) -> Any:
    """An approved call of the function that is governed there."""
    pending = await governor.functions._known["deploy"].ask(path=str(script), amount=5)
    return await governor.decide(pending.approval, Decision.approve(), by=BOSS)


# -- hashing ----------------------------------------------------------------------------------------------------------


def call(**args: Any) -> ToolCall:
    return ToolCall("deploy", freeze(args), "c1")


def test_a_list_of_paths_is_hashed_in_order(tmp_path: Path) -> None:
    """One entry a file, under the argument's name."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    files = hashed(call(paths=[f"{tmp_path}/b", f"{tmp_path}/a"]), Tool("deploy", operands=("paths",)))
    assert [(file.name, file.size, file.sha256) for file in files] == [
        ("paths", 1, sha256(b"b")),
        ("paths", 1, sha256(b"a")),
    ]


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ({}, "'path' must name a file, and is missing"),
        ({"path": None}, "is not a path"),
        ({"path": 5}, "is not a path"),
        ({"path": ""}, "is not a path"),
        ({"path": "a\0b"}, "is not a path"),
        ({"path": ["x", 5]}, "No such file"),
        ({"path": {"a": "b"}}, "is not a path"),
        ({"path": "/dev/null"}, "is not a regular file"),
        ({"path": "/"}, "directory"),
        ({"path": "x" * 5000}, "name too long"),
    ],
)
def test_what_cannot_be_hashed_is_denied_with_the_reason(args: dict[str, Any], why: str) -> None:
    """Fail closed, with words and one code; a pipe does not hold the process up."""
    tool = DECLARED["deploy"]
    with pytest.raises(OperandError):
        hashed(call(**args), tool)
    _, verdict = bound(call(**args), tool, ASK)
    assert (verdict.outcome, verdict.code) == ("deny", "operand_unreadable")
    assert why.lower() in verdict.reason.lower()


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    """Nobody writes to it: opening it as usual would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OperandError, match="not a regular file"):
        hashed(call(path=f"{tmp_path}/pipe"), DECLARED["deploy"])


def test_a_large_file_is_refused_by_its_size_alone(tmp_path: Path) -> None:
    """Sparse, so it costs nothing here; two small ones may not exceed the limit together either."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(OperandError, match=str(MAX_BYTES)):
        hashed(call(path=f"{tmp_path}/large"), DECLARED["deploy"])


def test_the_bound_files_are_part_of_the_digest() -> None:
    """Another hash, size or argument name is another digest (the control: none is the same as before)."""
    from dataclasses import replace

    from governor_agents.core.binding import digest
    from governor_agents.core.calls import Operand
    from tests.unit.test_binding import CALL, RUN

    plain = digest(RUN, CALL)
    variants = [
        (),
        (Operand("p", 1, "aa"),),
        (Operand("p", 2, "aa"),),
        (Operand("q", 1, "aa"),),
        (Operand("p", 1, "ab"),),
    ]
    digests = [digest(RUN, replace(CALL, operands=files)) for files in variants]
    assert len(set(digests)) == len(variants) and digests[0] == plain


# -- declaring --------------------------------------------------------------------------------------------------------


def test_the_policy_file_declares_operands() -> None:
    """``tools: {deploy: {operands: [path]}}``; anything else is one line with its number."""
    good = PolicySet.from_text("version: 1\ntools:\n  deploy: {operands: [path, extra]}\n")
    assert good.tool("deploy").operands == ("path", "extra")
    for bad in ("path", "[]", "[1.5, [x]]", "{path: 1}"):
        with pytest.raises(PolicyFileError, match=r"policy\.yaml:3: operands: "):
            PolicySet.from_text(f"version: 1\ntools:\n  deploy: {{operands: {bad}}}\n")


def test_govern_declares_operands(tmp_path: Path, script: Path) -> None:
    """``govern(operands=[...])``; a bare text is refused, since it would name single letters."""
    governor = Governor([lambda call: Verdict("allow")], store=f"sqlite:///{tmp_path}/g.db")
    with pytest.raises(ConfigError, match=r"\['path'\]"):
        governor.govern(operands="path")

    @governor.govern(operands=["path"])
    def deploy(path: str) -> str:
        return "done"

    assert deploy(str(script)) == "done"
    with pytest.raises(CallDenied):
        deploy(str(script) + "x")
    governor.close_sync()


async def test_a_retry_after_a_changed_file_is_a_doubt(url: str, script: Path) -> None:
    """It may have happened: the call cannot be withdrawn any more, so an operator must look."""
    tools = {"deploy": Tool("deploy", operands=("path",), retry="idempotent")}
    args = {"path": str(script), "amount": 5}
    here = Desk("langchain", url, declared=tools, args=args)
    async with here.governor:
        run = await here.approved()

        async def no_answer(name: str) -> None:
            raise OutcomeUnknown("no answer")

        here.inside = no_answer
        await here.go_on(run)
        assert (await here.calls(run))["deploy"].state is CallState.RETRY
        here.inside = None
        script.write_bytes(b"changed")
        after = await here.go_on(run)
        assert (await here.calls(run))["deploy"].state is CallState.UNKNOWN and after.blocked == "unknown_outcome"
        assert here.ran == []
