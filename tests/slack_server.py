"""Moved: import `governor_agents.testing.slack_server`."""

from governor_agents.testing.slack_server import *  # noqa: F403
