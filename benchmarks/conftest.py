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


def asked_stores(config: pytest.Config) -> list[str]:
    """The stores that were asked for. Raises `pytest.UsageError`."""
    names = str(config.getoption("stores")).split(",")
    for name in names:
        if name not in STORES:
            raise pytest.UsageError(f"--stores: no store is called {name!r}; known: {', '.join(STORES)}")
    return names


def asked_sizes(config: pytest.Config) -> tuple[int, ...]:
    """The sizes that were asked for. Raises `pytest.UsageError`."""
    text = str(config.getoption("sizes"))
    sizes = [int(size) for size in text.replace("_", "").split(",") if size.isascii() and size.isdecimal()]
    if len(sizes) != len(text.split(",")) or min(sizes) < 10 or sizes != sorted(set(sizes)):
        raise pytest.UsageError(
            f"--sizes: write numbers of runs from 10 on, rising, such as 10000,100000; not {text!r}"
        )
    return tuple(sizes)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store" in metafunc.fixturenames:
        metafunc.parametrize("store", asked_stores(metafunc.config))


def pytest_configure(config: pytest.Config) -> None:
    asked_stores(config), asked_sizes(config)  # before anything is begun
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
    return asked_stores(pytestconfig)


@pytest.fixture(scope="session")
def sizes(pytestconfig: pytest.Config) -> tuple[int, ...]:
    return asked_sizes(pytestconfig)


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
