"""What every kit stands on: coroutines that run on a test's own event loop, and fail when they hang."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from governor_agents.testing.store_samples import Run


class Kit:
    """The fixture ``run`` of a kit."""

    time_limit = 60.0
    """Seconds after which a coroutine counts as hanging."""

    @pytest.fixture
    def run(self) -> Iterator[Run]:
        """Run a coroutine on this test's event loop, within the time limit."""
        run = Run(self.time_limit)
        yield run
        run.close()
