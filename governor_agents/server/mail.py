"""The channel that mails the links which log people in: started with the app, and left out where it cannot be used."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from governor_agents.errors import ConfigError, GovernorError
from governor_agents.handlers.visible import visible
from governor_agents.server.site import Site

if TYPE_CHECKING:
    from governor_agents.handlers.email.handler import EmailHandler

log = logging.getLogger("governor_agents.server")

SETTING = "GOVERNOR_SMTP_URL"
START_WITHIN = 30.0
"""Seconds in which the channel must have started."""


async def start(site: Site) -> None:
    """Take hold of the e-mail channel, where it is set up; why it cannot be used is said in one line."""
    if site.send_login is not None:
        return
    try:
        handler = _handler(site)
        if handler is None:
            return
        site.channels["email"] = "starting"
        async with asyncio.timeout(START_WITHIN):
            await handler.start(site.desk)
    except (GovernorError, OSError, TimeoutError) as error:
        site.channels["email"] = "unusable"
        log.error(
            "nobody can be mailed a link to log in: %s", visible(str(error) or "the channel did not start in time")
        )
        return
    site.channels["email"] = "ok"
    site.send_login = handler.send_login


def _handler(site: Site) -> EmailHandler | None:
    """The channel, None where it is not set up. Raises `ConfigError`."""
    try:
        handler = site.governor.handler("email")
    except ConfigError:
        if os.environ.get(SETTING):
            raise
        return None
    from governor_agents.handlers.email.handler import EmailHandler

    return handler if isinstance(handler, EmailHandler) else None
