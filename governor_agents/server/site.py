"""What every route stands on: the desk, the settings, and who may come in how often."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.types import Scope

from governor_agents.core.channels import Desk
from governor_agents.server.refusal import too_many
from governor_agents.server.settings import Rate, Settings

if TYPE_CHECKING:
    from governor_agents.governor import Governor

CHANNEL = "web"
"""What votes and refused requests name these pages by."""

SendLogin = Callable[[str, str, float], Awaitable[None]]
"""Sends an address the link that logs it in, which is good for so many seconds. Raises `GovernorError`."""


@dataclass(slots=True)
class Site:
    """One governor's pages. ``channels`` says of each channel that was started ``ok``, or why it cannot be used."""

    governor: Governor
    desk: Desk
    settings: Settings
    send_login: SendLogin | None = None
    channels: dict[str, str] = field(default_factory=dict)

    async def take(self, name: str, rate: Rate, *, by: str = "") -> None:
        """One use of what ``name`` stands for. Raises `Refused` when there is none left now."""
        wait = await self.desk.take(f"http:{name}", rate.most, rate.per)
        if wait > 0.0:
            raise too_many(wait, by=by)

    def refused(self, scope: Scope, reason: str, *, id: str = "", by: str = "") -> None:
        """One line in the stream of refused requests."""
        route = getattr(scope.get("route"), "path", "")
        self.desk.refused(f"{scope['method']} {route}".strip(), reason, id, by=by, channel=CHANNEL)


def site_of(request: Request) -> Site:
    """The site that a request came to."""
    site: Site = request.app.state.site
    return site


async def admit(request: Request) -> None:
    """Count a request against the limits of its address and of all. Raises `Refused`."""
    site = site_of(request)
    await site.take(f"address:{request.state.client}", site.settings.rates.address)
    await site.take("tenant", site.settings.rates.tenant)
