"""One run of pytest over every broken build of a kit: the negative controls of the store kit and of the handler kit."""

import os
import subprocess
import sys
from collections import defaultdict
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from xml.etree import ElementTree

Outcomes = dict[str, dict[str, str]]
Catchers = dict[str, set[str]]


def catchers(broken: Path) -> Catchers:
    """For each test class over a broken build the tests that must notice its fault; for the sound ones nothing."""
    spec = spec_from_file_location(broken.stem, broken)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: set(found.caught_by) for name, found in vars(module).items() if name.startswith("Test")}


def played(broken: Path, caught_by: Catchers, folder: Path) -> Outcomes:
    """What became of the tests over each broken build, in one run of pytest; of a sound one, all of its tests."""
    report = folder / "report.xml"
    tests = [
        test
        for name, names in caught_by.items()
        for test in ([f"{broken}::{name}::{each}" for each in sorted(names)] or [f"{broken}::{name}"])
    ]
    options = ["-q", "--tb=line", "--timeout=40", "-p", "no:cacheprovider"]
    options += [f"--junitxml={report}", f"--basetemp={folder / 'tmp'}"]
    # Its processes find the broken builds by name, and the package from wherever this run has it.
    paths = os.pathsep.join([str(broken.parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *tests, *options],
        cwd=broken.parents[2],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    found: Outcomes = defaultdict(dict)
    for case in ElementTree.parse(report).iter("testcase"):
        build = case.attrib["classname"].rpartition(".")[2]
        outcome = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        name = case.attrib["name"].partition("[")[0]
        if found[build].get(name) in (None, "passed"):  # of a test with parameters the worst counts
            found[build][name] = outcome
    return found
