"""Moved: import `governor_agents.testing.slack_interactions`."""

from governor_agents.testing.slack_interactions import *  # noqa: F403
