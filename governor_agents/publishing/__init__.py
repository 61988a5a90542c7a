"""Policies kept in the store: published once, in force in every process, handed round by a cache that nobody trusts."""

from governor_agents.publishing.published import Publication, Publications
from governor_agents.publishing.source import Published

__all__ = ["Publication", "Publications", "Published"]
