"""The audit trail: what happened to a run, as a chain of events."""
