"""What the benchmarks share: one report, one directory on a real disk, and no setting of the person who runs them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.measure import file_system, real_directory
from benchmarks.report import Report
from benchmarks.stores import STORES

OURS = ("GOVERNOR_TEST_",)  # servers of one's own
for name in [name for name in os.environ if name.startswith("GOVERNOR_") and not name.startswith(OURS)]:
    del os.environ[name]
# Nothing is traced anywhere, whatever keys the environment holds.
os.environ.update(LANGSMITH_TRACING="false", LANGCHAIN_TRACING_V2="false", OPENAI_AGENTS_DISABLE_TRACING="1")

REPORT = pytest.StashKey[Report]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("governor-agents benchmarks")
    group.addoption("--json-out", type=Path, help="write everything that was measured into this file, as JSON")
    group.addoption(
        "--store-dir", type=Path, default=Path(".benchmarks"), help="where the store files lie (a real disk)"
    )
    group.addoption(
        "--effort", type=float, default=1.0, help="scales the number of rounds; 0.2 is for trying things out"
    )
    group.addoption("--stores", default=",".join(STORES), help=f"which stores are compared, of {', '.join(STORES)}")
    group.addoption(
        "--sizes", default="10000,100000,1000000", help="how many suspended runs a store holds, from few to many"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store" in metafunc.fixturenames:
        metafunc.parametrize("store", metafunc.config.getoption("stores").split(","))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORT] = Report()
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning")  # the peers' own


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    return pytestconfig.stash[REPORT]


@pytest.fixture(scope="session")
def effort(pytestconfig: pytest.Config) -> float:
    return float(pytestconfig.getoption("effort"))


@pytest.fixture(scope="session")
def stores(pytestconfig: pytest.Config) -> list[str]:
    return str(pytestconfig.getoption("stores")).split(",")


@pytest.fixture(scope="session")
def sizes(pytestconfig: pytest.Config) -> tuple[int, ...]:
    return tuple(int(size) for size in pytestconfig.getoption("sizes").split(","))


@pytest.fixture(scope="session")
def place(pytestconfig: pytest.Config, report: Report) -> Iterator[Path]:
    """The one directory of all store files."""
    with real_directory(pytestconfig.getoption("store_dir")) as directory:
        kind = file_system(Path(directory))
        report.details["file_system"] = kind
        if kind in ("tmpfs", "ramfs"):
            print(f"\nThe store files lie on {kind}, where a commit costs nothing: name a real disk with --store-dir.")
        yield Path(directory)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    report = config.stash[REPORT]
    if not report.rows:
        return
    terminalreporter.write_line("")
    report.show(Console(width=max(terminalreporter._tw.fullwidth, 140)))
    if (path := config.getoption("json_out")) is not None:
        report.write(path)
        terminalreporter.write_line(f"written to {path}")
