"""``limits`` and ``retention``: from a file, from several, from Python, and what is wrong with them."""

from pathlib import Path

import pytest

from governor_agents import Governor
from governor_agents.core.sizes import MAX_SNAPSHOT
from governor_agents.errors import ConfigError, PolicyFileError
from governor_agents.policies import PolicySet
from governor_agents.policies.values import size

FILE = """
version: 1
limits: {snapshot: 8MB}
retention: {completed: 30d, failed: 90d}
"""
DAY = 86_400.0


def test_a_file_says_how_much_is_kept_and_for_how_long() -> None:
    """Sizes in bytes, times in seconds; an outcome that is not named is kept for ever."""
    keeping = PolicySet.from_text(FILE).keeping
    assert (keeping.snapshot, dict(keeping.retention)) == (8_000_000, {"completed": 30 * DAY, "failed": 90 * DAY})
    nothing = PolicySet.from_text("version: 1").keeping
    assert (nothing.snapshot, dict(nothing.retention)) == (None, {})


def test_what_python_says_goes_before_the_file() -> None:
    """Each by itself; an empty retention keeps everything for ever."""
    policies = PolicySet.from_text(FILE)
    plain = Governor(policies, store="memory://")
    assert (plain.max_snapshot, plain.retention["completed"]) == (8_000_000, 30 * DAY)
    told = Governor(policies, store="memory://", max_snapshot="1MiB", retention={"cancelled": "1h"})
    assert (told.max_snapshot, dict(told.retention)) == (1_048_576, {"cancelled": 3600.0})
    assert dict(Governor(policies, store="memory://", retention={}).retention) == {}
    bare = Governor(store="memory://")
    assert (bare.max_snapshot, dict(bare.retention)) == (MAX_SNAPSHOT, {})


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("version: 1\nlimits: {snapshot: 8 megabytes}", 2, "snapshot: '8 megabytes' is no size; write it like 500KB"),
        ("version: 1\nlimits: {snapshot: 10}", 2, "snapshot: a size must be at least 1KB"),
        ("version: 1\nlimits: {snapshots: 8MB}", 2, "unknown key 'snapshots'; did you mean 'snapshot'?"),
        ("version: 1\nretention: 30d", 2, "retention must be a mapping"),
        ("version: 1\nretention:\n  completed: soon", 3, "completed: 'soon' is no duration"),
        ("version: 1\nretention:\n  waiting: 30d", 3, "unknown key 'waiting'"),
        ("version: 1\nretention:\n  blocked: 30d", 3, "unknown key 'blocked'"),
        ("version: 1\nretention:\n  complete: 30d", 3, "unknown key 'complete'; did you mean 'completed'?"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, said: str) -> None:
    """Runs that have not ended have no retention, whatever a file says."""
    with pytest.raises(PolicyFileError) as raised:
        PolicySet.from_text(text)
    assert str(raised.value).startswith(f"policy.yaml:{line}: {said}")


def test_files_that_contradict_one_another_are_refused(tmp_path: Path) -> None:
    """Each may say a part; none may say otherwise."""
    for name, text in {"a": FILE, "b": "version: 1\nretention: {cancelled: 1d, failed: 90d}"}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    both = PolicySet.from_files(tmp_path / "a.yaml", tmp_path / "b.yaml").keeping
    assert dict(both.retention) == {"completed": 30 * DAY, "failed": 90 * DAY, "cancelled": DAY}
    (tmp_path / "b.yaml").write_text("version: 1\nretention: {failed: 1d}")
    with pytest.raises(ConfigError, match=r"retention.failed is 7776000 in .*a.yaml and 86400 in .*b.yaml"):
        PolicySet.from_files(tmp_path / "a.yaml", tmp_path / "b.yaml")


@pytest.mark.parametrize("bad", ["8", "MB", "-8MB", "1.5MB", "1TB", True, 8.0, None, "9" * 13 + "B", 999, 10**12])
def test_a_size_is_a_number_with_a_unit(bad: object) -> None:
    """Anything else is refused in one line, with how to write it."""
    with pytest.raises(ConfigError, match="size"):
        size(bad)


@pytest.mark.parametrize("bad", [{"waiting": "1d"}, {"completed": "never"}, {"completed": 0}])
def test_retention_from_python_is_read_as_strictly(bad: dict[str, str]) -> None:
    """The same outcomes and durations as in a file."""
    with pytest.raises(ConfigError):
        Governor(store="memory://", retention=bad)
