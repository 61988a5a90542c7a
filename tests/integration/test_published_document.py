"""docs/policies-published.md is right: its commands print what it shows, its Python runs, its numbers are those of the code."""

import re
import shlex
from pathlib import Path

import pytest

from governor_agents.handlers.terminal import local_person
from governor_agents.publishing import Published, cache, source
from tests.integration.test_operating import ROOT, Place

PAGE = (ROOT / "docs" / "policies-published.md").read_text(encoding="utf-8").replace("local:alice", local_person())
STORIES = dict(re.findall(r"^```console ([\w-]+)\n(.*?)^```", PAGE, re.M | re.S))
PYTHON = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
[YAML] = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)
CALL = "import app; print(app.refund('4711', {})); app.governor.close_sync()"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder with the page's files."""
    made = Place.__new__(Place)
    made.folder = tmp_path
    (tmp_path / "app.py").write_text(PYTHON[0])
    (tmp_path / "governor.yaml").write_text(YAML)
    return made


def tell(place: Place, story: str, code: int = 0) -> None:
    """Type each command of a story; what it prints is what the page shows, ``...`` being anything."""
    for line, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", story, re.M):
        done = place.type(line)
        assert done.returncode == code, done.stderr
        printed = re.sub(r" +", " ", done.stderr + done.stdout)
        shown = re.sub(r"\d+ bytes", f"{len(YAML.encode())} bytes", shown)
        wanted = re.escape(re.sub(r" +", " ", shown)).replace(r"\.\.\.", ".*?")
        assert re.fullmatch(wanted, printed, re.S), f"{line}\n{printed}\n{shown}"


def test_the_stories_happen_in_the_order_of_the_page(place: Place) -> None:
    """Publish, decide by it, a mistake that is refused, another version, and back again."""
    assert set(STORIES) == {"publish", "refused", "back", "cache"} and PAGE.count("```console") == len(STORIES)
    tell(place, STORIES["publish"])
    assert place.python("-c", CALL.format(20.0)).stdout == "refunded 20.0\n"
    folder = place.folder
    (folder / "broken.yaml").write_text(
        "version: 1\nrules:\n  - {name: a, tool: refund, then: require_approval,\n     aprovers: [group:operators]}\n"
    )
    tell(place, STORIES["refused"], 2)
    (folder / "deny.yaml").write_text(YAML.replace("then: allow", "then: deny"))
    note = shlex.quote("nothing by itself any more")
    assert place.type(f"governor-agents policy publish deny.yaml --note {note}").returncode == 0
    denied = place.python("-c", f"try:\n    {CALL.format(20.0)}\nexcept Exception as error:\n    print(error.code)")
    assert denied.stdout == "call_denied\n"
    with pytest.raises(AssertionError):  # a page that shows something else is noticed
        tell(place, STORIES["back"].replace("version 3", "version 4"))
    (folder / "governor.db").unlink()
    for file in ("governor.yaml", "deny.yaml"):
        words = "refunds up to 50" if file == "governor.yaml" else "nothing by itself any more"
        assert place.type(f"governor-agents policy publish {file} --note {shlex.quote(words)}").returncode == 0
    tell(place, STORIES["back"])


@pytest.mark.parametrize(
    ("says", "is_so"),
    [
        ("within `poll` (5 s)", source.POLL == 5.0),
        ("`max_age` (60 s)", source.MAX_AGE == 60.0),
        ("waits up to 5 seconds", source.BLOCKED == 5.0),
        ("expire after an hour", cache.EXPIRY == 3600),
        ("(`ga-policies`)", cache.NAMESPACE == "ga-policies"),
    ],
)
def test_the_numbers_are_those_of_the_code(says: str, is_so: bool) -> None:
    """What is changed in the code is changed in the document."""
    assert says in PAGE and is_so


def test_the_other_python_runs() -> None:
    """It names no setting that does not exist."""
    assert len(PYTHON) == 2
    made = eval(PYTHON[1], {"Published": Published})
    assert isinstance(made, Published)
