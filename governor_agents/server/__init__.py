"""The pages of ``governor-agents serve``: an ASGI app with one file for each group of routes.

Every page is rendered here and works without JavaScript; none has a script, and nothing on it comes from elsewhere.
"""

from governor_agents.server.app import create_app

__all__ = ["create_app"]
