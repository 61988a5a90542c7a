"""The worker: takes due work from the store. Any number of them, anywhere, on one store."""

from governor_agents.worker.loop import Worker

__all__ = ["Worker"]
