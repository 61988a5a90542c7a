"""What every test stands on: no store or setting of the person who runs the tests, one event loop library, no deadlines."""

import os
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests import shared

OURS = ("GOVERNOR_TEST_", "GOVERNOR_NIGHTLY")  # how much is to be tested
for name in [name for name in os.environ if name.startswith("GOVERNOR_") and not name.startswith(OURS)]:
    del os.environ[name]
# Nothing that a test runs sends traces anywhere, whatever keys the environment holds.
os.environ.update(LANGSMITH_TRACING="false", LANGCHAIN_TRACING_V2="false", OPENAI_AGENTS_DISABLE_TRACING="1")

# A shell starts what runs in its background with interrupts ignored, and so would be what tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

shared.begin()  # no server is started before a test asks for one; workers find the session of the controller

# On two busy cores the time of one example says nothing.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


_revivals = {"before": 0}


def pytest_runtest_setup() -> None:
    _revivals["before"] = shared.revivals()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that fails while a server for tests hangs says nothing: it is run once more, and listed as such."""

    def hung(error: BaseException | None) -> bool:
        return error is not None and shared.at_fault(_revivals["before"])

    for item in items:
        item.add_marker(pytest.mark.flaky(reruns=1, condition=hung))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if times := shared.revivals():
        terminalreporter.write_line(f"a server for tests hung and was started again: {times} x (docs/mongodb.md)")


@pytest.fixture(scope="module", autouse=True)
def stores_dropped() -> Iterator[None]:
    """What a module's tests left on servers does not slow down those of the next."""
    yield
    if stores := sys.modules.get("tests.stores"):
        stores.drop_all()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
