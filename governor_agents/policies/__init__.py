"""Policies: rules from YAML files and Python, and the one verdict they come to."""

from governor_agents.policies.asks import Defaults, allow, deny, require_approval
from governor_agents.policies.explain import Explained
from governor_agents.policies.policyset import PolicySet
from governor_agents.policies.rules import Rule, RuleList
from governor_agents.policies.values import person_id

__all__ = ["Defaults", "Explained", "PolicySet", "Rule", "RuleList", "allow", "deny", "person_id", "require_approval"]
