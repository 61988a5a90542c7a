"""E-mail as an approval channel: real SMTP, one mail per approver with a one-time link, outcomes in the same thread."""

from governor_agents.handlers.email.handler import EmailHandler
from governor_agents.handlers.email.settings import SmtpSettings

__all__ = ["EmailHandler", "SmtpSettings"]
