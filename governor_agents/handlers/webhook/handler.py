"""The webhook channel: every request and every outcome as signed JSON, to the receivers that an operator listed.

It only tells: no decision comes in by it. What is sent follows from the record, so a delivery that is repeated has the
same ``id``. No redirect is followed, no proxy of the environment is used, nothing of an answer but its status is read.
"""

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from governor_agents.core.channels import Desk
from governor_agents.core.records import Approval
from governor_agents.errors import ChannelUnusable, DeliveryFailed, MissingExtra
from governor_agents.handlers.webhook import addresses
from governor_agents.handlers.webhook.body import body
from governor_agents.handlers.webhook.settings import Webhook, from_environment
from governor_agents.handlers.webhook.signature import HEADER, sign

TIMEOUT = 10.0
"""Seconds for each of: connecting, sending, the first line of the answer."""

_AGENT = "governor-agents-webhook/1"


class WebhookHandler:
    """Posts to receivers by name: the channel ``webhook:orders``; ``webhook`` alone where there is only one.

    Without ``receivers`` they come from the file that ``$GOVERNOR_WEBHOOKS`` names. ``loopback`` lets connections go to
    this machine, and ``tls`` says whom to trust: both are for tests, and neither can be set from outside of the code.
    """

    name = "webhook"
    keeps_cards = False

    def __init__(
        self,
        receivers: Mapping[str, Webhook] | None = None,
        *,
        resolve: addresses.Resolve = addresses.resolve,
        loopback: bool = False,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._given = receivers
        self._receivers: Mapping[str, Webhook] = {}
        self._resolve = resolve
        self._loopback = loopback
        self._tls = tls
        self._clock = clock
        self._http: Any = None

    async def start(self, desk: Desk) -> None:
        """Read the receivers. Nothing is sent. Raises `ChannelUnusable`, `MissingExtra`."""
        self._http = _library()
        self._tls = self._tls or ssl.create_default_context()
        self._receivers = from_environment() if self._given is None else dict(self._given)
        if not self._receivers:
            raise ChannelUnusable("webhook: there are no receivers (docs/webhooks.md)")

    async def close(self) -> None:
        """No connection is kept."""

    async def notify(self, approval: Approval, to: str = "") -> str:
        """Send the request as it stands. Keeps no card. Raises `DeliveryFailed`."""
        await self._send(self._receiver(to), body(approval))
        return ""

    async def update(self, approval: Approval, card: str, to: str = "") -> None:
        """Send what became of it. Raises `DeliveryFailed`."""
        await self._send(self._receiver(to), body(approval))

    def _receiver(self, to: str) -> Webhook:
        if not to and len(self._receivers) == 1:
            return next(iter(self._receivers.values()))
        if to not in self._receivers:
            known = ", ".join(f"webhook:{name}" for name in sorted(self._receivers))
            raise DeliveryFailed(f"no receiver of webhooks is called {to!r}; known: {known}")
        return self._receivers[to]

    async def _send(self, receiver: Webhook, data: bytes) -> None:
        target = receiver.target
        places = await addresses.pinned(target, self._resolve, loopback=self._loopback)
        library = self._http
        for place in places:
            try:
                status, headers = await self._post(target, place, data, receiver.secrets)
            except (library.ConnectError, library.ConnectTimeout):
                continue
            except (library.HTTPError, ssl.SSLError) as error:
                raise DeliveryFailed(f"{target.authority}: {type(error).__name__}") from None
            return _judge(target.authority, status, headers, self._clock())
        raise DeliveryFailed(f"{target.authority}: no connection")

    async def _post(
        self, target: addresses.Target, place: str, data: bytes, secrets: tuple[str, ...]
    ) -> tuple[int, Mapping[str, str]]:
        """Status and headers of the answer. The connection goes to ``place``; TLS and ``Host`` name the host."""
        url = self._http.URL(scheme="https", host=place, port=target.port, raw_path=target.path.encode())
        headers = {
            "Host": target.authority,
            "Content-Type": "application/json",
            "User-Agent": _AGENT,
            HEADER: sign(data, secrets, self._clock()),
        }
        how = {"sni_hostname": target.host, "timeout": self._http.Timeout(TIMEOUT).as_dict()}
        request = self._http.Request("POST", url, content=data, headers=headers, extensions=how)
        # A transport of its own: a connection that is kept would be found by its address, whatever name it was made
        # for. And no client: it would follow redirects or proxies if it were told so, and it logs URLs.
        async with self._http.AsyncHTTPTransport(verify=self._tls, trust_env=False) as http:
            answer = await http.handle_async_request(request)
            await answer.aclose()
            return answer.status_code, answer.headers


def _library() -> Any:
    """httpx, or httpx2 where that is what is installed: what is used here is the same. Raises `MissingExtra`."""
    name = next((name for name in ("httpx", "httpx2") if find_spec(name) is not None), None)
    if name is None:
        raise MissingExtra("webhooks need httpx: pip install 'governor-agents[webhook]'")
    return import_module(name)


def _judge(where: str, status: int, headers: Mapping[str, str], now: float) -> None:
    """Nothing when the receiver took it. Raises `DeliveryFailed`."""
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise DeliveryFailed(f"{where} answered {status}; redirects are not followed, so give its final URL")
    raise DeliveryFailed(f"{where} answered {status}", retry_after=retry_after(headers.get("Retry-After", ""), now))


def retry_after(text: str, now: float) -> float | None:
    """The seconds that a ``Retry-After`` header asks for: a number, or a date; None when it asks for nothing."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:12])
        return seconds if math.isfinite(seconds) else None
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.fromtimestamp(now, UTC)).total_seconds())
