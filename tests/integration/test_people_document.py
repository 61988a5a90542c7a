"""docs/people.md is right: its files load, its Python runs, and its commands print what it shows."""

import re
from pathlib import Path

import pytest

from governor_agents import Governor
from governor_agents.core.calls import ToolCall
from governor_agents.directory import read_people
from governor_agents.handlers.terminal import local_person
from governor_agents.policies import Defaults, PolicySet, Rule, require_approval
from governor_agents.policies.readers import RULE_READERS, TERM_READERS
from governor_agents.policies.reading import Source
from tests.integration.test_operating import ROOT, Place

ME = local_person().removeprefix("local:")
PAGE = (ROOT / "docs" / "people.md").read_text(encoding="utf-8")
PAGE = PAGE.replace("local: alice", f"local: {ME}").replace("local:alice", f"local:{ME}")
STORIES = dict(re.findall(r"^```console ([\w-]+)\n(.*?)^```", PAGE, re.M | re.S))
PYTHON = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
PEOPLE, POLICY = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)
WRONG = """version: 1
people:
  alice: {slack: T01/U02}
  bob: {slack: T01/U02}
groups:
  finance: [alcie]
"""
ASK = "import app; print(app.refund.ask_sync('4711', 120.0).approval); app.governor.close_sync()"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder with the page's files."""
    made = Place.__new__(Place)
    made.folder = tmp_path
    files = {"people.yaml": PEOPLE, "governor.yaml": POLICY, "app.py": PYTHON[0], "wrong.yaml": WRONG}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return made


def tell(place: Place, story: str, run: str = "", code: int = 0) -> None:
    """Type each command of a story; what it prints is what the page shows, ``...`` being anything."""
    for line, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", story, re.M):
        done = place.type(line.replace("run_...", run))
        assert done.returncode == code or "is nobody" in shown, done.stderr
        printed = re.sub(r" +", " ", done.stdout + done.stderr)
        wanted = re.escape(re.sub(r" +", " ", shown).replace("run_...", run)).replace(r"\.\.\.", ".*?")
        assert re.fullmatch(wanted.removesuffix("\n") + "\n?", printed, re.S), f"{line}\n{printed}\n{shown}"


def test_the_page_has_these_stories() -> None:
    """One that nobody tells would be a claim."""
    assert set(STORIES) == {"wrong", "show", "attend"} and PAGE.count("```console") == len(STORIES)
    assert len(PYTHON) == 2


def test_mistakes_and_names_that_are_nobody_are_told(place: Place) -> None:
    """``people check`` and ``people show``."""
    tell(place, STORIES["wrong"], code=1)
    tell(place, STORIES["show"])
    with pytest.raises(AssertionError):  # a page that shows something else is noticed
        tell(place, STORIES["show"].replace("roles: cfo", "roles: cto"))


def test_a_request_is_handed_on(place: Place) -> None:
    """Claimed, commented, delegated, reassigned, and gone from one's own list."""
    run = place.python("-c", ASK).stdout.strip().removesuffix(".1")
    tell(place, STORIES["attend"], run)


def test_the_keys_are_those_of_the_code() -> None:
    """Each key of the table is read by the policy file, and the example asks whom it says."""
    table = PAGE.partition("| Key | Means |")[2].partition("\n\n")[0]
    keys = re.findall(r"^\| `(\w+)", table, re.M)
    assert {"headline", "reminders", "quiet_hours", "delegates", "channels"} <= set(keys)
    assert set(keys) <= {*RULE_READERS, *TERM_READERS, "delegates", "stages", "tools", "limits"}
    policies = PolicySet.from_text(POLICY, directory=read_people(Source("people.yaml", "people.yaml", PEOPLE)))
    for amount, stages in ((10_000.0, [("alice", "bob")]), (10_001.0, [("alice", "bob"), ("bob",)])):
        verdict = policies.evaluate(ToolCall.of("refund", {"amount": amount, "order": "1"}))
        assert [stage.people for stage in verdict.stages] == stages
    assert (policies.tool("refund").risk, policies.keeping.asks) == ("high", 30)


def test_python_takes_the_same_words() -> None:
    """What the page says of `require_approval`, `Rule`, `Defaults` and `govern`."""
    words = {
        "headline": "h",
        "reminders": ["1h"],
        "quiet_hours": {"days": ["sun"]},
        "delegates": ["a"],
        "channels": ["slack"],
    }
    assert require_approval(["b"], **words) and Rule("r", "x", "require_approval", **words) and Defaults(**words)
    governor = Governor(store="memory://")
    assert governor.govern(name="f", approvers=["b"], **words)(lambda: None)
    governor.close_sync()


def test_a_class_of_ones_own_is_a_directory() -> None:
    """The class on the page, held by a governor: its people are asked, and nobody else."""
    found: dict[str, type] = {}
    exec(compile(PYTHON[1], "directory.py", "exec"), found)
    staff = found["Staff"]({"ann": ("ann@example.com", "slack:T01/U09")})
    governor = Governor([lambda call: require_approval(["group:staff"])], store="memory://", people=staff)
    asked = governor.policies.evaluate(ToolCall.of("x", {}, requester="bob@example.com"))
    assert asked.stages[0].people == ("ann",)
    assert governor.policies.evaluate(ToolCall.of("x", {}, requester="Ann@example.com")).requesters == (
        "ann",
        "ann@example.com",
        "slack:T01/U09",
    )
    governor.close_sync()
