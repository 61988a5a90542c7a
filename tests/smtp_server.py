"""Moved: import `governor_agents.testing.smtp_server`."""

from governor_agents.testing.smtp_server import *  # noqa: F403
