"""The channel that mails the links which log people in: started with the app, and left out where it cannot be used."""

from __future__ import annotations

import asyncio
import logging
import os

from governor_agents.errors import GovernorError
from governor_agents.handlers.visible import visible
from governor_agents.server.site import Site

log = logging.getLogger("governor_agents.server")

SETTING = "GOVERNOR_SMTP_URL"
START_WITHIN = 30.0
"""Seconds in which the channel must have started."""


async def start(site: Site) -> None:
    """Take hold of the e-mail channel, where it is set up; why it cannot be used is said in one line."""
    if site.send_login is not None or not os.environ.get(SETTING):
        return
    site.channels["email"] = "starting"
    try:
        from governor_agents.handlers.email.handler import EmailHandler

        handler = site.governor.handler("email")
        async with asyncio.timeout(START_WITHIN):
            await handler.start(site.desk)
    except (GovernorError, ImportError, OSError, TimeoutError) as error:
        site.channels["email"] = "unusable"
        log.error(
            "nobody can be mailed a link to log in: %s", visible(str(error) or "the channel did not start in time")
        )
        return
    site.channels["email"] = "ok"
    if isinstance(handler, EmailHandler):
        site.send_login = handler.send_login
