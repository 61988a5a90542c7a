"""Webhooks: requests and outcomes as signed JSON, and the function with which a receiver checks them.

A receiver needs `received` and nothing else; importing this loads no HTTP library.
"""

from __future__ import annotations

from governor_agents.handlers.webhook.handler import WebhookHandler
from governor_agents.handlers.webhook.settings import Webhook, webhook
from governor_agents.handlers.webhook.signature import HEADER, received

__all__ = ["HEADER", "Webhook", "WebhookHandler", "received", "webhook"]
