"""Negative controls: the handler kit must fail on every broken handler, or a green run of it would mean nothing."""

import os
import subprocess
import sys
from collections import defaultdict
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from xml.etree import ElementTree

import pytest

# One run over all broken handlers serves every test here, so they stay in one process.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("handler_kit_controls")]

BROKEN = Path(__file__).with_name("broken_handlers.py")

Outcomes = dict[str, dict[str, str]]


def catchers() -> dict[str, set[str]]:
    """For each test class over a broken handler the tests that must notice its fault; for the sound ones nothing."""
    spec = spec_from_file_location("broken_handlers", BROKEN)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: set(found.caught_by) for name, found in vars(module).items() if name.startswith("Test")}


CATCHERS = catchers()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What became of the tests over each broken handler, in one run of pytest; of the sound one, all of its tests."""
    folder = tmp_path_factory.mktemp("controls")
    report = folder / "report.xml"
    tests = [
        test
        for name, names in CATCHERS.items()
        for test in ([f"{BROKEN}::{name}::{each}" for each in sorted(names)] or [f"{BROKEN}::{name}"])
    ]
    options = ["-q", "--tb=line", "--timeout=40", "-p", "no:cacheprovider"]
    options += [f"--junitxml={report}", f"--basetemp={folder / 'tmp'}"]
    # Its processes find the broken handlers by name, and the package from wherever this run has it.
    paths = os.pathsep.join([str(BROKEN.parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *tests, *options],
        cwd=BROKEN.parents[2],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    found: Outcomes = defaultdict(dict)
    for case in ElementTree.parse(report).iter("testcase"):
        store = case.attrib["classname"].rpartition(".")[2]
        outcome = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        name = case.attrib["name"].partition("[")[0]
        if found[store].get(name) in (None, "passed"):  # of a test with parameters the worst counts
            found[store][name] = outcome
    return found


@pytest.mark.parametrize("name", [name for name, tests in CATCHERS.items() if tests])
def test_kit_fails_on_the_broken_handler(name: str, outcomes: Outcomes) -> None:
    """Each fault is noticed by the tests that are there for it, by a failure and not by an error around them."""
    assert outcomes[name] == dict.fromkeys(CATCHERS[name], "failure")


@pytest.mark.parametrize("name", [name for name, tests in CATCHERS.items() if not tests])
def test_kit_passes_on_the_sound_handler(name: str, outcomes: Outcomes) -> None:
    """Without a fault, in the same run, nothing fails and nothing is skipped."""
    assert set(outcomes[name].values()) == {"passed"}


def test_kit_is_as_large_as_promised(outcomes: Outcomes) -> None:
    """Fewer tests or faults than these would mean that some were lost."""
    assert len(outcomes["TestSound"]) >= 14
    assert len(CATCHERS) >= 20
