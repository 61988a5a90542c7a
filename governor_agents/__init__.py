"""governor-agents: people approve what agents do, in another process, hours later, at most once."""

from governor_agents.core.calls import Tool, ToolCall
from governor_agents.core.records import Approval, Decision, Run
from governor_agents.core.verdicts import Policy, Verdict
from governor_agents.errors import GovernorError, OutcomeUnknown
from governor_agents.governor import Governor
from governor_agents.guard import idempotency_headers, idempotency_key
from governor_agents.policies import PolicySet
from governor_agents.probes import Reconciled
from governor_agents.worker import Worker

__all__ = [
    "Approval",
    "Decision",
    "Governor",
    "GovernorError",
    "OutcomeUnknown",
    "Policy",
    "PolicySet",
    "Reconciled",
    "Run",
    "Tool",
    "ToolCall",
    "Verdict",
    "Worker",
    "idempotency_headers",
    "idempotency_key",
]
