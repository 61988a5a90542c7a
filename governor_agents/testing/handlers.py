"""The handler kit: say how to look at your channel, and pytest runs every promise of a handler over it.

::

    class Mine(Channel):
        name = "mine"
        def handler(self): return MyHandler(self.server.url)
        def shown(self): return [Shown(m.text, m.has_buttons) for m in self.server.messages]
        def down(self): self.server.stop()
        def up(self): self.server.start()

    class TestMine(HandlerConformance):
        @pytest.fixture
        def channel(self):
            with MyServer() as server:
                yield Mine(server)

Nothing is skipped and nothing needs a plug-in of pytest; coroutines that hang fail after ``time_limit``.
"""

from __future__ import annotations

from governor_agents.testing.handler_kit import Channel, HandlerKit, Office, Shown
from governor_agents.testing.handler_shows import ShowingPromises
from governor_agents.testing.handler_trouble import TroublePromises

__all__ = ["Channel", "HandlerConformance", "HandlerKit", "Office", "Shown"]


class HandlerConformance(ShowingPromises, TroublePromises):
    """What every handler promises. Override the fixture ``channel``."""
