"""The MongoDB store: one document per run, compare-and-set on it, for any number of processes and hosts."""

from governor_agents.stores.mongodb.store import MongoDBStore

__all__ = ["MongoDBStore"]
