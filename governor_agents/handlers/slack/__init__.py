"""Slack as an approval channel: cards out, clicks in."""
